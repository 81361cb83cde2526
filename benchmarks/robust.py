"""Whether default settings learn from few images: lowest accuracy over seeds.

LENET5C_DATA=FOLDER python benchmarks/robust.py [--seeds 20] [--images 150 600 5000]
    [--networks lenet5 mlp]

Each seed has other images and other initial weights. `discs` are pictures of 28 x 28 of
three kinds: full, rings, halves. They are tested on 1,000 others, MNIST on 2,000 of its
test images.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from common import machine, table

import lenet5c
from lenet5c.networks import NETWORKS

Makers = dict[str, Callable[..., lenet5c.Model]]
MAKERS: Makers = NETWORKS | {
    "lenet5 relu": partial(lenet5c.lenet5, activation="relu"),
    "lenet5 relu max": partial(lenet5c.lenet5, activation="relu", pooling="max"),
}


def discs(count: int, seed: int, size: int = 28):
    """(count, size, size) uint8 and (count,): 0 full, 1 a ring, 2 the lower half."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, count)
    rows, columns = np.mgrid[:size, :size]
    images = rng.normal(0, 8, (count, size, size))
    for image, kind in zip(images, kinds, strict=True):
        radius = rng.uniform(size / 6, size / 3)
        y, x = rng.uniform(radius, size - radius, 2)
        distance = np.hypot(rows - y, columns - x)
        inside = distance < radius
        if kind == 1:
            inside &= distance > 0.6 * radius
        elif kind == 2:
            inside &= rows > y
        image[inside] += rng.integers(120, 255)
    return images.clip(0, 255).astype(np.uint8), kinds


def digits(count: int, seed: int):
    """So many of MNIST's training images; all test images that are used without."""
    data = lenet5c.datasets.mnist()
    if seed >= TESTED:
        return data.test.images[:2000], data.test.labels[:2000]
    chosen = np.random.default_rng(seed).permutation(len(data.train.images))[:count]
    return data.train.images[chosen], data.train.labels[chosen]


TESTED = 1000  # seeds from here on are of test images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, nargs="+", default=[150, 600, 5000])
    parser.add_argument("--networks", nargs="+", default=list(MAKERS), choices=MAKERS)
    arguments = parser.parse_args()
    print(machine(), end="\n\n")
    rows = [("data", "network", "images", "lowest %", "median %", "warned", "seconds")]
    for data in (digits, discs):
        for network in arguments.networks:
            for count in arguments.images:
                accuracies, warned = [], 0
                started = time.perf_counter()
                for seed in range(arguments.seeds):
                    images, labels = data(count, seed)
                    classes = 3 if data is discs else 10
                    model = MAKERS[network](classes=classes, seed=seed)
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("always")
                        model.fit(images, labels)
                    warned += bool(caught)
                    test = data(1000, TESTED + seed)
                    accuracies.append(100 * model.evaluate(*test).accuracy)
                took = time.perf_counter() - started
                rows.append(
                    (
                        data.__name__,
                        network,
                        str(count),
                        f"{min(accuracies):.1f}",
                        f"{statistics.median(accuracies):.1f}",
                        str(warned),
                        f"{took / arguments.seeds:.2f}",
                    )
                )
                print(*rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
