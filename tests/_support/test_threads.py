"""The number of threads honours every limit there is, at the time of the call."""

import os
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from lenet5c._support import threads
from lenet5c._support.cores import core
from lenet5c._support.threads import resolve_threads, sharing

needs_openmp = pytest.mark.skipif(not core.openmp, reason="built without OpenMP")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system"
)


@pytest.fixture
def large_machine(monkeypatch):
    """64 CPUs and no quota, so that other limits show."""
    monkeypatch.setattr(threads, "usable_cpus", lambda: set(range(64)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1024)


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


def test_none_honours_omp_num_threads(run_python):
    code = """
from lenet5c._support import threads
threads.usable_cpus = lambda: set(range(64))
threads.cpu_quota = lambda: 1024
print(threads.resolve_threads())
"""
    assert run_python(code, OMP_NUM_THREADS="5").stdout == "5\n"
    assert run_python(code, OMP_NUM_THREADS="1").stdout == "1\n"
    assert run_python(code, OMP_NUM_THREADS=" 6 , 2").stdout == "6\n"


@pytest.fixture
def without_openmp(large_machine, monkeypatch):
    """A core that was built without OpenMP, and can have 1024 threads."""
    monkeypatch.setattr(core, "openmp", False)
    monkeypatch.setattr(core, "max_threads", lambda: 1024)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5", 5),
        (" 7 ", 7),
        ("+3", 3),
        ("4,2", 4),
        ("2000", 64),
        ("1" * 9, 64),
        # what OpenMP takes for no number is no limit, as there
        ("", 64),
        ("0", 64),
        ("-1", 64),
        ("2.5", 64),
        ("many", 64),
        (",3", 64),
        ("4_0", 64),
        ("\u0665", 64),
        ("1" * 5000, 64),
    ],
)
def test_without_openmp_the_variable_counts_at_the_time_of_the_call(
    without_openmp, monkeypatch, text, count
):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert resolve_threads() == count
    assert resolve_threads(9) == 9
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert resolve_threads() == 64


def test_without_any_threads_it_is_one(without_openmp, monkeypatch):
    monkeypatch.setattr(core, "max_threads", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert resolve_threads() == 1


@pytest.mark.skipif(core.openmp, reason="built with OpenMP, whose limit may be lower")
def test_without_openmp_there_are_as_many_threads_as_cpus(run_python):
    code = """
import os
import lenet5c
from lenet5c._support import threads
os.environ.pop("OMP_NUM_THREADS", None)
threads.cpu_quota = lambda: 1024
print(lenet5c.build_info()["threads"] == len(threads.usable_cpus()))
"""
    assert run_python(code).stdout == "True\n"


@needs_affinity
def test_none_honours_affinity_set_after_import(run_python):
    code = """
import os
from lenet5c._support import threads
threads.cpu_quota = lambda: 1024
print(threads.resolve_threads() == len(os.sched_getaffinity(0)))
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(threads.resolve_threads())
"""
    assert run_python(code, OMP_NUM_THREADS="1024").stdout == "True\n1\n"


def test_none_takes_the_smallest_of_the_limits(monkeypatch):
    monkeypatch.setattr(core, "max_threads", lambda: 8, raising=True)
    for cpus, quota in (8, 3), (3, 8):
        monkeypatch.setattr(threads, "usable_cpus", lambda n=cpus: set(range(n)))
        monkeypatch.setattr(threads, "cpu_quota", lambda n=quota: n)
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
    assert threads.cpu_quota(path) == cpus


def test_a_missing_or_unreadable_quota_is_no_limit(tmp_path):
    assert threads.cpu_quota(tmp_path / "missing") == 1024
    assert threads.cpu_quota(tmp_path) == 1024
    (tmp_path / "cpu.max").write_bytes(b"\xff\xfe\x00")
    assert threads.cpu_quota(tmp_path / "cpu.max") == 1024


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_none_is_within_the_affinity():
    assert resolve_threads() <= len(os.sched_getaffinity(0))


@pytest.fixture
def eight(monkeypatch):
    """8 CPUs, and no limit of OpenMP's below them."""
    monkeypatch.setattr(threads, "usable_cpus", lambda: set(range(8)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: 1024)
    monkeypatch.setattr(core, "max_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def beside(others, look):
    """What `look` returns while so many other threads share the CPUs."""
    came, end = threading.Barrier(others + 1), threading.Event()

    def share():
        with sharing():
            came.wait(60)
            end.wait(60)

    started = [threading.Thread(target=share) for _ in range(others)]
    for thread in started:
        thread.start()
    came.wait(60)
    try:
        return look()
    finally:
        end.set()
        for thread in started:
            thread.join()


@pytest.mark.parametrize(("others", "share"), [(0, 8), (1, 4), (2, 2), (7, 1), (9, 1)])
def test_calls_at_the_same_time_share_the_cpus(eight, others, share):
    assert beside(others, resolve_threads) == share
    assert resolve_threads() == 8


def test_a_share_is_no_more_than_openmps_limit(eight, monkeypatch):
    monkeypatch.setattr(core, "max_threads", lambda: 3)
    assert beside(1, resolve_threads) == 3
    assert beside(3, resolve_threads) == 2


def test_a_number_is_no_share(eight):
    assert beside(3, lambda: resolve_threads(8)) == 8


def test_a_call_inside_of_another_shares_nothing(eight):
    with sharing():
        with sharing():
            assert resolve_threads() == 8
        assert beside(1, resolve_threads) == 4


def test_an_error_ends_the_sharing(eight):
    with pytest.raises(KeyError), sharing():
        raise KeyError
    assert not threads._sharing


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that is the test
def test_a_forked_child_shares_with_nobody(eight):
    def in_child():
        child = os.fork()
        if child == 0:
            os._exit(resolve_threads())
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert beside(3, in_child) == 8


IN_WORKER = """
import multiprocessing, sys
from lenet5c._support import threads
from lenet5c._support.cores import core

threads.usable_cpus = lambda: set(range(8))
core.max_threads = lambda: int(sys.argv[1]) if len(sys.argv) > 1 else 8
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(threads.resolve_threads(), pool.apply(threads.resolve_threads))
        print(pool.apply(threads.resolve_threads, (5,)))
"""


def test_a_process_of_multiprocessings_takes_one_thread_or_as_told(run_python):
    unset = "import os; os.environ.pop('OMP_NUM_THREADS', None)\n"
    assert run_python(unset + IN_WORKER).stdout.split() == ["8", "1", "5"]
    assert run_python(IN_WORKER, OMP_NUM_THREADS="8").stdout.split() == ["8", "8", "5"]
    limited = unset + "import sys; sys.argv.append('3')\n" + IN_WORKER
    assert run_python(limited).stdout.split() == ["3", "3", "5"]
