"""`lenet5c compare`: what is trained and measured, the table, the picture, failures."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c.cli import comparison, comparison_chart, measure
from lenet5c.cli import main as cli
from lenet5c.cli.comparison import Job
from lenet5c.data import datasets
from lenet5c.training.recipes import RECIPES_OF, epochs_for

FUNCTIONS = """
import os, sys, time
import lenet5c

def network(classes, seed):
    print("not JSON")
    os.system("echo neither")
    return lenet5c.Model(
        [lenet5c.Dense(classes)], input_shape=(1, 28, 28), classes=classes, seed=seed
    )

def number():
    return 3

def hungry():
    raise MemoryError

def killed():
    os.kill(os.getpid(), 9)

def leaves():
    sys.exit(0)

def careful():
    memory = bytearray(500_000_000)
    memory[::4096] = bytes(len(memory[::4096]) * [1])
    del memory
    return network(10, 0)

def sleeps():
    with open("pid", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
"""
RUN = {
    "seed": 0,
    "recipe": None,
    "epochs": 3,
    "parameters": 61_706,
    "multiply_adds": 416_520,
    "model_bytes": 248_000,
    "loss": 0.03,
    "accuracy": 0.9912,
    "training_seconds": 90.0,
    "training_images_per_second": 2_000.0,
    "inference_images_per_second": 240_000.0,
    "peak_memory_bytes": 123_456_789,
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "SECONDS_OF_A_RUN", 0.01)
    monkeypatch.setattr(measure, "RUNS", 1)


@pytest.fixture
def functions():
    """The file mine.py, in the present folder."""
    Path("mine.py").write_text(FUNCTIONS, "utf-8")


@pytest.fixture
def imports(monkeypatch):
    """Leave sys.path and sys.modules as they were."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("mine", None)


@pytest.fixture
def npz(images, labels):
    """A file of the 60 images of the fixture, 12 of them to test with."""
    np.savez("few.npz", images=images, labels=labels)
    return "few.npz"


def run(*arguments, code=0, capsys):
    """Run `lenet5c compare` in this process; return what it wrote."""
    capsys.readouterr()
    try:
        got = cli.main(["compare", *map(str, arguments)])
    except SystemExit as stop:
        got = stop.code
    out, err = capsys.readouterr()
    assert got == code, err
    return out, err


def row(network, accuracy=0.99, seconds=60.0, error=None, **changes):
    measured = RUN | {"accuracy": accuracy, "training_seconds": seconds} | changes
    return comparison.summary(network, [measured], error, data="mnist")


@pytest.mark.parametrize("network", ["lenet5", "mlp", "cnn3", "resnet18"])
def test_each_network_has_a_recipe_and_a_line_in_the_article(network):
    recipe = RECIPES_OF[network]
    assert isinstance(recipe.optimizer(), lenet5c.SGD | lenet5c.AdamW)
    article = comparison.ARTICLE[network]
    built = lenet5c.networks.NETWORKS[network]()
    assert built.parameter_count == pytest.approx(article.parameters, rel=0.05)
    assert 0.97 < article.accuracy < 1
    assert 60 < article.training_seconds <= 600
    assert RECIPES_OF.keys() - comparison.ARTICLE.keys() == {"lenet5-1998"}


def test_a_network_by_name_is_trained_with_its_recipe(quick):
    found = comparison.measure(Job("mlp", "digits", seed=3, epochs=2, threads=1))
    data = datasets.digits()
    model = lenet5c.mlp(seed=3)
    model.fit(*data.train, recipe=RECIPES_OF["mlp"], epochs=2, seed=3)
    model.save("same.lenet5c")
    expected = model.evaluate(*data.test)
    assert found["accuracy"] == expected.accuracy
    assert found["loss"] == expected.loss
    assert found["parameters"] == 79_510
    assert found["model_bytes"] == os.path.getsize("same.lenet5c")
    assert found["epochs"] == found["recipe"]["epochs"] == 2
    assert "AdamW" in found["recipe"]["optimizer"]
    seconds = found["training_seconds"]
    assert found["training_images_per_second"] == pytest.approx(2 * 1437 / seconds)
    assert found["inference_images_per_second"] > 100
    json.dumps(found)


@pytest.mark.parametrize("network", ["mine.py:network", "mine:network"])
def test_a_function_is_trained_as_train_does_by_default(
    network, functions, imports, quick, npz
):
    found = comparison.measure(Job(network, npz, seed=5, threads=1))
    data = datasets.load(npz)
    model = lenet5c.Model(
        [lenet5c.Dense(10)], input_shape=(1, 28, 28), classes=10, seed=5
    )
    assert found["epochs"] == epochs_for(48) == 30
    model.fit(*data.train, epochs=30, seed=5)
    assert found["loss"] == model.evaluate(*data.test).loss


def test_a_model_file_is_measured_and_not_trained(quick):
    data = datasets.digits()
    model = lenet5c.mlp()
    model.fit(*data.train, epochs=1, threads=1)
    model.save("mlp.lenet5c")
    found = comparison.measure(Job("mlp.lenet5c", "digits", epochs=5, threads=1))
    assert found["accuracy"] == model.evaluate(*data.test).accuracy
    assert found["model_bytes"] == os.path.getsize("mlp.lenet5c")
    for name in ("recipe", "epochs", "training_seconds", "peak_memory_bytes"):
        assert found[name] is None
    assert (
        comparison_chart.drawable(
            [comparison.summary("mlp.lenet5c", [found], data="mnist")]
        )
        == []
    )


def test_held_out_images_are_training_images_that_are_not_trained_on(npz):
    data = datasets.load(npz)
    split = comparison.load_data(npz, 0.25)
    assert len(split.test.images) == round(len(data.train.images) / 4)

    def pairs(part):
        return {(image.tobytes(), label) for image, label in zip(*part, strict=True)}

    assert pairs(split.train) | pairs(split.test) == pairs(data.train)
    assert not pairs(split.train) & pairs(split.test)
    again = comparison.load_data(npz, 0.25)
    assert (again.test.images == split.test.images).all()
    assert (comparison.load_data(npz, None).test.images == data.test.images).all()


@pytest.mark.parametrize(("share", "said"), [(0.001, "measure on"), (0.999, "train")])
def test_a_share_that_leaves_nothing_is_refused(share, said, npz):
    with pytest.raises(ValueError, match=f"validation: .* none to {said}"):
        comparison.load_data(npz, share)


def test_held_out_images_are_what_is_measured_on(npz, quick):
    found = comparison.measure(Job("mlp", npz, epochs=1, validation=0.25, threads=1))
    split = comparison.load_data(npz, 0.25)
    model = lenet5c.mlp()
    model.fit(*split.train, recipe=RECIPES_OF["mlp"], epochs=1)
    assert found["loss"] == model.evaluate(*split.test).loss


def test_means_and_deviation_over_seeds():
    accuracies = [0.98, 0.991, 0.985]
    runs = [
        RUN | {"seed": k, "accuracy": it, "training_seconds": 10.0 * k}
        for k, it in enumerate(accuracies)
    ]
    found = comparison.summary("mlp", runs, data="mnist")
    assert found["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["accuracy_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    assert found["training_seconds"] == 10
    assert [one["accuracy"] for one in found["runs"]] == accuracies
    assert found["article"]["parameters"] == 80_000
    assert comparison.summary("mine.py:f", runs[:1], data="mnist")["article"] is None
    assert comparison.summary("mlp", runs, data="digits")["article"] is None
    assert (
        comparison.summary("mlp", runs[:1], data="mnist")["accuracy_deviation"] is None
    )


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("number", "expected a function that returns a Model, it returned int"),
        ("nothing", "mine.py has no function nothing"),
        ("hungry", "out of memory"),
        ("leaves", "the process ended with 0"),
        pytest.param(
            *("killed", "killed, as the system does when memory runs out"),
            marks=pytest.mark.skipif(os.name == "nt", reason="a POSIX signal"),
        ),
    ],
)
def test_why_a_child_failed_is_said(function, said, functions, npz):
    with pytest.raises(comparison.MeasurementError, match=said):
        comparison.measure_in_child(Job(f"mine.py:{function}", npz))


