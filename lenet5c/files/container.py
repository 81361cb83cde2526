"""The container of model files: a strict subset of safetensors, guarded by a SHA-256.

    8 bytes   length of the header, little-endian
    header    JSON in UTF-8, at most 16 MiB, padded with spaces
    payload   the tensors, little-endian, in the order of the header, no gaps

The header begins with `{"__metadata__":{"sha256":"` and 64 hexadecimal digits: the
SHA-256 of the whole file in which these 64 digits are zeros. So it covers the payload
and the header alike, and any flipped bit is found. The metadata also hold `format`
"lenet5c" and `format_version`, "2" of a model in float32, "3" of one in integers. Any
reader of safetensors can open such a file.

Reading never runs code from the file, reads it once, and takes no more memory than the
file is long, plus a quarter.
"""

import errno
import io
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c.files.atomic import write_atomically

__all__ = [
    "INT8",
    "MODEL",
    "FileFormatError",
    "Form",
    "FormatVersionError",
    "fields",
    "file_parts",
    "open_regular",
    "parse_json",
    "read_any",
    "read_file",
    "write_file",
]

Tensor = NDArray[Any]
FLOAT32 = {"F32": np.dtype("<f4")}


class Form(NamedTuple):
    """What a file says it is, in its metadata, how long its header may be, and which
    numbers its tensors have."""

    name: str
    version: str
    max_header_bytes: int
    dtypes: Mapping[str, np.dtype[Any]] = FLOAT32

    @property
    def marks(self) -> dict[str, str]:
        """What the metadata hold for it."""
        return {"format": self.name, "format_version": self.version}


MODEL = Form("lenet5c", "2", 16 << 20)  # 50,000 labels of 300 letters
INT8 = MODEL._replace(
    version="3",
    dtypes={
        "I8": np.dtype(np.int8),
        "U8": np.dtype(np.uint8),
        "I32": np.dtype("<i4"),
    },
)
MAX_DIMENSIONS = 8
LENGTH_BYTES = 8
ALIGNMENT = 8  # of the payload in the file, as in other writers of safetensors
START = b'{"__metadata__":{"sha256":"'
BLANK = b"0" * 64
NO_FILES = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
SURROGATE = re.compile("[\\ud800-\\udfff]")


class FileFormatError(ValueError):
    """The file is damaged, or is no model file.

    Examples
    --------
    >>> with open("empty.lenet5c", "wb") as file:
    ...     _ = file.write(b"")
    >>> try:
    ...     lenet5c.load("empty.lenet5c")
    ... except lenet5c.FileFormatError as error:
    ...     print(error)
    empty.lenet5c: expected ...
    """


class FormatVersionError(FileFormatError):
    """The file is not damaged, but of another version of lenet5c."""


def write_file(
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    form: Form = MODEL,
) -> None:
    """Write a model file, atomically: a crash leaves the old file or the new one.

    A new file gets the permissions that the umask leaves, an old one keeps its own (see
    `write_atomically`). A symbolic link stays one: the file that it points to is
    replaced.

    Parameters
    ----------
    path : str or path-like
    tensors : mapping of str to array
        Of the numbers of the form; any byte order and strides; no empty arrays, finite
        values only.
    metadata : mapping of str to str
        `sha256`, `format` and `format_version` are taken.
    form : Form
        Which sort of file it is.

    Raises
    ------
    TypeError, ValueError
        If something cannot be stored. Nothing has been written then.
    OSError
        If the file cannot be written. The old one, if any, is as it was; unless the
        very last step failed, to make the new one last: then that is in place.
    """
    write_atomically(path, file_parts(tensors, metadata, form))


def file_parts(
    tensors: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    form: Form = MODEL,
) -> list[bytes | memoryview]:
    """The file that `write_file` writes, in parts that follow each other."""
    header = _header(tensors, metadata, form)
    payload = [_bytes_of(array, form) for array in tensors.values()]
    digest = _sha256([header, *payload]).encode()
    at = LENGTH_BYTES + len(START)
    header = header[:at] + digest + header[at + len(digest) :]
    return [header, *payload]


