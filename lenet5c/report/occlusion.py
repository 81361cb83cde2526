"""What a prediction hangs on: parts of the image are covered, one after the other.

C channels, H rows, W columns. The method is that of Zeiler and Fergus (2014), section
4.2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, whole
from lenet5c.interfaces import AnyModel
from lenet5c.report.canvas import (
    LINE,
    MARGIN,
    ON_LIGHT,
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
    shown,
    written,
)
from lenet5c.report.scores import softmax

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

__all__ = ["Occlusion", "occlusion", "plot_occlusion"]

COLUMNS = 4
PATCHES_A_SIDE = 4  # a patch is a quarter of the shorter side of the image
STEPS_A_PATCH = 3  # from one place of the patch to the next


class Occlusion(NamedTuple):
    """How a prediction changes where the image is covered.

    Attributes
    ----------
    effect : (H, W) float64
        How much of the predicted class's probability is lost, the mean over the patches
        that cover the pixel. Below 0: the class becomes more probable.
    code : int
        Number of the predicted class.
    probability : float
        Of that class, with nothing covered.
    covered : float
        Its probability under the patch that changes it most.
    row, column : int
        The upper left corner of that patch.
    patch : int
        Its rows and columns.

    Examples
    --------
    >>> found = lenet5c.plots.occlusion(model, images[0])
    >>> found.effect.shape, found.covered < found.probability
    ((28, 28), True)
    """

    effect: NDArray[np.float64]
    code: int
    probability: float
    covered: float
    row: int
    column: int
    patch: int


def occlusion(
    model: AnyModel,
    image: ArrayLike,
    *,
    patch: int | None = None,
    threads: int | None = None,
) -> Occlusion:
    """Cover the image with a square of background at each place, and predict.

    Parameters
    ----------
    model : Model or QuantizedModel
    image : (H, W) or (C, H, W)
        As `predict` takes them.
    patch : int or None
        Rows and columns of the square; None is a quarter of the shorter side.
    threads : int or None

    Returns
    -------
    Occlusion

    Raises
    ------
    ValueError, TypeError
        If the image does not fit the model, or the patch the image.

    Examples
    --------
    >>> image = lenet5c.datasets.digits().test.images[0]
    >>> found = lenet5c.plots.occlusion(lenet5c.lenet5(), image)
    >>> found.effect.shape, found.patch
    ((28, 28), 7)
    """
    pixels = as_array("image", image)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ValueError(
            f"image: expected (H, W) or (C, H, W), got the shape {pixels.shape}"
        )
    maps = as_batch(pixels[np.newaxis])[0]
    _, height, width = maps.shape
    side = min(height, width)
    if patch is None:
        patch = max(1, round(side / PATCHES_A_SIDE))
    patch = whole("patch", patch, 1, side)
    step = max(1, patch // STEPS_A_PATCH)
    rows, columns = (
        [*range(0, length - patch, step), length - patch] for length in (height, width)
    )
    places = [(row, column) for row in rows for column in columns]
    images = np.repeat(maps[np.newaxis], len(places) + 1, axis=0)
    background = _background(model, maps)
    for k, (row, column) in enumerate(places, 1):
        images[k, :, row : row + patch, column : column + patch] = background
    chances = softmax(model.forward(images, threads=threads))
    code = int(chances[0].argmax())
    before, after = chances[0, code], chances[1:, code]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (row, column), chance in zip(places, after, strict=True):
        part = slice(row, row + patch), slice(column, column + patch)
        total[part] += before - chance
        count[part] += 1
    most = int(np.abs(before - after).argmax())
    return Occlusion(
        total / count, code, float(before), float(after[most]), *places[most], patch
    )


def plot_occlusion(
    model: AnyModel,
    images: ArrayLike,
    path: PathLike = None,
    *,
    patch: int | None = None,
    threads: int | None = None,
) -> Figure:
    """Draw images, and beside each one what its prediction hangs on.

    Purple is what speaks for the predicted class: where it is covered, the class
    becomes less probable. Orange speaks against it. The square is the patch that
    changes the probability most; above the image stands from how much to how much.

    Parameters
    ----------
    model : Model or QuantizedModel
    images : (N, H, W) or (N, C, H, W)
        As `predict` takes them.
    path : path-like or None
    patch : int or None
        As in `occlusion`.
    threads : int or None

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError, TypeError
        If the images do not fit the model, or the patch the images.

    Examples
    --------
    >>> images = lenet5c.datasets.digits().test.images[:3]
    >>> figure = lenet5c.plots.plot_occlusion(lenet5c.lenet5(), images)
    >>> len(figure.axes[0].images)
    6
    """
    pixels = as_batch(images)
    found = [occlusion(model, one, patch=patch, threads=threads) for one in pixels]
    names = labels_of(model.classes.tolist())
    largest = max(float(np.abs(one.effect).max()) for one in found) or 1.0
    side, gap, apart = 1.05, 0.06, 0.36
    wide, high = 2 * side + gap + apart, side + LINE + 0.22
    columns = min(COLUMNS, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    figure, axes = canvas(columns * wide - apart + 2 * MARGIN, rows * high + 2 * MARGIN)
    scale = {"cmap": "PuOr", "vmin": -largest, "vmax": largest}
    for k, (image, one) in enumerate(zip(pixels, found, strict=True)):
        row, column = divmod(k, columns)
        x, y = MARGIN + column * wide, MARGIN + row * high
        change = f": {percent(one.probability)} to {percent(one.covered)}"
        words = fitting(names[one.code], 0.9, SMALL) + change
        axes.text(
            *(x, y + 0.5 * LINE, words),
            fontfamily=families(words),
            fontsize=SMALL,
            va="center",
        )
        put(axes, shown(image), x, y + LINE, side)
        put(axes, one.effect, x + side + gap, y + LINE, side, **scale)
        pixel = side / max(one.effect.shape)
        top, left = ((side - pixel * n) / 2 for n in one.effect.shape)
        left, top = x + left + pixel * one.column, y + LINE + top + pixel * one.row
        for beside, colour in ((0, VERMILLION), (side + gap, ON_LIGHT)):
            axes.add_patch(_square(left + beside, top, pixel * one.patch, colour))
    return written(figure, path)


def _square(x: float, y: float, side: float, colour: str) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), side, side, fill=False, edgecolor=colour, linewidth=1.2)


def _background(model: AnyModel, image: NDArray[np.generic]) -> float:
    """The value of the image's pixels that is background to the network."""
    stage = model.stage
    if image.dtype != np.uint8 and stage.pixels != "bytes":
        return float(stage.background)
    share = min(1.0, max(0.0, stage.background * stage.deviation + stage.mean))
    return round(255 * share) if image.dtype == np.uint8 else share
