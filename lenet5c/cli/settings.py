"""The settings of `lenet5c train` in plain values."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from inspect import signature
from typing import Any

import numpy as np

from lenet5c.data.augment import Augment
from lenet5c.data.datasets import Dataset
from lenet5c.model import Model
from lenet5c.networks import NETWORKS
from lenet5c.report.history import History
from lenet5c.training.callbacks import Callback
from lenet5c.training.optimizers import OPTIMIZERS, SGD, Optimizer
from lenet5c.training.recipes import RECIPES

# What these networks learn well with; the others take the recipe's. At 0.1 networks of
# ReLU lose their way: on the digits cnn3 diverged or stayed at chance with one seed in
# two.
SGD_LEARNING_RATES = {"mlp": 0.05, "cnn3": 0.02}
# Rows and columns that LeNet-5's input is larger than its images, as 32 is than 28.
MARGINS = {"lenet5": 4}


@dataclass(frozen=True)
class Settings:
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
