"""A trained network as one C99 file: docs/c_export.md.

The code is in csrc/templates: pieces of C, of which a file takes those that it uses.
Maps are [H][W][C] in C, so that what a row of a kernel covers lies together.

    C F    channels of a map, of the map after it
    H W    rows and columns of a map
    KH KW  rows and columns of a kernel
"""

import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.build import get_include
from lenet5c.bits import Bits
from lenet5c.core.places import place
from lenet5c.deploy.int8 import (
    BY_TABLE,
    TANH_TABLE,
    Quantized,
    QuantizedLayer,
    largest_product_sum,
)
from lenet5c.deploy.packing import IN_A_BYTE, base_of, fractions
from lenet5c.deploy.steps import Step, of_channels, steps_of
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import Network
from lenet5c.layers.base import Shape

__all__ = ["export_float", "export_int8"]

COLUMNS = 92
LANES = 8  # filters lie in whole vectors of so many, whatever the processor has
MAX_VECTORS = 2  # in a block of filters
DENSE_VECTORS = 6  # where the output is one pixel
TAPS = 16  # int8 taps are filled up to a multiple of it
HALF = 32  # bits of a product that change nothing where the shift is larger
MAX_TAPS = 500_000  # of few bits, whose digits times taps are below 2^30
# Steps that write over what they read.
IN_PLACE = {"scale", "add", "tanh", "tanh_scaled", "relu", "sigmoid", "leaky"}
LIMITS: dict[str | None, str] = {  # of int8
    **dict.fromkeys(BY_TABLE, "-1023, 1023"),
    "relu": "0, 127",
    None: "-127, 127",
}
SIDES = ("CHANNELS", "ROWS", "COLUMNS")  # of an image
AVR_ARRAY = 32_767  # bytes that avr-gcc takes in an array
AVR_FLASH = (
    65_000  # bytes of constants in reach of 16 bits, beside vectors and the like
)
RESERVED = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char
    class compl concept const consteval constexpr constinit const_cast continue
    co_await co_return co_yield decltype default delete do double dynamic_cast else
    enum explicit export extern false float for friend goto if import inline int
    long module mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public register reinterpret_cast requires restrict return
    short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename typeof typeof_unqual union
    unsigned using virtual void volatile wchar_t while xor xor_eq
    BUFSIZ EOF HUGE_VAL I INFINITY NAN NULL assert complex errno imaginary linux main
    offsetof setjmp stderr stdin stdout unix va_arg va_copy va_end va_start
