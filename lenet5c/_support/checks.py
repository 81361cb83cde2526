"""Checks of arguments.

Each returns the value in one form, or raises an error that names the argument, what was
expected and what was given.
"""

import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "as_array",
    "as_contiguous",
    "both",
    "floats",
    "number",
    "pair",
    "refuse_masked",
    "truth",
    "whole",
]

PIECE = 1 << 20  # elements that are copied at a time


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
    """`value` as an array.

    A tensor of PyTorch may require gradients. ValueError if it is a ragged list, or an
    array with masked entries, whose values are none.
    """
    if type(value) is np.ndarray:
        return value
    refuse_masked(argument, value)
    if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
        value = value.detach()
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
        return as_contiguous(array, np.float32)


def refuse_masked(argument: str, value: object) -> None:
    """ValueError if it is an array of numpy.ma with masked entries."""
    ma = sys.modules.get("numpy.ma")  # which is imported where there is such an array
    if ma is not None and isinstance(value, ma.MaskedArray) and ma.is_masked(value):
        raise ValueError(
            f"{argument}: expected an array without masked entries, got "
            f"{np.count_nonzero(value.mask)} of {value.size}; fill them first, as with "
            "numpy.ma.filled"
        )


def as_contiguous(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """`array` as aligned, C-contiguous elements of that type; itself if it is that.

    Of a large one some rows are copied at a time: Ctrl-C waits until NumPy is done.
    """
    whole = array.flags.c_contiguous and array.flags.aligned and array.dtype == dtype
    if whole or array.size <= PIECE:
        return np.require(array, dtype, ["C", "A"])
    result = np.empty(array.shape, dtype)
    step = max(1, PIECE * len(array) // array.size)
    for start in range(0, len(array), step):
        result[start : start + step] = array[start : start + step]
    return result
