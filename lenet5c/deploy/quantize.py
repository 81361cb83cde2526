"""Networks in 8-bit integers, from trained ones: docs/int8.md defines every bit.

N      images
C F    channels of a map, of the map after it
H W    rows and columns of a map
KH KW  rows and columns of a kernel
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import truth
from lenet5c._support.habits import explained, no_attribute
from lenet5c._support.threads import resolve_threads, sharing
from lenet5c.bits import MAX_INT8, Bits, Rounding
from lenet5c.core.places import place
from lenet5c.data.images import as_images, encode_labels
from lenet5c.deploy import int8_file, page
from lenet5c.deploy.c_export import export_int8
from lenet5c.deploy.int8 import BY_TABLE, TANH_TABLE, QuantizedLayer, run
from lenet5c.deploy.packing import bytes_of_filter
from lenet5c.deploy.steps import Step, steps_of
from lenet5c.deploy.units import layer_of, measured, pixel_table
from lenet5c.display import Displayed, Table, drawing, size_of, text_of
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import Evaluation, Lists, Network, evaluation_of
from lenet5c.layers.base import Shape

if TYPE_CHECKING:
    from lenet5c.embed import Predictor

__all__ = [
    "LayerError",
    "QuantizationReport",
    "QuantizedModel",
]

IMAGES_OF_ONE_THREAD = 64
NUMBERS_AT_ONCE = 1 << 20  # of the largest matrix that is made of the images
IMAGES_AT_ONCE = 4096  # whose logits are in memory
FLOAT32 = np.finfo(np.float32)
UNITS = float(FLOAT32.tiny), float(FLOAT32.max)  # the least and the largest one


class LayerError(NamedTuple):
    """How far a layer's output is from that of the float network.

    Attributes
    ----------
    name : str
    signal_to_noise : float
        Mean square of the float output over the mean square of the error, in dB.

    Examples
    --------
    >>> first = model.quantize(images[:200]).report(*data.test).layers[0]
    >>> first.name, first.signal_to_noise > 30
    ('C1', True)
    """

    name: str
    signal_to_noise: float


@dataclass(frozen=True, repr=False)
class QuantizationReport(Displayed):
    """What quantisation costs, on images and their labels.

    Attributes
    ----------
    images : int
    float_accuracy, accuracy : float
        Before and after.
    agreement : float
        Share of images that both put in the same class.
    layers : list of LayerError
    weight_bytes, activation_bytes : int

    Examples
    --------
    >>> report = model.quantize(images[:200]).report(*data.test)
    >>> report.images, report.agreement > 0.98, report.weight_bytes
    (360, True, 64374)
    >>> print(report)
    accuracy ...% in float32, ...% in int8, on 360 images
    agreement ...
    """

    images: int
    float_accuracy: float
    accuracy: float
    agreement: float
    layers: list[LayerError]
    weight_bytes: int
    activation_bytes: int

    def __repr__(self) -> str:
        return (
            f"<QuantizationReport: {self.float_accuracy:.2%} in float32, "
            f"{self.accuracy:.2%} in int8, on {self.images:,} images>"
        )

    def _table(self) -> Table:
        rows = [
            ["accuracy in float32", f"{self.float_accuracy:.2%}"],
            ["accuracy in int8", f"{self.accuracy:.2%}"],
            ["images in the same class", f"{self.agreement:.2%}"],
            ["bytes of weights", f"{self.weight_bytes:,}"],
            ["bytes of activations", f"{self.activation_bytes:,}"],
        ]
        for name, noise in self.layers:
            rows.append([f"signal to noise of {name}", f"{noise:.1f} dB"])
        return Table(f"QuantizationReport on {self.images:,} images", ["", ""], rows)

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        return "\n".join(
            [
                f"accuracy    {self.float_accuracy:.2%} in float32, "
                f"{self.accuracy:.2%} in int8, on {self.images:,} images",
                f"agreement   {self.agreement:.2%} of the images are in the same class",
                f"weights     {self.weight_bytes:,} bytes",
                f"activations {self.activation_bytes:,} bytes",
                "signal to noise of each layer",
                *(
                    f"  {layer.name:{width}}  {layer.signal_to_noise:5.1f} dB"
                    for layer in self.layers
                ),
            ]
        )


@explained
class QuantizedModel(Displayed):
    """A network in 8-bit integers: what `Model.quantize` returns.

    It predicts, is tested and shown as a `Model` is. Images are uint8, of the shapes
    that `Model.predict` takes. Nothing is computed in floating point between a pixel
    and a score, and results are the same bits on every machine (docs/int8.md).

    Parameters
    ----------
    model : Model
    calibration_images : array
        As in `Model.quantize`.
    bits : Bits
    rounding : Rounding or None
        What the model was trained for, if it was: the units of its maps.

    Attributes
    ----------
    bits : Bits
        How few of them weights have.
    layers : list of QuantizedLayer
    table : (256,) int8
        What a pixel becomes.
    background : int
        What surrounds an image that is smaller than the network's input.
    input_scale, scale : float
        What one unit of the input, and of a score, stands for.
    input_shape : (C, H, W)
    source : (int, int)
        Rows and columns of the training images.
    classes : (classes,) array
    stage : InputStage
        Of the model that it was made from.
    passes : int
        How many epochs that was trained.
    history : History
        What its training has found, as of that model.
    trained_on : str or None
        The name of the training data, as of that model.

    Examples
    --------
    >>> small = model.quantize(images[:200])
    >>> small
    <QuantizedModel of 7 steps, 64,374 bytes, 10 classes>
    """

    _predictor: "Predictor | None" = None

    def __init__(
        self,
        model: Network,
        calibration_images: ArrayLike,
        bits: Bits,
        rounding: Rounding | None = None,
    ) -> None:
        if not model.stage.takes_bytes:
            raise ValueError(
                "model: expected one that was trained on uint8 images, or on floats "
                "from 0 to 1, got one that was trained on other floats"
            )
        if not np.isfinite(model.parameter_vector).all():
            raise ValueError("model: expected finite parameters, got a NaN or infinity")
        pixels = _as_bytes("calibration_images", calibration_images, model.input_shape)
        model = model.folded()  # a copy, which further training does not change
        self.input_shape = model.input_shape
        self.source = model.source
        self.classes = model.classes.copy()
        self.stage, self.trained_on = model.stage, model.trained_on
        self.passes, self.history = model.passes, model.history
        self._float: Network | None = model
        self.bits = bits
        self.input_scale, table = pixel_table(model.stage)
        self.table, self.background = table[:256], int(table[256])
        self.layers: list[QuantizedLayer] = []
        scales = [self.input_scale]  # by map
        steps = steps_of(model.layers, model.input_shape)
        values = {**model.parameters, **model.buffers}
        known: dict[str, float] = {}
        if rounding is not None:
            known = _units_by_step(steps, rounding)

        def unit_of(step: Step) -> float:
            if known:
                return known[step.last]
            return _largest_activation(model, step, pixels) / MAX_INT8

        for step in steps:
            given = [scales[source] for source in step.sources]
            layer = layer_of(values, step, given, step is steps[-1], bits, unit_of)
            if not UNITS[0] <= layer.scale <= UNITS[1]:
                raise ValueError(
                    f"model: expected units that float32 holds, got {layer.scale:.3g} "
                    f"for the output of {step.name}"
                )
            self.layers.append(layer)
            scales.append(layer.scale)
        self.scale = scales[-1]

    @classmethod
    def _of_file(cls, contents: int8_file.Contents, history: Lists) -> "QuantizedModel":
        """What a file holds, with its history."""
        self = cls.__new__(cls)
        self.history = history
        self.input_shape, self.source = contents.input_shape, contents.source
        self.classes, self.stage = contents.classes, contents.stage
        self.passes, self.trained_on = contents.passes, contents.trained_on
        self._float = None
        self.table, self.background = contents.table[:256], int(contents.table[256])
        self.layers = list(contents.layers)
        self.scale = self.layers[-1].scale
        self.input_scale = pixel_table(self.stage)[0]
        self.bits = Bits() if contents.rounding is None else contents.rounding.bits
        return self

    if not TYPE_CHECKING:  # which shall find attributes that are none

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute(f"{type(self).__name__!r} object", name, dir(self))

    @property
    def dtype(self) -> str:
        """What it computes in: "int8"."""
        return "int8"

    @property
    def class_count(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def parameter_count(self) -> int:
        """How many weights and biases there are."""
        return sum(
            array.size
            for layer in self.layers
            for array in (layer.weight, layer.bias)
            if array is not None
        )

    @property
    def multiply_adds(self) -> int:
        """Those of one image's weights, as of `Model`."""
        return sum(map(_multiply_adds, self._steps()))

    @property
    def trained_on_floats(self) -> bool:
        """Whether the images that the model was trained on were floats, which bytes
        stand for."""
        stage = self.stage
        unchanged = (stage.mean, stage.deviation) == (0, 1)
        return stage.of_floats or (stage.pixels is None and unchanged)

    @property
    def first_weights(self) -> tuple[str, NDArray[np.int8]] | None:
        """The name of the first convolution or dense layer, and its weights,
        (F, C, KH, KW); None if there is neither."""
        for layer in self.layers:
            if layer.step.kind == "conv" and layer.weight is not None:
                return layer.step.name, layer.weight
        return None

    @property
    def map_shapes(self) -> dict[str, Shape]:
        """The shapes of maps, (C, H, W), by the names of the convolutions and poolings
        that make them; of those larger than one pixel."""
        return {
            step.name: step.output_shape
            for step in self._steps()
            if step.kind in ("conv", "avg_pool", "max_pool")
            and math.prod(step.output_shape[1:]) > 1
        }

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, which are packed if they have few bits, biases, multipliers
        and tables."""
        total = self.table.nbytes + (TANH_TABLE.nbytes if self.has_tanh else 0)
        for layer in self.layers:
            for array in (layer.bias, layer.multiplier):
                total += 0 if array is None else array.nbytes
            if layer.weight is not None:
                each = bytes_of_filter(layer.weight[0].size, self.bits)
                total += len(layer.weight) * each
        return total

    @property
    def activation_bytes(self) -> int:
        """Bytes of the maps of one image, each where no map lies that is needed at the
        same time."""
        shapes = [self.input_shape, *(step.output_shape for step in self._steps())]
        last = {s: n for n, step in enumerate(self._steps()) for s in step.sources}
        return place(
            [(at - 1, last.get(at, at), math.prod(s)) for at, s in enumerate(shapes)]
        )[1]

    @property
    def has_tanh(self) -> bool:
        """Whether the table of tanh is needed."""
        return any(
            step.kind in BY_TABLE or step.activation in BY_TABLE
            for step in self._steps()
        )

    @explained
    def scores(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.int32]:
        """(N, classes) int32: logits in units of `scale`.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        threads : int or None
            As in `Model.predict`.

        Returns
        -------
        (N, classes) int32

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit.

        Examples
        --------
        >>> small = model.quantize(images[:200])
        >>> logits = small.scores(images[:50]) * small.scale
        >>> bool(abs(logits - model.forward(images[:50])).max() < 1)
        True
        """
        pixels = _as_bytes("images", images, self.input_shape)
        scores = np.empty((len(pixels), len(self.classes)), np.int32)
        self._run(pixels, threads, None, scores)
        return scores

    @explained
    def forward(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Logits, (N, classes) float32: the scores times `scale`.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        threads : int or None
            As in `Model.predict`.

        Returns
        -------
        (N, classes) float32

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit.

        Examples
        --------
        >>> logits = model.quantize(images[:200]).forward(images[:50])
        >>> bool(abs(logits - model.forward(images[:50])).max() < 1)
        True
        """
        return (self.scores(images, threads=threads) * self.scale).astype(np.float32)

    def __call__(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """What `forward` returns."""
        return self.forward(images, threads=threads)

    @explained
    def predict(self, images: ArrayLike, *, threads: int | None = None) -> NDArray[Any]:
        """The label of the largest score of each image, (N,); the first one, if several
        are the largest.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        threads : int or None
            As in `Model.predict`.

        Returns
        -------
        (N,) array

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit.

        Examples
        --------
        >>> model.quantize(images[:200]).predict(images[:5]).tolist()
        [1, 3, 5, 6, 7]
        """
        scores = self.scores(images, threads=threads)
        labels: NDArray[Any] = self.classes[scores.argmax(axis=1)]
        return labels

    @explained
    def predict_proba(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[np.float32]:
        """Probabilities, (N, classes) float32: the softmax of the scores times `scale`.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        threads : int or None
            As in `Model.predict`.

        Returns
        -------
        (N, classes) float32

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit.

        Examples
        --------
        >>> model.quantize(images[:200]).predict_proba(images[:5]).argmax(axis=1)
        array([1, 3, 5, 6, 7])
        """
        pixels = _as_bytes("images", images, self.input_shape)
        found = np.empty((len(pixels), len(self.classes)), np.float32)
        self._run(pixels, threads, found, None)
        return found

    @explained
    def evaluate(
        self, images: ArrayLike, labels: ArrayLike, *, threads: int | None = None
    ) -> Evaluation:
        """Loss, accuracy and confusion matrix on images and their labels: see
        `Model.evaluate`.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        labels : array
            (N,) of the model's classes, or (N, classes) one-hot rows.
        threads : int or None
            As in `Model.predict`.

        Returns
        -------
        Evaluation
            The loss is that of the scores times `scale`.

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit, or a label is none of the
            classes.

        Examples
        --------
        >>> found = model.quantize(images[:200]).evaluate(*data.test)
        >>> abs(found.accuracy - model.evaluate(*data.test).accuracy) < 0.02
        True
        """
        pixels = _as_bytes("images", images, self.input_shape)
        _, codes = encode_labels(labels, len(pixels), self.class_count, self.classes)
        return evaluation_of(
            lambda part: self.forward(part, threads=threads),
            *(pixels, codes, None, self.classes, IMAGES_AT_ONCE),
        )

    @explained
    def activations(self, images: ArrayLike, layer: str) -> NDArray[np.float32]:
        """What the step of that name makes of the images, in what its integers stand
        for.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        layer : str
            The name of a step, as `summary` lists them, or of the activation that
            belongs to it.

        Returns
        -------
        (N, C, H, W) float32

        Raises
        ------
        TypeError, ValueError
            If there is no such step, or the images are not uint8 or do not fit.

        Examples
        --------
        >>> small = model.quantize(images[:200])
        >>> maps = small.activations(images[:20], "C1")
        >>> maps.shape, bool(abs(maps - model.activations(images[:20], "C1")).max() < 1)
        ((20, 6, 28, 28), True)
        """
        names = [(one.step.name, one.step.last) for one in self.layers]
        at = next((n for n, both in enumerate(names) if layer in both), None)
        if at is None:
            known = ", ".join(name for name, _ in names)
            raise ValueError(f"layer: expected one of {known}, got {layer!r}")
        pixels = _as_bytes("images", images, self.input_shape)
        found = self.layers[at]
        y = np.empty((len(pixels), *found.step.output_shape), np.float32)
        for part in self._parts(len(pixels)):
            maps = next(islice(self._maps(pixels[part]), at, None))
            y[part] = maps * found.scale
        return y

    @explained
    def summary(self) -> str:
        """A table of the steps: output shape, weights, and what one unit stands for.

        Returns
        -------
        str

        Examples
        --------
        >>> print(model.quantize(images[:200]).summary())
        step    kind        output    int8 weights  unit of the output
        ------  ----------  --------  ------------  ------------------
        C1      conv, tanh  6@28x28            150             0.00787
        S2      avg_pool    6@14x14                            0.00787
        ...
        total                               61,470
        """
        return text_of(self._table())

    @explained
    def predictor(self) -> "Predictor":
        """For one image a call, and for native programs: see `Model.predictor`.

        Returns
        -------
        lenet5c.embed.Predictor

        Examples
        --------
        >>> classify = model.quantize(images[:200]).predictor()
        >>> classify(images[1])
        3
        """
        from lenet5c.embed import Predictor

        count = np.arange(len(self.classes))
        content = b"".join(int8_file.parts(self, count))
        return Predictor(content, self.classes.tolist(), self.stage)

    @explained
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to `path`, atomically, for `lenet5c.load` and the C runtime.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> small = model.quantize(images[:200])
        >>> small.save("digits_int8.lenet5c")
        >>> lenet5c.load("digits_int8.lenet5c")
        <QuantizedModel of 7 steps, 64,374 bytes, 10 classes>
        """
        write_atomically(path, int8_file.parts(self))

    @explained
    def report(self, images: ArrayLike, labels: ArrayLike) -> QuantizationReport:
        """What is lost against the float model, on these images.

        Parameters
        ----------
        images : array
            uint8, as `Model.predict` takes them.
        labels : (N,) array

        Returns
        -------
        QuantizationReport

        Raises
        ------
        TypeError, ValueError
            If the images are not uint8 or do not fit, a label is of no class, or the
            network was read from a file, which has no float model.

        Examples
        --------
        >>> report = model.quantize(images[:200]).report(*data.test)
        >>> abs(report.accuracy - report.float_accuracy) < 0.02
        True
        """
        floats = self._float
        if floats is None:
            raise ValueError(
                "report: expected a network with the float one that it was made from, "
                "got one that was read from a file, which has integers alone"
            )
        pixels = _as_bytes("images", images, self.input_shape)
        _, codes = encode_labels(labels, len(pixels), len(self.classes), self.classes)
        layers = [layer for layer in self.layers if layer.step.kind != "flatten"]
        squares = np.zeros((2, len(layers)))
        both = np.empty((2, len(pixels)), np.intp)
        for part in self._parts(len(pixels)):
            maps = zip(self.layers, self._maps(pixels[part]), strict=True)
            kept = [(layer, y) for layer, y in maps if layer.step.kind != "flatten"]
            for column, (layer, y) in enumerate(kept):
                wanted = floats.activations(pixels[part], layer.step.last)
                error = y.reshape(wanted.shape) * layer.scale - wanted
                squares[:, column] += np.square(wanted).sum(), np.square(error).sum()
            both[0, part] = floats.forward(pixels[part]).argmax(axis=1)
            both[1, part] = y.reshape(len(y), -1).argmax(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            decibels = 10 * np.log10(squares[0] / squares[1])
        hits = (both == codes).mean(axis=1)
        return QuantizationReport(
            len(pixels),
            float(hits[0]),
            float(hits[1]),
            float((both[0] == both[1]).mean()),
            [
                LayerError(layer.step.name, float(value))
                for layer, value in zip(layers, decibels, strict=True)
            ],
            self.weight_bytes,
            self.activation_bytes,
        )

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
            If `name` is none.
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> model.quantize(images[:200]).export_c("digits.h", name="digits")
        >>> with open("digits.h") as file:
        ...     "#define DIGITS_IMPLEMENTATION" in file.read()  # its head says how
        True
        """
        export_int8(self, path, name, truth("channels_last", channels_last))

    @explained
    def export_page(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        examples: page.Examples | None = None,
    ) -> None:
        """Write the network as one HTML page to draw on: see `Model.export_page`.

        The page computes the same integers.

        Parameters
        ----------
        path : str or path-like
        title : str or None
            The page's heading.
        examples : (images, labels) or None
            uint8 images; the hardest of them are on the page to start from.

        Raises
        ------
        TypeError, ValueError
            If title or examples do not fit.
        OSError
            If the file cannot be written; an old one is left as it was.

        Examples
        --------
        >>> import lenet5c
        >>> images, _ = lenet5c.datasets.digits().train
        >>> quantized = lenet5c.lenet5().quantize(images[:100])
        >>> quantized.export_page("digits_int8.html", title="Digits in integers")
        """
        page.export_int8(self, path, title, examples)

    def __repr__(self) -> str:
        return (
            f"<QuantizedModel of {len(self.layers)} steps, "
            f"{self.weight_bytes:,} bytes, {len(self.classes)} classes>"
        )

    def _table(self) -> Table:
        rows = []
        for layer in self.layers:
            step, weight = layer.step, layer.weight
            rows.append(
                [
                    step.name,
                    step.kind + f", {step.activation}" * bool(step.activation),
                    size_of(step.output_shape),
                    "" if weight is None else f"{weight.size:,}",
                    f"{layer.scale:.3g}",
                ]
            )
        title = f"QuantizedModel: {size_of(self.input_shape)} to {len(self.classes)} "
        title += f"classes in {self.weight_bytes:,} bytes"
        columns = ["step", "kind", "output", "int8 weights", "unit of the output"]
        weights = sum(
            layer.weight.size for layer in self.layers if layer.weight is not None
        )
        total = ["total", "", "", f"{weights:,}", ""]
        return Table(title, columns, rows, total, texts=3)

    def _drawn(self) -> str:
        if self._float is None:  # the file has steps, which are no layers
            return ""
        return drawing(self._float.layers, self.input_shape)

    def _run(
        self,
        pixels: NDArray[np.uint8],
        threads: int | None,
        probabilities: NDArray[np.float32] | None,
        scores: NDArray[np.int32] | None,
    ) -> None:
        """By the C runtime, which has these integers as they do not change."""
        if self._predictor is None:
            self._predictor = self.predictor()
        pixels = np.ascontiguousarray(pixels)
        with sharing():
            if threads is None and len(pixels) <= IMAGES_OF_ONE_THREAD:
                threads = 1
            threads = resolve_threads(threads)
            self._predictor.predict_many(
                pixels, None, probabilities, threads, scores=scores
            )

    def _steps(self) -> list[Step]:
        return [layer.step for layer in self.layers]

    def _parts(self, count: int) -> Iterator[slice]:
        """Images some at a time, so that no matrix is too large."""
        most = max(
            math.prod(step.output_shape[1:])
            * step.input_shape[0]
            * math.prod(step.kernel)
            for step in self._steps()
        )
        at_once = max(1, NUMBERS_AT_ONCE // most)
        for start in range(0, count, at_once):
            yield slice(start, start + at_once)

    def _maps(self, pixels: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """The output of each layer, (N, C, H, W): int8, the last one int32."""
        x = np.full((len(pixels), *self.input_shape), self.background, np.int8)
        height, width = pixels.shape[2:]
        top, left = (
            (self.input_shape[1] - height) // 2,
            (self.input_shape[2] - width) // 2,
        )
        x[:, :, top : top + height, left : left + width] = self.table[pixels]
        maps: list[NDArray[Any]] = [x]
        for layer in self.layers:
            given = [maps[source] for source in layer.step.sources]
            maps.append(run(layer, given, layer is self.layers[-1]))
            yield maps[-1]


def _multiply_adds(step: Step) -> int:
    if step.kind == "conv":
        window = step.input_shape[0] * math.prod(step.kernel)
        return window * math.prod(step.output_shape)
    return math.prod(step.output_shape) if step.kind == "subsample" else 0


def _as_bytes(argument: str, images: ArrayLike, shape: Shape) -> NDArray[np.uint8]:
    pixels = as_images(images, shape, argument)
    if pixels.dtype != np.uint8:
        raise TypeError(f"{argument}: expected uint8 pixels, got {pixels.dtype}")
    return pixels


def _units_by_step(steps: Sequence[Step], rounding: Rounding) -> dict[str, float]:
    names = measured(steps)
    if len(names) != len(rounding.units):
        raise ValueError(
            f"model: expected {len(names)} units in its rounding, those of "
            f"{', '.join(names) or 'no step'}, got {len(rounding.units)}"
        )
    return dict(zip(names, rounding.units, strict=True))


def _largest_activation(model: Network, step: Step, pixels: NDArray[np.uint8]) -> float:
    at_once = max(1, NUMBERS_AT_ONCE // math.prod(step.output_shape))
    return max(
        float(
            np.abs(model.activations(pixels[start : start + at_once], step.last)).max()
        )
        for start in range(0, len(pixels), at_once)
    )
