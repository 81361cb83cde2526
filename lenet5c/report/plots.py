"""Pictures of a training, a model and its mistakes, drawn by matplotlib.

Each function returns a matplotlib Figure and, if it is given a path, writes it there:
as PNG of `DOTS_PER_INCH`, or what else the file name ends in (.svg, .pdf). pyplot is
not used: no window opens, and no figure stays in memory. Notebooks show a figure that a
cell ends with. Confidences are sorted into `CALIBRATION_BINS`.

N images, C channels, H rows, W columns, K classes. Colours are those of Okabe and Ito
(2008), maps viridis and PuOr, so that colour-blind people see the same.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, whole
from lenet5c.data.augment import Augment
from lenet5c.display import brief
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import Network
from lenet5c.layers import AvgPool2d, Conv2d, MaxPool2d

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Layout = Literal["constrained", "compressed"] | None

PathLike = str | os.PathLike[str] | None

__all__ = [
    "CALIBRATION_BINS",
    "DOTS_PER_INCH",
    "Reliability",
    "feature_layers",
    "plot_augmented",
    "plot_calibration",
    "plot_confusion",
    "plot_feature_maps",
    "plot_filters",
    "plot_history",
    "plot_mistakes",
    "png",
    "printable",
    "reliability",
    "require_matplotlib",
    "worst_mistakes",
]

BLUE, VERMILLION, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "#767676"
DOTS_PER_INCH = 144
PIXELS_PER_INCH = 96
"""Of a page; pictures have more, for sharp screens and paper."""
"""Of the pictures that are written to files."""
CALIBRATION_BINS = 15
"""Bins of confidence that a calibration is counted in (Guo et al. 2017, section 2)."""
MAX_EPOCHS_MARKED = 40
MAX_CLASSES_COUNTED = 15  # in a confusion matrix, with numbers in its fields
MAX_FILTERS = 64
MAX_MAPS = 16  # of a layer
MAPS_IN_A_ROW = 8
LONGEST_NAME = 20  # characters of a class name
MORE_COLUMNS = 16

# Of pictures made of images, in inches.
MARGIN = 0.15
LINE = 0.19  # from one line of text to the next
SMALL, NORMAL = 8, 9.5  # points


class Lists(Protocol):
    """A `History`."""

    def to_dict(self) -> dict[str, list[float]]: ...


def plot_history(
    history: Lists | Mapping[str, Sequence[float | None]],
    path: PathLike = None,
) -> Figure:
    """Draw loss, accuracy and learning rate, epoch by epoch.

    Parameters
    ----------
    history : History or mapping
        What `fit` returned, or its lists by name. What is missing is left out.
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> lists = {"loss": [0.5, 0.25], "accuracy": [0.75, 1.0]}
    >>> figure = lenet5c.plots.plot_history(lists, "history.png")
    >>> [panel.get_title() for panel in figure.axes]
    ['Loss', 'Accuracy, %']
    """
    lists = history if isinstance(history, Mapping) else history.to_dict()
    rates = bool(len(lists.get("learning_rate", ())))
    figure = _figure(10.5 if rates else 7.4, 3.3)
    panels = figure.subplots(1, 3 if rates else 2)
    _draw_curves(panels[0], lists, "loss", 1)
    _draw_curves(panels[1], lists, "accuracy", 100)
    panels[0].set_title("Loss")
    panels[1].set_title("Accuracy, %")
    if rates:
        _draw_line(panels[2], lists["learning_rate"], 1, BLUE, "-", "o", "")
        panels[2].set_title("Learning rate")
        panels[2].set_ylim(bottom=0)
    for axes in panels:
        _tidy_epochs(axes, len(lists.get("loss", ())))
    return _written(figure, path)


def plot_confusion(
    confusion: ArrayLike, classes: Sequence[Any], path: PathLike = None
) -> Figure:
    """Draw how often each class was predicted as each.

    Parameters
    ----------
    confusion : (K, K) int
        How many images of class `row` were predicted to be of class `column`. Colours
        are shares of the row; up to 15 classes, the counts are written into the fields.
    classes : (K,)
        Their names.
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> confusion = model.evaluate(*data.test).confusion
    >>> figure = lenet5c.plots.plot_confusion(confusion, model.classes, "confusion.svg")
    """
    require_matplotlib()
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    counts = as_array("confusion", confusion)
    if counts.ndim != 2 or counts.shape != (len(classes), len(classes)):
        raise ValueError(
            f"confusion: expected ({len(classes)}, {len(classes)}), a row for each of "
            f"the classes, got the shape {counts.shape}"
        )
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    names = [_short(name) for name in classes]
    count = len(names)
    counted = count <= MAX_CLASSES_COUNTED
    cell = max(0.42, min(0.7, 3.4 / count)) if counted else 0.18
    size = NORMAL if count <= 10 else SMALL if counted else 7
    longest = max(_text_width(name, size) for name in names)
    turned = longest > 0.9 * cell
    names_wide = 0.3 + longest
    names_high = names_wide if turned else 0.4
    figure = _figure(
        count * cell + names_wide + 1.7,
        count * cell + names_high + 0.4,
        layout="compressed",
    )
    axes = figure.subplots()
    colours = colormaps["viridis_r"].with_extremes(bad=(0.5, 0.5, 0.5, 0.08))
    # Most shares are near 0 or 1: the power brings the small ones apart.
    image = axes.imshow(
        np.ma.masked_equal(shares, 0), cmap=colours, norm=PowerNorm(0.4, 0, 1)
    )
    at = np.arange(count)
    axes.set_xticks(at, names, fontsize=size, rotation=90 if turned else 0)
    axes.set_yticks(at, names, fontsize=size)
    axes.set_xticks(at[:-1] + 0.5, minor=True)
    axes.set_yticks(at[:-1] + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.7)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if counted:
        for row, column in zip(*np.nonzero(counts), strict=True):
            number = f"{counts[row, column]:,}"
            axes.text(
                column,
                row,
                number,
                fontsize=min(NORMAL, 72 * cell / (0.7 * max(3, len(number)))),
                color="white" if shares[row, column] > 0.12 else "black",
                ha="center",
                va="center",
            )
    bar = figure.colorbar(
        image, ax=axes, ticks=[0, 0.01, 0.1, 0.5, 1], shrink=0.8, aspect=30
    )
    bar.ax.set_yticklabels(["0 %", "1 %", "10 %", "50 %", "100 %"], fontsize=SMALL)
    bar.set_label("share of the true class", fontsize=SMALL)
    bar.ax.spines[:].set_visible(False)
    return _written(figure, path)


class Reliability(NamedTuple):
    """How confidence and accuracy go together, in bins of equal width.

    Attributes
    ----------
    edges : (bins + 1,) float64
        Bin b holds confidences above edges[b], up to edges[b + 1].
    counts : (bins,) int64
        Images of each bin.
    confidence, accuracy : (bins,) float64
        Means over the bin's images; NaN where there is none.
    error : float
        The expected calibration error: the mean distance of confidence and accuracy,
        bins weighted by their images (Guo et al. 2017, eq. 3).

    Examples
    --------
    >>> found = lenet5c.plots.reliability([0.75, 0.75], [True, False], bins=2)
    >>> found.counts.tolist(), found.error  # half are right, not three quarters
    ([0, 2], 0.25)
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float

    def __repr__(self) -> str:
        return f"<Reliability: {brief(self._asdict())}>"


