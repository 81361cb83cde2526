"""A microbatch's gradients into the batch's: shards in their order, images in theirs."""

from lenet5c.core.plan cimport Batch, Call, Op, Plan, Task, Workspace


cdef inline list reducing_tasks(const Plan *plan):
    """Tasks (op, 0, start, count), cut as the kind wants it."""
    cdef const Op *op
    cdef int i
    tasks = []
    for i in range(plan.count):
        op = &plan.ops[i]
        if op.reduce != NULL:
            tasks += [
                (i, 0, start, min(op.reduce_step, op.reduce_length - start))
                for start in range(0, op.reduce_length, op.reduce_step)
            ]
    return tasks


cdef inline void run_reducing(
    const Plan *plan, const Call *call, const Workspace *space, const Batch *batch,
    const Task *task,
) noexcept nogil:
    cdef const Op *op = &plan.ops[task.op]
    op.reduce(plan, op, call, space, batch, task)
