"""Convolution with a 3x3 kernel by fewer multiplications (Winograd 1980; F(MxM, 3x3) of
Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks").

    C, F           channels in, filters (channels out)
    H W, OH OW     input map, output map; the stride is 1
    T              tiles of MxM outputs; TW of them in a row of tiles
    M, E           outputs along the side of a tile: 2, 3 or 4; E = M + 2
    element        one of the E E of a tile in the transform domain

A tile of outputs is A'[(G w G') * (B'd B)]A of the kernel w and an E x E tile d of the
input. That is the transform of winograd_rows.pxd along the columns of a tile and then along
its rows. For M = 4 it takes 36 products where the sum over the taps has 144, for M = 3 it
takes 25 for 81, and for M = 2 16 for 36. With all channels, filters and tiles, each of the
elements is a product of matrices, and its derivatives are two more on the same:

    y  = A' M A             M = U V, U = G w G', V = B' d B
    dw = G' dU G            dU = dM V, dM = A dy A'
    dx = B dV B', added up  dV = U' dM

A tile beyond the edge of the output is computed in whole; so the size of the map decides
which M takes the fewest cycles.
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.kernels.correlate cimport Correlation, packed_size
from lenet5c.core.kernels.toom_cook cimport (
    gradient_elements, input_elements, input_gradient_rows, output_rows, shares_of_rows,
)
from lenet5c.core.kernels.weight_gradient cimport Convolution, bias_gradient
from lenet5c.core.lanes cimport (
    LANES, TILE_FOUR_F, TILE_FOUR_X, TILE_MAX, TILE_SUMS, lanes, lanes_set, odd_lines,
)
from lenet5c.core.tile cimport correlate_tile, sum_tile, tile_filters

cdef enum:
    MOST_OUTPUTS = 4  # along the side of a tile
    MOST_ELEMENTS = 6
    PASS_LANES = 1 << 14  # of the transform domain, in a pass of the weight gradient


cdef inline int tiles_across(int n, int M) noexcept nogil:
    """Tiles along `n` outputs; the last may reach beyond the edge."""
    return (n + M - 1) // M


cdef inline int taps_touched(int start, int inputs, int outputs) noexcept nogil:
    """How many pairs of an output and a tap of its kernel there are along one side."""
    cdef int o, first
    cdef int touched = 0
    for o in range(outputs):
        first = start + o
        touched += max(0, min(first + 3, inputs) - max(first, 0))
    return touched


cdef inline int tile_rows_per_pass(const Convolution *p, int M) noexcept nogil:
    """Rows of tiles of which E elements stay in the second-level cache: 512 KB with
    AVX2, 1 MB with AVX-512."""
    cdef Py_ssize_t row = (M + 2) * tiles_across(p.out_w, M) * (p.channels + p.filters)
    return max(1, min(<Py_ssize_t>tiles_across(p.out_h, M), PASS_LANES // row))


cdef inline int passes_of(const Convolution *p, int M) noexcept nogil:
    cdef int rows = tile_rows_per_pass(p, M)
    return (tiles_across(p.out_h, M) + rows - 1) // rows


cdef inline double winograd_cycles(
    const Convolution *p, int M, bint weights
) noexcept nogil:
    """Cycles of one pass through the transform domain, estimated: of the one to the
    gradient of the weights, or of another.

    A multiply-add of registers takes half a cycle; a transform takes about 3 cycles for
    each element of a tile of a channel or filter, and 4 for the lanes of a weight's
    gradient.
    """
    cdef double weight_count = <double>p.filters * p.channels
    cdef double elements = (M + 2) * (M + 2)
    cdef double tiles = (
        <double>tiles_across(p.out_h, M) * tiles_across(p.out_w, M)
    )
    cdef double products = weight_count * tiles * elements / 2
    cdef double turning = 3 * elements * tiles * (p.channels + p.filters)
    cdef double sums = 4 * elements * weight_count * passes_of(p, M)
    return products + turning + (sums if weights else 0)


cdef inline int cheapest_outputs(const Convolution *p, bint weights) noexcept nogil:
    """The M of the fewest cycles."""
    cdef int M, best = 2
    for M in range(3, MOST_OUTPUTS + 1):
        if winograd_cycles(p, M, weights) < winograd_cycles(p, best, weights):
            best = M
    return best


cdef inline double sums_cycles(const Convolution *p) noexcept nogil:
    """Cycles of a pass by the sums as they are written, estimated."""
    cdef double touched = taps_touched(p.top, p.height, p.out_h)
    touched *= taps_touched(p.top, p.width, p.out_w)
    return touched * p.filters * p.channels / 2


cdef inline int params_outputs(const Convolution *p, bint layerwise) noexcept nogil:
    """The M of the gradient of the weights; 0 if its sums take fewer cycles as they are
    written, which on a padded map, whose copy only its own passes make, is not done."""
    cdef int M = cheapest_outputs(p, True)
    if layerwise or p.top < 0 or winograd_cycles(p, M, True) < sums_cycles(p):
        return M
    return 0


cdef inline bint winograd_pays(const Convolution *p, bint layerwise) noexcept nogil:
    """Whether the passes through the transform domain take fewer cycles than the sums as
    they are written; layerwise the gradient of the weights has a way of its own.
    """
    if p.kernel_h != 3 or p.kernel_w != 3 or p.stride != 1:
        return False
    if p.filters < TILE_FOUR_F or p.channels < TILE_FOUR_X:
        return False
    cdef double sums = sums_cycles(p)
    cdef double cycles = winograd_cycles(p, cheapest_outputs(p, False), False)
    cdef int M = params_outputs(p, layerwise)
    if not layerwise and M > 0:
        cycles = (2 * cycles + winograd_cycles(p, M, True)) / 3
    return cycles < sums


cdef inline int row_lanes(const Convolution *p, int M) noexcept nogil:
    """Columns that a row of tiles reads."""
    return M * tiles_across(p.out_w, M) + 2


cdef inline Py_ssize_t transform_scratch(const Convolution *p, int M) noexcept nogil:
    """Lanes that a transform needs: E rows of a row of tiles, and one more of a map."""
    return (M + 2) * row_lanes(p, M) + max(p.width, p.out_w)


cdef inline Py_ssize_t winograd_scratch(
    const Convolution *p, int blocks, int M
) noexcept nogil:
    """Lanes that the passes to y and dx need: all elements of a row of tiles."""
    cdef Py_ssize_t row = <Py_ssize_t>blocks * tiles_across(p.out_w, M)
    return transform_scratch(p, M) + (M + 2) * (M + 2) * (
        odd_lines(row * p.channels) + odd_lines(row * p.filters)
    )


cdef inline Py_ssize_t winograd_params_scratch(
    const Convolution *p, int M
) noexcept nogil:
    """Lanes that the weights' gradient needs: E elements of a pass."""
    cdef Py_ssize_t tiles = (
        <Py_ssize_t>tiles_across(p.out_w, M) * tile_rows_per_pass(p, M)
    )
    return transform_scratch(p, M) + (M + 2) * (
        odd_lines(tiles * p.channels) + odd_lines(tiles * p.filters)
    )


