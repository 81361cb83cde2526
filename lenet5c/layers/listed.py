"""All kinds of layers, and layers as plain values."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

from lenet5c.layers.activation import LeakyReLU, ReLU, ScaledTanh, Sigmoid, Tanh
from lenet5c.layers.base import Layer, Shape
from lenet5c.layers.conv import Conv2d
from lenet5c.layers.dense import Dense
from lenet5c.layers.dropout import Dropout
from lenet5c.layers.flatten import Flatten
from lenet5c.layers.norm import BatchNorm2d
from lenet5c.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d, Subsampling2d
from lenet5c.layers.radial_basis import RadialBasis
from lenet5c.layers.residual import Residual

__all__ = [
    "LAYERS",
    "MAX_NESTED",
    "layer_from_dict",
    "layer_to_dict",
    "named",
    "walk",
]

MAX_NESTED = 8  # `Residual` layers inside of each other in a model file

LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        *(
            Conv2d,
            Dense,
            RadialBasis,
            AvgPool2d,
            MaxPool2d,
            Subsampling2d,
            GlobalAvgPool2d,
            Tanh,
            ScaledTanh,
            Sigmoid,
            ReLU,
            LeakyReLU,
            BatchNorm2d,
        ),
        *(Dropout, Flatten, Residual),
    )
}
"""The kinds of layers, by the names that model files use."""

# Options that came later, written where they are not this: a network that needs none of
# them has the file that it had before.
ADDED: dict[str, dict[str, Any]] = {
    "conv2d": {"bias": True, "connections": None},
    "max_pool2d": {"padding": 0},
}

# Options that tensors begin with and that nobody needs later: they are not written.
INITIAL = {"radial_basis": {"codes"}}


def walk(layers: Sequence[Layer], shape: Shape) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Each layer with its input and output shape, those inside of a `Residual` before
    it: its `layers`, then its `shortcut`.

    Parameters
    ----------
    layers : sequence of Layer
    shape : (C, H, W)
        Of the first one's input.

    Examples
    --------
    >>> layers = [lenet5c.Conv2d(6, 5, name="C1"), lenet5c.AvgPool2d(2, name="S2")]
    >>> for layer, before, after in lenet5c.layers.walk(layers, (1, 32, 32)):
    ...     print(layer.name, before, after)
    C1 (1, 32, 32) (6, 28, 28)
    S2 (6, 28, 28) (6, 14, 14)
    """
    for layer in layers:
        if isinstance(layer, Residual):
            yield from walk(layer.layers, shape)
            yield from walk(layer.shortcut, shape)
        after = layer.output_shape(shape)
        yield layer, shape, after
        shape = after


def layer_to_dict(layer: Layer) -> dict[str, Any]:
    """A layer as plain values, for the model file and the core.

    Parameters
    ----------
    layer : Layer

    Returns
    -------
    dict
        The kind and the options, but for those that came later and are not used, and
        for codes, which are a tensor.

    Examples
    --------
    >>> lenet5c.layers.layer_to_dict(lenet5c.Dense(10, name="F6"))
    {'kind': 'dense', 'outputs': 10, 'init': None, 'name': 'F6'}
    """
    added = ADDED.get(layer.kind, {})
    initial = INITIAL.get(layer.kind, set())
    values: dict[str, Any] = {"kind": layer.kind} | {
        name: value
        for name, value in vars(layer).items()
        if name not in initial and (name not in added or value != added[name])
    }
    if isinstance(layer, Residual):
        for branch in ("layers", "shortcut"):
            values[branch] = [layer_to_dict(inner) for inner in values[branch]]
    return values


def layer_from_dict(values: Mapping[str, Any], depth: int = 0) -> Layer:
    """The inverse of `layer_to_dict`; ValueError or TypeError for anything else.

    Parameters
    ----------
    values : mapping
    depth : int
        How many `Residual` layers it is inside of.

    Returns
    -------
    Layer

    Examples
    --------
    >>> values = {"kind": "dense", "outputs": 10, "init": None, "name": "F6"}
    >>> lenet5c.layers.layer_from_dict(values)
    Dense(outputs=10, init=None, name='F6')
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"layer: expected an object, got {values!r:.80}")
    options = dict(values)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ValueError(f"layer: expected a kind of {', '.join(LAYERS)}, got {kind!r}")
    known = set(signature(LAYERS[kind]).parameters) - INITIAL.get(kind, set())
    if not known - ADDED.get(kind, {}).keys() <= set(options) <= known:
        raise ValueError(
            f"layer {kind}: expected the options {sorted(known)}, got {sorted(options)}"
        )
    if options["name"] is None:
        raise ValueError(f"layer {kind}: expected a name, got None")
    for branch in ("layers", "shortcut"):
        if isinstance(options.get(branch), list):
            if depth == MAX_NESTED:
                raise ValueError(f"layers: expected {MAX_NESTED} levels at most")
            options[branch] = [
                layer_from_dict(inner, depth + 1) for inner in options[branch]
            ]
    return LAYERS[kind](**options)


def named(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers, each with a name of its own."""
    if not isinstance(layers, (tuple, list)):
        raise TypeError(f"layers: expected a sequence of layers, got {layers!r}")
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers: expected layers, got {layer!r}")
    names: list[str | None] = []
    named = _named_branch(layers, {}, names)
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"layers: two are named {name!r}")
    return named


def _named_branch(
    layers: Sequence[Layer], counts: dict[str, int], names: list[str | None]
) -> tuple[Layer, ...]:
    """The layers with names by kind and number where they have none; `counts` of each
    kind and all `names` go on from branch to branch."""
    named = []
    for layer in layers:
        values = dict(vars(layer))
        if layer.name is None:
            counts[layer.kind] = counts.get(layer.kind, 0) + 1
            values["name"] = f"{layer.kind}_{counts[layer.kind]}"
        if isinstance(layer, Residual):
            for branch in ("layers", "shortcut"):
                values[branch] = _named_branch(values[branch], counts, names)
        names.append(values["name"])
        named.append(type(layer)(**values))
    return tuple(named)
