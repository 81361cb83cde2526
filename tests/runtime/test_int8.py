"""Networks in 8-bit integers in the C runtime: the bits of docs/int8.md by each of its
instruction sets, and the same files refused by C and Python."""

import ctypes
import pickle
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_runtime import (
    CC,
    FLAGS,
    SOURCE,
    Layout,
    Runtime,
    both_open,
    changed_headers,
    changed_texts,
    package_opens,
    put_together,
    randomised,
    run,
    taken_apart,
)
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Model,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)
from lenet5c.deploy import int8_file
from lenet5c.deploy.quantize import QuantizedModel

pytestmark = pytest.mark.skipif(CC is None, reason="needs a C compiler")

SETS = {  # what the CPU has to have
    "portable": set(),
    "sse2": {"sse2"},
    "avx2": {"avx2"},
    "avxvnni": {"avx_vnni"},
    "avx512vnni": {"avx512_vnni", "avx512bw"},
}


def cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith("flags") for word in line.split()}


class Chosen:
    """The runtime, compiled so that tests choose the instruction set."""

    def __init__(self, path: Path) -> None:
        self.runtime = Runtime(path)
        self.name = ctypes.c_char_p.in_dll(self.runtime.c, "int8_set")
        pointer = ctypes.c_void_p
        self.runtime.c.lenet5c_scores.argtypes = [pointer] * 5

    def scores(self, content: bytes, images: np.ndarray, by: str) -> np.ndarray:
        self.name.value = by.encode()
        opened = self.runtime.open(content)
        c = self.runtime.c
        assert c.lenet5c_instruction_set(opened.model).decode() == by
        found = np.empty((len(images), opened.count), np.int32)
        workspace = ctypes.create_string_buffer(opened.size)
        layout = Layout(len(images), *images.shape[2:])
        code = c.lenet5c_scores(
            opened.model,
            workspace,
            images.ctypes.data,
            ctypes.byref(layout),
            found.ctypes.data,
        )
        assert code == 0
        return found


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    folder = tmp_path_factory.mktemp("int8")
    Path(folder, "set.c").write_text(
        '__attribute__((visibility("default"))) const char *int8_set;\n'
    )
    path = folder / "chosen.so"
    sources = [SOURCE, folder / "set.c"]
    run(
        CC,
        *FLAGS,
        "-O1",
        "-DLENET5C_INT8_SET=int8_set",
        "-shared",
        *sources,
        "-o",
        path,
    )
    return Chosen(path)


@pytest.fixture(params=SETS)
def by(request: pytest.FixtureRequest) -> str:
    if missing := SETS[request.param] - cpu_flags():
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    return str(request.param)


def file_of(quantized: QuantizedModel) -> bytes:
    return b"".join(int8_file.parts(quantized))


def by_numpy(quantized: QuantizedModel, images: np.ndarray) -> np.ndarray:
    """The scores by NumPy's integers, which report() looks at layer by layer."""
    *_, last = quantized._maps(images)
    return last.reshape(len(last), -1)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_the_same_integers(chosen: Chosen, by: str, name: str) -> None:
    model, images = network(name)
    quantized = model.quantize(images[:20])
    got = chosen.scores(file_of(quantized), images, by)
    assert (got == by_numpy(quantized, images)).all()


FEW = (4, 2, "ternary")


@pytest.mark.parametrize("bits", FEW)
@pytest.mark.parametrize("name", ["like LeNet-5", "branches of all kinds"])
def test_scores_of_few_bits(chosen: Chosen, by: str, name: str, bits: int) -> None:
    model, images = network(name)
    quantized = model.quantize(images[:20], bits=bits)
    got = chosen.scores(file_of(quantized), images, by)
    assert (got == by_numpy(quantized, images)).all()


