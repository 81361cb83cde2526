"""The network for native programs: predictors, trainers, the functions' addresses."""

import copy
import ctypes
import os
import pickle
import shutil
import subprocess
import sysconfig
import threading
from ctypes import c_float, c_int, c_void_p
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c import SGD, AdamW, embed

CC = shutil.which(os.environ.get("CC", "cc"))

# Signatures are a contract: a function may be added, none may change or go.
SIGNATURES = {
    "lenet5c_abi_version": "int (void)",
    "lenet5c_strerror": "char const *(int)",
    "lenet5c_open": "int (char const *, lenet5c_model **)",
    "lenet5c_open_memory": "int (void const *, size_t, lenet5c_model **)",
    "lenet5c_close": "void (lenet5c_model *)",
    "lenet5c_input": "int (lenet5c_model const *, lenet5c_input_info *)",
    "lenet5c_classes": "int (lenet5c_model const *)",
    "lenet5c_class_name": "char const *(lenet5c_model const *, int)",
    "lenet5c_workspace_size": "size_t (lenet5c_model const *)",
    "lenet5c_predict_u8": (
        "int (lenet5c_model const *, void *, uint8_t const *, lenet5c_layout const *, "
        "int *, float *, float *)"
    ),
    "lenet5c_predict_f32": (
        "int (lenet5c_model const *, void *, float const *, lenet5c_layout const *, "
        "int *, float *, float *)"
    ),
    "lenet5c_classify": "int (lenet5c_model const *, void *, uint8_t const *)",
    "lenet5c_train_step_u8": (
        "int (void *, uint8_t const *, int32_t const *, int, float, float *)"
    ),
    "lenet5c_train_step_f32": (
        "int (void *, float const *, int32_t const *, int, float, float *)"
    ),
}


@pytest.fixture(scope="module")
def model():
    """LeNet-5 for digits, with weights of more than one size."""
    model = lenet5c.lenet5(seed=5)
    generator = np.random.default_rng(5)
    for name in model.parameters:
        if name.endswith("bias"):
            shape = model.parameters[name].shape
            model.parameters[name] = generator.normal(0, 0.3, shape)
    return model