def reliability(
    confidence: ArrayLike, correct: ArrayLike, bins: int = CALIBRATION_BINS
) -> Reliability:
    """Sort predictions by confidence, and compare it with how often they were right.

    Parameters
    ----------
    confidence : (N,) float
        The probability of the predicted class.
    correct : (N,) bool
        Whether it is the true class.
    bins : int

    Returns
    -------
    Reliability

    Raises
    ------
    TypeError, ValueError
        If there are no confidences, or one is not from 0 to 1, or the shapes differ.

    Examples
    --------
    >>> test_images, test_labels = data.test
    >>> probabilities = model.predict_proba(test_images)
    >>> right = probabilities.argmax(axis=1) == test_labels
    >>> found = lenet5c.plots.reliability(probabilities.max(axis=1), right)
    >>> int(found.counts.sum()), found.error < 0.05
    (360, True)
    """
    bins = whole("bins", bins, 1)
    sure = as_array("confidence", confidence).astype(np.float64)
    right = as_array("correct", correct).astype(np.float64)
    if sure.ndim != 1 or sure.shape != right.shape:
        raise ValueError(
            "correct: expected one for each confidence, got the shapes "
            f"{sure.shape} and {right.shape}"
        )
    if not len(sure) or not ((sure >= 0) & (sure <= 1.00001)).all():
        raise ValueError("confidence: expected at least one, each from 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_sure = np.bincount(bin_of, sure, bins) / counts
        mean_right = np.bincount(bin_of, right, bins) / counts
    gaps = np.abs(mean_sure - mean_right)[counts > 0]
    error = float(gaps @ counts[counts > 0] / len(sure))
    return Reliability(edges, counts, mean_sure, mean_right, error)


def plot_calibration(found: Reliability, path: PathLike = None) -> Figure:
    """Draw a reliability diagram, and how many predictions were how confident.

    Parameters
    ----------
    found : Reliability
        From `reliability`.
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> found = lenet5c.plots.reliability([0.9, 0.8, 0.6], [True, True, False])
    >>> figure = lenet5c.plots.plot_calibration(found, "calibration.png")
    """
    figure = _figure(5.2, 5.4)
    upper, lower = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )
    some = found.counts > 0
    counts, right = found.counts[some], found.accuracy[some]
    low, high = _wilson(right, counts)
    upper.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="as it should be")
    upper.errorbar(
        found.confidence[some],
        right,
        yerr=[right - low, high - right],
        fmt="o",
        color=BLUE,
        ecolor=SKY,
        markersize=5,
        linewidth=1.5,
        clip_on=False,  # a point at 1 is whole
        label="this model, with 95 % intervals",
    )
    upper.set_ylabel("share that is right")
    figure.suptitle(f"Expected calibration error {found.error:.2%}")
    upper.set_xlim(0, 1)
    upper.set_ylim(-0.02, 1.02)
    upper.legend(
        loc="lower left",  # of the legend, which stands above the diagram
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize=SMALL,
    )
    width = found.edges[1]
    lower.bar(found.edges[:-1], found.counts, 0.92 * width, align="edge", color=BLUE)
    lower.set_yscale("log")
    lower.set_ylim(0.5, 2 * max(10, found.counts.max()))
    lower.set_xlabel("probability of the predicted class")
    lower.set_ylabel("images")
    for axes in (upper, lower):
        _plain_frame(axes)
        axes.grid(axis="y", alpha=0.25)
    return _written(figure, path)


