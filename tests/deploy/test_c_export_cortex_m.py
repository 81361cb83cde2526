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


def test_scores_on_a_cortex_m4_are_those_of_python(quantized, tmp_path):
    quantized, _, images = quantized
    quantized.export_c(tmp_path / "net.h", name="net")
    rows = ",\n".join("{" + ",".join(map(str, image.ravel())) + "}" for image in images)
    (tmp_path / "images.h").write_text(
        f"#define IMAGES {IMAGES}\n"
        f"static const uint8_t images[IMAGES][{images[0].size}] = {{{rows}}};\n"
    )
    run(
        "arm-none-eabi-gcc",
        *TARGET,
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
    scores = quantized.scores(images)
    np.testing.assert_array_equal(rows[:, 1:], scores)
    np.testing.assert_array_equal(rows[:, 0], scores.argmax(axis=1))
    assert len(np.unique(rows[:, 0])) > 1


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
