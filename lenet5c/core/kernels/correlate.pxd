"""Convolution, and every layer that is one: dense layers are convolutions of a 1x1 map.

    C, F           channels in, filters (channels out)
    H W, OH OW     input map, output map
    KH KW, S, P    kernel, stride, zero padding

One routine, `correlate`, computes the forward pass and the gradient of the input. It reads
weights packed into the order in which the tiles need them:

    packed[filter tile][channel][tap row][tap column][filter of the tile]
"""

from libc.string cimport memcpy

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.lanes cimport (
    LANES, TILE_FIVE_F, TILE_FIVE_X, TILE_FOUR_F, TILE_FOUR_X, TILE_MAX, TILE_PAIR_F,
    TILE_PAIR_X, TILE_SLIM_F, TILE_SLIM_X, TILE_TALL_F, TILE_TALL_X, TILE_THREE_F,
    TILE_THREE_X, TILE_WIDE_F, TILE_WIDE_X, lanes, lanes_if_less, lanes_load, lanes_set,
    lanes_store, lanes_transpose,
)
from lenet5c.core.tile cimport (
    FIVE, FOUR, PAIR, SINGLE, SLIM, TALL, THREE, TILES, WIDE, multiply_tile, tap_cost,
    tile_columns, tile_filters,
)

cdef struct Bands:
    # rows of the output in the transform domain (winograd_rows.pxd)
    int eights, sixes  # how many there are of 8 elements, and behind them of 6

cdef enum:
    PASS_CHANNELS = 128


cdef struct Correlation

ctypedef void (*Correlate)(
    const Correlation *p, const lanes *x, const float *packed, const float *bias,
    lanes *y, const lanes *z, int activation, bint forward, int part, int parts,
) noexcept nogil

cdef struct Correlation:
    # y[f, oy, ox] = sum over c, r, k of
    #     w[f, c, r, k] * x[c, top + oy * step + r, x_start + ox * step + k]
    int channels, rows, taps  # what one output element sums over
    int height  # rows of x; those above and below count as zero
    int filters, out_h, out_w
    int top, step
    int left, right  # x is zero outside of these columns, seen from tap 0 of column 0
    Py_ssize_t x_start, x_channel, x_row  # first column, strides, in lanes
    Py_ssize_t y_start, y_filter, y_row, y_column
    int tile
    # weight of (filter, channel, row, tap): strides in the flat parameters, in floats
    Py_ssize_t w_start, w_filter, w_channel, w_row, w_tap
    Py_ssize_t packed  # where the packed weights start, in floats
    # of one element of a transform domain:
    int side  # outputs along the side of a tile (winograd.pxd)
    Bands bands
    int combined  # rows of the kernel that an element combines, `w_row` apart
    Correlate run  # `correlate`: a pointer, so that there is one copy of all its tiles


cdef inline Py_ssize_t packed_size(const Correlation *p) noexcept nogil:
    """Floats that the packed weights of `p` take: whole tiles, zeros included, and whole
    cache lines."""
    cdef int tf = tile_filters(p.tile)
    cdef Py_ssize_t tiles = (p.filters + tf - 1) // tf
    return (tiles * tf * p.channels * p.rows * p.taps + 15) // 16 * 16


cdef inline bint half_suffices(int columns, int TX) noexcept nogil:
    """Whether the `columns` that are left take no more than half a tile."""
    return TX % 2 == 0 and columns <= TX // 2


