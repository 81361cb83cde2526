"""Block by block: a thread takes a block through all ops while its maps stay in the cache.

What is added to what, and in which order, follows from the position of an image in its
batch alone, never from the number of threads: the same batch gives the same bits on any.
"""

from cython.parallel cimport parallel, prange

from libc.string cimport memset

from lenet5c.core.kernels.pack cimport unpack_block
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.memory cimport arena_of
from lenet5c.core.plan cimport (
    MICROBATCH, SLICE, Batch, Block, Call, Here, Op, Plan, Workspace, batch_of,
)
from lenet5c.core.prepare cimport run_preparing
from lenet5c.core.reduce cimport finished_sums, join_sums, run_reducing


cdef inline void run_blockwise(
    const Plan *plan, const Call *call, const Workspace *space, int threads
) noexcept nogil:
    cdef bint training = call.gradient != NULL
    cdef int blocks = (call.count + LANES - 1) // LANES
    cdef int microbatches = (call.count + MICROBATCH - 1) // MICROBATCH
    cdef int preparing = 0 if call.is_packed else plan.packing_tasks
    cdef int shards = 0
    cdef int number = 0
    cdef int i
    cdef int slices = (plan.parameters + SLICE - 1) // SLICE
    if training and not call.add:
        preparing += slices
    with parallel(num_threads=threads):
        for i in prange(preparing, schedule="dynamic", chunksize=4):
            run_preparing(plan, call, i)
        if training:
            for number in range(microbatches):
                shards = batch_of(plan, call, number).shards
                for i in prange(shards, schedule="dynamic"):
                    run_shard(plan, call, space, number, i)
                for i in prange(plan.reducing_tasks, schedule="dynamic"):
                    reduce_task(plan, call, space, number, i)
                if finished_sums(number, microbatches) > 0:
                    for i in prange(slices, schedule="static"):
                        join_sums(plan, call, space, number, microbatches, i)
        else:
            for i in prange(blocks, schedule="dynamic"):
                run_block_forward(plan, call, space, i)


cdef inline void reduce_task(
    const Plan *plan, const Call *call, const Workspace *space, int number, int task
) noexcept nogil:
    cdef Batch batch = batch_of(plan, call, number)
    run_reducing(plan, call, space, &batch, number, &plan.reducing[task])


cdef inline void run_block_forward(
    const Plan *plan, const Call *call, const Workspace *space, Py_ssize_t number
) noexcept nogil:
    """Images to outputs, keeping no map longer than the next op needs it."""
    cdef Block block
    cdef Here here
    cdef lanes *arena = arena_of(space)
    cdef Py_ssize_t first = number * LANES
    cdef Py_ssize_t outputs = plan.sizes[call.ops]
    cdef const Op *op
    cdef int i
    here.arena = arena
    here.images = &block
    plan.load(plan, call, arena, first, arena + plan.reused[0], &block)
    for i in range(call.ops):
        op = &plan.ops[i]
        op.forward(op, call, &here, arena + plan.reused[i], arena + plan.reused[i + 1])
    unpack_block(
        arena + plan.reused[call.ops], call.y + first * outputs, outputs, outputs,
        block.count,
    )


cdef inline void run_shard(
    const Plan *plan, const Call *call, const Workspace *space, int number, int shard
) noexcept nogil:
    """Forward, loss and backward of a shard's blocks, one by one."""
    cdef Here here
    cdef Batch batch = batch_of(plan, call, number)
    cdef Py_ssize_t row
    cdef int b
    here.arena = arena_of(space)
    here.gradient = space.shards + shard * plan.shard_floats
    here.rows = space.rows
    memset(here.gradient, 0, plan.shard_floats * sizeof(float))
    for b in range(plan.shard_blocks):
        row = (shard * plan.shard_blocks + b) * LANES
        if row < batch.images:
            run_block(plan, call, &here, batch.first + row, row)


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
        op = &plan.ops[i]
        op.forward(op, call, here, arena + plan.kept[i], arena + plan.kept[i + 1])
    plan.loss(
        &plan.ops[last - 1], call, &block, first, arena + plan.kept[last],
        arena + plan.gradients[last],
    )
    for i in range(last - 1, -1, -1):
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
