"""The report: its numbers are right, it is one page that needs nothing else, and no
text in it can do harm."""

import base64
import hashlib
import json
import re
import struct

import numpy as np
import pytest
from report_page import HOSTILE, Page

import lenet5c
from lenet5c.report import canvas
from lenet5c.report import history as histories
from lenet5c.report import page as report


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A half-trained model, images, labels with hostile names, and its report."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    data = lenet5c.datasets.digits()
    names = np.array(HOSTILE)
    model = lenet5c.lenet5()
    history = model.fit(
        data.train.images,
        names[data.train.labels],
        epochs=2,
        batch_size=256,
        validation=0.2,
        threads=1,
    )
    folder = tmp_path_factory.mktemp("report")
    said = []
    page = report.write_report(
        model,
        data.test.images,
        names[data.test.labels],
        folder / "page.html",
        history,
        "<b>A & B</b>",
        threads=1,
        progress=said.append,
    )
    labels = names[data.test.labels]
    return model, data.test.images, labels, history, page, said


@pytest.fixture(scope="module")
def page(case):
    return Page(case[4].read_text("utf-8"))


def softmax(model, images):
    logits = model.forward(images).astype(np.float64)
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def test_the_page_needs_nothing_from_elsewhere(case, page):
    text = case[4].read_text("utf-8")
    assert not {"img", "link", "iframe", "object", "base", "foreignobject"} & set(
        page.tags
    )
    sources = page.values("image", "xlink:href")
    assert len(sources) > 50
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(link.startswith("#") for link in page.values("use", "xlink:href"))
    links = page.values("a", "href")
    ids = page.values("section", "id")
    assert links == [f"#{key}" for key in ids]
    assert len(ids) == 9
    assert not {name for _, name, _ in page.attributes if name.startswith("on")}
    styles = [value for _, name, value in page.attributes if name == "style"]
    assert styles == page.styles_of_pictures
    style = re.search("<style>(.*)</style>", text, re.S)[1]
    assert "url(" not in style
    assert "@import" not in style
    for wanted in ("prefers-color-scheme: dark", "@media print"):
        assert wanted in style
    (policy,) = [v for v in page.values("meta", "content") if "default-src" in v]
    assert "default-src 'none'" in policy


def test_the_policy_allows_the_one_script_that_there_is(case, page):
    text = case[4].read_text("utf-8")
    scripts = re.findall("<script>(.*?)</script>", text, re.S)
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    (policy,) = [v for v in page.values("meta", "content") if "default-src" in v]
    assert page.tags.count("script") == len(scripts) == 1
    assert f"script-src 'sha256-{base64.b64encode(digests[0]).decode()}'" in policy


def test_every_picture_has_words_for_those_who_cannot_see_it(page):
    assert page.values("svg", "role") == ["img"] * 8
    words = page.values("svg", "aria-label")
    assert len(words) == 8
    assert all(len(text) > 20 for text in words)


def test_the_identifiers_of_the_pictures_do_not_mix(page):
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 20
    used = {
        v[1:] for _, name, v in page.attributes if name == "xlink:href" and v[0] == "#"
    }
    used |= {v[5:-1] for _, name, v in page.attributes if name == "clip-path"}
    assert used <= set(ids)


def test_pictures_have_the_colours_of_the_theme_and_text_that_is_text(case, page):
    text = case[4].read_text("utf-8")
    named = set(re.findall(r"var\(--([\w-]+)\)", text))
    style = re.search("<style>(.*)</style>", text, re.S)[1]
    for name in named - {"least"}:  # in light, dark and print
        assert style.count(f"--{name}:") == 3, name
    assert {"ink", "soft", "series-1", "series-2"} <= named
    assert "font-family: 'DejaVu" not in text
    assert "predicted class" in page.texts
    assert "Learning rate" in page.texts


