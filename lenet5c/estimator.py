"""LeNet5Classifier: the networks as a scikit-learn classifier.

Words are scikit-learn's here: X is (n_samples, n_features), or images (n_samples, H, W)
or (n_samples, C, H, W); y is (n_samples,). Rows of X that are no squares are filled up.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, number, refuse_masked, truth, whole
from lenet5c._support.habits import explained
from lenet5c._support.threads import resolve_threads
from lenet5c.data.augment import Augment
from lenet5c.data.images import MAX_FLOAT32, InputStage
from lenet5c.model import Model
from lenet5c.networks import NETWORKS
from lenet5c.report.history import History
from lenet5c.training.callbacks import EarlyStopping
from lenet5c.training.optimizers import SGD, AdamW, Optimizer
from lenet5c.training.recipes import RECIPES, sgd_rate
from lenet5c.training.schedules import Schedule

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import (
        check_array,
        check_consistent_length,
        check_random_state,
        column_or_1d,
        compute_class_weight,
    )
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted
except ImportError as error:
    raise ImportError(
        "LeNet5Classifier needs scikit-learn: pip install 'lenet5c[sklearn]'"
    ) from error
try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6

    def validate_data(estimator: Any, *arrays: Any, **options: Any) -> Any:
        return estimator._validate_data(*arrays, **options)


__all__ = ["LeNet5Classifier"]

Images = NDArray[Any]  # (n, C, H, W), uint8 or float32

IMAGES_AT_ONCE = 4096  # rows that are converted at a time
MAX_VALUES = 1 << 22  # that are standardised and resized at a time

SMALL = 5 / 8  # of the network's input: images up to this are enlarged,
FULL = 7 / 8  # to this, 28 of 32: so do MNIST's images lie in LeNet-5's input

# what the library calls the estimator's parameters in its messages
OWN_NAMES = {
    "epochs": "max_iter",
    "images": "X",
    "labels": "y",
    "learning_rate": "learning_rate_init",
    "min_delta": "tol",
    "patience": "n_iter_no_change",
    "rate": "dropout",
    "schedule": "learning_rate",
    "seed": "random_state",
    "threads": "n_jobs",
    "validation": "X_val",
    "validation images": "X_val",
    "validation labels": "y_val",
    "weight_decay": "alpha",
}


def _readable(argument: str, value: Any) -> Any:
    """What scikit-learn can check: it reads masked entries, and no tensor that requires
    gradients."""
    refuse_masked(argument, value)
    return as_array(argument, value) if hasattr(value, "requires_grad") else value


@contextmanager
def _in_own_words(argument: str | None = None) -> Iterator[None]:
    """Around calls of the library or of scikit-learn: an error's message begins with
    the name of the estimator's parameter, with `argument` if it begins with none."""
    try:
        yield
    except (TypeError, ValueError) as error:
        text = error.args[0] if len(error.args) == 1 else None
        if isinstance(text, str):
            head, colon, rest = text.partition(":")
            if colon and head in OWN_NAMES:
                error.args = (f"{OWN_NAMES[head]}:{rest}",)
            elif argument is not None and not (colon and head in PARAMETERS):
                error.args = (f"{argument}: {text}",)
        raise


