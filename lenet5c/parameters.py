"""Parameters and buffers by name, as views of one flat vector."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.layers import Layer, walk
from lenet5c.layers.base import Shape

__all__ = ["MAX_PARAMETERS", "Parameters", "aligned", "tensor_shapes", "views_of"]

MAX_PARAMETERS = 1 << 28  # 1 GiB of float32
CACHE_LINE = 64  # bytes


class Parameters(Mapping[str, NDArray[np.float32]]):
    """Parameters by name ("C1.weight"), as views of the model's flat vector.

    Arrays are changed in place: ``model.parameters["C1.bias"][:] = 0``. Assigning to a
    name copies the values in.
    """

    def __init__(self, views: dict[str, NDArray[np.float32]]) -> None:
        self._views = views

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._views[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        array = np.asarray(value, np.float32)
        if array.shape != self._views[name].shape:
            raise ValueError(
                f"{name}: expected the shape {self._views[name].shape}, "
                f"got {array.shape}"
            )
        self._views[name][...] = array

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"Parameters({ {name: view.shape for name, view in self.items()} })"


def tensor_shapes(
    layers: Sequence[Layer], input_shape: Shape
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of the parameters and of the buffers, by name, in the order of the flat
    vector."""
    parameters, buffers = {}, {}
    for layer, before, _ in walk(layers, input_shape):
        for name, shape in layer.parameter_shapes(before).items():
            parameters[f"{layer.name}.{name}"] = shape
        for name, shape in layer.buffer_shapes(before).items():
            buffers[f"{layer.name}.{name}"] = shape
    return parameters, buffers


def views_of(
    vector: NDArray[np.float32], shapes_by_name: Sequence[Mapping[str, tuple[int, ...]]]
) -> list[Parameters]:
    """Consecutive pieces of `vector` by name, for each of the mappings."""
    found = []
    start = 0
    for shapes in shapes_by_name:
        views = {}
        for name, shape in shapes.items():
            end = start + math.prod(shape)
            views[name] = vector[start:end].reshape(shape)
            start = end
        found.append(Parameters(views))
    return found


def aligned(count: int) -> NDArray[np.float32]:
    """`count` zeros that start on a cache line."""
    raw = np.zeros(count * 4 + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + count * 4].view(np.float32)
