"""Images in CSV files: a row for an image, a column for each pixel and for the label.

N images, C channels, H rows, W columns. A large file is converted once, as
`lenet5c.data.caches` says, so that neither it nor its images have to fit into memory.
"""

import csv
import gzip
import hashlib
import io
import itertools
import math
import os
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from lenet5c.data.caches import Cache, Shown, progress
from lenet5c.data.idx import GZIP_START

__all__ = ["SUFFIXES", "has_labels", "read_table"]

FORMAT = "1"  # of the cache: another one lets all files be converted anew
SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
LABEL_NAMES = {"label", "labels", "class", "classes", "target", "targets", "y", "digit"}
ID_NAMES = {"", "id", "imageid", "image_id", "index", "unnamed: 0"}
BLOCK = 4 << 20  # characters that are parsed together
GZIPPED = 8  # times that a gzipped file is smaller
SMOOTHER = 0.8  # a picture in its own order is smoother than this times another one
LOOKED_AT = 500  # rows that tell where the label is
WHOLE = re.compile(r"-?(0|[1-9]\d{0,14})(\.0*)?")  # as people write them
MOST = float(np.finfo(np.float32).max)
MIN_NUMBERED = 16  # columns 0, 1, 2, ... that are no row of pixels


class _Table(NamedTuple):
    """How a file is laid out."""

    path: Path
    delimiter: str
    header: list[str]  # names of the columns in lower case; empty if it has none
    columns: int
    ids: int  # columns before all others, which only count the rows
    label: int | None  # 0: the first one after these, -1: the last one
    shape: tuple[int, ...]  # of an image, (H, W) or (3, H, W)


class _FloatsError(Exception):
    """The pixels are no bytes, as was thought: the file is read anew, as floats."""


def has_labels(path: Path) -> bool:
    """Whether a column of a CSV file is for labels."""
    return _described(path).label is not None


