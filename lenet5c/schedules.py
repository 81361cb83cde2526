"""Learning rates over the course of a training."""

from lenet5c.training.schedules import (
    SCHEDULES,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    Watch,
)

__all__ = [
    "SCHEDULES",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "Watch",
]
