"""The gradient of a convolution's weight, with lanes over images or over channels.

`conv_backward_params` needs a horizontal sum for each weight, and where a map is small,
that is more work than the products. There x and dy are transposed into panels, and the sum
over the images is part of a plain register tile, as in kinds/dense.pxd.

    C, F, H W, OH OW   as in correlate.pxd
    N                  images of the panels
    TF, TX             TILE_PAIR_F, TILE_PAIR_X * LANES: filters and channels of a tile
"""

from libc.string cimport memcpy, memset

from lenet5c.core.kernels.pack cimport transpose_block
from lenet5c.core.lanes cimport (
    LANES, TILE_FIVE_F, TILE_FIVE_X, TILE_FOUR_F, TILE_FOUR_X, TILE_MAX, TILE_PAIR_F,
    TILE_PAIR_X, TILE_SLIM_F, TILE_SLIM_X, TILE_SUMS, TILE_TALL_F, TILE_TALL_X,
    TILE_THREE_F, TILE_THREE_X, TILE_WIDE_F, TILE_WIDE_X, lanes, lanes_add_to,
    lanes_keep, lanes_rounds, lanes_set, lanes_sum,
)
from lenet5c.core.tile cimport (
    FIVE, FOUR, PAIR, SLIM, TALL, THREE, WIDE, correlate_tile, multiply_tile, sum_tile,
)

cdef enum:
    PASS_LANES = 448  # of dy, in a pass: 14 KB with AVX2, 28 KB with AVX-512
    TX = TILE_PAIR_X * LANES
    FEW_PIXELS = 16  # of a block's output; beyond, the sums cost less. Measured
    PANEL_IMAGES = 128  # that go through all products of a pixel while they are in cache


cdef struct Convolution:
    # sizes of the forward pass, for the gradient of the parameters
    int channels, height, width, filters, out_h, out_w, kernel_h, kernel_w, stride
    int top, left  # first row and column that a kernel touches; left is 0 if x is padded
    int tile


