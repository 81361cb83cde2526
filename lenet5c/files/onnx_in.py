"""Networks from ONNX files.

What a file says is taken over exactly or refused. To read another activation, add a
line to `ACTIVATIONS`; for another operator, a method and a line to `OPERATORS`.
"""

import copy
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c.checks import whole
from lenet5c.files.onnx_values import (
    ARITHMETIC,
    BATCH,
    Values,
    content,
    describe,
    onnx_package,
    opset,
    options_of,
    parsed,
)
from lenet5c.files.weights import EXACT_EPS, Numbers, affine, input_stage, to_float32
from lenet5c.habits import explained
from lenet5c.images import InputStage
from lenet5c.layers import (
    LAYERS,
    MOST_NESTED,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    MaxPool2d,
    ReLU,
    Residual,
    Shape,
    Tanh,
    walk,
)
from lenet5c.model import MOST_PARAMETERS, Model, check_classes
from lenet5c.storage import FileFormatError, fields, parse_json

__all__ = ["from_onnx"]

Array = NDArray[Any]
Options = Mapping[str, Any]

MOST_NODES = 10_000
LOWEST = -1e30  # no value of a map is as low
NUMBERED = re.compile(rf"({'|'.join(LAYERS)})_\d+")  # as Model names layers
# what a file that is no network of ours may lead to
ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError)
# A float input that is multiplied with less than this before the first layer has pixels
# from 0 to 255, as after Keras's Rescaling(1 / 255): bytes are taken as they are.
LEAST_SCALE_OF_SHARES = 1 / 16

# Element by element: the layer of an operator with these attributes.
ACTIVATIONS: dict[str, Callable[[Options], Layer]] = {
    "Relu": lambda _: ReLU(),
    "Tanh": lambda _: Tanh(),
}

# What to do where an operator is not read.
_ACTIVATE = "train with the activations that lenet5c has"
_NO_PROBABILITY = "export the network without what follows its logits"
HINTS = {
    **dict.fromkeys(
        (
            *("Elu", "Celu", "Selu", "PRelu", "LeakyRelu", "ThresholdedRelu", "Mish"),
            *("Gelu", "Erf", "HardSigmoid", "HardSwish", "Softplus", "Softsign"),
        ),
        _ACTIVATE,
    ),
    "Sigmoid": f"at the end {_NO_PROBABILITY}; elsewhere {_ACTIVATE}",
    **dict.fromkeys(("ArgMax", "TopK", "NonMaxSuppression"), _NO_PROBABILITY),
    **dict.fromkeys(
        ("LRN", "LayerNormalization", "InstanceNormalization", "GroupNormalization"),
        "of normalisations there is that of the batch",
    ),
    **dict.fromkeys(
        ("Resize", "Upsample", "ConvTranspose", "MaxUnpool"),
        "there is no layer whose output is larger than its input",
    ),
    **dict.fromkeys(
        ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"),
        "export the network in float32; Model.quantize makes it integers",
    ),
    **dict.fromkeys(
        ("Concat", "Split", "Slice", "Gather", "Sum", "Mean", "Max", "Min"),
        "of branches there is the sum of two, by Add",
    ),
    **dict.fromkeys(
        ("RNN", "LSTM", "GRU", "Attention", "Einsum"), "networks are of images"
    ),
}


@explained
def from_onnx(
    path: str | os.PathLike[str],
    *,
    input_shape: Shape | None = None,
    mean: Numbers | None = None,
    deviation: Numbers | None = None,
) -> Model:
    """Read a network of layers that lenet5c has from an ONNX file.

    The graph has to be a chain of layers, in which two branches of one tensor may meet
    in an Add. docs/onnx.md lists the operators and what is expected of them. Maps may
    be channels first, as PyTorch exports them, or turned as in exports of Keras
    networks. A Softmax or LogSoftmax at the end is left out. Opset 9 or newer.

    Parameters
    ----------
    path : str or path-like
        Tensors may be in other files of the same folder.
    input_shape : (int, int, int) or None
        Channels, rows and columns of the file's input, where it does not say them.
    mean, deviation : float, sequence of float or None
        For a network whose input is floating: how uint8 images, which the model takes
        as well, are normalised, (b / 255 - mean) / deviation. None: 0 and 1. If
        channels differ, a `BatchNorm2d` in front does it, and floating images are
        shares of 255 too.

    Returns
    -------
    Model
        With the labels 0 to classes - 1, or those that `Model.export_onnx` wrote.

    Raises
    ------
    FileFormatError
        If the file is damaged, or has something that a Model cannot express: which node
        that is, what was expected, and what to do.
    ImportError
        If the onnx package is missing.
    OSError
        If it cannot be read.
    """
    given = None
    if mean is not None or deviation is not None:
        given = (0 if mean is None else mean, 1 if deviation is None else deviation)
        input_stage(*given, None, max(map(np.size, given)))
    shape = None if input_shape is None else _shape(input_shape)
    name = os.fspath(path)
    with open(name, "rb") as file:
        read = content(file, name)
    try:
        return _model(parsed(read, name), shape, given)
    except ERRORS as error:
        raise FileFormatError(f"{name}: {error}") from error


