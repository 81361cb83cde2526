"""What `bench` and `compare` measure: speeds, and memory.

Every speed is the median of several runs, taken after one that warms up.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.build import build_info
from lenet5c.interfaces import AnyModel
from lenet5c.model import Model
from lenet5c.networks import NETWORKS
from lenet5c.training.optimizers import SGD

RUNS = 5
SECONDS_OF_A_RUN = 0.2
TRAINING_BATCHES = (32, 64, 256)
INFERENCE_BATCH = 1000


def speeds(
    network: str, threads: int | None, measured: Callable[[str], None]
) -> dict[str, Any]:
    """Measure `network` on noise, in training and in prediction.

    Parameters
    ----------
    network : str
        A key of NETWORKS.
    threads : int or None
    measured : callable
        Is told each figure, as a line of text, as soon as it is known.

    Returns
    -------
    dict
        network, isa, threads, latency_seconds, and `speeds`: a list of dicts with what
        ("training" or "predict"), batch_size, images_per_second and gflops.
    """
    model = NETWORKS[network]()
    found = []
    for batch_size in TRAINING_BATCHES:
        speed = training_speed(network, batch_size, threads)
        adds = training_multiply_adds(model)
        found.append(_figure("training", batch_size, speed, adds, measured))
    images, _ = synthetic_images(INFERENCE_BATCH)
    predicted = prediction_speeds(model, images, threads, measured)
    return {"network": network, **predicted, "speeds": found + predicted["speeds"]}


def prediction_speeds(
    model: AnyModel,
    images: NDArray[Any],
    threads: int | None,
    measured: Callable[[str], None],
) -> dict[str, Any]:
    """Measure the prediction of a model, in floats or in integers.

    Parameters
    ----------
    model : Model or QuantizedModel
    images : array
        INFERENCE_BATCH of them.
    threads, measured
        As in `speeds`.

    Returns
    -------
    dict
        As of `speeds`, without `network` and training. The isa is that of the engine
        that computes; of integers there are `gops` in place of `gflops`, and the rows
        say "predict in int8".
    """
    what, unit, info = "predict", "gflops", build_info()
    isa = info["isa"]
    if model.dtype != "float32":
        what, unit = f"predict in {model.dtype}", "gops"
        isa = model.predictor().instruction_set
    seconds = inference_seconds(model, images, INFERENCE_BATCH, threads)
    speed, adds = INFERENCE_BATCH / seconds, model.multiply_adds
    return {
        "isa": isa,
        "threads": threads or info["threads"],
        "speeds": [_figure(what, INFERENCE_BATCH, speed, adds, measured, unit)],
        "latency_seconds": inference_seconds(model, images, 1, threads),
    }


def _figure(
    what: str,
    batch_size: int,
    speed: float,
    multiply_adds: int,
    measured: Callable[[str], None],
    unit: str = "gflops",
) -> dict[str, Any]:
    measured(f"{what}, batch {batch_size}: {speed:,.0f} images/s")
    return {
        "what": what,
        "batch_size": batch_size,
        "images_per_second": speed,
        unit: speed * 2e-9 * multiply_adds,
    }


def training_multiply_adds(model: Model) -> int:
    """Return the multiply-adds of one image's forward and backward pass.

    The backward pass takes the forward pass's multiply-adds twice, for the gradients of
    the weights and of the input; nobody needs the gradient of the images.
    """
    costs = [
        layer.multiply_adds(shape)
        for layer, shape in zip(model.layers, model.shapes, strict=False)
    ]
    return 3 * sum(costs) - next(filter(None, costs))


def training_speed(network: str, batch_size: int, threads: int | None = None) -> float:
    """Return the images a second of one epoch of `fit`, packing included."""
    model = NETWORKS[network]()

    def epoch(count: int) -> float:
        images, labels = synthetic_images(count)
        started = time.perf_counter()
        model.fit(
            images,
            labels,
            epochs=1,
            batch_size=batch_size,
            # noise teaches nothing; a small step keeps the weights where they are
            optimizer=SGD(learning_rate=1e-3),
            threads=threads,
        )
        return count / (time.perf_counter() - started)

    epoch(1024)
    count = 256 * round(epoch(1024) * SECONDS_OF_A_RUN / 256)
    count = min(30 * 1024, max(1024, count))
    return statistics.median(epoch(count) for _ in range(RUNS))


def inference_seconds(
    model: AnyModel, images: NDArray[Any], count: int, threads: int | None = None
) -> float:
    """Return the median time of `predict` for `count` of the images."""
    batch = np.resize(images, (count, *images.shape[1:]))
    model.predict(batch, threads=threads)
    times = []
    end = time.perf_counter() + RUNS * SECONDS_OF_A_RUN
    while (started := time.perf_counter()) < end:
        model.predict(batch, threads=threads)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def synthetic_images(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noise: uint8 images (count, 28, 28) and labels (count,) of ten classes."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, np.arange(count) % 10


def noise_for(model: AnyModel) -> NDArray[Any]:
    """Return noise of the kind and the size of the images that a model takes."""
    random = np.random.default_rng(0)
    shape = (INFERENCE_BATCH, model.input_shape[0], *model.source)
    pixels = model.stage.pixels
    if isinstance(pixels, tuple) and not model.stage.takes_bytes:
        return random.uniform(*pixels, shape).astype(np.float32)
    return random.integers(0, 256, shape, dtype=np.uint8)


def peak_memory() -> int | None:
    """Return the most bytes this process has had in memory; None if nothing tells."""
    try:
        # Not ru_maxrss: on Linux a child starts with its parent's.
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
