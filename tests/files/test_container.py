"""The model file: what is written is read, and what is wrong with a file is found."""

import errno
import hashlib
import json
import math
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import python_environment

import lenet5c
from lenet5c.files import atomic
from lenet5c.files import container as storage
from lenet5c.files.container import FileFormatError, read_file, write_file

MARKS = {"format": "lenet5c", "format_version": "2"}
MOST = storage.MODEL.max_header_bytes


def tensors(seed=0):
    generator = np.random.default_rng(seed)
    shapes = {"C1.weight": (2, 1, 3, 3), "C1.bias": (2,), "scale": ()}
    return {
        name: np.asarray(generator.normal(size=shape), np.float32)
        for name, shape in shapes.items()
    }


METADATA = {"network": '{"layers": []}', "classes": "[“ä”, 字, 🙂]", "empty": ""}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.lenet5c"
    write_file(path, tensors(), METADATA)
    return path


def split(content):
    """The header as a dict, and the payload."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def sealed(header, payload=b""):
    """A file with this header, a dict or bytes, whose digest is right."""
    if isinstance(header, dict):
        header = json.dumps(header).encode()
        compact = json.dumps({"__metadata__": {"sha256": ""}}, separators=(",", ":"))
        header = header.replace(b'{"__metadata__": {"sha256": "', compact[:-3].encode())
    content = len(header).to_bytes(8, "little") + header + payload
    digest = hashlib.sha256(content).hexdigest().encode()
    return content.replace(b"0" * 64, digest, 1)


def header_of(entries, **metadata):
    return {"__metadata__": {"sha256": "0" * 64, **MARKS, **metadata}, **entries}


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refusal(path, content=None):
    """The message of the refusal to read the file, which names it."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        read_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) < 1000
    return message.removeprefix(str(path))


def only_file(folder):
    (found,) = folder.iterdir()
    return found


def test_what_is_written_is_read(model):
    found, metadata = read_file(model)
    assert metadata == METADATA
    assert list(found) == list(tensors())
    for name, array in tensors().items():
        assert found[name].dtype == np.float32
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable
        assert found[name].flags.c_contiguous
        assert found[name].flags.aligned


def test_extreme_values_keep_their_bits(tmp_path):
    bits = np.array([0, 1 << 31, 1, 0x7F7FFFFF, 0xFF7FFFFF, 0x00800000], np.uint32)
    write_file(tmp_path / "m", {"x": bits.view(np.float32)}, {})
    found, _ = read_file(tmp_path / "m")
    np.testing.assert_array_equal(found["x"].view(np.uint32), bits)


def test_neither_tensors_nor_metadata_are_needed(tmp_path):
    write_file(tmp_path / "m", {}, {})
    assert read_file(tmp_path / "m") == ({}, {})


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.frombuffer(b"." + x.tobytes(), np.float32, offset=1).reshape(
            x.shape
        ),
        lambda x: x.view(np.matrix) if x.ndim == 2 else x,
    ],
    ids=["big-endian", "Fortran", "strided", "reversed", "unaligned", "subclass"],
)
def test_any_layout_of_an_array_is_written_as_the_same_file(change, tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    write_file(tmp_path / "plain", {"x": x}, {})
    write_file(tmp_path / "other", {"x": change(x)}, {})
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "other").read_bytes()


def test_the_file_is_as_documented(model):
    content = model.read_bytes()
    header, payload = split(content)
    assert (len(content) - len(payload)) % 8 == 0
    assert content[8:].startswith(storage.START)
    assert payload == b"".join(array.tobytes() for array in tensors().values())
    assert header["C1.bias"] == entry([2], [72, 80])
    assert header["scale"] == entry([], [80, 84])
    metadata = header["__metadata__"]
    digest = metadata.pop("sha256")
    assert metadata == {**MARKS, **METADATA}
    blanked = content.replace(digest.encode(), b"0" * 64)
    assert hashlib.sha256(blanked).hexdigest() == digest


