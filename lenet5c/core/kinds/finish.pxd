"""What integers become between two layers: networks that are trained as integers are
computed, in floats that hold integers alone.

    modes  "round"    y = the nearest integer from -127 to 127
           "rescale"  y = finish(rescale(x, m, s)) of docs/int8.md, m by channel
           "leaky"    y = x where x >= 0, else rescale(x, m, s)
           "mean"     x is a mean of n: y = floor((2 n x + n) / (2 n))
           "sum"      x is a mean of n: y = n x
           "unit"     y = x times a number

The numbers m and s, or that number, change from step to step: they lie behind the
parameters, m as m / 2^16 and the rest, which a float holds. Backward, rounding lets the
gradient through, and what is cut off does not (Bengio et al. 2013).
"""

from libc.math cimport ldexpf
from libc.stdint cimport int64_t

from lenet5c.core.kernels.activation cimport (
    IDENTITY, RELU, SIGMOID, activation_backward, activation_number,
)
from lenet5c.core.lanes cimport (
    lanes, lanes_choose_within, lanes_floor, lanes_if_less, lanes_max, lanes_min,
    lanes_rescale, lanes_round, lanes_set, lanes_tanh,
)
from lenet5c.core.plan cimport Call, Here, Op, Plan, own

cdef enum Mode:
    ROUND
    RESCALE
    LEAKY
    MEAN
    SUM
    UNIT

cdef enum:
    HIGH = 1 << 16
    MOST = 127
    TANH_ONE = 256  # the argument 1 in the table of tanh
    TANH_MOST = 799  # its last one

cdef struct Finish:
    int mode
    int activation  # that belongs to a rescaled number
    int channels
    Py_ssize_t area
    float count  # n
    Py_ssize_t numbers  # behind the parameters

cdef struct Multiplier:
    # m and s, and what they multiply with
    int64_t m
    int s
    float ratio


cdef inline int plan_finish(Plan *plan, Op *op, dict node) except -1:
    cdef Finish *p = <Finish *>own(op, sizeof(Finish))
    modes = {
        "round": ROUND, "rescale": RESCALE, "leaky": LEAKY, "mean": MEAN, "sum": SUM,
        "unit": UNIT,
    }
    p.mode = modes[node["mode"]]
    p.activation = activation_number(node["finishes"])
    p.channels = node["channels"]
    p.area = op.outputs // p.channels
    p.count = node["count"]
    p.numbers = plan.buffers
    plan.buffers += node["numbers"]
    op.forward = finish_forward
    op.backward_input = finish_backward
    return 0


cdef inline Multiplier multiplier_of(
    const Finish *p, const Call *call, int c
) noexcept nogil:
    cdef const float *numbers = call.buffers + p.numbers
    cdef Multiplier found
    found.m = <int64_t>numbers[c] * HIGH + <int64_t>numbers[p.channels + c]
    found.s = <int>numbers[2 * p.channels]
    found.ratio = ldexpf(<float>found.m, -found.s)
    return found


cdef inline void finish_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef const Finish *p = <const Finish *>op.own
    cdef Multiplier by
    cdef lanes n = lanes_set(p.count)
    cdef lanes most = lanes_set(MOST)
    cdef Py_ssize_t i
    cdef int c
    if p.mode == ROUND:
        for i in range(op.outputs):
            y[i] = lanes_min(most, lanes_max(-most, lanes_round(x[i])))
    elif p.mode == MEAN:
        for i in range(op.outputs):
            y[i] = lanes_floor(
                (lanes_set(2) * lanes_round(x[i] * n) + n) / (lanes_set(2) * n)
            )
    elif p.mode == SUM:
        for i in range(op.outputs):
            y[i] = lanes_round(x[i] * n)
    elif p.mode == UNIT:
        n = lanes_set(call.buffers[p.numbers])
        for i in range(op.outputs):
            y[i] = x[i] * n
    elif p.mode == LEAKY:
        by = multiplier_of(p, call, 0)
        for i in range(op.outputs):
            y[i] = lanes_if_less(
                x[i], lanes_set(0), lanes_rescale(x[i], by.m, by.s), x[i]
            )
    else:
        for c in range(p.channels):
            by = multiplier_of(p, call, c)
            rescale_channel(
                &by, x + c * p.area, y + c * p.area, p.area, p.activation
            )


