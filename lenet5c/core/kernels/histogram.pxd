"""How often each byte occurs."""

cdef enum:
    TABLES = 4  # that take turns: equal neighbours would wait for each other in one


cdef inline void count_bytes(
    const unsigned char *values, Py_ssize_t n, Py_ssize_t *counts
) noexcept nogil:
    """counts[b] += how many of the n values are b

    counts  (256,)  added to
    """
    cdef Py_ssize_t[TABLES * 256] tables
    cdef Py_ssize_t i
    cdef int t
    for t in range(TABLES * 256):
        tables[t] = 0
    for i from 0 <= i <= n - TABLES by TABLES:
        for t in range(TABLES):
            tables[t * 256 + values[i + t]] += 1
    for i in range(n - n % TABLES, n):
        tables[values[i]] += 1
    for t in range(TABLES * 256):
        counts[t % 256] += tables[t]
