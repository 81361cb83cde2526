"""Weights of few bits, several in a byte: docs/int8.md says how.

F      filters
"""

import math

import numpy as np
from numpy.typing import NDArray

from lenet5c.bits import Bits

__all__ = ["IN_A_BYTE", "base_of", "bytes_of_filter", "fractions", "packed", "unpacked"]

IN_A_BYTE: dict[int | str, int] = {8: 1, 4: 2, 2: 4, "ternary": 5}
TOGETHER = 4  # bytes that exported C reads


def base_of(bits: Bits) -> int:
    """How many digits there are, each a weight less the least one."""
    return 3 if bits.weights == "ternary" else 1 << int(bits.weights)


def bytes_of_filter(weights: int, bits: Bits) -> int:
    """What a filter of so many weights takes."""
    return -(-weights // IN_A_BYTE[bits.weights])


def packed(weight: NDArray[np.int8], bits: Bits) -> NDArray[np.uint8]:
    """Weights (F, ...) as bytes (F, B), digits of least value first.

    Raises
    ------
    ValueError
        If a weight is none of these bits.
    """
    return _bytes_of(_digits(weight, bits), bits)


def unpacked(
    array: NDArray[np.uint8], shape: tuple[int, ...], bits: Bits
) -> NDArray[np.int8]:
    """The weights (F, ...) that `packed` made bytes of.

    Raises
    ------
    ValueError
        If there are other bytes than `packed` makes.
    """
    base, count = base_of(bits), IN_A_BYTE[bits.weights]
    digits = array[..., None] // (base ** np.arange(count)).astype(np.uint8)
    digits[..., :-1] %= base
    digits = digits.reshape(len(array), -1)
    weights = math.prod(shape[1:])
    if digits.max() > bits.most - bits.least or digits[:, weights:].any():
        raise ValueError(
            f"expected weights from {bits.least} to {bits.most}, and zeros where a "
            "filter's last byte has no weights"
        )
    found: NDArray[np.int8] = digits[:, :weights].astype(np.int8) + np.int8(bits.least)
    return found.reshape(shape)


def fractions(rows: NDArray[np.int8], bits: Bits) -> NDArray[np.int8]:
    """Taps (F, T) as exported C has them, (F, B) bytes, filled up with weights of 0.

    Of four bytes in a row the j-th has taps j, j + 4, j + 8, ... A byte q is a fraction
    q / 256: in turn its whole part, after it is multiplied with the base, is a digit.
    """
    base, count = base_of(bits), IN_A_BYTE[bits.weights]
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % (TOGETHER * count))))
    digits = _digits(rows, bits).reshape(len(rows), -1, count, TOGETHER)
    first_last = digits[:, :, ::-1].transpose(0, 1, 3, 2).reshape(len(rows), -1)
    values = _bytes_of(first_last, bits).astype(np.int64) * 256
    upwards = -(-values // base**count)
    found: NDArray[np.int8] = upwards.astype(np.uint8).view(np.int8)
    return found


def _digits(weight: NDArray[np.int8], bits: Bits) -> NDArray[np.uint8]:
    """(F, weights)"""
    if weight.min() < bits.least or weight.max() > bits.most:
        raise ValueError(
            f"expected weights from {bits.least} to {bits.most}, got "
            f"{weight.min()} to {weight.max()}"
        )
    rows = weight.reshape(len(weight), -1)
    return (rows.astype(np.int16) - bits.least).astype(np.uint8)


def _bytes_of(digits: NDArray[np.uint8], bits: Bits) -> NDArray[np.uint8]:
    """(F, digits) as (F, B), each byte's first digit the one of least value."""
    base, count = base_of(bits), IN_A_BYTE[bits.weights]
    digits = np.pad(digits, ((0, 0), (0, -digits.shape[1] % count)))
    values = (base ** np.arange(count)).astype(np.uint8)
    found: NDArray[np.uint8] = digits.reshape(len(digits), -1, count) @ values
    return found
