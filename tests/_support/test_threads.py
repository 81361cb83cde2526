"""The number of threads honours every limit there is, at the time of the call."""

import os
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from lenet5c._support import threads
from lenet5c._support.cores import core
from lenet5c._support.threads import resolve_threads

needs_openmp = pytest.mark.skipif(not core.openmp, reason="built without OpenMP")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system"
)


@pytest.fixture
def large_machine(monkeypatch):
    """64 CPUs and no quota, so that other limits show."""
    monkeypatch.setattr(threads, "_usable_cpus", lambda: 64)
    monkeypatch.setattr(threads, "_quota", lambda: 1024)


@pytest.mark.parametrize("count", [1, 2, 7, 1024, np.int64(3), np.uint8(4)])
def test_a_number_is_taken_as_it_is(count):
    assert resolve_threads(count) == int(count)
    assert type(resolve_threads(count)) is int


@pytest.mark.parametrize("count", [0, -1, 1025, 10**30])
def test_numbers_outside_are_refused(count):
    with pytest.raises(ValueError, match="threads: expected 1 to 1024"):
        resolve_threads(count)


@pytest.mark.parametrize("count", [True, False, "2", 2.0, [2], np.nan, np.True_])
def test_what_is_no_whole_number_is_refused(count):
    with pytest.raises(TypeError, match="threads: expected a whole number"):
        resolve_threads(count)


def test_none_is_at_least_one_thread():
    assert resolve_threads() >= 1


@needs_openmp
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_none_honours_a_limit_set_by_threadpoolctl(large_machine, limit):
    before = resolve_threads()
    with threadpool_limits(limits=limit, user_api="openmp"):
        assert resolve_threads() == limit
    assert resolve_threads() == before


@needs_openmp
def test_none_honours_omp_num_threads(run_python):
    code = """
from lenet5c._support import threads
threads._usable_cpus = lambda: 64
threads._quota = lambda: 1024
print(threads.resolve_threads())
"""
    assert run_python(code, OMP_NUM_THREADS="5").stdout == "5\n"
    assert run_python(code, OMP_NUM_THREADS="1").stdout == "1\n"


@needs_openmp
@needs_affinity
def test_none_honours_affinity_set_after_import(run_python):
    code = """
import os
from lenet5c._support import threads
threads._quota = lambda: 1024
print(threads.resolve_threads() == len(os.sched_getaffinity(0)))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(threads.resolve_threads())
"""
    assert run_python(code, OMP_NUM_THREADS="1024").stdout == "True\n1\n"


def test_none_takes_the_smallest_of_the_limits(monkeypatch):
    limits = {"_usable_cpus": 8, "_quota": 8}
    monkeypatch.setattr(core, "max_threads", lambda: 8, raising=True)
    for smallest in limits:
        for name, limit in limits.items():
            value = 3 if name == smallest else limit
            monkeypatch.setattr(threads, name, lambda value=value: value)
        assert resolve_threads() == 3
    monkeypatch.setattr(core, "max_threads", lambda: 2)
    assert resolve_threads() == 2


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", 1024),
        ("150000 100000\n", 2),
        ("200000 100000\n", 2),
        ("200001 100000\n", 3),
        ("1000 100000\n", 1),
        ("800000 100000", 8),
        ("", 1024),
        ("\n", 1024),
        ("max", 1024),
        ("150000", 1024),
        ("many 100000", 1024),
        ("1 2 3", 1024),
        ("100000 0", 1024),
    ],
)
def test_the_quota_of_a_control_group_is_rounded_up(tmp_path, text, cpus):
    path = tmp_path / "cpu.max"
    path.write_text(text)
    assert threads._quota(path) == cpus


def test_a_missing_or_unreadable_quota_is_no_limit(tmp_path):
    assert threads._quota(tmp_path / "missing") == 1024
    assert threads._quota(tmp_path) == 1024
    (tmp_path / "cpu.max").write_bytes(b"\xff\xfe\x00")
    assert threads._quota(tmp_path / "cpu.max") == 1024


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_none_is_within_the_affinity():
    assert resolve_threads() <= len(os.sched_getaffinity(0))
