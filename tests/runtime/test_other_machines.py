"""The C runtime on machines that QEMU plays: integers of docs/int8.md, and floats."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from c_runtime import SOURCE, run
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c.data.images import InputStage


@dataclass(frozen=True)
class Machine:
    compiler: str
    flags: str
    emulator: str
    order: str = "<"


MACHINES = {
    "aarch64": Machine("aarch64-linux-gnu-gcc", "", "qemu-aarch64"),
    "aarch64 with dot products": Machine(
        "aarch64-linux-gnu-gcc", "-march=armv8.2-a+dotprod", "qemu-aarch64"
    ),
    "armv7 with NEON": Machine("arm-linux-gnueabihf-gcc", "-mfpu=neon", "qemu-arm"),
    "riscv64": Machine("riscv64-linux-gnu-gcc", "", "qemu-riscv64"),
    "s390x": Machine("s390x-linux-gnu-gcc", "", "qemu-s390x", ">"),
}


@dataclass(frozen=True)
class Program:
    """Runs models by the C runtime, compiled for a machine."""

    machine: Machine
    path: Path

    def results(self, model, images):
        """(N, classes): int32 scores, or float32 logits."""
        integers = not isinstance(model, lenet5c.Model)
        model.save(self.path.with_name("model.lenet5c"))
        self.path.with_name("images").write_bytes(images.tobytes())
        sizes = map(str, (len(images), *images.shape[2:]))
        given = (self.path.with_name("model.lenet5c"), self.path.with_name("images"))
        done = subprocess.run(
            [self.machine.emulator, self.path, *given, *sizes],
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr.decode()
        dtype = self.machine.order + ("i4" if integers else "f4")
        return np.frombuffer(done.stdout, dtype).reshape(len(images), -1)


@pytest.fixture(scope="module", params=MACHINES)
def program(request, tmp_path_factory):
    machine = MACHINES[request.param]
    tools = machine.compiler, machine.emulator
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    path = tmp_path_factory.mktemp("machine") / "scores"
    warnings = "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"
    flags = ("-std=c11", "-O2", "-static", *machine.flags.split(), *warnings)
    sources = Path(__file__).with_name("scores.c"), SOURCE
    run(machine.compiler, *flags, f"-I{SOURCE.parent}", *sources, "-o", path, "-lm")
    return Program(machine, path)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_the_same_integers(program, name):
    model, images = network(name)
    quantized = model.quantize(images[:20])
    found = program.results(quantized, images)
    assert (found == quantized.scores(images)).all()


@pytest.mark.parametrize("make", [lenet5c.lenet5, lenet5c.cnn3, lenet5c.mlp])
def test_integers_and_floats_of_the_usual_networks(program, make):
    model = make(seed=1)
    size = 28 if model.input_shape[1] > 27 else model.input_shape[1]
    images = np.random.default_rng(1).integers(0, 256, (10, 1, size, size), np.uint8)
    stage = InputStage(0.13, 0.31, -0.13 / 0.31)
    model.set_input(stage, (size, size), np.arange(10))
    quantized = model.quantize(images)
    assert (program.results(quantized, images) == quantized.scores(images)).all()
    expected = model.forward(images)
    np.testing.assert_allclose(program.results(model, images), expected, atol=2e-5)
