"""Images that were converted once: a file of them that is memory-mapped from then on.

N images. The file is an .npy with the images and, behind it, a second one with what is
to be known of them. Its name has a hash of the source's path, and one of what the
source holds, so that a change is noticed.
"""

import hashlib
import itertools
import os
import re
import secrets
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.progress import terminal
from lenet5c._support.warn import callers_level

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Cache", "Converted", "Shown", "progress", "short_hash", "user_cache"]

Shown = Callable[[int, int], object] | Literal[False] | None  # see image_folder

ABANDONED = 3600  # seconds after which nobody is writing to a temporary file any more
SECONDS_BETWEEN_LINES = 10
HEADER = 256  # bytes: the number of images is written into it at the end


class Converted(NamedTuple):
    """What a cache's file holds.

    images : (N, ...) uint8 or float32, memory-mapped and read-only
    beside : array, what is to be known of them
    """

    images: NDArray[Any]
    beside: NDArray[Any]


def user_cache() -> Path:
    """$XDG_CACHE_HOME/lenet5c or ~/.cache/lenet5c; OSError if there is no home."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "lenet5c"
    try:
        return Path.home() / ".cache" / "lenet5c"
    except RuntimeError as error:
        raise FileNotFoundError(
            "there is no home folder, in which files are kept: set HOME or "
            "XDG_CACHE_HOME"
        ) from error


class Cache:
    """The file of one source, in a folder of such files.

    Parameters
    ----------
    folder : Path
    source : Path
        A file or folder; that of the source as it was before is removed.
    variant : str
        What else makes files of the same source different.
    digest : str
        Of what the source holds.
    """

    def __init__(self, folder: Path, source: Path, variant: str, digest: str) -> None:
        path = source.resolve()
        place = f"{path}\0{variant}".encode(errors="surrogateescape")
        name = re.sub("[^0-9A-Za-z_-]", "_", path.name)[:40]
        self._stem = f"{name}-{short_hash(place)}"
        self._target = folder / f"{self._stem}-{digest}.npy"

    def read(self) -> Converted | None:
        """What the file holds, None if there is none or it is damaged."""
        try:
            images = np.load(self._target, mmap_mode="r", allow_pickle=False)
            with open(self._target, "rb") as file:
                file.seek(HEADER + images.nbytes)
                beside = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        known = images.dtype in (np.uint8, np.float32) and images.flags.c_contiguous
        return Converted(images, beside) if known else None

    def write(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        blocks: Iterator[NDArray[Any]],
        beside: Callable[[], NDArray[Any]],
    ) -> Converted:
        """Write the file, all or nothing, and map it.

        Parameters
        ----------
        shape : of an image
        blocks : of images (n, *shape)
        beside : called after the last block, for what is written behind them
        """
        first = next(blocks)  # what is wrong with the source's beginning comes first
        file, temporary = self._new_file()
        count = 0
        try:
            with file:
                file.write(_header((0, *shape), dtype))
                for block in itertools.chain([first], blocks):
                    file.write(block.data)
                    count += len(block)
                known = beside()
                np.save(file, known)
                file.seek(0)
                file.write(_header((count, *shape), dtype))
                file.flush()
                os.fsync(file.fileno())
                # before anyone can replace or remove it
                images = np.memmap(file, dtype, "r", HEADER, (count, *shape))
            if temporary is not None:
                os.replace(temporary, self._target)
        except BaseException as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                raise OSError(error.errno, error.strerror, str(self._target)) from error
            raise
        for old in self._target.parent.glob(f"{self._stem}-*.npy"):
            if temporary is not None and old != self._target:
                old.unlink(missing_ok=True)
        return Converted(images, known)

    def _new_file(self) -> tuple[IO[bytes], Path | None]:
        """A file to write, and its name; None where the folder lets none be made."""
        temporary = self._target.with_name(
            f".{self._stem}-{secrets.token_hex(8)}.tmp",
        )
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            for old in self._target.parent.glob(f".{self._stem}-*.tmp"):
                with suppress(FileNotFoundError):  # another process may do the same
                    if time.time() - old.stat().st_mtime > ABANDONED:
                        old.unlink()
            return open(temporary, "x+b"), temporary
        except OSError as error:
            warnings.warn(
                f"the images are converted to a temporary file, and anew each time: "
                f"{self._target.parent} cannot be written ({error.strerror})",
                RuntimeWarning,
                stacklevel=callers_level(),
            )
            return tempfile.TemporaryFile(), None


def short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """That of an .npy file, of HEADER bytes: numpy.lib.format, version 1.0."""
    fields = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    start = b"\x93NUMPY\1\0"
    text = repr(fields).encode().ljust(HEADER - len(start) - 3) + b"\n"
    return start + struct.pack("<H", len(text)) + text


@contextmanager
def progress(
    name: str,
    total: int,
    what: str,
    shown: Shown,
    doing: str = "converting",
    done: str = "converted",
) -> Iterator[Callable[[int], object]]:
    """A function to tell how many of all, pictures for instance, are done."""
    if shown is False:
        yield lambda done: None
        return
    if callable(shown):
        yield lambda done: shown(done, total)
        return
    bar = _bar(sys.stderr)
    if bar is None:
        yield _lines(name, total, f"{what} {done}", sys.stderr)
    else:
        with bar:
            task = bar.add_task(f"{name}: {doing} {what}", total=total)
            yield lambda count: bar.update(task, completed=count)
    sys.stderr.write(f"{name}: {total:,} {what} {done}\n")
    sys.stderr.flush()


def _lines(name: str, total: int, what: str, stream: TextIO) -> Callable[[int], object]:
    """Progress as a plain line every few seconds."""
    next_line = time.perf_counter() + SECONDS_BETWEEN_LINES

    def advance(done: int) -> None:
        nonlocal next_line
        if time.perf_counter() >= next_line and done < total:
            stream.write(f"{name}: {done:,} of {total:,} {what}\n")
            stream.flush()
            next_line = time.perf_counter() + SECONDS_BETWEEN_LINES

    return advance


def _bar(stream: TextIO) -> "Progress | None":
    """rich's bar, None where it cannot be."""
    console = terminal(stream)
    if console is None:
        return None
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # piped results stay on stdout
    )
