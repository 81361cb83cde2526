"""The Gauss-Newton diagonal: second derivatives of the loss by each parameter.

Stochastic diagonal Levenberg-Marquardt takes its rates from it (LeCun, Bottou, Bengio,
Haffner 1998, "Gradient-based learning applied to document recognition", appendix C;
LeCun, Bottou, Orr, Müller 1998, "Efficient BackProp", section 9.1). It goes backwards
through the layers as a gradient does, on squares. With h the second derivative of the
loss by a number, a = sum of w x + b and y = f(a)::

    h_a = f'(a)^2 h_y               Gauss-Newton: the term with f''(a) is left out
    h_w = sum of x^2 h_a            over the connections that share w, eq. 23 and 25
    h_x = sum of w^2 h_a            over the connections that x has, eq. 27

Second derivatives by two different numbers of a map are left out as well. So in the
layer nearest to the outputs it is the diagonal of J^T H J, of the derivatives J of the
outputs by the parameters and H of the loss by the outputs; further down it is an
estimate of that, which is never negative.

Each sum is the backward pass of a layer, given squares: so the core computes it, one
layer at a time. To add a kind of layer, write its rule and put it into `RULES`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.cores import core
from lenet5c.data.augment import Augment
from lenet5c.functional import AS_IT_IS, NONE, network_of
from lenet5c.interfaces import Trainable
from lenet5c.layers import Layer, Residual, walk
from lenet5c.layers.base import Shape

__all__ = ["RULES", "check_kinds", "gauss_newton_diagonal"]

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]

TOGETHER = 64  # images: memory does not grow with their number


class _Alone:
    """One layer alone, and what it was last given.

    Attributes
    ----------
    layer : Layer
    x : (N, C, H, W) float32
    state : (state,) float32
        Its parameters and, behind them, its buffers.
    total : (parameters,) float64
        The second derivatives by its parameters, over all images so far.
    """

    def __init__(self, layer: Layer, shape: Shape, state: Array, threads: int) -> None:
        self.layer = layer
        self.state = state
        self.threads = threads
        self.network, self.shape = network_of(layer, shape, gradient=True)
        self.total = np.zeros(self.network.parameter_count)
        self.x = np.empty((0, *shape), np.float32)

    def forward(self, x: Array, state: Array) -> Array:
        """y"""
        y = np.empty((len(x), math.prod(self.shape)), np.float32)
        self.network.forward(state, x, AS_IT_IS, y, self.threads)
        return y.reshape(len(x), *self.shape)

    def backward(self, x: Array, state: Array, dy: Array) -> tuple[Array, Array]:
        """dx, and dy's gradient by the parameters."""
        dx, gradient = np.empty_like(x), np.empty(len(self.total), np.float32)
        rows, dx_rows = dy.reshape(len(x), -1), dx.reshape(len(x), -1)
        self.network.backward(state, x, AS_IT_IS, rows, gradient, dx_rows, self.threads)
        return dx, gradient


# Of what the layer was given and h by its output: h by its input, h by its parameters.
Rule = Callable[[_Alone, Array], tuple[Array, Array]]


def _weighted(of: _Alone, h: Array) -> tuple[Array, Array]:
    """y = sum of w x + b: h_x = sum of w^2 h, h_w = sum of x^2 h, h_b = sum of h"""
    return of.backward(of.x * of.x, of.state * of.state, h)


def _activation(of: _Alone, h: Array) -> tuple[Array, Array]:
    """y = f(x): h_x = (f'(x) sqrt(h))^2, as a backward pass multiplies with f'(x)"""
    root, none = of.backward(of.x, of.state, np.sqrt(h))
    return np.square(root, out=root), none


def _mean(of: _Alone, h: Array) -> tuple[Array, Array]:
    """y = sum of x / n over n pixels: h_x = h / n^2"""
    share, none = of.backward(of.x, of.state, h)
    share /= math.prod(of.layer.window(of.x.shape[1:]).kernel)
    return share, none


def _maximum(of: _Alone, h: Array) -> tuple[Array, Array]:
    """y = max of x: h_x = h at the largest one, where the derivative is 1"""
    return of.backward(of.x, of.state, h)


def _subsampling(of: _Alone, h: Array) -> tuple[Array, Array]:
    """y = w s + b, s = sum of x: h_w = sum of s^2 h, h_b = sum of h, h_x = w^2 h

    The window is added up before its coefficient multiplies it (the paper, II.B), so
    that w has one connection with each y, by which it is given s.
    """
    h_x, of_parameters = of.backward(of.x, of.state * of.state, h)
    channels = len(of.x[0])
    plain = np.repeat(np.array([1, 0], np.float32), channels)
    s = of.forward(of.x, plain)
    of_parameters[:channels] = (s * s * h.reshape(s.shape)).sum(axis=(0, 2, 3))
    return h_x, of_parameters


