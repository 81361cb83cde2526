"""Pooling."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from lenet5c._support.checks import both
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape, Window, padding_of

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d", "Subsampling2d"]


class _Pool2d(Layer):
    kernel_size: int
    stride: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        size = both("kernel_size", self.kernel_size, 1)
        stride = size if self.stride is None else both("stride", self.stride, 1)
        object.__setattr__(self, "kernel_size", size)
        object.__setattr__(self, "stride", stride)

    def window(self, shape: Shape) -> Window:
        assert self.stride is not None
        square = self.kernel_size, self.kernel_size
        return Window(square, self.stride, getattr(self, "padding", 0))

    def _pooled(self, shape: Shape, padding: int) -> Shape:
        channels, height, width = shape
        height, width = height + 2 * padding, width + 2 * padding
        size = self.kernel_size
        if size > height or size > width:
            raise ValueError(
                f"{self.name or type(self).__name__}: window {size}x{size} is larger "
                f"than its input {height}x{width}"
            )
        assert self.stride is not None
        return (
            channels,
            (height - size) // self.stride + 1,
            (width - size) // self.stride + 1,
        )


@explained
@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean of square windows; `stride` defaults to the window's size.

    Parameters
    ----------
    kernel_size : int
    stride : int or None
    name : str or None

    Examples
    --------
    >>> lenet5c.AvgPool2d(2).output_shape((6, 28, 28))
    (6, 14, 14)
    """

    kind: ClassVar[str] = "avg_pool2d"
    kernel_size: int
    stride: int | None = None
    _: KW_ONLY
    name: str | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return self._pooled(shape, 0)


@explained
@dataclass(frozen=True)
class Subsampling2d(_Pool2d):
    """weight[c] * (sum of a square window) + bias[c], both trained for each channel.

    The S2 and S4 of the first LeNet-5 (LeCun et al. 1998, section II.B). The weight
    starts uniform in +-2.4 over the pixels of a window (appendix A), the bias at 0.

    Parameters
    ----------
    kernel_size : int
    stride : int or None
        None is the window's size.
    name : str or None

    Examples
    --------
    >>> layer = lenet5c.Subsampling2d(2)
    >>> layer.output_shape((6, 28, 28)), layer.parameter_shapes((6, 28, 28))
    ((6, 14, 14), {'weight': (6,), 'bias': (6,)})
    """

    kind: ClassVar[str] = "subsampling2d"
    takes_activation: ClassVar[bool] = True
    kernel_size: int = 2
    stride: int | None = None
    _: KW_ONLY
    name: str | None = None

    def output_shape(self, shape: Shape) -> Shape:
        return self._pooled(shape, 0)

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        return {"weight": (shape[0],), "bias": (shape[0],)}

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape))


@explained
@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum of square windows; `stride` defaults to the window's size.

    Parameters
    ----------
    kernel_size : int
    stride : int or None
    padding : int
        Rows and columns on all four sides that are never the maximum; at most half of
        the window.
    name : str or None

    Examples
    --------
    >>> lenet5c.MaxPool2d(3, stride=2, padding=1).output_shape((64, 16, 16))
    (64, 8, 8)
    """

    kind: ClassVar[str] = "max_pool2d"
    kernel_size: int
    stride: int | None = None
    padding: int = 0
    _: KW_ONLY
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.stride is not None
        kernel = self.kernel_size, self.kernel_size
        padding = padding_of(self.padding, kernel, self.stride)
        object.__setattr__(self, "padding", padding)
        if 2 * self.padding > self.kernel_size:
            raise ValueError(
                f"padding: expected at most half of the window of {self.kernel_size}, "
                f"got {self.padding}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        return self._pooled(shape, self.padding)


@explained
@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool2d(Layer):
    """Mean of each channel, (C, H, W) to (C, 1, 1) (Lin, Chen, Yan 2014).

    Parameters
    ----------
    name : str or None

    Examples
    --------
    >>> lenet5c.GlobalAvgPool2d().output_shape((512, 4, 4))
    (512, 1, 1)
    """

    kind: ClassVar[str] = "global_avg_pool2d"
    name: str | None = None

    def window(self, shape: Shape) -> Window:
        return Window(shape[1:])

    def output_shape(self, shape: Shape) -> Shape:
        return (shape[0], 1, 1)
