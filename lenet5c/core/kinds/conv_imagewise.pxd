"""Convolutions on a single image (kernels/image.pxd), where the stride is 1.

A padded input is copied with its zeros around it. The gradient of the output is spread to
rows of the input's length, with zeros before, between and behind them, so that both
gradients are sums over positions, too.
"""

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.kernels.image cimport (
    Connections, ImageConv, filter_product, filter_taps, filters_pay, image_product,
    image_taps, leave_columns, map_sums, product_tile_of, registers_of, spread_rows,
    taps_tile_of, zero_row,
)
from lenet5c.core.kinds.conv_layerwise cimport Conv
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.plan cimport (
    SLICE, Call, Here, Op, Plan, bias_of, plan_image_floats,
)
from lenet5c.core.reduce cimport reduce_image_slice

cdef inline int plan_image_conv(
    Plan *plan, Op *op, Conv *conv, const Connections *of_filters,
    const Connections *of_channels, Py_ssize_t pairs,
) except -1:
    """How one image is run, from a convolution whose sizes are known and, if not each
    filter reads each channel, both ways to read the table of so many pairs."""
    cdef ImageConv *p = &conv.image
    cdef int KH = conv.sizes.kernel_h
    cdef int KW = conv.sizes.kernel_w
    cdef int C = conv.sizes.channels
    cdef int F = conv.sizes.filters
    cdef int OH = conv.sizes.out_h
    cdef int H, W
    cdef Py_ssize_t area, work, columns
    if conv.sizes.stride != 1:
        return 0
    p.padding = conv.padding
    p.height = H = OH + KH - 1
    p.width = W = conv.sizes.out_w + KW - 1
    p.before = (KH - 1) * W + KW - 1
    p.weights = pairs * KH * KW
    area = registers_of(<Py_ssize_t>H * W) * LANES
    p.y.filters = F
    p.y.channels = C
    p.y.rows = KH
    p.y.taps = KW
    p.y.registers = registers_of(<Py_ssize_t>(OH - 1) * W + conv.sizes.out_w)
    p.y.x_channel = <Py_ssize_t>H * W
    p.y.x_row = W
    p.y.y_filter = p.y.registers * LANES
    p.y.w_filter = <Py_ssize_t>C * KH * KW
    p.y.w_channel = KH * KW
    p.y.w_row = KW
    p.y.w_tap = 1
    p.y.height = H
    p.y.run = image_product
    if of_filters != NULL:
        p.y.table = p.taps.table = of_filters[0]
    p.y.tile = product_tile_of(&p.y)
    p.dx = p.y
    p.dx.filters = C
    p.dx.channels = F
    p.dx.registers = area // LANES
    p.dx.x_channel = p.before + area
    p.dx.y_filter = area
    p.dx.w_filter = KH * KW
    p.dx.w_channel = p.y.w_filter
    if of_channels != NULL:
        p.dx.table = of_channels[0]
        p.dx.w_channel = p.y.w_channel
    p.dx.w_row = -KW
    p.dx.w_tap = -1
    p.dx.top = KH - 1
    p.dx.height = OH
    p.dx.tile = product_tile_of(&p.dx)
    p.taps.filters = F
    p.taps.channels = C
    p.taps.rows = KH
    p.taps.taps = KW
    p.taps.registers = p.y.registers
    p.taps.x_channel = p.y.x_channel
    p.taps.x_row = W
    p.taps.dy_filter = p.dx.x_channel
    p.taps.tile = taps_tile_of(&p.taps)
    p.taps.width = registers_of(F) * LANES
    p.taps.by_filters = filters_pay(&p.taps, OH, conv.sizes.out_w)
    p.work = registers_of(F * p.dx.x_channel) * LANES + LANES
    work = max(F * p.y.y_filter, C * area)
    if p.taps.by_filters:
        columns = registers_of(OH * conv.sizes.out_w) * LANES * p.taps.width
        p.sums = p.work + columns
        work = max(
            work, columns + (1 + registers_of(C * KH * KW) * LANES) * p.taps.width
        )
    op.scratch_lanes = max(op.scratch_lanes, registers_of(p.work + work) + 1)
    if p.padding:
        op.padded_lanes = max(op.padded_lanes, registers_of(C * p.y.x_channel) + 2)
    op.image_at = plan_image_floats(plan, p.weights + F)
    op.image_forward = image_conv_forward
    op.image_params = image_conv_params
    op.image_input = image_conv_input
    op.image_reduce = reduce_image_slice
    op.image_length = p.weights + (F if op.biased else 0)
    op.image_step = SLICE
    op.image_products = <double>p.y.registers * p.weights
    return 0


