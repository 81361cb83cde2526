"""LeNet5Classifier: scikit-learn's own checks, and what it promises beyond them."""

import copy
import pickle
import re

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_wine, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import lenet5c
from lenet5c.estimator import LeNet5Classifier, _distinct, _hold_out, _resized


@pytest.mark.filterwarnings("ignore:max_iter. with warm_start")
@parametrize_with_checks(
    [
        LeNet5Classifier(),
        LeNet5Classifier(activation="relu", pooling="max", solver="adam", n_jobs=1),
        LeNet5Classifier(early_stopping=True, warm_start=True, n_jobs=1),
        LeNet5Classifier("mlp", class_weight="balanced", n_jobs=1),
    ]
)
def test_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def quick(**options) -> LeNet5Classifier:
    """The network that trains fastest, for a few epochs."""
    return LeNet5Classifier(
        **{"network": "mlp", "max_iter": 3, "random_state": 0, "n_jobs": 1} | options
    )


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """(500, 64) float64, 0 to 16, and (500,) labels."""
    X, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(X))[:500]
    return X[chosen], y[chosen]


@pytest.fixture
def three() -> tuple[np.ndarray, np.ndarray]:
    """(90, 4) float64 in three classes that are easily told apart."""
    X, y = make_blobs(90, 4, centers=3, cluster_std=0.5, random_state=1)
    return X, y


def bits(clf: LeNet5Classifier) -> bytes:
    return clf.model_.parameter_vector.tobytes()


# It learns


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "relu", "pooling": "max"},
        {"solver": "adam", "learning_rate_init": 0.003},
        {"network": "mlp"},
        {"network": "cnn3"},
        {"dropout": 0.2, "label_smoothing": 0.1, "alpha": 1e-4},
        {"early_stopping": True, "learning_rate": "plateau"},
    ],
    ids=str,
)
def test_learns_the_digits(digits, options):
    X, y = digits
    clf = LeNet5Classifier(random_state=0, **options).fit(X[:400], y[:400])
    assert clf.score(X[400:], y[400:]) > 0.85


@pytest.mark.parametrize("seed", range(5))
def test_small_data_do_not_lead_it_astray(seed):
    """Without the limit of the gradient one run in four stays at chance."""
    X, y = load_wine(return_X_y=True)
    clf = make_pipeline(StandardScaler(), LeNet5Classifier(random_state=seed))
    assert clf.fit(X, y).score(X, y) > 0.85


def test_learns_images_in_colour():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    X = rng.normal(size=(120, 3, 9, 7))
    X[np.arange(120), y] += 1
    clf = LeNet5Classifier(random_state=0).fit(X, y)
    assert clf.model_.input_shape == (3, 32, 32)
    assert clf.image_shape_ == (3, 9, 7)
    assert clf.n_features_in_ == 3 * 9 * 7
    assert clf.score(X, y) > 0.9
    same = X.reshape(120, -1)
    np.testing.assert_array_equal(clf.predict_proba(X), clf.predict_proba(same))


# Shapes and dtypes of X


def test_images_rows_and_dtypes_of_the_same_values_are_the_same(digits):
    X, y = digits
    images = X.reshape(-1, 8, 8)
    clf = quick().fit(images, y)
    assert clf.n_features_in_ == 64
    for other in (X, X.tolist(), images[:, None], X.astype(np.float32), X.astype(int)):
        assert bits(quick().fit(other, y)) == bits(clf)
        np.testing.assert_array_equal(clf.predict_proba(other), clf.predict_proba(X))
    for view in (np.asfortranarray(images), images[:, ::-1][:, ::-1]):
        assert bits(quick().fit(view, y)) == bits(clf)


def test_bytes_and_floats_mean_the_same(digits):
    X, y = digits
    raw = (X * 15).astype(np.uint8)
    kept = {"image_size": None}
    on_bytes, on_floats = (quick(**kept).fit(X, y) for X in (raw, raw * 1.0))
    assert on_bytes.to_images(raw).dtype == np.uint8
    assert on_bytes.to_images(raw * 1.0).dtype == np.float32
    assert on_floats.to_images(raw).dtype == np.float32
    expected = on_bytes.predict_proba(raw)
    assert expected.std() > 0.1
    for clf in (on_bytes, on_floats):
        for same in (raw, raw * 1.0):
            np.testing.assert_allclose(clf.predict_proba(same), expected, atol=1e-3)


def test_values_are_standardised_with_one_mean_and_one_deviation(three):
    X, y = three
    clf = quick(image_size=None).fit(X * 1000 + 5000, y)
    images = clf.to_images(X * 1000 + 5000)
    assert images.shape == (90, 1, 2, 2)
    np.testing.assert_allclose([images.mean(), images.std()], [0, 1], atol=1e-4)
    expected = (X - X.mean()) / X.std()
    np.testing.assert_allclose(images.reshape(90, 4), expected, atol=1e-3)


def test_an_input_stage_of_the_network_gives_way_to_the_standardisation(digits):
    """`lenet5_1998` has one, which floats from 0 to 16 would be no good for."""
    X, y = digits

    def network(classes, channels, seed):
        model = lenet5c.lenet5_1998(classes=classes, channels=channels, seed=seed)
        shape = model.input_shape
        return lenet5c.Model(model.layers, input_shape=shape, seed=seed)

    found = [
        quick(network=each, max_iter=1).fit(X, y).predict_proba(X[:9])
        for each in ("lenet5-1998", network)
    ]
    np.testing.assert_array_equal(*found)


