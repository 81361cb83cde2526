"""Threads that share loops: the same bits, no task lost or done twice, no hang.

threads.c is the stress of csrc/team.h by itself, where a compiler is there.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import lenet5c
from lenet5c._support.cores import core

HANG = 120  # seconds; what is tested takes a few
CC = shutil.which("cc") or shutil.which("gcc")
HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, random.integers(0, 10, count)


@pytest.mark.parametrize("whole_batch", [False, True])
def test_same_bits_on_more_threads_than_there_are_cpus(whole_batch):
    """Blockwise and layerwise, more and fewer blocks than threads, two microbatches."""
    images, labels = digits(300)
    model = lenet5c.Model(
        [
            lenet5c.Conv2d(5, 5),
            *([lenet5c.BatchNorm2d()] if whole_batch else []),
            lenet5c.Tanh(),
            lenet5c.MaxPool2d(2),
            lenet5c.Dense(10),
        ],
        input_shape=(1, 28, 28),
    )
    for count in (3, 70, 300):
        alone = model.loss_and_gradients(images[:count], labels[:count], threads=1)
        logits = model.forward(images[:count], threads=1)
        for threads in (2, 3, 4, 5, 6, 7, 64):
            loss, gradients = model.loss_and_gradients(
                images[:count], labels[:count], threads=threads
            )
            assert loss == alone[0]
            for name, gradient in alone[1].items():
                np.testing.assert_array_equal(gradients[name], gradient, err_msg=name)
            found = model.forward(images[:count], threads=threads)
            np.testing.assert_array_equal(found, logits)


def test_thousands_of_calls_by_several_python_threads_on_busy_cpus(run_python):
    """Four callers of up to seven threads each, beside busy loops."""
    code = """
import os, subprocess, sys, threading
import numpy as np
import lenet5c
from lenet5c._support.cores import core

busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
rng = np.random.default_rng(0)
wrong = []

def same(found, expected):
    return all(np.array_equal(found[name], expected[name]) for name in expected)

def work(seed):
    images = rng.integers(0, 256, (40, 12, 12), dtype=np.uint8)
    labels = np.arange(40) % 10
    model = lenet5c.Model(
        [lenet5c.Conv2d(3, 5), lenet5c.Tanh(), lenet5c.Dense(10)],
        input_shape=(1, 12, 12), seed=seed,
    )
    loss, gradients = model.loss_and_gradients(images, labels, threads=1)
    logits = model.forward(images, threads=1)
    for turn in range(500):
        threads = 1 + (turn + seed) % 7
        found, others = model.loss_and_gradients(images, labels, threads=threads)
        if found != loss or not same(others, gradients):
            wrong.append((seed, turn))
        if (model.forward(images, threads=threads) != logits).any():
            wrong.append((seed, turn))

callers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
for loop in busy:
    loop.kill()
    loop.wait()
print(wrong)
"""
    assert run_python(code, timeout=HANG).stdout == "[]\n"


def test_the_peak_runs_on_all_threads():
    for threads in (0, 1, 2, 7):
        core.multiply_adds_at_peak(10, threads)


def compiled(tmp_path, source, *flags):
    """The program of a C source."""
    program = tmp_path / "program"
    command = [CC, "-std=gnu11", "-O1", "-g", "-pthread", f"-I{CSRC}", *flags]
    command += [str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def finds_races(tmp_path):
    """Whether ThreadSanitizer is there, and runs on this system."""
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }")
    try:
        subprocess.run([compiled(tmp_path, empty, "-fsanitize=thread")], check=True)
    except subprocess.CalledProcessError:
        return False
    return True


needs_compiler = pytest.mark.skipif(
    CC is None or not CSRC.exists(), reason="needs a C compiler"
)


@needs_compiler
@pytest.mark.parametrize("flags", [[], ["-DLENET5C_NO_FUTEX"], ["-DLENET5C_SPIN=0"]])
@pytest.mark.parametrize("race_detector", [False, True])
def test_each_task_is_done_once_and_seen_by_the_next_loop(
    tmp_path, flags, race_detector
):
    """And none after a watch has ended a call, whose team can be used again."""
    flags = [*flags, "-DLENET5C_ASK=0"]
    loops, children = "1000", "5"
    if race_detector:
        if not finds_races(tmp_path):
            pytest.skip("no ThreadSanitizer here")
        flags.append("-fsanitize=thread")
        loops, children = "200", "0"
    program = compiled(tmp_path, HERE / "threads.c", *flags)
    done = subprocess.run(
        [program, loops, children],
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("right\n", "")


@needs_compiler
def test_without_threads_the_one_that_calls_does_all(tmp_path):
    source = tmp_path / "alone.c"
    source.write_text("""
#include "team.h"
static int sum, loop;
static void add(const void *job, int number) { sum += *(const int *)job + number; }
static int next(void *job, lenet5c_task *task)
{
    (void)job;
    *task = add;
    return loop++ < 3 ? 4 : -1;
}
int main(void)
{
    int ten = 10;
    lenet5c_team *team = lenet5c_take_team(8);
    lenet5c_run(team, NULL, next, &ten);
    lenet5c_share(team, NULL, 2, add, &ten);
    lenet5c_give_back(team);
    return team != NULL || sum != 3 * 46 + 21 || lenet5c_max_threads() != 1;
}
""")
    subprocess.run([compiled(tmp_path, source, "-DLENET5C_NO_THREADS")], check=True)


LIMITED = """
import os, resource, sys
import numpy as np
import lenet5c

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (300, 28, 28), dtype=np.uint8)
labels = np.arange(300) % 10

def results(threads, seed=0):
    model = lenet5c.lenet5(seed=seed)
    model.fit(images, labels, epochs=1, threads=threads)
    loss = model.evaluate(images, labels, threads=threads).loss
    several = model.predictor().predict_many  # of the C runtime
    logits = np.empty((300, 10), np.float32)
    several(images[:, None], logits, None, threads, 4)
    return model.state_vector.tobytes(), loss, logits.tobytes()

expected = results(1)  # and all is imported that an ordinary user may not read
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def test_where_no_threads_can_be_made_fewer_do_the_same(run_python):
    """As in a container that is allowed few processes: no exit, and the same bits."""
    code = """
import threading
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=int).start()
    print("made")
except RuntimeError:
    print(results(8) == expected, len(os.listdir("/proc/self/task")))
"""
    done = run_python(LIMITED + code, timeout=HANG, OPENBLAS_NUM_THREADS="1")
    if done.stdout == "made\n":
        pytest.skip("this system makes threads beyond RLIMIT_NPROC")
    assert done.stdout == "True 1\n"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
@pytest.mark.parametrize("megabytes", [2, 10, 60])
def test_where_there_is_little_memory_it_is_a_memory_error_or_right(
    megabytes, run_python
):
    """60 MB are enough for eight threads, whose stacks would not fit by default."""
    code = """
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
most = now + int(os.environ["SPARE"]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
found = []
for threads in (8, 1024, 1):
    try:
        found.append(results(threads) == expected)
    except MemoryError:
        found.append(None)
print(found[0], False in found)
"""
    environment = {"OPENBLAS_NUM_THREADS": "1", "SPARE": str(megabytes)}
    done = run_python(LIMITED + code, timeout=HANG, **environment)
    first, wrong = done.stdout.split()
    assert wrong == "False"
    if megabytes == 60:
        assert first == "True"
