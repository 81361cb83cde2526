"""The gradient of a dense layer's weight, summed over images instead of lanes.

Forward pass and input gradient of a dense layer are `correlate` on a 1x1 map. The gradient
of its weight would need a horizontal sum for each weight and block; here the input of each
block is turned, so that lanes run over input features, and the sum over the images of a
chunk is a plain register tile again.

    N, I, O   images, input features, outputs
    IP, OP    lengths of the rows of x and dy: `input_row`, `output_row`
"""

from lenet5c.core.lanes cimport (
    LANES, TILE_MOST, TILE_PAIR_F, TILE_PAIR_X, lanes, lanes_add_to, lanes_set,
    lanes_transpose,
)
from lenet5c.core.tile cimport multiply_tile


cdef inline int round_up(int n, int multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


cdef inline int input_row(int inputs) noexcept nogil:
    """Floats from one image's inputs to the next: whole tiles, zero beyond I."""
    return round_up(inputs, TILE_PAIR_X * LANES)


cdef inline int output_row(int outputs) noexcept nogil:
    """Floats from one image's output gradients to the next: a tile may start at the last."""
    return round_up(outputs + TILE_PAIR_F, LANES)


cdef inline void turn_block(
    const lanes *x, float *rows, Py_ssize_t row, int features
) noexcept nogil:
    """rows[n, i] = lane n of x[i]

    x     [I]          lanes
    rows  [LANES][IP]  float, `row` apart; zero beyond I
    """
    cdef lanes square[LANES]
    cdef int i, n
    i = 0
    while i < features:
        for n in range(LANES):
            square[n] = x[i + n] if i + n < features else lanes_set(0)
        lanes_transpose(square)
        for n in range(LANES):
            (<lanes *>(rows + n * row + i))[0] = square[n]
        i += LANES


cdef inline void dense_backward_params(
    const float *x, const float *dy, float *dweight, float *dbias,
    int images, int inputs, int outputs, int output0,
) noexcept nogil:
    """dweight[o, i] += sum over n of dy[n, o] * x[n, i];  dbias[o] += sum over n of dy[n, o]

    for the TILE_PAIR_F outputs from `output0` on

    x        [N][IP]  float, inputs of the forward pass
    dy       [N][OP]  float, gradient of the outputs
    dweight  (O, I)   float, added to
    dbias    (O,)     float, added to
    """
    cdef lanes acc[TILE_MOST]
    cdef lanes sums[TILE_MOST]  # a copy, so that what follows leaves acc in registers
    cdef int IP = input_row(inputs)
    cdef int OP = output_row(outputs)
    cdef int i = 0
    cdef int f, t, n
    cdef float total
    while i < inputs:
        for f in range(TILE_PAIR_F):
            for t in range(TILE_PAIR_X):
                acc[f * TILE_PAIR_X + t] = lanes_set(0)
        multiply_tile(
            acc, <const lanes *>(x + i), 0, 0, IP // LANES, 1,
            dy + output0, 0, 0, OP, 1, 1, images, TILE_PAIR_F, TILE_PAIR_X,
        )
        for t in range(TILE_PAIR_F * TILE_PAIR_X):
            sums[t] = acc[t]
        for f in range(TILE_PAIR_F):
            if output0 + f < outputs:
                for t in range(TILE_PAIR_X):
                    if i + t * LANES < inputs:
                        lanes_add_to(
                            dweight + <Py_ssize_t>(output0 + f) * inputs + i + t * LANES,
                            sums[f * TILE_PAIR_X + t], inputs - i - t * LANES,
                        )
        i += TILE_PAIR_X * LANES
    for f in range(output0, min(output0 + TILE_PAIR_F, outputs)):
        total = 0
        for n in range(images):
            total += dy[n * OP + f]
        dbias[f] += total
