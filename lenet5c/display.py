"""How objects show themselves: HTML in notebooks, tables of rich in terminals.

Notebooks ask an object for `_repr_html_`, rich for `__rich__`; both are made of its
`Table`. The HTML needs no style sheet and no script, and takes its colours from the
page, which may be light or dark. All text in it is escaped.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lenet5c.layers import (
    Activation,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2d,
    RadialBasis,
    Residual,
    Subsampling2d,
)
from lenet5c.layers.base import Shape

if TYPE_CHECKING:
    from rich.console import Group

__all__ = [
    "Cell",
    "Displayed",
    "Field",
    "Table",
    "brief",
    "cut",
    "drawing",
    "html_of",
    "size_of",
    "strip",
    "text_of",
]

# Okabe and Ito 2008, so that colour-blind people see the same. They are laid over the
# page's own colour, so thinly that its text can be read on them.
BLUE, VERMILLION, GREEN = "0,114,178", "213,94,0", "0,158,115"
THICKEST = 0.5

# Of the drawing, in pixels: from one line of text, card and box to the next.
LINE, CARD, BETWEEN = 14, 3, 18
LETTER = 6.2  # the mean of a text
MOST_CARDS = 6
LONGEST_NAME = 18  # characters


class Cell(NamedTuple):
    """A field of a table that is more than its text.

    Attributes
    ----------
    text : str
    shade : float
        From 0 to 1, how strongly the field is coloured.
    colour : str
    html : str
        HTML to show in place of the text.
    """

    text: str
    shade: float = 0.0
    colour: str = BLUE
    html: str = ""


Field = str | Cell


class Table(NamedTuple):
    """What is shown of an object.

    Attributes
    ----------
    title : str
    columns : sequence of str or Cell
    rows : sequence of sequences of str or Cell
    total : sequence of str or Cell
        A last row, or nothing.
    texts : int
        How many columns are text, to the left; the others are numbers, to the right.
    """

    title: str
    columns: Sequence[Field]
    rows: Sequence[Sequence[Field]]
    total: Sequence[Field] = ()
    texts: int = 1


class Displayed:
    """Base of objects that show themselves: they say their table."""

    __slots__ = ()

    def _table(self) -> Table:
        raise NotImplementedError

    def _drawn(self) -> str:
        """HTML to put between the title and the table."""
        return ""

    def _repr_html_(self) -> str:
        """The object as HTML, which notebooks show."""
        return html_of(self._table(), self._drawn())

    def __rich__(self) -> Group:
        """The object as a table of rich, as ``rich.print`` shows it."""
        return _rich(self._table())


def size_of(shape: Shape) -> str:
    """A map's size as in the papers, "6@28x28", or how many numbers it is."""
    channels, height, width = shape
    return f"{channels}@{height}x{width}" if height * width > 1 else f"{channels}"


def brief(fields: Mapping[str, Any]) -> str:
    """Values by name in one line: of arrays their shape and type."""
    return ", ".join(
        f"{name} {value.shape} {value.dtype}"
        if isinstance(value, np.ndarray)
        else f"{name} {value!r}"
        for name, value in fields.items()
    )


def html_of(table: Table, drawn: str = "") -> str:
    """The table as HTML, `drawn` between its title and its rows."""
    parts = [f'<div style="margin:.3em 0 .5em"><b>{escape(table.title)}</b></div>']
    parts += [_scrolling(drawn)] * bool(drawn)
    rows = [_row("th", table.columns, table.texts)]
    rows += [_row("td", row, table.texts) for row in table.rows]
    rows += [_row("th", table.total, table.texts)] * bool(table.total)
    start = '<table style="border-collapse:collapse;margin:0;font-size:.9em;'
    start += 'font-variant-numeric:tabular-nums">'
    parts.append(_scrolling(f"{start}{''.join(rows)}</table>", most_high=28))
    return f'<div style="max-width:100%">{"".join(parts)}</div>'


def text_of(table: Table) -> str:
    """The table as lines of text, without its title."""
    fields = [table.columns, *table.rows, *[table.total] * bool(table.total)]
    rows = [
        [cell.text if isinstance(cell, Cell) else cell for cell in row]
        for row in fields
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]
    rows.insert(1, rule)
    if table.total:
        rows.insert(-1, rule)
    left = table.texts
    lines = []
    for row in rows:
        cells = [
            *map(str.ljust, row[:left], widths),
            *map(str.rjust, row[left:], widths[left:]),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _scrolling(html: str, most_high: int = 0) -> str:
    """In a box that scrolls where the page is too narrow, or it is too high."""
    high = f"max-height:{most_high}em;" if most_high else ""
    return f'<div style="overflow:auto;{high}margin:.3em 0" tabindex="0">{html}</div>'


def _row(tag: str, cells: Sequence[Field], texts: int) -> str:
    fields = []
    for k, cell in enumerate(cells):
        cell = cell if isinstance(cell, Cell) else Cell(cell)
        style = f"text-align:{'left' if k < texts else 'right'};padding:.15em .6em;"
        style += "white-space:nowrap"
        if cell.shade > 0:
            style += f";background:rgba({cell.colour},{THICKEST * cell.shade:.2f})"
        fields.append(
            f'<{tag} style="{style}">{cell.html or escape(cell.text)}</{tag}>'
        )
    return f"<tr>{''.join(fields)}</tr>"


def _rich(table: Table) -> Group:
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_footer=bool(table.total),
    )
    total = [*table.total, *[""] * len(table.columns)]
    for k, name in enumerate(table.columns):
        drawn.add_column(
            _rich_text(name),
            _rich_text(total[k]),
            justify="left" if k < table.texts else "right",
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*map(_rich_text, row))
    return Group(Text(table.title, "bold"), drawn)


