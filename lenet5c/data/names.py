"""What the names of files and of arrays say: x_train, t10k-labels-idx1-ubyte, val.csv.

A name is of a part (train, validation, test; "" if it says none), says what is in it
(images, labels; "" likewise) and of which set it is: the words that are left, such as
"emnist letters".
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from lenet5c._support.text import listing

__all__ = ["PARTS", "Name", "named", "pick", "pick_tables", "trains"]

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
}
WHAT = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs", "pixels"), "images"),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), "labels"),
}
VAGUE = "data"  # images, unless another word says what
SILENT = {"gz", "npy", "npz", "csv", "tsv", "idx", "ubyte", "set", "array"}
SILENT |= {f"idx{dimensions}" for dimensions in range(1, 5)}
KNOWN = {*PARTS, *WHAT, *SILENT, VAGUE}
EXPECTED = (
    "images and labels to train on, named x_train and y_train, train-images and "
    "train-labels, images and labels, or much like these; and, to test with, x_test "
    "and y_test, or t10k-images and t10k-labels"
)
Key = tuple[str, str]  # part, what


class Name(NamedTuple):
    """What a name says, see the head of this file."""

    part: str
    what: str
    of: str

    @property
    def key(self) -> Key:
        return self.part, self.what


def named(name: str) -> Name:
    """What a name says, in upper or lower case."""
    part, what, vague, others = "", "", "", []
    for word in _words(name):
        if word in PARTS:
            part = PARTS[word]
        elif word in WHAT:
            what = WHAT[word]
        elif word == VAGUE:
            vague = "images"
        elif word not in SILENT:
            others.append(word)
    return Name(part, what or vague, " ".join(dict.fromkeys(others)))


def _words(name: str) -> Iterator[str]:
    """In lower case: two for trainX, x_train and xtrain alike."""
    apart = re.sub("(?<=[a-z])(?=[A-Z])", " ", name)
    for word in re.findall(r"[^\W_]+", apart.lower()):
        for end in range(1, 0 if word in KNOWN else len(word)):
            if word[:end] in KNOWN and word[end:] in KNOWN:
                yield from (word[:end], word[end:])
                break
        else:
            yield word


def pick(
    where: str, found: Iterable[str], seen: Iterable[str] | None = None
) -> dict[Key, str]:
    """Of these names, those of images and labels of one set, by part and what.

    Names that say no part are those to train on. `seen` are those to tell of in an
    error, if there are more than these.

    Raises
    ------
    ValueError
        If something is missing, or there are several sets: says what was found.
    """
    names = sorted(found)
    some = [name for name in names if named(name).what]
    chosen = _one_of_each(where, _one_set(where, some, trains))
    if ("", "images") in chosen and ("", "labels") in chosen:
        if ("train", "images") in chosen:
            raise ValueError(
                f"{where}: expected one pair of images and labels to train on, got "
                f"{', '.join(sorted(chosen.values()))}"
            )
        for what in ("images", "labels"):
            chosen["train", what] = chosen.pop(("", what))
    chosen = {key: name for key, name in chosen.items() if key[0]}
    parts = {"train", *(part for part, _ in chosen)}
    keys = {(part, what) for part in parts for what in ("images", "labels")}
    if missing := sorted(
        keys - chosen.keys(), key=lambda key: (key[0] != "train", key)
    ):
        lacking = ", ".join(f"{part} {what}" for part, what in missing)
        got = listing(sorted(names if seen is None else seen))
        raise ValueError(
            f"{where}: expected {EXPECTED}; got {got or 'nothing'}; missing: {lacking}"
        )
    return chosen


def pick_tables(where: str, found: Iterable[str]) -> dict[Key, str]:
    """Of the names of tables, which hold images and labels, those of one set by part.

    Raises
    ------
    ValueError
        As `pick` does.
    """
    names = sorted(found)

    def has_train(names: Collection[str]) -> bool:
        return any(named(name).part == "train" for name in names)

    chosen = _one_of_each(where, _one_set(where, names, has_train))
    if not has_train(chosen.values()):
        raise ValueError(
            f"{where}: expected a table to train on, such as train.csv, got "
            f"{', '.join(names)}"
        )
    return chosen


def _one_set(
    where: str, names: list[str], whole: Callable[[Collection[str]], bool]
) -> list[str]:
    """The names of the set that is whole."""
    sets: dict[str, list[str]] = {}
    for name in names:
        sets.setdefault(named(name).of, []).append(name)
    found = {of: some for of, some in sets.items() if whole(some)}
    if len(found) > 1:
        several = "; ".join(f"{of or 'no name'}: {min(found[of])}" for of in found)
        raise ValueError(
            f"{where}: expected one data set, got {len(found)}: {several}. A path with "
            "the beginning of the names, such as FOLDER/emnist-letters, picks one"
        )
    # where no set is whole, names that differ by some word more may still make one
    return next(iter(found.values()), names)


def _one_of_each(where: str, names: Iterable[str]) -> dict[Key, str]:
    """The names by part and what.

    A file that is there plain and gzipped, or spelled in two ways, is taken once.
    """
    chosen: dict[Key, str] = {}
    for name in names:
        key = named(name).key
        other = chosen.setdefault(key, name)
        if list(_words(_stem(name))) != list(_words(_stem(other))):
            raise ValueError(
                f"{where}: expected one for {' '.join(filter(None, key))}, got {other} "
                f"and {name}"
            )
        chosen[key] = min(name, other, key=lambda name: (name.endswith(".gz"), name))
    return chosen


def _stem(name: str) -> str:
    return re.sub(r"(\.(gz|npy|npz|csv|tsv))+$", "", name.lower())


def trains(names: Collection[str]) -> bool:
    """Whether these have images and labels to train on."""
    keys = {named(name).key for name in names}
    return any({(p, "images"), (p, "labels")} <= keys for p in ("train", ""))
