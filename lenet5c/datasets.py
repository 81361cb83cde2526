"""Images to learn from: MNIST, Fashion-MNIST, scikit-learn's digits, and your own.

N images, C channels, H rows, W columns. Large files are memory-mapped: the images may
be more than memory holds, and are then read-only.

MNIST and Fashion-MNIST are looked for in the folders `mnist` and `fashion-mnist` of the
environment variable LENET5C_DATA, then in those of the user's cache,
$XDG_CACHE_HOME/lenet5c or ~/.cache/lenet5c, and else downloaded to there.
"""

import gzip
import hashlib
import io
import math
import os
import secrets
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c.checks import pair, whole
from lenet5c.pictures import Shown, class_folders, load_pictures
from lenet5c.threads import resolve_threads

__all__ = [
    "Dataset",
    "Split",
    "digits",
    "fashion_mnist",
    "find",
    "image_folder",
    "load",
    "mnist",
    "read_idx",
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
# http://yann.lecun.com/exdb/mnist, "The IDX file format"
IDX_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
GZIP_START = b"\x1f\x8b"
NPY_START = b"\x93NUMPY"
CHUNK = 1 << 20
MAPPED_FROM = 256 << 20  # bytes: a smaller file is loaded, and can then change on disk


class Split(NamedTuple):
    """Images and what they show.

    images : (N, H, W) uint8; those of your own may also be floats, or of other shapes
    labels : (N,) int64; those of your own may also be strings
    """

    images: NDArray[Any]
    labels: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on, and others to test with."""

    name: str
    train: Split
    test: Split


def mnist() -> Dataset:
    """Handwritten digits: 60,000 to train, 10,000 to test, (N, 28, 28) uint8.

    In the order of the original files (LeCun, Cortes and Burges, 1998), against whose
    MD5 they are checked. Downloaded from openml.org, once, if they are nowhere.

    Raises
    ------
    OSError
        If they are nowhere and cannot be downloaded: says what to do.
    ImportError
        If they are nowhere and scikit-learn, which would download them, is missing.
    ValueError
        If a file is damaged or is not MNIST.
    """
    return _find_or_download("mnist")


def fashion_mnist() -> Dataset:
    """Clothes in ten classes, of the same sizes as MNIST (Xiao, Rasul, Vollgraf, 2017).

    Raises
    ------
    OSError, ImportError, ValueError
        As `mnist` does. Only the sizes are checked, not the MD5.
    """
    return _find_or_download("fashion-mnist")


def digits() -> Dataset:
    """scikit-learn's handwritten digits, made to look like MNIST: needs no network.

    1,797 images of 8x8 pixels, 0 to 16 (Alpaydin and Kaynak, 1998), enlarged to 20x20,
    centred in 28x28 and scaled to 0 to 255, (N, 28, 28) uint8. Every fifth image of
    those sorted by label is for testing: 1,437 to train, 360 to test.

    Raises
    ------
    ImportError
        If scikit-learn is missing.
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


def load(source: str | os.PathLike[str]) -> Dataset:
    """The data set that `source` names.

    Parameters
    ----------
    source : str or path-like
        - "mnist", "fashion-mnist" or "digits";
        - a folder with IDX files, plain or gzipped, or .npy files: train-images*,
          train-labels* and, to test with, t10k-images*, t10k-labels* or test-images*,
          test-labels*. Images of more than 256 MiB in a plain file are memory-mapped;
        - a file FILE.npz with the arrays x_train, y_train and, to test with, x_test,
          y_test; or with images, labels. It is loaded whole;
        - a folder of pictures, with one folder for each class: see `image_folder`.

        Where there is nothing to test with, the last fifth of the images in arrays is
        kept for that. So they should be in random order.

    Returns
    -------
    Dataset
        Images of your own are (N, H, W), (N, H * W) or (N, C, H, W), uint8 or floating.

    Raises
    ------
    TypeError, ValueError
        If `source` is nothing of that, or a file does not hold what it should.
    OSError, ImportError
        If a file cannot be read; or see `mnist`, `digits` and `image_folder`.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source: expected a str or a path, got {source!r:.80}")
    built_in = {"mnist": mnist, "fashion-mnist": fashion_mnist, "digits": digits}
    if isinstance(source, str) and source in built_in:
        return built_in[source]()
    path = Path(source)
    if path.is_dir():
        if not any(_array_files(path)) and class_folders(path):
            return image_folder(path)
        return _read_folder(path, path.resolve().name)
    if path.suffix == ".npz":
        return _read_npz(path)
    raise ValueError(
        "source: expected 'mnist', 'fashion-mnist', 'digits', a folder with IDX files, "
        "one with a folder of pictures for each class, or a file that ends in .npz, "
        f"got {os.fspath(source)!r}"
    )


def image_folder(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] = 28,
    channels: int = 1,
    cache: str | os.PathLike[str] | None = None,
    progress: Shown = None,
) -> Dataset:
    """Pictures, PNG, JPEG or what else Pillow reads, in one folder for each class.

    They are converted once, to one file that is memory-mapped; the next time that file
    is used, unless a picture's name, size or time has changed. It takes the place of
    that of the folder as it was before.

    Parameters
    ----------
    path : str or path-like
        Holds a folder for each class: its name is the label. Or the folders train and
        test, which hold those. Without test, a sixth of each class is kept to test
        with, chosen by a hash of the pictures' names. Hidden files are left out; all
        others have to be pictures. Files beside the folders are ignored.
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

    Returns
    -------
    Dataset
        (N, H, W) or (N, 3, H, W) uint8, read-only, sorted by label; labels are strings.

    Raises
    ------
    ValueError
        If there are fewer than two classes, an empty one, or a file that is no picture.
    ImportError
        If something has to be converted and Pillow is missing.
    OSError
        If a file cannot be read, or the disk is full. No part of a file stays.
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
    images, labels, training = load_pictures(
        folder,
        pair("size", size, 1),
        channels,
        _user_cache() / "pictures" if cache is None else Path(cache),
        progress,
        resolve_threads(),
    )
    return Dataset(
        folder.resolve().name,
        Split(images[:training], labels[:training]),
        Split(images[training:], labels[training:]),
    )


def find(name: str) -> Path | None:
    """The folder that holds "mnist" or "fashion-mnist", None if it is nowhere."""
    for folder in _folders(name):
        if all(_array_files(folder)):
            return folder
    return None


def read_idx(path: str | os.PathLike[str], mmap: bool = False) -> NDArray[Any]:
    """The array in an IDX file, plain or gzipped.

    A file that declares more than it holds takes no more memory than what it holds.

    Parameters
    ----------
    mmap : bool
        Map the file instead of loading it: for images that are more than memory holds.
        It must not be written to meanwhile. (A file that `write_idx` puts in its place
        does no harm.)

    Returns
    -------
    array
        uint8, int8, int16, int32, float32 or float64, in this machine's byte order. A
        map is read-only and big-endian, as the file is.

    Raises
    ------
    ValueError
        If the file is no IDX file, is damaged, truncated or too long; or is gzipped,
        and so cannot be mapped.
    OSError
        If it cannot be read.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        zipped = file.peek(len(GZIP_START)).startswith(GZIP_START)
        try:
            if mmap and zipped:
                raise ValueError("expected a plain file to map, got a gzipped one")
            if mmap:
                return _map_idx(file)
            if not zipped:
                return _read_idx(file)
            with gzip.open(file) as unzipped:
                return _read_idx(unzipped)
        except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{name}: {error}") from error


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, all or nothing; gzipped if the name ends in .gz.

    Raises
    ------
    TypeError
        If the array is of a dtype that IDX does not have.
    ValueError
        If it has no dimension, more than 255, or one beyond 2**32 - 1.
    OSError
        If the file cannot be written.
    """
    header = _idx_header(array)
    content = np.ascontiguousarray(array, IDX_TYPES[header[2]]).reshape(-1)
    target = Path(path)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if target.suffix == ".gz":
                # without name and time, the same array gives the same file
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped:
                    zipped.write(header)
                    zipped.write(content.view(np.uint8).data)
            else:
                file.write(header)
                file.write(content.view(np.uint8).data)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_idx(file: io.BufferedReader | gzip.GzipFile) -> NDArray[Any]:
    dtype, shape, expected = _read_idx_header(file)
    content = bytearray()
    while chunk := file.read(min(CHUNK, expected - len(content))):
        content += chunk
    # a byte more tells that there are more
    _check_length(dtype, shape, expected, len(content) + len(file.read(1)))
    array: NDArray[Any] = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _map_idx(file: io.BufferedReader) -> NDArray[Any]:
    dtype, shape, expected = _read_idx_header(file)
    offset = file.tell()
    # a map beyond the file's end would end the process when it is read
    held = os.fstat(file.fileno()).st_size - offset
    _check_length(dtype, shape, expected, held)
    return np.memmap(file, dtype, "r", offset, shape)


def _read_idx_header(
    file: io.BufferedReader | gzip.GzipFile,
) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """The dtype and shape of the elements, and how many bytes they are."""
    start = file.read(4)
    if (
        len(start) < 4
        or start[:2] != b"\0\0"
        or start[2] not in IDX_TYPES
        or not start[3]
    ):
        raise ValueError(
            "expected an IDX file, which starts with two zeros, the type (8, 9, 11, "
            f"12, 13 or 14) and the number of dimensions, got {start!r}"
        )
    dtype, dimensions = IDX_TYPES[start[2]], start[3]
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(f"truncated: expected the sizes of {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", sizes)
    return dtype, shape, math.prod(shape) * dtype.itemsize


def _check_length(
    dtype: np.dtype[Any], shape: tuple[int, ...], expected: int, held: int
) -> None:
    what = f"{expected} bytes for the shape {shape} of {dtype.name}"
    if held < expected:
        raise ValueError(f"truncated: expected {what}, got {held}")
    if held > expected:
        raise ValueError(f"expected {what}, got more")


def _idx_header(array: NDArray[Any]) -> bytes:
    """What precedes the elements of the array in an IDX file."""
    codes = [
        code for code, dtype in IDX_TYPES.items() if dtype.name == array.dtype.name
    ]
    if not codes:
        names = ", ".join(dtype.name for dtype in IDX_TYPES.values())
        raise TypeError(f"array: expected one of {names}, got {array.dtype}")
    if not 1 <= array.ndim <= 255 or max(array.shape) >= 2**32:
        raise ValueError(
            "array: expected 1 to 255 dimensions, each below 2**32, "
            f"got the shape {array.shape}"
        )
    return struct.pack(f">HBB{array.ndim}I", 0, codes[0], array.ndim, *array.shape)


def _find_or_download(name: str) -> Dataset:
    folder = find(name)
    if folder is not None:
        data = _read_folder(folder, name)
        _check_original(data, str(folder))
        return data
    from http.client import HTTPException  # slow to import, seldom needed

    cache = _folders(name)[-1]
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
    """Where a data set may lie; the last one is the user's cache."""
    chosen = os.environ.get("LENET5C_DATA")
    return [Path(folder) / name for folder in (chosen, _user_cache()) if folder]


def _user_cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lenet5c"


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
    content = hashlib.md5(_idx_header(array), usedforsecurity=False)
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


def _array_files(folder: Path) -> list[Path | None]:
    """Images and labels to train on, and to test with; None where there is no file."""

    def first(*patterns: str) -> Path | None:
        for pattern in patterns:
            if found := sorted(folder.glob(pattern)):
                return found[0]
        return None

    return [
        first("train-images*"),
        first("train-labels*"),
        first("t10k-images*", "test-images*"),
        first("t10k-labels*", "test-labels*"),
    ]


def _read_folder(folder: Path, name: str) -> Dataset:
    names = ("train-images*", "train-labels*", "t10k-images*", "t10k-labels*")
    arrays = [
        None if file is None else _read_array(file) for file in _array_files(folder)
    ]
    return _dataset(name, str(folder), dict(zip(names, arrays, strict=True)))


def _read_array(path: Path) -> NDArray[Any]:
    """The array in an IDX or .npy file; a map of it if it is large and plain."""
    with open(path, "rb") as file:
        start = file.read(len(NPY_START))
        large = os.fstat(file.fileno()).st_size >= MAPPED_FROM
    if start != NPY_START:
        return read_idx(path, mmap=large and not start.startswith(GZIP_START))
    try:
        array: NDArray[Any] = np.load(
            path, mmap_mode="r" if large else None, allow_pickle=False
        )
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: {error}") from error
    return array


def _read_npz(path: Path) -> Dataset:
    names = ("x_train", "y_train", "x_test", "y_test")
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                if "images" in archive and "x_train" not in archive:
                    names = ("images", "labels", "x_test", "y_test")
                # a member that is no array comes as bytes
                arrays = {
                    name: np.asarray(archive[name]) if name in archive else None
                    for name in names
                }
        # zipfile, zlib and NumPy have no common error for a file that is damaged
        except Exception as error:
            raise ValueError(f"{path}: expected an .npz file: {error}") from error
    return _dataset(path.stem, str(path), arrays)


def _dataset(name: str, where: str, parts: dict[str, NDArray[Any] | None]) -> Dataset:
    """The data set of these images and labels, to train on and to test with.

    Where there are none to test with, the last fifth is.
    """
    missing = [part for part, array in parts.items() if array is None]
    if missing and missing != list(parts)[2:]:
        raise ValueError(f"{where}: expected {', '.join(parts)}; missing {missing}")
    (x, images), (y, labels), (x_test, test_images), (y_test, test_labels) = (
        parts.items()
    )
    train = _split(where, x, images, y, labels)
    if not missing:
        test = _split(where, x_test, test_images, y_test, test_labels)
        if test.images.shape[1:] != train.images.shape[1:]:
            raise ValueError(
                f"{where}: {x_test}: expected images of the shape "
                f"{train.images.shape[1:]}, like {x}, got {test.images.shape[1:]}"
            )
        return Dataset(name, train, test)
    kept = len(train.labels) // 5
    if not kept:
        raise ValueError(
            f"{where}: {x}: expected at least 5 images, a fifth of them to test with, "
            f"got {len(train.labels)}"
        )
    test = Split(train.images[-kept:], train.labels[-kept:])
    train = Split(train.images[:-kept], train.labels[:-kept])
    if unseen := sorted(set(test.labels.tolist()) - set(train.labels.tolist())):
        raise ValueError(
            f"{where}: {y}: the last fifth, kept to test with, has labels that the "
            f"others lack: {unseen}. Shuffle the images, or add {x_test} and {y_test}"
        )
    return Dataset(name, train, test)


def _split(where: str, x: str, images: Any, y: str, labels: Any) -> Split:
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise TypeError(
            f"{where}: {x}: expected uint8 or floating pixels, got {images.dtype}"
        )
    if not 2 <= images.ndim <= 4 or not images.size:
        raise ValueError(
            f"{where}: {x}: expected images (N, H, W), (N, H * W) or (N, C, H, W), got "
            f"the shape {images.shape}"
        )
    if labels.dtype.kind not in "iubUS":
        raise TypeError(
            f"{where}: {y}: expected integers or strings, got {labels.dtype}"
        )
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise ValueError(
            f"{where}: {y}: expected a label for each of the {len(images)} images, got "
            f"the shape {labels.shape}"
        )
    labels = labels.reshape(len(images))
    return Split(
        images, labels if labels.dtype.kind in "US" else labels.astype(np.int64)
    )
