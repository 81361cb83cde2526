"""Radial basis functions with fixed codes (LeCun et al. 1998, section III.C).

Computed as they are written: 2 w x - w^2 - x^2 would lose the digits that count, near 0.

    I, O   inputs, outputs
"""

from lenet5c.core.kernels.activation cimport activation_backward
from lenet5c.core.kernels.image cimport registers_of
from lenet5c.core.kernels.image_dense cimport last_lanes
from lenet5c.core.lanes cimport (
    LANES, lanes, lanes_load, lanes_set, lanes_store, lanes_sum,
)
from lenet5c.core.plan cimport Call, Here, Op, Plan, own

cdef enum:
    SUMS = 4  # of each output: one alone would wait for itself


cdef inline int plan_radial_basis(Plan *plan, Op *op, dict node) except -1:
    cdef Py_ssize_t *codes = <Py_ssize_t *>own(op, sizeof(Py_ssize_t))
    codes[0] = plan.buffers
    plan.buffers += op.outputs * op.inputs
    op.cycles = 1.5 * op.outputs * op.inputs
    op.forward = radial_basis_forward
    op.backward_input = radial_basis_backward
    op.image_forward = image_radial_basis_forward
    op.image_input = image_radial_basis_backward
    op.image_products = 2.0 * op.outputs * registers_of(op.inputs)
    return 0


cdef inline const float *codes_of(const Op *op, const Call *call) noexcept nogil:
    """(O, I)"""
    return call.buffers + (<const Py_ssize_t *>op.own)[0]


cdef inline void radial_basis_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    """y[i] = - sum over j of (x[j] - codes[i, j])^2

    x  [I]  lanes
    y  [O]  lanes
    """
    cdef const float *code = codes_of(op, call)
    cdef lanes[SUMS] sums
    cdef lanes d
    cdef Py_ssize_t i, j
    cdef int n
    for i in range(op.outputs):
        for n in range(SUMS):
            sums[n] = lanes_set(0)
        for j from 0 <= j <= op.inputs - SUMS by SUMS:
            for n in range(SUMS):
                d = x[j + n] - lanes_set(code[j + n])
                sums[n] += d * d
        for j in range(op.inputs // SUMS * SUMS, op.inputs):
            d = x[j] - lanes_set(code[j])
            sums[0] += d * d
        y[i] = lanes_set(0) - ((sums[0] + sums[1]) + (sums[2] + sums[3]))
        code += op.inputs


cdef inline void radial_basis_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    """dx[j] = sum over i of -2 dy[i] (x[j] - codes[i, j])

    x   [I]  lanes, input of the forward pass
    dy  [O]  lanes, gradient of the output
    dx  [I]  lanes, written
    """
    cdef const float *codes = codes_of(op, call)
    cdef lanes total
    cdef Py_ssize_t i, j
    for j in range(op.inputs):
        total = lanes_set(0)
        for i in range(op.outputs):
            total += dy[i] * (x[j] - lanes_set(codes[i * op.inputs + j]))
        dx[j] = lanes_set(-2) * total
    activation_backward(x, dx, dx, op.inputs, op.below)


cdef inline void image_radial_basis_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """`radial_basis_forward` of one image."""
    cdef const float *code = codes_of(op, call)
    cdef int inputs = op.inputs
    cdef lanes total, d
    cdef float rest
    cdef int i, j
    for i in range(op.outputs):
        total = lanes_set(0)
        rest = 0
        for j from 0 <= j <= inputs - LANES by LANES:
            d = lanes_load(x + j) - lanes_load(code + j)
            total += d * d
        if inputs >= LANES and inputs % LANES:
            d = last_lanes(x, inputs) - last_lanes(code, inputs)
            total += d * d
        elif inputs < LANES:
            for j in range(inputs):
                rest += (x[j] - code[j]) * (x[j] - code[j])
        y[i] = -(lanes_sum(total) + rest)
        code += inputs


cdef inline void image_radial_basis_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """`radial_basis_backward` of one image."""
    cdef const float *codes = codes_of(op, call)
    cdef int inputs = op.inputs
    cdef lanes total
    cdef float of_one
    cdef int i, j
    if inputs < LANES:
        for j in range(inputs):
            of_one = 0
            for i in range(op.outputs):
                of_one += dy[i] * (x[j] - codes[i * inputs + j])
            dx[j] = -2 * of_one
    j = 0
    while j < inputs >= LANES:
        j = min(j, inputs - LANES)  # the last register once more, to the same bits
        total = lanes_set(0)
        for i in range(op.outputs):
            total += lanes_set(dy[i]) * (
                lanes_load(x + j) - lanes_load(codes + i * inputs + j)
            )
        lanes_store(dx + j, lanes_set(-2) * total)
        j += LANES
    activation_backward(
        <const lanes *>x, <lanes *>dx, <lanes *>dx, registers_of(inputs), op.below
    )
