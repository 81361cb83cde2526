"""Networks on a Cortex-M4, which QEMU plays: the scores that Python has."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c.data.images import InputStage

SOURCES = Path(__file__).parent / "cortex_m"
TOOLS = ["arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"]
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")
TARGET = ["-mcpu=cortex-m4", "-mthumb", "-O2", "-Wall", "-Wextra", "-Werror"]
IMAGES = 200


@pytest.fixture
def quantized():
    """LeNet-5 with random weights, and random images of 28x28."""
    model = lenet5c.lenet5(seed=1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (IMAGES, 1, 28, 28), np.uint8)
    images[:, :, :, :9] //= 9
    model.set_input(InputStage(0.13, 0.31, -0.13 / 0.31), (28, 28), np.arange(10))
    return model.quantize(images), model, images


def run(*command):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[:2000]}{done.stderr[:2000]}"
    return done.stdout


def run_on_cortex_m4(images, tmp_path, *flags):
    """Classes (N,) and results (N, classes) of the exported file net.h."""
    rows = ",\n".join("{" + ",".join(map(str, image.ravel())) + "}" for image in images)
    (tmp_path / "images.h").write_text(
        f"#define IMAGES {IMAGES}\n"
        f"static const uint8_t images[IMAGES][{images[0].size}] = {{{rows}}};\n"
    )
    run(
        "arm-none-eabi-gcc",
        *TARGET,
        *flags,
        f"-I{tmp_path}",
        "-nostartfiles",
        f"-T{SOURCES / 'memory.ld'}",
        SOURCES / "start.c",
        SOURCES / "main.c",
        "-o",
        tmp_path / "program",
    )
    out = run(
        *("qemu-system-arm", "-machine", "mps2-an386", "-kernel", tmp_path / "program"),
        *("-display", "none", "-monitor", "none", "-serial", "none"),
        *("-chardev", "stdio,id=console"),
        *("-semihosting-config", "enable=on,target=native,chardev=console"),
    )
    rows = np.array([[int(word) for word in line.split()] for line in out.splitlines()])
    assert len(np.unique(rows[:, 0])) > 1
    return rows[:, 0], rows[:, 1:]


def test_scores_on_a_cortex_m4_are_those_of_python(quantized, tmp_path):
    quantized, _, images = quantized
    quantized.export_c(tmp_path / "net.h", name="net")
    found, got = run_on_cortex_m4(images, tmp_path, "-DRESULT=int32_t", "-DUNIT=1")
    scores = quantized.scores(images)
    np.testing.assert_array_equal(got, scores)
    np.testing.assert_array_equal(found, scores.argmax(axis=1))


def test_probabilities_on_a_cortex_m4f_are_those_of_python(quantized, tmp_path):
    _, model, images = quantized
    model.export_c(tmp_path / "net.h", name="net")
    flags = ["-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-DRESULT=float", "-DUNIT=1e6f"]
    found, got = run_on_cortex_m4(images, tmp_path, *flags)
    expected = model.predict_proba(images)
    np.testing.assert_allclose(got / 1e6, expected, rtol=0, atol=1.2e-5)
    np.testing.assert_array_equal(found, expected.argmax(axis=1))


def test_lenet5_fits_into_80_kilobytes_of_flash_and_8_of_memory(quantized, tmp_path):
    quantized[0].export_c(tmp_path / "net.h", name="net")
    (tmp_path / "net.c").write_text(
        '#define NET_IMPLEMENTATION\n#include "net.h"\nnet_workspace workspace;\n'
    )
    object_file = tmp_path / "net.o"
    run("arm-none-eabi-gcc", *TARGET, "-c", tmp_path / "net.c", "-o", object_file)
    _, numbers = run("arm-none-eabi-size", object_file).splitlines()
    text, data, bss = map(int, numbers.split()[:3])
    assert text + data < 80 * 1024
    assert bss <= 8 * 1024


@pytest.mark.parametrize("flags", ["", "-mfloat-abi=hard -mfpu=fpv4-sp-d16"])
def test_the_stack_is_less_than_400_bytes(quantized, flags, tmp_path):
    quantized[0].export_c(tmp_path / "one.h", name="one")
    quantized[1].export_c(tmp_path / "two.h", name="two")
    for name in ("one", "two"):
        (tmp_path / f"{name}.c").write_text(
            f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n'
        )
        output = tmp_path / f"{name}.o"
        options = [*TARGET, *flags.split(), "-fstack-usage", "-c"]
        run("arm-none-eabi-gcc", *options, tmp_path / f"{name}.c", "-o", output)
        for line in output.with_suffix(".su").read_text().splitlines():
            assert int(line.split("\t")[1]) < 400, line
