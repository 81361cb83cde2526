"""Convolution by fewer multiplications along the rows of its kernel: F(M, R) of Toom and
Cook (Winograd 1980, "Arithmetic Complexity of Computations"), in one direction.

    C, F           channels in, filters (channels out)
    H W, OH OW     input map, output map; the stride is 1
    R, KW, P       rows and columns of the kernel, zero padding
    band           M rows of the output, from the E = M + R - 1 rows of the input above them
    element        one of the E of a column of a band in the transform domain

The M outputs of a column are A'[(G w) * (B' d)] of a column w of the kernel and a column d
of the input: E products where the sum over the rows has M R. With all channels, filters and
columns each of the E elements is a correlation of one row, and its derivatives are two more
on the same:

    y  = A' M              M = U V, U = G w, V = B' d
    dw = G' dU             dU = dM V, dM = A dy
    dx = B dV, added up    dV = U' dM

E is 8 or 6 (toom_cook.pxd). With 5 rows, bands of 4 outputs take 8 products in place of 20.
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.kernels.correlate cimport (
    Bands, Correlation, correlate_columns, correlation_cost, half_suffices, packed_size,
)
from lenet5c.core.kernels.toom_cook cimport (
    gradient_elements, input_elements, input_gradient_rows, output_rows, shares_of_rows,
)
from lenet5c.core.kernels.weight_gradient cimport Convolution, bias_gradient
from lenet5c.core.lanes cimport (
    TILE_FIVE_F, TILE_FIVE_X, TILE_FOUR_F, TILE_FOUR_X, TILE_MAX, TILE_PAIR_F,
    TILE_PAIR_X, TILE_SLIM_F, TILE_SLIM_X, TILE_SUMS, TILE_TALL_F, TILE_TALL_X,
    TILE_THREE_F, TILE_THREE_X, TILE_WIDE_F, TILE_WIDE_X, lanes, lanes_set, odd_lines,
)
from lenet5c.core.tile cimport (
    FIVE, FOUR, PAIR, SLIM, TALL, THREE, WIDE, correlate_tile, sum_tile, tile_columns,
    tile_filters,
)

cdef enum:
    MOST_ROWS = 7  # of a kernel
    MOST_TAPS = 16  # columns of a kernel
    PART_FLOATS = MOST_TAPS * TILE_MAX  # of each row of weights, transformed at a time
    PASS_LANES = 1 << 13  # of the transform domain, in a pass of the weight gradient

cdef inline int elements_of(const Bands *bands) noexcept nogil:
    """Of the weights: those of 8, if there are such bands, and those of 6."""
    return (8 if bands.eights else 0) + (6 if bands.sixes else 0)


cdef inline int band_elements(const Bands *bands, int band) noexcept nogil:
    return 8 if band < bands.eights else 6


cdef inline int band_row(const Bands *bands, int band, int R) noexcept nogil:
    """The first output row of a band."""
    cdef int sixes = max(0, band - bands.eights)
    return (band - sixes) * (9 - R) + sixes * (7 - R)


cdef inline Bands fewest_bands(int out_h, int R) noexcept nogil:
    """The bands that cover so many rows with the fewest products; none if R is not odd,
    from 3 to 7."""
    cdef Bands bands, best
    cdef int products, fewest = 0
    cdef int left
    best.eights = best.sixes = 0
    if R % 2 == 0 or not 3 <= R <= MOST_ROWS:
        return best
    for bands.eights in range(out_h // (9 - R) + 2):
        left = max(0, out_h - bands.eights * (9 - R))
        bands.sixes = 0
        if left > 0:
            if R == 7:  # F(0, 7)
                continue
            bands.sixes = (left + 6 - R) // (7 - R)
        products = 8 * bands.eights + 6 * bands.sixes
        if fewest == 0 or products < fewest:
            fewest = products
            best = bands
    return best


cdef inline int padded_width(const Convolution *p) noexcept nogil:
    """Columns of an element of the input: those of x, and of zeros at both sides."""
    return p.width - 2 * p.top


cdef inline int gradient_width(const Convolution *p) noexcept nogil:
    """Columns of an element of dy, from which each column of dx reads KW."""
    return p.width + p.kernel_w - 1


cdef inline double transform_cycles(
    const Convolution *p, const Bands *bands
) noexcept nogil:
    """Cycles of the transforms there and back, estimated: loads, sums and stores."""
    cdef double there = 14 * bands.eights + 9 * bands.sixes
    cdef double back = 13 * bands.eights + 8 * bands.sixes
    return there * p.channels * p.width + back * p.filters * p.out_w


cdef inline double rows_cycles(
    const Convolution *p, const Correlation *of_element
) noexcept nogil:
    """Cycles of the forward pass, estimated."""
    cdef const Bands *bands = &of_element.bands
    cdef double rows = 8 * bands.eights + 6 * bands.sixes
    cdef double products = correlation_cost(of_element, of_element.tile)
    return rows * p.channels * products + transform_cycles(p, bands)


cdef inline bint rows_pay(
    const Convolution *p, const Correlation *direct, const Correlation *of_element
) noexcept nogil:
    """Whether the forward pass takes fewer cycles so, estimated."""
    cdef double sums = (
        <double>p.out_h * p.channels * p.kernel_h * correlation_cost(direct, direct.tile)
    )
    return rows_cycles(p, of_element) < sums


cdef inline double rows_params_cycles(
    const Convolution *p, const Bands *bands
) noexcept nogil:
    """Cycles of the weights' gradient, estimated: products, transforms, and 4 for the lanes
    of each sum."""
    cdef double weights = <double>p.filters * p.channels * p.kernel_w
    cdef double products = (8 * bands.eights + 6 * bands.sixes) * weights * p.out_w / 2
    return (
        products + transform_cycles(p, bands) + 4 * elements_of(bands) * weights
    )


cdef inline bint rows_fit(const Convolution *p, const Bands *bands) noexcept nogil:
    """Whether there are bands for this convolution."""
    return (
        bands.eights + bands.sixes > 0 and p.stride == 1 and p.kernel_w <= MOST_TAPS
        and -p.top < p.kernel_w and -p.top < p.kernel_h
    )


cdef inline Py_ssize_t input_stride(const Convolution *p) noexcept nogil:
    """Lanes from one element of a band's input to the next."""
    return odd_lines(<Py_ssize_t>p.channels * padded_width(p))


