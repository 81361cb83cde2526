"""How weights start."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.habits import choose
from lenet5c.layers.activation import Activation, LeakyReLU, ReLU
from lenet5c.layers.base import Layer
from lenet5c.layers.residual import Residual

__all__ = ["before_relu", "initialise"]


def initialise(
    weight: NDArray[np.float32], init: str, generator: "np.random.Generator"
) -> None:
    """Fill a weight (O, I, ...) from a uniform distribution, in place.

    The limits are sqrt(6 / (fan_in + fan_out)) for "glorot" (Glorot and Bengio 2010,
    eq. 16), sqrt(6 / fan_in) for "he" (He et al. 2015, eq. 10: variance 2 / fan_in) and
    sqrt(3 / fan_in) for "lecun" (LeCun et al. 1998, "Efficient BackProp", eq. 16).

    Parameters
    ----------
    weight : (O, I, ...) float32, written
    init : {"glorot", "he", "lecun"}
    generator : numpy.random.Generator

    Raises
    ------
    ValueError
        If `init` is none of these.

    Examples
    --------
    >>> weight = np.empty((84, 120), np.float32)
    >>> lenet5c.layers.initialise(weight, "lecun", np.random.default_rng(0))
    >>> bool(abs(weight).max() <= (3 / 120) ** 0.5), round(float(weight.std()), 2)
    (True, 0.09)
    """
    field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * field, weight.shape[0] * field
    variances = {
        "glorot": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
    }
    variance = choose("init", init, variances)
    limit = math.sqrt(3 * variance)
    weight[...] = generator.uniform(-limit, limit, weight.shape)


def before_relu(layers: Sequence[Layer], following: bool = False) -> set[str | None]:
    """Names of the layers after which the next activation is a ReLU, or a leaky one;
    `following` tells what comes after the last one."""
    found = set()
    for layer in reversed(layers):
        if isinstance(layer, Activation):
            following = isinstance(layer, (ReLU, LeakyReLU))
        if isinstance(layer, Residual):
            found |= before_relu(layer.shortcut, following)
            inner = before_relu(layer.layers, following)
            found |= inner
            following = layer.layers[0].name in inner
        if following:
            found.add(layer.name)
    return found
