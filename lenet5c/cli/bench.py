"""`lenet5c bench`: the speed of this machine."""

import argparse

from lenet5c._support.text import counted
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json, print_table, say
from lenet5c.networks import NETWORKS
from lenet5c.training.options import add_flag

NAME = "bench"
SUMMARY = "Measure training and prediction on this machine, without data."
EXAMPLES = ("lenet5c bench", "lenet5c bench --network cnn3 --threads 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network", choices=NETWORKS, default="lenet5", help="default: lenet5"
    )
    add_flag(parser, "threads")


def run(args: argparse.Namespace) -> int:
    from lenet5c.cli.measure import speeds

    result = speeds(args.network, args.threads, lambda line: say(f"measured {line}"))
    if args.json:
        print_json(result)
        return DONE
    rows = [
        [
            f"{of['what']}, batch {of['batch_size']}",
            f"{of['images_per_second']:,.0f}",
            f"{of['gflops']:,.1f}",
        ]
        for of in result["speeds"]
    ]
    print_table([args.network, "images/s", "GFLOP/s"], rows)
    print(f"\nOne image: {result['latency_seconds'] * 1e6:.1f} us.")
    print(f"Core {result['isa']}, {counted(result['threads'], 'thread')}.")
    return DONE