def test_the_pictures_are_files_beside_the_page_too(case, page):
    folder = case[4].with_name("page_files")
    names = ("learning_curves", "confusion_matrix", "rankings", "calibration")
    names += ("mistakes", "occlusion", "filters", "feature_maps")
    assert {file.name for file in folder.iterdir()} == {f"{n}.png" for n in names}
    widths = map(int, page.values("svg", "width"))
    for name, width in zip(names, widths, strict=True):
        content = (folder / f"{name}.png").read_bytes()
        pixels, _ = struct.unpack(">2I", content[16:24])
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert width == pytest.approx(pixels * 96 / canvas.DOTS_PER_INCH, abs=1)
        assert 300 < width < 1100
    assert {file.name for file in folder.parent.iterdir()} == {"page.html", folder.name}


def test_hostile_names_are_shown_and_do_nothing(case, page):
    classes = case[0].classes.tolist()
    shown = [row[0] for row in page.table("class")]
    names = map(canvas.printable, classes)
    assert shown[:-1] == [  # a number where no installed font has the letters
        name if canvas.drawable(name) else f"{name} ({canvas.numbered(k)})"
        for k, name in enumerate(names)
    ]
    assert HOSTILE[0] in shown
    assert page.texts.count("<b>A & B</b>") == 2  # title and heading
    for name in shown:
        assert all(char.isprintable() for char in name)


def test_the_table_of_classes_is_that_of_scikit_learn(case, page):
    metrics = pytest.importorskip("sklearn.metrics")
    model, images, labels, *_ = case
    expected = metrics.precision_recall_fscore_support(
        labels, model.predict(images), labels=model.classes, zero_division=np.nan
    )
    rows = page.table("class")
    for k, row in enumerate(rows[:-1]):
        shares = [
            f"{values[k]:.2%}" if np.isfinite(values[k]) else "\N{EN DASH}"
            for values in expected[:3]
        ]
        of_class = labels == model.classes[k]
        chance = softmax(model, images)[:, k]
        shares.append(f"{metrics.average_precision_score(of_class, chance):.2%}")
        shares.append(f"{metrics.roc_auc_score(of_class, chance):.2%}")
        assert row[1:] == [*shares, f"{expected[3][k]}"]
    assert rows[-1][2] == f"{np.mean(expected[1]):.2%}"
    assert rows[-1][6] == "360"


def test_the_facts_on_top_are_those_of_evaluate(case, page):
    model, images, labels, *_ = case
    found = model.evaluate(images, labels)
    texts = page.texts
    values = {
        name: texts[texts.index(name) + 1]
        for name in ("accuracy", "wrong", "loss", "calibration error", "parameters")
    }
    wrong = int(found.confusion.sum() - found.confusion.trace())
    assert wrong > 20
    probabilities = softmax(model, images)
    right = model.predict(images) == labels
    bins = np.ceil(probabilities.max(axis=1) * 15).astype(int)
    error = sum(
        abs(right[bins == b].mean() - probabilities.max(axis=1)[bins == b].mean())
        * (bins == b).mean()
        for b in set(bins)
    )
    assert values == {
        "accuracy": f"{found.accuracy:.2%}",
        "wrong": f"{wrong} ",  # and, smaller, of 360
        "loss": f"{found.loss:.4f}",
        "calibration error": f"{error:.2%}",
        "parameters": "61,706",
    }


def test_the_mistakes_are_the_worst_and_in_order(case, page):
    model, images, labels, *_ = case
    probabilities = softmax(model, images)
    classes = model.classes.tolist()
    truth = np.array([classes.index(label) for label in labels])
    wrong = [k for k in range(len(truth)) if probabilities[k].argmax() != truth[k]]
    wrong.sort(key=lambda k: probabilities[k, truth[k]])
    assert len(wrong) > 20
    rows = next(t for t in page.tables if t[0][-1] == "image")[1:]
    assert rows == [
        [
            canvas.printable(classes[truth[k]]),
            canvas.printable(classes[probabilities[k].argmax()]),
            f"{probabilities[k].max():.2%}",
            f"{probabilities[k, truth[k]]:.2%}",
            str(k),
        ]
        for k in wrong[:20]
    ]


