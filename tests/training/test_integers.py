"""Training for few bits: it computes the network in integers, and its gradient is that
of the straight-through estimator."""

import bits_reference
import int8_reference
import numpy as np
import pytest
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Bits,
    Conv2d,
    Dense,
    Dropout,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)
from lenet5c.bits import Rounding
from lenet5c.layers import walk
from lenet5c.training.integers import IntegerNetwork

NETWORKS = NETWORKS | {
    "all others": (
        [
            Conv2d(4, 3, bias=False),
            BatchNorm2d(),
            ScaledTanh(),
            Subsampling2d(2),
            Sigmoid(),
            Conv2d(6, 2, connections=[[0, 1], [1, 3], [2], [0, 2, 3], [3], [1]]),
            BatchNorm2d(),
            LeakyReLU(0.2),
            BatchNorm2d(),
            Tanh(),
            Subsampling2d(3, stride=1),
            Dropout(0.3),
            Dense(9),
            BatchNorm2d(),
            Sigmoid(),
            LeakyReLU(0.1),
            Dense(3),
        ],
        (2, 12, 11),
        (12, 10),
        3,
    ),
    "wide windows": (
        [AvgPool2d(6), Conv2d(3, 2), ReLU(), AvgPool2d(3, stride=2), Dense(4)],
        (1, 40, 41),
        (40, 41),
        4,
    ),
}
LISTS = {
    name: layers
    for name, (layers, *_) in NETWORKS.items()
    if not any(isinstance(layer, Residual) for layer in layers)
}
WEIGHTS = (8, 4, 2, "ternary")


def trained(name, weights, monkeypatch):
    """A model, 40 images, and the network of its integers."""
    monkeypatch.setattr("int8_networks.NETWORKS", NETWORKS)
    model, images = network(name)
    found = IntegerNetwork(model, Bits(weights), images, np.arange(40))
    found.measure(2)
    found.round()
    return model, images, found


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", LISTS)
def test_what_is_trained_are_the_bits_of_the_integers(name, weights, monkeypatch):
    model, images, found = trained(name, weights, monkeypatch)
    model.rounding = Rounding(Bits(weights), tuple(map(float, found.units)))
    quantized = model.quantize(images)
    scores = quantized.scores(images)
    got = found.logits(images, 1).astype(np.float64) / quantized.scale
    np.testing.assert_array_equal(np.rint(got), scores)
    assert np.abs(got - scores).max() < 0.05
    layers = model.folded().layers
    for image, row in zip(images[::20], scores[::20], strict=True):
        assert row.tolist() == int8_reference.scores(layers, quantized, image)
    for layer in quantized.layers:
        if layer.weight is not None:
            assert layer.weight.min() >= Bits(weights).least
            assert layer.weight.max() <= Bits(weights).most


def gradient_of(found, images, codes, threads=1, **rest):
    gradient = np.full(found.model.parameter_count, np.nan, np.float32)
    chosen = np.arange(len(images))
    loss, _ = found.loss_of_batch(images, chosen, codes, gradient, threads, **rest)
    return loss, gradient


def reference_of(model, images, found, codes):
    """The loss, and the gradient of the folded network's parameters, in float64."""
    quantized = model.quantize(images, bits=found.bits)
    maps = np.stack([int8_reference.centred(quantized, image) for image in images])
    logits, gradients = bits_reference.logits_and_gradients(
        found.layers, maps, found.input_scale, codes
    )
    return lenet5c.reference.softmax_cross_entropy(logits, codes), gradients


