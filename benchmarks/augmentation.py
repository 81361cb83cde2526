"""What augmentation adds to the time of an epoch.

python benchmarks/augmentation.py [--images 20000] [--runs 7] [--threads T]
"""

import argparse
import statistics

import numpy as np
from common import machine, noise, seconds, table

import lenet5c
from lenet5c import Augment

CASES = {
    "none": None,
    "affine": Augment(),
    "affine, elastic": Augment(elastic=34),
    "affine, noise": Augment(noise=0.1),
    "affine, erasing": Augment(erase=0.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    images, labels = noise(arguments.images)
    model = lenet5c.lenet5()
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(1 + arguments.runs):  # in turns; the first warms up
        for name, augment in CASES.items():
            times[name].append(
                seconds(
                    lambda a=augment: model.fit(
                        images, labels, epochs=1, augment=a, threads=arguments.threads
                    )
                )
            )
    plain = np.array(times["none"][1:])
    rows = [("augmentation", "images/s", "adds to an epoch")]
    for name, found in times.items():
        speed = arguments.images / statistics.median(found[1:])
        added = statistics.median(np.array(found[1:]) / plain) - 1
        rows.append((name, f"{speed:,.0f}", f"{added:.0%}"))
    print(machine(), end="\n\n")
    print(table(rows))


if __name__ == "__main__":
    main()
