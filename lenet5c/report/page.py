"""write_report: one HTML page that shows how good a model is, and where it fails.

The page needs no other file and no network: pictures are inside of it, and once more as
PNG files in a folder beside it. Whatever comes from outside, as names of classes and
layers do, is escaped, and the page itself allows no script.
"""

from __future__ import annotations

import base64
import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.build import __version__
from lenet5c.data.images import as_images, encode_labels
from lenet5c.display import brief
from lenet5c.files.atomic import write_atomically
from lenet5c.interfaces import Evaluation, Network
from lenet5c.report import plots
from lenet5c.report.history import History
from lenet5c.report.plots import Reliability, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Scores", "page_path", "read_history", "scores", "write_report"]

PathLike = str | os.PathLike[str]
Lists = Mapping[str, Sequence[float | None]]

MAX_MISTAKES = 20
MAX_CONFUSIONS = 10

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5a5a5a; --paper: #ffffff;
  --line: #d5d5d5; --card: #f4f5f6; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #b0b0b0;
  --paper: #17191c; --line: #3b3f45; --card: #23262b; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.4rem; padding-top: 0.6rem;
  border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: 0.5rem 0; }
.soft, figcaption, footer { color: var(--soft); }
figcaption, footer { font-size: 0.875rem; }
figcaption { margin-top: 0.4rem; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; }
a { color: var(--accent); }
dl { display: grid; gap: 0.7rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
dl div { background: var(--card); border-radius: 0.5rem; padding: 0.6rem 0.9rem; }
dt { color: var(--soft); font-size: 0.875rem; }
dd { margin: 0; font-size: 1.35rem; font-weight: 600;
  font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #ffffff;
  padding: 0.5rem; border-radius: 0.5rem; border: 1px solid var(--line); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 0.875rem;
  padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th.text, td.text { text-align: left; max-width: 22rem; min-width: 4rem; }
th { font-weight: 600; white-space: nowrap; }
tr.all td { font-weight: 600; }
pre { background: var(--card); border-radius: 0.5rem; padding: 0.8rem 1rem;
  overflow-x: auto; font-size: 0.85rem; line-height: 1.4; overflow-wrap: normal; }
footer { margin-top: 3rem; }
@media print { :root { --ink: #000000; --soft: #444444; --paper: #ffffff;
  --line: #bbbbbb; --card: #ffffff; --accent: #000000; }
  body { font-size: 10.5pt; max-width: none; padding: 0; } nav { display: none; }
  figure, dl div, tr, pre { break-inside: avoid; } h2, p { break-after: avoid; }
  figure img { border: 0; padding: 0; max-height: 16cm; width: auto; }
  .scroll, pre { overflow: visible; } dl div { border: 1px solid var(--line); } }
""".strip()


class Scores(NamedTuple):
    """How well each class is told from the others.

    Attributes
    ----------
    precision : (K,) float64
        Of the images predicted to be of the class, the share that are. NaN if none was.
    recall : (K,) float64
        Of the class's images, the share found. NaN if it has none.
    f1 : (K,) float64
        Their harmonic mean. NaN if the class neither was there nor was predicted.
    support : (K,) int64
        Images of the class.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"<Scores: {brief(self._asdict())}>"


def scores(confusion: NDArray[Any]) -> Scores:
    """Precision, recall, F1 and support of each class.

    Parameters
    ----------
    confusion : (K, K) int
        As in `Evaluation`: true classes in rows, predicted ones in columns.
    """
    right = confusion.diagonal().astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return Scores(
            right / predicted,
            right / support,
            2 * right / (support + predicted),
            support,
        )


def read_history(path: PathLike) -> dict[str, list[float | None]]:
    """The lists of a training, from its log or from `History.to_json`.

    Parameters
    ----------
    path : path-like
        JSON Lines with an object an epoch, as `fit(log=...)` writes them: of an epoch
        that is there twice, after a training was resumed, the last counts. Half a line
        at the end, as a crash leaves it, is left out. Or one JSON object of lists.

    Raises
    ------
    ValueError
        If the file holds something else; names file and line.
    OSError
        If it cannot be read.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: expected text in UTF-8; {error}") from error
    known = list(History().to_dict())
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("loss"), list):
        lists = {key: whole[key] for key in known if key in whole}
        if not all(isinstance(v, list) and _numbers(v) for v in lists.values()):
            raise ValueError(f"{name}: expected lists of numbers")
        return lists
    epochs: dict[int, dict[str, Any]] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number == len(lines) and epochs and not text.endswith("\n"):
                break
            raise ValueError(
                f"{name}: line {number}: expected JSON; {error}"
            ) from error
        if (
            not isinstance(entry, dict)
            or type(entry.get("epoch")) is not int
            or not _numbers(entry.get(key) for key in known)
        ):
            raise ValueError(
                f"{name}: line {number}: expected an object with 'epoch' and numbers, "
                f"got {line!r:.80}"
            )
        epochs = {k: v for k, v in epochs.items() if k < entry["epoch"]}
        epochs[entry["epoch"]] = entry
    return {
        key: [entry.get(key) for entry in epochs.values()]
        for key in known
        if any(entry.get(key) is not None for entry in epochs.values())
    }


def page_path(path: PathLike) -> Path:
    """Where the page goes: `path` if it ends in .html, report.html in it otherwise."""
    page = Path(path)
    return page if page.suffix.lower() in (".html", ".htm") else page / "report.html"


def write_report(
    model: Network,
    images: ArrayLike,
    labels: ArrayLike,
    path: PathLike,
    history: History | Lists | PathLike | None = None,
    title: str | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Test the model on the images, and write what is found as a page of HTML.

    Parameters
    ----------
    model : Model
    images, labels : array
        As `Model.evaluate` takes them; such as were not trained on.
    path : path-like
        NAME.html, or a folder, which is made if there is none, for report.html. The
        pictures are also written as PNG files into NAME_files beside the page.
    history : History, mapping, path-like or None
        What `fit` returned, or its lists by name, or a file for `read_history`: for the
        learning curves.
    title : str or None
        The page's heading.
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
    """
    say = progress or (lambda line: None)
    plots.require_matplotlib()
    if isinstance(history, (str, os.PathLike)):
        history = read_history(history)
    if history is None:
        history = {}
    lists: Lists = history if isinstance(history, Mapping) else history.to_dict()
    page = page_path(path)
    pixels = as_images(images, model.input_shape)
    say(f"testing the model on {len(pixels):,} images")
    _, codes = encode_labels(labels, len(pixels), model.class_count, model.classes)
    found = model.evaluate(pixels, labels, threads=threads)
    probabilities = _softmax(model.forward(pixels, threads=threads))
    correct = probabilities.argmax(axis=1) == codes
    calibration = plots.reliability(probabilities.max(axis=1), correct)
    title = printable(title or f"A model of {_count(model.class_count, 'class')}")

    if page != Path(path):
        page.parent.mkdir(exist_ok=True)
    album = _Album(page.with_name(f"{page.stem}_files"), say)
    sections = [
        _learning(album, lists),
        _confusion(album, model, found),
        _classes(model, found),
        _calibration(album, calibration, found.accuracy, probabilities),
        _mistakes(album, model, pixels, codes, probabilities),
        _filters(album, model),
        _maps(album, model, pixels, codes, correct),
        _summary(model),
    ]
    facts = {
        "accuracy": f"{found.accuracy:.2%}",
        "wrong": f"{len(pixels) - int(correct.sum()):,} of {len(pixels):,}",
        "loss": f"{found.loss:.4f}",
        "calibration error": f"{calibration.error:.2%}",
        "parameters": f"{model.parameter_count:,}",
    }
    album.tidy()
    write_atomically(page, [_page(title, facts, sections).encode("utf-8", "replace")])
    return page


class _Album:
    """The folder of pictures; what is drawn into it is returned as HTML."""

    names = (
        *("learning_curves", "confusion_matrix", "calibration", "mistakes"),
        *("filters", "feature_maps"),
    )

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.drawn: set[str] = set()
        folder.mkdir(exist_ok=True)

    def add(
        self, name: str, draw: Callable[[], Figure], text: str, caption: str
    ) -> str:
        """Draw a picture, write it, and return it as a figure of the page.

        `text` is for those who cannot see it, `caption` stands below it.
        """
        self.say(f"drawing {name.replace('_', ' ')}")
        content = plots.png(draw())
        write_atomically(self.folder / f"{name}.png", [content])
        self.drawn.add(name)
        scale = plots.PIXELS_PER_INCH / plots.DOTS_PER_INCH
        pixels = struct.unpack(">2I", content[16:24])  # in each PNG, at this place
        width, height = (round(scale * count) for count in pixels)
        return (
            f'<figure><img width="{width}" height="{height}" alt="{escape(text)}" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def tidy(self) -> None:
        """Remove pictures of an earlier report that this one has not."""
        for name in set(self.names) - self.drawn:
            (self.folder / f"{name}.png").unlink(missing_ok=True)


class _Section(NamedTuple):
    key: str
    heading: str
    parts: list[str]


def _learning(album: _Album, lists: Lists) -> _Section:
    section = _Section("learning", "Learning curves", [])
    epochs = len(lists.get("loss", ()))
    if not epochs:
        section.parts.append(
            _text("There is no history of the training, so none is drawn.")
        )
        return section
    section.parts.append(
        album.add(
            "learning_curves",
            lambda: plots.plot_history(lists),
            "Curves of loss and accuracy by epoch.",
            f"{_count(epochs, 'epoch')}. Training figures are means over the epoch, "
            "while the weights changed; validation figures are those at its end.",
        )
    )
    return section


def _confusion(album: _Album, model: Network, found: Evaluation) -> _Section:
    classes = model.classes.tolist()
    figure = album.add(
        "confusion_matrix",
        lambda: plots.plot_confusion(found.confusion, classes),
        "The confusion matrix; its mistakes are listed below.",
        "How often each class (row) was predicted as each (column). Grey fields are "
        "empty.",
    )
    wrong = found.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = (-wrong.ravel()).argsort(kind="stable")[:MAX_CONFUSIONS]
    support = found.confusion.sum(axis=1)
    rows = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := wrong[row, column]:
            share = f"{count / support[row]:.2%}"
            rows.append([classes[row], classes[column], f"{count:,}", share])
    parts = [figure]
    if rows:
        columns = ("true class", "predicted as", "images", "of the class")
        parts.append(_table("The most frequent mistakes", columns, rows, texts=2))
    return _Section("confusion", "Confusion matrix", parts)


def _classes(model: Network, found: Evaluation) -> _Section:
    of = scores(found.confusion)
    rows = [
        [name, _share(p), _share(r), _share(f), f"{n:,}"]
        for name, p, r, f, n in zip(model.classes.tolist(), *of, strict=True)
    ]
    means = [values[np.isfinite(values)].mean() for values in of[:3]]
    rows.append(["mean of the classes", *map(_share, means), f"{of.support.sum():,}"])
    columns = ("class", "precision", "recall", "F1", "images")
    note = (
        "Precision: of the images predicted to be of the class, the share that are. "
        "Recall: of the class's images, the share found. F1: their harmonic mean."
    )
    table = _table("", columns, rows, texts=1, total=True)
    return _Section("classes", "Classes", [_text(note), table])


def _calibration(
    album: _Album,
    found: Reliability,
    accuracy: float,
    probabilities: NDArray[np.float64],
) -> _Section:
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
        lambda: plots.plot_calibration(found),
        "Reliability diagram: share that is right by probability of the prediction.",
        "Points below the line: the model is too sure there. Long lines: too few "
        "images to tell.",
    )
    return _Section("calibration", "Calibration", [_text(note), figure])


def _mistakes(
    album: _Album,
    model: Network,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    probabilities: NDArray[np.float64],
) -> _Section:
    classes = model.classes.tolist()
    worst = plots.worst_mistakes(codes, probabilities, MAX_MISTAKES)
    section = _Section("mistakes", "Worst mistakes", [])
    if not len(worst):
        section.parts.append(_text("There are none: every image was predicted right."))
        return section
    rows = []
    for index in worst:
        truth, taken = int(codes[index]), int(probabilities[index].argmax())
        pair = [f"{probabilities[index, k]:.2%}" for k in (taken, truth)]
        rows.append([classes[truth], classes[taken], *pair, f"{index}"])
    columns = ("true class", "predicted as", "probability", "of the truth", "image")
    section.parts.append(
        album.add(
            "mistakes",
            lambda: plots.plot_mistakes(pixels, codes, probabilities, classes),
            "The images that were mistaken; they are listed below.",
            "The images whose true class was given the least probability, with the "
            "most probable classes. The true one is bold and blue.",
        )
    )
    caption = "The same in words; images are counted from 0"
    section.parts.append(_table(caption, columns, rows, texts=2))
    return section


def _filters(album: _Album, model: Network) -> _Section:
    section = _Section("filters", "Filters of the first layer", [])
    if not model.parameter_count:
        section.parts.append(_text("No layer of this network has weights."))
        return section
    section.parts.append(
        album.add(
            "filters",
            lambda: plots.plot_filters(model),
            "The weights of the first layer as pictures.",
            "Grey is 0, and each filter's three channels are shown as its colours."
            if model.input_shape[0] == 3
            else "White is 0, orange below and purple above.",
        )
    )
    return section


def _maps(
    album: _Album,
    model: Network,
    pixels: NDArray[Any],
    codes: NDArray[np.int32],
    correct: NDArray[np.bool_],
) -> _Section:
    section = _Section("maps", "Feature maps", [])
    layers = [printable(name) for name, _ in plots.feature_layers(model)]
    if not layers:
        section.parts.append(_text("This network has no convolution and no pooling."))
        return section
    index = int(correct.argmax())  # the first that is right, or the first of all
    name = printable(model.classes[codes[index]])
    section.parts.append(
        album.add(
            "feature_maps",
            lambda: plots.plot_feature_maps(model, pixels[index]),
            f"What the layers {', '.join(layers)} make of one image.",
            f"What the network makes of image {index}, of class {name}, from layer to "
            "layer, after the activation. Colours go from each layer's smallest value "
            "(dark) to its largest (light).",
        )
    )
    return section


def _summary(model: Network) -> _Section:
    channels, height, width = model.input_shape
    rows, columns = model.source
    note = f"Input: {_count(channels, 'channel')} of {height}x{width}"
    if (rows, columns) != (height, width):
        note += f"; images of {rows}x{columns} are centred in it"
    if (model.stage.mean, model.stage.deviation) != (0.0, 1.0):
        note += (
            f". Pixels are normalised with the mean {model.stage.mean:.4f} and the "
            f"deviation {model.stage.deviation:.4f} of the training images"
        )
    layers = f"<pre>{escape(model.summary())}</pre>"
    return _Section("model", "Model", [_text(f"{note}."), layers])


def _page(title: str, facts: Mapping[str, str], sections: Sequence[_Section]) -> str:
    links = " ".join(
        f'<a href="#{section.key}">{escape(section.heading)}</a>'
        for section in sections
    )
    cards = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    body = "\n".join(
        f'<section id="{section.key}">\n<h2>{escape(section.heading)}</h2>\n'
        + "\n".join(section.parts)
        + "\n</section>"
        for section in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<dl>
{cards}
</dl>
<nav>{links}</nav>
</header>
<main>
{body}
</main>
<footer>Written by lenet5c {escape(__version__)}.</footer>
</body>
</html>
"""


def _table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    texts: int,
    total: bool = False,
) -> str:
    """A table whose first `texts` columns are texts and whose others are numbers.

    With `total` the last row is set apart.
    """
    kinds = [' class="text"' if k < texts else "" for k in range(len(columns))]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for kind, name in zip(kinds, columns, strict=True)
    )
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(
            f"<td{kind}>{escape(printable(cell))}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        mark = ' class="all"' if total and number == len(rows) else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table>{above}\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _text(words: str) -> str:
    return f"<p>{escape(words)}</p>"


def _share(value: float) -> str:
    return f"{value:.2%}" if math.isfinite(value) else "\N{EN DASH}"


def _count(number: int, noun: str) -> str:
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def _numbers(values: Iterable[object]) -> bool:
    """Whether each is a number or None."""
    return all(v is None or type(v) in (int, float) for v in values)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64, in which different logits stay different."""
    exact = logits.astype(np.float64)
    raised = np.exp(exact - exact.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares
