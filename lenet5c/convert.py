"""Networks from elsewhere: ONNX files, and the weights of PyTorch networks.

What a file or a state dict says is taken over exactly or refused.
"""

import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import pair, whole
from lenet5c._support.habits import explained
from lenet5c.data.images import InputStage
from lenet5c.files.container import FileFormatError, fields, parse_json
from lenet5c.files.model_file import check_classes
from lenet5c.layers import (
    LAYERS,
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
    layer_from_dict,
    layer_to_dict,
    walk,
)
from lenet5c.model import Model
from lenet5c.parameters import MAX_PARAMETERS

__all__ = ["from_onnx", "from_torch_state_dict"]

Array = NDArray[Any]

OLDEST_OPSET = 9
MOST_FILE_BYTES = 8 * MAX_PARAMETERS
MOST_NODES = 10_000
MOST_SHAPE_VALUES = 16  # in what is computed to say a shape
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
BATCH = -(1 << 62)  # stands for N where a shape is computed
# what a file that is no network of ours may lead to
ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError)
OF_SHAPES = (
    *("Cast", "Concat", "Constant", "ConstantOfShape", "Gather", "Reshape", "Slice"),
    *("Squeeze", "Unsqueeze", *ARITHMETIC),
)
NUMBERED = re.compile(rf"({'|'.join(LAYERS)})_\d+")  # as Model names layers


@explained
def from_onnx(
    path: str | os.PathLike[str],
    *,
    input_shape: Shape | None = None,
    mean: float | None = None,
    deviation: float | None = None,
) -> Model:
    """Read a network of layers that lenet5c has from an ONNX file.

    The graph has to be one chain: Conv (one group, no dilation; strides equal, padding
    equal on all sides), Gemm, MatMul with or without Add, MaxPool and AveragePool
    (square, without padding), GlobalAveragePool of square maps, Relu, Tanh, Dropout,
    Identity, and Flatten, Reshape, Squeeze or Unsqueeze that keep or flatten the map. A
    Softmax or LogSoftmax at the end is left out. Before the first layer, uint8 images
    may be cast, scaled and shifted, and images padded on all sides. Opset 9 or newer.

    Parameters
    ----------
    path : str or path-like
        Tensors may be in other files of the same folder.
    input_shape : (int, int, int) or None
        Channels, rows and columns of the file's input, where it does not say them.
    mean, deviation : float or None
        For a network whose input is floating: how uint8 images, which the model takes
        as well, are normalised, (b / 255 - mean) / deviation. None: 0 and 1.

    Returns
    -------
    Model
        With the labels 0 to classes - 1, or those that `Model.export_onnx` wrote.

    Raises
    ------
    FileFormatError
        If the file is damaged, or has something that a Model cannot express: which node
        that is, and what was expected.
    ImportError
        If the onnx package is missing.
    OSError
        If it cannot be read.
    """
    given = None
    if mean is not None or deviation is not None:
        mean, deviation = mean or 0, 1 if deviation is None else deviation
        given = InputStage.checked(mean, deviation, None)
    shape = None if input_shape is None else _shape(input_shape)
    name = os.fspath(path)
    with open(name, "rb") as file:
        content = _content(file, name)
    try:
        return _model(_parsed(content, name), shape, given)
    except ERRORS as error:
        raise FileFormatError(f"{name}: {error}") from error


