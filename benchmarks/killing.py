"""Kill a training at random moments, resume it, compare with one left alone.

    python benchmarks/killing.py [--runs 30] [--seed 0]

Each run starts the training of `CHILD` on its folder, sends SIGKILL after a random
time, checks every file left, and starts it again, until it gets through. The last line
counts the runs whose weights and history differ from those of the unbroken training.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine, table

import lenet5c
from lenet5c.files.container import read_file
from lenet5c.training.folder import FORM

CHILD = """
import hashlib, json, sys
import numpy as np
import lenet5c

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (600, 28, 28), dtype=np.uint8)
model = lenet5c.lenet5(dropout=0.2)
print("ready", flush=True)
checkpoint = sys.argv[1] if sys.argv[1:] else None
history = model.fit(
    images,
    np.arange(600) % 10,
    epochs=6,
    batch_size=20,
    optimizer=lenet5c.AdamW(0.002),
    schedule="plateau",
    augment=lenet5c.Augment(elastic=8.0),
    validation=0.2,
    label_smoothing=0.1,
    weight_average=0.99,
    clip_norm=1.0,
    accumulate=2,
    early_stopping=9,
    checkpoint=checkpoint and lenet5c.Checkpoint(checkpoint, every_seconds=0.005),
    resume=checkpoint is not None,
    log=checkpoint and checkpoint + ".log",
    threads=1,
)
values = history.to_dict()
values = {name: values[name] for name in values if "second" not in name}
digest = hashlib.sha256(model.parameter_vector.tobytes())
digest.update(json.dumps(values).encode())
print(digest.hexdigest(), flush=True)
"""


def run(*arguments: str, seconds: float | None = None) -> tuple[str, float]:
    """The digest that the child prints, "" if it was killed first, and its time."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the child did not start")
            started = time.perf_counter()
            if seconds is not None:
                time.sleep(seconds)
                process.kill()
            text = process.stdout.read().strip()
            return text, time.perf_counter() - started
        finally:
            process.kill()


def damaged(folder: Path) -> int:
    """How many checkpoints cannot be read."""
    count = 0
    for path in folder.glob("checkpoint-*"):
        try:
            read_file(path, FORM)
        except lenet5c.FileFormatError:
            count += 1
    return count


def main() -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    expected, longest = run()
    rows = [("run", "kills", "unfinished files", "damaged", "log", "bits")]
    failures = 0
    for number in range(1, options.runs + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "checkpoints"
            kills = stale = bad = 0
            digest = ""
            while not digest:
                digest, _ = run(str(folder), seconds=chance.uniform(0, longest))
                kills += not digest
                stale += len(list(folder.glob(".lenet5c-*")))
                bad += damaged(folder)
            digest, _ = run(str(folder))  # a finished training, once more
            lines = Path(f"{folder}.log").read_text().splitlines()
            epochs = [json.loads(line)["epoch"] for line in lines]
            log = epochs == list(range(1, len(epochs) + 1))
        failures += digest != expected or bad > 0 or not log
        cells = (number, kills, stale, bad, "whole" if log else "WRONG")
        same = "same" if digest == expected else "DIFFER"
        rows.append((*map(str, cells), same))
    print(machine())
    print(f"the unbroken training: {longest:.2f} s, SHA-256 {expected}")
    print(table(rows))
    print(f"{failures} of {options.runs} runs failed")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
