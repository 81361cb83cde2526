"""What a checkpoint holds: checked in full, before anything changes."""

import json
import math
import shutil
import warnings

import numpy as np
import pytest

import lenet5c
from lenet5c import AdamW, Checkpoint
from lenet5c.files.container import read_file, write_file
from lenet5c.report.history import History
from lenet5c.training.folder import FORM
from lenet5c.training.saved import NAMES, _history
from lenet5c.training.schedules import ReduceOnPlateau

BATCHES, STEP = 3, 8  # of an epoch; of the checkpoint: two epochs and two batches
STEPS = {"a sum of no batch": 6, "a batch after the last": 9}  # of other names
DEEP = "[" * 100_000 + "]" * 100_000


class Killed(Exception):
    pass


def kill(state):
    if (state.epoch, state.batch) == (3, 3):
        raise Killed


class Kill:
    def on_batch_end(self, state):
        kill(state)


class Training:
    """One with all that a checkpoint can hold, which shows what was changed of it."""

    def __init__(self):
        self.model = lenet5c.Model(
            [
                lenet5c.Conv2d(3, 5, name="A"),
                lenet5c.BatchNorm2d(name="B"),
                lenet5c.ReLU(),
                lenet5c.Dense(10, name="D"),
            ],
            input_shape=(1, 12, 12),
            seed=3,
        )
        self.optimizer = AdamW(0.02)
        self.schedule = ReduceOnPlateau(0.6, patience=1)

    def fit(self, images, labels, folder, **more):
        return self.model.fit(
            images,
            labels,
            epochs=5,
            batch_size=16,
            validation=0.2,
            optimizer=self.optimizer,
            schedule=self.schedule,
            weight_average=0.9,
            early_stopping=4,
            checkpoint=Checkpoint(folder, 0, keep=1),
            log=folder.with_name("log"),
            **more,
        )

    def bits(self):
        model, optimizer, schedule = self.model, self.optimizer, self.schedule
        arrays = (model.state_vector, model.classes, *optimizer.state)
        rest = (model.stage, model.source, model.fitted, model.passes, optimizer.steps)
        plateau = (schedule.now, schedule.watch)
        return repr((rest, plateau)), [array.tobytes() for array in arrays]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Images, labels, and the tensors and metadata of a checkpoint."""
    generator = np.random.default_rng(4)
    images = generator.integers(0, 256, (60, 12, 12), dtype=np.uint8)
    labels = np.arange(60) % 10
    folder = tmp_path_factory.mktemp("kept") / "run"
    with pytest.raises(Killed):
        Training().fit(images, labels, folder, callbacks=[Kill()])
    newest = max(folder.glob("checkpoint-*"))
    assert newest.name == f"checkpoint-{STEP:09}.safetensors"
    return images, labels, *read_file(newest, FORM)


WRONG = [None, "x", [], {}, [[1]], 10**400, 1e400, -math.inf, math.nan]
SIGNED = ("loss_sum", "loss", "validation_loss", "learning_rate", "mean", "background")
RANGES = {  # what is of the right type, and cannot be
    "epochs": [0, 2, 2.0, 1 << 21],
    "batch": [0, 1, 3, 4, 2.0],
    "correct_sum": [33, 1.0],
    "stopped": [0, 1],
    "passes": [2**31 - 3, 0.0],
    "optimizer_steps": [2**60, 8.0],
    "epoch_seconds": [1e300],
    "source": [[12], [12, 13], [0, 12], [12, 12, 12], [12.0, 12], ["12", 12]],
    "stage": [[0, 1, 0, "bytes"]],
    "deviation": [0, 1e-300],
    "mean": [1e300],
    "pixels": ["floats", [0], [1, 0], [5, 6], [0, 1, 2], [None, 1], "nan"],
    "core": [5],
}


def wrong_values(name):
    """Of a field, or of a number in a list of the history."""
    values = [value for value in WRONG if (name, value) != ("pixels", None)]
    if name not in SIGNED:
        values.append(-1)
    if name == "core":
        values.remove("x")
    if name != "stopped":
        values.append(True)
    return values + RANGES.get(name, [])


def dumps(values):
    return json.dumps(values).replace("-Infinity", "-1e999")  # which is JSON


def wrong_states(state):
    """Texts of states that differ from this one in one thing, by what that is."""
    for name in NAMES:
        for value in wrong_values(name):
            yield f"{name} = {value!r:.20}", dumps(state | {name: value})
    for group in ("history", "stage"):
        for name, value in state[group].items():
            others = {key: v for key, v in state[group].items() if key != name}
            yield f"no {name}", dumps(state | {group: others})
            yield f"renamed {name}", dumps(state | {group: others | {"x": value}})
            new = [*wrong_values(name)]
            if group == "history":
                new = [[x, *value[1:]] for x in new] + [[], value[1:], value * 2, "ab"]
                if "accuracy" in name:
                    new += [[value[0], 1.0001]]
            for x in new:
                changed = {group: state[group] | {name: x}}
                yield f"{name} = {x!r:.40}", dumps(state | changed)
    for name in NAMES:
        less = {key: value for key, value in state.items() if key != name}
        yield f"no {name}", dumps(less)
        text = dumps(state)
        yield f"deep {name}", text.replace(f'"{name}": ', f'"{name}": {DEEP}, "x": ')
        yield f"twice {name}", text.replace("{", f'{{"{name}": 1, ', 1)
    yield "one more", dumps(state | {"x": 1})
    short = state | {"history": {k: v[1:] for k, v in state["history"].items()}}
    yield "one epoch less", dumps(short)
    whole = state | {"batch": 0, "loss_sum": 1.0, "correct_sum": 0}
    yield "a sum of no batch", dumps(whole)
    yield "a batch after the last", dumps(state | {"batch": BATCHES})
    for text in ("", "{", "[]", "null", DEEP, '{"epochs": 1' + "0" * 5000 + "}"):
        yield f"text {text:.20}", text


def wrong_tensors(tensors):
    for name, vector in tensors.items():
        yield f"no {name}", {k: v for k, v in tensors.items() if k != name}
        for shape in ((1,), (), (1, -1), (-1, 1)):
            value = vector[:1] if -1 not in shape else vector
            yield f"{name} {shape}", tensors | {name: value.reshape(shape)}
        yield f"{name} short", tensors | {name: vector[1:].copy()}
        yield f"{name} long", tensors | {name: np.append(vector, vector[:1])}
        if name != "optimizer.0":
            wrong = vector.copy()
            wrong[-1] = -1e-9  # the last of the state is a running variance
            yield f"{name} negative", tensors | {name: wrong}
    yield "one more", tensors | {"x": np.ones(1, np.float32)}
    yield "none", {}


def hostile(tensors, metadata):
    """Tensors and metadata of well-formed files that no training wrote."""
    for what, text in wrong_states(json.loads(metadata["state"])):
        yield what, tensors, metadata | {"state": text}
    for what, other in wrong_tensors(tensors):
        yield what, other, metadata
    for text in ("", "[]", "3", DEEP, '["' + "x" * 9999 + '"]'):
        yield f"settings {text:.9}", tensors, metadata | {"settings": text}
    for name in metadata:
        yield f"no {name}", tensors, {k: v for k, v in metadata.items() if k != name}
    yield "one more", tensors, metadata | {"x": "1"}


def test_each_hostile_checkpoint_is_left_out_and_changes_nothing(
    kept, tmp_path, caplog
):
    images, labels, tensors, metadata = kept
    folder = tmp_path / "run"
    training = Training()
    before = training.bits()
    count, wrong = 0, []
    for what, *content in hostile(tensors, metadata):
        count += 1
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = folder / f"checkpoint-{STEPS.get(what, STEP):09}.safetensors"
        write_file(path, *content, FORM)
        caplog.clear()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                training.fit(images, labels, folder, resume=True, callbacks=[Kill()])
        except RuntimeWarning as refusal:
            if "all checkpoints in" not in str(refusal):
                wrong.append((what, refusal))
        except Exception as error:
            wrong.append((what, repr(error)[:200]))
        else:
            wrong.append((what, "accepted"))
        lines = [record.getMessage() for record in caplog.records]
        told = [line for line in lines if line.startswith(f"{path} is left out: ")]
        if len(told) != 1 or len(told[0]) > 1000:
            wrong.append((what, lines))
        if training.bits() != before or folder.with_name("log").exists():
            wrong.append((what, "changed"))
            break
    assert wrong == []
    assert count >= 300


def test_the_same_checkpoint_without_faults_goes_on(kept, tmp_path):
    """So the ones above are left out for their faults."""
    images, labels, tensors, metadata = kept
    whole, resumed = Training(), Training()
    whole.fit(images, labels, tmp_path / "a" / "run")
    folder = tmp_path / "b" / "run"
    folder.mkdir(parents=True)
    for text in (
        metadata["state"],
        json.dumps(json.loads(metadata["state"]), indent=9),
    ):
        name = f"checkpoint-{STEP:09}.safetensors"
        write_file(folder / name, tensors, metadata | {"state": text}, FORM)
        resumed = Training()
        resumed.fit(images, labels, folder, resume=True)
        np.testing.assert_array_equal(
            resumed.model.state_vector, whole.model.state_vector
        )
        assert resumed.model.passes == whole.model.passes
        for path in folder.glob("checkpoint-*"):
            path.unlink()


def test_losses_that_are_no_numbers_are_kept():
    """Of a validation whose logits are beyond float32."""
    values = {name: [0.5] for name in History().to_dict()}
    values["validation_loss"] = ["nan"]
    assert math.isnan(_history(values, 1, True).validation_loss[0])
    for text in ("inf", "-inf"):
        values["validation_loss"] = [text]
        assert _history(values, 1, True).validation_loss == [float(text)]
    for text in ("Infinity", "1", "", "NaN"):
        values["validation_loss"] = [text]
        with pytest.raises(TypeError, match=r"^validation_loss: expected a number"):
            _history(values, 1, True)