def _radial_basis(of: _Alone, h: Array) -> tuple[Array, Array]:
    """y_i = -sum over j of (x_j - w_ij)^2: h_x_j = sum over i of 4 (x_j - w_ij)^2 h_i

    Where it is not the last layer, which has no rule: see `_of_codes`.
    """
    x = of.x.reshape(len(of.x), 1, -1)
    slopes = 2 * (x - of.state.reshape(1, -1, x.shape[2]))
    h_x = (h.reshape(len(x), -1, 1) * slopes * slopes).sum(axis=1)
    return h_x.reshape(of.x.shape), NONE


RULES: dict[str, Rule] = {
    "conv2d": _weighted,
    "dense": _weighted,
    "avg_pool2d": _mean,
    "global_avg_pool2d": _mean,
    "max_pool2d": _maximum,
    "tanh": _activation,
    "sigmoid": _activation,
    "relu": _activation,
    "leaky_relu": _activation,
    "scaled_tanh": _activation,
    "subsampling2d": _subsampling,
    "radial_basis": _radial_basis,
}
"""How second derivatives go back through a layer, by kind."""
RESHAPES = ("flatten", "dropout")  # dropout is off: it is the whole network's curvature


def check_kinds(layers: Sequence[Layer]) -> None:
    """Refuse layers through which second derivatives do not go back image by image.

    Parameters
    ----------
    layers : sequence of Layer
        With names.

    Raises
    ------
    ValueError
        If there is one, as batch normalisation, which is of all images of a batch.

    Examples
    --------
    >>> from lenet5c.training.curvature import check_kinds
    >>> check_kinds(model.layers)
    >>> check_kinds([lenet5c.BatchNorm2d(name="B1")])
    Traceback (most recent call last):
    ValueError: optimizer: expected one without second derivatives for a network with
    the layer B1 of the kind 'batch_norm2d', got SDLM
    """
    for layer in layers:
        if isinstance(layer, Residual):
            check_kinds(layer.layers)
            check_kinds(layer.shortcut)
        elif layer.kind not in RULES and layer.kind not in RESHAPES:
            raise ValueError(
                "optimizer: expected one without second derivatives for a network with "
                f"the layer {layer.name} of the kind {layer.kind!r}, got SDLM"
            )


def gauss_newton_diagonal(
    model: Trainable,
    pixels: NDArray[Any],
    indices: NDArray[np.intp],
    *,
    weights: Array | None = None,
    loss: Any = None,
    augment: Augment | None = None,
    seed: int = 0,
    epoch: int = 0,
    threads: int = 1,
) -> Array:
    """The second derivative of the mean loss by each parameter.

    Nothing is checked but by `check_kinds`. Dropout is off. Where a `Residual` adds two
    branches, each of them has the h of the sum, and x the sum of both: what is left out
    are the cross terms.

    Parameters
    ----------
    model : Model
    pixels : (N, C, H, W) uint8 or float32, C-contiguous
    indices : (B,) intp
        The images that the mean is over.
    weights : (N,) float32 or None
        What each image's loss is multiplied by.
    loss : Loss or None
        What is minimised; None for cross-entropy.
    augment : Augment or None
    seed, epoch : int
        Of the random numbers of augmentation: an image is what `Model.loss_of_batch`
        makes of it with the same numbers.
    threads : int

    Returns
    -------
    (parameter_count,) float32
        At least 0; the same bits on any number of threads.

    Raises
    ------
    ValueError
        If there is a layer through which they do not go.

    Examples
    --------
    >>> from lenet5c.training.curvature import gauss_newton_diagonal
    >>> h = gauss_newton_diagonal(model, images[:, np.newaxis], np.arange(50))
    >>> h.shape, bool((h >= 0).all())
    ((61706,), True)
    """
    check_kinds(model.layers)
    shape, stage, last = model.input_shape, model.stage.for_core(), model.layers[-1]
    alone = {of.layer.name: of for of in _layers_of(model, threads)}
    images = core.Network([], shape)  # what the first layer sees
    for start in range(0, len(indices), TOGETHER):
        chosen = indices[start : start + TOGETHER]
        shares = np.full(len(chosen), 1 / len(indices))
        if weights is not None:
            shares *= weights[chosen]
        seen = np.empty((len(chosen), math.prod(shape)), np.float32)
        if augment is None:
            images.forward(NONE, pixels[chosen], stage, seen, threads)
        else:
            changes = augment.for_core(model.stage)
            images.augmented(pixels, stage, chosen, seen, changes, seed, epoch)
        x = seen.reshape(len(chosen), *shape)
        if last.kind == "radial_basis":
            x = _forward(model.layers[:-1], alone, x)
            h = _of_codes(x, alone[last.name].state, shares, loss)
            _backward(model.layers[:-1], alone, h)
        else:
            z = _forward(model.layers, alone, x)
            _backward(model.layers, alone, _of_logits(z, shares, loss))
    totals = [of.total for of in alone.values()]
    return np.concatenate([NONE, *totals]).astype(np.float32)


