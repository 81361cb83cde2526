"""The textbook in plain NumPy and float64: what the package is compared with.

Knows nothing of the package. Functions have the names and signatures of
`lenet5c.functional`; a network is a list of (kind, options) such as
``("conv2d", {"name": "C1", "filters": 6, "kernel_size": 5})`` with its parameters in a
dictionary ("C1.weight", "C1.bias"). The options "layers" and "shortcut" of a "residual"
are such lists.

    N        images
    C, F     channels in, filters (channels out)
    H W      input map
    OH OW    output map
    KH KW    kernel, or K K for a pooling window
    I, O     inputs and outputs of a dense layer
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Layers = Sequence[tuple[str, Mapping[str, Any]]]


def _double(array: ArrayLike) -> Array:
    return np.asarray(array, np.float64)


def _map(x: Array) -> Array:
    """(N, I) as (N, I, 1, 1); a map as it is."""
    return x.reshape(*x.shape, *[1] * (4 - x.ndim))


def _pad(x: Array, padding: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _taps(
    height: int, width: int, rows: int, columns: int, stride: int
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """For each tap of a kernel, in row-major order: its row, its column, and the index
    that takes out of a map (..., H, W) the pixels (..., OH, OW) under this tap."""
    down = ((height - rows) // stride + 1) * stride
    right = ((width - columns) // stride + 1) * stride
    for ky in range(rows):
        for kx in range(columns):
            yield ky, kx, np.s_[..., ky : ky + down : stride, kx : kx + right : stride]


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> Array:
    """y[n, f, i, j] = bias[f] + sum over c, k, l of
    weight[f, c, k, l] * x[n, c, i * stride + k - padding, j * stride + l - padding]

    A cross-correlation: the kernel is not flipped. x (N, C, H, W), weight
    (F, C, KH, KW), bias (F,), y (N, F, OH, OW).
    """
    x, weight = _pad(_double(x), padding), _double(weight)
    rows, columns = weight.shape[2:]
    height, width = x.shape[2:]
    y = 0.0
    for ky, kx, under in _taps(height, width, rows, columns, stride):
        # (F, C) x (N, C, OH, OW) -> (F, N, OH, OW)
        y = y + np.tensordot(weight[:, :, ky, kx], x[under], axes=(1, 1))
    y = np.moveaxis(y, 0, 1)
    return y if bias is None else y + _double(bias)[:, None, None]


def conv2d_backward(
    x: ArrayLike,
    weight: ArrayLike,
    dy: ArrayLike,
    *,
    stride: int = 1,
    padding: int = 0,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of sum(dy * conv2d(x, weight, bias))."""
    x, weight, dy = _pad(_double(x), padding), _double(weight), _double(dy)
    rows, columns = weight.shape[2:]
    height, width = x.shape[2:]
    dx = np.zeros_like(x)
    dweight = np.zeros_like(weight)
    for ky, kx, under in _taps(height, width, rows, columns, stride):
        # (F, C) x (N, F, OH, OW) -> (C, N, OH, OW)
        dx[under] += np.moveaxis(
            np.tensordot(weight[:, :, ky, kx], dy, axes=(0, 1)), 0, 1
        )
        # (N, F, OH, OW) x (N, C, OH, OW) -> (F, C)
        dweight[:, :, ky, kx] = np.tensordot(dy, x[under], axes=([0, 2, 3], [0, 2, 3]))
    inner = np.s_[..., padding : height - padding, padding : width - padding]
    return dx[inner], dweight, dy.sum(axis=(0, 2, 3))


def avg_pool2d(
    x: ArrayLike, kernel_size: int = 2, *, stride: int | None = None
) -> Array:
    """y[n, c, i, j] = mean over k, l < K of x[n, c, i * stride + k, j * stride + l]"""
    x = _double(x)
    taps = _taps(*x.shape[2:], kernel_size, kernel_size, stride or kernel_size)
    return sum(x[under] for _, _, under in taps) / kernel_size**2


def avg_pool2d_backward(
    x: ArrayLike, dy: ArrayLike, kernel_size: int = 2, *, stride: int | None = None
) -> Array:
    """Gradient dx of sum(dy * avg_pool2d(x)): windows may overlap."""
    x, dy = _double(x), _double(dy)
    dx = np.zeros_like(x)
    taps = _taps(*x.shape[2:], kernel_size, kernel_size, stride or kernel_size)
    for _, _, under in taps:
        dx[under] += dy / kernel_size**2
    return dx