def _model(
    proto: Any, input_shape: Shape | None, given: tuple[Numbers, Numbers] | None
) -> Model:
    """The network of an ONNX model."""
    graph = _Graph(proto)
    path = _Path(graph, input_shape)
    path.to_the_end()
    found = graph.stage
    stage, fitted, classes = found.input_stage(), True, None
    if graph.own:
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        stage, classes, fitted = _own_metadata(metadata, found)
    if given is not None:
        stage = path.normalised(*given)
    model = Model(
        _named(path.layers, _names_of(path.layers)),
        input_shape=path.input_shape,
        classes=math.prod(path.shape),
    )
    if classes is None:
        classes = model.classes
    elif len(classes) != model.class_count:
        raise ValueError(
            f"classes: expected {model.class_count} labels, got {len(classes)}"
        )
    tensors = {**model.parameters, **model.buffers}
    walked = walk(model.layers, model.input_shape)
    for (layer, *_), values in zip(walked, path.parameters, strict=True):
        for part, value in values.items():
            tensors[f"{layer.name}.{part}"][...] = value
    if not np.isfinite(model.state_vector).all():
        raise ValueError("expected finite weights, got a NaN or infinity")
    model.set_input(stage, path.source, classes)
    model.fitted = fitted
    return model


def _own_metadata(
    metadata: Mapping[str, str], found: "_Stage"
) -> tuple[InputStage, Array, bool]:
    """The input stage, the classes and `fitted` of a file that lenet5c wrote."""
    *values, fitted = fields(
        "input_stage",
        parse_json("input_stage", metadata.get("input_stage", "")),
        *("mean", "deviation", "background", "pixels", "fitted"),
    )
    if not isinstance(fitted, bool):
        raise ValueError(f"fitted: expected true or false, got {fitted!r:.80}")
    stage = InputStage.checked(*values)
    *of_bytes, background, scale, offset = np.array(
        stage.for_core(), np.float32
    ).tolist()
    wanted = of_bytes if found.of_bytes else [scale, offset]
    if wanted != [found.scale, found.offset] or (
        found.pad is not None and background != found.pad
    ):
        raise ValueError(f"input_stage: expected what the graph does, got {stage}")
    classes = check_classes(parse_json("classes", metadata.get("classes", "")))
    return stage, classes, fitted


@dataclass
class _Stage:
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


