"""Convolutions by fewer multiplications, against sums in double precision."""

from typing import NamedTuple

import numpy as np
import pytest

from lenet5c._support.cores import core

IMAGES = 37
TOLERANCE = 1e-5  # of the largest number
STAGE = (1.0, 0.0, 0.0, 1.0, 0.0)
WALKS = {"blockwise": False, "layerwise": True}


class Shape(NamedTuple):
    channels: int
    filters: int
    height: int
    width: int
    kernel: int
    padding: int
    stride: int = 1

    @property
    def out(self):
        return tuple(
            (n + 2 * self.padding - self.kernel) // self.stride + 1
            for n in (self.height, self.width)
        )


# By squares, tiles of 2x2, 3x3 and 4x4 outputs; some reach beyond the edge.
SQUARES = [
    Shape(16, 16, 4, 4, 3, 0),
    Shape(64, 128, 5, 5, 3, 0),
    Shape(32, 64, 13, 13, 3, 0),
    Shape(16, 16, 32, 32, 3, 1),
    Shape(64, 64, 8, 8, 3, 1),
    Shape(64, 64, 16, 16, 3, 1),
    Shape(23, 29, 7, 15, 3, 1),
    Shape(16, 24, 11, 9, 3, 2),
    Shape(17, 31, 3, 23, 3, 1),
    Shape(25, 19, 23, 3, 3, 1),
    Shape(9, 13, 6, 5, 3, 2),
]
# By the rows of their kernel.
ROWS = [
    Shape(1, 32, 28, 28, 3, 0),
    Shape(3, 16, 32, 32, 3, 1),
    Shape(5, 13, 11, 17, 3, 2),
    Shape(1, 6, 32, 32, 5, 0),
    Shape(6, 16, 14, 14, 5, 0),
    Shape(6, 16, 14, 14, 5, 2),
    Shape(4, 4, 6, 21, 5, 1),
    Shape(2, 7, 13, 9, 7, 3),
    Shape(3, 5, 17, 12, 7, 0),
    Shape(1, 1, 9, 9, 5, 4),
    Shape(150, 4, 14, 14, 5, 0),  # more channels than weights are transformed at a time
]
OTHERS = [
    Shape(3, 8, 9, 11, 3, 1, stride=2),
    Shape(8, 8, 9, 11, 1, 0),
    # more filters than are summed in one pass, and a gradient in parts of one pixel
    Shape(8, 200, 1, 1, 1, 0, stride=2),
    Shape(8, 200, 2, 2, 1, 0, stride=2),
    Shape(12, 260, 3, 3, 3, 0, stride=2),
    Shape(7, 129, 3, 2, 2, 0, stride=2),
    Shape(140, 150, 1, 1, 1, 0),
]


class Passes:
    """One convolution's y, and the gradients of its input and parameters, float32."""

    def __init__(self, shape, layerwise, numbers):
        C, F, K = shape.channels, shape.filters, shape.kernel
        node = {
            "kind": "conv2d",
            "input_shape": (C, shape.height, shape.width),
            "output_shape": (F, *shape.out),
            "kernel_size": (K, K),
            "stride": shape.stride,
            "padding": shape.padding,
            "bias": True,
            "source": 0,
            "other": -1,
            "activation": None,
            "below": None,
            "below_other": None,
            "needs_dx": True,
            "needs_other": False,
            "adds": False,
            "adds_other": False,
            "folds": False,
        }
        network = core.Network([node], node["input_shape"], layerwise)
        parameters = numbers(network.parameter_count)
        weights = F * C * K * K
        self.weight = parameters[:weights].reshape(F, C, K, K)
        self.bias = parameters[weights:]
        self.x = numbers((IMAGES, *node["input_shape"]))
        self.dy = numbers((IMAGES, *node["output_shape"]))
        flat = (IMAGES, -1)
        self.y = np.zeros_like(self.dy)
        self.dx = np.zeros_like(self.x)
        gradient = np.zeros_like(parameters)
        network.forward(parameters, self.x, STAGE, self.y.reshape(flat), 1)
        network.backward(
            parameters,
            self.x,
            STAGE,
            self.dy.reshape(flat),
            gradient,
            self.dx.reshape(flat),
            1,
        )
        self.dw = gradient[:weights].reshape(self.weight.shape)
        self.db = gradient[weights:]


def sums(shape, found):
    """y, dw, db and dx as they are written, in double precision."""
    P, S, K = shape.padding, shape.stride, shape.kernel
    OH, OW = shape.out
    weight = found.weight.astype(float)
    dy = found.dy.astype(float)
    x = np.pad(found.x.astype(float), ((0, 0), (0, 0), (P, P), (P, P)))
    y = np.zeros(dy.shape) + found.bias.astype(float)[:, None, None]
    dw = np.zeros(weight.shape)
    dx = np.zeros(x.shape)
    for i in range(K):
        for j in range(K):
            at = np.s_[:, :, i : i + S * OH : S, j : j + S * OW : S]
            seen = x[at][:, :, :OH, :OW]
            y += np.einsum("nchw,fc->nfhw", seen, weight[:, :, i, j], optimize=True)
            dw[:, :, i, j] = np.einsum("nchw,nfhw->fc", seen, dy, optimize=True)
            dx[at] += np.einsum("nfhw,fc->nchw", dy, weight[:, :, i, j], optimize=True)
    dx = dx[:, :, P : P + shape.height, P : P + shape.width]
    return {"y": y, "dw": dw, "db": dy.sum((0, 2, 3)), "dx": dx}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("shape", SQUARES + ROWS + OTHERS, ids=str)
def test_passes_are_the_sums(shape, walk):
    rng = np.random.default_rng(0)
    found = Passes(
        shape, WALKS[walk], lambda size: rng.normal(size=size).astype(np.float32)
    )
    for name, expected in sums(shape, found).items():
        error = np.abs(getattr(found, name) - expected).max()
        assert error < TOLERANCE * np.abs(expected).max(), name


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("shape", [*SQUARES[1:6], ROWS[3], ROWS[4], *OTHERS], ids=str)
def test_sums_of_whole_numbers_are_exact_unless_they_are_transformed(shape, walk):
    """Only tiles of 2x2 outputs divide by nothing but powers of two."""
    rng = np.random.default_rng(0)
    found = Passes(
        shape, WALKS[walk], lambda size: rng.integers(-3, 4, size).astype(np.float32)
    )
    exact = np.array_equal(found.y, sums(shape, found)["y"])
    assert exact == (shape in OTHERS)
