"""What workers do in test_many_trainings.py: a file that they can import, as they
cannot one of tests, whose name depends on how these were started.
"""

import os
import threading
from typing import Any

import numpy as np

import lenet5c


def data() -> tuple[np.ndarray, np.ndarray]:
    """Images (256, 28, 28), each class with a pattern of its own, and their labels."""
    random = np.random.default_rng(7)
    patterns = random.integers(0, 200, (10, 28, 28))
    labels = np.arange(256) % 10
    noise = random.integers(0, 56, (256, 28, 28))
    return (patterns[labels] + noise).astype(np.uint8), labels


def trained(seed: int, **options: Any) -> lenet5c.Model:
    model = lenet5c.lenet5(seed=seed)
    model.fit(*data(), **{"epochs": 2, "seed": seed} | options)
    return model


def bits(seed: int) -> bytes:
    return trained(seed).parameter_vector.tobytes()


def threads_of_a_training(seed: int) -> tuple[int, int]:
    """The process, and how many threads it starts, without those of the engine's."""
    before = set(os.listdir("/proc/self/task"))
    trained(seed)
    started = set(os.listdir("/proc/self/task")) - before
    return os.getpid(), len(started - {str(t.native_id) for t in threading.enumerate()})


def fails(_: int) -> None:
    images, labels = data()
    lenet5c.lenet5().fit(images, labels[:200])


def diverges(_: int) -> None:
    trained(0, optimizer=lenet5c.SGD(1e30), clip_norm=1e30)
