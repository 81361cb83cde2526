"""What all pictures are drawn with: figures, colours, fonts, and how they become files.

pyplot is not used: no window opens, no figure stays in memory, and no setting changes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lenet5c._support.checks import as_array
from lenet5c.files.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Layout = Literal["constrained", "compressed"] | None

PathLike = str | os.PathLike[str] | None

# Okabe and Ito 2008: colour-blind people see them apart.
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY = "#e69f00", "#56b4e9", "#767676"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
ON_LIGHT, ON_DARK = "#010101", "#fefefe"  # on a coloured field, in any theme
DOTS_PER_INCH = 144
"""Of the pictures that are written to files."""
PIXELS_PER_INCH = 96  # of a page; PNG files have more, for sharp screens and paper
PHONE = 368  # pixels between the margins of a page of 400
WHOLE_SCALE, LEAST_SCALE = 0.6, 0.8  # of a picture that a phone shows whole, and else
LONGEST_NAME = 20  # characters of a class name

# Of pictures made of images, in inches.
MARGIN = 0.15
LINE = 0.19  # from one line of text to the next
SMALL, NORMAL = 8, 9.5  # points

# What the colours of a picture are called in the style of a page, which has a light and
# a dark one of each.
THEME = {
    "#000000": "ink",
    "#ffffff": "paper",
    GREY: "soft",
    **{colour: f"series-{k}" for k, colour in enumerate(SERIES, 1)},
}


def require_matplotlib() -> None:
    """Raise an ImportError that says what to do, if matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'lenet5c[plots]'"
        ) from error


def printable(text: object) -> str:
    """The text on one line, without characters that print nothing or turn others.

    Parameters
    ----------
    text : object

    Returns
    -------
    str
    """
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def new_figure(width: float, height: float, layout: Layout = "constrained") -> Figure:
    """An empty figure, in inches."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout=layout)
    # Notebooks know how to show the figures of pyplot alone.
    figure._repr_png_ = partial(_shown_in_notebook, figure)  # type: ignore[attr-defined]
    return figure


def _shown_in_notebook(figure: Figure) -> tuple[bytes, dict[str, int]]:
    """The figure as a PNG file, and how wide it is on a page."""
    return png(figure), {"width": round(figure.get_figwidth() * PIXELS_PER_INCH)}


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are inches, from the upper left corner."""
    figure = new_figure(width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    axes.set_autoscale_on(False)
    return figure, axes


def put(
    axes: Axes, image: NDArray[Any], x: float, y: float, side: float, **options: Any
) -> None:
    """Draw an image (H, W) or (H, W, 3) of `canvas`, in the middle of a square."""
    high, wide = image.shape[:2]
    longest = max(high, wide)
    width, height = side * wide / longest, side * high / longest
    left, top = x + (side - width) / 2, y + (side - height) / 2
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(
        image,
        extent=(left, left + width, top + height, top),
        interpolation="none",
        aspect="auto",
        **(options or {"cmap": "gray", "vmin": 0, "vmax": 1}),
    )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def plain_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)


def as_batch(images: ArrayLike) -> NDArray[Any]:
    """Images as (N, C, H, W)."""
    pixels = as_array("images", images)
    if pixels.ndim == 3:
        pixels = pixels[:, np.newaxis]
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(
            "images: expected (N, H, W) or (N, C, H, W), at least one, "
            f"got the shape {pixels.shape}"
        )
    return pixels


