"""What is public of lenet5c.training.schedules."""

from lenet5c.training.schedules import *  # noqa: F403
from lenet5c.training.schedules import __all__ as __all__
from lenet5c.training.schedules import __doc__ as __doc__
