"""The C runtime as tests compile and call it, and model files that were changed."""

import copy
import ctypes
import hashlib
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import lenet5c
from lenet5c import Model
from lenet5c.data.images import InputStage

SOURCE = Path(lenet5c.get_include(), "lenet5c.c")
CC = shutil.which(os.environ.get("CC", "cc"))
FLAGS = ["-std=c11", "-fPIC", "-fvisibility=hidden", f"-I{SOURCE.parent}"]
FLAGS += ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]


class Layout(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("count", "height", "width")),
        *((name, ctypes.c_ssize_t) for name in ("image", "channel", "row", "column")),
    )


def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=300
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


class Runtime:
    """The runtime as a shared library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.c = c = ctypes.CDLL(str(path))
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        for name, result, arguments in (
            ("open", ctypes.c_int, [ctypes.c_char_p, pointer]),
            ("open_memory", ctypes.c_int, [pointer, size, pointer]),
            ("memory_size", ctypes.c_int, [pointer, size, pointer]),
            ("open_in", ctypes.c_int, [pointer, size, pointer, size, pointer]),
            ("close", None, [pointer]),
            ("input", ctypes.c_int, [pointer, pointer]),
            ("classes", ctypes.c_int, [pointer]),
            ("class_name", ctypes.c_char_p, [pointer, ctypes.c_int]),
            ("instruction_set", ctypes.c_char_p, [pointer]),
            ("workspace_size", size, [pointer]),
            ("strerror", ctypes.c_char_p, [ctypes.c_int]),
            ("predict_u8", ctypes.c_int, [pointer] * 7),
            ("predict_f32", ctypes.c_int, [pointer] * 7),
            ("classify", ctypes.c_int, [pointer] * 3),
        ):
            function = getattr(c, f"lenet5c_{name}")
            function.restype, function.argtypes = result, arguments

    def try_open(self, content: bytes) -> tuple[int, ctypes.c_void_p]:
        model = ctypes.c_void_p(1)
        code = self.c.lenet5c_open_memory(content, len(content), ctypes.byref(model))
        assert (code == 0) == bool(model)
        return code, model

    def refusal(self, content: bytes) -> int:
        """The code for this file; 0 if it is opened."""
        code, model = self.try_open(content)
        self.c.lenet5c_close(model)
        return code

    def open(self, content: bytes) -> "Opened":
        code, model = self.try_open(content)
        assert code == 0, self.c.lenet5c_strerror(code)
        return Opened(self, model)


class Opened:
    """A model that is open."""

    def __init__(self, runtime: Runtime, model: ctypes.c_void_p) -> None:
        self.c, self.model = runtime.c, model
        self.count = self.c.lenet5c_classes(model)
        self.size = self.c.lenet5c_workspace_size(model)

    def __del__(self) -> None:
        self.c.lenet5c_close(self.model)

    def names(self) -> list[str]:
        names = [self.c.lenet5c_class_name(self.model, k) for k in range(self.count)]
        return [name.decode() for name in names]

    def predict(
        self,
        images: np.ndarray,
        *,
        steps: tuple[int, ...] | None = None,
        shift: int = 0,
        expected: int = 0,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Classes, probabilities, logits of (N, C, H, W) images of any strides; the
        workspace begins `shift` bytes beyond where NumPy puts it."""
        n, _, height, width = images.shape
        if steps is None:
            steps = tuple(step // images.itemsize for step in images.strides)
        layout = Layout(n, height, width, *steps)
        workspace = np.full(self.size + 64 + 32, 0xFF, np.uint8)  # full of NaN
        classes = np.full(n, -1, np.int32)
        probabilities = np.full((n, self.count), np.nan, np.float32)
        logits = np.full((n, self.count), np.nan, np.float32)
        call = {"u1": self.c.lenet5c_predict_u8, "f4": self.c.lenet5c_predict_f32}
        code = call[images.dtype.str[1:]](
            self.model,
            workspace.ctypes.data + shift,
            images.ctypes.data,
            ctypes.addressof(layout),
            classes.ctypes.data,
            probabilities.ctypes.data,
            logits.ctypes.data,
        )
        assert code == expected, self.c.lenet5c_strerror(code)
        assert (workspace[:shift] == 0xFF).all()
        assert (workspace[shift + self.size :] == 0xFF).all()
        return classes, probabilities, logits


def randomised(model: Model, seed: int) -> Model:
    """With biases, and with an input stage of its own."""
    rng = np.random.default_rng(seed)
    for name, value in model.parameters.items():
        if name.endswith(".bias"):
            value[:] = rng.normal(0, 0.5, value.shape)
    stage = InputStage(*rng.uniform(0.1, 0.9, 3))
    model.set_input(stage, model.input_shape[1:], model.classes)
    return model


def assemble(header: Any, payload: bytes) -> bytes:
    """A file with this header, as bytes or as JSON, and the right checksum."""
    if not isinstance(header, bytes):
        text = json.dumps(header, separators=(",", ":"))
        header = text.encode("utf-8", "surrogatepass")
    content = bytearray(len(header).to_bytes(8, "little") + header + payload)
    if len(header) >= 91:
        content[35:99] = b"0" * 64
        content[35:99] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


TEXTS = ("network", "input_stage", "classes", "training")


def taken_apart(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header, with the JSON in its metadata as values, and payload."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    for name in TEXTS:
        header["__metadata__"][name] = json.loads(header["__metadata__"][name])
    return header, content[end:]


def put_together(header: Any, payload: bytes) -> bytes:
    header = copy.deepcopy(header)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict):
        metadata |= {k: json.dumps(metadata[k]) for k in TEXTS if k in metadata}
    return assemble(header, payload)


def package_opens(content: bytes) -> bool:
    path = Path("candidate.lenet5c")
    path.write_bytes(content)
    try:
        lenet5c.load(path)
    except lenet5c.FileFormatError:
        return False
    return True


def both_open(runtime: Runtime, content: bytes) -> bool:
    code = runtime.refusal(content)
    opens = package_opens(content)
    text = runtime.c.lenet5c_strerror(code)
    assert opens == (code == 0), (opens, text, content[:3000])
    return opens


VALUES = [
    *(None, True, False, 0, 1, 2, 3, -1, 8, 9, 2**20, 2**20 + 1, 2**31, 2**63, 2**64),
    *(0.5, 1.0, -0.0, 1e-400, 1e-40, 1e38, 1e39, 1e308, 10**400),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "a", "A", "F32", "tanh", "relu", "dense", "conv2d", "flatten", "he", "lecun"),
    *("A.weight", "\ud800", "\0", "x" * 64, "x" * 65, "ü" * 64, "\U0001f600" * 64),
    *([], {}, [1], [1, 2], [3, 3], [3, 3, 3], [8, 9], [1, 8, 9], ["a", "b", "c"]),
    *([0, 1, 2], [1, 2, 2], [True, False], {"kind": "tanh", "name": "Z"}, [[[]]]),
    [["kind", "tanh"], ["name", "Z"]],
]


