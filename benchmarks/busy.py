"""Two threads on a machine that is busy with other work: do they wait without spinning?

    python benchmarks/busy.py [--threads 2] [--seconds 3] [--rounds 3] [--other FOLDER]

Alone and beside a busy loop on each CPU, LeNet-5 trains in processes of their own: on
one thread, as it is, and with OMP_WAIT_POLICY=passive, with which libgomp's threads
never spin. Images a second, medians over rounds in turns. Our own threads take no
notice of that policy; --other measures another build too, such as one from before
csrc/team.h, where it decides.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from common import machine, table

TRAIN = """
import sys, time, numpy, lenet5c
threads, least = int(sys.argv[1]), float(sys.argv[2])
random = numpy.random.default_rng(0)
images = random.integers(0, 256, (1024, 28, 28), dtype=numpy.uint8)
labels = random.integers(0, 10, 1024)
model = lenet5c.lenet5()
epochs, start = -1, time.perf_counter()
while epochs < 1 or time.perf_counter() - start < least:
    model.fit(images, labels, epochs=1, batch_size=64, threads=threads)
    epochs += 1
    if epochs == 0:
        start = time.perf_counter()
print(epochs * len(images) / (time.perf_counter() - start))
"""


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def speed(threads: int, seconds: float, policy: str | None, folder: str) -> float:
    """Images a second of a process that trains for so long, with a folder's build."""
    environment = {
        name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"
    }
    if folder:
        environment["PYTHONPATH"] = folder
    if policy:
        environment["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, "-c", TRAIN, str(threads), str(seconds)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", metavar="FOLDER", default="")
    arguments = parser.parse_args()
    several = f"{arguments.threads} threads"
    ways: dict[str, tuple[int, str | None, str]] = {
        "1 thread": (1, None, ""),
        several: (arguments.threads, None, ""),
        f"{several}, passive": (arguments.threads, "passive", ""),
    }
    if arguments.other:
        ways["other"] = (arguments.threads, None, arguments.other)
        ways["other, passive"] = (arguments.threads, "passive", arguments.other)
    print(machine(), end="\n\n")
    rows = [("images a second", *ways)]
    for name, loops in (("alone", 0), ("beside busy loops", os.cpu_count() or 1)):
        found: dict[str, list[float]] = {way: [] for way in ways}
        with busy_loops(loops):
            for _ in range(arguments.rounds):
                for way, (threads, policy, folder) in ways.items():
                    found[way].append(speed(threads, arguments.seconds, policy, folder))
        medians = [statistics.median(of) for of in found.values()]
        rows.append((name, *(f"{median:,.0f}" for median in medians)))
    print(table(rows))


if __name__ == "__main__":
    main()