cdef inline double correlation_cost(const Correlation *p, int tile) noexcept nogil:
    """Cycles of one kernel row with `tile`, without the taps that lie in the padding."""
    cdef int tf = tile_filters(tile)
    cdef int tx = tile_columns(tile)
    cdef int column = 0
    cdef int taps
    cdef double cycles = 0
    while column < p.out_w:
        if half_suffices(p.out_w - column, tx):
            tx //= 2
        column = min(column, p.out_w - tx)
        taps = min(p.taps, p.right - column * p.step)
        taps -= max(0, p.left - (column + tx - 1) * p.step)
        cycles += max(0, taps) * tap_cost(tf, tx)
        column += tx
    return cycles * ((p.filters + tf - 1) // tf)


cdef inline int correlation_tile(const Correlation *p) noexcept nogil:
    """The cheapest tile that is not wider than the output."""
    cdef int tile, best = SINGLE
    for tile in range(TILES):
        if tile_columns(tile) <= p.out_w:
            if correlation_cost(p, tile) < correlation_cost(p, best):
                best = tile
    return best


cdef inline void leave_padding(Correlation *p) noexcept:
    """Leave out the rows and columns of the kernel that only ever lie in the padding."""
    cdef int first = max(0, -(p.top + (p.out_h - 1) * p.step))
    cdef int end = min(p.rows, p.height - p.top)
    p.w_start += first * p.w_row
    p.top += first
    p.rows = max(0, end - first)
    first = max(0, p.left - (p.out_w - 1) * p.step)
    end = min(p.taps, p.right)
    p.w_start += first * p.w_tap
    p.x_start += first
    p.left -= first
    p.right -= first
    p.taps = max(0, end - first)


cdef inline void pack_weights(
    const Correlation *p, const float *weight, float *packed, int tile
) noexcept nogil:
    """packed[tile, c, r, k, f] = weight[f, c, r, k], zero beyond the last filter"""
    cdef int tf = tile_filters(p.tile)
    cdef int valid = min(tf, p.filters - tile * tf)
    cdef int channels = p.channels
    cdef int rows = p.rows
    cdef Py_ssize_t taps = p.taps
    cdef Py_ssize_t w_tap = p.w_tap
    cdef int c, r
    cdef const float *w
    packed += tile * channels * rows * taps * tf
    if rows * taps == 1:
        w_tap = p.w_channel
        taps = channels
        channels = 1
    elif p.w_row == taps * w_tap and p.w_channel == rows * p.w_row:
        taps *= channels * rows  # all of a filter's taps, equally far apart
        channels = rows = 1
    for c in range(channels):
        for r in range(rows):
            w = weight + (
                p.w_start + tile * tf * p.w_filter + c * p.w_channel + r * p.w_row
            )
            if w_tap == 1 and taps >= LANES:
                transpose_taps(w, p.w_filter, packed, taps, tf, valid)
            else:
                copy_taps(w, p.w_filter, w_tap, packed, taps, tf, valid)
            packed += taps * tf


cdef inline void transpose_taps(
    const float *w, Py_ssize_t apart, float *packed, Py_ssize_t taps, int tf, int valid
) noexcept nogil:
    """packed[k, f] = w[f, k], zero from filter `valid` on

    Squares of filters and taps are transposed; the last one is moved back to end with the
    last tap. Whole registers are stored, the last filters first, and what is too much of
    one is written over by those that follow.

    w       [valid][taps]  float, filters `apart`, LANES taps at least
    packed  [taps][tf]     float, written
    """
    cdef const float *rows[LANES]
    cdef lanes square[LANES]
    cdef lanes filters = lanes_set(0)
    cdef int first = (tf - 1) // LANES * LANES
    cdef int f, i
    cdef Py_ssize_t k = 0
    cdef Py_ssize_t room = 0
    while first >= 0:
        for f in range(LANES):
            (<float *>&filters)[f] = first + f
            rows[f] = w + min(first + f, valid - 1) * apart
        k = 0
        while True:
            for f in range(LANES):
                square[f] = lanes_load(rows[f] + k)
            lanes_transpose(square)
            for i in range(LANES):
                square[i] = lanes_if_less(
                    filters, lanes_set(valid), square[i], lanes_set(0)
                )
            room = (taps - k) * tf - first
            if room >= (LANES - 1) * tf + LANES:
                for i in range(LANES):
                    lanes_store(packed + (k + i) * tf + first, square[i])
            else:
                for i in range(LANES):
                    store_some(packed + (k + i) * tf + first, square[i], room - i * tf)
            if k == taps - LANES:
                break
            k = min(k + LANES, taps - LANES)
        first -= LANES


cdef inline void store_some(float *to, lanes v, Py_ssize_t room) noexcept nogil:
    """A register, or its beginning where there is `room` for fewer floats."""
    memcpy(to, &v, min(<Py_ssize_t>LANES, room) * sizeof(float))


cdef inline void copy_taps(
    const float *w, Py_ssize_t apart, Py_ssize_t w_tap, float *packed, Py_ssize_t taps,
    int tf, int valid,
) noexcept nogil:
    """packed[k, f] = w[f, k], zero from filter `valid` on

    w       float, filters `apart` and taps `w_tap` apart
    packed  [taps][tf]  float, written
    """
    cdef int width = (tf + LANES - 1) // LANES * LANES
    cdef Py_ssize_t whole = 0  # taps of whole registers, which reach into the next ones
    cdef Py_ssize_t _
    cdef int f
    if apart == 1 and valid == tf and w_tap >= tf:
        whole = max(<Py_ssize_t>0, taps - (width - 1) // tf)
    for _ in range(whole):
        for f from 0 <= f < tf by LANES:
            lanes_store(packed + f, lanes_load(w + f))
        w += w_tap
        packed += tf
    for _ in range(taps - whole):
        for f in range(valid):
            packed[f] = w[f * apart]
        for f in range(valid, tf):
            packed[f] = 0
        w += w_tap
        packed += tf


cdef inline void pad_columns(
    const lanes *x, lanes *padded, Py_ssize_t rows, int width, int left, int padded_width
) noexcept nogil:
    """padded[row, left + column] = x[row, column], zero elsewhere; negative `left` crops"""
    cdef Py_ssize_t _
    cdef int column
    for _ in range(rows):
        for column in range(padded_width):
            if 0 <= column - left < width:
                padded[column] = x[column - left]
            else:
                padded[column] = lanes_set(0)
        x += width
        padded += padded_width


cdef inline void correlate_columns(
    const Correlation *p, const lanes *x, const float *packed, const float *bias,
    lanes *y, int filter0, int oy, int column, int TF, int TX, Py_ssize_t step,
) noexcept nogil:
    """One tile of y = bias + x * w: `TF` filters and `TX` columns of a row."""
    cdef lanes acc[TILE_MAX]
    cdef int top = p.top + oy * p.step
    cdef int first = max(0, -top)
    cdef int end = min(p.rows, p.height - top)
    cdef int taps = p.taps
    cdef int valid = min(TF, p.filters - filter0)
    cdef int tap = max(0, p.left - (column + TX - 1) * p.step)
    cdef int tap_end = min(taps, p.right - column * p.step)
    cdef Py_ssize_t y_column = p.y_column
    cdef Py_ssize_t y_filter = p.y_filter
    cdef int f, t
    cdef float b
    x += p.x_start + (top + first) * p.x_row + column * step + tap
    packed += (<Py_ssize_t>filter0 * p.channels * p.rows + first * TF) * taps + tap * TF
    y += filter0 * y_filter + oy * p.y_row + column * y_column
    for f in range(TF):
        b = 0
        if bias != NULL and f < valid:
            b = bias[filter0 + f]
        for t in range(TX):
            acc[f * TX + t] = lanes_set(b)
    multiply_tile(
        acc, x, p.x_channel, p.x_row, 1, step,
        packed, <Py_ssize_t>p.rows * taps * TF, <Py_ssize_t>taps * TF, TF,
        p.channels, end - first, tap_end - tap, TF, TX,
    )
    for f in range(TF):
        if f < valid:
            for t in range(TX):
                y[f * y_filter + t * y_column] = acc[f * TX + t]


cdef inline void correlate_row(
    const Correlation *p, const lanes *x, const float *packed, const float *bias,
    lanes *y, int filter0, int oy, int TF, int TX, Py_ssize_t step,
) noexcept nogil:
    """One row of `TF` filters of y = bias + x * w, tile by tile.

    The last tile is half as wide, if that suffices, and moved left to end at the last
    column: what it overlaps it computes again, to the same bits.
    """
    cdef int column = 0
    while True:
        correlate_columns(p, x, packed, bias, y, filter0, oy, column, TF, TX, step)
        column += TX
        if column >= p.out_w:
            return
        if half_suffices(p.out_w - column, TX):
            correlate_columns(
                p, x, packed, bias, y, filter0, oy, p.out_w - TX // 2, TF, TX // 2, step
            )
            return
        column = min(column, p.out_w - TX)


cdef inline void correlate_row_of(
    const Correlation *p, const lanes *x, const float *packed, const float *bias,
    lanes *y, int filter0, int oy, Py_ssize_t step,
) noexcept nogil:
    """`correlate_row` with the tile that was planned."""
    if p.tile == TALL:
        correlate_row(p, x, packed, bias, y, filter0, oy, TILE_TALL_F, TILE_TALL_X, step)
    elif p.tile == PAIR:
        correlate_row(p, x, packed, bias, y, filter0, oy, TILE_PAIR_F, TILE_PAIR_X, step)
    elif p.tile == THREE:
        correlate_row(
            p, x, packed, bias, y, filter0, oy, TILE_THREE_F, TILE_THREE_X, step
        )
    elif p.tile == FOUR:
        correlate_row(p, x, packed, bias, y, filter0, oy, TILE_FOUR_F, TILE_FOUR_X, step)
    elif p.tile == FIVE:
        correlate_row(p, x, packed, bias, y, filter0, oy, TILE_FIVE_F, TILE_FIVE_X, step)
    elif p.tile == SLIM:
        correlate_row(p, x, packed, bias, y, filter0, oy, TILE_SLIM_F, TILE_SLIM_X, step)
    elif p.tile == WIDE:
        correlate_row(p, x, packed, bias, y, filter0, oy, TILE_WIDE_F, TILE_WIDE_X, step)
    else:
        correlate_row(p, x, packed, bias, y, filter0, oy, 1, 1, step)


cdef inline void finish_row(
    const Correlation *p, lanes *y, const lanes *z, int filter0, int oy,
    int activation, bint forward,
) noexcept nogil:
    """Activate the row just computed, or multiply it by the derivative taken from z."""
    cdef Py_ssize_t start
    cdef int f, column
    cdef int valid = min(tile_filters(p.tile), p.filters - filter0)
    if p.y_filter == 1:  # a dense layer: its outputs lie side by side
        if forward:
            activation_forward(y + filter0, y + filter0, valid, activation)
        else:
            activation_backward(z + filter0, y + filter0, y + filter0, valid, activation)
        return
    for f in range(valid):
        start = (filter0 + f) * p.y_filter + oy * p.y_row
        if p.y_column == 1:
            if forward:
                activation_forward(y + start, y + start, p.out_w, activation)
            else:
                activation_backward(
                    z + start, y + start, y + start, p.out_w, activation
                )
        else:
            for column in range(p.out_w):
                activation_backward(
                    z + start + column * p.y_column, y + start + column * p.y_column,
                    y + start + column * p.y_column, 1, activation,
                )


cdef inline void correlate(
    const Correlation *p, const lanes *x, const float *packed, const float *bias,
    lanes *y, const lanes *z, int activation, bint forward, int part, int parts,
) noexcept nogil:
    """y = A(bias + x * w) forward; y = (x * w) A'(z) backward, for a part of all rows and
    tiles of filters

    x       [C][H][W]    lanes, by the strides of `p`
    packed  weights in tile order
    bias    (F,)         float, or NULL
    y       [F][OH][OW]  lanes, written
    z       like y       lanes, the values whose gradient y is (backward)
    """
    cdef int unit, oy, filter0
    cdef int tf = tile_filters(p.tile)
    cdef int tiles = (p.filters + tf - 1) // tf
    cdef Py_ssize_t units = <Py_ssize_t>p.out_h * tiles
    for unit in range(units * part // parts, units * (part + 1) // parts):
        oy = unit // tiles
        filter0 = unit % tiles * tf
        if p.step == 1:
            correlate_row_of(p, x, packed, bias, y, filter0, oy, 1)
        else:
            correlate_row_of(p, x, packed, bias, y, filter0, oy, p.step)
        if activation != 0:
            finish_row(p, y, z, filter0, oy, activation, forward)


cdef inline bint is_dense(const Correlation *p) noexcept nogil:
    """Whether input and output are one pixel, and this is all there is of the output."""
    return p.x_channel * p.rows * p.taps * p.out_h * p.out_w * p.y_filter == 1


cdef inline int pass_channels(const Correlation *p, bint add) noexcept nogil:
    """How many channels are summed at a time, over all blocks: as many as have a tile's
    weights stay in the first-level cache. Only where y can hold the sums meanwhile."""
    return PASS_CHANNELS if is_dense(p) and not add else p.channels


cdef struct Place:
    # an output of the tile's filters: where it lies in y, and the taps that meet the map
    Py_ssize_t y
    const lanes *x
    const float *weights
    int rows, taps


cdef inline void blocks_tile(
    const Correlation *p, const Place *place, Py_ssize_t x_block, const float *bias,
    lanes *y, Py_ssize_t y_block, const lanes *z, int activation, bint forward, bint add,
    bint first, bint last, int channels, int filter0, int TX,
) noexcept nogil:
    """One output of each of a tile's filters, for TX blocks."""
    cdef lanes acc[TILE_MAX]
    cdef lanes v
    cdef int valid = min(TILE_PAIR_F, p.filters - filter0)
    cdef int f, t
    cdef Py_ssize_t at
    for f in range(TILE_PAIR_F):
        v = lanes_set(bias[filter0 + f] if bias != NULL and f < valid else 0)
        for t in range(TX):
            acc[f * TX + t] = v
            if not first and f < valid:
                acc[f * TX + t] = y[place.y + t * y_block + (filter0 + f) * p.y_filter]
    multiply_tile(
        acc, place.x, p.x_channel, p.x_row, 1, x_block, place.weights,
        <Py_ssize_t>p.rows * p.taps * TILE_PAIR_F, <Py_ssize_t>p.taps * TILE_PAIR_F,
        TILE_PAIR_F, channels, place.rows, place.taps, TILE_PAIR_F, TX,
    )
    for f in range(TILE_PAIR_F):
        if f >= valid:
            return
        for t in range(TX):
            at = place.y + t * y_block + (filter0 + f) * p.y_filter
            v = acc[f * TX + t]
            if last and forward:
                activation_forward(&v, &v, 1, activation)
            elif last:
                activation_backward(z + at, &v, &v, 1, activation)
            if add:
                v += y[at]
            y[at] = v


cdef inline void correlate_blocks(
    const Correlation *p, const lanes *x, Py_ssize_t x_block, const float *packed,
    const float *bias, lanes *y, Py_ssize_t y_block, const lanes *z, int activation,
    bint forward, bint add, int blocks, int tile, int channel,
) noexcept nogil:
    """`correlate` of one tile of filters for several blocks, which are its columns.

    A weight that is loaded serves all of a tile's blocks, and no tap is multiplied with
    padding; x has none. A call sums the `pass_channels` from `channel` on, and goes on
    where y is from the call before.

    x  [blocks][C][H][W]    lanes, `x_block` apart
    y  [blocks][F][OH][OW]  lanes, `y_block` apart: written, or added to
    z  like y               lanes, the values whose gradient y is (backward)
    """
    cdef Place place
    cdef int filter0 = tile * TILE_PAIR_F
    cdef int oy, ox, b, row, tap, top
    cdef int channels = min(pass_channels(p, add), p.channels - channel)
    cdef bint last = channel + channels == p.channels
    cdef Py_ssize_t at
    cdef const lanes *start
    cdef int row_of_taps = channels
    if is_dense(p):  # its channels are one row of taps
        channels = 1
    packed += <Py_ssize_t>filter0 * p.channels * p.rows * p.taps
    packed += <Py_ssize_t>channel * TILE_PAIR_F
    x += channel
    for oy in range(p.out_h):
        top = p.top + oy * p.step
        row = max(0, -top)
        place.rows = min(p.rows, p.height - top) - row
        for ox in range(p.out_w):
            tap = max(0, p.left - ox * p.step)
            place.taps = min(p.taps, p.right - ox * p.step) - tap
            place.weights = packed + (row * p.taps + tap) * TILE_PAIR_F
            at = p.y_start + oy * p.y_row + ox * p.y_column
            start = x + p.x_start + (top + row) * p.x_row + ox * p.step + tap
            if is_dense(p):
                place.taps *= row_of_taps
            for b from 0 <= b < blocks by TILE_PAIR_X:
                place.x = start + b * x_block
                place.y = at + b * y_block
                if b + 1 < blocks:
                    blocks_tile(
                        p, &place, x_block, bias, y, y_block, z, activation, forward, add,
                        channel == 0, last, channels, filter0, TILE_PAIR_X,
                    )
                else:
                    blocks_tile(
                        p, &place, x_block, bias, y, y_block, z, activation, forward, add,
                        channel == 0, last, channels, filter0, 1,
                    )