class _Graph:
    """What the paths through an ONNX graph have in common."""

    def __init__(self, proto: Any) -> None:
        graph = proto.graph
        if proto.functions or graph.sparse_initializer:
            raise ValueError("expected plain nodes and dense tensors alone")
        if len(graph.node) > MOST_NODES:
            raise ValueError(
                f"expected at most {MOST_NODES} nodes, got {len(graph.node)}"
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
            raise ValueError(f"expected one input, got {names!r:.200}")
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
        self.stage = _Stage(False)

    def meets(self, node: Any) -> bool:
        """Whether two paths meet in a node."""
        return sum(name in self.images for name in node.input) > 1

    def first_turned(self) -> bool:
        """Whether the first thing that happens to maps is that channels last become
        channels first."""
        tensor = self.input.name
        for _ in range(MOST_NODES):
            nodes = self.readers.get(tensor, [])
            if len(nodes) != 1:
                return False
            if nodes[0].op_type == "Transpose":
                return bool(options_of(nodes[0]).get("perm") == [0, 3, 1, 2])
            if nodes[0].op_type not in ("Cast", "Identity", *ARITHMETIC):
                return False
            tensor = nodes[0].output[0]
        return False


class _Path:
    """A path through a graph, from the input or where it branches off, and the layers
    that it is.

    `shape` is the map between the layers, (C, H, W), and `dims` that of the tensor,
    without N. It has the same numbers in the same order, unless `turned` is a map (C,
    H, W): then they are in the order of (H, W, C).
    """

    def __init__(self, graph: _Graph, shape: Shape | None) -> None:
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
        graph.stage = _Stage(of_bytes=tensor_type.elem_type == types.UINT8)
        if tensor_type.elem_type not in (types.UINT8, *floats):
            raise ValueError(
                f"input {self.tensor!r}: expected uint8 or floats, got "
                f"{types.DataType.Name(tensor_type.elem_type)}"
            )
        sizes = [dim.dim_value or None for dim in tensor_type.shape.dim]
        known = sizes[1:] if None not in sizes[1:] else []
        last = len(sizes) == 4 and (
            graph.first_turned()
            or (shape is not None and known == [*shape[1:], shape[0]] != [*shape])
            or (known[2:] == [1] != known[:1])
        )
        if shape is None and len(known) == 3:
            shape = _shape((known[2], *known[:2]) if last else tuple(known))
        elif shape is None and len(known) == 2:
            shape = _shape((1, *known))
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
            self._turn(shape)
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
        self._expect_no_pads()
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
        if self.depth == MOST_NESTED:
            raise ValueError(f"{what:.300}: expected {MOST_NESTED} levels at most")
        self._expect_no_pads()
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

    def _sum(self, node: Any, main: "_Path", shortcut: "_Path") -> None:
        """Go on behind the sum of two branches."""
        if node.op_type != "Add":
            hint = HINTS.get("Sum" if node.op_type in ARITHMETIC else node.op_type, "")
            raise ValueError(f"expected Add where two paths meet; {hint}".rstrip("; "))
        if not main.layers:
            main, shortcut = shortcut, main
        for branch in (main, shortcut):
            branch._expect_no_pads()
            if branch.ended:
                raise ValueError("expected nothing after a Softmax")
        if (main.dims, main.turned) != (shortcut.dims, shortcut.turned):
            raise ValueError(
                f"expected two maps of one shape, got {('N', *main.dims)} and "
                f"{('N', *shortcut.dims)}; nothing is broadcast"
            )
        self.parameters += [*main.parameters, *shortcut.parameters]
        self._layer(node, Residual(main.layers, shortcut.layers))
        self.dims, self.turned = main.dims, main.turned
        self._leave(node)

    def _take(self, node: Any) -> None:
        """Take one node over."""
        try:
            operator = node.op_type
            if node.domain not in ("", "ai.onnx") or operator not in OPERATORS:
                hint = HINTS.get(operator, "export the network without it")
                raise ValueError(
                    f"expected one of {', '.join(OPERATORS)}, got {operator}; {hint}"
                )
            kept = operator in ("Identity", "Softmax", "LogSoftmax")
            if self.ended and not kept:
                raise ValueError("expected nothing after a Softmax")
            if operator not in ARITHMETIC and node.input[0] != self.tensor:
                raise ValueError(f"expected {self.tensor!r} as its first input")
            OPERATORS[operator](self, node)
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

    def _layer(self, node: Any, layer: Layer, **parameters: Array) -> None:
        """Go through a layer. In a file of lenet5c it is called as the node, in others
        as its weight."""
        stage = self.graph.stage
        if stage.of_bytes and not stage.cast:
            raise ValueError("expected a cast of the bytes to floats before it")
        self._expect_no_pads()
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
        if math.prod(self.shape) > MOST_PARAMETERS:
            raise ValueError("the map is larger than any machine could hold")
        self.layers.append(layer)
        self.parameters.append(parameters)
        self.affine = None

    def _turn(self, shape: Shape) -> None:
        """Channels are last now, which only matters if there are several of several
        places."""
        several = shape[0] > 1 and shape[1:] != (1, 1)
        self.turned = shape if several else None

    def _unturned(self, values: Array) -> Array:
        """Numbers of a flat tensor (..., features) in the order of channels first."""
        if self.turned is None:
            return values
        channels, height, width = self.turned
        maps = values.reshape(*values.shape[:-1], height, width, channels)
        return np.moveaxis(maps, -1, -3).reshape(values.shape)

    def _is_map(self) -> bool:
        return self.dims == self.shape and not self.turned

    def _is_turned_map(self) -> bool:
        return bool(self.turned) and self.dims == (*self.shape[1:], self.shape[0])

    def _expect_map(self) -> None:
        if not self._is_map():
            raise ValueError(
                f"expected a map (N, C, H, W) of the shape {('N', *self.shape)}, got "
                f"{('N', *self.dims)}" + ", channels last" * bool(self.turned)
            )

    def _expect_no_pads(self) -> None:
        if any(self.pads):
            raise ValueError(
                f"expected a Conv behind padding of {self.pad_value:g}, or a MaxPool "
                "where that is never the maximum, as after a Relu"
            )

    def _conv(self, node: Any) -> None:
        self._expect_map()
        options = options_of(node)
        weight = to_float32("weight", self.graph.values[node.input[1]])
        if weight.ndim != 4:
            raise ValueError(f"expected a weight (F, C, KH, KW), got {weight.shape}")
        filters, channels, *kernel = weight.shape
        groups = options.get("group", 1)
        if groups < 1 or channels * groups != self.shape[0] or filters % groups:
            raise ValueError(
                f"expected weights of {self.shape[0]} channels in groups, got {groups} "
                f"of {channels} channels for {filters} filters"
            )
        _expect("kernel_shape", options.get("kernel_shape", kernel), kernel)
        dilations = options.get("dilations", [1, 1])
        stride = _one("strides", options.get("strides", [1, 1]))
        sizes = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = self._all_pads(options, sizes, stride)
        if self.pad_value != 0:
            self._expect_no_pads()
        self.pads, self.pad_value = [0, 0, 0, 0], 0.0
        weight = _spread(weight, groups, dilations, pads)
        parameters = {"weight": weight}
        if has_bias := len(node.input) > 2 and node.input[2] != "":
            parameters["bias"] = to_float32("bias", self.graph.values[node.input[2]])
        layer = Conv2d(
            *(filters, weight.shape[2:]),
            stride=stride,
            padding=max(pads),
            bias=has_bias,
        )
        self._layer(node, layer, **parameters)
        self.dims = self.shape

    def _all_pads(self, options: Options, sizes: list[int], stride: int) -> list[int]:
        """Zeros above, left, below and right of a map, for windows of these sizes."""
        automatic = options.get("auto_pad", b"NOTSET")
        pads = list(options.get("pads", [0, 0, 0, 0]))
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            less, more = [], []
            for axis, size in enumerate(sizes):
                side = self.shape[axis + 1] + self.pads[axis] + self.pads[axis + 2]
                total = max((-(-side // stride) - 1) * stride + size - side, 0)
                less.append(total // 2)
                more.append(total - total // 2)
            pads = [*less, *more] if automatic == b"SAME_UPPER" else [*more, *less]
        elif automatic == b"VALID":
            pads = [0, 0, 0, 0]
        elif automatic != b"NOTSET":
            raise ValueError(f"auto_pad: expected a known one, got {automatic!r}")
        if len(pads) != 4 or min(pads) < 0:
            raise ValueError(f"pads: expected 4 numbers from 0 on, got {pads}")
        return [one + other for one, other in zip(pads, self.pads, strict=True)]

    def _gemm(self, node: Any) -> None:
        options = options_of(node)
        values = self.graph.values
        if options.get("transA", 0):
            raise ValueError("transA: expected 0, since images are rows, got 1")
        weight = to_float32("weight", values[node.input[1]])
        weight = weight * np.float32(options.get("alpha", 1.0))
        self._dense(node, weight if options.get("transB", 0) else weight.T)
        if len(node.input) > 2 and node.input[2]:
            bias = to_float32("bias", values[node.input[2]])
            self._bias(bias * np.float32(options.get("beta", 1.0)))

    def _matmul(self, node: Any) -> None:
        weight = to_float32("weight", self.graph.values[node.input[1]])
        self._dense(node, weight.T)

    def _dense(self, node: Any, weight: Array) -> None:
        if len(self.dims) != 1 or weight.ndim != 2:
            raise ValueError(
                f"expected (N, features) and a matrix, got {('N', *self.dims)} and "
                f"{weight.shape}; flatten the map before it"
            )
        if weight.shape[1] == self.dims[0]:
            weight = self._unturned(weight)
        bias = np.zeros(len(weight), np.float32)
        self._layer(node, Dense(len(weight)), weight=weight, bias=bias)
        self.dims, self.turned = self.shape[:1], None

    def _bias(self, value: Array) -> None:
        """Add to what a convolution or a dense layer adds."""
        if isinstance(layer := self.layers[-1], Conv2d):
            self.layers[-1] = replace(layer, bias=True)
        before = self.parameters[-1].get("bias", 0)
        self.parameters[-1]["bias"] = before + self._of_channels(value)

    def _of_channels(self, value: Array) -> NDArray[np.float64]:
        """A constant that is added to the tensor or multiplied with it: one number for
        each channel of the map."""
        channels = self.shape[0]
        if value.dtype.kind != "f":
            raise TypeError(f"expected floats, got {value.dtype}")
        if value.size == 1 and value.ndim <= len(self.dims) + 1:
            return np.full(channels, value.item(), np.float64)
        sizes = [1] * (len(self.dims) + 1)
        if self._is_turned_map():
            sizes[-1] = channels
        elif self._is_map() or self.dims == (channels,):
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
        return self._unturned(flat) if len(self.dims) == 1 else flat

    def _batch_norm(self, node: Any) -> None:
        options = options_of(node)
        if options.get("training_mode", 0):
            raise ValueError("training_mode: expected 0; export after network.eval()")
        if self.dims[0] != self.shape[0] or (self.turned and len(self.dims) > 1):
            raise ValueError(
                f"expected a map (N, C, H, W) or (N, C), got {('N', *self.dims)}"
            )
        layer = BatchNorm2d(
            momentum=float(f"{1 - options.get('momentum', 0.9):.6g}"),
            eps=float(f"{options.get('epsilon', 1e-5):.7g}"),
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        parameters = {
            part: to_float32(part, self.graph.values[name])
            for part, name in zip(parts, node.input[1:5], strict=True)
        }
        if (parameters["running_var"] < 0).any():
            raise ValueError("expected no negative variance")
        if all(value.shape == self.shape[:1] for value in parameters.values()):
            parameters = {part: self._unturned(v) for part, v in parameters.items()}
        self._layer(node, layer, **parameters)

    def _pool(self, node: Any) -> None:
        self._expect_map()
        options = options_of(node)
        sizes = options["kernel_shape"]
        is_max = node.op_type == "MaxPool"
        if not is_max and tuple(sizes) == self.shape[1:] != (1, 1):
            sides = self.shape[1:]
            if sides[0] != sides[1] and not any(options.get("pads", [])):
                self._global_pool(node)
                return
        size = _one("kernel_shape", sizes, "pooling windows are square")
        stride = _one("strides", options.get("strides", [1, 1]))
        _expect("dilations", options.get("dilations", [1, 1]), [1, 1])
        pads = self._all_pads(options, [size, size], stride)
        sides = (self.shape[1] + pads[0] + pads[2], self.shape[2] + pads[1] + pads[3])
        if options.get("ceil_mode", 0) and any((n - size) % stride for n in sides):
            raise ValueError(
                "expected ceil_mode 0, got 1 and windows that stick out; train with "
                "ceil_mode=False, or with images of a size that windows cover"
            )
        if is_max:
            padding = _one("pads", pads, "padding is the same on all sides")
            relu = bool(self.layers) and isinstance(self.layers[-1], ReLU)
            if self.pad_value > (0 if relu else LOWEST):
                self._expect_no_pads()
            self.pads, self.pad_value = [0, 0, 0, 0], 0.0
            self._layer(node, MaxPool2d(size, stride, padding))
        else:
            if any(pads):
                raise ValueError(
                    f"pads: expected {[0] * 4}, got {pads}; average pooling has no "
                    "padding: train without it, or with maximum pooling"
                )
            self._layer(node, AvgPool2d(size, stride))
        self.dims = self.shape

    def _global_pool(self, node: Any) -> None:
        self._expect_map()
        _, height, width = self.shape
        layer: Layer = GlobalAvgPool2d()
        if node.op_type == "GlobalMaxPool":
            size = _one("map", [height, width], "pooling windows are square")
            layer = MaxPool2d(size)
        self._layer(node, layer)
        self.dims = self.shape

    def _reduce_mean(self, node: Any) -> None:
        """The mean of each channel, whatever shape its places have."""
        axes = self._axes(node)
        rest = {1} if self.dims[0] == self.shape[0] and not self.turned else set()
        if self._is_turned_map():
            rest = {3}
        wanted = set(range(1, len(self.dims) + 1)) - rest
        if not rest or set(axes) != wanted:
            raise ValueError(
                f"axes: expected {sorted(wanted)}, rows and columns, got {axes}; the "
                "mean of a map is that of both"
            )
        kept = options_of(node).get("keepdims", 1)
        self._layer(node, GlobalAvgPool2d())
        dims = [
            self.shape[0] if axis in rest else 1
            for axis in range(1, len(self.dims) + 1)
            if kept or axis in rest
        ]
        self.dims, self.turned = tuple(dims), None

    def _activation(self, node: Any) -> None:
        self._layer(node, ACTIVATIONS[node.op_type](options_of(node)))

    def _clip(self, node: Any) -> None:
        of = self.graph.values.of
        ends = [of(node, 1, "min"), of(node, 2, "max")]
        least, most = (None if end is None else float(end.item()) for end in ends)
        if least != 0 or (most is not None and most < -LOWEST):
            raise ValueError(
                f"expected a minimum of 0 and no maximum, which is a ReLU, got {least} "
                f"and {most}; train with ReLU in place of ReLU6 and the like"
            )
        self._layer(node, ReLU())

    def _dropout(self, node: Any) -> None:
        values = self.graph.values
        if len(node.input) > 2 and node.input[2] and values[node.input[2]].any():
            raise ValueError(
                "training_mode: expected false, got true; export after network.eval()"
            )
        rate = values.of(node, 1, "ratio")
        self._layer(node, Dropout(0.5 if rate is None else rate.item()))

    def _flatten(self, node: Any) -> None:
        axis = options_of(node).get("axis", 1)
        if axis not in (1, -len(self.dims)):
            raise ValueError(f"axis: expected 1, got {axis}")
        self._become(node, (math.prod(self.dims),))

    def _reshape(self, node: Any) -> None:
        shape = self.graph.values[node.input[1]]
        if shape.dtype != np.int64:
            raise TypeError(f"shape: expected int64, got {shape.dtype}")
        target = shape.ravel().tolist()
        copied = not options_of(node).get("allowzero", 0)  # 0 is the size that it had
        count = math.prod(self.dims)
        first, *rest = target or [0]
        for position, size in enumerate(rest):
            if size == 0 and copied and position < len(self.dims):
                rest[position] = self.dims[position]
        known = (BATCH, -1, self.batch, *[0] * copied)
        given = math.prod(size for size in rest if size != -1)
        if rest.count(-1) == 1 and first != -1 and given > 0:
            rest[rest.index(-1)] = count // given
        if first not in known or math.prod(rest) != count or min(rest, default=0) < 1:
            shown = ["N" if size == BATCH else size for size in target]
            raise ValueError(
                f"expected a shape (N, ...) of {count} numbers an image, got {shown}"
            )
        self._become(node, tuple(rest))

    def _squeeze(self, node: Any) -> None:
        axes = self._axes(node)
        if any(self.dims[axis - 1] != 1 for axis in axes):
            raise ValueError(f"expected axes of size 1, got {axes}")
        dims = [dim for axis, dim in enumerate(self.dims, 1) if axis not in axes]
        self._become(node, tuple(dims))

    def _unsqueeze(self, node: Any) -> None:
        dims = list(self.dims)
        for axis in self._axes(node, new=True):
            dims.insert(axis - 1, 1)
        self._become(node, tuple(dims))

    def _axes(self, node: Any, *, new: bool = False) -> list[int]:
        """Axes of the tensor, or of the new one, without N and in order."""
        found = self.graph.values.of(node, 1, "axes")
        axes = [] if found is None else found.ravel().tolist()
        rank = len(self.dims) + 1 + len(axes) * new
        if not axes or not all(-rank < axis < rank and axis for axis in axes):
            raise ValueError(f"axes: expected some from 1 to {rank - 1}, got {axes}")
        counted = sorted({axis % rank for axis in axes})
        if len(counted) < len(axes):
            raise ValueError(f"axes: expected different ones, got {axes}")
        return counted

    def _transpose(self, node: Any) -> None:
        rank = len(self.dims) + 1
        order = list(options_of(node).get("perm", range(rank)[::-1]))
        if sorted(order) != list(range(rank)) or order[0] != 0:
            raise ValueError(f"perm: expected images to stay first, got {order}")
        dims = tuple(self.dims[axis - 1] for axis in order[1:])
        moved = [axis for axis in order[1:] if self.dims[axis - 1] > 1]
        if moved == sorted(moved):
            self._become(node, dims)
        elif order == [0, 2, 3, 1] and self._is_map():
            self.dims = dims
            self._turn(self.shape)
        elif order == [0, 3, 1, 2] and self._is_turned_map():
            self.dims, self.turned = dims, None
        else:
            raise ValueError(
                "perm: expected channels to become last, [0, 2, 3, 1], or first again, "
                f"[0, 3, 1, 2], got {order}"
            )

    def _become(self, node: Any, dims: tuple[int, ...]) -> None:
        """Go on with a tensor of another shape: the same map, or a flat one."""
        self._expect_no_pads()
        flat = (math.prod(self.shape), 1, 1)
        is_layer = bool(node.name) if self.graph.own else self.shape != flat
        if (len(dims) == 1 and is_layer) or (dims == flat != self.shape):
            self._layer(node, Flatten())
        elif len(dims) == 3 and dims != self.shape:
            channels, *sides = self.shape
            wanted = [*sides, channels] if self.turned else [channels, *sides]
            if [dim for dim in dims if dim > 1] != [dim for dim in wanted if dim > 1]:
                raise ValueError(
                    f"expected a map {self.shape} or a flat one, got {dims}"
                )
        self.dims = dims

    def _softmax(self, node: Any) -> None:
        axis = options_of(node).get("axis", 1 if self.graph.opset < 13 else -1)
        if axis not in (1, -len(self.dims)) or self.dims[0] != math.prod(self.dims):
            raise ValueError(
                f"expected the axis 1 of (N, classes), got {axis} of "
                f"{('N', *self.dims)}"
            )
        if self.ended:
            raise ValueError("expected nothing after a Softmax")
        self.ended = True

    def _nothing(self, node: Any) -> None:
        """Take a node that changes nothing."""

    def _cast(self, node: Any) -> None:
        types = onnx_package().TensorProto
        target = options_of(node)["to"]
        if target not in (types.FLOAT, types.DOUBLE):
            raise ValueError(
                "expected a cast to float32 or float64, got "
                f"{types.DataType.Name(target)}; export the network in float32"
            )
        self.graph.stage.cast = True

    def _arithmetic(self, node: Any) -> None:
        """Take a constant that maps are multiplied with or shifted by."""
        stage, operator = self.graph.stage, node.op_type
        if stage.of_bytes and not stage.cast:
            raise ValueError("expected a cast of the bytes to floats before it")
        self._expect_no_pads()
        here = list(node.input).index(self.tensor)
        value = self.graph.values[node.input[1 - here]]
        if here and operator == "Div":
            raise ValueError("expected the images before the constant, got 1 / x")
        if operator == "Div" and not value.all():
            raise ValueError("expected a divisor that is not 0")
        last = self.layers[-1] if self.layers else None
        if operator == "Add" and isinstance(last, (Conv2d, Dense)):
            self._bias(to_float32("bias", value))
            return
        exact = value.astype(np.float64)
        scale, offset = np.ones(1), np.zeros(1)
        if operator in ("Mul", "Div"):
            scale = exact if operator == "Mul" else 1 / exact
        else:
            scale = -scale if here and operator == "Sub" else scale
            offset = -exact if operator == "Sub" and not here else exact
        first = not self.layers and not self.depth and stage.pad is None
        if first and value.size == 1 and (stage.of_bytes or self.graph.own):
            stage.scale = float(stage.scale * scale.item())
            stage.offset = float(stage.offset * scale.item() + offset.item())
            return
        scales, offsets = self._of_channels(scale), self._of_channels(offset)
        if self.affine is not None:
            before = self.affine
            scales, offsets = before[0] * scales, before[1] * scales + offsets
            self.layers.pop()
            self.parameters.pop()
        self._layer(node, BatchNorm2d(eps=EXACT_EPS), **affine(scales, offsets))
        self.affine = scales, offsets
        if len(self.layers) == 1 and not self.depth and not stage.of_bytes:
            stage.of_255 = bool((np.abs(scales) < LEAST_SCALE_OF_SHARES).all())

    def _pad(self, node: Any) -> None:
        stage = self.graph.stage
        _expect("mode", options_of(node).get("mode", b"constant"), b"constant")
        if len(node.input) > 3 and node.input[3]:
            raise ValueError("axes: expected none")
        if stage.of_bytes and not stage.cast:
            raise ValueError("expected a cast of the bytes to floats before it")
        found, value = (
            self.graph.values.of(node, position, attribute)
            for position, attribute in ((1, "pads"), (2, "value"))
        )
        pads = [] if found is None else found.ravel().tolist()
        if len(pads) != 8 or min(pads) < 0:
            raise ValueError(f"pads: expected 8 numbers from 0 on, got {pads}")
        if not self._is_turned_map():
            self._expect_map()
        rows, columns = (1, 2) if self.turned else (2, 3)
        top, left = pads[rows], pads[columns]
        bottom, right = pads[rows + 4], pads[columns + 4]
        if sum(pads) != top + left + bottom + right:
            raise ValueError(f"pads: expected rows and columns alone, got {pads}")
        amount = 0.0 if value is None else float(value.item())
        centred = bottom - top in (0, 1) and right - left in (0, 1)
        first = not self.layers and not self.depth and stage.pad is None
        if first and centred and not self.turned:
            channels, height, width = self.shape
            stage.pad = amount
            self.shape = _shape((channels, height + top + bottom, width + left + right))
            self.dims = self.input_shape = self.shape
            return
        if any(self.pads) and amount != self.pad_value:
            self._expect_no_pads()
        more = (top, left, bottom, right)
        self.pads = [one + other for one, other in zip(self.pads, more, strict=True)]
        self.pad_value = amount


OPERATORS: dict[str, Callable[[_Path, Any], None]] = {
    "Conv": _Path._conv,
    "Gemm": _Path._gemm,
    "MatMul": _Path._matmul,
    "BatchNormalization": _Path._batch_norm,
    "AveragePool": _Path._pool,
    "MaxPool": _Path._pool,
    "GlobalAveragePool": _Path._global_pool,
    "GlobalMaxPool": _Path._global_pool,
    "ReduceMean": _Path._reduce_mean,
    **dict.fromkeys(ACTIVATIONS, _Path._activation),
    "Clip": _Path._clip,
    "Dropout": _Path._dropout,
    "Identity": _Path._nothing,
    "Cast": _Path._cast,
    "Flatten": _Path._flatten,
    "Reshape": _Path._reshape,
    "Squeeze": _Path._squeeze,
    "Unsqueeze": _Path._unsqueeze,
    "Transpose": _Path._transpose,
    "Pad": _Path._pad,
    "Softmax": _Path._softmax,
    "LogSoftmax": _Path._softmax,
    **dict.fromkeys(ARITHMETIC, _Path._arithmetic),
}


def _spread(
    weight: NDArray[np.float32], groups: int, dilations: list[int], pads: list[int]
) -> NDArray[np.float32]:
    """The same convolution in one group, without dilation, and with as many zeros on
    all sides as `pads` has on one: zeros in the kernel do the rest."""
    filters, channels, *kernel = weight.shape
    top, left, bottom, right = (max(pads) - pad for pad in pads)
    rows, columns = (
        (size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)
    )
    shape = (
        *(filters, channels * groups),
        *(top + rows + bottom, left + columns + right),
    )
    if math.prod(shape) > MOST_PARAMETERS:
        raise ValueError(f"expected a smaller kernel, got one like {shape}")
    spread = np.zeros(shape, np.float32)
    part = filters // groups
    for group in range(groups):
        spread[
            part * group : part * (group + 1),
            channels * group : channels * (group + 1),
            top : top + rows : dilations[0],
            left : left + columns : dilations[1],
        ] = weight[part * group : part * (group + 1)]
    return spread


def _shape(shape: object) -> Shape:
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"input_shape: expected (C, H, W), got {shape!r}")
    channels, height, width = (whole("input_shape", size, 1) for size in shape)
    return channels, height, width


def _names_of(layers: Sequence[Layer]) -> list[str | None]:
    """All names, also of layers inside of others."""
    names = []
    for layer in layers:
        names.append(layer.name)
        if isinstance(layer, Residual):
            names += [*_names_of(layer.layers), *_names_of(layer.shortcut)]
    return names


def _named(layers: Sequence[Layer], taken: list[str | None]) -> list[Layer]:
    """The layers; a Model chooses the names of those that are called as another one."""
    found = []
    for layer in layers:
        if isinstance(layer, Residual):
            layer = replace(
                layer,
                layers=_named(layer.layers, taken),
                shortcut=_named(layer.shortcut, taken),
            )
        if taken.count(layer.name) > 1:
            layer = replace(layer, name=None)  # type: ignore[type-var]
        found.append(layer)
    return found


def _expect(option: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"{option}: expected {expected}, got {found}")


def _one(option: str, values: list[int], why: str = "both directions are alike") -> int:
    """The number that all of these are."""
    if len(set(values)) != 1:
        raise ValueError(f"{option}: expected equal numbers, got {values}; {why}")
    return values[0]
