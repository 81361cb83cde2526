"""Whether all numbers lie in a range, against NumPy."""

import numpy as np
import pytest

from lenet5c._support.cores import core


def images(n):
    return np.linspace(-1, 2, n, dtype=np.float32).reshape(1, 1, 1, n)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 63, 64, 65, 130])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.001, 2.001])
def test_one_number_outside_is_seen_wherever_it_is(n, value):
    values = images(n)
    assert core.are_within(values, -1, 2)
    for at in range(n):
        kept = values[..., at].copy()
        values[..., at] = value
        assert not core.are_within(values, -1, 2)
        values[..., at] = kept


def test_the_ends_belong_to_the_range():
    most = float(np.finfo(np.float32).max)
    values = np.array([-most, most] * 40, np.float32).reshape(2, 2, 2, 10)
    assert core.are_within(values, -most, most)
    assert not core.are_within(values, -most, 1)
    assert not core.are_within(values, -1, most)
