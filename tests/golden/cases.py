"""What was stored: networks, their numbers and ten steps, for both sides to make alike.

Weights, images and labels are not stored. They are made from the raw 64-bit output of
PCG64, a stream that NumPy promises never to change, by arithmetic that is exact.
"""

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
STEPS = 10
BATCHES = (19, 5, 16, 1, 17, 8, 13, 19, 3, 11)  # images in each step
PROJECTIONS = 8
FIRST = 50


class Case(NamedTuple):
    """A network (see `lenet5c.reference`), how many images, and of which shape.

    `pace` multiplies the learning rates, so that the losses fall and do not vanish.
    """

    seed: int
    pace: float
    images: int
    input_shape: tuple[int, int, int]
    classes: int
    layers: list[tuple[str, dict[str, Any]]]


def _convolution(name: str, filters: int, **options: Any) -> dict[str, Any]:
    """A 3x3 convolution as in a ResNet, but for the options."""
    usual = {"kernel_size": 3, "stride": 1, "padding": 1, "bias": False}
    return {"name": name, "filters": filters} | usual | options


CASES = {
    "lenet5": Case(
        seed=1,
        pace=2,
        images=19,
        input_shape=(1, 32, 32),
        classes=10,
        layers=[
            ("conv2d", {"name": "C1", "filters": 6, "kernel_size": 5}),  # 6@28x28
            ("tanh", {}),
            ("avg_pool2d", {"kernel_size": 2}),  # 6@14x14
            ("conv2d", {"name": "C3", "filters": 16, "kernel_size": 5}),  # 16@10x10
            ("tanh", {}),
            ("avg_pool2d", {"kernel_size": 2}),  # 16@5x5
            ("conv2d", {"name": "C5", "filters": 120, "kernel_size": 5}),  # 120@1x1
            ("tanh", {}),
            ("flatten", {}),
            ("dense", {"name": "F6", "outputs": 84}),
            ("tanh", {}),
            ("dense", {"name": "OUTPUT", "outputs": 10}),
        ],
    ),
    "strided_and_padded": Case(
        seed=2,
        pace=1,
        images=19,
        input_shape=(3, 13, 10),
        classes=4,
        layers=[
            (
                "conv2d",
                {
                    "name": "A",
                    "filters": 5,
                    "kernel_size": (3, 2),
                    "stride": 2,
                    "padding": 2,
                },
            ),  # 5@8x7
            ("tanh", {}),
            (
                "conv2d",
                {
                    "name": "B",
                    "filters": 7,
                    "kernel_size": (4, 5),
                    "stride": 3,
                    "padding": 1,
                },
            ),  # 7@3x2
            ("flatten", {}),
            ("dense", {"name": "D", "outputs": 4}),
        ],
    ),
    "max_pool": Case(
        seed=3,
        pace=1,
        images=7,
        input_shape=(2, 15, 12),
        classes=3,
        layers=[
            ("conv2d", {"name": "A", "filters": 4, "kernel_size": 3}),  # 4@13x10
            ("tanh", {}),
            ("max_pool2d", {"kernel_size": 3, "stride": 2}),  # 4@6x4, overlapping
            ("conv2d", {"name": "B", "filters": 6, "kernel_size": 2, "padding": 1}),
            ("max_pool2d", {"kernel_size": 2}),  # 6@7x5 -> 6@3x2, a column is left
            ("flatten", {}),
            ("dense", {"name": "D", "outputs": 3}),
        ],
    ),
    "mlp": Case(
        seed=4,
        pace=0.2,
        images=19,
        input_shape=(1, 28, 28),
        classes=10,
        layers=[
            ("flatten", {}),
            ("dense", {"name": "HIDDEN", "outputs": 100}),
            ("relu", {}),
            ("dense", {"name": "OUTPUT", "outputs": 10}),
        ],
    ),
    "cnn3": Case(
        seed=255,
        pace=0.1,
        images=2,
        input_shape=(1, 28, 28),
        classes=10,
        layers=[
            ("conv2d", {"name": "CONV1", "filters": 32, "kernel_size": 3}),  # 32@26x26
            ("relu", {}),
            ("max_pool2d", {"kernel_size": 2}),  # 32@13x13
            ("conv2d", {"name": "CONV2", "filters": 64, "kernel_size": 3}),  # 64@11x11
            ("relu", {}),
            ("max_pool2d", {"kernel_size": 2}),  # 64@5x5
            ("conv2d", {"name": "CONV3", "filters": 128, "kernel_size": 3}),  # 128@3x3
            ("relu", {}),
            ("flatten", {}),
            ("dense", {"name": "OUTPUT", "outputs": 10}),
        ],
    ),
    "residual": Case(
        seed=10,
        pace=1,
        images=19,
        input_shape=(2, 22, 20),
        classes=5,
        layers=[
            (
                "conv2d",
                {
                    "name": "A",
                    "filters": 6,
                    "kernel_size": 7,
                    "stride": 2,
                    "padding": 3,
                    "bias": False,
                },
            ),  # 6@11x10
            ("batch_norm2d", {"name": "A.norm"}),
            ("tanh", {}),
            ("max_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),  # 6@6x5
            (
                "residual",
                {
                    "layers": [
                        ("conv2d", _convolution("B", 6)),
                        ("batch_norm2d", {"name": "B.norm"}),
                        ("tanh", {}),
                        ("conv2d", _convolution("C", 6)),
                        ("batch_norm2d", {"name": "C.norm"}),
                    ],
                },
            ),
            ("tanh", {}),
            (
                "residual",
                {
                    "layers": [
                        ("conv2d", _convolution("D", 7, stride=2)),
                        ("batch_norm2d", {"name": "D.norm"}),
                        ("tanh", {}),
                        ("conv2d", _convolution("E", 7)),
                        ("batch_norm2d", {"name": "E.norm"}),
                    ],
                    "shortcut": [
                        (
                            "conv2d",
                            _convolution("F", 7, stride=2, kernel_size=1, padding=0),
                        ),
                        ("batch_norm2d", {"name": "F.norm"}),
                    ],
                },
            ),  # 7@3x3
            ("tanh", {}),
            ("global_avg_pool2d", {}),
            ("dense", {"name": "G", "outputs": 5}),
        ],
    ),
}

# What each optimizer is given besides `rates`. AdamW's eps is large on purpose: where a
# gradient is nearly 0, float32 and float64 would differ by whole steps without it.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "momentum": {"momentum": 0.9, "nesterov": False, "weight_decay": 0.02},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02},
    "adamw": {"beta1": 0.8, "beta2": 0.99, "eps": 1e-4, "weight_decay": 0.1},
}


