"""The Gauss-Newton diagonal where it is exact, and what its mean is over.

tests/test_every_kind.py has all kinds of layers.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import lenet5c
from lenet5c import Dense, LeakyReLU, Model, Residual, Sigmoid, Tanh
from lenet5c.training.curvature import TOGETHER, _of_codes, gauss_newton_diagonal


def images_of(count: int, shape=(1, 28, 28)) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def set_input(model: Model, height: int, width: int) -> Model:
    stage = lenet5c.data.images.InputStage(0.3, 0.4, -0.75, pixels="bytes")
    model.set_input(stage, (height, width), model.classes)
    return model


def exact_diagonal(model: Model, images: np.ndarray) -> np.ndarray:
    """The mean over images of the diagonal of J^T H J, by automatic differentiation in
    double precision: J are the derivatives of the logits by the parameters, and H =
    diag(p) - p p^T the second derivative of cross-entropy by the logits."""
    torch = pytest.importorskip("torch")
    x = torch.tensor((images / 255 - 0.3) / 0.4).flatten(1)
    functions = {
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "leaky_relu": lambda x: torch.nn.functional.leaky_relu(x, 0.3),
    }

    def logits(vector, x):
        start = 0
        for layer in model.layers:
            if layer.kind == "dense":
                size = layer.outputs * x.shape[0]
                weight = vector[start : start + size].reshape(layer.outputs, -1)
                start += size + layer.outputs
                x = weight @ x + vector[start - layer.outputs : start]
            else:
                x = functions[layer.kind](x)
        return x

    vector = torch.tensor(model.parameter_vector.astype(np.float64))
    total = 0
    for image in x:
        J = torch.autograd.functional.jacobian(lambda v: logits(v, image), vector)  # noqa: B023
        p = torch.softmax(logits(vector, image), 0)
        H = torch.diag(p) - torch.outer(p, p)
        total = total + (J.T @ H @ J).diagonal()
    return (total / len(x)).numpy()


def test_below_the_loss_it_is_the_diagonal_of_automatic_differentiation():
    model = set_input(Model([Dense(5)], input_shape=(2, 3, 4), classes=5), 3, 4)
    images = images_of(40, (2, 3, 4))
    found = gauss_newton_diagonal(model, images, np.arange(40))
    np.testing.assert_allclose(found, exact_diagonal(model, images), rtol=1e-5)


def test_in_a_chain_it_is_the_diagonal_of_automatic_differentiation():
    """One number in each map, and one logit that depends on it: no cross terms."""
    layers = [Dense(1), Tanh(), Dense(1), Sigmoid(), Dense(1), LeakyReLU(0.3), Dense(3)]
    model = set_input(Model(layers, input_shape=(1, 2, 3), classes=3), 2, 3)
    model.parameters["dense_4.weight"][1:] = 0
    model.parameters["dense_3.bias"][:] = -0.7  # some images on each side of the kink
    images = images_of(40, (1, 2, 3))
    found = gauss_newton_diagonal(model, images, np.arange(40))
    expected = exact_diagonal(model, images)
    assert (expected[:-6] > 1e-9).all()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)


def lenet() -> tuple[Model, np.ndarray]:
    return set_input(lenet5c.lenet5(), 28, 28), images_of(TOGETHER + 30)


def test_it_is_the_weighted_mean_over_the_chosen_images():
    """Of more than are computed together, in any order, some of them twice."""
    model, images = lenet()
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(images), TOGETHER + 9)
    weights = rng.uniform(0, 3, len(images)).astype(np.float32)
    alone = [gauss_newton_diagonal(model, images, np.array([i])) for i in chosen]
    for given, of_images in ((None, np.ones(len(images))), (weights, weights)):
        found = gauss_newton_diagonal(model, images, chosen, weights=given)
        expected = np.mean(
            [of_images[i] * h for i, h in zip(chosen, alone, strict=True)], axis=0
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_same_bits_on_any_number_of_threads():
    model, images = lenet()
    expected = gauss_newton_diagonal(model, images, np.arange(len(images)))
    for threads in (2, 3, 7):
        found = gauss_newton_diagonal(
            model, images, np.arange(len(images)), threads=threads
        )
        np.testing.assert_array_equal(found, expected)


def test_it_changes_nothing():
    model, images = lenet()
    before = model.state_vector.copy()
    gauss_newton_diagonal(model, images, np.arange(9))
    np.testing.assert_array_equal(model.state_vector, before)


def test_floats_are_seen_as_the_network_sees_them():
    model, images = lenet()
    floats = (images / np.float32(255)).astype(np.float32)
    indices = np.arange(20)
    np.testing.assert_allclose(
        gauss_newton_diagonal(model, floats, indices),
        gauss_newton_diagonal(model, images, indices),
        rtol=1e-4,
    )


def test_augmented_images_are_those_of_the_pass():
    model, images = lenet()
    images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))  # as large as the input
    augment = lenet5c.Augment(shift=2, rotate=20)
    indices = np.random.default_rng(0).permutation(len(images))[: TOGETHER + 5]
    changed = augment.apply(images, epoch=3, seed=7)
    found = gauss_newton_diagonal(
        model, images, indices, augment=augment, seed=7, epoch=3
    )
    expected = gauss_newton_diagonal(model, changed, indices)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    other = gauss_newton_diagonal(model, images, indices)
    assert np.abs(found / other - 1).mean() > 0.01


def test_a_layer_inside_of_a_branch_is_refused_by_name():
    layers = [Residual([lenet5c.BatchNorm2d(name="N1")]), Dense(3)]
    model = Model(layers, input_shape=(2, 3, 4), classes=3)
    with pytest.raises(ValueError, match=r"N1 of the kind 'batch_norm2d', got SDLM"):
        gauss_newton_diagonal(model, images_of(5, (2, 3, 4)), np.arange(5))


def test_a_model_without_parameters_has_none():
    model = Model([Tanh()], input_shape=(3, 1, 1), classes=3)
    found = gauss_newton_diagonal(model, images_of(5, (3, 1, 1)), np.arange(5))
    assert found.shape == (0,)


@pytest.mark.parametrize(
    ("number", "j", "scale"),
    [(0, math.inf, 0.2), (0, math.inf, 3), (0, 2.0, 0.3), (0, 40.0, 3), (1, 1.0, 3)],
)
def test_loss_and_codes_have_the_second_derivative_of_automatic_differentiation(
    number, j, scale
):
    """Cross-entropy, eq. 9 with a near and a far class of rubbish, and eq. 8."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.normal(0, scale, (6, 7, 1, 1)).astype(np.float32)
    codes = rng.choice([-1, 1], (4, 7)).astype(np.float32)
    shares = rng.uniform(0.1, 1, 6)
    loss = SimpleNamespace(for_core=lambda: (number, j))
    found = _of_codes(x, codes.ravel(), shares, loss)

    def of_one(x):
        z = -((x - torch.tensor(codes, dtype=torch.float64)) ** 2).sum(1)
        if number == 1:
            return -z[2]
        return -z[2] + torch.cat([z, torch.tensor([-j])]).logsumexp(0)

    for n, h in enumerate(found):
        row = torch.tensor(x[n].ravel().astype(np.float64))
        exact = shares[n] * torch.autograd.functional.hessian(of_one, row).diagonal()
        assert (h >= 0).all()
        np.testing.assert_allclose(h.ravel(), exact, rtol=1e-5, atol=1e-6)