def test_features_stand_on_the_smallest_square_around_which_is_the_mean(three):
    X = np.hstack([three[0], three[0][:, :1]])
    clf = quick(image_size=None).fit(X, three[1])
    images = clf.to_images(X)
    assert images.shape == (90, 1, 3, 3)
    assert (images.reshape(90, 9)[:, 5:] == 0).all()
    assert (images.reshape(90, 9)[:, :5] != 0).all()
    assert clf.model_.stage.background == 0


# Small images are enlarged


def test_interpolation_is_linear_between_the_centres_of_pixels():
    row = np.array([1, 2, 4], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        _resized(row, (1, 6)).ravel(), [1, 1.25, 1.75, 2.5, 3.5, 4]
    )
    np.testing.assert_array_equal(
        _resized(row.reshape(1, 1, 3, 1), (6, 1)).ravel(), _resized(row, (1, 6)).ravel()
    )
    np.testing.assert_array_equal(_resized(row, (1, 3)), row)


@pytest.mark.parametrize("sizes", [(8, 28), (7, 24), (1, 28), (20, 28), (64, 28)])
def test_images_are_resized_as_pillow_does_it(sizes):
    Image = pytest.importorskip("PIL.Image")
    old, new = sizes
    image = np.random.default_rng(0).normal(size=(old, old + 2)).astype(np.float32)
    expected = Image.fromarray(image).resize((new + 3, new), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(
        _resized(image[None, None], (new, new + 3))[0, 0], expected, atol=1e-5
    )


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        ("lenet5", (8, 8), (28, 28)),
        ("lenet5", (20, 20), (28, 28)),
        ("lenet5", (21, 8), (21, 8)),
        ("lenet5", (28, 28), (28, 28)),
        ("lenet5", (3, 12, 6), (28, 14)),
        ("lenet5", (1, 15), (2, 28)),
        ("mlp", (8, 8), (24, 24)),
        ("mlp", (18, 18), (18, 18)),
        ("cnn3", (4, 8), (12, 24)),
    ],
    ids=str,
)
def test_small_images_come_near_to_the_size_of_the_network(network, shape, expected):
    X = np.random.default_rng(0).normal(size=(4, *shape))
    clf = quick(network=network, max_iter=1).fit(X, [0, 1, 0, 1])
    assert clf.to_images(X).shape[2:] == clf.model_.source == expected
    assert clf.image_shape_[-2:] == shape[-2:]


def test_the_size_may_be_chosen(digits):
    X, y = digits
    for size in (1, 5, 8, 11, 28):
        clf = quick(image_size=size, max_iter=1).fit(X, y)
        assert clf.to_images(X).shape == (500, 1, size, size)
    assert quick(image_size=None).fit(X, y).to_images(X).shape == (500, 1, 8, 8)
    large = np.random.default_rng(0).normal(size=(10, 90, 45))
    clf = quick(image_size=28, max_iter=1).fit(large, [0, 1] * 5)
    assert clf.to_images(large).shape == (10, 1, 28, 14)


def test_images_that_are_not_small_are_left_as_they_are():
    random = np.random.default_rng(0)
    X, y = random.integers(0, 256, (100, 28, 28), dtype=np.uint8), np.arange(100) % 3
    clf = quick().fit(X, y)
    assert bits(clf) == bits(quick(image_size=None, augment=None).fit(X, y))
    np.testing.assert_array_equal(clf.to_images(X)[:, 0], X)


def test_an_image_is_enlarged_alone_as_among_others(digits):
    X, y = digits
    clf = quick().fit(X, y)
    images = clf.to_images(X)
    np.testing.assert_array_equal(clf.to_images(X[7:8])[0], images[7])
    many = np.tile(X, (150, 1))  # several chunks
    np.testing.assert_array_equal(clf.to_images(many)[-500:], images)


def test_values_of_small_images_may_be_of_any_type_and_range(digits):
    """Bytes and floats are the same bits; another range, the same but for rounding."""
    X, y = digits
    raw = X.astype(np.uint8)
    clf = quick().fit(X, y)
    assert bits(quick().fit(raw, y)) == bits(clf)
    np.testing.assert_array_equal(clf.to_images(raw), clf.to_images(X))
    scaled = quick().fit(X / 16 + 3, y).to_images(X / 16 + 3)
    np.testing.assert_allclose(scaled, clf.to_images(X), atol=1e-5)


def test_small_images_are_learned_better_when_they_are_enlarged():
    """The digits come by writer: these to test with are by others."""
    X, y = load_digits(return_X_y=True)
    X, y, X_test, y_test = X[:600], y[:600], X[1300:], y[1300:]
    plain = LeNet5Classifier(image_size=None, random_state=0).fit(X, y)
    clf = LeNet5Classifier(random_state=0).fit(X, y)
    assert clf.score(X_test, y_test) > plain.score(X_test, y_test) + 0.01


# Larger ones are refused


