"""What a planned network is made of: structs that runners read, without Python objects.

    block       LANES images, interleaved: element [c][h][w] of a map is one register
    map         values between two layers, [C][H][W] lanes; map i is what op i reads
    op          a layer with arithmetic; an activation is part of the op before it
    shard       consecutive blocks of a batch that add to one gradient buffer
    microbatch  the images between two reductions; bounds the memory of any batch size

A kind of op fills in what an op does: functions for one block, or for a task of a batch.
Those are reached through pointers, so that each is compiled with all registers to itself.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from lenet5c.core.kernels.augment cimport Augment
from lenet5c.core.kernels.correlate cimport Correlation, correlate, packed_size
from lenet5c.core.kernels.pack cimport Images
from lenet5c.core.lanes cimport LANES, lanes, odd_lines
from lenet5c.core.threads cimport (
    NextLoop, Team, Watch, give_back, run, take_team,
)

cdef enum:
    MICROBATCH = 256  # images between two reductions
    SLICE = 4096  # floats of a parameter vector that one task sums or updates
    MOST_IMAGES = 8  # of a batch whose images run one by one

cdef enum Trait:  # of a kind
    WHOLE_BATCH = 1  # runs layerwise alone, in tasks of its own, or reads two maps
    FUSES_ACTIVATION = 2  # applies the activation behind it to its output

cdef struct Op
cdef struct Plan


cdef struct Call:
    # one call of the engine: what to read and where to write
    const float *parameters
    const float *buffers  # behind them in the state
    float *packed  # the weights in tile order
    bint is_packed  # since an earlier call, and so are the norms
    float *norms  # two numbers for each channel of batch normalisation
    float *running  # the state whose running statistics move, or NULL
    Images images
    const Py_ssize_t *indices  # which image is the n-th of the batch; NULL: n
    const int *labels  # by image, or NULL
    const float *weights  # of the images' losses, by image; NULL: 1
    Py_ssize_t count
    float loss_scale  # what the gradient of one image's loss is multiplied by
    float smoothing  # of the labels
    int loss  # an Objective (kernels/loss.pxd)
    float rubbish  # minus the logit of a class that no image is of; infinity: there is none
    const Augment *augment  # NULL: images as they are
    uint64_t key  # of all random numbers of this call
    bint add  # add to `gradient` instead of overwriting it
    const float *dy  # (N, outputs) where there are no labels
    float *y  # (N, outputs of the last op that runs), or NULL
    float *dx  # (N, inputs), or NULL
    float *gradient  # flat, or NULL: forward alone
    float *losses
    unsigned char *correct
    int ops  # how many of them run
    int rank, ranks  # this process, of how many that share the shards (ranks.pxd)
    int loops_done, loops_end  # blockwise: the loops between them run; 0: to the end
    Watch *watch  # may end it; or NULL

cdef struct Block:
    # the images of one block
    int count
    Py_ssize_t[LANES] indices
    int[LANES] labels  # -1 where there is no image
    float[LANES] weights

cdef struct Here:
    # what a thread has at hand for a block, or for its part of one
    int part, parts  # this one, of how many that share the block
    lanes *arena  # with the block's maps
    lanes *own  # the thread's, for scratch
    const Block *images
    float *gradient  # of the block's shard
    float *rows  # of the microbatch: inputs and output gradients of dense layers
    Py_ssize_t row  # that of the block's first image

cdef struct Part:
    # of the filters or channels of an op
    int first, count

cdef struct Batch:
    # images between two reductions, or layerwise in training all images
    Py_ssize_t first
    int images, blocks
    int shards

cdef struct Task:
    int op
    int part  # packing: 0 the forward weights, 1 + i part i of the input gradient
    Py_ssize_t start, count

cdef struct Workspace:
    # scratch memory of one call at a time
    char **arenas  # maps of a block, one arena a thread
    int threads
    float *packed
    float *norms
    float *shards
    float *sums  # of parts of a batch of more than two microbatches, zero between calls
    int sum_count
    char *maps  # of all blocks, layerwise
    Block *blocks
    Py_ssize_t map_bytes, block_count
    float *rows
    float *by_image  # what each image adds to the gradient, imagewise
    float *losses
    unsigned char *correct
    Py_ssize_t image_count

cdef struct Loop:
    # what the threads know that share the tasks of a loop
    const Plan *plan
    const Call *call
    const Workspace *space
    int parts  # of each block
    int microbatch  # its number; layerwise in training 0, of the batch
    Batch batch
    int number  # blockwise: of this loop, from 1
    int first_shard  # blockwise: of this process
    int finished  # and how many sums are finished with the microbatch
    int phase  # layerwise or with shared blocks, as all that follows
    int i, stage  # of the op, and of what comes before its backward pass
    const Op *op


ctypedef void (*Forward)(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil
ctypedef void (*BackwardParams)(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil
ctypedef void (*BackwardInput)(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil
ctypedef void (*Pack)(
    const Correlation *p, const float *weight, float *packed, int tile
) noexcept nogil
ctypedef void (*Prepare)(const Plan *plan, const Op *op, const Call *call) noexcept nogil
ctypedef void (*Reduce)(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, const Task *task,
) noexcept nogil
ctypedef void (*ImageForward)(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil
ctypedef void (*ImageParams)(
    const Op *op, const Here *here, const float *x, const float *dy
) noexcept nogil
ctypedef void (*ImageInput)(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil
ctypedef void (*ImageReduce)(
    const Op *op, const Call *call, float *gradients, Py_ssize_t apart, int images,
    const Task *task,
) noexcept nogil
ctypedef int (*CountTasks)(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil
ctypedef void (*RunTask)(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil
ctypedef int (*CountStages)(const Op *op, const Batch *batch) noexcept nogil
ctypedef int (*CountStageTasks)(
    const Op *op, const Batch *batch, int stage
) noexcept nogil
ctypedef void (*RunStage)(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int stage, int task,
) noexcept nogil


cdef struct Padding:
    # columns of zeros around a map's own; padded_width is 0 where there are none
    int rows, width, left, padded_width


cdef struct Op:
    int number
    int activation  # applied to this op's output
    int source, other  # the map that it reads, and the second one of an addition
    int below, below_other  # the activations whose outputs these are
    Py_ssize_t inputs, outputs  # lanes in its maps
    Py_ssize_t x_block, y_block  # lanes from one block's map to the next, layerwise
    bint needs_dx, needs_other
    bint adds, adds_other  # to a gradient that a later op has written
    bint splits  # the functions for a block know of parts
    bint folds  # in prediction, the batch normalisation behind it into its weights
    double cycles  # of a block's forward pass but for the activation (cost.pxd)
    void *own  # what the kind alone knows; freed with the plan

    # of one block
    Forward forward
    BackwardParams backward_params  # adds to the shard's gradient; NULL: no parameters
    BackwardInput backward_input  # NULL: as for `forward`, the kind runs in tasks

    # of one image, as those of one block (imagewise.pxd); NULL: there is no such way
    ImageForward image_forward
    ImageParams image_params  # to the image's own place, from `image_at` on
    ImageInput image_input
    ImageReduce image_reduce
    Py_ssize_t image_at, image_length, image_step
    double image_products  # of registers, in its forward pass

    # tasks of a batch, layerwise; NULL: one for each block, by the functions above
    CountTasks forward_tasks
    RunTask forward_task
    CountTasks backward_tasks
    RunTask backward_task
    CountStages stages  # of tasks that come before those of the backward pass, or NULL
    CountStageTasks stage_tasks
    RunStage stage_task

    # parameters: offsets in the flat vector, and what is done before and after the ops
    bint biased
    Py_ssize_t weight, bias
    Pack pack
    int elements  # copies of the packed weights: those of a transform domain, or 1
    Correlation y_product
    Correlation *dx_products  # input gradient, one for each residue of the stride
    int dx_parts
    bint gaps  # the stride leaves pixels that no kernel tap touches: their gradient is 0
    Padding x_padding, dy_padding
    Prepare prepare  # layerwise, before the first op; or NULL
    Reduce reduce  # adds a microbatch's gradient to the batch's
    Py_ssize_t reduce_length, reduce_step  # how its tasks are cut
    Py_ssize_t norm  # offset of two numbers a channel, in `Call.norms`
    # what is kept of each image for the weights' gradient, in the microbatch's rows:
    # where the input and the output's gradient begin, and floats to the next image
    Py_ssize_t x_rows, x_row, dy_rows, dy_row

    # memory, in lanes
    Py_ssize_t padded_lanes, padded  # kept from forward to backward, and where
    Py_ssize_t scratch_lanes, scratch  # of a thread
    Py_ssize_t sum_lanes  # at the start of the arena: a gradient on its way into a sum
    Py_ssize_t panel_lanes, blocks_per_panel  # of a block, behind all maps, layerwise


ctypedef void (*Load)(
    const Plan *plan, const Call *call, lanes *arena, Py_ssize_t first, lanes *x,
    Block *block,
) noexcept nogil
ctypedef void (*Loss)(
    const Op *last, const Call *call, const Block *block, Py_ssize_t first,
    const lanes *logits, lanes *dy,
) noexcept nogil


cdef struct Plan:
    Op *ops
    int count
    int C, H, W
    bint layerwise
    Load load
    Loss loss
    Py_ssize_t *sizes  # of the maps, in lanes
    Py_ssize_t *kept  # where each map lies when all are kept
    Py_ssize_t *reused  # and when only those that are still read
    Py_ssize_t *gradients  # where the gradients of the maps lie
    Py_ssize_t all_maps, few_maps  # lanes of a block, layerwise: training, prediction
    Py_ssize_t image_rows, arena  # images being augmented; the whole arena, in lanes
    Py_ssize_t packed, rows, parameters  # floats
    Py_ssize_t buffers  # floats behind the parameters in the state
    Py_ssize_t norms
    Py_ssize_t shard_floats, shards, shard_blocks
    int images  # imagewise: the most of a batch
    double image_products  # of an image's forward pass
    Py_ssize_t image_floats  # of what an image adds to the gradient
    double cycles  # of a block in prediction (cost.pxd)
    int parts  # the most threads that share a block; 0: as many as pays
    Task *packing
    Task *reducing
    Task *image_reducing
    int packing_tasks, reducing_tasks, image_reducing_tasks


cdef inline int blocks_of(Py_ssize_t images) noexcept nogil:
    return (images + LANES - 1) // LANES


cdef inline Batch batch_of(const Plan *plan, const Call *call, int number) noexcept nogil:
    """Microbatch number `number`; layerwise in training all images."""
    cdef Batch batch
    cdef Py_ssize_t of_shard = plan.shard_blocks * LANES
    batch.first = <Py_ssize_t>number * MICROBATCH
    batch.images = call.count - batch.first
    if not plan.layerwise or call.gradient == NULL:
        batch.images = min(batch.images, MICROBATCH)
    batch.blocks = blocks_of(batch.images)
    batch.shards = (batch.images + of_shard - 1) // of_shard
    return batch


cdef inline void run_loops(
    const Plan *plan, const Call *call, const Workspace *space, int threads, int parts,
    NextLoop next_loop,
) noexcept nogil:
    """All loops of a call, which `next_loop` sets in a `Loop` that is zero at first."""
    cdef Team *team = take_team(threads)
    cdef Loop loop
    memset(&loop, 0, sizeof(Loop))
    loop.plan = plan
    loop.call = call
    loop.space = space
    loop.parts = parts
    run(team, call.watch, next_loop, &loop)
    give_back(team)


cdef inline Here here_alone(lanes *arena) noexcept nogil:
    """Of a thread that has a whole block to itself, with its maps in its own arena."""
    cdef Here here
    memset(&here, 0, sizeof(Here))
    here.parts = 1
    here.arena = here.own = arena
    return here


cdef inline Part part_of(const Here *here, int n, int tile) noexcept nogil:
    """A part's share of n filters or channels: whole tiles, and at the end the rest."""
    cdef Part part
    cdef int tiles = max(1, n // tile)
    cdef int end = tiles * (here.part + 1) // here.parts
    part.first = tiles * here.part // here.parts * tile
    part.count = (n if end == tiles else end * tile) - part.first
    return part


cdef inline int slices_of(Py_ssize_t n) noexcept nogil:
    """How many tasks share n parameters."""
    return (n + SLICE - 1) // SLICE


cdef inline bint is_folded(const Plan *plan, const Call *call, const Op *op) noexcept nogil:
    """Whether a convolution does what the batch normalisation behind it would do."""
    return op.folds and call.gradient == NULL and call.ops > op.number + 1


cdef inline const float *bias_of(const Op *op, const Call *call) noexcept nogil:
    return call.parameters + op.bias if op.biased else NULL


# What the kinds' planning shares


cdef inline Py_ssize_t size_of(shape) except -1:
    """Elements of a map or a weight, which the kernels count in C ints."""
    size = 1
    for n in shape:
        size *= n
    if size >= 1 << 31:
        raise ValueError(f"expected fewer than 2**31 elements, got the shape {shape}")
    return size


cdef inline void *own(Op *op, size_t size) except NULL:
    """Zeroed memory for what the kind alone knows of an op."""
    op.own = calloc(1, size)
    if op.own == NULL:
        raise MemoryError("could not allocate the plan")
    return op.own


cdef inline Correlation *new_parts(Op *op, size_t most) except NULL:
    """Room for the parts of an op's input gradient."""
    op.dx_products = <Correlation *>calloc(most, sizeof(Correlation))
    if op.dx_products == NULL:
        raise MemoryError("could not allocate the plan")
    return op.dx_products


cdef inline void plan_parameters(
    Plan *plan, Op *op, Py_ssize_t weights, Py_ssize_t biases
) noexcept:
    """Places in the flat vector: the weights, and behind them the biases."""
    op.weight = plan.parameters
    op.bias = plan.parameters + weights
    plan.parameters += weights + biases


cdef inline Py_ssize_t plan_image_floats(Plan *plan, Py_ssize_t n) noexcept:
    """A place for what an image adds to the gradient, on whole registers."""
    cdef Py_ssize_t start = plan.image_floats
    plan.image_floats += image_row(n)
    return start


cdef inline Py_ssize_t image_row(Py_ssize_t n) noexcept nogil:
    """n floats, on whole registers."""
    return (n + LANES - 1) // LANES * LANES


cdef inline void plan_packed(Plan *plan, Correlation *p, int elements=1) noexcept:
    """A place for the packed weights, each element's on a cache line."""
    p.run = correlate
    p.packed = plan.packed
    plan.packed += elements * packed_size(p)