@pytest.mark.skipif(sys.platform != "linux", reason="its way of forgetting a peak")
def test_peak_memory_is_that_of_the_training_alone(functions, npz):
    ballast = np.ones(75_000_000, np.float32)
    shown = []

    class Bar:
        def on_batch_end(self, state):
            shown.append(state)

        on_epoch_end = on_batch_end

    job = Job("mine.py:careful", npz, epochs=2, threads=1)
    found = comparison.measure_in_child(job, Bar())
    assert 20e6 < found["peak_memory_bytes"] < ballast.nbytes
    assert measure.peak_memory() > ballast.nbytes
    assert (shown[-1].epoch, shown[-1].epochs) == (2, 2)


def test_networks_that_fail_are_in_the_table_and_the_others_go_on(
    functions, npz, capfd
):
    names = "mine.py:number,mine.py:network"
    out, err = run("--networks", names, "--data", npz, code=1, capsys=capfd)
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["mine.py:number", "failed"]
    assert rows[2][:2] == ["mine.py:network", "7,850"]
    assert out.splitlines()[-1].startswith("mine.py:number failed: TypeError: ")
    assert "not JSON" in err
    assert "neither" in err


def test_the_table_has_the_article_below_each_network(monkeypatch, capsys):
    jobs = []

    def measured(job, bar):
        jobs.append(job)
        return RUN | {"seed": job.seed}

    monkeypatch.setattr(comparison, "measure_in_child", measured)
    load = comparison.load_data  # quick, under the name of the article's data
    monkeypatch.setattr(comparison, "load_data", lambda _, share: load("digits", share))
    options = ["--data", "mnist", "--epochs", 7, "--threads", 2]
    out, _ = run(*options, capsys=capsys)
    lines = [line.split() for line in out.splitlines()]
    head = "network parameters accuracy time memory train/s predict/s file"
    assert lines[0] == head.split()
    line = "61,706 99.12% 1.5 min 123 2,000 240,000 0.25"
    assert lines[1] == ["lenet5", *line.split()]
    assert lines[2] == ["article", "61,706", "98.5%", "5.0", "min"]
    assert [line[0] for line in lines[3:9:2]] == ["mlp", "cnn3", "resnet18"]
    assert lines[4][1:] == ["80,000", "97.8%", "3.0", "min"]
    assert jobs[-1] == Job("resnet18", "mnist", 0, 7, None, 2)


