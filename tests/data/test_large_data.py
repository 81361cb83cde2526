"""Training from a file that is not loaded: what it takes of memory, in the whole."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import lenet5c

SIDE = 28
COUNT = 255_000  # 200 MB
LIMIT = 30  # MB: what training takes does not grow with the size of the images

TRAIN = """
import sys
import numpy, lenet5c
from lenet5c.data import datasets

def network():
    return lenet5c.Model([lenet5c.Dense(10)], input_shape=(1, 28, 28))

def use(images):
    labels = numpy.arange(len(images)) % 10
    model = network()
    {use}

small = numpy.load(sys.argv[1], mmap_mode="r")[:5000]
images = small
use(small)
images = {images}
print("ready", flush=True)
for _ in sys.stdin:  # once more for each line
    use(images)
    print(flush=True)
"""
FIT = "model.fit(images, labels, epochs=1, batch_size=4096, threads=1, {})"
USES = {
    "training": FIT.format(""),
    "a part held out": FIT.format("validation=0.4"),
    "another map held out": FIT.format("validation=(images[:9999], labels[:9999])"),
    "augmented": FIT.format("augment=lenet5c.Augment(shift=1, rotate=0, scale=0)"),
    "weighted": FIT.format("class_weight='balanced', sample_weight=labels + 1"),
    "names for labels": FIT.format("").replace(
        "labels", "numpy.array(list('abcdefghij'))[labels]"
    ),
    "using": "model.fit(images[:99], labels[:99]); model.predict(images, threads=1); "
    "model.evaluate(images, labels, threads=1)",
}
NPY = "numpy.load(sys.argv[1], mmap_mode='r')"
OTHERS = {
    "IDX": "datasets.read_idx(sys.argv[2], mmap=True)",
    "memmap": "numpy.memmap(sys.argv[2], 'u1', 'r', 16, (len(small) * 51, 28, 28))",
    "flat": f"{NPY}.reshape(-1, 784)",
}

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc on this system"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same 200 MB of pixels as .npy and as IDX; removed afterwards."""
    folder = tmp_path_factory.mktemp("large")
    part = np.random.default_rng(0).integers(0, 256, (5000, SIDE, SIDE), np.uint8)
    shape = (COUNT, SIDE, SIDE)
    with open(folder / "images.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for _ in range(COUNT // len(part)):
            file.write(part.data)
    with open(folder / "images-idx3-ubyte", "wb") as file:
        file.write(b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in shape))
        for _ in range(COUNT // len(part)):
            file.write(part.data)
    yield [folder / "images.npy", folder / "images-idx3-ubyte"]
    for path in folder.iterdir():
        path.unlink()


def anonymous(process):
    """RssAnon in MB: memory that is no file's, and that nothing else can give back."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return float(text.partition("RssAnon:")[2].split()[0] if "RssAnon:" in text else 0)


def growth(code, files):
    """How far RssAnon rises while the code does what it is about, in MB.

    It does so until there were enough looks at it, however fast it is.
    """
    seen = []
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, files)],
        env=dict(os.environ) | {"PYTHONPATH": str(Path(lenet5c.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "ready\n"
        before = anonymous(child.pid)
        while len(seen) <= 10:
            child.stdin.write("\n")
            child.stdin.flush()
            answer = threading.Thread(target=child.stdout.readline)
            answer.start()
            while answer.is_alive():
                seen.append(anonymous(child.pid))
                answer.join(0.002)
            assert child.poll() is None
        child.stdin.close()
    assert child.returncode == 0
    return (max(seen) - before) / 1e3


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_images_in_a_large_file_are_not_loaded(use, files):
    code = TRAIN.format(use=use, images=NPY)
    assert growth(code, files) < LIMIT


@pytest.mark.parametrize("images", OTHERS.values(), ids=OTHERS)
def test_no_other_form_of_a_large_file_is_loaded(images, files):
    code = TRAIN.format(use=USES["training"], images=images)
    assert growth(code, files) < LIMIT


def test_a_copy_of_the_images_would_be_seen(files):
    use = USES["training"].replace("fit(images,", "fit(numpy.array(images),")
    assert growth(TRAIN.format(use=use, images=NPY), files) > 150