def test_the_most_frequent_mistakes_are_those_of_the_confusion_matrix(case, page):
    model, images, labels, *_ = case
    confusion = model.evaluate(images, labels).confusion
    support = confusion.sum(axis=1)
    rows = next(t for t in page.tables if t[0][2] == "images")[1:]
    counts = [int(row[2]) for row in rows]
    off = confusion - np.diag(confusion.diagonal())
    assert counts == sorted(off.ravel().tolist(), reverse=True)[:10]
    names = [canvas.printable(name) for name in model.classes]
    for true, taken, count, share in rows:
        row = names.index(true)
        assert off[row, names.index(taken)] == int(count)
        assert share == f"{int(count) / support[row]:.2%}"


def test_the_model_is_described(case, page):
    model = case[0]
    assert model.summary() in page.texts
    text = " ".join(page.texts)
    assert "1 channel of 32x32; images of 28x28 are centred in it" in text
    assert f"{model.stage.mean:.4f}" in text


def test_progress_is_told_before_each_step(case):
    said = case[5]
    assert said[0] == "testing the model on 360 images"
    assert len(said) == 9


def test_a_folder_gets_a_page_with_the_usual_name(case, tmp_path):
    model, images, labels, *_ = case
    page = report.write_report(
        model, images[:9], labels[:9], tmp_path / "new", history={}
    )
    assert page == tmp_path / "new" / "report.html"
    assert {file.name for file in page.parent.iterdir()} == {
        "report.html",
        "report_files",
    }
    text = " ".join(Page(page.read_text("utf-8")).texts)
    assert "no history of the training" in text
    assert not (page.parent / "report_files" / "learning_curves.png").exists()


def test_what_there_is_not_is_said_in_a_sentence(small, small_images, tmp_path):
    pytest.importorskip("matplotlib")
    model = lenet5c.Model(
        [lenet5c.Dense(2, name="<i>D</i>")], input_shape=(3, 4, 4), classes=2
    )
    images = np.random.default_rng(0).random((5, 3, 4, 4))
    labels = model.predict(images)
    (tmp_path / "r_files").mkdir()
    (tmp_path / "r_files" / "mistakes.png").write_bytes(b"of an earlier report")
    (tmp_path / "r_files" / "mine.png").write_bytes(b"of somebody")
    page = report.write_report(model, images, labels, tmp_path / "r.html", history={})
    found = Page(page.read_text("utf-8"))
    text = " ".join(found.texts)
    for sentence in (
        "no history of the training",
        "every image was predicted right",
        "no convolution and no pooling",
    ):
        assert sentence in text
    assert "<i>D</i>" in text
    assert "i" not in found.tags
    assert sorted(file.name for file in (tmp_path / "r_files").iterdir()) == [
        *("calibration.png", "confusion_matrix.png", "filters.png", "mine.png"),
        "rankings.png",
    ]