cdef inline void pack_winograd(
    const Correlation *p, const float *weight, float *packed, int tile
) noexcept nogil:
    """packed[element][tile, tap, f] = (G w[f, tap] G')[element], zero beyond the last
    filter"""
    cdef int tf = tile_filters(p.tile)
    cdef int valid = min(tf, p.filters - tile * tf)
    cdef int E = p.side + 2
    cdef Py_ssize_t stride = packed_size(p)
    cdef float[MOST_ELEMENTS][3] g
    cdef float[9][TILE_MAX] w
    cdef float[3][TILE_MAX] row
    cdef int f, tap, i, j, k
    cdef const float *of_filter
    cdef float *to
    for i in range(E):
        shares_of_rows(E, 3, i, g[i])
    memset(w, 0, sizeof(w))
    packed += <Py_ssize_t>tile * p.taps * tf
    for tap in range(p.taps):
        for f in range(valid):
            of_filter = weight + (tile * tf + f) * p.w_filter + tap * p.w_tap
            for k in range(9):
                w[k][f] = of_filter[k]
        for i in range(E):
            for k in range(3):
                for f in range(tf):
                    row[k][f] = (
                        g[i][0] * w[k][f] + g[i][1] * w[3 + k][f] + g[i][2] * w[6 + k][f]
                    )
            for j in range(E):
                to = packed + (E * i + j) * stride
                for f in range(tf):
                    to[f] = (
                        g[j][0] * row[0][f] + g[j][1] * row[1][f] + g[j][2] * row[2][f]
                    )
        packed += tf


cdef inline lanes input_element(const lanes **d, int x, int i, int E) noexcept nogil:
    """Element i of `input_elements`; the compiler leaves out the others."""
    cdef lanes all[MOST_ELEMENTS]
    input_elements(d, x, all, 1, E)
    return all[i]


