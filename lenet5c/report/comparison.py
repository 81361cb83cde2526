"""write_comparison: one HTML page that shows several models side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.text import counted
from lenet5c.data.images import as_images, encode_labels
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import AnyModel, Evaluation
from lenet5c.report.canvas import printable, require_matplotlib
from lenet5c.report.curves import plot_histories
from lenet5c.report.html import (
    MAX_MODELS,
    Album,
    Section,
    page_of,
    paragraph,
    share,
    table,
)
from lenet5c.report.images import plot_mistakes
from lenet5c.report.page import check_files, page_path
from lenet5c.report.scores import (
    chance_of_split,
    reliability,
    scores,
    softmax,
    worst_mistakes,
)

__all__ = ["write_comparison"]

MAX_SHOWN = 12  # images that only one model predicts right


class _Found(NamedTuple):
    """A model and what it makes of the images."""

    name: str
    model: AnyModel
    evaluation: Evaluation
    probabilities: NDArray[np.float64]
    right: NDArray[np.bool_]


def write_comparison(
    models: Mapping[str, AnyModel],
    images: ArrayLike,
    labels: ArrayLike,
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    files: Sequence[str] | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Test models on the same images, and write what differs as a page of HTML.

    Parameters
    ----------
    models : mapping of str to Model or QuantizedModel
        By name, 2 to 6; the others are compared with the first. Of the same classes.
    images, labels : array
        As `Model.evaluate` takes them; such as were not trained on.
    path : path-like
        As in `write_report`.
    title : str or None
        The page's heading.
    files : (N,) str or None
        Paths of the images, as in `Dataset.files`.
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
        If models, images or labels do not fit each other.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> from lenet5c.report.comparison import write_comparison
    >>> data = lenet5c.datasets.digits()
    >>> models = {"tanh": lenet5c.lenet5(), "relu": lenet5c.lenet5(activation="relu")}
    >>> for model in models.values():
    ...     history = model.fit(*data.train, epochs=1)
    >>> write_comparison(models, *data.test, "both.html").name
    'both.html'
    """
    say = progress or (lambda line: None)
    require_matplotlib()
    if not 2 <= len(models) <= MAX_MODELS:
        raise ValueError(f"models: expected 2 to {MAX_MODELS}, got {len(models)}")
    first = next(iter(models.values()))
    classes = first.classes.tolist()
    for name, model in models.items():
        if set(model.classes.tolist()) != set(classes):
            raise ValueError(
                f"models: expected the same classes for all, got those of {name}, "
                f"{_few(model.classes.tolist())}, and of the first, {_few(classes)}"
            )
    pixels = as_images(images, first.input_shape)
    check_files(files, len(pixels))
    _, codes = encode_labels(labels, len(pixels), len(classes), first.classes)
    found = []
    for name, model in models.items():
        say(f"testing {printable(name)} on {len(pixels):,} images")
        order = [model.classes.tolist().index(each) for each in classes]
        chances = softmax(model.forward(images, threads=threads))[:, order]
        evaluation = model.evaluate(images, labels, threads=threads)
        confusion = evaluation.confusion[np.ix_(order, order)]
        right = chances.argmax(axis=1) == codes
        evaluation = evaluation._replace(confusion=confusion)
        found.append(_Found(printable(name), model, evaluation, chances, right))
    title = printable(
        title or f"{len(found)} models of {counted(len(classes), 'class')}"
    )

    page = page_path(path)
    if page != Path(path):
        page.parent.mkdir(exist_ok=True)
    album = Album(page.with_name(f"{page.stem}_files"), say)
    sections = [
        _figures(found),
        _agreement(found),
        _learning(album, found),
        _classes(found, classes),
    ]
    for k in range(len(found)):
        sections.append(_only(album, found, k, pixels, codes, classes, files))
    right = np.array([one.right for one in found])
    facts = {
        "images": f"{len(pixels):,}",
        "right by all": f"{right.all(axis=0).sum():,}",
    }
    if len(found) == 2:
        only = right.sum(axis=0) == 1
        facts["only the first"] = f"{(only & right[0]).sum():,}"
        facts["only the second"] = f"{(only & right[1]).sum():,}"
    facts["wrong by all"] = f"{(~right.any(axis=0)).sum():,}"
    album.tidy()
    content = page_of(title, facts, sections)
    write_atomically(page, [content.encode("utf-8", "replace")])
    return page


def _figures(found: Sequence[_Found]) -> Section:
    """A row for each model; of two, how much the second is above the first."""
    rows, columns = [], []
    for one in found:
        sure = one.probabilities.max(axis=1)
        values = (
            one.evaluation.accuracy,
            one.evaluation.loss,
            reliability(sure, one.right).error,
            (~one.right).sum(),
            one.model.parameter_count,
            one.model.multiply_adds,
            one.model.passes,
        )
        columns.append(values)
        rows.append([one.name, *_written(values)])
    heads = ["model", "accuracy", "loss", "calibration error", "wrong", "parameters"]
    heads += ["multiply-adds", "epochs"]
    total = None
    if len(found) == 2:
        differences = np.subtract(columns[1], columns[0])
        total = ["difference", *_written(differences.tolist(), "+")]
    return Section(
        "figures", "Figures", [table("", heads, rows, texts=[0], total=total)]
    )


