"""Dropout."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from lenet5c._support.checks import number
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer

__all__ = ["Dropout"]


@explained
@dataclass(frozen=True)
class Dropout(Layer):
    """In training, each value is 0 with probability `rate`, and else x / (1 - rate);
    in prediction nothing happens (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        0 <= rate < 1.
    name : str or None

    Examples
    --------
    >>> lenet5c.Dropout(0.5).output_shape((84, 1, 1))
    (84, 1, 1)
    """

    kind: ClassVar[str] = "dropout"
    rate: float
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rate", number("rate", self.rate, 0, 1))
