"""A dense layer of a single image, or of a few: weights are read where they lie.

    N, I, O   images, input features, outputs

Where I is no whole number of registers, the last one ends at I. Lanes that were summed
before it are zero in one factor, or written twice with the same bits.
"""

from libc.string cimport memcpy

from lenet5c.core.kernels.image cimport LISTED_X
from lenet5c.core.lanes cimport (
    LANES, TILE_MAX, TILE_SUMS, TILE_WIDE_X, lanes, lanes_add_to, lanes_keep, lanes_load,
    lanes_set, lanes_store,
)
from lenet5c.core.tile cimport sum_tile

cdef enum:
    DENSE_F = 8  # outputs of a tile


cdef inline lanes last_lanes(const float *x, int n) noexcept nogil:
    """The last LANES of n floats, and 0 for those that are of whole registers from 0."""
    cdef lanes v = lanes_set(0)
    cdef int i
    for i in range(LANES - n % LANES, LANES):
        (<float *>&v)[i] = x[n - LANES + i]
    return v


cdef inline void dense_outputs(
    const float *weight, const float *bias, const float *x, lanes last, float *y,
    int inputs, int TF,
) noexcept nogil:
    """y[f] = bias[f] + sum over i of weight[f, i] x[i], for TF outputs"""
    cdef lanes acc[DENSE_F]
    cdef lanes b
    cdef float sums[TILE_SUMS]
    cdef int f
    cdef int i = 0
    cdef int whole = inputs // LANES * LANES
    for f in range(TF):
        acc[f] = lanes_set(0)
    while i < whole:
        b = lanes_keep(lanes_load(x + i))
        for f in range(TF):
            acc[f] += lanes_load(weight + f * inputs + i) * b
        i += LANES
    if whole < inputs:
        for f in range(TF):
            acc[f] += lanes_load(weight + f * inputs + inputs - LANES) * last
    sum_tile(acc, sums, TF)
    for f in range(TF):
        y[f] = sums[f] + (bias[f] if bias != NULL else 0)


cdef inline void image_dense_forward(
    const float *weight, const float *bias, const float *x, float *y, int inputs,
    int outputs,
) noexcept nogil:
    """y[o] = bias[o] + sum over i of weight[o, i] x[i]

    weight  (O, I)  float
    bias    (O,)    float, or NULL
    x       [I]     float
    y       [O]     float, written
    """
    cdef int o = 0
    cdef int i
    cdef float total
    cdef lanes last = lanes_set(0)
    if inputs < LANES:
        for o in range(outputs):
            total = bias[o] if bias != NULL else 0
            for i in range(inputs):
                total += weight[o * inputs + i] * x[i]
            y[o] = total
        return
    if inputs % LANES:
        last = last_lanes(x, inputs)
    while o < outputs:
        if outputs < DENSE_F:
            dense_outputs(
                weight + <Py_ssize_t>o * inputs, bias + o if bias != NULL else NULL, x,
                last, y + o, inputs, 1,
            )
            o += 1
            continue
        o = min(o, outputs - DENSE_F)
        dense_outputs(
            weight + <Py_ssize_t>o * inputs, bias + o if bias != NULL else NULL, x, last,
            y + o, inputs, DENSE_F,
        )
        o += DENSE_F


cdef inline void dense_inputs(
    const float *weight, const float *dy, float *dx, int inputs, int outputs, int TX
) noexcept nogil:
    """dx[t] = sum over o of weight[o, t] dy[o], t counting TX registers"""
    cdef lanes acc[TILE_MAX]
    cdef lanes d
    cdef int o, t
    for t in range(TX):
        acc[t] = lanes_set(0)
    for o in range(outputs):
        d = lanes_set(dy[o])
        for t in range(TX):
            acc[t] += lanes_load(weight + t * LANES) * d
        weight += inputs
    for t in range(TX):
        lanes_store(dx + t * LANES, acc[t])


cdef inline void image_dense_backward_input(
    const float *weight, const float *dy, float *dx, int inputs, int outputs
) noexcept nogil:
    """dx[i] = sum over o of weight[o, i] dy[o]

    weight  (O, I)  float
    dy      [O]     float
    dx      [I]     float, written
    """
    cdef int whole = inputs // LANES
    cdef int t = 0
    cdef int o, i
    cdef float total
    if inputs < LANES:
        for i in range(inputs):
            total = 0
            for o in range(outputs):
                total += weight[o * inputs + i] * dy[o]
            dx[i] = total
        return
    while t < whole:
        if whole >= TILE_WIDE_X:
            t = min(t, whole - TILE_WIDE_X)
            dense_inputs(
                weight + t * LANES, dy, dx + t * LANES, inputs, outputs, TILE_WIDE_X
            )
            t += TILE_WIDE_X
        elif whole >= LISTED_X:
            t = min(t, whole - LISTED_X)
            dense_inputs(weight + t * LANES, dy, dx + t * LANES, inputs, outputs, LISTED_X)
            t += LISTED_X
        else:
            dense_inputs(weight + t * LANES, dy, dx + t * LANES, inputs, outputs, 1)
            t += 1
    if whole * LANES < inputs:
        i = inputs - LANES
        dense_inputs(weight + i, dy, dx + i, inputs, outputs, 1)


cdef inline void image_dense_backward_params(
    const float *x, const float *dy, Py_ssize_t apart, int images, float *dweight,
    float *dbias, int inputs, int outputs, bint add,
) noexcept nogil:
    """dweight[o, i] = sum over n of dy[n, o] x[n, i];  dbias[o] = sum over n of dy[n, o]

    x        [N][I]  float, images `apart`, readable up to whole registers
    dy       [N][O]  float, likewise
    dweight  (O, I)  float, written or added to
    dbias    (O,)    float, written or added to, or NULL
    """
    cdef int o, i, n
    cdef float total
    cdef lanes d
    for o in range(outputs):
        i = 0
        if images == 1 and not add and inputs >= LANES:
            d = lanes_set(dy[o])
            while i <= inputs - LANES:
                lanes_store(dweight + i, d * lanes_load(x + i))
                i += LANES
        while i < inputs:
            if i + LANES > inputs >= LANES and not add:
                i = inputs - LANES  # once more, to the same bits
            row_of_weights(
                x + i, dy + o, apart, images, dweight + i, min(<int>LANES, inputs - i), add
            )
            i += LANES
        dweight += inputs
        if dbias != NULL:
            total = dbias[o] if add else 0
            for n in range(images):
                total += dy[n * apart + o]
            dbias[o] = total


cdef inline void row_of_weights(
    const float *x, const float *dy, Py_ssize_t apart, int images, float *dweight,
    int count, bint add,
) noexcept nogil:
    """A register of `image_dense_backward_params`, of which `count` are written."""
    cdef lanes sums = lanes_load(x) * lanes_set(dy[0])
    cdef int n
    for n in range(1, images):
        sums += lanes_load(x + n * apart) * lanes_set(dy[n * apart])
    if add:
        lanes_add_to(dweight, sums, count)
    elif count == LANES:
        lanes_store(dweight, sums)
    else:
        memcpy(dweight, &sums, count * sizeof(float))
