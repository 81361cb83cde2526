"""Images to learn from: MNIST, Fashion-MNIST, scikit-learn's digits, and your own.

N images, C channels, H rows, W columns. Large files are memory-mapped: the images may
be more than memory holds, and are then read-only.

MNIST and Fashion-MNIST are looked for in the folders `mnist` and `fashion-mnist` of the
environment variable LENET5C_DATA, then in those of the user's cache,
$XDG_CACHE_HOME/lenet5c or ~/.cache/lenet5c, and else downloaded to there.
"""

import difflib
import hashlib
import itertools
import mimetypes
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import pair, truth, whole
from lenet5c._support.habits import choose, explained
from lenet5c._support.threads import resolve_threads
from lenet5c.data.arrays import as_bytes, as_labels, compact, hold_out, planes, taken
from lenet5c.data.caches import Shown, user_cache
from lenet5c.data.idx import GZIP_START, idx_header, read_idx, write_idx
from lenet5c.data.names import named, pick, pick_tables, trains
from lenet5c.data.pictures import class_folders, load_pictures
from lenet5c.data.tables import SUFFIXES, has_labels, read_table
from lenet5c.display import Cell, Displayed, Field, Table, brief, html_of, strip

__all__ = [
    "Dataset",
    "Split",
    "digits",
    "fashion_mnist",
    "find",
    "image_folder",
    "load",
    "load_like",
    "mnist",
    "read_csv",
    "read_idx",
    "read_images",
    "write_idx",
]

TRAINING_IMAGES, TEST_IMAGES = 60_000, 10_000
OPENML_NAMES = {"mnist": "mnist_784", "fashion-mnist": "Fashion-MNIST"}
# by the original files' names, in the order of Dataset; MD5 of the unzipped MNIST
IDX_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
NPY_START = b"\x93NUMPY"
ZIP_START = b"PK"
MAPPED_FROM = 256 << 20  # bytes: a smaller file is loaded, and can then change on disk


MAX_CLASSES_SHOWN = 50
THUMBNAILS = 8  # of a class


class Split(NamedTuple):
    """Images and what they show.

    Attributes
    ----------
    images : (N, H, W) uint8
        Those of your own may also be floats, or of other shapes.
    labels : (N,) int64
        Those of your own may also be strings.

    Examples
    --------
    >>> images, labels = data.test
    >>> images.shape, labels.shape
    ((360, 28, 28), (360,))
    """

    images: NDArray[Any]
    labels: NDArray[Any]

    def __repr__(self) -> str:
        return f"<Split: {brief(self._asdict())}>"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Displayed):
    """Images to train on, others to test with and, where there are, to validate with.

    Notebooks show how many there are of each class, and (with Pillow) the first ones.

    Iterating gives the first two: ``(x, y), (x_test, y_test) = mnist()``.

    Attributes
    ----------
    name : str
    train, test : Split
    validation : Split or None
    files : dict of list of str
        For "train", "test" and "validation" the path of each image in the folder, if
        they were pictures; else empty.

    Examples
    --------
    >>> (images, labels), (test_images, test_labels) = data
    >>> data.name, len(images), len(test_images)
    ('digits', 1437, 360)
    """

    name: str
    train: Split
    test: Split
    validation: Split | None = None
    files: dict[str, list[str]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Split]:
        return iter((self.train, self.test))

    def __repr__(self) -> str:
        counts = (f"{len(split.images):,} {name}" for name, split in self._splits())
        return f"<Dataset {self.name}: {', '.join(counts)} images, {self._size()}>"

    def _splits(self) -> list[tuple[str, Split]]:
        """What there are, by name."""
        three = {"train": self.train, "validation": self.validation, "test": self.test}
        return [(name, split) for name, split in three.items() if split is not None]

    def _size(self) -> str:
        shape = "x".join(map(str, self.train.images.shape[1:]))
        return f"{shape} {self.train.images.dtype}"

    def _names(self) -> list[Any]:
        """The classes, sorted."""
        return sorted(set().union(*(set(s.labels.tolist()) for _, s in self._splits())))

    def _table(self) -> Table:
        return self._counts(())

    def _repr_html_(self) -> str:
        """As a table of the classes with their first training images."""
        images, labels = self.train
        strips = []
        for name in self._names()[:MAX_CLASSES_SHOWN]:
            first = np.flatnonzero(labels == name)[:THUMBNAILS]
            strips.append(strip(images[first], f"images of {name}"))
        return html_of(self._counts(strips if any(strips) else ()))

    def _counts(self, strips: Sequence[str]) -> Table:
        """The table; `strips` are some images of each class as HTML, or nothing."""
        splits, names = self._splits(), self._names()
        columns: list[Field] = ["class", *(name for name, _ in splits)]
        rows: list[list[Field]] = [
            [str(name), *(f"{(s.labels == name).sum():,}" for _, s in splits)]
            for name in names[:MAX_CLASSES_SHOWN]
        ]
        total: list[Field] = ["total", *(f"{len(s.labels):,}" for _, s in splits)]
        if strips:
            columns.insert(1, "the first")
            total.insert(1, "")
            for row, html in zip(rows, strips, strict=True):
                row.insert(1, Cell("", html=html))
        title = f"Dataset {self.name}: {self._size()}"
        if len(names) > MAX_CLASSES_SHOWN:
            title += f", the first {MAX_CLASSES_SHOWN} of {len(names):,} classes"
        return Table(title, columns, rows, total, texts=1 + bool(strips))