cdef inline lanes gradient_element(
    const lanes **d, int x, int i, int E, int M
) noexcept nogil:
    """Element i of `gradient_elements`, likewise."""
    cdef lanes all[MOST_ELEMENTS]
    gradient_elements(d, x, all, 1, E, M)
    return all[i]


cdef inline void transform_input_by(
    const Convolution *p, const lanes *x, int tile_row, int only, lanes *to,
    Py_ssize_t stride, Py_ssize_t step, lanes *scratch, int M,
) noexcept nogil:
    """`transform_input` with M as a constant."""
    cdef int W = p.width
    cdef int pad = -p.top
    cdef int RW = row_lanes(p, M)
    cdef int top = p.top + M * tile_row
    cdef int E = M + 2
    cdef int i, j, t, _
    cdef lanes *row = scratch + pad
    cdef lanes *zeros = scratch + E * RW
    cdef const lanes *d[MOST_ELEMENTS]
    for j in range(W):
        zeros[j] = lanes_set(0)
    for i in range(E):
        d[i] = x + (top + i) * W if 0 <= top + i < p.height else zeros
    if only < 0:
        for j in range(W):
            input_elements(d, j, row + j, RW, E)
    elif only == 0:
        for j in range(W):
            row[j] = input_element(d, j, 0, E)
    elif only == 1:
        for j in range(W):
            row[j] = input_element(d, j, 1, E)
    elif only == 2:
        for j in range(W):
            row[j] = input_element(d, j, 2, E)
    elif only == E - 1:
        for j in range(W):
            row[j] = input_element(d, j, E - 1, E)
    elif only == 3:
        for j in range(W):
            row[j] = input_element(d, j, 3, E)
    else:
        for j in range(W):
            row[j] = input_element(d, j, E - 2, E)
    for _ in range(E if only < 0 else 1):
        for j in range(pad):
            scratch[j] = lanes_set(0)
        for j in range(pad + W, RW):
            scratch[j] = lanes_set(0)
        for j in range(E):
            d[j] = scratch + j
        for t in range(tiles_across(p.out_w, M)):
            input_elements(d, M * t, to + t * step, stride, E)
        scratch += RW
        to += E * stride


cdef inline void transform_input(
    const Convolution *p, const lanes *x, int tile_row, int only, lanes *transformed,
    Py_ssize_t stride, Py_ssize_t step, lanes *scratch, int M,
) noexcept nogil:
    """B' d B of the tiles in one row of one channel, or its row `only`, if that is not
    negative.

    x        [H][W]  lanes, one channel
    transformed  element (i, j) of tile t goes to (i E + j) `stride` + t `step`, or to
                 j `stride` + t `step`
    scratch  lanes, `transform_scratch`
    """
    if M == 4:
        transform_input_by(p, x, tile_row, only, transformed, stride, step, scratch, 4)
    elif M == 3:
        transform_input_by(p, x, tile_row, only, transformed, stride, step, scratch, 3)
    else:
        transform_input_by(p, x, tile_row, only, transformed, stride, step, scratch, 2)


cdef inline void transform_gradient_by(
    const Convolution *p, const lanes *dy, int tile_row, int only, lanes *to,
    Py_ssize_t stride, Py_ssize_t step, lanes *scratch, int M,
) noexcept nogil:
    """`transform_gradient` with M as a constant."""
    cdef int OW = p.out_w
    cdef int RW = row_lanes(p, M)
    cdef int E = M + 2
    cdef int i, j, t, _
    cdef lanes *row = scratch
    cdef lanes *zeros = scratch + E * RW
    cdef const lanes *d[MOST_ELEMENTS]
    for j in range(OW):
        zeros[j] = lanes_set(0)
    for i in range(M):
        d[i] = dy + (M * tile_row + i) * OW if M * tile_row + i < p.out_h else zeros
    if only < 0:
        for j in range(OW):
            gradient_elements(d, j, row + j, RW, E, M)
    elif only == 0:
        for j in range(OW):
            row[j] = gradient_element(d, j, 0, E, M)
    elif only == 1:
        for j in range(OW):
            row[j] = gradient_element(d, j, 1, E, M)
    elif only == 2:
        for j in range(OW):
            row[j] = gradient_element(d, j, 2, E, M)
    elif only == E - 1:
        for j in range(OW):
            row[j] = gradient_element(d, j, E - 1, E, M)
    elif only == 3:
        for j in range(OW):
            row[j] = gradient_element(d, j, 3, E, M)
    else:
        for j in range(OW):
            row[j] = gradient_element(d, j, E - 2, E, M)
    for _ in range(E if only < 0 else 1):
        for j in range(OW, RW):
            row[j] = lanes_set(0)
        for j in range(M):
            d[j] = row + j
        for t in range(tiles_across(OW, M)):
            gradient_elements(d, M * t, to + t * step, stride, E, M)
        row += RW
        to += E * stride


