"""The model file: what a model is, in the container of container.py."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number, pair, whole
from lenet5c.bits import Rounding, rounding_from_dict
from lenet5c.data.images import InputStage, is_utf8
from lenet5c.files import container
from lenet5c.files.container import (
    FileFormatError,
    fields,
    parse_json,
    read_file,
    write_file,
)
from lenet5c.interfaces import Network
from lenet5c.layers import Layer, layer_from_dict, layer_to_dict, walk
from lenet5c.layers.base import Shape
from lenet5c.parameters import MAX_PARAMETERS, tensor_shapes

MAX_LABEL_CHARACTERS = 1 << 26  # each label as long as the longest: 256 MiB
MAX_PASSES = 2**31 - 1
# Lists of the history. Durations are left out: the same training gives the same file.
ALWAYS = ("epoch", "loss", "accuracy", "learning_rate")
VALIDATED = ("validation_loss", "validation_accuracy")
History = Mapping[str, list[float]]

__all__ = [
    "Contents",
    "Described",
    "check_classes",
    "checked",
    "checked_data_name",
    "data_name",
    "header_of",
    "metadata_of",
    "metadata_with",
    "naming",
    "parts_of",
    "read",
    "write",
]


class Described(Protocol):
    """What files of all sorts say of a model beside its network."""

    @property
    def stage(self) -> InputStage: ...
    @property
    def source(self) -> tuple[int, int]: ...
    @property
    def classes(self) -> NDArray[Any]: ...
    @property
    def fitted(self) -> bool: ...
    @property
    def passes(self) -> int: ...
    @property
    def trained_on(self) -> str | None: ...
    @property
    def history(self) -> History: ...
    @property
    def rounding(self) -> Rounding | None: ...


class Contents(NamedTuple):
    """What a model file holds.

    Attributes
    ----------
    layers : sequence of Layer
    input_shape : (C, H, W)
    tensors : mapping of str to float32 array
        Parameters and buffers by name.
    stage : InputStage
    source : (int, int)
        Rows and columns of the training images.
    classes : (classes,) array
    fitted : bool
    passes : int
    trained_on : str or None
    history : mapping of str to list of float
        Lists of one length, `epoch` among them, or none. NaN is what is not known.
    rounding : Rounding or None
        What it was trained for.
    """

    layers: Sequence[Layer]
    input_shape: Shape
    tensors: Mapping[str, NDArray[np.float32]]
    stage: InputStage
    source: tuple[int, int]
    classes: NDArray[Any]
    fitted: bool
    passes: int
    trained_on: str | None
    history: History
    rounding: Rounding | None = None


def metadata_of(contents: Contents) -> dict[str, str]:
    """All but the tensors, as texts of JSON."""
    network = {
        "input_shape": list(contents.input_shape),
        "layers": [layer_to_dict(layer) for layer in contents.layers],
    }
    return metadata_with(network, contents)


def metadata_with(network: Mapping[str, Any], contents: Described) -> dict[str, str]:
    """All but the tensors, as texts of JSON, of a network that is described so."""
    stage = contents.stage
    if contents.classes.dtype.kind == "U":
        _check_room(len(contents.classes), contents.classes.dtype.itemsize // 4)
    training: dict[str, Any] = {"passes": contents.passes, "data": data_name(contents)}
    if epochs := contents.history.get("epoch"):
        lists = dict.fromkeys(ALWAYS, [math.nan] * len(epochs))
        lists |= {name: x for name, x in contents.history.items() if x}
        training["history"] = {
            name: [_rounded(value) for value in lists[name]]
            for name in ALWAYS + VALIDATED
            if name in lists
        }
        _checked_history(training["history"])  # what users have put there
    if contents.rounding is not None:
        training["rounding"] = contents.rounding.to_dict()
    metadata = {
        "network": network,
        "input_stage": {
            "mean": stage.mean,
            "deviation": stage.deviation,
            "background": stage.background,
            "source": list(contents.source),
            "fitted": contents.fitted,
            "pixels": stage.pixels,
        },
        "classes": contents.classes.tolist(),
        "training": training,
    }
    return {name: json.dumps(value) for name, value in metadata.items()}


def _rounded(value: float) -> float | None:
    """As many digits as float32 has; None, which is null, for what is not finite."""
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None


def data_name(model: Network | Described) -> str | None:
    """What files say that the model was trained on; None for a path that no text can
    hold."""
    data = model.trained_on
    return data if data is not None and is_utf8(data) else None


def checked_data_name(data: object) -> str | None:
    """What a file says that the model was trained on, or a ValueError."""
    if not (data is None or isinstance(data, str)):
        raise ValueError(f"data: expected a text or null, got {data!r:.80}")
    return data


def header_of(contents: Contents) -> bytes:
    """What the file begins with, before the tensors, and without its digest; the
    history is left out, which is nothing to those who predict.

    Raises
    ------
    ValueError
        If that is too long.
    """
    metadata = metadata_of(contents._replace(history={}))
    return container.header_of(contents.tensors, metadata)


def write(path: str | os.PathLike[str], contents: Contents) -> None:
    """Write a model file, atomically; errors as of `container.write_file`."""
    write_file(path, contents.tensors, metadata_of(contents))


def read(path: str | os.PathLike[str]) -> Contents:
    """Read a model file.

    Raises
    ------
    FileFormatError
        If the file is damaged or not a model file.
    OSError
        If it cannot be read.
    """
    tensors, metadata = read_file(path)
    with naming(path):
        return checked(tensors, metadata)


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """What is wrong in it, as a FileFormatError that begins with the file's name."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error


