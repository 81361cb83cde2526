"""Optimizers: what a step does to the flat parameter vector.

To add one: a class with `state_size`, how many vectors of the parameters' length it
keeps, `squares`, which of them are never negative, and `rule`, its name in
`OPTIMIZERS`, and its kernel in core/kernels/update.pxd.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import number, whole
from lenet5c._support.cores import core
from lenet5c._support.habits import choose, explained

if TYPE_CHECKING:
    from lenet5c.data.augment import Augment
    from lenet5c.interfaces import Trainable

__all__ = [
    "OPTIMIZERS",
    "SDLM",
    "SGD",
    "AdamW",
    "Optimizer",
]

Vector = NDArray[np.float32]


def _memory_of(vector: Vector) -> tuple[object, int, int]:
    """What owns a vector's numbers, which is no view of them, and where they lie."""
    owner: Any = vector
    while True:
        if isinstance(owner, memoryview):
            owner = owner.obj
        elif isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        else:
            return owner, vector.__array_interface__["data"][0], vector.size


class Optimizer:
    """Base: holds the learning rate and the state, which `step` updates in place.

    Parameters
    ----------
    learning_rate : float
        At least 0.

    Attributes
    ----------
    steps : int
        How many there were.
    state : list of (parameters,) float32
        What it keeps from step to step; `state_size` says how many.

    Examples
    --------
    >>> optimizer = lenet5c.AdamW()
    >>> isinstance(optimizer, lenet5c.optimizers.Optimizer), optimizer.state_size
    (True, 2)
    """

    state_size = 0
    squares: tuple[int, ...] = ()

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = number("learning_rate", learning_rate, 0, math.inf)
        self.steps = 0
        self.state: list[Vector] = []
        self._owner: tuple[object, int, int] | None = None

    def prepare(self, parameters: Vector) -> None:
        """Start afresh, unless the steps so far were on these very parameters, of which
        each call may be given another view.

        Parameters
        ----------
        parameters : (parameters,) float32

        Examples
        --------
        >>> optimizer = lenet5c.SGD()
        >>> optimizer.prepare(model.parameter_vector)
        >>> [velocity.shape for velocity in optimizer.state]
        [(61706,)]
        """
        owner, address, size = _memory_of(parameters)
        known = self._owner
        if known is None or known[0] is not owner or known[1:] != (address, size):
            self.state = [np.zeros_like(parameters) for _ in range(self.state_size)]
            self.steps = 0
            self._owner = owner, address, size  # last: Ctrl-C may come in between

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy keep: not the parameters of the steps so far."""
        return vars(self) | {"_owner": None}

    def check(self, model: "Trainable") -> None:
        """Refuse a network that it cannot train; before anything changes.

        Parameters
        ----------
        model : Model

        Raises
        ------
        ValueError
            If it cannot; this one can train all.

        Examples
        --------
        >>> lenet5c.SGD().check(model)
        """

    def before_epoch(
        self,
        model: "Trainable",
        pixels: NDArray[Any],
        order: NDArray[np.intp],
        *,
        weights: Vector | None = None,
        loss: Any = None,
        augment: "Augment | None" = None,
        seed: int = 0,
        epoch: int = 0,
        threads: int = 1,
    ) -> None:
        """What `fit` calls before each pass over the images; this one does nothing.

        Parameters
        ----------
        model : Model
        pixels : (N, C, H, W) uint8 or float32, C-contiguous
        order : intp array
            The images to train on, as they will come.
        weights : (N,) float32 or None
            What each image's loss is multiplied by.
        loss : Loss or None
            What is minimised; None for cross-entropy.
        augment : Augment or None
            How images are changed in this pass.
        seed, epoch : int
            Of the random numbers of augmentation.
        threads : int

        Examples
        --------
        >>> lenet5c.SGD().before_epoch(model, images[:, np.newaxis], np.arange(500))
        """

    def step(
        self, parameters: Vector, gradient: Vector, learning_rate: float, threads: int
    ) -> None:
        """One step, in place, at `learning_rate` (a schedule has its say in it).

        Parameters
        ----------
        parameters : (parameters,) float32, changed
        gradient : (parameters,) float32
        learning_rate : float
        threads : int

        Examples
        --------
        >>> weights, gradient = np.float32([1, 2]), np.float32([10, -10])
        >>> lenet5c.SGD(momentum=0).step(weights, gradient, 0.125, threads=1)
        >>> weights.tolist()
        [-0.25, 3.25]
        """
        self.prepare(parameters)
        self.steps += 1
        core.update(
            self.rule(),
            parameters,
            gradient,
            self.state,
            learning_rate,
            self.steps,
            threads,
        )

    def rule(self) -> tuple[str | float, ...]:
        """Name and settings of the step, as the core's `update` takes them.

        Raises
        ------
        NotImplementedError
            If it has none: then it has a `step` of its own.

        Examples
        --------
        >>> lenet5c.SGD(momentum=0.5).rule()  # and Nesterov's, and no weight decay
        ('sgd', 0.5, True, 0.0)
        """
        raise NotImplementedError(f"{type(self).__name__} has no kernel in the core")

    def __repr__(self) -> str:
        options = {
            k: v for k, v in vars(self).items() if k not in ("state", "steps", "_owner")
        }
        inside = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"{type(self).__name__}({inside})"


@explained
class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    v = momentum v + g + weight_decay w;  w -= learning_rate v, or with Nesterov's
    momentum w -= learning_rate (g + weight_decay w + momentum v) (Sutskever et al.
    2013, as PyTorch writes it).

    Parameters
    ----------
    learning_rate : float
        At least 0.
    momentum : float
        0 <= momentum < 1.
    nesterov : bool
        Ignored without momentum.
    weight_decay : float
        L2 penalty, added to the gradient.

    Examples
    --------
    >>> lenet5c.SGD(0.05, weight_decay=1e-4)
    SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.0001)
    >>> fresh, optimizer = lenet5c.lenet5(), lenet5c.SGD(0.05)
    >>> history = fresh.fit(images, labels, optimizer=optimizer, epochs=1)
    """

    state_size = 1

    def __init__(
        self,
        learning_rate: float = 0.1,
        *,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate)
        self.momentum = number("momentum", momentum, 0, 1)
        self.nesterov = bool(nesterov)
        self.weight_decay = number("weight_decay", weight_decay, 0, math.inf)

    def rule(self) -> tuple[str | float, ...]:
        return "sgd", self.momentum, self.nesterov, self.weight_decay


