"""`lenet5c config`: what is printed, as words of a shell, and whether it is there."""

import json
import shlex
from pathlib import Path

import lenet5c
from lenet5c.cli import config
from lenet5c.cli import main as cli

INCLUDE = Path(lenet5c.get_include())


def printed(capsys, *options):
    assert cli.main(["config", *options]) == 0
    return capsys.readouterr().out.removesuffix("\n")


def test_without_options_it_is_what_a_compiler_is_told(capsys):
    expected = f"-I{INCLUDE} {INCLUDE / 'lenet5c.c'}"
    assert shlex.split(printed(capsys)) == expected.split()
    assert printed(capsys, "--libs", "--cflags") == printed(capsys)
    assert printed(capsys, "--cflags") == shlex.quote(f"-I{INCLUDE}")


def test_the_folders_have_what_cmake_and_pkg_config_look_for(capsys):
    found = Path(printed(capsys, "--cmakedir"))
    assert (found / "lenet5cConfig.cmake").is_file()
    assert (found / "lenet5cConfigVersion.cmake").is_file()
    assert (Path(printed(capsys, "--pkgconfigdir")) / "lenet5c.pc").is_file()


def test_blanks_are_quoted_for_a_shell_in_flags_and_kept_in_folders(
    capsys, monkeypatch
):
    monkeypatch.setattr(config, "get_include", lambda: "/an env/it's")
    flags = printed(capsys, "--cflags", "--libs")
    assert shlex.split(flags) == ["-I/an env/it's", "/an env/it's/lenet5c.c"]
    assert printed(capsys, "--cmakedir") == "/an env/it's/cmake"
    assert printed(capsys, "--pkgconfigdir") == "/an env/it's/pkgconfig"


def test_json_has_all_of_it(capsys):
    facts = json.loads(printed(capsys, "--json"))
    for name in ("cflags", "libs", "cmakedir", "pkgconfigdir"):
        assert facts[name] == printed(capsys, f"--{name}")
    assert facts["include"] == str(INCLUDE)
    assert facts["version"] == lenet5c.__version__


def test_the_version_in_lenet5c_pc_is_that_of_the_package():
    lines = (INCLUDE / "pkgconfig" / "lenet5c.pc").read_text("utf-8").splitlines()
    assert f"Version: {lenet5c.__version__}" in lines
