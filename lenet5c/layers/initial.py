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
    weight: NDArray[np.float32],
    init: str,
    generator: "np.random.Generator",
    fan_in: int | None = None,
) -> None:
    """Fill a weight (O, I, ...) from a uniform distribution, in place.

    The limits are sqrt(6 / (fan_in + fan_out)) for "glorot" (Glorot and Bengio 2010,
    eq. 16), sqrt(6 / fan_in) for "he" (He et al. 2015, eq. 10: variance 2 / fan_in),
    sqrt(3 / fan_in) for "lecun" (LeCun et al. 1998, "Efficient BackProp", eq. 16) and
    2.4 / fan_in for "lecun-1998" (LeCun, Bottou, Bengio, Haffner 1998, appendix A).

    Parameters
    ----------
    weight : (O, I, ...) float32, written
    init : {"glorot", "he", "lecun", "lecun-1998"}
    generator : numpy.random.Generator
    fan_in : int or None
        Inputs of one output; None is I and what follows it in the weight's shape.

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
    fan_out = weight.shape[0] * field
    if fan_in is None:
        fan_in = weight.shape[1] * field
    variances = {
        "glorot": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
        "lecun-1998": 2.4**2 / 3 / fan_in**2,
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