@explained
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    Parameters
    ----------
    learning_rate : float
        At least 0.
    beta1, beta2 : float
        Decay of the running means of the gradient and its square, 0 <= beta < 1.
    eps : float
        Added to the root of the second moment.
    weight_decay : float
        Times the learning rate, the share of each weight that a step takes away.

    Examples
    --------
    >>> fresh, optimizer = lenet5c.lenet5(), lenet5c.AdamW(2e-3)
    >>> history = fresh.fit(images, labels, optimizer=optimizer, epochs=4)
    >>> history.accuracy[-1] > 0.8
    True
    """

    state_size = 2
    squares = (1,)

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate)
        self.beta1 = number("beta1", beta1, 0, 1)
        self.beta2 = number("beta2", beta2, 0, 1)
        self.eps = number("eps", eps, 0, math.inf)
        self.weight_decay = number("weight_decay", weight_decay, 0, math.inf)

    def rule(self) -> tuple[str | float, ...]:
        return "adamw", self.beta1, self.beta2, self.eps, self.weight_decay


@explained
class SDLM(Optimizer):
    """Stochastic diagonal Levenberg-Marquardt (LeCun et al. 1998, appendix C).

    w -= learning_rate / (mu + h) g, where h is the second derivative of the loss by
    this parameter: the Gauss-Newton diagonal, from some of the training images, anew
    before each pass. They are those that the pass begins with, augmented as in it, and
    with their weights in the loss.

    It has no momentum, and is made for small batches. Clipping is of the gradient,
    before the rates. Networks with batch normalisation are refused, and training steps
    of native programs, which have no passes.

    Parameters
    ----------
    learning_rate : float
        At least 0. The rate of a parameter whose h is 0 is this over mu.
    mu : float
        Keeps the rates of parameters small on which the loss hardly depends. 0.02 is
        the paper's; ``recipe="1998"`` has 1, as `lenet5_1998` does not learn with that
        (docs/lenet5_1998.md).
    samples : int
        How many images h is estimated from; all, if there are not so many.

    Examples
    --------
    >>> fresh = lenet5c.lenet5()
    >>> history = fresh.fit(images, labels, optimizer=lenet5c.SDLM(0.02), epochs=4)
    >>> history.accuracy[-1] > 0.8
    True

    In a training loop of one's own, `before_epoch` sets the rates:

    >>> optimizer, pixels = lenet5c.SDLM(5e-4), images[:, np.newaxis]
    >>> optimizer.before_epoch(fresh, pixels, np.arange(len(pixels)))
    >>> loss = fresh.train_step(images[:1], labels[:1], optimizer)
    """

    state_size = 1
    squares = (0,)

    def __init__(
        self, learning_rate: float = 5e-4, *, mu: float = 0.02, samples: int = 500
    ) -> None:
        super().__init__(learning_rate)
        self.mu = number("mu", mu, 1e-30, 1e30)  # so that 1 / mu is one of float32
        self.samples = whole("samples", samples, 1, 2**63)

    def check(self, model: "Trainable") -> None:
        from lenet5c.training.curvature import check_kinds

        check_kinds(model.layers)

    def before_epoch(
        self,
        model: "Trainable",
        pixels: NDArray[Any],
        order: NDArray[np.intp],
        *,
        weights: Vector | None = None,
        loss: Any = None,
        augment: "Augment | None" = None,
        seed: int = 0,
        epoch: int = 0,
        threads: int = 1,
    ) -> None:
        from lenet5c.training.curvature import gauss_newton_diagonal

        self.prepare(model.parameter_vector)
        with np.errstate(over="ignore", invalid="ignore"):
            h = gauss_newton_diagonal(
                *(model, pixels, order[: self.samples]),
                weights=weights,
                loss=loss,
                augment=augment,
                seed=seed,
                epoch=epoch,
                threads=threads,
            )
        if not np.isfinite(h).all():
            raise ValueError(
                "optimizer: expected second derivatives that float32 can hold, got "
                f"infinite ones for {self!r}: images or weights are too large"
            )
        np.copyto(self.state[0], 1 / (np.float32(self.mu) + h))

    def rule(self) -> tuple[str | float, ...]:
        rates = self.state[0] if self.state else np.zeros(1)
        if not rates[:1].all():  # each is above 0
            raise RuntimeError(
                "optimizer: expected an SDLM whose rates `before_epoch` has set for "
                "this model, as it does in `fit`, got one without"
            )
        return ("sdlm",)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adamw": AdamW, "sdlm": SDLM}
"""The optimizers that ``fit(optimizer=...)`` takes by name."""


def as_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer itself, a new one of that name, or the default for None.

    Parameters
    ----------
    optimizer : Optimizer, "sgd", "adamw", "sdlm" or None

    Returns
    -------
    Optimizer

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    if optimizer is None:
        return SGD()
    if isinstance(optimizer, str):
        make: Callable[[], Optimizer] = choose("optimizer", optimizer, OPTIMIZERS)
        return make()
    return checked_optimizer(optimizer)


def checked_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer itself, or a TypeError: what keeps a state from step to step.

    Parameters
    ----------
    optimizer : Optimizer

    Returns
    -------
    Optimizer
    """
    if not isinstance(optimizer, Optimizer):
        known = isinstance(optimizer, type) and optimizer in OPTIMIZERS.values()
        name = optimizer.__name__ if known else "SGD"
        raise TypeError(
            f"optimizer: expected an optimizer such as lenet5c.{name}(), "
            f"got {optimizer!r}"
        )
    return optimizer
