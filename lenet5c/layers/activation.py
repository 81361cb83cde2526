"""Activations, element by element."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from numpy import float32

from lenet5c._support.checks import number
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer

__all__ = ["Activation", "LeakyReLU", "ReLU", "ScaledTanh", "Sigmoid", "Tanh"]


class Activation(Layer):
    """Element by element; part of the layer before it where that takes one.

    Examples
    --------
    >>> isinstance(lenet5c.Tanh(), lenet5c.layers.Activation)
    True
    """

    joins: ClassVar[bool] = True  # whether it may be such a part


@explained
@dataclass(frozen=True, kw_only=True)
class Tanh(Activation):
    """Hyperbolic tangent, element by element.

    Parameters
    ----------
    name : str or None

    Examples
    --------
    >>> lenet5c.Tanh().output_shape((6, 28, 28))  # as it was
    (6, 28, 28)
    """

    kind: ClassVar[str] = "tanh"
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class ScaledTanh(Activation):
    """1.7159 tanh(2 x / 3), element by element: about 1 at 1, and -1 at -1.

    The squashing function of the first LeNet-5 (LeCun et al. 1998, eq. 6 and appendix
    A). As the targets +-1 lie where it bends most, units that reach them still learn.

    Parameters
    ----------
    name : str or None

    Examples
    --------
    >>> layers = [lenet5c.ScaledTanh(name="A")]
    >>> net = lenet5c.Model(layers, input_shape=(1, 1, 2), classes=2)
    >>> y = net.activations(np.float32([[[-1, 100]]]), "A")
    >>> [round(float(value), 4) for value in y.ravel()]
    [-1.0, 1.7159]
    """

    kind: ClassVar[str] = "scaled_tanh"
    amplitude: ClassVar[float] = 1.7159  # csrc/elementary.h has both for the kernels
    slope: ClassVar[float] = 2 / 3
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class Sigmoid(Activation):
    """1 / (1 + exp(-x)), element by element.

    Parameters
    ----------
    name : str or None

    Examples
    --------
    >>> lenet5c.Sigmoid(name="A1")
    Sigmoid(name='A1')
    """

    kind: ClassVar[str] = "sigmoid"
    name: str | None = None


@explained
@dataclass(frozen=True, kw_only=True)
class ReLU(Activation):
    """max(0, x), element by element.

    Parameters
    ----------
    name : str or None

    Examples
    --------
    >>> layers = [lenet5c.Dense(2), lenet5c.ReLU(), lenet5c.Dense(2)]
    >>> net = lenet5c.Model(layers, input_shape=(1, 1, 2), classes=2)
    >>> bool((net.activations(np.float32([[-1, 1]])[:, None], "relu_1") >= 0).all())
    True
    """

    kind: ClassVar[str] = "relu"
    name: str | None = None


@explained
@dataclass(frozen=True)
class LeakyReLU(Activation):
    """x where x > 0, else slope * x, element by element (Maas et al. 2013).

    Parameters
    ----------
    slope : float
        0 <= slope < 1.
    name : str or None

    Examples
    --------
    >>> lenet5c.LeakyReLU(0.1).slope
    0.1
    >>> lenet5c.LeakyReLU(1)
    Traceback (most recent call last):
    ValueError: slope: expected 0 <= x < 1, got 1
    """

    kind: ClassVar[str] = "leaky_relu"
    joins: ClassVar[bool] = False
    slope: float = 0.01
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        slope = number("slope", self.slope, 0, 1)
        if float32(slope) == 1:
            raise ValueError(f"slope: expected 0 <= x < 1 in float32, got {slope!r}")
        object.__setattr__(self, "slope", slope)
