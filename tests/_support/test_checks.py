"""Arrays as they come: tensors, and masked ones, wherever arrays are taken."""

import math

import numpy as np
import pytest

import lenet5c
from lenet5c import functional
from lenet5c._support.checks import as_array, as_contiguous


class Tensor:
    """As PyTorch's that requires gradients: NumPy may not read it."""

    requires_grad = True

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype

    def __len__(self):
        return len(self.values)

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    def detach(self):
        return self.values


def tensor_of_torch(values):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(values.astype(np.float32)).requires_grad_()


def masked(values):
    mask = np.zeros(values.shape, bool)
    mask.flat[1] = True
    return np.ma.array(values, mask=mask)


def uses(model, images, labels):
    """What is done with images (60, 12, 12) and labels, after the name in errors."""
    maps, logits = images[:, None], images[:, 0]
    yield "images", lambda of: model.fit(of(images), labels, epochs=1)
    yield "labels", lambda of: model.fit(images, of(labels), epochs=1)
    yield (
        "validation images",
        lambda of: model.fit(images, labels, epochs=1, validation=(of(images), labels)),
    )
    yield (
        "sample_weight",
        lambda of: model.fit(images, labels, epochs=1, sample_weight=of(labels + 1.0)),
    )
    yield "images", lambda of: model.predict(of(images))
    yield "images", lambda of: model.predict_proba(of(images))
    yield "images", lambda of: model.activations(of(images), "A")
    yield "images", lambda of: model.evaluate(of(images), labels)
    yield "labels", lambda of: model.evaluate(images, of(labels))
    yield "images", lambda of: model.loss_and_gradients(of(images), labels)
    yield "labels", lambda of: model.loss_and_gradients(images, of(labels))
    yield "image", lambda of: model.predictor()(of(images[0]))
    yield "image", lambda of: model.predictor().predict_proba(of(images[0]))
    yield "images", lambda of: lenet5c.Augment().apply(of(images))
    yield "x", lambda of: functional.relu(of(maps))
    yield "dy", lambda of: functional.relu_backward(maps, of(maps))
    yield (
        "logits",
        lambda of: functional.softmax_cross_entropy(of(logits), labels),
    )
    yield "A.bias", lambda of: model.parameters.__setitem__("A.bias", of(np.ones(3)))
    if "LeNet5Classifier" in lenet5c.__all__:
        rows = images.reshape(len(images), -1)
        kept = lenet5c.LeNet5Classifier("mlp", max_iter=1).fit(rows, labels)
        ones = np.ones(len(rows))
        yield "sample_weight", lambda of: kept.fit(rows, labels, sample_weight=of(ones))
        yield "X", lambda of: kept.fit(of(rows), labels)
        yield "y", lambda of: kept.fit(rows, of(labels))
        yield "X", lambda of: kept.predict(of(rows))
        yield "X", lambda of: kept.predict(of(images))


@pytest.fixture
def floats(small_images):
    return small_images / np.float32(255)


@pytest.mark.parametrize("of", [Tensor, tensor_of_torch])
def test_tensors_that_require_gradients_are_read(of, small, floats, labels):
    small.fit(floats, labels, epochs=1)
    expected = small.forward(floats)
    np.testing.assert_array_equal(small.forward(of(floats)), expected)
    for _, use in uses(small, floats, labels):
        use(of)


def test_masked_entries_are_refused_by_name(small, floats, labels):
    small.fit(floats, labels, epochs=1)
    before = small.state_vector.copy()
    logits = floats[:, 0, :10]  # whose labels, integers, require no gradients
    all_uses = [
        *uses(small, floats, labels),
        ("labels", lambda of: functional.softmax_cross_entropy(logits, of(labels))),
    ]
    for name, use in all_uses:
        with pytest.raises(ValueError, match=f"^{name}: .*masked entries, got 1 of"):
            use(masked)
    np.testing.assert_array_equal(small.state_vector, before)
    whole = np.ma.array(floats, mask=False)
    np.testing.assert_array_equal(small.forward(whole), small.forward(floats))


def test_an_array_is_itself():
    array = np.arange(6.0)
    assert as_array("x", array) is array
    assert as_contiguous(array, np.float64) is array


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
def test_large_arrays_are_copied_in_pieces_as_at_once(order, dtype, monkeypatch):
    monkeypatch.setattr("lenet5c._support.checks.PIECE", 40)
    for shape in ((7, 3, 5), (50, 1, 1), (1, 10, 10)):
        values = np.arange(math.prod(shape)).reshape(shape) / 7
        array = np.array(values, dtype, order=order)
        found = as_contiguous(array, np.float32)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array.astype(np.float32))
