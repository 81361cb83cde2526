"""What is public of lenet5c.data.datasets."""

from lenet5c.data.datasets import *  # noqa: F403
from lenet5c.data.datasets import __all__ as __all__
from lenet5c.data.datasets import __doc__ as __doc__
