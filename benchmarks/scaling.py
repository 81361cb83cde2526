"""How speed grows with threads and images, and memory with the batch; import and size.

python benchmarks/scaling.py
"""

import statistics
import subprocess
import sys
from pathlib import Path

from common import machine, noise, seconds, table

import lenet5c

MEMORY = """
import sys, lenet5c, numpy
from lenet5c.cli.measure import peak_memory
random = numpy.random.default_rng(0)
images = random.integers(0, 256, (16384, 28, 28), dtype=numpy.uint8)
lenet5c.lenet5().fit(images, random.integers(0, 10, 16384), epochs=1,
                     batch_size=int(sys.argv[1]))
print(peak_memory())
"""
IMPORT = """
import time
import {before}
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def of_child(code: str, *arguments: str) -> float:
    """The number that this code prints in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return float(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )


def main() -> None:
    print(machine(), end="\n\n")
    images, labels = noise(32768)
    model = lenet5c.lenet5()

    def fit(count: int, threads: int) -> float:
        return seconds(
            lambda: model.fit(
                images[:count],
                labels[:count],
                epochs=1,
                batch_size=256,
                threads=threads,
            )
        )

    fit(2048, 2)
    singles, pairs = [], []
    for _ in range(9):
        singles.append(fit(16384, 1))
        pairs.append(fit(16384, 2))
    one, two = statistics.median(singles), statistics.median(pairs)
    rows = [("", "value"), ("two threads against one, batch 256", f"{one / two:.2f}x")]
    for count in (8192, 16384, 32768):
        took = statistics.median(fit(count, 2) for _ in range(5))
        rows.append(
            (f"microseconds an image, {count} images", f"{1e6 * took / count:.2f}")
        )
    small, large = of_child(MEMORY, "32"), of_child(MEMORY, "4096")
    rows.append(("peak memory, batch 32, MB", f"{small / 1e6:.1f}"))
    rows.append(("peak memory, batch 4096, MB", f"{large / 1e6:.1f}"))
    code = IMPORT.format(before="numpy", module="lenet5c")
    took = statistics.median(of_child(code) for _ in range(11))
    rows.append(("import lenet5c after numpy, ms", f"{1e3 * took:.1f}"))
    size = sum(
        path.stat().st_size for path in Path(lenet5c.__file__).parent.glob("*.so")
    )
    rows.append(("compiled cores on disk, MB", f"{size / 1e6:.2f}"))
    print(table(rows))


if __name__ == "__main__":
    main()
