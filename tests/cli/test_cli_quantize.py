"""The command `quantize`, and what other commands make of a model in integers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c.cli import comparison, measure
from lenet5c.cli import main as cli
from lenet5c.data import datasets


@pytest.fixture(scope="module")
def digits():
    return datasets.digits()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory, digits):
    """A model of the digits, trained for a moment."""
    file = tmp_path_factory.mktemp("model") / "digits.lenet5c"
    model = lenet5c.lenet5()
    model.fit(*digits.train, epochs=3, threads=1)
    model.trained_on = "digits"
    model.save(file)
    return str(file)


@pytest.fixture(scope="module")
def int8_file(model_file, digits):
    """Its integers, by Python."""
    file = Path(model_file).with_name("other.lenet5c")
    lenet5c.load(model_file).quantize(digits.train.images[::2]).save(file)
    return str(file)


def run(*arguments, code=0, capsys):
    """Run a command; return what it wrote to stdout and stderr."""
    capsys.readouterr()
    try:
        got = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        got = stop.code
    printed = capsys.readouterr()
    assert got == code, printed.err
    return printed.out, printed.err


def test_quantize_writes_the_integers_and_says_what_they_lose(
    model_file, int8_file, digits, capsys
):
    path = Path(model_file).with_name("digits_int8.lenet5c")
    out, err = run("quantize", model_file, capsys=capsys)
    assert err == ""
    assert path.read_bytes() == Path(int8_file).read_bytes()
    report = (
        lenet5c.load(model_file).quantize(digits.train.images[::2]).report(*digits.test)
    )
    sizes = [Path(file).stat().st_size for file in (path, model_file)]
    assert out == (
        f"{report}\n\nCalibrated on 719 training images of digits.\n"
        f"The file has {sizes[0]:,} bytes, that in floats has {sizes[1]:,}.\n"
        f"Model written to {path}\n"
    )
    assert max(map(len, out.replace(str(path), path.name).splitlines())) <= 80
    out, _ = run("quantize", model_file, "--json", capsys=capsys)
    found = json.loads(out)
    assert (found["output"], found["replaced"]) == (str(path), True)
    assert found["test_accuracy"] == lenet5c.load(path).evaluate(*digits.test).accuracy
    assert found["test_accuracy_float32"] == report.float_accuracy
    assert (found["bits"], found["calibration_images"]) == (8, 719)
    assert found["signal_to_noise"] == dict(report.layers)
    assert (found["bytes"], found["data"]) == (sizes[0], "digits")


def test_bits_and_calibration_are_passed_on(model_file, digits, capsys):
    options = ["--bits", "ternary", "--calibration", 10, "-o", "few", "--json"]
    out, _ = run("quantize", model_file, *options, capsys=capsys)
    found = json.loads(out)
    assert (found["bits"], found["calibration_images"]) == ("ternary", 10)
    wanted = lenet5c.load(model_file).quantize(
        digits.train.images[::144], bits="ternary"
    )
    wanted.save("wanted")
    assert Path("few").read_bytes() == Path("wanted").read_bytes()


def test_bits_that_were_trained_for_are_kept(digits, capsys):
    model = lenet5c.lenet5()
    model.fit(*digits.train, epochs=1, threads=1, quantize=4)
    model.save("four.lenet5c")
    run("quantize", "four.lenet5c", "--data", "digits", capsys=capsys)
    small = lenet5c.load("four_int8.lenet5c")
    assert small.bits == lenet5c.Bits(4)
    assert (
        small.scores(digits.test.images)
        == model.quantize(digits.train.images[:9]).scores(digits.test.images)
    ).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantize", "INT8"], "expected a model in floats, got one in 8-bit integers"),
        (["train", "--from", "INT8"], "expected a model in floats"),
        (["quantize", "FLOATS", "-o", "FLOATS"], "is the model itself"),
        (["quantize", "FLOATS", "--output", "no/a"], "there is no folder no"),
        (["quantize", "FLOATS", "-o", "."], "is a folder"),
        (["quantize", "FLOATS", "--bits", "3"], "--bits: invalid choice: '3'"),
        (["quantize", "FLOATS", "--calibration", "0"], "expected a whole number above"),
        (["quantize", "FLOATS", "--data", "floats.npz"], "pixels of uint8, those of"),
        (["quantize", "missing.lenet5c"], "missing.lenet5c: No such file"),
        (["export", "INT8", "--to", "onnx"], "in 8-bit integers, which are not made"),
        (["export", "INT8", "--to", "c"], "expected c-int8 or page-int8"),
        (["export", "INT8", "--to", "page"], "expected c-int8 or page-int8"),
        (["evaluate", "INT8", "--data", "floats.npz"], "expected uint8 pixels, got"),
        (["predict", "INT8", "floats.npy"], "expected uint8 pixels, got float32"),
        (["bench", "INT8", "--network", "mlp"], "not allowed with argument MODEL"),
        (["bench", "missing.lenet5c"], "missing.lenet5c: No such file"),
        (["info", "floats.npy"], "floats.npy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_said_in_one_line(
    arguments, said, model_file, int8_file, digits, capsys
):
    floats = digits.test.images[:60].astype(np.float32) / 255
    np.savez("floats.npz", x_train=floats, y_train=digits.test.labels[:60])
    np.save("floats.npy", floats[:1])
    names = {"INT8": int8_file, "FLOATS": model_file}
    before = Path(model_file).read_bytes()
    arguments = [names.get(word, word) for word in arguments]
    out, err = run(*arguments, code=2, capsys=capsys)
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("lenet5c: error: ")
    assert said in line
    assert Path(model_file).read_bytes() == before


def test_evaluate_shows_integers_as_floats(int8_file, digits, capsys):
    expected = lenet5c.load(int8_file).evaluate(*digits.test)
    out, _ = run("evaluate", int8_file, capsys=capsys)
    assert f"Accuracy {expected.accuracy:.2%} on 360 test images of digits" in out
    found = json.loads(run("evaluate", int8_file, "--json", capsys=capsys)[0])
    assert found["confusion"] == expected.confusion.tolist()
    assert found["loss"] == expected.loss
    assert len(found["mistakes"]) == 360 - expected.confusion.trace()
    run("evaluate", int8_file, "--at-least", 1, code=1, capsys=capsys)


def test_predict_takes_integers(int8_file, digits, capsys):
    np.save("a.npy", digits.test.images[:3])
    out, _ = run("predict", int8_file, "a.npy", "--top", 1, "--json", capsys=capsys)
    rows = lenet5c.load(int8_file).predict_proba(digits.test.images[:3])
    for one, row in zip(json.loads(out)["predictions"], rows, strict=True):
        assert one["class"] == row.argmax()
        assert one["top"][0]["probability"] == pytest.approx(row.max(), rel=1e-6)


@pytest.mark.parametrize(("to", "suffix"), [("c-int8", "h"), ("page-int8", "html")])
def test_integers_are_exported_as_they_are(to, suffix, int8_file, digits, capsys):
    small = lenet5c.load(int8_file)
    output = Path(int8_file).with_name(f"other_int8.{suffix}")
    out, err = run("export", int8_file, "--to", to, capsys=capsys)
    size = output.stat().st_size
    assert (out, err) == (f"Written to {output}, {size:,} bytes\n", "")
    write = small.export_c if to == "c-int8" else small.export_page
    wanted = Path("wanted", output.name)  # the name is in the file
    wanted.parent.mkdir()
    write(wanted)
    assert output.read_bytes() == wanted.read_bytes()
    accuracy = small.evaluate(*digits.test).accuracy
    options = ["--to", to, "--data", "digits", "--output", output.name]
    out, _ = run("export", int8_file, *options, capsys=capsys)
    assert out.startswith(f"accuracy {accuracy:.2%} in int8, on 360 images\n\nWritten")
    out, _ = run("export", int8_file, *options, "--json", capsys=capsys)
    assert json.loads(out)["test_accuracy"] == accuracy
    same = Path(output.name).read_bytes() == wanted.read_bytes()
    assert same == (to == "c-int8")  # a page has examples then


def test_the_name_of_an_export_says_int8_once(model_file, capsys):
    run("quantize", model_file, "-o", "a_int8.lenet5c", capsys=capsys)
    out, _ = run("export", "a_int8.lenet5c", "--to", "c-int8", capsys=capsys)
    assert out.startswith("Written to a_int8.h,")


def test_bench_measures_model_files(model_file, int8_file, monkeypatch, capsys):
    monkeypatch.setattr(measure, "SECONDS_OF_A_RUN", 0.01)
    monkeypatch.setattr(measure, "RUNS", 1)
    for file, what, unit in (
        (int8_file, "predict in int8", "gops"),
        (model_file, "predict", "gflops"),
    ):
        options = ["--threads", 1, "--json"]
        found = json.loads(run("bench", file, *options, capsys=capsys)[0])
        (row,) = found["speeds"]
        assert (found["model"], row["what"], row["batch_size"]) == (file, what, 1000)
        operations = 2e-9 * 416_520 * row["images_per_second"]
        assert row[unit] == pytest.approx(operations, rel=1e-6)
        assert found["latency_seconds"] > 0
    isa = lenet5c.load(int8_file).predictor().instruction_set
    out, _ = run("bench", int8_file, "--threads", 1, capsys=capsys)
    assert re.search(r"images/s +GOP/s\n", out)
    assert f"\nCore {isa}, 1 thread.\n" in out


def test_bench_measures_a_model_of_any_floats(monkeypatch, digits, capsys):
    monkeypatch.setattr(measure, "SECONDS_OF_A_RUN", 0.01)
    monkeypatch.setattr(measure, "RUNS", 1)
    model = lenet5c.mlp()
    model.fit(digits.test.images / 25.5 - 3, digits.test.labels, epochs=1, threads=1)
    model.save("floats.lenet5c")
    out, _ = run("bench", "floats.lenet5c", "--threads", 1, capsys=capsys)
    assert out.startswith("floats.lenet5c ")


def test_info_tells_of_model_files(model_file, int8_file, capsys):
    for file, dtype in ((model_file, "float32"), (int8_file, "int8")):
        model = lenet5c.load(file)
        out, _ = run("info", file, capsys=capsys)
        assert out.endswith(f"\n\n{model.summary()}\n")
        found = json.loads(run("info", file, "--json", capsys=capsys)[0])
        assert (found["model"], found["dtype"]) == (file, dtype)
        assert found["bytes"] == Path(file).stat().st_size
        assert (found["input"], found["images"]) == ([1, 32, 32], [28, 28])
        assert (found["classes"], found["pixels"]) == (list(range(10)), "uint8")
        assert (found["trained_on"], found["epochs"]) == ("digits", 3)
        assert (found["parameters"], found["multiply_adds"]) == (61_706, 416_520)
        assert found.get("weight_bytes") == getattr(model, "weight_bytes", None)


def test_compare_measures_integers(int8_file, digits, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS_OF_A_RUN", 0.01)
    monkeypatch.setattr(measure, "RUNS", 1)
    found = comparison.measure(comparison.Job(int8_file, "digits", threads=1))
    expected = lenet5c.load(int8_file).evaluate(*digits.test)
    assert (found["loss"], found["accuracy"]) == expected[:2]
    assert (found["parameters"], found["multiply_adds"]) == (61_706, 416_520)
    assert found["model_bytes"] == Path(int8_file).stat().st_size
    assert found["inference_images_per_second"] > 0


def test_report_shows_integers(model_file, int8_file, digits, capsys):
    pytest.importorskip("matplotlib")
    out, _ = run("report", int8_file, "--json", capsys=capsys)
    pictures = {Path(picture).stem for picture in json.loads(out)["pictures"]}
    assert {"learning_curves", "filters", "feature_maps", "occlusion"} <= pictures
    page = Path("report.html").read_text("utf-8")
    small = lenet5c.load(int8_file)
    assert f"<dd>{small.evaluate(*digits.test).accuracy:.2%}</dd>" in page
    assert "61,706 <small>in int8</small>" in page
    run("report", model_file, int8_file, "--output", "both.html", capsys=capsys)
    assert "other.lenet5c" in Path("both.html").read_text("utf-8")
