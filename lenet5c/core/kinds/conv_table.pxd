"""Convolutions with a table of connections: each filter reads the channels that it lists.

    C, F           channels in, filters (channels out)
    H W, OH OW     input map, output map
    KH KW, S, P    kernel, stride, zero padding
    pair           a filter and a channel that it lists, by filter, then by channel

One output map after the other is a correlation of the maps that it is connected with, in
tiles of one row. Weights are read where the parameters lie, (pairs, KH, KW). Layerwise,
blocks run as they do blockwise, and the gradient of a filter's weights is one task.
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport IDENTITY
from lenet5c.core.kernels.correlate cimport (
    Correlation, finish_row, half_suffices, pad_columns,
)
from lenet5c.core.kernels.image cimport Connections
from lenet5c.core.kernels.weight_gradient cimport bias_gradient
from lenet5c.core.kinds.conv cimport (
    padding_of, plan_conv_backward, reduce_slice, set_direct, set_sizes,
)
from lenet5c.core.kinds.conv_imagewise cimport plan_image_conv
from lenet5c.core.kinds.conv_layerwise cimport Conv
from lenet5c.core.kinds.correlation cimport pad_map
from lenet5c.core.lanes cimport (
    TILE_FIVE_X, TILE_MAX, TILE_ROW_X, TILE_SUMS, TILE_THREE_X, lanes, lanes_keep,
    lanes_set,
)
from lenet5c.core.memory cimport add_map, arena_of, gradient_of, map_of
from lenet5c.core.plan cimport (
    SLICE, Batch, Call, Here, Op, Part, Plan, Workspace, bias_of, here_alone, own, part_of,
    plan_parameters, size_of,
)
from lenet5c.core.tile cimport SINGLE, multiply_tile, sum_tile, tap_cost


cdef struct Table:
    Conv conv  # comes first: functions of convolutions find it in `Op.own`
    Connections of_filters, of_channels  # y from x, dx from dy


cdef inline int plan_conv_table(Plan *plan, Op *op, dict node) except -1:
    cdef int F = node["output_shape"][0]
    cdef int C = node["input_shape"][0]
    cdef int pairs = size_of((sum(map(len, node["connections"])),))
    cdef size_t numbers = F + C + 2 + 4 * <size_t>pairs
    cdef Table *table = <Table *>own(op, sizeof(Table) + numbers * sizeof(int))
    cdef Conv *conv = &table.conv
    cdef Py_ssize_t weights
    cdef int H, W, P, i
    set_sizes(op, conv, node)
    set_connections(table, <int *>(table + 1), node["connections"], C)
    weights = size_of((pairs, conv.sizes.kernel_h, conv.sizes.kernel_w))
    plan_parameters(plan, op, weights, F if op.biased else 0)
    set_direct(&op.y_product, conv, False)
    op.y_product.w_filter = op.y_product.w_channel  # from pair to pair
    op.y_product.tile = SINGLE  # for `finish_row`: one filter at a time
    if not plan.layerwise:
        plan_image_conv(plan, op, conv, &table.of_filters, &table.of_channels, pairs)
    H, W, P = conv.sizes.height, conv.sizes.width, conv.padding
    if P:
        op.x_padding = padding_of(C * H, W, P, P)
        op.scratch_lanes = max(
            op.scratch_lanes,
            max(<Py_ssize_t>op.x_padding.rows, <Py_ssize_t>H + 2 * P)
            * op.x_padding.padded_width,
        )
        conv.sizes.width += 2 * P
    op.forward = table_forward
    op.backward_input = table_backward_input
    if op.needs_dx:
        plan_conv_backward(plan, op, conv)
        for i in range(op.dx_parts):
            op.dx_products[i].tile = SINGLE
    op.folds = False  # a batch normalisation runs by itself: weights are not packed
    op.cycles = table_cycles(op, weights)
    if plan.layerwise:
        op.backward_tasks = table_backward_tasks
        op.backward_task = table_backward_task
        return 0
    op.backward_params = table_backward_params
    op.reduce = reduce_slice
    op.reduce_length = weights + (F if op.biased else 0)
    op.reduce_step = SLICE
    conv.gradient = plan.shard_floats
    conv.bias_gradient = conv.gradient + weights
    plan.shard_floats = (conv.bias_gradient + F + 15) // 16 * 16
    return 0


cdef inline int set_connections(
    Table *table, int *room, connections, int channels
) except -1:
    """Both ways to read the table: by filter, and by channel."""
    cdef int pairs = 0
    by_filter = [[] for _ in connections]
    by_channel = [[] for _ in range(channels)]
    for f, listed in enumerate(connections):
        for c in listed:
            by_filter[f].append((c, pairs))
            by_channel[c].append((f, pairs))
            pairs += 1
    room = fill(&table.of_filters, room, pairs, by_filter)
    fill(&table.of_channels, room, pairs, by_channel)
    return 0


cdef inline int *fill(
    Connections *to, int *room, int pairs, list outputs
) except NULL:
    """From lists of (source, pair); the room that is left."""
    cdef int i = 0
    to.first = room
    to.source = to.first + len(outputs) + 1
    to.pair = to.source + pairs
    to.first[0] = 0
    for output, listed in enumerate(outputs, 1):
        for source, pair in listed:
            to.source[i] = source
            to.pair[i] = pair
            i += 1
        to.first[output] = i
    return to.pair + pairs


cdef inline double table_cycles(const Op *op, Py_ssize_t weights) noexcept:
    cdef const Correlation *p = &op.y_product
    cdef int tx = tile_width(p.out_w)
    cdef int tiles = (p.out_w + tx - 1) // tx
    return <double>weights * p.out_h * tiles * tap_cost(1, tx)


cdef inline int tile_width(int columns) noexcept nogil:
    """The widest tile of one row that is not wider than the output."""
    if columns >= TILE_ROW_X:
        return TILE_ROW_X
    if columns >= TILE_FIVE_X:
        return TILE_FIVE_X
    return TILE_THREE_X if columns >= TILE_THREE_X else 1


cdef inline void table_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    """y[f] = A(bias[f] + sum over c that f lists of x[c] * w[f, c])"""
    cdef const Table *table = <const Table *>op.own
    cdef const Correlation *p = &op.y_product
    cdef const float *bias = bias_of(op, call)
    cdef Part part = part_of(here, p.filters, 1)
    cdef int f
    if op.x_padding.padded_width:  # by each part for itself
        pad_map(&op.x_padding, x, here.own + op.scratch)
        x = here.own + op.scratch
    for f in range(part.first, part.first + part.count):
        correlate_sources(
            p, &table.of_filters, f, x, call.parameters + op.weight,
            0 if bias == NULL else bias[f], y, NULL, op.activation, True,
        )


cdef inline void table_backward_input(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    """dx[c] = (sum over f that list c of dy[f] * w[f, c]) A'(x[c]), where A is the
    activation below"""
    cdef const Table *table = <const Table *>op.own
    cdef const Correlation *p
    cdef Py_ssize_t area = op.inputs // table.conv.sizes.channels
    cdef Part part = part_of(here, table.conv.sizes.channels, 1)
    cdef int c, i
    if op.gaps:
        memset(dx + part.first * area, 0, part.count * area * sizeof(lanes))
    if op.dy_padding.padded_width:
        pad_map(&op.dy_padding, dy, here.own + op.scratch)
        dy = here.own + op.scratch
    for i in range(op.dx_parts):
        p = &op.dx_products[i]
        for c in range(part.first, part.first + part.count):
            correlate_sources(
                p, &table.of_channels, c, dy, call.parameters + op.weight, 0,
                dx + p.y_start, x + p.y_start, op.below, False,
            )


cdef inline void correlate_sources(
    const Correlation *p, const Connections *of, int output, const lanes *x,
    const float *weight, float bias, lanes *y, const lanes *z, int activation,
    bint forward,
) noexcept nogil:
    """y[output] = A(bias + sum over its sources of x * w) forward, else (x * w) A'(z)

    x       [C][H][W]       lanes, by the strides of `p`
    weight  (pairs, KH, KW) float
    y       [F][OH][OW]     lanes, one map of it is written
    z       like y          lanes, the values whose gradient y is (backward)
    """
    cdef int oy
    for oy in range(p.out_h):
        if p.step == 1:
            sources_row(p, of, output, x, weight, bias, y, oy, 1)
        else:
            sources_row(p, of, output, x, weight, bias, y, oy, p.step)
        if activation != IDENTITY:
            finish_row(p, y, z, output, oy, activation, forward)


cdef inline void sources_row(
    const Correlation *p, const Connections *of, int output, const lanes *x,
    const float *weight, float bias, lanes *y, int oy, Py_ssize_t step,
) noexcept nogil:
    """One row of an output map, tile by tile; the last one ends at the last column."""
    cdef int tx = tile_width(p.out_w)
    cdef int column = 0
    while column < p.out_w:
        if tx == TILE_ROW_X and half_suffices(p.out_w - column, TILE_ROW_X):
            tx = TILE_ROW_X // 2
        column = min(column, p.out_w - tx)
        if tx == TILE_ROW_X:
            sources_tile(
                p, of, output, x, weight, bias, y, oy, column, TILE_ROW_X, step
            )
        elif tx == TILE_FIVE_X:
            sources_tile(
                p, of, output, x, weight, bias, y, oy, column, TILE_FIVE_X, step
            )
        elif tx == TILE_THREE_X:
            sources_tile(
                p, of, output, x, weight, bias, y, oy, column, TILE_THREE_X, step
            )
        else:
            sources_tile(p, of, output, x, weight, bias, y, oy, column, 1, step)
        column += tx


cdef inline void sources_tile(
    const Correlation *p, const Connections *of, int output, const lanes *x,
    const float *weight, float bias, lanes *y, int oy, int column, int TX,
    Py_ssize_t step,
) noexcept nogil:
    """`TX` columns of a row of y[output] = bias + sum over its sources of x * w"""
    cdef lanes acc[TILE_MAX]
    cdef int top = p.top + oy * p.step
    cdef int row = max(0, -top)
    cdef int rows = min(p.rows, p.height - top) - row
    cdef int tap = max(0, p.left - (column + TX - 1) * p.step)
    cdef int taps = min(p.taps, p.right - column * p.step) - tap
    cdef Py_ssize_t y_column = p.y_column
    cdef int i, t
    x += p.x_start + (top + row) * p.x_row + column * step + tap
    weight += p.w_start + row * p.w_row + tap * p.w_tap
    y += output * p.y_filter + oy * p.y_row + column * y_column
    for t in range(TX):
        acc[t] = lanes_set(bias)
    for i in range(of.first[output], of.first[output + 1]):
        multiply_tile(
            acc, x + of.source[i] * p.x_channel, 0, p.x_row, 1, step,
            weight + of.pair[i] * p.w_filter, 0, p.w_row, p.w_tap, 1, rows, taps, 1, TX,
        )
    for t in range(TX):
        y[t * y_column] = acc[t]


cdef inline void table_backward_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    """What a block adds to the gradient of some filters, in the shard's."""
    cdef const Table *table = <const Table *>op.own
    cdef Part part = part_of(here, table.conv.sizes.filters, 1)
    cdef int f
    for f in range(part.first, part.first + part.count):
        filter_backward_params(
            table, f, x, dy, here.gradient + table.conv.gradient,
            here.gradient + table.conv.bias_gradient if op.biased else NULL,
            here.own + op.scratch,
        )


