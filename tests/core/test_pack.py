"""Images on their way into the core: which pixel comes where, and what is read."""

import ctypes
import math
import mmap

import numpy as np
import pytest

from lenet5c import AvgPool2d
from lenet5c._support.cores import core
from lenet5c.graph import for_core, lower

# What multiplications and additions keep exactly, with and without a fused one.
SCALE, OFFSET, BACKGROUND, FLOAT_SCALE, FLOAT_OFFSET = 0.125, -3.5, -7.25, 0.25, 1.5
STAGE = (SCALE, OFFSET, BACKGROUND, FLOAT_SCALE, FLOAT_OFFSET)

# Images, channels, rows and columns of the image and of the network's input: less than
# a register, no whole number of registers, rows that end within one, no padding at all.
CASES = [
    (1, 1, (1, 1), (1, 1)),
    (3, 1, (1, 1), (4, 3)),
    (5, 2, (1, 3), (2, 6)),
    (17, 1, (5, 5), (7, 7)),
    (18, 3, (4, 4), (4, 4)),
    (16, 1, (8, 8), (8, 8)),
    (7, 2, (3, 11), (6, 11)),
    (40, 1, (28, 28), (32, 32)),
    (33, 3, (9, 13), (9, 16)),
    (2, 1, (1, 131), (3, 140)),
    (20, 3, (32, 31), (33, 32)),
]


def loaded(images, shape):
    """What a network of this input shape sees of each image, (N, C, H, W)."""
    graph = lower([AvgPool2d(1, name="P")], shape)
    network = core.Network(for_core(graph), shape)
    y = np.full((len(images), math.prod(shape)), np.nan, np.float32)
    network.forward(np.zeros(0, np.float32), images, STAGE, y, 1)
    return y.reshape(-1, *shape)


def expected(images, shape):
    """The same, in float64."""
    by_bytes = images.dtype == np.uint8
    scale, offset = (SCALE, OFFSET) if by_bytes else (FLOAT_SCALE, FLOAT_OFFSET)
    height, width = images.shape[2:]
    top, left = (shape[1] - height) // 2, (shape[2] - width) // 2
    y = np.full((len(images), *shape), BACKGROUND)
    y[:, :, top : top + height, left : left + width] = images * scale + offset
    return y


def random_images(shape, dtype):
    values = np.random.default_rng(3).integers(0, 256, shape)
    return values.astype(dtype)


def at_the_end_of_memory(images):
    """A copy of the images; to read a byte behind it is a crash."""
    page = mmap.PAGESIZE
    size = -(-images.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    whole = np.frombuffer(memory, np.uint8)
    end = ctypes.c_void_p(whole.ctypes.data + size)
    assert ctypes.CDLL(None).mprotect(end, ctypes.c_size_t(page), 0) == 0
    copy = whole[size - images.nbytes : size].view(images.dtype)
    copy = copy.reshape(images.shape)
    copy[...] = images
    return copy


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("count", "channels", "size", "inside"), CASES)
def test_each_pixel_is_scaled_and_comes_to_its_place(
    count, channels, size, inside, dtype
):
    images = random_images((count, channels, *size), dtype)
    shape = (channels, *inside)
    np.testing.assert_array_equal(loaded(images, shape), expected(images, shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("count", "channels", "size", "inside"), CASES)
def test_nothing_behind_the_images_is_read(count, channels, size, inside, dtype):
    images = random_images((count, channels, *size), dtype)
    shape = (channels, *inside)
    there = at_the_end_of_memory(images)
    np.testing.assert_array_equal(loaded(there, shape), expected(images, shape))
