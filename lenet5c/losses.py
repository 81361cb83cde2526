"""What is public of lenet5c.training.losses."""

from lenet5c.training.losses import *  # noqa: F403
from lenet5c.training.losses import __all__ as __all__
from lenet5c.training.losses import __doc__ as __doc__
