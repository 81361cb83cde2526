"""What is public of lenet5c.data.pictures."""

from lenet5c.data.pictures import *  # noqa: F403
from lenet5c.data.pictures import __all__ as __all__
from lenet5c.data.pictures import __doc__ as __doc__
