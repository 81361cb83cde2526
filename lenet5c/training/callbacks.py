"""What watches training: callbacks and the state they see, early stopping, the log."""

import errno
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet5c._support.checks import number, whole
from lenet5c._support.habits import explained
from lenet5c.interfaces import Trainable

if TYPE_CHECKING:
    import logging
    from types import TracebackType


__all__ = [
    "Callback",
    "EarlyStopping",
    "JsonLines",
    "TrainingState",
    "as_early_stopping",
    "call",
    "checked_callbacks",
    "epoch_function",
    "logger",
]

Callback = (
    Any  # a function of TrainingState, or an object with on_epoch_end/on_batch_end
)


@dataclass
class TrainingState:
    """What callbacks see. Epochs and batches count from 1.

    Attributes
    ----------
    model : Model
    epochs, batches, total_images : int
        How many there will be: epochs, and batches and images of each.
    epoch, batch, images : int
        Where training is: images are those of this epoch so far.
    loss, accuracy : float
        Means over these images; the loss in nats.
    validation_loss, validation_accuracy : float or None
        None until known.
    learning_rate : float
        Of the last batch.
    seconds : float
        Time of the whole training, what was done before it was resumed included.
    images_per_second : float
        At the end of an epoch those of the epoch, in its middle those of the whole
        training.

    Examples
    --------
    >>> def enough(state):  # True ends the training
    ...     return state.accuracy > 0.9
    >>> history = lenet5c.lenet5().fit(images, labels, epochs=20, callbacks=[enough])
    >>> len(history) < 20
    True
    """

    model: Trainable
    epochs: int
    batches: int
    total_images: int
    epoch: int = 0
    batch: int = 0
    images: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    learning_rate: float = 0.0
    seconds: float = 0.0
    images_per_second: float = 0.0


@explained
@dataclass(frozen=True)
class EarlyStopping:
    """Stop when the validation loss has not become better for some epochs.

    Parameters
    ----------
    patience : int
        How many epochs in a row without a better one end the training.
    min_delta : float
        By more than this a loss has to be below the best one to be better.

    Examples
    --------
    >>> stopping = lenet5c.EarlyStopping(patience=2, min_delta=0.001)
    >>> history = lenet5c.lenet5().fit(
    ...     images, labels, epochs=30, validation=0.2, early_stopping=stopping
    ... )
    >>> len(history) < 30
    True
    """

    patience: int
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "patience", whole("patience", self.patience, 1))
        delta = number("min_delta", self.min_delta, 0, math.inf)
        object.__setattr__(self, "min_delta", delta)


def as_early_stopping(early_stopping: object) -> EarlyStopping | None:
    """An `EarlyStopping` as it is, a whole number as its patience."""
    if early_stopping is None or isinstance(early_stopping, EarlyStopping):
        return early_stopping
    return EarlyStopping(whole("early_stopping", early_stopping, 1))


def checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """The callbacks as a list, or a TypeError."""
    if callable(callbacks) or not hasattr(callbacks, "__iter__"):
        raise TypeError(
            f"callbacks: expected a sequence of callbacks, got {callbacks!r}"
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        functions = [getattr(callback, "on_batch_end", None), epoch_function(callback)]
        given = [function for function in functions if function is not None]
        if not given or not all(map(callable, given)):
            raise TypeError(
                "callbacks: expected functions or objects with on_batch_end or "
                f"on_epoch_end, got {callback!r}"
            )
    return callbacks


def epoch_function(callback: Callback) -> Callable[..., Any] | None:
    """What to call at the end of an epoch: the method, or the plain function."""
    if hasattr(callback, "on_epoch_end"):
        return callback.on_epoch_end  # type: ignore[no-any-return]
    if callable(callback) and not hasattr(callback, "on_batch_end"):
        return callback  # type: ignore[no-any-return]
    return None


def call(callbacks: list[Callable[..., Any]], state: TrainingState) -> bool:
    """Call them all; whether one of them returned True."""
    answers = [callback(state) for callback in callbacks]
    return any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)


def logger() -> "logging.Logger":
    """The logger "lenet5c", silent unless the program gives it a handler."""
    import logging  # here: five milliseconds that importing the package can do without

    found = logging.getLogger("lenet5c")
    if not any(isinstance(handler, logging.NullHandler) for handler in found.handlers):
        found.addHandler(logging.NullHandler())
    return found


class JsonLines:
    """The log of `fit(log=path)`: a JSON object a line, one line an epoch.

    Lines are written at once, so that another program can follow them. A number that
    is not finite is null.

    Parameters
    ----------
    path : str or path-like
    epochs : int
        How many epochs of the file belong to this training already: those lines are
        kept, all others removed.
    """

    def __init__(self, path: str | os.PathLike[str], epochs: int = 0) -> None:
        # "ab" makes the file if there is none; unbuffered: nothing is left to close()
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._warned = False
        self._end = 0
        try:
            self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
            if self._regular:  # and no pipe or terminal
                self._end = _end_of(path, epochs)
                self._file.truncate(self._end)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self._file.close()

    def write(self, state: TrainingState, seconds: float) -> None:
        """Append the epoch just ended, which took `seconds`.

        If that fails, training goes on: there is a RuntimeWarning, the first time.
        """
        import json
        from datetime import datetime, timezone

        values = {
            "epoch": state.epoch,
            "loss": state.loss,
            "accuracy": state.accuracy,
            "validation_loss": state.validation_loss,
            "validation_accuracy": state.validation_accuracy,
            "learning_rate": state.learning_rate,
            "seconds": seconds,
            "images_per_second": state.images_per_second,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        }
        if state.validation_loss is None:
            del values["validation_loss"], values["validation_accuracy"]
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                values[name] = None
        line = json.dumps(values).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                if self._regular:
                    self._file.truncate(self._end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._end += len(line)
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"log: {error}; training goes on and tries again",
                    RuntimeWarning,
                    stacklevel=2,
                )


def _end_of(path: str | os.PathLike[str], epochs: int) -> int:
    """Where the lines of the first `epochs` epochs end in a log file."""
    import json

    end = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                epoch = json.loads(line)["epoch"]
            except (ValueError, TypeError, KeyError, RecursionError):
                break  # half a line of a program that was killed
            if not line.endswith(b"\n") or not isinstance(epoch, int) or epoch > epochs:
                break
            end += len(line)
    return end
