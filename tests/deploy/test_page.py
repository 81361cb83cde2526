"""The page of `export_page`, in a browser: its numbers, and what it lets in and out."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lenet5c
from lenet5c import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    MaxPool2d,
    Model,
    RadialBasis,
    ReLU,
    Residual,
    ScaledTanh,
    Sigmoid,
    Subsampling2d,
    Tanh,
    pictures,
)
from lenet5c.deploy.page import MAX_EXAMPLES
from lenet5c.deploy.steps import steps_of

MINUS = "\N{MINUS SIGN}"
EXACT = 1e-5  # of the largest number of a map: both keep float32
# name: layers, input (C, H, W), rows and columns of the images, classes
NETWORKS: dict[str, tuple[Sequence[Any], Any, Any, int]] = {
    "like LeNet-5": (
        [
            Conv2d(6, 5),
            Tanh(),
            AvgPool2d(2),
            Conv2d(8, 3),
            Tanh(),
            Dense(20),
            Dense(10),
        ],
        (1, 20, 20),
        (16, 16),
        10,
    ),
    "colours, strides, padding": (
        [
            *(Conv2d(5, (3, 2), stride=2, padding=1), LeakyReLU(0.1)),
            *(MaxPool2d(3, 2, padding=1), Conv2d(4, 2), Sigmoid(), Dense(3)),
        ],
        (3, 17, 14),
        (16, 11),
        3,
    ),
    "subsampling": (
        [
            *(Conv2d(4, 3), ScaledTanh(), Subsampling2d(2), ScaledTanh()),
            *(Subsampling2d(3, 1), Dense(4)),
        ],
        (1, 12, 12),
        (12, 12),
        4,
    ),
    "residual, norms": (
        [
            *(Conv2d(4, 3, padding=1), BatchNorm2d(), ReLU()),
            Residual(
                [
                    Conv2d(6, 3, padding=1, stride=2),
                    BatchNorm2d(),
                    ReLU(),
                    Dropout(0.3),
                ],
                [Conv2d(6, 1, stride=2, bias=False)],
            ),
            *(ReLU(), BatchNorm2d(), Tanh(), GlobalAvgPool2d(), Dense(5)),
        ],
        (2, 9, 9),
        (9, 9),
        5,
    ),
    "flattened": (
        [MaxPool2d(2), Flatten(), Conv2d(12, 1), ReLU()],
        (1, 4, 6),
        (4, 6),
        12,
    ),
    "a wide MLP": ([Dense(300), ReLU(), Dense(250)], (1, 14, 14), (14, 14), 250),
}


def network(name: str) -> Model:
    """One of them, with random parameters and statistics."""
    layers, shape, source, classes = NETWORKS[name]
    model = Model(layers, input_shape=shape, classes=classes, seed=5)
    rng = np.random.default_rng(5)
    for values in (*model.parameters.values(), *model.buffers.values()):
        if values.ndim == 1:
            values[:] = rng.uniform(0.2, 0.9, values.shape)
    stage = lenet5c.data.images.InputStage.checked(0.2, 0.3, None, "bytes")
    model.set_input(stage, source, np.arange(classes))
    return model


def images_for(model: Any, count: int = 3) -> Any:
    shape = count, model.input_shape[0], *model.source
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Callable[..., Any]:
    """Open the page of a network; what is returned runs JavaScript in it."""

    def opened(model: Any, **options: Any) -> Any:
        path = tmp_path / "page.html"
        model.export_page(path, **options)
        browser.get(path.as_uri())
        wait(browser, "return lenet5c.state().run !== null")
        return browser

    return opened


def wait(browser: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, 0.01).until(lambda b: b.execute_script(condition))


def settle(browser: Any) -> None:
    """Wait until what was done is on the page: two frames."""
    browser.execute_async_script(
        "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    )


def maps_of(browser: Any, image: Any) -> list[Any]:
    """The input, what each step makes of it, and the probabilities; flat."""
    found = browser.execute_script(
        "lenet5c.compute(Uint8Array.from(arguments[0]));"
        "return lenet5c.state().run.maps.map((map) => Array.from(map))",
        image.ravel().tolist(),
    )
    return [np.array(each) for each in found]


def explained(browser: Any, n: int, k: int) -> dict[str, Any]:
    """The arithmetic of number k of map n; a copy without what the page links to it."""
    found: dict[str, Any] = browser.execute_script(
        "const {layer, ...rest} = lenet5c.explain(...arguments); return rest", n, k
    )
    return found


def some(size: int) -> list[int]:
    """The first, the last and a few between."""
    between = np.random.default_rng(size).integers(0, size, 4).tolist()
    return [0, *between, size - 1]


# ---- Numbers


@pytest.mark.parametrize("name", NETWORKS)
def test_probabilities_and_all_activations_are_pythons(name: str, page: Any) -> None:
    model = network(name)
    browser = page(model)
    folded = model.folded()
    steps = steps_of(folded.layers, folded.input_shape)
    for image in images_for(model):
        _, *maps, probabilities = maps_of(browser, image)
        assert len(maps) == len(steps)
        expected = model.predict_proba(image[np.newaxis])[0]
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=EXACT)
        for step, y in zip(steps, maps, strict=True):
            expected = folded.activations(image[np.newaxis], step.last).ravel()
            most = np.abs(expected).max()
            np.testing.assert_allclose(y, expected, rtol=0, atol=EXACT * most)


@pytest.mark.parametrize("integers", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_arithmetic_gives_the_number_that_it_explains(
    name: str, integers: bool, page: Any
) -> None:
    model = network(name)
    image = images_for(model)[0]
    browser = page(model.quantize(images_for(model)) if integers else model)
    maps = maps_of(browser, image)
    for n, numbers in enumerate(maps):
        most = np.abs(numbers).max()
        for k in some(numbers.size):
            found = explained(browser, n, k)
            if integers and n < len(maps) - 1:
                assert found["value"] == numbers[k]
            assert found["value"] == pytest.approx(numbers[k], abs=EXACT * most)
            check_parts(found, maps)


def check_parts(found: dict[str, Any], maps: list[Any]) -> None:
    """The windows hold numbers of the maps that they name; products and sums fit."""
    parts = found["parts"]
    for part in parts:
        inside = np.array(part["inside"])
        x = np.array(part["x"])
        assert (x[~inside] == 0).all()
        assert set(x[inside]) <= set(maps[part["map"]])
        if "w" in part:
            assert part["products"] == pytest.approx((x * part["w"]).tolist())
            assert part["sum"] == pytest.approx((x * part["w"]).sum())
    if parts and "bias" in found:
        total = sum(part["sum"] for part in parts) + found["bias"]
        assert found["total"] == pytest.approx(total)


@pytest.mark.parametrize(
    "layers", [[Dense(7), Tanh(), RadialBasis(3)], [Conv2d(2, 2), RadialBasis(3)]]
)
def test_the_arithmetic_of_a_distance(layers: Sequence[Any], page: Any) -> None:
    model = Model(layers, input_shape=(1, 4, 4), classes=3)
    browser = page(model)
    image = images_for(model)[0]
    maps = maps_of(browser, image)
    expected = model.forward(image[np.newaxis])[0]
    np.testing.assert_allclose(maps[-2], expected, rtol=1e-5)
    codes = model.buffers["radial_basis_1.codes"]
    for k in range(3):
        found = explained(browser, len(maps) - 2, k)
        assert found["value"] == pytest.approx(expected[k], rel=1e-5)
        x, w, squares = (
            np.concatenate([part[key] for part in found["parts"]])
            for key in ("x", "w", "products")
        )
        np.testing.assert_array_equal(x, maps[-3].astype(np.float32))
        np.testing.assert_array_equal(w, codes[k])
        np.testing.assert_allclose(squares, (x - w) ** 2)
        browser.execute_script(f"lenet5c.open({len(maps) - 2}, {k})")
        settle(browser)
        panel = browser.find_element("css selector", "[aria-label^='The arithmetic']")
        assert f"(x {MINUS} w)²" in panel.text
        assert "the sum of the squared differences" in panel.text


@pytest.mark.parametrize("name", NETWORKS)
def test_integers_are_pythons(name: str, page: Any) -> None:
    model = network(name)
    quantized = model.quantize(images_for(model, 10))
    browser = page(quantized)
    for image in images_for(model):
        _, *maps, probabilities = maps_of(browser, image)
        expected = list(quantized._maps(image[np.newaxis]))
        for y, wanted in zip(maps, expected, strict=True):
            np.testing.assert_array_equal(y, wanted.ravel())
        logits = quantized.scores(image[np.newaxis])[0] * quantized.scale
        shares = np.exp(logits - logits.max())
        np.testing.assert_allclose(probabilities, shares / shares.sum(), atol=EXACT)


@pytest.mark.parametrize(("least", "most"), [(0, 1), (-1, 1), (-0.42, 2.82)])
def test_a_network_of_floats_is_given_floats(
    least: float, most: float, page: Any, images: Any, labels: Any
) -> None:
    floats = (images / 255 * (most - least) + least).astype(np.float32)
    floats[0, 0, :2] = least, most
    model = lenet5c.lenet5()
    model.fit(floats, labels, epochs=1, threads=1)
    browser = page(model)
    image = images_for(model, 1)[0]
    *_, probabilities = maps_of(browser, image)
    given = (image / 255 * (most - least) + least).astype(np.float32)
    expected = model.predict_proba(given[np.newaxis])[0]
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=EXACT)


def test_the_console_says_what_it_expected(page: Any) -> None:
    browser = page(network("colours, strides, padding"))
    for call, message in {
        "forward(new Uint8Array(3))": "image: expected 528 bytes (3 x 16 x 11), got 3",
        "explain(99, 0)": "n: expected 0 to 6, got 99",
        "explain(6, 3)": "k: expected 0 to 2, got 3",
    }.items():
        script = f"try {{ lenet5c.{call} }} catch (error) {{ return error.message }}"
        assert browser.execute_script(script) == message


# ---- The file


def test_lenet5_is_below_600_kilobytes_with_examples(
    tmp_path: Path, images: Any, labels: Any
) -> None:
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=1, threads=1)
    model.export_page(tmp_path / "page.html", examples=(images, labels))
    size = (tmp_path / "page.html").stat().st_size
    assert 300_000 < size < 600_000
    said = re.search(r"61,706 parameters \(a file of (\d+) KB\)", file_text(tmp_path))
    assert said
    assert int(said[1]) == pytest.approx(size / 1000, abs=0.6)


def file_text(folder: Path) -> str:
    return (folder / "page.html").read_text("utf-8")


class Elements(HTMLParser):
    """The names and the attributes of a page's elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))