cdef inline void filter_backward_params(
    const Table *table, int filter, const lanes *x, const lanes *dy, float *dweight,
    float *dbias, lanes *scratch,
) noexcept nogil:
    """dweight[f, c, ky, kx] += sum over oy, ox, lanes of dy[f, oy, ox] * x[c, iy, ix]
    dbias[f] += sum over oy, ox, lanes of dy[f, oy, ox]

    for one filter and the channels that it lists

    x        [C][H][W]        lanes
    dy       [F][OH][OW]      lanes, gradient of the output before its activation
    dweight  (pairs, KH, KW)  float, added to
    dbias    (F,)             float, added to, or NULL
    scratch  a map in its padding, where there is any
    """
    cdef const Conv *conv = &table.conv
    cdef int KH = conv.sizes.kernel_h
    cdef int KW = conv.sizes.kernel_w
    cdef int H = conv.sizes.height
    cdef int PW = conv.sizes.width  # with the padding
    cdef int P = conv.padding
    cdef Py_ssize_t area = <Py_ssize_t>H * (PW - 2 * P)
    cdef int out_area = conv.sizes.out_h * conv.sizes.out_w
    cdef const lanes *source
    cdef int i
    dy += <Py_ssize_t>filter * out_area
    if dbias != NULL:
        bias_gradient(dy, dbias + filter, 1, out_area)
    if P:
        memset(scratch, 0, P * PW * sizeof(lanes))
        memset(scratch + (H + P) * PW, 0, P * PW * sizeof(lanes))
    for i in range(table.of_filters.first[filter], table.of_filters.first[filter + 1]):
        source = x + table.of_filters.source[i] * area
        if P:
            pad_columns(source, scratch + P * PW, H, PW - 2 * P, P, PW)
            source = scratch
        if KH >= 2 and KW >= 5:
            taps_by(conv, source, dy, dweight + <Py_ssize_t>i * KH * KW, 2, 5)
        elif KH >= 3 and KW >= 3:
            taps_by(conv, source, dy, dweight + <Py_ssize_t>i * KH * KW, 3, 3)
        elif KH >= 2 and KW >= 2:
            taps_by(conv, source, dy, dweight + <Py_ssize_t>i * KH * KW, 2, 2)
        else:
            taps_by(conv, source, dy, dweight + <Py_ssize_t>i * KH * KW, 1, 1)


