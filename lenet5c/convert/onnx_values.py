"""ONNX files as they are read: valid, of a bounded size, and their constants."""

import math
import os
import re
import stat
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import whole
from lenet5c.files.container import FileFormatError
from lenet5c.layers.base import Shape
from lenet5c.parameters import MAX_PARAMETERS

Array = NDArray[Any]

# what a file that is no network of ours may lead to
ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError)
OLDEST_OPSET = 9
MAX_FILE_BYTES = 8 * MAX_PARAMETERS
MAX_SHAPE_VALUES = 16  # in what is computed to say a shape
INTEGERS = ("int32", "int64")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")
BATCH = -(1 << 30)  # stands for N where a shape is computed; an int32 too
SAME_VALUES = ("Cast", "Reshape", "Squeeze", "Unsqueeze")  # of any constant
OF_SHAPES = (
    *SAME_VALUES,
    *("Concat", "Constant", "ConstantOfShape", "Gather", "Slice"),
    *ARITHMETIC,
)


def content(file: BinaryIO, name: str, offset: int = 0, length: int = -1) -> bytes:
    """`length` bytes of a file that is not too long, -1 for all."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise FileFormatError(f"{name}: expected a regular file")
    if found.st_size > MAX_FILE_BYTES:
        raise FileFormatError(
            f"{name}: expected at most {MAX_FILE_BYTES} bytes, got {found.st_size}"
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


def parsed(content: bytes, path: str) -> Any:
    """The ONNX model, all tensors in it, once the onnx package finds it valid."""
    onnx = onnx_package()
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
            if total > MAX_FILE_BYTES:
                raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes of tensors")
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
        tensor.raw_data = content(file, name, offset, length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


class Values:
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
        options = options_of(node)
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
            raise ValueError(f"expected a constant, got what {describe(node)} computes")

        from onnx.reference import ReferenceEvaluator

        inputs = {name: self[name] for name in node.input if name}
        for position, value in enumerate(inputs.values()):
            if position == 0 and operator in SAME_VALUES:
                continue  # as large as it was
            numbers = value.ravel()[: MAX_SHAPE_VALUES + 1].tolist()
            if value.dtype.name not in INTEGERS or value.size > MAX_SHAPE_VALUES:
                raise ValueError(f"expected a shape, got {value.size} {value.dtype}")
            if operator in (*ARITHMETIC, "ConstantOfShape") and BATCH in numbers:
                raise ValueError("expected a shape that does not compute with N")
            if operator == "ConstantOfShape" and math.prod(numbers) > MAX_SHAPE_VALUES:
                raise ValueError(f"expected a shape, got one of the shape {numbers}")
        found: Any = ReferenceEvaluator(node, opsets={"": self.opset}).run(None, inputs)
        return np.asarray(found[0])

    def of(self, node: Any, position: int, attribute: str) -> Array | None:
        """What newer opsets have as an input and older ones as an attribute."""
        if len(node.input) > position and node.input[position]:
            return self[node.input[position]]
        value = options_of(node).get(attribute)
        return None if value is None else np.asarray(value)


def as_shape(shape: object) -> Shape:
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ValueError(f"input_shape: expected (C, H, W), got {shape!r}")
    channels, height, width = (whole("input_shape", size, 1) for size in shape)
    return channels, height, width


def opset(proto: Any) -> int:
    versions = [
        entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")
    ]
    if len(versions) != 1 or versions[0] < OLDEST_OPSET:
        raise ValueError(f"expected the opset {OLDEST_OPSET} or newer, got {versions}")
    version: int = versions[0]
    return version


def describe(node: Any) -> str:
    """What a message calls a node."""
    name = node.name or (node.output[0] if node.output else "")
    return f"node {name!r} ({node.op_type})"


def options_of(node: Any) -> dict[str, Any]:
    value = onnx_package().helper.get_attribute_value
    return {attribute.name: value(attribute) for attribute in node.attribute}


def _array(tensor: Any) -> Array:
    onnx = onnx_package()
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"expected the values of {tensor.name!r} in the file itself")
    array: Array = onnx.numpy_helper.to_array(tensor)
    return array


def onnx_package() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX needs onnx: pip install 'lenet5c[onnx]'") from error
    return onnx
