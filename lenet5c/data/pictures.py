"""Folders of PNG or JPEG pictures, one folder a class, converted once to one file; and
`prepare` and `prepare_many`, which make the photograph of a sign, or of several, look
as in MNIST.

N pictures, C channels, H rows, W columns. The file is kept as `caches` says:
the pictures may be more than memory holds.
"""

import hashlib
import itertools
import os
import sys
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.text import listing
from lenet5c.data.arrays import HELD_OUT
from lenet5c.data.caches import Cache, Converted, Shown, progress, short_hash
from lenet5c.data.names import named
from lenet5c.data.prepare import (
    NothingFound,
    Sign,
    pillow_modules,
    prepare,
    prepare_many,
)

__all__ = [
    "NothingFound",
    "Sign",
    "prepare",
    "prepare_many",
    "read_picture",
]

FORMAT = "2"  # of the cache: another one lets all pictures be converted anew
LITTER = {"desktop.ini", "Thumbs.db", "__MACOSX"}  # and what begins with a dot
PICTURES_A_THREAD = 8  # that are converted before the next are begun


class _Class(NamedTuple):
    """The pictures of one class."""

    label: str
    folder: Path
    names: list[str]


_Parts = dict[str, list[_Class]]  # train, validation, test, in this order


class Pictures(NamedTuple):
    """Those of one part.

    Attributes
    ----------
    images : (N, H, W), or (N, 3, H, W) in colour, uint8
        Memory-mapped and read-only.
    labels : (N,) strings
    files : list of N paths in the folder
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.str_]
    files: list[str]


def load_pictures(
    folder: Path,
    size: tuple[int, int],
    channels: int,
    cache: Path,
    shown: Shown,
    threads: int,
    skip_broken: bool = False,
) -> dict[str, Pictures]:
    """The pictures of a folder by part: train, test and, if it has them, validation.

    More is said at `lenet5c.datasets.image_folder`.

    Parameters
    ----------
    folder : Path
    size : (int, int)
        Rows and columns.
    channels : int
        1 or 3.
    cache : Path
        The folder of the file that they are converted to.
    shown : function, False or None
        Its `progress`.
    threads : int
    skip_broken : bool

    Returns
    -------
    dict of str to Pictures
    """
    parts, digest = _listed(folder)
    shape = size if channels == 1 else (channels, *size)
    files = {
        part: [
            f"{place}/{name}"
            for of in classes
            for place in [of.folder.relative_to(folder).as_posix()]
            for name in of.names
        ]
        for part, classes in parts.items()
    }
    listed = [*itertools.chain(*files.values())]
    file = Cache(cache, folder, str(shape), digest)
    found = file.read()
    if found is None or not _usable(found, shape, len(listed), skip_broken):
        found = _convert(folder, listed, shape, file, shown, threads, skip_broken)
    elif shown is not False and not found.beside.all():
        _tell_left_out(folder, listed, found.beside)
    return _by_part(folder, parts, files, found)


def _usable(
    found: Converted, shape: tuple[int, ...], count: int, skip_broken: bool
) -> bool:
    """Whether a cache's file is whole, and has all pictures if it should."""
    images, kept = found
    whole = kept.shape == (count,) and kept.dtype == bool
    return (
        whole
        and images.shape == (kept.sum(), *shape)
        and images.dtype == np.uint8
        and (skip_broken or bool(kept.all()))
    )


def _convert(
    folder: Path,
    files: list[str],
    shape: tuple[int, ...],
    file: Cache,
    shown: Shown,
    threads: int,
    skip_broken: bool,
) -> Converted:
    """Write the cache's file: the images, and (count,) bool which files are in it."""
    broken: dict[int, str] = {}

    def kept() -> NDArray[np.bool_]:
        if broken and not skip_broken:
            raise ValueError(_broken(folder, files, broken))
        if len(broken) == len(files):
            raise ValueError(f"{folder}: expected pictures, all files are broken")
        good = np.ones(len(files), bool)
        good[list(broken)] = False
        return good

    name = folder.resolve().name
    with (
        progress(name, len(files), "pictures", shown) as advance,
        closing(_converted(folder, files, shape, threads, broken, advance)) as blocks,
    ):
        found = file.write(shape, np.uint8, blocks, kept)
    if broken and shown is not False:
        _tell_left_out(folder, files, found.beside)
    return found


