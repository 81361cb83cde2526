"""A trained network as one HTML page to draw on: docs/page.md.

The page is put together from the files in web/, and needs nothing else. Names of
classes and layers, labels and the title are text in it and never markup; what it runs
are the scripts with the hashes that its policy names.
"""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.data.images import InputStage, as_images, encode_labels
from lenet5c.data.prepare import SIZES
from lenet5c.deploy.int8 import TANH_TABLE, Quantized
from lenet5c.deploy.steps import Step, of_channels, steps_of
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import Network
from lenet5c.layers import walk
from lenet5c.layers.base import Shape

__all__ = ["Examples", "export_float", "export_int8"]

# Images and their labels, as a part of a data set is.
Examples = tuple[ArrayLike, ArrayLike]
# Images (N, C, H, W), class numbers (N,), logits (N, classes).
Judged = tuple[NDArray[Any], NDArray[np.int32], NDArray[Any]]

WEB = Path(__file__).with_name("web")
SCRIPTS = ("network.js", "prepare.js", "page.js")
MAX_EXAMPLES = 12
EXAMPLE_BYTES = 100_000  # of all examples together, but for the first

# What network.js takes where the description of a layer says nothing.
USUAL = {"kernel": (1, 1), "stride": 1, "padding": 0, "slope": 0.0, "activation": None}

# By the kind of a step, its kind in network.js and what the page calls it.
KINDS = {
    "conv": ("conv", "convolution"),
    "radial_basis": ("radial_basis", "distance from codes"),
    "scale": ("scale", "batch normalisation"),
    "add": ("add", "sum of two branches"),
    "avg_pool": ("avg_pool", "average pooling"),
    "subsample": ("scale", "subsampling"),
    "max_pool": ("max_pool", "max pooling"),
    "tanh": ("activation", "tanh"),
    "tanh_scaled": ("activation", "scaled tanh"),
    "relu": ("activation", "ReLU"),
    "sigmoid": ("activation", "sigmoid"),
    "leaky": ("activation", "leaky ReLU"),
    "flatten": ("flatten", "the same numbers in a row"),
}


def export_float(
    model: Network,
    path: str | os.PathLike[str],
    title: str | None,
    examples: Examples | None,
) -> None:
    """What `Model.export_page` does."""
    if not np.isfinite(model.state_vector).all():
        raise ValueError("model: expected finite parameters, got a NaN or infinity")
    given = None
    if examples is not None:
        images, codes = _checked(examples, model.input_shape, model.classes)
        given = images, codes, model.forward(images).astype(np.float64)
    scale, offset = _of_a_byte(model.stage)
    folded = model.folded()
    normed = _normed(model, folded)
    values = {**folded.parameters, **folded.buffers}
    steps = steps_of(folded.layers, folded.input_shape)
    layers = [
        _layer(step, step.name in normed) | _encoded(_arrays(step, values))
        for step in steps
    ]
    background = float(model.stage.background)
    numbers = {"scale": scale, "offset": offset, "background": background}
    rest = {"integers": False}
    about = f"{model.parameter_count:,} parameters"
    _write(path, title, folded, numbers, layers, rest, about, given)


def export_int8(
    quantized: Quantized,
    path: str | os.PathLike[str],
    title: str | None,
    examples: Examples | None,
) -> None:
    """What `QuantizedModel.export_page` does."""
    given = None
    if examples is not None:
        images, codes = _checked(examples, quantized.input_shape, quantized.classes)
        given = images, codes, quantized.scores(images) * quantized.scale
    layers = []
    count = 0
    for layer in quantized.layers:
        entry: dict[str, Any] = _layer(layer.step, False) | {"scale": layer.scale}
        arrays = {"weight": layer.weight, "bias": layer.bias}
        arrays["multiplier"] = layer.multiplier
        known = {k: v for k, v in arrays.items() if v is not None}
        count += sum(v.size for k, v in known.items() if k != "multiplier")
        if "multiplier" in known:
            entry["shift"] = layer.shift
        layers.append(entry | _encoded(known))
    rest: dict[str, Any] = {"integers": True, "scale": quantized.scale}
    if quantized.has_tanh:
        rest["tanh"] = _base64(TANH_TABLE)
    numbers = {"table": _base64(quantized.table), "background": quantized.background}
    about = f"{count:,} parameters, in 8-bit integers"
    _write(path, title, quantized, numbers, layers, rest, about, given)


def _of_a_byte(stage: InputStage) -> tuple[float, float]:
    """What a byte from 0 to 255 is multiplied with, and what is added then.

    For a network that was trained on floats which no byte stands for, it is a place
    between the least and the largest of them.
    """
    if isinstance(stage.pixels, tuple) and not stage.takes_bytes:
        least, most = stage.pixels
        return (most - least) / 255, least
    scale, offset, *_ = stage.for_core()
    return scale, offset


def _normed(model: Network, folded: Network) -> set[str]:
    """The layers that a batch normalisation was made part of."""
    kept = {str(layer.name) for layer, *_ in walk(folded.layers, model.input_shape)}
    before, found = "", set()
    for layer, *_ in walk(model.layers, model.input_shape):
        if layer.name not in kept:
            found.add(before)
        else:
            before = str(layer.name)
    return found


def _layer(step: Step, normed: bool) -> dict[str, Any]:
    """What network.js has to know of a step but its weights; usual values left out."""
    if step.kind not in KINDS:
        raise ValueError(
            f"page: no code for layers of kind {step.kind!r}, as {step.name!r} is"
        )
    kind, what = KINDS[step.kind]
    entry: dict[str, Any] = {
        "kind": kind,
        "name": step.name,
        "what": _described(step, what, normed),
        "from": step.sources,
        "input": step.input_shape,
        "output": step.output_shape,
    }
    activation = step.kind if kind == "activation" else step.activation
    found = {
        "kernel": step.kernel,
        "stride": step.stride,
        "padding": step.padding,
        "slope": step.slope,
        "activation": activation,
    }
    return entry | {k: value for k, value in found.items() if value != USUAL[k]}


