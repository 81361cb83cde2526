"""What integers and C code compute in one go, from the nodes of the graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lenet5c.graph import Node, lower, scale_and_shift
from lenet5c.layers import BatchNorm2d, Layer, LeakyReLU
from lenet5c.layers.base import Shape

__all__ = ["Step", "of_channels", "steps_of"]

# By the kind of a layer, what its step is called.
KINDS = {
    "conv2d": "conv",
    "dense": "conv",  # whose kernel covers its input
    "radial_basis": "radial_basis",
    "batch_norm2d": "scale",
    "residual": "add",
    "avg_pool2d": "avg_pool",
    "subsampling2d": "subsample",
    "global_avg_pool2d": "avg_pool",  # whose window covers its input
    "max_pool2d": "max_pool",
    "tanh": "tanh",
    "scaled_tanh": "tanh_scaled",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "leaky_relu": "leaky",
    "flatten": "flatten",
}


@dataclass(frozen=True)
class Step:
    """What is computed in one go: a layer, with the activation after it if it has one.

    A dense layer is a convolution whose kernel covers its input, and global average
    pooling has a window that does. Dropout is no step, and `Flatten` is one only where
    it changes what the layers after it do.

    Attributes
    ----------
    kind : {"conv", "radial_basis", "scale", "add", "avg_pool", "subsample", \
            "max_pool", "tanh", "tanh_scaled", "relu", "sigmoid", "leaky", "flatten"}
        A batch normalisation is a scale, the end of a `Residual` an addition.
    name : str
        Of the layer that has the parameters.
    last : str
        Name of the last layer in it: its activations are the output of the step.
    input_shape, output_shape : (C, H, W)
    kernel : (KH, KW)
    stride, padding : int
    activation : {"tanh", "tanh_scaled", "relu", "sigmoid"} or None
        Of a convolution, a scale, a subsampling or an addition.
    sources : tuple of int
        The maps that it reads, two for an addition: 0 is the input, i + 1 the output of
        step i.
    eps : float
        Of a batch normalisation.
    slope : float
        Of a leaky ReLU.
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
    sources: tuple[int, ...] = (0,)
    eps: float = 0.0
    slope: float = 0.0


def of_channels(
    step: Step, values: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a scale, or a subsampling, multiplies with and adds in each channel."""
    if step.kind == "scale":
        return scale_and_shift(values, step.name, step.eps)
    weight, bias = (values[f"{step.name}.{part}"] for part in ("weight", "bias"))
    return weight.astype(np.float64), bias.astype(np.float64)


def steps_of(layers: Sequence[Layer], input_shape: Shape) -> list[Step]:
    """The steps of these layers, in their order."""
    return [
        _step(node) for node in lower(layers, input_shape, flatten="reorders").nodes
    ]


def _step(node: Node) -> Step:
    for layer in filter(None, (node.layer, node.activation)):
        if layer.kind not in KINDS:
            raise ValueError(
                f"{layer.name}: expected a layer that C code, pages and int8 have, got "
                f"the kind {layer.kind!r}"
            )
    return Step(
        KINDS[node.kind],
        node.name,
        node.last,
        node.input_shape,
        node.output_shape,
        *node.layer.window(node.input_shape),
        activation=None if node.activation is None else KINDS[node.activation.kind],
        sources=node.sources,
        eps=node.layer.eps if isinstance(node.layer, BatchNorm2d) else 0.0,
        slope=node.layer.slope if isinstance(node.layer, LeakyReLU) else 0.0,
    )
