"""`lenet5c selftest`: whether this installation computes what it should."""

import argparse

from lenet5c._support.build import __version__
from lenet5c._support.text import counted
from lenet5c.cli.errors import CHECK_FAILED, DONE
from lenet5c.cli.output import print_json, print_table, say

NAME = "selftest"
SUMMARY = (
    "Check this installation in some seconds, without data: results, files, speed."
)
EXAMPLES = ("lenet5c selftest", "lenet5c selftest --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(args: argparse.Namespace) -> int:
    from lenet5c.cli.installation import FAILED, OK, results

    found = []
    for row in results():
        say(f"{row.check} ({row.core}): {row.result}")
        found.append(row)
    failed = [row for row in found if row.result == FAILED]
    if args.json:
        rows = [row._asdict() for row in found]
        print_json({"version": __version__, "failed": len(failed), "checks": rows})
    else:
        cells = [
            [row.check, row.core, row.compared, row.result, f"{row.seconds:.1f}"]
            for row in found
        ]
        print_table(["check", "core", "compared", "result", "seconds"], cells, left=3)
        print()
        for row in found:
            if row.result != OK or row.check == "speed":
                print(f"{row.check} ({row.core}), {row.result}: {row.message}")
        said = f"{counted(len(failed), 'check')} failed" if failed else "All is well"
        print(f"{said}, lenet5c {__version__}.")
    return CHECK_FAILED if failed else DONE
