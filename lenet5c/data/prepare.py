"""A photograph or a drawing of digits or other signs, made into images like MNIST's.

H rows, W columns, C channels (1 or 3). The steps: read the picture, estimate the paper
and the light on it, measure each pixel's distance from the paper, find the pieces of
ink, join the strokes of a sign, and draw each sign as MNIST's were. What is drawn on a
transparent ground is ink already.

`deploy/web/prepare.js` follows this file step by step, with the same names, and gives
the same bytes: who changes one changes the other, and a test ties them.
"""

import os
import re
from contextlib import nullcontext
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array, whole
from lenet5c._support.habits import explained
from lenet5c.display import brief

__all__ = ["NothingFound", "Sign", "prepare", "prepare_many"]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

SIZES = 8, 1024  # rows of a prepared image, at least and at most

# All lengths are shares of the picture's or of the sign's, unless they say pixels.
PIXELS = 500_000  # the most that a picture is worked on with; a larger one is reduced
CONTRAST = 0.02  # of the range between black and white: less is never ink
SMALL = 100  # pixels: a picture with a shorter side than that is not smoothed
NOISE = 5.0  # standard deviations of the paper's noise that ink stands out
WINDOWS = 0.35, 0.2, 0.12, 0.07  # of the picture: wider than strokes may be
SOFT = 0.07  # of the picture: an edge as wide as that is a shadow's
FAINT = 0.15  # of the strongest ink's contrast: less is a shadow or dirt
EDGE = 0.35  # of a stroke's full darkness: what is darker belongs to it
SMALLEST = 0.02  # of the picture's longer side: less is a speck
GAP = 0.012  # of the picture: a fragment that is nearer belongs to the sign
THICKEST = 0.235  # of a tight crop's height: half of a wider stroke is a shadow
DECENT = 0.3  # of the largest piece's length: it may be the sign instead of that
THICKNESS = 2.2, 4.5  # pixels at 28x28: MNIST's strokes, 5th to 95th percentile


class NothingFound(ValueError):
    """The picture has no sign on it.

    Examples
    --------
    >>> lenet5c.pictures.prepare(np.zeros((60, 60), np.uint8))
    Traceback (most recent call last):
    lenet5c.data.prepare.NothingFound: image: expected a picture with a sign on it, ...
    """


class Sign(NamedTuple):
    """A sign and where it was found.

    Attributes
    ----------
    image : (size, size) uint8, light on black
    box : (top, left, bottom, right) in pixels of the picture; bottom and right are the
        first row and column after the sign

    Examples
    --------
    >>> page = np.full((90, 60), 250, np.uint8)
    >>> page[20:70, 27:33] = 30  # rows 20 to 69, columns 27 to 32
    >>> sign = lenet5c.pictures.prepare_many(page)[0]
    >>> sign.image.shape, bool(np.allclose(sign.box, (20, 27, 70, 33), atol=2))
    ((28, 28), True)
    """

    image: NDArray[np.uint8]
    box: tuple[int, int, int, int]

    def __repr__(self) -> str:
        return f"<Sign: {brief(self._asdict())}>"


@explained
def prepare(image: Any, size: int = 28) -> NDArray[np.uint8]:
    """The one digit or sign on a photograph or drawing, as MNIST's images were made.

    The light may be uneven; the ink may be darker than the paper, lighter, or only of
    another colour. Strokes that are much thinner or thicker than MNIST's are drawn as
    thick as the nearest of those. Of several signs the one with the most ink is taken.

    Parameters
    ----------
    image : path, picture of Pillow, or array
        (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or (3, H, W); uint8 or bool, or other
        numbers, which are taken from their least to their greatest. Files and pictures
        are turned as their EXIF data says. Where most is transparent, what is not is
        the ink, of whatever colour.
    size : int
        Rows and columns of the result, 8 to 1024.

    Returns
    -------
    (size, size) uint8, light ink on black: its longer side is 20/28 of `size` and its
    centre of mass at (size / 2, size / 2), if all of it fits in then. [1]_

    Raises
    ------
    NothingFound
        If there is no sign.
    ValueError, TypeError
        If `image` is no picture or `size` is wrong.
    OSError
        If the file cannot be read.
    ImportError
        If Pillow or SciPy is missing.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
       recognition", 1998, section III.A.

    Examples
    --------
    >>> page = np.full((90, 60), 250, np.uint8)  # paper, and a stroke of ink
    >>> page[20:70, 27:33] = 30
    >>> image = lenet5c.pictures.prepare(page)
    >>> image.shape, model.predict(image[np.newaxis]).tolist()
    ((28, 28), [1])
    """
    whole("size", size, *SIZES)
    found = _find(image)
    if not found.signs:
        raise NothingFound(
            "image: expected a picture with a sign on it, got a blank one"
        )
    return _drawn(found, max(found.signs, key=lambda sign: sign.weight), size)


