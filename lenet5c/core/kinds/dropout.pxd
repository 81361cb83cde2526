"""Dropout (Srivastava et al. 2014), in training alone."""

from libc.stdint cimport uint64_t

from lenet5c.core.kernels.activation cimport (
    IDENTITY, activation_backward, activation_forward,
)
from lenet5c.core.kernels.augment cimport OPS, lane_keys
from lenet5c.core.lanes cimport lanes, lanes_if_less, lanes_set, lanes_uniform, ulanes
from lenet5c.core.plan cimport Block, Call, Here, Op, Plan, own


cdef inline int plan_dropout(Plan *plan, Op *op, dict node) except -1:
    cdef float *rate = <float *>own(op, sizeof(float))
    rate[0] = node["rate"]
    op.forward = dropout_forward
    op.backward_input = dropout_backward
    return 0


cdef inline void drop(
    const Op *op, uint64_t key, const Block *block, const lanes *x, lanes *y
) noexcept nogil:
    """y[i] = x[i] / (1 - rate), or 0 with probability `rate`

    A function of the key, the image and i alone: backward it is called with the gradient.
    """
    cdef float of_values = (<const float *>op.own)[0]
    cdef ulanes keys = lane_keys(key, block.indices, block.count, OPS + op.number)
    cdef lanes rate = lanes_set(of_values)
    cdef lanes scale = lanes_set(1 / (1 - of_values))
    cdef Py_ssize_t i
    for i in range(op.outputs):
        y[i] = lanes_if_less(lanes_uniform(keys, i), rate, lanes_set(0), x[i] * scale)


cdef inline void dropout_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    if call.gradient != NULL:
        drop(op, call.key, here.images, x, y)
    else:
        activation_forward(x, y, op.outputs, IDENTITY)


cdef inline void dropout_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    drop(op, call.key, here.images, dy, dx)
    activation_backward(x, dx, dx, op.inputs, op.below)
