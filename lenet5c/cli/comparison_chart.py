"""The picture of `lenet5c compare`: accuracy against training time."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lenet5c.files.atomic import write_atomically
from lenet5c.report.canvas import BLUE, DOTS_PER_INCH, GREY, NORMAL, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["drawable", "plot"]

# Times in seconds, every third of them where they are many.
TICKS = [
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300),
    *(600, 1200, 1800, 3600, 7200, 18_000, 36_000, 72_000, 108_000),
]
# Where a name may stand that is not right beside its point.
DIRECTIONS = [(0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]


class Point(NamedTuple):
    """X and y, the standard deviation of y, the name and its colour."""

    seconds: float
    percent: float
    deviation: float
    name: str
    colour: str


def drawable(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that `plot` draws: of networks that were trained."""
    return [
        row
        for row in rows
        if row["error"] is None and row["training_seconds"] is not None
    ]


def plot(
    rows: Iterable[dict[str, Any]],
    path: str | os.PathLike[str],
    measured_on: str = "test",
) -> Figure:
    """Draw accuracy against training time, a point for each network.

    Parameters
    ----------
    rows : iterable of dict
        As `summary` returns them. Those that were not trained, or failed, are left out.
        The article's points are grey, those of several seeds have bars of one standard
        deviation.
    path : path-like
        Where to write the picture, as its name ends in: .png, .svg or .pdf.
    measured_on : str
        Which images: "test" or "held-out".

    Raises
    ------
    ValueError
        If there is no row to draw.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    drawn = drawable(rows)
    if not drawn:
        raise ValueError("plot: there is no network that was trained")
    points = [point for row in drawn for point in _points_of(row)]
    figure = Figure(figsize=(8, 5), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for x, y, deviation, _, colour in points:
        axes.plot(x, y, "o", color=colour, markersize=7)
        if deviation:
            axes.errorbar(x, y, deviation, color=colour, capsize=3)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.15)
    axes.set_xlabel("Training time")
    axes.set_ylabel(f"Accuracy on the {measured_on} images, %")
    _mark_times(axes)
    axes.grid(color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _write_names(figure, axes, points)
    stream = io.BytesIO()
    figure.savefig(stream, format=Path(path).suffix[1:].lower() or "png")
    write_atomically(path, [stream.getvalue()])
    return figure


def _points_of(row: dict[str, Any]) -> Iterator[Point]:
    name, article = row["network"], row["article"]
    deviation = 100 * (row["accuracy_deviation"] or 0.0)
    seconds, accuracy = row["training_seconds"], 100 * row["accuracy"]
    yield Point(seconds, accuracy, deviation, Path(name).name, BLUE)
    if article is not None:
        seconds, accuracy = article["training_seconds"], 100 * article["accuracy"]
        yield Point(seconds, accuracy, 0.0, f"{name}, article", GREY)


def _mark_times(axes: Axes) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    shortest, longest = axes.get_xlim()
    ticks = TICKS[:: 3 if longest > 100 * shortest else 1]
    seen = [shortest <= tick <= longest for tick in ticks]
    axes.xaxis.set_major_locator(
        FixedLocator(ticks) if sum(seen) > 1 else MaxNLocator(4)
    )
    axes.xaxis.set_major_formatter(lambda seconds, _: _time(seconds))
    axes.xaxis.set_minor_locator(NullLocator())


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def _write_names(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Write the names beside their points, each at the nearest place that is free."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # from here on the axes stay where they are
    figure.set_layout_engine("none")
    dot = DOTS_PER_INCH / 72
    taken = []
    for x, y, deviation, *_ in points:
        ends = axes.transData.transform([(x, y - deviation), (x, y + deviation)])
        taken.append(Bbox(ends).padded(5 * dot))
    places = [(right, 0, 8) for right in (1, -1)]
    places += [(right, up, 8 * k) for k in range(1, 16) for right, up in DIRECTIONS]
    for x, y, _, name, colour in points:
        text = axes.annotate(
            name,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            color=colour,
            fontsize=NORMAL,
            parse_math=False,
        )
        for right, up, distance in places:
            text.set_horizontalalignment(("center", "left", "right")[right])
            text.set_verticalalignment(("center", "bottom", "top")[up])
            text.set_position((distance * right, distance * up))
            box = text.get_window_extent().padded(dot)
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            inside = inside and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
            if inside and not box.count_overlaps(taken):
                break
        taken.append(box)
        if distance > 8:  # a line leads from the point to its name
            axes.annotate(
                "",
                (x, y),
                xytext=text.get_position(),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7},
            )
