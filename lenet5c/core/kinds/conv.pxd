"""Convolutions: how one is planned, and run on one block.

    C, F           channels in, filters (channels out)
    H W, OH OW     input map, output map
    KH KW, S, P    kernel, stride, zero padding

There are three ways to y and dx: the sum as it is written, and two transform domains, of
3x3 kernels (kernels/winograd.pxd) and of the rows of any (kernels/winograd_rows.pxd). To
the gradient of the weights there are these and one of panels (kernels/weight_gradient.pxd).
conv_layerwise.pxd has the tasks of a batch.
"""

from libc.string cimport memset

from lenet5c.core.kernels.correlate cimport (
    Correlation, correlation_tile, leave_padding, pack_weights,
)
from lenet5c.core.kernels.weight_gradient cimport (
    Convolution, conv_backward_params, panel_floats, transposed_backward_params,
    transposing_pays,
)
from lenet5c.core.kernels.winograd cimport (
    cheapest_outputs, pack_winograd, params_outputs, tiles_across, winograd_backward_params,
    winograd_cycles, winograd_params_scratch, winograd_pays, winograd_scratch,
)
from lenet5c.core.kernels.winograd_rows cimport (
    elements_of, fewest_bands, gradient_width, pack_rows, padded_width,
    rows_backward_params, rows_cycles, rows_fit, rows_params_cycles, rows_pay, rows_scratch,
)
from lenet5c.core.kinds.conv_imagewise cimport plan_image_conv
from lenet5c.core.kinds.conv_layerwise cimport (
    ROWS, SQUARES, SUMS, Conv, add_filter, plan_by_block, plan_tasks, rows_backward_blocks,
    rows_forward_blocks, winograd_backward_blocks, winograd_forward_blocks,
)
from lenet5c.core.kinds.correlation cimport (
    correlation_backward_input, correlation_forward, padded_input,
)
from lenet5c.core.lanes cimport TILE_FOUR_F, TILE_FOUR_X, TILE_PAIR_F, lanes
from lenet5c.core.plan cimport (
    SLICE, Batch, Call, Here, Op, Padding, Part, Plan, Task, Workspace, bias_of, new_parts,
    own, part_of, plan_packed, plan_parameters, size_of,
)
from lenet5c.core.reduce cimport add_shards
from lenet5c.core.tile cimport PAIR, cheapest_tile, tile_filters


cdef inline int plan_conv(Plan *plan, Op *op, dict node) except -1:
    cdef Conv *conv = <Conv *>own(op, sizeof(Conv))
    cdef Convolution *sizes = &conv.sizes
    set_sizes(op, conv, node)
    size_of((sizes.filters, sizes.channels, sizes.kernel_h, sizes.kernel_w))
    plan_parameters(
        plan, op,
        <Py_ssize_t>sizes.filters * sizes.channels * sizes.kernel_h * sizes.kernel_w,
        sizes.filters if op.biased else 0,
    )
    sizes.tile = cheapest_tile(sizes.filters, sizes.kernel_w, True)
    set_direct(&op.y_product, conv, plan.layerwise)
    conv.way = SUMS
    if not node.get("plain", False):
        if winograd_pays(sizes, plan.layerwise):
            conv.way = SQUARES
        elif plans_rows(op, conv):
            conv.way = ROWS
    if plan.layerwise:
        plan_tasks(op, conv)
    else:
        plan_image_conv(
            plan, op, conv, NULL, NULL,
            <Py_ssize_t>conv.sizes.filters * conv.sizes.channels,
        )
    if conv.way == SQUARES:
        plan_winograd(plan, op, conv)
    elif conv.way == ROWS:
        plan_rows(plan, op, conv)
    else:
        plan_direct(plan, op, conv)
    return 0


cdef inline int set_sizes(Op *op, Conv *conv, dict node) except -1:
    """What every convolution has: sizes, padding, whether there is a bias."""
    cdef int C, H, W, F, OH, OW, KH, KW, P
    C, H, W = node["input_shape"]
    F, OH, OW = node["output_shape"]
    KH, KW = node["kernel_size"]
    P = node["padding"]
    size_of((C, H + 2 * P, W + 2 * P + KW))
    op.splits = True
    op.biased = node.get("bias", True)
    conv.sizes.channels = C
    conv.sizes.height = H
    conv.sizes.width = W
    conv.sizes.filters = F
    conv.sizes.out_h = OH
    conv.sizes.out_w = OW
    conv.sizes.kernel_h = KH
    conv.sizes.kernel_w = KW
    conv.sizes.stride = node["stride"]
    conv.sizes.top = -P
    conv.padding = P
    return 0


