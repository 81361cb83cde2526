"""What pixels mean to a model: bytes, shares of 255, or numbers of another range.

The same in `predict`, `evaluate`, a second `fit`, `predictor`, the C runtime and ONNX.
"""

import copy
import pickle

import numpy as np
import pytest

import lenet5c
from lenet5c import Conv2d, Dense, Tanh
from lenet5c.data.images import InputStage

BYTES = np.random.default_rng(0).integers(0, 256, (40, 9, 8), dtype=np.uint8)
BYTES[0, 0, :2] = 0, 255
SHARES = (BYTES / 255).astype(np.float32)
OTHERS = (SHARES * 6 - 2).astype(np.float32)  # -2 to 4
LABELS = np.arange(40) % 3


def trained_on(images):
    layers = [Conv2d(3, 3, name="C1"), Tanh(), Dense(3, name="OUTPUT")]
    model = lenet5c.Model(layers, input_shape=(1, 10, 9), classes=3)
    model.fit(images, LABELS, epochs=1)
    return model


@pytest.fixture(scope="module")
def of_bytes():
    return trained_on(BYTES)


@pytest.fixture(scope="module")
def of_shares():
    return trained_on(SHARES)


@pytest.fixture(scope="module")
def of_others():
    return trained_on(OTHERS)


def by_hand(model, images):
    """Logits of images that are what the network sees."""
    plain = copy.deepcopy(model)
    background = model.stage.background
    plain.set_input(InputStage(background=background), model.source, model.classes)
    return plain.forward(images.astype(np.float32))


CALLS = {
    "forward": lambda m, x: m.forward(x),
    "call": lambda m, x: m(x),
    "predict_proba": lambda m, x: m.predict_proba(x),
    "evaluate": lambda m, x: m.evaluate(x, LABELS[: len(x)]).loss,
    "activations": lambda m, x: m.activations(x, "C1"),
    "gradients": lambda m, x: m.loss_and_gradients(x, LABELS[: len(x)])[1]["C1.weight"],
    "predictor": lambda m, x: [m.predictor().predict_proba(one) for one in x],
    "step": lambda m, x: copy.deepcopy(m).train_step(
        x, LABELS[: len(x)], lenet5c.SGD()
    ),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_call
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_model_of_bytes_takes_shares_of_255(of_bytes, call, dtype):
    shares = SHARES.astype(dtype)
    atol = 2e-3 if dtype == "f2" else 1e-5
    np.testing.assert_allclose(
        call(of_bytes, shares), call(of_bytes, BYTES), rtol=1e-3, atol=atol
    )


def test_half_of_full_scale_is_the_byte_127_and_a_half(of_bytes):
    half = np.full((1, 9, 8), 0.5)
    stage = of_bytes.stage
    seen = np.full((1, 9, 8), (127.5 / 255 - stage.mean) / stage.deviation)
    np.testing.assert_allclose(of_bytes.forward(half), by_hand(of_bytes, seen), 1e-5)


@each_call
def test_a_model_of_shares_takes_bytes(of_shares, call):
    np.testing.assert_allclose(
        call(of_shares, BYTES), call(of_shares, SHARES), rtol=1e-4, atol=1e-6
    )


def test_shares_are_seen_as_they_are(of_shares):
    assert of_shares.stage.pixels == (0, 1)
    np.testing.assert_array_equal(of_shares.forward(SHARES), by_hand(of_shares, SHARES))


REFUSED = {
    "0 to 255": (SHARES * 255, r"divide by 255, or pass uint8$"),
    "normalised": (SHARES * 2 - 1, r"divide by 255, or pass uint8$"),
    "a little more than 1": (SHARES * 1.0001, r"divide by 255"),
}


@each_call
@pytest.mark.parametrize("name", REFUSED)
def test_models_of_bytes_and_shares_refuse_other_floats(
    of_bytes, of_shares, call, name
):
    images, message = REFUSED[name]
    for model, trained in ((of_bytes, "uint8"), (of_shares, "floats from 0 to 1")):
        before = model.parameter_vector.copy()
        with pytest.raises(ValueError, match=rf"^image.* as .* {trained}.*{message}"):
            call(model, images)
        np.testing.assert_array_equal(model.parameter_vector, before)


@each_call
def test_a_model_of_other_floats_refuses_bytes_and_says_its_range(of_others, call):
    with pytest.raises(ValueError, match=r"^image.*on floats from -2 to 4, got uint8$"):
        call(of_others, BYTES)


@each_call
def test_a_model_of_other_floats_takes_its_range_and_as_much_around_it(of_others, call):
    wide = OTHERS[:4].copy()
    wide[1, 3, 3], wide[2, 3, 3] = -8, 10  # -2 - 6, 4 + 6
    call(of_others, wide)
    for value in (-8.001, 10.001):
        wide[3, 4, 4] = value
        with pytest.raises(ValueError, match=r"from -8 to 10, .*has (-8.001|10.001)$"):
            call(of_others, wide)


def test_the_image_is_named(of_bytes):
    images = np.concatenate([SHARES] * 2000)  # more than one part is looked at
    images[77_777, 8, 7] = 1.5
    with pytest.raises(ValueError, match=r"image 77777 has 1\.5:"):
        of_bytes.predict(images)


def test_what_rounding_does_to_0_and_1_makes_no_other_kind():
    images = SHARES.copy()
    images[0, 0, :2] = -1e-9, np.nextafter(np.float32(1), 2)
    assert trained_on(images).stage.pixels == (0, 1)


def test_what_rounding_does_to_0_and_1_is_let_through(of_bytes):
    images = SHARES.copy()
    images[0, 0, :2] = -1e-6, 1 + 1e-6
    of_bytes.predict(images)
    of_bytes.predictor()(images[0])


@pytest.mark.parametrize("images", [BYTES, BYTES.astype(np.int64), SHARES])
def test_a_second_fit_takes_what_predict_takes(of_bytes, images):
    """And goes the same way."""
    first, second = copy.deepcopy(of_bytes), copy.deepcopy(of_bytes)
    first.fit(BYTES, LABELS, epochs=2)
    second.fit(images, LABELS, epochs=2, validation=(SHARES, LABELS))
    np.testing.assert_allclose(
        first.parameter_vector, second.parameter_vector, atol=1e-5
    )
    assert second.stage == of_bytes.stage


@pytest.mark.parametrize("images", [SHARES * 255, SHARES * 2 - 1])
def test_a_second_fit_refuses_what_predict_refuses(of_bytes, images):
    model = copy.deepcopy(of_bytes)
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=r"^images: .*divide by 255"):
        model.fit(images, LABELS)
    with pytest.raises(ValueError, match=r"^validation images: .*divide by 255"):
        model.fit(BYTES, LABELS, validation=(images, LABELS))
    assert pickle.dumps(model) == before


