"""The page: the paper's figures, with ours over its."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import lenet5c
from lenet5c._support.text import counted
from lenet5c.files.atomic import write_atomically
from lenet5c.report.canvas import (
    BLUE,
    GREY,
    LINE,
    MARGIN,
    SMALL,
    VERMILLION,
    canvas,
    new_figure,
    plain_frame,
    put,
    shown,
)
from lenet5c.report.html import Album, Section, page_of, paragraph, table
from published.networks import CHANGES, ROWS
from published.trainings import SEEDS, Plan, Training, last_errors

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Fig. 5, test error in per cent after each of the first ten passes, and what the text
# says of the last one and of the training error after 19.
FIG_5 = (2.67, 2.25, 1.48, 1.42, 1.42, 1.08, 1.03, 1.05, 0.97, 0.95)
TEST, DISTORTED, TRAINING, TRAINING_PASS = 0.95, 0.8, 0.35, 19
UNCERTAIN = 0.1  # of the paper's test errors, in points
REST_ERROR = 0.005  # Fig. 10
MISTAKES_IN_A_ROW = 14
PAPER = "the paper"


def write_page(plan: Plan) -> Path:
    """Draw what is done, and return the page's path."""
    album = Album(plan.folder / "pictures", lambda line: None)
    done = {name: plan.done(getattr(plan, name)()) for name in SEEDS}
    sections = []
    if done["passes"]:
        sections.append(passes_section(plan, album, done["passes"]["LeNet-5"]))
    if len(done["sizes"]) > 1:
        sections.append(sizes_section(plan, album, done["sizes"]))
    if done["passes"]:
        sections.append(mistakes_section(plan, album, done["passes"]["LeNet-5"][0]))
    if done["networks"]:
        sections += networks_sections(plan, album, done["networks"])
    if done["changes"]:
        sections.append(changes_section(plan, done["changes"]))
    facts = {
        "Training images": f"{plan.images:,}",
        "Test images": f"{len(plan.test[0]):,}",
        "Passes": str(plan.epochs),
        **facts_of(plan, done),
    }
    path = plan.folder / "index.html"
    title = "LeNet-5 as it was published in 1998"
    write_atomically(path, [page_of(title, facts, sections).encode()])
    return path


def facts_of(plan: Plan, done: dict[str, dict[str, list[Training]]]) -> dict[str, str]:
    found = {}
    for name, experiment, key, paper in (
        ("Test error", "passes", "LeNet-5", TEST),
        ("Test error, distorted", "sizes", "distorted", DISTORTED),
    ):
        if key in done[experiment]:
            errors = last_errors(plan.folder, done[experiment][key], "test_error")
            found[name] = f"{statistics.mean(errors):.2f} % (paper {paper:.2f})"
    return found


def by_pass(plan: Plan, group: Sequence[Training], of: str) -> np.ndarray:
    """(seeds, passes), in per cent."""
    return np.array(
        [[100 * line[of] for line in one.passes(plan.folder)] for one in group]
    )


def legend(figure: Figure) -> None:
    figure.legend(
        loc="outside lower left", ncols=4, frameon=False, prop={"size": SMALL}
    )


def tidy(figure: Figure, axes: Axes) -> None:
    legend(figure)
    axes.grid(axis="y", alpha=0.25)
    axes.set_ylim(bottom=0)
    plain_frame(axes)


