"""Which engine predicts: the core, or the C runtime.

The C runtime is faster for a few images of any network, and for any number of images
of a network whose weights stay in the cache. It has packed weights of its own, so each
call compares the model's with those that it was opened with. To open it again takes
neither a file nor a digest: the header is kept from the last time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c.data.images import InputStage
from lenet5c.layers import walk

if TYPE_CHECKING:
    from lenet5c.embed import Predictor
    from lenet5c.files.model_file import Contents

__all__ = ["FEW_IMAGES", "IMAGES_A_CALL", "Engine", "predictor_of"]

IMAGES_A_CALL = 4096  # images between two looks at Ctrl-C
FEW_IMAGES = 8  # with more, each weight that is loaded serves several in the core
CACHED_PARAMETERS = 1 << 17  # half a megabyte

Vector = NDArray[np.float32]
# What a model file holds of a model with this input stage and these weights.
Describe = Callable[[InputStage, Vector], "Contents"]


class Opened(NamedTuple):
    """The C runtime's network, None where it has none, and what it was made of."""

    predictor: "Predictor | None"
    stage: InputStage
    vector: Vector


class Engine:
    """Predicts for one model.

    Parameters
    ----------
    network : core.Network
    parameters : int
        How many there are.
    describe : function
    """

    def __init__(self, network: Any, parameters: int, describe: Describe) -> None:
        self._network = network
        self._cached = parameters <= CACHED_PARAMETERS
        self._describe = describe
        self._opened: Opened | None = None
        self._header: tuple[InputStage, bytes] | None = None

    def run(
        self,
        stage: InputStage,
        vector: Vector,
        pixels: NDArray[Any],
        y: Vector,
        threads: int,
        *,
        ops: int = -1,
        probabilities: bool = False,
    ) -> None:
        """Write the outputs of the first `ops` ops, -1 for all: logits, or
        probabilities.

        Parameters
        ----------
        stage : InputStage
        vector : (state,) float32
        pixels : (N, C, H, W) uint8 or float32, C-contiguous
        y : (N, outputs) float32, written
        threads : int
        """
        few = len(pixels) <= FEW_IMAGES or self._cached
        predictor = self._predictor(stage, vector) if ops < 0 and few else None
        for start in range(0, len(pixels), IMAGES_A_CALL):
            part = slice(start, start + IMAGES_A_CALL)
            if predictor:
                logits, shares = (None, y[part]) if probabilities else (y[part], None)
                predictor.predict_many(pixels[part], logits, shares, threads)
            else:
                self._network.forward(
                    vector, pixels[part], stage.for_core(), y[part], threads, ops
                )
        if probabilities and not predictor:
            np.subtract(y, y.max(axis=1, keepdims=True), out=y)
            np.exp(y, out=y)
            y /= y.sum(axis=1, keepdims=True)

    def _predictor(self, stage: InputStage, vector: Vector) -> "Predictor | None":
        """The C runtime with these weights; None where no model file holds them."""
        from lenet5c.embed import same

        opened = self._opened
        if opened and opened.stage is stage and same(opened.vector, vector):
            return opened.predictor
        vector = vector.copy()  # other threads may change the model meanwhile
        self._opened = opened = Opened(self._open(stage, vector), stage, vector)
        return opened.predictor

    def _open(self, stage: InputStage, vector: Vector) -> "Predictor | None":
        from lenet5c.files.model_file import header_of

        if not np.isfinite(vector).all():
            return None
        contents = self._describe(stage, vector)
        kept = self._header
        if kept is None or kept[0] is not stage:
            try:
                kept = stage, header_of(contents)
            except ValueError:  # too long, by its labels
                return None
            self._header = kept  # whose labels nobody asks for
        return _named(contents, kept[1], vector)


def predictor_of(contents: "Contents") -> "Predictor":
    """The C runtime's network of this model, which can be pickled."""
    from lenet5c.files.container import file_parts
    from lenet5c.files.model_file import metadata_of

    parts = file_parts(contents.tensors, metadata_of(contents))
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