def random_network(seed: int) -> tuple[QuantizedModel, np.ndarray]:
    """A network that integers can have, and images for it."""
    rng = random.Random(seed)
    activations = (Tanh, ReLU, Sigmoid, ScaledTanh, lambda: LeakyReLU(0.1), Flatten)
    choices = [
        *[
            lambda: Conv2d(
                rng.randint(1, 40),
                (rng.randint(1, 6), rng.randint(1, 6)),
                stride=rng.choice([1, 1, 2, 3]),
                padding=rng.choice([0, 0, 1, 4]),
            )
        ]
        * 3,
        lambda: AvgPool2d(rng.randint(1, 3), rng.choice([None, 1, 2])),
        lambda: MaxPool2d(rng.randint(1, 3), rng.choice([None, 1, 2])),
        lambda: Subsampling2d(2),
        lambda: Dense(rng.randint(1, 140)),
        BatchNorm2d,
        lambda: Residual([rng.choice(activations[:3])(), BatchNorm2d()]),
        *(2 * activations),
    ]
    while True:
        shape = rng.randint(1, 4), rng.randint(1, 24), rng.randint(1, 40)
        layers = [rng.choice(choices)() for _ in range(rng.randint(1, 7))]
        if rng.random() < 0.7:
            layers.append(Dense(rng.randint(2, 40)))
        try:
            model = randomised(Model(layers, input_shape=shape, seed=seed), seed)
            numbers = np.random.default_rng(seed)
            images = numbers.integers(0, 256, (4, *shape), np.uint8)
            quantized = model.quantize(images[:2])
        except ValueError:  # a kernel larger than its map, one class, sums too large
            continue
        if model.class_count <= 2000:
            rows = numbers.integers(1, shape[1] + 1)
            return quantized, np.ascontiguousarray(images[:, :, :rows])


def test_scores_of_random_networks(chosen: Chosen, by: str) -> None:
    for seed in range(60):
        quantized, images = random_network(seed)
        got = chosen.scores(file_of(quantized), images, by)
        assert (got == by_numpy(quantized, images)).all(), seed


def test_windows_that_are_one_with_their_convolution(chosen: Chosen, by: str) -> None:
    """One channel, few filters, 2x2: computed together, unless both are needed."""
    rng = random.Random(1)
    activations = (Tanh, ScaledTanh, ReLU, Sigmoid, Flatten)
    for filters in range(1, 10):
        for pool in (AvgPool2d, MaxPool2d):
            kernel = rng.randint(1, 9), rng.randint(1, 9)
            shape = 1, rng.randint(kernel[0] + 1, 40), rng.randint(kernel[1] + 1, 90)
            conv = Conv2d(filters, kernel, padding=rng.choice([0, 1]))
            activation = rng.choice(activations[: 4 if filters < 9 else 5])()
            after = [pool(2), Conv2d(3, 1)]
            if rng.random() < 0.3:
                after = [Residual(after, [Conv2d(3, 2, stride=2)])]
            layers = [conv, activation, *after, Dense(4)]
            model = Model(layers, input_shape=shape, classes=4, seed=filters)
            numbers = np.random.default_rng(filters)
            images = numbers.integers(0, 256, (4, *shape), np.uint8)
            quantized = randomised(model, filters).quantize(images[:2])
            got = chosen.scores(file_of(quantized), images, by)
            assert (got == by_numpy(quantized, images)).all(), (filters, model)


def test_windows_of_one_column_leave_other_maps_alone(chosen: Chosen, by: str) -> None:
    """Lanes of a register for which the map has no columns are not written."""
    for pool in (AvgPool2d, MaxPool2d):
        for rows in (4, 6):
            branches = [[Conv2d(8, 3), Tanh(), pool(2)] for _ in range(2)]
            layers = [Residual(*branches), Dense(3)]
            model = Model(layers, input_shape=(1, rows, 4), classes=3, seed=rows)
            numbers = np.random.default_rng(rows)
            images = numbers.integers(0, 256, (9, 1, rows, 4), np.uint8)
            quantized = model.quantize(images)
            got = chosen.scores(file_of(quantized), images, by)
            assert (got == by_numpy(quantized, images)).all(), (pool, rows)