cdef inline void taps_by(
    const Conv *conv, const lanes *x, const lanes *dy, float *dweight, int TY, int TX
) noexcept nogil:
    """All weights of a pair in tiles of TY rows and TX columns of the kernel. The last
    tiles are moved back to end with it: KH >= TY and KW >= TX."""
    cdef int KH = conv.sizes.kernel_h
    cdef int KW = conv.sizes.kernel_w
    cdef int ky, kx
    for ky from 0 <= ky < KH by TY:
        for kx from 0 <= kx < KW by TX:
            taps_tile(
                conv, x, dy, dweight, min(ky, KH - TY), min(kx, KW - TX),
                max(0, ky - KH + TY), max(0, kx - KW + TX), TY, TX,
            )


cdef inline void taps_tile(
    const Conv *conv, const lanes *x, const lanes *dy, float *dweight, int ky, int kx,
    int known_rows, int known_taps, int TY, int TX,
) noexcept nogil:
    """dweight[ky + r, kx + t] += sum over oy, ox, lanes of
        dy[oy, ox] * x[oy S + ky + r, ox S + kx + t]

    The first `known_rows` and `known_taps` of the tile have been added before.
    """
    cdef lanes acc[TILE_MAX]
    cdef float sums[TILE_SUMS]
    cdef const lanes *row
    cdef lanes d
    cdef Py_ssize_t S = conv.sizes.stride
    cdef Py_ssize_t PW = conv.sizes.width
    cdef int KW = conv.sizes.kernel_w
    cdef int OW = conv.sizes.out_w
    cdef int oy, r, t, _
    for t in range(TY * TX):
        acc[t] = lanes_set(0)
    for oy in range(conv.sizes.out_h):
        row = x + (oy * S + ky) * PW + kx
        for _ in range(OW):
            d = lanes_keep(dy[0])
            for r in range(TY):
                for t in range(TX):
                    acc[r * TX + t] += d * row[r * PW + t]
            row += S
            dy += 1
    sum_tile(acc, sums, TY * TX)
    for r in range(known_rows, TY):
        for t in range(known_taps, TX):
            dweight[(ky + r) * KW + kx + t] += sums[r * TX + t]