def worst_mistakes(
    codes: ArrayLike, probabilities: ArrayLike, most: int = 20
) -> NDArray[np.intp]:
    """The positions of the images that were mistaken, the least probable truth first.

    Parameters
    ----------
    codes : (N,) int
        The number of each image's true class.
    probabilities : (N, K) float
    most : int
        How many to return at most.

    Returns
    -------
    (mistakes,) intp

    Raises
    ------
    ValueError
        If there is not one row for each code.

    Examples
    --------
    >>> codes, probabilities = [0, 1, 1], [[0.4, 0.6], [0.3, 0.7], [0.9, 0.1]]
    >>> lenet5c.plots.worst_mistakes(codes, probabilities).tolist()
    [2, 0]
    """
    truth = as_array("codes", codes)
    table = as_array("probabilities", probabilities)
    if truth.ndim != 1 or table.ndim != 2 or len(table) != len(truth):
        raise ValueError(
            f"probabilities: expected a row for each of the codes {truth.shape}, "
            f"got the shape {table.shape}"
        )
    wrong = np.flatnonzero(table.argmax(axis=1) != truth)
    order = np.argsort(table[wrong, truth[wrong]], kind="stable")
    return wrong[order[: whole("most", most, 0)]]


def plot_mistakes(
    images: ArrayLike,
    codes: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[Any],
    path: PathLike = None,
    *,
    most: int = 20,
) -> Figure:
    """Draw the worst mistakes: what it is, what it was taken for, and how probably.

    Parameters
    ----------
    images : (N, H, W) or (N, C, H, W)
    codes : (N,) int
        The number of each image's true class.
    probabilities : (N, K) float
    classes : (K,)
        Names of the classes.
    path : path-like or None
    most : int
        How many mistakes to show at most.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> test_images, test_labels = data.test
    >>> probabilities = model.predict_proba(test_images)
    >>> found = test_images, test_labels, probabilities, model.classes
    >>> figure = lenet5c.plots.plot_mistakes(*found, "mistakes.png", most=8)
    """
    pixels = _batch(images)
    truth, table = as_array("codes", codes), as_array("probabilities", probabilities)
    worst = worst_mistakes(truth, table, most)
    columns, shown = 4, 3  # classes with a bar beside each image
    side, bars = 1.0, 1.3
    wide, high = side + bars + 0.25, side + LINE + 0.22
    rows = max(1, math.ceil(len(worst) / columns))
    columns = min(columns, max(2, len(worst)))
    figure, axes = _canvas(columns * wide + 2 * MARGIN, rows * high + 2 * MARGIN)
    if not len(worst):
        axes.text(MARGIN, MARGIN + LINE, "There are no mistakes.", fontsize=NORMAL)
    for place, index in enumerate(worst):
        row, column = divmod(place, columns)
        x, y = MARGIN + column * wide, MARGIN + row * high
        row_of = table[index]
        best = (-row_of).argsort(kind="stable")[:shown]
        named = [int(k) for k in best]
        if truth[index] not in named:
            named[-1] = int(truth[index])
        room = (wide - 0.2 - _text_width("is , taken for ", SMALL)) / 2
        pair = [_fitting(classes[k], room, SMALL) for k in (truth[index], named[0])]
        axes.text(
            x,
            y + 0.6 * LINE,
            "is {}, taken for {}".format(*pair),
            fontsize=SMALL,
            va="center",
        )
        _put(axes, _shown(pixels[index]), x, y + LINE, side)
        for line, k in enumerate(named):
            at = y + LINE + 0.08 + line * 0.32
            right = k == truth[index]
            left = x + side + 0.1
            axes.text(
                left,
                at + 0.05,
                _fitting(classes[k], 0.62 * bars - 0.1, SMALL, right),
                fontsize=SMALL,
                va="center",
                weight="bold" if right else "normal",
            )
            axes.text(
                left + bars - 0.1,
                at + 0.05,
                _percent(float(row_of[k])),
                fontsize=SMALL,
                va="center",
                ha="right",
            )
            axes.barh(
                at + 0.16,
                max(0.01, (bars - 0.1) * float(row_of[k])),
                0.07,
                left=left,
                color=BLUE if right else VERMILLION,
            )
    return _written(figure, path)