def test_safetensors_reads_the_file(model):
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(str(model), framework="numpy") as file:
        found = file.metadata()
        del found["sha256"]
        assert found == {**MARKS, **METADATA}
        assert set(file.keys()) == set(tensors())
        for name, array in tensors().items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_relative_strings_or_path_like(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file(kind("model"), tensors(), {})
    assert list(read_file(kind("model"))[0]) == list(tensors())
    assert only_file(tmp_path).name == "model"


@pytest.mark.parametrize("damage", range(4))
def test_every_truncation_is_refused(damage, model):
    content = model.read_bytes()
    for length in range(damage, len(content), 4):
        message = refusal(model, content[:length])
        assert "expected" in message
        assert "found" in message


def test_each_of_1000_random_bit_flips_is_refused(model):
    content = model.read_bytes()
    for bit in np.random.default_rng(0).permutation(8 * len(content))[:1000]:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        refusal(model, bytes(changed))


def test_every_exchange_of_two_bytes_of_the_header_is_refused(model):
    content = model.read_bytes()
    for at in range(len(content) - len(split(content)[1])):
        changed = bytearray(content)
        changed[at : at + 2] = content[at : at + 2][::-1]
        if changed != content:
            refusal(model, bytes(changed))


@pytest.mark.parametrize("more", [b"\0", b" ", b"\0" * 4, b"x" * 1000])
def test_trailing_bytes_are_refused(more, model):
    content = model.read_bytes()
    expected, found = len(content), len(content) + len(more)
    message = refusal(model, content + more)
    assert f"trailing bytes: expected {expected} bytes, found {found}" in message


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"text that is no model\n" * 10, b"PK\3\4" + bytes(200), bytes(200)],
)
def test_other_files_are_refused(content, tmp_path):
    refusal(tmp_path / "file", content)


