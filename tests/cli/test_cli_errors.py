"""The command line: what a wrong command or option is answered with, and streams that
are closed or full."""

import os
import signal
import subprocess
import sys

import pytest

from lenet5c import __main__ as entry
from lenet5c.cli import main as cli

PYTHON = [sys.executable, "-m", "lenet5c"]


def error_of(arguments, capsys):
    """The one line on stderr of a command that ends with 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("lenet5c: error: ")
    return err


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.parametrize("module", ["argparse", "numpy", "lenet5c.cli.train"])
def test_ctrl_c_while_the_command_is_imported_is_told_in_one_line(module, run_python):
    """Even where the import would turn an exception into another one."""
    code = f"""
import signal, sys
from lenet5c import __main__ as entry

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError from None

sys.meta_path.insert(0, Interrupt())
sys.exit(entry.main(["info"]))
"""
    done = run_python(code, check=False)
    assert done.returncode == 130
    assert (done.stdout, done.stderr) == ("", "lenet5c: interrupted\n")


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_error_in_place_of_ctrl_c_is_ctrl_c(debug, monkeypatch, capsys):
    def run(_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error

    monkeypatch.setattr(cli.info, "run", run)
    assert cli.main(["info", *debug]) == 130
    assert capsys.readouterr() == ("", "lenet5c: interrupted\n")


def test_ctrl_c_is_as_before_while_a_command_runs(capsys):
    before = signal.getsignal(signal.SIGINT)
    assert entry.main(["info"]) == 0
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "meant", "help_of"),
    [
        ("trian", "'train'", "lenet5c"),
        ("eval m", "'evaluate'", "lenet5c"),
        ("test m", "'evaluate'", "lenet5c"),
        ("--vresion", "--version", "lenet5c"),
        ("train --epoch 3", "--epochs", "lenet5c train"),
        ("train --epoch=3", "--epochs", "lenet5c train"),
        ("train --n_epochs 3", "--epochs", "lenet5c train"),
        ("train --lr 0.1", "--learning-rate", "lenet5c train"),
        ("train --validation-split .1", "--validation", "lenet5c train"),
        ("train --random-state 3", "--seed", "lenet5c train"),
        ("train --network lenet", "'lenet5'", "lenet5c train"),
        ("train --optimizer adam", "'adamw'", "lenet5c train"),
        ("train --schedule onecycle", "'one-cycle'", "lenet5c train"),
        ("bench --ntwork mlp", "--network", "lenet5c bench"),
        ("export m --too c", "--to", "lenet5c export"),
        ("export m --to ONNX", "'onnx'", "lenet5c export"),
    ],
)
def test_what_was_meant_is_said(arguments, meant, help_of, capsys):
    err = error_of(arguments.split(), capsys)
    assert f"; did you mean {meant}? (`{help_of} --help` shows how)" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train --qqq 3", "unrecognized arguments: --qqq (`lenet5c train --help`"),
        ("train -e 3", "unrecognized arguments: -e 3 (`lenet5c train --help`"),
        ("selftest more", "unrecognized arguments: more (`lenet5c selftest --help`"),
        ("--json info", "--json; options follow the command (`lenet5c --help`"),
        ("train --network vgg", "lenet5-1998) (`lenet5c train --help`"),
        ("train --epochs", "--epochs: expected one argument (`lenet5c train --help`"),
        ("train --batch-size -1", "not '-1' (`lenet5c train --help`"),
        ("predict", "required: MODEL, FILE (`lenet5c predict --help`"),
    ],
)
def test_what_is_like_nothing_is_refused_by_its_command(arguments, said, capsys):
    assert said in error_of(arguments.split(), capsys)


def test_files_may_begin_with_dashes_after_two_of_them(capsys):
    assert cli.main(["predict", "--", "--no-such-model", "--no-such-file"]) == 2
    assert "--no-such-model: No such file" in capsys.readouterr().err


def test_a_core_that_is_not_there_is_one_line():
    for arguments in (["info"], ["--help"], ["trian"]):
        done = subprocess.run(
            [*PYTHON, *arguments],
            env=os.environ | {"LENET5C_ISA": "foo"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("lenet5c: error: LENET5C_ISA='foo': ")
        assert line.endswith("baseline")


def test_the_entry_point_is_the_command(capsys):
    assert entry.main(["evaluate", "missing.lenet5c"]) == 2
    assert "missing.lenet5c: No such file" in capsys.readouterr().err


def test_a_missing_model_file_is_told_with_the_folder_it_was_looked_for(capsys):
    assert cli.main(["evaluate", "missing.lenet5c"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"missing.lenet5c: No such file or directory, in {os.getcwd()}; `lenet5c "
        "train` writes a model into the folder that it is started in"
    )


def shell(command):
    """Run in a shell; return the exit code of `lenet5c` and all that was written."""
    done = subprocess.run(
        ["bash", "-c", f'lenet5c() {{ "$0" -m lenet5c "$@"; }}; {command}', PYTHON[0]],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("info >&-", 0),
        ("info >&- 2>&-", 0),
        ("info <&- >&- 2>&-", 0),
        ("train --epochs 1 --threads 1 --output m >&- 2>&-", 0),
        ("trian 2>&-", 2),
        ("evaluate missing 2>&-", 2),
    ],
)
def test_streams_that_are_closed_are_no_error(command, code):
    assert shell(f"lenet5c {command}") == (code, "")
    if "train " in command:
        assert os.path.getsize("m") > 4 * 61_706


def test_the_other_stream_is_not_written_to_instead():
    code, said = shell("lenet5c train --epochs 1 --threads 1 --output m 2>&-")
    assert code == 0
    assert "Test accuracy" in said
    assert "1,437 training images" not in said  # that goes to stderr
    assert shell("lenet5c evaluate missing >&-")[1].endswith(
        "No such file or directory\n"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_streams_that_are_full_are_an_error_in_one_line():
    code, said = shell("lenet5c info >/dev/full")
    assert (code, said) == (2, "lenet5c: error: [Errno 28] No space left on device\n")
    assert shell("lenet5c evaluate missing 2>/dev/full") == (2, "")


def test_a_reader_that_has_read_enough_of_the_help_is_no_error():
    assert shell("lenet5c train --help | true; exit ${PIPESTATUS[0]}") == (0, "")


def test_there_need_be_no_home():
    code, said = shell("unset HOME; lenet5c info")
    assert code == 0
    assert "mnist" in said
