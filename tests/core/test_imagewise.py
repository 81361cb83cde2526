"""Batches of a few images, which go one by one."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lenet5c
from lenet5c import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ScaledTanh,
    Subsampling2d,
    Tanh,
)
from lenet5c._support.cores import core
from lenet5c.functional import AS_IT_IS
from lenet5c.graph import for_core, lower

NETWORKS = {
    "lenet5": (lenet5c.lenet5().layers, (1, 32, 32)),
    "lenet5-1998": (lenet5c.lenet5_1998().layers, (1, 32, 32)),
    "narrow": (
        [
            *(Conv2d(3, (2, 5), padding=1), LeakyReLU(0.1), MaxPool2d(2, 1)),
            *(Conv2d(19, 3, bias=False), Tanh(), Dropout(0.3), Dense(17)),
            *(ScaledTanh(), RadialBasis(5)),
        ],
        (2, 7, 6),
    ),
    "wide": (
        [
            *(Conv2d(33, 5, padding=2), Tanh(), Subsampling2d(3, 2)),
            *(Conv2d(20, 7), Tanh(), AvgPool2d(2), Dense(3)),
        ],
        (3, 30, 41),
    ),
    "tiny": ([Conv2d(1, 1), Tanh(), Conv2d(2, 1), Dense(3)], (1, 1, 1)),
}


def built(name, images):
    return network_of(*NETWORKS[name], images, input_gradient=True)


def network_of(layers, shape, images, *, input_gradient):
    """The network, planned for so many images one by one, and something to train on."""
    *_, (_, _, last) = lenet5c.layers.walk(layers, shape)
    classes = math.prod(last)
    model = lenet5c.Model(layers, input_shape=shape, classes=classes, seed=3)
    nodes = for_core(lower(model.layers, shape, training=True), input_gradient)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(9, *shape)).astype(np.float32)
    labels = rng.integers(classes, size=9).astype(np.int32)
    network = core.Network(nodes, shape, False, images=images)
    return network, (model.state_vector, x, AS_IT_IS), labels


def gradient_of(network, arguments, labels, indices, threads=1, **options):
    gradient = np.full(network.parameter_count, np.nan, np.float32)
    indices = np.asarray(indices, np.intp)
    found = network.loss_and_gradient(
        *arguments, indices, labels, gradient, threads, **options
    )
    return found, gradient


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "narrow"])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_a_few_images_are_as_those_of_a_block(name, count):
    """But for the order of sums (and, in "narrow", for what dropout leaves out)."""
    found = [
        gradient_of(*built(name, images), np.arange(count)) for images in (0, count)
    ]
    (of_block, gradient), (of_images, other) = found
    assert of_images == pytest.approx(of_block, rel=1e-5)
    most = np.abs(gradient).max()
    np.testing.assert_allclose(other, gradient, rtol=0, atol=2e-5 * most)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_for_any_number_of_threads(name):
    network, *rest = built(name, 8)
    options = {"seed": 4, "epoch": 2, "smoothing": 0.1}
    expected = gradient_of(network, *rest, [5, 1, 8, 0, 2, 2, 7], **options)
    for threads in (2, 3, 7, 16):
        found = gradient_of(network, *rest, [5, 1, 8, 0, 2, 2, 7], threads, **options)
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_can_be_added_to(name):
    network, arguments, labels = built(name, 8)
    whole = gradient_of(network, arguments, labels, np.arange(6))[1]
    parts = np.zeros(network.parameter_count, np.float32)
    for part, add in ((np.arange(4), False), (np.arange(4, 6), True)):
        network.loss_and_gradient(
            *arguments, part, labels, parts, 1, mean_over=6, add=add
        )
    most = np.abs(whole).max()
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5 * most)


def test_what_an_earlier_call_left_behind_a_map_changes_nothing():
    """Registers reach behind maps: what lies there is multiplied by 0."""
    network, (state, x, stage), labels = built("wide", 1)
    expected = gradient_of(network, (state, x, stage), labels, [3])[1]
    nothing = np.full_like(state, np.nan)
    for count in (9, 1):  # a block and an image of a network that has diverged
        gradient_of(network, (nothing, x, stage), labels, np.arange(count))
    found = gradient_of(network, (state, x, stage), labels, [3])[1]
    np.testing.assert_array_equal(found, expected)


@st.composite
def odd_networks(draw):
    """(layers, input shape): kernels as wide as their maps, tables, small maps."""
    some = st.integers
    shape = C, H, W = draw(st.tuples(some(1, 4), some(1, 9), some(1, 23)))
    layers = []
    for _ in range(draw(some(1, 3))):
        padding = draw(some(0, 3))
        F = draw(st.sampled_from([1, 2, 4, 5, 8, 15, 16, 17, 33]))
        kernel = KH, KW = (
            draw(some(1, min(7, H + 2 * padding))),
            draw(some(1, min(19, W + 2 * padding))),
        )
        listed = st.sets(some(0, C - 1), min_size=1).map(sorted)
        table = draw(st.none() | st.lists(listed, min_size=F, max_size=F))
        layers.append(Conv2d(F, kernel, padding=padding, connections=table))
        C, H, W = F, H + 2 * padding - KH + 1, W + 2 * padding - KW + 1
        layers.append(draw(st.sampled_from([Tanh, ScaledTanh, LeakyReLU]))())
        if draw(st.booleans()) and min(H, W) > 1:
            window, stride = draw(some(2, min(3, H, W))), draw(some(1, 3))
            pool = draw(st.sampled_from([AvgPool2d, MaxPool2d, Subsampling2d]))
            layers.append(pool(window, stride))
            H, W = (H - window) // stride + 1, (W - window) // stride + 1
    if draw(st.booleans()):
        layers.append(GlobalAvgPool2d())
    layers.append(draw(st.sampled_from([Dense, RadialBasis]))(draw(some(2, 20))))
    return layers, shape


LISTED = Conv2d(99, 3, padding=1, connections=((0,), (1,), (0, 1)) * 33)
PADDED = Conv2d(4, (1, 4), padding=2)


@given(odd_networks(), st.integers(1, 8), st.booleans())
@example(([Conv2d(1, 1), PADDED, Dense(2)], (1, 8, 3)), 1, False)
@example(([Conv2d(2, 1), PADDED, Dense(2)], (1, 8, 3)), 1, False)
@example(([LISTED, GlobalAvgPool2d(), Dense(3)], (2, 30, 30)), 1, False)
@example(([Conv2d(2, (1, 601), padding=300), Dense(2)], (1, 1, 1)), 2, True)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_odd_shapes_are_as_in_a_block(network, count, input_gradient):
    """And what numbers that are not finite left behind in the arena is not read."""
    found = []
    for images in (0, 8):
        core_network, (state, x, stage), labels = network_of(
            *network, images, input_gradient=input_gradient
        )
        nothing = np.full_like(state, np.nan), np.full_like(x, np.nan), stage
        for before in (9, 8, 1):
            gradient_of(core_network, nothing, labels, np.arange(before))
        numbers = np.arange(count)
        found.append(gradient_of(core_network, (state, x, stage), labels, numbers))
    (of_block, gradient), (of_images, other) = found
    assert of_images[0] == pytest.approx(of_block[0], rel=1e-3)
    most = np.abs(gradient).max()  # distances of thousands lose digits of their softmax
    np.testing.assert_allclose(other, gradient, rtol=0, atol=5e-3 * max(most, 1e-5))


def test_augmentation_is_that_of_a_block():
    """An image is changed by its number and the pass alone."""
    found = [
        gradient_of(
            *built("lenet5", images),
            [4, 6],
            augment=lenet5c.Augment(noise=0.1).for_core(lenet5c.lenet5().stage),
            seed=3,
            epoch=5,
        )[1]
        for images in (0, 2)
    ]
    most = np.abs(found[0]).max()
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=2e-5 * most)


def test_dropout_leaves_out_its_share_of_each_image():
    """Forward and backward the same, and no two images or passes alike."""
    layers = [Dropout(0.4, name="D")]
    network = core.Network(
        for_core(lower(layers, (1, 40, 50), training=True), True),
        (1, 40, 50),
        False,
        images=2,
    )
    ones = np.ones((2, 1, 40, 50), np.float32)
    dx = np.empty((2, 2000), np.float32)
    nothing = np.empty(0, np.float32)
    network.backward(nothing, ones, AS_IT_IS, ones.reshape(2, -1), nothing, dx, 1)
    kept = dx > 0
    assert np.unique(dx).tolist() == pytest.approx([0, 1 / 0.6])
    assert kept.mean() == pytest.approx(0.6, abs=0.03)
    assert (kept[0] == kept[1]).mean() == pytest.approx(0.52, abs=0.05)


def test_what_has_no_kernel_for_one_image_is_refused_by_name():
    layers = [Conv2d(2, 3, stride=2, name="HALVED"), Dense(3, name="OUTPUT")]
    nodes = for_core(lower(layers, (1, 9, 9), training=True))
    message = "^the core has no kernel for one image alone of conv2d 'HALVED'$"
    with pytest.raises(ValueError, match=message):
        core.Network(nodes, (1, 9, 9), False, images=1)
    core.Network(nodes, (1, 9, 9), False)  # blocks then
