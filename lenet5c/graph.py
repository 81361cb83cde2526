"""The one lowering of a list of layers: what is computed when, and from which maps.

A layer says what it is; a node of the graph says what it reads, what else is computed
with it and how long the map that it writes is needed. The core's planner, the 8-bit
integers and all exports walk these nodes. Map 0 is the input, map i + 1 is what node i
writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c.layers import (
    Activation,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    RadialBasis,
    Residual,
    layer_to_dict,
)
from lenet5c.layers.base import Shape

__all__ = ["Graph", "Node", "fold", "for_core", "lower", "scale_and_shift"]


@dataclass(frozen=True)
class Node:
    """One layer that computes something, with the activation after it if it takes one.

    Attributes
    ----------
    layer : Layer
        A `Residual` stands for the sum of its branches, whose nodes come before it.
    last : str
        Name of the last layer in it.
    input_shape, output_shape : (C, H, W)
        Of a sum, both are the shape of what is added.
    sources : tuple of int
        The maps that it reads, two for a sum.
    activation : Activation or None
    norm_follows : bool
        Whether it has weights, and only a batch normalisation reads its map.
    """

    layer: Layer
    last: str
    input_shape: Shape
    output_shape: Shape
    sources: tuple[int, ...]
    activation: Activation | None = None
    norm_follows: bool = False

    @property
    def kind(self) -> str:
        """Of the layer."""
        return self.layer.kind

    @property
    def name(self) -> str:
        """Of the layer, which its parameters have."""
        return str(self.layer.name)


class Graph(NamedTuple):
    """Nodes in the order in which they run.

    Attributes
    ----------
    nodes : list of Node
    maps : dict of str to (int, Shape)
        By the name of every layer, the map that it makes and the layer's output shape.
    """

    nodes: list[Node]
    maps: dict[str, tuple[int, Shape]]


def lower(
    layers: Sequence[Layer],
    input_shape: Shape,
    *,
    training: bool = False,
    fuse: bool = True,
    flatten: str = "never",
) -> Graph:
    """The graph of these layers.

    Parameters
    ----------
    layers : sequence of Layer
        With names.
    input_shape : (C, H, W)
    training : bool
        Whether dropout is a node; in prediction it does nothing.
    fuse : bool
        Whether an activation becomes part of the node before it.
    flatten : {"never", "reorders", "always"}
        Where `Flatten` is a node: nowhere, as where maps lie (C, H, W) in memory; where
        it changes the order of a map that lies (H, W, C); or everywhere.
    """
    lowering = _Lowering(training, fuse, flatten)
    lowering.branch(layers, input_shape, 0, inside=False)
    return Graph(lowering.nodes, lowering.maps)


class _Lowering:
    def __init__(self, training: bool, fuse: bool, flatten: str) -> None:
        self.training, self.fuse, self.flatten = training, fuse, flatten
        self.nodes: list[Node] = []
        self.maps: dict[str, tuple[int, Shape]] = {}

    def branch(
        self, layers: Sequence[Layer], shape: Shape, source: int, inside: bool
    ) -> int:
        """Append the nodes of layers that read map `source`; the map that they make.

        `inside` of a branch, whose map is added to another.
        """
        last = None  # the node whose map only the next layer reads
        for position, layer in enumerate(layers):
            after = layer.output_shape(shape)
            if isinstance(layer, Dropout) and not self.training:
                self.maps[str(layer.name)] = source, after
                continue
            if isinstance(layer, Flatten) and self._moves_nothing(
                layers[position + 1 :], inside
            ):
                self.maps[str(layer.name)] = source, after
                if self.flatten == "never":
                    shape = after
                continue
            if self._joins(layer, last):
                assert last is not None
                assert isinstance(layer, Activation)
                self.nodes[last] = replace(
                    self.nodes[last], last=str(layer.name), activation=layer
                )
            else:
                source = self._append(layer, shape, after, source, last)
                if not isinstance(layer, Flatten):
                    last = source - 1
            self.maps[str(layer.name)] = source, after
            shape = after
        return source

    def _append(
        self, layer: Layer, shape: Shape, after: Shape, source: int, last: int | None
    ) -> int:
        sources: tuple[int, ...] = (source,)
        if isinstance(layer, Residual):
            sources = tuple(
                self.branch(branch, shape, source, inside=True)
                for branch in (layer.layers, layer.shortcut)
            )
            shape = after
        elif isinstance(layer, BatchNorm2d) and last is not None:
            before = self.nodes[last]
            weighs = isinstance(before.layer, (Conv2d, Dense))
            if weighs and before.activation is None and before.output_shape == shape:
                self.nodes[last] = replace(before, norm_follows=True)
        self.nodes.append(Node(layer, str(layer.name), shape, after, sources))
        return len(self.nodes)

    def _joins(self, layer: Layer, last: int | None) -> bool:
        """Whether it is an activation that node number `last` takes in."""
        if not (self.fuse and isinstance(layer, Activation) and layer.joins):
            return False
        if last is None:
            return False
        node = self.nodes[last]
        return node.layer.takes_activation and node.activation is None

    def _moves_nothing(self, following: Sequence[Layer], inside: bool) -> bool:
        """Whether a `Flatten` before these layers is no node."""
        if self.flatten != "reorders":
            return self.flatten == "never"
        rest = (
            layer
            for layer in following
            if not isinstance(layer, (Activation, Flatten, Dropout))
        )
        reader = next(rest, None)
        return (
            not inside if reader is None else isinstance(reader, (Dense, RadialBasis))
        )


def fold(
    layers: Sequence[Layer], values: dict[str, NDArray[np.float32]], shape: Shape
) -> list[Layer]:
    """The layers without the batch normalisations that are right after a convolution or
    a dense layer, and without tables of connections; the weights and biases in `values`
    are replaced, computed in float64. `shape` is that of the input."""
    kept: list[Layer] = []
    for layer in layers:
        before_shape, shape = shape, layer.output_shape(shape)
        if isinstance(layer, Residual):
            layer = replace(
                layer,
                layers=fold(layer.layers, values, before_shape),
                shortcut=fold(layer.shortcut, values, before_shape),
            )
        elif isinstance(layer, Conv2d) and layer.connections is not None:
            name = f"{layer.name}.weight"
            values[name] = layer.with_zeros(values[name], before_shape[0])
            layer = replace(layer, connections=None)
        last = kept[-1] if kept else None
        if not isinstance(layer, BatchNorm2d) or not isinstance(last, (Conv2d, Dense)):
            kept.append(layer)
            continue
        bias = values.get(f"{last.name}.bias", 0.0)
        scale, shift = scale_and_shift(values, str(layer.name), layer.eps, bias)
        kernel = values[f"{last.name}.weight"]
        by_filter = scale.reshape(-1, *[1] * (kernel.ndim - 1))
        values[f"{last.name}.weight"] = (kernel * by_filter).astype(np.float32)
        values[f"{last.name}.bias"] = shift.astype(np.float32)
        if isinstance(last, Conv2d):
            kept[-1] = replace(last, bias=True)
    return kept


def scale_and_shift(
    values: Mapping[str, NDArray[np.float32]],
    name: str,
    eps: float,
    before: NDArray[np.float32] | float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a batch normalisation multiplies with and adds in prediction, (C,) each,
    where `before` was added to its input."""
    weight, bias, mean, variance = (
        values[f"{name}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + eps)
    return scale, (before - mean) * scale + bias


def for_core(graph: Graph, input_gradient: bool = False) -> list[dict[str, Any]]:
    """The nodes as the core wants them: core/places.py says what they hold.

    `input_gradient` tells whether the gradient of the images will be asked for.
    """
    needed = [input_gradient]
    below: list[str | None] = [None]
    nodes: list[dict[str, Any]] = []
    for node in graph.nodes:
        source, other = (*node.sources, -1)[:2]
        activation = None if node.activation is None else node.activation.kind
        two = other >= 0
        nodes.append(
            layer_to_dict(node.layer)
            | {
                "input_shape": node.input_shape,
                "output_shape": node.output_shape,
                "source": source,
                "other": other,
                "activation": activation,
                "below": below[source],
                "below_other": below[other] if two else None,
                "needs_dx": needed[source],
                "needs_other": two and needed[other],
                "folds": node.norm_follows,
            }
        )
        below.append(activation)
        has_parameters = bool(node.layer.parameter_shapes(node.input_shape))
        needed.append(has_parameters or any(needed[s] for s in node.sources))
    written: set[int] = set()
    for values in reversed(nodes):
        for read, adds in (("source", "adds"), ("other", "adds_other")):
            values[adds] = values[read] in written
            if values[read] >= 0:
                written.add(values[read])
    return nodes
