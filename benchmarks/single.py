"""One image at a time: lenet5c from Python and from C, ONNX Runtime, PyTorch.

    python benchmarks/single.py [--calls 5000] [--rounds 5]

Each runs LeNet-5 on one thread, on uint8 images of 28x28 or float32 images of 32x32.
Medians and 99th percentiles of single calls, rounds in turns.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import machine, noise, rest, table
from inference import onnx_session

import lenet5c

C_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "lenet5c.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

int main(int count, char **arguments)
{
    enum { SIZE = 28 * 28 };
    static unsigned char images[256 * SIZE];
    lenet5c_model *model;
    const int calls = atoi(arguments[count - 1]);
    if (lenet5c_open(arguments[1], &model)) return 1;
    void *workspace = malloc(lenet5c_workspace_size(model));
    double *times = malloc((size_t)calls * sizeof *times);
    srand(1);
    for (int i = 0; i < 256 * SIZE; i++) images[i] = (unsigned char)rand();
    for (int i = 0; i < 2000; i++)
        lenet5c_classify(model, workspace, images + i % 256 * SIZE);
    for (int i = 0; i < calls; i++) {
        const double start = now();
        lenet5c_classify(model, workspace, images + i % 256 * SIZE);
        times[i] = now() - start;
    }
    fwrite(times, sizeof *times, (size_t)calls, stdout);
    return 0;
}
"""


def calls_of(work: Callable[[int], object], calls: int) -> np.ndarray:
    """Microseconds of each call."""
    for n in range(200):
        work(n)
    times = np.empty(calls)
    for n in range(calls):
        start = time.perf_counter()
        work(n)
        times[n] = time.perf_counter() - start
    return times * 1e6


def c_program(model: lenet5c.Model, folder: Path) -> Callable[[int], np.ndarray]:
    """A program that runs the C runtime, and returns the times of its calls."""
    model.save(folder / "model.lenet5c")
    (folder / "single.c").write_text(C_PROGRAM)
    include = Path(lenet5c.get_include())
    subprocess.run(
        [
            "gcc",
            "-O2",
            f"-I{include}",
            "single.c",
            include / "lenet5c.c",
            "-o",
            "single",
        ],
        cwd=folder,
        check=True,
    )

    def run(calls: int) -> np.ndarray:
        command = [folder / "single", folder / "model.lenet5c", str(calls)]
        done = subprocess.run(command, capture_output=True, check=True)
        return np.frombuffer(done.stdout, np.float64)

    return run


def peers(model: lenet5c.Model, folder: Path) -> dict[str, Callable[[int], np.ndarray]]:
    """By name, what measures so many calls."""
    images, _ = noise(256)
    model.set_input(
        lenet5c.data.images.InputStage.of(images[:, None]), (28, 28), model.classes
    )
    predictor = model.predictor()
    x = np.random.default_rng(0).random((256, 1, 32, 32), np.float32)
    session = onnx_session(model, 1)
    found = {
        "lenet5c from C": c_program(model, folder),
        "lenet5c predictor, uint8": lambda calls: calls_of(
            lambda n: predictor(images[n % 256]), calls
        ),
        "lenet5c predictor, float32": lambda calls: calls_of(
            lambda n: predictor(x[n % 256]), calls
        ),
        "lenet5c predict": lambda calls: calls_of(
            lambda n: model.predict(images[n % 256 : n % 256 + 1]), calls
        ),
        "ONNX Runtime": lambda calls: calls_of(
            lambda n: session.run(None, {"x": x[n % 256 : n % 256 + 1]}), calls
        ),
    }
    try:
        import torch
    except ImportError:
        return found
    from training import torch_lenet5

    torch.set_num_threads(1)
    network = torch_lenet5().eval()

    def run_torch(n: int) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(x[n % 256 : n % 256 + 1]))

    found["PyTorch"] = lambda calls: calls_of(run_torch, calls)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    model = lenet5c.lenet5()
    with tempfile.TemporaryDirectory() as folder:
        programs = peers(model, Path(folder))
        times: dict[str, list[np.ndarray]] = {name: [] for name in programs}
        for _ in range(arguments.rounds):
            for name, run in programs.items():
                rest()
                times[name].append(run(arguments.calls))
    print(machine())
    print(f"{arguments.rounds} rounds of {arguments.calls} calls, one thread\n")
    rows = [("microseconds an image", "median", "99 %", "99 % / median")]
    for name, rounds in times.items():
        median = np.median([np.median(of) for of in rounds])
        tail = np.median([np.quantile(of, 0.99) for of in rounds])
        rows.append((name, f"{median:.1f}", f"{tail:.1f}", f"{tail / median:.1f}"))
    print(table(rows))


if __name__ == "__main__":
    main()
