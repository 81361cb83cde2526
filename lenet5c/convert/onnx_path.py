"""A path through an ONNX graph, and the layers that it is."""

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c.convert.onnx_values import (
    ARITHMETIC,
    ERRORS,
    Values,
    as_shape,
    describe,
    onnx_package,
    opset,
    options_of,
)
from lenet5c.convert.weights import EXACT_EPS, Numbers, affine, input_stage
from lenet5c.data.images import InputStage
from lenet5c.layers import LAYERS, BatchNorm2d, Conv2d, Flatten, Layer, Residual
from lenet5c.layers.base import Shape
from lenet5c.layers.listed import MAX_NESTED
from lenet5c.parameters import MAX_PARAMETERS

__all__ = ["Graph", "Path", "Stage"]

Array = NDArray[Any]

MAX_NODES = 10_000
NUMBERED = re.compile(rf"({'|'.join(LAYERS)})_\d+")  # as Model names layers


@dataclass
class Stage:
    """What a graph does with images before its first layer: x * scale + offset, of
    floats in files of lenet5c alone; then `pad` around it."""

    of_bytes: bool
    cast: bool = False
    scale: float = 1.0
    offset: float = 0.0
    pad: float | None = None
    of_255: bool = False  # floats from 0 to 255

    def input_stage(self) -> InputStage:
        """As a model has it; around smaller images is what the graph has, or black."""
        if not self.of_bytes:
            return InputStage.checked(0, 1 / 255 if self.of_255 else 1, self.pad)
        if not self.scale > 0:
            raise ValueError(
                f"expected bytes multiplied with a positive number, got {self.scale}"
            )
        deviation = 1 / (255 * self.scale)
        return InputStage.checked(-self.offset * deviation, deviation, self.pad)


class Graph:
    """What the paths through an ONNX graph have in common.

    `operators` are what a path does at a node of each sort, `hints` what to do instead.
    """

    def __init__(
        self,
        proto: Any,
        operators: Mapping[str, Callable[["Path", Any], None]],
        hints: Mapping[str, str],
    ) -> None:
        self.operators, self.hints = operators, hints
        graph = proto.graph
        if proto.functions or graph.sparse_initializer:
            raise ValueError("expected plain nodes and dense tensors alone")
        if len(graph.node) > MAX_NODES:
            raise ValueError(
                f"expected at most {MAX_NODES} nodes, got {len(graph.node)}"
            )
        self.own = proto.producer_name == "lenet5c"
        self.opset = opset(proto)
        self.values = Values(graph, self.opset)
        self.outputs = {output.name for output in graph.output}
        inputs = [
            value for value in graph.input if value.name not in self.values.tensors
        ]
        if len(inputs) != 1:
            names = [value.name for value in inputs]
            raise ValueError(
                f"expected one input, got {names!r:.200}; export it so that its "
                "images are the only one, and all else is constant"
            )
        self.input = inputs[0]
        # of the images; nodes are in an order in which they can be computed
        self.images = {self.input.name}
        needed = set(self.outputs)
        for node in graph.node:
            if node.op_type != "Shape" and not self.images.isdisjoint(node.input):
                self.images.update(node.output)
        for node in reversed(graph.node):
            if not needed.isdisjoint(node.output):
                needed.update(node.input)
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            if needed.isdisjoint(node.output) or node.op_type == "Shape":
                continue
            for name in dict.fromkeys(node.input):
                if name in self.images:
                    self.readers.setdefault(name, []).append(node)
        self.stage = Stage(False)
        self.of_distances: set[str] = set()  # what nodes that a layer took in make

    def meets(self, node: Any) -> bool:
        """Whether two paths meet in a node."""
        return sum(name in self.images for name in node.input) > 1

    def first_of_maps(self) -> tuple[str, Any]:
        """What first happens to whole maps: an operator and, of a Transpose, its order
        of axes."""
        nodes = self.readers.get(self.input.name, [])
        for _ in range(MAX_NODES):
            if len(nodes) != 1:
                break
            if nodes[0].op_type not in ("Cast", "Identity", *ARITHMETIC):
                return nodes[0].op_type, options_of(nodes[0]).get("perm")
            nodes = self.readers.get(nodes[0].output[0], [])
        return "", None