@pytest.mark.parametrize("weights", [8, 2])
@pytest.mark.parametrize("name", LISTS)
def test_the_gradient_is_that_of_the_straight_through_estimator(
    name, weights, monkeypatch
):
    model, images, _ = trained(name, weights, monkeypatch)
    model = model.folded()
    found = IntegerNetwork(model, Bits(weights), images, np.arange(40))
    found.measure(2)
    codes = (np.arange(40) % model.class_count).astype(np.int32)
    loss, gradient = gradient_of(found, images[:21], codes[:21])
    expected, gradients = reference_of(model, images[:21], found, codes[:21])
    assert loss == pytest.approx(expected, rel=1e-5)
    at = 0
    for layer, before, _ in walk(model.layers, model.input_shape):
        for part, shape in layer.parameter_shapes(before).items():
            got = gradient[at : at + np.prod(shape)]
            at += np.prod(shape)
            if isinstance(layer, BatchNorm2d):
                continue  # what it multiplies with and adds is in the next test
            wanted = gradients[layer.name][part == "bias"].ravel()
            scale = max(np.abs(wanted).max(), 1e-7)
            np.testing.assert_allclose(got, wanted, atol=2e-4 * scale, err_msg=part)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("all others", ["conv2d_1", "conv2d_2", "batch_norm2d_3", "dense_1"]),
        ("ends in normalisation", ["batch_norm2d_1"]),
    ],
)
def test_normalisations_pass_the_gradient_on(name, of, monkeypatch):
    """Against central differences of what they multiply with and add."""
    model, images, found = trained(name, 8, monkeypatch)
    codes = (np.arange(40) % model.class_count).astype(np.int32)
    _, gradient = gradient_of(found, images, codes)
    _, folded = reference_of(model, images, found, codes)

    def product(vector):
        """Of the reference's gradient and the folded parameters."""
        total = 0.0
        values = dict(model.buffers)
        at = 0
        for key, value in model.parameters.items():
            size = value.size
            values[key] = vector[at : at + size].reshape(value.shape)
            at += size
        layers = list(model.layers)
        for position, layer in enumerate(layers):
            if layer.name not in of:
                continue
            norm, weight, bias = layer, None, 0.0
            if not isinstance(layer, BatchNorm2d):
                norm = layers[position + 1]
                weight = values[f"{layer.name}.weight"]
                if isinstance(layer, Conv2d) and layer.connections is not None:
                    full = np.zeros((layer.filters, 4, *layer.kernel))
                    full[layer.pairs] = weight
                    weight = full
                bias = values.get(f"{layer.name}.bias", 0.0)
            mean = values[f"{norm.name}.running_mean"].astype(float)
            variance = values[f"{norm.name}.running_var"].astype(float)
            scale = values[f"{norm.name}.weight"] / np.sqrt(variance + norm.eps)
            shift = values[f"{norm.name}.bias"] + (bias - mean) * scale
            dweight, dbias = folded[layer.name]
            if weight is None:
                total += (dweight * scale).sum()
            else:
                rows = weight.reshape(len(scale), -1) * scale[:, None]
                total += (dweight.reshape(rows.shape) * rows).sum()
            total += (dbias * shift).sum()
        return total

    vector = model.parameter_vector.astype(np.float64)
    at = 0
    for key, value in model.parameters.items():
        places = np.arange(at, at + value.size)
        at += value.size
        if key.partition(".")[0] not in of and "norm" not in key:
            continue
        wanted = []
        for place in places:
            ends = []
            for side in (-1, 1):
                moved = vector.copy()
                moved[place] += side * 1e-5
                ends.append(product(moved))
            wanted.append((ends[1] - ends[0]) / 2e-5)
        scale = max(np.abs(wanted).max(), 1e-7)
        np.testing.assert_allclose(
            gradient[places], wanted, atol=3e-4 * scale, err_msg=key
        )


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit(threads, monkeypatch):
    model, images, found = trained("all others", 4, monkeypatch)
    images = np.tile(images, (9, 1, 1, 1))
    codes = (np.arange(len(images)) % 3).astype(np.int32)
    loss, one = gradient_of(found, images, codes)
    loss_of_all, several = gradient_of(found, images, codes, threads)
    assert loss == loss_of_all
    np.testing.assert_array_equal(one, several)
    again = IntegerNetwork(model, Bits(4), images, np.arange(len(images)))
    again.measure(threads)
    np.testing.assert_array_equal(again.units, found.units)


def test_a_gradient_in_parts_is_that_of_the_batch(monkeypatch):
    _, images, found = trained("all others", 4, monkeypatch)
    codes = (np.arange(40) % 3).astype(np.int32)
    loss, whole = gradient_of(found, images, codes)
    parts = np.empty_like(whole)
    losses = [
        found.loss_of_batch(images, at, codes, parts, 1, mean_over=40, add=at[0] > 0)[0]
        for at in np.split(np.arange(40), [16])
    ]
    assert sum(losses) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())


