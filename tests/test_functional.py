"""Every kernel equals the float64 reference; wrong arguments are refused by name."""

import inspect
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet5c import functional, reference

U = 2.0**-24  # half a unit in the last place of a float32 between 1 and 2

COUNTS = st.one_of(st.integers(1, 40), st.sampled_from([1, 4, 8, 15, 16, 17, 31, 33]))
CHANNELS = st.one_of(st.integers(1, 7), st.sampled_from([16, 20]))
SIZES = st.integers(1, 20)
KERNELS = st.integers(1, 7)
THREADS = st.sampled_from([None, 1, 2, 3])
SEEDS = st.integers(0, 2**32 - 1)


def checks(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Whole numbers: their sums of products are exact in float32, in any order."""
    return rng.integers(-4, 5, size=shape).astype(np.float32)


def assert_rounded(found, expected, magnitude, terms: int) -> None:
    """The error is one of rounding `terms` products whose absolute values sum to this.

    No order of summation errs by more than terms * U * magnitude (Higham 2002, section
    4.2); errors that are independent grow like the root of terms.
    """
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    bound = (4 + 2 * np.sqrt(terms)) * U * magnitude + 1e-37
    error = np.abs(found - expected)
    worst = np.unravel_index(np.argmax(error - bound), error.shape)
    assert (error <= bound).all(), (
        f"{error[worst]:.3g} at {worst}, bound {bound[worst]:.3g}"
    )


@st.composite
def convolutions(draw) -> dict[str, Any]:
    N, C, F = draw(COUNTS), draw(CHANNELS), draw(CHANNELS)
    KH, KW = draw(KERNELS), draw(KERNELS)
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    H = draw(st.integers(max(1, KH - 2 * padding), 20))
    W = draw(st.integers(max(1, KW - 2 * padding), 20))
    if N * C * F * H * W * KH * KW > 3e7:
        N = 1 + N % 5
    return {
        "x": (N, C, H, W),
        "weight": (F, C, KH, KW),
        "window": {"stride": stride, "padding": padding},
        "seed": draw(SEEDS),
        "threads": draw(THREADS),
    }


def convolution(N=3, C=2, F=3, H=7, W=9, KH=3, KW=3, stride=1, padding=0):
    return {
        "x": (N, C, H, W),
        "weight": (F, C, KH, KW),
        "window": {"stride": stride, "padding": padding},
        "seed": 0,
        "threads": 2,
    }


@checks(100)
@given(case=convolutions())
@example(case=convolution(KH=7, KW=9))  # a map of 1x1
@example(case=convolution(H=2, W=3, KH=5, KW=7, padding=2))  # larger than the map
@example(case=convolution(KH=1, KW=1, stride=3))  # most pixels are not read
@example(case=convolution(N=17, C=6, F=16, H=14, W=14, KH=5, KW=5))  # C3
@example(case=convolution(N=257, F=2, H=4, W=3, KH=2, KW=1))  # more than a chunk
def test_convolution(case):
    rng = np.random.default_rng(case["seed"])
    x, weight = normal(rng, *case["x"]), normal(rng, *case["weight"])
    bias = normal(rng, len(weight))
    window, threads = case["window"], case["threads"]

    y = functional.conv2d(x, weight, bias, **window, threads=threads)
    expected = reference.conv2d(x, weight, bias, **window)
    magnitude = reference.conv2d(np.abs(x), np.abs(weight), np.abs(bias), **window)
    assert_rounded(y, expected, magnitude, weight[0].size + 1)

    dy = normal(rng, *y.shape)
    found = functional.conv2d_backward(x, weight, dy, **window, threads=threads)
    expected = reference.conv2d_backward(x, weight, dy, **window)
    magnitude = reference.conv2d_backward(
        np.abs(x), np.abs(weight), np.abs(dy), **window
    )
    pixels = dy[:, 0].size
    assert_rounded(found[0], expected[0], magnitude[0], weight[:, 0].size)
    assert_rounded(found[1], expected[1], magnitude[1], pixels)
    assert_rounded(found[2], expected[2], magnitude[2], pixels)


@st.composite
def tables(draw) -> dict[str, Any]:
    """Convolutions by a table, in which a filter reads one channel, some, or all."""
    case = draw(convolutions())
    filters, channels, *kernel = case["weight"]
    rng = np.random.default_rng(case["seed"] + 1)
    read = rng.random((filters, channels)) < draw(st.sampled_from([0, 0.1, 0.6, 1]))
    read[np.arange(filters), rng.integers(channels, size=filters)] = True
    table = [np.flatnonzero(row).tolist() for row in read]
    case["window"]["connections"] = table
    return case | {"weight": (read.sum(), *kernel)}


@checks(100)
@given(case=tables())
def test_convolution_by_a_table(case):
    rng = np.random.default_rng(case["seed"])
    x, weight = normal(rng, *case["x"]), normal(rng, *case["weight"])
    window, threads = case["window"], case["threads"]
    bias = normal(rng, len(window["connections"]))
    y = functional.conv2d(x, weight, bias, **window, threads=threads)
    expected = reference.conv2d(x, weight, bias, **window)
    magnitude = reference.conv2d(np.abs(x), np.abs(weight), np.abs(bias), **window)
    assert_rounded(y, expected, magnitude, weight.size + 1)
    dy = normal(rng, *y.shape)
    found = functional.conv2d_backward(x, weight, dy, **window, threads=threads)
    expected = reference.conv2d_backward(x, weight, dy, **window)
    magnitude = reference.conv2d_backward(
        np.abs(x), np.abs(weight), np.abs(dy), **window
    )
    pixels = dy[:, 0].size
    assert_rounded(found[0], expected[0], magnitude[0], weight.size)
    assert_rounded(found[1], expected[1], magnitude[1], pixels)
    assert_rounded(found[2], expected[2], magnitude[2], pixels)


def test_a_table_that_does_not_fit_is_refused():
    x, weight = np.ones((2, 3, 5, 5), np.float32), np.ones((4, 2, 2), np.float32)
    for table, said in (
        (7, "connections: expected the channels of each filter, got int"),
        ([[0, 1], [3, 4]], "connections: expected channels from 0 to 2, got 4"),
        ([[0, 1], [2]], r"weight: expected the shape \(3, 2, 2\), got \(4, 2, 2\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            functional.conv2d(x, weight, connections=table)
    with pytest.raises(ValueError, match=r"weight: .*\(any, any, any\), got \(4, 3,"):
        run("conv2d", connections=[[0]] * 4)


@checks(50)
@given(case=convolutions())
@example(case=convolution(N=33, KH=1, KW=2, stride=3, padding=3))
def test_convolution_of_whole_numbers_is_exact(case):
    rng = np.random.default_rng(case["seed"])
    x, weight = whole(rng, *case["x"]), whole(rng, *case["weight"])
    bias = whole(rng, len(weight))
    window, threads = case["window"], case["threads"]
    y = functional.conv2d(x, weight, bias, **window, threads=threads)
    np.testing.assert_array_equal(y, reference.conv2d(x, weight, bias, **window))
    without = functional.conv2d(x, weight, **window, threads=threads)
    np.testing.assert_array_equal(without, reference.conv2d(x, weight, **window))
    dy = whole(rng, *y.shape)
    found = functional.conv2d_backward(x, weight, dy, **window, threads=threads)
    expected = reference.conv2d_backward(x, weight, dy, **window)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_defaults_are_stride_1_and_no_padding():
    rng = np.random.default_rng(0)
    x, weight = whole(rng, 2, 3, 6, 7), whole(rng, 4, 3, 2, 3)
    y = functional.conv2d(x, weight)
    assert y.shape == (2, 4, 5, 5)
    np.testing.assert_array_equal(y, reference.conv2d(x, weight))
    dx, _, _ = functional.conv2d_backward(x, weight, y)
    np.testing.assert_array_equal(dx, reference.conv2d_backward(x, weight, y)[0])
    for kind in ("avg", "max"):
        y = getattr(functional, f"{kind}_pool2d")(x)
        assert y.shape == (2, 3, 3, 3)
        np.testing.assert_array_equal(y, getattr(reference, f"{kind}_pool2d")(x))
        dx = getattr(functional, f"{kind}_pool2d_backward")(x, y)
        expected = getattr(reference, f"{kind}_pool2d_backward")(x, y)
        np.testing.assert_array_equal(dx, expected)


@st.composite
def poolings(draw) -> dict[str, Any]:
    size = draw(st.integers(1, 5))
    return {
        "shape": (
            draw(COUNTS),
            draw(CHANNELS),
            draw(st.integers(size, 20)),
            draw(st.integers(size, 20)),
        ),
        "size": size,
        "stride": draw(st.one_of(st.none(), st.integers(1, 6))),
        "seed": draw(SEEDS),
        "threads": draw(THREADS),
    }


@checks(60)
@given(case=poolings())
def test_average_pooling(case):
    rng = np.random.default_rng(case["seed"])
    x, size, window = normal(rng, *case["shape"]), case["size"], {}
    window = {"kernel_size": size, "stride": case["stride"]}
    y = functional.avg_pool2d(x, **window, threads=case["threads"])
    expected = reference.avg_pool2d(x, **window)
    magnitude = reference.avg_pool2d(np.abs(x), **window)
    assert_rounded(y, expected, magnitude, size**2)
    dy = normal(rng, *y.shape)
    dx = functional.avg_pool2d_backward(x, dy, **window, threads=case["threads"])
    expected = reference.avg_pool2d_backward(x, dy, **window)
    magnitude = reference.avg_pool2d_backward(x, np.abs(dy), **window)
    assert_rounded(dx, expected, magnitude, size**2)


@checks(60)
@given(case=poolings())
def test_subsampling(case):
    rng = np.random.default_rng(case["seed"])
    x, size = normal(rng, *case["shape"]), case["size"]
    weight, bias = normal(rng, x.shape[1]), normal(rng, x.shape[1])
    window = {"kernel_size": size, "stride": case["stride"]}
    y = functional.subsampling2d(x, weight, bias, **window, threads=case["threads"])
    expected = reference.subsampling2d(x, weight, bias, **window)
    parts = np.abs(x), np.abs(weight), np.abs(bias)
    assert_rounded(y, expected, reference.subsampling2d(*parts, **window), size**2 + 1)
    dy = normal(rng, *y.shape)
    arguments = {**window, "threads": case["threads"]}
    found = functional.subsampling2d_backward(x, weight, dy, **arguments)
    expected = reference.subsampling2d_backward(x, weight, dy, **window)
    magnitudes = reference.subsampling2d_backward(*parts[:2], np.abs(dy), **window)
    for one, other, magnitude in zip(found, expected, magnitudes, strict=True):
        assert_rounded(one, other, magnitude, size**2 + dy[:, 0].size)


@checks(60)
@given(case=poolings(), ties=st.booleans())
def test_max_pooling(case, ties):
    rng = np.random.default_rng(case["seed"])
    x = (whole if ties else normal)(rng, *case["shape"])
    window = {"kernel_size": case["size"], "stride": case["stride"]}
    y = functional.max_pool2d(x, **window, threads=case["threads"])
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, reference.max_pool2d(x, **window))
    dy = whole(rng, *y.shape)  # overlapping windows add up exactly
    dx = functional.max_pool2d_backward(x, dy, **window, threads=case["threads"])
    assert dx.dtype == np.float32
    expected = reference.max_pool2d_backward(x, dy, **window)
    np.testing.assert_array_equal(dx, expected)


def test_max_pooling_of_negative_and_infinite_values():
    x = -np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    x[0, 0, :2, 2:] = -np.inf
    x[0, 0, 3, 3] = np.inf
    y = functional.max_pool2d(x)
    np.testing.assert_array_equal(y, [[[[-1, -np.inf], [-9, np.inf]]]])
    dx = functional.max_pool2d_backward(x, np.float32([[[[1, 2], [3, 4]]]]))
    expected = np.zeros((1, 1, 4, 4))
    expected[0, 0, [0, 0, 2, 3], [0, 2, 0, 3]] = [1, 2, 3, 4]
    np.testing.assert_array_equal(dx, expected)


@checks(60)
@given(
    N=COUNTS,
    inputs=st.one_of(st.integers(1, 40), st.sampled_from([84, 120, 400])),
    outputs=st.one_of(st.integers(1, 40), st.sampled_from([84, 120])),
    seed=SEEDS,
    threads=THREADS,
)
@example(N=300, inputs=7, outputs=5, seed=0, threads=2)
def test_dense(N, inputs, outputs, seed, threads):
    rng = np.random.default_rng(seed)
    x, weight = normal(rng, N, inputs), normal(rng, outputs, inputs)
    bias, dy = normal(rng, outputs), normal(rng, N, outputs)
    y = functional.dense(x, weight, bias, threads=threads)
    magnitude = reference.dense(np.abs(x), np.abs(weight), np.abs(bias))
    assert_rounded(y, reference.dense(x, weight, bias), magnitude, inputs + 1)
    found = functional.dense_backward(x, weight, dy, threads=threads)
    expected = reference.dense_backward(x, weight, dy)
    magnitude = reference.dense_backward(np.abs(x), np.abs(weight), np.abs(dy))
    for one, other, size, terms in zip(
        found, expected, magnitude, (outputs, N, N), strict=True
    ):
        assert_rounded(one, other, size, terms)


@checks(40)
@given(
    N=COUNTS,
    inputs=st.integers(1, 50),
    outputs=st.integers(1, 50),
    seed=SEEDS,
    threads=THREADS,
)
@example(N=513, inputs=3, outputs=13, seed=0, threads=2)
def test_dense_of_whole_numbers_is_exact(N, inputs, outputs, seed, threads):
    rng = np.random.default_rng(seed)
    x, weight = whole(rng, N, inputs), whole(rng, outputs, inputs)
    bias, dy = whole(rng, outputs), whole(rng, N, outputs)
    y = functional.dense(x, weight, bias, threads=threads)
    np.testing.assert_array_equal(y, reference.dense(x, weight, bias))
    without = functional.dense(x, weight, threads=threads)
    np.testing.assert_array_equal(without, reference.dense(x, weight))
    found = functional.dense_backward(x, weight, dy, threads=threads)
    expected = reference.dense_backward(x, weight, dy)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tanh_is_within_6_units_in_the_last_place():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.linspace(-10, 10, 2_000_001),
            rng.normal(size=20000),
            np.logspace(-37, 38, 4000),
            -np.logspace(-37, 38, 4000),
            [0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40],
        ]
    ).astype(np.float32)
    y = functional.tanh(x)
    expected = np.tanh(x.astype(np.float64))
    size = np.abs(expected).astype(np.float32)
    below = np.spacing(np.nextafter(size, np.float32(0)))  # half as much below 1
    assert (np.abs(y - expected) / below).max() <= 6.02
    assert np.abs(y).max() <= 1
    np.testing.assert_array_equal(np.signbit(y), np.signbit(x))
    np.testing.assert_array_equal(functional.tanh(-x), -y)


ANY_SHAPE = st.lists(st.integers(1, 12), min_size=0, max_size=4).map(tuple)


@checks(60)
@given(shape=ANY_SHAPE, seed=SEEDS, threads=THREADS)
@example(shape=(255,), seed=0, threads=1)
@example(shape=(257,), seed=0, threads=2)
@example(shape=(3, 7, 691), seed=0, threads=3)
def test_activations(shape, seed, threads):
    rng = np.random.default_rng(seed)
    x, dy = 3 * normal(rng, *shape), normal(rng, *shape)
    y = functional.tanh(x, threads=threads)
    assert_rounded(y, reference.tanh(x), np.abs(reference.tanh(x)), 9)
    # 1 - y^2 loses digits where y is near 1: an error in y counts twice, relative to dy
    dx = functional.tanh_backward(x, dy, threads=threads)
    assert_rounded(dx, reference.tanh_backward(x, dy), np.abs(dy), 100)
    y = functional.scaled_tanh(x, threads=threads)
    assert_rounded(y, reference.scaled_tanh(x), np.abs(reference.scaled_tanh(x)), 12)
    dx = functional.scaled_tanh_backward(x, dy, threads=threads)
    assert_rounded(dx, reference.scaled_tanh_backward(x, dy), np.abs(dy), 120)
    y = functional.sigmoid(x, threads=threads)
    np.testing.assert_allclose(y, reference.sigmoid(x), rtol=0, atol=2**-22)
    dx = functional.sigmoid_backward(x, dy, threads=threads)
    assert_rounded(dx, reference.sigmoid_backward(x, dy), np.abs(dy), 100)
    y = functional.leaky_relu(x, 0.25, threads=threads)
    np.testing.assert_array_equal(y, reference.leaky_relu(x, 0.25))
    dx = functional.leaky_relu_backward(x, dy, 0.25, threads=threads)
    np.testing.assert_array_equal(dx, reference.leaky_relu_backward(x, dy, 0.25))
    y = functional.relu(x, threads=threads)
    assert y.shape == shape
    np.testing.assert_array_equal(y, reference.relu(x))
    dx = functional.relu_backward(x, dy, threads=threads)
    assert dx.shape == shape
    np.testing.assert_array_equal(dx, reference.relu_backward(x, dy))


@checks(40)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 37), st.integers(1, 20)),
    seed=SEEDS,
    threads=THREADS,
)
@example(sizes=(17, 84, 10), seed=0, threads=2)
def test_radial_basis(sizes, seed, threads):
    (images, inputs, outputs), rng = sizes, np.random.default_rng(seed)
    x, codes = normal(rng, images, inputs), normal(rng, outputs, inputs)
    dy = normal(rng, images, outputs)
    expected = reference.radial_basis(x, codes)
    y = functional.radial_basis(x, codes, threads=threads)
    assert_rounded(y, expected, np.abs(expected), inputs + 3)
    dx = functional.radial_basis_backward(x, codes, dy, threads=threads)
    magnitude = 2 * np.abs(dy) @ np.abs(codes) + 2 * np.abs(x) * np.abs(dy).sum(
        axis=1, keepdims=True
    )
    expected = reference.radial_basis_backward(x, codes, dy)
    assert_rounded(dx, expected, magnitude, outputs + 3)


def test_a_small_distance_of_large_numbers_keeps_its_digits():
    """As 2 w x - w^2 - x^2 would not: those are 10^6, and their last digit is 0.06."""
    codes = np.full((2, 5), np.float32(1000))
    x = codes[:1] + np.float32(2**-10)
    y = functional.radial_basis(x, codes)
    np.testing.assert_array_equal(y, np.full((1, 2), -5 * 2.0**-20, np.float32))
    dx = functional.radial_basis_backward(x, codes, np.float32([[1, 2]]))
    np.testing.assert_array_equal(dx, np.full((1, 5), -6 * 2.0**-10, np.float32))


def test_relu_at_zero_and_infinity():
    x = np.float32([0, -0.0, np.inf, -np.inf, 1e-45, -1e-45])
    np.testing.assert_array_equal(functional.relu(x), np.maximum(x, 0))
    dx = functional.relu_backward(x, np.full(6, 7.0))
    np.testing.assert_array_equal(dx, [0, 0, 7, 0, 7, 0])


@checks(80)
@given(
    N=COUNTS,
    classes=st.integers(1, 30),
    spread=st.sampled_from([0.1, 1.0, 30.0, 1e4]),
    seed=SEEDS,
    threads=THREADS,
)
@example(N=300, classes=10, spread=1.0, seed=0, threads=2)
def test_softmax_cross_entropy(N, classes, spread, seed, threads):
    rng = np.random.default_rng(seed)
    logits = np.float32(spread) * normal(rng, N, classes)
    labels = rng.integers(classes, size=N)
    loss = functional.softmax_cross_entropy(logits, labels, threads=threads)
    expected = reference.softmax_cross_entropy(logits, labels)
    assert type(loss) is float
    # what is subtracted, the largest logit, decides the error, not the difference
    magnitude = float(np.abs(logits).max()) + np.log(classes) + 1
    assert abs(loss - expected) <= 8 * U * magnitude
    found = functional.softmax_cross_entropy_backward(logits, labels, threads=threads)
    expected = reference.softmax_cross_entropy_backward(logits, labels)
    # rounding z - max shifts a probability by its share; labels' entries are p - 1
    assert_rounded(found, expected, np.full(expected.shape, magnitude / N), classes)


def test_softmax_of_logits_far_apart_or_all_shifted():
    logits = np.float32([[0, 1e4, -1e4], [3e38, 0, -3e38]])
    assert functional.softmax_cross_entropy(logits, [0, 0]) == 5e3
    found = functional.softmax_cross_entropy_backward(logits, [0, 0])
    np.testing.assert_allclose(found, [[-0.5, 0.5, 0], [0, 0, 0]], rtol=0, atol=1e-30)
    base = np.float32([[0.5, -1.25, 2.0]])
    for shift in (1e3, -1e3):
        moved = base + np.float32(shift)
        expected = functional.softmax_cross_entropy(base, [1])
        assert functional.softmax_cross_entropy(moved, [1]) == expected


# One valid call of each function. Numbers are eighths, which float16 holds exactly.


def eighths(name: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return (rng.integers(-24, 25, size=shape) / 8).astype(np.float32)


X, DY = eighths("x", 5, 3, 6, 8), eighths("dy", 5, 4, 5, 6)
WEIGHT, BIAS = eighths("weight", 4, 3, 2, 3), eighths("bias", 4)
POOLED = eighths("pooled", 5, 3, 3, 4)
ROWS, MATRIX, DROWS = eighths("r", 5, 7), eighths("m", 4, 7), eighths("d", 5, 4)
LABELS = np.array([3, 0, 6, 1, 1])

CALLS: dict[str, dict[str, Any]] = {
    "conv2d": {"x": X, "weight": WEIGHT, "bias": BIAS},
    "conv2d_backward": {"x": X, "weight": WEIGHT, "dy": DY},
    "avg_pool2d": {"x": X},
    "avg_pool2d_backward": {"x": X, "dy": POOLED},
    "subsampling2d": {"x": X, "weight": BIAS[:3], "bias": BIAS[1:]},
    "subsampling2d_backward": {"x": X, "weight": BIAS[:3], "dy": POOLED},
    "max_pool2d": {"x": X},
    "max_pool2d_backward": {"x": X, "dy": POOLED},
    "dense": {"x": ROWS, "weight": MATRIX, "bias": BIAS},
    "dense_backward": {"x": ROWS, "weight": MATRIX, "dy": DROWS},
    "radial_basis": {"x": ROWS, "codes": MATRIX},
    "radial_basis_backward": {"x": ROWS, "codes": MATRIX, "dy": DROWS},
    "tanh": {"x": X},
    "tanh_backward": {"x": X, "dy": X[::-1].copy()},
    "relu": {"x": X},
    "relu_backward": {"x": X, "dy": X[::-1].copy()},
    "scaled_tanh": {"x": X},
    "scaled_tanh_backward": {"x": X, "dy": X[::-1].copy()},
    "sigmoid": {"x": X},
    "sigmoid_backward": {"x": X, "dy": X[::-1].copy()},
    "leaky_relu": {"x": X},
    "leaky_relu_backward": {"x": X, "dy": X[::-1].copy()},
    "softmax_cross_entropy": {"logits": ROWS, "labels": LABELS},
    "softmax_cross_entropy_backward": {"logits": ROWS, "labels": LABELS},
}
ARGUMENTS = [(name, key) for name, call in CALLS.items() for key in call]
FLOATS = [(name, key) for name, key in ARGUMENTS if key != "labels"]
ELEMENT_WISE = ("tanh", "scaled_tanh", "relu", "sigmoid", "leaky_relu")
SHAPED = [
    (name, key)
    for name, key in FLOATS
    if not (key == "x" and name.startswith(ELEMENT_WISE))
]


def run(name: str, **changes: Any) -> list[np.ndarray]:
    """The function's outputs, as a list, for its valid call with these changes."""
    found = getattr(functional, name)(**{**CALLS[name], **changes})
    return [np.asarray(part) for part in (found if type(found) is tuple else (found,))]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


def refused(name: str, argument: str, error: Any = (TypeError, ValueError), **changes):
    """The call is refused by an error that starts with the argument's name."""
    with pytest.raises(error, match=rf"^{argument}\b"):
        run(name, **changes)


def test_every_function_is_tested_here():
    assert sorted(CALLS) == sorted(functional.__all__)
    for name, call in CALLS.items():
        parameters = inspect.signature(getattr(functional, name)).parameters
        required = {p.name for p in parameters.values() if p.default is p.empty}
        assert required <= call.keys() <= parameters.keys()
        assert "threads" in parameters


@pytest.mark.parametrize("name", CALLS)
def test_the_valid_calls_equal_the_reference(name):
    expected = getattr(reference, name)(**CALLS[name])
    expected = expected if type(expected) is tuple else (expected,)
    for one, other in zip(run(name), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.empty(array.nbytes + 1, np.uint8)[1:]
    view = raw.view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def strided(array: np.ndarray) -> np.ndarray:
    """Every other column of a wider array whose gaps are NaN (or a wrong label)."""
    gap = np.nan if array.dtype.kind == "f" else 99
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), gap, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "strided": strided,
    "fortran": np.asfortranarray,
    "negative strides": lambda a: np.flip(np.flip(a).copy()),
    "transposed": lambda a: a.T.copy().T,
    "broadcast": lambda a: np.broadcast_to(a, (1, *a.shape))[0],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "read-only": read_only,
    "unaligned": unaligned,
    "list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_any_layout_gives_the_same_bits(name, argument, layout):
    value = LAYOUTS[layout](CALLS[name][argument])
    assert_same(run(name, **{argument: value}), run(name))


@pytest.mark.parametrize("dtype", ["f2", "f8", "g", ">f8"])
@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_any_floating_type_gives_the_same_bits(name, argument, dtype):
    value = CALLS[name][argument].astype(dtype)
    assert_same(run(name, **{argument: value}), run(name))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8", "u8", ">i2"])
@pytest.mark.parametrize("name", [n for n, key in ARGUMENTS if key == "labels"])
def test_any_integer_type_of_labels_gives_the_same_bits(name, dtype):
    assert_same(run(name, labels=LABELS.astype(dtype)), run(name))


@pytest.mark.parametrize("name", CALLS)
def test_any_number_of_threads_gives_the_same_bits(name):
    wide = {
        key: np.concatenate([value] * 20)
        for key, value in CALLS[name].items()
        if key not in ("weight", "bias", "codes")
    }
    expected = run(name, **wide, threads=1)
    for threads in (2, 3, 4, 7, None, np.int64(2)):
        assert_same(run(name, **wide, threads=threads), expected)


@pytest.mark.parametrize("name", CALLS)
def test_outputs_are_new_and_inputs_stay_as_they_are(name):
    call = {key: value.copy() for key, value in CALLS[name].items()}
    outputs = run(name, **call)
    for output in outputs:
        if output.ndim:
            assert output.dtype == np.float32
            assert output.flags.writeable
            output[...] = 77
    for number, output in enumerate(outputs):
        assert not any(np.shares_memory(output, x) for x in outputs[number + 1 :])
    for key, value in CALLS[name].items():
        np.testing.assert_array_equal(call[key], value)


@pytest.mark.parametrize("kind", ["avg", "max"])
def test_a_window_of_1_copies(kind):
    y = getattr(functional, f"{kind}_pool2d")(X, 1)
    np.testing.assert_array_equal(y, X)
    assert not np.shares_memory(y, X)


@pytest.mark.parametrize(
    "bad",
    [
        "None",
        "integers",
        "booleans",
        "complex",
        "objects",
        "strings",
        "dates",
    ],
)
@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_arrays_of_other_kinds_are_refused(name, argument, bad):
    if (argument, bad) == ("bias", "None"):
        pytest.skip("no bias is a valid bias")
    good = CALLS[name][argument]
    value = {
        "None": None,
        "integers": np.ones(good.shape, int),
        "booleans": np.ones(good.shape, bool),
        "complex": good.astype(complex),
        "objects": good.astype(object),
        "strings": good.astype(str),
        "dates": np.zeros(good.shape, "datetime64[s]"),
    }[bad]
    refused(name, argument, **{argument: value})


def test_ragged_lists_are_refused():
    for name, argument in ARGUMENTS:
        refused(name, argument, ValueError, **{argument: [[1.0], [2.0, 3.0]]})


@pytest.mark.parametrize(("name", "argument"), SHAPED)
def test_arrays_of_another_rank_are_refused(name, argument):
    good = CALLS[name][argument]
    for bad in (np.float32(1), good[0], good[None], good.ravel()):
        if bad.ndim != good.ndim:
            refused(name, argument, ValueError, **{argument: bad})


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_empty_arrays_are_refused(name, argument):
    good = CALLS[name][argument]
    for axis in range(good.ndim):
        empty = np.delete(good, np.s_[:], axis)
        # the size of x decides what fits, so that the other array may be named
        names = "|".join(CALLS[name])
        refused(name, f"({names})", ValueError, **{argument: empty})


def test_no_images_are_refused_by_name():
    for name, call in CALLS.items():
        first = next(iter(call))
        refused(name, first, ValueError, **{first: call[first][:0]})


@pytest.mark.parametrize(
    ("name", "argument", "axes"),
    [
        ("conv2d", "weight", [1]),
        ("conv2d", "bias", [0]),
        ("conv2d_backward", "weight", [1]),
        ("conv2d_backward", "dy", [0, 1, 2, 3]),
        ("avg_pool2d_backward", "dy", [0, 1, 2, 3]),
        ("max_pool2d_backward", "dy", [0, 1, 2, 3]),
        ("dense", "weight", [1]),
        ("dense", "bias", [0]),
        ("dense_backward", "weight", [1]),
        ("dense_backward", "dy", [0, 1]),
        ("tanh_backward", "dy", [0, 1, 2, 3]),
        ("relu_backward", "dy", [0, 1, 2, 3]),
        ("softmax_cross_entropy", "labels", [0]),
        ("softmax_cross_entropy_backward", "labels", [0]),
    ],
)
def test_shapes_that_do_not_match_are_refused(name, argument, axes):
    good = CALLS[name][argument]
    for axis in axes:
        shorter = np.delete(good, 0, axis)
        longer = np.concatenate([good, good], axis)
        one = np.take(good, [0], axis)  # must not be broadcast
        for bad in (shorter, longer, one):
            refused(name, argument, ValueError, **{argument: bad})


@pytest.mark.parametrize("name", [n for n, key in ARGUMENTS if key == "labels"])
def test_labels_out_of_range_or_of_other_kinds_are_refused(name):
    for bad in (-1, 7, 2**31, -(2**31) - 1, 2**32, 2**62):
        labels = LABELS.copy()
        labels[2] = bad
        refused(name, "labels", ValueError, labels=labels)
    refused(name, "labels", ValueError, labels=np.array([2**63] * 5, np.uint64))
    refused(name, "labels", ValueError, labels=LABELS[:, None])
    refused(name, "labels", ValueError, labels=np.eye(7, dtype=int)[LABELS])
    for kind in (float, complex, bool, object, str):
        refused(name, "labels", TypeError, labels=LABELS.astype(kind))
    refused(name, "labels", labels=None)
    refused(name, "labels", ValueError, labels=3)


NOT_WHOLE = (True, np.True_, 2.5, 2.0, "2", b"2", np.float32(2), (), (2, 3), {})
CONVOLUTION_NAMES = ("conv2d", "conv2d_backward")
POOLING_NAMES = tuple(name for name in CALLS if "pool" in name)


@pytest.mark.parametrize(
    ("name", "option", "least"),
    [(name, "stride", 1) for name in CONVOLUTION_NAMES + POOLING_NAMES]
    + [(name, "padding", 0) for name in CONVOLUTION_NAMES]
    + [(name, "kernel_size", 1) for name in POOLING_NAMES]
    + [(name, "threads", 1) for name in CALLS],
)
def test_options_that_are_no_whole_numbers_in_range_are_refused(name, option, least):
    for bad in NOT_WHOLE:
        refused(name, option, **{option: bad})
    for bad in (least - 1, -1, -(2**31), -(2**63), 2**31, 2**63, 2**100):
        refused(name, option, ValueError, **{option: bad})
    default = inspect.signature(getattr(functional, name)).parameters[option].default
    if default is not None:
        refused(name, option, **{option: None})


@pytest.mark.parametrize("name", CONVOLUTION_NAMES)
def test_numpy_integers_are_whole_numbers(name):
    expected = run(name, padding=0, stride=1)
    assert_same(run(name, padding=np.int8(0), stride=np.uint64(1)), expected)


@pytest.mark.parametrize("name", CONVOLUTION_NAMES)
@pytest.mark.parametrize("padding", [0, 1])
def test_a_kernel_larger_than_the_padded_input_is_refused(name, padding):
    for rows, columns in ((7 + 2 * padding, 1), (1, 9 + 2 * padding)):
        weight = np.ones((4, 3, rows, columns), np.float32)
        with pytest.raises(ValueError, match="larger than"):
            run(name, weight=weight, padding=padding)


@pytest.mark.parametrize("name", POOLING_NAMES)
def test_a_window_larger_than_the_input_is_refused(name):
    for size in (7, 9, 2**20):
        with pytest.raises(ValueError, match="larger than"):
            run(name, kernel_size=size)


@pytest.mark.parametrize("name", CONVOLUTION_NAMES)
def test_padding_beyond_all_memory_is_refused(name):
    with pytest.raises((ValueError, MemoryError)):
        run(name, padding=2**20)


# NaN and infinity: they reach what the formula lets them reach, and nothing else.


@checks(30)
@given(case=convolutions(), value=st.sampled_from([np.nan, np.inf]))
def test_nan_in_an_image_reaches_its_own_outputs_alone(case, value):
    rng = np.random.default_rng(case["seed"])
    x, weight = normal(rng, *case["x"]), normal(rng, *case["weight"])
    window, threads = case["window"], case["threads"]
    clean = functional.conv2d(x, weight, **window, threads=threads)
    dy = normal(rng, *clean.shape)
    backward = functional.conv2d_backward(x, weight, dy, **window, threads=threads)

    at = tuple(rng.integers(x.shape))
    x[at] = value
    y = functional.conv2d(x, weight, **window, threads=threads)
    with np.errstate(invalid="ignore"):
        reached = ~np.isfinite(reference.conv2d(x, weight, **window))
        gradients = reference.conv2d_backward(x, weight, dy, **window)
    np.testing.assert_array_equal(~np.isfinite(y), reached)
    np.testing.assert_array_equal(y[~reached], clean[~reached])

    dx, dweight, dbias = functional.conv2d_backward(
        x, weight, dy, **window, threads=threads
    )
    np.testing.assert_array_equal(dx, backward[0])
    reached = ~np.isfinite(gradients[1])
    np.testing.assert_array_equal(~np.isfinite(dweight), reached)
    np.testing.assert_array_equal(dweight[~reached], backward[1][~reached])
    np.testing.assert_array_equal(dbias, backward[2])


@pytest.mark.parametrize("name", ["conv2d", "dense"])
def test_nan_in_a_weight_reaches_its_own_filter_alone(name):
    clean = run(name)[0]
    for key in ("weight", "bias"):
        broken = CALLS[name][key].copy()
        broken[2] = np.nan
        y = run(name, **{key: broken})[0]
        assert np.isnan(y[:, 2]).all()
        np.testing.assert_array_equal(np.delete(y, 2, 1), np.delete(clean, 2, 1))


@pytest.mark.parametrize("name", ["conv2d_backward", "dense_backward"])
def test_nan_in_the_output_gradient_reaches_its_own_image_and_filter_alone(name):
    clean = run(name)
    dy = CALLS[name]["dy"].copy()
    dy[3, 1] = np.nan
    dx, dweight, dbias = run(name, dy=dy)
    assert np.isnan(dx[3]).all()
    np.testing.assert_array_equal(np.delete(dx, 3, 0), np.delete(clean[0], 3, 0))
    for found, expected in ((dweight, clean[1]), (dbias, clean[2])):
        assert np.isnan(found[1]).all()
        np.testing.assert_array_equal(np.delete(found, 1, 0), np.delete(expected, 1, 0))


def test_nan_in_dense_input_reaches_its_own_row_and_column_alone():
    x = ROWS.copy()
    x[3, 2] = np.nan
    y, clean = run("dense", x=x)[0], run("dense")[0]
    assert np.isnan(y[3]).all()
    np.testing.assert_array_equal(np.delete(y, 3, 0), np.delete(clean, 3, 0))
    (dx, dweight, dbias), expected = run("dense_backward", x=x), run("dense_backward")
    np.testing.assert_array_equal(dx, expected[0])
    assert np.isnan(dweight[:, 2]).all()
    np.testing.assert_array_equal(
        np.delete(dweight, 2, 1), np.delete(expected[1], 2, 1)
    )
    np.testing.assert_array_equal(dbias, expected[2])


@pytest.mark.parametrize("name", ["tanh", "relu", "avg_pool2d"])
def test_nan_propagates(name):
    x = X.copy()
    x[1, 2, 3, 4] = np.nan
    (y,), (clean,) = run(name, x=x), run(name)
    at = (1, 2, 1, 2) if name == "avg_pool2d" else (1, 2, 3, 4)
    assert np.isnan(y[at])
    y[at] = clean[at]
    np.testing.assert_array_equal(y, clean)


def test_nan_in_max_pooling_stays_in_its_window():
    x = X.copy()
    x[1, 2, 3, 4] = np.nan
    (y,), (clean,) = run("max_pool2d", x=x), run("max_pool2d")
    y[1, 2, 1, 2] = clean[1, 2, 1, 2]
    np.testing.assert_array_equal(y, clean)
    (dx,), (clean,) = run("max_pool2d_backward", x=x), run("max_pool2d_backward")
    dx[1, 2, 2:4, 4:6] = clean[1, 2, 2:4, 4:6]
    np.testing.assert_array_equal(dx, clean)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_or_infinity_in_logits_makes_the_loss_nan_and_spoils_its_own_row(value):
    logits = ROWS.copy()
    logits[3, 2] = value
    (clean,) = run("softmax_cross_entropy_backward")
    assert np.isnan(functional.softmax_cross_entropy(logits, LABELS))
    dlogits = functional.softmax_cross_entropy_backward(logits, LABELS)
    assert np.isnan(dlogits[3]).any()
    np.testing.assert_array_equal(np.delete(dlogits, 3, 0), np.delete(clean, 3, 0))


def test_float64_beyond_float32_becomes_infinity_without_a_warning():
    x = X.astype(np.float64)
    x[0, 0, 0, 0] = 1e300
    assert run("relu", x=x)[0][0, 0, 0, 0] == np.inf
