"""The order in which gradients are added up: a tree that parts of a batch fit into."""

import numpy as np
import pytest

import lenet5c

MICROBATCH = 256
PART = 32  # images whose gradients a dense layer adds up in their order


def gradient_of(model, images, labels, part, threads):
    """The part's share of the whole batch's gradient."""
    found = np.empty_like(model.parameter_vector)
    model._network.loss_and_gradient(
        model.state_vector,
        images,
        model.stage.for_core(),
        np.arange(part.start, part.stop),
        labels,
        found,
        threads,
        mean_over=len(images),
    )
    return found


@pytest.mark.parametrize(
    ("make", "part"), [(lenet5c.lenet5, MICROBATCH), (lenet5c.mlp, PART)]
)
@pytest.mark.parametrize("count", [96, 160, 256, 512, 700, 1024, 1300, 1792])
def test_the_gradient_of_a_batch_is_that_of_its_parts_in_a_tree(make, part, count):
    model = make()
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, *model.input_shape), np.uint8)
    labels = rng.integers(0, 10, count).astype(np.int32)

    def tree(first: int, end: int):
        if end - first <= part:
            return gradient_of(model, images, labels, range(first, end), 2)
        middle = first + part
        while 2 * (middle - first) < end - first:
            middle += middle - first
        return tree(first, middle) + tree(middle, end)

    for threads in (1, 3):
        whole = gradient_of(model, images, labels, range(count), threads)
        np.testing.assert_array_equal(whole, tree(0, count))
    again = gradient_of(model, images, labels, range(count), 7)
    np.testing.assert_array_equal(whole, again)


def test_adding_to_a_gradient_of_several_microbatches():
    model = lenet5c.lenet5()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (800, *model.input_shape), np.uint8)
    labels = rng.integers(0, 10, 800).astype(np.int32)
    first = gradient_of(model, images, labels, range(800), 2)
    found = first.copy()
    model._network.loss_and_gradient(
        model.state_vector,
        images,
        model.stage.for_core(),
        np.arange(800),
        labels,
        found,
        2,
        mean_over=800,
        add=True,
    )
    np.testing.assert_allclose(found, 2 * first, rtol=0, atol=2e-6 * abs(first).max())
