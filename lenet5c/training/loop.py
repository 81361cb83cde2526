"""fit(): epochs and batches. It is given the model and imports none of it."""

import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, number, whole
from lenet5c._support.cores import core, isa
from lenet5c._support.threads import resolve_threads
from lenet5c._support.warn import callers_level
from lenet5c.data.augment import Augment
from lenet5c.data.images import InputStage, as_images, encode_labels
from lenet5c.interfaces import Trainable
from lenet5c.layers import layer_to_dict
from lenet5c.report.history import History
from lenet5c.training.callbacks import (
    Callback,
    EarlyStopping,
    JsonLines,
    TrainingState,
    as_early_stopping,
    call,
    checked_callbacks,
    epoch_function,
    logger,
)
from lenet5c.training.optimizers import Optimizer, as_optimizer
from lenet5c.training.recipes import Recipe, as_recipe
from lenet5c.training.schedules import ReduceOnPlateau, Schedule, Watch, as_schedule

if TYPE_CHECKING:
    from lenet5c.training.checkpoint import Checkpoint, CheckpointFolder, Saved

__all__ = ["Callback", "History", "TrainingError", "TrainingState", "fit"]

Path = str | os.PathLike[str]
Validation = float | tuple[ArrayLike, ArrayLike] | None
ClassWeight = Mapping[Any, float] | str | None
Vector = NDArray[np.float32]

GUESSING = 0.99  # of the loss of guessing: what comes so near has learned nothing
LEAST_STEPS = 20  # of a training that should have learned something
SAFE_EVERY = 16  # batches between two copies of weights that are known to be good


class TrainingError(ArithmeticError):
    """The loss stopped being finite."""


def fit(
    model: Trainable,
    images: ArrayLike,
    labels: ArrayLike,
    *,
    epochs: int | None,
    batch_size: int | None,
    optimizer: Optimizer | str | None,
    schedule: str | Schedule | None,
    augment: Augment | bool | None,
    validation: Validation,
    seed: int | None,
    threads: int | None,
    callbacks: Sequence[Callback],
    verbose: bool,
    recipe: str | Recipe | None,
    label_smoothing: float | None,
    weight_average: float | None,
    clip_norm: float | None,
    accumulate: int,
    class_weight: ClassWeight,
    sample_weight: ArrayLike | None,
    early_stopping: int | EarlyStopping | None,
    max_seconds: float | None,
    checkpoint: "Path | Checkpoint | None",
    resume: bool,
    log: Path | None,
) -> History:
    """Train `model`; documented at `Model.fit`, which has the defaults."""
    chosen = as_recipe(recipe)
    settings = _Settings(
        epochs=whole("epochs", _or(epochs, chosen.epochs), 1),
        batch_size=whole("batch_size", _or(batch_size, chosen.batch_size), 1),
        optimizer=as_optimizer(chosen.optimizer() if optimizer is None else optimizer),
        schedule=_fresh(as_schedule(_or(schedule, chosen.schedule))),
        augment=_as_augment(_or(augment, chosen.augment)),
        label_smoothing=number(
            "label_smoothing", _or(label_smoothing, chosen.label_smoothing), 0, 1
        ),
        weight_average=number(
            "weight_average", _or(weight_average, chosen.weight_average), 0, 1
        ),
        clip_norm=_as_clip_norm(_or(clip_norm, chosen.clip_norm)),
        accumulate=whole("accumulate", accumulate, 1),
        early_stopping=as_early_stopping(early_stopping),
        max_seconds=(
            math.inf
            if max_seconds is None
            else number("max_seconds", max_seconds, 0, math.inf)
        ),
        seed=None if seed is None else whole("seed", seed, 0, 2**63),
        threads=resolve_threads(threads),
    )
    if resume and checkpoint is None:
        raise ValueError("resume: expected a checkpoint as well, got none")
    if log is not None and not isinstance(log, (str, os.PathLike)):
        raise TypeError(f"log: expected a path or None, got {log!r}")
    pixels = as_images(images, model.input_shape)
    known = model.classes if model.fitted else None
    classes, codes = encode_labels(labels, len(pixels), model.class_count, known)
    train, held_out = _split(
        validation, pixels, codes, classes, model, settings.seed or 0
    )
    weights = _weights(class_weight, sample_weight, codes, classes, train)
    data = _Data(pixels, codes, train, weights, held_out)
    callbacks = checked_callbacks(callbacks)
    _check_batch_norm(model, settings, len(train))
    _check_schedule(settings, _batch_count(model, len(train), settings.batch_size))
    _check_validation(settings, held_out)
    folder = None
    if checkpoint is not None:
        from lenet5c.training.checkpoint import CheckpointFolder, as_checkpoint

        folder = CheckpointFolder(
            as_checkpoint(checkpoint),
            _fingerprint(model, classes, data, settings),
            bool(resume),
        )
    found = None if folder is None else folder.found
    stage, source = _input_of(model, data, found)
    stage.check(pixels)
    if held_out is not None:
        stage.check(held_out.pixels, "validation images")
    with ExitStack() as stack:
        lines = None
        if log is not None:
            done = 0 if found is None else len(found.state["history"]["loss"])
            lines = stack.enter_context(JsonLines(log, done))
        # all arguments are good: from here on the model changes
        if not model.fitted:
            model.set_input(stage, source, classes)
        settings.optimizer.prepare(model.parameter_vector)
        if verbose:
            from lenet5c._support.progress import ProgressBar

            callbacks = [stack.enter_context(ProgressBar()), *callbacks]
        run = _Run(model, data, settings, callbacks, folder, lines)
        if found is not None:
            run.restore(found)
        return run.train()


