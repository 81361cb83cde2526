"""What is public of lenet5c.training.recipes."""

from lenet5c.training.recipes import *  # noqa: F403
from lenet5c.training.recipes import __all__ as __all__
from lenet5c.training.recipes import __doc__ as __doc__
