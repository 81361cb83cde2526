"""What `selftest` checks, each core in a process of its own.

A check is a function without arguments: it returns what it found, in a few words, or
raises. `results` runs all of them. Where a process ends before its time, or does not
answer, the check that it was at has failed, and another process goes on behind it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.cores import ENVIRONMENT, available, isa
from lenet5c._support.text import counted
from lenet5c._support.threads import resolve_threads
from lenet5c.cli.measure import (
    INFERENCE_BATCH,
    inference_seconds,
    synthetic_images,
    training_speed,
)
from lenet5c.cli.textbook import (
    OUTPUT,
    SMALL,
    Wrong,
    check_layers,
    check_networks,
    error_of,
    small_case,
)
from lenet5c.data.augment import Augment
from lenet5c.data.images import InputStage
from lenet5c.files.container import FileFormatError
from lenet5c.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    MaxPool2d,
    ScaledTanh,
    Sigmoid,
)
from lenet5c.model import Model, load
from lenet5c.networks import cnn3, lenet5, mlp
from lenet5c.training.optimizers import SGD, AdamW

__all__ = ["CHECKS", "FAILED", "OK", "SLOW", "Result", "results", "run_as_child"]

OK, SLOW, FAILED = "ok", "slow", "failed"
HANG = 180  # seconds without an answer; a check takes one or two if left alone
WEIGHT = 1e-6  # error of weights after a step, in float32
FORK = 60  # seconds for what a forked child does in a tenth of one
# Images of LeNet-5 a second on one thread of a Zen 4, trained in batches of 64 and
# predicted in those of 1000; other machines may take so many times as long.
RECORDED = {
    "avx512": (45_000, 130_000),
    "avx2": (31_000, 96_000),
    "baseline": (13_000, 36_000),
}
SLOWEST = 4
MOST_THREADS = 4  # a batch of 64 images is four blocks
ANSWER = "lenet5c selftest: "  # begins the child's lines

# The child imports from where the parent does, whatever folder it runs in.
CHILD = """
import sys
*sys.path[:], names = sys.argv[1:]
from lenet5c.cli.installation import run_as_child
run_as_child(names)
"""


class Slow(Exception):
    """All is right, and takes long."""


class Check(NamedTuple):
    """run : what to do
    compared : what with what
    each_core : whether every core does it, or the one in use
    """

    run: Callable[[], str]
    compared: str
    each_core: bool


class Result(NamedTuple):
    """check, core : what was checked
    compared : what with what
    result : OK, SLOW or FAILED
    message : what was found, or what is wrong
    seconds : how long it took
    """

    check: str
    core: str
    compared: str
    result: str
    message: str
    seconds: float


def results() -> Iterator[Result]:
    """Run all checks; yield each result as soon as it is known."""
    for name in available:
        yield from _of_core(name, [key for key, of in CHECKS.items() if of.each_core])
    yield from _of_core(isa, [key for key, of in CHECKS.items() if not of.each_core])


def _of_core(name: str, checks: Sequence[str]) -> Iterator[Result]:
    """Run these checks with a core, in as many processes as it takes."""
    left = list(checks)
    while left:
        with (
            tempfile.TemporaryFile("w+", errors="replace") as errors,
            subprocess.Popen(
                [sys.executable, "-c", CHILD, *sys.path, json.dumps(left)],
                # NumPy's products are small, and its threads spin beside ours
                env=os.environ | {ENVIRONMENT: name, "OPENBLAS_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            ) as child,
        ):
            try:
                while left:
                    started = time.perf_counter()
                    line = _answer(child)
                    seconds = time.perf_counter() - started
                    check = left.pop(0)
                    compared = CHECKS[check].compared
                    if not line:
                        child.wait()
                        errors.seek(0)
                        said = _end_of(child.returncode, seconds, errors.read())
                        yield Result(check, name, compared, FAILED, said, seconds)
                        break
                    answer = json.loads(line.removeprefix(ANSWER))
                    yield Result(check, name, compared, **answer)
            finally:
                child.kill()


def _answer(child: subprocess.Popen[str]) -> str:
    """The next result, or nothing from a child that ends or is killed. Others may print
    there as well, such as a sitecustomize of the machine's."""
    timer = threading.Timer(HANG, child.kill)
    timer.start()
    try:
        lines = iter(child.stdout.readline if child.stdout else str, "")
        return next((line for line in lines if line.startswith(ANSWER)), "")
    finally:
        timer.cancel()


def _end_of(code: int, seconds: float, errors: str) -> str:
    """Why a process has not answered."""
    if seconds >= HANG:
        return f"no answer in {HANG} s"
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    last = (errors.split("\n")[-2:-1] or [""])[0]
    return f"the process ended with {code}: {last}"