def plot_filters(model: Network, path: PathLike = None) -> Figure:
    """Draw the weights of the first layer: filters, or what each unit looks at.

    White is 0, orange below, purple above. Filters of three channels are shown as
    colours, in which grey is 0.

    Parameters
    ----------
    model : Model
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = lenet5c.plots.plot_filters(model, "filters.png")
    """
    weight, name = _first_weights(model)
    count, channels = weight.shape[:2]
    largest = float(np.abs(weight).max()) or 1.0
    options: dict[str, Any] = {"cmap": "PuOr", "vmin": -largest, "vmax": largest}
    if channels == 3:
        tiles = list((0.5 + 0.5 * weight / largest).transpose(0, 2, 3, 1))
        labels = [f"{k + 1}" for k in range(count)]
    else:
        tiles = [kernel for filter_ in weight for kernel in filter_]
        labels = [
            f"{k + 1}" if channels == 1 else f"{k + 1}, channel {c + 1}"
            for k in range(count)
            for c in range(channels)
        ]
    more = len(tiles) - MAX_FILTERS
    tiles = tiles[:MAX_FILTERS]
    columns = min(len(tiles), 8)
    rows = math.ceil(len(tiles) / columns)
    side, gap = 0.95, 0.12
    width = max(columns * (side + gap), 5.0) + 2 * MARGIN
    top = MARGIN + 1.5 * LINE
    figure, axes = _canvas(width, top + rows * (side + gap + LINE) + MARGIN)
    size = "x".join(map(str, weight.shape[2:]))
    text = f"{_short(name)}: {count} of {channels}x{size}, from {-largest:.2g} "
    text += f"to {largest:.2g}" + (f"; the first {MAX_FILTERS}" if more > 0 else "")
    axes.text(MARGIN, MARGIN + 0.5 * LINE, text, fontsize=NORMAL, va="center")
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        x = MARGIN + column * (side + gap)
        y = top + row * (side + gap + LINE)
        axes.text(x, y + 0.5 * LINE, labels[place], fontsize=SMALL, va="center")
        _put(axes, tile, x, y + LINE, side, **({} if tile.ndim == 3 else options))
    return _written(figure, path)


