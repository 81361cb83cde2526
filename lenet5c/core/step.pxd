"""An optimizer's step on the flat parameter vector, in slices that threads share."""

from lenet5c.core.kernels.update cimport adamw_step, average_step, sdlm_step, sgd_step
from lenet5c.core.plan cimport SLICE, slices_of
from lenet5c.core.threads cimport Team, Work, give_back, share, take_team

cdef enum Rule:
    SGD
    ADAMW
    SDLM

cdef struct Update:
    Rule rule
    float *parameters
    const float *gradient
    float *first  # velocity, first moment, or rates
    float *second  # second moment
    Py_ssize_t n
    Py_ssize_t step  # number of this step, from 1
    float momentum, beta1, beta2, eps, weight_decay
    bint nesterov


cdef struct Step:
    # what its slices share
    const Update *update
    float learning_rate
    float correction1, correction2  # of AdamW's moments, which start at 0

cdef struct Average:
    float *average
    const float *parameters
    Py_ssize_t n
    float part


cdef inline void share_slices(
    Py_ssize_t n, int threads, Work work, const void *of
) noexcept nogil:
    """work(of, i) for each slice of n parameters."""
    cdef int slices = slices_of(n)
    cdef Team *team = take_team(min(threads, slices))
    share(team, NULL, slices, work, of)
    give_back(team)


cdef inline void run_update(
    const Update *u, float learning_rate, int threads
) noexcept nogil:
    """One step, threads splitting the parameters."""
    cdef Step step
    step.update = u
    step.learning_rate = learning_rate
    step.correction1 = 1 - <double>u.beta1 ** u.step
    step.correction2 = 1 - <double>u.beta2 ** u.step
    share_slices(u.n, threads, update_slice, &step)


cdef inline void update_slice(const void *of, int number) noexcept nogil:
    cdef const Step *step = <const Step *>of
    cdef const Update *u = step.update
    cdef Py_ssize_t at = <Py_ssize_t>number * SLICE
    cdef Py_ssize_t n = min(<Py_ssize_t>SLICE, u.n - at)
    if u.rule == ADAMW:
        adamw_step(
            u.parameters + at, u.gradient + at, u.first + at, u.second + at, n,
            step.learning_rate, u.beta1, u.beta2, u.eps, u.weight_decay,
            step.correction1, step.correction2,
        )
    elif u.rule == SDLM:
        sdlm_step(
            u.parameters + at, u.gradient + at, u.first + at, n, step.learning_rate
        )
    else:
        sgd_step(
            u.parameters + at, u.gradient + at, u.first + at, n, step.learning_rate,
            u.momentum, u.nesterov, u.weight_decay,
        )


cdef inline void run_average(
    float *average, const float *parameters, Py_ssize_t n, float part, int threads
) noexcept nogil:
    cdef Average a
    a.average = average
    a.parameters = parameters
    a.n = n
    a.part = part
    share_slices(n, threads, average_slice, &a)


cdef inline void average_slice(const void *of, int number) noexcept nogil:
    cdef const Average *a = <const Average *>of
    cdef Py_ssize_t at = <Py_ssize_t>number * SLICE
    average_step(
        a.average + at, a.parameters + at, min(<Py_ssize_t>SLICE, a.n - at), a.part
    )
