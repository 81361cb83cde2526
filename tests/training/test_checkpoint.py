"""A training that is resumed ends in the bits of one that was never interrupted."""

import errno
import hashlib
import json
import logging
import os
import random
import re
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import python_environment

import lenet5c
from lenet5c import SDLM, SGD, AdamW, Augment, Checkpoint, EarlyStopping
from lenet5c.files.atomic import try_to_write
from lenet5c.files.container import read_file, write_file
from lenet5c.training.folder import FORM, CheckpointFolder
from lenet5c.training.schedules import ReduceOnPlateau, Step


class Killed(Exception):
    pass


class KillAt:
    """Raise in the batch of that number, counted from 1 over all epochs."""

    def __init__(self, batch):
        self.left = batch

    def on_batch_end(self, state):
        self.left -= 1
        if self.left == 0:
            raise Killed


def network() -> lenet5c.Model:
    return lenet5c.Model(
        [
            lenet5c.Conv2d(3, 5, name="A"),
            lenet5c.ReLU(),
            lenet5c.MaxPool2d(2, name="B"),
            lenet5c.Dropout(0.2),
            lenet5c.Dense(10, name="D"),
        ],
        input_shape=(1, 12, 12),
        seed=3,
    )


def digest_of(model: lenet5c.Model, optimizer=None) -> str:
    rest = (model.classes.tolist(), model.stage, model.source, model.fitted)
    parts = [model.parameter_vector.tobytes(), repr(rest).encode()]
    if optimizer is not None:
        parts += [vector.tobytes() for vector in optimizer.state]
        parts.append(str(optimizer.steps).encode())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def columns(history) -> dict[str, list[float]]:
    """What does not depend on time."""
    values = history.to_dict()
    return {name: column for name, column in values.items() if "second" not in name}


def names(folder) -> list[int]:
    """The steps of the checkpoints in a folder that has nothing else but the lock."""
    paths = set(folder.iterdir()) - {folder / ".lock"}
    found = [re.fullmatch(r"checkpoint-(\d+)\.safetensors", p.name) for p in paths]
    assert all(found), paths
    return sorted(int(match[1]) for match in found)


MIXES = {
    "plain": lambda: {"optimizer": SGD(0.05)},
    "second order": lambda: {
        "optimizer": SDLM(0.005, samples=20),
        "augment": Augment(shift=1),
    },
    "averaged": lambda: {
        "optimizer": AdamW(0.01),
        "weight_average": 0.9,
        "clip_norm": 0.5,
        "label_smoothing": 0.1,
        "validation": 0.25,
    },
    "watched": lambda: {
        "optimizer": SGD(0.2),
        "schedule": ReduceOnPlateau(0.6, patience=1, min_delta=5),
        "early_stopping": EarlyStopping(3, 0.01),
        "validation": 0.3,
        "weight_average": 0.5,
    },
    "everything": lambda: {
        "optimizer": AdamW(0.02),
        "augment": Augment(elastic=5.0, noise=3, erase=0.3),
        "accumulate": 3,
        "class_weight": {3: 2.0},
        "sample_weight": np.linspace(1, 2, 60),
        "label_smoothing": 0.05,
        "weight_average": 0.99,
        "clip_norm": 1.0,
        "early_stopping": 2,
        "validation": 0.2,
        "schedule": "plateau",
        "seed": 2**63,
    },
}


def train(mix, images, labels, **more):
    model = network()
    options = MIXES[mix]() | {"epochs": 5, "batch_size": 16} | more
    history = model.fit(images, labels, **options)
    return digest_of(model, options["optimizer"]), columns(history), model


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("every", [None, 0])
def test_resumed_training_ends_in_the_bits_of_an_unbroken_one(
    mix, every, small_images, labels, tmp_path
):
    """Killed after 1 batch, then 4, then 5 more and so on: until it gets through."""
    expected, history, _ = train(mix, small_images, labels)
    checkpoint = Checkpoint(tmp_path / "c", every)
    for kill_at in (1, 4, 5, 6, 4, 5, 7, 99):
        options = {"checkpoint": checkpoint, "resume": True}
        try:
            found, got, _ = train(
                mix, small_images, labels, callbacks=[KillAt(kill_at)], **options
            )
            break
        except Killed:
            pass
    assert kill_at != 1
    assert mix != "watched" or len(set(history["learning_rate"])) > 2
    assert found == expected
    assert got == history