def feature_layers(model: Network) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and output shapes (C, H, W) of the layers that have maps to look at.

    They are the convolutions and poolings whose maps are larger than one pixel.

    Parameters
    ----------
    model : Model

    Returns
    -------
    list of (str, (int, int, int))

    Examples
    --------
    >>> lenet5c.plots.feature_layers(model)
    [('C1', (6, 28, 28)), ('S2', (6, 14, 14)), ('C3', (16, 10, 10)), ('S4', (16, 5, 5))]
    """
    return [
        (str(layer.name), shape)
        for layer, shape in zip(model.layers, model.shapes[1:], strict=True)
        if isinstance(layer, (Conv2d, AvgPool2d, MaxPool2d)) and shape[1] * shape[2] > 1
    ]


def plot_feature_maps(
    model: Network, image: ArrayLike, path: PathLike = None
) -> Figure:
    """Draw what the convolutions and poolings make of one image.

    Parameters
    ----------
    model : Model
    image : (H, W) or (C, H, W)
        As `fit` takes it.
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = lenet5c.plots.plot_feature_maps(model, images[0], "maps.png")
    """
    pixels = as_array("image", image)
    if pixels.ndim not in (2, 3):
        raise ValueError(
            f"image: expected (H, W) or (C, H, W), got the shape {pixels.shape}"
        )
    layers = feature_layers(model)
    side, gap, left = 0.98, 0.08, 1.3
    rows_of = [math.ceil(min(s[0], MAX_MAPS) / MAPS_IN_A_ROW) for _, s in layers]
    row_high, space = side + gap, 0.12
    high = row_high * (1 + sum(rows_of)) + space * len(layers) + 2 * MARGIN
    most = max((min(shape[0], MAPS_IN_A_ROW) for _, shape in layers), default=1)
    figure, axes = _canvas(left + most * row_high + 2 * MARGIN, high)

    def label(y: float, name: str, *lines: str) -> None:
        fitting = _fitting(name, left - MARGIN - 0.1, NORMAL, True)
        axes.text(MARGIN, y + 0.12, fitting, fontsize=NORMAL, weight="bold")
        for k, line in enumerate(lines, 1):
            axes.text(MARGIN, y + 0.12 + k * LINE, line, fontsize=SMALL)

    y = MARGIN
    batch = pixels[np.newaxis]
    label(y, "input", "x".join(map(str, pixels.shape)))
    _put(axes, _shown(_batch(batch)[0]), left, y, side)
    y += row_high + space
    for (name, shape), rows in zip(layers, rows_of, strict=True):
        maps = model.activations(batch, name)[0]
        lines = ["{}@{}x{}".format(*shape)]
        lines.append(f"{_small(maps.min())} to {_small(maps.max())}")
        if shape[0] > MAX_MAPS:
            lines.append(f"the first {MAX_MAPS}")
        label(y, name, *lines)
        scale = {"vmin": maps.min(), "vmax": maps.max(), "cmap": "viridis"}
        for place, one in enumerate(maps[:MAX_MAPS]):
            row, column = divmod(place, MAPS_IN_A_ROW)
            x = left + column * row_high
            _put(axes, one, x, y + row * row_high, side, **scale)
        y += rows * row_high + space
    return _written(figure, path)


def plot_augmented(
    images: ArrayLike,
    augment: Augment,
    path: PathLike = None,
    *,
    variants: int = 8,
    seed: int = 0,
) -> Figure:
    """Draw images, each in a row with what augmentation makes of it.

    Parameters
    ----------
    images : (N, H, W) or (N, C, H, W)
        uint8 or floating; as many rows.
    augment : Augment
    path : path-like or None
    variants : int
        How many of each: those of the epochs 1, 2, ...
    seed : int
        As in `fit`.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> augment = lenet5c.Augment(elastic=15)
    >>> figure = lenet5c.plots.plot_augmented(images[:4], augment, "augmented.png")
    """
    variants = whole("variants", variants, 1, MORE_COLUMNS)
    pixels = _batch(images)
    changed = [
        augment.apply(pixels, epoch=epoch, seed=seed)
        for epoch in range(1, variants + 1)
    ]
    unit = 255 if pixels.dtype == np.uint8 else 1
    scale = _scale(pixels / unit)
    side, gap, apart = 1.0, 0.08, 0.2
    step, top = side + gap, MARGIN + 1.5 * LINE
    figure, axes = _canvas(
        (1 + variants) * step + apart + 2 * MARGIN, top + len(pixels) * step + MARGIN
    )
    for text, x in (("original", 0.0), ("augmented", step + apart)):
        y = MARGIN + 0.5 * LINE
        axes.text(MARGIN + x, y, text, fontsize=NORMAL, va="center")
    for row, original in enumerate(pixels):
        y = top + row * step
        _put(axes, _shown(original / unit, scale), MARGIN, y, side)
        for column, variant in enumerate(changed, 1):
            x = MARGIN + apart + column * step
            _put(axes, _shown(variant[row], scale), x, y, side)
    return _written(figure, path)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    bytes

    Examples
    --------
    >>> figure = lenet5c.plots.plot_filters(model)
    >>> lenet5c.plots.png(figure)[:4]
    b'\\x89PNG'
    """
    return _rendered(figure, "png")


