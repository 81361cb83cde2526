"""Memory that training takes when its images are not loaded: a memory-mapped file.

python benchmarks/large_data.py [--gigabytes 2] [--folder FOLDER]

The file is written to a new folder in FOLDER (else in that for temporary files) and
removed at the end. A process of its own trains from it, and its RssAnon, in
/proc/PID/status, is read 500 times a second: memory that nothing but it can give back,
unlike the pages of the map, RssFile.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import machine, noise, table

LIMIT = 150  # MB that training from 2 GB may take
TRAIN = """
import sys, time
import numpy, lenet5c

images = numpy.load(sys.argv[1], mmap_mode="r")
labels = numpy.arange(len(images)) % 10
options = {"epochs": 1, "batch_size": 256, "validation": float(sys.argv[2]) or None}
lenet5c.lenet5().fit(images[:2048], labels[:2048], **options)  # starts the threads
start = time.monotonic()
lenet5c.lenet5().fit(images, labels, **options)
print(start, time.monotonic())
"""


def write_images(path: Path, count: int) -> None:
    """An .npy file of (count, 28, 28) uint8: noise, the same 6 MB again and again."""
    part, _ = noise(8192)
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
    with open(path, "xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(part)):
            file.write(part[: count - start].data)


def megabytes(process: int, what: str) -> float:
    """A line of the process's status; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith(what)) / 1e3


def growth_and_seconds(path: Path, validation: float = 0.0) -> tuple[float, float]:
    """How far RssAnon rises over that before the training, in MB; how long it takes."""
    seen: list[tuple[float, float]] = []
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(path), str(validation)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        while child.poll() is None:
            seen.append((time.monotonic(), megabytes(child.pid, "RssAnon:")))
            time.sleep(0.002)
        assert child.stdout is not None
        printed = child.stdout.read()
    if child.returncode:
        raise SystemExit("the training failed")
    start, end = map(float, printed.split())
    before = [value for when, value in seen if when < start][-1]
    peak = max(value for when, value in seen if start <= when <= end)
    return peak - before, end - start


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Memory of training from a large file")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args(arguments)
    count = int(args.gigabytes * 1e9) // (28 * 28)
    print(machine(), end="\n\n")
    rows = [(f"{count:,} images of 28x28", "grows by, MB", "images/s")]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "images.npy"
        write_images(path, count)
        for name, share in (("all to train", 0.0), ("a tenth held out", 0.1)):
            growth, seconds = growth_and_seconds(path, share)
            speed = f"{count * (1 - share) / seconds:,.0f}"
            rows.append((name, f"{growth:.0f}", speed))
    print(table(rows))
    print(f"\nFrom 2 GB it should be less than {LIMIT} MB.")


if __name__ == "__main__":
    main()
