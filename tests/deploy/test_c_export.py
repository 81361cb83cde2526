"""The C code of a network: it computes what Python computes, with any C compiler, and
needs nothing else."""

import ctypes
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c import Dense, datasets
from lenet5c.data.images import InputStage
from lenet5c.deploy.c_export import _c_text, _float_text

from ..runtime.test_runtime import BRANCHING, as_reference, branching_model

CC = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
LIBRARY = ["-O1", "-std=c99", *WARNINGS, "-shared", "-fPIC"]

needs_mnist = pytest.mark.skipif(
    not os.environ.get("LENET5C_DATA"),
    reason="LENET5C_DATA does not name a folder that holds mnist/",
)


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, f"{command}: {done.stdout[:3000]}{done.stderr[:3000]}"
    return done.stdout


def compile_header(path, output, *flags, compiler=None):
    name = path.stem
    run(
        compiler or CC,
        *flags,
        f"-D{name.upper()}_IMPLEMENTATION",
        "-x",
        "c",
        path,
        "-o",
        output,
    )


class Network:
    """A header, compiled into a library and loaded."""

    def __init__(self, path, numbers, *flags, compiler=None):
        library = path.with_suffix(".so")
        compile_header(path, library, *(flags or LIBRARY), compiler=compiler)
        self.library = ctypes.CDLL(str(library))
        self.name, self.numbers = path.stem, numbers
        text = path.read_text()
        self.classes = int(re.search(r"_CLASSES = (\d+)", text)[1])
        self.memory = int(re.search(r"workspace  ([\d,]+)", text)[1].replace(",", ""))
        self.names = (ctypes.c_char_p * self.classes).in_dll(
            self.library, f"{self.name}_class_names"
        )

    def __call__(self, images):
        """Class numbers (N,), and the results (N, classes) in `numbers`."""
        predict = self.library[f"{self.name}_predict"]
        # what lies beyond the workspace and the result must stay as it is
        guarded = np.full(self.memory + 128, 0x5A, np.uint8)
        start = -guarded.ctypes.data % 64 + 4
        workspace = ctypes.c_void_p(guarded.ctypes.data + start)
        results = np.empty((len(images) + 1, self.classes), self.numbers)
        results[-1] = 77
        found = []
        for image, row in zip(np.ascontiguousarray(images), results, strict=False):
            into = ctypes.c_void_p(row.ctypes.data)
            given = ctypes.c_void_p(image.ctypes.data)
            found.append(predict(given, workspace, into))
            assert predict(given, workspace, None) == found[-1]
        assert (guarded[:start] == 0x5A).all()
        assert (guarded[start + self.memory :] == 0x5A).all()
        assert (results[-1] == 77).all()
        return np.array(found), results[:-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_probabilities_are_those_of_python(name, tmp_path):
    model, images = network(name)
    model.export_c(tmp_path / "net.h", name="net")
    found, probabilities = Network(tmp_path / "net.h", np.float32)(images)
    expected = model.predict_proba(images)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found, probabilities.argmax(axis=1))


@pytest.mark.parametrize("name", BRANCHING)
def test_branches_and_normalisation_as_in_numpy(name, tmp_path):
    model = branching_model(name)
    model.set_input(InputStage(0.4, 0.3, 0.1), model.source, model.classes)
    shape = (3, *model.input_shape)
    images = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    model.export_c(tmp_path / "net.h", name="net")
    _, probabilities = Network(tmp_path / "net.h", np.float32)(images)
    logits = reference.network_forward(
        as_reference(model.layers),
        {**model.parameters, **model.buffers},
        (images / 255 - 0.4) / 0.3,
    )[-1].reshape(3, -1)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_int8_scores_are_the_same_integers(name, tmp_path):
    model, images = network(name)
    quantized = model.quantize(images[:10])
    quantized.export_c(tmp_path / "net.h", name="net")
    found, scores = Network(tmp_path / "net.h", np.int32)(images)
    np.testing.assert_array_equal(scores, quantized.scores(images))
    np.testing.assert_array_equal(model.classes[found], quantized.predict(images))


