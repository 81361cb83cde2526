"""How the numbers of a network in integers are found: units, weights, multipliers.

docs/int8.md, "How the numbers are found", in the same order; for networks that are
quantised and for those that are trained for few bits.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lenet5c.bits import MAX_INT8, MAX_SUM, Bits, rounded
from lenet5c.data.images import InputStage
from lenet5c.deploy.int8 import (
    BY_TABLE,
    MAX_WINDOW,
    TANH_ONE,
    QuantizedLayer,
    fixed_point,
    largest_product_sum,
)
from lenet5c.deploy.steps import Step, of_channels

__all__ = ["is_raw", "layer_of", "measured", "pixel_table"]


def pixel_table(stage: InputStage) -> tuple[float, NDArray[np.int8]]:
    """The scale of the input, and what each byte, and then the background, becomes."""
    scale, offset, background, *_ = stage.for_core()
    reals = np.append(np.arange(256) * scale + offset, background)
    unit = float(np.abs(reals).max()) / MAX_INT8 or 1.0
    return unit, np.rint(reals / unit).astype(np.int8)


def measured(steps: Sequence[Step]) -> list[str]:
    """The last layers of steps whose output has a unit of its own, which no activation
    decides, in their order."""
    return [
        step.last
        for step in steps
        if step.kind in ("conv", "scale", "subsample", "add")
        and not (is_raw(step, step is steps[-1]) or step.activation in BY_TABLE)
    ]


def is_raw(step: Step, last: bool) -> bool:
    """Whether the sums of a convolution are the scores."""
    return last and step.kind == "conv" and step.activation is None


def layer_of(
    values: Mapping[str, NDArray[np.float32]],
    step: Step,
    scales: Sequence[float],
    last: bool,
    bits: Bits,
    unit_of: Callable[[Step], float],
) -> QuantizedLayer:
    """The step for maps in units of `scales`.

    Parameters
    ----------
    values : mapping of str to array
        Parameters and buffers of the folded network.
    step : Step
    scales : sequence of float
        Of the maps that it reads.
    last : bool
        Whether its output are the scores.
    bits : Bits
    unit_of : function
        Of a step that is `measured`: what one unit of its output stands for.
    """
    scale = scales[0]
    if step.kind in ("avg_pool", "subsample") and math.prod(step.kernel) > MAX_WINDOW:
        raise ValueError(
            f"model: {step.name} has windows of {math.prod(step.kernel):,} pixels, "
            f"integers at most {MAX_WINDOW:,}"
        )
    if step.kind == "add":
        unit, out = _units_of_output(step, max(scales) / MAX_INT8, unit_of)
        multiplier, shift = fixed_point(np.array(scales) / unit)
        return QuantizedLayer(step, out, multiplier=multiplier, shift=shift)
    if step.kind in BY_TABLE:
        unit, out = _units_of_table(step.kind)
        multiplier, shift = fixed_point(np.array([scale / unit]))
        return QuantizedLayer(step, out, multiplier=multiplier, shift=shift)
    if step.kind == "leaky":
        multiplier, shift = fixed_point(np.array([step.slope]))
        return QuantizedLayer(step, scale, multiplier=multiplier, shift=shift)
    if step.kind == "avg_pool" and last:
        return QuantizedLayer(step, scale / math.prod(step.kernel))
    if step.kind in ("avg_pool", "max_pool", "relu", "flatten"):
        return QuantizedLayer(step, scale)
    if step.kind not in ("conv", "scale", "subsample"):
        raise ValueError(f"{step.name}: int8 has no step of kind {step.kind!r}")
    window = 1  # pixels that share a weight
    if step.kind != "conv":
        real, real_bias = of_channels(step, values)
        real = real[:, None, None, None]
        window = math.prod(step.kernel)
    else:
        shape = (step.output_shape[0], step.input_shape[0], *step.kernel)
        real = values[f"{step.name}.weight"].astype(np.float64).reshape(shape)
        zeros = np.zeros(shape[0], np.float32)
        real_bias = values.get(f"{step.name}.bias", zeros).astype(np.float64)
    raw = is_raw(step, last)
    weights, biases, units = rounded(real, real_bias, scale, bits, together=raw)
    weight, bias = weights.astype(np.int8), biases.astype(np.int32)
    if window * largest_product_sum(weight) > MAX_SUM:
        raise ValueError(
            f"model: {step.name} adds up {window * weight[0].size} products, more than "
            "32 bits hold for certain"
        )
    if raw:
        out = float(units[0] * scale)
        return QuantizedLayer(step, out, weight, bias, units=units)
    unit, out = _units_of_output(step, float(units.max() * scale), unit_of)
    multiplier, shift = fixed_point(units * (scale / unit))
    return QuantizedLayer(step, out, weight, bias, multiplier, shift, units)


def _units_of_output(
    step: Step, least: float, unit_of: Callable[[Step], float]
) -> tuple[float, float]:
    """What one unit stands for before the step's activation, and after it."""
    if step.activation in BY_TABLE:
        return _units_of_table(step.activation)
    scale = max(unit_of(step), least)
    return scale, scale


def _units_of_table(activation: str) -> tuple[float, float]:
    """What one unit of the table's argument, and of its number, stands for."""
    slope, most = BY_TABLE[activation]
    return 1 / (slope * TANH_ONE), most / MAX_INT8
