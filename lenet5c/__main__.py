"""`python -m lenet5c` is the command `lenet5c`."""

import sys

from lenet5c.cli import main

if __name__ == "__main__":
    sys.exit(main())
