"""LeNet-5 and small networks like it, trained and run on the CPU at native speed."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lenet5c import recipes, schedules
from lenet5c._info import __version__, build_info, get_include
from lenet5c.augment import Augment
from lenet5c.callbacks import EarlyStopping, TrainingState
from lenet5c.history import History
from lenet5c.layers import (
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
from lenet5c.model import Evaluation, Model, load
from lenet5c.networks import cnn3, lenet5, mlp, resnet18
from lenet5c.optimizers import SGD, AdamW
from lenet5c.training import TrainingError

if TYPE_CHECKING:
    from lenet5c import datasets, embed, functional
    from lenet5c.checkpoint import Checkpoint
    from lenet5c.convert import from_onnx, from_torch_state_dict
    from lenet5c.estimator import LeNet5Classifier
    from lenet5c.storage import FileFormatError

__all__ = [
    "SGD",
    "AdamW",
    "Augment",
    "AvgPool2d",
    "BatchNorm2d",
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
    "MaxPool2d",
    "Model",
    "ReLU",
    "Residual",
    "Tanh",
    "TrainingError",
    "TrainingState",
    "__version__",
    "build_info",
    "cnn3",
    "datasets",
    "embed",
    "from_onnx",
    "from_torch_state_dict",
    "functional",
    "get_include",
    "lenet5",
    "load",
    "mlp",
    "recipes",
    "resnet18",
    "schedules",
]

HOMES = {
    "Checkpoint": "checkpoint",
    "FileFormatError": "storage",
    "LeNet5Classifier": "estimator",
    "from_onnx": "convert",
    "from_torch_state_dict": "convert",
}


def __getattr__(name: str) -> Any:
    """Import what not every program needs when it is first used."""
    if name in ("datasets", "embed", "functional"):
        return import_module(f"lenet5c.{name}")
    if name in HOMES:
        return getattr(import_module(f"lenet5c.{HOMES[name]}"), name)
    raise AttributeError(f"module 'lenet5c' has no attribute {name!r}")
