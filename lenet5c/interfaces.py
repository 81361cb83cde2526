"""What the rooms know of a model, which they are given and do not import."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.text import counted
from lenet5c._support.threads import Gate
from lenet5c.bits import Rounding
from lenet5c.data.augment import Augment
from lenet5c.data.images import InputStage
from lenet5c.display import VERMILLION, Cell, Displayed, Field, Table, cut
from lenet5c.layers import Layer
from lenet5c.layers.base import Shape

if TYPE_CHECKING:
    from lenet5c.embed import Predictor

__all__ = [
    "AnyModel",
    "Evaluation",
    "Lists",
    "Network",
    "Trainable",
    "evaluation_of",
    "most_confused",
]

Vector = NDArray[np.float32]


MAX_CLASSES_SHOWN = 20  # in a confusion matrix
MAX_CONFUSIONS = 20  # shown in place of a larger one


class _Figures(NamedTuple):
    loss: float
    accuracy: float
    confusion: NDArray[np.int64]


class Evaluation(Displayed, _Figures):
    """What `Model.evaluate` finds: unpacks into loss, accuracy and confusion.

    Notebooks show the confusion matrix, or of many classes the most frequent mistakes.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats.
    accuracy : float
        Share of images whose label has the largest probability.
    confusion : (classes, classes) int64
        How many images of class `row` were predicted to be of class `column`.
    classes : sequence
        Their names; numbers if they are not given.

    Examples
    --------
    >>> loss, accuracy, confusion = model.evaluate(images[:100], labels[:100])
    >>> accuracy, int(confusion.trace())
    (1.0, 100)
    >>> lenet5c.Evaluation(0.2, 0.9, np.array([[4, 1], [0, 5]]))
    <Evaluation: 90.00% of 10 images right, loss 0.2000, 2 classes>
    """

    _classes: Sequence[Any] | NDArray[Any] | None = None

    def __new__(
        cls,
        loss: float,
        accuracy: float,
        confusion: NDArray[np.int64],
        classes: Sequence[Any] | NDArray[Any] | None = None,
    ) -> "Evaluation":
        found = super().__new__(cls, loss, accuracy, confusion)
        found._classes = classes
        return found

    @property
    def classes(self) -> Sequence[Any] | NDArray[Any]:
        """The names of the classes."""
        return range(len(self.confusion)) if self._classes is None else self._classes

    def __repr__(self) -> str:
        return f"<Evaluation: {self._said()}, {counted(len(self.confusion), 'class')}>"

    def _said(self) -> str:
        images = int(self.confusion.sum())
        return f"{self.accuracy:.2%} of {images:,} images right, loss {self.loss:.4f}"

    def _table(self) -> Table:
        counts, names = self.confusion, [str(name) for name in self.classes]
        if len(counts) > MAX_CLASSES_SHOWN:
            return self._mistakes(names)
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        rows: list[list[Field]] = []
        for k, name in enumerate(names):
            fields = [
                Cell(
                    f"{count:,}" if count else "",
                    # Most shares are near 0 or 1: the power brings small ones apart.
                    float(share) ** 0.4,
                    *([] if column == k else [VERMILLION]),
                )
                for column, (count, share) in enumerate(
                    zip(counts[k], shares[k], strict=True)
                )
            ]
            right = f"{shares[k, k]:.1%}" if counts[k].any() else ""
            rows.append([name, *fields, right])
        title = f"Evaluation: {self._said()}"
        return Table(title, ["is \\ taken for", *map(cut, names), "right"], rows)

    def _mistakes(self, names: list[str]) -> Table:
        """The most frequent of them: a matrix of all classes cannot be read."""
        rows: list[list[Field]] = []
        for true, taken, count, share in most_confused(self.confusion, MAX_CONFUSIONS):
            cell = Cell(f"{count:,}", share, VERMILLION)
            rows.append([names[true], names[taken], cell, f"{share:.1%}"])
        title = f"Evaluation: {self._said()}; the most frequent mistakes of "
        title += f"{len(names)} classes"
        columns = ["is", "taken for", "images", "of the class"]
        return Table(title, columns, rows, texts=2)


def most_confused(
    confusion: NDArray[np.int64], most: int
) -> list[tuple[int, int, int, float]]:
    """The most frequent mistakes: true class, predicted class, how many images, and
    which share of the true class they are."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [
        (int(true), int(taken), int(count), float(count / confusion[true].sum()))
        for true, taken in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if (count := wrong[true, taken])
    ]


