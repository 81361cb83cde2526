"""Images and labels in every form people have them reach the network alike."""

import math
import tracemalloc

import numpy as np
import pytest

import lenet5c
from lenet5c.data.images import InputStage, as_images, encode_labels

LENET5 = (1, 32, 32)


def random_images(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape).astype(dtype)


def what_the_network_sees(images, stage: InputStage, shape=LENET5) -> np.ndarray:
    """The input after scaling and padding: a network that only passes it on."""
    model = lenet5c.Model(
        [lenet5c.AvgPool2d(1)], input_shape=shape, classes=math.prod(shape)
    )
    model.set_input(stage, shape[1:], model.classes)
    return model.forward(images).reshape(-1, *shape)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ((5, 28, 28), (5, 1, 28, 28)),
        ((5, 784), (5, 1, 28, 28)),
        ((5, 1, 28, 28), (5, 1, 28, 28)),
        ((5, 32, 32), (5, 1, 32, 32)),
        ((5, 1024), (5, 1, 32, 32)),
        ((5, 20, 24), (5, 1, 20, 24)),
        ((5, 1, 1), (5, 1, 1, 1)),
        ((1, 28, 28), (1, 1, 28, 28)),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_shapes_that_are_taken(given, taken, dtype):
    images = random_images(*given, dtype=dtype)
    found = as_images(images, LENET5)
    np.testing.assert_array_equal(found, images.reshape(taken))
    assert found.shape == taken
    assert found.dtype == images.dtype
    assert np.shares_memory(found, images)  # not copied


def test_shapes_of_several_channels():
    shape = (3, 6, 8)
    images = random_images(4, 3, 5, 7)
    np.testing.assert_array_equal(as_images(images, shape), images)
    flat = random_images(4, 3 * 6 * 8)
    np.testing.assert_array_equal(as_images(flat, shape), flat.reshape(4, *shape))


@pytest.mark.parametrize(
    ("shape", "network"),
    [
        ((), LENET5),
        ((784,), LENET5),
        ((28, 28), LENET5),
        ((5, 783), LENET5),
        ((5, 33, 32), LENET5),
        ((5, 32, 33), LENET5),
        ((5, 1089), LENET5),
        ((5, 3, 28, 28), LENET5),
        ((5, 28, 28, 2), LENET5),
        ((5, 1, 1, 28, 28), LENET5),
        ((0, 28, 28), LENET5),
        ((0, 784), LENET5),
        ((5, 0, 28), LENET5),
        ((5, 0), LENET5),
        ((5, 28, 28), (3, 32, 32)),
        ((5, 784), (3, 32, 32)),
        ((5, 28, 28, 4), (3, 32, 32)),
    ],
)
def test_shapes_that_are_refused(shape, network):
    images = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=r"^images: expected \(N, .*got"):
        as_images(images, network)


BASE = random_images(6, 28, 28)


