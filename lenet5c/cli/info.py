"""`lenet5c info`: the compiled core, the machine, the data at hand."""

import argparse
import os
from typing import Any

import numpy as np

from lenet5c._support.build import build_info
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json
from lenet5c.data import datasets

NAME = "info"
SUMMARY = "Show the compiled core, the machine, and which data is at hand."
EXAMPLES = ("lenet5c info", "LENET5C_ISA=avx2 lenet5c info --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""


def run(args: argparse.Namespace) -> int:
    import platform

    info: dict[str, Any] = {
        **build_info(),
        "cpu": _cpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "extras": _extras(),
        "data": _data_status(),
    }
    if args.json:
        print_json(info)
        return DONE
    for name, value in info.items():
        if isinstance(value, dict):
            facts = [(name, "")] + [
                (f"  {key}", item or "none") for key, item in value.items()
            ]
        else:
            facts = [(name, ", ".join(value) if isinstance(value, list) else value)]
        for key, item in facts:
            print(f"{key:17}{item}".rstrip())
    return DONE


def _cpu_name() -> str:
    import platform

    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _extras() -> dict[str, str | None]:
    """Return the versions of the optional packages, None where one is missing."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in ("rich", "Pillow", "matplotlib", "scikit-learn", "onnx"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _data_status() -> dict[str, str | None]:
    """Return where the data sets lie that may have to be fetched, None if nowhere."""
    status = {"LENET5C_DATA": os.environ.get("LENET5C_DATA")}
    for name in ("mnist", "fashion-mnist"):
        folder = datasets.find(name)
        status[name] = None if folder is None else str(folder)
    return status
