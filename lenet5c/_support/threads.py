"""The only place that decides how many threads a call runs on."""

import os

from lenet5c._support.checks import whole
from lenet5c._support.cores import core

__all__ = ["resolve_threads"]


def resolve_threads(threads: int | None = None) -> int:
    """How many threads to run on.

    Parameters
    ----------
    threads : int or None
        A number of at least 1 is taken as it is. None takes OpenMP's limit at the time
        of the call (``OMP_NUM_THREADS``, threadpoolctl, joblib), but no more than the
        CPUs that this process may use and the CPU quota of its control group allows.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive whole number.
    """
    if threads is None:
        return max(1, min(int(core.max_threads()), _usable_cpus(), _quota()))
    return whole("threads", threads, 1, 1024)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(path: str | os.PathLike[str] = "/sys/fs/cgroup/cpu.max") -> int:
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
