"""Networks in 8-bit integers, from trained ones: docs/int8.md defines every bit.

N      images
C F    channels of a map, of the map after it
H W    rows and columns of a map
KH KW  rows and columns of a kernel
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.data.images import as_images, encode_labels
from lenet5c.interfaces import Network
from lenet5c.layers import (
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
)

__all__ = [
    "LayerError",
    "QuantizationReport",
    "QuantizedLayer",
    "QuantizedModel",
    "Step",
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

    A dense layer is a convolution whose kernel covers its input, and global average
    pooling has a window that does. Dropout is no step, and `Flatten` is one only where
    it changes what the layers after it do.

    Attributes
    ----------
    kind : {"conv", "scale", "add", "avg_pool", "max_pool", "tanh", "relu", "flatten"}
        A batch normalisation is a scale, the end of a `Residual` an addition.
    name : str
        Of the layer that has the parameters.
    last : str
        Name of the last layer in it: its activations are the output of the step.
    input_shape, output_shape : (C, H, W)
    kernel : (KH, KW)
    stride, padding : int
    activation : {"tanh", "relu"} or None
        Of a convolution, a scale or an addition.
    sources : tuple of int
        The maps that it reads, two for an addition: 0 is the input, i + 1 the output of
        step i.
    eps : float
        Of a batch normalisation.
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


def steps_of(model: Network) -> list[Step]:
    """The steps of a model's layers, in their order."""
    steps: list[Step] = []
    _append_steps(steps, model.layers, model.input_shape, 0, inside=False)
    return steps


def _append_steps(
    steps: list[Step], layers: Sequence[Layer], shape: Shape, source: int, inside: bool
) -> int:
    """Append the steps of layers that read map `source`; the map that they make.

    `inside` of a branch, whose map is added to another.
    """
    fusing = None  # the step that an activation would be part of
    for position, layer in enumerate(layers):
        if isinstance(layer, Dropout):
            continue
        if isinstance(layer, Flatten) and _order_is_free(
            layers[position + 1 :], inside
        ):
            continue
        activation = layer.kind if isinstance(layer, (Tanh, ReLU)) else None
        if activation and fusing is not None:
            last = str(layer.name)
            steps[fusing] = replace(steps[fusing], last=last, activation=activation)
            fusing = None
            continue
        after = layer.output_shape(shape)
        if isinstance(layer, Residual):
            sources = tuple(
                _append_steps(steps, branch, shape, source, inside=True)
                for branch in (layer.layers, layer.shortcut)
            )
            shape = after
        else:
            sources = (source,)
        step = _step_of(layer, shape, after, sources)
        steps.append(step)
        if step.kind in ("conv", "scale", "add"):
            fusing = len(steps) - 1
        elif step.kind != "flatten":
            fusing = None
        source, shape = len(steps), after
    return source


def _step_of(
    layer: Layer, shape: Shape, after: Shape, sources: tuple[int, ...]
) -> Step:
    name = str(layer.name)
    step = Step(layer.kind, name, name, shape, after, sources=sources)
    if isinstance(layer, Conv2d):
        step = replace(step, kind="conv", kernel=layer.kernel, stride=layer.stride)
        return replace(step, padding=layer.padding)
    if isinstance(layer, Dense):
        return replace(step, kind="conv", kernel=shape[1:])
    if isinstance(layer, GlobalAvgPool2d):
        return replace(step, kind="avg_pool", kernel=shape[1:])
    if isinstance(layer, (AvgPool2d, MaxPool2d)):
        assert layer.stride is not None
        kernel = (layer.kernel_size, layer.kernel_size)
        kind = "avg_pool" if isinstance(layer, AvgPool2d) else "max_pool"
        step = replace(step, kind=kind, kernel=kernel, stride=layer.stride)
        return replace(step, padding=getattr(layer, "padding", 0))
    if isinstance(layer, BatchNorm2d):
        return replace(step, kind="scale", eps=layer.eps)
    if isinstance(layer, Residual):
        return replace(step, kind="add")
    if isinstance(layer, (Tanh, ReLU, Flatten)):
        return step
    raise ValueError(
        f"{name}: expected a layer that C code and int8 have, got the kind "
        f"{layer.kind!r}"
    )


def _order_is_free(layers: Sequence[Layer], inside: bool) -> bool:
    """Whether these layers do the same with a map that has not been flattened."""
    rest = (
        layer
        for layer in layers
        if not isinstance(layer, (Tanh, ReLU, Flatten, Dropout))
    )
    following = next(rest, None)
    return not inside if following is None else isinstance(following, Dense)


