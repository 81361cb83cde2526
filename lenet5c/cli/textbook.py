"""Layers and networks of a core, compared with the textbook in float64.

Each check goes through all of its cases, and returns the largest error found or raises
`Wrong`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c import reference
from lenet5c._support.cores import core
from lenet5c.data.images import InputStage
from lenet5c.graph import for_core, lower
from lenet5c.layers import (
    LAYERS,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
    layer_to_dict,
    walk,
)
from lenet5c.layers.base import Shape
from lenet5c.model import Model
from lenet5c.networks import lenet5, lenet5_1998, mlp

__all__ = [
    "OUTPUT",
    "SMALL",
    "Wrong",
    "as_reference",
    "check_layers",
    "check_networks",
    "error_of",
    "small_case",
]

IMAGES = 19  # more than a block of any core, and the last one is not full
# Errors of float32, some times the largest found: of outputs, by the largest of them;
# of a gradient, by the products that it adds up; of a loss.
OUTPUT = 2e-5
GRADIENT = 2e-5
LOSS = 1e-5
WEIGHT = 1e-6


class Wrong(Exception):
    """What was computed is not what it should be."""


Values = Mapping[str, NDArray[np.float64]]
Gradients = Mapping[str, NDArray[np.float32]]
Truth = tuple[float, Values, Values]  # loss, gradients, their magnitudes


class Case(NamedTuple):
    """A network of random parameters, images for it, and what float64 makes of them.

    layers, values, x : the same network and images for `reference`
    logits : (N, classes)
    """

    name: str
    model: Model
    images: NDArray[Any]
    labels: NDArray[np.int32]
    layers: reference.Layers
    values: Values
    x: NDArray[np.float64]
    logits: NDArray[np.float64]


# Together they have every kind of layer: layers, input (C, H, W).
SMALL: dict[str, tuple[Sequence[Layer], Shape]] = {
    "convolutions": (
        [
            *(Conv2d(33, 5, padding=2), ReLU(), Conv2d(9, 3, padding=1), Tanh()),
            *(Conv2d(3, (2, 4), bias=False), Sigmoid(), Dense(3)),
        ],
        (3, 9, 21),
    ),
    "strides": (
        [Conv2d(5, (3, 2), padding=1), Tanh(), Conv2d(7, 3, stride=2, padding=2)],
        (2, 7, 5),
    ),
    "tables": (
        [
            *(Conv2d(4, 3, connections=[[1], [0, 2], [0, 1, 2], [1, 2]]), Tanh()),
            Conv2d(3, 2, padding=1, connections=[[0], [1, 3], [2, 3]]),
        ],
        (3, 6, 15),
    ),
    "average pooling": (
        [
            *(Conv2d(6, 3), LeakyReLU(0.3), AvgPool2d(2), Conv2d(17, 2), ReLU()),
            *(AvgPool2d(3, 1), Flatten(), Dense(3)),
        ],
        (2, 12, 13),
    ),
    "maximum pooling": (
        [
            *(Conv2d(6, 3), MaxPool2d(2), Conv2d(17, 2), Tanh()),
            *(MaxPool2d(3, 2, padding=1), Dense(3)),
        ],
        (2, 13, 11),
    ),
    "subsampling": (
        [
            *(Conv2d(17, 3), ScaledTanh(), Subsampling2d(2), ScaledTanh()),
            *(Conv2d(3, 2), Subsampling2d(3, 1), Tanh(), Dense(3)),
        ],
        (2, 11, 12),
    ),
    "global pooling": (
        [Conv2d(19, 2), Sigmoid(), GlobalAvgPool2d(), Dense(4), LeakyReLU(0.2)],
        (2, 5, 7),
    ),
    "dense layers": (
        [Dense(33), Tanh(), Dense(18), ReLU(), Dense(7), ScaledTanh(), RadialBasis(5)],
        (1, 5, 7),
    ),
    "dropout": ([Dense(40), Dropout(0.4, name="DROPOUT"), Dense(4)], (1, 5, 6)),
    "normalisation and residuals": (
        [
            *(Conv2d(16, 3, padding=1, bias=False), BatchNorm2d(eps=0.3), ReLU()),
            Residual(
                [
                    *(Conv2d(16, 3, padding=1), BatchNorm2d(eps=0.3), Tanh()),
                    Conv2d(16, 3, padding=1),
                ]
            ),
            Residual(
                [Conv2d(7, 3, stride=2, padding=1), ReLU(), Conv2d(7, 1)],
                [Conv2d(7, 1, stride=2), BatchNorm2d(eps=0.3)],
            ),
            *(Tanh(), GlobalAvgPool2d(), Dense(3)),
        ],
        (2, 9, 10),
    ),
}


def _residual() -> Model:
    """Blocks as those of ResNet-18, wide enough for all that is done to them."""
    layers: list[Layer] = [Conv2d(64, 3, padding=1, bias=False), BatchNorm2d(), Tanh()]
    for filters, stride in ((64, 1), (70, 2)):
        body = [
            *(Conv2d(filters, 3, stride=stride, padding=1), BatchNorm2d(), Tanh()),
            *(Conv2d(filters, 3, padding=1), BatchNorm2d()),
        ]
        shortcut = [Conv2d(filters, 1, stride=stride), BatchNorm2d()]
        layers += [Residual(body, shortcut if stride > 1 else ()), Tanh()]
    layers += [GlobalAvgPool2d(), Dense(10)]
    return Model(layers, input_shape=(3, 14, 12))


def _like_cnn3() -> Model:
    """Its convolutions."""
    layers: list[Layer] = []
    for filters in (32, 64):
        layers += [Conv2d(filters, 3), Tanh(), AvgPool2d(2)]
    layers += [Conv2d(128, 3), Tanh(), Dense(10)]
    return Model(layers, input_shape=(1, 28, 28))


# And how many images. They have neither ReLU nor maximum pooling, but for a few units:
# where two numbers are the same but for rounding, a gradient may go either way.
LARGE: dict[str, tuple[Callable[[], Model], int]] = {
    "lenet5": (lenet5, 37),
    "lenet5, an image alone": (lenet5, 1),
    "lenet5, three images": (partial(lenet5, activation="sigmoid"), 3),
    "lenet5-1998": (lenet5_1998, 5),
    "lenet5, normalised": (partial(lenet5, batch_norm=True), 18),
    "three microbatches": (
        partial(Model, [Conv2d(3, 3), Tanh(), Dense(10)], input_shape=(1, 8, 9)),
        600,
    ),
    "mlp": (mlp, 18),
    "mlp, wide": (partial(mlp, hidden=400), 18),
    "residual blocks": (_residual, 19),
    "like cnn3": (_like_cnn3, 3),
    "like cnn3, a block": (_like_cnn3, 9),
}


@cache
def small_case(name: str) -> Case:
    layers, shape = SMALL[name]
    *_, (_, _, last) = walk(layers, shape)
    model = Model(layers, input_shape=shape, classes=math.prod(last), seed=1)
    rng = np.random.default_rng(len(name))
    model.set_input(InputStage(0.45, 0.3), shape[1:], np.arange(model.class_count))
    images = rng.integers(0, 256, (IMAGES, *shape), np.uint8)
    return _case(name, model, images, (images / 255 - 0.45) / 0.3)


def _large(name: str) -> Case:
    make, count = LARGE[name]
    model = make()
    model.set_input(InputStage(), model.input_shape[1:], np.arange(10))
    rng = np.random.default_rng(len(name))
    images = rng.normal(size=(count, *model.input_shape)).astype(np.float32)
    return _case(name, model, images, images.astype(np.float64))


def _case(
    name: str, model: Model, images: NDArray[Any], x: NDArray[np.float64]
) -> Case:
    rng = np.random.default_rng(len(name))
    for value in model.parameters.values():
        if value.ndim == 1:  # biases, and the weights of a normalisation
            value += rng.uniform(-0.3, 0.3, value.shape).astype(np.float32)
    for key, value in model.buffers.items():
        if "running" in key:
            value += rng.uniform(0, 0.5, value.shape).astype(np.float32)
    labels = rng.integers(0, model.class_count, len(images), np.int32)
    layers = as_reference(model.layers)
    tensors = {**model.parameters, **model.buffers}
    values = {key: value.astype(np.float64) for key, value in tensors.items()}
    logits = reference.network_forward(layers, values, x)[-1].reshape(len(x), -1)
    return Case(name, model, images, labels, layers, values, x, logits)


def as_reference(layers: Sequence[Layer]) -> list[tuple[str, dict[str, Any]]]:
    """The layers as `reference` takes a network."""
    found = []
    for layer in layers:
        options = layer_to_dict(layer)
        for branch in ("layers", "shortcut") if isinstance(layer, Residual) else ():
            options[branch] = as_reference(getattr(layer, branch))
        found.append((options.pop("kind"), options))
    return found


def _kinds(case: Case) -> set[str]:
    walked = walk(case.model.layers, case.model.input_shape)
    return {layer.kind for layer, *_ in walked}


def _goes(case: Case, way: str) -> bool:
    """Whether the core has this way for such a network."""
    walked = walk(case.model.layers, case.model.input_shape)
    strides = any(isinstance(of, Conv2d) and of.stride > 1 for of, *_ in walked)
    together = bool(_kinds(case) & {"batch_norm2d", "residual"})
    return way == "layerwise" or not (together or (way == "imagewise" and strides))


def check_layers(way: str) -> str:
    """Every kind of layer, forward and every gradient."""
    worst = 0.0
    known = set[str]().union(*(_kinds(small_case(name)) for name in SMALL))
    if missing := LAYERS.keys() - known:
        raise Wrong(f"no network here has the kind {', '.join(sorted(missing))}")
    for name in SMALL:
        if _goes(small_case(name), way):
            worst = max(worst, *_errors_of(name, way))
    return f"largest error {worst:.2f} of what is allowed"


def _errors_of(name: str, way: str) -> Iterator[float]:
    case = small_case(name)
    model, shape = case.model, case.model.input_shape
    nodes = for_core(lower(model.layers, shape, training=True))
    images = IMAGES if way == "imagewise" else 0
    network = core.Network(nodes, shape, way == "layerwise", images=images)
    given = model.state_vector, case.images, model.stage.for_core()
    if not images:
        logits = np.full(case.logits.shape, np.nan, np.float32)
        network.forward(*given, logits, 1)
        yield error_of(f"{case.name}: outputs", logits, case.logits, OUTPUT)

    def trained_on(batch: NDArray[np.intp]) -> tuple[float, Gradients]:
        gradient = np.full(model.parameter_count, np.nan, np.float32)
        loss, _ = network.loss_and_gradient(*given, batch, case.labels, gradient, 1)
        ends = np.cumsum([value.size for value in model.parameters.values()])
        parts = np.split(gradient, ends[:-1])
        shaped = zip(model.parameters.items(), parts, strict=True)
        return loss, {key: part.reshape(value.shape) for (key, value), part in shaped}

    if "dropout" not in _kinds(case):
        yield from _errors(case, *trained_on(np.arange(IMAGES)), _small_truth(name))
        return
    kept = []  # what is left out is seen in the gradient of one image
    for n in range(IMAGES):
        loss, found = trained_on(np.array([n]))
        mask = (found["dense_2.weight"] != 0).any(axis=0) / 0.6
        kept.append((mask > 0).mean())
        truth = _truth(case, n, {"DROPOUT.mask": mask[np.newaxis]})
        yield from _errors(case, loss, found, truth)
    yield error_of("dropout: share kept", np.mean(kept), np.array(0.6), 0.1)


def _truth(case: Case, n: int | None = None, masks: Values | None = None) -> Truth:
    """Of all images, or of image n."""
    some = slice(n, None if n is None else n + 1)
    values = {**case.values, **(masks or {})}
    given = case.layers, values, case.x[some], case.labels[some]
    return reference.network_loss(*given), *reference.network_gradients(*given)


@cache
def _small_truth(name: str) -> Truth:
    return _truth(small_case(name))


def _errors(case: Case, loss: float, found: Gradients, truth: Truth) -> Iterator[float]:
    """Of the loss and each gradient."""
    expected, gradients, magnitudes = truth
    what = f"{case.name}: loss"
    yield error_of(what, np.array(loss), np.array(expected), LOSS, 1 + expected)
    for key, gradient in gradients.items():
        scale = magnitudes[key] + magnitudes[key].mean()
        what = f"{case.name}: gradient of {key}"
        yield error_of(what, found[key], gradient, GRADIENT, scale)


def error_of(
    what: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    allowed: float,
    scale: Any = None,
) -> float:
    """The largest error, as a share of what is allowed; NaN is wrong, too.

    `scale` is what errors are measured by, None for the largest number expected.
    """
    by = np.abs(expected).max() if scale is None else scale
    error = float((np.abs(found - expected) / by).max())
    if not error <= allowed:
        raise Wrong(f"{what}: an error of {error:.1e}, at most {allowed:.0e} expected")
    return error / allowed


def check_networks() -> str:
    worst = 0.0
    for name in LARGE:
        case = _large(name)
        case.model._engine.forced = "core"
        logits = case.model.forward(case.images)
        worst = max(worst, error_of(f"{name}: outputs", logits, case.logits, OUTPUT))
        trained = case.model.loss_and_gradients(case.images, case.labels)
        worst = max(worst, *_errors(case, *trained, _truth(case)))
    return f"largest error {worst:.2f} of what is allowed"
