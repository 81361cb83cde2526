"""Photographs and drawings of signs: what is found on them, and how it is drawn."""

import sys

import numpy as np
import pytest
from photographs import (
    BLANK,
    KINDS,
    ONE,
    SEVEN,
    STROKES,
    TWO,
    X,
    Y,
    drawn,
    jpeg,
    photograph,
    two,
)

import lenet5c
from lenet5c.data import prepare as module
from lenet5c.data.prepare import NothingFound, Sign, prepare, prepare_many

Image = pytest.importorskip("PIL.Image")
ndimage = pytest.importorskip("scipy.ndimage")


def alike(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def extent(image):
    """Rows and columns of the light pixels."""
    rows, columns = np.nonzero(image > 80)
    return np.ptp(rows) + 1, np.ptp(columns) + 1


@pytest.fixture(scope="module")
def plain():
    """A 2 on white paper, prepared."""
    return prepare(photograph(two()))


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


@pytest.mark.parametrize("kind", BLANK)
def test_nothing_is_found_where_nothing_is(kind):
    picture = BLANK[kind]
    assert prepare_many(picture) == []
    with pytest.raises(NothingFound, match="blank"):
        prepare(picture)


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


def test_all_that_is_drawn_on_a_transparent_ground_is_ink():
    y, x = np.mgrid[:280, :280]
    alpha = np.stack(
        [
            np.hypot(y - 90, x - 200) < 20,  # a dot
            (abs(x - 10) < 11) & (abs(y - 140) < 90),  # a stroke along the border
            (abs(x - 140) < 9) & (y < 40),  # a short one that ends at it
        ]
    )
    for ink, box in zip(
        alpha, [(71, 181, 110, 220), (51, 0, 230, 21), (0, 132, 40, 149)], strict=True
    ):
        picture = np.zeros((280, 280, 4), np.uint8)
        picture[ink] = 255
        (sign,) = prepare_many(picture)
        assert sign.box == box
        np.testing.assert_array_equal(prepare(picture), sign.image)
        assert sign.image.max() == 255


def test_a_picture_that_is_half_transparent_everywhere_is_looked_at(plain):
    picture = np.dstack(
        [photograph(two(), (40,) * 3, (235,) * 3), np.full((300, 400), 150)]
    )
    assert alike(prepare(picture.astype(np.uint8)), plain) > 0.9


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
    assert prepare(two(), 8).shape == (8, 8)
    assert prepare(two(), 1024).shape == (1024, 1024)
    for size in (7, 1025):
        for function in (prepare, prepare_many):
            with pytest.raises(ValueError, match="size: expected"):
                function(two(), size)
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