@explained
def prepare_many(image: Any, size: int = 28) -> list[Sign]:
    """All digits or signs of a page, each as `prepare` draws it.

    They come from left to right, and line by line if any stand above each other. Pieces
    of ink of which one is above the other are a sign if they are near each other, as in
    i, = and ä. A blank page has none: [].

    Parameters
    ----------
    image, size
        As of `prepare`.

    Returns
    -------
    list of Sign

    Raises
    ------
    ValueError, TypeError, OSError, ImportError
        As of `prepare`.

    Examples
    --------
    >>> page = np.full((90, 120), 250, np.uint8)  # paper, and two strokes of ink
    >>> page[20:70, 27:33] = page[20:70, 87:93] = 30
    >>> signs = lenet5c.pictures.prepare_many(page)
    >>> model.predict(np.stack([sign.image for sign in signs])).tolist()
    [1, 1]
    >>> signs[0].box[0] < 25, signs[1].box[1] > 80
    (True, True)
    """
    whole("size", size, *SIZES)
    found = _find(image)
    signs = []
    for sign in _in_reading_order(found.signs):
        top, bottom = ((y + found.top) * found.scale for y in (sign.top, sign.bottom))
        left, right = ((x + found.left) * found.scale for x in (sign.left, sign.right))
        signs.append(Sign(_drawn(found, sign, size), (top, left, bottom, right)))
    return signs


class _Piece(NamedTuple):
    """A connected piece of ink, or several that are one sign."""

    labels: tuple[int, ...]
    top: int
    left: int
    bottom: int
    right: int
    weight: float  # of its ink

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def length(self) -> int:
        return max(self.height, self.width)


class _Found(NamedTuple):
    """The signs on a picture that was reduced by `scale` and begins at (top, left)."""

    ink: Floats  # (H, W)
    labels: Labels  # (H, W) of pieces, 0 is paper
    signs: list[_Piece]
    top: int
    left: int
    scale: int


def _find(image: Any) -> _Found:
    colours, scale, is_ink = _read(image)
    if is_ink:
        ink = colours[..., 0]
        labels, pieces = _pieces(ink, 0)
        return _Found(ink, labels, _joined(pieces, GAP * _across(ink)), 0, 0, scale)
    if scale == 1 and min(colours.shape[:2]) >= SMALL:
        colours = _ndimage().gaussian_filter(colours, (1, 1, 0))  # the noise
    rows, columns = _sheet(colours)
    colours = colours[rows, columns]
    tight = _tight(colours)
    ink = _ink(colours) if tight is None else tight
    # the little paper of a tight crop is blurred ink rather than noise
    labels, pieces = _pieces(ink, _noise(ink) if tight is None else 0)
    pieces = _without_frame(labels, pieces)
    signs = _joined(pieces, GAP * _across(ink))
    if tight is None:
        signs = [sign for sign in signs if _is_stroke(ink, labels, sign)]
    return _Found(ink, labels, signs, rows.start, columns.start, scale)


def _across(picture: Floats) -> float:
    """The side of a square as large as the picture, in pixels."""
    return float(np.sqrt(picture.shape[0] * picture.shape[1]))


# Reading