cdef inline void rescale_channel(
    const Multiplier *by, const lanes *x, lanes *y, Py_ssize_t n, int activation
) noexcept nogil:
    """y[i] = finish(rescale(x[i], m, s)), by the activation

    tanh of a number of 256ths, in 127ths, is rounded right although `lanes_tanh` is not
    exact: none of the 800 is near a half (tests/core/test_finish.py).

    x, y  [n]  lanes
    """
    cdef lanes least = lanes_set(0 if activation == RELU else -MOST)
    cdef lanes most = lanes_set(MOST)
    cdef lanes end = lanes_set(TANH_MOST)
    cdef lanes r
    cdef Py_ssize_t i
    for i in range(n):
        r = lanes_rescale(x[i], by.m, by.s)
        if activation == IDENTITY or activation == RELU:
            y[i] = lanes_min(most, lanes_max(least, r))
            continue
        r = lanes_min(end, lanes_max(-end, r))
        r = lanes_round(most * lanes_tanh(r * lanes_set(<float>1 / TANH_ONE)))
        if activation == SIGMOID:
            r = lanes_floor((r + lanes_set(MOST + 1)) * lanes_set(0.5))
        y[i] = r


cdef inline void finish_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef const Finish *p = <const Finish *>op.own
    cdef Multiplier by
    cdef lanes slope = lanes_set(1)
    cdef lanes end = lanes_set(MOST + 0.5)
    cdef Py_ssize_t i
    cdef int c
    if p.mode == ROUND:
        for i in range(op.outputs):
            dx[i] = lanes_choose_within(x[i], -end, end, dy[i])
    elif p.mode == LEAKY:
        slope = lanes_set(multiplier_of(p, call, 0).ratio)
        for i in range(op.outputs):
            dx[i] = lanes_if_less(x[i], lanes_set(0), dy[i] * slope, dy[i])
    elif p.mode == RESCALE:
        for c in range(p.channels):
            by = multiplier_of(p, call, c)
            i = c * p.area
            rescale_channel_backward(
                &by, x + i, y + i, dy + i, dx + i, p.area, p.activation
            )
    else:
        if p.mode == SUM:
            slope = lanes_set(p.count)
        elif p.mode == UNIT:
            slope = lanes_set(call.buffers[p.numbers])
        for i in range(op.outputs):
            dx[i] = dy[i] * slope
    activation_backward(x, dx, dx, op.inputs, op.below)


cdef inline void rescale_channel_backward(
    const Multiplier *by, const lanes *x, const lanes *y, const lanes *dy, lanes *dx,
    Py_ssize_t n, int activation,
) noexcept nogil:
    """dx[i] = dy[i] m / 2^s A'(x m / 2^s) as if nothing were rounded; of tanh and sigmoid
    A' is found from y, elsewhere it is 1, and 0 where y was cut off

    x, y, dy, dx  [n]  lanes
    """
    cdef lanes ratio = lanes_set(by.ratio)
    cdef lanes end = lanes_set(MOST + 0.5)
    cdef lanes least = lanes_set(0) if activation == RELU else -end
    cdef lanes share = lanes_set(<float>1 / MOST)
    cdef lanes one = lanes_set(1)
    cdef lanes v
    cdef Py_ssize_t i
    for i in range(n):
        if activation == IDENTITY or activation == RELU:
            dx[i] = lanes_choose_within(x[i] * ratio, least, end, dy[i] * ratio)
            continue
        v = y[i] * share
        if activation == SIGMOID:  # of r / 128
            v = lanes_set(<float>2 * MOST / TANH_ONE) * v * (one - v)
        else:
            v = lanes_set(<float>MOST / TANH_ONE) * (one - v * v)
        dx[i] = dy[i] * ratio * v
