"""The programs in the documentation run: the Python of a page from the first block to
the last, and C as a whole."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
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


def blocks(language: str, start: str = "") -> list[str]:
    """Those of docs/embedding.md after the line `start`, to the next heading."""
    page = (DOCS / "embedding.md").read_text("utf-8")
    part = re.split(r"^#+ ", page.partition(f"{start}\n")[2], flags=re.M)[0]
    text = part if start else page
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def c_programs() -> list[str]:
    """The whole programs in docs/embedding.md."""
    return [block for block in blocks("c") if "int main(" in block]


@pytest.fixture
def black(images, labels) -> tuple[str, str]:
    """What `digits.lenet5c`, which is there, makes of a black image: label, share."""
    model = lenet5c.lenet5()
    model.fit(images, labels, epochs=4, batch_size=4, threads=1)
    model.save("digits.lenet5c")
    image = np.zeros((1, 28, 28), np.uint8)
    label = str(model.predict(image).item())
    return label, f"{label} {model.predict_proba(image).max():.3f}"


@pytest.mark.parametrize("number", range(2))
def test_the_c_programs_of_embedding_run(number, tmp_path, black):
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("needs a C compiler")
    program = c_programs()[number]
    Path("program.c").write_text(program, "utf-8")
    source = Path(lenet5c.get_include(), "lenet5c.c")
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{source.parent}"]
    flags.append("-DLENET5C_PORTABLE")  # compiled in a fifth of the time
    command = [compiler, *flags, "program.c", source, "-o", "program"]
    subprocess.run(command, check=True, timeout=240)
    done = subprocess.run(["./program"], capture_output=True, text=True, timeout=60)
    label, said = black
    expected = [[label], ["28 x 28 pixels, 10 classes, ISA", said, said]][number]
    answer = re.sub("classes, .*", "classes, ISA", done.stdout)
    assert (answer.splitlines(), done.returncode) == (expected, 0)


@pytest.mark.parametrize(
    ("section", "tools", "program"),
    [
        ("## C and C++", "cc", "program"),
        ("### C++", "g++", "program"),
        ("### CMake", "cmake c++", "build/program"),
        ("### pkg-config", "cc pkg-config", "program"),
        ("### Meson", "cc meson ninja pkg-config", "build/program"),
    ],
)
def test_the_commands_of_embedding_build_programs(
    section, tools, program, black, monkeypatch
):
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    compilers = Path("compilers")
    compilers.mkdir()
    for tool in [*tools.split(), "lenet5c"]:
        found = shutil.which(tool, path=path)
        if found is None:
            pytest.skip(f"needs {tool}")
    for name in ("cc", "c++", "g++"):  # for one instruction set: it is quick
        if found := shutil.which(name):
            wrapper = compilers / name
            wrapper.write_text(f'#!/bin/sh\nexec {found} "$@" -DLENET5C_SCALAR\n')
            wrapper.chmod(0o755)
    Path("program.c").write_text(c_programs()[0], "utf-8")
    Path("program.cpp").write_text(*blocks("cpp"))
    for language, file in (("cmake", "CMakeLists.txt"), ("meson", "meson.build")):
        Path(file).write_text(*blocks(language))
    commands = "".join(blocks("sh", section))
    for name in ("CC", "CXX", "CFLAGS", "CXXFLAGS"):
        monkeypatch.delenv(name, raising=False)
    path = os.pathsep.join([str(compilers.resolve()), path])
    done = subprocess.run(
        ["bash", "-ec", f"{commands}./{program}"],
        env=python_environment() | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == black[0]


def test_embedding_shows_each_function_of_the_header():
    header = Path(lenet5c.get_include(), "lenet5c.h").read_text("utf-8")
    declared = set(re.findall(r"LENET5C_API[^;(]*?\b(lenet5c_\w+)\(", header))
    page = (DOCS / "embedding.md").read_text("utf-8")
    assert len(declared) >= 15
    assert {name for name in declared if f"{name}(" not in page} == set()


def test_a_program_has_the_python_blocks_on_the_lines_of_the_page():
    page = "# Title\n\n```python\na = 1\n```\n\n```sh\nls\n```\n```python\nb\n```\n"
    lines = python_of(page).splitlines()
    assert {n: line for n, line in enumerate(lines) if line} == {3: "a = 1", 10: "b"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_other_files_lead_somewhere(page):
    links = r"""\]\(([^)#:]+)\)|(?:src|srcset|href)="([^":]+)\""""
    text = re.sub(r"^```(?!{).*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for target in map("".join, re.findall(links, text)):
        assert (page.parent / target).exists(), target


def test_the_reference_names_all_that_is_public():
    page = (DOCS / "api.md").read_text("utf-8")
    listed = re.findall(r"^   (\w+)$", page, re.M)
    assert sorted(listed) == sorted({*lenet5c.__all__, "LeNet5Classifier"})
    for name in lenet5c.__all__:
        value = getattr(lenet5c, name)
        if isinstance(value, ModuleType):  # its page lists its __all__
            assert set(value.__all__) <= set(dir(value)), name


def test_the_reference_has_the_classes_of_what_is_returned():
    docstrings = pytest.importorskip("test_docstrings", reason="sklearn is missing")
    page = (DOCS / "api.md").read_text("utf-8")
    listed = re.findall(r"^   ~[\w.]+\.(\w+)$", page, re.M)
    inside = {
        name.rpartition(".")[2]
        for name, value in docstrings.PUBLIC.items()
        if isinstance(value, type)
        and name.rpartition(".")[0] not in docstrings.modules()
    }
    assert inside <= set(listed)
    assert {"QuantizedModel", "QuantizationReport", "Trainer"} <= inside


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