def _read(image: Any) -> tuple[Floats, int, bool]:
    """(H, W, C) from 0 to 1, how many times it was reduced, and whether it is the ink.

    What is drawn on a transparent ground is ink: it has no paper, light or shadows.
    """
    pixels = _pixels(image)
    scale = 255 if pixels.dtype == np.uint8 else 0
    if not scale:
        low, high = float(pixels[..., :3].min()), float(pixels[..., :3].max())
        opaque = float(pixels[..., 3:].max(initial=0)) or 1
        least, most = np.array([low] * 3 + [0]), np.array([high] * 3 + [opaque])
        count = pixels.shape[2]
        span = np.where(most > least, most - least, 1)[:count]
        pixels = ((pixels - least[:count]) / span).astype(np.float32)
    height, width, _ = pixels.shape
    times = int(np.ceil(np.sqrt(height * width / PIXELS)))
    times = max(1, min(times, height, width))
    rows, columns = height // times, width // times
    blocks = pixels[: rows * times, : columns * times]
    blocks = blocks.reshape(rows, times, columns, times, -1)
    means = blocks.mean((1, 3), dtype=np.float32) / np.float32(scale or 1)
    colours = means[..., :3]
    if means.shape[2] == 4:
        alpha = means[..., 3:]
        if _is_drawn(colours, alpha[..., 0]):
            return alpha - alpha.min(), times, True
        paper = np.median(colours[alpha[..., 0] > 0.5], axis=0)
        colours = alpha * colours + (1 - alpha) * paper
    if np.ptp(colours, axis=2).max() == 0:
        colours = colours[..., :1]
    return colours, times, False


def _is_drawn(colours: Floats, alpha: Floats) -> bool:
    """Whether most is transparent, or much and what is not has one colour."""
    clear, solid = float((alpha <= 0.5).mean()), colours[alpha > 0.9]
    plain = not len(solid) or np.ptp(solid, axis=0).max() < CONTRAST
    return bool(clear > 0.5 or (clear > 0.25 and plain))


