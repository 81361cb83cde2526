"""The textbook in plain NumPy and float64: to learn from, and to compare with.

It knows nothing of the package. The tests hold every kernel against it, and so does
`lenet5c selftest`; nothing else imports it. Functions have the names and signatures of
`lenet5c.functional`, and each has its formula first; a backward pass stands below its
forward pass. `dy` is the gradient of a number, the loss, by y; a backward pass makes of
it those by x, weight and bias.

A network is a list of (kind, options) such as
``("conv2d", {"name": "C1", "filters": 6, "kernel_size": 5})`` with its parameters in a
dictionary ("C1.weight", "C1.bias"). The options "layers" and "shortcut" of a "residual"
are such lists. `LENET5` is one. Shapes are told by these letters::

    N        images
    C, F     channels in, filters (channels out)
    H W      input map
    OH OW    output map
    KH KW    kernel, or K K for a pooling window
    I, O     inputs and outputs of a dense layer
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LENET5",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm2d",
    "batch_norm2d_backward",
    "conv2d",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "network_forward",
    "network_gradients",
    "network_loss",
    "parameter_shapes",
    "radial_basis",
    "radial_basis_backward",
    "relu",
    "relu_backward",
    "scaled_tanh",
    "scaled_tanh_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "subsampling2d",
    "subsampling2d_backward",
    "tanh",
    "tanh_backward",
]

Array = NDArray[np.float64]
Layers = Sequence[tuple[str, Mapping[str, Any]]]
Connections = Sequence[Sequence[int]]

LENET5: Layers = [
    ("conv2d", {"name": "C1", "filters": 6, "kernel_size": 5}),  # 1@32x32 -> 6@28x28
    ("tanh", {}),
    ("avg_pool2d", {"kernel_size": 2}),  # S2 -> 6@14x14
    ("conv2d", {"name": "C3", "filters": 16, "kernel_size": 5}),  # -> 16@10x10
    ("tanh", {}),
    ("avg_pool2d", {"kernel_size": 2}),  # S4 -> 16@5x5
    ("conv2d", {"name": "C5", "filters": 120, "kernel_size": 5}),  # -> 120@1x1
    ("tanh", {}),
    ("dense", {"name": "F6", "outputs": 84}),
    ("tanh", {}),
    ("dense", {"name": "OUTPUT", "outputs": 10}),
]
"""LeNet-5 as a network of this module."""


def _double(array: ArrayLike) -> Array:
    return np.asarray(array, np.float64)


def _map(x: Array) -> Array:
    """(N, I) as (N, I, 1, 1); a map as it is."""
    return x.reshape(*x.shape, *[1] * (4 - x.ndim))


def _pad(x: Array, padding: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _taps(
    x: Array, kernel: tuple[int, ...], stride: int
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """For each tap of a kernel, in row-major order: its row, its column, and the index
    that takes out of x (N, C, H, W) the pixels (N, C, OH, OW) under this tap.

    So one loop over the few taps does for all outputs at once.
    """
    (rows, columns), (height, width) = kernel, x.shape[2:]
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
    connections: Connections | None = None,
) -> Array:
    """y[n, f, i, j] = bias[f] + sum over c, k, l of
    weight[f, c, k, l] * x[n, c, i * stride + k - padding, j * stride + l - padding]

    A cross-correlation: the kernel is not flipped. x (N, C, H, W), weight
    (F, C, KH, KW), bias (F,), y (N, F, OH, OW). With `connections`, the channels that
    each filter sums over, the weight is (pairs, KH, KW): by filter, then by channel.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> corners = np.array([[[[1, 0], [0, 10]]]])  # upper left, lower right
    >>> lenet5c.reference.conv2d(x, corners, [0.5]).tolist()
    [[[[40.5, 51.5], [73.5, 84.5]]]]
    """
    x, weight = _pad(_double(x), padding), _double(weight)
    if connections is not None:
        weight = _with_zeros(weight, connections, x.shape[1])
    products = (
        # (F, C) x (N, C, OH, OW) -> (F, N, OH, OW)
        np.tensordot(weight[:, :, ky, kx], x[under], axes=(1, 1))
        for ky, kx, under in _taps(x, weight.shape[2:], stride)
    )
    y = np.moveaxis(sum(products, start=np.zeros(())), 0, 1)
    return y if bias is None else y + _by_channel(bias)


def _with_zeros(weight: Array, connections: Connections, channels: int) -> Array:
    """A weight (pairs, KH, KW) as (F, C, KH, KW)."""
    full = np.zeros((len(connections), channels, *weight.shape[1:]))
    full[_pairs(connections)] = weight
    return full


def _pairs(connections: Connections) -> tuple[list[int], list[int]]:
    """The filter and the channel of each pair."""
    listed = [(f, c) for f, channels in enumerate(connections) for c in channels]
    return [f for f, _ in listed], [c for _, c in listed]


def conv2d_backward(
    x: ArrayLike,
    weight: ArrayLike,
    dy: ArrayLike,
    *,
    stride: int = 1,
    padding: int = 0,
    connections: Connections | None = None,
) -> tuple[Array, Array, Array]:
    """| dx[n, c, i + k, j + l] = sum over f, k, l of
      dy[n, f, i, j] * weight[f, c, k, l]
    | dweight[f, c, k, l] = sum over n, i, j of dy[n, f, i, j] * x[n, c, i + k, j + l]
    | dbias[f] = sum over n, i, j of dy[n, f, i, j]

    with i * stride + k - padding for i + k, likewise j + l: each product of `conv2d`
    gives its two factors their gradients. Returns (dx, dweight, dbias), in the shapes
    of x, weight and bias.

    Examples
    --------
    >>> x, weight = np.ones((1, 1, 2, 2)), [[[[1, 2], [3, 4]]]]
    >>> dx, dweight, dbias = lenet5c.reference.conv2d_backward(x, weight, [[[[10]]]])
    >>> dx.tolist()  # dy times the weights, and the other way round
    [[[[10.0, 20.0], [30.0, 40.0]]]]
    >>> dweight.tolist(), dbias.tolist()
    ([[[[10.0, 10.0], [10.0, 10.0]]]], [10.0])
    """
    x, weight, dy = _pad(_double(x), padding), _double(weight), _double(dy)
    if connections is not None:
        weight = _with_zeros(weight, connections, x.shape[1])
    height, width = x.shape[2:]
    dx = np.zeros_like(x)
    dweight = np.zeros_like(weight)
    for ky, kx, under in _taps(x, weight.shape[2:], stride):
        # (F, C) x (N, F, OH, OW) -> (C, N, OH, OW)
        dx[under] += np.moveaxis(
            np.tensordot(weight[:, :, ky, kx], dy, axes=(0, 1)), 0, 1
        )
        # (N, F, OH, OW) x (N, C, OH, OW) -> (F, C)
        dweight[:, :, ky, kx] = np.tensordot(dy, x[under], axes=([0, 2, 3], [0, 2, 3]))
    inner = np.s_[..., padding : height - padding, padding : width - padding]
    if connections is not None:
        dweight = dweight[_pairs(connections)]
    return dx[inner], dweight, dy.sum(axis=(0, 2, 3))


def avg_pool2d(
    x: ArrayLike, kernel_size: int = 2, *, stride: int | None = None
) -> Array:
    """y[n, c, i, j] = mean over k, l < K of x[n, c, i * stride + k, j * stride + l]

    x (N, C, H, W); the stride is the window's side K if none is given. What no window
    covers at the right and below is left out.

    Examples
    --------
    >>> lenet5c.reference.avg_pool2d([[[[1, 2, 9], [3, 6, 9]]]]).tolist()
    [[[[3.0]]]]
    """
    x = _double(x)
    taps = _taps(x, (kernel_size, kernel_size), stride or kernel_size)
    return sum((x[under] for _, _, under in taps), start=np.zeros(())) / kernel_size**2


def avg_pool2d_backward(
    x: ArrayLike, dy: ArrayLike, kernel_size: int = 2, *, stride: int | None = None
) -> Array:
    """dx[n, c, i * stride + k, j * stride + l] += dy[n, c, i, j] / K^2 for k, l < K

    Each pixel of a window has the same share of its mean; windows may overlap.

    Examples
    --------
    >>> x = np.zeros((1, 1, 2, 3))
    >>> lenet5c.reference.avg_pool2d_backward(x, [[[[4]]]]).tolist()
    [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]]]
    """
    x, dy = _double(x), _double(dy)
    dx = np.zeros_like(x)
    taps = _taps(x, (kernel_size, kernel_size), stride or kernel_size)
    for _, _, under in taps:
        dx[under] += dy / kernel_size**2
    return dx


def subsampling2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
) -> Array:
    """y[n, c, i, j] = bias[c] + weight[c] * sum over k, l < K of x[n, c, i * stride +
    k, j * stride + l]

    weight and bias (C,); the rest as in `avg_pool2d` (LeCun et al. 1998, section II.B).

    Examples
    --------
    >>> x = [[[[1, 2, 9], [3, 6, 9]]]]
    >>> lenet5c.reference.subsampling2d(x, [0.5], [10]).tolist()
    [[[[16.0]]]]
    """
    sums = kernel_size**2 * avg_pool2d(x, kernel_size, stride=stride)
    return _double(weight)[:, None, None] * sums + _double(bias)[:, None, None]


def subsampling2d_backward(
    x: ArrayLike,
    weight: ArrayLike,
    dy: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
) -> tuple[Array, Array, Array]:
    """| dx[n, c, i * stride + k, j * stride + l] += weight[c] * dy[n, c, i, j]
    | dweight[c] = sum over n, i, j of dy[n, c, i, j] * the sum of the window
    | dbias[c] = sum over n, i, j of dy[n, c, i, j]

    Returns (dx, dweight, dbias), in the shapes of x, weight and bias.

    Examples
    --------
    >>> x, dy = [[[[1, 2], [3, 6]]]], [[[[4]]]]
    >>> dx, *parameters = lenet5c.reference.subsampling2d_backward(x, [0.5], dy)
    >>> dx.tolist(), [gradient.tolist() for gradient in parameters]
    ([[[[2.0, 2.0], [2.0, 2.0]]]], [[48.0], [4.0]])
    """
    weight, dy, area = _double(weight), _double(dy), kernel_size**2
    of_sums = area * weight[:, None, None] * dy
    sums = area * avg_pool2d(x, kernel_size, stride=stride)
    return (
        avg_pool2d_backward(x, of_sums, kernel_size, stride=stride),
        (dy * sums).sum(axis=(0, 2, 3)),
        dy.sum(axis=(0, 2, 3)),
    )


def _pad_with_less(x: Array, padding: int) -> Array:
    """x with sides that are less than any number."""
    sides = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    return np.pad(x, sides, constant_values=-np.inf)


def max_pool2d(
    x: ArrayLike, kernel_size: int = 2, *, stride: int | None = None, padding: int = 0
) -> Array:
    """y[n, c, i, j] = max over k, l < K of x[n, c, i * stride + k - padding,
    j * stride + l - padding], where there is a pixel

    Examples
    --------
    >>> lenet5c.reference.max_pool2d([[[[1, 2, 9], [3, 6, 9]]]]).tolist()
    [[[[6.0]]]]
    """
    x = _pad_with_less(_double(x), padding)
    taps = _taps(x, (kernel_size, kernel_size), stride or kernel_size)
    return _double(np.max([x[under] for _, _, under in taps], axis=0))


def max_pool2d_backward(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    padding: int = 0,
) -> Array:
    """dx at the first maximum of a window, in row-major order, += dy[n, c, i, j]

    Examples
    --------
    >>> lenet5c.reference.max_pool2d_backward([[[[1, 6], [3, 6]]]], [[[[4]]]]).tolist()
    [[[[0.0, 4.0], [0.0, 0.0]]]]
    """
    x, dy = _pad_with_less(_double(x), padding), _double(dy)
    dx = np.zeros_like(x)
    taps = list(_taps(x, (kernel_size, kernel_size), stride or kernel_size))
    first = np.argmax([x[under] for _, _, under in taps], axis=0)
    for number, (_, _, under) in enumerate(taps):
        dx[under] += np.where(first == number, dy, 0)
    height, width = x.shape[2:]
    return dx[..., padding : height - padding, padding : width - padding]


def global_avg_pool2d(x: ArrayLike) -> Array:
    """y[n, c, 0, 0] = mean of x[n, c]

    x (N, C, H, W), y (N, C, 1, 1).

    Examples
    --------
    >>> lenet5c.reference.global_avg_pool2d([[[[1, 2], [3, 6]]]]).tolist()
    [[[[3.0]]]]
    """
    return _double(_double(x).mean(axis=(2, 3), keepdims=True))


def global_avg_pool2d_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx[n, c, i, j] = dy[n, c, 0, 0] / (H W)

    x (N, C, H, W), dy (N, C, 1, 1).

    Examples
    --------
    >>> x = np.zeros((1, 1, 2, 2))
    >>> lenet5c.reference.global_avg_pool2d_backward(x, [[[[4]]]]).tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """
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
    """y = weight (x - mean) / sqrt(variance + eps) + bias, channel by channel

    Mean and variance are those of x (N, C, H, W) over images and pixels, the variance
    divided by their number, where they are not given.

    Examples
    --------
    >>> x = [[[[1, 3]]]]  # mean 2, deviation 1
    >>> y = lenet5c.reference.batch_norm2d(x, weight=[10], bias=[0.5])
    >>> y.round(3).tolist()
    [[[[-9.5, 10.5]]]]
    """
    x = _double(x)
    mean = x.mean(axis=(0, 2, 3)) if mean is None else mean
    variance = x.var(axis=(0, 2, 3)) if variance is None else variance
    n = (x - _by_channel(mean)) / np.sqrt(_by_channel(variance) + eps)
    return n * _by_channel(weight) + _by_channel(bias)


