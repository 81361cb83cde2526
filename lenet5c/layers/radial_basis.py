"""Radial basis functions."""

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from lenet5c._support.checks import as_array, whole
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape, Window

__all__ = ["RadialBasis"]


@explained
@dataclass(frozen=True)
class RadialBasis(Layer):
    """How far the flattened input is from a fixed code for each output:
    y[i] = - sum over j of (x[j] - codes[i, j])^2.

    The outputs of LeNet-5 as it was published (LeCun et al. 1998, "Gradient-based
    learning applied to document recognition", eq. 7), but for the sign: here the
    largest one is the class, and their softmax are the probabilities, as of a network
    that ends with `Dense`. There is nothing to train: the codes are a buffer,
    ``model.buffers["OUTPUT.codes"]``, (outputs, inputs) float32.

    Parameters
    ----------
    outputs : int
    codes : (outputs, inputs) array or None
        What they are when a model is built; a model file has them as they are then.
        None: +1 or -1 at random, equally likely, from the model's seed (section III.C).
        Layers that differ in this alone are equal.
    name : str or None

    Raises
    ------
    TypeError, ValueError
        If the codes are no finite numbers of that shape.

    Examples
    --------
    >>> codes = [[1, 1], [-1, 1], [1, -1]]
    >>> layers = [lenet5c.RadialBasis(3, codes=codes, name="OUTPUT")]
    >>> nearest = lenet5c.Model(layers, input_shape=(2, 1, 1), classes=3)
    >>> nearest.parameter_count, nearest.buffers["OUTPUT.codes"][1].tolist()
    (0, [-1.0, 1.0])
    >>> x = np.array([[-1, 0.5]], np.float32).reshape(1, 2, 1, 1)
    >>> nearest.forward(x).tolist()
    [[-4.25, -0.25, -6.25]]
    """

    kind: ClassVar[str] = "radial_basis"
    outputs: int
    _: KW_ONLY
    codes: ArrayLike | None = field(default=None, repr=False, compare=False)
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "outputs", whole("outputs", self.outputs, 1))
        if self.codes is not None:
            object.__setattr__(self, "codes", _checked(self.codes, self.outputs))

    def window(self, shape: Shape) -> Window:
        return Window(shape[1:])

    def output_shape(self, shape: Shape) -> Shape:
        inputs = math.prod(shape)
        if self.codes is not None and np.shape(self.codes)[1] != inputs:
            raise ValueError(
                f"{self.name or 'RadialBasis'}: codes: expected {inputs} numbers for "
                f"each output, as the input has, got {np.shape(self.codes)[1]}"
            )
        return (self.outputs, 1, 1)

    def buffer_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"codes": (self.outputs, math.prod(shape))}

    def multiply_adds(self, shape: Shape) -> int:
        return self.outputs * math.prod(shape)


def _checked(codes: ArrayLike, outputs: int) -> tuple[tuple[float, ...], ...]:
    """The codes in a form that nobody can change."""
    array = as_array("codes", codes)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"codes: expected numbers, got {array.dtype}")
    if array.ndim != 2 or len(array) != outputs or not array.size:
        raise ValueError(
            f"codes: expected the shape ({outputs}, inputs), got {array.shape}"
        )
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError("codes: expected finite numbers of float32, got others")
    return tuple(map(tuple, rounded.tolist()))