cdef inline int bands_per_pass(const Convolution *p, const Bands *bands) noexcept nogil:
    """Bands whose input and gradient, of a tile of filters, stay in the second-level
    cache: 256 KB with AVX2, 512 KB with AVX-512."""
    cdef Py_ssize_t band = 8 * (
        input_stride(p) + odd_lines(<Py_ssize_t>tile_filters(p.tile) * p.out_w)
    )
    return max(1, min(<Py_ssize_t>bands.eights + bands.sixes, PASS_LANES // band))


cdef inline Py_ssize_t rows_scratch(
    const Convolution *p, const Bands *bands
) noexcept nogil:
    """Lanes that the passes need: zeros, elements of the input and of dy, and a tile."""
    cdef Py_ssize_t gradient = odd_lines(<Py_ssize_t>p.filters * gradient_width(p))
    cdef Py_ssize_t of_tile = odd_lines(<Py_ssize_t>tile_filters(p.tile) * p.out_w)
    cdef Py_ssize_t most = max(input_stride(p), gradient) + 2 * TILE_MAX
    most = max(most, bands_per_pass(p, bands) * (input_stride(p) + of_tile))
    return max(p.width, p.out_w) + 8 * most


cdef inline void pack_elements(
    const Correlation *p, const float *weight, float *packed, int tile, int E
) noexcept nogil:
    """packed[i][tile, c, k, f] = sum over r of G[i, r] weight[f, c, r, k], zero beyond the
    last filter; some channels at a time"""
    cdef int tf = tile_filters(p.tile)
    cdef int valid = min(tf, p.filters - tile * tf)
    cdef int n = p.taps * tf
    cdef int R = p.combined
    cdef Py_ssize_t stride = packed_size(p)
    cdef float[MOST_ROWS][PART_FLOATS] rows
    cdef float[MOST_ROWS] shares
    cdef int several = PART_FLOATS // n
    cdef int channel, channels, c, r, k, f, i, j
    cdef const float *w
    cdef float *to
    memset(rows, 0, sizeof(rows))
    packed += <Py_ssize_t>tile * p.channels * n
    for channel from 0 <= channel < p.channels by several:
        channels = min(several, p.channels - channel)
        for f in range(valid):
            for c in range(channels):
                w = weight + (
                    p.w_start + (tile * tf + f) * p.w_filter
                    + (channel + c) * p.w_channel
                )
                for r in range(R):
                    for k in range(p.taps):
                        rows[r][c * n + k * tf + f] = w[r * p.w_row + k * p.w_tap]
        for i in range(E):
            shares_of_rows(E, R, i, shares)
            to = packed + i * stride
            for j in range(channels * n):
                to[j] = shares[0] * rows[0][j]
            for r in range(1, R):
                if shares[r] != 0:
                    for j in range(channels * n):
                        to[j] += shares[r] * rows[r][j]
        packed += channels * n


cdef inline void pack_rows(
    const Correlation *p, const float *weight, float *packed, int tile
) noexcept nogil:
    """The elements of 8, if there are such bands, and behind them those of 6."""
    if p.bands.eights:
        pack_elements(p, weight, packed, tile, 8)
        packed += 8 * packed_size(p)
    if p.bands.sixes:
        pack_elements(p, weight, packed, tile, 6)


cdef inline const float *packed_band(
    const Correlation *p, const float *packed, int band
) noexcept nogil:
    """The weights for a band."""
    if band >= p.bands.eights > 0:
        return packed + 8 * packed_size(p)
    return packed


cdef inline void transform_band(
    const Convolution *p, const Bands *bands, int band, const lanes *x, lanes *v,
    lanes *zeros,
) noexcept nogil:
    """V of a band, all channels; v: elements [C][W + 2P], `input_stride` apart.

    x      [C][H][W]  lanes
    zeros  [W]        lanes
    """
    cdef Py_ssize_t stride = input_stride(p)
    cdef Py_ssize_t W = p.width
    cdef int E = band_elements(bands, band)
    cdef int pad = -p.top
    cdef int top = p.top + band_row(bands, band, p.kernel_h)
    cdef int _, r, i, column
    cdef const lanes *rows[8]
    for _ in range(p.channels):
        for r in range(E):
            rows[r] = x + (top + r) * W if 0 <= top + r < p.height else zeros
        for column in range(pad):
            for i in range(E):
                v[i * stride + column] = lanes_set(0)
                v[i * stride + pad + W + column] = lanes_set(0)
        if E == 8:
            for column in range(p.width):
                input_elements(rows, column, v + pad + column, stride, 8)
        else:
            for column in range(p.width):
                input_elements(rows, column, v + pad + column, stride, 6)
        x += p.height * W
        v += padded_width(p)


cdef inline void gradient_columns(
    const lanes **d, int n, lanes *to, Py_ssize_t stride, int E, int R
) noexcept nogil:
    """`gradient_elements` of n columns, with the sizes as constants."""
    cdef int x
    if E == 8 and R == 5:
        for x in range(n):
            gradient_elements(d, x, to + x, stride, 8, 4)
    elif E == 6 and R == 5:
        for x in range(n):
            gradient_elements(d, x, to + x, stride, 6, 2)
    elif E == 8 and R == 3:
        for x in range(n):
            gradient_elements(d, x, to + x, stride, 8, 6)
    elif E == 6:
        for x in range(n):
            gradient_elements(d, x, to + x, stride, 6, 4)
    else:
        for x in range(n):
            gradient_elements(d, x, to + x, stride, 8, 2)


cdef inline void transform_gradient_band(
    const Convolution *p, const Bands *bands, int band, const lanes *dy, int filter0,
    int filters, lanes *m, Py_ssize_t stride, Py_ssize_t row, int left,
    const lanes *zeros,
) noexcept nogil:
    """dM of a band for some filters; m: elements [filters][row], `stride` apart, `left`
    columns and what follows the last one zero.

    dy     [F][OH][OW]  lanes
    zeros  [OW]         lanes
    """
    cdef int E = band_elements(bands, band)
    cdef int R = p.kernel_h
    cdef int oy = band_row(bands, band, R)
    cdef Py_ssize_t OW = p.out_w
    cdef int _, j, i, column
    cdef const lanes *rows[8]
    dy += filter0 * p.out_h * OW
    for _ in range(filters):
        for j in range(E + 1 - R):
            rows[j] = dy + (oy + j) * OW if oy + j < p.out_h else zeros
        for i in range(E):
            for column in range(left):
                m[i * stride + column] = lanes_set(0)
            for column in range(left + OW, row):
                m[i * stride + column] = lanes_set(0)
        gradient_columns(rows, p.out_w, m + left, stride, E, R)
        dy += p.out_h * OW
        m += row


cdef inline void output_columns(
    const lanes *m, Py_ssize_t stride, lanes bias, lanes *y, Py_ssize_t y_row, int rows,
    int n, int E, int R,
) noexcept nogil:
    """`output_rows` of n columns, with the sizes as constants."""
    cdef int x
    if E == 8 and R == 5:
        for x in range(n):
            output_rows(m + x, stride, bias, y + x, y_row, rows, 8, 4)
    elif E == 6 and R == 5:
        for x in range(n):
            output_rows(m + x, stride, bias, y + x, y_row, rows, 6, 2)
    elif E == 8 and R == 3:
        for x in range(n):
            output_rows(m + x, stride, bias, y + x, y_row, rows, 8, 6)
    elif E == 6:
        for x in range(n):
            output_rows(m + x, stride, bias, y + x, y_row, rows, 6, 4)
    else:
        for x in range(n):
            output_rows(m + x, stride, bias, y + x, y_row, rows, 8, 2)


cdef struct Band:
    # one band of y, or of the gradient of the input
    const Convolution *conv
    const Correlation *product  # of one element
    int number
    const lanes *elements  # of the input, or of dy
    Py_ssize_t stride
    const float *packed
    const float *bias
    lanes *to  # y or dx, all of it
    int activation  # of y
    lanes *m  # products of one tile
    lanes *nowhere  # for rows of dx that do not exist


cdef inline void forward_tile(
    const Band *b, int filter0, int column, int TF, int TX
) noexcept nogil:
    """The rows of a band of y, for TF filters and TX columns, activated while they are in
    the first-level cache."""
    cdef const Convolution *p = b.conv
    cdef int E = band_elements(&b.product.bands, b.number)
    cdef int oy = band_row(&b.product.bands, b.number, p.kernel_h)
    cdef int rows = min(E + 1 - p.kernel_h, p.out_h - oy)
    cdef lanes *y = b.to + (<Py_ssize_t>filter0 * p.out_h + oy) * p.out_w + column
    cdef int f, row
    cdef float bias
    for f in range(min(TF, p.filters - filter0)):
        bias = b.bias[filter0 + f] if b.bias != NULL else 0
        output_columns(
            b.m + f * TX, TF * TX, lanes_set(bias), y, p.out_w, rows, TX, E, p.kernel_h
        )
        for row in range(rows):
            activation_forward(y + row * p.out_w, y + row * p.out_w, TX, b.activation)
        y += <Py_ssize_t>p.out_h * p.out_w


cdef inline void backward_tile(
    const Band *b, int channel0, int column, int known, int TF, int TX
) noexcept nogil:
    """What a band adds to its E rows of dx, for TF channels and TX columns; the first
    `known` of them have been added before."""
    cdef const Convolution *p = b.conv
    cdef int E = band_elements(&b.product.bands, b.number)
    cdef int top = band_row(&b.product.bands, b.number, p.kernel_h) + p.top
    cdef lanes *dx = b.to + <Py_ssize_t>channel0 * p.height * p.width + column
    cdef int c, r, t
    cdef lanes *rows[8]
    for c in range(min(TF, p.channels - channel0)):
        for r in range(E):
            rows[r] = dx + (top + r) * p.width if 0 <= top + r < p.height else b.nowhere
        if E == 8:
            for t in range(known, TX):
                input_gradient_rows(b.m + c * TX + t, TF * TX, rows, t, 8)
        else:
            for t in range(known, TX):
                input_gradient_rows(b.m + c * TX + t, TF * TX, rows, t, 6)
        dx += <Py_ssize_t>p.height * p.width


cdef inline void band_tile(
    const Band *b, int filter0, int column, int known, int TF, int TX, bint forward
) noexcept nogil:
    """One tile of each element's product, and what becomes of it."""
    cdef Correlation tile = b.product[0]
    cdef Py_ssize_t stride = packed_size(b.product)
    cdef int i
    tile.y_filter = TX
    for i in range(band_elements(&b.product.bands, b.number)):
        correlate_columns(
            &tile, b.elements + i * b.stride, b.packed + i * stride, NULL,
            b.m + i * TF * TX - (filter0 * TX + column), filter0, 0, column, TF, TX, 1,
        )
    if forward:
        forward_tile(b, filter0, column, TF, TX)
    else:
        backward_tile(b, filter0, column, known, TF, TX)


cdef inline void band_columns(
    const Band *b, int filter0, int column, int columns, int TF, int TX, bint forward
) noexcept nogil:
    """The columns from `column` to before `columns` of TF filters, tile by tile as in
    `correlate_row`."""
    cdef int done = column
    while True:
        band_tile(b, filter0, column, done - column, TF, TX, forward)
        done = column + TX
        if done >= columns:
            return
        if half_suffices(columns - done, TX):
            column = columns - TX // 2
            band_tile(b, filter0, column, done - column, TF, TX // 2, forward)
            return
        column = min(done, columns - TX)


cdef inline void run_band(
    const Band *b, int first, int end, int column, int columns, bint forward
) noexcept nogil:
    """Some tiles of filters, from `first` to before `end`, and columns of a band, by the
    tile that was planned."""
    cdef int tile = b.product.tile
    cdef int tf = tile_filters(tile)
    cdef int filter0
    end = min(end * tf, b.product.filters)
    for filter0 from first * tf <= filter0 < end by tf:
        if tile == TALL:
            band_columns(b, filter0, column, columns, TILE_TALL_F, TILE_TALL_X, forward)
        elif tile == PAIR:
            band_columns(b, filter0, column, columns, TILE_PAIR_F, TILE_PAIR_X, forward)
        elif tile == THREE:
            band_columns(b, filter0, column, columns, TILE_THREE_F, TILE_THREE_X, forward)
        elif tile == FOUR:
            band_columns(b, filter0, column, columns, TILE_FOUR_F, TILE_FOUR_X, forward)
        elif tile == FIVE:
            band_columns(b, filter0, column, columns, TILE_FIVE_F, TILE_FIVE_X, forward)
        elif tile == SLIM:
            band_columns(b, filter0, column, columns, TILE_SLIM_F, TILE_SLIM_X, forward)
        elif tile == WIDE:
            band_columns(b, filter0, column, columns, TILE_WIDE_F, TILE_WIDE_X, forward)
        else:
            band_columns(b, filter0, column, columns, 1, 1, forward)


cdef inline void rows_forward(
    const Convolution *p, const Correlation *of_element, const lanes *x,
    const float *packed, const float *bias, lanes *y, int activation, lanes *scratch,
    int part, int parts,
) noexcept nogil:
    """y = activation(bias + x * w) of one block, a band at a time: a part of all bands and
    tiles of filters

    x       [C][H][W]    lanes
    packed  weights in tile order, element by element
    bias    (F,)         float, or NULL
    y       [F][OH][OW]  lanes, written
    """
    cdef const Bands *bands = &of_element.bands
    cdef lanes *zeros = scratch
    cdef lanes *v = zeros + p.width
    cdef int tf = tile_filters(of_element.tile)
    cdef int tiles = (p.filters + tf - 1) // tf
    cdef int units = (bands.eights + bands.sixes) * tiles
    cdef int first = units * part // parts
    cdef int end = units * (part + 1) // parts
    cdef Band b
    memset(zeros, 0, p.width * sizeof(lanes))
    b.conv = p
    b.product = of_element
    b.elements = v
    b.stride = input_stride(p)
    b.bias = bias
    b.to = y
    b.activation = activation
    b.m = v + 8 * b.stride
    for b.number in range(first // tiles, (end + tiles - 1) // tiles):
        b.packed = packed_band(of_element, packed, b.number)
        transform_band(p, bands, b.number, x, v, zeros)
        run_band(
            &b, max(0, first - b.number * tiles), min(tiles, end - b.number * tiles),
            0, of_element.out_w, True,
        )


cdef inline void rows_backward_input(
    const Convolution *p, const Correlation *of_element, const lanes *dy,
    const float *packed, lanes *dx, const lanes *x, int activation, lanes *scratch,
    int part, int parts,
) noexcept nogil:
    """dx = (gradient of the input) A'(x) of one block, a band at a time: a part of the
    columns

    dy      [F][OH][OW]  lanes
    packed  weights in tile order, element by element
    dx      [C][H][W]    lanes, written
    x       like dx      lanes, output of the activation below
    """
    cdef const Bands *bands = &of_element.bands
    cdef int row = gradient_width(p)
    cdef int tx = tile_columns(of_element.tile)
    cdef int tiles = max(1, p.width // tx)
    cdef int column = tiles * part // parts * tx
    cdef int columns = tiles * (part + 1) // parts * tx
    cdef Py_ssize_t rows = <Py_ssize_t>p.channels * p.height
    cdef Py_ssize_t n, i, at
    cdef lanes *zeros = scratch
    cdef lanes *dm = zeros + max(p.width, p.out_w)
    cdef Band b
    b.conv = p
    b.product = of_element
    b.elements = dm
    b.stride = odd_lines(<Py_ssize_t>p.filters * row)
    b.to = dx
    b.m = dm + 8 * b.stride
    b.nowhere = b.m + 8 * TILE_MAX
    memset(zeros, 0, p.out_w * sizeof(lanes))
    memset(b.nowhere, 0, TILE_MAX * sizeof(lanes))
    if columns == tiles * tx:
        columns = p.width
    n = columns - column
    if n == 0:
        return
    if parts == 1:
        n *= rows
        rows = 1
    for i in range(rows):
        memset(dx + column + i * p.width, 0, n * sizeof(lanes))
    for b.number in range(bands.eights + bands.sixes):
        b.packed = packed_band(of_element, packed, b.number)
        transform_gradient_band(
            p, bands, b.number, dy, 0, p.filters, dm, b.stride, row,
            p.kernel_w - 1 + p.top, zeros,
        )
        run_band(&b, 0, p.channels, column, columns, False)
    for i in range(rows):
        at = column + i * p.width
        activation_backward(x + at, dx + at, dx + at, n, activation)


cdef inline void element_gradients(
    const Convolution *p, const lanes *v, Py_ssize_t v_stride, const lanes *dm,
    Py_ssize_t dm_stride, int bands, float *dweight, int filter0, int known_filters,
    int elements, int E, int TF, int TX,
) noexcept nogil:
    """dweight[f, i, c, k] += sum over bands, columns, lanes of dm[i, f] * v[i, c]

    for TF filters, the first `known_filters` of which have been added before.
    `elements` are there of a filter's weights.
    """
    cdef lanes acc[TILE_MAX]
    cdef float sums[TILE_SUMS]
    cdef int KW = p.kernel_w
    cdef Py_ssize_t width = padded_width(p)
    cdef int i, c, k, kx, f, t
    for i in range(E):
        for c in range(p.channels):
            for k from 0 <= k < KW by TX:
                kx = min(k, KW - TX)
                for t in range(TF * TX):
                    acc[t] = lanes_set(0)
                correlate_tile(
                    acc, v + i * v_stride + c * width + kx, 8 * v_stride, 1, 1,
                    dm + i * dm_stride, p.out_w, 8 * dm_stride, 1, bands, p.out_w, TF, TX,
                )
                sum_tile(acc, sums, TF * TX)
                for f in range(known_filters, TF):
                    for t in range(k - kx, TX):
                        dweight[
                            ((<Py_ssize_t>(filter0 + f) * elements + i) * p.channels + c)
                            * KW + kx + t
                        ] += sums[f * TX + t]


cdef inline void element_gradients_of(
    const Convolution *p, const lanes *v, Py_ssize_t v_stride, const lanes *dm,
    Py_ssize_t dm_stride, int bands, float *dweight, int filter0, int known_filters,
    int elements, int E,
) noexcept nogil:
    """`element_gradients` with the tile that was planned; F >= TF and KW >= TX."""
    if p.tile == TALL:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_TALL_F, TILE_TALL_X,
        )
    elif p.tile == PAIR:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_PAIR_F, TILE_PAIR_X,
        )
    elif p.tile == THREE:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_THREE_F, TILE_THREE_X,
        )
    elif p.tile == FOUR:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_FOUR_F, TILE_FOUR_X,
        )
    elif p.tile == FIVE:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_FIVE_F, TILE_FIVE_X,
        )
    elif p.tile == SLIM:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_SLIM_F, TILE_SLIM_X,
        )
    elif p.tile == WIDE:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, TILE_WIDE_F, TILE_WIDE_X,
        )
    else:
        element_gradients(
            p, v, v_stride, dm, dm_stride, bands, dweight, filter0, known_filters,
            elements, E, 1, 1,
        )