def test_the_article_is_of_mnist_alone(monkeypatch, capsys):
    monkeypatch.setattr(
        comparison, "measure_in_child", lambda job, bar: RUN | {"seed": job.seed}
    )
    out, _ = run("--data", "digits", capsys=capsys)
    assert "lenet5" in out
    assert "article" not in out


def test_several_seeds_give_a_mean_and_a_deviation(monkeypatch, capsys):
    accuracies = [0.9, 0.91, 0.95]
    monkeypatch.setattr(
        comparison,
        "measure_in_child",
        lambda job, bar: RUN | {"seed": job.seed, "accuracy": accuracies[job.seed]},
    )
    options = ["--networks", "cnn3", "--seeds", 3]
    out, _ = run(*options, capsys=capsys)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][3] == "+-"
    assert lines[1][2:4] == ["92.00%", f"{100 * statistics.stdev(accuracies):.2f}"]
    assert out.splitlines()[-1].endswith("means of 3 seeds.")
    assert max(map(len, out.splitlines())) <= 80
    out, _ = run(*options, "--validation", 0.2, "--json", capsys=capsys)
    found = json.loads(out)
    assert found["measured_on"] == "held-out"
    assert (found["training_images"], found["measured_images"]) == (1150, 287)
    (network,) = found["networks"]
    assert [of["seed"] for of in network["runs"]] == [0, 1, 2]
    assert network["accuracy"] == pytest.approx(0.92)


def test_a_model_file_is_measured_once_and_blank_where_it_is_not_trained(
    monkeypatch, capsys
):
    lenet5c.mlp().save("old.lenet5c")
    untrained = dict.fromkeys(
        ("epochs", "training_seconds", "training_images_per_second"), None
    )
    untrained["peak_memory_bytes"] = None
    monkeypatch.setattr(
        comparison, "measure_in_child", lambda job, bar: RUN | untrained
    )
    out, _ = run("--networks", "old.lenet5c", "--seeds", 3, capsys=capsys)
    line = "old.lenet5c 61,706 99.12% 240,000 0.25"
    assert out.splitlines()[1].split() == line.split()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--networks", "vgg"],
            "--networks: expected lenet5, mlp, cnn3, resnet18, lenet5-1998, a",
        ),
        (["--networks", "none.py:f"], "--networks: none.py:f: there is no file"),
        (["--networks", "none.lenet5c"], "got 'none.lenet5c'"),
        (["--networks", "mlp,"], "--networks: expected different names"),
        (["--networks", "mlp,mlp"], "--networks: expected different names"),
        (["--networks", "old.lenet5c", "--plot", "a.png"], "--plot needs a network"),
        (["--networks", "old.lenet5c", "--validation", ".1"], "may know the images"),
        (["--plot", "a.txt"], "--plot a.txt: expected a name that ends in .png"),
        (["--plot", "no/a.png"], "--plot no/a.png: there is no folder"),
        (["--validation", "1"], "--validation: expected a fraction"),
        (["--validation", "0.0001"], "validation: 0.0001 of 1437 images"),
        (["--seeds", "0"], "--seeds: expected a whole number above 0"),
        (["--data", "none.npz"], "none.npz"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_trained(
    arguments, said, monkeypatch, capsys
):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    lenet5c.mlp().save("old.lenet5c")
    monkeypatch.delattr(comparison, "measure_in_child")
    out, err = run(*arguments, code=2, capsys=capsys)
    assert out == ""
    assert said in err


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_keeps_what_is_done_and_ends_the_child(functions, npz):
    names = "mine.py:network,mine.py:sleeps,mlp"
    command = ["compare", "--networks", names, "--data", npz, "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "lenet5c", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(lenet5c.__file__).parents[1])},
    ) as process:
        end = time.monotonic() + 60
        while not (Path("pid").exists() and Path("pid").read_text()):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    found = json.loads(out)
    assert found["interrupted"] is True
    assert [of["network"] for of in found["networks"]] == ["mine.py:network"]
    assert err.splitlines()[-1] == "lenet5c: interrupted"
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)