def batch_norm2d_backward(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """dx = (dn - mean(dn) - n mean(dn n)) / sqrt(variance + eps), dn = weight dy

    with n = (x - mean) / sqrt(variance + eps), and mean and variance those of x: both
    move along with x, which takes two means off. Returns (dx, dweight, dbias), where
    dweight = sum of dy n and dbias = sum of dy in each channel.

    Examples
    --------
    >>> x, dy = np.array([[[[1, 3]]]]), np.array([[[[2, 5]]]])
    >>> dx, dweight, dbias = lenet5c.reference.batch_norm2d_backward(x, [10], dy)
    >>> dweight.round(3).tolist(), dbias.tolist()  # n is -1 and 1
    ([3.0], [7.0])
    >>> bool(abs(dx.sum()) < 1e-9)  # to add a number to x changes nothing
    True
    """
    x, dy = _double(x), _double(dy)
    axes, count = (0, 2, 3), x.size // x.shape[1]
    inverse = 1 / np.sqrt(x.var(axis=axes) + eps)
    n = (x - _by_channel(x.mean(axis=axes))) * _by_channel(inverse)
    dn = dy * _by_channel(weight)
    of_mean, of_variance = dn.sum(axis=axes), (dn * n).sum(axis=axes)
    dx = dn - _by_channel(of_mean / count) - n * _by_channel(of_variance / count)
    return dx * _by_channel(inverse), (dy * n).sum(axis=axes), dy.sum(axis=axes)


def dense(x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """y[n, o] = bias[o] + sum over i of weight[o, i] * x[n, i]

    x (N, I), weight (O, I), bias (O,), y (N, O).

    Examples
    --------
    >>> lenet5c.reference.dense([[1, 2]], [[10, 1], [0, 3]], [0.5, 0]).tolist()
    [[12.5, 6.0]]
    """
    y = _double(x) @ _double(weight).T
    return y if bias is None else y + _double(bias)


def dense_backward(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike
) -> tuple[Array, Array, Array]:
    """| dx[n, i] = sum over o of dy[n, o] * weight[o, i]
    | dweight[o, i] = sum over n of dy[n, o] * x[n, i]
    | dbias[o] = sum over n of dy[n, o]

    Returns (dx, dweight, dbias), in the shapes of x, weight and bias.

    Examples
    --------
    >>> x, dy, weight = [[1, 2]], [[1, 2]], [[10, 1], [0, 3]]
    >>> dx, dweight, dbias = lenet5c.reference.dense_backward(x, weight, dy)
    >>> dx.tolist(), dweight.tolist(), dbias.tolist()
    ([[10.0, 7.0]], [[1.0, 2.0], [2.0, 4.0]], [1.0, 2.0])
    """
    x, weight, dy = _double(x), _double(weight), _double(dy)
    return dy @ weight, dy.T @ x, dy.sum(axis=0)


def radial_basis(x: ArrayLike, codes: ArrayLike) -> Array:
    """y[n, i] = - sum over j of (x[n, j] - codes[i, j])^2

    x (N, I), codes (O, I), y (N, O): LeCun et al. 1998, eq. 7, but for the sign.

    Examples
    --------
    >>> lenet5c.reference.radial_basis([[1, 2]], [[1, 2], [-1, 1]]).tolist()
    [[-0.0, -5.0]]
    """
    differences = _double(x)[:, None] - _double(codes)  # (N, O, I)
    return _double(-np.square(differences).sum(axis=2))


def radial_basis_backward(x: ArrayLike, codes: ArrayLike, dy: ArrayLike) -> Array:
    """dx[n, j] = sum over i of -2 dy[n, i] (x[n, j] - codes[i, j])

    Examples
    --------
    >>> codes = [[1, 2], [-1, 1]]
    >>> lenet5c.reference.radial_basis_backward([[1, 2]], codes, [[5, 10]]).tolist()
    [[-40.0, -20.0]]
    """
    differences = _double(x)[:, None] - _double(codes)  # (N, O, I)
    return _double(-2 * (_double(dy)[:, :, None] * differences).sum(axis=1))


def tanh(x: ArrayLike) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)), any shape.

    Examples
    --------
    >>> lenet5c.reference.tanh([-100, 0, 100]).tolist()
    [-1.0, 0.0, 1.0]
    """
    return _double(np.tanh(_double(x)))


def tanh_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy * (1 - tanh(x)^2), as dy / cosh(x)^2: no digits lost at large x.

    Examples
    --------
    >>> lenet5c.reference.tanh_backward([0, 100], [5, 5]).round(6).tolist()
    [5.0, 0.0]
    """
    return _double(_double(dy) / np.cosh(np.clip(_double(x), -300, 300)) ** 2)


