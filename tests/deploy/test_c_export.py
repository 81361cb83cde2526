"""The C code of a network: it computes what Python computes, with any C compiler, and
needs nothing else."""

import ctypes
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from int8_networks import NETWORKS, network

import lenet5c
from lenet5c import BatchNorm2d, Conv2d, Dense, ReLU, datasets, reference
from lenet5c.cli.textbook import as_reference
from lenet5c.data.images import InputStage
from lenet5c.deploy import c_export as export_c
from lenet5c.deploy.c_export import _c_text, _float_text

from ..runtime.test_runtime import BRANCHING, branching_model

CC = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
LIBRARY = ["-O1", "-std=c99", *WARNINGS, "-shared", "-fPIC"]
TEMPLATES = Path(lenet5c.get_include(), "templates")

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
        self.classes = int(re.search(r"_CLASSES (\d+)", text)[1])
        self.memory = int(re.search(r"_WORKSPACE_BYTES (\d+)", text)[1])
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


@pytest.mark.parametrize("bits", [4, 2, "ternary"])
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_of_few_bits_are_the_same_integers(name, bits, tmp_path):
    model, images = network(name)
    quantized = model.quantize(images[:10], bits=bits)
    quantized.export_c(tmp_path / "net.h", name="net")
    _, scores = Network(tmp_path / "net.h", np.int32)(images)
    np.testing.assert_array_equal(scores, quantized.scores(images))


def test_largest_sums_of_few_bits_are_the_same(tmp_path):
    """Of weights, pixels and biases at their ends."""
    model = lenet5c.Model([Dense(3)], input_shape=(5, 20, 20), classes=3)
    images = np.full((4, 5, 20, 20), 255, np.uint8)
    images[1:, :, ::2] = 0
    quantized = model.quantize(images, bits=4)
    (layer,) = quantized.layers
    layer.weight[:] = np.array([7, -7, -7])[:, None, None, None]
    layer.bias[:] = [1 << 30, -(1 << 30), 1 << 30]
    quantized.export_c(tmp_path / "net.h", name="net")
    _, scores = Network(tmp_path / "net.h", np.int32)(images)
    *_, expected = quantized._maps(images)
    np.testing.assert_array_equal(scores, expected.reshape(4, 3))


def test_filters_of_few_bits_that_32_bits_may_not_hold_are_refused(tmp_path):
    model = lenet5c.Model([Dense(2)], input_shape=(1, 707, 708), classes=2)
    quantized = model.quantize(np.zeros((1, 707, 708), np.uint8), bits=2)
    with pytest.raises(ValueError, match="at most 500,000 weights of few bits in a f"):
        quantized.export_c(tmp_path / "net.h", name="net")
    assert not list(tmp_path.iterdir())


def test_the_file_has_no_trace_of_other_bits(tmp_path):
    model, images = network("like LeNet-5")
    for bits in (8, 4, 2, "ternary"):
        model.quantize(images, bits=bits).export_c(tmp_path / "net.h", name="net")
        text = (tmp_path / "net.h").read_text()
        assert ("NET_BASE" in text) == (bits != 8)
        assert not re.search("FEW|TERNARY", text)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("bias", [0.0, 1e4, -1e30])