def rectified(seed=0):
    return lenet5c.Model(
        [
            Conv2d(6, 3, name="A"),
            BatchNorm2d(name="N"),
            ReLU(),
            MaxPool2d(2),
            Conv2d(8, 3, name="B"),
            LeakyReLU(0.1),
            Dense(10, name="D"),
        ],
        input_shape=(1, 12, 12),
        seed=seed,
    )


@pytest.fixture(scope="module")
def known():
    """A network that has learned 300 images of 10 patterns, and these."""
    rng = np.random.default_rng(1)
    patterns = rng.integers(0, 200, (10, 12, 12))
    labels = np.arange(300) % 10
    images = (patterns[labels] + rng.integers(0, 56, (300, 12, 12))).astype(np.uint8)
    model = rectified()
    model.fit(images, labels, epochs=12, optimizer=lenet5c.SGD(0.02))
    return model, images, labels


def copied(model):
    other = rectified()
    other.set_input(model.stage, model.source, model.classes)
    other.state_vector = model.state_vector
    return other


@pytest.mark.parametrize("weights", WEIGHTS)
def test_what_is_validated_is_what_quantize_gives(known, weights):
    model, images, labels = known
    model = copied(model)
    history = model.fit(
        *(images[:200], labels[:200]),
        epochs=3,
        validation=(images[200:], labels[200:]),
        optimizer=lenet5c.SGD(0.01),
        quantize=Bits(weights),
    )
    assert model.rounding.bits == Bits(weights)
    quantized = model.quantize(images[:2])
    right = (quantized.predict(images[200:]) == labels[200:]).mean()
    assert right == history.validation_accuracy[-1] > 0.9
    logits = quantized.scores(images[200:]) * quantized.scale
    loss = lenet5c.reference.softmax_cross_entropy(logits, labels[200:])
    assert loss == pytest.approx(history.validation_loss[-1], rel=1e-5)
    assert quantized.bits == Bits(weights)
    small = quantized.layers[0].weight
    assert small.min() >= Bits(weights).least
    assert small.max() <= Bits(weights).most
    if weights != 8:  # the weights are what the integers stand for
        floats = model.forward(images)
        error = quantized.scores(images) * quantized.scale - floats
        assert np.abs(error).max() < 0.1 * np.abs(floats).max()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_that_integers_stand_for_keep_their_integers(
    name_of_all, weights, monkeypatch
):
    model, images, found = trained(name_of_all, weights, monkeypatch)
    before = [layer.weight for layer in found.layers if layer.weight is not None]
    biases = [layer.bias for layer in found.layers if layer.bias is not None]
    logits = found.logits(images, 1)
    model.rounding = found.settle(1)
    after = model.quantize(images).layers
    weighed = [layer for layer in after if layer.weight is not None]
    for layer, weight, bias in zip(weighed, before, biases, strict=True):
        np.testing.assert_array_equal(layer.weight, weight, err_msg=layer.step.name)
        np.testing.assert_allclose(layer.bias, bias, atol=1.001)
    quantized = model.quantize(images)
    got = quantized.scores(images) * quantized.scale
    assert np.abs(got - logits).max() < 0.02 * np.abs(logits).max()


@pytest.fixture(params=["all others", "padding and strides", "ends in normalisation"])
def name_of_all(request):
    return request.param


def brute_unit(row, least, most):
    """The least squared error of very many units."""
    largest = max(row.max() / most, row.min() / least)
    units = largest * np.geomspace(0.1, 1.3, 4000)[:, None]
    integers = np.rint(np.clip(row / units, least, most))
    return np.square(row - integers * units).sum(axis=1).min()


@pytest.mark.parametrize("weights", [4, 2, "ternary"])
@pytest.mark.parametrize("count", [1, 3, 9, 75, 400])
def test_units_have_nearly_the_least_squared_error(weights, count):
    bits, rng = Bits(weights), np.random.default_rng(count)
    rows = rng.normal(0, 2.0 ** rng.integers(-20, 20, (40, 1)), (40, count))
    found = lenet5c.bits.rounded(rows, np.zeros(40), 1.0, bits, together=False)
    loose = lenet5c.bits.MIN_WEIGHT_SCALE * found.units.max()
    errors = np.square(rows - found.weight * found.units[:, None]).sum(axis=1)
    for row, error, unit in zip(rows, errors, found.units, strict=True):
        if unit > loose:
            least = brute_unit(row, bits.least, bits.most)
            assert error <= 1.15 * least + 0.005 * np.square(row).sum()
    assert (found.weight == np.rint(found.weight)).all()