def _layers_of(model: Trainable, threads: int) -> list[_Alone]:
    """Those that compute something, in the order of the flat parameter vector."""
    found = []
    for layer, shape, _ in walk(model.layers, model.input_shape):
        if layer.kind in RULES:
            tensors = [
                of[f"{layer.name}.{name}"].ravel()
                for of, names in (
                    (model.parameters, layer.parameter_shapes(shape)),
                    (model.buffers, layer.buffer_shapes(shape)),
                )
                for name in names
            ]
            state = np.concatenate([NONE, *tensors])
            found.append(_Alone(layer, shape, state, threads))
    return found


def _forward(
    layers: Sequence[Layer], alone: dict[str | None, _Alone], x: Array
) -> Array:
    """What the layers make of x; each keeps what it was given."""
    for layer in layers:
        if isinstance(layer, Residual):
            x = _forward(layer.layers, alone, x) + _forward(layer.shortcut, alone, x)
        elif layer.kind in RESHAPES:
            x = x.reshape(len(x), *layer.output_shape(x.shape[1:]))
        else:
            of = alone[layer.name]
            of.x = x
            x = of.forward(x, of.state)
    return x


def _backward(
    layers: Sequence[Layer], alone: dict[str | None, _Alone], h: Array
) -> Array:
    """h by what the layers were given, of h by what they made; adds to the totals."""
    for layer in reversed(layers):
        if isinstance(layer, Residual):
            one = _backward(layer.layers, alone, h)
            other = _backward(layer.shortcut, alone, h)
            h = one + other.reshape(one.shape)  # may have come from behind a `Flatten`
        elif layer.kind in RULES:
            of = alone[layer.name]
            h, of_parameters = RULES[layer.kind](of, h)
            of.total += of_parameters
    return h


def _of_logits(z: Array, shares: Doubles, loss: Any) -> Array:
    """h_z = share p (1 - p), p = softmax(z)

    The diagonal of diag(p) - p p^T, the second derivative by the logits z
    (N, C, H, W), which is the same for each label and each smoothing of labels.
    """
    p, _ = _posterior(z.reshape(len(z), -1).astype(np.float64), loss)
    h: Array = (shares[:, np.newaxis] * p * (1 - p)).astype(np.float32)
    return h.reshape(z.shape)


def _of_codes(x: Array, codes: Array, shares: Doubles, loss: Any) -> Array:
    """h_x of the loss and a last layer of radial basis units with codes w together.

    A distance is no linear function of x, and Gauss-Newton would leave most of the
    second derivative out: all of it for eq. 8, which is linear in the distances, and
    for eq. 9 what is left where the posteriors are near 0 and 1, as those of a network
    without training, is less than 1e-30 (j of 10). So it is the second derivative
    itself, which is never negative::

        eq. 8   h_x = 2 share
        eq. 9   h_x = share (2 q + the variance of r_i), r_i = 2 (x - w_i)

    with q = exp(-j) / (exp(-j) + sum of exp(-y_i)), the posterior of the rubbish class,
    whose r is 0, and the variance over all classes with their posteriors. Both are 2
    for a network without training, whose outputs are far from all codes; cross-entropy
    is eq. 9 without the rubbish class.

    The paper's check value is that in the first pass rates were from 7e-5 to 0.016, so
    h from 0.011 to 7.1. With an h of 2 by the outputs of F6, that by a weight of F6 is
    at most 2 f'(0)^2 1.7159^2 = 7.7, which is what it comes to where C5 is saturated
    and F6 is not; before training, the largest one is the 2.6 of F6's biases with
    initial weights up to 2.4 / fan-in, and 4.8 to 6.7 with 1 / sqrt(fan-in). The least
    one is below 1e-4 with any form.

    x (N, C, H, W), codes (outputs * inputs,), shares (N,).
    """
    rows = x.reshape(len(x), 1, -1).astype(np.float64)
    r = 2 * (rows - codes.reshape(1, -1, rows.shape[2]))  # (N, outputs, inputs)
    p, q = _posterior(-np.square(r).sum(axis=2) / 4, loss)
    mean = np.einsum("ni,nij->nj", p, r)
    deviation = np.square(r - mean[:, np.newaxis])
    h = np.einsum("ni,nij->nj", p, deviation) + q * (2 + np.square(mean))
    found: Array = (shares[:, np.newaxis] * h).astype(np.float32)
    return found.reshape(x.shape)


def _posterior(z: Doubles, loss: Any) -> tuple[Doubles, Doubles]:
    """p = exp(z) / (exp(-j) + sum of exp(z)), (N, classes), and what is left for the
    rubbish class, (N, 1). With cross-entropy j is infinite; maximum likelihood leaves
    the other classes out, as if all were rubbish."""
    likelihood, j = (False, np.inf) if loss is None else loss.for_core()
    if likelihood:
        return np.zeros_like(z), np.ones((len(z), 1))
    rubbish = -j
    most = np.maximum(z.max(axis=1, keepdims=True), rubbish)
    p, q = np.exp(z - most), np.exp(rubbish - most)
    total = p.sum(axis=1, keepdims=True) + q
    return p / total, q / total
