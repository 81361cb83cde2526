"""Numbers of how good a model is: by class, by confidence, one class from the others.

N images, K classes. All of it in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, whole
from lenet5c.display import brief

__all__ = [
    "CALIBRATION_BINS",
    "Ranking",
    "Reliability",
    "Scores",
    "chance_of_split",
    "ranking",
    "reliability",
    "scores",
    "softmax",
    "worst_mistakes",
]

CALIBRATION_BINS = 15
"""Bins of confidence that a calibration is counted in (Guo et al. 2017, section 2)."""


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


class Ranking(NamedTuple):
    """How well the probability of one class tells its images from the others.

    Each entry is of one threshold: all images of at least that probability are taken to
    be of the class. From the highest threshold to the lowest.

    Attributes
    ----------
    recall : (T,) float64
        Of the class's images, the share taken: the true positive rate.
    precision : (T,) float64
        Of the images taken, the share that are of the class.
    false_positive_rate : (T,) float64
        Of the other images, the share taken.
    average_precision : float
        The mean of the precision, weighted with how much the recall grows. NaN if the
        class has no image.
    area : float
        Under the curve of recall by false positive rate (ROC): how often an image of
        the class has a larger probability than another one. NaN if all or none of the
        images are of the class.

    Examples
    --------
    >>> found = lenet5c.plots.ranking([True, False, True], [0.9, 0.8, 0.7])
    >>> found.recall.tolist(), found.area
    ([0.5, 0.5, 1.0], 0.5)
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]
    average_precision: float
    area: float

    def __repr__(self) -> str:
        return f"<Ranking: {brief(self._asdict())}>"


def ranking(of_class: ArrayLike, probability: ArrayLike) -> Ranking:
    """Precision, recall and false positive rate for all thresholds.

    Parameters
    ----------
    of_class : (N,) bool
        Whether the image is of the class.
    probability : (N,) float
        That the model gives the class.

    Examples
    --------
    >>> lenet5c.plots.ranking([True, False, True, False], [0.9, 0.8, 0.7, 0.1]).area
    0.75
    """
    truth = as_array("of_class", of_class).astype(bool)
    chance = as_array("probability", probability).astype(np.float64)
    if truth.ndim != 1 or truth.shape != chance.shape or not len(truth):
        raise ValueError(
            "probability: expected one for each image, at least one, got the shapes "
            f"{truth.shape} and {chance.shape}"
        )
    order = (-chance).argsort(kind="stable")
    found = chance[order]
    last = np.append(found[1:] != found[:-1], True)  # equal ones are taken together
    hits = truth[order].cumsum()[last].astype(np.float64)
    taken = np.arange(1, len(truth) + 1)[last]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / truth.sum()
        false_rate = (taken - hits) / (~truth).sum()
    precision = hits / taken
    growth = np.diff(recall, prepend=0.0)
    steps = np.diff(false_rate, prepend=0.0)
    return Ranking(
        recall,
        precision,
        false_rate,
        float(growth @ precision),
        float(steps @ (recall - growth / 2)),
    )


def chance_of_split(one: int, other: int) -> float:
    """How often two equally good models would differ at least as much: the exact test
    of McNemar (1947), two-sided.

    Parameters
    ----------
    one, other : int
        How many images only the one, and only the other predicts right.

    Examples
    --------
    >>> from lenet5c.report.scores import chance_of_split
    >>> chance_of_split(1, 6)
    0.125
    """
    count = one + other
    ways, term = 0, 1
    for k in range(min(one, other) + 1):
        ways += term
        term = term * (count - k) // (k + 1)
    return min(1.0, float(2 * ways / 2**count))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities in float64, in which different logits stay different."""
    exact = logits.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ValueError(
            "model: expected finite outputs, got infinite ones or NaN; did its "
            "training diverge?"
        )
    raised = np.exp(exact - exact.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares
