"""The settings of `lenet5c train` in plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from lenet5c.training.options import OPTIONS
from lenet5c.training.recipes import RECIPES, SGD_RATES

# Rows and columns that LeNet-5's input is larger than its images, as 32 is than 28.
MARGINS = {"lenet5": 4}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training run, in values that JSON can carry.

    `options` is what was said with the flags of `training.options`. None there stands
    for what the recipe has; but for the rate of SGD see `SGD_RATES`. `augment` is None
    as well, or False for none, or what is to differ from the recipe's Augment.
    """

    network: str | None = "lenet5"  # None: that of the model in the file `start`
    start: str | None = None
    data: str = "digits"
    size: tuple[int, int] | None = None
    channels: int | None = None
    skip_broken: bool = False
    dropout: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> str:
        return self.options.get("recipe") or "default"

    def to_dict(self) -> dict[str, Any]:
        """Return all of them by name."""
        own = asdict(self)
        return own.pop("options") | own  # type: ignore[no-any-return]

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
            seed=self.options.get("seed") or 0,
            **options,
        )

    @property
    def optimizer_class(self) -> type[Optimizer]:
        """The one with the name that was given, or the recipe's."""
        name = self.options.get("optimizer")
        return (
            type(RECIPES[self.recipe].optimizer()) if name is None else OPTIMIZERS[name]
        )

    def new_optimizer(self) -> Optimizer:
        """Return the optimizer, with the recipe's values where none were given."""
        base, kind = RECIPES[self.recipe].optimizer(), self.optimizer_class
        options: dict[str, Any] = {}
        if kind is type(base):
            options = {name: vars(base)[name] for name in signature(kind).parameters}
        if kind is SGD and self.network in SGD_RATES:
            options["learning_rate"] = SGD_RATES[self.network]
        for name in OPTIONS["optimizer"].parts:
            if self.options.get(name) is not None:
                options[name] = self.options[name]
        return kind(**options)

    def new_augment(self) -> Augment | None:
        """Return what changes the images, None for nothing."""
        usual = RECIPES[self.recipe].augment
        changes = self.options.get("augment")
        if changes is None or changes is True:
            return usual
        if changes is False:
            return None
        return replace(usual or Augment(), **changes)

    def fit(
        self,
        model: Model,
        data: Dataset,
        callbacks: Sequence[Callback] = (),
        comm: Any = None,
    ) -> History:
        """Train `model` on the training images of `data`; return its history."""
        images, labels = data.train
        options = {name: it for name, it in self.options.items() if name in OPTIONS}
        options["optimizer"] = self.new_optimizer()
        options["augment"] = self.new_augment() or False
        if options.get("validation") is None:
            options["validation"] = data.validation
        if options.get("checkpoint") is not None:
            from lenet5c.training.checkpoint import Checkpoint

            options["checkpoint"] = Checkpoint(
                options["checkpoint"], self.options.get("checkpoint_seconds")
            )
        return model.fit(images, labels, callbacks=callbacks, comm=comm, **options)
