"""Arrays from files: which become bytes, where their channels are moved."""

import tracemalloc

import numpy as np
import pytest

from lenet5c.data import arrays
from lenet5c.data.arrays import as_bytes, planes


def whole(dtype, *shape, most=255):
    values = np.random.default_rng(0).integers(0, most + 1, shape)
    values.flat[:2] = 0, most
    return values.astype(dtype)


def as_is(array):
    return as_bytes("here", {"x": array})["x"]


@pytest.mark.parametrize(
    "dtype", ["u1", "i2", ">i2", "u2", "i4", "u4", "i8", ">u8", "f2", "f4", ">f4", "f8"]
)
def test_whole_numbers_from_0_to_255_become_uint8(dtype):
    array = whole(dtype, 5, 6, 7)
    found = as_is(array)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


def test_uint8_is_neither_copied_nor_read():
    array = whole("u1", 5, 6, 7)
    assert as_is(array) is array


def test_true_becomes_255():
    array = whole("u1", 5, 6, 7) > 99
    found = as_is(array)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(array, 255, 0))


def test_integers_of_0_and_1_become_uint8():
    assert as_is(whole("i8", 5, 6, 7, most=1)).dtype == np.uint8


@pytest.mark.parametrize(
    "array",
    [
        whole("f4", 5, 6, 7) / 255,
        whole("f4", 5, 6, 7, most=1),  # 0 and 1 alone
        whole("f4", 5, 6, 7) + 1,  # 256 among them
        whole("f4", 5, 6, 7) - 1,
        whole("f4", 5, 6, 7) + np.float32(0.5),
        np.where(whole("f4", 5, 6, 7) == 255, np.nan, 3),
    ],
    ids=["0 to 1", "0 and 1", "256", "-1", "halves", "nan"],
)
def test_other_floats_stay(array):
    assert as_is(array) is array


@pytest.mark.parametrize("last", [3.0, 3.5])
def test_all_pixels_of_floats_are_looked_at(last, monkeypatch):
    monkeypatch.setattr(arrays, "PIECE", 10)
    array = np.zeros((50, 2, 2))
    array[-1, -1, -1] = last
    assert as_is(array).dtype == (np.uint8 if last == 3 else np.float64)


def test_floats_of_one_data_set_become_bytes_together():
    """A test set that is black and white alone is of the same kind as the others."""
    train, test = whole("f4", 5, 6, 7), whole("f4", 5, 6, 7, most=1)
    found = as_bytes("here", {"x": train, "x_test": test})
    assert {array.dtype for array in found.values()} == {np.dtype("u1")}
    found = as_bytes("here", {"x": train / 255, "x_test": test})
    assert {array.dtype for array in found.values()} == {np.dtype("f4")}


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (whole("i2", 5, 6, 7) - 1, "x: expected pixels 0 to 255.*int16 from -1 to 254"),
        (whole("u2", 5, 6, 7, most=65535), "got uint16 from 0 to 65535"),
    ],
)
def test_integers_beyond_a_byte_are_refused_with_their_range(array, said):
    with pytest.raises(ValueError, match=said):
        as_is(array)


@pytest.mark.parametrize("dtype", ["c8", "U3", "S3"])
def test_what_is_no_number_is_refused(dtype):
    with pytest.raises(TypeError, match=r"^here: x: expected uint8 or floating"):
        as_is(np.zeros((5, 6, 7), dtype))


def test_mapped_integers_become_bytes_without_being_loaded(tmp_path):
    np.save(tmp_path / "x.npy", whole("i8", 20, 500, 500))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tracemalloc.start()
    found = as_is(mapped)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, mapped)
    assert not isinstance(found, np.memmap)
    assert peak < 1.2 * found.nbytes


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_are_moved(channels):
    array = whole("u1", 5, 28, 30, channels)
    found = planes("here", "x", array)
    assert found.shape == (5, channels, 28, 30)
    assert found.flags.c_contiguous
    for channel in range(channels):
        np.testing.assert_array_equal(found[:, channel], array[..., channel])


@pytest.mark.parametrize(
    "shape",
    [(5, 1, 28, 28), (5, 3, 28, 28), (5, 3, 28, 3), (5, 1, 1, 1), (5, 16, 8, 8)],
)
def test_other_layouts_stay(shape):
    array = whole("u1", *shape)
    assert planes("here", "x", array) is array


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 784), (5, 28, 3), (5, 28, 1)])
def test_fewer_dimensions_stay(shape):
    array = whole("u1", *shape)
    assert planes("here", "x", array) is array


@pytest.mark.parametrize("shape", [(5, 28, 28, 4), (5, 28, 28, 2)])
def test_another_number_of_channels_is_refused(shape):
    with pytest.raises(ValueError, match=r"x: expected images of 1 or 3 channels"):
        planes("here", "x", whole("u1", *shape))


@pytest.mark.parametrize("shape", [(), (5,), (5, 1, 2, 3, 4), (0, 28, 28), (5, 0, 28)])
def test_what_are_no_images_is_refused(shape):
    with pytest.raises(ValueError, match=r"x: expected images \(N, H, W\)"):
        planes("here", "x", np.zeros(shape, np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_mapped_channels_are_moved_without_a_copy(channels, tmp_path):
    np.save(tmp_path / "x.npy", whole("u1", 5, 28, 30, channels))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = planes("here", "x", mapped)
    assert found.shape == (5, channels, 28, 30)
    assert np.shares_memory(found, mapped)


@pytest.mark.parametrize(
    "labels",
    [np.array([2**63 + 1, 3], np.uint64), np.array([1e30, 1]), np.array([np.inf, 1])],
)
def test_labels_beyond_64_bits_are_refused(labels):
    with pytest.raises((TypeError, ValueError), match="a: y: expected"):
        arrays.as_labels("a", "y", labels, 2)


def test_chosen_images_are_taken_in_pieces(monkeypatch):
    monkeypatch.setattr(arrays, "PIECE", 20)
    images = np.arange(7 * 3 * 2).reshape(7, 3, 2)
    for chosen in (np.arange(7) % 3 != 1, np.zeros(7, bool), np.ones(7, bool)):
        np.testing.assert_array_equal(arrays.taken(images, chosen), images[chosen])
    assert arrays.taken(images, slice(2, 5)).base is not None