class _Settings(NamedTuple):
    """The arguments of `fit` that decide its arithmetic, checked."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule
    augment: Augment | None
    label_smoothing: float
    weight_average: float
    clip_norm: float | None
    accumulate: int
    early_stopping: EarlyStopping | None
    max_seconds: float
    seed: int | None
    threads: int


class _HeldOut(NamedTuple):
    """Images to measure: those of `pixels` at `positions`, or all for None."""

    pixels: NDArray[Any]
    codes: NDArray[np.int32]
    positions: NDArray[np.intp] | None


class _Data(NamedTuple):
    """Images (N, C, H, W), their class numbers and weights (N,), which ones to train
    on, and which to measure."""

    pixels: NDArray[Any]
    codes: NDArray[np.int32]
    train: NDArray[np.intp]
    weights: Vector | None
    held_out: _HeldOut | None


class _Run:
    """One training, batch by batch. Its attributes are what a checkpoint holds.

    `history` has the epochs that have ended; `batch`, `loss_sum` and `hit_sum` are of
    the one after them.
    """

    def __init__(
        self,
        model: Trainable,
        data: _Data,
        settings: _Settings,
        callbacks: Sequence[Callback],
        folder: "CheckpointFolder | None",
        lines: JsonLines | None,
    ) -> None:
        self.model = model
        self.data = data
        self.settings = settings
        self.folder = folder
        self.lines = lines
        self.on_batch = [
            f for c in callbacks if (f := getattr(c, "on_batch_end", None))
        ]
        self.on_epoch = [f for c in callbacks if (f := epoch_function(c))]
        count = len(data.train)
        batches = _batch_count(model, count, settings.batch_size)
        # what random numbers are of: a seed, and a pass of all that it is for
        self.seed = settings.seed or 0
        self.passes = model.passes if settings.seed is None else 0
        self.state = TrainingState(model, settings.epochs, batches, count)
        self.history = History()
        self.step = 0
        self.batch = 0
        self.loss_sum = 0.0
        self.hit_sum = 0
        self.finished = False
        self.watch = Watch()  # of early stopping
        self.best_loss = math.inf
        self.best_step: int | None = None
        self.parameters = model.state_vector
        self.gradient = np.empty_like(model.parameter_vector)
        self.safe = self.parameters.copy()
        self.average = self.parameters.copy() if settings.weight_average else None
        self.best = self.parameters.copy() if settings.early_stopping else None
        # when the training and its epoch would have begun without any interruption
        self.began = self.epoch_began = self.saved = time.perf_counter()

    def train(self) -> History:
        """Train until all epochs are done or something stops it."""
        try:
            while not (self.finished or self._out_of_time()):
                self._train_epoch(len(self.history) + 1)
        finally:
            if self.average is not None:
                np.copyto(self.parameters, self.average)
        if self.best is not None and self.watch.best < math.inf:
            np.copyto(self.parameters, self.best)
        if self.step >= LEAST_STEPS and self.history.loss:
            self._warn_of_guessing()
        return self.history

    def _train_epoch(self, epoch: int) -> None:
        """Its batches from `self.batch` on, then what comes at its end."""
        settings, state = self.settings, self.state
        if self.batch == 0:
            self.epoch_began = time.perf_counter()
            self.model.passes += 1  # one that was begun counts
        state.epoch = epoch
        rate = 0.0
        for positions in self._batches(epoch):
            factor = settings.schedule(self.step, state.batches, state.epochs)
            rate = settings.optimizer.learning_rate * factor
            self._train_batch(positions, rate)
            stopped = False
            if self.on_batch:
                self._update(rate)
                stopped = call(self.on_batch, state)
            last = self.batch == state.batches
            if stopped or (self._out_of_time() and not last):
                self._check_weights()
                self.finished = stopped
                self._save()
                return
            if self._time_to_save() and not last:
                self._check_weights()
                self._save()
        self._end_epoch(rate)

    def _batches(self, epoch: int) -> Iterator[NDArray[np.intp]]:
        """The positions of each batch to come, from a permutation that depends on the
        seed and the pass alone."""
        train, size = self.data.train, self.settings.batch_size
        generator = np.random.default_rng((self.seed, self.passes + epoch))
        order = train[generator.permutation(len(train))]
        for batch in range(self.batch, self.state.batches):
            last = batch == self.state.batches - 1
            yield order[batch * size : None if last else (batch + 1) * size]

    def _train_batch(self, positions: NDArray[np.intp], rate: float) -> None:
        """One step, at the learning rate `rate`."""
        settings = self.settings
        loss, hits = self._loss_of(positions)
        self.batch += 1
        if not math.isfinite(loss):
            self._refuse(f"the loss became {loss}")
        if self.step % SAFE_EVERY == 0:
            self._check_weights()  # a tanh hides what is wrong with them
            np.copyto(self.safe, self._weights_now())
        if settings.clip_norm is not None:
            norm = core.norm(self.gradient)
            if norm > settings.clip_norm:
                self.gradient *= np.float32(settings.clip_norm / norm)
        settings.optimizer.step(
            self.model.parameter_vector, self.gradient, rate, settings.threads
        )
        self.step += 1
        if self.average is not None:
            warm_up = (1 + self.step) / (10 + self.step)
            decay = min(settings.weight_average, warm_up)
            core.move_average(self.average, self.parameters, decay, settings.threads)
        self.loss_sum += loss * len(positions)
        self.hit_sum += hits

    def _loss_of(self, positions: NDArray[np.intp]) -> tuple[float, int]:
        """Mean loss and hits of the batch, computed in parts; writes the gradient."""
        settings, data = self.settings, self.data
        size = -(-len(positions) // settings.accumulate)
        loss, hits = 0.0, 0
        for start in range(0, len(positions), size):
            part_loss, part_hits = self.model.loss_of_batch(
                data.pixels,
                positions[start : start + size],
                data.codes,
                self.gradient,
                settings.threads,
                weights=data.weights,
                smoothing=settings.label_smoothing,
                of=len(positions),
                add=start > 0,
                augment=settings.augment,
                seed=self.seed,
                epoch=self.passes + self.state.epoch,
                measure=True,
            )
            loss += part_loss
            hits += part_hits
        return loss, hits

    def _end_epoch(self, rate: float) -> None:
        """Measure, record, tell, decide whether to go on, save."""
        state = self.state
        self._check_weights()
        seconds = time.perf_counter() - self.epoch_began
        self._update(rate)
        state.images_per_second = state.total_images / seconds
        with self._averaged():
            self._measure()
            state.seconds = time.perf_counter() - self.began
            self._record(seconds)
            self._tell(seconds)
            stopped = call(self.on_epoch, state)
        self.batch, self.loss_sum, self.hit_sum = 0, 0.0, 0
        patience = self.settings.early_stopping
        waited = patience is not None and self.watch.waited >= patience.patience
        self.finished = stopped or waited or state.epoch == state.epochs
        self._save()

    def _warn_of_guessing(self) -> None:
        """Say so if the last epoch's loss is no better than that of guessing: the
        entropy of the labels as they are trained on."""
        data, smoothing = self.data, self.settings.label_smoothing
        classes = self.model.class_count
        weights = None if data.weights is None else data.weights[data.train]
        share = np.bincount(data.codes[data.train], weights, classes) / len(data.train)
        share = (1 - smoothing) * share + smoothing / classes
        guessing = -float((share * np.log(np.maximum(share, 1e-300))).sum())
        loss = self.history.loss[-1]
        if loss > GUESSING * guessing > 1e-6:  # 0 is that of one class alone
            warnings.warn(
                f"nothing was learned: the loss of the last epoch, {loss:.4f}, is no "
                f"better than that of guessing, {guessing:.4f}. A smaller learning "
                "rate or more epochs may help; or images and labels do not belong "
                "together",
                stacklevel=callers_level(),
            )

    def _update(self, rate: float) -> None:
        """Bring the state up to the batch just done."""
        state = self.state
        state.batch = self.batch
        state.images = state.total_images
        if self.batch < state.batches:
            state.images = self.batch * self.settings.batch_size
        state.loss = self.loss_sum / state.images
        state.accuracy = self.hit_sum / state.images
        state.learning_rate = rate
        state.seconds = time.perf_counter() - self.began
        done = (state.epoch - 1) * state.total_images + state.images
        state.images_per_second = done / max(state.seconds, 1e-9)

    def _measure(self) -> None:
        """Loss and accuracy of the images held out, and what hangs on them."""
        settings, state = self.settings, self.state
        if self.data.held_out is None:
            return
        result = self.model.evaluate_at(*self.data.held_out, settings.threads)
        state.validation_loss = result.loss
        state.validation_accuracy = result.accuracy
        if isinstance(settings.schedule, ReduceOnPlateau):
            settings.schedule.after_epoch(result.loss)
        if (
            settings.early_stopping is not None
            and self.best is not None
            and self.watch.better(result.loss, settings.early_stopping.min_delta)
        ):
            np.copyto(self.best, self.parameters)
        if result.loss < self.best_loss:
            self.best_loss, self.best_step = result.loss, self.step

    def _record(self, seconds: float) -> None:
        history, state = self.history, self.state
        history.loss.append(state.loss)
        history.accuracy.append(state.accuracy)
        if state.validation_loss is not None and state.validation_accuracy is not None:
            history.validation_loss.append(state.validation_loss)
            history.validation_accuracy.append(state.validation_accuracy)
        history.learning_rate.append(state.learning_rate)
        history.seconds.append(seconds)
        history.images_per_second.append(state.images_per_second)

    def _tell(self, seconds: float) -> None:
        """The epoch's lines in the log file and in Python's logging."""
        if self.lines is not None:
            self.lines.write(self.state, seconds)
        from lenet5c._support.progress import epoch_line

        logger().info("%s", epoch_line(self.state))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights, if they are asked for, are the model's meanwhile."""
        if self.average is None:
            yield
            return
        trained = self.parameters.copy()
        np.copyto(self.parameters, self.average)
        try:
            yield
        finally:
            np.copyto(self.parameters, trained)

    def _weights_now(self) -> Vector:
        """What would be the model's weights if training ended here."""
        return self.parameters if self.average is None else self.average

    def _check_weights(self) -> None:
        for vector in (self.parameters, self._weights_now()):
            if not np.isfinite(vector).all():
                self._refuse("the loss became nan")

    def _refuse(self, what: str) -> NoReturn:
        """Put weights back that are known to be good, and raise."""
        np.copyto(self.parameters, self.safe)
        if self.average is not None:
            np.copyto(self.average, self.safe)
        raise TrainingError(
            f"{what} in epoch {self.state.epoch}, batch {self.batch}; the model holds "
            f"the last weights checked before (at most {SAFE_EVERY} batches old). A "
            "smaller learning rate may help"
        )

    def _out_of_time(self) -> bool:
        seconds = time.perf_counter() - self.began
        return self.step > 0 and seconds >= self.settings.max_seconds

    def _time_to_save(self) -> bool:
        if self.folder is None or self.folder.every_seconds is None:
            return False
        return time.perf_counter() - self.saved >= self.folder.every_seconds

    def _save(self) -> None:
        """Write a checkpoint, if they are asked for."""
        if self.folder is None:
            return
        vectors = self._vectors()
        if not all(np.isfinite(vector).all() for vector in vectors.values()):
            self._refuse("the optimizer's state became infinite")
        now = time.perf_counter()
        schedule, stage = self.settings.schedule, self.model.stage
        state = {
            "step": self.step,
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "hit_sum": self.hit_sum,
            "finished": self.finished,
            "seconds": now - self.began,
            "epoch_seconds": now - self.epoch_began,
            "history": self.history.to_dict(),
            "optimizer_steps": self.settings.optimizer.steps,
            "early_stopping": [self.watch.best, self.watch.waited],
            "plateau": (
                [schedule.now, schedule.watch.best, schedule.watch.waited]
                if isinstance(schedule, ReduceOnPlateau)
                else None
            ),
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "input": [stage.mean, stage.deviation, stage.background, stage.pixels],
            "passes": [self.passes, self.model.passes],
            "source": list(self.model.source),
            "core": isa,
        }
        self.folder.write(self.step, vectors, state, self.best_step)
        self.saved = time.perf_counter()

    def restore(self, found: "Saved") -> None:
        """Go on where the checkpoint was written: the opposite of `_save`."""
        state = found.state
        if state["core"] != isa:
            logger().warning(
                "the checkpoint was written on the core %s, training goes on on %s: "
                "the weights will differ in their last bits from those of an unbroken "
                "training",
                state["core"],
                isa,
            )
        for name, vector in self._vectors().items():
            if vector.size:
                np.copyto(vector, found.tensors[name])
        self.step = state["step"]
        self.batch = state["batch"]
        self.loss_sum = state["loss_sum"]
        self.hit_sum = state["hit_sum"]
        self.finished = state["finished"]
        self.history = History(**state["history"])
        self.settings.optimizer.steps = state["optimizer_steps"]
        self.watch = Watch(*state["early_stopping"])
        self.best_loss, self.best_step = state["best_loss"], state["best_step"]
        self.passes, self.model.passes = state["passes"]
        schedule = self.settings.schedule
        if isinstance(schedule, ReduceOnPlateau):
            schedule.now, *watch = state["plateau"]
            schedule.watch = Watch(*watch)
        if self.history.validation_loss:
            self.state.validation_loss = self.history.validation_loss[-1]
            self.state.validation_accuracy = self.history.validation_accuracy[-1]
        now = time.perf_counter()
        self.began = now - state["seconds"]
        self.epoch_began = now - state["epoch_seconds"]
        self.saved = now

    def _vectors(self) -> dict[str, Vector]:
        """All that training changes and that is as long as the parameters, by name."""
        vectors = {"parameters": self.parameters, "safe": self.safe}
        for index, vector in enumerate(self.settings.optimizer.state):
            vectors[f"optimizer.{index}"] = vector
        if self.average is not None:
            vectors["average"] = self.average
        if self.best is not None:
            vectors["best"] = self.best
        return vectors


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _as_augment(augment: object) -> Augment | None:
    if augment is None or augment is False:
        return None
    if not isinstance(augment, Augment):
        raise ValueError(
            "augment: expected a lenet5c.Augment, None for the recipe's or False for "
            f"none, got {augment!r}"
        )
    return augment


