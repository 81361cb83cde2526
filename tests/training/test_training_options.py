"""Options of fit(): each against plain NumPy in float64, or what it promises."""

import json
import logging
import math
from datetime import datetime

import numpy as np
import pytest

import lenet5c
from lenet5c import SGD, AdamW, Augment, EarlyStopping, reference
from lenet5c._support.cores import core
from lenet5c.layers import layer_to_dict
from lenet5c.training.callbacks import JsonLines, TrainingState
from lenet5c.training.data import share_of_each_class
from lenet5c.training.recipes import RECIPES, Recipe
from lenet5c.training.schedules import ReduceOnPlateau

RATE = 0.3


@pytest.fixture
def floats(small_images) -> np.ndarray:
    """(60, 12, 12) float32, which no input stage changes."""
    return small_images.astype(np.float32) / 255


def gradient_of(model, parameters, image, codes, smoothing, weights, of):
    """Loss and gradient of a batch in float64, image by image and class by class."""
    layers = [
        (layer.kind, layer_to_dict(layer) | {"name": layer.name})
        for layer in model.layers
    ]
    count = model.class_count
    loss, total = 0.0, np.zeros(model.parameter_count)
    for pixels, code, weight in zip(image, codes, weights, strict=True):
        x = pixels[np.newaxis, np.newaxis].astype(np.float64)
        shares = np.full(count, smoothing / count)
        shares[code] += 1 - smoothing
        for label in np.flatnonzero(shares):
            share = weight * shares[label] / of
            target = np.array([label])
            loss += share * reference.network_loss(layers, parameters, x, target)
            found, _ = reference.network_gradients(layers, parameters, x, target)
            total += share * np.concatenate([found[n].ravel() for n in parameters])
    return loss, total


def by_hand(
    model,
    images,
    codes,
    *,
    epochs,
    batch_size,
    smoothing=0.0,
    weights=None,
    clip=math.inf,
    decay=0.0,
):
    """Plain gradient descent in float64 as `fit` promises it.

    Returns weights, averaged weights and the mean loss of each epoch.
    """
    w = model.parameter_vector.astype(np.float64)
    average = w.copy()
    weights = np.ones(len(images)) if weights is None else weights
    losses, step = [], 0
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng((0, epoch)).permutation(len(images))
        loss_sum = 0.0
        for start in range(0, len(order), batch_size):
            at = order[start : start + batch_size]
            views, begin = {}, 0
            for name, value in model.parameters.items():
                views[name] = w[begin : begin + value.size].reshape(value.shape)
                begin += value.size
            loss, g = gradient_of(
                model, views, images[at], codes[at], smoothing, weights[at], len(at)
            )
            norm = np.sqrt((g**2).sum())
            w = w - RATE * g * min(1, clip / norm)
            step += 1
            d = min(decay, (1 + step) / (10 + step))
            average = d * average + (1 - d) * w
            loss_sum += loss * len(at)
        losses.append(loss_sum / len(images))
    return w, average, losses


def plain(model, images, labels, **options):
    """`fit` with plain gradient descent at a constant rate."""
    settings = {
        "epochs": 2,
        "batch_size": 9,
        "optimizer": SGD(RATE, momentum=0),
        "schedule": "constant",
        "clip_norm": math.inf,
    }
    return model.fit(images, labels, **(settings | options))


WEIGHTS = np.random.default_rng(5).uniform(0, 3, 20)
OPTIONS = {
    "nothing": ({}, {}),
    "label smoothing": ({"label_smoothing": 0.2}, {"smoothing": 0.2}),
    "sample weights": (
        {"sample_weight": WEIGHTS},
        {"weights": WEIGHTS / WEIGHTS.mean()},
    ),
    "clipping": ({"clip_norm": 0.5}, {"clip": 0.5}),
    "all": (
        {
            "label_smoothing": 0.1,
            "sample_weight": WEIGHTS * 1e-30,
            "clip_norm": 0.7,
            "accumulate": 4,
        },
        {"smoothing": 0.1, "weights": WEIGHTS / WEIGHTS.mean(), "clip": 0.7},
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_training_with_options_is_that_in_float64(case, small, floats, labels):
    options, promised = OPTIONS[case]
    images, labels = floats[:20], labels[:20]
    expected, _, losses = by_hand(
        small, images, labels, epochs=2, batch_size=9, **promised
    )
    before = small.parameter_vector.astype(np.float64)
    history = plain(small, images, labels, **options)
    moved = np.abs(expected - before).max()
    assert moved > 0.01
    np.testing.assert_allclose(
        small.parameter_vector, expected, rtol=0, atol=1e-4 * moved
    )
    np.testing.assert_allclose(history.loss, losses, rtol=1e-5)


def test_the_cases_differ(floats, labels):
    found = set()
    for options, _ in OPTIONS.values():
        model = tiny()
        plain(model, floats[:20], labels[:20], **options)
        found.add(model.parameter_vector.tobytes())
    assert len(found) == len(OPTIONS)


def tiny(**options) -> lenet5c.Model:
    return lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 12, 12), **options)