def _pixels(image: Any) -> NDArray[Any]:
    """(H, W, 1, 3 or 4) of any type."""
    pillow, operations = pillow_modules()
    if not isinstance(image, (str, os.PathLike, pillow.Image)):
        return _checked(image)
    try:
        opened = image if isinstance(image, pillow.Image) else pillow.open(image)
        with nullcontext() if opened is image else opened:
            picture = operations.exif_transpose(opened)
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"image: expected a picture, got {image}: {error}") from error
    # a damaged file makes Pillow raise nearly everything
    except Exception as error:
        raise ValueError(f"image: expected a picture, got {image}: {error}") from error
    if "transparency" in picture.info or picture.mode in ("LA", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif not re.fullmatch("L|RGBA?|F|I.*", picture.mode):
        picture = picture.convert("RGB")
    return _checked(np.asarray(picture))


def _checked(image: ArrayLike) -> NDArray[Any]:
    """An array as (H, W, 1, 3 or 4)."""
    if not isinstance(image, (list, tuple)) and not hasattr(image, "__array__"):
        raise TypeError(
            "image: expected a path, a picture of Pillow or an array, got "
            f"{type(image).__name__}"
        )
    pixels = as_array("image", image)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "uif":
        raise TypeError(f"image: expected numbers, got {pixels.dtype}")
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    elif pixels.ndim == 3 and shape[0] == 3 and shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(
            "image: expected (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or (3, H, W), got "
            f"{shape}"
        )
    if not pixels.size:
        raise ValueError(f"image: expected pixels, got none: {shape}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError("image: expected finite numbers, got NaN or infinity")
    return pixels


# Paper and ink


def _ink(colours: Floats) -> Floats:
    """(H, W) distance from the paper's colour towards that of the ink, above light."""
    ndimage = _ndimage()
    sharp = colours - _paper(colours)
    distance = np.sqrt((sharp**2).sum(axis=2))
    side = 9 if min(distance.shape) >= SMALL else 3
    grain = colours - ndimage.uniform_filter(colours, (side, side, 0))
    noise = 1.4826 * float(np.median(np.sqrt((grain**2).sum(axis=2))))
    strongest = float(_quantile(distance, 0.999))
    threshold = max(NOISE * noise, CONTRAST, 2 * FAINT * strongest)
    labels, pieces = _labelled(distance > threshold, distance)
    pieces = _without_frame(labels, pieces)
    inside = np.isin(labels, [piece.labels[0] for piece in pieces])
    if not inside.any():
        return np.zeros_like(distance)
    towards = (sharp[inside] * distance[inside, np.newaxis]).mean(0, np.float64)
    towards /= np.sqrt((towards**2).sum())
    return _levelled((colours @ towards).astype(np.float32))


def _levelled(ink: Floats) -> Floats:
    """Without light and shadows, which are wider than strokes: a top-hat transform.

    Its window is the smallest that takes next to nothing from the strongest ink.
    """
    ndimage = _ndimage()

    def top_hat(share: float) -> Floats:
        window = max(3, round(share * _across(ink)))
        size = [min(window, side) for side in ink.shape]
        top: Floats = ink - ndimage.grey_opening(ink, size)
        return top - np.float32(np.median(top))

    best = ink = _ruled(top_hat(WINDOWS[0]))
    strong = ink > 0.6 * float(_quantile(ink, 0.999))
    for share in WINDOWS[1:]:
        top = top_hat(share)
        if not strong.any() or top[strong].mean() < 0.9 * ink[strong].mean():
            break
        best = top
    return best


def _ruled(ink: Floats) -> Floats:
    """Without the lines of ruled or squared paper, which go from side to side."""
    if min(ink.shape) < SMALL:
        return ink
    ndimage = _ndimage()
    threshold = max(NOISE * _noise(ink), CONTRAST)
    thin = max(9, round(0.015 * _across(ink)))
    lines = []
    for turned in (ink, ink.T):
        height, width = turned.shape
        strips, reach = 32, round(0.02 * width)
        wide = width // strips
        parts = turned[:, : wide * strips].reshape(height, strips, wide)
        line = ndimage.maximum_filter1d(_quantile(parts, 0.4, axis=2), 3, axis=0)
        near = ndimage.maximum_filter1d(line, 2 * reach + 1, axis=0)
        line -= ndimage.grey_opening(line, (thin, 1))  # a stroke is thicker
        level = _quantile(near, 0.15, axis=1)[:, np.newaxis]
        line = np.where(level > threshold, np.minimum(line, 1.5 * level), 0).clip(0)
        lines.append(line[:, np.minimum(np.arange(width) // wide, strips - 1)])
    line = np.maximum(lines[0], lines[1].T).astype(np.float32)
    cleaned: Floats = np.maximum(ink - line, np.minimum(ink, 0))
    return cleaned


def _quantile(values: Floats, share: float, axis: int | None = None) -> Any:
    """In float64: float32 cannot tell between the ranks of a large picture's pixels."""
    return np.quantile(values.astype(np.float64), share, axis)


def _noise(ink: Floats) -> float:
    """The paper's deviation; ink is above 0, and half of the noise is below."""
    below = ink[ink < 0]
    return 1.4826 * float(np.median(-below)) if below.size else 0.0


def _paper(colours: Floats) -> Floats:
    """(H, W, C) of the empty paper: the median of a wide neighbourhood.

    Unlike a mean it follows the edge of a shadow.
    """
    ndimage = _ndimage()
    across = _across(colours)
    step = max(1, round(across / 64))
    cells = ndimage.uniform_filter(colours, (step, step, 0))[::step, ::step]
    window = max(3, round(0.3 * across / step))
    cells = ndimage.median_filter(cells, (window, window, 1))
    height, width, _ = colours.shape
    zoom = height / cells.shape[0], width / cells.shape[1], 1
    paper: Floats = ndimage.zoom(cells, zoom, order=1, mode="nearest", grid_mode=True)
    return paper


def _sheet(colours: Floats) -> tuple[slice, slice]:
    """Rows and columns of the sheet: fewer than all if a table is seen around it."""
    ndimage = _ndimage()
    tone = _tone(colours)
    everything = slice(0, tone.shape[0]), slice(0, tone.shape[1])
    threshold, separation = _otsu(tone)
    border = _border(tone > threshold).mean()
    if separation < 0.85 or 0.05 < border < 0.95:
        return everything
    labels, count = ndimage.label((tone > threshold) == (border < 0.5))
    if not count:
        return everything
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    sheet = labels == largest
    depth = ndimage.distance_transform_edt(sheet).max()
    if sheet.mean() < 0.3 or depth < 0.15 * max(sheet.shape):
        return everything
    rows, columns = ndimage.find_objects(labels)[largest - 1]
    edge = 1 + round(0.01 * max(sheet.shape))
    return (
        slice(rows.start + edge, rows.stop - edge),
        slice(columns.start + edge, columns.stop - edge),
    )


def _tight(colours: Floats) -> Floats | None:
    """Ink of a tight crop, which has too little paper to estimate the light on it.

    None if the picture is no such crop. In doubt the ink is dark.
    """
    tone = _tone(colours)
    for _ in range(2):  # once more with even light
        threshold, separation = _otsu(tone)
        dark = tone <= threshold
        border = _border(dark).mean()
        light_ink = border > 0.95 or (border > 0.6 and _reaches(~dark))
        ink = ~dark if light_ink else dark
        if separation < 0.65 or not 0.2 < ink.mean() < 0.95:
            return None
        tone = tone - _plane(tone, ~ink)
    contrast = float(np.median(tone[ink]))
    thickest = _ndimage().distance_transform_edt(np.pad(ink, 1)).max()
    if (
        separation < (0.71 if _is_whole(ink) else 0.76)
        or abs(contrast) < 5 * CONTRAST
        or not _reaches(ink)
        or _border(ink).mean() > 0.99
        or thickest > THICKEST * ink.shape[0]
    ):
        return None
    return tone if contrast > 0 else -tone


def _tone(colours: Floats) -> Floats:
    """(H, W) along the axis on which the colours differ most; light is positive."""
    values = colours.reshape(-1, colours.shape[2]).astype(np.float64)
    centred = values - values.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    axis *= np.sign(axis.sum()) or 1
    tone: Floats = (colours @ axis).astype(np.float32)
    return tone


def _plane(tone: Floats, paper: Mask) -> Floats:
    """(H, W) the plane through the paper's tones."""
    y, x = np.indices(tone.shape, np.float64)
    terms = np.stack([np.ones_like(y), y, x], axis=-1)
    through = np.linalg.lstsq(terms[paper], tone[paper], rcond=None)[0]
    plane: Floats = (terms @ through).astype(np.float32)
    return plane


def _otsu(tone: Floats) -> tuple[float, float]:
    """The threshold between two classes, and the share of the variance it explains."""
    tone = tone.astype(np.float64)
    counts, edges = np.histogram(tone, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum() / tone.size
    moment = (counts * centres).cumsum() / tone.size
    total = float(tone.var())
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[-1] * below - moment) ** 2 / (below * (1 - below))
    between = np.nan_to_num(between, posinf=0)
    best = int(between.argmax())
    return float(edges[best + 1]), float(between[best]) / total if total else 0.0


def _border(picture: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _is_whole(mask: Mask) -> bool:
    """Whether nearly all of it is one piece, as noise never is."""
    areas = np.bincount(_ndimage().label(mask)[0].ravel())[1:]
    return bool(areas.max(initial=0) > 0.95 * areas.sum())


def _reaches(mask: Mask) -> bool:
    """Whether its large pieces go from side to side and from top to bottom."""
    labels, _ = _ndimage().label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    large = (areas > 0.05 * areas.max())[labels]
    down, across = (float(large.any(axis=axis).mean()) for axis in (1, 0))
    return max(down, across) > 0.75 and min(down, across) > 0.55


# Pieces of ink and signs


def _pieces(ink: Floats, noise: float) -> tuple[Labels, list[_Piece]]:
    strongest = float(_quantile(ink, 0.999))
    threshold = max(NOISE * noise, CONTRAST, FAINT * strongest)
    labels, count = _ndimage().label(ink > threshold, np.ones((3, 3)))
    peaks = np.zeros(count + 1, np.float32)
    np.maximum.at(peaks, labels[labels > 0], ink[labels > 0])
    return _labelled((labels > 0) & (ink > EDGE * peaks[labels]), ink)


def _labelled(mask: Mask, ink: Floats) -> tuple[Labels, list[_Piece]]:
    """The pieces of ink in a mask, without specks."""
    ndimage = _ndimage()
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    weights = np.bincount(labels.ravel(), ink.ravel(), count + 1)
    pieces = [
        _Piece((i,), rows.start, columns.start, rows.stop, columns.stop, weights[i])
        for i, (rows, columns) in enumerate(ndimage.find_objects(labels), 1)
    ]
    longest = max(mask.shape)
    least = max(SMALLEST * longest, min(8, 0.2 * longest))
    large = [piece for piece in pieces if piece.length >= least]
    if len(pieces) > 20 * len(large):  # the largest of many specks is one of them
        large = [piece for piece in large if piece.length >= 2 * least]
    return labels, large


def _without_frame(labels: Labels, pieces: list[_Piece]) -> list[_Piece]:
    """Without the table's edge, a page's frame, a neighbour's half sign.

    What touches the border stays if there is nothing decent that does not, unless it is
    small, a strip or a corner that lies along the border, or a line across the picture.
    """
    height, width = labels.shape
    areas = np.bincount(labels.ravel())
    contact = np.bincount(_border(labels), minlength=areas.size)
    inner = [piece for piece in pieces if not contact[piece.labels[0]]]
    longest = max((piece.length for piece in inner), default=0)

    def stays(piece: _Piece) -> bool:
        label, box = piece.labels[0], piece.height * piece.width
        touched = contact[label] / piece.length
        decent = 0 if touched > 0.5 else DECENT * piece.length
        small = piece.length < 0.25 * max(height, width)
        solid = areas[label] > 0.45 * box and box < 0.5 * labels.size
        narrow = min(piece.height / height, piece.width / width) < 0.05
        across = max(piece.height / height, piece.width / width) > 0.95
        beside = touched > 0.8 and solid
        return not (longest > decent or small or beside or (narrow and across))

    return [p for p in pieces if not contact[p.labels[0]] or stays(p)]


def _joined(pieces: list[_Piece], near: float) -> list[_Piece]:
    """Pieces that are one sign, such as the strokes of = and ä, made one."""
    waiting = sorted(pieces, key=lambda piece: piece.length)
    signs = []
    while waiting:
        sign = waiting.pop()
        strokes = [piece for piece in waiting if _is_one_sign(sign, piece, near)]
        if not strokes:
            signs.append(sign)
            continue
        waiting = [piece for piece in waiting if piece not in strokes]
        labels, tops, lefts, bottoms, rights, weights = zip(sign, *strokes, strict=True)
        box = min(tops), min(lefts), max(bottoms), max(rights)
        # it may have more strokes, as it is now
        waiting.append(_Piece(sum(labels, ()), *box, sum(weights)))
    return signs


def _is_one_sign(a: _Piece, b: _Piece, near: float) -> bool:
    """Whether b, which is shorter, is another stroke of a; near is in pixels."""
    gap = max(a.top, b.top) - min(a.bottom, b.bottom)
    aside = max(a.left, b.left) - min(a.right, b.right)
    if max(gap, aside) < near and b.length < 0.6 * a.length:
        return True  # a fragment
    across = _overlap(a, b)
    if across < 0.4 or gap <= 0:
        return across > 0.5
    low, high = sorted([a.height, b.height])
    if low < 0.5 * max(a.length, b.length):
        return gap < 0.5 * max(a.length, b.length)
    return gap < 0.1 * (low + high)  # else they are signs of two lines


def _overlap(a: _Piece, b: _Piece) -> float:
    """The columns that both have, as a part of the narrower one's."""
    return (min(a.right, b.right) - max(a.left, b.left)) / min(a.width, b.width)


def _is_stroke(ink: Floats, labels: Labels, sign: _Piece) -> bool:
    """Whether its edges are sharp and it is thin, and no shadow or stain."""
    ndimage = _ndimage()
    across = _across(ink)
    part, own = _cut(ink, labels, sign, round(0.03 * across) + 1)[:2]
    fine = max(1.0, 0.006 * across)
    steepest = ndimage.gaussian_gradient_magnitude(part, fine)[own].max()
    highest = ndimage.gaussian_filter(part, fine)[own].max()
    thickest = 2 * ndimage.distance_transform_edt(np.pad(own, 1)).max()
    sharp = highest < max(SOFT * across, 4) * steepest
    return bool(sharp and thickest < 0.7 * sign.length)


def _cut(
    ink: Floats, labels: Labels, sign: _Piece, around: int
) -> tuple[Floats, Mask, Mask]:
    """The ink near a sign, where its own is, and where that of others is."""
    rows = slice(max(0, sign.top - around), sign.bottom + around)
    columns = slice(max(0, sign.left - around), sign.right + around)
    own = np.isin(labels[rows, columns], sign.labels)
    return ink[rows, columns], own, (labels[rows, columns] > 0) & ~own


def _in_reading_order(signs: list[_Piece]) -> list[_Piece]:
    """Left to right, and line by line if any stand above each other."""
    stacked = any(_overlap(a, b) > 0.3 for a, b in combinations(signs, 2))
    lines: list[list[_Piece]] = []
    for sign in sorted(signs, key=lambda sign: sign.top + sign.bottom):
        if lines and not (stacked and _is_below(sign, lines[-1])):
            lines[-1].append(sign)
        else:
            lines.append([sign])
    return [sign for line in lines for sign in sorted(line, key=lambda s: s.left)]


def _is_below(sign: _Piece, line: list[_Piece]) -> bool:
    middle = np.mean([other.top + other.bottom for other in line]) / 2
    height = np.mean([other.height for other in [*line, sign]])
    return bool((sign.top + sign.bottom) / 2 - middle > 0.6 * height)


# Drawing


def _drawn(found: _Found, sign: _Piece, size: int) -> NDArray[np.uint8]:
    """(size, size) of a sign, at its size and place in MNIST's images."""
    ndimage, (pillow, _) = _ndimage(), pillow_modules()
    part, own, others = _cut(found.ink, found.labels, sign, 3)
    near = ndimage.binary_dilation(own, iterations=2) & ~others
    value = _as_thick(np.where(near, part / np.median(part[own]), 0).clip(0, 1))
    (top, bottom), (left, right) = _extent(value > 0.2)
    field = max(bottom - top, right - left) * 28 / 20
    exact = abs(field - size) <= 1.5 * size / 28  # one of MNIST's images: not resized
    field = size if exact else field
    middle = field * (size // 2 + 0.5) / size  # of pixel (14, 14) as in MNIST
    centre = ndimage.center_of_mass(value.astype(np.float64))
    y, x = (coordinate + 0.5 - middle for coordinate in centre)
    y, x = min(max(y, bottom - field), top), min(max(x, right - field), left)
    if exact:
        y, x = round(y), round(x)
    pad = int(np.ceil(field)) + 1
    canvas = pillow.fromarray(np.pad(value, pad))
    box = x + pad, y + pad, x + pad + field, y + pad + field
    drawn = np.asarray(canvas.resize((size, size), pillow.Resampling.BICUBIC, box))
    return (drawn.clip(0, 1) * 255).round().astype(np.uint8)


def _as_thick(value: Floats) -> Floats:
    """(H, W) 0 to 1, larger if its strokes are made as thick as MNIST's."""
    ndimage, (pillow, _) = _ndimage(), pillow_modules()
    height, width = value.shape
    times = max(1, -(-100 // max(height, width)))  # to have pixels to measure by
    large = pillow.fromarray(value.astype(np.float32)).resize(
        (width * times, height * times), pillow.Resampling.BICUBIC
    )
    inside = np.asarray(large) > 0.5
    unit = max(stop - start for start, stop in _extent(inside)) / 20
    inside = np.pad(inside, 1 + int(THICKNESS[0] * unit))
    depth = ndimage.distance_transform_edt(inside)
    thickness = (4 * depth[inside].mean() - 1) / unit  # a bar's mean depth is a fourth
    more = np.clip(thickness, *THICKNESS) - thickness
    if abs(more) < 0.1:
        return value
    depth = np.where(inside, depth, 1 - ndimage.distance_transform_edt(~inside))
    thick: Floats = (depth + more / 2 * unit).clip(0, 1).astype(np.float32)
    return thick


def _extent(mask: Mask) -> list[tuple[int, int]]:
    """First row and the one after the last with anything in it, and the columns."""
    lines = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    return [(int(line[0]), int(line[-1]) + 1) for line in lines]


def pillow_modules() -> tuple[Any, Any]:
    """Pillow's modules Image and ImageOps, or an ImportError that says the extra."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "pictures need Pillow: pip install 'lenet5c[images]'"
        ) from error
    return Image, ImageOps


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise ImportError(
            "pictures of signs need SciPy: pip install 'lenet5c[images]'"
        ) from error
    return ndimage