"""  # keywords of C and C++, names that their headers and compilers define
# A line that is replaced; a word of the head; a name, or a macro and its value.
FILLED = re.compile(
    r"^.*(here: \w+).*\n|(\$[A-Z]+)|\b(?:(digits)|DIGITS|LENET5C)(_\w+)?( 1)?\b", re.M
)
# Lines that the export chooses, or those after #else.
CHOICE = (
    r"(?ms)^#if DIGITS_({0})\n(.*?)(^#else +/\* DIGITS_{0} \*/\n(.*?))?"
    r"^#endif +/\* DIGITS_{0} \*/\n"
)
# What a piece of C defines: a macro, a struct, a function.
DEFINED = re.compile(
    r"^(?:#define (\w+)|\} (\w+);|[\w ]+ (digits_\w+)\([^;{}]*\)\n\{)", re.M
)


def export_float(
    model: Network, path: str | os.PathLike[str], name: str, channels_last: bool
) -> None:
    """What `Model.export_c` does."""
    if not np.isfinite(model.state_vector).all():
        raise ValueError("model: expected finite parameters, got a NaN or infinity")
    of_floats = model.trained_on_floats
    *of_bytes, background, float_scale, float_offset = model.stage.for_core()
    scale, offset = (float_scale, float_offset) if of_floats else of_bytes
    stage = ", ".join(_float_text(value) for value in (scale, offset, background))
    model = model.folded()
    code = _Code(name, "float", "float" if of_floats else "uint8_t", model.input_shape)
    code.input(model, channels_last, "image, {x}", stage)
    steps = steps_of(model.layers, model.input_shape)
    _walk(code, steps, lambda step, other: _float_step(code, model, step, other))
    code.flatten(steps[-1].output_shape)
    code.calls.append(f"logits = maps + @{code.at}@;")
    words = {
        "$WHAT": "Computed in float32.",
        "$SCORE": "probability",
        "$RESULTS": "probabilities  ",
        "digits_result": "float",
        "digits_results": "probabilities",
    }
    code.write(path, model, "float32.c", words)


def _walk(
    code: "_Code", steps: Sequence[Step], add: Callable[[Step, str], None]
) -> None:
    """Add all steps; `add` is given each, and the second map that it reads, if any."""
    maps = [code.at]
    for number, step in enumerate(steps):
        later = {source for other in steps[number + 1 :] for source in other.sources}
        code.held = [at for source, at in enumerate(maps) if source in later]
        code.at = maps[step.sources[0]]
        code.begin(step)
        if step.kind in IN_PLACE:
            code.own()
        add(step, ", ".join(f"maps + @{maps[s]}@" for s in step.sources[1:]))
        maps.append(code.at)


def _float_step(code: "_Code", model: Network, step: Step, other: str) -> None:
    size = math.prod(step.output_shape)
    if step.kind == "conv":
        weight = model.parameters[f"{step.name}.weight"]
        bias = model.parameters.get(f"{step.name}.bias")
        if bias is None:
            bias = np.zeros(len(weight), np.float32)
        block = _block(step)
        blocks = _blocks(_in_rows(weight, step), bias, block)
        what = f"blocks of {block} filters: biases, then the weights, tap by tap"
        array = code.array(code.of_layer(step.name, "weight"), blocks, what)
        code.call("conv", array, _window(step), block, to=step.output_shape)
    elif step.kind == "radial_basis":
        codes = _in_rows(model.buffers[f"{step.name}.codes"], step).T
        array = code.array(code.of_layer(step.name, "codes"), codes, "input by input")
        code.call("radial_basis", array, *codes.shape, to=step.output_shape)
    elif step.kind in ("scale", "subsample"):
        channels, height, width = step.output_shape
        scale, shift = of_channels(step, {**model.parameters, **model.buffers})
        if step.kind == "subsample":  # the mean, scaled
            code.call("avg_pool", _window(step), to=step.output_shape)
            scale *= math.prod(step.kernel)
        values = np.stack([scale, shift]).astype(np.float32)
        what = "scales, then shifts, of channels"
        array = code.array(code.of_layer(step.name, "scales"), values, what)
        code.call("scale", array, height * width, channels, x="{x}")
    elif step.kind == "add":
        code.call("add", size, x=f"{{x}}, {other}")
    elif step.kind in ("tanh", "tanh_scaled", "relu", "sigmoid"):
        code.call(step.kind, size, x="{x}")
    elif step.kind == "leaky":
        code.call("leaky", size, _float_text(step.slope), x="{x}")
    elif not _moved(code, step):
        raise _unknown(step.kind, step.name)
    if step.activation:
        code.call(step.activation, size, x="{x}")


def _moved(code: "_Code", step: Step) -> bool:
    """Add a pooling or a `Flatten`, of any numbers; False if it is something else."""
    if step.kind == "max_pool" and step.padding:
        sizes = (step.kernel[0], step.stride, step.padding, *step.output_shape[1:])
        code.call("max_pool_padded", *step.input_shape, *sizes, to=step.output_shape)
    elif step.kind in ("avg_pool", "max_pool"):
        code.call(step.kind, _window(step), to=step.output_shape)
    elif step.kind == "flatten":
        code.flatten(step.input_shape)
    else:
        return False
    return True


def export_int8(
    quantized: Quantized, path: str | os.PathLike[str], name: str, channels_last: bool
) -> None:
    """What `QuantizedModel.export_c` does."""
    code = _Code(name, "int8_t", "uint8_t", quantized.input_shape)
    bits = quantized.bits
    pixels = code.array("pixels", quantized.table, "what a byte becomes")
    if quantized.has_tanh:
        table = np.full(1024, 127, np.int8)
        table[: len(TANH_TABLE)] = TANH_TABLE
        code.array("tanh_table", table, "127 tanh(i / 256)")
    given = f"image, {{x}}, {pixels}"
    code.input(quantized, channels_last, given, quantized.background)
    layers = {layer.step.last: layer for layer in quantized.layers}
    last = quantized.layers[-1]

    def add(step: Step, other: str) -> None:
        layer = layers[step.last]
        if layer is last and step.kind == "avg_pool":
            code.call("avg_pool_scores", _window(step), x="{x}, scores")
            return
        _int8_step(code, layer, bits, other)
        if layer is last and not layer.is_raw:
            channels, height, width = step.output_shape
            code.call("widen", height * width, channels, x="{x}, scores")

    _walk(code, [layer.step for layer in quantized.layers], add)
    words = {
        "$WHAT": "Computed in 8-bit integers.",
        "$SCORE": "score",
        "$RESULTS": f"scores         logits in units of {quantized.scale:.6g}; ",
        "digits_result": "int32_t",
        "digits_results": "scores",
        "DIGITS_UNIT 1": _float_text(quantized.scale),
        "DIGITS_BASE 1": str(base_of(bits)),
        "DIGITS_COUNT 1": str(IN_A_BYTE[bits.weights]),
        "DIGITS_LEAST 1": str(bits.least),
    }
    if bits.weights != 8:
        words["$WHAT"] += f"\n * Weights are from {bits.least} to {bits.most}."
    chosen = {"FEW": bits.weights != 8, "TERNARY": bits.weights == "ternary"}
    scratch = 4 * len(quantized.classes) + 2 * code.taps
    code.write(path, quantized, "int8.c", words, scratch, chosen)


def _int8_step(code: "_Code", layer: QuantizedLayer, bits: Bits, other: str) -> None:
    step = layer.step
    size = math.prod(step.output_shape)
    if step.kind == "conv":
        _int8_conv(code, layer, bits)
    elif step.kind in ("scale", "subsample"):
        _int8_scale(code, layer)
    elif step.kind == "add":
        assert layer.multiplier is not None
        numbers = (*layer.multiplier.tolist(), layer.shift, code.limits(step))
        code.call("add", size, *numbers, x=f"{{x}}, {other}")
    elif step.kind == "relu":
        code.call("relu", size, x="{x}")
    elif step.kind == "leaky":
        assert layer.multiplier is not None
        code.call("leaky", size, int(layer.multiplier[0]), layer.shift, x="{x}")
    elif step.kind in BY_TABLE:
        assert layer.multiplier is not None
        table = (int(layer.multiplier[0]), layer.shift, code.table(step.kind))
        code.call("tanh", size, *table, x="{x}")
    elif not _moved(code, step):
        raise _unknown(step.kind, step.name)
    if "sigmoid" in (step.kind, step.activation):  # so far it is the tanh of half
        code.call("sigmoid", size, x="{x}")


def _int8_scale(code: "_Code", layer: QuantizedLayer) -> None:
    step = layer.step
    arrays = [
        code.array(code.of_layer(step.name, part), values, what)
        for part, values, what in (
            ("weight", layer.weight, "of channels"),
            ("bias", layer.bias, "in units of the products"),
            ("multiplier", layer.multiplier, f"over 2^{layer.shift}"),
        )
        if values is not None
    ]
    numbers = (layer.shift, code.limits(step), _window(step))
    if step.kind == "scale":
        code.call("scale", *arrays, *numbers, x="{x}, {x}")
    else:
        code.call("scale", *arrays, *numbers, to=step.output_shape)


def _int8_conv(code: "_Code", layer: QuantizedLayer, bits: Bits) -> None:
    step = layer.step
    assert layer.weight is not None
    assert layer.bias is not None
    rows = _in_rows(layer.weight, step)
    used = rows.shape[1]
    two = step.output_shape[1:] != (1, 1)
    of_bits, up, moved = "", 0, ""
    if bits.weights == 8:
        taps = -(-used // TAPS) * TAPS
        rows = np.pad(rows, ((0, 0), (0, taps - used)))
        # Room for the patch of a pixel, or for two that are filled up to fours.
        code.taps = max(code.taps, taps, two * 2 * (-(-used // 4) * 4))
    else:
        if used > MAX_TAPS:
            raise ValueError(
                f"C export: expected at most {MAX_TAPS:,} weights of few bits in a "
                f"filter of {step.name!r}, got {used:,}"
            )
        rows = fractions(rows, bits)
        taps = rows.shape[1]
        code.taps = max(code.taps, (1 + two) * taps * IN_A_BYTE[bits.weights])
        of_bits = f", {bits.weights}" + " bits" * (bits.weights != "ternary")
        up = _room(layer)
        moved = f", {up}"
    group = next(count for count in (4, 3, 2, 1) if len(rows) % count == 0)
    what = f"[{len(rows)}][{taps}], a filter's taps in a row{of_bits}"
    weight = code.array(code.of_layer(step.name, "weight"), rows, what)
    what = "in units of the sums"
    arrays = [weight, code.array(code.of_layer(step.name, "bias"), layer.bias, what)]
    if layer.multiplier is None:
        both, to = "0, scores", None
        arrays.append("0")
    else:
        both, to = "{y}, 0", step.output_shape
        what = f"of the sums, over 2^{layer.shift}"
        of_filters = code.of_layer(step.name, "multiplier")
        arrays.append(code.array(of_filters, layer.multiplier, what))
    given = f"{{x}}, {both}, {code.name.upper()}_PATCH{moved}"
    numbers = (layer.shift + up, code.limits(step), _window(step), taps, group)
    code.call("conv", *arrays, *numbers, x=given, to=to)


def _room(layer: QuantizedLayer) -> int:
    """By how much the shift may grow to be beyond 32, where sums have room for that."""
    assert layer.weight is not None
    assert layer.bias is not None
    if layer.multiplier is None or layer.shift > HALF:
        return 0
    up = HALF + 1 - layer.shift
    largest = largest_product_sum(layer.weight) + int(np.abs(layer.bias).max())
    return up if largest << up < 1 << 31 else 0


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
            not re.fullmatch("[A-Za-z](_?[A-Za-z0-9]){,30}", name)
            or len(name) > 31
            or name in RESERVED.split()
        ):
            raise ValueError(
                "name: expected a C identifier that begins with a letter, has at most "
                "31 characters and no underscore at its end or beside another one, and "
                f"is no keyword or standard name, got {name!r:.80}"
            )
        self.name = name
        self.number = number
        self.pixel = pixel
        self.used = {"digits_predict"}
        self.layer_names: dict[str, str] = {}
        self.arrays: list[str] = []
        self.bytes = 0
        self.largest = (0, "")  # array
        self.layers: list[str] = []
        self.calls: list[str] = []
        self.sizes = [math.prod(input_shape)]
        self.at = 0
        self.held: list[int] = []
        self.taps = 1
        self.order = ""

    def of_layer(self, layer: str, part: str) -> str:
        """The name of a layer's array, without the network's.

        What stands for the layer has no underscore: layer b of a network net_a and
        layer a_b of a network net have two names.
        """
        if layer not in self.layer_names:
            plain = re.sub("[^A-Za-z0-9]", "", layer)[:16] or "layer"
            name, number = plain, 1
            while name in self.layer_names.values():
                number += 1
                name = f"{plain}n{number}"
            self.layer_names[layer] = name
        return f"{self.layer_names[layer]}_{part}"

    def array(self, name: str, values: NDArray[Any], what: str) -> str:
        """Add a constant array; what it is called in C."""
        name = f"{self.name}_{name}"
        real = values.dtype == np.float32
        kind = "float" if real else f"{values.dtype}_t"
        numbers = map(_float_text, values.flat) if real else map(str, values.flat)
        text = _wrapped(", ".join(numbers))
        place = "" if real else f" {self.name.upper()}_FLASH"
        self.arrays.append(
            f"/* {what} */\n"
            f"static const {kind} {name}[{values.size}]{place} = {{\n{text}}};\n\n"
        )
        self.bytes += values.nbytes
        self.largest = max(self.largest, (values.nbytes, name))
        return name

    def limits(self, step: Step) -> str:
        """Between which a rescaled number lies, and the table to look it up in."""
        return f"{LIMITS[step.activation]}, {self.table(step.activation)}"

    def table(self, activation: str | None) -> str:
        return f"{self.name}_tanh_table" if activation in BY_TABLE else "0"

    def begin(self, step: Step) -> None:
        """A comment, and the zeros around the input."""
        text = f"{_plain(step.name)}: {_shape(step.input_shape)} -> "
        text += _shape(step.output_shape)
        if step.activation:
            text += f", {step.activation.replace('_', ' ')}"
        elif step.name == step.last and step.kind != "conv":
            text += f", {step.kind.replace('_', ' ')}"
        self.layers.append(text)
        self.calls += ["", f"/* {text} */"]
        if step.padding and step.kind == "conv":
            channels, height, width = step.input_shape
            both = 2 * step.padding
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
        self.used.add(f"digits_{function}")
        self.calls.append(f"{self.name}_{function}({text});")

    def input(
        self, model: Network | Quantized, last: bool, x: str, *numbers: object
    ) -> None:
        """Add the call that reads the image."""
        channels, height, width = model.input_shape
        sides = [f"[{self.name.upper()}_{side}]" for side in SIDES]
        self.order = "".join([*sides[1:], sides[0]] if last else sides)
        sizes = (channels, *model.source, int(last), height, width)
        self.call("input", *sizes, *numbers, x=x)

    def flatten(self, shape: Shape) -> None:
        """Bring the map into the order [C][H][W], if that is another one."""
        channels, pixels = shape[0], shape[1] * shape[2]
        if channels > 1 and pixels > 1:
            self.call("flatten", pixels, channels, to=shape)

    def own(self) -> None:
        """Copy the map if another layer reads it later, before it is written over."""
        if self.at in self.held:
            before, size = self.at, self.sizes[self.at]
            self.at = len(self.sizes)
            self.sizes.append(size)
            both = f"maps + @{self.at}@, maps + @{before}@"
            self.calls.append(f"memcpy({both}, {size} * sizeof({self.number}));")

    def limits_of_avr(self, maps: int) -> str:
        """An error for AVR if arrays are too large for its addresses of 16 bits."""
        if self.number == "float":
            return ""
        size, array = max(self.largest, (maps, f"{self.name}_workspace"))
        if size > AVR_ARRAY:
            said = (
                f"{array}: {size:,} bytes, and avr-gcc takes {AVR_ARRAY:,} in an array"
            )
        elif self.bytes > AVR_FLASH:
            said = f"{self.bytes:,} bytes of constants, and AVR reads {AVR_FLASH:,}"
        else:
            return ""
        return f'#if defined(__AVR__)\n#error "{self.name}: {said}"\n#endif\n'

    def placed(self) -> tuple[list[str], int]:
        """The calls with the places of the maps, and the numbers that these take."""
        needed: dict[int, list[int]] = {}
        for call, text in enumerate(self.calls):
            for found in re.findall("@([0-9]+)@", text):
                needed.setdefault(int(found), []).append(call)
        lives = [
            (needed[index][0], needed[index][-1], size)
            for index, size in enumerate(self.sizes)
        ]
        starts, length = place(lives)
        calls = [
            re.sub("@([0-9]+)@", lambda at: str(starts[int(at[1])]), call)
            for call in self.calls
        ]
        return calls, length

    def write(
        self,
        path: str | os.PathLike[str],
        model: Network | Quantized,
        template: str,
        words: dict[str, str],
        scratch: int = 0,
        chosen: Mapping[str, bool] = {},
    ) -> None:
        """Put the file together; the workspace has `scratch` bytes beside the maps.

        Of lines within ``#if DIGITS_...`` of the template are those taken that are
        `chosen`.
        """
        calls, size = self.placed()
        memory = size * (4 if self.number == "float" else 1) + scratch
        labels = [_c_text(str(label)) for label in model.classes.tolist()]
        sizes = (model.input_shape[0], *model.source, len(labels), memory)
        names = (*SIDES, "CLASSES", "WORKSPACE_BYTES")
        words = {
            "$FILE": _plain(os.path.basename(os.fspath(path))),
            "$CONSTANTS": f"{self.bytes:,}",
            "$MEMORY": f"{memory:,}",
            "$LAYERS": "".join(f" *     {layer}\n" for layer in self.layers),
            "$ORDER": self.order,
            "$TRAINED": model.stage.kind
            + (f", {_plain(model.trained_on)}" if model.trained_on else ""),
            "$RANGE": "0 to 255"
            if self.pixel == "uint8_t"
            else "as the training images",
            "digits_pixel": self.pixel,
            "digits_number": self.number,
            "DIGITS_SPELLED": f"{self.name.upper()}_H_{self.name}",
            "DIGITS_MAPS": str(size),
            "DIGITS_TAPS": str(self.taps),
            "DIGITS_SCORES": str(len(labels)),
            "here: names": f"const char *const {self.name}_class_names[] = {{\n"
            + "".join(f"    {label},\n" for label in labels)
            + "};\n",
            "here: calls": "".join(_wrapped(call, 8) + "\n" for call in calls),
            **{f"DIGITS_{n} 1": str(s) for n, s in zip(names, sizes, strict=True)},
            "here: limits": self.limits_of_avr(size),
            **words,
        }
        workspace, code = _pieces(template, self.used, chosen)
        macros = sorted(set(re.findall(r"^#define (\w+)", code, re.M)))
        code += "".join(f"#undef {macro}\n" for macro in macros)
        words["here: workspace"] = self.filled(workspace, words)
        if "here: constants" not in code:
            code = "/* here: constants */\n\n" + code
        words["here: constants"] = "\n" + "".join(self.arrays).rstrip("\n") + "\n"
        words["here: code"] = self.filled(code, words)
        text = self.filled(_template("network.h"), words)
        write_atomically(path, [text.encode()])

    def filled(self, text: str, words: dict[str, str]) -> str:
        """A piece of C with this network's names, sizes and code."""

        def replaced(found: re.Match[str]) -> str:
            key = found[1] or found[2] or found[0]
            if key in words and not found[5]:
                return words[key]
            name = (self.name if found[3] else self.name.upper()) + (found[4] or "")
            if key in words:
                return f"{name} {words[key]}"
            return name + (found[5] or "")

        return FILLED.sub(replaced, text)


