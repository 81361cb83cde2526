"""What the CPU could do: multiply-adds without memory, for benchmarks."""

from lenet5c.core.lanes cimport lanes, lanes_keep, lanes_set, lanes_sum


cdef inline float multiply_add_rounds(Py_ssize_t rounds) noexcept nogil:
    """`rounds` times 12 independent multiply-adds on registers alone."""
    cdef lanes[12] acc
    cdef lanes a, b
    cdef int i
    cdef Py_ssize_t _
    cdef lanes total = lanes_set(0)
    a = lanes_keep(lanes_set(1))
    b = lanes_keep(lanes_set(1e-9))
    for i in range(12):
        acc[i] = lanes_set(i)
    for _ in range(rounds):
        a = lanes_keep(a)
        for i in range(12):
            acc[i] += a * b
    for i in range(12):
        total += acc[i]
    return lanes_sum(total)
