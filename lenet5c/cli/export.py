"""`lenet5c export`: a model as ONNX, as C source or as a page to draw on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_data, data_of
from lenet5c.cli.errors import DONE, CommandError
from lenet5c.cli.output import INT8, path_beside, print_json
from lenet5c.cli.quantize import quantized_with
from lenet5c.model import Model, load

if TYPE_CHECKING:
    from lenet5c.deploy.quantize import QuantizedModel

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
    "c-int8": f"{INT8}.h",
    "page": ".html",
    "page-int8": f"{INT8}.html",
}
INTEGERS = ("c-int8", "page-int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--to",
        choices=EXPORTS,
        required=True,
        help="onnx: images to probabilities; c: one C99 file; c-int8: one with "
        "integers alone, those of a MODEL that `quantize` has written, or else made as "
        "it does; page: one HTML file to draw on, with the hardest test images of "
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
    path = path_beside(args.model, EXPORTS[args.to], args.output)
    if args.name is not None and args.to not in ("c", "c-int8"):
        raise CommandError("--name belongs to --to c and --to c-int8; others have none")
    if args.title is not None and args.to not in ("page", "page-int8"):
        raise CommandError("--title belongs to --to page and --to page-int8")
    name = "network" if args.name is None else args.name
    model = load(args.model)
    facts: dict[str, Any] = {"model": args.model, "to": args.to, "output": str(path)}
    said = ""
    if args.to in INTEGERS:
        found, said = _export_integers(args, model, path, name)
        facts |= found
    elif isinstance(model, Model):
        _export_floats(args, model, path, name)
    else:
        raise CommandError(
            f"--to {args.to}: {args.model} is in 8-bit integers, which are not made "
            "floats again; expected " + " or ".join(INTEGERS)
        )
    facts["bytes"] = path.stat().st_size
    if args.json:
        print_json(facts)
        return DONE
    if said:
        print(f"{said}\n")
    print(f"Written to {path}, {facts['bytes']:,} bytes")
    return DONE


def _export_floats(
    args: argparse.Namespace, model: Model, path: Path, name: str
) -> None:
    if args.to == "onnx":
        model.export_onnx(path)
    elif args.to == "c":
        model.export_c(path, name=name)
    else:
        examples = None if args.data is None else data_of(args, model)[1].test
        model.export_page(path, title=args.title, examples=examples)


def _export_integers(
    args: argparse.Namespace, model: "Model | QuantizedModel", path: Path, name: str
) -> tuple[dict[str, Any], str]:
    """Write it, of a model in floats once that is quantised; return what --json, and
    what people are told of its quality."""
    facts: dict[str, Any] = {}
    said, examples = "", None
    if isinstance(model, Model) or args.data is not None:
        source, data = data_of(args, model)
        examples = None if args.data is None else data.test
        if isinstance(model, Model):
            model, quality, facts = quantized_with(model, data)
            said = str(quality)
        else:
            found, count = model.evaluate(*data.test), len(data.test.images)
            facts = {"test_images": count, "test_accuracy": found.accuracy}
            said = f"accuracy {found.accuracy:.2%} in int8, on {count:,} images"
        facts["data"] = source
    if args.to == "c-int8":
        model.export_c(path, name=name)
    else:
        model.export_page(path, title=args.title, examples=examples)
    return facts, said
