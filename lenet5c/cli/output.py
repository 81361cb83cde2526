"""What commands write: messages on stderr, tables and JSON on stdout, files."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet5c.cli.errors import CommandError

INT8 = "_int8"  # in the names of files of integers
PICTURES = (".png", ".svg", ".pdf")
# rich draws a table of a few hundred rows in no time, but not one of 10,000.
MAX_ROWS_DRAWN = 500


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> None:
    """Print a table, its first `left` columns to the left, the others to the right.

    rich draws it on a terminal; elsewhere it is plain aligned text.
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if sys.stdout.isatty() and len(rows) <= MAX_ROWS_DRAWN:
        try:
            _draw_table(columns, rows, sum(widths) + 2 * len(widths), left)
            return
        except ImportError:
            pass
    for row in (columns, *rows):
        cells = [
            *map(str.ljust, row[:left], widths),
            *map(str.rjust, row[left:], widths[left:]),
        ]
        print(*cells, sep="  ")


def _draw_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, left: int
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(
        box=box.SIMPLE_HEAD,  # has one blank between columns
        padding=(0, 1 if width <= console.width else 0, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(
            Text(column),
            justify="left" if len(table.columns) < left else "right",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def writable_path(output: str, option: str = "--output") -> Path:
    """Refuse now what could not be written in the end."""
    path = Path(output)
    if path.is_dir():
        raise CommandError(f"{option} {output} is a folder, expected a file name")
    if not path.parent.is_dir():
        raise CommandError(f"{option} {output}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise CommandError(f"{option} {output}: cannot write into {path.parent}")
    return path


def path_beside(model: str, suffix: str, output: str | None) -> Path:
    """Where to write what is made of a model file: to `output`, or beside the file, by
    its name with another suffix, `_int8` once; refuse what could not be written, or is
    the file."""
    stem = Path(model).stem
    if suffix.startswith(INT8):
        stem = stem.removesuffix(INT8)
    beside = Path(model).with_name(stem + suffix)
    path = writable_path(output or str(beside))
    if path.exists() and Path(model).exists() and path.samefile(model):
        raise CommandError(f"--output {path} is the model itself")
    return path


def picture_path(output: str, option: str = "--output") -> Path:
    """Refuse now a picture that could not be drawn or written in the end."""
    from lenet5c.report.canvas import require_matplotlib

    path = writable_path(output, option)
    if path.suffix.lower() not in PICTURES:
        raise CommandError(
            f"{option} {output}: expected a name that ends in " + " or ".join(PICTURES)
        )
    require_matplotlib()
    return path
