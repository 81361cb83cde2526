"""The command `lenet5c`, also as `python -m lenet5c`.

It imports nothing before it can say what is wrong with that.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: `lenet5c.cli.main`, or its imports' error in one line."""
    try:
        from lenet5c.cli.main import main as run
    except ImportError as error:
        if sys.stderr is not None:
            print(f"lenet5c: error: {error}", file=sys.stderr)
        return 2
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
