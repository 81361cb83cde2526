"""Lists in messages."""

from collections.abc import Iterable

__all__ = ["listing"]

MAX_LISTED = 20


def listing(texts: Iterable[str], separator: str = ", ") -> str:
    """The first texts, and how many more there are."""
    known = list(texts)
    shown = separator.join(known[:MAX_LISTED])
    more = len(known) - MAX_LISTED
    return shown + f"{separator.strip(' ,')} and {more:,} more" * (more > 0)
