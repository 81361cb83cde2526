"""Weights of PyTorch networks, taken into a model of the same layers."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import pair
from lenet5c._support.habits import explained
from lenet5c.convert.weights import Numbers, affine, input_stage, to_float32
from lenet5c.layers import BatchNorm2d, Conv2d, Dense, Flatten, walk
from lenet5c.layers.base import Shape
from lenet5c.model import Model

__all__ = ["from_torch_state_dict"]

Array = NDArray[Any]


@explained
def from_torch_state_dict(
    model: Model,
    state_dict: Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    mean: Numbers = 0.0,
    deviation: Numbers = 1.0,
    background: float | None = None,
    source: tuple[int, int] | None = None,
) -> Model:
    """Copy the weights of a PyTorch network into a model of the same layers.

    Layers are matched by order, or by `names`. A linear layer's weight also fits a
    convolution that covers its whole input, and the other way round. A convolution with
    a table of `connections` takes a weight (F, C, KH, KW) that is zero for what is not
    listed, or that of such groups. Where the state dict has no bias, it becomes zero.

    Parameters
    ----------
    model : Model
        Changed in place.
    state_dict : mapping of str to tensor or array
        ``network.state_dict()``: ``<prefix>.weight`` and ``<prefix>.bias`` for each
        layer, a batch normalisation's ``running_mean`` and ``running_var``, and as
        ``<prefix>.codes`` the buffer of what is a `RadialBasis` here; floats that
        float32 holds exactly.
    names : mapping of str to str, or None
        For each layer with weights, the prefix in the state dict, ``{"C1": "conv1"}``;
        None takes them by these names if they are there, else in order.
    mean, deviation : float or sequence of float
        As of torchvision's ``Normalize``: a uint8 pixel b becomes (b / 255 - mean) /
        deviation. Floating images are taken as they are. If channels differ, the
        numbers of each become part of a first layer without padding, or of a
        `BatchNorm2d` that the model begins with and the state dict does not have;
        floating images are shares of 255 then.
    background : float or None
        What surrounds smaller images, in the units that the network sees; None is
        black, -mean / deviation. 0.0 where PyTorch pads after normalisation.
    source : (int, int) or None
        Rows and columns of the training images; None is the network's input.

    Returns
    -------
    Model
        The one given, fitted: further training keeps these settings.

    Raises
    ------
    ValueError, TypeError
        If names or shapes do not fit: all that were expected and all that were given.
        The model has not changed then.

    Examples
    --------
    >>> state_dict = {  # network.state_dict() of a torch.nn.Sequential
    ...     "1.weight": np.ones((100, 784), np.float32), "1.bias": np.zeros(100),
    ...     "3.weight": np.ones((10, 100), np.float32), "3.bias": np.arange(10.0),
    ... }
    >>> taken = lenet5c.from_torch_state_dict(lenet5c.mlp(), state_dict, mean=0.1307)
    >>> taken.parameters["OUTPUT.bias"][:3].tolist()
    [0.0, 1.0, 2.0]
    """
    if not isinstance(model, Model):
        raise TypeError(f"model: expected a Model, got {type(model).__name__}")
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "state_dict: expected a mapping, as network.state_dict() is, got "
            f"{type(state_dict).__name__}"
        )
    stage, scale, offset = input_stage(
        mean, deviation, background, model.input_shape[0]
    )
    size = model.input_shape[1:]
    rows, columns = size if source is None else pair("source", source, 1)
    if rows > size[0] or columns > size[1]:
        raise ValueError(f"source: expected at most {size}, got {(rows, columns)}")
    inputs: dict[str, Shape | None] = {}
    parts: dict[str, list[str]] = {}
    sparse: dict[str, tuple[Conv2d, int]] = {}
    for each, shape, after in walk(model.layers, model.input_shape):
        of_layer = [*each.parameter_shapes(shape), *each.buffer_shapes(shape)]
        if of_layer:
            name = str(each.name)
            parts[name] = of_layer
            dense = isinstance(each, (Conv2d, Dense)) and after[1:] == (1, 1)
            inputs[name] = shape if dense else None
            if isinstance(each, Conv2d) and each.connections is not None:
                sparse[name] = each, shape[0]
    tensors = {**model.parameters, **model.buffers}
    found: dict[str, Array] = {}
    prefixes = dict.fromkeys(str(name).rpartition(".")[0] for name in state_dict)
    first = model.layers[0]
    if scale is not None and offset is not None and isinstance(first, BatchNorm2d):
        name = str(first.name)
        prefix = name if name in prefixes else next(iter(prefixes), "")
        if isinstance(names, Mapping):
            prefix = names.get(name, "")
        if f"{prefix}.running_mean" not in state_dict:
            del inputs[name]
            values = affine(scale, offset, first.eps)
            found = {f"{name}.{part}": value for part, value in values.items()}
            scale = None
    if names is None:
        own = inputs.keys() <= prefixes.keys()
        names = dict(zip(inputs, inputs if own else prefixes, strict=False))
    elif not isinstance(names, Mapping) or names.keys() != inputs.keys():
        raise ValueError(f"names: expected {list(inputs)}, got {names!r}")
    left = {
        str(name): value
        for name, value in state_dict.items()
        if not str(name).endswith(".num_batches_tracked")
    }
    for layer, prefix in names.items():
        for part in parts[layer]:
            entry = f"{prefix}.{part}".removeprefix(".")
            wanted = tensors[f"{layer}.{part}"].shape
            if entry not in left:
                value = np.zeros(wanted if part == "bias" else (), np.float32)
            else:
                what = f"state_dict: {entry}"
                value = to_float32(what, _from_tensor(what, left[entry]))
                if part == "running_var" and (value < 0).any():
                    raise ValueError(f"{what}: expected no negative variance")
                if layer in sparse and part == "weight":
                    value = _listed(what, *sparse[layer], value)
            whole_input = inputs[layer]
            if value.shape == wanted or (
                whole_input and _same_layer(value.shape, wanted, whole_input)
            ):
                left.pop(entry, None)
                found[f"{layer}.{part}"] = value.reshape(wanted)
    if left or found.keys() != tensors.keys():
        expected = {name: value.shape for name, value in tensors.items()}
        given = {
            str(name): tuple(getattr(value, "shape", ()))
            for name, value in state_dict.items()
        }
        turned = any(
            len(shape) == 2
            and given.get(f"{names.get(name.rpartition('.')[0])}.weight") == shape[::-1]
            for name, shape in expected.items()
        )
        raise ValueError(
            f"state_dict: expected weights and biases like {expected}, got {given}"
            + "; weights of linear layers are (outputs, inputs), these are transposed"
            * turned
        )
    if scale is not None and offset is not None:
        found |= _with_normalisation(model, found, scale, offset)
    for name, value in found.items():
        tensors[name][...] = value
    model.set_input(stage, (rows, columns), model.classes)
    return model


def _with_normalisation(
    model: Model, values: Mapping[str, Array], scale: Array, offset: Array
) -> dict[str, Array]:
    """The values that change where scale[c] x + offset[c] becomes part of the first
    layer, or a ValueError."""
    layer = next(
        (each for each in model.layers if not isinstance(each, Flatten)),
        model.layers[0],
    )
    name = str(layer.name)
    if layer is model.layers[0] and isinstance(layer, BatchNorm2d):
        return {
            f"{name}.weight": values[f"{name}.weight"] * scale,
            f"{name}.running_mean": (values[f"{name}.running_mean"] - offset) / scale,
        }
    convolution = isinstance(layer, Conv2d) and layer.bias
    if isinstance(layer, Conv2d):
        convolution &= layer.connections is None
    padded = isinstance(layer, Conv2d) and layer.padding and offset.any()
    if padded or not (convolution or isinstance(layer, Dense)):
        raise ValueError(
            "mean, deviation: expected one number each, because those of channels "
            f"cannot become part of {layer!r}; a model that begins with "
            "BatchNorm2d(name='normalise') takes them there"
        )
    weight = values[f"{name}.weight"].astype(np.float64)
    by_channel = weight.reshape(len(weight), len(scale), -1)
    bias = values[f"{name}.bias"] + by_channel.sum(axis=2) @ offset
    weight = (by_channel * scale[:, np.newaxis]).reshape(weight.shape)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _same_layer(given: tuple[int, ...], wanted: tuple[int, ...], before: Shape) -> bool:
    """Whether one weight is that of a dense layer and the other that of a convolution,
    over the same whole input."""
    return {given, wanted} == {(wanted[0], math.prod(before)), (wanted[0], *before)}


def _listed(what: str, layer: Conv2d, channels: int, value: Array) -> Array:
    """The weight (pairs, KH, KW) of a layer with a table, of one (F, C, KH, KW) that is
    zero elsewhere, or of groups; another one as it is."""
    if value.ndim != 4 or value.shape[0] != layer.filters or value.size == 0:
        return value
    if value.shape[1] == channels:
        listed = value[layer.pairs]
        if np.count_nonzero(listed) < np.count_nonzero(value):
            raise ValueError(
                f"{what}: expected zeros for the channels that {layer.name} does not "
                "list, got others"
            )
        return listed
    groups = channels // value.shape[1]
    table = [
        range(value.shape[1] * group, value.shape[1] * (group + 1))
        for group in (f * groups // layer.filters for f in range(layer.filters))
    ]
    fits = replace(layer, connections=table) == layer
    return value.reshape(-1, *value.shape[2:]) if fits else value


def _from_tensor(what: str, value: Any) -> Array:
    """A PyTorch tensor, or what else can be one, as an array."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # NumPy has none
                value = value.float()
        return np.asarray(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{what}: expected a dense tensor: {error}") from error
