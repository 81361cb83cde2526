"""write_report: one HTML page that shows how good a model is, and where it fails.

The page needs no other file and no network: pictures are inside of it, and once more as
PNG files in a folder beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.text import counted
from lenet5c.data.images import as_images, encode_labels
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import AnyModel, Evaluation, most_confused
from lenet5c.report.canvas import drawable, numbered, printable, require_matplotlib
from lenet5c.report.curves import (
    epochs_of,
    plot_calibration,
    plot_confusion,
    plot_history,
    plot_rankings,
)
from lenet5c.report.history import History, read_history
from lenet5c.report.html import (
    Album,
    Section,
    page_of,
    paragraph,
    share,
    table,
)
from lenet5c.report.images import (
    plot_feature_maps,
    plot_filters,
    plot_mistakes,
)
from lenet5c.report.occlusion import plot_occlusion
from lenet5c.report.scores import (
    Ranking,
    Reliability,
    ranking,
    reliability,
    scores,
    softmax,
    worst_mistakes,
)

__all__ = ["page_path", "write_report"]

PathLike = str | os.PathLike[str]
Lists = Mapping[str, Sequence[float | None]]

MAX_MISTAKES = 20
MAX_COVERED = 8  # of them: pictures of what they hang on
MAX_CONFUSIONS = 10


def page_path(path: PathLike) -> Path:
    """Where the page goes: `path` if it ends in .html, report.html in it otherwise."""
    page = Path(path)
    return page if page.suffix.lower() in (".html", ".htm") else page / "report.html"


def write_report(
    model: AnyModel,
    images: ArrayLike,
    labels: ArrayLike,
    path: PathLike,
    history: History | Lists | PathLike | None = None,
    title: str | None = None,
    *,
    files: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Test the model on the images, and write what is found as a page of HTML.

    Parameters
    ----------
    model : Model or QuantizedModel
    images, labels : array
        As `Model.evaluate` takes them; such as were not trained on.
    path : path-like
        NAME.html, or a folder, which is made if there is none, for report.html. The
        pictures are also written as PNG files into NAME_files beside the page.
    history : History, mapping, path-like or None
        For the learning curves: what `fit` returned, or its lists by name, or a file
        for `read_history`. None is the model's own.
    title : str or None
        The page's heading.
    files : (N,) str or None
        Paths of the images, as in `Dataset.files`, to find mistakes by.
    threads : int or None
        As in `Model.evaluate`.
    progress : callable or None
        Is told what is done next, a line of text each time.

    Returns
    -------
    Path
        The page. It is written at last, all or nothing.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError, TypeError
        If images, labels or history do not fit.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> from lenet5c.report.page import write_report
    >>> data = lenet5c.datasets.digits()
    >>> model = lenet5c.lenet5()
    >>> history = model.fit(*data.train, epochs=1)
    >>> write_report(model, *data.test, "digits.html").name
    'digits.html'
    """
    say = progress or (lambda line: None)
    require_matplotlib()
    if isinstance(history, (str, os.PathLike)):
        history = read_history(history)
    told = model.history if history is None else history
    lists: Lists = told if isinstance(told, Mapping) else told.to_dict()
    page = page_path(path)
    pixels = as_images(images, model.input_shape)
    say(f"testing the model on {len(pixels):,} images")
    _, codes = encode_labels(labels, len(pixels), model.class_count, model.classes)
    check_files(files, len(pixels))
    probabilities = softmax(model.forward(pixels, threads=threads))
    found = model.evaluate(pixels, labels, threads=threads)
    correct = probabilities.argmax(axis=1) == codes
    calibration = reliability(probabilities.max(axis=1), correct)
    rankings = [
        ranking(codes == k, probabilities[:, k]) for k in range(model.class_count)
    ]
    worst = worst_mistakes(codes, probabilities, MAX_MISTAKES)
    title = printable(title or f"A model of {counted(model.class_count, 'class')}")

    if page != Path(path):
        page.parent.mkdir(exist_ok=True)
    album = Album(page.with_name(f"{page.stem}_files"), say)
    sections = [
        _learning(album, lists),
        _confusion(album, model, found),
        _classes(album, model, found, rankings),
        _calibration(album, calibration, found.accuracy, probabilities),
        _mistakes(album, model, pixels, codes, probabilities, worst, files),
        _occlusion(album, model, pixels[worst[:MAX_COVERED]], threads),
        _filters(album, model),
        _maps(album, model, pixels, codes, correct),
        _summary(model),
    ]
    facts = {
        "accuracy": f"{found.accuracy:.2%}",
        "wrong": f"{len(pixels) - int(correct.sum()):,} of {len(pixels):,}",
        "loss": f"{found.loss:.4f}",
        "calibration error": f"{calibration.error:.2%}",
        "parameters": f"{model.parameter_count:,}"
        + f" in {model.dtype}" * (model.dtype != "float32"),
    }
    album.tidy()
    write_atomically(page, [page_of(title, facts, sections).encode("utf-8", "replace")])
    return page


