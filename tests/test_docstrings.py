"""Every public name has a docstring with an example, and the example runs.

Public is what `lenet5c.__all__` and `__all__` of the public modules list, and what is
reached from there: the classes that a public function takes or gives back, or a public
class has as a field, and the methods that a public class is the first to define.
Numbers and tables have no docstring of their own: the one of their module speaks of
them.

In an example are `lenet5c` and `np` and, each time anew and in an empty folder, what
these lines make:

    data = lenet5c.datasets.digits()
    images, labels = data.train
    model = lenet5c.lenet5()
    model.fit(images, labels)
"""

import copy
import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lenet5c
from lenet5c._support.cores import core

pytest.importorskip("sklearn", reason="the examples show its digits")

# What an example needs beside it.
NEEDS = {
    "lenet5c.Model.export_onnx": "onnx",
    "lenet5c.from_onnx": "onnx",
    "lenet5c.datasets.image_folder": "PIL",
    "lenet5c.pictures.": "PIL",
    "lenet5c.pictures.prepare": "scipy",
    "lenet5c.plots.": "matplotlib",
    "lenet5c.History.plot": "matplotlib",
}
# Data sets that are downloaded where they are not found.
DOWNLOADED = {
    "lenet5c.datasets.mnist": "mnist",
    "lenet5c.datasets.fashion_mnist": "fashion-mnist",
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
EXAMPLES = re.compile(r"^Examples\n-{8}\n(.*)", re.MULTILINE | re.DOTALL)


def modules() -> dict[str, ModuleType]:
    """The package and its public modules, by their names."""
    values = {f"lenet5c.{name}": getattr(lenet5c, name) for name in lenet5c.__all__}
    found = {name: of for name, of in values.items() if isinstance(of, ModuleType)}
    return {"lenet5c": lenet5c, **found}


def classes_of_the_package() -> dict[str, type]:
    """All that users meet of what the package defines, also inside, by their names."""
    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(lenet5c.__path__, "lenet5c."):
        if info.name.startswith(("lenet5c.__main__", "lenet5c._core", "lenet5c.cli")):
            continue
        for name, value in vars(importlib.import_module(info.name)).items():
            own = inspect.isclass(value) and value.__module__.startswith("lenet5c")
            if own and not getattr(value, "_is_protocol", False) and name[0] != "_":
                found[name] = value
    return found


def classes_with(value: Any, classes: dict[str, type]) -> Iterator[type]:
    """Those that a public object takes, gives back or has as a field."""
    if inspect.isclass(value):
        names = vars(sys.modules.get(value.__module__, lenet5c))
        properties = [of for of in vars(value).values() if isinstance(of, property)]
        for each in properties:
            yield from classes_with(each.fget, classes)
    elif inspect.isfunction(value):
        value = inspect.unwrap(value)  # of what explains wrong arguments
        names = value.__globals__
    else:
        return
    for annotation in inspect.get_annotations(value).values():
        text = annotation if isinstance(annotation, str) else str(annotation)
        for word in set(re.findall(r"\w+", text)) & classes.keys():
            if names.get(word, classes[word]) is classes[word]:  # no pathlib.Path
                yield classes[word]


def methods_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Those that the class is the first to define."""
    for name, member in vars(cls).items():
        function = getattr(member, "__func__", member)  # of static and class methods
        inherited = any(hasattr(base, name) for base in cls.__mro__[1:])
        method = callable(function) and inspect.isroutine(function)
        if method and not inherited and not name.startswith("_"):
            yield name, function


def _has_docstring(value: Any) -> bool:
    """Of its own, as functions and classes have."""
    return inspect.isclass(value) or inspect.isroutine(value)


def public_names() -> dict[str, Any]:
    """Functions, classes and methods by the name that a user writes, each once."""
    classes = classes_of_the_package()
    waiting = [
        (f"{module}.{name}", getattr(of, name))
        for module, of in modules().items()
        for name in of.__all__
    ]
    waiting.append(("Trainer", core.Trainer))  # of Model.trainer, and of no module
    found: dict[str, Any] = {}
    seen: set[int] = set()
    while waiting:
        name, value = waiting.pop(0)
        if id(value) in seen or not _has_docstring(value):
            continue
        seen.add(id(value))
        found[name] = value
        waiting += [(of.__name__, of) for of in classes_with(value, classes)]
        if inspect.isclass(value):
            waiting += [(f"{name}.{method}", of) for method, of in methods_of(value)]
    return found


def example_of(value: Any) -> str:
    """The section Examples of its docstring, "" if there is none."""
    section = EXAMPLES.search(inspect.cleandoc(value.__doc__ or ""))
    return section[1] if section else ""


def fail_if(told: str, lines: list[str]) -> None:
    """Fail with all of these lines, if there are any."""
    if lines:
        pytest.fail("\n  ".join([f"{told}:", *lines]), pytrace=False)


PUBLIC = public_names()


def test_every_public_name_has_a_docstring_with_an_example():
    lacking = {
        name: "an example" if value.__doc__ else "a docstring"
        for name, value in PUBLIC.items()
        if ">>> " not in example_of(value)
    }
    told = f"{len(lacking)} of {len(PUBLIC)} names lack, with '>>>' under Examples"
    fail_if(told, [f"{name}: {what}" for name, what in sorted(lacking.items())])


def test_what_only_the_package_calls_is_not_public():
    helpers = re.compile(r"(as|checked|require)_\w+|png|printable|class_folders|Watch")
    names = [f"{name}.{own}" for name, of in modules().items() for own in of.__all__]
    found = [name for name in names if helpers.fullmatch(name.rpartition(".")[2])]
    fail_if("of no use to users", found)


def test_no_example_is_skipped():
    skipped = [name for name, of in PUBLIC.items() if "+SKIP" in (of.__doc__ or "")]
    fail_if("examples to be run, not skipped", skipped)


def test_the_docstring_of_a_module_names_its_constants():
    lacking = [
        f"{module}.{name}"
        for module, of in modules().items()
        for name in of.__all__
        if module != "lenet5c"
        and not _has_docstring(getattr(of, name))
        and not re.search(rf"\b{name}\b", of.__doc__ or "")
    ]
    fail_if("not named in the docstring of their module", lacking)


def test_parameters_are_documented_as_numpydoc_wants_them():
    docscrape = pytest.importorskip("numpydoc.docscrape")
    validate = importlib.import_module("numpydoc.validate")
    told = []
    for name, value in PUBLIC.items():
        if value in (lenet5c.embed.Predictor, core.Trainer):
            continue  # compiled: Python sees no signature
        doc = docscrape.get_doc_object(value)
        for code, message in validate.validate(doc)["errors"]:
            if code in ("GL07", "PR02", "PR03"):  # order of sections, unknown, order
                told.append(f"{name}: {message}")
        listed = [item.name for item in (*doc["Parameters"], *doc["Attributes"])]
        missing = validate.Validator(doc).signature_parameters
        missing = set(missing) - set(", ".join(listed).split(", "))
        # files to read, whose docstrings begin with the formula, name them there
        if missing and not name.startswith(("lenet5c.reference.", "lenet5c.article.")):
            told.append(f"{name}: {sorted(missing)} not documented")
    fail_if("docstrings to be mended", told)


@pytest.fixture(scope="session")
def digits() -> dict[str, Any]:
    """What examples have, made once."""
    data = lenet5c.datasets.digits()
    model = lenet5c.lenet5()
    model.fit(*data.train, threads=1)  # other processes may be busy
    for array in (*data.train, *data.test):
        array.flags.writeable = False  # all examples share them
    images, labels = data.train
    return {"data": data, "images": images, "labels": labels, "model": model}


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if example_of(v)])
def test_the_example_of(name, digits):
    for beginning, package in NEEDS.items():
        if name.startswith(beginning):
            pytest.importorskip(package)
    if name in DOWNLOADED and lenet5c.datasets.find(DOWNLOADED[name]) is None:
        pytest.skip("LENET5C_DATA names no folder that holds it")
    names = {"lenet5c": lenet5c, "np": np, **digits}
    names["model"] = copy.deepcopy(digits["model"])
    text = inspect.cleandoc(PUBLIC[name].__doc__)
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    failed, tried = runner.run(test, out=said.append)
    if failed or not tried:
        pytest.fail("".join(said) or "nothing was tried", pytrace=False)
