"""Checkpoints: a killed training goes on as if nothing had happened.

A checkpoint is a file of the model file's container (files/container.py), named after
the number of steps done. Its tensors are the flat vectors of the training: parameters,
the optimizer's state, averages, best weights. Its metadata are `settings`, which a
training that goes on must share, and `state`, where it was (saved.py); both are JSON.
"""

import errno
import json
import os
import platform
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.warn import callers_level
from lenet5c.files.atomic import lock, try_to_write, unlock
from lenet5c.files.container import (
    FileFormatError,
    Form,
    FormatVersionError,
    fields,
    parse_json,
    read_file,
    write_file,
)
from lenet5c.training.callbacks import logger
from lenet5c.training.checkpoint import Checkpoint
from lenet5c.training.saved import Saved, state_text

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CheckpointFolder"]

FORM = Form("lenet5c-checkpoint", "3", 64 << 20)  # 100,000 epochs are 10 MB of history
NAME = re.compile(r"checkpoint-(\d{9}|[1-9]\d{9,})\.safetensors")
LOCK = ".lock"
Check = Callable[[int, Mapping[str, NDArray[np.float32]], str], Saved]


class CheckpointFolder:
    """The checkpoints of one training, which has the folder to itself meanwhile.

    A context: it is left when the training ends. Where the training is when the program
    changes its directory does not matter.

    Parameters
    ----------
    checkpoint : Checkpoint

    Raises
    ------
    OSError
        If nothing can be written there, or another training does: which process.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.every_seconds = checkpoint.every_seconds
        self._folder = Path(checkpoint.folder).absolute()
        self._keep = checkpoint.keep
        self._settings: dict[str, Any] = {}
        self._warned = False
        self._folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "CheckpointFolder":
        # it is written to, but never through a link to a file of another purpose
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self._lock = os.open(self._folder / LOCK, flags, 0o666)
        self._process = os.getpid()
        try:
            self._take()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def _take(self) -> None:
        if lock(self._lock) is False:
            owner = os.read(self._lock, 200).decode(errors="replace")
            raise OSError(
                errno.EBUSY,
                "expected a folder of no other training, got one that is in use by "
                f"{owner or 'another process'}",
                str(self._folder),
            )
        with suppress(OSError):  # for the error above alone
            os.truncate(self._lock, 0)
            name = f"process {self._process} on {platform.node()}"
            os.write(self._lock, name.encode())

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        if os.getpid() == self._process:  # and no child that was forked meanwhile
            unlock(self._lock)
        os.close(self._lock)

    def newest(
        self, settings: Mapping[str, Any], resume: bool, check: Check
    ) -> Saved | None:
        """The newest checkpoint that is not damaged; None if there is none.

        Those that are damaged, for whatever reason, are left out with a line in the
        log, and are called .damaged from then on. If all are, there is a RuntimeWarning
        as well.

        Parameters
        ----------
        settings : mapping
            JSON values by name: what decides the training.
        resume : bool
            Whether there may be checkpoints.
        check : function
            Makes a `Saved` of a step, tensors and text, or raises a FileFormatError.

        Raises
        ------
        ValueError
            If there are checkpoints although `resume` is false, or if the newest is of
            other settings or another version of the format: what differs.
        OSError
            If nothing can be written there.
        """
        self._settings = json.loads(json.dumps(settings))
        steps = self._steps()
        if not resume and steps:
            raise ValueError(
                f"checkpoint: {self._folder} has checkpoints already; expected "
                "resume=True, to go on from them, or another folder"
            )
        try_to_write(self._folder)
        found, damaged = None, []
        for step in reversed(steps):
            path = self._path(step)
            try:
                found = self._read(path, step, check)
                break
            except FormatVersionError as error:
                raise ValueError(f"checkpoint: {error}") from error
            except (OSError, FileFormatError, RecursionError) as error:
                why = str(error).removeprefix(f"{path}: ")
                logger().warning("%s is left out: %s", path, why)
                damaged.append(path)
        if damaged and found is None:
            warnings.warn(
                f"checkpoint: all checkpoints in {self._folder} are damaged; training "
                "starts at the beginning, and they stay, with names in .damaged",
                RuntimeWarning,
                stacklevel=callers_level(),
            )
        for path in damaged:  # out of the way of those that come, and not lost
            with suppress(OSError):
                path.replace(path.with_name(f"{path.name}.damaged"))
        return found

    def write(self, step: int, saved: Saved, best: int | None) -> None:
        """Write a checkpoint and remove those that need not stay.

        If that fails, training goes on: there is a RuntimeWarning, the first time.

        Parameters
        ----------
        step : int
            How many steps were done.
        saved : Saved
            Its tensors are finite.
        best : int or None
            Step of the checkpoint that stays whatever its age.
        """
        metadata = {
            "settings": json.dumps(self._settings),
            "state": state_text(saved),
        }
        try:
            write_file(self._path(step), saved.tensors, metadata, FORM)
            # one of a later step is damaged and could not be renamed
            done = [other for other in self._steps() if other <= step]
            for other in done[: -self._keep]:
                if other != best:
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

    def _read(self, path: Path, step: int, check: Check) -> Saved:
        tensors, metadata = read_file(path, FORM)
        settings, state = fields("metadata", metadata, "settings", "state")
        wrong = self._differences(parse_json("settings", settings))
        if wrong:
            raise ValueError(
                f"checkpoint: {path} is of a training with other settings: "
                + "; ".join(sorted(wrong))
            )
        return check(step, tensors, state)

    def _differences(self, settings: object) -> list[str]:
        """Which settings differ from those of this training."""
        if not isinstance(settings, dict):
            raise FileFormatError(
                f"settings: expected an object, found {settings!r:.80}"
            )
        return [
            f"{name}: expected {settings.get(name)!r:.200}, "
            f"got {self._settings.get(name)!r:.200}"
            for name in settings.keys() | self._settings.keys()
            if settings.get(name) != self._settings.get(name)
        ]
