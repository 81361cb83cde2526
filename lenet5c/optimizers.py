"""What is public of lenet5c.training.optimizers."""

from lenet5c.training.optimizers import *  # noqa: F403
from lenet5c.training.optimizers import __all__ as __all__
from lenet5c.training.optimizers import __doc__ as __doc__
