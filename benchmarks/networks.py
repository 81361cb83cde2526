"""Training speed and memory of the other networks against PyTorch (eager).

    python benchmarks/networks.py [--threads 2] [--rounds 5] [--networks mlp,cnn3]

Both train the same network on the same batches with SGD and Nesterov momentum; PyTorch
with the better of its two memory formats, on float32 images that are ready in memory.
Speeds are taken in turns. Peak memory is that of a process of its own for each side,
with Python and the library itself.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

from common import machine, noise, rest, seconds, table, torch_block, trainer

import lenet5c

BATCHES = {"mlp": (64, 256), "cnn3": (64, 256), "resnet18": (128,)}
IMAGES = {"mlp": 32768, "cnn3": 8192, "resnet18": 2048}
FORMATS = ("contiguous_format", "channels_last")


def ours(name: str, batch_size: int, threads: int):
    """A function that trains an epoch with `fit` and returns images a second."""
    images, labels = noise(IMAGES[name])
    model = getattr(lenet5c, name)()
    return trainer(model, images, labels, batch_size, 0.001, threads)


def torch_network(name: str):
    """The same network in PyTorch, with the side of its input."""
    from torch import nn

    if name == "mlp":
        return 28, nn.Sequential(
            *(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
        )
    if name == "cnn3":
        return 28, nn.Sequential(
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 128, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 10)),
        )

    layers = [
        nn.Conv2d(1, 64, 7, 2, 3, bias=False),
        *(nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)),
    ]
    inputs = 64
    for filters in (64, 128, 256, 512):
        for stride in (1 if filters == inputs else 2, 1):
            layers += [torch_block(inputs, filters, stride), nn.ReLU(inplace=True)]
            inputs = filters
    return 32, nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)
    )


def pytorch(name: str, batch_size: int, threads: int, memory_format: str):
    """The same for PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    images, codes = noise(IMAGES[name])
    side, network = torch_network(name)
    margin = (side - 28) // 2
    x = torch.zeros(len(images), 1, side, side)
    x[:, 0, margin : margin + 28, margin : margin + 28] = torch.from_numpy(images) / 255
    order = getattr(torch, memory_format)
    x, network = x.to(memory_format=order), network.to(memory_format=order)
    y = torch.from_numpy(codes)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.001, momentum=0.9, nesterov=True
    )

    def epoch() -> float:
        def batches() -> None:
            for start in range(0, len(x), batch_size):
                part = slice(start, start + batch_size)
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(x[part]), y[part])
                loss.backward()
                optimizer.step()

        return len(x) / seconds(batches)

    return epoch


def peak_memory(side: str, *arguments: object) -> float:
    """MiB that a process takes at the most which trains one epoch on that side."""
    command = [sys.executable, __file__, "--memory", json.dumps([side, *arguments])]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", default=",".join(BATCHES))
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        side, *values = json.loads(arguments.memory)
        (ours if side == "ours" else pytorch)(*values)()
        status = Path("/proc/self/status").read_text()  # ru_maxrss knows the parent
        print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024)
        return
    threads = arguments.threads
    print(machine() + "\n")
    head = ("network", "batch", "lenet5c img/s", *(f"PyTorch {f}" for f in FORMATS))
    rows = [(*head, "ratio", "lenet5c MiB", "PyTorch MiB")]
    for name in arguments.networks.split(","):
        for batch in BATCHES[name]:
            runs = [ours(name, batch, threads)]
            runs += [pytorch(name, batch, threads, order) for order in FORMATS]
            for run in runs:
                run()
            speeds: list[list[float]] = [[] for _ in runs]
            for _ in range(arguments.rounds):  # in turns: a slow moment slows all
                for run, found in zip(runs, speeds, strict=True):
                    rest()
                    found.append(run())
            medians = [statistics.median(found) for found in speeds]
            del runs
            best = FORMATS[medians[1:].index(max(medians[1:]))]
            memory = (
                peak_memory("ours", name, batch, threads),
                peak_memory("pytorch", name, batch, threads, best),
            )
            rows.append(
                (
                    *(name, str(batch)),
                    *(f"{speed:,.0f}" for speed in medians),
                    f"{medians[0] / max(medians[1:]):.2f}x",
                    *(f"{size:,.0f}" for size in memory),
                )
            )
    print(table(rows))


if __name__ == "__main__":
    main()
