"""What a training may be told, each option once: default, check, and flag.

To add one, write a field here, its name and what it means in `Model.fit`, and, if the
recipes have a say in it, a field of `Recipe`; tests/training/test_options.py compares
them.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import ArrayLike

from lenet5c._support.checks import number, whole
from lenet5c._support.flags import (
    COUNT,
    DECAY,
    FRACTION,
    RATE,
    SEED,
    SHARE,
    Flag,
)
from lenet5c._support.threads import resolve_threads
from lenet5c.bits import Bits, as_bits
from lenet5c.data.augment import Augment
from lenet5c.training.callbacks import (
    Callback,
    EarlyStopping,
    as_early_stopping,
    checked_callbacks,
)
from lenet5c.training.losses import LOSSES, Loss, as_loss
from lenet5c.training.optimizers import (
    OPTIMIZERS,
    SDLM,
    SGD,
    AdamW,
    Optimizer,
    as_optimizer,
)
from lenet5c.training.recipes import RECIPES, SGD_RATES, Recipe, as_recipe, epochs_for
from lenet5c.training.schedules import (
    SCHEDULES,
    ReduceOnPlateau,
    Schedule,
    as_schedule,
)

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ActionsContainer, _ArgumentGroup

    from lenet5c.training.checkpoint import Checkpoint

__all__ = [
    "ClassWeight",
    "TrainingOptions",
    "Validation",
    "add_flag",
    "add_flags",
    "flags_given",
]

Path = str | os.PathLike[str]
Validation = float | tuple[ArrayLike, ArrayLike] | None
ClassWeight = Mapping[Any, float] | str | None

# Flags by the group that they are shown in, and what stands below a group's title.
_training = partial(Flag, group="training")
_stopping = partial(Flag, group="when to stop")
_regularisation = partial(Flag, group="regularisation")
_augmentation = partial(Flag, group="augmentation")
_keeping = partial(Flag, group="checkpoints and log")
GROUPS = {
    "training": None,
    "when to stop": None,
    "regularisation": None,
    "augmentation": "Any of these turns it on; what is left out is as below.",
    "checkpoints and log": None,
}


class Option(NamedTuple):
    """What a field of `TrainingOptions` carries.

    check : makes one form of a value, given the option's name, or raises an error
    same : what it decides of the weights, in values of JSON; None if it decides nothing
    flag : of the command line
    parts : other flags, of what the option is made of, by the names of their values
    """

    check: Callable[[str, Any], Any]
    same: Callable[[Any], Any] | None
    flag: Flag | None
    parts: Mapping[str, Flag]


def _as_given(value: Any) -> Any:
    return value


def _text(value: object) -> str:
    """What it says of itself, but for where it lies in memory."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))


def _any(name: str, value: Any) -> Any:
    """No check: it is with the images that it has to fit, if with anything."""
    return value


