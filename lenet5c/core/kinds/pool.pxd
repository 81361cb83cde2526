"""Average and maximum pooling, and subsampling, which weighs a window's sum.

    C, H W, OH OW   channels, input map, output map (what a window does not cover is left)
    K, S, P         window, stride and padding, the same for rows and columns
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.kernels.image cimport registers_of
from lenet5c.core.kernels.pool cimport (
    Gradients, Pooling, add_channel, avg_pool_backward, avg_pool_forward, first_maximum,
    global_avg_pool_backward, global_avg_pool_forward, image_avg_pool_backward,
    image_avg_pool_forward, image_window_gradients, max_pool_backward, max_pool_forward,
)
from lenet5c.core.lanes cimport lanes, lanes_set, lanes_sum
from lenet5c.core.memory cimport gradient_of, map_of
from lenet5c.core.plan cimport (
    SLICE, Batch, Call, Here, Op, Part, Plan, Task, Workspace, own, part_of,
    plan_image_floats, plan_parameters,
)
from lenet5c.core.reduce cimport add_shards, reduce_image_slice


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
    op.image_forward = image_avg_forward
    op.image_input = image_avg_backward
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
    op.image_at = plan_image_floats(plan, 2 * p.channels)
    op.image_forward = image_subsampling_forward
    op.image_params = image_subsampling_params
    op.image_input = image_subsampling_backward
    op.image_reduce = reduce_image_slice
    op.image_length = 2 * p.channels
    op.image_step = SLICE
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
    op.image_forward = image_max_forward
    op.image_input = image_max_backward
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
    op.image_forward = image_global_avg_forward
    op.image_input = image_global_avg_backward
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

# One image


cdef inline void image_avg_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    image_avg_pool_forward(<const Pooling *>op.own, x, y, NULL, NULL)


cdef inline void image_avg_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    image_avg_pool_backward(<const Pooling *>op.own, dy, dx, NULL)
    through_below(op, x, dx)


cdef inline void through_below(const Op *op, const float *x, float *dx) noexcept nogil:
    """dx[i] *= A'(x[i]), where A is the activation below"""
    activation_backward(
        <const lanes *>x, <lanes *>dx, <lanes *>dx, registers_of(op.inputs), op.below
    )


cdef inline void image_subsampling_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    image_avg_pool_forward(
        <const Pooling *>op.own, x, y, call.parameters + op.weight,
        call.parameters + op.bias,
    )
    activation_forward(
        <const lanes *>y, <lanes *>y, registers_of(op.outputs), op.activation
    )


cdef inline void image_subsampling_params(
    const Op *op, const Here *here, const float *x, const float *dy
) noexcept nogil:
    cdef const Pooling *p = <const Pooling *>op.own
    cdef float *dweight = here.gradient + op.image_at
    image_window_gradients(p, x, dy, dweight, dweight + p.channels)


cdef inline void image_subsampling_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    image_avg_pool_backward(<const Pooling *>op.own, dy, dx, call.parameters + op.weight)
    through_below(op, x, dx)


cdef inline void image_max_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """`max_pool_forward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef int row, ox
    for row in range(p.channels * p.out_h):
        for ox in range(p.out_w):
            y[ox] = x[first_maximum(p, x, row, ox)]
        y += p.out_w


cdef inline void image_max_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """`max_pool_backward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef int row, ox
    memset(dx, 0, op.inputs * sizeof(float))
    for row in range(p.channels * p.out_h):
        for ox in range(p.out_w):
            dx[first_maximum(p, x, row, ox)] += dy[ox]
        dy += p.out_w
    through_below(op, x, dx)


cdef inline void image_global_avg_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """`global_avg_pool_forward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef Py_ssize_t area = <Py_ssize_t>p.height * p.width
    cdef Py_ssize_t c, i
    cdef float total
    for c in range(p.channels):
        total = 0
        for i in range(area):
            total += x[c * area + i]
        y[c] = total / area


cdef inline void image_global_avg_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """`global_avg_pool_backward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef Py_ssize_t area = <Py_ssize_t>p.height * p.width
    cdef Py_ssize_t c, i
    for c in range(p.channels):
        for i in range(area):
            dx[c * area + i] = dy[c] / area
    through_below(op, x, dx)
