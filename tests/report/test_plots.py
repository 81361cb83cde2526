"""Pictures: they show the right numbers, and no text covers another or is cut off."""

import base64
import io
import re
import struct
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest

import lenet5c
from lenet5c import plots
from lenet5c.report import canvas, curves

pytest.importorskip("matplotlib")

NAMES = {
    "short": [str(k) for k in range(47)],
    "long": [f"a class with a name of some length, number {k}" for k in range(47)],
    "wide": ["W" * 30 + f"{k}" for k in range(47)],
}


def drawn_texts(figure, monkeypatch):
    """Draw the figure; return each text that is drawn and where, in pixels."""
    from matplotlib.text import Text

    found = []
    draw = Text.draw

    def noticed(self, renderer, *rest, **options):
        if self.get_visible() and self.get_text().strip():
            found.append((self.get_text(), self.get_window_extent(renderer)))
        return draw(self, renderer, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", noticed)
        figure.savefig(io.BytesIO(), format="png")
    return found


def check_texts(figure, monkeypatch):
    """Fail if a text covers another one, or leaves the figure."""
    places = dict.fromkeys(
        (text, tuple(np.round(box.extents, 1)))
        for text, box in drawn_texts(figure, monkeypatch)
    )
    width, height = figure.get_size_inches() * figure.dpi
    assert places
    for text, (left, bottom, right, top) in places:
        inside = (
            left >= -1 and bottom >= -1 and right <= width + 1 and top <= height + 1
        )
        assert inside, f"{text!r} is cut off"
    places = list(places)
    for k, (text, a) in enumerate(places):
        for other, b in places[:k]:
            wide = min(a[2], b[2]) - max(a[0], b[0])
            high = min(a[3], b[3]) - max(a[1], b[1])
            # empty room above and below letters counts to a text's height
            assert not (wide > 1 and high > 4), f"{text!r} covers {other!r}"


def png_size(content):
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">2I", content[16:24])


def shown(figure):
    """The arrays of all images of a figure."""
    return [
        np.asarray(image.get_array()) for axes in figure.axes for image in axes.images
    ]


@pytest.mark.parametrize(
    ("count", "names"),
    [
        *((2, "short"), (2, "wide"), (10, "short"), (10, "long")),
        *((15, "long"), (16, "wide"), (47, "short"), (47, "long")),
    ],
)
def test_texts_of_a_confusion_matrix_are_readable(count, names, monkeypatch):
    rng = np.random.default_rng(count)
    confusion = rng.poisson(2, (count, count)) + np.diag(np.full(count, 12_345))
    figure = plots.plot_confusion(confusion, NAMES[names][:count])
    check_texts(figure, monkeypatch)


def test_a_confusion_matrix_shows_shares_of_the_rows_and_counts():
    confusion = np.array([[8, 2, 0], [0, 5, 0], [1, 0, 0]])
    figure = plots.plot_confusion(confusion, ["a", "b", "c"])
    np.testing.assert_allclose(
        np.ma.filled(shown(figure)[0], 0), [[0.8, 0.2, 0], [0, 1, 0], [1, 0, 0]]
    )
    numbers = {
        tuple(map(int, text.get_position()[::-1])): int(text.get_text())
        for text in figure.axes[0].texts
    }
    assert numbers == {(0, 0): 8, (0, 1): 2, (1, 1): 5, (2, 0): 1}


def test_a_class_without_images_has_an_empty_row():
    figure = plots.plot_confusion(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert np.isfinite(np.ma.filled(shown(figure)[0], 0)).all()


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4,)])
def test_a_confusion_matrix_of_another_size_is_refused(shape):
    with pytest.raises(ValueError, match="confusion: expected"):
        plots.plot_confusion(np.ones(shape, int), ["a", "b"])


@pytest.mark.parametrize(
    ("epochs", "validation"),
    [(0, False), (1, False), (1, True), (12, True), (300, False), (300, True)],
)
def test_texts_of_learning_curves_are_readable(epochs, validation, monkeypatch):
    rng = np.random.default_rng(epochs)
    history = lenet5c.History(
        loss=list(np.exp(-np.arange(epochs) / 60)),
        accuracy=list(rng.random(epochs)),
        learning_rate=list(rng.random(epochs) / 1e4),
    )
    if validation:
        history.validation_loss = list(rng.random(epochs))
        history.validation_accuracy = list(rng.random(epochs))
    figure = plots.plot_history(history)
    check_texts(figure, monkeypatch)
    lines = [line.get_ydata() for line in figure.axes[1].lines]
    if epochs:
        np.testing.assert_allclose(lines[0], np.array(history.accuracy) * 100)
        assert len(lines) == 1 + validation