@pytest.mark.parametrize("bias", [0.0, 1e4, -1e30])
def test_int8_sums_of_any_size_are_the_same(bias, tmp_path):
    model, images = network("padding and strides")
    model.parameters["conv2d_1.bias"][3:9] = bias
    quantized = model.quantize(images)
    quantized.export_c(tmp_path / "net.h", name="net")
    _, scores = Network(tmp_path / "net.h", np.int32)(images)
    np.testing.assert_array_equal(scores, quantized.scores(images))


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("flags", ["-O0", "-O2", "-O3 -march=native", "-Os"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_any_compiler_at_any_level_gives_the_same(int8, flags, compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    model, images = network("like LeNet-5")
    expected = exported(model, images, int8, tmp_path / "net.h")
    options = (*flags.split(), *LIBRARY[1:])
    net = Network(tmp_path / "net.h", expected.dtype, *options, compiler=compiler)
    _, results = net(images)
    np.testing.assert_allclose(results, expected, rtol=0, atol=0 if int8 else 1e-5)


def exported(model, images, int8, path):
    """Write the header; the results that Python has."""
    if int8:
        quantized = model.quantize(images)
        quantized.export_c(path, name=path.stem)
        return quantized.scores(images)
    model.export_c(path, name=path.stem)
    return model.predict_proba(images)


def objects(folder, int8):
    """The header as an object file of a machine without operating system."""
    model, images = network("like LeNet-5")
    exported(model, images, int8, folder / "digits.h")
    flags = ["-ffreestanding", "-O2", "-std=c99", *WARNINGS, "-c"]
    compile_header(folder / "digits.h", folder / "digits.o", *flags)
    return folder / "digits.o"


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_nothing_but_copying_bytes_is_needed(int8, tmp_path):
    symbols = run("nm", objects(tmp_path, int8)).splitlines()
    found = [line.split()[-2:] for line in symbols if " ." not in line]
    undefined = {name for kind, name in found if kind == "U"}
    assert undefined <= {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}
    defined = {name for kind, name in found if kind != "U"}
    assert all(name.startswith("digits_") for name in defined)
    public = {name for kind, name in found if kind in "TDRB"}
    assert public == {"digits_predict", "digits_class_names"}
    assert not any(kind in "bBdC" for kind, _ in found), "memory that is written to"


def test_int8_has_no_floating_point(tmp_path):
    model, images = network("activations after pooling, and two")
    model.quantize(images).export_c(tmp_path / "net.h", name="net")
    text = re.sub(r"/\*.*?\*/", "", (tmp_path / "net.h").read_text(), flags=re.DOTALL)
    assert not re.search(r"\b(float|double)\b|\d\.\d|math\.h", text)


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_sanitizers_find_nothing(int8, tmp_path):
    main = """
        #include <stdio.h>
        #include <stdlib.h>
        #define NET_IMPLEMENTATION
        #include "net.h"
        int main(void)
        {
            static const int size = NET_CHANNELS * NET_ROWS * NET_COLUMNS;
            uint8_t *image = malloc((size_t)size);
            net_workspace *workspace = malloc(sizeof *workspace);
            for (int n = 0; n < 3; n++) {
                for (int i = 0; i < size; i++) image[i] = (uint8_t)(i * 31 + n);
                printf("%d\\n", net_predict(image, workspace, 0));
            }
            free(image);
            free(workspace);
            return 0;
        }
    """
    for position, name in enumerate(NETWORKS):
        folder = tmp_path / str(position)
        folder.mkdir()
        model, images = network(name)
        exported(model, images, int8, folder / "net.h")
        (folder / "main.c").write_text(main)
        flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"]
        run(CC, *flags, folder / "main.c", "-o", folder / "main")
        size = images[0].size
        given = (np.arange(size)[None] * 31 + np.arange(3)[:, None]).astype(np.uint8)
        given = given.reshape(3, *images.shape[1:])
        wanted = model.forward(given)
        if int8:
            wanted = model.quantize(images).scores(given)
        wanted = wanted.argmax(axis=1)
        assert run(folder / "main").split() == [str(number) for number in wanted]


def test_two_networks_link_into_one_program_of_c_and_c_plus_plus(tmp_path):
    model, images = network("like LeNet-5")
    exported(model, images, False, tmp_path / "one.h")
    exported(model, images, True, tmp_path / "two.h")
    for name in ("one", "two"):
        source = f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"\n'
        (tmp_path / f"{name}.c").write_text(source)
    (tmp_path / "main.cpp").write_text(
        """
        #include <cstdio>
        #include "one.h"
        #include "two.h"
        #include "one.h"
        int main()
        {
            static one_workspace first;
            static two_workspace second;
            static const uint8_t image[ONE_CHANNELS * ONE_ROWS * ONE_COLUMNS] = {1};
            std::printf("%s %s", one_class_names[one_predict(image, &first, nullptr)],
                two_class_names[two_predict(image, &second, nullptr)]);
        }
        """
    )
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    run("g++", *WARNINGS, "-c", "main.cpp", cwd=tmp_path)
    run(CC, *WARNINGS, "-c", "one.c", "two.c", cwd=tmp_path)
    run("g++", "main.o", "one.o", "two.o", "-o", "main", cwd=tmp_path)
    image = np.zeros((1, *images.shape[1:]), np.uint8)
    image.flat[0] = 1
    wanted = [model.predict(image)[0], model.quantize(images).predict(image)[0]]
    assert run(tmp_path / "main").split() == [str(label) for label in wanted]


def test_threads_may_predict_at_once(tmp_path):
    model, images = network("like LeNet-5")
    scores = exported(model, images, True, tmp_path / "net.h")
    net = Network(tmp_path / "net.h", np.int32)
    with ThreadPoolExecutor(4) as pool:
        for _, found in pool.map(net, [images] * 8):
            np.testing.assert_array_equal(found, scores)


LABELS = ['"', "\\", "??/", "a%sb", "数字", "\n", "é" * 30, "*/", "1\x012", "??=\\"]


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_labels_of_any_characters_arrive(int8, tmp_path):
    model = lenet5c.Model([Dense(len(LABELS))], input_shape=(1, 2, 2))
    model.set_input(InputStage(0.5, 0.5, -1.0), (2, 2), np.array(LABELS))
    exported(model, np.zeros((1, 2, 2), np.uint8), int8, tmp_path / "net.h")
    assert (tmp_path / "net.h").read_bytes().isascii()
    net = Network(tmp_path / "net.h", np.int32 if int8 else np.float32)
    assert [name.decode() for name in net.names] == LABELS


def test_layers_of_any_name_arrive(tmp_path):
    names = ["a b", "A_B", "*/ int x; /*", "数字", "名", "{x} @0@ $CALLS", "??/"]
    layers = [Dense(2, name=name) for name in names]
    model = lenet5c.Model(layers, input_shape=(1, 2, 2), classes=2)
    images = np.arange(20, dtype=np.uint8).reshape(5, 2, 2)
    for int8 in (False, True):
        expected = exported(model, images, int8, tmp_path / "net.h")
        folder = tmp_path / str(int8)
        folder.mkdir()
        shutil.move(tmp_path / "net.h", folder / "net.h")
        _, got = Network(folder / "net.h", expected.dtype)(images)
        np.testing.assert_allclose(got, expected, rtol=0, atol=0 if int8 else 1e-5)


def test_floating_images_are_taken_by_models_trained_on_them(tmp_path):
    model, images = network("like LeNet-5")
    model.set_input(InputStage(background=-2.0), model.source, model.classes)
    model.export_c(tmp_path / "net.h", name="net")
    assert "const float *image" in (tmp_path / "net.h").read_text()
    real = (images / 99 - 1).astype(np.float32)
    _, probabilities = Network(tmp_path / "net.h", np.float32)(real)
    expected = model.predict_proba(real)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)


def test_extreme_logits_give_finite_probabilities(tmp_path):
    model = lenet5c.Model([Dense(3)], input_shape=(1, 1, 1), classes=3)
    model.parameters["dense_1.bias"][:] = [-1e4, 80, -8]
    model.export_c(tmp_path / "net.h", name="net")
    _, got = Network(tmp_path / "net.h", np.float32)(np.zeros((1, 1, 1), np.uint8))
    assert got[0, 0] == 0
    assert got[0, 1] == 1
    assert got[0, 2] == pytest.approx(np.exp(-88), abs=1e-38)


@pytest.mark.parametrize(
    "name", ["", "1st", "a-b", "int", "class", "_x", "é", "a" * 32, "a b", "x\n"]
)
def test_names_that_are_no_identifiers_are_refused(name, tmp_path):
    model, images = network("ends in tanh")
    for thing in (model, model.quantize(images)):
        with pytest.raises(ValueError, match="name: expected a C identifier"):
            thing.export_c(tmp_path / "net.h", name=name)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_text_is_refused(tmp_path):
    model, _ = network("ends in tanh")
    with pytest.raises(TypeError, match="name: expected a text, got 3"):
        model.export_c(tmp_path / "net.h", name=3)


def test_parameters_that_are_not_finite_are_refused(tmp_path):
    model, _ = network("ends in tanh")
    model.parameter_vector[0] = np.inf
    with pytest.raises(ValueError, match="model: expected finite parameters"):
        model.export_c(tmp_path / "net.h")


def test_an_old_file_stays_if_the_new_one_cannot_be_written(tmp_path):
    model, _ = network("ends in tanh")
    with pytest.raises(OSError, match="missing"):
        model.export_c(tmp_path / "missing" / "net.h")


def test_floats_are_written_with_all_of_their_bits():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, 2000, np.uint64).astype(np.uint32)
    values = [float(x) for x in bits.view(np.float32) if np.isfinite(x)]
    for value in [*values, 1.0, -0.0, 1e10, 1e-45, 16777216.0]:
        text = _float_text(value)
        assert re.fullmatch(r"-?[\d.]+(e[-+]\d+)?f", text)
        assert re.search("[.e]", text)
        assert np.float32(text[:-1]) == np.float32(value)


def test_text_is_escaped():
    assert _c_text('a"b\\?é\n1') == '"a\\"b\\\\\\?\\303\\251\\0121"'


@needs_mnist
@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_ten_thousand_digits_are_classified_alike(int8, tmp_path):
    data = datasets.mnist()
    model = lenet5c.lenet5()
    model.fit(data.train.images[:10_000], data.train.labels[:10_000], epochs=1)
    images = data.test.images[: 2000 if int8 else None]
    expected = exported(model, images, int8, tmp_path / "net.h")
    net = Network(
        tmp_path / "net.h", expected.dtype, "-O3", "-march=native", *LIBRARY[1:]
    )
    found, results = net(images)
    np.testing.assert_allclose(results, expected, rtol=0, atol=0 if int8 else 1e-5)
    np.testing.assert_array_equal(found, expected.argmax(axis=1))
    if int8:
        assert net.memory <= 8 * 1024
