"""Sums of products over a single image: lanes run along its rows.

    C, F    channels in, filters (channels out)
    W       columns of the input, with its padding
    P       positions: output (oy, ox) is number oy W + ox. So a tap of the kernel is a
            step of all positions at once; what comes to lie beyond the output's last
            column is computed and left out

A map is float [C][H][W] on whole registers: what lies behind it is finite, and may be
written. Weights are read where they lie.
"""

from libc.string cimport memcpy

from lenet5c.core.lanes cimport (
    LANES, TILE_FIELD_R, TILE_FIVE_F, TILE_FIVE_X, TILE_FOUR_F, TILE_FOUR_X, TILE_MAX,
    TILE_PAIR_F, TILE_PAIR_X, TILE_SLIM_F, TILE_SLIM_X, TILE_SUMS, TILE_TALL_F, TILE_TALL_X,
    TILE_THREE_F, TILE_THREE_X, TILE_WIDE_F, TILE_WIDE_X, lanes, lanes_keep, lanes_load,
    lanes_set, lanes_store, lanes_sum, lanes_transpose,
)
from lenet5c.core.tile cimport (
    FIVE, FOUR, PAIR, SINGLE, SLIM, TALL, THREE, TILES, WIDE, cheapest_tile, sum_tile,
)

cdef enum:
    LISTED_X = 5  # registers of a tile of one filter, and taps
    LISTED = TILES  # this tile
    TAPS_MAX = 25


cdef struct Connections:
    # of each output map: number i from first[i] on to before first[i + 1]; NULL: all
    int *first
    int *source  # the map that it reads
    int *pair  # whose weights it takes

cdef struct Product

# A pointer, so that both passes of a convolution share the code of all tiles.
ctypedef void (*Multiply)(
    const Product *p, const float *x, const float *weight, float *y
) noexcept nogil

cdef struct Product:
    # y[f, p] = sum over c, r, k of w[f, c, r, k] x[c, p + r W + k]
    int filters, channels, rows, taps
    int registers  # of positions
    int tile
    Py_ssize_t x_channel, x_row, y_filter
    Py_ssize_t w_filter, w_channel, w_row, w_tap
    # x may have `top` rows of zeros before its `height` rows, and zeros behind them
    int top, height
    Connections table
    Multiply run


cdef inline int registers_of(Py_ssize_t n) noexcept nogil:
    """That n floats begin."""
    return (n + LANES - 1) // LANES


cdef inline int product_tile_of(const Product *p) noexcept:
    if p.table.first == NULL and p.filters > 1:
        return cheapest_tile(p.filters, p.registers, True)
    if p.registers >= TILE_WIDE_X:
        return WIDE
    return LISTED if p.registers >= LISTED_X else SINGLE


