"""How weights start."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.habits import choose
from lenet5c.layers.activation import Activation, LeakyReLU, ReLU
from lenet5c.layers.base import Layer
from lenet5c.layers.conv import Conv2d
from lenet5c.layers.residual import Residual

__all__ = ["before_relu", "initialise", "parts_by_fans"]


def initialise(
    weight: NDArray[np.float32],
    init: str,
    generator: "np.random.Generator",
    fans: tuple[float, float] | None = None,
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
    fans : (float, float) or None
        fan_in and fan_out; None takes them from the shape.

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
    fan_in, fan_out = fans or (weight.shape[1] * field, weight.shape[0] * field)
    variances = {
        "glorot": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
        "lecun-1998": 2.4**2 / 3 / fan_in**2,
    }
    variance = choose("init", init, variances)
    limit = math.sqrt(3 * variance)
    weight[...] = generator.uniform(-limit, limit, weight.shape)


def parts_by_fans(
    layer: Layer, channels: int, weight: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.float32], tuple[float, float] | None]]:
    """The pieces of a layer's weight that start alike, and their fans for `initialise`.

    One piece, but for a table of connections: there each filter has a fan_in of its
    own, and fan_out is that of an input on average.
    """
    if not isinstance(layer, Conv2d) or layer.connections is None:
        yield weight, None
        return
    field = math.prod(layer.kernel)
    start = 0
    for listed in map(len, layer.connections):
        part = weight[start : start + listed]
        yield part, (listed * field, len(weight) / channels * field)
        start += listed


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