def _as_clip_norm(clip_norm: object) -> float | None:
    if clip_norm is None:
        return None
    if clip_norm == math.inf:
        return None
    norm = number("clip_norm", clip_norm, 0, math.inf)
    if norm == 0:
        raise ValueError("clip_norm: expected x > 0, or None, got 0")
    return norm


def _fresh(schedule: Schedule) -> Schedule:
    """The schedule, with the state of none but this training."""
    return schedule.fresh() if isinstance(schedule, ReduceOnPlateau) else schedule


def _split(
    validation: Validation,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    classes: NDArray[Any],
    model: Trainable,
    seed: int,
) -> tuple[NDArray[np.intp], _HeldOut | None]:
    """Positions of the training images, and the images held out."""
    everything = np.arange(len(pixels))
    if validation is None:
        return everything, None
    if isinstance(validation, (float, np.floating)):
        share = number("validation", validation, 0, 1)
        if share == 0:
            raise ValueError("validation: expected 0 < x < 1, or None, got 0")
        held_out = _share_of_each_class(share, codes, seed)
        if held_out.all():
            raise ValueError(
                f"validation: {validation} of {len(pixels)} images leaves none to "
                "train on"
            )
        positions = np.flatnonzero(held_out)
        return np.flatnonzero(~held_out), _HeldOut(pixels, codes, positions)
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
        raise TypeError(
            "validation: expected a fraction, (images, labels) or None, "
            f"got {type(validation).__name__}"
        )
    images = as_images(validation[0], model.input_shape, "validation images")
    if images.shape[1:] != pixels.shape[1:]:
        raise ValueError(
            f"validation: expected images of the shape {pixels.shape[1:]}, like the "
            f"training images, got {images.shape[1:]}"
        )
    _, of_images = encode_labels(
        validation[1], len(images), model.class_count, classes, "validation labels"
    )
    return everything, _HeldOut(images, of_images, None)


