"""The Python in the documentation runs, from the first block of a page to the last."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import python_environment

import lenet5c

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def python_of(markdown: str) -> str:
    """The ```python blocks as one program, each line where it stands in the page."""
    lines = []
    inside = False
    for line in markdown.splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def has_programs(page: Path) -> bool:
    """Whether its Python is to be run; design.md's is a tool for compiled files."""
    return "```python\n" in page.read_text("utf-8") and page.stem != "design"


@pytest.mark.parametrize(
    "page", list(filter(has_programs, PAGES)), ids=lambda page: page.stem
)
def test_the_snippets_of_a_page_run(page, tmp_path):
    pytest.importorskip("sklearn")
    program = tmp_path / f"page_{page.stem}.py"  # not to hide a package
    code = python_of(page.read_text("utf-8"))
    code = code.replace("datasets.mnist()", "datasets.digits()")  # there and quick
    for package in re.findall(r"^import (onnxruntime|torch)$", code, re.M):
        pytest.importorskip(package)
    program.write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(program)],
        cwd=tmp_path,
        env=python_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"line numbers are those of the page: {done.stderr}"


def test_a_program_has_the_python_blocks_on_the_lines_of_the_page():
    page = "# Title\n\n```python\na = 1\n```\n\n```sh\nls\n```\n```python\nb\n```\n"
    lines = python_of(page).splitlines()
    assert {n: line for n, line in enumerate(lines) if line} == {3: "a = 1", 10: "b"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_other_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_reference_names_all_that_is_public():
    page = (DOCS / "api.md").read_text("utf-8")
    listed = re.findall(r"^   (\w+)$", page, re.M)
    assert sorted(listed) == sorted({*lenet5c.__all__, "LeNet5Classifier"})
    for name in lenet5c.__all__:
        value = getattr(lenet5c, name)
        if isinstance(value, ModuleType):  # its page lists its __all__
            assert set(value.__all__) <= set(dir(value)), name


def test_every_page_is_in_a_table_of_contents():
    listed = {
        re.sub(r".*<(.*)>", r"\1", line)
        for page in ("index", "guide")
        for block in re.findall(
            r"```{toctree}(.*?)```", (DOCS / f"{page}.md").read_text("utf-8"), re.S
        )
        for line in block.split("\n")
    }
    assert {page.stem for page in DOCS.glob("*.md")} <= listed | {"index"}
