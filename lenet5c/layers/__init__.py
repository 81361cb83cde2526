"""What a layer is: its sizes and its parameters. No arithmetic; that is the core's.

One file a family; all kinds by name are in `LAYERS`. Shapes are (C, H, W): channels,
rows, columns.
"""

from lenet5c.layers.activation import (
    Activation,
    LeakyReLU,
    ReLU,
    ScaledTanh,
    Sigmoid,
    Tanh,
)
from lenet5c.layers.base import Layer
from lenet5c.layers.conv import Conv2d
from lenet5c.layers.dense import Dense
from lenet5c.layers.dropout import Dropout
from lenet5c.layers.flatten import Flatten
from lenet5c.layers.initial import initialise
from lenet5c.layers.listed import (
    LAYERS,
    layer_from_dict,
    layer_to_dict,
    walk,
)
from lenet5c.layers.norm import BatchNorm2d
from lenet5c.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d, Subsampling2d
from lenet5c.layers.radial_basis import RadialBasis
from lenet5c.layers.residual import Residual

__all__ = [
    "LAYERS",
    "Activation",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "RadialBasis",
    "ReLU",
    "Residual",
    "ScaledTanh",
    "Sigmoid",
    "Subsampling2d",
    "Tanh",
    "initialise",
    "layer_from_dict",
    "layer_to_dict",
    "walk",
]
