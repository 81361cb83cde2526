"""Convolution."""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import both, pair, truth, whole
from lenet5c._support.habits import explained
from lenet5c.layers.base import Layer, Shape, Window, check_init, padding_of

__all__ = ["Conv2d"]

MAX_WITH_ZEROS = 1 << 28  # floats: where it is exported, a table is a dense weight


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
    connections : sequence of sequence of int, or None
        A table, as that of C3 in LeNet-5 (LeCun et al. 1998, Table I): for each filter
        the input channels that it reads, ascending. Only these pairs have weights, in
        this order: the weight is (pairs, KH, KW). None: each reads all channels, and
        the weight is (F, C, KH, KW).
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
    >>> sparse = lenet5c.Conv2d(3, 5, connections=[[0, 1], [1, 2], [0, 1, 2]])
    >>> sparse.parameter_shapes((3, 14, 14))["weight"]
    (7, 5, 5)
    """

    kind: ClassVar[str] = "conv2d"
    takes_activation: ClassVar[bool] = True
    filters: int
    kernel_size: int | tuple[int, int]
    _: KW_ONLY
    stride: int = 1
    padding: int = 0
    bias: bool = True
    connections: Sequence[Sequence[int]] | None = None
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
        if self.connections is not None:
            table = _table_of(self.connections, self.filters)
            object.__setattr__(self, "connections", table)
        check_init(self.init)

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        assert isinstance(self.kernel_size, tuple)
        return self.kernel_size

    @property
    def pairs(self) -> tuple[list[int], list[int]]:
        """The filter and the channel of each pair of the table `connections`.

        Examples
        --------
        >>> lenet5c.Conv2d(2, 1, connections=[[1], [0, 2]]).pairs
        ([0, 1, 1], [1, 0, 2])
        """
        table = enumerate(self.connections or ())
        listed = [(f, c) for f, channels in table for c in channels]
        return [f for f, _ in listed], [c for _, c in listed]

    def with_zeros(
        self, weight: NDArray[np.float32], channels: int
    ) -> NDArray[np.float32]:
        """A weight (pairs, KH, KW) as (F, C, KH, KW), zero for what is not listed.

        Parameters
        ----------
        weight : array
            One (F, C, KH, KW) stays as it is.
        channels : int
            C.

        Examples
        --------
        >>> layer = lenet5c.Conv2d(2, 1, connections=[[1], [0, 2]])
        >>> weight = np.reshape([5.0, 6.0, 7.0], (3, 1, 1))
        >>> layer.with_zeros(weight, 3)[..., 0, 0].tolist()
        [[0.0, 5.0, 0.0], [6.0, 0.0, 7.0]]
        """
        if self.connections is None:
            return weight
        full = np.zeros((self.filters, channels, *self.kernel), weight.dtype)
        full[self.pairs] = weight
        return full

    def _weight(self, channels: int) -> tuple[int, ...]:
        """The shape of the weight, for so many channels."""
        if self.connections is None:
            return (self.filters, channels, *self.kernel)
        return (sum(map(len, self.connections)), *self.kernel)

    def window(self, shape: Shape) -> Window:
        return Window(self.kernel, self.stride, self.padding)

    def output_shape(self, shape: Shape) -> Shape:
        channels, height, width = shape
        rows, columns = self.kernel
        largest = max((each[-1] for each in self.connections or ()), default=0)
        if largest >= channels:
            raise ValueError(
                f"{self.name or 'Conv2d'}: connections: expected channels from 0 to "
                f"{channels - 1}, got {largest}"
            )
        padded = height + 2 * self.padding, width + 2 * self.padding
        full = self.filters * channels * rows * columns
        if self.connections is not None and full > MAX_WITH_ZEROS:
            raise ValueError(
                f"{self.name or 'Conv2d'}: connections: expected at most "
                f"{MAX_WITH_ZEROS} weights with those that are not listed, got {full}"
            )
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
        shapes: dict[str, tuple[int, ...]] = {"weight": self._weight(shape[0])}
        return shapes | ({"bias": (self.filters,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        _, height, width = self.output_shape(shape)
        return math.prod(self._weight(shape[0])) * height * width


def _table_of(
    connections: Sequence[Sequence[int]], filters: int
) -> tuple[tuple[int, ...], ...]:
    """The table as tuples, or a TypeError or ValueError."""
    expected = "connections: expected the channels of each filter"
    if not _is_list(connections):
        raise TypeError(f"{expected}, got {type(connections).__name__}")
    if len(connections) != filters:
        raise ValueError(f"{expected}, {filters} lists, got {len(connections)}")
    table = []
    for f, channels in enumerate(connections):
        what = f"connections[{f}]"
        if not _is_list(channels):
            raise TypeError(
                f"{what}: expected a list of channels, got {type(channels).__name__}"
            )
        for channel in channels:
            if _is_list(channel):  # whose text may be endless
                raise TypeError(f"{what}: expected whole numbers, got a list")
        row = tuple(whole(what, channel, 0) for channel in channels)
        if not row:
            raise ValueError(f"{what}: expected one channel at least, got none")
        for before, channel in pairwise(row):
            if channel <= before:
                raise ValueError(
                    f"{what}: expected ascending channels, each once, "
                    f"got {channel} behind {before}"
                )
        table.append(row)
    return tuple(table)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
