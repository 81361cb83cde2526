"""What names say, and which of several make a data set."""

import pytest

from lenet5c.data.names import Name, named, pick, pick_tables


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x_train", ("train", "images", "")),
        ("X_train", ("train", "images", "")),
        ("Y_TRAIN", ("train", "labels", "")),
        ("train_x", ("train", "images", "")),
        ("trainX", ("train", "images", "")),
        ("xTrain", ("train", "images", "")),
        ("xtrain", ("train", "images", "")),
        ("testy", ("test", "labels", "")),
        ("ytest.npy", ("test", "labels", "")),
        ("train_images", ("train", "images", "")),
        ("training_images", ("train", "images", "")),
        ("trainLabels", ("train", "labels", "")),
        ("train-images-idx3-ubyte", ("train", "images", "")),
        ("train-images.idx3-ubyte.gz", ("train", "images", "")),
        ("TRAIN-LABELS-IDX1-UBYTE", ("train", "labels", "")),
        ("t10k-labels.idx1-ubyte", ("test", "labels", "")),
        ("T10K-images", ("test", "images", "")),
        ("test_set_x", ("test", "images", "")),
        ("val_labels", ("validation", "labels", "")),
        ("X_valid", ("validation", "images", "")),
        ("validation-images.npy", ("validation", "images", "")),
        ("dev_y", ("validation", "labels", "")),
        ("kmnist-train-imgs.npz", ("train", "images", "kmnist")),
        ("k49-test-labels.npz", ("test", "labels", "k49")),
        (
            "emnist-letters-train-images-idx3-ubyte",
            ("train", "images", "emnist letters"),
        ),
        ("train_data", ("train", "images", "")),
        ("train_target", ("train", "labels", "")),
        ("data_labels", ("", "labels", "")),
        ("X", ("", "images", "")),
        ("y", ("", "labels", "")),
        ("data", ("", "images", "")),
        ("target", ("", "labels", "")),
        ("image_labels", ("", "labels", "")),
        ("label_names", ("", "labels", "names")),
        ("mnist_train.csv", ("train", "", "mnist")),
        ("fashion-mnist_test.csv.gz", ("test", "", "fashion mnist")),
        ("arr_0", ("", "", "arr 0")),
        ("README", ("", "", "readme")),
        ("", ("", "", "")),
        ("Größe_train", ("train", "", "größe")),
    ],
)
def test_a_name_says_part_what_and_set(name, said):
    assert named(name) == Name(*said)


PAIR = {("train", "images"): 0, ("train", "labels"): 1}
FOUR = PAIR | {("test", "images"): 2, ("test", "labels"): 3}
SIX = FOUR | {("validation", "images"): 4, ("validation", "labels"): 5}


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["x_train", "y_train", "x_test", "y_test"], FOUR),
        (["train_x", "train_y"], PAIR),
        (["images", "labels"], PAIR),
        (["X", "y"], PAIR),
        (["data", "target"], PAIR),
        (["data", "labels"], PAIR),
        (["images", "labels", "x_test", "y_test"], FOUR),
        (
            [
                *("train_images", "train_labels", "test_images", "test_labels"),
                *("val_images", "val_labels"),
            ],
            SIX,
        ),
        (["kmnist-train-imgs.npz", "kmnist-train-labels.npz"], PAIR),
        (["x_train", "y_train", "label_names", "arr_0", "README"], PAIR),
        (["X_train_28x28.npy", "y_train.npy"], PAIR),  # a word more
    ],
)
def test_one_name_is_picked_for_each_part_and_what(names, keys):
    expected = {key: names[number] for key, number in keys.items()}
    assert pick("here", names) == expected
    assert pick("here", names[::-1]) == expected


def test_of_two_spellings_the_plain_file_is_picked():
    names = ["train-images-idx3-ubyte.gz", "train-images.idx3-ubyte"]
    found = pick("here", [*names, "train-labels", "train-labels.npy"])
    assert found == {
        ("train", "images"): names[1],
        ("train", "labels"): "train-labels",
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ["got nothing", "missing: train images, train labels", "x_train"]),
        (["arr_0", "arr_1"], ["got arr_0, arr_1", "missing: train images"]),
        (["x_train"], ["got x_train", "missing: train labels"]),
        (["x_test", "y_test"], ["missing: train images, train labels"]),
        (["x_train", "y_train", "x_test"], ["missing: test labels"]),
        (["x_train", "y_train", "y_val"], ["missing: validation images"]),
        (
            ["x_train", "train_images", "y_train"],
            ["expected one for train images, got train_images and x_train"],
        ),
        (["X", "y", "x_train", "y_train"], ["expected one pair", "X, x_train"]),
        (
            [
                f"emnist-{of}-train-{what}"
                for of in ("letters", "digits")
                for what in ("images", "labels")
            ],
            [
                *("expected one data set, got 2", "emnist digits: emnist-digits-train"),
                *("emnist letters: emnist-letters-train", "picks one"),
            ],
        ),
    ],
)
def test_what_cannot_be_picked_is_listed(names, said):
    with pytest.raises(ValueError, match=r"^here: expected") as caught:
        pick("here", names)
    for part in said:
        assert part in str(caught.value)


def test_tables_are_picked_by_their_parts():
    names = ["mnist_train.csv", "mnist_test.csv", "mnist_val.csv.gz"]
    found = pick_tables("here", names)
    assert {part: name for (part, _), name in found.items()} == {
        "train": names[0],
        "test": names[1],
        "validation": names[2],
    }
    with pytest.raises(
        ValueError, match=r"expected a table to train on.*got test\.csv"
    ):
        pick_tables("here", ["test.csv"])
    with pytest.raises(ValueError, match="expected one data set, got 2"):
        pick_tables("here", ["a_train.csv", "b_train.csv"])
