"""Data: what is read from files, what is found where, and what is refused."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from http.client import IncompleteRead
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from lenet5c.data import arrays, datasets
from lenet5c.data.datasets import write_idx

FILES = tuple(datasets.IDX_FILES)


def random_array(dtype, shape=(3, 4, 5), seed=0):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return values.astype(dtype)


def small(seed=0, train=20, test=10):
    """A data set in the shape of MNIST, as the arrays of its four files."""
    generator = np.random.default_rng(seed)
    return tuple(
        generator.integers(0, most, shape).astype(np.uint8)
        for count in (train, test)
        for most, shape in ((256, (count, 28, 28)), (10, (count,)))
    )


def write_files(folder, arrays, names=FILES, end=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays, strict=False):
        write_idx(folder / f"{name}{end}", array)


def held_out(images, labels):
    """Which ones are kept to test with: (N,) bool."""
    return arrays.hold_out("here", images, labels)[1]


def assert_split(data, images, labels):
    """The data are these images in the same order, a sixth of each class to test."""
    test = held_out(images, labels)
    for found, array in zip(
        (*data.train, *data.test),
        (images[~test], labels[~test], images[test], labels[test]),
        strict=True,
    ):
        np.testing.assert_array_equal(found, array)


def assert_holds(data, arrays):
    for found, array in zip((*data.train, *data.test), arrays, strict=True):
        np.testing.assert_array_equal(found, array)
    assert data.train.images.dtype == data.test.images.dtype == np.uint8
    assert data.train.labels.dtype == data.test.labels.dtype == np.int64


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folder of LENET5C_DATA and the cache, neither of which exists."""
    monkeypatch.setenv("LENET5C_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data", tmp_path / "cache" / "lenet5c"


@pytest.fixture
def originals(monkeypatch):
    """Small arrays that pass for the original MNIST."""
    arrays = small()
    monkeypatch.setattr(datasets, "TRAINING_IMAGES", 20)
    monkeypatch.setattr(datasets, "TEST_IMAGES", 10)
    digests = [
        hashlib.md5(datasets.idx_header(array) + array.tobytes()).hexdigest()
        for array in arrays
    ]
    monkeypatch.setattr(datasets, "IDX_FILES", dict(zip(FILES, digests, strict=True)))
    return arrays


@pytest.fixture
def openml(monkeypatch, originals):
    """What fetch_openml is asked for; it answers with `answer`, or raises it."""
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    images = np.concatenate(originals[::2]).reshape(30, 784).astype(np.float64)
    labels = np.array([str(label) for label in np.concatenate(originals[1::2])], object)
    state = SimpleNamespace(
        calls=[], answer=SimpleNamespace(data=images, target=labels)
    )

    def fetch_openml(name, **options):
        state.calls.append((name, options))
        if isinstance(state.answer, Exception):
            raise state.answer
        return state.answer

    monkeypatch.setattr(sklearn_datasets, "fetch_openml", fetch_openml)
    return state


# MNIST and Fashion-MNIST


@pytest.mark.skipif(
    not os.environ.get("LENET5C_DATA"),
    reason="LENET5C_DATA does not name a folder that holds mnist/",
)
def test_the_real_mnist_is_read():
    data = datasets.mnist()
    assert data.name == "mnist"
    assert data.train.images.shape == (60_000, 28, 28)
    assert data.test.images.shape == (10_000, 28, 28)
    assert data.train.images.dtype == data.test.images.dtype == np.uint8
    assert data.train.labels.dtype == data.test.labels.dtype == np.int64
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # the mean and deviation that everyone knows
    counts = np.bincount(data.train.images.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum()
    assert mean == pytest.approx(0.1307, abs=5e-5)
    deviation = np.sqrt(counts @ (values - mean) ** 2 / counts.sum())
    assert deviation == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.parametrize("name", ["fashion", 3])
def test_only_what_is_downloaded_is_looked_for(name):
    expected = f"name: expected 'mnist' or 'fashion-mnist', got {name!r}"
    with pytest.raises(ValueError, match=expected):
        datasets.find(name)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("place", [0, 1], ids=["LENET5C_DATA", "cache"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_files_are_found_where_they_lie(name, place, end, places, originals, openml):
    folder = places[place] / name
    assert datasets.find(name) is None
    write_files(folder, originals, end=end)
    assert datasets.find(name) == folder
    data = datasets.load(name)
    assert data.name == name
    assert_holds(data, originals)
    assert not openml.calls


def test_the_named_folder_goes_before_the_cache(places, originals, monkeypatch):
    others = small(seed=1)
    write_files(places[0] / "fashion-mnist", originals)
    write_files(places[1] / "fashion-mnist", others)
    assert_holds(datasets.fashion_mnist(), originals)
    monkeypatch.delenv("LENET5C_DATA")
    assert_holds(datasets.fashion_mnist(), others)


def test_the_cache_is_in_the_home_folder_by_default(tmp_path, monkeypatch, originals):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("LENET5C_DATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "")
    write_files(tmp_path / ".cache" / "lenet5c" / "mnist", originals)
    assert datasets.find("mnist") == tmp_path / ".cache" / "lenet5c" / "mnist"
    assert_holds(datasets.mnist(), originals)


def test_without_a_home_the_error_says_what_to_do(tmp_path, monkeypatch, originals):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LENET5C_DATA", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert datasets.find("mnist") is None
    with pytest.raises(OSError, match="set HOME or XDG_CACHE_HOME"):
        datasets.mnist()
    monkeypatch.setenv("LENET5C_DATA", str(tmp_path))
    write_files(tmp_path / "mnist", originals)
    assert_holds(datasets.mnist(), originals)


@pytest.mark.parametrize("number", range(4))
def test_a_single_changed_value_is_not_mnist(number, places, originals):
    arrays = [array.copy() for array in originals]
    arrays[number].flat[7] ^= 1
    write_files(places[0] / "mnist", arrays)
    with pytest.raises(
        ValueError, match=f"{FILES[number]}: expected the MD5"
    ) as caught:
        datasets.mnist()
    assert str(places[0]) in str(caught.value)
    assert "load(folder)" in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_other_sizes_are_not_the_originals(name, places, originals):
    write_files(places[0] / name, small(train=19))
    with pytest.raises(ValueError, match=r"train-images.*expected.*\(20, 28, 28\)"):
        datasets.load(name)


@pytest.mark.parametrize(
    ("name", "at_openml"), [("mnist", "mnist_784"), ("fashion-mnist", "Fashion-MNIST")]
)
def test_what_is_nowhere_is_downloaded_once(name, at_openml, places, originals, openml):
    first = datasets.load(name)
    assert_holds(first, originals)
    ((asked, options),) = openml.calls
    assert asked == at_openml
    assert options["version"] == 1
    assert not places[0].exists()
    assert sorted(file.name for file in (places[1] / name).iterdir()) == sorted(
        f"{file}.gz" for file in FILES
    )
    second = datasets.load(name)
    assert len(openml.calls) == 1
    assert_holds(second, originals)


def test_a_download_that_was_interrupted_starts_again(places, originals, openml):
    write_files(places[1] / "mnist", originals[:3], end=".gz")
    assert_holds(datasets.mnist(), originals)
    assert len(openml.calls) == 1


def test_a_download_that_is_not_mnist_is_not_kept(places, openml):
    openml.answer.data[3, 300] += 1
    with pytest.raises(FileNotFoundError, match=r"openml\.org: .*expected the MD5"):
        datasets.mnist()
    assert not list((places[1] / "mnist").iterdir())


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route to host"),
        TimeoutError("no route to host"),
        ValueError("no route to host"),
        IncompleteRead(b"no route to host"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_a_network_the_error_says_what_to_do(error, places, openml):
    openml.answer = error
    with pytest.raises(FileNotFoundError) as caught:
        datasets.mnist()
    message = str(caught.value)
    assert message.startswith("mnist: could not be downloaded")
    for part in (
        *FILES,
        str(places[1] / "mnist"),
        "LENET5C_DATA",
        type(error).__name__,
    ):
        assert part in message


def test_a_cache_that_cannot_be_written_is_said_before_the_download(places, openml):
    places[1].parent.write_text("a file where a folder should be")
    with pytest.raises(FileNotFoundError, match=str(places[1])):
        datasets.mnist()
    assert not openml.calls


def test_without_scikit_learn_the_error_says_what_to_do(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'lenet5c\[sklearn\]'"):
        datasets.digits()
    with pytest.raises(
        ImportError, match=r"pip install 'lenet5c\[sklearn\]'"
    ) as caught:
        datasets.mnist()
    for part in (*FILES, str(places[1] / "mnist"), "LENET5C_DATA"):
        assert part in str(caught.value)
    assert not places[1].exists()


def test_importing_the_package_does_not_import_scikit_learn():
    code = "import sys, lenet5c.datasets; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# digits


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return datasets.digits()


def test_digits_are_28x28_and_split_alike_by_class(digits):
    assert digits.name == "digits"
    assert digits.train.images.shape == (1437, 28, 28)
    assert digits.test.images.shape == (360, 28, 28)
    assert digits.train.images.dtype == digits.test.images.dtype == np.uint8
    assert digits.train.labels.dtype == digits.test.labels.dtype == np.int64
    tested = np.bincount(digits.test.labels)
    total = tested + np.bincount(digits.train.labels)
    assert len(total) == 10
    assert (abs(tested - total / 5) < 1).all()


def test_digits_are_the_same_each_time(digits):
    again = datasets.load("digits")
    for one, other in zip(
        (*digits.train, *digits.test), (*again.train, *again.test), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    content = hashlib.sha256(
        digits.train.images.tobytes() + digits.test.images.tobytes()
    )
    assert content.hexdigest().startswith("513ab128d9dd234d")


def test_no_image_of_the_digits_is_lost_or_in_both_splits(digits):
    images = np.concatenate([digits.train.images, digits.test.images])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797


def test_digits_lie_in_the_middle_on_black_and_reach_white(digits):
    images = np.concatenate([digits.train.images, digits.test.images])
    inside = np.zeros((28, 28), bool)
    inside[4:24, 4:24] = True
    assert not images[:, ~inside].any()
    assert images.max() == 255
    assert (images.max(axis=0)[4:24, 10:18] > 200).all()


def test_digits_are_enlarged_bilinearly():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 17, (8, 8))
    found = datasets._enlarged(image[np.newaxis])[0]
    at = np.clip((np.arange(20) + 0.5) * 8 / 20 - 0.5, 0, 7)
    for y in range(20):
        row = [np.interp(at[y], range(8), image[:, x]) for x in range(8)]
        expected = np.interp(at, range(8), row) * 255 / 16
        assert (abs(found[y] - expected) <= 0.5 + 1e-9).all()


def test_the_enlarged_labels_belong_to_their_images(digits):
    """The nearest training image has the same label, for nearly all test images."""
    train = digits.train.images.reshape(1437, -1).astype(np.float32)
    test = digits.test.images.reshape(360, -1).astype(np.float32)
    distances = (train**2).sum(1) - 2 * test @ train.T
    nearest = digits.train.labels[distances.argmin(axis=1)]
    assert (nearest == digits.test.labels).mean() > 0.97


# folders


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("test", ["t10k", "test"])
def test_a_folder_of_idx_files_is_read(test, end, tmp_path):
    arrays = small()
    names = [
        "train-images-idx3-ubyte",
        "train-labels.idx1-ubyte",
        f"{test}-images-idx3-ubyte",
        f"{test}-labels",
    ]
    folder = tmp_path / "my-digits"
    write_files(folder, arrays, names, end)
    for source in (folder, str(folder)):
        data = datasets.load(source)
        assert data.name == "my-digits"
        assert_holds(data, arrays)


def test_a_plain_file_goes_before_its_gzipped_twin(tmp_path):
    write_files(tmp_path, small(seed=1), end=".gz")
    write_files(tmp_path, small())
    assert_holds(datasets.load(tmp_path), small())


def test_a_path_named_like_a_data_set_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "digits", small())
    assert_holds(datasets.load("./digits"), small())
    assert_holds(datasets.load(Path("digits")), small())


def test_without_test_images_a_sixth_of_each_class_is_kept_for_that(tmp_path):
    images, labels, *_ = small(train=72)
    labels[:] = np.arange(72) // 24  # sorted
    write_files(tmp_path, (images, labels))
    data = datasets.load(tmp_path)
    assert_split(data, images, labels)
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_which_ones_are_kept_does_not_hang_on_their_order():
    images, labels, *_ = small(train=90)
    labels[:] = np.arange(90) % 3
    order = np.random.default_rng(1).permutation(90)
    test = held_out(images, labels)
    np.testing.assert_array_equal(held_out(images[order], labels[order]), test[order])
    added = held_out(np.append(images, images[:1] // 2, 0), np.append(labels, 0))
    assert (added[:90] != test).sum() <= 1


@pytest.mark.parametrize(("count", "kept"), [(1, 0), (2, 0), (3, 1), (8, 1), (9, 2)])
def test_at_least_one_image_of_a_class_stays_in_training(count, kept):
    images, labels, *_ = small(train=20)
    labels[:] = np.arange(20) < count
    assert held_out(images, labels)[labels == 1].sum() == kept


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (3,), (0, 1), (0, 1, 2, 3)])
def test_what_a_folder_lacks_is_named(missing, tmp_path):
    arrays = small()
    for number in set(range(4)) - set(missing):
        write_idx(tmp_path / FILES[number], arrays[number])
    with pytest.raises(ValueError, match="missing") as caught:
        datasets.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    for number, name in enumerate(FILES):
        part = str(caught.value).partition("missing")[2]
        of = name[:12].replace("t10k", "test").replace("-", " ").rstrip("s ")
        none_of_it = number > 1 and {2, 3} <= set(missing)
        assert (of in part) == (number in missing and not none_of_it)


def test_folders_beside_the_files_are_left_out(tmp_path):
    names = [name.replace("-idx", ".idx") for name in FILES]
    write_files(tmp_path, small(), names)
    for name, other in zip(FILES, small(seed=1), strict=True):
        (tmp_path / name).mkdir()
        if other.ndim > 1:
            write_idx(tmp_path / name / name, other)
    assert_holds(datasets.load(tmp_path), small())


def test_files_inside_of_folders_of_their_names_are_found(tmp_path):
    for name, array in zip(FILES, small(), strict=True):
        write_files(tmp_path / name.replace("-idx", ".idx"), [array], [name])
    assert_holds(datasets.load(tmp_path), small())


def test_images_and_labels_in_a_folder_for_each_part_are_found(tmp_path):
    for part, some in (("train", small()[:2]), ("test", small()[2:])):
        write_files(tmp_path / part, some, ("images", "labels"))
    assert_holds(datasets.load(tmp_path), small())


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("trainX", "trainY", "testX", "testY"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        (
            "kmnist-train-imgs",
            "kmnist-train-labels",
            "kmnist-test-imgs",
            "kmnist-test-labels",
        ),
        ("training_data", "training_target", "testing_data", "testing_target"),
        ("TRAIN-IMAGES", "TRAIN-LABELS", "T10K-IMAGES", "T10K-LABELS"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "npy", "npz of one", "idx"])
def test_names_that_people_give_are_understood(names, kind, tmp_path):
    named = dict(zip(names, small(), strict=True))
    if kind == "npz":
        np.savez(tmp_path / "a.npz", **named)
        assert_holds(datasets.load(tmp_path / "a.npz"), small())
        return
    for name, array in named.items():
        if kind == "npy":
            np.save(tmp_path / f"{name}.npy", array)
        elif kind == "idx":
            write_idx(tmp_path / f"{name}.idx", array)
        else:
            np.savez_compressed(tmp_path / f"{name}.npz", array)
    assert_holds(datasets.load(tmp_path), small())


def test_an_npz_file_of_several_arrays_among_files_is_refused(tmp_path):
    write_files(tmp_path, small()[:1])
    np.savez(tmp_path / "train-labels.npz", a=small()[1], b=small()[1])
    with pytest.raises(ValueError, match=r"train-labels\.npz: .*one array, got .*'a'"):
        datasets.load(tmp_path)


def write_emnist(folder, of="letters", seed=0, end=".gz"):
    arrays = small(seed)
    for name, array in zip(FILES, arrays, strict=True):
        name = f"emnist-{of}-{name.replace('t10k', 'test')}"
        lying = array.transpose(0, 2, 1) if array.ndim == 3 else array
        write_files(folder, [lying], [name], end)
    return arrays


@pytest.mark.parametrize("end", ["", ".gz"])
def test_emnist_is_turned_upright(end, tmp_path):
    arrays = write_emnist(tmp_path, end=end)
    data = datasets.load(tmp_path)
    assert_holds(data, arrays)
    assert data.train.images.flags.c_contiguous


def test_emnist_that_is_mapped_is_turned_without_a_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAPPED_FROM", 10_000)
    arrays = write_emnist(tmp_path, end="")
    data = datasets.load(tmp_path)
    assert_holds(data, arrays)
    assert isinstance(data.train.images, np.memmap)


def test_of_several_sets_in_a_folder_one_is_picked_by_its_name(tmp_path):
    letters = write_emnist(tmp_path)
    digits = write_emnist(tmp_path, "digits", seed=1)
    with pytest.raises(ValueError, match=r"emnist digits: .*; emnist letters: "):
        datasets.load(tmp_path)
    data = datasets.load(tmp_path / "emnist-letters")
    assert data.name == "emnist-letters"
    assert_holds(data, letters)
    assert_holds(datasets.load(str(tmp_path / "emnist-digits")), digits)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        datasets.load(tmp_path / "emnist-let")


def test_what_is_in_a_folder_without_data_is_listed(tmp_path):
    (tmp_path / "x_train.txt").touch()
    (tmp_path / "y_train.txt").touch()
    with pytest.raises(ValueError, match=r"got x_train\.txt, y_train\.txt; missing"):
        datasets.load(tmp_path)


@pytest.mark.parametrize("kind", ["IDX", "npy"])
@pytest.mark.parametrize("large", [False, True])
def test_large_plain_files_in_a_folder_are_mapped(large, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAPPED_FROM", 10_000 if large else 1 << 20)
    arrays = small()
    if kind == "IDX":
        write_files(tmp_path, arrays)
    else:
        for name, array in zip(FILES, arrays, strict=True):
            np.save(tmp_path / f"{name}.npy", array)
    data = datasets.load(tmp_path)
    assert_holds(data, arrays)
    assert isinstance(data.train.images, np.memmap) == large
    assert data.train.images.flags.writeable == (not large)
    assert not isinstance(data.test.images, np.memmap)  # 10 images: 7,840 bytes


def test_what_is_kept_of_a_mapped_file_is_mapped_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAPPED_FROM", 1000)
    images, labels = random_array("float32", (50, 6, 5)) / 7, np.arange(50) % 5
    np.save(tmp_path / "train-images.npy", images)
    np.save(tmp_path / "train-labels.npy", np.array(list("abcde"))[labels])
    data = datasets.load(tmp_path)
    np.testing.assert_array_equal(data.train.images, images[:42])
    np.testing.assert_array_equal(data.test.images, images[42:])
    assert data.test.labels.tolist() == list("cdeabcde")
    for split in (data.train, data.test):
        assert np.shares_memory(split.images, data.train.images.base)
        assert not split.images.flags.writeable


@pytest.mark.parametrize("labels", [np.arange(50) // 10, np.arange(50) // 49])
def test_mapped_images_whose_last_ones_lack_a_class_are_refused(
    labels, tmp_path, monkeypatch
):
    monkeypatch.setattr(datasets, "MAPPED_FROM", 1000)
    np.save(tmp_path / "train-images.npy", random_array("uint8", (50, 6, 5)))
    np.save(tmp_path / "train-labels.npy", labels)
    with pytest.raises(ValueError, match="Shuffle the images"):
        datasets.load(tmp_path)


def test_a_large_gzipped_file_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAPPED_FROM", 10)
    write_files(tmp_path, small(), end=".gz")
    data = datasets.load(tmp_path)
    assert_holds(data, small())
    assert not isinstance(data.train.images, np.memmap)


@pytest.mark.parametrize("mapped_from", [1, 1 << 20])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:6],
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content.replace(b"(20,", b"(90,"),
        lambda content: content.replace(b"|u1", b"|O1"),
    ],
    ids=["start", "header", "truncated", "too large", "pickle"],
)
def test_a_damaged_npy_file_is_refused_by_name(
    spoil, mapped_from, tmp_path, monkeypatch
):
    monkeypatch.setattr(datasets, "MAPPED_FROM", mapped_from)
    write_files(tmp_path, small())
    (tmp_path / FILES[0]).unlink()
    np.save(tmp_path / "train-images.npy", small()[0])
    content = (tmp_path / "train-images.npy").read_bytes()
    assert spoil(content) != content
    (tmp_path / "train-images.npy").write_bytes(spoil(content))
    with pytest.raises(ValueError, match=r"train-images\.npy: "):
        datasets.load(tmp_path)


# .npz


def keras(arrays):
    return dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=False))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_with_the_names_of_keras_is_read(save, tmp_path):
    arrays = small()
    save(tmp_path / "photos.npz", **keras(arrays))
    data = datasets.load(str(tmp_path / "photos.npz"))
    assert data.name == "photos"
    assert_holds(data, arrays)


def test_an_npz_file_of_medmnist_is_read(tmp_path):
    """With a validation set, channels last, labels in a column."""
    colours = np.random.default_rng(0).integers(0, 256, (30, 28, 28, 3), np.uint8)
    named = {}
    for part in ("train", "val", "test"):
        named[f"{part}_images"] = colours + np.uint8(len(part))
        named[f"{part}_labels"] = (np.arange(30) % 7)[:, np.newaxis]
    np.savez(tmp_path / "bloodmnist.npz", **named)
    data = datasets.load(tmp_path / "bloodmnist.npz")
    for part, split in (
        *(("train", data.train), ("val", data.validation)),
        ("test", data.test),
    ):
        images = (colours + np.uint8(len(part))).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(split.images, images)
        assert split.labels.tolist() == [n % 7 for n in range(30)]


def test_a_data_set_is_unpacked_as_two_pairs(tmp_path):
    arrays = small()
    np.savez(tmp_path / "a.npz", **keras(arrays))
    data = datasets.load(tmp_path / "a.npz")
    (x, y), (x_test, y_test) = data
    for found, array in zip((x, y, x_test, y_test), arrays, strict=True):
        np.testing.assert_array_equal(found, array)
    assert data.validation is None
    assert data.files == {}


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train")])
def test_a_sixth_of_an_npz_file_is_kept_for_testing(names, tmp_path):
    images, labels, *_ = small(train=24)
    labels[:] = np.arange(24) % 4
    np.savez(tmp_path / "a.npz", **dict(zip(names, (images, labels), strict=True)))
    data = datasets.load(tmp_path / "a.npz")
    assert_split(data, images, labels)


@pytest.mark.parametrize("shape", [(28, 28), (784,), (1, 28, 28), (3, 30, 31)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_images_of_an_npz_file_keep_shape_and_dtype(shape, dtype, tmp_path):
    images = random_array(dtype, (10, *shape))
    if dtype != "uint8":
        images /= 100
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(10) % 2)
    data = datasets.load(tmp_path / "a.npz")
    assert data.train.images.dtype == np.dtype(dtype)
    assert_split(data, images, np.arange(10) % 2)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.arange(10, dtype=np.uint8) % 2, np.int64),
        (np.arange(10, dtype=">i4") % 2, np.int64),
        ((np.arange(10) % 2)[:, np.newaxis], np.int64),
        (np.arange(10) % 2 == 1, np.int64),
        (np.array(["cat", "dog"] * 5), np.dtype("U3")),
        (np.array([b"cat", "kö".encode()] * 5), np.dtype("U3")),
        (np.arange(10) % 2 * 7.0, np.int64),
        (np.eye(2)[np.arange(10) % 2], np.int64),
        (np.eye(3, dtype=bool)[np.arange(10) % 2], np.int64),
    ],
    ids=[
        *("uint8", "big-endian", "column", "bool", "text", "bytes", "float"),
        *("one-hot", "one-hot bool"),
    ],
)
def test_labels_become_int64_or_text(labels, dtype, tmp_path):
    images = random_array("uint8", (10, 6, 5))
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    data = datasets.load(tmp_path / "a.npz")
    assert data.train.labels.dtype == dtype
    if labels.dtype.kind == "S":
        labels = np.array(["cat", "kö"] * 5)
    elif labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(1)
    assert_split(data, images, labels.reshape(10))


IMAGES = random_array("uint8", (10, 6, 5))
LABELS = np.arange(10) % 2


@pytest.mark.parametrize(
    ("arrays", "error", "said"),
    [
        ({}, ValueError, "x_train"),
        ({"x_train": IMAGES}, ValueError, "missing: train labels"),
        ({"labels": LABELS}, ValueError, "missing"),
        (keras((IMAGES, LABELS, IMAGES)), ValueError, "missing: test labels"),
        (
            {"images": IMAGES, "labels": LABELS[:9]},
            ValueError,
            "labels: expected a label",
        ),
        ({"images": IMAGES, "labels": LABELS.reshape(2, 5)}, ValueError, "(2, 5)"),
        ({"images": IMAGES, "labels": np.eye(10) * 0.9}, TypeError, "float64"),
        ({"images": IMAGES, "labels": np.eye(10) + 1}, ValueError, "(10, 10)"),
        ({"images": IMAGES, "labels": np.ones((10, 2))}, ValueError, "(10, 2)"),
        ({"images": IMAGES, "labels": np.eye(10)[:9]}, ValueError, "(9, 10)"),
        ({"images": IMAGES, "labels": LABELS + np.nan}, TypeError, "float64"),
        ({"images": IMAGES, "labels": np.array([b"\xff"] * 10)}, ValueError, "UTF-8"),
        (
            {"images": IMAGES, "labels": LABELS / 2},
            TypeError,
            "labels: expected integers",
        ),
        ({"images": IMAGES, "labels": LABELS + 1j}, TypeError, "complex"),
        (
            {"images": IMAGES, "labels": np.int64(3)},
            ValueError,
            "labels: expected a label",
        ),
        ({"images": LABELS, "labels": LABELS}, ValueError, "shape (10,)"),
        (
            {"images": LABELS * 1.0, "labels": LABELS},
            ValueError,
            "images: expected images",
        ),
        (
            {"images": np.uint8(3), "labels": LABELS},
            ValueError,
            "images: expected images",
        ),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, ValueError, "(0, 6, 5)"),
        ({"images": IMAGES[:, :0], "labels": LABELS}, ValueError, "(10, 0, 5)"),
        ({"images": IMAGES[..., None, None], "labels": LABELS}, ValueError, "1, 1)"),
        ({"images": IMAGES[:4], "labels": LABELS[:4]}, ValueError, "3 images of a"),
        (
            {"images": IMAGES.astype(int) - 1, "labels": LABELS},
            ValueError,
            f"expected pixels 0 to 255, or floating ones, got int64 from -1 to "
            f"{IMAGES.max() - 1}",
        ),
        (
            {"images": IMAGES.astype("u2") + 200, "labels": LABELS},
            ValueError,
            f"got uint16 from {200 + int(IMAGES.min())} to {200 + int(IMAGES.max())}",
        ),
        ({"images": IMAGES, "labels": np.sort(LABELS)}, None, ""),
        ({"images": IMAGES, "labels": np.arange(10) // 8}, None, ""),
        (
            keras((IMAGES, LABELS, IMAGES[:, 1:], LABELS)),
            ValueError,
            "x_test: expected uint8 images of the shape (6, 5), like x_train, got",
        ),
        (
            keras((IMAGES, LABELS, IMAGES / 255, LABELS)),
            ValueError,
            "x_test: expected uint8 images",
        ),
        (keras((IMAGES, LABELS, IMAGES, LABELS[1:])), ValueError, "y_test: expected"),
        (keras((IMAGES, LABELS, IMAGES + 0j, LABELS)), TypeError, "x_test: expected"),
    ],
)
def test_what_is_wrong_in_an_npz_file_is_named(arrays, error, said, tmp_path):
    path = tmp_path / "photos.npz"
    np.savez(path, **arrays)
    if error is None:
        datasets.load(path)
        return
    with pytest.raises(error) as caught:
        datasets.load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def saved(save, *arguments, **options):
    stream = io.BytesIO()
    save(stream, *arguments, **options)
    return stream.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


WHOLE_NPZ = saved(np.savez_compressed, **keras(small()))
HUGE_NPY = saved(
    np.lib.format.write_array_header_1_0,
    {"descr": "|u1", "fortran_order": False, "shape": (1 << 62,)},
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text\n" * 50,
        saved(np.save, IMAGES),
        saved(np.savez, x_train=np.array([{}], object), y_train=LABELS),
        WHOLE_NPZ[:-1],
        WHOLE_NPZ[:-30],
        WHOLE_NPZ[: len(WHOLE_NPZ) // 2],
        WHOLE_NPZ[:200] + bytes(100) + WHOLE_NPZ[300:],
        zipped(x_train=b"text", y_train=b"text"),
        zipped(x_train=b"", y_train=b""),
        zipped(x_train=HUGE_NPY, y_train=HUGE_NPY),
        gzip.compress(b"text"),
    ],
    ids=[
        *("empty", "text", "npy", "pickle", "truncated 1", "truncated 30", "half"),
        *("damaged", "text inside", "nothing inside", "huge", "gzip"),
    ],
)
def test_a_damaged_npz_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "photos.npz"
    path.write_bytes(content)
    with pytest.raises((ValueError, TypeError), match=r"photos\.npz: "):
        datasets.load(path)


def test_pickled_objects_in_an_npz_file_are_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    array = np.array([Bomb()], object)
    np.savez(tmp_path / "a.npz", x_train=array, y_train=array)
    with pytest.raises(ValueError, match="pickle"):
        datasets.load(tmp_path / "a.npz")
    assert not (tmp_path / "exploded").exists()


# load


@pytest.mark.parametrize("source", ["", "MNIST", "nothing", "text.txt", "digits.np"])
def test_other_sources_are_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    if source == "":
        source = "no/folder"
    exists = source == "text.txt"
    with pytest.raises(
        ValueError if exists else FileNotFoundError,
        match=r"^source: .*expected 'mnist', ",
    ) as caught:
        datasets.load(source)
    assert ("does not exist" in str(caught.value)) != exists
    assert repr(source) in str(caught.value)
    assert ".npz" in str(caught.value)


@pytest.mark.parametrize("source", [None, 5, 1.5, ["digits"], np.zeros(3), b"digits"])
def test_other_types_of_source_are_refused(source):
    with pytest.raises(TypeError, match=r"^source: expected a str or a path"):
        datasets.load(source)


@pytest.mark.parametrize(
    ("source", "near"),
    [
        *(("fashion_mnst", "fashion-mnist"), ("MNIST", "mnist"), ("digit", "digits")),
        *(("my-digitz", "my-digits"), ("foto/a.npz", "a.npy"), ("nothing", None)),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(
    source, near, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "my-digits", small())
    (tmp_path / "foto").mkdir()
    (tmp_path / "foto" / "a.npy").touch()
    with pytest.raises(FileNotFoundError, match="does not exist") as caught:
        datasets.load(source)
    assert (f"did you mean {near!r}" in str(caught.value)) == (near is not None)


@pytest.mark.parametrize("option", [{"size": 20}, {"channels": 3}])
def test_options_of_pictures_are_refused_for_arrays(option, tmp_path):
    np.savez(tmp_path / "a.npz", **keras(small()))
    for source in (tmp_path / "a.npz", "digits"):
        with pytest.raises(ValueError, match=r"expected None, as .* is no folder of p"):
            datasets.load(source, **option)


def test_a_missing_npz_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        datasets.load(tmp_path / "nowhere.npz")
