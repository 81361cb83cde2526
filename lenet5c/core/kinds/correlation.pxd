"""What dense layers and convolutions share: an op that is a correlation.

`y_product` computes y, `dx_products` the gradient of x (kernels/correlate.pxd).
"""

from libc.string cimport memset

from lenet5c.core.kernels.correlate cimport pad_columns
from lenet5c.core.lanes cimport lanes
from lenet5c.core.plan cimport Call, Here, Op, Padding, bias_of


cdef inline const lanes *padded_input(
    const Op *op, const Here *here, const lanes *x
) noexcept nogil:
    """x with its zero columns, if the op needs them."""
    if op.x_padding.padded_width:
        return here.arena + op.padded
    return x


cdef inline void pad_map(const Padding *p, const lanes *x, lanes *padded) noexcept nogil:
    pad_columns(x, padded, p.rows, p.width, p.left, p.padded_width)


cdef inline void correlation_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    """y = A(bias + x * w)"""
    cdef int parts = here.parts
    if op.x_padding.padded_width:  # which all parts would have to wait for
        if here.part > 0:
            return
        parts = 1
        pad_map(&op.x_padding, x, here.arena + op.padded)
    op.y_product.run(
        &op.y_product, padded_input(op, here, x), call.packed + op.y_product.packed,
        bias_of(op, call), y, NULL, op.activation, True, here.part, parts,
    )


cdef inline void correlation_backward_input(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    """dx = (dy * w) A'(x), where A is the activation below"""
    cdef int i
    cdef int parts = here.parts
    if op.gaps:  # as for padding
        if here.part > 0:
            return
        parts = 1
        memset(dx, 0, op.inputs * sizeof(lanes))
    if op.dy_padding.padded_width:
        pad_map(&op.dy_padding, dy, here.own + op.scratch)
        dy = here.own + op.scratch
    for i in range(op.dx_parts):
        op.dx_products[i].run(
            &op.dx_products[i], dy, call.packed + op.dx_products[i].packed, NULL,
            dx + op.dx_products[i].y_start, x + op.dx_products[i].y_start, op.below, False,
            here.part, parts,
        )
