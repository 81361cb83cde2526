"""The command `lenet5c`, also as `python -m lenet5c`.

It imports nothing before it can say what is wrong with that.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: `lenet5c.cli.main`, or its imports' error in one line."""
    try:
        with _ending_at_ctrl_c():
            from lenet5c.cli.main import main as run
    except ImportError as error:
        if sys.stderr is not None:
            print(f"lenet5c: error: {error}", file=sys.stderr)
        return 2
    return run(arguments)


@contextmanager
def _ending_at_ctrl_c() -> Iterator[None]:
    """While modules are imported: an exception would become another one in some."""

    def end(*_: object) -> None:
        with suppress(OSError):  # a stderr that is closed
            os.write(2, b"lenet5c: interrupted\n")
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    sys.exit(main())