@pytest.fixture(scope="module")
def trained():
    """A small network that was fitted on bytes, with labels that are words."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 9, 11), dtype=np.uint8)
    model = lenet5c.Model(
        [lenet5c.Conv2d(3, 3), lenet5c.Tanh(), lenet5c.Dropout(0.3), lenet5c.Dense(2)],
        input_shape=(1, 10, 12),
        classes=2,
    )
    model.fit(images, np.array(["no", "yes"])[np.arange(40) % 2], epochs=2)
    return model, images


def by_the_core(model, images):
    """Logits without the C runtime."""
    y = np.empty((len(images), model.class_count), np.float32)
    pixels = lenet5c.data.images.as_images(images, model.input_shape)
    model._network.forward(model.parameter_vector, pixels, model.stage.for_core(), y, 1)
    return y


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return shares / shares.sum(axis=1, keepdims=True)


def test_a_predictors_content_says_what_it_was_trained_on(trained, tmp_path):
    """So does a pickled one, whose content is that."""
    model = copy.deepcopy(trained[0])
    model.trained_on = "own digits"
    for predictor in (
        model.predictor(),
        pickle.loads(pickle.dumps(model.predictor())),
    ):
        (tmp_path / "m").write_bytes(predictor.content)
        found = lenet5c.load(tmp_path / "m")
        assert found.trained_on == "own digits"
        assert found.stage.pixels == "bytes"


def test_a_predictor_says_what_the_core_says(model, images):
    predictor = model.predictor()
    logits = by_the_core(model, images)
    assert [predictor(image) for image in images] == logits.argmax(axis=1).tolist()
    found = [predictor.predict_proba(image) for image in images]
    np.testing.assert_allclose(found, softmax(logits), atol=1e-6)
    np.testing.assert_allclose(model.forward(images), logits, atol=1e-5)


def test_a_predictor_returns_the_labels_of_fit(trained):
    model, images = trained
    predictor = model.predictor()
    assert [predictor(image) for image in images] == model.predict(images).tolist()
    assert predictor.labels == ["no", "yes"]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_images_may_have_any_strides(model, images, dtype):
    frame = np.zeros((80, 90), dtype)
    image = images[3].astype(dtype)
    expected = model.predictor().predict_proba(np.ascontiguousarray(image))
    frame[20:48, 5:61:2] = image
    views = [frame[20:48, 5:61:2], np.asfortranarray(image), image[::-1].copy()[::-1]]
    views += [image[None], image.ravel(), np.stack([image] * 3, axis=2)[..., 1]]
    for view in views:
        found = model.predictor().predict_proba(view)
        np.testing.assert_array_equal(found, expected)


def test_colour_images_may_be_interleaved():
    rng = np.random.default_rng(0)
    model = lenet5c.lenet5(channels=3, seed=1)
    predictor = model.predictor()
    pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    expected = model.predict_proba(pixels.transpose(2, 0, 1)[None, :, 1:29, 2:33])[0]
    found = predictor.predict_proba(pixels.transpose(2, 0, 1)[:, 1:29, 2:33])
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="image: expected"):
        predictor(pixels[:28, :28, 0])


def test_smaller_images_are_centred(trained):
    model, images = trained
    for rows, columns in [(1, 1), (4, 9), (9, 3), (10, 12)]:
        image = np.resize(images[0], (rows, columns))
        expected = model.predict_proba(image[None])[0]
        logits = by_the_core(model, image[None])
        np.testing.assert_array_equal(model.predictor().predict_proba(image), expected)
        np.testing.assert_allclose(expected, softmax(logits)[0], atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [
        *(None, 3, "image", [], np.full((28, 28), -1), np.zeros((33, 20))),
        *(np.zeros((2, 28, 28)), np.zeros((0, 28)), np.zeros((1, 1, 28, 28), np.uint8)),
        *(np.full((28, 28), np.nan, np.float32), np.full((28, 28), np.inf)),
        np.zeros((28, 28), "M8[s]"),
    ],
    ids=lambda image: f"{type(image).__name__}{np.shape(image)}",
)
def test_what_is_no_image_is_refused(model, image):
    predictor = model.predictor()
    with pytest.raises((TypeError, ValueError), match="image"):
        predictor(image)
    assert predictor(np.zeros((28, 28), np.uint8)) in range(10)


def test_one_bad_float_anywhere_is_found(model):
    predictor = model.predictor()
    for row, column in [(0, 0), (31, 31), (7, 30)]:
        image = np.zeros((32, 32), np.float32)
        image[row, column] = -np.inf
        with pytest.raises(ValueError, match="finite"):
            predictor(image)


def test_a_predictor_keeps_the_weights_it_was_made_of(images, labels):
    model = lenet5c.lenet5()
    predictor = model.predictor()
    before = predictor.predict_proba(images[0])
    model.fit(images, labels, epochs=1)
    np.testing.assert_array_equal(predictor.predict_proba(images[0]), before)
    after = model.predict_proba(images[:1])[0]
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_array_equal(model.predictor().predict_proba(images[0]), after)


@pytest.mark.parametrize("name", ["C1.weight", "OUTPUT.bias"])
def test_predict_sees_every_change_of_the_weights(model, images, name):
    changed = copy.deepcopy(model)
    for step in range(3):
        changed.parameters[name][..., -1] += 0.5
        expected = by_the_core(changed, images)
        np.testing.assert_allclose(changed.forward(images), expected, atol=2e-5)
        assert step == 0 or np.abs(expected - model.forward(images)).max() > 0.1
    changed.set_input(
        lenet5c.data.images.InputStage(0.5, 0.1, 1), (28, 28), np.arange(10)
    )
    expected = by_the_core(changed, images)
    np.testing.assert_allclose(changed.forward(images), expected, atol=1e-4)


def test_an_image_has_the_same_bits_alone_and_among_others(model, images):
    """In either engine."""
    model = copy.deepcopy(model)
    for engine in ("core", "runtime"):
        model._engine.forced = engine
        together = model.forward(images, threads=2)
        shares = model.predict_proba(images)
        for n in (1, 7, 8, 9, 17):
            np.testing.assert_array_equal(model.forward(images[:n]), together[:n])
            np.testing.assert_array_equal(
                model.predict_proba(images[:n], threads=1), shares[:n]
            )


def test_both_engines_find_the_probabilities_of_the_logits(images):
    model = lenet5c.mlp(hidden=300)
    expected = by_the_core(model, images)
    for engine in ("core", "runtime"):
        model._engine.forced = engine
        np.testing.assert_allclose(model.forward(images), expected, atol=1e-5)
        shares = softmax(expected)
        np.testing.assert_allclose(model.predict_proba(images), shares, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_give_what_they_give(model, images, value):
    broken = copy.deepcopy(model)
    broken.parameters["OUTPUT.bias"][3] = value
    assert not np.isfinite(broken.forward(images[:2])[:, 3]).any()
    with pytest.raises(ValueError, match=r"OUTPUT\.bias.*finite"):
        broken.predictor()


def test_eight_threads_share_a_predictor(model, images):
    predictor = model.predictor()
    expected = [predictor(image) for image in images] * 167
    found = [[] for _ in range(8)]

    def run(results):
        for n in range(10_000):
            results.append(predictor(images[n % 60]))

    threads = [threading.Thread(target=run, args=(results,)) for results in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results == expected[:10_000] for results in found)


def test_one_image_starts_no_threads(run_python):
    said = run_python(
        "import os, numpy as np, lenet5c\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "model = lenet5c.lenet5()\n"
        "image = np.zeros((28, 28), np.uint8)\n"
        "model.predict(image[None]), model.predictor()(image)\n"
        "print(len(os.listdir('/proc/self/task')) - before)\n",
        OPENBLAS_NUM_THREADS="1",
    )
    assert said.stdout == "0\n"


def test_a_predictor_computes_as_the_core_in_use(model):
    names = {"avx512": "avx512", "avx2": "avx2", "baseline": "vector"}
    isa = lenet5c.build_info()["isa"]
    assert model.predictor().instruction_set == names[isa]


def test_every_mnist_image_has_the_class_that_the_core_gives_it(mnist, mnist_model):
    images = mnist.test.images
    logits = by_the_core(mnist_model, images)
    predictor = mnist_model.predictor()
    found = np.array([predictor(image) for image in images])
    np.testing.assert_array_equal(found, logits.argmax(axis=1))
    shares = mnist_model.predict_proba(images)
    np.testing.assert_allclose(shares, softmax(logits), atol=1e-5)


def prototype(name, *arguments, result=c_int):
    return ctypes.CFUNCTYPE(result, *arguments)(embed.addresses[name])


def test_functions_can_be_called_by_address(model, images):
    predictor = model.predictor()
    classify = prototype("lenet5c_classify", *[c_void_p] * 3)
    size = prototype("lenet5c_workspace_size", c_void_p, result=ctypes.c_size_t)
    assert size(predictor.address) <= predictor.workspace_size
    fresh = copy.deepcopy(model)
    fresh.set_input(model.stage, (28, 28), model.classes)
    predictor = fresh.predictor()
    workspace = ctypes.create_string_buffer(predictor.workspace_size)
    for image in images[:9]:
        found = classify(predictor.address, workspace, image.ctypes.data)
        assert found == predictor(image)
    assert classify(None, workspace, image.ctypes.data) == -1


def test_signatures_are_what_they_were():
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    found = {
        name: get_name(capsule).decode() for name, capsule in embed.__pyx_capi__.items()
    }
    assert found == SIGNATURES
    assert embed.addresses.keys() == SIGNATURES.keys()


FUNCTIONS = [name.removeprefix("lenet5c_") for name in SIGNATURES]


def test_the_table_of_the_capsule_is_what_it_was():
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = get(embed._C_API, b"lenet5c.embed._C_API")
    assert ctypes.cast(table, ctypes.POINTER(c_int))[0] == 1
    pointers = ctypes.cast(table, ctypes.POINTER(c_void_p))
    for number, name in enumerate(FUNCTIONS, 1):
        assert pointers[number] == embed.addresses[f"lenet5c_{name}"]


def test_an_extension_compiled_against_the_table_finds_each_function(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    include = lenet5c.get_include()
    lines = [
        f'_Static_assert(offsetof(lenet5c_api, {name}) == {8 * number}, "moved");'
        for number, name in enumerate(FUNCTIONS, 1)
    ]
    source = tmp_path / "client.c"
    source.write_text(
        '#include "lenet5c_api.h"\n'
        + "\n".join(lines)
        + "\nint client(void) { const lenet5c_api *api = lenet5c_import();"
        " return api ? api->abi_version() : -1; }\n"
    )
    library = tmp_path / "client.so"
    subprocess.run(
        [
            *("gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
            *(f"-I{include}", f"-I{sysconfig.get_path('include')}"),
            *(str(source), "-o", str(library)),
        ],
        check=True,
    )
    assert ctypes.PyDLL(str(library)).client() == 1


@pytest.mark.parametrize(
    "make", [SGD, lambda: SGD(0.1, momentum=0, weight_decay=1e-3), AdamW]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_native_steps_are_those_of_train_step(images, labels, make, dtype):
    pixels = np.ascontiguousarray(images, dtype)
    pixels = pixels if dtype == np.uint8 else pixels / 255
    name = "lenet5c_train_step_u8" if dtype == np.uint8 else "lenet5c_train_step_f32"
    step = prototype(name, c_void_p, c_void_p, c_void_p, c_int, c_float, c_void_p)
    model = lenet5c.lenet5(seed=2, dropout=0.3)
    model.fit(pixels, labels, epochs=1)
    expected = copy.deepcopy(model)
    trainer = model.trainer(make(), batch_size=40, threads=2)
    optimizer = make()
    codes = labels.astype(np.int32)
    loss = c_float()
    for number in range(5):
        part = slice(number, number + 30 + number)
        batch = np.ascontiguousarray(pixels[part])
        wanted = expected.train_step(
            batch, labels[part], optimizer, learning_rate=0.02, threads=1
        )
        arguments = (batch.ctypes.data, codes[part].ctypes.data, len(batch), 0.02)
        assert step(trainer.address, *arguments, ctypes.addressof(loss)) == 0
        assert loss.value == pytest.approx(wanted, abs=1e-6)
    np.testing.assert_array_equal(model.parameter_vector, expected.parameter_vector)
    assert trainer.steps == 5


def test_a_native_step_that_does_not_fit_changes_nothing(images, digest):
    step = prototype(
        "lenet5c_train_step_u8",
        *(c_void_p, c_void_p, c_void_p, c_int, c_float, c_void_p),
    )
    model = lenet5c.lenet5()
    trainer = model.trainer(batch_size=4)
    before = digest(model)
    image = images.ctypes.data
    for labels, count in [([0] * 5, 5), ([0], 0), ([0], -1), ([0, 10], 2), ([-1], 1)]:
        codes = np.array(labels, np.int32)
        assert step(trainer.address, image, codes.ctypes.data, count, 0.1, None) == -1
    codes = np.zeros(4, np.int32)
    assert step(trainer.address, None, codes.ctypes.data, 1, 0.1, None) == -1
    assert step(trainer.address, image, None, 1, 0.1, None) == -1
    assert (digest(model), trainer.steps) == (before, 0)


def test_a_trainer_outlives_its_model(images, labels):
    step = prototype(
        "lenet5c_train_step_u8",
        *(c_void_p, c_void_p, c_void_p, c_int, c_float, c_void_p),
    )
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=1)
    trainer = model.trainer()
    vector = model.parameter_vector
    del model
    before = vector.copy()
    codes = labels.astype(np.int32)
    images, codes = images.copy(), codes.copy()
    arguments = (images.ctypes.data, codes.ctypes.data, 60, 0.1, None)
    assert step(trainer.address, *arguments) == 0
    assert not np.array_equal(before, vector)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"optimizer": 3}, {"threads": 0}, {"seed": -1}]
)
def test_a_wrong_trainer_is_refused(model, wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        model.trainer(**wrong)


def test_a_trainer_of_a_step_of_ones_own_is_refused(model):
    class Mine(lenet5c.SGD):
        def step(self, *arguments):
            pass

    with pytest.raises(NotImplementedError, match="optimizer: expected SGD or AdamW"):
        model.trainer(Mine())


def test_predictors_are_of_the_weights_that_they_are_kept_for(images, monkeypatch):
    """Weights that change while a predictor is made are not taken for the old ones."""
    model = lenet5c.lenet5()
    expected = model.forward(images[:3])
    first = model.parameter_vector.copy()
    model.parameter_vector[:] += 1
    make = model._engine._open
    model._engine.forced = "runtime"

    def interrupted(*arguments):
        model.parameter_vector[:] = 0.5
        predictor = make(*arguments)
        model.parameter_vector[:] = first + 1
        return predictor

    model.parameter_vector[:] = first
    model._engine._kept = None
    monkeypatch.setattr(model._engine, "_open", interrupted)
    model.forward(images[:3])
    model.parameter_vector[:] = first
    np.testing.assert_array_equal(model.forward(images[:3]), expected)


def test_images_larger_than_the_input_cannot_be_the_source(model):
    for source in ((33, 28), (28, 1 << 20)):
        with pytest.raises(ValueError, match="source: expected images of at most"):
            model.set_input(model.stage, source, model.classes)


def test_the_header_and_the_sources_are_where_get_include_says():
    folder = Path(lenet5c.get_include())
    names = {"lenet5c.h", "lenet5c.c", "runtime", "elementary.h", "lenet5c_api.h"}
    assert names <= {path.name for path in folder.iterdir()}
    assert (Path(lenet5c.__file__).parent / "embed.pxd").exists()


def test_what_a_c_program_copies_is_all_it_needs(tmp_path):
    """lenet5c.h, lenet5c.c, elementary.h and runtime/, as docs/embedding.md says."""
    if CC is None:
        pytest.skip("needs a C compiler")
    folder = Path(lenet5c.get_include())
    for name in ("lenet5c.h", "lenet5c.c", "elementary.h"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "runtime", tmp_path / "runtime")
    program = (
        '#include "lenet5c.h"\nint main(void) { return lenet5c_open(0, 0) == 0; }\n'
    )
    (tmp_path / "program.c").write_text(program)
    command = [CC, "-O0", "program.c", "lenet5c.c", "-o", "program", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "program"], check=True)


def test_the_module_exports_nothing_but_its_initialisation():
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", embed.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [line.split()[-1] for line in listing.splitlines()] == ["PyInit_embed"]


def test_weights_that_change_are_predicted_with_as_a_file_of_them(model, images):
    """Opened again without a file, they give the same bits as one that was opened."""
    changed = copy.deepcopy(model)
    changed.forward(images[:1])
    for step in range(3):
        changed.parameter_vector[:] *= 1 + 0.1 * step
        expected = np.stack([changed.predictor().predict_proba(i) for i in images[:3]])
        np.testing.assert_array_equal(changed.predict_proba(images[:3]), expected)
    changed.set_input(changed.stage, changed.source, changed.classes[::-1].copy())
    assert (
        changed.predict(images[:3]) == [changed.predictor()(i) for i in images[:3]]
    ).all()
