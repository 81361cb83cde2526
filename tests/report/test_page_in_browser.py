"""The page in a browser: tables sort and filter, nothing is cut off, no error."""

import numpy as np
import pytest

import lenet5c
from lenet5c.report.html import Section, page_of, table
from lenet5c.report.page import write_report

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

CLASSES = np.array(["<b>zero</b>", "class 10", "class 9", "二", *"456789"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    data = lenet5c.datasets.digits()
    model = lenet5c.lenet5()
    model.fit(data.train.images, CLASSES[data.train.labels], epochs=1, threads=1)
    files = [f"a folder/{k}.png" for k in range(len(data.test.images))]
    folder = tmp_path_factory.mktemp("page")
    path = folder / "page.html"
    labels = CLASSES[data.test.labels]
    return write_report(model, data.test.images, labels, path, files=files)


@pytest.fixture
def opened(browser, page):
    browser.get_log("browser")  # what other pages said
    browser.get(page.as_uri())
    return browser


def column(browser, table, k):
    """The texts of a column of the table with this heading above, as they are shown."""
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0] + ' table:last-of-type "
        "tbody tr')].filter((row) => row.checkVisibility())"
        ".map((row) => row.cells[arguments[1]].textContent)",
        *(table, k),
    )


def heads(browser, section):
    return browser.find_elements("css selector", f"{section} th button")


def test_a_heading_sorts_its_column_both_ways(opened):
    names = column(opened, "#classes", 0)
    recall = [float(text[:-1]) for text in column(opened, "#classes", 2)]
    heads(opened, "#classes")[2].click()
    assert [float(t[:-1]) for t in column(opened, "#classes", 2)] == sorted(recall)
    heads(opened, "#classes")[2].click()
    found = [float(t[:-1]) for t in column(opened, "#classes", 2)]
    assert found == sorted(recall, reverse=True) != sorted(recall)
    heads(opened, "#classes")[0].click()
    found = column(opened, "#classes", 0)
    assert found.index("class 9") < found.index("class 10")  # as numbers are read
    assert sorted(found) == sorted(names)
    last = opened.find_elements("css selector", "#classes tfoot td")[0]
    assert last.text == "mean of the classes"


def test_what_is_no_number_is_last_both_ways(browser, tmp_path):
    numbers = ["5.00%", "\N{EN DASH}", "1,000.00%", "-2.50%", "+30.00%"]
    shown = table("", ["number"], [[text] for text in numbers], texts=())
    page = tmp_path / "page.html"
    page.write_text(page_of("", {}, [Section("one", "", [shown])]), "utf-8")
    browser.get(page.as_uri())
    rising = ["-2.50%", "5.00%", "+30.00%", "1,000.00%"]
    for expected in (rising, rising[::-1]):
        heads(browser, "#one")[0].click()
        assert column(browser, "#one", 0) == [*expected, "\N{EN DASH}"]


def test_the_keyboard_sorts_and_what_is_sorted_is_said(opened):
    from selenium.webdriver.common.keys import Keys

    button = heads(opened, "#mistakes")[4]
    button.send_keys(Keys.ENTER)
    cells = opened.find_elements("css selector", "#mistakes th")
    said = [cell.get_attribute("aria-sort") for cell in cells]
    assert said == [None, None, None, None, "ascending", None]
    numbers = [int(text) for text in column(opened, "#mistakes", 4)]
    assert numbers == sorted(numbers)
    button.send_keys(Keys.SPACE)
    assert cells[4].get_attribute("aria-sort") == "descending"


def test_rows_are_filtered_by_what_is_typed(opened):
    label = opened.find_element("css selector", "#classes .filter")
    label.find_element("css selector", "input").send_keys("CLASS 1")
    assert column(opened, "#classes", 0) == ["class 10"]
    assert "1 of 10" in label.text
    label.find_element("css selector", "input").clear()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_leaves_the_page_and_no_number_is_broken(opened, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert opened.execute_script(
            "return document.documentElement.scrollWidth"
        ) in range(width - 20, width + 1)
        broken = opened.execute_script(
            "const range = document.createRange();"
            "return [...document.querySelectorAll('td:not(.long), dd')].filter(cell =>{"
            "  range.selectNodeContents(cell.firstChild);"
            "  return range.getClientRects().length > 1;"
            "}).map(cell => cell.textContent)"
        )
        assert broken == []
        outside = opened.execute_script(
            "return [...document.querySelectorAll('svg')].flatMap(svg => {"
            "  const box = svg.getBoundingClientRect();"
            "  return [...svg.querySelectorAll('text')].filter(text => {"
            "    const at = text.getBoundingClientRect();"
            "    return at.left < box.left - 1 || at.right > box.right + 1 ||"
            "      at.top < box.top - 1 || at.bottom > box.bottom + 1;"
            "  }).map(text => text.textContent);"
            "})"
        )
        assert outside == []
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_pages_have_light_letters(opened):
    def colours(scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        return opened.execute_script(
            "const text = [...document.querySelectorAll('svg text')]"
            "  .find(text => text.textContent === 'Loss');"
            "return [getComputedStyle(text).fill,"
            "  getComputedStyle(document.body).backgroundColor]"
        )

    assert colours("light") == ["rgb(27, 27, 27)", "rgb(255, 255, 255)"]
    assert colours("dark") == ["rgb(232, 232, 232)", "rgb(23, 25, 28)"]
    colours("light")


def test_nothing_is_asked_for_and_nothing_fails(opened):
    assert [
        entry for entry in opened.get_log("browser") if "favicon" not in str(entry)
    ] == []
    sources = opened.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert [name for name in sources if not name.startswith("data:")] == []
