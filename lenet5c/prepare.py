"""A photograph or a drawing of digits or other signs, made into images like MNIST's.

H rows, W columns, C channels (1 or 3). The steps: read the picture, estimate the paper
and the light on it, measure each pixel's distance from the paper, find the pieces of
ink, join the strokes of a sign, and draw each sign as MNIST's were.
"""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c.checks import as_array, whole

__all__ = ["NothingFound", "Sign", "prepare", "prepare_many"]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# All lengths are shares of the picture's or of the sign's, unless they say pixels.
PIXELS = 500_000  # the most that a picture is worked on with; a larger one is reduced
CONTRAST = 0.02  # of the range between black and white: less is never ink
NOISE = 5.0  # standard deviations of the paper's noise that ink stands out
SOFT = 0.07  # of the picture: an edge as wide as that is a shadow's
FAINT = 0.15  # of the strongest ink's contrast: less is a shadow or dirt
EDGE = 0.35  # of a stroke's full darkness: what is darker belongs to it
SMALLEST = 0.02  # of the picture's longer side: less is a speck
GAP = 0.012  # of the picture: a fragment that is nearer belongs to the sign
DECENT = 0.3  # of the largest piece's length: it may be the sign instead of that
THICKNESS = 2.2, 4.5  # pixels at 28x28: MNIST's strokes, 5th to 95th percentile


class NothingFound(ValueError):
    """The picture has no sign on it."""


class Sign(NamedTuple):
    """A sign and where it was found.

    Attributes
    ----------
    image : (size, size) uint8, light on black
    box : (top, left, bottom, right) in pixels of the picture; bottom and right are the
        first row and column after the sign
    """

    image: NDArray[np.uint8]
    box: tuple[int, int, int, int]


def prepare(image: Any, size: int = 28) -> NDArray[np.uint8]:
    """The one sign of a picture, as MNIST's images were made.

    The ink becomes light on black, its longer side 20/28 of the image, and its centre
    of mass the image's centre.
    """
    found = _signs(image, size, most=1)
    if not found:
        raise NothingFound(
            "image: expected a picture with a sign on it, got a blank one"
        )
    return found[0].image


def prepare_many(image: Any, size: int = 28) -> list[Sign]:
    """All signs of a page in reading order, as `prepare` makes them."""
    return _signs(image, size)


def _signs(image: Any, size: int, most: int | None = None) -> list[Sign]:
    whole("size", size, 8, 1024)
    colours, reduced = _read(image)
    ndimage = _ndimage()
    if reduced == 1 and min(colours.shape[:2]) >= 100:  # the noise
        colours = ndimage.gaussian_filter(colours, (1, 1, 0))
    rows, columns = _sheet(colours)
    colours = colours[rows, columns]
    top, left = rows.start or 0, columns.start or 0
    tight = _tight(colours)
    ink = _ink(colours) if tight is None else tight
    if ink is None:
        return []
    labels, pieces = _pieces(ink)
    signs = _joined(pieces, GAP * float(np.sqrt(ink.size)))
    if tight is None:
        signs = [sign for sign in signs if _is_sharp(ink, labels, sign)]
    if most is not None:
        signs = sorted(signs, key=lambda sign: -sign.weight)[:most]
    return [
        Sign(
            _drawn(ink, labels, sign, size),
            (
                (sign.top + top) * reduced,
                (sign.left + left) * reduced,
                (sign.bottom + top) * reduced,
                (sign.right + left) * reduced,
            ),
        )
        for sign in _in_reading_order(signs)
    ]


# Reading


def _read(image: Any) -> tuple[Floats, int]:
    """(H, W, C) from 0 to 1, and how many times it was reduced."""
    pixels = _pixels(image)
    height, width = pixels.shape[:2]
    times = max(1, int(np.ceil(np.sqrt(height * width / PIXELS))))
    rows, columns = height // times, width // times
    if times > 1 and rows and columns:
        blocks = pixels[: rows * times, : columns * times]
        blocks = blocks.reshape(rows, times, columns, times, -1)
        means = blocks.mean((1, 3), dtype=np.float32)
    else:
        times, means = 1, pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        means /= 255
        alpha = means[..., 3:]
    else:
        alpha = means[..., 3:] / (pixels[..., 3:].max(initial=0) or 1)
        low, high = pixels[..., :3].min(), pixels[..., :3].max()
        means = (means - np.float32(low)) / np.float32((float(high) - float(low)) or 1)
    colours = means[..., :3]
    if alpha.size:
        colours = _on_paper(colours, alpha)
    if colours.shape[2] == 3 and np.ptp(colours, axis=2).max() == 0:
        colours = colours[..., :1]
    return colours, times