cdef inline void set_direct(Correlation *p, const Conv *conv, bint layerwise) noexcept:
    """The sum over channels and taps, as it is written."""
    cdef int KH = conv.sizes.kernel_h
    cdef int KW = conv.sizes.kernel_w
    cdef int H = conv.sizes.height
    cdef int W = conv.sizes.width
    cdef int P = conv.padding
    p.channels = conv.sizes.channels
    p.rows = KH
    p.taps = KW
    p.height = H
    p.filters = conv.sizes.filters
    p.out_h = conv.sizes.out_h
    p.out_w = conv.sizes.out_w
    p.top = -P
    p.step = conv.sizes.stride
    p.left = P
    p.right = P + W
    p.x_row = W + 2 * P
    if layerwise:
        p.x_row = W
        p.x_start = -P
    p.x_channel = H * p.x_row
    p.y_column = 1
    p.y_row = p.out_w
    p.y_filter = p.out_h * p.out_w
    p.w_filter = p.channels * KH * KW
    p.w_channel = KH * KW
    p.w_row = KW
    p.w_tap = 1
    p.tile = correlation_tile(p)


cdef inline int plan_direct(Plan *plan, Op *op, Conv *conv) except -1:
    cdef Correlation *p = &op.y_product
    if plan.layerwise:
        p.tile = PAIR
        leave_padding(p)
    plan_packed(plan, p)
    op.pack = pack_weights
    if not plan.layerwise:
        plan_block(plan, op, conv)
    if op.needs_dx:
        plan_conv_backward(plan, op, conv)
    return 0


cdef inline int plan_block(Plan *plan, Op *op, Conv *conv) except -1:
    """How one block is run: with zero columns in x, and which weight gradient."""
    cdef int P = conv.padding
    if P:
        op.x_padding = padding_of(
            conv.sizes.channels * conv.sizes.height, conv.sizes.width, P, P
        )
        op.padded_lanes = max(
            op.padded_lanes,
            <Py_ssize_t>op.x_padding.rows * op.x_padding.padded_width,
        )
        conv.sizes.width += 2 * P
    op.forward = correlation_forward
    op.backward_input = correlation_backward_input
    plan_block_params(plan, op, conv)
    return 0


cdef inline void plan_block_params(Plan *plan, Op *op, Conv *conv) noexcept:
    """The gradient of the weights by the sums as they are written, or by transposed
    maps."""
    plan_shard_gradient(plan, op, conv, conv.sizes.kernel_h * conv.sizes.kernel_w)
    if transposing_pays(&conv.sizes):
        op.backward_params = transposed_params
        op.scratch_lanes = max(op.scratch_lanes, panel_floats(&conv.sizes))
        reduce_by_filter(op, conv)
        return
    op.backward_params = direct_params
    op.reduce = reduce_slice
    op.reduce_length = op.y_product.filters * op.y_product.w_filter
    op.reduce_length += op.y_product.filters if op.biased else 0
    op.reduce_step = SLICE


cdef inline Padding padding_of(int rows, int width, int left, int right) noexcept:
    cdef Padding p
    p.rows = rows
    p.width = width
    p.left = left
    p.padded_width = width + left + right
    return p


cdef inline void plan_shard_gradient(Plan *plan, Op *op, Conv *conv, int taps) noexcept:
    """Room for a convolution's gradient in the buffer of each shard: so many numbers for
    each filter and channel."""
    conv.gradient = plan.shard_floats
    conv.filter_floats = <Py_ssize_t>conv.sizes.channels * taps
    conv.bias_gradient = conv.gradient + conv.sizes.filters * conv.filter_floats
    plan.shard_floats = (conv.bias_gradient + conv.sizes.filters + 15) // 16 * 16


cdef inline void reduce_by_filter(Op *op, Conv *conv) noexcept:
    op.reduce = reduce_filter
    op.reduce_length = conv.sizes.filters
    op.reduce_step = 1


