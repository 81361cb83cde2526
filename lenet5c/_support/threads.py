"""How many threads a call runs on, and what several of them may do to one object."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from lenet5c._support.checks import whole
from lenet5c._support.cores import core

__all__ = ["Gate", "alone", "resolve_threads", "sharing"]

_in_use: dict[int, object] = {}  # who has an object to itself, by the object's id
_gates: "WeakSet[Gate]" = WeakSet()
_sharing: set[int] = set()  # threads of Python's that are in a long call, by identity


class Gate(type(threading.RLock())):  # type: ignore[misc]
    """A lock that is free in a forked child, if another thread held it in the parent.

    It is held for the short time in which weights change, or are copied. It is a kind
    of RLock, and has none: between two lines of an `__enter__` in Python, Ctrl-C would
    leave it locked for good.
    """

    def __init__(self) -> None:
        super().__init__()
        _gates.add(self)


def _after_fork() -> None:
    """The parent's other threads are not here: what they held is free."""
    _in_use.clear()
    _sharing.clear()
    for gate in _gates:
        if not gate._is_owned():
            gate._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def alone(thing: object, otherwise: str) -> Iterator[None]:
    """Have an object to oneself.

    Raises
    ------
    RuntimeError
        At once, with the words `otherwise`, if another call has it.
    """
    user = object()
    try:  # before it is taken: Ctrl-C may come right after
        if _in_use.setdefault(id(thing), user) is not user:
            raise RuntimeError(otherwise)
        yield
    finally:
        if _in_use.get(id(thing)) is user:
            del _in_use[id(thing)]


@contextmanager
def sharing() -> Iterator[None]:
    """Be one of those among whom `resolve_threads` shares out the CPUs; a call inside
    of another one, in the same thread, counts once."""
    me = threading.get_ident()
    inner = me in _sharing
    try:
        _sharing.add(me)
        yield
    finally:
        if not inner:
            _sharing.discard(me)


def resolve_threads(threads: int | None = None) -> int:
    """How many threads to run on.

    Parameters
    ----------
    threads : int or None
        A number of at least 1 is taken as it is. None takes OpenMP's limit at the time
        of the call (``OMP_NUM_THREADS``, threadpoolctl, joblib), or, if the core was
        built without OpenMP, what that variable says now, but no more than this
        call's share of the CPUs: those that the process may use and the CPU quota of
        its control group allows, over the threads of Python's that are `sharing`. In a
        process that multiprocessing started it is 1, unless OpenMP's limit was set:
        such processes come several at a time, and none knows how many.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive whole number.
    """
    if threads is None:
        limit, cpus = _limit(), min(len(usable_cpus()), cpu_quota())
        if limit >= cpus and _is_worker() and "OMP_NUM_THREADS" not in os.environ:
            return 1
        callers = len(_sharing | {threading.get_ident()})
        return max(1, min(limit, cpus // callers))
    return whole("threads", threads, 1, 1024)


def _limit() -> int:
    """OpenMP's limit, or without it the one that it would read in the environment."""
    limit = int(core.max_threads())
    if core.openmp:
        return limit
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    wanted = int(outermost) if re.fullmatch("[+]?[0-9]{1,9}", outermost) else 0
    return min(limit, wanted) if wanted else limit


def _is_worker() -> bool:
    """Whether multiprocessing started this process; it has been imported then."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def usable_cpus() -> set[int]:
    """The CPUs that the process may run on, by number."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def cpu_quota(path: str | os.PathLike[str] = "/sys/fs/cgroup/cpu.max") -> int:
    """CPUs that the control group pays for, rounded up; many where there is no limit.

    The file holds "max 100000" or "150000 100000" (quota and period in microseconds),
    and may be empty or missing.
    """
    unlimited = 1024
    try:
        with open(path) as file:
            quota, period = file.read().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return unlimited
