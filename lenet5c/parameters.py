"""Parameters and buffers by name, as views of one flat vector."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array
from lenet5c.layers import Layer, walk
from lenet5c.layers.base import Shape

__all__ = ["MAX_PARAMETERS", "Parameters", "tensor_shapes", "views_of"]

MAX_PARAMETERS = 1 << 28  # 1 GiB of float32


class Parameters(Mapping[str, NDArray[np.float32]]):
    """Parameters by name ("C1.weight"), as views of the model's flat vector.

    Arrays are changed in place: ``model.parameters["C1.bias"][:] = 0``. Assigning to a
    name copies the values in. A view is made when it is asked for, so that a model
    knows whether anybody holds one.

    Parameters
    ----------
    vector : function
        The flat vector.
    places : dict
        By name where a view begins in it, and its shape.

    Examples
    --------
    >>> model.parameters["C1.weight"].shape
    (6, 1, 5, 5)
    >>> model.parameters["C1.bias"] = np.zeros(6)  # copied into the model
    >>> model.parameter_vector[150:156].tolist()  # behind 6 * 1 * 5 * 5 weights
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __init__(
        self,
        vector: Callable[[], NDArray[np.float32]],
        places: dict[str, tuple[int, tuple[int, ...]]],
    ) -> None:
        self._vector = vector
        self._places = places

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        start, shape = self._places[name]
        return self._vector()[start : start + math.prod(shape)].reshape(shape)

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        array = np.asarray(as_array(name, value), np.float32)
        view = self[name]
        if array.shape != view.shape:
            raise ValueError(
                f"{name}: expected the shape {view.shape}, got {array.shape}"
            )
        view[...] = array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"Parameters({ {name: at[1] for name, at in self._places.items()} })"


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
    vector: Callable[[], NDArray[np.float32]],
    shapes_by_name: Sequence[Mapping[str, tuple[int, ...]]],
) -> list[Parameters]:
    """Consecutive pieces of the vector by name, for each of the mappings."""
    found = []
    start = 0
    for shapes in shapes_by_name:
        places = {}
        for name, shape in shapes.items():
            places[name] = start, shape
            start += math.prod(shape)
        found.append(Parameters(vector, places))
    return found
