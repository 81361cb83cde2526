"""Many trainings, and predictions of very many images: workers against one process.

python benchmarks/many.py [--fits 50] [--epochs 3] [--images 1000000] [--workers 2]
                          [--runs 3] [--folder FOLDER]

LeNet-5 is trained on scikit-learn's digits with `--fits` seeds: one after the other
with as many threads as there are workers, and by workers of one thread each. Then
images in an .npy file are predicted: by one process with as many threads, and by Dask's
workers. Workers are started before the clock; what each of them loads at first is in a
run that is not counted. Medians of several runs; the file is written to a new folder in
FOLDER (else in that for temporary files) and removed at the end.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib
import numpy as np
from common import machine, rest, seconds, table
from distributed import Client, LocalCluster
from large_data import write_images

import lenet5c

IMAGES = 16_384  # of a task


def train(seed: int, epochs: int, threads: int | None = None) -> bytes:
    model = lenet5c.lenet5(seed=seed)
    images, labels = lenet5c.datasets.digits().train
    model.fit(images, labels, epochs=epochs, seed=seed, threads=threads)
    return model.parameter_vector.tobytes()


def predict(
    model: lenet5c.Model, path: str, start: int, threads: int | None = None
) -> np.ndarray:
    images = np.load(path, mmap_mode="r")[start : start + IMAGES]
    return model.predict(images, threads=threads)


def median(work: Callable[[], Sequence[object]], runs: int) -> tuple[float, bytes]:
    """Seconds, and what was found, which is the same each time."""
    first = b"".join(map(bytes, work()))
    rest()
    return statistics.median(seconds(work) for _ in range(runs)), first


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Workers against one process")
    parser.add_argument("--fits", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args(arguments)
    seeds, workers, runs = range(args.fits), args.workers, args.runs

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
        joblib.Parallel(workers) as by_joblib,
        tempfile.TemporaryDirectory(dir=args.folder) as folder,
    ):

        def dask_fits() -> list[bytes]:
            fits = client.map(train, seeds, epochs=args.epochs, pure=False)
            return client.gather(fits)

        ways = {
            f"one after the other, {workers} threads": lambda: [
                train(seed, args.epochs, workers) for seed in seeds
            ],
            f"joblib, {workers} workers": lambda: by_joblib(
                joblib.delayed(train)(seed, args.epochs) for seed in seeds
            ),
            f"Dask, {workers} workers": dask_fits,
        }
        print(machine(), end="\n\n")
        print(of_ways(f"fits, {args.epochs} epochs", args.fits, ways, runs))

        path = Path(folder) / "images.npy"
        write_images(path, args.images)
        model = lenet5c.lenet5()
        everywhere = client.scatter(model, broadcast=True)
        starts = range(0, args.images, IMAGES)

        def dask_predictions() -> list[np.ndarray]:
            tasks = [
                client.submit(predict, everywhere, str(path), start, pure=False)
                for start in starts
            ]
            return client.gather(tasks)

        ways = {
            f"one process, {workers} threads": lambda: [
                predict(model, str(path), start, workers) for start in starts
            ],
            f"Dask, {workers} workers": dask_predictions,
        }
        print("\n" + of_ways("images", args.images, ways, runs))


def of_ways(
    what: str, count: int, ways: dict[str, Callable[[], Sequence[object]]], runs: int
) -> str:
    """A table of the ways, all of which find the same bits."""
    rows, found = [(f"{count:,} {what}", "s", "a second")], set()
    for name, work in ways.items():
        took, result = median(work, runs)
        found.add(result)
        rows.append((name, f"{took:.2f}", f"{count / took:,.1f}"))
    if len(found) > 1:
        raise SystemExit("expected the same bits in each way, got different ones")
    return table(rows)


if __name__ == "__main__":
    main()