# The moving average of the weights


class Weights:
    """The model's weights after each step and at the end of each epoch."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def on_batch_end(self, state):
        self.steps.append(state.model.parameter_vector.copy())

    def on_epoch_end(self, state):
        self.epochs.append(state.model.parameter_vector.copy())


@pytest.mark.parametrize("decay", [0.05, 0.5, 0.9, 0.9999])
def test_the_average_is_that_of_numpy(decay, small, small_images, labels):
    start = small.parameter_vector.astype(np.float64)
    weights = Weights()
    small.fit(
        small_images,
        labels,
        epochs=4,
        batch_size=16,
        weight_average=decay,
        callbacks=[weights],
    )
    averages, average = [], start
    for t, w in enumerate(weights.steps, 1):
        d = min(decay, (1 + t) / (10 + t))
        average = d * average + (1 - d) * w
        averages.append(average)
    assert len(averages) == 16
    for found, expected in zip(weights.epochs, averages[3::4], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(small.parameter_vector, weights.epochs[-1])
    assert np.abs(small.parameter_vector - weights.steps[-1]).max() > 1e-5


def test_training_itself_goes_on_with_the_weights_not_their_average(
    small_images, labels
):
    found = []
    for decay in (0, 0.9):
        model, weights = tiny(), Weights()
        model.fit(
            small_images, labels, weight_average=decay, callbacks=[weights], epochs=3
        )
        found.append(np.array(weights.steps))
    np.testing.assert_array_equal(*found)


def test_the_averaged_weights_are_measured_and_saved(
    small, small_images, labels, tmp_path
):
    held_out = small_images[:20], labels[:20]

    def save(state):
        state.model.save(tmp_path / f"{state.epoch}")

    history = small.fit(
        small_images,
        labels,
        epochs=3,
        weight_average=0.8,
        validation=held_out,
        callbacks=[save],
    )
    for epoch, loss in enumerate(history.validation_loss, 1):
        saved = lenet5c.load(tmp_path / f"{epoch}")
        assert saved.evaluate(*held_out).loss == loss
    assert small.evaluate(*held_out).loss == history.validation_loss[-1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_averaged_weights(
    error, small, small_images, labels
):
    def fail(state):
        raise error

    weights = Weights()
    with pytest.raises(error):
        small.fit(small_images, labels, weight_average=0.9, callbacks=[weights, fail])
    np.testing.assert_array_equal(small.parameter_vector, weights.epochs[-1])


def test_a_loss_that_is_not_finite_leaves_finite_averages(small, small_images, labels):
    with pytest.raises(lenet5c.TrainingError):
        small.fit(
            small_images,
            labels,
            batch_size=10,
            weight_average=0.9,
            schedule=lambda step, *_: math.nan if step == 9 else 1,
        )
    assert np.isfinite(small.parameter_vector).all()


def test_after_a_loss_that_is_not_finite_the_model_holds_an_average(
    small, small_images, labels
):
    """What it would have held had the training ended at most 16 batches before."""
    average, averages, trained = small.state_vector.copy(), [], []

    class Keep:
        def on_batch_end(self, state):
            step = len(averages) + 1
            decay = min(0.9, (1 + step) / (10 + step))
            core.move_average(average, state.model.state_vector, decay, 1)
            averages.append(average.copy())
            trained.append(state.model.state_vector.copy())

    with pytest.raises(lenet5c.TrainingError):
        small.fit(
            small_images,
            labels,
            batch_size=1,
            epochs=1,
            weight_average=0.9,
            schedule=lambda step, *_: math.nan if step == 40 else 0.1,
            callbacks=[Keep()],
        )
    found = small.state_vector
    assert any(np.array_equal(found, weights) for weights in averages[24:40])
    assert not any(np.array_equal(found, weights) for weights in trained)


def test_the_core_averages_as_numpy_does():
    rng = np.random.default_rng(0)
    for size in (1, 15, 4096, 4097, 10_000):
        average, w = rng.normal(size=(2, size)).astype(np.float32)
        expected = average + 0.25 * (w.astype(np.float64) - average)
        core.move_average(average, w, 0.75, 2)
        np.testing.assert_allclose(average, expected, atol=1e-6)
        assert core.norm(w) == pytest.approx(np.linalg.norm(w.astype(float)), rel=1e-6)


# Parts of a batch


@pytest.mark.parametrize("parts", [2, 3, 7, 60, 1000])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts, floats, labels):
    """One step of plain descent: the difference of the weights is the gradient."""
    moved = []
    for accumulate in (1, parts):
        model = tiny(seed=2)
        before = model.parameter_vector.astype(np.float64)
        history = plain(
            model, floats, labels, epochs=1, batch_size=60, accumulate=accumulate
        )
        moved.append((before - model.parameter_vector) / RATE)
        moved[-1] = np.append(moved[-1], history.loss)
    difference = np.linalg.norm(moved[0] - moved[1]) / np.linalg.norm(moved[0])
    assert difference < 2e-6  # of weights in float32


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_parts_are_called_for_what_they_are(parts, floats, labels):
    gradients = []

    class Spy(lenet5c.Model):
        def loss_of_batch(self, pixels, positions, codes, gradient, threads, **options):
            found = super().loss_of_batch(
                pixels, positions, codes, gradient, threads, **options
            )
            gradients.append((len(positions), options["add"], gradient.copy()))
            return found

    model = Spy([lenet5c.Dense(10)], input_shape=(1, 12, 12), seed=2)
    options = {"epochs": 1, "batch_size": 59, "accumulate": parts}
    plain(model, floats, labels, **options)
    sizes = [size for size, _, _ in gradients]
    assert sum(sizes) == 60
    assert sizes[-1] == 1
    assert max(sizes) == -(-59 // parts)
    assert [add for _, add, _ in gradients] == [False] + [True] * (parts - 1) + [False]
    whole = tiny(seed=2)
    order = np.random.default_rng((0, 1)).permutation(60)[:59]
    expected = np.empty_like(whole.parameter_vector)
    whole.loss_of_batch(
        floats[:, np.newaxis], order, labels.astype(np.int32), expected, 1
    )
    found = gradients[parts - 1][2]
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


# Weights of classes and images


def test_weights_of_classes_are_those_of_their_images(small_images, labels):
    by_class = {0: 3.0, 4: 0.0, 9: 0.5}
    by_image = np.array([by_class.get(label, 1.0) for label in labels.tolist()])
    found = []
    for options in (
        {"class_weight": by_class},
        {"sample_weight": by_image},
        {"sample_weight": 7 * by_image},
        {"class_weight": {np.int64(k): np.float32(v) for k, v in by_class.items()}},
        {"class_weight": {0: 6, 4: 0.0, 9: 1}, "sample_weight": by_image * 0 + 2},
    ):
        model = tiny()
        model.fit(small_images, labels, **options)
        found.append(model.parameter_vector)
    for other in found[1:4]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-6)
    assert np.abs(found[4] - found[0]).max() > 1e-3


def test_balanced_weights_are_those_of_scikit_learn(small_images):
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    names = np.array(["a", "b", "c"])[np.minimum(np.arange(60) // 6, 2)]
    by_image = sklearn.compute_sample_weight("balanced", names)
    found = []
    for options in ({"class_weight": "balanced"}, {"sample_weight": by_image}):
        model = lenet5c.Model(
            [lenet5c.Dense(3)], input_shape=(1, 12, 12), classes=3, seed=1
        )
        model.fit(small_images, names, **options)
        found.append(model.parameter_vector)
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)


def test_both_weights_are_multiplied_and_scaled_to_mean_one(
    small, floats, labels, monkeypatch
):
    seen = []

    def loss_of_batch(pixels, positions, codes, gradient, threads, **options):
        seen.append(options["weights"])
        gradient[:] = 0
        return 0.0, 0

    monkeypatch.setattr(small, "loss_of_batch", loss_of_batch)
    by_image = np.linspace(0, 1e300, 60)
    plain(
        small,
        floats,
        labels,
        epochs=1,
        sample_weight=by_image,
        class_weight={3: 1e300, 4: 5e299},
        validation=0.25,
    )
    train = ~share_of_each_class(0.25, labels, 0)
    by_class = np.where(labels == 3, 1, np.where(labels == 4, 0.5, 1e-300))
    expected = by_image / 1e300 * by_class
    expected /= expected[train].mean()
    assert seen[0].dtype == np.float32
    np.testing.assert_allclose(seen[0], expected, rtol=1e-6, atol=1e-38)


def test_images_of_weight_zero_do_not_count(floats, labels):
    """One step on all of them is one on the rest, once their mean is one."""
    weights = np.where(labels < 5, 1, 0)
    first, second = tiny(), tiny()
    plain(first, floats, labels, epochs=1, batch_size=60, sample_weight=weights)
    second.set_input(first.stage, first.source, first.classes)
    few = weights > 0
    plain(second, floats[few], labels[few], epochs=1, batch_size=60)
    np.testing.assert_allclose(
        first.parameter_vector, second.parameter_vector, rtol=1e-5, atol=1e-7
    )


def test_weights_of_one_are_no_weights(small_images, labels, digest):
    found = set()
    for weight in (None, np.ones(60), np.full(60, 3), [True] * 60):
        model = tiny()
        model.fit(small_images, labels, sample_weight=weight)
        found.add(digest(model))
    assert len(found) == 1


# The same bits on any number of threads

EVERYTHING = {
    "epochs": 3,
    "batch_size": 25,
    "augment": Augment(),
    "label_smoothing": 0.1,
    "weight_average": 0.9,
    "clip_norm": 1.0,
    "accumulate": 2,
    "class_weight": "balanced",
    "sample_weight": np.linspace(0, 1, 60),
    "validation": 0.2,
    "early_stopping": 2,
    "schedule": ReduceOnPlateau(patience=1),
}


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_same_bits_on_any_number_of_threads(optimizer, images, labels, digest):
    found = set()
    for threads in (1, 2, 3):
        model = lenet5c.lenet5(dropout=0.3)
        model.fit(
            images, labels, optimizer=optimizer(0.01), threads=threads, **EVERYTHING
        )
        found.add(digest(model))
    assert len(found) == 1


# Early stopping, plateau, time


def losses(monkeypatch, values):
    """Let a model find these validation losses, one after the other."""
    given = iter(values)

    def found(model, *_):
        return lenet5c.Evaluation(next(given), 0.5, np.zeros((1, 1), np.int64))

    monkeypatch.setattr(lenet5c.Model, "evaluate_at", found)


CASES = [
    # losses, patience and min_delta, epochs trained, best epoch
    ([3, 2, 1, 2, 2, 0, 0], 2, 5, 3),
    ([3, 3, 3, 3], 1, 2, 1),
    ([1, 2, 0.5, 2, 2, 2], 3, 6, 3),
    ([5, 4, 3, 2], 1, 4, 4),
    ([3, 2.95, 2.9, 2.85, 2.8], EarlyStopping(2, 0.1), 3, 1),
    ([3, 2.95, 2.89, 2.85, 2.8, 1], EarlyStopping(2, min_delta=0.1), 5, 3),
    ([math.nan, 2, math.nan, math.nan, 1], 2, 4, 2),
]


@pytest.mark.parametrize(("values", "stopping", "epochs", "best"), CASES)
@pytest.mark.parametrize("decay", [0, 0.9])
def test_early_stopping_ends_in_time_and_restores_the_best_weights(
    values, stopping, epochs, best, decay, small, small_images, labels, monkeypatch
):
    losses(monkeypatch, values)
    weights = Weights()
    history = small.fit(
        small_images,
        labels,
        epochs=len(values),
        validation=0.5,
        early_stopping=stopping,
        weight_average=decay,
        callbacks=[weights],
    )
    assert len(history) == len(weights.epochs) == epochs
    np.testing.assert_array_equal(small.parameter_vector, weights.epochs[best - 1])


def test_the_best_weights_are_restored_however_training_ends(
    small, small_images, labels, monkeypatch
):
    losses(monkeypatch, [1, 2, 3])
    weights = Weights()
    small.fit(
        small_images,
        labels,
        epochs=9,
        validation=0.5,
        early_stopping=9,
        callbacks=[weights, lambda state: state.epoch == 3],
    )
    np.testing.assert_array_equal(small.parameter_vector, weights.epochs[0])


def test_a_plateau_lets_the_rate_fall(small, small_images, labels, monkeypatch):
    losses(monkeypatch, [3, 2, 2, 2, 1, 1, 1, 1, 1])
    schedule = ReduceOnPlateau(0.5, patience=2, least=0.2)
    history = small.fit(
        small_images,
        labels,
        epochs=9,
        validation=0.5,
        schedule=schedule,
        optimizer=SGD(0.1),
    )
    factors = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert history.learning_rate == pytest.approx([0.1 * f for f in factors])
    assert (schedule.now, schedule.watch.waited) == (1, 0)  # fit took a copy


def test_a_plateau_never_falls_below_the_least(small, small_images, labels):
    schedule = ReduceOnPlateau(0.1, patience=1, min_delta=1e9, least=0.05)
    for _ in range(5):
        schedule.after_epoch(1.0)
    assert schedule.now == 0.05
    history = small.fit(
        small_images, labels, validation=0.5, schedule="plateau", epochs=2
    )
    assert history.learning_rate == [0.1, 0.1]


@pytest.mark.parametrize(
    "options",
    [{"factor": 1}, {"patience": 0}, {"min_delta": -1}, {"least": 2}, {"factor": "a"}],
)
def test_a_plateau_of_bad_options_is_refused(options):
    with pytest.raises((TypeError, ValueError), match=rf"^{next(iter(options))}: "):
        ReduceOnPlateau(**options)


@pytest.mark.parametrize("options", [{"patience": 0}, {"patience": 1, "min_delta": -1}])
def test_early_stopping_of_bad_options_is_refused(options):
    with pytest.raises(ValueError, match=rf"^{list(options)[-1]}: "):
        EarlyStopping(**options)


class Clock:
    """time.perf_counter that says a second more each time it is asked by a batch."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def on_batch_end(self, state):
        self.now += 1