def checked(
    tensors: dict[str, NDArray[np.float32]], metadata: dict[str, str]
) -> Contents:
    """What a model file holds, or an error of another type that says what is wrong."""
    network, described = parts_of(metadata)
    shape, layers = fields("network", network, "input_shape", "layers")
    if not isinstance(layers, list):
        raise ValueError(f"layers: expected a list, got {layers!r:.80}")
    layers = [layer_from_dict(values) for values in layers]
    _check_sizes(layers, shape, tensors)
    return Contents(layers, tuple(shape), tensors, *described)


def parts_of(metadata: dict[str, str]) -> tuple[Any, tuple[Any, ...]]:
    """What `metadata_with` was given: the network, and the rest in the order of
    `Contents`."""
    network, stage, labels, training = fields(
        "metadata", metadata, "network", "input_stage", "classes", "training"
    )
    *values, source, fitted = fields(
        "input_stage",
        parse_json("input_stage", stage),
        *("mean", "deviation", "background", "pixels", "source", "fitted"),
    )
    classes = check_classes(parse_json("classes", labels))
    if None in values[:3]:
        raise ValueError(f"input_stage: expected numbers, got {values!r:.80}")
    if not isinstance(source, list):
        raise ValueError(f"source: expected [rows, columns], got {source!r:.80}")
    if not isinstance(fitted, bool):
        raise ValueError(f"fitted: expected true or false, got {fitted!r:.80}")
    said = parse_json("training", training)
    lists: History = {}
    if isinstance(said, dict) and "history" in said:
        lists = _checked_history(said.pop("history"))
    rounding = None
    if isinstance(said, dict) and "rounding" in said:
        rounding = rounding_from_dict(said.pop("rounding"))
    passes, data = fields("training", said, "passes", "data")
    return parse_json("network", network), (
        InputStage.checked(*values),
        pair("source", source, 1),
        classes,
        fitted,
        whole("passes", passes, 0, MAX_PASSES),
        checked_data_name(data),
        lists,
        rounding,
    )


def _checked_history(found: object) -> History:
    """Lists of one length, epochs in order; null becomes NaN."""
    names = list(ALWAYS)
    if isinstance(found, dict):
        names += [name for name in VALIDATED if name in found]
    lists = dict(zip(names, fields("history", found, *names), strict=True))
    for name, column in lists.items():
        if not isinstance(column, list) or len(column) != len(lists["epoch"]):
            raise ValueError(
                f"history: expected lists of one length, got {name} {column!r:.80}"
            )
        if name == "epoch":
            lists[name] = [whole("epoch", item, 1, MAX_PASSES) for item in column]
            if any(one >= other for one, other in pairwise(lists[name])):
                raise ValueError(f"epoch: expected rising numbers, got {column!r:.80}")
        else:
            lists[name] = [
                math.nan
                if item is None
                else number(name, item, -sys.float_info.max, math.inf)
                for item in column
            ]
    return lists


def check_classes(labels: object) -> NDArray[Any]:
    """The labels of a model file as an array, from which they can be saved again."""
    sorts = {type(label) for label in labels} if isinstance(labels, list) else set()
    if len(sorts) != 1 or not sorts <= {int, str, bool}:
        raise ValueError(
            "classes: expected integers alone, strings alone or booleans alone, "
            f"got {labels!r:.80}"
        )
    if isinstance(labels, list) and sorts == {str}:
        _check_room(len(labels), max(map(len, labels)))
    classes = np.array(labels)
    if classes.dtype.kind not in "iUb" or classes.tolist() != labels:
        raise ValueError(
            "classes: expected integers of 64 bits, or strings that do not end in "
            f"U+0000, got {labels!r:.80}"
        )
    if len(np.unique(classes)) < len(classes):
        raise ValueError(f"classes: two are the same in {labels!r:.80}")
    return classes


def _check_room(count: int, longest: int) -> None:
    """NumPy gives each label the room of the longest one."""
    if count * longest > MAX_LABEL_CHARACTERS:
        raise ValueError(
            f"classes: expected at most {MAX_LABEL_CHARACTERS:,} characters, the "
            f"number of labels times the longest, got {count:,} times {longest:,}"
        )


def _check_sizes(
    layers: Sequence[Layer],
    input_shape: object,
    tensors: Mapping[str, NDArray[np.float32]],
) -> None:
    """Check that the tensors are these layers' parameters, before anything is built."""
    if not isinstance(input_shape, list) or len(input_shape) != 3:
        raise ValueError(f"input_shape: expected [C, H, W], got {input_shape!r:.80}")
    channels, height, width = (whole("input_shape", n, 1) for n in input_shape)
    shape = channels, height, width
    for _, *maps in walk(layers, shape):
        if max(map(math.prod, maps)) > MAX_PARAMETERS:
            raise ValueError(
                "layers: a feature map is larger than any machine could hold"
            )
    parameters, buffers = tensor_shapes(layers, shape)
    expected = parameters | buffers
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(
            f"expected the parameters {expected!r:.2000}, got {found!r:.2000}"
        )
    for name, tensor in tensors.items():
        if name.endswith(".running_var") and (tensor < 0).any():
            raise ValueError(f"{name}: expected no negative variance")