def forms() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name: (the form, the plain array that it equals)"""
    floats = (BASE / 255).astype(np.float32)
    exact = BASE.astype(np.float32) / 256  # exact in float16 as well
    read_only = BASE.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(floats.nbytes + 1, np.uint8)[1:].view(np.float32)
    unaligned = unaligned.reshape(floats.shape)
    unaligned[...] = floats
    strided = np.zeros((12, 30, 30), np.uint8)
    strided[::2, 1:29, 1:29] = BASE
    return {
        "float64": (floats.astype(np.float64), floats),
        "float16": (exact.astype(np.float16), exact),
        "long double": (floats.astype(np.longdouble), floats),
        "big-endian float32": (floats.astype(">f4"), floats),
        "big-endian float64": (floats.astype(">f8"), floats),
        "Fortran order": (np.asfortranarray(BASE), BASE),
        "Fortran order, float": (np.asfortranarray(floats), floats),
        "negative strides": (BASE[::-1, ::-1, ::-1][::-1, ::-1, ::-1], BASE),
        "turned round": (floats[:, ::-1], np.ascontiguousarray(floats[:, ::-1])),
        "swapped axes": (BASE.transpose(0, 2, 1), BASE.transpose(0, 2, 1).copy()),
        "every second": (strided[::2, 1:29, 1:29], BASE),
        "read-only": (read_only, BASE),
        "unaligned": (unaligned, floats),
        "broadcast": (np.broadcast_to(BASE[:1], BASE.shape), BASE[[0] * 6]),
        "list of lists of floats": (floats.tolist(), floats),
        "list of arrays": (list(BASE), BASE),
        "flat and swapped": (floats.reshape(6, 784)[::-1], floats[::-1].copy()),
    }


@pytest.mark.parametrize("name", forms())
def test_every_form_of_an_array_gives_the_same_answer(name):
    form, plain = forms()[name]
    model = lenet5c.lenet5()
    np.testing.assert_array_equal(model.forward(form), model.forward(plain))
    taken = as_images(form, LENET5)
    assert taken.flags.c_contiguous
    assert taken.flags.aligned


@pytest.mark.parametrize("name", forms())
def test_every_form_of_an_array_gives_the_same_weights(name, digest):
    form, plain = forms()[name]
    digests = set()
    for images in (form, plain):
        model = lenet5c.lenet5()
        model.fit(images, [3, 1, 4, 1, 5, 9], epochs=2, batch_size=4)
        digests.add(digest(model))
    assert len(digests) == 1


@pytest.fixture(params=["npy", "memmap", "IDX", "writable"])
def mapped(request, tmp_path):
    """Map an array, in each of the ways that there are."""

    def of(array):
        path = tmp_path / "images"
        if request.param == "memmap":
            array.tofile(path)
            return np.memmap(path, array.dtype, "r", shape=array.shape)
        if request.param == "IDX":
            if array.dtype != np.uint8:
                pytest.skip("floats are big-endian in IDX files")
            lenet5c.datasets.write_idx(path, array)
            return lenet5c.datasets.read_idx(path, mmap=True)
        with open(path, "wb") as file:
            np.save(file, array)
        return np.load(path, mmap_mode="r" if request.param == "npy" else "c")

    return of


FLOATS = (BASE / 255).astype(np.float32)


@pytest.mark.parametrize("shape", [(6, 28, 28), (6, 784), (6, 1, 28, 28)])
@pytest.mark.parametrize("plain", [BASE, FLOATS], ids=["uint8", "float32"])
def test_a_memory_map_gives_the_same_answer_and_is_not_copied(plain, shape, mapped):
    images = mapped(plain.reshape(shape))
    taken = as_images(images, LENET5)
    assert np.shares_memory(taken, images)
    assert InputStage.of(taken) == InputStage.of(plain[:, np.newaxis])
    model = lenet5c.lenet5()
    np.testing.assert_array_equal(model.forward(images), model.forward(plain))


@pytest.mark.parametrize("plain", [BASE, FLOATS], ids=["uint8", "float32"])
def test_a_memory_map_gives_the_same_weights(plain, mapped, digest):
    digests = set()
    for images in (plain, mapped(plain)):
        model = lenet5c.lenet5()
        model.fit(images, [3, 1, 4, 1, 5, 9], epochs=2, batch_size=4, validation=0.3)
        digests.add(digest(model))
    assert len(digests) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_a_memory_map_is_found(bad, mapped):
    images = np.zeros((5_000, 20, 20), np.float32)  # several parts
    images[3_456, 19, 19] = bad
    with pytest.raises(ValueError, match=r"^images: expected finite .*image 3456 "):
        as_images(mapped(images), LENET5)


@pytest.mark.parametrize("side", [28, 200])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_looking_at_images_takes_little_memory(dtype, side):
    """However many there are and however large each is."""
    images = np.zeros((20_000_000 // side**2, 1, side, side), dtype)
    images[3, 0, 2, 1] = 7
    tracemalloc.start()
    InputStage.of(as_images(images, (1, side, side)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_large_image_is_a_part_of_its_own():
    images = random_images(3, 1, 1100, 1000)
    stage = InputStage.of(images)
    assert stage.mean == pytest.approx((images / 255).mean(), rel=1e-6)
    floats = images.astype(np.float32)
    floats[2, 0, 999, 999] = np.nan
    with pytest.raises(ValueError, match="image 2 has"):
        as_images(floats, (1, 1100, 1000))


def test_the_callers_array_is_not_changed():
    for images in (BASE, BASE / 255, (BASE / 255).astype(np.float32)):
        before = images.copy()
        model = lenet5c.lenet5()
        model.fit(images, [3, 1, 4, 1, 5, 9], epochs=1)
        model.predict_proba(images)
        np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    "images",
    [
        None,
        "images",
        {},
        BASE.astype(complex),
        BASE.astype(object),
        BASE.astype(str),
    ],
)
def test_elements_that_are_no_pixels_are_refused(images):
    with pytest.raises(TypeError, match=r"^images: expected uint8"):
        as_images(images, LENET5)


@pytest.mark.parametrize("dtype", ["i8", "u8", ">i2", "u4", list])
def test_whole_numbers_from_0_to_255_are_bytes(dtype):
    images = BASE.tolist() if dtype is list else BASE.astype(dtype)
    found = as_images(images, LENET5)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, 0], BASE)


def test_booleans_are_black_and_white():
    found = as_images(BASE > 3, LENET5)
    np.testing.assert_array_equal(found[:, 0], np.where(BASE > 3, 255, 0))


@pytest.mark.parametrize("bad", [-1, 256, 2**40])
def test_other_whole_numbers_are_refused_and_the_image_is_named(bad):
    images = np.zeros((5_000, 28, 28), np.int64)  # more than one part is looked at
    images[4_321, 7, 7] = bad
    with pytest.raises(ValueError, match=f"from 0 to 255, .* image 4321 has {bad}$"):
        as_images(images, LENET5)


def test_channels_may_come_last():
    images = random_images(5, 28, 26, 3)
    found = as_images(images, (3, 32, 32))
    np.testing.assert_array_equal(found, images.transpose(0, 3, 1, 2))
    assert as_images(images[..., :1], LENET5).shape == (5, 1, 28, 26)


def test_one_image_is_told_how_it_is_given():
    with pytest.raises(ValueError, match=r"got the shape \(28, 28\); .*np.newaxis"):
        as_images(random_images(28, 28), LENET5)
    with pytest.raises(ValueError, match=r"np\.newaxis"):
        as_images(random_images(3, 28, 28), (3, 32, 32))


def test_lists_of_different_lengths_are_refused_by_name():
    with pytest.raises((TypeError, ValueError), match=r"^images"):
        as_images([[0.5, 0.5], [0.5]], LENET5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_pixels_that_are_not_finite_are_refused_and_the_image_is_named(bad, dtype):
    images = np.zeros((5_000, 2, 2), dtype)  # more than one part is looked at
    images[4_321, 1, 0] = bad
    with pytest.raises(ValueError, match=r"^images: expected finite .*image 4321 "):
        as_images(images, LENET5)


def test_pixels_beyond_float32_are_refused():
    with pytest.raises(ValueError, match=r"image 2 has .* a value beyond float32"):
        as_images([[[0.0]], [[1.0]], [[1e300]]], LENET5)


# The input stage


def test_bytes_are_normalised_with_the_mean_and_deviation_of_the_training_images():
    images = random_images(50, 28, 28)
    stage = InputStage.of(as_images(images, LENET5))
    pixels = images / 255
    assert stage.mean == pytest.approx(pixels.mean(), rel=1e-6)
    assert stage.deviation == pytest.approx(pixels.std(), rel=1e-6)
    expected = np.full((50, 1, 32, 32), -pixels.mean() / pixels.std())
    expected[:, 0, 2:30, 2:30] = (pixels - pixels.mean()) / pixels.std()
    found = what_the_network_sees(images, stage)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_the_stage_of_many_images_is_that_of_all_of_them():
    images = random_images(5_000, 1, 3, 2)
    images[4_096:] //= 3
    stage = InputStage.of(images)
    assert stage.mean == pytest.approx((images / 255).mean(), rel=1e-6)
    assert stage.deviation == pytest.approx((images / 255).std(), rel=1e-6)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_images_of_one_value_have_deviation_one(value):
    stage = InputStage.of(np.full((3, 1, 4, 4), value, np.uint8))
    assert stage.deviation == 1.0
    seen = what_the_network_sees(np.full((1, 4, 4), value, "u1"), stage)
    assert np.abs(seen[0, 0, 14:18, 14:18]).max() < 1e-6


def test_floats_are_taken_as_they_are_on_their_smallest_value():
    images = np.random.default_rng(2).normal(size=(21, 28, 28)).astype(np.float32)
    stage = InputStage.of(as_images(images, LENET5))
    assert (stage.mean, stage.deviation) == (0.0, 1.0)
    expected = np.full((21, 1, 32, 32), images.min())
    expected[:, 0, 2:30, 2:30] = images
    np.testing.assert_array_equal(what_the_network_sees(images, stage), expected)


@pytest.mark.parametrize("size", [(1, 1), (20, 24), (27, 31), (31, 27), (32, 31)])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_smaller_images_are_centred_on_the_background(size, dtype):
    """In every channel, and for more images than a register holds."""
    height, width = size
    images = random_images(37, 3, height, width, dtype=dtype)
    stage = InputStage(0.0, 1 / 255, -5.0)  # bytes keep their values
    top, left = (32 - height) // 2, (32 - width) // 2
    expected = np.full((37, 3, 32, 32), -5.0, np.float32)
    expected[:, :, top : top + height, left : left + width] = images
    found = what_the_network_sees(images, stage, (3, 32, 32))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_fit_keeps_the_stage_of_its_first_images(small, small_images, labels):
    small.fit(small_images, labels, epochs=1)
    stage = small.stage
    assert stage == InputStage.of(small_images[:, np.newaxis])
    assert small.source == (12, 12)
    small.fit(small_images // 2, labels, epochs=1)
    assert small.stage == stage


def test_images_held_out_have_no_part_in_the_stage(small, small_images, labels):
    brighter = small_images.copy()
    brighter[::2] //= 4
    small.fit(brighter, labels, epochs=1, validation=0.5)
    assert small.stage != InputStage.of(brighter[:, np.newaxis])


# Labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.arange(10) % 10, np.arange(10)),
        (np.arange(10) % 3, np.arange(10)),  # some are missing
        (np.arange(10)[::-1], np.arange(10)),
        (np.arange(10).astype(np.uint8), np.arange(10)),
        (np.arange(10).astype(">i2"), np.arange(10)),
        (np.arange(10.0), np.arange(10)),
        (list(range(10)), np.arange(10)),
        (np.arange(10)[:, None], np.arange(10)),
        (np.arange(1, 11), np.arange(1, 11)),
        (np.arange(-5, 5), np.arange(-5, 5)),
        (np.arange(0, 1000, 100)[::-1], np.arange(0, 1000, 100)),
        (list("jihgfedcba"), np.array(list("abcdefghij"))),
        (np.array(list("jihgfedcba"), object), np.array(list("abcdefghij"))),
        (
            [f"class {i}" for i in range(10)],
            np.array([f"class {i}" for i in range(10)]),
        ),
    ],
)
def test_labels_are_found_again(labels, classes):
    known, codes = encode_labels(labels, 10, 10)
    np.testing.assert_array_equal(known, classes)
    assert codes.dtype == np.int32
    expected = np.ravel(np.asarray(labels))
    np.testing.assert_array_equal(known[codes], expected)
    again, same = encode_labels(labels, 10, 10, known)
    np.testing.assert_array_equal(again, known)
    np.testing.assert_array_equal(same, codes)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, float])
def test_one_hot_rows_are_the_numbers_of_their_columns(dtype):
    numbers = np.array([3, 1, 4, 1, 5, 9])
    known, codes = encode_labels(np.eye(10, dtype=dtype)[numbers], 6, 10)
    np.testing.assert_array_equal(codes, numbers)
    np.testing.assert_array_equal(known, np.arange(10))


def test_booleans_are_too_few_classes_for_a_larger_network():
    with pytest.raises(ValueError, match=r"^labels: the network has 10 classes, got 2"):
        encode_labels([True, False, True], 3, 10)


def test_booleans_are_two_classes():
    known, codes = encode_labels([True, False, True], 3, 2)
    np.testing.assert_array_equal(known, [False, True])
    np.testing.assert_array_equal(codes, [1, 0, 1])
    assert known[codes].dtype == bool


def test_known_classes_need_not_be_in_order():
    known = np.array(["pear", "apple", "fig"])
    _, codes = encode_labels(["fig", "pear", "apple", "apple"], 4, 3, known)
    np.testing.assert_array_equal(codes, [2, 0, 1, 1])


ROWS = np.eye(10)[[3, 1, 4]]


@pytest.mark.parametrize(
    "labels",
    [
        None,
        7,
        "abc",
        [],
        [1, 2],
        [1, 2, 3, 4],
        [[1, 2, 3]],
        np.zeros((3, 2, 2), int),
        [0, 1, 10],
        [0, 1, -1],
        [0, 1, np.nan],
        [0, 1, np.inf],
        [0, 1, 1.5],
        [0, 1, 1e300],
        [0, 1, None],
        [0, 1, 1j],
        [0, "one", 2.5],
        ["a", "b", "c"],
        np.array([0, 1, 2], "M8[s]"),
        [[1, 2], [3]],
        ROWS * 2,
        ROWS + np.eye(10)[[0, 0, 0]],
        ROWS * np.array([[1], [1], [0]]),
        np.where(ROWS == 1, np.nan, ROWS),
        ROWS[:, :9],
        ROWS.astype(str),
        ROWS.astype(object),
    ],
)
@pytest.mark.parametrize("known", [None, np.arange(10)], ids=["new", "known"])
def test_labels_that_do_not_fit_are_refused_by_name(labels, known):
    with pytest.raises((TypeError, ValueError), match=r"^labels: "):
        encode_labels(labels, 3, 10, known)


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        ([0, 1, 2], np.array(["0", "1", "02"])),
        (["0", "1", "02"], np.arange(3)),
        (["0", "1", "-1"], np.arange(3)),
        (["a", "b", "d"], np.array(["a", "b", "c"])),
        (["a", "b", "longer"], np.array(["a", "b", "l"])),
        ([1, 2, 4], np.array([1, 2, 3])),
        ([1, 2, 0], np.array([1, 2, 3])),
    ],
)
def test_labels_of_other_classes_than_those_known_are_refused(labels, known):
    with pytest.raises(ValueError, match=r"^labels: expected labels among"):
        encode_labels(labels, 3, 3, known)


def test_numbers_and_their_texts_are_the_same_labels():
    texts, numbers = np.array(["10", "9", "-1"]), np.array([10, 9, -1])
    for labels, known in ((texts, numbers), (numbers, texts), (texts, texts)):
        _, codes = encode_labels(labels[[2, 0, 0]], 3, 3, known)
        np.testing.assert_array_equal(codes, [2, 0, 0])


def test_unsigned_labels_beyond_int64_are_refused():
    """They would turn negative."""
    with pytest.raises(ValueError, match=r"^labels"):
        encode_labels(np.array([2**64 - 1, 3], np.uint64), 2, 2)


def test_half_a_surrogate_pair_is_no_label():
    with pytest.raises(ValueError, match=r"fig.udcff.* is not text"):
        encode_labels(["fig", "fig\udcff"], 2, 2)


def test_one_hot_rows_are_refused_where_classes_are_not_numbered_from_0():
    """A column's number is no label then: 3 would be taken for the class called 3."""
    with pytest.raises(ValueError, match=r"^labels"):
        encode_labels(np.eye(10)[[3, 4]], 2, 10, np.arange(1, 11))


def test_errors_name_the_argument_that_they_are_about():
    with pytest.raises(ValueError, match=r"^validation labels"):
        encode_labels([1, 2], 3, 10, argument="validation labels")
    with pytest.raises(TypeError, match=r"^validation images"):
        as_images(None, LENET5, "validation images")