@pytest.mark.parametrize("length", [MOST + 1, 2**31, 2**32, 2**63, 2**64 - 1])
def test_a_huge_header_is_refused_before_it_is_read(length, tmp_path):
    path = tmp_path / "m"
    with open(path, "wb") as file:
        file.write(length.to_bytes(8, "little"))
        file.truncate(1 << 30)
    tracemalloc.start()
    assert str(MOST) in refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    ("entries", "payload", "said"),
    [
        ({"x": entry([3], [0, 8])}, 8, "[0, 12]"),
        ({"x": entry([2], [0, 12])}, 12, "[0, 8]"),
        ({"x": entry([2], [4, 12])}, 12, "[0, 8]"),
        ({"x": entry([2], [0, 8]), "y": entry([1], [4, 8])}, 8, "[8, 12]"),
        ({"x": entry([2], [0, 8]), "y": entry([1], [12, 16])}, 16, "[8, 12]"),
        ({"y": entry([1], [4, 8]), "x": entry([1], [0, 4])}, 8, "[0, 4]"),
        ({"x": entry([2], [0, 8])}, 12, "trailing"),
        ({"x": entry([2], [0, 8])}, 4, "truncated"),
        ({"x": entry([2], [8, 0])}, 8, "[0, 8]"),
        ({"x": entry([2], [-8, 0])}, 8, "[0, 8]"),
        ({"x": entry([2], [0])}, 8, "[0, 8]"),
        ({"x": entry([2], [0, 8, 8])}, 8, "[0, 8]"),
        ({"x": entry([2], [0.0, 8.0])}, 8, "[0, 8]"),
        ({"x": entry([2], [False, 8])}, 8, "[0, 8]"),
        ({"x": entry([2], ["0", "8"])}, 8, "[0, 8]"),
        ({"x": entry([2], {"0": 8})}, 8, "[0, 8]"),
        ({"x": entry([2], None)}, 8, "[0, 8]"),
        ({"x": entry([-2], [0, 8])}, 8, "shape"),
        ({"x": entry([-1, -2], [0, 8])}, 8, "shape"),
        ({"x": entry([0], [0, 0])}, 0, "shape"),
        ({"x": entry([2**62, 0], [0, 0])}, 0, "shape"),
        ({"x": entry([True, 2], [0, 8])}, 8, "shape"),
        ({"x": entry([2.0], [0, 8])}, 8, "shape"),
        ({"x": entry(["2"], [0, 8])}, 8, "shape"),
        ({"x": entry([[2]], [0, 8])}, 8, "shape"),
        ({"x": entry([None], [0, 8])}, 8, "shape"),
        ({"x": entry("2", [0, 8])}, 8, "shape"),
        ({"x": entry(2, [0, 8])}, 8, "shape"),
        ({"x": entry(None, [0, 8])}, 8, "shape"),
        ({"x": entry([1] * 9, [0, 4])}, 4, "shape"),
        ({"x": entry([1] * 5000, [0, 4])}, 4, "shape"),
        ({"x": entry([2**63], [0, 2**65])}, 8, "shape"),
        ({"x": entry([10**4000], [0, 8])}, 8, "shape"),
        ({"x": entry([2**61], [0, 2**63])}, 8, "data_offsets"),
        ({"x": entry([2**32, 2**32], [0, 0])}, 0, "data_offsets"),
        ({"x": entry([2**62, 4], [0, 0])}, 0, "data_offsets"),
        ({"x": entry([2**62] * 8, [0, 8])}, 8, "data_offsets"),
        ({"x": entry([2**40], [0, 2**42])}, 8, "truncated"),
        ({"x": entry([2], [0, 8], "F16")}, 8, "'F16'"),
        ({"x": entry([2], [0, 8], "F64")}, 8, "'F64'"),
        ({"x": entry([2], [0, 8], "f32")}, 8, "'f32'"),
        ({"x": entry([2], [0, 8], None)}, 8, "None"),
        ({"x": entry([2], [0, 8], ["F32"])}, 8, "['F32']"),
        ({"x": {"dtype": "F32", "shape": [2]}}, 8, "data_offsets"),
        ({"x": {**entry([2], [0, 8]), "strides": [1]}}, 8, "strides"),
        ({"x": [2]}, 8, "[2]"),
        ({"x": None}, 8, "None"),
        ({"\ud800": entry([2], [0, 8])}, 8, "ud800"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_hostile_shapes_and_offsets_are_refused_with_bounded_memory(
    entries, payload, said, tmp_path
):
    path = tmp_path / "m"
    path.write_bytes(sealed(header_of(entries), bytes(payload)))
    tracemalloc.start()
    message = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said in message
    assert peak < 2_000_000


def test_a_sealed_file_without_faults_is_read(tmp_path):
    """So the refusals above are for the faults that they name."""
    content = sealed(header_of({"x": entry([2], [0, 8])}, a="b"), bytes(8))
    (tmp_path / "m").write_bytes(content)
    found, metadata = read_file(tmp_path / "m")
    assert metadata == {"a": "b"}
    np.testing.assert_array_equal(found["x"], [0, 0])


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "__metadata__"),
        ([], "__metadata__"),
        ({}, "format: expected 'lenet5c', found None"),
        ({"format": "pt"}, "format: expected 'lenet5c', found 'pt'"),
        ({"format": "lenet5c"}, "format_version: expected '2', found None"),
        ({"format": "lenet5c", "format_version": "1"}, "format_version: expected '2'"),
        ({**MARKS, "a": 1}, "texts"),
        ({**MARKS, "a": None}, "texts"),
        ({**MARKS, "a": {"b": "c"}}, "texts"),
        ({**MARKS, "a": "\ud83d"}, "surrogates"),
        ({**MARKS, "\udfff": "a"}, "surrogates"),
        (MARKS, "starts with"),
        ({**MARKS, "sha256": "0" * 64}, "starts with"),
    ],
)
def test_other_metadata_are_refused(metadata, said, tmp_path):
    header = (
        {"__metadata__": metadata} if metadata is not None else {"x": entry([], [])}
    )
    header["padding"] = "-" * 100
    assert said in refusal(tmp_path / "m", sealed(json.dumps(header).encode()))


