"""Activations that no op before them applies, tanh, ReLU and sigmoid: y = A(x)."""

from lenet5c.core.kernels.activation cimport (
    activation_backward, activation_forward, activation_number,
)
from lenet5c.core.lanes cimport lanes
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