def test_augmentation_of_shares_is_that_of_bytes(of_bytes):
    models = [copy.deepcopy(of_bytes) for _ in range(2)]
    augment = lenet5c.Augment(shift=1, rotate=9, noise=0.1, erase=0.5)
    for model, images in zip(models, (BYTES, SHARES), strict=True):
        model.fit(images, LABELS, epochs=2, augment=augment)
    np.testing.assert_allclose(
        models[0].parameter_vector, models[1].parameter_vector, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["bytes", "shares", "others"])
def test_the_kind_is_in_the_file(kind, tmp_path, request):
    model = request.getfixturevalue(f"of_{kind}")
    model.save(tmp_path / "m.lenet5c")
    back = lenet5c.load(tmp_path / "m.lenet5c")
    assert back.stage == model.stage
    assert (
        back.stage.pixels
        == {"bytes": "bytes", "shares": (0, 1), "others": (-2, 4)}[kind]
    )
    assert copy.deepcopy(model).stage == model.stage
    assert model.folded().stage == model.stage


@pytest.mark.parametrize(
    ("kind", "images"), [("bytes", BYTES), ("bytes", SHARES), ("shares", SHARES)]
)
def test_onnx_means_the_same(kind, images, tmp_path, request):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = request.getfixturevalue(f"of_{kind}")
    path = tmp_path / "m.onnx"
    model.export_onnx(path, dtype=images.dtype.name)
    session = onnxruntime.InferenceSession(path)
    (logits,) = session.run(["logits"], {"images": images[:, np.newaxis]})
    np.testing.assert_allclose(logits, model.forward(images), atol=1e-4)
    back = lenet5c.from_onnx(path)
    assert back.stage == model.stage
    np.testing.assert_array_equal(back.forward(images), model.forward(images))


def test_what_no_training_has_seen_takes_all():
    """Weights from elsewhere: floats are seen as they are, bytes are normalised."""
    model = trained_on(BYTES)
    model.set_input(InputStage(0.25, 0.5, -1.0), (9, 8), np.arange(3))
    seen = (BYTES / 255 - 0.25) / 0.5
    np.testing.assert_allclose(model.forward(BYTES), model.forward(seen), atol=1e-5)
    model.forward(OTHERS * 100)
    assert np.isfinite(model.predictor().predict_proba(OTHERS[0] * 100)).all()


@pytest.mark.parametrize(
    "pixels", ["floats", [0], [0, 1, 2], [1, 0], ["0", 1], [0, 1e39], True, {}, 3]
)
def test_a_kind_that_is_none_is_refused(pixels):
    with pytest.raises((TypeError, ValueError), match=r"^pixels: expected"):
        InputStage.checked(0, 1, 0, pixels)


