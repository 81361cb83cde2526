"""fit(): what it returns, what it refuses; the same seed gives the same bits."""

import copy
import itertools
import json
import math
import pickle
import subprocess
from typing import Any

import numpy as np
import pytest

import lenet5c
from lenet5c import SGD, AdamW, TrainingError
from lenet5c.report.history import History
from lenet5c.training.callbacks import TrainingState
from lenet5c.training.data import share_of_each_class

# Determinism


def random_set(count: int, shape=(28, 28)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return images, rng.integers(0, 10, count)


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_same_bits_for_any_number_of_threads(optimizer, digest):
    """20 steps, the last on a ragged batch."""
    images, labels = random_set(19 * 50 + 23)
    digests = {}
    for threads in (1, 2, 3, 4, 7):
        model = lenet5c.lenet5(seed=4)
        before = digest(model)
        chosen = optimizer(0.01)
        model.fit(
            images,
            labels,
            epochs=1,
            batch_size=50,
            optimizer=chosen,
            threads=threads,
        )
        assert chosen.steps == 20
        digests[threads] = digest(model)
    assert set(digests.values()) == {digests[1]}
    assert digests[1] != before


@pytest.mark.parametrize(
    ("given", "expected"), [(None, [8] * 16 + [4] * 16), (3, [3] * 32)]
)
def test_the_share_of_the_cpus_follows_who_else_trains(
    small, small_images, labels, monkeypatch, given, expected
):
    of = lenet5c._support.threads
    monkeypatch.setattr(of, "_sharing", set())
    monkeypatch.setattr(of, "usable_cpus", lambda: set(range(8)))
    monkeypatch.setattr(of, "cpu_quota", lambda: 8)
    monkeypatch.setattr(of.core, "max_threads", lambda: 8)
    taken = []
    loss_of_batch = type(small).loss_of_batch

    def watched(self, pixels, indices, codes, gradient, count, **options):
        taken.append(count)
        if len(taken) == 10:  # another thread begins to train
            of._sharing.add(0)
        return loss_of_batch(self, pixels, indices, codes, gradient, count, **options)

    monkeypatch.setattr(type(small), "loss_of_batch", watched)
    small.fit(small_images[:32], labels[:32], epochs=16, batch_size=16, threads=given)
    assert taken == expected


@pytest.mark.parametrize("batch_size", [256, 257, 700])
def test_same_bits_where_a_batch_is_summed_in_several_parts(batch_size, digest):
    images, labels = random_set(1_500, (12, 12))
    digests = set()
    for threads in (1, 2, 5):
        model = lenet5c.lenet5(activation="relu", pooling="max")
        model.fit(images, labels, epochs=1, batch_size=batch_size, threads=threads)
        digests.add(digest(model))
    assert len(digests) == 1


def test_same_seed_same_bits_other_seed_other_bits(small_images, labels, digest):
    def of(seed):
        model = lenet5c.mlp(seed=1)
        model.fit(small_images, labels, epochs=2, batch_size=16, seed=seed)
        return digest(model)

    assert of(5) == of(5)
    assert len({of(0), of(5), of(6), of(2**63)}) == 4


def test_every_epoch_has_an_order_of_its_own(small_images, labels):
    """Each image once an epoch, in batches of the size asked for."""
    orders = []

    class Spy(lenet5c.Model):
        def loss_of_batch(self, pixels, positions, *rest, **options):
            orders.append(positions.tolist())
            return super().loss_of_batch(pixels, positions, *rest, **options)

    model = Spy([lenet5c.Dense(10)], input_shape=(1, 12, 12))
    model.fit(small_images, labels, epochs=3, batch_size=25)
    assert [len(batch) for batch in orders] == [25, 25, 10] * 3
    epochs = [list(itertools.chain(*orders[i : i + 3])) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(60)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(range(60)) not in epochs


def test_nothing_but_the_arguments_matters(small_images, labels, digest):
    """Neither NumPy's global generator nor callbacks nor a look at the model."""
    digests = set()
    for number in range(2):
        np.random.seed(number)  # noqa: NPY002
        model = lenet5c.mlp()
        look = [lambda state: state.model.predict(small_images) is None] * number
        validation = (small_images[:9], labels[:9]) if number else None
        model.fit(small_images, labels, callbacks=look, validation=validation)
        digests.add(digest(model))
    assert len(digests) == 1


def test_fit_is_the_steps_it_promises(small, small_images, labels):
    """Mean gradient of each batch, the schedule's rate, momentum kept: by hand."""
    by_hand = lenet5c.Model(small.layers, input_shape=(1, 12, 12), seed=3)
    small.fit(
        small_images,
        labels,
        epochs=2,
        batch_size=25,
        optimizer=SGD(0.2),
        schedule="cosine",
        seed=9,
        clip_norm=math.inf,
    )
    by_hand.set_input(small.stage, small.source, small.classes)
    optimizer = SGD()
    step = 0
    for epoch in (1, 2):
        order = np.random.default_rng((9, epoch)).permutation(60)
        for at in (order[:25], order[25:50], order[50:]):
            rate = 0.2 * 0.5 * (1 + math.cos(math.pi * step / 6))
            by_hand.train_step(
                small_images[at], labels[at], optimizer, learning_rate=rate
            )
            step += 1
    np.testing.assert_array_equal(by_hand.parameter_vector, small.parameter_vector)


def test_fit_learns(images, labels):
    model = lenet5c.lenet5()
    history = model.fit(images, labels, epochs=15, batch_size=10)
    assert history.loss[0] > 1
    assert history.loss[-1] < 0.1
    assert history.accuracy[-1] == 1
    np.testing.assert_array_equal(model.predict(images), labels)


def test_a_second_fit_goes_on_from_the_weights(small, small_images, labels):
    first = small.fit(small_images, labels, epochs=8, schedule="constant")
    second = small.fit(small_images, labels, epochs=1, schedule="constant")
    assert second.loss[0] < first.loss[0]


def test_an_optimizer_used_before_starts_afresh_with_another_model(
    small_images, labels
):
    """Or else the same arguments would not give the same weights."""
    optimizer = AdamW()
    found = []
    for _ in range(2):
        model = lenet5c.mlp()
        model.fit(small_images, labels, optimizer=optimizer, epochs=1)
        found.append(model.parameter_vector)
    np.testing.assert_array_equal(*found)


# History, state, callbacks


def test_history_has_an_entry_for_each_epoch(small, small_images, labels):
    history = small.fit(small_images, labels, epochs=4, batch_size=32)
    assert len(history) == 4
    values = history.to_dict()
    assert list(values) == [
        *("loss", "accuracy", "validation_loss", "validation_accuracy"),
        *("learning_rate", "seconds", "images_per_second"),
    ]
    for name, column in values.items():
        assert len(column) == (0 if name.startswith("validation") else 4)
        assert all(type(value) is float for value in column)
    assert json.loads(json.dumps(values)) == values
    assert min(history.seconds) > 0
    speeds = [60 / seconds for seconds in history.seconds]
    assert history.images_per_second == pytest.approx(speeds)


def test_to_dict_is_a_copy():
    history = History(loss=[1.0])
    history.to_dict()["loss"].append(2.0)
    assert history.loss == [1.0]


def test_loss_and_accuracy_are_means_over_images_not_batches(small_images, labels):
    """With a learning rate of 0 they are those of the whole, ragged batch or not."""
    model = lenet5c.mlp()
    model.fit(small_images, labels, epochs=1)
    history = model.fit(small_images, labels, epochs=1, batch_size=59, optimizer=SGD(0))
    expected = model.evaluate(small_images, labels)
    assert history.loss[0] == pytest.approx(expected.loss, rel=1e-5)
    assert history.accuracy[0] == pytest.approx(expected.accuracy)
    assert 0 < expected.accuracy < 1


def test_validation_by_images_is_what_evaluate_finds(small, small_images, labels):
    held_out = small_images[::3], labels[::3]
    found = []
    history = small.fit(
        small_images,
        labels,
        epochs=3,
        validation=held_out,
        callbacks=[lambda state: found.append(state.model.evaluate(*held_out))],
    )
    assert history.validation_loss == [result.loss for result in found]
    assert history.validation_accuracy == [result.accuracy for result in found]


@pytest.mark.parametrize(("share", "count"), [(0.25, 15), (0.001, 1), (0.97, 58)])
def test_validation_by_share_holds_images_out(small_images, labels, share, count):
    seen = set()

    class Spy(lenet5c.Model):
        def loss_of_batch(self, pixels, positions, *rest, **options):
            seen.update(positions.tolist())
            return super().loss_of_batch(pixels, positions, *rest, **options)

    model = Spy([lenet5c.Dense(10)], input_shape=(1, 12, 12))
    states = []
    history = model.fit(
        small_images,
        labels,
        epochs=2,
        validation=share,
        callbacks=[lambda state: states.append((state.total_images, state.images))],
    )
    assert states == [(60 - count, 60 - count)] * 2
    assert len(seen) == 60 - count
    held_out = sorted(set(range(60)) - seen)
    expected = model.evaluate(small_images[held_out], labels[held_out])
    assert history.validation_loss[-1] == expected.loss
    assert len(history.validation_accuracy) == 2


def test_validation_takes_labels_as_fit_does(small, small_images, labels):
    names = np.array([f"no. {label}" for label in labels])
    history = small.fit(
        small_images, names, epochs=1, validation=[small_images[:5], list(names[:5])]
    )
    assert len(history.validation_loss) == 1
    history = small.fit(small_images, names, epochs=1, validation=np.float32(0.5))
    assert len(history.validation_loss) == 1


class Recorder:
    """Copies of the state, at each batch and epoch."""

    def __init__(self):
        self.batches, self.epochs = [], []

    def on_batch_end(self, state):
        self.batches.append(vars(state).copy())

    def on_epoch_end(self, state):
        self.epochs.append(vars(state).copy())


def test_callbacks_see_the_state(small, small_images, labels):
    recorder = Recorder()
    history = small.fit(
        small_images,
        labels,
        epochs=2,
        batch_size=25,
        validation=(small_images, labels),
        callbacks=[recorder],
    )
    places = [(s["epoch"], s["batch"], s["images"]) for s in recorder.batches]
    assert places == [
        *[(1, 1, 25), (1, 2, 50), (1, 3, 60)],
        *[(2, 1, 25), (2, 2, 50), (2, 3, 60)],
    ]
    assert [(s["epoch"], s["images"]) for s in recorder.epochs] == [(1, 60), (2, 60)]
    for state in recorder.batches + recorder.epochs:
        assert state["model"] is small
        assert (state["epochs"], state["batches"]) == (2, 3)
        assert state["total_images"] == 60
        assert state["images_per_second"] > 0
    assert recorder.batches[0]["validation_loss"] is None
    assert recorder.batches[-1]["validation_loss"] == history.validation_loss[0]
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        column = getattr(history, name)
        assert [state[name] for state in recorder.epochs] == column
    assert recorder.batches[2]["loss"] == history.loss[0]
    seconds = [state["seconds"] for state in recorder.batches]
    assert seconds == sorted(seconds)
    assert set(recorder.epochs[0]) == set(TrainingState.__annotations__)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant", "step"])
def test_the_learning_rate_is_the_optimizers_times_the_schedule(
    schedule, small, small_images, labels
):
    recorder = Recorder()
    history = small.fit(
        small_images,
        labels,
        epochs=4,
        batch_size=25,
        optimizer=SGD(0.3),
        schedule=schedule,
        callbacks=[recorder],
    )
    function = lenet5c.schedules.SCHEDULES[schedule]
    expected = [0.3 * function(step, 3, 4) for step in range(12)]
    assert [state["learning_rate"] for state in recorder.batches] == expected
    assert history.learning_rate == expected[2::3]


def test_a_schedule_may_be_a_function(small, small_images, labels):
    calls = []

    def mine(*arguments):
        calls.append(arguments)
        return 0.5

    small.fit(small_images, labels, epochs=2, batch_size=30, schedule=mine)
    assert [call for call in calls if call[0] > 0] == [(i, 2, 2) for i in (1, 2, 3)]
    assert set(calls[:-3]) == {(0, 2, 2)}


def test_a_function_is_called_at_the_end_of_each_epoch(small, small_images, labels):
    epochs = []
    small.fit(
        small_images,
        labels,
        epochs=3,
        callbacks=[lambda state: epochs.append(state.epoch)],
    )
    assert epochs == [1, 2, 3]


def test_callbacks_may_be_any_iterable(small, small_images, labels):
    epochs = []
    for kind in (tuple, list, iter):
        callbacks = kind([lambda state: epochs.append(state.epoch)])
        small.fit(small_images, labels, epochs=1, callbacks=callbacks)
    assert epochs == [1, 1, 1]


def test_true_from_a_function_stops_after_the_epoch(small, small_images, labels):
    others = []
    history = small.fit(
        small_images,
        labels,
        epochs=9,
        callbacks=[lambda s: s.epoch == 2, lambda s: others.append(s.epoch)],
    )
    assert len(history) == 2
    assert others == [1, 2]  # all are called


@pytest.mark.parametrize("answer", [None, False, 1, "yes", 0])
def test_nothing_but_true_stops(answer, small, small_images, labels):
    history = small.fit(
        small_images, labels, epochs=3, callbacks=[lambda state: answer]
    )
    assert len(history) == 3


def test_numpys_true_stops_as_well(small, small_images, labels):
    history = small.fit(
        small_images, labels, epochs=3, callbacks=[lambda s: np.float64(s.loss) > 0]
    )
    assert len(history) == 1


class Stop:
    def __init__(self, at):
        self.at, self.batches = at, 0

    def on_batch_end(self, state):
        self.batches += 1
        return (state.epoch, state.batch) == self.at


def test_true_from_on_batch_end_stops_at_once(small, small_images, labels):
    stop = Stop((2, 2))
    history = small.fit(small_images, labels, epochs=9, batch_size=10, callbacks=[stop])
    assert stop.batches == 8
    assert len(history) == 1
    assert np.isfinite(small.predict_proba(small_images)).all()


@pytest.mark.parametrize("method", ["on_batch_end", "on_epoch_end"])
def test_an_exception_of_a_callback_passes_and_the_model_is_usable(
    method, small, small_images, labels
):
    class Failing:
        pass

    def fail(state):
        raise LookupError("mine")

    failing = Failing()
    setattr(failing, method, fail)
    with pytest.raises(LookupError, match=r"^mine$"):
        small.fit(small_images, labels, callbacks=[failing])
    assert small.predict(small_images).shape == (60,)
    assert len(small.fit(small_images, labels, epochs=2)) == 2


def test_verbose_writes_to_stderr_alone(small, small_images, labels, capsys):
    small.fit(small_images, labels, epochs=2)
    assert capsys.readouterr() == ("", "")
    small.fit(small_images, labels, epochs=2, verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err


# Refusals

SMALL = np.zeros((60, 12, 12), np.uint8)
SMALL[:, 3] = np.arange(60)[:, None]
NUMBERS = np.arange(60) % 10
NAN = np.full((60, 12, 12), np.nan, np.float32)

BAD = [
    ("images", {"images": None}, TypeError),
    ("images", {"images": SMALL.astype(int) - 1}, ValueError),
    ("images", {"images": SMALL.astype(int) + 200}, ValueError),
    ("images", {"images": SMALL.astype(complex)}, TypeError),
    ("images", {"images": "images"}, TypeError),
    ("images", {"images": SMALL[0, 0]}, ValueError),
    ("images", {"images": SMALL[:0]}, ValueError),
    ("images", {"images": SMALL[:, :, None, None]}, ValueError),
    ("images", {"images": np.zeros((60, 13, 12), np.uint8)}, ValueError),
    ("images", {"images": [[1.0, 2.0], [3.0]]}, ValueError),
    ("images", {"images": NAN}, ValueError),
    ("images", {"images": np.where(NAN > 0, 0, np.inf)}, ValueError),
    ("labels", {"images": SMALL[:59]}, ValueError),
    ("labels", {"labels": None}, ValueError),
    ("labels", {"labels": []}, ValueError),
    ("labels", {"labels": NUMBERS[:59]}, ValueError),
    ("labels", {"labels": NUMBERS + 1.5}, TypeError),
    ("labels", {"labels": np.where(NUMBERS, NUMBERS, np.nan)}, TypeError),
    ("labels", {"labels": NUMBERS * 2 % 18}, ValueError),
    ("labels", {"labels": NUMBERS % 3 - 1}, ValueError),
    ("labels", {"labels": NUMBERS.astype(object)}, TypeError),
    ("labels", {"labels": np.ones((60, 10))}, ValueError),
    ("labels", {"labels": np.ones((60, 3))}, ValueError),
    ("labels", {"labels": np.where(NUMBERS, "1.0", "2.0")}, ValueError),
    *[
        (name, {name: value}, error)
        for name in ("epochs", "batch_size")
        for value, error in [
            *[(0, ValueError), (-1, ValueError), (1 << 40, ValueError)],
            *[(2.5, TypeError), (True, TypeError), ([1], TypeError)],
            *[("3", TypeError), (math.nan, TypeError)],
        ]
    ],
    ("seed", {"seed": -1}, ValueError),
    ("seed", {"seed": 2**64}, ValueError),
    ("seed", {"seed": 1.0}, TypeError),
    ("threads", {"threads": 0}, ValueError),
    ("threads", {"threads": -2}, ValueError),
    ("threads", {"threads": "2"}, TypeError),
    ("threads", {"threads": True}, TypeError),
    ("optimizer", {"optimizer": "adam"}, ValueError),
    ("optimizer", {"optimizer": SGD}, TypeError),
    ("optimizer", {"optimizer": 0.1}, TypeError),
    ("schedule", {"schedule": "linear"}, ValueError),
    ("schedule", {"schedule": 3}, ValueError),
    ("schedule", {"schedule": "plateau"}, ValueError),
    ("schedule", {"schedule": 0.5}, ValueError),
    ("augment", {"augment": "shift"}, ValueError),
    ("augment", {"augment": True}, ValueError),
    ("recipe", {"recipe": "worst"}, ValueError),
    ("recipe", {"recipe": 3}, ValueError),
    *[
        (name, {name: value}, error)
        for name in ("label_smoothing", "weight_average")
        for value, error in [
            *[(1.0, ValueError), (-0.1, ValueError), (math.nan, ValueError)],
            *[("0.1", TypeError), (True, TypeError)],
        ]
    ],
    ("clip_norm", {"clip_norm": 0}, ValueError),
    ("clip_norm", {"clip_norm": -1.0}, ValueError),
    ("clip_norm", {"clip_norm": math.nan}, ValueError),
    ("clip_norm", {"clip_norm": "1"}, TypeError),
    ("accumulate", {"accumulate": 0}, ValueError),
    ("accumulate", {"accumulate": 2.0}, TypeError),
    ("accumulate", {"accumulate": None}, TypeError),
    ("class_weight", {"class_weight": "even"}, TypeError),
    ("class_weight", {"class_weight": [1.0] * 10}, TypeError),
    ("class_weight", {"class_weight": {10: 1.0}}, ValueError),
    ("class_weight", {"class_weight": {"3": 1.0}}, ValueError),
    ("class_weight", {"class_weight": {3: -1.0}}, ValueError),
    ("class_weight", {"class_weight": {3: math.nan}}, ValueError),
    ("class_weight", {"class_weight": {3: math.inf}}, ValueError),
    ("class_weight", {"class_weight": {3: None}}, TypeError),
    ("class_weight", {"class_weight": dict.fromkeys(range(10), 0)}, ValueError),
    ("sample_weight", {"sample_weight": 1.0}, ValueError),
    ("sample_weight", {"sample_weight": np.ones(59)}, ValueError),
    ("sample_weight", {"sample_weight": np.ones((60, 1))}, ValueError),
    ("sample_weight", {"sample_weight": [1.0, [2.0]]}, ValueError),
    ("sample_weight", {"sample_weight": ["1"] * 60}, TypeError),
    ("sample_weight", {"sample_weight": np.ones(60, complex)}, TypeError),
    ("sample_weight", {"sample_weight": np.zeros(60)}, ValueError),
    *[
        ("sample_weight", {"sample_weight": np.where(NUMBERS, 1, wrong)}, ValueError)
        for wrong in (-1, math.nan, math.inf, -math.inf)
    ],
    ("early_stopping", {"early_stopping": 3}, ValueError),
    ("early_stopping", {"early_stopping": 0, "validation": 0.5}, ValueError),
    ("early_stopping", {"early_stopping": 1.5, "validation": 0.5}, TypeError),
    ("max_seconds", {"max_seconds": -1}, ValueError),
    ("max_seconds", {"max_seconds": math.nan}, ValueError),
    ("max_seconds", {"max_seconds": "1"}, TypeError),
    ("checkpoint", {"checkpoint": 3}, TypeError),
    ("resume", {"resume": True}, ValueError),
    ("log", {"log": 3}, TypeError),
    ("validation", {"validation": 0.0}, ValueError),
    ("validation", {"validation": -0.1}, ValueError),
    ("validation", {"validation": 1.0}, ValueError),
    ("validation", {"validation": 0.9999}, ValueError),
    ("validation", {"validation": math.nan}, ValueError),
    ("validation", {"validation": 5}, TypeError),
    ("validation", {"validation": True}, TypeError),
    ("validation", {"validation": "0.1"}, TypeError),
    ("validation", {"validation": (SMALL,)}, TypeError),
    ("validation", {"validation": (SMALL, NUMBERS, NUMBERS)}, TypeError),
    ("validation images", {"validation": (None, NUMBERS)}, TypeError),
    ("validation images", {"validation": (SMALL[:0], [])}, ValueError),
    ("validation images", {"validation": (NAN, NUMBERS)}, ValueError),
    ("validation images", {"validation": (SMALL / 1.0, NUMBERS)}, ValueError),
    ("validation", {"validation": (SMALL[:, 2:], NUMBERS)}, ValueError),
    ("validation labels", {"validation": (SMALL, None)}, ValueError),
    ("validation labels", {"validation": (SMALL, NUMBERS[1:])}, ValueError),
    ("validation labels", {"validation": (SMALL, NUMBERS + 1)}, ValueError),
    ("callbacks", {"callbacks": None}, TypeError),
    ("callbacks", {"callbacks": 5}, TypeError),
    ("callbacks", {"callbacks": print}, TypeError),
    ("callbacks", {"callbacks": "abc"}, TypeError),
    ("callbacks", {"callbacks": [None]}, TypeError),
    ("callbacks", {"callbacks": [print, 5]}, TypeError),
]


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(("argument", "options", "error"), BAD)
def test_bad_arguments_are_refused_by_name_and_change_nothing(
    argument, options, error, fitted, small, digest
):
    if fitted:
        small.fit(SMALL, NUMBERS, epochs=1)
    optimizer = SGD()
    before = digest(small)
    arguments = {"images": SMALL, "labels": NUMBERS, "optimizer": optimizer} | options
    with pytest.raises(error, match=f"^{argument}: "):
        small.fit(**arguments)
    assert digest(small) == before
    assert (optimizer.steps, optimizer.state) == (0, [])


class NotCallable:
    on_batch_end = 5


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("callbacks", {"callbacks": [NotCallable()]}),
        ("schedule", {"schedule": lambda step, steps, epochs: None}),
        ("schedule", {"schedule": lambda step, steps, epochs: "1"}),
        ("schedule", {"schedule": lambda: 1.0}),
        ("schedule", {"schedule": lenet5c.schedules.Step}),
    ],
)
def test_what_can_only_be_called_in_vain_is_refused_before_anything_changes(
    argument, options, small, digest
):
    before = digest(small)
    with pytest.raises((TypeError, ValueError), match=argument):
        small.fit(SMALL, NUMBERS, **options)
    assert digest(small) == before


@pytest.mark.parametrize("options", [{"epoch": 3}, {"lr": 0.1}])
def test_arguments_that_do_not_exist_are_refused(options, small):
    with pytest.raises(TypeError, match="fit: unknown argument"):
        small.fit(SMALL, NUMBERS, **options)


def test_other_classes_than_those_of_the_first_fit_are_refused(small, digest):
    small.fit(SMALL, NUMBERS + 1, epochs=1)
    before = digest(small)
    for labels in (NUMBERS, NUMBERS.astype(str), np.full(60, "01")):
        with pytest.raises(ValueError, match=r"^labels: expected labels among 1, 2"):
            small.fit(SMALL, labels)
        with pytest.raises(ValueError, match=r"^labels: expected labels among 1, 2"):
            small.evaluate(SMALL, labels)
    assert digest(small) == before


# Accuracy


@pytest.mark.parametrize("images_of", [40, 3])
def test_of_equal_scores_the_first_class_is_the_guess(
    images_of, small, small_images, labels
):
    """In training, evaluation and prediction; all scores are equal, or two of them."""
    x, y = small_images[:images_of], labels[:images_of]
    for bias, guess in ((np.zeros(10), 0), (np.eye(10)[[3, 7]].sum(axis=0), 3)):
        small.parameter_vector[:] = 0
        small.parameters["D.bias"][:] = bias
        share = np.mean(y == guess)
        small.fit(x, y, epochs=1, optimizer=SGD(0.0))
        assert (small.predict(x) == guess).all()
        history = small.fit(
            x, y, epochs=1, batch_size=images_of, optimizer=SGD(0.0), validation=(x, y)
        )
        assert history.accuracy == history.validation_accuracy == [share]
        result = small.evaluate(x, y)
        assert result.accuracy == share
        assert result.confusion[:, guess].sum() == images_of


# A loss that is not finite


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("rate", [1e10, 1e30, 1e300])
@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_a_loss_that_is_not_finite_stops_training(
    activation, rate, optimizer, images, labels
):
    model = lenet5c.lenet5(activation=activation)
    with pytest.raises(TrainingError, match=r"in epoch \d+, batch \d+; .*smaller lear"):
        model.fit(
            images,
            labels,
            epochs=40,
            batch_size=16,
            optimizer=optimizer(rate),
            schedule="constant",
            clip_norm=math.inf,
        )
    assert np.isfinite(model.parameter_vector).all()
    assert np.isfinite(model.forward(images)).all()
    assert len(model.fit(images, labels, epochs=1)) == 1


def test_the_error_names_epoch_and_batch(small, small_images, labels):
    """The ninth step makes the weights NaN; the loss shows it at the tenth."""

    def schedule(step, steps_per_epoch, epochs):
        return math.nan if step == 8 else 0.1

    with pytest.raises(TrainingError, match="became nan in epoch 3, batch 2;"):
        small.fit(small_images, labels, batch_size=15, schedule=schedule, epochs=9)
    assert np.isfinite(small.parameter_vector).all()


def test_weights_put_back_are_no_more_than_16_batches_old(small, small_images, labels):
    vectors = []

    class Keep:
        def on_batch_end(self, state):
            vectors.append(state.model.parameter_vector.copy())

    def schedule(step, steps_per_epoch, epochs):
        return math.nan if step == 40 else 0.1

    with pytest.raises(TrainingError):
        small.fit(
            small_images,
            labels,
            batch_size=1,
            epochs=1,
            schedule=schedule,
            callbacks=[Keep()],
        )
    assert len(vectors) == 41
    assert any(np.array_equal(small.parameter_vector, v) for v in vectors[24:40])


def test_weights_that_break_in_the_last_batch_are_noticed(small, small_images, labels):
    def schedule(step, steps_per_epoch, epochs):
        return math.nan if step == steps_per_epoch * epochs - 1 else 0.1

    with pytest.raises(TrainingError, match="in epoch 2, batch 4;"):
        small.fit(small_images, labels, batch_size=15, epochs=2, schedule=schedule)
    assert np.isfinite(small.parameter_vector).all()


def test_weights_that_break_in_a_batch_that_stops_are_noticed(
    small, small_images, labels
):
    with pytest.raises(TrainingError):
        small.fit(
            small_images,
            labels,
            batch_size=15,
            schedule=lambda *step: math.nan,
            callbacks=[Stop((1, 1))],
        )
    assert np.isfinite(small.parameter_vector).all()


def test_an_optimizer_is_usable_after_a_loss_that_is_not_finite(
    small, small_images, labels
):
    optimizer = SGD(0.01)
    with pytest.raises(TrainingError):
        small.fit(
            small_images,
            labels,
            batch_size=10,
            optimizer=optimizer,
            schedule=lambda step, *_: 1e30 if step < 4 else 1,
            clip_norm=math.inf,
        )
    small.fit(small_images, labels, epochs=1, optimizer=optimizer)
    assert np.isfinite(small.parameter_vector).all()


def test_training_error_is_an_arithmetic_error():
    assert issubclass(TrainingError, ArithmeticError)


# Memory

PEAK = """
import re
import sys
import numpy as np
import lenet5c

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (8192, 28, 28), dtype=np.uint8)
model = lenet5c.lenet5()
model.fit(images, np.arange(8192) % 10, epochs=1, batch_size={batch_size}, threads=2)
status = open("/proc/self/status").read()
print(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])
"""


def test_peak_memory_hardly_grows_with_the_batch(run_python):
    """The peak of this very process: ru_maxrss would count its parent's as well."""
    try:
        open("/proc/self/status").close()
    except OSError:
        pytest.skip("no /proc/self/status on this system")
    done: list[subprocess.CompletedProcess[str]] = [
        run_python(PEAK.format(batch_size=batch_size)) for batch_size in (32, 4096)
    ]
    small_batch, large_batch = (int(run.stdout) / 1024 for run in done)
    assert large_batch - small_batch < 50


# Seeds and passes


def trained(fits, images, labels, digest, seed=None):
    """Digests after each of several fits of one model."""
    model, found = lenet5c.mlp(seed=1), []
    for epochs in fits:
        model.fit(images, labels, epochs=epochs, schedule="constant", seed=seed)
        found.append(digest(model))
    assert model.passes == sum(fits)
    return found


def test_without_a_seed_each_call_goes_on_with_other_random_numbers(
    small_images, labels, digest
):
    """As one call of several epochs does, but for the optimizer's state."""
    first, second = trained([1, 1], small_images, labels, digest)
    repeated = trained([1, 1], small_images, labels, digest, seed=0)
    assert first == repeated[0]
    assert second != repeated[1]
    assert trained([1, 1], small_images, labels, digest) == [first, second]


def test_passes_go_on_as_epochs_do(small_images, labels, digest):
    """Plain SGD has no state, so that two calls are one."""
    digests = set()
    for fits in ([3], [1, 2], [2, 1], [1, 1, 1]):
        model = lenet5c.mlp(seed=1)
        for epochs in fits:
            model.fit(
                small_images,
                labels,
                epochs=epochs,
                optimizer=SGD(0.1, momentum=0),
                schedule="constant",
                augment=lenet5c.Augment(),
            )
        digests.add(digest(model))
    assert len(digests) == 1


def test_a_pass_that_was_begun_counts(small_images, labels, digest):
    """A time limit shorter than an epoch does not show the same images for ever."""
    model, found = lenet5c.mlp(seed=1), set()
    for _ in range(3):
        before = model.state_vector.copy()
        model.fit(small_images, labels, epochs=1, batch_size=10, max_seconds=1e-9)
        found.add((model.state_vector != before).tobytes() + digest(model).encode())
    assert model.passes == 3
    assert len(found) == 3


def test_passes_are_in_the_file_and_the_pickle(small_images, labels, tmp_path):
    model = lenet5c.mlp()
    model.fit(small_images, labels, epochs=4)
    model.trained_on = "some data"
    model.save(tmp_path / "m.lenet5c")
    for back in (lenet5c.load(tmp_path / "m.lenet5c"), copy.deepcopy(model)):
        assert (back.passes, back.trained_on) == (4, "some data")


def test_a_model_remembers_what_all_calls_have_found(small_images, labels):
    model = lenet5c.mlp()
    first = model.fit(small_images, labels, epochs=2, validation=0.3)
    second = model.fit(small_images, labels, epochs=1)
    history = model.history
    assert history.epochs() == [1, 2, 3]
    for name in ("loss", "accuracy", "learning_rate", "seconds"):
        expected = getattr(first, name) + getattr(second, name)
        assert getattr(history, name) == expected
    measured = history.validation_loss
    assert measured[:2] == first.validation_loss
    assert np.isnan(measured[2])


def test_the_history_is_in_the_file_the_pickle_and_the_folded_model(
    small_images, labels, tmp_path
):
    model = lenet5c.mlp()
    model.fit(small_images, labels, epochs=3, validation=0.3)
    model.save(tmp_path / "m.lenet5c")
    whole = model.history
    for back in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert back.history == whole
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        for back in (lenet5c.load(tmp_path / "m.lenet5c"), model.folded()):
            values = getattr(back.history, name)
            assert values == pytest.approx(getattr(whole, name), rel=1e-6)
            assert back.history.epochs() == [1, 2, 3]
    assert lenet5c.load(tmp_path / "m.lenet5c").history.seconds == []
    back = lenet5c.load(tmp_path / "m.lenet5c")
    back.fit(small_images, labels, epochs=1)
    assert back.history.epochs() == [1, 2, 3, 4]
    assert np.isnan(back.history.seconds[:3]).all()


def test_the_same_training_gives_the_same_file(small_images, labels, tmp_path):
    for name in "ab":
        model = lenet5c.mlp()
        model.fit(small_images, labels, epochs=2, validation=0.3)
        model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_images_held_out_are_the_same_in_each_call(small_images, labels):
    model, seen = lenet5c.mlp(), []
    for _ in range(2):
        model.fit(small_images, labels, epochs=1, validation=0.3)
        seen.append(model.stage)
    assert seen[0] == seen[1]


# Validation


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_same_share_of_each_class_is_held_out(share):
    codes = np.repeat(np.arange(3, dtype=np.int32), (200, 40, 4))  # sorted by class
    held_out = share_of_each_class(share, codes, 7)
    assert held_out.sum() == round(share * 244)
    for code, count in enumerate((200, 40, 4)):
        assert abs(held_out[codes == code].sum() - share * count) <= 0.5
    assert (held_out != share_of_each_class(share, codes, 8)).any()


def test_validation_images_may_be_of_the_other_kind(small, small_images, labels):
    """Bytes for shares of 255: the same figures."""
    other = lenet5c.Model(small.layers, input_shape=(1, 12, 12), seed=3)
    of_bytes = small.fit(small_images, labels, validation=(small_images, labels))
    of_shares = other.fit(small_images, labels, validation=(small_images / 255, labels))
    np.testing.assert_allclose(
        of_bytes.validation_loss, of_shares.validation_loss, rtol=1e-5
    )


# Batch normalisation


def normalised() -> lenet5c.Model:
    layers = [
        lenet5c.Dense(8),
        lenet5c.BatchNorm2d(),
        lenet5c.ReLU(),
        lenet5c.Dense(10),
    ]
    return lenet5c.Model(layers, input_shape=(1, 12, 12))


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"accumulate": 2}])
def test_parts_of_a_batch_are_not_normalised_alone(
    options, small_images, labels, digest
):
    model = normalised()
    before = digest(model)
    with pytest.raises(ValueError, match=rf"^{next(iter(options))}: .*normalisation"):
        model.fit(small_images, labels, **options)
    assert digest(model) == before


