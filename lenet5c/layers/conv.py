"""Convolution."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from lenet5c._support.checks import both, pair, truth, whole
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape, Window, check_init, padding_of

__all__ = ["Conv2d"]


@explained
@dataclass(frozen=True)
class Conv2d(Layer):
    """Convolution (cross-correlation, as everywhere in this field).

    Parameters
    ----------
    filters : int
        Channels of the output.
    kernel_size : int or (int, int)
        Rows and columns of the kernel.
    stride : int
        Step in both directions.
    padding : int
        Zeros on all four sides.
    bias : bool
        Whether a number is added to each channel of the output. A batch normalisation
        that follows takes it away again.
    init : {"glorot", "he", "lecun", "lecun-1998"} or None
        How the weights start; None chooses by the activation that follows.
    name : str or None

    Examples
    --------
    >>> layer = lenet5c.Conv2d(16, 3, stride=2, padding=1)
    >>> layer.output_shape((6, 14, 14))
    (16, 7, 7)
    >>> layer.parameter_shapes((6, 14, 14))["weight"]
    (16, 6, 3, 3)
    """

    kind: ClassVar[str] = "conv2d"
    takes_activation: ClassVar[bool] = True
    filters: int
    kernel_size: int | tuple[int, int]
    _: KW_ONLY
    stride: int = 1
    padding: int = 0
    bias: bool = True
    init: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "bias", truth("bias", self.bias))
        object.__setattr__(self, "filters", whole("filters", self.filters, 1))
        kernel = pair("kernel_size", self.kernel_size, 1)
        object.__setattr__(self, "kernel_size", kernel)
        object.__setattr__(self, "stride", both("stride", self.stride, 1))
        padding = padding_of(self.padding, kernel, self.stride)
        object.__setattr__(self, "padding", padding)
        check_init(self.init)

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        assert isinstance(self.kernel_size, tuple)
        return self.kernel_size

    def window(self, shape: Shape) -> Window:
        return Window(self.kernel, self.stride, self.padding)

    def output_shape(self, shape: Shape) -> Shape:
        _, height, width = shape
        rows, columns = self.kernel
        padded = height + 2 * self.padding, width + 2 * self.padding
        if rows > padded[0] or columns > padded[1]:
            raise ValueError(
                f"{self.name or 'Conv2d'}: kernel {rows}x{columns} is larger than its "
                f"padded input {padded[0]}x{padded[1]}"
            )
        return (
            self.filters,
            (padded[0] - rows) // self.stride + 1,
            (padded[1] - columns) // self.stride + 1,
        )

    def parameter_shapes(self, shape: Shape) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (self.filters, shape[0], *self.kernel)
        }
        return shapes | ({"bias": (self.filters,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * shape[0] * math.prod(self.kernel)
