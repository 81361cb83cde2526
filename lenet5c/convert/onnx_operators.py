"""What each operator of an ONNX graph is here: a function that a path goes through.

To read another activation, add a line to `ACTIVATIONS`; for another operator, a
function and a line to `OPERATORS`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c.convert.onnx_path import Path
from lenet5c.convert.onnx_values import (
    ARITHMETIC,
    BATCH,
    as_shape,
    onnx_package,
    options_of,
)
from lenet5c.convert.weights import EXACT_EPS, affine, to_float32
from lenet5c.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)
from lenet5c.parameters import MAX_PARAMETERS

__all__ = ["HINTS", "OPERATORS"]

Array = NDArray[Any]
Options = Mapping[str, Any]

ONE_OF_BOTH = "rows and columns are treated alike: train with one number for both"
SQUARE = "pooling windows are square: train with such"
LOWEST = -1e30  # no value of a map is as low
# A float input that is multiplied with less than this before the first layer has pixels
# from 0 to 255, as after Keras's Rescaling(1 / 255): bytes are taken as they are.
MIN_SCALE_OF_SHARES = 1 / 16

# Element by element: the layer of an operator with these attributes.
ACTIVATIONS: dict[str, Callable[[Options], Layer]] = {
    "Relu": lambda _: ReLU(),
    "LeakyRelu": lambda options: LeakyReLU(_decimal(options.get("alpha", 0.01))),
    "Sigmoid": lambda _: Sigmoid(),
    "Tanh": lambda _: Tanh(),
}

# What to do where an operator is not read.
_ACTIVATE = "train with the activations that lenet5c has"
_NO_PROBABILITY = "export the network without what follows its logits"
HINTS = {
    **dict.fromkeys(
        (
            *("Elu", "Celu", "Selu", "PRelu", "ThresholdedRelu", "Mish"),
            *("Gelu", "Erf", "HardSigmoid", "HardSwish", "Softplus", "Softsign"),
        ),
        _ACTIVATE,
    ),
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


def _conv(path: Path, node: Any) -> None:
    path.expect_map()
    options = options_of(node)
    weight = to_float32("weight", path.graph.values[node.input[1]])
    if weight.ndim != 4:
        raise ValueError(f"expected a weight (F, C, KH, KW), got {weight.shape}")
    filters, channels, *kernel = weight.shape
    groups = options.get("group", 1)
    if groups < 1 or channels * groups != path.shape[0] or filters % groups:
        raise ValueError(
            f"expected weights of {path.shape[0]} channels in groups, got {groups} "
            f"of {channels} channels for {filters} filters"
        )
    _expect("kernel_shape", options.get("kernel_shape", kernel), kernel)
    dilations = options.get("dilations", [1, 1])
    stride = _one("strides", options.get("strides", [1, 1]))
    sizes = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _all_pads(path, options, sizes, stride)
    if path.pad_value != 0:
        path.expect_no_pads()
    path.pads, path.pad_value = [0, 0, 0, 0], 0.0
    own = path.graph.own and "group" in options
    alike = (weight == weight[..., :1, :1]).all() and not any(pads)
    if alike and filters == groups and (groups > 1 or own) and sizes == kernel[:1] * 2:
        bias = np.zeros(filters, np.float32)
        if len(node.input) > 2 and node.input[2] != "":
            bias = to_float32("bias", path.graph.values[node.input[2]])
        subsampling = Subsampling2d(kernel[0], stride)
        path.add_layer(node, subsampling, weight=weight[:, 0, 0, 0], bias=bias)
        path.dims = path.shape
        return
    weight = _spread(weight, groups, dilations, pads)
    parameters = {"weight": weight}
    if has_bias := len(node.input) > 2 and node.input[2] != "":
        parameters["bias"] = to_float32("bias", path.graph.values[node.input[2]])
    layer = Conv2d(
        *(filters, weight.shape[2:]),
        stride=stride,
        padding=max(pads),
        bias=has_bias,
    )
    path.add_layer(node, layer, **parameters)
    path.dims = path.shape


def _all_pads(path: Path, options: Options, sizes: list[int], stride: int) -> list[int]:
    """Zeros above, left, below and right of a map, for windows of these sizes."""
    automatic = options.get("auto_pad", b"NOTSET")
    pads = list(options.get("pads", [0, 0, 0, 0]))
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        less, more = [], []
        for axis, size in enumerate(sizes):
            side = path.shape[axis + 1] + path.pads[axis] + path.pads[axis + 2]
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
    return [one + other for one, other in zip(pads, path.pads, strict=True)]


def _gemm(path: Path, node: Any) -> None:
    options = options_of(node)
    values = path.graph.values
    if options.get("transA", 0):
        raise ValueError("transA: expected 0, since images are rows, got 1")
    weight = to_float32("weight", values[node.input[1]])
    weight = weight * np.float32(options.get("alpha", 1.0))
    _dense(path, node, weight if options.get("transB", 0) else weight.T)
    if len(node.input) > 2 and node.input[2]:
        bias = to_float32("bias", values[node.input[2]])
        path.add_bias(bias * np.float32(options.get("beta", 1.0)))


def _matmul(path: Path, node: Any) -> None:
    weight = to_float32("weight", path.graph.values[node.input[1]])
    _dense(path, node, weight.T)


def _dense(path: Path, node: Any, weight: Array) -> None:
    if len(path.dims) != 1 or weight.ndim != 2:
        raise ValueError(
            f"expected (N, features) and a matrix, got {('N', *path.dims)} and "
            f"{weight.shape}; flatten the map before it"
        )
    if weight.shape[1] == path.dims[0]:
        weight = path.unturned(weight)
    bias = np.zeros(len(weight), np.float32)
    path.add_layer(node, Dense(len(weight)), weight=weight, bias=bias)
    path.dims, path.turned = path.shape[:1], None


def _batch_norm(path: Path, node: Any) -> None:
    options = options_of(node)
    if options.get("training_mode", 0):
        raise ValueError("training_mode: expected 0; export after network.eval()")
    if path.dims[0] != path.shape[0] or (path.turned and len(path.dims) > 1):
        raise ValueError(
            f"expected a map (N, C, H, W) or (N, C), got {('N', *path.dims)}"
        )
    layer = BatchNorm2d(
        momentum=float(f"{1 - options.get('momentum', 0.9):.6g}"),
        eps=float(f"{options.get('epsilon', 1e-5):.7g}"),
    )
    parts = ("weight", "bias", "running_mean", "running_var")
    parameters = {
        part: to_float32(part, path.graph.values[name])
        for part, name in zip(parts, node.input[1:5], strict=True)
    }
    if (parameters["running_var"] < 0).any():
        raise ValueError("expected no negative variance")
    if all(value.shape == path.shape[:1] for value in parameters.values()):
        parameters = {part: path.unturned(v) for part, v in parameters.items()}
    path.add_layer(node, layer, **parameters)


def _pool(path: Path, node: Any) -> None:
    path.expect_map()
    options = options_of(node)
    sizes = options["kernel_shape"]
    is_max = node.op_type == "MaxPool"
    if not is_max and tuple(sizes) == path.shape[1:] != (1, 1):
        sides = path.shape[1:]
        if sides[0] != sides[1] and not any(options.get("pads", [])):
            _global_pool(path, node)
            return
    size = _one("kernel_shape", sizes, SQUARE)
    stride = _one("strides", options.get("strides", [1, 1]))
    _expect("dilations", options.get("dilations", [1, 1]), [1, 1])
    pads = _all_pads(path, options, [size, size], stride)
    sides = (path.shape[1] + pads[0] + pads[2], path.shape[2] + pads[1] + pads[3])
    if options.get("ceil_mode", 0) and any((n - size) % stride for n in sides):
        raise ValueError(
            "expected ceil_mode 0, got 1 and windows that stick out; train with "
            "ceil_mode=False, or with images of a size that windows cover"
        )
    if is_max:
        padding = _one("pads", pads, "train with the same padding on all sides")
        relu = bool(path.layers) and isinstance(path.layers[-1], ReLU)
        if path.pad_value > (0 if relu else LOWEST):
            path.expect_no_pads()
        path.pads, path.pad_value = [0, 0, 0, 0], 0.0
        path.add_layer(node, MaxPool2d(size, stride, padding))
    else:
        if any(pads):
            raise ValueError(
                f"pads: expected {[0] * 4}, got {pads}; average pooling has no "
                "padding: train without it, or with maximum pooling"
            )
        path.add_layer(node, AvgPool2d(size, stride))
    path.dims = path.shape


def _global_pool(path: Path, node: Any) -> None:
    path.expect_map()
    _, height, width = path.shape
    layer: Layer = GlobalAvgPool2d()
    if node.op_type == "GlobalMaxPool":
        size = _one("map", [height, width], SQUARE)
        layer = MaxPool2d(size)
    path.add_layer(node, layer)
    path.dims = path.shape


def _reduce_mean(path: Path, node: Any) -> None:
    """The mean of each channel, whatever shape its places have."""
    axes = _axes(path, node)
    rest = {1} if path.dims[0] == path.shape[0] and not path.turned else set()
    if path.is_turned_map():
        rest = {3}
    wanted = set(range(1, len(path.dims) + 1)) - rest
    if not rest or set(axes) != wanted:
        raise ValueError(
            f"axes: expected {sorted(wanted)}, rows and columns, got {axes}; the "
            "mean of a map is that of both"
        )
    kept = options_of(node).get("keepdims", 1)
    path.add_layer(node, GlobalAvgPool2d())
    dims = [
        path.shape[0] if axis in rest else 1
        for axis in range(1, len(path.dims) + 1)
        if kept or axis in rest
    ]
    path.dims, path.turned = tuple(dims), None


def _activation(path: Path, node: Any) -> None:
    path.add_layer(node, ACTIVATIONS[node.op_type](options_of(node)))


def _decimal(value: float) -> float:
    """The shortest number that is this one in float32, as which ONNX has it."""
    return float(str(np.float32(value)))


def _clip(path: Path, node: Any) -> None:
    of = path.graph.values.of
    ends = [of(node, 1, "min"), of(node, 2, "max")]
    least, most = (None if end is None else float(end.item()) for end in ends)
    if least != 0 or (most is not None and most < -LOWEST):
        raise ValueError(
            f"expected a minimum of 0 and no maximum, which is a ReLU, got {least} "
            f"and {most}; train with ReLU in place of ReLU6 and the like"
        )
    path.add_layer(node, ReLU())


def _dropout(path: Path, node: Any) -> None:
    values = path.graph.values
    if len(node.input) > 2 and node.input[2] and values[node.input[2]].any():
        raise ValueError(
            "training_mode: expected false, got true; export after network.eval()"
        )
    rate = values.of(node, 1, "ratio")
    path.add_layer(node, Dropout(0.5 if rate is None else rate.item()))


def _flatten(path: Path, node: Any) -> None:
    axis = options_of(node).get("axis", 1)
    if axis not in (1, -len(path.dims)):
        raise ValueError(f"axis: expected 1, got {axis}")
    path.become(node, (math.prod(path.dims),))


def _reshape(path: Path, node: Any) -> None:
    shape = path.graph.values[node.input[1]]
    if shape.dtype != np.int64:
        raise TypeError(f"shape: expected int64, got {shape.dtype}")
    target = shape.ravel().tolist()
    copied = not options_of(node).get("allowzero", 0)  # 0 is the size that it had
    count = math.prod(path.dims)
    first, *rest = target or [0]
    for position, size in enumerate(rest):
        if size == 0 and copied and position < len(path.dims):
            rest[position] = path.dims[position]
    known = (BATCH, -1, path.batch, *[0] * copied)
    given = math.prod(size for size in rest if size != -1)
    if rest.count(-1) == 1 and first != -1 and given > 0:
        rest[rest.index(-1)] = count // given
    if first not in known or math.prod(rest) != count or min(rest, default=0) < 1:
        shown = ["N" if size == BATCH else size for size in target]
        raise ValueError(
            f"expected a shape (N, ...) of {count} numbers an image, got {shown}"
        )
    path.become(node, tuple(rest))


def _squeeze(path: Path, node: Any) -> None:
    axes = _axes(path, node)
    if any(path.dims[axis - 1] != 1 for axis in axes):
        raise ValueError(f"expected axes of size 1, got {axes}")
    dims = [dim for axis, dim in enumerate(path.dims, 1) if axis not in axes]
    path.become(node, tuple(dims))


def _unsqueeze(path: Path, node: Any) -> None:
    dims = list(path.dims)
    for axis in _axes(path, node, new=True):
        dims.insert(axis - 1, 1)
    path.become(node, tuple(dims))


def _axes(path: Path, node: Any, *, new: bool = False) -> list[int]:
    """Axes of the tensor, or of the new one, without N and in order."""
    found = path.graph.values.of(node, 1, "axes")
    axes = [] if found is None else found.ravel().tolist()
    rank = len(path.dims) + 1 + len(axes) * new
    if not axes or not all(-rank < axis < rank and axis for axis in axes):
        raise ValueError(f"axes: expected some from 1 to {rank - 1}, got {axes}")
    counted = sorted({axis % rank for axis in axes})
    if len(counted) < len(axes):
        raise ValueError(f"axes: expected different ones, got {axes}")
    return counted


def _transpose(path: Path, node: Any) -> None:
    rank = len(path.dims) + 1
    order = list(options_of(node).get("perm", range(rank)[::-1]))
    if sorted(order) != list(range(rank)) or order[0] != 0:
        raise ValueError(f"perm: expected images to stay first, got {order}")
    dims = tuple(path.dims[axis - 1] for axis in order[1:])
    moved = [axis for axis in order[1:] if path.dims[axis - 1] > 1]
    if moved == sorted(moved):
        path.become(node, dims)
    elif order == [0, 2, 3, 1] and path.is_map():
        path.dims = dims
        path.turn(path.shape)
    elif order == [0, 3, 1, 2] and path.is_turned_map():
        path.dims, path.turned = dims, None
    else:
        raise ValueError(
            "perm: expected channels to become last, [0, 2, 3, 1], or first again, "
            f"[0, 3, 1, 2], got {order}"
        )


def _softmax(path: Path, node: Any) -> None:
    axis = options_of(node).get("axis", 1 if path.graph.opset < 13 else -1)
    if axis not in (1, -len(path.dims)) or path.dims[0] != math.prod(path.dims):
        raise ValueError(
            f"expected the axis 1 of (N, classes), got {axis} of {('N', *path.dims)}"
        )
    if path.ended:
        raise ValueError("expected nothing after a Softmax")
    path.ended = True


def _nothing(path: Path, node: Any) -> None:
    """Take a node that changes nothing."""


def _cast(path: Path, node: Any) -> None:
    types = onnx_package().TensorProto
    target = options_of(node)["to"]
    if target not in (types.FLOAT, types.DOUBLE):
        raise ValueError(
            "expected a cast to float32 or float64, got "
            f"{types.DataType.Name(target)}; export the network in float32"
        )
    path.graph.stage.cast = True


def _arithmetic(path: Path, node: Any) -> None:
    """Take a constant that maps are multiplied with or shifted by."""
    stage, operator = path.graph.stage, node.op_type
    if stage.of_bytes and not stage.cast:
        raise ValueError("expected a cast of the bytes to floats before it")
    path.expect_no_pads()
    here = list(node.input).index(path.tensor)
    value = path.graph.values[node.input[1 - here]]
    if operator == "Sub" and not here and (behind := _squared(path, node, value)):
        _radial_basis(path, node, value, behind)
        return
    if here and operator == "Div":
        raise ValueError("expected the images before the constant, got 1 / x")
    if operator == "Div" and not value.all():
        raise ValueError("expected a divisor that is not 0")
    last = path.layers[-1] if path.layers else None
    if operator == "Add" and isinstance(last, (Conv2d, Dense)):
        path.add_bias(to_float32("bias", value))
        return
    if operator == "Mul" and _ends_scaled_tanh(path, value):
        del path.layers[-2:], path.parameters[-2:]
        path.add_layer(node, ScaledTanh())
        return
    exact = value.astype(np.float64)
    scale, offset = np.ones(1), np.zeros(1)
    if operator in ("Mul", "Div"):
        scale = exact if operator == "Mul" else 1 / exact
    else:
        scale = -scale if here and operator == "Sub" else scale
        offset = -exact if operator == "Sub" and not here else exact
    first = not path.layers and not path.depth and stage.pad is None
    one = value.size == 1 and value.ndim <= len(path.dims) + 1
    named = path.graph.own and node.name  # as layers are in a file of lenet5c
    if first and one and (stage.of_bytes or path.graph.own) and not named:
        stage.scale = float(stage.scale * scale.item())
        stage.offset = float(stage.offset * scale.item() + offset.item())
        return
    scales, offsets = path.of_channels(scale), path.of_channels(offset)
    if path.affine is not None:
        before = path.affine
        scales, offsets = before[0] * scales, before[1] * scales + offsets
        path.layers.pop()
        path.parameters.pop()
    path.add_layer(node, BatchNorm2d(eps=EXACT_EPS), **affine(scales, offsets))
    path.affine = scales, offsets
    if len(path.layers) == 1 and not path.depth and not stage.of_bytes:
        stage.of_255 = bool((np.abs(scales) < MIN_SCALE_OF_SHARES).all())


def _ends_scaled_tanh(path: Path, amplitude: Array) -> bool:
    """Whether the two nodes before are the rest of it, as `export_onnx` writes it."""
    if [type(layer) for layer in path.layers[-2:]] != [BatchNorm2d, Tanh]:
        return False
    found = path.parameters[-2]
    count = len(found["weight"])
    slope = np.full(count, ScaledTanh.slope, np.float32)
    wanted = affine(slope, np.zeros(count))
    alike = [np.array_equal(found[part], wanted[part]) for part in wanted]
    return all(alike) and bool((amplitude == np.float32(ScaledTanh.amplitude)).all())


def _squared(path: Path, node: Any, codes: Array) -> list[Any]:
    """The three nodes behind the Sub of - sum over j of (x[j] - codes[i, j])^2; none if
    it is something else."""
    if codes.ndim != 2 or path.dims != (1, codes.shape[1]):
        return []
    behind = []
    for operator in ("Pow", "ReduceSum", "Neg"):
        readers = path.graph.readers.get(node.output[0], [])
        if len(readers) != 1 or readers[0].op_type != operator:
            return []
        node = readers[0]
        behind.append(node)
    return behind


def _radial_basis(path: Path, node: Any, codes: Array, behind: list[Any]) -> None:
    power, total, _ = behind
    values = path.graph.values
    exponent, axes = values[power.input[1]], values.of(total, 1, "axes")
    _expect("the exponent", exponent.ravel().tolist(), [2])
    last = [] if axes is None else [axis % 3 for axis in axes.ravel().tolist()]
    _expect("axes", last, [2])
    _expect("keepdims", options_of(total).get("keepdims", 1), 0)
    path.graph.of_distances.update(each.output[0] for each in behind)
    codes = to_float32("codes", path.unturned(codes))
    path.add_layer(node, RadialBasis(len(codes)), codes=codes)
    path.dims, path.turned = (len(codes),), None


def _of_distances(path: Path, node: Any) -> None:
    """Take a node that belongs to a `RadialBasis`."""
    if node.output[0] not in path.graph.of_distances:
        raise ValueError(
            "expected it in - sum over j of (x[j] - codes[i, j])^2 alone: Unsqueeze, "
            "Sub, Pow, ReduceSum, Neg, which are RadialBasis"
        )


def _pad(path: Path, node: Any) -> None:
    stage = path.graph.stage
    _expect("mode", options_of(node).get("mode", b"constant"), b"constant")
    if len(node.input) > 3 and node.input[3]:
        raise ValueError("axes: expected none")
    if stage.of_bytes and not stage.cast:
        raise ValueError("expected a cast of the bytes to floats before it")
    found, value = (
        path.graph.values.of(node, position, attribute)
        for position, attribute in ((1, "pads"), (2, "value"))
    )
    pads = [] if found is None else found.ravel().tolist()
    if len(pads) != 8 or min(pads) < 0:
        raise ValueError(f"pads: expected 8 numbers from 0 on, got {pads}")
    if not path.is_turned_map():
        path.expect_map()
    rows, columns = (1, 2) if path.turned else (2, 3)
    top, left = pads[rows], pads[columns]
    bottom, right = pads[rows + 4], pads[columns + 4]
    if sum(pads) != top + left + bottom + right:
        raise ValueError(f"pads: expected rows and columns alone, got {pads}")
    amount = 0.0 if value is None else float(value.item())
    centred = bottom - top in (0, 1) and right - left in (0, 1)
    first = not path.layers and not path.depth and stage.pad is None
    if first and centred and not path.turned:
        channels, height, width = path.shape
        stage.pad = amount
        path.shape = as_shape((channels, height + top + bottom, width + left + right))
        path.dims = path.input_shape = path.shape
        return
    if any(path.pads) and amount != path.pad_value:
        path.expect_no_pads()
    more = (top, left, bottom, right)
    path.pads = [one + other for one, other in zip(path.pads, more, strict=True)]
    path.pad_value = amount


OPERATORS: dict[str, Callable[[Path, Any], None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce_mean,
    **dict.fromkeys(ACTIVATIONS, _activation),
    "Clip": _clip,
    "Dropout": _dropout,
    "Identity": _nothing,
    "Cast": _cast,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Pad": _pad,
    **dict.fromkeys(("Pow", "ReduceSum", "Neg"), _of_distances),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    **dict.fromkeys(ARITHMETIC, _arithmetic),
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
    if math.prod(shape) > MAX_PARAMETERS:
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


def _expect(option: str, found: object, expected: object) -> None:
    if found != expected:
        raise ValueError(f"{option}: expected {expected}, got {found}")


def _one(option: str, values: list[int], why: str = ONE_OF_BOTH) -> int:
    """The number that all of these are."""
    if len(set(values)) != 1:
        raise ValueError(f"{option}: expected equal numbers, got {values}; {why}")
    return values[0]