@pytest.mark.parametrize(
    ("most", "batches", "epochs"), [(0, 1, 0), (2.5, 3, 0), (4, 4, 1), (6, 6, 1)]
)
def test_time_ends_training_after_the_batch_that_passes_it(
    most, batches, epochs, small, small_images, labels, monkeypatch
):
    clock, weights = Clock(), Weights()
    monkeypatch.setattr(lenet5c.training.loop, "time", clock)
    history = small.fit(
        small_images,
        labels,
        epochs=9,
        batch_size=15,
        max_seconds=most,
        callbacks=[clock, weights],
        validation=(small_images, labels),
    )
    assert len(weights.steps) == batches
    assert len(history) == len(history.validation_loss) == epochs


# Validation


def test_evaluation_in_chunks_is_that_of_the_whole(small, small_images, labels):
    images, labels = np.tile(small_images, (150, 1, 1)), np.tile(labels, 150)
    small.fit(small_images, labels[:60])
    one, many = (
        small.evaluate(small_images, labels[:60]),
        small.evaluate(images, labels),
    )
    assert many.loss == pytest.approx(one.loss, rel=1e-12)
    assert many.accuracy == one.accuracy
    np.testing.assert_array_equal(many.confusion, 150 * one.confusion)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_held_out_are_not_copied(kind, small_images, labels, monkeypatch):
    """At most 4096 at a time; and the input stage is that of the training images."""
    pixels = np.tile(small_images, (200, 1, 1)).astype(kind)
    model = tiny()
    taken = []
    whole = type(model)._run

    def counted(self, part, *rest):
        taken.append(len(part))
        return whole(self, part, *rest)

    monkeypatch.setattr(type(model), "_run", counted)
    model.fit(pixels, np.tile(labels, 200), epochs=1, validation=0.75)
    assert taken == [4096, 4096, 808]
    train = ~share_of_each_class(0.75, np.tile(labels, 200), 0)
    assert model.stage == lenet5c.data.images.InputStage.of(pixels[train])


