"""Normalisation."""

from dataclasses import dataclass
from typing import ClassVar

from lenet5c._support.checks import number
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape

__all__ = ["BatchNorm2d"]


@explained
@dataclass(frozen=True, kw_only=True)
class BatchNorm2d(Layer):
    """Batch normalisation of each channel (Ioffe and Szegedy 2015, algorithm 1).

    y = weight (x - mean) / sqrt(variance + eps) + bias. In training, mean and variance
    (of population, not sample) are those of the channel over the batch, and the running
    ones go towards them: running += momentum (batch - running), there with the sample's
    variance. In prediction they are the running ones, and the layer is folded into a
    convolution or dense layer right before it.

    Parameters
    ----------
    momentum : float
        0 <= momentum < 1.
    eps : float
        0 < eps < 1.
    name : str or None

    Examples
    --------
    >>> layer = lenet5c.BatchNorm2d(momentum=0.2)
    >>> layer.parameter_shapes((6, 28, 28))
    {'weight': (6,), 'bias': (6,)}
    """

    kind: ClassVar[str] = "batch_norm2d"
    takes_activation: ClassVar[bool] = True
    momentum: float = 0.1
    eps: float = 1e-5
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "momentum", number("momentum", self.momentum, 0, 1))
        object.__setattr__(self, "eps", number("eps", self.eps, 0, 1))
        if self.eps == 0:
            raise ValueError("eps: expected 0 < eps < 1, got 0")

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"weight": (shape[0],), "bias": (shape[0],)}

    def buffer_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"running_mean": (shape[0],), "running_var": (shape[0],)}
