"""What the rooms know of a model, which they are given and do not import."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.threads import Gate
from lenet5c.data.augment import Augment
from lenet5c.data.images import InputStage
from lenet5c.layers import Layer
from lenet5c.layers.base import Shape

__all__ = ["Evaluation", "Lists", "Network", "Trainable"]

Vector = NDArray[np.float32]


class Evaluation(NamedTuple):
    """What `Model.evaluate` finds.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats.
    accuracy : float
        Share of images whose label has the largest probability.
    confusion : (classes, classes) int64
        How many images of class `row` were predicted to be of class `column`.
    """

    loss: float
    accuracy: float
    confusion: NDArray[np.int64]


class Lists(Protocol):
    """A `History`."""

    def to_dict(self) -> dict[str, list[float]]: ...


class Network(Protocol):
    """A model for those who describe, draw or export it: see `Model`."""

    layers: tuple[Layer, ...]
    input_shape: Shape
    shapes: list[Shape]
    class_count: int
    classes: NDArray[Any]
    stage: InputStage
    source: tuple[int, int]
    fitted: bool
    trained_on: str | None
    passes: int
    multiply_adds: int
    parameter_count: int
    parameter_vector: Vector
    state_vector: Vector

    @property
    def history(self) -> Lists: ...
    @property
    def parameters(self) -> Mapping[str, Vector]: ...
    @property
    def buffers(self) -> Mapping[str, Vector]: ...
    @property
    def trained_on_floats(self) -> bool: ...
    def folded(self) -> "Network": ...
    def summary(self) -> str: ...
    def forward(self, images: ArrayLike, *, threads: int | None = None) -> Vector: ...
    def activations(
        self, images: ArrayLike, layer: str, *, threads: int | None = None
    ) -> Vector: ...
    def evaluate(
        self, images: ArrayLike, labels: ArrayLike, *, threads: int | None = None
    ) -> Evaluation: ...


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
        weights: Vector | None = None,
        smoothing: float = 0.0,
        mean_over: int = 0,
        add: bool = False,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
        measure: bool = False,
    ) -> tuple[float, int]: ...
