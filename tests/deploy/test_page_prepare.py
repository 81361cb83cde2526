"""The page's prepare.js makes the same bytes of a picture as pictures.prepare."""

import base64
import re
from importlib import resources

import numpy as np
import pytest
from photographs import BLANK, KINDS, SEVEN, STROKES, TWO, drawn, photograph, two

import lenet5c
from lenet5c.pictures import NothingFound, prepare

Image = pytest.importorskip("PIL.Image")

# draws strokes as the page does, or takes pixels; returns pixels and what is prepared
PAGE = """<!doctype html><script>{source}</script><script>
function drawStrokes(strokes, width, height) {{
  const pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.lineCap = pen.lineJoin = "round";
  for (const [thickness, points] of strokes) {{
    pen.lineWidth = thickness;
    pen.beginPath();
    for (const [x, y] of points) pen.lineTo(x, y);
    if (points.length === 1) pen.lineTo(...points[0]);
    pen.stroke();
  }}
  return pen.getImageData(0, 0, width, height).data;
}}
const decode = (text) => Uint8ClampedArray.from(atob(text), (c) => c.charCodeAt(0));
function encode(bytes) {{
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}}
</script>"""


def source():
    return (resources.files(lenet5c) / "deploy/web/prepare.js").read_text("utf-8")


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """Chromium, with a page that has prepare.js and nothing else of lenet5c."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(PAGE.format(source=source()), "utf-8")
    browser.get(path.as_uri())
    return browser


def decoded(text, *shape):
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def rgba(picture):
    """(H, W, 4) uint8 of a picture of bytes, as a canvas has it."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., np.newaxis], 3, axis=2)
    if picture.shape[2] == 3:
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    return np.ascontiguousarray(picture)


def check(picture, size, given):
    """What prepare.js made of a picture, None if nothing, is what Python makes."""
    try:
        expected = prepare(picture, size)
    except NothingFound:
        expected = None
    assert (given is None) == (expected is None)
    if expected is not None:
        np.testing.assert_array_equal(decoded(given, size, size), expected)


def check_picture(page, picture, size=28):
    picture = rgba(picture)
    height, width, _ = picture.shape
    text = base64.b64encode(picture.tobytes()).decode()
    check(
        picture,
        size,
        page.execute_script(
            "const made = prepare(decode(arguments[0]), ...arguments[1]);"
            "return made && encode(made);",
            text,
            [width, height, size],
        ),
    )


def random_stroke(rng, width, height, points, wander=0.3):
    """(points, 2) from a place within the middle, each within `wander` of the last."""
    side = min(width, height)
    start = rng.uniform(0.3, 0.7, (1, 2)) * (width, height)
    steps = rng.normal(0, wander * side, (points - 1, 2))
    return np.concatenate([start, start + steps.cumsum(axis=0) / 2])


def strokes_of(kind, rng, width=280, height=280):
    """[(thickness, [(x, y), ...]), ...] of a random drawing."""

    def stroke(**options):
        return random_stroke(rng, width, height, int(rng.integers(2, 9)), **options)

    thickness = float(rng.uniform(8, 40))
    if kind == "thin":
        return [(float(rng.uniform(1, 4)), stroke())]
    if kind == "thick":
        return [(float(rng.uniform(40, 80)), stroke())]
    if kind == "dot":
        return [(thickness, stroke()[:1])]
    if kind == "i and =":
        (x, y), gap = rng.uniform(90, 120, 2), rng.uniform(20, 60)
        return [
            (thickness, [(x, y), (x + 60 * rng.random(), y)]),
            (thickness, [(x, y + gap), (x + 90 * rng.random(), y + 1.5 * gap)]),
        ]
    if kind == "border":
        return [(thickness, stroke() * (1, 0) + (0, rng.choice([0, height])))]
    if kind == "tiny":
        return [(3.0, [(x / 9 + 100, y / 9 + 50) for x, y in stroke()])]
    if kind == "huge":
        return [(thickness, [(2 * x - 140, 2 * y - 140) for x, y in stroke(wander=1)])]
    if kind == "full":
        return [(900.0, stroke())]
    if kind == "blank":
        return []
    return [(thickness, stroke()) for _ in range(rng.integers(1, 4))]


DRAWINGS = "strokes", "thin", "thick", "dot", "i and =", "border", "tiny", "huge"