def _pad_with_less(x: Array, padding: int) -> Array:
    """x with sides that are less than any number."""
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    return np.pad(x, sides, constant_values=-np.inf)


def max_pool2d(
    x: ArrayLike, kernel_size: int = 2, *, stride: int | None = None, padding: int = 0
) -> Array:
    """y[n, c, i, j] = max over k, l < K of x[n, c, i * stride + k - padding,
    j * stride + l - padding], where there is a pixel"""
    x = _pad_with_less(_double(x), padding)
    taps = _taps(*x.shape[2:], kernel_size, kernel_size, stride or kernel_size)
    return np.max([x[under] for _, _, under in taps], axis=0)


def max_pool2d_backward(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    padding: int = 0,
) -> Array:
    """Gradient dx of sum(dy * max_pool2d(x)): all to the first maximum, row-major."""
    x, dy = _pad_with_less(_double(x), padding), _double(dy)
    dx = np.zeros_like(x)
    taps = list(_taps(*x.shape[2:], kernel_size, kernel_size, stride or kernel_size))
    first = np.argmax([x[under] for _, _, under in taps], axis=0)
    for number, (_, _, under) in enumerate(taps):
        dx[under] += np.where(first == number, dy, 0)
    height, width = x.shape[2:]
    return dx[..., padding : height - padding, padding : width - padding]


def global_avg_pool2d(x: ArrayLike) -> Array:
    """y[n, c, 0, 0] = mean of x[n, c]"""
    return _double(x).mean(axis=(2, 3), keepdims=True)


def global_avg_pool2d_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """Gradient dx of sum(dy * global_avg_pool2d(x))."""
    x = _double(x)
    return np.broadcast_to(_double(dy) / (x.shape[2] * x.shape[3]), x.shape)


def _by_channel(vector: ArrayLike) -> Array:
    return _double(vector)[:, None, None]


def batch_norm2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
) -> Array:
    """y = weight (x - mean) / sqrt(variance + eps) + bias, channel by channel; mean and
    variance are those of x (N, C, H, W) where they are not given."""
    x = _double(x)
    mean = x.mean(axis=(0, 2, 3)) if mean is None else mean
    variance = x.var(axis=(0, 2, 3)) if variance is None else variance
    n = (x - _by_channel(mean)) / np.sqrt(_by_channel(variance) + eps)
    return n * _by_channel(weight) + _by_channel(bias)


