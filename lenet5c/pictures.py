"""Folders of PNG or JPEG pictures, one folder a class, converted once to one file.

N pictures, C channels, H rows, W columns. The file is an .npy in a cache folder, which
is memory-mapped: the pictures may be more than memory holds. Its name has a hash of the
folder's path and of the pictures' names, sizes and times, so that a change is noticed.
"""

import hashlib
import itertools
import os
import re
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from lenet5c.progress import terminal

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Shown", "class_folders", "load_pictures", "read_picture"]

Shown = Callable[[int, int], object] | Literal[False] | None  # see image_folder

FORMAT = "1"  # of the cache: another one lets all pictures be converted anew
LITTER = {"desktop.ini", "Thumbs.db"}  # and what begins with a dot
HELD_OUT = 6  # one of so many is for testing
ABANDONED = 3600  # seconds after which nobody is writing to a temporary file any more
PICTURES_A_THREAD = 8  # that are converted before the next are begun
SECONDS_BETWEEN_LINES = 10


class _Class(NamedTuple):
    """The pictures of one class."""

    label: str
    folder: Path
    names: list[str]


def load_pictures(
    folder: Path,
    size: tuple[int, int],
    channels: int,
    cache: Path,
    shown: Shown,
    threads: int,
) -> tuple[NDArray[np.uint8], NDArray[np.str_], int]:
    """The pictures of a folder, their classes, and how many of them are to train on.

    Described at `lenet5c.datasets.image_folder`.

    Returns
    -------
    (N, H, W), or (N, 3, H, W) in colour, uint8, memory-mapped and read-only; those to
    train on come first
    (N,) labels, which are strings
    int
    """
    train, test, digest = _listed(folder)
    training = sum(len(of.names) for of in train)
    count = training + sum(len(of.names) for of in test)
    shape = (count, *size) if channels == 1 else (count, channels, *size)
    place = f"{folder.resolve()}\0{shape[1:]}".encode(errors="surrogateescape")
    name = folder.resolve().name
    stem = f"{re.sub('[^0-9A-Za-z_-]', '_', name)[:40]}-{_hex(place)}"
    target = cache / f"{stem}-{digest}.npy"
    images = _mapped(target, shape)
    if images is None:
        with (
            _progress(name, count, shown) as advance,
            closing(_converted([*train, *test], size, channels, threads)) as blocks,
        ):
            images = _write(target, stem, shape, blocks, advance)
    classes = np.array([of.label for of in (*train, *test)])
    labels = np.repeat(classes, [len(of.names) for of in (*train, *test)])
    return images, labels, training


def class_folders(folder: Path) -> list[Path]:
    """The folders in this one, by name."""
    return [Path(entry) for entry in _entries(folder) if entry.is_dir()]


def read_picture(path: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """A picture as (C, H, W) uint8, made as large as fits into `size`, (rows, columns).

    It keeps its aspect, so that one side may be shorter. It is turned as its camera
    says, what is transparent becomes white, 16 bits become 8, and of several pictures
    the first is taken.

    Raises
    ------
    ImportError
        If Pillow is missing.
    ValueError
        If the file holds no picture or is damaged.
    OSError
        If it cannot be read.
    """
    image, operations = _pillow()
    height, width = size
    try:
        with image.open(path) as opened:
            # a JPEG is decoded at an 8th of its size if that is enough
            opened.draft(None, (2 * max(size), 2 * max(size)))
            picture = operations.exif_transpose(opened)
        if picture.mode == "F":
            raise ValueError("8 or 16 bits a pixel expected, got floating ones")
        if picture.mode.startswith("I"):
            values = np.asarray(picture).clip(0, 2**16 - 1) >> 8
            picture = image.fromarray(values.astype(np.uint8))
        if "A" in picture.getbands() or "transparency" in picture.info:
            paper = image.new("RGBA", picture.size, "white")
            picture = image.alpha_composite(paper, picture.convert("RGBA"))
        picture = picture.convert("L" if channels == 1 else "RGB")
        scale = min(width / picture.width, height / picture.height)
        fitting = tuple(max(1, round(side * scale)) for side in picture.size)
        if picture.size != fitting:
            picture = picture.resize(fitting)
        pixels: NDArray[np.uint8] = np.asarray(picture)
    except OSError as error:
        if error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ValueError(_no_picture(path, error)) from error
    # a damaged file makes Pillow raise nearly everything
    except Exception as error:
        raise ValueError(_no_picture(path, error)) from error
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


def _no_picture(path: Path, error: Exception) -> str:
    return f"{path}: expected a PNG or JPEG picture: {error}"


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "pictures need Pillow: pip install 'lenet5c[images]'"
        ) from error
    return Image, ImageOps


