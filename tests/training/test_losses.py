"""Each loss is its equation, in value and gradient, and goes where a loss goes."""

import ctypes
import math

import numpy as np
import pytest

import lenet5c
from lenet5c import embed, losses
from lenet5c.training.losses import as_loss

IMAGES, CLASSES = 19, 5  # more than one block of any core, and the last one is not full
EACH = [
    losses.CrossEntropy(),
    losses.MaximumLikelihood(),
    losses.MaximumAPosteriori(),
    losses.MaximumAPosteriori(0),
    losses.MaximumAPosteriori(400.0),
]
# what logits are multiplied with: far apart, all alike, and as distances are
SCALES = [1e-6, 1.0, 50.0, 1e4]


def expected_loss(z, labels, weights, loss, smoothing=0.0):
    """The weighted loss of each image and its gradient by z, in float64."""
    own = np.eye(z.shape[1])[labels]
    if isinstance(loss, losses.MaximumLikelihood):
        return -weights * z[own > 0], -weights[:, None] * own
    target = (1 - smoothing) * own + smoothing / z.shape[1]
    j = getattr(loss, "j", math.inf)
    most = np.maximum(z.max(axis=1, keepdims=True), -j)
    powers = np.exp(z - most)
    total = powers.sum(axis=1, keepdims=True) + np.exp(-j - most)
    value = (np.log(total) + most)[:, 0] - (target * z).sum(axis=1)
    return weights * value, weights[:, None] * (powers / total - target)


def some(scale, offset=0.0):
    """Logits (IMAGES, CLASSES) and labels."""
    rng = np.random.default_rng(3)
    z = (scale * rng.normal(size=(IMAGES, CLASSES)) + offset).astype(np.float32)
    return z, rng.integers(0, CLASSES, IMAGES).astype(np.int32)


def computed(z, labels, loss, threads=1, **options):
    """Mean loss, gradient by z and number of right labels, of the core: its network is
    one product, whose weights are the logits and whose images are the unit vectors."""
    layers = [lenet5c.Dense(CLASSES)]
    model = lenet5c.Model(layers, input_shape=(IMAGES, 1, 1), classes=CLASSES)
    model.parameters["dense_1.weight"] = z.T
    model.parameters["dense_1.bias"] = np.zeros(CLASSES)
    images = np.eye(IMAGES, dtype=np.float32).reshape(IMAGES, IMAGES, 1, 1)
    gradient = np.full(model.parameter_count, np.nan, np.float32)
    found, right = model.loss_of_batch(
        images, np.arange(IMAGES), labels, gradient, threads, loss=loss, **options
    )
    dz = gradient[: z.size].reshape(CLASSES, IMAGES).T
    return found, dz * IMAGES, right


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("offset", [0.0, -300.0, -3e4])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("loss", EACH, ids=repr)
def test_value_and_gradient_are_those_of_the_equation(loss, scale, offset, smoothing):
    if isinstance(loss, losses.MaximumLikelihood):
        smoothing = 0.0
    z, labels = some(scale, offset)
    weights = np.random.default_rng(4).uniform(0, 2, IMAGES).astype(np.float32)
    value, gradient = expected_loss(
        z.astype(np.float64), labels, weights.astype(np.float64), loss, smoothing
    )
    options = {"weights": weights, "smoothing": smoothing}
    found, dz, right = computed(z, labels, loss, **options)
    assert found == pytest.approx(value.mean(), rel=2e-6, abs=1e-6)
    np.testing.assert_allclose(dz, gradient, rtol=1e-5, atol=1e-6)
    assert right == (z.argmax(axis=1) == labels).sum()
    for threads in (2, 3):
        again = computed(z, labels, loss, threads, **options)
        assert (again[0], again[1].tobytes()) == (found, dz.tobytes())


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("scale", SCALES)
def test_an_infinite_j_is_cross_entropy_to_the_bit(scale, smoothing):
    z, labels = some(scale)
    infinite = losses.MaximumAPosteriori(math.inf)
    one = computed(z, labels, infinite, smoothing=smoothing)
    other = computed(z, labels, losses.CrossEntropy(), smoothing=smoothing)
    assert (one[0], one[1].tobytes()) == (other[0], other[1].tobytes())


def network(seed=0):
    layers = [lenet5c.Dense(6), lenet5c.Tanh(), lenet5c.RadialBasis(CLASSES, name="R")]
    return lenet5c.Model(layers, input_shape=(2, 3, 3), classes=CLASSES, seed=seed)


@pytest.mark.parametrize("loss", EACH, ids=repr)
def test_gradients_of_a_network_are_those_of_pytorch(loss):
    torch = pytest.importorskip("torch")
    model, rng = network(), np.random.default_rng(0)
    images = rng.normal(size=(IMAGES, 2, 3, 3)).astype(np.float32)
    _, labels = some(1.0)
    found, gradients = model.loss_and_gradients(images, labels, loss=loss)
    weight, bias = (
        torch.tensor(value.copy()).double().requires_grad_()
        for value in model.parameters.values()
    )
    codes = torch.tensor(model.buffers["R.codes"].copy()).double()
    x = torch.tensor(images).double().flatten(1)
    z = -((torch.tanh(x @ weight.T + bias)[:, None] - codes) ** 2).sum(2)
    value = -z[torch.arange(IMAGES), torch.tensor(labels).long()]
    if not isinstance(loss, losses.MaximumLikelihood):
        rubbish = torch.full((IMAGES, 1), -getattr(loss, "j", math.inf)).double()
        value = value + torch.logsumexp(torch.cat([z, rubbish], 1), 1)
    value.mean().backward()
    assert found == pytest.approx(value.mean().item(), rel=1e-5)
    for mine, other in zip(gradients.values(), (weight, bias), strict=True):
        np.testing.assert_allclose(mine, other.grad, rtol=0, atol=2e-5)


