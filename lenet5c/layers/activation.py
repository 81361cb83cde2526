"""Activations, element by element."""

from dataclasses import dataclass
from typing import ClassVar

from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer

__all__ = ["Activation", "ReLU", "Sigmoid", "Tanh"]


class Activation(Layer):
    """Element by element; part of the layer before it where that takes one."""


@explained
@dataclass(frozen=True, kw_only=True)
class Tanh(Activation):
    """Hyperbolic tangent, element by element."""

    kind: ClassVar[str] = "tanh"
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class Sigmoid(Activation):
    """1 / (1 + exp(-x)), element by element."""

    kind: ClassVar[str] = "sigmoid"
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class ReLU(Activation):
    """max(0, x), element by element."""

    kind: ClassVar[str] = "relu"
    name: str | None = None
