"""`lenet5c compare`: networks side by side, as a table and a picture."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lenet5c._support.build import build_info
from lenet5c._support.flags import COUNT
from lenet5c.cli.arguments import names
from lenet5c.cli.data import add_data
from lenet5c.cli.errors import CHECK_FAILED, DONE, INTERRUPTED, CommandError
from lenet5c.cli.output import picture_path, print_json, print_table, say
from lenet5c.data.datasets import Dataset
from lenet5c.networks import NETWORKS
from lenet5c.training.options import add_flag

NAME = "compare"
SUMMARY = "Train networks, each in a process of its own, and measure them."
EXAMPLES = (
    "lenet5c compare --data mnist",
    "lenet5c compare --data mnist --networks lenet5,mlp --seeds 5 --plot mnist.png",
    "lenet5c compare --data mnist --networks lenet5,mine.py:network,old.lenet5c",
)
OF_THE_ARTICLE = [name for name in NETWORKS if name != "lenet5-1998"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_data(parser, "digits", pictures=False)
    parser.add_argument(
        "--networks",
        type=names,
        default=OF_THE_ARTICLE,
        metavar="NAME,...",
        help=f"any of {', '.join(NETWORKS)}, each trained with its recipe; model "
        "files, which are not trained; Python functions that return a Model, as "
        "module:function or file.py:function, trained as `train` does (default: "
        f"{','.join(OF_THE_ARTICLE)}; on 60,000 images resnet18 takes minutes)",
    )
    add_flag(parser, "epochs", help="default: those of the recipes")
    parser.add_argument(
        "--seeds",
        type=COUNT,
        default=1,
        metavar="N",
        help="train with the seeds 0 to N-1; show means, and the standard deviation "
        "of the accuracy (default: 1)",
    )
    add_flag(
        parser,
        "validation",
        help="hold out this share of the training images and measure on them; the "
        "test images are left alone, as they should be while recipes are chosen",
    )
    add_flag(parser, "threads")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw accuracy against training time, as PNG, SVG or PDF",
    )


def run(args: argparse.Namespace) -> int:
    from lenet5c.cli import comparison, comparison_chart

    trained = _check_networks(args)
    if args.plot is not None:
        if not trained:
            raise CommandError("--plot needs a network that is trained")
        picture_path(args.plot, "--plot")
    data = comparison.load_data(args.data, args.validation)
    measured_on = "test" if args.validation is None else "held-out"
    say(
        f"{data.name}: {len(data.train.images):,} training images, "
        f"{len(data.test.images):,} {measured_on} images"
    )
    rows, interrupted = _rows(args, trained)
    if not rows:
        raise KeyboardInterrupt
    if args.json:
        facts = _facts(args, data, measured_on)
        print_json({**facts, "interrupted": interrupted, "networks": rows})
    else:
        _print_rows(rows, args.seeds)
    if args.plot is not None and comparison_chart.drawable(rows):
        comparison_chart.plot(rows, args.plot, measured_on)
        say(f"Picture written to {args.plot}")
    if interrupted:
        say("\r" * sys.stderr.isatty() + "lenet5c: interrupted")
        return INTERRUPTED
    return CHECK_FAILED if any(row["error"] is not None for row in rows) else DONE


def _check_networks(args: argparse.Namespace) -> list[str]:
    """Return those of --networks that are trained, once all of them can be."""
    from lenet5c.cli.comparison import kind_of

    trained = []
    for network in args.networks:
        try:
            kind = kind_of(network)
        except ValueError as error:
            raise CommandError(f"--networks: {error}") from error
        if kind != "model":
            trained.append(network)
        elif args.validation is not None:
            raise CommandError(
                f"--validation: {network} is not trained here, and may know the images "
                "held out"
            )
    return trained


def _rows(
    args: argparse.Namespace, trained: Sequence[str]
) -> tuple[list[dict[str, Any]], bool]:
    """Measure the networks; return a row for each, and whether that was interrupted."""
    from lenet5c.cli.comparison import MeasurementError, summary

    rows = []
    interrupted = False
    for network in args.networks:
        runs: list[dict[str, Any]] = []
        error = None
        try:
            for seed in range(args.seeds if network in trained else 1):
                runs.append(_measure_one(args, network, seed))
        except MeasurementError as failure:
            error = str(failure)
        except KeyboardInterrupt:
            interrupted = True
        if runs or error is not None:
            rows.append(summary(network, runs, error, data=args.data))
        if interrupted:
            break
    return rows, interrupted


def _measure_one(args: argparse.Namespace, network: str, seed: int) -> dict[str, Any]:
    """Measure one network in a child process, with its progress on stderr."""
    from lenet5c._support.progress import ProgressBar
    from lenet5c.cli.comparison import Job, measure_in_child

    label = f"{network:{max(map(len, args.networks))}}"
    if args.seeds > 1:
        label += f"  seed {seed:{len(str(args.seeds - 1))}}"
    job = Job(network, args.data, seed, args.epochs, args.validation, args.threads)
    with ProgressBar(label) as bar:
        return measure_in_child(job, bar)


def _facts(args: argparse.Namespace, data: Dataset, measured_on: str) -> dict[str, Any]:
    info = build_info()
    return {
        "data": args.data,
        "training_images": len(data.train.images),
        "measured_on": measured_on,
        "measured_images": len(data.test.images),
        "seeds": args.seeds,
        "isa": info["isa"],
        "threads": args.threads or info["threads"],
    }


def _print_rows(rows: Sequence[dict[str, Any]], seeds: int) -> None:
    """Print a row for each network and, below it, what the article says of it, where
    that is of the same data."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "parameters": lambda of: f"{of['parameters']:,}",
        "accuracy": lambda of: f"{of['accuracy']:.2%}",
        "+-": lambda of: f"{100 * of['accuracy_deviation']:.2f}",
        "time": lambda of: _duration(of["training_seconds"]),
        "memory": lambda of: _megabytes(of["peak_memory_bytes"]),
        "train/s": lambda of: f"{of['training_images_per_second']:,.0f}",
        "predict/s": lambda of: f"{of['inference_images_per_second']:,.0f}",
        "file": lambda of: _short(of["model_bytes"] / 1e6),
    }
    if seeds == 1:
        del columns["+-"]
    cells = []
    for row in rows:
        shown = {"accuracy": "failed"}
        if row["error"] is None:
            known = set(columns)
            if row["training_seconds"] is None:
                known -= {"time", "memory", "train/s"}
            if row["accuracy_deviation"] is None:
                known.discard("+-")
            shown = {name: columns[name](row) for name in known}
        cells.append([row["network"], *(shown.get(name, "") for name in columns)])
        if row["article"] is not None:
            said = {
                "parameters": f"{row['article']['parameters']:,}",
                "accuracy": f"{row['article']['accuracy']:.1%} ",  # below the others
                "time": _duration(row["article"]["training_seconds"]),
            }
            cells.append(["  article", *(said.get(name, "") for name in columns)])
    print_table(["network", *columns], cells)
    means = f", means of {seeds} seeds" if seeds > 1 else ""
    print(f"\nTime of training, images a second, memory and file in MB{means}.")
    for row in rows:
        if row["error"] is not None:
            print(f"{row['network']} failed: {row['error']}")


def _short(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:,.0f}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:,.0f}"
