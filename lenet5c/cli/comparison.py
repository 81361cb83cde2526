"""Networks trained and measured for `compare`, each in a process of its own.

A network is named in one of three ways: by its name in `NETWORKS`, trained with its
recipe of `RECIPES_OF`; as a model file, which is measured and not trained; or as a
Python function that returns a Model, trained as `lenet5c train` does by default. The
figures of the article that is compared with are in `ARTICLE`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet5c.cli.measure import INFERENCE_BATCH, inference_seconds, peak_memory
from lenet5c.data import datasets
from lenet5c.data.datasets import Dataset, Split
from lenet5c.interfaces import AnyModel
from lenet5c.model import Model, load
from lenet5c.networks import NETWORKS
from lenet5c.training.callbacks import Callback
from lenet5c.training.recipes import RECIPES, RECIPES_OF, Recipe

if TYPE_CHECKING:
    from lenet5c._support.progress import ProgressBar

__all__ = [
    "ARTICLE",
    "Article",
    "Job",
    "MeasurementError",
    "kind_of",
    "load_data",
    "measure",
    "measure_in_child",
    "summary",
]

# The child imports from where the parent does, whatever folder it runs in.
CHILD = """
import sys
*sys.path[:], job = sys.argv[1:]
from lenet5c.cli.comparison import run_as_child
run_as_child(job)
"""


class MeasurementError(RuntimeError):
    """The child process could not measure what it was asked to."""


@dataclass(frozen=True)
class Article:
    """One line of the article's table, which is of MNIST; its training times are of
    another machine."""

    parameters: int
    accuracy: float
    training_seconds: float


ARTICLE: dict[str, Article] = {
    "lenet5": Article(61_706, 0.985, 300),
    "mlp": Article(80_000, 0.978, 180),
    "cnn3": Article(100_000, 0.992, 120),
    "resnet18": Article(11_000_000, 0.995, 600),
}


@dataclass(frozen=True)
class Job:
    """One training and its measurement, in values that JSON can carry.

    network : a name of NETWORKS, a model file, or ``module:function`` or
        ``file.py:function``
    data : as `lenet5c.datasets.load` takes it
    seed : of the initial weights, the order of the images and the augmentation
    epochs : None is the recipe's
    validation : share of the training images to measure on, None for the test images
    threads : None takes all
    """

    network: str
    data: str
    seed: int = 0
    epochs: int | None = None
    validation: float | None = None
    threads: int | None = None


def kind_of(network: str) -> str:
    """Return whether `network` names a "network", a "function" or a "model" file.

    Raises
    ------
    ValueError
        If it is none of these: an unknown name, or a file that is not there.
    """
    if network in NETWORKS:
        return "network"
    source, _, function = network.rpartition(":")
    if source and function.isidentifier():
        if source.endswith(".py") and not Path(source).is_file():
            raise ValueError(f"{network}: there is no file {source}")
        return "function"
    if Path(network).is_file():
        return "model"
    raise ValueError(
        f"expected {', '.join(NETWORKS)}, a model file, module:function or "
        f"file.py:function, got {network!r}"
    )


def load_data(source: str, validation: float | None) -> Dataset:
    """Load the data; with `validation`, its test images are held out training images.

    They are drawn once: the same for each network and each seed.
    """
    data = datasets.load(source)
    if validation is None:
        return data
    images, labels = data.train
    order = np.random.default_rng(0).permutation(len(images))
    count = round(validation * len(images))
    if not 0 < count < len(images):
        raise ValueError(
            f"--validation: {validation:g} of {len(images)} images leaves none to "
            + ("train on" if count else "measure on")
        )
    held_out, rest = np.sort(order[:count]), np.sort(order[count:])
    return Dataset(
        data.name,
        Split(images[rest], labels[rest]),
        Split(images[held_out], labels[held_out]),
    )


def measure(job: Job, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Train as `job` says in this process and measure it.

    Returns
    -------
    dict
        seed, parameters, multiply_adds, model_bytes, loss, accuracy,
        inference_images_per_second; and, None for a model file, recipe, epochs,
        training_seconds, training_images_per_second and peak_memory_bytes (of the
        whole process, with Python and the data set, while it trains).
    """
    data = load_data(job.data, job.validation)
    found: dict[str, Any] = {"seed": job.seed, "recipe": None, "epochs": None}
    seconds = speed = memory = None
    model: AnyModel
    if kind_of(job.network) == "model":
        model = load(job.network)
        size = os.path.getsize(job.network)
    else:
        model, recipe = _new_model(job, data)
        if job.epochs is not None:
            recipe = replace(recipe, epochs=job.epochs)
        _forget_peak_memory()
        started = time.perf_counter()
        history = model.fit(
            *data.train,
            recipe=recipe,
            seed=job.seed,
            threads=job.threads,
            callbacks=callbacks,
        )
        seconds = time.perf_counter() - started
        memory = peak_memory()
        epochs = len(history)
        speed = len(data.train.images) * epochs / seconds
        found |= {
            "recipe": _recipe_facts(recipe) | {"epochs": epochs},
            "epochs": epochs,
        }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.lenet5c")
            model.save(file)
            size = file.stat().st_size
    images, labels = data.test
    result = model.evaluate(images, labels, threads=job.threads)
    return found | {
        "parameters": model.parameter_count,
        "multiply_adds": model.multiply_adds,
        "model_bytes": size,
        "loss": result.loss,
        "accuracy": result.accuracy,
        "training_seconds": seconds,
        "training_images_per_second": speed,
        "inference_images_per_second": INFERENCE_BATCH
        / inference_seconds(model, images, INFERENCE_BATCH, job.threads),
        "peak_memory_bytes": memory,
    }


