"""Layer by layer: all blocks go through an op before any goes through the next.

So runs a network with an op that needs the whole batch, or with many weights. Threads share
an op's blocks, channels or filters. Every number is computed by one task, in an order that
the task's position decides: the same batch gives the same bits on any number of threads.
"""

from lenet5c.core.kernels.pack cimport unpack_block
from lenet5c.core.lanes cimport LANES, lanes, odd_lines
from lenet5c.core.memory cimport add_map, arena_of, gradient_of, map_of
from lenet5c.core.plan cimport (
    MICROBATCH, Batch, Call, Here, Loop, Op, Plan, Workspace, batch_of, here_alone,
    run_loops,
)
from lenet5c.core.prepare cimport run_packing
from lenet5c.core.threads cimport Work


cdef enum:  # phases, in their order
    PREPARE
    PACK
    BEGIN  # a microbatch, or in training the batch
    FORWARD
    LOSS
    BACKWARD
    END


cdef inline void run_layerwise(
    const Plan *plan, const Call *call, const Workspace *space, int threads
) noexcept nogil:
    run_loops(plan, call, space, threads, 1, next_loop)


cdef inline int next_loop(void *of, Work *work) noexcept nogil:
    """Sets the next loop's work; how many tasks it has, or -1 after the last."""
    cdef Loop *loop = <Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    if loop.phase == PREPARE:
        loop.phase = PACK
        work[0] = prepare_op
        return plan.count
    if loop.phase == PACK:
        loop.phase = BEGIN
        work[0] = pack
        return 0 if call.is_packed else plan.packing_tasks
    if loop.phase == BEGIN:
        if loop.microbatch == rounds_of(call):
            return -1
        loop.batch = batch_of(plan, call, loop.microbatch)
        loop.phase = FORWARD
        loop.i = -1
        work[0] = begin_block
        return loop.batch.blocks
    if loop.phase == FORWARD:
        loop.i += 1
        if loop.i < call.ops:
            loop.op = &plan.ops[loop.i]
            work[0] = run_forward
            return forward_tasks(loop)
        loop.phase = END if call.gradient == NULL else LOSS
    if loop.phase == LOSS:
        loop.phase = BACKWARD
        loop.stage = -1
        work[0] = run_loss
        return loop.batch.blocks
    if loop.phase == BACKWARD and loop.i > 0:
        loop.op = &plan.ops[loop.i - 1]
        loop.stage += 1
        if loop.stage < stages_of(loop):
            work[0] = run_stage
            return loop.op.stage_tasks(loop.op, &loop.batch, loop.stage)
        loop.i -= 1
        loop.stage = -1
        work[0] = run_backward
        return backward_tasks(loop)
    loop.phase = BEGIN
    loop.microbatch += 1
    work[0] = end_block
    return loop.batch.blocks


cdef inline int rounds_of(const Call *call) noexcept nogil:
    """Through all ops: one in training, else one for each microbatch."""
    if call.gradient != NULL:
        return 1
    return (call.count + MICROBATCH - 1) // MICROBATCH


cdef inline void prepare_op(const void *of, int number) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Op *op = &loop.plan.ops[number]
    if op.prepare != NULL and not loop.call.is_packed:
        op.prepare(loop.plan, op, loop.call)


cdef inline void pack(const void *of, int task) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    run_packing(loop.plan, loop.call, &loop.plan.packing[task])


cdef inline void begin_block(const void *of, int block) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Workspace *space = loop.space
    plan.load(
        plan, loop.call, arena_of(space), loop.batch.first + <Py_ssize_t>block * LANES,
        map_of(plan, loop.call, space, 0, &loop.batch) + block * odd_lines(plan.sizes[0]),
        &space.blocks[block],
    )


cdef inline void end_block(const void *of, int block) noexcept nogil:
    """Logits, or the gradient of the images, to where they are wanted."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef const Workspace *space = loop.space
    cdef Py_ssize_t first = loop.batch.first + <Py_ssize_t>block * LANES
    cdef int count = space.blocks[block].count
    cdef Py_ssize_t size = plan.sizes[call.ops]
    if call.y != NULL:
        unpack_block(
            map_of(plan, call, space, call.ops, &loop.batch) + block * odd_lines(size),
            call.y + first * size, size, size, count,
        )
    if call.dx != NULL:
        size = plan.sizes[0]
        unpack_block(
            gradient_of(plan, space, 0, &loop.batch) + block * odd_lines(size),
            call.dx + first * size, size, size, count,
        )


cdef inline Here here_of(const Workspace *space, int block) noexcept nogil:
    cdef Here here = here_alone(arena_of(space))
    here.images = &space.blocks[block]
    return here


cdef inline int forward_tasks(const Loop *loop) noexcept nogil:
    """In how many pieces an op's forward pass is cut."""
    if loop.op.forward_tasks != NULL:
        return loop.op.forward_tasks(loop.plan, loop.op, loop.call, &loop.batch)
    return loop.batch.blocks


cdef inline void run_forward(const void *of, int task) noexcept nogil:
    """One piece of an op's forward pass."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef const Workspace *space = loop.space
    cdef const Batch *batch = &loop.batch
    cdef const Op *op = loop.op
    cdef Here here
    if op.forward_task != NULL:
        op.forward_task(plan, op, call, space, batch, task)
        return
    here = here_of(space, task)
    op.forward(
        op, call, &here,
        map_of(plan, call, space, op.source, batch) + task * op.x_block,
        map_of(plan, call, space, op.number + 1, batch) + task * op.y_block,
    )


cdef inline void run_loss(const void *of, int block) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Workspace *space = loop.space
    cdef const Op *last = &plan.ops[plan.count - 1]
    cdef Py_ssize_t at = block * last.y_block
    plan.loss(
        last, loop.call, &space.blocks[block], <Py_ssize_t>block * LANES,
        map_of(plan, loop.call, space, plan.count, &loop.batch) + at,
        gradient_of(plan, space, plan.count, &loop.batch) + at,
    )


cdef inline int stages_of(const Loop *loop) noexcept nogil:
    if loop.op.stages == NULL:
        return 0
    return loop.op.stages(loop.op, &loop.batch)


cdef inline void run_stage(const void *of, int task) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Op *op = loop.op
    op.stage_task(
        loop.plan, op, loop.call, loop.space, &loop.batch, loop.stage, task
    )


cdef inline int backward_tasks(const Loop *loop) noexcept nogil:
    """In how many pieces an op's backward pass is cut."""
    cdef const Op *op = loop.op
    if op.backward_tasks != NULL:
        return op.backward_tasks(loop.plan, op, loop.call, &loop.batch)
    return loop.batch.blocks if op.needs_dx else 0


cdef inline void run_backward(const void *of, int task) noexcept nogil:
    """One piece of an op's backward pass."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef const Workspace *space = loop.space
    cdef const Batch *batch = &loop.batch
    cdef const Op *op = loop.op
    cdef Here here
    cdef Py_ssize_t x_at, y_at
    cdef lanes *dx
    cdef lanes *target
    if op.backward_task != NULL:
        op.backward_task(plan, op, call, space, batch, task)
        return
    here = here_of(space, task)
    x_at = task * op.x_block
    y_at = task * op.y_block
    dx = gradient_of(plan, space, op.source, batch) + x_at
    target = here.arena if op.adds else dx
    op.backward_input(
        op, call, &here, map_of(plan, call, space, op.source, batch) + x_at,
        map_of(plan, call, space, op.number + 1, batch) + y_at,
        gradient_of(plan, space, op.number + 1, batch) + y_at, target,
    )
    if op.adds:
        add_map(dx, target, op.inputs)
