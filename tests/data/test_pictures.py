"""Folders of pictures: what becomes of them, when they are converted, what is left."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c.data import caches, datasets, pictures
from lenet5c.data.datasets import image_folder

Image = pytest.importorskip("PIL.Image")

SILENT = {"progress": False}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_pictures(folder, classes=("cat", "dog"), count=7, shape=(28, 28)):
    """Noise, another in every picture; what is in each, by name."""
    written = {}
    for label in classes:
        for number in range(count):
            pixels = noise(*shape, seed=len(written))
            save(folder / label / f"{number}.png", pixels)
            written[f"{label}/{number}"] = pixels
    return written


def read(folder, pixels, size=(28, 28), channels=1, name="a.png", **options):
    save(folder / name, pixels, **options)
    return pictures.read_picture(folder / name, size, channels)


def all_of(data):
    return np.concatenate([data.train.images, data.test.images])


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder in which converted pictures are kept, which does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet5c" / "pictures"


@pytest.fixture
def photos(tmp_path):
    """A folder with two classes of seven pictures."""
    write_pictures(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def conversions(monkeypatch):
    """The pictures read so far."""
    seen = []
    whole = pictures.read_picture

    def read_picture(path, *rest):
        seen.append(path)
        return whole(path, *rest)

    monkeypatch.setattr(pictures, "read_picture", read_picture)
    return seen


# One picture


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_picture_of_the_right_size_keeps_its_pixels(mode, channels, tmp_path):
    pixels = noise(28, 28) if mode == "L" else noise(28, 28, 3)
    found = read(tmp_path, pixels, channels=channels)
    expected = pixels[np.newaxis] if mode == "L" else pixels.transpose(2, 0, 1)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_grey_becomes_three_channels_and_colour_one(tmp_path):
    grey = noise(28, 28)
    found = read(tmp_path, grey, channels=3)
    np.testing.assert_array_equal(found, [grey] * 3)
    colour = noise(28, 28, 3)
    luma = colour @ [0.299, 0.587, 0.114]
    assert np.abs(read(tmp_path, colour)[0] - luma).max() <= 1


@pytest.mark.parametrize(
    ("shape", "size", "fitting"),
    [
        ((56, 56), (28, 28), (28, 28)),
        ((60, 30), (28, 28), (28, 14)),
        ((30, 60), (28, 28), (14, 28)),
        ((7, 5), (28, 28), (28, 20)),  # enlarged
        ((1, 3000), (28, 28), (1, 28)),
        ((3000, 1), (28, 28), (28, 1)),
        ((100, 100), (20, 40), (20, 20)),
        ((100, 200), (40, 20), (10, 20)),
        ((1, 1), (28, 28), (28, 28)),
        ((5, 5), (1, 1), (1, 1)),
    ],
)
def test_a_picture_keeps_its_aspect(shape, size, fitting, tmp_path):
    assert read(tmp_path, noise(*shape), size).shape == (1, *fitting)


def test_a_picture_made_smaller_is_averaged(tmp_path):
    checks = np.indices((560, 560)).sum(0) % 2 * 255
    found = read(tmp_path, checks.astype(np.uint8))
    assert np.abs(found[0].astype(int) - 127).max() < 8


@pytest.mark.parametrize("quality", [60, 95])
def test_a_jpeg_is_nearly_the_picture_that_was_saved(quality, tmp_path):
    """Also a large one, which is not decoded in full."""
    rows, columns = np.indices((560, 840)) / 560
    smooth = (127 + 100 * np.sin(5 * rows) * np.cos(4 * columns)).astype(np.uint8)
    found = read(tmp_path, smooth, (28, 42), name="a.jpg", quality=quality)
    expected = smooth.reshape(28, 20, 42, 20).mean((1, 3))
    assert found.shape == (1, 28, 42)
    assert np.abs(found[0] - expected).max() < 6


def test_a_picture_is_turned_as_its_camera_says(tmp_path):
    pixels = np.zeros((20, 28), np.uint8)
    pixels[:3] = 255  # the top
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right
    found = read(tmp_path, pixels, name="a.png", exif=exif)
    assert found.shape == (1, 28, 20)
    assert found[0, :, -2:].min() == 255
    assert found[0, :, :-4].max() == 0


def test_a_picture_of_pillow_is_read_as_its_file(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (60, 90, 3), np.uint8)
    for name in ("a.png", "a.jpg"):
        expected = read(tmp_path, pixels, name=name)
        with Image.open(tmp_path / name) as opened:
            found = pictures.read_picture(opened, (28, 28), 1)
        assert (found == expected).all()


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[:14, :, 3] = 255
    found = read(tmp_path, pixels)[0]
    assert (found[:14] == 0).all()
    assert (found[14:] == 255).all()
    palette = Image.fromarray(np.eye(28, dtype=np.uint8)).convert("P")
    palette.save(tmp_path / "b.png", transparency=0)
    found = pictures.read_picture(tmp_path / "b.png", (28, 28), 1)[0]
    assert (found[~np.eye(28, dtype=bool)] == 255).all()
    assert (found.diagonal() < 9).all()


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [
        *((np.uint16, 0, 65535), (np.uint16, 300, 4095), (np.uint16, 0, 7)),
        *((np.int32, -5000, 70_000), (np.float32, 0, 1), (np.float32, -3, 1e6)),
    ],
)
def test_more_than_8_bits_become_8_by_the_range_of_the_picture(
    dtype, least, most, tmp_path
):
    """A microscope's 12 bits in 16, or depths in floats: not all black."""
    values = np.random.default_rng(0).uniform(least, most, (28, 28)).astype(dtype)
    values[0, :2] = least, most
    found = read(tmp_path, values, name="a.png" if dtype == np.uint16 else "a.tiff")[0]
    expected = (values.astype(float) - least) / (most - least) * 255
    assert np.abs(found - expected).max() <= 0.51
    assert found[0, :2].tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_picture_of_one_value_of_many_bits_is_black(dtype, tmp_path):
    assert not read(tmp_path, np.full((28, 28), 1234, dtype), name="a.tiff").any()