def _share_of_each_class(
    share: float, codes: NDArray[np.int32], seed: int
) -> NDArray[np.bool_]:
    """Which images are held out, (N,): that share of all, at random, and of each class
    as nearly as whole images allow; at least one."""
    shuffled = np.random.default_rng((seed, 0)).permutation(len(codes))
    counts = np.bincount(codes)
    by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    # an image's place in its class, from 0 to 1: those who stand first are held out
    place = (rank + 0.5) / counts[codes[by_class]]
    count = max(1, round(share * len(codes)))
    chosen = np.zeros(len(codes), np.bool_)
    chosen[by_class[np.argsort(place, kind="stable")[:count]]] = True
    return chosen


def _batch_count(model: Trainable, images: int, size: int) -> int:
    """Batches of an epoch. The last one may be smaller; one that is too small for batch
    normalisation joins the batch before it."""
    alone = 0 < images % size < model.least_batch and images > size
    return -(-images // size) - alone


def _check_batch_norm(model: Trainable, settings: _Settings, images: int) -> None:
    """Refuse batches whose statistics are not those of the whole batch."""
    if model.buffers and settings.accumulate > 1:
        raise ValueError(
            "accumulate: expected 1 for a network with batch normalisation, whose "
            f"statistics are of the whole batch, got {settings.accumulate}"
        )
    if min(settings.batch_size, images) < model.least_batch:
        raise ValueError(
            "batch_size: expected 2 images at least for batch normalisation, which "
            "takes its statistics over the batch, got "
            f"{min(settings.batch_size, images)}"
        )


def _weights(
    class_weight: ClassWeight,
    sample_weight: ArrayLike | None,
    codes: NDArray[np.int32],
    classes: NDArray[Any],
    train: NDArray[np.intp],
) -> Vector | None:
    """What each image's loss is multiplied by, (N,); of mean 1 over the training
    images."""
    if class_weight is None and sample_weight is None:
        return None
    weights = np.ones(len(codes))
    argument = "sample_weight"
    if sample_weight is not None:
        weights = _sample_weights(sample_weight, len(codes))
    if class_weight is not None:
        by_class = _class_weights(class_weight, classes, codes[train])
        argument = "class_weight" if sample_weight is None else argument
        # so that products of huge numbers stay finite
        weights = weights / (weights.max() or 1)
        weights *= (by_class / (by_class.max() or 1))[codes]
    most = weights[train].max()
    if most == 0:
        raise ValueError(
            f"{argument}: expected a weight above 0 for one training image at least, "
            "got none"
        )
    with np.errstate(over="ignore"):  # of an image held out, whose weight is not used
        weights = weights / most
        scaled: Vector = (weights / weights[train].mean()).astype(np.float32)
    return scaled


def _sample_weights(sample_weight: ArrayLike, count: int) -> NDArray[np.float64]:
    array = as_array("sample_weight", sample_weight)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight: expected numbers, got {array.dtype}")
    if array.shape != (count,):
        raise ValueError(
            f"sample_weight: expected the shape ({count},), got {array.shape}"
        )
    weights = array.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"sample_weight: expected finite numbers of at least 0, got {weights[at]} "
            f"for image {at}"
        )
    return weights


