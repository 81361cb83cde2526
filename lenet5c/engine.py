"""Which engine predicts: the core, or the C runtime.

The core computes the images of a block in the time of one, and the C runtime one image
after the other. `images_for_core` chooses by what both cost, estimated from their
plans, and by the number of images: whole blocks go to the core where that is cheaper,
and what is left over to the C runtime, unless that is dearer than one more block. The
choice never depends on what the images hold, on threads or on earlier calls.

The estimates count register operations, which both plans know; the constants below are
what they miss. They were measured on one machine (AMD EPYC with AVX-512; 1 MB of
second-level cache), with the cores avx512, avx2 and baseline and the networks of
benchmarks/shapes.py.

Both engines pack the weights once, and again when they have changed
(`Engine._current`). What that takes is not part of the choice: the same call would then
give other bits the second time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.threads import Gate, resolve_threads, sharing
from lenet5c.data.images import InputStage
from lenet5c.layers import walk

if TYPE_CHECKING:
    from lenet5c.embed import Predictor
    from lenet5c.files.model_file import Contents

__all__ = ["IMAGES_A_CALL", "Costs", "Engine", "images_for_core", "predictor_of"]

IMAGES_A_CALL = 4096  # images between two looks at Ctrl-C; whole blocks
# Cycles beside those that the plans count: of a call, and of the second one where both
# engines are called.
CORE_CALL = 6_000.0
RUNTIME_CALL = 3_000.0
SECOND_CALL = 9_000.0
# How much cheaper a block has to be that is not full: where an estimate is wrong, time
# goes up by a step if the core takes over too early, and by none if it does too late.
NOT_FULL = 1.15
CACHE = 1 << 20  # bytes of weights that need not be loaded again for each image
# Bytes a cycle of the others: in the C runtime, there for several images that share
# them, and in the core.
RUNTIME_LOADS = 24.0
SHARED_LOADS = 16.0
CORE_LOADS = 4.5
ONE_THREAD = 300_000.0  # cycles for which no threads are started
# Cycles of images that a thread of the C runtime takes at a time: so few that threads
# end together, and where there is one thread, that Ctrl-C does not wait for long.
PART = 100_000.0
ALONE = 20_000_000.0

Vector = NDArray[np.float32]
# What a model file holds of a model with this input stage and these weights.
Describe = Callable[[InputStage, Vector], "Contents"]


class Costs(NamedTuple):
    """Cycles, estimated: of one image in the C runtime; of the images of a block in the
    core, however many of them there are; and of a call to the core beside these."""

    image: float
    block: float
    images_of_block: int
    call: float = CORE_CALL


def images_for_core(count: int, costs: Costs, alike: bool = False) -> tuple[int, float]:
    """How many of `count` images the core takes, from the first on, and the cycles of
    all; the C runtime takes the others. `alike`: all or none."""
    image, block, size, call = costs
    blocks, rest = divmod(count, size)
    split, cycles = 0, RUNTIME_CALL + count * image
    if blocks and rest and not alike:
        by_both = call + blocks * block + SECOND_CALL + rest * image
        if by_both < cycles:
            split, cycles = count - rest, by_both
    by_core = call + (blocks + (NOT_FULL if rest else 0)) * block
    return (count, by_core) if by_core < cycles else (split, cycles)


def loading(weights: float, rate: float) -> float:
    """Cycles of loading so many bytes of weights, if they do not stay in the cache."""
    return weights / rate if weights > CACHE else 0.0


class Header(NamedTuple):
    """What the C runtime opens beside the weights; `content` None: it opens none."""

    stage: InputStage
    content: bytes | None
    costs: Costs


class Kept:
    """Weights, and what the engines have made of them."""

    def __init__(self, stage: InputStage, vector: Vector, mark: int | None) -> None:
        self.stage = stage
        self.vector = vector
        self.mark = mark  # of the state, when it was the same
        self.packed: Any = None
        self.predictor: Predictor | None = None
        self.tried = False  # to open one


class Engine:
    """Predicts for one model.

    Parameters
    ----------
    network : core.Network
    state : core.StateVector
    describe : function
    gate : Gate
        Held while the state is copied.

    Attributes
    ----------
    forced : "core", "runtime" or None
        The engine of all images, for tests and measurements; None chooses.
    alike : bool
        Whether all images of a call go to one engine, so that their order changes no
        bit; time goes up by a step then where a block begins.
    """

    def __init__(
        self, network: Any, state: Any, describe: Describe, gate: Gate
    ) -> None:
        self._network = network
        self._state = state
        self._describe = describe
        self._gate = gate
        self._kept: Kept | None = None
        self._header: Header | None = None
        self.forced: Literal["core", "runtime"] | None = None
        self.alike = False

    def run(
        self,
        stage: InputStage,
        pixels: NDArray[Any],
        y: Vector,
        threads: int | None,
        *,
        ops: int = -1,
        probabilities: bool = False,
    ) -> None:
        """Write the outputs of the first `ops` ops, -1 for all: logits, or
        probabilities.

        Parameters
        ----------
        stage : InputStage
        pixels : (N, C, H, W) uint8 or float32, C-contiguous
        y : (N, outputs) float32, written
        threads : int or None
            None is `resolve_threads`, or 1 for what one thread has done by then.
        ops : int
            The core alone runs some of them.

        Raises
        ------
        ValueError
            If there are pixels that the stage refuses.
        """
        kept = self._current(stage)
        only = self.forced
        if self.alike and not only:
            costs = self._header_of(kept).costs
            by_core, _ = images_for_core(len(pixels), costs, alike=True)
            only = "core" if by_core else "runtime"
        for start in range(0, len(pixels), IMAGES_A_CALL):
            part, of_part = pixels, y
            if len(pixels) > IMAGES_A_CALL:
                part = pixels[start : start + IMAGES_A_CALL]
                of_part = y[start : start + IMAGES_A_CALL]
            if ops >= 0:
                count = resolve_threads(threads)
                done = self._run_core(kept, part, of_part, count, ops, False)
            else:
                done = self._run_part(kept, part, of_part, threads, probabilities, only)
            if not done:
                stage.check(pixels)
                raise ValueError("images: expected pixels that the network takes")

    def _run_part(
        self,
        kept: Kept,
        pixels: NDArray[Any],
        y: Vector,
        threads: int | None,
        probabilities: bool,
        only: Literal["core", "runtime"] | None,
    ) -> bool:
        """Whether the network takes all pixels."""
        costs = self._header_of(kept).costs
        count = len(pixels)
        split, cycles = images_for_core(count, costs)
        if only:
            split = count if only == "core" else 0
        if threads is None and cycles > ONE_THREAD:
            with sharing():
                share = resolve_threads()
                return self._run_part(kept, pixels, y, share, probabilities, only)
        threads = threads or 1
        predictor = self._predictor(kept) if split < count else None
        if predictor is None:
            split = count
        if split:
            of_core = (pixels, y) if split == count else (pixels[:split], y[:split])
            if not self._run_core(kept, *of_core, threads, -1, probabilities):
                return False
        if not predictor:
            return True
        if split:
            pixels, y = pixels[split:], y[split:]
        logits, shares = (None, y) if probabilities else (y, None)
        part = int((ALONE if threads == 1 else PART) / costs.image)
        size = max(1, part if threads == 1 else min(16, part))
        return predictor.predict_many(pixels, logits, shares, threads, size)

    def _run_core(
        self,
        kept: Kept,
        pixels: NDArray[Any],
        y: Vector,
        threads: int,
        ops: int,
        probabilities: bool,
    ) -> bool:
        """Whether the network takes all pixels."""
        if not kept.stage.takes(pixels):
            return False
        packed = None
        if ops < 0:
            if kept.packed is None:
                kept.packed = self._network.pack(kept.vector, threads)
            packed = kept.packed
        stage = kept.stage.for_core()
        self._network.forward(kept.vector, pixels, stage, y, threads, ops, packed)
        if probabilities:
            np.subtract(y, y.max(axis=1, keepdims=True), out=y)
            np.exp(y, out=y)
            y /= y.sum(axis=1, keepdims=True)
        return True

    def _current(self, stage: InputStage) -> Kept:
        """The model's weights as they are now.

        The state counts the arrays that look at it. Where nobody holds one, and none
        was made since the weights were last compared, they are the same; otherwise
        they are compared. The mark is taken first: of what another thread changes
        meanwhile a later mark differs.
        """
        mark = self._state.mark()
        kept = self._kept
        if kept is not None and kept.stage is stage:
            if mark is not None and mark == kept.mark:
                return kept
            if self._state.equals(kept.vector):
                kept.mark = mark
                return kept
        vector = np.empty(len(self._state), np.float32)
        with self._gate:
            self._state.copy_to(vector)
        self._kept = kept = Kept(stage, vector, mark)
        return kept

    def _header_of(self, kept: Kept) -> Header:
        header = self._header
        if header is None or header.stage is not kept.stage:
            self._header = header = self._make_header(kept)
        return header

    def _make_header(self, kept: Kept) -> Header:
        """What a model file begins with, and what a prediction costs."""
        from lenet5c.embed import cost_of_image
        from lenet5c.files.model_file import header_of

        cycles, weights = self._network.cost
        block, call = cycles, CORE_CALL
        if self._network.is_layerwise:
            call += loading(weights, CORE_LOADS)  # once for many blocks
        else:
            block += loading(weights, RUNTIME_LOADS)
        size = self._network.images_together
        try:
            content = header_of(self._describe(kept.stage, kept.vector))
        except ValueError:  # too long, by its labels, which nobody asks for
            content = None
        found = cost_of_image(content, len(kept.vector)) if content else None
        if found is None:
            return Header(kept.stage, None, Costs(float("inf"), block, size, call))
        cycles, weights, together = found
        rate = RUNTIME_LOADS if together == 1 else SHARED_LOADS * together
        image = max(cycles, loading(weights, rate))  # they are loaded meanwhile
        return Header(kept.stage, content, Costs(image, block, size, call))

    def _predictor(self, kept: Kept) -> "Predictor | None":
        """The C runtime with these weights; None where no model file holds them."""
        if not kept.tried:
            kept.predictor = self._open(kept)
            kept.tried = True
        return kept.predictor

    def _open(self, kept: Kept) -> "Predictor | None":
        header = self._header_of(kept)
        if header.content is None or not np.isfinite(kept.vector).all():
            return None
        contents = self._describe(kept.stage, kept.vector)
        return _named(contents, header.content, kept.vector)


def predictor_of(contents: "Contents") -> "Predictor":
    """The C runtime's network of this model, which can be pickled."""
    from lenet5c.files.container import file_parts
    from lenet5c.files.model_file import metadata_of

    count = np.arange(len(contents.classes))  # the labels stay here
    metadata = metadata_of(contents._replace(history={}, classes=count))
    parts = file_parts(contents.tensors, metadata)
    return _named(contents, b"".join(parts), None)


def _named(contents: "Contents", content: bytes, vector: Vector | None) -> "Predictor":
    """A predictor, or an error that names the kinds of layers."""
    from lenet5c.embed import Predictor

    labels, stage = contents.classes.tolist(), contents.stage
    try:
        return Predictor(content, labels, stage, vector)
    except ValueError as error:
        walked = walk(contents.layers, contents.input_shape)
        kinds = ", ".join(sorted({layer.kind for layer, *_ in walked}))
        raise ValueError(
            f"expected a model that the C runtime opens, got one of the kinds "
            f"{kinds}: {error}"
        ) from error
