"""Several processes, the ranks of MPI, share a training call: each runs some shards of a
microbatch, tells the others what came of them, and adds up those of all.

What is told is what `reduce.pxd` adds up: shards, rows of dense layers, losses. So sums
have one order, whoever ran a shard, and all ranks have the gradient to the bit.
"""

from libc.string cimport memcpy

from lenet5c.core.lanes cimport LANES
from lenet5c.core.plan cimport Batch, Call, Plan, Workspace


cdef struct Told:
    # what a rank tells of a microbatch: its shards, and its images
    int shard, shards
    Py_ssize_t row, rows


cdef inline int shard_of_rank(
    const Call *call, const Batch *batch, int rank
) noexcept nogil:
    """The first shard of a rank; that of the rank after it is its end."""
    return batch.shards * rank // call.ranks


cdef inline Told told_by(
    const Plan *plan, const Call *call, const Batch *batch, int rank
) noexcept nogil:
    cdef Told told
    cdef Py_ssize_t images = plan.shard_blocks * LANES
    told.shard = shard_of_rank(call, batch, rank)
    told.shards = shard_of_rank(call, batch, rank + 1) - told.shard
    told.row = min(told.shard * images, <Py_ssize_t>batch.images)
    told.rows = min((told.shard + told.shards) * images, <Py_ssize_t>batch.images)
    told.rows -= told.row
    return told


cdef inline void copy_part(
    void *data, char *wire, Py_ssize_t *at, Py_ssize_t bytes, bint out
) noexcept nogil:
    """`bytes` of the data to the wire, or from there; `at` moves on. NULL: it counts."""
    if wire != NULL and out:
        memcpy(wire + at[0], data, bytes)
    elif wire != NULL:
        memcpy(data, wire + at[0], bytes)
    at[0] += bytes


cdef inline Py_ssize_t carry(
    const Plan *plan, const Call *call, const Workspace *space, const Batch *batch,
    int rank, char *wire, bint out,
) noexcept nogil:
    """What a rank tells, to the wire or from there; how many bytes that is."""
    cdef Told told = told_by(plan, call, batch, rank)
    cdef Py_ssize_t number = sizeof(float)
    cdef Py_ssize_t image = batch.first + told.row
    cdef Py_ssize_t at = 0
    cdef int i
    copy_part(
        space.shards + told.shard * plan.shard_floats, wire, &at,
        told.shards * plan.shard_floats * number, out,
    )
    for i in range(plan.count):
        op = &plan.ops[i]
        copy_part(
            space.rows + op.x_rows + told.row * op.x_row, wire, &at,
            told.rows * op.x_row * number, out,
        )
        copy_part(
            space.rows + op.dy_rows + told.row * op.dy_row, wire, &at,
            told.rows * op.dy_row * number, out,
        )
    copy_part(call.losses + image, wire, &at, told.rows * number, out)
    copy_part(call.correct + image, wire, &at, told.rows, out)
    return at
