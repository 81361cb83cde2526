"""Photographs and drawings of signs, made up: ink on paper, in every light."""

import io

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")


def drawn(*strokes, size=200, width=18, shape=(300, 400), at=(50, 100)):
    """(H, W) from 0 to 1: strokes through points of a unit square, at (top, left)."""
    big = Image.new("L", (2 * shape[1], 2 * shape[0]))
    pen = ImageDraw.Draw(big)
    for stroke in strokes:
        points = [(2 * (at[1] + x * size), 2 * (at[0] + y * size)) for x, y in stroke]
        pen.line(points, 255, 2 * width, joint="curve")
    return np.asarray(big.reduce(2)) / 255


TWO = [(0.1, 0.2), (0.4, 0), (0.7, 0.2), (0.1, 1), (0.8, 1)]
SEVEN = [(0, 0), (0.7, 0), (0.2, 1)]
ONE = [(0.3, 0), (0.3, 1)]


def two(**options):
    return drawn(TWO, **options)


def photograph(ink, dark=40, paper=235, light=1.0, noise=3.0, seed=0):
    """(H, W) or (H, W, 3) uint8 of ink on paper."""
    dark, paper = np.atleast_1d(dark), np.atleast_1d(paper)
    picture = paper + (dark - paper) * ink[..., np.newaxis]
    picture = picture * np.broadcast_to(light, ink.shape)[..., np.newaxis]
    picture = picture + np.random.default_rng(seed).normal(0, noise, picture.shape)
    return picture.clip(0, 255).astype(np.uint8).squeeze()


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return Image.open(file)


SLOPE = np.linspace(1, 0.5, 400)
SHADOW = 0.55 + 0.45 / (
    1 + np.exp(-(np.arange(400) - 180 + np.arange(300)[:, None]) / 4)
)
Y, X = np.mgrid[-1:1:300j, -1:1:400j]
VIGNETTE = np.cos(np.arctan(0.8 * np.hypot(Y, X))) ** 4


def with_specks(picture):
    rng = np.random.default_rng(1)
    for y, x in zip(rng.integers(0, 297, 30), rng.integers(0, 397, 30), strict=True):
        picture[y : y + 2, x : x + 3] = 60
    return picture


def with_table(picture):
    picture[:, :25] = picture[280:] = 70
    return picture


def with_squares(picture):
    lines = np.zeros(picture.shape, bool)
    lines[7::30] = lines[:, 7::30] = True
    return np.where(lines, np.minimum(picture, 150), picture)


def on_a_table():
    table = photograph(np.zeros((420, 520)), paper=70)
    table[60:360, 60:460] = photograph(two())
    return table


def transparent(colour):
    alpha = (255 * two()).astype(np.uint8)
    return np.dstack([np.full((300, 400, 3), colour, np.uint8), alpha])


KINDS = {
    "uneven light": lambda: photograph(two(), light=SLOPE),
    "vignette": lambda: photograph(two(), light=VIGNETTE),
    "shadow": lambda: photograph(two(), light=SHADOW),
    "blackboard": lambda: photograph(two(), dark=(220, 225, 215), paper=(40, 60, 50)),
    "red on yellow": lambda: photograph(two(), (200, 30, 40), (250, 225, 90)),
    "equal luminance": lambda: photograph(two(), (90, 160, 240), (230, 130, 30)),
    "pencil": lambda: photograph(two(), 210, 225),
    "noise": lambda: photograph(two(), 90, 220, noise=15),
    "white on transparent": lambda: transparent(255),
    "black on transparent": lambda: transparent(0),
    "specks": lambda: with_specks(photograph(two())),
    "table": lambda: with_table(photograph(two())),
    "sheet on a table": on_a_table,
    "squares": lambda: with_squares(photograph(two())),
    "bad jpeg": lambda: jpeg(photograph(two()), quality=20),
    "12 bits": lambda: photograph(two()).astype(np.uint16) << 4,
    "floats": lambda: photograph(two()) / 255 - 0.5,
    "bool": lambda: two() < 0.5,
    "channels first": lambda: photograph(two(), (9, 9, 9), (250, 240, 230)).transpose(
        2, 0, 1
    ),
    "small": lambda: photograph(two(size=80, width=7, at=(210, 310))),
    "thin pen": lambda: photograph(two(width=3)),
    "tight": lambda: 255 - (255 * two()[40:262, 108:272]).astype(np.uint8),
    "tight and light": lambda: (255 * two()[40:262, 108:272]).astype(np.uint8),
}


def blank(noise=3.0, light=1.0, paper=225):
    return photograph(np.zeros((300, 400)), paper=paper, light=light, noise=noise)


BLANK = {
    "white": np.full((300, 400), 255, np.uint8),
    "transparent": np.zeros((300, 400, 4), np.uint8),
    "translucent": np.full((300, 400, 4), 100, np.uint8),
    "constant floats": np.full((30, 30), 7.5),
    "28x28 noise": np.random.default_rng(0).integers(0, 256, (28, 28)).astype("u1"),
    "normal floats": np.random.default_rng(0).normal(0, 1, (200, 200)),
    "noise": blank(noise=15),
    "slope": blank(light=SLOPE),
    "vignette": blank(light=VIGNETTE),
    "shadow": blank(light=SHADOW),
    "specks": with_specks(blank()),
    "table": with_table(blank()),
    "squares": with_squares(blank()),
}


FIVE = [[(0.2, 0), (0.8, 0)], [(0.2, 0.15), (0.2, 0.5), (0.7, 0.6), (0.6, 1), (0.1, 1)]]
STROKES = {
    "5": FIVE,
    "i": [[(0.3, 0), (0.3, 0.08)], [(0.3, 0.35), (0.3, 1)]],
    "=": [[(0, 0.3), (0.8, 0.3)], [(0, 0.6), (0.8, 0.6)]],
    "4": [[(0.3, 0), (0, 0.6), (0.7, 0.6)], [(0.5, 0.3), (0.5, 1)]],
}
