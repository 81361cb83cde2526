"""Dropout: against finite differences, and what it promises of itself."""

import numpy as np
import pytest

import lenet5c
from lenet5c import AvgPool2d, Conv2d, Dense, Dropout, MaxPool2d, Tanh


def loss_of(model, images, codes, gradient, **options):
    return model.loss_of_batch(
        images, np.arange(len(images)), codes, gradient, 1, **options
    )[0]


NETWORKS = {
    "after a convolution": [Conv2d(3, 3), Tanh(), Dropout(0.4), Dense(4)],
    "after pooling": [Conv2d(3, 3), Tanh(), MaxPool2d(2), Dropout(0.3), Dense(4)],
    "before a convolution": [Dropout(0.2), Conv2d(2, 3), Tanh(), Dense(4)],
    "twice": [Conv2d(2, 3), Dropout(0.3), Dropout(0.3), AvgPool2d(2), Dense(4)],
    "between dense layers": [Dense(9), Tanh(), Dropout(0.5), Dense(4)],
    "at the end": [Conv2d(2, 3), Tanh(), Dense(4), Dropout(0.3)],
    "before an activation": [Conv2d(2, 3), Dropout(0.4), Tanh(), Dense(4)],
}


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_gradients_are_those_of_finite_differences(layers):
    model = lenet5c.Model(layers, input_shape=(2, 6, 7), classes=4, seed=1)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(21, 2, 6, 7)).astype(np.float32)
    codes = rng.integers(0, 4, 21).astype(np.int32)
    gradient = np.empty_like(model.parameter_vector)
    unused = np.empty_like(gradient)
    options = {"seed": 3, "epoch": 2}
    loss_of(model, images, codes, gradient, **options)
    step = 5e-4
    for i in rng.permutation(len(gradient))[:60]:
        here = model.parameter_vector[i]
        model.parameter_vector[i] = here + step
        above = loss_of(model, images, codes, unused, **options)
        model.parameter_vector[i] = here - step
        below = loss_of(model, images, codes, unused, **options)
        model.parameter_vector[i] = here
        assert gradient[i] == pytest.approx((above - below) / (2 * step), abs=2e-3)


def masks(rate, seed=0, epoch=1, images=64):
    """What a step lets through: the gradient of weights that see ones."""
    model = lenet5c.Model(
        [Dropout(rate), Dense(2)], input_shape=(1, 20, 20), classes=2, seed=0
    )
    model.parameter_vector[:] = 0
    ones = np.ones((images, 1, 20, 20), np.float32)
    codes = np.zeros(images, np.int32)
    found = []
    for n in range(images):
        gradient = np.empty_like(model.parameter_vector)
        model.loss_of_batch(
            ones, np.array([n]), codes, gradient, 1, seed=seed, epoch=epoch
        )
        found.append(-2 * gradient[:400])  # the softmax of zeros is 1/2
    return np.array(found)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_as_many_values_are_dropped_as_asked_and_the_rest_is_larger(rate):
    found = masks(rate)
    kept = found != 0
    assert kept.mean() == pytest.approx(1 - rate, abs=0.01)
    np.testing.assert_allclose(found[kept], 1 / (1 - rate), rtol=1e-5)
    assert found.mean() == pytest.approx(1, abs=0.05)
    if rate:  # no pixel and no image is treated otherwise than the others
        assert kept.mean(axis=0).std() < 2 * np.sqrt(rate * (1 - rate) / 64)
        assert kept.mean(axis=1).std() < 2 * np.sqrt(rate * (1 - rate) / 400)


def test_masks_change_by_image_epoch_and_seed_alone():
    first = masks(0.5)
    np.testing.assert_array_equal(first, masks(0.5))
    assert not np.array_equal(first, masks(0.5, seed=1))
    assert not np.array_equal(first, masks(0.5, epoch=2))
    assert not np.array_equal(first[0], first[1])


def test_every_step_drops_other_values(images, labels):
    model = lenet5c.lenet5(dropout=0.5)
    optimizer = lenet5c.SGD(1e-9, momentum=0)
    losses = [
        model.train_step(images, labels, optimizer, learning_rate=0) for _ in range(3)
    ]
    assert len(set(losses)) == 3


def test_two_layers_drop_different_values():
    model = lenet5c.Model(
        [Dropout(0.5), Dropout(0.5), Dense(2)], input_shape=(1, 20, 20), classes=2
    )
    model.parameter_vector[:] = 0
    ones = np.ones((1, 1, 20, 20), np.float32)
    gradient = np.empty_like(model.parameter_vector)
    loss_of(model, ones, np.zeros(1, np.int32), gradient)
    assert np.mean(gradient[:400] != 0) == pytest.approx(0.25, abs=0.07)


def test_prediction_drops_nothing(images):
    plain = lenet5c.lenet5(seed=4)
    model = lenet5c.lenet5(seed=4, dropout=0.5)
    np.testing.assert_array_equal(plain.parameter_vector, model.parameter_vector)
    np.testing.assert_array_equal(plain.forward(images), model.forward(images))
    np.testing.assert_array_equal(
        model.activations(images, "DROPOUT"), plain.activations(images, "F6")
    )


def test_a_model_with_dropout_is_saved_and_loaded(images, labels):
    model = lenet5c.lenet5(dropout=0.25)
    model.fit(images, labels, epochs=1)
    model.save("model.lenet5c")
    again = lenet5c.load("model.lenet5c")
    assert again.layers == model.layers
    np.testing.assert_array_equal(again.forward(images), model.forward(images))


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "half", None, True])
def test_rates_that_make_no_sense_are_refused(rate):
    with pytest.raises((ValueError, TypeError), match="rate: expected"):
        Dropout(rate)