def evaluation_of(
    logits_of: Callable[[NDArray[Any]], Vector],
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    indices: NDArray[np.intp] | None,
    classes: NDArray[Any],
    step: int,
) -> Evaluation:
    """What the logits of these images say, `step` of them at a time.

    Parameters
    ----------
    logits_of : function
        Of some of the images: (n, classes) float32.
    pixels : (N, C, H, W) array
    codes : (N,) int32
        Class numbers of all N images.
    indices : intp array or None
        None stands for all N images.
    classes : (classes,) array
    step : int
    """
    count = len(classes)
    total = len(pixels) if indices is None else len(indices)
    loss_sum = 0.0
    confusion = np.zeros(count * count, np.int64)
    for start in range(0, total, step):
        part = slice(start, start + step)
        at = part if indices is None else indices[part]
        labels = codes[at].astype(np.int64)
        logits = logits_of(pixels[at]).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(logits).sum(axis=1))
        loss_sum += float((log_sums - logits[np.arange(len(labels)), labels]).sum())
        pairs = labels * count + logits.argmax(axis=1)
        confusion += np.bincount(pairs, minlength=count * count)
    square = confusion.reshape(count, count)
    accuracy = int(square.trace()) / total
    return Evaluation(loss_sum / total, accuracy, square, classes)


class Lists(Protocol):
    """A `History`."""

    def epochs(self) -> list[int]: ...
    def to_dict(self) -> dict[str, list[float]]: ...


class AnyModel(Protocol):
    """A model, in floats or in integers, for those who use, test or show it: see
    `Model` and `QuantizedModel`."""

    input_shape: Shape
    classes: NDArray[Any]
    stage: InputStage
    source: tuple[int, int]
    trained_on: str | None
    passes: int

    @property
    def dtype(self) -> str: ...
    @property
    def class_count(self) -> int: ...
    @property
    def multiply_adds(self) -> int: ...
    @property
    def parameter_count(self) -> int: ...
    @property
    def history(self) -> Lists: ...
    @property
    def trained_on_floats(self) -> bool: ...
    @property
    def first_weights(self) -> tuple[str, NDArray[Any]] | None: ...
    @property
    def map_shapes(self) -> dict[str, Shape]: ...
    def summary(self) -> str: ...
    def forward(self, images: ArrayLike, *, threads: int | None = None) -> Vector: ...
    def activations(self, images: ArrayLike, layer: str) -> Vector: ...
    def predict(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> NDArray[Any]: ...
    def predict_proba(
        self, images: ArrayLike, *, threads: int | None = None
    ) -> Vector: ...
    def evaluate(
        self, images: ArrayLike, labels: ArrayLike, *, threads: int | None = None
    ) -> Evaluation: ...
    def predictor(self) -> "Predictor": ...


class Network(AnyModel, Protocol):
    """A model in floats, for those who export it as well: see `Model`."""

    layers: tuple[Layer, ...]
    shapes: list[Shape]
    fitted: bool
    rounding: Rounding | None
    parameter_vector: Vector
    state_vector: Vector

    @property
    def parameters(self) -> Mapping[str, Vector]: ...
    @property
    def buffers(self) -> Mapping[str, Vector]: ...
    def folded(self) -> "Network": ...


class Trainable(Network, Protocol):
    """A model for `fit`."""

    gate: Gate

    @property
    def least_batch(self) -> int: ...
    def remember(self, history: Any, start: int) -> None: ...
    def set_input(
        self, stage: InputStage, source: tuple[int, int], classes: NDArray[Any]
    ) -> None: ...
    def evaluate_at(
        self,
        pixels: NDArray[Any],
        codes: NDArray[np.int32],
        indices: NDArray[np.intp] | None,
        threads: int,
    ) -> Evaluation: ...
    def loss_of_batch(
        self,
        pixels: NDArray[Any],
        indices: NDArray[np.intp],
        codes: NDArray[np.int32],
        gradient: Vector,
        threads: int,
        *,
        loss: Any = None,
        weights: Vector | None = None,
        smoothing: float = 0.0,
        mean_over: int = 0,
        add: bool = False,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
        measure: bool = False,
        ranks: Any = None,
    ) -> tuple[float, int]: ...
    def train_batches(
        self,
        pixels: NDArray[Any],
        indices: NDArray[np.intp],
        batch_size: int,
        codes: NDArray[np.int32],
        gradient: Vector,
        optimizer: Any,
        rates: Sequence[float],
        threads: int,
        *,
        average: Vector | None = None,
        decays: Sequence[float] = (),
        clip_norm: float | None = None,
        loss: Any = None,
        weights: Vector | None = None,
        smoothing: float = 0.0,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> list[tuple[float, int]]: ...
