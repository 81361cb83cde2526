"""A model as an ONNX file, for ONNX Runtime and whatever else reads one."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.build import __version__
from lenet5c.files.atomic import write_atomically
from lenet5c.files.model_file import data_name
from lenet5c.graph import Node, lower
from lenet5c.interfaces import Network
from lenet5c.layers import (
    Activation,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)

__all__ = ["OPSET", "export_onnx"]

OPSET = 18
IR_VERSION = 8  # the oldest that goes with the opset: no program has to be newer
INPUT, LOGITS, PROBABILITIES = "images", "logits", "probabilities"


def export_onnx(
    model: Network, path: str | os.PathLike[str], dtype: str | None = None
) -> None:
    """What `Model.export_onnx` does."""
    write_atomically(path, [onnx_bytes(model, dtype)])


def onnx_bytes(model: Network, dtype: str | None = None) -> bytes:
    """The file that `Model.export_onnx` writes."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX needs onnx: pip install 'lenet5c[onnx]'") from error

    model = model.folded()
    stage = model.stage
    if dtype is None:
        dtype = "float32" if model.trained_on_floats else "uint8"
    if dtype not in ("uint8", "float32"):
        raise ValueError(f"dtype: expected 'uint8', 'float32' or None, got {dtype!r}")
    if not np.isfinite(model.state_vector).all():
        raise ValueError("model: expected finite parameters, got a NaN or infinity")
    graph = _Graph(model)
    graph.add_input_stage(model, dtype)
    lowered = lower(model.layers, model.input_shape, fuse=False, flatten="always")
    for node in lowered.nodes:
        graph.add_node(node)
    graph.add_outputs()
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    size = (model.input_shape[0], *model.source)
    logits = ("N", model.class_count)
    described = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "lenet5c",
            [onnx.helper.make_tensor_value_info(INPUT, element, ("N", *size))],
            [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, logits)
                for name in (LOGITS, PROBABILITIES)
            ],
            [
                onnx.numpy_helper.from_array(value, name)
                for name, value in graph.constants.items()
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lenet5c",
        producer_version=__version__,
        doc_string=(
            f"{INPUT}: {dtype} (N, {', '.join(map(str, size))})"
            + (", 0 to 255" if dtype == "uint8" else "")
            + f". {LOGITS} and {PROBABILITIES}: float32 (N, {model.class_count}), in "
            "the order of the metadata's classes."
        ),
    )
    metadata = {
        "version": __version__,
        "classes": json.dumps(model.classes.tolist()),
        "input_stage": json.dumps(
            {
                "mean": stage.mean,
                "deviation": stage.deviation,
                "background": stage.background,
                "fitted": model.fitted,
                "pixels": stage.pixels,
            }
        ),
        "trained_on": json.dumps(data_name(model)),
    }
    onnx.helper.set_model_props(described, metadata)
    onnx.checker.check_model(described, full_check=True)
    content: bytes = described.SerializeToString(deterministic=True)
    return content


