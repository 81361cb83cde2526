"""Prints what trainings and predictions come to, for builds to be compared.

    python tests/core/trained_bits.py

A line for each network, with the SHA-256 of its state after an epoch and of what it
predicts; it fails where another number of threads gives other bits. Two builds of one
core, as with OpenMP and without, print the same.
"""

import copy
import hashlib

import numpy as np

import lenet5c
from lenet5c import BatchNorm2d, Conv2d, Dense, Dropout, MaxPool2d, ReLU, Tanh

# Each of the ways through the core: blockwise, and imagewise for one image and three;
# with dropout and augmentation; layerwise; and several threads on one block. Batches do
# not end with a block. (network, images' shape, batch size, options of fit)
TRAININGS = {
    "LeNet-5": (lenet5c.lenet5(seed=1), (300, 1, 28, 28), 64, {}),
    "augmented": (
        lenet5c.Model(
            [Conv2d(6, 5), Tanh(), MaxPool2d(2), Dropout(0.3), Dense(10)],
            input_shape=(1, 28, 28),
            seed=2,
        ),
        (210, 1, 28, 28),
        37,
        {"augment": lenet5c.Augment(shift=2, rotate=10, elastic=8)},
    ),
    "normalized": (
        lenet5c.Model(
            [Conv2d(8, 3), BatchNorm2d(), ReLU(), MaxPool2d(2), Dense(10)],
            input_shape=(3, 15, 15),
            seed=3,
        ),
        (150, 3, 15, 15),
        50,
        {"optimizer": "adamw"},
    ),
    "one block": (
        lenet5c.Model(
            [Conv2d(32, 3), Tanh(), Conv2d(32, 3), Tanh(), Dense(10)],
            input_shape=(3, 16, 16),
            seed=4,
        ),
        (17, 3, 16, 16),
        3,
        {},
    ),
    "wide": (lenet5c.mlp(hidden=400, seed=5), (200, 1, 28, 28), 90, {}),
}


def digest(fresh, shape, batch_size, options, threads):
    random = np.random.default_rng(7)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    labels = random.integers(0, 10, len(images))
    model = copy.deepcopy(fresh)
    model.fit(
        images, labels, epochs=1, batch_size=batch_size, threads=threads, **options
    )
    found = hashlib.sha256(model.state_vector.tobytes())
    for count in (1, 3, len(images)):
        found.update(model.forward(images[:count], threads=threads).tobytes())
    return found.hexdigest()


for name, training in TRAININGS.items():
    found = {digest(*training, threads) for threads in range(1, 8)}
    if len(found) != 1:
        raise SystemExit(f"{name}: expected the same bits on 1 to 7 threads")
    print(f"{name:12}{found.pop()}")
