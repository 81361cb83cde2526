"""`lenet5c export`: a model as ONNX or as C source."""

import argparse
from pathlib import Path
from typing import Any

from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_data, data_of
from lenet5c.cli.errors import DONE, CommandError
from lenet5c.cli.output import print_json, writable_path
from lenet5c.model import load

NAME = "export"
SUMMARY = "Write a model as ONNX, or as C source for programs without lenet5c."
EXAMPLES = (
    "lenet5c export lenet5.lenet5c --to onnx",
    "lenet5c export mnist.lenet5c --to c --output digits.h --name digits",
    "lenet5c export mnist.lenet5c --to c-int8 --data mnist",
)

# what follows the model's name in that of an exported file
EXPORTS = {"onnx": ".onnx", "c": ".h", "c-int8": "_int8.h"}
MAX_CALIBRATION_IMAGES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--to",
        choices=EXPORTS,
        required=True,
        help="onnx: images to probabilities; c: one C99 file; c-int8: one with "
        "integers alone, calibrated on training images of --data, tested on its test "
        "images",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to write it (default: MODEL with .onnx, .h or _int8.h)",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="what all names in the C file begin with (default: network)",
    )
    add_data(parser, None)


def run(args: argparse.Namespace) -> int:
    model_path = Path(args.model)
    output = args.output or str(
        model_path.with_name(model_path.stem + EXPORTS[args.to])
    )
    path = writable_path(output)
    if args.name is not None and args.to == "onnx":
        raise CommandError("--name belongs to --to c and --to c-int8; onnx has none")
    model = load(args.model)
    if path.exists() and path.samefile(args.model):
        raise CommandError(f"--output {output} is the model itself")
    facts: dict[str, Any] = {"model": args.model, "to": args.to, "output": output}
    name = "network" if args.name is None else args.name
    quality = None
    if args.to == "onnx":
        model.export_onnx(path)
    elif args.to == "c":
        model.export_c(path, name=name)
    else:
        source, data = data_of(args, model)
        images = data.train.images
        step = -(-len(images) // MAX_CALIBRATION_IMAGES)
        quantized = model.quantize(images[::step])
        quality = quantized.report(*data.test)
        quantized.export_c(path, name=name)
        facts |= {
            "data": source,
            "calibration_images": len(images[::step]),
            "test_images": quality.images,
            "test_accuracy_float32": quality.float_accuracy,
            "test_accuracy": quality.accuracy,
            "agreement": quality.agreement,
            "weight_bytes": quality.weight_bytes,
            "activation_bytes": quality.activation_bytes,
        }
    facts["bytes"] = path.stat().st_size
    if args.json:
        print_json(facts)
        return DONE
    if quality is not None:
        print(f"{quality}\n")
    print(f"Written to {output}, {facts['bytes']:,} bytes")
    return DONE
