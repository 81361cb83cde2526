"""`lenet5c report`: a page with pictures of a model."""

import argparse
from pathlib import Path

from lenet5c.cli.arguments import add_model
from lenet5c.cli.data import add_data, add_split, data_of, split_of
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json, say, writable_path
from lenet5c.model import load
from lenet5c.training.options import add_flag

NAME = "report"
SUMMARY = "Write a page with pictures: how good a model is, and where it fails."
EXAMPLES = (
    "lenet5c report lenet5.lenet5c",
    "lenet5c report mnist.lenet5c --data mnist --history run.jsonl --output mnist",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser, None)
    add_split(parser)
    parser.add_argument(
        "--output",
        default="report.html",
        metavar="PATH",
        help="NAME.html, or a folder for report.html; its pictures also go into "
        "NAME_files beside it (default: report.html)",
    )
    parser.add_argument(
        "--history",
        metavar="FILE",
        help="for learning curves: what `train --log` wrote, or History.to_json",
    )
    parser.add_argument(
        "--title", metavar="TEXT", help="default: names of the model and the data"
    )
    add_flag(parser, "threads")


def run(args: argparse.Namespace) -> int:
    from lenet5c.report.page import page_path, write_report

    page = page_path(args.output)
    writable_path(str(page if page.parent.is_dir() else args.output))
    model = load(args.model)
    source, data = data_of(args, model)
    split = split_of(args, data)
    title = args.title
    if title is None:
        images = f"the {len(split.images):,} {args.split} images of {data.name}"
        title = f"{Path(args.model).name} on {images}"
    page = write_report(
        model,
        *split,
        args.output,
        history=args.history,
        title=title,
        threads=args.threads,
        progress=say,
    )
    pictures = sorted(page.with_name(f"{page.stem}_files").glob("*.png"))
    if args.json:
        print_json(
            {
                "model": args.model,
                "data": source,
                "split": args.split,
                "images": len(split.images),
                "page": str(page),
                "pictures": [str(picture) for picture in pictures],
            }
        )
        return DONE
    print(f"Report written to {page}, its pictures to {pictures[0].parent}")
    return DONE
