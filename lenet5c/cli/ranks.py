"""`--mpi`: a command that several processes run together."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from lenet5c.cli.errors import BAD_USAGE, CHECK_FAILED, CommandError, explain
from lenet5c.cli.output import say
from lenet5c.training.ranks import RankError

FIRST_WORD = 1.0  # seconds: what fails in all processes, rank 0 says for them


@contextmanager
def all_ranks(debug: bool) -> Iterator[Any]:
    """MPI's communicator of all processes, of which rank 0 alone writes on stdout and
    stderr. An error ends them all: it is said with the rank's number. Ctrl-C in one is
    Ctrl-C in all.

    Raises
    ------
    CommandError
        If mpi4py is not installed, or finds no MPI.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise CommandError(
            "--mpi needs mpi4py, and an MPI that it finds: pip install 'lenet5c[mpi]' "
            f"mpich ({explain(ImportError(str(error)))})"
        ) from error
    comm = MPI.COMM_WORLD
    rank = comm.Get_rank()
    try:
        with ExitStack() as stack:
            if rank > 0:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield comm
    except Exception as error:
        if comm.Get_size() == 1:
            raise
        if isinstance(error, RankError) and error.interrupted:
            raise KeyboardInterrupt from error  # the others end by themselves
        if rank > 0 and not isinstance(error, RankError):
            time.sleep(FIRST_WORD)
        if debug:
            traceback.print_exc()
        say(f"lenet5c: error: rank {rank}: {explain(error)}")
        sys.stdout.flush()
        known = isinstance(error, (CommandError, ValueError, TypeError, OSError))
        comm.Abort(BAD_USAGE if known else CHECK_FAILED)
