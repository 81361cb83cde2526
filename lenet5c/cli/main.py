"""The command `lenet5c`: train, evaluate, predict, report, augment and others.

Results go to stdout, as tables for people or with --json as one document for machines;
progress and messages go to stderr. Exit codes: 0 done, 1 a check failed, 2 bad usage or
bad file, 130 interrupted. Each command has a file of its own, listed in `COMMANDS`; it
imports what is heavy when it runs.
"""

import argparse
import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol, TextIO

from lenet5c._support.build import __version__
from lenet5c._support.habits import did_you_mean, option_for
from lenet5c.cli import (
    augment,
    bench,
    compare,
    config,
    evaluate,
    export,
    info,
    predict,
    quantize,
    report,
    selftest,
    train,
)
from lenet5c.cli.errors import BAD_USAGE, CHECK_FAILED, DONE, INTERRUPTED, explain
from lenet5c.cli.output import say
from lenet5c.training.loop import TrainingError


class Command(Protocol):
    """What the file of a command has."""

    NAME: str
    SUMMARY: str

    @property
    def EXAMPLES(self) -> Sequence[str]: ...

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes; --json and --debug are added to all."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code."""


COMMANDS: tuple[Command, ...] = (
    train,
    evaluate,
    predict,
    report,
    quantize,
    export,
    augment,
    compare,
    bench,
    info,
    selftest,
    config,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, default sys.argv[1:]

    Returns
    -------
    int
        The exit code. `--help`, `--version` and wrong arguments raise SystemExit, as
        argparse does.
    """
    debug = False
    try:
        _open_streams()
        try:
            args = _parser().parse_args(arguments)
            debug = args.debug
            with _warnings_said():
                code: int = args.run(args)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # `lenet5c ... | head` has read enough
        _to_nowhere(sys.stdout, sys.stderr)
        return DONE
    except Exception as error:
        if _comes_of_ctrl_c(error):
            return _interrupted()
        if debug:
            raise
        try:
            say(f"lenet5c: error: {explain(error)}")
        except OSError:
            _to_nowhere(sys.stderr)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _to_nowhere(sys.stdout)  # what waits there is not tried again
        return CHECK_FAILED if isinstance(error, TrainingError) else BAD_USAGE
    return code


def _interrupted() -> int:
    say("\r" * sys.stderr.isatty() + "lenet5c: interrupted")  # over the ^C
    return INTERRUPTED


def _comes_of_ctrl_c(error: BaseException | None) -> bool:
    """Whether it was raised in place of a KeyboardInterrupt, as in some imports."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _open_streams() -> None:
    """Let streams that are closed (`lenet5c info >&-`) swallow what is written, and
    others write what their encoding lacks in another way."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
        elif mode == "w" and isinstance(getattr(sys, name), io.TextIOWrapper):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _to_nowhere(*streams: TextIO) -> None:
    """Throw away what the streams hold and all that follows."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _warnings_said() -> Iterator[None]:
    """Show what the library warns of or logs as a warning, as that a checkpoint is
    damaged, as one line each."""
    import logging
    import warnings

    def show(message: Warning | str, *_: object) -> None:
        say(f"lenet5c: warning: {message}")

    handler = logging.StreamHandler()  # to stderr
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("lenet5c: warning: %(message)s"))
    logger = logging.getLogger("lenet5c")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show  # type: ignore[assignment]
            yield
    finally:
        logger.removeHandler(handler)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse_known_args(
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Refuse what is unknown here, where the command's own options are known."""
        words = sys.argv[1:] if args is None else list(args)
        for word in words:
            if word == "--" or (self._subparsers is not None and word[:1] != "-"):
                break
            if word.startswith("--"):
                self._check_option(word.partition("=")[0])
        found, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def _check_option(self, option: str) -> None:
        if option in self._option_string_actions:
            return
        names = {
            name.strip("-").replace("-", "_"): name
            for name in self._option_string_actions
        }
        name = option_for(option.strip("-").replace("-", "_"), names)
        hint = "; options follow the command" * (self._subparsers is not None)
        if name is not None:
            hint = f"; did you mean {names[name]}?"
        self.error(f"unrecognized arguments: {option}{hint}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(action.choices)
            raise argparse.ArgumentError(
                action,
                f"invalid choice: {value!r} (choose from {', '.join(choices)})"
                + did_you_mean(value, choices),
            )

    def error(self, message: str) -> NoReturn:
        self.exit(
            BAD_USAGE, f"lenet5c: error: {message} (`{self.prog} --help` shows how)\n"
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lenet5c",
        description="Train and run LeNet-5 on the CPU at native speed.",
        epilog=_examples(
            "lenet5c train",
            "lenet5c train --data mnist",
            "lenet5c evaluate lenet5.lenet5c --data mnist",
            "lenet5c predict lenet5.lenet5c digit.png",
        ),
    )
    parser.add_argument("--version", action="version", version=f"lenet5c {__version__}")
    added = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        its = added.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.SUMMARY,
            epilog=_examples(*command.EXAMPLES),
        )
        command.add_arguments(its)
        its.add_argument(
            "--json", action="store_true", help="print one JSON document instead"
        )
        its.add_argument(
            "--debug", action="store_true", help="show the traceback of an error"
        )
        its.set_defaults(run=command.run)
    return parser


def _examples(*lines: str) -> str:
    return "\n".join(["examples:", *(f"  {line}" for line in lines)])
