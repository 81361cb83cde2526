"""Images and labels as people have them, brought to what the core reads."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, as_contiguous, number
from lenet5c._support.cores import core

__all__ = ["InputStage", "as_images", "encode_labels", "is_utf8"]

Shape = tuple[int, int, int]
Pixels = str | tuple[float, float] | None  # see InputStage

MAX_FLOAT32 = float(np.finfo(np.float32).max)
PIECE = 1 << 20  # pixels that are looked at together: images may be larger than memory
ROUNDING = 1e-5  # how far outside of 0 to 1 a float may lie; csrc/lenet5c.c has it too


@dataclass(frozen=True)
class InputStage:
    """What is done to an image before the first layer.

    A uint8 pixel b becomes (b / 255 - mean) / deviation. A float is a share of 255, as
    0.5 of the byte 127.5, for a network that was trained on bytes, and for others what
    the network sees. The image is centred in the network's input; the pixels around it
    are `background`.

    Parameters
    ----------
    mean, deviation : float
        Of the training images' pixels, in units of 1/255; 0 and 1 for float images.
    background : float
        What surrounds the image, in the units that the network sees.
    pixels : "bytes", (float, float) or None
        What the network was trained on: bytes, floats with this least and largest one,
        or what nobody knows, as of weights from elsewhere. It decides which images
        `check` refuses.

    Examples
    --------
    >>> model.stage.pixels  # what it was trained on
    'bytes'
    >>> from lenet5c.data.images import InputStage
    >>> InputStage(mean=0.5, deviation=0.25).takes_bytes
    True
    """

    mean: float = 0.0
    deviation: float = 1.0
    background: float = 0.0
    pixels: Pixels = None

    @classmethod
    def checked(
        cls,
        mean: object,
        deviation: object,
        background: object,
        pixels: object = None,
    ) -> "InputStage":
        """The stage of numbers from outside: ValueError or TypeError unless float32 can
        hold what the core is given.

        Parameters
        ----------
        mean, deviation : float
        background : float or None
            None is black.
        pixels : "bytes", (float, float) or None

        Returns
        -------
        InputStage

        Examples
        --------
        >>> from lenet5c.data.images import InputStage
        >>> InputStage.checked(0.5, 0.25, None)  # a black pixel, normalised
        InputStage(mean=0.5, deviation=0.25, background=-2.0, pixels=None)
        """
        mean = number("mean", mean, -math.inf, math.inf)
        deviation = number("deviation", deviation, -math.inf, math.inf)
        if not deviation > 0:
            raise ValueError(f"deviation: expected a positive number, got {deviation}")
        if background is None:
            background = -mean / deviation + 0.0  # no negative zero
        background = number("background", background, -math.inf, math.inf)
        stage = cls(mean, deviation, background, _as_pixels(pixels))
        if not all(abs(value) <= MAX_FLOAT32 for value in stage.for_core()):
            raise ValueError(
                f"expected an input stage that float32 can hold, got {stage}"
            )
        return stage

    @classmethod
    def of(
        cls, images: NDArray[Any], chosen: NDArray[np.intp] | None = None
    ) -> "InputStage":
        """The stage for training on these images (N, C, H, W), uint8 or float32, or on
        those at the chosen positions (M,).

        uint8: normalised, on black. Float: as they are, on their smallest value.

        Parameters
        ----------
        images : (N, C, H, W) uint8 or float32
        chosen : (M,) intp or None
            None is all.

        Returns
        -------
        InputStage

        Examples
        --------
        >>> from lenet5c.data.images import InputStage
        >>> stage = InputStage.of(images[:, np.newaxis])
        >>> stage == model.stage, round(stage.mean * 255 / float(images.mean()), 5)
        (True, 1.0)
        """
        if images.dtype != np.uint8:
            ends = [
                (float(part.min()), float(part.max()))
                for _, part in _parts(images, chosen)
            ]
            least, most = min(end[0] for end in ends), max(end[1] for end in ends)
            if -ROUNDING <= least <= most <= 1 + ROUNDING:
                return cls(0, 1, least, (max(least, 0.0), min(most, 1.0)))
            return cls(background=least, pixels=(least, most))
        counts = np.zeros(256, np.intp)
        for _, part in _parts(images, chosen):
            core.add_counts(part.ravel(), counts)
        values = np.arange(256) / 255
        mean = float(counts @ values / counts.sum())
        variance = float(counts @ (values - mean) ** 2 / counts.sum())
        # float32, so that a model file, which holds float32, gives the same bits
        mean = float(np.float32(mean))
        deviation = float(np.float32(np.sqrt(variance))) or 1.0
        return cls(mean, deviation, -mean / deviation, "bytes")

    @classmethod
    def between(cls, black: float, white: float) -> "InputStage":
        """The stage that makes `black` of the byte 0 and of the background, and `white`
        of the byte 255; of floats 0 and 1 the same.

        It depends on no image: a model that is made with it keeps it in `fit`.

        Parameters
        ----------
        black, white : float
            black < white.

        Returns
        -------
        InputStage

        Raises
        ------
        TypeError, ValueError
            If they are no numbers, in the wrong order, or beyond float32.

        Examples
        --------
        That of the original LeNet-5, which makes the mean of the pixels about 0 and
        their variance about 1 (LeCun, Bottou, Bengio, Haffner 1998, section II.B):

        >>> from lenet5c.data.images import InputStage
        >>> stage = InputStage.between(-0.1, 1.175)
        >>> scale, offset, background, *_ = stage.for_core()
        >>> [round(byte * scale + offset, 6) for byte in (0, 255)], background
        ([-0.1, 1.175], -0.1)
        """
        black = number("black", black, -math.inf, math.inf)
        white = number("white", white, -math.inf, math.inf)
        if not black < white:
            raise ValueError(f"white: expected more than black, {black}, got {white}")
        width = white - black
        return cls.checked(0.0 - black / width, 1 / width, black, "bytes")

    @property
    def takes_bytes(self) -> bool:
        """Whether a byte has a meaning to the network."""
        if not isinstance(self.pixels, tuple):
            return True
        return 0 <= self.pixels[0] <= self.pixels[1] <= 1

    @property
    def of_floats(self) -> bool:
        """Whether the network was trained on floats."""
        return isinstance(self.pixels, tuple)

    @property
    def kind(self) -> str:
        """What the network was trained on, in words."""
        if isinstance(self.pixels, tuple):
            return "floats from {:g} to {:g}".format(*self.pixels)
        return "uint8" if self.pixels else "pixels of unknown kind"

    def _limits(self) -> tuple[float, float]:
        """The least and the largest float32 that the network takes."""
        if self.pixels is None:
            return -MAX_FLOAT32, MAX_FLOAT32
        least, most = -ROUNDING, 1 + ROUNDING
        if isinstance(self.pixels, tuple) and not self.takes_bytes:
            least, most = self.pixels
            width = most - least
            least = max(least - width, -MAX_FLOAT32)
            most = min(most + width, MAX_FLOAT32)
        return float(np.float32(least)), float(np.float32(most))

    def takes(self, images: NDArray[Any]) -> bool:
        """Whether images mean what the training images meant.

        Parameters
        ----------
        images : (N, C, H, W) uint8 or C-contiguous float32

        Returns
        -------
        bool

        Examples
        --------
        >>> model.stage.takes(np.float32([[[[0.0, 1.0]]]]))
        True
        >>> model.stage.takes(np.float32([[[[0.0, 255.0]]]]))
        False
        """
        if images.dtype == np.uint8:
            return self.takes_bytes
        least, most = self._limits()
        if images.size <= PIECE:
            return bool(core.are_within(images, least, most))
        return all(core.are_within(part, least, most) for _, part in _parts(images))

    def check(self, images: NDArray[Any], argument: str = "images") -> None:
        """Refuse images that would not mean what the training images meant.

        Parameters
        ----------
        images : (N, C, H, W) uint8 or C-contiguous float32
        argument : str
            What they are called in the error.

        Raises
        ------
        ValueError
            Says what the network was trained on, and which image is of another kind.

        Examples
        --------
        >>> model.stage.check(np.float32([[[[0.0, 255.0]]]]))
        Traceback (most recent call last):
        ValueError: images: expected floats from 0 to 1, as the model was trained on ...
        """
        if self.takes(images):
            return
        if images.dtype == np.uint8:
            raise ValueError(
                f"{argument}: expected floats, as the model was trained on "
                f"{self.kind}, got uint8"
            )
        _check_finite(images, argument)
        least, most = self._limits()
        for start, part in _parts(images):
            if core.are_within(part, least, most):
                continue
            wrong = ((part < least) | (part > most)).reshape(len(part), -1)
            bad = int(wrong.any(axis=1).argmax())
            value = part[bad].ravel()[wrong[bad].argmax()]
            wanted, hint = f"floats from {least:g} to {most:g}", ""
            if self.takes_bytes:
                wanted, hint = "floats from 0 to 1", ": divide by 255, or pass uint8"
            raise ValueError(
                f"{argument}: expected {wanted}, as the model was trained on "
                f"{self.kind}, image {start + bad} has {value:g}{hint}"
            )

    def for_core(self) -> tuple[float, float, float, float, float]:
        """(scale, offset, background, float_scale, float_offset): a byte b becomes
        b * scale + offset, and a float likewise.

        Returns
        -------
        tuple of 5 float

        Examples
        --------
        >>> from lenet5c.data.images import InputStage
        >>> stage = InputStage(mean=0.5, deviation=0.25, background=-2.0)
        >>> scale, offset, background, *_ = stage.for_core()
        >>> round(255 * scale + offset, 6), background  # (1 - 0.5) / 0.25
        (2.0, -2.0)
        """
        offset = -self.mean / self.deviation + 0.0
        # x * 1 + -0.0 is x, of -0.0 as well
        floats = (1 / self.deviation, offset) if self.pixels == "bytes" else (1.0, -0.0)
        return 1 / (255 * self.deviation), offset, self.background, *floats


def _as_pixels(pixels: object) -> Pixels:
    """`InputStage.pixels`, checked."""
    if pixels is None or pixels == "bytes":
        return "bytes" if pixels else None
    if not isinstance(pixels, (tuple, list)) or len(pixels) != 2:
        raise ValueError(
            f"pixels: expected 'bytes', two numbers or None, got {pixels!r:.80}"
        )
    beyond = float(np.nextafter(MAX_FLOAT32, math.inf))
    least, most = (number("pixels", end, -MAX_FLOAT32, beyond) for end in pixels)
    if least > most:
        raise ValueError(f"pixels: expected the smaller number first, got {pixels!r}")
    return least, most


def as_images(
    images: ArrayLike, shape: Shape, argument: str = "images", *, finite: bool = True
) -> NDArray[Any]:
    """Images as a C-contiguous (N, C, H, W) array of uint8 or float32.

    Parameters
    ----------
    images : array
        uint8, other integers within 0 to 255, booleans, which are black and white, or
        floating; (N, H, W) or (N, H * W) of square images for one channel,
        (N, C, H, W), (N, H, W, C), or (N, C * H * W) of the network's own size. Copied
        only if it has to be: a memory map of uint8 or of this machine's float32, in C
        order, is not. Floats and other integers are all read once, a few at a time;
        uint8 are not read.
    shape : (C, H, W)
        The network's input. Images may be smaller, not larger.
    finite : bool
        False leaves it to the caller to look for NaN and infinity.

    Raises
    ------
    TypeError
        If the elements are neither integers nor floating.
    ValueError
        If the shape does not fit, an integer is none of 0 to 255, or there is a NaN or
        an infinity.
    """
    channels, height, width = shape
    array = as_array(argument, images)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{argument}: expected uint8 (0 to 255) or floating pixels, "
            f"got {array.dtype}"
        )
    original = array.shape
    if array.ndim == 2:
        side = int(np.sqrt(array.shape[1]))
        if array.shape[1] == channels * height * width:
            array = array.reshape(len(array), channels, height, width)
        elif channels == 1 and side * side == array.shape[1]:
            array = array.reshape(len(array), 1, side, side)
    elif array.ndim == 3 and channels == 1:
        array = array[:, np.newaxis]
    elif array.ndim == 4 and array.shape[1] != channels == array.shape[3]:
        array = array.transpose(0, 3, 1, 2)
    if (
        array.ndim != 4
        or array.shape[1] != channels
        or 0 in array.shape
        or array.shape[2] > height
        or array.shape[3] > width
    ):
        raise _not_images(argument, original, array.shape, shape)
    if array.dtype.kind == "f" and array.dtype != np.float32:
        with np.errstate(over="ignore"):
            array = as_contiguous(array, np.float32)
    elif array.dtype.kind != "f" and array.dtype != np.uint8:
        array = _as_bytes(array, argument)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = as_contiguous(array, array.dtype)
    if finite:
        _check_finite(array, argument)
    return array


def _not_images(
    argument: str, original: tuple[int, ...], shape: tuple[int, ...], wanted: Shape
) -> ValueError:
    """What is wrong with a shape; the second is what was made of it."""
    channels, height, width = wanted
    expected = (
        f"{argument}: expected (N, {channels}, H, W)"
        + (", (N, H, W) or (N, H*W)" if channels == 1 else "")
        + f" with H <= {height} and W <= {width}"
    )
    if len(shape) != 4 or shape[1] != channels:
        one = (
            len(shape) == (2 if channels == 1 else 3)
            and (channels == 1 or channels in (original[0], original[-1]))
            and original[0] <= max(channels, height)
            and original[-1] <= max(channels, width)
        )
        return ValueError(
            f"{expected}, got the shape {original}"
            + "; one image alone is image[np.newaxis], or see Model.predictor" * one
        )
    if 0 in shape:
        return ValueError(f"{expected}, got none: {original}")
    return ValueError(f"{expected}, got the shape {original}")


def _check_finite(images: NDArray[Any], argument: str) -> None:
    """ValueError if there is a NaN or an infinity."""
    if images.dtype == np.uint8:
        return
    for start, part in _parts(images):
        if core.are_within(part, -MAX_FLOAT32, MAX_FLOAT32):
            continue
        bad = start + int(np.argmin(np.isfinite(part).all(axis=(1, 2, 3))))
        raise ValueError(
            f"{argument}: expected finite float32 pixels, image {bad} has a "
            "NaN, an infinity or a value beyond float32"
        )


def _parts(
    images: NDArray[Any], chosen: NDArray[np.intp] | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """The images, or those at the chosen positions, some at a time and in order, each
    time with the number of the first of them."""
    step = max(1, PIECE // images[:1].size)
    for start in range(0, len(images if chosen is None else chosen), step):
        part = slice(start, start + step)
        yield start, images[part] if chosen is None else images[chosen[part]]


def _as_bytes(images: NDArray[Any], argument: str) -> NDArray[np.uint8]:
    """Integers or booleans as uint8; ValueError if one is none of 0 to 255."""
    result = np.empty(images.shape, np.uint8)
    for start, part in _parts(images):
        end = start + len(part)
        if part.dtype == np.bool_:
            np.multiply(part, 255, out=result[start:end], casting="unsafe")
            continue
        if part.min() < 0 or part.max() > 255:
            wrong = (part < 0) | (part > 255)
            bad = start + int(wrong.any(axis=(1, 2, 3)).argmax())
            raise ValueError(
                f"{argument}: expected integers from 0 to 255, or floats, image {bad} "
                f"has {part[wrong][0]}"
            )
        result[start:end] = part
    return result


def _like_known(array: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """Labels as the classes are written, where "3" and 3 cannot be confused: the texts
    are then exactly the numbers' own."""
    kinds = known.dtype.kind + array.dtype.kind
    if kinds == "Ui":
        return array.astype(str)
    if kinds != "iU":
        return array
    number_of = {str(label): label for label in known.tolist()}
    labels, positions = np.unique(array, return_inverse=True)
    if not all(label in number_of for label in labels.tolist()):
        return array
    return np.array([number_of[label] for label in labels.tolist()])[positions]