cdef inline void product_tile(
    const Product *p, int filter, int register, const float *x, const float *weight,
    float *y, int TF, int TX,
) noexcept nogil:
    """One tile of a product: TF filters at TX registers of positions."""
    cdef lanes acc[TILE_MAX]
    cdef lanes a[TILE_MAX]
    cdef lanes b
    cdef const float *row
    cdef const float *w
    cdef int f, t, _row, _
    cdef int c = 0
    cdef int end = p.channels
    cdef int position = register * LANES
    cdef int row0 = max(0, p.top - (position + TX * LANES - 1) // <int>p.x_row)
    cdef int row_end = min(p.rows, p.height + p.top - position // <int>p.x_row)
    cdef Py_ssize_t w_filter = p.w_filter
    cdef Py_ssize_t w_tap = p.w_tap
    if p.table.first != NULL:
        c = p.table.first[filter]
        end = p.table.first[filter + 1]
    else:
        weight += filter * w_filter
    x += position
    y += filter * p.y_filter + position
    for f in range(TF * TX):
        acc[f] = lanes_set(0)
    while c < end:
        row = x + (c if p.table.first == NULL else p.table.source[c]) * p.x_channel
        w = weight + (c if p.table.first == NULL else p.table.pair[c]) * p.w_channel
        c += 1
        row += row0 * p.x_row
        w += row0 * p.w_row
        for _row in range(row0, row_end):
            for _ in range(p.taps):
                if TF <= TX:
                    for f in range(TF):
                        a[f] = lanes_set(w[f * w_filter])
                    for t in range(TX):
                        b = lanes_keep(lanes_load(row + t * LANES))
                        for f in range(TF):
                            acc[f * TX + t] += a[f] * b
                else:
                    for t in range(TX):
                        a[t] = lanes_keep(lanes_load(row + t * LANES))
                    for f in range(TF):
                        b = lanes_set(w[f * w_filter])
                        for t in range(TX):
                            acc[f * TX + t] += b * a[t]
                row += 1
                w += w_tap
            row += p.x_row - p.taps
            w += p.w_row - p.taps * w_tap
    for f in range(TF):
        for t in range(TX):
            lanes_store(y + f * p.y_filter + t * LANES, acc[f * TX + t])


cdef inline void product_tiles(
    const Product *p, const float *x, const float *weight, float *y, int TF, int TX
) noexcept nogil:
    """All of them; the last ones are moved back, and computed again where they overlap."""
    cdef int f = 0
    cdef int t
    while f < p.filters:
        f = min(f, p.filters - TF)
        t = 0
        while t < p.registers:
            t = min(t, p.registers - TX)
            product_tile(p, f, t, x, weight, y, TF, TX)
            t += TX
        f += TF


cdef inline void image_product(
    const Product *p, const float *x, const float *weight, float *y
) noexcept nogil:
    """y[f, p] = sum over c, r, k of w[f, c, r, k] x[c, p + r W + k]

    x       float, readable up to whole registers of positions
    weight  float, by the steps of the product
    y       [F][y_filter]  float, written
    """
    if p.tile == TALL:
        product_tiles(p, x, weight, y, TILE_TALL_F, TILE_TALL_X)
    elif p.tile == PAIR:
        product_tiles(p, x, weight, y, TILE_PAIR_F, TILE_PAIR_X)
    elif p.tile == THREE:
        product_tiles(p, x, weight, y, TILE_THREE_F, TILE_THREE_X)
    elif p.tile == FOUR:
        product_tiles(p, x, weight, y, TILE_FOUR_F, TILE_FOUR_X)
    elif p.tile == FIVE:
        product_tiles(p, x, weight, y, TILE_FIVE_F, TILE_FIVE_X)
    elif p.tile == SLIM:
        product_tiles(p, x, weight, y, TILE_SLIM_F, TILE_SLIM_X)
    elif p.tile == WIDE:
        product_tiles(p, x, weight, y, TILE_WIDE_F, TILE_WIDE_X)
    elif p.tile == LISTED:
        product_tiles(p, x, weight, y, 1, LISTED_X)
    else:
        product_tiles(p, x, weight, y, 1, 1)


cdef struct Taps:
    # dweight[f, c, r, k] = sum over p of dy[f, p] x[c, p + r W + k]
    int filters, channels, rows, taps
    int registers  # of positions
    int tile
    Py_ssize_t x_channel, x_row, dy_filter
    Connections table
    bint by_filters  # lanes are filters, whose whole registers have this `width`
    Py_ssize_t width


cdef inline int taps_tile_of(const Taps *p) noexcept:
    if p.table.first == NULL and p.filters > 1:
        return cheapest_tile(p.filters, p.taps, True)
    if p.taps >= TILE_WIDE_X:
        return WIDE
    return LISTED if p.taps >= LISTED_X else SINGLE


cdef inline void taps_tile(
    const Taps *p, const float *x, const float *dy, float *dweight, Py_ssize_t w_filter,
    int TF, int TX,
) noexcept nogil:
    """dweight[f, t] = sum over p of dy[f, p] x[p + t]"""
    cdef lanes acc[TILE_MAX]
    cdef lanes a[TILE_MAX]
    cdef lanes b
    cdef float sums[TILE_SUMS]
    cdef int i, f, t
    for i in range(TF * TX):
        acc[i] = lanes_set(0)
    for i in range(p.registers):
        if TF <= TX:
            for f in range(TF):
                a[f] = lanes_keep(lanes_load(dy + f * p.dy_filter + i * LANES))
            for t in range(TX):
                b = lanes_keep(lanes_load(x + i * LANES + t))
                for f in range(TF):
                    acc[f * TX + t] += a[f] * b
        else:
            for t in range(TX):
                a[t] = lanes_keep(lanes_load(x + i * LANES + t))
            for f in range(TF):
                b = lanes_keep(lanes_load(dy + f * p.dy_filter + i * LANES))
                for t in range(TX):
                    acc[f * TX + t] += b * a[t]
    sum_tile(acc, sums, TF * TX)
    for f in range(TF):
        for t in range(TX):
            dweight[f * w_filter + t] = sums[f * TX + t]


cdef inline void taps_tiles(
    const Taps *p, const float *x, const float *dy, float *dweight, int TF, int TX
) noexcept nogil:
    cdef Py_ssize_t field = <Py_ssize_t>p.rows * p.taps
    cdef Py_ssize_t w_filter = p.channels * field
    cdef int f = 0
    cdef int c, end, r, k
    cdef const float *map
    cdef float *to
    while f < p.filters:
        f = min(f, p.filters - TF)
        c = 0 if p.table.first == NULL else p.table.first[f]
        end = p.channels if p.table.first == NULL else p.table.first[f + 1]
        while c < end:
            map = x + (c if p.table.first == NULL else p.table.source[c]) * p.x_channel
            to = dweight + c * field
            if p.table.first == NULL:
                to += f * w_filter
            c += 1
            for r in range(p.rows):
                k = 0
                while k < p.taps:
                    k = min(k, p.taps - TX)
                    taps_tile(
                        p, map + r * p.x_row + k, dy + f * p.dy_filter,
                        to + r * p.taps + k, w_filter, TF, TX,
                    )
                    k += TX
        f += TF


cdef inline void image_taps(
    const Taps *p, const float *x, const float *dy, float *dweight
) noexcept nogil:
    """dweight[f, c, r, k] = sum over p of dy[f, p] x[c, p + r W + k]

    x        float, readable up to whole registers of positions
    dy       [F][dy_filter]  float, zero at positions that are not of the output
    dweight  (F, C, KH, KW) or (pairs, KH, KW)  float, written
    """
    if p.tile == TALL:
        taps_tiles(p, x, dy, dweight, TILE_TALL_F, TILE_TALL_X)
    elif p.tile == PAIR:
        taps_tiles(p, x, dy, dweight, TILE_PAIR_F, TILE_PAIR_X)
    elif p.tile == THREE:
        taps_tiles(p, x, dy, dweight, TILE_THREE_F, TILE_THREE_X)
    elif p.tile == FOUR:
        taps_tiles(p, x, dy, dweight, TILE_FOUR_F, TILE_FOUR_X)
    elif p.tile == FIVE:
        taps_tiles(p, x, dy, dweight, TILE_FIVE_F, TILE_FIVE_X)
    elif p.tile == SLIM:
        taps_tiles(p, x, dy, dweight, TILE_SLIM_F, TILE_SLIM_X)
    elif p.tile == WIDE:
        taps_tiles(p, x, dy, dweight, TILE_WIDE_F, TILE_WIDE_X)
    elif p.tile == LISTED:
        taps_tiles(p, x, dy, dweight, 1, LISTED_X)
    else:
        taps_tiles(p, x, dy, dweight, 1, 1)


cdef inline void maps_to_columns(
    const float *x, float *columns, Py_ssize_t width, int maps, Py_ssize_t area
) noexcept nogil:
    """columns[p, m] = x[m, p], and 0 from map number `maps` on

    x        [maps][area]   float
    columns  [area][width]  float, written up to whole registers of area
    """
    cdef lanes square[LANES]
    cdef Py_ssize_t p, m
    cdef int n
    m = 0
    while m < width:
        p = 0
        while p < area:
            p = min(p, area - LANES) if area >= LANES else 0
            for n in range(LANES):
                square[n] = lanes_set(0)
                if m + n < maps and area >= LANES:
                    square[n] = lanes_load(x + (m + n) * area + p)
                elif m + n < maps:
                    memcpy(&square[n], x + (m + n) * area, area * sizeof(float))
            lanes_transpose(square)
            for n in range(LANES):
                lanes_store(columns + (p + n) * width + m, square[n])
            p += LANES
        m += LANES


cdef inline void columns_to_maps(
    const float *columns, Py_ssize_t width, float *y, int maps, Py_ssize_t area
) noexcept nogil:
    """y[m, p] = columns[p, m]: the opposite, in the order of the maps"""
    cdef lanes square[LANES]
    cdef Py_ssize_t p, m
    cdef int n
    m = 0
    while m < maps:
        p = 0
        while p < area:
            p = min(p, area - LANES) if area >= LANES else 0
            for n in range(LANES):
                square[n] = lanes_load(columns + (p + n) * width + m)
            lanes_transpose(square)
            for n in range(min(<Py_ssize_t>LANES, maps - m)):
                if area >= LANES:
                    lanes_store(y + (m + n) * area + p, square[n])
                else:
                    memcpy(y + (m + n) * area, &square[n], area * sizeof(float))
            p += LANES
        m += LANES


cdef inline void filter_taps_tile(
    const Taps *p, const float *x, const float *columns, float *sums, int out_h,
    int out_w, int TR, int TK,
) noexcept nogil:
    """sums[r, k] = sum over oy, ox of columns[oy, ox] x[oy + r, ox + k]"""
    cdef lanes acc[TAPS_MAX]
    cdef lanes d
    cdef const float *row
    cdef int oy, r, k, _
    for k in range(TR * TK):
        acc[k] = lanes_set(0)
    for oy in range(out_h):
        row = x + oy * p.x_row
        for _ in range(out_w):
            d = lanes_keep(lanes_load(columns))
            for r in range(TR):
                for k in range(TK):
                    acc[r * TK + k] += d * lanes_set(row[r * p.x_row + k])
            row += 1
            columns += p.width
    for r in range(TR):
        for k in range(TK):
            lanes_store(sums + (r * p.taps + k) * p.width, acc[r * TK + k])


cdef inline void filter_taps_tiles(
    const Taps *p, const float *x, const float *columns, float *sums, int out_h,
    int out_w, int TR, int TK,
) noexcept nogil:
    cdef int r, k, _
    cdef Py_ssize_t f
    for _ in range(p.channels):
        r = 0
        while r < p.rows:
            r = min(r, p.rows - TR)
            k = 0
            while k < p.taps:
                k = min(k, p.taps - TK)
                f = 0
                while f < p.width:
                    filter_taps_tile(
                        p, x + r * p.x_row + k, columns + f,
                        sums + (r * p.taps + k) * p.width + f, out_h, out_w, TR, TK,
                    )
                    f += LANES
                k += TK
            r += TR
        x += p.x_channel
        sums += p.rows * p.taps * p.width


cdef inline void filter_taps(
    const Taps *p, const float *x, const float *dy, float *dweight, float *columns,
    float *sums, int out_h, int out_w,
) noexcept nogil:
    """`image_taps` with lanes of filters: there is nothing to sum across lanes.

    dy       [F][OH][OW]       float
    columns  [OH OW][width]    float, scratch of whole registers
    sums     [C KH KW][width]  float, likewise
    """
    maps_to_columns(dy, columns, p.width, p.filters, <Py_ssize_t>out_h * out_w)
    if p.rows >= TILE_FIELD_R and p.taps >= 5:
        filter_taps_tiles(p, x, columns, sums, out_h, out_w, TILE_FIELD_R, 5)
    elif p.rows >= 3 and p.taps >= 3:
        filter_taps_tiles(p, x, columns, sums, out_h, out_w, 3, 3)
    else:
        filter_taps_tiles(p, x, columns, sums, out_h, out_w, 1, 1)
    columns_to_maps(
        sums, p.width, dweight, p.filters, <Py_ssize_t>p.channels * p.rows * p.taps
    )


cdef inline void filter_product_tile(
    const Product *p, const float *x, const float *weight, Py_ssize_t width,
    float *columns, int TX,
) noexcept nogil:
    """A row's next TX columns of `filter_product`, for one register of filters."""
    cdef lanes acc[TILE_WIDE_X]
    cdef lanes w
    cdef const float *row
    cdef int c, r, t, _
    w = lanes_load(weight)
    weight += width
    for t in range(TX):
        acc[t] = w
    for c in range(p.channels):
        for r in range(p.rows):
            row = x + c * p.x_channel + r * p.x_row
            for _ in range(p.taps):
                w = lanes_keep(lanes_load(weight))
                for t in range(TX):
                    acc[t] += w * lanes_set(row[t])
                row += 1
                weight += width
    for t in range(TX):
        lanes_store(columns + t * width, acc[t])


cdef inline void filter_product_tiles(
    const Product *p, const float *x, const float *weight, Py_ssize_t width,
    float *columns, int out_h, int out_w, int TX,
) noexcept nogil:
    cdef int oy, ox
    cdef Py_ssize_t f
    for oy in range(out_h):
        ox = 0
        while ox < out_w:
            ox = min(ox, out_w - TX)
            for f from 0 <= f < width by LANES:
                filter_product_tile(
                    p, x + oy * p.x_row + ox, weight + f, width,
                    columns + (oy * out_w + ox) * width + f, TX,
                )
            ox += TX


cdef inline void filter_product(
    const Product *p, const float *x, const float *weight, const float *bias, float *y,
    Py_ssize_t width, float *by_filters, float *columns, int out_h, int out_w,
) noexcept nogil:
    """bias and `image_product` of output rows and columns alone, with lanes of filters.

    weight      (F, C, KH, KW)       float
    bias        (F,)                 float, or NULL
    y           [F][OH][OW]          float, written
    by_filters  [1 + C KH KW][width]  float, scratch of whole registers: biases, weights
    columns     [OH OW][width]       float, likewise
    """
    zero_row(by_filters, width)
    if bias != NULL:
        memcpy(by_filters, bias, p.filters * sizeof(float))
    maps_to_columns(
        weight, by_filters + width, width, p.filters,
        <Py_ssize_t>p.channels * p.rows * p.taps,
    )
    if out_w >= TILE_WIDE_X:
        filter_product_tiles(p, x, by_filters, width, columns, out_h, out_w, TILE_WIDE_X)
    elif out_w >= 2 * LISTED_X:
        filter_product_tiles(p, x, by_filters, width, columns, out_h, out_w, 2 * LISTED_X)
    elif out_w >= LISTED_X:
        filter_product_tiles(p, x, by_filters, width, columns, out_h, out_w, LISTED_X)
    else:
        filter_product_tiles(p, x, by_filters, width, columns, out_h, out_w, 1)
    columns_to_maps(columns, width, y, p.filters, <Py_ssize_t>out_h * out_w)


cdef inline bint filters_pay(const Taps *p, int out_h, int out_w) noexcept:
    """Whether lanes of filters take fewer products than lanes of positions."""
    cdef Py_ssize_t area = <Py_ssize_t>out_h * out_w
    cdef Py_ssize_t positions = <Py_ssize_t>p.registers * LANES
    return p.table.first == NULL and p.width * area < p.filters * positions


cdef struct ImageConv:
    int padding, height, width  # of the input with its padding
    int before  # zeros before a map of dy
    Py_ssize_t weights  # how many
    Product y, dx
    Taps taps
    Py_ssize_t work, sums  # in the scratch, in floats, behind the gradient of the output


cdef inline void copy_row(const float *x, float *y, int n) noexcept nogil:
    """y[i] = x[i] for i < n; whole registers are read and written."""
    cdef int i = 0
    while i < n:
        lanes_store(y + i, lanes_load(x + i))
        i += LANES


cdef inline void zero_row(float *y, int n) noexcept nogil:
    """y[i] = 0 for i < n; whole registers are written."""
    cdef int i = 0
    while i < n:
        lanes_store(y + i, lanes_set(0))
        i += LANES


cdef inline void leave_columns(
    const float *x, Py_ssize_t x_map, int x_row, float *y, const float *bias, int maps,
    int height, int width,
) noexcept nogil:
    """y[m, r, i] = x[m, r, i] + bias[m], for the first columns of each row

    x  [maps] maps, x_map apart, of rows x_row apart
    y  [maps][height][width]  float, written; in its order, as rows end in the next one
    """
    cdef int m, r, i
    cdef lanes b = lanes_set(0)
    for m in range(maps):
        if bias != NULL:
            b = lanes_set(bias[m])
        for r in range(height):
            i = 0
            while i < width:
                lanes_store(y + i, lanes_load(x + r * x_row + i) + b)
                i += LANES
            y += width
        x += x_map


cdef inline void spread_rows(
    const float *x, float *y, Py_ssize_t y_map, int before, int y_row, int maps,
    int height, int width,
) noexcept nogil:
    """y[m, before + r y_row + i] = x[m, r, i], and zero elsewhere

    x  [maps][height][width]  float
    y  [maps][y_map]          float, written
    """
    cdef int r, _
    cdef float *row
    for _ in range(maps):
        zero_row(y, before)
        row = y + before
        for r in range(height):
            copy_row(x, row, width)
            x += width
            if r < height - 1:
                zero_row(row + width, y_row - width)
                row += y_row
        row += width
        zero_row(row, y + y_map - row)
        y += y_map


cdef inline void map_sums(
    const float *x, Py_ssize_t x_map, int registers, float *sums, int maps
) noexcept nogil:
    """sums[m] = sum over i of x[m, i]

    x  [maps] of so many registers, x_map apart
    """
    cdef lanes total
    cdef int m, i
    for m in range(maps):
        total = lanes_set(0)
        for i in range(registers):
            total += lanes_load(x + m * x_map + i * LANES)
        sums[m] = lanes_sum(total)