def _class_weights(
    class_weight: ClassWeight, classes: NDArray[Any], codes: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The weight of each class, (classes,); `codes` are those of the training images.

    "balanced": the inverse of how many images there are of the class.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(codes, minlength=len(classes))
        return 1 / np.maximum(counts, 1)
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "class_weight: expected 'balanced', a dict of weights by label or None, "
            f"got {class_weight!r}"
        )
    code_of = {label: code for code, label in enumerate(classes.tolist())}
    weights = np.ones(len(classes))
    for label, weight in class_weight.items():
        plain = label.item() if isinstance(label, np.generic) else label
        if plain not in code_of:
            raise ValueError(
                f"class_weight: expected labels among {list(code_of)!r:.200}, "
                f"got {label!r}"
            )
        weights[code_of[plain]] = number("class_weight", weight, 0, math.inf)
    return weights


def _check_schedule(settings: _Settings, batches: int) -> None:
    """Call it once, so that one that cannot work is refused before anything changes."""
    try:
        factor = settings.schedule(0, batches, settings.epochs)
        float(factor + 0.0)
    except TypeError as error:
        raise TypeError(
            "schedule: expected a function of (step, steps_per_epoch, epochs) that "
            f"returns a number; {error}"
        ) from error


def _check_validation(settings: _Settings, held_out: _HeldOut | None) -> None:
    """Refuse what cannot work without images held out."""
    if held_out is not None:
        return
    if settings.early_stopping is not None:
        raise ValueError("early_stopping: expected validation as well, got none")
    if isinstance(settings.schedule, ReduceOnPlateau):
        raise ValueError(
            f"schedule: expected validation as well for {settings.schedule!r}, got none"
        )