@pytest.mark.parametrize(
    "text",
    [
        '{"x":NaN}',
        '{"x":{"y":[Infinity]}}',
        '{"x":-Infinity}',
        '{"x":[-0]}',
        '{"x":["\\ud800"]}',
        '{"x":{"\\udc00\\ud800":1}}',
        '{"x":1,"x":1}',
        '{"x":{"dtype":"F32","dtype":"F32"}}',
        '{"x":[{"y":[{"z":1,"z":1}]}]}',
        '{"x":1,"\\u0078":1}',
        "{'x':1}",
        '{"x":1,}',
        '{"x":1}{}',
        '{"x":1} x',
        '{"x":"a\nb"}',
        "[" * 30_000,
        '{"a":' * 10_000,
        "[" * 20_000 + "]" * 20_000,
        "1" * 10_000,
        "[]",
        '"text"',
        "null",
        "\ufeff{}",
    ],
    ids=lambda text: text[:30],
)
def test_other_json_is_refused(text, tmp_path):
    assert "expected a header" in refusal(
        tmp_path / "m", sealed(text.encode() + b" " * 99)
    )


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b'{"\xc3\x28":1}', b'{"\xed\xa0\x80":1}']
)
def test_invalid_utf8_is_refused(text, tmp_path):
    assert "utf-8" in refusal(tmp_path / "m", sealed(text + b" " * 99))


def test_zero_with_a_sign_may_be_a_float():
    value = storage.parse_json("x", '{"x":[-0.0,-0e1,0,-1]}')
    assert value == {"x": [0, 0, 0, -1]}
    assert math.copysign(1, value["x"][0]) == -1


def test_a_surrogate_pair_is_one_character():
    assert storage.parse_json("x", b'"\\ud83d\\ude00"') == "\U0001f600"


def test_fields_are_returned_in_the_order_that_they_are_asked_for():
    assert storage.fields("x", {"b": 1, "a": 2}, "a", "b") == [2, 1]


@pytest.mark.parametrize(
    "found", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, [1, 2], None]
)
def test_other_fields_are_named(found):
    with pytest.raises(
        FileFormatError, match=r"x: expected exactly \['a', 'b'\], found"
    ):
        storage.fields("x", found, "b", "a")


def test_duplicate_keys_are_named(tmp_path):
    text = b'{"weight":1,"weight":1}' + b" " * 99
    assert "'weight'" in refusal(tmp_path / "m", sealed(text))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    payload = np.array([1, value], "<f4").tobytes()
    content = sealed(header_of({"C1.bias": entry([2], [0, 8])}), payload)
    message = refusal(tmp_path / "m", content)
    assert "tensor 'C1.bias': expected finite values" in message


@pytest.mark.parametrize("digest", ["", "f" * 64, "0" * 64, "sha", "A" * 64])
def test_a_wrong_digest_is_refused(digest, model):
    content = model.read_bytes()
    old = split(content)[0]["__metadata__"]["sha256"].encode()
    new = digest.encode().ljust(64, b" ")
    assert "expected the SHA-256" in refusal(model, content.replace(old, new))


def test_the_digest_must_be_in_lower_case(model):
    content = model.read_bytes()
    old = split(content)[0]["__metadata__"]["sha256"].encode()
    assert old != old.upper()
    refusal(model, content.replace(old, old.upper()))


