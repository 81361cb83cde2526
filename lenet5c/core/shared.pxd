"""Several threads share a block, where there are fewer blocks than threads.

All go through an op before any goes through the next. Each has some of its filters,
channels, rows or columns, in whole tiles, so that every number is the sum of the same
products in the same order as where one thread takes the block through all ops.
"""

from libc.string cimport memset

from lenet5c.core.blockwise cimport join, prepare, reduce
from lenet5c.core.kernels.pack cimport unpack_block
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.memory cimport arena_of
from lenet5c.core.plan cimport (
    MICROBATCH, Call, Here, Loop, Op, Plan, Workspace, batch_of, blocks_of, here_alone,
    run_loops, slices_of,
)
from lenet5c.core.prepare cimport preparing_tasks
from lenet5c.core.reduce cimport finished_sums
from lenet5c.core.threads cimport Work

cdef enum:
    MOST_PARTS = 8  # of a block
    LOOP_CYCLES = 6000  # that a loop costs more than its work, with threads that wait

cdef enum:  # phases, in their order
    PREPARE
    BEGIN  # a microbatch
    FORWARD
    LOSS
    BACKWARD
    END
    REDUCE
    JOIN
    NEXT


cdef inline int parts_of_block(
    const Plan *plan, const Call *call, int threads
) noexcept nogil:
    """How many threads share a block: 1, unless that saves a fifth of its time."""
    cdef bint training = call.gradient != NULL
    # that there are at a time: where none is shared, a prediction has all in one loop
    cdef Py_ssize_t most_images = MICROBATCH if training else call.count
    cdef Py_ssize_t blocks = blocks_of(min(call.count, most_images))
    cdef int most = plan.parts if plan.parts else MOST_PARTS
    cdef int parts = min(most, threads // max(1, blocks))
    cdef double alone = plan.cycles * (3 if training else 1)
    cdef double loops = <double>LOOP_CYCLES * plan.count * (2 if training else 1)
    if parts < 2 or call.ranks > 1 or (training and plan.shard_blocks > 1):
        return 1
    if plan.parts:
        return parts
    return parts if alone / parts + loops < 0.8 * alone else 1


cdef inline void run_shared(
    const Plan *plan, const Call *call, const Workspace *space, int threads, int parts
) noexcept nogil:
    run_loops(plan, call, space, threads, parts, next_loop)


cdef inline int next_loop(void *of, Work *work) noexcept nogil:
    """Sets the next loop's work; how many tasks it has, or -1 after the last."""
    cdef Loop *loop = <Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef int microbatches = (call.count + MICROBATCH - 1) // MICROBATCH
    if loop.phase == PREPARE:
        loop.phase = BEGIN
        work[0] = prepare
        return preparing_tasks(plan, call)
    if loop.phase == NEXT:
        loop.phase = BEGIN
        loop.microbatch += 1
    if loop.phase == BEGIN:
        if loop.microbatch == microbatches:
            return -1
        loop.batch = batch_of(plan, call, loop.microbatch)
        loop.phase = FORWARD
        loop.i = 0
        work[0] = begin_block
        return loop.batch.blocks
    if loop.phase == FORWARD and loop.i < call.ops:
        loop.op = &plan.ops[loop.i]
        loop.i += 1
        work[0] = run_forward
        return tasks_of(loop)
    if loop.phase == FORWARD:
        loop.phase = BACKWARD if call.gradient != NULL else END
        if call.gradient != NULL:
            work[0] = run_loss
            return loop.batch.blocks
    if loop.phase == BACKWARD and loop.i > 0:
        loop.i -= 1
        loop.op = &plan.ops[loop.i]
        work[0] = run_backward
        return tasks_of(loop)
    if loop.phase <= END:
        loop.phase = REDUCE if call.gradient != NULL else NEXT
        work[0] = end_block
        return loop.batch.blocks if call.y != NULL or call.dx != NULL else 0
    if loop.phase == REDUCE:
        loop.phase = JOIN
        work[0] = reduce
        return plan.reducing_tasks
    loop.phase = NEXT
    loop.finished = finished_sums(loop.microbatch, microbatches)
    work[0] = join
    return slices_of(plan.parameters) if loop.finished > 0 else 0


cdef inline int tasks_of(const Loop *loop) noexcept nogil:
    """Each part of each block; of the blocks where an op knows of no parts."""
    return loop.batch.blocks * (loop.parts if loop.op.splits else 1)


cdef inline lanes *arena_of_block(const Loop *loop, int block) noexcept nogil:
    """The maps of a block; threads have as many arenas as there are threads."""
    return <lanes *>loop.space.arenas[block]


cdef inline Py_ssize_t place_of(const Loop *loop, int number) noexcept nogil:
    """Where a map lies in there."""
    if loop.call.gradient == NULL:
        return loop.plan.reused[number]
    return loop.plan.kept[number]


cdef inline Here here_of(const Loop *loop, int block, int part, int parts) noexcept nogil:
    cdef Here here = here_alone(arena_of(loop.space))
    here.part = part
    here.parts = parts
    here.arena = arena_of_block(loop, block)
    here.images = &loop.space.blocks[block]
    here.gradient = loop.space.shards + block * loop.plan.shard_floats
    here.rows = loop.space.rows
    here.row = <Py_ssize_t>block * LANES
    return here


cdef inline Here here_of_task(const Loop *loop, int task, int *block) noexcept nogil:
    cdef int parts = loop.parts if loop.op.splits else 1
    block[0] = task // parts
    return here_of(loop, block[0], task % parts, parts)


cdef inline void begin_block(const void *of, int block) noexcept nogil:
    """Its images; and zeros in its shard."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef Here here = here_of(loop, block, 0, 1)
    plan.load(
        plan, loop.call, here.own, loop.batch.first + here.row,
        here.arena + place_of(loop, 0), &loop.space.blocks[block],
    )
    if loop.call.gradient != NULL:
        memset(here.gradient, 0, plan.shard_floats * sizeof(float))


cdef inline void run_forward(const void *of, int task) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Op *op = loop.op
    cdef int block
    cdef Here here = here_of_task(loop, task, &block)
    op.forward(
        op, loop.call, &here, here.arena + place_of(loop, op.number),
        here.arena + place_of(loop, op.number + 1),
    )


cdef inline void run_loss(const void *of, int block) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef Here here = here_of(loop, block, 0, 1)
    plan.loss(
        &plan.ops[plan.count - 1], loop.call, here.images, loop.batch.first + here.row,
        here.arena + plan.kept[plan.count], here.arena + plan.gradients[plan.count],
    )


cdef inline void run_backward(const void *of, int task) noexcept nogil:
    """What a part adds to the gradient, and its part of dx."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Op *op = loop.op
    cdef int block
    cdef Here here = here_of_task(loop, task, &block)
    cdef const lanes *x = here.arena + plan.kept[op.number]
    cdef const lanes *dy = here.arena + plan.gradients[op.number + 1]
    if op.backward_params != NULL:
        op.backward_params(op, &here, x, dy)
    if op.needs_dx:
        op.backward_input(
            op, loop.call, &here, x, here.arena + plan.kept[op.number + 1], dy,
            here.arena + plan.gradients[op.number],
        )


cdef inline void end_block(const void *of, int block) noexcept nogil:
    """Logits, or the gradient of the images, to where they are wanted."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef Here here = here_of(loop, block, 0, 1)
    cdef Py_ssize_t first = loop.batch.first + here.row
    cdef Py_ssize_t size = plan.sizes[call.ops]
    if call.y != NULL:
        unpack_block(
            here.arena + place_of(loop, call.ops), call.y + first * size, size, size,
            here.images.count,
        )
    if call.dx != NULL:
        size = plan.sizes[0]
        unpack_block(
            here.arena + plan.gradients[0], call.dx + first * size, size, size,
            here.images.count,
        )
