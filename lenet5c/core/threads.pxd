"""What csrc/team.h offers: threads that share the tasks of loops.

    cdef Team *team = take_team(threads)
    run(team, watch, next_loop, &job)  # several loops, one after the other
    share(team, watch, count, work, &job)  # or one: work(&job, 0), work(&job, 1), ...
    give_back(team)

A `watch_signals` lets Ctrl-C end them; the error is raised by `raise_signals`.
"""

cdef extern from "Python.h":
    # What a handler raises stays raised in its thread; cpython.exc would look at it.
    int check_signals "PyErr_CheckSignals"() noexcept

cdef extern from "team.h" nogil:
    ctypedef struct Team "lenet5c_team"
    ctypedef void (*Work "lenet5c_task")(const void *job, int number) noexcept nogil
    # Sets the work of the next loop; how many tasks it has, or -1 after the last loop.
    ctypedef int (*NextLoop "lenet5c_next_loop")(void *job, Work *work) noexcept nogil
    ctypedef struct Watch "lenet5c_watch":
        pass
    Watch new_watch "lenet5c_new_watch"(int (*ends)() noexcept nogil)
    bint is_over "lenet5c_is_over"(const Watch *watch)
    bint is_lost "lenet5c_is_lost"(const Watch *watch)
    bint ends "lenet5c_ends"(Watch *watch, int number)
    Team *take_team "lenet5c_take_team"(int threads)
    void run "lenet5c_run"(Team *team, Watch *watch, NextLoop next_loop, void *job)
    void share "lenet5c_share"(
        Team *team, Watch *watch, int count, Work work, const void *job)
    void give_back "lenet5c_give_back"(Team *team)
    int lenet5c_thread()
    int lenet5c_max_threads()
    int lenet5c_has_openmp()
    const char *lenet5c_system()


cdef inline int signal_raises() noexcept with gil:
    """Runs Python's signal handlers, which wait for the main thread; whether one raises."""
    return check_signals() != 0


cdef inline int answer_signals() except -1:
    """Runs Python's signal handlers, and raises what one of them raises."""
    return check_signals()


cdef inline Watch watch_signals() noexcept:
    """That of a call by a thread that Python knows."""
    return new_watch(signal_raises)


cdef inline int raise_signals(const Watch *watch) except? -1:
    """Raises what a signal handler has raised in a call that is over. One that has forked
    instead leaves the child a call that cannot go on."""
    if is_lost(watch):
        raise RuntimeError(
            "a signal handler has forked in the middle of a call: expected the child to "
            "end or to run another program, and it came back to the call, whose threads "
            "are its parent's"
        )
    return -1 if is_over(watch) else 0