def _by_part(
    folder: Path, parts: _Parts, files: dict[str, list[str]], found: Converted
) -> dict[str, Pictures]:
    """The images, labels and files that are kept of each part."""
    images, kept = found
    longest = max(len(of.label) for classes in parts.values() for of in classes)
    result: dict[str, Pictures] = {}
    listed = taken = 0
    for part, classes in parts.items():
        good = kept[listed : listed + len(files[part])]
        names = np.array([of.label for of in classes], f"U{longest}")
        labels = np.repeat(names, [len(of.names) for of in classes])[good]
        count = len(labels)
        lost = set(names.tolist()) - set(labels.tolist()) if part == "train" else set()
        if lost or not count:
            raise ValueError(
                f"{folder}: expected pictures for the part {part}, all are broken of "
                f"{', '.join(sorted(lost)) or 'all classes'}"
            )
        result[part] = Pictures(
            images[taken : taken + count],
            labels,
            list(itertools.compress(files[part], good.tolist())),
        )
        listed, taken = listed + len(good), taken + count
    return result


def _broken(folder: Path, files: list[str], broken: dict[int, str]) -> str:
    first = next(iter(broken.values()))
    if len(broken) == 1:
        return f"{first}. skip_broken leaves it out"
    return (
        f"{folder}: {len(broken)} of {len(files):,} files are broken or no pictures: "
        f"{listing(files[number] for number in broken)}. The first one: {first}. "
        "skip_broken leaves them out"
    )


def _tell_left_out(folder: Path, files: list[str], kept: NDArray[np.bool_]) -> None:
    broken = [files[number] for number in np.flatnonzero(~kept)]
    sys.stderr.write(
        f"{folder.resolve().name}: {len(broken):,} of {len(files):,} files left out, "
        f"broken or no pictures: {listing(broken)}\n"
    )
    sys.stderr.flush()


def class_folders(folder: Path) -> list[Path]:
    """The folders in this one, by name; hidden ones are left out.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of Path
    """
    return [Path(entry) for entry in _entries(folder) if entry.is_dir()]