def test_filters_of_nothing_and_together():
    rows = np.array([[0.0, 0.0], [1.0, -0.5]])
    for weights in WEIGHTS:
        found = lenet5c.bits.rounded(
            rows, np.zeros(2), 0.5, Bits(weights), together=True
        )
        assert found.units[0] == found.units[1] > 0
        far = lenet5c.bits.rounded(
            rows, np.array([0.0, 1e9]), 0.5, Bits(weights), together=True
        )
        assert far.units[0] == far.units[1] > 10 * found.units[0] / 127
        assert np.abs(far.bias).max() < 1 << 30
        assert found.weight[0].tolist() == [0, 0]
        nothing = lenet5c.bits.rounded(
            0 * rows, np.array([0.0, 3.0]), 0.5, Bits(weights), together=False
        )
        assert (nothing.weight == 0).all()
        assert (nothing.bias * nothing.units * 0.5).tolist() == pytest.approx([0, 3])


class Stop:
    def __init__(self, batch):
        self.left = batch

    def on_batch_end(self, state):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def state_of(model):
    return model.state_vector.tobytes(), model.rounding


@pytest.mark.parametrize("batch", [2, 5, 8, 11])
def test_a_resumed_training_ends_in_the_same_bits(known, tmp_path, batch):
    model, images, labels = known
    options = {
        "epochs": 4,
        "optimizer": lenet5c.AdamW(2e-3),
        "batch_size": 64,
        "quantize": 4,
        "validation": 0.2,
        "weight_average": 0.9,
        "early_stopping": 2,
        "augment": lenet5c.Augment(shift=1),
    }
    unbroken = copied(model)
    unbroken.fit(images, labels, **options)
    folder = lenet5c.Checkpoint(tmp_path / "run", every_seconds=1e-9)
    broken = copied(model)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(
            images, labels, checkpoint=folder, callbacks=[Stop(batch)], **options
        )
    assert broken.rounding.bits == Bits(4)
    again = rectified(seed=5)  # its weights are those of the checkpoint
    again.set_input(model.stage, model.source, model.classes)
    options["optimizer"] = lenet5c.AdamW(2e-3)
    again.fit(images, labels, checkpoint=folder, resume=True, **options, threads=3)
    assert state_of(again) == state_of(unbroken)
    with pytest.raises(ValueError, match="quantize"):
        again.fit(
            *(images, labels),
            checkpoint=folder,
            resume=True,
            **(options | {"quantize": 8}),
        )


def test_statistics_stay_and_weights_move(known):
    model, images, labels = known
    model = copied(model)
    before = model.state_vector.copy()
    model.fit(images, labels, epochs=1, quantize=8, optimizer=lenet5c.SGD(0.01))
    count = model.parameter_count
    np.testing.assert_array_equal(model.state_vector[count:], before[count:])
    assert (model.parameter_vector != before[:count]).mean() > 0.9


def test_training_in_floats_forgets_the_bits(known):
    model, images, labels = known
    model = copied(model)
    model.fit(images, labels, epochs=1, quantize="ternary")
    assert model.quantize(images).bits == Bits("ternary")
    assert model.quantize(images, bits=8).bits == Bits(8)
    model.fit(images, labels, epochs=1)
    assert model.rounding is None
    assert model.quantize(images).bits == Bits(8)


def test_a_loss_that_is_not_finite_ends_it(known):
    model, images, labels = known
    model = copied(model)
    with pytest.raises(lenet5c.TrainingError):
        model.fit(
            *(images, labels),
            quantize=4,
            epochs=9,
            optimizer=lenet5c.SGD(1e30),
            clip_norm=1e30,
        )
    assert np.isfinite(model.state_vector).all()


