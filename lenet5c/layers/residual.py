"""Branches."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape

__all__ = ["Residual"]


@explained
@dataclass(frozen=True)
class Residual(Layer):
    """The sum of two branches: y = layers(x) + shortcut(x) (He et al. 2016).

    Parameters
    ----------
    layers : sequence of Layer
    shortcut : sequence of Layer
        None of them is the identity. Both branches have outputs of one shape.
    name : str or None

    Examples
    --------
    >>> block = lenet5c.Residual([lenet5c.Conv2d(6, 3, padding=1), lenet5c.ReLU()])
    >>> block.output_shape((6, 14, 14))
    (6, 14, 14)
    >>> block.output_shape((3, 14, 14))
    Traceback (most recent call last):
    ValueError: Residual: expected branches with outputs of one shape, got (6, 14, 14)
    and (3, 14, 14)
    """

    kind: ClassVar[str] = "residual"
    takes_activation: ClassVar[bool] = True
    layers: Sequence[Layer]
    shortcut: Sequence[Layer] = ()
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("layers", "shortcut"):
            branch = getattr(self, argument)
            if not isinstance(branch, (tuple, list)):
                raise TypeError(
                    f"{argument}: expected a sequence of layers, got {branch!r}"
                )
            for layer in branch:
                if not isinstance(layer, Layer):
                    raise TypeError(f"{argument}: expected layers, got {layer!r}")
            object.__setattr__(self, argument, tuple(branch))
        if not self.layers:
            raise ValueError("layers: expected at least one, got none")

    def output_shape(self, shape: Shape) -> Shape:
        shapes = []
        for branch in (self.layers, self.shortcut):
            shapes.append(shape)
            for layer in branch:
                shapes[-1] = layer.output_shape(shapes[-1])
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{self.name or 'Residual'}: expected branches with outputs of one "
                f"shape, got {shapes[0]} and {shapes[1]}"
            )
        return shapes[0]
