"""What a layer is: its sizes and its parameters. No arithmetic; that is the core's.

To add a layer: a class below that says its `kind`, its output shape and its parameters,
its name in `LAYERS`, and a kernel of that kind in core/network.pyx.

Shapes are (C, H, W): channels, rows, columns. After `Flatten` a map is (features, 1,
1).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from inspect import signature
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lenet5c.checks import both, number, pair, truth, whole
from lenet5c.habits import did_you_mean, explained

__all__ = [
    "LAYERS",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "MaxPool2d",
    "ReLU",
    "Residual",
    "Tanh",
    "initialise",
    "layer_from_dict",
    "layer_to_dict",
    "walk",
]

Shape = tuple[int, int, int]
MOST_NESTED = 8  # `Residual` layers inside of each other in a model file


class Layer:
    """Base of all layers, each a frozen dataclass of its options.

    `name` is what parameters and activations are found by.
    """

    name: str | None
    kind: ClassVar[str] = ""
    arithmetic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.name is None:
            return
        if not isinstance(self.name, str):
            raise TypeError(f"name: expected a text or None, got {self.name!r}")
        if not 1 <= len(self.name) <= 64:
            raise ValueError(f"name: expected 1 to 64 characters, got {self.name!r}")

    def output_shape(self, shape: Shape) -> Shape:
        """Output shape for an input of `shape`; ValueError if that is too small."""
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, in the order of the flat vector."""
        return {}

    def buffer_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        """Shapes of what training measures and no optimizer changes, likewise."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-adds of the forward pass of one image."""
        return 0