def test_reading_takes_little_more_memory_than_the_file(tmp_path):
    size = 4_000_000
    write_file(tmp_path / "m", {"x": np.ones(size // 4, np.float32)}, {})
    tracemalloc.start()
    read_file(tmp_path / "m")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.3 * size


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_file(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_what_is_no_regular_file_is_refused_at_once(kind, tmp_path, monkeypatch):
    """Nobody writes to the pipe: reading from it would wait for ever."""
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    path = "x" if kind != "device" else os.devnull
    if kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path)
    error = IsADirectoryError if kind == "folder" else OSError
    with pytest.raises(error, match=f"expected a regular file, got a {kind}") as caught:
        lenet5c.load(path)
    assert caught.value.filename == path


@pytest.mark.parametrize(
    ("array", "error", "said"),
    [
        (np.zeros(2), TypeError, "float64"),
        (np.zeros(2, np.float16), TypeError, "float16"),
        (np.zeros(2, np.int32), TypeError, "int32"),
        (np.zeros(2, np.complex64), TypeError, "complex64"),
        (np.array([None]), TypeError, "object"),
        (np.array(["a"]), TypeError, "U1"),
        ([1.0], TypeError, "list"),
        (None, TypeError, "NoneType"),
        (np.float32(1), TypeError, "float32 array"),
        (np.zeros((2, 0), np.float32), ValueError, "(2, 0)"),
        (np.zeros((1,) * 9, np.float32), ValueError, "8 dimensions"),
        (np.array([1, np.nan], np.float32), ValueError, "finite"),
        (np.array([1, -np.inf], ">f4"), ValueError, "finite"),
    ],
    ids=str,
)
def test_other_arrays_are_refused_before_anything_is_written(
    array, error, said, tmp_path
):
    with pytest.raises(error) as caught:
        write_file(tmp_path / "m", {**tensors(), "F6.bias": array}, {})
    assert "tensor 'F6.bias': expected" in str(caught.value)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "metadata", "error"),
    [
        ({"__metadata__"}, {}, ValueError),
        ({1}, {}, TypeError),
        ({None}, {}, TypeError),
        ({b"x"}, {}, TypeError),
        ({"\ud800"}, {}, ValueError),
        ((), {"sha256": "x"}, ValueError),
        ((), {"format": "x"}, ValueError),
        ((), {"format_version": "2"}, ValueError),
        ((), {1: "x"}, TypeError),
        ((), {"x": 1}, TypeError),
        ((), {"x": None}, TypeError),
        ((), {"x": b"x"}, TypeError),
        ((), {"x": "\ud800"}, ValueError),
        ((), {"x": "x" * MOST}, ValueError),
        ((), {"x": "字" * (MOST // 3)}, ValueError),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_other_names_and_metadata_are_refused_before_anything_is_written(
    names, metadata, error, tmp_path
):
    arrays = dict.fromkeys(names, np.ones(1, np.float32))
    with pytest.raises(error, match=r"^(tensors|metadata)\b.*: "):
        write_file(tmp_path / "m", arrays, metadata)
    assert not list(tmp_path.iterdir())


def test_the_largest_header_that_is_written_is_read(tmp_path):
    def header_bytes(text):
        write_file(tmp_path / "m", {}, {"x": text})
        return int.from_bytes((tmp_path / "m").read_bytes()[:8], "little")

    room = MOST - header_bytes("") + 7
    while room:
        try:
            assert header_bytes("x" * room) == MOST
            break
        except ValueError:
            room -= 1
    assert read_file(tmp_path / "m")[1] == {"x": "x" * room}


def test_a_header_that_is_too_long_says_what_makes_it_long(tmp_path):
    said = rf"at most {MOST} bytes, got \d+, of which {MOST} are 'classes'"
    with pytest.raises(ValueError, match=said):
        write_file(tmp_path / "m", {}, {"network": "x", "classes": "x" * MOST})


class Crash(Exception):
    pass


def test_a_failure_at_any_step_leaves_the_old_file_and_no_other(
    model, tmp_path, monkeypatch
):
    """Every call that changes something on the disk fails once, one after the other."""
    before = model.read_bytes()
    calls, fail_at = 0, None

    def counted(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise Crash
            return function(*arguments, **options)

        return call

    def counting_open(*arguments, **options):
        return Counting(open(*arguments, **options))

    class Counting:
        def __init__(self, file):
            self.file = file
            self.write = counted(file.write)
            self.flush = counted(file.flush)
            self.fileno = file.fileno

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    monkeypatch.setattr(atomic, "open", counted(counting_open), raising=False)
    for name in ("chmod", "fsync", "replace"):
        monkeypatch.setattr(atomic.os, name, counted(getattr(os, name)))

    outcomes = []
    while True:
        calls, fail_at = 0, len(outcomes) + 1
        try:
            write_file(model, tensors(1), {"new": "yes"})
        except Crash:
            outcomes.append(model.read_bytes() == before)
            assert only_file(tmp_path) == model
            continue
        break
    monkeypatch.undo()
    # open, four writes, flush, chmod, fsync, replace; then comes the folder's fsync
    assert outcomes == [True] * 9 + [False]
    found, metadata = read_file(model)
    assert metadata == {"new": "yes"}
    np.testing.assert_array_equal(found["C1.bias"], tensors(1)["C1.bias"])


def test_the_content_reaches_the_disk_before_its_name_and_then_the_folder(
    model, monkeypatch
):
    events = []
    folder = model.parent
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("folder" if is_folder else os.fstat(descriptor).st_size)
        fsync(descriptor)

    def noted_replace(source, target):
        assert Path(source).parent == Path(target).parent == folder
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(atomic.os, "replace", noted_replace)
    write_file(model, tensors(), METADATA)
    assert events == [model.stat().st_size, "replace", "folder"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_an_interrupted_write_leaves_no_temporary_file(error, tmp_path, monkeypatch):
    def fail(_):
        assert only_file(tmp_path).name.startswith(".")
        raise error

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(error):
        write_file(tmp_path / "m", tensors(), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "fails"),
    [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)],
)
def test_a_file_system_that_cannot_sync_folders_is_no_failure(
    number, fails, tmp_path, monkeypatch
):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    if fails:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_file(tmp_path / "m", tensors(), {})
    else:
        write_file(tmp_path / "m", tensors(), {})
    assert list(read_file(tmp_path / "m")[0]) == list(tensors())


@pytest.mark.skipif(os.name != "posix", reason="a file-size limit is a POSIX thing")
def test_a_full_disk_leaves_the_old_file_and_no_other(model, tmp_path):
    before = model.read_bytes()
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from lenet5c.files.container import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_file(sys.argv[1], {'x': np.ones(100_000, np.float32)}, {})\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(model)], check=False)
    assert ran.returncode == errno.EFBIG
    assert model.read_bytes() == before
    assert only_file(tmp_path) == model


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_the_umask(umask, tmp_path):
    old = os.umask(umask)
    try:
        write_file(tmp_path / "m", tensors(), {})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(mode, model):
    model.chmod(mode)
    write_file(model, tensors(1), {})
    assert stat.S_IMODE(model.stat().st_mode) == mode
    np.testing.assert_array_equal(read_file(model)[0]["scale"], tensors(1)["scale"])


@pytest.mark.skipif(not hasattr(os, "chown"), reason="owners of POSIX")
def test_owner_and_attributes_of_a_file_that_is_replaced_are_kept(model):
    mine = os.geteuid(), os.getegid()
    owner = (12345, 54321) if mine[0] == 0 else mine
    os.chown(model, *owner)
    model.chmod(0o640)
    attributes = {"user.name": b"digits", "user.empty": b""}
    try:
        for name, value in attributes.items():
            os.setxattr(model, name, value)
    except (AttributeError, OSError):
        attributes = {}
    write_file(model, tensors(1), {})
    found = model.stat()
    assert (found.st_uid, found.st_gid) == owner
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert {name: os.getxattr(model, name) for name in attributes} == attributes


@pytest.mark.skipif(not hasattr(os, "listxattr"), reason="attributes of Linux")
def test_what_a_new_file_has_of_the_folder_and_the_old_one_not_is_removed(
    model, monkeypatch
):
    """As the access list of a folder that got one later."""
    listed, removed = os.listxattr, []
    monkeypatch.setattr(
        os, "listxattr", lambda at: ["user.new"] if isinstance(at, int) else listed(at)
    )
    monkeypatch.setattr(os, "removexattr", lambda _, name: removed.append(name))
    write_file(model, tensors(1), {})
    assert removed == ["user.new"]


def test_what_the_system_does_not_permit_to_keep_is_no_failure(model, monkeypatch):
    calls = []

    def refuse(*arguments):
        calls.append(arguments[1:])
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    owner = model.stat()
    for name in ("chown", "setxattr", "removexattr"):
        monkeypatch.setattr(atomic.os, name, refuse, raising=False)
    monkeypatch.setattr(atomic.os, "listxattr", lambda _: ["user.a"], raising=False)
    write_file(model, tensors(1), {})
    assert calls[:2] == [(owner.st_uid, owner.st_gid), (-1, owner.st_gid)]
    np.testing.assert_array_equal(read_file(model)[0]["scale"], tensors(1)["scale"])


def test_a_file_that_is_being_replaced_is_not_shown_to_others(model):
    model.chmod(0o600)

    def parts():
        (temporary,) = set(model.parent.iterdir()) - {model}
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        yield b"x"

    old = os.umask(0)
    try:
        atomic.write_atomically(model, parts())
    finally:
        os.umask(old)
    assert stat.S_IMODE(model.stat().st_mode) == 0o600


STALE = ".lenet5c-0123456789abcdef.tmp"


def test_the_next_write_removes_what_killed_ones_left(tmp_path):
    others = [".x.tmp", STALE.replace("lenet5c-", ""), STALE + ".txt", "notes"]
    for name in (STALE, *others):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / STALE.replace("0", "1"))
    (tmp_path / STALE.replace("0", "2")).symlink_to("notes")
    (tmp_path / STALE.replace("0", "3")).mkdir()
    write_file(tmp_path / "m", tensors(), {})
    left = {path.name for path in tmp_path.iterdir()}
    assert left >= {*others, "m"}
    assert STALE not in left
    assert (tmp_path / "notes").read_text() == "x"


def test_what_is_still_being_written_is_not_removed(tmp_path):
    """By this thread, another one, or another process."""

    def parts():
        yield b"first "
        write_file(tmp_path / "m", tensors(), {})
        code = "import sys\nfrom lenet5c.files import atomic\n"
        code += "atomic.write_atomically(sys.argv[1], [b'x'])"
        arguments = [sys.executable, "-c", code, str(tmp_path / "n")]
        subprocess.run(arguments, check=True, env=python_environment())
        yield b"second"

    atomic.write_atomically(tmp_path / "slow", parts())
    assert (tmp_path / "slow").read_bytes() == b"first second"
    assert {path.name for path in tmp_path.iterdir()} == {"slow", "m", "n"}


def test_a_file_taken_away_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    """Another writer may look at the folder in between."""
    lock, lost = atomic.lock, []

    def late(descriptor):
        if len(lost) < 2:
            (path,) = tmp_path.iterdir()
            lost.append(path)
            if len(lost) == 1:
                path.unlink()
            else:
                return False  # the other one holds it and will remove it
        return lock(descriptor)

    monkeypatch.setattr(atomic, "lock", late)
    write_file(tmp_path / "m", tensors(), {})
    assert len(set(lost)) == 2
    assert only_file(tmp_path).name == "m"


@pytest.mark.parametrize("without", ["module", "file system"])
def test_where_nothing_can_be_locked_nothing_is_removed(without, tmp_path, monkeypatch):
    if without == "module":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        fcntl = pytest.importorskip("fcntl")

        def refuse(*_):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

        monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / STALE).write_text("x")
    write_file(tmp_path / "m", tensors(), {})
    assert {path.name for path in tmp_path.iterdir()} == {STALE, "m"}


KILLED = """
import sys
import numpy as np
from lenet5c.files.container import write_file

x = np.arange(200_000, dtype=np.float32)
write_file(sys.argv[1], {"x": x}, {})
print("ready", flush=True)
while True:
    write_file(sys.argv[1], {"x": x}, {})
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_write_leaves_a_file_that_opens_and_nothing_for_long(tmp_path):
    path = tmp_path / "m"
    for run in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)],
            env=python_environment(),
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.003 * run)
            process.send_signal(signal.SIGKILL)
        assert read_file(path)[0]["x"][-1] == 199_999
        write_file(tmp_path / "other", tensors(), {})
        assert {found.name for found in tmp_path.iterdir()} == {"m", "other"}


def test_a_symbolic_link_stays_one(model, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    link = folder / "link"
    link.symlink_to(model)
    write_file(link, tensors(1), {})
    assert link.is_symlink()
    assert only_file(folder) == link
    np.testing.assert_array_equal(read_file(model)[0]["scale"], tensors(1)["scale"])


def test_only_regular_files_are_replaced(tmp_path):
    with pytest.raises(IsADirectoryError) as caught:
        write_file(tmp_path, tensors(), {})
    assert caught.value.filename == str(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="expected the name of a regular file"):
        write_file(pipe, tensors(), {})
    assert only_file(tmp_path) == pipe
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_file(tmp_path / "nowhere" / "m", tensors(), {})
    assert str(caught.value.filename) == str(tmp_path / "nowhere")


@pytest.mark.parametrize("path", [None, 1.5, b"m"])
def test_other_paths_are_a_type_error(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError):
        write_file(path, tensors(), {})
    assert not list(tmp_path.iterdir())
