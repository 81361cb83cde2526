"""Recipes: what `fit` takes where it is not told."""

from lenet5c.training.recipes import (
    RECIPES,
    Recipe,
)

__all__ = [
    "RECIPES",
    "Recipe",
]