def _listed(folder: Path) -> tuple[list[_Class], list[_Class], str]:
    """The pictures to train on, those to test with, and a hash of what they are."""
    digest = hashlib.sha256(FORMAT.encode())
    inside = class_folders(folder)
    names = [path.name for path in inside]
    if "train" not in names or not class_folders(folder / "train"):
        train, test = _hold_out(folder, _classes(folder, inside, digest))
        return train, test, digest.hexdigest()[:32]
    if others := sorted({*names} - {"train", "test"}):
        raise ValueError(
            f"{folder}: expected the folders train and, to test with, test; got "
            f"{', '.join(others)} as well"
        )
    train = _classes(folder / "train", class_folders(folder / "train"), digest)
    if "test" not in names:
        train, test = _hold_out(folder, train)
        return train, test, digest.hexdigest()[:32]
    digest.update(b"test\0")
    folders = class_folders(folder / "test")
    known = {of.label for of in train}
    if unseen := [path.name for path in folders if path.name not in known]:
        raise ValueError(
            f"{folder / 'test'}: expected classes that {folder / 'train'} has, got "
            f"{', '.join(unseen)}"
        )
    test = _classes(folder / "test", folders, digest, least=1)
    return train, test, digest.hexdigest()[:32]


def _classes(
    folder: Path, folders: list[Path], digest: "hashlib._Hash", least: int = 2
) -> list[_Class]:
    """The pictures in these folders; adds what they are to the hash."""
    if len(folders) < least:
        found = ", ".join(path.name for path in folders) or "none"
        raise ValueError(
            f"{folder}: expected {least} folders at least, one for each class, got "
            f"{found}"
        )
    classes = []
    for path in folders:
        try:
            digest.update(path.name.encode() + b"\0\0")
        except UnicodeEncodeError:
            raise ValueError(
                f"{folder}: expected folders with names in UTF-8, got {path.name!r}"
            ) from None
        names = []
        for entry in _entries(path):
            if not entry.is_file():
                raise ValueError(
                    f"{path}: expected pictures, got {entry.name}, which is no file"
                )
            status = entry.stat()
            what = f"{status.st_size} {status.st_mtime_ns}".encode()
            digest.update(os.fsencode(entry.name) + b"\0" + what + b"\0")
            names.append(entry.name)
        if not names:
            raise ValueError(f"{path}: expected pictures, got an empty folder")
        classes.append(_Class(path.name, path, names))
    return classes


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """What the folder holds and is not hidden, by name."""
    with os.scandir(folder) as entries:
        seen = [e for e in entries if e.name[0] != "." and e.name not in LITTER]
    return sorted(seen, key=lambda entry: entry.name)


