"""Many shapes of networks against the better of PyTorch and ONNX Runtime, in turns.

    python benchmarks/shapes.py [--threads 1] [--rounds 3] [--only cnn]

Each network is trained in batches of 32 and 256 (a step: loss, gradient, SGD with
momentum) and predicts 1, 8, 9, 64 and 1024 images. The peers get float32 images that
are ready in memory; PyTorch trains in the better of its two memory formats. A ratio is
the time of the better peer over that of lenet5c: below 1 the peer is faster. The worst
are named at the end.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
from common import machine, moment, table, torch_block

import lenet5c
from lenet5c import layers as kinds

TRAINED = (32, 256)
PREDICTED = (1, 8, 9, 64, 1024)
FORMATS = ("contiguous_format", "channels_last")

Spec = list[tuple]


def lenet(norm: bool = False, kernel: int = 5) -> Spec:
    found: Spec = []
    for filters in (6, 16):
        found += [("conv", filters, kernel, 1, 0), *([("norm",)] if norm else [])]
        found += [("tanh",), ("avg", 2)]
    return [*found, ("flat",), *dense(120, 84, 10, curve="tanh")]


def dense(*outputs: int, curve: str = "relu") -> Spec:
    found: Spec = []
    for count in outputs[:-1]:
        found += [("dense", count), (curve,)]
    return [*found, ("dense", outputs[-1])]


def mlp(*outputs: int) -> Spec:
    return [("flat",), *dense(*outputs)]


def convolutions(
    *filters: int, kernel: int, stride: int = 1, classes: int = 10
) -> Spec:
    found: Spec = []
    for count in filters:
        found += [("conv", count, kernel, stride, kernel // 2), ("relu",)]
    return [*found, ("max", 2), ("flat",), ("dense", classes)]


def cnn3() -> Spec:
    found: Spec = []
    for filters in (32, 64):
        found += [("conv", filters, 3, 1, 0), ("relu",), ("max", 2)]
    return [*found, ("conv", 128, 3, 1, 0), ("relu",), ("flat",), ("dense", 10)]


def residual(*filters: int, blocks: int, classes: int = 10) -> Spec:
    found: Spec = [("conv", filters[0], 3, 1, 1), ("norm",), ("relu",)]
    inputs = filters[0]
    for count in filters:
        for _ in range(blocks):
            found += [("block", count, 1 if inputs == count else 2), ("relu",)]
            inputs = count
    return [*found, ("mean",), ("flat",), ("dense", classes)]


NETWORKS: dict[str, tuple[tuple[int, int, int], Spec]] = {
    "lenet5": ((1, 32, 32), lenet()),
    "lenet5 batch norm": ((1, 32, 32), lenet(norm=True)),
    "lenet5 of colours": ((3, 32, 32), lenet()),
    "lenet5 3x3": ((1, 28, 28), lenet(kernel=3)),
    "lenet5 7x7": ((1, 40, 40), lenet(kernel=7)),
    "cnn3": ((1, 28, 28), cnn3()),
    "mlp 784-10": ((1, 28, 28), mlp(10)),
    "mlp 784-100-10": ((1, 28, 28), mlp(100, 10)),
    "mlp 784-1000-10": ((1, 28, 28), mlp(1000, 10)),
    "mlp 784-256-128-10": ((1, 28, 28), mlp(256, 128, 10)),
    "mlp 784-2048-2048-10": ((1, 28, 28), mlp(2048, 2048, 10)),
    "mlp 3072-4096-100": ((3, 32, 32), mlp(4096, 100)),
    "mlp 64-32-2": ((1, 8, 8), mlp(32, 2)),
    "conv 1x1": ((16, 16, 16), convolutions(32, 32, kernel=1)),
    "conv 3x3 of 8": ((1, 8, 8), convolutions(8, kernel=3)),
    "conv 3x3 of 16": ((3, 32, 32), convolutions(16, 16, kernel=3)),
    "conv 3x3 of 32, 1000 classes": (
        (3, 32, 32),
        convolutions(32, kernel=3, classes=1000),
    ),
    "conv 3x3 of 64 at 8": ((64, 8, 8), convolutions(64, 64, kernel=3)),
    "conv 3x3 stride 2": ((3, 64, 64), convolutions(16, 32, kernel=3, stride=2)),
    "conv 3x3 at 112": ((3, 112, 112), convolutions(8, kernel=3)),
    "conv 5x5 of 16": ((3, 32, 32), convolutions(16, 16, kernel=5)),
    "conv 5x5 stride 2": ((1, 64, 64), convolutions(8, 16, kernel=5, stride=2)),
    "conv 7x7 of 16": ((3, 32, 32), convolutions(16, kernel=7)),
    "conv 7x7 stride 2 at 224": ((3, 224, 224), convolutions(8, kernel=7, stride=2)),
    "conv 9x9 of 8": ((1, 28, 28), convolutions(8, kernel=9)),
    "conv 11x11 stride 4": ((3, 64, 64), convolutions(16, kernel=11, stride=4)),
    "resnet 16-32-64, 1 block": ((3, 32, 32), residual(16, 32, 64, blocks=1)),
    "resnet 16-32-64, 3 blocks": ((3, 32, 32), residual(16, 32, 64, blocks=3)),
    "resnet 8-16, 28x28": ((1, 28, 28), residual(8, 16, blocks=1)),
}


def ours(shape: tuple[int, int, int], spec: Spec) -> lenet5c.Model:
    def layer(name: str, *values: int) -> list[kinds.Layer]:
        if name == "conv":
            filters, kernel, stride, padding = values
            return [kinds.Conv2d(filters, kernel, stride=stride, padding=padding)]
        if name == "block":
            filters, stride = values
            body = [kinds.Conv2d(filters, 3, stride=stride, padding=1, bias=False)]
            body += [kinds.BatchNorm2d(), kinds.ReLU()]
            body += [kinds.Conv2d(filters, 3, padding=1, bias=False)]
            shortcut = [kinds.Conv2d(filters, 1, stride=stride, bias=False)]
            short = [*shortcut, kinds.BatchNorm2d()] if stride > 1 else []
            return [kinds.Residual([*body, kinds.BatchNorm2d()], shortcut=short)]
        made = {
            "norm": kinds.BatchNorm2d,
            "tanh": kinds.Tanh,
            "relu": kinds.ReLU,
            "avg": kinds.AvgPool2d,
            "max": kinds.MaxPool2d,
            "mean": kinds.GlobalAvgPool2d,
            "flat": kinds.Flatten,
            "dense": kinds.Dense,
        }
        return [made[name](*values)]

    made = [one for name, *values in spec for one in layer(name, *values)]
    classes = spec[-1][1]
    model = lenet5c.Model(made, input_shape=shape, classes=classes)
    model.set_input(model.stage, shape[1:], np.arange(classes))
    return model


def torchs(shape: tuple[int, int, int], spec: Spec):
    """The same in PyTorch."""
    from torch import nn

    channels, side, found = shape[0], shape[1], []
    features = 0
    for name, *values in spec:
        if name == "conv":
            filters, kernel, stride, padding = values
            found.append(nn.Conv2d(channels, filters, kernel, stride, padding))
            channels, side = filters, (side + 2 * padding - kernel) // stride + 1
        elif name == "block":
            filters, stride = values
            found.append(torch_block(channels, filters, stride))
            channels, side = filters, (side - 1) // stride + 1
        elif name in ("avg", "max"):
            found.append((nn.AvgPool2d if name == "avg" else nn.MaxPool2d)(2))
            side //= 2
        elif name == "mean":
            found.append(nn.AdaptiveAvgPool2d(1))
            side = 1
        elif name == "flat":
            found.append(nn.Flatten())
            features = channels * side * side
        elif name == "dense":
            found.append(nn.Linear(features, values[0]))
            features = values[0]
        elif name == "norm":
            found.append(nn.BatchNorm2d(channels))
        else:
            found.append(nn.Tanh() if name == "tanh" else nn.ReLU())
    return nn.Sequential(*found)


def in_turns(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median of each."""
    for work in works:
        work()
    found = [[moment(work) for work in works] for _ in range(rounds)]
    return [statistics.median(times) for times in zip(*found, strict=True)]


