"""One layer at a time on NCHW arrays: the core's kernels for tests, learning and reuse.

All arrays are floating point, are computed in float32, and are returned as float32. One
of another kind is a TypeError, one of another shape a ValueError that names it. NaN and
infinities are computed with as they are, but for max pooling, where a NaN may be passed
over.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, floats
from lenet5c._support.cores import core
from lenet5c._support.threads import resolve_threads
from lenet5c.graph import for_core, lower
from lenet5c.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)

__all__ = [
    "avg_pool2d",
    "avg_pool2d_backward",
    "conv2d",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "max_pool2d",
    "max_pool2d_backward",
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

Array = NDArray[np.float32]
AS_IT_IS = (1.0, 0.0, 0.0, 1.0, -0.0)  # InputStage.for_core()


def network_of(
    layer: Layer, shape: tuple[int, int, int], gradient: bool = False
) -> tuple[Any, tuple[int, int, int]]:
    """A network of one layer alone, each sum as it is written, and its output shape.

    `gradient` tells whether the gradient of what it reads will be asked for.
    """
    nodes = for_core(lower([layer], shape, training=True), gradient)
    plain = [node | {"plain": True} for node in nodes]
    return core.Network(plain, shape), layer.output_shape(shape)


def _forward(layer: Layer, x: Array, parameters: Array, threads: int | None) -> Array:
    network, shape = network_of(layer, x.shape[1:])
    y = np.empty((len(x), int(np.prod(shape))), np.float32)
    network.forward(parameters, x, AS_IT_IS, y, resolve_threads(threads))
    return y.reshape(len(x), *shape)


def _backward(
    layer: Layer, x: Array, parameters: Array, dy: ArrayLike, threads: int | None
) -> tuple[Array, Array]:
    """dx, and the gradient of the parameters as one vector."""
    network, shape = network_of(layer, x.shape[1:], gradient=True)
    flat = floats("dy", dy, (len(x), *shape)).reshape(len(x), -1)
    gradient = np.empty_like(parameters)
    dx = np.empty_like(x)
    network.backward(
        parameters,
        x,
        AS_IT_IS,
        flat,
        gradient,
        dx.reshape(len(x), -1),
        resolve_threads(threads),
    )
    return dx, gradient


NONE = np.empty(0, np.float32)


def _conv_arguments(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: int,
    padding: int,
    connections: Sequence[Sequence[int]] | None,
) -> tuple[Conv2d, Array, Array]:
    """The layer, x, and weight and bias as one vector."""
    x = floats("x", x, (None, None, None, None))
    if connections is None:
        weight = floats("weight", weight, (None, x.shape[1], None, None))
        filters = weight.shape[0]
    else:
        weight = floats("weight", weight, (None, None, None))
        filters = len(connections) if isinstance(connections, Sequence) else 1
    layer = Conv2d(
        *(filters, weight.shape[-2:]),
        stride=stride,
        padding=padding,
        connections=connections,
    )
    layer.output_shape(x.shape[1:])
    expected = layer.parameter_shapes(x.shape[1:])["weight"]
    if weight.shape != expected:
        raise ValueError(f"weight: expected the shape {expected}, got {weight.shape}")
    return layer, x, _joined(weight, bias, filters)


def _joined(weight: Array, bias: ArrayLike | None, outputs: int) -> Array:
    if bias is None:
        bias = np.zeros(outputs, np.float32)
    return np.concatenate([weight.ravel(), floats("bias", bias, (outputs,))])


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    connections: Sequence[Sequence[int]] | None = None,
    threads: int | None = None,
) -> Array:
    """y[n, f, i, j] = bias[f] + sum over c, k, l of weight[f, c, k, l] * x[n, c, i' +
    k, j' + l]

    with i' = i * stride - padding, likewise j', and zeros outside of x.

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (F, C, KH, KW), or (pairs, KH, KW) with `connections`
    bias : (F,) or None
    stride, padding : int
    connections : sequence of sequence of int, or None
        For each filter the channels that it reads, as of `Conv2d`.
    threads : int or None

    Returns
    -------
    (N, F, OH, OW) float32, OH = (H + 2 padding - KH) // stride + 1

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape, or the kernel larger than padded x.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> corners = [[[[1.0, 0.0], [0.0, 10.0]]]]  # upper left and lower right
    >>> lenet5c.functional.conv2d(x, corners, [0.5]).tolist()
    [[[[40.5, 51.5], [73.5, 84.5]]]]
    """
    layer, x, parameters = _conv_arguments(
        x, weight, bias, stride, padding, connections
    )
    return _forward(layer, x, parameters, threads)


def conv2d_backward(
    x: ArrayLike,
    weight: ArrayLike,
    dy: ArrayLike,
    *,
    stride: int = 1,
    padding: int = 0,
    connections: Sequence[Sequence[int]] | None = None,
    threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of sum(dy * conv2d(x, weight, bias)).

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (F, C, KH, KW), or (pairs, KH, KW) with `connections`
    dy : (N, F, OH, OW)
        Gradient by the output.
    stride, padding : int
    connections : sequence of sequence of int, or None
        For each filter the channels that it reads, as of `Conv2d`.
    threads : int or None

    Returns
    -------
    dx : (N, C, H, W) float32
    dweight : float32, of the shape of weight
    dbias : (F,) float32

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape, or the kernel larger than padded x.

    Examples
    --------
    >>> x, weight = np.ones((1, 1, 2, 2)), [[[[1.0, 2.0], [3.0, 4.0]]]]
    >>> dx, dweight, dbias = lenet5c.functional.conv2d_backward(x, weight, [[[[10.0]]]])
    >>> dx.tolist()  # dy times the weights, and the other way round
    [[[[10.0, 20.0], [30.0, 40.0]]]]
    >>> dweight.tolist(), dbias.tolist()
    ([[[[10.0, 10.0], [10.0, 10.0]]]], [10.0])
    """
    layer, x, parameters = _conv_arguments(
        x, weight, None, stride, padding, connections
    )
    dx, gradient = _backward(layer, x, parameters, dy, threads)
    size = gradient.size - layer.filters
    shape = layer.parameter_shapes(x.shape[1:])["weight"]
    return dx, gradient[:size].reshape(shape), gradient[size:]


def dense(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    threads: int | None = None,
) -> Array:
    """y[n, o] = bias[o] + sum over i of weight[o, i] * x[n, i]

    Parameters
    ----------
    x : (N, I)
    weight : (O, I)
    bias : (O,) or None
    threads : int or None

    Returns
    -------
    (N, O) float32

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape.

    Examples
    --------
    >>> weight = [[10.0, 1.0], [0.0, 3.0]]
    >>> lenet5c.functional.dense([[1.0, 2.0]], weight, [0.5, 0.0]).tolist()
    [[12.5, 6.0]]
    """
    x = floats("x", x, (None, None))
    weight = floats("weight", weight, (None, x.shape[1]))
    layer = Dense(weight.shape[0])
    parameters = _joined(weight, bias, layer.outputs)
    return _forward(layer, x[:, :, None, None], parameters, threads)[:, :, 0, 0]


def dense_backward(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike, *, threads: int | None = None
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of sum(dy * dense(x, weight, bias)).

    Parameters
    ----------
    x : (N, I)
    weight : (O, I)
    dy : (N, O)
        Gradient by the output.
    threads : int or None

    Returns
    -------
    dx : (N, I) float32
    dweight : (O, I) float32
    dbias : (O,) float32

    Examples
    --------
    >>> x, dy, weight = [[1.0, 2.0]], [[1.0, 2.0]], [[10.0, 1.0], [0.0, 3.0]]
    >>> dx, dweight, dbias = lenet5c.functional.dense_backward(x, weight, dy)
    >>> dx.tolist(), dweight.tolist(), dbias.tolist()
    ([[10.0, 7.0]], [[1.0, 2.0], [2.0, 4.0]], [1.0, 2.0])
    """
    x = floats("x", x, (None, None))
    weight = floats("weight", weight, (None, x.shape[1]))
    layer = Dense(weight.shape[0])
    dy = floats("dy", dy, (len(x), layer.outputs))
    dx, gradient = _backward(
        layer,
        x[:, :, None, None],
        _joined(weight, None, layer.outputs),
        dy[:, :, None, None],
        threads,
    )
    return (
        dx[:, :, 0, 0],
        gradient[: weight.size].reshape(weight.shape),
        gradient[weight.size :],
    )


def avg_pool2d(
    x: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    threads: int | None = None,
) -> Array:
    """Mean of kernel_size x kernel_size windows, `stride` (default: the window) apart.

    x is (N, C, H, W); what no window covers at the right and below is left out.

    Parameters
    ----------
    x : (N, C, H, W)
    kernel_size : int
        Rows and columns of a window.
    stride : int or None
    threads : int or None

    Returns
    -------
    (N, C, OH, OW) float32, OH = (H - kernel_size) // stride + 1

    Raises
    ------
    TypeError, ValueError
        If x is of another kind or shape, or smaller than a window.

    Examples
    --------
    >>> lenet5c.functional.avg_pool2d([[[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]]]).tolist()
    [[[[3.0]]]]
    """
    x = floats("x", x, (None, None, None, None))
    return _forward(AvgPool2d(kernel_size, stride), x, NONE, threads)


def avg_pool2d_backward(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    threads: int | None = None,
) -> Array:
    """Gradient dx of sum(dy * avg_pool2d(x)).

    Each pixel of a window has the same share of its mean.

    Parameters
    ----------
    x : (N, C, H, W)
    dy : (N, C, OH, OW)
        Gradient by the output.
    kernel_size : int
    stride : int or None
    threads : int or None

    Returns
    -------
    (N, C, H, W) float32

    Examples
    --------
    >>> x = np.zeros((1, 1, 2, 3))
    >>> lenet5c.functional.avg_pool2d_backward(x, [[[[4.0]]]]).tolist()
    [[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]]]
    """
    x = floats("x", x, (None, None, None, None))
    return _backward(AvgPool2d(kernel_size, stride), x, NONE, dy, threads)[0]


def subsampling2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    threads: int | None = None,
) -> Array:
    """y[n, c, i, j] = bias[c] + weight[c] * sum over k, l < K of x[n, c, i * stride +
    k, j * stride + l]

    The subsampling of LeCun et al. 1998, section II.B.

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (C,)
    bias : (C,) or None
    kernel_size : int
        Rows and columns of a window.
    stride : int or None
        None is the window's size.
    threads : int or None

    Returns
    -------
    (N, C, OH, OW) float32, OH = (H - kernel_size) // stride + 1

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape, or x smaller than a window.

    Examples
    --------
    >>> x = [[[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]]]
    >>> lenet5c.functional.subsampling2d(x, [0.5], [10.0]).tolist()
    [[[[16.0]]]]
    """
    x = floats("x", x, (None, None, None, None))
    weight = floats("weight", weight, x.shape[1:2])
    parameters = _joined(weight, bias, weight.size)
    return _forward(Subsampling2d(kernel_size, stride), x, parameters, threads)


def subsampling2d_backward(
    x: ArrayLike,
    weight: ArrayLike,
    dy: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    threads: int | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of sum(dy * subsampling2d(x, weight, bias)).

    Parameters
    ----------
    x : (N, C, H, W)
    weight : (C,)
    dy : (N, C, OH, OW)
        Gradient by the output.
    kernel_size : int
    stride : int or None
    threads : int or None

    Returns
    -------
    dx : (N, C, H, W) float32
    dweight, dbias : (C,) float32

    Examples
    --------
    >>> x, dy = [[[[1.0, 2.0], [3.0, 6.0]]]], [[[[4.0]]]]
    >>> dx, *parameters = lenet5c.functional.subsampling2d_backward(x, [0.5], dy)
    >>> dx.tolist(), [gradient.tolist() for gradient in parameters]
    ([[[[2.0, 2.0], [2.0, 2.0]]]], [[48.0], [4.0]])
    """
    x = floats("x", x, (None, None, None, None))
    weight = floats("weight", weight, x.shape[1:2])
    layer = Subsampling2d(kernel_size, stride)
    parameters = _joined(weight, None, weight.size)
    dx, gradient = _backward(layer, x, parameters, dy, threads)
    return dx, gradient[: weight.size], gradient[weight.size :]


def max_pool2d(
    x: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    threads: int | None = None,
) -> Array:
    """Maximum of kernel_size x kernel_size windows, `stride` (default: that) apart.

    Parameters
    ----------
    x : (N, C, H, W)
        What no window covers at the right and below is left out.
    kernel_size : int
        Rows and columns of a window.
    stride : int or None
    threads : int or None

    Returns
    -------
    (N, C, OH, OW) float32, OH = (H - kernel_size) // stride + 1

    Raises
    ------
    TypeError, ValueError
        If x is of another kind or shape, or smaller than a window.

    Examples
    --------
    >>> lenet5c.functional.max_pool2d([[[[1.0, 2.0, 9.0], [3.0, 6.0, 9.0]]]]).tolist()
    [[[[6.0]]]]
    """
    x = floats("x", x, (None, None, None, None))
    return _forward(MaxPool2d(kernel_size, stride), x, NONE, threads)


def max_pool2d_backward(
    x: ArrayLike,
    dy: ArrayLike,
    kernel_size: int = 2,
    *,
    stride: int | None = None,
    threads: int | None = None,
) -> Array:
    """Gradient dx of sum(dy * max_pool2d(x)), all to a window's first maximum.

    Parameters
    ----------
    x : (N, C, H, W)
    dy : (N, C, OH, OW)
        Gradient by the output.
    kernel_size : int
    stride : int or None
    threads : int or None

    Returns
    -------
    (N, C, H, W) float32

    Examples
    --------
    >>> x = [[[[1.0, 6.0], [3.0, 6.0]]]]
    >>> lenet5c.functional.max_pool2d_backward(x, [[[[4.0]]]]).tolist()
    [[[[0.0, 4.0], [0.0, 0.0]]]]
    """
    x = floats("x", x, (None, None, None, None))
    return _backward(MaxPool2d(kernel_size, stride), x, NONE, dy, threads)[0]


def _radial_basis_arguments(
    x: ArrayLike, codes: ArrayLike
) -> tuple[RadialBasis, Array, Array]:
    """The layer, x as maps, and the codes as the state of a network."""
    x = floats("x", x, (None, None))
    codes = floats("codes", codes, (None, x.shape[1]))
    return RadialBasis(len(codes)), x[:, :, None, None], codes.ravel()


def radial_basis(
    x: ArrayLike, codes: ArrayLike, *, threads: int | None = None
) -> Array:
    """y[n, i] = - sum over j of (x[n, j] - codes[i, j])^2

    Parameters
    ----------
    x : (N, I)
    codes : (O, I)
    threads : int or None

    Returns
    -------
    (N, O) float32

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape.

    Examples
    --------
    >>> x, codes = [[1.0, 2.0]], [[1.0, 2.0], [-1.0, 1.0]]
    >>> lenet5c.functional.radial_basis(x, codes).tolist()
    [[0.0, -5.0]]
    """
    layer, maps, state = _radial_basis_arguments(x, codes)
    return _forward(layer, maps, state, threads)[:, :, 0, 0]


def radial_basis_backward(
    x: ArrayLike, codes: ArrayLike, dy: ArrayLike, *, threads: int | None = None
) -> Array:
    """dx[n, j] = sum over i of -2 dy[n, i] (x[n, j] - codes[i, j])

    Parameters
    ----------
    x : (N, I)
        Of the forward pass.
    codes : (O, I)
    dy : (N, O)
        Gradient of the output.
    threads : int or None

    Returns
    -------
    (N, I) float32

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape.

    Examples
    --------
    >>> x, codes = [[1.0, 2.0]], [[1.0, 2.0], [-1.0, 1.0]]
    >>> lenet5c.functional.radial_basis_backward(x, codes, [[5.0, 10.0]]).tolist()
    [[-40.0, -20.0]]
    """
    layer, maps, state = _radial_basis_arguments(x, codes)
    gradient = floats("dy", dy, (len(maps), layer.outputs))[:, :, None, None]
    return _backward(layer, maps, state, gradient, threads)[0][:, :, 0, 0]


def _rows(x: Array) -> Array:
    """Any shape as (N, 1, 1, W) with short rows, for the element-wise layers."""
    flat = x.ravel()
    width = min(flat.size, 256)
    padded = np.zeros(-(-flat.size // width) * width, np.float32)
    padded[: flat.size] = flat
    return padded.reshape(-1, 1, 1, width)


def _element_wise(layer: Layer, x: ArrayLike, threads: int | None) -> Array:
    array = floats("x", x, None)
    y = _forward(layer, _rows(array), NONE, threads)
    return y.ravel()[: array.size].reshape(array.shape)


def _element_wise_backward(
    layer: Layer, x: ArrayLike, dy: ArrayLike, threads: int | None
) -> Array:
    array = floats("x", x, None)
    gradient = floats("dy", dy, array.shape)
    dx, _ = _backward(layer, _rows(array), NONE, _rows(gradient), threads)
    return dx.ravel()[: array.size].reshape(array.shape)


def tanh(x: ArrayLike, *, threads: int | None = None) -> Array:
    """Hyperbolic tangent of an array of any shape, to 6.02 units in the last place.

    Parameters
    ----------
    x : array of any shape
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.tanh([-100.0, 0.0, 100.0]).round(6).tolist()
    [-1.0, 0.0, 1.0]
    """
    return _element_wise(Tanh(), x, threads)


def tanh_backward(x: ArrayLike, dy: ArrayLike, *, threads: int | None = None) -> Array:
    """dx = dy * (1 - tanh(x)^2)

    Parameters
    ----------
    x : array of any shape
        What the forward pass was given.
    dy : array of the shape of x
        Gradient by the output.
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.tanh_backward([0.0, 100.0], [5.0, 5.0]).round(4).tolist()
    [5.0, 0.0]
    """
    return _element_wise_backward(Tanh(), x, dy, threads)


def scaled_tanh(x: ArrayLike, *, threads: int | None = None) -> Array:
    """1.7159 tanh(2 x / 3) of an array of any shape (LeCun et al. 1998, appendix A).

    Parameters
    ----------
    x : array of any shape
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.scaled_tanh([-100.0, 0.0, 1.0]).round(4).tolist()
    [-1.715..., 0.0, 1.0]
    """
    return _element_wise(ScaledTanh(), x, threads)


def scaled_tanh_backward(
    x: ArrayLike, dy: ArrayLike, *, threads: int | None = None
) -> Array:
    """dx = dy * 1.7159 * 2/3 * (1 - tanh(2 x / 3)^2)

    Parameters
    ----------
    x : array of any shape
        What the forward pass was given.
    dy : array of the shape of x
        Gradient by the output.
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> dx = lenet5c.functional.scaled_tanh_backward([0.0, 100.0], [3.0, 3.0])
    >>> round(float(dx[0]), 4), abs(float(dx[1])) < 1e-5
    (3.4318, True)
    """
    return _element_wise_backward(ScaledTanh(), x, dy, threads)


def relu(x: ArrayLike, *, threads: int | None = None) -> Array:
    """max(0, x) of an array of any shape.

    Parameters
    ----------
    x : array of any shape
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.relu([-2.0, 0.0, 3.0]).tolist()
    [0.0, 0.0, 3.0]
    """
    return _element_wise(ReLU(), x, threads)


def relu_backward(x: ArrayLike, dy: ArrayLike, *, threads: int | None = None) -> Array:
    """dx = dy where x > 0, else 0

    Parameters
    ----------
    x : array of any shape
        What the forward pass was given.
    dy : array of the shape of x
        Gradient by the output.
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.relu_backward([-2.0, 3.0], [5.0, 5.0]).tolist()
    [0.0, 5.0]
    """
    return _element_wise_backward(ReLU(), x, dy, threads)


def sigmoid(x: ArrayLike, *, threads: int | None = None) -> Array:
    """1 / (1 + exp(-x)) of an array of any shape, to 2^-22.

    Parameters
    ----------
    x : array of any shape
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.sigmoid([-100.0, 0.0, 100.0]).round(6).tolist()
    [0.0, 0.5, 1.0]
    """
    return _element_wise(Sigmoid(), x, threads)


def sigmoid_backward(
    x: ArrayLike, dy: ArrayLike, *, threads: int | None = None
) -> Array:
    """dx = dy * sigmoid(x) * (1 - sigmoid(x))

    Parameters
    ----------
    x : array of any shape
        What the forward pass was given.
    dy : array of the shape of x
        Gradient by the output.
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.sigmoid_backward([0.0], [4.0]).round(6).tolist()  # 4 / 2 / 2
    [1.0]
    """
    return _element_wise_backward(Sigmoid(), x, dy, threads)


def leaky_relu(
    x: ArrayLike, slope: float = 0.01, *, threads: int | None = None
) -> Array:
    """x where x > 0, else slope * x, of an array of any shape.

    Parameters
    ----------
    x : array of any shape
    slope : float
        0 <= slope < 1.
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.leaky_relu([-2.0, 3.0], slope=0.25).tolist()
    [-0.5, 3.0]
    """
    return _element_wise(LeakyReLU(slope), x, threads)


def leaky_relu_backward(
    x: ArrayLike, dy: ArrayLike, slope: float = 0.01, *, threads: int | None = None
) -> Array:
    """dx = dy where x > 0, else slope * dy

    Parameters
    ----------
    x : array of any shape
        What the forward pass was given.
    dy : array of the shape of x
        Gradient by the output.
    slope : float
    threads : int or None

    Returns
    -------
    float32 array of the shape of x

    Examples
    --------
    >>> lenet5c.functional.leaky_relu_backward([-2.0, 3.0], [4.0, 4.0], 0.25).tolist()
    [1.0, 4.0]
    """
    return _element_wise_backward(LeakyReLU(slope), x, dy, threads)


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, threads: int | None = None
) -> float:
    """Mean over n of log(sum over k of exp(z[n, k])) - z[n, labels[n]]

    Parameters
    ----------
    logits : (N, K)
    labels : (N,) integers, 0 to K - 1
    threads : int or None

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an array is of another kind or shape, or a label out of range.

    Examples
    --------
    >>> loss = lenet5c.functional.softmax_cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4)  # log(2): one of two, equally probable
    0.6931
    """
    return _cross_entropy(logits, labels, threads)[0]


def softmax_cross_entropy_backward(
    logits: ArrayLike, labels: ArrayLike, *, threads: int | None = None
) -> Array:
    """(N, K) gradient of `softmax_cross_entropy`: (softmax(z) - one-hot) / N

    Parameters
    ----------
    logits : (N, K)
    labels : (N,) integers, 0 to K - 1
    threads : int or None

    Returns
    -------
    (N, K) float32

    Examples
    --------
    >>> lenet5c.functional.softmax_cross_entropy_backward([[0.0, 0.0]], [1]).tolist()
    [[0.5, -0.5]]
    """
    return _cross_entropy(logits, labels, threads)[1]


def _cross_entropy(
    logits: ArrayLike, labels: ArrayLike, threads: int | None
) -> tuple[float, Array]:
    z = floats("logits", logits, (None, None))
    codes = as_array("labels", labels)
    if codes.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, got {codes.dtype}")
    if codes.shape != (len(z),):
        raise ValueError(f"labels: expected the shape ({len(z)},), got {codes.shape}")
    if codes.min() < 0 or codes.max() >= z.shape[1]:
        raise ValueError(
            f"labels: expected 0 to {z.shape[1] - 1}, "
            f"got {codes.min()} to {codes.max()}"
        )
    resolve_threads(threads)
    dz = np.empty_like(z)
    loss = core.cross_entropy(z, np.ascontiguousarray(codes, np.int32), dz)
    return loss, dz
