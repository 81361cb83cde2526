"""Several processes train one network, and say each other what they found: over MPI.

All have the same model, data and options, and do the same steps to the same bits. What
differs is whose shards of a batch a process computes (core/ranks.pxd), and that rank 0
alone shows progress, calls callbacks, looks at the clock, and writes checkpoints.
"""

import os
import pickle
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from lenet5c._support.threads import cpu_quota, usable_cpus

__all__ = ["RankError"]

Found = TypeVar("Found")

TAG = 18_000  # of messages; the one after it is of signs of life
TRAININGS = 1000  # before a tag comes again
SIGN_SECONDS = 4.0  # between two signs of life
SILENCE = 20.0  # seconds after which a rank is given up
COMING = 300.0  # and one that has not come to the training: it may read data elsewhere
SPIN_SECONDS = 1e-3  # to wait without sleep: longer than ranks differ in a step
FAREWELL = 1.0  # seconds to take what is on its way after an error
LOOKS = 64  # between two looks for signs of life


class RankError(RuntimeError):
    """Another process of the training has failed, or says nothing any more.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C is what ended the other process.

    Examples
    --------
    >>> error = lenet5c.RankError("rank 1 has said nothing for 20 s")
    >>> isinstance(error, RuntimeError), error.interrupted
    (True, False)
    """

    interrupted = False


