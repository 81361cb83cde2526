"""The article's class: right gradients, its example, and its mistakes mended."""

import copy
import math
import tracemalloc

import numpy as np
import pytest

import lenet5c
from lenet5c import TrainingError, article, reference
from lenet5c.article import LeNet5, preprocess_data

LAYERS = {"1": "C1", "3": "C3", "5": "C5", "6": "F6", "_out": "OUTPUT"}
SHAPES = {
    "W1": (6, 1, 5, 5),
    "b1": (6, 1),
    "W3": (16, 6, 5, 5),
    "b3": (16, 1),
    "W5": (120, 16, 5, 5),
    "b5": (120, 1),
    "W6": (84, 120),
    "b6": (84, 1),
    "W_out": (10, 84),
    "b_out": (10, 1),
}


@pytest.fixture
def model() -> LeNet5:
    """Biases are not zero, so that none can be forgotten."""
    model = LeNet5()
    rng = np.random.default_rng(5)
    for name in SHAPES:
        if name.startswith("b"):
            values = getattr(model, name)
            values[...] = rng.normal(size=values.shape) / 4
    return model


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images (23, 1, 32, 32) and one-hot labels (23, 10)."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(23, 1, 32, 32)).astype(np.float32)
    return X, np.eye(10)[rng.integers(10, size=23)]


def in_double(model: LeNet5) -> dict[str, np.ndarray]:
    """The parameters as `lenet5c.reference` names them."""
    found = {}
    for number, layer in LAYERS.items():
        found[f"{layer}.weight"] = getattr(model, f"W{number}").astype(np.float64)
        found[f"{layer}.bias"] = getattr(model, f"b{number}")[:, 0].astype(np.float64)
    return found


def as_named_there(name: str) -> str:
    """ "W_out" of the class is "OUTPUT.weight" of `lenet5c.reference`."""
    return f"{LAYERS[name[1:]]}.{'weight' if name[0] == 'W' else 'bias'}"


def snapshot(model: LeNet5) -> dict[str, np.ndarray]:
    return {name: getattr(model, name).copy() for name in SHAPES}


def test_parameters_have_the_shapes_of_the_article(model):
    assert {name: getattr(model, name).shape for name in SHAPES} == SHAPES
    assert sum(getattr(model, name).size for name in SHAPES) == 61_706


def test_weights_are_glorots_as_those_of_the_package():
    model, ours = LeNet5(seed=1), lenet5c.lenet5(seed=1)
    for name, shape in SHAPES.items():
        if name[0] == "b":
            assert not getattr(model, name).any()
            continue
        bound = math.sqrt(6 / ((shape[0] + shape[1]) * math.prod(shape[2:])))
        for W in (getattr(model, name), ours.parameters[as_named_there(name)]):
            assert 0.9 * bound < np.abs(W).max() <= bound
            np.testing.assert_allclose(W.std(), bound / math.sqrt(3), rtol=0.15)
    before = snapshot(model)
    model.initialize_parameters()
    assert (before["W3"] != model.W3).all()
    again = snapshot(LeNet5(seed=1))
    assert all((again[name] == before[name]).all() for name in SHAPES)
    assert (before["W1"] != LeNet5(seed=2).W1).all()


def test_every_map_is_the_references(model, batch):
    X, _ = batch
    p = model.forward(X)
    maps = reference.network_forward(reference.LENET5, in_double(model), X)
    wanted = dict(zip(["A0", "Z1", "A1", "A2", "Z3", "A3", "A4"], maps, strict=False))
    wanted |= {"Z5": maps[7], "A5": maps[8], "A5_flat": maps[8].reshape(23, 120).T}
    wanted |= {"Z6": maps[9].T, "A6": maps[10].T, "Z_out": maps[11].T}
    assert model.cache.keys() == wanted.keys() | {"A_out"}
    for name, expected in wanted.items():
        found = model.cache[name]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6, err_msg=name)
    e = np.exp(maps[11].T)
    assert p.shape == (10, 23)
    np.testing.assert_allclose(p, e / e.sum(axis=0), rtol=0, atol=1e-6)
    assert p is model.cache["A_out"]


