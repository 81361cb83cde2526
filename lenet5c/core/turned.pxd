"""The gradient of a convolution's weight with lanes over channels instead of images.

`conv_backward_params` needs a horizontal sum for each weight, and where a map is small,
that is more work than the products. Here x and dy are turned into panels, and the sum over
the images is part of a plain register tile, as in `dense.pxd`.

    C, F, H W, OH OW   as in conv.pxd
    N                  images of the panels
    TF, TX             TILE_PAIR_F, TILE_PAIR_X * LANES: filters and channels of a tile
"""

from libc.string cimport memset

from lenet5c.core.conv cimport Convolution, bias_gradient
from lenet5c.core.dense cimport add_rows, turn_block
from lenet5c.core.lanes cimport (
    LANES, TILE_MOST, TILE_PAIR_F, TILE_PAIR_X, lanes, lanes_rounds, lanes_set,
)
from lenet5c.core.tile cimport multiply_tile

cdef enum:
    TX = TILE_PAIR_X * LANES
    FEW_PIXELS = 16  # of a block's output; beyond, the sums cost less. Measured
    PANEL_IMAGES = 128  # that go through all products of a pixel while they are in cache


cdef struct Panels:
    # x and dy of some images, turned
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


cdef inline bint turning_pays(const Convolution *p) noexcept nogil:
    """Whether the maps of a block are small, and wide enough for a few whole tiles."""
    return (
        p.channels >= TX and p.filters >= 2 * TILE_PAIR_F
        and p.out_h * p.out_w <= FEW_PIXELS and p.height * p.width <= 4 * FEW_PIXELS
    )


cdef inline void turn_maps(
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
            turn_block(x + c * area + i, area, to, TX, min(<Py_ssize_t>TX, p.channels - c))
    for f in range(p.filters):
        for i in range(out_area):
            to = panels.dy + (
                (f // TILE_PAIR_F * out_area + i) * panels.images + image
            ) * TILE_PAIR_F + f % TILE_PAIR_F
            for n in range(LANES):
                to[n * TILE_PAIR_F] = (<const float *>(dy + f * out_area + i))[n]


cdef inline void turned_tile(
    const Convolution *p, const Panels *panels, int filter0, int channel0, int ky, int kx,
    int oy, int rows, int ox, int columns, Py_ssize_t image, int images,
    float *dweight, Py_ssize_t dweight_row, int filters, int channels,
) noexcept nogil:
    """dweight[f, c] += sum over oy, ox, n of dy[f, oy, ox, n] * x[c, iy, ix, n]

    for the first `filters` of TF and `channels` of TX, one tap, `rows` x `columns` outputs
    and `images` images
    """
    cdef lanes acc[TILE_MOST]
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


cdef inline void turned_backward_params(
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
    turn_maps(p, &panels, x, dy, 0)
    for f from 0 <= f < p.filters by TILE_PAIR_F:
        for c from 0 <= c < p.channels by TX:
            for ky in range(p.kernel_h):
                oy = first_output(p.top + ky, S)
                for kx in range(p.kernel_w):
                    turned_tile(
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
                            turned_tile(
                                p, panels, filter0, c, ky, kx, oy, 1, ox, 1, image,
                                min(<Py_ssize_t>PANEL_IMAGES, panels.images - image),
                                scratch + (ky * KW + kx) * TILE_PAIR_F * TX, TX,
                                TILE_PAIR_F, TX,
                            )
        for f in range(min(TILE_PAIR_F, p.filters - filter0)):
            for t in range(min(TX, p.channels - c)):
                to = dweight + (<Py_ssize_t>(filter0 + f) * p.channels + c + t) * taps
                sums = scratch + f * TX + t
                for tap in range(taps):
                    to[tap] = sums[tap * TILE_PAIR_F * TX] + (to[tap] if add else 0)


cdef inline bint takes_patches(const Convolution *p) noexcept nogil:
    """Whether the map has too few channels for a tile, so that patches are turned."""
    return p.channels < TX


cdef inline Convolution convolution_of_panels(const Convolution *p) noexcept nogil:
    """The same as a 1x1 convolution of patches, if it takes them: its channels are those
    and the taps."""
    cdef Convolution patches = p[0]
    if not takes_patches(p):
        return patches
    patches.channels = p.channels * p.kernel_h * p.kernel_w
    patches.height = p.out_h
    patches.width = p.out_w
    patches.kernel_h = patches.kernel_w = patches.stride = 1
    patches.top = patches.left = 0
    return patches


cdef inline Py_ssize_t patch_lanes(const Convolution *p) noexcept nogil:
    """Lanes of a block's patches."""
    if not takes_patches(p):
        return 0
    cdef Py_ssize_t taps = p.kernel_h * p.kernel_w
    return taps * p.channels * p.out_h * p.out_w


cdef inline void take_patches(
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