def boxes(figure):
    """The rectangles of the names and of the points, in pixels."""
    (axes,) = figure.axes
    names = [text for text in axes.texts if text.get_text()]
    found = [text.get_window_extent() for text in names]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    return names, found, [point.get_window_extent() for point in points], axes.bbox


@pytest.mark.parametrize("count", [1, 12])
def test_names_in_the_picture_overlap_nothing(count):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(count)
    rows = [row("lenet5", 0.9945, 16), row("mlp", 0.983, 9), row("cnn3", 0.9921, 119)]
    rows += [
        row(f"mine.py:net_$x$_{k}", *rng.uniform((0.9920, 100), (0.9926, 130)))
        for k in range(count)
    ]
    figure = comparison_chart.plot(rows, "a.png")
    names, found, points, inside = boxes(figure)
    assert len(names) == len(points) == 6 + count
    assert {text.get_text() for text in names} >= {"mlp", "mlp, article"}
    for one, other in [
        *combinations(found, 2),
        *((a, b) for a in found for b in points),
    ]:
        assert not one.overlaps(other)
    for box in found:
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert inside.y0 <= box.y0 < box.y1 <= inside.y1


@pytest.mark.parametrize("seconds", [(0.05, 0.051), (5, 7), (30, 900), (0.02, 9000)])
def test_the_time_axis_has_ticks_that_do_not_overlap(seconds):
    pytest.importorskip("matplotlib")
    rows = [row(f"m:f{k}", 0.9 + k / 100, time) for k, time in enumerate(seconds)]
    figure = comparison_chart.plot(rows, "a.png")
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    shown = [
        label.get_window_extent()
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert len(shown) > 1
    assert not any(one.overlaps(other) for one, other in combinations(shown, 2))


def test_the_articles_points_are_grey_and_deviations_are_bars():
    pytest.importorskip("matplotlib")
    runs = [RUN | {"seed": k, "accuracy": 0.98 + k / 1000} for k in range(3)]
    failed = row("cnn3", error="no")
    figure = comparison_chart.plot(
        [comparison.summary("mlp", runs, data="mnist"), failed], "a.svg", "held-out"
    )
    (axes,) = figure.axes
    points = {
        (float(line.get_xdata()[0]), round(float(line.get_ydata()[0]), 3)): line
        for line in axes.lines
        if line.get_marker() == "o"
    }
    assert points.keys() == {(90.0, 98.1), (180.0, 97.8)}
    assert points[180.0, 97.8].get_color() == comparison_chart.GREY
    assert points[90.0, 98.1].get_color() != comparison_chart.GREY
    (bars,) = axes.containers
    low, high = bars[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((98.0, 98.2))
    assert axes.get_ylabel() == "Accuracy on the held-out images, %"
    assert "<svg" in Path("a.svg").read_text("utf-8")


def test_a_picture_of_nothing_is_refused():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="no network that was trained"):
        comparison_chart.plot([row("mlp", error="no")], "a.png")


def test_the_command_writes_the_picture(monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(comparison, "measure_in_child", lambda job, bar: RUN)
    _, err = run("--networks", "mlp", "--plot", "a.png", capsys=capsys)
    assert err.splitlines()[-1] == "Picture written to a.png"
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
