"""fit(): epochs, batches, history. It is given the model and imports none of it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.checks import number, whole
from lenet5c.images import InputStage, as_images, encode_labels
from lenet5c.optimizers import Optimizer, as_optimizer
from lenet5c.schedules import Schedule, as_schedule
from lenet5c.threads import resolve_threads

if TYPE_CHECKING:
    from lenet5c.model import Model

__all__ = ["History", "TrainingError", "TrainingState", "fit"]

Validation = float | tuple[ArrayLike, ArrayLike] | None

SAFE_EVERY = 16  # batches between two copies of weights that are known to be good


class TrainingError(ArithmeticError):
    """The loss stopped being finite."""


@dataclass
class History:
    """What `fit` returns: lists with one entry for each epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Mean over the epoch's images, each seen by the weights of its time.
    validation_loss, validation_accuracy : list of float
        After the epoch; empty without validation.
    learning_rate : list of float
        Of the epoch's last batch.
    seconds : list of float
        The epoch's duration, validation excluded.
    images_per_second : list of float
        Training images over `seconds`.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    images_per_second: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """How many epochs were trained."""
        return len(self.loss)

    def to_dict(self) -> dict[str, list[float]]:
        """The lists by name, for json.dumps."""
        return {item.name: list(getattr(self, item.name)) for item in fields(self)}


@dataclass
class TrainingState:
    """What callbacks see. Epochs and batches count from 1.

    `loss` and `accuracy` are the means over this epoch's images so far; `images` counts
    them, of `total_images` an epoch. The validation figures are None until known.
    """

    model: "Model"
    epochs: int
    batches: int
    total_images: int
    epoch: int = 0
    batch: int = 0
    images: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    learning_rate: float = 0.0
    seconds: float = 0.0
    images_per_second: float = 0.0


Callback = (
    Any  # a function of TrainingState, or an object with on_epoch_end/on_batch_end
)


