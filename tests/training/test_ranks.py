"""Several processes train to the bits of one; what fails in one ends all, by name."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mpi_trainings
import numpy as np
import pytest
from conftest import python_environment

import lenet5c
from lenet5c.training import ranks

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")


@contextmanager
def started(count: int, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """What mpiexec runs; none of it is left behind."""
    environment = python_environment()
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    environment["STARTED_BY"] = str(os.getpid())
    # Open MPI starts no more processes than CPUs, and none for root, unless told to
    environment["PRTE_MCA_rmaps_default_mapping_policy"] = ":oversubscribe"
    environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    for name in ("OMPI", "PRTE"):
        environment |= {
            f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for end in ("", "_CONFIRM")
        }
    process = subprocess.Popen(
        [MPIEXEC, "-n", str(count), sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for each in ranks_running():
                    os.kill(each, signal.SIGKILL)
                process.kill()


def run(count: int, *arguments: object) -> tuple[int, str, str]:
    with started(count, *arguments) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def ranks_running() -> list[int]:
    """The processes of mpiexec, by rank, where the system tells."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (entry / "environ").read_bytes()
            program = (entry / "cmdline").read_bytes().partition(b"\0")[0].decode()
            rank = re.search(rb"\0(?:PMI|OMPI_COMM_WORLD)_RANK=(\d+)\0", environment)
            ours = f"STARTED_BY={os.getpid()}\0".encode() in environment
            if rank and ours and program == sys.executable:
                found[int(rank[1])] = int(entry.name)
    return [found[rank] for rank in sorted(found)]