def printable(text: object) -> str:
    """The text on one line, without characters that print nothing or turn others.

    Parameters
    ----------
    text : object

    Returns
    -------
    str

    Examples
    --------
    >>> lenet5c.plots.printable("a label\\nof two lines")
    'a label of two lines'
    """
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def require_matplotlib() -> None:
    """Raise an ImportError that says what to do, if matplotlib is missing.

    Examples
    --------
    >>> lenet5c.plots.require_matplotlib()  # it is there
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'lenet5c[plots]'"
        ) from error


def _figure(width: float, height: float, layout: Layout = "constrained") -> Figure:
    """An empty figure, in inches."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout)
    # Notebooks know how to show the figures of pyplot alone.
    figure._repr_png_ = partial(_shown_in_notebook, figure)  # type: ignore[attr-defined]
    return figure


def _shown_in_notebook(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """The figure as a PNG file, and how wide it is on a page."""
    return png(figure), {"width": round(figure.get_figwidth() * PIXELS_PER_INCH)}


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are inches, from the upper left corner."""
    figure = _figure(width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    return figure, axes


def _put(
    axes: Axes, image: NDArray[Any], x: float, y: float, side: float, **options: Any
) -> None:
    """Draw an image (H, W) or (H, W, 3) of `_canvas`, in the middle of a square."""
    high, wide = image.shape[:2]
    longest = max(high, wide)
    width, height = side * wide / longest, side * high / longest
    left, top = x + (side - width) / 2, y + (side - height) / 2
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(
        image,
        extent=(left, left + width, top + height, top),
        interpolation="nearest",
        aspect="auto",
        **(options or {"cmap": "gray", "vmin": 0, "vmax": 1}),
    )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _batch(images: ArrayLike) -> NDArray[Any]:
    """Images as (N, C, H, W)."""
    pixels = as_array("images", images)
    if pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(
            "images: expected (N, H, W) or (N, C, H, W), at least one, "
            f"got the shape {pixels.shape}"
        )
    return pixels


def _scale(pixels: NDArray[Any]) -> tuple[float, float]:
    """Which values are black and white: 0 and 1, and more if the pixels need it."""
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def _shown(
    image: NDArray[Any], scale: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """An image (C, H, W) as (H, W), or (H, W, 3) for three channels, from 0 to 1."""
    pixels = image / 255 if image.dtype == np.uint8 else image.astype(np.float64)
    low, high = scale or _scale(pixels)
    pixels = np.clip((pixels - low) / (high - low), 0, 1)
    if len(pixels) == 3:
        return pixels.transpose(1, 2, 0)
    mean: NDArray[np.float64] = pixels.mean(axis=0)
    return mean


def _first_weights(model: Network) -> tuple[NDArray[np.float32], str]:
    """Weights (F, C, KH, KW) of the first layer that has some, and its name."""
    for layer, shape in zip(model.layers, model.shapes, strict=False):
        if layer.parameter_shapes(shape):
            weight = model.parameters[f"{layer.name}.weight"]
            if weight.ndim == 2:
                at_input = shape[0] * shape[1] * shape[2] == math.prod(
                    model.input_shape
                )
                maps = model.input_shape if at_input else shape
                return weight.reshape(len(weight), *maps), str(layer.name)
            return weight, str(layer.name)
    raise ValueError("model: expected a layer with weights, got none")


def _draw_curves(
    axes: Axes, lists: Mapping[str, Sequence[float | None]], name: str, unit: float
) -> None:
    """Draw the training's and the validation's list of that name."""
    validation = lists.get(f"validation_{name}", ())
    drawn = _draw_line(axes, lists.get(name, ()), unit, BLUE, "-", "o", "training")
    if len(validation):
        more = _draw_line(axes, validation, unit, VERMILLION, "--", "s", "validation")
        drawn = np.concatenate([drawn, more])
        axes.legend(frameon=False, fontsize=SMALL)
    drawn = drawn[np.isfinite(drawn)]
    if name == "loss" and len(drawn) and 0 < 20 * drawn.min() < drawn.max():
        axes.set_yscale("log")


def _draw_line(
    axes: Axes,
    values: Sequence[float | None],
    unit: float,
    colour: str,
    style: str,
    marker: str,
    label: str,
) -> NDArray[np.float64]:
    """Draw one value for each epoch, counted from 1; return what was drawn."""
    y = unit * np.array(values, np.float64)  # None becomes NaN, which is not drawn
    marked = len(y) <= MAX_EPOCHS_MARKED
    axes.plot(
        np.arange(1, len(y) + 1),
        y,
        style,
        color=colour,
        marker=marker if marked else "",
        markersize=4,
        linewidth=1.6,
        label=label,
    )
    return y


def _tidy_epochs(axes: Axes, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, max(epochs, 1) + 0.5)
    axes.grid(alpha=0.25)
    _plain_frame(axes)
    if not epochs:
        axes.text(
            0.5,
            0.5,
            "no epoch was trained",
            transform=axes.transAxes,
            ha="center",
            fontsize=NORMAL,
        )
        axes.set_xticks([])
        axes.set_yticks([])


def _plain_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)


def _wilson(
    share: NDArray[np.float64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    half *= z / (1 + z * z / count)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def _percent(share: float) -> str:
    """A probability in at most six characters."""
    if share < 0.0001:
        return "<0.01%"
    return f"{share:.1%}" if share >= 0.01 else f"{share:.2%}"


def _small(value: float) -> str:
    return f"{value:.2g}" if abs(value) >= 0.005 else "0"


def _short(name: object, longest: int = LONGEST_NAME) -> str:
    """A name for a picture: on one line, its middle left out if it is long.

    `longest` is at least 3.
    """
    text = printable(name)
    if len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end - 1]}…{text[-end:]}"
    return text.replace("$", r"\$")  # no formula, whatever is in between


def _fitting(name: object, room: float, size: float, bold: bool = False) -> str:
    """A name for a picture, as much of it as fits into so many inches."""
    longest = min(LONGEST_NAME, len(printable(name)))
    while longest > 3:
        text = _short(name, longest)
        width = _text_width(text, size, bold)
        if width <= room:
            return text
        longest = min(longest - 1, int(longest * room / width))
    return _short(name, 3)


def _text_width(text: str, size: float, bold: bool = False) -> float:
    """In inches."""
    if not text:
        return 0.0
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight="bold" if bold else "normal")
    with _any_glyph():
        path = TextPath((0, 0), text, size, font)
    return float(path.vertices[:, 0].max(initial=0)) / 72


@contextmanager
def _any_glyph() -> Iterator[None]:
    """A class name may hold what the font has not: that is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def _written(figure: Figure, path: PathLike) -> Figure:
    """The figure, once it is in the file, if there is to be one."""
    if path is not None:
        kind = Path(path).suffix[1:].lower() or "png"
        write_atomically(path, [_rendered(figure, kind)])
    return figure


def _rendered(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    with _any_glyph():
        figure.savefig(stream, format=kind)
    return stream.getvalue()