def read_table(
    path: Path,
    labels: bool,
    cache: Callable[[], Path],
    mapped_from: int,
    shown: Shown = None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Described at `lenet5c.datasets.read_csv`.

    Parameters
    ----------
    cache : function
        Says in which folder a large file is kept, converted.
    mapped_from : int
        Bytes from which a file is large.
    """
    table = _described(path)
    if labels and table.label is None:
        raise ValueError(
            f"{path}: expected a column of labels, the first or the last one, got "
            f"{table.columns} columns of pixels alone"
        )
    with open(path, "rb") as file:
        zipped = file.read(len(GZIP_START)) == GZIP_START
        status = os.fstat(file.fileno())
    if status.st_size < mapped_from // (GZIPPED if zipped else 1):
        kept = None
    else:
        what = f"{FORMAT} {status.st_size} {status.st_mtime_ns}".encode()
        kept = Cache(cache(), path, "", hashlib.sha256(what).hexdigest()[:32])
        if found := kept.read():
            return found.images, None if table.label is None else found.beside
    try:
        return _read(table, np.uint8, kept, status.st_size, shown)
    except _FloatsError:
        return _read(table, np.float32, kept, status.st_size, shown)


def _read(
    table: _Table, dtype: Any, kept: Cache | None, size: int, shown: Shown
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """All images and labels: mapped if they are kept in a file."""
    found: list[NDArray[np.str_]] = []

    def labels() -> NDArray[Any]:
        return _numbers_or_strings(np.concatenate(found))

    images: NDArray[Any]
    if kept is None:
        images = np.concatenate(list(_blocks(table, dtype, found, lambda done: None)))
    else:
        with (
            progress(table.path.name, size >> 20, "MB", shown) as advance,
            closing(_blocks(table, dtype, found, advance)) as blocks,
        ):
            images = kept.write(table.shape, dtype, blocks, labels).images
    return images, None if table.label is None else labels()


def _numbers_or_strings(labels: NDArray[np.str_]) -> NDArray[Any]:
    """int64, if all are written as whole numbers are."""
    distinct, positions = np.unique(labels, return_inverse=True)
    # 01 and 1 are two classes
    if not all(map(WHOLE.fullmatch, distinct.tolist())):
        return labels
    numbers = np.array([int(label.partition(".")[0]) for label in distinct.tolist()])
    return numbers[positions]


def _blocks(
    table: _Table,
    dtype: Any,
    labels: list[NDArray[np.str_]],
    advance: Callable[[int], object],
) -> Generator[NDArray[Any], None, None]:
    """The images, some at a time, (n, *shape); their labels are added to the list.

    Raises
    ------
    _FloatsError
        If dtype is uint8 and the pixels are something else.
    """
    pointed, most, interleaved = False, 0, None
    pixels = math.prod(table.shape)
    with _opened(table.path) as (lines, position):
        numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
        if table.header:
            next(numbered)
        while some := _some(numbered):
            pairs = [_label_and_pixels(table, line) for _, line in some]
            block, points = _parsed([rest for _, rest in pairs], table.delimiter, dtype)
            if (
                block is None
                or block.shape != (len(some), pixels)
                or not all(label for label, _ in pairs)
                or not np.isfinite(block.sum(dtype=np.float64))
            ):
                _refuse(table, some)
                if dtype == np.uint8:
                    raise _FloatsError
                raise ValueError(
                    f"{table.path}: line {some[0][0]} or one soon after it: expected "
                    "numbers"
                )
            pointed, most = pointed or points, max(most, int(block.max()))
            if interleaved is None:
                interleaved = _interleaved(table, block)
            labels.append(np.array([label for label, _ in pairs]))
            yield _shaped(block, table.shape, interleaved)
            advance(position() >> 20)
    if interleaved is None:
        raise ValueError(f"{table.path}: expected rows of pixels, got a header alone")
    if dtype == np.uint8 and pointed and most <= 1:
        raise _FloatsError


def _some(numbered: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """The next lines of about BLOCK characters, with their numbers."""
    some = list(itertools.islice(numbered, 1))
    if some:
        some += itertools.islice(numbered, BLOCK // len(some[0][1]))
    return some


def _parsed(
    rows: list[str], delimiter: str, dtype: Any
) -> tuple[NDArray[Any] | None, bool]:
    """The numbers in rows of text, None if they are none of that dtype.

    And whether they were written as 12.0; of bytes, this is quicker than floats.
    """
    for points in (False, True)[: 2 if dtype == np.uint8 else 1]:
        if points:
            rows = [
                (row + delimiter).replace(f".0{delimiter}", delimiter)[:-1]
                for row in map(str.strip, rows)
            ]
        if all(rows):  # an empty row would be left out
            try:
                block = np.loadtxt(rows, dtype, None, delimiter, ndmin=2)
                return block, points
            except ValueError:
                pass
    return None, False


def _interleaved(table: _Table, block: NDArray[Any]) -> bool:
    """Whether the colours of a pixel lie together, as they mostly do.

    The header says it, r0 g0 b0 or r0 r1 r2; or the pictures, which are smooth.
    """
    if len(table.shape) == 2:
        return False
    start = table.ids + (table.label == 0)
    colours = [name[:1] for name in table.header[start : start + 3]]
    if colours in (["r", "g", "b"], ["r", "r", "r"]):
        return colours[1] == "g"

    def rough(interleaved: bool) -> float:
        images = _shaped(block[:64], table.shape, interleaved).astype(np.float64)
        return float(sum(np.abs(np.diff(images, axis=axis)).sum() for axis in (2, 3)))

    return not rough(False) < SMOOTHER * rough(True)


def _shaped(
    block: NDArray[Any], shape: tuple[int, ...], interleaved: bool
) -> NDArray[Any]:
    if not interleaved:
        return block.reshape(-1, *shape)
    images = block.reshape(-1, *shape[1:], 3).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images)


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]


def _label_and_pixels(table: _Table, line: str) -> tuple[str, str]:
    """The label, "-" if there is none, and the rest of the line but for the ids."""
    line = line.strip("\r\n")
    if '"' in line:
        cells = _cells(line, table.delimiter)[table.ids :] or [""]
        label = "-" if table.label is None else cells.pop(table.label)
        return label, table.delimiter.join(cells)
    for _ in range(table.ids):
        line = line.partition(table.delimiter)[2]
    if table.label is None:
        return "-", line
    first, _, last = (line.rpartition if table.label else line.partition)(
        table.delimiter
    )
    return (last.strip(), first) if table.label else (first.strip(), last)


def _refuse(table: _Table, some: list[tuple[int, str]]) -> None:
    """ValueError for the first line that is wrong, whatever the pixels are."""
    skipped = set(range(table.ids))
    if table.label is not None:
        skipped.add(table.ids if table.label == 0 else table.columns - 1)
    for number, line in some:
        where = f"{table.path}: line {number}"
        cells = _cells(line, table.delimiter)
        if len(cells) != table.columns:
            raise ValueError(
                f"{where}: expected {table.columns} columns, got {len(cells)}"
            )
        beyond = []
        for column, cell in enumerate(cells):
            if column in skipped and (cell or column < table.ids):
                continue
            what = "a label" if column in skipped else "a number"
            value = _number(cell)
            if column in skipped or value is None:
                raise ValueError(
                    f"{where}, column {column + 1}: expected {what}, got {cell!r:.40}"
                )
            if not 0 <= value <= 255:
                beyond.append((column + 1, cell))
        whole = all(
            cell.lstrip("+-").isdigit()
            for column, cell in enumerate(cells)
            if column not in skipped
        )
        if beyond and whole:
            raise ValueError(
                f"{where}, column {beyond[0][0]}: expected a pixel 0 to 255, or "
                f"floating ones, got {beyond[0][1]}"
            )


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    usable = abs(value) <= MOST and "_" not in cell  # no NaN; 1_0 is one for Python
    return value if usable else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TextIO, Callable[[], int]]]:
    """The lines of a file, plain or gzipped, and how many of its bytes were read."""
    with open(path, "rb") as raw:
        zipped = raw.peek(len(GZIP_START)).startswith(GZIP_START)
        binary: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            yield io.TextIOWrapper(binary, "utf-8-sig"), raw.tell
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected text in UTF-8: {error}") from error
        except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
            raise ValueError(f"{path}: {error}") from error


def _described(path: Path) -> _Table:
    """The layout, from the first line that is not blank."""
    with _opened(path) as (lines, _):
        line = next((line for line in lines if line.strip()), None)
        if line is None:
            raise ValueError(f"{path}: expected rows of pixels, got an empty file")
        delimiter = next((mark for mark in "\t;" if mark in line), ",")
        cells = _cells(line, delimiter)
        some = [_cells(line, delimiter) for line in itertools.islice(lines, LOOKED_AT)]
    names = [name.lower() for name in cells] if _is_header(cells) else []
    ids = sum(1 for _ in itertools.takewhile(lambda name: name in ID_NAMES, names))
    label = _label_column(path, cells[ids:], names[ids:])
    if label == 0 and not names and _is_last([cells, *some]):
        label = -1
    shape = _shape(len(cells) - ids - (label is not None))
    if shape is None:
        raise ValueError(
            f"{path}: line 1: expected a label and the pixels of a square, in one "
            f"channel or three, such as 785 columns for 28 x 28; got {len(cells)}"
        )
    return _Table(path, delimiter, names, len(cells), ids, label, shape)


def _is_header(cells: list[str]) -> bool:
    """Whether these are names: two are no numbers, or they are 0, 1, 2 and so on."""
    numbers = [number for number in map(_number, cells) if number is not None]
    if len(numbers) < len(cells) - 1:
        return True
    steps = np.diff(numbers)
    return len(steps) >= MIN_NUMBERED and bool((steps == 1).all())


def _label_column(path: Path, cells: list[str], names: list[str]) -> int | None:
    """0 or -1, None if all columns are for pixels; by name, else by their number."""
    named = [end for end in (0, -1) if names and names[end] in LABEL_NAMES]
    inside = [name for name in names[1:-1] if name in LABEL_NAMES]
    if inside and not named:
        raise ValueError(
            f"{path}: line 1: expected the label in the first or the last column, got "
            f"{inside[0]!r} between pixels"
        )
    if len(named) == 1:
        return named[0]
    with_label, without = _shape(len(cells) - 1), _shape(len(cells))
    if names and not named:
        first, last = (name[-1:].isdigit() for name in (names[0], names[-1]))
        if first != last:  # pixel0 and so on
            return -1 if first else 0
        if first and without:
            return None
    if len(named) == 2 or (with_label and without):
        raise ValueError(
            f"{path}: line 1: {len(cells)} columns may be with a label or without: "
            "expected one column, the first or the last, named label"
        )
    if without:
        return None
    return -1 if _number(cells[-1]) is None and _number(cells[0]) is not None else 0


def _is_last(rows: list[list[str]]) -> bool:
    """Whether the first column is no label, as it is the same in all rows, and the last
    one may be."""
    first, last = ({row[end] for row in rows if row} for end in (0, -1))
    return len(rows) >= MIN_NUMBERED and len(first) == 1 < len(last)


def _shape(pixels: int) -> tuple[int, ...] | None:
    """That of a square image of so many pixels, in one channel or three."""
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side > 1 and channels * side * side == pixels:
            return (side, side) if channels == 1 else (3, side, side)
    return None
