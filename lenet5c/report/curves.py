"""Pictures of numbers: learning curves, confusion, calibration, classes apart.

K classes. Colours are those of Okabe and Ito (2008) and the map viridis, so that
colour-blind people see the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array
from lenet5c.interfaces import Lists
from lenet5c.report.canvas import (
    BLUE,
    GREY,
    NORMAL,
    ON_DARK,
    ON_LIGHT,
    SERIES,
    SKY,
    SMALL,
    VERMILLION,
    PathLike,
    families,
    labels_of,
    new_figure,
    plain_frame,
    require_matplotlib,
    short,
    text_width,
    written,
)
from lenet5c.report.scores import Ranking, Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_EPOCHS_MARKED = 40
MAX_CLASSES_COUNTED = 15  # in a confusion matrix, with numbers in its fields


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
    figure = new_figure(10.2 if rates else 7.2, 3.2)
    panels = figure.subplots(1, 3 if rates else 2)
    _draw_curves(panels[0], lists, "loss", 1)
    _draw_curves(panels[1], lists, "accuracy", 100)
    panels[0].set_title("Loss")
    panels[1].set_title("Accuracy, %")
    epochs = epochs_of(lists)
    if rates:
        _draw_line(panels[2], epochs, lists["learning_rate"], 1, BLUE, "-", "o", "")
        panels[2].set_title("Learning rate")
        panels[2].set_ylim(bottom=0)
    for axes in panels:
        _tidy_epochs(axes, epochs)
    return written(figure, path)


def plot_histories(
    histories: Mapping[str, Lists | Mapping[str, Sequence[float | None]]],
    path: PathLike = None,
) -> Figure:
    """Draw loss and accuracy of several trainings over each other.

    Parameters
    ----------
    histories : mapping of str to History or mapping
        By the name of the training. Those of the validation are drawn, and dashed those
        of the training images where a training had no validation.
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> first = lenet5c.History(loss=[0.5, 0.3], accuracy=[0.8, 0.9])
    >>> second = lenet5c.History(loss=[0.6, 0.2], accuracy=[0.7, 0.95])
    >>> both = {"first": first, "second": second}
    >>> figure = lenet5c.plots.plot_histories(both)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['first, training', 'second, training']
    """
    figure = new_figure(7.2, 3.4)
    panels = figure.subplots(1, 2)
    last = [1]
    handles: dict[str, Any] = {}
    for k, (name, history) in enumerate(histories.items()):
        lists = history if isinstance(history, Mapping) else history.to_dict()
        epochs = epochs_of(lists)
        last += epochs
        validated = bool(len(lists.get("validation_loss", ())))
        kind = "validation" if validated else "training"
        label = f"{short(name, 30)}, {kind}"
        for axes, which, unit in zip(
            panels, ("loss", "accuracy"), (1, 100), strict=True
        ):
            values = lists.get(f"validation_{which}" if validated else which, ())
            colour, style = SERIES[k % len(SERIES)], "-" if validated else "--"
            _draw_line(axes, epochs, values, unit, colour, style, "o", label)
            handles[label] = axes.lines[-1]
    panels[0].set_title("Loss")
    panels[1].set_title("Accuracy, %")
    for axes in panels:
        _tidy_epochs(axes, range(1, max(last) + 1))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower left",
        ncols=2,
        frameon=False,
        prop={"family": families(*handles), "size": SMALL},
    )
    return written(figure, path)


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
    names = [short(name) for name in labels_of(classes)]
    fonts = families(*names)
    count = len(names)
    counted = count <= MAX_CLASSES_COUNTED
    cell = max(0.42, min(0.7, 3.4 / count)) if counted else 0.18
    size = NORMAL if count <= 10 else SMALL if counted else 7
    longest = max(text_width(name, size) for name in names)
    turned = longest > 0.9 * cell
    names_wide = 0.3 + longest
    names_high = names_wide if turned else 0.4
    figure = new_figure(
        count * cell + names_wide + 1.7,
        count * cell + names_high + 0.4,
        layout="compressed",
    )
    axes = figure.subplots()
    colours = colormaps["viridis_r"].with_extremes(bad=(0.5, 0.5, 0.5, 0.08))
    # Most shares are near 0 or 1: the power brings the small ones apart.
    image = axes.imshow(
        np.ma.masked_equal(shares, 0),
        cmap=colours,
        norm=PowerNorm(0.4, 0, 1),
        interpolation="none",
    )
    at = np.arange(count)
    look: dict[str, Any] = {"fontsize": size, "fontfamily": fonts}
    axes.set_xticks(at, names, rotation=90 if turned else 0, **look)
    axes.set_yticks(at, names, **look)
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
                color=ON_DARK if shares[row, column] > 0.12 else ON_LIGHT,
                ha="center",
                va="center",
            )
    bar = figure.colorbar(
        image, ax=axes, ticks=[0, 0.01, 0.1, 0.5, 1], shrink=0.8, aspect=30
    )
    bar.ax.set_yticklabels(["0 %", "1 %", "10 %", "50 %", "100 %"], fontsize=SMALL)
    bar.set_label("share of the true class", fontsize=SMALL)
    bar.ax.spines[:].set_visible(False)
    return written(figure, path)


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
    figure = new_figure(5.2, 5.4)
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
        plain_frame(axes)
        axes.grid(axis="y", alpha=0.25)
    return written(figure, path)


def plot_rankings(
    rankings: Sequence[Ranking], classes: Sequence[Any], path: PathLike = None
) -> Figure:
    """Draw precision by recall, and recall by false positive rate (ROC).

    Parameters
    ----------
    rankings : (K,) Ranking
        Of each class, from `ranking`. The five of the least average precision have
        colours, the others are grey.
    classes : (K,)
        Their names.
    path : path-like or None

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If there are not as many rankings as classes.

    Examples
    --------
    >>> one = lenet5c.plots.ranking([True, False, True], [0.9, 0.2, 0.8])
    >>> figure = lenet5c.plots.plot_rankings([one, one], ["cat", "dog"])
    >>> [axes.get_title() for axes in figure.axes]
    ['Precision and recall', 'ROC']
    """
    if len(rankings) != len(classes):
        raise ValueError(
            f"rankings: expected one for each of the {len(classes)} classes, got "
            f"{len(rankings)}"
        )
    names = labels_of(classes)
    figure = new_figure(7.2, 4.1)
    panels = figure.subplots(1, 2)
    precisions = np.array([of.average_precision for of in rankings])
    known = np.flatnonzero(np.isfinite([of.area for of in rankings]))
    worst = known[precisions[known].argsort(kind="stable")[: len(SERIES) - 1]].tolist()
    others = [k for k in known.tolist() if k not in worst]
    for k in [*others, *reversed(worst)]:  # the worst one on top
        of = rankings[k]
        look = {"color": GREY, "linewidth": 0.6, "alpha": 0.45}
        if k in worst:
            look = {"color": SERIES[worst.index(k)], "linewidth": 1.6}
            look["label"] = (
                f"{short(names[k])}: {of.average_precision:.3f}, {of.area:.4f}"
            )
        recall = np.concatenate([[0.0], of.recall])
        precision = np.concatenate([of.precision[:1], of.precision])
        rate = np.concatenate([[0.0], of.false_positive_rate])
        panels[0].step(recall, precision, where="post", **look)
        panels[1].plot(rate, recall, **look)
    panels[0].set_title("Precision and recall")
    panels[1].set_title("ROC")
    panels[0].set_xlabel("recall")
    panels[0].set_ylabel("precision")
    panels[1].set_xlabel("false positive rate")
    panels[1].set_ylabel("recall (true positive rate)")
    shown = [rankings[k] for k in worst]
    side = _corner(max(_balance(1 - of.precision, 1 - of.recall) for of in shown))
    panels[0].set_xlim(1 - side, 1 + 0.02 * side)
    panels[0].set_ylim(1 - side, 1 + 0.02 * side)
    side = _corner(max(_balance(of.false_positive_rate, 1 - of.recall) for of in shown))
    panels[1].set_xlim(-0.02 * side, side)
    panels[1].set_ylim(1 - side, 1 + 0.02 * side)
    for axes in panels:
        axes.grid(alpha=0.25)
        plain_frame(axes)
    lines = [found[::-1] for found in panels[0].get_legend_handles_labels()]
    legend = figure.legend(
        *lines,
        loc="outside lower left",
        title="Average precision and area under the ROC curve"
        + (f", of the lowest {len(worst)}" if others else ""),
        alignment="left",
        ncols=2,
        frameon=False,
        prop={"family": families(*lines[1]), "size": SMALL},
    )
    legend.get_title().set_fontsize(SMALL)
    return written(figure, path)


def _balance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Where a curve is nearest to the corner in which both errors are 0."""
    return float(np.maximum(one, other).min())


