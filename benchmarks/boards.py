"""What exported integers take on microcontrollers: flash, RAM, instructions.

    python benchmarks/boards.py

QEMU counts the instructions of Cortex-M and simavr the cycles of AVR, each for the same
image; no board is needed. Flash is what gcc makes of the exported file: code, constants
and the names of the classes. RAM is its workspace and the stack. Needs the compilers
and simulators that docs/boards.md names, and MNIST.
"""

import copy
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import table

import lenet5c
from lenet5c import AvgPool2d, Conv2d, Dense, MaxPool2d, ReLU, datasets
from lenet5c.deploy.quantize import QuantizedModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from exported_c import CHIPS, classify, compiled, run

CORTEX = ("Cortex-M0", "Cortex-M3", "Cortex-M4")
IMAGES = 200  # to calibrate with
EPOCHS = 3
# Networks that are trained on, for as many epochs, for weights of so many bits.
FEW = {"small": (4, 2, "ternary"), "lenet5": (4, 2, "ternary")}


def small() -> lenet5c.Model:
    """A network for 14x14 pixels that an Arduino Uno has room for."""
    layers = [
        *(Conv2d(4, 3), ReLU(), MaxPool2d(2)),  # 1@14x14 -> 4@6x6
        *(Conv2d(8, 3), ReLU(), AvgPool2d(2)),  # -> 8@2x2
        Dense(10),
    ]
    return lenet5c.Model(layers, input_shape=(1, 14, 14), classes=10)


NETWORKS = {
    "small": (small, (*CORTEX, "ATmega328P")),
    "lenet5": (lenet5c.lenet5, CORTEX),
    "lenet5, relu, max": (
        lambda: lenet5c.lenet5(activation="relu", pooling="max"),
        CORTEX,
    ),
    "cnn3": (lenet5c.cnn3, CORTEX[1:]),  # the other has 16 KB of memory
    "mlp": (lenet5c.mlp, CORTEX),
}


def halved(images: np.ndarray) -> np.ndarray:
    """Images of 14x14, means of 2x2 pixels."""
    means = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    return np.rint(means).astype(np.uint8)


def main() -> None:
    data = datasets.mnist()
    rows = [("network", "chip", "flash", "RAM", "instructions, AVR: cycles")]
    for name, (make, chips) in NETWORKS.items():
        model = make()
        train, test = data.train.images, data.test.images
        labels = data.test.labels
        if name == "small":
            train, test = halved(train), halved(test)
        rate = {"optimizer": lenet5c.SGD(0.02)} if name == "cnn3" else {}
        model.fit(train, data.train.labels, epochs=EPOCHS, **rate)
        rows += measured(name, model.quantize(train[:IMAGES]), chips, test, labels)
        for bits in FEW.get(name, ()):
            few = copy.deepcopy(model)
            optimizer = lenet5c.SGD(0.05)
            given = {"optimizer": optimizer, "quantize": bits, "epochs": EPOCHS}
            few.fit(train, data.train.labels, **given)
            quantized = few.quantize(train[:IMAGES])
            rows += measured(f"{name}, {bits}", quantized, chips, test, labels)
    print(table(rows))


def measured(
    name: str,
    quantized: QuantizedModel,
    chips: tuple[str, ...],
    test: np.ndarray,
    labels: np.ndarray,
) -> list[tuple[str, ...]]:
    """A row for each chip."""
    right = quantized.predict(test) == labels
    print(f"{name}: {right.mean():.2%} of the test images")
    rows = []
    for chip in chips:
        if CHIPS[chip].missing:
            print(f"{chip}: not installed: {CHIPS[chip].missing}")
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            quantized.export_c(folder / "net.h", name="net")
            file, stack = compiled(CHIPS[chip], folder)
            _, sizes = run(CHIPS[chip].size, file).splitlines()
            text, memory, workspace = map(int, sizes.split()[:3])
            _, scores, ticks = classify(CHIPS[chip], folder, test[:5])
        np.testing.assert_array_equal(scores, quantized.scores(test[:5]))
        count = round(float(np.median(ticks)) * CHIPS[chip].tick, -3)
        flash, ram = text + memory, memory + workspace + max(stack)
        rows.append((name, chip, f"{flash:,}", f"{ram:,}", f"{count:,.0f}"))
    return rows


if __name__ == "__main__":
    main()
