"""Training for few bits: the network that `fit` computes is the one in integers.

The model's own parameters stay floats, and steps change those. For each step they are
rounded, and the core computes what docs/int8.md defines, forward with all of its
rounding, in floats that hold integers; backward as if nothing were rounded (the
straight-through estimator; Bengio et al. 2013, arXiv:1308.3432).

A batch normalisation behind a convolution or a dense layer is part of its weights, with
the running statistics that it has: these do not move (Krishnamoorthi 2018,
arXiv:1806.08342, section 3.2.2, freezes them as well).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.cores import core
from lenet5c.bits import MAX_INT8, Bits, Rounding
from lenet5c.data.augment import Augment
from lenet5c.deploy.int8 import BY_TABLE, QuantizedLayer
from lenet5c.deploy.steps import Step, steps_of
from lenet5c.deploy.units import is_raw, layer_of, measured, pixel_table
from lenet5c.graph import fold
from lenet5c.interfaces import Evaluation, Trainable, evaluation_of
from lenet5c.layers import (
    BatchNorm2d,
    Conv2d,
    Dense,
    Layer,
    RadialBasis,
    Residual,
    walk,
)
from lenet5c.layers.base import Shape
from lenet5c.parameters import Parameters, tensor_shapes, views_of

__all__ = ["IntegerNetwork", "check_integers", "unit_names"]

Vector = NDArray[np.float32]

CALIBRATION_IMAGES = 1000
IMAGES_A_CALL = 4096
CROSS_ENTROPY = (0, math.inf)
HIGH = 1 << 16  # of a multiplier, core/kinds/finish.pxd
NUMBERS_AT_ONCE = 1 << 22  # of maps, 16 MiB
MAX_COPIED = 1 << 24  # bytes of images that are copied at a time


def check_integers(model: Trainable) -> None:
    """Refuse what integers, or their training, do not have; by name."""
    for layer, *_ in walk(model.layers, model.input_shape):
        if isinstance(layer, (RadialBasis, Residual)):
            raise ValueError(
                "quantize: expected layers that are trained as integers, got "
                f"{layer.name} of the kind {layer.kind!r}"
            )
    _normalised(model.layers)


def unit_names(model: Trainable) -> list[str]:
    """The last layers of steps whose unit is found from images, in their order."""
    values = {**model.parameters, **model.buffers}
    steps = steps_of(fold(model.layers, values, model.input_shape), model.input_shape)
    return measured(steps)


def _normalised(layers: Sequence[Layer]) -> dict[str, BatchNorm2d]:
    """By layer with weights, the batch normalisation that `fold` makes part of it."""
    found: dict[str, BatchNorm2d] = {}
    last: Layer | None = None
    for layer in layers:
        if isinstance(layer, BatchNorm2d) and isinstance(last, (Conv2d, Dense)):
            if str(last.name) in found:
                raise ValueError(
                    "quantize: expected at most one batch normalisation right after "
                    f"a layer, got a second one, {layer.name}, after {last.name}"
                )
            found[str(last.name)] = layer
        else:
            last = layer
    return found


class IntegerNetwork:
    """A model as the network of integers that it is trained for.

    Parameters
    ----------
    model : Model
        With an input stage.
    bits : Bits
    images : (N, C, H, W) uint8 or float32
        Of the training; they decide how large the units of maps are.
    chosen : intp array
        Which of them are trained on.

    Attributes
    ----------
    units : (n,) float32
        Of those maps whose unit no activation decides; 0 until `measure`.
    layers : list of QuantizedLayer
        Of the last `round`.
    """

    def __init__(
        self,
        model: Trainable,
        bits: Bits,
        images: NDArray[Any],
        chosen: NDArray[np.intp],
    ) -> None:
        self.model = model
        self.bits = bits
        step = -(-len(chosen) // CALIBRATION_IMAGES)
        self._sample = np.ascontiguousarray(images[chosen[::step]])
        self._norms = _normalised(model.layers)
        self._walked = {str(layer.name): layer for layer in model.layers}
        self._channels = {
            str(layer.name): before[0]
            for layer, before, _ in walk(model.layers, model.input_shape)
        }
        values = {**model.parameters, **model.buffers}
        folded = fold(model.layers, values, model.input_shape)
        self.steps = steps_of(folded, model.input_shape)
        names = measured(self.steps)
        self._place = {name: at for at, name in enumerate(names)}
        self.units = np.zeros(len(names), np.float32)
        self.layers: list[QuantizedLayer] = []
        self.input_scale, _ = pixel_table(model.stage)
        stage = model.stage.for_core()
        self._stage = tuple(value / self.input_scale for value in stage)
        self._plan()
        self._shapes = tensor_shapes(model.layers, model.input_shape)

    def _plan(self) -> None:
        """The compiled network, and what of each step lies where in its state: weights
        and behind them biases, numbers of what brings sums back to 8 bits, and how many
        ops there are before that."""
        nodes = _Nodes()
        self._ops: list[int] = []
        self._weights: list[int] = []
        self._numbers: list[int] = []
        nodes.finish("round", self.model.input_shape, "input")
        for step in self.steps:
            last = step is self.steps[-1]
            self._weights.append(nodes.parameters)
            nodes.add_sums(step)
            self._ops.append(len(nodes.nodes))
            self._numbers.append(nodes.numbers)
            nodes.add_finish(step, last)
        self._numbers.append(nodes.numbers)
        nodes.finish("unit", self.steps[-1].output_shape, "scores", 1)
        self._network = core.Network(nodes.nodes, self.model.input_shape)
        count = self._network.parameter_count
        self._state = np.asarray(core.StateVector(self._network.state_count))
        self._numbers = [count + at for at in self._numbers]
        self._gradient = np.zeros(count, np.float32)

    def round(self) -> bool:
        """Round the model's parameters, to what the core reads next; whether they are
        finite."""
        values = self._folded()
        if values is None:
            return False
        scales = [self.input_scale]
        with np.errstate(over="ignore"):  # of a training that diverges
            for number, step in enumerate(self.steps):
                self._round_step(number, step, values, scales)
            self._state[self._numbers[-1]] = scales[-1]
        return True

    def _folded(self) -> dict[str, Vector] | None:
        """Parameters and buffers of the folded network, if all are finite."""
        model = self.model
        values: dict[str, Vector] = {**model.parameters, **model.buffers}
        with np.errstate(over="ignore", invalid="ignore"):
            fold(model.layers, values, model.input_shape)
        finite = all(np.isfinite(value).all() for value in values.values())
        return values if finite else None

    def _round_step(
        self,
        number: int,
        step: Step,
        values: Mapping[str, Vector],
        scales: list[float],
        unit: float = 0.0,
    ) -> None:
        def unit_of(step: Step) -> float:
            return unit or float(self.units[self._place[step.last]])

        given = [scales[source] for source in step.sources]
        last = number == len(self.steps) - 1
        layer = layer_of(values, step, given, last, self.bits, unit_of)
        del self.layers[number:], scales[number + 1 :]
        self.layers.append(layer)
        scales.append(layer.scale)
        start, at = self._weights[number], self._numbers[number]
        if layer.weight is not None and layer.bias is not None:
            end = start + layer.weight.size
            self._state[start:end] = layer.weight.ravel()
            self._state[end : end + len(layer.bias)] = layer.bias
        if layer.multiplier is not None:
            n = len(layer.multiplier)
            self._state[at : at + n] = layer.multiplier // HIGH
            self._state[at + n : at + 2 * n] = layer.multiplier % HIGH
            self._state[at + 2 * n] = layer.shift

    def measure(self, threads: int) -> None:
        """Find the units of maps: what integers of weights, as they are now, make of
        some of the images, is from -127 to 127."""
        values = self._folded() if self.units.size else None
        if values is None:
            return
        scales = [self.input_scale]
        least = float(np.finfo(np.float32).tiny)
        with np.errstate(over="ignore"):
            for number, step in enumerate(self.steps):
                if step.last in self._place:
                    # the sums do not depend on the unit of the output
                    self._round_step(number, step, values, scales, unit=1.0)
                    unit = self._largest(number, step, scales, threads) / MAX_INT8
                    self.units[self._place[step.last]] = max(unit, least)
                self._round_step(number, step, values, scales)

    def _largest(
        self, number: int, step: Step, scales: Sequence[float], threads: int
    ) -> float:
        """The largest activation of a step, of the sums that the core finds."""
        layer = self.layers[number]
        assert layer.units is not None
        filters = step.output_shape[0]
        size = math.prod(step.output_shape)
        at_once = max(1, NUMBERS_AT_ONCE // size)
        ends = np.zeros(filters)
        for start in range(0, len(self._sample), at_once):
            part = self._sample[start : start + at_once]
            sums = np.empty((len(part), size), np.float32)
            ops = self._ops[number]
            self._network.forward(self._state, part, self._stage, sums, threads, ops)
            of_filter = sums.reshape(len(part), filters, -1)
            np.maximum(ends, of_filter.max(axis=(0, 2)), out=ends)
            if step.activation != "relu":
                np.maximum(ends, -of_filter.min(axis=(0, 2)), out=ends)
        return float((ends * (layer.units * scales[step.sources[0]])).max())

    def logits(self, pixels: NDArray[Any], threads: int) -> Vector:
        """(N, classes): the scores of the network in integers, times their unit."""
        y = np.empty((len(pixels), self.model.class_count), np.float32)
        self._network.forward(self._state, pixels, self._stage, y, threads)
        return y

    def evaluate_at(
        self,
        pixels: NDArray[Any],
        codes: NDArray[np.int32],
        indices: NDArray[np.intp] | None,
        threads: int,
    ) -> Evaluation:
        """As `Model.evaluate_at`, of the integers of the weights as they are now."""
        self.round()
        return evaluation_of(
            lambda part: self.logits(part, threads),
            *(pixels, codes, indices, self.model.classes),
            step=max(1, min(IMAGES_A_CALL, MAX_COPIED // pixels[0].nbytes)),
        )

    def loss_of_batch(
        self,
        pixels: NDArray[Any],
        indices: NDArray[np.intp],
        codes: NDArray[np.int32],
        gradient: Vector,
        threads: int,
        *,
        loss: Any = None,
        weights: Vector | None = None,
        smoothing: float = 0.0,
        mean_over: int = 0,
        add: bool = False,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
        measure: bool = False,
        ranks: Any = None,
    ) -> tuple[float, int]:
        """As `Model.loss_of_batch`, of the network in integers; no statistics move."""
        if not add and not self.round():
            return math.nan, 0
        found: tuple[float, int] = self._network.loss_and_gradient(
            self._state,
            pixels,
            self._stage,
            indices,
            codes,
            self._gradient,
            threads,
            weights=weights,
            smoothing=smoothing,
            mean_over=mean_over,
            add=add,
            augment=None if augment is None else self._augment(augment),
            seed=seed,
            epoch=epoch,
            loss=CROSS_ENTROPY if loss is None else loss.for_core(),
            ranks=ranks,
        )
        self._straight_through(gradient)
        return found

    def _augment(self, augment: Augment) -> tuple[float, ...]:
        """As the core wants it, with noise in units of the input."""
        deviation = self.model.stage.deviation * self.input_scale
        return augment.for_core(replace(self.model.stage, deviation=deviation))

    def _straight_through(self, gradient: Vector) -> None:
        """Write the gradient of the model's parameters: that of their integers, as if
        these were the parameters over their unit."""
        of, _ = views_of(lambda: gradient, self._shapes)
        scales = [self.input_scale]
        for number, layer in enumerate(self.layers):
            scale = scales[layer.step.sources[0]]
            scales.append(layer.scale)
            if layer.weight is None or layer.units is None:
                continue
            units, start = layer.units, self._weights[number]
            end = start + layer.weight.size
            dweight = self._gradient[start:end].reshape(len(units), -1)
            dweight = dweight / units[:, None]
            dbias = self._gradient[end : end + len(units)] / (units * scale)
            self._through_layer(layer.step, of, dweight, dbias)

    def _through_layer(
        self,
        step: Step,
        of: Parameters,
        dweight: NDArray[np.float64],
        dbias: NDArray[np.float64],
    ) -> None:
        """From the folded layer's gradient, (F, n) and (F,), to its parameters'."""
        name, parameters = step.name, self.model.parameters
        if step.kind == "subsample":
            of[f"{name}.weight"][:] = dweight[:, 0]
            of[f"{name}.bias"][:] = dbias
            return
        if step.kind == "scale":
            self._through_norm(name, of, dweight[:, 0], dbias, 0.0)
            return
        layer = self._walked[name]
        weight = parameters[f"{name}.weight"]
        full = weight
        if isinstance(layer, Conv2d):
            full = layer.with_zeros(weight, self._channels[name])
        dfull = dweight.reshape(full.shape)
        if (norm := self._norms.get(name)) is not None:
            bias: Any = parameters.get(f"{name}.bias", 0.0)
            products = (dfull * full).reshape(len(dbias), -1).sum(axis=1)
            scale = self._through_norm(str(norm.name), of, products, dbias, bias)
            dfull = dfull * scale.reshape(-1, *[1] * (full.ndim - 1))
            dbias = dbias * scale
        if isinstance(layer, Conv2d) and layer.connections is not None:
            dfull = dfull[layer.pairs]
        of[f"{name}.weight"][:] = dfull
        if f"{name}.bias" in of:
            of[f"{name}.bias"][:] = dbias

    def _through_norm(
        self,
        name: str,
        of: Parameters,
        dscale: NDArray[np.float64],
        dshift: NDArray[np.float64],
        before: Any,
    ) -> NDArray[np.float64]:
        """Write the gradient of a normalisation's weight and bias, from those of what
        it multiplies with and adds; return what it multiplies with."""
        model, norm = self.model, self._walked[name]
        assert isinstance(norm, BatchNorm2d)
        mean = model.buffers[f"{name}.running_mean"].astype(np.float64)
        variance = model.buffers[f"{name}.running_var"].astype(np.float64)
        inverse = 1 / np.sqrt(variance + norm.eps)
        of[f"{name}.weight"][:] = (dscale + (before - mean) * dshift) * inverse
        of[f"{name}.bias"][:] = dshift
        scale: NDArray[np.float64] = model.parameters[f"{name}.weight"] * inverse
        return scale

    def settle(self, threads: int) -> Rounding | None:
        """Give the model the weights that its integers stand for, and return what they
        were rounded to; None where weights are not finite."""
        self.measure(threads)
        if not self.round():
            return None
        model = self.model
        with model.gate:
            scales = [self.input_scale]
            for layer in self.layers:
                scale = scales[layer.step.sources[0]]
                scales.append(layer.scale)
                if layer.weight is not None:
                    self._settle_layer(layer, scale)
        return Rounding(self.bits, tuple(map(float, self.units)))

    def _settle_layer(self, layer: QuantizedLayer, scale: float) -> None:
        name, parameters = layer.step.name, self.model.parameters
        assert layer.weight is not None
        assert layer.bias is not None
        assert layer.units is not None
        units = layer.units
        weight = layer.weight.reshape(len(units), -1) * units[:, None]
        bias = layer.bias * (units * scale)
        if layer.step.kind == "subsample":
            parameters[f"{name}.weight"][:] = weight[:, 0]
            parameters[f"{name}.bias"][:] = bias
            return
        if layer.step.kind == "scale":
            self._settle_norm(name, weight[:, 0], bias, 0.0)
            return
        own = self._walked[name]
        old = parameters[f"{name}.weight"]
        norm = self._norms.get(name)
        if norm is not None:
            scales, _ = self._scale_and_mean(norm)
            safe = np.where(scales == 0, 1, scales)
            weight = weight / safe[:, None]
            before: Any = parameters.get(f"{name}.bias", 0.0)
            self._settle_norm(str(norm.name), None, bias, before)
        if isinstance(own, Conv2d) and own.connections is not None:
            full = own.with_zeros(old, self._channels[name])
            old[:] = weight.reshape(full.shape)[own.pairs]
        else:
            old[:] = weight.reshape(old.shape)
        if norm is None and f"{name}.bias" in parameters:
            parameters[f"{name}.bias"][:] = bias

    def _scale_and_mean(
        self, norm: BatchNorm2d
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What a normalisation multiplies with in prediction, and its mean."""
        model, name = self.model, norm.name
        variance = model.buffers[f"{name}.running_var"].astype(np.float64)
        scale = model.parameters[f"{name}.weight"] / np.sqrt(variance + norm.eps)
        return scale, model.buffers[f"{name}.running_mean"].astype(np.float64)

    def _settle_norm(
        self,
        name: str,
        scale: NDArray[np.float64] | None,
        shift: NDArray[np.float64],
        before: Any,
    ) -> None:
        """Weight and bias of a normalisation that adds `shift`, and multiplies with
        `scale` if that is given."""
        norm = self._walked[name]
        assert isinstance(norm, BatchNorm2d)
        if scale is not None:
            variance = self.model.buffers[f"{name}.running_var"].astype(np.float64)
            weight = scale * np.sqrt(variance + norm.eps)
            self.model.parameters[f"{name}.weight"][:] = weight
        scale, mean = self._scale_and_mean(norm)
        self.model.parameters[f"{name}.bias"][:] = shift - (before - mean) * scale


