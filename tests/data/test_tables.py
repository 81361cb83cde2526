"""CSV files: what is read from them, how large ones are kept, what is refused."""

import csv
import gzip
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from lenet5c.data import datasets, tables
from lenet5c.data.datasets import read_csv


def pixels(count=30, side=28, channels=1, seed=0):
    shape = (count, side, side) if channels == 1 else (count, channels, side, side)
    found = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    found.flat[:2] = 0, 255
    return found


def labels(count=30):
    return np.arange(count) * 7 % 10


def rows_of(images, of=None, last=False):
    rows = images.reshape(len(images), -1).tolist()
    if of is not None:
        for row, label in zip(rows, of.tolist(), strict=True):
            row.insert(len(row) if last else 0, label)
    return rows


def header(count=784, *, start="label", last=False):
    names = [f"pixel{number}" for number in range(count)]
    names.insert(count if last else 0, start)
    return names


def write(path, rows, names=None, *, quoting=csv.QUOTE_MINIMAL, delimiter=",", end=""):
    text = io.StringIO()
    writer = csv.writer(
        text, quoting=quoting, delimiter=delimiter, lineterminator=end or "\n"
    )
    writer.writerows([names, *rows] if names else rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def assert_read(path, images, of):
    found, known = read_csv(path)
    np.testing.assert_array_equal(found, images)
    assert found.dtype == images.dtype
    np.testing.assert_array_equal(known, of)
    assert known.dtype == of.dtype


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder in which large files are kept, converted; it does not exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet5c" / "tables"


# Layouts


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_file_with_a_header_is_read(name, delimiter, last, tmp_path):
    path = write(
        tmp_path / name,
        rows_of(pixels(), labels(), last),
        header(last=last),
        delimiter=delimiter,
    )
    assert_read(path, pixels(), labels())


@pytest.mark.parametrize(
    "name", ["label", "Labels", "CLASS", "target", "y", "digit", " label "]
)
def test_the_column_of_labels_is_told_by_its_name(name, tmp_path):
    for last in (False, True):
        path = write(
            tmp_path / "a.csv",
            rows_of(pixels(), labels(), last),
            header(start=name, last=last),
        )
        assert_read(path, pixels(), labels())


def test_without_a_header_the_label_is_the_first_column(tmp_path):
    path = write(tmp_path / "a.csv", rows_of(pixels(), labels()))
    assert_read(path, pixels(), labels())


def test_an_unknown_name_beside_numbered_pixels_is_the_label(tmp_path):
    for last in (False, True):
        path = write(
            tmp_path / "a.csv",
            rows_of(pixels(), labels(), last),
            header(start="kind", last=last),
        )
        assert_read(path, pixels(), labels())


def test_a_header_of_numbers_is_no_image(tmp_path):
    """As pandas writes it."""
    rows = rows_of(pixels(), labels())
    for names in (range(785), ["label", *range(784)], ["label", *range(1, 785)]):
        path = write(tmp_path / "a.csv", rows, names)
        assert_read(path, pixels(), labels())


def test_a_letter_y_in_the_first_row_is_no_header(tmp_path):
    of = np.array(["y", "a", "b"] * 10)
    path = write(tmp_path / "a.csv", rows_of(pixels(), of))
    assert_read(path, pixels(), of)


@pytest.mark.parametrize("name", ["", "id", "Unnamed: 0", "index"])
def test_a_column_that_counts_the_rows_is_left_out(name, tmp_path):
    rows = [[n, *row] for n, row in enumerate(rows_of(pixels(), labels()))]
    path = write(tmp_path / "a.csv", rows, [name, *header()])
    assert_read(path, pixels(), labels())
    rows = [[n, *row] for n, row in enumerate(rows_of(pixels()))]
    path = write(tmp_path / "b.csv", rows, [name, *header()[1:]])
    found, known = read_csv(path, labels=False)
    np.testing.assert_array_equal(found, pixels())
    assert known is None


@pytest.mark.parametrize("last", [False, True])
def test_labels_may_be_strings(last, tmp_path):
    of = np.array(["cat", 'a "good", dog', "Köter"] * 10)
    rows = rows_of(pixels(), of, last)
    assert_read(write(tmp_path / "a.csv", rows), pixels(), of)
    assert_read(write(tmp_path / "a.csv", rows, header(last=last)), pixels(), of)


def test_everything_may_be_quoted(tmp_path):
    rows = rows_of(pixels(), labels())
    path = write(tmp_path / "a.csv", rows, header(), quoting=csv.QUOTE_ALL)
    assert_read(path, pixels(), labels())


@pytest.mark.parametrize("end", ["\r\n", "\n\n", " \n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_ends_of_lines_blank_ones_and_a_mark_at_the_start_do_no_harm(
    start, end, tmp_path
):
    path = write(tmp_path / "a.csv", rows_of(pixels(), labels()), header(), end=end)
    path.write_bytes(start + path.read_bytes())
    assert_read(path, pixels(), labels())


@pytest.mark.parametrize("of", [labels() + 1.0, labels() - 3])
def test_whole_labels_become_int64(of, tmp_path):
    path = write(tmp_path / "a.csv", rows_of(pixels(), of))
    assert_read(path, pixels(), of.astype(np.int64))


def test_images_of_any_square_are_read(tmp_path):
    for side in (2, 8, 32):
        path = write(tmp_path / "a.csv", rows_of(pixels(side=side), labels()))
        assert_read(path, pixels(side=side), labels())


# Numbers


def test_whole_floats_become_uint8(tmp_path):
    path = write(tmp_path / "a.csv", rows_of(pixels().astype(float), labels()))
    assert ".0," in path.read_text()
    assert_read(path, pixels(), labels())
    path.write_text(path.read_text().replace(".0,", ".00,"))
    data = datasets.load(path)
    assert data.train.images.dtype == np.uint8


def test_other_floats_become_float32(tmp_path):
    images = pixels().astype(np.float32) / 255
    path = write(tmp_path / "a.csv", rows_of(images, labels()), header())
    assert_read(path, images, labels())


def test_floats_after_many_whole_numbers_are_floats(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 5000)
    images = pixels().astype(np.float32)
    images[-1, -1, -1] = 0.25
    rows = rows_of(images, labels())
    rows[:20] = rows_of(pixels(), labels())[:20]
    assert_read(write(tmp_path / "a.csv", rows), images, labels())


@pytest.mark.parametrize("kind", [int, float])
def test_only_floats_of_0_and_1_stay_floats(kind, tmp_path):
    images = (pixels() > 99).astype(np.uint8 if kind is int else np.float32)
    path = write(tmp_path / "a.csv", rows_of(images, labels()))
    assert_read(path, images, labels())


# Three channels


def smooth(count=30, side=16):
    """Pictures whose colours are each a slope of its own, (N, 3, H, W)."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((side, side)) / side
    slopes = rng.random((2, count, 3, 1, 1)) * 100
    return rng.random((count, 3, 1, 1)) * 50 + slopes[0] * rows + slopes[1] * columns


@pytest.mark.parametrize("images", [pixels(side=16, channels=3), smooth()])
def test_colours_lie_together(images, tmp_path):
    images = images.astype(np.uint8)
    rows = rows_of(images.transpose(0, 2, 3, 1), labels())
    assert_read(write(tmp_path / "a.csv", rows), images, labels())


def test_colours_that_plainly_lie_apart_are_read_so(tmp_path):
    images = smooth().astype(np.uint8)
    assert_read(write(tmp_path / "a.csv", rows_of(images, labels())), images, labels())


def test_a_header_tells_how_colours_lie(tmp_path):
    images = pixels(side=4, channels=3)
    together = [f"{c}{n}" for n in range(16) for c in "rgb"]
    apart = [f"{c}{n}" for c in "RGB" for n in range(16)]
    rows = rows_of(images.transpose(0, 2, 3, 1), labels())
    assert_read(write(tmp_path / "a.csv", rows, ["y", *together]), images, labels())
    rows = rows_of(images, labels())
    assert_read(write(tmp_path / "a.csv", rows, ["y", *apart]), images, labels())


# Without labels


@pytest.mark.parametrize("names", [None, header()[1:], list(range(784))])
def test_a_file_may_be_without_labels(names, tmp_path):
    path = write(tmp_path / "a.csv", rows_of(pixels()), names)
    found, known = read_csv(path, labels=False)
    np.testing.assert_array_equal(found, pixels())
    assert known is None
    with pytest.raises(ValueError, match=r"a\.csv: expected a column of labels"):
        read_csv(path)


def test_labels_that_need_not_be_there_are_read_if_they_are(tmp_path):
    path = write(tmp_path / "a.csv", rows_of(pixels(), labels()), header())
    np.testing.assert_array_equal(read_csv(path, labels=False)[1], labels())


# What is wrong


def spoiled(row, column, value):
    rows = rows_of(pixels(), labels())
    rows[row][column : column + 1] = [value] if value is not None else []
    return rows


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("first", ["whole", "float"])
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (5, "x", "column 6: expected a number, got 'x'"),
        (784, "", "column 785: expected a number, got ''"),
        (5, "nan", "column 6: expected a number, got 'nan'"),
        (5, "inf", "column 6: expected a number, got 'inf'"),
        (5, "1e39", "column 6: expected a number, got '1e39'"),
        (5, "1_0", "column 6: expected a number, got '1_0'"),
        (0, "", "column 1: expected a label, got ''"),
        (5, None, "expected 785 columns, got 784"),
        (5, "1,2", "expected 785 columns, got 786"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_column(
    column, value, said, first, blank, tmp_path, monkeypatch
):
    monkeypatch.setattr(tables, "BLOCK", 20_000)
    rows = spoiled(20, column, value)
    if first == "float":
        rows[3][5] = 0.5
    path = write(tmp_path / "a.csv", rows, header())
    path.write_text("\n" * blank + path.read_text().replace('"', ""))
    with pytest.raises(ValueError, match="expected") as caught:
        read_csv(path)
    assert f"{path}: line {22 + blank}" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [256, -1, 70_000])
def test_whole_numbers_beyond_a_byte_are_refused(value, tmp_path):
    path = write(tmp_path / "a.csv", spoiled(20, 5, value))
    said = (
        f"line 21, column 6: expected a pixel 0 to 255, or floating ones, got {value}"
    )
    with pytest.raises(ValueError, match=said):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected rows of pixels, got an empty file"),
        (b"\n\n", "expected rows of pixels, got an empty file"),
        (",".join(header()).encode(), "got a header alone"),
        (b"1,2,3,4,5,6,7\n", "line 1: expected a label and the pixels of a square"),
        (b"0" + b",1" * 48 + b"\n", "49 columns may be with a label or without"),
        (b"y" + b",p" * 4 + b",y\n", "6 columns may be with a label or without"),
        (b"text\nmore text\n", "line 1: expected a label and the pixels"),
        (b"caf\xe9" + b",1" * 784, "expected text in UTF-8"),
        (bytes(range(256)), "expected"),
        (gzip.compress(b"0,1,2,3,4\n" * 99)[:-9], "end-of-stream"),
        (gzip.compress(b"0,1,2,3,4\n" * 99)[:-8] + bytes(8), "CRC"),
    ],
)
def test_what_is_no_table_of_images_is_refused_by_name(content, said, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.csv: ") as caught:
        read_csv(path)
    assert said in str(caught.value)


def test_a_missing_table_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_csv(tmp_path / "nowhere.csv")
    with pytest.raises(TypeError, match=r"^labels: expected True or False"):
        read_csv(tmp_path / "nowhere.csv", labels="yes")


# load


def test_a_table_is_a_data_set(tmp_path):
    path = write(tmp_path / "my.digits.csv", rows_of(pixels(), labels()), header())
    data = datasets.load(str(path))
    assert data.name == "my"
    assert len(data.train.labels) == 20
    assert sorted(data.test.labels.tolist()) == list(range(10))
    assert {*data.files} == set()


def test_tables_for_training_validation_and_testing_are_read(tmp_path):
    for seed, part in enumerate(("train", "val", "test")):
        write(tmp_path / f"mnist_{part}.csv", rows_of(pixels(seed=seed), labels()))
    write(tmp_path / "sample_submission.csv", [[1, 2]])
    for source in (tmp_path, tmp_path / "mnist"):
        data = datasets.load(source)
        for seed, split in enumerate((data.train, data.validation, data.test)):
            np.testing.assert_array_equal(split.images, pixels(seed=seed))
            np.testing.assert_array_equal(split.labels, labels())


def test_a_test_table_without_labels_is_left_out_with_a_note(tmp_path, capsys):
    write(tmp_path / "train.csv", rows_of(pixels(), labels()), header())
    path = write(tmp_path / "test.csv", rows_of(pixels(seed=1)), header()[1:])
    data = datasets.load(tmp_path)
    assert capsys.readouterr() == ("", f"{path}: left out, as it has no labels\n")
    assert len(data.train.labels) == 20
    assert len(data.test.labels) == 10


def test_emnist_tables_are_turned_upright(tmp_path):
    lying = pixels().transpose(0, 2, 1)
    for part in ("train", "test"):
        write(tmp_path / f"emnist-letters-{part}.csv", rows_of(lying, labels() + 1))
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.train.images, pixels())
    np.testing.assert_array_equal(data.train.labels, labels() + 1)


def test_arrays_go_before_tables_of_the_same(tmp_path):
    """As the files of Fashion-MNIST lie beside each other."""
    write(tmp_path / "fashion-mnist_train.csv", rows_of(pixels(), labels()))
    datasets.write_idx(tmp_path / "train-images-idx3-ubyte", pixels(seed=5))
    datasets.write_idx(tmp_path / "train-labels-idx1-ubyte", labels().astype("u1"))
    images = np.concatenate([split.images for split in datasets.load(tmp_path)])
    assert {i.tobytes() for i in images} == {i.tobytes() for i in pixels(seed=5)}


# Large files


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file that counts as large, of several blocks."""
    monkeypatch.setattr(datasets, "MAPPED_FROM", 1000)
    monkeypatch.setattr(tables, "BLOCK", 20_000)
    return write(tmp_path / "large.csv", rows_of(pixels(), labels()), header())


@pytest.mark.parametrize("of", [labels(), np.array(["cat", "mouse", "x"] * 10)])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_a_large_file_is_converted_once_and_mapped(dtype, of, large, capsys):
    images = pixels() if dtype == "u1" else pixels().astype("f4") / 255
    write(large, rows_of(images, of), header())
    for said in ("large.csv: 0 MB converted\n", ""):
        assert_read(large, images, of)
        assert capsys.readouterr() == ("", said)
    assert isinstance(read_csv(large)[0], np.memmap)


def test_a_large_file_that_was_changed_is_converted_anew(large, cache):
    read_csv(large)
    (before,) = cache.iterdir()
    os.utime(large, ns=(10**18, 10**18))
    assert_read(large, pixels(), labels())
    (after,) = cache.iterdir()
    assert after != before


def test_a_large_file_may_be_without_labels(large):
    write(large, rows_of(pixels()), header()[1:])
    for _ in range(2):
        found, known = read_csv(large, labels=False)
        np.testing.assert_array_equal(found, pixels())
        assert known is None


def test_a_damaged_cache_of_a_table_is_made_anew(large, cache):
    read_csv(large)
    (kept,) = cache.iterdir()
    for end in (100, 300, -1):
        kept.write_bytes(kept.read_bytes()[:end])
        assert_read(large, pixels(), labels())


def test_a_table_that_is_wrong_leaves_nothing(large, cache):
    write(large, spoiled(29, 5, "x"))
    with pytest.raises(ValueError, match="line 30, column 6"):
        read_csv(large)
    assert not list(cache.iterdir())


def test_of_a_large_table_the_last_sixth_is_kept_to_test_with(large):
    write(large, rows_of(pixels(), labels() % 5))
    data = datasets.load(large)
    np.testing.assert_array_equal(data.train.images, pixels()[:25])
    np.testing.assert_array_equal(data.test.images, pixels()[25:])


BIG = """
import sys, resource
import numpy as np
from lenet5c.data import datasets
datasets.MAPPED_FROM = 1 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images, labels = datasets.read_csv(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(images), (after - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux")
def test_a_large_file_needs_little_memory(tmp_path):
    row = "7," + ",".join(map(str, range(100, 256))) + ",100" * 628 + "\n"
    path = tmp_path / "big.csv"
    path.write_text(row * 40_000)  # 125 MB
    done = subprocess.run(
        [sys.executable, "-c", BIG, path], capture_output=True, text=True, check=True
    )
    count, grown = map(int, done.stdout.split())
    assert count == 40_000
    assert grown < 80


# Which column is the label


@pytest.mark.parametrize("count", [40, 600])
def test_a_first_column_of_one_value_is_no_label(count, tmp_path):
    """scikit-learn's own digits.csv.gz has its labels last, and no names."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (count, 8, 8)).astype(np.uint8)
    images[:, 0, 0] = 0
    targets = np.arange(count) % 10
    table = np.column_stack([images.reshape(count, -1), targets])
    np.savetxt(tmp_path / "a.csv", table, "%d", ",")
    found, of = datasets.read_csv(tmp_path / "a.csv")
    np.testing.assert_array_equal(of, targets)
    np.testing.assert_array_equal(found.reshape(count, -1), images.reshape(count, -1))


def test_a_label_between_pixels_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,label,b,c,d\n1,2,3,4,5\n")
    with pytest.raises(ValueError, match="got 'label' between pixels"):
        datasets.read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["1", "-2", "0"], np.array([1, -2, 0])),
        (["1.0", "2.0", "0."], np.array([1, 2, 0])),
        (["01", "1", "2"], np.array(["01", "1", "2"])),
        (["0e1", "0e2", "1e0"], np.array(["0e1", "0e2", "1e0"])),
        (["1_0", "10", "2"], np.array(["1_0", "10", "2"])),
        (["9" * 30, "1", "2"], np.array(["9" * 30, "1", "2"])),
    ],
)
def test_labels_are_numbers_only_if_they_are_written_so(written, read, tmp_path):
    rows = [f"{label},1,2,3,4" for label in written]
    (tmp_path / "a.csv").write_text("\n".join(["label,a,b,c,d", *rows]) + "\n")
    _, of = datasets.read_csv(tmp_path / "a.csv")
    assert of.dtype.kind == read.dtype.kind
    np.testing.assert_array_equal(of, read)
