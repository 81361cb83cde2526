"""Recipes: settings of `fit` that go together, by name, and those of each network.

To add one, put it into `RECIPES`. An argument of `fit` overrides the recipe's value.
By network, `RECIPES_OF` has what `lenet5c compare` trains with, and `SGD_RATES` the
learning rates of SGD.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lenet5c._support.checks import whole
from lenet5c._support.habits import choose
from lenet5c.data.augment import Augment
from lenet5c.training.losses import Loss
from lenet5c.training.optimizers import SDLM, SGD, AdamW, Optimizer
from lenet5c.training.schedules import Schedule

__all__ = [
    "RECIPES",
    "RECIPES_OF",
    "SGD_RATES",
    "Recipe",
    "epochs_for",
    "sgd_rate",
]


@dataclass(frozen=True)
class Recipe:
    """What `fit` takes for each argument that is None.

    The gradient is clipped, because at this learning rate a network of ReLU, a small
    data set or a rare class of great weight would go astray: LeNet-5 with ReLU ended at
    chance with one seed in four on 5,000 images. Where training goes well without, it
    makes no difference to the accuracy.

    Parameters
    ----------
    epochs : int or None
        None is `epochs_for` the number of training images.
    batch_size : int
    optimizer : function
        Makes a new optimizer for each training.
    schedule, augment, label_smoothing, weight_average, clip_norm, loss
        As in `Model.fit`.

    Examples
    --------
    >>> recipe = lenet5c.recipes.Recipe(epochs=2, optimizer=lenet5c.AdamW)
    >>> len(lenet5c.lenet5().fit(images, labels, recipe=recipe))
    2
    """

    epochs: int | None = None
    batch_size: int = 64
    optimizer: Callable[[], Optimizer] = SGD
    schedule: str | Schedule = "one-cycle"
    augment: Augment | None = None
    label_smoothing: float = 0.0
    weight_average: float = 0.0
    clip_norm: float | None = 1.0
    loss: str | Loss = "cross-entropy"

    def value(self, name: str) -> Any:
        """Return what it has for the argument `name` of `fit`; None for nothing.

        Parameters
        ----------
        name : str

        Returns
        -------
        object

        Examples
        --------
        >>> recipe = lenet5c.recipes.RECIPES["default"]
        >>> recipe.value("batch_size"), recipe.value("class_weight")
        (64, None)
        """
        return self.optimizer() if name == "optimizer" else getattr(self, name, None)


# A network that is not named here takes the careful one.
# At 0.1 networks of ReLU without batch normalisation lose their way: on the digits cnn3
# diverged or stayed at chance with one seed in two.
SGD_RATES = {
    "lenet5": 0.1,
    "mlp": 0.05,
    "cnn3": 0.02,
    "resnet18": 0.1,
    "lenet5-1998": 0.02,
}
"""The learning rate of SGD, by network."""
CAREFUL_RATE = 0.02

RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "best": Recipe(
        epochs=27,
        optimizer=partial(SGD, SGD_RATES["lenet5"], weight_decay=2e-4),
        augment=Augment(shift=1.5, rotate=8, scale=0.1, elastic=15),
    ),
    # LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document
    # recognition", section III.B, but for mu (docs/lenet5_1998.md)
    "1998": Recipe(
        epochs=20,
        batch_size=1,
        optimizer=partial(SDLM, mu=1.0),
        schedule="lenet5-1998",
        clip_norm=None,
        loss="map",
    ),
}
"""The recipes that ``fit(recipe=...)`` takes by name."""

RECIPES_OF: dict[str, Recipe] = {
    "lenet5": Recipe(
        epochs=15,
        optimizer=partial(SGD, SGD_RATES["lenet5"], weight_decay=2e-4),
        augment=Augment(shift=1.5, rotate=8, scale=0.1),
    ),
    "mlp": Recipe(
        epochs=40,
        optimizer=partial(AdamW, 2e-3),
        augment=Augment(shift=1, rotate=5, scale=0.05),
    ),
    "cnn3": Recipe(
        epochs=7,
        optimizer=partial(AdamW, 2e-3),
        augment=Augment(shift=2, rotate=10, scale=0.1),
    ),
    "resnet18": Recipe(
        epochs=7,
        batch_size=128,
        optimizer=partial(SGD, SGD_RATES["resnet18"], weight_decay=5e-4),
        augment=Augment(shift=2, rotate=10, scale=0.1),
    ),
    "lenet5-1998": RECIPES["1998"],
}
"""The recipes of ``lenet5c compare``, by network: tuned on held-out training images of
MNIST; what was tried is in docs/compare.md."""


def sgd_rate(network: object, activation: str | None = None) -> float:
    """Return the rate of SGD for a network's name, and its activation if not its own.

    The careful one for all that has no name, and for LeNet-5 with ReLU.

    Parameters
    ----------
    network : str or function
    activation : str or None

    Returns
    -------
    float

    Examples
    --------
    >>> lenet5c.recipes.sgd_rate("lenet5"), lenet5c.recipes.sgd_rate("lenet5", "relu")
    (0.1, 0.02)
    """
    if network == "lenet5" and activation not in (None, "tanh"):
        return CAREFUL_RATE
    return SGD_RATES.get(str(network), CAREFUL_RATE)


def epochs_for(images: int) -> int:
    """Return 3 epochs for 60,000 images, more for fewer, at most 30.

    Three epochs of 150 images are nine steps, in which ResNet-18 stays at chance; in
    30 it learns.

    Parameters
    ----------
    images : int
        How many there are to train on.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        If it is no whole number of at least 1.

    Examples
    --------
    >>> [lenet5c.recipes.epochs_for(images) for images in (60_000, 10_000, 1_000)]
    [3, 18, 30]
    """
    images = whole("images", images, 1, 2**63)
    return min(30, max(3, round(180_000 / images)))


def as_recipe(recipe: object) -> Recipe:
    """The recipe of that name, the default one for None, or the recipe itself.

    Parameters
    ----------
    recipe : Recipe, "default", "best", "1998" or None

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if recipe is None:
        return RECIPES["default"]
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str):
        return choose("recipe", recipe, RECIPES)
    raise ValueError(
        f"recipe: expected {', '.join(map(repr, RECIPES))} or a Recipe, got {recipe!r}"
    )
