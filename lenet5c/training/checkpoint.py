"""Checkpoint: a killed training goes on as if nothing had happened.

A checkpoint is a file of the model file's container (files/container.py), named after
the number of steps done. Its tensors are the flat vectors of the training: parameters,
the optimizer's state, averages, best weights. Its metadata are `settings`, which a
training that goes on must share, and `state`, where it was; both are JSON, in which
floats are exact.
"""

import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number, whole
from lenet5c._support.habits import explained
from lenet5c.files.atomic import remove_unfinished
from lenet5c.files.container import FileFormatError, Form, read_file, write_file
from lenet5c.training.callbacks import logger

__all__ = ["Checkpoint", "CheckpointFolder", "Saved", "as_checkpoint"]

FORM = Form("lenet5c-checkpoint", "2", 64 << 20)  # 100,000 epochs are 10 MB of history
NAME = re.compile(r"checkpoint-(\d{9,})\.safetensors")


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


class Saved(NamedTuple):
    """What a file holds."""

    step: int
    tensors: dict[str, NDArray[np.float32]]
    state: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one training: made before it begins, then written by it.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : mapping
        JSON values by name: what decides the training.
    resume : bool
        Whether to go on from the newest checkpoint that is not damaged.

    Attributes
    ----------
    found : Saved or None
        That checkpoint.

    Raises
    ------
    ValueError
        If there are checkpoints although `resume` is false, or if the newest is of
        other settings: what differs.
    OSError
        If nothing can be written there.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: Mapping[str, Any], resume: bool
    ) -> None:
        self.every_seconds = checkpoint.every_seconds
        self._folder = Path(checkpoint.folder)
        self._keep = checkpoint.keep
        self._settings = json.loads(json.dumps(settings))
        self._warned = False
        self._damaged: set[int] = set()
        self._folder.mkdir(parents=True, exist_ok=True)
        if not resume and self._steps():
            raise ValueError(
                f"checkpoint: {self._folder} has checkpoints already; expected "
                "resume=True, to go on from them, or another folder"
            )
        remove_unfinished(self._folder)
        self._try_to_write()
        self.found = self._newest()

    def write(
        self,
        step: int,
        tensors: Mapping[str, NDArray[np.float32]],
        state: Mapping[str, Any],
        best: int | None,
    ) -> None:
        """Write a checkpoint and remove those that need not stay.

        If that fails, training goes on: there is a RuntimeWarning, the first time.

        Parameters
        ----------
        step : int
            How many steps were done.
        tensors : mapping of str to float32 array
            Finite values.
        state : mapping
            JSON values by name.
        best : int or None
            Step of the checkpoint that stays whatever its age.
        """
        metadata = {
            "settings": json.dumps(self._settings),
            "state": json.dumps(state),
        }
        filled = {name: vector for name, vector in tensors.items() if vector.size}
        try:
            write_file(self._path(step), filled, metadata, FORM)
            self._damaged.discard(step)
            steps = self._steps()
            good = [other for other in steps if other not in self._damaged]
            for other in steps:
                if other not in good[-self._keep :] and other != best:
                    self._path(other).unlink()
        except OSError as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"checkpoint: {error}; training goes on and tries again",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _path(self, step: int) -> Path:
        return self._folder / f"checkpoint-{step:09}.safetensors"

    def _steps(self) -> list[int]:
        """Of the checkpoints in the folder, in order."""
        names = (NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def _try_to_write(self) -> None:
        """Refuse a folder that is read-only, or a disk that is full, at once."""
        path = self._folder / f".{os.urandom(8).hex()}.tmp"
        try:
            path.write_bytes(bytes(4096))
        finally:
            path.unlink(missing_ok=True)

    def _newest(self) -> Saved | None:
        for step in reversed(self._steps()):
            path = self._path(step)
            try:
                tensors, metadata = read_file(path, FORM)
                settings = json.loads(metadata["settings"])
                state = json.loads(metadata["state"])
            except (FileFormatError, KeyError, ValueError) as error:
                logger().warning("%s is left out: %s", path, error)
                self._damaged.add(step)
                continue
            self._compare(path, settings)
            return Saved(step, tensors, state)
        return None

    def _compare(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Raise a ValueError that says which settings differ."""
        wrong = [
            f"{name}: expected {settings.get(name)!r:.200}, "
            f"got {self._settings.get(name)!r:.200}"
            for name in settings.keys() | self._settings.keys()
            if settings.get(name) != self._settings.get(name)
        ]
        if wrong:
            raise ValueError(
                f"checkpoint: {path} is of a training with other settings: "
                + "; ".join(sorted(wrong))
            )


def as_checkpoint(checkpoint: object) -> Checkpoint:
    """A `Checkpoint` as it is, anything else as its folder."""
    if isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(checkpoint)  # type: ignore[arg-type]
