"""What is public of lenet5c.training.schedules."""

from lenet5c.training.schedules import (
    SCHEDULES,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    Watch,
    as_schedule,
    constant,
    cosine,
)
from lenet5c.training.schedules import (
    __doc__ as __doc__,
)

__all__ = [
    "SCHEDULES",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "Watch",
    "as_schedule",
    "constant",
    "cosine",
]
