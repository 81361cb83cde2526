"""The gradient of a dense layer's weight, summed over images instead of lanes.

Forward pass and input gradient of a dense layer are `correlate` on a 1x1 map. The gradient
of its weight would need a horizontal sum for each weight and block; here the input of each
block is turned, so that lanes run over input features, and the sum over the images of a
chunk is a plain register tile again.

    N, I, O   images, input features, outputs
    IP, OP    lengths of the rows of x and dy: `input_row`, `output_row`
"""

from lenet5c.core.lanes cimport (
    LANES, TILE_MOST, TILE_PAIR_F, TILE_PAIR_X, lanes, lanes_add_to, lanes_keep, lanes_set,
    lanes_transpose,
)
from lenet5c.core.tile cimport multiply_tile


cdef inline int round_up(int n, int multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


cdef inline int input_row(int inputs) noexcept nogil:
    """Floats from one image's inputs to the next: whole tiles, zero beyond I."""
    return round_up(inputs, TILE_PAIR_X * LANES)


cdef inline int output_row(int outputs) noexcept nogil:
    """Floats from one image's output gradients to the next: a tile may start late."""
    return round_up(outputs + TILE_PAIR_F, LANES)


cdef inline void turn_block(
    const lanes *x, Py_ssize_t step, float *rows, Py_ssize_t row, int features
) noexcept nogil:
    """rows[n, i] = lane n of x[i]

    x     [I]          lanes, `step` apart
    rows  [LANES][IP]  float, `row` apart; zero beyond I
    """
    cdef lanes square[LANES]
    cdef int i, n
    i = 0
    while i < features:
        for n in range(LANES):
            square[n] = x[(i + n) * step] if i + n < features else lanes_set(0)
        lanes_transpose(square)
        for n in range(LANES):
            (<lanes *>(rows + n * row + i))[0] = square[n]
        i += LANES


cdef inline void add_rows(
    const lanes *acc, float *dweight, Py_ssize_t dweight_row, int inputs, int outputs,
    int TF, int TX,
) noexcept nogil:
    """dweight[f, t] += acc[f, t] for the first of `outputs` and of `inputs`"""
    cdef lanes sums[TILE_MOST]  # lanes_keep: or gcc makes acc and sums one array
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


cdef inline void dense_backward_params_tile(
    const float *x, Py_ssize_t x_row, const float *dy, Py_ssize_t dy_row,
    float *dweight, Py_ssize_t dweight_row, int images, int inputs, int outputs,
    int TF, int TX,
) noexcept nogil:
    """dweight[f, t] += sum over n of dy[n, f] * x[n, t], t counting whole registers

    for the first TF of `outputs` and the first TX registers of `inputs`
    """
    cdef lanes acc[TILE_MOST]
    cdef int i
    for i in range(TF * TX):
        acc[i] = lanes_set(0)
    multiply_tile(
        acc, <const lanes *>x, 0, 0, x_row // LANES, 1, dy, 0, 0, dy_row,
        1, 1, images, TF, TX,
    )
    add_rows(acc, dweight, dweight_row, inputs, outputs, TF, TX)


cdef inline void dense_backward_params(
    const float *x, const float *dy, float *dweight, float *dbias,
    int images, int inputs, int outputs, int output0,
) noexcept nogil:
    """dweight[o, i] += sum over n of dy[n, o] * x[n, i]
    dbias[o] += sum over n of dy[n, o]

    for the TILE_PAIR_F outputs from `output0` on

    x        [N][IP]  float, inputs of the forward pass
    dy       [N][OP]  float, gradient of the outputs
    dweight  (O, I)   float, added to
    dbias    (O,)     float, added to, or NULL
    """
    cdef Py_ssize_t x_row = input_row(inputs)
    cdef Py_ssize_t dy_row = output_row(outputs)
    cdef int i = 0
    cdef int o, n
    cdef float total
    while i < inputs:
        dense_backward_params_tile(
            x + i, x_row, dy + output0, dy_row,
            dweight + <Py_ssize_t>output0 * inputs + i, inputs,
            images, inputs - i, outputs - output0, TILE_PAIR_F, TILE_PAIR_X,
        )
        i += TILE_PAIR_X * LANES
    if dbias == NULL:
        return
    for o in range(output0, min(output0 + TILE_PAIR_F, outputs)):
        total = 0
        for n in range(images):
            total += dy[n * dy_row + o]
        dbias[o] += total