def test_gradients_are_the_references(model, batch):
    X, y = batch
    found = model.gradients(model.forward(X), y.T)
    expected, sizes = reference.network_gradients(
        reference.LENET5, in_double(model), X, y.argmax(axis=1)
    )
    assert found.keys() == SHAPES.keys()
    for name, shape in SHAPES.items():
        there = as_named_there(name)
        assert found[name].shape == shape
        assert found[name].dtype == np.float32
        error = np.abs(found[name].ravel() - expected[there].ravel())
        assert (error <= 1e-5 * sizes[there].ravel() + 1e-7).all(), name
        assert np.abs(expected[there]).max() > 1e-3


def test_gradients_of_labels_that_are_shares(model, batch):
    """Against central differences in float64, along a random direction."""
    X, _ = batch
    rng = np.random.default_rng(1)
    y = rng.dirichlet(np.ones(10), size=23)
    found = model.gradients(model.forward(X), y.T)
    parameters = in_double(model)
    way = {name: rng.normal(size=value.shape) for name, value in parameters.items()}

    def cost(step: float) -> float:
        moved = {name: value + step * way[name] for name, value in parameters.items()}
        z = reference.network_forward(reference.LENET5, moved, X)[-1]
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return -(y * log_p).sum() / 23

    expected = (cost(1e-5) - cost(-1e-5)) / 2e-5
    along = sum(
        (found[name].ravel() * way[as_named_there(name)].ravel()).sum()
        for name in SHAPES
    )
    assert abs(expected) > 0.1
    assert along == pytest.approx(expected, rel=1e-4)
    assert model.compute_cost(model.cache["A_out"], y.T) == pytest.approx(cost(0))


@pytest.mark.parametrize(
    ("N", "C", "F", "H", "W", "KH", "KW"),
    [(3, 2, 4, 7, 6, 3, 2), (1, 1, 1, 5, 5, 5, 5)],
)
def test_convolution_and_its_gradients(model, N, C, F, H, W, KH, KW):
    rng = np.random.default_rng(2)
    x, filters = rng.normal(size=(N, C, H, W)), rng.normal(size=(F, C, KH, KW))
    bias = rng.normal(size=(F, 1))
    dZ = rng.normal(size=(N, F, H - KH + 1, W - KW + 1))
    close = {"rtol": 0, "atol": 1e-5}

    y = model.conv2d(x, filters, bias)
    expected = reference.conv2d(x, filters, bias[:, 0])
    np.testing.assert_allclose(y, expected, **close)
    bare = model.fast_conv2d(x, filters)
    np.testing.assert_allclose(bare, model.conv2d(x, filters, 0 * bias), **close)
    np.testing.assert_allclose(bare, reference.conv2d(x, filters), **close)
    if KH * KW > 1:
        flipped = reference.conv2d(x, filters[:, :, ::-1, ::-1])
        assert np.abs(bare - flipped).max() > 0.1

    dx, dweight, dbias = reference.conv2d_backward(x, filters, dZ)
    dW, db = model.conv_backward(dZ, x, filters)
    assert (dW.shape, db.shape) == ((F, C, KH, KW), (F, 1))
    np.testing.assert_allclose(dW, dweight / N, **close)
    np.testing.assert_allclose(db[:, 0], dbias / N, **close)
    np.testing.assert_allclose(model.conv_gradients(dZ, x, filters)[0], dx, **close)


def test_pooling_and_activations(model):
    x = np.random.default_rng(3).normal(size=(2, 3, 7, 6))
    for size in (2, 3):
        pooled = model.avg_pool2d(x, size)
        assert pooled.shape == (2, 3, 7 // size, 6 // size)
        np.testing.assert_allclose(pooled, reference.avg_pool2d(x, size), atol=1e-6)
    assert (model.avg_pool2d(x) == model.avg_pool2d(x, 2)).all()
    np.testing.assert_allclose(model.tanh_activation(x), np.tanh(x), atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "stable_softmax"])