@pytest.mark.parametrize(("network", "most"), [("lenet5", 1024), ("mlp", 784)])
def test_images_larger_than_the_input_are_refused(network, most):
    y = [0, 1] * 5
    X = np.random.default_rng(0).normal(size=(10, most))
    quick(network=network).fit(X, y)
    with pytest.raises(ValueError, match=f"at most {most} features.*got {most + 1}"):
        quick(network=network).fit(np.hstack([X, X[:, :1]]), y)
    with pytest.raises(ValueError, match=r"\(1, 33, 5\)"):
        quick(network=network).fit(X[:, :165].reshape(10, 33, 5), y)


def test_a_network_of_ones_own_takes_larger_images():
    def make(classes, channels, seed):
        return lenet5c.Model(
            [lenet5c.AvgPool2d(4), lenet5c.Dense(classes)],
            input_shape=(channels, 40, 40),
            classes=classes,
            seed=seed,
        )

    X = np.random.default_rng(0).normal(size=(40, 40, 40))
    y = np.arange(40) % 2
    X[y == 1, :20] += 1
    clf = quick(network=make, max_iter=20).fit(X, y)
    assert clf.score(X, y) > 0.9
    assert clone(clf).fit(X, y).model_.input_shape == (1, 40, 40)


def test_other_shapes_than_those_of_the_first_call_are_refused():
    X, y = np.random.default_rng(0).normal(size=(10, 8, 2)), [0, 1] * 5
    clf = quick().fit(X, y)
    with pytest.raises(ValueError, match=r"\(1, 8, 2\).*got \(1, 2, 8\)"):
        clf.predict(X.reshape(10, 2, 8))
    with pytest.raises(ValueError, match=r"15 features.*expecting 16 features"):
        clf.predict(X.reshape(10, 16)[:, 1:])
    for wrong in (X[0, 0], X[0, 0, 0], X.reshape(10, 2, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"array|dim"):
            clf.predict(wrong)
    assert len(clf.predict(X.reshape(10, 16))) == 10


def test_none_and_empty_and_ragged_are_refused():
    for wrong in (np.zeros((0, 4)), np.zeros((0, 4, 4)), np.zeros((2, 0, 4))):
        with pytest.raises(ValueError, match=r"0 (sample|feature)"):
            quick().fit(wrong, [0, 1][: len(wrong)])
    with pytest.raises(ValueError, match="X: expected an array"):
        quick().fit([[1, 2], [3]], [0, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(digits, value):
    X, y = digits
    clf = quick().fit(X, y)
    wrong = X.reshape(-1, 8, 8).copy()
    wrong[3, 2, 1] = value
    for call in (clf.predict, lambda X: clf.fit(X, y)):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            call(wrong)
    wrong[3, 2, 1] = 1e300
    for call in (clf.predict, lambda X: clf.fit(X, y)):
        with pytest.raises(ValueError, match=r"finite float32|variance"):
            call(wrong)


# Labels


@pytest.mark.parametrize(
    "names",
    [
        [0, 1, 2],
        [-7, 3, 10**12],
        np.array([3, 250, 255], np.uint8),
        np.array([1, 2, 2**64 - 1], np.uint64),
        ["bee", "ant", "cat"],
        np.array(["bee", "ant", "cat"], object),
        [0.0, 1.0, 5.0],
    ],
    ids=str,
)
def test_labels_of_any_type_come_back(three, names):
    X, codes = three
    y = np.asarray(names)[codes]
    clf = quick(max_iter=30).fit(X, y)
    predicted = clf.predict(X)
    assert predicted.dtype == y.dtype
    np.testing.assert_array_equal(clf.classes_, np.unique(y))
    assert (predicted == y).mean() > 0.95
    clf.model_.save("model")
    model = lenet5c.load("model")
    numbers = np.searchsorted(clf.classes_, predicted)
    if y.dtype != np.uint64:
        np.testing.assert_array_equal(model.predict(clf.to_images(X)), predicted)
    np.testing.assert_array_equal(
        np.searchsorted(model.classes, model.predict(clf.to_images(X))), numbers
    )


def test_booleans_are_labels(three):
    X, y = three
    clf = quick(max_iter=30).fit(X, y == 1)
    assert clf.predict(X).dtype == bool
    assert clf.score(X, y == 1) > 0.95
    np.testing.assert_array_equal(clf.model_.predict(clf.to_images(X)), clf.predict(X))


def test_one_class_alone_is_always_predicted(three):
    X = three[0]
    clf = quick().fit(X, ["a"] * 90)
    assert clf.model_ is None
    assert clf.predict(X).tolist() == ["a"] * 90
    np.testing.assert_array_equal(clf.predict_proba(X), np.ones((90, 1)))
    np.testing.assert_array_equal(clf.predict_log_proba(X), np.zeros((90, 1)))
    assert (clf.n_iter_, clf.best_loss_, len(clf.history_)) == (3, 0, 0)
    pickle.loads(pickle.dumps(clf)).partial_fit(X, ["a"] * 90)
    with pytest.raises(ValueError, match=r"X has 3 features"):
        clf.predict(X[:, :3])


def test_many_classes():
    X = np.random.default_rng(0).normal(size=(600, 16))
    clf = quick().fit(X, np.arange(600) % 300)
    assert clf.predict_proba(X).shape == (600, 300)
    assert clf.n_outputs_ == 300


def test_labels_that_are_no_classes_are_refused(three):
    X, y = three
    with pytest.raises(ValueError, match="Unknown label type"):
        quick().fit(X, y + 0.5)
    with pytest.raises(ValueError, match="y_val: expected labels among"):
        quick().fit(X, y, X_val=X, y_val=y + 1)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        quick().fit(X, np.eye(3)[y])


# What is predicted


def test_predictions_are_those_of_the_model(digits):
    X, y = digits
    for data in (X, (X * 15).astype(np.uint8)):
        clf = LeNet5Classifier(max_iter=2, random_state=1).fit(data, y)
        images = clf.to_images(data)
        np.testing.assert_array_equal(clf.predict(data), clf.model_.predict(images))
        expected = clf.model_.predict_proba(images)
        np.testing.assert_allclose(clf.predict_proba(data), expected, rtol=1e-5)
        assert clf.score(data, y) == clf.model_.evaluate(images, y).accuracy


def test_logarithms_of_probabilities_are_finite_where_those_are_0(three):
    X, y = three
    clf = quick(max_iter=30).fit(X, y)
    far = X * 1e5
    assert (clf.predict_proba(far) == 0).any()
    assert np.isfinite(clf.predict_log_proba(far)).all()
    near = clf.predict_proba(X)
    np.testing.assert_allclose(np.log(near), clf.predict_log_proba(X), atol=1e-6)
    np.testing.assert_allclose(near.sum(axis=1), 1, rtol=1e-6)


def test_nothing_is_predicted_before_fit(three):
    for name in ("predict", "predict_proba", "predict_log_proba", "to_images"):
        with pytest.raises(NotFittedError):
            getattr(quick(), name)(three[0])


# Determinism


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(digits):
    X, y = digits
    clf = quick(random_state=3).fit(X, y)
    for jobs in (1, 2, 3, None, -1):
        assert bits(quick(random_state=3, n_jobs=jobs).fit(X, y)) == bits(clf)
    assert bits(quick(random_state=4).fit(X, y)) != bits(clf)
    assert bits(clf.fit(X, y)) == bits(clone(clf).fit(X, y))


def test_the_seed_is_that_of_the_network(three):
    X, y = three
    clf = quick(random_state=7, learning_rate_init=0.0).fit(X, y)
    assert bits(clf) == lenet5c.mlp(classes=3, seed=7).parameter_vector.tobytes()


def test_random_state_may_be_an_instance_or_none(three):
    X, y = three

    def of(state):
        return bits(quick(random_state=state).fit(X, y))

    assert of(np.random.RandomState(5)) == of(np.random.RandomState(5))
    generator = np.random.RandomState(5)
    assert of(generator) != of(generator)
    assert of(None) != of(None)
    with pytest.raises(ValueError, match="seed"):
        quick(random_state="five").fit(X, y)


def test_the_order_of_the_samples_has_no_effect(digits):
    X, y = digits
    order = np.random.default_rng(0).permutation(len(X))
    for options in ({}, {"early_stopping": True}):
        expected = bits(quick(**options).fit(X, y))
        assert bits(quick(**options).fit(X[order], y[order])) == expected


# Weights


@pytest.mark.parametrize(
    "options",
    [{}, {"early_stopping": True}, {"class_weight": "balanced"}, {"solver": "adam"}],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_a_weight_is_a_number_of_copies(digits, options, dtype):
    """Bit for bit, although there are several batches."""
    X, y = digits[0].astype(dtype), digits[1]
    weights = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = quick(**options).fit(X, y, sample_weight=weights)
    repeated = quick(**options).fit(X.repeat(weights, 0), y.repeat(weights))
    without = quick(**options).fit(X, y)
    assert bits(weighted) == bits(repeated) != bits(without)
    scaled = quick(**options).fit(X, y, sample_weight=weights * 8.0)
    assert bits(scaled) == bits(weighted)


def test_weights_draw_the_predictions_to_them():
    X = np.random.default_rng(0).normal(size=(100, 9))
    y = np.arange(100) % 2
    for code in (0, 1):
        weights = np.where(y == code, 100.0, 1.0)
        clf = quick(max_iter=10).fit(X, y, sample_weight=weights)
        assert (clf.predict(X) == code).mean() > 0.9
        clf = quick(max_iter=10, class_weight={code: 100}).fit(X, y)
        assert (clf.predict(X) == code).mean() > 0.9


def test_balanced_weights_help_a_rare_class():
    X = np.random.default_rng(0).normal(size=(200, 9))
    y = (np.arange(200) < 20).astype(int)
    X[y == 1] += 0.5
    plain, balanced = quick(max_iter=10), quick(max_iter=10, class_weight="balanced")
    recall = [(c.fit(X, y).predict(X)[y == 1] == 1).mean() for c in (plain, balanced)]
    assert recall[1] > recall[0] + 0.2


def test_wrong_weights_are_refused(three):
    X, y = three
    ones = np.ones(90)
    for wrong, message in [
        (ones[1:], "sample_weight"),
        (-ones, "at least 0"),
        (0 * ones, "zero"),
        (np.full(90, np.nan), "NaN"),
    ]:
        for call in (quick().fit, quick().partial_fit):
            more = {} if call.__name__ == "fit" else {"classes": [0, 1, 2]}
            with pytest.raises(ValueError, match=message):
                call(X, y, sample_weight=wrong, **more)
    for class_weight in ("fair", {0: -1}, {0: 0, 1: 0, 2: 0}, {"zero": 1}, 3):
        with pytest.raises(ValueError, match="class"):
            quick(class_weight=class_weight).fit(X, y)


def test_copies_of_a_sample_are_held_out_together():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)).repeat(3, axis=0)
    codes = np.repeat(np.arange(300) % 3, 3)
    samples = _distinct(X, codes, np.ones(900), 0)
    assert len(samples.rows) == 300
    assert (samples.weights == 3).all()
    assert len(np.unique(X[samples.rows], axis=0)) == 300
    held_out = samples.where(_hold_out(samples, 0.1))
    np.testing.assert_array_equal(np.bincount(held_out.codes), [10, 10, 10])
    other = _distinct(X, codes, np.ones(900), 1)
    assert set(X[other.where(_hold_out(other, 0.1)).rows, 0]) != set(
        X[held_out.rows, 0]
    )


def test_a_sample_in_two_classes_is_two():
    samples = _distinct(np.ones((6, 2)), np.array([0, 1, 1, 0, 2, 2]), np.ones(6), 0)
    assert samples.codes.tolist() == [0, 1, 2]
    assert samples.weights.tolist() == [2, 2, 2]


# Early stopping, warm start, partial_fit


def test_early_stopping_keeps_the_best_epoch(three):
    X, y = three
    val = X + np.random.default_rng(0).normal(size=X.shape) * 6
    clf = quick(max_iter=100, early_stopping=True, n_iter_no_change=4, tol=0.0)
    clf.fit(X, y, X_val=val, y_val=y)
    losses = clf.history_.validation_loss
    best = int(np.argmin(losses))
    assert clf.n_iter_ == len(losses) == best + 1 + 4 < 100
    evaluation = clf.model_.evaluate(clf.to_images(val), y)
    assert evaluation.loss == pytest.approx(min(losses), rel=1e-6)
    assert clf.validation_scores_ == clf.history_.validation_accuracy
    assert clf.best_validation_score_ == max(clf.validation_scores_)
    assert clf.loss_curve_ == clf.history_.loss
    assert clf.best_loss_ == min(clf.loss_curve_)


def test_without_early_stopping_validation_only_measures(three):
    X, y = three
    plain, measured = quick().fit(X, y), quick().fit(X, y, X_val=X, y_val=y)
    assert bits(plain) == bits(measured)
    assert plain.validation_scores_ is plain.best_validation_score_ is None
    assert len(measured.validation_scores_) == 3
    assert measured.validation_scores_[-1] == measured.score(X, y)


@pytest.mark.parametrize("size", [None, "auto"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_a_validation_set_may_be_of_another_type_and_shape(digits, size, dtype):
    X, y = digits[0].astype(dtype), digits[1]
    expected = quick(image_size=size).fit(X, y, X_val=X[:200], y_val=y[:200])
    val = digits[0][:200]
    for other in (
        val,
        val.astype(np.uint8),
        val.astype(np.float32),
        val.astype(int),
        val.tolist(),
        val.reshape(-1, 8, 8),
        val.astype(np.uint8).reshape(-1, 1, 8, 8),
    ):
        clf = quick(image_size=size).fit(X, y, X_val=other, y_val=y[:200].tolist())
        assert bits(clf) == bits(expected)
        assert clf.history_.validation_loss == expected.history_.validation_loss
    clf = quick(image_size=size).fit(
        X.tolist(), y, X_val=val.astype(np.uint8), y_val=y[:200]
    )
    np.testing.assert_allclose(
        clf.history_.validation_loss, expected.history_.validation_loss, rtol=1e-4
    )


def test_a_table_of_pandas_may_be_validated_on(digits):
    pandas = pytest.importorskip("pandas")
    X, y = digits
    table = pandas.DataFrame(X).rename(columns=str)
    clf = quick().fit(table, y, X_val=table[:200], y_val=y[:200])
    expected = quick().fit(X, y, X_val=X[:200], y_val=y[:200])
    assert clf.validation_scores_ == expected.validation_scores_
    assert list(clf.feature_names_in_[:2]) == ["0", "1"]


def test_a_validation_set_of_floats_beside_bytes(digits):
    """Where its values are no bytes, all are taken as floats."""
    raw, y = digits[0].astype(np.uint8), digits[1]
    options = {"image_size": None, "warm_start": True, "max_iter": 2}
    clf = quick(**options).fit(raw, y, X_val=raw + 0.25, y_val=y)
    on_floats = quick(**options).fit(raw * 1.0, y)
    assert bits(clf) == bits(on_floats)
    assert clf.validation_scores_[-1] == on_floats.score(raw + 0.25, y)
    clf = quick(**options).fit(raw, y)
    for X, X_val in ((raw, raw + 0.25), (raw * 1.0, raw)):
        clf.set_params(max_iter=clf.max_iter + 1).fit(X, y, X_val=X_val, y_val=y)
        assert clf.validation_scores_[-1] == clf.score(X_val, y)


def test_validation_counts_samples_by_their_weights():
    """Half of those held out cannot be learned, and hardly count."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 4)), np.arange(200) % 2
    X[:100, 0] += 6 * y[:100]
    weights = np.where(np.arange(200) < 100, 1.0, 1e-6)
    options = {"early_stopping": True, "validation_fraction": 0.5, "max_iter": 30}
    clf = quick(**options).fit(X, y, sample_weight=weights)
    assert clf.best_validation_score_ > 0.9
    assert quick(**options).fit(X, y).best_validation_score_ < 0.9


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9])
def test_a_share_of_each_class_is_held_out(fraction):
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    samples = _distinct(rng.normal(size=(1000, 3)), codes, np.ones(1000), 5)
    counts = np.bincount(samples.where(_hold_out(samples, fraction)).codes)
    np.testing.assert_allclose(counts, fraction * np.array([600, 300, 100]), atol=1)


def test_warm_start_goes_on_to_more_epochs(digits):
    X, y = digits
    clf = quick(warm_start=True, max_iter=2).fit(X, y)
    before, loss = bits(clf), clf.loss_curve_[-1]
    with pytest.warns(UserWarning, match="2 are done. Nothing was trained"):
        clf.fit(X, y)
    assert bits(clf) == before
    model = clf.model_
    clf.set_params(max_iter=6).fit(X, y)
    assert clf.model_ is model
    assert clf.n_iter_ == len(clf.loss_curve_) == 6
    assert len(clf.history_) == 4
    assert clf.loss_curve_[-1] < loss
    with pytest.raises(ValueError, match="max_iter: expected 6 to"):
        clf.set_params(max_iter=5).fit(X, y)
    with pytest.raises(ValueError, match="expected the classes of the first call"):
        clf.set_params(max_iter=7).fit(X, y + 1)
    with pytest.raises(ValueError, match="expecting 64 features"):
        clf.fit(X[:, :60], y)
    clf.set_params(warm_start=False, max_iter=2).fit(X, y)
    assert bits(clf) == before


def test_partial_fit_learns_from_an_iterator_of_batches():
    X, y = load_digits(return_X_y=True)
    names = np.array(list("abcdefghij"))
    clf = LeNet5Classifier(random_state=0)
    starts = [*range(0, 1500, 100)] * 2
    batches = ((X[i : i + 100], names[y[i : i + 100]]) for i in starts)
    for number, (images, labels) in enumerate(batches, 1):
        clf.partial_fit(images, labels, classes=names if number == 1 else None)
        assert clf.n_iter_ == number
    assert clf.score(X[1500:], names[y[1500:]]) > 0.7
    assert clf._optimizer.steps == 30 * 2


def test_partial_fit_takes_batches_without_some_classes(three):
    X, y = three
    clf = quick(class_weight="balanced")
    for _ in range(10):
        for code in range(3):
            clf.partial_fit(X[y == code], y[y == code], classes=[2, 1, 0])
    assert clf.predict_proba(X).shape == (90, 3)
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        clf.partial_fit(X, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"y: expected labels among .* got 3"):
        clf.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="got None"):
        quick().partial_fit(X, y)


def test_partial_fit_goes_on_from_fit_and_fit_starts_afresh(digits):
    X, y = digits
    clf = quick().fit(X, y)
    fitted = bits(clf)
    clf.partial_fit(X, y)
    assert bits(clf) != fitted
    assert clf.n_iter_ == 4
    assert bits(clf.fit(X, y)) == fitted


# Copies


@pytest.mark.parametrize(
    "copied", [lambda clf: pickle.loads(pickle.dumps(clf)), copy.deepcopy]
)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_copy_predicts_and_learns_the_same(digits, copied, solver):
    """Its momentum, too."""
    X, y = digits
    clf = quick(solver=solver).partial_fit(X, y, classes=np.arange(10))
    other = copied(clf)
    np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))
    assert bits(other.partial_fit(X, y)) == bits(clf.partial_fit(X, y))
    assert other.model_ is not clf.model_


def test_joblib_keeps_it(three):
    X, y = three
    clf = quick().fit(X, y)
    joblib.dump(clf, "clf.joblib", compress=1)
    other = joblib.load("clf.joblib")
    np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))
    assert other.get_params() == clf.get_params()


def test_a_clone_has_the_parameters_alone(three):
    clf = quick(alpha=0.5, augment=lenet5c.Augment(rotate=5)).fit(*three)
    other = clone(clf)
    assert other.get_params() == clf.get_params()
    assert not hasattr(other, "model_")
    assert "augment=Augment" in repr(other)


def test_a_saved_model_does_without_scikit_learn(digits, run_python):
    X, y = digits
    clf = quick(image_size=None).fit((X * 15).astype(np.uint8), y)
    clf.model_.save("digits.lenet5c")
    np.save("images.npy", (X * 15).astype(np.uint8).reshape(-1, 8, 8))
    done = run_python(
        "import sys, numpy, lenet5c\n"
        "images = numpy.load('images.npy')\n"
        "print(lenet5c.load('digits.lenet5c').predict(images).tolist())\n"
        "assert 'sklearn' not in sys.modules"
    )
    expected = clf.predict((X * 15).astype(np.uint8)).tolist()
    assert done.stdout.strip() == str(expected)


# In scikit-learn's company


def test_in_a_pipeline(digits):
    X, y = digits
    pipeline = make_pipeline(MinMaxScaler(), quick(max_iter=10))
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.8


def test_with_calibration(digits):
    X, y = digits
    clf = CalibratedClassifierCV(quick(max_iter=10), cv=3).fit(X, y)
    assert clf.predict_proba(X).shape == (500, 10)
    assert clf.score(X, y) > 0.9


def test_cross_validation_of_images(digits):
    X, y = digits
    scores = cross_val_score(quick(max_iter=10), X.reshape(-1, 1, 8, 8), y, cv=3)
    assert scores.mean() > 0.8


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_a_search_on_two_workers_ends(run_python, backend):
    """The parent has used its threads before: a fork of it must not hang."""
    done = run_python(
        f"""if True:
        import joblib
        from sklearn.datasets import load_digits
        from sklearn.model_selection import GridSearchCV
        from lenet5c.estimator import LeNet5Classifier

        X, y = load_digits(return_X_y=True)
        X, y = X[:300], y[:300]
        clf = LeNet5Classifier(max_iter=2, random_state=0)
        clf.fit(X, y)
        with joblib.parallel_backend("{backend}"):
            grid = {{"alpha": [0.0, 0.01], "activation": ["tanh", "relu"]}}
            search = GridSearchCV(clf, grid, n_jobs=2, cv=2).fit(X, y)
        alone = GridSearchCV(clf, grid, cv=2).fit(X, y)
        same = search.cv_results_["mean_test_score"]
        assert same.tolist() == alone.cv_results_["mean_test_score"].tolist()
        print(len(same))""",
        timeout=120,
    )
    assert done.stdout.split() == ["4"]


def test_workers_share_the_cores(run_python):
    """A worker of joblib's takes no more threads than joblib leaves to it."""
    done = run_python(
        """if True:
        import joblib
        from lenet5c._support.threads import resolve_threads
        from lenet5c.estimator import LeNet5Classifier
        def threads():
            return resolve_threads(LeNet5Classifier()._threads())
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            print(joblib.Parallel(n_jobs=2)(joblib.delayed(threads)() for _ in "ab"))
        """,
        timeout=120,
    )
    assert done.stdout.strip() == "[1, 1]"


# Arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "lenet"}, "expected 'lenet5', 'mlp', 'cnn3'"),
        ({"network": ["mlp"]}, "expected 'lenet5', 'mlp', 'cnn3'"),
        ({"network": lambda **sizes: 5}, "expected a lenet5c.Model"),
        ({"network": lambda **sizes: lenet5c.mlp(hidden=0)}, "expected 1"),
        ({"pooling": "max"}, "the network 'mlp' has no choice"),
        ({"pooling": "min", "network": "lenet5"}, "'avg' or 'max', got 'min'"),
        ({"dropout": 0.5}, "the network 'mlp' has no choice"),
        ({"dropout": 1.5, "network": "lenet5"}, "expected 0 <= x < 1"),
        ({"activation": "tanh", "network": "cnn3"}, "'cnn3' has no choice"),
        ({"activation": "gelu"}, "or 'leaky-relu', got 'gelu'"),
        ({"image_size": 0}, "expected 1 to 28, got 0"),
        ({"image_size": 29}, "expected 1 to 28, got 29"),
        ({"image_size": 8.0}, "expected a whole number"),
        ({"image_size": "large"}, "expected a whole number, 'auto' or None"),
        ({"solver": "lbfgs"}, "'sgd' or 'adam', got 'lbfgs'"),
        ({"learning_rate": "adaptive"}, "expected 'constant'"),
        ({"learning_rate": "plateau"}, "expected validation as well"),
        ({"learning_rate": lambda step: 1}, "expected a function of"),
        ({"learning_rate_init": -1}, "expected 0 <= x"),
        ({"learning_rate_init": "fast", "solver": "adam"}, "expected a number"),
        ({"momentum": 1}, "expected 0 <= x < 1"),
        ({"nesterovs_momentum": "yes"}, "expected True or False"),
        ({"alpha": -1}, "expected 0 <= x"),
        ({"alpha": -1, "solver": "adam"}, "expected 0 <= x"),
        ({"batch_size": 0}, "expected 1 to"),
        ({"batch_size": "all"}, "expected a number or 'auto'"),
        ({"max_iter": 0}, "expected 1 to"),
        ({"max_iter": 1.5}, "expected a whole number"),
        ({"early_stopping": "yes"}, "expected True or False"),
        ({"validation_fraction": 1}, "expected 0 <= x < 1"),
        ({"validation_fraction": 0.0}, "expected 0 < x < 1"),
        ({"validation_fraction": "half"}, "expected a number"),
        ({"n_iter_no_change": 0}, "expected 1 to"),
        ({"tol": -1}, "expected 0 <= x"),
        ({"class_weight": "fair"}, "class_weight"),
        ({"class_weight": {0: -1}}, "expected weights of at least 0"),
        ({"label_smoothing": 1}, "expected 0 <= x < 1"),
        ({"clip_norm": -1}, "expected 0 <= x"),
        ({"clip_norm": 0}, "expected x > 0, or None"),
        ({"augment": "much"}, "expected a lenet5c.Augment"),
        ({"augment": 3}, "expected a lenet5c.Augment"),
        ({"warm_start": "yes"}, "expected True or False"),
        ({"random_state": -1}, "Seed must be"),
        ({"random_state": "five"}, "seed"),
        ({"n_jobs": 0}, "expected 1 to"),
        ({"n_jobs": 0.5}, "expected a whole number"),
        ({"verbose": "much"}, "expected a whole number"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused_by_its_name(three, options, message):
    parameter = next(iter(options))
    wanted = f"^{parameter}: .*{re.escape(message)}"
    with pytest.raises((ValueError, TypeError), match=wanted):
        quick(**options).fit(*three)


def test_every_parameter_has_a_wrong_value_that_is_refused():
    cases = test_a_wrong_parameter_is_refused_by_its_name.pytestmark[0].args[1]
    refused = {next(iter(options)) for options, _ in cases}
    assert refused == set(LeNet5Classifier().get_params())


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("X", None),
        ("X", [[1, 2], [3]]),
        ("X", np.full((90, 4), np.nan)),
        ("X", np.full((90, 4), 1e300)),
        ("X", np.zeros((90, 0))),
        ("X", np.zeros((90, 4, 29, 2))),
        ("X", np.zeros((90, 4), complex)),
        ("X", np.full((90, 4), "a")),
        ("y", None),
        ("y", np.zeros(89)),
        ("y", np.zeros((90, 2))),
        ("y", np.full(90, np.nan)),
        ("y", np.arange(90) / 7),
        ("sample_weight", np.ones(89)),
        ("sample_weight", -np.ones(90)),
        ("sample_weight", np.full(90, np.nan)),
        ("sample_weight", ["a"] * 90),
        ("X_val", [[1, 2], [3]]),
        ("X_val", np.zeros((90, 3))),
        ("X_val", np.zeros((90, 4, 1))),
        ("X_val", np.full((90, 4), np.inf)),
        ("X_val", np.full((90, 4), 1e300)),
        ("X_val", None),
        ("y_val", np.zeros(89)),
        ("y_val", np.full(90, 7)),
        ("y_val", np.full(90, np.nan)),
        ("y_val", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_data_are_refused_by_their_name(three, argument, wrong):
    X, y = three
    data = {"X": X, "y": y}
    if argument.endswith("val"):
        data |= {"X_val": X, "y_val": y}
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: "):
        quick().fit(**{**data, argument: wrong})


def test_what_cannot_be_predicted_is_called_x(three):
    X, y = three
    clf = quick().fit(X, y)
    for wrong in (X[:, 1:], X * np.nan, X + 1e300, X.reshape(90, 4, 1), None):
        for call in (clf.predict, clf.predict_proba):
            with pytest.raises(ValueError, match=r"^X: "):
                call(wrong)
    with pytest.raises(ValueError, match=r"^n_jobs: "):
        clf.set_params(n_jobs=0).predict(X)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.0},
        {"nesterovs_momentum": False},
        {"alpha": 0.1},
        {"batch_size": 7},
        {"learning_rate": "constant"},
        {"learning_rate_init": 0.01},
        {"label_smoothing": 0.2},
        {"clip_norm": 0.01},
        {"augment": lenet5c.Augment(shift=1)},
        {"augment": None},
        {"image_size": None},
        {"image_size": 20},
        {"activation": "tanh"},
        {"solver": "adam"},
        {"early_stopping": True},
    ],
    ids=str,
)
def test_every_parameter_has_an_effect(digits, options):
    assert bits(quick(**options).fit(*digits)) != bits(quick().fit(*digits))


def test_progress_is_shown_on_request(three, capsys):
    quick().fit(*three)
    assert capsys.readouterr().err == ""
    quick(verbose=1).fit(*three)
    assert "3/3" in capsys.readouterr().err


def test_without_scikit_learn_it_says_what_to_install(run_python):
    done = run_python(
        "import sys; sys.modules['sklearn'] = None\nimport lenet5c.estimator",
        check=False,
    )
    assert "ImportError" in done.stderr
    assert "pip install 'lenet5c[sklearn]'" in done.stderr


# Scale


def test_values_of_another_scale_are_refused():
    data = lenet5c.datasets.digits()
    X, y = data.train.images[:60], data.train.labels[:60]
    of_bytes = LeNet5Classifier(max_iter=1, image_size=None).fit(X, y)
    of_shares = LeNet5Classifier(max_iter=1, image_size=None).fit(X / 255, y)
    with pytest.raises(
        ValueError, match=r"^X: expected .* up to 255, .*multiply by 255"
    ):
        of_bytes.predict(X / 255)
    with pytest.raises(ValueError, match=r"^X: expected .* up to 1, .*divide by 255"):
        of_shares.predict(X)
    with pytest.raises(ValueError, match=r"^X_val: expected .*multiply by 255"):
        of_bytes.fit(X, y, X_val=X / 255, y_val=y)
    of_bytes.predict(X.astype(float))
    of_shares.predict(np.zeros_like(X))