@explained
def mnist() -> Dataset:
    """Handwritten digits: 60,000 to train, 10,000 to test, (N, 28, 28) uint8.

    In the order of the original files (LeCun, Cortes and Burges, 1998), against whose
    MD5 they are checked. Downloaded from openml.org, once, if they are nowhere.

    Returns
    -------
    Dataset

    Raises
    ------
    OSError
        If they are nowhere and cannot be downloaded: says what to do.
    ImportError
        If they are nowhere and scikit-learn, which would download them, is missing.
    ValueError
        If a file is damaged or is not MNIST.

    Examples
    --------
    >>> (images, labels), (test_images, test_labels) = lenet5c.datasets.mnist()
    >>> images.shape, test_images.shape
    ((60000, 28, 28), (10000, 28, 28))
    >>> labels[:5].tolist()
    [5, 0, 4, 1, 9]
    """
    return _find_or_download("mnist")


@explained
def fashion_mnist() -> Dataset:
    """Clothes in ten classes, of the same sizes as MNIST (Xiao, Rasul, Vollgraf, 2017).

    Returns
    -------
    Dataset

    Raises
    ------
    OSError, ImportError, ValueError
        As `mnist` does. Only the sizes are checked, not the MD5.

    Examples
    --------
    >>> lenet5c.datasets.fashion_mnist().train.images.shape
    (60000, 28, 28)
    """
    return _find_or_download("fashion-mnist")


@explained
def digits() -> Dataset:
    """scikit-learn's handwritten digits, made to look like MNIST: needs no network.

    1,797 images of 8x8 pixels, 0 to 16 (Alpaydin and Kaynak, 1998), enlarged to 20x20,
    centred in 28x28 and scaled to 0 to 255, (N, 28, 28) uint8. Every fifth image of
    those sorted by label is for testing: 1,437 to train, 360 to test.

    Returns
    -------
    Dataset

    Raises
    ------
    ImportError
        If scikit-learn is missing.

    Examples
    --------
    >>> data = lenet5c.datasets.digits()
    >>> data.train.images.shape, data.test.images.shape
    ((1437, 28, 28), (360, 28, 28))
    """
    bunch = _sklearn_datasets("digits").load_digits()
    images = np.pad(_enlarged(bunch.images.astype(np.int64)), ((0, 0), (4, 4), (4, 4)))
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::5]] = True
    return Dataset(
        "digits",
        Split(images[~test], labels[~test]),
        Split(images[test], labels[test]),
    )


BUILT_IN: dict[str, Callable[[], Dataset]] = {
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "digits": digits,
}