cdef inline const ImageConv *image_of(const Op *op) noexcept nogil:
    return &(<const Conv *>op.own).image


cdef inline const float *with_padding(
    const Op *op, const Here *here, const float *x
) noexcept nogil:
    if image_of(op).padding:
        return <const float *>(here.arena + op.padded)
    return x


cdef inline void image_conv_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """y = A(bias + x * w)"""
    cdef const ImageConv *p = image_of(op)
    cdef const Conv *conv = <const Conv *>op.own
    cdef float *positions = <float *>(here.own + op.scratch)
    cdef float *padded = <float *>(here.arena + op.padded)
    cdef int P = p.padding
    cdef int H = p.height - 2 * P
    cdef int W = p.width - 2 * P
    if P:
        spread_rows(
            x, padded, p.y.x_channel, P * p.width + P, p.width, p.y.channels, H, W
        )
        zero_row(padded + p.y.channels * p.y.x_channel, LANES)  # as `zero_behind`
        x = padded
    if p.taps.by_filters:
        filter_product(
            &p.y, x, call.parameters + op.weight, bias_of(op, call), y, p.taps.width,
            positions + p.sums, positions + p.work, conv.sizes.out_h, conv.sizes.out_w,
        )
    else:
        p.y.run(&p.y, x, call.parameters + op.weight, positions)
        leave_columns(
            positions, p.y.y_filter, p.width, y, bias_of(op, call), p.y.filters,
            conv.sizes.out_h, conv.sizes.out_w,
        )
    activation_forward(
        <const lanes *>y, <lanes *>y, registers_of(op.outputs), op.activation
    )


cdef inline void image_conv_params(
    const Op *op, const Here *here, const float *x, const float *dy
) noexcept nogil:
    """The gradients of weights and biases, to the image's own place."""
    cdef const ImageConv *p = image_of(op)
    cdef const Conv *conv = <const Conv *>op.own
    cdef float *spread = <float *>(here.own + op.scratch)
    cdef float *dweight = here.gradient + op.image_at
    spread_rows(
        dy, spread, p.dx.x_channel, p.before, p.width, p.y.filters, conv.sizes.out_h,
        conv.sizes.out_w,
    )
    if p.taps.by_filters:
        filter_taps(
            &p.taps, with_padding(op, here, x), dy, dweight, spread + p.work,
            spread + p.sums, conv.sizes.out_h, conv.sizes.out_w,
        )
    else:
        image_taps(&p.taps, with_padding(op, here, x), spread + p.before, dweight)
    if op.biased:
        map_sums(
            spread + p.before, p.dx.x_channel, p.y.registers, dweight + p.weights,
            p.y.filters,
        )


cdef inline void image_conv_input(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """dx = (dy * w) A'(x), where A is the activation below; after the parameters."""
    cdef const ImageConv *p = image_of(op)
    cdef const float *spread = <const float *>(here.own + op.scratch)
    cdef float *positions = <float *>(here.own + op.scratch) + p.work
    cdef int P = p.padding
    p.dx.run(
        &p.dx, spread, call.parameters + op.weight + p.y.w_channel - 1, positions
    )
    leave_columns(
        positions + P * p.width + P, p.dx.y_filter, p.width, dx, NULL, p.dx.filters,
        p.height - 2 * P, p.width - 2 * P,
    )
    activation_backward(
        <const lanes *>x, <const lanes *>dx, <lanes *>dx, registers_of(op.inputs), op.below
    )
