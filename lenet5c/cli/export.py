"""`lenet5c export`: a model as ONNX, as C source or as a page to draw on."""

import argparse
from pathlib import Path
from typing import Any

from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_data, data_of
from lenet5c.cli.errors import DONE, CommandError
from lenet5c.cli.output import print_json, writable_path
from lenet5c.model import load_floats

NAME = "export"
SUMMARY = "Write a model as ONNX, as C source, or as an HTML page to draw on."
EXAMPLES = (
    "lenet5c export lenet5.lenet5c --to onnx",
    "lenet5c export mnist.lenet5c --to c --output digits.h --name digits",
    "lenet5c export mnist.lenet5c --to c-int8 --data mnist",
    "lenet5c export mnist.lenet5c --to page --data mnist --title Digits",
)

# what follows the model's name in that of an exported file
EXPORTS = {
    "onnx": ".onnx",
    "c": ".h",
    "c-int8": "_int8.h",
    "page": ".html",
    "page-int8": "_int8.html",
}
MAX_CALIBRATION_IMAGES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--to",
        choices=EXPORTS,
        required=True,
        help="onnx: images to probabilities; c: one C99 file; c-int8: one with "
        "integers alone, calibrated on training images of --data, tested on its test "
        "images; page: one HTML file to draw on, with the hardest test images of "
        "--data if that is given; page-int8: the same of what c-int8 computes",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where to write it (default: MODEL with .onnx, .h, .html, _int8.h "
        "or _int8.html)",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="what all names in the C file begin with (default: network)",
    )
    parser.add_argument(
        "--title", metavar="TEXT", help="the heading of the page (default: its classes)"
    )
    add_data(parser, None)


def run(args: argparse.Namespace) -> int:
    model_path = Path(args.model)
    output = args.output or str(
        model_path.with_name(model_path.stem + EXPORTS[args.to])
    )
    path = writable_path(output)
    if args.name is not None and args.to not in ("c", "c-int8"):
        raise CommandError("--name belongs to --to c and --to c-int8; others have none")
    if args.title is not None and args.to not in ("page", "page-int8"):
        raise CommandError("--title belongs to --to page and --to page-int8")
    model = load_floats(args.model)
    if path.exists() and path.samefile(args.model):
        raise CommandError(f"--output {output} is the model itself")
    facts: dict[str, Any] = {"model": args.model, "to": args.to, "output": output}
    name = "network" if args.name is None else args.name
    quality = None
    if args.to == "onnx":
        model.export_onnx(path)
    elif args.to == "c":
        model.export_c(path, name=name)
    elif args.to == "page":
        examples = None if args.data is None else data_of(args, model)[1].test
        model.export_page(path, title=args.title, examples=examples)
    else:
        source, data = data_of(args, model)
        examples = None if args.data is None else data.test
        images = data.train.images
        step = -(-len(images) // MAX_CALIBRATION_IMAGES)
        quantized = model.quantize(images[::step])
        quality = quantized.report(*data.test)
        if args.to == "c-int8":
            quantized.export_c(path, name=name)
        else:
            quantized.export_page(path, title=args.title, examples=examples)
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
