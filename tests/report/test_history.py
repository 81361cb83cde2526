"""History: the lists of a training as JSON, CSV, arrays and a picture."""

import csv
import json
import math
import re

import numpy as np
import pytest

from lenet5c import History


@pytest.fixture
def history() -> History:
    return History(
        loss=[1 / 3, 0.1 + 0.2],
        accuracy=[0.5, 0.75],
        learning_rate=[0.1, 1e-17],
        seconds=[1.5, 2.0],
        images_per_second=[1e5, 2e5],
    )


@pytest.fixture
def validated(history) -> History:
    history.validation_loss = [0.7, math.nan]
    history.validation_accuracy = [0.6, 0.65]
    return history


def test_json_has_the_lists(history, tmp_path):
    text = history.to_json()
    assert json.loads(text) == history.to_dict()
    assert history.to_json(tmp_path / "h.json") == text
    assert (tmp_path / "h.json").read_text("utf-8") == text


def test_what_is_not_finite_is_null_in_json(validated):
    assert json.loads(validated.to_json())["validation_loss"] == [0.7, None]


@pytest.mark.parametrize("kind", ["history", "validated"])
def test_csv_has_a_row_an_epoch_and_exact_numbers(kind, request, tmp_path):
    history = request.getfixturevalue(kind)
    text = history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_bytes().decode() == text
    rows = list(csv.DictReader(text.splitlines()))
    assert [row.pop("epoch") for row in rows] == ["1", "2"]
    columns = {name: column for name, column in history.to_dict().items() if column}
    assert list(rows[0]) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], column)


def test_a_history_of_no_epochs_has_a_head_only():
    assert History().to_csv() == "epoch\n"
    assert History().arrays() == {}
    assert set(json.loads(History().to_json())) == set(History().to_dict())


def test_arrays_are_float64_and_copies(history):
    arrays = history.arrays()
    assert list(arrays) == [name for name, c in history.to_dict().items() if c]
    for name, array in arrays.items():
        assert array.dtype == np.float64
        assert array.tolist() == getattr(history, name)
    arrays["loss"][0] = 9
    assert history.loss[0] == 1 / 3


@pytest.mark.parametrize("method", ["to_json", "to_csv"])
def test_a_file_that_cannot_be_written_is_an_os_error(method, history, tmp_path):
    with pytest.raises(OSError, match="none"):
        getattr(history, method)(tmp_path / "none" / "file")


def test_a_plot_is_a_figure_and_a_file(history, tmp_path):
    figure = pytest.importorskip("matplotlib.figure")
    assert isinstance(history.plot(), figure.Figure)
    assert isinstance(history.plot(tmp_path / "h.png"), figure.Figure)
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 2500, 10_000])
def test_many_epochs_are_thinned(count):
    whole = History()
    for epoch in range(count):
        whole = whole.joined(History(loss=[float(epoch)]), epoch)
    epochs = whole.epochs()
    assert min(count, 500) <= len(whole) <= 1000
    assert (epochs[0], epochs[-1]) == (1, count)
    assert epochs == sorted(set(epochs))
    assert whole.loss == [epoch - 1 for epoch in epochs]
    assert max(np.diff(epochs), default=1) <= max(1, 4 * count / 1000)
    assert (whole.epoch == []) == (count <= 1000)
    at_once = History().joined(History(loss=[float(k) for k in range(count)]), 0)
    assert at_once == whole  # as of a training that was resumed


def test_a_history_that_knows_little_shows_what_it_knows():
    first = History.from_dict({"loss": [0.5, None]})
    assert repr(first) == "<History of 2 epochs: loss nan>"
    validated = History(loss=[0.5], validation_accuracy=[0.75])
    assert repr(validated).endswith("loss 0.5000, validation 75.00%>")
    assert "validation" not in repr(validated.joined(first, 1))
    assert first._table().rows == [["1", "0.5000"], ["2", ""]]
    assert first._table().title == "History: 2 epochs"
    later = first.joined(History(loss=[0.25], seconds=[3.0]), 2)
    assert later._table().title == "History: 3 epochs"
    assert later._table().rows[1:] == [["2", "", ""], ["3", "0.2500", "3.00"]]
    assert History(loss=[0.25], seconds=[3.0])._table().title.endswith("epoch, 3.0 s")


def test_curves_have_the_colours_of_the_page(validated):
    pytest.importorskip("matplotlib")
    drawn, other = validated._drawn(), History(loss=[3, 2])._drawn()
    assert "fill:currentColor" in drawn
    assert "stroke: var(--ink)" in drawn
    set_here = set(re.findall(r"(--[\w-]+):", drawn))
    assert set(re.findall(r"var\((--[\w-]+)\)", drawn + other)) <= set_here
    assert not re.search(r": ?(#000|#fff|black|white)", drawn)
    ids = (set(re.findall(r' id="([^"]+)"', one)) for one in (drawn, other))
    assert not set.intersection(*ids)


def test_one_epoch_that_is_there_often_ends():
    odd = History(loss=[0.5] * 1001, epoch=[1] * 1001)
    assert odd.joined(History(loss=[0.25]), 1).loss[-1] == 0.25


def test_a_later_training_replaces_the_epochs_after_its_start():
    first = History(loss=[5.0, 4.0, 3.0], accuracy=[0.1, 0.2, 0.3])
    joined = first.joined(History(loss=[9.0, 8.0]), 2)
    assert joined.loss == [5, 4, 9, 8]
    assert joined.accuracy[:2] == [0.1, 0.2]
    assert np.isnan(joined.accuracy[2:]).all()
    gap = first.joined(History(loss=[1.0]), 7)
    assert gap.epochs() == [1, 2, 3, 8]
    assert gap.to_dict()["epoch"] == [1, 2, 3, 8]
    assert gap.to_csv().splitlines()[-1].split(",")[0] == "8"
    assert "epoch" not in first.to_dict()
