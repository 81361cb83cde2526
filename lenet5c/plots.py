"""What is public of lenet5c.report.plots."""

from lenet5c.report.plots import *  # noqa: F403
from lenet5c.report.plots import __all__ as __all__
from lenet5c.report.plots import __doc__ as __doc__