def _forget_peak_memory() -> None:
    """Start the peak afresh: reading the data may have taken more than training will.

    Linux alone can do that (proc(5), /proc/pid/clear_refs).
    """
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _new_model(job: Job, data: Dataset) -> tuple[Model, Recipe]:
    """Return the untrained network for the data, and what it is trained with."""
    images, labels = data.train
    if job.network in NETWORKS:
        function: Callable[..., Any] = NETWORKS[job.network]
        recipe = RECIPES_OF[job.network]
    else:
        function = _function(job.network)
        recipe = RECIPES["default"]
    options = {
        "classes": len(np.unique(labels)),
        "channels": images.shape[1] if images.ndim == 4 else 1,
        "seed": job.seed,
    }
    accepted = inspect.signature(function).parameters
    model = function(**{name: options[name] for name in options if name in accepted})
    if not isinstance(model, Model):
        raise TypeError(
            f"{job.network}: expected a function that returns a Model, it returned "
            f"{type(model).__name__}"
        )
    return model, recipe


def _function(network: str) -> Callable[..., Any]:
    """Return what ``module:function`` or ``file.py:function`` names."""
    source, _, name = network.rpartition(":")
    if source.endswith(".py"):
        path = Path(source).resolve()
        sys.path.insert(0, str(path.parent))  # as `python file.py` does
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{source} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.append(os.getcwd())
        module = importlib.import_module(source)
    function = getattr(module, name, None)
    if not callable(function):
        raise TypeError(f"{network}: {source} has no function {name}")
    return function  # type: ignore[no-any-return]


def _recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe in values that JSON can carry."""
    augment = None if recipe.augment is None else asdict(recipe.augment)
    return vars(recipe) | {"optimizer": repr(recipe.optimizer()), "augment": augment}


def measure_in_child(job: Job, bar: ProgressBar | None = None) -> dict[str, Any]:
    """Return `measure(job)` of a fresh process, so that its memory is its own.

    Parameters
    ----------
    job : Job
    bar : ProgressBar, optional
        Is shown the child's progress.

    Raises
    ------
    MeasurementError
        With the child's own message, or how it ended.
    """
    result: dict[str, Any] | None = None
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *sys.path, json.dumps(asdict(job))],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is the parent's to answer
    ) as child:
        try:
            for line in child.stdout or ():
                message = json.loads(line)
                if "error" in message:
                    raise MeasurementError(message["error"])
                if "result" in message:
                    result = message["result"]
                elif bar is not None:
                    show = bar.on_epoch_end if message["end"] else bar.on_batch_end
                    show(SimpleNamespace(**message["state"]))
        except BaseException:
            child.kill()
            raise
    if result is None:
        code = child.returncode
        raise MeasurementError(
            "the process was killed, as the system does when memory runs out"
            if code == -9
            else f"the process ended with {code}"
        )
    return result


def run_as_child(job_json: str) -> None:
    """Do the child's part of `measure_in_child`: write messages to stdout, a line each.

    Whatever else is printed, as by a function of the user's, goes to stderr.

    Parameters
    ----------
    job_json : str
        The fields of a Job as JSON.
    """
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def send(**message: Any) -> None:
        print(json.dumps(message), file=pipe, flush=True)

    try:
        send(result=measure(Job(**json.loads(job_json)), callbacks=[_Reporter(send)]))
    except MemoryError:
        send(error="out of memory")
    except Exception as error:  # a function of the user's may raise anything
        expected = isinstance(
            error, (ValueError, ArithmeticError, ImportError, OSError)
        )
        text = " ".join(str(error).split())
        send(error=text if expected and text else f"{type(error).__name__}: {text}")


class _Reporter:
    """Callback that sends the numbers of a progress bar, at most ten times a second."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._next = 0.0

    def on_batch_end(self, state: Any) -> None:
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + 0.1
            self.on_epoch_end(state, end=False)

    def on_epoch_end(self, state: Any, end: bool = True) -> None:
        numbers = {name: it for name, it in vars(state).items() if name != "model"}
        self._send(state=numbers, end=end)


def summary(
    network: str,
    runs: Sequence[dict[str, Any]],
    error: str | None = None,
    *,
    data: str,
) -> dict[str, Any]:
    """Return the row of one network.

    Parameters
    ----------
    network : str
    runs : sequence of dict
        What `measure` returned, one for each seed.
    error : str, optional
        Why there are not more of them.
    data : str
        What they were trained on: the article's figures are of MNIST.

    Returns
    -------
    dict
        network, error, article, runs; what is the same for all of them; the means of
        what is measured, and accuracy_deviation: the sample standard deviation, None
        for fewer than two runs.
    """
    known = data == "mnist" and network in ARTICLE
    row: dict[str, Any] = {
        "network": network,
        "error": error,
        "article": asdict(ARTICLE[network]) if known else None,
    }
    if runs:
        measured = (
            *("loss", "accuracy", "training_seconds", "training_images_per_second"),
            *("inference_images_per_second", "peak_memory_bytes"),
        )
        row |= {name: value for name, value in runs[0].items() if name != "seed"}
        for name in measured:
            values = [run[name] for run in runs if run[name] is not None]
            row[name] = statistics.mean(values) if values else None
        accuracies = [run["accuracy"] for run in runs]
        row["accuracy_deviation"] = (
            statistics.stdev(accuracies) if len(runs) > 1 else None
        )
    row["runs"] = [
        {name: value for name, value in run.items() if name != "recipe"} for run in runs
    ]
    return row
