"""What a newcomer is told: no compiler, no headers of Python, a source not compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = """
import sys
sys.path.insert(0, sys.argv[1])
from setup import BuildCores
from setuptools import Distribution, Extension

extension = Extension("some", ["no such file.c"])
command = BuildCores(Distribution({"ext_modules": [extension]}))
command.ensure_finalized()
command.include_dirs = sys.argv[2:] or command.include_dirs
command.run()
"""

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").is_file(), reason="no source tree around the tests"
)


def build(*include, **env):
    """Build an extension whose source is missing; what is written to stderr."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", BUILD, str(ROOT), *include],
        env=os.environ | env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_missing_compiler_is_named_in_one_line(compiler):
    (line,) = build(CC=compiler).splitlines()
    assert line.startswith(f"lenet5c needs a C compiler, and {compiler!r} is none")
    for name in ("gcc", "python3-dev", "python3-devel", "CC="):
        assert name in line


def test_without_any_program_the_usual_compiler_is_missing(tmp_path):
    (line,) = build(PATH=str(tmp_path), CC="gcc").splitlines()
    assert "'gcc' is none that works" in line


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_missing_headers_of_python_are_named_in_one_line(tmp_path):
    clean = {"CC": "gcc", "CPATH": "", "C_INCLUDE_PATH": ""}
    (line,) = build(str(tmp_path), **clean).splitlines()
    assert line.startswith("lenet5c needs the headers of Python 3.")
    for name in (str(tmp_path), "python3-dev", "python3-devel"):
        assert name in line
    assert "needs" not in build(**clean)  # with both it goes on, to the missing file


@pytest.mark.parametrize("name", ["avx", "avx2, baseline"])
def test_an_unknown_core_is_named_in_one_line(name):
    (line,) = build(LENET5C_CORES=name).splitlines()
    assert line.startswith("LENET5C_CORES: expected some of ")
    assert line.endswith(f"got {name.rpartition(',')[2]!r}")


def test_a_source_that_is_not_compiled_says_what_to_do(tmp_path):
    """As of `import lenet5c` in a clone, whose folder Python looks in first."""
    for path in (ROOT / "lenet5c").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)

    def said(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": "", "PYTHONSAFEPATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        return done.stderr.splitlines()

    using = ["-c", "import lenet5c; lenet5c.lenet5()"]
    assert said(*using)[-1] == (
        "ImportError: lenet5c was installed without its compiled core"
    )
    shutil.copyfile(ROOT / "setup.py", tmp_path / "setup.py")
    last = said(*using)[-1]
    assert last.startswith(f"ImportError: the lenet5c in {tmp_path} is its source")
    assert "run Python in another folder" in last
    assert "pip install -e . --config-settings editable_mode=compat" in last
    (line,) = said("-m", "lenet5c", "info")
    assert line.startswith(f"lenet5c: error: the lenet5c in {tmp_path} is its source")