def _content(file: BinaryIO, name: str, offset: int = 0, length: int = -1) -> bytes:
    """`length` bytes of a file that is not too long, -1 for all."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise FileFormatError(f"{name}: expected a regular file")
    if found.st_size > MOST_FILE_BYTES:
        raise FileFormatError(
            f"{name}: expected at most {MOST_FILE_BYTES} bytes, got {found.st_size}"
        )
    if length < 0:
        length = found.st_size - offset
    if not 0 <= offset <= offset + length <= found.st_size:
        raise FileFormatError(
            f"{name}: expected {length} bytes from byte {offset} on, got a file of "
            f"{found.st_size} bytes"
        )
    file.seek(offset)
    return file.read(length)


def _parsed(content: bytes, path: str) -> Any:
    """The ONNX model, all tensors in it, once the onnx package finds it valid."""
    onnx = _onnx()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own class, which onnx does not name
        raise ValueError(f"expected an ONNX file: {error}") from error
    total = 0
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, os.path.dirname(path))
            total += len(tensor.raw_data)
            if total > MOST_FILE_BYTES:
                raise ValueError(f"expected at most {MOST_FILE_BYTES} bytes of tensors")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"expected a valid ONNX model: {error}") from error
    return model


def _load_external(tensor: Any, folder: str) -> None:
    """Take the tensor's values in, from a file of the folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if location in ("", ".", "..") or not re.fullmatch(r"[^/\\:\0]+", location):
        raise ValueError(
            f"tensor {tensor.name!r}: expected the name of a file of the same folder, "
            f"got {location!r}"
        )
    name = os.path.join(folder, location)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(
        name, "rb", opener=lambda path, mode: os.open(path, mode | flags)
    ) as file:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
        tensor.raw_data = _content(file, name, offset, length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _model(proto: Any, input_shape: Shape | None, given: InputStage | None) -> Model:
    """The network of an ONNX model."""
    chain = _Chain(proto, input_shape)
    chain.follow()
    model = Model(
        _named(chain.layers, chain.names, chain.own),
        input_shape=chain.input_shape,
        classes=math.prod(chain.shape),
    )
    for layer, values in zip(model.layers, chain.parameters, strict=True):
        for part, value in values.items():
            model.parameters[f"{layer.name}.{part}"] = value
    stage, classes, fitted = chain.stage.input_stage(), model.classes, True
    if chain.own:
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        stage, classes, fitted = _own_metadata(metadata, chain.stage)
        if len(classes) != model.class_count:
            raise ValueError(
                f"classes: expected {model.class_count} labels, got {len(classes)}"
            )
    if given is not None:
        if chain.own or chain.stage.of_bytes:
            raise ValueError(
                "mean, deviation: expected none, because the file says how images are "
                f"normalised, got {given.mean}, {given.deviation}"
            )
        pad = chain.stage.pad
        stage = given if pad is None else replace(given, background=pad)
    model.set_input(stage, chain.source, classes)
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

    def input_stage(self) -> InputStage:
        """As a model has it; around smaller images is what the graph has, or black."""
        if not self.of_bytes:
            return InputStage.checked(0, 1, self.pad)
        if not self.scale > 0:
            raise ValueError(
                f"expected bytes multiplied with a positive number, got {self.scale}"
            )
        deviation = 1 / (255 * self.scale)
        return InputStage.checked(-self.offset * deviation, deviation, self.pad)


class _Values:
    """Tensors of a graph that do not depend on the images, by name."""

    def __init__(self, graph: Any, opset: int) -> None:
        self.opset = opset
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.dims: dict[str, tuple[int, ...]] = {}  # of those that do, without N
        self.computed: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name in self.tensors:
            return _array(self.tensors[name])
        if name not in self.computed:
            if name not in self.producers:
                raise ValueError(f"expected a constant, got {name!r}")
            self.computed[name] = self._computed(self.producers[name])
        return self.computed[name]

    def _computed(self, node: Any) -> Array:
        """What a node makes of nothing but constants and shapes."""
        options = _options(node)
        operator = node.op_type
        if operator == "Constant" and "value" in options:
            return _array(options["value"])
        if operator == "Shape" and node.input[0] in self.dims:
            shape = np.array([BATCH, *self.dims[node.input[0]]], np.int64)
            return shape[options.get("start") : options.get("end")]
        if operator == "Identity":
            return self[node.input[0]]
        if operator == "Transpose":
            return self[node.input[0]].transpose(options.get("perm"))
        if operator not in OF_SHAPES or node.domain != "":
            raise ValueError(f"expected a constant, got what {_name(node)} computes")

        from onnx.reference import ReferenceEvaluator

        inputs = {name: self[name] for name in node.input if name}
        for value in inputs.values():
            numbers = value.ravel().tolist()
            if value.dtype != np.int64 or value.size > MOST_SHAPE_VALUES:
                raise ValueError(f"expected a shape, got {value.size} {value.dtype}")
            if operator in (*ARITHMETIC, "ConstantOfShape") and BATCH in numbers:
                raise ValueError("expected a shape that does not compute with N")
            if operator == "ConstantOfShape" and math.prod(numbers) > MOST_SHAPE_VALUES:
                raise ValueError(f"expected a shape, got one of the shape {numbers}")
        found: Any = ReferenceEvaluator(node, opsets={"": self.opset}).run(None, inputs)
        return np.asarray(found[0])

    def of(self, node: Any, position: int, attribute: str) -> Array | None:
        """What newer opsets have as an input and older ones as an attribute."""
        if len(node.input) > position and node.input[position]:
            return self[node.input[position]]
        value = _options(node).get(attribute)
        return None if value is None else np.asarray(value)


class _Chain:
    """An ONNX graph, followed from its input to its output, and the layers that it is.

    `shape` is the map between the layers, (C, H, W), and `dims` that of the tensor,
    without N: the same numbers in the same order.
    """

    def __init__(self, proto: Any, input_shape: Shape | None) -> None:
        graph = proto.graph
        if proto.functions or graph.sparse_initializer:
            raise ValueError("expected plain nodes and dense tensors alone")
        if len(graph.node) > MOST_NODES:
            raise ValueError(
                f"expected at most {MOST_NODES} nodes, got {len(graph.node)}"
            )
        self.own = proto.producer_name == "lenet5c"
        self.opset = _opset(proto)
        self.values = _Values(graph, self.opset)
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in graph.output}
        self.layers: list[Layer] = []
        self.names: list[str] = []
        self.parameters: list[dict[str, Array]] = []
        self.lacks_bias = False  # directly behind a MatMul
        self.ended = False  # by a Softmax
        inputs = [
            value for value in graph.input if value.name not in self.values.tensors
        ]
        if len(inputs) != 1:
            names = [value.name for value in inputs]
            raise ValueError(f"expected one input, got {names!r:.200}")
        self._begin(inputs[0], input_shape)

    def _begin(self, described: Any, shape: Shape | None) -> None:
        """Start at the graph's input."""
        types = _onnx().TensorProto
        floats = (types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16)
        tensor_type = described.type.tensor_type
        self.tensor = described.name
        self.ends = {self.tensor}
        self.stage = _Stage(of_bytes=tensor_type.elem_type == types.UINT8)
        if tensor_type.elem_type not in (types.UINT8, *floats):
            raise ValueError(
                f"input {self.tensor!r}: expected uint8 or floats, got "
                f"{types.DataType.Name(tensor_type.elem_type)}"
            )
        sizes = [dim.dim_value or None for dim in tensor_type.shape.dim]
        if shape is None and len(sizes) == 4 and None not in sizes[1:]:
            shape = _shape(tuple(sizes[1:]))
        if shape is None:
            raise ValueError(
                f"input {self.tensor!r}: expected the sizes (N, C, H, W), got {sizes}; "
                "input_shape=(C, H, W) says them where the file does not"
            )
        self.dims: tuple[int, ...] = shape
        if len(sizes) == 2:
            self.dims = (math.prod(shape),)
        pairs = zip(sizes[1:], self.dims, strict=False)
        if len(sizes) not in (2, 4) or any(
            size not in (None, dim) for size, dim in pairs
        ):
            raise ValueError(
                f"input {self.tensor!r}: expected sizes that fit input_shape={shape}, "
                f"got {sizes}"
            )
        self.batch = sizes[0]
        self.shape = self.input_shape = shape
        self.source = shape[1:]
        self.values.dims[self.tensor] = self.dims

    def follow(self) -> None:
        """Go from node to node, to the end."""
        while nodes := [
            node
            for node in self.readers.get(self.tensor, [])
            if node.op_type != "Shape"
        ]:
            if len(nodes) > 1:
                raise ValueError(
                    f"expected one node that reads {self.tensor!r}, got "
                    f"{', '.join(map(_name, nodes)):.200}"
                )
            try:
                self._take(nodes[0])
            except ERRORS as error:
                raise ValueError(f"{_name(nodes[0])}: {error}") from error
        if not self.outputs or not self.outputs <= self.ends:
            raise ValueError(
                "expected no outputs but those at the end of the chain, "
                f"{sorted(self.ends)}, got {sorted(self.outputs)}"
            )
        if self.dims[0] != math.prod(self.dims):
            raise ValueError(
                f"expected the output (N, classes), got {('N', *self.dims)}"
            )

    def _take(self, node: Any) -> None:
        """Take one node over."""
        takes: dict[str, Callable[[Any], None]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "AveragePool": self._pool,
            "MaxPool": self._pool,
            "GlobalAveragePool": self._global_pool,
            "Relu": self._activation,
            "Tanh": self._activation,
            "Dropout": self._dropout,
            "Flatten": self._flatten,
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Unsqueeze": self._unsqueeze,
            "Identity": lambda _: None,
            "Softmax": self._softmax,
            "LogSoftmax": self._softmax,
            "Cast": self._cast,
            "Pad": self._pad,
            **dict.fromkeys(ARITHMETIC, self._arithmetic),
        }
        operator = node.op_type
        if node.domain not in ("", "ai.onnx") or operator not in takes:
            raise ValueError(f"expected one of {', '.join(takes)}, got {operator}")
        if operator not in ("Identity", "Softmax", "LogSoftmax"):
            if self.ended:
                raise ValueError("expected nothing after a Softmax")
            self.ends = set()
        if operator not in ARITHMETIC and node.input[0] != self.tensor:
            raise ValueError(f"expected {self.tensor!r} as its first input")
        takes[operator](node)
        self.lacks_bias = operator == "MatMul"
        self.tensor = node.output[0]
        self.ends.add(self.tensor)
        self.values.dims[self.tensor] = self.dims

    def _layer(self, node: Any, layer: Layer, **parameters: Array) -> None:
        """Go through a layer. In a file of lenet5c it is called as the node, in others
        as its weight."""
        if self.stage.of_bytes and not self.stage.cast:
            raise ValueError("expected a cast of the bytes to floats before it")
        if self.own:
            self.names.append(node.name)
        else:
            weight = node.input[1] if parameters else ""
            prefix, _, part = weight.rpartition(".")
            self.names.append(prefix if part == "weight" else "")
        for part, shape in layer.parameter_shapes(self.shape).items():
            if parameters[part].shape != shape:
                raise ValueError(
                    f"expected the {part} {shape}, got {parameters[part].shape}"
                )
        self.shape = layer.output_shape(self.shape)
        if math.prod(self.shape) > MAX_PARAMETERS:
            raise ValueError("the map is larger than any machine could hold")
        self.layers.append(layer)
        self.parameters.append(parameters)

    def _expect_map(self) -> None:
        if self.dims != self.shape:
            raise ValueError(f"expected a map (N, C, H, W), got {('N', *self.dims)}")

    def _conv(self, node: Any) -> None:
        self._expect_map()
        options = _options(node)
        weight = _float32("weight", self.values[node.input[1]])
        if weight.ndim != 4:
            raise ValueError(f"expected a weight (F, C, KH, KW), got {weight.shape}")
        filters, channels, *kernel = weight.shape
        if options.get("group", 1) != 1 or channels != self.shape[0]:
            raise ValueError(
                f"expected one group of {self.shape[0]} channels, got "
                f"{options.get('group', 1)} of {channels}"
            )
        _expect("kernel_shape", options.get("kernel_shape", kernel), kernel)
        _expect("dilations", options.get("dilations", [1, 1]), [1, 1])
        stride = _one("strides", options.get("strides", [1, 1]))
        padding = _one("pads", options.get("pads", [0, 0, 0, 0]))
        automatic = options.get("auto_pad", b"NOTSET")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER") and stride == 1:
            if kernel[0] % 2 == 0 or kernel[0] != kernel[1]:
                raise ValueError(f"expected a square kernel of odd size, got {kernel}")
            padding = kernel[0] // 2
        elif automatic == b"VALID":
            padding = 0
        elif automatic != b"NOTSET":
            raise ValueError(f"auto_pad: expected b'NOTSET', got {automatic!r}")
        bias = np.zeros(filters, np.float32)
        if len(node.input) > 2 and node.input[2]:
            bias = _float32("bias", self.values[node.input[2]])
        layer = Conv2d(filters, tuple(kernel), stride=stride, padding=padding)
        self._layer(node, layer, weight=weight, bias=bias)
        self.dims = self.shape

    def _gemm(self, node: Any) -> None:
        options = _options(node)
        _expect("alpha", options.get("alpha", 1.0), 1.0)
        _expect("beta", options.get("beta", 1.0), 1.0)
        _expect("transA", options.get("transA", 0), 0)
        weight = _float32("weight", self.values[node.input[1]])
        self._dense(node, weight if options.get("transB", 0) else weight.T)
        if len(node.input) > 2 and node.input[2]:
            self._bias(self.values[node.input[2]])

    def _matmul(self, node: Any) -> None:
        self._dense(node, _float32("weight", self.values[node.input[1]]).T)

    def _dense(self, node: Any, weight: Array) -> None:
        if len(self.dims) != 1 or weight.ndim != 2:
            raise ValueError(
                f"expected (N, features) and a matrix, got {('N', *self.dims)} and "
                f"{weight.shape}"
            )
        bias = np.zeros(len(weight), np.float32)
        self._layer(node, Dense(len(weight)), weight=weight, bias=bias)
        self.dims = self.shape[:1]

    def _bias(self, value: Array) -> None:
        bias = self.parameters[-1]["bias"]
        value = _float32("bias", value)
        if value.shape not in (bias.shape, (1, *bias.shape), (1,), ()):
            raise ValueError(f"expected the bias {bias.shape}, got {value.shape}")
        bias[:] = value.ravel()

    def _pool(self, node: Any) -> None:
        self._expect_map()
        options = _options(node)
        size = _one("kernel_shape", options["kernel_shape"])
        stride = _one("strides", options.get("strides", [1, 1]))
        _expect("pads", options.get("pads", [0, 0, 0, 0]), [0, 0, 0, 0])
        _expect("dilations", options.get("dilations", [1, 1]), [1, 1])
        automatic = options.get("auto_pad", b"NOTSET")
        if automatic not in (b"NOTSET", b"VALID"):
            raise ValueError(f"auto_pad: expected b'NOTSET', got {automatic!r}")
        rest = [(side - size) % stride for side in self.shape[1:]]
        if options.get("ceil_mode", 0) and any(rest):
            raise ValueError("expected ceil_mode 0, got 1 and windows that stick out")
        kind = MaxPool2d if node.op_type == "MaxPool" else AvgPool2d
        self._layer(node, kind(size, stride))
        self.dims = self.shape

    def _global_pool(self, node: Any) -> None:
        self._expect_map()
        _, height, width = self.shape
        if height != width:
            raise ValueError(f"expected a square map, got {height}x{width}")
        self._layer(node, AvgPool2d(height))
        self.dims = self.shape

    def _activation(self, node: Any) -> None:
        self._layer(node, ReLU() if node.op_type == "Relu" else Tanh())

    def _dropout(self, node: Any) -> None:
        if len(node.input) > 2 and node.input[2] and self.values[node.input[2]].any():
            raise ValueError("training_mode: expected false, got true")
        rate = self.values.of(node, 1, "ratio")
        self._layer(node, Dropout(0.5 if rate is None else rate.item()))

    def _flatten(self, node: Any) -> None:
        axis = _options(node).get("axis", 1)
        if axis not in (1, -len(self.dims)):
            raise ValueError(f"axis: expected 1, got {axis}")
        self._become(node, (math.prod(self.dims),))

    def _reshape(self, node: Any) -> None:
        shape = self.values[node.input[1]]
        if shape.dtype != np.int64:
            raise TypeError(f"shape: expected int64, got {shape.dtype}")
        target = shape.ravel().tolist()
        copied = not _options(node).get("allowzero", 0)  # a 0 is the size that it had
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
        found = self.values.of(node, 1, "axes")
        axes = [] if found is None else found.ravel().tolist()
        rank = len(self.dims) + 1 + len(axes) * new
        if not axes or not all(-rank < axis < rank and axis for axis in axes):
            raise ValueError(f"axes: expected some from 1 to {rank - 1}, got {axes}")
        counted = sorted({axis % rank for axis in axes})
        if len(counted) < len(axes):
            raise ValueError(f"axes: expected different ones, got {axes}")
        return counted

    def _become(self, node: Any, dims: tuple[int, ...]) -> None:
        """Go on with a tensor of another shape: the same map, or a flat one."""
        flat = (math.prod(self.shape), 1, 1)
        is_layer = bool(node.name) if self.own else self.shape != flat
        if (len(dims) == 1 and is_layer) or (dims == flat != self.shape):
            self._layer(node, Flatten())
        elif len(dims) == 3 and dims != self.shape:
            raise ValueError(f"expected a map {self.shape} or a flat one, got {dims}")
        self.dims = dims

    def _softmax(self, node: Any) -> None:
        axis = _options(node).get("axis", 1 if self.opset < 13 else -1)
        if axis not in (1, -len(self.dims)) or self.dims[0] != math.prod(self.dims):
            raise ValueError(
                f"expected the axis 1 of (N, classes), got {axis} of "
                f"{('N', *self.dims)}"
            )
        if self.ended:
            raise ValueError("expected nothing after a Softmax")
        self.ended = True

    def _cast(self, node: Any) -> None:
        types = _onnx().TensorProto
        target = _options(node)["to"]
        if self.layers or target not in (types.FLOAT, types.DOUBLE):
            raise ValueError(
                "expected a cast to float32 or float64 before the first layer, got "
                f"{types.DataType.Name(target)}"
            )
        self.stage.cast = True

    def _arithmetic(self, node: Any) -> None:
        """Take a number that bytes are multiplied with or shifted by, or a bias."""
        here = list(node.input).index(self.tensor)
        value = self.values[node.input[1 - here]]
        if self.lacks_bias and node.op_type == "Add":
            self._bias(value)
            return
        stage = self.stage
        scaled = (stage.cast and stage.of_bytes) or (self.own and not stage.of_bytes)
        if self.layers or not scaled or stage.pad is not None:
            raise ValueError(
                "expected it as the bias of a MatMul, or on bytes that were "
                "cast to floats, before the first layer and before padding"
            )
        if (
            value.size != 1
            or value.ndim > 4
            or (here and node.op_type in ("Sub", "Div"))
        ):
            raise ValueError(
                f"expected one number as its second input, got the shape {value.shape}"
            )
        amount = float(value.ravel()[0])
        if amount == 0 and node.op_type == "Div":
            raise ValueError("expected a divisor that is not 0")
        if node.op_type == "Add":
            stage.offset += amount
        elif node.op_type == "Sub":
            stage.offset -= amount
        elif node.op_type == "Mul":
            stage.scale, stage.offset = stage.scale * amount, stage.offset * amount
        else:
            stage.scale, stage.offset = stage.scale / amount, stage.offset / amount

    def _pad(self, node: Any) -> None:
        stage = self.stage
        cast = stage.cast or not stage.of_bytes
        if self.layers or stage.pad is not None or not cast:
            raise ValueError("expected padding once, of floats before the first layer")
        self._expect_map()
        _expect("mode", _options(node).get("mode", b"constant"), b"constant")
        if len(node.input) > 3 and node.input[3]:
            raise ValueError("axes: expected none")
        pads = self.values.of(node, 1, "pads")
        value = self.values.of(node, 2, "value")
        channels, height, width = self.shape
        found = [] if pads is None else pads.ravel().tolist()
        if len(found) != 8 or min(found) < 0:
            raise ValueError(f"pads: expected 8 numbers from 0 on, got {found}")
        rows, columns = found[2] + found[6], found[3] + found[7]
        top, left = rows // 2, columns // 2
        _expect("pads", found, [0, 0, top, left, 0, 0, rows - top, columns - left])
        stage.pad = 0.0 if value is None else float(value.item())
        self.shape = _shape((channels, height + rows, width + columns))
        self.dims = self.input_shape = self.shape


