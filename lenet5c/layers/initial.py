"""How weights start."""

import math

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.habits import did_you_mean

__all__ = ["check_init", "initialise"]


def check_init(init: str | None) -> None:
    names = ("glorot", "he", "lecun")
    if init is not None and init not in names:
        raise ValueError(
            f"init: expected 'glorot', 'he', 'lecun' or None, got {init!r}"
            + did_you_mean(init, names)
        )


def initialise(
    weight: NDArray[np.float32], init: str, generator: "np.random.Generator"
) -> None:
    """Fill a weight (O, I, ...) from a uniform distribution, in place.

    The limits are sqrt(6 / (fan_in + fan_out)) for "glorot" (Glorot and Bengio 2010,
    eq. 16), sqrt(6 / fan_in) for "he" (He et al. 2015, eq. 10: variance 2 / fan_in) and
    sqrt(3 / fan_in) for "lecun" (LeCun et al. 1998, "Efficient BackProp", eq. 16).
    """
    field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * field, weight.shape[0] * field
    variance = {
        "glorot": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
    }[init]
    limit = math.sqrt(3 * variance)
    weight[...] = generator.uniform(-limit, limit, weight.shape)