@explained
def load(
    source: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    skip_broken: bool = False,
) -> Dataset:
    """The data set that `source` names.

    Parameters
    ----------
    source : str or path-like
        - "mnist", "fashion-mnist" or "digits";
        - a folder with IDX files, plain or gzipped, .npy files or .npz files of one
          array: images and labels to train on and, if there are, to validate and to
          test with. Names are told by their words, in any case and order: train,
          val or validation, test or t10k; x, images or data; y, labels or target.
          Plain files of more than 256 MiB are memory-mapped. EMNIST's files, which
          have that word in their names, are turned upright;
        - a file FILE.npz with arrays of such names. It is loaded whole;
        - a CSV file, see `read_csv`, or a folder with such for training and for
          testing, such as mnist_train.csv and mnist_test.csv;
        - FOLDER/BEGINNING: of a folder with several sets, that whose file names begin
          so, such as emnist-letters;
        - a folder of pictures, with one folder for each class: see `image_folder`.

        Where there is nothing to test with, a sixth of each class is kept for that,
        chosen by a hash of the images; of memory-mapped images the last sixth, so that
        these should be in random order.
    size, channels, skip_broken
        Of `image_folder`, and for pictures alone.

    Returns
    -------
    Dataset
        Images of your own are (N, H, W), (N, H * W) or (N, C, H, W), uint8 or floating.
        Channels are moved from the end, whole numbers from 0 to 255 become uint8
        (if they are floats, one has to be beyond 1), True becomes 255. Labels are
        int64 or strings; one-hot rows are decoded.

    Raises
    ------
    TypeError, ValueError
        If `source` is nothing of that, or a file does not hold what it should.
    OSError, ImportError
        If a file cannot be read; or see `mnist`, `digits` and `image_folder`.

    Examples
    --------
    >>> lenet5c.datasets.load("digits").name
    'digits'
    >>> np.savez("mine.npz", train_images=images, train_labels=labels)
    >>> mine = lenet5c.datasets.load("mine.npz")  # a sixth is kept to test with
    >>> len(mine.train.images) + len(mine.test.images) == len(images)
    True
    """
    return load_like((28, 1), source, size, channels, skip_broken)


def load_like(
    usual: tuple[int | tuple[int, int], int],
    source: str | os.PathLike[str],
    size: int | tuple[int, int] | None,
    channels: int | None,
    skip_broken: bool,
) -> Dataset:
    """What `load` returns, for those who know what pictures usually are.

    Parameters
    ----------
    usual : (int or (int, int), int)
        The size and the channels of pictures where none are asked for.
    source, size, channels, skip_broken
        As of `load`.

    Returns
    -------
    Dataset

    Examples
    --------
    >>> usual = (28, 1)  # rows and columns, and channels
    >>> lenet5c.datasets.load_like(usual, "digits", None, None, False).name
    'digits'
    """
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: expected a str or a path, got {source!r:.80}")
    path, place = Path(source), os.fspath(source)
    arrays = _load_arrays(path, place if isinstance(source, str) else "")
    if arrays is None:
        return image_folder(
            path,
            size=usual[0] if size is None else size,
            channels=usual[1] if channels is None else channels,
            skip_broken=skip_broken,
        )
    for argument, value in (("size", size), ("channels", channels)):
        if value is not None:
            raise ValueError(
                f"{argument}: expected None, as {place!r} is no folder of pictures, "
                f"got {value!r}"
            )
    return arrays


