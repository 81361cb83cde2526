"""Convolutions layerwise: tasks are groups of blocks times parts of the filters.

The gradient of the weights is that of panels (kernels/weight_gradient.pxd), or, where that
takes fewer cycles, it is computed in the transform domain of each block. Before the tasks
of the backward pass come stages that pack the panels of some blocks, or compute these
blocks' gradients, and, if not all blocks fit, others that use them up: pack, sum, pack,
sum, ..., pack; the last sum is done beside the gradient of the input.
"""

from libc.string cimport memset

from lenet5c.core.kernels.correlate cimport (
    Bands, Correlation, correlate_blocks, pass_channels,
)
from lenet5c.core.kernels.weight_gradient cimport (
    TX, Convolution, Panels, blocks_bias_gradient, convolution_of_panels, im2col,
    im2col_lanes, pack_panels, panel_floats, panels_at, panels_backward_params,
    tile_floats, tiles_of, uses_im2col,
)
from lenet5c.core.kernels.winograd cimport (
    add_weight_gradient, winograd_backward, winograd_forward,
)
from lenet5c.core.kernels.winograd_rows cimport (
    add_rows_gradient, rows_backward_input, rows_forward,
)
from lenet5c.core.kernels.image cimport ImageConv
from lenet5c.core.lanes cimport LANES, TILE_PAIR_F, TILE_PAIR_X, lanes
from lenet5c.core.memory cimport add_map, arena_of, gradient_of, map_of
from lenet5c.core.plan cimport (
    MICROBATCH, Batch, Call, Here, Op, Plan, Workspace, bias_of, here_alone, is_folded,
)
from lenet5c.core.reduce cimport add_shards

cdef enum:
    GROUP_BYTES = 1 << 18  # of maps that one task goes through
    PANEL_BYTES = 1 << 25  # of panels that there are at a time
    DENSE_GROUP = MICROBATCH // LANES  # blocks of a task, which read all weights once
    TASKS = 16  # of an op, at least, where it can be cut

cdef enum Way:  # to y and dx
    SUMS
    SQUARES  # through the transform domain of kernels/winograd.pxd
    ROWS  # through that of kernels/winograd_rows.pxd

ctypedef void (*TransformedForward)(
    const Op *op, const Call *call, const float *bias, int activation, const lanes *x,
    lanes *y, int blocks, lanes *scratch, int part, int parts,
) noexcept nogil
ctypedef void (*TransformedBackward)(
    const Op *op, const Call *call, const lanes *x, const lanes *dy, lanes *dx,
    int blocks, lanes *scratch, int part, int parts,
) noexcept nogil

cdef struct Conv:
    Convolution sizes
    int padding
    Way way
    int side  # outputs along that of a tile of SQUARES
    int params_side  # that for the weights' gradient, which is by SUMS if this is 0
    int joined  # blocks whose tiles are the columns of one product
    Bands bands  # of ROWS
    TransformedForward transformed_forward
    TransformedBackward transformed_backward
    Py_ssize_t gradient, bias_gradient  # offsets in a shard's gradients, blockwise
    Py_ssize_t filter_floats  # of the weights' gradient there
    bint by_block  # layerwise, whether each block's weight gradient is computed
    Convolution of_panels  # whose weight gradient this is: of patches or itself, layerwise
    Py_ssize_t group  # blocks of one task, layerwise
    ImageConv image