def test_a_batch_of_one_image_is_not_normalised(small_images, labels):
    model = normalised()
    model.fit(small_images, labels, epochs=1)
    before = model.state_vector.copy()
    with pytest.raises(ValueError, match=r"^images: expected 2 at least for batch nor"):
        model.train_step(small_images[:1], labels[:1], SGD())
    with pytest.raises(ValueError, match=r"^batch_size: expected 2 images at least"):
        model.fit(small_images[:1], labels[:1])
    np.testing.assert_array_equal(model.state_vector, before)


@pytest.mark.parametrize(("count", "sizes"), [(21, [10, 11]), (22, [10, 10, 2])])
def test_with_batch_normalisation_no_image_is_left_alone(
    count, sizes, small_images, labels, monkeypatch
):
    model, seen = normalised(), []
    whole = model.loss_of_batch

    def counted(pixels, positions, *rest, **options):
        seen.append(len(positions))
        return whole(pixels, positions, *rest, **options)

    monkeypatch.setattr(model, "loss_of_batch", counted)
    history = model.fit(
        small_images[:count], labels[:count], epochs=1, batch_size=10, seed=0
    )
    assert seen == sizes
    assert len(history.loss) == 1
    assert math.isfinite(history.loss[0])


# Radial basis functions


def test_codes_stay_while_what_is_below_learns(images, labels):
    layers = [lenet5c.Dense(20), lenet5c.Tanh(), lenet5c.RadialBasis(10, name="codes")]
    model = lenet5c.Model(layers, input_shape=(1, 28, 28))
    codes = model.buffers["codes.codes"].copy()
    options = {"weight_average": 0.9, "early_stopping": 20, "validation": 0.2}
    model.fit(images, labels, epochs=20, accumulate=2, **options)
    np.testing.assert_array_equal(model.buffers["codes.codes"], codes)
    assert model.evaluate(images, labels).accuracy > 0.9


