"""Layer by layer: all blocks go through an op before any goes through the next.

So runs a network with an op that needs the whole batch, or with many weights. Threads share
an op's blocks, channels or filters. Every number is computed by one task, in an order that
the task's position decides: the same batch gives the same bits on any number of threads.
"""

from cython.parallel cimport parallel, prange

from lenet5c.core.kernels.pack cimport unpack_block
from lenet5c.core.lanes cimport LANES, lanes, odd_lines
from lenet5c.core.memory cimport add_map, arena_of, gradient_of, map_of
from lenet5c.core.plan cimport (
    MICROBATCH, Batch, Call, Here, Op, Plan, Workspace, batch_of,
)
from lenet5c.core.prepare cimport run_packing


cdef inline void run_layerwise(
    const Plan *plan, const Call *call, const Workspace *space, int threads
) noexcept nogil:
    cdef bint training = call.gradient != NULL
    cdef int rounds = 1 if training else (call.count + MICROBATCH - 1) // MICROBATCH
    cdef int packing = 0 if call.is_packed else plan.packing_tasks
    cdef int i
    cdef int number = 0
    cdef int blocks = 0
    cdef int tasks = 0
    cdef int op = 0
    cdef int backward = 0
    cdef int stage = 0
    cdef int stages = 0
    with parallel(num_threads=threads):
        for i in prange(plan.count, schedule="static"):
            prepare_op(plan, call, i)
        for i in prange(packing, schedule="dynamic", chunksize=4):
            run_packing(plan, call, &plan.packing[i])
        for number in range(rounds):
            blocks = batch_of(plan, call, number).blocks
            for i in prange(blocks, schedule="dynamic"):
                begin_block(plan, call, space, number, i)
            for op in range(call.ops):
                tasks = forward_tasks(plan, call, number, op)
                for i in prange(tasks, schedule="dynamic"):
                    run_forward(plan, call, space, number, op, i)
            if training:
                for i in prange(blocks, schedule="dynamic"):
                    run_loss(plan, call, space, i)
                for backward in range(call.ops):
                    op = call.ops - 1 - backward
                    stages = stages_of(plan, call, op)
                    for stage in range(stages):
                        tasks = stage_tasks(plan, call, op, stage)
                        for i in prange(tasks, schedule="dynamic"):
                            run_stage(plan, call, space, op, stage, i)
                    tasks = backward_tasks(plan, call, op)
                    for i in prange(tasks, schedule="dynamic"):
                        run_backward(plan, call, space, op, i)
            for i in prange(blocks, schedule="dynamic"):
                end_block(plan, call, space, number, i)


cdef inline void prepare_op(const Plan *plan, const Call *call, int number) noexcept nogil:
    cdef const Op *op = &plan.ops[number]
    if op.prepare != NULL and not call.is_packed:
        op.prepare(plan, op, call)


cdef inline void begin_block(
    const Plan *plan, const Call *call, const Workspace *space, int number, int block
) noexcept nogil:
    cdef Batch batch = batch_of(plan, call, number)
    plan.load(
        plan, call, arena_of(space), batch.first + <Py_ssize_t>block * LANES,
        map_of(plan, call, space, 0, &batch) + block * odd_lines(plan.sizes[0]),
        &space.blocks[block],
    )


cdef inline void end_block(
    const Plan *plan, const Call *call, const Workspace *space, int number, int block
) noexcept nogil:
    """Logits, or the gradient of the images, to where they are wanted."""
    cdef Batch batch = batch_of(plan, call, number)
    cdef Py_ssize_t first = batch.first + <Py_ssize_t>block * LANES
    cdef int count = space.blocks[block].count
    cdef Py_ssize_t size = plan.sizes[call.ops]
    if call.y != NULL:
        unpack_block(
            map_of(plan, call, space, call.ops, &batch) + block * odd_lines(size),
            call.y + first * size, size, size, count,
        )
    if call.dx != NULL:
        size = plan.sizes[0]
        unpack_block(
            gradient_of(plan, space, 0, &batch) + block * odd_lines(size),
            call.dx + first * size, size, size, count,
        )


cdef inline int forward_tasks(
    const Plan *plan, const Call *call, int number, int i
) noexcept nogil:
    """In how many pieces an op's forward pass is cut."""
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, number)
    if op.forward_tasks != NULL:
        return op.forward_tasks(plan, op, call, &batch)
    return batch.blocks


cdef inline Here here_of(const Workspace *space, int block) noexcept nogil:
    cdef Here here
    here.arena = arena_of(space)
    here.images = &space.blocks[block]
    here.gradient = here.rows = NULL
    here.row = 0
    return here


cdef inline void run_forward(
    const Plan *plan, const Call *call, const Workspace *space, int number, int i, int task
) noexcept nogil:
    """One piece of an op's forward pass."""
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, number)
    cdef Here here
    if op.forward_task != NULL:
        op.forward_task(plan, op, call, space, &batch, task)
        return
    here = here_of(space, task)
    op.forward(
        op, call, &here,
        map_of(plan, call, space, op.source, &batch) + task * op.x_block,
        map_of(plan, call, space, i + 1, &batch) + task * op.y_block,
    )


cdef inline void run_loss(
    const Plan *plan, const Call *call, const Workspace *space, int block
) noexcept nogil:
    cdef Batch batch = batch_of(plan, call, 0)
    cdef const Op *last = &plan.ops[plan.count - 1]
    cdef Py_ssize_t at = block * last.y_block
    plan.loss(
        last, call, &space.blocks[block], <Py_ssize_t>block * LANES,
        map_of(plan, call, space, plan.count, &batch) + at,
        gradient_of(plan, space, plan.count, &batch) + at,
    )


cdef inline int stages_of(const Plan *plan, const Call *call, int i) noexcept nogil:
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, 0)
    return op.stages(op, &batch) if op.stages != NULL else 0


cdef inline int stage_tasks(
    const Plan *plan, const Call *call, int i, int stage
) noexcept nogil:
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, 0)
    return op.stage_tasks(op, &batch, stage)


cdef inline void run_stage(
    const Plan *plan, const Call *call, const Workspace *space, int i, int stage, int task
) noexcept nogil:
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, 0)
    op.stage_task(plan, op, call, space, &batch, stage, task)


cdef inline int backward_tasks(const Plan *plan, const Call *call, int i) noexcept nogil:
    """In how many pieces an op's backward pass is cut."""
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, 0)
    if op.backward_tasks != NULL:
        return op.backward_tasks(plan, op, call, &batch)
    return batch.blocks if op.needs_dx else 0


cdef inline void run_backward(
    const Plan *plan, const Call *call, const Workspace *space, int i, int task
) noexcept nogil:
    """One piece of an op's backward pass."""
    cdef const Op *op = &plan.ops[i]
    cdef Batch batch = batch_of(plan, call, 0)
    cdef Here here
    cdef Py_ssize_t x_at, y_at
    cdef lanes *dx
    cdef lanes *target
    if op.backward_task != NULL:
        op.backward_task(plan, op, call, space, &batch, task)
        return
    here = here_of(space, task)
    x_at = task * op.x_block
    y_at = task * op.y_block
    dx = gradient_of(plan, space, op.source, &batch) + x_at
    target = here.arena if op.adds else dx
    op.backward_input(
        op, call, &here, map_of(plan, call, space, op.source, &batch) + x_at,
        map_of(plan, call, space, i + 1, &batch) + y_at,
        gradient_of(plan, space, i + 1, &batch) + y_at, target,
    )
    if op.adds:
        add_map(dx, target, op.inputs)