def test_nothing_is_read_far_behind_a_map(tmp_path: Path) -> None:
    """Columns that share a register with others, and that the map does not have."""
    flags = [*FLAGS[:4], "-O1", "-g1", "-fsanitize=address"]
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    if run(CC, *flags, empty, "-o", tmp_path / "empty", check=False).returncode:
        pytest.skip("this compiler has no AddressSanitizer")
    named = tmp_path / "named.c"
    named.write_text(
        "#include <stdlib.h>\n"
        "const char *int8_set;\n"
        "__attribute__((constructor)) static void name(void)\n"
        '{ int8_set = getenv("INT8_SET"); }\n'
    )
    scores = Path(__file__).with_name("scores.c")
    sources = ["-DLENET5C_INT8_SET=int8_set", SOURCE, named, scores]
    run(CC, *flags, *sources, "-o", tmp_path / "scores", "-lm")
    numbers = np.random.default_rng(1)
    networks = (
        ((1, 9, 9), [Conv2d(256, 1), ReLU(), Conv2d(8, 3, padding=1), ReLU()]),
        ((1, 48, 48), [Conv2d(64, 1), ReLU(), Conv2d(2, 16, stride=8), ReLU()]),
    )
    for shape, layers in networks:
        model = Model([*layers, Dense(2)], input_shape=shape, classes=2)
        images = numbers.integers(0, 256, (1, *shape), np.uint8)
        quantized = model.quantize(images)
        quantized.save(tmp_path / "model.lenet5c")
        images.tofile(tmp_path / "images")
        for by in SETS:
            if SETS[by] - cpu_flags():
                continue
            words = ["INT8_SET=" + by, tmp_path / "scores", tmp_path / "model.lenet5c"]
            words += [tmp_path / "images", 1, *shape[1:]]
            command = list(map(str, words))
            done = subprocess.run(["env", *command], capture_output=True, timeout=300)
            assert done.returncode == 0, (by, done.stderr.decode())
            got = np.frombuffer(done.stdout, np.int32)
            assert (got == by_numpy(quantized, images)[0]).all(), by


def test_means_of_large_windows(chosen: Chosen, by: str) -> None:
    """The largest that there are, of all pixels but one: 511 times as many is nearly
    2^31, and 767 times as many are more."""
    side = 2047
    model = Model([AvgPool2d(side), Dense(2)], input_shape=(1, side, side), classes=2)
    images = np.full((1, 1, side, side), 255, np.uint8)
    images[0, 0, 0, 0] = 0
    quantized = model.quantize(images)
    got = chosen.scores(file_of(quantized), images, by)
    assert (got == by_numpy(quantized, images)).all()


@pytest.mark.parametrize(
    ("step", "changes", "width", "opens"),
    [
        (0, {}, 1, True),
        (0, {"unit": float(np.finfo(np.float32).max)}, 1, True),
        (0, {"unit": 3.402823466385289e38}, 1, False),  # the next double
        (0, {"kernel": [2**20, 2**20], "padding": 2**19}, 1, False),
        (2, {"kernel": [3, 2**20]}, 2**20 - 2, True),
        (2, {"kernel": [3, 2**20 + 1]}, 2**20 - 1, False),
        (2, {"kernel": [5, 2**20 - 1]}, 2**20 - 3, False),
    ],
)
def test_ends_of_what_a_step_may_have(
    chosen: Chosen, step: int, changes: dict[str, Any], width: int, opens: bool
) -> None:
    layers = [MaxPool2d(2, 1, padding=1), Conv2d(1, 1, padding=1), AvgPool2d(3, 1)]
    model = Model(layers, input_shape=(1, 1, 1), classes=4)
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    header, payload = taken_apart(file_of(model.quantize(images)))
    network = header["__metadata__"]["network"]
    network["steps"][step] |= changes
    network["input_shape"][2] = width
    if changes.get("kernel", [0])[0] == 5:
        network["input_shape"][1] = 3
    chosen.name.value = b"portable"
    assert both_open(chosen.runtime, put_together(header, payload)) == opens


