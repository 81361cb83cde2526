"""fit(): epochs and batches. It is given the model and imports none of it."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.cores import core, isa
from lenet5c._support.threads import resolve_threads
from lenet5c._support.warn import callers_level
from lenet5c.data.images import InputStage
from lenet5c.interfaces import Trainable
from lenet5c.layers import BatchNorm2d, RadialBasis, layer_to_dict, walk
from lenet5c.report.history import History
from lenet5c.training.callbacks import (
    Callback,
    JsonLines,
    TrainingState,
    call,
    epoch_function,
    logger,
)
from lenet5c.training.data import TrainingData, hash_of
from lenet5c.training.optimizers import SDLM, Optimizer
from lenet5c.training.options import TrainingOptions
from lenet5c.training.schedules import ReduceOnPlateau, Watch

if TYPE_CHECKING:
    from lenet5c.training.folder import CheckpointFolder
    from lenet5c.training.integers import IntegerNetwork
    from lenet5c.training.ranks import Ranks
    from lenet5c.training.saved import Saved

__all__ = ["TrainingError", "fit"]

Vector = NDArray[np.float32]

GUESSING = 0.99  # of the loss of guessing: what comes so near has learned nothing
MIN_STEPS = 20  # of a training that should have learned something
SAFE_EVERY = 16  # batches between two copies of weights that are known to be good
SMALL_BATCH = 8  # images: of larger batches Python takes a small part of the time
CALL_PRODUCTS = 1 << 26  # of the batches of one call, which take some 10 ms


class TrainingError(ArithmeticError):
    """The loss stopped being finite.

    Examples
    --------
    >>> optimizer = lenet5c.SGD(learning_rate=1e30)
    >>> try:
    ...     lenet5c.lenet5().fit(images, labels, optimizer=optimizer, clip_norm=1e30)
    ... except lenet5c.TrainingError as error:
    ...     print("diverged:", error)
    diverged: ...
    """


def fit(
    model: Trainable, images: ArrayLike, labels: ArrayLike, options: TrainingOptions
) -> History:
    """Train `model`; documented at `Model.fit`."""
    with ExitStack() as stack:
        ranks = None
        if options.comm is not None and options.comm.Get_size() > 1:
            from lenet5c.training.ranks import Ranks

            ranks = stack.enter_context(Ranks(options.comm))
        data = TrainingData.of(model, images, labels, options)
        options = options.for_images(len(data.train))
        batches = _batch_count(model, len(data.train), options.batch_size)
        _check_batch_norm(model, options, len(data.train))
        _check_schedule(options, batches)
        options.loss.check(model.layers, options.label_smoothing)
        options.optimizer.check(model)
        _check_quantize(model, options)
        if ranks is not None:
            ranks.same(_shared(model, data, options))
        speaks = ranks is None or ranks.rank == 0
        folder = None

        def newest() -> "Saved | None":
            """The checkpoint to go on from; rank 0 alone has to do with the folder."""
            nonlocal folder
            if options.checkpoint is None:
                return None
            from lenet5c.training.folder import CheckpointFolder
            from lenet5c.training.saved import checked

            same = _fingerprint(model) | data.fingerprint() | options.fingerprint()
            check = partial(
                checked, model=model, data=data, options=options, batches=batches
            )
            folder = stack.enter_context(CheckpointFolder(options.checkpoint))
            found = folder.newest(same, options.resume, check)
            _check_epochs(found, options.epochs)
            return found

        found = newest() if ranks is None else ranks.first(newest)
        kept = None if found is None else (found.stage, found.source)
        stage, source = data.input_of(model, kept)
        data.check(stage)
        _check_bytes(stage, options)
        lines = None
        if options.log is not None and speaks:
            done = 0 if found is None else len(found.history)
            lines = stack.enter_context(JsonLines(options.log, done))
        # all arguments are good: from here on the model changes
        if not model.fitted:
            model.set_input(stage, source, data.classes)
        model.rounding = None
        options.optimizer.prepare(model.parameter_vector)
        callbacks = options.callbacks
        if options.verbose and speaks:
            from lenet5c._support.progress import ProgressBar

            callbacks = [stack.enter_context(ProgressBar()), *callbacks]
        run = _Run(model, data, options, batches, callbacks, folder, lines, ranks)
        if found is not None:
            run.restore(found)
        return run.train()


class _Run:
    """One training, batch by batch. Its attributes are what a checkpoint holds.

    `history` has the epochs that have ended; `batch`, `loss_sum` and `correct_sum` are
    of the one after them.
    """

    def __init__(
        self,
        model: Trainable,
        data: TrainingData,
        options: TrainingOptions,
        batches: int,
        callbacks: Sequence[Callback],
        folder: "CheckpointFolder | None",
        lines: JsonLines | None,
        ranks: "Ranks | None",
    ) -> None:
        self.model = model
        self.data = data
        self.options = options
        self.folder = folder
        self.lines = lines
        self.ranks = ranks
        self.speaks = ranks is None or ranks.rank == 0
        watching = [c for c in callbacks if getattr(c, "on_batch_end", None)]
        self.on_batch = [c.on_batch_end for c in watching]
        self.each_batch = any(getattr(c, "each_batch", True) for c in watching)
        self.together = self._most_together()
        self.on_epoch = [f for c in callbacks if (f := epoch_function(c))]
        # what random numbers are of: a seed, and a pass of all that it is for
        self.seed = options.seed or 0
        self.start = model.passes
        self.passes = self.start if options.seed is None else 0
        self.state = TrainingState(model, options.epochs, batches, len(data.train))
        self.history = History()
        self.step = 0
        self.batch = 0
        self.loss_sum = 0.0
        self.correct_sum = 0
        self.stopped = False  # by a callback
        self.watch = Watch()  # of early stopping
        self.best_loss = math.inf
        self.best_step: int | None = None
        self.parameters = model.state_vector
        self.gradient = np.empty_like(model.parameter_vector)
        self.threads = self._threads()
        self.integers = self._integers()
        self.computes: Trainable | IntegerNetwork = self.integers or model
        self.safe = self.parameters.copy()
        self.average = self.parameters.copy() if options.weight_average else None
        self.best = self.parameters.copy() if options.early_stopping else None
        # when the training and its epoch would have begun without any interruption
        self.began = self.epoch_began = self.saved = time.perf_counter()

    def _integers(self) -> "IntegerNetwork | None":
        """The network of integers that is trained in place of the model's own."""
        if self.options.quantize is None:
            return None
        from lenet5c.training.integers import IntegerNetwork

        data = self.data
        found = IntegerNetwork(
            self.model, self.options.quantize, data.pixels, data.train
        )
        found.measure(self.threads)
        return found

    def train(self) -> History:
        """Train until all epochs are done or something stops it."""
        try:
            while not (self._finished() or self._out_of_time()):
                self._train_epoch(len(self.history) + 1)
        except TrainingError:  # which says what the model holds
            self._end_with(self.average)
            raise
        except BaseException:  # Ctrl-C, or of a callback
            self._end_with(self._best_weights())
            raise
        self._end_with(self._best_weights())
        if self.step >= MIN_STEPS and self.history.loss and self.speaks:
            self._warn_of_guessing()
        return self.history

    def _best_weights(self) -> Vector | None:
        """Those that the model has in the end; None for those that it has."""
        if self.best is not None and self.watch.best < math.inf:
            return self.best
        return self.average

    def _end_with(self, vector: Vector | None) -> None:
        if vector is not None:
            self._give(vector)
        if self.integers is not None:
            self.model.rounding = self.integers.settle(self.threads)

    def _train_epoch(self, epoch: int) -> None:
        """Its batches from `self.batch` on, then what comes at its end."""
        state = self.state
        if self.batch == 0:
            self.epoch_began = time.perf_counter()
            self.model.passes += 1  # one that was begun counts
        state.epoch = epoch
        rate = 0.0
        for indices, batches in self._batches(epoch):
            rates = [self._rate(self.step + i) for i in range(batches)]
            rate = rates[-1]
            if batches > 1:
                self._train_batches(indices, rates)
            else:
                self._train_batch(indices, rate)
            stopped = False
            if self.on_batch:
                self._update(rate)
                stopped = self._call(self.on_batch, self.each_batch)
            last = self.batch == state.batches
            if stopped or (self._out_of_time() and not last):
                self._check_weights()
                self.stopped = stopped
                self._save()
                return
            if self._time_to_save() and not last:
                self._check_weights()
                self._save()
        self._end_epoch(rate)

    def _rate(self, step: int) -> float:
        """The learning rate of a step."""
        factor = self.options.schedule(step, self.state.batches, self.state.epochs)
        return self.options.optimizer.learning_rate * factor

    def _batches(self, epoch: int) -> Iterator[tuple[NDArray[np.intp], int]]:
        """The indices of the batches to come and how many these are, from a permutation
        that depends on the seed and the pass alone."""
        train, size = self.data.train, self.options.batch_size
        generator = np.random.default_rng((self.seed, self.passes + epoch))
        order = train[generator.permutation(len(train))]
        if self.batch == 0:
            self._before_epoch(order)
        while self.batch < self.state.batches:
            if self.step % SAFE_EVERY == 0:  # others may have come or gone
                self.threads = self._threads()
            until_check = SAFE_EVERY - self.step % SAFE_EVERY
            left = self.state.batches - self.batch
            count = min(self.together, until_check, left)
            end = self.batch + count
            last = end == self.state.batches
            yield order[self.batch * size : None if last else end * size], count

    def _threads(self) -> int:
        """How many it may use now; ranks of one machine share its CPUs."""
        threads = resolve_threads(self.options.threads)
        if self.ranks is None or self.options.threads is not None:
            return threads
        return min(threads, self.ranks.share)

    def _most_together(self) -> int:
        """How many batches one call takes at the most: several where they are so small
        that Python would take a good part of the time. Nobody else has the weights
        meanwhile, and neither the clock nor a bar is looked at: large networks take
        one."""
        options = self.options
        if (
            options.batch_size > SMALL_BATCH
            or options.accumulate > 1
            or self.each_batch
            or options.quantize is not None
            or type(options.optimizer).step is not Optimizer.step
        ):
            return 1
        products = max(1, self.model.multiply_adds * options.batch_size)
        return max(1, CALL_PRODUCTS // products)

    def _before_epoch(self, order: NDArray[np.intp]) -> None:
        """What the optimizer does before a pass, which may look at its first images."""
        data, options = self.data, self.options
        options.optimizer.before_epoch(
            self.model,
            data.pixels,
            order,
            weights=data.weights,
            loss=options.loss,
            augment=options.augment,
            seed=self.seed,
            epoch=self.passes + self.state.epoch,
            threads=self.threads,
        )

    def _train_batches(self, indices: NDArray[np.intp], rates: Sequence[float]) -> None:
        """Steps on several batches, to the bits of `_train_batch`."""
        options, data, size = self.options, self.data, self.options.batch_size
        self._keep_safe()
        found = self.model.train_batches(
            data.pixels,
            indices,
            size,
            data.codes,
            self.gradient,
            options.optimizer,
            rates,
            self.threads,
            average=self.average,
            decays=[self._decay(self.step + i) for i in range(1, len(rates) + 1)],
            clip_norm=options.clip_norm,
            loss=options.loss,
            weights=data.weights,
            smoothing=options.label_smoothing,
            augment=options.augment,
            seed=self.seed,
            epoch=self.passes + self.state.epoch,
        )
        for i, (loss, correct) in enumerate(found):
            self.batch += 1
            if not math.isfinite(loss):
                self._refuse(f"the loss became {loss}")
            self.step += 1
            last = i == len(rates) - 1
            self.loss_sum += loss * (len(indices) - i * size if last else size)
            self.correct_sum += correct

    def _keep_safe(self) -> None:
        """Check the weights now and then, and keep those that are good."""
        if self.step % SAFE_EVERY == 0:
            self._check_weights()  # a tanh hides what is wrong with them
            np.copyto(self.safe, self._weights_now())

    def _decay(self, step: int) -> float:
        """Of the weights' moving average, after so many steps."""
        return min(self.options.weight_average, (1 + step) / (10 + step))

    def _train_batch(self, indices: NDArray[np.intp], rate: float) -> None:
        """One step, at the learning rate `rate`."""
        options = self.options
        loss, correct = self._loss_of(indices)
        self.batch += 1
        if not math.isfinite(loss):
            self._refuse(f"the loss became {loss}")
        self._keep_safe()
        if options.clip_norm is not None:
            norm = core.norm(self.gradient)
            if norm > options.clip_norm:
                self.gradient *= np.float32(options.clip_norm / norm)
        with self.model.gate:
            options.optimizer.step(
                self.model.parameter_vector, self.gradient, rate, self.threads
            )
        self.step += 1
        if self.average is not None:
            decay = self._decay(self.step)
            core.move_average(self.average, self.parameters, decay, self.threads)
        self.loss_sum += loss * len(indices)
        self.correct_sum += correct

    def _loss_of(self, indices: NDArray[np.intp]) -> tuple[float, int]:
        """Mean loss of the batch, how many are right; in parts. Writes the gradient."""
        options, data = self.options, self.data
        size = -(-len(indices) // options.accumulate)
        loss, correct = 0.0, 0
        for start in range(0, len(indices), size):
            part_loss, part_correct = self.computes.loss_of_batch(
                data.pixels,
                indices[start : start + size],
                data.codes,
                self.gradient,
                self.threads,
                weights=data.weights,
                loss=options.loss,
                smoothing=options.label_smoothing,
                mean_over=len(indices),
                add=start > 0,
                augment=options.augment,
                seed=self.seed,
                epoch=self.passes + self.state.epoch,
                measure=True,
                ranks=self.ranks,
            )
            loss += part_loss
            correct += part_correct
        return loss, correct

    def _end_epoch(self, rate: float) -> None:
        """Measure, record, tell, decide whether to go on, save."""
        state = self.state
        self._check_weights()
        if self.ranks is not None:  # a callback may have changed those of rank 0
            name = f"weights after epoch {state.epoch}"
            self.ranks.same({name: hash_of(self.parameters)})
        seconds = time.perf_counter() - self.epoch_began
        self._update(rate)
        state.images_per_second = state.total_images / seconds
        with self._averaged():
            self._measure()
            state.seconds = time.perf_counter() - self.began
            self._record(seconds)
            if self.speaks:
                self._tell(seconds)
            stopped = self._call(self.on_epoch, bool(self.options.callbacks))
        self.batch, self.loss_sum, self.correct_sum = 0, 0.0, 0
        self.stopped = stopped
        self._save()

    def _call(self, functions: list[Callable[..., Any]], may_stop: bool) -> bool:
        """Call them, in rank 0; whether one stops the training, in all processes."""
        if may_stop:
            return self._first(lambda: call(functions, self.state))
        return self.speaks and call(functions, self.state)

    def _first(self, make: Callable[[], bool]) -> bool:
        """What it says, in rank 0 for all processes."""
        return make() if self.ranks is None else self.ranks.first(make)

    def _finished(self) -> bool:
        stopping = self.options.early_stopping
        waited = stopping is not None and self.watch.waited >= stopping.patience
        return self.stopped or waited or len(self.history) >= self.options.epochs

    def _warn_of_guessing(self) -> None:
        """Say so if the last epoch's loss is no better than that of guessing.

        Other losses say nothing of it: with distances of tens they are far above the
        entropy of the labels while every image is right.
        """
        if not self.options.loss.knows_guessing:
            return
        guessing = self.data.loss_of_guessing(
            self.model.class_count, self.options.label_smoothing
        )
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
            state.images = self.batch * self.options.batch_size
        state.loss = self.loss_sum / state.images
        state.accuracy = self.correct_sum / state.images
        state.learning_rate = rate
        state.seconds = time.perf_counter() - self.began
        done = (state.epoch - 1) * state.total_images + state.images
        state.images_per_second = done / max(state.seconds, 1e-9)

    def _measure(self) -> None:
        """Loss and accuracy of the images held out, and what hangs on them."""
        state = self.state
        if self.integers is not None:
            self.integers.measure(self.threads)
        if self.data.held_out is None:
            return
        result = self.computes.evaluate_at(*self.data.held_out, self.threads)
        state.validation_loss = result.loss
        state.validation_accuracy = result.accuracy
        if self._take_notice(result.loss, self.step) and self.best is not None:
            np.copyto(self.best, self.parameters)

    def _take_notice(self, validation_loss: float, step: int) -> bool:
        """Of an epoch's validation; whether early stopping finds it the best so far."""
        schedule, stopping = self.options.schedule, self.options.early_stopping
        if isinstance(schedule, ReduceOnPlateau):
            schedule.after_epoch(validation_loss)
        if validation_loss < self.best_loss:
            self.best_loss, self.best_step = validation_loss, step
        return stopping is not None and self.watch.better(
            validation_loss, stopping.min_delta
        )

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
        last = {name: column[-1:] for name, column in history.to_dict().items()}
        self.model.remember(History.from_dict(last), self.start + len(history) - 1)

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
        self._give(self.average)
        try:
            yield
        finally:
            self._give(trained)

    def _give(self, weights: Vector) -> None:
        """Make these the model's."""
        with self.model.gate:
            np.copyto(self.parameters, weights)

    def _weights_now(self) -> Vector:
        """What would be the model's weights if training ended here."""
        return self.parameters if self.average is None else self.average

    def _check_weights(self) -> None:
        for vector in (self.parameters, self._weights_now()):
            if not np.isfinite(vector).all():
                self._refuse("the loss became nan")

    def _refuse(self, what: str) -> NoReturn:
        """Put weights back that are known to be good, and raise."""
        self._give(self.safe)
        if self.average is not None:
            np.copyto(self.average, self.safe)
        raise TrainingError(
            f"{what} in epoch {self.state.epoch}, batch {self.batch}; the model holds "
            f"the last weights checked before (at most {SAFE_EVERY} batches old). A "
            "smaller learning rate may help"
        )

    def _out_of_time(self) -> bool:
        most = self.options.max_seconds
        if self.step == 0 or most == math.inf:
            return False
        return self._first(lambda: time.perf_counter() - self.began >= most)

    def _time_to_save(self) -> bool:
        checkpoint = self.options.checkpoint
        if checkpoint is None or checkpoint.every_seconds is None:
            return False
        seconds = checkpoint.every_seconds
        return self._first(lambda: time.perf_counter() - self.saved >= seconds)

    def _save(self) -> None:
        """Write a checkpoint, if they are asked for."""
        if self.options.checkpoint is None:
            return
        vectors = self._vectors()
        if not all(np.isfinite(vector).all() for vector in vectors.values()):
            self._refuse("the optimizer's state became infinite")
        if self.folder is None:  # it is that of another rank
            return
        from lenet5c.training.saved import Saved

        now = time.perf_counter()
        saved = Saved(
            epochs=self.options.epochs,
            history=self.history,
            batch=self.batch,
            loss_sum=self.loss_sum,
            correct_sum=self.correct_sum,
            stopped=self.stopped,
            seconds=now - self.began,
            epoch_seconds=now - self.epoch_began,
            passes=self.start,
            optimizer_steps=self.options.optimizer.steps,
            stage=self.model.stage,
            source=self.model.source,
            core=isa,
            tensors={name: vector for name, vector in vectors.items() if vector.size},
        )
        self.folder.write(self.step, saved, self.best_step)
        self.saved = time.perf_counter()

    def restore(self, found: "Saved") -> None:
        """Go on where the checkpoint was written: the opposite of `_save`. It has been
        checked, so nothing can fail here and leave the model half changed."""
        if found.core != isa and self.speaks:
            logger().warning(
                "the checkpoint was written on the core %.20r, training goes on on %s: "
                "the weights will differ in their last bits from those of an unbroken "
                "training",
                found.core,
                isa,
            )
        if found.epochs != self.options.epochs and self.speaks:
            logger().info(
                "the checkpoint is of a training of %d epochs, which goes on to %d",
                found.epochs,
                self.options.epochs,
            )
        vectors = self._vectors()
        with self.model.gate:
            for name, vector in found.tensors.items():
                np.copyto(vectors[name], vector)
        batches = self.state.batches
        self.history = found.history
        self.model.remember(found.history, found.passes)
        self.batch = found.batch
        self.step = len(self.history) * batches + self.batch
        self.loss_sum, self.correct_sum = found.loss_sum, found.correct_sum
        self.stopped = found.stopped
        self.options.optimizer.steps = found.optimizer_steps
        self.start = found.passes
        self.passes = self.start if self.options.seed is None else 0
        self.model.passes = self.start + found.begun
        for epoch, loss in enumerate(self.history.validation_loss, 1):
            self._take_notice(loss, epoch * batches)
        if self.history.validation_loss:
            self.state.validation_loss = self.history.validation_loss[-1]
            self.state.validation_accuracy = self.history.validation_accuracy[-1]
        now = time.perf_counter()
        self.began = now - found.seconds
        self.epoch_began = now - found.epoch_seconds
        self.saved = now

    def _vectors(self) -> dict[str, Vector]:
        """All that training changes and that is as long as the parameters, by name."""
        vectors = {"parameters": self.parameters, "safe": self.safe}
        for index, vector in enumerate(self.options.optimizer.state):
            vectors[f"optimizer.{index}"] = vector
        if self.average is not None:
            vectors["average"] = self.average
        if self.best is not None:
            vectors["best"] = self.best
        if self.integers is not None:
            vectors["units"] = self.integers.units
        return vectors


def _shared(
    model: Trainable, data: TrainingData, options: TrainingOptions
) -> dict[str, Any]:
    """What all processes of a training have to have alike."""
    checkpoint = options.checkpoint
    watching = [c for c in options.callbacks if getattr(c, "on_batch_end", None)]
    each_batch = [c for c in watching if getattr(c, "each_batch", True)]
    return {
        "core": isa,
        **_fingerprint(model),
        **data.fingerprint(),
        **options.fingerprint(),
        "epochs": options.epochs,
        "max_seconds": options.max_seconds,
        "number of callbacks": len(options.callbacks),
        "number of callbacks with on_batch_end": len(each_batch),
        "checkpoint": None if checkpoint is None else checkpoint.every_seconds,
        "weights": hash_of(model.state_vector),
        "passes": model.passes,
    }


def _batch_count(model: Trainable, images: int, size: int) -> int:
    """Batches of an epoch. The last one may be smaller; one that is too small for batch
    normalisation joins the batch before it."""
    alone = 0 < images % size < model.least_batch and images > size
    return -(-images // size) - alone


def _check_batch_norm(model: Trainable, options: TrainingOptions, images: int) -> None:
    """Refuse batches whose statistics are not those of the whole batch."""
    walked = walk(model.layers, model.input_shape)
    normalises = any(isinstance(layer, BatchNorm2d) for layer, *_ in walked)
    if normalises and options.accumulate > 1:
        raise ValueError(
            "accumulate: expected 1 for a network with batch normalisation, whose "
            f"statistics are of the whole batch, got {options.accumulate}"
        )
    if min(options.batch_size, images) < model.least_batch:
        raise ValueError(
            "batch_size: expected 2 images at least for batch normalisation, which "
            "takes its statistics over the batch, got "
            f"{min(options.batch_size, images)}"
        )


def _check_quantize(model: Trainable, options: TrainingOptions) -> None:
    """Refuse what is not trained as integers."""
    if options.quantize is None:
        return
    from lenet5c.training.integers import check_integers

    check_integers(model)
    if isinstance(options.optimizer, SDLM):
        raise ValueError(
            "quantize: expected an optimizer that asks for no second derivatives, got "
            f"{options.optimizer!r}"
        )


def _check_bytes(stage: InputStage, options: TrainingOptions) -> None:
    """Refuse pixels of which there are not 256."""
    if options.quantize is not None and not stage.takes_bytes:
        raise ValueError(
            "quantize: expected uint8 images, or floats from 0 to 1, got a model that "
            "was trained on other floats"
        )


def _check_schedule(options: TrainingOptions, batches: int) -> None:
    """Call it once, so that one that cannot work is refused before anything changes."""
    try:
        factor = options.schedule(0, batches, options.epochs)
        float(factor + 0.0)
    except TypeError as error:
        raise TypeError(
            "schedule: expected a function of (step, steps_per_epoch, epochs) that "
            f"returns a number; {error}"
        ) from error


def _check_epochs(found: "Saved | None", epochs: int) -> None:
    """Refuse what could only be had by undoing epochs."""
    if found is not None and found.begun > epochs:
        raise ValueError(
            f"epochs: expected {found.begun} at least, which the checkpoint has begun, "
            f"got {epochs}"
        )


def _fingerprint(model: Trainable) -> dict[str, Any]:
    """What must be the same for a training to go on to the same bits."""
    from lenet5c._support.build import __version__

    return {
        "version": __version__,
        "layers": [layer_to_dict(layer) for layer in model.layers],
        "input_shape": list(model.input_shape),
        **{
            f"codes of {layer.name}": hash_of(model.buffers[f"{layer.name}.codes"])
            for layer, *_ in walk(model.layers, model.input_shape)
            if isinstance(layer, RadialBasis)
        },
    }
