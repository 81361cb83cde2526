"""`lenet5c info`: the compiled core, the machine, the data at hand; or a model file."""

import argparse
import os
from typing import Any

import numpy as np

from lenet5c._support.build import build_info
from lenet5c._support.text import listing
from lenet5c.cli.errors import DONE
from lenet5c.cli.output import print_json
from lenet5c.data import datasets
from lenet5c.display import size_of
from lenet5c.model import Model, load

NAME = "info"
SUMMARY = "Show the compiled core, the machine, and which data is at hand."
EXAMPLES = (
    "lenet5c info",
    "lenet5c info lenet5_int8.lenet5c",
    "LENET5C_ISA=avx2 lenet5c info --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="tell about a file that `train` or `quantize` has written instead",
    )


def run(args: argparse.Namespace) -> int:
    if args.model is not None:
        return _tell_of(args)
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


def _tell_of(args: argparse.Namespace) -> int:
    """What is in a model file: sizes, what it was trained on, and its layers."""
    model = load(args.model)
    facts: dict[str, Any] = {
        "model": args.model,
        "bytes": os.path.getsize(args.model),
        "dtype": model.dtype,
        "input": list(model.input_shape),
        "images": list(model.source),
        "pixels": model.stage.kind,
        "classes": model.classes.tolist(),
        "trained_on": model.trained_on,
        "epochs": model.passes,
        "parameters": model.parameter_count,
        "multiply_adds": model.multiply_adds,
    }
    if not isinstance(model, Model):
        facts |= {
            "bits_of_weights": model.bits.weights,
            "weight_bytes": model.weight_bytes,
            "activation_bytes": model.activation_bytes,
        }
    if args.json:
        print_json(facts | {"summary": model.summary()})
        return DONE
    said = facts | {
        "input": size_of(model.input_shape),
        "images": "{}x{}".format(*model.source),
        "classes": f"{model.class_count:,}: {listing(map(str, facts['classes']))}",
        "trained_on": facts["trained_on"] or "unknown",
    }
    for name, value in said.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        print(f"{name.replace('_', ' '):18}{shown}")
    print(f"\n{model.summary()}")
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
