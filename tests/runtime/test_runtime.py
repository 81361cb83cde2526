"""The C runtime, lenet5c.c, against the package: same results, same refusals.

As a program (`PYTHONPATH=tests python tests/runtime/test_runtime.py FOLDER`) it writes
small models, which the fuzzer starts from: fuzz_lenet5c.c.
"""

import ctypes
import json
import os
import random
import re
import shutil
import sys
import threading
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_runtime import (
    CC,
    FLAGS,
    SOURCE,
    TEXTS,
    Layout,
    Opened,
    Runtime,
    assemble,
    both_open,
    changed_headers,
    changed_texts,
    package_opens,
    put_together,
    randomised,
    run,
    taken_apart,
)

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    Model,
    RadialBasis,
    ReLU,
    Residual,
    Sigmoid,
    Tanh,
    reference,
)
from lenet5c.cli.textbook import as_reference
from lenet5c.data.images import InputStage
from lenet5c.layers import LAYERS
from lenet5c.layers.listed import INITIAL

FUZZ = Path(__file__).with_name("fuzz_lenet5c.c")
NM = shutil.which("nm")
BUILDS = {  # how the code is compiled
    "best": ["-O2"],
    "avx2": ["-O1", "-DLENET5C_MAX_LANES=max_lanes"],
    "portable": ["-O3", "-DLENET5C_PORTABLE"],
    "wide": ["-O1", "-DLENET5C_PORTABLE", "-DLENET5C_LANES=16", "-Wno-psabi"],
    "scalar": ["-O0", "-DLENET5C_SCALAR"],
}
CODES = {
    name: int(code)
    for name, code in re.findall(
        r"LENET5C_(\w+) = (-?\d+)", SOURCE.with_suffix(".h").read_text()
    )
}

pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime")
    Path(folder, "max_lanes.c").write_text("int max_lanes = 8;\n")
    return folder


def shared_object(folder: Path, name: str) -> Runtime:
    path = folder / f"{name}.so"
    if not path.exists():
        sources = [SOURCE, folder / "max_lanes.c"]
        run(CC, *FLAGS, *BUILDS[name], "-shared", *sources, "-o", path)
    return Runtime(path)


@pytest.fixture(scope="module", params=BUILDS)
def runtime(request: pytest.FixtureRequest, folder: Path) -> Runtime:
    return shared_object(folder, request.param)


@pytest.fixture(scope="module")
def best(folder: Path) -> Runtime:
    return shared_object(folder, "best")


def saved(model: Model) -> bytes:
    model.save("model.lenet5c")
    return Path("model.lenet5c").read_bytes()


def logits_of(model: Model, images: np.ndarray) -> np.ndarray:
    """By the core: `model.forward` may be the runtime itself."""
    last = model.layers[-1].name
    assert last is not None
    return model.activations(images, last).reshape(len(images), -1)


def assert_same(model: Model, opened: Opened, images: np.ndarray) -> None:
    expected = logits_of(model, images)
    classes, probabilities, logits = opened.predict(images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * scale)
    softmax = np.exp(expected.astype(float) - expected.max(1, keepdims=True))
    softmax /= softmax.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, softmax, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(classes, logits.argmax(axis=1))


# Results.

NETWORKS: dict[str, tuple[list[Any], tuple[int, int, int]]] = {
    "lenet5": (list(lenet5c.lenet5().layers), (1, 32, 32)),
    "lenet5, colour": (
        list(lenet5c.lenet5(channels=3, activation="relu", pooling="max").layers),
        (3, 32, 32),
    ),
    "mlp": (list(lenet5c.mlp().layers), (1, 28, 28)),
    "cnn3": (list(lenet5c.cnn3().layers), (1, 28, 28)),
    "one dense": ([Dense(2)], (1, 1, 1)),
    "tables": (
        [
            *(Conv2d(6, 5), Tanh()),
            Conv2d(35, 5, connections=[[f % 6] for f in range(35)]),  # pairs of rows
            *(ReLU(), AvgPool2d(2)),
            Conv2d(3, 3, padding=1, stride=2, connections=[[0, 34], [7], [20, 30]]),
            Conv2d(9, (2, 3), bias=False, connections=[[0], [1, 2], [2]] * 3),
        ],
        (2, 16, 20),
    ),
    "no parameters": ([AvgPool2d(3, 2), Tanh(), Flatten()], (2, 7, 3)),
    "flatten first": ([Flatten(), ReLU(), Dropout(0.5), Dense(7)], (3, 5, 4)),
    "flatten between": (
        [Conv2d(5, 3), Flatten(), Tanh(), Conv2d(9, 1), MaxPool2d(1), Dense(3)],
        (2, 6, 9),
    ),
    "activations only": ([Tanh(), ReLU(), Tanh()], (1, 2, 3)),
    "activation after pooling": (
        [Conv2d(8, 3), MaxPool2d(3, 1), ReLU(), Conv2d(4, (4, 5)), Flatten()],
        (1, 8, 9),
    ),
    "stride and padding": (
        [
            Conv2d(7, (3, 5), stride=2, padding=2),
            ReLU(),
            Conv2d(17, 3, stride=3, padding=1),
            Tanh(),
            Dense(11),
        ],
        (3, 19, 23),
    ),
    "padding of rows": (
        [Conv2d(3, 5, padding=2), Tanh(), Conv2d(2, 3, padding=3), Dense(4)],
        (1, 30, 41),
    ),
    "strides larger than any map": (
        [
            Conv2d(2100, 1, stride=1 << 20),
            Conv2d(5, 1, stride=1 << 20, padding=1),
            AvgPool2d(1, 1 << 20),
            MaxPool2d(1, 1 << 20),
        ],
        (1, 3, 4),
    ),
    "wide kernels": (
        [Conv2d(19, (1, 11)), ReLU(), Conv2d(33, (6, 1)), Dense(5)],
        (4, 6, 21),
    ),
    "pairs of rows": (
        [Conv2d(7, 5), Tanh(), Conv2d(9, (5, 3)), ReLU(), Dense(6)],
        (4, 15, 13),
    ),
    "distances": ([Conv2d(5, 2), Sigmoid(), RadialBasis(19), Dense(3)], (2, 4, 6)),
    "many outputs": ([Dense(199), Tanh(), Dense(131)], (1, 5, 5)),
    "pooling of rows": (
        [
            Conv2d(2, 1),
            Tanh(),
            MaxPool2d(2),
            AvgPool2d(3, 2),
            AvgPool2d(2, 1),
            Dense(3),
        ],
        (1, 24, 70),
    ),
}


