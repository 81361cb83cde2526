"""Model: what goes in is checked, what comes out agrees with itself and plain NumPy."""

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c import AvgPool2d, Conv2d, Dense, FileFormatError, Flatten, Tanh, reference
from lenet5c.files.container import read_file, write_file

# Construction


def test_layers_without_a_name_are_numbered_by_kind():
    model = lenet5c.Model(
        [Conv2d(2, 3), Tanh(), Conv2d(2, 3, name="mine"), Tanh(), Flatten(), Dense(2)],
        input_shape=(1, 6, 6),
        classes=2,
    )
    names = ["conv2d_1", "tanh_1", "mine", "tanh_2", "flatten_1", "dense_1"]
    assert [layer.name for layer in model.layers] == names
    assert list(model.parameters) == [
        f"{layer}.{kind}"
        for layer in ("conv2d_1", "mine", "dense_1")
        for kind in ("weight", "bias")
    ]


GOOD = {"input_shape": (1, 6, 6), "classes": 2}


@pytest.mark.parametrize(
    ("layers", "options", "error", "message"),
    [
        (None, {}, TypeError, "layers"),
        (5, {}, TypeError, "layers"),
        ([], {}, ValueError, "layers: expected at least one"),
        ([None], {}, TypeError, "layers: expected layers, got None"),
        ([Dense], {}, TypeError, "layers: expected layers"),
        (["dense"], {}, TypeError, "layers: expected layers"),
        ([Flatten()], {"classes": 36}, ValueError, "layers: expected at least one"),
        ([Dense(3)], {}, ValueError, "layers: the last one has 3 outputs"),
        ([Conv2d(2, 3)], {}, ValueError, "layers: the last one has 32 outputs"),
        (
            [Tanh(name="A"), Dense(2, name="A")],
            {},
            ValueError,
            "layers: two are named 'A'",
        ),
        ([Conv2d(2, 7), Dense(2)], {}, ValueError, "larger than its padded input 6x6"),
        ([AvgPool2d(7), Dense(2)], {}, ValueError, "window 7x7 is larger"),
        ([Dense(1 << 20), Dense(1 << 10), Dense(2)], {}, ValueError, "parameters"),
        ([Dense(2)], {"input_shape": None}, TypeError, "input_shape"),
        ([Dense(2)], {"input_shape": 6}, (TypeError, ValueError), "input_shape"),
        ([Dense(2)], {"input_shape": (6, 6)}, ValueError, "input_shape"),
        ([Dense(2)], {"input_shape": (1, 1, 6, 6)}, ValueError, "input_shape"),
        ([Dense(2)], {"input_shape": (1, 6, 0)}, ValueError, "input_shape"),
        ([Dense(2)], {"input_shape": (1, -6, 6)}, ValueError, "input_shape"),
        ([Dense(2)], {"input_shape": (1, 6.0, 6)}, TypeError, "input_shape"),
        ([Dense(2)], {"input_shape": (True, 6, 6)}, TypeError, "input_shape"),
        ([Dense(2)], {"input_shape": (1, "6", 6)}, TypeError, "input_shape"),
        ([Dense(2)], {"classes": 1}, ValueError, "classes"),
        ([Dense(2)], {"classes": None}, TypeError, "classes"),
        ([Dense(2)], {"classes": 2.0}, TypeError, "classes"),
        ([Dense(2)], {"seed": -1}, ValueError, "seed"),
        ([Dense(2)], {"seed": True}, TypeError, "seed"),
        ([Dense(2)], {"seed": None}, TypeError, "seed"),
    ],
)
def test_bad_arguments_are_refused_by_name(layers, options, error, message):
    with pytest.raises(error, match=message):
        lenet5c.Model(layers, **(GOOD | options))


HUGE_STRIDE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from lenet5c import Conv2d, Dense, Model
try:
    model = Model(
        [Conv2d(2, 3), Conv2d(2, 3, stride={stride}), Dense(2)],
        input_shape=(1, 64, 64),
        classes=2,
    )
    model.loss_and_gradients([[[0.5, 1.0]]], [1])
except ValueError as error:
    print("refused:", error)
else:
    print("fine")