# What goes astray without a word


def test_training_that_learned_nothing_is_warned_of(images, labels):
    shuffled = np.random.default_rng(0).permutation(np.tile(labels, 8))
    model = lenet5c.lenet5()
    with pytest.warns(UserWarning, match=r"nothing was learned: .* 2\.3026") as said:
        model.fit(np.tile(images, (8, 1, 1)), shuffled, optimizer=SGD(100.0), epochs=3)
    assert said[0].filename == __file__


def test_training_that_learned_is_not_warned_of(images, labels, recwarn):
    lenet5c.lenet5().fit(images, labels, epochs=25)
    lenet5c.lenet5().fit(images, labels, epochs=25, label_smoothing=0.2)
    weights = {0: 20.0, 1: 0.1}
    lenet5c.lenet5().fit(images, labels, epochs=25, class_weight=weights)
    lenet5c.lenet5().fit(images, labels * 0, epochs=25)  # one class alone
    assert not recwarn


@pytest.mark.parametrize("options", [{"class_weight": "balanced"}, {"pooling": "max"}])
def test_steps_are_bounded(options, images, labels):
    """A rare class of great weight, or ReLU: each learns with the defaults."""
    keep = np.r_[np.flatnonzero(labels != 1), np.flatnonzero(labels == 1)[:1]]
    x, y = np.tile(images[keep], (30, 1, 1)), np.tile(labels[keep], 30)
    make = {k: v for k, v in options.items() if k == "pooling"}
    fit = {k: v for k, v in options.items() if k != "pooling"}
    for seed in range(4):
        model = lenet5c.lenet5(activation="relu", seed=seed, **make)
        model.fit(x, y, **fit)
        assert model.evaluate(images, labels).accuracy > 0.9