def test_largest_sums_and_largest_shifts(chosen: Chosen, by: str) -> None:
    """Of numbers at their ends, with multipliers that any file may have."""
    model = Model([Conv2d(5, 3), ReLU(), Dense(3)], input_shape=(2, 9, 9), classes=3)
    images = np.random.default_rng(1).integers(0, 2, (8, 2, 9, 9), np.uint8) * 255
    quantized = model.quantize(images)
    conv = quantized.layers[0]
    assert conv.weight is not None
    assert conv.multiplier is not None
    conv.weight[:] = np.where(conv.weight < 0, -127, 127)
    for shift in (1, 20, 31, 32, 33, 45, 62):
        for multiplier in (0, 1, 1 << 20, 2**31 - 1):
            conv.multiplier[:] = multiplier
            object.__setattr__(conv, "shift", shift)
            for bias in (0, 1 << 30, -(1 << 30)):
                conv.bias[:] = bias
                got = chosen.scores(file_of(quantized), images, by)
                assert (got == by_numpy(quantized, images)).all(), (shift, multiplier)


def tiny_of(bits: int) -> bytes:
    layers = [
        BatchNorm2d(name="N"),
        Conv2d(3, 3, padding=1, name="A"),
        Tanh(name="T"),
        Residual([Conv2d(3, 1, name="B"), LeakyReLU(0.5, name="L")], name="R"),
        MaxPool2d(2, name="M"),
        Flatten(name="F"),
        ReLU(name="U"),
        Dense(3, name="D"),
    ]
    model = Model(layers, input_shape=(1, 6, 7), classes=3, seed=1)
    images = np.random.default_rng(1).integers(0, 256, (9, 1, 6, 7), np.uint8)
    return file_of(randomised(model, 1).quantize(images, bits=bits))


@pytest.fixture
def tiny() -> bytes:
    return tiny_of(8)


def test_the_same_files_are_refused(chosen: Chosen, tiny: bytes) -> None:
    chosen.name.value = b"portable"
    assert both_open(chosen.runtime, tiny)
    files = changed_headers(tiny, 700, seed=1) + changed_texts(tiny, 300, seed=2)
    opened = [both_open(chosen.runtime, one) for one in files]
    assert 10 < sum(opened) < 700
    for end in range(0, len(tiny), 7):
        assert not both_open(chosen.runtime, tiny[:end])


@pytest.mark.parametrize("bits", FEW)
def test_the_same_files_of_few_bits_are_refused(chosen: Chosen, bits: int) -> None:
    chosen.name.value = b"portable"
    few = tiny_of(bits)
    assert both_open(chosen.runtime, few)
    header, payload = taken_apart(few)
    names = ["N.weight", "A.weight", "B.weight", "D.weight"]
    assert {header[name]["dtype"] for name in names} == {"U8"}
    bytes_in = [range(*header[name]["data_offsets"]) for name in names]
    rng = random.Random(1)
    opened = []
    for _ in range(100):
        changed = bytearray(payload)
        changed[rng.choice(rng.choice(bytes_in))] = rng.randrange(256)
        opened.append(both_open(chosen.runtime, put_together(header, bytes(changed))))
    assert 10 < sum(opened) < 90
    for weights in (8, 4, 2, "ternary", "2"):
        header["__metadata__"]["training"]["rounding"]["weights"] = weights
        file = put_together(header, payload)
        assert both_open(chosen.runtime, file) == (weights == bits)
    del header["__metadata__"]["training"]["rounding"]
    assert not both_open(chosen.runtime, put_together(header, payload))
    for one in changed_headers(few, 100, seed=3):
        both_open(chosen.runtime, one)


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("table", -128),
        ("A.weight", -128),
        ("N.weight", -128),
        ("A.bias", (1 << 30) + 1),
        ("A.bias", -(1 << 30) - 1),
        ("N.bias", -(1 << 30) - 1),
        ("D.bias", (1 << 31) - 1),
        ("A.multiplier", -1),
        ("N.multiplier", -1),
        ("R.multiplier", -(1 << 31)),
        ("L.multiplier", -1),
    ],
)
def test_numbers_out_of_their_range_are_refused(
    chosen: Chosen, tiny: bytes, tensor: str, value: int
) -> None:
    header, payload = taken_apart(tiny)
    entry = header[tensor]
    start = entry["data_offsets"][0]
    new = np.array(value, {"I8": "i1", "I32": "<i4"}[entry["dtype"]]).tobytes()
    chosen.name.value = b"portable"
    changed = payload[:start] + new + payload[start + len(new) :]
    assert both_open(chosen.runtime, put_together(header, payload))
    assert not both_open(chosen.runtime, put_together(header, changed))


