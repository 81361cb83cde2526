"""Block by block: a thread takes a block through all ops while its maps stay in the cache.

What is added to what, and in which order, follows from the position of an image in its
batch alone, never from the number of threads: the same batch gives the same bits on any.
"""

from libc.string cimport memset

from lenet5c.core.kernels.pack cimport unpack_block
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.memory cimport arena_of
from lenet5c.core.plan cimport (
    MICROBATCH, Block, Call, Here, Loop, Op, Plan, Workspace, batch_of, here_alone,
    run_loops, slices_of,
)
from lenet5c.core.prepare cimport preparing_tasks, run_preparing
from lenet5c.core.ranks cimport shard_of_rank
from lenet5c.core.reduce cimport finished_sums, join_sums, run_reducing
from lenet5c.core.threads cimport Work, ends, lenet5c_thread


cdef inline void run_blockwise(
    const Plan *plan, const Call *call, const Workspace *space, int threads
) noexcept nogil:
    run_loops(plan, call, space, threads, 1, next_loop)


cdef inline int next_loop(void *of, Work *work) noexcept nogil:
    """Preparing; then all blocks, or of each microbatch the shards, their sum, and the sums
    that are finished with it."""
    cdef Loop *loop = <Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef int microbatches = (call.count + MICROBATCH - 1) // MICROBATCH
    if loop.number == 0:
        loop.number = call.loops_done
    loop.number += 1
    if loop.number == call.loops_end:
        return -1
    if loop.number == 1:
        work[0] = prepare
        return preparing_tasks(plan, call)
    if call.gradient == NULL:
        work[0] = run_block_forward
        return (call.count + LANES - 1) // LANES if loop.number == 2 else -1
    loop.microbatch = (loop.number - 2) // 3
    if loop.microbatch == microbatches:
        return -1
    loop.batch = batch_of(plan, call, loop.microbatch)
    loop.finished = finished_sums(loop.microbatch, microbatches)
    if loop.number % 3 == 2:
        work[0] = run_shard
        loop.first_shard = shard_of_rank(call, &loop.batch, call.rank)
        return shard_of_rank(call, &loop.batch, call.rank + 1) - loop.first_shard
    if loop.number % 3 == 0:
        work[0] = reduce
        return plan.reducing_tasks
    work[0] = join
    return slices_of(plan.parameters) if loop.finished > 0 else 0


cdef inline void prepare(const void *of, int task) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    run_preparing(loop.plan, loop.call, task)


cdef inline void reduce(const void *of, int task) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    run_reducing(
        plan, loop.call, loop.space, &loop.batch, loop.microbatch, &plan.reducing[task]
    )


cdef inline void join(const void *of, int slice) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    join_sums(
        loop.plan, loop.call, loop.space, loop.microbatch, loop.finished, slice
    )


cdef inline void run_block_forward(const void *of, int number) noexcept nogil:
    """Images to outputs, keeping no map longer than the next op needs it."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef Block block
    cdef lanes *arena = arena_of(loop.space)
    cdef Here here = here_alone(arena)
    cdef Py_ssize_t first = <Py_ssize_t>number * LANES
    cdef Py_ssize_t outputs = plan.sizes[call.ops]
    cdef const Op *op
    cdef int i
    here.images = &block
    plan.load(plan, call, arena, first, arena + plan.reused[0], &block)
    for i in range(call.ops):
        if ends(call.watch, lenet5c_thread()):
            return
        op = &plan.ops[i]
        op.forward(op, call, &here, arena + plan.reused[i], arena + plan.reused[i + 1])
    unpack_block(
        arena + plan.reused[call.ops], call.y + first * outputs, outputs, outputs,
        block.count,
    )


cdef inline void run_shard(const void *of, int number) noexcept nogil:
    """Forward, loss and backward of a shard's blocks, one by one."""
    cdef const Loop *loop = <const Loop *>of
    cdef int shard = loop.first_shard + number
    cdef const Plan *plan = loop.plan
    cdef const Workspace *space = loop.space
    cdef Here here = here_alone(arena_of(space))
    cdef Py_ssize_t row
    cdef int b
    here.gradient = space.shards + shard * plan.shard_floats
    here.rows = space.rows
    memset(here.gradient, 0, plan.shard_floats * sizeof(float))
    for b in range(plan.shard_blocks):
        row = (shard * plan.shard_blocks + b) * LANES
        if row < loop.batch.images:
            run_block(plan, loop.call, &here, loop.batch.first + row, row)


cdef inline void run_block(
    const Plan *plan, const Call *call, Here *here, Py_ssize_t first, Py_ssize_t row
) noexcept nogil:
    """Forward, loss and backward of one block; `row` is its first row in the microbatch.

    dy is the gradient of what went into an op's activation, dx that of what went into the
    activation below.
    """
    cdef Block block
    cdef lanes *arena = here.arena
    cdef int last = plan.count
    cdef const Op *op
    cdef const lanes *x
    cdef const lanes *dy
    cdef int i
    here.images = &block
    here.row = row
    plan.load(plan, call, arena, first, arena + plan.kept[0], &block)
    for i in range(last):
        if ends(call.watch, lenet5c_thread()):
            return
        op = &plan.ops[i]
        op.forward(op, call, here, arena + plan.kept[i], arena + plan.kept[i + 1])
    plan.loss(
        &plan.ops[last - 1], call, &block, first, arena + plan.kept[last],
        arena + plan.gradients[last],
    )
    for i in range(last - 1, -1, -1):
        if ends(call.watch, lenet5c_thread()):
            return
        op = &plan.ops[i]
        x = arena + plan.kept[i]
        dy = arena + plan.gradients[i + 1]
        if op.backward_params != NULL:
            op.backward_params(op, here, x, dy)
        if op.needs_dx:
            op.backward_input(
                op, call, here, x, arena + plan.kept[i + 1], dy, arena + plan.gradients[i]
            )
    if call.dx != NULL:
        unpack_block(
            arena + plan.gradients[0], call.dx + first * plan.sizes[0], plan.sizes[0],
            plan.sizes[0], block.count,
        )
