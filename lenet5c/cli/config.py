"""`lenet5c config`: what a C compiler, CMake and pkg-config are told."""

import argparse
import shlex
from pathlib import Path

from lenet5c._support.build import __version__, get_include
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json

NAME = "config"
SUMMARY = "Show what a C program that runs models is compiled with."
EXAMPLES = (
    "lenet5c config --cflags --libs",
    'cmake -B build -Dlenet5c_DIR="$(lenet5c config --cmakedir)"',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cflags", action="store_true", help="where the header is, for the compiler"
    )
    parser.add_argument(
        "--libs", action="store_true", help="the C source to compile and link"
    )
    parser.add_argument(
        "--cmakedir", action="store_true", help="folder for CMake's lenet5c_DIR"
    )
    parser.add_argument(
        "--pkgconfigdir", action="store_true", help="folder for PKG_CONFIG_PATH"
    )


def run(args: argparse.Namespace) -> int:
    include = Path(get_include())
    flags = {
        "cflags": shlex.quote(f"-I{include}"),  # blanks, for `eval` and CFLAGS
        "libs": shlex.quote(str(include / "lenet5c.c")),
    }
    folders = {
        "cmakedir": str(include / "cmake"),
        "pkgconfigdir": str(include / "pkgconfig"),
    }
    facts = flags | folders
    if args.json:
        print_json({**facts, "include": str(include), "version": __version__})
        return DONE
    wanted = [name for name in facts if getattr(args, name)] or list(flags)
    print(*(facts[name] for name in wanted))
    return DONE
