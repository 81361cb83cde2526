"""Flags of the command line: what argparse needs to know, and numbers in texts."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import _ActionsContainer

__all__ = ["COUNT", "DECAY", "FRACTION", "RATE", "SEED", "SHARE", "Flag", "number"]


def number(
    kind: type[int] | type[float], wanted: str, accepts: Callable[[float], bool]
) -> Callable[[str], float]:
    """Return the parser of a text that has to be a certain number."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not accepts(value):
            from argparse import ArgumentTypeError

            raise ArgumentTypeError(f"expected {wanted}, not {text!r}")
        return value

    return parse


COUNT = number(int, "a whole number above 0", lambda x: x > 0)
RATE = number(float, "a number above 0", lambda x: 0 < x < math.inf)
DECAY = number(float, "a number not below 0", lambda x: 0 <= x < math.inf)
SHARE = number(float, "a number from 0 to below 1", lambda x: 0 <= x < 1)
FRACTION = number(float, "a fraction between 0 and 1", lambda x: 0 < x < 1)
SEED = number(int, "a whole number not below 0", lambda x: x >= 0)


@dataclass(frozen=True)
class Flag:
    """What argparse needs to know of a flag.

    parse : makes its value of a text; None leaves the text
    switch : for a flag without a value: "on", False where it is not given, or "on or
        off", which has a --no- form too, and None where neither is given
    group : title of the group that it is shown in
    """

    help: str
    parse: Callable[[str], Any] | None = None
    metavar: str | None = None
    choices: Collection[str] | None = None
    switch: str | None = None
    default: Any = None
    group: str | None = None

    def add(self, parser: "_ActionsContainer", name: str) -> None:
        """Let `parser` know it; its value will be called `name`."""
        options: dict[str, Any] = {"help": self.help}
        if self.switch == "on":
            options["action"] = "store_true"
        elif self.switch is not None:
            from argparse import BooleanOptionalAction

            options["action"] = BooleanOptionalAction
        else:
            options |= {
                "type": self.parse,
                "metavar": self.metavar,
                "choices": self.choices,
                "default": self.default,
            }
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
