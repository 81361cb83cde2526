"""Augmentation, against SciPy with the random numbers drawn again in Python."""

import math

import numpy as np
import pytest
from scipy import ndimage

import lenet5c
from lenet5c import Augment

NOTHING = Augment(shift=0, rotate=0, scale=0)
MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
SEED, EPOCH = 5, 3


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def subkey(key, number):
    return mix((mix(key) + (number + 1) * GOLDEN) & MASK)


class Draws:
    """The doubles that an image's key gives, one after the other."""

    def __init__(self, position):
        self.state = subkey(subkey(SEED, EPOCH), position)

    def __call__(self, low, high):
        self.state = (self.state + GOLDEN) & MASK
        return low + (high - low) * (mix(self.state) >> 11) * 2.0**-53


def uniforms(position, purpose, count):
    """Numbers of a map: a 32-bit hash of the image's key and their index."""
    key = np.uint32(subkey(subkey(subkey(SEED, EPOCH), position), purpose) & 0xFFFFFFFF)
    x = key ^ (np.arange(count, dtype=np.uint32) * np.uint32(GOLDEN >> 32))
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)) * 2.0**-24


def affine(augment, position, shape):
    """Where each pixel of the output comes from: rows, columns."""
    draw = Draws(position)
    angle = math.radians(draw(-augment.rotate, augment.rotate))
    size = draw(1 - augment.scale, 1 + augment.scale)
    slant = math.tan(draw(-math.radians(augment.shear), math.radians(augment.shear)))
    right = draw(-augment.shift, augment.shift)
    down = draw(-augment.shift, augment.shift)
    squeezed = draw(1 - augment.squeeze, 1 + augment.squeeze)
    turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    size_of_axes = np.diag([size * squeezed, size / squeezed])  # columns, rows
    matrix = np.array(turn) @ [[1, slant], [0, 1]] @ np.linalg.inv(size_of_axes)
    centre = (np.array(shape) - 1) / 2
    v, u = np.mgrid[: shape[0], : shape[1]].astype(float) - centre[:, None, None]
    columns, rows = np.tensordot(matrix, [u, v], 1)
    return rows + centre[0] - down, columns + centre[1] - right


def bends(position, shape, alpha, sigma):
    """Displacements of rows and columns."""
    fields = []
    for purpose in (0, 1):
        noise = 2 * uniforms(position, purpose, math.prod(shape)).reshape(shape) - 1
        smooth = ndimage.gaussian_filter(
            noise, sigma, mode="constant", radius=int(3 * sigma + 0.5)
        )
        fields.append(alpha * smooth)
    return fields


def look_up(image, rows, columns, background=0.0):
    """Bilinear interpolation; outside there is background."""
    return ndimage.map_coordinates(
        image.astype(float), [rows, columns], order=1, mode="grid-constant",
        cval=background,
    )  # fmt: skip


@pytest.fixture
def pictures():
    """(11, 2, 13, 18) uint8: smooth, so that a shift by a wrong fraction shows."""
    rng = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(rng.uniform(0, 2000, (11, 2, 13, 18)), (0, 0, 1, 1))
    return noise.clip(0, 255).astype(np.uint8)


def test_nothing_asked_for_changes_nothing(pictures):
    changed = NOTHING.apply(pictures)
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed, pictures / 255, atol=2e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"shift": 2, "rotate": 0, "scale": 0},
        {"shift": 0, "rotate": 30, "scale": 0},
        {"shift": 0, "rotate": 0, "scale": 0.3},
        {"shift": 0, "rotate": 0, "scale": 0, "shear": 25},
        {"shift": 0, "rotate": 0, "scale": 0, "squeeze": 0.4},
        {"shift": 3, "rotate": 180, "scale": 0.5, "shear": 10, "squeeze": 0.2},
    ],
)
def test_an_affine_map_is_that_of_scipy(pictures, options):
    augment = Augment(**options)
    changed = augment.apply(pictures, epoch=EPOCH, seed=SEED)
    for n, image in enumerate(pictures):
        rows, columns = affine(augment, n, image.shape[1:])
        for channel in range(2):
            expected = look_up(image[channel] / 255, rows, columns)
            np.testing.assert_allclose(changed[n, channel], expected, atol=2e-5)


