"""The Python in the documentation runs, from the first block of a page to the last."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python_environment

DOCS = Path(__file__).parents[1] / "docs"


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


@pytest.mark.parametrize("page", ["article", "extending", "model_file"])
def test_the_snippets_of_a_page_run(page, tmp_path):
    pytest.importorskip("sklearn")
    program = tmp_path / f"{page}.py"
    program.write_text(python_of((DOCS / f"{page}.md").read_text("utf-8")), "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(program)],
        cwd=tmp_path,
        env=python_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"line numbers are those of the page: {done.stderr}"


@pytest.mark.parametrize("block", ["```python\nraise SystemExit(3)\n```\n"])
def test_a_snippet_that_fails_is_noticed(block, tmp_path):
    program = python_of("# Title\n\n" + block + "\n```sh\nnot python\n```\n")
    assert program.splitlines()[3] == "raise SystemExit(3)"
    done = subprocess.run([sys.executable, "-c", program])
    assert done.returncode == 3


def test_links_between_pages_lead_somewhere():
    root = DOCS.parent
    for page in [*DOCS.glob("*.md"), root / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            path = page.parent / target
            if path.parent == root and path.suffix == ".md" and path != root / "README.md":
                continue  # a copy of the tests may come without them
            assert path.exists(), f"{page.name}: {os.fspath(target)}"