@pytest.mark.parametrize("bits", [8, *FEW])
def test_a_saved_model_is_the_same_model(tmp_path: Path, bits: int) -> None:
    model, images = network("residual blocks")
    quantized = model.quantize(images[:20], bits=bits)
    quantized.save(tmp_path / "small.lenet5c")
    again = lenet5c.load(tmp_path / "small.lenet5c")
    assert isinstance(again, QuantizedModel)
    assert repr(again) == repr(quantized)
    copy = pickle.loads(pickle.dumps(again))
    for one in (again, copy):
        assert (one.scores(images) == quantized.scores(images)).all()
        assert (one.predict(images) == quantized.predict(images)).all()
        assert one.scale == quantized.scale
        assert one.input_scale == quantized.input_scale
        assert one.source == quantized.source
        assert one.stage == quantized.stage
    again.save(tmp_path / "again.lenet5c")
    first, second = (tmp_path / f"{name}.lenet5c" for name in ("small", "again"))
    assert first.read_bytes() == second.read_bytes()
    again.export_c(tmp_path / "digits.h")


def test_probabilities_are_the_softmax_of_the_scores() -> None:
    model, images = network("like LeNet-5")
    quantized = model.quantize(images)
    logits = quantized.scores(images) * quantized.scale
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = shares / shares.sum(axis=1, keepdims=True)
    assert np.abs(quantized.predict_proba(images) - expected).max() < 1e-6
    one = quantized.predictor()
    assert one(images[3, 0]) == quantized.predict(images)[3]
    assert (one.predict_proba(images[3, 0]) == quantized.predict_proba(images)[3]).all()
    with pytest.raises(ValueError, match="pixels"):
        one(images[3, 0].astype(np.float32) / 255)


def test_probabilities_stay_in_the_workspace(chosen: Chosen, by: str) -> None:
    """Wherever that begins: their registers are whole, classes need not be."""
    for classes in (2, 3, 10, 17):
        model = Model([Dense(classes)], input_shape=(1, 4, 4), classes=classes)
        images = np.random.default_rng(1).integers(0, 256, (1, 1, 4, 4), np.uint8)
        chosen.name.value = by.encode()
        opened = chosen.runtime.open(file_of(model.quantize(images)))
        for begin in (1, 16, 48, 64):
            buffer = np.full(opened.size + 256, 7, np.uint8)
            start = -buffer.ctypes.data % 64 + begin
            layout, shares = Layout(1, 4, 4), np.empty(classes, np.float32)
            code = chosen.runtime.c.lenet5c_predict_u8(
                *(opened.model, buffer.ctypes.data + start, images.ctypes.data),
                *(ctypes.byref(layout), None, shares.ctypes.data, None),
            )
            assert code == 0
            assert (buffer[start + opened.size :] == 7).all(), (classes, begin)


def test_many_images_and_threads_have_the_same_scores() -> None:
    model, images = network("padding and strides")
    quantized = model.quantize(images)
    many = np.concatenate([images] * 30)
    found = quantized.scores(many)
    assert (found == np.concatenate([quantized.scores(images)] * 30)).all()


def test_a_model_in_floats_has_no_scores(chosen: Chosen) -> None:
    model, images = network("like LeNet-5")
    model.save("floats.lenet5c")
    content = Path("floats.lenet5c").read_bytes()
    with pytest.raises(AssertionError):
        chosen.scores(content, images, "portable")
    assert package_opens(content)


@pytest.mark.parametrize("integers", [False, True], ids=["float32", "int8"])
def test_labels_that_no_file_takes_are_predicted(integers: bool) -> None:
    model, images = network("like LeNet-5")
    labels = np.array(["\ud800", *map(str, range(1, model.classes.size))])
    model.set_input(model.stage, model.source, labels)
    which = model.quantize(images) if integers else model
    expected = which.predict(images)
    classify = pickle.loads(pickle.dumps(which.predictor()))
    assert [classify(image) for image in images] == expected.tolist()