def passes_section(plan: Plan, album: Album, group: Sequence[Training]) -> Section:
    def draw() -> Figure:
        from matplotlib.ticker import MaxNLocator

        figure = new_figure(7.2, 4.0)
        axes = figure.subplots()
        passes = range(1, plan.epochs + 1)
        for of, colour, mark in (
            ("test_error", BLUE, "o"),
            ("training_error", VERMILLION, "s"),
        ):
            errors = by_pass(plan, group, of)
            axes.fill_between(
                passes, errors.min(0), errors.max(0), color=colour, alpha=0.25, lw=0
            )
            look = {"marker": mark, "markersize": 4, "linewidth": 1.6, "color": colour}
            axes.plot(passes, errors.mean(0), label=f"{of[:-6]}, ours", **look)
        look = {"color": GREY, "linestyle": "none", "zorder": 3}
        axes.plot(
            range(1, len(FIG_5) + 1), FIG_5, marker="D", label="test, the paper", **look
        )
        axes.plot(
            TRAINING_PASS, TRAINING, marker="X", label="training, the paper", **look
        )
        axes.set_xlabel("pass")
        axes.set_title("Error, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(figure, axes)
        return figure

    test = by_pass(plan, group, "test_error")[:, -1]
    training = by_pass(plan, group, "training_error")[:, -1]
    minutes = statistics.mean(one.minutes(plan.folder) for one in group)
    figure = album.add(
        "passes",
        draw,
        "Error by pass: test and training, ours and the paper's",
        "Fig. 5. Lines are means, bands reach from the best to the worst seed.",
    )
    words = (
        f"After {counted(plan.epochs, 'pass')}: test error {spread(test)}, training "
        f"error {spread(training)}. The paper: {TEST} % and {TRAINING} % after 19 "
        f"passes, with an uncertainty of {UNCERTAIN} points for the test error. A "
        f"training takes {minutes:.1f} minutes on this machine."
    )
    return Section("passes", "Error by pass", [paragraph(words), figure])


def spread(values: Sequence[float]) -> str:
    """The mean, and from where to where the seeds are."""
    mean = f"{statistics.mean(values):.2f} %"
    if len(values) == 1:
        return f"{mean} (one seed)"
    return f"{mean} ({len(values)} seeds: {min(values):.2f} to {max(values):.2f})"


def sizes_section(
    plan: Plan, album: Album, groups: dict[str, list[Training]]
) -> Section:
    paper = {"60,000": TEST, "distorted": DISTORTED} if plan.images == 60_000 else {}

    def draw() -> Figure:
        figure = new_figure(7.2, 3.6)
        axes = figure.subplots()
        places = np.arange(len(groups))
        for of, aside, colour, mark in (
            ("test_error", -0.1, BLUE, "o"),
            ("training_error", 0.1, VERMILLION, "s"),
        ):
            errors = [last_errors(plan.folder, group, of) for group in groups.values()]
            points(axes, places + aside, errors, colour, mark, f"{of[:-6]}, ours")
        at = [place for place, name in enumerate(groups) if name in paper]
        if at:
            values = [paper[name] for name in groups if name in paper]
            axes.plot(at, values, "D", color=GREY, label="test, the paper")
        named = [
            f"{plan.images:,}\ndistorted" if x == "distorted" else x for x in groups
        ]
        axes.set_xticks(places, named)
        axes.set_xlim(-0.5, len(groups) - 0.5)
        axes.set_xlabel("training images")
        axes.set_title("Error, %")
        tidy(figure, axes)
        return figure

    figure = album.add(
        "sizes",
        draw,
        "Error by number of training images: test and training",
        "Fig. 6. Means, and from the best to the worst seed.",
    )
    words = (
        f"Each network is trained for {counted(plan.epochs, 'pass')} over its own "
        "images. Of the distorted ones nine of ten are moved, scaled, squeezed and "
        "sheared anew in each pass; the training error is that of the images as they "
        "are."
    )
    return Section("sizes", "Error by training set", [paragraph(words), figure])


def points(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[Sequence[float]],
    colour: str,
    mark: str,
    label: str,
    *,
    across: bool = False,
) -> None:
    """Means with the range of the seeds, upwards or across."""
    means = np.array([statistics.mean(each) for each in values])
    ranges = np.array(
        [
            means - [min(each) for each in values],
            [max(each) for each in values] - means,
        ]
    )
    along = (means, places) if across else (places, means)
    ends = {"xerr" if across else "yerr": ranges}
    axes.errorbar(
        *along, fmt=mark, color=colour, markersize=5, linewidth=1.5, label=label, **ends
    )


def mistakes_section(plan: Plan, album: Album, one: Training) -> Section:
    images, labels = plan.test
    answers = one.model(plan.folder).predict(images, threads=plan.threads)
    wrong = np.flatnonzero(answers != labels)

    def draw() -> Figure:
        side, gap = 0.5, 0.1
        columns = min(MISTAKES_IN_A_ROW, max(4, len(wrong)))
        rows = max(1, -(-len(wrong) // columns))
        high = side + LINE + gap
        figure, axes = canvas(columns * (side + gap) + 2 * MARGIN, rows * high + MARGIN)
        for place, index in enumerate(wrong):
            row, column = divmod(place, columns)
            x, y = MARGIN + column * (side + gap), MARGIN + row * high
            put(axes, shown(images[index][np.newaxis]), x, y, side)
            text = f"{labels[index]} → {answers[index]}"
            look = {"fontsize": SMALL, "ha": "center", "va": "center"}
            axes.text(x + side / 2, y + side + LINE / 2, text, **look)
        return figure

    figure = album.add(
        "mistakes",
        draw,
        f"The {len(wrong)} misclassified test images",
        "Fig. 8. Below each image: its label, and the network's answer.",
    )
    words = (
        f"{len(wrong)} of {len(labels):,} test images are misclassified by the network "
        f"of seed {one.seed}; the paper shows 82 of 10,000."
    )
    return Section("mistakes", "Misclassified images", [paragraph(words), figure])


def networks_sections(
    plan: Plan, album: Album, groups: dict[str, list[Training]]
) -> list[Section]:
    rows = {f"{row.network}{', distorted' * row.distorted}": row for row in ROWS}
    rows = {name: rows[name] for name in rows if name in groups}

    def draw() -> Figure:
        figure = new_figure(7.2, 0.9 + 0.3 * len(rows))
        axes = figure.subplots()
        places = np.arange(len(rows))
        errors = [last_errors(plan.folder, groups[name], "test_error") for name in rows]
        paper = [row.error for row in rows.values()]
        axes.plot(paper, places, "D", color=GREY, label=PAPER)
        points(axes, places, errors, BLUE, "o", "ours", across=True)
        axes.set_yticks(places, list(rows))
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_title("Test error, %")
        axes.grid(alpha=0.25)
        legend(figure)
        plain_frame(axes)
        return figure

    figure = album.add(
        "networks",
        draw,
        "Test errors of the networks, ours and the paper's",
        "Fig. 9. Means, and from the best to the worst seed.",
    )
    images, labels = plan.test
    errors, costs = [], []
    for name, row in rows.items():
        tested = last_errors(plan.folder, groups[name], "test_error")
        mean = statistics.mean(tested)
        ends = f"{min(tested):.2f} to {max(tested):.2f}"
        errors.append(
            [name, f"{mean:.2f}", ends, f"{row.error:.2f}", f"{mean - row.error:+.2f}"]
        )
        model = groups[name][0].model(plan.folder)
        shares = [
            share_rejected(one.model(plan.folder), images, labels, plan.threads)
            for one in groups[name]
        ]
        costs.append(
            [
                name,
                f"{100 * statistics.mean(shares):.2f}",
                f"{model.multiply_adds:,}",
                thousands(row.multiply_adds),
                f"{model.parameter_count:,}",
                thousands(row.weights),
            ]
        )
    by_error = table(
        "Test error in per cent",
        ["network", "ours", "seeds", PAPER, "ours - paper"],
        errors,
        texts={0},
    )
    by_cost = table(
        "Fig. 10, 11 and 12. Test images in per cent to reject, so that 0.5 % of the "
        "others are wrong; multiply-adds of an image; weights. The paper's counts are "
        "rounded to thousands.",
        ["network", "rejected %", "multiply-adds", PAPER, "weights", PAPER],
        costs,
        texts={0},
    )
    words = (
        "All are trained as LeNet-5 is, one pattern at a time, 1000-10 and 500-150-10 "
        "eight, with second-order rates, "
        f"for {counted(plan.epochs, 'pass')}. Units are scaled tanh, and all but "
        "LeNet-5 have softmax and cross-entropy, which is a choice: the paper does not "
        "say."
    )
    reject = (
        "Rejected are the images whose two largest probabilities differ least. Counts "
        "are those of the models."
    )
    return [
        Section("networks", "Networks compared", [paragraph(words), figure, by_error]),
        Section("costs", "Rejection, operations, memory", [paragraph(reject), by_cost]),
    ]


def thousands(count: int | None) -> str:
    return "" if count is None else f"{1000 * count:,}"


def share_rejected(
    model: lenet5c.Model, images: np.ndarray, labels: np.ndarray, threads: int | None
) -> float:
    probabilities = model.predict_proba(images, threads=threads)
    right = model.classes[probabilities.argmax(axis=1)] == labels
    return rejected(probabilities, right, REST_ERROR)


def rejected(probabilities: np.ndarray, right: np.ndarray, error: float) -> float:
    """The share of images to reject for that error on the others: Fig. 10.

    Those are rejected whose two largest probabilities (N, K) differ least.
    """
    two = np.sort(probabilities.astype(np.float64), axis=1)[:, -2:]
    surest = np.argsort(two[:, 0] - two[:, 1], kind="stable")
    kept = np.arange(1, len(right) + 1)
    good = np.flatnonzero(np.cumsum(~right[surest]) <= error * kept)
    return 1 - (good[-1] + 1 if len(good) else 0) / len(right)


def changes_section(plan: Plan, groups: dict[str, list[Training]]) -> Section:
    rows: list[list[str]] = []
    before: float | None = None
    for place, (name, group) in enumerate(groups.items()):
        test = last_errors(plan.folder, group, "test_error")
        training = last_errors(plan.folder, group, "training_error")
        seconds = [line["seconds"] for one in group for line in one.passes(plan.folder)]
        mean = statistics.mean(test)
        rows.append(
            [
                str(place + 1),
                name,
                f"{mean:.2f}",
                f"{min(test):.2f} to {max(test):.2f}",
                "" if before is None else f"{mean - before:+.2f}",
                f"{statistics.mean(training):.2f}",
                f"{statistics.median(seconds):.1f}",
            ]
        )
        before = mean
    heads = ["", "change", "test error %", "seeds", "difference"]
    heads += ["training error %", "s a pass"]
    found = table("", heads, rows, texts={1})
    words = (
        "From the network of today to that of 1998: each row is the row above with one "
        f"more change. All are trained for {counted(plan.epochs, 'pass')}, the first "
        f"{len(CHANGES)} by SGD with momentum and a falling rate."
    )
    return Section("changes", "One change at a time", [paragraph(words), found])