cdef inline int plan_tasks(Op *op, Conv *conv) except -1:
    """How tasks share out blocks and filters."""
    cdef Py_ssize_t block = max(op.inputs, op.outputs) * <Py_ssize_t>sizeof(lanes)
    cdef Py_ssize_t group = GROUP_BYTES // (TILE_PAIR_X * block)
    conv.sizes.left = conv.sizes.top
    conv.of_panels = convolution_of_panels(&conv.sizes)
    op.panel_lanes = panel_floats(&conv.of_panels)  # a float for each of LANES images
    op.blocks_per_panel = max(
        1, PANEL_BYTES // (op.panel_lanes * <Py_ssize_t>sizeof(lanes))
    )
    op.scratch_lanes = max(
        tile_floats(&conv.of_panels) // LANES, im2col_lanes(&conv.sizes)
    )
    conv.group = TILE_PAIR_X * max(<Py_ssize_t>1, group)
    if conv.sizes.height * conv.sizes.width * conv.sizes.out_h * conv.sizes.out_w == 1:
        conv.group = max(conv.group, DENSE_GROUP)
    op.prepare = prepare_conv
    op.forward_tasks = conv_forward_tasks
    op.forward_task = conv_forward_task
    op.backward_tasks = conv_backward_tasks
    op.backward_task = conv_backward_task
    op.stages = panel_stages
    op.stage_tasks = panel_stage_tasks
    op.stage_task = panel_stage
    if conv.way != SUMS:
        conv.group = TILE_PAIR_X  # its tasks cannot share out filters
        op.sum_lanes = conv.group * op.x_block
    return 0


cdef inline double panel_cycles(const Convolution *p) noexcept nogil:
    """Cycles that a block's panels take, estimated: to be packed, a cycle and a half each
    number for each image, and their products."""
    cdef Convolution q = convolution_of_panels(p)
    cdef double tiles = tiles_of(q.channels, TX) * tiles_of(q.filters, TILE_PAIR_F)
    cdef double pixels = <double>p.out_h * p.out_w
    cdef double packing = 1.5 * panel_floats(&q)
    return LANES * pixels * q.kernel_h * q.kernel_w * tiles * 12 + packing * LANES / 8


cdef inline void plan_by_block(Op *op, Conv *conv, double cycles) noexcept:
    """Compute the gradient of each block, if that takes no more cycles than panels; it has
    `filter_floats` for each filter."""
    cdef Py_ssize_t floats = conv.sizes.filters * (conv.filter_floats + 1)
    cdef Py_ssize_t most = PANEL_BYTES // <Py_ssize_t>sizeof(lanes)
    if cycles > panel_cycles(&conv.sizes):
        return
    conv.by_block = True
    conv.gradient = 0
    conv.bias_gradient = conv.sizes.filters * conv.filter_floats
    op.panel_lanes = (floats + LANES - 1) // LANES
    op.blocks_per_panel = 1
    while 2 * op.blocks_per_panel * op.panel_lanes <= most:
        op.blocks_per_panel *= 2


cdef inline void add_filter(
    const Op *op, const Call *call, float *shards, Py_ssize_t apart, int count,
    int filter,
) noexcept nogil:
    """Add the gradient of a filter's weights and bias, summed over `count` shards that lie
    `apart`, to the batch's. The weights lie (elements or taps, C) or (elements, C, taps).
    """
    cdef const Conv *conv = <const Conv *>op.own
    cdef int C = conv.sizes.channels
    cdef int taps = conv.sizes.kernel_h * conv.sizes.kernel_w
    cdef float *sums = shards + conv.gradient + filter * conv.filter_floats
    cdef float *bias = shards + conv.bias_gradient + filter
    cdef float *to = call.gradient + op.weight + <Py_ssize_t>filter * C * taps
    cdef int c, i
    add_shards(sums, apart, count, conv.filter_floats)
    if op.biased:
        add_shards(bias, apart, count, 1)
        call.gradient[op.bias + filter] += bias[0]
    if conv.params_side > 0:
        add_weight_gradient(sums, to, C, conv.params_side)
        return
    if conv.way == ROWS:
        add_rows_gradient(&conv.sizes, &conv.bands, sums, to)
        return
    for c in range(C):
        for i in range(taps):
            to[c * taps + i] += sums[i * C + c]


