"""The examples run as they are, in a folder of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python_environment

import lenet5c

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example: str, folder: Path, **env: str) -> str:
    """What the example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        cwd=folder,
        env=python_environment() | env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_quickstart_learns_the_digits_and_saves_them(tmp_path):
    pytest.importorskip("sklearn")
    said = run("quickstart.py", tmp_path, OMP_NUM_THREADS="1")
    assert "61,706" in said
    assert float(re.search(r"test accuracy (\S+)%", said)[1]) >= 95
    assert lenet5c.load(tmp_path / "digits.lenet5c").parameter_count == 61_706


def test_scikit_learn_searches_and_cross_validates(tmp_path):
    pytest.importorskip("sklearn")
    said = run("scikit_learn.py", tmp_path)
    assert float(re.search(r"test accuracy (\S+)%", said)[1]) >= 90
    assert float(re.search(r"cross-validation (\S+)%", said)[1]) >= 85
