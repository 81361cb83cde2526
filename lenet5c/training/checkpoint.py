"""`Checkpoint`: where and when a training is written down."""

import math
import os
from dataclasses import dataclass

from lenet5c._support.checks import number, whole
from lenet5c._support.habits import explained

__all__ = ["Checkpoint", "as_checkpoint"]


@explained
@dataclass(frozen=True)
class Checkpoint:
    """Where and when `fit` writes down how far it is.

    A file is written at the end of each epoch, atomically: whenever the process is
    killed, the newest file there is a whole one.

    Parameters
    ----------
    folder : str or path-like
        Made if it does not exist. One folder for one training.
    every_seconds : float or None
        Write also inside of an epoch, when that long has passed since the last file.
    keep : int
        How many of the newest files stay. The one with the smallest validation loss
        stays as well.

    Examples
    --------
    >>> checkpoint = lenet5c.Checkpoint("run", keep=1)
    >>> fresh = lenet5c.lenet5()
    >>> _ = fresh.fit(images, labels, epochs=2, checkpoint=checkpoint)
    >>> again = lenet5c.lenet5()
    >>> len(again.fit(images, labels, epochs=2, checkpoint=checkpoint, resume=True))
    2
    >>> bool((again.parameter_vector == fresh.parameter_vector).all())
    True
    """

    folder: str | os.PathLike[str]
    every_seconds: float | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, os.PathLike)):
            raise TypeError(f"checkpoint: expected a folder, got {self.folder!r}")
        if self.every_seconds is not None:
            seconds = number("every_seconds", self.every_seconds, 0, math.inf)
            object.__setattr__(self, "every_seconds", seconds)
        object.__setattr__(self, "keep", whole("keep", self.keep, 1))


def as_checkpoint(checkpoint: object) -> Checkpoint:
    """A `Checkpoint` as it is, anything else as its folder."""
    if isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(checkpoint)  # type: ignore[arg-type]
