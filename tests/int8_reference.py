"""The network in 8-bit integers as plain loops over Python's own integers, written down
from docs/int8.md. Slow: for a few small images.

What is stored is taken from a `QuantizedModel`; nothing of how it computes.
"""

import math

import numpy as np

from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)
from lenet5c.layers import Activation

T = [round(127 * math.tanh(i / 256)) for i in range(800)]


def rescale(a, m, s):
    return (int(a) * int(m) + 2 ** (s - 1)) // 2**s


def clamp(a, least, most):
    return max(least, min(most, a))


def tanh8(t):
    return T[t] if t >= 0 else -T[-t]


def sigmoid8(t):
    return (128 + tanh8(t)) // 2


def scores(layers, quantized, image):
    """The scores of one image (C, h, w), for the layers of the float network."""
    stored = list(quantized.layers)
    x = run(layers, stored, centred(quantized, image), inside=False)
    assert not stored
    return [int(value) for value in x.ravel()]


def run(layers, stored, x, inside):
    """The map that these layers make of x; what is stored of them is taken away."""
    steps = without_what_does_nothing(layers, inside)
    while steps:
        layer = steps.pop(0)
        if isinstance(layer, Residual):
            one = run(layer.layers, stored, x, inside=True)
            other = run(layer.shortcut, stored, x, inside=True)
            x = addition(one, other, stored.pop(0), activation_of(steps))
            continue
        entry = stored.pop(0)
        if isinstance(layer, (Conv2d, Dense)):
            after = activation_of(steps)
            a = convolution(layer, entry, x)
            raw = after is None and not steps and not inside
            x = a if raw else finish(a, entry, after)
        elif isinstance(layer, (BatchNorm2d, Subsampling2d)):
            if isinstance(layer, Subsampling2d):
                x = windows(layer, x, sum)
            w, bias = entry.weight.ravel(), entry.bias
            a = each(x, lambda c, q, w=w, bias=bias: int(w[c]) * q + int(bias[c]))
            x = finish(a, entry, activation_of(steps))
        elif isinstance(layer, (AvgPool2d, GlobalAvgPool2d)):
            a = windows(layer, x, sum)
            n = x[0].size
            if isinstance(layer, AvgPool2d):
                n = layer.kernel_size**2
            last = not steps and not inside
            x = a if last else each(a, lambda _, q, n=n: (2 * q + n) // (2 * n))
        elif isinstance(layer, MaxPool2d):
            x = windows(layer, x, max)
        elif isinstance(layer, (Tanh, ScaledTanh)):
            m, s = entry.multiplier[0], entry.shift
            x = each(
                x, lambda _, q, m=m, s=s: tanh8(clamp(rescale(q, m, s), -799, 799))
            )
        elif isinstance(layer, Sigmoid):
            m, s = entry.multiplier[0], entry.shift
            x = each(
                x, lambda _, q, m=m, s=s: sigmoid8(clamp(rescale(q, m, s), -799, 799))
            )
        elif isinstance(layer, LeakyReLU):
            m, s = entry.multiplier[0], entry.shift
            x = each(x, lambda _, q, m=m, s=s: q if q >= 0 else rescale(q, m, s))
        elif isinstance(layer, ReLU):
            x = each(x, lambda _, q: max(0, q))
        elif isinstance(layer, Flatten):
            x = x.reshape(-1, 1, 1)
        else:
            raise ValueError(f"the reference of int8 has no kind {layer.kind!r}")
    return x


def addition(one, other, entry, activation):
    """The sum of two maps in units of their own, by the shape of the first."""
    (m, m_other), s = entry.multiplier, entry.shift
    least, most = {
        **dict.fromkeys((Tanh, ScaledTanh, Sigmoid), (-799, 799)),
        **{ReLU: (0, 127), None: (-127, 127)},
    }[activation]
    y = np.empty(one.shape, object)
    for at in np.ndindex(one.shape):
        product = int(one[at]) * int(m) + int(other[at]) * int(m_other)
        y[at] = clamp((product + 2 ** (s - 1)) // 2**s, least, most)
        if activation in (Tanh, ScaledTanh):
            y[at] = tanh8(y[at])
        if activation is Sigmoid:
            y[at] = sigmoid8(y[at])
    return y


def activation_of(steps):
    """The kind of the activation that follows, if only `Flatten` lies between; it is
    taken out."""
    for layer in steps:
        if isinstance(layer, (Tanh, ScaledTanh, Sigmoid, ReLU)):
            steps.remove(layer)
            return type(layer)
        if not isinstance(layer, Flatten):
            return None
    return None


def without_what_does_nothing(layers, inside):
    kept = []
    for position, layer in enumerate(layers):
        rest = [other for other in layers[position + 1 :] if moves_pixels(other)]
        free = isinstance(rest[0], Dense) if rest else not inside
        if isinstance(layer, Flatten) and free:
            continue
        if not isinstance(layer, Dropout):
            kept.append(layer)
    return kept


def moves_pixels(layer):
    return not isinstance(layer, (Activation, Flatten, Dropout))


def centred(quantized, image):
    channels, height, width = quantized.input_shape
    _, h, w = image.shape
    x = np.full((channels, height, width), quantized.background, object)
    top, left = (height - h) // 2, (width - w) // 2
    for c in range(channels):
        for i in range(h):
            for j in range(w):
                x[c, top + i, left + j] = int(quantized.table[image[c, i, j]])
    return x


def convolution(layer, entry, x):
    """The sums, (F, OH, OW), as Python's integers."""
    weight = entry.weight
    filters, channels, rows, columns = weight.shape
    stride, padding = 1, 0
    if isinstance(layer, Conv2d):
        stride, padding = layer.stride, layer.padding
    _, height, width = x.shape
    high = (height + 2 * padding - rows) // stride + 1
    wide = (width + 2 * padding - columns) // stride + 1
    a = np.empty((filters, high, wide), object)
    for f, i, j in np.ndindex(a.shape):
        total = int(entry.bias[f])
        for c, r, t in np.ndindex(channels, rows, columns):
            row, column = i * stride + r - padding, j * stride + t - padding
            if 0 <= row < height and 0 <= column < width:
                total += int(weight[f, c, r, t]) * int(x[c, row, column])
        assert -(2**31) <= total < 2**31
        a[f, i, j] = total
    return a


def finish(a, entry, activation):
    m, s = entry.multiplier, entry.shift

    def of(f, q):
        if activation in (Tanh, ScaledTanh):
            return tanh8(clamp(rescale(q, m[f], s), -799, 799))
        if activation is Sigmoid:
            return sigmoid8(clamp(rescale(q, m[f], s), -799, 799))
        return clamp(rescale(q, m[f], s), 0 if activation is ReLU else -127, 127)

    return each(a, of)


def windows(layer, x, reduce):
    channels, height, width = x.shape
    rows, columns, stride, padding = height, width, 1, 0
    if not isinstance(layer, GlobalAvgPool2d):
        rows, columns, stride = layer.kernel_size, layer.kernel_size, layer.stride
        padding = getattr(layer, "padding", 0)
    high = (height + 2 * padding - rows) // stride + 1
    wide = (width + 2 * padding - columns) // stride + 1
    y = np.empty((channels, high, wide), object)
    for c, i, j in np.ndindex(y.shape):
        top, left = i * stride - padding, j * stride - padding
        window = x[c, max(0, top) : top + rows, max(0, left) : left + columns]
        y[c, i, j] = reduce([int(value) for value in window.ravel()])
    return y


def each(x, function):
    y = np.empty(x.shape, object)
    for at in np.ndindex(x.shape):
        y[at] = function(at[0], x[at])
    return y