class Ranks:
    """The processes of one training. A context: it is left when the training ends.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Its messages with tags from 18,000 to 19,999 are the training's.
    """

    # Requests of all trainings, with their memory: MPI reads and writes it until they
    # are done, which may be after the training that made them.
    _pending: ClassVar[list[Any]] = []
    _lock = threading.Lock()  # of `_pending`
    _counter: int | None = None  # MPI's key of a communicator's number of trainings

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self._others = [rank for rank in range(self.size) if rank != self.rank]
        self._number = self._count()  # the same in all: no message is of another one
        self._tag = TAG + 2 * (self._number % TRAININGS)
        self._names: Sequence[str] = ["not heard of yet"] * self.size
        self.share = 1  # of the CPUs, among the processes on this machine
        self._listened = time.monotonic()
        self._heard: dict[int, float] = {}  # when; of none until all have come
        self._failed: set[int] = set()  # ranks that have said so
        self._quiet: set[int] = set()  # ranks that cannot show life
        self._wire = bytearray()
        self._over = threading.Event()
        self._life = threading.Thread(target=self._show_life, daemon=True)

    def _count(self) -> int:
        """How many trainings the communicator has had, with this one."""
        if Ranks._counter is None:
            Ranks._counter = self._mpi.Comm.Create_keyval()
        number: int = (self._comm.Get_attr(Ranks._counter) or 0) + 1
        self._comm.Set_attr(Ranks._counter, number)
        return number

    def __enter__(self) -> "Ranks":
        # another thread may speak only if the library allows that
        speaks = self._mpi.Query_thread() == self._mpi.THREAD_MULTIPLE
        node = platform.node()
        try:
            if speaks:
                self._life.start()
            told = self._tell_all((os.getpid(), node, speaks, usable_cpus()))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self._heard = dict.fromkeys(self._others, time.monotonic())
        self._names = [f"process {process} on {its}" for process, its, *_ in told]
        cpus = [its_cpus for _, its, _, its_cpus in told if its == node]
        usable = min(len(set().union(*cpus)), cpu_quota())
        self.share = max(1, usable // len(cpus))
        self._quiet = {rank for rank in self._others if not told[rank][2]}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._life.is_alive():  # it must not speak when MPI has ended
            self._life.join()
        if error is not None:
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            interrupted = isinstance(error, KeyboardInterrupt)
            if isinstance(error, RankError):
                interrupted = error.interrupted
            self._sign((said, interrupted))
            self._take_the_rest()

    def _take_the_rest(self) -> None:
        """Take what comes until all others have failed as well: an MPI may end with an
        error if there are messages that nobody took."""
        end = time.monotonic() + FAREWELL
        status, byte = self._mpi.Status(), self._mpi.BYTE
        coming: list[Any] = []
        while time.monotonic() < end:
            with suppress(RankError):
                self._hear()
            while message := self._comm.Improbe(
                self._mpi.ANY_SOURCE, self._tag, status
            ):
                data = bytearray(status.Get_count(byte))
                coming.append(message.Irecv([data, byte]))
            coming = [request for request in coming if not request.Test()]
            if not coming and self._failed.issuperset(self._others):
                break
            time.sleep(1e-3)
        with self._lock:
            self._pending.extend(coming)

    def same(self, what: Mapping[str, Any]) -> None:
        """Raise a ValueError in all processes if one has another value of something."""
        told = self._tell_all(dict(what))
        for rank, other in enumerate(told):
            for name, value in other.items():
                if value != told[0].get(name):
                    raise ValueError(
                        f"comm: expected the same {name} in all processes, got "
                        f"{told[0].get(name)!r:.200} in rank 0 and {value!r:.200} in "
                        f"rank {rank}"
                    )

    def first(self, make: Callable[[], Found]) -> Found:
        """What `make` returns in rank 0, or raises, there and in all others."""
        if self.rank > 0:
            told: tuple[Found, Exception | None] = self._receive(0)
            found, error = told
            if error is not None:
                raise error
            return found
        try:
            result = make()
        except Exception as failed:
            self._say((None, _as_sent(failed)), self._others)
            raise
        self._say((result, None), self._others)
        return result

    def room(self, count: int) -> bytearray:
        """What `exchange` is about, of so many bytes at least."""
        if count > len(self._wire):
            self._wire = bytearray(count)
        return self._wire

    def exchange(self, ends: Sequence[int]) -> None:
        """Give the others this process' part of `room`, and take theirs.

        Parameters
        ----------
        ends : sequence of int
            Where the part of each rank ends; the next one begins there.
        """
        wire = memoryview(self._wire)
        starts = [0, *ends]
        parts = [wire[a:b] for a, b in zip(starts, ends, strict=False)]
        byte = self._mpi.BYTE
        received = {
            rank: self._comm.Irecv([parts[rank], byte], rank, self._tag)
            for rank in self._others
            if parts[rank]
        }
        waiting = {rank: [request] for rank, request in received.items()}
        try:
            if parts[self.rank]:
                for rank in self._others:
                    sent = self._comm.Isend([parts[self.rank], byte], rank, self._tag)
                    waiting.setdefault(rank, []).append(sent)
            self._wait(
                lambda: [
                    rank
                    for rank, requests in waiting.items()
                    if not self._mpi.Request.Testall(requests)
                ]
            )
        except BaseException:
            self._leave(waiting.values())
            raise

    def _leave(self, waiting: Iterable[list[Any]]) -> None:
        """Take back what has been asked for; what MPI may still read or write stays."""
        for requests in waiting:
            for request in requests:
                if request != self._mpi.REQUEST_NULL:
                    request.Cancel()
            with self._lock:
                self._pending.extend(requests)

    def _tell_all(self, value: Any) -> list[Any]:
        """Everybody's value, by rank."""
        self._say(value, self._others)
        return [
            value if rank == self.rank else self._receive(rank)
            for rank in range(self.size)
        ]

    def _say(self, value: Any, ranks: Iterable[int], sign: int = 0) -> None:
        message = self._number, value
        with self._lock:
            self._pending[:] = [one for one in self._pending if not one.Test()]
            for rank in ranks:
                sent = self._comm.isend(message, rank, self._tag + sign)
                self._pending.append(sent)

    def _receive(self, rank: int) -> Any:
        found: list[Any] = []

        def missing() -> list[int]:
            while (message := self._comm.improbe(rank, self._tag)) is not None:
                number, value = message.recv()
                if number == self._number:
                    found.append(value)
                    return []
            return [rank]

        self._wait(missing)
        return found[0]

    def _show_life(self) -> None:
        """Say now and then that this process runs, whatever it does."""
        while not self._over.wait(SIGN_SECONDS):
            self._sign(None)

    def _sign(self, failed: tuple[str, bool] | None) -> None:
        self._say(failed, self._others, sign=1)

    def _hear(self) -> None:
        """Take the signs of life that have come; raise what one has failed with."""
        self._listened = time.monotonic()
        for rank in self._others:
            while (message := self._comm.improbe(rank, self._tag + 1)) is not None:
                number, failed = message.recv()
                self._heard[rank] = self._listened
                if failed is not None and number == self._number:
                    self._failed.add(rank)
                    said, interrupted = failed
                    error = RankError(f"rank {rank} ({self._names[rank]}): {said}")
                    error.interrupted = interrupted
                    raise error

    def _wait(self, missing: Callable[[], list[int]]) -> None:
        """Wait until there are no ranks missing."""
        began = time.monotonic()
        looks = 0
        if began - self._listened > SIGN_SECONDS:  # or else they pile up
            self._hear()
        while ranks := missing():
            looks += 1
            if time.monotonic() - began > SPIN_SECONDS:
                time.sleep(5e-5)
            if looks % LOOKS:
                continue
            now = time.monotonic()
            if now - self._listened > SIGN_SECONDS:  # it was stopped itself, and so
                began = now  # may the others have been: they have to be heard anew
            self._hear()
            most = SILENCE if self._heard else COMING
            silent = [
                f"rank {rank} ({self._names[rank]})"
                for rank in ranks
                if now - max(began, self._heard.get(rank, began)) > most
                and rank not in self._quiet
            ]
            if silent:
                said = f"said nothing for {SILENCE:g} s: stopped, or cut off"
                if not self._heard:
                    said = f"did not come to the training in {COMING:g} s"
                raise RankError(f"{' and '.join(silent)} {said}")


def _as_sent(error: Exception) -> Exception:
    """The error, if pickle can make it anew; if not, one with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RankError(f"rank 0: {type(error).__name__}: {error}")
    return error