@explained
class LeNet5Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """LeNet-5, or one of the networks beside it, as a scikit-learn classifier.

    Rows of X are taken as square images; what is missing to a square is filled. Images
    (n_samples, H, W) and (n_samples, C, H, W) are taken as they are. Small ones are
    enlarged (`image_size`). They are centred in the network's input and may not be
    larger: 32x32 for "lenet5", "lenet5-1998" and "resnet18", 28x28 for "mlp" and
    "cnn3".

    All values are standardised with one mean and one deviation, those of the training
    data; around an image is the mean. That is so for a network with an input stage of
    its own, too, as "lenet5-1998" has. So it makes no difference whether pixels go to
    255 or to 1, as long as they do so in every call. For features of different units
    put a StandardScaler in front.

    Samples that are equal in X and y are one, with the sum of their weights: a weight
    of 2 is a copy, a weight of 0 is none, and the order of the samples has no effect.

    Parameters
    ----------
    network : {"lenet5", "mlp", "cnn3", "resnet18", "lenet5-1998"} or function, \
            default="lenet5"
        A function is called with ``classes=``, ``channels=`` and ``seed=`` and returns
        a `lenet5c.Model`.
    activation : {"tanh", "scaled-tanh", "relu", "sigmoid", "leaky-relu"} or None, \
            default=None
        None is the network's own. "cnn3" has no choice.
    pooling : {"avg", "max"} or None, default=None
        Of "lenet5"; None is "avg".
    dropout : float, default=0.0
        Of "lenet5": share of F6's outputs that a training step leaves out.
    image_size : int, "auto" or None, default="auto"
        To what the larger side of an image is brought, by linear interpolation; the
        other one in proportion. "auto" enlarges images that are no larger than 5/8 of
        the network's input, 20x20 of 32x32, to 7/8 of it, 28x28, and leaves all others
        as they are. None leaves all. With a number large images become smaller, too.
    solver : {"sgd", "adam"}, default="sgd"
        "adam" has decoupled weight decay (`lenet5c.AdamW`).
    learning_rate_init : float or None, default=None
        None is 0.001 for "adam". For "sgd" it is 0.1 for "lenet5" with tanh and for
        "resnet18", 0.05 for "mlp" and 0.02 for all others.
    learning_rate : str or function, default="one-cycle"
        The schedule, as in `lenet5c.Model.fit`: "one-cycle", "constant", "cosine",
        "step", "plateau" (which needs images to validate on), or a function.
        `partial_fit` has always the constant one.
    momentum : float, default=0.9
        Of "sgd", 0 <= momentum < 1.
    nesterovs_momentum : bool, default=True
        Of "sgd".
    alpha : float, default=0.0
        Weight decay of the optimizer, an L2 penalty with "sgd". Unlike that of
        MLPClassifier it is not divided by the size of a batch.
    batch_size : int or "auto", default="auto"
        "auto" is 64, or all samples if they are fewer.
    max_iter : int, default=20
        Epochs; with `warm_start`, of all calls of `fit` together.
    early_stopping : bool, default=False
        Whether to hold `validation_fraction` of the samples out (unless `fit` is given
        X_val and y_val), to stop when their loss has not improved by `tol` for
        `n_iter_no_change` epochs, and to keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Between 0 and 1. In each class the same share of the weights, as far as
        possible; samples with the same X are held out together or not at all.
    n_iter_no_change : int, default=10
    tol : float, default=1e-4
    class_weight : dict, "balanced" or None, default=None
        What the sample weights of a class are multiplied by. "balanced" is what gives
        each class the same sum of weights; in `partial_fit`, within the call.
    label_smoothing : float, default=0.0
        Share of a label that is spread over all classes, 0 <= label_smoothing < 1.
    clip_norm : float or None, default=1.0
        Largest norm of a step's gradient; None is no limit. Small data, for which the
        learning rate is high, would go astray without it.
    augment : lenet5c.Augment, "auto" or None, default="auto"
        How images are changed while they are trained on. "auto" changes only those that
        have been enlarged: by shifts of half an original pixel and by elastic
        distortion of the same size, since nothing finer is known of where things are.
    warm_start : bool, default=False
        Whether `fit` goes on from the present weights when `max_iter` has been raised,
        by the epochs that are missing. Images and classes must be as in the first call.
    random_state : int, RandomState instance or None, default=None
        Of the initial weights, the order of the samples, and what is held out.
    n_jobs : int or None, default=None
        Threads. None takes what OpenMP, CPU affinity and CPU quota allow, so the share
        that joblib leaves to a worker, or this call's share among threads that train;
        -1 is as many as at the time of the call. The number changes no bit of the
        result.
    verbose : bool, default=False
        Whether to show the progress on stderr.

    Attributes
    ----------
    classes_ : (n_classes,) array
        The labels, sorted.
    model_ : lenet5c.Model or None
        The network; ``model_.predict(clf.to_images(X))`` is ``clf.predict(X)``. Where
        labels are neither integers, strings nor booleans, its classes are 0 to
        n_classes - 1. None if there is one class alone and nothing to learn.
    image_shape_ : (int, int, int)
        Channels, rows and columns of an image.
    n_features_in_ : int
        Numbers in an image.
    feature_names_in_ : (n_features,) array of str
        Only if X has feature names that are all strings.
    n_outputs_ : int
        Outputs of the network: n_classes.
    n_iter_ : int
        Epochs trained; those of earlier calls count with `warm_start` and
        `partial_fit`.
    loss_curve_ : list of float
        Mean loss of each epoch.
    best_loss_ : float
        The least of them.
    validation_scores_ : list of float or None
        Accuracy on the validation set after each epoch; None without one.
    best_validation_score_ : float or None
        The greatest of them.
    history_ : lenet5c.History
        What the last training returned; empty if there is one class alone.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = lenet5c.LeNet5Classifier(random_state=0).fit(X[:1500], y[:1500])
    >>> clf.score(X[1500:], y[1500:]) > 0.9
    True
    """

    _asked: int  # epochs that all calls of `fit` together were to train

    def __init__(
        self,
        network: str | Callable[..., Model] = "lenet5",
        *,
        activation: str | None = None,
        pooling: str | None = None,
        dropout: float = 0.0,
        image_size: int | str | None = "auto",
        solver: str = "sgd",
        learning_rate_init: float | None = None,
        learning_rate: str | Schedule = "one-cycle",
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        alpha: float = 0.0,
        batch_size: int | str = "auto",
        max_iter: int = 20,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: dict[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = 1.0,
        augment: Augment | str | None = "auto",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.activation = activation
        self.pooling = pooling
        self.dropout = dropout
        self.image_size = image_size
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.alpha = alpha
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.augment = augment
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @explained
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
    ) -> "LeNet5Classifier":
        """Train on X and y: from new weights, or with `warm_start` from the present.

        Parameters
        ----------
        X : array-like
            (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W), uint8 or
            numbers that become floats.
        y : (n_samples,) array-like
            Labels: integers, strings, booleans, or other objects that can be sorted.
        sample_weight : (n_samples,) array-like, default=None
            At least 0. A sample of weight 0 is as one left out.
        X_val, y_val : array-like, default=None
            Images to measure after each epoch, and to stop by with `early_stopping`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If an argument or a parameter does not fit.
        lenet5c.TrainingError
            If the loss stops being finite.

        Examples
        --------
        >>> rows = images.reshape(len(images), -1)  # as others take them
        >>> clf = lenet5c.LeNet5Classifier(max_iter=3, random_state=0).fit(rows, labels)
        >>> clf.n_iter_, clf.classes_.tolist()
        (3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        """
        going_on = truth("warm_start", self.warm_start) and hasattr(self, "model_")
        if (X_val is None) != (y_val is None):
            missing = "X_val" if X_val is None else "y_val"
            raise ValueError(f"{missing}: expected X_val and y_val or none, got None")
        epochs = whole("max_iter", self.max_iter, self._asked if going_on else 1)
        stopping, fraction = self._new_stopping()
        optimizer = self._new_optimizer()
        X, y = self._checked(X, y, reset=not going_on)
        classes = np.unique(y)
        if going_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                "y: with warm_start, expected the classes of the first call "
                f"{_some(self.classes_)}, got {_some(classes)}"
            )
        codes = _codes(y, classes, "y")
        weights = _sample_weights(sample_weight, X)
        if going_on and epochs == self._asked:
            warnings.warn(
                f"max_iter: with warm_start it counts all epochs, and {epochs} are "
                "done. Nothing was trained; raise it to go on",
                UserWarning,
                stacklevel=2,
            )
            return self
        factors = self._class_factors(classes, y, codes, weights)
        seed = self._seed if going_on else self._new_seed()
        if X_val is not None:
            X_val, y_val = self._checked(
                X_val, y_val, reset=False, names=("X_val", "y_val")
            )
            _check_scale("X_val", X_val, X)
            X, X_val = _of_one_type(X, X_val)
        samples = _distinct(X, codes, weights, seed)
        held_out = None
        if X_val is not None:
            held_out = _all(X_val, _codes(y_val, classes, "y_val"))
        elif stopping is not None and len(classes) > 1:
            out = _hold_out(samples, fraction)
            held_out, samples = samples.where(out), samples.where(~out)
        if not going_on:
            self._begin(samples, classes, seed)
        self._optimizer = optimizer
        self._train(
            samples,
            held_out,
            factors,
            epochs - self._asked,
            self.learning_rate,
            stopping,
        )
        self._asked = epochs
        self._optimizer = self._new_optimizer()  # its state is twice the weights' size
        return self

    @explained
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "LeNet5Classifier":
        """Train for one epoch on X and y, from the present weights on.

        The first call fixes the classes, the shape of the images and what they are
        standardised with. The learning rate stays the same; momentum lives on from
        call to call, and begins anew after `fit`. There is no validation.

        Parameters
        ----------
        X, y : array-like
            As in `fit`. y need not have all classes.
        classes : (n_classes,) array-like
            All labels there will be: needed in the first call.
        sample_weight : array-like
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError, lenet5c.TrainingError
            As `fit` does.

        Examples
        --------
        >>> clf = lenet5c.LeNet5Classifier(random_state=0)
        >>> for part in (slice(0, 700), slice(700, 1400)):
        ...     _ = clf.partial_fit(images[part], labels[part], classes=range(10))
        >>> clf.n_iter_
        2
        """
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ValueError("classes: expected all labels in the first call, got None")
        known = self.classes_ if classes is None else np.unique(classes)
        if not first and not np.array_equal(known, self.classes_):
            raise ValueError(
                f"classes: expected those of the first call {_some(self.classes_)}, "
                f"got {_some(known)}"
            )
        optimizer = self._new_optimizer() if first else self._optimizer
        X, y = self._checked(X, y, reset=first)
        samples = _all(X, _codes(y, known, "y"), _sample_weights(sample_weight, X))
        factors = self._class_factors(known, y, samples.codes, samples.weights)
        samples = samples.where(samples.weights > 0)
        if first:
            self._begin(samples, known, self._new_seed())
        self._optimizer = optimizer
        self._train(samples, None, factors, 1, "constant")
        return self

    @explained
    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each sample, (n_samples,).

        Parameters
        ----------
        X : array-like
            As in `fit`, of the same shape.

        Returns
        -------
        (n_samples,) array

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X does not fit.

        Examples
        --------
        >>> rows = images.reshape(len(images), -1)
        >>> clf = lenet5c.LeNet5Classifier(max_iter=5, random_state=0).fit(rows, labels)
        >>> float((clf.predict(rows) == labels).mean()) > 0.9
        True
        """
        numbers = self._logits(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[numbers]
        return labels

    @explained
    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Probabilities, (n_samples, n_classes) float32, in the order of `classes_`.

        Parameters
        ----------
        X : array-like
            As in `fit`, of the same shape.

        Returns
        -------
        (n_samples, n_classes) float32

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X does not fit.

        Examples
        --------
        >>> rows = images.reshape(len(images), -1)
        >>> clf = lenet5c.LeNet5Classifier(max_iter=5, random_state=0).fit(rows, labels)
        >>> clf.predict_proba(rows[:2]).sum(axis=1).round(4).tolist()
        [1.0, 1.0]
        """
        probabilities: NDArray[np.float32] = np.exp(self.predict_log_proba(X))
        return probabilities

    def predict_log_proba(self, X: Any) -> NDArray[np.float32]:
        """Logarithms of the probabilities, (n_samples, n_classes) float32, finite.

        Parameters
        ----------
        X : array-like
            As in `fit`, of the same shape.

        Returns
        -------
        (n_samples, n_classes) float32

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X does not fit.

        Examples
        --------
        >>> rows = images.reshape(len(images), -1)
        >>> clf = lenet5c.LeNet5Classifier(max_iter=5, random_state=0).fit(rows, labels)
        >>> logarithms = clf.predict_log_proba(rows[:2])
        >>> np.allclose(np.exp(logarithms), clf.predict_proba(rows[:2]))
        True
        """
        logits = self._logits(X)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    @explained
    def to_images(self, X: Any) -> Images:
        """X as the network gets it, (n_samples, C, H, W) uint8 or float32.

        uint8 if `fit` had uint8 that was not resized and X is uint8: ``model_`` scales
        such images itself. All others are standardised, and small ones enlarged, here.

        Parameters
        ----------
        X : array-like
            As in `fit`, of the same shape.

        Returns
        -------
        (n_samples, C, H, W) uint8 or float32

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X does not fit.

        Examples
        --------
        >>> rows = images.reshape(len(images), -1)
        >>> clf = lenet5c.LeNet5Classifier(max_iter=5, random_state=0).fit(rows, labels)
        >>> pixels = clf.to_images(rows[:2])
        >>> pixels.shape, pixels.dtype.name
        ((2, 1, 28, 28), 'uint8')
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        if hasattr(self, "_scale"):
            _check_scale("X", X, self._scale)
        return self._images(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        model = getattr(self, "model_", None)
        if model is not None:  # its parameters are another array now
            optimizer = self._optimizer
            kept, steps = optimizer.state, optimizer.steps
            optimizer.prepare(model.parameter_vector)
            if steps:
                optimizer.state, optimizer.steps = kept, steps

    def _checked(
        self,
        X: Any,
        y: Any = "no_validation",
        *,
        reset: bool,
        names: tuple[str, str] = ("X", "y"),
    ) -> Any:
        """X as (n, features) uint8 or floats, and y if it is given.

        The checks are scikit-learn's, and the messages too, after the argument's name.
        `reset` takes the shape of an image from this X, otherwise it has to be the one
        there is.
        """
        shape = None
        X = _readable(names[0], X)
        with _in_own_words(names[0]):
            if not hasattr(X, "shape"):  # nested lists; no table, no sparse matrix
                X = as_array(names[0], X)
            if len(X.shape) in (3, 4):
                X = np.asarray(X)
                shape = (1, *X.shape[1:])[-3:]
                X = X.reshape(len(X), math.prod(shape))
            types = [np.float64, np.float32, np.uint8]
            X = validate_data(self, X, reset=reset, dtype=types)
        if reset:
            side = math.isqrt(X.shape[1] - 1) + 1
            self.image_shape_ = shape or (1, side, side)
        elif shape is not None and shape != self.image_shape_:
            raise ValueError(
                f"{names[0]}: expected images (C, H, W) = {self.image_shape_}, as in "
                f"the first call, got {shape}"
            )
        if isinstance(y, str) and y == "no_validation":
            return X
        y = _readable(names[1], y)
        with _in_own_words(names[1]):
            if y is None:
                raise ValueError("requires y to be passed, but the target y is None")
            y = check_array(y, ensure_2d=False, dtype=None, input_name=names[1])
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            check_classification_targets(y)
        return X, y

    def _class_factors(
        self,
        classes: NDArray[Any],
        y: Any,
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """What class_weight multiplies the weights of each class by, (n_classes,)."""
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            sums = np.bincount(codes, weights, len(classes))
            return np.divide(1, sums, out=np.zeros(len(sums)), where=sums > 0)
        with _in_own_words("class_weight"):
            factors: NDArray[np.float64] = compute_class_weight(
                self.class_weight, classes=classes, y=y
            )
        if factors.min() < 0 or not factors[np.unique(codes)].any():
            raise ValueError(
                "class_weight: expected weights of at least 0, not all of them zero, "
                f"got {self.class_weight!r:.200}"
            )
        return factors

    def _new_seed(self) -> int:
        """random_state itself, if it is a number, so that lenet5(seed=) is the same."""
        with _in_own_words("random_state"):
            generator = check_random_state(self.random_state)
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(generator.randint(2**31 - 1))

    def _new_model(self, classes: int, seed: int) -> Model:
        sizes = {"classes": classes, "channels": self.image_shape_[0], "seed": seed}
        make = self.network
        if not callable(make):
            if not isinstance(make, str) or make not in NETWORKS:
                names = ", ".join(map(repr, NETWORKS))
                raise ValueError(
                    f"network: expected {names} or a function, got {make!r}"
                )
            make = NETWORKS[make]
        choices = {
            "activation": self.activation,
            "pooling": self.pooling,
            "dropout": self.dropout or None,
        }
        given = {name: value for name, value in choices.items() if value is not None}
        for name in given:
            if name not in signature(make).parameters:
                raise ValueError(
                    f"{name}: the network {self.network!r} has no choice of it, "
                    f"got {given[name]!r}"
                )
        with _in_own_words("network"):
            model = make(**sizes, **given)
        if not isinstance(model, Model):
            raise TypeError(f"network: expected a lenet5c.Model from it, got {model!r}")
        return model

    def _new_optimizer(self) -> Optimizer:
        if self.solver not in ("sgd", "adam"):
            raise ValueError(f"solver: expected 'sgd' or 'adam', got {self.solver!r}")
        rate = self.learning_rate_init
        if self.solver == "adam":
            rate = AdamW().learning_rate if rate is None else rate
            with _in_own_words():
                return AdamW(rate, weight_decay=self.alpha)
        with _in_own_words():
            return SGD(
                sgd_rate(self.network, self.activation) if rate is None else rate,
                momentum=self.momentum,
                nesterov=truth("nesterovs_momentum", self.nesterovs_momentum),
                weight_decay=self.alpha,
            )

    def _new_stopping(self) -> tuple[EarlyStopping | None, float]:
        """What to stop by, if at all, and the share to hold out for it."""
        fraction = number("validation_fraction", self.validation_fraction, 0, 1)
        if fraction == 0:
            raise ValueError("validation_fraction: expected 0 < x < 1, got 0")
        with _in_own_words():
            stopping = EarlyStopping(self.n_iter_no_change, self.tol)
        stops = truth("early_stopping", self.early_stopping)
        return (stopping if stops else None), fraction

    def _begin(self, samples: "_Samples", classes: NDArray[Any], seed: int) -> None:
        """A new network, and what its images are standardised with."""
        model = None
        size = self.image_shape_[1:]
        if len(classes) > 1:
            model = self._new_model(len(classes), seed)
            size = self._size_in(model.input_shape)
            if any(np.greater((self.image_shape_[0], *size), model.input_shape)):
                raise ValueError(
                    f"X: expected at most {math.prod(model.input_shape)} features, "
                    f"images (C, H, W) within {model.input_shape}, got "
                    f"{self.n_features_in_} features, {self.image_shape_}. Make the "
                    "images smaller with `image_size`, or give `network` a function "
                    "that makes a network with a larger input"
                )
        mean, deviation = _mean_and_deviation(samples)
        self._size = size
        self._scale = np.array([samples.X.min(), samples.X.max()])
        self._bytes = samples.X.dtype == np.uint8 and size == self.image_shape_[1:]
        unit = 255 if self._bytes else 1
        # float32, so that a model file, which holds float32, gives the same bits
        mean = float(np.float32(mean / unit))
        deviation = float(np.float32(deviation / unit)) or 1.0
        # what surrounds a small image is 0 to the network: the mean of its pixels
        stage = InputStage(mean, deviation, 0.0) if self._bytes else InputStage()
        if model is not None:
            model.set_input(stage, size, _model_classes(classes))
            model.predicts_alike = True  # the order of samples has to change nothing
        self._mean, self._deviation = mean * unit, deviation * unit
        self._seed = seed
        self.model_ = model
        self.classes_ = classes
        self.n_outputs_ = len(classes)
        self.n_iter_ = 0
        self._asked = 0
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = None

    def _size_in(self, input_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Rows and columns of an image in the network, as `image_size` has them."""
        sides, most = self.image_shape_[1:], input_shape[1:]
        if self.image_size is None:
            return sides
        if isinstance(self.image_size, str):
            if self.image_size != "auto":
                raise ValueError(
                    "image_size: expected a whole number, 'auto' or None, "
                    f"got {self.image_size!r}"
                )
            if any(side > SMALL * of for side, of in zip(sides, most, strict=True)):
                return sides
            factor = min(FULL * of / side for side, of in zip(sides, most, strict=True))
        else:
            factor = whole("image_size", self.image_size, 1, max(most)) / max(sides)
        rows, columns = (max(1, round(factor * side)) for side in sides)
        return rows, columns

    def _images(self, X: NDArray[Any], rows: NDArray[np.intp] | None = None) -> Images:
        """Rows of X, or all of them, as images; standardised, unless the network does
        it itself, and then resized."""
        count = len(X) if rows is None else len(rows)
        features, size = X.shape[1], math.prod(self.image_shape_)
        resized = self._size != self.image_shape_[1:]
        raw = self._bytes and X.dtype == np.uint8
        if raw and size == features:
            return (X if rows is None else X[rows]).reshape(count, *self.image_shape_)
        shape = (count, self.image_shape_[0], *self._size)
        images = np.empty(shape, np.uint8 if raw else np.float32)
        step = max(1, MAX_VALUES // size)
        for start in range(0, count, step):
            part = slice(start, start + step)
            values = X[part] if rows is None else X[rows[part]]
            around = round(self._mean)  # the byte that is nearest to the mean
            if not raw:
                around = 0
                with np.errstate(over="ignore"):  # is refused as infinite later
                    values = (values.astype(np.float64) - self._mean) / self._deviation
                    values = values.astype(np.float32)
            filled = np.full((len(values), size), around, images.dtype)
            filled[:, :features] = values
            whole_images = filled.reshape(-1, *self.image_shape_)
            images[part] = (
                _resized(whole_images, self._size) if resized else whole_images
            )
        return images

    def _augmentation(self) -> Augment | None:
        if not isinstance(self.augment, str):
            return self.augment
        if self.augment != "auto":
            raise ValueError(
                "augment: expected a lenet5c.Augment, 'auto' or None, "
                f"got {self.augment!r}"
            )
        pixel = max(self._size) / max(self.image_shape_[1:])  # an original one is
        if pixel <= 1:
            return None
        pixel = min(pixel, 4.0)
        # 10 is 0.4 pixels of deviation: alpha / (2 sqrt(3 pi) sigma), sigma 4
        return Augment(shift=pixel / 2, rotate=0, scale=0, elastic=10 * pixel)

    def _train(
        self,
        samples: "_Samples",
        held_out: "_Samples | None",
        factors: NDArray[np.float64],
        epochs: int,
        schedule: str | Schedule,
        stopping: EarlyStopping | None = None,
    ) -> None:
        """Train the network, if there is anything to learn, and keep the record."""
        if self.model_ is None:
            self.history_ = History()
            self.n_iter_ += epochs
            self.loss_curve_ += [0.0] * epochs
        else:
            weights = samples.weights * factors[samples.codes]
            labels = self.model_.classes
            validation = None
            if held_out is not None:
                chosen = _in_proportion(held_out.weights * factors[held_out.codes])
                validation = (
                    self._images(held_out.X, held_out.rows[chosen]),
                    labels[held_out.codes[chosen]],
                )
            batch_size = self.batch_size
            if isinstance(batch_size, str):
                if batch_size != "auto":
                    raise ValueError(
                        f"batch_size: expected a number or 'auto', got {batch_size!r}"
                    )
                batch_size = min(RECIPES["default"].batch_size, len(weights))
            verbose = self.verbose
            if not isinstance(verbose, (bool, np.bool_)):
                verbose = whole("verbose", verbose, 0) > 0
            threads = self._threads()
            with _in_own_words():
                self.history_ = self.model_.fit(
                    self._images(samples.X, samples.rows),
                    labels[samples.codes],
                    epochs=epochs,
                    batch_size=batch_size,
                    optimizer=self._optimizer,
                    schedule=schedule,
                    augment=self._augmentation(),
                    validation=validation,
                    seed=self._seed + self.n_iter_,
                    threads=threads,
                    verbose=verbose,
                    label_smoothing=self.label_smoothing,
                    clip_norm=math.inf if self.clip_norm is None else self.clip_norm,
                    sample_weight=None if np.ptp(weights) == 0 else weights,
                    early_stopping=stopping,
                )
            self.n_iter_ += len(self.history_)
            self.loss_curve_ += self.history_.loss
            if validation is not None:
                earlier = self.validation_scores_ or []
                self.validation_scores_ = earlier + self.history_.validation_accuracy
        self.best_loss_ = min(self.loss_curve_)
        scores = self.validation_scores_
        self.best_validation_score_ = max(scores) if scores else None

    def _logits(self, X: Any) -> NDArray[np.float32]:
        images = self.to_images(X)
        if self.model_ is None:
            return np.zeros((len(images), 1), np.float32)
        threads = self._threads()
        with _in_own_words():
            logits: NDArray[np.float32] = self.model_.forward(images, threads=threads)
        return logits

    def _threads(self) -> int | None:
        """n_jobs as threads; -1 is all there are, -2 one less, and so on."""
        if self.n_jobs is None:
            return None
        jobs = whole("n_jobs", self.n_jobs, -1024, 1024)
        if jobs < 0:
            return max(1, resolve_threads() + 1 + jobs)
        with _in_own_words():
            return resolve_threads(jobs)


PARAMETERS = {
    *signature(LeNet5Classifier.__init__).parameters,
    *signature(LeNet5Classifier.fit).parameters,
}


def _check_scale(argument: str, X: NDArray[Any], fitted: NDArray[Any]) -> None:
    """Refuse shares of 255 for values that go to 255, and the other way round: a slip
    that would cost nearly all accuracy without a word."""
    if not X.size:
        return
    (least, most), (_, largest) = ((a.min(), a.max()) for a in (X, fitted))
    shares = least >= 0 and most <= 1 and not np.array_equal(X, X.astype(np.int64))
    if shares and fitted.dtype == np.uint8 and largest > 1:
        raise ValueError(
            f"{argument}: expected values like those of fit, up to {largest}, got "
            f"{least:g} to {most:g}: multiply by 255"
        )
    if X.dtype == np.uint8 and fitted.dtype.kind == "f" and most > 1 >= largest > 0:
        raise ValueError(
            f"{argument}: expected values like those of fit, up to {largest:g}, got "
            f"{least} to {most}: divide by 255"
        )


def _of_one_type(
    X: NDArray[Any], X_val: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as bytes or both as floats, since a network is trained on one of them.

    Values of X_val that are bytes are taken as such if X has bytes. Otherwise what has
    bytes becomes floats.
    """
    if X.dtype == np.uint8 and X_val.dtype != np.uint8:
        with np.errstate(invalid="ignore"):
            as_bytes = X_val.astype(np.uint8)
        if np.array_equal(as_bytes, X_val):
            return X, as_bytes
        return X.astype(np.float32), X_val
    if X_val.dtype == np.uint8 and X.dtype != np.uint8:
        return X, X_val.astype(np.float32)
    return X, X_val


def _resized(images: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Images (n, C, H, W) with `size` rows and columns.

    Sums in one order, pixel by pixel: an image has the same bits among others as alone.
    """
    for axis, new in zip((2, 3), size, strict=True):
        at, weights = _taps(images.shape[axis], new)
        if axis == 2:
            weights = weights[:, :, np.newaxis]
        with np.errstate(over="ignore", invalid="ignore"):  # is refused later
            resized = images.take(at[:, 0], axis) * weights[:, 0]
            for tap in range(1, at.shape[1]):
                resized += images.take(at[:, tap], axis) * weights[:, tap]
        images = resized
    return images


def _taps(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """y[i] = sum over k of weights[i, k] x[at[i, k]]

    Linear interpolation with pixel centres at (i + 1/2) old / new - 1/2. Where pixels
    become fewer the triangle is as much wider, so that all of them count.

    at, weights  (new, K)
    """
    half = max(1.0, old / new)
    centres = (np.arange(new)[:, np.newaxis] + 0.5) * old / new - 0.5
    at = np.floor(centres - half).astype(np.intp) + 1 + np.arange(math.ceil(2 * half))
    weights = np.maximum(0, 1 - np.abs(at - centres) / half)
    weights[(at < 0) | (at >= old)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return at.clip(0, old - 1), weights.astype(np.float32)


class _Samples(NamedTuple):
    """Samples to train on or to measure: rows of X and, (m,) each, what they are."""

    X: NDArray[Any]
    rows: NDArray[np.intp]
    codes: NDArray[np.intp]  # numbers of the classes
    weights: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> "_Samples":
        """Those of them."""
        return _Samples(
            self.X, self.rows[chosen], self.codes[chosen], self.weights[chosen]
        )


def _all(
    X: NDArray[Any],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64] | None = None,
) -> _Samples:
    weights = np.ones(len(X)) if weights is None else weights
    return _Samples(X, np.arange(len(X)), codes, weights)


def _distinct(
    X: NDArray[Any], codes: NDArray[np.intp], weights: NDArray[np.float64], seed: int
) -> _Samples:
    """Samples that differ in X or class; copies are one, with the sum of the weights.

    They come by class, and within a class by a hash of the seed and the values. So
    nothing depends on the order of the samples, and a weight of 2 is the same, bit for
    bit, as two copies of a sample, a weight of 0 as none.
    """
    rows, key = np.flatnonzero(weights), seed.to_bytes(8, "little")
    digests = b"".join(
        hashlib.blake2b(row, digest_size=16, key=key).digest()
        for start in range(0, len(rows), IMAGES_AT_ONCE)
        for row in _part(X, rows[start : start + IMAGES_AT_ONCE])
    )
    hashes = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    order = np.lexsort((hashes[:, 1], hashes[:, 0], codes[rows]))
    rows, hashes = rows[order], hashes[order]
    differs = (np.diff(hashes, axis=0) != 0).any(axis=1) | (np.diff(codes[rows]) != 0)
    first = np.flatnonzero(np.concatenate([[True], differs]))
    sums = np.add.reduceat(weights[rows], first)
    return _Samples(X, rows[first], codes[rows[first]], sums)


def _part(X: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Some rows, so that equal values are equal bytes whatever the dtype of X is."""
    return np.ascontiguousarray(X[rows], np.float64)


def _hold_out(samples: _Samples, fraction: float) -> NDArray[np.bool_]:
    """Which of the distinct samples are for validation, about `fraction` by weight.

    A sample's place in its class goes from 0 to 1 by weight; of all classes, those who
    stand first are held out.
    """
    _, _, codes, weights = samples
    of_class = np.bincount(codes, weights)
    ahead = np.cumsum(of_class) - of_class  # of the class, in all others before it
    place = (np.cumsum(weights) - weights / 2 - ahead[codes]) / of_class[codes]
    queue = np.argsort(place, kind="stable")
    before = np.cumsum(weights[queue]) - weights[queue]
    chosen = np.zeros(len(weights), bool)
    chosen[queue] = before < fraction * weights.sum()
    chosen[queue[-1]] = False
    if not chosen.any():
        raise ValueError("early_stopping: expected two different samples, got only one")
    return chosen


def _in_proportion(weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions, each as often as its weight says, to a quarter of the mean weight."""
    if np.ptp(weights) == 0:
        return np.arange(len(weights))
    count = 4 * len(weights)
    sums = np.cumsum(weights)
    wanted = (np.arange(count) + 0.5) / count * sums[-1]
    positions: NDArray[np.intp] = np.searchsorted(sums, wanted)
    return positions


def _sample_weights(sample_weight: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """The weights (n,), checked; ones for None."""
    if sample_weight is None:
        return np.ones(len(X))
    sample_weight = _readable("sample_weight", sample_weight)
    with _in_own_words("sample_weight"):
        weights: NDArray[np.float64] = _check_sample_weight(
            sample_weight, X, dtype=np.float64
        )
    if weights.min() < 0:
        raise ValueError(
            f"sample_weight: expected weights of at least 0, got {weights.min()}"
        )
    if not weights.any():
        raise ValueError("sample_weight: expected a weight above 0, got only zeros")
    return weights


def _some(values: NDArray[Any]) -> str:
    return f"{values.tolist()!r:.200}"


def _codes(y: Any, classes: NDArray[Any], argument: str) -> NDArray[np.intp]:
    """The number of each label's class; ValueError if it has none."""
    labels, positions = np.unique(y, return_inverse=True)
    numbers = {label: number for number, label in enumerate(classes.tolist())}
    for label in labels.tolist():
        if label not in numbers:
            raise ValueError(
                f"{argument}: expected labels among {_some(classes)}, got {label!r}"
            )
    return np.array([numbers[label] for label in labels.tolist()])[positions]


def _model_classes(classes: NDArray[Any]) -> NDArray[Any]:
    """The labels as a model and its file can have them, or numbers in their stead."""
    kind = classes.dtype.kind
    if kind == "O" and all(isinstance(label, str) for label in classes):
        return classes.astype(str)
    if kind == "f" and np.abs(classes).max() < 2**53:  # whole, as labels are
        return classes.astype(np.int64)
    if kind in "ibU" or (kind == "u" and classes.max() < 2**63):
        return classes
    return np.arange(len(classes))


def _mean_and_deviation(samples: _Samples) -> tuple[float, float]:
    """Weighted mean and standard deviation of all values of all samples."""
    X, rows, _, weights = samples
    share = weights / weights.sum()
    mean = variance = 0.0
    parts = [
        slice(start, start + IMAGES_AT_ONCE)
        for start in range(0, len(rows), IMAGES_AT_ONCE)
    ]
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            mean += float(share[part] @ _part(X, rows[part]).mean(axis=1))
        for part in parts:
            squares = (_part(X, rows[part]) - mean) ** 2
            variance += float(share[part] @ squares.mean(axis=1))
    if not (math.sqrt(variance) <= MAX_FLOAT32 and abs(mean) <= MAX_FLOAT32):
        raise ValueError(
            "X: expected values whose mean and variance are floats, got larger"
        )
    return mean, math.sqrt(variance)
