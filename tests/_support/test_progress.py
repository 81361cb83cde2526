"""The progress bar: live on a terminal, a plain line an epoch elsewhere."""

import io
import re
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import lenet5c
from lenet5c._support.progress import ProgressBar, epoch_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def frames(terminal):
    """Return what was drawn, one text a redraw, without its control codes."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    return [frame for frame in plain.split("\r") if frame.strip()]


def train(bar, epochs=2, batches=10, until=None, after_batch=lambda: None):
    """Call `bar` as `fit` does."""
    started = time.perf_counter()
    state = SimpleNamespace(
        epochs=epochs,
        batches=batches,
        loss=0.25,
        accuracy=0.875,
        validation_accuracy=None,
        images_per_second=71234.5,
    )
    for state.epoch in range(1, epochs + 1):
        for state.batch in range(1, batches + 1):
            state.seconds = time.perf_counter() - started
            bar.on_batch_end(state)
            after_batch()
            if until == (state.epoch, state.batch):
                return
        bar.on_epoch_end(state)


def test_without_a_terminal_there_is_one_plain_line_an_epoch(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # colours in a log, but no moving line
    stream = io.StringIO()
    train(ProgressBar(stream=stream), epochs=3)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("epoch 2/3  loss 0.2500  accuracy 87.50%  71,23")
    assert "\x1b" not in stream.getvalue()


def test_without_rich_a_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    train(ProgressBar(stream=terminal))
    assert len(terminal.getvalue().splitlines()) == 2
    assert "\x1b" not in terminal.getvalue()


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    train(ProgressBar(stream=terminal))
    assert "\x1b" not in terminal.getvalue()


def test_the_live_line_shows_epoch_speed_loss_accuracy_and_time_left(terminal):
    train(ProgressBar(stream=terminal))
    first = frames(terminal)[0]
    for word in ("epoch 1/2", "71,23", "img/s", "loss 0.25", "accuracy 87.50%", "left"):
        assert word in first


def test_each_epoch_leaves_one_line_and_the_bar_goes(terminal):
    train(ProgressBar("mlp", stream=terminal), epochs=3)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    lines = [line for line in re.split("[\r\n]+", plain) if "━" not in line]
    assert [line[:14] for line in lines if line.strip()] == [
        f"mlp  epoch {epoch}/3" for epoch in (1, 2, 3)
    ]
    assert "\x1b[1A\x1b[2K" in terminal.getvalue().rsplit("━", 1)[1]  # it is erased


def test_the_bar_below_an_epochs_line_is_not_of_an_earlier_one(terminal):
    train(ProgressBar(stream=terminal), epochs=3)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    for epoch in (1, 2, 3):
        assert re.search(rf"epoch {epoch}/3  loss .*\nepoch {epoch}/3 ━", plain)


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_the_live_line_is_one_line_at_any_width(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    train(ProgressBar("lenet5", stream=terminal), epochs=100, until=(1, 1))
    (shown,) = frames(terminal)
    assert len(shown) <= (columns - 3 if columns >= 80 else columns)
    assert "\n" not in shown


def test_the_time_left_follows_from_the_share_that_is_done(terminal):
    state = SimpleNamespace(
        epoch=2,
        epochs=5,
        batch=5,
        batches=10,
        loss=1.0,
        accuracy=0.5,
        validation_accuracy=None,
        images_per_second=10.0,
        seconds=30.0,
    )
    with ProgressBar(stream=terminal) as bar:
        bar.on_batch_end(state)
    assert "0:01:10 left" in terminal.getvalue()  # 15 of 50 batches took 30 s


def test_it_draws_at_most_about_ten_times_a_second(terminal, monkeypatch):
    clock = SimpleNamespace(perf_counter=lambda: len(looks) / 100)
    looks = []
    monkeypatch.setattr("lenet5c._support.progress.time", clock)
    with ProgressBar(stream=terminal) as bar:
        draws = []
        draw = bar._drawn
        monkeypatch.setattr(
            bar, "_drawn", lambda *given: (draws.append(1), draw(*given))[1]
        )
        train(bar, epochs=1, batches=2000, after_batch=lambda: looks.append(1))
    assert 100 < len(draws) <= 203  # in 20 seconds


def test_closing_gives_the_cursor_back(terminal):
    bar = ProgressBar(stream=terminal)
    train(bar, until=(1, 3))
    assert "\x1b[?25h" not in terminal.getvalue()
    bar.close()
    bar.close()
    assert terminal.getvalue().count("\x1b[?25h") == 1


def test_an_error_in_training_closes_the_bar(terminal):
    def stop_training():
        with ProgressBar(stream=terminal) as bar:
            train(bar, until=(1, 3))
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        stop_training()
    assert "\x1b[?25h" in terminal.getvalue()


def test_one_bar_can_show_two_trainings(terminal):
    bar = ProgressBar(stream=terminal)
    train(bar)
    train(bar)
    assert terminal.getvalue().count("\x1b[?25h") == 2


def test_the_plain_line_has_the_validation_and_the_label():
    state = SimpleNamespace(
        epoch=7,
        epochs=30,
        loss=0.5,
        accuracy=0.9,
        validation_accuracy=0.85,
        images_per_second=1000.0,
        seconds=2.0,
    )
    assert epoch_line(state, "mlp  ") == (
        "mlp  epoch  7/30  loss 0.5000  accuracy 90.00%  validation 85.00%  "
        "1,000 img/s  2.0 s"
    )


def test_fit_shows_a_line_for_each_epoch(capsys):
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    labels = np.arange(200) % 10
    bar = ProgressBar()
    lenet5c.lenet5().fit(images, labels, epochs=2, threads=1, callbacks=[bar])
    lenet5c.lenet5().fit(images, labels, epochs=2, threads=1, verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 4
    assert bar.last.epoch == 2