class _Graph:
    """Nodes and constants, as they are added one after the other.

    A node that is a layer has the layer's name, all others have none.
    """

    def __init__(self, model: Network) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {**model.parameters, **model.buffers}
        self._tensor = INPUT  # what the next node reads
        self._flat = False  # whether that is (N, features), else (N, C, H, W)
        self._maps: list[tuple[str, bool]] = []  # by map, the same two
        self._taken = {INPUT, LOGITS, PROBABILITIES, *self.constants}

    def add_input_stage(self, model: Network, dtype: str) -> None:
        """Add what turns images into the network's input."""
        *of_bytes, background, scale, offset = map(np.float32, model.stage.for_core())
        if dtype == "uint8":
            self._add("Cast", "float", to=1)  # FLOAT
            scale, offset = of_bytes
        if dtype == "uint8" or model.stage.pixels == "bytes":
            self._add("Mul", "scaled", {"scale": scale})
            self._add("Add", "normalised", {"offset": offset})
        _, *size = model.input_shape
        room = np.subtract(size, model.source)
        if room.any():
            ends = [0, 0, *room // 2], [0, 0, *room - room // 2]
            pads = np.concatenate(ends, dtype=np.int64)
            self._add("Pad", "centred", {"pads": pads, "background": background})
        self._maps = [(self._tensor, self._flat)]

    def add_node(self, node: Node) -> None:
        """Add a layer."""
        inputs = []
        for source in node.sources:
            self._tensor, self._flat = self._maps[source]
            if isinstance(node.layer, (Dense, RadialBasis)):
                self._flatten()
            elif self._flat and not isinstance(node.layer, (Activation, Flatten)):
                shape = np.array([0, *node.input_shape], np.int64)
                self._add("Reshape", "map", {"shape": shape})
                self._flat = False
            inputs.append(self._tensor)
        if isinstance(node.layer, Flatten):
            self._flatten(node.name)
        elif isinstance(node.layer, ScaledTanh):
            self._tensor = inputs[0]
            self._scaled_tanh(node.name)
        elif isinstance(node.layer, RadialBasis):
            self._distances(node.name)
        else:
            operator, attributes = _operator(node.layer)
            if isinstance(node.layer, Subsampling2d):
                self._spread(node.name, *node.layer.window(node.input_shape).kernel)
                attributes["group"] = node.input_shape[0]
            shape_of = (node.layer.parameter_shapes, node.layer.buffer_shapes)
            parts = [part for shapes in shape_of for part in shapes(node.input_shape)]
            parameters = [f"{node.name}.{part}" for part in parts]
            self._tensor = inputs[0]
            self._node(
                operator, [*inputs[1:], *parameters], node.name, node.name, attributes
            )
        self._maps.append((self._tensor, self._flat))

    def add_outputs(self) -> None:
        """Call what comes last the logits, and add the probabilities."""
        self._flatten()
        self.nodes[-1].output[0] = self._tensor = LOGITS
        self._node("Softmax", [], PROBABILITIES, "", {"axis": 1})
        self.nodes[-1].output[0] = PROBABILITIES

    def _flatten(self, name: str = "") -> None:
        if name or not self._flat:
            self._node("Flatten", [], name or "flat", name, {"axis": 1})
        self._flat = True

    def _spread(self, name: str, rows: int, columns: int) -> None:
        """Make kernels of one channel each of the weights of a subsampling."""
        weight = self.constants[f"{name}.weight"]
        kernels = weight[:, None, None, None].repeat(rows, 2).repeat(columns, 3)
        self.constants[f"{name}.weight"] = kernels

    def _scaled_tanh(self, name: str) -> None:
        """Add three nodes, as no operator is this layer; each is named, unlike those of
        the input stage."""
        slope, amplitude = self._free(f"{name}.slope"), self._free(f"{name}.amplitude")
        self.constants[slope] = np.asarray(ScaledTanh.slope, np.float32)
        self.constants[amplitude] = np.asarray(ScaledTanh.amplitude, np.float32)
        self._node("Mul", [slope], f"{name}.scaled", f"{name}.slope", {})
        self._node("Tanh", [], f"{name}.tanh", f"{name}.tanh", {})
        self._node("Mul", [amplitude], name, name, {})

    def _distances(self, name: str) -> None:
        """Minus the squared ones from the codes, as PyTorch exports them."""
        self._inside(name, "Unsqueeze", np.array([1], np.int64))
        self._node("Sub", [f"{name}.codes"], name, name, {})
        self._inside(name, "Pow", np.float32(2))
        self._inside(name, "ReduceSum", np.array([2], np.int64), keepdims=0)
        self._inside(name, "Neg")

    def _inside(
        self,
        layer: str,
        operator: str,
        constant: NDArray[Any] | np.float32 | None = None,
        **attributes: int,
    ) -> None:
        """Add a part of a layer, which has the layer's name in that of its output."""
        names = []
        if constant is not None:
            names = [self._free(f"{layer}.{operator}.constant")]
            self.constants[names[0]] = np.asarray(constant)
        self._node(operator, names, f"{layer}.{operator}", "", attributes)

    def _add(
        self,
        operator: str,
        output: str,
        constants: Mapping[str, NDArray[Any] | np.float32] | None = None,
        **attributes: int,
    ) -> None:
        """Add a node that is no layer, and what it reads besides."""
        names = []
        for name, value in (constants or {}).items():
            names.append(self._free(f"{INPUT}.{name}"))
            self.constants[names[-1]] = np.asarray(value)
        self._node(operator, names, f"{INPUT}.{output}", "", attributes)

    def _node(
        self,
        operator: str,
        constants: list[str],
        output: str,
        name: str,
        attributes: Mapping[str, Any],
    ) -> None:
        from onnx.helper import make_node

        output = self._free(output)
        inputs = [self._tensor, *constants]
        self.nodes.append(make_node(operator, inputs, [output], name, **attributes))
        self._tensor = output

    def _free(self, name: str) -> str:
        """The name, changed if a tensor already has it."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _operator(layer: Layer) -> tuple[str, dict[str, Any]]:
    """The ONNX operator of a layer, and its attributes."""
    match layer:
        case Conv2d() | Subsampling2d():
            return "Conv", _window(layer)
        case Dense():
            return "Gemm", {"transB": 1}
        case AvgPool2d():
            return "AveragePool", _window(layer)
        case MaxPool2d():
            return "MaxPool", _window(layer)
        case GlobalAvgPool2d():
            return "GlobalAveragePool", {}
        case BatchNorm2d():
            return "BatchNormalization", {"epsilon": layer.eps}
        case Residual():
            return "Add", {}
        case Tanh():
            return "Tanh", {}
        case ReLU():
            return "Relu", {}
        case Sigmoid():
            return "Sigmoid", {}
        case LeakyReLU():
            return "LeakyRelu", {"alpha": layer.slope}
    raise TypeError(
        f"{layer.name}: expected a layer that ONNX has, got the kind {layer.kind!r}"
    )


def _window(layer: Conv2d | Subsampling2d | AvgPool2d | MaxPool2d) -> dict[str, Any]:
    kernel, stride, padding = layer.window((0, 0, 0))
    pads = {"pads": [padding] * 4} if padding or isinstance(layer, Conv2d) else {}
    return {"kernel_shape": kernel, "strides": [stride] * 2} | pads