@explained
def from_torch_state_dict(
    model: Model,
    state_dict: Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    mean: float = 0.0,
    deviation: float = 1.0,
    background: float | None = None,
    source: tuple[int, int] | None = None,
) -> Model:
    """Copy the weights of a PyTorch network into a model of the same layers.

    Layers are matched by order, or by `names`. A linear layer's weight also fits a
    convolution that covers its whole input, and the other way round. Where the state
    dict has no bias, it becomes zero.

    Parameters
    ----------
    model : Model
        Changed in place.
    state_dict : mapping of str to tensor or array
        ``network.state_dict()``: ``<prefix>.weight`` and ``<prefix>.bias`` for each
        layer, and a batch normalisation's ``running_mean`` and ``running_var``; floats
        that float32 holds exactly.
    names : mapping of str to str, or None
        For each layer with weights, the prefix in the state dict, ``{"C1": "conv1"}``;
        None takes them by these names if they are there, else in order.
    mean, deviation : float
        As of torchvision's ``Normalize``: a uint8 pixel b becomes (b / 255 - mean) /
        deviation. Floating images are taken as they are.
    background : float or None
        What surrounds smaller images, in the units that the network sees; None is
        black, -mean / deviation. 0.0 where PyTorch pads after normalisation.
    source : (int, int) or None
        Rows and columns of the training images; None is the network's input.

    Returns
    -------
    Model
        The one given, fitted: further training keeps these settings.

    Raises
    ------
    ValueError, TypeError
        If names or shapes do not fit: all that were expected and all that were given.
        The model has not changed then.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a Model, got {type(model).__name__}")
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "state_dict: expected a mapping, as network.state_dict() is, got "
            f"{type(state_dict).__name__}"
        )
    stage = InputStage.checked(mean, deviation, background)
    size = model.input_shape[1:]
    rows, columns = size if source is None else pair("source", source, 1)
    if rows > size[0] or columns > size[1]:
        raise ValueError(f"source: expected at most {size}, got {(rows, columns)}")
    inputs: dict[str, Shape | None] = {}
    parts: dict[str, list[str]] = {}
    for each, shape, after in walk(model.layers, model.input_shape):
        of_layer = [*each.parameter_shapes(shape), *each.buffer_shapes(shape)]
        if of_layer:
            name = str(each.name)
            parts[name] = of_layer
            dense = isinstance(each, (Conv2d, Dense)) and after[1:] == (1, 1)
            inputs[name] = shape if dense else None
    tensors = {**model.parameters, **model.buffers}
    if names is None:
        prefixes = dict.fromkeys(str(name).rpartition(".")[0] for name in state_dict)
        own = inputs.keys() <= prefixes.keys()
        names = dict(zip(inputs, inputs if own else prefixes, strict=False))
    elif not isinstance(names, Mapping) or names.keys() != inputs.keys():
        raise ValueError(f"names: expected {list(inputs)}, got {names!r}")
    left = {
        str(name): value
        for name, value in state_dict.items()
        if not str(name).endswith(".num_batches_tracked")
    }
    found: dict[str, Array] = {}
    for layer, prefix in names.items():
        for part in parts[layer]:
            entry = f"{prefix}.{part}".removeprefix(".")
            wanted = tensors[f"{layer}.{part}"].shape
            if entry not in left:
                value = np.zeros(wanted if part == "bias" else (), np.float32)
            else:
                what = f"state_dict: {entry}"
                value = _float32(what, _from_tensor(what, left[entry]))
                if part == "running_var" and (value < 0).any():
                    raise ValueError(f"{what}: expected no negative variance")
            whole_input = inputs[layer]
            if value.shape == wanted or (
                whole_input and _same_layer(value.shape, wanted, whole_input)
            ):
                left.pop(entry, None)
                found[f"{layer}.{part}"] = value.reshape(wanted)
    if left or found.keys() != tensors.keys():
        expected = {name: value.shape for name, value in tensors.items()}
        given = {
            str(name): tuple(getattr(value, "shape", ()))
            for name, value in state_dict.items()
        }
        turned = any(
            len(shape) == 2
            and given.get(f"{names.get(name.rpartition('.')[0])}.weight") == shape[::-1]
            for name, shape in expected.items()
        )
        raise ValueError(
            f"state_dict: expected weights and biases like {expected}, got {given}"
            + "; weights of linear layers are (outputs, inputs), these are transposed"
            * turned
        )
    for name, value in found.items():
        tensors[name][...] = value
    model.set_input(stage, (rows, columns), model.classes)
    return model


def _same_layer(given: tuple[int, ...], wanted: tuple[int, ...], before: Shape) -> bool:
    """Whether one weight is that of a dense layer and the other that of a convolution,
    over the same whole input."""
    return {given, wanted} == {(wanted[0], math.prod(before)), (wanted[0], *before)}


def _from_tensor(what: str, value: Any) -> Array:
    """A PyTorch tensor, or what else can be one, as an array."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # NumPy has none
                value = value.float()
        return np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{what}: expected a dense tensor: {error}") from error