MAPPED = """
import re
import numpy as np
import lenet5c

def anonymous():
    text = open("/proc/self/status").read()
    return int(re.search(r"RssAnon:\\s*(\\d+) kB", text)[1]) / 1024

images = np.memmap("pixels", np.uint8, "w+", shape=({count}, 28, 28))
images[::7, 3] = 200
images.flush()
images = np.memmap("pixels", np.uint8, "r", shape=({count}, 28, 28))
labels = np.arange({count}) % 10
model = lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 28, 28))
model.fit(images[:100], labels[:100], epochs=1, validation=0.5)
before, peak = anonymous(), 0.0

class Look:
    def on_batch_end(self, state):
        global peak
        peak = max(peak, anonymous())

    on_epoch_end = on_batch_end

model = lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 28, 28))
model.fit(images, labels, epochs=1, batch_size=4096, validation=0.5, callbacks=[Look()])
print(peak - before)
"""


def test_a_memory_mapped_array_stays_on_the_disk(run_python, tmp_path):
    """150 MB of pixels, half of them held out."""
    try:
        open("/proc/self/status").close()
    except OSError:
        pytest.skip("no /proc/self/status on this system")
    done = run_python(MAPPED.format(count=200_000))
    assert float(done.stdout) < 40


# Recipes


def test_none_is_what_the_recipe_says(small_images, labels):
    """The default: batches of 64, SGD with Nesterov, one-cycle; 30 epochs of few."""
    found = []
    for options in (
        {},
        {"recipe": "default", "epochs": None, "schedule": None, "augment": False},
        {
            "epochs": 30,
            "batch_size": 64,
            "optimizer": SGD(0.1, momentum=0.9, nesterov=True),
            "schedule": "one-cycle",
            "label_smoothing": 0,
            "weight_average": 0,
        },
    ):
        model = tiny()
        assert len(model.fit(small_images, labels, **options)) == 30
        found.append(model.parameter_vector)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_arguments_override_a_recipe(small_images, labels):
    mine = Recipe(
        epochs=2,
        batch_size=20,
        optimizer=lambda: AdamW(0.01),
        schedule="cosine",
        augment=Augment(shift=1),
        label_smoothing=0.1,
        weight_average=0.5,
        clip_norm=1.0,
    )
    by_hand = {
        "epochs": 2,
        "batch_size": 20,
        "schedule": "cosine",
        "augment": Augment(shift=1),
        "label_smoothing": 0.1,
        "weight_average": 0.5,
        "clip_norm": 1.0,
    }

    def train(**options):
        model = tiny()
        model.fit(small_images, labels, **options)
        return model.parameter_vector.tobytes()

    expected = train(optimizer=AdamW(0.01), **by_hand)
    assert train(recipe=mine) == expected
    others = {
        "epochs": 3,
        "batch_size": 21,
        "optimizer": SGD(),
        "schedule": "constant",
        "augment": False,
        "label_smoothing": 0,
        "weight_average": 0,
        "clip_norm": 0.1,
    }
    for name, value in others.items():
        options = {"optimizer": AdamW(0.01)} | by_hand | {name: value}
        assert train(recipe=mine, **{name: value}) == train(**options) != expected


