"""Networks in 8-bit integers, from trained ones: docs/int8.md defines every bit.

    N      images
    C F    channels of a map, of the map after it
    H W    rows and columns of a map
    KH KW  rows and columns of a kernel
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.images import as_images, encode_labels
from lenet5c.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2d,
    ReLU,
    Shape,
    Tanh,
)

if TYPE_CHECKING:
    from lenet5c.model import Model

__all__ = [
    "LayerError",
    "QuantizationReport",
    "QuantizedLayer",
    "QuantizedModel",
    "Step",
    "quantize",
    "steps_of",
]

MOST = 127  # of an int8; -128 is not used
MOST_SUM = 1 << 30  # of a bias, and of the products that are added to it
MOST_SHIFT = 62
LEAST_WEIGHT_SCALE = 2.0**-16  # of the largest one in the layer
TANH_ONE = 256  # the argument 1.0 in the table of tanh
TANH_TABLE = np.rint(MOST * np.tanh(np.arange(800) / TANH_ONE)).astype(np.int8)
EXACT_IN_FLOAT32 = 1 << 24
CHUNK = 1 << 22  # numbers of the largest matrix that is made of the images at a time


@dataclass(frozen=True)
class Step:
    """What is computed in one go: a layer, with the activation after it if it has one.

    A dense layer is a convolution whose kernel covers its input. Dropout is no step, and
    `Flatten` is one only where the order of the numbers matters.

    Attributes
    ----------
    kind : {"conv", "avg_pool", "max_pool", "tanh", "relu", "flatten"}
    name : str
        Of the layer that has the parameters.
    last : str
        Name of the last layer in it: its activations are the output of the step.
    input_shape, output_shape : (C, H, W)
    kernel : (KH, KW)
    stride, padding : int
    activation : {"tanh", "relu"} or None
        Of a convolution.
    """

    kind: str
    name: str
    last: str
    input_shape: Shape
    output_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    activation: str | None = None


def steps_of(model: "Model") -> list[Step]:
    """The steps of a model's layers, in their order."""
    steps: list[Step] = []
    shape = model.input_shape
    for position, layer in enumerate(model.layers):
        if isinstance(layer, Dropout):
            continue
        if isinstance(layer, Flatten) and (
            shape[0] == 1 or _dense_is_next(model.layers[position + 1 :])
        ):
            if shape[0] == 1 and not _dense_is_next(model.layers[position + 1 :]):
                shape = layer.output_shape(shape)
            continue
        activation = {Tanh: "tanh", ReLU: "relu"}.get(type(layer))
        if activation and steps and steps[-1].kind == "conv" and not steps[-1].activation:
            steps[-1] = replace(steps[-1], last=str(layer.name), activation=activation)
            continue
        after = layer.output_shape(shape)
        step = Step(layer.kind, str(layer.name), str(layer.name), shape, after)
        if isinstance(layer, Conv2d):
            step = replace(
                step,
                kind="conv",
                kernel=layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
            )
        elif isinstance(layer, Dense):
            step = replace(step, kind="conv", kernel=shape[1:])
        elif isinstance(layer, (AvgPool2d, MaxPool2d)):
            assert layer.stride is not None
            size = layer.kernel_size
            kind = "avg_pool" if isinstance(layer, AvgPool2d) else "max_pool"
            step = replace(step, kind=kind, kernel=(size, size), stride=layer.stride)
        steps.append(step)
        shape = after
    return steps