cdef inline void transform_gradient(
    const Convolution *p, const lanes *dy, int tile_row, int only, lanes *transformed,
    Py_ssize_t stride, Py_ssize_t step, lanes *scratch, int M,
) noexcept nogil:
    """A dy A' of the tiles in one row of one filter, as in `transform_input`.

    dy  [OH][OW]  lanes, one filter
    """
    if M == 4:
        transform_gradient_by(p, dy, tile_row, only, transformed, stride, step, scratch, 4)
    elif M == 3:
        transform_gradient_by(p, dy, tile_row, only, transformed, stride, step, scratch, 3)
    else:
        transform_gradient_by(p, dy, tile_row, only, transformed, stride, step, scratch, 2)


cdef inline void output_tiles(
    const Convolution *p, const lanes *m, Py_ssize_t stride, int rows, float bias,
    lanes *y, int M,
) noexcept nogil:
    """`inverse_transform_output` with M as a constant, without the activation."""
    cdef int E = M + 2
    cdef int i, j, t
    cdef lanes half[MOST_OUTPUTS * MOST_ELEMENTS]
    for t in range(tiles_across(p.out_w, M)):
        for i in range(E):
            output_rows(m + t + E * i * stride, stride, lanes_set(0), half + i, E, M, E, M)
        for j in range(M):
            if M * t + j < p.out_w:
                output_rows(
                    half + E * j, 1, lanes_set(bias), y + M * t + j, p.out_w, rows, E, M
                )


cdef inline void inverse_transform_output(
    const Convolution *p, const lanes *transformed, Py_ssize_t stride, int tile_row,
    float bias, lanes *y, int activation, int M,
) noexcept nogil:
    """M rows of y = activation(A' M A + bias) of one filter.

    transformed  element (i, j) of tile t lies at (i E + j) `stride` + t
    y       [OH][OW]  lanes, one filter, M rows written
    """
    cdef int oy = M * tile_row
    cdef int rows = min(M, p.out_h - oy)
    cdef lanes *to = y + oy * p.out_w
    if M == 4:
        output_tiles(p, transformed, stride, rows, bias, to, 4)
    elif M == 3:
        output_tiles(p, transformed, stride, rows, bias, to, 3)
    else:
        output_tiles(p, transformed, stride, rows, bias, to, 2)
    if activation != 0:
        activation_forward(to, to, p.out_w * rows, activation)


cdef inline void add_input_gradient_by(
    const Convolution *p, const lanes *m, Py_ssize_t stride, int tile_row, lanes *dx,
    lanes *scratch, int M,
) noexcept nogil:
    """`add_input_gradient` with M as a constant."""
    cdef int W = p.width
    cdef int E = M + 2
    cdef int RW = row_lanes(p, M)
    cdef int top = p.top + M * tile_row
    cdef int i, j, t
    cdef lanes *nowhere = scratch + E * RW
    cdef lanes *to[MOST_ELEMENTS]
    for j in range(W):
        nowhere[j] = lanes_set(0)
    for i in range(E):
        for j in range(E):
            to[j] = scratch + i * RW + j
        for j in range(RW):
            to[0][j] = lanes_set(0)
        for t in range(tiles_across(p.out_w, M)):
            input_gradient_rows(m + E * i * stride + t, stride, to, M * t, E)
    for i in range(E):
        to[i] = dx + (top + i) * W if 0 <= top + i < p.height else nowhere
    for j in range(W):
        input_gradient_rows(scratch - p.top + j, RW, to, j, E)


