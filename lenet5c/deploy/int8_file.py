"""A network in integers as a model file: its steps, and the tensors of each.

The container is that of all model files (files/container.py); docs/model_file.md says
what else is in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number, whole
from lenet5c.bits import MAX_INT8, MAX_SUM, Bits, Rounding
from lenet5c.data.images import InputStage
from lenet5c.deploy.int8 import (
    BY_TABLE,
    MAX_SHIFT,
    MAX_WINDOW,
    Quantized,
    QuantizedLayer,
    largest_product_sum,
)
from lenet5c.deploy.packing import bytes_of_filter, packed, unpacked
from lenet5c.deploy.steps import Step
from lenet5c.files.container import INT8, fields, file_parts
from lenet5c.files.model_file import History, metadata_with, parts_of
from lenet5c.layers.base import Shape
from lenet5c.parameters import MAX_PARAMETERS

__all__ = ["Contents", "checked", "parts"]

PLACES = 20  # for maps, of which so many are needed at a time
MAX_SIDE = 1 << 20
MAX_NAME = 64
POOLS = ("avg_pool", "max_pool", "subsample")
ACTIVATED = ("conv", "scale", "subsample", "add")
PLAIN = ("avg_pool", "max_pool", "relu", "flatten")  # nothing is rescaled
KINDS = (*ACTIVATED, *PLAIN, "leaky", *BY_TABLE)
ACTIVATIONS = ("relu", *BY_TABLE)
FLOAT32 = np.finfo(np.float32)
ABOVE_FLOAT32 = math.nextafter(float(FLOAT32.max), math.inf)


class Contents(NamedTuple):
    """What the file of a network in integers holds.

    Attributes
    ----------
    layers : list of QuantizedLayer
    table : (257,) int8
        What bytes become, and what surrounds an image.
    input_shape : (C, H, W)
    stage, source, classes, fitted, passes, trained_on, history
        As in other model files.
    rounding : Rounding or None
        Of which the bits count.
    """

    layers: Sequence[QuantizedLayer]
    table: NDArray[np.int8]
    input_shape: Shape
    stage: InputStage
    source: tuple[int, int]
    classes: NDArray[Any]
    fitted: bool = True
    passes: int = 0
    trained_on: str | None = None
    history: History = {}  # noqa: RUF012 (of a tuple, which nobody changes)
    rounding: Rounding | None = None


def parts(
    model: Quantized, classes: NDArray[Any] | None = None
) -> list[bytes | memoryview]:
    """The file of a network in integers, in parts that follow each other.

    Other `classes` than the model's are those of a file that nobody sees, which labels
    that no file takes do not concern; it has no history.
    """
    history: History = {}
    if classes is None:
        epochs: list[float] = list(model.history.epochs())
        history = model.history.to_dict() | {"epoch": epochs}
    contents = Contents(
        model.layers,
        np.append(model.table, np.int8(model.background)),
        model.input_shape,
        model.stage,
        model.source,
        model.classes if classes is None else classes,
        passes=model.passes,
        trained_on=model.trained_on,
        history=history,
        rounding=Rounding(model.bits, ()),
    )
    network = {
        "input_shape": list(contents.input_shape),
        "steps": _described(contents.layers),
    }
    tensors: dict[str, NDArray[Any]] = {}
    for part in ("bias", "multiplier", "weight"):  # those of 32 bits first
        for layer in contents.layers:
            if (array := getattr(layer, part)) is not None:
                if part == "weight" and model.bits.weights != 8:
                    array = packed(array, model.bits)
                tensors[f"{layer.step.name}.{part}"] = array
    tensors["table"] = contents.table
    return file_parts(tensors, metadata_with(network, contents), INT8)


def _described(layers: Sequence[QuantizedLayer]) -> list[dict[str, Any]]:
    """Each step, with the places where its maps lie."""
    last = {
        source: n for n, layer in enumerate(layers) for source in layer.step.sources
    }
    place = [0]  # of each map
    free = set(range(1, PLACES))
    found = []
    for n, layer in enumerate(layers):
        step = layer.step
        if step.kind not in KINDS:
            raise ValueError(f"{step.name}: int8 has no step of kind {step.kind!r}")
        if not free:
            raise ValueError(f"{step.name}: expected at most {PLACES} maps at a time")
        place.append(min(free))
        free.remove(place[-1])
        found.append(
            {
                "kind": step.kind,
                "name": step.name,
                "last": step.last,
                "from": [place[source] for source in step.sources],
                "to": place[-1],
                "filters": step.output_shape[0],
                "kernel": list(step.kernel),
                "stride": step.stride,
                "padding": step.padding,
                "activation": step.activation,
                "shift": 0 if layer.multiplier is None else layer.shift,
                "slope": step.slope,
                "unit": layer.scale,
            }
        )
        free |= {place[source] for source in step.sources if last[source] == n}
    return found


def checked(tensors: Mapping[str, NDArray[Any]], metadata: dict[str, str]) -> Contents:
    """What a file of a network in integers holds, or an error about what is wrong."""
    network, described = parts_of(metadata)
    stage, source, classes, *rest = described
    bits = rest[-1].bits if rest[-1] else Bits()
    shape, steps = fields("network", network, "input_shape", "steps")
    if not isinstance(shape, list) or len(shape) != 3:
        raise ValueError(f"input_shape: expected [C, H, W], got {shape!r:.80}")
    shape = tuple(whole("input_shape", n, 1, MAX_SIDE) for n in shape)
    _check_size("input_shape", shape)
    if not isinstance(steps, list) or not steps:
        raise ValueError(f"steps: expected a list of some, got {steps!r:.80}")
    if not stage.takes_bytes:
        raise ValueError(f"pixels: expected bytes, got {stage.pixels!r}")
    left = dict(tensors)
    table = _tensor(left, "table", (257,), np.int8)
    maps = {0: (0, shape)}  # by place: number of the map, its shape
    layers: list[QuantizedLayer] = []
    for n, values in enumerate(steps):
        layer, place = _layer(values, maps, left, bits, n == len(steps) - 1)
        layers.append(layer)
        maps[place] = n + 1, layer.step.output_shape
    if left:
        raise ValueError(
            f"tensors: expected none but those of the steps, got {list(left)!r:.80}"
        )
    names = [layer.step.name for layer in layers]
    if len(set(names)) < len(names):
        raise ValueError(f"steps: expected names that differ, got {names!r:.80}")
    if source[0] > shape[1] or source[1] > shape[2]:
        raise ValueError(f"source: expected at most {shape[1:]}, got {source}")
    outputs = math.prod(layers[-1].step.output_shape)
    if outputs != len(classes):
        raise ValueError(f"classes: expected {outputs}, got {len(classes)}")
    return Contents(layers, table, shape, stage, source, classes, *rest)


def _check_size(what: str, shape: Shape) -> None:
    if math.prod(shape) > MAX_PARAMETERS:
        raise ValueError(f"{what}: a map is larger than any machine could hold")


def _pair(name: str, kernel: object) -> tuple[int, int]:
    if not isinstance(kernel, list) or len(kernel) != 2:
        raise ValueError(f"{name}: expected a kernel [KH, KW], got {kernel!r:.80}")
    return whole("kernel", kernel[0], 1), whole("kernel", kernel[1], 1)


def _name(what: str, value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME:
        raise ValueError(
            f"{what}: expected a text of 1 to {MAX_NAME} characters, got {value!r:.80}"
        )
    return value


def _layer(
    values: object,
    maps: Mapping[int, tuple[int, Shape]],
    tensors: dict[str, NDArray[Any]],
    bits: Bits,
    is_last: bool,
) -> tuple[QuantizedLayer, int]:
    """A step of the file with its tensors, which are taken; the place of its output."""
    kind, name, last, begins, to, filters, kernel, *more = fields(
        "step",
        values,
        *("kind", "name", "last", "from", "to", "filters", "kernel"),
        *("stride", "padding", "activation", "shift", "slope", "unit"),
    )
    stride, padding, activation, shift, slope, unit = more
    name, last = _name("name", name), _name("last", last)
    if kind not in KINDS:
        raise ValueError(f"{name}: expected one of {KINDS}, got the kind {kind!r:.80}")
    to = whole("to", to, 0, PLACES - 1)
    count = 2 if kind == "add" else 1
    if (
        not isinstance(begins, list)
        or len(begins) != count
        or not all(type(place) is int and place in maps for place in begins)
        or to in begins
    ):
        raise ValueError(
            f"{name}: expected {count} places that have a map, and another one for its "
            f"own, got {begins!r:.80} and {to}"
        )
    shapes = [maps[place][1] for place in begins]
    step = Step(
        kind,
        name,
        last,
        shapes[0],
        (whole("filters", filters, 1, MAX_PARAMETERS), 1, 1),
        _pair(name, kernel),
        whole("stride", stride, 1, MAX_SIDE),
        whole("padding", padding, 0, MAX_SIDE),
        activation,
        tuple(maps[place][0] for place in begins),
        slope=number("slope", slope, 0, 1),
    )
    step = replace(step, output_shape=_output_shape(step, shapes))
    is_raw = kind == "conv" and is_last and shift == 0
    rescales = kind not in PLAIN and not is_raw
    shift = whole("shift", shift, int(rescales), MAX_SHIFT if rescales else 0)
    if activation is not None and (
        activation not in ACTIVATIONS or kind not in ACTIVATED or is_raw
    ):
        raise ValueError(f"{name}: expected another activation, got {activation!r:.80}")
    arrays: dict[str, NDArray[Any]] = {}
    c, f = step.input_shape[0], step.output_shape[0]
    if kind in ("conv", "scale", "subsample"):
        of_filter = (f, c, *step.kernel) if kind == "conv" else (f, 1, 1, 1)
        arrays["weight"] = _weights(tensors, f"{name}.weight", of_filter, bits)
        arrays["bias"] = bias = _tensor(tensors, f"{name}.bias", (f,), np.int32)
        window = 1 if kind == "conv" else math.prod(step.kernel)
        if (
            window * largest_product_sum(arrays["weight"]) > MAX_SUM
            or np.abs(bias.astype(np.int64)).max() > MAX_SUM
        ):
            raise ValueError(f"{name}: expected sums of at most 2^30")
    if rescales:
        count = f if "weight" in arrays else count
        multiplier = _tensor(tensors, f"{name}.multiplier", (count,), np.int32)
        arrays["multiplier"] = multiplier
        if multiplier.min() < 0:
            raise ValueError(f"{name}: expected no negative multiplier")
    unit = number("unit", unit, float(FLOAT32.tiny), ABOVE_FLOAT32)
    return QuantizedLayer(step, unit, **arrays, shift=max(shift, 1)), to


def _output_shape(step: Step, shapes: Sequence[Shape]) -> Shape:
    """That of a step with so many filters, if its sizes are those that its kind has."""
    c, *sides = step.input_shape
    f, name, kind = step.output_shape[0], step.name, step.kind
    windowed = kind == "conv" or kind in POOLS
    if not windowed and (step.kernel, step.stride) != ((1, 1), 1):
        raise ValueError(f"{name}: expected no kernel, got {step.kernel}")
    halves = 2 * step.padding
    if step.padding and not (
        kind == "conv" or (kind == "max_pool" and halves <= min(step.kernel))
    ):
        raise ValueError(f"{name}: expected less padding, got {step.padding}")
    wanted = f if kind == "conv" else c * math.prod(sides) if kind == "flatten" else c
    if f != wanted or shapes[0] != shapes[-1]:
        raise ValueError(f"{name}: expected {wanted} filters for {shapes}, got {f}")
    if any(k > side + halves for k, side in zip(step.kernel, sides, strict=True)):
        raise ValueError(f"{name}: expected a smaller kernel, got {step.kernel}")
    if kind == "flatten":
        return f, 1, 1
    _check_size(name, (c, sides[0] + halves, sides[1] + halves))
    if kind in ("avg_pool", "subsample") and math.prod(step.kernel) > MAX_WINDOW:
        raise ValueError(f"{name}: expected at most 2^22 pixels, got {step.kernel}")
    height, width = (
        (side + halves - k) // step.stride + 1
        for k, side in zip(step.kernel, sides, strict=True)
    )
    _check_size(name, (f, height, width))
    return f, height, width


def _weights(
    tensors: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...], bits: Bits
) -> NDArray[np.int8]:
    """Take weights (F, C, KH, KW), of few bits from their bytes."""
    if bits.weights == 8:
        return _tensor(tensors, name, shape, np.int8)
    rows = shape[0], bytes_of_filter(math.prod(shape[1:]), bits)
    array = _tensor(tensors, name, rows, np.uint8)
    try:
        return unpacked(array, shape, bits)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _tensor(
    tensors: dict[str, NDArray[Any]],
    name: str,
    shape: tuple[int, ...],
    dtype: type[np.int8] | type[np.uint8] | type[np.int32],
) -> NDArray[Any]:
    """Take the tensor of that name, if it fits."""
    array = tensors.pop(name, None)
    if array is None or array.shape != shape or array.dtype != dtype:
        found = None if array is None else (array.shape, array.dtype.name)
        raise ValueError(
            f"{name}: expected {np.dtype(dtype).name} numbers of the shape {shape}, "
            f"got {found}"
        )
    if dtype is np.int8 and array.min() < -MAX_INT8:
        raise ValueError(f"{name}: expected numbers from -127 to 127, got -128")
    return array