def test_squeezing_keeps_the_area_and_changes_width_and_height_against_each_other():
    square = np.zeros((50, 1, 41, 41), np.float32)
    square[:, :, 10:31, 10:31] = 1
    changed = Augment(shift=0, rotate=0, scale=0, squeeze=0.3).apply(square)[:, 0]
    width, height = changed[:, 20].sum(axis=1), changed[:, :, 20].sum(axis=1)
    np.testing.assert_allclose(width * height, 21 * 21, rtol=0.02)
    assert 0.7 < (width / 21).min() < 0.75
    assert 1.25 < (width / 21).max() < 1.31


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_elastic_distortion_is_that_of_scipy(pictures, sigma):
    augment = Augment(shift=1, rotate=5, scale=0.1, elastic=(34, sigma))
    changed = augment.apply(pictures, epoch=EPOCH, seed=SEED)
    for n, image in enumerate(pictures):
        rows, columns = affine(augment, n, image.shape[1:])
        down, right = bends(n, image.shape[1:], 34, sigma)
        for channel in range(2):
            expected = look_up(image[channel] / 255, rows + down, columns + right)
            np.testing.assert_allclose(changed[n, channel], expected, atol=5e-4)


def test_a_number_for_elastic_is_alpha_of_sigma_four(pictures):
    np.testing.assert_array_equal(
        Augment(elastic=20).apply(pictures), Augment(elastic=(20, 4)).apply(pictures)
    )


def test_noise_is_normal_and_new_for_each_pixel():
    blank = np.zeros((64, 1, 28, 28), np.float32)
    noise = Augment(0, 0, 0, noise=0.5).apply(blank)
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(0.5, rel=0.01)
    assert np.mean(np.abs(noise) > 1) == pytest.approx(0.0455, rel=0.05)
    flat = noise.reshape(64, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(64)).max() < 0.2
    assert len(np.unique(flat)) > 0.99 * flat.size


def test_noise_of_bytes_is_a_share_of_their_range(small_images):
    found = (
        Augment(0, 0, 0, noise=0.1).apply(small_images) - small_images[:, None] / 255
    )
    assert found.std() == pytest.approx(0.1, rel=0.02)


def test_erasing_wipes_a_rectangle_from_as_many_images_as_asked():
    white = np.full((400, 1, 28, 28), 255, np.uint8)
    wiped = Augment(0, 0, 0, erase=0.25).apply(white)[:, 0] == 0
    hit = wiped.any(axis=(1, 2))
    assert 0.18 < hit.mean() < 0.32
    for image in wiped[hit]:
        rows = np.flatnonzero(image.any(axis=1))
        columns = np.flatnonzero(image.any(axis=0))
        inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside.all()
        assert 0.01 < inside.size / image.size < 0.23
        assert 1 / 4 < len(rows) / len(columns) < 4


def test_some_images_stay_as_they_are(pictures):
    many = np.repeat(pictures, 40, axis=0)
    augment = Augment(elastic=30, noise=0.1, erase=1, squeeze=0.2, probability=0.75)
    changed = augment.apply(many, epoch=EPOCH, seed=SEED)
    same = abs(changed - many / 255).max(axis=(1, 2, 3)) < 2e-6
    assert 0.2 < same.mean() < 0.3
    always = Augment(elastic=30, noise=0.1, erase=1, squeeze=0.2)
    every = always.apply(many, epoch=EPOCH, seed=SEED)
    np.testing.assert_array_equal(changed[~same], every[~same])
    np.testing.assert_array_equal(
        Augment(probability=0).apply(many), NOTHING.apply(many)
    )


def test_the_distortions_of_the_paper_are_its_five():
    augment = Augment.lenet5_1998()
    assert augment.rotate == augment.noise == augment.erase == 0
    assert augment.elastic is None
    assert min(augment.shift, augment.scale, augment.shear, augment.squeeze) > 0
    assert augment.probability == 540_000 / 600_000


def test_channels_of_an_image_move_and_vanish_together():
    grey = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    augment = Augment(elastic=30, erase=0.5, shear=10)
    alone = augment.apply(grey)
    three = augment.apply(np.repeat(grey, 3, axis=1))
    for channel in range(3):
        np.testing.assert_array_equal(three[:, channel], alone[:, 0])


def test_what_comes_in_from_outside_is_background():
    grey = np.full((30, 1, 10, 10), 7.0, np.float32)
    grey[0, 0, 0, 0] = 3
    changed = Augment(shift=5, rotate=45, scale=0.5).apply(grey)
    assert changed.min() == 3
    assert changed.max() == pytest.approx(7)


