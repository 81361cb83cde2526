"""IDX files: what is written and read, what is mapped, and what is refused."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from lenet5c.data import idx as idx_module
from lenet5c.data.idx import read_idx, write_idx

DTYPES = ("uint8", "int8", "int16", "int32", "float32", "float64")


def random_array(dtype, shape=(3, 4, 5), seed=0):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return values.astype(dtype)


def idx(array, *, code=8, shape=None, start=b"\0\0"):
    """IDX as the format's description has it, or a variation that is wrong."""
    shape = array.shape if shape is None else shape
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return start + bytes([code, len(shape)]) + sizes + array.tobytes()


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_idx_file_gives_back_the_array(dtype, end, tmp_path):
    array = random_array(dtype)
    if dtype.startswith(("int", "float")):
        array = -array
    write_idx(tmp_path / f"file{end}", array)
    found = read_idx(tmp_path / f"file{end}")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert found.flags.writeable
    assert found.flags.c_contiguous


@pytest.mark.parametrize("shape", [(1,), (7,), (0,), (2, 0, 3), (1, 2, 3, 4, 5)])
def test_an_idx_file_keeps_any_shape(shape, tmp_path):
    write_idx(tmp_path / "file", random_array("int16", shape))
    assert read_idx(str(tmp_path / "file")).shape == shape


@pytest.mark.parametrize(
    ("code", "dtype"), [*zip((8, 9, 11, 12, 13, 14), DTYPES, strict=True)]
)
def test_idx_is_as_its_description_says(code, dtype, tmp_path):
    array = random_array(dtype, (2, 3))
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    content = idx(big_endian, code=code)
    assert content[:12] == struct.pack(">HBBII", 0, code, 2, 2, 3)
    write_idx(tmp_path / "file", array)
    assert (tmp_path / "file").read_bytes() == content
    np.testing.assert_array_equal(read_idx(tmp_path / "file"), array)


def test_any_layout_of_an_array_is_written_as_the_same_idx_file(tmp_path):
    array = random_array("int32", (4, 6))
    for number, same in enumerate(
        [
            array,
            array.astype(">i4"),
            np.asfortranarray(array),
            np.repeat(array, 2, 1)[:, ::2],
        ]
    ):
        write_idx(tmp_path / str(number), same)
        assert (tmp_path / str(number)).read_bytes() == (tmp_path / "0").read_bytes()


def test_the_same_array_gives_the_same_gzipped_file(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, random_array("uint8"))
    content = (tmp_path / "a.gz").read_bytes()
    assert content == (tmp_path / "b.gz").read_bytes()
    assert content[4:8] == bytes(4)  # no time


def test_gzip_is_told_by_the_content_not_by_the_name(tmp_path):
    array = random_array("uint8")
    (tmp_path / "zipped").write_bytes(gzip.compress(idx(array)))
    (tmp_path / "plain.gz").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "zipped"), array)
    np.testing.assert_array_equal(read_idx(tmp_path / "plain.gz"), array)


@pytest.mark.parametrize("zipped", [False, True])
def test_every_truncated_idx_file_is_refused_by_name(zipped, tmp_path):
    content = idx(random_array("uint8"))
    if zipped:
        content = gzip.compress(content)
    path = tmp_path / "train-images"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="train-images: ") as caught:
            read_idx(path)
        if not zipped and length >= 16:
            said = str(caught.value)
            assert "truncated: expected 60 bytes for the shape (3, 4, 5)" in said
            assert said.endswith(f"got {length - 16}")


BAD_IDX = {
    "trailing byte": idx(random_array("uint8")) + b"\0",
    "trailing bytes, zipped": gzip.compress(idx(random_array("uint8")) + b"\0" * 9),
    "trailing garbage, zipped": gzip.compress(idx(random_array("uint8"))) + b"x" * 9,
    "empty": b"",
    "text": b"what is this?\n" * 20,
    "magic": idx(random_array("uint8"), start=b"\0\1"),
    "type 0": idx(random_array("uint8"), code=0),
    "type 10": idx(random_array("uint8"), code=10),
    "type 255": idx(random_array("uint8"), code=255),
    "no dimensions": idx(np.uint8(7)),
    "too few": idx(random_array("uint8"), shape=(3, 4, 6)),
    "too many": idx(random_array("uint8"), shape=(3, 4, 4)),
    "other size of type": idx(random_array("uint8"), code=13),
    "huge": idx(random_array("uint8"), shape=(2**32 - 1,) * 3),
    "255 dimensions": idx(random_array("uint8", ()), shape=(1,) * 255),
    "empty but huge": idx(random_array("uint8", (0,)), shape=(0,) + (2**32 - 1,) * 4),
    "zipped text": gzip.compress(b"text" * 99),
    "zipped nothing": gzip.compress(b""),
    "gzip header only": b"\x1f\x8b\x08",
    "wrong checksum": gzip.compress(idx(random_array("uint8")))[:-8] + bytes(8),
    "damaged": gzip.compress(idx(random_array("uint8")))[:20] + b"\xff" * 40,
}


