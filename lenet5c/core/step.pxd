"""An optimizer's step on the flat parameter vector, in slices that threads share."""

from cython.parallel cimport prange

from lenet5c.core.kernels.update cimport adamw_step, average_step, sgd_step
from lenet5c.core.plan cimport SLICE

cdef struct Update:
    bint adam  # AdamW; otherwise SGD
    float *parameters
    const float *gradient
    float *first  # velocity, or first moment
    float *second  # second moment
    Py_ssize_t n
    Py_ssize_t step  # number of this step, from 1
    float momentum, beta1, beta2, eps, weight_decay
    bint nesterov


cdef inline int slices_of(Py_ssize_t n) noexcept nogil:
    """How many tasks share n parameters."""
    return (n + SLICE - 1) // SLICE


cdef inline void run_update(
    const Update *u, float learning_rate, int threads
) noexcept nogil:
    """One step, threads splitting the parameters."""
    cdef int slices = slices_of(u.n)
    cdef float correction1 = 1 - <double>u.beta1 ** u.step
    cdef float correction2 = 1 - <double>u.beta2 ** u.step
    cdef int i
    threads = max(1, min(threads, slices))
    for i in prange(slices, schedule="static", num_threads=threads):
        run_slice(u, <Py_ssize_t>i * SLICE, learning_rate, correction1, correction2)


cdef inline void run_slice(
    const Update *u, Py_ssize_t at, float learning_rate, float correction1,
    float correction2,
) noexcept nogil:
    cdef Py_ssize_t n = min(<Py_ssize_t>SLICE, u.n - at)
    if u.adam:
        adamw_step(
            u.parameters + at, u.gradient + at, u.first + at, u.second + at, n,
            learning_rate, u.beta1, u.beta2, u.eps, u.weight_decay, correction1,
            correction2,
        )
    else:
        sgd_step(
            u.parameters + at, u.gradient + at, u.first + at, n, learning_rate,
            u.momentum, u.nesterov, u.weight_decay,
        )


cdef inline void run_average(
    float *average, const float *parameters, Py_ssize_t n, float share, int threads
) noexcept nogil:
    cdef int slices = slices_of(n)
    cdef int i
    threads = max(1, min(threads, slices))
    for i in prange(slices, schedule="static", num_threads=threads):
        average_step(
            average + <Py_ssize_t>i * SLICE, parameters + <Py_ssize_t>i * SLICE,
            min(<Py_ssize_t>SLICE, n - <Py_ssize_t>i * SLICE), share,
        )
