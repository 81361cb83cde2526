"""The command line: what each command prints, its exit codes, and what it refuses."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lenet5c
from lenet5c.cli import comparison, measure, settings
from lenet5c.cli import main as cli
from lenet5c.cli.evaluate import print_confusion
from lenet5c.cli.predict import Reader
from lenet5c.data import datasets
from lenet5c.training.options import FLAGS

COMMANDS = [command.NAME for command in cli.COMMANDS]
PYTHON = [sys.executable, "-m", "lenet5c"]
HANG = 120  # seconds; what is waited for takes one


@pytest.fixture(scope="module")
def digits():
    return datasets.digits()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model of the digits, trained by the command itself."""
    file = tmp_path_factory.mktemp("model") / "digits.lenet5c"
    options = ["--epochs", "10", "--threads", "1", "--output", str(file)]
    assert cli.main(["train", *options]) == 0
    return str(file)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "SECONDS_OF_A_RUN", 0.01)
    monkeypatch.setattr(measure, "RUNS", 1)


def run(*arguments, code=0, capsys):
    """Run a command in this process; return what it wrote to stdout and stderr."""
    capsys.readouterr()
    try:
        got = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        got = stop.code
    out, err = capsys.readouterr()
    assert got == code, err
    return out, err


def write_picture(file, pixels, mode=None):
    image = pytest.importorskip("PIL.Image").fromarray(pixels)
    (image.convert(mode) if mode else image).save(file)


def test_train_without_arguments_learns_the_digits(tmp_path):
    done = subprocess.run(
        [*PYTHON, "train"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy = float(re.search(r"Test accuracy (\S+)% on 360 images", done.stdout)[1])
    assert accuracy >= 97
    assert "Model written to lenet5.lenet5c" in done.stdout
    assert "61,706 parameters" in done.stderr
    assert len(re.findall(r"^epoch", done.stderr, re.M)) == 30
    model = lenet5c.load(tmp_path / "lenet5.lenet5c")
    test = datasets.digits().test
    assert round(100 * model.evaluate(*test).accuracy, 2) == accuracy


def test_a_training_that_diverges_fails_and_writes_nothing(folder, capsys):
    options = ["--learning-rate", "1e30", "--threads", 1]
    out, err = run("train", *options, code=1, capsys=capsys)
    assert out == ""
    last = err.splitlines()[-1]
    assert re.fullmatch(r"lenet5c: error: the loss became .* is not written", last)
    assert os.listdir() == []


def test_what_is_held_out_is_not_counted_as_trained_on(folder, capsys):
    options = ["--epochs", 1, "--threads", 1, "--validation", "0.5", "--json"]
    out, _ = run("train", *options, capsys=capsys)
    assert json.loads(out)["training_images"] == 1437 - round(1437 / 2)


def test_train_passes_every_option_on(folder, monkeypatch, capsys):
    seen = {}

    def fit(self, images, labels, **options):
        seen.update(options, model=self)
        raise ValueError("seen enough")

    monkeypatch.setattr(lenet5c.Model, "fit", fit)
    options = (
        "--network mlp --epochs 7 --batch-size 32 --optimizer adamw --learning-rate 1 "
        "--weight-decay .2 --schedule cosine --seed 5 --threads 1 --validation .25"
    )
    run("train", *options.split(), code=2, capsys=capsys)
    assert seen["model"].parameter_count == 79_510
    assert isinstance(seen["optimizer"], lenet5c.AdamW)
    assert seen["optimizer"].learning_rate == 1
    assert seen["optimizer"].weight_decay == 0.2
    assert (seen["epochs"], seen["batch_size"], seen["schedule"]) == (7, 32, "cosine")
    assert (seen["seed"], seen["threads"], seen["validation"]) == (5, 1, 0.25)
    run("train", "--momentum", "0.5", code=2, capsys=capsys)
    assert isinstance(seen["optimizer"], lenet5c.SGD)
    assert seen["optimizer"].momentum == 0.5


def options_of_fit(monkeypatch, capsys, options=""):
    """Return what `train` with these options gives to fit, and the new model."""
    seen = {}

    def fit(self, images, labels, **options):
        seen.update(options, model=self)
        raise ValueError("seen enough")

    with monkeypatch.context() as patch:
        patch.setattr(lenet5c.Model, "fit", fit)
        run("train", *options.split(), code=2, capsys=capsys)
    return seen


def test_train_for_few_bits(model_file, folder, capsys):
    options = ["--from", model_file, "--quantize", "ternary", "--epochs", "1"]
    out, _ = run("train", *options, "--output", "few", "--json", capsys=capsys)
    assert json.loads(out)["recipe"]["quantize"] == "ternary"
    model = lenet5c.load("few")
    assert model.rounding.bits == lenet5c.Bits("ternary")
    _, err = run(
        "train", "--quantize", "4", "--optimizer", "sdlm", code=2, capsys=capsys
    )
    assert "error: --quantize: expected an optimizer that asks for no" in err


def test_train_passes_every_new_option_on(folder, monkeypatch, capsys):
    options = (
        "--label-smoothing .1 --weight-average .99 --clip-norm 5 --accumulate 4 "
        "--class-weight balanced --early-stopping 3 --validation .1 --max-seconds 60 "
        "--checkpoint run --checkpoint-seconds 30 --resume --log run.jsonl "
        "--dropout .5 --schedule plateau --shift 1 --rotate 2 --scale .3 --shear 4 "
        "--elastic 34,5 --noise 6 --erase .7 --squeeze .8 --probability .9 --loss map"
    )
    seen = options_of_fit(monkeypatch, capsys, options)
    assert seen["label_smoothing"] == 0.1
    assert seen["weight_average"] == 0.99
    assert (seen["clip_norm"], seen["accumulate"]) == (5, 4)
    assert seen["loss"] == "map"
    assert (seen["class_weight"], seen["early_stopping"]) == ("balanced", 3)
    assert seen["max_seconds"] == 60
    assert seen["checkpoint"] == lenet5c.Checkpoint("run", 30)
    assert seen["resume"] is True
    assert (seen["log"], seen["schedule"]) == ("run.jsonl", "plateau")
    assert seen["augment"] == lenet5c.Augment(
        1, 2, 0.3, 4, (34, 5), 6, 0.7, squeeze=0.8, probability=0.9
    )
    (dropout,) = [
        layer for layer in seen["model"].layers if isinstance(layer, lenet5c.Dropout)
    ]
    assert dropout.rate == 0.5


def test_options_left_out_are_the_recipes(folder, monkeypatch, capsys):
    seen = options_of_fit(monkeypatch, capsys)
    assert (seen["recipe"], seen["augment"], seen["epochs"]) == ("default", False, None)
    names = ("batch_size", "schedule", "label_smoothing", "weight_average", "clip_norm")
    assert [seen[name] for name in names] == [None] * 5
    best = lenet5c.recipes.RECIPES["best"]
    seen = options_of_fit(monkeypatch, capsys, "--recipe best")
    assert (seen["recipe"], seen["epochs"]) == ("best", None)
    assert [seen[name] for name in names] == [None] * 5
    assert seen["augment"] == best.augment
    assert repr(seen["optimizer"]) == repr(best.optimizer())


def test_options_replace_what_the_recipe_has(folder, monkeypatch, capsys):
    best = lenet5c.recipes.RECIPES["best"]
    options = "--recipe best --epochs 2 --momentum .5 --shift 1"
    seen = options_of_fit(monkeypatch, capsys, options)
    assert seen["epochs"] == 2
    assert seen["optimizer"].momentum == 0.5
    assert seen["optimizer"].weight_decay == best.optimizer().weight_decay
    assert seen["augment"] == dataclasses.replace(best.augment, shift=1)
    options = "--recipe best --optimizer adamw --no-augment"
    seen = options_of_fit(monkeypatch, capsys, options)
    assert repr(seen["optimizer"]) == repr(lenet5c.AdamW())
    assert seen["augment"] is False


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", False),
        ("--augment", lenet5c.Augment()),
        ("--noise 3", lenet5c.Augment(noise=3)),
        ("--augment --shift 0", lenet5c.Augment(shift=0)),
        ("--elastic 34", lenet5c.Augment(elastic=34)),
        ("--no-augment", False),
    ],
)
def test_any_option_of_augmentation_turns_it_on(
    options, expected, folder, monkeypatch, capsys
):
    assert options_of_fit(monkeypatch, capsys, options)["augment"] == expected