def _input_of(
    model: Trainable, data: _Data, found: "Saved | None"
) -> tuple[InputStage, tuple[int, int]]:
    """What is done to images and how large they are: as the model has it, as the
    checkpoint has it, or as the training images have it."""
    if found is not None:
        stage = InputStage.checked(*found.state["input"])
        height, width = found.state["source"]
        if model.fitted and (model.stage, model.source) != (stage, (height, width)):
            raise ValueError(
                "resume: expected a model that is untrained or has been trained on "
                f"these images, got the input stage {model.stage}, expected {stage}"
            )
        return stage, (height, width)
    if model.fitted:
        return model.stage, model.source
    height, width = data.pixels.shape[2:]
    chosen = None if len(data.train) == len(data.pixels) else data.train
    return InputStage.of(data.pixels, chosen), (height, width)


def _fingerprint(
    model: Trainable, classes: NDArray[Any], data: _Data, settings: _Settings
) -> dict[str, Any]:
    """What must be the same for a training to go on to the bits of an unbroken one."""
    from lenet5c._support.build import __version__

    held_out = data.held_out
    return {
        "version": __version__,
        "checkpoint_format": 1,
        "layers": [layer_to_dict(layer) for layer in model.layers],
        "input_shape": list(model.input_shape),
        "classes": classes.tolist(),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "optimizer": _text_of(settings.optimizer),
        "schedule": _text_of(settings.schedule),
        "augment": repr(settings.augment),
        "label_smoothing": settings.label_smoothing,
        "weight_average": settings.weight_average,
        "clip_norm": settings.clip_norm,
        "accumulate": settings.accumulate,
        "early_stopping": repr(settings.early_stopping),
        "seed": settings.seed,
        "images": f"{data.pixels.shape} {data.pixels.dtype} {_hash_of(data.pixels)}",
        "labels": _hash_of(data.codes),
        "training images": _hash_of(data.train),
        "weights of images": None if data.weights is None else _hash_of(data.weights),
        "validation images": (
            None
            if held_out is None or held_out.pixels is data.pixels
            else f"{held_out.pixels.shape} {_hash_of(held_out.pixels)}"
        ),
        "validation labels": None if held_out is None else _hash_of(held_out.codes),
    }


def _text_of(described: object) -> str:
    """What it says of itself, but for where it lies in memory."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(described))


def _hash_of(array: NDArray[Any]) -> str:
    import hashlib  # here: loads OpenSSL, which not every training needs

    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:32]
