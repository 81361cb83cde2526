"""The numbers of the report are those of scikit-learn and SciPy."""

import numpy as np
import pytest

from lenet5c.report.scores import chance_of_split, ranking, scores

metrics = pytest.importorskip("sklearn.metrics")


def test_scores_of_classes_that_are_never_there_or_never_predicted():
    truth = np.array([0, 0, 1, 1, 1, 3])
    taken = np.array([0, 1, 1, 1, 2, 0])
    confusion = metrics.confusion_matrix(truth, taken, labels=range(5))
    found = scores(confusion)
    expected = metrics.precision_recall_fscore_support(
        truth, taken, labels=range(5), zero_division=np.nan
    )
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other)
    assert np.isnan(found.f1[4])


@pytest.mark.parametrize("levels", [3, 1000])  # with and without equal probabilities
def test_a_ranking_is_that_of_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    truth = rng.random(300) < 0.3
    chance = rng.integers(0, levels, 300) / levels + 0.2 * truth
    found = ranking(truth, chance)
    assert found.average_precision == pytest.approx(
        metrics.average_precision_score(truth, chance)
    )
    assert found.area == pytest.approx(metrics.roc_auc_score(truth, chance))
    precision, recall, _ = metrics.precision_recall_curve(truth, chance)
    np.testing.assert_allclose(found.precision, precision[-2::-1])
    np.testing.assert_allclose(found.recall, recall[-2::-1])
    rate, recall, _ = metrics.roc_curve(truth, chance, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, rate[1:])


def test_a_class_that_no_image_is_of_has_no_ranking():
    none, all_ = (ranking(np.full(4, truth), [0.1, 0.2, 0.3, 0.4]) for truth in (0, 1))
    assert np.isnan([none.average_precision, none.area, all_.area]).all()
    assert all_.average_precision == 1


@pytest.mark.parametrize("truth", [[True], [], [[True, False]]])
def test_a_ranking_of_other_shapes_is_refused(truth):
    with pytest.raises(ValueError, match="probability: expected one for each image"):
        ranking(truth, [0.5, 0.5][: 2 * len(truth)])


@pytest.mark.parametrize("pair", [(0, 0), (3, 3), (1, 9), (40, 12), (700, 600)])
def test_the_chance_of_a_split_is_the_binomial_test(pair):
    stats = pytest.importorskip("scipy.stats")
    expected = 1.0 if not sum(pair) else stats.binomtest(pair[0], sum(pair)).pvalue
    assert chance_of_split(*pair) == pytest.approx(expected)
    assert chance_of_split(*pair[::-1]) == pytest.approx(expected)