def _load_arrays(path: Path, name: str) -> Dataset | None:
    """What is no folder of pictures; None if it is one."""
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if path.is_dir():
        return _read_folder(path, path.resolve().name, _files(path))
    lower = path.name.lower()
    if path.is_file() and lower.endswith(".npz"):
        return _read_npz(path)
    if path.is_file() and lower.endswith(SUFFIXES):
        stem = path.name.partition(".")[0]
        images, labels = read_csv(path)
        both = {"images": images, "labels": labels}
        found = {("train", what): (what, array) for what, array in both.items()}
        return _dataset(stem, str(path), found)
    expected = (
        "expected 'mnist', 'fashion-mnist', 'digits', a folder with IDX or CSV files, "
        "one with a folder of pictures for each class, or a file that ends in .npz or "
        ".csv"
    )
    if path.exists():
        raise ValueError(f"source: {expected}, got {str(path)!r}")
    beside = _files(path.parent) if path.parent.is_dir() else []
    begun = [
        file
        for file in beside
        if file.startswith(path.name) and not file[len(path.name)].isalnum()
    ]
    if begun:
        return _read_folder(path.parent, path.name, begun)
    near = [*BUILT_IN] if path.name == str(path) else []
    if path.parent.is_dir():
        near += [entry.name for entry in itertools.islice(path.parent.iterdir(), 999)]
    close = difflib.get_close_matches(lower, near, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise FileNotFoundError(f"source: {str(path)!r} does not exist{hint}; {expected}")


@explained
def image_folder(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] = 28,
    channels: int = 1,
    cache: str | os.PathLike[str] | None = None,
    progress: Shown = None,
    skip_broken: bool = False,
) -> Dataset:
    """Pictures, PNG, JPEG or what else Pillow reads, in one folder for each class.

    They are converted once, to one file that is memory-mapped; the next time that file
    is used, unless a picture's name, size or time has changed. It takes the place of
    that of the folder as it was before.

    Parameters
    ----------
    path : str or path-like
        Holds a folder for each class: its name is the label. Or the folders train and,
        if there are such pictures, val and test, which hold those; training, valid,
        validation and testing will do, in any case. Without test, a sixth of each class
        is kept to test with, chosen by a hash of the pictures' names. Hidden files are
        left out; all others have to be pictures. Files beside the folders are ignored.
    size : int or (int, int)
        Rows and columns. A picture keeps its aspect: it is made as large as fits and
        centred on black, with which the network surrounds it as well.
    channels : int
        1, grey, or 3, red, green and blue.
    cache : path-like or None
        Folder of the file, made if need be; None: `pictures` in the user's cache. If it
        cannot be written to, a temporary file serves, with a RuntimeWarning.
    progress : function, False or None
        Called with the number of pictures converted, and of all. None: a bar on stderr,
        where that is a terminal, and else a line. False: nothing.
    skip_broken : bool
        Leave files out that are broken or no pictures, and name them on stderr.

    Returns
    -------
    Dataset
        (N, H, W) or (N, 3, H, W) uint8, read-only, sorted by label; labels are strings.

    Raises
    ------
    ValueError
        If there are fewer than two classes, an empty one, or files that are broken or
        no pictures: it names them all, up to 20.
    ImportError
        If something has to be converted and Pillow is missing.
    OSError
        If a file cannot be read, or the disk is full. No part of a file stays.

    Examples
    --------
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> for name, brightness in [("cat", 50), ("dog", 200)]:
    ...     Path("pets", name).mkdir(parents=True)
    ...     for k in range(6):
    ...         picture = Image.new("L", (40, 30), brightness + k)
    ...         picture.save(f"pets/{name}/{k}.png")
    >>> pets = lenet5c.datasets.image_folder("pets", cache="cache", progress=False)
    >>> pets.train.images.shape[1:], np.unique(pets.train.labels).tolist()
    ((28, 28), ['cat', 'dog'])
    >>> pets.files["train"][0].startswith("cat/")
    True
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or a path, got {path!r:.80}")
    if whole("channels", channels, 1, 3) == 2:
        raise ValueError("channels: expected 1 or 3, got 2")
    if not (progress is None or progress is False or callable(progress)):
        raise TypeError(
            f"progress: expected a function, False or None, got {progress!r:.80}"
        )
    folder = Path(path)
    parts = load_pictures(
        folder,
        pair("size", size, 1),
        channels,
        user_cache() / "pictures" if cache is None else Path(cache),
        progress,
        resolve_threads(),
        truth("skip_broken", skip_broken),
    )
    splits = {part: Split(of.images, of.labels) for part, of in parts.items()}
    return Dataset(
        folder.resolve().name,
        splits["train"],
        splits["test"],
        splits.get("validation"),
        {part: of.files for part, of in parts.items()},
    )


@explained
def read_csv(
    path: str | os.PathLike[str], labels: bool = True
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The images in a CSV file and their labels: a row for each image.

    The file is plain or gzipped, in UTF-8, its columns are separated by commas,
    semicolons or tabs, with or without a line of their names. It has a column for each
    pixel of a square, in one channel or three, and one for the label: the first or the
    last one, told by its name, else the first, unless that is the same everywhere.
    Columns before it that are named id, index or nothing are left out. A file of more
    than 256 MiB is converted once, to one that is memory-mapped, in the folder `tables`
    of the user's cache.

    Parameters
    ----------
    path : str or path-like
    labels : bool
        False: the file may be without labels.

    Returns
    -------
    images : (N, H, W) or (N, 3, H, W), uint8 or float32
        Of three channels, those of a pixel lie together in the file, r0 g0 b0 r1 g1 b1,
        unless the header or the smoothness of the images tells another order. If the
        name has the word emnist, they are turned upright.
    labels : (N,) int64 or str, or None

    Raises
    ------
    ValueError
        If the file is something else: with the line and column.
    OSError
        If it cannot be read, or a large one not be converted.

    Examples
    --------
    >>> rows = np.column_stack([labels[:2], images[:2].reshape(2, 784)])
    >>> np.savetxt("mine.csv", rows, fmt="%d", delimiter=",")
    >>> found, digits = lenet5c.datasets.read_csv("mine.csv")
    >>> found.shape, digits.tolist()
    ((2, 28, 28), [1, 3])
    """
    file = Path(path)
    images, found = read_table(
        file,
        truth("labels", labels),
        lambda: user_cache() / "tables",
        MAPPED_FROM,
    )
    return _upright(file.name, images), found


