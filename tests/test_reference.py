"""The oracle is right: against SciPy, central differences and loops over indices."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import correlate

from lenet5c import reference

STEP = 1e-5


def test_it_loads_nothing_of_the_package(run_python):
    code = """
import sys
import lenet5c.reference
print([name for name in sys.modules if name.startswith("lenet5c.")])
"""
    assert run_python(code).stdout == "['lenet5c.reference']\n"


def difference(f: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """Central differences of f at x, element by element."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[index] += sign * STEP
            values.append(f(moved))
        gradient[index] = (values[0] - values[1]) / (2 * STEP)
    return gradient


def check_gradients(function, backward, inputs, **options) -> None:
    """backward(*inputs, dy) against differences of sum(dy * function(*inputs))."""
    y = function(*inputs, **options)
    dy = np.random.default_rng(9).normal(size=y.shape)
    found = backward(*inputs, dy, **options)
    found = found if isinstance(found, tuple) else (found,)
    for number, gradient in enumerate(found[: len(inputs)]):

        def loss(value, number=number):
            moved = [*inputs[:number], value, *inputs[number + 1 :]]
            return float((dy * function(*moved, **options)).sum())

        expected = difference(loss, inputs[number])
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)
    if len(found) > len(inputs):
        bias = np.random.default_rng(8).normal(size=found[-1].shape)
        expected = difference(
            lambda b: float((dy * function(*inputs, b, **options)).sum()), bias
        )
        np.testing.assert_allclose(found[-1], expected, rtol=0, atol=1e-8)


CONVOLUTIONS = [
    # C, F, H, W, KH, KW, stride, padding
    (1, 1, 5, 5, 3, 3, 1, 0),
    (2, 3, 6, 4, 3, 2, 1, 1),
    (3, 2, 7, 5, 2, 4, 2, 0),
    (2, 2, 5, 8, 3, 3, 3, 2),
    (2, 3, 2, 3, 5, 4, 1, 2),  # the kernel is larger than the map without padding
]


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_convolution_is_scipys_correlation(shape):
    C, F, H, W, KH, KW, stride, padding = shape
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(3, C, H, W)), rng.normal(size=(F, C, KH, KW))
    bias = rng.normal(size=F)
    found = reference.conv2d(x, weight, bias, stride=stride, padding=padding)
    sides = ((0, 0), (padding, padding), (padding, padding))
    for n, f in np.ndindex(3, F):
        # the channels are correlated along with rows and columns, at their one position
        every = correlate(np.pad(x[n], sides), weight[f], mode="valid")[0]
        expected = every[::stride, ::stride] + bias[f]
        np.testing.assert_allclose(found[n, f], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_convolution_gradients(shape):
    C, F, H, W, KH, KW, stride, padding = shape
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=(2, C, H, W)), rng.normal(size=(F, C, KH, KW))]
    check_gradients(
        reference.conv2d,
        reference.conv2d_backward,
        inputs,
        stride=stride,
        padding=padding,
    )


WINDOWS = [(5, 7, 2, None), (6, 4, 3, 1), (7, 8, 2, 3), (5, 6, 3, 2), (4, 3, 1, 2)]


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(("height", "width", "size", "stride"), WINDOWS)
def test_pooling_window_by_window(kind, height, width, size, stride):
    x = np.random.default_rng(2).normal(size=(2, 3, height, width))
    step = stride or size
    y = getattr(reference, f"{kind}_pool2d")(x, size, stride=stride)
    OH, OW = (height - size) // step + 1, (width - size) // step + 1
    assert y.shape == (2, 3, OH, OW)
    for i, j in itertools.product(range(OH), range(OW)):
        window = x[:, :, i * step : i * step + size, j * step : j * step + size]
        expected = window.mean((2, 3)) if kind == "avg" else window.max((2, 3))
        np.testing.assert_allclose(y[:, :, i, j], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize(("height", "width", "size", "stride"), WINDOWS)
def test_pooling_gradients(kind, height, width, size, stride):
    # distinct values further apart than the step: no window's maximum changes
    order = np.random.default_rng(3).permutation(2 * 3 * height * width)
    x = order.reshape(2, 3, height, width) / 10
    function = getattr(reference, f"{kind}_pool2d")
    backward = getattr(reference, f"{kind}_pool2d_backward")
    dy = np.random.default_rng(4).normal(size=function(x, size, stride=stride).shape)
    expected = difference(
        lambda v: float((dy * function(v, size, stride=stride)).sum()), x
    )
    found = backward(x, dy, size, stride=stride)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("height", "width", "size", "stride"), WINDOWS)
def test_subsampling_window_by_window(height, width, size, stride):
    rng = np.random.default_rng(5)
    x, weight, bias = rng.normal(size=(2, 3, height, width)), *rng.normal(size=(2, 3))
    y = reference.subsampling2d(x, weight, bias, size, stride=stride)
    step = stride or size
    for c, i, j in np.ndindex(y.shape[1:]):
        window = x[:, c, i * step : i * step + size, j * step : j * step + size]
        expected = weight[c] * window.sum((1, 2)) + bias[c]
        np.testing.assert_allclose(y[:, c, i, j], expected, rtol=0, atol=1e-13)

    def forward(x, weight, bias=bias, **options):
        return reference.subsampling2d(x, weight, bias, size, **options)

    def backward(x, weight, dy, **options):
        return reference.subsampling2d_backward(x, weight, dy, size, **options)

    check_gradients(forward, backward, [x, weight], stride=stride)


