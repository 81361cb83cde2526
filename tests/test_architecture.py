"""A file imports only from floors below its own, which stand in docs/architecture.py.

A room is a folder, or a file that is in none. Within a folder files import each
other, but never in a circle. Imports inside functions and for type checkers count.
"""

import ast
import re
import sys
from pathlib import Path

import pytest
from architecture import FLOOR, imports_of, room_of

import lenet5c

PACKAGE = Path(lenet5c.__file__).parent

# Not NumPy and not the standard library, inside functions alone: a module that is
# itself imported inside functions alone may import them at its head.
ON_DEMAND = {"estimator"}
EXTRAS = {
    "cli.comparison_chart": {"matplotlib"},
    "cli.output": {"rich"},
    "cli.ranks": {"mpi4py"},
    "training.ranks": {"mpi4py"},
    "_support.progress": {"IPython", "rich"},
    "convert.onnx": {"onnx"},
    "convert.onnx_values": {"onnx"},
    "convert.onnx_path": {"onnx"},
    "convert.onnx_operators": {"onnx"},
    "data.caches": {"rich"},
    "data.datasets": {"sklearn"},
    "data.pictures": {"PIL"},
    "data.prepare": {"PIL", "scipy"},
    "display": {"PIL", "rich"},
    "estimator": {"sklearn"},
    "files.onnx_out": {"onnx"},
    "report.canvas": {"matplotlib"},
    "report.curves": {"matplotlib"},
    "report.history": {"matplotlib"},
    "report.html": {"matplotlib"},
    "report.images": {"matplotlib"},
    "report.occlusion": {"matplotlib"},
}


def problems(module: str, source: str) -> list[str]:
    """What is wrong with the imports of the module "data.images" of the package."""
    found = []
    room = room_of(module)
    for item in imports_of(source, PACKAGE):
        first, _, rest = item.target.partition(".")
        if first in ("numpy", *sys.stdlib_module_names):
            continue
        if first != "lenet5c":
            if first not in EXTRAS.get(module, ()):
                found.append(f"{item.target} is no requirement")
            elif not (item.in_function or item.for_types or module in ON_DEMAND):
                found.append(f"{item.target} is imported by everyone who imports this")
            continue
        ours = room_of(rest)
        if ours in ON_DEMAND and not (item.in_function or item.for_types):
            found.append(f"{ours} is imported by everyone who imports this")
        if ours not in FLOOR:
            found.append(f"{item.target} is no module")
        elif FLOOR[ours] >= FLOOR[room] and not (ours == room and "." in module):
            found.append(f"{ours} is not on a floor below")
    return found


def module_of(path: Path) -> str:
    """What a file is called inside of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts)


SOURCES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", SOURCES)
def test_a_file_imports_only_from_floors_below(module):
    assert problems(module, SOURCES[module].read_text("utf-8")) == []


def test_every_file_has_a_floor():
    rooms = {room_of(module) for module in SOURCES}
    assert set(FLOOR) - rooms == {"csrc", "embed"}
    assert rooms <= set(FLOOR)


def test_no_file_imports_itself_in_a_circle():
    """A module's own package counts as the module that it names there."""
    imports = {
        module: {
            item.target.partition(".")[2]
            for item in imports_of(path.read_text("utf-8"), PACKAGE)
            if item.target.startswith("lenet5c.")
        }
        & SOURCES.keys()
        for module, path in SOURCES.items()
        if module != "__init__"
    }
    while free := [name for name, of in imports.items() if not of & imports.keys()]:
        for name in free:
            del imports[name]
    assert not imports, "these import each other"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("layers.conv", "from lenet5c.model import Model"),
        ("layers.conv", "import lenet5c.data.images"),
        ("layers.conv", "from lenet5c import schedules"),
        ("layers.conv", "def f():\n    from lenet5c.training.loop import fit"),
        ("layers.conv", "class A:\n    from lenet5c.model import Model"),
        (
            "layers.conv",
            "try:\n    import lenet5c.model\nexcept E:\n    pass",
        ),
        ("layers.conv", "from .model import Model"),
        ("layers.conv", "from . import model"),
        ("layers.conv", "from lenet5c import Model"),
        ("layers.conv", "import lenet5c"),
        ("_support.threads", "from lenet5c.layers import Layer"),
        ("report.history", "def f():\n    from lenet5c.training import loop"),
        ("training.loop", "if TYPE_CHECKING:\n    from lenet5c.model import Model"),
        (
            "training.loop",
            "if TYPE_CHECKING:\n    f\nelse:\n    import lenet5c.model",
        ),
        ("graph", "from lenet5c.interfaces import Network"),
        ("layers.conv", "import scipy"),
        ("data.datasets", "import sklearn.datasets"),
        ("layers.conv", "def f():\n    import sklearn"),
        ("model", "def f():\n    import rich"),
        ("cli.main", "from lenet5c.estimator import LeNet5Classifier"),
        ("estimator", "import scipy"),
    ],
)
def test_a_wrong_import_is_found(module, source):
    assert problems(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "layers.conv",
            "import math\nimport numpy.typing\nfrom typing import X",
        ),
        ("layers.conv", "from __future__ import annotations"),
        ("layers.conv", "from lenet5c.layers.base import Layer"),
        ("model", "from lenet5c.layers import Layer, walk"),
        (
            "report.history",
            "def f():\n    from lenet5c.report.curves import plot_history",
        ),
        ("__init__", "from lenet5c import datasets, functional"),
        ("data.datasets", "def f():\n    import sklearn.datasets"),
        ("estimator", "from sklearn.base import BaseEstimator"),
        ("__init__", "def f():\n    from lenet5c.estimator import LeNet5Classifier"),
    ],
)
def test_a_right_import_is_let_through(module, source):
    assert problems(module, source) == []


def test_names_are_imported_from_where_type_checkers_see_them():
    """The block for type checkers, which the floors are checked by, and the table."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    blocks = (node for node in tree.body if isinstance(node, ast.If))
    (block,) = (of for of in blocks if ast.unparse(of.test) == "TYPE_CHECKING")
    homes = {
        alias.name: node.module.partition(".")[2]
        for node in block.body
        for alias in node.names
    }
    modules = {name for name, home in homes.items() if not home}
    assert {name: home for name, home in homes.items() if home} == lenet5c.HOMES
    assert modules | lenet5c.HOMES.keys() == set(lenet5c.__all__)


def test_the_core_imports_nothing_but_itself_and_c():
    sources = sorted((PACKAGE / "core").rglob("*.p[yx][xd]"))
    if not sources:
        pytest.skip("an installation brings no sources of the core")
    pattern = re.compile(r"^\s*(?:from\s+(\S+)\s+c?import|c?import\s+(\S+))", re.M)
    for path in sources:
        for match in pattern.finditer(path.read_text("utf-8")):
            module = match[1] or match[2]
            assert module.startswith(("lenet5c.core.", "libc.", "cython.")), path.name
