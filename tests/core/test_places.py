"""Where maps lie: core/places.py."""

from itertools import combinations

from hypothesis import example, given
from hypothesis import strategies as st

from lenet5c.core.places import place

LIVES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 50)).map(
        lambda life: (life[0], life[0] + life[1], life[2])
    ),
    max_size=9,
)


@given(LIVES)
@example([(0, 5, 50), (0, 0, 1), (6, 7, 1), (1, 2, 50)])  # no chain, but nearly
def test_what_is_needed_at_the_same_time_lies_apart(lives):
    places, length = place(lives)
    assert len(places) == len(lives)
    ends = [at + size for at, (_, _, size) in zip(places, lives, strict=True)]
    assert length == max(ends, default=0)
    for a, b in combinations(range(len(lives)), 2):
        apart_in_time = lives[a][1] < lives[b][0] or lives[b][1] < lives[a][0]
        assert apart_in_time or ends[a] <= places[b] or ends[b] <= places[a]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9))
def test_a_chain_takes_no_more_than_its_two_largest_neighbours(sizes):
    lives = [(n, n + 1, size) for n, size in enumerate(sizes)]
    neighbours = zip(sizes, [*sizes[1:], 0], strict=True)
    assert place(lives)[1] == max(map(sum, neighbours))