def _described(step: Step, what: str, normed: bool) -> str:
    rows, columns = step.kernel
    if step.kind == "conv" and step.kernel == step.input_shape[1:] and not step.padding:
        what = "dense"
    elif step.kind in ("conv", "avg_pool", "subsample", "max_pool"):
        what += f" {rows} \N{MULTIPLICATION SIGN} {columns}"
    if normed:
        what += " with batch normalisation"
    if step.activation:
        what += f", {KINDS[step.activation][1]}"
    return what


def _arrays(
    step: Step, values: dict[str, NDArray[np.float32]]
) -> dict[str, NDArray[Any]]:
    """The float32 weights (F, C, KH, KW) and biases (F,) of a step, if it has any."""
    if step.kind in ("scale", "subsample"):
        both = of_channels(step, values)
        weight, bias = (each.astype(np.float32) for each in both)
    elif step.kind == "conv":
        weight = values[f"{step.name}.weight"]
        bias = values.get(f"{step.name}.bias", np.zeros(len(weight), np.float32))
    elif step.kind == "radial_basis":
        return {"weight": values[f"{step.name}.codes"]}
    else:
        return {}
    return {"weight": weight, "bias": bias}


def _encoded(arrays: dict[str, NDArray[Any]]) -> dict[str, str]:
    return {name: _base64(array) for name, array in arrays.items()}


def _base64(array: NDArray[Any]) -> str:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(little.data).decode()


def _checked(
    examples: Examples, shape: Shape, classes: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Images (N, C, H, W) and their class numbers (N,)."""
    if not isinstance(examples, Sequence) or len(examples) != 2:
        length = f" of {len(examples)}" if isinstance(examples, Sequence) else ""
        raise TypeError(
            "examples: expected images and their labels, (images, labels), got "
            f"{type(examples).__name__}{length}"
        )
    images = as_images(examples[0], shape, "examples")
    _, codes = encode_labels(examples[1], len(images), len(classes), classes)
    return images, codes


def _hardest(given: Judged, model: Network | Quantized) -> list[dict[str, str]]:
    """The images whose own class is the least probable."""
    images, codes, logits = given
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(codes)), codes]
    own = own - np.log(np.exp(logits).sum(axis=1))
    count = max(1, min(MAX_EXAMPLES, EXAMPLE_BYTES // images[0].size))
    scale, offset = _of_a_byte(model.stage)
    chosen = []
    for at in np.argsort(own, kind="stable")[:count]:
        pixels = images[at]
        if pixels.dtype != np.uint8:
            floats = model.stage.for_core()[3:]
            seen = pixels.astype(np.float64) * floats[0] + floats[1]
            pixels = np.clip(np.rint((seen - offset) / scale), 0, 255).astype(np.uint8)
        if pixels.shape[1:] != model.source:
            pixels = _centred(pixels, model.source)
        label = str(model.classes[codes[at]])
        chosen.append({"label": label, "pixels": _base64(pixels)})
    return chosen


def _centred(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(C, H, W) cut or filled up with black to the size of the training images, as both
    are centred in the network's input."""
    for axis, side in ((1, size[0]), (2, size[1])):
        have = pixels.shape[axis]
        if have > side:
            first = (have - side) // 2
            pixels = pixels.take(range(first, first + side), axis)
        else:
            before = (side - have) // 2
            around = [(0, 0)] * 3
            around[axis] = (before, side - have - before)
            pixels = np.pad(pixels, around)
    return pixels


def _write(
    path: str | os.PathLike[str],
    title: str | None,
    model: Network | Quantized,
    numbers: dict[str, Any],
    layers: list[dict[str, Any]],
    rest: dict[str, Any],
    about: str,
    given: Judged | None,
) -> None:
    """Put the page together."""
    classes = [str(label) for label in model.classes.tolist()]
    if title is None:
        title = f"A network of {len(classes):,} classes"
    elif not isinstance(title, str):
        raise TypeError(f"title: expected a text, got {title!r}")
    channels, *_ = model.input_shape
    rows, columns = model.source
    description = rest | {
        "classes": classes,
        "input": numbers | {"shape": model.input_shape, "source": model.source},
        # drawn signs are prepared as those of MNIST were, and other pictures fitted in
        "prepares": channels == 1 and rows == columns and SIZES[0] <= rows <= SIZES[1],
        "layers": layers,
        "examples": [] if given is None else _hardest(given, model),
    }
    style = _source("page.css")
    scripts = [_source(name) for name in SCRIPTS]
    hashes = " ".join(map(_hash, scripts))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src {_hash(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    words = {
        "title": html.escape(title),
        "policy": html.escape(policy, quote=True),
        "style": style,
        "network": _json(description),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    template = _source("page.html")
    size = len(template) + sum(map(len, words.values()))  # plain ASCII, nearly
    words["about"] = f"{about} (a file of {size / 1000:,.0f} KB)"
    page = re.sub(r"\{\{(\w+)\}\}", lambda word: words[word[1]], template)
    write_atomically(path, [page.encode("utf-8", "replace")])


def _source(name: str) -> str:
    return (WEB / name).read_text("utf-8")


def _hash(text: str) -> str:
    return (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    )


def _json(description: dict[str, Any]) -> str:
    """JSON of plain ASCII in which nothing can be taken for markup."""
    text = json.dumps(description, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)