def test_many_classes_and_three_channels(tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    model = lenet5c.lenet5(classes=47, channels=3)
    images = rng.integers(0, 256, (60, 3, 32, 32)).astype(np.uint8)
    labels = np.array([f"class number {k}" for k in range(47)])[np.arange(60) % 47]
    model.fit(images, labels, epochs=1, threads=1)
    page = report.write_report(model, images, labels, tmp_path / "r.html")
    found = Page(page.read_text("utf-8"))
    assert len(found.table("class")) == 48


def test_the_same_gives_the_same_page(case, tmp_path):
    model, images, labels, *_ = case
    pages = [
        report.write_report(model, images, labels, tmp_path / name).read_bytes()
        for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]


def test_an_error_on_the_way_leaves_the_old_page(case, tmp_path, monkeypatch):
    model, images, labels, *_ = case
    (tmp_path / "r.html").write_text("old")

    def fail(*rest):
        raise OSError("disk full")

    monkeypatch.setattr(report, "plot_feature_maps", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(model, images, labels, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == "old"


@pytest.mark.parametrize("factor", [np.nan, 1e30])
def test_a_model_that_diverged_is_refused_by_name(factor, small_images, tmp_path):
    pytest.importorskip("matplotlib")
    model = lenet5c.mlp()
    labels = np.arange(len(small_images)) % 10
    model.fit(small_images, labels, epochs=1)
    model.parameter_vector *= factor
    with pytest.raises(ValueError, match="model: expected finite outputs, got"):
        report.write_report(model, small_images, labels, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_refused_before_anything_is_written(case, tmp_path):
    model, images, labels, *_ = case
    for bad in (
        {"labels": labels[:-1]},
        {"images": np.zeros((len(images), 40, 40))},
        {"labels": np.arange(len(images))},
        {"history": tmp_path / "none.jsonl"},
    ):
        given = {"images": images, "labels": labels, "history": None} | bad
        with pytest.raises((ValueError, OSError)):
            report.write_report(model, path=tmp_path / "new", **given)
        assert list(tmp_path.iterdir()) == []


def write_lines(path, *lines, end="\n"):
    path.write_text("\n".join(map(json.dumps, lines)) + end)
    return path


def test_a_log_is_read_epoch_by_epoch(tmp_path):
    path = write_lines(
        tmp_path / "run.jsonl",
        {"epoch": 1, "loss": 3.0, "accuracy": 0.1, "time": "now"},
        {"epoch": 2, "loss": None, "accuracy": 0.2, "validation_loss": 1},
    )
    assert histories.read_history(path) == {
        "loss": [3.0, None],
        "accuracy": [0.1, 0.2],
        "validation_loss": [None, 1],
    }


def test_of_an_epoch_that_was_trained_again_the_last_line_counts(tmp_path):
    lines = [{"epoch": e, "loss": x} for e, x in ((1, 9), (2, 8), (3, 7), (2, 6))]
    path = write_lines(tmp_path / "run.jsonl", *lines)
    assert histories.read_history(path) == {"loss": [9, 6]}


def test_half_a_line_at_the_end_is_left_out(tmp_path):
    path = write_lines(tmp_path / "run.jsonl", {"epoch": 1, "loss": 2.0})
    with open(path, "a") as file:
        file.write('{"epoch": 2, "los')
    assert histories.read_history(path) == {"loss": [2.0]}


def test_the_log_and_the_json_of_a_training_are_its_history(case, tmp_path):
    history = case[3]
    history.to_json(tmp_path / "history.json")
    assert histories.read_history(tmp_path / "history.json") == history.to_dict()
    model = lenet5c.lenet5()
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    trained = model.fit(
        images, np.arange(50) % 10, epochs=3, threads=1, log=tmp_path / "run.jsonl"
    )
    expected = {name: values for name, values in trained.to_dict().items() if values}
    assert histories.read_history(tmp_path / "run.jsonl") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "line 1: expected JSON"),
        ('{"epoch": 1, "loss": 1}\nhello\n', "line 2: expected JSON"),
        ('{"epoch": 1, "loss": "<b>"}', "line 1: expected an object"),
        ('{"loss": 1}', "line 1: expected an object"),
        ('{"epoch": true, "loss": 1}', "line 1: expected an object"),
        ("[1, 2]", "line 1: expected an object"),
        ('{"loss": ["a"]}', "expected lists of numbers"),
        ('{"loss": [1], "accuracy": 3}', "expected lists of numbers"),
        (f'{{"loss": [1{400 * "0"}]}}', "expected lists of numbers"),
        (100_000 * "[", "line 1: expected JSON"),
        (b"\xff\xfe", "expected text in UTF-8"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path, text, said):
    path = tmp_path / "run.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        histories.read_history(path)
    assert str(caught.value).startswith(str(path))


def test_an_empty_log_has_no_epochs(tmp_path):
    (tmp_path / "run.jsonl").write_text("")
    assert histories.read_history(tmp_path / "run.jsonl") == {}