def _by(convert: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """The check that a function makes which knows the option's name itself."""
    return lambda _, value: convert(value)


_count = partial(whole, least=1)
_share = partial(number, least=0, below=1)


def _epochs(name: str, value: Any) -> int | None:
    return None if value is None else whole(name, value, 1)


def _seed(name: str, value: Any) -> int | None:
    return None if value is None else whole(name, value, 0, 2**63)


def _threads(_: str, value: Any) -> int | None:
    """None stays: the share of the CPUs changes while a training runs."""
    return None if value is None else resolve_threads(value)


def _seconds(name: str, value: Any) -> float:
    return math.inf if value is None else number(name, value, 0, math.inf)


def _schedule(name: str, value: Any) -> Schedule:
    """With the state of none but this training."""
    schedule = as_schedule(value)
    return schedule.fresh() if isinstance(schedule, ReduceOnPlateau) else schedule


def _norm(name: str, value: Any) -> float | None:
    if value is None or value == math.inf:
        return None
    norm = number(name, value, 0, math.inf)
    if norm == 0:
        raise ValueError(f"{name}: expected x > 0, or None, got 0")
    return norm


def _augment(name: str, value: Any) -> Augment | None:
    if value is None or value is False:
        return None
    if not isinstance(value, Augment):
        raise ValueError(
            f"{name}: expected a lenet5c.Augment, None for the recipe's or False for "
            f"none, got {value!r}"
        )
    return value


def _checkpoint(name: str, value: Any) -> "Checkpoint | None":
    if value is None:
        return None
    from lenet5c.training.checkpoint import as_checkpoint

    return as_checkpoint(value)


def _comm(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not hasattr(value, "Get_rank") or isinstance(value, type):
        raise TypeError(
            f"{name}: expected an mpi4py communicator, as MPI.COMM_WORLD, or None, got "
            f"{value!r}"
        )
    if not value:
        raise ValueError(
            f"{name}: expected a communicator of which this process is one, got "
            "MPI.COMM_NULL"
        )
    if value.Is_inter():
        raise ValueError(
            f"{name}: expected a communicator of one group of processes, got one "
            "between two groups (its Merge() makes one of them)"
        )
    return value


def _file(name: str, value: Any) -> Path | None:
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name}: expected a path or None, got {value!r}")
    return value


def option(
    default: Any,
    check: Callable[[str, Any], Any] = _any,
    *,
    same: Callable[[Any], Any] | None = None,
    flag: Flag | None = None,
    **parts: Flag,
) -> Any:
    """A field with its `Option`."""
    return field(default=default, metadata={"": Option(check, same, flag, parts)})


USUAL = Recipe()
RATES = "".join(
    f", {network} {rate:g}"
    for network, rate in SGD_RATES.items()
    if rate != SGD().learning_rate
)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The arguments of one call of `Model.fit`, which describes them, checked.

    None is taken as what the recipe has. Types are those of the checked values.
    """

    epochs: int = option(  # None until `for_images`
        None,
        _epochs,
        flag=_training(
            "default: 3 for 60,000 images, more for fewer, at most 30", COUNT, "E"
        ),
    )
    batch_size: int = option(
        None,
        _count,
        same=_as_given,
        flag=_training(f"default: {USUAL.batch_size}", COUNT, "B"),
    )
    optimizer: Optimizer = option(
        None,
        _by(as_optimizer),
        same=_text,
        flag=_training("default: sgd", choices=OPTIMIZERS),
        learning_rate=_training(
            f"the highest of the schedule (default: for sgd {SGD().learning_rate:g}"
            f"{RATES}; for adamw {AdamW().learning_rate:g}; for sdlm "
            f"{SDLM().learning_rate:g})",
            RATE,
            "RATE",
        ),
        momentum=_training(f"of sgd (default: {SGD().momentum:g})", SHARE, "M"),
        weight_decay=_training(
            f"default: {SGD().weight_decay:g} for sgd, {AdamW().weight_decay:g} for "
            "adamw",
            DECAY,
            "W",
        ),
    )
    schedule: Schedule = option(
        None,
        _schedule,
        same=_text,
        flag=_training(
            f"of the learning rate (default: {USUAL.schedule})", choices=SCHEDULES
        ),
    )
    augment: Augment | None = option(
        None,
        _augment,
        same=_text,
        flag=_augmentation(
            "change images at random, each epoch anew; or not, whatever the recipe",
            switch="on or off",
        ),
    )
    validation: Validation = option(
        None,
        flag=_stopping(
            "share of the training images to hold out and validate on (default: none)",
            FRACTION,
            "FRACTION",
        ),
    )
    seed: int | None = option(
        None,
        _seed,
        same=_as_given,
        flag=_training(
            "same seed, same weights, for any number of threads (default: 0; with "
            "--from another one in each training)",
            SEED,
            "S",
        ),
    )
    threads: int | None = option(
        None,
        _threads,
        flag=_training("default: one for each CPU", COUNT, "T"),
    )
    callbacks: list[Callback] = option((), _by(checked_callbacks))
    verbose: bool = option(False)
    recipe: Recipe = option(
        None,
        _by(as_recipe),
        flag=Flag(
            "what all other options default to; best: "
            f"{RECIPES['best'].epochs} epochs with augmentation and weight decay; "
            f"1998: {RECIPES['1998'].epochs} epochs with sdlm, one image at a time "
            "(default: default)",
            choices=RECIPES,
            default="default",
        ),
    )
    loss: Loss = option(
        None,
        _by(as_loss),
        same=_text,
        flag=_training(
            "what is made small; mle is for networks that end with RadialBasis "
            f"(default: {USUAL.loss})",
            choices=LOSSES,
        ),
    )
    label_smoothing: float = option(
        None,
        _share,
        same=_as_given,
        flag=_regularisation(
            "share of each label that is spread over all classes (default: "
            f"{USUAL.label_smoothing:g})",
            SHARE,
            "S",
        ),
    )
    weight_average: float = option(
        None,
        _share,
        same=_as_given,
        flag=_regularisation(
            "use the exponential moving average of the weights, as 0.999 (default: "
            f"{USUAL.weight_average:g}, which is off)",
            SHARE,
            "DECAY",
        ),
    )
    clip_norm: float | None = option(
        None,
        _norm,
        same=_as_given,
        flag=_regularisation(
            f"largest norm of the gradient (default: {USUAL.clip_norm:g})", RATE, "NORM"
        ),
    )
    accumulate: int = option(
        1,
        _count,
        same=_as_given,
        flag=_training(
            "compute each batch in N parts, in less memory (default: 1)",
            COUNT,
            "N",
            default=1,
        ),
    )
    class_weight: ClassWeight = option(
        None,
        flag=_regularisation(
            "balanced: rare classes count as much as frequent ones",
            choices=("balanced",),
        ),
    )
    sample_weight: ArrayLike | None = option(None)
    early_stopping: EarlyStopping | None = option(
        None,
        _by(as_early_stopping),
        same=_text,
        flag=_stopping(
            "stop after so many epochs without a better validation loss, and keep the "
            "best weights; needs --validation",
            COUNT,
            "PATIENCE",
        ),
    )
    max_seconds: float = option(
        None,
        _seconds,
        flag=_stopping("stop after so many seconds", DECAY, "T"),
    )
    checkpoint: "Checkpoint | None" = option(
        None,
        _checkpoint,
        flag=_keeping(
            "write after each epoch what it takes to go on from there", metavar="FOLDER"
        ),
        checkpoint_seconds=_keeping(
            "inside of an epoch as well, every T seconds", RATE, "T"
        ),
    )
    resume: bool = option(
        False,
        _by(bool),
        flag=_keeping(
            "go on from the newest checkpoint in FOLDER, if there is one", switch="on"
        ),
    )
    log: Path | None = option(
        None,
        _file,
        flag=_keeping(
            "write a line of JSON an epoch, as for `report --history`", metavar="FILE"
        ),
    )
    comm: Any = option(None, _comm)
    quantize: Bits | None = option(
        None,
        as_bits,
        same=_text,
        flag=_training(
            "train integers of so few bits, best with --from (default: floats)",
            choices=("8", "4", "2", "ternary"),
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", as_recipe(self.recipe))
        for name, one in OPTIONS.items():
            value = getattr(self, name)
            if value is None:
                value = self.recipe.value(name)
            object.__setattr__(self, name, one.check(name, value))
        if self.resume and self.checkpoint is None:
            raise ValueError("resume: expected a checkpoint as well, got none")

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> "TrainingOptions":
        """Return those that are among the arguments of a function: all of them."""
        return cls(**{name: arguments[name] for name in OPTIONS})

    def for_images(self, count: int) -> "TrainingOptions":
        """Return them with the epochs for so many images, if none are given."""
        found = copy(self)  # `replace` would take what was checked for what was given
        if self.epochs is None:
            object.__setattr__(found, "epochs", epochs_for(count))
        return found

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same for a training to go on to the same bits."""
        return {
            name: one.same(getattr(self, name))
            for name, one in OPTIONS.items()
            if one.same is not None
        }


OPTIONS: dict[str, Option] = {
    each.name: each.metadata[""] for each in fields(TrainingOptions)
}
FLAGS: dict[str, Flag] = {
    name: flag
    for option_name, one in OPTIONS.items()
    for name, flag in {option_name: one.flag, **one.parts}.items()
    if flag is not None
}


def add_flag(parser: "_ActionsContainer", name: str, **changes: Any) -> None:
    """Add one flag, as it is or with other help or another default."""
    replace(FLAGS[name], **changes).add(parser, name)


def add_flags(parser: "ArgumentParser") -> dict[str, "_ArgumentGroup"]:
    """Add all flags; return the groups that they are in, by title."""
    groups = {
        title: parser.add_argument_group(title, text) for title, text in GROUPS.items()
    }
    for name, flag in FLAGS.items():
        flag.add(parser if flag.group is None else groups[flag.group], name)
    return groups


def flags_given(namespace: "Namespace") -> dict[str, Any]:
    """Return what was said with the flags, by name; None where nothing was."""
    return {name: getattr(namespace, name) for name in FLAGS}