# A stage that the model was made with

FIXED = InputStage.between(-0.1, 1.175)


def fixed(layers=None):
    layers = layers or [Conv2d(3, 3, name="C1"), Tanh(), Dense(3, name="OUTPUT")]
    classes = 3 if len(layers) > 1 else 90
    return lenet5c.Model(layers, input_shape=(1, 10, 9), classes=classes, stage=FIXED)


def seen(model, images):
    """What the network sees, by a convolution that changes nothing."""
    eyes = fixed([Conv2d(1, 1, bias=False, name="EYES")])
    eyes.parameters["EYES.weight"][:] = 1
    eyes.set_input(model.stage, model.source, eyes.classes)
    return eyes.forward(images).reshape(-1, 10, 9)


@pytest.mark.parametrize("images", [BYTES, SHARES], ids=["bytes", "shares"])
def test_a_fixed_stage_is_that_of_the_paper(images):
    model = fixed()
    assert not model.fitted
    model.fit(images, LABELS, epochs=1)
    assert (model.stage, model.source, model.fitted) == (FIXED, (9, 8), True)
    expected = np.full((40, 10, 9), -0.1)
    expected[:, :9, :8] = -0.1 + BYTES / 255 * 1.275
    np.testing.assert_allclose(seen(model, images), expected, rtol=0, atol=3e-7)


def test_bytes_and_shares_train_a_fixed_stage_alike():
    one, other = fixed(), fixed()
    one.fit(BYTES, LABELS, epochs=2)
    other.fit(SHARES, LABELS, epochs=2)
    np.testing.assert_allclose(one.parameter_vector, other.parameter_vector, atol=1e-5)
    np.testing.assert_allclose(one.forward(SHARES), one.forward(BYTES), atol=1e-5)


def test_a_fixed_stage_refuses_other_floats_from_the_first_fit_on(digest):
    model = fixed()
    before = digest(model)
    for call in (lambda: model.fit(OTHERS, LABELS), lambda: model.predict(OTHERS)):
        with pytest.raises(ValueError, match="divide by 255, or pass uint8"):
            call()
    assert digest(model) == before
    assert not model.fitted


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_fixed_stage_is_kept_wherever_a_model_goes(when, tmp_path):
    model = fixed()
    expected = fixed()
    expected.fit(BYTES, LABELS, epochs=1)
    if when == "after":
        model.fit(BYTES, LABELS, epochs=1)
    model.save(tmp_path / "fixed.lenet5c")
    model.export_onnx(tmp_path / "fixed.onnx")
    for again in (
        lenet5c.load(tmp_path / "fixed.lenet5c"),
        lenet5c.from_onnx(tmp_path / "fixed.onnx"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        model.folded(),
    ):
        assert (again.stage, again.fitted) == (model.stage, model.fitted)
        np.testing.assert_array_equal(again.forward(BYTES), model.forward(BYTES))
        if when == "before":
            again.fit(BYTES, LABELS, epochs=1)
            assert again.stage == FIXED
            assert (
                again.parameter_vector.tobytes() == expected.parameter_vector.tobytes()
            )
    found = [model.predictor()(image) for image in BYTES]
    assert found == model.predict(BYTES).tolist()


def test_a_checkpoint_of_another_stage_is_refused(tmp_path):
    options = {"epochs": 2, "checkpoint": tmp_path, "resume": True}
    first = fixed()
    first.fit(BYTES, LABELS, **options)
    again = fixed()
    again.fit(BYTES, LABELS, **options)
    assert again.stage == FIXED
    assert again.parameter_vector.tobytes() == first.parameter_vector.tobytes()
    other = lenet5c.Model(
        first.layers,
        input_shape=(1, 10, 9),
        classes=3,
        stage=InputStage.between(-1, 1),
    )
    with pytest.raises(ValueError, match=r"resume: expected .* input stage"):
        other.fit(BYTES, LABELS, **options)


def test_stages_that_are_none_are_refused():
    with pytest.raises(
        TypeError, match="stage: expected an InputStage or None, got 'x'"
    ):
        lenet5c.Model([Dense(3)], input_shape=(1, 2, 2), classes=3, stage="x")
    with pytest.raises(
        ValueError, match=r"white: expected more than black, 1.0, got 1.0"
    ):
        InputStage.between(1, 1)
    with pytest.raises(TypeError, match="black: expected a number, got '0'"):
        InputStage.between("0", 1)
    assert InputStage.between(0, 1) == InputStage(0, 1, 0, "bytes")
    assert str(InputStage.between(0, 1).mean) == "0.0"
