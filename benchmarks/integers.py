"""Integers against floats: the time of an image, and whether all scores are the same.

    python benchmarks/integers.py [--rounds 9] [--images 10000]

Networks are trained for one epoch of MNIST and quantised. Each instruction set of this
machine computes all test images in the C runtime, and its scores are compared with
those of NumPy's integers. Then LeNet-5 takes one image at a time from C and from
Python, in integers and in floats in turns, by the same width of registers, and batches
from Python, where ONNX Runtime takes its turn if it is there. All on one thread.
"""

import argparse
import ctypes
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import machine, moment, table

import lenet5c
from lenet5c import datasets
from lenet5c.deploy.quantize import QuantizedModel

SETS = {"sse2": 4, "avx2": 8, "avxvnni": 8, "avx512vnni": 16}  # floats in a register
PROGRAM = """
#define _POSIX_C_SOURCE 199309L
#include "lenet5c.h"
#include <stdlib.h>
#include <time.h>

__attribute__((visibility("default"))) const char *int8_set;
__attribute__((visibility("default"))) int most_lanes = 16;

/* Microseconds of an image: of so many calls with one each. */
double of_one(const lenet5c_model *model, const unsigned char *images, int calls)
{
    void *workspace = malloc(lenet5c_workspace_size(model));
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < calls; i++)
        lenet5c_classify(model, workspace, images + i % 256 * 28 * 28);
    clock_gettime(CLOCK_MONOTONIC, &to);
    free(workspace);
    return ((double)(to.tv_sec - from.tv_sec) * 1e6 +
               (double)(to.tv_nsec - from.tv_nsec) / 1e3) / calls;
}
"""


class Runtime:
    """The C runtime, compiled so that its instruction set can be chosen."""

    def __init__(self, folder: Path) -> None:
        include = Path(lenet5c.get_include())
        (folder / "program.c").write_text(PROGRAM)
        chosen = "-DLENET5C_INT8_SET=int8_set", "-DLENET5C_MAX_LANES=most_lanes"
        sources = "program.c", include / "lenet5c.c"
        command = ["gcc", "-O2", "-fPIC", "-shared", *chosen, f"-I{include}", *sources]
        subprocess.run([*command, "-o", "r.so", "-lm"], cwd=folder, check=True)
        self.folder, self.c = folder, ctypes.CDLL(str(folder / "r.so"))
        self.name = ctypes.c_char_p.in_dll(self.c, "int8_set")  # keeps its text alive
        self.c.of_one.restype = ctypes.c_double
        self.c.lenet5c_instruction_set.restype = ctypes.c_char_p
        self.c.lenet5c_workspace_size.restype = ctypes.c_size_t

    def open(self, model: lenet5c.Model | QuantizedModel, by: str) -> ctypes.c_void_p:
        """The model, as this instruction set runs it; a null pointer without that."""
        model.save(self.folder / "model.lenet5c")
        self.name.value = by.encode()
        ctypes.c_int.in_dll(self.c, "most_lanes").value = SETS[by]
        opened = ctypes.c_void_p()
        path = str(self.folder / "model.lenet5c").encode()
        assert self.c.lenet5c_open(path, ctypes.byref(opened)) == 0
        is_float = isinstance(model, lenet5c.Model)
        if is_float or self.c.lenet5c_instruction_set(opened).decode() == by:
            return opened
        return ctypes.c_void_p()

    def scores(
        self, opened: ctypes.c_void_p, images: np.ndarray, classes: int
    ) -> np.ndarray:
        size = self.c.lenet5c_workspace_size(opened)
        workspace = ctypes.create_string_buffer(size)
        sizes = (ctypes.c_int * 3)(len(images), *images.shape[-2:])
        layout = bytes(sizes) + bytes(4 + 4 * 8)  # steps of 0: without gaps
        found = np.empty((len(images), classes), np.int32)
        pointers = images.ctypes.data_as(ctypes.c_void_p), layout
        to = found.ctypes.data_as(ctypes.c_void_p)
        assert self.c.lenet5c_scores(opened, workspace, *pointers, to) == 0
        return found


