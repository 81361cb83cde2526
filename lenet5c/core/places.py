"""How nodes run, and where what they write lies.

A node is a layer's own values as a dictionary and, beside "kind", "input_shape" and
"output_shape":

source, other : int
    The maps that it reads, by number; `other` is -1 but for an addition. Map 0 holds
    the images, and node i writes map i + 1.
activation : str or None
    "tanh", "relu", "sigmoid" or "scaled_tanh", applied to its output.
below, below_other : str or None
    The activations that were applied to what it reads.
needs_dx, needs_other : bool
    Whether the gradient of what it reads is wanted.
adds, adds_other : bool
    Whether that gradient is added to one that a later node has written.
plain : bool, may be missing
    Whether a convolution is the sum as it is written, through no transform domain.
folds : bool
    Whether in prediction it takes in the batch normalisation behind it.
"""

import math
from bisect import insort
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

__all__ = ["as_run", "place", "places", "runs_layerwise"]

Node = dict[str, Any]

MANY_WEIGHTS = 1 << 20  # of all convolutions: a network with more runs layerwise
WIDE_WEIGHTS = 1 << 18  # of all dense layers: more leave the second-level cache


def runs_layerwise(nodes: list[Node], whole_batch: list[str]) -> bool:
    """Whether a kind of `whole_batch`, which need all images or two maps, is there, or
    the convolutions' weights are too many for a buffer in each shard, or most products
    are those of dense layers whose weights are too many to be read for each block."""
    convolutions = dense = products = 0
    for node in nodes:
        outputs = node["output_shape"]
        if node["kind"] == "conv2d":
            kernel = node["kernel_size"][0] * node["kernel_size"][1]
            weights = pairs_of(node) * kernel
            convolutions += weights
            products += weights * outputs[1] * outputs[2]
        elif node["kind"] == "dense":
            dense += math.prod(node["input_shape"]) * outputs[0]
    needs = any(node["kind"] in whole_batch for node in nodes)
    wide = dense > max(WIDE_WEIGHTS, products)
    return needs or convolutions > MANY_WEIGHTS or wide


def pairs_of(node: Node) -> int:
    """How many pairs of a filter and a channel a convolution has weights for."""
    table = node.get("connections")
    every = node["input_shape"][0] * node["output_shape"][0]
    return every if table is None else sum(map(len, table))


def as_run(node: Node, layerwise: bool) -> Node:
    """The node as the kind that computes it: a convolution whose kernel covers its
    whole input is a dense layer, and layerwise a dense layer is a 1x1 convolution; one
    with a table of connections, that does not list all, is a kind of its own."""
    (C, H, W), F = node["input_shape"], node["output_shape"][0]
    if layerwise and node["kind"] == "dense":
        return node | {
            "kind": "conv2d",
            "input_shape": (C * H * W, 1, 1),
            "output_shape": (F, 1, 1),
            "kernel_size": (1, 1),
            "stride": 1,
            "padding": 0,
        }
    if node.get("connections") is not None:
        full = pairs_of(node) == C * F  # the same weights in the same order
        without = node | {"connections": None}
        return as_run(without, layerwise) if full else node | {"kind": "conv_table"}
    if not layerwise and node["kind"] == "conv2d":
        covers = tuple(node["kernel_size"]) == (H, W) and node["padding"] == 0
        return node | {"kind": "dense"} if covers else node
    return node


def places(nodes: list[Node], sizes: list[int]) -> dict[str, Any]:
    """Where the maps and their gradients lie, layerwise, for maps of these sizes.

    Node i runs at the time i and its backward pass at 2 count - i; a map takes a place
    from the time when it is written to when it is read for the last time.
    """
    count = len(nodes)
    maps = range(count + 1)
    last = [0] * count + [count]  # node that reads the map
    for i, node in enumerate(nodes):
        last[node["source"]] = i
        if node["other"] >= 0:
            last[node["other"]] = i
    last[count] = count
    # folded: written when the convolution runs
    early = [m > 1 and nodes[m - 1]["kind"] == "batch_norm2d" for m in maps]
    trained, training = place(
        [(m - 1, 2 * count - (m - 1), sizes[m]) for m in maps]
        + [(2 * count - last[m], 2 * count - (m - 1), sizes[m]) for m in maps]
    )
    reused, prediction = place(
        [(m - 1 - early[m], max(last[m], m - 1), sizes[m]) for m in maps]
    )
    return {
        "kept": trained[: count + 1],
        "gradients": trained[count + 1 :],
        "reused": reused,
        "training": training,
        "prediction": prediction,
    }


def place(wants: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Places in one memory for (first time, last time, size), and how long it is.

    Two that overlap in time do not overlap in place. The shortest of three ways: each
    at the first gap that is large enough, in the order of their first time or the
    largest first; or, where only neighbours overlap, by turns at both ends.
    """
    numbers = range(len(wants))
    ways = [
        _first_fit(wants, sorted(numbers, key=lambda n: wants[n][0])),
        _first_fit(wants, sorted(numbers, key=lambda n: -wants[n][2])),
    ]
    in_order = all(a[0] <= b[0] for a, b in pairwise(wants))
    if in_order and all(a[1] < b[0] for a, b in zip(wants, wants[2:], strict=False)):
        sizes = [size for _, _, size in wants] + [0]
        length = max(map(sum, pairwise(sizes)), default=0)
        ends = [length - sizes[n] if n % 2 else 0 for n in numbers]
        ways.append((ends, length))
    return min(ways, key=lambda way: way[1])


def _first_fit(
    wants: Sequence[tuple[int, int, int]], order: Sequence[int]
) -> tuple[list[int], int]:
    places = [0] * len(wants)
    placed: list[tuple[int, int, int, int]] = []
    for number in order:
        first, last, size = wants[number]
        at = 0
        for start, end, other_first, other_last in placed:
            if other_last < first or last < other_first:
                continue
            if start - at >= size:
                break
            at = max(at, end)
        places[number] = at
        insort(placed, (at, at + size, first, last))
    return places, max((end for _, end, *_ in placed), default=0)