def fit(
    model: "Model",
    images: ArrayLike,
    labels: ArrayLike,
    *,
    epochs: int = 3,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    schedule: str | Schedule = "one-cycle",
    augment: None = None,
    validation: Validation = None,
    seed: int = 0,
    threads: int | None = None,
    callbacks: Sequence[Callback] = (),
    verbose: bool = False,
) -> History:
    """Train `model`; documented at `Model.fit`."""
    epochs = whole("epochs", epochs, 1)
    batch_size = whole("batch_size", batch_size, 1)
    seed = whole("seed", seed, 0, 2**63)
    threads = resolve_threads(threads)
    optimizer = as_optimizer(optimizer)
    schedule = as_schedule(schedule)
    if augment is not None:
        raise ValueError(f"augment: expected None, got {augment!r}")
    pixels = as_images(images, model.input_shape)
    known = model.classes if model.fitted else None
    classes, codes = encode_labels(labels, len(pixels), model.class_count, known)
    train, held_out = _split(validation, pixels, codes, classes, model, seed)
    callbacks = _checked_callbacks(callbacks)
    _check_schedule(schedule, -(-len(train) // batch_size), epochs)

    if not model.fitted:  # all arguments are good: from here on the model changes
        everything = len(train) == len(pixels)
        stage = InputStage.of(pixels if everything else pixels[train])
        model.set_input(stage, (pixels.shape[2], pixels.shape[3]), classes)
    optimizer.prepare(model.parameter_vector)
    with ExitStack() as stack:
        if verbose:
            from lenet5c.progress import ProgressBar

            callbacks = [stack.enter_context(ProgressBar()), *callbacks]
        return _train(
            model,
            pixels,
            codes,
            partial(_batches, train, batch_size, seed),
            TrainingState(model, epochs, -(-len(train) // batch_size), len(train)),
            optimizer,
            schedule,
            held_out,
            threads,
            callbacks,
        )


def _train(
    model: "Model",
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    batches_of: Callable[[int], Iterator[NDArray[np.intp]]],
    state: TrainingState,
    optimizer: Optimizer,
    schedule: Schedule,
    held_out: tuple[Any, Any] | None,
    threads: int,
    callbacks: Sequence[Callback],
) -> History:
    """The loop over epochs and batches."""
    on_batch = [f for c in callbacks if (f := getattr(c, "on_batch_end", None))]
    on_epoch = [f for c in callbacks if (f := _epoch_function(c))]
    history = History()
    safe = model.parameter_vector.copy()
    gradient = np.empty_like(safe)
    started = time.perf_counter()
    step, stopped = 0, False
    for epoch in range(1, state.epochs + 1):
        state.epoch, state.images = epoch, 0
        loss_sum, hit_sum = 0.0, 0
        epoch_started = time.perf_counter()
        for batch, positions in enumerate(batches_of(epoch), 1):
            rate = optimizer.learning_rate * schedule(step, state.batches, state.epochs)
            loss, hits = model.loss_of_batch(
                pixels, positions, codes, gradient, threads
            )
            if not math.isfinite(loss):
                _refuse(model, safe, loss, epoch, batch)
            if step % SAFE_EVERY == 0:
                if not np.isfinite(model.parameter_vector).all():
                    _refuse(model, safe, loss, epoch, batch)  # hidden behind a tanh
                np.copyto(safe, model.parameter_vector)
            optimizer.step(model.parameter_vector, gradient, rate, threads)
            step += 1
            loss_sum += loss * len(positions)
            hit_sum += hits
            if on_batch:
                _update(state, batch, len(positions), loss_sum, hit_sum, rate, started)
                if stopped := _call(on_batch, state):
                    break
        if not np.isfinite(model.parameter_vector).all():
            _refuse(model, safe, math.nan, epoch, batch)
        if stopped:
            return history
        seconds = time.perf_counter() - epoch_started
        total = state.total_images
        _update(state, state.batches, 0, loss_sum, hit_sum, rate, started, total)
        state.images_per_second = total / seconds
        if held_out is not None:
            result = model.evaluate(*held_out, threads=threads)
            state.validation_loss = result.loss
            state.validation_accuracy = result.accuracy
        state.seconds = time.perf_counter() - started
        _record(history, state, seconds)
        if _call(on_epoch, state):
            break
    return history


def _split(
    validation: Validation,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    classes: NDArray[Any],
    model: "Model",
    seed: int,
) -> tuple[NDArray[np.intp], tuple[Any, Any] | None]:
    """Positions of the training images, and the images and labels held out."""
    everything = np.arange(len(pixels))
    if validation is None:
        return everything, None
    if isinstance(validation, (float, np.floating)):
        share = number("validation", validation, 0, 1)
        if share == 0:
            raise ValueError("validation: expected 0 < x < 1, or None, got 0")
        count = max(1, round(share * len(pixels)))
        if count >= len(pixels):
            raise ValueError(
                f"validation: {validation} of {len(pixels)} images leaves none to "
                "train on"
            )
        shuffled = np.random.default_rng((seed, 0)).permutation(len(pixels))
        held_out = np.sort(shuffled[:count])
        return np.sort(shuffled[count:]), (pixels[held_out], classes[codes[held_out]])
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(
            "validation: expected a fraction, (images, labels) or None, "
            f"got {type(validation).__name__}"
        )
    images = as_images(validation[0], model.input_shape, "validation images")
    if images.shape[1:] != pixels.shape[1:] or images.dtype != pixels.dtype:
        raise ValueError(
            f"validation: expected images like the training images "
            f"{pixels.shape[1:]} {pixels.dtype}, got {images.shape[1:]} {images.dtype}"
        )
    encode_labels(
        validation[1], len(images), model.class_count, classes, "validation labels"
    )
    return everything, (images, validation[1])


def _batches(
    train: NDArray[np.intp], batch_size: int, seed: int, epoch: int
) -> Iterator[NDArray[np.intp]]:
    """The epoch's batches: a permutation that depends on (seed, epoch) alone."""
    order = train[np.random.default_rng((seed, epoch)).permutation(len(train))]
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _refuse(
    model: "Model", safe: NDArray[np.float32], loss: float, epoch: int, batch: int
) -> None:
    """Put weights back that are known to be good, and raise."""
    np.copyto(model.parameter_vector, safe)
    raise TrainingError(
        f"the loss became {loss} in epoch {epoch}, batch {batch}; the model holds the "
        f"last weights checked before (at most {SAFE_EVERY} batches old). A smaller "
        "learning rate may help"
    )


def _checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """The callbacks as a list, or a TypeError."""
    if callable(callbacks) or not hasattr(callbacks, "__iter__"):
        raise TypeError(
            f"callbacks: expected a sequence of callbacks, got {callbacks!r}"
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        functions = [getattr(callback, "on_batch_end", None), _epoch_function(callback)]
        given = [function for function in functions if function is not None]
        if not given or not all(map(callable, given)):
            raise TypeError(
                "callbacks: expected functions or objects with on_batch_end or "
                f"on_epoch_end, got {callback!r}"
            )
    return callbacks


def _check_schedule(schedule: Schedule, batches: int, epochs: int) -> None:
    """Call it once, so that one that cannot work is refused before anything changes."""
    try:
        factor = schedule(0, batches, epochs)
        float(factor + 0.0)
    except TypeError as error:
        raise TypeError(
            "schedule: expected a function of (step, steps_per_epoch, epochs) that "
            f"returns a number; {error}"
        ) from error


def _epoch_function(callback: Callback) -> Callable[..., Any] | None:
    """What to call at the end of an epoch: the method, or the plain function."""
    if hasattr(callback, "on_epoch_end"):
        return callback.on_epoch_end  # type: ignore[no-any-return]
    if callable(callback) and not hasattr(callback, "on_batch_end"):
        return callback  # type: ignore[no-any-return]
    return None


def _call(callbacks: list[Callable[..., Any]], state: TrainingState) -> bool:
    """Call them all; whether one of them returned True."""
    answers = [callback(state) for callback in callbacks]
    return any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)


def _update(
    state: TrainingState,
    batch: int,
    images: int,
    loss_sum: float,
    hit_sum: int,
    rate: float,
    started: float,
    total: int | None = None,
) -> None:
    """Bring the state up to the batch just done, or to `total` images at the end."""
    state.batch = batch
    state.images = state.images + images if total is None else total
    state.loss = loss_sum / state.images
    state.accuracy = hit_sum / state.images
    state.learning_rate = rate
    state.seconds = time.perf_counter() - started
    done = (state.epoch - 1) * state.total_images + state.images
    state.images_per_second = done / max(state.seconds, 1e-9)


def _record(history: History, state: TrainingState, seconds: float) -> None:
    history.loss.append(state.loss)
    history.accuracy.append(state.accuracy)
    if state.validation_loss is not None and state.validation_accuracy is not None:
        history.validation_loss.append(state.validation_loss)
        history.validation_accuracy.append(state.validation_accuracy)
    history.learning_rate.append(state.learning_rate)
    history.seconds.append(seconds)
    history.images_per_second.append(state.images_per_second)