def scaled_tanh(x: ArrayLike) -> Array:
    """1.7159 tanh(2 x / 3), any shape (LeCun et al. 1998, appendix A).

    Examples
    --------
    >>> lenet5c.reference.scaled_tanh([-100, 0, 1]).round(4).tolist()
    [-1.7159, 0.0, 1.0]
    """
    return 1.7159 * tanh(2 / 3 * _double(x))


def scaled_tanh_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy * 1.7159 * 2/3 * (1 - tanh(2 x / 3)^2)

    Examples
    --------
    >>> lenet5c.reference.scaled_tanh_backward([0, 100], [3, 3]).round(6).tolist()
    [3.4318, 0.0]
    """
    return 1.7159 * 2 / 3 * tanh_backward(2 / 3 * _double(x), dy)


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), any shape.

    Examples
    --------
    >>> lenet5c.reference.sigmoid([-100, 0, 100]).round(6).tolist()
    [0.0, 0.5, 1.0]
    """
    return 1 / (1 + np.exp(-np.clip(_double(x), -700, 700)))


def sigmoid_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy * sigmoid(x) * sigmoid(-x): no digits lost at large x.

    Examples
    --------
    >>> lenet5c.reference.sigmoid_backward([0], [4]).tolist()  # 4 / 2 / 2
    [1.0]
    """
    return _double(dy) * sigmoid(x) * sigmoid(-_double(x))


def relu(x: ArrayLike) -> Array:
    """max(0, x), any shape.

    Examples
    --------
    >>> lenet5c.reference.relu([-2, 0, 3]).tolist()
    [0.0, 0.0, 3.0]
    """
    return np.maximum(_double(x), 0)


def relu_backward(x: ArrayLike, dy: ArrayLike) -> Array:
    """dx = dy where x > 0, else 0

    Examples
    --------
    >>> lenet5c.reference.relu_backward([-2, 3], [5, 5]).tolist()
    [0.0, 5.0]
    """
    return np.where(_double(x) > 0, _double(dy), 0)


def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Array:
    """x where x > 0, else slope * x, any shape.

    Examples
    --------
    >>> lenet5c.reference.leaky_relu([-2, 3], slope=0.25).tolist()
    [-0.5, 3.0]
    """
    return np.where(_double(x) > 0, _double(x), slope * _double(x))


def leaky_relu_backward(x: ArrayLike, dy: ArrayLike, slope: float = 0.01) -> Array:
    """dx = dy where x > 0, else slope * dy

    Examples
    --------
    >>> lenet5c.reference.leaky_relu_backward([-2, 3], [4, 4], 0.25).tolist()
    [1.0, 4.0]
    """
    return np.where(_double(x) > 0, _double(dy), slope * _double(dy))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return _double(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Mean over n of -log(softmax(z[n])[labels[n]]), softmax(z) = exp(z) / sum(exp(z))

    z, the logits, (N, classes); labels (N,), whole numbers from 0. The logarithm is
    z - max(z) - log(sum(exp(z - max(z)))): neither overflows nor becomes log(0).

    Examples
    --------
    >>> loss = lenet5c.reference.softmax_cross_entropy([[0, 0], [1000, 0]], [0, 1])
    >>> round(loss, 4)  # the mean of log(2) and 1000
    500.3466
    """
    logs = _log_softmax(_double(logits))
    return float(-logs[np.arange(len(logs)), np.asarray(labels)].mean())