def batch_norm2d_backward(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of sum(dy * batch_norm2d(x, weight, bias))."""
    x, dy = _double(x), _double(dy)
    axes, count = (0, 2, 3), x.size // x.shape[1]
    inverse = 1 / np.sqrt(x.var(axis=axes) + eps)
    n = (x - _by_channel(x.mean(axis=axes))) * _by_channel(inverse)
    dn = dy * _by_channel(weight)
    of_mean, of_variance = dn.sum(axis=axes), (dn * n).sum(axis=axes)
    dx = dn - _by_channel(of_mean / count) - n * _by_channel(of_variance / count)
    return dx * _by_channel(inverse), (dy * n).sum(axis=axes), dy.sum(axis=axes)


def dense(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """y[n, o] = bias[o] + sum over i of weight[o, i] * x[n, i]"""
    y = _double(x) @ _double(weight).T
    return y if bias is None else y + _double(bias)


def dense_backward(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of sum(dy * dense(x, weight, bias))."""
    x, weight, dy = _double(x), _double(weight), _double(dy)
    return dy @ weight, dy.T @ x, dy.sum(axis=0)


def tanh(x: ArrayLike) -> Array:
    """Hyperbolic tangent, any shape."""
    return np.tanh(_double(x))


def tanh_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy * (1 - tanh(x)^2), as dy / cosh(x)^2: no digits lost at large x."""
    return _double(dy) / np.cosh(np.clip(_double(x), -300, 300)) ** 2


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), any shape."""
    return 1 / (1 + np.exp(-np.clip(_double(x), -700, 700)))


def sigmoid_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy * sigmoid(x) * sigmoid(-x): no digits lost at large x."""
    return _double(dy) * sigmoid(x) * sigmoid(-_double(x))


def relu(x: ArrayLike) -> Array:
    """max(0, x), any shape."""
    return np.maximum(_double(x), 0)


def relu_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy where x > 0, else 0"""
    return np.where(_double(x) > 0, _double(dy), 0)


def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Array:
    """x where x > 0, else slope * x, any shape."""
    return np.where(_double(x) > 0, _double(x), slope * _double(x))


def leaky_relu_backward(x: ArrayLike, dy: ArrayLike, slope: float = 0.01) -> Array:
    """dx = dy where x > 0, else slope * dy"""
    return np.where(_double(x) > 0, _double(dy), slope * _double(dy))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean over n of -log(softmax(logits[n])[labels[n]])"""
    logs = _log_softmax(_double(logits))
    return float(-logs[np.arange(len(logs)), np.asarray(labels)].mean())


def softmax_cross_entropy_backward(logits: ArrayLike, labels: ArrayLike) -> Array:
    """(softmax(logits) - one-hot(labels)) / N"""
    dlogits = np.exp(_log_softmax(_double(logits)))
    dlogits[np.arange(len(dlogits)), np.asarray(labels)] -= 1
    return dlogits / len(dlogits)


def parameter_shapes(
    layers: Layers, input_shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters by name, found by running one image of zeros."""
    shapes: dict[str, tuple[int, ...]] = {}
    _find_shapes(layers, np.zeros((1, *input_shape)), shapes)
    return shapes


def _find_shapes(layers: Layers, x: Array, shapes: dict[str, tuple[int, ...]]) -> Array:
    """Add the shapes of these layers' parameters; what they make of x."""
    for kind, options in layers:
        if kind == "residual":
            y = _find_shapes(options["layers"], x, shapes)
            x = y + _find_shapes(options.get("shortcut", ()), x, shapes)
            continue
        shape: tuple[int, ...] = ()
        if kind == "conv2d":
            kernel = options["kernel_size"]
            rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
            shape = (options["filters"], x.shape[1], rows, columns)
        elif kind == "dense":
            shape = (options["outputs"], math.prod(x.shape[1:]))
        elif kind == "batch_norm2d":
            shape = (x.shape[1],)
        if shape:
            shapes[f"{options['name']}.weight"] = shape
            if options.get("bias", True):
                shapes[f"{options['name']}.bias"] = shape[:1]
        zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
        x = _layer(kind, options, zeros, x, True)
    return x


def network_forward(
    layers: Layers,
    parameters: Mapping[str, ArrayLike],
    x: ArrayLike,
    training: bool = False,
) -> list[Array]:
    """x, then what each layer makes of it; the last are the logits (N, classes).

    `training` takes the statistics of the batch, not "name.running_mean" and
    "name.running_var" in `parameters` (0 and 1 if they are not there).
    """
    maps = [_double(x)]
    for kind, options in layers:
        maps.append(_layer(kind, options, parameters, maps[-1], training))
    return maps


def network_loss(
    layers: Layers,
    parameters: Mapping[str, ArrayLike],
    x: ArrayLike,
    labels: ArrayLike,
) -> float:
    """Mean softmax cross-entropy of the network's logits in training."""
    logits = network_forward(layers, parameters, x, True)[-1]
    return softmax_cross_entropy(logits.reshape(len(logits), -1), labels)


def network_gradients(
    layers: Layers,
    parameters: Mapping[str, ArrayLike],
    x: ArrayLike,
    labels: ArrayLike,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Gradients of `network_loss` by parameter name, and their magnitudes.

    The magnitude of a gradient, a sum of products, is the sum of the products' absolute
    values: by it, not by the sum, the rounding error is measured.
    """
    gradients: dict[str, Array] = {}
    magnitudes: dict[str, Array] = {}
    logits = network_forward(layers, parameters, x, True)[-1]
    dy = softmax_cross_entropy_backward(logits.reshape(len(logits), -1), labels)
    _backward(layers, parameters, _double(x), dy, gradients, magnitudes)
    return gradients, magnitudes


def _backward(
    layers: Layers,
    parameters: Mapping[str, ArrayLike],
    x: Array,
    dy: Array,
    gradients: dict[str, Array],
    magnitudes: dict[str, Array],
) -> Array:
    """Add the gradients of these layers' parameters; the gradient of x."""
    maps = network_forward(layers, parameters, x, True)
    dy = dy.reshape(maps[-1].shape)
    for (kind, options), before in zip(reversed(layers), maps[-2::-1], strict=True):
        window = _window(kind, options)
        if kind in ("conv2d", "dense", "batch_norm2d"):
            backward = {
                "conv2d": conv2d_backward,
                "dense": dense_backward,
                "batch_norm2d": batch_norm2d_backward,
            }[kind]
            name = options["name"]
            weight = parameters[f"{name}.weight"]
            inputs, outer = _map(before), _map(dy)
            if kind == "dense":
                inputs, outer = (a.reshape(len(a), -1) for a in (inputs, outer))
            dx, dweight, dbias = backward(inputs, weight, outer, **window)
            gradients[f"{name}.weight"] = dweight
            if options.get("bias", True):
                gradients[f"{name}.bias"] = dbias
            if kind == "batch_norm2d":
                n = batch_norm2d(inputs, np.ones(len(dbias)), np.zeros(len(dbias)))
                dbias = np.abs(outer).sum(axis=(0, 2, 3))
                dweight = np.abs(outer * n).sum(axis=(0, 2, 3))
            else:
                _, dweight, dbias = backward(
                    np.abs(inputs), weight, np.abs(outer), **window
                )
            magnitudes |= {f"{name}.weight": dweight, f"{name}.bias": dbias}
            dy = dx.reshape(before.shape)
        elif kind == "residual":
            dy = sum(
                _backward(
                    options.get(branch, ()),
                    parameters,
                    before,
                    dy,
                    gradients,
                    magnitudes,
                )
                for branch in ("layers", "shortcut")
            )
        elif kind == "flatten":
            dy = dy.reshape(before.shape)
        elif kind == "dropout":
            dy = _drop(options, parameters, dy)
        else:
            simple = {
                "avg_pool2d": avg_pool2d_backward,
                "max_pool2d": max_pool2d_backward,
                "global_avg_pool2d": global_avg_pool2d_backward,
                "tanh": tanh_backward,
                "relu": relu_backward,
                "sigmoid": sigmoid_backward,
                "leaky_relu": leaky_relu_backward,
            }[kind]
            dy = simple(_map(before), _map(dy), **window).reshape(before.shape)
    return dy


def _window(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a layer's function takes."""
    wanted = {
        "conv2d": ("stride", "padding"),
        "avg_pool2d": ("kernel_size", "stride"),
        "max_pool2d": ("kernel_size", "stride", "padding"),
        "batch_norm2d": ("eps",),
        "leaky_relu": ("slope",),
    }.get(kind, ())
    return {name: options[name] for name in wanted if name in options}


def _drop(
    options: Mapping[str, Any], parameters: Mapping[str, ArrayLike], x: Array
) -> Array:
    """x times "name.mask" in `parameters`, whose zeros are what is dropped."""
    mask = parameters.get(f"{options['name']}.mask")
    return x if mask is None else x * _double(mask).reshape(x.shape)


def _layer(
    kind: str,
    options: Mapping[str, Any],
    parameters: Mapping[str, ArrayLike],
    x: Array,
    training: bool,
) -> Array:
    if kind == "residual":
        branches = options["layers"], options.get("shortcut", ())
        y, z = (network_forward(b, parameters, x, training)[-1] for b in branches)
        return y + z.reshape(y.shape)
    if kind == "flatten":
        return x.reshape(len(x), -1)
    if kind == "dropout":
        return _drop(options, parameters, x) if training else x
    if kind == "batch_norm2d":
        name = options["name"]
        values = [parameters[f"{name}.weight"], parameters[f"{name}.bias"]]
        if not training:
            zeros = np.zeros(x.shape[1])
            values.append(parameters.get(f"{name}.running_mean", zeros))
            values.append(parameters.get(f"{name}.running_var", zeros + 1))
        y = batch_norm2d(_map(x), *values, **_window(kind, options))
        return y.reshape(x.shape)
    if kind == "dense":
        x = x.reshape(len(x), -1)
    elif kind not in ("tanh", "relu", "sigmoid", "leaky_relu"):
        x = _map(x)
    functions = {
        "conv2d": conv2d,
        "dense": dense,
        "avg_pool2d": avg_pool2d,
        "max_pool2d": max_pool2d,
        "global_avg_pool2d": global_avg_pool2d,
        "tanh": tanh,
        "relu": relu,
        "sigmoid": sigmoid,
        "leaky_relu": leaky_relu,
    }
    if kind not in functions:
        raise ValueError(f"the reference has no layer of kind {kind!r}")
    function = functions[kind]
    if kind in ("conv2d", "dense"):
        weight = parameters[f"{options['name']}.weight"]
        bias = parameters.get(f"{options['name']}.bias")
        return function(x, weight, bias, **_window(kind, options))
    return function(x, **_window(kind, options))
