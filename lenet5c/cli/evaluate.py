"""`lenet5c evaluate`: how good a model is, and what it takes for what."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.flags import number
from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_data, add_split, data_of, split_of
from lenet5c.cli.errors import CHECK_FAILED, DONE
from lenet5c.cli.output import print_json, print_table, say
from lenet5c.data.datasets import Split
from lenet5c.interfaces import AnyModel
from lenet5c.model import load

NAME = "evaluate"
SUMMARY = "Test a model: loss, accuracy, and how each class was predicted."
EXAMPLES = (
    "lenet5c evaluate lenet5.lenet5c",
    "lenet5c evaluate mnist.lenet5c --data mnist --at-least 0.99",
)

MAX_MISTAKES = 10  # in a table
# A table of counts, class against class, that fits into 80 columns.
MAX_CLASSES_CROSSED = 12
PREDICTED_AT_ONCE = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser, None)
    add_split(parser)
    parser.add_argument(
        "--at-least",
        type=number(float, "a fraction from 0 to 1", lambda x: 0 <= x <= 1),
        metavar="ACCURACY",
        help="exit with 1 if the accuracy is below this fraction",
    )


def run(args: argparse.Namespace) -> int:
    model = load(args.model)
    source, data = data_of(args, model)
    split = split_of(args, data)
    found = model.evaluate(*split)
    mistakes = []
    if args.json or data.files:
        mistakes = _mistakes(model, split, data.files.get(args.split, []))
    passed = args.at_least is None or found.accuracy >= args.at_least
    if args.json:
        print_json(
            {
                "model": args.model,
                "data": source,
                "split": args.split,
                "images": len(split.images),
                "loss": found.loss,
                "accuracy": found.accuracy,
                "at_least": args.at_least,
                "passed": passed,
                "classes": model.classes.tolist(),
                "confusion": found.confusion.tolist(),
                "mistakes": mistakes,
            }
        )
    else:
        print_confusion(model.classes, found.confusion)
        if data.files and mistakes:
            _print_mistakes(mistakes)
        count = len(split.images)
        wrong = count - int(found.confusion.trace())
        print(
            f"\nAccuracy {found.accuracy:.2%} on {count:,} {args.split} images of "
            f"{data.name} ({wrong:,} wrong), loss {found.loss:.4f}."
        )
    if not passed:
        say(
            f"lenet5c: check failed: accuracy {found.accuracy:.4f} "
            f"is below {args.at_least:g}"
        )
        return CHECK_FAILED
    return DONE


def _mistakes(
    model: AnyModel, split: Split, files: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the images that are taken for something else, the surest first."""
    from lenet5c.data.images import encode_labels

    images, labels = split
    classes = model.classes
    _, codes = encode_labels(labels, len(images), len(classes), classes)
    found, sure = np.empty(len(codes), np.intp), np.empty(len(codes), np.float32)
    for start in range(0, len(codes), PREDICTED_AT_ONCE):
        part = slice(start, start + PREDICTED_AT_ONCE)
        probabilities = model.predict_proba(images[part])
        found[part] = probabilities.argmax(axis=1)
        sure[part] = probabilities.max(axis=1)
    wrong = np.flatnonzero(found != codes)
    return [
        {
            "index": int(at),
            **({"file": files[at]} if files else {}),
            "label": classes[codes[at]].item(),
            "class": classes[found[at]].item(),
            "probability": float(sure[at]),
        }
        for at in wrong[np.argsort(-sure[wrong], kind="stable")]
    ]


def _print_mistakes(mistakes: Sequence[dict[str, Any]]) -> None:
    """Print the files that were taken for something else, the surest first."""
    rows = []
    for one in mistakes[:MAX_MISTAKES]:
        names = [str(one[name]) for name in ("file", "label", "class")]
        rows.append([*names, f"{one['probability']:.2%}"])
    print("\nThe surest mistakes:\n")
    print_table(["file", "is", "taken for", "probability"], rows)


def print_confusion(classes: NDArray[Any], confusion: NDArray[Any]) -> None:
    """Print recall and precision of each class, and which classes it was taken for."""
    right = confusion.diagonal()
    recall = right / confusion.sum(axis=1).clip(min=1)
    precision = right / confusion.sum(axis=0).clip(min=1)
    names = [str(name) for name in classes]
    rows = []
    if len(names) <= MAX_CLASSES_CROSSED:
        print("How often each class (row) was predicted as each (column):\n")
        columns = ["", *names, "recall", "precision"]
        for k, name in enumerate(names):
            counts = [str(count) if count else "." for count in confusion[k]]
            rows.append([name, *counts, f"{recall[k]:.1%}", f"{precision[k]:.1%}"])
    else:
        columns = ["class", "images", "recall", "precision", "most often mistaken for"]
        for k, name in enumerate(names):
            wrong = confusion[k].copy()
            wrong[k] = 0
            other = int(wrong.argmax())
            rows.append(
                [
                    name,
                    f"{confusion[k].sum():,}",
                    f"{recall[k]:.1%}",
                    f"{precision[k]:.1%}",
                    f"{names[other]} ({wrong[other]:,})" if wrong[other] else "",
                ]
            )
    print_table(columns, rows)