def _written(values: Sequence[Any], sign: str = "") -> list[str]:
    """Two shares with a number between them, then counts."""
    accuracy, loss, error, *counts = values
    shares = [f"{accuracy:{sign}.2%}", f"{loss:{sign}.4f}", f"{error:{sign}.2%}"]
    return shares + [f"{int(count):{sign},}" for count in counts]


def _agreement(found: Sequence[_Found]) -> Section:
    first, rows = found[0], []
    for other in found[1:]:
        counts = [
            int((first.right & other.right).sum()),
            int((first.right & ~other.right).sum()),
            int((~first.right & other.right).sum()),
            int((~first.right & ~other.right).sum()),
        ]
        chance = chance_of_split(counts[1], counts[2])
        rows.append(
            [first.name, other.name, *(f"{n:,}" for n in counts), f"{chance:.2g}"]
        )
    heads = ["first", "second", "both right", "only the first", "only the second"]
    heads += ["both wrong", "chance"]
    note = (
        "Chance: how probable so uneven a split of the images that only one predicts "
        "right would be if both models were equally good (McNemar's exact test, "
        "two-sided). Below 0.05 the difference is seldom luck of the test images; it "
        "does not say what another training of the same network would give."
    )
    return Section(
        "agreement",
        "Who is right",
        [table("", heads, rows, texts=(0, 1)), paragraph(note)],
    )


def _learning(album: Album, found: Sequence[_Found]) -> Section:
    section = Section("learning", "Learning curves", [])
    histories = {one.name: one.model.history.to_dict() for one in found}
    missing = [name for name, lists in histories.items() if not lists.get("loss")]
    drawn = {name: lists for name, lists in histories.items() if lists.get("loss")}
    if drawn:
        section.parts.append(
            album.add(
                "learning_curves",
                lambda: plot_histories(drawn),
                "Curves of loss and accuracy by epoch, of all models.",
                "Of the images that were held out in each training, or, dashed, of the "
                "training images: means over the epoch, while the weights changed.",
            )
        )
    if missing:
        said = f"There is no history of the training of {', '.join(missing)}."
        section.parts.append(paragraph(said))
    return section


def _classes(found: Sequence[_Found], classes: Sequence[Any]) -> Section:
    of = [scores(one.evaluation.confusion) for one in found]
    rows = []
    for k, name in enumerate(classes):
        values = [float(one.f1[k]) for one in of]
        row = [name, *map(share, values)]
        if len(found) == 2:
            difference = values[1] - values[0]
            row.append(
                f"{difference:+.2%}" if np.isfinite(difference) else share(np.nan)
            )
        rows.append([*row, f"{of[0].support[k]:,}"])
    heads = ["class", *(one.name for one in found)]
    heads += ["difference"] * (len(found) == 2) + ["images"]
    note = "F1 of each class: the harmonic mean of precision and recall."
    return Section(
        "classes", "Classes", [paragraph(note), table("", heads, rows, texts=[0])]
    )


def _only(
    album: Album,
    found: Sequence[_Found],
    which: int,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    classes: Sequence[Any],
    files: Sequence[str] | None,
) -> Section:
    """The images that one model alone predicts right."""
    one = found[which]
    others = [other for other in found if other is not one]
    section = Section(f"only-{which + 1}", f"Only {one.name} is right", [])
    right = np.array([each.right for each in found])
    alone = np.flatnonzero(one.right & (right.sum(axis=0) == 1))
    if not len(alone):
        section.parts.append(paragraph("In no image."))
        return section
    seen = others[0].probabilities[alone]
    worst = alone[worst_mistakes(codes[alone], seen, MAX_SHOWN)]
    section.parts.append(
        album.add(
            f"only_{which + 1}",
            lambda: plot_mistakes(
                pixels[worst],
                codes[worst],
                others[0].probabilities[worst],
                classes,
                files=None if files is None else [files[k] for k in worst],
            ),
            f"Images that only {one.name} predicts right; they are listed below.",
            f"{counted(len(alone), 'image')}; shown are those whose true class "
            f"{others[0].name} gives the least probability, with its probabilities.",
        )
    )
    rows = []
    for k in worst:
        row = [classes[codes[k]]]
        for other in others:
            row.append(classes[int(other.probabilities[k].argmax())])
        row += [f"{each.probabilities[k, codes[k]]:.2%}" for each in (one, *others)]
        rows.append([*row, f"{k}", *([] if files is None else [files[k]])])
    heads = ["true class", *(f"by {other.name}" for other in others)]
    heads += [f"of the truth, {each.name}" for each in (one, *others)]
    heads += ["image"] + ["file"] * (files is not None)
    texts = {*range(1 + len(others)), len(heads) - (files is not None)}
    section.parts.append(
        table("The same in words; images are counted from 0", heads, rows, texts=texts)
    )
    return section


def _few(labels: Sequence[Any]) -> str:
    return f"{labels!r:.80}"