def policy_of(text: str) -> str:
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert found
    return unescape(found[1])


def test_the_policy_allows_its_own_scripts_and_nothing_else(tmp_path: Path) -> None:
    network("flattened").export_page(tmp_path / "page.html")
    text = file_text(tmp_path)
    policy = dict(part.split(" ", 1) for part in policy_of(text).split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data: blob:"
    assert "unsafe" not in policy_of(text)
    assert set(policy) == {
        *("default-src", "script-src", "style-src", "img-src"),
        *("base-uri", "form-action"),
    }
    given = {name for _, attributes in Elements(text).found for name in attributes}
    assert not [name for name in given if name in ("style", "src") or name[:2] == "on"]
    (data,) = re.findall(r'<script type="application/json" id="network">(.*)<', text)
    assert json.loads(data)["layers"][0]["kind"] == "max_pool"
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert policy["script-src"].split() == [hash_of(script) for script in scripts]
    assert policy["style-src"] == hash_of(style)


def hash_of(text: str) -> str:
    from hashlib import sha256

    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def test_what_does_not_fit_is_refused_and_an_old_file_left(tmp_path: Path) -> None:
    model = network("like LeNet-5")
    path = tmp_path / "page.html"
    path.write_text("old")
    images = images_for(model)
    with pytest.raises(TypeError, match="title: expected a text, got 3"):
        model.export_page(path, title=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"examples: expected .*, got ndarray"):
        model.export_page(path, examples=images)
    with pytest.raises(TypeError, match=r"examples: expected .*, got tuple of 1"):
        model.export_page(path, examples=(images,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels"):
        model.export_page(path, examples=(images, [1, 2]))
    with pytest.raises(ValueError, match="examples: expected"):
        model.quantize(images).export_page(
            path, examples=(images[:, :, :2, :, None], [1])
        )
    model.parameters["dense_2.bias"][0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        model.export_page(path)
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_the_hardest_examples_are_there(page: Any) -> None:
    model = network("like LeNet-5")
    images = images_for(model, 40)
    labels = np.arange(40) % 10
    own = model.predict_proba(images)[np.arange(40), labels]
    hardest = own.argsort(kind="stable")[:MAX_EXAMPLES]
    found = page(model, examples=(images, labels)).execute_script(
        "return lenet5c.network.examples.map(({label, image}) => [label, [...image]])"
    )
    assert [label for label, _ in found] == [str(label) for label in labels[hardest]]
    np.testing.assert_array_equal(
        [image for _, image in found], images[hardest].reshape(MAX_EXAMPLES, -1)
    )


def test_an_example_is_shown_with_its_label(page: Any) -> None:
    model = network("like LeNet-5")
    browser = page(model, examples=(images_for(model, 2), [7, 7]))
    assert browser.find_element("id", "how-sure").text.endswith("%, labelled 7")
    draw(browser, [[(60, 50), (200, 50), (120, 230)]])
    assert browser.find_element("id", "how-sure").text.endswith("%")


def test_the_pointer_takes_over_from_the_keys(page: Any) -> None:
    from selenium.webdriver import ActionChains

    browser = page(network("like LeNet-5"))
    browser.execute_script("document.getElementById('drawing').focus()")
    ActionChains(browser, duration=0).send_keys(" ").perform()
    draw(browser, [[(60, 50), (200, 50)]])
    down = "return document.getElementById('pen').matches('.down:not([hidden])')"
    ActionChains(browser, duration=0).send_keys(" ").perform()
    assert browser.execute_script(down), "the pen was still down, and is lifted now"


def test_an_example_of_floats_or_of_another_size_is_what_the_network_is_given(
    page: Any, images: Any, labels: Any
) -> None:
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=1, threads=1)
    larger = np.pad(images, ((0, 0), (2, 2), (2, 2)))  # as 28 x 28 lie in 32 x 32
    for same in (images / 255, larger):
        browser = page(model, examples=(same[:1], labels[:1]))
        (example,) = browser.execute_script(
            "return lenet5c.network.examples.map(({image}) => [...image])"
        )
        np.testing.assert_array_equal(example, images[0].ravel())


# ---- Text that is not markup

NASTY = [
    "</script><script>document.title = 'broken'</script>",
    "<img src=x onerror=\"document.title = 'broken'\">",
    "\"'&amp;<!--",
    "line\u2028break\u2029 \ud800",
    "]]><svg/onload=document.title='broken'>",
    "漢字の名前",
    "שלום עולם",
    "a" * 300,
    "${1}{{style}}",
    "",
]


@pytest.mark.parametrize("integers", [False, True], ids=["float32", "int8"])
def test_names_are_text(integers: bool, page: Any, browser: Any) -> None:
    model = network("like LeNet-5")
    model.set_input(model.stage, model.source, np.array(NASTY))
    layers = [replaced(layer, f"{NASTY[0]}{n}") for n, layer in enumerate(model.layers)]
    named = Model(layers, input_shape=model.input_shape, seed=5)
    named.set_input(model.stage, model.source, np.array(NASTY))
    images = images_for(model, 10)
    which = named.quantize(images) if integers else named
    page(which, title=NASTY[1] + NASTY[0], examples=(images, np.array(NASTY)))
    for n in range(len(browser.find_elements("css selector", "article"))):
        browser.execute_script("lenet5c.open(arguments[0], 0)", n)
    settle(browser)
    assert browser.title == NASTY[1] + NASTY[0]
    assert browser.find_element("css selector", "h1").text == NASTY[1] + NASTY[0]
    # a driver passes no half of a pair of surrogates on
    names = browser.execute_script(
        "return [...document.querySelectorAll('#bars .name')]"
        ".map((element) => element.textContent.toWellFormed())"
    )
    assert names == [name.replace("\ud800", "\ufffd") for name in NASTY]
    assert len(browser.find_elements("css selector", "script")) == 4
    assert not browser.find_elements("css selector", "img, svg")
    headings = browser.find_elements("css selector", "article h3")
    assert headings[1].text == f"{NASTY[0]}0"


def replaced(layer: Any, name: str) -> Any:
    from dataclasses import replace

    return replace(layer, name=name)


def test_a_files_name_is_text(page: Any, tmp_path: Path) -> None:
    browser = page(network("like LeNet-5"))
    file = tmp_path / "<img src=x onerror=alert(1)>.png"
    file.write_bytes(b"no picture")
    browser.find_element("id", "file").send_keys(str(file))
    wait(browser, "return document.getElementById('trouble').textContent !== ''")
    text = browser.find_element("id", "trouble").text
    assert text == f"{file.name} is no picture that this browser can read."
    assert not browser.find_elements("css selector", "img")


# ---- Nothing leaves the page


def test_no_request_leaves_the_file(page: Any, browser: Any, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    browser.get_log("performance")
    model = network("like LeNet-5")
    page(model, examples=(images_for(model), [1, 2, 3]))
    pillow.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    browser.find_element("id", "file").send_keys(str(tmp_path / "a.png"))
    wait(browser, "return lenet5c.state().items.length === 1")
    browser.find_element("id", "save").click()
    settle(browser)
    sent = [
        json.loads(entry["message"])["message"]
        for entry in browser.get_log("performance")
    ]
    urls = {
        message["params"]["request"]["url"]
        for message in sent
        if message["method"] == "Network.requestWillBeSent"
    }
    page_url = (tmp_path / "page.html").as_uri()
    assert page_url in urls
    assert all(url == page_url or url.startswith(("data:", "blob:")) for url in urls)


def test_its_policy_stops_what_would_leave_it(page: Any) -> None:
    browser = page(network("flattened"))
    browser.execute_script(
        """window.stopped = [];
        document.addEventListener("securitypolicyviolation",
            (event) => stopped.push(event.effectiveDirective));
        const add = (tag, values) =>
            document.body.append(Object.assign(document.createElement(tag), values));
        add("img", {src: "https://example.invalid/a.png"});
        add("script", {textContent: "document.title = 'run'"});
        add("iframe", {src: "https://example.invalid/"});
        fetch("https://example.invalid/").catch(() => 0);
        """
    )
    wait(browser, "return stopped.length === 4")
    stopped = browser.execute_script("return stopped.sort()")
    assert stopped == ["connect-src", "frame-src", "img-src", "script-src-elem"]
    assert browser.title == "A network of 12 classes"


# ---- Drawing, pictures, keys


def draw(browser: Any, strokes: Sequence[Any]) -> None:
    """Draw lines of points (x, y) in pixels of the paper as it is shown, by pointer."""
    from selenium.webdriver import ActionChains

    paper = browser.find_element("id", "drawing")
    corner = browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center'});"
        "const box = arguments[0].getBoundingClientRect(); return [box.left, box.top]",
        paper,
    )
    actions = ActionChains(browser, duration=0)
    pointer = actions.w3c_actions.pointer_action
    for stroke in strokes:
        for at, (x, y) in enumerate(stroke):
            pointer.move_to_location(round(corner[0] + x), round(corner[1] + y))
            if at == 0:
                pointer.pointer_down()
        pointer.pointer_up()
    actions.w3c_actions.perform()
    settle(browser)


def state_of_paper(browser: Any) -> tuple[Any, Any, Any]:
    """The canvas (H, W, 4), the image that the network was given, probabilities."""
    pixels, height, image, probabilities = browser.execute_script(
        """const paper = document.getElementById("drawing");
        const size = [paper.width, paper.height];
        const {data} = paper.getContext("2d").getImageData(0, 0, ...size);
        const letters = Array.from(data, (byte) => String.fromCharCode(byte));
        const {run} = lenet5c.state();
        const numbers = [[...run.image], [...run.probabilities]];
        return [btoa(letters.join("")), paper.height, ...numbers];
        """
    )
    rgba = np.frombuffer(base64.b64decode(pixels), np.uint8)
    return (
        rgba.reshape(height, -1, 4),
        np.array(image, np.uint8),
        np.array(probabilities),
    )


def test_a_drawing_is_prepared_and_classified_as_in_python(
    page: Any, mnist_free: Any
) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("PIL")
    browser = page(mnist_free)
    draw(browser, [[(60, 50), (200, 50), (120, 230)], [(90, 140), (180, 140)]])
    paper, image, probabilities = state_of_paper(browser)
    assert (paper[..., 3] > 0).mean() > 0.03
    expected = pictures.prepare(paper)
    np.testing.assert_array_equal(image.reshape(28, 28), expected)
    wanted = mnist_free.predict_proba(expected[np.newaxis])[0]
    np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=EXACT)
    answer = browser.find_element("id", "answer").text
    assert answer == str(mnist_free.classes[wanted.argmax()])
    said = browser.find_element("id", "said").get_attribute("textContent")
    assert said.startswith(f"{answer}, ")
    bars = browser.execute_script(
        "return [...document.querySelectorAll('#bars .share')]"
        ".map((element) => parseFloat(element.textContent))"
    )
    np.testing.assert_allclose(bars, 100 * wanted, atol=0.051)


def test_a_photograph_is_prepared_as_in_python(
    page: Any, mnist_free: Any, tmp_path: Path
) -> None:
    pytest.importorskip("scipy")
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(2)
    photo = np.linspace(150, 220, 200) + rng.normal(0, 3, (160, 200))  # uneven light
    photo[40:120, 90:104] -= 100
    photo[40:52, 70:104] -= 90
    rgb = np.clip(photo, 0, 255).astype(np.uint8)[..., np.newaxis].repeat(3, axis=2)
    pillow.fromarray(rgb).save(tmp_path / "photo.png")
    browser = page(mnist_free)
    browser.find_element("id", "file").send_keys(str(tmp_path / "photo.png"))
    wait(browser, "return lenet5c.state().run.image.some((byte) => byte)")
    paper, image, _ = state_of_paper(browser)
    np.testing.assert_array_equal(paper[..., :3], rgb)
    np.testing.assert_array_equal(image.reshape(28, 28), pictures.prepare(paper))


@pytest.fixture
def mnist_free(images: Any, labels: Any) -> Model:
    """LeNet-5, trained on what needs no data set."""
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=2, threads=1)
    return model


def test_undo_takes_back_a_stroke_and_clear_all(page: Any, mnist_free: Any) -> None:
    browser = page(mnist_free)
    draw(browser, [[(60, 50), (200, 50)]])
    first, *_ = state_of_paper(browser)
    draw(browser, [[(90, 140), (180, 240)], [(20, 20), (20, 20)]])
    assert (state_of_paper(browser)[0][..., 3] > 0).sum() > (first[..., 3] > 0).sum()
    for _ in range(2):
        browser.find_element("id", "undo").click()
    settle(browser)
    np.testing.assert_array_equal(state_of_paper(browser)[0], first)
    browser.find_element("id", "clear").click()
    settle(browser)
    assert not state_of_paper(browser)[0].any()
    assert browser.find_element("id", "answer").text == "Draw something"
    assert not browser.find_element("id", "clear").is_enabled()


def test_undo_takes_back_a_clear_and_a_change_to_an_example(
    page: Any, images: Any, labels: Any, mnist_free: Any
) -> None:
    browser = page(mnist_free, examples=(images[:2], labels[:2]))
    undo = browser.find_element("id", "undo")
    assert not undo.is_enabled()
    seen = [state_of_paper(browser)[1]]  # the first example
    draw(browser, [[(60, 50), (200, 50)]])
    seen.append(state_of_paper(browser)[1])
    browser.find_elements("css selector", "#examples button")[1].click()
    settle(browser)
    seen.append(state_of_paper(browser)[1])
    browser.find_element("id", "clear").click()
    for image in reversed(seen):
        undo.click()
        settle(browser)
        np.testing.assert_array_equal(state_of_paper(browser)[1], image)
    assert not undo.is_enabled()


def test_the_thickness_is_that_of_the_next_stroke(page: Any, mnist_free: Any) -> None:
    browser = page(mnist_free)
    thick = []
    for value in (8, 40):
        browser.execute_script(
            "document.getElementById('clear').click();"
            "document.getElementById('thickness').value = arguments[0]",
            value,
        )
        draw(browser, [[(40, 140), (240, 140)]])
        middle = state_of_paper(browser)[0][:, 140, 3]
        thick.append((middle / 255).sum())
    assert thick == pytest.approx([8, 40], abs=0.5)


def test_a_finger_draws_and_a_second_one_or_another_button_does_not(
    page: Any, mnist_free: Any
) -> None:
    from selenium.webdriver import ActionChains

    browser = page(mnist_free)
    paper = browser.find_element("id", "drawing")
    ActionChains(browser, duration=0).context_click(paper).perform()
    settle(browser)
    assert browser.execute_script("return lenet5c.state().items.length") == 0
    left, top, side = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "return [box.left, box.top, box.width]",
        paper,
    )

    def touch(kind: str, *fingers: tuple[int, float, float]) -> None:
        """Fingers: a number, and shares of the paper's sides."""
        points = [
            {"x": left + side * x, "y": top + side * y, "id": n} for n, x, y in fingers
        ]
        event = {"type": kind, "touchPoints": points}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    touch("touchStart", (0, 0.25, 0.5))
    touch("touchStart", (0, 0.25, 0.5), (1, 0.7, 0.7))
    for y in np.linspace(0.5, 0.25, 8):  # would scroll, if the page were let
        touch("touchMove", (0, 0.25, float(y)), (1, 0.7, 0.4))
    touch("touchEnd")
    settle(browser)
    (stroke,) = browser.execute_script("return lenet5c.state().items")
    np.testing.assert_allclose(stroke["points"][0], [0.25, 0.5], atol=0.01)
    np.testing.assert_allclose(stroke["points"][-1], [0.25, 0.25], atol=0.01)
    assert browser.execute_script("return lenet5c.state().blank") is False