class Path:
    """A path through a graph, from the input or where it branches off, and the layers
    that it is.

    `shape` is the map between the layers, (C, H, W), and `dims` that of the tensor,
    without N. It has the same numbers in the same order, unless `turned` is a map (C,
    H, W): then they are in the order of (H, W, C).
    """

    def __init__(self, graph: Graph, shape: Shape | None) -> None:
        """Start at the graph's input."""
        self.graph = graph
        self.layers: list[Layer] = []
        self.parameters: list[dict[str, Array]] = []  # in the order of `walk`
        self.depth = 0
        self.ended = False  # by a Softmax
        self.affine: tuple[Array, Array] | None = None  # what the last layer is
        self.pads = [0, 0, 0, 0]  # top, left, bottom, right, for the next layer
        self.pad_value = 0.0
        self.turned: Shape | None = None
        types = onnx_package().TensorProto
        floats = (types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16)
        tensor_type = graph.input.type.tensor_type
        self.tensor = graph.input.name
        self.ends = {self.tensor}
        graph.stage = Stage(of_bytes=tensor_type.elem_type == types.UINT8)
        if tensor_type.elem_type not in (types.UINT8, *floats):
            raise ValueError(
                f"input {self.tensor!r}: expected uint8 or floats, got "
                f"{types.DataType.Name(tensor_type.elem_type)}"
            )
        sizes = [dim.dim_value or None for dim in tensor_type.shape.dim]
        known = sizes[1:] if None not in sizes[1:] else []
        first, order = graph.first_of_maps()
        last = (
            len(sizes) == 4
            and (
                order == [0, 3, 1, 2]
                or (shape is not None and known == [*shape[1:], shape[0]] != [*shape])
                # numbers in a row: which reading is taken is the same then
                or (first in ("Flatten", "Reshape") and known[2:] in ([1], [3]))
            )
        )
        if shape is None and len(known) == 3:
            shape = as_shape((known[2], *known[:2]) if last else tuple(known))
        elif shape is None and len(known) == 2:
            shape = as_shape((1, *known))
        if shape is None:
            raise ValueError(
                f"input {self.tensor!r}: expected the sizes (N, C, H, W), got {sizes}; "
                "input_shape=(C, H, W) says them where the file does not"
            )
        self.dims: tuple[int, ...] = {
            2: (math.prod(shape),),
            3: shape[1:],
            4: (*shape[1:], shape[0]) if last else shape,
        }.get(len(sizes), ())
        pairs = zip(sizes[1:], self.dims, strict=False)
        if math.prod(self.dims) != math.prod(shape) or any(
            size not in (None, dim) for size, dim in pairs
        ):
            raise ValueError(
                f"input {self.tensor!r}: expected sizes that fit input_shape={shape}, "
                f"got {sizes}"
            )
        self.batch = sizes[0]
        self.shape = self.input_shape = shape
        self.source = shape[1:]
        if last:
            self.turn(shape)
        self._say_dims()

    def to_the_end(self) -> None:
        """Go from node to node, and check that it is the end of the graph."""
        graph = self.graph
        if (node := self.follow()) is not None:
            raise ValueError(
                f"{describe(node)}: expected two paths from one tensor, got "
                f"{list(node.input)!r:.200}"
            )
        if not graph.outputs or not graph.outputs <= self.ends:
            raise ValueError(
                "expected no outputs but those at the end of the chain, "
                f"{sorted(self.ends)}, got {sorted(graph.outputs)}; export the network "
                "with its logits as the only output"
            )
        self.expect_no_pads()
        if self.dims[0] != math.prod(self.dims) or self.turned:
            raise ValueError(
                f"expected the output (N, classes), got {('N', *self.dims)}; pool and "
                "flatten the map at the end of the network"
            )

    def normalised(self, mean: Numbers, deviation: Numbers) -> InputStage:
        """The stage of bytes of a network whose input is floating; a layer is put in
        front if channels differ."""
        found = self.graph.stage
        if self.graph.own or found.of_bytes:
            raise ValueError(
                "mean, deviation: expected none, because the file says how images are "
                f"normalised, got {mean}, {deviation}"
            )
        stage, scale, offset = input_stage(
            mean, deviation, found.pad, self.input_shape[0]
        )
        if scale is not None and offset is not None:
            self.layers.insert(0, BatchNorm2d(eps=EXACT_EPS))
            self.parameters.insert(0, affine(scale, offset))
        return stage

    def follow(self) -> Any:
        """Go from node to node, to the end or to where another path comes in: that node
        is returned, and not taken."""
        while nodes := self.graph.readers.get(self.tensor, []):
            if len(nodes) == 1:
                if self.graph.meets(nodes[0]):
                    return nodes[0]
                self._take(nodes[0])
            else:
                self._branch(nodes)
        return None

    def _branch(self, nodes: list[Any]) -> None:
        """Follow the paths that begin at two nodes, to where they meet."""
        what = f"the paths from {self.tensor!r} to {', '.join(map(describe, nodes))}"
        if len(nodes) > 2:
            raise ValueError(f"{what:.300}: expected one or two, got {len(nodes)}")
        if self.depth == MAX_NESTED:
            raise ValueError(f"{what:.300}: expected {MAX_NESTED} levels at most")
        self.expect_no_pads()
        branches = {}
        for node in nodes:
            branch = copy.copy(self)
            branch.layers, branch.parameters = [], []
            branch.depth += 1
            branch.affine = None
            if not self.graph.meets(node):
                branch._take(node)
                node = branch.follow()
            branches[branch.tensor] = branch, node
        meetings = [node for _, node in branches.values()]
        node = meetings[0]
        if (
            len(branches) < 2
            or node is None
            or any(each is not node for each in meetings)
        ):
            raise ValueError(
                f"{what:.300}: expected them to meet in one Add; the outputs of a "
                "network are its logits alone, and branches are summed in pairs"
            )
        try:
            self._sum(node, *(branches[name][0] for name in node.input))
        except ERRORS as error:
            raise ValueError(f"{describe(node)}: {error}") from error

    def _sum(self, node: Any, main: "Path", shortcut: "Path") -> None:
        """Go on behind the sum of two branches."""
        if node.op_type != "Add":
            wanted = "Sum" if node.op_type in ARITHMETIC else node.op_type
            hint = self.graph.hints.get(wanted, "")
            raise ValueError(f"expected Add where two paths meet; {hint}".rstrip("; "))
        if not main.layers:
            main, shortcut = shortcut, main
        for branch in (main, shortcut):
            branch.expect_no_pads()
            if branch.ended:
                raise ValueError("expected nothing after a Softmax")
        if (main.dims, main.turned) != (shortcut.dims, shortcut.turned):
            raise ValueError(
                f"expected two maps of one shape, got {('N', *main.dims)} and "
                f"{('N', *shortcut.dims)}; nothing is broadcast"
            )
        self.parameters += [*main.parameters, *shortcut.parameters]
        self.add_layer(node, Residual(main.layers, shortcut.layers))
        self.dims, self.turned = main.dims, main.turned
        self._leave(node)

    def _take(self, node: Any) -> None:
        """Take one node over."""
        try:
            operator, known = node.op_type, self.graph.operators
            if node.domain not in ("", "ai.onnx") or operator not in known:
                hint = self.graph.hints.get(operator, "export the network without it")
                raise ValueError(f"{hint}; expected one of {', '.join(known)}")
            kept = operator in ("Identity", "Softmax", "LogSoftmax")
            if self.ended and not kept:
                raise ValueError("expected nothing after a Softmax")
            if operator not in ARITHMETIC and node.input[0] != self.tensor:
                raise ValueError(f"expected {self.tensor!r} as its first input")
            known[operator](self, node)
            self._leave(node, kept)
        except ERRORS as error:
            raise ValueError(f"{describe(node)}: {error}") from error

    def _leave(self, node: Any, kept: bool = False) -> None:
        """Go on behind a node; `kept` if its output is as good as its input."""
        self.tensor = node.output[0]
        self.ends = {*(self.ends if kept else ()), self.tensor}
        self._say_dims()

    def _say_dims(self) -> None:
        """Tell those that compute with shapes; padding is not in `dims`."""
        if not any(self.pads):
            self.graph.values.dims[self.tensor] = self.dims

    def add_layer(self, node: Any, layer: Layer, **parameters: Array) -> None:
        """Go through a layer. In a file of lenet5c it is called as the node, in others
        as its weight."""
        stage = self.graph.stage
        if stage.of_bytes and not stage.cast:
            raise ValueError("expected a cast of the bytes to floats before it")
        self.expect_no_pads()
        name = node.name
        if not self.graph.own:
            prefix, _, part = (node.input[1] if parameters else "").rpartition(".")
            name = prefix if part == "weight" and not NUMBERED.fullmatch(prefix) else ""
        if 1 <= len(name) <= 64:
            layer = replace(layer, name=name)  # type: ignore[type-var]
        shapes = layer.parameter_shapes(self.shape) | layer.buffer_shapes(self.shape)
        for part, shape in shapes.items():
            if parameters[part].shape != shape:
                raise ValueError(
                    f"expected the {part} {shape}, got {parameters[part].shape}"
                )
        self.shape = layer.output_shape(self.shape)
        if math.prod(self.shape) > MAX_PARAMETERS:
            raise ValueError("the map is larger than any machine could hold")
        self.layers.append(layer)
        self.parameters.append(parameters)
        self.affine = None

    def turn(self, shape: Shape) -> None:
        """Channels are last now, which only matters if there are several of several
        places."""
        several = shape[0] > 1 and shape[1:] != (1, 1)
        self.turned = shape if several else None

    def unturned(self, values: Array) -> Array:
        """Numbers of a flat tensor (..., features) in the order of channels first."""
        if self.turned is None:
            return values
        channels, height, width = self.turned
        maps = values.reshape(*values.shape[:-1], height, width, channels)
        return np.moveaxis(maps, -1, -3).reshape(values.shape)

    def is_map(self) -> bool:
        return self.dims == self.shape and not self.turned

    def is_turned_map(self) -> bool:
        return bool(self.turned) and self.dims == (*self.shape[1:], self.shape[0])

    def expect_map(self) -> None:
        if not self.is_map():
            raise ValueError(
                f"expected a map (N, C, H, W) of the shape {('N', *self.shape)}, got "
                f"{('N', *self.dims)}" + ", channels last" * bool(self.turned)
            )

    def expect_no_pads(self) -> None:
        if any(self.pads):
            raise ValueError(
                f"expected a Conv behind padding of {self.pad_value:g}, or a MaxPool "
                "where that is never the maximum, as after a Relu"
            )

    def add_bias(self, value: Array) -> None:
        """Add to what a convolution or a dense layer adds."""
        if isinstance(layer := self.layers[-1], Conv2d):
            self.layers[-1] = replace(layer, bias=True)
        before = self.parameters[-1].get("bias", 0)
        self.parameters[-1]["bias"] = before + self.of_channels(value)

    def of_channels(self, value: Array) -> NDArray[np.float64]:
        """A constant that is added to the tensor or multiplied with it: one number for
        each channel of the map."""
        channels = self.shape[0]
        if value.dtype.kind != "f":
            raise TypeError(f"expected floats, got {value.dtype}")
        if value.size == 1 and value.ndim <= len(self.dims) + 1:
            return np.full(channels, value.item(), np.float64)
        sizes = [1] * (len(self.dims) + 1)
        if self.is_turned_map():
            sizes[-1] = channels
        elif self.is_map() or self.dims == (channels,):
            sizes[1] = channels
        elif self.shape[1:] == (1, 1):
            sizes[1 + self.dims.index(channels)] = channels
        given = [1] * (len(sizes) - value.ndim) + list(value.shape)
        if given != sizes:
            raise ValueError(
                f"expected one number, or one for each of the {channels} channels, got "
                f"the shape {value.shape} for a tensor {('N', *self.dims)}"
            )
        flat = value.astype(np.float64).ravel()
        return self.unturned(flat) if len(self.dims) == 1 else flat

    def become(self, node: Any, dims: tuple[int, ...]) -> None:
        """Go on with a tensor of another shape: the same map, or a flat one."""
        self.expect_no_pads()
        flat = (math.prod(self.shape), 1, 1)
        is_layer = bool(node.name) if self.graph.own else self.shape != flat
        if (len(dims) == 1 and is_layer) or (dims == flat != self.shape):
            self.add_layer(node, Flatten())
        elif len(dims) == 3 and dims != self.shape:
            channels, *sides = self.shape
            wanted = [*sides, channels] if self.turned else [channels, *sides]
            if [dim for dim in dims if dim > 1] != [dim for dim in wanted if dim > 1]:
                raise ValueError(
                    f"expected a map {self.shape} or a flat one, got {dims}"
                )
        self.dims = dims