class _Nodes:
    """The core's nodes of a network in integers (core/places.py), as they are added."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.parameters = 0  # of all so far
        self.numbers = 0  # of `finish`, which lie behind all parameters

    def add(
        self, kind: str, before: Shape, after: Shape, name: str, **rest: Any
    ) -> None:
        nothing = dict.fromkeys(("activation", "below", "below_other"))
        never = dict.fromkeys(("needs_other", "adds", "adds_other", "folds"), False)
        self.nodes.append(
            {
                "kind": kind,
                "name": name,
                "input_shape": before,
                "output_shape": after,
                "source": len(self.nodes),
                "other": -1,
                "needs_dx": self.parameters > 0,
                **nothing,
                **never,
                **rest,
            }
        )

    def finish(
        self,
        mode: str,
        shape: Shape,
        name: str,
        numbers: int = 0,
        *,
        finishes: str | None = None,
        channels: int = 1,
        count: int = 1,
    ) -> None:
        """One of core/kinds/finish.pxd."""
        kind = "scaled_tanh" if finishes == "tanh_scaled" else finishes
        rest = {"mode": mode, "numbers": numbers, "channels": channels}
        rest |= {"finishes": kind, "count": float(count)}
        self.add("finish", shape, shape, f"{mode} of {name}", **rest)
        self.numbers += numbers

    def add_sums(self, step: Step) -> None:
        """What comes before 8 bits: exact as long as sums stay below 2^24."""
        before, after, name = step.input_shape, step.output_shape, step.name
        window: dict[str, Any] = {"stride": step.stride, "padding": step.padding}
        filters, kernel = after[0], math.prod(step.kernel)
        if step.kind == "conv":
            window |= {"kernel_size": step.kernel, "plain": True}
            self.add("conv2d", before, after, name, **window)
            self.parameters += filters * (before[0] * kernel + 1)
        elif step.kind == "scale":
            window |= {"kernel_size": step.kernel, "plain": True}
            window["connections"] = [[channel] for channel in range(filters)]
            self.add("conv2d", before, after, name, **window)
            self.parameters += 2 * filters
        elif step.kind == "subsample":
            window["kernel_size"] = step.kernel[0]
            self.add("subsampling2d", before, after, name, **window)
            self.parameters += 2 * filters
        elif step.kind == "avg_pool" and step.kernel == before[1:]:
            self.add("global_avg_pool2d", before, after, name)
        elif step.kind in ("avg_pool", "max_pool"):
            window["kernel_size"] = step.kernel[0]
            self.add(f"{step.kind}2d", before, after, name, **window)
        elif step.kind == "relu":
            self.add("relu", before, after, name)

    def add_finish(self, step: Step, last: bool) -> None:
        """What makes 8 bits of it, unless it has them."""
        shape, name, by = step.output_shape, step.name, step.activation
        filters = shape[0]
        if step.kind in ("conv", "scale", "subsample"):
            if not is_raw(step, last):
                self.finish(
                    *("rescale", shape, name, 2 * filters + 1),
                    finishes=by,
                    channels=filters,
                )
        elif step.kind in BY_TABLE:
            self.finish("rescale", shape, name, 3, finishes=step.kind)
        elif step.kind == "leaky":
            self.finish("leaky", shape, name, 3)
        elif step.kind == "avg_pool":
            mode = "sum" if last else "mean"
            self.finish(mode, shape, name, count=math.prod(step.kernel))
