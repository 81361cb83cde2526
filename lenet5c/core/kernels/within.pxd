"""Whether numbers lie in a range."""

from lenet5c.core.lanes cimport (
    LANES, lanes, lanes_load, lanes_max, lanes_min, lanes_set, lanes_store,
)

cdef enum:
    SUMS = 4  # beside each other, as each waits for the one before


cdef inline bint all_within(
    const float *x, Py_ssize_t n, float least, float most
) noexcept nogil:
    """Whether `least` <= x[i] <= `most` for all n; NaN is not."""
    cdef lanes[SUMS] low, high, rest  # rest: 0, or NaN of what is not finite
    cdef lanes v
    cdef float[3][LANES] ends
    cdef bint within = True
    cdef Py_ssize_t i = 0
    cdef int k
    for k in range(SUMS):
        low[k] = lanes_set(most)
        high[k] = lanes_set(least)
        rest[k] = lanes_set(0)
    while i <= n - SUMS * LANES:
        for k in range(SUMS):
            v = lanes_load(x + i + k * LANES)
            low[k] = lanes_min(v, low[k])
            high[k] = lanes_max(v, high[k])
            rest[k] += v - v
        i += SUMS * LANES
    for k in range(1, SUMS):
        low[0] = lanes_min(low[0], low[k])
        high[0] = lanes_max(high[0], high[k])
        rest[0] += rest[k]
    lanes_store(ends[0], low[0])
    lanes_store(ends[1], high[0])
    lanes_store(ends[2], rest[0])
    for k in range(LANES):
        within = (
            within and ends[0][k] >= least and ends[1][k] <= most and ends[2][k] == 0
        )
    for i in range(i, n):
        within = within and least <= x[i] <= most
    return within