def picture(size: tuple[int, int] = (40, 30)) -> Any:
    """A soft picture in colours, (H, W, 3), which any resampling leaves as it is."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return (255 * np.stack([x, y, 1 - x], axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
@pytest.mark.parametrize("name", ["like LeNet-5", "colours, strides, padding"])
def test_a_picture_is_fitted_in_as_it_is(
    name: str, way: str, page: Any, tmp_path: Path
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    model = network(name)
    browser = page(model)
    pillow.fromarray(picture()).save(tmp_path / "a.png")
    if name == "like LeNet-5":
        browser.find_element("id", "as-it-is").click()
    else:
        assert not browser.find_element("id", "as-it-is").is_displayed()
    if way == "choose":
        browser.find_element("id", "file").send_keys(str(tmp_path / "a.png"))
    else:
        browser.execute_script(
            """const letters = atob(arguments[0]);
            const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "a.png", {type: "image/png"}));
            const options = {bubbles: true, cancelable: true};
            document.dispatchEvent(arguments[1] === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: transfer})
                : new ClipboardEvent("paste", {...options, clipboardData: transfer}));
            """,
            base64.b64encode((tmp_path / "a.png").read_bytes()).decode(),
            way,
        )
    wait(browser, "return lenet5c.state().items.length === 1")
    settle(browser)
    _, image, _ = state_of_paper(browser)
    rows, columns = model.source
    channels = model.input_shape[0]
    read = pictures.read_picture(tmp_path / "a.png", model.source, channels)
    expected = np.zeros((channels, rows, columns), np.uint8)
    top, left = (rows - read.shape[1]) // 2, (columns - read.shape[2]) // 2
    expected[:, top : top + read.shape[1], left : left + read.shape[2]] = read
    difference = np.abs(image.reshape(expected.shape) - expected.astype(int))
    assert difference.max() <= 12


def test_what_is_transparent_becomes_paper(page: Any, tmp_path: Path) -> None:
    """White, or black where light ink is on it: as `read_picture` says."""
    pillow = pytest.importorskip("PIL.Image")
    model = network("like LeNet-5")
    browser = page(model)
    browser.find_element("id", "as-it-is").click()
    for ink, paper in ((30, 255), (230, 0)):
        drawn = np.zeros((32, 32, 4), np.uint8)
        drawn[8:24, 12:20] = ink, ink, ink, 255
        pillow.fromarray(drawn).save(tmp_path / f"{ink}.png")
        browser.find_element("id", "file").send_keys(str(tmp_path / f"{ink}.png"))
        wait(browser, "return lenet5c.state().run.image[8 * 16 + 8] === " + str(ink))
        image = state_of_paper(browser)[1].reshape(16, 16)
        read = pictures.read_picture(tmp_path / f"{ink}.png", (16, 16), 1)[0]
        assert image[0, 0] == read[0, 0] == paper
        assert image[8, 8] == ink == pytest.approx(read[8, 8].astype(int), abs=12)


def test_a_drawing_is_prepared_though_pictures_are_not(
    page: Any, mnist_free: Any
) -> None:
    browser = page(mnist_free)
    draw(browser, [[(60, 50), (200, 50), (100, 230)]])
    prepared = state_of_paper(browser)[1]
    browser.find_element("id", "as-it-is").click()
    settle(browser)
    np.testing.assert_array_equal(state_of_paper(browser)[1], prepared)


def test_a_large_picture_is_reduced(page: Any, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    browser = page(network("colours, strides, padding"))
    pillow.fromarray(picture((1600, 400))).save(tmp_path / "a.png")
    browser.find_element("id", "file").send_keys(str(tmp_path / "a.png"))
    wait(browser, "return document.getElementById('drawing').width !== 280")
    assert state_of_paper(browser)[0].shape == (250, 1000, 4)


def test_all_can_be_done_with_keys_alone(
    page: Any, mnist_free: Any, images: Any, labels: Any
) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser = page(mnist_free, examples=(images[:2], labels[:2]))
    # something to undo
    browser.execute_script("document.querySelectorAll('#examples button')[1].click()")
    settle(browser)

    def press(*keys: str) -> None:
        ActionChains(browser, duration=0).send_keys(*keys).perform()
        settle(browser)

    reached = []
    for _ in range(40):
        press(Keys.TAB)
        name, ringed = browser.execute_script(
            """const at = document.activeElement;
            return [at.id || at.className || at.getAttribute("aria-label"),
                getComputedStyle(at).outlineStyle];"""
        )
        if name in reached and name != "maps":
            break
        reached.append(name)
        assert name is None or ringed == "solid", f"the focus on {name} cannot be seen"
    for control in (
        "drawing",
        "undo",
        "clear",
        "thickness",
        "save",
        "choose",
        "as-it-is",
    ):
        assert control in reached, control
    assert sum("Example" in str(name) for name in reached) == 2
    # the input, seven layers with their activations, the probabilities
    assert reached.count("maps") == 9

    browser.execute_script("document.getElementById('drawing').focus()")
    press(" ", *[Keys.ARROW_DOWN] * 11, " ")
    paper, image, probabilities = state_of_paper(browser)
    assert (paper[..., 3] > 0).any(axis=1).sum() > 150  # rows, with the round ends
    assert (
        probabilities.argmax()
        == mnist_free.predict_proba(image.reshape(1, 28, 28)).argmax()
    )

    browser.execute_script("document.querySelectorAll('.maps')[1].focus()")
    press(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.PAGE_DOWN, Keys.ENTER)
    opened = browser.execute_script("return lenet5c.state().opened")
    assert opened == {"n": 1, "k": 28 * 28 + 28 + 1}
    said = browser.find_element("id", "said").get_attribute("textContent")
    assert said.startswith("C1, map 2 of 6, row 2, column 2: ")
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)  # over the edge to the map before
    said = browser.find_element("id", "said").get_attribute("textContent")
    assert said.startswith("map 1 of 6, row 2, column 28: ")
    press(Keys.ESCAPE)
    assert browser.execute_script("return lenet5c.state().opened") is None
    assert not browser.find_elements("css selector", ".arithmetic")


def test_a_click_shows_the_arithmetic_of_that_number(page: Any) -> None:
    from selenium.webdriver import ActionChains

    model = network("like LeNet-5")
    browser = page(model, examples=(images_for(model, 1), [0]))
    canvas = browser.find_elements("css selector", ".maps")[1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    box = canvas.rect
    # the maps of 16 x 16 numbers have cells of 5 pixels, 6 between them, 2 around all
    x, y = 2 + (80 + 6) * 1 + 5 * 3 + 2, 2 + 5 * 4 + 2
    move = x - box["width"] / 2, y - box["height"] / 2
    actions = ActionChains(browser, duration=0)
    actions.move_to_element_with_offset(
        canvas, *(round(each) for each in move)
    ).click().perform()
    settle(browser)
    assert browser.execute_script("return lenet5c.state().opened") == {
        "n": 1,
        "k": 256 + 4 * 16 + 3,
    }
    value = model.activations(images_for(model, 1), "tanh_1")[0, 1, 4, 3]
    panel = browser.find_element("css selector", ".arithmetic")
    shown = re.findall(r"= (\S+)$", panel.text.replace(MINUS, "-"), re.M)
    assert float(shown[1]) == pytest.approx(value, abs=1e-4)  # after the sum
    cells = panel.find_elements("css selector", "table")
    assert [len(table.find_elements("css selector", "td")) for table in cells] == [
        25
    ] * 3
    panel.find_element("css selector", ".close").click()
    assert not browser.find_elements("css selector", ".arithmetic")


@pytest.mark.parametrize("integers", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_arithmetic_of_every_layer_is_written_out(
    name: str, integers: bool, page: Any
) -> None:
    model = network(name)
    images = images_for(model)
    which = model.quantize(images) if integers else model
    browser = page(which, examples=(images, [0, 1, 2]))
    texts = browser.execute_script(
        """return lenet5c.network.layers.map((_, n) => {
            const last = lenet5c.state().run.maps[n].length - 1;
            lenet5c.open(n, last);
            return document.querySelector(".arithmetic").textContent;
        });"""
    )
    for text in texts:
        assert not re.search("undefined|NaN|null|object", text), text


@pytest.mark.parametrize("name", NETWORKS)
def test_the_numbers_shown_add_up(name: str, page: Any) -> None:
    """Lines of sums and columns of products, to the last digit but for rounding."""
    model = network(name)
    for values in model.parameters.values():
        values *= 7  # numbers of different length
    browser = page(model, examples=(images_for(model), [0, 1, 2]))
    found = browser.execute_script(
        """return lenet5c.network.layers.flatMap((layer, n) =>
            [5, 17, 30].flatMap((k) => {
                const size = lenet5c.state().run.maps[n].length;
                if (layer.kind === "scale" || k >= size) return [];
                lenet5c.open(n, k);
                const panel = document.querySelector(".arithmetic");
                const all = panel.querySelectorAll("p.line, .terms tbody");
                return Array.from(all, (each) => each.matches("p")
                    ? each.textContent.split("=")
                    : [Array.from(each.rows, (row) => row.lastChild.textContent)
                        .slice(0, -1).join(" + "),
                      each.rows[each.rows.length - 1]?.lastChild.textContent]);
            }));"""
    )
    sums = 0
    for line in filter(lambda line: len(line) > 1, found):
        left, right = (part.replace(MINUS, "-").strip(" ()") for part in line[-2:])
        left = re.sub(" of the other .*", "", left)
        terms = [term.strip(" ()") for term in left.split(" + ")]
        number = r"-?\d+(\.\d+)?"
        if len(terms) < 2 or not all(re.fullmatch(number, term) for term in terms):
            continue
        sums += 1
        unit = 10.0 ** -len(right.partition(".")[2])
        allowed = 0.501 * unit * (len(terms) + 1)
        assert sum(map(float, terms)) == pytest.approx(float(right), abs=allowed), line
    assert sums


def test_a_probability_is_shown_as_the_share_that_it_is(page: Any) -> None:
    model = network("like LeNet-5")
    image = images_for(model, 1)
    browser = page(model, examples=(image, [0]))
    logits = model.forward(image)[0].astype(float)
    for k in range(10):
        browser.execute_script(
            "lenet5c.open(lenet5c.network.layers.length - 1, $)".replace("$", str(k))
        )
        lines = browser.find_elements("css selector", ".arithmetic .line")
        texts = [line.text.replace(MINUS, "-") for line in lines]
        power = np.exp(logits[k] - logits.max())
        assert re.fullmatch(r"exp\(-?[\d.]+ - (\(-)?[\d.]+\)?\) = (\S+)", texts[0])
        assert float(texts[0].split("= ")[1]) == pytest.approx(power, rel=1e-2)
        shown, total, share = re.split(" [/=] ", texts[1])
        assert float(shown) / float(total) == pytest.approx(float(share), rel=1e-2)
        assert float(total) == pytest.approx(
            np.exp(logits - logits.max()).sum(), rel=1e-2
        )


def test_a_rescaled_number_is_shown_as_a_rounded_product(page: Any) -> None:
    model = network("like LeNet-5")
    images = images_for(model)
    browser = page(model.quantize(images), examples=(images, [0, 1, 2]))
    for k in (3, 40, 500):
        browser.execute_script("lenet5c.open(1, arguments[0])", k)
        panel = browser.find_element("css selector", ".arithmetic")
        found = re.search(
            r"^(\S+) · (\S+), rounded: .* = (\S+)$",
            panel.text.replace(MINUS, "-"),
            re.MULTILINE,
        )
        assert found
        total, unit, rounded = map(float, found.groups())
        assert total * unit == pytest.approx(rounded, abs=0.5 + 2e-3 * abs(rounded))


def test_of_many_classes_the_first_ten_are_shown_and_the_rest_on_demand(
    page: Any,
) -> None:
    model = network("a wide MLP")
    images = images_for(model, 1)
    browser = page(model, examples=(images, [3]))

    def names() -> list[str]:
        found = browser.find_elements("css selector", "#bars .name")
        return [element.text for element in found]

    order = np.argsort(-model.predict_proba(images)[0], kind="stable")
    assert names() == [str(number) for number in order[:10]]
    button = browser.find_element("id", "all-classes")
    assert button.text == "All 250 classes"
    button.click()
    assert names() == [str(number) for number in order]


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_wider_than_the_screen(name: str, width: int, page: Any) -> None:
    model = network(name)
    classes = np.array(["漢字" * 40 + str(n) for n in range(model.class_count)])
    model.set_input(model.stage, model.source, classes)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser = page(model, examples=(images_for(model), classes[:3]), title="long" * 50)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for n in range(len(browser.find_elements("css selector", "article"))):
            browser.execute_script("lenet5c.open(arguments[0], 0)", n)
            settle(browser)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, n
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_colours_are_those_of_the_theme(page: Any) -> None:
    model = network("like LeNet-5")
    browser = page(model, examples=(images_for(model, 1), [0]))
    seen = []
    try:
        for theme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": features}
            )
            settle(browser)
            seen.append(
                browser.execute_script(
                    """const maps = document.querySelector(".maps");
                    const {backgroundColor} = getComputedStyle(document.body);
                    return [maps.toDataURL(), backgroundColor]"""
                )
            )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen[0][0] != seen[1][0]
    assert [background for _, background in seen] == [
        "rgb(255, 255, 255)",
        "rgb(23, 25, 28)",
    ]


# ---- MNIST


def strokes_of(image: Any) -> Iterator[list[tuple[float, float]]]:
    """A digit's skeleton as strokes, points (row, column), each as long as it goes."""
    from skimage.morphology import skeletonize

    left = {tuple(point) for point in np.argwhere(skeletonize(image > 100)).tolist()}
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    around.sort(key=lambda step: abs(step[0]) + abs(step[1]))  # straight on first
    full = set(left)

    def near(point: Any, among: Any) -> list[Any]:
        found = ((point[0] + i, point[1] + j) for i, j in around)
        return [each for each in found if each in among]

    while left:
        # begin at an end, if there is one
        point = min(left, key=lambda each: (len(near(each, left)), each))
        joined = [each for each in near(point, full) if each not in left]
        stroke = [*joined[:1], point]  # where another stroke went by
        left.remove(point)
        while following := near(point, left):
            point = following[0]
            left.remove(point)
            stroke.append(point)
        stroke += near(point, full - set(stroke))[:1]
        yield stroke


