"""A batch's gradient: the sum over its shards in a fixed order, a binary tree.

Shards 0 and 1 make a pair, as do 2 and 3; two pairs make a four, and so on, with nothing
added where a shard is missing. So do the microbatches. Any aligned part of a batch can thus
be summed by itself, whoever does it, and the sum of the parts is the batch's to the bit.
"""

from libc.string cimport memcpy, memset

from lenet5c.core.plan cimport SLICE, Batch, Call, Op, Plan, Task, Workspace


cdef inline void add_shards(
    float *of_shard, Py_ssize_t apart, int shards, Py_ssize_t n
) noexcept nogil:
    """of_shard[i] = sum over s of of_shard[s apart + i], for n of a shard's numbers; the
    other shards' are changed as well."""
    cdef float *to
    cdef const float *other
    cdef int step = 1
    cdef int s
    cdef Py_ssize_t i
    while step < shards:
        for s from 0 <= s < shards - step by 2 * step:
            to = of_shard + s * apart
            other = to + step * apart
            for i in range(n):
                to[i] += other[i]
        step *= 2


cdef inline void reduce_image_slice(
    const Op *op, const Call *call, float *by_image, Py_ssize_t apart, int images,
    const Task *task,
) noexcept nogil:
    """Imagewise: a slice of an op's gradient, from the places of all images."""
    cdef float *sums = by_image + op.image_at + task.start
    cdef float *to = call.gradient + op.weight + task.start
    cdef Py_ssize_t i
    add_shards(sums, apart, images, task.count)
    if call.add:
        for i in range(task.count):
            to[i] += sums[i]
    else:
        memcpy(to, sums, task.count * sizeof(float))


cdef inline int waiting_sums(int microbatch) noexcept nogil:
    """How many sums of fours, pairs, ... of earlier microbatches wait for a microbatch: the
    ones in its number's binary form."""
    cdef int waiting = 0
    while microbatch:
        waiting += microbatch & 1
        microbatch >>= 1
    return waiting


cdef inline int finished_sums(int microbatch, int microbatches) noexcept nogil:
    """How many of them are finished with it: the ones at the end, or all after the last."""
    cdef int finished = 0
    if microbatch == microbatches - 1:
        return waiting_sums(microbatch)
    while microbatch & 1:
        finished += 1
        microbatch >>= 1
    return finished


cdef inline float *sum_at(
    const Plan *plan, const Call *call, const Workspace *space, int level
) noexcept nogil:
    """Where the sum number `level` of those that wait lies; the first is the gradient."""
    if level == 0:
        return call.gradient
    return space.sums + (level - 1) * plan.parameters


cdef inline void join_sums(
    const Plan *plan, const Call *call, const Workspace *space, int microbatch,
    int finished, int slice
) noexcept nogil:
    """A slice of the sums that are finished with a microbatch into those that wait."""
    cdef int level = waiting_sums(microbatch)
    cdef Py_ssize_t start = <Py_ssize_t>slice * SLICE
    cdef Py_ssize_t n = min(<Py_ssize_t>SLICE, plan.parameters - start)
    cdef float *to
    cdef float *last
    cdef Py_ssize_t i
    cdef int _
    for _ in range(finished):
        last = sum_at(plan, call, space, level) + start
        to = sum_at(plan, call, space, level - 1) + start
        for i in range(n):
            to[i] += last[i]
        memset(last, 0, n * sizeof(float))
        level -= 1


cdef inline list reducing_tasks(const Plan *plan, bint imagewise):
    """Tasks (op, 0, start, count), cut as the kind wants it."""
    cdef const Op *op
    cdef Py_ssize_t length, step
    cdef int i
    tasks = []
    for i in range(plan.count):
        op = &plan.ops[i]
        length = op.image_length if imagewise else op.reduce_length
        step = op.image_step if imagewise else op.reduce_step
        if length > 0:
            tasks += [
                (i, 0, start, min(step, length - start))
                for start in range(0, length, step)
            ]
    return tasks


cdef inline void run_reducing(
    const Plan *plan, const Call *call, const Workspace *space, const Batch *batch,
    int microbatch, const Task *task,
) noexcept nogil:
    """Add what a microbatch's shards hold to a sum that waits, or start one."""
    cdef const Op *op = &plan.ops[task.op]
    cdef Call part = call[0]
    part.gradient = sum_at(plan, call, space, waiting_sums(microbatch))
    op.reduce(plan, op, &part, space, batch, task)
