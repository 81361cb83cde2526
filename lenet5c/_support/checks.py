"""Checks of arguments.

Each returns the value in one form, or raises an error that names the argument, what was
expected and what was given.
"""

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_array", "both", "floats", "number", "pair", "truth", "whole"]


def whole(argument: str, value: object, least: int, most: int = 1 << 20) -> int:
    """`value` as an int from `least` to `most`, or a TypeError or ValueError."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument}: expected a whole number, got {value!r}")
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{argument}: expected a whole number, got {value!r}") from None
    if not least <= count <= most:
        raise ValueError(f"{argument}: expected {least} to {most}, got {count}")
    return count


def pair(argument: str, value: object, least: int) -> tuple[int, int]:
    """A whole number for both directions, or a pair (rows, columns)."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{argument}: expected one or two numbers, got {value!r}")
        return whole(argument, value[0], least), whole(argument, value[1], least)
    side = whole(argument, value, least)
    return side, side


def both(argument: str, value: object, least: int) -> int:
    """One whole number for both directions, or a pair of two equal ones."""
    rows, columns = pair(argument, value, least)
    if rows != columns:
        raise ValueError(
            f"{argument}: expected one number, which is that of both directions, "
            f"got {value!r}"
        )
    return rows


def number(argument: str, value: object, least: float, below: float) -> float:
    """`value` as a float in [least, below), or a TypeError or ValueError."""
    real = (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, real):
        raise TypeError(f"{argument}: expected a number, got {value!r}")
    try:
        result = float(value)
    except OverflowError:
        raise ValueError(f"{argument}: expected a float, got {value!r:.80}") from None
    if not least <= result < below:
        raise ValueError(
            f"{argument}: expected {least:g} <= x < {below:g}, got {value!r}"
        )
    return result


def truth(argument: str, value: object) -> bool:
    """`value` as a bool, or a TypeError."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{argument}: expected True or False, got {value!r}")
    return bool(value)


def as_array(argument: str, value: ArrayLike) -> NDArray[Any]:
    """`value` as an array; ValueError if it is a ragged list."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{argument}: expected an array; {error}") from None


def floats(
    argument: str, value: ArrayLike, shape: tuple[int | None, ...] | None
) -> NDArray[np.float32]:
    """`value` as aligned, C-contiguous float32 of that shape (None: any length)."""
    array = as_array(argument, value)
    if array.dtype.kind != "f":
        raise TypeError(f"{argument}: expected floating numbers, got {array.dtype}")
    if shape is not None:
        fits = array.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape, array.shape, strict=False)
        )
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise ValueError(
                f"{argument}: expected the shape ({wanted}), got {array.shape}"
            )
    if array.size == 0:
        raise ValueError(
            f"{argument}: expected at least one element, got {array.shape}"
        )
    with np.errstate(over="ignore"):
        return np.require(array, np.float32, ["C", "A"])