def scale_and_shift(
    model: Network, name: str, eps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a batch normalisation multiplies with and adds in prediction, (C,) each."""
    weight = model.parameters[f"{name}.weight"].astype(np.float64)
    variance = model.buffers[f"{name}.running_var"].astype(np.float64)
    scale = weight / np.sqrt(variance + eps)
    return scale, (
        model.parameters[f"{name}.bias"] - model.buffers[f"{name}.running_mean"] * scale
    )


@dataclass(frozen=True)
class QuantizedLayer:
    """A step in integers.

    Attributes
    ----------
    step : Step
    scale : float
        What one unit of the output stands for.
    weight : (F, C, KH, KW) int8, (C, 1, 1, 1) of a scale, or None
    bias : (F,) int32, or None
    multiplier : (F,) int32, (1,) before a table of tanh, (2,) of an addition, or None
        Sums, times this, over 2 to the `shift`, are the output before its activation.
        None where there is nothing to rescale.
    shift : int
    """

    step: Step
    scale: float
    weight: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None
    multiplier: NDArray[np.int32] | None = None
    shift: int = 1

    @property
    def is_raw(self) -> bool:
        """Whether the sums of a convolution are its output."""
        return self.weight is not None and self.multiplier is None


class LayerError(NamedTuple):
    """How far a layer's output is from that of the float network.

    Attributes
    ----------
    name : str
    signal_to_noise : float
        Mean square of the float output over the mean square of the error, in dB.
    """

    name: str
    signal_to_noise: float


@dataclass(frozen=True)
class QuantizationReport:
    """What quantisation costs, on images and their labels.

    Attributes
    ----------
    images : int
    float_accuracy, accuracy : float
        Before and after.
    agreement : float
        Share of images that both put in the same class.
    layers : list of LayerError
    weight_bytes, activation_bytes : int
    """

    images: int
    float_accuracy: float
    accuracy: float
    agreement: float
    layers: list[LayerError]
    weight_bytes: int
    activation_bytes: int

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        return "\n".join(
            [
                f"accuracy    {self.float_accuracy:.2%} in float32, "
                f"{self.accuracy:.2%} in int8, on {self.images:,} images",
                f"agreement   {self.agreement:.2%} of the images are in the same class",
                f"weights     {self.weight_bytes:,} bytes",
                f"activations {self.activation_bytes:,} bytes",
                "signal to noise of each layer",
                *(
                    f"  {layer.name:{width}}  {layer.signal_to_noise:5.1f} dB"
                    for layer in self.layers
                ),
            ]
        )


class QuantizedModel:
    """A network in 8-bit integers: what `Model.quantize` returns.

    Images are uint8, of the shapes that `Model.predict` takes. Nothing is computed in
    floating point between a pixel and a score, and results are the same bits on every
    machine (docs/int8.md).

    Attributes
    ----------
    layers : list of QuantizedLayer
    table : (256,) int8
        What a pixel becomes.
    background : int
        What surrounds an image that is smaller than the network's input.
    input_scale, scale : float
        What one unit of the input, and of a score, stands for.
    input_shape : (C, H, W)
    source : (int, int)
        Rows and columns of the training images.
    classes : (classes,) array
    """

    def __init__(self, model: Network, calibration_images: ArrayLike) -> None:
        if not model.stage.takes_bytes:
            raise ValueError(
                "model: expected one that was trained on uint8 images, or on floats "
                "from 0 to 1, got one that was trained on other floats"
            )
        if not np.isfinite(model.parameter_vector).all():
            raise ValueError("model: expected finite parameters, got a NaN or infinity")
        pixels = _as_bytes("calibration_images", calibration_images, model.input_shape)
        model = model.folded()  # a copy, which further training does not change
        self.input_shape = model.input_shape
        self.source = model.source
        self.classes = model.classes.copy()
        self._float = model
        stage_scale, offset, background, *_ = model.stage.for_core()
        reals = np.append(np.arange(256) * stage_scale + offset, background)
        self.input_scale = float(np.abs(reals).max()) / MOST or 1.0
        table = np.rint(reals / self.input_scale).astype(np.int8)
        self.table, self.background = table[:256], int(table[256])
        self.layers: list[QuantizedLayer] = []
        scales = [self.input_scale]  # by map
        steps = steps_of(model)
        for step in steps:
            given = [scales[source] for source in step.sources]
            layer = _quantized(model, step, given, step is steps[-1], pixels)
            self.layers.append(layer)
            scales.append(layer.scale)
        self.scale = scales[-1]

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, biases, multipliers and tables."""
        total = self.table.nbytes + (TANH_TABLE.nbytes if self.has_tanh else 0)
        for layer in self.layers:
            for array in (layer.weight, layer.bias, layer.multiplier):
                total += 0 if array is None else array.nbytes
        return total

    @property
    def activation_bytes(self) -> int:
        """Bytes of the maps that are needed at once, at the most, one image's: two, and
        those that are added later."""
        steps = self._steps()
        shapes = [self.input_shape, *(step.output_shape for step in steps)]
        last = {s: number for number, step in enumerate(steps) for s in step.sources}
        return max(
            sum(
                math.prod(shape)
                for at, shape in enumerate(shapes[: number + 2])
                if at == number + 1 or last.get(at, -1) >= number
            )
            for number in range(len(steps))
        )

    @property
    def has_tanh(self) -> bool:
        """Whether the table of tanh is needed."""
        return any("tanh" in (step.kind, step.activation) for step in self._steps())

    def scores(self, images: ArrayLike) -> NDArray[np.int32]:
        """(N, classes) int32: logits in units of `scale`."""
        pixels = _as_bytes("images", images, self.input_shape)
        scores = np.empty((len(pixels), len(self.classes)), np.int32)
        for part in self._parts(len(pixels)):
            *_, last = self._maps(pixels[part])
            scores[part] = last.reshape(len(last), -1)
        return scores

    def predict(self, images: ArrayLike) -> NDArray[Any]:
        """The label of the largest score of each image, (N,); the first one, if several
        are the largest."""
        labels: NDArray[Any] = self.classes[self.scores(images).argmax(axis=1)]
        return labels

    def report(self, images: ArrayLike, labels: ArrayLike) -> QuantizationReport:
        """What is lost against the float model, on these images."""
        pixels = _as_bytes("images", images, self.input_shape)
        _, codes = encode_labels(labels, len(pixels), len(self.classes), self.classes)
        layers = [layer for layer in self.layers if layer.step.kind != "flatten"]
        squares = np.zeros((2, len(layers)))
        both = np.empty((2, len(pixels)), np.intp)
        for part in self._parts(len(pixels)):
            maps = zip(self.layers, self._maps(pixels[part]), strict=True)
            kept = [(layer, y) for layer, y in maps if layer.step.kind != "flatten"]
            for column, (layer, y) in enumerate(kept):
                wanted = self._float.activations(pixels[part], layer.step.last)
                error = y.reshape(wanted.shape) * layer.scale - wanted
                squares[:, column] += np.square(wanted).sum(), np.square(error).sum()
            both[0, part] = self._float.forward(pixels[part]).argmax(axis=1)
            both[1, part] = y.reshape(len(y), -1).argmax(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 10 * np.log10(squares[0] / squares[1])
        hits = (both == codes).mean(axis=1)
        return QuantizationReport(
            len(pixels),
            float(hits[0]),
            float(hits[1]),
            float((both[0] == both[1]).mean()),
            [
                LayerError(layer.step.name, float(value))
                for layer, value in zip(layers, decibels, strict=True)
            ],
            self.weight_bytes,
            self.activation_bytes,
        )

    def export_c(self, path: str | os.PathLike[str], *, name: str = "network") -> None:
        """Write the network as one C99 file, which needs nothing else.

        Parameters
        ----------
        path : path
            Of a header: the file that includes it after
            ``#define <NAME>_IMPLEMENTATION`` has the code, all others the declarations.
            Its head says how it is called.
        name : str
            What all names in it begin with: a C identifier.

        Raises
        ------
        ValueError
            If `name` is none.
        OSError
            If the file cannot be written; an old one is left as it was.
        """
        from lenet5c.deploy.c_export import export_int8

        export_int8(self, path, name)

    def __repr__(self) -> str:
        return (
            f"<QuantizedModel of {len(self.layers)} steps, "
            f"{self.weight_bytes:,} bytes, {len(self.classes)} classes>"
        )

    def _steps(self) -> list[Step]:
        return [layer.step for layer in self.layers]

    def _parts(self, count: int) -> Iterator[slice]:
        """Images some at a time, so that no matrix is too large."""
        most = max(
            math.prod(step.output_shape[1:])
            * step.input_shape[0]
            * math.prod(step.kernel)
            for step in self._steps()
        )
        at_once = max(1, CHUNK // most)
        for start in range(0, count, at_once):
            yield slice(start, start + at_once)

    def _maps(self, pixels: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """The output of each layer, (N, C, H, W): int8, the last one int32."""
        x = np.full((len(pixels), *self.input_shape), self.background, np.int8)
        height, width = pixels.shape[2:]
        top, left = (
            (self.input_shape[1] - height) // 2,
            (self.input_shape[2] - width) // 2,
        )
        x[:, :, top : top + height, left : left + width] = self.table[pixels]
        maps: list[NDArray[Any]] = [x]
        for layer in self.layers:
            given = [maps[source] for source in layer.step.sources]
            maps.append(_run(layer, given, layer is self.layers[-1]))
            yield maps[-1]


def _as_bytes(argument: str, images: ArrayLike, shape: Shape) -> NDArray[np.uint8]:
    pixels = as_images(images, shape, argument)
    if pixels.dtype != np.uint8:
        raise TypeError(f"{argument}: expected uint8 pixels, got {pixels.dtype}")
    return pixels


def _quantized(
    model: Network,
    step: Step,
    scales: Sequence[float],
    last: bool,
    pixels: NDArray[np.uint8],
) -> QuantizedLayer:
    """The step for maps in units of `scales`."""
    scale = scales[0]
    if step.kind == "add":
        unit, out = _unit_of_output(model, step, max(scales) / MOST, pixels)
        multiplier, shift = _fixed_point(np.array(scales) / unit)
        return QuantizedLayer(step, out, multiplier=multiplier, shift=shift)
    if step.kind == "tanh":
        multiplier, shift = _fixed_point(np.array([scale * TANH_ONE]))
        return QuantizedLayer(step, 1 / MOST, multiplier=multiplier, shift=shift)
    if step.kind == "avg_pool" and last:
        return QuantizedLayer(step, scale / math.prod(step.kernel))
    if step.kind in ("avg_pool", "max_pool", "relu", "flatten"):
        return QuantizedLayer(step, scale)
    if step.kind not in ("conv", "scale"):
        raise ValueError(f"{step.name}: int8 has no step of kind {step.kind!r}")
    if step.kind == "scale":
        real, real_bias = scale_and_shift(model, step.name, step.eps)
        real = real[:, None, None, None]
    else:
        shape = (step.output_shape[0], step.input_shape[0], *step.kernel)
        real = model.parameters[f"{step.name}.weight"].astype(np.float64).reshape(shape)
        zeros = np.zeros(shape[0], np.float32)
        real_bias = model.parameters.get(f"{step.name}.bias", zeros).astype(np.float64)
    raw = last and step.kind == "conv" and step.activation is None
    # one unit of each filter's weights
    units = np.abs(real).max(axis=(1, 2, 3)) / MOST
    units = np.maximum(units, units.max() * LEAST_WEIGHT_SCALE)
    units = np.maximum(units, np.abs(real_bias) / (scale * (MOST_SUM - 1)))
    if raw:
        units[:] = units.max()
    units[units == 0] = 1.0
    weight = np.rint(real / units[:, None, None, None]).astype(np.int8)
    bias = np.rint(real_bias / (units * scale)).astype(np.int32)
    if _largest_product_sum(weight) > MOST_SUM:
        raise ValueError(
            f"model: {step.name} adds up {weight[0].size} products, more than "
            "32 bits hold for certain"
        )
    if raw:
        return QuantizedLayer(step, float(units[0] * scale), weight, bias)
    unit, out = _unit_of_output(model, step, float(units.max() * scale), pixels)
    multiplier, shift = _fixed_point(units * (scale / unit))
    return QuantizedLayer(step, out, weight, bias, multiplier, shift)


def _unit_of_output(
    model: Network, step: Step, least: float, pixels: NDArray[np.uint8]
) -> tuple[float, float]:
    """What one unit stands for before the step's activation, and after it."""
    if step.activation == "tanh":
        return 1 / TANH_ONE, 1 / MOST
    scale = max(_largest_activation(model, step, pixels) / MOST, least)
    return scale, scale


def _largest_product_sum(weight: NDArray[np.int8]) -> int:
    magnitudes = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3))
    return MOST * int(magnitudes.max())


def _largest_activation(model: Network, step: Step, pixels: NDArray[np.uint8]) -> float:
    at_once = max(1, CHUNK // math.prod(step.output_shape))
    return max(
        float(
            np.abs(model.activations(pixels[start : start + at_once], step.last)).max()
        )
        for start in range(0, len(pixels), at_once)
    )


def _fixed_point(ratios: NDArray[np.float64]) -> tuple[NDArray[np.int32], int]:
    """Multipliers and the largest shift s with ratios = multipliers / 2^s."""
    _, exponent = math.frexp(float(ratios.max()))
    shift = min(max(31 - exponent, 1), MOST_SHIFT)
    scaled = np.minimum(np.rint(np.ldexp(ratios, shift)), 2**31 - 1)
    return scaled.astype(np.int32), shift


def _rescale(
    sums: NDArray[np.int64], multiplier: NDArray[np.int32], shift: int
) -> NDArray[np.int64]:
    """sums * multiplier / 2^shift, rounded to the nearest, halves upwards."""
    return _shifted(sums * multiplier.astype(np.int64), shift)


def _shifted(product: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    return (product + (1 << (shift - 1))) >> shift


def _run(
    layer: QuantizedLayer, maps: Sequence[NDArray[np.int8]], last: bool
) -> NDArray[Any]:
    """The layer's output (N, F, OH, OW) for its maps (N, C, H, W)."""
    step, x = layer.step, maps[0]
    shape = (len(x), *step.output_shape)
    if step.kind == "add":
        assert layer.multiplier is not None
        both = np.stack(maps, axis=-1).astype(np.int64)
        y = _shifted(both @ layer.multiplier.astype(np.int64), layer.shift)
        activation = step.activation
    elif step.kind in ("conv", "scale"):
        y = _sums(layer, x)
        if layer.multiplier is None:
            return y.astype(np.int32)
        y = _rescale(y, layer.multiplier[:, None, None], layer.shift)
        activation = step.activation
    elif step.kind == "tanh":
        assert layer.multiplier is not None
        y = _rescale(x.astype(np.int64), layer.multiplier, layer.shift)
        activation = "tanh"
    elif step.kind == "flatten":
        y, activation = x.reshape(shape).astype(np.int64), None
    elif step.kind == "relu":
        y, activation = x.astype(np.int64), "relu"
    elif step.kind in ("avg_pool", "max_pool"):
        y, activation = _pooled(step, x, last), None
        if last:
            return y.astype(np.int32)
    else:
        raise ValueError(f"{step.name}: int8 has no step of kind {step.kind!r}")
    if activation == "tanh":
        most = len(TANH_TABLE) - 1
        both_sides = np.concatenate([-TANH_TABLE[:0:-1], TANH_TABLE])
        y = both_sides[np.clip(y, -most, most) + most]
    else:
        y = np.clip(y, 0 if activation == "relu" else -MOST, MOST)
    return y.astype(np.int32 if last else np.int8)


def _sums(layer: QuantizedLayer, x: NDArray[np.int8]) -> NDArray[np.int64]:
    """The convolution and its bias: exact, as no sum leaves the integers of a float."""
    step, weight, bias = layer.step, layer.weight, layer.bias
    assert weight is not None
    assert bias is not None
    if step.kind == "scale":
        products: NDArray[np.int64] = x.astype(np.int64) * weight[:, 0]
        return products + bias[:, None, None]
    exact = _largest_product_sum(weight) < EXACT_IN_FLOAT32
    dtype = np.float32 if exact else np.float64
    side = (step.padding, step.padding)
    x = np.pad(x, ((0, 0), (0, 0), side, side)).astype(dtype)
    windows = np.lib.stride_tricks.sliding_window_view(x, step.kernel, axis=(2, 3))
    windows = windows[:, :, :: step.stride, :: step.stride].transpose(0, 2, 3, 1, 4, 5)
    rows = windows.reshape(-1, math.prod(weight.shape[1:]))
    sums = rows @ weight.reshape(len(weight), -1).T.astype(dtype)
    _, height, width = step.output_shape
    by_pixel = sums.astype(np.int64).reshape(-1, height, width, len(weight)) + bias
    by_map: NDArray[np.int64] = by_pixel.transpose(0, 3, 1, 2)
    return by_map


def _pooled(step: Step, x: NDArray[np.int8], sums: bool) -> NDArray[np.int64]:
    side = (step.padding, step.padding)
    x = np.pad(x, ((0, 0), (0, 0), side, side), constant_values=-128)  # never a maximum
    windows = np.lib.stride_tricks.sliding_window_view(x, step.kernel, axis=(2, 3))
    windows = windows[:, :, :: step.stride, :: step.stride]
    if step.kind == "max_pool":
        largest: NDArray[np.int64] = windows.max(axis=(4, 5)).astype(np.int64)
        return largest
    total: NDArray[np.int64] = windows.sum(axis=(4, 5), dtype=np.int64)
    count = math.prod(step.kernel)
    return total if sums else (2 * total + count) // (2 * count)