def _template(file: str) -> str:
    with open(
        os.path.join(get_include(), "templates", file), encoding="utf-8"
    ) as opened:
        return opened.read()


def _pieces(
    template: str, used: set[str], chosen: Mapping[str, bool]
) -> tuple[str, str]:
    """The struct of the workspace, and the functions `used` with what they use.

    A piece stands between empty lines, outside of braces and of #if.
    """
    pieces, lines, depth = [], [], 0
    for file in ("../elementary.h", "common.h", template):
        guard = r"#ifndef (\w+_H)\n#define \1\n((.*\n)*)#endif\n"
        text = re.sub(guard, r"\2", _template(file))
        for name, is_chosen in chosen.items():
            text = re.sub(CHOICE.format(name), r"\2" if is_chosen else r"\4", text)
        for line in [*text.splitlines(), ""]:
            depth += line.count("{") - line.count("}")
            depth += line.startswith("#if") - line.startswith("#endif")
            if line or depth:
                lines.append(line + "\n")
            else:
                pieces.append("".join(lines))
                lines = []
    defining = {
        name: piece
        for piece in pieces
        for names in DEFINED.findall(piece)
        for name in names
    }
    workspace = defining.pop("digits_workspace")
    taken, wanted = set(), list(used)
    while wanted:
        piece = defining.get(wanted.pop(), "")
        if piece not in taken:
            taken.add(piece)
            wanted += re.findall(r"\w+", piece)
    return workspace, "".join(piece + "\n" for piece in pieces if piece in taken)


def _unknown(kind: str, name: str) -> ValueError:
    return ValueError(f"C export: no code for layers of kind {kind!r}, as {name!r} is")


def _window(step: Step) -> str:
    """The sizes that convolutions and pooling are called with."""
    channels, _, width = step.input_shape
    filters, height, columns = step.output_shape
    rows, across = step.kernel
    out = f"{step.stride}, {height}, {columns}"
    if step.kind == "conv":
        width += 2 * step.padding
        return f"{channels}, {width}, {rows}, {across * channels}, {out}, {filters}"
    size = f"{rows}" if step.kind == "max_pool" else f"{rows}, {across}"
    return f"{channels}, {width}, {size}, {out}"


def _block(step: Step) -> int:
    """Filters whose weights lie together: all that one pixel has, or less."""
    filters, _, columns = step.output_shape
    vectors = -(-filters // LANES)
    blocks = -(-vectors // (DENSE_VECTORS if columns == 1 else MAX_VECTORS))
    return -(-vectors // blocks) * LANES


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
    return re.sub(r"[^A-Za-z0-9 _./-]", "_", text)


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