def _corner(nearest: float) -> float:
    """How much of the unit square to show, so that the curve is seen."""
    sides = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    return next((side for side in sides if side >= 3 * nearest > 0), 1.0)


def _draw_curves(
    axes: Axes, lists: Mapping[str, Sequence[float | None]], name: str, unit: float
) -> None:
    """Draw the training's and the validation's list of that name."""
    validation = lists.get(f"validation_{name}", ())
    epochs = epochs_of(lists)
    trained = lists.get(name, ())
    drawn = _draw_line(axes, epochs, trained, unit, BLUE, "-", "o", "training")
    if len(validation):
        more = _draw_line(
            axes, epochs, validation, unit, VERMILLION, "--", "s", "validation"
        )
        drawn = np.concatenate([drawn, more])
        axes.legend(frameon=False, fontsize=SMALL)
    drawn = drawn[np.isfinite(drawn)]
    if name == "loss" and len(drawn) and 0 < 20 * drawn.min() < drawn.max():
        axes.set_yscale("log")


def epochs_of(lists: Mapping[str, Sequence[float | None]]) -> list[int]:
    """The numbers of the epochs: 1, 2, 3, ..., unless it is said."""
    longest = max((len(x) for name, x in lists.items() if name != "epoch"), default=0)
    said = lists.get("epoch", ())
    if not len(said):
        return list(range(1, longest + 1))
    whole = [int(k) for k in said if k is not None and float(k).is_integer()]
    if not len(said) == len(whole) == longest:
        raise ValueError(
            f"epoch: expected whole numbers, as many as the {longest} entries of the "
            f"longest list, got {said!r:.80}"
        )
    return whole


def _draw_line(
    axes: Axes,
    epochs: Sequence[int],
    values: Sequence[float | None],
    unit: float,
    colour: str,
    style: str,
    marker: str,
    label: str,
) -> NDArray[np.float64]:
    """Draw one value for each epoch; return what was drawn."""
    y = unit * np.array(values, np.float64)  # None becomes NaN, which is not drawn
    marked = len(y) <= MAX_EPOCHS_MARKED
    axes.plot(
        epochs[: len(y)],
        y,
        style,
        color=colour,
        marker=marker if marked else "",
        markersize=4,
        linewidth=1.6,
        label=label,
    )
    return y


def _tidy_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    first, last = (epochs[0], epochs[-1]) if epochs else (1, 1)
    axes.set_xlim(first - 0.5, last + 0.5)
    axes.grid(alpha=0.25)
    plain_frame(axes)
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


def _wilson(
    share: NDArray[np.float64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both ends of the 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    half *= z / (1 + z * z / count)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
