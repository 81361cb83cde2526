"""Networks from ONNX files: what a file says is taken over exactly or refused."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.habits import explained
from lenet5c.convert.onnx_operators import HINTS, OPERATORS
from lenet5c.convert.onnx_path import Graph, Path, Stage
from lenet5c.convert.onnx_values import (
    ERRORS,
    as_shape,
    content,
    parsed,
)
from lenet5c.convert.weights import Numbers, input_stage
from lenet5c.data.images import InputStage
from lenet5c.files.container import (
    FileFormatError,
    fields,
    open_regular,
    parse_json,
)
from lenet5c.files.model_file import check_classes, checked_data_name
from lenet5c.layers import Dropout, Flatten, Layer, Residual, Sigmoid, walk
from lenet5c.layers.base import Shape
from lenet5c.model import Model

__all__ = ["from_onnx"]

NOTHING = (Dropout, Flatten)  # what they do to numbers in prediction

Array = NDArray[Any]


@explained
def from_onnx(
    path: str | os.PathLike[str],
    *,
    input_shape: Shape | None = None,
    mean: Numbers | None = None,
    deviation: Numbers | None = None,
) -> Model:
    """Read a network of layers that lenet5c has from an ONNX file.

    The graph has to be a chain of layers, in which two branches of one tensor may meet
    in an Add. docs/onnx.md lists the operators and what is expected of them. Maps may
    be channels first, as PyTorch exports them, or turned as in exports of Keras
    networks. A Softmax or LogSoftmax at the end is left out. Opset 9 or newer.

    Parameters
    ----------
    path : str or path-like
        Tensors may be in other files of the same folder.
    input_shape : (int, int, int) or None
        Channels, rows and columns of the file's input, where it does not say them.
    mean, deviation : float, sequence of float or None
        For a network whose input is floating: how uint8 images, which the model takes
        as well, are normalised, (b / 255 - mean) / deviation. None: 0 and 1. If
        channels differ, a `BatchNorm2d` in front does it, and floating images are
        shares of 255 too.

    Returns
    -------
    Model
        With the labels 0 to classes - 1, or those that `Model.export_onnx` wrote.

    Raises
    ------
    FileFormatError
        If the file is damaged, or has something that a Model cannot express: which node
        that is, what was expected, and what to do.
    ImportError
        If the onnx package is missing.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> model.export_onnx("digits.onnx")
    >>> again = lenet5c.from_onnx("digits.onnx")
    >>> np.allclose(again.forward(images[:5]), model.forward(images[:5]), atol=1e-4)
    True
    """
    given = None
    if mean is not None or deviation is not None:
        given = (0 if mean is None else mean, 1 if deviation is None else deviation)
        input_stage(*given, None, max(map(np.size, given)))
    shape = None if input_shape is None else as_shape(input_shape)
    name = os.fspath(path)
    with open_regular(name) as file:
        read = content(file, name)
    try:
        return _model(parsed(read, name), shape, given)
    except ERRORS as error:
        raise FileFormatError(f"{name}: {error}") from error


def _model(
    proto: Any, input_shape: Shape | None, given: tuple[Numbers, Numbers] | None
) -> Model:
    """The network of an ONNX model."""
    graph = Graph(proto, OPERATORS, HINTS)
    path = Path(graph, input_shape)
    path.to_the_end()
    last = [type(layer) for layer in path.layers if not isinstance(layer, NOTHING)]
    if last[-1:] == [Sigmoid] and not path.ended and not graph.own:
        raise ValueError(
            "expected logits or a Softmax at the end, got a Sigmoid, whose numbers are "
            "no shares of one; export the network without it"
        )
    found = graph.stage
    stage, fitted, classes, data = found.input_stage(), True, None, None
    if graph.own:
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        stage, classes, fitted, data = _own_metadata(metadata, found)
    if given is not None:
        stage = path.normalised(*given)
    model = Model(
        _named(path.layers, _names_of(path.layers)),
        input_shape=path.input_shape,
        classes=math.prod(path.shape),
    )
    if classes is None:
        classes = model.classes
    elif len(classes) != model.class_count:
        raise ValueError(
            f"classes: expected {model.class_count} labels, got {len(classes)}"
        )
    tensors = {**model.parameters, **model.buffers}
    walked = walk(model.layers, model.input_shape)
    for (layer, *_), values in zip(walked, path.parameters, strict=True):
        for part, value in values.items():
            tensors[f"{layer.name}.{part}"][...] = value
    if not np.isfinite(model.state_vector).all():
        raise ValueError("expected finite weights, got a NaN or infinity")
    model.set_input(stage, path.source, classes)
    model.fitted, model.trained_on = fitted, data
    return model


def _own_metadata(
    metadata: Mapping[str, str], found: "Stage"
) -> tuple[InputStage, Array, bool, str | None]:
    """The input stage, the classes, `fitted` and the name of the training data of a
    file that lenet5c wrote."""
    *values, fitted = fields(
        "input_stage",
        parse_json("input_stage", metadata.get("input_stage", "")),
        *("mean", "deviation", "background", "pixels", "fitted"),
    )
    if not isinstance(fitted, bool):
        raise ValueError(f"fitted: expected true or false, got {fitted!r:.80}")
    stage = InputStage.checked(*values)
    *of_bytes, background, scale, offset = np.array(
        stage.for_core(), np.float32
    ).tolist()
    wanted = of_bytes if found.of_bytes else [scale, offset]
    if wanted != [found.scale, found.offset] or (
        found.pad is not None and background != found.pad
    ):
        raise ValueError(f"input_stage: expected what the graph does, got {stage}")
    classes = check_classes(parse_json("classes", metadata.get("classes", "")))
    trained_on = parse_json("trained_on", metadata.get("trained_on", "null"))
    return stage, classes, fitted, checked_data_name(trained_on)


def _names_of(layers: Sequence[Layer]) -> list[str | None]:
    """All names, also of layers inside of others."""
    names = []
    for layer in layers:
        names.append(layer.name)
        if isinstance(layer, Residual):
            names += [*_names_of(layer.layers), *_names_of(layer.shortcut)]
    return names


def _named(layers: Sequence[Layer], taken: list[str | None]) -> list[Layer]:
    """The layers; a Model chooses the names of those that are called as another one."""
    found = []
    for layer in layers:
        if isinstance(layer, Residual):
            layer = replace(
                layer,
                layers=_named(layer.layers, taken),
                shortcut=_named(layer.shortcut, taken),
            )
        if taken.count(layer.name) > 1:
            layer = replace(layer, name=None)  # type: ignore[type-var]
        found.append(layer)
    return found
