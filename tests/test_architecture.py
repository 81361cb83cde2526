"""The floors: a file imports only from floors below its own.

The exceptions are listed, each with its reason, and an exception that nobody needs any
more fails as well.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import lenet5c

PACKAGE = Path(lenet5c.__file__).parent
FLOORS = {
    0: ["core", "checks", "habits", "progress"],
    1: ["_core", "_cpu", "threads", "arrays", "caches", "idx", "names", "prepare"],
    2: [
        *("layers", "images", "augment", "optimizers", "schedules", "history"),
        *("pictures", "tables", "storage", "functional", "_info", "c_source"),
    ],
    3: [
        "datasets",
        *("callbacks", "checkpoint", "embed", "plots", "recipes", "training"),
        *("export_c", "export_onnx", "quantize"),
    ],
    4: ["model"],
    5: ["convert", "networks"],
    6: ["estimator", "report", "bench", "compare", "cli", "__main__"],
    7: ["__init__"],
}
FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}

# importer, imported: why it may
EXCEPTIONS = {
    ("_core", "_cpu"): "the choice of a core asks the CPU",
    ("threads", "_core"): "OpenMP's limit is known to the core",
    ("functional", "layers"): "a kernel is run as a network of one layer",
    ("augment", "images"): "apply() takes images as fit does",
    ("history", "plots"): "History.plot, inside the function",
    ("checkpoint", "callbacks"): "a damaged checkpoint is logged",
    ("training", "callbacks"): "fit puts its floor together",
    ("training", "checkpoint"): "fit puts its floor together",
    ("training", "recipes"): "fit puts its floor together",
    ("export_c", "quantize"): "both are made of the same steps",
    ("quantize", "export_c"): "QuantizedModel.export_c, inside the function",
    ("cli", "bench"): "the command `bench`, inside functions",
    ("cli", "compare"): "the command `compare`, inside functions",
    ("cli", "report"): "the command `report`, inside functions",
    ("compare", "bench"): "speed and memory are measured in one place",
    ("__main__", "cli"): "it is nothing but the command line",
}
# Ours only while types are checked, in either direction.
TYPES_ONLY = {
    ("training", "model"): "fit is given the model",
    ("callbacks", "model"): "the state has the model",
    ("plots", "model"): "it draws a model's weights",
    ("export_c", "model"): "it is given the model",
    ("export_onnx", "model"): "it is given the model",
    ("quantize", "model"): "it is given the model",
}

# Not NumPy and not the standard library, inside functions alone: a module that is
# itself imported inside functions alone may import them at its head.
ON_DEMAND = {"estimator"}
EXTRAS = {
    "caches": {"rich"},
    "cli": {"rich", "PIL"},
    "compare": {"matplotlib"},
    "progress": {"rich"},
    "convert": {"onnx"},
    "datasets": {"sklearn"},
    "export_onnx": {"onnx"},
    "estimator": {"sklearn"},
    "history": {"matplotlib"},
    "pictures": {"PIL"},
    "prepare": {"PIL", "scipy"},
    "plots": {"matplotlib"},
    "report": {"matplotlib"},
}


class Import(NamedTuple):
    """One import: "lenet5c.model" or "numpy", and where it stands."""

    target: str
    in_function: bool
    for_types: bool


def imports_of(source: str) -> Iterator[Import]:
    """All imports; names taken from the package itself become modules of it."""
    yield from _walk(ast.parse(source), False, False)


def _walk(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, in_function, for_types)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            target = f"{module}.{alias.name}" if module == "lenet5c" else module
            yield Import(target, in_function, for_types)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for child in node.body:
            yield from _walk(child, in_function, True)
        for child in node.orelse:
            yield from _walk(child, in_function, for_types)
        return
    inside = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, inside, for_types)


def problems(module: str, source: str) -> list[str]:
    """What is wrong with the imports of `lenet5c/<module>.py`."""
    found = []
    for item in imports_of(source):
        first, _, rest = item.target.partition(".")
        if first in ("numpy", *sys.stdlib_module_names):
            continue
        if first != "lenet5c":
            if first not in EXTRAS.get(module, ()):
                found.append(f"{item.target} is no requirement")
            elif not (item.in_function or item.for_types or module in ON_DEMAND):
                found.append(f"{item.target} is imported by everyone who imports this")
            continue
        ours = rest.split(".")[0]
        pair = (module, ours)
        if ours in ON_DEMAND and not (item.in_function or item.for_types):
            found.append(f"{ours} is imported by everyone who imports this")
        if ours not in FLOOR:
            found.append(f"{item.target} is no module")
        elif item.for_types and pair in TYPES_ONLY:
            continue
        elif FLOOR[ours] >= FLOOR[module] and pair not in EXCEPTIONS:
            found.append(f"{ours} is not on a floor below")
        elif FLOOR[ours] > FLOOR[module] and not item.in_function:
            found.append(f"{ours} is on a floor above, and not inside a function")
    return found


MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_a_file_imports_only_from_floors_below(module):
    assert problems(module, (PACKAGE / f"{module}.py").read_text("utf-8")) == []


def test_every_file_has_a_floor():
    assert set(MODULES) <= set(FLOOR)
    assert set(FLOOR) - set(MODULES) == {"core", "_cpu", "embed"}
    folders = {path.parent.name for path in PACKAGE.rglob("*.py")}
    assert folders == {PACKAGE.name, "core"}


def test_exceptions_that_nobody_needs_are_struck_out():
    pairs = {
        (module, item.target.split(".")[1])
        for module in MODULES
        for item in imports_of((PACKAGE / f"{module}.py").read_text("utf-8"))
        if item.target.startswith("lenet5c.")
    }
    assert (EXCEPTIONS.keys() | TYPES_ONLY.keys()) <= pairs
    for importer, imported in EXCEPTIONS:
        assert FLOOR[imported] >= FLOOR[importer]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("layers", "from lenet5c.model import Model"),
        ("layers", "import lenet5c.data.images"),
        ("layers", "from lenet5c import schedules"),
        ("layers", "def f():\n    from lenet5c.training.loop import fit"),
        ("layers", "class A:\n    from lenet5c.model import Model"),
        ("layers", "try:\n    from lenet5c.model import Model\nexcept E:\n    pass"),
        ("layers", "from .model import Model"),
        ("layers", "from . import model"),
        ("layers", "from lenet5c import Model"),
        ("layers", "import lenet5c"),
        ("threads", "from lenet5c.layers import _whole"),
        ("history", "from lenet5c.plots import plot_history"),
        ("training", "from lenet5c.model import Model"),
        ("images", "if TYPE_CHECKING:\n    from lenet5c.model import Model"),
        ("training", "if TYPE_CHECKING:\n    pass\nelse:\n    import lenet5c.model"),
        ("layers", "import scipy"),
        ("datasets", "import sklearn.datasets"),
        ("layers", "def f():\n    import sklearn"),
        ("model", "def f():\n    import rich"),
        ("cli", "from lenet5c.estimator import LeNet5Classifier"),
        ("estimator", "import scipy"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert problems(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("layers", "import math\nimport numpy.typing\nfrom collections.abc import X"),
        ("layers", "from __future__ import annotations"),
        ("model", "from lenet5c.layers import Layer, _whole"),
        ("history", "def f():\n    from lenet5c.plots import plot_history"),
        ("training", "if TYPE_CHECKING:\n    from lenet5c.model import Model"),
        ("__init__", "from lenet5c import datasets, functional"),
        ("datasets", "def f():\n    import sklearn.datasets"),
        ("estimator", "from sklearn.base import BaseEstimator"),
        ("__init__", "def f():\n    from lenet5c.estimator import LeNet5Classifier"),
    ],
)
def test_a_right_import_is_let_through(module, source):
    assert problems(module, source) == []


def test_names_are_imported_from_where_type_checkers_see_them():
    """The block for type checkers, which the floors are checked by, and the table."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module.partition(".")[2]
        for node in block.body
        for alias in node.names
    }
    modules = {name for name, home in homes.items() if not home}
    assert {name: home for name, home in homes.items() if home} == lenet5c.HOMES
    assert modules | lenet5c.HOMES.keys() == set(lenet5c.__all__)


def test_the_core_imports_nothing_but_itself_and_c():
    sources = sorted((PACKAGE / "core").glob("*.p[yx][xd]"))
    if not sources:
        pytest.skip("an installation brings no sources of the core")
    pattern = re.compile(r"^\s*(?:from\s+(\S+)\s+c?import|c?import\s+(\S+))", re.M)
    for path in sources:
        for match in pattern.finditer(path.read_text("utf-8")):
            module = match[1] or match[2]
            assert module.startswith(("lenet5c.core.", "libc.", "cython.")), path.name