"""


@pytest.mark.parametrize("stride", [4_096, 40_000, 46_341, 65_536, 1 << 20])
def test_a_huge_stride_is_taken_or_refused(stride, run_python):
    done = run_python(HUGE_STRIDE.format(stride=stride))
    assert done.stdout.startswith(("refused: ", "fine"))


def test_parameters_are_views_of_one_aligned_vector(small):
    vector = small.parameter_vector
    assert vector.ctypes.data % 64 == 0
    assert vector.dtype == np.float32
    at = 0
    for value in small.parameters.values():
        assert np.shares_memory(value, vector)
        np.testing.assert_array_equal(value.ravel(), vector[at : at + value.size])
        at += value.size
    assert at == len(vector) == small.parameter_count


def test_parameters_can_be_assigned_to(small, small_images):
    before = small.forward(small_images)
    bias = small.parameters["D.bias"]
    small.parameters["D.bias"] = np.arange(10)
    np.testing.assert_array_equal(bias, np.arange(10))
    found = small.forward(small_images) - before
    np.testing.assert_allclose(found, np.tile(np.arange(10.0), (60, 1)), atol=1e-5)
    for value in (np.arange(9), 0, [1, 2]):
        with pytest.raises(ValueError, match=r"D.bias: expected the shape \(10,\)"):
            small.parameters["D.bias"] = value
    with pytest.raises(KeyError):
        small.parameters["E.bias"] = np.arange(10)
    assert len(small.parameters) == 4
    assert "D.bias" in small.parameters
    assert "'D.bias': (10,)" in repr(small.parameters)


def test_summary_has_the_counts():
    table = lenet5c.lenet5().summary()
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    assert rows["C1"] == ["C1", "Conv2d", "6@28x28", "156", "117,600"]
    assert rows["S2"] == ["S2", "AvgPool2d", "6@14x14"]
    assert rows["C3"] == ["C3", "Conv2d", "16@10x10", "2,416", "240,000"]
    assert rows["C5"] == ["C5", "Conv2d", "120", "48,120", "48,000"]
    assert rows["F6"] == ["F6", "Dense", "84", "10,164", "10,080"]
    assert rows["OUTPUT"] == ["OUTPUT", "Dense", "10", "850", "840"]
    assert rows["total"] == ["total", "61,706", "416,520"]
    assert max(map(len, table.splitlines())) <= 80


def test_repr_says_what_it_is():
    expected = "<Model of 12 layers, 61,706 parameters, 10 classes>"
    assert repr(lenet5c.lenet5()) == expected


# What comes out


def test_outputs_agree_with_each_other(small, small_images, labels):
    small.fit(small_images, labels + 1, epochs=3)
    logits = small.forward(small_images)
    probabilities = small.predict_proba(small_images)
    assert logits.shape == probabilities.shape == (60, 10)
    assert logits.dtype == probabilities.dtype == np.float32
    exact = np.exp(logits.astype(float))
    exact /= exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, exact, rtol=1e-5, atol=1e-7)
    predicted = small.predict(small_images)
    np.testing.assert_array_equal(predicted, logits.argmax(axis=1) + 1)
    result = small.evaluate(small_images, labels + 1)
    assert result.accuracy == (predicted == labels + 1).mean()
    expected = reference.softmax_cross_entropy(logits, labels)
    assert result.loss == pytest.approx(expected, rel=1e-6)
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, predicted - 1), 1)
    np.testing.assert_array_equal(result.confusion, confusion)
    assert result.confusion.dtype == np.int64
    assert result == (result.loss, result.accuracy, result.confusion)
    loss, _ = small.loss_and_gradients(small_images, labels + 1)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_rows_of_the_confusion_matrix_are_the_truth():
    model = lenet5c.Model([Dense(3)], input_shape=(1, 1, 1), classes=3)
    model.parameters["dense_1.weight"] = np.zeros((3, 1))
    model.parameters["dense_1.bias"] = [0, 0, 5]  # always class 2
    result = model.evaluate(np.zeros((4, 1, 1), "f4"), [0, 1, 1, 2])
    assert result.confusion.tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 1]]
    assert result.accuracy == 0.25


@pytest.mark.parametrize("spread", [1e4, 3e37])
def test_large_logits_are_no_problem(spread):
    model = lenet5c.Model([Dense(3)], input_shape=(1, 1, 1), classes=3)
    model.parameters["dense_1.weight"] = np.zeros((3, 1))
    model.parameters["dense_1.bias"] = np.array([1, -1, 0.5]) * spread
    image = np.zeros((1, 1, 1), "f4")
    np.testing.assert_array_equal(model.predict_proba(image), [[1, 0, 0]])
    assert model.evaluate(image, [0]).loss == 0
    assert model.evaluate(image, [1]).loss == pytest.approx(2 * spread)


def test_one_image_is_answered_as_among_many(images, labels):
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=1)
    many = model.forward(images)
    for count in (1, 2, 15, 16, 17, 33):
        found = model.forward(images[:count])
        np.testing.assert_allclose(found, many[:count], atol=1e-5)
    np.testing.assert_allclose(model.forward(images[41:42]), many[41:42], atol=1e-5)


def test_more_images_than_are_run_at_once(small):
    images = np.random.default_rng(0).integers(0, 256, (9_001, 3, 3), dtype="u1")
    found = small.forward(images)
    for at in (0, 4_095, 4_096, 8_191, 8_192, 9_000):
        alone = small.forward(images[at : at + 1])[0]
        np.testing.assert_allclose(found[at], alone, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_change_answers(threads, images):
    model = lenet5c.lenet5(activation="relu")
    expected = model.forward(images, threads=3)
    np.testing.assert_array_equal(model.forward(images, threads=threads), expected)


LABELS = {
    "integers": np.arange(60) % 10,
    "from 1": np.arange(60) % 10 + 1,
    "small integers": (np.arange(60) % 10).astype(np.uint8),
    "strings": np.array([f"digit {i % 10}" for i in range(60)]),
    "strings in objects": np.array([f"digit {i % 10}" for i in range(60)], object),
    "a list of strings": [f"digit {i % 10}" for i in range(60)],
    "negative": np.arange(60) % 10 - 5,
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_predicted_as_they_were_given(name, images, tmp_path):
    labels = LABELS[name]
    model = lenet5c.mlp()
    model.fit(images, labels, epochs=12, batch_size=10)
    np.testing.assert_array_equal(model.predict(images), labels)
    np.testing.assert_array_equal(model.classes, np.unique(labels))
    assert model.evaluate(images, labels).accuracy == 1
    model.save(tmp_path / "model")
    again = lenet5c.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(images), labels)
    np.testing.assert_array_equal(again.classes, model.classes)


def test_one_hot_rows_train_as_their_numbers_do(images, labels, digest):
    digests = set()
    for given in (labels, np.eye(10)[labels], np.eye(10, dtype=bool)[labels].tolist()):
        model = lenet5c.mlp()
        model.fit(images, given, epochs=1)
        digests.add(digest(model))
    assert len(digests) == 1


def test_booleans_are_predicted_as_booleans(images, labels, tmp_path):
    model = lenet5c.mlp(classes=2)
    model.fit(images, labels > 4, epochs=20, batch_size=10)
    found = model.predict(images)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, labels > 4)
    model.save(tmp_path / "model")
    assert lenet5c.load(tmp_path / "model").predict(images).dtype == bool


# Gradients


def test_the_gradient_of_a_batch_is_the_weighted_sum_of_its_parts():
    rng = np.random.default_rng(3)
    images = rng.normal(size=(700, 28, 28)).astype(np.float32)
    labels = rng.integers(0, 10, 700)
    model = lenet5c.lenet5(seed=2)
    loss, gradients = model.loss_and_gradients(images, labels)
    total, sums = 0.0, dict.fromkeys(gradients, 0.0)
    for part in (slice(0, 5), slice(5, 261), slice(261, 700)):
        count = len(images[part])
        part_loss, part_gradients = model.loss_and_gradients(images[part], labels[part])
        total += part_loss * count / 700
        for name, gradient in part_gradients.items():
            sums[name] = sums[name] + gradient * (count / 700)
    assert loss == pytest.approx(total, rel=1e-6)
    for name, gradient in gradients.items():
        scale = np.abs(gradient).max()
        assert scale > 0
        np.testing.assert_allclose(gradient, sums[name], rtol=0, atol=4e-6 * scale)


def test_loss_and_gradients_changes_nothing(small, small_images, labels, digest):
    before = digest(small)
    first = small.loss_and_gradients(small_images, labels)
    _, gradients = first
    assert gradients.keys() == dict(small.parameters).keys()
    for name, gradient in gradients.items():
        assert gradient.shape == small.parameters[name].shape
        assert not np.shares_memory(gradient, small.parameter_vector)
    again = small.loss_and_gradients(small_images, labels)
    assert again[0] == first[0]
    assert digest(small) == before


def test_train_step_is_a_step_on_that_gradient(small, small_images, labels):
    before = small.parameter_vector.copy()
    loss, gradients = small.loss_and_gradients(small_images, labels)
    flat = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    optimizer = lenet5c.SGD(0.5, momentum=0)
    assert small.train_step(small_images, labels, optimizer) == loss
    np.testing.assert_allclose(
        small.parameter_vector, before - 0.5 * flat, rtol=1e-6, atol=1e-7
    )
    small.parameter_vector[:] = before
    small.train_step(small_images, labels, optimizer, learning_rate=0.1)
    np.testing.assert_allclose(
        small.parameter_vector, before - 0.1 * flat, rtol=1e-6, atol=1e-7
    )


# Activations


def test_activations_have_names_and_shapes(images):
    model = lenet5c.lenet5()
    expected = {
        **{"C1": (6, 28, 28), "tanh_1": (6, 28, 28), "S2": (6, 14, 14)},
        **{"C3": (16, 10, 10), "S4": (16, 5, 5), "C5": (120, 1, 1)},
        **{"flatten_1": (120, 1, 1), "F6": (84, 1, 1), "OUTPUT": (10, 1, 1)},
    }
    for name, shape in expected.items():
        found = model.activations(images[:19], name)
        assert found.shape == (19, *shape)
        assert found.dtype == np.float32


def test_activations_of_a_convolution_are_those_after_tanh(images, labels):
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=1)
    stage = model.stage
    x = np.full((60, 1, 32, 32), -stage.mean / stage.deviation)
    x[:, 0, 2:30, 2:30] = (images / 255 - stage.mean) / stage.deviation
    parameters = model.parameters
    c1 = np.tanh(reference.conv2d(x, parameters["C1.weight"], parameters["C1.bias"]))
    s2 = reference.avg_pool2d(c1, 2)
    np.testing.assert_allclose(model.activations(images, "C1"), c1, atol=5e-6)
    np.testing.assert_allclose(model.activations(images, "S2"), s2, atol=5e-6)
    logits = model.activations(images, "OUTPUT").reshape(60, 10)
    np.testing.assert_allclose(logits, model.forward(images), atol=2e-6)


@pytest.mark.parametrize("layer", ["c1", "", "C1.weight", None, 0, ["C1"]])
def test_an_unknown_layer_is_refused_with_those_there_are(layer, small, small_images):
    with pytest.raises(
        (TypeError, ValueError), match=r"^layer: expected .*A, tanh_1, B"
    ):
        small.activations(small_images, layer)


# Refusals

IMAGES = np.arange(60 * 144).reshape(60, 12, 12).astype(np.uint8)
NUMBERS = np.arange(60) % 10
CALLS = {
    "forward": lambda m, x, y, **o: m.forward(x, **o),
    "predict": lambda m, x, y, **o: m.predict(x, **o),
    "predict_proba": lambda m, x, y, **o: m.predict_proba(x, **o),
    "activations": lambda m, x, y, **o: m.activations(x, "A", **o),
    "evaluate": lambda m, x, y, **o: m.evaluate(x, y, **o),
    "loss_and_gradients": lambda m, x, y, **o: m.loss_and_gradients(x, y, **o),
    "train_step": lambda m, x, y, **o: m.train_step(x, y, lenet5c.SGD(), **o),
}
BAD_IMAGES = [
    None,
    "images",
    [],
    IMAGES.astype(np.int32) - 1,
    IMAGES.astype(object),
    IMAGES[0],
    IMAGES[0, 0],
    IMAGES[:0],
    IMAGES[:, :, None, None, :],
    np.zeros((60, 13, 12), np.uint8),
    np.zeros((60, 3, 12, 12), np.uint8),
    np.full((60, 12, 12), np.nan),
    np.full((60, 12, 12), np.inf),
    np.full((60, 12, 12), 1e39),
    [[1.0, 2.0], [3.0]],
]
BAD_LABELS = [
    *(None, [], 3, NUMBERS[1:], NUMBERS + 1, NUMBERS - 1, NUMBERS + 0.5),
    *(np.where(NUMBERS, NUMBERS, np.nan), np.full(60, "1.0"), np.ones((60, 10))),
]


@pytest.mark.parametrize("call", CALLS)
def test_bad_arguments_of_calls_are_refused_by_name_and_change_nothing(
    call, small, digest
):
    before = digest(small)
    for images in BAD_IMAGES:
        with pytest.raises((TypeError, ValueError), match=r"^images: "):
            CALLS[call](small, images, NUMBERS)
    if call in ("evaluate", "loss_and_gradients", "train_step"):
        for labels in BAD_LABELS:
            with pytest.raises((TypeError, ValueError), match=r"^labels: "):
                CALLS[call](small, IMAGES, labels)
    for threads in (0, -1, "2", True, 2.5, 10**9):
        with pytest.raises((TypeError, ValueError), match=r"^threads: "):
            CALLS[call](small, IMAGES, NUMBERS, threads=threads)
    assert digest(small) == before


@pytest.mark.parametrize("rate", ["0.1", math.nan, math.inf, -1, True])
def test_bad_learning_rates_of_a_step_are_refused_by_name(rate, small, digest):
    before = digest(small)
    optimizer = lenet5c.SGD()
    with pytest.raises((TypeError, ValueError), match=r"^learning_rate: "):
        small.train_step(IMAGES, NUMBERS, optimizer, learning_rate=rate)
    assert digest(small) == before
    assert optimizer.steps == 0


@pytest.mark.parametrize("optimizer", ["sgd", lenet5c.SGD])
def test_a_step_refuses_what_is_no_optimizer(optimizer, small):
    with pytest.raises(TypeError, match=r"^optimizer: "):
        small.train_step(IMAGES, NUMBERS, optimizer)


# Files


@pytest.fixture
def trained(small, small_images, labels) -> lenet5c.Model:
    small.fit(small_images, labels + 1, epochs=2)
    return small


def test_a_loaded_model_is_the_same_bit_for_bit(
    trained, small_images, tmp_path, digest
):
    for path in (tmp_path / "model", str(tmp_path / "other")):
        trained.save(path)
        again = lenet5c.load(path)
        assert digest(again) == digest(trained)
        assert again.layers == trained.layers
        assert again.input_shape == trained.input_shape
        np.testing.assert_array_equal(
            again.predict_proba(small_images), trained.predict_proba(small_images)
        )


def test_float_images_and_unfitted_models_survive_a_file(
    small_images, labels, tmp_path, digest
):
    model = lenet5c.lenet5(pooling="max", activation="relu", seed=3)
    model.save(tmp_path / "model")
    again = lenet5c.load(tmp_path / "model")
    assert not again.fitted
    assert digest(again) == digest(model)
    floats = small_images / 7.0
    for each in (model, again):
        each.fit(floats, labels, epochs=1)
    assert again.fitted
    assert digest(again) == digest(model)


def test_training_goes_on_after_a_file_as_without(
    trained, small_images, labels, tmp_path, digest
):
    trained.save(tmp_path / "model")
    again = lenet5c.load(tmp_path / "model")
    for each in (trained, again):
        each.fit(small_images, labels + 1, epochs=1, seed=8)
    assert digest(again) == digest(trained)


@pytest.mark.parametrize(
    "names",
    [
        [b"no", b"yes"],
        ["", "\N{SNOWMAN}"],
        ["a\nb", 'quote"'],
        [-(2**63), 2**63 - 1],
    ],
)
def test_classes_are_refused_at_once_or_survive_a_file(names, small_images, tmp_path):
    model = lenet5c.mlp(classes=2)
    labels = np.array(names)[np.arange(60) % 2]
    if isinstance(names[0], bytes):  # which JSON cannot hold
        with pytest.raises(TypeError, match=r"^labels: "):
            model.fit(small_images, labels, epochs=1)
        return
    model.fit(small_images, labels, epochs=1)
    model.save(tmp_path / "model")
    again = lenet5c.load(tmp_path / "model")
    assert again.classes.tolist() == sorted(names)


def test_saving_over_a_file_replaces_it_and_leaves_nothing_else(trained, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    trained.save(path)
    lenet5c.load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_model_that_cannot_be_saved_leaves_the_old_file(trained, tmp_path):
    path = tmp_path / "model"
    trained.save(path)
    old = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        trained.save(tmp_path / "missing" / "model")
    trained.parameters["D.bias"][3] = np.nan
    with pytest.raises(ValueError, match=r"D\.bias"):
        trained.save(path)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("path", [None, 3.5, ["model"]])
def test_what_is_no_path_is_refused(path, trained):
    with pytest.raises(TypeError):
        trained.save(path)
    with pytest.raises(TypeError):
        lenet5c.load(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        lenet5c.load(tmp_path / "missing")


def change(network=None, input_stage=None, classes=None, tensors=None):
    """A function that spoils a file's tensors and metadata."""

    def spoil(all_tensors, metadata):
        for name, patch in (("network", network), ("input_stage", input_stage)):
            if callable(patch):
                patch = patch(json.loads(metadata[name]))
            if patch is not None:
                whole = json.loads(metadata[name])
                whole = whole | patch if isinstance(patch, dict) else patch
                metadata[name] = whole if isinstance(whole, str) else json.dumps(whole)
        if classes is not None:
            metadata["classes"] = (
                classes if isinstance(classes, str) else json.dumps(classes)
            )
        for name, shape in (tensors or {}).items():
            all_tensors.pop(name, None)
            if shape:
                all_tensors[name] = np.zeros(shape, np.float32)

    return spoil