cdef inline void rows_backward_params(
    const Convolution *p, const Bands *bands, const lanes *x, const lanes *dy,
    float *dweight, float *dbias, lanes *scratch,
) noexcept nogil:
    """Gradient of the parameters, that of the weights in the transform domain

    x        [C][H][W]         lanes
    dy       [F][OH][OW]       lanes, gradient of the output before its activation
    dweight  (F, E, C, KW)     float, added to; E the elements of 8 and those of 6
    dbias    (F,)              float, added to, or NULL
    """
    cdef int TF = tile_filters(p.tile)
    cdef Py_ssize_t v_stride = input_stride(p)
    cdef Py_ssize_t dm_stride = odd_lines(<Py_ssize_t>TF * p.out_w)
    cdef int count = bands.eights + bands.sixes
    cdef int several = bands_per_pass(p, bands)
    cdef int elements = elements_of(bands)
    cdef lanes *zeros = scratch
    cdef lanes *v = zeros + max(p.width, p.out_w)
    cdef lanes *dm = v + 8 * several * v_stride
    cdef int first, end, band, begin, stop, E, f, filter0
    memset(zeros, 0, max(p.width, p.out_w) * sizeof(lanes))
    for first from 0 <= first < count by several:
        end = min(first + several, count)
        for band in range(first, end):
            transform_band(p, bands, band, x, v + 8 * (band - first) * v_stride, zeros)
        for f from 0 <= f < p.filters by TF:
            filter0 = min(f, p.filters - TF)
            for band in range(first, end):
                transform_gradient_band(
                    p, bands, band, dy, filter0, TF, dm + 8 * (band - first) * dm_stride,
                    dm_stride, p.out_w, 0, zeros,
                )
            begin = first
            while begin < end:  # bands of 8 elements, then those of 6
                E = band_elements(bands, begin)
                stop = min(end, bands.eights) if E == 8 else end
                element_gradients_of(
                    p, v + 8 * (begin - first) * v_stride, v_stride,
                    dm + 8 * (begin - first) * dm_stride, dm_stride, stop - begin,
                    dweight + <Py_ssize_t>(0 if E == 8 else elements - 6)
                    * p.channels * p.kernel_w,
                    filter0, f - filter0, elements, E,
                )
                begin = stop
    if dbias != NULL:
        bias_gradient(dy, dbias, p.filters, p.out_h * p.out_w)


