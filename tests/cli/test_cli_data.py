"""The command line with people's own data: pictures, tables, folders, models."""

import html
import json
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c.cli import main as cli
from lenet5c.data import datasets

from .test_cli import run

Image = pytest.importorskip("PIL.Image")
DIGITS = datasets.digits()


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A model of the digits, trained by the command itself."""
    file = tmp_path_factory.mktemp("model") / "digits.lenet5c"
    options = ["--epochs", "12", "--threads", "1", "--output", str(file)]
    assert cli.main(["train", *options]) == 0
    return file


def pictures(place, images, labels, *, by_class=True):
    """A folder of pictures, one folder for each class."""
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = Path(place, str(label)) if by_class else Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:03}.png")


def on_paper(image, side=200):
    """Dark ink on light paper, somewhere on a larger sheet."""
    sheet = np.full((side, side), 230, np.uint8)
    large = np.asarray(
        Image.fromarray(image).resize((90, 90), Image.Resampling.BICUBIC)
    )
    sheet[70:160, 40:130] -= (large * 0.8).astype(np.uint8)
    return sheet


# The model's own data


def test_evaluate_takes_the_data_that_the_model_was_trained_on(
    model_file, capsys, tmp_path
):
    out, err = run("evaluate", model_file, "--json", capsys=capsys)
    assert (json.loads(out)["data"], err) == ("digits", "")
    np.savez("mine.npz", images=DIGITS.test.images, labels=DIGITS.test.labels)
    train = ["train", "--data", "mine.npz", "--epochs", 1, "--output", "m"]
    run(*train, capsys=capsys)
    out, _ = run("evaluate", "m", "--json", capsys=capsys)
    assert json.loads(out)["data"] == str(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    "command",
    [
        *(["evaluate"], ["report"]),
        *(["export", "--to", "c-int8"], ["export", "--to", "page-int8"]),
    ],
)
def test_a_model_that_does_not_say_what_it_was_trained_on_is_asked_for(command, capsys):
    lenet5c.lenet5().save("m.lenet5c")
    name, *options = command
    _, err = run(name, "m.lenet5c", *options, code=2, capsys=capsys)
    assert "--data: m.lenet5c does not say what it was trained on" in err


def test_data_that_are_gone_are_named(capsys, tmp_path):
    model = lenet5c.lenet5()
    model.trained_on = str(tmp_path / "gone.npz")
    model.save("m.lenet5c")
    _, err = run("evaluate", "m.lenet5c", code=2, capsys=capsys)
    assert "gone.npz" in err
    assert "--data names other data" in err


# Training


def test_labels_that_training_lacks_are_refused_before_it(capsys):
    test = np.where(DIGITS.test.labels == 3, 77, DIGITS.test.labels)
    arrays = dict(zip(["x_train", "y_train"], DIGITS.train, strict=True))
    np.savez("d.npz", **arrays, x_test=DIGITS.test.images, y_test=test)
    _, err = run("train", "--data", "d.npz", "--output", "m", code=2, capsys=capsys)
    assert err.count("\n") == 1
    assert "the test images have labels that the training images lack: 77" in err
    assert not Path("m").exists()


def test_broken_pictures_are_named_together_or_left_out(capsys):
    pictures("mine", DIGITS.train.images[:80], DIGITS.train.labels[:80])
    for name in ("a.png", "b.jpg"):
        Path("mine", "3", name).write_bytes(b"not a picture")
    train = ["train", "--data", "mine", "--epochs", 1, "--output", "m"]
    _, err = run(*train, code=2, capsys=capsys)
    assert "a.png" in err
    assert "b.jpg" in err
    _, err = run(*train, "--skip-broken", capsys=capsys)
    assert "a.png" in err
    out, _ = run("evaluate", "m", "--skip-broken", "--json", capsys=capsys)
    assert json.loads(out)["images"] > 5


def test_size_and_channels_of_pictures(capsys):
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (24, 50, 70, 3), dtype=np.uint8)
    pictures("photos", large, np.arange(24) % 2)
    options = ["--size", "40x48", "--channels", 3, "--epochs", 1, "--output", "m"]
    run("train", "--data", "photos", *options, capsys=capsys)
    model = lenet5c.load("m")
    assert model.input_shape == (3, 44, 52)
    assert model.source == (40, 48)
    out, _ = run("evaluate", "m", "--json", capsys=capsys)  # in the model's size
    assert json.loads(out)["images"] == 4
    run("predict", "m", "photos/0/000.png", capsys=capsys)
    for wrong in ("0", "3x", "1x2x3", "-4", "big"):
        _, err = run("train", "--size", wrong, code=2, capsys=capsys)
        assert "--size: expected PIXELS or ROWSxCOLUMNS" in err
    _, err = run("train", "--size", "40", code=2, capsys=capsys)  # of the digits
    assert "size: expected None" in err


def test_validation_folders_are_measured(capsys):
    for part, start in (("train", 0), ("val", 100), ("test", 200)):
        chosen = slice(start, start + 60)
        pictures(f"d/{part}", DIGITS.train.images[chosen], DIGITS.train.labels[chosen])
    train = ["train", "--data", "d", "--epochs", 2, "--output", "m", "--json"]
    out, _ = run(*train, capsys=capsys)
    assert len(json.loads(out)["history"]["validation_loss"]) == 2


def test_training_goes_on_from_a_model(model_file, capsys):
    np.savez("more.npz", images=DIGITS.test.images, labels=DIGITS.test.labels)
    options = ["--data", "more.npz", "--epochs", 1, "--learning-rate", 1e-6]
    out, err = run(
        *("train", "--from", model_file, *options, "--output", "m", "--json"),
        capsys=capsys,
    )
    found = json.loads(out)
    assert found["test_accuracy"] > 0.9  # one epoch alone would not get there
    assert found["recipe"]["start"] == str(model_file)
    assert str(model_file) in err
    before, after = lenet5c.load(model_file), lenet5c.load("m")
    assert after.passes == before.passes + 1
    assert after.stage == before.stage
    for wrong, said in (
        (["--network", "mlp"], "not allowed with argument"),
        (["--dropout", "0.5"], "--from has its own"),
    ):
        _, err = run("train", "--from", model_file, *wrong, code=2, capsys=capsys)
        assert said in err


@pytest.mark.filterwarnings("default:nothing was learned")
def test_a_run_that_learned_nothing_is_warned_of_in_one_line(capsys):
    labels = np.random.default_rng(0).permutation(DIGITS.train.labels)
    np.savez("noise.npz", images=DIGITS.train.images, labels=labels)
    options = ["--learning-rate", 50, "--epochs", 2, "--output", "m"]
    _, err = run("train", "--data", "noise.npz", *options, capsys=capsys)
    warnings = [line for line in err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("lenet5c: warning: nothing was learned: ")


# Mistakes


def test_mistakes_are_listed_with_their_files(model_file, capsys):
    labels = DIGITS.test.labels[:60].copy()
    labels[7] = (labels[7] + 1) % 10  # in a wrong folder
    pictures("mine", DIGITS.test.images[:60], labels)
    evaluate = ["evaluate", model_file, "--data", "mine", "--split", "train"]
    out, _ = run(*evaluate, "--json", capsys=capsys)
    mistakes = json.loads(out)["mistakes"]
    sure = [one["probability"] for one in mistakes]
    assert sure == sorted(sure, reverse=True)
    files = {one["file"]: one for one in mistakes}
    wrong = files[f"{labels[7]}/007.png"]
    assert (wrong["label"], wrong["class"]) == (labels[7], DIGITS.test.labels[7])
    out, _ = run(*evaluate, capsys=capsys)
    assert f"{labels[7]}/007.png" in out


def test_mistakes_of_arrays_have_no_files(model_file, capsys):
    out, _ = run("evaluate", model_file, "--split", "train", "--json", capsys=capsys)
    found = json.loads(out)
    count = sum(map(sum, found["confusion"]))
    wrong = count - sum(found["confusion"][k][k] for k in range(10))
    assert len(found["mistakes"]) == wrong
    assert all("file" not in one for one in found["mistakes"])


# Prediction


def test_a_folder_is_predicted_file_by_file(model_file, capsys):
    pictures("in/deep", DIGITS.test.images[:3], range(3), by_class=False)
    np.save("in/b.npy", DIGITS.test.images[3])
    Path("in", ".hidden").write_text("no picture")
    out, _ = run("predict", model_file, "in", "--json", capsys=capsys)
    found = json.loads(out)["predictions"]
    names = ["in/b.npy", "in/deep/000.png", "in/deep/001.png", "in/deep/002.png"]
    assert [one["file"] for one in found] == names
    expected = lenet5c.load(model_file).predict(DIGITS.test.images[[3, 0, 1, 2]])
    assert [one["class"] for one in found] == expected.tolist()


def test_what_cannot_be_predicted_is_named_together_or_left_out(model_file, capsys):
    pictures("in", DIGITS.test.images[:2], range(2), by_class=False)
    for name in ("x.png", "y.txt"):
        Path("in", name).write_text("no picture")
    _, err = run("predict", model_file, "in", code=2, capsys=capsys)
    assert "in/x.png" in err
    assert "in/y.txt" in err
    out, err = run(
        "predict", model_file, "in", "--skip-broken", "--json", capsys=capsys
    )
    assert len(json.loads(out)["predictions"]) == 2
    assert [line for line in err.splitlines() if "in/y.txt" in line]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_table_is_predicted_row_by_row(model_file, labelled, capsys):
    images, labels = DIGITS.test.images[:9], DIGITS.test.labels[:9]
    table = images.reshape(9, -1).astype(int)
    names = [f"pixel{i}" for i in range(784)]
    if labelled:
        table, names = np.column_stack([labels, table]), ["label", *names]
    head = ",".join(names)
    np.savetxt("t.csv", table, "%d", ",", header=head, comments="")
    out, _ = run("predict", model_file, "t.csv", "--json", capsys=capsys)
    found = [one["class"] for one in json.loads(out)["predictions"]]
    assert found == lenet5c.load(model_file).predict(images).tolist()


def test_prepare_finds_the_sign(model_file, capsys):
    pytest.importorskip("scipy")
    model, count = lenet5c.load(model_file), 30
    for index in range(count):
        sheet = on_paper(DIGITS.test.images[index * 11])
        Image.fromarray(sheet if index % 2 else 255 - sheet).save(f"{index:02}.png")
    files = [f"{index:02}.png" for index in range(count)]
    out, err = run("predict", model_file, "--prepare", *files, "--json", capsys=capsys)
    assert err == ""
    found = [one["class"] for one in json.loads(out)["predictions"]]
    assert np.mean(found == model.predict(DIGITS.test.images[::11][:count])) > 0.85


def test_many_signs_are_read_from_left_to_right(model_file, capsys):
    pytest.importorskip("scipy")
    shown = [0, 80, 150, 220]
    page = np.hstack([on_paper(DIGITS.test.images[at]) for at in shown])
    Image.fromarray(page).save("page.png")
    out, _ = run("predict", model_file, "--many", "page.png", "--json", capsys=capsys)
    found = json.loads(out)["predictions"]
    assert [one["index"] for one in found] == [0, 1, 2, 3]
    for place, one in enumerate(found):
        top, left, bottom, right = one["box"]
        assert 70 <= top < bottom <= 160
        assert 200 * place + 40 <= left < right <= 200 * place + 130


@pytest.mark.parametrize("option", ["--prepare", "--many"])
def test_a_blank_page_is_said_to_be_blank(model_file, option, capsys):
    pytest.importorskip("scipy")
    Image.new("L", (300, 200), 240).save("blank.png")
    out, err = run("predict", model_file, option, "blank.png", "--json", capsys=capsys)
    nothing = {"file": "blank.png", "index": 0, "class": None, "top": []}
    assert json.loads(out)["predictions"] == [nothing] * (option == "--prepare")
    assert err == "lenet5c: note: blank.png: nothing is found on it, it is blank\n"
    out, _ = run("predict", model_file, option, "blank.png", capsys=capsys)
    assert "nothing" in out.lower()


def test_a_picture_of_one_grey_is_named(model_file, capsys):
    for grey in (0, 128, 255):
        Image.new("L", (28, 28), grey).save("grey.png")
        _, err = run("predict", model_file, "grey.png", capsys=capsys)
        assert err == "lenet5c: note: grey.png is blank, all of its pixels are equal\n"


def test_models_of_light_images_are_given_light_ones(capsys):
    """Trained on dark signs on white: what is prepared has to be so, too."""
    pytest.importorskip("scipy")
    model = lenet5c.lenet5()
    model.fit(255 - DIGITS.train.images, DIGITS.train.labels, epochs=12)
    model.save("light.lenet5c")
    count = 20
    files = [f"{index:02}.png" for index in range(count)]
    for index, file in enumerate(files):
        Image.fromarray(on_paper(DIGITS.test.images[index * 17])).save(file)
    out, _ = run(
        "predict", "light.lenet5c", "--prepare", *files, "--json", capsys=capsys
    )
    found = [one["class"] for one in json.loads(out)["predictions"]]
    assert np.mean(found == DIGITS.test.labels[::17][:count]) >= 0.7


def test_colours_are_not_prepared(capsys):
    lenet5c.lenet5(channels=3).save("colour.lenet5c")
    Image.new("RGB", (9, 9)).save("a.png")
    _, err = run("predict", "colour.lenet5c", "--many", "a.png", code=2, capsys=capsys)
    assert "make square grey images" in err


def test_emnist_files_are_turned_upright_for_predict_as_well(model_file, capsys):
    images = DIGITS.test.images[:20]
    datasets.write_idx(
        "emnist-digits-test-images-idx3-ubyte",
        np.ascontiguousarray(images.transpose(0, 2, 1)),
    )
    out, _ = run(
        *("predict", model_file, "emnist-digits-test-images-idx3-ubyte", "--json"),
        capsys=capsys,
    )
    found = [one["class"] for one in json.loads(out)["predictions"]]
    assert found == lenet5c.load(model_file).predict(images).tolist()


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_whole_floats_in_a_file_are_bytes_for_predict_as_well(name, model_file, capsys):
    images = DIGITS.test.images[:5]
    if name == "x.npy":
        np.save(name, images.astype(float))
    else:
        np.savez(name, x_train=images[:1], x_test=images.astype(float))
    out, _ = run("predict", model_file, name, "--json", capsys=capsys)
    found = [one["class"] for one in json.loads(out)["predictions"]]
    assert found == lenet5c.load(model_file).predict(images).tolist()


def test_dangling_links_and_loops_do_no_harm(model_file, capsys):
    pictures("in", DIGITS.test.images[:2], range(2), by_class=False)
    Path("in", "gone.png").symlink_to("nowhere.png")
    Path("in", "loop").symlink_to(".")
    out, err = run(
        "predict", model_file, "in", "--skip-broken", "--json", capsys=capsys
    )
    assert len(json.loads(out)["predictions"]) == 2
    assert "gone.png" in err
    _, err = run("predict", model_file, "in", code=2, capsys=capsys)
    assert "gone.png" in err
    pictures("mine", DIGITS.train.images[:60], DIGITS.train.labels[:60])
    Path("mine", "3", "gone.png").symlink_to("nowhere.png")
    Path("mine", "__MACOSX").mkdir()
    train = ["train", "--data", "mine", "--epochs", 1, "--output", "m"]
    _, err = run(*train, code=2, capsys=capsys)
    assert "gone.png" in err
    run(*train, "--skip-broken", capsys=capsys)


def test_early_stopping_takes_the_validation_folder(capsys):
    for part, start in (("training_set", 0), ("val", 100), ("test_set", 200)):
        chosen = slice(start, start + 60)
        pictures(f"d/{part}", DIGITS.train.images[chosen], DIGITS.train.labels[chosen])
    train = ["train", "--data", "d", "--epochs", 2, "--output", "m"]
    run(*train, "--early-stopping", 1, capsys=capsys)
    _, err = run(*train, "--validation", 0.1, code=2, capsys=capsys)
    assert "images of its own" in err
    _, err = run("train", "--early-stopping", 2, code=2, capsys=capsys)
    assert "--early-stopping needs --validation" in err


def test_data_of_one_class_is_said_to_be_so(capsys):
    np.savez("one.npz", images=DIGITS.train.images[:30], labels=np.full(30, 7))
    _, err = run("train", "--data", "one.npz", "--output", "m", code=2, capsys=capsys)
    assert "expected images of two classes at least, all have the label 7" in err


def test_a_model_of_floats_is_told_of_dark_ink(capsys):
    """It does not say which it was trained on."""
    pytest.importorskip("scipy")
    model = lenet5c.lenet5()
    images = (255 - DIGITS.train.images).astype(np.float32) / 255
    model.fit(images, DIGITS.train.labels, epochs=12)
    model.save("light.lenet5c")
    files = [f"{index:02}.png" for index in range(20)]
    for index, file in enumerate(files):
        Image.fromarray(on_paper(DIGITS.test.images[index * 17])).save(file)
    predict = ["predict", "light.lenet5c", "--prepare", *files, "--json"]
    _, err = run(*predict, capsys=capsys)
    assert "--invert" in err
    out, err = run(*predict, "--invert", capsys=capsys)
    assert err == ""
    found = [one["class"] for one in json.loads(out)["predictions"]]
    assert np.mean(found == DIGITS.test.labels[::17][:20]) >= 0.7


def test_many_files_are_read_with_progress(model_file, capsys):
    pictures("in", [DIGITS.test.images[0]] * 101, range(101), by_class=False)
    out, err = run("predict", model_file, "in", "--json", capsys=capsys)
    assert len(json.loads(out)["predictions"]) == 101
    assert err == "predict: 101 files read\n"


def test_the_report_names_the_files_of_mistakes(capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    names = np.array(["<img src=x onerror=alert(1)>", "b & c"])
    pictures("mine", DIGITS.test.images[:120], names[DIGITS.test.labels[:120] % 2])
    train = ["train", "--data", "mine", "--epochs", 1, "--output", "m"]
    run(*train, "--learning-rate", "0.001", "--threads", 1, capsys=capsys)
    run("report", "m", "--threads", 1, capsys=capsys)
    page = Path("report.html").read_text("utf-8")
    assert "<img" not in page
    data = lenet5c.datasets.load("mine")
    wrong = lenet5c.load("m").predict(data.test.images) != data.test.labels
    listed = [file for file in data.files["test"] if f">{html.escape(file)}<" in page]
    assert 0 < wrong.sum() <= 20
    assert set(listed) == {data.files["test"][k] for k in np.flatnonzero(wrong)}
