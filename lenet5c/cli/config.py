"""`lenet5c config`: what a C compiler is told."""

import argparse
from pathlib import Path

from lenet5c._support.build import __version__, get_include
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json

NAME = "config"
SUMMARY = "Show what a C program that runs models is compiled with."
EXAMPLES = ("lenet5c config --cflags --libs",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cflags", action="store_true", help="where the header is, for the compiler"
    )
    parser.add_argument(
        "--libs", action="store_true", help="the C source to compile and link"
    )


def run(args: argparse.Namespace) -> int:
    include = Path(get_include())
    facts = {"cflags": f"-I{include}", "libs": str(include / "lenet5c.c")}
    if args.json:
        print_json({**facts, "include": str(include), "version": __version__})
        return DONE
    wanted = [name for name in facts if getattr(args, name)] or list(facts)
    print(*(facts[name] for name in wanted))
    return DONE