def test_learning_curves_leave_out_what_is_not_known():
    figure = plots.plot_history({"loss": [1.0, None, 0.5], "accuracy": [0.1, 0.2, 0.3]})
    assert len(figure.axes) == 2
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_ydata(), [1, np.nan, 0.5])
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])


def test_a_history_plots_itself(tmp_path):
    figure = lenet5c.History([1.0], [0.5]).plot(tmp_path / "history.png")
    assert len(figure.axes) == 2
    png_size((tmp_path / "history.png").read_bytes())


def naive_calibration_error(confidence, correct, bins):
    total = 0.0
    for b in range(bins):
        inside = [
            k
            for k, c in enumerate(confidence)
            if (c > b / bins or b == 0) and (c <= (b + 1) / bins or b == bins - 1)
        ]
        if inside:
            sure = sum(confidence[k] for k in inside) / len(inside)
            right = sum(correct[k] for k in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(sure - right)
    return total


@pytest.mark.parametrize("bins", [1, 4, 10, 15])
def test_the_expected_calibration_error_is_that_of_the_formula(bins):
    rng = np.random.default_rng(bins)
    confidence = np.concatenate([rng.random(500) ** 0.4, np.arange(9) / 8])
    # not sure enough below 0.6, too sure above: else bins would not matter
    correct = rng.random(len(confidence)) < 0.6
    found = plots.reliability(confidence, correct, bins)
    expected = naive_calibration_error(confidence.tolist(), correct.tolist(), bins)
    assert found.error == pytest.approx(expected, rel=1e-12)
    assert found.error > 0.01
    assert found.counts.sum() == len(confidence)
    used = found.counts > 0
    np.testing.assert_array_less(found.edges[:-1][used] - 1e-9, found.confidence[used])
    np.testing.assert_array_less(found.confidence[used], found.edges[1:][used] + 1e-9)


def test_bins_agree_with_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(3)
    confidence = rng.random(400)
    correct = rng.random(400) < confidence
    accuracy, sure = calibration.calibration_curve(correct, confidence, n_bins=10)
    found = plots.reliability(confidence, correct, 10)
    np.testing.assert_allclose(found.accuracy[found.counts > 0], accuracy)
    np.testing.assert_allclose(found.confidence[found.counts > 0], sure)


@pytest.mark.parametrize(
    ("confidence", "correct"),
    [([], []), ([0.5, np.nan], [1, 0]), ([1.1], [1]), ([-0.1], [1]), ([0.5], [1, 0])],
)
def test_what_is_no_probability_is_refused(confidence, correct):
    with pytest.raises(ValueError, match=r"confidence: expected|correct: expected"):
        plots.reliability(confidence, correct)


@pytest.mark.parametrize("count", [1, 30, 10_000])
def test_a_reliability_diagram_shows_its_bins(count, monkeypatch):
    rng = np.random.default_rng(count)
    confidence = rng.random(count) ** 0.1
    found = plots.reliability(confidence, rng.random(count) < 0.9)
    figure = plots.plot_calibration(found)
    check_texts(figure, monkeypatch)
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == found.counts.tolist()
    points = figure.axes[0].lines[1].get_xydata()
    used = found.counts > 0
    expected = np.stack([found.confidence[used], found.accuracy[used]], axis=1)
    np.testing.assert_allclose(points, expected)


def test_the_interval_of_a_share_is_that_of_wilson():
    low, high = curves._wilson(np.array([0.9, 0.0, 1.0]), np.array([10, 5, 5]))
    # roots of (share - p)^2 = z^2 p (1 - p) / n
    for share, count, ends in ((0.9, 10, (low[0], high[0])), (0.0, 5, (0, high[1]))):
        z2 = 1.959964**2
        roots = np.roots([1 + z2 / count, -2 * share - z2 / count, share**2])
        np.testing.assert_allclose(sorted(ends), sorted(roots.real), atol=1e-9)
    assert low[1] == 0
    assert high[2] == 1


def test_the_worst_mistakes_gave_the_truth_the_least_probability():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(5), 200)
    codes = rng.integers(0, 5, 200)
    wrong = [k for k in range(200) if probabilities[k].argmax() != codes[k]]
    expected = sorted(wrong, key=lambda k: probabilities[k, codes[k]])
    assert plots.worst_mistakes(codes, probabilities, 1000).tolist() == expected
    assert plots.worst_mistakes(codes, probabilities, 7).tolist() == expected[:7]