def script(text: str) -> Path:
    """A program of all ranks. What several print is one string: pieces may mix."""
    path = Path("script.py")
    path.write_text(
        "import numpy as np, lenet5c\n"
        "from mpi4py import MPI\n"
        "from mpi_trainings import *\n"
        "comm = MPI.COMM_WORLD\nrank = comm.Get_rank()\n" + text,
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def alone() -> dict[str, str]:
    return {
        name: mpi_trainings.digest(train(threads=1))
        for name, train in mpi_trainings.TRAININGS.items()
    }


@pytest.mark.parametrize(
    ("count", "threads"), [(1, 2), (2, 1), (2, 2), (3, 1), (4, 2), (7, 1)]
)
def test_same_bits_for_any_number_of_ranks_and_threads(count, threads, alone):
    code, out, err = run(count, mpi_trainings.__file__, threads)
    assert code == 0, err
    found = json.loads(out)
    assert len(found) == count
    for of_rank in found:
        assert of_rank == alone


def test_parts_of_the_images_are_put_together(alone):
    path = script(
        "part = slice(600 * rank // 3, 600 * (rank + 1) // 3)\n"
        "images = np.concatenate(comm.allgather(IMAGES[part]))\n"
        "labels = np.concatenate(comm.allgather(LABELS[part]))\n"
        "model = small()\n"
        "model.fit(images, labels, epochs=2, batch_size=64, comm=comm, threads=1)\n"
        "found = comm.gather(digest(model))\n"
        "if rank == 0: print(*found)\n"
    )
    code, out, err = run(3, path)
    assert code == 0, err
    assert out.split() == [alone["sgd"]] * 3


def test_ranks_share_the_shards_of_a_batch():
    """Two processes that are played by threads of one: each computes its half alone."""

    class Half:
        """A rank whose partner has nothing to say: its part of the sum stays zero."""

        def __init__(self, rank):
            self.rank, self.size, self.wire = rank, 2, bytearray()

        def room(self, count):
            self.wire = bytearray(count)
            return self.wire

        def exchange(self, ends):
            pass

    model = mpi_trainings.small()
    pixels = mpi_trainings.IMAGES[:128, np.newaxis]
    codes = mpi_trainings.LABELS.astype(np.int32)
    model.set_input(
        lenet5c.data.images.InputStage.between(0, 1), (16, 16), np.arange(10)
    )
    gradients = []
    for part in (None, Half(0), Half(1)):
        gradient = np.empty(model.parameter_count, np.float32)
        loss, _ = model.loss_of_batch(
            pixels, np.arange(128), codes, gradient, 1, ranks=part
        )
        gradients.append((loss, gradient))
    (whole, all_of_it), (first, lower), (second, upper) = gradients
    assert first > 0
    assert second > 0
    np.testing.assert_allclose(first + second, whole, rtol=1e-5)
    np.testing.assert_allclose(lower + upper, all_of_it, atol=1e-6)
    assert np.abs(lower).max() > 1e-4
    assert np.abs(upper).max() > 1e-4


def test_resumes_on_another_number_of_ranks():
    text = """
class Stop:
    def on_batch_end(self, state):
        return state.epoch == 2 and state.batch == 3
import sys
train = TRAININGS["adamw"]
stop = [Stop()] if sys.argv[1] == "stop" else []
model = train(epochs=4, callbacks=stop, comm=comm, threads=1, seed=1,
              checkpoint="run", resume=True)
if rank == 0:
    print(digest(model))
"""
    path = script(text)
    whole = mpi_trainings.TRAININGS["adamw"](epochs=4, threads=1, seed=1)
    code, _, err = run(3, path, "stop")
    assert code == 0, err
    # what stopped it is part of the checkpoint; go on from one before
    newest = sorted(Path("run").glob("checkpoint-*.safetensors"))[-1]
    newest.unlink()
    code, out, err = run(2, path, "go on")
    assert code == 0, err
    assert out.strip() == mpi_trainings.digest(whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("LABELS[7] += rank", "expected the same labels in all processes"),
        ("IMAGES[3, 3, 3] += rank", "expected the same images in all processes"),
        ("options['batch_size'] = 50 + rank", "expected the same batch_size in all"),
        ("options['epochs'] = 2 + rank", "expected the same epochs in all processes"),
        (
            "class At: on_batch_end = on_epoch_end = lambda self, state: None\n"
            "if rank: del At.on_batch_end\n"
            "options['callbacks'] = [At()]",
            "expected the same number of callbacks with on_batch_end in all",
        ),
        (  # the text says so after an epoch
            "def change(state): state.model.parameter_vector[:9] = 0\n"
            "options['callbacks'] = [change]",
            "expected the same weights after epoch 2 in all",
        ),
    ],
)
def test_processes_that_differ_are_told_apart(change, said):
    path = script(
        f"options = {{}}\n{change}\n"
        "try:\n"
        "    TRAININGS['sgd'](comm=comm, **options)\n"
        "except ValueError as error:\n"
        "    print(f'{error}\\n', end='')\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert out.count(f"comm: {said}") == 2, out


def test_what_fails_in_one_rank_is_said_in_the_others():
    path = script(
        "class Fail:\n"
        "    def on_epoch_end(self, state):\n"
        "        raise OSError('the disk is full')\n"
        "try:\n"
        "    TRAININGS['sgd'](comm=comm, callbacks=[Fail()])\n"
        "except Exception as error:\n"
        "    print(f'{type(error).__name__}: {error}\\n', end='', flush=True)\n"
    )
    code, out, err = run(3, path)
    assert code == 0, err
    assert out.count("the disk is full") == 3


@pytest.mark.parametrize(
    ("cpus", "quota", "share"),
    [
        ("range(7)", 99, 3),
        ("range(7)", 4, 2),  # of a container
        ("range(4 * rank, 4 * rank + 4)", 99, 4),  # each is bound to its own
        ("[rank]", 99, 1),
    ],
)
def test_processes_of_one_machine_share_its_cpus(cpus, quota, share):
    """Unless `threads` says how many each has."""
    path = script(
        "from lenet5c.training import loop, ranks\n"
        f"ranks.usable_cpus = lambda: set({cpus})\n"
        f"ranks.cpu_quota = lambda: {quota}\n"
        "loop.resolve_threads = lambda threads: threads or 7\n"
        "model, seen = small(), set()\n"
        "loss_of_batch = model.loss_of_batch\n"
        "def watched(*given, **options):\n"
        "    seen.add(given[4])\n"
        "    return loss_of_batch(*given[:4], 1, **options)\n"
        "model.loss_of_batch = watched\n"
        "for threads in None, 5:\n"
        "    model.fit(IMAGES, LABELS, epochs=1, threads=threads, comm=comm)\n"
        "print(f'{sorted(seen)}\\n', end='', flush=True)\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert out.splitlines() == [f"[{share}, 5]"] * 2


def test_rank_0_alone_calls_back_and_all_stop():
    path = script(
        "calls = []\n"
        "class Stop:\n"
        "    def on_batch_end(self, state):\n"
        "        calls.append(state.batch)\n"
        "        return state.epoch == 2\n"
        "model = TRAININGS['sgd'](comm=comm, callbacks=[Stop()], epochs=9)\n"
        "print(f'{rank} {len(calls)} {digest(model)}\\n', end='', flush=True)\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    (zero, calls, bits), (one, none, same) = sorted(map(str.split, out.splitlines()))
    assert (zero, calls, one, none) == ("0", "11", "1", "0")
    assert bits == same


def test_an_error_that_pickle_cannot_make_anew_is_said_by_its_text():
    path = script(
        "class Odd(Exception):\n"
        "    def __init__(self, what, why):\n"
        "        super().__init__(f'{what} {why}')\n"
        "def fail(state):\n"
        "    raise Odd('the disk', 'is full')\n"
        "try:\n"
        "    TRAININGS['sgd'](comm=comm, callbacks=[fail])\n"
        "except Exception as error:\n"
        "    said = comm.allgather(f'{type(error).__name__}: {error}')\n"
        "if rank == 0: print(*said, sep='\\n')\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert out.splitlines() == [
        "Odd: the disk is full",
        "RankError: rank 0: Odd: the disk is full",
    ]


def test_images_that_one_rank_refuses_end_all_at_once_and_the_next_training_runs():
    path = script(
        "import time\n"
        "began = time.monotonic()\n"
        "good = LABELS.copy()\n"
        "if rank == 1: LABELS.resize(599, refcheck=False)\n"
        "import mpi_trainings\n"
        "mpi_trainings.LABELS = LABELS if rank == 1 else good\n"
        "try:\n"
        "    TRAININGS['sgd'](comm=comm)\n"
        "except Exception as error:\n"
        "    soon = time.monotonic() - began < 20\n"
        "    print(f'{soon} {type(error).__name__}: {error} ', end='', flush=True)\n"
        "mpi_trainings.LABELS = good\n"
        "print(digest(TRAININGS['sgd'](comm=comm)) + ' ', end='', flush=True)\n"
    )
    code, out, err = run(3, path)
    assert code == 0, err
    assert out.count("True RankError: rank ") == 2
    assert out.count("True ValueError: labels: expected one for each of the 600") == 1
    assert out.count(mpi_trainings.digest(mpi_trainings.TRAININGS["sgd"]())) == 3


def test_communicators_count_their_own_trainings():
    path = script(
        "half = comm.Split(rank == 2)\n"
        "for each in (half, comm, MPI.COMM_SELF, comm):\n"
        "    model = TRAININGS['few images'](comm=each)\n"
        "    model = TRAININGS['sgd'](comm=each)\n"
        "print(digest(model) + ' ', end='', flush=True)\n"
    )
    code, out, err = run(3, path)
    assert code == 0, err
    assert out.count(mpi_trainings.digest(mpi_trainings.TRAININGS["sgd"]())) == 3


def test_nothing_is_received_or_said_after_an_error():
    path = script(
        "import threading\n"
        "from lenet5c.training import ranks\n"
        "ranks.SIGN_SECONDS, ranks.COMING = 0.1, 1.0\n"
        "one = ranks.Ranks(comm)\n"
        "try:\n"
        "    with one:\n"
        "        if rank == 1: raise OSError\n"
        "        wire = one.room(16)\n"
        "        one.exchange([8, 16])\n"
        "except (OSError, RuntimeError):\n"
        "    pass\n"
        "comm.Barrier()\n"
        "if rank == 1: comm.Send([b'12345678', MPI.BYTE], 0, one._tag)\n"
        "comm.Barrier()\n"
        "if rank == 0:\n"
        "    print('wire', any(wire))\n"
        "    try:\n"
        "        ranks.Ranks(comm).__enter__()\n"
        "    except lenet5c.RankError as error:\n"
        "        print(error)\n"
        "count = comm.allgather(threading.active_count())\n"
        "if rank == 0: print('threads', count)\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert "wire False" in out
    said = "rank 1 (not heard of yet) did not come to the training in 1 s"
    assert said in out
    assert "threads [1, 1]" in out


def test_a_program_that_goes_on_after_errors_ends_well():
    path = script(
        "class Break:\n"
        "    def on_batch_end(self, state):\n"
        "        if state.epoch == 2: raise KeyboardInterrupt\n"
        "try:\n"
        "    TRAININGS['sgd'](comm=comm, callbacks=[Break()])\n"
        "except (KeyboardInterrupt, lenet5c.RankError) as error:\n"
        "    said = comm.gather(type(error).__name__)\n"
        "if rank == 0: print(said)\n"
    )
    for _ in range(6):  # which messages are on their way differs
        code, out, err = run(3, path)
        assert code == 0, err
        assert out == "['KeyboardInterrupt', 'RankError', 'RankError']\n"


def test_signs_of_life_are_taken_by_ranks_that_never_wait_long():
    path = script(
        "from lenet5c.training import ranks\n"
        "ranks.SIGN_SECONDS, ranks.LOOKS = 1e3, 1 << 30\n"
        "with ranks.Ranks(comm) as one:\n"
        "    for _ in range(50): one._sign(None)\n"
        "    comm.Barrier()\n"
        "    ranks.SIGN_SECONDS = 0.0  # that long ago they were last taken\n"
        "    one.same({})\n"
        "left = 0\n"
        "while (message := comm.improbe(1 - rank, one._tag + 1)) is not None:\n"
        "    message.recv()\n"
        "    left += 1\n"
        "left = comm.allgather(left)\n"
        "if rank == 0: print(max(left))\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert int(out) < 10


def test_a_rank_that_cannot_show_life_is_waited_for():
    path = script(
        "import time\n"
        "from lenet5c.training import ranks\n"
        "ranks.SIGN_SECONDS, ranks.SILENCE = 0.1, 0.5\n"
        "def slow(state): time.sleep(1.5)\n"
        "TRAININGS['sgd'](comm=comm, callbacks=[slow], epochs=1)\n"
        "many = MPI.Query_thread() == MPI.THREAD_MULTIPLE\n"
        "print(f'{many} ', end='', flush=True)\n"
    )
    text = "import mpi4py\nmpi4py.rc.thread_level = 'serialized'\n"
    path.write_text(text + path.read_text(encoding="utf-8"), encoding="utf-8")
    code, out, err = run(2, path)
    assert code == 0, err
    assert out.count("False ") == 2


def test_a_rank_that_comes_late_is_waited_for():
    path = script(
        "import time\n"
        "from lenet5c.training import ranks\n"
        "ranks.SIGN_SECONDS, ranks.SILENCE = 0.1, 2.0\n"
        "if rank == 0: time.sleep(3.0)\n"
        "model = TRAININGS['sgd'](comm=comm)\n"
        "print(digest(model) + ' ', end='', flush=True)\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert out.count(mpi_trainings.digest(mpi_trainings.TRAININGS["sgd"]())) == 2


def test_ranks_that_are_all_stopped_for_a_while_go_on():
    """As a queue does that suspends jobs: rank 1 first, which waits for a callback."""
    path = script(
        "import os, signal, time\n"
        "from lenet5c.training import ranks\n"
        "ranks.SIGN_SECONDS, ranks.SILENCE = 0.2, 1.5\n"
        "processes = comm.allgather(os.getpid())\n"
        "def stop(state):\n"
        "    if os.fork() == 0:\n"
        "        for each in processes: os.kill(each, signal.SIGSTOP)\n"
        "        time.sleep(2.0)\n"
        "        for each in reversed(processes):\n"
        "            os.kill(each, signal.SIGCONT)\n"
        "            time.sleep(0.3)\n"
        "        os._exit(0)\n"
        "    time.sleep(1.0)\n"
        "model = TRAININGS['sgd'](comm=comm, callbacks=[stop], epochs=1)\n"
        "print(f'{rank} ', end='', flush=True)\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert sorted(out.split()) == ["0", "1"]


def test_rank_0_alone_warns_and_logs():
    path = script(
        "import logging, warnings\n"
        "logging.basicConfig(level=logging.INFO, format='LOG %(message)s')\n"
        "IMAGES[:] = rng.integers(0, 256, IMAGES.shape)\n"
        "model = TRAININGS['sgd'](comm=comm, optimizer=lambda: SGD(1e-30), epochs=3)\n"
    )
    code, _, err = run(3, path)
    assert code == 0, err
    assert err.count("nothing was learned") == 1
    assert err.count("LOG ") == 3


@contextmanager
def training_for_ever(folder: str) -> Iterator[subprocess.Popen[str]]:
    """Three processes, that have written checkpoints."""
    with started(
        3,
        *("-m", "lenet5c", "train", "--mpi", "--threads", 1, "--epochs", 9999),
        *("--checkpoint", folder, "--checkpoint-seconds", 0.05),
    ) as process:
        end = time.monotonic() + 60
        while len(list(Path(folder).glob("*.safetensors"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        yield process


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="the ranks are found in /proc"
)


@needs_proc
def test_a_rank_that_is_killed_ends_all_and_leaves_checkpoints_whole():
    with training_for_ever("run") as process:
        os.kill(ranks_running()[1], signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode != 0
    code, _, err = run(
        2,
        *("-m", "lenet5c", "train", "--mpi", "--epochs", 9999, "--max-seconds", 0.1),
        *("--checkpoint", "run", "--resume", "--checkpoint-seconds", 0.05),
    )
    assert code == 0, err
    assert "damaged" not in err


@needs_proc
def test_a_rank_that_stops_is_named_by_the_others():
    with training_for_ever("run") as process:
        stopped = ranks_running()[1]
        os.kill(stopped, signal.SIGSTOP)
        _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"rank 1 (process {stopped} on " in err
    assert f"said nothing for {ranks.SILENCE:g} s" in err


@needs_proc
@pytest.mark.parametrize("interrupted", [0, 1])
def test_ctrl_c_in_one_rank_saves_the_model(interrupted):
    with training_for_ever("run") as process:
        os.kill(ranks_running()[interrupted], signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "the model trained so far is saved in lenet5.lenet5c.interrupted" in err
    assert "error" not in err
    assert lenet5c.load("lenet5.lenet5c.interrupted").fitted


def test_the_command_says_an_error_once():
    code, out, err = run(3, "-m", "lenet5c", "train", "--mpi", "--data", "nowhere")
    assert code == 2
    assert out == ""
    assert err.count("lenet5c: error: ") == 1
    assert "rank 0: --data: 'nowhere' does not exist" in err


def test_communicators_that_cannot_train_are_refused():
    path = script(
        "between = comm.Split(rank).Create_intercomm(0, comm, 1 - rank)\n"
        "for each in MPI.COMM_NULL, between, MPI.Comm:\n"
        "    try:\n"
        "        TRAININGS['sgd'](comm=each)\n"
        "    except (TypeError, ValueError) as error:\n"
        "        print(f'{error}\\n', end='', flush=True)\n"
    )
    code, out, err = run(2, path)
    assert code == 0, err
    assert out.count("comm: expected a communicator of which this process is one") == 2
    assert out.count("comm: expected a communicator of one group of processes") == 2
    assert out.count("comm: expected an mpi4py communicator, as MPI.COMM_WORLD") == 2


def test_comm_has_to_be_a_communicator():
    with pytest.raises(
        TypeError, match=r"comm: expected an mpi4py communicator.*got 2"
    ):
        mpi_trainings.TRAININGS["sgd"](comm=2)
