"""What is public of lenet5c.training.optimizers."""

from lenet5c.training.optimizers import (
    OPTIMIZERS,
    SGD,
    AdamW,
    Optimizer,
    as_optimizer,
    checked_optimizer,
)
from lenet5c.training.optimizers import (
    __doc__ as __doc__,
)

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "AdamW",
    "Optimizer",
    "as_optimizer",
    "checked_optimizer",
]