cdef inline void add_input_gradient(
    const Convolution *p, const lanes *transformed, Py_ssize_t stride, int tile_row,
    lanes *dx, lanes *scratch, int M,
) noexcept nogil:
    """dx += B dV B' of the tiles in one row of one channel, read as in
    `inverse_transform_output`.

    dx  [H][W]  lanes, one channel
    """
    if M == 4:
        add_input_gradient_by(p, transformed, stride, tile_row, dx, scratch, 4)
    elif M == 3:
        add_input_gradient_by(p, transformed, stride, tile_row, dx, scratch, 3)
    else:
        add_input_gradient_by(p, transformed, stride, tile_row, dx, scratch, 2)


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
    int blocks, lanes *scratch, int part, int parts,
) noexcept nogil:
    """y = activation(bias + x * w) of several blocks, a row of tiles at a time: a part of
    the rows

    of_block  the product of one block: F filters, C taps, TW columns
    x       [blocks][C][H][W]    lanes, `x_block` apart
    packed  weights in tile order, element by element
    bias    (F,)                 float, or NULL
    y       [blocks][F][OH][OW]  lanes, `y_block` apart, written
    """
    cdef Correlation product = product_of(of_block, blocks)
    cdef int M = of_block.side
    cdef int elements = (M + 2) * (M + 2)
    cdef int across = of_block.out_w
    cdef Py_ssize_t stride = packed_size(of_block)
    cdef Py_ssize_t v_stride = odd_lines(<Py_ssize_t>product.out_w * p.channels)
    cdef Py_ssize_t m_stride = odd_lines(<Py_ssize_t>product.out_w * p.filters)
    cdef lanes *v = scratch
    cdef lanes *m = v + elements * v_stride
    cdef int down = tiles_across(p.out_h, M)
    cdef int c, f, i, b, tile_row
    scratch = m + elements * m_stride
    for tile_row in range(down * part // parts, down * (part + 1) // parts):
        for b in range(blocks):
            for c in range(p.channels):
                transform_input(
                    p, x + b * x_block + <Py_ssize_t>c * p.height * p.width, tile_row, -1,
                    v + b * across * p.channels + c, v_stride, p.channels, scratch, M,
                )
        for i in range(elements):
            product.run(
                &product, v + i * v_stride, packed + i * stride, NULL, m + i * m_stride,
                NULL, 0, True, 0, 1,
            )
        for b in range(blocks):
            for f in range(p.filters):
                inverse_transform_output(
                    p, m + f * product.out_w + b * across, m_stride, tile_row,
                    bias[f] if bias != NULL else 0,
                    y + b * y_block + <Py_ssize_t>f * p.out_h * p.out_w, activation, M,
                )


cdef inline void winograd_backward(
    const Convolution *p, const Correlation *of_block, const lanes *dy, Py_ssize_t dy_block,
    const float *packed, lanes *dx, const lanes *x, Py_ssize_t x_block, int activation,
    int blocks, lanes *scratch, int part, int parts,
) noexcept nogil:
    """dx = (gradient of the input) A'(x) of several blocks, a row of tiles at a time: a
    part of the tiles of channels

    of_block  the product of one block: C filters, F taps, TW columns
    dy      [blocks][F][OH][OW]  lanes, `dy_block` apart
    packed  weights in tile order, element by element
    dx      [blocks][C][H][W]    lanes, `x_block` apart, written
    x       like dx              lanes, output of the activation below
    """
    cdef Correlation product = product_of(of_block, blocks)
    cdef int M = of_block.side
    cdef int elements = (M + 2) * (M + 2)
    cdef int across = of_block.out_w
    cdef Py_ssize_t stride = packed_size(of_block)
    cdef Py_ssize_t area = <Py_ssize_t>p.height * p.width
    cdef Py_ssize_t v_stride = odd_lines(<Py_ssize_t>product.out_w * p.channels)
    cdef Py_ssize_t m_stride = odd_lines(<Py_ssize_t>product.out_w * p.filters)
    cdef lanes *v = scratch
    cdef lanes *m = v + elements * v_stride
    cdef int tf = tile_filters(product.tile)
    cdef int tiles = (p.channels + tf - 1) // tf
    cdef int first = tiles * part // parts * tf
    cdef int end = min(p.channels, tiles * (part + 1) // parts * tf)
    cdef Py_ssize_t start = first * area
    cdef Py_ssize_t inputs = (end - first) * area
    cdef int c, f, i, b, tile_row
    scratch = m + elements * m_stride
    if end == first:
        return
    for b in range(blocks):
        memset(dx + b * x_block + start, 0, inputs * sizeof(lanes))
    for tile_row in range(tiles_across(p.out_h, M)):
        for b in range(blocks):
            for f in range(p.filters):
                transform_gradient(
                    p, dy + b * dy_block + <Py_ssize_t>f * p.out_h * p.out_w, tile_row, -1,
                    m + b * across * p.filters + f, m_stride, p.filters, scratch, M,
                )
        for i in range(elements):
            product.run(
                &product, m + i * m_stride, packed + i * stride, NULL, v + i * v_stride,
                NULL, 0, True, part, parts,
            )
        for b in range(blocks):
            for c in range(first, end):
                add_input_gradient(
                    p, v + c * product.out_w + b * across, v_stride, tile_row,
                    dx + b * x_block + <Py_ssize_t>c * p.height * p.width, scratch, M,
                )
    for b in range(blocks):
        activation_backward(
            x + b * x_block + start, dx + b * x_block + start, dx + b * x_block + start,
            inputs, activation,
        )


cdef inline void element_backward_params(
    const Convolution *p, const lanes *v, const lanes *m, Py_ssize_t tiles, float *dweight,
    int elements,
) noexcept nogil:
    """dweight[f, c] += sum over tiles, lanes of m[f, tile] * v[c, tile], for one of the
    elements.

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
                        <Py_ssize_t>(filter0 + f) * elements * p.channels + channel0 + t
                    ] += sums[f * TILE_FOUR_X + t]


cdef inline void winograd_backward_params(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight, float *dbias,
    lanes *scratch, int M,
) noexcept nogil:
    """Gradient of the parameters, that of the weights in the transform domain; a row of
    elements at a time

    x        [C][H][W]    lanes
    dy       [F][OH][OW]  lanes, gradient of the output before its activation
    dweight  (F, E E, C)  float, added to
    dbias    (F,)         float, added to, or NULL
    """
    cdef int E = M + 2
    cdef int across = tiles_across(p.out_w, M)
    cdef int down = tiles_across(p.out_h, M)
    cdef int tile_rows = tile_rows_per_pass(p, M)
    cdef Py_ssize_t v_stride = odd_lines(<Py_ssize_t>tile_rows * across * p.channels)
    cdef Py_ssize_t m_stride = odd_lines(<Py_ssize_t>tile_rows * across * p.filters)
    cdef lanes *v = scratch
    cdef lanes *m = v + E * v_stride
    cdef Py_ssize_t tiles
    cdef int c, f, i, j, row, rows, tile_row
    scratch = m + E * m_stride
    for row from 0 <= row < down by tile_rows:
        rows = min(tile_rows, down - row)
        tiles = rows * across
        for i in range(E):
            for c in range(p.channels):
                for tile_row in range(rows):
                    transform_input(
                        p, x + <Py_ssize_t>c * p.height * p.width, row + tile_row, i,
                        v + c * tiles + tile_row * across, v_stride, 1, scratch, M,
                    )
            for f in range(p.filters):
                for tile_row in range(rows):
                    transform_gradient(
                        p, dy + <Py_ssize_t>f * p.out_h * p.out_w, row + tile_row, i,
                        m + f * tiles + tile_row * across, m_stride, 1, scratch, M,
                    )
            for j in range(E):
                element_backward_params(
                    p, v + j * v_stride, m + j * m_stride, tiles,
                    dweight + <Py_ssize_t>(E * i + j) * p.channels, E * E,
                )
    if dbias != NULL:
        bias_gradient(dy, dbias, p.filters, p.out_h * p.out_w)


cdef inline void add_weight_gradient(
    const float *transformed, float *dweight, int channels, int M
) noexcept nogil:
    """dweight[c] += G' dU G of one filter

    transformed   (E E, C)    float
    dweight  (C, 3, 3)  float, added to
    """
    cdef int E = M + 2
    cdef float[MOST_ELEMENTS][3] g
    cdef float[3 * MOST_ELEMENTS][LANES] rows
    cdef float[LANES] total
    cdef int c, n, i, j, k, r
    cdef const float *u
    for i in range(E):
        shares_of_rows(E, 3, i, g[i])
    for c from 0 <= c < channels by LANES:
        n = min(LANES, channels - c)
        memset(rows, 0, sizeof(rows))
        for i in range(E):
            for j in range(E):
                u = transformed + <Py_ssize_t>(E * i + j) * channels + c
                for k in range(3):
                    for r in range(n):
                        rows[3 * i + k][r] += g[j][k] * u[r]
        for j in range(3):
            for k in range(3):
                for r in range(LANES):
                    total[r] = 0
                for i in range(E):
                    for r in range(LANES):
                        total[r] += g[i][j] * rows[3 * i + k][r]
                for r in range(n):
                    dweight[9 * (c + r) + 3 * j + k] += total[r]
