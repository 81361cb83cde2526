"""Flattening."""

import math
from dataclasses import dataclass
from typing import ClassVar

from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape

__all__ = ["Flatten"]


@explained
@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """(C, H, W) to (C H W, 1, 1), row-major. `Dense` flattens by itself as well.

    Parameters
    ----------
    name : str or None

    Examples
    --------
    >>> lenet5c.Flatten().output_shape((16, 5, 5))
    (400, 1, 1)
    """

    kind: ClassVar[str] = "flatten"
    name: str | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape), 1, 1)
