"""A trained network as one C99 file: docs/c_export.md.

Maps are [H][W][C] in C, so that what a row of a kernel covers lies together.

    C F    channels of a map, of the map after it
    H W    rows and columns of a map
    KH KW  rows and columns of a kernel
"""

import math
import os
import re
import textwrap
from collections.abc import Sequence
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c.deploy.c_source import FUNCTIONS, HEAD, PREDICT_FLOAT, PREDICT_INT8, START
from lenet5c.deploy.int8 import TANH_TABLE, Quantized, QuantizedLayer
from lenet5c.deploy.steps import Step, steps_of
from lenet5c.files.atomic import write_atomically
from lenet5c.graph import scale_and_shift
from lenet5c.interfaces import Network
from lenet5c.layers import (
    BatchNorm2d,
    GlobalAvgPool2d,
    Layer,
    MaxPool2d,
    Residual,
    Shape,
)

__all__ = ["export_float", "export_int8"]

COLUMNS = 92
LANES = 8  # floats of a vector in the C code
MOST_VECTORS = 14  # sums at a time: with their operands, the registers of AVX2
DENSE_VECTORS = 15  # one pixel: its operands come from memory
TILE = DENSE_VECTORS * LANES
TAPS = 16  # int8 taps are filled up to a multiple of it
LIMITS = {"tanh": "-799, 799", "relu": "0, 127", None: "-127, 127"}  # of int8
KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char
    class compl concept const consteval constexpr constinit const_cast continue
    co_await co_return co_yield decltype default delete do double dynamic_cast else
    enum explicit export extern false float for friend goto if import inline int
    long module mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast requires restrict return
    short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename typeof typeof_unqual union
    unsigned using virtual void volatile wchar_t while xor xor_eq