cdef inline int plan_winograd(Plan *plan, Op *op, Conv *conv) except -1:
    cdef Correlation *p
    cdef int C = conv.sizes.channels
    cdef int F = conv.sizes.filters
    cdef int elements
    conv.side = cheapest_outputs(&conv.sizes, False)
    conv.params_side = params_outputs(&conv.sizes, plan.layerwise)
    conv.joined = 1
    if tiles_across(conv.sizes.out_w, conv.side) < TILE_FOUR_X:
        conv.joined = max(<Py_ssize_t>1, conv.group)
    memset(&op.y_product, 0, sizeof(Correlation))
    op.pack = pack_winograd
    op.elements = (conv.side + 2) * (conv.side + 2)
    op.cycles = winograd_cycles(&conv.sizes, conv.side, False)
    op.scratch_lanes = max(
        op.scratch_lanes,
        winograd_scratch(&conv.sizes, conv.joined, conv.side),
    )
    plan_element(plan, op, conv, &op.y_product, F, C)
    op.y_product.w_filter = C * 9
    op.y_product.w_tap = 9
    if op.needs_dx:
        p = new_parts(op, 1)
        op.dx_parts = 1
        plan_element(plan, op, conv, p, C, F)
        p.w_filter = 9
        p.w_tap = C * 9
    conv.transformed_forward = winograd_forward_blocks
    conv.transformed_backward = winograd_backward_blocks
    if not plan.layerwise:
        plan_transformed_block(op)
    if conv.params_side == 0:
        plan_block_params(plan, op, conv)
        return 0
    op.backward_params = winograd_params
    op.scratch_lanes = max(
        op.scratch_lanes, winograd_params_scratch(&conv.sizes, conv.params_side)
    )
    elements = (conv.params_side + 2) * (conv.params_side + 2)
    if plan.layerwise:
        conv.filter_floats = <Py_ssize_t>C * elements
        plan_by_block(
            op, conv, winograd_cycles(&conv.sizes, conv.params_side, True)
        )
    else:
        plan_shard_gradient(plan, op, conv, elements)
        reduce_by_filter(op, conv)
    return 0


cdef inline void plan_transformed_block(Op *op) noexcept:
    """How one block is run through a transform domain."""
    op.forward = transformed_forward_block
    op.backward_input = transformed_backward_input


cdef inline int plan_element(
    Plan *plan, Op *op, Conv *conv, Correlation *p, int filters, int taps
) except -1:
    """The product of one element, and room for the weights of all."""
    cdef int across = tiles_across(conv.sizes.out_w, conv.side)
    p.channels = p.rows = p.height = p.out_h = 1
    p.taps = p.step = taps
    p.right = taps * across
    p.filters = filters
    p.out_w = p.y_filter = across
    p.y_column = 1
    p.side = conv.side
    p.tile = cheapest_tile(filters, across * conv.joined, False)
    plan_packed(plan, p, op.elements)
    return 0


cdef inline bint plans_rows(const Op *op, Conv *conv) noexcept:
    """Whether the rows of the kernel are transformed; then `conv.bands` are set."""
    cdef Correlation element
    conv.bands = fewest_bands(conv.sizes.out_h, conv.sizes.kernel_h)
    if not rows_fit(&conv.sizes, &conv.bands) or transposing_pays(&conv.sizes):
        return False
    set_rows(
        &element, conv, conv.sizes.filters, conv.sizes.channels, conv.sizes.out_w,
        conv.padding, conv.sizes.width,
    )
    return rows_pay(&conv.sizes, &op.y_product, &element)


cdef inline void set_rows(
    Correlation *p, const Conv *conv, int filters, int channels, int out_w, int left,
    int width
) noexcept:
    """The product of one element: a correlation of a row, which has `width` columns behind
    `left` zeros."""
    memset(p, 0, sizeof(Correlation))
    p.filters = filters
    p.channels = channels
    p.out_w = out_w
    p.rows = p.height = p.out_h = p.step = p.y_column = 1
    p.taps = conv.sizes.kernel_w
    p.bands = conv.bands
    p.combined = conv.sizes.kernel_h
    p.w_row = conv.sizes.kernel_w
    p.left = left
    p.right = left + width
    p.tile = correlation_tile(p)


