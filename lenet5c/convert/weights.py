"""Numbers of networks from elsewhere: exact float32, and what is done to channels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number
from lenet5c.data.images import InputStage

__all__ = ["EXACT_EPS", "Numbers", "affine", "input_stage", "to_float32"]

Array = NDArray[Any]
Numbers = float | Sequence[float]  # one, or one for each channel
EXACT_EPS = 2**-17  # 1 - it is exact in float32


def to_float32(what: str, array: Array) -> NDArray[np.float32]:
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
            "that it has to round; convert the network to float32 first"
        )
    return found


def affine(
    scale: Array, offset: Array, eps: float = EXACT_EPS
) -> dict[str, NDArray[np.float64]]:
    """Parameters of the batch normalisation that is scale[c] x + offset[c].

    Where the scales are positive its statistics are those of maps that this would bring
    to mean 0 and variance 1, so that further training finds what it would measure.
    """
    scale, offset = np.asarray(scale, np.float64), np.asarray(offset, np.float64)
    if (scale > 1e-9).all():
        variance = np.float64(np.float32(np.maximum(1 / scale**2 - eps, 0)))
        return {
            "weight": scale * np.sqrt(variance + eps),
            "bias": np.zeros(len(scale)),
            "running_mean": -offset / scale,
            "running_var": variance,
        }
    return {
        "weight": scale,
        "bias": offset,
        "running_mean": np.zeros(len(scale)),
        "running_var": np.full(len(scale), 1 - eps),
    }


def input_stage(
    mean: object, deviation: object, background: object, channels: int
) -> tuple[InputStage, Array | None, Array | None]:
    """How images are normalised, (b / 255 - mean) / deviation, and what is left to do.

    Returns
    -------
    stage : InputStage
    scale, offset : (channels,) float64 or None
        None where one mean and one deviation serve all channels. Else scale x + offset
        is what the network sees, where x is what comes from the stage. A float is a
        share of 255 then, since no stage can tell the channels of normalised ones.
    """
    of_channels = []
    for argument, value in (("mean", mean), ("deviation", deviation)):
        values = value.tolist() if isinstance(value, np.ndarray) else value
        values = list(values) if isinstance(values, (tuple, list)) else [values]
        if len(values) not in (1, channels):
            raise ValueError(
                f"{argument}: expected one number, or one for each of the {channels} "
                f"channels, got {values}"
            )
        numbers = [number(argument, each, -np.inf, np.inf) for each in values]
        of_channels.append(np.resize(np.array(numbers), channels))
    means, deviations = of_channels
    for of_channel in zip(means.tolist(), deviations.tolist(), strict=True):
        InputStage.checked(*of_channel, None)
    mean, deviation = float(means[0]), float(deviations[0])
    if (means == mean).all() and (deviations == deviation).all():
        return InputStage.checked(mean, deviation, background), None, None
    if background is not None:
        around = number("background", background, -np.inf, np.inf)
        pixels = around * deviations + means
        if np.ptp(pixels) > 1e-6:
            raise ValueError(
                "background: expected None, which is black, because one value after "
                f"normalisation is another pixel in each channel, got {background}"
            )
        background = (pixels[0] - mean) / deviation
    stage = InputStage.checked(mean, deviation, background, "bytes")
    return stage, deviation / deviations, (mean - means) / deviations
