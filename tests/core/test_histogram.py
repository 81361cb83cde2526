"""How often each byte occurs, against NumPy."""

import numpy as np
import pytest

from lenet5c._support.cores import core


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 1001])
def test_counts_are_added_whatever_the_length(n):
    rng = np.random.default_rng(n)
    values = rng.integers(0, 256, n).astype(np.uint8)
    values[n // 2 :] = 0  # a run of one value
    counts = np.arange(256, dtype=np.intp)
    core.add_counts(values, counts)
    expected = np.arange(256) + np.bincount(values, minlength=256)
    np.testing.assert_array_equal(counts, expected)


def test_a_table_of_another_length_is_refused():
    with pytest.raises(ValueError, match="different lengths"):
        core.add_counts(np.zeros(3, np.uint8), np.zeros(255, np.intp))