def model_of(layers: list[Any], shape: tuple[int, int, int], seed: int) -> Model:
    last = shape
    for layer in layers:
        last = layer.output_shape(last)
    classes = int(np.prod(last))
    return randomised(
        Model(layers, input_shape=shape, classes=classes, seed=seed), seed
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_same_logits_as_the_core(runtime: Runtime, name: str) -> None:
    model = model_of(*NETWORKS[name], seed=5)
    opened = runtime.open(saved(model))
    rng = np.random.default_rng(7)
    shape = (3, *model.input_shape)
    assert_same(model, opened, rng.integers(0, 256, shape).astype(np.uint8))
    assert_same(model, opened, rng.normal(size=shape).astype(np.float32))


SHARED = {  # networks that take several images at once
    **{
        f"{n} and {n + 35} outputs": (
            [Dense(n), Tanh(), Dense(n + 35), ReLU(), Dense(3)],
            (1, 5, 7),
        )
        for n in (65, 80, 97, 129, 145, 255, 300)
    },
    **{
        f"{n} outputs of 399 inputs": ([Dense(n), Tanh(), Dense(2)], (1, 19, 21))
        for n in (1, 2, 3, 4, 5, 7, 10, 13)
    },
    "distances": ([Dense(70), Sigmoid(), RadialBasis(19)], (1, 5, 7)),
    "many weights after a convolution": (
        [Conv2d(2, 3), ReLU(), Dense(700), Tanh(), Dense(5)],
        (1, 12, 12),
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_images_have_the_same_bits_in_any_number(runtime: Runtime, name: str) -> None:
    """Dense layers read their weights once for several images."""
    model = model_of(*SHARED[name], seed=len(name))
    opened = runtime.open(saved(model))
    shape = (17, *model.input_shape)
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert_same(model, opened, images)
    alone = np.concatenate([opened.predict(images[n : n + 1])[2] for n in range(17)])
    for count in range(1, 18):
        np.testing.assert_array_equal(opened.predict(images[:count])[2], alone[:count])


def nested(depth: int) -> list[Any]:
    """Residual layers inside of each other, every second with a shortcut."""
    layers: list[Any] = [Conv2d(3, 3, padding=1), BatchNorm2d()]
    for level in range(depth):
        shortcut = [Conv2d(3, 1)] if level % 2 else []
        layers = [Residual([*layers, Tanh()], shortcut)]
    return [*layers, ReLU(), Dense(3)]


BRANCHING: dict[str, tuple[list[Any], tuple[int, int, int]]] = {
    "folded": (
        [
            *(Conv2d(5, 3, bias=False), BatchNorm2d(), ReLU()),
            *(Conv2d(9, 3, padding=1), BatchNorm2d(), Tanh()),
            *(Dense(7), BatchNorm2d(), Dense(3)),
        ],
        (2, 9, 8),
    ),
    "normalisation after other layers": (
        [
            *(BatchNorm2d(), Tanh(), Conv2d(17, 3, padding=1), MaxPool2d(3, 2, 1)),
            *(BatchNorm2d(), ReLU(), GlobalAvgPool2d(), Dense(4)),
        ],
        (3, 7, 9),
    ),
    "narrowing": (
        [
            Conv2d(8, 3, padding=1),
            Residual([Conv2d(8, 3, padding=1, bias=False), BatchNorm2d()]),
            ReLU(),
            Residual(
                [Conv2d(20, 3, stride=2, padding=1), ReLU(), Conv2d(20, 3, padding=1)],
                [Conv2d(20, 1, stride=2, bias=False), BatchNorm2d()],
            ),
            *(Tanh(), GlobalAvgPool2d(), Dense(3)),
        ],
        (1, 12, 11),
    ),
    "what others read is not written over": (
        [
            Residual([ReLU()]),
            Residual([Dropout(0.5)], [Dropout(0.5)]),
            Residual([Tanh(), Residual([ReLU(), BatchNorm2d()], [Tanh()])]),
            Dense(3),
        ],
        (2, 5, 3),
    ),
    "flattened branches": (
        [Residual([Flatten(), Dense(30)], [Flatten()]), BatchNorm2d(), Dense(3)],
        (2, 5, 3),
    ),
    "maps in rows and in pixels": (
        [
            Conv2d(2, 5, padding=2),
            Residual([Conv2d(2, 5, padding=2)], [Conv2d(2, 1)]),
            Residual([ReLU(), Conv2d(2, 5, padding=2)]),
            Residual([MaxPool2d(3, 1, 1)]),
            *(MaxPool2d(2, 1, 1), BatchNorm2d(), Dense(4)),
        ],
        (1, 30, 41),
    ),
    "kernels larger than their maps": (
        [
            *(Conv2d(33, 3, padding=1), Conv2d(5, 7, padding=3)),
            *(Conv2d(5, 5, stride=2, padding=3), Conv2d(4, (3, 1), padding=1)),
            Dense(3),
        ],
        (3, 1, 2),
    ),
    "kernels that meet the padding alone": (
        [Conv2d(6, 3, stride=3, padding=4), Conv2d(4, 1, stride=9, padding=2)],
        (3, 1, 1),
    ),
    "nested": (nested(8), (3, 4, 5)),
}


def branching_model(name: str) -> Model:
    layers, shape = BRANCHING[name]
    model = model_of(layers, shape, 3)
    rng = np.random.default_rng(4)
    for views in (model.parameters, model.buffers):
        for value in views.values():
            if value.ndim == 1:
                value[:] = rng.uniform(0.2, 2, value.shape)
    return model


@pytest.mark.parametrize("name", BRANCHING)
def test_branches_and_normalisation_as_in_numpy(runtime: Runtime, name: str) -> None:
    model = branching_model(name)
    shape = (3, *model.input_shape)
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    maps = reference.network_forward(
        as_reference(model.layers), {**model.parameters, **model.buffers}, images
    )
    expected = maps[-1].reshape(3, -1)
    found = runtime.open(saved(model)).predict(images)[2]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("name", ["narrowing", "folded", "nested"])
def test_the_same_branches_are_refused(best: Runtime, name: str) -> None:
    content = saved(branching_model(name))
    opened = [both_open(best, one) for one in changed_headers(content, 150, seed=5)]
    assert any(opened)
    assert not all(opened)


def test_residual_layers_nine_deep_are_refused(best: Runtime) -> None:
    model = model_of(nested(8), (3, 4, 5), 3)
    header, payload = taken_apart(saved(model))
    layers = header["__metadata__"]["network"]["layers"]
    layers[0] = {"kind": "residual", "name": "R", "layers": layers[:1], "shortcut": []}
    assert not both_open(best, put_together(header, payload))


def random_network(seed: int) -> Model:
    rng = random.Random(seed)
    choices: list[Callable[[], Any]] = [
        lambda: Conv2d(
            rng.randint(1, 40),
            (rng.randint(1, 6), rng.randint(1, 6)),
            stride=rng.choice([1, 1, 2, 3]),
            padding=rng.choice([0, 0, 1, 4]),
        ),
        lambda: AvgPool2d(rng.randint(1, 3), rng.choice([None, 1, 2, 4])),
        lambda: MaxPool2d(rng.randint(1, 3), rng.choice([None, 1, 2, 4])),
        lambda: Dense(rng.randint(1, 140)),
        Tanh,
        ReLU,
        Flatten,
        lambda: Dropout(0.25),
    ]
    while True:
        shape = rng.randint(1, 4), rng.randint(1, 24), rng.randint(1, 40)
        layers = [rng.choice(choices)() for _ in range(rng.randint(1, 6))]
        if rng.random() < 0.8:
            layers.append(Dense(rng.randint(2, 20)))
        try:
            model = model_of(layers, shape, seed)
        except ValueError:  # a kernel larger than its map, or one class
            continue
        if model.class_count <= 2000:
            return model


def test_same_logits_of_random_networks(runtime: Runtime) -> None:
    for seed in range(100):
        model = random_network(seed)
        rng = np.random.default_rng(seed)
        channels, height, width = model.input_shape
        size = rng.integers(1, height + 1), rng.integers(1, width + 1)
        images = rng.integers(0, 256, (2, channels, *size)).astype(np.uint8)
        opened = runtime.open(saved(model))
        assert_same(model, opened, images)
        assert_same(model, opened, images.astype(np.float32) / 100)


def test_images_are_read_where_they_lie(runtime: Runtime) -> None:
    model = randomised(lenet5c.lenet5(channels=3), 1)
    opened = runtime.open(saved(model))
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (4, 100, 120, 3)).astype(np.uint8)
    for images in (
        frames[:, 10:41, 50:80].transpose(0, 3, 1, 2),  # interleaved, cropped
        frames[:, 40:8:-1, 79:50:-1, ::-1].transpose(0, 3, 1, 2),  # turned, BGR
        frames[::2, 10:70:2, 50:110:2].transpose(0, 3, 1, 2),  # every second pixel
        np.ascontiguousarray(frames[:, :32, :32].transpose(0, 3, 1, 2))[:, :, 3:, 1:],
    ):
        floats = (images / np.float32(255)).astype(np.float32)
        for given in (images, floats):
            expected = opened.predict(np.ascontiguousarray(given))
            for found, wanted in zip(opened.predict(given), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
            assert_same(model, opened, given)


def test_steps_of_zero_are_images_without_gaps(best: Runtime) -> None:
    opened = best.open(saved(randomised(lenet5c.lenet5(channels=2), 1)))
    images = np.random.default_rng(2).integers(0, 256, (3, 2, 28, 20)).astype(np.uint8)
    found = opened.predict(images, steps=(0, 0, 0, 0))
    np.testing.assert_array_equal(found[2], opened.predict(images)[2])


def test_classify_takes_an_image_of_the_size_of_the_training_images(
    best: Runtime,
) -> None:
    model = randomised(lenet5c.lenet5(channels=2), 1)
    model.set_input(model.stage, (20, 30), model.classes)
    opened = best.open(saved(model))
    workspace = np.empty(opened.size, np.uint8)
    images = np.random.default_rng(2).integers(0, 256, (9, 2, 20, 30)).astype(np.uint8)
    found = [
        best.c.lenet5c_classify(opened.model, workspace.ctypes.data, image.ctypes.data)
        for image in images
    ]
    np.testing.assert_array_equal(found, opened.predict(images)[0])


def test_memory_and_workspace_may_be_of_any_alignment(runtime: Runtime) -> None:
    model = randomised(lenet5c.lenet5(), 1)
    content = saved(model)
    opened = runtime.open(content)
    images = np.random.default_rng(2).integers(0, 256, (2, 1, 28, 28)).astype(np.uint8)
    expected = opened.predict(images)[2]
    needed = ctypes.c_size_t()
    code = runtime.c.lenet5c_memory_size(content, len(content), ctypes.byref(needed))
    assert code == 0
    assert needed.value < 2 * len(content)
    for shift in (0, 1, 4, 31, 63):
        np.testing.assert_array_equal(opened.predict(images, shift=shift)[2], expected)
        memory = np.full(needed.value + 128, 0xAA, np.uint8)
        place = memory.ctypes.data + shift

        def open_in(size: int, place: int = place) -> tuple[int, ctypes.c_void_p]:
            made = ctypes.c_void_p(1)
            code = runtime.c.lenet5c_open_in(
                content, len(content), place, size, ctypes.byref(made)
            )
            return code, made

        code, made = open_in(needed.value - 1)
        assert (code, made.value) == (CODES["NO_MEMORY"], None)
        assert (memory == 0xAA).all()
        code, made = open_in(needed.value)
        assert code == 0
        assert (memory[:shift] == 0xAA).all()
        assert (memory[shift + needed.value :] == 0xAA).all()
        inside = Opened(runtime, made)
        np.testing.assert_array_equal(inside.predict(images)[2], expected)
        del inside  # before its memory


def test_threads_share_a_model(best: Runtime) -> None:
    """8 threads, 10,000 images each."""
    opened = best.open(saved(randomised(lenet5c.lenet5(), 1)))
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (1000, 1, 28, 28)).astype(np.uint8)
    expected = opened.predict(images)[1].tobytes()
    same: list[bool] = []

    def predict() -> None:
        same.extend(opened.predict(images)[1].tobytes() == expected for _ in range(10))

    threads = [threading.Thread(target=predict) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 80


def test_pixels_that_are_not_finite_do_no_harm(runtime: Runtime) -> None:
    opened = runtime.open(saved(randomised(lenet5c.lenet5(), 1)))
    images = np.zeros((3, 1, 32, 32), np.float32)
    images[0, 0, 5, 5], images[1, 0, 7], images[2] = np.nan, np.inf, -np.inf
    for image in images:
        opened.predict(image[np.newaxis], expected=CODES["BAD_PIXELS"])
    assert np.isfinite(opened.predict(np.ones_like(images))[2]).all()


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_one_pixel_that_is_refused_is_seen_wherever_it_is(
    runtime: Runtime, value: float, step: int
) -> None:
    model = model_of([Dense(3)], (2, 5, 11), seed=0)
    model.set_input(InputStage(pixels="bytes"), (5, 11), np.arange(3))
    opened = runtime.open(saved(model))
    image = np.zeros((1, 2, 5, 11 * step), np.float32)[..., ::step]
    for at in np.ndindex(image.shape):
        image[at] = value
        opened.predict(image, expected=CODES["BAD_PIXELS"])
        image[at] = 0.5
    assert_same(model, opened, image)


STAGES = {  # pixels of the stage: the floats that are taken, and those that are not
    "bytes": ("bytes", [0, 1, -1e-6, 1 + 1e-6], [-1e-4, 1.0001, 255]),
    "shares": ((0.25, 0.5), [0, 1, -1e-6, 1 + 1e-6], [-1e-4, 1.0001, 255]),
    "others": ((-1.0, 3.0), [-5, 7], [-5.001, 7.001]),
    "huge": ((-3e38, 3e38), [-3.4e38, 3.4e38], [np.inf]),
    "unknown": (None, [-1e30, 3.4e38], [np.inf]),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("column_step", [1, 2])
def test_pixels_of_another_kind_are_refused(
    runtime: Runtime, name: str, column_step: int
) -> None:
    pixels, taken, refused = STAGES[name]
    layers = [lenet5c.Conv2d(3, 3), lenet5c.Tanh(), lenet5c.Dense(4)]
    model = lenet5c.Model(layers, input_shape=(1, 9, 8), classes=4)
    stage = InputStage.checked(0.25, 0.5, None, pixels)
    model.set_input(stage, (8, 7), np.arange(4))
    opened = runtime.open(saved(model))
    usual = float(np.mean(taken)) if name != "unknown" else 0.5
    for values, expected in ((taken, 0), (refused, CODES["BAD_PIXELS"])):
        for value in values:
            image = np.full((1, 1, 8, 14), usual, np.float32)[..., ::column_step][
                ..., :7
            ]
            image[0, 0, 7, 6] = value
            opened.predict(image, expected=expected)
            if not expected:
                assert_same(model, opened, image)
            else:
                with pytest.raises(ValueError, match=r"^images: expected"):
                    model.predict(image)
    code = 0 if stage.takes_bytes else CODES["BAD_PIXELS"]
    assert (code != 0) == (name in ("others", "huge"))
    opened.predict(np.full((1, 1, 8, 7), 9, np.uint8), expected=code)


@pytest.mark.skipif("LENET5C_DATA" not in os.environ, reason="needs LENET5C_DATA")
def test_mnist(best: Runtime) -> None:
    mnist = lenet5c.datasets.mnist()
    model = lenet5c.lenet5()
    model.fit(mnist.train.images[:10000], mnist.train.labels[:10000], epochs=1)
    images = mnist.test.images[:, np.newaxis]
    opened = best.open(saved(model))
    assert_same(model, opened, images)
    classes, probabilities, _ = opened.predict(images)
    np.testing.assert_array_equal(classes, logits_of(model, images).argmax(axis=1))
    np.testing.assert_allclose(
        probabilities, model.predict_proba(images), rtol=0, atol=1e-5
    )
    assert (classes == mnist.test.labels).mean() > 0.9


# What it says of a model and of errors.


def test_labels_are_text(best: Runtime) -> None:
    model = lenet5c.lenet5(classes=3)
    for labels in (
        ["ä", "", "x\n\U0001f600"],
        [-5, 0, 2**63 - 1],
        ["1", "a b", "\u07ff\uffff"],
    ):
        model.set_input(InputStage(), (20, 30), np.array(labels))
        assert best.open(saved(model)).names() == list(map(str, labels))
    two = lenet5c.lenet5(classes=2)
    two.set_input(InputStage(), (20, 30), np.array([False, True]))
    assert best.open(saved(two)).names() == ["False", "True"]


def test_the_input_is_described(best: Runtime) -> None:
    model = Model([Dense(2)], input_shape=(3, 32, 40), classes=2)
    model.set_input(InputStage(), (20, 30), model.classes)
    found = (ctypes.c_int * 5)()
    opened = best.open(saved(model))
    assert best.c.lenet5c_input(opened.model, found) == 0
    assert list(found) == [3, 32, 40, 20, 30]
    assert best.c.lenet5c_classes(opened.model) == 2


def test_builds_differ_in_the_instruction_set(folder: Path) -> None:
    content = saved(lenet5c.lenet5())
    found = {}
    for name in BUILDS:
        opened = shared_object(folder, name).open(content)
        found[name] = opened.c.lenet5c_instruction_set(opened.model).decode()
    assert found["scalar"] == "scalar"
    assert found["portable"] == found["wide"] == "vector"
    assert found["avx2"] in ("avx2", "vector")
    assert found["best"] in ("avx512", found["avx2"])


def test_each_code_has_a_text(best: Runtime) -> None:
    texts = {best.c.lenet5c_strerror(code) for code in CODES.values()}
    assert len(texts) == len(CODES) == 13
    unknown = best.c.lenet5c_strerror(1)
    assert unknown == best.c.lenet5c_strerror(-99) == b"unknown code"
    assert unknown not in texts


def test_bad_arguments_are_refused(best: Runtime) -> None:
    c = best.c
    model = ctypes.c_void_p(1)
    assert c.lenet5c_open(b"nowhere", ctypes.byref(model)) == CODES["NO_FILE"]
    assert not model
    assert c.lenet5c_open(b".", ctypes.byref(model)) == CODES["NO_FILE"]
    bad = CODES["BAD_ARGUMENT"]
    assert c.lenet5c_open(None, ctypes.byref(model)) == bad
    assert c.lenet5c_open(b"nowhere", None) == bad
    assert c.lenet5c_open_memory(None, 0, ctypes.byref(model)) == bad
    assert c.lenet5c_memory_size(b"", 0, None) == bad
    assert c.lenet5c_open_in(b"", 0, None, 0, ctypes.byref(model)) == bad
    assert c.lenet5c_classes(None) == c.lenet5c_input(None, None) == bad
    assert c.lenet5c_class_name(None, 0) is c.lenet5c_instruction_set(None) is None
    assert c.lenet5c_workspace_size(None) == 0
    c.lenet5c_close(None)
    opened = best.open(saved(lenet5c.lenet5()))
    assert c.lenet5c_class_name(opened.model, 10) is None
    assert c.lenet5c_class_name(opened.model, -1) is None
    image = np.zeros((1, 1, 28, 28), np.uint8)
    here, layout = image.ctypes.data, Layout(-1, 28, 28)
    for arguments in (
        (None, here, here, ctypes.addressof(layout)),
        (opened.model, None, here, ctypes.addressof(layout)),
        (opened.model, here, None, ctypes.addressof(layout)),
        (opened.model, here, here, None),
        (opened.model, here, here, ctypes.addressof(layout)),  # a negative count
    ):
        assert c.lenet5c_predict_u8(*arguments, None, None, None) == bad
        assert c.lenet5c_predict_f32(*arguments, None, None, None) == bad
    for height, width in ((33, 28), (28, 33), (0, 28), (28, 0)):
        images = np.zeros((1, 1, height, width), np.uint8)
        opened.predict(images, expected=CODES["BAD_IMAGE"])
    assert opened.predict(image[:0])[2].shape == (0, 10)


# What is refused.


def tiny_model() -> Model:
    layers = [
        Conv2d(2, 3, name="A"),
        Tanh(name="T"),
        Conv2d(3, 1, connections=[[0], [1], [0, 1]], name="C"),
        MaxPool2d(2, name="M"),
        AvgPool2d(2, 1, name="P"),
        Flatten(name="F"),
        Dropout(0.5, name="O"),
        LeakyReLU(0.25, name="L"),
        Dense(3, init="he", name="D"),
    ]
    model = model_of(layers, (1, 8, 9), 1)
    model.set_input(model.stage, (8, 9), np.array(["a", "b", "ü"]))
    lists = {"loss": [2.5, 1.25], "accuracy": [0.5, 0.75], "learning_rate": [0.1, 0.0]}
    model.remember(lenet5c.History(**lists), 0)
    return model


@pytest.fixture
def tiny() -> bytes:
    return saved(tiny_model())


def test_damaged_bytes_are_refused(best: Runtime, tiny: bytes) -> None:
    rng = random.Random(1)
    for end in [*range(120), *range(120, len(tiny), 37)]:
        assert not both_open(best, tiny[:end])
    for _ in range(300):
        at, bit = rng.randrange(len(tiny)), 1 << rng.randrange(8)
        damaged = tiny[:at] + bytes([tiny[at] ^ bit]) + tiny[at + 1 :]
        assert not both_open(best, damaged)


def test_codes_name_the_fault(best: Runtime, tiny: bytes) -> None:
    def changed(name: str, **values: object) -> int:
        header, payload = taken_apart(tiny)
        header["__metadata__"][name] |= values
        return best.refusal(put_together(header, payload))

    assert best.refusal(b"") == best.refusal(tiny[:7]) == CODES["BAD_HEADER"]
    assert best.refusal(tiny[:-4]) == CODES["BAD_SIZE"]
    assert best.refusal(tiny + b"\0\0\0\0") == CODES["BAD_SIZE"]
    flipped = tiny[:-4] + bytes([tiny[-4] ^ 1]) + tiny[-3:]
    assert best.refusal(flipped) == CODES["BAD_CHECKSUM"]
    header, payload = taken_apart(tiny)
    for bad in (np.nan, np.inf, -np.inf):
        values = np.frombuffer(payload, np.float32).copy()
        values[-1] = bad
        content = put_together(header, values.tobytes())
        assert best.refusal(content) == CODES["BAD_VALUE"]
        assert not package_opens(content)
    assert changed("network", layers=[]) == CODES["BAD_NETWORK"]
    assert changed("input_stage", deviation=0) == CODES["BAD_INPUT"]
    header["__metadata__"]["classes"] = ["a", "b", "a"]
    assert best.refusal(put_together(header, payload)) == CODES["BAD_CLASSES"]


def test_the_same_headers_are_refused(best: Runtime, tiny: bytes) -> None:
    opened = [both_open(best, one) for one in changed_headers(tiny, 1500, seed=1)]
    assert 20 < sum(opened) < 1000


def test_the_same_texts_are_refused(best: Runtime, tiny: bytes) -> None:
    opened = [both_open(best, one) for one in changed_texts(tiny, 1500, seed=2)]
    assert 20 < sum(opened) < 1000


def with_texts(content: bytes, **texts: str) -> bytes:
    """The file with other JSON texts in its metadata."""
    header, payload = taken_apart(content)
    metadata = header["__metadata__"]
    metadata |= {name: json.dumps(metadata[name]) for name in TEXTS} | texts
    return assemble(header, payload)


HEADERS = [  # what is replaced in the header, by what, and whether it opens then
    (b"{", b" {", False),
    (b'":{', b'": {', False),
    (b'"A.weight":', b' \t\r\n"A.weight" : ', True),
    (b"[0,", b"[-0,", False),
    (b"[0,", b"[0.0,", False),
    (b"[0,", b"[00,", False),
    (b'"A.weight"', b'"\\u0041.weight"', True),
    (b'"dtype"', b'"d\\u0074ype"', True),
    (b'"dtype":', b'"dtype":"F32","dtype":', False),
    (b'"A.bias":', b'"A.weight":{},"A.bias":', False),
    (b'"A.bias":', b'"__metadata__":{},"A.bias":', False),
    (b'"format":', b'"format_version":"2","format":', False),
    (b'"format":', b'"x":"","format":', False),
    (b'"lenet5c"', b'"lenet\\u0035c"', True),
    (b'"lenet5c"', b'"lenet5c "', False),
    (b'"2"', b"2", False),
    (b'"2"', b'"1"', False),
    (b"[3]", b"[[[[[3]]]]]", False),
]


@pytest.mark.parametrize(("old", "new", "opens"), HEADERS)
def test_spelling_of_the_header(
    best: Runtime, tiny: bytes, old: bytes, new: bytes, opens: bool
) -> None:
    end = 8 + int.from_bytes(tiny[:8], "little")
    header = tiny[8:end]
    assert old in header
    content = assemble(header.replace(old, new, 1), tiny[end:])
    assert both_open(best, content) == opens


def test_what_follows_the_header(best: Runtime, tiny: bytes) -> None:
    end = 8 + int.from_bytes(tiny[:8], "little")
    assert both_open(best, assemble(tiny[8:end] + b" \n\t\r", tiny[end:]))
    for wrong in (b"\0", b"{}", b","):
        assert not both_open(best, assemble(tiny[8:end] + wrong, tiny[end:]))


NETWORK_CHANGES = [
    ("", "", True),
    ("}]}", "}]}]", False),
    ('{"input', '\ufeff{"input', False),
    ('{"input', ' \n\t\r{"input', True),
    ('{"input', '\u00a0{"input', False),
    ("}]}", '}], "x": 1}', False),
    ("}]}", '}], "input_shape": [1, 8, 9]}', False),
    ("[1, 8, 9]", "[1, 8, 9.0]", False),
    ("[1, 8, 9]", "[true, 8, 9]", False),
    ("[1, 8, 9]", "[1, 8]", False),
    ("[[0], [1], [0, 1]]", "[[ 0 ] ,\t[1],[0,1] ]", True),
    ("[[0], [1], [0, 1]]", "[[0, 1], [0], [1]]", True),  # as many pairs
    *(
        ("[[0], [1], [0, 1]]", table, False)
        for table in (
            *("null", "true", "[]", "{}", "4", '"[[0], [1], [0, 1]]"'),
            *("[[0], [1]]", "[[0], [1], [0], [1]]", "[[0], [1], [0, 1], []]"),
            *("[[0], [1], [0]]", "[[0, 1], [1], [0, 1]]", "[[], [0, 1], [0, 1]]"),
            *("[[0], [2], [0, 1]]", "[[0], [1], [1, 0]]", "[[0], [1], [1, 1]]"),
            *("[[0], [-1], [0, 1]]", "[[0], [-0], [0, 1]]", "[[0], [1.0], [0, 1]]"),
            *("[[0], [true], [0, 1]]", "[[0], [null], [0, 1]]", "[[0], 1, [0, 1]]"),
            *(
                '[[0], ["1"], [0, 1]]',
                '[[0], {"1": 1}, [0, 1]]',
                "[[0], [1], [[0, 1]]]",
            ),
            *("[[0], [1], [0, 1048577]]", f"[[0], [1], [0, {2**32 + 1}]]"),
            *(f"[[0], [1], {'[' * n}0, 1{']' * n}]" for n in (2, 20, 1000, 100_000)),
        )
    ),
    ("0.5", "0.9999999999999999", True),
    ("0.5", "0.99999999999999999", False),
    ("0.5", f"0.{'9' * 5000}", False),
    ("0.5", f"0.{'1' * 5000}", True),
    ("0.5", f"{'9' * 4301}", False),
    ("0.5", "0", True),
    ("0.5", "-0", False),
    ("0.5", "-0.0", True),
    ("0.5", "-1e-300", False),
    ("0.5", "NaN", False),
    ("0.5", "true", False),
    ('"padding": 0', '"padding": -0', False),
    ('"padding": 0', '"padding": 0, "padding": 0', False),
    ('"padding": 0', '"padding": false', False),
    ('"he"', '"xavier"', False),
    ('"he"', '"lecun-1998"', True),
    ('"he"', "null", True),
    ('"D"', "null", False),
    ('"D"', '""', False),
    ('"T"', '"M"', False),
    ('"T"', '"\\u0000"', True),
    ('"T"', '"\\ud800"', False),
    ('"T"', '"\\ud83d\\ude00"', True),
    ('{"kind": "tanh", "name": "T"}', '[["kind", "tanh"], ["name", "T"]]', False),
    ('{"kind": "tanh", "name": "T"}', '{"name": "T", "kind": "tanh"}', True),
    ('{"kind": "tanh", "name": "T"}', "{}", False),
    ("[3, 3]", "3", True),
    ("[3, 3]", "[[3], 3]", False),
    ("[3, 3]", "[[[[[[[3]]]]]]]", False),
]
STAGE_CHANGES = [
    ("true", "null", False),
    ("true", "false", True),
    ("true", "1", False),
    ("true", 'true, "x": 0', False),
    ("[8, 9]", "[8]", False),
    ("[8, 9]", "8", False),
    ("[8, 9]", '{"8": 1, "9": 1}', False),
    ("[8, 9]", "[8, 0]", False),
    ("[8, 9]", "[8, 10]", False),
    ("[8, 9]", "[1, 1048576]", False),
    ('"mean": 0.5', '"mean": "0.5"', False),
    ('"mean": 0.5', '"mean": true', False),
    ('"mean": 0.5', '"mean": 1, "mean": 1', False),
    ('"mean": 0.5', '"mean": -3', True),
    ('"mean": 0.5', '"mean": 1e39', False),
    ('"background": 0.25', '"background": -0.0', True),
    ('"background": 0.25', '"background": 3.4028234663852886e38', True),
    ('"background": 0.25', '"background": -3.4028234663852889e38', False),
    (', "pixels": [-1, 2.5]', "", False),
    ("[-1, 2.5]", "null", True),
    ("[-1, 2.5]", '"bytes"', True),
    ("[-1, 2.5]", '"byt\\u0065s"', True),
    ("[-1, 2.5]", '"shares"', False),
    ("[-1, 2.5]", "true", False),
    ("[-1, 2.5]", "3", False),
    ("[-1, 2.5]", "{}", False),
    ("[-1, 2.5]", "[]", False),
    ("[-1, 2.5]", "[1]", False),
    ("[-1, 2.5]", "[0, 0]", True),
    ("[-1, 2.5]", "[0, 1, 2]", False),
    ("[-1, 2.5]", "[1, 0.5]", False),
    ("[-1, 2.5]", '[0, "1"]', False),
    ("[-1, 2.5]", "[0, true]", False),
    ("[-1, 2.5]", "[0, 1e39]", False),
    ("[-1, 2.5]", "[-3e38, 3.4028234663852886e38]", True),
    ("[-1, 2.5]", "[-3e39, 0]", False),
    ("[-1, 2.5]}", '"bytes", "deviation": 0.3}', False),
]
TRAININGS = [
    ('{"passes": 3, "data": "mnist"}', True),
    ('{"data": null, "passes": 0}', True),
    ('{"passes": 2147483647, "data": "\\u00e9"}', True),
    ('{"passes": 2147483648, "data": null}', False),
    ('{"passes": -1, "data": null}', False),
    ('{"passes": 1.0, "data": null}', False),
    ('{"passes": true, "data": null}', False),
    ('{"passes": 3, "data": 5}', False),
    ('{"passes": 3, "data": "\\udc80"}', False),
    ('{"passes": 3}', False),
    ('{"passes": 3, "data": null, "more": 1}', False),
    ('{"passes": 3, "passes": 3, "data": null}', False),
    ('{"passes": 3, "data": null', False),
    *(
        (f'{{"passes": 3, "data": null, "history": {history}}}', opens)
        for history, opens in (
            ('{"epoch": [1, 2], "loss": [1.5, null], LISTS}', True),
            ('{"epoch": [], "loss": [], "accuracy": [], "learning_rate": []}', True),
            ('{"epoch": [1, 2], "loss": [1.5, 2, 3], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1.5], LISTS}', False),
            ('{"epoch": [1, 2.0], "loss": [1.5, 2], LISTS}', False),
            ('{"epoch": [1, null], "loss": [1.5, 2], LISTS}', False),
            ('{"epoch": [0, 1], "loss": [1.5, 2], LISTS}', False),
            ('{"epoch": [2, 2], "loss": [1.5, 2], LISTS}', False),
            ('{"epoch": [2, 1], "loss": [1.5, 2], LISTS}', False),
            ('{"epoch": [1, 2147483647], "loss": [1.5, 2], LISTS}', True),
            ('{"epoch": [1, 2147483648], "loss": [1.5, 2], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1.5, "2"], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1.5, true], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1.5, [2]], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1.5, 1e308], LISTS}', True),
            ('{"epoch": [1, 2], "loss": [1.5, 1e309], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1.5, -1e309], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1, 1' + 307 * "0" + "], LISTS}", True),
            ('{"epoch": [1, 2], "loss": [1, 1' + 309 * "0" + "], LISTS}", False),
            ('{"epoch": [1, 2], "loss": [1, 1' + 4400 * "0" + "], LISTS}", False),
            ('{"epoch": [1, 2], "loss": 3, LISTS}', False),
            ('{"epoch": [1, 2], "loss": {"a": 1, "b": 2}, LISTS}', False),
            ('{"epoch": [1, 2], LISTS}', False),
            ('{"loss": [1.5, 2], LISTS}', False),
            (
                '{"epoch": [1, 2], "loss": [1, 2], "validation_loss": [1, 2], LISTS}',
                True,
            ),
            ('{"epoch": [1, 2], "loss": [1, 2], "validation_loss": [], LISTS}', False),
            ('{"epoch": [1, 2], "loss": [1, 2], "seconds": [1, 2], LISTS}', False),
            ("null", False),
            ("[]", False),
            ("{}", False),
        )
        for history in [
            history.replace("LISTS", '"accuracy": [0, 1], "learning_rate": [1, null]')
        ]
    ),
    *(
        (f'{{"passes": 3, "data": null, "rounding": {rounding}}}', opens)
        for rounding, opens in (
            ('{"weights": 4, "activations": 8, "units": [0.5, 1e-9, 3]}', True),
            ('{"units": [], "weights": "ternary", "activations": 8}', True),
            ('{"weights": 8, "activations": 8, "units": [3.4028234e38]}', True),
            ('{"weights": 2, "activations": 8, "units": [3.5e38]}', False),
            ('{"weights": 3, "activations": 8, "units": []}', False),
            ('{"weights": 4.0, "activations": 8, "units": []}', False),
            ('{"weights": "4", "activations": 8, "units": []}', False),
            ('{"weights": true, "activations": 8, "units": []}', False),
            ('{"weights": null, "activations": 8, "units": []}', False),
            ('{"weights": [8], "activations": 8, "units": []}', False),
            ('{"weights": 4, "activations": 4, "units": []}', False),
            ('{"weights": 4, "activations": "8", "units": []}', False),
            ('{"weights": 4, "activations": 8, "units": [0]}', False),
            ('{"weights": 4, "activations": 8, "units": [-1.5]}', False),
            ('{"weights": 4, "activations": 8, "units": ["1"]}', False),
            ('{"weights": 4, "activations": 8, "units": [null]}', False),
            ('{"weights": 4, "activations": 8, "units": {}}', False),
            ('{"weights": 4, "activations": 8}', False),
            ('{"weights": 4, "activations": 8, "units": [], "more": 1}', False),
            ("null", False),
            ("4", False),
        )
    ),
    ("null", False),
    ("[]", False),
]
CLASSES = [
    ("[0, 1, 2]", True),
    ("[0, 1, -0]", False),
    ("[0, 1, 1]", False),
    ("[0, 1]", False),
    (f"[0, 1, {2**63 - 1}]", True),
    (f"[0, 1, {-(2**63)}]", True),
    (f"[0, 1, {2**63}]", False),
    (f"[0, 1, {-(2**63) - 1}]", False),
    (f"[0, 1, {'9' * 4301}]", False),
    ("[0.5, 1.5, 2.5]", False),
    ("[0, 1.0, 2]", False),
    ('["a", 1, true]', False),
    ("[0, true, 2]", False),
    ("[[0], [1], [2]]", False),
    ('{"a": 0, "b": 1, "c": 2}', False),
    ('"abc"', False),
    ('["a", "b", "\\u0061"]', False),
    ('["a", "b", "\\ud800"]', False),
    ('["a", "\\ud83d\\ude00", "\U0001f600"]', False),
    ('["a", "\\ud83d\\ude00", "\U0001f601"]', True),
    ('["a", "a\\u0000b", ""]', True),
    ('["a", "b", "b\\u0000"]', False),
    ('["a", "b", "c\\u0000"]', False),
    ('["a", "b", "c"', False),
]


@pytest.mark.parametrize(("old", "new", "opens"), NETWORK_CHANGES)
def test_spelling_of_the_network(
    best: Runtime, tiny: bytes, old: str, new: str, opens: bool
) -> None:
    text = json.dumps(taken_apart(tiny)[0]["__metadata__"]["network"])
    assert old in text
    content = with_texts(tiny, network=text.replace(old, new, 1))
    assert both_open(best, content) == opens


STAGE = (
    '{"mean": 0.5, "deviation": 0.3, "background": 0.25, "source": [8, 9], '
    '"fitted": true, "pixels": [-1, 2.5]}'
)


@pytest.mark.parametrize(("old", "new", "opens"), STAGE_CHANGES)
def test_spelling_of_the_input_stage(
    best: Runtime, tiny: bytes, old: str, new: str, opens: bool
) -> None:
    assert old in STAGE
    content = with_texts(tiny, input_stage=STAGE.replace(old, new, 1))
    assert both_open(best, content) == opens


def test_a_history_changes_no_prediction(best: Runtime, tiny: bytes) -> None:
    header, payload = taken_apart(tiny)
    del header["__metadata__"]["training"]["history"]
    silent = put_together(header, payload)
    images = np.arange(2 * 72, dtype=np.uint8).reshape(2, 1, 8, 9)
    for one, other in zip(
        best.open(tiny).predict(images),
        best.open(silent).predict(images),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert len(silent) < len(tiny)
    Path("silent").write_bytes(silent)
    assert lenet5c.load("silent").history == lenet5c.History()


@pytest.mark.parametrize(("text", "opens"), TRAININGS)
def test_what_is_said_of_the_training(
    best: Runtime, tiny: bytes, text: str, opens: bool
) -> None:
    assert both_open(best, with_texts(tiny, training=text)) == opens


@pytest.mark.parametrize(("text", "opens"), CLASSES)
def test_spelling_of_the_classes(
    best: Runtime, tiny: bytes, text: str, opens: bool
) -> None:
    assert both_open(best, with_texts(tiny, classes=text)) == opens


def test_numbers_are_read_to_the_last_bit(best: Runtime, tiny: bytes) -> None:
    """Whether a file opens depends on what a number of it rounds to."""

    def opens(number: str, of: str = '"background": 0.25') -> bool:
        text = STAGE.replace(of, f"{of.split()[0]} {number}")
        return both_open(best, with_texts(tiny, input_stage=text))

    most = 2**128 - 2**104  # the largest float32
    step = 2 ** (127 - 52)  # from there to the next double
    assert opens(f"{most}")
    assert opens(f"{most + step // 2}")  # half the way: to even, which is below
    assert opens(f"{most + step // 2}.{'0' * 900}")
    assert not opens(f"{most + step // 2}.{'0' * 900}1")
    assert not opens(f"{most + step // 2 + 1}")
    assert opens(f"-{most + step // 2}e0")
    assert not opens("1e309")
    assert opens("0." + "0" * 300 + "1e20")
    assert opens("1" + "0" * 400 + "e-395")
    assert opens("1e-99999999999999999999")
    assert opens("0e99999999999999999999")
    assert not opens("1e99999999999999999999")

    deviation = '"deviation": 0.3'
    beyond = 2**1024 - 2**970  # half the way from the largest double to 2^1024
    assert not opens(f"{beyond}", deviation)  # to even, which is infinity
    assert not opens(f"{beyond}e0", deviation)
    assert opens(f"{beyond - 1}", deviation)
    assert opens(f"{beyond - 1}.9e0", deviation)

    network = json.dumps(taken_apart(tiny)[0]["__metadata__"]["network"])

    def is_rate(number: str) -> bool:
        text = network.replace("0.5", number)
        return both_open(best, with_texts(tiny, network=text))

    digits = str(5**54)  # 1 - 2^-54 is half the way from the last double below to 1
    below = f"0.{str(10**54 - int(digits)).zfill(54)}"
    assert not is_rate(below)  # to even, which is 1
    assert is_rate(below[:-1] + "4999")
    assert not is_rate(below + "0" * 800 + "1")
    smallest = str(5**1075).zfill(1075)  # half of the smallest double
    assert is_rate(f"-0.{smallest}")  # to even, which is 0
    assert not is_rate(f"-0.{smallest}1")
    assert not is_rate(f"-0.{smallest}{'0' * 300}1")


# Much of it.


def labelled(labels: list[Any]) -> Model:
    count = len(labels)
    model = Model([AvgPool2d(7), Dense(count)], input_shape=(1, 14, 14), classes=count)
    model.set_input(InputStage(), (14, 14), np.array(labels))
    return model


@pytest.mark.parametrize("text", ["a label of 25 letters {}", "字母 {}", "{}"])
def test_50_000_labels(best: Runtime, text: str) -> None:
    labels = [text.format(i) for i in range(50_000)]
    model = labelled(labels)
    opened = best.open(saved(model))
    assert opened.names() == labels
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 14, 14)).astype(np.uint8)
    assert_same(model, opened, images)
    read = lenet5c.load("model.lenet5c")
    assert read.classes.tolist() == labels
    np.testing.assert_array_equal(read.predict(images), model.predict(images))
    classify = read.predictor()
    assert [classify(image) for image in images] == read.predict(images).tolist()


def test_two_labels_of_many_are_the_same(best: Runtime) -> None:
    labels = [f"{i:06}" for i in range(20_000)]
    content = saved(labelled(labels))
    for i, k in ((0, 19_999), (7, 8), (12_345, 3)):
        changed = list(labels)
        changed[i] = labels[k]
        other = with_texts(content, classes=json.dumps(changed))
        assert not both_open(best, other)
        assert best.refusal(other) == CODES["BAD_CLASSES"]


def test_labels_of_too_many_characters_are_refused(
    best: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy gives each label the room of the longest."""
    labels = [str(i) for i in range(1 << 12)]
    content = saved(labelled(labels))
    for length, opens in ((1 << 14, True), ((1 << 14) + 1, False)):
        text = json.dumps(["x" * length, *labels[1:]])
        other = with_texts(content, classes=text)
        assert best.refusal(other) == (0 if opens else CODES["BAD_CLASSES"])
        if not opens:  # what opens takes Python long
            assert not package_opens(other)
    monkeypatch.setattr("lenet5c.files.model_file.MAX_LABEL_CHARACTERS", 100)
    said = "classes: expected at most 100 characters, .* got 2 times 51"
    with pytest.raises(ValueError, match=said):
        labelled(["a", "b" * 51]).save("model.lenet5c")


def deep_model(count: int) -> Model:
    """With branches and normalisations; their tensors are not in the order of use."""
    layers: list[Any] = []
    while len(layers) < count - 2:
        layers += [Conv2d(3, 3, padding=1), BatchNorm2d(), Tanh(), AvgPool2d(1)]
        layers += [Residual([Conv2d(3, 1)]), Dropout(0.5), ReLU(), Conv2d(3, 1)]
    return Model([*layers, Dense(4), Tanh()], input_shape=(1, 5, 4), classes=4)


def test_1_000_layers(best: Runtime) -> None:
    model = deep_model(1000)
    assert len(model.layers) >= 1000
    content = saved(model)
    opened = best.open(content)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 5, 4)).astype(np.uint8)
    found, expected = opened.predict(images)[2], logits_of(model, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    read = lenet5c.load("model.lenet5c")
    np.testing.assert_array_equal(read.forward(images), model.forward(images))


def test_tensors_in_any_order_of_many(best: Runtime) -> None:
    header, payload = taken_apart(saved(deep_model(100)))
    names = [name for name in header if name != "__metadata__"]
    random.Random(0).shuffle(names)
    entries, parts, at = {}, [], 0
    for name in names:
        begin, end = header[name]["data_offsets"]
        entries[name] = header[name] | {"data_offsets": [at, at + end - begin]}
        parts.append(payload[begin:end])
        at += end - begin
    shuffled = {"__metadata__": header["__metadata__"], **entries}
    content = put_together(shuffled, b"".join(parts))
    assert both_open(best, content)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 5, 4)).astype(np.uint8)
    expected = best.open(saved(deep_model(100))).predict(images)[2]
    np.testing.assert_array_equal(best.open(content).predict(images)[2], expected)


def test_what_a_model_file_cannot_hold_is_refused_when_it_is_saved() -> None:
    model = labelled([f"{i}{'x' * 1000}" for i in range(20_000)])
    with pytest.raises(
        ValueError, match=r"at most 16777216 bytes, got \d+, of which \d+ are 'classes'"
    ):
        model.save("model.lenet5c")
    assert not Path("model.lenet5c").exists()


# What it needs, and what it leaves alone.


def test_every_kind_of_layer_has_its_place() -> None:
    """One that the package has and kinds.def has not would be refused."""
    folder = SOURCE.parent / "runtime"
    listed = re.findall(
        r"^LENET5C_KIND\((\w+)\)", (folder / "kinds.def").read_text(), re.M
    )
    assert sorted(listed) == sorted(LAYERS)
    text = "".join(path.read_text() for path in folder.glob("*.h"))
    defined = dict(re.findall(r"(\w+)_kind = \{\s*\.name = \"(\w+)\"", text))
    assert defined == {kind: kind for kind in LAYERS}
    named = re.search(r"option_names\[\] = \{(.*?)NULL", text, re.S)
    assert named is not None
    options = {
        name
        for kind, layer in LAYERS.items()
        for name in signature(layer).parameters.keys() - INITIAL.get(kind, set())
    }
    assert set(re.findall(r"\w+", named[1])) == options | {"kind"}


@pytest.mark.skipif(NM is None, reason="needs nm")
def test_exports_what_the_header_declares(best: Runtime) -> None:
    done = run(NM, "-D", "--defined-only", best.path)
    names = {line.split()[-1] for line in done.stdout.splitlines()} - {"max_lanes"}
    header = SOURCE.with_suffix(".h").read_text()
    declared = set(re.findall(r"LENET5C_API[^;(]*?\b(lenet5c_\w+)\(", header))
    assert names == declared


@pytest.mark.skipif(NM is None, reason="needs nm")
def test_bare_build_needs_no_library(folder: Path) -> None:
    """Neither malloc nor files: only functions that compilers themselves rely on."""
    path = folder / "bare.o"
    run(CC, *FLAGS, "-O0", "-DLENET5C_BARE", "-c", SOURCE, "-o", path)
    done = run(NM, "-u", path)
    names = {line.split()[-1].strip("_") for line in done.stdout.splitlines()}
    assert names <= {
        *("memcpy", "memset", "memcmp", "memmove", "strlen", "strchr"),
        *(
            "cpu_model",
            "cpu_features2",
            "cpu_indicator_init",
            "GLOBAL_OFFSET_TABLE",
            "stack_chk_fail",
        ),
    }


COUNTING = r"""
#include "lenet5c.h"
#include <stdio.h>
#include <stdlib.h>
static int count;
void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__wrap_malloc(size_t n) { count++; return __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t m) { count++; return __real_calloc(n, m); }
void *__wrap_realloc(void *p, size_t n) { count++; return __real_realloc(p, n); }
int main(int argc, char **argv)
{
    static uint8_t pixels[28 * 28];
    lenet5c_layout layout = {.count = 1, .height = 28, .width = 28};
    lenet5c_model *model;
    float probabilities[10];
    int opening, class, code = argc == 2 ? lenet5c_open(argv[1], &model) : -1;
    if (code) return 1;
    opening = count;
    void *workspace = malloc(lenet5c_workspace_size(model));
    count = 0;
    for (int i = 0; i < 100; i++)
        if (lenet5c_predict_u8(
                model, workspace, pixels, &layout, &class, probabilities, NULL))
            return 2;
    printf("%d %d", opening, count);
    return 0;
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the GNU linker")
def test_nothing_is_allocated_once_a_model_is_open(folder: Path) -> None:
    program, source = folder / "counting", folder / "counting.c"
    source.write_text(COUNTING)
    wraps = "-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc"
    flags = [flag for flag in FLAGS if flag != "-Wpedantic"]  # __real_malloc
    run(CC, *flags, "-O1", "-DLENET5C_PORTABLE", wraps, source, SOURCE, "-o", program)
    lenet5c.lenet5().save("model.lenet5c")
    assert run(program, "model.lenet5c").stdout == "2 0"  # the file and the model


def test_files_good_and_bad_under_sanitizers(folder: Path, tiny: bytes) -> None:
    """By the fuzzer's target, which runs what opens and cuts each off at places."""
    program = folder / "fuzz"
    flags = ["-O1", "-g1", "-fsanitize=address,undefined", "-DLENET5C_FUZZ_MAIN"]
    flags += ["-fno-sanitize-recover=all"]
    done = run(CC, *FLAGS, *flags, FUZZ, "-o", program, check=False)
    if done.returncode and "asan" in done.stderr:
        pytest.skip("needs the sanitizers' libraries")
    assert done.returncode == 0, done.stderr
    files = [*changed_headers(tiny, 60, seed=3), *changed_texts(tiny, 60, seed=4)]
    models = [random_network(seed) for seed in range(100, 120)]
    models += [model_of(*network, seed=1) for network in NETWORKS.values()]
    models += [branching_model(name) for name in BRANCHING]
    files += [saved(model) for model in models if model.parameter_count < 20000]
    for number, content in enumerate(files):
        Path(f"{number}.file").write_bytes(content)
    run(program, *(f"{number}.file" for number in range(len(files))))


def test_a_cpp_compiler_is_told_that_it_is_c_and_no_more():
    cpp = shutil.which("g++")
    if cpp is None:
        pytest.skip("needs g++")
    done = run(cpp, "-fsyntax-only", SOURCE, check=False)
    assert done.returncode != 0
    (error,) = (line for line in done.stderr.splitlines() if " error: " in line)
    assert "lenet5c.c is C" in error


def test_no_header_hides_one_of_the_standard_library():
    """The folder is given to compilers by -I, which is searched before their own."""
    standard = """assert complex ctype errno fenv float inttypes iso646 limits locale
        math setjmp signal stdalign stdarg stdatomic stdbit stdbool stdckdint stddef
        stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
        poll pthread sched semaphore unistd"""
    found = {path.stem for path in SOURCE.parent.glob("*.h")}
    assert "lenet5c" in found
    assert not found & set(standard.split())


def write_seeds(folder: Path) -> None:
    """Small models, of which no two have the same layers."""
    folder.mkdir(exist_ok=True)
    tiny_model().save(folder / "tiny")
    model_of([Conv2d(2, 5), Dense(2)], (4, 7, 8), 1).save(folder / "pairs")
    distances = [Conv2d(3, 2), RadialBasis(4), Dense(2)]
    model_of(distances, (2, 4, 3), 1).save(folder / "distances")
    for seed in range(1000):
        model = random_network(seed)
        if model.parameter_count < 600 and model.class_count < 20:
            model.save(folder / str(seed))


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