def _hold_out(folder: Path, classes: list[_Class]) -> tuple[list[_Class], list[_Class]]:
    """The classes without a sixth of each, and these sixths.

    Which pictures these are hangs on a hash of their names: always the same ones, and
    hardly any other when a picture is added.
    """
    train, test = [], []
    for of in classes:
        chance = sorted(of.names, key=lambda name: _hex(os.fsencode(name)))
        count = (len(of.names) + HELD_OUT // 2) // HELD_OUT
        train.append(of._replace(names=sorted(chance[count:])))
        if count:
            test.append(of._replace(names=sorted(chance[:count])))
    if not test:
        raise ValueError(
            f"{folder}: expected {HELD_OUT // 2} pictures of a class at least, one of "
            f"them to test with, got {max(len(of.names) for of in classes)}"
        )
    return train, test


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _converted(
    classes: list[_Class], size: tuple[int, int], channels: int, threads: int
) -> Generator[NDArray[np.uint8], None, None]:
    """All pictures in order, centred on black, some at a time: (n, C, H, W)."""
    from concurrent.futures import ThreadPoolExecutor

    paths = (of.folder / name for of in classes for name in of.names)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(itertools.islice(paths, threads * PICTURES_A_THREAD)):
            block = np.zeros((len(some), channels, *size), np.uint8)
            for image, pixels in zip(
                block,
                pool.map(lambda path: read_picture(path, size, channels), some),
                strict=True,
            ):
                height, width = pixels.shape[1:]
                top, left = (size[0] - height) // 2, (size[1] - width) // 2
                image[:, top : top + height, left : left + width] = pixels
            yield block


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The images of that shape in a file, None if it does not hold them whole."""
    try:
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = images.shape == shape and images.dtype == np.uint8
    return images if whole and images.flags.c_contiguous else None


def _write(
    target: Path,
    stem: str,
    shape: tuple[int, ...],
    blocks: Iterator[NDArray[np.uint8]],
    advance: Callable[[int], object],
) -> NDArray[np.uint8]:
    """Write an .npy file, all or nothing, and map it.

    Those of the same folder as it was before are removed.
    """
    first = next(blocks)  # what is wrong with Pillow or the first pictures comes first
    file, temporary = _new_file(target, stem)
    try:
        with file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            offset = file.tell()
            done = 0
            for block in itertools.chain([first], blocks):
                file.write(block.data)
                done += len(block)
                advance(done)
            file.flush()
            os.fsync(file.fileno())
            # before anyone can replace or remove it
            images = np.memmap(file, np.uint8, "r", offset, shape)
        if temporary is not None:
            os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    for old in target.parent.glob(f"{stem}-*.npy"):
        if temporary is not None and old != target:
            old.unlink(missing_ok=True)
    return images


def _new_file(target: Path, stem: str) -> tuple[IO[bytes], Path | None]:
    """A file to write, and its name; None where the folder lets none be made."""
    temporary = target.with_name(f".{stem}-{secrets.token_hex(8)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in target.parent.glob(f".{stem}-*.tmp"):
            with suppress(FileNotFoundError):  # another process may do the same
                if time.time() - old.stat().st_mtime > ABANDONED:
                    old.unlink()
        return open(temporary, "x+b"), temporary
    except OSError as error:
        warnings.warn(
            f"the pictures are converted to a temporary file, and anew each time: "
            f"{target.parent} cannot be written ({error.strerror})",
            RuntimeWarning,
            stacklevel=5,  # who calls image_folder
        )
        return tempfile.TemporaryFile(), None


@contextmanager
def _progress(name: str, total: int, shown: Shown) -> Iterator[Callable[[int], object]]:
    """A function to tell how many of the pictures are done."""
    if shown is False:
        yield lambda done: None
        return
    if callable(shown):
        yield lambda done: shown(done, total)
        return
    bar = _bar(sys.stderr)
    if bar is None:
        yield _lines(name, total, sys.stderr)
    else:
        with bar:
            task = bar.add_task(f"{name}: converting pictures", total=total)
            yield lambda done: bar.update(task, completed=done)
    sys.stderr.write(f"{name}: {total:,} pictures converted\n")
    sys.stderr.flush()


def _lines(name: str, total: int, stream: TextIO) -> Callable[[int], object]:
    """Progress as a plain line every few seconds."""
    next_line = time.perf_counter() + SECONDS_BETWEEN_LINES

    def advance(done: int) -> None:
        nonlocal next_line
        if time.perf_counter() >= next_line and done < total:
            stream.write(f"{name}: {done:,} of {total:,} pictures converted\n")
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
