"""Pictures made of images: mistakes, filters, feature maps, augmentation.

N images, C channels, H rows, W columns, K classes. Maps are viridis and PuOr, so that
colour-blind people see the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lenet5c._support.checks import as_array, whole
from lenet5c.data.augment import Augment
from lenet5c.interfaces import AnyModel
from lenet5c.report.canvas import (
    BLUE,
    GREY,
    LINE,
    MARGIN,
    NORMAL,
    SMALL,
    VERMILLION,
    PathLike,
    as_batch,
    canvas,
    families,
    fitting,
    labels_of,
    percent,
    put,
    scale_of,
    short,
    shown,
    small,
    text_width,
    written,
)
from lenet5c.report.scores import worst_mistakes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_FILTERS = 64
MAX_MAPS = 16  # of a layer
MAPS_IN_A_ROW = 8
MORE_COLUMNS = 16


def plot_mistakes(
    images: ArrayLike,
    codes: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[Any],
    path: PathLike = None,
    *,
    most: int = 20,
    files: Sequence[str] | None = None,
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
    files : (N,) str or None
        Paths of the images, whose last parts are written below them.

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
    pixels = as_batch(images)
    names = labels_of(classes)
    truth, table = as_array("codes", codes), as_array("probabilities", probabilities)
    worst = worst_mistakes(truth, table, most)
    columns, bars_shown = 4, 3  # classes with a bar beside each image
    side, bars = 1.0, 1.3
    wide, high = side + bars + 0.25, side + LINE + 0.22 + LINE * (files is not None)
    rows = max(1, math.ceil(len(worst) / columns))
    columns = min(columns, max(2, len(worst)))
    figure, axes = canvas(columns * wide + 2 * MARGIN, rows * high + 2 * MARGIN)
    if not len(worst):
        axes.text(MARGIN, MARGIN + LINE, "There are no mistakes.", fontsize=NORMAL)
    for place, index in enumerate(worst):
        row, column = divmod(place, columns)
        x, y = MARGIN + column * wide, MARGIN + row * high
        row_of = table[index]
        best = (-row_of).argsort(kind="stable")[:bars_shown]
        named = [int(k) for k in best]
        if truth[index] not in named:
            named[-1] = int(truth[index])
        room = (wide - 0.2 - text_width("is , taken for ", SMALL)) / 2
        pair = [fitting(names[k], room, SMALL) for k in (truth[index], named[0])]
        words = "is {}, taken for {}".format(*pair)
        look: dict[str, Any] = {"fontsize": SMALL, "va": "center"}
        axes.text(x, y + 0.6 * LINE, words, fontfamily=families(words), **look)
        if files is not None:
            file = fitting(Path(files[index]).name, wide - 0.2, SMALL, longest=48)
            below = y + LINE + side + 0.6 * LINE
            axes.text(x, below, file, color=GREY, fontfamily=families(file), **look)
        put(axes, shown(pixels[index]), x, y + LINE, side)
        for line, k in enumerate(named):
            at = y + LINE + 0.08 + line * 0.32
            right = k == truth[index]
            left = x + side + 0.1
            name = fitting(names[k], 0.62 * bars - 0.1, SMALL, right)
            axes.text(
                left,
                at + 0.05,
                name,
                fontfamily=families(name),
                weight="bold" if right else "normal",
                **look,
            )
            share = percent(float(row_of[k]))
            axes.text(left + bars - 0.1, at + 0.05, share, ha="right", **look)
            axes.barh(
                at + 0.16,
                max(0.01, (bars - 0.1) * float(row_of[k])),
                0.07,
                left=left,
                color=BLUE if right else VERMILLION,
            )
    return written(figure, path)


def plot_filters(model: AnyModel, path: PathLike = None) -> Figure:
    """Draw the weights of the first layer: filters, or what each unit looks at.

    White is 0, orange below, purple above. Filters of three channels are shown as
    colours, in which grey is 0. Of a network in integers they are these.

    Parameters
    ----------
    model : Model or QuantizedModel
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> figure = lenet5c.plots.plot_filters(model, "filters.png")
    """
    if model.first_weights is None:
        raise ValueError("model: expected a convolution or a dense layer, got neither")
    name, weight = model.first_weights
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
    figure, axes = canvas(width, top + rows * (side + gap + LINE) + MARGIN)
    size = "x".join(map(str, weight.shape[2:]))
    most = f"{largest:.2g}" if largest < 100 else f"{largest:.0f}"
    text = f"{short(name)}: {count} of {channels}x{size}, from -{most} to {most}"
    text += f"; the first {MAX_FILTERS}" if more > 0 else ""
    font = families(text)
    look: dict[str, Any] = {"fontfamily": font, "fontsize": NORMAL, "va": "center"}
    axes.text(MARGIN, MARGIN + 0.5 * LINE, text, **look)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        x = MARGIN + column * (side + gap)
        y = top + row * (side + gap + LINE)
        axes.text(x, y + 0.5 * LINE, labels[place], fontsize=SMALL, va="center")
        put(axes, tile, x, y + LINE, side, **({} if tile.ndim == 3 else options))
    return written(figure, path)


def plot_feature_maps(
    model: AnyModel, image: ArrayLike, path: PathLike = None
) -> Figure:
    """Draw what the convolutions and poolings make of one image.

    Parameters
    ----------
    model : Model or QuantizedModel
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
    layers = list(model.map_shapes.items())
    side, gap, left = 0.98, 0.08, 1.3
    rows_of = [math.ceil(min(s[0], MAX_MAPS) / MAPS_IN_A_ROW) for _, s in layers]
    row_high, space = side + gap, 0.12
    high = row_high * (1 + sum(rows_of)) + space * len(layers) + 2 * MARGIN
    most = max((min(shape[0], MAPS_IN_A_ROW) for _, shape in layers), default=1)
    figure, axes = canvas(left + most * row_high + 2 * MARGIN, high)

    def label(y: float, name: str, *lines: str) -> None:
        short_name = fitting(name, left - MARGIN - 0.1, NORMAL, True)
        look: dict[str, Any] = {"fontfamily": families(short_name), "fontsize": NORMAL}
        axes.text(MARGIN, y + 0.12, short_name, weight="bold", **look)
        for k, line in enumerate(lines, 1):
            axes.text(MARGIN, y + 0.12 + k * LINE, line, fontsize=SMALL)

    y = MARGIN
    batch = pixels[np.newaxis]
    label(y, "input", "x".join(map(str, pixels.shape)))
    put(axes, shown(as_batch(batch)[0]), left, y, side)
    y += row_high + space
    for (name, shape), rows in zip(layers, rows_of, strict=True):
        maps = model.activations(batch, name)[0]
        lines = ["{}@{}x{}".format(*shape)]
        lines.append(f"{small(maps.min())} to {small(maps.max())}")
        if shape[0] > MAX_MAPS:
            lines.append(f"the first {MAX_MAPS}")
        label(y, name, *lines)
        scale = {"vmin": maps.min(), "vmax": maps.max(), "cmap": "viridis"}
        for place, one in enumerate(maps[:MAX_MAPS]):
            row, column = divmod(place, MAPS_IN_A_ROW)
            x = left + column * row_high
            put(axes, one, x, y + row * row_high, side, **scale)
        y += rows * row_high + space
    return written(figure, path)


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
    pixels = as_batch(images)
    changed = [
        augment.apply(pixels, epoch=epoch, seed=seed)
        for epoch in range(1, variants + 1)
    ]
    unit = 255 if pixels.dtype == np.uint8 else 1
    scale = scale_of(pixels / unit)
    side, gap, apart = 1.0, 0.08, 0.2
    step, top = side + gap, MARGIN + 1.5 * LINE
    figure, axes = canvas(
        (1 + variants) * step + apart + 2 * MARGIN, top + len(pixels) * step + MARGIN
    )
    for text, x in (("original", 0.0), ("augmented", step + apart)):
        y = MARGIN + 0.5 * LINE
        axes.text(MARGIN + x, y, text, fontsize=NORMAL, va="center")
    for row, original in enumerate(pixels):
        y = top + row * step
        put(axes, shown(original / unit, scale), MARGIN, y, side)
        for column, variant in enumerate(changed, 1):
            x = MARGIN + apart + column * step
            put(axes, shown(variant[row], scale), x, y, side)
    return written(figure, path)
