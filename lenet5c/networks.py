"""The networks by name, each one list of layers with the shapes beside it."""

from collections.abc import Callable

from lenet5c._support.checks import pair, truth
from lenet5c._support.habits import choose, explained
from lenet5c.data.images import InputStage
from lenet5c.layers import (
    Activation,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
)
from lenet5c.model import Model

__all__ = [
    "DIGIT_CODES",
    "NETWORKS",
    "TABLE_I",
    "cnn3",
    "lenet5",
    "lenet5_1998",
    "mlp",
    "resnet18",
]

ACTIVATIONS: dict[str, type[Activation]] = {
    "tanh": Tanh,
    "scaled-tanh": ScaledTanh,
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "leaky-relu": LeakyReLU,
}
# Three neighbours, four neighbours, two and two, all.
TABLE_I = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)),
    *((0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""Which maps of S2 each of the 16 filters of C3 reads: 60 pairs (LeCun, Bottou, Bengio,
Haffner 1998, Table I), for `Conv2d(16, 5, connections=TABLE_I)`."""

BITMAPS = (  # of the digits: 12 rows of 7 pixels, the leftmost is the highest bit
    "3E 00 1C 36 63 63 63 63 36 1C 00 00",
    "0C 1C 3C 0C 0C 0C 0C 0C 0C 3F 00 00",
    "3E 00 3E 63 43 06 1C 30 60 7F 00 00",
    "7F 03 06 0C 1E 03 03 03 63 3E 00 00",
    "3E 00 00 33 33 73 63 63 67 3F 03 03",
    "3E 00 7F 60 60 3C 1E 03 63 3E 00 00",
    "1E 30 60 60 7E 73 63 63 73 3E 00 00",
    "7F 03 03 06 0C 0C 18 18 18 18 00 00",
    "3E 63 63 63 3E 63 63 63 63 3E 00 00",
    "3E 67 63 63 67 3F 03 03 06 3C 00 00",
)
DIGIT_CODES = tuple(
    tuple(
        1 if row >> bit & 1 else -1
        for row in bytes.fromhex(bitmap)
        for bit in range(6, -1, -1)
    )
    for bitmap in BITMAPS
)
"""Codes of the ten digits, 84 numbers each: bitmaps of printed digits, where black is 1
and white -1 (LeCun, Bottou, Bengio, Haffner 1998, Fig. 3)."""

POOLINGS = {"avg": AvgPool2d, "max": MaxPool2d}


@explained
def lenet5(
    *,
    classes: int = 10,
    channels: int = 1,
    activation: str = "tanh",
    pooling: str = "avg",
    dropout: float = 0.0,
    batch_norm: bool = False,
    size: int | tuple[int, int] = 32,
    seed: int = 0,
) -> Model:
    """LeNet-5 as it is taught today: full C3, plain pooling, softmax output.

    61,706 parameters and 416,520 multiply-adds for 10 classes and one channel (LeCun,
    Bottou, Bengio, Haffner 1998, section II.B, with these three simplifications).

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the input.
    activation : {"tanh", "scaled-tanh", "relu", "sigmoid", "leaky-relu"}
    pooling : {"avg", "max"}
    dropout : float
        Share of F6's outputs that a training step leaves out; 0 adds no such layer.
    batch_norm : bool
        Whether C1, C3 and C5 are normalised over the batch before their activation;
        they have no bias then. 61,846 parameters.
    size : int or (int, int)
        Rows and columns of the input, at least 16. C5 covers the whole of S4's map,
        5x5 for an input of 32x32, so that its own is always 1x1.
    seed : int
        Of the initial weights.

    Returns
    -------
    Model

    Examples
    --------
    >>> model = lenet5c.lenet5(classes=26)  # letters
    >>> model.input_shape, model.shapes[-1], model.parameter_count
    ((1, 32, 32), (26, 1, 1), 63066)
    """
    act = choose("activation", activation, ACTIVATIONS)
    pool = choose("pooling", pooling, POOLINGS)
    batch_norm = truth("batch_norm", batch_norm)

    def convolution(
        filters: int, name: str, kernel: int | tuple[int, int] = 5
    ) -> list[Layer]:
        norm = [BatchNorm2d(name=f"{name}.norm")] if batch_norm else []
        return [Conv2d(filters, kernel, bias=not batch_norm, name=name), *norm, act()]

    return Model(
        [
            *convolution(6, "C1"),  # 1@32x32 -> 6@28x28
            pool(2, name="S2"),  # -> 6@14x14
            *convolution(16, "C3"),  # -> 16@10x10
            pool(2, name="S4"),  # -> 16@5x5
            *convolution(120, "C5", _after_s4(size)),  # -> 120@1x1
            Flatten(),
            Dense(84, name="F6"),
            act(),
            *([Dropout(dropout, name="DROPOUT")] if dropout else []),
            Dense(classes, name="OUTPUT"),
        ],
        input_shape=(channels, *pair("size", size, 16)),
        classes=classes,
        seed=seed,
    )


@explained
def mlp(
    *,
    classes: int = 10,
    channels: int = 1,
    hidden: int = 100,
    activation: str = "relu",
    size: int | tuple[int, int] = 28,
    seed: int = 0,
) -> Model:
    """A perceptron with one hidden layer, 784-100-10: 79,510 parameters.

    Parameters
    ----------
    classes, channels, hidden : int
        Outputs, channels of the input, and hidden units.
    activation : {"tanh", "scaled-tanh", "relu", "sigmoid", "leaky-relu"}
    size : int or (int, int)
        Rows and columns of the input.
    seed : int
        Of the initial weights.

    Returns
    -------
    Model

    Examples
    --------
    >>> lenet5c.mlp(hidden=30).parameter_count  # 785 * 30 + 31 * 10
    23860
    """
    act = choose("activation", activation, ACTIVATIONS)
    shape = (channels, *pair("size", size, 1))
    return Model(
        [
            Flatten(),  # 1@28x28 -> 784
            Dense(hidden, name="HIDDEN"),
            act(),
            Dense(classes, name="OUTPUT"),
        ],
        input_shape=shape,
        classes=classes,
        seed=seed,
    )


@explained
def cnn3(
    *,
    classes: int = 10,
    channels: int = 1,
    size: int | tuple[int, int] = 28,
    seed: int = 0,
) -> Model:
    """Three 3x3 convolutions with ReLU and max pooling: 104,202 parameters.

    It wants a smaller step than LeNet-5: ``SGD(learning_rate=0.02)``. At the default
    of 0.1 it may stay at chance.

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the input.
    size : int or (int, int)
        Rows and columns of the input, at least 18.
    seed : int
        Of the initial weights.

    Returns
    -------
    Model

    Examples
    --------
    >>> lenet5c.cnn3()
    <Model of 10 layers, 104,202 parameters, 10 classes>
    """
    shape = (channels, *pair("size", size, 18))
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
        input_shape=shape,
        classes=classes,
        seed=seed,
    )


@explained
def resnet18(
    *,
    classes: int = 10,
    channels: int = 1,
    stem: str = "7x7",
    size: int | tuple[int, int] = 32,
    seed: int = 0,
) -> Model:
    """ResNet-18: a stem and four stages of two residual blocks (He, Zhang, Ren, Sun
    2016, table 1).

    11,175,370 parameters for 10 classes and one channel, with the small stem
    11,172,810. Layers are named as in torchvision.

    Parameters
    ----------
    classes, channels : int
        Outputs, and channels of the input.
    stem : {"7x7", "3x3"}
        The paper's, for large images: a 7x7 convolution with stride 2 and a maximum
        pooling, which leave 8x8 pixels of 32x32 to the first stage; or a 3x3
        convolution, which leaves them all, for 14 times the arithmetic.
    size : int or (int, int)
        Rows and columns of the input.
    seed : int
        Of the initial weights.

    Returns
    -------
    Model

    Examples
    --------
    >>> model = lenet5c.resnet18(channels=3, classes=100, stem="3x3")
    >>> model.parameter_count, model.shapes[-2]
    (11220132, (512, 1, 1))
    """
    stems: dict[str, list[Layer]] = {
        "7x7": [
            Conv2d(64, 7, stride=2, padding=3, bias=False, name="conv1"),  # 64@16x16
            BatchNorm2d(name="bn1"),
            ReLU(),
            MaxPool2d(3, stride=2, padding=1, name="maxpool"),  # -> 64@8x8
        ],
        "3x3": [
            Conv2d(64, 3, padding=1, bias=False, name="conv1"),  # 64@32x32
            BatchNorm2d(name="bn1"),
            ReLU(),
        ],
    }
    shape = (channels, *pair("size", size, 1))
    layers = choose("stem", stem, stems)
    for stage, filters in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            narrows = stage > 1 and block == 0
            layers += [_basic_block(f"layer{stage}.{block}", filters, narrows), ReLU()]
    return Model(
        [
            *layers,
            GlobalAvgPool2d(name="avgpool"),
            Dense(classes, name="fc"),
        ],
        input_shape=shape,
        classes=classes,
        seed=seed,
    )


def _basic_block(name: str, filters: int, narrows: bool) -> Residual:
    """Two 3x3 convolutions and their shortcut; one that narrows halves the map."""
    stride = 2 if narrows else 1
    shortcut = [
        Conv2d(filters, 1, stride=stride, bias=False, name=f"{name}.downsample.0"),
        BatchNorm2d(name=f"{name}.downsample.1"),
    ]
    return Residual(
        [
            Conv2d(
                filters, 3, stride=stride, padding=1, bias=False, name=f"{name}.conv1"
            ),
            BatchNorm2d(name=f"{name}.bn1"),
            ReLU(),
            Conv2d(filters, 3, padding=1, bias=False, name=f"{name}.conv2"),
            BatchNorm2d(name=f"{name}.bn2"),
        ],
        shortcut if narrows else (),
        name=name,
    )


def _after_s4(size: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of S4's map, for an input of this size."""
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in pair("size", size, 16))
    return rows, columns


@explained
def lenet5_1998(
    *,
    classes: int = 10,
    channels: int = 1,
    size: int | tuple[int, int] = 32,
    seed: int = 0,
) -> Model:
    """LeNet-5 as it was published.

    60,000 parameters and 340,908 connections: C3 reads what Table I lists, S2 and S4
    have a trainable coefficient and bias for each map, all but the last layer are
    squashed by the scaled tanh, and the outputs are distances from fixed codes, bitmaps
    of printed digits (LeCun, Bottou, Bengio, Haffner 1998, section II.B). An image's
    byte 0 and what is around it are -0.1 to the network, the byte 255 is 1.175.

    Parameters
    ----------
    classes : int
        Outputs; where they are not 10, as digits are, their codes are +1 and -1 at
        random.
    channels : int
        Of the input.
    size : int or (int, int)
        Rows and columns of the input, at least 16; C5 covers the whole of S4's map.
    seed : int
        Of the initial weights, uniform in +-2.4 / fan-in (appendix A), and of random
        codes.

    Returns
    -------
    Model
        Its outputs are minus the penalties of eq. 7, so the largest one is the class.

    See Also
    --------
    lenet5 : the same network as it is taught today.

    Examples
    --------
    >>> model = lenet5c.lenet5_1998()
    >>> model.parameter_count
    60000
    >>> history = model.fit(images, labels, recipe="1998", epochs=2)
    """
    codes = DIGIT_CODES if classes == len(DIGIT_CODES) else None
    return Model(
        [
            Conv2d(6, 5, init="lecun-1998", name="C1"),  # 1@32x32 -> 6@28x28
            ScaledTanh(),
            Subsampling2d(2, name="S2"),  # -> 6@14x14
            ScaledTanh(),
            Conv2d(16, 5, connections=TABLE_I, init="lecun-1998", name="C3"),
            ScaledTanh(),  # 16@10x10
            Subsampling2d(2, name="S4"),  # -> 16@5x5
            ScaledTanh(),
            Conv2d(120, _after_s4(size), init="lecun-1998", name="C5"),  # -> 120@1x1
            ScaledTanh(),
            Dense(84, init="lecun-1998", name="F6"),
            ScaledTanh(),
            RadialBasis(classes, codes=codes, name="OUTPUT"),
        ],
        input_shape=(channels, *pair("size", size, 16)),
        classes=classes,
        seed=seed,
        stage=InputStage.between(-0.1, 1.175),
    )


NETWORKS: dict[str, Callable[..., Model]] = {
    "lenet5": lenet5,
    "mlp": mlp,
    "cnn3": cnn3,
    "resnet18": resnet18,
    "lenet5-1998": lenet5_1998,
}