def find(name: str) -> Path | None:
    """The folder that holds "mnist" or "fashion-mnist", None if it is nowhere.

    Parameters
    ----------
    name : {"mnist", "fashion-mnist"}

    Returns
    -------
    pathlib.Path or None

    Raises
    ------
    ValueError
        If it is another name.

    Examples
    --------
    >>> folder = lenet5c.datasets.find("mnist")
    >>> folder is None or folder.is_dir()
    True
    """
    choose("name", name, OPENML_NAMES)
    for folder in _folders(name):
        with suppress(ValueError, OSError):
            files = [file for file in _files(folder) if not _is_table(file)]
            if ("test", "images") in pick(str(folder), files):
                return folder
    return None


def _find_or_download(name: str) -> Dataset:
    folder = find(name)
    if folder is not None:
        files = [file for file in _files(folder) if not _is_table(file)]
        data = _read_arrays(folder, name, files)
        _check_original(data, str(folder))
        return data
    from http.client import HTTPException  # slow to import, seldom needed

    cache = user_cache() / name
    otherwise = (
        f"Or put the files {', '.join(IDX_FILES)}, plain or .gz, into {cache}, or into "
        f"a folder {name!r} in the folder that LENET5C_DATA names"
    )
    try:
        data = _download(name, cache)
    except ImportError as error:
        raise ImportError(f"{error}. {otherwise}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise FileNotFoundError(
            f"{name}: could not be downloaded from openml.org: {error!r:.300}. Try "
            f"again when the network is there. {otherwise}"
        ) from error
    return data


def _download(name: str, cache: Path) -> Dataset:
    """Fetch the data set and keep it in the cache folder."""
    sklearn_datasets = _sklearn_datasets(
        f"{name}: is not on this machine; downloading it"
    )
    cache.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one at each attempt; the error says it all
        bunch = sklearn_datasets.fetch_openml(
            OPENML_NAMES[name],
            version=1,
            as_frame=False,
            parser="liac-arff",  # the other one needs pandas
            cache=False,
        )
    images = np.asarray(bunch.data).astype(np.uint8).reshape(-1, 28, 28)
    labels = np.asarray(bunch.target).astype(np.int64)
    first = TRAINING_IMAGES
    data = Dataset(
        name,
        Split(images[:first], labels[:first]),
        Split(images[first:], labels[first:]),
    )
    _check_original(data, "openml.org")
    for file, array in zip(IDX_FILES, (*data.train, *data.test), strict=True):
        write_idx(cache / f"{file}.gz", array.astype(np.uint8))
    return data


def _folders(name: str) -> list[Path]:
    """Where a data set may lie."""
    folders = []
    if chosen := os.environ.get("LENET5C_DATA"):
        folders.append(Path(chosen))
    with suppress(OSError):  # there is no home
        folders.append(user_cache())
    return [folder / name for folder in folders]


def _check_original(data: Dataset, where: str) -> None:
    """Refuse all arrays but MNIST's own; for Fashion-MNIST, those of other sizes."""
    counts = (TRAINING_IMAGES, TRAINING_IMAGES, TEST_IMAGES, TEST_IMAGES)
    arrays = (*data.train, *data.test)
    for (file, md5), array, count in zip(
        IDX_FILES.items(), arrays, counts, strict=True
    ):
        shape = (count, 28, 28) if array.ndim > 1 else (count,)
        if array.shape != shape or array.dtype.kind not in "iu":
            raise ValueError(
                f"{where}: {file}: expected integers of the shape {shape}, got "
                f"{array.dtype} {array.shape}"
            )
        if data.name == "mnist" and (got := _md5(array.astype(np.uint8))) != md5:
            raise ValueError(
                f"{where}: {file}: expected the MD5 {md5} of the unzipped MNIST, got "
                f"{got}. Remove the file, so that it is looked for elsewhere. (Images "
                "of your own are read by load(folder).)"
            )


