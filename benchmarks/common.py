"""What the benchmark scripts share: the machine, the FMA peak, medians, tables."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import lenet5c
from lenet5c._support.cores import core

MOMENT = 0.06  # seconds that a short measurement takes, or one run
FLOPS_OF_AN_IMAGE = 2 * 1_131_960  # training LeNet-5: forward, and backward to C1


def machine() -> str:
    """The CPU, its vector instructions and the core in use, in one line."""
    name, flags = platform.processor() or "CPU", ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(
            line.split(":", 1)
            for line in cpuinfo.read_text().splitlines()
            if ":" in line
        )
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        name = fields.get("model name", name)
        known = ("avx2", "fma", "avx512f")
        flags = " ".join(
            flag for flag in known if flag in fields.get("flags", "").split()
        )
    info = lenet5c.build_info()
    return (
        f"{name} ({flags}), {os.cpu_count()} CPUs; lenet5c {info['version']}, core "
        f"{info['isa']}, {info['threads']} threads, {info['compiler']}"
    )


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes, once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def moment(work: Callable[[], object]) -> float:
    """Seconds of one run, the mean of as many as fit into MOMENT."""
    started = time.perf_counter()
    runs = 0
    while True:
        work()
        runs += 1
        took = time.perf_counter() - started
        if took > MOMENT:
            return took / runs


def torch_block(inputs: int, filters: int, stride: int):
    """A residual block of PyTorch, but for the ReLU behind it."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inputs, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(inplace=True),
                nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                nn.BatchNorm2d(filters),
            )
            self.shortcut = nn.Sequential()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, filters, 1, stride, bias=False),
                    nn.BatchNorm2d(filters),
                )

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    return Block()


def rest() -> None:
    """Let the threads of the peer measured before stop spinning for more work."""
    time.sleep(0.3)


def peak_gflops(threads: int, runs: int = 9) -> float:
    """GFLOP/s of multiply-adds on registers alone: what no kernel can exceed."""
    rounds = 2_000_000
    flops = 2 * 12 * core.lanes_per_block * rounds * threads
    core.multiply_adds_at_peak(rounds, threads)
    return max(
        flops / seconds(lambda: core.multiply_adds_at_peak(rounds, threads)) * 1e-9
        for _ in range(runs)
    )


def noise(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (count, 28, 28) and labels of ten classes."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, random.integers(0, 10, count)


def trainer(
    model: lenet5c.Model,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    learning_rate: float,
    threads: int,
) -> Callable[[], float]:
    """A function that trains an epoch with `fit` and returns images a second."""

    def epoch() -> float:
        optimizer = lenet5c.SGD(learning_rate, momentum=0.9, nesterov=True)
        took = seconds(
            lambda: model.fit(
                images,
                labels,
                epochs=1,
                batch_size=batch_size,
                optimizer=optimizer,
                threads=threads,
            )
        )
        return len(images) / took

    return epoch


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows, the head first, as aligned text; all columns but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