def layer(number: int, **values):
    """The network with other options of one layer."""

    def patch(network):
        network["layers"][number] |= values
        return network

    return patch


def without(field: str):
    return lambda values: json.dumps({k: v for k, v in values.items() if k != field})


DEEP = "[" * 20_000 + "]" * 20_000
SPOILED = {
    "unknown layer": change(layer(1, kind="swish")),
    "layer without kind": change(layer(1, kind=None)),
    "unknown option": change(layer(1, slope=2)),
    "layer of text": change({"layers": ["tanh"]}),
    "no layers": change({"layers": []}),
    "layers as a number": change({"layers": 4}),
    "layers missing": change(without("layers")),
    "one layer less": change(lambda n: n | {"layers": n["layers"][:-1]}),
    "one layer twice": change(lambda n: n | {"layers": n["layers"] * 2}),
    "network as a list": change("[]"),
    "network as null": change("null"),
    "network no JSON": change("{"),
    "network deep": change(DEEP),
    "other filters": change(layer(0, filters=4)),
    "huge filters": change(layer(0, filters=1 << 20)),
    "filters beyond all": change(layer(0, filters=1 << 70)),
    "kernel of text": change(layer(0, kernel_size="55")),
    "huge kernel": change(layer(0, kernel_size=[1 << 20, 1 << 20])),
    "huge padding": change(layer(0, padding=1 << 20)),
    "huge stride": change(layer(0, stride=1 << 16)),
    "true as stride": change(layer(0, stride=True)),
    "init unknown": change(layer(0, init="zeros")),
    "name missing": change(layer(0, name=None)),
    "name twice": change(layer(3, name="A")),
    "input two numbers": change({"input_shape": [12, 12]}),
    "input huge": change({"input_shape": [1, 1 << 20, 1 << 20]}),
    "input beyond all": change({"input_shape": [1, 10**100, 12]}),
    "input negative": change({"input_shape": [1, -12, -12]}),
    "input zero": change({"input_shape": [0, 12, 12]}),
    "input text": change({"input_shape": "112"}),
    "input infinite": change('{"input_shape": [1, Infinity, 12], "layers": []}'),
    "input null": change({"input_shape": None}),
    "input other": change({"input_shape": [1, 14, 12]}),
    "mean infinite": change(input_stage={"mean": math.inf}),
    "mean not a number": change(input_stage={"mean": math.nan}),
    "mean of text": change(input_stage={"mean": "grey"}),
    "mean missing": change(input_stage=without("mean")),
    "deviation zero": change(input_stage={"deviation": 0}),
    "deviation negative": change(input_stage={"deviation": -1.0}),
    "deviation null": change(input_stage={"deviation": None}),
    "background huge": change(input_stage={"background": 10**400}),
    "source one number": change(input_stage={"source": [12]}),
    "source negative": change(input_stage={"source": [-1, 12]}),
    "source of text": change(input_stage={"source": "12"}),
    "stage as a list": change(input_stage="[]"),
    "stage deep": change(input_stage=DEEP),
    "fewer classes": change(classes=list(range(9))),
    "more classes": change(classes=list(range(11))),
    "no classes": change(classes=[]),
    "class twice": change(classes=[*range(9), 0]),
    "classes of lists": change(classes=[[i] for i in range(10)]),
    "classes of fractions": change(classes=[i + 0.5 for i in range(10)]),
    "classes beyond int64": change(classes=[10**30 + i for i in range(10)]),
    "classes a number": change(classes=10),
    "classes a text": change(classes='"0123456789"'),
    "classes an object": change(classes={str(i): i for i in range(10)}),
    "classes null": change(classes="null"),
    "classes deep": change(classes=DEEP),
    "classes mixed": change(classes=[*range(9), None]),
    "a tensor missing": change(tensors={"D.bias": None}),
    "a tensor too many": change(tensors={"E.bias": (10,)}),
    "a tensor of another shape": change(tensors={"D.bias": (11,)}),
    "a tensor turned": change(tensors={"D.weight": (48, 10)}),
    "a tensor with an axis more": change(tensors={"D.bias": (10, 1)}),
    "metadata missing": lambda tensors, metadata: metadata.pop("network"),
    "stage missing": lambda tensors, metadata: metadata.pop("input_stage"),
    "classes missing": lambda tensors, metadata: metadata.pop("classes"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_files_that_describe_no_model_are_refused(name, trained, tmp_path):
    """The file itself is sound; what it says makes no sense."""
    path = tmp_path / "model"
    trained.save(path)
    tensors, metadata = read_file(path)
    SPOILED[name](tensors, metadata)
    try:
        write_file(path, tensors, metadata)
    except ValueError as error:
        pytest.skip(f"not even such a file: {error}")
    with pytest.raises(FileFormatError, match="model: "):
        lenet5c.load(path)


def test_the_unspoiled_file_is_fine(trained, tmp_path, digest):
    """Or else the test above would prove nothing."""
    path = tmp_path / "model"
    trained.save(path)
    tensors, metadata = read_file(path)
    change()(tensors, metadata)
    write_file(path, tensors, metadata)
    assert digest(lenet5c.load(path)) == digest(trained)


LOAD_HOSTILE = """
import resource
import sys
import lenet5c

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    lenet5c.load(sys.argv[1] if len(sys.argv) > 1 else PATH)
except lenet5c.FileFormatError as error:
    print("refused:", str(error)[:200])
"""


@pytest.mark.parametrize("stride", [2_048, 8_192, 40_000, 46_341, 65_536, 1 << 20])
@pytest.mark.parametrize("side", [64, 16_000])
def test_a_small_file_with_hostile_sizes_is_refused_or_cheap(
    stride, side, tmp_path, run_python
):
    """Without a crash, in bounded memory and time."""
    height = Conv2d(1, 3, stride=stride).output_shape((1, side - 2, side - 2))[1]
    model = lenet5c.Model(
        [Conv2d(1, 3, name="A"), Conv2d(1, 3, name="B"), Dense(2, name="D")],
        input_shape=(1, 5, 5),
        classes=2,
    )
    path: Path = tmp_path / "model"
    model.save(path)
    tensors, metadata = read_file(path)
    network = json.loads(metadata["network"])
    network["input_shape"] = [1, side, side]
    network["layers"][1]["stride"] = stride
    metadata["network"] = json.dumps(network)
    tensors["D.weight"] = np.zeros((2, height * height), np.float32)
    write_file(path, tensors, metadata)
    run_python(f"PATH = {str(path)!r}\n{LOAD_HOSTILE}", timeout=120)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copied_or_pickled_model_is_the_same_and_independent(
    again, trained, small_images
):
    other = again(trained)
    before = trained.forward(small_images)
    np.testing.assert_array_equal(other.forward(small_images), before)
    assert other.classes.tolist() == trained.classes.tolist()
    other.parameter_vector += 1
    np.testing.assert_array_equal(trained.forward(small_images), before)
    assert other.history == trained.history != lenet5c.History()


def test_a_model_that_was_pickled_without_a_history_has_an_empty_one(trained):
    state = trained.__getstate__()
    del state["history"]
    again = lenet5c.mlp()
    again.__setstate__(state)
    assert again.passes == trained.passes > 0
    assert again.history == lenet5c.History()


def test_the_history_that_users_write_is_saved_or_refused(tmp_path):
    model = lenet5c.mlp()
    model.passes = 2
    model.remember(lenet5c.History(loss=[0.5, 0.25], accuracy=[0.8, 0.9]), 0)
    model.save(tmp_path / "model.lenet5c")
    again = lenet5c.load(tmp_path / "model.lenet5c").history
    assert (again.loss, again.accuracy) == ([0.5, 0.25], [0.8, 0.9])
    assert np.isnan(again.learning_rate).all()
    model.history.loss.append(0.125)
    with pytest.raises(ValueError, match="history: expected lists of one length"):
        model.save(tmp_path / "model.lenet5c")
    assert lenet5c.load(tmp_path / "model.lenet5c").history.loss == [0.5, 0.25]