def _md5(array: NDArray[np.uint8]) -> str:
    """MD5 of the array as an IDX file."""
    content = hashlib.md5(idx_header(array), usedforsecurity=False)
    content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _sklearn_datasets(what: str) -> Any:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ImportError(
            f"{what} needs scikit-learn: pip install 'lenet5c[sklearn]'"
        ) from error
    return sklearn.datasets


def _enlarged(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """y = B x B^T: bilinear interpolation with pixel centres at (i + 1/2) 8/20 - 1/2

    images  (N, 8, 8)   0 to 16
    B       (20, 8)     in 40ths: whole numbers, so the same on every machine
    y       (N, 20, 20) 0 to 255, rounded
    """
    rows = np.arange(20)
    left, part = np.divmod(np.clip((2 * rows + 1) * 8 - 20, 0, 7 * 40), 40)
    weights = np.zeros((20, 8), np.int64)
    weights[rows, left] = 40 - part
    weights[rows, np.minimum(left + 1, 7)] += part
    sums = weights @ images @ weights.T
    most = 16 * 40 * 40
    return ((sums * 255 + most // 2) // most).astype(np.uint8)


def _files(folder: Path) -> list[str]:
    """The files in a folder whose names may be of arrays or tables.

    And those in folders of such names, train-images-idx3-ubyte/train-images-idx3-ubyte,
    for which there is no file beside these folders.
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    files = [entry.name for entry in found if entry.is_file() and _may_be(entry.name)]
    known = {named(file) for file in files}
    for entry in found:
        if entry.is_dir() and any(named(entry.name).key):
            for file in sorted(Path(entry).iterdir()):
                path = f"{entry.name}/{file.name}"
                if _may_be(file.name) and named(path) not in known and file.is_file():
                    files.append(path)
    return files


def _may_be(name: str) -> bool:
    """Whether a file of that name may be a table of a part, or images, or labels."""
    part, what, _ = named(name)
    if _is_table(name):
        return bool(part) and what != "labels"
    end = Path(name.lower().removesuffix(".gz")).suffix
    return bool(what) and (end in ("", ".npy", ".npz") or end[:4] in (".idx", ".uby"))


def _is_table(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _read_folder(folder: Path, name: str, files: list[str]) -> Dataset | None:
    """Arrays, pictures, which is None, or tables: whatever of these it has first."""
    tables = [file for file in files if _is_table(file)]
    arrays = [file for file in files if not _is_table(file)]
    pictures = _has_pictures(folder)
    if trains(arrays) or (arrays and not pictures and not tables):
        return _read_arrays(folder, name, arrays)
    if tables and not pictures:
        return _read_tables(folder, name, tables)
    if pictures or class_folders(folder):
        return None
    pick(str(folder), [], os.listdir(folder))  # says what is missing
    return None


def _has_pictures(folder: Path) -> bool:
    """Whether a folder inside this one, or inside one of these, holds a picture."""

    def some(inside: Path) -> bool:
        with os.scandir(inside) as entries:
            kinds = (mimetypes.guess_type(entry.name)[0] for entry in entries)
            return any(kind and kind.startswith("image/") for kind in kinds)

    inside = class_folders(folder)
    deeper = (each for folder in inside for each in class_folders(folder))
    return any(map(some, itertools.chain(inside, deeper)))


def _read_arrays(folder: Path, name: str, files: list[str]) -> Dataset:
    return _dataset(
        name,
        str(folder),
        {
            key: (file, _read_array(folder / file, key[1] == "images"))
            for key, file in pick(str(folder), files).items()
        },
    )


def read_images(path: str | os.PathLike[str]) -> NDArray[Any] | None:
    """The images in an IDX, .npy, .npz or CSV file, as they are there but upright.

    Of an .npz those to test with, or else the first ones.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    array or None
        None if it is none of these files.

    Raises
    ------
    ValueError
        If the file is damaged or holds something else.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> np.save("mine.npy", images[:3])
    >>> lenet5c.datasets.read_images("mine.npy").shape
    (3, 28, 28)
    """
    place = Path(path)
    if place.name.lower().endswith(SUFFIXES):
        return read_csv(place, labels=False)[0]
    with open(place, "rb") as file:
        start = file.read(len(NPY_START))
    if not start.startswith((NPY_START, ZIP_START, GZIP_START, b"\0\0")):
        return None
    if start.startswith(ZIP_START):
        with _opened(place) as archive:
            names = {named(key).key: key for key in reversed(archive.files)}
            parts = ("test", "", "validation", "train")
            of_images = [names[p, "images"] for p in parts if (p, "images") in names]
            if len(archive.files) != 1 and not of_images:
                raise ValueError(f"{place}: expected images, got {archive.files}")
            return np.asarray(archive[[*of_images, *archive.files][0]])
    return _read_array(place, images=True)


def _read_array(path: Path, images: bool) -> NDArray[Any]:
    """The array in an IDX, .npy or .npz file; a map of it if it is large and plain."""
    with open(path, "rb") as file:
        start = file.read(len(NPY_START))
        large = os.fstat(file.fileno()).st_size >= MAPPED_FROM
    if start.startswith(ZIP_START):
        with _opened(path) as archive:
            if len(archive.files) != 1:
                raise ValueError(f"expected one array, got {archive.files}")
            return np.asarray(archive[archive.files[0]])
    if start != NPY_START:
        array = read_idx(path, mmap=large and not start.startswith(GZIP_START))
        return _upright(path.name, array) if images else array
    try:
        loaded: NDArray[Any] = np.load(
            path, mmap_mode="r" if large else None, allow_pickle=False
        )
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: {error}") from error
    return loaded


def _upright(name: str, images: NDArray[Any]) -> NDArray[Any]:
    """EMNIST's files hold each image transposed (Cohen et al., 2017)."""
    if "emnist" not in named(name).of.split() or images.ndim < 3:
        return images
    return compact(np.swapaxes(images, -1, -2))


def _read_npz(path: Path) -> Dataset:
    with _opened(path) as archive:
        names = list(archive.files)
    chosen = pick(str(path), names)
    with _opened(path) as archive:
        # a member that is no array comes as bytes
        found = {key: (name, np.asarray(archive[name])) for key, name in chosen.items()}
    return _dataset(path.stem, str(path), found)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An .npz file."""
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                yield archive
        # zipfile, zlib and NumPy have no common error for a file that is damaged
        except Exception as error:
            raise ValueError(f"{path}: expected an .npz file: {error}") from error


def _read_tables(folder: Path, name: str, files: list[str]) -> Dataset:
    """The data set of CSV files, by whose names the parts are told."""
    found = {}
    for (part, _), file in pick_tables(str(folder), files).items():
        path = folder / file
        if part != "train" and not has_labels(path):
            sys.stderr.write(f"{path}: left out, as it has no labels\n")
            sys.stderr.flush()
            continue
        for what, array in zip(("images", "labels"), read_csv(path), strict=True):
            found[part, what] = (file, array)
    return _dataset(name, str(folder), found)


def _dataset(
    name: str, where: str, found: dict[tuple[str, str], tuple[str, Any]]
) -> Dataset:
    """The data set of these images and labels, by part and what: name and array.

    Where there are none to test with, some are kept for that.
    """
    parts = [part for part, what in found if what == "images"]
    names = {part: found[part, "images"][0] for part in parts}
    images = as_bytes(
        where,
        {name: planes(where, *found[part, "images"]) for part, name in names.items()},
    )
    splits = {}
    like = images[names["train"]]
    for part in sorted(parts, key=["train", "validation", "test"].index):
        some, (y, labels) = images[names[part]], found[part, "labels"]
        if some.shape[1:] != like.shape[1:] or some.dtype.kind != like.dtype.kind:
            raise ValueError(
                f"{where}: {names[part]}: expected {like.dtype} images of the shape "
                f"{like.shape[1:]}, like {names['train']}, got {some.dtype} "
                f"{some.shape[1:]}"
            )
        splits[part] = Split(some, as_labels(where, y, labels, len(some)))
    if "test" not in splits:
        rest, test = hold_out(where, *splits["train"])
        all_of = splits["train"]
        for part, chosen in (("train", rest), ("test", test)):
            splits[part] = Split(taken(all_of.images, chosen), all_of.labels[chosen])
    return Dataset(name, splits["train"], splits["test"], splits.get("validation"))
