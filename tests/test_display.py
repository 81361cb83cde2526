"""Objects show themselves: HTML for notebooks, tables of rich, short reprs."""

import io
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import lenet5c
from lenet5c import Augment, Conv2d, Dense, Evaluation, History, ReLU, Residual
from lenet5c.datasets import Dataset, Split
from lenet5c.deploy.quantize import LayerError, QuantizationReport
from lenet5c.display import Table, drawing, html_of, strip
from lenet5c.pictures import Sign
from lenet5c.plots import reliability
from lenet5c.report.page import scores

MARKUP = "<script>alert('1')</script> & \"<b>\""
VOID = {"img"}


class Outline(HTMLParser):
    """Reads HTML; AssertionError where an element is not closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open += [tag] * (tag not in VOID)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def data_of(names, shape=(12, 12), dtype=np.uint8, count=30):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, *shape)).astype(dtype)
    labels = np.array(names)[np.arange(count) % len(names)]
    return Dataset("some", Split(images, labels), Split(images[:9], labels[:9]))


@pytest.fixture
def quantized(small, small_images, labels):
    small.fit(small_images, labels, epochs=1, threads=1)
    return small.quantize(small_images)


@pytest.fixture
def all_objects(small, small_images, labels, quantized):
    return [
        small,
        small.fit(small_images, labels, epochs=2, validation=0.5, threads=1),
        small.evaluate(small_images, labels),
        data_of(["a", "b"]),
        Augment(),
        quantized,
        quantized.report(small_images, labels),
    ]


def rich_text(thing, width=100):
    console = pytest.importorskip("rich.console")
    stream = io.StringIO()
    console.Console(file=stream, width=width).print(thing)
    return stream.getvalue()


def test_all_show_themselves_in_notebooks_and_by_rich(all_objects):
    for thing in all_objects:
        html = thing._repr_html_()
        assert "table" in Outline(html).tags, type(thing)
        assert not re.search(
            r"\bid=(?!\"history-)|<style|<script|http:(?!//www.w3.org/2000/svg)", html
        )
        text = rich_text(thing)
        title = thing._table().title
        assert title in html
        assert title in text


def test_reprs_are_short(all_objects):
    data = data_of(["a", "b"])
    others = [
        data.train,
        all_objects[5].layers[0],
        reliability([0.2, 0.9], [True, False]),
        History(),
        scores(np.eye(30)),
        Sign(np.zeros((28, 28), np.uint8), (1, 2, 3, 4)),
    ]
    for thing in [*all_objects, *others]:
        text = repr(thing)
        assert "\n" not in text
        assert len(text) < 160, text
        assert "array(" not in text


def test_a_model_is_drawn_with_the_size_of_each_map():
    html = lenet5c.lenet5()._repr_html_()
    texts = Outline(html).texts
    drawn = html[html.index("<svg") : html.index("</svg>")]
    for size in ("1@32x32", "6@28x28", "6@14x14", "16@10x10", "16@5x5", "120", "84"):
        assert f">{size}</text>" in drawn
    assert drawn.count("<rect") == 8  # the input and seven layers
    assert "61,706" in texts  # the total of the parameters
    assert "416,520" in texts
    assert 'stroke="currentColor"' in drawn
    assert not re.search("#[0-9a-f]{3}|black|white", drawn)


def test_a_residual_branch_is_drawn_with_its_shortcut():
    inner = Residual([Conv2d(4, 3, padding=1)], name="inner")
    layers = [Residual([inner, Conv2d(4, 3, padding=1)], [Conv2d(4, 1)], name="outer")]
    model = lenet5c.Model([*layers, ReLU(), Dense(10)], input_shape=(4, 8, 8))
    drawn = drawing(model.layers, model.input_shape)
    assert drawn.count("stroke-dasharray") == 2
    assert "Conv2d 1x1" in drawn
    outer, inside = sorted(
        (float(y) for y in re.findall(r"M\S+ 0V(\S+)H", drawn)), key=float
    )
    assert outer < inside < 0  # the outer arc is above the inner one
    top = float(re.search(r'viewBox="\S+ (\S+)', drawn)[1])
    assert top < outer


def test_every_network_is_drawn_within_its_frame():
    for make in (lenet5c.lenet5, lenet5c.mlp, lenet5c.cnn3, lenet5c.resnet18):
        model = make()
        drawn = drawing(model.layers, model.input_shape)
        left, top, wide, high = map(
            float, re.search('viewBox="([^"]+)"', drawn)[1].split()
        )
        for x, y in re.findall(r'<text x="(\S+)" y="(\S+)"', drawn):
            assert left < float(x) < left + wide
            assert top + 9 < float(y) < top + high


def test_what_comes_from_outside_is_text_and_never_markup():
    named = lenet5c.Model([Dense(10, name=MARKUP[:40])], input_shape=(1, 4, 4))
    confusion = np.array([[3, 1], [0, 2]])
    many = np.ones((30, 30), int)
    shown = [
        named,
        Evaluation(0.1, 0.8, confusion, [MARKUP, "b"]),
        Evaluation(0.1, 0.8, many, [MARKUP] * 30),
        data_of([MARKUP, "b"]),
        Dataset(MARKUP, *data_of(["a"])),
        QuantizationReport(1, 1.0, 1.0, 1.0, [LayerError(MARKUP, 1.0)], 1, 1),
    ]
    for thing in shown:
        html = thing._repr_html_()
        assert "&lt;script&gt;" in html
        assert not {"script", "b>"} & set(Outline(html).tags)
        assert html.count("<b>") == 1  # of the title
    names = ["[bold]", "b"]
    assert rich_text(Evaluation(0.1, 0.8, confusion, names)).count("[bold]") == 2


def test_a_confusion_matrix_names_the_classes_and_shades_shares():
    found = Evaluation(0.5, 0.75, np.array([[30, 10], [0, 0]]), ["cat", "dog"])
    html = found._repr_html_()
    assert "75.00% of 40 images right, loss 0.5000" in html
    rows = [row for row in html.split("<tr>") if "cat" in row]
    assert "rgba(0,114,178," in rows[1]  # right
    assert "rgba(213,94,0," in rows[1]  # wrong
    assert "75.0%" in rows[1]
    last = html.split("<tr>")[-1]
    assert "rgba" not in last  # there are no dogs
    assert "%" not in last


def test_many_classes_are_shown_by_their_most_frequent_mistakes():
    confusion = 100 * np.eye(47, dtype=int)
    confusion[3, 40] = 25
    found = Evaluation(0.5, 0.9, confusion, [f"class {k}" for k in range(47)])
    _, _, rows, *_ = found._table()
    assert [str(cell) for cell in rows[0][:2]] == ["class 3", "class 40"]
    assert rows[0][2].text == "25"
    assert rows[0][3] == "20.0%"
    assert len(rows) == 1
    assert len(found._repr_html_()) < 3000


def test_an_evaluation_is_a_tuple_of_three_that_knows_its_classes(small, run_python):
    import copy
    import pickle

    names = np.array(list("abcdefghij"))
    images = np.zeros((10, 12, 12), np.uint8)
    small.fit(images, names, epochs=1, threads=1)
    found = small.evaluate(images, names)
    loss, accuracy, confusion = found
    assert (loss, accuracy) == (found.loss, found.accuracy)
    assert confusion is found.confusion
    for same in (found, copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert list(same.classes) == list(names)
        assert same._asdict().keys() == {"loss", "accuracy", "confusion"}
    assert list(Evaluation(0.1, 1.0, np.eye(3)).classes) == [0, 1, 2]
    assert found._replace(loss=0.5).loss == 0.5
    assert "right" in found._replace(loss=0.5)._repr_html_()


def test_a_data_set_counts_each_class_and_shows_the_first_images():
    pytest.importorskip("PIL")
    data = data_of(["cat", "dog", "owl"])
    html = data._repr_html_()
    assert html.count("<img") == 3
    cells = re.findall(r"<t[dh][^>]*>([^<]*)", html)
    assert cells[:4] == ["class", "the first", "train", "test"]
    assert cells[4:8] == ["cat", "", "10", "3"]
    assert cells[-4:] == ["total", "", "30", "9"]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((12, 12), np.uint8),
        ((1, 12, 12), np.uint8),
        ((3, 12, 12), np.float32),
        ((12, 12, 3), np.uint8),
        ((144,), np.uint8),
        ((12, 12), np.float64),
        ((300, 200, 3), np.uint8),
    ],
)
def test_thumbnails_of_any_form_of_images(shape, dtype):
    image = pytest.importorskip("PIL.Image")
    import base64

    html = strip(data_of(["a"], shape, dtype, count=4).train.images, "four", high=12)
    stored = base64.b64decode(re.search('base64,([^"]+)', html)[1])
    picture = image.open(io.BytesIO(stored))
    assert picture.mode == ("RGB" if 3 in shape else "L")
    assert picture.height in (12, 24)  # of 300 rows some are left out
    assert len(np.unique(np.array(picture))) > 20


def test_thumbnails_show_each_image_where_it_belongs():
    image = pytest.importorskip("PIL.Image")
    import base64

    images = np.zeros((2, 14, 14), np.uint8)
    images[0, 2, 3], images[1, 5, 6] = 200, 100
    html = strip(images, "two")
    stored = base64.b64decode(re.search('base64,([^"]+)', html)[1])
    shown = np.array(image.open(io.BytesIO(stored)))
    np.testing.assert_array_equal(shown[:, :14], images[0])
    np.testing.assert_array_equal(shown[:, 15:], images[1])
    colour = np.random.default_rng(0).integers(0, 256, (1, 3, 14, 20), np.uint8)
    stored = base64.b64decode(re.search('base64,([^"]+)', strip(colour, "one"))[1])
    shown = np.array(image.open(io.BytesIO(stored)))
    np.testing.assert_array_equal(shown, colour[0].transpose(1, 2, 0))


def test_images_that_are_none_have_no_thumbnails():
    assert strip(np.zeros((4, 7, 5, 2, 2)), "what") == ""
    data = data_of(["a", "b"], shape=(7, 12, 12))
    assert "<img" not in data._repr_html_()
    empty = Split(np.zeros((0, 4, 4), np.uint8), np.zeros(0, np.int64))
    assert "total" in Dataset("none", empty, empty)._repr_html_()


def test_a_history_shows_its_last_epochs():
    lists = {"loss": [1 / (k + 1) for k in range(30)], "accuracy": [0.5] * 30}
    history = History(**lists, seconds=[2.0] * 30, images_per_second=[9.0] * 30)
    title, columns, rows, *_ = history._table()
    assert title == "History: 30 epochs, 60.0 s; the last 10"
    assert columns == ["epoch", "loss", "accuracy", "img/s", "seconds"]
    assert [rows[0][0], rows[-1][0]] == ["21", "30"]
    assert rows[-1][1] == "0.0333"
    assert repr(history) == "<History of 30 epochs: loss 0.0333, accuracy 50.00%>"
    assert "History: 0 epochs" in History()._repr_html_()


def test_pictures_are_left_out_where_nothing_can_draw_them(all_objects, monkeypatch):
    for name in ("PIL", "PIL.Image", "matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    for thing in all_objects:
        html = thing._repr_html_()
        assert "<table" in html
        assert "<img" not in html
    assert "<svg" in all_objects[0]._repr_html_()


def test_augmentation_is_shown_on_a_digit():
    image = pytest.importorskip("PIL.Image")
    import base64

    def shown(augment):
        html = augment._repr_html_()
        stored = base64.b64decode(re.search('base64,([^"]+)', html)[1])
        row = np.array(image.open(io.BytesIO(stored)))
        return [row[:, 30 * k : 30 * k + 28] for k in range(12)]

    still = shown(Augment(shift=0, rotate=0, scale=0))
    for tile in still:
        np.testing.assert_array_equal(tile, still[0])
    assert 60 < (still[0] > 128).sum() < 200  # strokes
    moved = shown(Augment(shift=3))
    np.testing.assert_array_equal(moved[0], still[0])
    assert all((tile != still[0]).any() for tile in moved[1:])


def test_a_table_is_shown_as_it_is():
    table = Table("t", ["a", "b"], [["x", "1"]], ["sum", "2"])
    html = html_of(table, "<i></i>")
    assert Outline(html).texts == ["t", "a", "b", "x", "1", "sum", "2"]
    assert re.findall("text-align:(left|right)", html) == ["left", "right"] * 3
    assert html.index("<i>") < html.index("<table")
    assert rich_text(table._replace(total=())) != ""


def test_on_a_narrow_page_each_part_scrolls_by_itself(all_objects, browser, tmp_path):
    page = tmp_path / "page.html"
    parts = (thing._repr_html_() for thing in [*all_objects, lenet5c.resnet18()])
    page.write_text(f"<!doctype html><meta charset=utf-8>{''.join(parts)}", "utf-8")
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(page.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
        drawn = browser.execute_script(
            "return [...document.querySelectorAll('svg text')].every(text => {"
            "const a = text.getBoundingClientRect(),"
            " b = text.ownerSVGElement.getBoundingClientRect();"
            "return a.left >= b.left && a.right <= b.right && a.top >= b.top"
            " && a.bottom <= b.bottom})"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width == 400
    assert drawn, "a text of a drawing is cut off"
