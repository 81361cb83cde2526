"""Types of argument values, and the arguments that several commands have."""

import argparse
import math
from dataclasses import fields
from typing import Any

from lenet5c._support.flags import DECAY, SHARE, number
from lenet5c.cli.errors import CommandError
from lenet5c.data.augment import Augment

PROBABILITY = number(float, "a probability from 0 to 1", lambda x: 0 <= x <= 1)


def names(text: str) -> list[str]:
    """Return the names between the commas."""
    found = [name.strip() for name in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(
            f"expected different names with commas between them, not {text!r}"
        )
    return found


def size(text: str) -> tuple[int, int]:
    """Return (rows, columns)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(
            f"expected PIXELS or ROWSxCOLUMNS, as 64 or 48x64, not {text!r}"
        )
    return int(sides[0]), int(sides[-1])


def elastic(text: str) -> float | tuple[float, float]:
    """Return ALPHA or (ALPHA, SIGMA)."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or not all(0 <= x < math.inf for x in numbers):
        raise argparse.ArgumentTypeError(
            f"expected ALPHA or ALPHA,SIGMA, not below 0, not {text!r}"
        )
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def add_model(
    parser: argparse.ArgumentParser,
    which: str = "a file that `train` or `quantize` has written",
) -> None:
    parser.add_argument("model", metavar="MODEL", help=which)


def add_augmentation(group: argparse._ArgumentGroup) -> None:
    usual = Augment()
    group.add_argument(
        "--shift",
        type=DECAY,
        metavar="PIXELS",
        help=f"most pixels in each direction (default: {usual.shift:g})",
    )
    group.add_argument(
        "--rotate",
        type=DECAY,
        metavar="DEGREES",
        help=f"most degrees, either way (default: {usual.rotate:g})",
    )
    group.add_argument(
        "--scale",
        type=SHARE,
        metavar="SHARE",
        help=f"most change of size, either way (default: {usual.scale:g})",
    )
    group.add_argument(
        "--shear",
        type=DECAY,
        metavar="DEGREES",
        help=f"most degrees, either way (default: {usual.shear:g})",
    )
    group.add_argument(
        "--squeeze",
        type=SHARE,
        metavar="SHARE",
        help="most change of the width, which the height undoes "
        f"(default: {usual.squeeze:g})",
    )
    group.add_argument(
        "--elastic",
        type=elastic,
        metavar="ALPHA[,SIGMA]",
        help="elastic distortion, as 34,4 (default: none)",
    )
    group.add_argument(
        "--noise",
        type=DECAY,
        metavar="DEVIATION",
        help="of each pixel: 0.1 is a tenth of their range (default: 0)",
    )
    group.add_argument(
        "--erase",
        type=PROBABILITY,
        metavar="P",
        help="probability that a rectangle is wiped out (default: 0)",
    )
    group.add_argument(
        "--probability",
        type=PROBABILITY,
        metavar="P",
        help="that an image is changed at all (default: 1)",
    )


def augmentation_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers of augmentation that were given, once they are good."""
    given = {field.name: getattr(args, field.name) for field in fields(Augment)}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        Augment(**given)
    except (ValueError, TypeError) as error:
        raise CommandError(f"--{error}") from error
    return given