def _rich_text(cell: Field) -> Any:
    from rich.text import Text

    if isinstance(cell, str):
        return Text(cell)
    return Text(cell.text, "bold" if cell.shade > 0.5 else "")


def strip(images: NDArray[Any], text: str, high: int = 28) -> str:
    """Images side by side, as an element of HTML; "" without Pillow.

    Parameters
    ----------
    images : (N, H, W), (N, C, H, W) or (N, H, W, C)
        uint8 or floating, which are shown from their least to their greatest.
    text : str
        What is said to those who do not see them.
    high : int
        Rows on the page, in pixels.
    """
    tiles = _grey_or_colour(images)
    try:
        from PIL import Image
    except ImportError:
        return ""
    if tiles is None or not len(tiles):
        return ""
    step = max(1, -(-tiles.shape[1] // (2 * high)))  # of photographs: not each pixel
    tiles = tiles[:, ::step, ::step]
    edge = max(1, tiles.shape[1] // 14)
    space = [(0, 0)] * tiles.ndim
    space[2] = (0, edge)
    row = np.concatenate(list(np.pad(tiles, space, constant_values=127)), axis=1)
    row = row[:, :-edge]
    stream = io.BytesIO()
    Image.fromarray(row).save(stream, "png", optimize=True)
    width = round(high * row.shape[1] / row.shape[0])
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<img alt="{escape(text)}" width="{width}" src="data:image/png;base64,{data}" '
        'style="display:block;max-width:none;margin:0;image-rendering:pixelated">'
    )


def _grey_or_colour(images: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Images as (N, H, W) or (N, H, W, 3) bytes; None of what has another form."""
    if images.ndim == 2 and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(-1, side, side)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] in (1, 3):
        images = images[..., 0] if images.shape[3] == 1 else images
    elif images.ndim != 3:
        return None
    if images.dtype == np.uint8 or 0 in images.shape:
        return images.astype(np.uint8)
    pixels = np.nan_to_num(images.astype(np.float64))
    low, high = float(pixels.min()), float(pixels.max())
    scaled: NDArray[np.uint8] = np.rint((pixels - low) * (255 / (high - low or 1)))
    return scaled.astype(np.uint8)


@dataclass
class _Column:
    """A box of the drawing, or the sum at the end of a branch, and what is below it."""

    lines: list[str]
    shape: Shape
    fill: str = "none"
    is_sum: bool = False
    title: str = ""

    @property
    def cards(self) -> int:
        """How many cards lie behind the first one: more for more channels."""
        channels, height, width = self.shape
        if self.is_sum or height * width == 1:
            return 0
        return min(MOST_CARDS, math.ceil(math.log2(channels)))

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the box, of its first card, in pixels."""
        channels, height, width = self.shape
        if self.is_sum:
            return 14.0, 14.0
        if height * width == 1:
            return 12.0, 10 + 9 * math.log2(channels)
        return 10 + 12 * math.log2(width), 10 + 12 * math.log2(height)

    @property
    def room(self) -> float:
        """Width of all of it, in pixels."""
        bold, *texts = (LETTER * len(cut(line)) for line in self.lines)
        return max(self.size[0] + 2 * CARD * self.cards, 1.3 * bold, *texts)


class _Arc(NamedTuple):
    """A way around a branch, from behind a column to a later one."""

    start: int
    end: int
    level: int  # how many arcs are below it, itself included
    text: str


def drawing(layers: Sequence[Layer], input_shape: Shape) -> str:
    """The network as a row of boxes, in SVG: what each layer makes, with its size.

    A box is the larger the larger its map is; cards behind it are further channels.
    What changes no sizes, as activations do, stands below the box. An arc is the
    shortcut around a residual branch.
    """
    columns = [_Column(["input", size_of(input_shape)], input_shape)]
    arcs: list[_Arc] = []
    _collect(layers, input_shape, columns, arcs)
    above = max(column.size[1] / 2 + CARD * column.cards for column in columns) + 4
    below = max(column.size[1] for column in columns) / 2
    levels = max((arc.level for arc in arcs), default=-1)
    top = -above - LINE * (levels + 1)
    bottom = below + LINE * (max(len(column.lines) for column in columns) + 0.5)
    marks: list[str] = []
    centres: list[float] = []
    end = 0.0
    for k, column in enumerate(columns):
        centres.append(end + (BETWEEN if k else 0) + column.room / 2)
        if k:
            before = columns[k - 1]
            start = centres[-2] + before.size[0] / 2 + CARD * before.cards
            marks.append(_line(f"M{start:.1f} 0H{centres[k] - column.size[0] / 2:.1f}"))
        marks += _box(column, centres[k], below)
        end = centres[k] + column.room / 2
    for arc in arcs:
        before = columns[arc.start]
        left = centres[arc.start] + before.room / 2 + BETWEEN - 4 * arc.level
        high = -above - LINE * (arc.level - 0.5)
        path = f"M{left:.1f} 0V{high:.1f}H{centres[arc.end]:.1f}V-7"
        marks.append(_line(path, 'stroke-dasharray="4 3"'))
        middle = (left + centres[arc.end]) / 2
        marks.append(_text(arc.text, middle, high - 3, 'font-size="10"'))
    high = bottom - top
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{end + 8:.0f}" '
        f'height="{high:.0f}" viewBox="-4 {top:.1f} {end + 8:.1f} {high:.1f}" '
        'font-family="system-ui,sans-serif" font-size="11" fill="currentColor" '
        f'style="max-width:none;display:block"><title>{len(layers)} layers, drawn as '
        f"boxes</title>{''.join(marks)}</svg>"
    )


def _collect(
    layers: Sequence[Layer], shape: Shape, columns: list[_Column], arcs: list[_Arc]
) -> int:
    """Add the columns and arcs of the layers; how many arcs are above each other."""
    level = 0
    for layer in layers:
        after = layer.output_shape(shape)
        if isinstance(layer, Residual):
            start = len(columns) - 1
            inside = 1 + _collect(layer.layers, shape, columns, arcs)
            columns.append(_Column([str(layer.name)], after, is_sum=True))
            around = " ".join(_said(part, shape) for part in layer.shortcut[:1])
            around += " …" * (len(layer.shortcut) > 1)
            arcs.append(_Arc(start, len(columns) - 1, inside, around))
            level = max(level, inside)
        elif isinstance(layer, (Activation, BatchNorm2d, Dropout, Flatten)):
            columns[-1].lines.append(type(layer).__name__)
        else:
            colour = VERMILLION
            if isinstance(layer, (Conv2d, Dense, RadialBasis)):
                colour = BLUE if isinstance(layer, Conv2d) else GREEN
            lines = [str(layer.name), size_of(after), _said(layer, shape)]
            fill = f"rgba({colour},.35)"
            columns.append(_Column(lines, after, fill, title=repr(layer)))
        shape = after
    return level


def _said(layer: Layer, shape: Shape) -> str:
    """A layer in a few letters: "Conv2d 5x5 /2"."""
    kind = type(layer).__name__
    window = layer.window(shape)
    if not isinstance(layer, (Conv2d, AvgPool2d, MaxPool2d, Subsampling2d)):
        return kind
    rows, columns = window.kernel
    usual = 1 if isinstance(layer, Conv2d) else rows
    return f"{kind} {rows}x{columns}" + f" /{window.stride}" * (window.stride != usual)


def _box(column: _Column, centre: float, below: float) -> Iterator[str]:
    """The marks of one column."""
    wide, high = column.size
    left, top = centre - wide / 2, -high / 2
    if column.is_sum:
        yield f'<circle cx="{centre:.1f}" r="7" fill="none" stroke="currentColor"/>'
        yield _line(f"M{centre - 4:.1f} 0h8M{centre:.1f} -4v8")
    else:
        for card in range(column.cards, 0, -1):  # what the one in front leaves of it
            x, y = left + CARD * card, top - CARD * card
            path = f"M{x:.1f} {y + CARD:.1f}v{-CARD}h{wide:.1f}v{high:.1f}h{-CARD}"
            yield _line(path, 'stroke-opacity=".6"')
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" '
            f'height="{high:.1f}" fill="{column.fill}" stroke="currentColor">'
            f"<title>{escape(column.title)}</title></rect>"
        )
    for k, line in enumerate(column.lines, 1):
        yield _text(line, centre, below + LINE * k, 'font-weight="600"' * (k == 1))


def _line(path: str, how: str = "") -> str:
    return f'<path d="{path}" fill="none" stroke="currentColor" {how}/>'


def _text(text: str, x: float, y: float, how: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" {how}>'
        f"{escape(cut(text))}</text>"
    )


def cut(text: str) -> str:
    """A name that is not too long for its place."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
