"""Warnings that name the line of the caller's program."""

import os
import sys

__all__ = ["callers_level"]

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def callers_level() -> int:
    """How far up the stack the package's caller is, as a warning's `stacklevel`."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