def test_resuming_goes_on_where_it_was(small_images, labels, tmp_path):
    """No batch is trained twice but those after the last checkpoint."""
    seen = []

    class Look:
        def on_batch_end(self, state):
            seen.append((state.epoch, state.batch, state.images))

    for kill_at in (6, 99):
        options = {"checkpoint": tmp_path, "resume": True, "epochs": 3}
        with suppress(Killed):
            train(
                "plain",
                small_images,
                labels,
                callbacks=[Look(), KillAt(kill_at)],
                **options,
            )
    first = [(1, b, min(16 * b, 60)) for b in (1, 2, 3, 4)]
    second = [(2, b, min(16 * b, 60)) for b in (1, 2, 3, 4)]
    third = [(3, b, min(16 * b, 60)) for b in (1, 2, 3, 4)]
    assert seen == first + second[:2] + second + third


def test_inside_of_an_epoch_it_goes_on_at_the_next_batch(
    small_images, labels, tmp_path
):
    """`every_seconds` 0 is a checkpoint after each batch."""
    seen = []

    class Look:
        def on_batch_end(self, state):
            seen.append((state.epoch, state.batch, state.loss, state.accuracy))

    def run(kill_at, folder):
        seen.clear()
        checkpoint = Checkpoint(tmp_path / folder, 0)
        with suppress(Killed):
            train(
                "plain",
                small_images,
                labels,
                checkpoint=checkpoint,
                resume=True,
                callbacks=[Look(), KillAt(kill_at)],
            )
        return list(seen)

    expected = run(99, "a")
    first, second = run(6, "b"), run(99, "b")
    assert len(expected) == 20
    # what the killed callback saw was not saved yet, and is seen again
    assert (first, second) == (expected[:6], expected[5:])


def test_small_batches_go_together_between_checkpoints(small_images, labels, tmp_path):
    """And a training goes on from inside of an epoch to the same bits."""

    class KillAtCall(KillAt):
        each_batch = False

    def run(folder, kill_at):
        calls = KillAtCall(kill_at)
        model = network()
        with suppress(Killed):
            model.fit(
                *(small_images, labels),
                epochs=2,
                batch_size=2,
                checkpoint=Checkpoint(tmp_path / folder, 0),
                resume=True,
                callbacks=[calls],
            )
        return digest_of(model), kill_at - calls.left

    expected, calls = run("a", 99)
    assert calls == 5  # of 60 batches
    run("b", 4)
    assert names(tmp_path / "b") == [16, 30, 32]
    assert run("b", 99) == (expected, 2)


def test_a_finished_training_is_returned_as_it_was(small_images, labels, tmp_path):
    expected, history, _ = train(
        "everything", small_images, labels, checkpoint=tmp_path
    )
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found, got, model = train(
        "everything",
        small_images,
        labels,
        checkpoint=tmp_path,
        resume=True,
        callbacks=[KillAt(1)],
    )
    assert (found, got) == (expected, history)
    assert model.fitted
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("where", ["batch", "epoch"])
def test_true_from_a_callback_ends_a_training_for_good(
    where, small_images, labels, tmp_path
):
    class Stop:
        def on_batch_end(self, state):
            return where == "batch" and (state.epoch, state.batch) == (2, 2)

        def on_epoch_end(self, state):
            return where == "epoch" and state.epoch == 2

    options = {"checkpoint": tmp_path, "callbacks": [Stop()]}
    first = train("averaged", small_images, labels, **options)
    options = {"checkpoint": tmp_path, "resume": True, "callbacks": [KillAt(1)]}
    second = train("averaged", small_images, labels, **options)
    assert first[:2] == second[:2]
    assert len(first[1]["loss"]) == (1 if where == "batch" else 2)


def test_what_time_ended_goes_on_with_more_time(small_images, labels, tmp_path):
    expected, history, _ = train("averaged", small_images, labels)
    options = {"checkpoint": tmp_path, "resume": True}
    _, got, _ = train("averaged", small_images, labels, max_seconds=0, **options)
    assert got["loss"] == []
    assert names(tmp_path) == [1]
    _, got, _ = train(
        "averaged",
        small_images,
        labels,
        max_seconds=0,
        callbacks=[KillAt(1)],  # time has been up for long: there is no batch
        **options,
    )
    assert got["loss"] == []
    found, got, _ = train("averaged", small_images, labels, max_seconds=99, **options)
    assert (found, got) == (expected, history)


def test_seconds_are_those_of_all_parts(small_images, labels, tmp_path, monkeypatch):
    states = []
    clock = SimpleNamespace(perf_counter=lambda: 100.0 * len(states) + next(looks))
    looks = count()
    monkeypatch.setattr("lenet5c.training.loop.time", clock)

    def slow(state):
        states.append((state.seconds, state.images_per_second))
        if len(states) == 2:
            raise Killed

    with pytest.raises(Killed):
        train("plain", small_images, labels, checkpoint=tmp_path, callbacks=[slow])
    options = {"checkpoint": tmp_path, "resume": True, "callbacks": [slow]}
    model = network()
    history = model.fit(
        small_images, labels, epochs=5, batch_size=16, optimizer=SGD(0.05), **options
    )
    assert states[2][0] > states[0][0] + 100
    assert len(history.seconds) == 5
    assert min(history.seconds) > 0


