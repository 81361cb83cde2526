"""lenet5c.pc: what pkg-config says, in a folder with blanks too."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import lenet5c

INCLUDE = Path(lenet5c.get_include())
CC = shutil.which(os.environ.get("CC", "cc"))
PKG_CONFIG = shutil.which("pkg-config")

pytestmark = pytest.mark.skipif(PKG_CONFIG is None, reason="needs pkg-config")


@pytest.fixture
def said(tmp_path):
    """What pkg-config says of a package that was moved to a folder with blanks."""
    shutil.copytree(INCLUDE, tmp_path / "a b" / "c  d")

    def run(*options: str, code: int = 0) -> str:
        done = subprocess.run(
            [PKG_CONFIG, *options],
            env=os.environ | {"PKG_CONFIG_PATH": f"{tmp_path}/a b/c  d/pkgconfig"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


def test_it_names_the_headers_and_the_source(said, tmp_path):
    (flag,) = shlex.split(said("--cflags", "--libs", "lenet5c"))
    assert os.path.samefile(flag.removeprefix("-I"), tmp_path / "a b" / "c  d")
    (source,) = shlex.split(said("--variable=sources", "lenet5c"))
    assert os.path.samefile(source, tmp_path / "a b" / "c  d" / "lenet5c.c")


def test_the_file_is_valid_and_has_the_version(said):
    assert said("--validate", "lenet5c") == ""
    assert said("--modversion", "lenet5c").strip() == lenet5c.__version__
    said("--exists", f"lenet5c >= {lenet5c.__version__}")
    said("--exists", f"lenet5c > {lenet5c.__version__}", code=1)


@pytest.mark.skipif(CC is None, reason="needs a C compiler")
def test_what_it_says_compiles_a_program(said, tmp_path):
    program = tmp_path / "program.c"
    program.write_text(
        '#include "lenet5c.h"\n'
        "int main(void) { return lenet5c_abi_version() != LENET5C_ABI_VERSION; }\n"
    )
    words = shlex.split(
        said("--cflags", "lenet5c") + said("--variable=sources", "lenet5c")
    )
    command = [CC, "-DLENET5C_SCALAR", str(program), *words, "-o", "program"]
    subprocess.run(command, check=True, timeout=240)
    assert subprocess.run(["./program"], check=False).returncode == 0
