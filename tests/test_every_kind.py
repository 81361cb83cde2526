"""Every kind of layer, with every option that changes what it computes, goes through
everything that knows kinds, and comes out as in the float64 reference or is refused.

A new kind or option: a line in `CASES`. A new thing that knows kinds: a function, and
its line in `CONSUMERS`. What a consumer cannot do stands in `REFUSED`, and nowhere
else.
"""

import ctypes
import functools
import math
import re
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import int8_reference
import numpy as np
import pytest

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    Model,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
    reference,
)
from lenet5c._support.cores import core
from lenet5c.cli.textbook import as_reference
from lenet5c.deploy import c_export as export_c
from lenet5c.deploy import page as export_page
from lenet5c.deploy import quantize
from lenet5c.functional import AS_IT_IS
from lenet5c.graph import for_core, lower
from lenet5c.layers import LAYERS, Layer, walk
from lenet5c.training.curvature import gauss_newton_diagonal

CC = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
IMAGES = 19  # more than one block of any core, and the last one is not full
FLOAT32 = 2e-5  # of the largest logit
INT8 = 0.08  # likewise
GRADIENT = 1e-5  # of the products that a gradient adds up

# name: layers, input (C, H, W); the outputs of the last layer are the logits
CASES: dict[str, tuple[Sequence[Layer], tuple[int, int, int]]] = {
    "conv": ([Conv2d(4, 3)], (2, 6, 5)),
    "conv: stride": ([Conv2d(3, 2, stride=2), Dense(3)], (2, 6, 5)),
    "conv: padding": ([Conv2d(3, 3, padding=2), Dense(3)], (2, 6, 5)),
    "conv: stride and padding": ([Conv2d(9, 3, stride=2, padding=1)], (2, 7, 5)),
    "conv: no bias": ([Conv2d(3, 3, bias=False), Tanh(), Dense(3)], (2, 6, 5)),
    "conv: not square": ([Conv2d(3, (2, 4)), ReLU(), Dense(3)], (2, 6, 5)),
    "conv: kernel of the input's size": ([Conv2d(5, (4, 3)), Tanh()], (2, 4, 3)),
    "conv: the same, padded": ([Conv2d(2, (4, 3), padding=1), Dense(3)], (2, 4, 3)),
    "conv: many filters": ([Conv2d(33, 3), ReLU(), Conv2d(3, 2)], (3, 5, 6)),
    "table": (
        [Conv2d(4, 3, connections=[[1], [0, 2], [0, 1, 2], [1, 2]]), Tanh(), Dense(3)],
        (3, 6, 15),
    ),
    "table: stride and padding": (
        [
            *(Conv2d(3, 2), ReLU()),
            Conv2d(4, 3, stride=2, padding=1, connections=[[0], [2], [0, 2], [0, 2]]),
        ],
        (2, 8, 6),
    ),
    "table: stride > kernel": (
        [Conv2d(2, 2), Conv2d(2, 2, stride=3, connections=[[0, 1], [1]])],
        (2, 9, 10),
    ),
    "table: kernel of the input's size, no bias": (
        [Conv2d(3, (4, 3), bias=False, connections=[[0], [1], [0, 1]]), Dense(3)],
        (2, 4, 3),
    ),
    "table: all": (
        [
            Conv2d(3, 2, connections=[[0, 1]] * 3),
            Conv2d(4, (5, 4), connections=[[0, 1, 2]] * 4),
        ],
        (2, 6, 5),
    ),
    "table: channel by channel": (
        [
            Conv2d(2, 3, padding=2),
            Conv2d(4, 1, connections=[[0], [0], [1], [1]]),
            Tanh(),
        ],
        (2, 2, 3),
    ),
    "table: norm and residual": (
        [
            Residual(
                [Conv2d(2, (5, 7), padding=3, connections=[[1], [0, 1]])],
                [Conv2d(2, (5, 7), padding=3, connections=[[0], [1]])],
            ),
            Conv2d(3, 2, connections=[[0], [1], [0, 1]]),
            *(BatchNorm2d(eps=0.3), ReLU(), Dense(3)),
        ],
        (2, 5, 6),
    ),
    "dense": ([Dense(4)], (2, 3, 4)),
    "dense: several": ([Dense(17), Tanh(), Dense(5), ReLU(), Dense(3)], (1, 3, 4)),
    "avg pool": ([Conv2d(3, 3), AvgPool2d(2), Dense(3)], (2, 6, 7)),
    "avg pool: stride > window": ([AvgPool2d(2, 3), Conv2d(3, 2)], (2, 6, 8)),
    "avg pool: overlapping": ([AvgPool2d(3, 1), Conv2d(3, 2)], (2, 6, 5)),
    "avg pool: last": ([Conv2d(3, 2), AvgPool2d(2)], (2, 5, 5)),
    "subsampling": ([Conv2d(3, 3), Tanh(), Subsampling2d(), Dense(3)], (2, 6, 8)),
    "subsampling: with its activation": (
        [Conv2d(17, 3), ScaledTanh(), Subsampling2d(2), ScaledTanh(), Conv2d(3, 2)],
        (2, 6, 8),
    ),
    "subsampling: uneven": ([Conv2d(3, 3), ReLU(), Subsampling2d(2)], (2, 7, 9)),
    "subsampling: stride > window": (
        [Subsampling2d(2, 3), Sigmoid(), Conv2d(3, 2)],
        (2, 6, 8),
    ),
    "subsampling: overlapping": (
        [Subsampling2d(3, 1), Tanh(), ReLU(), Subsampling2d(1), Dense(3)],
        (2, 6, 5),
    ),
    "subsampling: one channel, last": ([Subsampling2d(2), Dropout(0.3)], (1, 4, 6)),
    "subsampling: before norm and residual": (
        [
            *(Conv2d(3, 2), Subsampling2d(2), BatchNorm2d(eps=0.3), Tanh()),
            *(Residual([Subsampling2d(1), ReLU()], [Subsampling2d(1)]), Dense(3)),
        ],
        (2, 5, 7),
    ),
    "max pool": ([Conv2d(3, 3), MaxPool2d(2), Dense(3)], (2, 6, 7)),
    "max pool: stride > window": ([MaxPool2d(2, 3), Conv2d(3, 2)], (2, 6, 8)),
    "max pool: overlapping": ([MaxPool2d(3, 1), Conv2d(3, 2)], (2, 6, 5)),
    "max pool: last": ([Conv2d(3, 2), MaxPool2d(2)], (2, 5, 5)),
    "max pool: padded": ([Conv2d(3, 2), MaxPool2d(3, 2, padding=1)], (2, 6, 7)),
    "global pool": ([Conv2d(3, 2), GlobalAvgPool2d(), Dense(4)], (2, 5, 5)),
    "global pool: not square": ([Conv2d(3, 2), GlobalAvgPool2d()], (2, 4, 6)),
    "tanh: first": ([Tanh(), Dense(3)], (2, 3, 4)),
    "tanh: after conv": ([Conv2d(3, 2), Tanh(), Conv2d(3, 2)], (2, 4, 5)),
    "tanh: after dense": ([Dense(5), Tanh(), Dense(3)], (2, 3, 4)),
    "tanh: after pooling": ([MaxPool2d(2), Tanh(), Dense(3)], (2, 4, 5)),
    "tanh: after norm": ([BatchNorm2d(), Tanh(), Conv2d(3, 2)], (2, 4, 5)),
    "tanh: after residual": (
        [Residual([Conv2d(2, 1)]), Tanh(), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "tanh: after dropout": ([Conv2d(3, 2), Dropout(0.4), Tanh()], (2, 4, 3)),
    "scaled tanh: first": ([ScaledTanh(), Dense(3)], (2, 3, 4)),
    "scaled tanh: after conv": (
        [Conv2d(3, 2), ScaledTanh(), Conv2d(9, 3, padding=1), ScaledTanh()],
        (2, 4, 5),
    ),
    "scaled tanh: after dense": ([Dense(9), ScaledTanh(), Dense(3)], (2, 3, 4)),
    "scaled tanh: around pooling": (
        [Conv2d(3, 1), ScaledTanh(), AvgPool2d(2), ScaledTanh(), Dense(3)],
        (2, 4, 6),
    ),
    "scaled tanh: after norm": ([BatchNorm2d(), ScaledTanh(), Conv2d(3, 2)], (2, 4, 5)),
    "scaled tanh: after residual": (
        [Residual([Conv2d(2, 1)]), ScaledTanh(), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "relu: first": ([ReLU(), Dense(3)], (2, 3, 4)),
    "relu: after conv": ([Conv2d(3, 2), ReLU(), Conv2d(3, 2)], (2, 4, 5)),
    "relu: after dense": ([Dense(9), ReLU(), Dense(3)], (2, 3, 4)),
    "relu: after pooling": ([AvgPool2d(2), ReLU(), Dense(3)], (2, 4, 5)),
    "relu: after norm": ([BatchNorm2d(), ReLU(), Conv2d(3, 2)], (2, 4, 5)),
    "relu: after residual": (
        [Residual([Conv2d(2, 1)]), ReLU(), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "sigmoid: first": ([Sigmoid(), Dense(3)], (2, 3, 4)),
    "sigmoid: after conv": (
        [Conv2d(3, 2), Sigmoid(), Conv2d(9, 3, padding=1), Sigmoid(), MaxPool2d(2)],
        (2, 4, 5),
    ),
    "sigmoid: after dense": ([Dense(9), Sigmoid(), Dense(3)], (2, 3, 4)),
    "sigmoid: after pooling": ([AvgPool2d(2), Sigmoid(), Dense(3)], (2, 4, 5)),
    "sigmoid: after norm": ([BatchNorm2d(), Sigmoid(), Conv2d(3, 2)], (2, 4, 5)),
    "sigmoid: after residual": (
        [Residual([Conv2d(2, 1)]), Sigmoid(), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "leaky relu: first": ([LeakyReLU(), Dense(3)], (2, 3, 4)),
    "leaky relu: after conv": (
        [Conv2d(3, 2), LeakyReLU(0.3), ReLU(), Conv2d(9, 3, padding=1), LeakyReLU(0.3)],
        (2, 4, 5),
    ),
    "leaky relu: after dense": ([Dense(9), LeakyReLU(0.0), Dense(3)], (2, 3, 4)),
    "leaky relu: after activation": (
        [Conv2d(3, 2), Tanh(), LeakyReLU(0.3), Flatten(), LeakyReLU(0.5), Dense(3)],
        (2, 4, 5),
    ),
    "leaky relu: after norm": (
        [Conv2d(3, 2), BatchNorm2d(), LeakyReLU(0.3), BatchNorm2d(), LeakyReLU(0.2)],
        (2, 4, 5),
    ),
    "leaky relu: after residual": (
        [Residual([Conv2d(2, 1), LeakyReLU(0.3)]), LeakyReLU(0.3), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "two activations": ([Conv2d(3, 2), Tanh(), ReLU(), Dense(3), Tanh()], (2, 4, 5)),
    "dropout": ([Conv2d(3, 2), ReLU(), Dropout(0.4), Dense(3)], (2, 4, 5)),
    "dropout: first and last": ([Dropout(0.2), Dense(4), Dropout(0.6)], (2, 3, 4)),
    "radial basis": ([Dense(7), Tanh(), RadialBasis(4)], (2, 3, 4)),
    "radial basis: of an image": (
        [RadialBasis(3, codes=np.eye(3, 24))],
        (2, 3, 4),
    ),
    "radial basis: of a map": ([Conv2d(3, 2), ReLU(), RadialBasis(5)], (2, 4, 5)),
    "radial basis: after sigmoid": (
        [Conv2d(5, (4, 3)), Sigmoid(), RadialBasis(19)],
        (2, 4, 3),
    ),
    "radial basis: after flatten": (
        [MaxPool2d(2), Flatten(), Tanh(), RadialBasis(4), LeakyReLU(0.3)],
        (2, 4, 6),
    ),
    "radial basis: inside": (
        [Dense(6), BatchNorm2d(eps=0.3), RadialBasis(4), Dense(3)],
        (2, 3, 4),
    ),
    "radial basis: of a residual": (
        [Residual([Dense(24)], [Flatten()]), RadialBasis(3)],
        (2, 3, 4),
    ),
    "norm: after conv": (
        [Conv2d(3, 2), BatchNorm2d(eps=0.3), ReLU(), Dense(3)],
        (2, 4, 5),
    ),
    "norm: after conv without bias": (
        [Conv2d(3, 2, bias=False), BatchNorm2d(eps=0.3), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "norm: after dense": (
        [Dense(6), BatchNorm2d(eps=0.3), Tanh(), Dense(3)],
        (2, 3, 4),
    ),
    "norm: first": ([BatchNorm2d(eps=0.3), Conv2d(3, 2)], (2, 4, 5)),
    "norm: after activation": (
        [Conv2d(3, 2), ReLU(), BatchNorm2d(eps=0.3), Conv2d(3, 2)],
        (2, 4, 5),
    ),
    "norm: after pooling, last": ([MaxPool2d(2), BatchNorm2d(eps=0.3)], (2, 4, 5)),
    "norm: after dropout": (
        [Conv2d(3, 2), Dropout(0.4), BatchNorm2d(eps=0.3), Dense(3)],
        (2, 4, 5),
    ),
    "norm: after flatten": ([Flatten(), BatchNorm2d(eps=0.3), Dense(3)], (2, 3, 2)),
    "norm: after conv and flatten": (
        [Conv2d(3, 2), Flatten(), BatchNorm2d(eps=0.3), Dense(3)],
        (2, 4, 3),
    ),
    "norm: after residual": (
        [Residual([Conv2d(2, 1)]), BatchNorm2d(eps=0.3), Dense(3)],
        (2, 4, 5),
    ),
    "flatten: before dense": ([Conv2d(3, 2), Tanh(), Flatten(), Dense(3)], (2, 4, 5)),
    "flatten: before conv": ([Conv2d(3, 2), Flatten(), Conv2d(4, 1)], (2, 4, 3)),
    "flatten: before its activation": ([Conv2d(3, 2), Flatten(), ReLU()], (2, 4, 3)),
    "flatten: alone, last": ([MaxPool2d(2, 1), Flatten()], (2, 4, 3)),
    "residual": ([Residual([Conv2d(2, 3, padding=1), Tanh()]), Dense(3)], (2, 4, 5)),
    "residual: shortcut": (
        [Residual([Conv2d(3, 2, stride=2)], [Conv2d(3, 1, stride=2)]), Dense(3)],
        (2, 4, 6),
    ),
    "residual: norms": (
        [
            Conv2d(3, 2),
            Residual(
                [Conv2d(4, 1), BatchNorm2d(eps=0.3), ReLU(), Conv2d(4, 1)],
                [Conv2d(4, 1, bias=False), BatchNorm2d(eps=0.3)],
            ),
            *(ReLU(), GlobalAvgPool2d(), Dense(3)),
        ],
        (2, 4, 5),
    ),
    "residual: nested": (
        [
            Residual(
                [Residual([Tanh()], [BatchNorm2d(eps=0.3)]), Conv2d(2, 1)],
                [Residual([MaxPool2d(3, 1, padding=1)])],
            ),
            Dense(3),
        ],
        (2, 4, 5),
    ),
    "residual: flattened": (
        [Residual([Flatten()], [Conv2d(24, (4, 3))]), Dense(3)],
        (2, 4, 3),
    ),
    "residual: dropout, last": ([Conv2d(3, 2), Residual([Dropout(0.4)])], (2, 4, 3)),
}
# Options that neither logits nor gradients depend on; `momentum` has a test of its own.
NOT_COMPUTED_WITH = {"name", "init", "momentum"}

WITH_NORM_OR_RESIDUAL = [
    name
    for name, (layers, shape) in CASES.items()
    if {"batch_norm2d", "residual"} & {layer.kind for layer, *_ in walk(layers, shape)}
]
WITH_STRIDE = [
    name
    for name, (layers, shape) in CASES.items()
    if any(
        getattr(layer, "stride", 1) > 1 and layer.kind == "conv2d"
        for layer, *_ in walk(layers, shape)
    )
    and name not in WITH_NORM_OR_RESIDUAL
]
WITH_RADIAL_BASIS = [name for name in CASES if name.startswith("radial basis")]
# consumer: cases that it refuses
REFUSED: dict[str, list[str]] = {
    "core, blockwise": WITH_NORM_OR_RESIDUAL,
    "gradients, blockwise": WITH_NORM_OR_RESIDUAL,
    "gradients, imagewise": [*WITH_NORM_OR_RESIDUAL, *WITH_STRIDE],
    **dict.fromkeys(("int8", "int8 C", "int8 page"), WITH_RADIAL_BASIS),
    # sums of sums of one map, and of a map with itself
    "ONNX in": ["residual: nested", "residual: dropout, last"],
    # statistics of a batch are no function of one image
    "curvature": [
        name
        for name, (layers, shape) in CASES.items()
        if "batch_norm2d" in {layer.kind for layer, *_ in walk(layers, shape)}
    ],
}


class Case:
    """A network of random parameters, images for it, and what it makes of them."""

    fixture: Callable[[str], Any]  # of the test that checks it

    def __init__(self, name: str, layers: Sequence[Layer], shape: Any) -> None:
        self.name = name
        self.rng = rng = np.random.default_rng(zlib.crc32(name.encode()))
        *_, (_, _, last) = walk(layers, shape)
        self.classes = math.prod(last)
        self.model = model = Model(layers, input_shape=shape, classes=self.classes)
        for key, value in model.parameters.items():
            if key.endswith("bias"):
                value[:] = rng.normal(0, 0.3, value.shape)
            elif value.ndim == 1:  # of a batch normalisation
                value[:] = rng.uniform(0.5, 1.5, value.shape)
                value *= rng.choice([-1, 1], value.shape)
        for key, value in model.buffers.items():
            least = 0.2 if key.endswith("var") else -0.5
            value[:] = rng.uniform(least, 1, value.shape)
        stage = replace(model.stage, mean=0.45, deviation=0.3, background=0.0)
        model.set_input(stage, shape[1:], np.arange(self.classes) * 3)
        self.images = rng.integers(0, 256, (IMAGES, *shape), np.uint8)
        self.layers = as_reference(model.layers)
        self.values = {
            key: value.astype(np.float64)
            for key, value in {**model.parameters, **model.buffers}.items()
        }

    @functools.cached_property
    def logits(self) -> Any:
        """Of the oracle."""
        x = (self.images / 255 - 0.45) / 0.3
        found = reference.network_forward(self.layers, self.values, x)[-1]
        return found.reshape(IMAGES, -1)

    @functools.cached_property
    def gradients(self) -> "Gradients":
        return Gradients(self)

    @functools.cached_property
    def gradients_of_images(self) -> "Gradients":
        return Gradients(self, images=IMAGES)

    def expect(self, logits: Any, tolerance: float = FLOAT32) -> None:
        assert logits.shape == self.logits.shape
        most = np.abs(self.logits).max()
        np.testing.assert_allclose(logits, self.logits, rtol=0, atol=tolerance * most)


class Gradients:
    """Those of sum(dy * logits) in training, in the reference and by the core."""

    def __init__(self, case: Case, images: int = 0) -> None:
        model = case.model
        self.images = images  # that go one by one
        self.model, self.layers, self.values = model, case.layers, dict(case.values)
        self.x = case.rng.normal(size=case.images.shape).astype(np.float32)
        self.dy = case.rng.normal(size=case.logits.shape).astype(np.float32)
        for layer, shape, _ in walk(model.layers, model.input_shape):
            if isinstance(layer, Dropout):
                self.values[f"{layer.name}.mask"] = self.mask(layer, shape)
        self.expected: dict[str, Any] = {}
        self.magnitudes: dict[str, Any] = {}
        self.dx = reference._backward(
            *(self.layers, self.values, self.x.astype(np.float64)),
            *(self.dy.astype(np.float64), self.expected, self.magnitudes),
        )

    def mask(self, layer: Dropout, shape: Any) -> Any:
        """What the layer multiplies with: it depends on the number of its op alone."""
        number, _ = self.model._maps[str(layer.name)]
        before = number - 1
        layers = [*[AvgPool2d(1, name="_")] * before, layer]
        network = core.Network(
            for_core(lower(layers, shape, training=True), True),
            shape,
            False,
            images=self.images,
        )
        ones = np.ones((IMAGES, math.prod(shape)), np.float32)
        dx, nothing = np.empty_like(ones), np.empty(0, np.float32)
        images = ones.reshape(IMAGES, *shape)
        network.backward(nothing, images, AS_IT_IS, ones, nothing, dx, 1)
        assert np.unique(dx).tolist() == pytest.approx([0, 1 / (1 - layer.rate)])
        return dx.reshape(images.shape).astype(np.float64)

    def check(self, network: Any) -> None:
        """Against the core's network."""
        model = self.model
        gradient = np.full(model.parameter_count, np.nan, np.float32)
        dx = np.full((IMAGES, math.prod(model.input_shape)), np.nan, np.float32)
        network.backward(model.state_vector, self.x, AS_IT_IS, self.dy, gradient, dx, 1)
        most = np.abs(self.dx).max()
        found = dx.reshape(self.dx.shape)
        np.testing.assert_allclose(found, self.dx, rtol=0, atol=FLOAT32 * most)
        start = 0
        for key, value in model.parameters.items():
            part = gradient[start : start + value.size].reshape(value.shape)
            start += value.size
            scale = self.magnitudes[key] + self.magnitudes[key].mean()
            error = np.abs(part - self.expected[key]) / scale
            assert error.max() < GRADIENT, key

    def check_reference(self) -> None:
        """Against a central difference in a random direction."""
        rng, step = np.random.default_rng(0), 1e-7
        along = {
            key: rng.normal(size=value.shape) for key, value in self.expected.items()
        }
        dx = rng.normal(size=self.dx.shape)
        ends = []
        for moved in (step, -step):
            values = self.values | {
                key: self.values[key] + moved * along[key] for key in along
            }
            x = self.x + moved * dx
            y = reference.network_forward(self.layers, values, x, True)[-1]
            ends.append((self.dy * y.reshape(self.dy.shape)).sum())
        expected = (ends[0] - ends[1]) / (2 * step)
        products = [self.expected[key] * along[key] for key in along] + [self.dx * dx]
        scale = math.sqrt(sum(np.square(each).sum() for each in products))
        assert abs(sum(each.sum() for each in products) - expected) < 1e-5 * scale


# ---- Consumers: each checks a case, or raises what it is refused with


def by_reference(case: Case) -> None:
    assert np.ptp(case.logits) > 0.1
    case.gradients.check_reference()


def planned(case: Case, layerwise: bool | None, images: int = 0) -> Any:
    shape = case.model.input_shape
    graph = lower(case.model.layers, shape, training=True)
    nodes = for_core(graph, input_gradient=True)
    return core.Network(nodes, shape, layerwise, images=images)


def by_core(case: Case, layerwise: bool | None) -> None:
    network, model = planned(case, layerwise), case.model
    logits = np.empty((IMAGES, case.classes), np.float32)
    network.forward(model.state_vector, case.images, model.stage.for_core(), logits, 1)
    case.expect(logits)


def by_gradients(case: Case, layerwise: bool) -> None:
    network = planned(case, layerwise)
    case.gradients.check(network)


def by_gradients_of_images(case: Case) -> None:
    """Each image alone, as batches of a few are trained on."""
    network = planned(case, False, images=IMAGES)
    case.gradients_of_images.check(network)


def by_curvature(case: Case) -> None:
    """The Gauss-Newton diagonal of some images, by the squares of derivatives."""
    images = case.images[:3]
    found = gauss_newton_diagonal(case.model, images, np.arange(len(images)))
    expected = {key: np.zeros(value.shape) for key, value in case.values.items()}
    for image in images:
        x = (image[np.newaxis] / 255 - 0.45) / 0.3
        squares_back(case.layers, case.values, x, 1 / len(images), expected)
    start = 0
    for key, value in case.model.parameters.items():
        part = found[start : start + value.size].reshape(value.shape)
        start += value.size
        most = expected[key].max()
        np.testing.assert_allclose(part, expected[key], rtol=2e-4, atol=FLOAT32 * most)


def squares_back(layers: Any, values: Any, x: Any, top: Any, found: Any) -> Any:
    """By x and, added to `found`, by the parameters: the sum over all numbers y of a
    layer's output of (dy / d.)^2 times the second derivative by y, layer by layer from
    the last one on. `top` has that of the outputs; a number weighs softmax's.

    x is one image. The loss is a function of a last layer's radial basis units whose
    second derivative is taken by what goes into them, as distances are not linear. In
    all kinds a parameter goes into each y once, so that this sum is the one over its
    connections.
    """
    if not layers:
        if not isinstance(top, float):
            return top
        p = np.exp(x - np.max(x))
        p /= p.sum()
        return top * p * (1 - p)
    (kind, options), *rest = layers
    y = reference.network_forward(layers[:1], values, x)[-1]
    if kind == "radial_basis" and not rest and isinstance(top, float):
        p, codes = np.exp(y - np.max(y)), values[f"{options['name']}.codes"]
        p /= p.sum()
        variance = p @ codes**2 - (p @ codes) ** 2
        return (top * 4 * variance).reshape(x.shape)
    h_y = squares_back(rest, values, y, top, found).reshape(y.shape)
    if kind == "dropout":
        return h_y
    if kind == "residual":
        branches = options["layers"], options["shortcut"]
        return sum(squares_back(each, values, x, h_y, found) for each in branches)
    h_x = np.zeros(x.shape)
    for at in np.ndindex(y.shape):
        dy, gradients = np.zeros(y.shape), {}
        dy[at] = 1
        dx = reference._backward(layers[:1], values, x, dy, gradients, {})
        h_x += h_y[at] * dx**2
        for key, gradient in gradients.items():
            found[key] += h_y[at] * gradient**2
    return h_x


def by_c_runtime(case: Case) -> None:
    logits = np.empty((IMAGES, case.classes), np.float32)
    case.model.predictor().predict_many(case.images, logits, None, 1)
    case.expect(logits)


def by_exported_c(case: Case) -> None:
    exported(case, int8=False)
    shares = np.exp(case.logits - case.logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    found = run_c(case, np.float32)
    np.testing.assert_allclose(found, shares, rtol=0, atol=FLOAT32)


def by_int8(case: Case) -> None:
    quantized = case.model.quantize(case.images)
    scores = quantized.scores(case.images)
    case.expect(scores * quantized.scale, INT8)
    layers, image = case.model.folded().layers, case.images[0]
    assert scores[0].tolist() == int8_reference.scores(layers, quantized, image)


def by_exported_int8_c(case: Case) -> None:
    exported(case, int8=True)
    expected = case.model.quantize(case.images).scores(case.images)
    np.testing.assert_array_equal(run_c(case, np.int32), expected)


def by_page(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case.model.export_page(f"{folder}/net.html")
        probabilities, logits = in_browser(case, folder)
    case.expect(logits)
    shares = np.exp(case.logits - case.logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, shares, rtol=0, atol=FLOAT32)


def by_int8_page(case: Case) -> None:
    quantized = case.model.quantize(case.images)
    with tempfile.TemporaryDirectory() as folder:
        quantized.export_page(f"{folder}/net.html")
        _, scores = in_browser(case, folder)
    np.testing.assert_array_equal(scores, quantized.scores(case.images))


def in_browser(case: Case, folder: str) -> tuple[Any, Any]:
    """What the page makes of the images: probabilities and scores, (N, classes)."""
    browser = case.fixture("browser")
    browser.get(Path(folder, "net.html").as_uri())
    images = case.images.reshape(IMAGES, -1).tolist()
    script = """return arguments[0].map((image) => {
        const run = lenet5c.forward(Uint8Array.from(image));
        return run.maps.slice(-2).map((map) => Array.from(map));
    });"""
    found = np.array(browser.execute_script(script, images))
    return found[:, 1], found[:, 0]


def by_onnx(case: Case) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        case.model.export_onnx(f"{folder}/net.onnx")
        session = onnxruntime.InferenceSession(f"{folder}/net.onnx")
    (logits,) = session.run(["logits"], {"images": case.images})
    case.expect(logits)


def by_onnx_in(case: Case) -> None:
    pytest.importorskip("onnx")
    with tempfile.TemporaryDirectory() as folder:
        case.model.export_onnx(f"{folder}/net.onnx")
        model = lenet5c.from_onnx(f"{folder}/net.onnx")
    case.expect(model.forward(case.images))


def by_torch_names(case: Case) -> None:
    """Weights by the names of nn.Sequential; a residual's branches are two of them."""
    model = Model(
        case.model.layers, input_shape=case.model.input_shape, classes=case.classes
    )
    tensors = {**case.model.parameters, **case.model.buffers}
    state: dict[str, Any] = {}
    for name, prefix in torch_names(case.model.layers):
        of_layer = {k: v for k, v in tensors.items() if k.rpartition(".")[0] == name}
        state |= {k.replace(name, prefix): v.copy() for k, v in of_layer.items()}
        if f"{prefix}.running_mean" in state:
            state[f"{prefix}.num_batches_tracked"] = np.array(7)
    lenet5c.from_torch_state_dict(model, state, mean=0.45, deviation=0.3)
    np.testing.assert_array_equal(model.state_vector, case.model.state_vector)
    case.expect(model.forward(case.images))


def torch_names(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A layer's name here, and there."""
    for number, layer in enumerate(layers):
        here = f"{prefix}{number}"
        if isinstance(layer, Residual):
            yield from torch_names(layer.layers, f"{here}.layers.")
            yield from torch_names(layer.shortcut, f"{here}.shortcut.")
        yield str(layer.name), here


def by_model_file(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case.model.save(f"{folder}/net.lenet5c")
        again = lenet5c.load(f"{folder}/net.lenet5c")
    assert again.layers == case.model.layers
    assert again.state_vector.tobytes() == case.model.state_vector.tobytes()
    case.expect(again.forward(case.images))


def by_summary(case: Case) -> None:
    lines = [line.split() for line in case.model.summary().splitlines()]
    for layer, _, (channels, height, width) in walk(
        case.model.layers, case.model.input_shape
    ):
        size = f"@{height}x{width}" if height * width > 1 else ""
        row = [layer.name, type(layer).__name__, f"{channels}{size}"]
        assert row in [line[:3] for line in lines]


class Consumer(NamedTuple):
    check: Callable[[Case], None]
    word: str  # what a refusal calls it, a pattern


CORE = "kernel|layerwise"
CONSUMERS = {
    "reference": Consumer(by_reference, "reference"),
    "core": Consumer(functools.partial(by_core, layerwise=None), CORE),
    "core, blockwise": Consumer(functools.partial(by_core, layerwise=False), CORE),
    "core, layerwise": Consumer(functools.partial(by_core, layerwise=True), CORE),
    "gradients, blockwise": Consumer(
        functools.partial(by_gradients, layerwise=False), CORE
    ),
    "gradients, layerwise": Consumer(
        functools.partial(by_gradients, layerwise=True), CORE
    ),
    "gradients, imagewise": Consumer(by_gradients_of_images, CORE),
    "curvature": Consumer(by_curvature, "SDLM"),
    "C runtime": Consumer(by_c_runtime, "C runtime"),
    "C": Consumer(by_exported_c, r"\bC\b"),
    "int8": Consumer(by_int8, "int8"),
    "int8 C": Consumer(by_exported_int8_c, "int8"),
    "page": Consumer(by_page, r"\bpages?\b"),
    "int8 page": Consumer(by_int8_page, "int8"),
    "ONNX out": Consumer(by_onnx, "ONNX"),
    "ONNX in": Consumer(by_onnx_in, "ONNX"),
    "PyTorch names": Consumer(by_torch_names, "state_dict"),
    "model file": Consumer(by_model_file, "lenet5c"),
    "summary": Consumer(by_summary, "summary"),
}


@functools.cache
def case_of(name: str) -> Case:
    return Case(name, *CASES[name])


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference_or_is_refused(
    name: str, consumer: str, request: pytest.FixtureRequest
) -> None:
    case = case_of(name)
    case.fixture = request.getfixturevalue
    if name in REFUSED.get(consumer, []):
        check_refusal(case, consumer)
    else:
        CONSUMERS[consumer].check(case)


def check_refusal(case: Case, consumer: str) -> None:
    """It names the kind, or the layer, and the consumer."""
    check, word = CONSUMERS[consumer]
    with pytest.raises((ValueError, TypeError)) as refusal:
        check(case)
    walked = walk(case.model.layers, case.model.input_shape)
    names = {str(each) for layer, *_ in walked for each in (layer.kind, layer.name)}
    assert re.search("|".join(names), str(refusal.value), re.IGNORECASE)
    assert re.search(word, str(refusal.value), re.IGNORECASE)


def test_every_kind_and_every_option_has_a_case() -> None:
    seen: dict[str, dict[str, set[Any]]] = {kind: {} for kind in LAYERS}
    for layers, shape in CASES.values():
        for layer, *_ in walk(layers, shape):
            for option, value in vars(layer).items():
                seen[layer.kind].setdefault(option, set()).add(value)
    for kind, layer_type in LAYERS.items():
        assert seen[kind], f"no case for the kind {kind}"
        for option in {each.name for each in fields(layer_type)} - NOT_COMPUTED_WITH:
            assert len(seen[kind][option]) > 1, f"one case alone: {kind}, {option}"


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_running_statistics_move_by_momentum(momentum: float) -> None:
    layers = [BatchNorm2d(momentum=momentum, name="norm"), Dense(3)]
    case = Case("momentum", layers, (2, 3, 4))
    x = case.rng.normal(size=case.images.shape).astype(np.float32)
    labels = case.model.classes[np.arange(IMAGES) % case.classes]
    case.model.train_step(x, labels, lenet5c.SGD(0.1))
    for part, batch in (
        ("mean", x.mean(axis=(0, 2, 3))),
        ("var", x.var(axis=(0, 2, 3), ddof=1)),
    ):
        before = case.values[f"norm.running_{part}"]
        expected = before + momentum * (batch - before)
        found = case.model.buffers[f"norm.running_{part}"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_table_of_refusals_has_names_of_the_others_alone() -> None:
    assert REFUSED.keys() <= CONSUMERS.keys()
    for cases in REFUSED.values():
        assert set(cases) <= CASES.keys()
        assert len(set(cases)) == len(cases)


# ---- Exported C: all cases in one library


def exported(case: Case, int8: bool, name: str = "net") -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.h")
        model = case.model.quantize(case.images) if int8 else case.model
        model.export_c(path, name=name)
        return path.read_text()


def c_name(case: str, numbers: Any) -> str:
    return f"net{[*CASES].index(case)}_{np.dtype(numbers).name}"


@functools.cache
def c_library() -> tuple[ctypes.CDLL, dict[str, str]]:
    """What all cases, in float32 and int8, are compiled into, and the headers."""
    if CC is None:
        pytest.skip("no C compiler")
    headers: dict[str, str] = {}
    for case in CASES:
        for numbers in (np.float32, np.int32):
            name = c_name(case, numbers)
            try:
                headers[name] = exported(case_of(case), numbers is np.int32, name)
            except (ValueError, TypeError):  # the case's own test tells
                continue
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "all.c"), Path(folder, "all.so")
        text = [
            f"#define {name.upper()}_IMPLEMENTATION\n{header}\n"
            for name, header in headers.items()
        ]
        source.write_text("".join(text))
        flags = ["-std=c99", "-O0", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        done = subprocess.run(
            [CC, *flags, str(source), "-o", str(library), "-lm"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[:3000]
        return ctypes.CDLL(str(library)), headers


def run_c(case: Case, numbers: Any) -> Any:
    """What the C code makes of the images, (N, classes)."""
    library, headers = c_library()
    name = c_name(case.name, numbers)
    found = re.search(r"_WORKSPACE_BYTES (\d+)", headers[name])
    assert found
    workspace = np.full(int(found[1]) // 4 + 1, np.nan, np.float32)
    results = np.empty((IMAGES, case.classes), numbers)
    for image, row in zip(case.images, results, strict=True):
        arrays = image, workspace, row
        library[f"{name}_predict"](*(ctypes.c_void_p(a.ctypes.data) for a in arrays))
    return results


# ---- A kind that nothing knows


@dataclass(frozen=True, kw_only=True)
class Cube(Layer):
    kind: ClassVar[str] = "cube"
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scale(Cube):
    kind: ClassVar[str] = "scale"

    def parameter_shapes(self, shape: Any) -> dict[str, tuple[int, ...]]:
        return {"weight": shape}


# These take what a layer says of itself, and compute nothing.
GENERIC = {"PyTorch names", "model file", "summary"}
# This one never sees a kind, but what is in a file.
FROM_A_FILE = {"ONNX in"}


@pytest.fixture
def cube(monkeypatch: pytest.MonkeyPatch) -> Case:
    """A network with a layer of that kind, which nothing has refused yet."""
    monkeypatch.setitem(LAYERS, Cube.kind, Cube)
    monkeypatch.setattr(Model, "_initialise", lambda *_: None)
    monkeypatch.setattr(Model, "_plan", lambda *_: (None, {}))
    return Case("cube", [Cube(), Dense(3)], (2, 3, 4))


@pytest.mark.parametrize("consumer", sorted(CONSUMERS.keys() - GENERIC - FROM_A_FILE))
def test_a_made_up_kind_is_refused(consumer: str, cube: Case) -> None:
    check_refusal(cube, consumer)


def test_no_model_has_a_made_up_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(layer: Layer, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            Model([layer, Dense(3)], input_shape=(2, 3, 4), classes=3)

    refused(Cube(), "no kernel .*'cube'")
    monkeypatch.setattr(Model, "_plan", lambda *_: (None, {}))
    refused(Scale(), "initial parameters .*'scale'")


def test_no_model_file_has_a_made_up_kind(
    cube: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cube.model.save(tmp_path / "net.lenet5c")
    monkeypatch.delitem(LAYERS, "cube")
    with pytest.raises(lenet5c.FileFormatError, match=r"expected a kind of .* 'cube'"):
        lenet5c.load(tmp_path / "net.lenet5c")


def test_an_operator_of_onnx_that_is_no_layer_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    case_of("relu: first").model.export_onnx(tmp_path / "net.onnx")
    network = onnx.load(tmp_path / "net.onnx")
    (node,) = (node for node in network.graph.node if node.op_type == "Relu")
    node.op_type = "Elu"
    onnx.save(network, tmp_path / "net.onnx")
    with pytest.raises(lenet5c.FileFormatError, match=r"\(Elu\)"):
        lenet5c.from_onnx(tmp_path / "net.onnx")


def test_a_made_up_step_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By all that is made of the steps of a network, not only where they are made."""
    case = case_of("relu: first")
    quantized = case.model.quantize(case.images)
    first, *rest = quantized.layers
    step = replace(first.step, kind="cube")
    quantized.layers = [replace(first, step=step), *rest]
    with pytest.raises(ValueError, match=r"int8.*'cube'"):
        quantized.scores(case.images)
    with pytest.raises(ValueError, match=r"C export.*'cube'"):
        quantized.export_c(tmp_path / "net.h")
    with pytest.raises(ValueError, match=r"page.*'cube'"):
        quantized.export_page(tmp_path / "net.html")
    for module in (export_c, export_page, quantize):
        monkeypatch.setattr(module, "steps_of", lambda *_: [step])
    with pytest.raises(ValueError, match=r"int8.*'cube'"):
        case.model.quantize(case.images)
    with pytest.raises(ValueError, match=r"C export.*'cube'"):
        case.model.export_c(tmp_path / "net.h")
    with pytest.raises(ValueError, match=r"page.*'cube'"):
        case.model.export_page(tmp_path / "net.html")
