"""Losses: what training makes small, of the logits z of an image and its label D.

`fit` takes one of them as an object, or by its name in `LOSSES`. The means are over the
images, each with its weight; `evaluate` and validation report the cross-entropy
whatever was trained with. `RUBBISH` is the j of `MaximumAPosteriori` where none is
given. What a loss computes is in core/kernels/loss.pxd.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lenet5c._support.checks import number
from lenet5c._support.habits import choose, explained
from lenet5c.layers import Layer, RadialBasis

__all__ = [
    "LOSSES",
    "RUBBISH",
    "CrossEntropy",
    "Loss",
    "MaximumAPosteriori",
    "MaximumLikelihood",
]

RUBBISH = 10.0  # the paper says what it is for, and no value


class Loss:
    """Base of all losses.

    Attributes
    ----------
    knows_guessing : bool
        Whether the loss of guessing is the entropy of the labels.

    Examples
    --------
    >>> isinstance(lenet5c.losses.CrossEntropy(), lenet5c.losses.Loss)
    True
    """

    number: ClassVar[int]  # an Objective of core/kernels/loss.pxd
    knows_guessing: ClassVar[bool] = False

    def for_core(self) -> tuple[int, float]:
        """What the core takes: its number there, and j.

        Returns
        -------
        (int, float)

        Examples
        --------
        >>> lenet5c.losses.MaximumAPosteriori(5).for_core()
        (0, 5.0)
        """
        return self.number, math.inf

    def check(self, layers: Sequence[Layer], label_smoothing: float = 0.0) -> None:
        """Refuse a network, or label smoothing, that it does not go with.

        Parameters
        ----------
        layers : sequence of Layer
        label_smoothing : float

        Raises
        ------
        ValueError
            If it does not.

        Examples
        --------
        >>> loss = lenet5c.losses.MaximumLikelihood()
        >>> loss.check([lenet5c.Dense(10), lenet5c.RadialBasis(10)])
        """


@explained
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-z[D] + log(sum over i of exp(z[i])): cross-entropy of the softmax.

    Examples
    --------
    >>> loss = lenet5c.losses.CrossEntropy()
    >>> found, _ = model.loss_and_gradients(images[:9], labels[:9], loss=loss)
    >>> found == model.loss_and_gradients(images[:9], labels[:9])[0]  # the default
    True
    """

    number: ClassVar[int] = 0
    knows_guessing: ClassVar[bool] = True


@explained
@dataclass(frozen=True)
class MaximumLikelihood(Loss):
    """-z[D]: how far the output is from what it should be (LeCun et al. 1998, eq. 8).

    For networks that end with `RadialBasis`, whose outputs have a largest value; others
    would make the logits larger without end. No class competes with another one.

    Examples
    --------
    >>> layers = [lenet5c.Dense(84), lenet5c.Tanh(), lenet5c.RadialBasis(10)]
    >>> network = lenet5c.Model(layers, input_shape=(1, 28, 28))
    >>> loss = lenet5c.losses.MaximumLikelihood()
    >>> found, _ = network.loss_and_gradients(images[:9], labels[:9], loss=loss)
    >>> expected = -network.forward(images[:9])[range(9), labels[:9]].mean()
    >>> bool(abs(found - expected) < 1e-3)
    True
    """

    number: ClassVar[int] = 1

    def check(self, layers: Sequence[Layer], label_smoothing: float = 0.0) -> None:
        if not isinstance(layers[-1], RadialBasis):
            raise ValueError(
                "loss: expected a network whose last layer is a RadialBasis for "
                f"{self!r}, got {layers[-1]!r:.200}"
            )
        if label_smoothing > 0:
            raise ValueError(
                f"label_smoothing: expected 0 for {self!r}, which sees one output "
                f"alone, got {label_smoothing}"
            )


@explained
@dataclass(frozen=True)
class MaximumAPosteriori(Loss):
    """-z[D] + log(exp(-j) + sum over i of exp(z[i])) (LeCun et al. 1998, eq. 9).

    The cross-entropy with one class more, of rubbish, whose logit is always -j. It
    keeps the penalties of classes that are already large from being pushed further up:
    where all logits are far below -j, only that of the label is pulled, as in
    `MaximumLikelihood`, and where they are far above, it is `CrossEntropy`.

    Parameters
    ----------
    j : float
        At least 0. math.inf gives the cross-entropy, to the bit.

    Examples
    --------
    >>> loss = lenet5c.losses.MaximumAPosteriori(j=2)
    >>> found, _ = model.loss_and_gradients(images[:9], labels[:9], loss=loss)
    >>> logits = model.forward(images[:9]).astype(float)
    >>> terms = np.exp(-2) + np.exp(logits).sum(axis=1)
    >>> expected = (np.log(terms) - logits[range(9), labels[:9]]).mean()
    >>> bool(abs(found - expected) < 1e-5)
    True
    """

    number: ClassVar[int] = 0
    j: float = RUBBISH

    def __post_init__(self) -> None:
        j = math.inf if self.j == math.inf else number("j", self.j, 0, math.inf)
        object.__setattr__(self, "j", j)

    def for_core(self) -> tuple[int, float]:
        return self.number, self.j


LOSSES: dict[str, type[Loss]] = {
    "cross-entropy": CrossEntropy,
    "mle": MaximumLikelihood,
    "map": MaximumAPosteriori,
}


def as_loss(loss: Any) -> Loss:
    """The loss itself, or a new one of that name.

    Parameters
    ----------
    loss : Loss, "cross-entropy", "mle" or "map"

    Returns
    -------
    Loss

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if isinstance(loss, str):
        make: type[Loss] = choose("loss", loss, LOSSES)
        return make()
    if isinstance(loss, Loss) and type(loss) is not Loss:
        return loss
    known = isinstance(loss, type) and loss in LOSSES.values()
    hint = f"; write {loss.__name__}()" if known else ""
    raise TypeError(
        f"loss: expected a name or one of lenet5c.losses, got {loss!r}{hint}"
    )