def mutate(value: Any, rng: random.Random) -> Any:
    """The value with one change somewhere in it."""
    action = rng.random()
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if action < 0.08:
            return {k: v for k, v in value.items() if k != key}
        if action < 0.14:
            new = rng.choice(["new", "name", "kind", key + "x"])
            return value | {new: rng.choice(VALUES)}
        if action < 0.18:
            return dict(rng.sample(list(value.items()), len(value)))
        return value | {key: mutate(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        if action < 0.08:
            return value[:at] + value[at + 1 :]
        if action < 0.14:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], mutate(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and action < 0.3:
        return value + rng.choice([-1, 1])
    return copy.deepcopy(rng.choice(VALUES))


def changed_headers(content: bytes, count: int, seed: int) -> list[bytes]:
    """The file with one or two values of its header changed."""
    header, payload = taken_apart(content)
    rng = random.Random(seed)
    changed = []
    for _ in range(count):
        one = mutate(header, rng)
        changed.append(mutate(one, rng) if rng.random() < 0.3 else one)
    return [put_together(one, payload) for one in changed]


def changed_texts(content: bytes, count: int, seed: int) -> list[bytes]:
    """The file with some bytes of its header replaced."""
    end = 8 + int.from_bytes(content[:8], "little")
    header, payload = content[8:end], content[end:]
    words = rb'{ } [ ] " \ , : null true NaN Infinity 1 - . e 0 00 1.0 -0 1e0 \n \"'
    others = rb"\ud800 \u0020 \\u00e4 \ud83d\ude00 \\ud83d\\ude00 -0.0 -0,"
    raw = [b" ", b"\n", b"\t", b"\0", b"\x7f", b"\xff", b"\xed\xa0\x80", b"\xc3\xbc"]
    raw += [b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xf0\x9f\x98\x80"]
    pieces = [*words.split(), *others.split(), *raw]
    rng = random.Random(seed)
    changed = []
    for _ in range(count):
        at, word = rng.randrange(len(header)), rng.choice(pieces)
        rest = header[at + rng.choice([0, 0, 1, len(word)]) :]
        changed.append(assemble(header[:at] + word + rest, payload))
    return changed