# The files


def test_the_last_and_the_best_are_kept(small_images, labels, tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 4.0, 5.0, 0.5, 6.0])
    monkeypatch.setattr(
        lenet5c.Model,
        "evaluate_at",
        lambda *_: lenet5c.Evaluation(next(losses), 0.5, np.zeros((1, 1), np.int64)),
    )
    found = []
    train(
        "plain",
        small_images,
        labels,
        epochs=7,
        batch_size=60,
        validation=(small_images, labels),
        checkpoint=Checkpoint(tmp_path, keep=2),
        callbacks=[lambda state: found.append(names(tmp_path))],
    )
    found.append(names(tmp_path))
    assert found[1:] == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [5, 6], [6, 7]]


def test_the_best_is_kept_after_resuming_as_well(small_images, labels, tmp_path):
    """At this rate the loss becomes worse after the first epoch."""
    options = {
        "optimizer": SGD(0.3),
        "schedule": lambda step, *_: -1.0,
        "batch_size": 60,
        "validation": (small_images, labels),
        "checkpoint": Checkpoint(tmp_path, keep=1),
        "resume": True,
    }
    for epochs in (1, 2, 4):
        history = network().fit(small_images, labels, epochs=epochs, **options)
    assert np.argmin(history.validation_loss) == 0
    assert names(tmp_path) == [1, 4]


@pytest.mark.parametrize("keep", [1, 3])
def test_without_validation_the_last_are_kept(keep, small_images, labels, tmp_path):
    train("plain", small_images, labels, checkpoint=Checkpoint(tmp_path, keep=keep))
    assert names(tmp_path) == [4 * epoch for epoch in range(6 - keep, 6)]


def test_a_file_says_what_it_is(small_images, labels, tmp_path):
    *_, model = train("averaged", small_images, labels, checkpoint=tmp_path)
    path = max(tmp_path.iterdir())
    tensors, metadata = read_file(path, FORM)
    assert list(tensors) == [
        *("parameters", "safe", "optimizer.0", "optimizer.1", "average")
    ]
    np.testing.assert_array_equal(tensors["average"], model.parameter_vector)
    assert json.loads(metadata["settings"])["version"] == lenet5c.__version__
    with pytest.raises(lenet5c.FileFormatError, match="found 'lenet5c-checkpoint'"):
        lenet5c.load(path)


def test_floats_survive_exactly(small_images, labels, tmp_path):
    with pytest.raises(Killed):
        train(
            "plain",
            small_images,
            labels,
            checkpoint=Checkpoint(tmp_path, 0),
            callbacks=[KillAt(4)],
        )
    _, metadata = read_file(max(tmp_path.iterdir()), FORM)
    state = json.loads(metadata["state"])
    model, sums = network(), []

    class Look:
        def on_batch_end(self, now):
            sums.append(now.loss * now.images)

    model.fit(
        small_images,
        labels,
        epochs=5,
        batch_size=16,
        optimizer=SGD(0.05),
        callbacks=[Look()],
    )
    assert state["loss_sum"] == pytest.approx(sums[2], rel=1e-15)
    assert state["batch"] == 3


