"""Small networks that together have every layer in every place."""

import numpy as np

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    ReLU,
    Residual,
    Tanh,
)
from lenet5c.data.images import InputStage

# name: layers, input (C, H, W), source (rows, columns), classes
NETWORKS = {
    "like LeNet-5": (
        [Conv2d(3, 5), Tanh(), AvgPool2d(2), Conv2d(9, 3), Tanh(), Flatten(), Dense(4)],
        (1, 12, 13),
        (9, 8),
        4,
    ),
    "padding and strides": (
        [
            Conv2d(17, (3, 2), stride=2, padding=1),
            ReLU(),
            MaxPool2d(3, stride=1),
            Conv2d(5, (1, 3), stride=3, padding=2),
            ReLU(),
            Dense(3),
        ],
        (3, 11, 13),
        (11, 13),
        3,
    ),
    "no activations": (
        [Conv2d(4, 3), AvgPool2d(2), Conv2d(8, 2), Dense(11), Dense(5)],
        (2, 9, 10),
        (8, 10),
        5,
    ),
    "activations after pooling, and two": (
        [
            Conv2d(5, 3),
            AvgPool2d(3, stride=2),
            Tanh(),
            Tanh(),
            Conv2d(6, 2),
            ReLU(),
            ReLU(),
            Dropout(0.5),
            Dense(7),
            Dropout(0.5),
            Tanh(),
            ReLU(),
            Dense(2),
        ],
        (1, 10, 9),
        (10, 9),
        2,
    ),
    "pooling first, flattened early": (
        [
            MaxPool2d(2),
            ReLU(),
            Flatten(),
            Conv2d(3, 1, padding=1),
            Flatten(),
            Tanh(),
            AvgPool2d(1),
            Dense(3),
        ],
        (2, 5, 4),
        (4, 4),
        3,
    ),
    "ends in a convolution": (
        [Conv2d(3, 2), Tanh(), Conv2d(2, (2, 3))],
        (1, 5, 6),
        (5, 6),
        2 * 3 * 3,
    ),
    "ends in average pooling": (
        [Conv2d(6, 3, padding=1), ReLU(), Conv2d(4, 1), AvgPool2d(6)],
        (1, 6, 6),
        (5, 5),
        4,
    ),
    "ends in tanh": ([Conv2d(2, 2), Tanh()], (1, 3, 4), (3, 4), 12),
    "ends in max pooling, flattened": (
        [Conv2d(3, 2), MaxPool2d(2, stride=1), Flatten()],
        (1, 4, 5),
        (4, 5),
        18,
    ),
    "residual blocks": (
        [
            Conv2d(4, 3, padding=1, bias=False),
            BatchNorm2d(),
            ReLU(),
            MaxPool2d(3, 2, padding=1),  # 4@9x8 -> 4@5x4
            Residual(
                [
                    *(Conv2d(4, 3, padding=1), BatchNorm2d(), ReLU()),
                    *(Conv2d(4, 3, padding=1), BatchNorm2d()),
                ]
            ),
            ReLU(),
            Residual(
                [Conv2d(7, 3, stride=2, padding=1), ReLU(), Conv2d(7, 3, padding=1)],
                [Conv2d(7, 1, stride=2), BatchNorm2d()],
            ),
            ReLU(),
            GlobalAvgPool2d(),  # of 3x2 pixels
            Dense(3),
        ],
        (2, 9, 8),
        (9, 7),
        3,
    ),
    "branches of all kinds": (
        [
            BatchNorm2d(),
            Tanh(),
            Residual([Tanh()]),
            Residual([Residual([Conv2d(3, 1)], [BatchNorm2d()]), Tanh()]),
            Tanh(),
            MaxPool2d(2, 1, padding=1),  # 3@4x3 -> 3@5x4
            BatchNorm2d(),
            ReLU(),
            Residual([MaxPool2d(3, 1, padding=1)], [Dropout(0.5)]),
            Residual([Flatten()], [Conv2d(60, (5, 4))]),
            Dropout(0.5),
            ReLU(),
            Residual([AvgPool2d(1), ReLU(), ReLU()]),
            Flatten(),
            BatchNorm2d(),
            Residual([Dense(60), Tanh(), Flatten()]),
            Dense(4),
        ],
        (3, 4, 3),
        (4, 3),
        4,
    ),
    "sums of a map and itself": (
        [Dense(5), Residual([Residual([Dropout(0.5)]), Tanh()]), Dense(3)],
        (1, 3, 3),
        (3, 3),
        3,
    ),
    "ends in a sum": (
        [Conv2d(5, 2), Residual([Conv2d(5, 1), Tanh()])],
        (2, 3, 4),
        (3, 4),
        30,
    ),
    "ends in a sum and its activation": (
        [Residual([Dense(6)], [Conv2d(6, (2, 3))]), Tanh(), Flatten()],
        (1, 2, 3),
        (2, 3),
        6,
    ),
    "ends in global pooling": ([Conv2d(4, 2), GlobalAvgPool2d()], (1, 3, 5), (3, 5), 4),
    "ends in normalisation": (
        [AvgPool2d(2), BatchNorm2d()],
        (3, 4, 2),
        (4, 2),
        6,
    ),
    "two activations at the end": ([Dense(3), Tanh(), Tanh()], (1, 3, 3), (2, 3), 3),
}


def network(name):
    """A network of random weights, and 40 random images for it."""
    layers, shape, source, classes = NETWORKS[name]
    rng = np.random.default_rng(len(name))
    model = lenet5c.Model(layers, input_shape=shape, classes=classes, seed=len(name))
    for key, value in model.parameters.items():
        if key.endswith("bias"):
            value[:] = rng.normal(0, 0.3, value.shape)
        elif value.ndim == 1:  # of a batch normalisation
            value[:] = rng.uniform(0.5, 1.5, value.shape) * rng.choice(
                [-1, 1], value.shape
            )
    for key, value in model.buffers.items():
        value[:] = rng.uniform(0.2 if key.endswith("var") else -0.5, 1, value.shape)
    stage = InputStage(0.25, 0.5, -0.5)
    model.set_input(stage, source, np.arange(classes) * 3)
    images = rng.integers(0, 256, (40, shape[0], *source), np.uint8)
    return model, images
