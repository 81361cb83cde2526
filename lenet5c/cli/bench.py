"""`lenet5c bench`: the speed of this machine."""

import argparse

from lenet5c._support.text import counted
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json, print_table, say
from lenet5c.model import load
from lenet5c.networks import NETWORKS
from lenet5c.training.options import add_flag

NAME = "bench"
SUMMARY = "Measure training and prediction on this machine, without data."
EXAMPLES = (
    "lenet5c bench",
    "lenet5c bench --network cnn3 --threads 1",
    "lenet5c bench lenet5_int8.lenet5c",
)
UNITS = {"gflops": "GFLOP/s", "gops": "GOP/s"}  # of floats, of integers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a file that `train` or `quantize` has written: its prediction is "
        "measured, and no training",
    )
    which.add_argument(
        "--network", choices=NETWORKS, default="lenet5", help="default: lenet5"
    )
    add_flag(parser, "threads")


def run(args: argparse.Namespace) -> int:
    from lenet5c.cli.measure import noise_for, prediction_speeds, speeds

    def measured(line: str) -> None:
        say(f"measured {line}")

    if args.model is None:
        result = speeds(args.network, args.threads, measured)
    else:
        model = load(args.model)
        found = prediction_speeds(model, noise_for(model), args.threads, measured)
        result = {"model": args.model, **found}
    if args.json:
        print_json(result)
        return DONE
    unit = next(unit for unit in UNITS if unit in result["speeds"][0])
    rows = [
        [
            f"{of['what']}, batch {of['batch_size']}",
            f"{of['images_per_second']:,.0f}",
            f"{of[unit]:,.1f}",
        ]
        for of in result["speeds"]
    ]
    print_table([args.model or args.network, "images/s", UNITS[unit]], rows)
    print(f"\nOne image: {result['latency_seconds'] * 1e6:.1f} us.")
    print(f"Core {result['isa']}, {counted(result['threads'], 'thread')}.")
    return DONE
