"""Make the pictures of the README, in docs/pictures/: each for light and dark pages.

    python docs/pictures.py training      a training on a terminal, midway
    python docs/pictures.py page FILE     a page of `export_page`, with a digit drawn

Needs Chromium and chromedriver, selenium, rich and scikit-learn (for the images). The
numbers are those of this machine, which should have nothing else to do.
"""

import io
import math
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "pictures"
MODES = ("light", "dark")
COLUMNS = 82
TRAIN = ["train", "--epochs", "10", "--validation", "0.1"]
EPOCHS_SHOWN = 7
THREE = [  # a stroke of two arcs, in shares of the canvas
    (0.46 + wide * math.cos(angle), middle + high * math.sin(angle))
    for middle, wide, high, start, stop in (
        *((0.31, 0.18, 0.15, -2.8, 1.5), (0.65, 0.21, 0.19, -1.5, 2.6)),
    )
    for angle in (start + (stop - start) * step / 12 for step in range(13))
]


def training() -> None:
    """Write training-light.png and training-dark.png."""
    from rich.console import Console
    from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), " ".join(["lenet5c", *TRAIN])))
    for line in _while_it_runs([sys.executable, "-m", "lenet5c", *TRAIN]):
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    console.print()
    themes = DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
    for mode, theme in zip(MODES, themes, strict=True):
        svg = console.export_svg(title="lenet5c", theme=theme, clear=False)
        svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S)  # are on a network
        svg = svg.replace("rgba(255,255,255,0.35)", "#888888")  # a frame on white too
        with _browser(mode) as browser:
            browser.get("data:text/html,<meta name=color-scheme content='light dark'>")
            browser.execute_script("document.body.innerHTML = arguments[0]", svg)
            drawn = browser.find_element("css selector", "svg")
            _write(f"training-{mode}.png", drawn.screenshot_as_png)


def _while_it_runs(command: list[str]) -> list[str]:
    """The lines on a terminal after some epochs of a training, with their colours."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    written = b""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=theirs, stderr=theirs
        ),
    ):
        os.close(theirs)
        while True:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:  # Linux' end of file
                break
    os.close(ours)
    text = written.decode().replace("\r\n", "\n")
    # up to the bar below the line of that epoch; what precedes a \r is written over
    shown = re.match(rf".*?epoch +{EPOCHS_SHOWN}/\d+  loss [^\n]*\n[^\r]*", text, re.S)
    if shown is None:
        sys.exit(f"expected a training on a terminal, got {text!r:.500}")
    return [line.rsplit("\r", 1)[-1] for line in shown[0].split("\n")]


def page(file: Path) -> None:
    """Write page-light.png and page-dark.png: the page, once a 3 is drawn on it."""
    from selenium.webdriver import ActionChains

    for mode in MODES:
        with _browser(mode) as browser:
            browser.get(file.resolve().as_uri())
            place = browser.find_element("id", "drawing")
            wide, high = place.size["width"], place.size["height"]
            # offsets are from the middle of the element
            points = [
                (round((x - 0.5) * wide), round((y - 0.5) * high)) for x, y in THREE
            ]
            pen = ActionChains(browser, duration=20)
            pen.move_to_element_with_offset(place, *points[0]).click_and_hold()
            for point in points[1:]:
                pen.move_to_element_with_offset(place, *point)
            pen.release().pause(1).perform()
            _write(f"page-{mode}.png", browser.get_screenshot_as_png())


@contextmanager
def _browser(mode: str) -> Iterator[Any]:
    """Chromium without a window, for a light or a dark page, on a sharp screen."""
    import shutil

    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        "--force-device-scale-factor=1.25",
        "--window-size=1200,1130",
    ):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options, service)
    media = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        yield browser
    finally:
        browser.quit()


def _write(name: str, png: bytes) -> None:
    """With 256 colours, which is half the size; octrees keep the rare ones."""
    from PIL import Image

    FOLDER.mkdir(exist_ok=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.FASTOCTREE)
    picture.save(FOLDER / name, optimize=True)
    print(FOLDER / name, f"{(FOLDER / name).stat().st_size:,} bytes", picture.size)


if __name__ == "__main__":
    if sys.argv[1:] == ["training"]:
        training()
    elif len(sys.argv) == 3 and sys.argv[1] == "page":
        page(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
