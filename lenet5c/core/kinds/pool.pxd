"""Average and maximum pooling, and subsampling, which weighs a window's sum.

    C, H W, OH OW   channels, input map, output map (what a window does not cover is left)
    K, S, P         window, stride and padding, the same for rows and columns
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport (
    SCALED_TANH, TANH, activation_backward, activation_forward,
)
from lenet5c.core.lanes cimport (
    LENET5C_AMPLITUDE, LENET5C_SLOPE, lanes, lanes_max, lanes_set, lanes_sum,
    lanes_where_equal,
)
from lenet5c.core.memory cimport gradient_of, map_of
from lenet5c.core.plan cimport (
    SLICE, Batch, Call, Here, Op, Part, Plan, Task, Workspace, own, part_of,
    plan_parameters,
)
from lenet5c.core.reduce cimport add_shards

cdef struct Pooling:
    int channels, height, width, out_h, out_w, window, stride
    int padding  # of maximum pooling
    Py_ssize_t gradient  # of subsampling: offset in a shard's gradients, blockwise


cdef inline Pooling *plan_pool(Op *op, dict node) except NULL:
    cdef Pooling *p = <Pooling *>own(op, sizeof(Pooling))
    p.channels, p.height, p.width = node["input_shape"]
    _, p.out_h, p.out_w = node["output_shape"]
    op.splits = True
    return p


cdef struct Channels:
    # those of a part, as a pooling of their own; its maps begin at x and y
    Pooling pool
    int first
    Py_ssize_t x, y


cdef struct Gradients:
    # of a channel's weight and bias, not yet summed over the lanes
    lanes dweight, dbias


cdef inline Channels channels_of(const Op *op, const Here *here) noexcept nogil:
    cdef const Pooling *p = <const Pooling *>op.own
    cdef Part part = part_of(here, p.channels, 1)
    cdef Channels of_part
    of_part.pool = p[0]
    of_part.pool.channels = part.count
    of_part.first = part.first
    of_part.x = <Py_ssize_t>part.first * p.height * p.width
    of_part.y = <Py_ssize_t>part.first * p.out_h * p.out_w
    return of_part


cdef inline int plan_window(Op *op, dict node) except -1:
    cdef Pooling *p = plan_pool(op, node)
    p.window = node["kernel_size"]
    p.stride = node["stride"]
    p.padding = node.get("padding", 0)
    return 0


cdef inline int plan_avg_pool(Plan *plan, Op *op, dict node) except -1:
    plan_window(op, node)
    op.forward = avg_forward
    op.backward_input = avg_backward
    return 0


cdef inline void avg_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    avg_pool_forward(&part.pool, x + part.x, y + part.y, NULL, NULL)


cdef inline void avg_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    avg_pool_backward(&part.pool, x + part.x, dy + part.y, dx + part.x, op.below, NULL)


cdef inline int plan_subsampling(Plan *plan, Op *op, dict node) except -1:
    """Blockwise, gradients go into the shards; layerwise a stage sums up channels."""
    cdef Pooling *p
    plan_window(op, node)
    p = <Pooling *>op.own
    plan_parameters(plan, op, p.channels, p.channels)
    op.forward = subsampling_forward
    op.backward_params = subsampling_params
    op.backward_input = subsampling_backward
    if plan.layerwise:
        op.prepare = prepare_subsampling
        op.stages = subsampling_stages
        op.stage_tasks = subsampling_stage_tasks
        op.stage_task = subsampling_stage
        return 0
    p.gradient = plan.shard_floats
    plan.shard_floats += (2 * p.channels + 15) // 16 * 16
    op.reduce = reduce_subsampling
    op.reduce_length = 2 * p.channels
    op.reduce_step = SLICE
    return 0


cdef inline void subsampling_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    cdef const Pooling *p = &part.pool
    y += part.y
    avg_pool_forward(
        p, x + part.x, y, call.parameters + op.weight + part.first,
        call.parameters + op.bias + part.first,
    )
    activation_forward(
        y, y, <Py_ssize_t>p.channels * p.out_h * p.out_w, op.activation
    )


cdef inline void subsampling_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    """Add a block's gradients to its shard's: of the weights, then of the biases."""
    cdef Channels part = channels_of(op, here)
    cdef float *dweight = here.gradient + part.pool.gradient
    cdef float *dbias = dweight + (<const Pooling *>op.own).channels
    cdef Gradients sums
    cdef int c
    for c in range(part.pool.channels):
        sums.dweight = sums.dbias = lanes_set(0)
        add_channel(&part.pool, x + part.x, dy + part.y, c, &sums)
        dweight[part.first + c] += lanes_sum(sums.dweight)
        dbias[part.first + c] += lanes_sum(sums.dbias)


cdef inline void subsampling_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    avg_pool_backward(
        &part.pool, x + part.x, dy + part.y, dx + part.x, op.below,
        call.parameters + op.weight + part.first,
    )


cdef inline void reduce_subsampling(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, const Task *task,
) noexcept nogil:
    """Add a microbatch's gradients to the batch's."""
    cdef float *to = call.gradient + op.weight + task.start
    cdef float *sums = space.shards + (<const Pooling *>op.own).gradient + task.start
    cdef Py_ssize_t i
    add_shards(sums, plan.shard_floats, batch.shards, task.count)
    for i in range(task.count):
        to[i] += sums[i]


cdef inline void prepare_subsampling(
    const Plan *plan, const Op *op, const Call *call
) noexcept nogil:
    """Zero the gradients, which are added to."""
    if call.gradient != NULL and not call.add:
        memset(
            call.gradient + op.weight, 0,
            2 * (<const Pooling *>op.own).channels * sizeof(float),
        )


cdef inline int subsampling_stages(const Op *op, const Batch *batch) noexcept nogil:
    return 1


cdef inline int subsampling_stage_tasks(
    const Op *op, const Batch *batch, int stage
) noexcept nogil:
    return (<const Pooling *>op.own).channels


cdef inline void subsampling_stage(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int stage, int c,
) noexcept nogil:
    """Gradients of one channel, over all blocks in their order."""
    cdef const lanes *x = map_of(plan, call, space, op.source, batch)
    cdef const lanes *dy = gradient_of(plan, space, op.number + 1, batch)
    cdef Gradients sums
    cdef int b
    sums.dweight = sums.dbias = lanes_set(0)
    for b in range(batch.blocks):
        add_channel(
            <const Pooling *>op.own, x + b * op.x_block, dy + b * op.y_block, c, &sums
        )
    call.gradient[op.weight + c] += lanes_sum(sums.dweight)
    call.gradient[op.bias + c] += lanes_sum(sums.dbias)


cdef inline int plan_max_pool(Plan *plan, Op *op, dict node) except -1:
    plan_window(op, node)
    op.forward = max_forward
    op.backward_input = max_backward
    return 0


cdef inline void max_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    max_pool_forward(&part.pool, x + part.x, y + part.y)


cdef inline void max_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    max_pool_backward(
        &part.pool, x + part.x, y + part.y, dy + part.y, dx + part.x, op.below
    )


cdef inline int plan_global_avg_pool(Plan *plan, Op *op, dict node) except -1:
    plan_pool(op, node)
    op.forward = global_avg_forward
    op.backward_input = global_avg_backward
    return 0


cdef inline void global_avg_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    cdef const Pooling *p = &part.pool
    global_avg_pool_forward(x + part.x, y + part.y, p.channels, p.height * p.width)


cdef inline void global_avg_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    cdef const Pooling *p = &part.pool
    global_avg_pool_backward(
        x + part.x, dy + part.y, dx + part.x, p.channels, p.height * p.width, op.below
    )


cdef inline lanes window_sum(
    const lanes *x, Py_ssize_t width, int window
) noexcept nogil:
    """Sum over ky, kx of x[ky, kx]"""
    cdef lanes total
    cdef int ky, kx
    if window == 2:
        return (x[0] + x[1]) + (x[width] + x[width + 1])
    total = lanes_set(0)
    for ky in range(window):
        for kx in range(window):
            total += x[ky * width + kx]
    return total


cdef inline void avg_pool_forward(
    const Pooling *p, const lanes *x, lanes *y, const float *weight, const float *bias
) noexcept nogil:
    """y[c, oy, ox] = weight[c] (sum over ky, kx of x[c, oy S + ky, ox S + kx]) + bias[c]

    x       [C][H][W]    lanes
    y       [C][OH][OW]  lanes
    weight  (C,)         float, or NULL: 1 / K^2, the mean, without a bias
    bias    (C,)         float
    """
    cdef int row, ox
    cdef int c, oy
    cdef int K = p.window
    cdef Py_ssize_t W = p.width
    cdef const lanes *window
    cdef lanes share = lanes_set(1 / <float>(K * K))
    cdef lanes shift = lanes_set(0)
    for row in range(p.channels * p.out_h):
        c = row // p.out_h
        oy = row % p.out_h
        window = x + (c * p.height + oy * p.stride) * W
        if weight != NULL:
            share = lanes_set(weight[c])
            shift = lanes_set(bias[c])
        for ox in range(p.out_w):
            y[ox] = window_sum(window, W, K) * share + shift
            window += p.stride
        y += p.out_w


cdef inline void avg_pool_backward(
    const Pooling *p, const lanes *x, const lanes *dy, lanes *dx, int activation,
    const float *weight,
) noexcept nogil:
    """dx[c, iy, ix] = A'(x) weight[c] (sum over the windows that hold iy, ix of dy)

    x       [C][H][W]    lanes, output of the activation below
    dy      [C][OH][OW]  lanes, gradient of the output
    dx      [C][H][W]    lanes, gradient of what went into the activation
    weight  (C,)         float, or NULL: 1 / K^2
    """
    cdef int row, ox, ky, kx
    cdef int c, oy
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t corner
    cdef lanes share = lanes_set(1 / <float>(p.window * p.window))
    cdef lanes most = lanes_set(1)
    cdef lanes d
    cdef float steepness = 1
    cdef bint halves = p.height % 2 == 0 and p.width % 2 == 0
    if activation == SCALED_TANH:
        most = lanes_set(LENET5C_AMPLITUDE * LENET5C_AMPLITUDE)
        steepness = LENET5C_SLOPE / LENET5C_AMPLITUDE
    if p.window == 2 and p.stride == 2 and halves and activation in (TANH, SCALED_TANH):
        # every pixel lies in exactly one window: tanh's derivative on the way
        share *= lanes_set(steepness)
        for row in range(p.channels * p.out_h):
            if weight != NULL:
                share = lanes_set(weight[row // p.out_h] * steepness)
            for ox in range(p.out_w):
                d = dy[ox] * share
                dx[0] = d * (most - x[0] * x[0])
                dx[1] = d * (most - x[1] * x[1])
                dx[W] = d * (most - x[W] * x[W])
                dx[W + 1] = d * (most - x[W + 1] * x[W + 1])
                x += 2
                dx += 2
            dy += p.out_w
            x += W
            dx += W
        return
    for corner in range(p.channels * p.height * W):
        dx[corner] = lanes_set(0)
    for row in range(p.channels * p.out_h):
        c = row // p.out_h
        oy = row % p.out_h
        corner = (c * p.height + oy * p.stride) * W
        if weight != NULL:
            share = lanes_set(weight[c])
        for ox in range(p.out_w):
            d = dy[ox] * share
            for ky in range(p.window):
                for kx in range(p.window):
                    dx[corner + ky * W + kx] += d
            corner += p.stride
        dy += p.out_w
    activation_backward(x, dx, dx, p.channels * p.height * W, activation)


cdef inline void add_channel(
    const Pooling *p, const lanes *x, const lanes *dy, int c, Gradients *sums
) noexcept nogil:
    """dweight += sum over oy, ox of dy[c, oy, ox] (sum over ky, kx of x[c, ...])
    dbias += sum over oy, ox of dy[c, oy, ox]

    x   [C][H][W]    lanes, input of the forward pass
    dy  [C][OH][OW]  lanes, gradient of the output; 0 where there is no image
    """
    cdef int oy, ox
    cdef int K = p.window
    cdef Py_ssize_t W = p.width
    cdef lanes dweight = lanes_set(0)
    cdef lanes dbias = lanes_set(0)
    cdef const lanes *window
    dy += c * p.out_h * p.out_w
    for oy in range(p.out_h):
        window = x + (c * p.height + oy * p.stride) * W
        for ox in range(p.out_w):
            dweight += dy[ox] * window_sum(window, W, K)
            dbias += dy[ox]
            window += p.stride
        dy += p.out_w
    sums.dweight += dweight
    sums.dbias += dbias


cdef inline void max_pool_forward(
    const Pooling *p, const lanes *x, lanes *y
) noexcept nogil:
    """y[c, oy, ox] = max over ky, kx of x[c, oy S - P + ky, ox S - P + kx]

    where there is a pixel

    x  [C][H][W]    lanes
    y  [C][OH][OW]  lanes
    """
    cdef int row, ox, ky, kx, top, left, ky_end, kx_end
    cdef Py_ssize_t W = p.width
    cdef const lanes *window
    cdef lanes most
    for row in range(p.channels * p.out_h):
        top = row % p.out_h * p.stride - p.padding
        ky_end = min(p.window, p.height - top)
        if p.window == 2 and p.padding == 0:
            window = x + (row // p.out_h * p.height + top) * W
            for ox in range(p.out_w):
                y[ox] = lanes_max(
                    lanes_max(window[0], window[1]), lanes_max(window[W], window[W + 1])
                )
                window += p.stride
            y += p.out_w
            continue
        for ox in range(p.out_w):
            left = ox * p.stride - p.padding
            kx_end = min(p.window, p.width - left)
            window = x + (row // p.out_h * p.height + top) * W + left
            most = window[max(0, -top) * W + max(0, -left)]
            for ky in range(max(0, -top), ky_end):
                for kx in range(max(0, -left), kx_end):
                    most = lanes_max(most, window[ky * W + kx])
            y[ox] = most
        y += p.out_w


cdef inline void halving_max_pool_backward(
    const Pooling *p, const lanes *x, const lanes *y, const lanes *dy, lanes *dx,
    int activation,
) noexcept nogil:
    """`max_pool_backward` of windows of 2x2 side by side: each pixel is written once."""
    cdef int row, ox, i, j
    cdef Py_ssize_t W = p.width
    cdef lanes most, rest
    cdef lanes nothing = lanes_set(0)
    for row in range(p.channels * p.out_h):
        for ox in range(p.out_w):
            most = y[ox]
            activation_backward(&most, &dy[ox], &rest, 1, activation)
            for i in range(2):
                for j in range(2):
                    dx[i * W + j] = lanes_where_equal(x[i * W + j], most, rest, nothing)
                    rest = lanes_where_equal(x[i * W + j], most, nothing, rest)
            x += 2
            dx += 2
        if W % 2:
            dx[0] = dx[W] = nothing
        x += W + W % 2
        dx += W + W % 2
        if p.height % 2 and row % p.out_h == p.out_h - 1:
            for i in range(W):
                dx[i] = nothing
            x += W
            dx += W
        y += p.out_w
        dy += p.out_w


cdef inline void max_pool_backward(
    const Pooling *p, const lanes *x, const lanes *y, const lanes *dy, lanes *dx,
    int activation,
) noexcept nogil:
    """dx[c, iy, ix] = A'(x) sum of dy over the windows whose first maximum is at iy, ix

    x   [C][H][W]    lanes, input of the forward pass
    y   [C][OH][OW]  lanes, its output
    dy  [C][OH][OW]  lanes, gradient of the output
    dx  [C][H][W]    lanes, gradient of what went into the activation below
    """
    cdef int row, ox, ky, kx, top, left, ky_end, kx_end
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t corner, at
    cdef lanes most, rest
    cdef lanes nothing = lanes_set(0)
    if p.window == 2 and p.stride == 2 and p.padding == 0:
        halving_max_pool_backward(p, x, y, dy, dx, activation)
        return
    for corner in range(p.channels * p.height * W):
        dx[corner] = nothing
    for row in range(p.channels * p.out_h):
        top = row % p.out_h * p.stride - p.padding
        ky_end = min(p.window, p.height - top)
        for ox in range(p.out_w):
            left = ox * p.stride - p.padding
            kx_end = min(p.window, p.width - left)
            corner = (row // p.out_h * p.height + top) * W + left
            most = y[ox]  # and x where the gradient goes
            activation_backward(&most, &dy[ox], &rest, 1, activation)
            for ky in range(max(0, -top), ky_end):
                for kx in range(max(0, -left), kx_end):
                    at = corner + ky * W + kx
                    dx[at] += lanes_where_equal(x[at], most, rest, nothing)
                    rest = lanes_where_equal(x[at], most, nothing, rest)
        y += p.out_w
        dy += p.out_w


cdef inline void global_avg_pool_forward(
    const lanes *x, lanes *y, int channels, int area
) noexcept nogil:
    """y[c] = mean of x[c]

    x  [C][H W]  lanes
    y  [C]       lanes
    """
    cdef int c, i
    cdef lanes total
    cdef lanes share = lanes_set(1 / <float>area)
    for c in range(channels):
        total = lanes_set(0)
        for i in range(area):
            total += x[i]
        y[c] = total * share
        x += area


cdef inline void global_avg_pool_backward(
    const lanes *x, const lanes *dy, lanes *dx, int channels, int area, int activation
) noexcept nogil:
    """dx[c, i] = A'(x[c, i]) dy[c] / (H W)

    x   [C][H W]  lanes, output of the activation below
    dy  [C]       lanes, gradient of the output
    dx  [C][H W]  lanes, gradient of what went into the activation
    """
    cdef int c, i
    cdef lanes d
    cdef lanes share = lanes_set(1 / <float>area)
    for c in range(channels):
        d = dy[c] * share
        for i in range(area):
            dx[c * area + i] = d
    activation_backward(x, dx, dx, <Py_ssize_t>channels * area, activation)