@pytest.mark.parametrize("kind", [*DRAWINGS, "full", "blank"])
def test_a_drawing_on_a_canvas(page, kind):
    rng = np.random.default_rng(len(kind))
    shapes = [(280, 280, 28)] * 5 + [(280, 280, 8), (280, 280, 32), (280, 280, 64)]
    for width, height, size in [*shapes, (200, 340, 28), (810, 800, 28), (24, 28, 28)]:
        strokes = strokes_of(kind, rng, width, height)
        strokes = [(t, np.asarray(points).tolist()) for t, points in strokes]
        pixels, made = page.execute_script(
            "const [strokes, width, height, size] = arguments;"
            "const pixels = drawStrokes(strokes, width, height);"
            "const made = prepare(pixels, width, height, size);"
            "return [encode(pixels), made && encode(made)];",
            strokes,
            *(width, height, size),
        )
        check(decoded(pixels, height, width, 4), size, made)
        assert kind not in ("full", "blank") or made is None


def test_a_digit_of_mnist_as_a_drawing(page, mnist):
    for image in mnist.test.images[:8]:
        large = Image.fromarray(image.squeeze()).resize((280, 280))
        picture = np.zeros((280, 280, 4), np.uint8)
        picture[..., 3] = large
        check_picture(page, picture)
        check_picture(page, 255 - np.asarray(large))
        check_picture(page, image.squeeze())


PHOTOGRAPHS = KINDS | {f"blank: {k}": lambda k=k: BLANK[k] for k in BLANK}
BYTES = [  # as a canvas has them
    kind
    for kind in PHOTOGRAPHS
    if kind not in ("12 bits", "bool", "channels first") and "floats" not in kind
]


@pytest.mark.parametrize("kind", BYTES)
def test_a_photograph(page, kind):
    check_picture(page, np.asarray(PHOTOGRAPHS[kind]()))


def random_photograph(rng):
    """(H, W, 3) uint8 of strokes on ruled paper, in uneven light, with noise."""
    shape = tuple(int(side) for side in rng.integers(60, 330, 2))
    side = min(shape)
    place = 0.1 * side + rng.uniform(0, 0.1 * side, 2)
    signs = [TWO, SEVEN, *(strokes[0] for strokes in STROKES.values())]
    sign = signs[rng.integers(len(signs))]
    ink = drawn(
        sign,
        size=side * rng.uniform(0.4, 0.7),
        width=int(rng.integers(1, max(3, side // 8))),
        shape=shape,
        at=place,
    )
    paper, dark = rng.uniform(120, 255, 3), rng.uniform(0, 255, 3)
    if rng.random() < 0.5:  # grey
        paper, dark = np.full(3, paper[0]), np.full(3, dark[0])
    y, x = np.mgrid[: 1 : 1j * shape[0], : 1 : 1j * shape[1]]
    light = 1 - rng.uniform(0, 0.6) * x - rng.uniform(0, 0.3) * y
    if rng.random() < 0.4:  # a shadow with a soft edge
        light *= 1 - rng.uniform(0.1, 0.5) / (1 + np.exp((x + y - 1) * 50))
    picture = photograph(ink, dark, paper, light, rng.uniform(0, 12), rng)
    if rng.random() < 0.3:  # ruled
        picture[10 :: int(rng.integers(20, 40))] //= 2
    if rng.random() < 0.2:  # a table
        edge = int(rng.integers(1, side // 6))
        picture[:edge] = picture[-edge:] = 50
        picture[:, :edge] = picture[:, -edge:] = 50
    return picture


@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_random_photographs(page, size):
    rng = np.random.default_rng(size)
    for _ in range(8):
        check_picture(page, random_photograph(rng), size)


def test_a_photograph_that_is_reduced(page):
    picture = photograph(
        two(shape=(800, 700), size=500, width=40), (200, 30, 40), (250, 225, 90)
    )
    check_picture(page, picture)


def test_a_sheet_with_transparent_corners(page):
    rng = np.random.default_rng(0)
    picture = rgba(photograph(two(), (40, 30, 60), (235, 230, 220)))
    y, x = np.mgrid[-1:1:300j, -1:1:400j]
    picture[np.hypot(1.3 * y, 1.1 * x) > 1.4] = 0
    check_picture(page, picture)
    picture[..., 3] = rng.integers(0, 256, (300, 400))  # and holes all over
    check_picture(page, picture)
    picture[..., 3] = 150
    check_picture(page, picture)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (5, 5), (400, 7)])
def test_pictures_of_any_shape(page, shape):
    rng = np.random.default_rng(0)
    random = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    for picture in (random, np.eye(*shape, dtype=np.uint8) * np.uint8(255)):
        check_picture(page, picture)
        check_picture(page, np.dstack([rgba(random)[..., :3], rgba(picture)[..., 0]]))


def test_no_other_name_is_left_in_the_page(page):
    names = re.findall(r"^  (?:const|function|class) (\w+)", source(), re.MULTILINE)
    assert len(names) > 40
    left = page.execute_script(
        """
        const empty = document.body.appendChild(document.createElement("iframe"));
        const before = (name) => typeof empty.contentWindow[name];
        return arguments[0].filter((name) => eval("typeof " + name) !== before(name));
        """,
        names,
    )
    assert left == ["prepare"]
