"""What test_ranks.py trains: in one process, and in all ranks that mpiexec starts.

    mpiexec -n RANKS python mpi_trainings.py THREADS [NAME ...]

prints a digest of the weights of each training, by rank, as JSON.
"""

import hashlib
import json
import sys
from collections.abc import Callable

import numpy as np

import lenet5c
from lenet5c import SGD, AdamW, Augment, BatchNorm2d, Conv2d, Dense, MaxPool2d, ReLU

rng = np.random.default_rng(11)
IMAGES = rng.integers(0, 256, (600, 16, 16), dtype=np.uint8)
LABELS = rng.integers(0, 10, 600)


def small(*, norm: bool = False, dropout: float = 0.0) -> lenet5c.Model:
    layers = [
        Conv2d(4, 5, name="A"),
        *([BatchNorm2d()] if norm else []),
        ReLU(),
        MaxPool2d(2, name="P"),
        Conv2d(6, 3, name="B"),
        ReLU(),
        Dense(20, name="C"),
        ReLU(),
        lenet5c.Dropout(dropout, name="drop"),
        Dense(10, name="D"),
    ]
    return lenet5c.Model(layers, input_shape=(1, 16, 16), seed=5)


def wide() -> lenet5c.Model:
    """So many weights of convolutions that a shard has several blocks."""
    layers = [Conv2d(96, 5, name="A"), ReLU(), Conv2d(256, 5, name="B"), ReLU()]
    layers += [MaxPool2d(8, name="P"), Dense(10, name="D")]
    return lenet5c.Model(layers, input_shape=(1, 16, 16), seed=5)


def fit(
    model: Callable[[], lenet5c.Model], count: int = 600, **options: object
) -> Callable[..., lenet5c.Model]:
    def train(**more: object) -> lenet5c.Model:
        made = model()
        given = {"epochs": 2, **options, **more}
        for name in ("optimizer", "augment"):
            if name in given:
                given[name] = given[name]()
        made.fit(IMAGES[:count], LABELS[:count], **given)
        return made

    return train


TRAININGS = {
    "sgd": fit(small, batch_size=64),
    "adamw": fit(small, batch_size=100, optimizer=AdamW, weight_average=0.9),
    "augmented": fit(small, batch_size=48, augment=lambda: Augment(shift=2, rotate=9)),
    "dropout": fit(lambda: small(dropout=0.4), batch_size=96),
    "batch normalisation": fit(lambda: small(norm=True), batch_size=50),
    "ragged": fit(
        small, batch_size=35, count=211, optimizer=lambda: SGD(nesterov=True)
    ),
    "microbatches": fit(small, batch_size=600),
    "parts": fit(small, batch_size=200, accumulate=3, clip_norm=0.5),
    "few bits": fit(small, batch_size=64, quantize=4),
    "one image": fit(small, batch_size=1, count=40),
    "few images": fit(small, batch_size=5, count=99),
    "large shards": fit(wide, batch_size=200, count=200, epochs=1),
    "weights, smoothing": fit(
        small, batch_size=64, class_weight="balanced", label_smoothing=0.1
    ),
    "validation": fit(
        small, batch_size=64, validation=0.2, early_stopping=1, epochs=4, seed=3
    ),
}


def digest(model: lenet5c.Model) -> str:
    return hashlib.sha256(model.state_vector.tobytes()).hexdigest()


def main() -> None:
    from mpi4py import MPI

    threads, *names = sys.argv[1:]
    comm = MPI.COMM_WORLD
    options = {"comm": comm, "threads": int(threads)}
    found = {name: digest(TRAININGS[name](**options)) for name in names or TRAININGS}
    every = comm.gather(found)
    if comm.Get_rank() == 0:
        print(json.dumps(every))


if __name__ == "__main__":
    main()
