"""What csrc/threads.h offers: threads that share the tasks of loops.

    cdef Team *team = take_team(threads)
    run(team, next_loop, &job)  # several loops, one after the other
    share(team, count, work, &job)  # or one: work(&job, 0), ..., work(&job, count - 1)
    give_back(team)
"""

cdef extern from "threads.h" nogil:
    ctypedef struct Team "lenet5c_team"
    ctypedef void (*Work "lenet5c_task")(const void *job, int number) noexcept nogil
    # Sets the work of the next loop; how many tasks it has, or -1 after the last loop.
    ctypedef int (*NextLoop "lenet5c_next_loop")(void *job, Work *work) noexcept nogil
    Team *take_team "lenet5c_take_team"(int threads)
    void run "lenet5c_run"(Team *team, NextLoop next_loop, void *job)
    void share "lenet5c_share"(Team *team, int count, Work work, const void *job)
    void give_back "lenet5c_give_back"(Team *team)
    int lenet5c_thread()
    int lenet5c_max_threads()
    int lenet5c_has_openmp()