def test_softmax_by_columns(name):
    softmax = getattr(LeNet5(), name)
    x = np.random.default_rng(4).normal(size=(5, 3))
    e = np.exp(x)
    np.testing.assert_allclose(softmax(x), e / e.sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(softmax([[1e4, -1e4], [0.0, 1e4]]), np.eye(2))


def test_cost_comes_from_the_logits_and_has_no_cap(model, batch):
    X, _ = batch
    model.b_out[:2] = [[60], [-60]]
    p = model.forward(X)
    sure = np.eye(10)[np.zeros(23, int)].T
    wrong = np.eye(10)[np.ones(23, int)].T
    z = model.cache["Z_out"].astype(np.float64)
    assert model.compute_cost(p, wrong) == pytest.approx((z[0] - z[1]).mean())
    assert model.compute_cost(p, wrong) > 100  # not -log(1e-8), which is 18.4
    assert 0 <= model.compute_cost(p, sure) < 1e-12


def test_cost_of_other_predictions(model, batch):
    X, y = batch
    p = np.random.default_rng(5).dirichlet(np.ones(10), size=23).T
    expected = -np.log(p[y.argmax(axis=1), np.arange(23)]).mean()
    assert model.compute_cost(p, y.T) == pytest.approx(expected, rel=1e-6)
    assert model.compute_cost(y.T, y.T) == 0
    assert model.compute_cost(1 - y.T, y.T) == math.inf
    of_forward = model.forward(X)
    copied = model.compute_cost(of_forward.copy(), y.T)
    assert copied == pytest.approx(model.compute_cost(of_forward, y.T), rel=1e-5)


def test_backward_takes_the_step_of_sgd(model, batch):
    X, y = batch
    model.learning_rate = 0.25
    before = snapshot(model)
    predictions = model.forward(X)
    gradients = model.gradients(predictions, y.T)
    assert model.backward(predictions, y.T) is None
    for name in SHAPES:
        expected = before[name] - 0.25 * gradients[name]
        np.testing.assert_array_equal(getattr(model, name), expected)


def test_a_batch_is_one_step(model, batch):
    X, y = batch
    twin = copy.deepcopy(model)
    cost = model.train_batch(X, y)
    predictions = twin.forward(X)
    assert cost == twin.compute_cost(predictions, y.T)
    twin.backward(predictions, y.T)
    for name in SHAPES:
        np.testing.assert_array_equal(getattr(model, name), getattr(twin, name))


@pytest.mark.parametrize("size", [1, 10, 23, 100])
def test_gradient_checkpointing_takes_the_step_of_the_whole_batch(model, batch, size):
    twin = copy.deepcopy(model)
    before = snapshot(model)
    model.learning_rate = twin.learning_rate = 1.0
    cost = model.train_batch(*batch)
    in_parts = twin.train_with_gradient_checkpointing(*batch, checkpoint_freq=size)
    assert in_parts == pytest.approx(cost, rel=1e-6)
    for name in SHAPES:
        found, expected = getattr(twin, name), getattr(model, name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=name)
        assert np.abs(expected - before[name]).max() > 1e-3


def test_gradient_checkpointing_keeps_less(model):
    X = np.random.default_rng(0).normal(size=(200, 1, 32, 32)).astype(np.float32)
    y = np.eye(10)[np.arange(200) % 10]
    peaks = []
    for step in (model.train_batch, model.train_with_gradient_checkpointing):
        model.cache.clear()
        tracemalloc.start()
        step(X, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 4


def reference_costs(model, X, y, epochs, batch_size):
    """What `train` is to return, and its parameters, in float64 by the textbook."""
    parameters, rng = in_double(model), copy.deepcopy(model.orders)
    labels, costs = y.argmax(axis=1), []
    for _ in range(epochs):
        order, total = rng.permutation(len(X)), 0.0
        for start in range(0, len(X), batch_size):
            batch = order[start : start + batch_size]
            given = reference.LENET5, parameters, X[batch], labels[batch]
            total += reference.network_loss(*given) * len(batch)
            for name, gradient in reference.network_gradients(*given)[0].items():
                parameters[name] -= model.learning_rate * gradient
        costs.append(total / len(X))
    return costs, parameters


def test_training_has_the_costs_of_the_reference(images, labels, capsys):
    """With a last batch that is smaller, as 16 does not divide 60."""
    X = np.pad(images[:, None], ((0, 0), (0, 0), (2, 2), (2, 2))) / np.float32(255)
    y = np.eye(10)[labels]
    model = LeNet5(learning_rate=0.1)
    expected, parameters = reference_costs(model, X, y, 12, 16)
    costs = model.train(X, y, epochs=12, batch_size=16)
    np.testing.assert_allclose(costs, expected, rtol=0, atol=1e-4)
    assert costs[-1] < costs[0] - 0.3
    for name, value in in_double(model).items():
        np.testing.assert_allclose(value, parameters[name], rtol=0, atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Epoch {n}: cost {costs[n]:.4f}" for n in (0, 10)]


def test_cost_of_an_epoch_is_the_mean_over_images(model, batch):
    """At a rate of 0, in whatever order and batches."""
    model.learning_rate = 0.0
    X, y = batch
    expected = model.compute_cost(model.forward(X), y.T)
    for size in (1, 5, 8, 22, 23, 64):
        (cost,) = model.train(X, y, epochs=1, batch_size=size)
        assert cost == pytest.approx(expected, rel=1e-5)


def test_each_epoch_has_an_order_of_its_own(batch, monkeypatch):
    """The article's example with sorted labels sees one class after the other."""
    X, y = batch
    X = X.copy()
    X[:, 0, 0, 0] = np.arange(23)
    seen = []
    step = LeNet5.train_batch

    def watched(self, X_batch, y_batch):
        seen.extend(X_batch[:, 0, 0, 0])
        truth = y[X_batch[:, 0, 0, 0].astype(int)]
        np.testing.assert_array_equal(y_batch, truth)
        return step(self, X_batch, y_batch)

    monkeypatch.setattr(LeNet5, "train_batch", watched)
    LeNet5(seed=3).train(X, y, epochs=2, batch_size=5)
    first, second = seen[:23], seen[23:]
    assert sorted(first) == sorted(second) == list(range(23))
    assert len({tuple(first), tuple(second), tuple(range(23))}) == 3
    seen.clear()
    LeNet5(seed=3).train(X, y, epochs=2, batch_size=5)
    assert seen == first + second


def test_validation_is_of_all_images_in_parts(model, batch, monkeypatch):
    X, y = batch
    monkeypatch.setattr(article, "PART", 5)
    cost, accuracy = model.validate_model(X, y)
    assert len(model.cache["A0"]) == 3  # 23 in parts of 5
    predictions = model.forward(X)
    assert cost == pytest.approx(model.compute_cost(predictions, y.T), rel=1e-6)
    assert accuracy == model.calculate_accuracy(predictions, y)
    right = predictions.argmax(axis=0) == y.argmax(axis=1)
    assert accuracy == right.mean()
    assert type(cost) is type(accuracy) is float
    assert model.calculate_accuracy(y.T, y) == 1
    assert model.calculate_accuracy(np.roll(y.T, 1, axis=0), y) == 0


def test_learning_rate_falls_twice(model):
    rates = []
    for epoch in (0, 19, 20, 39, 40, 99):
        model.update_learning_rate(epoch)
        rates.append(model.learning_rate)
    assert rates == [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    model.update_learning_rate(20, initial_lr=0.5)
    assert model.learning_rate == 0.05


def test_preprocessing_standardises_and_does_not_clip(images):
    found = preprocess_data(images)
    expected = (images - images.mean()) / images.std()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.min() < -0.5
    assert found.max() > 1.5
    assert LeNet5.preprocess_data is preprocess_data
    of_train = preprocess_data(images[:9] / 255, mean=0.5, deviation=0.25)
    np.testing.assert_allclose(of_train, (images[:9] / 255 - 0.5) * 4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_small_differences_of_large_pixels_are_kept(dtype):
    pixels = 10**9 + np.arange(3).astype(dtype)
    expected = [-(1.5**0.5), 0, 1.5**0.5]
    np.testing.assert_allclose(preprocess_data(pixels), expected, rtol=1e-6)


def test_noise_is_added_where_it_is_asked_for(images):
    clean, noisy = preprocess_data(images), preprocess_data(images, noise=0.01)
    noise = noisy - clean
    assert abs(noise.mean()) < 3e-4
    assert noise.std() == pytest.approx(0.01, rel=0.02)
    assert (preprocess_data(images, noise=0.01) == noisy).all()
    assert (preprocess_data(images, noise=0.01, seed=1) != noisy).any()


def test_probabilities_are_those_of_the_package_with_the_same_weights(model, batch):
    X, y = batch
    ours = lenet5c.lenet5()
    for name in SHAPES:
        values = ours.parameters[as_named_there(name)]
        values[...] = getattr(model, name).reshape(values.shape)
    found = ours.forward(X)
    model.forward(X)
    np.testing.assert_allclose(model.cache["Z_out"].T, found, rtol=0, atol=1e-5)
    loss, gradients = ours.loss_and_gradients(X, y.argmax(axis=1))
    assert model.compute_cost(model.cache["A_out"], y.T) == pytest.approx(loss, 1e-5)
    for name, gradient in model.gradients(model.cache["A_out"], y.T).items():
        other = gradients[as_named_there(name)].reshape(gradient.shape)
        np.testing.assert_allclose(gradient, other, rtol=0, atol=1e-5)


def test_a_diverged_training_is_an_error_and_changes_nothing(model, batch):
    X, y = batch
    model.learning_rate = 3e38
    pattern = r"epoch \d+, batch \d+: \w+ would not be finite.*got 3e\+38"
    with pytest.raises(TrainingError, match=pattern):
        model.train(X, y, epochs=20, batch_size=8)
    assert all(np.isfinite(getattr(model, name)).all() for name in SHAPES)
    before = snapshot(model)
    model.learning_rate = 1e60
    for step in (model.train_batch, model.train_with_gradient_checkpointing):
        with pytest.raises(TrainingError, match="nothing has changed"):
            step(X, y)
    assert all((before[name] == getattr(model, name)).all() for name in SHAPES)


X_GOOD, Y_GOOD = np.zeros((4, 1, 32, 32), np.float32), np.eye(10)[[1, 2, 3, 4]]
NAN = X_GOOD + np.where(np.arange(4) == 2, np.nan, 0)[:, None, None, None]
WRONG_BATCHES = [
    (X_GOOD[..., :28, :28], Y_GOOD, r"\(any, 1, 32, 32\), got \(4, 1, 28, 28\)"),
    (X_GOOD[:, 0], Y_GOOD, r"\(any, 1, 32, 32\), got \(4, 32, 32\)"),
    (X_GOOD.astype(np.uint8), Y_GOOD, "floating numbers, got uint8"),
    (NAN, Y_GOOD, "finite pixels, got NaN"),
    (X_GOOD[:0], Y_GOOD[:0], "at least one element"),
    (X_GOOD, np.arange(4), r"one-hot labels, 4 x 10 .*np.eye.*got \(4,\)"),
    (X_GOOD, Y_GOOD[:3], r"one-hot labels, 4 x 10 .*got \(3, 10\)"),
    (X_GOOD, Y_GOOD.T, r"one-hot labels, 4 x 10 .*got \(10, 4\)"),
    (X_GOOD, Y_GOOD * 2, "do not sum to 1"),
    (X_GOOD, Y_GOOD * np.nan, "do not sum to 1"),
    (X_GOOD, 3 * Y_GOOD - 0.2, "or are negative"),
    (X_GOOD, Y_GOOD.astype(str), "one-hot labels, 4 x 10, got <U"),
]


@pytest.mark.parametrize(("X", "y", "pattern"), WRONG_BATCHES)
@pytest.mark.parametrize(
    "method",
    [
        "train",
        "train_batch",
        "train_with_gradient_checkpointing",
        "validate_model",
    ],
)
def test_wrong_batches_are_refused(model, method, X, y, pattern):
    before = snapshot(model)
    state = copy.deepcopy(model.orders.bit_generator.state)
    with pytest.raises((TypeError, ValueError), match=rf"^(X|y)\w*: .*{pattern}"):
        getattr(model, method)(X, y)
    assert all((before[name] == getattr(model, name)).all() for name in SHAPES)
    assert model.orders.bit_generator.state == state
    assert not model.cache


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda m: m.forward(X_GOOD[:, 0]), r"X: .*got \(4, 32, 32\)"),
        (lambda m: m.conv2d(X_GOOD[0], m.W1, m.b1), "input_data: .*any, any, any, any"),
        (lambda m: m.conv2d(X_GOOD, m.W3, m.b3), r"filters: .*\(any, 1, any, any\)"),
        (lambda m: m.conv2d(X_GOOD, m.W1, m.b1[:, 0]), r"bias: .*\(6, 1\), got \(6,\)"),
        (lambda m: m.fast_conv2d(X_GOOD, m.W3), "filters: "),
        (lambda m: m.conv_backward(X_GOOD, X_GOOD, m.W1), r"dZ: .*\(4, 6, 28, 28\)"),
        (lambda m: m.avg_pool2d(X_GOOD[0]), "input_data: "),
        (lambda m: m.dense(m.W1[0, 0], m.W6, m.b6), r"A_prev: .*\(120, any\)"),
        (lambda m: m.dense(m.b5, m.W6, m.b3), r"b: .*\(84, 1\), got \(16, 1\)"),
        (lambda m: m.dense_gradients(m.b5, m.b5, m.W6), r"dZ: .*\(84, 1\), got"),
        (lambda m: m.softmax([1, 2]), "x: expected floating"),
        (lambda m: m.compute_cost(Y_GOOD, Y_GOOD), r"predictions: .*\(10, any\)"),
        (lambda m: m.compute_cost(Y_GOOD.T, Y_GOOD), "labels: .*10 x 4 "),
        (lambda m: m.calculate_accuracy(Y_GOOD.T, Y_GOOD.T), "y_val: .*4 x 10 "),
        (lambda m: m.backward(Y_GOOD.T, Y_GOOD.T), "those of forward, which was not"),
        (lambda m: m.train(X_GOOD, Y_GOOD, epochs=0), "epochs: expected 1 to"),
        (lambda m: m.train(X_GOOD, Y_GOOD, batch_size=0), "batch_size: expected 1"),
        (lambda m: m.train(X_GOOD, Y_GOOD, epochs=1.5), "epochs: expected a whole"),
        (
            lambda m: m.train_with_gradient_checkpointing(X_GOOD, Y_GOOD, 0),
            "checkpoint_freq: expected 1 to",
        ),
        (lambda m: m.update_learning_rate(-1), "epoch: expected 0 to"),
        (lambda m: m.update_learning_rate(0, -1.0), "initial_lr: expected 0 <= x"),
        (lambda _: LeNet5(learning_rate=-0.1), "learning_rate: expected 0 <= x"),
        (lambda _: LeNet5(learning_rate="fast"), "learning_rate: expected a number"),
        (lambda _: LeNet5(seed=-1), "seed: expected 0 to"),
        (lambda _: preprocess_data(X_GOOD), "deviation: expected more than 0, got 0"),
        (lambda _: preprocess_data(NAN), "X: expected finite"),
        (lambda _: preprocess_data(X_GOOD[:0]), "X: expected finite"),
        (lambda _: preprocess_data(["a"]), "X: expected numbers, got <U1"),
        (lambda _: preprocess_data([0.0, 1.0], noise=-1), "noise: expected 0 <= x"),
        (
            lambda _: preprocess_data([0.0, 1.0], deviation=1e-300),
            "deviation: expected one that X can be divided by, got 1e-300",
        ),
    ],
)
def test_wrong_arguments_are_refused(model, call, pattern):
    with pytest.raises((TypeError, ValueError), match=pattern):
        call(model)


def test_backward_of_other_images_than_forwards_is_refused(model, batch):
    X, y = batch
    predictions = model.forward(X)
    model.forward(X[:5])
    with pytest.raises(ValueError, match=r"predictions: .*\(10, 5\), got \(10, 23\)"):
        model.backward(predictions, y.T)


class Table(np.ndarray):
    """What the article's example asks of a DataFrame."""

    @property
    def values(self) -> np.ndarray:
        return self.view(np.ndarray)


def test_the_articles_example_on_all_test_images(mnist, capsys):
    """1,000 images, batches of 32, 50 epochs at a rate of 0.01; then 14,000 images."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelEncoder

    parts = (mnist.train, mnist.test)
    table = np.concatenate([part.images.reshape(-1, 784) for part in parts])
    names = np.concatenate([part.labels for part in parts]).astype(str)
    pixels = (table.view(Table).astype(np.float32) / 255.0).values
    X = np.pad(pixels.reshape(-1, 1, 28, 28), [(0, 0), (0, 0), (2, 2), (2, 2)])
    y = np.eye(10)[LabelEncoder().fit_transform(names)]
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.2, random_state=42
    )
    model = LeNet5(learning_rate=0.01)
    costs = model.train(X_train[:1000], y_train[:1000], epochs=50, batch_size=32)
    assert len(costs) == 50
    assert costs[-1] < 0.3
    assert capsys.readouterr().out.count("Epoch") == 5
    predictions = model.forward(X_test[:100])
    assert predictions.shape == (10, 100)
    classes = np.argmax(predictions, axis=0)
    assert np.mean(classes == np.argmax(y_test[:100], axis=1)) > 0.8
    cost, accuracy = model.validate_model(X_test, y_test)
    assert len(X_test) == 14_000
    assert 0.88 < accuracy < 0.93
    assert 0.3 < cost < 0.45


def test_real_digits_have_the_costs_of_the_reference(mnist):
    X = np.pad(mnist.train.images[:200, None], [(0, 0), (0, 0), (2, 2), (2, 2)])
    X = X.astype(np.float32) / 255
    y = np.eye(10)[mnist.train.labels[:200]]
    model = LeNet5(learning_rate=0.05)
    expected, _ = reference_costs(model, X, y, 5, 32)
    costs = model.train(X, y, epochs=5)
    np.testing.assert_allclose(costs, expected, rtol=0, atol=1e-4)
