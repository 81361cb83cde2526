"""The arithmetic of networks in 8-bit integers: docs/int8.md defines every bit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.bits import MAX_INT8, Bits
from lenet5c.data.images import InputStage
from lenet5c.deploy.steps import Step
from lenet5c.interfaces import Lists
from lenet5c.layers import ScaledTanh
from lenet5c.layers.base import Shape

__all__ = [
    "BY_TABLE",
    "TANH_ONE",
    "TANH_TABLE",
    "Quantized",
    "QuantizedLayer",
    "fixed_point",
    "largest_product_sum",
    "run",
]

MAX_SHIFT = 62
MAX_WINDOW = 1 << 22  # pixels of a mean or a sum: 511 times as many have 31 bits
TANH_ONE = 256  # the argument 1.0 in the table of tanh
TANH_TABLE = np.rint(MAX_INT8 * np.tanh(np.arange(800) / TANH_ONE)).astype(np.int8)
# What that table serves: what the argument is multiplied with, what 127 stands for.
BY_TABLE = {
    "tanh": (1.0, 1.0),
    "tanh_scaled": (ScaledTanh.slope, ScaledTanh.amplitude),
    "sigmoid": (0.5, 1.0),
}
EXACT_IN_FLOAT32 = 1 << 24


@dataclass(frozen=True)
class QuantizedLayer:
    """A step in integers.

    Attributes
    ----------
    step : Step
    scale : float
        What one unit of the output stands for.
    weight : (F, C, KH, KW) int8, (C, 1, 1, 1) of a scale or a subsampling, or None
    bias : (F,) int32, or None
    multiplier : (F,) int32, (1,) of an activation, (2,) of an addition, or None
        Sums, times this, over 2 to the `shift`, are the output before its activation.
        None where there is nothing to rescale.
    shift : int
    units : (F,) float64, or None
        What one unit of each filter's weights stands for.
    """

    step: Step
    scale: float
    weight: NDArray[np.int8] | None = None
    bias: NDArray[np.int32] | None = None
    multiplier: NDArray[np.int32] | None = None
    shift: int = 1
    units: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        size = "" if self.weight is None else f", {self.weight.shape} int8 weights"
        return f"<QuantizedLayer {self.step.name}: {self.step.kind}{size}>"

    @property
    def is_raw(self) -> bool:
        """Whether the sums of a convolution are its output."""
        return self.weight is not None and self.multiplier is None


class Quantized(Protocol):
    """A network in integers, for those who write it: see `QuantizedModel`."""

    layers: list[QuantizedLayer]
    table: NDArray[np.int8]
    background: int
    scale: float
    input_shape: Shape
    source: tuple[int, int]
    classes: NDArray[Any]
    stage: InputStage
    trained_on: str | None
    passes: int
    bits: Bits

    @property
    def history(self) -> Lists: ...
    @property
    def has_tanh(self) -> bool: ...
    def scores(self, images: ArrayLike) -> NDArray[np.int32]: ...


def run(
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
    elif step.kind in ("conv", "scale", "subsample"):
        y = _sums(layer, x)
        if layer.multiplier is None:
            return y.astype(np.int32)
        y = _rescale(y, layer.multiplier[:, None, None], layer.shift)
        activation = step.activation
    elif step.kind in BY_TABLE:
        assert layer.multiplier is not None
        y = _rescale(x.astype(np.int64), layer.multiplier, layer.shift)
        activation = step.kind
    elif step.kind == "flatten":
        y, activation = x.reshape(shape).astype(np.int64), None
    elif step.kind == "relu":
        y, activation = x.astype(np.int64), "relu"
    elif step.kind == "leaky":
        assert layer.multiplier is not None
        y, activation = x.astype(np.int64), None
        y = np.where(y < 0, _rescale(y, layer.multiplier, layer.shift), y)
    elif step.kind in ("avg_pool", "max_pool"):
        y, activation = _pooled(step, x, last), None
        if last:
            return y.astype(np.int32)
    else:
        raise ValueError(f"{step.name}: int8 has no step of kind {step.kind!r}")
    if activation in BY_TABLE:
        most = len(TANH_TABLE) - 1
        both_sides = np.concatenate([-TANH_TABLE[:0:-1], TANH_TABLE])
        y = both_sides[np.clip(y, -most, most) + most]
        if activation == "sigmoid":
            y = (y.astype(np.int64) + MAX_INT8 + 1) // 2
    else:
        y = np.clip(y, 0 if activation == "relu" else -MAX_INT8, MAX_INT8)
    return y.astype(np.int32 if last else np.int8)


def _sums(layer: QuantizedLayer, x: NDArray[np.int8]) -> NDArray[np.int64]:
    """The convolution and its bias: exact, as no sum leaves the integers of a float."""
    step, weight, bias = layer.step, layer.weight, layer.bias
    assert weight is not None
    assert bias is not None
    if step.kind in ("scale", "subsample"):
        products: NDArray[np.int64] = _pooled(step, x, True) * weight[:, 0]
        return products + bias[:, None, None]
    exact = largest_product_sum(weight) < EXACT_IN_FLOAT32
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


def largest_product_sum(weight: NDArray[np.int8]) -> int:
    magnitudes = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3))
    return MAX_INT8 * int(magnitudes.max())


def fixed_point(ratios: NDArray[np.float64]) -> tuple[NDArray[np.int32], int]:
    """Multipliers and the largest shift s with ratios = multipliers / 2^s."""
    _, exponent = math.frexp(float(ratios.max()))
    shift = min(max(31 - exponent, 1), MAX_SHIFT)
    scaled = np.minimum(np.rint(np.ldexp(ratios, shift)), 2**31 - 1)
    return scaled.astype(np.int32), shift


def _rescale(
    sums: NDArray[np.int64], multiplier: NDArray[np.int32], shift: int
) -> NDArray[np.int64]:
    """sums * multiplier / 2^shift, rounded to the nearest, halves upwards."""
    return _shifted(sums * multiplier.astype(np.int64), shift)


def _shifted(product: NDArray[np.int64], shift: int) -> NDArray[np.int64]:
    return (product + (1 << (shift - 1))) >> shift