def test_names_and_objects():
    assert as_loss("cross-entropy") == losses.CrossEntropy()
    assert as_loss("mle") == losses.MaximumLikelihood()
    assert as_loss("map") == losses.MaximumAPosteriori(losses.RUBBISH)
    loss = losses.MaximumAPosteriori(np.float32(2))
    assert as_loss(loss) is loss
    assert repr(loss) == "MaximumAPosteriori(j=2.0)"
    with pytest.raises(ValueError, match=r"loss: expected .* got 'mpa'; did you mean"):
        as_loss("mpa")
    with pytest.raises(TypeError, match=r"loss: .* write MaximumAPosteriori\(\)"):
        as_loss(losses.MaximumAPosteriori)
    with pytest.raises(TypeError, match=r"losses.Loss'>$"):  # which nobody can write
        as_loss(losses.Loss)
    for other in (None, 3, losses.Loss()):
        with pytest.raises(TypeError, match="loss: expected a name or one of"):
            as_loss(other)
    for j in (-1, math.nan, -math.inf):
        with pytest.raises(ValueError, match="j: expected 0 <= x"):
            losses.MaximumAPosteriori(j)
    with pytest.raises(TypeError, match="j: expected a number"):
        losses.MaximumAPosteriori("10")


def test_likelihood_is_of_radial_basis_outputs_without_smoothing(
    small_images, labels, digest
):
    plain = lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 12, 12))
    before = digest(plain)
    with pytest.raises(ValueError, match=r"loss: .* RadialBasis .* got Dense"):
        plain.fit(small_images, labels, loss="mle")
    for refused in (
        lambda: plain.loss_and_gradients(small_images, labels, loss="mle"),
        lambda: plain.train_step(small_images, labels, lenet5c.SGD(), loss="mle"),
        lambda: plain.trainer(loss="mle"),
    ):
        with pytest.raises(ValueError, match=r"loss: .* RadialBasis"):
            refused()
    assert digest(plain) == before
    model = lenet5c.Model([lenet5c.RadialBasis(10)], input_shape=(1, 12, 12))
    with pytest.raises(ValueError, match=r"label_smoothing: expected 0 .* got 0\.1"):
        model.fit(small_images, labels, loss="mle", label_smoothing=0.1)


@pytest.mark.parametrize("loss", ["cross-entropy", "mle", "map"])
def test_fit_makes_it_small_and_measures_the_cross_entropy(loss, images, labels):
    layers = [lenet5c.Dense(20), lenet5c.Tanh(), lenet5c.RadialBasis(10)]
    model = lenet5c.Model(layers, input_shape=(1, 28, 28))
    class_weight = {0: 2.0}
    history = model.fit(
        *(images, labels),
        epochs=40,
        loss=loss,
        validation=(images, labels),
        class_weight=class_weight,
    )
    assert history.loss[-1] < history.loss[0]
    assert history.accuracy[-1] > 0.9
    found = model.evaluate(images, labels)
    assert history.validation_loss[-1] == pytest.approx(found.loss)
    z = model.forward(images).astype(np.float64)
    weights = np.where(labels == 0, 2.0, 1.0)
    value, _ = expected_loss(z, labels, weights / weights.mean(), as_loss(loss))
    assert history.loss[-1] == pytest.approx(value.mean(), rel=0.1)


def test_a_checkpoint_of_another_loss_is_refused(small_images, labels, tmp_path):
    model = lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 12, 12))
    model.fit(small_images, labels, epochs=1, checkpoint=tmp_path / "a")
    other = lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 12, 12))
    with pytest.raises(ValueError, match="loss"):
        other.fit(
            *(small_images, labels),
            epochs=2,
            checkpoint=tmp_path / "a",
            resume=True,
            loss="map",
        )


@pytest.mark.parametrize("loss", ["mle", losses.MaximumAPosteriori(3)])
def test_native_steps_are_those_of_train_step(loss, small_images, labels):
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    step = ctypes.CFUNCTYPE(whole, *[pointer] * 3, whole, real, pointer)(
        embed.addresses["lenet5c_train_step_u8"]
    )
    layers = [lenet5c.Dense(20), lenet5c.Tanh(), lenet5c.RadialBasis(10)]
    one, other = (lenet5c.Model(layers, input_shape=(1, 12, 12)) for _ in range(2))
    for model in (one, other):
        model.set_input(model.stage, (12, 12), np.arange(10))
    trainer, optimizer = other.trainer(loss=loss), lenet5c.SGD(0.01)
    images = np.ascontiguousarray(small_images[:20])
    codes = labels[:20].astype(np.int32)
    for _ in range(3):
        expected = one.train_step(images, codes, optimizer, loss=loss)
        found = real()
        addresses = images.ctypes.data, codes.ctypes.data
        assert step(trainer.address, *addresses, 20, 0.01, ctypes.addressof(found)) == 0
        assert found.value == np.float32(expected)
    np.testing.assert_array_equal(one.state_vector, other.state_vector)