def test_the_recipe_of_1998_is_one_image_at_a_time(small_images, labels):
    model, images = lenet5c.lenet5(), small_images[:30]
    history = model.fit(images, labels[:30], recipe="1998", epochs=6, seed=1)
    eta = [5e-4, 5e-4, 2e-4, 2e-4, 2e-4, 1e-4]
    assert history.learning_rate == pytest.approx(eta)
    again = lenet5c.lenet5()
    again.fit(
        *(images, labels[:30]),
        epochs=6,
        batch_size=1,
        optimizer=lenet5c.SDLM(5e-4, mu=1, samples=500),
        schedule="lenet5-1998",
        loss="map",
        clip_norm=math.inf,
        seed=1,
    )
    np.testing.assert_array_equal(model.parameter_vector, again.parameter_vector)
    assert RECIPES["1998"].epochs == 20


def test_the_best_recipe_runs(images, labels):
    model = lenet5c.lenet5()
    assert len(model.fit(images, labels, recipe="best", epochs=1)) == 1
    assert RECIPES["best"].augment is not None
    assert RECIPES["best"].optimizer() is not RECIPES["best"].optimizer()


# Logging


def test_one_line_an_epoch_goes_to_pythons_logging(
    small, small_images, labels, caplog, capsys
):
    with caplog.at_level(logging.INFO, "lenet5c"):
        history = small.fit(small_images, labels, validation=0.5, epochs=3)
    lines = [(r.name, r.levelname, r.getMessage()) for r in caplog.records]
    assert [line[:2] for line in lines] == [("lenet5c", "INFO")] * 3
    for epoch, (_, _, text) in enumerate(lines, 1):
        assert f"epoch {epoch}/3" in text
        assert f"loss {history.loss[epoch - 1]:.4f}" in text
        assert "validation" in text
    assert capsys.readouterr() == ("", "")


