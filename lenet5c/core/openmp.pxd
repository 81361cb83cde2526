"""What csrc/openmp.h offers: OpenMP, or one thread without it."""

cdef extern from "openmp.h" nogil:
    int lenet5c_max_threads()
    int lenet5c_thread()
    int lenet5c_has_openmp()
    int lenet5c_make_fork_safe()
