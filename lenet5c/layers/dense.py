"""The fully connected layer."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from lenet5c._support.checks import whole
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape, Window, check_init

__all__ = ["Dense"]


@explained
@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: y = weight x + bias, over the flattened input.

    Parameters
    ----------
    outputs : int
    init : {"glorot", "he", "lecun", "lecun-1998"} or None
        How the weights start; None chooses by the activation that follows.
    name : str or None

    Examples
    --------
    >>> lenet5c.Dense(10).parameter_shapes((16, 5, 5))
    {'weight': (10, 400), 'bias': (10,)}
    """

    kind: ClassVar[str] = "dense"
    takes_activation: ClassVar[bool] = True
    outputs: int
    _: KW_ONLY
    init: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "outputs", whole("outputs", self.outputs, 1))
        check_init(self.init)

    def window(self, shape: Shape) -> Window:
        return Window(shape[1:])

    def output_shape(self, shape: Shape) -> Shape:
        return (self.outputs, 1, 1)

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.outputs, math.prod(shape)), "bias": (self.outputs,)}

    def multiply_adds(self, shape: Shape) -> int:
        return self.outputs * math.prod(shape)