def read_picture(path: Any, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """A picture as (C, H, W) uint8, made as large as fits into `size`, (rows, columns).

    It keeps its aspect, so that one side may be shorter. It is turned as its camera
    says, and of several pictures the first is taken. Of more than 8 bits, the darkest
    pixel becomes 0 and the lightest 255. What is transparent becomes white; or black,
    if that is most of the picture and what is drawn on it is light.

    Parameters
    ----------
    path : Path, or picture of Pillow
    size : (int, int)
    channels : int
        1 or 3.

    Returns
    -------
    (C, H, W) uint8

    Raises
    ------
    ImportError
        If Pillow is missing.
    ValueError
        If the file holds no picture or is damaged.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> Image.new("RGB", (40, 30), "white").save("white.png")
    >>> lenet5c.pictures.read_picture(Path("white.png"), (28, 28), 1).shape
    (1, 21, 28)
    """
    image, operations = pillow_modules()
    height, width = size
    try:
        given = isinstance(path, image.Image)
        with nullcontext(path) if given else image.open(path) as opened:
            # a JPEG is decoded at an 8th of its size if that is enough
            opened.draft(None, (2 * max(size), 2 * max(size)))
            picture = operations.exif_transpose(opened)
        if picture.mode[0] in "IF":
            picture = image.fromarray(_stretched(np.asarray(picture, np.float64)))
        if "A" in picture.getbands() or "transparency" in picture.info:
            drawn = picture.convert("RGBA")
            paper = image.new("RGBA", drawn.size, _paper(drawn))
            picture = image.alpha_composite(paper, drawn)
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


def _stretched(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """y = 255 (x - least) / (most - least), rounded; 0 if all are equal"""
    least, most = values.min(), values.max()
    if not np.isfinite(most - least):
        raise ValueError("finite pixels expected, got a NaN or an infinity")
    scale = 255 / (most - least) if most > least else 0.0
    levels: NDArray[np.uint8] = ((values - least) * scale + 0.5).astype(np.uint8)
    return levels


def _paper(drawn: Any) -> str:
    """The colour on which an RGBA picture can be seen."""
    grey = np.asarray(drawn.convert("RGB").convert("L"), np.float64)
    alpha = np.asarray(drawn.getchannel("A"), np.float64) / 255
    light = (grey * alpha).sum() > 127.5 * alpha.sum()
    return "black" if light and alpha.mean() < 0.5 else "white"


def _no_picture(path: Any, error: Exception) -> str:
    return f"{path}: expected a PNG or JPEG picture: {error}"


def _listed(folder: Path) -> tuple[_Parts, str]:
    """The pictures of each part, and a hash of what they are."""
    digest = hashlib.sha256(FORMAT.encode())
    inside = class_folders(folder)
    given: dict[str, Path] = {}
    others = []
    for path in inside:
        name = named(path.name)
        part = "" if name.what or name.of else name.part
        if not part or part in given:
            others.append(path.name)
        else:
            given[part] = path
    if "train" not in given or not class_folders(given["train"]):
        train, test = _hold_out(folder, _classes(folder, inside, digest))
        return {"train": train, "test": test}, digest.hexdigest()[:32]
    if others:
        raise ValueError(
            f"{folder}: expected the folders train and, if there are such pictures, "
            f"val and test, each once; got {', '.join(others)} as well"
        )
    parts = {}
    for part in ("train", "validation", "test"):
        if part in given:
            digest.update(f"{part}\0".encode())
            folders = class_folders(given[part])
            least = 2 if part == "train" else 1
            parts[part] = _classes(given[part], folders, digest, least)
    known = {of.label for of in parts["train"]}
    for part, classes in parts.items():
        if unseen := [of.label for of in classes if of.label not in known]:
            raise ValueError(
                f"{given[part]}: expected classes that {given['train']} has, got "
                f"{', '.join(unseen)}"
            )
    if "test" not in parts:
        parts["train"], parts["test"] = _hold_out(folder, parts["train"])
    return parts, digest.hexdigest()[:32]


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
            dangling = entry.is_symlink() and not os.path.exists(entry.path)
            if not entry.is_file() and not dangling:
                raise ValueError(
                    f"{path}: expected pictures, got {entry.name}, which is no file"
                )
            status = entry.stat(follow_symlinks=not dangling)
            what = f"{status.st_size} {status.st_mtime_ns}".encode()
            digest.update(os.fsencode(entry.name) + b"\0" + what + b"\0")
            names.append(entry.name)
        if not names:
            raise ValueError(f"{path}: expected pictures, got an empty folder")
        classes.append(_Class(path.name, path, names))
    return classes


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """All files in a folder and the folders in it that are not hidden, by name.

    Parameters
    ----------
    folder : Path
    above : tuple of Path
        A link to one of these folders leads nowhere.

    Returns
    -------
    list of Path
    """
    above = (*above, folder.resolve())
    found = []
    for entry in _entries(folder):
        path = folder / entry.name
        if not entry.is_dir():
            found.append(path)
        elif path.resolve() not in above:
            found += files_below(path, above)
    return found


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
        chance = sorted(of.names, key=lambda name: short_hash(os.fsencode(name)))
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


def _converted(
    folder: Path,
    files: list[str],
    shape: tuple[int, ...],
    threads: int,
    broken: dict[int, str],
    advance: Callable[[int], object],
) -> Generator[NDArray[np.uint8], None, None]:
    """All pictures in order, centred on black, some at a time: (n, *shape).

    Those that are broken are left out; `broken` gets their positions and what is wrong
    with the first one.
    """
    from concurrent.futures import ThreadPoolExecutor

    height, width = shape[-2:]
    channels = shape[0] if len(shape) == 3 else 1

    def read(file: str) -> NDArray[np.uint8] | str:
        try:
            return read_picture(folder / file, (height, width), channels)
        except FileNotFoundError:  # a link to what is gone
            return f"{folder / file}: no such file"
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        step = threads * PICTURES_A_THREAD
        for start in range(0, len(files), step):
            block = np.zeros((step, channels, height, width), np.uint8)
            count = 0
            some = files[start : start + step]
            for number, pixels in enumerate(pool.map(read, some), start):
                if isinstance(pixels, str):
                    broken[number] = "" if broken else pixels
                    continue
                rows, columns = pixels.shape[1:]
                top, left = (height - rows) // 2, (width - columns) // 2
                block[count, :, top : top + rows, left : left + columns] = pixels
                count += 1
            yield block[:count].reshape(count, *shape)
            advance(start + len(some))
