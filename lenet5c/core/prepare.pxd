"""What comes before the first op: packed weights, and zeros where gradients are added."""

from libc.string cimport memset

from lenet5c.core.kernels.correlate cimport Correlation, packed_size
from lenet5c.core.plan cimport (
    SLICE, Call, Op, Plan, Task, is_folded, slices_of,
)
from lenet5c.core.tile cimport tile_filters


cdef inline const Correlation *product_of(const Op *op, int part) noexcept nogil:
    """Part 0 is the forward pass, 1 + i is part i of the input gradient."""
    return &op.y_product if part == 0 else &op.dx_products[part - 1]


cdef inline list packing_tasks(const Plan *plan):
    """A task for each tile of weights: (op, part, tile, 1)."""
    cdef const Correlation *p
    cdef const Op *op
    cdef int i, part, tf
    tasks = []
    for i in range(plan.count):
        op = &plan.ops[i]
        if op.pack == NULL:
            continue
        for part in range(1 + op.dx_parts):
            p = product_of(op, part)
            tf = tile_filters(p.tile)
            tasks += [(i, part, tile, 1) for tile in range((p.filters + tf - 1) // tf)]
    return tasks


cdef inline int preparing_tasks(const Plan *plan, const Call *call) noexcept nogil:
    """Tiles of weights, and slices of the gradient where it is not added to."""
    if call.is_packed:
        return 0
    if call.gradient == NULL or call.add:
        return plan.packing_tasks
    return plan.packing_tasks + slices_of(plan.parameters)


cdef inline void run_preparing(const Plan *plan, const Call *call, int i) noexcept nogil:
    """Pack tile number i of all weights, or zero a slice of the gradient."""
    cdef Py_ssize_t start
    if i < plan.packing_tasks:
        run_packing(plan, call, &plan.packing[i])
        return
    start = <Py_ssize_t>(i - plan.packing_tasks) * SLICE
    memset(
        call.gradient + start, 0,
        min(<Py_ssize_t>SLICE, plan.parameters - start) * sizeof(float),
    )


cdef inline void run_packing(
    const Plan *plan, const Call *call, const Task *task
) noexcept nogil:
    """One tile of one layer's weights into the order in which it is read."""
    cdef const Op *op = &plan.ops[task.op]
    cdef const Correlation *p = product_of(op, task.part)
    if task.part > 0 and call.gradient == NULL:
        return
    op.pack(p, call.parameters + op.weight, call.packed + p.packed, task.start)
    if is_folded(plan, call, op):
        scale_packed(
            p, call.packed + p.packed, op.elements, task.start, call.norms + op[1].norm
        )


cdef inline void scale_packed(
    const Correlation *p, float *packed, int elements, int tile, const float *scales
) noexcept nogil:
    """packed[element][tile, ..., f] *= scales[f], for the filters of one tile"""
    cdef int tf = tile_filters(p.tile)
    cdef int valid = min(tf, p.filters - tf * tile)
    cdef Py_ssize_t size = <Py_ssize_t>p.channels * p.rows * p.taps * tf
    cdef float *weights
    cdef Py_ssize_t i
    cdef int element
    scales += tf * tile
    for element in range(elements):
        weights = packed + element * packed_size(p) + tile * size
        for i in range(size):
            if i % tf < valid:
                weights[i] *= scales[i % tf]
