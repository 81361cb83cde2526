"""What this installation is."""

import os
from typing import Any

from lenet5c._support.cores import available, core, isa
from lenet5c._support.threads import resolve_threads

__all__ = ["__version__", "build_info", "get_include"]

__version__: str = core.version
"""The version of the package."""


def build_info() -> dict[str, Any]:
    """What runs here.

    Returns
    -------
    dict
        "version"; "isa", the core in use, and "available", those that could be;
        "lanes", images in one register; "threading", whose threads it has: "POSIX",
        "Windows" or "none"; "openmp", whether OpenMP limits them; "threads" that a
        call would use now; "compiler".

    Examples
    --------
    >>> info = lenet5c.build_info()
    >>> info["version"] == lenet5c.__version__, info["isa"] in info["available"]
    (True, True)
    """
    return {
        "version": __version__,
        "isa": isa,
        "available": list(available),
        "lanes": core.lanes_per_block,
        "threading": core.threading,
        "openmp": core.openmp,
        "threads": resolve_threads(),
        "compiler": core.compiler,
    }


def get_include() -> str:
    """Folder of the C headers that the package brings along.

    Returns
    -------
    str
        The path of the folder, for a compiler's ``-I``.

    Examples
    --------
    >>> import os
    >>> "lenet5c.h" in os.listdir(lenet5c.get_include())
    True
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    installed = os.path.join(package, "include")
    if os.path.isdir(installed):
        return installed
    return os.path.join(os.path.dirname(package), "csrc")
