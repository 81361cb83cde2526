"""Schedules: by what the optimizer's learning rate is multiplied at each step.

A `Schedule` is any function of (step, steps_per_epoch, epochs) -> factor, step counting
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
    "Piecewise",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "constant",
    "cosine",
]

Schedule = Callable[[int, int, int], float]
"""``(step, steps_per_epoch, epochs)`` to the factor of the learning rate at a step."""


def constant(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Always 1.

    Parameters
    ----------
    step, steps_per_epoch, epochs : int
        Batches so far, batches of an epoch, epochs of the training.

    Returns
    -------
    float

    Examples
    --------
    >>> lenet5c.schedules.constant(step=30, steps_per_epoch=10, epochs=4)
    1.0
    """
    return 1.0


def cosine(step: int, steps_per_epoch: int, epochs: int) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, eq. 5, one cycle).

    Parameters
    ----------
    step, steps_per_epoch, epochs : int
        Batches so far, batches of an epoch, epochs of the training.

    Returns
    -------
    float

    Examples
    --------
    >>> factors = [lenet5c.schedules.cosine(step, 10, 4) for step in (0, 20, 40)]
    >>> [round(factor, 6) for factor in factors]  # beginning, middle, end
    [1.0, 0.5, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * step / max(1, steps_per_epoch * epochs)))


@explained
class OneCycle:
    """Up from 1/25 to 1 over the first part of training, then down to 0, both by half a
    cosine (Smith and Topin 2018, "Super-convergence").

    Parameters
    ----------
    warm_up : float
        Share of the steps that go up.

    Examples
    --------
    >>> schedule = lenet5c.schedules.OneCycle(warm_up=0.25)
    >>> [round(schedule(step, 10, 4), 6) for step in (0, 10, 25, 40)]
    [0.04, 1.0, 0.5, 0.0]
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

    Examples
    --------
    >>> schedule = lenet5c.schedules.Step((5, 8), factor=0.5)
    >>> [schedule(epoch * 10, 10, 9) for epoch in range(9)]  # as epochs begin
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
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


@explained
class Piecewise:
    """Factors that hold for some epochs each, the last one to the end.

    Parameters
    ----------
    pieces : sequence of (int, float)
        How many epochs, 1 at least, and the factor, at least 0, one after the other.
        The last number of epochs does not matter.

    Examples
    --------
    >>> schedule = lenet5c.schedules.Piecewise([(2, 1), (3, 0.4), (1, 0.1)])
    >>> [schedule(epoch * 10, 10, 8) for epoch in range(8)]  # as epochs begin
    [1.0, 1.0, 0.4, 0.4, 0.4, 0.1, 0.1, 0.1]
    """

    def __init__(self, pieces: Sequence[tuple[int, float]]) -> None:
        if not isinstance(pieces, (tuple, list)) or not pieces:
            raise TypeError(
                f"pieces: expected a sequence of (epochs, factor), got {pieces!r}"
            )
        for piece in pieces:
            if not isinstance(piece, (tuple, list)) or len(piece) != 2:
                raise TypeError(f"pieces: expected (epochs, factor), got {piece!r}")
        self.pieces = tuple(
            (whole("pieces", epochs, 1), number("pieces", factor, 0, math.inf))
            for epochs, factor in pieces
        )

    def __call__(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        left = step // max(1, steps_per_epoch)
        for length, factor in self.pieces:
            if left < length:
                return factor
            left -= length
        return self.pieces[-1][1]

    def __repr__(self) -> str:
        return f"Piecewise({self.pieces!r})"


@dataclass
class Watch:
    """Whether a loss still becomes better: the best one, and how many came since.

    Attributes
    ----------
    best : float
    waited : int
    """

    best: float = math.inf
    waited: int = 0

    def better(self, loss: float, min_delta: float) -> bool:
        """Take notice of a loss; whether it is below the best by more than this.

        Parameters
        ----------
        loss, min_delta : float

        Returns
        -------
        bool

        Examples
        --------
        >>> watch = lenet5c.schedules.Watch(best=0.5)
        >>> watch.better(0.45, min_delta=0.1)
        False
        """
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

    Examples
    --------
    >>> schedule = lenet5c.schedules.ReduceOnPlateau(factor=0.5, patience=2)
    >>> history = lenet5c.lenet5().fit(
    ...     images, labels, epochs=3, validation=0.2, schedule=schedule
    ... )
    >>> len(history.learning_rate)
    3
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
        """A copy that has seen no epoch.

        Returns
        -------
        ReduceOnPlateau

        Examples
        --------
        >>> schedule = lenet5c.schedules.ReduceOnPlateau(patience=1)
        >>> schedule.after_epoch(float("inf"))
        >>> schedule.now, schedule.fresh().now
        (0.1, 1.0)
        """
        other = copy.copy(self)
        other.now, other.watch = 1.0, Watch()
        return other

    def after_epoch(self, validation_loss: float) -> None:
        """Fall, if it is time to.

        Parameters
        ----------
        validation_loss : float

        Examples
        --------
        >>> schedule = lenet5c.schedules.ReduceOnPlateau(factor=0.5, patience=1)
        >>> for loss in (0.4, 0.3, 0.3):
        ...     schedule.after_epoch(loss)
        ...     print(schedule.now)
        1.0
        1.0
        0.5
        """
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
    # 0.0005, 0.0002, 0.0001, 0.00005 and 0.00001 for `SDLM`: LeCun, Bottou, Bengio,
    # Haffner 1998, "Gradient-based learning applied to document recognition", III.B.
    "lenet5-1998": Piecewise([(2, 1), (3, 0.4), (3, 0.2), (4, 0.1), (1, 0.02)]),
    "one-cycle": OneCycle(),
    "plateau": ReduceOnPlateau(),
    "step": Step(),
}
"""The schedules that ``fit(schedule=...)`` takes by name."""


def as_schedule(schedule: object) -> Schedule:
    """The schedule of that name, or the function itself.

    Parameters
    ----------
    schedule : str or function

    Returns
    -------
    function

    Raises
    ------
    TypeError, ValueError
        If it is neither.
    """
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
