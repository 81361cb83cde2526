"""The examples run as they are, in a folder of their own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import python_environment

import lenet5c

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_quickstart_learns_the_digits_and_saves_them(tmp_path):
    pytest.importorskip("sklearn")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "quickstart.py")],
        cwd=tmp_path,
        env=python_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "61,706" in done.stdout
    assert float(re.search(r"test accuracy (\S+)%", done.stdout)[1]) >= 95
    assert lenet5c.load(tmp_path / "digits.lenet5c").parameter_count == 61_706
