"""Where a training was: what a checkpoint holds, typed, and checked before it is used.

What follows from the rest is not in it: the step, the best validation loss, and what
early stopping and `ReduceOnPlateau` have seen, all follow from the history. So nothing
can contradict it.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number, truth, whole
from lenet5c.data.images import InputStage
from lenet5c.files.container import FileFormatError, fields, parse_json
from lenet5c.interfaces import Trainable
from lenet5c.parameters import tensor_shapes, views_of
from lenet5c.report.history import History
from lenet5c.training.data import TrainingData
from lenet5c.training.options import TrainingOptions

__all__ = ["Saved", "checked", "state_text", "vector_sizes"]

Vector = NDArray[np.float32]

MOST = sys.float_info.max
MAX_PASSES = 2**31 - 1  # as in a model file
ABOVE_1 = math.nextafter(1, 2)
NOT_FINITE = ("inf", "-inf", "nan")  # JSON has no numbers for them
# by list of the history: the least number in it, what all are below, whether they may
# be no numbers
COLUMNS = {
    "loss": (-MOST, math.inf, False),
    "accuracy": (0, ABOVE_1, False),
    "validation_loss": (-MOST, math.inf, True),
    "validation_accuracy": (0, ABOVE_1, False),
    "learning_rate": (-MOST, math.inf, True),
    "seconds": (0, math.inf, False),
    "images_per_second": (0, math.inf, False),
}


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes
    ----------
    epochs : int
        How many were asked for.
    history : History
        Of the epochs that have ended.
    batch : int
        Batches done of the epoch after them, over which the sums are.
    loss_sum : float
    correct_sum : int
    stopped : bool
        Whether a callback ended the training.
    seconds, epoch_seconds : float
        How long the training and its last epoch have taken so far.
    passes : int
        The model's, before the training.
    optimizer_steps : int
    stage : InputStage
    source : (int, int)
        Rows and columns of the images.
    core : str
        The instruction set of the core.
    tensors : mapping of str to (size,) float32 array
        See `vector_sizes`.
    """

    epochs: int
    history: History
    batch: int
    loss_sum: float
    correct_sum: int
    stopped: bool
    seconds: float
    epoch_seconds: float
    passes: int
    optimizer_steps: int
    stage: InputStage
    source: tuple[int, int]
    core: str
    tensors: Mapping[str, Vector]

    @property
    def begun(self) -> int:
        """How many epochs were begun."""
        return len(self.history) + (self.batch > 0)


NAMES = tuple(name for name in Saved._fields if name != "tensors")


def vector_sizes(model: Trainable, options: TrainingOptions) -> dict[str, int]:
    """How many numbers each tensor of a checkpoint has, by name; all have some."""
    state, parameters = model.state_vector.size, model.parameter_vector.size
    sizes = {"parameters": state, "safe": state}
    for index in range(options.optimizer.state_size):
        sizes[f"optimizer.{index}"] = parameters
    if options.weight_average:
        sizes["average"] = state
    if options.early_stopping:
        sizes["best"] = state
    if options.quantize is not None:
        from lenet5c.training.integers import unit_names

        sizes["units"] = len(unit_names(model))
    return {name: size for name, size in sizes.items() if size}


def state_text(saved: Saved) -> str:
    """All but the tensors in JSON, in which floats are exact."""
    values = saved._asdict()
    del values["tensors"]
    values["stage"] = asdict(saved.stage)
    values["history"] = {
        name: [x if math.isfinite(x) else repr(x) for x in map(float, column)]
        for name, column in saved.history.to_dict().items()
    }
    return json.dumps(values, allow_nan=False)


def checked(
    step: int,
    tensors: Mapping[str, Vector],
    text: str,
    *,
    model: Trainable,
    data: TrainingData,
    options: TrainingOptions,
    batches: int,
) -> Saved:
    """The content of a checkpoint that this training can go on from. Changes nothing.

    Parameters
    ----------
    step : int
        Of the file's name.
    tensors : mapping of str to float32 array
        Finite values.
    text : str
        What `state_text` made.
    model, data, options, batches
        The training; its settings are known to be those of the checkpoint.

    Raises
    ------
    FileFormatError
        What was expected, and what was found.
    """
    try:
        _check_tensors(tensors, model, options)
        saved = _parsed(text, tensors, model, data, options, batches)
        done = len(saved.history) * batches + saved.batch
        if not 0 < done == step:
            raise ValueError(f"step: expected {done}, as of the history, got {step}")
        data.check(saved.stage)
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(f"{error!s:.300}") from error
    return saved


