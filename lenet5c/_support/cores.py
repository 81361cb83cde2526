"""Picks the compiled core for this CPU. Everything else imports the core from here."""

import importlib
import importlib.util
import os
from types import ModuleType

from lenet5c._cpu import instruction_sets

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