# Small batches, several in a call


def settings(which: str) -> dict[str, Any]:
    """Of `fit`, with objects of its own."""
    return {
        "SGD": {"batch_size": 1},
        "AdamW, clipped": {
            **{"batch_size": 3, "clip_norm": 0.1, "optimizer": lenet5c.AdamW()},
            **{"label_smoothing": 0.1, "augment": lenet5c.Augment()},
        },
        "SDLM, averaged": {
            **{"batch_size": 2, "optimizer": lenet5c.SDLM(samples=20)},
            **{"weight_average": 0.9, "class_weight": "balanced", "loss": "map"},
        },
    }[which] | {"epochs": 2, "seed": 3, "schedule": "cosine"}


@pytest.mark.parametrize("which", ["SGD", "AdamW, clipped", "SDLM, averaged"])
def test_batches_that_go_together_come_to_the_bits_of_one_at_a_time(
    which, small_images, labels
):
    """A callback that sees each batch has them one at a time."""
    found = []
    for callbacks, threads in (([], 1), ([], 2), ([OnBatch()], 1)):
        model = lenet5c.lenet5()
        images = small_images[:39]
        options = settings(which) | {"callbacks": callbacks, "threads": threads}
        history = model.fit(images, labels[:39], **options)
        steps = -(-39 // options["batch_size"]) * 2
        assert options.get("optimizer", None) is None or (
            options["optimizer"].steps == steps
        )
        found.append((model.state_vector.tobytes(), history.loss, history.accuracy))
        if callbacks:
            assert callbacks[0].calls == steps
    assert found[0] == found[1] == found[2]


def test_the_last_batch_of_those_that_go_together_may_be_the_largest(
    small_images, labels
):
    """An image that is left is not normalised alone: it joins the batch before."""
    found = []
    for callbacks in ([], [OnBatch()]):
        model = lenet5c.lenet5(batch_norm=True)
        options = {"batch_size": 4, "epochs": 2, "callbacks": callbacks}
        history = model.fit(small_images[:9], labels[:9], **options)
        found.append((model.state_vector.tobytes(), history.loss, history.accuracy))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("network", "together"), [(lenet5c.lenet5, True), (lenet5c.resnet18, False)]
)
def test_batches_go_together_where_they_take_little_time(
    network, together, small_images, labels, monkeypatch
):
    """Meanwhile nobody else has the weights, and no clock is looked at."""
    calls = []
    monkeypatch.setattr(
        lenet5c.Model, "loss_of_batch", lambda *_, **__: calls.append(1) or (1.0, 0)
    )
    model = network()
    model.fit(small_images[:6], labels[:6], batch_size=3, epochs=1)
    assert len(calls) == (0 if together else 2)