def run_as_child(names: str) -> None:
    """Do the child's part of `results`: write each one to stdout, a line of JSON
    after `ANSWER`.

    Parameters
    ----------
    names : str
        Of the checks, as JSON.
    """
    for name in json.loads(names):
        started = time.perf_counter()
        result = OK
        try:
            message = CHECKS[name].run()
        except Slow as error:
            result, message = SLOW, str(error)
        except Wrong as error:
            result, message = FAILED, str(error)
        except Exception as error:
            said = " ".join(str(error).split())
            result, message = FAILED, f"{type(error).__name__}: {said}"
        seconds = time.perf_counter() - started
        line = {"result": result, "message": message, "seconds": seconds}
        print(f"\n{ANSWER}{json.dumps(line)}", flush=True)


def _runtime() -> str:
    """The C runtime, with each kind of layer and through `Model.predictor`."""
    worst = 0.0
    for name in SMALL:
        case = small_case(name)
        logits = np.full(case.logits.shape, np.nan, np.float32)
        case.model.predictor().predict_many(case.images, logits, None, 1)
        worst = max(worst, error_of(f"{name}: outputs", logits, case.logits, OUTPUT))
    for make in (lenet5, mlp, cnn3):
        model = make()
        images, labels = _patterns(100)
        model.fit(images, labels, epochs=1)
        model._engine.forced = "core"
        shares = model.predict_proba(images)
        predictor = model.predictor()
        found = np.array([predictor.predict_proba(image) for image in images])
        what = f"{make.__name__}: probabilities"
        worst = max(worst, error_of(what, found, shares, OUTPUT))
        if [predictor(image) for image in images] != shares.argmax(axis=1).tolist():
            raise Wrong(f"{make.__name__}: the C runtime finds other classes")
    return f"largest error {worst:.2f} of what is allowed"


# ---- Training


