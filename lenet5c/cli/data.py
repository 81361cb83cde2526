"""The data of a command: --data, --size, --channels, and what is wrong with it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lenet5c._support.flags import number
from lenet5c._support.text import listing
from lenet5c.cli import arguments
from lenet5c.cli.errors import CommandError
from lenet5c.data import datasets
from lenet5c.data.datasets import Dataset, Split
from lenet5c.interfaces import AnyModel


def add_data(
    parser: argparse.ArgumentParser, default: str | None, pictures: bool = True
) -> None:
    """Add --data and, unless there are no `pictures` to read, how they are read."""
    usual = "what the model was trained on, if `train` trained it"
    parser.add_argument(
        "--data",
        default=default,
        help="mnist, fashion-mnist, digits, a folder with IDX, .npy or CSV files or "
        "with a folder of pictures for each class, or FILE.npz or FILE.csv (default: "
        + (usual if default is None else "digits, which needs no network")
        + ")",
    )
    if not pictures:
        return
    parser.add_argument(
        "--size",
        type=arguments.size,
        metavar="PIXELS",
        help="rows and columns that pictures in folders are brought to, or "
        "ROWSxCOLUMNS (default: 28, or the model's)",
    )
    parser.add_argument(
        "--channels",
        type=number(int, "1 or 3", lambda x: x in (1, 3)),
        metavar="1|3",
        help="take pictures in folders as grey (1) or in colour (3; default: 1, or the "
        "model's)",
    )
    add_skip_broken(parser)


def add_skip_broken(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out pictures that cannot be read",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split",
        choices=("test", "train"),
        default="test",
        help="which images of the data (default: test)",
    )


def load_data(
    args: argparse.Namespace, source: str, model: AnyModel | None = None
) -> Dataset:
    """Return the data set; pictures come in the size that `model` was trained on,
    unless --size or --channels say another."""
    usual = (28, 1) if model is None else (model.source, model.input_shape[0])
    with _options_named():
        return datasets.load_like(
            usual, source, args.size, args.channels, args.skip_broken
        )


def data_of(args: argparse.Namespace, model: AnyModel) -> tuple[str, Dataset]:
    """Return --data, or what the model was trained on, and the data set."""
    source = args.data
    if source is None:
        source = model.trained_on
        if source is None:
            raise CommandError(
                f"--data: {args.model} does not say what it was trained on; expected "
                "the data as well"
            )
    try:
        return source, load_data(args, source, model)
    except FileNotFoundError as error:
        if args.data is None:
            raise CommandError(
                f"{error}. {args.model} was trained on it; --data names other data"
            ) from error
        raise


@contextmanager
def _options_named() -> Iterator[None]:
    """Let errors of `datasets.load` name the options of the command."""
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError) as error:
        name, _, rest = str(error).partition(": ")
        option = {"source": "--data", "size": "--size", "channels": "--channels"}
        text = f"{option[name]}: {rest}" if name in option else str(error)
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            text.replace("skip_broken leaves", "--skip-broken leaves")
        ) from error


def lasting(source: str) -> str:
    """Return the name of the data as it can be found from other folders as well."""
    return source if source in datasets.BUILT_IN else str(Path(source).resolve())


def split_of(args: argparse.Namespace, data: Dataset) -> Split:
    """Return the images that --split says."""
    return data.test if args.split == "test" else data.train


def check_labels(source: str, data: Dataset) -> None:
    """Refuse now what could not be trained on, or tested after the training."""
    known = {str(label) for label in np.unique(data.train.labels).tolist()}
    if len(known) < 2:
        raise CommandError(
            f"--data {source}: expected images of two classes at least, all have the "
            f"label {min(known)}"
        )
    for part, split in (("test", data.test), ("validation", data.validation)):
        labels = [] if split is None else np.unique(split.labels).tolist()
        if unseen := [label for label in labels if str(label) not in known]:
            raise CommandError(
                f"--data {source}: the {part} images have labels that the training "
                f"images lack: {listing(map(str, unseen))}"
            )