def our_step(model: lenet5c.Model, images, labels, threads: int):
    gradient = np.empty_like(model.parameter_vector)
    optimizer = lenet5c.SGD(1e-4, momentum=0.9)
    every = np.arange(len(images))

    def step() -> None:
        model.loss_of_batch(images, every, labels, gradient, threads)
        optimizer.step(model.parameter_vector, gradient, 1e-4, threads)

    return step


def torch_step(shape, spec: Spec, images, labels, memory_format: str):
    import torch

    order = getattr(torch, memory_format)
    network = torchs(shape, spec).to(memory_format=order)
    x = torch.from_numpy(images.astype(np.float32) / 255).to(memory_format=order)
    y = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def predictors(model: lenet5c.Model, shape, spec: Spec, images, threads: int):
    """lenet5c, ONNX Runtime and PyTorch on the same float images."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        model.export_onnx(file.name, dtype="float32")
        session = onnxruntime.InferenceSession(
            file.name, options, providers=["CPUExecutionProvider"]
        )
    name = session.get_inputs()[0].name
    network = torchs(shape, spec).eval()
    x = torch.from_numpy(images)

    def peer() -> None:
        with torch.inference_mode():
            network(x)

    return [
        lambda: model.forward(images, threads=threads),
        lambda: session.run(None, {name: images}),
        peer,
    ]


def ratios(shape, spec: Spec, threads: int, rounds: int) -> Iterator[float]:
    """Of training and prediction, in the order of the table."""
    random = np.random.default_rng(0)
    model = ours(shape, spec)
    for count in TRAINED:
        images = random.integers(0, 256, (count, *shape), np.uint8)
        labels = random.integers(0, spec[-1][1], count).astype(np.int32)
        works = [our_step(model, images, labels, threads)]
        works += [torch_step(shape, spec, images, labels, f) for f in FORMATS]
        mine, *others = in_turns(works, rounds)
        yield min(others) / mine
    for count in PREDICTED:
        images = random.random((count, *shape), np.float32)
        mine, *others = in_turns(
            predictors(model, shape, spec, images, threads), rounds
        )
        yield min(others) / mine


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a network's name")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(machine() + "\n")
    heads = [f"train {n}" for n in TRAINED] + [f"predict {n}" for n in PREDICTED]
    rows = [("ratio to the better peer", *heads)]
    cells = []
    for name, (shape, spec) in NETWORKS.items():
        if arguments.only not in name:
            continue
        found = list(ratios(shape, spec, arguments.threads, arguments.rounds))
        rows.append((name, *(f"{ratio:.2f}" for ratio in found)))
        cells += [(r, f"{name}, {h}") for r, h in zip(found, heads, strict=True)]
        print(name, *rows[-1][1:], flush=True)
    print("\n" + table(rows) + "\n")
    for ratio, cell in sorted(cells)[:12]:
        print(f"{ratio:.2f}  {cell}")


if __name__ == "__main__":
    main()