@explained
@dataclass(frozen=True)
class Conv2d(Layer):
    """Convolution (cross-correlation, as everywhere in this field).

    Parameters
    ----------
    filters : int
        Channels of the output.
    kernel_size : int or (int, int)
        Rows and columns of the kernel.
    stride : int
        Step in both directions.
    padding : int
        Zeros on all four sides.
    bias : bool
        Whether a number is added to each channel of the output. A batch normalisation
        that follows takes it away again.
    init : {"glorot", "he", "lecun"} or None
        How the weights start; None chooses by the activation that follows.
    """

    kind: ClassVar[str] = "conv2d"
    filters: int
    kernel_size: int | tuple[int, int]
    _: KW_ONLY
    stride: int = 1
    padding: int = 0
    bias: bool = True
    init: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bias", truth("bias", self.bias))
        object.__setattr__(self, "filters", whole("filters", self.filters, 1))
        kernel = pair("kernel_size", self.kernel_size, 1)
        object.__setattr__(self, "kernel_size", kernel)
        object.__setattr__(self, "stride", both("stride", self.stride, 1))
        padding = _padding(self.padding, kernel, self.stride)
        object.__setattr__(self, "padding", padding)
        _check_init(self.init)

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        assert isinstance(self.kernel_size, tuple)
        return self.kernel_size

    def output_shape(self, shape: Shape) -> Shape:
        _, height, width = shape
        rows, columns = self.kernel
        padded = height + 2 * self.padding, width + 2 * self.padding
        if rows > padded[0] or columns > padded[1]:
            raise ValueError(
                f"{self.name or 'Conv2d'}: kernel {rows}x{columns} is larger than its "
                f"padded input {padded[0]}x{padded[1]}"
            )
        return (
            self.filters,
            (padded[0] - rows) // self.stride + 1,
            (padded[1] - columns) // self.stride + 1,
        )

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (self.filters, shape[0], *self.kernel)
        }
        return shapes | ({"bias": (self.filters,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * shape[0] * math.prod(self.kernel)


@explained
@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: y = weight x + bias, over the flattened input."""

    kind: ClassVar[str] = "dense"
    outputs: int
    _: KW_ONLY
    init: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "outputs", whole("outputs", self.outputs, 1))
        _check_init(self.init)

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs, 1, 1)

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.outputs, math.prod(shape)), "bias": (self.outputs,)}

    def multiply_adds(self, shape: Shape) -> int:
        return self.outputs * math.prod(shape)


class _Pool2d(Layer):
    kernel_size: int
    stride: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        size = both("kernel_size", self.kernel_size, 1)
        stride = size if self.stride is None else both("stride", self.stride, 1)
        object.__setattr__(self, "kernel_size", size)
        object.__setattr__(self, "stride", stride)

    def _pooled(self, shape: Shape, padding: int) -> Shape:
        channels, height, width = shape
        height, width = height + 2 * padding, width + 2 * padding
        size = self.kernel_size
        if size > height or size > width:
            raise ValueError(
                f"{self.name or type(self).__name__}: window {size}x{size} is larger "
                f"than its input {height}x{width}"
            )
        assert self.stride is not None
        return (
            channels,
            (height - size) // self.stride + 1,
            (width - size) // self.stride + 1,
        )


@explained
@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean of square windows; `stride` defaults to the window's size."""

    kind: ClassVar[str] = "avg_pool2d"
    kernel_size: int
    stride: int | None = None
    _: KW_ONLY
    name: str | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return self._pooled(shape, 0)


@explained
@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum of square windows; `stride` defaults to the window's size.

    Parameters
    ----------
    kernel_size : int
    stride : int or None
    padding : int
        Rows and columns on all four sides that are never the maximum; at most half of
        the window.
    """

    kind: ClassVar[str] = "max_pool2d"
    kernel_size: int
    stride: int | None = None
    padding: int = 0
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.stride is not None
        kernel = self.kernel_size, self.kernel_size
        padding = _padding(self.padding, kernel, self.stride)
        object.__setattr__(self, "padding", padding)
        if 2 * self.padding > self.kernel_size:
            raise ValueError(
                f"padding: expected at most half of the window of {self.kernel_size}, "
                f"got {self.padding}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        return self._pooled(shape, self.padding)


@explained
@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool2d(Layer):
    """Mean of each channel, (C, H, W) to (C, 1, 1) (Lin, Chen, Yan 2014)."""

    kind: ClassVar[str] = "global_avg_pool2d"
    name: str | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], 1, 1)


@explained
@dataclass(frozen=True, kw_only=True)
class Tanh(Layer):
    """Hyperbolic tangent, element by element."""

    kind: ClassVar[str] = "tanh"
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class ReLU(Layer):
    """max(0, x), element by element."""

    kind: ClassVar[str] = "relu"
    name: str | None = None


@explained
@dataclass(frozen=True)
class Dropout(Layer):
    """In training, each value is 0 with probability `rate`, and else x / (1 - rate);
    in prediction nothing happens (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        0 <= rate < 1.
    """

    kind: ClassVar[str] = "dropout"
    rate: float
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rate", number("rate", self.rate, 0, 1))


@explained
@dataclass(frozen=True, kw_only=True)
class BatchNorm2d(Layer):
    """Batch normalisation of each channel (Ioffe and Szegedy 2015, algorithm 1).

    y = weight (x - mean) / sqrt(variance + eps) + bias. In training, mean and variance
    (of population, not sample) are those of the channel over the batch, and the running
    ones go towards them: running += momentum (batch - running), there with the sample's
    variance. In prediction they are the running ones, and the layer is folded into a
    convolution or dense layer right before it.

    Parameters
    ----------
    momentum : float
        0 <= momentum < 1.
    eps : float
        0 < eps < 1.
    """

    kind: ClassVar[str] = "batch_norm2d"
    momentum: float = 0.1
    eps: float = 1e-5
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "momentum", number("momentum", self.momentum, 0, 1))
        object.__setattr__(self, "eps", number("eps", self.eps, 0, 1))
        if self.eps == 0:
            raise ValueError("eps: expected 0 < eps < 1, got 0")

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"weight": (shape[0],), "bias": (shape[0],)}

    def buffer_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"running_mean": (shape[0],), "running_var": (shape[0],)}


@explained
@dataclass(frozen=True)
class Residual(Layer):
    """The sum of two branches: y = layers(x) + shortcut(x) (He et al. 2016).

    Parameters
    ----------
    layers : sequence of Layer
    shortcut : sequence of Layer
        None of them is the identity. Both branches have outputs of one shape.
    """

    kind: ClassVar[str] = "residual"
    layers: Sequence[Layer]
    shortcut: Sequence[Layer] = ()
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("layers", "shortcut"):
            branch = getattr(self, argument)
            if not isinstance(branch, (tuple, list)):
                raise TypeError(
                    f"{argument}: expected a sequence of layers, got {branch!r}"
                )
            for layer in branch:
                if not isinstance(layer, Layer):
                    raise TypeError(f"{argument}: expected layers, got {layer!r}")
            object.__setattr__(self, argument, tuple(branch))
        if not self.layers:
            raise ValueError("layers: expected at least one, got none")

    def output_shape(self, shape: Shape) -> Shape:
        shapes = []
        for branch in (self.layers, self.shortcut):
            shapes.append(shape)
            for layer in branch:
                shapes[-1] = layer.output_shape(shapes[-1])
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{self.name or 'Residual'}: expected branches with outputs of one "
                f"shape, got {shapes[0]} and {shapes[1]}"
            )
        return shapes[0]


@explained
@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """(C, H, W) to (C H W, 1, 1), row-major. `Dense` flattens by itself as well."""

    kind: ClassVar[str] = "flatten"
    arithmetic: ClassVar[bool] = False
    name: str | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape), 1, 1)


LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        *(
            Conv2d,
            Dense,
            AvgPool2d,
            MaxPool2d,
            GlobalAvgPool2d,
            Tanh,
            ReLU,
            BatchNorm2d,
        ),
        *(Dropout, Flatten, Residual),
    )
}


# Options that came later, written where they are not this: a network that needs none of
# them has the file that it had before.
ADDED: dict[str, dict[str, Any]] = {
    "conv2d": {"bias": True},
    "max_pool2d": {"padding": 0},
}


def walk(layers: Sequence[Layer], shape: Shape) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Each layer with its input and output shape, those inside of a `Residual` before
    it: its `layers`, then its `shortcut`."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from walk(layer.layers, shape)
            yield from walk(layer.shortcut, shape)
        after = layer.output_shape(shape)
        yield layer, shape, after
        shape = after


def layer_to_dict(layer: Layer) -> dict[str, Any]:
    """A layer as plain values, for the model file and the core."""
    added = ADDED.get(layer.kind, {})
    values: dict[str, Any] = {"kind": layer.kind} | {
        name: value
        for name, value in vars(layer).items()
        if name not in added or value != added[name]
    }
    if isinstance(layer, Residual):
        for branch in ("layers", "shortcut"):
            values[branch] = [layer_to_dict(inner) for inner in values[branch]]
    return values


def layer_from_dict(values: Mapping[str, Any], depth: int = 0) -> Layer:
    """The inverse of `layer_to_dict`; ValueError or TypeError for anything else.

    `depth` is how many `Residual` layers it is inside of.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"layer: expected an object, got {values!r:.80}")
    options = dict(values)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ValueError(f"layer: expected a kind of {', '.join(LAYERS)}, got {kind!r}")
    known = set(signature(LAYERS[kind]).parameters)
    if not known - ADDED.get(kind, {}).keys() <= set(options) <= known:
        raise ValueError(
            f"layer {kind}: expected the options {sorted(known)}, got {sorted(options)}"
        )
    if options["name"] is None:
        raise ValueError(f"layer {kind}: expected a name, got None")
    for branch in ("layers", "shortcut"):
        if isinstance(options.get(branch), list):
            if depth == MOST_NESTED:
                raise ValueError(f"layers: expected {MOST_NESTED} levels at most")
            options[branch] = [
                layer_from_dict(inner, depth + 1) for inner in options[branch]
            ]
    return LAYERS[kind](**options)


def _padding(padding: object, kernel: tuple[int, int], stride: int) -> int:
    """`padding` as a number; TypeError that names the one that a word stands for."""
    if not isinstance(padding, str):
        return both("padding", padding, 0)
    rows, columns = kernel
    hint = ""
    if padding.lower() == "valid":
        hint = "; that is padding=0"
    elif padding.lower() == "same" and rows == columns and rows % 2 == stride == 1:
        hint = f"; for this kernel that is padding={rows // 2}"
    elif padding.lower() == "same":
        hint = "; there is such a number where kernels are odd squares and stride is 1"
    raise TypeError(f"padding: expected a whole number, got {padding!r}{hint}")


def _check_init(init: str | None) -> None:
    names = ("glorot", "he", "lecun")
    if init is not None and init not in names:
        raise ValueError(
            f"init: expected 'glorot', 'he', 'lecun' or None, got {init!r}"
            + did_you_mean(init, names)
        )


def initialise(
    weight: NDArray[np.float32], init: str, generator: "np.random.Generator"
) -> None:
    """Fill a weight (O, I, ...) from a uniform distribution, in place.

    The limits are sqrt(6 / (fan_in + fan_out)) for "glorot" (Glorot and Bengio 2010,
    eq. 16), sqrt(6 / fan_in) for "he" (He et al. 2015, eq. 10: variance 2 / fan_in) and
    sqrt(3 / fan_in) for "lecun" (LeCun et al. 1998, "Efficient BackProp", eq. 16).
    """
    field = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * field, weight.shape[0] * field
    variance = {
        "glorot": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
    }[init]
    limit = math.sqrt(3 * variance)
    weight[...] = generator.uniform(-limit, limit, weight.shape)