def _patterns(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (count, 28, 28) of ten patterns under noise, and their classes."""
    rng = np.random.default_rng(7)
    labels = np.arange(count) % 10
    patterns = rng.integers(0, 160, (10, 28, 28))
    noise = rng.integers(0, 96, (count, 28, 28))
    return (patterns[labels] + noise).astype(np.uint8), labels


def _optimizers() -> str:
    """Two steps of each, by the formulas of `SGD` and `AdamW`."""

    def sgd(w: Any, g: Any, v: Any, _: Any, step: int) -> Any:
        d = g + 0.02 * w
        v[:] = 0.9 * v + d
        return w - 0.1 * (d + 0.9 * v)

    def adamw(w: Any, g: Any, m: Any, v: Any, step: int) -> Any:
        m[:] = 0.9 * m + 0.1 * g
        v[:] = 0.99 * v + 0.01 * g**2
        moved = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.99**step)) + 1e-4)
        return w - 0.01 * (0.1 * w + moved)

    images, labels = _patterns(20)
    worst = 0.0
    for optimizer, formula in (
        (SGD(0.1, weight_decay=0.02), sgd),
        (AdamW(0.01, beta2=0.99, eps=1e-4, weight_decay=0.1), adamw),
    ):
        model = lenet5()
        w = model.parameter_vector.astype(np.float64)
        first, second = np.zeros_like(w), np.zeros_like(w)
        for step in (1, 2):
            _, found = model.loss_and_gradients(images, labels)
            g = np.concatenate([part.ravel() for part in found.values()])
            w = formula(w, g.astype(np.float64), first, second, step)
            model.train_step(images, labels, optimizer)
            what = f"{type(optimizer).__name__}: weights after step {step}"
            worst = max(worst, error_of(what, model.parameter_vector, w, WEIGHT))
    return f"largest error {worst:.2f} of what is allowed"


def _training() -> str:
    images, labels = _patterns(640)
    said = []
    for batch_size, optimizer in ((64, "sgd"), (64, "adamw"), (4, "sgd")):
        some = slice(None if batch_size > 4 else 160)
        model = lenet5()
        losses = model.fit(
            images[some],
            labels[some],
            epochs=4,
            batch_size=batch_size,
            optimizer=optimizer,
        ).loss
        what = f"{optimizer} in batches of {batch_size}: from {losses[0]:.3f} to "
        what += f"{losses[-1]:.3f}"
        if not losses[-1] < losses[0] / 2:
            raise Wrong(f"{what}, where the loss should fall to less than half")
        accuracy = model.evaluate(images, labels).accuracy
        if not accuracy > 0.95:
            raise Wrong(f"{what}, and only {accuracy:.1%} right")
        said.append(what)
    return "; ".join(said)


def _trained(threads: int, batch_size: int = 280, **options: Any) -> bytes:
    """The weights after a short training, and what the network then predicts."""
    images, labels = _patterns(300 if batch_size > 8 else 40)
    model = lenet5(dropout=0.4, **options)
    augment = Augment(elastic=20, noise=0.1, erase=0.3)
    given: dict[str, Any] = {"epochs": 2, "batch_size": batch_size, "augment": augment}
    model.fit(images, labels, threads=threads, **given)
    return model.state_vector.tobytes() + model.forward(images, threads=threads).data


def _threads() -> str:
    numbers = sorted({2, 3, 7, resolve_threads()} - {1})
    ways: dict[str, dict[str, Any]] = {
        "lenet5": {"pooling": "max"},
        "lenet5 in batches of 5": {"batch_size": 5},
        "lenet5 with normalisation": {"batch_norm": True},
    }
    for name, options in ways.items():
        expected = _trained(1, **options)
        for threads in numbers:
            if _trained(threads, **options) != expected:
                raise Wrong(f"{name}: other bits on {threads} threads than on one")
    return f"the same on 1, {', '.join(map(str, numbers))} threads"


def _fork() -> str:
    """A child that is forked after threads have run trains with threads as well."""
    if not hasattr(os, "fork"):
        return "this system has no fork"
    expected = _trained(2)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, b"same" if _trained(2) == expected else b"other")
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], FORK)
        answer = os.read(reading, 9) if ready else b""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    if not ready:
        raise Wrong(f"the child has not trained in {FORK} s")
    if answer != b"same":
        raise Wrong("other bits in the child" if answer else "the child has ended")
    return "the same bits in the child"


# ---- Files, integers, speed


def _file() -> str:
    """Save, load; and a flipped byte anywhere is refused."""
    model = lenet5()
    images, labels = _patterns(100)
    model.fit(images, labels, epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.lenet5c")
        model.save(path)
        again = load(path)
        if again.state_vector.tobytes() != model.state_vector.tobytes():
            raise Wrong("other weights after save and load")
        if (again.predict_proba(images) != model.predict_proba(images)).any():
            raise Wrong("other predictions after save and load")
        with open(path, "rb") as file:
            content = bytearray(file.read())
        places = [*range(0, 64, 7), *range(64, len(content), len(content) // 30)]
        for at in places:
            content[at] ^= 1
            with open(path, "wb") as file:
                file.write(content)
            content[at] ^= 1
            try:
                load(path)
            except FileFormatError:
                continue
            raise Wrong(f"byte {at} was changed, and the file is read all the same")
    return f"{len(places)} flipped bytes are refused"


SCORES = [[6307, 18279, -20478], [6260, 18164, -20131]]  # of `integers`


def integers() -> tuple[Model, NDArray[np.uint8]]:
    """A network and two images whose scores in int8 are the same on every machine: no
    scale in it is one that is measured in float32."""
    layers = [
        *(Conv2d(5, 3), ScaledTanh(), MaxPool2d(2), Conv2d(4, 2, padding=1)),
        *(Sigmoid(), AvgPool2d(2, 1), Dense(3)),
    ]
    model = Model(layers, input_shape=(1, 10, 9), classes=3)
    model.parameter_vector = (7 * np.arange(model.parameter_count) % 23 - 11) / 32
    model.set_input(InputStage(0.25, 0.5, -0.5), (10, 9), np.arange(3))
    pixels = np.arange(180) * 37 % 256
    return model, pixels.astype(np.uint8).reshape(2, 1, 10, 9)


def _int8() -> str:
    model, images = integers()
    found = model.quantize(images).scores(images).tolist()
    if found != SCORES:
        raise Wrong(f"scores {found}, expected {SCORES}")
    return f"{len(SCORES)} images have the scores of docs/int8.md"


def _speed() -> str:
    """LeNet-5 trained and predicted."""
    threads = min(resolve_threads(), MOST_THREADS)
    images, _ = synthetic_images(INFERENCE_BATCH)
    seconds = inference_seconds(lenet5(), images, INFERENCE_BATCH, threads)
    found = training_speed("lenet5", 64, threads), INFERENCE_BATCH / seconds
    recorded = [threads * each for each in RECORDED[isa]]
    said = "; ".join(
        f"{what} {speed:,.0f} images/s, from {of / SLOWEST:,.0f} on expected"
        for what, speed, of in zip(
            ("training", "prediction"), found, recorded, strict=True
        )
    )
    said += f"; on {counted(threads, 'thread')}"
    if any(speed < of / SLOWEST for speed, of in zip(found, recorded, strict=True)):
        raise Slow(f"{said}: is the machine busy?")
    return said


FLOAT64 = "outputs, loss and gradients with float64"
BITS = "weights and outputs, bit for bit"
CHECKS: dict[str, Check] = {
    **{
        f"layers, {way}": Check(partial(check_layers, way), FLOAT64, True)
        for way in ("blockwise", "layerwise", "imagewise")
    },
    "networks": Check(check_networks, FLOAT64, True),
    "C runtime": Check(_runtime, "outputs with float64 and the core", True),
    "optimizers": Check(_optimizers, "weights after two steps with float64", True),
    "training": Check(_training, "loss at the end with that of the beginning", True),
    "threads": Check(_threads, f"{BITS}, on 1 and more", True),
    "fork": Check(_fork, f"{BITS}, in a forked child", False),
    "model file": Check(_file, f"{BITS}, saved and loaded; damage", False),
    "int8": Check(_int8, "integers with stored ones", False),
    "speed": Check(_speed, "LeNet-5's images a second with recorded ones", False),
}