def test_a_folder_with_checkpoints_is_not_overwritten(small_images, labels, tmp_path):
    train("plain", small_images, labels, checkpoint=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model = network()
    untrained = digest_of(model)
    with pytest.raises(ValueError, match=r"^checkpoint: .*resume=True") as raised:
        model.fit(small_images, labels, checkpoint=tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert digest_of(model) == untrained


def test_resume_in_an_empty_folder_starts_at_the_beginning(
    small_images, labels, tmp_path
):
    expected, history, _ = train("plain", small_images, labels)
    folder = tmp_path / "new" / "er"
    options = {"checkpoint": folder, "resume": True}
    assert train("plain", small_images, labels, **options)[:2] == (expected, history)
    assert names(folder) == [12, 16, 20]


def test_files_of_others_are_left_alone_and_unfinished_ones_removed(
    small_images, labels, tmp_path
):
    stale = tmp_path / ".lenet5c-0123456789abcdef.tmp"
    others = [tmp_path / name for name in (".x.tmp", "notes.txt", "checkpoint-1")]
    for path in (stale, *others):
        path.write_text("x")
    train("plain", small_images, labels, checkpoint=tmp_path)
    assert not stale.exists()
    assert all(path.read_text() == "x" for path in others)


DAMAGE = ["flipped", "cut", "empty", "folder", "pipe", "field", "tensor", "other name"]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "cut":
        del content[-9:]
    elif how == "empty":
        content.clear()
    if how in ("field", "tensor"):
        tensors, metadata = read_file(path, FORM)
        if how == "tensor":
            del tensors["optimizer.0"]
        else:
            metadata["state"] = metadata["state"].replace('"batch": 0', '"batch": 0.0')
        write_file(path, tensors, metadata, FORM)
    elif how == "other name":  # that of the one before
        path.write_bytes(min(path.parent.glob("checkpoint-*")).read_bytes())
    elif how in ("folder", "pipe"):
        path.unlink()
        {"folder": os.mkdir, "pipe": os.mkfifo}[how](path)
    else:
        path.write_bytes(content)


def damaged(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:09}.safetensors.damaged"


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_left_out_with_a_warning(
    how, small_images, labels, tmp_path, caplog
):
    expected, history, _ = train("everything", small_images, labels)
    with pytest.raises(Killed):
        train(
            "everything",
            small_images,
            labels,
            checkpoint=tmp_path,
            callbacks=[KillAt(7)],
        )
    assert names(tmp_path) == [3, 6]
    damage(tmp_path / "checkpoint-000000006.safetensors", how)
    options = {"checkpoint": tmp_path, "resume": True}
    found = train("everything", small_images, labels, **options)
    assert found[:2] == (expected, history)
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "checkpoint-000000006.safetensors is left out: " in warned[0].getMessage()
    assert damaged(tmp_path, 6).exists()
    damaged(tmp_path, 6).rename(tmp_path.with_name(f"{tmp_path.name}-aside"))
    assert names(tmp_path)[-1] == 3 * len(history["loss"])


def test_where_all_are_damaged_training_starts_at_the_beginning_with_a_warning(
    small_images, labels, tmp_path
):
    expected, history, _ = train("plain", small_images, labels)
    with pytest.raises(Killed):
        train("plain", small_images, labels, checkpoint=tmp_path, callbacks=[KillAt(9)])
    assert names(tmp_path) == [4, 8]
    contents = {}
    for step in (4, 8):
        path = tmp_path / f"checkpoint-{step:09}.safetensors"
        damage(path, "cut")
        contents[step] = path.read_bytes()
    options = {"checkpoint": tmp_path, "resume": True}
    with pytest.warns(
        RuntimeWarning, match="all checkpoints in .* are damaged"
    ) as told:
        found = train("plain", small_images, labels, **options)
    assert told[0].filename == __file__
    assert found[:2] == (expected, history)
    for step, content in contents.items():
        assert damaged(tmp_path, step).read_bytes() == content
        damaged(tmp_path, step).unlink()
    assert names(tmp_path) == [12, 16, 20]


@pytest.mark.filterwarnings("ignore:checkpoint. all")  # the first time, all are
def test_a_damaged_checkpoint_of_a_later_step_is_not_taken_for_the_newest(
    small_images, labels, tmp_path, monkeypatch
):
    """Not even where it cannot be renamed."""
    with pytest.raises(Killed):
        train(
            "plain",
            small_images,
            labels,
            checkpoint=Checkpoint(tmp_path, 0, keep=2),
            callbacks=[KillAt(11)],
        )
    assert names(tmp_path) == [9, 10]
    for step in (9, 10):
        path = tmp_path / f"checkpoint-{step:09}.safetensors"
        damage(path, "cut")
        path.rename(path.with_name(f"checkpoint-{step + 90:09}.safetensors"))

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    for batch in (6, 5):
        with pytest.raises(Killed):
            train(
                "plain",
                small_images,
                labels,
                checkpoint=Checkpoint(tmp_path, 0, keep=2),
                resume=True,
                callbacks=[KillAt(batch)],
            )
    assert names(tmp_path) == [8, 9, 99, 100]


def test_another_version_of_the_format_is_refused_and_stays(
    small_images, labels, tmp_path
):
    train("plain", small_images, labels, checkpoint=Checkpoint(tmp_path, keep=1))
    (path,) = tmp_path.glob("checkpoint-*")
    later = FORM._replace(version="77")
    write_file(path, *read_file(path, FORM), later)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"^checkpoint: .*a later lenet5c wrote it"):
        train("plain", small_images, labels, checkpoint=tmp_path, resume=True)
    assert path.read_bytes() == content


# One folder for one training


def test_a_folder_in_use_is_refused_and_free_again_after_any_end(
    small_images, labels, tmp_path
):
    """By this process; the error says so."""
    refusals = []

    def again(state):
        model = network()
        before = digest_of(model)
        with pytest.raises(OSError, match="in use by process") as caught:
            model.fit(small_images, labels, checkpoint=tmp_path, resume=True)
        assert digest_of(model) == before
        assert caught.value.filename == str(tmp_path)
        refusals.append(str(caught.value))
        if state.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train("plain", small_images, labels, checkpoint=tmp_path, callbacks=[again])
    assert len(refusals) == 2
    assert f"process {os.getpid()} on " in refusals[0]
    options = {"checkpoint": tmp_path, "resume": True}
    with pytest.raises(ValueError, match="other settings"):
        train("plain", small_images, labels, batch_size=17, **options)
    train("plain", small_images, labels, **options)
    train("plain", small_images, labels, **options)


HOLDER = """
import sys, time
from lenet5c.training.checkpoint import Checkpoint
from lenet5c.training.folder import CheckpointFolder

with CheckpointFolder(Checkpoint(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_folder_in_use_by_another_process_is_refused_until_that_is_killed(
    small_images, labels, tmp_path
):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env=python_environment(),
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(OSError, match=f"in use by process {process.pid} on "):
                train("plain", small_images, labels, checkpoint=tmp_path)
        finally:
            process.kill()
    train("plain", small_images, labels, checkpoint=tmp_path)


def test_a_child_that_outlives_the_training_does_not_keep_the_folder(tmp_path):
    """It has the lock file open as well, as after a fork."""
    pytest.importorskip("fcntl")
    code = "import sys; sys.stdin.read()"
    with CheckpointFolder(Checkpoint(tmp_path)) as folder:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            pass_fds=[folder._lock],
        )
    with child, CheckpointFolder(Checkpoint(tmp_path)):
        assert child.poll() is None
        child.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_leaves_the_training_does_not_free_the_folder(tmp_path):
    """As one does that was forked in a callback and raises SystemExit."""
    pytest.importorskip("fcntl")
    with CheckpointFolder(Checkpoint(tmp_path)) as folder:
        pid = os.fork()
        if pid == 0:
            try:
                folder.__exit__(None, None, None)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        with pytest.raises(OSError, match="in use by process"):
            CheckpointFolder(Checkpoint(tmp_path)).__enter__()


def test_a_link_in_place_of_the_lock_is_not_written_through(
    small_images, labels, tmp_path
):
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="lock"):
        train("plain", small_images, labels, checkpoint=tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "as it was"


def test_a_folder_is_free_if_it_could_not_be_entered(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            CheckpointFolder(Checkpoint(tmp_path)).__enter__()
    with CheckpointFolder(Checkpoint(tmp_path)):
        pass


def test_what_a_killed_trial_left_is_removed(small_images, labels, tmp_path):
    """Of whether the folder can be written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as if killed before
        try_to_write(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    train("plain", small_images, labels, checkpoint=tmp_path)
    assert names(tmp_path) == [12, 16, 20]


def test_where_nothing_can_be_locked_training_goes_on_without(
    small_images, labels, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    train("plain", small_images, labels, checkpoint=tmp_path)
    assert names(tmp_path) == [12, 16, 20]


def test_a_relative_folder_stays_where_it_was(
    small_images, labels, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    train(
        "plain",
        small_images,
        labels,
        checkpoint="run",
        log="log",
        callbacks=[lambda state: os.chdir(tmp_path / "elsewhere")],
    )
    assert names(tmp_path / "run") == [12, 16, 20]
    assert len((tmp_path / "log").read_text().splitlines()) == 5
    assert not list((tmp_path / "elsewhere").iterdir())


# More epochs


@pytest.mark.parametrize("schedule", ["constant", "plateau", Step((2, 6))])
def test_with_more_epochs_a_training_that_has_ended_goes_on_to_the_same_bits(
    schedule, small_images, labels, tmp_path
):
    options = {"schedule": schedule, "validation": 0.25}
    expected, history, _ = train("averaged", small_images, labels, epochs=7, **options)
    options |= {"checkpoint": tmp_path, "resume": True}
    for epochs in (1, 3, 7):
        found = train("averaged", small_images, labels, epochs=epochs, **options)
        assert len(found[1]["loss"]) == epochs
    assert found[:2] == (expected, history)


def test_a_schedule_goes_on_by_the_new_number_of_epochs(small_images, labels, tmp_path):
    seen = []

    def schedule(step, steps_per_epoch, epochs):
        seen.append((step, epochs))
        return 1 - step / (steps_per_epoch * epochs)

    options = {"schedule": schedule, "checkpoint": tmp_path, "resume": True}
    train("plain", small_images, labels, epochs=1, **options)
    seen.clear()
    _, history, _ = train("plain", small_images, labels, epochs=2, **options)
    assert [step for step, epochs in seen if epochs == 2 and step] == [4, 5, 6, 7]
    rates = [0.05 * (1 - 3 / 4), 0.05 * (1 - 7 / 8)]
    assert history["learning_rate"] == pytest.approx(rates)


def test_fewer_epochs_than_were_begun_are_refused(small_images, labels, tmp_path):
    options = {"checkpoint": Checkpoint(tmp_path, 0), "resume": True}
    with pytest.raises(Killed):
        train("plain", small_images, labels, callbacks=[KillAt(11)], **options)
    message = r"^epochs: expected 3 at least, which the checkpoint has begun, got 2$"
    with pytest.raises(ValueError, match=message):
        train("plain", small_images, labels, epochs=2, **options)
    _, history, _ = train("plain", small_images, labels, epochs=3, **options)
    assert len(history["loss"]) == 3


def test_what_early_stopping_or_a_callback_ended_does_not_go_on(
    small_images, labels, tmp_path
):
    for mix, more in (
        ("everything", {"early_stopping": 1, "optimizer": AdamW(0)}),
        ("plain", {"callbacks": [lambda state: state.epoch == 2]}),
    ):
        options = {"checkpoint": tmp_path / mix, "resume": True}
        found = train(mix, small_images, labels, **(more | options))
        ended = len(found[1]["loss"])
        assert ended < 5
        more["callbacks"] = [KillAt(1)]
        if "optimizer" in more:
            more["optimizer"] = AdamW(0)
        again = train(mix, small_images, labels, epochs=9, **(more | options))
        assert again[1] == found[1]


def dense() -> lenet5c.Model:
    return lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 12, 12))


def test_a_network_with_other_codes_is_another_one(small_images, labels, tmp_path):
    def network(codes):
        layers = [lenet5c.Dense(4), lenet5c.RadialBasis(10, codes=codes, name="R")]
        return lenet5c.Model(layers, input_shape=(1, 12, 12))

    codes = np.random.default_rng(0).choice([-1, 1], (2, 10, 4))
    options = {"epochs": 1, "checkpoint": tmp_path, "resume": True}
    network(codes[0]).fit(small_images, labels, **options)
    network(codes[0]).fit(small_images, labels, **options)
    with pytest.raises(ValueError, match="other settings: codes of R: expected"):
        network(codes[1]).fit(small_images, labels, **options)


OTHERS = {
    "layers": {"network": dense},
    "batch_size": {"batch_size": 17},
    "optimizer": {"optimizer": SGD(0.051)},
    "schedule": {"schedule": "cosine"},
    "augment": {"augment": Augment()},
    "label_smoothing": {"label_smoothing": 0.1},
    "weight_average": {"weight_average": 0.1},
    "clip_norm": {"clip_norm": 0.1},
    "accumulate": {"accumulate": 2},
    "weights of images": {"class_weight": {0: 2.0}},
    "early_stopping": {"early_stopping": 1},
    "seed": {"seed": 1},
    "training images": {"validation": 0.25},
    "labels": {"labels": (np.arange(60) + 1) % 10},
    "images": {"images": np.zeros((60, 12, 12), np.float32)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_are_refused_and_named(name, small_images, labels, tmp_path):
    plain = {
        "images": small_images,
        "labels": labels,
        "epochs": 5,
        "batch_size": 16,
        "optimizer": SGD(0.05),
        "validation": 0.2,
        "checkpoint": tmp_path,
    }
    first = network()
    first.fit(**plain)
    other = dict(OTHERS[name])
    model = other.pop("network", network)()
    before = digest_of(model)
    with pytest.raises(
        ValueError, match=rf"^checkpoint: .*: {name}: expected .*, got "
    ):
        model.fit(**(plain | other), resume=True)
    assert digest_of(model) == before


def test_another_version_is_refused_and_named(
    small_images, labels, tmp_path, monkeypatch
):
    train("plain", small_images, labels, checkpoint=tmp_path)
    version = lenet5c.__version__  # read from there when it is first asked for
    monkeypatch.setattr(lenet5c._support.build, "__version__", "77.0")
    message = f"version: expected '{version}', got '77.0'"
    with pytest.raises(ValueError, match=re.escape(message)):
        train("plain", small_images, labels, checkpoint=tmp_path, resume=True)


def test_a_model_trained_on_other_images_is_refused(small_images, labels, tmp_path):
    model = network()
    options = {"epochs": 2, "checkpoint": tmp_path}
    model.fit(small_images, labels, **options)
    assert len(model.fit(small_images, labels, resume=True, **options)) == 2
    other = network()
    other.fit(small_images // 2, labels)
    before = digest_of(other)
    with pytest.raises(
        ValueError, match=r"^resume: expected a model that is untrained"
    ):
        other.fit(small_images, labels, resume=True, **options)
    assert digest_of(other) == before


def test_a_schedule_is_known_by_its_name_not_its_address(
    small_images, labels, tmp_path
):
    def make():
        def schedule(step, steps_per_epoch, epochs):
            return 0.5

        return schedule

    for schedule in (make(), make()):
        options = {"schedule": schedule, "checkpoint": tmp_path, "resume": True}
        train("plain", small_images, labels, **options)
    options["schedule"] = lambda *_: 0.5
    with pytest.raises(ValueError, match="schedule: expected '<function"):
        train("plain", small_images, labels, **options)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Checkpoint(3), "checkpoint"),
        (lambda: Checkpoint("x", -1), "every_seconds"),
        (lambda: Checkpoint("x", "1"), "every_seconds"),
        (lambda: Checkpoint("x", keep=0), "keep"),
        (lambda: Checkpoint("x", keep=1.5), "keep"),
    ],
)
def test_bad_arguments_of_a_checkpoint_are_refused_by_name(make, argument):
    with pytest.raises((TypeError, ValueError), match=rf"^{argument}: "):
        make()


# What goes wrong while a checkpoint is written


def test_a_folder_that_cannot_be_written_is_refused_before_anything_changes(
    small, small_images, labels, digest, tmp_path
):
    (tmp_path / "file").write_text("x")
    before = digest(small)
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        with pytest.raises(OSError, match=r"none|file"):
            small.fit(small_images, labels, checkpoint=folder)
    assert digest(small) == before


def test_a_read_only_folder_is_refused(small, small_images, labels, digest, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    before = digest(small)
    with pytest.raises(PermissionError):
        small.fit(small_images, labels, checkpoint=tmp_path)
    assert digest(small) == before


def test_a_full_disk_is_refused_at_the_start(
    small_images, labels, tmp_path, monkeypatch
):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lenet5c.training.folder, "try_to_write", full)
    model = network()
    before = digest_of(model)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        model.fit(small_images, labels, checkpoint=tmp_path)
    assert digest_of(model) == before


def test_a_full_disk_is_a_warning_and_tried_again(
    small_images, labels, tmp_path, monkeypatch
):
    expected, history, _ = train("averaged", small_images, labels)
    real, calls = lenet5c.files.model_file.os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) in (3, 4):  # the second and third checkpoint's content
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(lenet5c.files.model_file.os, "fsync", fsync)
    with pytest.warns(RuntimeWarning, match=r"^checkpoint: .*space.*goes on") as warned:
        found = train("averaged", small_images, labels, checkpoint=tmp_path)
    assert len(warned) == 1
    assert found[:2] == (expected, history)
    assert names(tmp_path)[-2:] == [12, 15]
    assert 6 not in names(tmp_path)


@pytest.mark.parametrize("call", range(1, 9))
def test_ctrl_c_while_a_checkpoint_is_written_leaves_no_half_file(
    call, small_images, labels, tmp_path, monkeypatch
):
    expected, history, _ = train("averaged", small_images, labels)
    calls = 0

    def interrupted(function):
        def wrapped(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return wrapped

    for name in ("fsync", "replace"):
        real = getattr(lenet5c.files.model_file.os, name)
        monkeypatch.setattr(lenet5c.files.model_file.os, name, interrupted(real))
    model = network()
    options = MIXES["averaged"]() | {"epochs": 5, "batch_size": 16}
    with pytest.raises(KeyboardInterrupt):
        model.fit(small_images, labels, checkpoint=tmp_path, **options)
    monkeypatch.undo()
    assert np.isfinite(model.predict_proba(small_images)).all()
    for path in tmp_path.glob("checkpoint-*"):
        read_file(path, FORM)
    options = {"checkpoint": tmp_path, "resume": True}
    found = train("averaged", small_images, labels, **options)
    assert found[:2] == (expected, history)


def test_an_optimizers_state_that_is_infinite_fails_the_training(
    small_images, labels, tmp_path
):
    class Broken(SGD):
        def step(self, *arguments):
            super().step(*arguments)
            if self.steps == 6:
                self.state[0][0] = np.inf
                self.learning_rate = 0.0

    model = network()
    with pytest.raises(lenet5c.TrainingError, match="state became infinite in epoch 2"):
        model.fit(
            small_images,
            labels,
            epochs=3,
            batch_size=20,
            optimizer=Broken(0.0, momentum=0.0),
            checkpoint=tmp_path,
        )
    assert np.isfinite(model.parameter_vector).all()
    assert names(tmp_path) == [3]


# The log


def test_the_log_has_each_epoch_once(small_images, labels, tmp_path):
    log = tmp_path / "log"
    _, history, _ = train("averaged", small_images, labels)
    for kill_at in (7, 4, 5, 99):
        try:
            train(
                "averaged",
                small_images,
                labels,
                log=log,
                checkpoint=tmp_path / "c",
                resume=True,
                callbacks=[KillAt(kill_at)],
            )
        except Killed:
            with open(log, "ab") as file:
                file.write(b'{"epoch": 4, "lo' if kill_at == 4 else b"[" * 100_000)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["loss"] for line in lines] == history["loss"]


# SIGKILL

CHILD = """
import sys
import numpy as np
import lenet5c
from lenet5c import AdamW, Augment, Checkpoint

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (600, 28, 28), dtype=np.uint8)
labels = np.arange(600) % 10
model = lenet5c.lenet5(dropout=0.2)
print("ready", flush=True)
history = model.fit(
    images,
    labels,
    epochs=6,
    batch_size=20,
    optimizer=AdamW(0.002),
    schedule="plateau",
    augment=Augment(elastic=8.0),
    validation=0.2,
    label_smoothing=0.1,
    weight_average=0.99,
    clip_norm=1.0,
    accumulate=2,
    early_stopping=3,
    checkpoint=Checkpoint(sys.argv[1], every_seconds=0.01) if sys.argv[1:] else None,
    resume=bool(sys.argv[1:]),
    log=sys.argv[1] + ".log" if sys.argv[1:] else None,
    threads=1,
)
import hashlib
print(hashlib.sha256(model.parameter_vector.tobytes()).hexdigest(), history.loss,
      history.validation_loss, history.learning_rate, flush=True)
"""


def run_child(*arguments, kill_after=None) -> str:
    """The last line that it prints; "" if it was killed before."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        env=python_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            if kill_after is not None:
                time.sleep(kill_after)
                process.kill()
            return process.stdout.read()
        finally:
            process.kill()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_training_that_is_killed_again_and_again_ends_in_the_same_bits(tmp_path):
    expected = run_child()
    assert expected
    folder = tmp_path / "c"
    chance = random.Random(1)
    for _ in range(5):
        run_child(str(folder), kill_after=chance.uniform(0, 0.4))
        for path in folder.glob("checkpoint-*"):
            read_file(path, FORM)
    assert run_child(str(folder)) == expected
    lines = (tmp_path / "c.log").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert epochs == list(range(1, len(epochs) + 1))
    assert list(folder.glob(".*")) == [folder / ".lock"]


# Images


@pytest.mark.parametrize(
    "which", ["images", "labels", "validation images", "validation labels"]
)
def test_other_images_are_refused_and_named(which, small_images, labels, tmp_path):
    """Mended pictures do not get the weights of the broken ones, however few."""
    images = np.repeat(small_images, 3, axis=0)
    labels = np.repeat(labels, 3)
    arrays = {
        "images": images,
        "labels": labels,
        "validation images": images[:90].copy(),
        "validation labels": labels[:90].copy(),
    }
    for good in (True, False):
        if not good:  # one image, neither at an end nor at a round number
            arrays[which] = arrays[which].copy()
            arrays[which][53] = 255 - arrays[which][53] if "im" in which else 9
        model = lenet5c.mlp()
        arguments = {
            "epochs": 1,
            "validation": (arrays["validation images"], arrays["validation labels"]),
            "checkpoint": tmp_path / "run",
            "resume": True,
        }
        if good:
            model.fit(arrays["images"], arrays["labels"], **arguments)
            continue
        with pytest.raises(ValueError, match=rf"other settings: {which}: expected"):
            model.fit(arrays["images"], arrays["labels"], **arguments)


def test_a_run_without_a_seed_goes_on_to_the_same_bits(small_images, labels, tmp_path):
    """Interrupted in the second pass, and resumed by the model that was interrupted."""
    options = {"epochs": 4, "batch_size": 20, "augment": lenet5c.Augment()}
    whole = lenet5c.mlp()
    whole.fit(small_images, labels, epochs=1)
    whole.fit(small_images, labels, **options)
    model = lenet5c.mlp()
    model.fit(small_images, labels, epochs=1)
    run = {**options, "checkpoint": tmp_path / "run"}
    model.fit(small_images, labels, **run, callbacks=[lambda state: state.epoch == 2])
    assert model.passes == 3
    for path in sorted((tmp_path / "run").glob("checkpoint-*"))[1:]:
        path.unlink()  # as if it had been killed before its second epoch ended
    model.fit(small_images, labels, **run, resume=True)
    assert model.passes == whole.passes == 5
    assert model.history.epochs() == [1, 2, 3, 4, 5]
    assert model.history.loss == whole.history.loss
    np.testing.assert_array_equal(model.state_vector, whole.state_vector)
