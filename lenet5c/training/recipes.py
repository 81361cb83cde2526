"""Recipes: settings of `fit` that go together, by name.

To add one, put it into `RECIPES`. An argument of `fit` overrides the recipe's value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lenet5c._support.habits import choose
from lenet5c.data.augment import Augment
from lenet5c.training.optimizers import SGD, Optimizer
from lenet5c.training.schedules import Schedule

__all__ = ["RECIPES", "Recipe", "as_recipe"]


@dataclass(frozen=True)
class Recipe:
    """What `fit` takes for each argument that is None.

    `optimizer` makes a new optimizer for each training; the rest is as in `Model.fit`.
    The gradient is clipped, because at this learning rate a network of ReLU, a small
    data set or a rare class of great weight would go astray: LeNet-5 with ReLU ended at
    chance with one seed in four on 5,000 images. Where training goes well without, it
    makes no difference to the accuracy.
    """

    epochs: int = 3
    batch_size: int = 64
    optimizer: Callable[[], Optimizer] = SGD
    schedule: str | Schedule = "one-cycle"
    augment: Augment | None = None
    label_smoothing: float = 0.0
    weight_average: float = 0.0
    clip_norm: float | None = 1.0


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "best": Recipe(
        epochs=27,
        optimizer=partial(SGD, 0.1, weight_decay=2e-4),
        augment=Augment(shift=1.5, rotate=8, scale=0.1, elastic=15),
    ),
}


def as_recipe(recipe: object) -> Recipe:
    """The recipe of that name, the default one for None, or the recipe itself."""
    if recipe is None:
        return RECIPES["default"]
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str):
        return choose("recipe", recipe, RECIPES)
    raise ValueError(
        f"recipe: expected {', '.join(map(repr, RECIPES))} or a Recipe, got {recipe!r}"
    )
