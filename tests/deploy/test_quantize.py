"""Networks in 8-bit integers: the bits that docs/int8.md defines, and how close they
are to the float network."""

import math
import os

import int8_reference as reference
import numpy as np
import pytest
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c import AvgPool2d, Conv2d, Dense, ReLU, Subsampling2d, Tanh, datasets
from lenet5c.data.images import InputStage
from lenet5c.deploy.int8 import TANH_TABLE, _rescale, fixed_point
from lenet5c.deploy.quantize import QuantizedModel

needs_mnist = pytest.mark.skipif(
    not os.environ.get("LENET5C_DATA"),
    reason="LENET5C_DATA does not name a folder that holds mnist/",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_definition(name):
    model, images = network(name)
    quantized = model.quantize(images[:20])
    scores = quantized.scores(images[::8])
    assert scores.dtype == np.int32
    for image, row in zip(images[::8], scores, strict=True):
        assert row.tolist() == reference.scores(model.folded().layers, quantized, image)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_close_to_the_logits(name):
    model, images = network(name)
    quantized = model.quantize(images)
    logits = model.forward(images)
    error = quantized.scores(images) * quantized.scale - logits
    assert np.abs(error).max() < 0.08 * np.abs(logits).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_errors_are_those_of_each_layer(name):
    model, images = network(name)
    report = model.quantize(images).report(images, model.predict(images))
    assert report.float_accuracy == 1
    assert report.accuracy == report.agreement
    assert report.images == 40
    for layer in report.layers:
        assert layer.signal_to_noise > 20, layer.name


@pytest.mark.parametrize("factor", [1e-6, 100.0])
def test_weights_of_any_size_keep_to_the_definition(factor):
    model, images = network("padding and strides")
    model.parameter_vector *= np.float32(factor)
    quantized = model.quantize(images)
    got = quantized.scores(images[:2]).tolist()
    assert got == [
        reference.scores(model.folded().layers, quantized, x) for x in images[:2]
    ]
    agreement = (quantized.predict(images) == model.predict(images)).mean()
    assert agreement > 0.9


def test_a_dead_filter_does_not_coarsen_the_others():
    model, images = network("padding and strides")
    model.parameter_vector *= np.float32(1e-9)
    model.parameters["conv2d_1.weight"][3] = 0
    model.parameters["conv2d_1.bias"][3] = 0
    quantized = model.quantize(images)
    assert quantized.layers[0].multiplier.min() > 1 << 13
    assert (quantized.predict(images) == model.predict(images)).mean() > 0.9


@pytest.mark.parametrize("bias", [0.0, 1e4, -1e30])
def test_filters_without_weights_give_their_bias(bias):
    model = lenet5c.Model(
        [Dense(4), ReLU(), Dense(3)], input_shape=(1, 2, 2), classes=3
    )
    model.parameter_vector[:] = 0
    model.parameters["dense_1.bias"][:] = bias
    model.parameters["dense_2.bias"][:] = [bias, -bias, 0]
    images = np.full((1, 2, 2), 7, np.uint8)
    quantized = model.quantize(images)
    assert quantized.scores(images)[0] * quantized.scale == pytest.approx(
        np.array([bias, -bias, 0]), rel=1e-6
    )


def test_sums_beyond_the_integers_of_float32_are_exact():
    model = lenet5c.Model([Dense(5)], input_shape=(1, 40, 40), classes=5)
    rng = np.random.default_rng(2)
    weight = model.parameters["dense_1.weight"]
    weight[:] = rng.uniform(0.9, 1.0, weight.shape)
    model.set_input(InputStage(0.0, 0.5, 0.0), (40, 40), np.arange(5))
    images = rng.integers(250, 256, (4, 1, 40, 40), np.uint8)
    quantized = model.quantize(images)
    scores = quantized.scores(images)
    assert scores.min() > 1 << 24
    got = [
        reference.scores(model.folded().layers, quantized, image) for image in images
    ]
    assert scores.tolist() == got


def test_activations_beyond_those_of_calibration_saturate():
    model, images = network("no activations")
    dark = np.zeros_like(images[:3])
    quantized = model.quantize(dark)
    got = quantized.scores(images[:2]).tolist()
    assert got == [
        reference.scores(model.folded().layers, quantized, x) for x in images[:2]
    ]


def test_background_surrounds_smaller_images():
    model, images = network("like LeNet-5")
    quantized = model.quantize(images)
    assert quantized.background == round(-0.5 / quantized.input_scale)
    small = images[:3, :, 1:6, 2:]
    got = quantized.scores(small).tolist()
    assert got == [reference.scores(model.folded().layers, quantized, x) for x in small]


def test_the_table_of_pixels_has_the_whole_range():
    model, images = network("like LeNet-5")
    quantized = model.quantize(images)
    real = (np.arange(256) / 255 - 0.25) / 0.5
    assert quantized.table.max() == 127
    assert np.abs(quantized.table * quantized.input_scale - real).max() < (
        0.5001 * quantized.input_scale
    )


def test_the_table_of_tanh_ends_where_it_is_127():
    np.testing.assert_array_equal(TANH_TABLE, reference.T)
    assert round(127 * math.tanh(799 / 256)) == 127
    assert TANH_TABLE[0] == 0


def test_halves_are_rounded_upwards():
    sums = np.array([-3, -1, 1, 3, 5])
    got = _rescale(sums, np.array([1 << 30], np.int32), 31)
    assert got.tolist() == [-1, 0, 1, 2, 3]


@pytest.mark.parametrize("ratio", [1e-12, 1e-3, 0.5, 1.0, 3.7, 2.0**29])
def test_multipliers_use_all_of_their_bits(ratio):
    multiplier, shift = fixed_point(np.array([ratio]))
    assert multiplier[0] / 2.0**shift == pytest.approx(ratio, rel=2**-20)
    assert multiplier.dtype == np.int32
    assert 1 <= shift <= 62
    if shift < 62:
        assert multiplier[0] >= 1 << 29


def test_multipliers_too_large_for_their_bits_saturate():
    multiplier, shift = fixed_point(np.array([1e30, 1.0]))
    assert multiplier.tolist() == [2**31 - 1, 2]
    assert shift == 1


def test_the_first_of_equal_scores_wins():
    model = lenet5c.Model([Dense(3)], input_shape=(1, 2, 2), classes=3)
    model.parameter_vector[:] = 0
    images = np.zeros((2, 2, 2), np.uint8)
    model.set_input(InputStage(0.5, 0.5, -1.0), (2, 2), np.array(["b", "a", "c"]))
    assert model.quantize(images).predict(images).tolist() == ["b", "b"]


def test_many_images_are_cut_into_parts(monkeypatch):
    model, images = network("like LeNet-5")
    quantized = model.quantize(images)
    whole = quantized.scores(images)
    monkeypatch.setattr("lenet5c.deploy.quantize.NUMBERS_AT_ONCE", 5000)
    np.testing.assert_array_equal(quantized.scores(images), whole)
    again = model.quantize(images)
    np.testing.assert_array_equal(again.scores(images), whole)


def test_the_report_is_readable():
    model, images = network("like LeNet-5")
    text = str(model.quantize(images).report(images, model.predict(images)))
    assert "accuracy    100.00% in float32" in text
    assert "conv2d_1" in text
    assert " dB" in text


def test_bytes_are_counted():
    model, images = network("like LeNet-5")
    quantized = model.quantize(images)
    weights = 3 * 25 + 9 * 3 * 9 + 9 * 2 * 2 * 4
    numbers = 4 * (3 + 3 + 9 + 9 + 4)
    assert quantized.weight_bytes == weights + numbers + 256 + 800
    assert quantized.activation_bytes == 3 * 8 * 9 + 12 * 13
    assert "steps" in repr(quantized)


def test_floating_images_are_refused():
    model, images = network("like LeNet-5")
    with pytest.raises(TypeError, match="calibration_images: expected uint8"):
        model.quantize(images / 255)
    quantized = model.quantize(images)
    with pytest.raises(TypeError, match="images: expected uint8 pixels, got float"):
        quantized.scores(images / 255)
    with pytest.raises(TypeError, match="images: expected uint8 pixels, got float"):
        quantized.report(images / 255, np.zeros(40))


def test_a_model_trained_on_floating_images_is_refused(small, small_images, labels):
    small.fit(small_images / 25.5, labels, epochs=1)
    with pytest.raises(ValueError, match=r"model: .* trained on other floats"):
        small.quantize(small_images)


def test_a_model_trained_on_floats_from_0_to_1_takes_bytes(small, small_images, labels):
    small.fit(small_images / 255, labels, epochs=9)
    quantized = small.quantize(small_images)
    found = quantized.scores(small_images) * quantized.scale
    assert np.abs(found - small.forward(small_images)).max() < 0.3


def test_parameters_that_are_not_finite_are_refused():
    model, images = network("like LeNet-5")
    model.parameter_vector[3] = np.nan
    with pytest.raises(ValueError, match="model: expected finite parameters"):
        model.quantize(images)


def test_sums_that_32_bits_might_not_hold_are_refused():
    model = lenet5c.Model(
        [Conv2d(2, 1), Tanh(), Dense(2)], input_shape=(1, 200, 200), classes=2
    )
    model.parameters["dense_1.weight"][:] = 1.0
    with pytest.raises(ValueError, match="dense_1 adds up 80000 products"):
        model.quantize(np.zeros((1, 200, 200), np.uint8))
    model = lenet5c.Model(
        [Subsampling2d(300), Dense(2)], input_shape=(1, 300, 300), classes=2
    )
    with pytest.raises(ValueError, match="subsampling2d_1 adds up 90000 products"):
        model.quantize(np.zeros((1, 300, 300), np.uint8))


def test_windows_that_are_too_large_are_refused_by_name():
    side = 2049
    layers = [AvgPool2d(side), Dense(2)]
    model = lenet5c.Model(layers, input_shape=(1, side, side), classes=2)
    images = np.zeros((1, side, side), np.uint8)
    with pytest.raises(ValueError, match="avg_pool2d_1 has windows of 4,198,401 pix"):
        model.quantize(images)


@pytest.mark.parametrize("factor", [1e-39, 1e-20, 1e22, 1e37])
def test_units_that_no_file_holds_are_refused_by_name(factor):
    layers = [Conv2d(2, 3, name="A"), ReLU(), Dense(2, name="B")]
    model = lenet5c.Model(layers, input_shape=(1, 6, 6), classes=2, seed=1)
    model.parameter_vector[:] *= factor
    images = np.random.default_rng(1).integers(0, 256, (5, 6, 6), np.uint8)
    with pytest.raises(ValueError, match=r"units that float32 holds, got .* of [AB]$"):
        model.quantize(images)


@needs_mnist
def test_lenet5_loses_less_than_a_tenth_of_a_point_on_mnist():
    data = datasets.mnist()
    model = lenet5c.lenet5()
    model.fit(data.train.images[:20_000], data.train.labels[:20_000], epochs=1)
    quantized = model.quantize(data.train.images[:500])
    report = quantized.report(data.test.images[:3000], data.test.labels[:3000])
    assert report.accuracy > report.float_accuracy - 0.001
    assert report.agreement > 0.998
    assert all(layer.signal_to_noise > 30 for layer in report.layers)
    assert quantized.weight_bytes < 1 << 16
    assert quantized.activation_bytes < 1 << 13
    assert isinstance(quantized, QuantizedModel)


def test_batch_normalisation_is_part_of_the_convolution_before_it():
    model = lenet5c.lenet5(batch_norm=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    model.fit(pixels, np.arange(40) % 10, epochs=1)
    quantized = model.quantize(pixels)
    same = model.folded().quantize(pixels)
    np.testing.assert_array_equal(quantized.scores(pixels), same.scores(pixels))
    before = quantized.report(pixels, np.arange(40) % 10)
    model.parameter_vector[:] *= -1  # the report stays one of what was quantized
    assert quantized.report(pixels, np.arange(40) % 10) == before


@pytest.mark.parametrize("name", ["like LeNet-5", "residual blocks"])
def test_an_evaluation_is_that_of_the_scores(name, monkeypatch):
    monkeypatch.setattr("lenet5c.deploy.quantize.IMAGES_AT_ONCE", 7)
    model, images = network(name)
    quantized = model.quantize(images)
    labels = np.roll(model.predict(images), 1)
    labels[:20] = model.predict(images)[:20]
    found = quantized.evaluate(images, labels)
    loss, count = 0.0, len(model.classes)
    confusion = np.zeros((count, count), int)
    for row, label in zip(quantized.scores(images).tolist(), labels, strict=True):
        logits = [score * quantized.scale for score in row]
        code = model.classes.tolist().index(label)
        total = sum(math.exp(logit - max(logits)) for logit in logits)
        loss += max(logits) + math.log(total) - logits[code]
        confusion[code, row.index(max(row))] += 1
    assert found.loss == pytest.approx(loss / len(images), rel=1e-5)
    assert found.confusion.tolist() == confusion.tolist()
    assert found.accuracy == confusion.trace() / len(images)
    assert list(found.classes) == model.classes.tolist()
    assert type(found) is lenet5c.Evaluation
    same = quantized.evaluate(images, labels, threads=2)
    assert (same.loss, same.accuracy) == (found.loss, found.accuracy)


def test_integers_refuse_what_floats_refuse(small, small_images, labels):
    small.fit(small_images, labels, epochs=1, threads=1)
    quantized = small.quantize(small_images)
    one_hot = np.eye(10)[labels]
    assert (
        quantized.evaluate(small_images, one_hot)[:2]
        == (quantized.evaluate(small_images, [str(label) for label in labels])[:2])
    )
    wrong = [
        (small_images, labels[:-1]),
        (small_images, labels + 1),
        (small_images, labels + 0.5),
        (small_images[0], labels[:1]),
        (small_images[:0], labels[:0]),
        (np.zeros((1, 13, 12), np.uint8), labels[:1]),
        (np.full((1, 12, 12), 256), labels[:1]),
    ]
    for arguments in wrong:
        said = []
        for model in (small, quantized):
            with pytest.raises((ValueError, TypeError)) as error:
                model.evaluate(*arguments)
            said.append((error.type, str(error.value)))
        assert said[0] == said[1]
    for threads in (0, "2"):
        with pytest.raises((ValueError, TypeError), match="threads"):
            quantized.evaluate(small_images, labels, threads=threads)
    with pytest.raises(TypeError, match="it is called labels here"):
        quantized.evaluate(small_images, y=labels)
    with pytest.raises(AttributeError, match=r"model\.evaluate\(images, labels\)"):
        quantized.score  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'fit'$"):
        quantized.fit  # noqa: B018


@pytest.mark.parametrize("name", NETWORKS)
def test_activations_are_those_of_the_floats_but_for_rounding(name):
    model, images = network(name)
    quantized = model.quantize(images)
    for layer in quantized.layers:
        if layer.step.kind == "flatten":
            continue
        found = quantized.activations(images, layer.step.name)
        wanted = model.folded().activations(images, layer.step.last)
        assert found.shape == (len(images), *layer.step.output_shape)
        assert found.dtype == np.float32
        wanted = wanted.reshape(found.shape)
        assert np.square(found - wanted).mean() < 0.01 * np.square(wanted).mean()
    np.testing.assert_array_equal(
        quantized.activations(images, layer.step.last).reshape(len(images), -1),
        quantized.forward(images),
    )
    assert quantized(images).tolist() == quantized.forward(images).tolist()


def test_activations_are_named_by_the_step_or_its_activation(small, small_images):
    quantized = small.quantize(small_images)
    both = [quantized.activations(small_images, name) for name in ("A", "tanh_1")]
    np.testing.assert_array_equal(*both)
    with pytest.raises(ValueError, match="layer: expected one of A, B, D, got 'C'"):
        quantized.activations(small_images, "C")


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_those_of_the_folded_network(name):
    model, images = network(name)
    quantized, folded = model.quantize(images), model.folded()
    assert quantized.multiply_adds == folded.multiply_adds
    assert quantized.class_count == model.class_count
    assert quantized.trained_on_floats == model.trained_on_floats
    found = [layer for layer in quantized.layers if layer.step.kind == "conv"]
    if not found:
        assert quantized.first_weights is None
        return
    name, weight = quantized.first_weights
    assert name == found[0].step.name
    assert weight is found[0].weight


def test_lenet5_in_integers_is_described_as_in_floats():
    model = lenet5c.lenet5()
    quantized = model.quantize(np.zeros((1, 28, 28), np.uint8) + 9)
    assert quantized.parameter_count == model.parameter_count
    assert quantized.multiply_adds == model.multiply_adds
    assert quantized.map_shapes == model.map_shapes
    assert (quantized.dtype, model.dtype) == ("int8", "float32")
    name, weight = quantized.first_weights
    real = model.first_weights[1]
    assert (name, weight.shape) == ("C1", real.shape)
    assert np.corrcoef(weight.ravel(), real.ravel())[0, 1] > 0.95
    lines = quantized.summary().splitlines()
    assert len({line.find("int8") for line in lines} - {-1}) == 1
    assert lines[-1].split() == ["total", "61,470"]


def test_the_history_goes_into_the_file(small, small_images, labels, tmp_path):
    small.fit(small_images, labels, epochs=3, validation=0.2, threads=1)
    quantized = small.quantize(small_images)
    assert quantized.history.loss == small.history.loss
    quantized.save(tmp_path / "small.lenet5c")
    small.save(tmp_path / "floats.lenet5c")
    again, floats = (
        lenet5c.load(tmp_path / f"{name}.lenet5c") for name in ("small", "floats")
    )
    assert len(again.history) == 3
    assert again.history == floats.history
