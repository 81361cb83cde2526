"""Schedules: by what the optimizer's learning rate is multiplied at each step.

A schedule is any function of (step, steps_per_epoch, epochs) -> factor, step counting
batches from 0. To add one with a name, write it here and put it into `SCHEDULES`.
"""

import math
from collections.abc import Callable, Sequence

from lenet5c.checks import number, whole

__all__ = ["SCHEDULES", "OneCycle", "Schedule", "Step", "as_schedule"]

Schedule = Callable[[int, int, int], float]


def constant(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Always 1."""
    return 1.0


def cosine(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, eq. 5, one cycle)."""
    return 0.5 * (1 + math.cos(math.pi * step / max(1, steps_per_epoch * epochs)))


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


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": OneCycle(),
    "step": Step(),
}


def as_schedule(schedule: object) -> Schedule:
    """The schedule of that name, or the function itself."""
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return SCHEDULES[schedule]
    if callable(schedule):
        return schedule
    raise ValueError(
        f"schedule: expected {', '.join(map(repr, SCHEDULES))} or a function, "
        f"got {schedule!r}"
    )
