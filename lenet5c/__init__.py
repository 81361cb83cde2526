"""LeNet-5 and small networks like it, trained and run on the CPU at native speed.

`lenet5`, `lenet5_1998`, `mlp`, `cnn3` and `resnet18` make a `Model`, or it is made of
layers; its methods train, predict, measure, save and export. `datasets` has images to
train on.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenet5c import (
        article,
        datasets,
        embed,
        functional,
        layers,
        losses,
        optimizers,
        pictures,
        plots,
        recipes,
        reference,
        schedules,
    )
    from lenet5c._support.build import __version__, build_info, get_include
    from lenet5c.bits import Bits
    from lenet5c.convert.onnx import from_onnx
    from lenet5c.convert.torch import from_torch_state_dict
    from lenet5c.data.augment import Augment
    from lenet5c.estimator import LeNet5Classifier
    from lenet5c.files.container import FileFormatError
    from lenet5c.interfaces import Evaluation
    from lenet5c.layers import (
        AvgPool2d,
        BatchNorm2d,
        Conv2d,
        Dense,
        Dropout,
        Flatten,
        GlobalAvgPool2d,
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
    from lenet5c.model import Model, load
    from lenet5c.networks import cnn3, lenet5, lenet5_1998, mlp, resnet18
    from lenet5c.report.history import History
    from lenet5c.training.callbacks import EarlyStopping, TrainingState
    from lenet5c.training.checkpoint import Checkpoint
    from lenet5c.training.loop import TrainingError
    from lenet5c.training.optimizers import SDLM, SGD, AdamW
    from lenet5c.training.ranks import RankError

__all__ = [
    "SDLM",
    "SGD",
    "AdamW",
    "Augment",
    "AvgPool2d",
    "BatchNorm2d",
    "Bits",
    "Checkpoint",
    "Conv2d",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "Evaluation",
    "FileFormatError",
    "Flatten",
    "GlobalAvgPool2d",
    "History",
    "LeNet5Classifier",
    "LeakyReLU",
    "MaxPool2d",
    "Model",
    "RadialBasis",
    "RankError",
    "ReLU",
    "Residual",
    "ScaledTanh",
    "Sigmoid",
    "Subsampling2d",
    "Tanh",
    "TrainingError",
    "TrainingState",
    "__version__",
    "article",
    "build_info",
    "cnn3",
    "datasets",
    "embed",
    "from_onnx",
    "from_torch_state_dict",
    "functional",
    "get_include",
    "layers",
    "lenet5",
    "lenet5_1998",
    "load",
    "losses",
    "mlp",
    "optimizers",
    "pictures",
    "plots",
    "recipes",
    "reference",
    "resnet18",
    "schedules",
]

if find_spec("sklearn") is None:  # `from lenet5c import *` does without it
    __all__.remove("LeNet5Classifier")

# Where names are imported from when they are first used; all others are modules.
HOMES = {
    name: home
    for home, names in {
        "_support.build": ("__version__", "build_info", "get_include"),
        "bits": ("Bits",),
        "data.augment": ("Augment",),
        "training.callbacks": ("EarlyStopping", "TrainingState"),
        "training.checkpoint": ("Checkpoint",),
        "convert.onnx": ("from_onnx",),
        "convert.torch": ("from_torch_state_dict",),
        "estimator": ("LeNet5Classifier",),
        "report.history": ("History",),
        "layers": (
            *("AvgPool2d", "BatchNorm2d", "Conv2d", "Dense", "Dropout", "Flatten"),
            *("GlobalAvgPool2d", "LeakyReLU", "MaxPool2d", "ReLU", "Residual"),
            *("RadialBasis", "ScaledTanh", "Sigmoid", "Subsampling2d", "Tanh"),
        ),
        "interfaces": ("Evaluation",),
        "model": ("Model", "load"),
        "networks": ("cnn3", "lenet5", "lenet5_1998", "mlp", "resnet18"),
        "training.optimizers": ("SDLM", "SGD", "AdamW"),
        "files.container": ("FileFormatError",),
        "training.loop": ("TrainingError",),
        "training.ranks": ("RankError",),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    """Import what is used first, so that a program loads no more than it needs."""
    if name in HOMES:
        value = getattr(import_module(f"lenet5c.{HOMES[name]}"), name)
        globals()[name] = value
        return value
    could_be = name.isidentifier() and not name.startswith("__")
    if could_be and find_spec(f"lenet5c.{name}") is not None:
        return import_module(f"lenet5c.{name}")
    from lenet5c._support.habits import NAMES, no_attribute

    raise no_attribute("module 'lenet5c'", name, __all__, NAMES)


def __dir__() -> list[str]:
    return sorted(__all__)
