"""Where maps lie: core/places.py."""

from itertools import combinations

from hypothesis import example, given
from hypothesis import strategies as st

import lenet5c
from lenet5c import Conv2d, Dense, Flatten
from lenet5c.core.places import place, runs_layerwise
from lenet5c.graph import for_core, lower

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


def layerwise(layers, shape):
    return runs_layerwise(for_core(lower(layers, shape)), [])


def test_networks_whose_weights_leave_the_cache_run_layerwise():
    assert not layerwise([Flatten(), Dense(300, name="A")], (1, 28, 28))
    assert layerwise([Flatten(), Dense(400, name="A")], (1, 28, 28))
    wide = [Flatten(), Dense(300, name="A"), Dense(300, name="B")]
    assert layerwise(wide, (1, 28, 28))
    assert not layerwise(list(lenet5c.lenet5().layers), (1, 32, 32))


def test_wide_dense_layers_behind_larger_convolutions_run_blockwise():
    convolutions = [Conv2d(16, 5, name="A"), Conv2d(16, 5, name="B")]
    layers = [*convolutions, Flatten(), Dense(100, name="C")]
    assert not layerwise(layers, (1, 28, 28))
    assert layerwise([*convolutions[:1], *layers[2:]], (1, 28, 28))
