"""How the time of an image grows: with the images of a call, of a batch, of a data set,
with their size and with the parameters. No step up should be larger than 15 %.

    python benchmarks/growth.py [--threads 1] [--rounds 7] [--picture growth.svg]

Medians of time an image in microseconds, taken in turns. The picture needs matplotlib.
"""

import argparse
import statistics
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from common import machine, moment, table

import lenet5c
from lenet5c import layers as kinds

NETWORKS = ("lenet5", "mlp", "cnn3", "resnet18")
CALLS = (
    1,
    2,
    4,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    48,
    64,
    65,
    128,
    256,
    257,
    1024,
    4096,
)
BATCHES = (16, 32, 64, 96, 128, 192, 256, 288, 512, 1024, 2048, 4096)
SIDES = (16, 24, 28, 32, 48, 64, 96, 128, 192, 256)
WIDTHS = (1, 4, 16, 64, 128, 160, 165, 166, 200, 256, 512, 1024, 4096, 16384)
DATA = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
MOST_PIXELS = 1 << 24  # of a call, so that none takes minutes

PLOTS = (  # the beginning of the curves' names, x, and what takes so long
    ("prediction", "images of a call", "time of an image"),
    ("training", "images of a batch", "time of an image"),
    ("pixels", "side of the image", "time of a pixel"),
    ("weights", "weights", "time of a product"),
    ("data set", "images", "time of an image"),
)
WORDS = """Time, its least = 1: the median of
several rounds, one thread.

Left of each curve is what a call costs
by itself. What rises to the right is
what leaves a cache."""

Points = dict[int, float]


def medians(
    works: dict[int, tuple[Callable[[], object], float]], rounds: int
) -> Points:
    """Median of each work's time over its divisor, in microseconds."""
    found: dict[int, list[float]] = {n: [] for n in works}
    for work, _ in works.values():
        work()
    for _ in range(rounds):
        for n, (work, _) in works.items():
            found[n].append(moment(work))
    return {
        n: statistics.median(times) / works[n][1] * 1e6 for n, times in found.items()
    }


def model_of(name: str) -> lenet5c.Model:
    return getattr(lenet5c, name)()


def images_of(model: lenet5c.Model, count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, *model.input_shape), np.uint8)


def prediction(name: str, threads: int, rounds: int) -> Points:
    model = model_of(name)
    counts = [n for n in CALLS if name != "resnet18" or n <= 257]
    images = images_of(model, max(counts))

    def of(count: int) -> Callable[[], object]:
        return lambda: model.forward(images[:count], threads=threads)

    return medians({n: (of(n), n) for n in counts}, rounds)


def training(name: str, threads: int, rounds: int) -> Points:
    model = model_of(name)
    counts = [
        n for n in BATCHES if n <= {"resnet18": 256, "cnn3": 1024}.get(name, 4096)
    ]
    images = images_of(model, max(counts))
    labels = np.zeros(len(images), np.int32)
    model.set_input(model.stage, model.input_shape[1:], np.arange(10))
    gradient = np.empty_like(model.parameter_vector)

    def of(count: int) -> Callable[[], object]:
        every = np.arange(count)
        return lambda: model.loss_of_batch(images, every, labels, gradient, threads)

    return medians({n: (of(n), n) for n in counts}, rounds)


def sides(threads: int, rounds: int) -> Points:
    """Nanoseconds of a pixel, in prediction of a small network, by the images' side."""

    def of(side: int) -> tuple[Callable[[], object], float]:
        layers = [kinds.Conv2d(8, 3, padding=1), kinds.ReLU(), kinds.MaxPool2d(2)]
        layers += [
            kinds.Conv2d(16, 3, padding=1),
            kinds.ReLU(),
            kinds.GlobalAvgPool2d(),
        ]
        layers += [kinds.Flatten(), kinds.Dense(10)]
        model = lenet5c.Model(layers, input_shape=(3, side, side))
        count = min(64, MOST_PIXELS // (3 * side * side))
        images = images_of(model, count)
        work = lambda: model.forward(images, threads=threads)  # noqa: E731
        return work, count * side * side / 1000

    return medians({side: of(side) for side in SIDES}, rounds)


def widths(threads: int, rounds: int) -> Points:
    """Picoseconds of a product, in prediction of 64 images, by thousands of weights."""

    def of(width: int) -> tuple[Callable[[], object], float]:
        layers = [kinds.Flatten(), kinds.Dense(width), kinds.ReLU(), kinds.Dense(10)]
        model = lenet5c.Model(layers, input_shape=(1, 28, 28))
        images = images_of(model, 64)
        work = lambda: model.forward(images, threads=threads)  # noqa: E731
        return work, 64 * model.multiply_adds / 1e6

    return {794 * w: t for w, t in medians({w: of(w) for w in WIDTHS}, rounds).items()}


def data(threads: int, rounds: int) -> Points:
    """Microseconds of an image in an epoch of `fit`, by the images of the data set."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (max(DATA), 8, 8), np.uint8)
    labels = random.integers(0, 10, len(images))
    layers = [kinds.Conv2d(8, 3), kinds.ReLU(), kinds.Flatten(), kinds.Dense(10)]

    def of(count: int) -> Callable[[], object]:
        model = lenet5c.Model(layers, input_shape=(1, 8, 8))
        given = images[:count], labels[:count]
        return lambda: model.fit(*given, epochs=1, threads=threads, verbose=False)

    return medians({n: (of(n), n) for n in DATA}, rounds)


def worst_step(points: Points) -> tuple[float, int]:
    """The largest ratio of a point to the one before, and where."""
    return max((b[1] / a[1], b[0]) for a, b in pairwise(points.items()))


def draw(curves: dict[str, Points], path: str) -> None:
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "growth", "svg.fonttype": "none"}
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), constrained_layout=True)
    for axis, (title, of, what) in zip(axes.flat, PLOTS, strict=False):
        for name, points in curves.items():
            if not name.startswith(title):
                continue
            times = np.array(list(points.values()))
            label = name.partition(", ")[2]
            axis.plot(list(points), times / times.min(), ".-", label=label, lw=1.2)
            if label:
                axis.legend(fontsize=8, frameon=False)
        axis.set(xscale="log", yscale="log", title=f"{title}: {what}", xlabel=of)
        axis.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes.flat[-1].axis("off")
    axes.flat[-1].text(0, 0.95, WORDS, va="top", fontsize=10)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--picture", help="file to draw into")
    arguments = parser.parse_args()
    threads, rounds = arguments.threads, arguments.rounds
    print(machine() + "\n")
    curves: dict[str, Points] = {}
    for name in NETWORKS:
        curves[f"prediction, {name}"] = prediction(name, threads, rounds)
        curves[f"training, {name}"] = training(name, threads, rounds)
    curves["pixels"] = sides(threads, rounds)
    curves["weights"] = widths(threads, rounds)
    curves["data set"] = data(threads, rounds)
    rows = [("", "worst step", "at")]
    for name, points in curves.items():
        print(name + ":", ", ".join(f"{n} {t:.3g}" for n, t in points.items()))
        step, at = worst_step(points)
        rows.append((name, f"{step:.2f}", str(at)))
    print("\n" + table(rows))
    if arguments.picture:
        draw(curves, arguments.picture)


if __name__ == "__main__":
    main()