def rates(case: Case, optimizer: str) -> list[float]:
    """The learning rate of each step: it falls, as with a schedule."""
    first = case.pace * (0.004 if optimizer == "adamw" else 0.02)
    return [first * (1 - step / 20) for step in range(STEPS)]


def uniform(key: str, shape: tuple[int, ...], limit: float) -> NDArray[np.float32]:
    """Numbers k / 2^23 * limit, k whole, -2^23 <= k < 2^23, rounded once to float32.

    The stream is that of PCG64 seeded by the CRC-32 of `key`; k comes from the upper 24
    of each 64 bits.
    """
    stream = np.random.PCG64(zlib.crc32(key.encode()))
    raw = stream.random_raw(math.prod(shape)) >> np.uint64(40)
    values = (raw.astype(np.float64) / 2**23 - 1) * limit
    return values.astype(np.float32).reshape(shape)


def images_and_labels(
    case: Case,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(N, C, H, W) float32 images and (N,) labels."""
    images = uniform(f"{case.seed} images", (case.images, *case.input_shape), 1.5)
    share = (uniform(f"{case.seed} labels", (case.images,), 1) + 1) / 2
    return images, (share * case.classes).astype(np.int64)


def parameters(
    case: Case, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """Weights of variance 1 / fan-in, biases between -0.2 and 0.2, and weights of batch
    normalisation between 0.8 and 1.2."""
    values = {}
    for name, shape in shapes.items():
        vector = len(shape) == 1
        limit = 0.2 if vector else math.sqrt(3 / math.prod(shape[1:]))
        values[name] = uniform(f"{case.seed} {name}", shape, limit)
        if vector and name.endswith(".weight"):
            values[name] += np.float32(1)
    return values


def batch(case: Case, step: int) -> NDArray[np.intp]:
    """Positions of the images of one step, in their order."""
    count = min(BATCHES[step], case.images)
    return (7 * step + np.arange(count)) % case.images


def project(case: Case, name: str, tensor: NDArray[Any]) -> NDArray[np.float64]:
    """(PROJECTIONS,) dot products with fixed random vectors, in float64."""
    shape = (PROJECTIONS, tensor.size)
    vectors = uniform(f"{case.seed} projection {name}", shape, 1)
    return vectors.astype(np.float64) @ tensor.astype(np.float64).ravel()