def residual() -> lenet5c.Model:
    """Two residual blocks of 16 and 32 channels."""
    from lenet5c import BatchNorm2d, Conv2d, Dense, GlobalAvgPool2d, ReLU, Residual

    def block(filters: int, stride: int) -> list[lenet5c.layers.Layer]:
        inner = [Conv2d(filters, 3, stride=stride, padding=1), BatchNorm2d(), ReLU()]
        inner += [Conv2d(filters, 3, padding=1), BatchNorm2d()]
        return [Residual(inner, [Conv2d(filters, 1, stride=stride)]), ReLU()]

    first = [Conv2d(16, 3, stride=2), BatchNorm2d(), ReLU()]
    layers = [*first, *block(16, 1), *block(32, 2), GlobalAvgPool2d(), Dense(10)]
    return lenet5c.Model(layers, input_shape=(1, 28, 28), seed=0)


def check(runtime: Runtime, data: datasets.Dataset, count: int) -> QuantizedModel:
    """Compare all scores, and return the quantised LeNet-5."""
    networks = {
        "lenet5": lenet5c.lenet5,
        "cnn3": lenet5c.cnn3,
        "mlp": lenet5c.mlp,
        "residual": residual,
    }
    rows, kept = [], None
    for name, make in networks.items():
        model = make()
        model.fit(*data.train, epochs=1)
        quantized = model.quantize(data.train.images[::60])
        images = np.ascontiguousarray(data.test.images[:count])
        parts = np.array_split(images.reshape(-1, 1, 28, 28), 20)
        expected = [[*quantized._maps(part)][-1] for part in parts]
        expected = np.concatenate(expected).reshape(len(images), -1)
        report = quantized.report(*data.test)
        row = [name, f"{report.float_accuracy:.2%}", f"{report.accuracy:.2%}"]
        for by in SETS:
            opened = runtime.open(quantized, by)
            differ = "not here"
            if opened:
                found = runtime.scores(opened, images, len(model.classes))
                differ = f"{(found != expected).sum():,}"
            row.append(differ)
        rows.append(row)
        kept = kept or (model, quantized)
    head = ["network", "floats", "int8", *(f"{by}: other scores" for by in SETS)]
    print(table([head, *rows]))
    return kept


def timed(work: Callable[[], object], images: int) -> float:
    """Microseconds of an image."""
    return moment(work) / images * 1e6


def in_turns(works: Sequence[Callable[[], float]], rounds: int) -> list[str]:
    """Medians of both, and of the first over the second in the same turn."""
    times = [[work() for work in works] for _ in range(rounds)]
    columns = [*zip(*times, strict=True), [a / b for a, b in times]]
    return [f"{statistics.median(column):.2f}" for column in columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=10_000)
    args = parser.parse_args()
    print(machine())
    data = datasets.mnist()
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(Path(folder))
        model, quantized = check(runtime, data, args.images)
        images = np.ascontiguousarray(data.test.images)
        pixels = images.ctypes.data_as(ctypes.c_void_p)
        rows = [["one image from C, us", "int8", "float32", "ratio"]]
        for by in SETS:
            pair = [runtime.open(which, by) for which in (quantized, model)]
            if pair[0]:
                works = [
                    lambda of=of: runtime.c.of_one(of, pixels, 2000) for of in pair
                ]
                rows.append([by, *in_turns(works, args.rounds)])
        print(f"\n{table(rows)}")
    predictors = quantized.predictor(), model.predictor()
    works = [
        lambda of=of: timed(lambda: [of(image) for image in images[:256]], 256)
        for of in predictors
    ]
    rows = [["from Python, us", "int8", "other", "ratio"]]
    rows.append(["one image, predictor()", *in_turns(works, args.rounds)])
    peers = {"float32": lambda: model.predict(images, threads=1)}
    try:
        from inference import onnx_session

        session = onnx_session(model, 1)
        batch = np.zeros((1000, 1, 32, 32), np.float32)
        parts = range(len(images) // len(batch))
        peers["ONNX Runtime"] = lambda: [session.run(None, {"x": batch}) for _ in parts]
    except ImportError:
        print("\nwithout ONNX Runtime, which is not installed")
    for name, peer in peers.items():
        works = [
            lambda: timed(lambda: quantized.predict(images, threads=1), len(images)),
            lambda peer=peer: timed(peer, len(images)),
        ]
        rows.append([f"batches, beside {name}", *in_turns(works, args.rounds)])
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
