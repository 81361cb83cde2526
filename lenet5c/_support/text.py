"""Lists and counts in messages."""

from collections.abc import Iterable

__all__ = ["counted", "listing"]

MAX_LISTED = 20


def listing(texts: Iterable[str], separator: str = ", ") -> str:
    """The first texts, and how many more there are."""
    known = list(texts)
    shown = separator.join(known[:MAX_LISTED])
    more = len(known) - MAX_LISTED
    return shown + f"{separator.strip(' ,')} and {more:,} more" * (more > 0)


def counted(number: int, noun: str) -> str:
    """ "1 epoch", "2 epochs", "3 classes"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
