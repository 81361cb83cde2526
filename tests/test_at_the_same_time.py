"""What several threads may do to one model, and what is refused."""

import copy
import os
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lenet5c
from lenet5c.training.optimizers import Optimizer

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 28, 28), np.uint8)
LABELS = np.arange(8) % 2


class InTwoHalves(Optimizer):
    """Sets all weights to 1, and calls `between` when half of them are."""

    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__(1.0)
        self.between = between

    def step(self, parameters: Any, *_: Any) -> None:
        half = len(parameters) // 2
        parameters[:half] = 1
        self.between()
        parameters[half:] = 1


def of_pickle(model: lenet5c.Model) -> lenet5c.Model:
    loaded: lenet5c.Model = pickle.loads(pickle.dumps(model))
    return loaded


def of_file(model: lenet5c.Model) -> lenet5c.Model:
    model.save("model.lenet5c")
    return lenet5c.load("model.lenet5c")


def of_predictor(model: lenet5c.Model) -> Any:
    return model.predictor().predict_proba(IMAGES[0])


def of_predict(model: lenet5c.Model) -> Any:
    return model.predict_proba(IMAGES)


@pytest.mark.parametrize(
    "look",
    [of_file, of_pickle, copy.deepcopy, lenet5c.Model.folded, of_predictor, of_predict],
)
@pytest.mark.parametrize("own_loop", [False, True])
def test_another_thread_never_sees_half_a_step(
    look: Callable[[lenet5c.Model], Any],
    own_loop: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = lenet5c.lenet5(classes=2)
    seen: list[Any] = []
    other = threading.Thread(target=lambda: seen.append(look(model)))

    def between() -> None:
        other.start()
        other.join(0.1)  # it comes to its end only if it does not wait

    step = InTwoHalves(between)
    if own_loop:
        model.train_step(IMAGES, LABELS, step)
    else:
        model.fit(IMAGES, LABELS, epochs=1, optimizer=step)
    other.join()
    if isinstance(seen[0], lenet5c.Model):
        assert (seen[0].parameter_vector == 1).all()
    else:
        np.testing.assert_array_equal(seen[0], look(model))


def test_a_second_training_of_a_model_is_refused() -> None:
    model = lenet5c.lenet5(classes=2)
    refused: list[str] = []

    def again(_: object) -> None:
        rule = lenet5c.SGD()
        for train in (
            lambda: model.fit(IMAGES, LABELS),
            lambda: model.train_step(IMAGES, LABELS, rule),
        ):
            with pytest.raises(RuntimeError, match="one training at a time") as error:
                train()
            refused.append(str(error.value))

    model.fit(IMAGES, LABELS, epochs=2, callbacks=[again])
    assert len(refused) == 4
    model.fit(IMAGES, LABELS, epochs=1)  # it is free again


def test_an_optimizer_is_of_one_training_at_a_time() -> None:
    model, other = lenet5c.lenet5(classes=2), lenet5c.lenet5(classes=2)
    rule = lenet5c.SGD()

    def again(_: object) -> None:
        before = other.parameter_vector.copy()
        with pytest.raises(RuntimeError, match="optimizer: expected one for each"):
            other.fit(IMAGES, LABELS, optimizer=rule)
        np.testing.assert_array_equal(other.parameter_vector, before)

    model.fit(IMAGES, LABELS, epochs=1, optimizer=rule, callbacks=[again])
    other.fit(IMAGES, LABELS, epochs=1, optimizer=rule)  # one after the other may


def test_a_model_is_free_after_a_training_that_failed() -> None:
    model = lenet5c.lenet5(classes=2)
    with pytest.raises(ValueError, match="labels"):
        model.fit(IMAGES, LABELS[:3])
    model.fit(IMAGES, LABELS, epochs=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_forked_in_a_step_can_use_and_train_the_model(tmp_path: Path) -> None:
    model = lenet5c.lenet5(classes=2)
    children: list[int] = []

    def child() -> None:
        code = 1
        try:
            model.save(tmp_path / "child.lenet5c")
            model.fit(IMAGES, LABELS, epochs=1)
            code = 0
        finally:
            os._exit(code)

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            child()
        children.append(pid)

    def between() -> None:  # this thread holds the gate, and is not in the child
        other = threading.Thread(target=fork)
        other.start()
        other.join()

    model.fit(IMAGES, LABELS, epochs=1, optimizer=InTwoHalves(between))
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_thread_that_forks_holds_its_gate_in_the_child_as_well() -> None:
    model = lenet5c.lenet5(classes=2)
    pid = code = 1
    try:
        with model.gate:
            pid = os.fork()
        code = 0
    finally:
        if pid == 0:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Interrupted(dict[int, object]):
    """Ctrl-C right after something was taken."""

    def setdefault(self, *item: Any) -> Any:
        super().setdefault(*item)
        raise KeyboardInterrupt


def test_ctrl_c_while_a_training_begins_leaves_the_model_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, in_use = lenet5c.lenet5(classes=2), Interrupted()
    with monkeypatch.context() as patch:
        patch.setattr(lenet5c._support.threads, "_in_use", in_use)
        with pytest.raises(KeyboardInterrupt):
            model.fit(IMAGES, LABELS, epochs=1)
    assert not in_use


def test_ctrl_c_between_two_lines_leaves_no_gate_locked() -> None:
    model, before, free = lenet5c.lenet5(classes=2), sys.gettrace(), []

    def interrupt(frame: Any, event: str, _: object) -> Any:
        if event == "return" and frame.f_code.co_name == "__enter__":
            raise KeyboardInterrupt
        return interrupt

    def look() -> None:
        free.append(model.gate.acquire(blocking=False))
        if free[-1]:
            model.gate.release()

    def enter() -> None:
        with model.gate:
            pass

    sys.settrace(interrupt)  # of functions in Python, which the gate has none of
    try:
        enter()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert free == [True]


@pytest.mark.parametrize("vector", ["state_vector", "parameter_vector"])
def test_weights_are_not_set_while_another_thread_copies_them(vector: str) -> None:
    model = lenet5c.lenet5(classes=2)
    before = getattr(model, vector).copy()
    other = threading.Thread(target=lambda: setattr(model, vector, 2 * before))
    with model.gate:
        other.start()
        other.join(0.1)  # it comes to its end only if it does not wait
        np.testing.assert_array_equal(getattr(model, vector), before)
    other.join()
    np.testing.assert_array_equal(getattr(model, vector), 2 * before)


def test_a_checkpoint_is_not_restored_while_another_thread_copies(
    tmp_path: Path,
) -> None:
    model = lenet5c.lenet5(classes=2)
    model.fit(IMAGES, LABELS, epochs=2, checkpoint=tmp_path)
    trained = model.parameter_vector.copy()
    model.parameter_vector[:] = 1

    def resume() -> None:
        model.fit(IMAGES, LABELS, epochs=2, checkpoint=tmp_path, resume=True)

    other = threading.Thread(target=resume)
    with model.gate:
        other.start()
        other.join(0.2)  # it comes to its end only if it does not wait
        assert (model.parameter_vector == 1).all()
    other.join()
    np.testing.assert_array_equal(model.parameter_vector, trained)


def test_averages_do_not_take_the_weights_place_while_another_thread_copies() -> None:
    model = lenet5c.lenet5(classes=2)
    trained, held = threading.Event(), threading.Event()

    class Watching:
        def on_batch_end(self, _: object) -> None:
            trained.set()
            assert held.wait(60)

    other = threading.Thread(
        target=lambda: model.fit(
            IMAGES, LABELS, epochs=1, weight_average=0.9, callbacks=[Watching()]
        )
    )
    other.start()
    assert trained.wait(60)
    with model.gate:
        weights = model.parameter_vector.copy()
        held.set()
        other.join(0.2)  # it comes to its end only if it does not wait
        np.testing.assert_array_equal(model.parameter_vector, weights)
    other.join()
    assert (model.parameter_vector != weights).any()
