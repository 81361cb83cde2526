"""Convolution with a 3x3 kernel by fewer multiplications (Winograd 1980; F(2x2, 3x3) of
Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks").

    C, F           channels in, filters (channels out)
    H W, OH OW     input map, output map; the stride is 1
    T              tiles of 2x2 outputs; TW of them in a row of tiles
    element        one of the 16 of a tile in the transform domain

A tile of outputs is A'[(G w G') * (B'd B)]A of the kernel w and a 4x4 tile d of the input:
16 products where the sum over the taps has 36. With all channels, filters and tiles, each
of the 16 elements is a product of matrices, and its derivatives are two more on the same:

    y  = A' M A             M = U V, U = G w G', V = B' d B
    dw = G' dU G            dU = dM V, dM = A dy A'
    dx = B dV B', added up  dV = U' dM
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.kernels.correlate cimport Correlation, correlate, packed_size
from lenet5c.core.kernels.weight_gradient cimport Convolution, bias_gradient
from lenet5c.core.lanes cimport (
    TILE_MAX, TILE_FOUR_F, TILE_FOUR_X, TILE_SUMS, lanes, lanes_set, odd_lines,
)
from lenet5c.core.tile cimport correlate_tile, sum_tile, tile_filters

cdef enum:
    ELEMENTS = 16
    PASS_LANES = 1 << 14  # of the transform domain, in a pass of the weight gradient


cdef inline int tiles_across(int n) noexcept nogil:
    """Tiles along `n` outputs; the last may have one beyond the edge."""
    return (n + 1) // 2


cdef inline int taps_touched(int start, int inputs, int outputs) noexcept nogil:
    """How many pairs of an output and a tap of its kernel there are along one side."""
    cdef int o, first
    cdef int touched = 0
    for o in range(outputs):
        first = start + o
        touched += max(0, min(first + 3, inputs) - max(first, 0))
    return touched


cdef inline double winograd_cycles(const Convolution *p, bint weights) noexcept nogil:
    """Cycles of a pass through the transform domain, estimated: of one to the gradient of
    the weights, or of the mean of all three.

    A multiply-add of registers takes half a cycle; a transform takes about
    50 cycles for each tile of a channel or filter, and 4 for the lanes of a weight's
    gradient.
    """
    cdef double weight_count = <double>p.filters * p.channels
    cdef double tiles = <double>tiles_across(p.out_h) * tiles_across(p.out_w)
    cdef double products = weight_count * tiles * ELEMENTS / 2
    cdef double turning = 50 * tiles * (p.channels + p.filters)
    cdef double sums = 4 * ELEMENTS * weight_count
    return products + turning + (sums if weights else sums / 3)


cdef inline bint winograd_pays(const Convolution *p, bint layerwise) noexcept nogil:
    """Whether the passes through the transform domain take fewer cycles than the sums as
    they are written; layerwise the gradient of the weights has a way of its own.
    """
    if p.kernel_h != 3 or p.kernel_w != 3 or p.stride != 1:
        return False
    if p.filters < TILE_FOUR_F or p.channels < TILE_FOUR_X:
        return False
    cdef double weights = <double>p.filters * p.channels
    cdef double cycles = winograd_cycles(p, False)
    if layerwise:
        cycles -= 4 * ELEMENTS * weights / 3
    cdef double touched = taps_touched(p.top, p.height, p.out_h)
    touched *= taps_touched(p.top, p.width, p.out_w)
    return cycles < weights * touched / 2


cdef inline int tile_rows_per_pass(const Convolution *p) noexcept nogil:
    """Rows of tiles of which four elements stay in the second-level cache: 512 KB with
    AVX2, 1 MB with AVX-512."""
    cdef Py_ssize_t row = 4 * tiles_across(p.out_w) * (p.channels + p.filters)
    return max(1, min(<Py_ssize_t>tiles_across(p.out_h), PASS_LANES // row))


cdef inline int row_lanes(const Convolution *p) noexcept nogil:
    """Columns that a row of tiles reads."""
    return 2 * tiles_across(p.out_w) + 2


cdef inline Py_ssize_t winograd_scratch(const Convolution *p, int blocks) noexcept nogil:
    """Lanes that the passes need: all elements of a row of tiles, or four of a pass."""
    cdef Py_ssize_t row = <Py_ssize_t>blocks * tiles_across(p.out_w)
    cdef Py_ssize_t tiles = <Py_ssize_t>tiles_across(p.out_w) * tile_rows_per_pass(p)
    return max(
        ELEMENTS * (odd_lines(row * p.channels) + odd_lines(row * p.filters)),
        4 * (odd_lines(tiles * p.channels) + odd_lines(tiles * p.filters)),
    ) + 4 * row_lanes(p) + p.width + p.out_w


cdef inline void pack_winograd(
    const Correlation *p, const float *weight, float *packed, int tile
) noexcept nogil:
    """packed[element][tile, tap, f] = (G w[f, tap] G')[element], zero beyond the last
    filter"""
    cdef int tf = tile_filters(p.tile)
    cdef int valid = min(tf, p.filters - tile * tf)
    cdef Py_ssize_t stride = packed_size(p)
    cdef int f, tap, i, j
    cdef const float *w
    cdef float[12] rows
    cdef float *to
    packed += <Py_ssize_t>tile * p.taps * tf
    if valid < tf:
        for i in range(ELEMENTS):
            memset(packed + i * stride, 0, p.taps * tf * sizeof(float))
    for tap in range(p.taps):
        for f in range(valid):
            w = weight + (tile * tf + f) * p.w_filter + tap * p.w_tap
            for j in range(3):
                rows[j] = w[j]
                rows[3 + j] = (w[j] + w[3 + j] + w[6 + j]) / 2
                rows[6 + j] = (w[j] - w[3 + j] + w[6 + j]) / 2
                rows[9 + j] = w[6 + j]
            to = packed + tap * tf + f
            for i in range(4):
                to[0] = rows[3 * i]
                to[stride] = (rows[3 * i] + rows[3 * i + 1] + rows[3 * i + 2]) / 2
                to[2 * stride] = (rows[3 * i] - rows[3 * i + 1] + rows[3 * i + 2]) / 2
                to[3 * stride] = rows[3 * i + 2]
                to += 4 * stride


cdef inline void transform_input(
    const Convolution *p, const lanes *x, int tile_row, int first, int end,
    lanes *transformed, Py_ssize_t stride, Py_ssize_t step, lanes *scratch,
) noexcept nogil:
    """B' d B of the tiles in one row of one channel, rows `first` to before `end` of it.

    x        [H][W]  lanes, one channel
    transformed  element (i, j) of tile t goes to ((i - first) 4 + j) `stride` + t `step`
    scratch  lanes, a row of tiles and a row of x
    """
    cdef int W = p.width
    cdef int pad = -p.top
    cdef int RW = row_lanes(p)
    cdef int top = p.top + 2 * tile_row
    cdef int i, j, t, a, b
    cdef lanes *row = scratch
    cdef lanes *zeros = scratch + RW
    cdef lanes *to = transformed
    cdef const lanes *above
    cdef const lanes *below
    if top < 0 or top + 4 > p.height:
        for j in range(W):
            zeros[j] = lanes_set(0)
    for j in range(pad):
        row[j] = lanes_set(0)
    for j in range(pad + W, RW):
        row[j] = lanes_set(0)
    for i in range(first, end):
        # 0: d0 - d2, 1: d1 + d2, 2: d2 - d1, 3: d1 - d3
        a = top + (0 if i == 0 else 2 if i == 2 else 1)
        b = top + (3 if i == 3 else 1 if i == 2 else 2)
        above = x + a * W if 0 <= a < p.height else zeros
        below = x + b * W if 0 <= b < p.height else zeros
        if i == 1:
            for j in range(W):
                row[pad + j] = above[j] + below[j]
        else:
            for j in range(W):
                row[pad + j] = above[j] - below[j]
        for t in range(tiles_across(p.out_w)):
            to[t * step] = row[2 * t] - row[2 * t + 2]
            to[stride + t * step] = row[2 * t + 1] + row[2 * t + 2]
            to[2 * stride + t * step] = row[2 * t + 2] - row[2 * t + 1]
            to[3 * stride + t * step] = row[2 * t + 1] - row[2 * t + 3]
        to += 4 * stride


cdef inline void transform_gradient(
    const Convolution *p, const lanes *dy, int tile_row, int first, int end,
    lanes *transformed, Py_ssize_t stride, Py_ssize_t step, lanes *scratch,
) noexcept nogil:
    """A dy A' of the tiles in one row of one filter, as in `transform_input`.

    dy  [OH][OW]  lanes, one filter
    """
    cdef int OW = p.out_w
    cdef int i, j, t
    cdef lanes *row = scratch
    cdef lanes *zeros = scratch + row_lanes(p)
    cdef lanes *to = transformed
    cdef const lanes *above = dy + 2 * tile_row * OW
    cdef const lanes *below = above + OW
    if 2 * tile_row + 1 == p.out_h:
        below = zeros
        for j in range(OW):
            zeros[j] = lanes_set(0)
    row[OW] = lanes_set(0)
    for i in range(first, end):
        # 0: g0, 1: g0 + g1, 2: g0 - g1, 3: -g1
        if i == 0:
            for j in range(OW):
                row[j] = above[j]
        elif i == 1:
            for j in range(OW):
                row[j] = above[j] + below[j]
        elif i == 2:
            for j in range(OW):
                row[j] = above[j] - below[j]
        else:
            for j in range(OW):
                row[j] = -below[j]
        for t in range(tiles_across(OW)):
            to[t * step] = row[2 * t]
            to[stride + t * step] = row[2 * t] + row[2 * t + 1]
            to[2 * stride + t * step] = row[2 * t] - row[2 * t + 1]
            to[3 * stride + t * step] = -row[2 * t + 1]
        to += 4 * stride


cdef inline void inverse_transform_output(
    const Convolution *p, const lanes *transformed, Py_ssize_t stride, int tile_row,
    float bias, lanes *y, int activation,
) noexcept nogil:
    """Two rows of y = activation(A' M A + bias) of one filter.

    transformed  element (i, j) of tile t lies at (4 i + j) `stride` + t
    y       [OH][OW]  lanes, one filter, two rows written
    """
    cdef int OW = p.out_w
    cdef int oy = 2 * tile_row
    cdef int t, i
    cdef bint two = oy + 1 < p.out_h
    cdef lanes[4] left
    cdef lanes[4] right
    cdef const lanes *m
    cdef lanes b = lanes_set(bias)
    cdef lanes *to = y + oy * OW
    for t in range(tiles_across(OW)):
        m = transformed + t
        for i in range(4):
            left[i] = m[0] + m[stride] + m[2 * stride]
            right[i] = m[stride] - m[2 * stride] - m[3 * stride]
            m += 4 * stride
        to[2 * t] = b + left[0] + left[1] + left[2]
        if two:
            to[OW + 2 * t] = b + left[1] - left[2] - left[3]
        if 2 * t + 1 < OW:
            to[2 * t + 1] = b + right[0] + right[1] + right[2]
            if two:
                to[OW + 2 * t + 1] = b + right[1] - right[2] - right[3]
    if activation != 0:
        activation_forward(to, to, OW * (1 + two), activation)


cdef inline void add_input_gradient(
    const Convolution *p, const lanes *transformed, Py_ssize_t stride, int tile_row,
    lanes *dx, lanes *scratch,
) noexcept nogil:
    """dx += B dV B' of the tiles in one row of one channel, read as in
    `inverse_transform_output`.

    dx  [H][W]  lanes, one channel
    """
    cdef int W = p.width
    cdef int pad = -p.top
    cdef int RW = row_lanes(p)
    cdef int top = p.top + 2 * tile_row
    cdef int i, j, t
    cdef lanes *row
    cdef const lanes *d
    cdef const lanes *r
    cdef lanes *to
    for i in range(4):
        row = scratch + i * RW
        d = transformed + 4 * i * stride
        row[0] = row[1] = lanes_set(0)
        for t in range(tiles_across(p.out_w)):
            row[0] += d[t]
            row[1] += d[stride + t] - d[2 * stride + t] + d[3 * stride + t]
            row[2] = d[stride + t] + d[2 * stride + t] - d[t]
            row[3] = -d[3 * stride + t]
            row += 2
    r = scratch + pad
    for i in range(4):
        if not 0 <= top + i < p.height:
            continue
        to = dx + (top + i) * W
        if i == 0:
            for j in range(W):
                to[j] += r[j]
        elif i == 1:
            for j in range(W):
                to[j] += r[RW + j] - r[2 * RW + j] + r[3 * RW + j]
        elif i == 2:
            for j in range(W):
                to[j] += r[RW + j] + r[2 * RW + j] - r[j]
        else:
            for j in range(W):
                to[j] -= r[3 * RW + j]


cdef inline Correlation product_of(const Correlation *of_block, int blocks) noexcept nogil:
    """The product of one element of several blocks; their tiles are its columns."""
    cdef Correlation product = of_block[0]
    product.out_w *= blocks
    product.right *= blocks
    product.y_filter *= blocks
    return product


cdef inline void winograd_forward(
    const Convolution *p, const Correlation *of_block, const lanes *x, Py_ssize_t x_block,
    const float *packed, const float *bias, lanes *y, Py_ssize_t y_block, int activation,
    int blocks, lanes *scratch,
) noexcept nogil:
    """y = activation(bias + x * w) of several blocks, a row of tiles at a time

    of_block  the product of one block: F filters, C taps, TW columns
    x       [blocks][C][H][W]    lanes, `x_block` apart
    packed  weights in tile order, element by element
    bias    (F,)                 float, or NULL
    y       [blocks][F][OH][OW]  lanes, `y_block` apart, written
    """
    cdef Correlation product = product_of(of_block, blocks)
    cdef int across = of_block.out_w
    cdef Py_ssize_t stride = packed_size(of_block)
    cdef Py_ssize_t v_stride = odd_lines(<Py_ssize_t>product.out_w * p.channels)
    cdef Py_ssize_t m_stride = odd_lines(<Py_ssize_t>product.out_w * p.filters)
    cdef lanes *v = scratch
    cdef lanes *m = v + ELEMENTS * v_stride
    cdef int c, f, i, b, tile_row
    scratch = m + ELEMENTS * m_stride
    for tile_row in range(tiles_across(p.out_h)):
        for b in range(blocks):
            for c in range(p.channels):
                transform_input(
                    p, x + b * x_block + <Py_ssize_t>c * p.height * p.width, tile_row, 0,
                    4, v + b * across * p.channels + c, v_stride, p.channels, scratch,
                )
        for i in range(ELEMENTS):
            correlate(
                &product, v + i * v_stride, packed + i * stride, NULL, m + i * m_stride,
                NULL, 0, True,
            )
        for b in range(blocks):
            for f in range(p.filters):
                inverse_transform_output(
                    p, m + f * product.out_w + b * across, m_stride, tile_row,
                    bias[f] if bias != NULL else 0,
                    y + b * y_block + <Py_ssize_t>f * p.out_h * p.out_w, activation,
                )


cdef inline void winograd_backward(
    const Convolution *p, const Correlation *of_block, const lanes *dy, Py_ssize_t dy_block,
    const float *packed, lanes *dx, const lanes *x, Py_ssize_t x_block, int activation,
    int blocks, lanes *scratch,
) noexcept nogil:
    """dx = (gradient of the input) A'(x) of several blocks, a row of tiles at a time

    of_block  the product of one block: C filters, F taps, TW columns
    dy      [blocks][F][OH][OW]  lanes, `dy_block` apart
    packed  weights in tile order, element by element
    dx      [blocks][C][H][W]    lanes, `x_block` apart, written
    x       like dx              lanes, output of the activation below
    """
    cdef Correlation product = product_of(of_block, blocks)
    cdef int across = of_block.out_w
    cdef Py_ssize_t stride = packed_size(of_block)
    cdef Py_ssize_t inputs = <Py_ssize_t>p.channels * p.height * p.width
    cdef Py_ssize_t v_stride = odd_lines(<Py_ssize_t>product.out_w * p.channels)
    cdef Py_ssize_t m_stride = odd_lines(<Py_ssize_t>product.out_w * p.filters)
    cdef lanes *v = scratch
    cdef lanes *m = v + ELEMENTS * v_stride
    cdef int c, f, i, b, tile_row
    scratch = m + ELEMENTS * m_stride
    for b in range(blocks):
        memset(dx + b * x_block, 0, inputs * sizeof(lanes))
    for tile_row in range(tiles_across(p.out_h)):
        for b in range(blocks):
            for f in range(p.filters):
                transform_gradient(
                    p, dy + b * dy_block + <Py_ssize_t>f * p.out_h * p.out_w, tile_row, 0,
                    4, m + b * across * p.filters + f, m_stride, p.filters, scratch,
                )
        for i in range(ELEMENTS):
            correlate(
                &product, m + i * m_stride, packed + i * stride, NULL, v + i * v_stride,
                NULL, 0, True,
            )
        for b in range(blocks):
            for c in range(p.channels):
                add_input_gradient(
                    p, v + c * product.out_w + b * across, v_stride, tile_row,
                    dx + b * x_block + <Py_ssize_t>c * p.height * p.width, scratch,
                )
    for b in range(blocks):
        activation_backward(
            x + b * x_block, dx + b * x_block, dx + b * x_block, inputs, activation
        )


cdef inline void element_backward_params(
    const Convolution *p, const lanes *v, const lanes *m, Py_ssize_t tiles, float *dweight
) noexcept nogil:
    """dweight[f, c] += sum over tiles, lanes of m[f, tile] * v[c, tile], for one element.

    The last tiles of accumulators are moved back to end with the last filter and channel.
    """
    cdef lanes acc[TILE_MAX]
    cdef float sums[TILE_SUMS]
    cdef int filter0, channel0, f, t, i, j
    for i from 0 <= i < p.filters by TILE_FOUR_F:
        filter0 = min(i, p.filters - TILE_FOUR_F)
        for j from 0 <= j < p.channels by TILE_FOUR_X:
            channel0 = min(j, p.channels - TILE_FOUR_X)
            for t in range(TILE_FOUR_F * TILE_FOUR_X):
                acc[t] = lanes_set(0)
            correlate_tile(
                acc, v + channel0 * tiles, 0, 1, tiles, m + filter0 * tiles, tiles, 0, 1,
                1, tiles, TILE_FOUR_F, TILE_FOUR_X,
            )
            sum_tile(acc, sums, TILE_FOUR_F * TILE_FOUR_X)
            for f in range(i - filter0, TILE_FOUR_F):
                for t in range(j - channel0, TILE_FOUR_X):
                    dweight[
                        <Py_ssize_t>(filter0 + f) * ELEMENTS * p.channels + channel0 + t
                    ] += sums[f * TILE_FOUR_X + t]


cdef inline void winograd_backward_params(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight, float *dbias,
    lanes *scratch,
) noexcept nogil:
    """Gradient of the parameters, that of the weights in the transform domain; four
    elements at a time

    x        [C][H][W]    lanes
    dy       [F][OH][OW]  lanes, gradient of the output before its activation
    dweight  (F, 16, C)   float, added to
    dbias    (F,)         float, added to, or NULL
    """
    cdef int across = tiles_across(p.out_w)
    cdef int down = tiles_across(p.out_h)
    cdef int tile_rows = tile_rows_per_pass(p)
    cdef Py_ssize_t v_stride = odd_lines(<Py_ssize_t>tile_rows * across * p.channels)
    cdef Py_ssize_t m_stride = odd_lines(<Py_ssize_t>tile_rows * across * p.filters)
    cdef lanes *v = scratch
    cdef lanes *m = v + 4 * v_stride
    cdef Py_ssize_t tiles
    cdef int c, f, i, j, row, rows, tile_row
    scratch = m + 4 * m_stride
    for row from 0 <= row < down by tile_rows:
        rows = min(tile_rows, down - row)
        tiles = rows * across
        for i in range(4):
            for c in range(p.channels):
                for tile_row in range(rows):
                    transform_input(
                        p, x + <Py_ssize_t>c * p.height * p.width, row + tile_row, i,
                        i + 1, v + c * tiles + tile_row * across, v_stride, 1, scratch,
                    )
            for f in range(p.filters):
                for tile_row in range(rows):
                    transform_gradient(
                        p, dy + <Py_ssize_t>f * p.out_h * p.out_w, row + tile_row, i,
                        i + 1, m + f * tiles + tile_row * across, m_stride, 1, scratch,
                    )
            for j in range(4):
                element_backward_params(
                    p, v + j * v_stride, m + j * m_stride, tiles,
                    dweight + <Py_ssize_t>(4 * i + j) * p.channels,
                )
    if dbias != NULL:
        bias_gradient(dy, dbias, p.filters, p.out_h * p.out_w)


cdef inline void add_weight_gradient(
    const float *transformed, float *dweight, int channels
) noexcept nogil:
    """dweight[c] += G' dU G of one filter

    transformed   (16, C)    float
    dweight  (C, 3, 3)  float, added to
    """
    cdef int c, i
    cdef float[12] rows
    cdef const float *u
    cdef float *to = dweight
    for c in range(channels):
        for i in range(4):
            u = transformed + 4 * i * channels + c
            rows[3 * i] = u[0] + (u[channels] + u[2 * channels]) / 2
            rows[3 * i + 1] = (u[channels] - u[2 * channels]) / 2
            rows[3 * i + 2] = u[3 * channels] + (u[channels] + u[2 * channels]) / 2
        for i in range(3):
            to[i] += rows[i] + (rows[3 + i] + rows[6 + i]) / 2
            to[3 + i] += (rows[3 + i] - rows[6 + i]) / 2
            to[6 + i] += rows[9 + i] + (rows[3 + i] + rows[6 + i]) / 2
        to += 9