cdef inline void prepare_conv(
    const Plan *plan, const Op *op, const Call *call
) noexcept nogil:
    """Zero the bias' gradient, which is added to; that of the weights is written."""
    if call.gradient != NULL and not call.add and op.biased:
        memset(
            call.gradient + op.bias, 0,
            (<const Conv *>op.own).sizes.filters * sizeof(float),
        )


cdef inline int filter_tiles(int filters) noexcept nogil:
    return (filters + TILE_PAIR_F - 1) // TILE_PAIR_F


cdef inline int groups_of(const Conv *conv, const Batch *batch) noexcept nogil:
    return (batch.blocks + conv.group - 1) // conv.group


cdef inline int parts_of(const Conv *conv, const Correlation *p, int groups) noexcept nogil:
    """In how many parts the filters are shared out."""
    if conv.way != SUMS:
        return 1
    return min(filter_tiles(p.filters), (TASKS + groups - 1) // groups)


cdef inline int conv_tasks(
    const Conv *conv, const Correlation *p, const Batch *batch
) noexcept nogil:
    cdef int groups = groups_of(conv, batch)
    return groups * parts_of(conv, p, groups)


cdef struct Share:
    # of one task: some blocks, and some tiles of filters
    Py_ssize_t first
    int count
    int tile, tile_end


cdef inline Share share_of(
    const Conv *conv, const Correlation *p, const Batch *batch, int task
) noexcept nogil:
    cdef Share share
    cdef int parts = parts_of(conv, p, groups_of(conv, batch))
    cdef int tiles = filter_tiles(p.filters)
    cdef int part = task % parts
    share.first = task // parts * conv.group
    share.count = min(conv.group, batch.blocks - share.first)
    share.tile = part * tiles // parts
    share.tile_end = (part + 1) * tiles // parts
    return share


cdef inline int conv_forward_tasks(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    return conv_tasks(<const Conv *>op.own, &op.y_product, batch)


cdef inline void conv_forward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    """Some filters of some blocks, with the normalisation that is folded in."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef const Correlation *p = &op.y_product
    cdef Share share = share_of(conv, p, batch, task)
    cdef const Op *last = op + 1 if is_folded(plan, call, op) else op
    cdef const float *bias = bias_of(op, call)
    cdef const lanes *x = map_of(plan, call, space, op.source, batch)
    cdef lanes *y = map_of(plan, call, space, last.number + 1, batch)
    cdef int tile, channel
    if last != op:
        bias = call.norms + last.norm + conv.sizes.filters
    x += share.first * op.x_block
    y += share.first * op.y_block
    if conv.way != SUMS:
        conv.transformed_forward(
            op, call, bias, last.activation, x, y, share.count,
            arena_of(space) + op.scratch, 0, 1,
        )
        return
    for channel from 0 <= channel < p.channels by pass_channels(p, False):
        for tile in range(share.tile, share.tile_end):
            correlate_blocks(
                p, x, op.x_block, call.packed + p.packed, bias, y, op.y_block, NULL,
                last.activation, True, False, share.count, tile, channel,
            )


cdef inline void winograd_forward_blocks(
    const Op *op, const Call *call, const float *bias, int activation, const lanes *x,
    lanes *y, int blocks, lanes *scratch, int part, int parts,
) noexcept nogil:
    cdef const Conv *conv = <const Conv *>op.own
    cdef int b
    for b from 0 <= b < blocks by conv.joined:
        winograd_forward(
            &conv.sizes, &op.y_product, x + b * op.x_block, op.x_block,
            call.packed + op.y_product.packed, bias, y + b * op.y_block, op.y_block,
            activation, min(conv.joined, blocks - b), scratch, part, parts,
        )


cdef inline void winograd_backward_blocks(
    const Op *op, const Call *call, const lanes *x, const lanes *dy, lanes *dx,
    int blocks, lanes *scratch, int part, int parts,
) noexcept nogil:
    cdef const Conv *conv = <const Conv *>op.own
    cdef int b
    for b from 0 <= b < blocks by conv.joined:
        winograd_backward(
            &conv.sizes, op.dx_products, dy + b * op.y_block, op.y_block,
            call.packed + op.dx_products.packed, dx + b * op.x_block, x + b * op.x_block,
            op.x_block, op.below, min(conv.joined, blocks - b), scratch, part, parts,
        )


cdef inline void rows_forward_blocks(
    const Op *op, const Call *call, const float *bias, int activation, const lanes *x,
    lanes *y, int blocks, lanes *scratch, int part, int parts,
) noexcept nogil:
    cdef int b
    for b in range(blocks):
        rows_forward(
            &(<const Conv *>op.own).sizes, &op.y_product, x + b * op.x_block,
            call.packed + op.y_product.packed, bias, y + b * op.y_block, activation,
            scratch, part, parts,
        )


cdef inline void rows_backward_blocks(
    const Op *op, const Call *call, const lanes *x, const lanes *dy, lanes *dx,
    int blocks, lanes *scratch, int part, int parts,
) noexcept nogil:
    cdef int b
    for b in range(blocks):
        rows_backward_input(
            &(<const Conv *>op.own).sizes, op.dx_products, dy + b * op.y_block,
            call.packed + op.dx_products.packed, dx + b * op.x_block, x + b * op.x_block,
            op.below, scratch, part, parts,
        )


cdef inline int conv_backward_tasks(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    """First one for each tile of filters, for the weights; then those for the input."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef int tasks = filter_tiles(conv.sizes.filters)
    if op.needs_dx:
        tasks += conv_tasks(conv, op.dx_products, batch)
    return tasks


cdef inline void conv_backward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    """The sum that the stages left, and the gradient of the input."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef int tiles = filter_tiles(conv.sizes.filters)
    if task < tiles:
        op.stage_task(plan, op, call, space, batch, panel_stages(op, batch), task)
    else:
        conv_input_gradient(plan, op, call, space, batch, task - tiles)


cdef inline void conv_input_gradient(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    """dx of some channels of some blocks."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef const Correlation *p = op.dx_products
    cdef Share share = share_of(conv, p, batch, task)
    cdef Py_ssize_t area = <Py_ssize_t>conv.sizes.height * conv.sizes.width
    cdef const lanes *x = map_of(plan, call, space, op.source, batch)
    cdef const lanes *dy = gradient_of(plan, space, op.number + 1, batch)
    cdef lanes *dx = gradient_of(plan, space, op.source, batch)
    cdef lanes *arena = arena_of(space)
    cdef lanes *target
    cdef Py_ssize_t channel
    cdef int tile, first, i, b
    x += share.first * op.x_block
    dx += share.first * op.x_block
    dy += share.first * op.y_block
    if conv.way != SUMS:
        target = arena if op.adds else dx
        conv.transformed_backward(
            op, call, x, dy, target, share.count, arena + op.scratch, 0, 1
        )
        if op.adds:
            add_map(dx, target, share.count * op.x_block)
        return
    for first from 0 <= first < max(1, p.channels) by max(1, pass_channels(p, op.adds)):
        for tile in range(share.tile, share.tile_end):
            if op.gaps and not op.adds and first == 0:
                channel = <Py_ssize_t>tile * TILE_PAIR_F
                for b in range(share.count):
                    memset(
                        dx + b * op.x_block + channel * area, 0,
                        min(<Py_ssize_t>TILE_PAIR_F, p.filters - channel) * area
                        * sizeof(lanes),
                    )
            for i in range(op.dx_parts):
                p = &op.dx_products[i]
                correlate_blocks(
                    p, dy, op.y_block, call.packed + p.packed, NULL, dx, op.x_block, x,
                    op.below, False, op.adds, share.count, tile, first,
                )


cdef inline int panel_passes(const Op *op, const Batch *batch) noexcept nogil:
    """How many times panels are packed and used up."""
    return (batch.blocks + op.blocks_per_panel - 1) // op.blocks_per_panel


cdef inline int blocks_of_pass(const Op *op, const Batch *batch, int number) noexcept nogil:
    return min(op.blocks_per_panel, batch.blocks - number * op.blocks_per_panel)


cdef inline int panel_stages(const Op *op, const Batch *batch) noexcept nogil:
    return 2 * panel_passes(op, batch) - 1


cdef inline int panel_stage_tasks(
    const Op *op, const Batch *batch, int stage
) noexcept nogil:
    """Blocks whose panels are packed, or tiles of filters whose sums are made."""
    if stage % 2 == 0:
        return blocks_of_pass(op, batch, stage // 2)
    return filter_tiles((<const Conv *>op.own).sizes.filters)


cdef inline void panel_stage(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int stage, int task,
) noexcept nogil:
    if stage % 2 == 0:
        fill_panels(plan, op, call, space, batch, stage // 2, task)
    else:
        sum_panels(plan, op, call, space, batch, stage // 2, task)


cdef inline Panels panels_of(
    const Plan *plan, const Op *op, const Workspace *space, const Batch *batch, int number
) noexcept nogil:
    """The panels of a pass; they lie behind all maps."""
    return panels_at(
        &(<const Conv *>op.own).of_panels,
        <float *>(<lanes *>space.maps + plan.all_maps * batch.blocks),
        <Py_ssize_t>blocks_of_pass(op, batch, number) * LANES,
    )


cdef inline void fill_panels(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int number, int task,
) noexcept nogil:
    """The maps of one block of a pass into the panels, or their gradient in their place."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef Panels panels = panels_of(plan, op, space, batch, number)
    cdef Py_ssize_t block = number * op.blocks_per_panel + task
    cdef const lanes *x = map_of(plan, call, space, op.source, batch) + block * op.x_block
    cdef const lanes *dy = gradient_of(plan, space, op.number + 1, batch)
    cdef lanes *patches = arena_of(space) + op.scratch
    cdef Here here
    if conv.by_block:
        here = here_alone(arena_of(space))
        here.gradient = panels.x + task * op.panel_lanes * LANES
        memset(here.gradient, 0, op.panel_lanes * sizeof(lanes))
        op.backward_params(op, &here, x, dy + block * op.y_block)
        return
    if uses_im2col(&conv.sizes):
        im2col(&conv.sizes, x, patches)
        x = patches
    pack_panels(
        &conv.of_panels, &panels, x, dy + block * op.y_block, <Py_ssize_t>task * LANES
    )


cdef inline void sum_panels(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int number, int tile,
) noexcept nogil:
    """Gradient of the parameters of TILE_PAIR_F filters, over the blocks of a pass."""
    cdef const Conv *conv = <const Conv *>op.own
    cdef Panels panels = panels_of(plan, op, space, batch, number)
    cdef int f
    cdef Py_ssize_t weights
    if conv.by_block:
        weights = op.y_product.w_filter
        for f in range(
            tile * TILE_PAIR_F, min((tile + 1) * TILE_PAIR_F, conv.sizes.filters)
        ):
            if number == 0 and not call.add:
                memset(
                    call.gradient + op.weight + f * weights, 0, weights * sizeof(float)
                )
            add_filter(
                op, call, panels.x, op.panel_lanes * LANES,
                blocks_of_pass(op, batch, number), f,
            )
        return
    panels_backward_params(
        &conv.of_panels, &panels, call.gradient + op.weight, call.add or number > 0, tile,
        <float *>(arena_of(space) + op.scratch),
    )
    if op.biased and number == 0:
        blocks_bias_gradient(
            &conv.sizes, gradient_of(plan, space, op.number + 1, batch), op.y_block,
            call.gradient + op.bias, batch.blocks, tile,
        )