def smooth(stroke: Any) -> Any:
    """The points that a hand would need to follow it within half a pixel."""
    from skimage.measure import approximate_polygon

    return approximate_polygon(np.array(stroke, float), 0.5)


def test_drawn_mnist_digits_are_recognised(
    page: Any, mnist: Any, mnist_model: Any
) -> None:
    """A hundred test images, drawn stroke by stroke along their skeletons."""
    pytest.importorskip("skimage")
    pytest.importorskip("scipy")
    browser = page(mnist_model)
    right = 0
    scale = 280 / 28
    for number in range(100):
        strokes = [
            [
                ((column + 0.5) * scale, (row + 0.5) * scale)
                for row, column in smooth(stroke)
            ]
            for stroke in strokes_of(mnist.test.images[number])
        ]
        browser.execute_script("document.getElementById('clear').click()")
        draw(browser, strokes)
        paper, image, probabilities = state_of_paper(browser)
        expected = pictures.prepare(paper)
        np.testing.assert_array_equal(image.reshape(28, 28), expected)
        wanted = mnist_model.predict_proba(expected[np.newaxis])[0]
        np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=EXACT)
        answer = browser.find_element("id", "answer").text
        assert answer == str(wanted.argmax())
        right += answer == str(mnist.test.labels[number])
    print(f"{right} of 100 right")
    assert right >= 90