cdef inline void add_rows_gradient(
    const Convolution *p, const Bands *bands, const float *transformed, float *dweight
) noexcept nogil:
    """dweight[c, r, k] += sum over i of G[i, r] transformed[i, c, k] of one filter

    transformed  (E, C, KW)     float
    dweight      (C, R, KW)     float, added to
    """
    cdef int KW = p.kernel_w
    cdef int R = p.kernel_h
    cdef int elements = elements_of(bands)
    cdef int several = PART_FLOATS // KW
    cdef float[MOST_ROWS][PART_FLOATS] rows
    cdef float[MOST_ROWS] shares
    cdef int channel, n, E, i, element, c, r, j
    cdef const float *u
    for channel from 0 <= channel < p.channels by several:
        n = min(several, p.channels - channel)
        memset(rows, 0, sizeof(rows))
        for element in range(elements):
            E = 8 if bands.eights and element < 8 else 6
            i = element - 8 if bands.eights and E == 6 else element
            shares_of_rows(E, R, i, shares)
            u = transformed + (<Py_ssize_t>element * p.channels + channel) * KW
            for r in range(R):
                for j in range(n * KW):
                    rows[r][j] += shares[r] * u[j]
        for c in range(n):
            for r in range(R):
                for j in range(KW):
                    dweight[j] += rows[r][c * KW + j]
                dweight += KW
