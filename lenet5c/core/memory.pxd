"""Where maps lie, and the scratch memory of a call."""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from lenet5c.core.kernels.augment cimport augment_scratch
from lenet5c.core.lanes cimport CACHE_LINE, LANES, lanes
from lenet5c.core.threads cimport lenet5c_thread
from lenet5c.core.plan cimport (
    MICROBATCH, Batch, Block, Call, Op, Plan, Workspace, blocks_of,
)

cdef enum:
    SHARD_FLOATS = 1 << 22  # all shards' gradient buffers together, at the most


cdef inline int plan_maps(Plan *plan) except -1:
    """Where the maps lie in a thread's arena, blockwise.

    Two neighbouring places serve the gradients in training, and in prediction, where no map
    is kept, the maps themselves.
    """
    cdef Py_ssize_t line = max(1, CACHE_LINE // <Py_ssize_t>sizeof(lanes))
    cdef Py_ssize_t end = 0
    cdef Py_ssize_t[2] most
    cdef Py_ssize_t size
    cdef Op *op
    cdef int i
    most[0] = most[1] = 0
    for i in range(plan.count + 1):
        size = (plan.sizes[i] + line - 1) // line * line
        plan.kept[i] = end
        end += size
        most[i % 2] = max(most[i % 2], size)
    for i in range(plan.count):
        op = &plan.ops[i]
        op.padded = end
        end += op.padded_lanes
    for i in range(plan.count + 1):
        plan.gradients[i] = plan.reused[i] = end + (most[0] if i % 2 else 0)
    plan_scratch(plan, end + most[0] + most[1])
    return 0


cdef inline int plan_batch_maps(Plan *plan, dict places) except -1:
    """Where the maps of a whole batch lie, layerwise, as places.py found it."""
    cdef Py_ssize_t sums = 0
    cdef int i
    for i in range(plan.count + 1):
        plan.kept[i] = places["kept"][i]
        plan.gradients[i] = places["gradients"][i]
        plan.reused[i] = places["reused"][i]
    plan.all_maps = places["training"]
    plan.few_maps = places["prediction"]
    for i in range(plan.count):
        sums = max(sums, plan.ops[i].sum_lanes)
    plan_scratch(plan, sums)
    return 0


cdef inline void plan_scratch(Plan *plan, Py_ssize_t end) noexcept:
    """What an arena has behind the maps: scratch of an op at a time, of augmentation."""
    cdef Py_ssize_t most = 0
    cdef int i
    for i in range(plan.count):
        most = max(most, plan.ops[i].scratch_lanes)
        plan.ops[i].scratch = end
    plan.image_rows = end + most
    plan.arena = plan.image_rows + augment_scratch(plan.H, plan.W)


cdef inline void plan_shards(Plan *plan) noexcept:
    """How many blocks add to one gradient buffer: one, if the buffers are not too large."""
    plan.shard_blocks = 1
    plan.shards = MICROBATCH // LANES
    while plan.shards > 1 and plan.shards * plan.shard_floats > SHARD_FLOATS:
        plan.shard_blocks *= 2
        plan.shards = (plan.shards + 1) // 2


cdef inline lanes *arena_of(const Workspace *space) noexcept nogil:
    """The arena of the thread that asks."""
    return <lanes *>space.arenas[lenet5c_thread()]


cdef inline lanes *map_of(
    const Plan *plan, const Call *call, const Workspace *space, int number,
    const Batch *batch,
) noexcept nogil:
    """A map of all blocks, layerwise."""
    cdef const Py_ssize_t *places = plan.reused if call.gradient == NULL else plan.kept
    return <lanes *>space.maps + places[number] * batch.blocks


cdef inline lanes *gradient_of(
    const Plan *plan, const Workspace *space, int number, const Batch *batch
) noexcept nogil:
    """The gradient of a map of all blocks, layerwise."""
    return <lanes *>space.maps + plan.gradients[number] * batch.blocks


cdef inline void *aligned_zeros(size_t bytes) except NULL:
    """Zeroed memory on a cache line; free it with `aligned_free`."""
    cdef char *raw = <char *>calloc(1, bytes + 2 * CACHE_LINE)
    cdef char *start
    if raw == NULL:
        raise MemoryError(f"could not allocate {bytes} bytes")
    start = <char *>((<size_t>raw + 2 * CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)
    (<void **>(start - sizeof(void *)))[0] = raw  # for aligned_free
    return start


cdef inline void aligned_free(void *start) noexcept:
    if start != NULL:
        free((<void **>(<char *>start - sizeof(void *)))[0])


cdef inline int reserve(
    Workspace *space, const Plan *plan, int threads, Py_ssize_t images, bint training
) except -1:
    """Make a workspace large enough for a call; it only ever grows."""
    if plan.layerwise:
        reserve_maps(space, plan, images, training)
    elif space.blocks == NULL:
        space.blocks = <Block *>aligned_zeros(MICROBATCH // LANES * sizeof(Block))
    reserve_arenas(space, plan, threads)
    if space.packed == NULL:
        space.packed = <float *>aligned_zeros(plan.packed * sizeof(float))
        space.norms = <float *>aligned_zeros(plan.norms * sizeof(float))
    if not training:
        return 0
    if space.shards == NULL:
        space.rows = <float *>aligned_zeros(plan.rows * sizeof(float))
        space.shards = <float *>aligned_zeros(
            plan.shards * plan.shard_floats * sizeof(float)
        )
    if space.by_image == NULL and plan.images:
        space.by_image = <float *>aligned_zeros(
            plan.images * plan.image_floats * sizeof(float)
        )
    reserve_sums(space, plan, (images + MICROBATCH - 1) // MICROBATCH)
    if images > space.image_count:
        space.image_count = 0
        aligned_free(space.losses)
        space.losses = NULL
        aligned_free(space.correct)
        space.correct = NULL
        space.losses = <float *>aligned_zeros(images * sizeof(float))
        space.correct = <unsigned char *>aligned_zeros(images)
        space.image_count = images
    return 0


cdef inline int reserve_sums(
    Workspace *space, const Plan *plan, Py_ssize_t microbatches
) except -1:
    """As many as wait at the most (reduce.pxd), beside the gradient."""
    cdef int count = 0
    while not plan.layerwise and (1 << count) < microbatches:
        count += 1
    if count > space.sum_count:
        space.sum_count = 0
        aligned_free(space.sums)
        space.sums = NULL
        space.sums = <float *>aligned_zeros(count * plan.parameters * sizeof(float))
        space.sum_count = count
    return 0


cdef inline void clear_sums(Workspace *space, const Plan *plan) noexcept:
    """After a call that was not over: its sums wait no more."""
    if space.sums != NULL:
        memset(space.sums, 0, space.sum_count * plan.parameters * sizeof(float))


cdef inline int reserve_arenas(
    Workspace *space, const Plan *plan, int threads
) except -1:
    cdef char **arenas
    cdef int t
    if threads <= space.threads:
        return 0
    arenas = <char **>calloc(threads, sizeof(char *))
    if arenas == NULL:
        raise MemoryError("could not allocate the threads' scratch")
    if space.arenas != NULL:
        memcpy(arenas, space.arenas, space.threads * sizeof(char *))
        free(space.arenas)
    space.arenas = arenas
    for t in range(space.threads, threads):
        arenas[t] = <char *>aligned_zeros(plan.arena * sizeof(lanes))
        space.threads = t + 1
    return 0


cdef inline int reserve_maps(
    Workspace *space, const Plan *plan, Py_ssize_t images, bint training
) except -1:
    """The maps of a whole batch, or in prediction of a microbatch."""
    if not training:
        images = min(images, <Py_ssize_t>MICROBATCH)
    cdef Py_ssize_t blocks = blocks_of(images)
    cdef Py_ssize_t size = plan.all_maps if training else plan.few_maps
    cdef Py_ssize_t panels = panel_lanes(plan, blocks) if training else 0
    cdef Py_ssize_t bytes = (blocks * size + panels) * sizeof(lanes)
    if bytes > space.map_bytes:
        space.map_bytes = 0
        aligned_free(space.maps)
        space.maps = NULL
        space.maps = <char *>aligned_zeros(bytes)
        space.map_bytes = bytes
    if blocks > space.block_count:
        space.block_count = 0
        aligned_free(space.blocks)
        space.blocks = NULL
        space.blocks = <Block *>aligned_zeros(blocks * sizeof(Block))
        space.block_count = blocks
    return 0


cdef inline Py_ssize_t panel_lanes(const Plan *plan, Py_ssize_t blocks) noexcept:
    """Lanes that the largest panels take in a batch of so many blocks."""
    cdef Py_ssize_t most = 0
    cdef const Op *op
    cdef int i
    for i in range(plan.count):
        op = &plan.ops[i]
        most = max(most, min(op.blocks_per_panel, blocks) * op.panel_lanes)
    return most


cdef inline void release(Workspace *space) noexcept:
    cdef int t
    for t in range(space.threads):
        aligned_free(space.arenas[t])
    free(space.arenas)
    aligned_free(space.packed)
    aligned_free(space.norms)
    aligned_free(space.maps)
    aligned_free(space.blocks)
    aligned_free(space.shards)
    aligned_free(space.sums)
    aligned_free(space.rows)
    aligned_free(space.by_image)
    aligned_free(space.losses)
    aligned_free(space.correct)


cdef inline void add_map(lanes *y, const lanes *x, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        y[i] += x[i]