@pytest.mark.parametrize(
    ("names", "shape", "count"),
    [("short", (28, 28), 1), ("wide", (3, 20, 32), 3), ("long", (1, 9, 4), 30)],
)
def test_texts_of_mistakes_are_readable(names, shape, count, monkeypatch):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(47, 0.1), count)
    codes = probabilities.argmin(axis=1)
    images = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
    figure = plots.plot_mistakes(images, codes, probabilities, NAMES[names])
    check_texts(figure, monkeypatch)
    worst = plots.worst_mistakes(codes, probabilities)
    assert len(shown(figure)) == len(worst) == min(count, 20)
    first = images[worst[0]] / 255
    expected = first.transpose(1, 2, 0) if shape[0] == 3 else first.reshape(shape[-2:])
    np.testing.assert_allclose(shown(figure)[0], expected)


def test_a_picture_of_no_mistakes_says_so():
    eye = np.eye(3)
    figure = plots.plot_mistakes(np.zeros((3, 8, 8)), np.arange(3), eye, "abc")
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "There are no mistakes."
    ]


NETWORKS = {
    "lenet5": lambda: lenet5c.lenet5(),
    "lenet5 of two channels": lambda: lenet5c.lenet5(channels=2),
    "cnn3 of three channels": lambda: lenet5c.cnn3(channels=3),
    "mlp": lambda: lenet5c.mlp(),
    "one layer": lambda: lenet5c.Model(
        [lenet5c.Dense(4, name="a name that is much longer than there is room for")],
        input_shape=(1, 5, 9),
        classes=4,
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_filters_are_the_first_weights(network, monkeypatch):
    model = NETWORKS[network]()
    figure = plots.plot_filters(model)
    check_texts(figure, monkeypatch)
    images = shown(figure)
    weight = next(iter(model.parameters.values()))
    channels, height, width = model.input_shape
    if weight.ndim == 2:
        weight = weight.reshape(-1, channels, height, width)
    if channels == 3:
        expected = 0.5 + weight[5].transpose(1, 2, 0) / (2 * np.abs(weight).max())
    else:
        expected = weight.reshape(-1, *weight.shape[2:])[-1 if len(images) < 64 else 63]
    np.testing.assert_allclose(images[5 if channels == 3 else -1], expected, rtol=1e-6)
    assert len(images) == min(64, len(weight) * (channels if channels != 3 else 1))


def test_filters_of_a_table_are_zero_for_what_they_do_not_read():
    table = [[0], [1], [0, 1]]
    layers = [lenet5c.Conv2d(3, 3, connections=table), lenet5c.Dense(3)]
    model = lenet5c.Model(layers, input_shape=(2, 7, 7), classes=3)
    weight = model.parameters["conv2d_1.weight"]
    images = shown(plots.plot_filters(model))
    assert len(images) == 6
    np.testing.assert_allclose([images[n] for n in (0, 3, 4, 5)], weight, rtol=1e-6)
    assert not np.any([images[n] for n in (1, 2)])


@pytest.mark.parametrize("network", NETWORKS)
def test_feature_maps_are_the_activations(network, monkeypatch):
    model = NETWORKS[network]()
    image = np.random.default_rng(0).random(model.input_shape, np.float32)
    figure = plots.plot_feature_maps(model, image)
    check_texts(figure, monkeypatch)
    images = shown(figure)[1:]
    for name, (maps, _, _) in model.map_shapes.items():
        activations = model.activations(image[np.newaxis], name)[0]
        count = min(16, maps)
        np.testing.assert_array_equal(images[:count], activations[:count])
        images = images[count:]
    assert not images


def test_lenet5_has_maps_in_c1_s2_c3_and_s4():
    assert list(lenet5c.lenet5().map_shapes) == ["C1", "S2", "C3", "S4"]


@pytest.mark.parametrize("shape", [(28, 28), (3, 16, 20)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_augmented_images_are_those_of_augment(shape, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    if dtype == np.float32:
        images = (images / 255).astype(np.float32)
    augment = lenet5c.Augment(shear=5, erase=0.5)
    figure = plots.plot_augmented(images, augment, variants=4, seed=9)
    check_texts(figure, monkeypatch)
    found = shown(figure)
    assert len(found) == 3 * 5
    changed = augment.apply(images, epoch=2, seed=9)[1]
    expected = changed.transpose(1, 2, 0) if shape[0] == 3 else changed[0]
    np.testing.assert_allclose(found[5 + 2], np.clip(expected, 0, 1), atol=1e-6)
    original = images[2] / (255 if dtype == np.uint8 else 1)
    expected = original.transpose(1, 2, 0) if shape[0] == 3 else original
    np.testing.assert_allclose(found[10], expected, atol=1e-6)


@pytest.mark.parametrize("images", [np.zeros((4, 4)), np.zeros((0, 4, 4)), 3])
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(ValueError, match="images: expected"):
        plots.plot_augmented(images, lenet5c.Augment())


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_the_file_is_of_the_kind_that_its_name_says(tmp_path, suffix, start):
    path = tmp_path / f"filters{suffix}"
    plots.plot_filters(lenet5c.lenet5(), path)
    assert path.read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_png_has_the_size_of_the_figure():
    figure = plots.plot_filters(lenet5c.lenet5())
    size = figure.get_size_inches() * canvas.DOTS_PER_INCH
    np.testing.assert_allclose(png_size(canvas.png(figure)), size, atol=1)


@pytest.mark.parametrize(
    "name",
    ["$x$", r"\$", "$$", r"$\nothing$", "数字", "a\nb", "\u202eevil", "\ud800", ""],
)
def test_a_class_may_have_any_name(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.plot_confusion([[1, 2], [3, 4]], [name, "other"])
        assert png_size(canvas.png(figure))
        probabilities = np.array([[0.2, 0.8], [0.7, 0.3]])
        figure = plots.plot_mistakes(
            np.zeros((2, 8, 8)), [0, 1], probabilities, [name, "other"]
        )
        assert png_size(canvas.png(figure))


def test_dollars_in_a_name_are_drawn_as_dollars():
    figure = plots.plot_confusion([[1, 2], [3, 4]], ["$a$", "b"])
    label = figure.axes[0].get_xticklabels()[0]
    plain, math = label._preprocess_math(label.get_text())
    assert (plain, math) == ("$a$", False)


def test_nothing_global_changes(run_python):
    run_python(
        "import matplotlib, numpy as np, sys\n"
        "import lenet5c\n"
        "from lenet5c import plots\n"
        "def settings():\n"  # to ask for the backend would choose one
        "    names = set(matplotlib.rcParams) - {'backend'}\n"
        "    return {name: matplotlib.rcParams[name] for name in names}\n"
        "before = settings()\n"
        "plots.plot_history({'loss': [1, 2], 'accuracy': [0, 1]}, 'a.png')\n"
        "plots.plot_confusion(np.eye(3, dtype=int), 'abc', 'b.png')\n"
        "plots.plot_feature_maps(lenet5c.lenet5(), np.eye(28), 'c.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )


def test_importing_the_package_imports_no_matplotlib(run_python):
    run_python(
        "import sys, lenet5c, lenet5c.plots, lenet5c.report\n"
        "assert 'matplotlib' not in sys.modules"
    )


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'lenet5c\[plots\]'"):
        plots.plot_filters(lenet5c.lenet5())
    with pytest.raises(ImportError, match=r"pip install 'lenet5c\[plots\]'"):
        plots.plot_confusion([[1]], ["a"])


@pytest.mark.parametrize(
    ("count", "names"), [(2, "wide"), (3, "short"), (10, "long"), (47, "long")]
)
def test_texts_of_rankings_are_readable(count, names, monkeypatch):
    rng = np.random.default_rng(count)
    codes = rng.integers(0, count, 400)
    chances = rng.dirichlet(np.ones(count), 400) + 0.3 * np.eye(count)[codes]
    found = [plots.ranking(codes == k, chances[:, k]) for k in range(count)]
    figure = plots.plot_rankings(found, NAMES[names][:count])
    check_texts(figure, monkeypatch)
    precision, roc = figure.axes
    assert len(precision.lines) == len(roc.lines) == count
    worst = np.argsort([one.average_precision for one in found])
    recall = precision.lines[-1].get_xdata()  # the worst one is on top
    np.testing.assert_array_equal(recall[1:], found[worst[0]].recall)
    rate, recall = roc.lines[-1].get_data()
    np.testing.assert_array_equal(rate[1:], found[worst[0]].false_positive_rate)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == min(5, count)
    one = found[worst[0]]
    assert texts[0].endswith(f": {one.average_precision:.3f}, {one.area:.4f}")


def test_classes_without_images_have_no_curve():
    some = plots.ranking([True, False, True], [0.9, 0.5, 0.4])
    none = plots.ranking([False, False, False], [0.9, 0.5, 0.4])
    figure = plots.plot_rankings([none, some], ["none", "some"])
    assert len(figure.axes[0].lines) == 1
    with pytest.raises(ValueError, match="rankings: expected one for each"):
        plots.plot_rankings([some], ["a", "b"])


def test_the_corner_of_good_rankings_is_enlarged():
    truth = np.arange(1000) < 500
    chance = np.where(truth, 0.9, 0.1)
    chance[[0, 999]] = 0.5
    figure = plots.plot_rankings([plots.ranking(truth, chance)], ["a"])
    precision, roc = figure.axes
    assert precision.get_xlim()[0] == precision.get_ylim()[0] == pytest.approx(0.99)
    assert roc.get_xlim()[1] == pytest.approx(0.01)


def test_histories_lie_over_each_other(monkeypatch):
    first = lenet5c.History(
        loss=[3, 2, 1],
        accuracy=[0.1, 0.5, 0.9],
        validation_loss=[4, 3, 2],
        validation_accuracy=[0.2, 0.4, 0.6],
    )
    second = {"loss": [5, 4], "accuracy": [0.3, 0.35], "epoch": [3, 7]}
    figure = plots.plot_histories({"a $name$": first, "W" * 50: second})
    check_texts(figure, monkeypatch)
    loss, accuracy = figure.axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[4, 3, 2], [5, 4]]
    assert [list(line.get_xdata()) for line in loss.lines] == [[1, 2, 3], [3, 7]]
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), [30, 35])
    assert [line.get_linestyle() for line in loss.lines] == ["-", "--"]
    assert loss.get_xlim() == (0.5, 7.5)


def test_curves_stand_at_the_numbers_of_their_epochs():
    history = lenet5c.History(loss=[3, 2], accuracy=[0, 1], epoch=[10, 30])
    figure = history.plot()
    assert list(figure.axes[0].lines[0].get_xdata()) == [10, 30]
    assert figure.axes[0].get_xlim() == (9.5, 30.5)


@pytest.mark.parametrize("epoch", [[1], [1, 2, 3], [1, None], [1, 2.5], [1, np.nan]])
def test_what_are_no_epochs_of_the_lists_is_refused(epoch):
    lists = {"loss": [1.0], "accuracy": [0.5, 0.6], "epoch": epoch}
    with pytest.raises(
        ValueError, match=r"epoch: expected .* the \d entries .* got \["
    ):
        plots.plot_history(lists)
    lists["epoch"] = np.float64([3, 7])
    lines = plots.plot_history(lists).axes[1].lines
    assert lines[0].get_xdata().tolist() == [3, 7]


@pytest.mark.parametrize("names", NAMES)
def test_files_stand_below_the_mistakes(names, monkeypatch):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(47, 0.1), 9)
    codes = probabilities.argmin(axis=1)
    images = rng.integers(0, 256, (9, 8, 8)).astype(np.uint8)
    files = [f"folder/of/{NAMES[names][k]} $x$.png" for k in range(9)]
    figure = plots.plot_mistakes(
        images, codes, probabilities, NAMES[names], files=files
    )
    check_texts(figure, monkeypatch)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sum(text.endswith(".png") for text in texts) == 9
    if names == "short":
        worst = plots.worst_mistakes(codes, probabilities)[0]
        assert texts[1] == rf"{worst} \$x\$.png"


@pytest.mark.parametrize("shape", [(12, 12), (3, 9, 15)])
@pytest.mark.parametrize("names", NAMES)
def test_occlusion_is_drawn_beside_each_image(shape, names, monkeypatch):
    model = lenet5c.Model(
        [lenet5c.Dense(4)],
        input_shape=(1, *shape) if len(shape) == 2 else shape,
        classes=4,
    )
    model.set_input(model.stage, model.source, np.array(NAMES[names][:4]))
    images = np.random.default_rng(0).random((6, *shape))
    figure = plots.plot_occlusion(model, images, threads=1)
    check_texts(figure, monkeypatch)
    drawn = shown(figure)
    assert len(drawn) == 12
    for k, image in enumerate(images):
        found = plots.occlusion(model, image, threads=1)
        np.testing.assert_array_equal(drawn[2 * k + 1], found.effect)
    assert len(figure.axes[0].patches) == 12


# Fonts


@pytest.fixture
def fonts(monkeypatch):
    """Says which font files are installed, none at first."""
    files = []
    monkeypatch.setattr(canvas, "_installed_fonts", lambda: files)
    canvas._family_with.cache_clear()
    yield files
    canvas._family_with.cache_clear()


def named_classes(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_names_that_no_font_can_draw_are_numbers(fonts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = ["数字", "b", "文字"]
        figure = plots.plot_confusion(np.eye(3, dtype=int), names)
        assert png_size(canvas.png(figure))
        assert named_classes(figure) == ["no. 0", "b", "no. 2"]
        chances = np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]])
        figure = plots.plot_mistakes(
            np.zeros((2, 8, 8)), [0, 1], chances, names, files=["数/文.png", "b.png"]
        )
        assert png_size(canvas.png(figure))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "is no. 0, taken for no. 2" in texts
    assert "\N{REPLACEMENT CHARACTER}.png" in texts


def test_a_font_that_has_the_characters_is_used(fonts, caplog):
    from matplotlib import font_manager

    found = [
        file
        for file in font_manager.findSystemFonts()
        if canvas._has(file, "数") and canvas._has(file, "字")
    ]
    if not found:
        pytest.skip("no installed font has Chinese characters")
    fonts += sorted(found)
    family = font_manager.get_font(fonts[0]).family_name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.plot_confusion([[1, 2], [3, 4]], ["数字", "b"])
        assert png_size(canvas.png(figure))
        chances = np.array([[0.2, 0.8], [0.7, 0.3]])
        other = plots.plot_mistakes(np.zeros((2, 8, 8)), [0, 1], chances, ["数字", "b"])
        assert png_size(canvas.png(other))
    assert named_classes(figure) == ["数字", "b"]
    (label, _) = figure.axes[0].get_yticklabels()
    assert family in label.get_fontfamily()
    assert not [text for text in caplog.messages if "findfont" in text]


# For pages


def test_inline_pictures_have_text_and_colours_of_the_theme():
    name = 'a <b> id="x" fill: #000000; "quoted"'
    figure = plots.plot_confusion([[8, 2], [0, 5]], [name, "y"])
    text = canvas.inline_svg(figure, "one", 'words "for" <all>')
    root = ElementTree.fromstring(text.replace("xlink:href", "href"))
    assert root.get("aria-label") == 'words "for" <all>'
    texts = [of.text for of in root.iter() if of.tag.endswith("text")]
    assert canvas.short(name) in texts
    assert {"8", "2", "5", "true class", "0 %"} <= set(texts)
    ids = [of.get("id") for of in root.iter() if of.get("id")]
    assert ids
    assert all(of.startswith("one-") for of in ids)
    assert "var(--ink)" in text
    for gone in ("<?xml", "<!DOCTYPE", "<style", "metadata", "DejaVu"):
        assert gone not in text


def test_images_in_inline_pictures_keep_their_pixels():
    image = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    figure = plots.plot_mistakes(image[np.newaxis], [0], [[0.2, 0.8]], "ab")
    text = canvas.inline_svg(figure, "one", "")
    (source,) = re.findall(r"data:image/png;base64,\s*([\w+/=\s]*)", text)
    png = io.BytesIO(base64.b64decode(source))
    pixels = np.asarray(pytest.importorskip("PIL.Image").open(png).convert("L"))
    np.testing.assert_array_equal(pixels, image)