cdef inline void conv_backward_params_tile(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight,
    int row0, int row_end, int filter0, int known_filters, int channel, int ky, int kx,
    int known_taps, int TF, int TX,
) noexcept nogil:
    """dweight[f, c, ky, kx + t] += sum over oy, ox, lanes of dy[f, oy, ox] * x[...]

    for the output rows from `row0` to before `row_end`. The first
    `known_filters` and `known_taps` of the tile have been added before.
    """
    cdef lanes acc[TILE_MAX]
    cdef float sums[TILE_SUMS]
    cdef int f, t
    cdef int S = p.stride
    cdef Py_ssize_t OW = p.out_w
    cdef Py_ssize_t W = p.width
    # the output rows whose input row oy * S + above exists
    cdef int above = p.top + ky
    cdef int first = max(row0, (S - 1 - above) // S if above < 0 else 0)
    cdef int end = min(row_end, (p.height - 1 - above + S) // S)
    for f in range(TF):
        for t in range(TX):
            acc[f * TX + t] = lanes_set(0)
    correlate_tile(
        acc, x + (channel * p.height + first * S + above) * W + kx, S * W, S, 1,
        dy + (filter0 * p.out_h + first) * OW, p.out_h * OW, OW, 1,
        end - first, p.out_w, TF, TX,
    )
    sum_tile(acc, sums, TF * TX)
    for f in range(known_filters, TF):
        for t in range(known_taps, TX):
            dweight[
                ((<Py_ssize_t>(filter0 + f) * p.channels + channel) * p.kernel_h + ky)
                * p.kernel_w + kx + t
            ] += sums[f * TX + t]


cdef inline void conv_backward_params_by(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight,
    int TF, int TX,
) noexcept nogil:
    """All weights in tiles of TF filters and TX taps of one kernel row. The last tiles are
    moved back to end with the last filter and tap; F >= TF and KW >= TX.

    Each pass goes through rows of the output that stay in the first-level cache.
    """
    cdef int rows_per_pass = max(1, PASS_LANES // (TF * p.out_w))
    cdef int f = 0
    cdef int row, c, ky, kx
    while f < p.filters:
        row = 0
        while row < p.out_h:
            for c in range(p.channels):
                for ky in range(p.kernel_h):
                    kx = 0
                    while kx < p.kernel_w:
                        conv_backward_params_tile(
                            p, x, dy, dweight, row,
                            min(row + rows_per_pass, p.out_h),
                            min(f, p.filters - TF), max(0, f - p.filters + TF), c, ky,
                            min(kx, p.kernel_w - TX), max(0, kx - p.kernel_w + TX),
                            TF, TX,
                        )
                        kx += TX
            row += rows_per_pass
        f += TF


cdef inline void bias_gradient(
    const lanes *dy, float *dbias, int filters, int n
) noexcept nogil:
    """dbias[f] += sum over i, lanes of dy[f, i]

    dy     [F][n]  lanes
    dbias  (F,)    float, added to
    """
    cdef int f, i
    cdef lanes total, total1, total2, total3
    for f in range(filters):
        total = total1 = total2 = total3 = lanes_set(0)  # four: additions wait for no other
        i = 0
        while i + 3 < n:
            total += dy[i]
            total1 += dy[i + 1]
            total2 += dy[i + 2]
            total3 += dy[i + 3]
            i += 4
        while i < n:
            total += dy[i]
            i += 1
        dbias[f] += lanes_sum((total + total1) + (total2 + total3))
        dy += n


cdef inline void conv_backward_params(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight, float *dbias
) noexcept nogil:
    """dweight[f, c, ky, kx] += sum over oy, ox, lanes of dy[f, oy, ox] * x[c, iy, ix]
    dbias[f] += sum over oy, ox, lanes of dy[f, oy, ox]

    x        [C][H][W]       lanes, zero columns at both sides where there is padding
    dy       [F][OH][OW]     lanes, gradient of the output before its activation
    dweight  (F, C, KH, KW)  float, added to
    dbias    (F,)            float, added to, or NULL
    """
    if p.tile == TALL:
        conv_backward_params_by(p, x, dy, dweight, TILE_TALL_F, TILE_TALL_X)
    elif p.tile == PAIR:
        conv_backward_params_by(p, x, dy, dweight, TILE_PAIR_F, TILE_PAIR_X)
    elif p.tile == THREE:
        conv_backward_params_by(p, x, dy, dweight, TILE_THREE_F, TILE_THREE_X)
    elif p.tile == FOUR:
        conv_backward_params_by(p, x, dy, dweight, TILE_FOUR_F, TILE_FOUR_X)
    elif p.tile == FIVE:
        conv_backward_params_by(p, x, dy, dweight, TILE_FIVE_F, TILE_FIVE_X)
    elif p.tile == SLIM:
        conv_backward_params_by(p, x, dy, dweight, TILE_SLIM_F, TILE_SLIM_X)
    elif p.tile == WIDE:
        conv_backward_params_by(p, x, dy, dweight, TILE_WIDE_F, TILE_WIDE_X)
    else:
        conv_backward_params_by(p, x, dy, dweight, 1, 1)
    if dbias != NULL:
        bias_gradient(dy, dbias, p.filters, p.out_h * p.out_w)


cdef inline void blocks_bias_gradient(
    const Convolution *p, const lanes *dy, Py_ssize_t dy_block, float *dbias, int blocks,
    int tile,
) noexcept nogil:
    """`bias_gradient` of TILE_PAIR_F filters for several blocks, `dy_block` apart."""
    cdef int area = p.out_h * p.out_w
    cdef int first = tile * TILE_PAIR_F
    cdef int f, b
    for f in range(first, min(first + TILE_PAIR_F, p.filters)):
        for b in range(blocks):
            bias_gradient(dy + b * dy_block + f * area, dbias + f, 1, area)


cdef inline void add_rows(
    const lanes *acc, float *dweight, Py_ssize_t dweight_row, int inputs, int outputs,
    int TF, int TX,
) noexcept nogil:
    """dweight[f, t] += acc[f, t] for the first of `outputs` and of `inputs`"""
    cdef lanes sums[TILE_MAX]  # lanes_keep: or gcc makes acc and sums one array
    cdef int f, t
    for f in range(TF):
        for t in range(TX):
            sums[f * TX + t] = lanes_keep(acc[f * TX + t])
    for f in range(min(TF, outputs)):
        for t in range(TX):
            if t * LANES < inputs:
                lanes_add_to(
                    dweight + f * dweight_row + t * LANES, sums[f * TX + t],
                    inputs - t * LANES,
                )


cdef struct Panels:
    # x and dy of some images, transposed
    float *x  # [C tiles][H W][N][TX]
    float *dy  # [F tiles][OH OW][N][TF]
    Py_ssize_t images  # N


cdef inline Py_ssize_t tiles_of(Py_ssize_t n, int tile) noexcept nogil:
    return (n + tile - 1) // tile


cdef inline Py_ssize_t panel_floats(const Convolution *p) noexcept nogil:
    """Floats of an image's x and dy in the panels."""
    return (
        tiles_of(p.channels, TX) * TX * p.height * p.width
        + tiles_of(p.filters, TILE_PAIR_F) * TILE_PAIR_F * p.out_h * p.out_w
    )


cdef inline Panels panels_at(
    const Convolution *p, float *start, Py_ssize_t images
) noexcept nogil:
    """Panels of so many images in memory from `start` on."""
    cdef Panels panels
    panels.images = images
    panels.x = start
    panels.dy = start + tiles_of(p.channels, TX) * TX * p.height * p.width * images
    return panels


cdef inline bint transposing_pays(const Convolution *p) noexcept nogil:
    """Whether the maps of a block are small, and wide enough for a few whole tiles."""
    return (
        p.channels >= TX and p.filters >= 2 * TILE_PAIR_F
        and p.out_h * p.out_w <= FEW_PIXELS and p.height * p.width <= 4 * FEW_PIXELS
    )


cdef inline void pack_panels(
    const Convolution *p, const Panels *panels, const lanes *x, const lanes *dy,
    Py_ssize_t image,
) noexcept nogil:
    """x and dy of a block into the panels, from number `image` on.

    x   [C][H][W]    lanes
    dy  [F][OH][OW]  lanes
    """
    cdef Py_ssize_t area = <Py_ssize_t>p.height * p.width
    cdef Py_ssize_t out_area = <Py_ssize_t>p.out_h * p.out_w
    cdef Py_ssize_t c, f, i
    cdef int n
    cdef float *to
    for c from 0 <= c < p.channels by TX:
        for i in range(area):
            to = panels.x + ((c // TX * area + i) * panels.images + image) * TX
            transpose_block(
                x + c * area + i, area, to, TX, min(<Py_ssize_t>TX, p.channels - c)
            )
    for f in range(p.filters):
        for i in range(out_area):
            to = panels.dy + (
                (f // TILE_PAIR_F * out_area + i) * panels.images + image
            ) * TILE_PAIR_F + f % TILE_PAIR_F
            for n in range(LANES):
                to[n * TILE_PAIR_F] = (<const float *>(dy + f * out_area + i))[n]


cdef inline void panel_tile(
    const Convolution *p, const Panels *panels, int filter0, int channel0, int ky, int kx,
    int oy, int rows, int ox, int columns, Py_ssize_t image, int images,
    float *dweight, Py_ssize_t dweight_row, int filters, int channels,
) noexcept nogil:
    """dweight[f, c] += sum over oy, ox, n of dy[f, oy, ox, n] * x[c, iy, ix, n]

    for the first `filters` of TF and `channels` of TX, one tap, `rows` x `columns` outputs
    and `images` images
    """
    cdef lanes acc[TILE_MAX]
    cdef int i
    cdef int S = p.stride
    cdef Py_ssize_t N = panels.images
    cdef Py_ssize_t x_pixel = N * TILE_PAIR_X
    cdef Py_ssize_t dy_pixel = N * TILE_PAIR_F
    cdef Py_ssize_t at = (
        channel0 // TX * <Py_ssize_t>p.height + oy * S + p.top + ky
    ) * p.width + ox * S + p.left + kx
    cdef Py_ssize_t dy_at = (
        filter0 // TILE_PAIR_F * <Py_ssize_t>p.out_h + oy
    ) * p.out_w + ox
    for i in range(TILE_PAIR_F * TILE_PAIR_X):
        acc[i] = lanes_set(0)
    multiply_tile(
        acc, <const lanes *>panels.x + (at * N + image) * TILE_PAIR_X,
        S * p.width * x_pixel, S * x_pixel, TILE_PAIR_X, 1,
        panels.dy + (dy_at * N + image) * TILE_PAIR_F, p.out_w * dy_pixel, dy_pixel,
        TILE_PAIR_F, rows, columns, images, TILE_PAIR_F, TILE_PAIR_X,
    )
    add_rows(
        acc, dweight, dweight_row, channels, filters, TILE_PAIR_F, TILE_PAIR_X,
    )


cdef inline int first_output(int above, int stride) noexcept nogil:
    """The first output whose input, `above` the output times the stride, exists."""
    return (stride - 1 - above) // stride if above < 0 else 0


cdef inline int end_output(int above, int stride, int inputs, int outputs) noexcept nogil:
    """One beyond the last such output."""
    return min(outputs, (inputs - 1 - above + stride) // stride)


cdef inline void transposed_backward_params(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight, float *dbias,
    lanes *scratch,
) noexcept nogil:
    """`conv_backward_params` of a block, with another order of the weights

    x        [C][H][W]        lanes, zero columns at both sides where there is padding
    dy       [F][OH][OW]      lanes, gradient of the output before its activation
    dweight  (F, KH, KW, C)   float, added to
    dbias    (F,)             float, added to, or NULL
    """
    cdef Panels panels = panels_at(p, <float *>scratch, LANES)
    cdef int S = p.stride
    cdef Py_ssize_t taps = p.kernel_h * p.kernel_w
    cdef int f, c, ky, kx, oy
    pack_panels(p, &panels, x, dy, 0)
    for f from 0 <= f < p.filters by TILE_PAIR_F:
        for c from 0 <= c < p.channels by TX:
            for ky in range(p.kernel_h):
                oy = first_output(p.top + ky, S)
                for kx in range(p.kernel_w):
                    panel_tile(
                        p, &panels, f, c, ky, kx,
                        oy, end_output(p.top + ky, S, p.height, p.out_h) - oy,
                        0, p.out_w, 0, lanes_rounds(LANES),
                        dweight + (f * taps + ky * p.kernel_w + kx) * p.channels + c,
                        taps * p.channels, p.filters - f, p.channels - c,
                    )
    if dbias != NULL:
        bias_gradient(dy, dbias, p.filters, p.out_h * p.out_w)


cdef inline Py_ssize_t tile_floats(const Convolution *p) noexcept nogil:
    """Floats of a tile's weights, all taps."""
    return <Py_ssize_t>p.kernel_h * p.kernel_w * TILE_PAIR_F * TX


cdef inline void panels_backward_params(
    const Convolution *p, const Panels *panels, float *dweight, bint add, int tile,
    float *scratch,
) noexcept nogil:
    """dweight[f, c, ky, kx] = sum over oy, ox, n of dy[f, oy, ox, n] * x[c, iy, ix, n]

    for the filters of one tile. All taps of an input pixel are gone through while its panel
    is in the first-level cache.

    dweight  (F, C, KH, KW)        float, written, or added to
    scratch  `tile_floats` floats
    """
    cdef int S = p.stride
    cdef int KW = p.kernel_w
    cdef int taps = p.kernel_h * KW
    cdef int filter0 = tile * TILE_PAIR_F
    cdef int c, y, x, ky, kx, oy, ox, f, t, tap
    cdef Py_ssize_t image
    cdef float *to
    cdef const float *sums
    for c from 0 <= c < p.channels by TX:
        memset(scratch, 0, tile_floats(p) * sizeof(float))
        for image from 0 <= image < panels.images by PANEL_IMAGES:
            for y in range(p.height):
                for x in range(p.width):
                    for ky from (y - p.top) % S <= ky < p.kernel_h by S:
                        oy = (y - p.top - ky) // S
                        if oy < 0 or oy >= p.out_h:
                            continue
                        for kx from (x - p.left) % S <= kx < KW by S:
                            ox = (x - p.left - kx) // S
                            if ox < 0 or ox >= p.out_w:
                                continue
                            panel_tile(
                                p, panels, filter0, c, ky, kx, oy, 1, ox, 1, image,
                                min(<Py_ssize_t>PANEL_IMAGES, panels.images - image),
                                scratch + (ky * KW + kx) * TILE_PAIR_F * TX, TX,
                                TILE_PAIR_F, TX,
                            )
        if taps == 1:
            add_sums(
                scratch, dweight + <Py_ssize_t>filter0 * p.channels + c, p.channels,
                min(TILE_PAIR_F, p.filters - filter0), min(TX, p.channels - c), add,
            )
            continue
        for f in range(min(TILE_PAIR_F, p.filters - filter0)):
            for t in range(min(TX, p.channels - c)):
                to = dweight + (<Py_ssize_t>(filter0 + f) * p.channels + c + t) * taps
                sums = scratch + f * TX + t
                for tap in range(taps):
                    to[tap] = sums[tap * TILE_PAIR_F * TX] + (to[tap] if add else 0)


cdef inline void add_sums(
    const float *sums, float *dweight, Py_ssize_t dweight_row, int filters, int channels,
    bint add,
) noexcept nogil:
    """dweight[f, c] = sums[f, c], written, or added to

    sums  (TF, TX)  float
    """
    cdef int _, c
    for _ in range(filters):
        if not add and channels == TX:
            memcpy(dweight, sums, TX * sizeof(float))
        else:
            for c in range(channels):
                dweight[c] = sums[c] + (dweight[c] if add else 0)
        sums += TX
        dweight += dweight_row


cdef inline bint uses_im2col(const Convolution *p) noexcept nogil:
    """Whether the map has too few channels for a tile, so that its patches make the
    panels."""
    return p.channels < TX


cdef inline Convolution convolution_of_panels(const Convolution *p) noexcept nogil:
    """The same as a 1x1 convolution of patches, if it takes them: its channels are those
    and the taps."""
    cdef Convolution patches = p[0]
    if not uses_im2col(p):
        return patches
    patches.channels = p.channels * p.kernel_h * p.kernel_w
    patches.height = p.out_h
    patches.width = p.out_w
    patches.kernel_h = patches.kernel_w = patches.stride = 1
    patches.top = patches.left = 0
    return patches


cdef inline Py_ssize_t im2col_lanes(const Convolution *p) noexcept nogil:
    """Lanes of a block's patches."""
    if not uses_im2col(p):
        return 0
    cdef Py_ssize_t taps = p.kernel_h * p.kernel_w
    return taps * p.channels * p.out_h * p.out_w


cdef inline void im2col(
    const Convolution *p, const lanes *x, lanes *patches
) noexcept nogil:
    """patches[c, ky, kx, oy, ox] = x[c, iy, ix], zero in the padding

    x        [C][H][W]              lanes
    patches  [C][KH][KW][OH][OW]    lanes, written
    """
    cdef int S = p.stride
    cdef int c, ky, kx, oy, ox, y, first, end
    cdef const lanes *row
    for c in range(p.channels):
        for ky in range(p.kernel_h):
            for kx in range(p.kernel_w):
                first = first_output(p.left + kx, S)
                end = max(first, end_output(p.left + kx, S, p.width, p.out_w))
                for oy in range(p.out_h):
                    y = oy * S + p.top + ky
                    if y < 0 or y >= p.height:
                        memset(patches, 0, p.out_w * sizeof(lanes))
                        patches += p.out_w
                        continue
                    row = x + (c * p.height + y) * p.width + p.left + kx
                    for ox in range(p.out_w):
                        if first <= ox < end:
                            patches[ox] = row[ox * S]
                        else:
                            patches[ox] = lanes_set(0)
                    patches += p.out_w
