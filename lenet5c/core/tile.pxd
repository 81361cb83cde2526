"""Register tiles: the two loops that hold nearly all of the network's arithmetic.

A tile is TF x TX accumulators of type `lanes`. TF and TX are constants wherever these
functions are called, every call is inlined, and gcc -O3 turns the array into registers.
The smaller side of a tile is loaded first and kept, the other is streamed past it; left
to itself gcc loads the same operand several times.
"""

from lenet5c.core.lanes cimport (
    TILE_FIVE_F, TILE_FIVE_X, TILE_FOUR_F, TILE_FOUR_X, TILE_MAX, TILE_PAIR_F,
    TILE_PAIR_X, TILE_SLIM_F, TILE_SLIM_X, TILE_TALL_F, TILE_TALL_X, TILE_THREE_F,
    TILE_THREE_X, TILE_WIDE_F, TILE_WIDE_X, lanes, lanes_keep, lanes_set, lanes_sums,
)

cdef enum Tile:
    TALL
    PAIR
    THREE
    FOUR
    FIVE
    SLIM
    WIDE
    SINGLE  # one accumulator: slow, for shapes that no other tile fits
    TILES


cdef inline int tile_filters(int tile) noexcept nogil:
    """How many rows of accumulators `tile` has."""
    if tile == TALL:
        return TILE_TALL_F
    if tile == PAIR:
        return TILE_PAIR_F
    if tile == THREE:
        return TILE_THREE_F
    if tile == FOUR:
        return TILE_FOUR_F
    if tile == FIVE:
        return TILE_FIVE_F
    if tile == SLIM:
        return TILE_SLIM_F
    if tile == WIDE:
        return TILE_WIDE_F
    return 1


cdef inline int tile_columns(int tile) noexcept nogil:
    """How many columns of accumulators `tile` has."""
    if tile == TALL:
        return TILE_TALL_X
    if tile == PAIR:
        return TILE_PAIR_X
    if tile == THREE:
        return TILE_THREE_X
    if tile == FOUR:
        return TILE_FOUR_X
    if tile == FIVE:
        return TILE_FIVE_X
    if tile == SLIM:
        return TILE_SLIM_X
    if tile == WIDE:
        return TILE_WIDE_X
    return 1


cdef inline double tap_cost(int f, int x) noexcept nogil:
    """Cycles that one tap of f x x accumulators takes.

    Two multiply-adds and two loads a cycle, four cycles to wait for a multiply-add.
    """
    return max(f * x / 2.0, (f + x) / 2.0, 4.0)


cdef inline double tile_cost(int tile, int filters, int columns) noexcept nogil:
    """Cycles that one tap of a filters x columns area takes with `tile`."""
    cdef int f = tile_filters(tile)
    cdef int x = tile_columns(tile)
    cdef int tiles = ((filters + f - 1) // f) * ((columns + x - 1) // x)
    return tiles * tap_cost(f, x)


cdef inline int cheapest_tile(int filters, int columns, bint whole) noexcept nogil:
    """The tile for an area of filters x columns accumulators.

    No tile is wider than `columns`; with `whole`, none has more rows than `filters`.
    """
    cdef int tile, best = SINGLE
    for tile in range(TILES):
        if tile_columns(tile) > columns or (whole and tile_filters(tile) > filters):
            continue
        if tile_cost(tile, filters, columns) < tile_cost(best, filters, columns):
            best = tile
    return best


cdef inline void multiply_tile(
    lanes *acc,
    const lanes *x, Py_ssize_t x_channel, Py_ssize_t x_row, Py_ssize_t x_tap,
    Py_ssize_t x_column,
    const float *weight, Py_ssize_t weight_channel, Py_ssize_t weight_row,
    Py_ssize_t weight_tap,
    int channels, int rows, int taps, int TF, int TX,
) noexcept nogil:
    """acc[f, t] += sum over c, r, k of weight[c, r, k, f] * x[c, r, k + column t]"""
    cdef int c, r, f, t, _
    cdef const lanes *row
    cdef const float *w
    cdef lanes a[TILE_MAX]
    cdef lanes b
    for c in range(channels):
        for r in range(rows):
            row = x + c * x_channel + r * x_row
            w = weight + c * weight_channel + r * weight_row
            for _ in range(taps):
                if TF <= TX:
                    for f in range(TF):
                        a[f] = lanes_set(w[f])
                    for t in range(TX):
                        b = lanes_keep(row[t * x_column])
                        for f in range(TF):
                            acc[f * TX + t] += a[f] * b
                else:
                    for t in range(TX):
                        a[t] = lanes_keep(row[t * x_column])
                    for f in range(TF):
                        b = lanes_set(w[f])
                        for t in range(TX):
                            acc[f * TX + t] += b * a[t]
                row += x_tap
                w += weight_tap


cdef inline void correlate_tile(
    lanes *acc,
    const lanes *x, Py_ssize_t x_row, Py_ssize_t x_column, Py_ssize_t x_tap,
    const lanes *dy, Py_ssize_t dy_filter, Py_ssize_t dy_row, Py_ssize_t dy_column,
    int rows, int columns, int TF, int TX,
) noexcept nogil:
    """acc[f, t] += sum over r, c of dy[f, r, c] * x[r, c + t x_tap]"""
    cdef int r, f, t, _
    cdef const lanes *xs
    cdef const lanes *ds
    cdef lanes a[TILE_MAX]
    cdef lanes b
    for r in range(rows):
        xs = x + r * x_row
        ds = dy + r * dy_row
        for _ in range(columns):
            if TF <= TX:
                for f in range(TF):
                    a[f] = lanes_keep(ds[f * dy_filter])
                for t in range(TX):
                    b = lanes_keep(xs[t * x_tap])
                    for f in range(TF):
                        acc[f * TX + t] += a[f] * b
            else:
                for t in range(TX):
                    a[t] = lanes_keep(xs[t * x_tap])
                for f in range(TF):
                    b = lanes_keep(ds[f * dy_filter])
                    for t in range(TX):
                        acc[f * TX + t] += b * a[t]
            xs += x_column
            ds += dy_column


cdef inline void sum_tile(const lanes *acc, float *sums, int count) noexcept nogil:
    """sums[i] = sum over the lanes of acc[i]"""
    cdef lanes kept[TILE_MAX]  # lanes_keep: or gcc makes both one array, in memory
    cdef int i
    for i in range(count):
        kept[i] = lanes_keep(acc[i])
    lanes_sums(kept, count, sums)
