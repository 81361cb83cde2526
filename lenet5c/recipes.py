"""What is public of lenet5c.training.recipes."""

from lenet5c.training.recipes import (
    RECIPES,
    Recipe,
    as_recipe,
)
from lenet5c.training.recipes import (
    __doc__ as __doc__,
)

__all__ = [
    "RECIPES",
    "Recipe",
    "as_recipe",
]
