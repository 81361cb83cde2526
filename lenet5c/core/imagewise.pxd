"""Image by image: a batch of a few images, for which a block would be mostly empty.

Lanes run along the rows of one image (kernels/image.pxd), weights are read where they lie,
and a thread takes an image from the first op to the loss and back. What an image adds to
the gradient has a place by its position in the batch, as what a shard adds has blockwise.
"""

from libc.string cimport memcpy, memset

from lenet5c.core.ends cimport describe_block
from lenet5c.core.kernels.pack cimport first_lanes, into_first_lanes, pack_image
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.memory cimport arena_of
from lenet5c.core.plan cimport (
    MOST_IMAGES, Block, Call, Here, Loop, Op, Plan, Workspace, here_alone, run_loops,
)
from lenet5c.core.threads cimport Work, ends, lenet5c_thread


cdef enum:
    THREAD_PRODUCTS = 1 << 17  # that are worth a thread: waking it takes as long
    PRODUCTS_10 = 16  # of an image, in the time of 10 cycles of a block as it is estimated


cdef inline int images_one_by_one(Plan *plan) noexcept:
    """The most images of a batch that go one by one: 0, if an op cannot, or as many as
    cost less than a block; and what one costs."""
    cdef int i
    plan.image_products = 1
    for i in range(plan.count):
        if plan.ops[i].image_forward == NULL:
            return 0
        plan.image_products += plan.ops[i].image_products
    return <int>min(
        <double>MOST_IMAGES, PRODUCTS_10 * plan.cycles / (10 * plan.image_products)
    )


cdef inline int threads_of_images(const Plan *plan, Py_ssize_t count) noexcept nogil:
    """How many threads have enough to do with so many images."""
    cdef double worth = count * plan.image_products / THREAD_PRODUCTS
    return <int>max(1.0, min(<double>count, worth))


cdef inline int plan_images(Plan *plan, list nodes, int images) except -1:
    """So many of them, each on a thread of its own, whatever it costs."""
    cdef int i
    for i in range(plan.count):
        if plan.ops[i].image_forward == NULL and images > 0:
            raise ValueError(
                f"the core has no kernel for one image alone of {nodes[i]['kind']} "
                f"{nodes[i]['name']!r}"
            )
    plan.images = images
    plan.image_products = THREAD_PRODUCTS
    return 0


cdef inline bint runs_imagewise(const Plan *plan, const Call *call) noexcept nogil:
    return call.gradient != NULL and call.count <= plan.images


cdef inline void run_imagewise(
    const Plan *plan, const Call *call, const Workspace *space, int threads
) noexcept nogil:
    run_loops(plan, call, space, threads, 1, next_loop)


cdef inline int next_loop(void *of, Work *work) noexcept nogil:
    """All images; then the sum of what they add to the gradient."""
    cdef Loop *loop = <Loop *>of
    loop.number += 1
    if loop.number == 1:
        work[0] = run_image
        return loop.call.count
    work[0] = reduce
    return loop.plan.image_reducing_tasks if loop.number == 2 else -1


cdef inline void reduce(const void *of, int number) noexcept nogil:
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Op *op = &plan.ops[plan.image_reducing[number].op]
    op.image_reduce(
        op, loop.call, loop.space.by_image, plan.image_floats, loop.call.count,
        &plan.image_reducing[number],
    )


cdef inline float *map_of(const Here *here, Py_ssize_t place) noexcept nogil:
    return <float *>(here.arena + place)


cdef inline void zero_behind(float *map, Py_ssize_t n) noexcept nogil:
    """What a register may read behind a map is multiplied by 0, so it has to be finite."""
    memset(map + n, 0, min(n * (LANES - 1), <Py_ssize_t>LANES) * sizeof(float))


cdef inline void run_image(const void *of, int number) noexcept nogil:
    """Forward, loss and backward of one image; dx and dy as in `run_block`."""
    cdef const Loop *loop = <const Loop *>of
    cdef const Plan *plan = loop.plan
    cdef const Call *call = loop.call
    cdef Block block
    cdef Here here = here_alone(arena_of(loop.space))
    cdef int last = plan.count
    cdef const Op *op
    cdef const float *x
    cdef const float *dy
    cdef int i
    here.images = &block
    here.gradient = loop.space.by_image + number * plan.image_floats
    load_image(plan, call, &here, number, &block)
    for i in range(last):
        if ends(call.watch, lenet5c_thread()):
            return
        op = &plan.ops[i]
        zero_behind(map_of(&here, plan.kept[i]), op.inputs)
        op.image_forward(
            op, call, &here, map_of(&here, plan.kept[i]), map_of(&here, plan.kept[i + 1])
        )
    image_loss(plan, call, &here, number, &block)
    for i in range(last - 1, -1, -1):
        if ends(call.watch, lenet5c_thread()):
            return
        op = &plan.ops[i]
        x = map_of(&here, plan.kept[i])
        dy = map_of(&here, plan.gradients[i + 1])
        if op.image_params != NULL:
            op.image_params(op, &here, x, dy)
        if op.needs_dx:
            op.image_input(
                op, call, &here, x, map_of(&here, plan.kept[i + 1]), dy,
                map_of(&here, plan.gradients[i]),
            )
    if call.dx != NULL:
        memcpy(
            call.dx + number * plan.sizes[0], map_of(&here, plan.gradients[0]),
            plan.sizes[0] * sizeof(float),
        )


cdef inline void load_image(
    const Plan *plan, const Call *call, const Here *here, int number, Block *block
) noexcept nogil:
    """Image `number` of the batch as floats [C][H][W]; changed at random as in a block."""
    cdef lanes *x = here.arena + plan.kept[0]
    cdef Call upto
    if call.augment != NULL:
        upto = call[0]
        upto.count = number + 1  # a block with this image alone
        plan.load(plan, &upto, here.own, number, x, block)
        first_lanes(x, plan.sizes[0])
    else:
        describe_block(call, number, 1, block)
        pack_image(&call.images, block.indices[0], <float *>x, plan.H, plan.W)


cdef inline void image_loss(
    const Plan *plan, const Call *call, const Here *here, int number, const Block *block
) noexcept nogil:
    """That of a block with one image."""
    cdef lanes *z = here.arena + plan.kept[plan.count]
    cdef lanes *dy = here.arena + plan.gradients[plan.count]
    cdef Py_ssize_t n = plan.sizes[plan.count]
    into_first_lanes(z, n)
    plan.loss(&plan.ops[plan.count - 1], call, block, number, z, dy)
    first_lanes(z, n)
    first_lanes(dy, n)
