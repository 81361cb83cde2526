"""The command `export`: what it writes, prints and refuses."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c.cli import main as cli
from lenet5c.data import datasets


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model of the digits, trained for a moment."""
    file = tmp_path_factory.mktemp("model") / "digits.lenet5c"
    model = lenet5c.lenet5()
    model.fit(*datasets.digits().train, epochs=3, threads=1)
    model.trained_on = "digits"
    model.save(file)
    return str(file)


def export(model_file, *options, capsys):
    """What `lenet5c export` prints: stdout as JSON if asked for."""
    code = cli.main(["export", model_file, *options])
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "")
    return json.loads(printed.out) if "--json" in options else printed.out


def refused(model_file, *options, capsys):
    """The one line with which it is refused."""
    try:
        code = cli.main(["export", model_file, *options])
    except SystemExit as stopped:  # by argparse
        code = stopped.code
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.startswith("lenet5c: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_onnx_is_written_beside_the_model(model_file, capsys):
    onnx = pytest.importorskip("onnx")
    output = Path(model_file).with_name("digits.onnx")
    found = export(model_file, "--to", "onnx", "--json", capsys=capsys)
    assert found == {
        "model": model_file,
        "to": "onnx",
        "output": str(output),
        "bytes": output.stat().st_size,
    }
    onnx.checker.check_model(str(output))
    content = output.read_bytes()
    printed = export(model_file, "--to", "onnx", "--output", "a.onnx", capsys=capsys)
    assert printed == f"Written to a.onnx, {len(content):,} bytes\n"
    assert Path("a.onnx").read_bytes() == content


def test_c_is_written_with_its_name(model_file, capsys):
    found = export(
        *(model_file, "--to", "c", "--output", "a.h", "--name", "digits", "--json"),
        capsys=capsys,
    )
    assert found["bytes"] == Path("a.h").stat().st_size
    assert "digits_predict" in Path("a.h").read_text()
    export(model_file, "--to", "c", capsys=capsys)
    beside = Path(model_file).with_name("digits.h").read_text()
    assert "network_predict" in beside
    assert "digits_predict" not in beside


def test_int8_says_what_it_costs(model_file, capsys):
    found = export(
        *(model_file, "--to", "c-int8", "--output", "a.h", "--name", "tiny", "--json"),
        capsys=capsys,
    )
    data = datasets.digits()
    model = lenet5c.load(model_file)
    assert found["test_accuracy_float32"] == model.evaluate(*data.test).accuracy
    assert found["test_images"] == len(data.test.images)
    assert 0 < found["calibration_images"] <= 1000
    assert abs(found["test_accuracy"] - found["test_accuracy_float32"]) < 0.02
    assert "tiny_predict" in Path("a.h").read_text()
    printed = export(model_file, "--to", "c-int8", capsys=capsys)
    output = Path(model_file).with_name("digits_int8.h")
    assert f"{found['test_accuracy']:.2%} in int8" in printed
    assert f"Written to {output}" in printed


def test_a_page_has_a_title_and_examples_if_asked_for(model_file, capsys):
    output = Path(model_file).with_name("digits.html")
    found = export(model_file, "--to", "page", "--json", capsys=capsys)
    assert (found["output"], found["bytes"]) == (str(output), output.stat().st_size)
    assert page_of(output)["examples"] == []
    export(
        *(model_file, "--to", "page", "--data", "digits", "--output", "a.html"),
        *("--title", "My <digits>"),
        capsys=capsys,
    )
    assert len(page_of("a.html")["examples"]) == 12
    assert "<title>My &lt;digits&gt;</title>" in Path("a.html").read_text()


def test_an_int8_page_says_what_it_costs(model_file, capsys):
    printed = export(
        *(model_file, "--to", "page-int8", "--output", "a.html"), capsys=capsys
    )
    assert "in int8" in printed
    assert printed.endswith(f"{Path('a.html').stat().st_size:,} bytes\n")
    page = page_of("a.html")
    assert page["integers"] is True
    assert page["examples"] == []


def test_an_int8_page_has_examples_if_data_is_named(model_file, capsys):
    """As a page of floats: no image is passed on that nobody asked for."""
    export(
        *(model_file, "--to", "page-int8", "--data", "digits", "--output", "a.html"),
        capsys=capsys,
    )
    assert len(page_of("a.html")["examples"]) == 12


def page_of(path):
    """What a page says of its network."""
    found = re.search(r'id="network">(.*)</script>', Path(path).read_text("utf-8"))
    return json.loads(found[1])


def test_calibration_images_are_from_all_over_the_training_images(
    model_file, monkeypatch, capsys
):
    seen = []

    def quantize(self, images, *, bits):
        seen.append(images)
        raise ValueError("enough")

    count = 3001
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(count) // 250
    labels = np.arange(count) % 10
    np.savez(
        "own.npz",
        x_train=images,
        y_train=labels,
        x_test=images[:10],
        y_test=labels[:10],
    )
    monkeypatch.setattr(lenet5c.Model, "quantize", quantize)
    message = refused(model_file, "--to", "c-int8", "--data", "own.npz", capsys=capsys)
    assert message == "lenet5c: error: enough\n"
    assert len(seen[0]) == 751  # every fourth: at most 1000
    assert set(seen[0][:, 0, 0]) == set(range(13))


def test_an_old_file_is_replaced(model_file, capsys):
    Path("a.h").write_text("old")
    export(model_file, "--to", "c", "--output", "a.h", capsys=capsys)
    assert "network_predict" in Path("a.h").read_text()


def test_what_does_not_fit_is_refused_in_one_line(model_file, capsys):
    wrong = [
        ([], "--to"),
        (["--to", "tflite"], "tflite"),
        (["--to", "c", "--name", "a b"], "name"),
        (["--to", "c", "--output", "nowhere/a.h"], "there is no folder nowhere"),
        (["--to", "c", "--output", "."], "is a folder"),
        (["--to", "onnx", "--name", "a"], "--name belongs to --to c"),
        (["--to", "page", "--name", "a"], "--name belongs to --to c"),
        (["--to", "c", "--title", "a"], "--title belongs to --to page"),
        (["--to", "onnx", "--output", model_file], "is the model itself"),
        (["--to", "c-int8", "--data", "nothing"], "nothing"),
    ]
    before = Path(model_file).read_bytes()
    for options, part in wrong:
        assert part in refused(model_file, *options, capsys=capsys)
    assert "missing.lenet5c" in refused("missing.lenet5c", "--to", "c", capsys=capsys)
    assert Path(model_file).read_bytes() == before
    assert not list(Path().iterdir())


def test_a_model_of_floats_cannot_be_made_of_integers(capsys):
    data = datasets.digits()
    model = lenet5c.lenet5()
    model.fit(
        data.train.images[:64] / 25.5, data.train.labels[:64], epochs=1, threads=1
    )
    model.trained_on = "digits"
    model.save("floats.lenet5c")
    assert "uint8" in refused("floats.lenet5c", "--to", "c-int8", capsys=capsys)


def test_the_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", "--help"])
    assert stopped.value.code == 0
    assert "examples:\n  lenet5c export lenet5.lenet5c --to onnx" in (
        capsys.readouterr().out
    )
