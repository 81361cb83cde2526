"""Exported integers on other machines: the scores that Python has."""

import shutil

import numpy as np
import pytest
from exported_c import CHIPS, build, classify, compiled, run
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c import AvgPool2d, Conv2d, Dense, MaxPool2d, ReLU, Tanh
from lenet5c.data.images import InputStage

SMALL = {
    # Sums of every number of filters, and kernels of every number of taps modulo 4.
    f"{c} channels": (
        [Conv2d(c + 1, (k, 3)), Tanh(), Conv2d(c, 2), ReLU(), Conv2d(4, k), Dense(3)],
        (c, 9, 8),
        (9, 8),
        3,
    )
    for c, k in ((1, 1), (3, 3), (5, 2), (6, 3), (7, 1))
}
BY_NAME = {
    "lenet5": lambda: lenet5c.lenet5(seed=1),
    "lenet5, relu, max": lambda: lenet5c.lenet5(
        seed=1, activation="relu", pooling="max"
    ),
    "mlp": lambda: lenet5c.mlp(seed=1),
    "cnn3": lambda: lenet5c.cnn3(seed=1),
    "fits an Uno": lambda: lenet5c.Model(
        [
            Conv2d(4, 3),
            ReLU(),
            MaxPool2d(2),
            Conv2d(8, 3),
            ReLU(),
            AvgPool2d(2),
            Dense(10),
        ],
        input_shape=(1, 14, 14),
        classes=10,
        seed=1,
    ),
}
ON = {
    "Cortex-M0": ["lenet5", "5 channels"],
    "Cortex-M3": ["lenet5", "branches of all kinds"],
    "Cortex-M4": [*BY_NAME, *SMALL, "residual blocks", "padding and strides"],
    "Cortex-M7": ["3 channels"],
    "s390x": ["lenet5", "lenet5, relu, max", *SMALL, "residual blocks"],
    "ATmega328P": ["fits an Uno", *SMALL, "residual blocks", "padding and strides"],
}


FEW = {
    "Cortex-M0": ["5 channels"],
    "Cortex-M3": ["branches of all kinds"],
    "Cortex-M4": ["lenet5", "5 channels", "6 channels", "residual blocks"],
    "s390x": ["3 channels", "residual blocks"],
    "ATmega328P": ["fits an Uno", "5 channels", "residual blocks"],
}


def networks(name, bits=8):
    """A quantized network of random weights, and 20 random images for it."""
    if name in NETWORKS:
        model, images = network(name)
        return model.quantize(images[:10], bits=bits), images[:20]
    if name in SMALL:
        layers, shape, source, classes = SMALL[name]
        model = lenet5c.Model(layers, input_shape=shape, classes=classes, seed=1)
    else:
        model = BY_NAME[name]()
        shape, classes = model.input_shape, 10
        source = (28, 28) if name.startswith("lenet5") else shape[1:]
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, shape[0], *source), np.uint8)
    images[:, :, :, : source[1] // 3] //= 9
    model.set_input(InputStage(0.13, 0.31, -0.13 / 0.31), source, np.arange(classes))
    return model.quantize(images, bits=bits), images


def needs(chip):
    if CHIPS[chip].missing:
        pytest.skip(f"not installed: {CHIPS[chip].missing}")
    return CHIPS[chip]


@pytest.mark.parametrize(
    ("chip", "name"), [(chip, name) for chip, names in ON.items() for name in names]
)
def test_scores_are_the_same_integers(chip, name, tmp_path):
    machine = needs(chip)
    quantized, images = networks(name)
    quantized.export_c(tmp_path / "net.h", name="net")
    found, scores, _ = classify(machine, tmp_path, images)
    np.testing.assert_array_equal(scores, quantized.scores(images))
    np.testing.assert_array_equal(found, scores.argmax(axis=1))


@pytest.mark.parametrize("bits", [4, 2, "ternary"])
@pytest.mark.parametrize(
    ("chip", "name"), [(chip, name) for chip, names in FEW.items() for name in names]
)
def test_scores_of_few_bits_are_the_same_integers(chip, name, bits, tmp_path):
    machine = needs(chip)
    quantized, images = networks(name, bits)
    quantized.export_c(tmp_path / "net.h", name="net")
    _, scores, _ = classify(machine, tmp_path, images[:5])
    np.testing.assert_array_equal(scores, quantized.scores(images[:5]))


def test_probabilities_on_a_cortex_m4f_are_those_of_python(tmp_path):
    machine = needs("Cortex-M4")
    quantized, images = networks("lenet5")
    model = lenet5c.lenet5(seed=1)
    model.set_input(quantized.stage, quantized.source, quantized.classes)
    model.export_c(tmp_path / "net.h", name="net")
    flags = ["-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
    found, got, _ = classify(
        machine, tmp_path, images, *flags, result="float", unit="1e6f"
    )
    expected = model.predict_proba(images)
    np.testing.assert_allclose(got / 1e6, expected, rtol=0, atol=1.2e-5)
    np.testing.assert_array_equal(found, expected.argmax(axis=1))


def test_lenet5_fits_into_80_kilobytes_of_flash_and_8_of_memory(tmp_path):
    machine = needs("Cortex-M4")
    networks("lenet5")[0].export_c(tmp_path / "net.h", name="net")
    file, _ = compiled(machine, tmp_path)
    _, numbers = run(machine.size, file).splitlines()
    text, data, bss = map(int, numbers.split()[:3])
    assert text + data < 80 * 1024
    assert bss <= 8 * 1024


@pytest.mark.parametrize("chip", ["Cortex-M0", "Cortex-M3", "Cortex-M4", "ATmega328P"])
def test_the_stack_is_less_than_300_bytes(chip, tmp_path):
    machine = needs(chip)
    names = ["residual blocks", "branches of all kinds"]
    for name in names if chip == "ATmega328P" else ["lenet5", *names]:
        networks(name)[0].export_c(tmp_path / "net.h", name="net")
        _, stack = compiled(machine, tmp_path)
        assert stack
        assert max(stack) < 300, name
    if chip != "ATmega328P":
        lenet5c.lenet5().export_c(tmp_path / "net.h", name="net")
        _, stack = compiled(machine, tmp_path)
        assert max(stack) < 300, "float32"


@pytest.mark.parametrize(("chip", "used"), [("Cortex-M3", False), ("Cortex-M4", True)])
def test_pairs_are_multiplied_where_the_processor_can(chip, used, tmp_path):
    machine = needs(chip)
    networks("3 channels")[0].export_c(tmp_path / "net.h", name="net")
    file, _ = compiled(machine, tmp_path)
    if shutil.which("arm-none-eabi-objdump") is None:
        pytest.skip("not installed: arm-none-eabi-objdump")
    listing = run("arm-none-eabi-objdump", "-d", file)
    assert ("smlad" in listing) == used
    assert ("sxtb16" in listing) == used


def test_constants_of_an_avr_stay_in_flash(tmp_path):
    machine = needs("ATmega328P")
    quantized, images = networks("fits an Uno")
    quantized.export_c(tmp_path / "net.h", name="net")
    program = build(machine, tmp_path, images, "-DRESULT=int32_t", "-DUNIT=1")
    _, numbers = run(machine.size, program).splitlines()
    _, data, bss = map(int, numbers.split()[:3])
    assert data < 64  # the names of the classes, two texts of main.c
    assert bss < 1100
