"""The networks by name, each one list of layers with the shapes beside it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from lenet5c.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    Tanh,
)
from lenet5c.model import Model

__all__ = ["NETWORKS", "cnn3", "lenet5", "mlp"]

Choice = TypeVar("Choice")

ACTIVATIONS = {"tanh": Tanh, "relu": ReLU}
POOLINGS = {"avg": AvgPool2d, "max": MaxPool2d}


def _choice(argument: str, value: str, choices: Mapping[str, Choice]) -> Choice:
    if value not in choices:
        wanted = " or ".join(map(repr, choices))
        raise ValueError(f"{argument}: expected {wanted}, got {value!r}")
    return choices[value]


def lenet5(
    *,
    classes: int = 10,
    channels: int = 1,
    activation: str = "tanh",
    pooling: str = "avg",
    dropout: float = 0.0,
    seed: int = 0,
) -> Model:
    """LeNet-5 as it is taught today: full C3, plain pooling, softmax output.

    61,706 parameters and 416,520 multiply-adds for 10 classes and one channel (LeCun,
    Bottou, Bengio, Haffner 1998, section II.B, with these three simplifications).

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the 32x32 input.
    activation : {"tanh", "relu"}
    pooling : {"avg", "max"}
    dropout : float
        Share of F6's outputs that a training step leaves out; 0 adds no such layer.
    seed : int
        Of the initial weights.
    """
    act = _choice("activation", activation, ACTIVATIONS)
    pool = _choice("pooling", pooling, POOLINGS)
    return Model(
        [
            Conv2d(6, 5, name="C1"),  # 1@32x32 -> 6@28x28
            act(),
            pool(2, name="S2"),  # -> 6@14x14
            Conv2d(16, 5, name="C3"),  # -> 16@10x10
            act(),
            pool(2, name="S4"),  # -> 16@5x5
            Conv2d(120, 5, name="C5"),  # -> 120@1x1
            act(),
            Flatten(),
            Dense(84, name="F6"),
            act(),
            *([Dropout(dropout, name="DROPOUT")] if dropout else []),
            Dense(classes, name="OUTPUT"),
        ],
        input_shape=(channels, 32, 32),
        classes=classes,
        seed=seed,
    )


def mlp(
    *,
    classes: int = 10,
    channels: int = 1,
    hidden: int = 100,
    activation: str = "relu",
    seed: int = 0,
) -> Model:
    """A perceptron with one hidden layer, 784-100-10: 79,510 parameters.

    Parameters
    ----------
    classes, channels, hidden : int
        Outputs, channels of the 28x28 input, and hidden units.
    activation : {"tanh", "relu"}
    seed : int
        Of the initial weights.
    """
    act = _choice("activation", activation, ACTIVATIONS)
    return Model(
        [
            Flatten(),  # 1@28x28 -> 784
            Dense(hidden, name="HIDDEN"),
            act(),
            Dense(classes, name="OUTPUT"),
        ],
        input_shape=(channels, 28, 28),
        classes=classes,
        seed=seed,
    )


def cnn3(*, classes: int = 10, channels: int = 1, seed: int = 0) -> Model:
    """Three 3x3 convolutions with ReLU and max pooling: 104,202 parameters.

    It wants a smaller step than LeNet-5: ``SGD(learning_rate=0.02)``. At the default
    of 0.1 it may stay at chance.

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the 28x28 input.
    seed : int
        Of the initial weights.
    """
    return Model(
        [
            Conv2d(32, 3, name="CONV1"),  # 1@28x28 -> 32@26x26
            ReLU(),
            MaxPool2d(2),  # -> 32@13x13
            Conv2d(64, 3, name="CONV2"),  # -> 64@11x11
            ReLU(),
            MaxPool2d(2),  # -> 64@5x5
            Conv2d(128, 3, name="CONV3"),  # -> 128@3x3
            ReLU(),
            Flatten(),
            Dense(classes, name="OUTPUT"),
        ],
        input_shape=(channels, 28, 28),
        classes=classes,
        seed=seed,
    )


NETWORKS: dict[str, Callable[..., Model]] = {"lenet5": lenet5, "mlp": mlp, "cnn3": cnn3}
