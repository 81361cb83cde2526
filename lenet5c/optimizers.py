"""Optimizers: what a step does to the flat parameter vector."""

from lenet5c.training.optimizers import (
    SGD,
    AdamW,
    Optimizer,
)

__all__ = [
    "SGD",
    "AdamW",
    "Optimizer",
]