def softmax_cross_entropy_backward(logits: ArrayLike, labels: ArrayLike) -> Array:
    """dz = (softmax(z) - one-hot(labels)) / N

    Examples
    --------
    >>> lenet5c.reference.softmax_cross_entropy_backward([[0, 0]], [1]).tolist()
    [[0.5, -0.5]]
    """
    dlogits = np.exp(_log_softmax(_double(logits)))
    dlogits[np.arange(len(dlogits)), np.asarray(labels)] -= 1
    return dlogits / len(dlogits)


def parameter_shapes(
    layers: Layers, input_shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters by name, found by running one image of zeros.

    Examples
    --------
    >>> layers = lenet5c.reference.LENET5
    >>> shapes = lenet5c.reference.parameter_shapes(layers, (1, 32, 32))
    >>> shapes["C3.weight"]
    (16, 6, 5, 5)
    >>> sum(int(np.prod(shape)) for shape in shapes.values())
    61706
    """
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
            if (connections := options.get("connections")) is not None:
                shape = (sum(map(len, connections)), rows, columns)
        elif kind == "dense":
            shape = (options["outputs"], math.prod(x.shape[1:]))
        elif kind in ("batch_norm2d", "subsampling2d"):
            shape = (x.shape[1],)
        if shape:
            shapes[f"{options['name']}.weight"] = shape
            if options.get("bias", True):
                outputs = options.get("filters", shape[0])
                shapes[f"{options['name']}.bias"] = (outputs,)
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

    Raises
    ------
    ValueError
        If there is a layer of a kind that is not here.
    KeyError
        If a parameter is missing.

    Examples
    --------
    >>> layers = [("dense", {"name": "A", "outputs": 2}), ("relu", {})]
    >>> parameters = {"A.weight": [[1, 0], [0, 1]], "A.bias": [0, 10]}
    >>> maps = lenet5c.reference.network_forward(layers, parameters, [[-3, 4]])
    >>> [y.tolist() for y in maps]
    [[[-3.0, 4.0]], [[-3.0, 14.0]], [[0.0, 14.0]]]
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
    """Mean softmax cross-entropy of the network's logits in training.

    Examples
    --------
    >>> layers = [("dense", {"name": "A", "outputs": 2})]
    >>> zeros = {"A.weight": np.zeros((2, 3)), "A.bias": np.zeros(2)}
    >>> loss = lenet5c.reference.network_loss(layers, zeros, [[1, 2, 3]], [0])
    >>> round(loss, 4)  # log(2)
    0.6931
    """
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

    Examples
    --------
    >>> layers = [("dense", {"name": "A", "outputs": 2})]
    >>> zeros = {"A.weight": np.zeros((2, 3)), "A.bias": np.zeros(2)}
    >>> network = layers, zeros
    >>> gradients, _ = lenet5c.reference.network_gradients(*network, [[1, 2, 3]], [0])
    >>> gradients["A.bias"].tolist()  # (softmax - one-hot) / N
    [-0.5, 0.5]
    >>> gradients["A.weight"].tolist()  # that, times x
    [[-0.5, -1.0, -1.5], [0.5, 1.0, 1.5]]
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
        if kind in ("conv2d", "dense", "subsampling2d", "batch_norm2d"):
            backward = {
                "conv2d": conv2d_backward,
                "dense": dense_backward,
                "subsampling2d": subsampling2d_backward,
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
            branches = options["layers"], options.get("shortcut", ())
            y, z = (
                _backward(branch, parameters, before, dy, gradients, magnitudes)
                for branch in branches
            )
            dy = y + z
        elif kind == "flatten":
            dy = dy.reshape(before.shape)
        elif kind == "dropout":
            dy = _drop(options, parameters, dy)
        elif kind == "radial_basis":
            codes = parameters[f"{options['name']}.codes"]
            flat = before.reshape(len(before), -1)
            dy = radial_basis_backward(flat, codes, dy).reshape(before.shape)
        else:
            simple: dict[str, Callable[..., Array]] = {
                "avg_pool2d": avg_pool2d_backward,
                "max_pool2d": max_pool2d_backward,
                "global_avg_pool2d": global_avg_pool2d_backward,
                "tanh": tanh_backward,
                "scaled_tanh": scaled_tanh_backward,
                "relu": relu_backward,
                "sigmoid": sigmoid_backward,
                "leaky_relu": leaky_relu_backward,
            }
            dy = simple[kind](_map(before), _map(dy), **window).reshape(before.shape)
    return dy


def _window(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a layer's function takes."""
    wanted = {
        "conv2d": ("stride", "padding", "connections"),
        "avg_pool2d": ("kernel_size", "stride"),
        "subsampling2d": ("kernel_size", "stride"),
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
    if kind == "radial_basis":
        return radial_basis(
            x.reshape(len(x), -1), parameters[f"{options['name']}.codes"]
        )
    if kind == "dense":
        x = x.reshape(len(x), -1)
    elif kind not in ("tanh", "scaled_tanh", "relu", "sigmoid", "leaky_relu"):
        x = _map(x)
    functions: dict[str, Callable[..., Array]] = {
        "conv2d": conv2d,
        "dense": dense,
        "avg_pool2d": avg_pool2d,
        "subsampling2d": subsampling2d,
        "max_pool2d": max_pool2d,
        "global_avg_pool2d": global_avg_pool2d,
        "tanh": tanh,
        "scaled_tanh": scaled_tanh,
        "relu": relu,
        "sigmoid": sigmoid,
        "leaky_relu": leaky_relu,
    }
    if kind not in functions:
        raise ValueError(f"the reference has no layer of kind {kind!r}")
    function = functions[kind]
    if kind in ("conv2d", "dense", "subsampling2d"):
        weight = parameters[f"{options['name']}.weight"]
        bias = parameters.get(f"{options['name']}.bias")
        return function(x, weight, bias, **_window(kind, options))
    return function(x, **_window(kind, options))
