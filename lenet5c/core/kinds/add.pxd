"""The sum of two maps, with which a residual layer ends: y = A(x + other)."""

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.lanes cimport lanes
from lenet5c.core.memory cimport add_map, arena_of, gradient_of, map_of
from lenet5c.core.plan cimport Batch, Call, Op, Plan, Workspace


cdef inline int plan_add(Plan *plan, Op *op, dict node) except -1:
    op.forward_tasks = op.backward_tasks = one_each_block
    op.forward_task = add_forward_task
    op.backward_task = add_backward_task
    return 0


cdef inline int one_each_block(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    return batch.blocks


cdef inline void add_forward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    cdef Py_ssize_t at = task * op.x_block
    cdef const lanes *x = map_of(plan, call, space, op.source, batch) + at
    cdef const lanes *other = map_of(plan, call, space, op.other, batch) + at
    cdef lanes *y = map_of(plan, call, space, op.number + 1, batch) + at
    cdef Py_ssize_t i
    for i in range(op.outputs):
        y[i] = x[i] + other[i]
    activation_forward(y, y, op.outputs, op.activation)


cdef inline void add_backward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    """dx = dy A'(x) of either input"""
    if op.needs_dx:
        pass_on(plan, op, call, space, batch, task, op.source, op.below, op.adds)
    if op.needs_other:
        pass_on(plan, op, call, space, batch, task, op.other, op.below_other, op.adds_other)


cdef inline void pass_on(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task, int source, int below, bint adds,
) noexcept nogil:
    cdef Py_ssize_t at = task * op.x_block
    cdef const lanes *x = map_of(plan, call, space, source, batch) + at
    cdef const lanes *dy = gradient_of(plan, space, op.number + 1, batch) + at
    cdef lanes *dx = gradient_of(plan, space, source, batch) + at
    cdef lanes *target = arena_of(space) if adds else dx
    activation_backward(x, dy, target, op.inputs, below)
    if adds:
        add_map(dx, target, op.inputs)