def check_files(files: Sequence[str] | None, count: int) -> None:
    """A ValueError unless there is one for each of so many images, or none at all."""
    if files is not None and len(files) != count:
        raise ValueError(
            f"files: expected one for each of the {count} images, got {len(files)}"
        )


def _learning(album: Album, lists: Lists) -> Section:
    section = Section("learning", "Learning curves", [])
    epochs = epochs_of(lists)
    if not epochs:
        section.parts.append(
            paragraph("There is no history of the training, so none is drawn.")
        )
        return section
    section.parts.append(
        album.add(
            "learning_curves",
            lambda: plot_history(lists),
            "Curves of loss and accuracy by epoch.",
            f"{counted(epochs[-1], 'epoch')}. Training figures are means over the "
            "epoch, while the weights changed; validation figures are those at its "
            "end.",
        )
    )
    return section


def _confusion(album: Album, model: AnyModel, found: Evaluation) -> Section:
    classes = model.classes.tolist()
    figure = album.add(
        "confusion_matrix",
        lambda: plot_confusion(found.confusion, classes),
        "The confusion matrix; its mistakes are listed below.",
        "How often each class (row) was predicted as each (column). Grey fields are "
        "empty.",
    )
    rows = [
        [classes[true], classes[taken], f"{count:,}", share(of_class)]
        for true, taken, count, of_class in most_confused(
            found.confusion, MAX_CONFUSIONS
        )
    ]
    parts = [figure]
    if rows:
        columns = ("true class", "predicted as", "images", "of the class")
        parts.append(table("The most frequent mistakes", columns, rows, texts=(0, 1)))
    return Section("confusion", "Confusion matrix", parts)


def _classes(
    album: Album, model: AnyModel, found: Evaluation, rankings: Sequence[Ranking]
) -> Section:
    of = scores(found.confusion)
    precisions = np.array([one.average_precision for one in rankings])
    areas = np.array([one.area for one in rankings])
    names = model.classes.tolist()
    shown = [  # what stands for a name in the pictures is beside it here
        name if drawable(printable(name)) else f"{printable(name)} ({numbered(k)})"
        for k, name in enumerate(names)
    ]
    columns = *of[:3], precisions, areas
    rows = [
        [name, *map(share, values), f"{count:,}"]
        for name, *values, count in zip(shown, *columns, of.support, strict=True)
    ]
    means = [_mean(values) for values in columns]
    total = ["mean of the classes", *map(share, means), f"{of.support.sum():,}"]
    heads = ("class", "precision", "recall", "F1", "AP", "AUC", "images")
    note = (
        "Precision: of the images predicted to be of the class, the share that are. "
        "Recall: of the class's images, the share found. F1: their harmonic mean. "
        "AP, the average precision, and AUC, the area under the ROC curve, are over "
        "all thresholds of the class's probability."
    )
    parts = [paragraph(note), table("", heads, rows, texts=[0], total=total)]
    if np.isfinite(areas).any():
        figure = album.add(
            "rankings",
            lambda: plot_rankings(rankings, names),
            "Curves of precision by recall and of recall by false positive rate.",
            "Each class against all others: what its probability is worth if another "
            "threshold decides. The best corner is shown enlarged where all curves "
            "are in it.",
        )
        parts.append(figure)
    return Section("classes", "Classes", parts)