def test_int8_sums_of_any_size_are_the_same(bias, bits, tmp_path):
    model, images = network("padding and strides")
    model.parameters["conv2d_1.bias"][3:9] = bias
    quantized = model.quantize(images, bits=bits)
    quantized.export_c(tmp_path / "net.h", name="net")
    _, scores = Network(tmp_path / "net.h", np.int32)(images)
    np.testing.assert_array_equal(scores, quantized.scores(images))


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize(
    "flags",
    # the last two: no vectors, and no more than what the C standard has
    ["-O0", "-O2", "-O3 -march=native", "-Os", "-O2 -U__SSE2__", "-O2 -U__GNUC__"],
)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_any_compiler_at_any_level_gives_the_same(int8, flags, compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    if compiler == "clang" and "-U" in flags:
        pytest.skip("its headers need what is undefined")
    model, images = network("branches of all kinds")
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
    text, found = re.subn(
        r"#define NET_UNIT .*", "", text
    )  # is the caller's, if at all
    assert found == 1
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


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("name", ["DIGITS_NET", "DIGITS2", "net"])
def test_what_is_included_again_is_not_defined_again(name, int8, tmp_path):
    model, images = network("residual blocks")
    thing = model.quantize(images) if int8 else model
    thing.export_c(tmp_path / "net.h", name=name)
    include = '#include "net.h"\n'
    (tmp_path / "main.c").write_text(
        f"{include}#define {name.upper()}_IMPLEMENTATION\n{include}{include}"
        f"#undef {name.upper()}_IMPLEMENTATION\n{include}"
    )
    run(CC, "-std=c99", *WARNINGS, "-c", "main.c", "-o", "main.o", cwd=tmp_path)


def test_networks_of_like_names_are_in_one_file_of_c(tmp_path):
    layers = [Conv2d(4, 3, name="a_conv"), ReLU(), BatchNorm2d(name="pool"), Dense(3)]
    model = lenet5c.Model(layers, input_shape=(1, 8, 8), classes=3)
    names = ["net", "net_a", "net_conv", "net_avg", "net_max", "net_padded", "NET2"]
    for name in names:
        model.export_c(tmp_path / f"{name}.h", name=name)
    lines = [
        f'#define {name.upper()}_IMPLEMENTATION\n#include "{name}.h"' for name in names
    ]
    (tmp_path / "main.c").write_text("\n".join([*lines, ""]))
    run(CC, "-std=c99", *WARNINGS, "-c", "main.c", "-o", "main.o", cwd=tmp_path)


def test_names_that_differ_in_capital_letters_alone_are_an_error(tmp_path):
    model, _ = network("ends in tanh")
    for name in ("net", "Net"):
        model.export_c(tmp_path / f"{name}.h", name=name)
    (tmp_path / "main.c").write_text('#include "net.h"\n#include "Net.h"\n')
    command = [CC, "-fsyntax-only", tmp_path / "main.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the names of two networks differ in capital letters alone" in done.stderr


def identifiers():
    """What the templates name, without the network's name before it."""
    text = "".join(path.read_text() for path in sorted(TEMPLATES.iterdir()))
    return set(re.findall(r"\b(?:digits|DIGITS)_(\w+)", text))


def test_no_two_networks_can_have_a_name_in_common():
    """No name ends in another one, so the networks a and a_b have none in common."""
    names = identifiers() | {"pixels", "tanh_table"}
    assert {"conv", "max_pool_padded", "H", "predict", "workspace"} <= names
    parts = {"weight", "bias", "multiplier", "scales", "codes"}
    text = Path(export_c.__file__).read_text()
    assert set(re.findall(r'of_layer\([\w.]+, "(\w+)"\)', text)) <= parts
    for name in names:
        assert not any(other.endswith(f"_{name}") for other in names), name
        assert name not in parts  # <layer>_<part>, where a layer has no underscore
        assert not any(name.endswith(f"_{part}") for part in parts), name


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_no_macro_is_left_but_sizes_and_what_was_included(int8, tmp_path):
    model, images = network("branches of all kinds")
    exported(model, images, int8, tmp_path / "net.h")
    headers = "#include <stdint.h>\n#include <string.h>\n"
    macros = []
    for text in ("", '#define NET_IMPLEMENTATION\n#include "net.h"\n'):
        (tmp_path / "main.c").write_text(headers + text)
        listing = run(CC, "-E", "-dM", tmp_path / "main.c")
        macros.append(set(re.findall(r"#define (\w+)", listing)))
    sizes = {"CHANNELS", "ROWS", "COLUMNS", "CLASSES", "WORKSPACE_BYTES"}
    names = {"IMPLEMENTATION", "IMPLEMENTED", "H", "H_net", *sizes}
    left = {f"NET_{name}" for name in names | ({"UNIT"} if int8 else set())}
    assert macros[1] - macros[0] == left


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_channels_may_come_last_as_from_a_camera(int8, tmp_path):
    model, images = network("padding and strides")  # 3 channels
    thing = model.quantize(images) if int8 else model
    thing.export_c(tmp_path / "net.h", name="net", channels_last=True)
    assert (
        "image          [NET_ROWS][NET_COLUMNS][NET_CHANNELS]"
        in (tmp_path / "net.h").read_text()
    )
    expected = thing.scores(images) if int8 else thing.predict_proba(images)
    found, results = Network(tmp_path / "net.h", expected.dtype)(
        images.transpose(0, 2, 3, 1)
    )
    np.testing.assert_allclose(results, expected, rtol=0, atol=0 if int8 else 1e-5)
    np.testing.assert_array_equal(found, expected.argmax(axis=1))
    with pytest.raises(TypeError, match="channels_last: expected True or False, got 1"):
        thing.export_c(tmp_path / "net.h", channels_last=1)


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_the_preprocessor_knows_the_sizes(int8, tmp_path):
    model, images = network("residual blocks")
    exported(model, images, int8, tmp_path / "net.h")
    sizes = {"CHANNELS": 2, "ROWS": 9, "COLUMNS": 7, "CLASSES": 3}
    unequal = " || ".join(f"NET_{name} != {size}" for name, size in sizes.items())
    (tmp_path / "main.c").write_text(
        f'#include "net.h"\n#if {unequal} || !NET_WORKSPACE_BYTES\n#error "no"\n'
        "#endif\n"
        "typedef char fits[sizeof(net_workspace) <= NET_WORKSPACE_BYTES ? 1 : -1];\n"
    )
    run(CC, *WARNINGS, "-fsyntax-only", tmp_path / "main.c")


def test_scores_times_the_unit_are_logits(tmp_path):
    model, images = network("like LeNet-5")
    quantized = model.quantize(images)
    quantized.export_c(tmp_path / "net.h", name="net")
    text = (tmp_path / "net.h").read_text()
    unit = float(re.search(r"#define NET_UNIT (\S+)f\n", text)[1])
    assert np.float32(unit) == np.float32(quantized.scale)
    logits = model.forward(images)
    _, scores = Network(tmp_path / "net.h", np.int32)(images)
    np.testing.assert_allclose(scores * unit, logits, atol=0.1 * np.abs(logits).max())


def widths(*outputs, pixels=256):
    """A network of dense layers."""
    layers = [layer for size in outputs for layer in (Dense(size), ReLU())][:-1]
    return lenet5c.Model(layers, input_shape=(1, 1, pixels), classes=outputs[-1])


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ((130, 3), r"net: net_dense1_weight: 33,280 bytes, and avr-gcc takes 32,767"),
        ((127, 200, 60, 3), r"net: 7\d,\d{3} bytes of constants, and AVR reads 65,000"),
        ((127, 3), None),
    ],
)
def test_what_is_too_large_for_an_avr_is_an_error_there(outputs, said, tmp_path):
    model = widths(*outputs)
    images = np.random.default_rng(1).integers(0, 256, (5, 1, 1, 256), np.uint8)
    model.quantize(images).export_c(tmp_path / "net.h", name="net")
    command = [CC, "-fsyntax-only", "-x", "c", tmp_path / "net.h"]
    run(*command)
    done = subprocess.run(
        [*command, "-D__AVR__"], capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == (said is not None)
    if said:
        assert re.search(said, done.stderr)


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("flags", ["", "-march=native", "-U__SSE2__"])
def test_the_stack_is_as_small_as_the_file_says(int8, flags, tmp_path):
    if not run(CC, "--version").startswith("gcc"):
        pytest.skip("no gcc")
    models = [network(name) for name in ("like LeNet-5", "branches of all kinds")]
    models.append((lenet5c.lenet5(), np.zeros((1, 32, 32), np.uint8)))
    for number, (model, images) in enumerate(models):
        path = tmp_path / f"net{number}.h"
        exported(model, images, int8, path)
        bytes_ = int(re.search(r"stack +less than (\d+) bytes", path.read_text())[1])
        assert bytes_ <= 300
        options = ["-O2", "-fstack-usage", "-c", *flags.split()]
        compile_header(path, path.with_suffix(".o"), *options)
        usage = path.with_suffix(".su").read_text().splitlines()
        assert usage
        for line in usage:
            _, used, kind = line.split("\t")
            assert kind in ("static", "dynamic,bounded")
            assert int(used) < bytes_, line


@pytest.mark.parametrize(
    "flags",
    [
        *("-std=c99", "-std=c11 -O2", "-std=c99 -U__SSE2__"),
        *("-std=c99 -DDIGITS_FEW", "-std=c99 -DDIGITS_FEW -DDIGITS_TERNARY"),
    ],
)
@pytest.mark.parametrize("file", ["float32.c", "int8.c"])
def test_templates_compile_alone(file, flags, tmp_path):
    output = tmp_path / "a.o"
    run(CC, *flags.split(), *WARNINGS, "-c", TEMPLATES / file, "-o", output)


def test_the_constants_of_tanh_stand_in_one_place(tmp_path):
    model, _ = network("ends in tanh")
    model.export_c(tmp_path / "net.h", name="net")
    assert "1.335463080e-08f" in (tmp_path / "net.h").read_text()
    folder = Path(lenet5c.get_include())
    paths = [path for path in folder.rglob("*.[ch]") if "1.33546" in path.read_text()]
    assert paths == [folder / "elementary.h"]


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_kinds_without_c_code_are_refused(int8, tmp_path, monkeypatch):
    model, images = network("ends in tanh")
    thing = model.quantize(images) if int8 else model
    if int8:
        thing.layers = [
            replace(layer, step=replace(layer.step, kind="strange"))
            for layer in thing.layers
        ]
    else:
        steps = export_c.steps_of(model.layers, model.input_shape)
        found = [replace(step, kind="strange") for step in steps]
        monkeypatch.setattr(export_c, "steps_of", lambda *_: found)
    with pytest.raises(ValueError, match="C export: no code for layers of kind 'stran"):
        thing.export_c(tmp_path / "net.h", name="net")
    assert not list(tmp_path.iterdir())


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
    names = ["a b", "A_B", "a.b", "abn2", "a_b", "*/ int x; /*", "数字", "名", "scale"]
    names += ["{x} @0@ $CALLS", "/* here: calls */", "??/", "a" * 63, "a" * 64]
    layers = [Dense(2, name=name) for name in names]
    layers.append(ReLU())
    layers += [BatchNorm2d(name=name) for name in ("归一化", "digits_conv DIGITS_H")]
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


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    ("pixels", "data", "said"),
    [
        ("bytes", "digits", "uint8, digits"),
        ((0, 1), None, "floats from 0 to 1"),
        (None, None, "pixels of unknown kind"),
        ((0.25, 1), "/x/a*/ int 数.npz", "floats from 0.25 to 1, /x/a_/ int _.npz"),
    ],
)
def test_the_head_says_what_the_network_was_trained_on(
    int8, pixels, data, said, tmp_path
):
    model, images = network("like LeNet-5")
    stage = InputStage(background=-2.0, pixels=pixels)
    model.set_input(stage, model.source, model.classes)
    model.trained_on = data
    if int8:
        model.quantize(images).export_c(tmp_path / "net.h", name="net")
    else:
        model.export_c(tmp_path / "net.h", name="net")
    text = (tmp_path / "net.h").read_text()
    assert text.count(" * Trained on ") == 1
    assert f"\n * Trained on {said}.\n" in text


def test_extreme_logits_give_finite_probabilities(tmp_path):
    model = lenet5c.Model([Dense(3)], input_shape=(1, 1, 1), classes=3)
    model.parameters["dense_1.bias"][:] = [-1e4, 80, -8]
    model.export_c(tmp_path / "net.h", name="net")
    _, got = Network(tmp_path / "net.h", np.float32)(np.zeros((1, 1, 1), np.uint8))
    assert got[0, 0] == 0
    assert got[0, 1] == 1
    assert got[0, 2] == pytest.approx(np.exp(-88), abs=1e-38)


@pytest.mark.parametrize(
    "name",
    [
        *("", "1st", "a-b", "_x", "é", "a" * 32, "a b", "x\n", "a__b", "a_"),
        *("int", "class", "NULL", "errno"),
    ],
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
