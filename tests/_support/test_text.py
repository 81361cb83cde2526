"""Lists and counts in messages."""

import pytest

from lenet5c._support.text import counted, listing


@pytest.mark.parametrize(
    ("count", "separator", "end"),
    [
        (0, ", ", ""),
        (2, ", ", "0, 1"),
        (20, ", ", "18, 19"),
        (21, ", ", "18, 19 and 1 more"),
        (2021, "; ", "18; 19; and 2,001 more"),
    ],
)
def test_the_first_twenty_are_named_and_the_others_counted(count, separator, end):
    said = listing(map(str, range(count)), separator)
    assert said.endswith(end)
    assert len(said.split(separator)) <= 21


def test_counts_are_of_one_or_of_many():
    assert counted(1, "class") == "1 class"
    assert counted(0, "class") == "0 classes"
    assert counted(1234, "image") == "1,234 images"
