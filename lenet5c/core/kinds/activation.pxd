"""Activations that no op before them applies: tanh, scaled or not, ReLU, sigmoid and
leaky ReLU."""

from lenet5c.core.kernels.activation cimport (
    activation_backward, activation_forward, activation_number,
)
from lenet5c.core.lanes cimport lanes, lanes_if_less, lanes_max, lanes_set
from lenet5c.core.plan cimport Call, Here, Op, Plan, own


cdef inline int plan_activation(Plan *plan, Op *op, dict node) except -1:
    cdef int *activation = <int *>own(op, sizeof(int))
    activation[0] = activation_number(node["kind"])
    op.forward = apply_activation
    op.backward_input = activation_backward_input
    return 0


cdef inline void apply_activation(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    activation_forward(x, y, op.outputs, (<const int *>op.own)[0])


cdef inline void activation_backward_input(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    activation_backward(y, dy, dx, op.outputs, (<const int *>op.own)[0])
    activation_backward(x, dx, dx, op.inputs, op.below)


cdef inline int plan_leaky_relu(Plan *plan, Op *op, dict node) except -1:
    cdef float *slope = <float *>own(op, sizeof(float))
    slope[0] = node["slope"]
    op.forward = leaky_relu_forward
    op.backward_input = leaky_relu_backward_input
    return 0


cdef inline void leaky_relu_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    """y[i] = max(slope x[i], x[i])"""
    cdef lanes slope = lanes_set((<const float *>op.own)[0])
    cdef Py_ssize_t i
    for i in range(op.outputs):
        y[i] = lanes_max(slope * x[i], x[i])


cdef inline void leaky_relu_backward_input(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    """dx[i] = dy[i] where y[i] > 0, else slope dy[i]"""
    cdef lanes slope = lanes_set((<const float *>op.own)[0])
    cdef Py_ssize_t i
    for i in range(op.outputs):
        dx[i] = lanes_if_less(lanes_set(0), y[i], dy[i], slope * dy[i])
    activation_backward(x, dx, dx, op.inputs, op.below)