def header_of(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> bytes:
    """What a model file begins with, before its payload, and without its digest."""
    return _header(tensors, metadata, MODEL)


def read_file(
    path: str | os.PathLike[str], form: Form = MODEL
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file that `write_file` wrote: see `read_any`."""
    return read_any(path, [form])[1:]


def read_any(
    path: str | os.PathLike[str], forms: Sequence[Form]
) -> tuple[Form, dict[str, Tensor], dict[str, str]]:
    """Read a file that `write_file` wrote, of one of these forms.

    Returns
    -------
    form : Form
    tensors : dict of str to array
        In the order of the file; writable views of one array.
    metadata : dict of str to str
        As it was given.

    Raises
    ------
    FileFormatError
        If the file is damaged or no model file: what was expected and what was found.
    OSError
        If it cannot be read, or is a folder, pipe or device, which are not waited for.
    """
    name = os.fspath(path)
    with open_regular(name) as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size, forms)
        except FileFormatError as error:
            error.args = (f"{name}: {error}",)
            raise


def open_regular(name: str) -> io.BufferedReader:
    """Open a file to read it; an OSError that says what else it is, at once."""
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode):
        kind = NO_FILES.get(stat.S_IFMT(mode), "a device")
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, f"expected a regular file, got {kind}", name)
    # a pipe that has come in its place meanwhile does not block either
    nonblocking = getattr(os, "O_NONBLOCK", 0)
    return open(name, "rb", opener=lambda at, flags: os.open(at, flags | nonblocking))


def _header(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str], form: Form
) -> bytes:
    """Everything before the payload, with zeros in place of the digest."""
    if taken := metadata.keys() & {"sha256", *form.marks}:
        raise ValueError(f"metadata: {sorted(taken)} are taken by the format itself")
    for name, text in metadata.items():
        _check_text("metadata: name", name)
        _check_text(f"metadata {name!r}", text)
    header: dict[str, Any] = {
        "__metadata__": {"sha256": BLANK.decode(), **form.marks, **metadata}
    }
    begin = 0
    for name, array in tensors.items():
        _check_text("tensors: name", name)
        if name == "__metadata__":
            raise ValueError(f"tensors: no tensor can have the name {name!r}")
        dtype = _check_array(name, array, form)
        end = begin + array.size * form.dtypes[dtype].itemsize
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    json_text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    encoded = json_text.encode()
    encoded += b" " * (-(LENGTH_BYTES + len(encoded)) % ALIGNMENT)
    if len(encoded) > form.max_header_bytes:
        longest = max(metadata, key=lambda name: len(metadata[name]), default="")
        raise ValueError(
            f"metadata: expected a header of at most {form.max_header_bytes} bytes, "
            f"got {len(encoded)}, of which {len(metadata.get(longest, ''))} are "
            f"{longest!r}"
        )
    return len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what}: expected a str, got {value!r}")
    if SURROGATE.search(value):
        raise ValueError(f"{what}: expected text that UTF-8 can encode, got {value!r}")


def _check_array(name: str, array: object, form: Form) -> str:
    """What the file calls its numbers, if they can be stored."""
    names = [
        name
        for name, dtype in form.dtypes.items()
        if isinstance(array, np.ndarray) and array.dtype.newbyteorder("<") == dtype
    ]
    if not isinstance(array, np.ndarray) or not names:
        found = getattr(array, "dtype", type(array).__name__)
        wanted = " or ".join(dtype.name for dtype in form.dtypes.values())
        raise TypeError(f"tensor {name!r}: expected a {wanted} array, got {found}")
    if array.size == 0 or array.ndim > MAX_DIMENSIONS:
        raise ValueError(
            f"tensor {name!r}: expected at most {MAX_DIMENSIONS} dimensions, none of "
            f"them 0, got the shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"tensor {name!r}: expected finite values, got NaN or infinity"
        )
    return names[0]


def _bytes_of(array: NDArray[Any], form: Form) -> memoryview:
    """The bytes of the array as the file holds them; copied only if they are not so."""
    dtype = form.dtypes[_check_array("", array, form)]
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data


def _sha256(parts: Iterable[bytes | memoryview]) -> str:
    import hashlib  # here: loads OpenSSL, which not every program needs

    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _read(
    file: io.BufferedReader, size: int, forms: Sequence[Form]
) -> tuple[Form, dict[str, Tensor], dict[str, str]]:
    """Form, tensors and metadata of an open file of `size` bytes."""
    length_bytes = file.read(LENGTH_BYTES)
    length = int.from_bytes(length_bytes, "little")
    least, most = len(START) + len(BLANK), forms[0].max_header_bytes
    if len(length_bytes) < LENGTH_BYTES or not least <= length <= most:
        raise FileFormatError(
            "expected a model file, which starts with the length of its header, "
            f"{least} to {most}, found {length_bytes!r}"
        )
    header = file.read(length)
    if len(header) < length:
        raise FileFormatError(
            f"the file is truncated: expected a header of {length} bytes, "
            f"found {len(header)}"
        )
    entries = parse_json("a header", header)
    if not isinstance(entries, dict):
        raise FileFormatError(
            f"expected a header that is a JSON object, found {reprlib.repr(entries)}"
        )
    form, metadata = _metadata(entries.pop("__metadata__", None), forms)
    if not header.startswith(START):
        raise FileFormatError(
            f"expected a header that starts with {START!r}, "
            f"found {header[: len(START)]!r}"
        )
    layout = _layout(entries, form)
    count = sum(dtype.itemsize * math.prod(shape) for dtype, shape in layout.values())
    expected = LENGTH_BYTES + length + count
    if size != expected:
        problem = "is truncated" if size < expected else "has trailing bytes"
        raise FileFormatError(
            f"the file {problem}: expected {expected} bytes, found {size}"
        )

    values = np.empty(count, np.uint8)
    payload = values.data
    if (got := file.readinto(payload)) != len(payload):
        raise FileFormatError(
            f"expected a payload of {len(payload)} bytes, found {got}"
        )
    at = len(START)
    blanked = START + BLANK + header[at + len(BLANK) :]
    digest = _sha256([length_bytes, blanked, payload])
    noted = metadata.pop("sha256")
    if not header.startswith(f'{digest}"'.encode(), at):
        raise FileFormatError(
            f"the file is damaged: expected the SHA-256 {noted!r:.70}, found {digest!r}"
        )
    return form, _views(values, layout), metadata


def parse_json(what: str, text: bytes | str) -> Any:
    """The value of a text in JSON, refusing whatever readers of JSON disagree on.

    These are bytes that are not UTF-8, a key that an object has twice, NaN and
    Infinity, half a surrogate pair, and -0 as a whole number.

    Raises
    ------
    FileFormatError
        That `what` was expected in JSON, and what was found.
    """

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"two keys are the same, of {reprlib.repr(sorted(found))}")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def whole(digits: str) -> int:
        if digits == "-0":
            raise ValueError("-0, which has to be 0 or -0.0")
        return int(digits)

    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            object_pairs_hook=without_duplicates,
            parse_constant=refuse,
            parse_int=whole,
        )
        json.dumps(value, ensure_ascii=False).encode()  # fails for half a pair
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"expected {what} in JSON, found: {error}") from error
    return value


def fields(what: str, found: object, *names: str) -> list[Any]:
    """The values of a JSON object that has these keys and no others.

    Raises
    ------
    FileFormatError
        If it is no object or has other keys.
    """
    if not isinstance(found, dict) or found.keys() != set(names):
        raise FileFormatError(
            f"{what}: expected exactly {sorted(names)}, found {reprlib.repr(found)}"
        )
    return [found[name] for name in names]


def _metadata(found: object, forms: Sequence[Form]) -> tuple[Form, dict[str, str]]:
    """Which form it is; the metadata with `sha256`, without what marks the format."""
    if not isinstance(found, dict):
        raise FileFormatError(
            f"expected a model file with '__metadata__', found {reprlib.repr(found)}"
        )
    for name, text in found.items():
        if not isinstance(text, str):
            raise FileFormatError(
                f"metadata: expected texts, found {reprlib.repr({name: text})}"
            )
    metadata = dict(found)
    versions = {form.version: form for form in forms}
    form = versions.get(str(metadata.get("format_version")), forms[0])
    for name, value in form.marks.items():
        if (got := metadata.pop(name, None)) != value:
            hint = _other_version(name, got, form)
            raise (FormatVersionError if hint else FileFormatError)(
                f"{name}: expected {value!r}, found {reprlib.repr(got)}{hint}"
            )
    return form, metadata


def _other_version(name: str, got: object, form: Form) -> str:
    """What to do about a file of another version."""
    if name != "format_version" or not isinstance(got, str) or not got.isdecimal():
        return ""
    if int(got) < int(form.version):
        return ": an earlier lenet5c wrote it; train the model anew"
    return ": a later lenet5c wrote it; install that"


Layout = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def _layout(entries: dict[str, Any], form: Form) -> Layout:
    """Types and shapes by name, once offsets and shapes are known to fit each other."""
    layout: Layout = {}
    begin = 0
    for name, entry in entries.items():
        tensor = f"tensor {reprlib.repr(name)}"
        dtype, shape, offsets = fields(tensor, entry, "dtype", "shape", "data_offsets")
        if not isinstance(dtype, str) or dtype not in form.dtypes:
            wanted = " or ".join(map(repr, form.dtypes))
            raise FileFormatError(
                f"{tensor}: expected the dtype {wanted}, found {reprlib.repr(dtype)}"
            )
        if not _whole_numbers(shape, 1) or len(shape) > MAX_DIMENSIONS:
            raise FileFormatError(
                f"{tensor}: expected a shape of at most {MAX_DIMENSIONS} whole "
                f"numbers of at least 1, found {reprlib.repr(shape)}"
            )
        expected = [begin, begin + math.prod(shape) * form.dtypes[dtype].itemsize]
        if not _whole_numbers(offsets, 0) or offsets != expected:
            raise FileFormatError(
                f"{tensor}: expected the data_offsets {reprlib.repr(expected)}, for "
                f"its shape, no gap and no overlap, found {reprlib.repr(offsets)}"
            )
        layout[name] = form.dtypes[dtype], tuple(shape)
        begin = offsets[1]
    return layout


def _whole_numbers(values: object, least: int) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and least <= value < 2**63 for value in values
    )


def _views(values: NDArray[np.uint8], layout: Layout) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    begin = 0
    for name, (dtype, shape) in layout.items():
        end = begin + dtype.itemsize * math.prod(shape)
        found = values[begin:end].view(dtype).reshape(shape)
        tensors[name] = np.asarray(found, dtype.newbyteorder("="))
        if not np.isfinite(tensors[name]).all():
            raise FileFormatError(
                f"tensor {name!r}: expected finite values, found others"
            )
        begin = end
    return tensors