@pytest.mark.parametrize("content", BAD_IDX.values(), ids=BAD_IDX)
def test_a_wrong_idx_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="some-file: "):
        read_idx(path)


@pytest.mark.parametrize(
    ("held", "declared"),
    [(99, (1 << 30, 4)), (30_000_000, (3,))],
    ids=["declares more than it holds", "holds more than it declares"],
)
def test_a_gzip_bomb_takes_no_memory(held, declared, tmp_path):
    path = tmp_path / "bomb.gz"
    content = idx(np.zeros(held, np.uint8), shape=declared)
    path.write_bytes(gzip.compress(content, 1))
    del content
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb\.gz: "):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_missing_idx_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        read_idx(tmp_path)
    with pytest.raises(TypeError):
        read_idx(None)


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros(2, np.int64), TypeError),
        (np.zeros(2, np.uint16), TypeError),
        (np.zeros(2, bool), TypeError),
        (np.array([None]), TypeError),
        (np.zeros((), np.uint8), ValueError),
        (np.broadcast_to(np.uint8(0), (2**32, 0)), ValueError),
    ],
    ids=["int64", "uint16", "bool", "object", "no dimension", "too large"],
)
def test_what_idx_cannot_hold_is_not_written(array, error, tmp_path):
    with pytest.raises(error, match=r"^array: expected"):
        write_idx(tmp_path / "file", array)
    assert not list(tmp_path.iterdir())


def test_a_failure_to_write_leaves_the_old_idx_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file.gz"
    write_idx(path, random_array("uint8"))
    before = path.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(idx_module.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_idx(path, random_array("uint8", seed=1))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


# Memory maps of IDX files


@pytest.mark.parametrize("shape", [(3, 4, 5), (1,), (0,), (2, 0, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_idx_file_can_be_mapped(dtype, shape, tmp_path):
    write_idx(tmp_path / "file", random_array(dtype, shape))
    found = read_idx(tmp_path / "file", mmap=True)
    np.testing.assert_array_equal(found, read_idx(tmp_path / "file"))
    assert found.dtype.newbyteorder("=") == np.dtype(dtype)
    assert found.shape == shape
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable


def test_a_map_of_a_file_takes_no_memory(tmp_path):
    write_idx(tmp_path / "file", np.zeros(20_000_000, np.uint8))
    tracemalloc.start()
    found = read_idx(tmp_path / "file", mmap=True)
    assert found[12_345_678] == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_gzipped_idx_file_cannot_be_mapped(tmp_path):
    write_idx(tmp_path / "file.gz", random_array("uint8"))
    with pytest.raises(ValueError, match=r"file\.gz: expected a plain file to map"):
        read_idx(tmp_path / "file.gz", mmap=True)


@pytest.mark.parametrize("content", BAD_IDX.values(), ids=BAD_IDX)
def test_a_wrong_idx_file_is_refused_before_it_is_mapped(content, tmp_path):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="some-file: "):
        read_idx(path, mmap=True)


def test_every_truncated_idx_file_is_refused_before_it_is_mapped(tmp_path):
    """Reading beyond the end of its file would end the process."""
    content = idx(random_array("uint8"))
    for length in range(len(content)):
        (tmp_path / "file").write_bytes(content[:length])
        with pytest.raises(ValueError, match="file: "):
            read_idx(tmp_path / "file", mmap=True)


def test_a_map_outlives_the_file_that_takes_its_place(tmp_path):
    array = random_array("uint8")
    write_idx(tmp_path / "file", array)
    mapped = read_idx(tmp_path / "file", mmap=True)
    write_idx(tmp_path / "file", random_array("uint8", (1,), seed=1))
    np.testing.assert_array_equal(mapped, array)
