"""Settings of `lenet5c train` in plain values, and what `bench` and `compare` measure.

Every speed is the median of several runs, taken after one that warms up.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.build import build_info
from lenet5c.data import datasets
from lenet5c.data.augment import Augment
from lenet5c.data.datasets import Dataset
from lenet5c.model import Model
from lenet5c.networks import NETWORKS
from lenet5c.report.history import History
from lenet5c.training.callbacks import Callback
from lenet5c.training.optimizers import OPTIMIZERS, SGD, Optimizer
from lenet5c.training.recipes import RECIPES

RUNS = 5
SECONDS_OF_A_RUN = 0.2
TRAINING_BATCHES = (32, 64, 256)
INFERENCE_BATCH = 1000

# What these networks learn well with; the others take the recipe's. At 0.1 networks of
# ReLU lose their way: on the digits cnn3 diverged or stayed at chance with one seed in
# two.
SGD_LEARNING_RATES = {"mlp": 0.05, "cnn3": 0.02}
# Rows and columns that LeNet-5's input is larger than its images, as 32 is than 28.
MARGINS = {"lenet5": 4}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, in values that JSON can carry.

    None stands for what the library's recipe of the name `recipe` has; but for `epochs`
    of the default one see `epochs_for`, for the `learning_rate` of SGD see
    `SGD_LEARNING_RATES`. `augment` is None as well, or False for none, or what is to
    differ from the recipe's Augment.
    """

    network: str | None = "lenet5"  # None: that of the model in the file `start`
    start: str | None = None
    data: str = "digits"
    size: tuple[int, int] | None = None
    channels: int | None = None
    skip_broken: bool = False
    recipe: str = "default"
    epochs: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    optimizer: str | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    seed: int | None = 0  # None: other random numbers in each training of a model
    threads: int | None = None
    validation: float | None = None
    early_stopping: int | None = None
    max_seconds: float | None = None
    label_smoothing: float | None = None
    dropout: float | None = None
    weight_average: float | None = None
    clip_norm: float | None = None
    class_weight: str | None = None
    augment: dict[str, Any] | bool | None = None
    checkpoint: str | None = None
    checkpoint_seconds: float | None = None
    resume: bool = False
    log: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def load_data(self, model: Model | None = None) -> Dataset:
        """Return the data set; pictures come in the size that `model` was trained on,
        unless this says another."""
        usual = (28, 1) if model is None else (model.source, model.input_shape[0])
        return datasets.load_like(
            usual, self.data, self.size, self.channels, self.skip_broken
        )

    def new_model(self, data: Dataset) -> Model:
        """Return the network for the images and classes of `data`, untrained; its input
        is as large as the images, if they are larger than usual."""
        assert self.network is not None
        images, labels = data.train
        make = NETWORKS[self.network]
        options: dict[str, Any] = {}
        if self.dropout is not None:
            options["dropout"] = self.dropout
        shape = images.shape[-2:]
        if images.ndim == 2:  # rows of square images
            shape = (math.isqrt(images.shape[1]),) * 2
        if max(shape) > signature(make).parameters["size"].default:
            options["size"] = tuple(
                side + MARGINS.get(self.network, 0) for side in shape
            )
        return make(
            classes=len(np.unique(labels)),
            channels=images.shape[1] if images.ndim == 4 else 1,
            seed=self.seed or 0,
            **options,
        )

    def new_optimizer(self) -> Optimizer:
        """Return the optimizer, with the recipe's values where none were given."""
        base = RECIPES[self.recipe].optimizer()
        kind = type(base) if self.optimizer is None else OPTIMIZERS[self.optimizer]
        options: dict[str, Any] = {}
        if kind is type(base):
            options = {name: vars(base)[name] for name in signature(kind).parameters}
        if kind is SGD and self.network in SGD_LEARNING_RATES:
            options["learning_rate"] = SGD_LEARNING_RATES[str(self.network)]
        given = {
            "learning_rate": self.learning_rate,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
        }
        options |= {name: value for name, value in given.items() if value is not None}
        return kind(**options)

    def new_augment(self) -> Augment | None:
        """Return what changes the images, None for nothing."""
        usual = RECIPES[self.recipe].augment
        if self.augment is None or self.augment is True:
            return usual
        if self.augment is False:
            return None
        return replace(usual or Augment(), **self.augment)

    def fit(
        self, model: Model, data: Dataset, callbacks: Sequence[Callback] = ()
    ) -> History:
        """Train `model` on the training images of `data`; return its history."""
        images, labels = data.train
        validation: Any = self.validation
        if validation is None and data.validation is not None:
            validation = data.validation
        epochs = self.epochs
        if epochs is None and self.recipe == "default":
            epochs = epochs_for(len(images))
        checkpoint = None
        if self.checkpoint is not None:
            from lenet5c.training.checkpoint import Checkpoint

            checkpoint = Checkpoint(self.checkpoint, self.checkpoint_seconds)
        return model.fit(
            images,
            labels,
            epochs=epochs,
            batch_size=self.batch_size,
            optimizer=self.new_optimizer(),
            schedule=self.schedule,
            augment=self.new_augment() or False,
            validation=validation,
            seed=self.seed,
            threads=self.threads,
            callbacks=callbacks,
            recipe=self.recipe,
            label_smoothing=self.label_smoothing,
            weight_average=self.weight_average,
            clip_norm=self.clip_norm,
            accumulate=self.accumulate,
            class_weight=self.class_weight,
            early_stopping=self.early_stopping,
            max_seconds=self.max_seconds,
            checkpoint=checkpoint,
            resume=self.resume,
            log=self.log,
        )


