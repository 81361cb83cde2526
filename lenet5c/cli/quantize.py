"""`lenet5c quantize`: a model in 8-bit integers, and what that costs."""

import argparse
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from lenet5c._support.flags import COUNT
from lenet5c._support.text import counted
from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_data, data_of
from lenet5c.cli.errors import DONE, CommandError
from lenet5c.cli.output import INT8, path_beside, print_json
from lenet5c.data.datasets import Dataset
from lenet5c.model import Model, load_floats

if TYPE_CHECKING:
    from lenet5c.deploy.quantize import QuantizationReport, QuantizedModel

NAME = "quantize"
SUMMARY = "Write a model in 8-bit integers, and say what that costs."
EXAMPLES = (
    "lenet5c quantize lenet5.lenet5c",
    "lenet5c quantize mnist.lenet5c --data mnist --calibration 200 -o small.lenet5c",
    "lenet5c quantize mnist.lenet5c --bits 4",
)

MAX_CALIBRATION_IMAGES = 1000
SUFFIX = f"{INT8}.lenet5c"  # behind the model's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "a file that `train` has written")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help=f"where to write the model (default: MODEL with {SUFFIX})",
    )
    parser.add_argument(
        "--calibration",
        type=COUNT,
        default=MAX_CALIBRATION_IMAGES,
        metavar="N",
        help="how many training images, at most, decide how large the numbers of each "
        f"layer may become (default: {MAX_CALIBRATION_IMAGES})",
    )
    parser.add_argument(
        "--bits",
        choices=("8", "4", "2", "ternary"),
        help="how few of them weights have (default: those that the model was trained "
        "for by `train --quantize`, or else 8)",
    )
    add_data(parser, None)


def run(args: argparse.Namespace) -> int:
    model = load_floats(args.model)
    path = path_beside(args.model, SUFFIX, args.output)
    source, data = data_of(args, model)
    quantized, quality, facts = quantized_with(model, data, args.calibration, args.bits)
    replaced = path.exists()
    quantized.save(path)
    size = path.stat().st_size
    if args.json:
        print_json(
            {
                "model": args.model,
                "data": source,
                "output": str(path),
                "replaced": replaced,
                "bits": quantized.bits.weights,
                **facts,
                "bytes": size,
            }
        )
        return DONE
    images = counted(facts["calibration_images"], "training image")
    print(
        f"{quality}\n\n"
        f"Calibrated on {images} of {data.name}.\n"
        f"The file has {size:,} bytes, that in floats has "
        f"{os.path.getsize(args.model):,}.\n"
        f"Model written to {path}" + ", in place of the file that was there" * replaced
    )
    return DONE


def quantized_with(
    model: Model,
    data: Dataset,
    most: int = MAX_CALIBRATION_IMAGES,
    bits: str | None = None,
) -> "tuple[QuantizedModel, QuantizationReport, dict[str, Any]]":
    """Calibrate with `most` training images from all over the data, and test.

    Returns
    -------
    QuantizedModel
    QuantizationReport
        Of the test images.
    dict
        What --json says of both.
    """
    images = data.train.images
    if images.dtype != np.uint8:
        raise CommandError(
            "integers are made and tested with pixels of uint8, those of "
            f"{data.name} are {images.dtype}"
        )
    calibration = images[:: -(-len(images) // most)]
    quantized = model.quantize(calibration, bits=bits)
    quality = quantized.report(*data.test)
    return (
        quantized,
        quality,
        {
            "calibration_images": len(calibration),
            "test_images": quality.images,
            "test_accuracy_float32": quality.float_accuracy,
            "test_accuracy": quality.accuracy,
            "agreement": quality.agreement,
            "weight_bytes": quality.weight_bytes,
            "activation_bytes": quality.activation_bytes,
            "signal_to_noise": {  # in dB; null where nothing is lost
                name: ratio if math.isfinite(ratio) else None
                for name, ratio in quality.layers
            },
        },
    )
