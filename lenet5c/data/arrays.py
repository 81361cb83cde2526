"""Images and labels as people keep them in files, brought to what `fit` takes.

N images, C channels, H rows, W columns. Memory-mapped bytes are not copied here. Views
of them that are transposed, as of EMNIST, are when they are trained on.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5c._support.checks import as_contiguous

__all__ = ["as_bytes", "as_labels", "compact", "hold_out", "planes", "taken"]

PIECE = 1 << 20  # pixels that are looked at together: images may be larger than memory
HELD_OUT = 6  # one image of so many is for testing


def as_bytes(where: str, images: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Images, by name, as uint8 if bytes is what they hold in any other type.

    bool becomes 0 and 255. Floats become uint8 if all of all arrays are whole, none is
    beyond 0 to 255 and one is beyond 1; other floats stay.

    Raises
    ------
    TypeError, ValueError
        If they are neither numbers nor bool, or integers beyond 0 to 255.
    """
    for name, array in images.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"{where}: {name}: expected uint8 or floating pixels, got {array.dtype}"
            )
        if array.dtype.kind in "iu" and array.dtype != np.uint8 and array.size:
            least = min(int(part.min()) for part in _parts(array))
            most = max(int(part.max()) for part in _parts(array))
            if least < 0 or most > 255:
                raise ValueError(
                    f"{where}: {name}: expected pixels 0 to 255, or floating ones, got "
                    f"{array.dtype} from {least} to {most}"
                )
    floats = [array for array in images.values() if array.dtype.kind == "f"]
    bright = all(map(_whole_bytes, floats)) and any(
        (part > 1).any() for array in floats for part in _parts(array)
    )
    return {
        name: array
        if array.dtype.kind == "f" and not bright
        else _bytes(array * np.uint8(255) if array.dtype == bool else array)
        for name, array in images.items()
    }


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array if array.dtype == np.uint8 else as_contiguous(array, np.uint8)


def _whole_bytes(array: NDArray[Any]) -> bool:
    """Whether all are whole numbers from 0 to 255."""
    return all(
        bool(((part >= 0) & (part <= 255) & (part == np.trunc(part))).all())
        for part in _parts(array)
    )


def _parts(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, PIECE * len(images) // max(1, images.size)) if images.ndim else 1
    array = np.atleast_1d(images)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def planes(where: str, name: str, images: NDArray[Any]) -> NDArray[Any]:
    """Images with the channels before rows and columns.

    (N, H, W, 1) and (N, H, W, 3) become (N, C, H, W), if that is not what they may be.

    Raises
    ------
    ValueError
        If they are not (N, H, W), (N, H * W), (N, C, H, W) or (N, H, W, C), C 1 or 3.
    """
    shape = images.shape
    if not 2 <= images.ndim <= 4 or not images.size:
        raise ValueError(
            f"{where}: {name}: expected images (N, H, W), (N, H * W) or (N, C, H, W), "
            f"got the shape {shape}"
        )
    if images.ndim < 4 or shape[1] in (1, 3):
        return images
    if shape[3] == 1:
        return images.reshape(shape[0], 1, *shape[1:3])
    if shape[3] == 3:
        return compact(np.moveaxis(images, 3, 1))
    if shape[3] in (2, 4):
        raise ValueError(
            f"{where}: {name}: expected images of 1 or 3 channels, got {shape[3]}: the "
            f"shape {shape}"
        )
    return images


def taken(images: NDArray[Any], chosen: slice | NDArray[np.bool_]) -> NDArray[Any]:
    """The chosen images: a view for a slice, or else a copy, made in pieces."""
    if isinstance(chosen, slice):
        return images[chosen]
    at = np.flatnonzero(chosen)
    result = np.empty((len(at), *images.shape[1:]), images.dtype)
    step = max(1, PIECE * len(images) // max(1, images.size))
    for start in range(0, len(at), step):
        result[start : start + step] = images[at[start : start + step]]
    return result


def compact(images: NDArray[Any]) -> NDArray[Any]:
    """The images in C order; the same view if they are mapped."""
    if isinstance(images, np.memmap):
        return images
    return as_contiguous(images, images.dtype)


def as_labels(where: str, name: str, labels: NDArray[Any], count: int) -> NDArray[Any]:
    """(count,) int64, or strings.

    Taken from integers, whole floats, bool, str or bytes, (count,) or (count, 1); or
    from one-hot rows (count, classes).

    Raises
    ------
    TypeError, ValueError
        If they are something else.
    """
    whole = labels.dtype.kind == "f" and bool(
        ((labels == np.trunc(labels)) & (np.abs(labels) < 2**53)).all()
    )
    if labels.dtype.kind == "u" and labels.max(initial=0) >= 2**63:
        raise ValueError(f"{where}: {name}: expected labels below 2**63")
    if not whole and labels.dtype.kind not in "iubUS":
        raise TypeError(
            f"{where}: {name}: expected integers, strings or one-hot rows, got "
            f"{labels.dtype}"
        )
    if labels.shape not in ((count,), (count, 1)):
        if not (labels.shape[:1] == (count,) and labels.ndim == 2 and _one_hot(labels)):
            raise ValueError(
                f"{where}: {name}: expected a label for each of the {count} images, "
                f"got the shape {labels.shape}"
            )
        labels = labels.argmax(axis=1)
    labels = labels.reshape(count)
    if labels.dtype.kind == "S":
        try:
            return np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{where}: {name}: expected strings in UTF-8: {error}"
            ) from None
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def _one_hot(labels: NDArray[Any]) -> bool:
    if labels.dtype.kind in "US":
        return False
    ones = (labels == 1).sum(axis=1) == 1
    return bool(ones.all()) and np.count_nonzero(labels) == len(labels)


def hold_out(where: str, images: NDArray[Any], labels: NDArray[Any]) -> tuple[Any, Any]:
    """Which ones to train on and to test with: two slices, or two (N,) bool.

    A sixth of each class, chosen by a hash of the images: the same in any order, and
    hardly any other when an image is added. Of mapped images, which are not copied, the
    last sixth.

    Raises
    ------
    ValueError
        If a part would lack a class, or there would be nothing to test with.
    """
    if isinstance(images, np.memmap):
        first = len(images) - len(images) // HELD_OUT
        known = set(labels[:first].tolist())
        if not known or known != set(labels[first:].tolist()):
            raise ValueError(
                f"{where}: the last sixth of the images, kept to test with, has not "
                "the same classes as the others. Shuffle the images, or add some to "
                "test with"
            )
        return slice(first), slice(first, None)
    hashes = (hashlib.blake2b(image.tobytes(), digest_size=8) for image in images)
    chance = np.frombuffer(b"".join(each.digest() for each in hashes), "<u8")
    _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((chance, of))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    test = np.empty(len(labels), bool)
    test[order] = rank < np.repeat((counts + HELD_OUT // 2) // HELD_OUT, counts)
    if not test.any():
        raise ValueError(
            f"{where}: expected {HELD_OUT // 2} images of a class at least, one of "
            "them to test with, got fewer of each"
        )
    return ~test, test