def test_bits_are_in_the_file(known, tmp_path):
    model, images, labels = known
    model = copied(model)
    model.fit(images, labels, epochs=1, quantize=4)
    model.save(tmp_path / "small.lenet5c")
    again = lenet5c.load(tmp_path / "small.lenet5c")
    assert again.rounding == model.rounding
    assert len(again.rounding.units) == 2  # of A and B
    assert again.predictor()(images[0]) == labels[0]
    scores = model.quantize(images[:3]).scores(images)
    np.testing.assert_array_equal(again.quantize(images[50:52]).scores(images), scores)
    np.testing.assert_array_equal(again.predict(images[:1]), model.predict(images[:1]))


def test_units_of_other_layers_are_refused(known):
    model, images, _ = known
    model = copied(model)
    model.rounding = Rounding(Bits(4), (0.5,))
    message = r"model: expected 2 units in its rounding, those of relu_1, B, got 1"
    with pytest.raises(ValueError, match=message):
        model.quantize(images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": 3}, "weights: expected one of 8, 4, 2, 'ternary', got 3"),
        ({"weights": True}, "weights: expected one of"),
        ({"weights": [4]}, "weights: expected one of"),
        ({"activations": 4}, "activations: expected 8, got 4"),
    ],
)
def test_other_bits_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Bits(**wrong)


@pytest.mark.parametrize("wrong", [3, "many", 4.5, [4], True])
def test_other_bits_of_a_training_are_refused(known, wrong):
    model, images, labels = known
    with pytest.raises(ValueError, match=r"quantize: expected a lenet5c\.Bits"):
        model.fit(images, labels, quantize=wrong)
    with pytest.raises(ValueError, match=r"bits: expected a lenet5c\.Bits"):
        model.quantize(images, bits=wrong)


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([Dense(5), lenet5c.RadialBasis(10)], {}, "of the kind 'radial_basis'"),
        (
            [Residual([Conv2d(1, 3, padding=1)]), Dense(10)],
            {},
            "of the kind 'residual'",
        ),
        (
            [Dense(10), BatchNorm2d(), BatchNorm2d()],
            {},
            "at most one batch normalisation right after",
        ),
        ([Dense(10)], {"optimizer": lenet5c.SDLM()}, "no second derivatives"),
    ],
)
def test_what_is_not_trained_as_integers_is_refused(known, layers, options, message):
    _, images, labels = known
    model = lenet5c.Model(layers, input_shape=(1, 12, 12))
    before = model.state_vector.copy()
    with pytest.raises(ValueError, match=f"quantize: .*{message}"):
        model.fit(images, labels, quantize=8, **options)
    np.testing.assert_array_equal(model.state_vector, before)
    assert not model.fitted


def test_images_of_other_floats_are_refused():
    model = lenet5c.Model([Dense(10)], input_shape=(1, 3, 3))
    images = np.linspace(-5, 5, 180, dtype=np.float32).reshape(20, 3, 3)
    with pytest.raises(ValueError, match="quantize: expected uint8 images, or floats"):
        model.fit(images, np.arange(20) % 10, quantize=8)
    model.fit(np.abs(images) / 5, np.arange(20) % 10, quantize=8, epochs=1)
    assert model.rounding.bits == Bits(8)


def test_numbers_of_augmentation_are_in_units_of_the_input(known):
    """Noise is as strong as for the network in floats."""
    model, images, _ = known
    found = IntegerNetwork(model, Bits(), images[:, None], np.arange(300))
    augment = lenet5c.Augment(noise=0.3)
    noise = augment.for_core(model.stage)[7]
    assert found._augment(augment)[7] == pytest.approx(noise / found.input_scale)


def test_mnist_loses_little(mnist, mnist_model):
    model = lenet5c.lenet5()
    model.set_input(mnist_model.stage, mnist_model.source, mnist_model.classes)
    model.state_vector = mnist_model.state_vector
    images, labels = mnist.train.images[:5000], mnist.train.labels[:5000]
    tested = mnist.test.images[:2000], mnist.test.labels[:2000]
    before = model.evaluate(*tested).accuracy
    options = {"optimizer": lenet5c.SGD(0.02), "epochs": 1, "threads": 1}
    model.fit(images, labels, quantize=4, **options)
    found = model.quantize(images[:10]).predict(tested[0])
    assert (found == tested[1]).mean() > before - 0.01