def _mean(values: NDArray[np.float64]) -> float:
    """Of those that there are."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _calibration(
    album: Album,
    found: Reliability,
    accuracy: float,
    probabilities: NDArray[np.float64],
) -> Section:
    sure = float(probabilities.max(axis=1).mean())
    excess = "more" if sure > accuracy else "less"
    note = (
        f"On average the model gives its prediction a probability of {sure:.2%} and is "
        f"right in {accuracy:.2%}: it is {excess} sure than right by "
        f"{abs(sure - accuracy):.2%}. The expected calibration error, the mean "
        f"distance of both in {len(found.counts)} bins of probability, is "
        f"{found.error:.2%}."
    )
    figure = album.add(
        "calibration",
        lambda: plot_calibration(found),
        "Reliability diagram: share that is right by probability of the prediction.",
        "Points below the line: the model is too sure there. Long lines: too few "
        "images to tell.",
    )
    return Section("calibration", "Calibration", [paragraph(note), figure])


def _mistakes(
    album: Album,
    model: AnyModel,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    probabilities: NDArray[np.float64],
    worst: NDArray[np.intp],
    files: Sequence[str] | None,
) -> Section:
    classes = model.classes.tolist()
    section = Section("mistakes", "Worst mistakes", [])
    if not len(worst):
        section.parts.append(
            paragraph("There are none: every image was predicted right.")
        )
        return section
    rows = []
    for index in worst:
        truth, taken = int(codes[index]), int(probabilities[index].argmax())
        pair = [f"{probabilities[index, k]:.2%}" for k in (taken, truth)]
        name = [] if files is None else [files[index]]
        rows.append([classes[truth], classes[taken], *pair, f"{index}", *name])
    columns = ["true class", "predicted as", "probability", "of the truth", "image"]
    columns += [] if files is None else ["file"]
    section.parts.append(
        album.add(
            "mistakes",
            lambda: plot_mistakes(pixels, codes, probabilities, classes, files=files),
            "The images that were mistaken; they are listed below.",
            "The images whose true class was given the least probability, with the "
            "most probable classes. The true one is bold and blue.",
        )
    )
    caption = "The same in words; images are counted from 0"
    section.parts.append(table(caption, columns, rows, texts=(0, 1, 5)))
    return section


def _occlusion(
    album: Album, model: AnyModel, pixels: NDArray[Any], threads: int | None
) -> Section:
    section = Section("occlusion", "What the worst mistakes hang on", [])
    if not len(pixels):
        section.parts.append(paragraph("There are no mistakes to look into."))
        return section
    section.parts.append(
        album.add(
            "occlusion",
            lambda: plot_occlusion(model, pixels, threads=threads),
            "The worst mistakes, and which parts of them the prediction hangs on.",
            "A square of background covers one part of the image after the other. "
            "Purple: without it, the predicted class is less probable; orange: more "
            "probable. The square shown changes the probability most, from the first "
            "number to the second.",
        )
    )
    return section


def _filters(album: Album, model: AnyModel) -> Section:
    section = Section("filters", "Filters of the first layer", [])
    if model.first_weights is None:
        section.parts.append(
            paragraph("This network has no convolution and no dense layer.")
        )
        return section
    section.parts.append(
        album.add(
            "filters",
            lambda: plot_filters(model),
            "The weights of the first layer as pictures.",
            "Grey is 0, and each filter's three channels are shown as its colours."
            if model.input_shape[0] == 3
            else "White is 0, orange below and purple above.",
        )
    )
    return section


def _maps(
    album: Album,
    model: AnyModel,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    correct: NDArray[np.bool_],
) -> Section:
    section = Section("maps", "Feature maps", [])
    layers = list(map(printable, model.map_shapes))
    if not layers:
        section.parts.append(
            paragraph("This network has no convolution and no pooling.")
        )
        return section
    index = int(correct.argmax())  # the first that is right, or the first of all
    name = printable(model.classes[codes[index]])
    section.parts.append(
        album.add(
            "feature_maps",
            lambda: plot_feature_maps(model, pixels[index]),
            f"What the layers {', '.join(layers)} make of one image.",
            f"What the network makes of image {index}, of class {name}, from layer to "
            "layer, after the activation. Colours go from each layer's smallest value "
            "(dark) to its largest (light).",
        )
    )
    return section


def _summary(model: AnyModel) -> Section:
    channels, height, width = model.input_shape
    rows, columns = model.source
    note = f"Input: {counted(channels, 'channel')} of {height}x{width}"
    if (rows, columns) != (height, width):
        note += f"; images of {rows}x{columns} are centred in it"
    if (model.stage.mean, model.stage.deviation) != (0.0, 1.0):
        note += (
            f". Pixels are normalised with the mean {model.stage.mean:.4f} and the "
            f"deviation {model.stage.deviation:.4f} of the training images"
        )
    layers = f"<pre>{escape(model.summary())}</pre>"
    return Section("model", "Model", [paragraph(f"{note}."), layers])
