"""What processes that train together gain, and how they end: docs/mpi.md.

    python benchmarks/ranks.py [--rounds 5] [--network lenet5] [--kills 20]

Times an epoch of random images with one process of 1 and of 2 threads and with 2
processes of one, in turns, in batches of 64, 256 and 1024. Prints medians of a step's
time, what the processes tell each other in one, and by the formula of docs/mpi.md what
2 and 8 machines would take at 10 Gbit/s and 20 us. With --kills a rank of three is
killed, so many times at random moments: whether all end, and the newest checkpoint is
whole. Needs mpi4py and mpiexec; nothing else should run.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import machine, table

import lenet5c

SIZES = (64, 256, 1024)
BANDWIDTH, LATENCY = 10e9 / 8, 20e-6  # bytes a second, and seconds of a message


def worker(network: str, threads: int, rounds: int) -> None:
    """One process: seconds of a step by batch size, and bytes told."""
    from mpi4py import MPI

    from lenet5c.training import ranks

    told = []
    exchange = ranks.Ranks.exchange

    def counted(self: ranks.Ranks, ends: list[int]) -> None:
        told.append(ends[-1])
        exchange(self, ends)

    ranks.Ranks.exchange = counted
    rng = np.random.default_rng(0)
    model = getattr(lenet5c, network)(seed=1)
    channels, height, width = model.input_shape
    images = rng.integers(0, 256, (8192, channels, height, width), np.uint8)
    labels = rng.integers(0, 10, len(images))
    found = {}
    for size in SIZES:
        options = {"batch_size": size, "threads": threads, "comm": MPI.COMM_WORLD}
        best = []
        for _ in range(rounds + 1):
            MPI.COMM_WORLD.Barrier()
            history = model.fit(images, labels, epochs=1, **options)
            best.append(history.seconds[0] / (len(images) // size))
        told.clear()
        model.fit(images[:size], labels[:size], epochs=1, **options)
        found[size] = statistics.median(best[1:]), sum(told)
    if MPI.COMM_WORLD.Get_rank() == 0:
        print(json.dumps(found))


def measured(arguments: argparse.Namespace) -> None:
    runs = {(1, 1): [], (1, 2): [], (2, 1): []}
    for _ in range(arguments.rounds):
        for (count, threads), found in runs.items():
            command = ["mpiexec", "-n", str(count), sys.executable, "-W", "ignore"]
            command += [__file__, "--network", arguments.network, "--rounds", "3"]
            command += ["--worker", str(threads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout))

    def median(run: tuple[int, int], size: int) -> float:
        return statistics.median(found[str(size)][0] for found in runs[run])

    rows = [("batch", "1 x 1", "1 x 2", "2 x 1", "told", "2 machines", "8 machines")]
    for size in SIZES:
        one, told = median((1, 1), size), runs[2, 1][0][str(size)][1]
        rest = rest_of(arguments.network, size)
        row = [f"{median(run, size) * 1e6:,.0f} us" for run in runs]
        for count in (2, 8):
            model = (one - rest) / count + rest
            model += (count - 1) * (told / count / BANDWIDTH + LATENCY)
            row.append(f"{model * 1e6:,.0f} us")
        rows.append((str(size), *row[:3], f"{told / 1024:,.0f} KB", *row[3:]))
    print(table(rows))


def rest_of(network: str, size: int) -> float:
    """Seconds of a step that each process does for itself: what is left of a step whose
    shards are all another's."""
    model = getattr(lenet5c, network)(seed=1)
    pixels = np.zeros((size, *model.input_shape), np.uint8)
    codes = np.zeros(size, np.int32)
    model.set_input(
        lenet5c.data.images.InputStage.between(0, 1), model.input_shape[1:], range(10)
    )
    gradient = np.empty(model.parameter_count, np.float32)

    class Idle:
        rank, size = 1, 64  # more ranks than a microbatch has shards: it has none

        def room(self, count: int) -> bytearray:
            return bytearray(count)

        def exchange(self, ends: list[int]) -> None:
            pass

    optimizer = lenet5c.SGD()
    optimizer.prepare(model.parameter_vector)
    best = []
    for _ in range(20):
        begin = time.perf_counter()
        indices = np.arange(size)
        model.loss_of_batch(pixels, indices, codes, gradient, 1, ranks=Idle())
        optimizer.step(model.parameter_vector, gradient, 0.0, 1)
        best.append(time.perf_counter() - begin)
    return statistics.median(best)


def kill(times: int) -> None:
    """Kill one rank of three; all have to end, and the checkpoints go on."""
    rng = random.Random(0)
    slowest = 0.0
    for number in range(times):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            process = start(folder, "--epochs", "100000")
            while not list(Path(folder).glob("*.safetensors")):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1))
            os.kill(rng.choice(ranks_of(folder)), signal.SIGKILL)
            begin = time.monotonic()
            process.communicate(timeout=60)
            slowest = max(slowest, time.monotonic() - begin)
            again = start(folder, "--epochs", "100000", "--max-seconds", "0.01")
            _, said = again.communicate(timeout=60)
            if again.returncode or "damaged" in said:
                sys.exit(f"kill {number}: {said}")
    print(f"{times} kills: all ended, the slowest after {slowest:.2f} s; all resumed")


def start(folder: str, *options: str) -> subprocess.Popen[str]:
    command = ["mpiexec", "-n", "3", sys.executable, "-m", "lenet5c", "train", "--mpi"]
    command += ["--checkpoint", folder, "--checkpoint-seconds", "0.05", "--resume"]
    return subprocess.Popen(
        [*command, "--threads", "1", "--output", f"{folder}/model.lenet5c", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks_of(folder: str) -> list[int]:
    """The processes that train into a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if folder.encode() in words and re.search(rb"\0PMI_RANK=\d", environment):
            found.append(int(entry.name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="lenet5")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.network, arguments.worker, arguments.rounds)
        return
    if shutil.which("mpiexec") is None:
        sys.exit("ranks.py: expected mpiexec: pip install mpi4py mpich")
    if arguments.kills:
        kill(arguments.kills)
        return
    print(machine())
    measured(arguments)


if __name__ == "__main__":
    main()