def drawn(ink, *, mode="RGBA", share=4):
    """A line of `ink` on transparent ground, one column of `share`."""
    image = Image.new("RGBA", (28, 28), (0, 255, 0, 0))
    image.paste((ink, ink, ink, 255), (0, 0, 28 // share, 28))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
@pytest.mark.parametrize(
    ("ink", "share", "paper"),
    [
        *((255, 4, 0), (200, 4, 0)),  # light strokes: black paper shows them
        *((0, 4, 255), (90, 4, 255)),
        (255, 1, 255),  # nothing is transparent
        (255, 2, 255),  # no more than half of it
    ],
)
def test_transparent_ground_is_one_on_which_the_strokes_are_seen(
    ink, share, paper, mode, tmp_path
):
    end = "tiff" if mode == "PA" else "png"
    drawn(ink, mode=mode, share=share).save(tmp_path / f"a.{end}")
    found = pictures.read_picture(tmp_path / f"a.{end}", (28, 28), 1)[0]
    assert np.abs(found[:, : 28 // share].astype(int) - ink).max() <= 3
    assert (found[:, 28 // share :] == paper).all()


def test_a_picture_of_nothing_is_white(tmp_path):
    Image.new("RGBA", (28, 28), (255, 255, 255, 0)).save(tmp_path / "a.png")
    assert (pictures.read_picture(tmp_path / "a.png", (28, 28), 1) == 255).all()


def test_black_and_white_are_0_and_255(tmp_path):
    pixels = noise(28, 28) > 99
    found = read(tmp_path, pixels)
    np.testing.assert_array_equal(found[0], pixels * np.uint8(255))


def test_of_several_pictures_in_a_file_the_first_is_taken(tmp_path):
    first, second = (Image.fromarray(noise(28, 28, seed=seed)) for seed in (1, 2))
    first.save(tmp_path / "a.tiff", save_all=True, append_images=[second])
    found = pictures.read_picture(tmp_path / "a.tiff", (28, 28), 1)
    np.testing.assert_array_equal(found[0], noise(28, 28, seed=1))


def png(tmp_path):
    save(tmp_path / "whole.png", noise(28, 28))
    return (tmp_path / "whole.png").read_bytes()


def jpeg(tmp_path):
    save(tmp_path / "whole.jpg", noise(28, 28))
    return (tmp_path / "whole.jpg").read_bytes()


@pytest.mark.parametrize(
    "damaged",
    [
        lambda _: b"",
        lambda _: b"no picture\n" * 99,
        lambda _: b"\x89PNG\r\n\x1a\n",
        lambda path: png(path)[:300],
        lambda path: png(path)[:30],
        lambda path: png(path)[:60] + bytes(100) + png(path)[160:],
        lambda path: jpeg(path)[: len(jpeg(path)) // 2],
        lambda path: jpeg(path)[:9],
    ],
    ids=[
        *("empty", "text", "start", "truncated", "header", "damaged"),
        *("truncated jpeg", "start of jpeg"),
    ],
)
def test_a_broken_picture_is_refused_by_name(damaged, tmp_path, photos, cache):
    broken = photos / "dog" / "5.png"
    broken.write_bytes(damaged(tmp_path))
    with pytest.raises(ValueError, match=r"5\.png: expected a PNG") as caught:
        image_folder(photos, **SILENT)
    assert str(broken) in str(caught.value)
    assert not files_in(cache)


def break_pictures(folder, names):
    for name in names:
        (folder / name).write_bytes(b"no picture")


BROKEN = ["cat/1.png", "cat/notes.txt", "dog/3.png", "dog/data.csv"]


def test_all_broken_pictures_are_named_together(photos, cache):
    break_pictures(photos, BROKEN)
    with pytest.raises(ValueError, match="4 of 16 files are broken") as caught:
        datasets.load(photos)
    for name in BROKEN:
        assert name in str(caught.value)
    assert "skip_broken" in str(caught.value)
    assert not files_in(cache)


def test_of_many_broken_pictures_20_are_named(photos):
    break_pictures(photos, [f"cat/broken{n}.png" for n in range(25)])
    with pytest.raises(ValueError, match=r"25 of 39 .* and 5 more") as caught:
        image_folder(photos, **SILENT)
    assert str(caught.value).partition(" and 5 more")[0].count("cat/") == 20


def test_broken_pictures_can_be_left_out(photos, capsys, conversions):
    whole = image_folder(photos, **SILENT)
    break_pictures(photos, BROKEN)
    del conversions[:]
    for again in range(2):
        data = datasets.load(photos, skip_broken=True)
        note = capsys.readouterr().err.splitlines()[-1]
        assert note.startswith(
            "photos: 4 of 16 files left out, broken or no pictures: "
        )
        assert all(name in note for name in BROKEN)
        assert len(conversions) == 16  # once
        assert len(all_of(data)) == 12, again
        for part in ("train", "test"):
            split, files = getattr(data, part), data.files[part]
            assert len(split.images) == len(split.labels) == len(files)
            assert [name.split("/")[0] for name in files] == split.labels.tolist()
            for image, name in zip(split.images, files, strict=True):
                pixels = pictures.read_picture(photos / name, (28, 28), 1)
                np.testing.assert_array_equal(image, pixels[0])
        del conversions[16:]
    assert len(all_of(whole)) == 14


def test_who_does_not_leave_them_out_is_told_of_broken_pictures(photos, cache):
    break_pictures(photos, BROKEN)
    image_folder(photos, skip_broken=True, **SILENT)
    with pytest.raises(ValueError, match="4 of 16 files are broken"):
        image_folder(photos, **SILENT)
    assert len(files_in(cache)) == 1


def test_leaving_none_out_gives_the_same_file(photos, cache, conversions):
    image_folder(photos, skip_broken=True, **SILENT)
    image_folder(photos, **SILENT)
    assert len(conversions) == 14


@pytest.mark.parametrize("classes", [("dog",), ("cat", "dog")])
def test_a_class_of_which_nothing_is_left_is_an_error(classes, photos):
    for label in classes:
        break_pictures(photos, [f"{label}/{number}.png" for number in range(7)])
    for _ in range(2):
        with pytest.raises(ValueError, match="photos: expected pictures"):
            image_folder(photos, skip_broken=True, **SILENT)


def test_every_truncated_picture_is_refused_or_read(tmp_path):
    """With nothing but a ValueError."""
    for content in (png(tmp_path), jpeg(tmp_path)):
        for length in range(0, len(content), 7):
            path = tmp_path / "part"
            path.write_bytes(content[:length])
            with contextlib.suppress(ValueError):
                pictures.read_picture(path, (28, 28), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(value, tmp_path):
    pixels = np.zeros((28, 28), np.float32)
    pixels[3, 4] = value
    with pytest.raises(ValueError, match="finite pixels expected"):
        read(tmp_path, pixels, name="a.tiff")


def test_a_picture_that_cannot_be_read_is_an_os_error(photos, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pictures.read_picture(tmp_path / "nowhere.png", (28, 28), 1)


# The folder


def test_a_folder_for_each_class_is_read(photos):
    for data in (datasets.load(photos), datasets.load(str(photos))):
        assert data.name == "photos"
        assert data.train.images.dtype == data.test.images.dtype == np.uint8
        assert data.train.images.shape == (12, 28, 28)
        assert data.test.images.shape == (2, 28, 28)
        assert data.train.labels.tolist() == ["cat"] * 6 + ["dog"] * 6
        assert data.test.labels.tolist() == ["cat", "dog"]
        assert isinstance(data.train.images, np.memmap)
        assert not data.train.images.flags.writeable


def test_every_picture_is_there_once_under_its_label(tmp_path):
    written = write_pictures(tmp_path / "photos", ("a", "b", "c"), count=20)
    data = image_folder(tmp_path / "photos", **SILENT)
    found = sorted(
        (label, image.tobytes())
        for split in (data.train, data.test)
        for image, label in zip(*split, strict=True)
    )
    expected = sorted((name[0], pixels.tobytes()) for name, pixels in written.items())
    assert found == expected


@pytest.mark.parametrize(
    ("count", "tested"), [(3, 1), (6, 1), (8, 1), (9, 2), (20, 3), (60, 10)]
)
def test_a_sixth_of_each_class_is_kept_to_test_with(count, tested, tmp_path):
    write_pictures(tmp_path / "photos", ("a", "b"), count, (2, 2))
    data = image_folder(tmp_path / "photos", size=2, **SILENT)
    assert data.test.labels.tolist() == ["a"] * tested + ["b"] * tested
    assert len(data.train.labels) == 2 * (count - tested)


def test_a_picture_more_moves_no_other_from_test_to_train(tmp_path):
    folder = tmp_path / "photos"
    write_pictures(folder, count=30)
    before = image_folder(folder, **SILENT)
    save(folder / "cat" / "one more.png", noise(28, 28, seed=999))
    after = image_folder(folder, **SILENT)
    tested = [{i.tobytes() for i in data.test.images} for data in (before, after)]
    assert len(tested[0]) == len(tested[1]) == 10
    assert len(tested[0] - tested[1]) <= 1


def test_which_ones_are_kept_does_not_look_like_their_order(tmp_path):
    write_pictures(tmp_path / "photos", count=60)
    names = [f"{number}.png" for number in range(60)]
    one = pictures._Class("cat", tmp_path, sorted(names))
    _, (held_out,) = pictures._hold_out(tmp_path, [one])
    at = [sorted(names).index(name) for name in held_out.names]
    assert len(at) == 10
    assert max(at) > 40
    assert min(at) < 20


def test_the_folders_train_and_test_are_taken_as_they_are(tmp_path):
    train = write_pictures(tmp_path / "photos" / "train", count=3)
    test = write_pictures(tmp_path / "photos" / "test", ("dog",), count=4)
    data = datasets.load(tmp_path / "photos")
    np.testing.assert_array_equal(data.train.images, list(train.values()))
    np.testing.assert_array_equal(data.test.images, list(test.values()))
    assert data.train.labels.tolist() == ["cat"] * 3 + ["dog"] * 3
    assert data.test.labels.tolist() == ["dog"] * 4


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("training", "valid", "testing"),
        ("Train", "Validation", "TEST"),
    ],
)
def test_a_folder_to_validate_with_is_taken_as_well(names, tmp_path):
    parts = ("train", "validation", "test")
    for seed, name in enumerate(names):
        for label in ("cat", "dog"):
            save(
                tmp_path / "x" / name / label / f"{name}.png", noise(28, 28, seed=seed)
            )
    data = datasets.load(tmp_path / "x")
    for seed, (part, name) in enumerate(zip(parts, names, strict=True)):
        split = getattr(data, part)
        np.testing.assert_array_equal(split.images, [noise(28, 28, seed=seed)] * 2)
        assert split.labels.tolist() == ["cat", "dog"]
        assert data.files[part] == [f"{name}/{of}/{name}.png" for of in ("cat", "dog")]


def test_without_a_test_folder_a_sixth_of_train_is_kept(tmp_path):
    write_pictures(tmp_path / "x" / "train", count=12)
    write_pictures(tmp_path / "x" / "val", count=2)
    data = datasets.load(tmp_path / "x")
    assert [len(part.labels) for part in (*data, data.validation)] == [20, 4, 4]


def test_the_file_of_each_image_is_known(photos):
    data = datasets.load(photos)
    assert {*data.files} == {"train", "test"}
    for part, split in (("train", data.train), ("test", data.test)):
        for name, image, label in zip(data.files[part], *split, strict=True):
            assert name.split("/")[0] == label
            pixels = pictures.read_picture(photos / name, (28, 28), 1)[0]
            np.testing.assert_array_equal(image, pixels)


def test_options_of_pictures_are_passed_on(photos):
    data = datasets.load(photos, size=(20, 30), channels=3)
    assert data.train.images.shape == (12, 3, 20, 30)


def test_tables_beside_folders_of_pictures_are_left_out(photos):
    (photos / "train.csv").write_text("file,label\ncat/1.png,cat\n")
    assert len(all_of(datasets.load(photos))) == 14


def test_of_the_folder_train_alone_a_sixth_is_kept(tmp_path):
    write_pictures(tmp_path / "photos" / "train", count=12)
    data = image_folder(tmp_path / "photos", **SILENT)
    assert len(data.train.labels) == 20
    assert data.test.labels.tolist() == ["cat", "cat", "dog", "dog"]


def test_train_and_test_may_be_classes(tmp_path):
    """Vehicles: a train among them, and no folders inside."""
    write_pictures(tmp_path / "photos", ("train", "test", "plane"), count=3)
    data = image_folder(tmp_path / "photos", **SILENT)
    assert data.test.labels.tolist() == ["plane", "test", "train"]


def test_colour_and_other_sizes(photos):
    assert image_folder(photos, channels=3, **SILENT).train.images.shape == (
        *(12, 3),
        *(28, 28),
    )
    assert image_folder(photos, size=20, **SILENT).test.images.shape == (2, 20, 20)
    data = image_folder(photos, size=(10, 30), channels=3, **SILENT)
    assert data.train.images.shape == (12, 3, 10, 30)


def test_a_picture_lies_in_the_middle_on_black(tmp_path):
    for label in "ab":
        for number in range(3):
            save(tmp_path / "x" / label / f"{number}.png", noise(30, 60) | 1)
    images = all_of(image_folder(tmp_path / "x", size=30, **SILENT))
    assert (images[:, 7:22] > 0).any(2).all()
    assert not images[:, :7].any()
    assert not images[:, 22:].any()


def test_hidden_files_and_those_beside_the_folders_are_left_out(photos):
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "README.md", ".git/x", "dog/.a.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_text("no picture")
    assert len(all_of(image_folder(photos, **SILENT))) == 14


def test_a_folder_with_arrays_is_none_of_pictures(photos):
    arrays = noise(10, 4, 4), np.arange(10, dtype=np.uint8) % 2
    datasets.write_idx(photos / "train-images", arrays[0])
    datasets.write_idx(photos / "train-labels", arrays[1])
    assert len(all_of(datasets.load(photos))) == 10


def empty_class(folder):
    (folder / "emu").mkdir()


def one_class(folder):
    (folder / "cat").rename(folder.parent / "elsewhere")


def no_pictures(folder):
    for path in folder.glob("*/*"):
        path.unlink()


def few(folder):
    for number in range(2, 7):
        for label in ("cat", "dog"):
            (folder / label / f"{number}.png").unlink()


def folder_inside(folder):
    (folder / "cat" / "kittens").mkdir()


def other_file(folder):
    (folder / "cat" / "notes.txt").write_text("no picture")


def pipe(folder):
    os.mkfifo(folder / "cat" / "pipe.png")


def unknown_test_class(folder):
    write_pictures(folder / "train", ("cat", "dog"))
    write_pictures(folder / "test", ("cat", "emu"))
    for label in ("cat", "dog"):
        (folder / label).rename(folder.parent / label)


def validation_folder(folder):
    write_pictures(folder / "train")
    write_pictures(folder / "val")


def two_names_of_a_part(folder):
    validation_folder(folder)
    write_pictures(folder / "valid")
    for label in ("cat", "dog"):
        (folder / label).rename(folder.parent / label)


def empty_test(folder):
    unknown_test_class(folder)
    (folder / "test").rename(folder.parent / "elsewhere")
    (folder / "test").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty_class, "emu: expected pictures, got an empty folder"),
        (one_class, "expected 2 folders at least, one for each class, got dog"),
        (no_pictures, "cat: expected pictures, got an empty folder"),
        (few, "expected 3 pictures of a class at least, one of them to test with"),
        (folder_inside, "cat: expected pictures, got kittens, which is no file"),
        (other_file, "notes.txt: expected a PNG or JPEG picture: "),
        (pipe, "cat: expected pictures, got pipe.png, which is no file"),
        (unknown_test_class, "test: expected classes that"),
        (validation_folder, "each once; got cat, dog as well"),
        (two_names_of_a_part, "each once; got valid as well"),
        (empty_test, "test: expected 1 folders at least"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(spoil, said, photos, cache):
    spoil(photos)
    with pytest.raises(ValueError, match="photos") as caught:
        image_folder(photos, **SILENT)
    assert said in str(caught.value)
    assert not files_in(cache)


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: expected 2 folders at least"):
        image_folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_folder(tmp_path / "nowhere")


def test_a_class_with_a_name_that_no_text_has_is_refused(photos):
    os.rename(photos / "cat", os.fsencode(photos) + b"/c\xe4t")
    with pytest.raises(ValueError, match="names in UTF-8"):
        image_folder(photos, **SILENT)


def test_a_picture_may_have_any_name(photos):
    os.rename(photos / "cat" / "0.png", os.fsencode(photos) + b"/cat/\xff [x].png")
    assert len(all_of(image_folder(photos, **SILENT))) == 14


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": 0}, ValueError),
        ({"size": 2.5}, TypeError),
        ({"size": (28, 28, 28)}, ValueError),
        ({"channels": 0}, ValueError),
        ({"channels": 2}, ValueError),
        ({"channels": 4}, ValueError),
        ({"channels": "L"}, TypeError),
        ({"progress": "yes"}, TypeError),
        ({"skip_broken": "yes"}, TypeError),
    ],
)
def test_wrong_options_are_refused_by_name(options, error, photos):
    with pytest.raises(error, match=rf"^{next(iter(options))}: expected"):
        image_folder(photos, **options)
    with pytest.raises(TypeError, match=r"^path: expected a str or a path"):
        image_folder(None)


# The cache


def test_pictures_are_converted_once(photos, cache, conversions):
    first = image_folder(photos, **SILENT)
    assert len(conversions) == 14
    assert len(files_in(cache)) == 1
    second = image_folder(photos, **SILENT)
    assert len(conversions) == 14
    for one, other in zip(
        (*first.train, *first.test), (*second.train, *second.test), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_cache_serves_where_pillow_is_missing(photos, monkeypatch):
    image_folder(photos, **SILENT)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert len(all_of(image_folder(photos, **SILENT))) == 14


def test_without_pillow_the_error_says_what_to_do(photos, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'lenet5c\[images\]'"):
        image_folder(photos, **SILENT)
    assert not files_in(cache)


def add(folder):
    save(folder / "cat" / "new.png", noise(28, 28, seed=99))


def remove(folder):
    (folder / "cat" / "3.png").unlink()


def rename(folder):
    (folder / "cat" / "3.png").rename(folder / "cat" / "33.png")


def rename_class(folder):
    (folder / "cat").rename(folder / "ant")


def move(folder):
    (folder / "cat" / "3.png").rename(folder / "dog" / "33.png")


def rewrite(folder):
    """The same size, another time."""
    path = folder / "cat" / "3.png"
    size = path.stat().st_size
    path.write_bytes((folder / "cat" / "4.png").read_bytes()[:size].ljust(size, b"\0"))


def resize(folder):
    """Another size, the same time."""
    path = folder / "cat" / "3.png"
    time = path.stat().st_mtime_ns
    save(path, noise(29, 30))
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize(
    "change", [add, remove, rename, rename_class, move, rewrite, resize]
)
def test_a_change_is_noticed_and_the_old_file_removed(
    change, photos, cache, conversions
):
    before = image_folder(photos, **SILENT)
    kept = np.array(before.train.images)
    (old,) = files_in(cache)
    del conversions[:]
    change(photos)
    after = image_folder(photos, **SILENT)
    assert len(conversions) == len(all_of(after))
    (new,) = files_in(cache)
    assert new != old
    # who still has the old one can read on
    np.testing.assert_array_equal(before.train.images, kept)


def test_other_sizes_and_folders_have_files_of_their_own(photos, cache, tmp_path):
    write_pictures(tmp_path / "other" / "photos")
    image_folder(photos, **SILENT)
    image_folder(photos, size=20, **SILENT)
    image_folder(photos, channels=3, **SILENT)
    image_folder(tmp_path / "other" / "photos", **SILENT)
    assert len(files_in(cache)) == 4


def test_the_same_folder_by_another_path_is_converted_once(photos, conversions):
    image_folder(photos, **SILENT)
    (photos.parent / "link").symlink_to(photos)
    image_folder(os.path.relpath(photos), **SILENT)
    data = image_folder(photos.parent / "link", **SILENT)
    assert len(conversions) == 14
    assert data.name == "photos"


def test_another_cache_folder_may_be_named(photos, cache, tmp_path, conversions):
    for _ in range(2):
        image_folder(photos, cache=tmp_path / "a" / "b", **SILENT)
    assert len(conversions) == 14
    assert len(files_in(tmp_path / "a" / "b")) == 1
    assert not files_in(cache)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:50],
        lambda content: b"text" * 99,
        lambda content: content.replace(b"|u1", b"|i1"),
        lambda content: content.replace(b"(14, 28, 28)", b"(28, 28, 14)"),
        lambda content: content.replace(b"False", b"True "),
    ],
    ids=["empty", "shorter", "header", "text", "dtype", "shape", "order"],
)
def test_a_damaged_cache_is_made_anew(spoil, photos, cache):
    before = all_of(image_folder(photos, **SILENT))
    (path,) = cache.iterdir()
    content = path.read_bytes()
    assert spoil(content) != content
    path.write_bytes(spoil(content))
    np.testing.assert_array_equal(all_of(image_folder(photos, **SILENT)), before)
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_file(
    photos, cache, conversions
):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where a folder should be")
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="anew each time") as caught:
            data = image_folder(photos, **SILENT)
        assert str(cache) in str(caught[0].message)
        assert caught[0].filename == __file__
        assert len(all_of(data)) == 14
        assert isinstance(data.train.images, np.memmap)
    assert len(conversions) == 28
    assert cache.is_file()


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no /sys on this system")
def test_a_read_only_file_system_is_no_obstacle(photos):
    with pytest.warns(RuntimeWarning, match="/sys/kernel/cache cannot be written"):
        data = image_folder(photos, cache="/sys/kernel/cache", **SILENT)
    assert len(all_of(data)) == 14


class FullDisk:
    """A file that holds so many bytes and no more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(memoryview(data).cast("B"))
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 128, 5_000, 10_000])
def test_a_full_disk_is_said_and_nothing_is_left(room, photos, cache, monkeypatch):
    whole = caches.Cache._new_file

    def new_file(*arguments):
        file, temporary = whole(*arguments)
        return FullDisk(file, room), temporary

    monkeypatch.setattr(caches.Cache, "_new_file", new_file)
    with pytest.raises(OSError, match="No space left") as caught:
        image_folder(photos, **SILENT)
    assert caught.value.errno == errno.ENOSPC
    assert Path(caught.value.filename).parent == cache
    assert not files_in(cache)


FILE_TOO_LARGE = """
import resource, sys
from lenet5c.data.datasets import image_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    image_folder(sys.argv[1], progress=False)
except OSError as error:
    print(error.errno, error.filename)
"""


def test_a_file_that_cannot_grow_is_said_and_nothing_is_left(photos, cache, run_python):
    code = FILE_TOO_LARGE.replace("sys.argv[1]", repr(str(photos)))
    done = run_python(code)
    number, name = done.stdout.split()
    assert int(number) == errno.EFBIG
    assert name.startswith(str(cache))
    assert not files_in(cache)


@pytest.mark.parametrize("after", [1, 8, 13])
def test_an_interrupted_conversion_leaves_nothing(after, photos, cache, monkeypatch):
    whole, seen = pictures.read_picture, []

    def read_picture(*arguments):
        seen.append(arguments)
        if len(seen) > after:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(pictures, "read_picture", read_picture)
    monkeypatch.setattr(pictures, "PICTURES_A_THREAD", 1)
    with pytest.raises(KeyboardInterrupt):
        image_folder(photos, **SILENT)
    assert not files_in(cache)
    monkeypatch.setattr(pictures, "read_picture", whole)
    assert len(all_of(image_folder(photos, **SILENT))) == 14


def test_an_interruption_while_it_is_renamed_leaves_nothing(photos, cache, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        image_folder(photos, **SILENT)
    assert not files_in(cache)


KILLED = """
import os
from lenet5c.data import datasets
from lenet5c.data import pictures
pictures.PICTURES_A_THREAD = 1
def progress(done, total):
    if done > 5:
        os._exit(9)
datasets.image_folder("photos", progress=progress)
"""


def test_what_a_killed_conversion_leaves_is_no_cache_and_is_removed_in_time(
    photos, cache, run_python
):
    assert run_python(KILLED, check=False).returncode == 9
    (left,) = cache.iterdir()
    assert left.suffix == ".tmp"
    image_folder(photos, **SILENT)
    assert len(files_in(cache)) == 2  # it may still be written to
    os.utime(left, (0, 0))
    add(photos)
    assert len(all_of(image_folder(photos, **SILENT))) == 15
    assert len(files_in(cache)) == 1


def test_the_file_is_the_same_for_any_number_of_threads(photos, tmp_path):
    contents = set()
    for threads in (1, 2, 7):
        cache = tmp_path / str(threads)
        pictures.load_pictures(photos, (28, 28), 1, cache, False, threads)
        (path,) = cache.iterdir()
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_without_a_home_another_folder_may_be_named(photos, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="set HOME or XDG_CACHE_HOME"):
        image_folder(photos, **SILENT)
    assert len(all_of(image_folder(photos, cache=tmp_path / "here", **SILENT))) == 14


# Progress


def test_a_function_is_told_the_progress(photos, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURES_A_THREAD", 1)
    told = []
    image_folder(photos, progress=lambda done, total: told.append((done, total)))
    assert [total for _, total in told] == [14] * len(told)
    done = [count for count, _ in told]
    assert done == sorted(done)
    assert len(done) > 2
    assert done[-1] == 14
    image_folder(photos, progress=lambda *_: told.clear())
    assert told  # nothing was to be done


def test_without_a_terminal_there_are_lines_on_stderr(photos, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURES_A_THREAD", 1)
    monkeypatch.setattr(caches, "SECONDS_BETWEEN_LINES", 0)
    datasets.load(photos)
    out, err = capsys.readouterr()
    assert not out
    *parts, last = err.splitlines()
    assert parts
    assert all(" of 14 pictures converted" in part for part in parts)
    assert last == "photos: 14 pictures converted"
    datasets.load(photos)
    assert capsys.readouterr() == ("", "")


def test_progress_can_be_silenced(photos, capsys):
    image_folder(photos, **SILENT)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal_there_is_a_bar_if_rich_is_there(rich, photos, monkeypatch):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(pictures, "PICTURES_A_THREAD", 1)
    main, other = os.openpty()
    with open(other, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        image_folder(photos)
        monkeypatch.undo()
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal that nobody holds
        while part := os.read(main, 1 << 16):
            shown += part
    os.close(main)
    assert (b"converting pictures" in shown) == rich
    assert b"photos: 14 pictures converted" in shown


def test_importing_the_package_does_not_import_pillow():
    code = "import sys, lenet5c.datasets; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Training


def test_a_network_learns_from_a_folder_and_answers_with_its_names(tmp_path):
    for label, bright in (("dark", 60), ("light", 200)):
        for number in range(30):
            pixels = noise(30, 40, seed=number) // 8 + bright
            save(tmp_path / "x" / label / f"{number}.jpg", pixels.astype(np.uint8))
    data = datasets.load(tmp_path / "x")
    model = lenet5c.Model([lenet5c.Dense(2)], input_shape=(1, 28, 28), classes=2)
    model.fit(*data.train, epochs=20, batch_size=10)
    assert model.classes.tolist() == ["dark", "light"]
    assert model.evaluate(*data.test).accuracy == 1.0
    assert model.predict(data.test.images).tolist() == data.test.labels.tolist()
