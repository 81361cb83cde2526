"""From nodes (places.py) to a plan."""

from libc.stdlib cimport calloc, free

from lenet5c.core.cost cimport block_cycles, op_cycles
from lenet5c.core.ends cimport block_loss, load_block
from lenet5c.core.imagewise cimport images_one_by_one
from lenet5c.core.kernels.activation cimport activation_number
from lenet5c.core.kinds.table cimport Kind, kind_of
from lenet5c.core.lanes cimport odd_lines
from lenet5c.core.memory cimport plan_batch_maps, plan_maps, plan_shards
from lenet5c.core.plan cimport (
    FUSES_ACTIVATION, WHOLE_BATCH, Op, Plan, Task, size_of,
)
from lenet5c.core.prepare cimport packing_tasks
from lenet5c.core.reduce cimport reducing_tasks


cdef inline int plan_ops(
    Plan *plan, list nodes, input_shape, bint layerwise
) except -1:
    """The ops of all nodes, in their order; the plan is zero before."""
    cdef Py_ssize_t count = len(nodes)
    plan.layerwise = layerwise
    plan.C, plan.H, plan.W = input_shape
    plan.load = load_block
    plan.loss = block_loss
    plan.ops = <Op *>plan_array(count, sizeof(Op))
    plan.sizes = <Py_ssize_t *>plan_array(count, sizeof(Py_ssize_t))
    plan.kept = <Py_ssize_t *>plan_array(count, sizeof(Py_ssize_t))
    plan.reused = <Py_ssize_t *>plan_array(count, sizeof(Py_ssize_t))
    plan.gradients = <Py_ssize_t *>plan_array(count, sizeof(Py_ssize_t))
    plan.sizes[0] = size_of(input_shape)
    for node in nodes:
        plan_op(plan, node)
    return 0


cdef inline list block_sizes(const Plan *plan):
    """Lanes from one block's map to the next, layerwise, for each map."""
    return [odd_lines(plan.sizes[i]) for i in range(plan.count + 1)]


cdef inline int plan_rest(Plan *plan, dict places) except -1:
    """Memory and tasks, once all ops are planned; layerwise, `places` by places.py."""
    if plan.layerwise:
        plan_batch_maps(plan, places)
    else:
        plan_maps(plan)
    plan_shards(plan)
    plan.cycles = block_cycles(plan)
    plan.packing = task_array(packing_tasks(plan), &plan.packing_tasks)
    plan.reducing = task_array(reducing_tasks(plan, False), &plan.reducing_tasks)
    plan.images = images_one_by_one(plan)
    tasks = reducing_tasks(plan, True)
    plan.image_reducing = task_array(tasks, &plan.image_reducing_tasks)
    return 0


cdef inline void free_plan(Plan *plan) noexcept:
    cdef int i
    for i in range(plan.count):
        free(plan.ops[i].dx_products)
        free(plan.ops[i].own)
    free(plan.ops)
    free(plan.sizes)
    free(plan.kept)
    free(plan.reused)
    free(plan.gradients)
    free(plan.packing)
    free(plan.reducing)
    free(plan.image_reducing)


cdef inline void *plan_array(Py_ssize_t nodes, size_t size) except NULL:
    """Zeroed memory for something of each map."""
    cdef void *array = calloc(nodes + 1, size)
    if array == NULL:
        raise MemoryError("could not allocate the plan")
    return array


cdef inline Task *task_array(list tasks, int *count) except NULL:
    """The tasks (op, part, start, count) as a C array."""
    cdef Task *array = <Task *>plan_array(len(tasks), sizeof(Task))
    cdef int i
    count[0] = len(tasks)
    for i in range(count[0]):
        array[i].op, array[i].part, array[i].start, array[i].count = tasks[i]
    return array


cdef inline int plan_op(Plan *plan, dict node) except -1:
    """Append the op of a node."""
    cdef Kind kind = kind_of(node["kind"])
    cdef Op *op = &plan.ops[plan.count]
    if kind.traits & WHOLE_BATCH and not plan.layerwise:
        raise ValueError(f"a layer of kind {node['kind']!r} runs layerwise alone")
    if node["activation"] is not None and not kind.traits & FUSES_ACTIVATION:
        raise ValueError(f"a layer of kind {node['kind']!r} applies no activation")
    op.number = plan.count
    plan.count += 1
    op.source = node["source"]
    op.other = node["other"]
    op.outputs = size_of(node["output_shape"])
    op.inputs = size_of(node["input_shape"])
    op.x_block = op.sum_lanes = odd_lines(op.inputs)
    op.y_block = odd_lines(op.outputs)
    op.activation = activation_number(node["activation"])
    op.below = activation_number(node["below"])
    op.below_other = activation_number(node["below_other"])
    op.needs_dx = node["needs_dx"]
    op.needs_other = node["needs_other"]
    op.adds = node["adds"]
    op.adds_other = node["adds_other"]
    op.folds = node["folds"]
    op.elements = 1
    plan.sizes[plan.count] = op.outputs
    kind.plan(plan, op, node)
    if op.cycles == 0:
        op.cycles = op_cycles(op, plan.layerwise)
    return 0
