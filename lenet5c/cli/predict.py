"""`lenet5c predict`: what is in pictures and other files of images."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.flags import COUNT
from lenet5c._support.text import counted, listing
from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_skip_broken
from lenet5c.cli.errors import DONE, CommandError, explain
from lenet5c.cli.output import print_json, print_table, say
from lenet5c.data import datasets
from lenet5c.data.arrays import as_bytes
from lenet5c.data.caches import Shown, progress
from lenet5c.data.pictures import (
    NothingFound,
    files_below,
    prepare,
    prepare_many,
    read_picture,
)
from lenet5c.interfaces import AnyModel
from lenet5c.model import load

NAME = "predict"
SUMMARY = "Say what is in an image: the most probable classes."
EXAMPLES = (
    "lenet5c predict lenet5.lenet5c digit.png",
    "lenet5c predict lenet5.lenet5c --prepare photo.jpg drawing.png",
    "lenet5c predict lenet5.lenet5c --many page.jpg",
    "lenet5c predict mnist.lenet5c t10k-images-idx3-ubyte.gz --top 1 --json",
)

FEW_FILES = 100  # that are read without a progress bar

Box = tuple[int, int, int, int]  # top, left, bottom, right


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="PNG or JPEG, made grey and brought to the model's size; or .npy, .csv or "
        "IDX; or a folder of such files",
    )
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="for photographs and drawings: find the sign on each, dark on light or "
        "light on dark, and make it look as in MNIST",
    )
    parser.add_argument(
        "--many",
        action="store_true",
        help="like --prepare, for several signs on a page: they are read from left to "
        "right",
    )
    add_skip_broken(parser)
    parser.add_argument(
        "--top",
        type=COUNT,
        default=3,
        metavar="K",
        help="how many classes to show (default: 3)",
    )
    parser.add_argument(
        "--invert",
        action="store_true",
        help="swap light and dark, for dark ink on light paper; with --prepare, which "
        "finds the ink by itself, for a model of floats that was trained on such",
    )


def run(args: argparse.Namespace) -> int:
    model = load(args.model)
    predictions: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    broken: list[str] = []
    files = _files(args.files)
    reader = Reader(model, args.invert, args.prepare, args.many)
    shown: Shown = None if len(files) > FEW_FILES else False
    with progress("predict", len(files), "files", shown, "reading", "read") as advance:
        for done, file in enumerate(files, 1):
            try:
                found = _predictions(model, reader, file, args.top)
            except (ValueError, TypeError, CommandError, OSError) as error:
                text = explain(error)
                broken.append(text if text.startswith(file) else f"{file}: {text}")
                continue
            finally:
                advance(done)
            predictions += found
            rows += [_row(one, len(found) > 1) for one in found]
    if broken and not args.skip_broken:
        raise CommandError(listing(broken, "; "))
    for text in broken:
        say(f"lenet5c: note: left out: {text}")
    if args.json:
        print_json({"model": args.model, "predictions": predictions})
        return DONE
    if not rows:
        print("Nothing was found.")
        return DONE
    ranks = [f"#{rank}" for rank in range(2, max(map(len, rows)))]
    rows = [row + [""] * (2 + len(ranks) - len(row)) for row in rows]
    print_table(["image", "class", *ranks], rows)
    return DONE


def _files(paths: Sequence[str]) -> list[str]:
    """The files, and those in the folders among them, but for hidden ones."""
    found = []
    for path in paths:
        if not Path(path).is_dir():
            found.append(path)
            continue
        below = [str(file) for file in files_below(Path(path))]
        if not below:
            raise CommandError(f"{path}: expected a folder with pictures, got none")
        found += below
    return found


def _predictions(
    model: AnyModel, reader: "Reader", file: str, top: int
) -> list[dict[str, Any]]:
    """Return what is in each image of a file."""
    images, boxes = reader.read(file)
    if reader.prepare and not len(images):
        # of one sign each: a row each
        nothing = {"file": file, "index": 0, "class": None, "top": []}
        return [] if reader.many else [nothing]
    predictions = []
    for index, row in enumerate(model.predict_proba(images)):
        best = (-row).argsort(kind="stable")[:top]
        ranked = [
            {"class": model.classes[k].item(), "probability": float(row[k])}
            for k in best
        ]
        found = {"file": file, "index": index, "class": ranked[0]["class"]}
        place = {} if boxes is None else {"box": list(boxes[index])}
        predictions.append({**found, "top": ranked, **place})
    return predictions


def _row(prediction: dict[str, Any], of_several: bool) -> list[str]:
    """Return a prediction as cells of the table."""
    name = prediction["file"] + f" [{prediction['index']}]" * of_several
    top = prediction["top"]
    cells = [f"{one['class']}  {one['probability']:7.2%}" for one in top]
    return [name, *(cells or ["nothing"])]


class Reader:
    """Images for a model, from files of any kind."""

    def __init__(
        self, model: AnyModel, invert: bool, prepare: bool, many: bool
    ) -> None:
        self.model, self.invert, self.many = model, invert, many
        self.prepare = prepare or many
        channels, rows, columns = model.input_shape[0], *model.source
        if self.prepare and model.trained_on_floats and not invert:
            say(
                "lenet5c: note: the model does not say whether it was trained on light "
                "ink, which is assumed, or on dark ink, which --invert says"
            )
        if self.prepare and (channels, rows) != (1, columns):
            raise CommandError(
                "--prepare and --many make square grey images, and the model was "
                f"trained on {rows}x{columns} of {counted(channels, 'channel')}"
            )

    def read(self, file: str) -> tuple[NDArray[Any], list[Box] | None]:
        """Images as `predict` takes them, told by the file's first bytes, and where
        they were found, if several were looked for.

        Arrays are returned as they are; a picture is made grey, if the model is, and
        brought to the size of the model's images.
        """
        images: NDArray[Any]
        boxes = None
        read = datasets.read_images(file)
        if read is not None:
            images = read
            if self.model.stage.takes_bytes:
                images = as_bytes(file, {"images": images})["images"]
        elif self.prepare:
            images, boxes = self._prepared(file)
        else:
            images = self._picture(file)
        _, height, width = self.model.input_shape
        if images.ndim == 2 and images.shape[0] <= height and images.shape[1] <= width:
            images = images[np.newaxis]
        if self.invert and not self.prepare:
            if images.dtype != np.uint8:
                raise CommandError(
                    f"--invert: {file} holds {images.dtype} images, expected uint8"
                )
            images = 255 - images
        return images, boxes

    def _prepared(self, file: str) -> tuple[NDArray[np.uint8], list[Box] | None]:
        size = self.model.source[0]
        boxes = None
        if self.many:
            signs = prepare_many(file, size)
            boxes = [sign.box for sign in signs]
            images = [sign.image for sign in signs]
        else:
            try:
                images = [prepare(file, size)]
            except NothingFound:
                images = []
        if not images:
            say(f"lenet5c: note: {file}: nothing is found on it, it is blank")
        found = np.array(images, np.uint8).reshape(-1, 1, size, size)
        # light on black, as the model was trained on, or the other way round; of floats
        # the model does not know which it was
        light = self.model.stage.mean > 0.5 or self.invert
        return (255 - found if light else found), boxes

    def _picture(self, file: str) -> NDArray[np.uint8]:
        """A picture as uint8 (1, C, H, W), no larger than the model's images."""
        model = self.model
        try:
            picture = read_picture(Path(file), model.source, model.input_shape[0])
        except ImportError:
            raise CommandError(
                f"{file}: neither .npy, .npz, .csv nor IDX; other images need Pillow: "
                "pip install 'lenet5c[images]'"
            ) from None
        except ValueError as error:
            raise CommandError(
                f"{error}; .npy, .npz, .csv and IDX are read too"
            ) from error
        edges = (picture[..., [0, -1], :], picture[..., [0, -1]])
        light = sum(edge.mean() for edge in edges) > 255
        dark = not model.trained_on_floats and model.stage.mean < 0.5
        if picture.min() == picture.max():
            say(f"lenet5c: note: {file} is blank, all of its pixels are equal")
        elif light and not self.invert and dark:
            say(
                f"lenet5c: note: {file} has light edges, the model was trained on dark "
                "images: --prepare finds the sign on it, --invert swaps light and dark"
            )
        return picture[np.newaxis]
