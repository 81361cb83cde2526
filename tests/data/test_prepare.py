"""Photographs and drawings of signs: what is found on them, and how it is drawn."""

import io
import sys

import numpy as np
import pytest

import lenet5c
from lenet5c.data import prepare as module
from lenet5c.data.prepare import NothingFound, Sign, prepare, prepare_many

Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")
ndimage = pytest.importorskip("scipy.ndimage")


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


def alike(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def extent(image):
    """Rows and columns of the light pixels."""
    rows, columns = np.nonzero(image > 80)
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return Image.open(file)


@pytest.fixture(scope="module")
def plain():
    """A 2 on white paper, prepared."""
    return prepare(photograph(two()))


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_is_read_like_white_paper(kind, plain):
    assert alike(prepare(KINDS[kind]()), plain) > 0.9


@pytest.mark.parametrize("size", [28, 32, 56])
def test_longer_side_and_centre_of_mass_are_mnists(size):
    for sign in (TWO, SEVEN, ONE):
        image = prepare(photograph(drawn(sign)), size)
        assert image.shape == (size, size)
        assert image.dtype == np.uint8
        assert image.max() > 230
        assert max(extent(image)) == pytest.approx(size * 20 / 28, abs=1.01 * size / 28)
        centre = ndimage.center_of_mass(image)
        np.testing.assert_allclose(centre, size / 2, atol=0.5)


@pytest.mark.parametrize(
    "stroke", [TWO, SEVEN, [(0.25, 0), (0, 1)], [(0.5, 0), (0, 1), (1, 1), (0.5, 0)]]
)
@pytest.mark.parametrize("width", [18, 44])
def test_a_tight_crop_of_thick_strokes_is_read_like_the_whole(stroke, width):
    ink = drawn(stroke, width=width)
    rows, columns = np.nonzero(ink > 0.5)
    top, left = rows.min(), columns.min()
    crop = photograph(ink)[top : rows.max() + 1, left : columns.max() + 1]
    assert alike(prepare(crop), prepare(photograph(ink))) > 0.92


def test_an_image_as_mnists_stays_nearly_as_it_is(plain):
    for picture in (plain, 255 - plain, plain / 255):
        assert alike(prepare(picture), plain) > 0.97


def test_a_prepared_digit_is_still_that_digit():
    data = lenet5c.datasets.digits()
    for digit in data.test.images[:10]:
        image = np.asarray(Image.fromarray(digit).resize((240, 240))) / 255
        picture = photograph(np.pad(image, 30))
        assert alike(prepare(picture), prepare(digit)) > 0.85


def test_thin_and_thick_strokes_become_as_thick_as_mnists():
    thin, thick = (prepare(photograph(two(width=w))) for w in (2, 60))
    for image in (thin, thick):
        longest = ndimage.distance_transform_edt(image > 127).max()
        assert 1 <= longest <= 4


def test_a_camera_that_was_held_upright_is_respected(plain):
    turned = photograph(two()).T[:, ::-1]  # as a camera stores it: orientation 8
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = jpeg(np.ascontiguousarray(turned), exif=exif)
    assert alike(prepare(picture), plain) > 0.98


def test_a_path_is_read(tmp_path, plain):
    path = tmp_path / "two.png"
    Image.fromarray(photograph(two())).save(path)
    np.testing.assert_array_equal(prepare(path), plain)
    np.testing.assert_array_equal(prepare(str(path)), plain)


def test_an_opaque_sheet_with_transparent_corners_is_a_sheet(plain):
    picture = np.dstack(
        [photograph(two(), (40,) * 3, (235,) * 3), np.full((300, 400), 255)]
    )
    picture[np.hypot(1.3 * Y, 1.1 * X) > 1.4] = 0
    assert alike(prepare(picture.astype(np.uint8)), plain) > 0.95
    blank = np.full((300, 400, 4), 255, np.uint8)
    blank[np.hypot(1.3 * Y, 1.1 * X) > 1.4] = 0
    assert prepare_many(blank) == []


def blank(noise=3.0, light=1.0, paper=225):
    return photograph(np.zeros((300, 400)), paper=paper, light=light, noise=noise)


BLANK = {
    "white": np.full((300, 400), 255, np.uint8),
    "transparent": np.zeros((300, 400, 4), np.uint8),
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


@pytest.mark.parametrize("kind", BLANK)
def test_nothing_is_found_where_nothing_is(kind):
    picture = BLANK[kind]
    assert prepare_many(picture) == []
    with pytest.raises(NothingFound, match="blank"):
        prepare(picture)


FIVE = [[(0.2, 0), (0.8, 0)], [(0.2, 0.15), (0.2, 0.5), (0.7, 0.6), (0.6, 1), (0.1, 1)]]
STROKES = {
    "5": FIVE,
    "i": [[(0.3, 0), (0.3, 0.08)], [(0.3, 0.35), (0.3, 1)]],
    "=": [[(0, 0.3), (0.8, 0.3)], [(0, 0.6), (0.8, 0.6)]],
    "4": [[(0.3, 0), (0, 0.6), (0.7, 0.6)], [(0.5, 0.3), (0.5, 1)]],
}


@pytest.mark.parametrize("name", STROKES)
def test_separate_strokes_are_one_sign(name):
    ink = drawn(*STROKES[name])
    (sign,) = prepare_many(photograph(ink))
    top, left, bottom, right = sign.box
    outside = ink.copy()
    outside[top - 3 : bottom + 3, left - 3 : right + 3] = 0
    assert outside.max() == 0


def page(places, sign=TWO, shape=(700, 900)):
    ink = np.zeros(shape)
    for top, left, size in places:
        ink = np.maximum(
            ink, drawn(sign, size=size, width=12, shape=shape, at=(top, left))
        )
    return ink


LINE = [(150, 40, 120), (60, 240, 90), (300, 430, 180), (40, 700, 140)]
LINES = [(60, 50, 130), (90, 300, 150), (60, 600, 120), (400, 80, 140), (380, 560, 150)]


@pytest.mark.parametrize("places", [LINE, LINES], ids=["one line", "two lines"])
@pytest.mark.parametrize(("dark", "paper"), [(40, 235), (220, 50)])
def test_signs_come_in_reading_order_with_their_boxes(places, dark, paper, plain):
    picture = photograph(page(places), dark, paper)
    signs = prepare_many(picture)
    assert len(signs) == len(places)
    for sign, (top, left, size) in zip(signs, places, strict=True):
        assert isinstance(sign, Sign)
        expected = top - 6, left + 0.1 * size - 6, top + size + 6, left + 0.8 * size + 6
        np.testing.assert_allclose(sign.box, expected, atol=12)
        assert alike(sign.image, plain) > 0.9


def test_boxes_are_in_pixels_of_a_large_picture():
    (sign,) = prepare_many(photograph(page([(900, 1300, 300)], shape=(1500, 2000))))
    np.testing.assert_allclose(sign.box, (894, 1324, 1206, 1546), atol=14)


def test_the_same_picture_gives_the_same_bytes():
    picture = photograph(two(), noise=10)
    before = picture.copy()
    np.testing.assert_array_equal(prepare(picture), prepare(picture))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("image", "error", "match"),
    [
        (3, TypeError, "image: expected a path.*got int"),
        (np.array([["a"]]), TypeError, "image: expected numbers"),
        (np.zeros((3, 4), complex), TypeError, "image: expected numbers, got complex"),
        (np.zeros(5), ValueError, r"image: expected \(H, W\).*got \(5,\)"),
        (np.zeros((4, 5, 2)), ValueError, r"got \(4, 5, 2\)"),
        (np.zeros((2, 3, 4, 5)), ValueError, r"got \(2, 3, 4, 5\)"),
        (np.zeros((0, 5)), ValueError, "image: expected pixels"),
        (np.full((9, 9), np.nan), ValueError, "image: expected finite"),
        ([[1, 2], [3]], ValueError, "image: expected an array"),
    ],
)
def test_wrong_pictures_are_named(image, error, match):
    for function in (prepare, prepare_many):
        with pytest.raises(error, match=match):
            function(image)


def test_wrong_sizes_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="size: expected"):
        prepare(two(), 3)
    with pytest.raises(TypeError, match="size: expected"):
        prepare(two(), 28.5)
    with pytest.raises(FileNotFoundError):
        prepare(tmp_path / "none.png")
    path = tmp_path / "text.png"
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"image: expected a picture, got .*text\.png"):
        prepare(path)


@pytest.mark.parametrize("missing", ["PIL", "scipy"])
def test_a_missing_library_is_named(missing, monkeypatch):
    picture = photograph(two())
    for name in [n for n in sys.modules if n.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'lenet5c\[images\]'"):
        prepare(picture)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (5, 5), (400, 7)])
def test_pictures_of_any_shape_are_looked_at(shape):
    rng = np.random.default_rng(0)
    for picture in (np.zeros(shape), rng.random(shape), np.eye(*shape)):
        assert all(
            sign.image.shape == (28, 28) for sign in module.prepare_many(picture)
        )