def _check_tensors(
    tensors: Mapping[str, Vector], model: Trainable, options: TrainingOptions
) -> None:
    sizes = vector_sizes(model, options)
    expected = {name: (size,) for name, size in sizes.items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"tensors: expected {expected}, got {found}")
    squares = {f"optimizer.{index}" for index in options.optimizer.squares}
    for name in squares & tensors.keys():
        _check_squares(name, tensors[name])
    if "units" in tensors and not (tensors["units"] > 0).all():
        raise ValueError(
            f"units: expected numbers above 0, got {tensors['units'].min()}"
        )
    shapes = tensor_shapes(model.layers, model.input_shape)
    for name in tensors.keys() & {"parameters", "safe", "average", "best"}:
        _, buffers = views_of(tensors[name].view, shapes)
        for buffer, values in buffers.items():
            if buffer.endswith(".running_var"):
                _check_squares(f"{name}: {buffer}", values)


def _check_squares(name: str, values: Vector) -> None:
    if (values < 0).any():
        raise ValueError(f"{name}: expected no negative numbers, got {values.min()}")


def _parsed(
    text: str,
    tensors: Mapping[str, Vector],
    model: Trainable,
    data: TrainingData,
    options: TrainingOptions,
    batches: int,
) -> Saved:
    """Each field checked, and against those that it has to fit."""
    found = dict(
        zip(NAMES, fields("state", parse_json("state", text), *NAMES), strict=True)
    )
    epochs = whole("epochs", found["epochs"], 1)
    history = _history(found["history"], epochs, data.held_out is not None)
    stopped = truth("stopped", found["stopped"])
    # a callback can end the training after the last batch and before the epoch's end
    batch = whole("batch", found["batch"], 0, batches if stopped else batches - 1)
    images = min(batch * options.batch_size, len(data.train))
    if batch == batches:
        images = len(data.train)
    correct_sum = whole("correct_sum", found["correct_sum"], 0, images)
    loss_sum = number("loss_sum", found["loss_sum"], -MOST, math.inf)
    if batch == 0 and loss_sum != 0:
        raise ValueError(f"loss_sum: expected 0 before the first batch, got {loss_sum}")
    begun = len(history) + (batch > 0)
    if begun > epochs:
        raise ValueError(f"epochs: expected {begun} at least, got {epochs}")
    seconds = number("seconds", found["seconds"], 0, math.inf)
    core = found["core"]
    if not isinstance(core, str):
        raise TypeError(f"core: expected a text, got {core!r}")
    mean, deviation, background, pixels = fields(
        "stage", found["stage"], "mean", "deviation", "background", "pixels"
    )
    if background is None:
        raise TypeError("background: expected a number, got None")
    return Saved(
        epochs=epochs,
        history=history,
        batch=batch,
        loss_sum=loss_sum,
        correct_sum=correct_sum,
        stopped=stopped,
        seconds=seconds,
        epoch_seconds=number(
            "epoch_seconds",
            found["epoch_seconds"],
            0,
            math.nextafter(seconds, math.inf),
        ),
        passes=whole("passes", found["passes"], 0, MAX_PASSES - begun),
        optimizer_steps=whole("optimizer_steps", found["optimizer_steps"], 0, 2**53),
        stage=InputStage.checked(mean, deviation, background, pixels),
        source=_source(found["source"], model),
        core=core,
        tensors=tensors,
    )


def _history(found: object, epochs: int, validated: bool) -> History:
    """Lists of one length, at most `epochs`; those of the validation may be empty."""
    columns = dict(zip(COLUMNS, fields("history", found, *COLUMNS), strict=True))
    for name, column in columns.items():
        if not isinstance(column, list):
            raise TypeError(f"{name}: expected a list, got {column!r:.80}")
    length = whole("history", len(columns["loss"]), 0, epochs)
    for name, column in columns.items():
        expected = 0 if name.startswith("validation") and not validated else length
        if len(column) != expected:
            raise ValueError(f"{name}: expected {expected} numbers, got {len(column)}")
        least, below, any_float = COLUMNS[name]
        columns[name] = [
            float(value)
            if any_float and value in NOT_FINITE
            else number(name, value, least, below)
            for value in column
        ]
    return History(**columns)


def _source(found: object, model: Trainable) -> tuple[int, int]:
    """Rows and columns of images that the network takes."""
    if not isinstance(found, list) or len(found) != 2:
        raise TypeError(f"source: expected [rows, columns], got {found!r:.80}")
    _, most_rows, most_columns = model.input_shape
    return whole("source", found[0], 1, most_rows), whole(
        "source", found[1], 1, most_columns
    )
