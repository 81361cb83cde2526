"""The classifier beside scikit-learn's own on its 8x8 digits: 5-fold cross-validation.

All with their default settings. The folds are not shuffled, so that most writers of the
test digits are not among those of the training digits.

python benchmarks/estimators.py [--seeds 3] [--folds 5]
"""

import argparse
import statistics
import warnings

import numpy as np
from common import machine, rest, table
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_validate
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from lenet5c import LeNet5Classifier

ESTIMATORS: list[type[ClassifierMixin]] = [
    LeNet5Classifier,
    SVC,
    MLPClassifier,
    HistGradientBoostingClassifier,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="values of random_state")
    parser.add_argument("--folds", type=int, default=5)
    arguments = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    rows = [
        ("classifier", "mean %", "sd of folds", "worst seed %", "fit s", "predict s")
    ]
    for estimator in ESTIMATORS:
        scores, fits, predictions = [], [], []
        rest()
        for seed in range(arguments.seeds):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = cross_validate(
                    estimator(random_state=seed), X, y, cv=arguments.folds
                )
            scores.append(100 * found["test_score"])
            fits.extend(found["fit_time"])
            predictions.extend(found["score_time"])
        rows.append(
            (
                estimator.__name__,
                f"{np.mean(scores):.2f}",
                f"{np.mean(np.std(scores, axis=1)):.2f}",
                f"{np.mean(scores, axis=1).min():.2f}",
                f"{statistics.median(fits):.2f}",
                f"{statistics.median(predictions):.4f}",
            )
        )
    print(machine(), end="\n\n")
    print(table(rows))


if __name__ == "__main__":
    main()
