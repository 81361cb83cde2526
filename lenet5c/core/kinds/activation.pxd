"""Activations that no op before them applies: tanh, scaled or not, ReLU, sigmoid and
leaky ReLU."""

from lenet5c.core.kernels.activation cimport (
    activation_backward, activation_forward, activation_number,
)
from lenet5c.core.kernels.image cimport registers_of
from lenet5c.core.lanes cimport lanes, lanes_if_less, lanes_set
from lenet5c.core.plan cimport Call, Here, Op, Plan, own


cdef inline int plan_activation(Plan *plan, Op *op, dict node) except -1:
    cdef int *activation = <int *>own(op, sizeof(int))
    activation[0] = activation_number(node["kind"])
    op.forward = apply_activation
    op.backward_input = activation_backward_input
    op.image_forward = image_activation_forward
    op.image_input = image_activation_backward
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


cdef inline void image_activation_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    activation_forward(
        <const lanes *>x, <lanes *>y, registers_of(op.outputs), (<const int *>op.own)[0]
    )


cdef inline void image_activation_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    cdef Py_ssize_t n = registers_of(op.outputs)
    activation_backward(
        <const lanes *>y, <const lanes *>dy, <lanes *>dx, n, (<const int *>op.own)[0]
    )
    activation_backward(<const lanes *>x, <lanes *>dx, <lanes *>dx, n, op.below)


cdef inline int plan_leaky_relu(Plan *plan, Op *op, dict node) except -1:
    cdef float *slope = <float *>own(op, sizeof(float))
    slope[0] = node["slope"]
    op.forward = leaky_relu_forward
    op.backward_input = leaky_relu_backward_input
    op.image_forward = image_leaky_relu_forward
    op.image_input = image_leaky_relu_backward
    return 0


cdef inline void leaky_relu(
    const Op *op, const lanes *x, const lanes *of, lanes *y, Py_ssize_t n
) noexcept nogil:
    """y[i] = of[i] where x[i] > 0, else slope of[i]; the slope is >= 0

    Backward x may be the output, whose sign is that of the input.
    """
    cdef lanes slope = lanes_set((<const float *>op.own)[0])
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = lanes_if_less(lanes_set(0), x[i], of[i], slope * of[i])


cdef inline void leaky_relu_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    leaky_relu(op, x, x, y, op.outputs)


cdef inline void leaky_relu_backward_input(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    leaky_relu(op, y, dy, dx, op.outputs)
    activation_backward(x, dx, dx, op.inputs, op.below)


cdef inline void image_leaky_relu_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    leaky_relu(
        op, <const lanes *>x, <const lanes *>x, <lanes *>y, registers_of(op.outputs)
    )


cdef inline void image_leaky_relu_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    cdef Py_ssize_t n = registers_of(op.outputs)
    leaky_relu(op, <const lanes *>y, <const lanes *>dy, <lanes *>dx, n)
    activation_backward(<const lanes *>x, <lanes *>dx, <lanes *>dx, n, op.below)
