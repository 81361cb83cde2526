"""How few bits weights are rounded to, and how: for training and for integers alike."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number
from lenet5c._support.cores import core

__all__ = [
    "MAX_INT8",
    "MAX_SUM",
    "Bits",
    "Rounded",
    "Rounding",
    "as_bits",
    "rounded",
    "rounding_from_dict",
]

MAX_INT8 = 127  # of an int8; -128 is not used
MAX_SUM = 1 << 30  # of a bias, and of the products that are added to it
MIN_WEIGHT_SCALE = 2.0**-16  # of the largest one in the layer
# The least and the largest integer that a weight becomes, by its bits.
RANGES: dict[int | str, tuple[int, int]] = {
    8: (-MAX_INT8, MAX_INT8),
    4: (-7, 7),
    2: (-2, 1),
    "ternary": (-1, 1),
}


@dataclass(frozen=True)
class Bits:
    """How few bits a network's integers have.

    Parameters
    ----------
    weights : {8, 4, 2, "ternary"}
        Integers from -127 to 127, -7 to 7, -2 to 1, or -1 to 1.
    activations : {8}
        Those of the maps between two layers, from -127 to 127.

    Attributes
    ----------
    least, most : int
        What a weight becomes at the least and at the most.

    Raises
    ------
    ValueError
        If it is another number.

    Examples
    --------
    >>> bits = lenet5c.Bits(weights=4)
    >>> bits
    Bits(weights=4, activations=8)
    >>> bits.least, bits.most
    (-7, 7)
    """

    weights: int | str = 8
    activations: int = 8

    def __post_init__(self) -> None:
        whole = isinstance(self.weights, (int, str)) and self.weights is not True
        if not whole or self.weights not in RANGES:
            known = ", ".join(map(repr, RANGES))
            raise ValueError(f"weights: expected one of {known}, got {self.weights!r}")
        if type(self.activations) is not int or self.activations != 8:
            raise ValueError(f"activations: expected 8, got {self.activations!r}")

    @property
    def least(self) -> int:
        """What a weight becomes at the least."""
        return RANGES[self.weights][0]

    @property
    def most(self) -> int:
        """What a weight becomes at the most."""
        return RANGES[self.weights][1]


def as_bits(name: str, value: Any) -> Bits | None:
    """Bits, or those of weights as a number or a word; None stays."""
    if value is None or isinstance(value, Bits):
        return value
    weights = int(value) if isinstance(value, str) and value.isdecimal() else value
    try:
        return Bits(weights)
    except (TypeError, ValueError):
        known = ", ".join(map(repr, RANGES))
        raise ValueError(
            f"{name}: expected a lenet5c.Bits, one of {known}, or None, got {value!r}"
        ) from None


@dataclass(frozen=True)
class Rounding:
    """What a network was trained for: bits, and the units of its maps.

    Attributes
    ----------
    bits : Bits
    units : tuple of float
        What one unit of the output stands for, of each step whose activation does not
        decide it, in the order of the steps (docs/int8.md).

    Examples
    --------
    >>> fresh = lenet5c.lenet5(activation="relu")
    >>> history = fresh.fit(images, labels, epochs=1, quantize=lenet5c.Bits(4))
    >>> fresh.rounding.bits, len(fresh.rounding.units)  # of C1, C3, C5 and F6
    (Bits(weights=4, activations=8), 4)
    """

    bits: Bits
    units: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As numbers and texts of JSON, which `rounding_from_dict` reads.

        Returns
        -------
        dict

        Examples
        --------
        >>> from lenet5c.bits import Rounding
        >>> Rounding(lenet5c.Bits("ternary"), (0.5,)).to_dict()
        {'weights': 'ternary', 'activations': 8, 'units': [0.5]}
        """
        return {
            "weights": self.bits.weights,
            "activations": self.bits.activations,
            "units": list(self.units),
        }


def rounding_from_dict(found: Any) -> Rounding:
    """What `Rounding.to_dict` made; or a ValueError or TypeError."""
    keys = {"weights", "activations", "units"}
    if not isinstance(found, dict) or found.keys() != keys:
        raise ValueError(f"rounding: expected {sorted(keys)}, got {found!r:.80}")
    units = found["units"]
    if not isinstance(units, list):
        raise TypeError(f"units: expected a list, got {units!r:.80}")
    above = math.nextafter(float(np.finfo(np.float32).max), math.inf)
    checked = tuple(number("units", unit, 0, above) for unit in units)
    if 0 in checked:
        raise ValueError(f"units: expected numbers above 0, got {units!r:.80}")
    return Rounding(Bits(found["weights"], found["activations"]), checked)


class Rounded(NamedTuple):
    """Weights and biases of a layer as integers, in float64, and their units.

    weight : (F, ...) in units of their filter; bias : (F,) in units of the sums
    units : (F,)
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    units: NDArray[np.float64]


def rounded(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    scale: float,
    bits: Bits,
    *,
    together: bool,
) -> Rounded:
    """The integers that are nearest to these weights and biases.

    Parameters
    ----------
    weight : (F, ...) float64
    bias : (F,) float64
    scale : float
        Of the layer's input.
    bits : Bits
    together : bool
        Whether all filters have one unit, as their sums are compared.
    """
    rows = weight.reshape(1 if together else len(weight), -1)
    if bits.weights == 8:
        units = np.abs(rows).max(axis=1) / bits.most
    else:
        units = np.empty(len(rows))
        core.best_units(np.ascontiguousarray(rows), bits.least, bits.most, units)
    units = np.broadcast_to(units, (len(weight),))
    units = np.maximum(units, units.max() * MIN_WEIGHT_SCALE)
    units = np.maximum(units, np.abs(bias) / (scale * (MAX_SUM - 1)))
    if together:
        units[:] = units.max()
    units[units == 0] = 1.0
    each = units.reshape(-1, *[1] * (weight.ndim - 1))
    whole = np.rint(np.clip(weight / each, bits.least, bits.most))
    return Rounded(whole, np.rint(bias / (units * scale)), units)
