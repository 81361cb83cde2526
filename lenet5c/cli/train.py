"""`lenet5c train`: a network trained, tested and written to a file."""

import argparse
from dataclasses import asdict, dataclass
from inspect import signature
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

from lenet5c._support.flags import SHARE
from lenet5c._support.progress import ProgressBar
from lenet5c._support.text import counted
from lenet5c.cli.arguments import add_augmentation, augmentation_of
from lenet5c.cli.data import add_data, check_labels, lasting, load_data
from lenet5c.cli.errors import DONE, INTERRUPTED, CommandError
from lenet5c.cli.output import print_json, say, writable_path
from lenet5c.cli.settings import Settings
from lenet5c.data.datasets import Dataset
from lenet5c.interfaces import Evaluation
from lenet5c.model import Model, load
from lenet5c.networks import NETWORKS
from lenet5c.report.history import History
from lenet5c.training.loop import TrainingError
from lenet5c.training.optimizers import OPTIMIZERS
from lenet5c.training.options import OPTIONS, add_flags, flags_given
from lenet5c.training.ranks import RankError

NAME = "train"
SUMMARY = "Train a network, test it, and write the model to a file."
EXAMPLES = (
    "lenet5c train",
    "lenet5c train --data mnist --recipe best --output mnist.lenet5c",
    "lenet5c train --data photos.npz --validation 0.1 --early-stopping 5 --shift 3",
    "lenet5c train --data FOLDER --size 64 --channels 3",
    "lenet5c train --data mine.csv --from lenet5.lenet5c --learning-rate 0.01",
    "lenet5c train --data mnist --epochs 50 --checkpoint run --resume",
    "mpiexec -n 2 lenet5c train --data mnist --mpi",
)

DEFAULT_MODEL = "lenet5.lenet5c"
UNFINISHED = ".interrupted"  # behind the name, so that no finished model is replaced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "lenet5c train [--data DATA] [--network NETWORK] [OPTION ...]"
    add_data(parser, "digits")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--network", choices=NETWORKS, help="default: lenet5")
    start.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="go on from the network and the weights in a model file; the data have to "
        "be of the same classes",
    )
    parser.add_argument(
        "--output",
        default=DEFAULT_MODEL,
        metavar="FILE",
        help=f"where to write the model (default: {DEFAULT_MODEL}); after Ctrl-C the "
        f"one trained so far is in FILE{UNFINISHED}",
    )
    groups = add_flags(parser)
    groups["training"].add_argument(
        "--mpi",
        action="store_true",
        help="train as one of the processes that mpiexec has started: the same "
        "weights, whatever their number",
    )
    groups["regularisation"].add_argument(
        "--dropout",
        type=SHARE,
        metavar="RATE",
        help="share of F6's outputs left out in training; lenet5 only (default: 0)",
    )
    add_augmentation(groups["augmentation"])


class Effort(NamedTuple):
    """What a training took, with what was done before it was resumed."""

    epochs: int  # that were asked for
    images: int  # of each epoch
    all_images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.all_images / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Outcome:
    """All that is told of a training."""

    settings: Settings
    model: Model
    output: Path
    replaced: bool  # an older file
    history: History
    effort: Effort
    tested: int  # images
    test: Evaluation


def run(args: argparse.Namespace) -> int:
    if not args.mpi:
        return _run(args, None)
    from lenet5c.cli.ranks import all_ranks

    with all_ranks(args.debug) as comm:
        return _run(args, comm)


def _run(args: argparse.Namespace, comm: Any) -> int:
    """Train, as one of the processes of `comm`, of which rank 0 writes the model."""
    output = writable_path(args.output)
    settings = _settings(args)
    start = None if args.start is None else load(args.start)
    data = load_data(args, args.data, start)
    _check_validation(args, data)
    check_labels(args.data, data)
    model = settings.new_model(data) if start is None else start
    say(
        f"{data.name}: {len(data.train.images):,} training images, "
        f"{len(data.test.images):,} test images\n"
        f"{args.start or settings.network}: {model.parameter_count:,} parameters, "
        f"{model.multiply_adds:,} multiply-adds an image"
    )
    model.trained_on = lasting(args.data)
    with ProgressBar() as bar:
        try:
            history = _fit(settings, model, data, bar, output, comm)
        except (KeyboardInterrupt, RankError) as error:
            interrupted = isinstance(error, KeyboardInterrupt) or error.interrupted
            if not interrupted or bar.last is None or (comm and comm.Get_rank()):
                raise
            unfinished = output.with_name(output.name + UNFINISHED)
            model.save(unfinished)
            bar.close()
            say(
                f"lenet5c: interrupted in epoch {bar.last.epoch} of {bar.last.epochs}; "
                f"the model trained so far is saved in {unfinished}"
                + "; --resume goes on from the last checkpoint"
                * bool(args.checkpoint)
            )
            return INTERRUPTED
    if comm is not None and comm.Get_rank() > 0:
        return DONE
    replaced = output.exists()
    model.save(output)
    outcome = Outcome(
        settings=settings,
        model=model,
        output=output,
        replaced=replaced,
        history=history,
        effort=_effort(history, bar),
        tested=len(data.test.images),
        test=model.evaluate(*data.test),
    )
    if args.json:
        print_json(_facts(outcome))
    else:
        _print_outcome(outcome)
    return DONE


