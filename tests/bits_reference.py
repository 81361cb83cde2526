"""A training step for few bits in float64: the integers of docs/int8.md forward, and
the straight-through estimator backward, in real numbers.

What is stored of the layers is taken from where they are trained; nothing of how that
computes.
"""

import numpy as np
from int8_reference import T

from lenet5c import reference

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # of the scaled tanh


def logits_and_gradients(layers, x, scale, labels):
    """The logits, and by the step's name (dweight, dbias) of the mean cross-entropy.

    layers : list of QuantizedLayer
    x : (N, C, H, W) integers, in units of `scale`
    labels : (N,)
    """
    backward = []
    for layer in layers:
        last = layer is layers[-1]
        x, scale, back = _forward(layer, np.asarray(x, np.int64), scale, last)
        backward.append((layer.step.name, back))
    logits = x.reshape(len(x), -1) * scale
    dy = reference.softmax_cross_entropy_backward(logits, labels).reshape(x.shape)
    gradients = {}
    for name, back in reversed(backward):
        dy, *of_parameters = back(dy)
        if of_parameters:
            gradients[name] = of_parameters
    return logits, gradients


def _forward(layer, x, scale, last):
    """The next map, its scale, and a function: from its gradient to that of x, and of
    the layer's parameters; all of real numbers."""
    step = layer.step
    window = {"stride": step.stride, "padding": step.padding}
    size = {"stride": step.stride, "kernel_size": step.kernel[0]}
    if step.kind in ("conv", "scale", "subsample"):
        return _weighed(layer, x, scale, last)
    if step.kind in ("tanh", "tanh_scaled", "sigmoid"):
        return _activated(layer, x, step.kind)
    if step.kind == "relu":
        y = np.maximum(x, 0)
        return y, scale, lambda dy: (dy * (x > 0),)
    if step.kind == "leaky":
        y = np.where(x < 0, _rescale(x, layer.multiplier[0], layer.shift), x)
        return y, scale, lambda dy: (np.where(x < 0, step.slope, 1) * dy,)
    if step.kind == "flatten":
        return x.reshape(len(x), -1, 1, 1), scale, lambda dy: (dy.reshape(x.shape),)
    if step.kind == "max_pool":
        window["kernel_size"] = step.kernel[0]
        y = reference.max_pool2d(x, **window)

        def back(dy):
            return (reference.max_pool2d_backward(x, dy, **window),)

        return y, scale, back
    assert step.kind == "avg_pool"
    n = step.kernel[0] * step.kernel[1]
    if step.kernel[0] == step.kernel[1]:
        mean = reference.avg_pool2d(x, **size)

        def back(dy):
            return (reference.avg_pool2d_backward(x, dy, **size),)

    else:  # of the whole map
        mean = reference.global_avg_pool2d(x)

        def back(dy):
            return (reference.global_avg_pool2d_backward(x, dy),)

    total = np.rint(mean * n).astype(np.int64)
    if last:
        return total, scale / n, back
    return (2 * total + n) // (2 * n), scale, back


def _weighed(layer, x, scale, last):
    step = layer.step
    window = {"stride": step.stride, "padding": step.padding}
    size = {"stride": step.stride, "kernel_size": step.kernel[0]}
    column = layer.units[:, None]
    if step.kind == "conv":
        weight = layer.weight * column[..., None, None]
        sums = reference.conv2d(x, layer.weight, layer.bias, **window)

        def back(da):
            return reference.conv2d_backward(x * scale, weight, da, **window)

    elif step.kind == "scale":
        weight = layer.weight[:, 0] * column[..., None]
        sums = x * layer.weight[:, 0] + layer.bias[:, None, None]

        def back(da):
            products = (da * x * scale).sum(axis=(0, 2, 3))
            return da * weight, products, da.sum(axis=(0, 2, 3))

    else:
        weight = layer.weight[:, 0, 0, 0] * layer.units
        stored = layer.weight[:, 0, 0, 0], layer.bias
        sums = reference.subsampling2d(x, *stored, **size)

        def back(da):
            return reference.subsampling2d_backward(x * scale, weight, da, **size)

    sums = np.rint(sums).astype(np.int64)
    if layer.multiplier is None:
        return sums, float(layer.units[0] * scale), back
    y, out, through = _activated(layer, sums, step.activation)
    return y, out, lambda dy: back(*through(dy))


def _activated(layer, a, activation):
    """finish(rescale(a, m, s)), its scale, and its gradient."""
    m = (
        layer.multiplier
        if len(layer.multiplier) == 1
        else layer.multiplier[:, None, None]
    )
    r = _rescale(a, m, layer.shift)
    t = a * (m / 2.0**layer.shift)  # not rounded
    if activation in (None, "relu"):
        least = 0 if activation == "relu" else -127
        inside = (t > least - 0.5 * (least < 0)) & (t < 127.5)
        return np.clip(r, least, 127), layer.scale, lambda dy: (dy * inside,)
    table = np.array([-value for value in T[:0:-1]] + T)
    y = table[np.clip(r, -799, 799) + 799]
    if activation == "sigmoid":
        y = (128 + y) // 2
        slope = y / 127 * (1 - y / 127)
    elif activation == "tanh":
        slope = 1 - (y / 127) ** 2
    else:
        real = AMPLITUDE * y / 127
        slope = SLOPE / AMPLITUDE * (AMPLITUDE**2 - real**2)
    return y, layer.scale, lambda dy: (dy * slope,)


def _rescale(a, m, s):
    product = np.asarray(a).astype(object) * np.asarray(m).astype(object)
    return ((product + 2 ** (int(s) - 1)) // 2 ** int(s)).astype(np.int64)