def test_warnings_of_the_library_are_silent_without_a_handler(run_python):
    code = "from lenet5c.training.callbacks import logger\nlogger().warning('x')"
    done = run_python(code)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("validation", [None, 0.5])
def test_the_log_has_a_line_an_epoch(validation, small, small_images, labels, tmp_path):
    path = tmp_path / "log"
    path.write_text("of another training\n")
    seen = []

    def look(state):
        seen.append(path.read_bytes().count(b"\n"))

    history = small.fit(
        small_images,
        labels,
        epochs=3,
        validation=validation,
        log=path,
        callbacks=[look],
    )
    assert seen == [1, 2, 3]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.pop("epoch") for line in lines] == [1, 2, 3]
    times = [datetime.fromisoformat(line.pop("time")) for line in lines]
    assert all(time.utcoffset().total_seconds() == 0 for time in times)
    assert times == sorted(times)
    columns = {name: values for name, values in history.to_dict().items() if values}
    for epoch, line in enumerate(lines):
        assert line == {name: values[epoch] for name, values in columns.items()}


def state_of(epoch, **values) -> TrainingState:
    return TrainingState(None, 9, 1, 1, epoch=epoch, **values)


def test_what_is_not_finite_is_null_in_the_log(tmp_path):
    path = tmp_path / "log"
    with JsonLines(path) as lines:
        lines.write(state_of(1, loss=math.nan, accuracy=math.inf), 1.0)
    line = json.loads(path.read_text())
    assert (line["loss"], line["accuracy"]) == (None, None)