def _on_paper(colours: Floats, alpha: Floats) -> Floats:
    """The picture without transparency: what is drawn, or the sheet completed."""
    opaque = alpha[..., 0] > 0.5
    clear = 1 - opaque.mean()
    if clear == 1:
        return np.zeros_like(alpha)
    plain = np.ptp(colours[alpha[..., 0] > 0.9].reshape(-1, 3), axis=0).max(initial=0)
    if clear > 0.5 or (clear > 0.25 and plain < CONTRAST):
        return alpha
    paper = np.median(colours[opaque], axis=0)
    return alpha * colours + (1 - alpha) * paper


def _pixels(image: Any) -> NDArray[Any]:
    """(H, W, 1, 3 or 4) of any type."""
    pillow, operations = _pillow()
    if isinstance(image, (str, os.PathLike)):
        try:
            with pillow.open(image) as opened:
                return _decoded(opened, operations)
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(
                f"image: expected a picture, got {image}: {error}"
            ) from error
    if isinstance(image, pillow.Image):
        return _decoded(image, operations)
    return _checked(image)


def _decoded(picture: Any, operations: Any) -> NDArray[Any]:
    picture = operations.exif_transpose(picture)
    mode = picture.mode
    if "transparency" in picture.info or mode in ("LA", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
    elif mode == "1":
        picture = picture.convert("L")
    elif not mode.startswith(("I", "F", "L", "RGB")):
        picture = picture.convert("RGB")
    return _checked(np.asarray(picture))


def _checked(image: ArrayLike) -> NDArray[Any]:
    if not isinstance(image, (np.ndarray, list, tuple)) and not hasattr(
        image, "__array__"
    ):
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


def _ink(colours: Floats) -> Floats | None:
    """(H, W) distance from the paper towards the ink, None if there is no ink."""
    ndimage = _ndimage()
    height, width, _ = colours.shape
    across = float(np.sqrt(height * width))
    sharp = colours - _paper(colours, across)
    distance = np.sqrt((sharp**2).sum(axis=2))
    fine = 9 if min(height, width) >= 100 else 3
    grain = colours - ndimage.uniform_filter(colours, (fine, fine, 0))
    noise = 1.4826 * float(np.median(np.sqrt((grain**2).sum(axis=2))))
    strongest = float(np.quantile(distance, 0.999))
    threshold = max(NOISE * noise, CONTRAST, 0.3 * strongest)
    labels, pieces = _labelled(distance > threshold, distance)
    if not pieces:
        return None
    inside = np.isin(labels, [piece.labels[0] for piece in pieces])
    strong = sharp[inside] * distance[inside][:, np.newaxis]
    towards = strong.mean(axis=0, dtype=np.float64)
    towards /= np.sqrt((towards**2).sum()) or 1
    return _levelled(colours @ towards.astype(np.float32), across)


def _levelled(ink: Floats, across: float) -> Floats:
    """Without what is left of shadows, which are wider than strokes.

    The window is the smallest that the strokes, all the dark of the largest, pass.
    """
    ndimage = _ndimage()
    tops = []
    for share in (0.35, 0.2, 0.12, 0.07):
        window = max(3, round(share * across))
        size = min(window, ink.shape[0]), min(window, ink.shape[1])
        top = ink - ndimage.grey_opening(ink, size)
        if not tops:
            top = ink = _ruled(top - np.median(top))
            strong = top > 0.6 * np.quantile(top, 0.999)
            full = float(top[strong].mean())
        elif float(top[strong].mean()) < 0.9 * full:
            break
        tops.append(top - np.median(top))
    return tops[-1]


def _ruled(ink: Floats) -> Floats:
    """Without the lines of ruled or squared paper, which go from side to side."""
    if min(ink.shape) < 100:
        return ink
    ndimage = _ndimage()
    threshold = max(NOISE * _noise(ink), CONTRAST)
    thin = max(9, round(0.015 * float(np.sqrt(ink.size))))
    lines = []
    for turned in (ink, ink.T):
        height, width = turned.shape
        strips, reach = 32, round(0.02 * width)
        wide = width // strips
        parts = turned[:, : wide * strips].reshape(height, strips, wide)
        line = ndimage.maximum_filter1d(np.quantile(parts, 0.4, axis=2), 3, axis=0)
        near = ndimage.maximum_filter1d(line, 2 * reach + 1, axis=0)
        line -= ndimage.grey_opening(line, (thin, 1))  # a stroke is thicker
        level = np.quantile(near, 0.15, axis=1)[:, np.newaxis]
        line = np.where(level > threshold, np.minimum(line, 1.5 * level), 0).clip(0)
        lines.append(line[:, np.minimum(np.arange(width) // wide, strips - 1)])
    cleaned: Floats = np.maximum(
        ink - np.maximum(lines[0], lines[1].T), np.minimum(ink, 0)
    )
    return cleaned


def _noise(ink: Floats) -> float:
    """The paper's deviation; ink is above 0, and half of the noise is below."""
    below = ink[ink < 0]
    return 1.4826 * float(np.median(-below)) if below.size else 0.0


def _paper(colours: Floats, across: float) -> Floats:
    """(H, W, C) of the empty paper: the median of a wide neighbourhood.

    Unlike a mean it follows the edge of a shadow.
    """
    ndimage = _ndimage()
    step = max(1, round(across / 64))
    cells = ndimage.uniform_filter(colours, (step, step, 0))[::step, ::step]
    window = max(3, round(0.3 * across / step))
    cells = ndimage.median_filter(cells, (window, window, 1))
    height, width, _ = colours.shape
    zoom = height / cells.shape[0], width / cells.shape[1], 1
    paper: Floats = ndimage.zoom(cells, zoom, order=1, mode="nearest", grid_mode=True)
    return paper


def _sheet(colours: Floats) -> tuple[slice, slice]:
    """Rows and columns of the sheet, if the table is seen all around it."""
    ndimage = _ndimage()
    tone = _tone(colours)
    threshold, separation = _otsu(tone)
    border = _border(tone > threshold)
    whole = slice(None), slice(None)
    if separation < 0.85 or 0.05 < border.mean() < 0.95:
        return whole
    labels, count = ndimage.label((tone > threshold) == (border.mean() < 0.5))
    if not count:
        return whole
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    sheet = labels == largest
    depth = ndimage.distance_transform_edt(sheet).max()
    if sheet.mean() < 0.3 or depth < 0.15 * max(sheet.shape):
        return whole
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
    ndimage = _ndimage()
    tone = _tone(colours)
    for _ in range(2):  # once more with even light
        threshold, separation = _otsu(tone)
        dark = tone <= threshold
        light_ink = dark.mean() > 0.6 and _reaches(~dark, whole=True)
        ink = ~dark if light_ink else dark
        if separation < 0.7 or not 0.2 < ink.mean() < 0.95:
            return None
        tone = tone - _plane(tone, ~ink)
    contrast = float(np.median(tone[ink]))
    thickest = ndimage.distance_transform_edt(np.pad(ink, 1)).max()
    if (
        _border(ink).mean() > 0.99
        or not _reaches(ink, whole=False)
        or thickest > 0.18 * max(ink.shape)
        or separation < 0.8
        or abs(contrast) < 5 * CONTRAST
    ):
        return None
    return np.sign(contrast) * tone


def _tone(colours: Floats) -> Floats:
    """(H, W) along the axis on which the colours differ most; light is positive."""
    values = colours.reshape(-1, colours.shape[2])
    centred = values - values.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    axis *= np.sign(axis.sum()) or 1
    tone: Floats = colours @ axis.astype(np.float32)
    return tone


def _plane(tone: Floats, paper: Mask) -> Floats:
    """(H, W) the plane through the paper's tones."""
    y, x = (c.astype(np.float32) for c in np.indices(tone.shape))
    terms = np.stack([np.ones_like(y), y, x], axis=-1)
    plane = np.linalg.lstsq(terms[paper], tone[paper], rcond=None)[0]
    return terms @ plane


def _otsu(tone: Floats) -> tuple[float, float]:
    """The threshold between two classes, and the share of the variance it explains."""
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


def _border(mask: Mask) -> Mask:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _reaches(mask: Mask, whole: bool) -> bool:
    """Whether the ink goes from side to side and from top to bottom, in one piece."""
    labels, _ = _ndimage().label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    large = areas >= (1 if whole else 0.05) * areas.max()
    large[0] = False
    sides = [large[labels].any(axis=axis).sum() for axis in (1, 0)]
    return bool((np.array(sides) >= 0.8 * np.array(mask.shape)).all())


# Pieces of ink and signs


class _Piece(NamedTuple):
    """A connected piece of ink."""

    labels: tuple[int, ...]
    top: int
    left: int
    bottom: int
    right: int
    weight: float

    @property
    def length(self) -> int:
        return max(self.bottom - self.top, self.right - self.left)

    def with_(self, other: "_Piece") -> "_Piece":
        return _Piece(
            self.labels + other.labels,
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
            self.weight + other.weight,
        )


def _labelled(mask: Mask, ink: Floats) -> tuple[NDArray[np.int32], list[_Piece]]:
    """The pieces of ink in a mask, without specks and without what is at the border."""
    ndimage = _ndimage()
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    weights = np.bincount(labels.ravel(), ink.ravel(), count + 1)
    least = max(SMALLEST * max(mask.shape), min(8, 0.2 * max(mask.shape)))
    pieces = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        box = rows.start, columns.start, rows.stop, columns.stop
        pieces.append(_Piece((label,), *box, float(weights[label])))
    large = [piece for piece in pieces if piece.length >= least]
    if len(pieces) > 20 * len(large):  # the largest of many specks is one of them
        large = [piece for piece in large if piece.length >= 2 * least]
    return labels, _without_frame(labels, large)


def _without_frame(labels: NDArray[np.int32], pieces: list[_Piece]) -> list[_Piece]:
    """Without the table's edge, a page's frame, a neighbour's half sign."""
    areas = np.bincount(labels.ravel())
    contact = np.bincount(_border(labels), minlength=labels.max() + 1)
    inner = [p for p in pieces if not contact[p.labels[0]]]
    longest = max((piece.length for piece in inner), default=0)
    kept = inner.copy()
    for piece in pieces:
        touched = contact[piece.labels[0]]
        rows, columns = piece.bottom - piece.top, piece.right - piece.left
        along = touched > 0.5 * piece.length
        lost = longest >= (0 if along else DECENT * piece.length) and longest
        solid = areas[piece.labels[0]] > 0.45 * rows * columns
        strip = (
            touched > 0.8 * piece.length and solid and 2 * rows * columns < labels.size
        )
        line = rows > 0.95 * labels.shape[0] and columns < 0.05 * labels.shape[1]
        line |= columns > 0.95 * labels.shape[1] and rows < 0.05 * labels.shape[0]
        if touched and not lost and not strip and not line:
            kept.append(piece)
    return kept


def _pieces(ink: Floats) -> tuple[NDArray[np.int32], list[_Piece]]:
    ndimage = _ndimage()
    strongest = float(np.quantile(ink, 0.999))
    threshold = max(NOISE * _noise(ink), CONTRAST, FAINT * strongest)
    labels, count = ndimage.label(ink > threshold, np.ones((3, 3)))
    peaks = np.zeros(count + 1, np.float32)
    np.maximum.at(peaks, labels[labels > 0], ink[labels > 0])
    return _labelled((labels > 0) & (ink > EDGE * peaks[labels]), ink)


def _joined(pieces: list[_Piece], near: float) -> list[_Piece]:
    """Pieces that are one sign, such as the strokes of = and ä, made one."""
    waiting = sorted(pieces, key=lambda piece: piece.length)
    signs: list[_Piece] = []
    while waiting:
        sign = waiting.pop()
        strokes = [piece for piece in waiting if _one_sign(sign, piece, near)]
        if strokes:
            waiting = [piece for piece in waiting if piece not in strokes]
            for stroke in strokes:
                sign = sign.with_(stroke)
            waiting.append(sign)  # as it is now, it may have more
        else:
            signs.append(sign)
    return signs


def _one_sign(a: _Piece, b: _Piece, near: float) -> bool:
    """Whether b, the smaller one, is another stroke of a; near is in pixels."""
    across = _overlap(a.left, a.right, b.left, b.right)
    gap = max(a.top, b.top) - min(a.bottom, b.bottom)
    aside = max(a.left, b.left) - min(a.right, b.right)
    if max(gap, aside) < near and b.length < 0.6 * a.length:
        return True  # a fragment
    if across < 0.4 or gap <= 0:
        return across > 0.5
    tall, flat = max(a.length, b.length), min(a.bottom - a.top, b.bottom - b.top)
    if flat < 0.5 * max(a.bottom - a.top, b.bottom - b.top) or flat < 0.5 * tall:
        return gap < 0.5 * tall
    return gap < 0.1 * (a.bottom - a.top + b.bottom - b.top)


def _overlap(a: int, b: int, c: int, d: int) -> float:
    """What the stretches a to b and c to d share, as a part of the shorter one."""
    return (min(b, d) - max(a, c)) / max(1, min(b - a, d - c))


def _is_sharp(ink: Floats, labels: NDArray[np.int32], sign: _Piece) -> bool:
    """Whether it has a stroke's edges and is thin, not a shadow or a stain."""
    ndimage = _ndimage()
    across = float(np.sqrt(ink.size))
    around = round(0.03 * across) + 1
    rows = slice(max(0, sign.top - around), sign.bottom + around)
    columns = slice(max(0, sign.left - around), sign.right + around)
    part = ink[rows, columns]
    own = np.isin(labels[rows, columns], sign.labels)
    fine = max(1.0, 0.006 * across)
    steepest = ndimage.gaussian_gradient_magnitude(part, fine)[own].max()
    height = ndimage.gaussian_filter(part, fine)[own].max()
    thickest = 2 * ndimage.distance_transform_edt(np.pad(own, 1)).max()
    soft = height > max(SOFT * across, 4) * steepest
    return not soft and bool(thickest < 0.45 * sign.length)


def _in_reading_order(signs: list[_Piece]) -> list[_Piece]:
    """Left to right, and line by line if any stand above each other."""

    def above(a: _Piece, b: _Piece) -> bool:
        return _overlap(a.left, a.right, b.left, b.right) > 0.3

    stacked = any(above(a, b) for i, a in enumerate(signs) for b in signs[i + 1 :])
    lines: list[list[_Piece]] = []
    for sign in sorted(signs, key=lambda sign: sign.top + sign.bottom):
        if lines and not stacked:
            lines[-1].append(sign)
        elif lines:
            middle = np.mean([s.top + s.bottom for s in lines[-1]]) / 2
            tall = np.mean([s.bottom - s.top for s in [*lines[-1], sign]])
            if (sign.top + sign.bottom) / 2 - middle < 0.6 * tall:
                lines[-1].append(sign)
            else:
                lines.append([sign])
        else:
            lines.append([sign])
    return [s for line in lines for s in sorted(line, key=lambda s: s.left)]


# Drawing


def _drawn(
    ink: Floats, labels: NDArray[np.int32], sign: _Piece, size: int
) -> NDArray[np.uint8]:
    """(size, size) as MNIST's images."""
    ndimage = _ndimage()
    around = 3
    rows = slice(max(0, sign.top - around), sign.bottom + around)
    columns = slice(max(0, sign.left - around), sign.right + around)
    own = np.isin(labels[rows, columns], sign.labels)
    near = ndimage.binary_dilation(own, iterations=2) & (
        own | (labels[rows, columns] == 0)
    )
    part = np.where(near, ink[rows, columns], 0)
    value = np.clip(part / np.median(part[own]), 0, 1).astype(np.float32)
    value = _as_thick(value)
    rows, columns = (np.flatnonzero((value > 0.2).any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    length = max(bottom - top, right - left)
    field = length * 28 / 20
    exact = abs(field - size) <= 1.5 * size / 28  # is an image of MNIST's already
    field = size if exact else field
    y, x = (
        c + 0.5 - field * (size // 2 + 0.5) / size
        for c in ndimage.center_of_mass(value)
    )
    y = min(max(y, bottom - field), top)
    x = min(max(x, right - field), left)
    if exact:
        y, x = round(y), round(x)
    pad = int(np.ceil(field)) + 1
    pillow, _ = _pillow()
    canvas = pillow.fromarray(np.pad(value, pad))
    box = x + pad, y + pad, x + pad + field, y + pad + field
    small = np.asarray(canvas.resize((size, size), pillow.Resampling.BICUBIC, box))
    return (small.clip(0, 1) * 255).round().astype(np.uint8)


def _as_thick(value: Floats) -> Floats:
    """With strokes as thick as MNIST's, if they are thinner or thicker."""
    pillow, _ = _pillow()
    ndimage = _ndimage()
    height, width = value.shape
    times = max(1, -(-100 // max(height, width)))
    large = pillow.fromarray(value).resize((width * times, height * times), 3)
    inside = np.asarray(large) > 0.5
    inside = np.pad(inside, 4 * times)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    unit = (max(np.ptp(rows), np.ptp(columns)) + 1) / 20
    depth = ndimage.distance_transform_edt(inside)
    thickness = (4 * depth[inside].mean() - 1) / unit
    wanted = np.clip(thickness, *THICKNESS)
    if abs(wanted - thickness) < 0.1:
        return value
    more = (wanted - thickness) / 2 * unit
    inside = np.pad(inside, max(0, int(more)) + 1)
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(
        ~inside
    )
    return np.clip(signed + more + 0.5 * np.sign(-signed) + 0.5, 0, 1).astype(
        np.float32
    )


def _pillow() -> tuple[Any, Any]:
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