"""


def export_float(model: Network, path: str | os.PathLike[str], name: str) -> None:
    """What `Model.export_c` does."""
    if not np.isfinite(model.parameter_vector).all():
        raise ValueError("model: expected finite parameters, got a NaN or infinity")
    of_floats = model.trained_on_floats
    *of_bytes, background, float_scale, float_offset = model.stage.for_core()
    scale, offset = (float_scale, float_offset) if of_floats else of_bytes
    stage = ", ".join(_float_text(value) for value in (scale, offset, background))
    model = model.folded()
    code = _Code(name, "float", "float" if of_floats else "uint8_t", model.input_shape)
    code.use("vectors", "input_float", "softmax")
    code.call("input", _input_sizes(model), stage, x="image, {x}")
    code.flatten(_float_layers(code, model, model.layers, model.input_shape))
    words = {
        "WHAT": "Computed in float32.",
        "SCORE": "probability",
        "RESULT": "float *probabilities",
        "RESULTS": "probabilities  ",
        "MEMBERS": f"    float maps[{code.memory}];\n",
        "MEMORY": f"{4 * code.memory:,}",
    }
    code.write(path, model, PREDICT_FLOAT, words)


def _float_layers(
    code: "_Code", model: Network, layers: Sequence[Layer], shape: Shape
) -> Shape:
    """Add what these layers make of a map; the shape that it has in C, where a
    `Flatten` at the end may have moved nothing."""
    count = next((i for i, layer in enumerate(layers) if _is_alone(layer)), len(layers))
    lies = shape
    for step in steps_of(layers[:count], shape):
        _float_step(code, model, step)
        lies = step.output_shape
    if count == len(layers):
        return lies
    for layer in layers[:count]:
        shape = layer.output_shape(shape)
    if lies != shape:
        code.flatten(lies)
    layer = layers[count]
    _float_layer(code, model, layer, shape)
    return _float_layers(code, model, layers[count + 1 :], layer.output_shape(shape))


def _is_alone(layer: Layer) -> bool:
    """Whether the layer is no part of a chain of steps."""
    if isinstance(layer, MaxPool2d):
        return layer.padding > 0
    return isinstance(layer, (BatchNorm2d, GlobalAvgPool2d, Residual))


def _float_step(code: "_Code", model: Network, step: Step) -> None:
    code.begin(step)
    if step.kind == "conv":
        weight = model.parameters[f"{step.name}.weight"]
        bias = model.parameters.get(f"{step.name}.bias")
        if bias is None:
            bias = np.zeros(len(weight), np.float32)
        block, at_once = _tile(step)
        blocks = _blocks(_in_rows(weight, step), bias, block)
        what = f"blocks of {block} filters: biases, then the weights, tap by tap"
        array = code.array(f"{step.name}_weight", blocks, what)
        code.use("conv_float")
        code.call("conv", array, _window(step), block, at_once, to=step.output_shape)
    elif step.kind in ("avg_pool", "max_pool"):
        code.use(f"{step.kind}_float")
        code.call(step.kind, _window(step), to=step.output_shape)
    activation = step.activation if step.kind == "conv" else step.kind
    if activation in ("tanh", "relu"):
        code.use(f"{activation}_float")
        code.own()
        code.call(activation, math.prod(step.output_shape), x="{x}")
    elif step.kind == "flatten":
        code.flatten(step.input_shape)
    elif step.kind not in ("conv", "avg_pool", "max_pool"):
        raise ValueError(f"{step.name}: no C code for a step of kind {step.kind!r}")


def _float_layer(code: "_Code", model: Network, layer: Layer, shape: Shape) -> None:
    """Add a layer that is no part of a chain."""
    (channels, height, width), after = shape, layer.output_shape(shape)
    name = str(layer.name)
    if isinstance(layer, Residual):
        _float_residual(code, model, layer, shape)
        return
    code.begin(Step(layer.kind, name, name, shape, after))
    if isinstance(layer, MaxPool2d):
        sizes = (layer.kernel_size, layer.stride, layer.padding, *after[1:])
        code.use("padded_max_pool")
        code.call("padded_max_pool", channels, height, width, *sizes, to=after)
    elif isinstance(layer, GlobalAvgPool2d):
        code.use("global_avg_pool_float")
        code.call("global_avg_pool", channels, height * width, to=after)
    elif isinstance(layer, BatchNorm2d):
        values = {**model.parameters, **model.buffers}
        both = scale_and_shift(values, name, layer.eps)
        numbers = np.stack(both).astype(np.float32)
        array = code.array(f"{name}_scale", numbers, "scales, then shifts, of channels")
        code.use("scale_float")
        code.own()
        code.call("scale", array, height * width, channels, x="{x}")
    else:
        raise ValueError(f"{name}: no C code for a layer of kind {layer.kind!r}")


def _float_residual(
    code: "_Code", model: Network, layer: Residual, shape: Shape
) -> None:
    """Add both branches and their sum."""
    before, ends = code.at, []
    code.held.append(before)
    for branch in (layer.layers, layer.shortcut):
        code.at = before
        lies, after = _float_layers(code, model, branch, shape), shape
        for inner in branch:
            after = inner.output_shape(after)
        if lies != after:
            code.flatten(lies)
        ends.append(code.at)
    code.held.pop()
    code.begin(Step(layer.kind, str(layer.name), str(layer.name), shape, after))
    code.at = ends[0]
    code.own()
    code.use("add_float")
    code.call("add", math.prod(after), x=f"{{x}}, maps + @{ends[1]}@")


def export_int8(quantized: Quantized, path: str | os.PathLike[str], name: str) -> None:
    """What `QuantizedModel.export_c` does."""
    code = _Code(name, "int8_t", "uint8_t", quantized.input_shape)
    code.array("pixels", quantized.table, "what a byte becomes")
    if quantized.has_tanh:
        code.array("tanh_table", TANH_TABLE, "127 tanh(i / 256)")
        code.use("tanh_table")
    code.use("input_int8")
    code.call("input", _input_sizes(quantized), quantized.background, x="image, {x}")
    places = [code.at]  # of the maps that steps read
    steps = [layer.step for layer in quantized.layers]
    for number, layer in enumerate(quantized.layers):
        step = layer.step
        later = {s for other in steps[number + 1 :] for s in other.sources}
        code.held = [place for s, place in enumerate(places) if s in later]
        code.at = places[step.sources[0]]
        code.begin(step)
        last = step is steps[-1]
        scores = last and (step.kind == "avg_pool" or layer.is_raw)
        if scores and step.kind == "avg_pool":
            code.use("avg_pool_scores")
            code.call("avg_pool_scores", _window(step), x="{x}, scores")
        elif step.kind == "add":
            assert layer.multiplier is not None
            code.own()
            code.use("rescale", "add_int8")
            numbers = (*layer.multiplier.tolist(), layer.shift, LIMITS[step.activation])
            other = f"{{x}}, maps + @{places[step.sources[1]]}@"
            code.call("add", math.prod(step.output_shape), *numbers, x=other)
        else:
            _int8_step(code, layer)
        if last and not scores:
            channels, height, width = step.output_shape
            code.use("widen")
            code.call("widen", height * width, channels, x="{x}, scores")
        places.append(code.at)
    classes = len(quantized.classes)
    words = {
        "WHAT": "Computed in 8-bit integers.",
        "SCORE": "score",
        "RESULT": "int32_t *scores",
        "RESULTS": f"scores         logits in units of {quantized.scale:.6g}; ",
        "MEMBERS": f"    int32_t scores[{classes}];\n    int16_t patch[{code.taps}];\n"
        f"    int8_t maps[{code.memory}];\n",
        "MEMORY": f"{4 * classes + 2 * code.taps + code.memory:,}",
    }
    code.write(path, quantized, PREDICT_INT8, words)


def _int8_step(code: "_Code", layer: QuantizedLayer) -> None:
    """Add a step that reads one map."""
    step = layer.step
    if step.kind == "conv":
        _int8_conv(code, layer)
    elif step.kind == "scale":
        _int8_scale(code, layer)
    elif step.kind == "max_pool" and step.padding:
        code.use("padded_max_pool")
        sizes = (step.kernel[0], step.stride, step.padding, *step.output_shape[1:])
        code.call("padded_max_pool", *step.input_shape, *sizes, to=step.output_shape)
    elif step.kind in ("avg_pool", "max_pool"):
        code.use(f"{step.kind}_int8")
        code.call(step.kind, _window(step), to=step.output_shape)
    elif step.kind == "flatten":
        code.flatten(step.input_shape)
    elif step.kind in ("tanh", "relu"):
        numbers = [math.prod(step.output_shape)]
        if layer.multiplier is not None:
            code.use("rescale")
            numbers += [int(layer.multiplier[0]), layer.shift]
        code.own()
        code.use(f"{step.kind}_int8")
        code.call(step.kind, *numbers, x="{x}")
    else:
        raise ValueError(f"{step.name}: no int8 C for a step of kind {step.kind!r}")


def _int8_scale(code: "_Code", layer: QuantizedLayer) -> None:
    step = layer.step
    arrays = [
        code.array(f"{step.name}_{part}", values, what)
        for part, values, what in (
            ("weight", layer.weight, "of channels"),
            ("bias", layer.bias, "in units of the products"),
            ("multiplier", layer.multiplier, f"over 2^{layer.shift}"),
        )
        if values is not None
    ]
    channels, height, width = step.output_shape
    code.own()
    code.use("rescale", "scale_int8")
    numbers = (layer.shift, LIMITS[step.activation], height * width, channels)
    code.call("scale", *arrays, *numbers, x="{x}")


def _int8_conv(code: "_Code", layer: QuantizedLayer) -> None:
    step = layer.step
    assert layer.weight is not None
    assert layer.bias is not None
    rows = _in_rows(layer.weight, step)
    taps = -(-rows.shape[1] // TAPS) * TAPS
    rows = np.pad(rows, ((0, 0), (0, taps - rows.shape[1])))
    code.taps = max(code.taps, taps)
    group = next(count for count in (4, 3, 2, 1) if len(rows) % count == 0)
    code.use("conv_sums")
    what = f"[{len(rows)}][{taps}], a filter's taps in a row"
    arrays = [
        code.array(f"{step.name}_weight", rows, what),
        code.array(f"{step.name}_bias", layer.bias, "in units of the sums"),
    ]
    if layer.multiplier is None:
        code.use("conv_scores")
        patch = "{x}, scores, workspace->patch"
        code.call("conv_scores", *arrays, _window(step), taps, group, x=patch)
        return
    what = f"of the sums, over 2^{layer.shift}"
    arrays.append(code.array(f"{step.name}_multiplier", layer.multiplier, what))
    code.use("rescale", "conv_int8")
    patch = "{x}, {y}, workspace->patch"
    numbers = (layer.shift, LIMITS[step.activation], _window(step), taps, group)
    code.call("conv", *arrays, *numbers, x=patch, to=step.output_shape)


class _Code:
    """A C file in the making.

    Attributes
    ----------
    at : int
        The map that was made last: a number into `sizes`.
    held : list of int
        Maps that are read again later.
    """

    def __init__(self, name: str, number: str, pixel: str, input_shape: Shape) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name: expected a text, got {name!r}")
        if (
            not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,30}", name)
            or name in KEYWORDS.split()
        ):
            raise ValueError(
                "name: expected a C identifier that is no keyword, begins with a "
                f"letter and has at most 31 characters, got {name!r:.80}"
            )
        self.name = name
        self.number = number
        self.pixel = pixel
        self.used: set[str] = set()
        self.names: set[str] = set()
        self.arrays: list[str] = []
        self.bytes = 0
        self.layers: list[str] = []
        self.calls: list[str] = []
        self.sizes = [math.prod(input_shape)]
        self.at = 0
        self.held: list[int] = []
        self.taps = 1

    def use(self, *functions: str) -> None:
        """Take these functions of c_source into the file."""
        self.used.update(functions)

    def array(self, name: str, values: NDArray[Any], what: str) -> str:
        """Add a constant array; what it is called in C."""
        name = re.sub("[^A-Za-z0-9]+", "_", name).strip("_")
        while name.lower() in self.names:
            name += "_"
        self.names.add(name.lower())
        name = f"{self.name}_{name}"
        real = values.dtype == np.float32
        kind = "float" if real else f"{values.dtype}_t"
        numbers = map(_float_text, values.flat) if real else map(str, values.flat)
        text = _wrapped(", ".join(numbers))
        self.arrays.append(
            f"/* {what} */\n"
            f"static const {kind} {name}[{values.size}] = {{\n{text}}};\n\n"
        )
        self.bytes += values.nbytes
        return name

    def begin(self, step: Step) -> None:
        """A comment, and the zeros around the input."""
        text = f"{_plain(step.name)}: {_shape(step.input_shape)} -> "
        text += _shape(step.output_shape)
        if step.activation:
            text += f", {step.activation}"
        elif step.name == step.last and step.kind != "conv":
            text += f", {step.kind.replace('_', ' ')}"
        self.layers.append(text)
        self.calls += ["", f"/* {text} */"]
        if step.padding and step.kind == "conv":
            channels, height, width = step.input_shape
            both = 2 * step.padding
            self.use("pad")
            self.call(
                "pad",
                channels,
                height,
                width,
                step.padding,
                to=(channels, height + both, width + both),
            )

    def call(
        self,
        function: str,
        *numbers: object,
        x: str = "{x}, {y}",
        to: Shape | None = None,
    ) -> None:
        """Add a call on the map that was made last, or to the map after it."""
        now = f"maps + @{self.at}@"
        if to is not None:
            self.at = len(self.sizes)
            self.sizes.append(math.prod(to))
        given = x.format(x=now, y=f"maps + @{self.at}@")
        text = ", ".join([given, *map(str, numbers)])
        self.calls.append(f"{self.name}_{function}({text});")

    def flatten(self, shape: Shape) -> None:
        """Bring the map into the order [C][H][W], if that is another one."""
        channels, pixels = shape[0], shape[1] * shape[2]
        if channels > 1 and pixels > 1:
            self.use("flatten")
            self.call("flatten", pixels, channels, to=shape)

    def own(self) -> None:
        """Copy the map if another layer reads it later, before it is written over."""
        if self.at in self.held:
            before, size = self.at, self.sizes[self.at]
            self.at = len(self.sizes)
            self.sizes.append(size)
            both = f"maps + @{self.at}@, maps + @{before}@"
            self.calls.append(f"memcpy({both}, {size} * sizeof({self.number}));")

    @property
    def starts(self) -> list[int]:
        """Where the maps lie in the workspace.

        In a chain they take turns at both its ends. Otherwise each, the largest first,
        is put into the first gap between those that are needed at the same time.
        """
        needed: dict[int, list[int]] = {}
        for call, text in enumerate(self.calls):
            for found in re.findall("@([0-9]+)@", text):
                needed.setdefault(int(found), []).append(call)
        if all(
            needed[index][-1] <= needed[index + 1][0]
            for index in range(len(self.sizes) - 1)
        ):
            pairs = zip(self.sizes, [*self.sizes[1:], 0], strict=True)
            most = max(map(sum, pairs))
            return [
                most - size if index % 2 else 0 for index, size in enumerate(self.sizes)
            ]
        needed[self.at].append(len(self.calls))  # the logits
        starts: dict[int, int] = {}
        for index in sorted(needed, key=lambda index: -self.sizes[index]):
            first, *_, last = [*needed[index], needed[index][-1]]
            start = 0
            for other in sorted(starts, key=starts.__getitem__):
                apart = needed[other][-1] < first or last < needed[other][0]
                if not apart and starts[other] < start + self.sizes[index]:
                    start = max(start, starts[other] + self.sizes[other])
            starts[index] = start
        return [starts[index] for index in range(len(self.sizes))]

    @property
    def memory(self) -> int:
        """Numbers of all maps in the workspace."""
        return max(map(sum, zip(self.starts, self.sizes, strict=True)))

    def write(
        self,
        path: str | os.PathLike[str],
        model: Network | Quantized,
        predict: str,
        words: dict[str, Any],
    ) -> None:
        """Put the file together."""
        starts = self.starts
        calls = [
            _wrapped(re.sub("@([0-9]+)@", lambda at: str(starts[int(at[1])]), call), 8)
            for call in self.calls
        ]
        words = {
            "FILE": _plain(os.path.basename(os.fspath(path))),
            "CONSTANTS": f"{self.bytes:,}",
            "LAYERS": "".join(f" *     {layer}\n" for layer in self.layers),
            "CHANNELS": model.input_shape[0],
            "ROWS": model.source[0],
            "COLUMNS": model.source[1],
            "CLASSES": len(model.classes),
            "NAMES": "".join(
                f"    {_c_text(str(c))},\n" for c in model.classes.tolist()
            ),
            "PIXEL": self.pixel,
            "NUMBER": self.number,
            "TILE": TILE,
            "CALLS": "\n".join([*calls, ""]),
            "LAST": f"maps + {starts[self.at]}",
            "VALUE": "(int8_t)v",
            "RANGE": "0 to 255"
            if self.pixel == "uint8_t"
            else "as the training images",
            **words,
        }
        if "tanh_table" in self.used:
            words["VALUE"] = f"most > 127 ? {self.name}_tanh_of(v) : (int8_t)v"
        if not self.used.isdisjoint({"avg_pool_int8", "avg_pool_scores"}):
            self.use("window_sum")
        functions = [text for key, text in FUNCTIONS.items() if key in self.used]
        before = _filled(HEAD + START, self.name, words)
        after = _filled("".join(functions) + predict, self.name, words)
        write_atomically(
            path, [part.encode() for part in (before, *self.arrays, after)]
        )


def _filled(template: str, name: str, words: dict[str, Any]) -> str:
    """The C code with its names and numbers."""
    template = re.sub(r"\bdigits", name, template)
    template = re.sub(r"\bDIGITS", name.upper(), template)
    return Template(template).substitute(words)


def _input_sizes(model: Network | Quantized) -> str:
    channels, height, width = model.input_shape
    return f"{channels}, {model.source[0]}, {model.source[1]}, {height}, {width}"


def _window(step: Step) -> str:
    """The sizes that convolutions and pooling are called with."""
    channels, _, width = step.input_shape
    filters, height, columns = step.output_shape
    rows, across = step.kernel
    out = f"{step.stride}, {height}, {columns}"
    if step.kind == "conv":
        width += 2 * step.padding
        return f"{channels}, {width}, {rows}, {across * channels}, {out}, {filters}"
    size = f"{rows}, {across}" if step.kind == "avg_pool" else f"{rows}"
    return f"{channels}, {width}, {size}, {out}"


def _tile(step: Step) -> tuple[int, int]:
    """Filters and pixels in a row that are computed at a time."""
    filters, _, columns = step.output_shape
    vectors = -(-filters // LANES)
    if columns == 1:
        blocks = -(-vectors // DENSE_VECTORS)
        return -(-vectors // blocks) * LANES, 1
    of_filters = 2 if vectors > 1 else 1
    tiles = -(-columns * of_filters // MOST_VECTORS)
    return of_filters * LANES, -(-columns // tiles)


def _in_rows(weight: NDArray[Any], step: Step) -> NDArray[Any]:
    """Weights (F, KH KW C): in the order of the maps in C."""
    shape = (step.output_shape[0], step.input_shape[0], *step.kernel)
    return weight.reshape(shape).transpose(0, 2, 3, 1).reshape(shape[0], -1)


def _blocks(
    rows: NDArray[np.float32], bias: NDArray[np.float32], block: int
) -> NDArray[np.float32]:
    """Blocks of filters, filled up with zeros: biases, then the weights of each tap."""
    taps = np.column_stack([bias, rows])
    taps = np.pad(taps, ((0, -len(taps) % block), (0, 0)))
    return taps.reshape(-1, block, taps.shape[1]).transpose(0, 2, 1)


def _shape(shape: Shape) -> str:
    channels, height, width = shape
    return f"{channels}@{height}x{width}"


def _wrapped(text: str, further: int = 4) -> str:
    """Lines that are not too long, indented."""
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent="    ",
        subsequent_indent=" " * further,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _plain(text: str) -> str:
    """The text for a comment."""
    return re.sub(r"[^A-Za-z0-9 _.-]", "_", text)


def _float_text(value: float) -> str:
    text = f"{np.float32(value):.9g}"
    return text + ("f" if re.search("[.e]", text) else ".0f")


def _c_text(text: str) -> str:
    """A string literal of plain ASCII."""
    characters = []
    for byte in text.encode("utf-8", "surrogatepass"):
        character = chr(byte)
        if character in '"\\?':  # a question mark may begin a trigraph
            character = "\\" + character
        elif not 32 <= byte < 127:
            character = f"\\{byte:03o}"
        characters.append(character)
    return '"' + "".join(characters) + '"'