@pytest.mark.parametrize(
    ("tail", "epochs", "kept"),
    [
        (b"", 2, 2),
        (b"", 9, 3),
        (b"", 0, 0),
        (b'{"epoch": 3', 3, 3),
        (b'{"epoch": 3}', 3, 3),
        (b"[1]\n", 3, 3),
        (b'\xff\xfe\n{"epoch": 3}\n', 3, 3),
    ],
)
def test_a_log_goes_on_where_its_training_does(tail, epochs, kept, tmp_path):
    path = tmp_path / "log"
    with JsonLines(path) as lines:
        for epoch in (1, 2, 3):
            lines.write(state_of(epoch), 1.0)
    first = path.read_bytes().splitlines(keepends=True)
    with open(path, "ab") as file:
        file.write(tail)
    with JsonLines(path, epochs) as lines:
        assert path.read_bytes() == b"".join(first[:kept])
        lines.write(state_of(kept + 1), 1.0)
    found = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    assert found == list(range(1, kept + 2))


def test_a_log_that_cannot_be_written_is_refused_before_anything_changes(
    small, small_images, labels, digest, tmp_path
):
    before = digest(small)
    for path in (tmp_path, tmp_path / "none" / "log"):
        with pytest.raises(OSError, match=path.name):
            small.fit(small_images, labels, log=path)
    assert digest(small) == before


def test_a_full_disk_does_not_end_training(small, small_images, labels):
    path = "/dev/full"
    try:
        open(path, "ab").close()
    except OSError:
        pytest.skip("no /dev/full on this system")
    with pytest.warns(RuntimeWarning, match=r"^log: .*goes on") as warned:
        history = small.fit(small_images, labels, epochs=3, log=path)
    assert len(history) == 3
    assert len(warned) == 1
