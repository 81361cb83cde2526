"""The gradient of a convolution's weight with lanes over channels instead of images.

Where a map is small and has many channels, `conv_backward_params` spends more time on the
horizontal sum of each weight than on products. As in `dense.pxd`, x and dy of a block are
turned, and the sum over the images is part of a plain register tile.

    C, F, H W, OH OW   as in conv.pxd; x has its padding
    CP, FP             lengths of the rows of x and dy: `input_row`, `output_row`
"""

from lenet5c.core.conv cimport Convolution, bias_gradient
from lenet5c.core.dense cimport add_rows, input_row, output_row, turn_block
from lenet5c.core.lanes cimport (
    LANES, TILE_MOST, TILE_PAIR_F, TILE_PAIR_X, lanes, lanes_set,
)
from lenet5c.core.tile cimport multiply_tile

cdef enum:
    FEW_PIXELS = 16  # of the output; beyond, the sums cost less than turning. Measured


cdef inline Py_ssize_t turned_scratch(const Convolution *p) noexcept nogil:
    """Lanes that x and dy of a block take, turned."""
    return (
        <Py_ssize_t>p.height * p.width * input_row(p.channels)
        + <Py_ssize_t>p.out_h * p.out_w * output_row(p.filters)
    )


cdef inline bint turning_pays(const Convolution *p) noexcept nogil:
    """Whether the maps are small, and wide enough for a few whole tiles."""
    return (
        p.channels >= TILE_PAIR_X * LANES and p.filters >= 2 * TILE_PAIR_F
        and p.out_h * p.out_w <= FEW_PIXELS and p.height * p.width <= 4 * FEW_PIXELS
    )


cdef inline void turn_map(
    const lanes *x, float *rows, Py_ssize_t row, int channels, Py_ssize_t area
) noexcept nogil:
    """rows[pixel, n, c] = lane n of x[c, pixel]

    x     [C][area]          lanes
    rows  [area][LANES][row]  float
    """
    cdef Py_ssize_t i
    for i in range(area):
        turn_block(x + i, area, rows + i * LANES * row, row, channels)


cdef inline void turned_backward_params(
    const Convolution *p, const lanes *x, const lanes *dy, float *dweight, float *dbias,
    lanes *scratch,
) noexcept nogil:
    """`conv_backward_params` with another order of the weights

    x        [C][H][W]        lanes, zero columns at both sides where there is padding
    dy       [F][OH][OW]      lanes, gradient of the output before its activation
    dweight  (F, KH, KW, C)   float, added to
    dbias    (F,)             float, added to, or NULL
    """
    cdef lanes acc[TILE_MOST]
    cdef int S = p.stride
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t OW = p.out_w
    cdef Py_ssize_t x_row = input_row(p.channels)
    cdef Py_ssize_t dy_row = output_row(p.filters)
    cdef Py_ssize_t taps = p.kernel_h * p.kernel_w
    cdef float *xs = <float *>scratch
    cdef float *ds = <float *>(scratch + p.height * W * x_row)
    cdef const float *from_tap
    cdef int f, c, ky, kx, i, above, oy, oy_end
    turn_map(x, xs, x_row, p.channels, p.height * W)
    turn_map(dy, ds, dy_row, p.filters, p.out_h * OW)
    for f from 0 <= f < p.filters by TILE_PAIR_F:
        for c from 0 <= c < p.channels by TILE_PAIR_X * LANES:
            for ky in range(p.kernel_h):
                above = p.top + ky
                oy = (S - 1 - above) // S if above < 0 else 0
                oy_end = min(p.out_h, (p.height - 1 - above + S) // S)
                for kx in range(p.kernel_w):
                    for i in range(TILE_PAIR_F * TILE_PAIR_X):
                        acc[i] = lanes_set(0)
                    from_tap = xs + ((oy * S + above) * W + kx) * LANES * x_row + c
                    multiply_tile(
                        acc, <const lanes *>from_tap,
                        S * W * x_row, S * x_row, x_row // LANES, 1,
                        ds + oy * OW * LANES * dy_row + f, OW * LANES * dy_row,
                        LANES * dy_row, dy_row,
                        oy_end - oy, p.out_w, LANES, TILE_PAIR_F, TILE_PAIR_X,
                    )
                    add_rows(
                        acc, dweight + (f * taps + ky * p.kernel_w + kx) * p.channels + c,
                        taps * p.channels, p.channels - c, p.filters - f,
                        TILE_PAIR_F, TILE_PAIR_X,
                    )
    if dbias != NULL:
        bias_gradient(dy, dbias, p.filters, p.out_h * p.out_w)
