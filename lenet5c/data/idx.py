"""IDX files, in which MNIST comes: arrays of any shape, plain or gzipped."""

import gzip
import io
import math
import os
import secrets
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GZIP_START", "idx_header", "read_idx", "write_idx"]

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
PIECE = 1 << 20


def read_idx(path: str | os.PathLike[str], mmap: bool = False) -> NDArray[Any]:
    """The array in an IDX file, plain or gzipped.

    A file that declares more than it holds takes no more memory than what it holds.

    Parameters
    ----------
    path : str or path-like
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

    Examples
    --------
    >>> lenet5c.datasets.write_idx("mine-idx3-ubyte", images[:3])
    >>> lenet5c.datasets.read_idx("mine-idx3-ubyte").shape
    (3, 28, 28)
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

    Parameters
    ----------
    path : str or path-like
    array : array
        uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    TypeError
        If the array is of a dtype that IDX does not have.
    ValueError
        If it has no dimension, more than 255, or one beyond 2**32 - 1.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> lenet5c.datasets.write_idx("labels.gz", np.uint8([3, 1, 4]))
    >>> lenet5c.datasets.read_idx("labels.gz").tolist()
    [3, 1, 4]
    """
    header = idx_header(array)
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
    while piece := file.read(min(PIECE, expected - len(content))):
        content += piece
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


def idx_header(array: NDArray[Any]) -> bytes:
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