def is_utf8(text: str) -> bool:
    """Whether no half of a surrogate pair is in it, as in undecodable file names."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_labels(
    labels: ArrayLike,
    count: int,
    classes: int,
    known: NDArray[Any] | None = None,
    argument: str = "labels",
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The classes, and for each label the number of its class.

    Parameters
    ----------
    labels : array
        (N,) integers, strings or booleans, or (N, classes) one-hot rows.
    count : int
        How many images there are.
    classes : int
        How many classes the network has.
    known : (classes,) array or None
        The classes of a fitted model: other labels are refused, but "3" serves for 3,
        and 3 for "3". Otherwise they are 0 to
        classes - 1 if all labels lie there, and else the different labels in order.

    Raises
    ------
    TypeError, ValueError
        If the labels are of no such kind, or are not of these classes.
    """
    array = as_array(argument, labels)
    if array.ndim == 2 and array.shape[1] == classes and classes > 1:
        array = _from_one_hot(array, argument)
        if known is not None and not np.array_equal(known, np.arange(classes)):
            raise ValueError(
                f"{argument}: expected labels among {_some(known)}, got one-hot rows, "
                "whose columns do not say which of them they mean"
            )
    elif array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"{argument}: expected (N,) labels or (N, {classes}) one-hot rows, "
            f"got the shape {array.shape}"
        )
    if len(array) != count:
        raise ValueError(
            f"{argument}: expected one for each of the {count} images, got {len(array)}"
        )
    if array.dtype == object and all(isinstance(label, str) for label in array):
        array = array.astype(str)
    if array.dtype.kind == "f" and _are_whole(array):
        array = array.astype(np.int64)
    if array.dtype.kind == "u" and array.max(initial=0) >= 2**63:
        raise ValueError(f"{argument}: expected labels below 2**63, got {array.max()}")
    if array.dtype.kind not in "iubU":
        raise TypeError(
            f"{argument}: expected integers, strings or one-hot rows, got {array.dtype}"
        )
    if array.dtype.kind == "u":
        array = array.astype(np.int64)
    if known is None:
        known = np.arange(classes)
        if array.dtype.kind != "i" or array.min() < 0 or array.max() >= classes:
            known = np.unique(array)
            if len(known) != classes:
                raise ValueError(
                    f"{argument}: the network has {classes} classes, got {len(known)} "
                    f"different labels: {_some(known)}"
                )
            for label in known:
                if isinstance(label, str) and not is_utf8(label):
                    raise ValueError(
                        f"{argument}: {label!r} is not text that a model file can hold"
                    )
    else:
        array = _like_known(array, known)
    if (known.dtype.kind == "U") != (array.dtype.kind == "U"):
        raise ValueError(
            f"{argument}: expected labels among {_some(known)}, got {array[0].item()!r}"
        )
    order = np.argsort(known)
    at = np.minimum(np.searchsorted(known, array, sorter=order), len(known) - 1)
    codes = order[at].astype(np.int32)
    wrong = known[codes] != array
    if wrong.any():
        raise ValueError(
            f"{argument}: expected labels among {_some(known)}, got "
            f"{array[np.argmax(wrong)].item()!r}"
        )
    return known, codes


def _are_whole(array: NDArray[Any]) -> bool:
    """Whether all are whole numbers that a float holds exactly; NaN is none."""
    small = bool((np.abs(array) < 2**53).all())
    return small and bool((array % 1 == 0).all())


def _from_one_hot(rows: NDArray[Any], argument: str) -> NDArray[np.int64]:
    """The column of the single 1 of each row."""
    numeric = rows.dtype.kind in "iufb"
    if not numeric or not ((rows == 0) | (rows == 1)).all() or (rows.sum(1) != 1).any():
        raise ValueError(
            f"{argument}: expected one-hot rows (a single 1 in each), or (N,) labels"
        )
    columns: NDArray[np.int64] = rows.argmax(axis=1).astype(np.int64)
    return columns


def _some(values: NDArray[Any], most: int = 12) -> str:
    shown = ", ".join(repr(value) for value in values[:most].tolist())
    return shown + (", ..." if len(values) > most else "")
