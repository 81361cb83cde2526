"""Schedules: by what the optimizer's learning rate is multiplied at each step.

A schedule is any function of (step, steps_per_epoch, epochs) -> factor, step counting
batches from 0. To add one with a name, write it here and put it into `SCHEDULES`.
`ReduceOnPlateau` alone also looks at the validation loss.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lenet5c._support.checks import number, whole
from lenet5c._support.habits import did_you_mean, explained

__all__ = [
    "SCHEDULES",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "Watch",
    "as_schedule",
    "constant",
    "cosine",
]

Schedule = Callable[[int, int, int], float]
"""``(step, steps_per_epoch, epochs)`` to the factor of the learning rate at a step."""


def constant(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Always 1."""
    return 1.0


def cosine(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, eq. 5, one cycle)."""
    return 0.5 * (1 + math.cos(math.pi * step / max(1, steps_per_epoch * epochs)))


@explained
class OneCycle:
    """Up from 1/25 to 1 over the first part of training, then down to 0, both by half a
    cosine (Smith and Topin 2018, "Super-convergence").

    Parameters
    ----------
    warm_up : float
        Share of the steps that go up.
    """

    def __init__(self, warm_up: float = 0.25) -> None:
        self.warm_up = number("warm_up", warm_up, 0, 1)

    def __call__(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        steps = max(1, steps_per_epoch * epochs)
        rise = self.warm_up * steps
        if step < rise:
            return 1 - 0.96 * 0.5 * (1 + math.cos(math.pi * step / rise))
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))

    def __repr__(self) -> str:
        return f"OneCycle({self.warm_up!r})"


@explained
class Step:
    """1, then a tenth of it, then a hundredth, from chosen epochs on.

    Parameters
    ----------
    epochs : sequence of int
        Epochs, counted from 1, after whose end the rate falls: Step((5, 8)) trains
        epochs 1 to 5 with 1, 6 to 8 with 0.1 and the rest with 0.01. None stands for
        after one half and after three quarters of the epochs.
    factor : float
        What each fall multiplies by.
    """

    def __init__(
        self, epochs: Sequence[int] | None = None, factor: float = 0.1
    ) -> None:
        if epochs is not None:
            if not isinstance(epochs, (tuple, list)):
                raise TypeError(f"epochs: expected a sequence, got {epochs!r}")
            epochs = tuple(whole("epochs", epoch, 0) for epoch in epochs)
        self.epochs = epochs
        self.factor = number("factor", factor, 0, math.inf)

    def __call__(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        falls = self.epochs
        if falls is None:
            falls = ((epochs + 1) // 2, (3 * epochs + 3) // 4)
        done = step // max(1, steps_per_epoch)
        return self.factor ** sum(done >= epoch for epoch in falls)

    def __repr__(self) -> str:
        return f"Step({self.epochs!r}, {self.factor!r})"


@dataclass
class Watch:
    """Whether a loss still becomes better: the best one, and how many came since."""

    best: float = math.inf
    waited: int = 0

    def better(self, loss: float, min_delta: float) -> bool:
        """Take notice of a loss; whether it is below the best by more than this."""
        if loss < self.best - min_delta:
            self.best, self.waited = loss, 0
            return True
        self.waited += 1
        return False


@explained
class ReduceOnPlateau:
    """Fall whenever the validation loss has not become better for some epochs.

    `fit` works on a fresh copy, and needs validation for it.

    Parameters
    ----------
    factor : float
        What each fall multiplies by, 0 <= factor < 1.
    patience : int
        How many epochs in a row without a better loss let it fall.
    min_delta : float
        By more than this a loss has to be below the best one to be better.
    least : float
        No fall goes below this share of the optimizer's learning rate.
    """

    def __init__(
        self,
        factor: float = 0.1,
        patience: int = 3,
        min_delta: float = 0.0,
        least: float = 0.0,
    ) -> None:
        self.factor = number("factor", factor, 0, 1)
        self.patience = whole("patience", patience, 1)
        self.min_delta = number("min_delta", min_delta, 0, math.inf)
        self.least = number("least", least, 0, 1)
        self.now = 1.0
        self.watch = Watch()

    def __call__(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        return self.now

    def fresh(self) -> "ReduceOnPlateau":
        """A copy that has seen no epoch."""
        other = copy.copy(self)
        other.now, other.watch = 1.0, Watch()
        return other

    def after_epoch(self, validation_loss: float) -> None:
        """Fall, if it is time to."""
        self.watch.better(validation_loss, self.min_delta)
        if self.watch.waited >= self.patience:
            self.now = max(self.now * self.factor, self.least)
            self.watch.waited = 0

    def __repr__(self) -> str:
        return (
            f"ReduceOnPlateau({self.factor!r}, {self.patience!r}, {self.min_delta!r}, "
            f"{self.least!r})"
        )


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": OneCycle(),
    "plateau": ReduceOnPlateau(),
    "step": Step(),
}
"""The schedules that ``fit(schedule=...)`` takes by name."""


def as_schedule(schedule: object) -> Schedule:
    """The schedule of that name, or the function itself."""
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return SCHEDULES[schedule]
    if isinstance(schedule, type):
        raise TypeError(
            f"schedule: expected a function, got the class {schedule.__name__}: "
            f"write {schedule.__name__}()"
        )
    if callable(schedule):
        return schedule
    raise ValueError(
        f"schedule: expected {', '.join(map(repr, SCHEDULES))} or a function, "
        f"got {schedule!r}{did_you_mean(schedule, SCHEDULES)}"
    )