@pytest.mark.parametrize(("network", "rate"), [("mlp", 0.05), ("cnn3", 0.02)])
@pytest.mark.parametrize("recipe", ["default", "best"])
def test_networks_of_relu_start_with_a_smaller_step(
    network, rate, recipe, folder, monkeypatch, capsys
):
    options = f"--network {network} --recipe {recipe}"
    seen = options_of_fit(monkeypatch, capsys, options)
    assert seen["optimizer"].learning_rate == rate


def test_settings_survive_the_way_to_a_child_process():
    said = {"recipe": "best", "augment": {"elastic": (34, 4)}, "seed": 7}
    recipe = settings.Settings(options=said)
    again = settings.Settings(**json.loads(json.dumps(dataclasses.asdict(recipe))))
    assert again.new_augment().for_core(lenet5c.data.images.InputStage()) == (
        recipe.new_augment().for_core(lenet5c.data.images.InputStage())
    )
    assert again.options["seed"] == 7


def test_a_training_that_was_stopped_is_resumed_to_the_same_model(
    folder, capsys, monkeypatch
):
    options = "--epochs 6 --threads 1 --augment --weight-average .9"
    run("train", *options.split(), "--output", "a", capsys=capsys)
    options += " --log b.jsonl --checkpoint run --output b"
    checkpointed = options.split()
    with monkeypatch.context() as patch:
        clock = SimpleNamespace(perf_counter=count().__next__)  # a second each look
        patch.setattr("lenet5c.training.loop.time", clock)
        out, _ = run("train", *checkpointed, "--max-seconds", "120", capsys=capsys)
    assert "Trained 2 of 6 epochs" in out
    assert Path("a").read_bytes() != Path("b").read_bytes()
    _, err = run("train", *checkpointed, code=2, capsys=capsys)
    assert err.splitlines()[-1] == (
        f"lenet5c: error: --checkpoint: {Path('run').absolute()} has checkpoints "
        "already; expected --resume, to go on from them, or another folder"
    )
    out, _ = run("train", *checkpointed, "--resume", capsys=capsys)
    assert "Trained 6 epochs" in out
    assert Path("a").read_bytes() == Path("b").read_bytes()
    lines = Path("b.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert epochs == [1, 2, 3, 4, 5, 6]
    out, _ = run("train", *checkpointed, "--resume", "--json", capsys=capsys)
    result = json.loads(out)
    assert (result["epochs"], result["training_images"]) == (6, 1437)
    assert result["training_images_per_second"] > 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_a_damaged_checkpoint_is_warned_of(folder, capsys):
    options = "--epochs 2 --threads 1 --checkpoint run"
    run("train", *options.split(), capsys=capsys)
    newest = max(Path("run").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    _, err = run("train", *options.split(), "--resume", capsys=capsys)
    (line,) = [line for line in err.splitlines() if "warning" in line]
    assert line.startswith(f"lenet5c: warning: {newest.absolute()} is left out")


def test_early_stopping_is_told(folder, capsys):
    options = "--epochs 99 --early-stopping 1 --validation .2 --threads 1"
    out, _ = run("train", *options.split(), "--json", capsys=capsys)
    result = json.loads(out)
    assert result["stopped_early"] is True
    assert len(result["history"]["loss"]) == result["epochs"] < 99
    out, _ = run("train", *options.split(), capsys=capsys)
    assert f"Trained {result['epochs']} of 99 epochs" in out


def test_the_json_of_a_training_has_all_its_settings(folder, capsys):
    options = "--epochs 1 --threads 1 --shift 1 --label-smoothing .1 --json"
    out, _ = run("train", *options.split(), capsys=capsys)
    result = json.loads(out)
    assert result["augment"] == dataclasses.asdict(lenet5c.Augment(shift=1))
    assert result["recipe"]["label_smoothing"] == 0.1
    assert result["stopped_early"] is False
    own = {field.name for field in dataclasses.fields(settings.Settings)}
    assert set(result["recipe"]) == own - {"options"} | FLAGS.keys()


def test_a_training_that_ends_at_once_is_no_error(folder, capsys):
    options = "--max-seconds 0 --threads 1"
    out, _ = run("train", *options.split(), capsys=capsys)
    assert re.search("Trained 0( of 30)? epochs", out)


def test_one_epoch_is_no_epochs(folder, capsys):
    out, _ = run("train", "--epochs", "1", "--threads", "1", capsys=capsys)
    assert out.startswith("Trained 1 epoch in ")


def test_a_file_that_is_replaced_is_told(folder, capsys):
    options = ["--epochs", "1", "--threads", "1"]
    out, _ = run("train", *options, capsys=capsys)
    assert out.endswith("Model written to lenet5.lenet5c\n")
    out, _ = run("train", *options, capsys=capsys)
    told = "Model written to lenet5.lenet5c, in place of the file that was there\n"
    assert out.endswith(told)
    for output, replaced in (("lenet5.lenet5c", True), ("other", False)):
        command = ["train", *options, "--json", "--output", output]
        out, _ = run(*command, capsys=capsys)
        assert json.loads(out)["replaced"] is replaced


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_fits_80_columns(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = run(command, "--help", capsys=capsys)
    assert max(map(len, out.splitlines())) <= 80


def test_the_help_of_train_is_in_groups(capsys):
    out, _ = run("train", "--help", capsys=capsys)
    groups = re.findall(r"^(\w.*):$", out, re.M)
    assert groups == [
        *("options", "training", "when to stop", "regularisation"),
        *("augmentation", "checkpoints and log", "examples"),
    ]


def test_report_has_the_curves_of_the_model_file(model_file, folder, capsys):
    pytest.importorskip("matplotlib")
    out, _ = run("report", model_file, "--json", capsys=capsys)
    assert "report_files/learning_curves.png" in json.loads(out)["pictures"]
    page = Path("report.html").read_text("utf-8")
    assert f"{len(lenet5c.load(model_file).history)} epoch" in page


def test_report_compares_models(model_file, digits, folder, capsys):
    pytest.importorskip("matplotlib")
    model = lenet5c.lenet5(activation="relu")
    model.fit(*digits.train, epochs=1, threads=1)
    model.save("other.lenet5c")
    options = ["--data", "digits", "--threads", 1, "--json"]
    out, err = run("report", model_file, "other.lenet5c", *options, capsys=capsys)
    found = json.loads(out)
    assert (found["models"], found["images"]) == ([model_file, "other.lenet5c"], 360)
    assert "testing other.lenet5c on 360 images" in err
    page = Path("report.html").read_text("utf-8")
    title = "digits.lenet5c, other.lenet5c on the 360 test images of digits"
    assert f"<h1>{title}</h1>" in page
    accuracy = model.evaluate(*digits.test).accuracy
    assert f"<td>{accuracy:.2%}</td>" in page
    _, err = run("report", model_file, "other.lenet5c", code=2, capsys=capsys)
    assert "on digits, other.lenet5c on unknown data; expected the data as well" in err
    os.mkdir("sub")
    model.save("sub/other.lenet5c")
    run("report", "other.lenet5c", "sub/other.lenet5c", *options, capsys=capsys)
    assert "Only sub/other.lenet5c is right" in Path("report.html").read_text("utf-8")


def test_report_writes_a_page_and_its_pictures(model_file, digits, folder, capsys):
    pytest.importorskip("matplotlib")
    Path("run.jsonl").write_text('{"epoch": 1, "loss": 1.5, "accuracy": 0.5}\n')
    arguments = ["report", model_file, "--threads", 1, "--history", "run.jsonl"]
    out, err = run(*arguments, "--json", capsys=capsys)
    found = json.loads(out)
    assert (found["page"], found["images"]) == ("report.html", 360)
    assert sorted(os.listdir("report_files")) == [
        os.path.basename(picture) for picture in found["pictures"]
    ]
    assert len(found["pictures"]) == 8
    assert len(err.splitlines()) == 9
    page = Path("report.html").read_text("utf-8")
    accuracy = lenet5c.load(model_file).evaluate(*digits.test).accuracy
    assert f"<dd>{accuracy:.2%}</dd>" in page
    assert "<h1>digits.lenet5c on the 360 test images of digits</h1>" in page
    options = ["--output", "folder", "--title", "<mine>", "--split", "train"]
    out, _ = run("report", model_file, *options, capsys=capsys)
    assert out == "Report written to folder/report.html, its pictures to " + (
        "folder/report_files\n"
    )
    assert "<h1>&lt;mine&gt;</h1>" in Path("folder/report.html").read_text("utf-8")
    out, _ = run("report", model_file, *options, capsys=capsys)
    assert out.endswith("report_files, in place of those that were there\n")


def test_augment_draws_images_of_each_class_in_turn(folder, digits, capsys):
    pytest.importorskip("matplotlib")
    options = "--count 12 --variants 1 --shift 3 --elastic 34,4 --seed 1"
    out, _ = run(
        "augment", *options.split(), "--output", "a.png", "--json", capsys=capsys
    )
    found = json.loads(out)
    assert found["labels"] == [*range(10), 0, 1]
    assert digits.train.labels[found["images"]].tolist() == found["labels"]
    assert found["augment"] == {
        **dataclasses.asdict(lenet5c.Augment(shift=3)),
        "elastic": [34, 4],
    }
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    run("augment", *options.split(), "--output", "b.png", capsys=capsys)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    run(
        "augment",
        *options.replace("--seed 1", "--seed 2").split(),
        "--output",
        "c.png",
        capsys=capsys,
    )
    assert Path("a.png").read_bytes() != Path("c.png").read_bytes()


def test_augment_takes_flat_and_coloured_images(folder, capsys):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    for name, shape in (("flat", (64,)), ("colour", (3, 8, 8))):
        images = rng.integers(0, 256, (10, *shape)).astype(np.uint8)
        labels = np.array(["cat", "dog"])[np.arange(10) % 2]
        np.savez(f"{name}.npz", images=images, labels=labels)
        options = ["--data", f"{name}.npz", "--count", 2, "--output", f"{name}.svg"]
        run("augment", *options, capsys=capsys)
        assert Path(f"{name}.svg").read_bytes().startswith(b"<?xml")


def test_pictures_without_matplotlib_say_what_to_install(
    model_file, folder, monkeypatch, capsys
):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    for arguments in (["report", model_file], ["augment"]):
        _, err = run(*arguments, code=2, capsys=capsys)
        assert "pip install 'lenet5c[plots]'" in err
    assert os.listdir() == []


def test_the_same_seed_writes_the_same_model_on_any_number_of_threads(folder, capsys):
    for name, seed, threads in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        options = ["--epochs", 1, "--seed", seed, "--threads", threads]
        run("train", *options, "--output", name, capsys=capsys)
    a, b, c = (Path(name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("options", [[], ["--validation", "0.2"]])
def test_each_epoch_is_printed_once(folder, options, capsys):
    out, err = run("train", "--epochs", 2, "--threads", 1, *options, capsys=capsys)
    lines = [line for line in (out + err).splitlines() if "loss" in line]
    assert [line[:9] for line in lines] == ["Test accu", "epoch 1/2", "epoch 2/2"]
    assert ("validation" in lines[1]) == bool(options)


def interrupt(arguments, after, cwd):
    """Start a command, send Ctrl-C when stderr shows `after`; return its end."""
    with subprocess.Popen(
        [*PYTHON, *arguments.split()],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stderr:
            if after in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=HANG)
        return process.returncode, out, err


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_saves_the_model_trained_so_far(tmp_path, digits):
    """Beside a finished one, which it might be worse than."""
    (tmp_path / "lenet5.lenet5c").write_bytes(b"a finished model")
    code, out, err = interrupt(
        "train --epochs 1000000 --schedule constant --threads 1",
        "epoch      20/",
        tmp_path,
    )
    assert code == 130
    assert out == ""
    last = [line for line in err.splitlines() if not line.startswith("epoch ")]
    assert len(last) == 1
    assert re.fullmatch(
        r"lenet5c: interrupted in epoch \d+ of 1000000; "
        r"the model trained so far is saved in lenet5\.lenet5c\.interrupted",
        last[0],
    )
    model = lenet5c.load(tmp_path / "lenet5.lenet5c.interrupted")
    assert model.evaluate(*digits.test).accuracy > 0.9
    assert (tmp_path / "lenet5.lenet5c").read_bytes() == b"a finished model"


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_in_compare_ends_the_child_too(tmp_path):
    code, out, err = interrupt(
        "compare --epochs 1000000 --threads 1", "epoch", tmp_path
    )
    assert code == 130
    assert out == ""
    last = [line for line in err.splitlines() if "epoch " not in line]
    assert last == ["lenet5c: interrupted"]


def test_evaluate_shows_what_model_evaluate_returns(model_file, digits, capsys):
    out, err = run("evaluate", model_file, capsys=capsys)
    expected = lenet5c.load(model_file).evaluate(*digits.test)
    assert f"Accuracy {expected.accuracy:.2%} on 360 test images" in out
    assert f"loss {expected.loss:.4f}" in out
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    rows = [row for row in rows if len(row) == 13 and row[0].isdigit()]
    shown = [[0 if cell == "." else int(cell) for cell in row[1:11]] for row in rows]
    assert shown == expected.confusion.tolist()
    recall = expected.confusion.diagonal() / expected.confusion.sum(axis=1)
    precision = expected.confusion.diagonal() / expected.confusion.sum(axis=0)
    assert [row[11] for row in rows] == [f"{share:.1%}" for share in recall]
    assert [row[12] for row in rows] == [f"{share:.1%}" for share in precision]


def test_evaluate_on_the_training_images(model_file, digits, capsys):
    out, _ = run("evaluate", model_file, "--split", "train", "--json", capsys=capsys)
    assert json.loads(out)["images"] == len(digits.train.images)


def test_at_least_decides_the_exit_code(model_file, capsys):
    run("evaluate", model_file, "--at-least", "0.9", capsys=capsys)
    out, err = run("evaluate", model_file, "--at-least", 1, code=1, capsys=capsys)
    assert "Accuracy" in out
    assert re.fullmatch(r"lenet5c: check failed: accuracy 0\.\d+ is below 1\n", err)
    out, _ = run(
        "evaluate", model_file, "--at-least", 1, "--json", code=1, capsys=capsys
    )
    assert json.loads(out)["passed"] is False


def test_many_classes_are_listed_with_their_commonest_mistake(capsys):
    classes = np.array([f"sign {k}" for k in range(20)])
    confusion = np.diag(np.arange(20) + 1)
    confusion[3, 7], confusion[3, 8] = 2, 4
    print_confusion(classes, confusion)
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["class", "images", "recall", "precision"]
    assert len(rows) == 20
    assert rows[3].split() == ["sign", "3", "10", "40.0%", "100.0%", "sign", "8", "(4)"]
    assert rows[4].split() == ["sign", "4", "5", "100.0%", "100.0%"]


def probabilities(out):
    return [
        [(top["class"], top["probability"]) for top in prediction["top"]]
        for prediction in json.loads(out)["predictions"]
    ]


def test_predict_shows_the_most_probable_classes(model_file, digits, folder, capsys):
    np.save("images.npy", digits.test.images[:5])
    out, err = run("predict", model_file, "images.npy", "--json", capsys=capsys)
    assert err == ""
    expected = lenet5c.load(model_file).predict_proba(digits.test.images[:5])
    found = probabilities(out)
    assert len(found) == 5
    for tops, row in zip(found, expected, strict=True):
        assert [p for _, p in tops] == pytest.approx(np.sort(row)[::-1][:3], rel=1e-5)
        assert tops[0][0] == int(row.argmax())
    out, _ = run("predict", model_file, "images.npy", "--top", 2, capsys=capsys)
    header, *rows = out.splitlines()
    assert header.split() == ["image", "class", "#2"]
    assert rows[4].startswith("images.npy [4]")
    assert rows[4].split()[2] == str(found[4][0][0])
    assert rows[4].split()[3] == f"{found[4][0][1]:.2%}"


def test_top_is_at_most_the_number_of_classes(model_file, digits, folder, capsys):
    np.save("images.npy", digits.test.images[0])
    out, _ = run(
        "predict", model_file, "images.npy", "--top", 99, "--json", capsys=capsys
    )
    (tops,) = probabilities(out)
    assert sorted(name for name, _ in tops) == list(range(10))
    assert sum(p for _, p in tops) == pytest.approx(1, abs=1e-5)


def test_every_kind_of_file_gives_the_same_prediction(
    model_file, digits, folder, capsys
):
    image = digits.test.images[3].copy()
    image[image == image.max()] = 255
    np.save("a.npy", image)
    datasets.write_idx("a-idx3-ubyte", image[np.newaxis])
    datasets.write_idx("a-idx3-ubyte.gz", image[np.newaxis])
    write_picture("grey.png", image)
    write_picture("colour.png", image, "RGB")
    assert (image.min(), image.max()) == (0, 255)
    write_picture("sixteen.png", image.astype(np.uint16) * 256 + 37)
    write_picture("no_suffix.png", image)
    os.rename("no_suffix.png", "no_suffix")
    files = sorted(os.listdir())
    out, _ = run("predict", model_file, *files, "--json", capsys=capsys)
    first, *others = probabilities(out)
    assert len(others) == 6
    for other in others:
        assert other == first


def test_invert_swaps_light_and_dark(model_file, digits, folder, capsys):
    image = digits.test.images[3]
    np.save("a.npy", image)
    np.save("dark.npy", 255 - image)
    write_picture("dark.png", 255 - image)
    out, _ = run("predict", model_file, "a.npy", "--json", capsys=capsys)
    (expected,) = probabilities(out)
    out, _ = run(
        "predict",
        model_file,
        "--invert",
        "dark.npy",
        "dark.png",
        "--json",
        capsys=capsys,
    )
    assert probabilities(out) == [expected, expected]
    out, _ = run("predict", model_file, "dark.npy", "--json", capsys=capsys)
    assert probabilities(out) != [expected]


def test_transparent_paper_is_white(model_file, digits, folder, capsys):
    image = digits.test.images[3]
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[..., 3] = image
    write_picture("ink.png", ink)
    np.save("a.npy", image)
    out, _ = run("predict", model_file, "--invert", "ink.png", "--json", capsys=capsys)
    ink_found = probabilities(out)
    out, _ = run("predict", model_file, "a.npy", "--json", capsys=capsys)
    assert ink_found == probabilities(out)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_large_picture_is_brought_to_the_size_of_the_model(
    model_file, digits, folder, suffix, capsys
):
    images = digits.test.images[:20]
    files = []
    for index, image in enumerate(images):
        files.append(f"{index}.{suffix}")
        write_picture(files[-1], np.kron(image, np.ones((9, 9), np.uint8)))
    out, _ = run("predict", model_file, *files, "--json", capsys=capsys)
    found = [tops[0][0] for tops in probabilities(out)]
    expected = lenet5c.load(model_file).predict(images)
    assert (found == expected).mean() >= 0.95


def images_of(file, model):
    return Reader(model, invert=False, prepare=False, many=False).read(file)[0]


def test_a_picture_keeps_its_aspect(folder, model_file):
    model = lenet5c.load(model_file)
    write_picture("wide.png", np.zeros((100, 400), np.uint8))
    assert images_of("wide.png", model).shape == (1, 1, 7, 28)
    write_picture("high.png", np.zeros((400, 100), np.uint8))
    assert images_of("high.png", model).shape == (1, 1, 28, 7)
    write_picture("tiny.png", np.zeros((8, 8), np.uint8))
    assert images_of("tiny.png", model).shape == (1, 1, 28, 28)


def test_a_colour_model_sees_colours(folder):
    model = lenet5c.lenet5(channels=3)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_picture("colour.png", pixels)
    images = images_of("colour.png", model)
    np.testing.assert_array_equal(images[0], pixels.transpose(2, 0, 1))


def test_dark_ink_on_light_paper_is_noticed(model_file, digits, folder, capsys):
    image = digits.test.images[3]
    write_picture("dark_ink.png", 255 - image)
    write_picture("light_ink.png", image)
    _, err = run("predict", model_file, "dark_ink.png", capsys=capsys)
    assert re.fullmatch(r"lenet5c: note: dark_ink\.png .*--invert.*\n", err)
    for arguments in (["light_ink.png"], ["dark_ink.png", "--invert"]):
        assert run("predict", model_file, *arguments, capsys=capsys)[1] == ""


def test_class_names_are_shown_as_they_were_given_to_fit(folder, digits, capsys):
    names = np.array(["zero", "one", "two"])
    some = digits.train.labels < 3
    model = lenet5c.lenet5(classes=3)
    model.fit(
        digits.train.images[some], names[digits.train.labels[some]], epochs=3, threads=1
    )
    model.save("names.lenet5c")
    np.save("two.npy", digits.train.images[digits.train.labels == 2][0])
    out, _ = run("predict", "names.lenet5c", "two.npy", "--json", capsys=capsys)
    assert json.loads(out)["predictions"][0]["class"] == "two"


@pytest.mark.skipif(os.name == "nt", reason="pipes of a POSIX shell")
def test_a_reader_that_stops_early_is_no_error(model_file, digits, folder):
    np.save("images.npy", digits.test.images)
    command = " ".join([*PYTHON, "predict", model_file, *["images.npy"] * 30])
    found = subprocess.run(
        ["sh", "-c", f"({command}; echo $? >&2) | head -n 2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(found.stdout.splitlines()) == 2
    assert found.stderr == "0\n"


def test_bench_measures_training_prediction_and_one_image(quick, capsys):
    out, err = run("bench", "--threads", 1, "--json", capsys=capsys)
    found = json.loads(out)
    assert found["isa"] == lenet5c.build_info()["isa"]
    assert found["threads"] == 1
    assert [(of["what"], of["batch_size"]) for of in found["speeds"]] == [
        ("training", 32),
        ("training", 64),
        ("training", 256),
        ("predict", 1000),
    ]
    for of, operations in zip(
        found["speeds"], [1_131_960] * 3 + [416_520], strict=True
    ):
        assert of["gflops"] == pytest.approx(
            2e-9 * operations * of["images_per_second"], rel=1e-6
        )
    assert found["latency_seconds"] > 0
    assert len(err.splitlines()) == 4
    out, _ = run("bench", "--network", "mlp", "--threads", 1, capsys=capsys)
    assert "training, batch 256" in out
    assert "One image:" in out


def test_info_shows_the_core_the_machine_and_the_data(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LENET5C_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    for file in datasets.IDX_FILES:
        (tmp_path / "mnist" / file).touch()
    out, _ = run("info", "--json", capsys=capsys)
    info = json.loads(out)
    for name, value in lenet5c.build_info().items():
        assert info[name] == (list(value) if isinstance(value, tuple) else value)
    assert info["numpy"] == np.__version__
    assert info["cpu"]
    assert info["data"] == {
        "LENET5C_DATA": str(tmp_path),
        "mnist": str(tmp_path / "mnist"),
        "fashion-mnist": None,
    }
    out, _ = run("info", capsys=capsys)
    assert str(tmp_path) in out


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_the_only_thing_on_stdout(
    command, model_file, digits, folder, quick, monkeypatch, capsys
):
    np.save("images.npy", digits.test.images[:2])
    arguments = {
        "train": ["--epochs", 1],
        "evaluate": [model_file],
        "predict": [model_file, "images.npy"],
        "report": [model_file],
        "augment": ["--count", 2, "--variants", 1],
        "quantize": [model_file, "--output", "small.lenet5c"],
        "export": [model_file, "--to", "c"],
    }.get(command, [])
    if command in ("report", "augment"):
        pytest.importorskip("matplotlib")
    measured = {"seed": 0, "accuracy": 0.5, "training_seconds": 1.0}
    measured |= dict.fromkeys(
        [
            *("loss", "training_images_per_second"),
            *("inference_images_per_second", "peak_memory_bytes"),
        ],
        1,
    )
    monkeypatch.setattr(comparison, "measure_in_child", lambda job, bar: measured)
    if command in ("train", "compare", "bench"):
        arguments += ["--threads", 1]
    out, _ = run(command, *arguments, "--json", capsys=capsys)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert isinstance(json.loads(out, parse_constant=refuse), dict)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_in_the_help_are_accepted(command, capsys):
    out, _ = run(command, "--help", capsys=capsys)
    examples = out.partition("examples:")[2].split("\n")
    examples = [line for line in examples if line.strip()]
    assert examples
    for example in examples:
        words = re.search(rf'lenet5c ({command}\b.*?)(\)"|$)', example)  # $() or not
        assert words, example
        cli._parser().parse_args(words[1].split())


def test_the_version_is_that_of_the_package(capsys):
    out, _ = run("--version", capsys=capsys)
    assert out == f"lenet5c {lenet5c.build_info()['version']}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required"),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--epoch", "3"], "unrecognized arguments: --epoch"),
        (["train", "--epochs", "0"], "--epochs: expected a whole number above 0"),
        (["train", "--epochs", "1.5"], "--epochs: expected a whole number above 0"),
        (["train", "--batch-size", "-1"], "--batch-size: expected"),
        (["train", "--learning-rate", "nan"], "--learning-rate: expected"),
        (["train", "--learning-rate", "inf"], "--learning-rate: expected"),
        (["train", "--momentum", "1"], "--momentum: expected"),
        (["train", "--weight-decay", "-1"], "--weight-decay: expected"),
        (["train", "--validation", "1"], "--validation: expected a fraction"),
        (["train", "--seed", "x"], "--seed: expected"),
        (["train", "--threads", "0"], "--threads: expected"),
        (["train", "--network", "vgg"], "invalid choice: 'vgg'"),
        (["train", "--momentum", ".5", "--optimizer", "adamw"], "adamw has none"),
        (
            ["train", "--weight-decay", ".5", "--recipe", "1998"],
            "sgd or adamw; sdlm has",
        ),
        (["train", "--data", "nothing"], "fashion-mnist"),
        (["train", "--data", "text.txt"], "text.txt"),
        (["train", "--output", "no/folder/x"], "there is no folder"),
        (["train", "--output", "."], "is a folder"),
        (["train", "--recipe", "worst"], "invalid choice: 'worst'"),
        (["train", "--label-smoothing", "1"], "--label-smoothing: expected"),
        (["train", "--weight-average", "1"], "--weight-average: expected"),
        (["train", "--clip-norm", "0"], "--clip-norm: expected"),
        (["train", "--accumulate", "0"], "--accumulate: expected"),
        (["train", "--dropout", "1"], "--dropout: expected"),
        (["train", "--dropout", ".1", "--network", "mlp"], "--dropout belongs to"),
        (["train", "--class-weight", "even"], "--class-weight: invalid choice"),
        (["train", "--early-stopping", "0"], "--early-stopping: expected"),
        (["train", "--early-stopping", "3"], "--early-stopping needs --validation"),
        (["train", "--schedule", "plateau"], "--schedule plateau needs --validation"),
        (["train", "--max-seconds", "-1"], "--max-seconds: expected"),
        (["train", "--resume"], "--resume needs --checkpoint"),
        (["train", "--checkpoint-seconds", "9"], "-seconds needs --checkpoint"),
        (["train", "--checkpoint", "text.txt"], "--checkpoint text.txt is a file"),
        (["train", "--log", "no/folder/x"], "--log no/folder/x: there is no folder"),
        (["train", "--log", "."], "--log . is a folder"),
        (["train", "--shift", "-1"], "--shift: expected"),
        (["train", "--rotate", "361"], "--rotate: expected"),
        (["train", "--shear", "90"], "--shear: expected"),
        (["train", "--scale", "1"], "--scale: expected"),
        (["train", "--squeeze", "1"], "--squeeze: expected"),
        (["train", "--probability", "2"], "--probability: expected"),
        (["train", "--elastic", "1,2,3"], "--elastic: expected ALPHA"),
        (["train", "--elastic", "x"], "--elastic: expected ALPHA"),
        (["train", "--elastic", "34,99"], "--elastic: expected a sigma"),
        (["train", "--noise", "nan"], "--noise: expected"),
        (["train", "--erase", "1.1"], "--erase: expected"),
        (["train", "--no-augment", "--shift", "1"], "--shift and --no-augment"),
        (["augment", "--output", "a.txt"], "--output a.txt: expected a name"),
        (["augment", "--output", "no/a.png"], "there is no folder"),
        (["augment", "--count", "0"], "--count: expected"),
        (["augment", "--variants", "17"], "--variants: expected"),
        (["report", "MODEL", "--output", "no/folder"], "there is no folder"),
        (["report", "MODEL", "--output", "no/x.html"], "there is no folder"),
        (["report", "MODEL", "--history", "text.txt"], "text.txt: line 1"),
        (["report", "text.txt"], "text.txt"),
        (
            ["report", "MODEL", "lenet5.lenet5c", "--history", "text.txt"],
            "--history: expected one model",
        ),
        (["evaluate", "missing.lenet5c"], "missing.lenet5c: No such file"),
        (["evaluate", "text.txt"], "text.txt"),
        (["evaluate", "MODEL", "--at-least", "99"], "--at-least: expected a fraction"),
        (["predict", "MODEL"], "required: FILE"),
        (["predict", "MODEL", "missing.png"], "missing.png: No such file"),
        (["predict", "MODEL", "text.txt"], "text.txt: expected a PNG or JPEG"),
        (["predict", "MODEL", "."], "text.txt: expected a PNG or JPEG"),
        (["predict", "MODEL", "empty"], "empty: expected a folder with pictures"),
        (["predict", "MODEL", "objects.npy"], "objects.npy"),
        (["predict", "MODEL", "short.npy"], "short.npy"),
        (["predict", "MODEL", "short.gz"], "short.gz"),
        (["predict", "MODEL", "large.npy"], "large.npy"),
        (["predict", "MODEL", "float.npy", "--invert"], "expected uint8"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(arguments, said, model_file, folder, capsys):
    Path("text.txt").write_text("neither a model nor a picture\n")
    Path("empty").mkdir()
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save("large.npy", np.zeros((1, 100, 100), np.uint8))
    np.save("float.npy", np.zeros((1, 28, 28), np.float32))
    Path("short.npy").write_bytes(Path("large.npy").read_bytes()[:-1])
    datasets.write_idx("whole.gz", np.zeros((1, 28, 28), np.uint8))
    Path("short.gz").write_bytes(Path("whole.gz").read_bytes()[:-9])
    arguments = [model_file if word == "MODEL" else word for word in arguments]
    out, err = run(*arguments, code=2, capsys=capsys)
    assert out == ""
    *before, last = err.splitlines()
    assert not before
    assert last.startswith("lenet5c: error: ")
    assert said in last


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(FileNotFoundError):
        cli.main(["evaluate", "missing.lenet5c", "--debug"])


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from lenet5c.cli import main as cli\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'PIL', 'sklearn', 'matplotlib', 'logging', 'subprocess'}\n"
        "heavy |= {'importlib.metadata', 'lenet5c.report.page', 'lenet5c.plots'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_everything_works_without_the_extras_of_the_command_line(
    model_file, folder, digits, monkeypatch, capsys
):
    for name in ("rich", "rich.console", "rich.progress", "rich.table", "PIL"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run("train", "--epochs", 1, "--threads", 1, capsys=capsys)
    out, _ = run("evaluate", model_file, capsys=capsys)
    assert "recall" in out
    np.save("a.npy", digits.test.images[0])
    run("predict", model_file, "a.npy", capsys=capsys)
    Path("a.png").write_bytes(b"\x89PNG\r\n")
    _, err = run("predict", model_file, "a.png", code=2, capsys=capsys)
    assert "pip install 'lenet5c[images]'" in err


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
def test_on_a_terminal_there_is_a_live_bar_below_a_line_for_each_epoch(folder):
    pytest.importorskip("rich")
    import pty

    master, slave = pty.openpty()
    with subprocess.Popen(
        [*PYTHON, "train", "--epochs", "3", "--threads", "1", "--validation", "0.2"],
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:  # Linux' end of file
                break
            if not chunk:
                break
            shown += chunk
    os.close(master)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    for word in ("epoch 1/3 ", "━", "img/s", "left", "Test accuracy"):
        assert word in text
    for epoch in (1, 2, 3):
        line = rf"epoch {epoch}/3  loss \S+  accuracy \S+  validation "
        assert len(re.findall(line, text)) == 1
    assert max(len(line) for line in re.split("[\r\n]", text)) <= 80
