from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.data.images import InputStage

__all__ = ["Predictor", "addresses"]

addresses: dict[str, int]
"""The addresses of the functions in embed.pxd, by name."""

class Predictor:
    def __init__(
        self,
        content: bytes,
        labels: Sequence[Any],
        stage: InputStage | None = None,
        vector: NDArray[np.float32] | None = None,
    ) -> None: ...
    def __call__(self, image: ArrayLike) -> Any: ...
    def predict_proba(self, image: ArrayLike) -> NDArray[np.float32]: ...
    def predict_many(
        self,
        images: NDArray[Any],
        logits: NDArray[np.float32] | None,
        probabilities: NDArray[np.float32] | None,
        threads: int,
        part: int = 16,
        scores: NDArray[np.int32] | None = None,
    ) -> bool: ...
    @property
    def content(self) -> bytes: ...
    @property
    def stage(self) -> InputStage | None: ...
    @property
    def address(self) -> int: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def labels(self) -> list[Any]: ...
    @property
    def workspace_size(self) -> int: ...

def cost_of_image(
    header: bytes, parameters: int
) -> tuple[float, float, int] | None: ...