def test_images_change_by_seed_epoch_and_position_alone(pictures):
    augment = Augment(elastic=10, noise=0.1, erase=0.5)
    first = augment.apply(pictures, epoch=2, seed=1)
    np.testing.assert_array_equal(first, augment.apply(pictures, epoch=2, seed=1))
    np.testing.assert_array_equal(
        first[:3], augment.apply(pictures[:3], epoch=2, seed=1)
    )
    assert not np.array_equal(first, augment.apply(pictures, epoch=3, seed=1))
    assert not np.array_equal(first, augment.apply(pictures, epoch=2, seed=2))
    twins = augment.apply(np.repeat(pictures[:1], 2, axis=0))
    assert not np.array_equal(twins[0], twins[1])


def steps(model, images, codes, augment, threads):
    """The weights after five steps of uneven batches."""
    optimizer = lenet5c.SGD()
    gradient = np.empty_like(model.parameter_vector)
    order = np.random.default_rng(0).permutation(len(images))
    for epoch, positions in enumerate(np.array_split(order, 5), 1):
        model.loss_of_batch(
            images, positions, codes, gradient, threads, augment=augment, seed=1,
            epoch=epoch,
        )  # fmt: skip
        optimizer.step(model.parameter_vector, gradient, 0.1, threads)
    return model.parameter_vector.tobytes()


def test_training_sees_the_same_images_on_any_number_of_threads():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (203, 1, 28, 28), dtype=np.uint8)
    codes = rng.integers(0, 10, 203).astype(np.int32)
    augment = Augment(shear=5, elastic=20, noise=0.1, erase=0.3)
    found = {
        steps(lenet5c.lenet5(dropout=0.3), images, codes, augment, threads)
        for threads in (1, 2, 3, 7)
    }
    assert len(found) == 1


def test_training_sees_what_apply_shows(small, small_images):
    """The gradient of an augmented batch is that of its pictures, as floats."""
    augment = Augment(shear=5, elastic=20, erase=0.5)
    pictures = augment.apply(small_images, epoch=EPOCH, seed=SEED)
    codes = np.arange(60, dtype=np.int32) % 10
    positions = np.random.default_rng(0).permutation(60)
    found = np.empty_like(small.parameter_vector)
    expected = np.empty_like(found)
    bytes_ = small_images[:, None]
    loss, _ = small.loss_of_batch(
        bytes_, positions, codes, found, 2, augment=augment, seed=SEED, epoch=EPOCH
    )
    again, _ = small.loss_of_batch(pictures, positions, codes, expected, 2)
    assert loss == pytest.approx(again, rel=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_smaller_images_move_within_the_whole_input():
    """A bright image in the middle of a larger input may reach the margin."""
    model = lenet5c.lenet5()
    white = np.full((40, 1, 28, 28), 255, np.uint8)
    padded = np.pad(white, ((0, 0), (0, 0), (2, 2), (2, 2)))
    codes = np.zeros(40, np.int32)
    small, large = np.empty((2, model.parameter_count), np.float32)
    options = {"augment": Augment(), "seed": 1, "epoch": 1}
    model.loss_of_batch(white, np.arange(40), codes, small, 1, **options)
    model.loss_of_batch(padded, np.arange(40), codes, large, 1, **options)
    np.testing.assert_allclose(small, large, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shift": -1}, "shift: expected 0 <= x < 1024, got -1"),
        ({"rotate": math.nan}, "rotate: expected"),
        ({"scale": 1}, "scale: expected 0 <= x < 1, got 1"),
        ({"shear": 90}, "shear: expected 0 <= x < 90, got 90"),
        ({"shift": "2"}, "shift: expected a number, got '2'"),
        ({"elastic": -3}, "elastic: expected"),
        ({"elastic": (34, 0)}, "elastic: expected a sigma from 0.1 to 20, got 0"),
        ({"elastic": (34, 21)}, "elastic: expected a sigma from 0.1 to 20, got 21"),
        ({"elastic": (1, 2, 3)}, "elastic: expected alpha"),
        ({"noise": -0.1}, "noise: expected"),
        ({"erase": 1.5}, "erase: expected 0 <= x <= 1, got 1.5"),
        ({"erase": True}, "erase: expected a number"),
        ({"squeeze": 1}, "squeeze: expected 0 <= x < 1, got 1"),
        ({"probability": 1.1}, "probability: expected 0 <= x <= 1, got 1.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        Augment(**options)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (0, 4, 4), (2, 1, 1, 4, 4)])
def test_pictures_of_no_such_shape_are_refused(shape):
    with pytest.raises(ValueError, match="images: expected"):
        Augment().apply(np.zeros(shape, np.uint8))