def test_gradient_goes_to_the_first_of_equal_maxima():
    x = np.array([[[[1.0, 3.0, 3.0], [3.0, 3.0, 0.0]]]])
    dy = np.array([[[[10.0, 20.0]]]])
    expected = [[[[0, 10 + 20, 0], [0, 0, 0]]]]
    found = reference.max_pool2d_backward(x, dy, 2, stride=1)
    np.testing.assert_array_equal(found, expected)


def test_dense_gradients():
    rng = np.random.default_rng(5)
    x, weight, bias = (rng.normal(size=s) for s in [(4, 5), (3, 5), (3,)])
    y = reference.dense(x, weight, bias)
    for n, o in np.ndindex(4, 3):
        expected = bias[o] + sum(weight[o, i] * x[n, i] for i in range(5))
        assert y[n, o] == pytest.approx(expected, rel=1e-13)
    check_gradients(reference.dense, reference.dense_backward, [x, weight])


def test_radial_basis():
    rng = np.random.default_rng(8)
    x, codes = rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    y = reference.radial_basis(x, codes)
    for n, o in np.ndindex(4, 3):
        expected = -sum((x[n, i] - codes[o, i]) ** 2 for i in range(5))
        assert y[n, o] == pytest.approx(expected, rel=1e-13)

    check_gradients(
        lambda x: reference.radial_basis(x, codes),
        lambda x, dy: reference.radial_basis_backward(x, codes, dy),
        [x],
    )


@pytest.mark.parametrize(
    "kind", ["tanh", "scaled_tanh", "relu", "sigmoid", "leaky_relu"]
)
def test_activation_gradients(kind):
    x = np.random.default_rng(6).uniform(-3, 3, size=(3, 4, 5))
    assert np.abs(x).min() > STEP  # away from the corner of ReLU
    check_gradients(
        getattr(reference, kind), getattr(reference, f"{kind}_backward"), [x]
    )


def test_activations_by_their_definitions():
    x = np.array([-2.0, -0.0, 0.5, 2.0])
    np.testing.assert_array_equal(reference.relu(x), [0, 0, 0.5, 2])
    expected = (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))
    np.testing.assert_allclose(reference.tanh(x), expected, rtol=1e-14)
    np.testing.assert_allclose(
        reference.scaled_tanh(1.5 * x), 1.7159 * expected, rtol=1e-14
    )
    np.testing.assert_allclose(reference.sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-14)
    np.testing.assert_array_equal(reference.leaky_relu(x, 0.25), [-0.5, 0, 0.5, 2])
    np.testing.assert_array_equal(reference.relu_backward(0.0, 5.0), 0)


def test_softmax_cross_entropy():
    rng = np.random.default_rng(7)
    logits, labels = rng.normal(size=(6, 4)), rng.integers(4, size=6)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(chances[np.arange(6), labels]).mean()
    assert reference.softmax_cross_entropy(logits, labels) == pytest.approx(expected)
    found = reference.softmax_cross_entropy_backward(logits, labels)
    expected = difference(lambda z: reference.softmax_cross_entropy(z, labels), logits)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_softmax_cross_entropy_of_huge_logits():
    logits = [[1e4, 0.0, -1e4], [0.0, 1e4, 0.0]]
    assert reference.softmax_cross_entropy(logits, [2, 1]) == 1e4
    found = reference.softmax_cross_entropy_backward(logits, [2, 1])
    np.testing.assert_array_equal(found, [[0.5, 0, -0.5], [0, 0, 0]])


NETWORK = [
    ("conv2d", {"name": "A", "filters": 2, "kernel_size": (3, 2), "padding": 1}),
    ("tanh", {}),
    ("avg_pool2d", {"kernel_size": 2}),
    ("conv2d", {"name": "B", "filters": 3, "kernel_size": 2, "stride": 2}),
    ("relu", {}),
    ("max_pool2d", {"kernel_size": 2, "stride": 1}),
    ("flatten", {}),
    ("dense", {"name": "D", "outputs": 4}),
]


def test_whole_network_gradients():
    shapes = reference.parameter_shapes(NETWORK, (2, 8, 9))
    assert shapes == {
        "A.weight": (2, 2, 3, 2),
        "A.bias": (2,),
        "B.weight": (3, 2, 2, 2),
        "B.bias": (3,),
        "D.weight": (4, 3),
        "D.bias": (4,),
    }
    rng = np.random.default_rng(10)
    parameters = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    x, labels = rng.normal(size=(3, 2, 8, 9)), np.array([3, 0, 1])
    maps = reference.network_forward(NETWORK, parameters, x)
    assert [m.shape[1:] for m in maps] == [
        (2, 8, 9),
        (2, 8, 10),
        (2, 8, 10),
        (2, 4, 5),
        (3, 2, 2),
        (3, 2, 2),
        (3, 1, 1),
        (3,),
        (4,),
    ]
    gradients, magnitudes = reference.network_gradients(NETWORK, parameters, x, labels)
    assert gradients.keys() == magnitudes.keys() == parameters.keys()
    for name in parameters:

        def loss(value, name=name):
            moved = {**parameters, name: value}
            return reference.network_loss(NETWORK, moved, x, labels)

        expected = difference(loss, parameters[name])
        assert np.abs(gradients[name]).max() > 1e-3
        np.testing.assert_allclose(gradients[name], expected, rtol=0, atol=1e-9)
        assert (magnitudes[name] >= np.abs(gradients[name]) - 1e-12).all()
