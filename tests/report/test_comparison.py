"""The comparison of models: who is right where, and no name does harm."""

import numpy as np
import pytest
from report_page import HOSTILE, Page

import lenet5c
from lenet5c.report import canvas
from lenet5c.report.comparison import write_comparison

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

NAMES = ["<script>alert(1)</script>", "' onload='x", "\u202eB&amp;"]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Three half-trained models with hostile names, images, labels, and their page."""
    data = lenet5c.datasets.digits()
    classes = np.array(HOSTILE)
    images, labels = data.test.images, classes[data.test.labels]
    models = {}
    for seed, name in enumerate(NAMES):
        models[name] = model = lenet5c.lenet5(seed=seed)
        model.fit(
            data.train.images,
            classes[data.train.labels],
            epochs=1 + seed,
            batch_size=256,
            validation=0.2 if seed else None,
            threads=1,
        )
    files = [f"folder/<b>{k}</b>.png" for k in range(len(images))]
    folder = tmp_path_factory.mktemp("comparison")
    page = write_comparison(models, images, labels, folder / "all.html", files=files)
    return models, images, labels, files, page


@pytest.fixture(scope="module")
def page(case):
    return Page(case[4].read_text("utf-8"))


def right_of(case):
    models, images, labels, *_ = case
    return np.array([model.predict(images) == labels for model in models.values()])


def test_each_model_has_a_line_of_figures(case, page):
    models, images, labels, *_ = case
    rows = page.table("model")
    assert [row[0] for row in rows] == [canvas.printable(name) for name in NAMES]
    for row, model in zip(rows, models.values(), strict=True):
        found = model.evaluate(images, labels)
        assert row[1:3] == [f"{found.accuracy:.2%}", f"{found.loss:.4f}"]
        wrong = found.confusion.sum() - found.confusion.trace()
        assert row[4:] == [f"{wrong}", "61,706", "416,520", f"{model.passes}"]


def test_who_is_right_is_counted(case, page):
    right = right_of(case)
    rows = page.table("first")
    for row, other in zip(rows, right[1:], strict=True):
        counts = [
            (right[0] & other).sum(),
            (right[0] & ~other).sum(),
            (~right[0] & other).sum(),
            (~right[0] & ~other).sum(),
        ]
        assert row[2:6] == [f"{count}" for count in counts]
    texts = page.texts
    for name, count in (
        ("right by all", right.all(axis=0).sum()),
        ("wrong by all", (~right).all(axis=0).sum()),
    ):
        assert texts[texts.index(name) + 1] == f"{count}"


def test_the_images_that_only_one_predicts_right_are_listed(case, page):
    _, _, labels, files, _ = case
    right = right_of(case)
    tables = [table for table in page.tables if table[0][-1] == "file"]
    alone = [right[k] & (right.sum(axis=0) == 1) for k in range(3)]
    assert [min(12, mask.sum()) for mask in alone if mask.any()] == [
        len(table) - 1 for table in tables
    ]
    assert len(tables) > 1
    for table, mask in zip(tables, [m for m in alone if m.any()], strict=True):
        for row in table[1:]:
            index = int(row[-2])
            assert mask[index]
            assert row[0] == canvas.printable(labels[index])
            assert row[-1] == files[index]


def test_no_name_becomes_markup(case, page):
    assert page.tags.count("script") == 1
    assert not {"b", "img", "iframe"} & set(page.tags)
    assert not {name for _, name, _ in page.attributes if name.startswith("on")}
    assert page.texts.count(f"Only {NAMES[0]} is right") == 2
    for name in page.values("section", "id"):
        assert name.replace("-", "").isalnum()


def test_two_models_have_their_difference(case, tmp_path):
    models, images, labels, *_ = case
    two = dict(list(models.items())[:2])
    found = Page(
        write_comparison(two, images, labels, tmp_path / "new").read_text("utf-8")
    )
    assert (tmp_path / "new" / "report.html").exists()
    one, other = (model.evaluate(images, labels) for model in two.values())
    last = found.table("model")[-1]
    assert last[:2] == ["difference", f"{other.accuracy - one.accuracy:+.2%}"]
    assert last[-1] == "+1"
    head = next(table for table in found.tables if table[0][0] == "class")[0]
    assert head[-2:] == ["difference", "images"]


def test_classes_in_another_order_are_the_same_classes(case, tmp_path):
    models, images, labels, *_ = case
    first = models[NAMES[0]]
    turned = lenet5c.lenet5()
    for name in turned.parameters:
        turned.parameters[name] = first.parameters[name]
        if name.startswith("OUTPUT"):
            turned.parameters[name] = first.parameters[name][::-1]
    turned.set_input(first.stage, first.source, first.classes[::-1])
    page = write_comparison(
        {"a": first, "b": turned}, images, labels, tmp_path / "r.html"
    )
    (row,) = Page(page.read_text("utf-8")).table("first")
    assert row[3:5] == ["0", "0"]
    assert row[6] == "1"
    text = page.read_text("utf-8")
    assert text.count("In no image.") == 2
    assert "no history of the training of b" in text


def test_wrong_arguments_are_refused_before_anything_is_written(case, tmp_path):
    models, images, labels, files, _ = case
    good = dict(list(models.items())[:2])
    for bad, said in (
        ({"models": {"a": lenet5c.lenet5()}}, "models: expected 2 to 6, got 1"),
        ({"models": {**good, "c": lenet5c.lenet5()}}, "models: expected the same"),
        ({"files": files[1:]}, "files: expected one for each of the 360 images"),
        ({"labels": labels[1:]}, "labels"),
    ):
        given = {"models": good, "images": images, "labels": labels, "files": None}
        with pytest.raises(ValueError, match=said):
            write_comparison(path=tmp_path / "new", **(given | bad))
        assert list(tmp_path.iterdir()) == []