cdef inline int plan_rows(Plan *plan, Op *op, Conv *conv) except -1:
    cdef Correlation *p = &op.y_product
    cdef int C = conv.sizes.channels
    cdef int F = conv.sizes.filters
    cdef int KW = conv.sizes.kernel_w
    cdef int taps = conv.sizes.kernel_h * KW
    op.pack = pack_rows
    op.elements = elements_of(&conv.bands)
    op.scratch_lanes = max(op.scratch_lanes, rows_scratch(&conv.sizes, &conv.bands))
    set_rows(p, conv, F, C, conv.sizes.out_w, conv.padding, conv.sizes.width)
    op.cycles = rows_cycles(&conv.sizes, p)
    p.x_channel = padded_width(&conv.sizes)
    p.w_filter = C * taps
    p.w_channel = taps
    p.w_tap = 1
    plan_packed(plan, p, op.elements)
    if op.needs_dx:
        p = new_parts(op, 1)
        op.dx_parts = 1
        set_rows(
            p, conv, C, F, conv.sizes.width, KW - 1 - conv.padding, conv.sizes.out_w
        )
        p.x_channel = gradient_width(&conv.sizes)
        p.w_start = KW - 1
        p.w_filter = taps
        p.w_channel = C * taps
        p.w_tap = -1
        plan_packed(plan, p, op.elements)
    conv.transformed_forward = rows_forward_blocks
    conv.transformed_backward = rows_backward_blocks
    op.backward_params = rows_params
    if plan.layerwise:
        conv.filter_floats = <Py_ssize_t>C * op.elements * KW
        plan_by_block(op, conv, rows_params_cycles(&conv.sizes, &conv.bands))
    else:
        plan_shard_gradient(plan, op, conv, op.elements * KW)
        plan_transformed_block(op)
        reduce_by_filter(op, conv)
    return 0


cdef inline int plan_conv_backward(Plan *plan, Op *op, Conv *conv) except -1:
    """dx, for each residue (py, px) of its rows and columns modulo the stride.

    Output row oy touches input row oy S - P + ky. The rows py + S i of dx are touched
    by the kernel rows ky = (py + P) % S + S m alone, by output row
    i + (py + P) // S - m: a correlation of dy with every S-th kernel row, turned round.
    """
    cdef Correlation *p
    cdef int H, W, py, px, i
    cdef int left = 0
    cdef int right = 0
    cdef int S = conv.sizes.stride
    cdef int KH = conv.sizes.kernel_h
    cdef int KW = conv.sizes.kernel_w
    cdef int OW = conv.sizes.out_w
    cdef bint by_block = op.forward != NULL
    H = conv.sizes.height
    W = conv.sizes.width - (2 * conv.padding if by_block else 0)
    new_parts(op, <size_t>min(S, KH) * min(S, KW))
    op.dx_products.filters = conv.sizes.channels  # of no part: what tasks fill with zeros
    op.gaps = S > KH or S > KW
    for py in range(min(S, H)):
        for px in range(min(S, W)):
            p = &op.dx_products[op.dx_parts]
            if not plan_residue(p, conv, H, W, py, px):
                continue
            op.dx_parts += 1
            if not by_block:
                p.tile = PAIR
                leave_padding(p)
            if op.pack != NULL:
                plan_packed(plan, p)
            left = max(left, -p.x_start)
            right = max(right, p.x_start + p.out_w - 1 + p.taps - OW)
    if not by_block:
        left = right = 0
    size_of((conv.sizes.filters, conv.sizes.out_h, OW + left + right))
    if left + right > 0:
        op.dy_padding = padding_of(
            conv.sizes.filters * conv.sizes.out_h, OW, left, right
        )
        op.scratch_lanes = max(
            op.scratch_lanes,
            <Py_ssize_t>op.dy_padding.rows * op.dy_padding.padded_width,
        )
    for i in range(op.dx_parts):
        p = &op.dx_products[i]
        p.x_start += left
        p.x_row = OW + left + right
        p.x_channel = conv.sizes.out_h * p.x_row
    return 0