@pytest.mark.parametrize(("rates", "batch_size"), [(4, 4), (0, 4), (3, 0), (2, -1)])
def test_images_that_are_not_so_many_batches_are_refused(
    rates, batch_size, small, small_images, labels
):
    before = small.state_vector.copy()
    codes, gradient = labels.astype(np.int32), np.empty_like(small.parameter_vector)
    optimizer = lenet5c.SGD()
    optimizer.prepare(small.parameter_vector)
    batches = (small_images[:, np.newaxis], np.arange(12), batch_size, codes)
    message = f"^12 images are not {rates} batches of {batch_size}$"
    with pytest.raises(ValueError, match=message):
        small.train_batches(*batches, gradient, optimizer, [0.1] * rates, 1)
    np.testing.assert_array_equal(small.state_vector, before)
    assert optimizer.steps == 0


class OnBatch:
    def __init__(self):
        self.calls = 0

    def on_batch_end(self, state):
        self.calls += 1


def test_a_loss_that_is_not_finite_ends_batches_that_go_together(small_images, labels):
    """After the same batch, and as many steps, as one at a time."""
    found = []
    for callbacks in ([], [OnBatch()]):
        model, optimizer = lenet5c.lenet5(), lenet5c.SGD(1e30)
        options = {"batch_size": 1, "clip_norm": 1e30, "callbacks": callbacks}
        with pytest.raises(TrainingError, match=r"in epoch 1, batch \d+;") as raised:
            model.fit(small_images, labels, optimizer=optimizer, **options)
        assert np.isfinite(model.state_vector).all()
        found.append((str(raised.value), optimizer.steps, model.state_vector.tobytes()))
    assert found[0] == found[1]
