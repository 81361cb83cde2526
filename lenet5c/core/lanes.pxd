"""What csrc/lanes.h offers; the arithmetic operators work on `lanes` as on floats."""

from libc.stdint cimport int64_t

cdef extern from "lanes.h" nogil:
    ctypedef float lanes
    ctypedef unsigned int ulanes  # 32 random bits in each lane
    enum:
        LANES
        TILE_ROW_X
        TILE_MAX
        TILE_SUMS
        TILE_TALL_F
        TILE_TALL_X
        TILE_PAIR_F
        TILE_PAIR_X
        TILE_THREE_F
        TILE_THREE_X
        TILE_FOUR_F
        TILE_FOUR_X
        TILE_FIVE_F
        TILE_FIVE_X
        TILE_SLIM_F
        TILE_SLIM_X
        TILE_WIDE_F
        TILE_WIDE_X
        TILE_FIELD_R
    const float LENET5C_AMPLITUDE  # of the scaled tanh: csrc/elementary.h
    const float LENET5C_SLOPE
    lanes lanes_set(float value)
    lanes lanes_keep(lanes v)
    int lanes_rounds(int n)
    lanes lanes_load(const float *values)
    void lanes_store(float *to, lanes v)
    void lanes_add_to(float *to, lanes v, int count)
    float lanes_sum(lanes v)
    void lanes_sums(const lanes *v, int count, float *sums)
    lanes lanes_min(lanes a, lanes b)
    lanes lanes_max(lanes a, lanes b)
    lanes lanes_where_equal(lanes a, lanes b, lanes yes, lanes no)
    lanes lanes_if_less(lanes a, lanes b, lanes yes, lanes no)
    lanes lanes_if_positive(lanes a, lanes yes)
    lanes lanes_choose_within(lanes a, lanes least, lanes most, lanes v)
    lanes lanes_round(lanes a)
    lanes lanes_floor(lanes a)
    lanes lanes_rescale(lanes a, int64_t m, int s)
    lanes lanes_uniform(ulanes key, unsigned int i)
    lanes lanes_normal(ulanes key, unsigned int i)
    lanes lanes_tanh(lanes x)
    lanes lanes_exp(lanes x)
    void lanes_transpose(lanes *rows)
    lanes lanes_pairs(lanes a, lanes b)
    lanes lanes_twice_low(lanes v)
    lanes lanes_twice_high(lanes v)
    lanes lanes_byte(lanes v, int number)

cdef enum:
    CACHE_LINE = 64  # bytes


cdef inline Py_ssize_t odd_lines(Py_ssize_t size) noexcept nogil:
    """`size` lanes, rounded up to an odd number of cache lines.

    At strides of powers of two, all maps would compete for the same few places in the
    cache.
    """
    cdef Py_ssize_t line = max(1, CACHE_LINE // <Py_ssize_t>sizeof(lanes))
    return ((size + line - 1) // line | 1) * line