cdef inline int table_backward_tasks(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    """One for the weights of each filter, then one for dx of each block."""
    cdef int filters = (<const Table *>op.own).conv.sizes.filters
    return filters + (batch.blocks if op.needs_dx else 0)


cdef inline void table_backward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    cdef const Table *table = <const Table *>op.own
    cdef int block = task - table.conv.sizes.filters
    cdef const lanes *x = map_of(plan, call, space, op.source, batch)
    cdef const lanes *dy = gradient_of(plan, space, op.number + 1, batch)
    cdef lanes *arena = arena_of(space)
    cdef lanes *dx
    cdef lanes *target
    cdef Here here
    if block < 0:
        filter_of_batch(op, call, batch, task, x, dy, arena + op.scratch)
        return
    here = here_alone(arena)
    x += block * op.x_block
    dx = gradient_of(plan, space, op.source, batch) + block * op.x_block
    target = arena if op.adds else dx
    op.backward_input(op, call, &here, x, NULL, dy + block * op.y_block, target)
    if op.adds:
        add_map(dx, target, op.inputs)


cdef inline void filter_of_batch(
    const Op *op, const Call *call, const Batch *batch, int filter, const lanes *x,
    const lanes *dy, lanes *scratch,
) noexcept nogil:
    """The gradient of a filter's weights and bias, one block after the other."""
    cdef const Table *table = <const Table *>op.own
    cdef Py_ssize_t taps = table.conv.sizes.kernel_h * table.conv.sizes.kernel_w
    cdef float *dweight = call.gradient + op.weight
    cdef float *dbias = call.gradient + op.bias if op.biased else NULL
    cdef int first = table.of_filters.first[filter]
    cdef int end = table.of_filters.first[filter + 1]
    cdef int b
    if not call.add:
        memset(dweight + first * taps, 0, (end - first) * taps * sizeof(float))
        if dbias != NULL:
            dbias[filter] = 0
    for b in range(batch.blocks):
        filter_backward_params(
            table, filter, x + b * op.x_block, dy + b * op.y_block, dweight, dbias, scratch
        )
