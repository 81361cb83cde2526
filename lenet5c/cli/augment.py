"""`lenet5c augment`: a picture of what augmentation makes of images."""

import argparse
import math
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.flags import number
from lenet5c._support.text import counted
from lenet5c.cli.arguments import add_augmentation, augmentation_of
from lenet5c.cli.data import add_data
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import picture_path, print_json
from lenet5c.data import datasets
from lenet5c.data.augment import Augment
from lenet5c.training.options import add_flag

NAME = "augment"
SUMMARY = "Draw images, each in a row with what augmentation makes of it."
EXAMPLES = (
    "lenet5c augment",
    "lenet5c augment --data mnist --shift 0 --elastic 34,4 --output elastic.png",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data(parser, "digits", pictures=False)
    parser.add_argument(
        "--output",
        default="augmented.png",
        metavar="FILE",
        help="where to write the picture, as PNG, SVG or PDF (default: augmented.png)",
    )
    parser.add_argument(
        "--count",
        type=number(int, "a whole number from 1 to 50", lambda x: 1 <= x <= 50),
        default=6,
        metavar="N",
        help="how many images, of each class in turn (default: 6)",
    )
    parser.add_argument(
        "--variants",
        type=number(int, "a whole number from 1 to 16", lambda x: 1 <= x <= 16),
        default=8,
        metavar="V",
        help="how many of each, as of the epochs 1, 2, ... (default: 8)",
    )
    add_flag(parser, "seed", default=0, help="as in train (default: 0)")
    add_augmentation(parser.add_argument_group("augmentation"))


def run(args: argparse.Namespace) -> int:
    from lenet5c.report.images import plot_augmented

    output = picture_path(args.output)
    augment = Augment(**augmentation_of(args))
    images, labels = datasets.load(args.data).train
    if images.ndim == 2:  # flat: as square
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), side, side)
    chosen = _of_each_class(labels)[: args.count]
    plot_augmented(
        images[chosen], augment, output, variants=args.variants, seed=args.seed
    )
    if args.json:
        print_json(
            {
                "data": args.data,
                "output": str(output),
                "images": chosen.tolist(),
                "labels": labels[chosen].tolist(),
                "variants": args.variants,
                "seed": args.seed,
                "augment": asdict(augment),
            }
        )
        return DONE
    print(f"{counted(len(chosen), 'image')} with {args.variants} variants: {output}")
    return DONE


def _of_each_class(labels: NDArray[np.generic]) -> NDArray[np.intp]:
    """Return the order of the images in which each class has its turn."""
    _, codes = np.unique(labels, return_inverse=True)
    rank = np.zeros(len(codes), np.intp)  # how many of its class come before it
    for code in range(codes.max() + 1):
        of_class = codes == code
        rank[of_class] = np.arange(of_class.sum())
    return np.lexsort((codes, rank))
