"""Activations, element by element."""

from dataclasses import dataclass
from typing import ClassVar

from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer

__all__ = ["ReLU", "Tanh"]


@explained
@dataclass(frozen=True, kw_only=True)
class Tanh(Layer):
    """Hyperbolic tangent, element by element."""

    kind: ClassVar[str] = "tanh"
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class ReLU(Layer):
    """max(0, x), element by element."""

    kind: ClassVar[str] = "relu"
    name: str | None = None
