"""`lenet5c report`: a page with pictures of a model."""

import argparse
from pathlib import Path

from lenet5c.cli.data import add_data, add_split, data_of, split_of
from lenet5c.cli.errors import DONE, CommandError
from lenet5c.cli.output import print_json, say, writable_path
from lenet5c.interfaces import AnyModel
from lenet5c.model import load
from lenet5c.training.options import add_flag

NAME = "report"
SUMMARY = "Write a page with pictures: how good a model is, and where it fails."
EXAMPLES = (
    "lenet5c report lenet5.lenet5c",
    "lenet5c report mnist.lenet5c --data mnist --history run.jsonl --output mnist",
    "lenet5c report before.lenet5c after.lenet5c --data mnist",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a file that `train` or `quantize` has written; several are compared "
        "with the first",
    )
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
        help="for learning curves: what `train --log` wrote, or History.to_json "
        "(default: what the model remembers)",
    )
    parser.add_argument(
        "--title", metavar="TEXT", help="default: names of the model and the data"
    )
    add_flag(parser, "threads")


def run(args: argparse.Namespace) -> int:
    from lenet5c.report.comparison import write_comparison
    from lenet5c.report.page import page_path, write_report

    if args.history is not None and len(args.models) > 1:
        raise CommandError("--history: expected one model, got several")
    page = page_path(args.output)
    writable_path(str(page if page.parent.is_dir() else args.output))
    replaced = page.exists()
    models: dict[str, AnyModel] = {
        name: load(name) for name in dict.fromkeys(args.models)
    }
    args.model, model = next(iter(models.items()))
    if args.data is None:
        _check_same_data(models)
    source, data = data_of(args, model)
    split = split_of(args, data)
    files = data.files.get(args.split) or None
    images = f"the {len(split.images):,} {args.split} images of {data.name}"
    options = {"files": files, "threads": args.threads, "progress": say}
    if len(models) == 1:
        title = args.title or f"{Path(args.model).name} on {images}"
        page = write_report(model, *split, args.output, args.history, title, **options)
    else:
        named = _short_names(models)
        title = args.title or f"{', '.join(named)} on {images}"
        page = write_comparison(named, *split, args.output, title, **options)
    pictures = sorted(page.with_name(f"{page.stem}_files").glob("*.png"))
    if args.json:
        which = {"model": args.model} if len(models) == 1 else {"models": list(models)}
        print_json(
            {
                **which,
                "data": source,
                "split": args.split,
                "images": len(split.images),
                "page": str(page),
                "pictures": [str(picture) for picture in pictures],
            }
        )
        return DONE
    folder = page.with_name(f"{page.stem}_files")
    print(
        f"Report written to {page}, its pictures to {folder}"
        + ", in place of those that were there" * replaced
    )
    return DONE


def _short_names(models: dict[str, AnyModel]) -> dict[str, AnyModel]:
    """The models by the names of their files, by the paths where two are the same."""
    names = [Path(path).name for path in models]
    return {
        name if names.count(name) == 1 else path: model
        for name, (path, model) in zip(names, models.items(), strict=True)
    }


def _check_same_data(models: dict[str, AnyModel]) -> None:
    """Refuse to choose between the data of several models."""
    first, *others = models
    for other in others:
        sources = models[first].trained_on, models[other].trained_on
        if sources[0] != sources[1]:
            raise CommandError(
                f"--data: {first} was trained on {sources[0] or 'unknown data'}, "
                f"{other} on {sources[1] or 'unknown data'}; expected the data as well"
            )