cdef inline bint plan_residue(
    Correlation *p, const Conv *conv, int H, int W, int py, int px
) noexcept:
    """The part of dx in rows py and columns px modulo S; False if no tap touches it."""
    cdef int S = conv.sizes.stride
    cdef int P = conv.padding
    cdef int KH = conv.sizes.kernel_h
    cdef int KW = conv.sizes.kernel_w
    cdef int rows = (KH - (py + P) % S + S - 1) // S
    cdef int taps = (KW - (px + P) % S + S - 1) // S
    if rows <= 0 or taps <= 0:
        return False
    p.channels = conv.sizes.filters
    p.rows = rows
    p.taps = taps
    p.height = conv.sizes.out_h
    p.filters = conv.sizes.channels
    p.out_h = (H - py + S - 1) // S
    p.out_w = (W - px + S - 1) // S
    p.top = (py + P) // S - (rows - 1)
    p.x_start = (px + P) // S - (taps - 1)
    p.step = 1
    p.y_start = py * W + px
    p.y_column = S
    p.y_row = S * W
    p.y_filter = H * W
    p.w_start = ((py + P) % S + S * (rows - 1)) * KW + (px + P) % S + S * (taps - 1)
    p.w_filter = KH * KW
    p.w_channel = <Py_ssize_t>conv.sizes.channels * KH * KW
    p.w_row = -S * KW
    p.w_tap = -S
    p.left = -p.x_start
    p.right = conv.sizes.out_w - p.x_start
    p.x_row = conv.sizes.out_w
    p.tile = correlation_tile(p)
    return True


cdef inline void transformed_forward_block(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    (<const Conv *>op.own).transformed_forward(
        op, call, bias_of(op, call), op.activation, x, y, 1, here.own + op.scratch,
        here.part, here.parts,
    )


cdef inline void transformed_backward_input(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    (<const Conv *>op.own).transformed_backward(
        op, call, x, dy, dx, 1, here.own + op.scratch, here.part, here.parts
    )


cdef struct Filters:
    # those of a part, as a convolution of their own
    Convolution sizes
    const lanes *dy
    float *dweight  # in the shard's gradient
    float *dbias  # or NULL


cdef inline Filters filters_of(
    const Op *op, const Here *here, const lanes *dy, int tile
) noexcept nogil:
    cdef const Conv *conv = <const Conv *>op.own
    cdef Part part = part_of(here, conv.sizes.filters, tile)
    cdef Filters filters
    filters.sizes = conv.sizes
    filters.sizes.filters = part.count
    filters.dy = dy + <Py_ssize_t>part.first * conv.sizes.out_h * conv.sizes.out_w
    filters.dweight = here.gradient + conv.gradient + part.first * conv.filter_floats
    filters.dbias = NULL
    if op.biased:
        filters.dbias = here.gradient + conv.bias_gradient + part.first
    return filters


cdef inline void direct_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    cdef const Conv *conv = <const Conv *>op.own
    cdef Filters part = filters_of(op, here, dy, tile_filters(conv.sizes.tile))
    if part.sizes.filters:
        conv_backward_params(
            &part.sizes, padded_input(op, here, x), part.dy, part.dweight, part.dbias
        )


cdef inline void transposed_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    cdef Filters part = filters_of(op, here, dy, TILE_PAIR_F)
    if part.sizes.filters:
        transposed_backward_params(
            &part.sizes, padded_input(op, here, x), part.dy, part.dweight, part.dbias,
            here.own + op.scratch,
        )


cdef inline void winograd_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    cdef Filters part = filters_of(op, here, dy, TILE_FOUR_F)
    if part.sizes.filters:
        winograd_backward_params(
            &part.sizes, x, part.dy, part.dweight, part.dbias, here.own + op.scratch,
            (<const Conv *>op.own).params_side,
        )


cdef inline void rows_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    cdef const Conv *conv = <const Conv *>op.own
    cdef Filters part = filters_of(op, here, dy, tile_filters(conv.sizes.tile))
    if part.sizes.filters:
        rows_backward_params(
            &part.sizes, &conv.bands, x, part.dy, part.dweight, part.dbias,
            here.own + op.scratch,
        )


cdef inline void reduce_slice(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, const Task *task,
) noexcept nogil:
    """Add a slice of a microbatch's gradient to the batch's."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef float *to = call.gradient + op.weight + task.start
    cdef float *sums = space.shards + conv.gradient + task.start
    cdef Py_ssize_t i
    add_shards(sums, plan.shard_floats, batch.shards, task.count)
    for i in range(task.count):
        to[i] += sums[i]


cdef inline void reduce_filter(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, const Task *task,
) noexcept nogil:
    """The same of a filter; added up in shard 0."""
    add_filter(op, call, space.shards, plan.shard_floats, batch.shards, task.start)