def epochs_for(images: int) -> int:
    """Return 3 epochs for 60,000 images, more for fewer, at most 30."""
    return min(30, max(3, round(180_000 / images)))


def speeds(
    network: str, threads: int | None, measured: Callable[[str], None]
) -> dict[str, Any]:
    """Measure `network` on noise.

    Parameters
    ----------
    network : str
        A key of NETWORKS.
    threads : int or None
    measured : callable
        Is told each figure, as a line of text, as soon as it is known.

    Returns
    -------
    dict
        network, isa, threads, latency_seconds, and `speeds`: a list of dicts with what
        ("training" or "predict"), batch_size, images_per_second and gflops.
    """
    model = NETWORKS[network]()
    found = []

    def add(what: str, batch_size: int, speed: float, multiply_adds: int) -> None:
        measured(f"{what}, batch {batch_size}: {speed:,.0f} images/s")
        found.append(
            {
                "what": what,
                "batch_size": batch_size,
                "images_per_second": speed,
                "gflops": speed * 2e-9 * multiply_adds,
            }
        )

    for batch_size in TRAINING_BATCHES:
        speed = training_speed(network, batch_size, threads)
        add("training", batch_size, speed, training_multiply_adds(model))
    images, _ = synthetic_images(INFERENCE_BATCH)
    seconds = inference_seconds(model, images, INFERENCE_BATCH, threads)
    add("predict", INFERENCE_BATCH, INFERENCE_BATCH / seconds, model.multiply_adds)
    info = build_info()
    return {
        "network": network,
        "isa": info["isa"],
        "threads": threads or info["threads"],
        "speeds": found,
        "latency_seconds": inference_seconds(model, images, 1, threads),
    }


def training_multiply_adds(model: Model) -> int:
    """Return the multiply-adds of one image's forward and backward pass.

    The backward pass takes the forward pass's multiply-adds twice, for the gradients of
    the weights and of the input; nobody needs the gradient of the images.
    """
    costs = [
        layer.multiply_adds(shape)
        for layer, shape in zip(model.layers, model.shapes, strict=False)
    ]
    return 3 * sum(costs) - next(filter(None, costs))


def training_speed(network: str, batch_size: int, threads: int | None = None) -> float:
    """Return the images a second of one epoch of `fit`, packing included."""
    model = NETWORKS[network]()

    def epoch(count: int) -> float:
        images, labels = synthetic_images(count)
        started = time.perf_counter()
        model.fit(
            images,
            labels,
            epochs=1,
            batch_size=batch_size,
            # noise teaches nothing; a small step keeps the weights where they are
            optimizer=SGD(learning_rate=1e-3),
            threads=threads,
        )
        return count / (time.perf_counter() - started)

    epoch(1024)
    count = 256 * round(epoch(1024) * SECONDS_OF_A_RUN / 256)
    count = min(30 * 1024, max(1024, count))
    return statistics.median(epoch(count) for _ in range(RUNS))


def inference_seconds(
    model: Model, images: NDArray[Any], count: int, threads: int | None = None
) -> float:
    """Return the median time of `predict` for `count` of the images."""
    batch = np.resize(images, (count, *images.shape[1:]))
    model.predict(batch, threads=threads)
    times = []
    end = time.perf_counter() + RUNS * SECONDS_OF_A_RUN
    while (started := time.perf_counter()) < end:
        model.predict(batch, threads=threads)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def synthetic_images(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noise: uint8 images (count, 28, 28) and labels (count,) of ten classes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, np.arange(count) % 10


def peak_memory() -> int | None:
    """Return the most bytes this process has had in memory; None if nothing tells."""
    try:
        # Not ru_maxrss: on Linux a child starts with its parent's.
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