def _float32(what: str, array: Array) -> NDArray[np.float32]:
    """The same values as float32, or a TypeError or ValueError."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise TypeError(f"{what}: expected floats, got {array.dtype}")
    with np.errstate(over="ignore"):
        found = np.array(array, np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{what}: expected finite float32, got a NaN or infinity")
    if array.dtype.itemsize > 4 and not np.array_equal(found, array):
        raise ValueError(
            f"{what}: expected values that float32 holds exactly, got {array.dtype} "
            "that it has to round"
        )
    return found


def _shape(shape: object) -> Shape:
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"input_shape: expected (C, H, W), got {shape!r}")
    channels, height, width = (whole("input_shape", size, 1) for size in shape)
    return channels, height, width


def _named(layers: list[Layer], names: list[str], own: bool) -> list[Layer]:
    """The layers with these names, but for those that a Model has to choose: names that
    are empty, too long, or of two layers, or might be those that it chooses."""
    return [
        layer_from_dict({**layer_to_dict(layer), "name": name})
        if 1 <= len(name) <= 64
        and names.count(name) == 1
        and (own or not NUMBERED.fullmatch(name))
        else layer
        for layer, name in zip(layers, names, strict=True)
    ]


def _opset(proto: Any) -> int:
    versions = [
        entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")
    ]
    if len(versions) != 1 or versions[0] < OLDEST_OPSET:
        raise ValueError(f"expected the opset {OLDEST_OPSET} or newer, got {versions}")
    version: int = versions[0]
    return version


def _name(node: Any) -> str:
    """What a message calls a node."""
    name = node.name or (node.output[0] if node.output else "")
    return f"node {name!r} ({node.op_type})"


def _options(node: Any) -> dict[str, Any]:
    value = _onnx().helper.get_attribute_value
    return {attribute.name: value(attribute) for attribute in node.attribute}


def _array(tensor: Any) -> Array:
    onnx = _onnx()
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"expected the values of {tensor.name!r} in the file itself")
    array: Array = onnx.numpy_helper.to_array(tensor)
    return array


def _expect(option: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"{option}: expected {expected}, got {found}")


def _one(option: str, values: list[int]) -> int:
    """The number that all of these are."""
    if len(set(values)) != 1:
        raise ValueError(f"{option}: expected equal numbers, got {values}")
    return values[0]


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX needs onnx: pip install 'lenet5c[onnx]'") from error
    return onnx