def _settings(args: argparse.Namespace) -> Settings:
    """Return the settings that the options say, once they fit each other."""
    options, network = flags_given(args), args.network
    if args.start is None:
        network = network or "lenet5"
        options["seed"] = args.seed or 0
    changes = augmentation_of(args)
    _check_together(args, network, changes)
    if args.augment is not False and (args.augment or changes):
        options["augment"] = changes
    own = ("start", "data", "size", "channels", "skip_broken", "dropout")
    settings = Settings(
        network, options=options, **{name: getattr(args, name) for name in own}
    )
    _check_optimizer(settings)
    return settings


def _check_optimizer(settings: Settings) -> None:
    """Refuse settings of another optimizer."""
    of = {name: signature(kind).parameters for name, kind in OPTIMIZERS.items()}
    chosen = next(
        name for name, kind in OPTIMIZERS.items() if kind is settings.optimizer_class
    )
    for part in OPTIONS["optimizer"].parts:
        if settings.options[part] is not None and part not in of[chosen]:
            known = " or ".join(name for name in OPTIMIZERS if part in of[name])
            raise CommandError(
                f"--{part.replace('_', '-')} belongs to --optimizer {known}; {chosen} "
                "has none"
            )


def _check_together(
    args: argparse.Namespace, network: str | None, changes: dict[str, Any]
) -> None:
    """Refuse options of `train` that need or exclude another one."""
    if args.augment is False and changes:
        raise CommandError(
            f"--{next(iter(changes))} and --no-augment cannot be given both"
        )
    if args.dropout is not None and network != "lenet5":
        raise CommandError(
            "--dropout belongs to --network lenet5; "
            + (f"{network} has none" if network else "--from has its own")
        )
    for option, given in (
        ("--checkpoint-seconds", args.checkpoint_seconds is not None),
        ("--resume", args.resume),
    ):
        if given and args.checkpoint is None:
            raise CommandError(f"{option} needs --checkpoint as well")
    if args.log is not None:
        writable_path(args.log, "--log")
    if args.checkpoint is not None and Path(args.checkpoint).is_file():
        raise CommandError(f"--checkpoint {args.checkpoint} is a file, not a folder")


def _check_validation(args: argparse.Namespace, data: Dataset) -> None:
    """Refuse --validation where the data have their own, and ask for it elsewhere."""
    if data.validation is not None:
        if args.validation is not None:
            raise CommandError(
                f"--validation: {args.data} has images of its own for that, which are "
                "taken"
            )
        return
    for option, given in (
        ("--early-stopping", args.early_stopping),
        ("--schedule plateau", args.schedule == "plateau"),
    ):
        if given and args.validation is None:
            raise CommandError(f"{option} needs --validation as well")


def _fit(
    settings: Settings,
    model: Model,
    data: Dataset,
    bar: ProgressBar,
    output: Path,
    comm: Any,
) -> History:
    """Train; errors name the option that they are about."""
    try:
        return settings.fit(model, data, [bar], comm)
    except TrainingError as error:
        raise TrainingError(f"{error}. {output} is not written") from error
    except (ValueError, TypeError) as error:
        name, colon, rest = str(error).partition(": ")
        if not colon or name not in settings.to_dict():
            raise
        rest = rest.replace("resume=True", "--resume")
        raise CommandError(f"--{name.replace('_', '-')}: {rest}") from error


def _effort(history: History, bar: ProgressBar) -> Effort:
    last = bar.last
    if last is not None:
        done = (last.epoch - 1) * last.total_images + last.images
        return Effort(last.epochs, last.total_images, done, last.seconds)
    # there was nothing left to do
    images = sum(map(mul, history.seconds, history.images_per_second))
    each = round(images / max(1, len(history)))
    return Effort(len(history), each, len(history) * each, sum(history.seconds))


def _facts(of: Outcome) -> dict[str, Any]:
    from lenet5c.cli.measure import peak_memory

    augment = of.settings.new_augment()
    return {
        "model": str(of.output),
        "replaced": of.replaced,
        "recipe": of.settings.to_dict(),
        "optimizer": repr(of.settings.new_optimizer()),
        "augment": None if augment is None else asdict(augment),
        "parameters": of.model.parameter_count,
        "multiply_adds": of.model.multiply_adds,
        "training_images": of.effort.images,
        "epochs": len(of.history),
        "stopped_early": len(of.history) < of.effort.epochs,
        "training_seconds": of.effort.seconds,
        "training_images_per_second": of.effort.images_per_second,
        "test_images": of.tested,
        "test_loss": of.test.loss,
        "test_accuracy": of.test.accuracy,
        "peak_memory_bytes": peak_memory(),
        "history": of.history.to_dict(),
    }


def _print_outcome(of: Outcome) -> None:
    trained = counted(of.effort.epochs, "epoch")
    if len(of.history) < of.effort.epochs:
        trained = f"{len(of.history)} of {trained}"
    print(
        f"Trained {trained} in {of.effort.seconds:.2f} s, "
        f"{of.effort.images_per_second:,.0f} images/s.\n"
        f"Test accuracy {of.test.accuracy:.2%} on {counted(of.tested, 'image')}, "
        f"loss {of.test.loss:.4f}.\n"
        f"Model written to {of.output}"
        + ", in place of the file that was there"
        * of.replaced
    )
