"""Model: layers, their parameters, and the compiled network that runs them.

What trains is imported when it is used: many programs only predict.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, number, truth, whole
from lenet5c._support.cores import core
from lenet5c._support.habits import Elsewhere, explained, no_attribute
from lenet5c._support.text import counted
from lenet5c._support.threads import Gate, alone, resolve_threads, sharing
from lenet5c.bits import Bits, Rounding, as_bits
from lenet5c.data.augment import Augment
from lenet5c.data.images import InputStage, as_images, encode_labels
from lenet5c.display import Displayed, Table, drawing, size_of, text_of
from lenet5c.engine import IMAGES_A_CALL, Engine, predictor_of
from lenet5c.graph import fold, for_core, lower
from lenet5c.interfaces import Evaluation, evaluation_of
from lenet5c.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Layer,
    MaxPool2d,
    RadialBasis,
    Subsampling2d,
    initialise,
    walk,
)
from lenet5c.layers.base import Shape
from lenet5c.layers.initial import before_relu, parts_by_fans
from lenet5c.layers.listed import named
from lenet5c.parameters import (
    MAX_PARAMETERS,
    Parameters,
    tensor_shapes,
    views_of,
)
from lenet5c.report.history import History

if TYPE_CHECKING:
    from lenet5c.deploy.page import Examples
    from lenet5c.deploy.quantize import QuantizedModel
    from lenet5c.embed import Predictor
    from lenet5c.files.model_file import Contents, Described
    from lenet5c.training.callbacks import Callback, EarlyStopping
    from lenet5c.training.checkpoint import Checkpoint
    from lenet5c.training.losses import Loss
    from lenet5c.training.optimizers import Optimizer
    from lenet5c.training.options import ClassWeight, Validation
    from lenet5c.training.recipes import Recipe
    from lenet5c.training.schedules import Schedule

__all__ = ["Model", "load"]

MAX_BATCH = 1 << 20
CROSS_ENTROPY = (0, math.inf)  # losses.CrossEntropy().for_core()
MAX_COPIED = 1 << 24  # bytes of images that are copied at a time


@explained
class Model(Displayed):
    """A network of layers, run one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        The last one's outputs are the logits. Layers without a name are given one: the
        kind and a number.
    input_shape : (int, int, int)
        Channels, rows and columns of the network's input.
    classes : int
        How many classes there are; equals the outputs of the last layer.
    seed : int
        Of the initial weights. Biases start at zero, batch normalisation at the
        identity.
    stage : InputStage or None
        What is done to images, for good: `fit` keeps it. None, as an `InputStage()` of
        nothing, is one that the first `fit` makes of its images.

    Attributes
    ----------
    layers : tuple of Layer
    input_shape : (int, int, int)
    shapes : list of (int, int, int)
        Of the input, and of what each layer makes of it.
    class_count : int
    stage : InputStage
        What is done to images before the first layer: fixed by the first `fit`, if the
        model was made without one.
    source : (int, int)
        Rows and columns of the training images.
    fitted : bool
        Whether `fit` or `set_input` has fixed these.
    classes : (classes,) array
        The labels as given to `fit`; 0 to classes - 1 before.
    parameters, buffers : Mapping
        float32 arrays by name: what an optimizer changes, and what none does (running
        statistics of batch normalisation, codes of `RadialBasis`). Views of one flat
        vector, `state_vector`, which `parameter_vector` is the beginning of.
    parameter_count, multiply_adds : int
        Multiply-adds are those of the forward pass of one image.
    passes : int
        How many epochs all calls of `fit` have trained: what their random numbers go on
        from.
    history : History
        What all calls of `fit` have found, epoch by epoch, 1,000 entries at most. A
        model file has it too, but for the durations, in 7 digits.
    predicts_alike : bool
        Whether all images of a call are predicted by one engine: then their order
        changes no bit, as scikit-learn wants it (see `forward`). False unless set.
    trained_on : str or None
        The data set that `lenet5c train` was given, by name or path; None if unknown.
    rounding : Rounding or None
        What `fit` has rounded the weights to, if its last call was told to: the bits,
        and the units of maps.
    gate : Gate
        Held while the weights change or are copied: ``with model.gate:`` in a training
        loop of one's own makes each copy one of the weights between two steps.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, two layers have one name, a layer does not
        fit behind the one before it, or the last one has not `classes` outputs.

    Notes
    -----
    From other threads, while `fit` or `train_step` runs: `predict` and what else reads
    an image, `save`, `predictor`, the exports, pickle and copy may be called, and work
    on the weights between two steps (the running statistics of batch normalisation may
    be one step ahead). A second training of the model, or one with the same optimizer,
    is a RuntimeError. `parameters` are views: what is read there may be half a step.

    Examples
    --------
    >>> layers = [lenet5c.Conv2d(4, 5), lenet5c.ReLU(), lenet5c.Dense(3)]
    >>> small = lenet5c.Model(layers, input_shape=(1, 8, 8), classes=3)
    >>> small
    <Model of 3 layers, 299 parameters, 3 classes>
    >>> {name: array.shape for name, array in small.parameters.items()}
    {'conv2d_1.weight': (4, 1, 5, 5), 'conv2d_1.bias': (4,),
     'dense_1.weight': (3, 64), 'dense_1.bias': (3,)}
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        input_shape: Shape,
        classes: int = 10,
        seed: int = 0,
        stage: InputStage | None = None,
    ) -> None:
        if not isinstance(input_shape, (tuple, list)):
            raise TypeError(f"input_shape: expected (C, H, W), got {input_shape!r}")
        if len(input_shape) != 3:
            raise ValueError(f"input_shape: expected (C, H, W), got {input_shape!r}")
        channels, height, width = input_shape
        self.input_shape: Shape = (
            whole("input_shape", channels, 1),
            whole("input_shape", height, 1),
            whole("input_shape", width, 1),
        )
        self.class_count = whole("classes", classes, 2)
        seed = whole("seed", seed, 0, 2**63)
        if not isinstance(stage, (InputStage, type(None))):
            raise TypeError(f"stage: expected an InputStage or None, got {stage!r}")
        self.layers = named(layers)
        self.shapes = [self.input_shape]
        for layer in self.layers:
            self.shapes.append(layer.output_shape(self.shapes[-1]))
        self._walked = tuple(walk(self.layers, self.input_shape))
        outputs = math.prod(self.shapes[-1])
        if outputs != self.class_count:
            raise ValueError(
                f"layers: the last one has {outputs} outputs, expected one for each "
                f"of the {self.class_count} classes"
            )
        self._tensor_shapes = tensor_shapes(self.layers, self.input_shape)
        self.parameter_count = sum(map(math.prod, self._tensor_shapes[0].values()))
        buffer_count = sum(map(math.prod, self._tensor_shapes[1].values()))
        if max(self.parameter_count, buffer_count) > MAX_PARAMETERS:
            raise ValueError(
                f"layers: expected at most {MAX_PARAMETERS} parameters and as many "
                f"numbers in buffers, got {self.parameter_count} and {buffer_count}"
            )
        self.multiply_adds = sum(
            layer.multiply_adds(shape) for layer, shape, _ in self._walked
        )
        self._state = state = core.StateVector(self.parameter_count + buffer_count)
        self._parameters, self._buffers = views_of(
            lambda: np.asarray(state), self._tensor_shapes
        )
        self._network, self._maps = self._plan()
        self._initialise(seed)
        self.gate = Gate()
        self._engine = Engine(self._network, self._state, self._contents, self.gate)
        self.passes = 0
        self.history = History()
        self.trained_on: str | None = None
        self.rounding: Rounding | None = None
        stage = InputStage() if stage is None else stage
        self.set_input(stage, self.input_shape[1:], np.arange(self.class_count))
        self.fitted = False

    load = Elsewhere()
    from_onnx = Elsewhere()

    if not TYPE_CHECKING:  # which shall find attributes that are none

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(f"{type(self).__name__!r} object", name, dir(self))

    @property
    def state_vector(self) -> NDArray[np.float32]:
        """(state,) float32: the parameters and, behind them, the buffers. A view, which
        a model counts: while one is held it compares its weights in each prediction
        with those that it has packed."""
        return np.asarray(self._state)

    @state_vector.setter
    def state_vector(self, values: ArrayLike) -> None:
        with self.gate:
            _copy_into("state_vector", self.state_vector, values)

    @property
    def parameter_vector(self) -> NDArray[np.float32]:
        """(parameters,) float32, a view of the beginning of `state_vector`."""
        return np.asarray(self._state)[: self.parameter_count]

    @parameter_vector.setter
    def parameter_vector(self, values: ArrayLike) -> None:
        with self.gate:
            _copy_into("parameter_vector", self.parameter_vector, values)

    @property
    def parameters(self) -> Parameters:
        """float32 arrays by name, views of one flat vector."""
        return self._parameters

    @property
    def buffers(self) -> Parameters:
        """float32 arrays by name, which no optimizer changes: views as well."""
        return self._buffers

    @property
    def predicts_alike(self) -> bool:
        """Whether all images of a call are predicted by one engine."""
        return self._engine.alike

    @predicts_alike.setter
    def predicts_alike(self, alike: bool) -> None:
        self._engine.alike = bool(alike)

    @property
    def least_batch(self) -> int:
        """The fewest images of a batch in training: 2 where a batch normalisation sees
        one number of each image, of which there are no statistics."""
        alone = any(
            isinstance(layer, BatchNorm2d) and shape[1:] == (1, 1)
            for layer, shape, _ in self._walked
        )
        return 2 if alone else 1

    @property
    def dtype(self) -> str:
        """What it computes in: "float32"."""
        return "float32"

    @property
    def first_weights(self) -> tuple[str, NDArray[np.float32]] | None:
        """The name of the first convolution or dense layer, and its weights,
        (F, C, KH, KW); None if there is neither."""
        for layer, shape in zip(self.layers, self.shapes, strict=False):
            if isinstance(layer, (Conv2d, Dense)):
                weight = self.parameters[f"{layer.name}.weight"]
                if isinstance(layer, Conv2d):
                    return str(layer.name), layer.with_zeros(weight, shape[0])
                at_input = math.prod(shape) == math.prod(self.input_shape)
                maps = self.input_shape if at_input else shape
                return str(layer.name), weight.reshape(len(weight), *maps)
        return None

    @property
    def map_shapes(self) -> dict[str, Shape]:
        """The shapes of maps, (C, H, W), by the names of the convolutions and poolings
        that make them; of those larger than one pixel."""
        return {
            str(layer.name): shape
            for layer, shape in zip(self.layers, self.shapes[1:], strict=True)
            if isinstance(layer, (Conv2d, AvgPool2d, MaxPool2d))
            and shape[1] * shape[2] > 1
        }

    @property
    def trained_on_floats(self) -> bool:
        """Whether its images are floats: those of the first `fit` were, or it comes
        from elsewhere and nothing is done to them."""
        unchanged = self.fitted and (self.stage.mean, self.stage.deviation) == (0, 1)
        return self.stage.of_floats or (self.stage.pixels is None and unchanged)

    def remember(self, history: History, start: int) -> None:
        """Put what `fit` has found behind epoch `start` into `history`.

        In one step: whoever is interrupted, or saves meanwhile, has whole epochs.

        Parameters
        ----------
        history : History
            Its first epoch is `start` + 1; what is known of later ones is replaced.
        start : int

        Examples
        --------
        >>> model = lenet5c.lenet5()
        >>> model.remember(lenet5c.History(loss=[0.5], accuracy=[0.8]), 0)
        >>> len(model.history)
        1
        """
        self.history = self.history.joined(history, start)

    def set_input(
        self, stage: InputStage, source: tuple[int, int], classes: NDArray[Any]
    ) -> None:
        """Fix what is done to images and what the classes are called.

        Parameters
        ----------
        stage : InputStage
        source : (int, int)
            Rows and columns of the training images.
        classes : (classes,) array

        Raises
        ------
        ValueError
            If those images are larger than the network's input.

        Examples
        --------
        >>> fresh = lenet5c.lenet5()
        >>> fresh.set_input(model.stage, (28, 28), np.array(list("abcdefghij")))
        >>> fresh.predict(images[:1]).item() in fresh.classes, fresh.source
        (True, (28, 28))
        """
        if source[0] > self.input_shape[1] or source[1] > self.input_shape[2]:
            raise ValueError(
                f"source: expected images of at most {self.input_shape[1:]}, "
                f"got {source}"
            )
        with self.gate:
            self.stage = stage
            self.source = source
            self.classes = classes
            self.fitted = True

    @explained
    def fit(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: Optimizer | str | None = None,
        schedule: str | Schedule | None = None,
        augment: Augment | bool | None = None,
        validation: Validation = None,
        seed: int | None = None,
        threads: int | None = None,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        recipe: str | Recipe | None = None,
        loss: str | Loss | None = None,
        label_smoothing: float | None = None,
        weight_average: float | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        class_weight: ClassWeight = None,
        sample_weight: ArrayLike | None = None,
        early_stopping: int | EarlyStopping | None = None,
        max_seconds: float | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        resume: bool = False,
        log: str | os.PathLike[str] | None = None,
        comm: Any = None,
        quantize: Bits | int | str | None = None,
    ) -> History:
        """Train on images and their labels, from the present weights on.

        The first call fixes how images are normalised, unless the model was made with a
        `stage`, and what the classes are called. The same arguments give the same
        weights, bit for bit, on any number of threads.

        Parameters
        ----------
        images : array
            uint8 or floating: (N, H, W), (N, H * W), (N, C, H, W). Smaller images than
            the network's input are centred in it. uint8 is scaled by 1/255 and
            normalised with the mean and deviation of these images; floating images are
            taken as they are. The model remembers which of the two it was, and in later
            calls, as in `predict`, floats from 0 to 1 and bytes stand for each other. A
            memory-mapped array is read as it is needed.
        labels : array
            (N,) integers or strings, or (N, classes) one-hot rows.
        epochs, batch_size : int or None
            None is the recipe's: 64, and 3 epochs for 60,000 images, more for fewer, at
            most 30 (`lenet5c.recipes.epochs_for`). The last batch of an epoch may be
            smaller.
        optimizer : Optimizer, "sgd", "adamw", "sdlm" or None
            None is the recipe's: ``SGD(0.1, momentum=0.9, nesterov=True)``.
        schedule : str, function or None
            "one-cycle" (the recipe's), "constant", "cosine", "step", "plateau",
            "lenet5-1998", or a function as in lenet5c.schedules.
        augment : Augment, False or None
            How images are changed, each epoch anew; None is the recipe's, False none.
        validation : float, (images, labels) or None
            Images to measure after each epoch: a share of each class of `images`, held
            out, or others.
        seed : int or None
            Of the order of the images, augmentation and dropout. None goes on from call
            to call: the second call of a model has another order than the first, while
            a new model repeats it all. A number repeats itself in each call.
        threads : int or None
            None takes what OpenMP, CPU affinity and CPU quota allow, shared with what
            other threads of the program train meanwhile; one in a process that
            multiprocessing started, unless OMP_NUM_THREADS is set.
        callbacks : sequence
            Functions called with a TrainingState after each epoch, or objects with
            methods ``on_batch_end`` and ``on_epoch_end``. Returning True ends the
            training.
        verbose : bool
            Whether to show a progress bar on stderr.
        recipe : str, Recipe or None
            What the arguments that are None mean: "default", "best" or
            "1998" (lenet5c.recipes).
        loss : str, Loss or None
            What is made small: "cross-entropy", "mle" or "map", or an object of
            lenet5c.losses. It is what the history has as `loss`; validation and
            `evaluate` report the cross-entropy.
        label_smoothing : float or None
            Share of each label, 0 <= s < 1, that is spread evenly over all classes; not
            with "mle".
        weight_average : float or None
            Decay d of an exponential moving average of the weights, 0 <= d < 1, 0 for
            none. After step t it is min(d, (1 + t) / (10 + t)). The averaged weights
            are those that are measured, that callbacks see at the end of an epoch, and
            that the model has in the end; training itself goes on with the others.
        clip_norm : float or None
            Largest L2 norm of a step's gradient; a longer one is scaled down to it.
            None is the recipe's: 1. math.inf is no limit.
        accumulate : int
            In how many parts a batch is computed: the memory of a small batch, the
            gradient of the whole one. 1 for networks with batch normalisation, which is
            over the whole batch.
        class_weight : mapping, "balanced" or None
            What the losses of a class's images are multiplied by, by label; 1 for those
            not named. "balanced": by the inverse of the class's number of images.
        sample_weight : (N,) array or None
            What the loss of each image is multiplied by, at least 0. The product of
            both weights is scaled to mean 1 over the training images. They do not count
            in validation and accuracy.
        early_stopping : int, EarlyStopping or None
            After how many epochs without a better validation loss training ends. The
            model then has the weights of the best epoch, as it has if training ends in
            any other way, as by Ctrl-C, but for a TrainingError.
        max_seconds : float or None
            End the training after the batch that passes this time, counted over all
            parts of a training that was resumed.
        checkpoint : path, Checkpoint or None
            Folder to write checkpoints to: at the end of each epoch, or as a
            `Checkpoint` says. One that cannot be written is a RuntimeWarning.
        resume : bool
            Go on from the newest checkpoint in that folder which is not damaged, to the
            very weights that the training would have had without interruption; from the
            beginning if there is none. It must be of a training with the same
            arguments, but for `epochs`, of which there may be more, and fewer as long
            as they are not begun: the schedule then goes on by the new number. A
            training that has ended is not continued: its weights and its history are
            those returned, unless `max_seconds` or `epochs` ended it, now larger.
        log : path or None
            File of JSON Lines, one object an epoch: new, or continued with `resume`.
        comm : mpi4py.MPI.Comm or None
            Processes that train this model together, all with the same arguments, to
            the weights of one alone: docs/mpi.md. Rank 0 has callbacks, progress, log
            and checkpoints to itself.
        quantize : Bits, 8, 4, 2, "ternary" or None
            Train the network in integers of so few bits, best from a trained model on:
            `Model.quantize` then gives those integers. What `validation` measures are
            these, and in the end the weights are what they stand for; docs/int8.md,
            "Training for few bits". Not with `RadialBasis`, `Residual` and the
            optimizer "sdlm"; running statistics stay, and `Dropout` does nothing.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; the model has not changed then.
        OSError
            If `checkpoint` or `log` cannot be written, or another training writes to
            `checkpoint`; as well before anything changes.
        RankError
            If another process of `comm` fails, says nothing for 20 seconds, or does not
            come within 300.
        TrainingError
            If the loss stops being finite.

        Warns
        -----
        UserWarning
            If the loss of the last epoch, if it is the cross-entropy, is no better than
            guessing.
        RuntimeWarning
            If all checkpoints are damaged, or a new one cannot be written.

        Examples
        --------
        >>> fresh = lenet5c.lenet5()
        >>> history = fresh.fit(images, labels, epochs=4, validation=0.1)
        >>> len(history), history.validation_accuracy[-1] > 0.9
        (4, True)
        """
        given = locals()
        from lenet5c.training.loop import fit
        from lenet5c.training.options import TrainingOptions

        options = TrainingOptions.among(given)
        with self._training(options.optimizer):
            return fit(self, images, labels, options)

    @explained
    def forward(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Logits, (N, classes) float32, of images as `fit` takes them.

        An image's logits do not depend on what other images of the call hold. Their
        last bits depend on how many there are, and on the image's place: two engines
        share the images, whole blocks and the rest (`lenet5c.engine`), or one takes all
        (`predicts_alike`). The same call gives the same bits, on any number of threads;
        so do `predict`, `predict_proba` and `evaluate` of the same images.

        Parameters
        ----------
        images : array
            As in `fit`, of the kind of pixels that the model was trained on.
        threads : int or None

        Returns
        -------
        (N, classes) float32

        Raises
        ------
        TypeError, ValueError
            If the images do not fit.

        Examples
        --------
        >>> logits = model.forward(images[:5])
        >>> logits.shape, logits.argmax(axis=1).tolist()
        ((5, 10), [1, 3, 5, 6, 7])
        """
        return self._run(images, threads)

    def __call__(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """What `forward` returns."""
        return self.forward(images, threads=threads)

    @explained
    def predict_proba(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Probabilities, (N, classes) float32, in the order of `classes`.

        Parameters
        ----------
        images : array
            As in `fit`, of the kind of pixels that the model was trained on.
        threads : int or None

        Returns
        -------
        (N, classes) float32

        Raises
        ------
        TypeError, ValueError
            If the images do not fit.

        Examples
        --------
        >>> probabilities = model.predict_proba(images[:2])
        >>> probabilities.shape, probabilities.sum(axis=1).round(4).tolist()
        ((2, 10), [1.0, 1.0])
        >>> bool(probabilities[1, 3] > 0.99)  # the second one is a 3
        True
        """
        return self._run(images, threads, probabilities=True)

    @explained
    def predict(self, images: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The most probable label of each image, (N,), as they were given to `fit`.

        One image alone is ``images[np.newaxis]``; many calls for one each are what
        `predictor` is for. Labels are those of the logits of `forward`: where two are
        equal but for rounding, it can depend on how many images there are.

        Parameters
        ----------
        images : array
            As in `fit`, of the kind of pixels that the model was trained on.
        threads : int or None

        Returns
        -------
        (N,) array

        Raises
        ------
        TypeError, ValueError
            If the images do not fit.

        Examples
        --------
        >>> labels[:5].tolist()
        [1, 3, 5, 6, 7]
        >>> model.predict(images[:5]).tolist()
        [1, 3, 5, 6, 7]
        """
        labels: NDArray[Any] = self.classes[
            self.forward(images, threads=threads).argmax(axis=1)
        ]
        return labels

    @explained
    def evaluate(
        self, images: ArrayLike, labels: ArrayLike, *, threads: int | None = None
    ) -> Evaluation:
        """Loss, accuracy and confusion matrix on images and their labels.

        Parameters
        ----------
        images : array
            As in `fit`, of the kind of pixels that the model was trained on.
        labels : array
            (N,) of the model's classes, or (N, classes) one-hot rows.
        threads : int or None

        Returns
        -------
        Evaluation

        Raises
        ------
        TypeError, ValueError
            If the images do not fit, or a label is none of the classes.

        Examples
        --------
        >>> found = model.evaluate(*data.test)
        >>> found.accuracy > 0.97
        True
        >>> found.confusion.shape, int(found.confusion.sum())
        ((10, 10), 360)
        """
        pixels = self._pixels(images)
        _, codes = encode_labels(labels, len(pixels), self.class_count, self.classes)
        return self.evaluate_at(pixels, codes, None, threads)

    def evaluate_at(
        self,
        pixels: NDArray[Any],
        codes: NDArray[np.int32],
        indices: NDArray[np.intp] | None,
        threads: int | None,
    ) -> Evaluation:
        """What `evaluate` finds for the images at `indices`, a few at a time.

        What `fit` calls for the images held out: nothing is checked.

        Parameters
        ----------
        pixels : (N, C, H, W) uint8 or float32, C-contiguous
        codes : (N,) int32
            Class numbers of all N images.
        indices : intp array or None
            None stands for all N images.
        threads : int or None

        Returns
        -------
        Evaluation

        Examples
        --------
        >>> pixels, codes = images[:100, np.newaxis], labels[:100].astype(np.int32)
        >>> model.evaluate_at(pixels, codes, np.arange(50), threads=1).accuracy
        1.0
        """
        step = IMAGES_A_CALL
        if indices is not None:
            step = min(step, max(1, MAX_COPIED // pixels[0].nbytes))
            block = self._network.images_together
            step -= step % block if step > block else 0
        return evaluation_of(
            lambda part: self._run(part, threads),
            *(pixels, codes, indices, self.classes, step),
        )

    @explained
    def activations(
        self, images: ArrayLike, layer: str, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """What the layer of that name makes of the images, (N, C, H, W) float32.

        For a convolution or dense layer that is followed by an activation, the feature
        map after it, as in the paper; logits where there is none.

        Parameters
        ----------
        images : array
            As in `fit`, of the kind of pixels that the model was trained on.
        layer : str
            A name, as `summary` lists them.
        threads : int or None

        Returns
        -------
        (N, C, H, W) float32

        Raises
        ------
        TypeError, ValueError
            If there is no such layer, or the images do not fit.

        Examples
        --------
        >>> model.activations(images[:1], "C1").shape
        (1, 6, 28, 28)
        >>> F6 = model.activations(images[:20], "F6")
        >>> F6.shape, bool(abs(F6).max() <= 1)  # after tanh
        ((20, 84, 1, 1), True)
        """
        if not isinstance(layer, str) or layer not in self._maps:
            names = ", ".join(self._maps)
            raise ValueError(f"layer: expected one of {names}, got {layer!r}")
        ops, shape = self._maps[layer]
        flat = self._run(images, threads, ops, math.prod(shape))
        return flat.reshape(len(flat), *shape)

    @explained
    def loss_and_gradients(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        loss: str | Loss = "cross-entropy",
        threads: int | None = None,
    ) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Mean loss of the images, and its gradient by parameter name.

        Parameters
        ----------
        images, labels : array
            As in `evaluate`.
        loss : str or Loss
            As in `fit`.
        threads : int or None

        Returns
        -------
        loss : float
            In nats.
        gradients : dict of str to float32 array
            In the shapes of `parameters`.

        Raises
        ------
        TypeError, ValueError
            If the images do not fit, or a label is none of the classes.

        Examples
        --------
        >>> loss, gradients = model.loss_and_gradients(images[:64], labels[:64])
        >>> gradients["C1.weight"].shape
        (6, 1, 5, 5)
        >>> abs(loss - model.evaluate(images[:64], labels[:64]).loss) < 1e-5
        True
        """
        pixels = self._pixels(images)
        _, codes = encode_labels(labels, len(pixels), self.class_count, self.classes)
        gradient = np.empty_like(self.parameter_vector)
        found, _ = self.loss_of_batch(
            pixels,
            np.arange(len(pixels)),
            codes,
            gradient,
            resolve_threads(threads),
            loss=self._loss(loss),
        )
        gradients = {}
        start = 0
        for name, value in self.parameters.items():
            gradients[name] = gradient[start : start + value.size].reshape(value.shape)
            start += value.size
        return found, gradients

    @explained
    def train_step(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        optimizer: Optimizer,
        *,
        learning_rate: float | None = None,
        loss: str | Loss = "cross-entropy",
        threads: int | None = None,
    ) -> float:
        """One step on one batch; the mean loss before it. For training loops of one's
        own.

        `learning_rate` None is the optimizer's. The images' normalisation and the
        classes are those of the model, as `fit` left them.

        Parameters
        ----------
        images, labels : array
            The batch, as in `evaluate`.
        optimizer : Optimizer
            The same one for all steps: it keeps its state.
        learning_rate : float or None
        loss : str or Loss
            As in `fit`.
        threads : int or None

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        RuntimeError
            If another training of the model, or with the optimizer, is running.

        Examples
        --------
        >>> fresh, optimizer = lenet5c.lenet5(), lenet5c.SGD(0.02)
        >>> fresh.set_input(model.stage, model.source, model.classes)
        >>> batch = images[:64], labels[:64]
        >>> losses = [fresh.train_step(*batch, optimizer) for _ in range(20)]
        >>> losses[-1] < losses[0]
        True
        """
        from lenet5c.training.optimizers import checked_optimizer

        checked_optimizer(optimizer)  # not by name: its state is kept between steps
        rate = optimizer.learning_rate
        if learning_rate is not None:
            rate = number("learning_rate", learning_rate, 0, math.inf)
        loss = self._loss(loss)
        count = resolve_threads(threads)
        pixels = self._pixels(images)
        _, codes = encode_labels(labels, len(pixels), self.class_count, self.classes)
        if len(pixels) < self.least_batch:
            raise ValueError(
                "images: expected 2 at least for batch normalisation, which takes its "
                "statistics over the batch, got 1"
            )
        with self._training(optimizer):
            gradient = np.empty_like(self.parameter_vector)
            optimizer.prepare(self.parameter_vector)
            found, _ = self.loss_of_batch(
                pixels,
                np.arange(len(pixels)),
                codes,
                gradient,
                count,
                loss=loss,
                epoch=optimizer.steps,
                measure=True,
            )
            with self.gate:
                optimizer.step(self.parameter_vector, gradient, rate, count)
        return found

    def loss_of_batch(
        self,
        pixels: NDArray[Any],
        indices: NDArray[np.intp],
        codes: NDArray[np.int32],
        gradient: NDArray[np.float32],
        threads: int,
        *,
        loss: Loss | None = None,
        weights: NDArray[np.float32] | None = None,
        smoothing: float = 0.0,
        mean_over: int = 0,
        add: bool = False,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
        measure: bool = False,
        ranks: Any = None,
    ) -> tuple[float, int]:
        """Mean loss of the images at `indices`, and how many are right; the gradient is
        written.

        What `fit` calls for each batch: nothing is checked.

        Parameters
        ----------
        pixels : (N, C, H, W) uint8 or float32, C-contiguous
        indices : (B,) intp
        codes : (N,) int32
            Class numbers of all N images.
        gradient : (parameter_count,) float32, written
        threads : int
        loss : Loss or None
            None is the cross-entropy.
        weights : (N,) float32 or None
            What each image's loss is multiplied by.
        smoothing : float
            Share of a label that is spread over all classes.
        mean_over : int
            How many images the mean is over; 0 for B.
        add : bool
            Whether to add to `gradient`: over several calls it is that of one batch.
        augment : Augment or None
        seed, epoch : int
            Of the random numbers of augmentation and dropout.
        measure : bool
            Whether the running statistics of batch normalisation, `buffers`, move
            towards those of this batch.
        ranks : object or None
            The processes that share the batch, as `fit` makes it of its `comm`; all
            have the same arguments and results.

        Returns
        -------
        loss : float
        correct : int

        Examples
        --------
        >>> gradient = np.empty(model.parameter_count, np.float32)
        >>> pixels, codes = images[:64, np.newaxis], labels[:64].astype(np.int32)
        >>> loss, right = model.loss_of_batch(pixels, np.arange(64), codes, gradient, 1)
        >>> right, loss < 0.1
        (64, True)
        """
        found, correct = self._network.loss_and_gradient(
            self.state_vector,
            pixels,
            self.stage.for_core(),
            indices,
            codes,
            gradient,
            threads,
            weights=weights,
            smoothing=smoothing,
            mean_over=mean_over,
            add=add,
            augment=None if augment is None else augment.for_core(self.stage),
            seed=seed,
            epoch=epoch,
            running=self.state_vector if measure else None,
            loss=CROSS_ENTROPY if loss is None else loss.for_core(),
            ranks=ranks,
        )
        return found, correct

    def train_batches(
        self,
        pixels: NDArray[Any],
        indices: NDArray[np.intp],
        batch_size: int,
        codes: NDArray[np.int32],
        gradient: NDArray[np.float32],
        optimizer: Optimizer,
        rates: Sequence[float],
        threads: int,
        *,
        average: NDArray[np.float32] | None = None,
        decays: Sequence[float] = (),
        clip_norm: float | None = None,
        loss: Loss | None = None,
        weights: NDArray[np.float32] | None = None,
        smoothing: float = 0.0,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> list[tuple[float, int]]:
        """Steps on several small batches, one after the other, in one call.

        What `fit` calls where Python would take longer than a batch: nothing is
        checked. It comes to the same bits as `loss_of_batch` and the optimizer's step.

        Parameters
        ----------
        pixels : (N, C, H, W) uint8 or float32, C-contiguous
        indices : (B,) intp
            The images of all batches.
        batch_size : int
            Of all batches but the last, which has what is left.
        codes, gradient
            As in `loss_of_batch`.
        optimizer : Optimizer
            With a `rule`, and prepared.
        rates : sequence of float
            The learning rate of each batch.
        threads : int
        average : (state,) float32 or None, changed
            The moving average of parameters and buffers.
        decays : sequence of float
            That of `average`, of each batch.
        clip_norm : float or None
            The largest norm of a gradient.
        loss, weights, smoothing, augment, seed, epoch
            As in `loss_of_batch`.

        Returns
        -------
        list of (float, int)
            Mean loss and how many are right, of each batch. Where a loss is not finite
            that is the last one, and its step was not taken.

        Examples
        --------
        >>> fresh, optimizer = lenet5c.lenet5(), lenet5c.SGD(0.02)
        >>> fresh.set_input(model.stage, model.source, model.classes)
        >>> optimizer.prepare(fresh.parameter_vector)
        >>> gradient = np.empty(fresh.parameter_count, np.float32)
        >>> pixels, codes = images[:, np.newaxis], labels.astype(np.int32)
        >>> batches, rates = (pixels, np.arange(12), 4, codes), [0.02] * 3
        >>> found = fresh.train_batches(*batches, gradient, optimizer, rates, threads=1)
        >>> len(found), optimizer.steps
        (3, 3)
        """
        found: list[tuple[float, int]] = []
        try:
            with self.gate:
                self._network.train(
                    found,
                    self.state_vector,
                    pixels,
                    self.stage.for_core(),
                    indices,
                    batch_size,
                    codes,
                    gradient,
                    optimizer.rule(),
                    optimizer.state,
                    optimizer.steps,
                    np.asarray(rates, np.float64),
                    np.asarray(decays, np.float64),
                    threads,
                    average=average,
                    clip_norm=math.inf if clip_norm is None else clip_norm,
                    weights=weights,
                    smoothing=smoothing,
                    augment=None if augment is None else augment.for_core(self.stage),
                    seed=seed,
                    epoch=epoch,
                    loss=CROSS_ENTROPY if loss is None else loss.for_core(),
                )
        finally:  # Ctrl-C ends it between two steps
            optimizer.steps += sum(math.isfinite(loss) for loss, _ in found)
        return found

    @explained
    def summary(self) -> str:
        """A table of the layers: output shape, parameters, multiply-adds.

        Returns
        -------
        str

        Examples
        --------
        >>> print(lenet5c.mlp().summary())
        layer      kind     output  parameters  multiply-adds
        ---------  -------  ------  ----------  -------------
        flatten_1  Flatten  784
        HIDDEN     Dense    100         78,500         78,400
        relu_1     ReLU     100
        OUTPUT     Dense    10           1,010          1,000
        ---------  -------  ------  ----------  -------------
        total                           79,510         79,400
        """
        return text_of(self._table())

    @explained
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to `path`, atomically: the old file or the new one, never
        half.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> model.save("digits.lenet5c")
        >>> lenet5c.load("digits.lenet5c").predict(images[:5]).tolist()
        [1, 3, 5, 6, 7]
        """
        from lenet5c.files import model_file

        model_file.write(path, self._now())

    @explained
    def quantize(
        self,
        calibration_images: ArrayLike,
        *,
        bits: Bits | int | str | None = None,
    ) -> QuantizedModel:
        """The network in 8-bit integers, for machines without floating point.

        Parameters
        ----------
        calibration_images : array
            uint8, as `predict` takes them: some hundred of the training images. They
            decide how large the values of each layer are taken to become, unless
            training has.
        bits : Bits, 8, 4, 2, "ternary" or None
            How few of them weights have. None are those that the model was trained for,
            ``fit(quantize=...)``, and otherwise 8.

        Returns
        -------
        QuantizedModel
            It predicts, is evaluated, saved and exported as this model is; `report`
            says what is lost.

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit, or the model was trained on
            floating images.

        Examples
        --------
        >>> small = model.quantize(images[:200])
        >>> small.predict(images[:5]).tolist()
        [1, 3, 5, 6, 7]
        >>> small.weight_bytes, 4 * model.parameter_count
        (64374, 246824)
        """
        from lenet5c.deploy.quantize import QuantizedModel

        known, wanted = self.rounding, as_bits("bits", bits)
        if known is not None and wanted not in (None, known.bits):
            known = None
        found = wanted or (Bits() if known is None else known.bits)
        return QuantizedModel(self, calibration_images, found, known)

    @explained
    def export_c(
        self,
        path: str | os.PathLike[str],
        *,
        name: str = "network",
        channels_last: bool = False,
    ) -> None:
        """Write the network as one C99 file, which needs nothing else.

        Parameters
        ----------
        path : path
            Of a header: the file that includes it after
            ``#define <NAME>_IMPLEMENTATION`` has the code, all others the declarations.
            Its head says how it is called.
        name : str
            What all names in it begin with: a C identifier.
        channels_last : bool
            Whether the code takes images (H, W, C), as cameras give them, in place of
            (C, H, W).

        Raises
        ------
        ValueError
            If `name` is none, or a parameter is not finite.
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> model.export_c("digits.h", name="digits")
        >>> with open("digits.h") as file:
        ...     "#define DIGITS_IMPLEMENTATION" in file.read()  # its head says how
        True
        """
        from lenet5c.deploy.c_export import export_float

        export_float(self, path, name, truth("channels_last", channels_last))

    @explained
    def export_page(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        examples: Examples | None = None,
    ) -> None:
        """Write the network as one HTML page to draw on, which needs nothing else.

        It shows what the network says of a drawing or picture, all maps of all layers,
        and the arithmetic of each number in them. It opens from the disk, and loads and
        sends nothing.

        Parameters
        ----------
        path : str or path-like
        title : str or None
            The page's heading.
        examples : (images, labels) or None
            As `evaluate` takes them: the hardest of them, whose own class is the least
            probable, are on the page to start from.

        Raises
        ------
        TypeError, ValueError
            If title or examples do not fit, or a parameter is not finite.
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> import lenet5c
        >>> lenet5c.lenet5().export_page("digits.html", title="Digits")
        """
        from lenet5c.deploy import page

        page.export_float(self, path, title, examples)

    @explained
    def export_onnx(
        self, path: str | os.PathLike[str], *, dtype: str | None = None
    ) -> None:
        """Write the network as an ONNX file, for ONNX Runtime and others, atomically.

        The file has the opset 18. Its input ``images`` are (N, C, H, W) as in training,
        for any N; normalisation and centring are part of the graph. Its outputs are
        ``logits`` and ``probabilities``, (N, classes). Classes are in the metadata.

        Parameters
        ----------
        path : str or path-like
        dtype : {"uint8", "float32"} or None
            Of the images: bytes from 0 to 255, or floats, which are taken as they are.
            None is "float32" if the model was trained on floats.

        Raises
        ------
        ImportError
            If the onnx package is missing.
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> model.export_onnx("digits.onnx")
        >>> lenet5c.from_onnx("digits.onnx").predict(images[:5]).tolist()
        [1, 3, 5, 6, 7]
        """
        from lenet5c.files.onnx_out import export_onnx

        export_onnx(self, path, dtype)

    def folded(self) -> Model:
        """The same function of an image, for prediction alone: what exports are made
        of.

        A new model in which each batch normalisation right after a convolution or a
        dense layer is part of that layer's weight and bias, computed in float64. One
        that comes after anything else stays. A convolution with a table of
        `connections` has a weight of all pairs, with zeros where there is none.

        Returns
        -------
        Model

        Examples
        --------
        >>> normalised = lenet5c.lenet5(batch_norm=True)
        >>> len(normalised.layers), len(normalised.folded().layers)  # C1, C3 and C5
        (15, 12)
        """
        now = self._now()
        values = dict(now.tensors)
        model = Model(
            fold(self.layers, values, self.input_shape),
            input_shape=self.input_shape,
            classes=self.class_count,
        )
        for views in (model.parameters, model.buffers):
            for name in views:
                views[name] = values[name]
        model.set_input(now.stage, now.source, now.classes)
        model.fitted = now.fitted
        model.passes, model.trained_on = now.passes, now.trained_on
        model.rounding = now.rounding
        model.history = _history_of(now)
        return model

    @explained
    def predictor(self) -> Predictor:
        """A function for one image a call, of the network as it is now.

        Returns
        -------
        Predictor
            ``predictor(image)`` is the image's label, and
            ``predictor.predict_proba(image)`` are the probabilities. An image is a
            (H, W) or (C, H, W) array as `predict` takes them, and may be a view with
            any strides. Any number of threads may use it at once.

        Examples
        --------
        >>> classify = model.predictor()
        >>> frame = np.hstack([images[0], images[1]])  # as of a camera
        >>> [classify(frame[:, x : x + 28]) for x in (0, 28)]
        [1, 3]
        """
        return predictor_of(self._now())

    @explained
    def trainer(
        self,
        optimizer: Optimizer | str | None = None,
        *,
        batch_size: int = 64,
        loss: str | Loss = "cross-entropy",
        seed: int = 0,
        threads: int | None = None,
    ) -> Any:
        """Training steps for native programs: what `lenet5c_train_step_u8` works on.

        Each step changes this model's parameters in place. Images have to be of the
        size that the model was trained on; normalisation is the model's.

        Parameters
        ----------
        optimizer : Optimizer or None
            Its settings; the steps keep a state of their own. None is SGD().
        batch_size : int
            The most images of one step.
        loss : str or Loss
            As in `fit`.
        seed : int
            Of dropout.
        threads : int or None

        Returns
        -------
        Trainer
            ``address``, the C function's first argument, valid as long as this object
            lives; ``steps``, how many there were.

        Examples
        --------
        docs/embedding.md has a loop of such steps.

        >>> import ctypes
        >>> pointer, whole, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
        >>> step = ctypes.CFUNCTYPE(whole, *[pointer] * 3, whole, real, pointer)(
        ...     lenet5c.embed.addresses["lenet5c_train_step_u8"]
        ... )
        >>> trainer = model.trainer(lenet5c.SGD(momentum=0.9), batch_size=64)
        >>> codes, loss = labels[:64].astype(np.int32), real()
        >>> batch = images[:64].ctypes.data, codes.ctypes.data, 64
        >>> step(trainer.address, *batch, 0.01, ctypes.addressof(loss)), trainer.steps
        (0, 1)
        """
        from lenet5c.training.optimizers import Optimizer, as_optimizer

        chosen = as_optimizer(optimizer)
        if type(chosen).step is not Optimizer.step:
            raise NotImplementedError(
                f"optimizer: expected SGD or AdamW, got {chosen!r} with its own step"
            )
        if type(chosen).before_epoch is not Optimizer.before_epoch:
            raise NotImplementedError(
                f"optimizer: expected SGD or AdamW, got {chosen!r}, which looks at the "
                "training images before each pass; native steps have no passes"
            )
        rule = chosen.rule()
        state = [np.zeros_like(self.parameter_vector) for _ in range(2)]
        return core.Trainer(
            self._network,
            self.state_vector,
            self.stage.for_core(),
            (self.input_shape[0], *self.source),
            self.least_batch,
            whole("batch_size", batch_size, self.least_batch, MAX_BATCH),
            rule,
            state,
            np.zeros_like(self.parameter_vector),
            resolve_threads(threads),
            whole("seed", seed, 0, 2**63),
            self._loss(loss).for_core(),
        )

    @contextmanager
    def _training(self, optimizer: Optimizer) -> Iterator[None]:
        """Both, to oneself; a RuntimeError if another call trains with one of them."""
        with (
            sharing(),
            alone(
                self,
                "model: expected one training at a time, got a second one while the "
                "first is running",
            ),
            alone(
                optimizer,
                "optimizer: expected one for each training, got that of another one, "
                "which is running",
            ),
        ):
            yield

    def _loss(self, loss: str | Loss) -> Loss:
        """One that goes with this network."""
        from lenet5c.training.losses import as_loss

        found = as_loss(loss)
        found.check(self.layers)
        return found

    def _now(self) -> Contents:
        """What a model file holds, in a copy: whoever trains meanwhile does not change
        it, and its weights are those between two steps."""
        with self.gate:
            return self._contents(self.stage, self.state_vector.copy())

    def _contents(self, stage: InputStage, vector: NDArray[np.float32]) -> Contents:
        """What a model file holds."""
        history = self.history
        from lenet5c.files.model_file import Contents

        parameters, buffers = views_of(lambda: vector, self._tensor_shapes)
        return Contents(
            self.layers,
            self.input_shape,
            {**parameters, **buffers},
            stage,
            self.source,
            self.classes,
            self.fitted,
            self.passes,
            self.trained_on,
            history.to_dict() | {"epoch": list(history.epochs())},
            self.rounding,
        )

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy.deepcopy keep: all but the compiled network."""
        with self.gate:
            return {
                "layers": self.layers,
                "input_shape": self.input_shape,
                "state_vector": self.state_vector.copy(),
                "input": (self.stage, self.source, self.classes),
                "fitted": self.fitted,
                "training": (self.passes, self.trained_on),
                "history": self.history,
                "rounding": self.rounding,
                "predicts_alike": self.predicts_alike,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        stage, source, classes = state["input"]
        Model.__init__(
            self,
            state["layers"],
            input_shape=state["input_shape"],
            classes=len(classes),
        )
        np.copyto(self.state_vector, state["state_vector"])
        self.set_input(stage, source, classes)
        self.fitted = state["fitted"]
        self.passes, self.trained_on = state["training"]
        self.history = state.get("history", History())
        self.rounding = state.get("rounding")
        self.predicts_alike = state.get("predicts_alike", False)

    def _table(self) -> Table:
        columns = ["layer", "kind", "output", "parameters", "multiply-adds"]
        rows = []
        for layer, shape, after in self._walked:
            count = sum(map(math.prod, layer.parameter_shapes(shape).values()))
            adds = layer.multiply_adds(shape)
            rows.append(
                [
                    str(getattr(layer, "name", "")),
                    type(layer).__name__,
                    size_of(after),
                    f"{count:,}" if count else "",
                    f"{adds:,}" if count or adds else "",
                ]
            )
        total = ["total", "", ""]
        total += [f"{self.parameter_count:,}", f"{self.multiply_adds:,}"]
        title = f"Model: {size_of(self.input_shape)} to {self.class_count} classes"
        return Table(title, columns, rows, total, texts=3)

    def _drawn(self) -> str:
        return drawing(self.layers, self.input_shape)

    def __repr__(self) -> str:
        return (
            f"<Model of {counted(len(self.layers), 'layer')}, "
            f"{self.parameter_count:,} parameters, {self.class_count} classes>"
        )

    def _pixels(self, images: ArrayLike) -> NDArray[Any]:
        """Images (N, C, H, W), uint8 or float32, of a kind that the network takes."""
        pixels = as_images(images, self.input_shape, finite=False)
        self.stage.check(pixels)
        return pixels

    def _run(
        self,
        images: ArrayLike,
        threads: int | None,
        ops: int = -1,
        outputs: int | None = None,
        probabilities: bool = False,
    ) -> NDArray[np.float32]:
        """The outputs of the first `ops` ops, -1 for all: logits, or probabilities. The
        engine looks at the pixels' values."""
        pixels = as_images(images, self.input_shape, finite=False)
        y = np.empty((len(pixels), outputs or self.class_count), np.float32)
        if threads is not None:
            threads = resolve_threads(threads)
        self._engine.run(
            self.stage,
            pixels,
            y,
            threads,
            ops=ops,
            probabilities=probabilities,
        )
        return y

    def _initialise(self, seed: int) -> None:
        """Weights by the activation that follows: He before ReLU, Glorot otherwise."""
        generator = np.random.default_rng(seed)
        followed = before_relu(self.layers)
        for layer, shape, _ in self._walked:
            if isinstance(layer, (Conv2d, Dense)):
                init = layer.init or ("he" if layer.name in followed else "glorot")
                weight = self.parameters[f"{layer.name}.weight"]
                for part, fans in parts_by_fans(layer, shape[0], weight):
                    initialise(part, init, generator, fans)
            elif isinstance(layer, Subsampling2d):
                weight = self.parameters[f"{layer.name}.weight"]
                fans = layer.kernel_size**2, layer.kernel_size**2
                initialise(weight, "lecun-1998", generator, fans)
            elif isinstance(layer, BatchNorm2d):
                self.parameters[f"{layer.name}.weight"][:] = 1
                self.buffers[f"{layer.name}.running_var"][:] = 1
            elif isinstance(layer, RadialBasis):
                codes = self.buffers[f"{layer.name}.codes"]
                codes[:] = (
                    generator.choice([-1.0, 1.0], codes.shape)
                    if layer.codes is None
                    else layer.codes
                )
            elif layer.parameter_shapes(shape):
                raise ValueError(
                    f"{layer.name}: no initial parameters for the kind {layer.kind!r}"
                )

    def _plan(self) -> tuple[Any, dict[str, tuple[int, Shape]]]:
        """The compiled network; by layer name, the map that it makes and its shape."""
        if not lower(self.layers, self.input_shape).nodes:
            raise ValueError(
                "layers: expected at least one layer that computes something"
            )
        graph = lower(self.layers, self.input_shape, training=True)
        maps = {name: found for name, found in graph.maps.items() if found[0]}
        return core.Network(for_core(graph), self.input_shape), maps


def _copy_into(name: str, vector: NDArray[np.float32], values: ArrayLike) -> None:
    array = np.asarray(as_array(name, values), np.float32)
    if array.shape != vector.shape:
        raise ValueError(
            f"{name}: expected the shape {vector.shape}, got {array.shape}"
        )
    np.copyto(vector, array)


def _history_of(contents: Described) -> History:
    history = History.from_dict(contents.history)
    return history.joined(History(), contents.passes)


@explained
def load_floats(path: str | os.PathLike[str]) -> Model:
    """`load`, for what needs a model in floats: a ValueError for one in integers."""
    model = load(path)
    if isinstance(model, Model):
        return model
    raise ValueError(
        f"{os.fspath(path)}: expected a model in floats, got one in 8-bit integers, as "
        "`lenet5c quantize` and QuantizedModel.save write them"
    )


def load(path: str | os.PathLike[str]) -> Model | QuantizedModel:
    """Read a model that `Model.save` or `QuantizedModel.save` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Model or QuantizedModel
        With the weights, the classes and the normalisation that it was saved with.

    Raises
    ------
    FileFormatError
        If the file is damaged or not a model file.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> model.save("digits.lenet5c")
    >>> again = lenet5c.load("digits.lenet5c")
    >>> bool((again.parameter_vector == model.parameter_vector).all())
    True
    """
    from lenet5c.files import model_file
    from lenet5c.files.container import INT8, MODEL, FileFormatError, read_any

    form, tensors, metadata = read_any(path, (MODEL, INT8))
    with model_file.naming(path):
        if form is INT8:
            from lenet5c.deploy import int8_file
            from lenet5c.deploy.quantize import QuantizedModel

            integers = int8_file.checked(tensors, metadata)
            return QuantizedModel._of_file(integers, _history_of(integers))
        contents = model_file.checked(tensors, metadata)
    try:
        model = Model(
            contents.layers,
            input_shape=contents.input_shape,
            classes=len(contents.classes),
        )
        model.set_input(contents.stage, contents.source, contents.classes)
    except (TypeError, ValueError, OverflowError) as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error
    for views in (model.parameters, model.buffers):
        for name in views:
            views[name] = contents.tensors[name]
    model.fitted = contents.fitted
    model.passes, model.trained_on = contents.passes, contents.trained_on
    model.rounding = contents.rounding
    model.history = _history_of(contents)
    return model