def scale_of(pixels: NDArray[Any]) -> tuple[float, float]:
    """Which values are black and white: 0 and 1, and more if the pixels need it."""
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def shown(
    image: NDArray[Any], scale: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """An image (C, H, W) as (H, W), or (H, W, 3) for three channels, from 0 to 1."""
    pixels = image / 255 if image.dtype == np.uint8 else image.astype(np.float64)
    low, high = scale or scale_of(pixels)
    pixels = np.clip((pixels - low) / (high - low), 0, 1)
    if len(pixels) == 3:
        return pixels.transpose(1, 2, 0)
    mean: NDArray[np.float64] = pixels.mean(axis=0)
    return mean


def percent(share: float) -> str:
    """A probability in at most six characters."""
    if share < 0.0001:
        return "<0.01%"
    return f"{share:.1%}" if share >= 0.01 else f"{share:.2%}"


def small(value: float) -> str:
    return f"{value:.2g}" if abs(value) >= 0.005 else "0"


def short(name: object, longest: int = LONGEST_NAME) -> str:
    """A name for a picture: on one line, its middle left out if it is long, with a mark
    for what no font can draw.

    `longest` is at least 3.
    """
    text = printable(name)
    if len(text) > longest:
        end = longest // 3
        text = f"{text[: longest - end - 1]}…{text[-end:]}"
    text = "".join(c if drawable(c) else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text.replace("$", r"\$")  # no formula, whatever is in between


def fitting(
    name: object,
    room: float,
    size: float,
    bold: bool = False,
    longest: int = LONGEST_NAME,
) -> str:
    """A name for a picture, as much of it as fits into so many inches."""
    longest = min(longest, len(printable(name)))
    while longest > 3:
        text = short(name, longest)
        width = text_width(text, size, bold)
        if width <= room:
            return text
        longest = min(longest - 1, int(longest * room / width))
    return short(name, 3)


def text_width(text: str, size: float, bold: bool = False) -> float:
    """In inches."""
    if not text:
        return 0.0
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family=families(text), weight="bold" if bold else "normal")
    path = TextPath((0, 0), text, size, font)
    return float(path.vertices[:, 0].max(initial=0)) / 72


def drawable(text: str) -> bool:
    """Whether the installed fonts have all of its characters."""
    return all(_has(_usual_font(), c) or _family_with(c) for c in text)


def families(*texts: str) -> list[str]:
    """Names of fonts that have the texts' characters: the usual one, and for what it
    lacks, as Chinese is, the first installed one that has it."""
    from matplotlib.font_manager import FontProperties

    usual = FontProperties().get_family()
    lacking = {c for text in texts for c in text if not _has(_usual_font(), c)}
    more = [family for c in sorted(lacking) if (family := _family_with(c))]
    return list(dict.fromkeys([*usual, *more]))


def labels_of(classes: Sequence[Any]) -> list[str]:
    """Names of classes for pictures: numbers where no font could draw a name."""
    names = [printable(name) for name in classes]
    return [n if drawable(n) else numbered(k) for k, n in enumerate(names)]


def numbered(code: int) -> str:
    """What stands for the class of this code where its name cannot be drawn."""
    return f"no. {code}"


@cache
def _usual_font() -> str:
    from matplotlib.font_manager import FontProperties, findfont

    return str(findfont(FontProperties()))


@cache
def _family_with(character: str) -> str | None:
    """The family of an installed font that has the character."""
    from matplotlib.font_manager import fontManager, get_font

    for path in _installed_fonts():
        if _has(path, character):
            family = str(get_font(path).family_name)
            if not any(entry.name == family for entry in fontManager.ttflist):
                _add_family(family)
            return family
    return None


def _add_family(family: str) -> None:
    """Tell matplotlib of fonts that were installed after it made its list."""
    from matplotlib.font_manager import fontManager, get_font

    for path in _installed_fonts():
        with suppress(OSError, RuntimeError):  # of pictures, or damaged
            if get_font(path).family_name == family:
                fontManager.addfont(path)


@cache
def _installed_fonts() -> list[str]:
    """Files of fonts; first those that look like the usual one."""
    from matplotlib.font_manager import findSystemFonts

    def rank(path: str) -> tuple[bool, ...]:
        name = Path(path).name.lower()
        return *(word not in name for word in ("sans", "regular")), "mono" in name

    return sorted(findSystemFonts(), key=lambda path: (rank(path), path))


@cache
def _has(path: str, character: str) -> bool:
    from matplotlib.font_manager import get_font

    try:
        return get_font(path).get_char_index(ord(character)) > 0
    except (OSError, RuntimeError):  # of pictures, or damaged
        return False


def written(figure: Figure, path: PathLike) -> Figure:
    """The figure, once it is in the file, if there is to be one."""
    if path is not None:
        kind = Path(path).suffix[1:].lower() or "png"
        write_atomically(path, [rendered(figure, kind)])
    return figure


def rendered(figure: Figure, kind: str) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind)
    return stream.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as a PNG file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    bytes
    """
    return rendered(figure, "png")


def inline_svg(figure: Figure, name: str, text: str) -> str:
    """The figure as an element of a page, in the colours of the page's theme.

    Parameters
    ----------
    figure : Figure
    name : str
        Letters and underscores; what the identifiers in it begin with, so that several
        pictures of a page do not mix theirs.
    text : str
        For those who cannot see it.

    Returns
    -------
    str
        Text stays text, in the page's font. Colours of `THEME` are variables of CSS.
    """
    import matplotlib

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # the same picture, the same identifiers
        "image.composite_image": False,  # each in its own pixels
    }
    stream = io.BytesIO()
    with matplotlib.rc_context(settings):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    content = stream.getvalue().decode()
    content = content[content.index("<svg") :]
    for part in ("metadata", "style"):
        content = re.sub(rf"<{part}\b.*?</{part}>", "", content, count=1, flags=re.S)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', content))

    def themed(match: re.Match[str]) -> str:
        return f"{match[1]}var(--{THEME[match[2].lower()]})"

    def kept(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    def page_tag(match: re.Match[str]) -> str:
        """Within a tag alone: what is between tags may be a name of the user's."""
        tag = re.sub(r' id="([^"]*)"', kept, match[0])
        tag = re.sub(r'(url\(#|href="#)', rf"\1{name}-", tag)
        tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
        return re.sub(f"((?:fill|stroke): )({'|'.join(THEME)})", themed, tag)

    content = re.sub(r"<[^>]*>", page_tag, content)
    width, height = (round(PIXELS_PER_INCH * x) for x in figure.get_size_inches())
    fits = WHOLE_SCALE * width <= PHONE
    least = round(width * (WHOLE_SCALE if fits else LEAST_SCALE))
    start = (
        f'<svg class="plot" role="img" aria-label="{escape(text)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width * 0.75:g} {height * 0.75:g}" '
        f'style="--least: {least}px">'
    )
    return re.sub(r"^<svg[^>]*>", lambda _: start, content).strip()


def svg_in_any_page(figure: Figure, name: str, text: str) -> str:
    """`inline_svg` for a page whose style is not ours, which may be light or dark: in
    the page's own colour, and the lines in the middle colours that they have in files.
    """
    colours = {name: colour for colour, name in THEME.items()}
    colours |= {"ink": "currentColor", "paper": "transparent"}
    style = "".join(f"--{name}:{colour};" for name, colour in colours.items())
    svg = inline_svg(figure, name, text)
    return f'<div style="{style}fill:currentColor">{svg}</div>'
