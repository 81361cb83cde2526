"""Stored PyTorch runs: logits, then loss, then each gradient, then ten steps.

The stages are tests of their own, in this order, so the first that fails names what is
wrong. golden/make_golden.py writes the files, golden/cases.py says what is in them.
"""

from functools import cache

import numpy as np
import pytest

import lenet5c
from lenet5c import reference

from .golden import cases

# float32 against float64: errors relative to the scale of what is compared, each about
# five times what was found in practice.
LOGITS = 5e-6
GRADIENTS = 5e-5
STEPS = 5e-5
ROUNDING = 2**-24  # of a weight, at each step

KINDS = {
    "conv2d": lenet5c.Conv2d,
    "dense": lenet5c.Dense,
    "avg_pool2d": lenet5c.AvgPool2d,
    "max_pool2d": lenet5c.MaxPool2d,
    "tanh": lenet5c.Tanh,
    "relu": lenet5c.ReLU,
    "flatten": lenet5c.Flatten,
    "batch_norm2d": lenet5c.BatchNorm2d,
    "global_avg_pool2d": lenet5c.GlobalAvgPool2d,
}
READY_MADE = {
    "lenet5": lenet5c.lenet5,
    "mlp": lenet5c.mlp,
    "cnn3": lenet5c.cnn3,
}
SHAPES = {
    name: reference.parameter_shapes(case.layers, case.input_shape)
    for name, case in cases.CASES.items()
}
EVERY_CASE = pytest.mark.parametrize("name", cases.CASES)
EVERY_PARAMETER = pytest.mark.parametrize(
    ("name", "parameter"), [(n, p) for n in cases.CASES for p in SHAPES[n]]
)


@cache
def stored(name: str) -> dict[str, np.ndarray]:
    with np.load(cases.FOLDER / f"{name}.npz") as file:
        return dict(file)


def layers_of(described) -> list[lenet5c.layers.Layer]:
    """The layers of a case, branches and all."""
    layers = []
    for kind, options in described:
        if kind == "residual":
            branches = {branch: layers_of(options[branch]) for branch in options}
            layers.append(lenet5c.Residual(**branches))
        else:
            layers.append(KINDS[kind](**options))
    return layers


def build(name: str) -> lenet5c.Model:
    """The case's network with the case's parameters."""
    case = cases.CASES[name]
    if name in READY_MADE:
        model = READY_MADE[name]()
    else:
        model = lenet5c.Model(
            layers_of(case.layers),
            input_shape=case.input_shape,
            classes=case.classes,
        )
    for parameter, values in cases.parameters(case, SHAPES[name]).items():
        model.parameters[parameter][...] = values
    return model


@cache
def loss_and_gradients(name: str) -> tuple[float, dict[str, np.ndarray]]:
    images, labels = cases.images_and_labels(cases.CASES[name])
    return build(name).loss_and_gradients(images, labels)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def projection_error(name: str, parameter: str, found, expected) -> float:
    """Largest error of the projections, brought to the scale of one entry."""
    error = np.abs(cases.project(cases.CASES[name], parameter, found) - expected).max()
    return float(error / np.sqrt(found.size))


@EVERY_CASE
def test_reference_agrees_with_pytorch(name):
    case, expected = cases.CASES[name], stored(name)
    parameters = cases.parameters(case, SHAPES[name])
    images, labels = cases.images_and_labels(case)
    logits = reference.network_forward(case.layers, parameters, images)[-1]
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-12)
    loss = reference.network_loss(case.layers, parameters, images, labels)
    assert loss == pytest.approx(float(expected["loss"]), rel=1e-13)
    gradients, _ = reference.network_gradients(case.layers, parameters, images, labels)
    for parameter, gradient in gradients.items():
        first = expected[f"gradient/{parameter}/first"]
        np.testing.assert_allclose(gradient.ravel()[: cases.FIRST], first, atol=1e-13)
        projection = expected[f"gradient/{parameter}/projection"]
        found = cases.project(case, parameter, gradient)
        np.testing.assert_allclose(found, projection, rtol=0, atol=1e-11)


@EVERY_CASE
def test_parameters_have_the_usual_names_and_shapes(name):
    parameters = build(name).parameters
    assert {key: value.shape for key, value in parameters.items()} == SHAPES[name]
    assert {value.dtype for value in parameters.values()} == {np.dtype(np.float32)}


@EVERY_CASE
def test_logits(name):
    images, _ = cases.images_and_labels(cases.CASES[name])
    expected = stored(name)["logits"]
    found = build(name).forward(images)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < LOGITS


@EVERY_CASE
def test_loss(name):
    loss, _ = loss_and_gradients(name)
    assert loss == pytest.approx(float(stored(name)["loss"]), rel=LOGITS)


@EVERY_PARAMETER
def test_gradient(name, parameter):
    gradient = loss_and_gradients(name)[1][parameter]
    assert gradient.shape == SHAPES[name][parameter]
    first = stored(name)[f"gradient/{parameter}/first"]
    error = np.abs(gradient.ravel()[: cases.FIRST] - first).max()
    assert error < GRADIENTS * rms(first)
    projection = stored(name)[f"gradient/{parameter}/projection"]
    error = projection_error(name, parameter, gradient, projection)
    assert error < GRADIENTS * rms(first)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chosen", cases.OPTIMIZERS)
@EVERY_CASE
def test_ten_steps(name, chosen, threads):
    case, expected = cases.CASES[name], stored(name)
    options = cases.OPTIMIZERS[chosen]
    kind = lenet5c.AdamW if chosen == "adamw" else lenet5c.SGD
    rates = cases.rates(case, chosen)
    # the first rate is the optimizer's own, the others come with the call
    optimizer = kind(rates[0], **options)
    model = build(name)
    images, labels = cases.images_and_labels(case)
    for step in range(cases.STEPS):
        at = cases.batch(case, step)
        loss = model.train_step(
            images[at],
            labels[at],
            optimizer,
            learning_rate=rates[step] if step else None,
            threads=threads,
        )
        wanted = expected[f"{chosen}/losses"][step]
        assert loss == pytest.approx(wanted, rel=STEPS), f"loss of step {step + 1}"
        for parameter, values in model.parameters.items():
            projection = expected[f"{chosen}/{parameter}"][step]
            start = cases.parameters(case, {parameter: values.shape})[parameter]
            error = projection_error(name, parameter, values, projection)
            bound = STEPS * rms(values - start) + ROUNDING * rms(values) * (step + 1)
            assert error < bound, f"{parameter} after step {step + 1}"
    if chosen == next(iter(cases.OPTIMIZERS)):
        for buffer, values in model.buffers.items():
            wanted = expected[f"buffers/{buffer}"]
            np.testing.assert_allclose(values, wanted, rtol=STEPS, atol=STEPS)
