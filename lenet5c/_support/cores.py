"""Picks the compiled core for this CPU. Everything else imports the core from here."""

import importlib
import importlib.util
import os
from types import ModuleType

try:
    from lenet5c._cpu import instruction_sets
except ModuleNotFoundError as error:
    if error.name != "lenet5c._cpu":
        raise
    from pathlib import Path  # here: it costs milliseconds

    folder = Path(__file__).resolve().parents[2]
    if not (folder / "setup.py").is_file():
        raise ImportError("lenet5c was installed without its compiled core") from None
    raise ImportError(
        f"the lenet5c in {folder} is its source, which is not compiled: run Python in "
        "another folder, where it finds the installed one, or compile the source with "
        "`pip install -e . --config-settings editable_mode=compat`"
    ) from None

__all__ = ["available", "core", "isa"]

ENVIRONMENT = "LENET5C_ISA"


def _available() -> list[str]:
    """Names of the cores that were built and that this machine can run, best first."""
    return [
        name
        for name in instruction_sets()
        if importlib.util.find_spec(f"lenet5c._core_{name}") is not None
    ]


def _choose() -> str:
    wanted = os.environ.get(ENVIRONMENT)
    if wanted:
        if wanted not in available:
            raise ImportError(
                f"{ENVIRONMENT}={wanted!r}: this installation and machine can run "
                f"{', '.join(available) or 'none'}"
            )
        return wanted
    if not available:
        raise ImportError("lenet5c was installed without its compiled core")
    return available[0]


available: list[str] = _available()
isa: str = _choose()
core: ModuleType = importlib.import_module(f"lenet5c._core_{isa}")
