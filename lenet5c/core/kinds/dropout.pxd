"""Dropout (Srivastava et al. 2014), in training alone."""

from libc.stdint cimport uint64_t

from lenet5c.core.kernels.activation cimport (
    IDENTITY, activation_backward, activation_forward,
)
from lenet5c.core.kernels.augment cimport OPS, lane_keys
from lenet5c.core.kernels.image cimport registers_of
from lenet5c.core.lanes cimport (
    LANES, lanes, lanes_if_less, lanes_set, lanes_uniform, ulanes,
)
from lenet5c.core.plan cimport Call, Here, Op, Plan, own
from lenet5c.core.random cimport subkey


cdef inline int plan_dropout(Plan *plan, Op *op, dict node) except -1:
    cdef float *rate = <float *>own(op, sizeof(float))
    rate[0] = node["rate"]
    op.forward = dropout_forward
    op.backward_input = dropout_backward
    op.image_forward = image_dropout_forward
    op.image_input = image_dropout_backward
    return 0


cdef inline void drop(
    const Op *op, ulanes keys, const lanes *x, lanes *y, Py_ssize_t n
) noexcept nogil:
    """y[i] = x[i] / (1 - rate), or 0 with probability `rate`

    A function of the keys and i alone: backward it is called with the gradient.
    """
    cdef float of_values = (<const float *>op.own)[0]
    cdef lanes rate = lanes_set(of_values)
    cdef lanes scale = lanes_set(1 / (1 - of_values))
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = lanes_if_less(lanes_uniform(keys, i), rate, lanes_set(0), x[i] * scale)


cdef inline void dropout_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    if call.gradient != NULL:
        drop(op, image_keys(op, call, here), x, y, op.outputs)
    else:
        activation_forward(x, y, op.outputs, IDENTITY)


cdef inline void dropout_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    drop(op, image_keys(op, call, here), dy, dx, op.outputs)
    activation_backward(x, dx, dx, op.inputs, op.below)


cdef inline ulanes image_keys(
    const Op *op, const Call *call, const Here *here
) noexcept nogil:
    """For each lane the key of its image."""
    return lane_keys(
        call.key, here.images.indices, here.images.count, OPS + op.number
    )


cdef inline ulanes keys_of_lanes(
    const Op *op, const Call *call, const Here *here
) noexcept nogil:
    """For each lane a key of its own, all of one image."""
    cdef uint64_t key = subkey(subkey(call.key, here.images.indices[0]), OPS + op.number)
    cdef Py_ssize_t[LANES] numbers
    cdef int n
    for n in range(LANES):
        numbers[n] = n
    return lane_keys(key, numbers, LANES, OPS + op.number)


cdef inline void image_dropout_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    drop(
        op, keys_of_lanes(op, call, here), <const lanes *>x, <lanes *>y,
        registers_of(op.outputs),
    )


cdef inline void image_dropout_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    cdef Py_ssize_t n = registers_of(op.inputs)
    drop(op, keys_of_lanes(op, call, here), <const lanes *>dy, <lanes *>dx, n)
    activation_backward(<const lanes *>x, <lanes *>dx, <lanes *>dx, n, op.below)
