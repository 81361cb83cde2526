"""The engine: a list of layers, planned once, then run on whole batches without the GIL.

    block    LANES images, interleaved: element [c][h][w] of a map is one register
    map      values between two layers, [C][H][W] lanes; map i is what op i reads
    op       a layer with arithmetic; an activation is part of the op before it
    shard    consecutive blocks of a batch that add to one gradient buffer
    chunk    the images between two reductions; bounds the memory of any batch size

A network runs in one of two ways. Block by block: a thread takes a block through all ops
while its maps stay in the cache. Op by op, if an op needs the whole batch or its weights
are many: all blocks go through an op before any goes through the next, and threads share
an op's blocks, channels or filters.

What is added to what, and in which order, follows from the position of an image in its
batch alone, never from the number of threads: the same batch gives the same bits on any.
"""

from cython.parallel cimport parallel, prange

from libc.math cimport sqrt
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from lenet5c.core.activation cimport (
    IDENTITY, RELU, TANH, activation_backward, activation_forward,
)
from lenet5c.core.augment cimport (
    OPS, TAPS_MOST, Augment, augment_scratch, lane_keys, pack_augmented, plan_bends,
)
from lenet5c.core.conv cimport (
    Convolution, Correlation, blocks_bias_gradient, conv_backward_params, correlate,
    correlate_blocks, correlation_tile, pack_weights, packed_size, pad_columns,
)
from lenet5c.core.dense cimport (
    dense_backward_params, input_row, output_row, turn_block,
)
from lenet5c.core.lanes cimport (
    CACHE_LINE, LANES, TILE_PAIR_F, TILE_PAIR_X, lanes, lanes_if_less, lanes_keep,
    lanes_set, lanes_sum, lanes_uniform, odd_lines, ulanes,
)
from lenet5c.core.loss cimport softmax_cross_entropy
from lenet5c.core.norm cimport (
    Channel, batch_norm_backward, channel_statistics, inverse_deviation, scale_channel,
)
from lenet5c.core.pack cimport Images, load_rows, pack_block, unpack_block
from lenet5c.core.pool cimport (
    Pooling, avg_pool_backward, avg_pool_forward, global_avg_pool_backward,
    global_avg_pool_forward, max_pool_backward, max_pool_forward,
)
from lenet5c.core.random cimport subkey
from lenet5c.core.tile cimport PAIR, cheapest_tile, tile_filters
from lenet5c.core.turned cimport (
    Panels, convolution_of_panels, panel_floats, panels_at, panels_backward_params,
    patch_lanes, take_patches, takes_patches, tile_floats, turn_maps,
    turned_backward_params, turning_pays,
)
from lenet5c.core.update cimport adamw_step, average_step, sgd_step, squares
from lenet5c.core.winograd cimport (
    PLANES, add_weight_gradient, pack_winograd, tiles_across, winograd_backward,
    winograd_backward_params, winograd_forward, winograd_pays, winograd_scratch,
)

cdef extern from "openmp.h" nogil:
    int lenet5c_max_threads()
    int lenet5c_thread()
    int lenet5c_has_openmp()
    int lenet5c_make_fork_safe()

cdef extern from *:
    """
    #if defined(__clang__)
    #define LENET5C_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define LENET5C_COMPILER "gcc " __VERSION__
    #else
    #define LENET5C_COMPILER "unknown"
    #endif
    """
    const char *LENET5C_COMPILER
    const char *LENET5C_VERSION  # setup.py takes it from pyproject.toml

lenet5c_make_fork_safe()

lanes_per_block = LANES
compiler = LENET5C_COMPILER.decode()
version = LENET5C_VERSION.decode()
openmp = bool(lenet5c_has_openmp())

cdef enum:
    CHUNK = 256  # images between two reductions
    SLICE = 4096  # floats of a parameter vector that one task sums or updates
    SHARD_FLOATS = 1 << 22  # all shards' gradient buffers together, at the most
    MANY_WEIGHTS = 1 << 20  # of all convolutions: a network with more runs op by op
    GROUP_BYTES = 1 << 18  # of maps that one task of a convolution goes through
    PANEL_BYTES = 1 << 25  # of panels that there are at a time
    TASKS = 16  # of an op, at least, where it can be cut

cdef enum Kind:
    CONV
    DENSE
    AVG_POOL
    MAX_POOL
    GLOBAL_AVG_POOL
    ACTIVATION
    DROPOUT
    BATCH_NORM
    ADD

cdef struct Op:
    int kind
    int activation  # applied to this op's output
    int source, other  # the map that it reads, and the second one of an addition
    int below, below_other  # the activations whose outputs these are
    Py_ssize_t inputs, outputs  # lanes in its maps
    Py_ssize_t x_block, y_block  # lanes from one block's map to the next, op by op
    bint needs_dx, needs_other
    bint adds, adds_other  # to a gradient that a later op has written
    bint biased
    bint foldable  # a convolution that takes in the batch normalisation after it
    int channels  # of batch normalisation and global pooling
    float momentum, eps
    Py_ssize_t running  # offset of the running mean, then variance, in the state
    Py_ssize_t norm  # offset of two numbers a channel, in the workspace
    Py_ssize_t group  # blocks of one task
    bint winograd  # a convolution in planes; `forward` and `backward` are of one plane
    bint turned  # its weight gradient has lanes over channels, (F, KH, KW, C) in shards
    Convolution of_panels  # whose weight gradient this is, op by op: of patches or itself
    Py_ssize_t band  # blocks whose panels there are at a time
    Correlation forward
    Correlation *backward  # input gradient, one part for each residue of the stride
    int backward_parts
    bint gaps  # the stride leaves pixels that no kernel tap touches: their gradient is 0
    Convolution conv
    Pooling pool
    float rate  # share of the values that dropout takes away
    int padding_left, padded_width  # x with zero columns, 0 wide where there is no padding
    Py_ssize_t padded  # where in the arena
    int dy_left, dy_width  # dy with zero columns, likewise
    Py_ssize_t weight, bias  # offsets in the flat parameters
    Py_ssize_t gradient, bias_gradient  # offsets in a shard's gradients (convolution)
    Py_ssize_t x_rows, dy_rows  # offsets in the chunk's rows (dense)

cdef struct Task:
    int op
    int part  # packing: 0 the forward weights, 1 + i backward part i
    Py_ssize_t start, count

cdef struct Call:
    # one call of the engine: what to read and where to write
    const float *parameters
    float *packed  # the weights in tile order
    float *norms  # two numbers for each channel of batch normalisation
    float *running  # the state whose running statistics move, or NULL
    Images images
    const Py_ssize_t *positions  # which image is the n-th of the batch; NULL: n
    const int *labels  # by image, or NULL
    const float *weights  # of the images' losses, by image; NULL: 1
    Py_ssize_t count
    float share  # what the gradient of one image's loss is multiplied by
    float smoothing  # of the labels
    const Augment *augment  # NULL: images as they are
    uint64_t key  # of all random numbers of this call
    bint add  # add to `gradient` instead of overwriting it
    const float *dy  # (N, outputs) where there are no labels
    float *y  # (N, outputs of the last op that runs), or NULL
    float *dx  # (N, inputs), or NULL
    float *gradient  # flat, or NULL: forward alone
    float *losses
    unsigned char *hits
    int ops  # how many of them run

cdef struct Block:
    # the images of one block
    int count
    Py_ssize_t[LANES] positions
    int[LANES] labels  # -1 where there is no image
    float[LANES] weights


cdef void *aligned_zeros(size_t bytes) except NULL:
    """Zeroed memory on a cache line; free it with `aligned_free`."""
    cdef char *raw = <char *>calloc(1, bytes + 2 * CACHE_LINE)
    cdef char *start
    if raw == NULL:
        raise MemoryError(f"could not allocate {bytes} bytes")
    start = <char *>((<size_t>raw + 2 * CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)
    (<void **>(start - sizeof(void *)))[0] = raw  # for aligned_free
    return start


cdef void aligned_free(void *start) noexcept:
    if start != NULL:
        free((<void **>(<char *>start - sizeof(void *)))[0])


cdef class Workspace:
    """Scratch memory of one call at a time; grown when a call needs more."""

    cdef char **arenas  # maps of a block, one arena a thread
    cdef int threads
    cdef float *packed
    cdef float *norms
    cdef float *shards
    cdef char *maps  # of all blocks, where ops run one by one
    cdef Block *blocks
    cdef Py_ssize_t map_bytes, block_count
    cdef float *rows
    cdef float *losses
    cdef unsigned char *hits
    cdef Py_ssize_t images

    def __cinit__(self):
        self.arenas = NULL

    def __dealloc__(self):
        cdef int t
        for t in range(self.threads):
            aligned_free(self.arenas[t])
        free(self.arenas)
        aligned_free(self.packed)
        aligned_free(self.norms)
        aligned_free(self.maps)
        aligned_free(self.blocks)
        aligned_free(self.shards)
        aligned_free(self.rows)
        aligned_free(self.losses)
        aligned_free(self.hits)

    cdef int reserve(
        self, Network net, int threads, Py_ssize_t images, bint training
    ) except -1:
        cdef char **arenas
        cdef int t
        if net.op_by_op:
            self.reserve_maps(net, images, training)
        if threads > self.threads:
            arenas = <char **>calloc(threads, sizeof(char *))
            if arenas == NULL:
                raise MemoryError("could not allocate the threads' scratch")
            if self.arenas != NULL:
                memcpy(arenas, self.arenas, self.threads * sizeof(char *))
                free(self.arenas)
            self.arenas = arenas
            for t in range(self.threads, threads):
                arenas[t] = <char *>aligned_zeros(net.arena * sizeof(lanes))
                self.threads = t + 1
        if self.packed == NULL:
            self.packed = <float *>aligned_zeros(net.packed * sizeof(float))
            self.norms = <float *>aligned_zeros(net.norms * sizeof(float))
        if not training:
            return 0
        if self.shards == NULL:
            self.rows = <float *>aligned_zeros(net.rows * sizeof(float))
            self.shards = <float *>aligned_zeros(
                net.shards * net.shard_floats * sizeof(float)
            )
        if images > self.images:
            self.images = 0
            aligned_free(self.losses)
            self.losses = NULL
            aligned_free(self.hits)
            self.hits = NULL
            self.losses = <float *>aligned_zeros(images * sizeof(float))
            self.hits = <unsigned char *>aligned_zeros(images)
            self.images = images
        return 0

    cdef int reserve_maps(self, Network net, Py_ssize_t images, bint training) except -1:
        """The maps of a whole batch, or in prediction of a chunk."""
        if not training:
            images = min(images, <Py_ssize_t>CHUNK)
        cdef Py_ssize_t blocks = even_blocks(images)
        cdef Py_ssize_t size = net.all_maps if training else net.few_maps
        cdef Py_ssize_t panels = net.panel_lanes(blocks) if training else 0
        cdef Py_ssize_t bytes = (blocks * size + panels) * sizeof(lanes)
        if bytes > self.map_bytes:
            self.map_bytes = 0
            aligned_free(self.maps)
            self.maps = NULL
            self.maps = <char *>aligned_zeros(bytes)
            self.map_bytes = bytes
        if blocks > self.block_count:
            self.block_count = 0
            aligned_free(self.blocks)
            self.blocks = NULL
            self.blocks = <Block *>aligned_zeros(blocks * sizeof(Block))
            self.block_count = blocks
        return 0


cdef class Network:
    """A planned network.

    Parameters
    ----------
    layers : list of dict
        What each layer with arithmetic is, in order: "kind" (of lenet5c.layers),
        "input_shape" and "output_shape" (C, H, W) and the layer's own sizes; a residual
        layer has two such lists, "layers" and "shortcut".
    input_shape : (int, int, int)
        C, H, W of the first map.
    input_gradient : bool
        Whether the gradient of the input will be asked for.
    op_by_op : bool or None
        Whether all blocks go through an op before the next; None decides by the layers.
    """

    cdef Op *ops
    cdef int count
    cdef int C, H, W
    cdef Py_ssize_t *kept  # where each map lies in the arena when all are kept
    cdef Py_ssize_t *reused  # and when only the last two are
    cdef Py_ssize_t[2] gradients  # where two maps of gradients lie
    cdef Py_ssize_t dy_padded
    cdef Py_ssize_t planes  # where a convolution has its scratch
    cdef Py_ssize_t image_rows
    cdef Py_ssize_t arena  # lanes
    cdef Py_ssize_t packed, rows, parameters, shard_floats, shards
    cdef Py_ssize_t buffers  # floats behind the parameters in the state
    cdef Py_ssize_t norms
    cdef bint op_by_op
    cdef int *activations  # by map, that of the op which wrote it
    cdef Py_ssize_t *sizes  # of the maps, in lanes of a block
    cdef Py_ssize_t *of_gradients  # where the gradients of the maps lie, op by op
    cdef Py_ssize_t all_maps, few_maps  # lanes of a block, in training and prediction
    cdef Py_ssize_t shard_blocks
    cdef Task *packing
    cdef Task *reducing
    cdef int packing_tasks, reducing_tasks
    cdef list workspaces
    cdef list op_of_layer

    def __cinit__(
        self, list layers, input_shape, bint input_gradient=False, op_by_op=None
    ):
        cdef Py_ssize_t most = count_layers(layers) + 1
        self.workspaces = []
        self.C, self.H, self.W = input_shape
        self.ops = <Op *>calloc(most, sizeof(Op))
        self.kept = <Py_ssize_t *>calloc(most, sizeof(Py_ssize_t))
        self.reused = <Py_ssize_t *>calloc(most, sizeof(Py_ssize_t))
        self.of_gradients = <Py_ssize_t *>calloc(most, sizeof(Py_ssize_t))
        self.sizes = <Py_ssize_t *>calloc(most, sizeof(Py_ssize_t))
        self.activations = <int *>calloc(most, sizeof(int))
        if (
            self.ops == NULL or self.kept == NULL or self.reused == NULL
            or self.of_gradients == NULL or self.sizes == NULL
            or self.activations == NULL
        ):
            raise MemoryError("could not allocate the plan")
        self.op_by_op = runs_op_by_op(layers) if op_by_op is None else op_by_op
        for layer in layers:
            if not self.op_by_op and layer["kind"] in OP_BY_OP:
                raise ValueError(
                    f"a layer of kind {layer['kind']!r} does not run block by block"
                )
        self.op_of_layer = []
        self.sizes[0] = size_of(input_shape)
        self.plan_layers(layers, 0)
        self.plan_buffers()
        self.plan_gradients(input_gradient)
        if self.op_by_op:
            self.plan_maps()
        else:
            self.plan_memory()
        self.plan_tasks()

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            free(self.ops[i].backward)
        free(self.ops)
        free(self.kept)
        free(self.reused)
        free(self.of_gradients)
        free(self.sizes)
        free(self.activations)
        free(self.packing)
        free(self.reducing)

    cdef int plan_layers(self, list layers, int source) except -1:
        """Append the ops of layers that read map `source`; return the last one's map."""
        cdef Op *op
        cdef int fusable = -1  # the map that no other op reads
        for layer in layers:
            kind = layer["kind"]
            activation = {"tanh": TANH, "relu": RELU}.get(kind, IDENTITY)
            if activation and source == fusable and not self.activations[source]:
                op = &self.ops[source - 1]
                if op.kind == CONV or op.kind == DENSE or op.kind >= BATCH_NORM:
                    op.activation = self.activations[source] = activation
                    self.op_of_layer.append(source - 1)
                    continue
            if kind == "residual":
                source = self.plan_residual(layer, source)
            else:
                source = self.plan_op(layer, kind, activation, source)
                op = &self.ops[source - 1]
                if kind == "batch_norm2d" and op.source == fusable:
                    op = &self.ops[op.source - 1]
                    op.foldable = op.kind == CONV and not op.activation
            fusable = source
            self.op_of_layer.append(source - 1)
        return source

    cdef int plan_residual(self, dict layer, int source) except -1:
        cdef int body = self.plan_layers(layer["layers"], source)
        cdef int shortcut = self.plan_layers(layer["shortcut"], source)
        cdef Op *op = self.new_op(layer, body)
        op.kind = ADD
        op.other = shortcut
        return self.count

    cdef Op *new_op(self, dict layer, int source) except NULL:
        cdef Op *op = &self.ops[self.count]
        self.count += 1
        op.source = source
        op.inputs = size_of(layer["input_shape"])
        op.outputs = size_of(layer["output_shape"])
        if layer["kind"] == "residual":
            op.inputs = op.outputs
        op.x_block = odd_lines(op.inputs)
        op.y_block = odd_lines(op.outputs)
        self.sizes[self.count] = op.outputs
        return op

    cdef int plan_op(self, dict layer, str kind, int activation, int source) except -1:
        """One op: its sizes, parameter offsets, tiles; return its map."""
        cdef Op *op = self.new_op(layer, source)
        op.channels = layer["input_shape"][0]
        if activation:
            op.kind = ACTIVATION
            op.activation = activation
        elif kind == "dropout":
            op.kind = DROPOUT
            op.rate = layer["rate"]
        elif kind == "avg_pool2d" or kind == "max_pool2d":
            op.kind = AVG_POOL if kind == "avg_pool2d" else MAX_POOL
            self.plan_pool(op, layer)
        elif kind == "global_avg_pool2d":
            op.kind = GLOBAL_AVG_POOL
        elif kind == "dense":
            op.biased = True
            self.plan_dense(op, op.inputs, op.outputs)
        elif kind == "conv2d":
            op.biased = layer.get("bias", True)
            self.plan_conv(op, layer)
        elif kind == "batch_norm2d":
            op.kind = BATCH_NORM
            op.momentum = layer["momentum"]
            op.eps = layer["eps"]
            self.plan_parameters(op, op.channels, op.channels)
            op.norm = self.norms
            self.norms += 2 * op.channels
        else:
            raise ValueError(f"no kernel for a layer of kind {kind!r}")
        return self.count

    cdef int plan_buffers(self) except -1:
        """Where the running statistics lie: behind all parameters."""
        cdef Op *op
        cdef int i
        for i in range(self.count):
            op = &self.ops[i]
            if op.kind == BATCH_NORM:
                op.running = self.parameters + self.buffers
                self.buffers += 2 * op.channels
        return 0

    cdef int plan_gradients(self, bint input_gradient) except -1:
        """Which ops write the gradient of what they read, and how."""
        cdef Op *op
        cdef int i
        needed = [input_gradient]
        for i in range(self.count):
            op = &self.ops[i]
            op.needs_dx = needed[op.source]
            op.below = self.activations[op.source]
            if op.kind == ADD:
                op.needs_other = needed[op.other]
                op.below_other = self.activations[op.other]
            has_parameters = op.kind == CONV or op.kind == DENSE or op.kind == BATCH_NORM
            needed.append(has_parameters or op.needs_dx or op.needs_other)
        written = set()
        for i in range(self.count - 1, -1, -1):
            op = &self.ops[i]
            op.adds = op.source in written
            written.add(op.source)
            if op.kind == ADD:
                op.adds_other = op.other in written
                written.add(op.other)
            if op.needs_dx and op.kind == DENSE:
                self.plan_dense_backward(op)
            elif op.needs_dx and op.winograd:
                self.plan_winograd_backward(op)
            elif op.needs_dx and op.kind == CONV:
                self.plan_conv_backward(op)
        return 0

    cdef int plan_pool(self, Op *op, dict layer) except -1:
        op.pool.channels, op.pool.height, op.pool.width = layer["input_shape"]
        _, op.pool.out_h, op.pool.out_w = layer["output_shape"]
        op.pool.window = layer["kernel_size"]
        op.pool.stride = layer["stride"]
        op.pool.padding = layer.get("padding", 0)
        return 0

    cdef int plan_parameters(self, Op *op, Py_ssize_t weights, Py_ssize_t biases) except -1:
        op.weight = self.parameters
        op.bias = self.parameters + weights
        self.parameters += weights + (biases if op.biased or op.kind == BATCH_NORM else 0)
        return 0

    cdef int plan_packed(self, Correlation *p, int planes=1) except -1:
        """A place for the packed weights, each plane on a cache line."""
        p.packed = self.packed
        self.packed += planes * packed_size(p)
        return 0

    cdef int plan_dense(self, Op *op, int inputs, int outputs) except -1:
        """y = weight x + bias: a correlation of one row with I taps."""
        cdef Correlation *p = &op.forward
        if self.op_by_op:
            self.plan_conv(op, {
                "input_shape": (inputs, 1, 1), "output_shape": (outputs, 1, 1),
                "kernel_size": (1, 1), "stride": 1, "padding": 0,
            })
            return 0
        op.kind = DENSE
        self.plan_parameters(op, <Py_ssize_t>inputs * outputs, outputs)
        p.channels = p.rows = p.height = p.out_h = p.out_w = p.step = 1
        p.taps = inputs
        p.filters = outputs
        p.x_row = p.right = inputs
        p.y_filter = p.y_row = p.y_column = 1
        p.w_filter = inputs
        p.w_tap = 1
        p.tile = cheapest_tile(outputs, 1, False)
        self.plan_packed(p)
        op.x_rows = self.rows
        self.rows += CHUNK * input_row(inputs)
        op.dy_rows = self.rows
        self.rows += CHUNK * output_row(outputs)
        return 0

    cdef int plan_dense_backward(self, Op *op) except -1:
        cdef Correlation *p = new_parts(op, 1)
        op.backward_parts = 1
        p[0] = op.forward
        p.taps = op.outputs
        p.filters = op.inputs
        p.x_row = p.right = op.outputs
        p.w_filter = 1
        p.w_tap = op.inputs
        p.tile = cheapest_tile(op.inputs, 1, False)
        self.plan_packed(p)
        return 0

    cdef int plan_conv(self, Op *op, dict layer) except -1:
        cdef int C, H, W, F, OH, OW, KH, KW, S, P
        cdef Correlation *p = &op.forward
        C, H, W = layer["input_shape"]
        F, OH, OW = layer["output_shape"]
        KH, KW = layer["kernel_size"]
        S = layer["stride"]
        P = layer["padding"]
        if P == 0 and KH == H and KW == W and not self.op_by_op:
            self.plan_dense(op, C * H * W, F)
            return 0
        size_of((C, H + 2 * P, W + 2 * P + KW))
        size_of((F, C, KH, KW))
        op.kind = CONV
        self.plan_parameters(op, <Py_ssize_t>F * C * KH * KW, F)
        op.padding_left = P
        op.conv.channels = C
        op.conv.height = H
        op.conv.width = W
        op.conv.filters = F
        op.conv.out_h = OH
        op.conv.out_w = OW
        op.conv.kernel_h = KH
        op.conv.kernel_w = KW
        op.conv.stride = S
        op.conv.top = -P
        op.winograd = winograd_pays(&op.conv, self.op_by_op)
        if self.op_by_op:
            self.plan_blocks(op)
        if op.winograd:
            return self.plan_winograd(op)
        p.channels = C
        p.rows = KH
        p.taps = KW
        p.height = H
        p.filters = F
        p.out_h = OH
        p.out_w = OW
        p.top = -P
        p.step = S
        p.left = P
        p.right = P + W
        p.x_row = W + 2 * P
        if self.op_by_op:
            p.x_row = W
            p.x_start = -P
        p.x_channel = H * p.x_row
        p.y_column = 1
        p.y_row = OW
        p.y_filter = OH * OW
        p.w_filter = C * KH * KW
        p.w_channel = KH * KW
        p.w_row = KW
        p.w_tap = 1
        p.tile = correlation_tile(p)
        if self.op_by_op:
            p.tile = PAIR
            leave_padding(p)
        self.plan_packed(p)
        if self.op_by_op:
            return 0
        if P:
            op.padded_width = op.conv.width = W + 2 * P
        op.conv.tile = cheapest_tile(F, KW, True)
        op.turned = turning_pays(&op.conv)
        self.plan_shard_gradient(op, KH * KW)
        return 0

    cdef int plan_blocks(self, Op *op) except -1:
        """How the tasks of a convolution share out blocks and filters, op by op."""
        cdef Convolution *p = &op.conv
        cdef Py_ssize_t block = max(op.inputs, op.outputs) * sizeof(lanes)
        cdef Py_ssize_t group = GROUP_BYTES // (TILE_PAIR_X * block)
        p.left = p.top
        op.of_panels = convolution_of_panels(p)
        op.band = max(1, PANEL_BYTES // (panel_floats(&op.of_panels) * sizeof(lanes)))
        op.group = TILE_PAIR_X * max(<Py_ssize_t>1, group)
        if op.winograd:
            op.group = TILE_PAIR_X  # its tasks cannot share out filters
        return 0

    cdef int plan_shard_gradient(self, Op *op, int kernel) except -1:
        """Room for a convolution's gradient in the buffer of each shard."""
        op.gradient = self.shard_floats
        op.bias_gradient = op.gradient + (
            <Py_ssize_t>op.conv.filters * op.conv.channels * kernel
        )
        self.shard_floats = (op.bias_gradient + op.conv.filters + 15) // 16 * 16
        return 0

    cdef int plan_winograd(self, Op *op) except -1:
        cdef Correlation *p = &op.forward
        self.plan_plane(op, p, op.conv.filters, op.conv.channels)
        p.w_filter = op.conv.channels * 9
        p.w_tap = 9
        if not self.op_by_op:
            self.plan_shard_gradient(op, PLANES)
        return 0

    cdef int plan_winograd_backward(self, Op *op) except -1:
        cdef Correlation *p = new_parts(op, 1)
        op.backward_parts = 1
        self.plan_plane(op, p, op.conv.channels, op.conv.filters)
        p.w_filter = 9
        p.w_tap = op.conv.channels * 9
        return 0

    cdef int plan_plane(self, Op *op, Correlation *p, int filters, int taps) except -1:
        """The product of one plane, and room for the weights of all."""
        cdef int across = tiles_across(op.conv.out_w)
        p.channels = p.rows = p.height = p.out_h = 1
        p.taps = p.step = taps
        p.right = taps * across
        p.filters = filters
        p.out_w = p.y_filter = across
        p.y_column = 1
        p.tile = cheapest_tile(
            filters, across * TILE_PAIR_X if self.op_by_op else across, False
        )
        self.plan_packed(p, PLANES)
        return 0

    cdef int plan_conv_backward(self, Op *op) except -1:
        """dx, for each residue (py, px) of its rows and columns modulo the stride.

        Output row oy touches input row oy S - P + ky. The rows py + S i of dx are touched
        by the kernel rows ky = (py + P) % S + S m alone, by output row
        i + (py + P) // S - m: a correlation of dy with every S-th kernel row, turned round.
        """
        cdef Correlation *p
        cdef int py, px, rows, taps
        cdef int left = 0
        cdef int right = 0
        cdef int C = op.conv.channels
        cdef int F = op.conv.filters
        cdef int KH = op.conv.kernel_h
        cdef int KW = op.conv.kernel_w
        cdef int OH = op.conv.out_h
        cdef int OW = op.conv.out_w
        cdef int S = op.conv.stride
        cdef int P = op.padding_left
        cdef int H = op.conv.height
        cdef int W = op.conv.width - (0 if self.op_by_op else 2 * P)
        new_parts(op, <size_t>min(S, KH) * min(S, KW))
        op.backward.filters = C  # if there is no part: what tasks fill with zeros
        op.gaps = S > KH or S > KW
        for py in range(min(S, H)):
            rows = (KH - (py + P) % S + S - 1) // S
            if rows <= 0:
                continue
            for px in range(min(S, W)):
                taps = (KW - (px + P) % S + S - 1) // S
                if taps <= 0:
                    continue
                p = &op.backward[op.backward_parts]
                op.backward_parts += 1
                p.channels = F
                p.rows = rows
                p.taps = taps
                p.height = OH
                p.filters = C
                p.out_h = (H - py + S - 1) // S
                p.out_w = (W - px + S - 1) // S
                p.top = (py + P) // S - (rows - 1)
                p.x_start = (px + P) // S - (taps - 1)
                p.step = 1
                p.y_start = py * W + px
                p.y_column = S
                p.y_row = S * W
                p.y_filter = H * W
                p.w_start = (
                    ((py + P) % S + S * (rows - 1)) * KW + (px + P) % S + S * (taps - 1)
                )
                p.w_filter = KH * KW
                p.w_channel = <Py_ssize_t>C * KH * KW
                p.w_row = -S * KW
                p.w_tap = -S
                p.left = -p.x_start
                p.right = OW - p.x_start
                p.tile = correlation_tile(p)
                p.x_row = OW
                if self.op_by_op:
                    p.tile = PAIR
                    leave_padding(p)
                self.plan_packed(p)
                left = max(left, -p.x_start)
                right = max(right, p.x_start + p.out_w - 1 + taps - OW)
        if self.op_by_op:
            left = right = 0
        op.dy_left = left
        op.dy_width = OW + left + right
        size_of((F, OH, op.dy_width))
        for py in range(op.backward_parts):
            op.backward[py].x_start += left
            op.backward[py].x_row = op.dy_width
            op.backward[py].x_channel = OH * op.dy_width
        return 0

    cdef int plan_maps(self) except -1:
        """Where the maps and their gradients lie, op by op.

        Op i runs at the time i and its backward pass at 2 count - i; a map takes a place
        from the time when it is written to when it is read for the last time.
        """
        cdef Op *op
        cdef Py_ssize_t planes_most = 0
        cdef int i, m
        last = [0] * (self.count + 1)  # op that reads the map
        for i in range(self.count):
            op = &self.ops[i]
            last[op.source] = i
            if op.kind == ADD:
                last[op.other] = i
        last[self.count] = self.count
        sizes = [odd_lines(self.sizes[m]) for m in range(self.count + 1)]
        training = [
            (m - 1, 2 * self.count - (m - 1), sizes[m]) for m in range(self.count + 1)
        ] + [
            (2 * self.count - last[m], 2 * self.count - (m - 1), sizes[m])
            for m in range(self.count + 1)
        ]
        prediction = []
        for m in range(self.count + 1):
            # folded: written when the convolution runs
            early = m > 1 and self.ops[m - 1].kind == BATCH_NORM
            prediction.append((m - 1 - early, max(last[m], m - 1), sizes[m]))
        places, self.all_maps = places_of(training)
        for m in range(self.count + 1):
            self.kept[m] = places[m]
            self.of_gradients[m] = places[self.count + 1 + m]
        places, self.few_maps = places_of(prediction)
        for m in range(self.count + 1):
            self.reused[m] = places[m]
        # a thread's own memory: a gradient on its way into a sum, planes or the weights of
        # a tile, images being packed
        self.planes = max(sizes)
        for i in range(self.count):
            op = &self.ops[i]
            if op.winograd:
                self.planes = max(self.planes, op.group * op.x_block)
                planes_most = max(planes_most, winograd_scratch(&op.conv, op.group))
            if op.kind == CONV:
                planes_most = max(
                    planes_most, tile_floats(&op.of_panels) // LANES, patch_lanes(&op.conv)
                )
        self.image_rows = self.planes + planes_most
        self.arena = self.image_rows + max(
            <Py_ssize_t>self.W + LANES, augment_scratch(self.H, self.W)
        )
        return 0

    cdef Py_ssize_t panel_lanes(self, Py_ssize_t blocks) noexcept:
        """Lanes that the largest panels take in a batch of so many blocks."""
        cdef Py_ssize_t most = 0
        cdef const Op *op
        cdef int i
        for i in range(self.count):
            op = &self.ops[i]
            if op.kind == CONV:  # of LANES images
                most = max(most, min(op.band, blocks) * panel_floats(&op.of_panels))
        return most

    cdef int plan_memory(self) except -1:
        """Where the maps lie in a thread's arena."""
        cdef Py_ssize_t line = max(1, CACHE_LINE // sizeof(lanes))
        cdef Py_ssize_t end = 0
        cdef Py_ssize_t[2] most
        cdef Py_ssize_t dy_most = 0
        cdef Py_ssize_t planes_most = 0
        cdef Py_ssize_t size
        cdef Op *op
        cdef int i
        most[0] = most[1] = 0
        for i in range(self.count + 1):
            size = self.C * self.H * self.W
            if i > 0:
                size = self.ops[i - 1].outputs
            size = (size + line - 1) // line * line
            self.kept[i] = end
            end += size
            most[i % 2] = max(most[i % 2], size)
        for i in range(self.count):
            op = &self.ops[i]
            op.padded = end
            end += <Py_ssize_t>op.conv.channels * op.conv.height * op.padded_width
            if op.winograd:
                planes_most = max(planes_most, winograd_scratch(&op.conv, 1))
            if op.turned:
                planes_most = max(planes_most, panel_floats(&op.conv))
            dy_most = max(
                dy_most, <Py_ssize_t>op.conv.filters * op.conv.out_h * op.dy_width
            )
        # two neighbouring maps: their gradients when training, themselves when predicting
        self.gradients[0] = end
        self.gradients[1] = end + most[0]
        end += most[0] + most[1]
        for i in range(self.count + 1):
            self.reused[i] = self.gradients[i % 2]
        self.dy_padded = end
        self.planes = end + dy_most
        self.image_rows = self.planes + planes_most
        self.arena = self.image_rows + max(
            <Py_ssize_t>self.W + LANES, augment_scratch(self.H, self.W)
        )
        return 0

    cdef int plan_tasks(self) except -1:
        """What threads share out besides blocks: packing weights, summing gradients."""
        cdef Correlation *p
        cdef Op *op
        cdef int i, part, tf
        cdef Py_ssize_t n
        packing = []
        reducing = []
        for i in range(self.count):
            op = &self.ops[i]
            if op.kind != CONV and op.kind != DENSE:
                continue
            for part in range(1 + op.backward_parts):
                p = correlation_of(op, part)
                tf = tile_filters(p.tile)
                packing += [(i, part, at, 1) for at in range((p.filters + tf - 1) // tf)]
            if op.kind == DENSE:
                reducing += [
                    (i, 0, at, TILE_PAIR_F)
                    for at in range(0, op.forward.filters, TILE_PAIR_F)
                ]
            elif op.winograd or op.turned:
                reducing += [(i, 0, at, 1) for at in range(op.conv.filters)]
            else:
                n = op.bias + (op.forward.filters if op.biased else 0) - op.weight
                reducing += [
                    (i, 0, at, min(<Py_ssize_t>SLICE, n - at)) for at in range(0, n, SLICE)
                ]
        self.packing_tasks = len(packing)
        self.packing = task_array(packing)
        self.reducing_tasks = len(reducing)
        self.reducing = task_array(reducing)
        self.shard_blocks = 1
        self.shards = CHUNK // LANES
        while self.shards > 1 and self.shards * self.shard_floats > SHARD_FLOATS:
            self.shard_blocks *= 2
            self.shards = (self.shards + 1) // 2
        return 0

    @property
    def state_count(self):
        """Length of the parameters and, behind them, the running statistics."""
        return self.parameters + self.buffers

    @property
    def parameter_count(self):
        """Length of the flat parameter vector."""
        return self.parameters

    def op_after(self, int layer):
        """How many ops run up to and including layer number `layer` of the list."""
        return self.op_of_layer[layer] + 1

    def forward(
        self, const float[::1] parameters not None, images not None, stage not None,
        float[:, ::1] y not None, int threads, int ops=-1,
    ):
        """y[n] = what op number `ops` - 1 (default: the last) makes of image n.

        images : (N, C, H, W) uint8 or float32, C-contiguous
        stage : (scale, offset, background, float_scale, float_offset): a byte b becomes
            b * scale + offset, a float likewise
        y : (N, outputs) float32, written
        """
        cdef Call call
        cdef Workspace space = self.take_workspace()
        self.begin(&call, parameters, images, stage)
        call.count = y.shape[0]
        call.y = &y[0, 0]
        if ops >= 0:
            call.ops = ops
        self.run(&call, space, threads)
        self.workspaces.append(space)

    def loss_and_gradient(
        self, const float[::1] parameters not None, images not None, stage not None,
        const Py_ssize_t[::1] positions not None, const int[::1] labels not None,
        float[::1] gradient not None, int threads, *, const float[::1] weights=None,
        float smoothing=0, Py_ssize_t of=0, bint add=False, augment=None,
        uint64_t seed=0, uint64_t epoch=0, float[::1] running=None,
    ):
        """Mean loss of a batch, how many labels are right, and the gradient, written.

        images : (N, C, H, W) uint8 or float32, C-contiguous: all of the data set
        positions : (B,) intp, which images are the batch, in its order
        labels : (N,) int32, class of every image of the data set
        gradient : (parameters,) float32, written
        weights : (N,) float32, of every image's loss, or None
        smoothing : of the labels (core/loss.pxd)
        of : how many images the mean is over; 0 is B
        add : whether to add to `gradient`, which then is one over several calls
        augment : (shift, rotate, scale, shear, elastic, sigma, noise, erase), angles in
            radians, noise in units of what the network sees; or None
        seed, epoch : of the random numbers of augmentation and dropout
        running : `parameters` if the running statistics in them are to move
        """
        cdef Call call
        cdef Augment settings
        cdef Py_ssize_t n
        cdef double loss = 0
        cdef Py_ssize_t hits = 0
        cdef Workspace space = self.take_workspace()
        self.begin(&call, parameters, images, stage)
        if gradient.shape[0] != self.parameters:
            raise ValueError("gradient has another length than the parameters")
        call.count = positions.shape[0]
        call.positions = &positions[0]
        call.labels = &labels[0]
        if weights is not None:
            call.weights = &weights[0]
        call.smoothing = smoothing
        of = of if of > 0 else call.count
        call.share = 1 / <float>of
        call.gradient = &gradient[0]
        call.add = add
        call.key = subkey(seed, epoch)
        if running is not None:
            same_length(running.shape[0], self.parameters + self.buffers, running.shape[0])
            call.running = &running[0]
        if augment is not None:
            set_augment(&settings, augment)
            call.augment = &settings
        self.run(&call, space, threads)
        for n in range(call.count):
            loss += space.losses[n]
            hits += space.hits[n]
        self.workspaces.append(space)
        return loss / of, hits

    def backward(
        self, const float[::1] parameters not None, images not None, stage not None,
        const float[:, ::1] dy not None, float[::1] gradient not None,
        float[:, ::1] dx, int threads,
    ):
        """Gradients of sum(dy * y): of the parameters, written, and of the images.

        dy : (N, outputs) float32
        gradient : (parameters,) float32, written
        dx : (N, inputs) float32, written, or None
        """
        cdef Call call
        cdef float nowhere
        cdef Workspace space = self.take_workspace()
        self.begin(&call, parameters, images, stage)
        call.count = dy.shape[0]
        call.dy = &dy[0, 0]
        call.gradient = &gradient[0] if self.parameters else &nowhere
        if dx is not None:
            call.dx = &dx[0, 0]
        self.run(&call, space, threads)
        self.workspaces.append(space)

    def augmented(
        self, images not None, stage not None, const Py_ssize_t[::1] positions not None,
        float[:, ::1] y not None, augment not None, uint64_t seed, uint64_t epoch,
    ):
        """y[n] = image positions[n], as `loss_and_gradient` sees it with `augment`.

        y : (B, inputs) float32, written
        """
        cdef Call call
        cdef Augment settings
        cdef Block block
        cdef Py_ssize_t size = y.shape[1]
        cdef Py_ssize_t first
        cdef lanes *arena
        cdef Workspace space = self.take_workspace()
        self.begin(&call, None, images, stage)
        call.count = positions.shape[0]
        call.positions = &positions[0]
        set_augment(&settings, augment)
        call.augment = &settings
        call.key = subkey(seed, epoch)
        space.reserve(self, 1, call.count, False)
        arena = <lanes *>space.arenas[0]
        for first from 0 <= first < call.count by LANES:
            load_block(self, &call, arena, first, arena, &block)
            unpack_block(arena, &y[first, 0], size, size, block.count)
        self.workspaces.append(space)

    cdef int begin(self, Call *call, const float[::1] parameters, images, stage) except -1:
        cdef const unsigned char[:, :, :, ::1] bytes
        cdef const float[:, :, :, ::1] floats
        memset(call, 0, sizeof(Call))
        cdef Py_ssize_t state = self.parameters + self.buffers
        if parameters is not None and parameters.shape[0] != state:
            raise ValueError(f"expected {state} parameters, got {parameters.shape[0]}")
        if parameters is not None and self.parameters:
            call.parameters = &parameters[0]
        if images.itemsize == 1:
            bytes = images
            call.images.bytes = &bytes[0, 0, 0, 0]
        else:
            floats = images
            call.images.floats = &floats[0, 0, 0, 0]
        _, call.images.channels, call.images.height, call.images.width = images.shape
        set_stage(&call.images, stage)
        call.ops = self.count
        return 0

    cdef Workspace take_workspace(self):
        """A workspace that no other call is using; put it back into `workspaces`."""
        try:
            return self.workspaces.pop()
        except IndexError:
            return Workspace()

    cdef int run(self, Call *call, Workspace space, int threads) except -1:
        """Run a call on up to `threads` threads."""
        threads = threads_of(self, call, threads)
        space.reserve(self, threads, call.count, call.gradient != NULL)
        with nogil:
            run_call(self, call, space, threads)
        return 0


cdef Py_ssize_t size_of(shape) except -1:
    """Elements of a map or a weight, which the kernels count in C ints."""
    size = 1
    for n in shape:
        size *= n
    if size >= 1 << 31:
        raise ValueError(f"expected fewer than 2**31 elements, got the shape {shape}")
    return size


cdef Correlation *new_parts(Op *op, size_t most) except NULL:
    """Room for the parts of an op's input gradient."""
    op.backward = <Correlation *>calloc(most, sizeof(Correlation))
    if op.backward == NULL:
        raise MemoryError("could not allocate the plan")
    return op.backward


OP_BY_OP = ("residual", "batch_norm2d")  # kinds that need two maps or the whole batch


def count_layers(layers):
    """How many layers there are, those inside of others included."""
    return len(layers) + sum(
        count_layers(layer[branch])
        for layer in layers if layer["kind"] == "residual"
        for branch in ("layers", "shortcut")
    )


def runs_op_by_op(layers):
    """Whether a layer needs the whole batch or two maps, or the convolutions' weights are
    too many for a buffer in each shard."""
    if any(layer["kind"] in OP_BY_OP for layer in layers):
        return True
    weights = sum(
        layer["input_shape"][0] * layer["output_shape"][0]
        * layer["kernel_size"][0] * layer["kernel_size"][1]
        for layer in layers if layer["kind"] == "conv2d"
    )
    return weights > MANY_WEIGHTS


def places_of(wants):
    """Places in one memory for (first time, last time, size), and how long it is.

    Two that overlap in time do not overlap in place. Taken in the order of their first
    time, at the first gap that is large enough.
    """
    places = [0] * len(wants)
    placed = []
    length = 0
    for number in sorted(range(len(wants)), key=lambda n: wants[n][0]):
        first, last, size = wants[number]
        at = 0
        for start, end, other_first, other_last in sorted(placed):
            if other_last < first or last < other_first:
                continue
            if start - at >= size:
                break
            at = max(at, end)
        places[number] = at
        placed.append((at, at + size, first, last))
        length = max(length, at + size)
    return places, length


cdef void leave_padding(Correlation *p) noexcept:
    """Leave out the rows and columns of the kernel that only ever lie in the padding."""
    cdef int first = max(0, -(p.top + (p.out_h - 1) * p.step))
    cdef int end = min(p.rows, p.height - p.top)
    p.w_start += first * p.w_row
    p.top += first
    p.rows = max(0, end - first)
    first = max(0, p.left - (p.out_w - 1) * p.step)
    end = min(p.taps, p.right)
    p.w_start += first * p.w_tap
    p.x_start += first
    p.left -= first
    p.right -= first
    p.taps = max(0, end - first)


cdef Task *task_array(list tasks) except NULL:
    """The tasks (op, part, start, count) as a C array."""
    cdef Task *array = <Task *>calloc(len(tasks) + 1, sizeof(Task))
    cdef int i
    if array == NULL:
        raise MemoryError("could not allocate the plan")
    for i in range(len(tasks)):
        array[i].op, array[i].part, array[i].start, array[i].count = tasks[i]
    return array


cdef Correlation *correlation_of(Op *op, int part) noexcept nogil:
    """Part 0 is the forward pass, 1 + i is part i of the input gradient."""
    if part == 0:
        return &op.forward
    return &op.backward[part - 1]


cdef int threads_of(Network net, const Call *call, int threads) noexcept nogil:
    """How many of so many threads have something to do."""
    if net.op_by_op:
        return threads
    return max(1, min(<Py_ssize_t>threads, (call.count + LANES - 1) // LANES))


cdef void run_call(Network net, Call *call, Workspace space, int threads) noexcept nogil:
    """Run a call in a workspace that has room for it."""
    if net.op_by_op:
        run_op_by_op(net, call, space, threads)
        return
    cdef bint training = call.gradient != NULL
    cdef int blocks = (call.count + LANES - 1) // LANES
    cdef int slices = slices_of(net.parameters) if training and not call.add else 0
    cdef int i
    cdef int shards = 0
    cdef int chunk = 0
    cdef int chunks = (call.count + CHUNK - 1) // CHUNK
    threads = threads_of(net, call, threads)
    call.losses = space.losses
    call.hits = space.hits
    call.packed = space.packed
    with parallel(num_threads=threads):
        for i in prange(net.packing_tasks + slices, schedule="dynamic", chunksize=4):
            run_preparing(net, call, i)
        if training:
            for chunk in range(chunks):
                shards = shards_of(net, call, chunk)
                for i in prange(shards, schedule="dynamic"):
                    run_shard(net, call, space, chunk, i)
                for i in prange(net.reducing_tasks, schedule="dynamic"):
                    run_reducing(net, call, space, chunk, &net.reducing[i])
        else:
            for i in prange(blocks, schedule="dynamic"):
                run_block_forward(net, call, space, i)


cdef void run_preparing(Network net, Call *call, int i) noexcept nogil:
    """Pack tile number i of all weights, or zero a slice of the gradient."""
    cdef Py_ssize_t start
    if i < net.packing_tasks:
        run_packing(net, call, &net.packing[i])
        return
    start = <Py_ssize_t>(i - net.packing_tasks) * SLICE
    memset(
        call.gradient + start, 0,
        min(<Py_ssize_t>SLICE, net.parameters - start) * sizeof(float),
    )


cdef void run_packing(Network net, Call *call, const Task *task) noexcept nogil:
    """One tile of one layer's weights into the order in which it is read."""
    cdef Op *op = &net.ops[task.op]
    cdef Correlation *p = correlation_of(op, task.part)
    cdef Py_ssize_t size, i
    cdef int tf, valid, plane
    cdef float *packed
    cdef const float *scales
    if task.part > 0 and call.gradient == NULL:
        return
    if op.winograd:
        pack_winograd(p, call.parameters + op.weight, call.packed + p.packed, task.start)
    else:
        pack_weights(p, call.parameters + op.weight, call.packed + p.packed, task.start)
    if not is_folded(net, call, task.op):
        return
    tf = tile_filters(p.tile)
    valid = min(tf, p.filters - tf * task.start)
    size = <Py_ssize_t>p.channels * p.rows * p.taps * tf
    scales = call.norms + net.ops[task.op + 1].norm + tf * task.start
    for plane in range(PLANES if op.winograd else 1):
        packed = call.packed + p.packed + plane * packed_size(p) + task.start * size
        for i in range(size):
            if i % tf < valid:
                packed[i] *= scales[i % tf]


cdef int shards_of(Network net, const Call *call, int chunk) noexcept nogil:
    """How many shards the images of a chunk make."""
    cdef Py_ssize_t images = min(<Py_ssize_t>CHUNK, call.count - <Py_ssize_t>chunk * CHUNK)
    cdef Py_ssize_t of_shard = net.shard_blocks * LANES
    return (images + of_shard - 1) // of_shard


cdef void load_block(
    Network net, const Call *call, lanes *arena, Py_ssize_t first, lanes *x, Block *block
) noexcept nogil:
    """The images from `first` on into x, and what is known of them into `block`."""
    cdef lanes *scratch = arena + net.image_rows
    cdef int n
    block.count = min(<Py_ssize_t>LANES, call.count - first)
    for n in range(LANES):
        block.labels[n] = -1
        block.weights[n] = 0
        if n < block.count:
            block.positions[n] = first + n
            if call.positions != NULL:
                block.positions[n] = call.positions[first + n]
            if call.labels != NULL:
                block.labels[n] = call.labels[block.positions[n]]
            block.weights[n] = 1
            if call.weights != NULL:
                block.weights[n] = call.weights[block.positions[n]]
    if call.augment != NULL:
        pack_augmented(
            &call.images, block.positions, block.count, call.augment, call.key, x,
            scratch, net.H, net.W,
        )
    else:
        pack_block(
            &call.images, block.positions, block.count, x, <float *>scratch, net.H, net.W
        )


cdef void run_block_forward(
    Network net, const Call *call, Workspace space, Py_ssize_t block
) noexcept nogil:
    """Images to outputs, keeping no map longer than the next op needs it."""
    cdef lanes *arena = <lanes *>space.arenas[lenet5c_thread()]
    cdef Block images
    cdef Py_ssize_t first = block * LANES
    cdef int i
    cdef Py_ssize_t outputs
    load_block(net, call, arena, first, arena + net.reused[0], &images)
    for i in range(call.ops):
        op_forward(
            net, i, call, NULL, arena, arena + net.reused[i], arena + net.reused[i + 1]
        )
    outputs = net.ops[call.ops - 1].outputs
    unpack_block(
        arena + net.reused[call.ops], call.y + first * outputs, outputs, outputs,
        images.count,
    )


cdef void run_shard(
    Network net, const Call *call, Workspace space, int chunk, int shard
) noexcept nogil:
    """Forward, loss and backward of a shard's blocks, one by one."""
    cdef lanes *arena = <lanes *>space.arenas[lenet5c_thread()]
    cdef float *gradient = space.shards + shard * net.shard_floats
    cdef Py_ssize_t end = min(call.count, <Py_ssize_t>(chunk + 1) * CHUNK)
    cdef Py_ssize_t first
    cdef int b
    memset(gradient, 0, net.shard_floats * sizeof(float))
    for b in range(net.shard_blocks):
        first = <Py_ssize_t>chunk * CHUNK + (shard * net.shard_blocks + b) * LANES
        if first < end:
            run_block(net, call, space, arena, gradient, first, first % CHUNK)


cdef void run_block(
    Network net, const Call *call, Workspace space, lanes *arena, float *gradient,
    Py_ssize_t first, Py_ssize_t row,
) noexcept nogil:
    """Forward, loss and backward of one block; `row` is its first row in the chunk."""
    cdef Block block
    cdef int last = net.count
    cdef lanes *logits = arena + net.kept[last]
    cdef lanes *dy = arena + net.gradients[last % 2]
    cdef Op *op = &net.ops[last - 1]
    cdef int i
    load_block(net, call, arena, first, arena + net.kept[0], &block)
    for i in range(last):
        op_forward(
            net, i, call, &block, arena, arena + net.kept[i], arena + net.kept[i + 1]
        )
    if call.labels != NULL:
        softmax_cross_entropy(
            logits, block.labels, block.weights, op.outputs, call.share, call.smoothing,
            dy, call.losses + first, call.hits + first,
        )
    else:
        load_rows(call.dy + first * op.outputs, op.outputs, op.outputs, block.count, dy)
    if op.kind != ACTIVATION:
        activation_backward(logits, dy, dy, op.outputs, op.activation)
    for i in range(last - 1, -1, -1):
        op_backward(
            net, i, call, &block, space, arena, arena + net.kept[i],
            arena + net.kept[i + 1],
            arena + net.gradients[(i + 1) % 2], arena + net.gradients[i % 2], gradient, row,
        )
    if call.dx != NULL:
        op = &net.ops[0]
        unpack_block(
            arena + net.gradients[0], call.dx + first * op.inputs, op.inputs, op.inputs,
            block.count,
        )


cdef void op_forward(
    Network net, int number, const Call *call, const Block *block, lanes *arena,
    const lanes *x, lanes *y,
) noexcept nogil:
    """y = what op `number` makes of x; `block` is NULL except in training."""
    cdef const Op *op = &net.ops[number]
    if op.kind == CONV and op.padded_width:
        pad_columns(
            x, arena + op.padded, op.conv.channels * op.conv.height,
            op.conv.width - 2 * op.padding_left, op.padding_left, op.padded_width,
        )
        x = arena + op.padded
    if op.winograd:
        planes_forward(
            op, call, bias_of(op, call), op.activation, x, y, 1, arena + net.planes
        )
    elif op.kind == CONV or op.kind == DENSE:
        correlate(
            &op.forward, x, call.packed + op.forward.packed, bias_of(op, call),
            y, NULL, op.activation, True,
        )
    else:
        simple_forward(op, number, call, block, x, y)


# Functions of their own, so that each is compiled with all registers to itself.


cdef void planes_forward(
    const Op *op, const Call *call, const float *bias, int activation, const lanes *x,
    lanes *y, int blocks, lanes *scratch,
) noexcept nogil:
    winograd_forward(
        &op.conv, &op.forward, x, op.x_block, call.packed + op.forward.packed, bias, y,
        op.y_block, activation, blocks, scratch,
    )


cdef void planes_backward(
    const Op *op, const Call *call, const lanes *x, const lanes *dy, lanes *dx,
    int blocks, lanes *scratch,
) noexcept nogil:
    winograd_backward(
        &op.conv, op.backward, dy, op.y_block, call.packed + op.backward.packed, dx, x,
        op.x_block, op.below, blocks, scratch,
    )


cdef void planes_backward_params(
    const Op *op, const lanes *x, const lanes *dy, float *gradient, lanes *scratch
) noexcept nogil:
    winograd_backward_params(
        &op.conv, x, dy, gradient + op.gradient,
        gradient + op.bias_gradient if op.biased else NULL, scratch,
    )


cdef void channels_backward_params(
    const Op *op, const lanes *x, const lanes *dy, float *gradient, lanes *scratch
) noexcept nogil:
    turned_backward_params(
        &op.conv, x, dy, gradient + op.gradient,
        gradient + op.bias_gradient if op.biased else NULL, scratch,
    )


cdef const float *bias_of(const Op *op, const Call *call) noexcept nogil:
    return call.parameters + op.bias if op.biased else NULL


cdef void simple_forward(
    const Op *op, int number, const Call *call, const Block *block, const lanes *x, lanes *y
) noexcept nogil:
    """y = what an op without parameters makes of x"""
    if op.kind == AVG_POOL:
        avg_pool_forward(&op.pool, x, y)
    elif op.kind == MAX_POOL:
        max_pool_forward(&op.pool, x, y)
    elif op.kind == GLOBAL_AVG_POOL:
        global_avg_pool_forward(x, y, op.channels, op.inputs // op.channels)
    elif op.kind == DROPOUT and block != NULL:
        drop(op, number, call.key, block, x, y)
    else:
        activation_forward(x, y, op.outputs, op.activation)


cdef void drop(
    const Op *op, int number, uint64_t key, const Block *block, const lanes *x, lanes *y
) noexcept nogil:
    """y[i] = x[i] / (1 - rate), or 0 with probability `rate` (Srivastava et al. 2014)

    A function of the key, the image and i alone: backward it is called with the gradient.
    """
    cdef ulanes keys = lane_keys(key, block.positions, block.count, OPS + number)
    cdef lanes rate = lanes_set(op.rate)
    cdef lanes scale = lanes_set(1 / (1 - op.rate))
    cdef Py_ssize_t i
    for i in range(op.outputs):
        y[i] = lanes_if_less(lanes_uniform(keys, i), rate, lanes_set(0), x[i] * scale)


cdef void op_backward(
    Network net, int number, const Call *call, const Block *block, Workspace space,
    lanes *arena, const lanes *x, const lanes *y, const lanes *dy, lanes *dx,
    float *gradient, Py_ssize_t row,
) noexcept nogil:
    """Add the parameters' gradient, write dx where it is needed.

    dy is the gradient of what went into this op's activation, dx that of what went into the
    activation below.
    """
    cdef const Op *op = &net.ops[number]
    cdef const lanes *source = x
    cdef lanes *dy_padded = arena + net.dy_padded
    cdef float *rows
    cdef int inputs, outputs, i
    if op.padded_width:
        source = arena + op.padded
    if op.winograd:
        planes_backward_params(op, x, dy, gradient, arena + net.planes)
    elif op.turned:
        channels_backward_params(op, source, dy, gradient, arena + net.planes)
    elif op.kind == CONV:
        conv_backward_params(
            &op.conv, source, dy, gradient + op.gradient,
            gradient + op.bias_gradient if op.biased else NULL,
        )
    elif op.kind == DENSE:
        inputs = op.inputs
        outputs = op.outputs
        rows = space.rows
        turn_block(
            x, 1, rows + op.x_rows + row * input_row(inputs), input_row(inputs), inputs
        )
        turn_block(
            dy, 1, rows + op.dy_rows + row * output_row(outputs), output_row(outputs),
            outputs,
        )
    if not op.needs_dx:
        return
    if op.winograd:
        planes_backward(op, call, x, dy, dx, 1, arena + net.planes)
    elif op.kind == CONV or op.kind == DENSE:
        if op.dy_width > op.conv.out_w:
            pad_columns(
                dy, dy_padded, op.conv.filters * op.conv.out_h, op.conv.out_w,
                op.dy_left, op.dy_width,
            )
            dy = dy_padded
        if op.gaps:
            memset(dx, 0, op.inputs * sizeof(lanes))
        for i in range(op.backward_parts):
            correlate(
                &op.backward[i], dy, call.packed + op.backward[i].packed, NULL,
                dx + op.backward[i].y_start, x + op.backward[i].y_start, op.below, False,
            )
    else:
        simple_backward(op, number, call, block, x, y, dy, dx)


cdef void simple_backward(
    const Op *op, int number, const Call *call, const Block *block, const lanes *x,
    const lanes *y, const lanes *dy, lanes *dx,
) noexcept nogil:
    """dx of an op without parameters, as in `op_backward`"""
    if op.kind == AVG_POOL:
        avg_pool_backward(&op.pool, x, dy, dx, op.below)
    elif op.kind == GLOBAL_AVG_POOL:
        global_avg_pool_backward(
            x, dy, dx, op.channels, op.inputs // op.channels, op.below
        )
    elif op.kind == MAX_POOL:
        max_pool_backward(&op.pool, x, y, dy, dx, op.below)
    elif op.kind == DROPOUT:
        drop(op, number, call.key, block, dy, dx)
        activation_backward(x, dx, dx, op.inputs, op.below)
    else:
        activation_backward(y, dy, dx, op.outputs, op.activation)
        activation_backward(x, dx, dx, op.inputs, op.below)


cdef void run_reducing(
    Network net, const Call *call, Workspace space, int chunk, const Task *task
) noexcept nogil:
    """Add a chunk's gradients to the batch's: shards in their order, images in theirs."""
    cdef Op *op = &net.ops[task.op]
    cdef int images = min(<Py_ssize_t>CHUNK, call.count - <Py_ssize_t>chunk * CHUNK)
    cdef const float *of_shard
    cdef float *to
    cdef Py_ssize_t i
    cdef int s
    if op.kind == DENSE:
        dense_backward_params(
            space.rows + op.x_rows, space.rows + op.dy_rows,
            call.gradient + op.weight, call.gradient + op.bias if op.biased else NULL,
            images, op.inputs, op.outputs, task.start,
        )
        return
    if op.winograd or op.turned:
        reduce_planes(net, call, space, chunk, op, task.start)
        return
    to = call.gradient + op.weight + task.start
    for s in range(shards_of(net, call, chunk)):
        of_shard = space.shards + s * net.shard_floats + op.gradient + task.start
        for i in range(task.count):
            to[i] += of_shard[i]


cdef void reduce_planes(
    Network net, const Call *call, Workspace space, int chunk, const Op *op, int filter
) noexcept nogil:
    """`run_reducing` of one filter whose weights lie (planes, C); the sum is in shard 0."""
    cdef int C = op.conv.channels
    cdef int taps = op.conv.kernel_h * op.conv.kernel_w
    cdef Py_ssize_t size = <Py_ssize_t>(PLANES if op.winograd else taps) * C
    cdef float *planes = space.shards + op.gradient + filter * size
    cdef float *bias = space.shards + op.bias_gradient + filter
    cdef float *to = call.gradient + op.weight + <Py_ssize_t>filter * C * taps
    cdef Py_ssize_t at, i
    cdef int s, c
    for s in range(1, shards_of(net, call, chunk)):
        at = s * net.shard_floats
        bias[0] += bias[at]
        for i in range(size):
            planes[i] += planes[at + i]
    if op.biased:
        call.gradient[op.bias + filter] += bias[0]
    if op.winograd:
        add_weight_gradient(planes, to, C)
        return
    for c in range(C):
        for i in range(taps):
            to[c * taps + i] += planes[i * C + c]


# Op by op


cdef struct Batch:
    # the images that go through the ops together
    Py_ssize_t first
    int images, blocks
    int even  # blocks, rounded up to whole tiles: the places that maps have


cdef int even_blocks(Py_ssize_t images) noexcept nogil:
    """Blocks of so many images, in whole tiles."""
    cdef Py_ssize_t blocks = (images + LANES - 1) // LANES
    return (blocks + TILE_PAIR_X - 1) // TILE_PAIR_X * TILE_PAIR_X


cdef Batch batch_of(const Call *call, int chunk) noexcept nogil:
    """All images in training, a chunk of them in prediction."""
    cdef Batch batch
    batch.first = <Py_ssize_t>chunk * CHUNK
    batch.images = call.count - batch.first
    if call.gradient == NULL:
        batch.images = min(batch.images, CHUNK)
    batch.blocks = (batch.images + LANES - 1) // LANES
    batch.even = even_blocks(batch.images)
    return batch


cdef lanes *map_of(
    Network net, const Call *call, Workspace space, int number, const Batch *batch
) noexcept nogil:
    cdef Py_ssize_t *places = net.reused if call.gradient == NULL else net.kept
    return <lanes *>space.maps + places[number] * batch.even


cdef lanes *gradient_of(
    Network net, Workspace space, int number, const Batch *batch
) noexcept nogil:
    return <lanes *>space.maps + net.of_gradients[number] * batch.even


cdef bint is_folded(Network net, const Call *call, int number) noexcept nogil:
    """Whether a convolution does what the batch normalisation after it would do."""
    return net.ops[number].foldable and call.gradient == NULL and call.ops > number + 1


cdef void run_op_by_op(
    Network net, Call *call, Workspace space, int threads
) noexcept nogil:
    """`run_call`, all blocks through one op after the other."""
    cdef bint training = call.gradient != NULL
    cdef int chunks = 1 if training else (call.count + CHUNK - 1) // CHUNK
    cdef int i, number
    cdef int blocks = 0
    cdef int chunk = 0
    cdef int op = 0
    cdef int tasks = 0
    cdef int band = 0
    cdef int bands = 0
    call.losses = space.losses
    call.hits = space.hits
    call.packed = space.packed
    call.norms = space.norms
    with parallel(num_threads=threads):
        for i in prange(net.count, schedule="static"):
            prepare_op(net, call, i)
        for i in prange(net.packing_tasks, schedule="dynamic", chunksize=4):
            run_packing(net, call, &net.packing[i])
        for chunk in range(chunks):
            blocks = batch_of(call, chunk).blocks
            for i in prange(blocks, schedule="dynamic"):
                begin_block(net, call, space, chunk, i)
            for op in range(call.ops):
                tasks = forward_tasks(net, call, chunk, op)
                for i in prange(tasks, schedule="dynamic"):
                    run_forward(net, call, space, chunk, op, i)
            if training:
                for i in prange(blocks, schedule="dynamic"):
                    run_loss(net, call, space, i)
                for number in range(call.ops):
                    op = call.ops - 1 - number
                    bands = bands_of(&net.ops[op], blocks)
                    for band in range(bands):
                        tasks = blocks_of_band(&net.ops[op], blocks, band)
                        for i in prange(tasks, schedule="dynamic"):
                            run_turning(net, call, space, op, band, i)
                        if band < bands - 1:  # the last one runs beside the next tasks
                            tasks = weight_tasks(&net.ops[op])
                            for i in prange(tasks, schedule="dynamic"):
                                run_weights(net, call, space, op, band, i)
                    tasks = backward_tasks(net, call, chunk, op)
                    for i in prange(tasks, schedule="dynamic"):
                        run_backward(net, call, space, chunk, op, i)
            for i in prange(blocks, schedule="dynamic"):
                end_block(net, call, space, chunk, i)


cdef void prepare_op(Network net, const Call *call, int number) noexcept nogil:
    """Zero the gradients that are added to, which those of convolutions' weights are not;
    in prediction, find scale and shift of a batch normalisation."""
    cdef const Op *op = &net.ops[number]
    if call.gradient == NULL:
        prepare_norm(net, call, number)
    elif not call.add and op.kind == BATCH_NORM:
        memset(call.gradient + op.weight, 0, 2 * op.channels * sizeof(float))
    elif not call.add and op.biased:
        memset(call.gradient + op.bias, 0, op.conv.filters * sizeof(float))


cdef void prepare_norm(Network net, const Call *call, int number) noexcept nogil:
    """Scale and shift of a batch normalisation in prediction, with what a convolution
    that it is folded into adds."""
    cdef const Op *op = &net.ops[number]
    cdef float *scale = call.norms + op.norm
    cdef float *shift = scale + op.channels
    cdef const float *weight = call.parameters + op.weight
    cdef const float *bias = call.parameters + op.bias
    cdef const float *mean = call.parameters + op.running
    cdef const float *variance = mean + op.channels
    cdef const float *before
    cdef int c
    if op.kind != BATCH_NORM:
        return
    for c in range(op.channels):
        scale[c] = weight[c] * inverse_deviation(variance[c], op.eps)
        shift[c] = bias[c] - mean[c] * scale[c]
    if number > 0 and is_folded(net, call, number - 1):
        before = bias_of(&net.ops[number - 1], call)
        if before != NULL:
            for c in range(op.channels):
                shift[c] += before[c] * scale[c]


cdef void begin_block(
    Network net, const Call *call, Workspace space, int chunk, int block
) noexcept nogil:
    cdef Batch batch = batch_of(call, chunk)
    cdef lanes *arena = <lanes *>space.arenas[lenet5c_thread()]
    load_block(
        net, call, arena, batch.first + <Py_ssize_t>block * LANES,
        map_of(net, call, space, 0, &batch) + block * odd_lines(net.sizes[0]),
        &space.blocks[block],
    )


cdef void end_block(
    Network net, const Call *call, Workspace space, int chunk, int block
) noexcept nogil:
    """Logits, or the gradient of the images, to where they are wanted."""
    cdef Batch batch = batch_of(call, chunk)
    cdef Py_ssize_t first = batch.first + <Py_ssize_t>block * LANES
    cdef int count = space.blocks[block].count
    cdef Py_ssize_t size = net.sizes[call.ops]
    if call.y != NULL:
        unpack_block(
            map_of(net, call, space, call.ops, &batch) + block * odd_lines(size),
            call.y + first * size, size, size, count,
        )
    if call.dx != NULL:
        size = net.sizes[0]
        unpack_block(
            gradient_of(net, space, 0, &batch) + block * odd_lines(size),
            call.dx + first * size, size, size, count,
        )


cdef int conv_tasks(const Correlation *p, const Op *op, const Batch *batch) noexcept nogil:
    """Groups of blocks times parts of the filters."""
    cdef int groups = (batch.even + op.group - 1) // op.group
    return groups * conv_parts(op, p, groups)


cdef int conv_parts(const Op *op, const Correlation *p, int groups) noexcept nogil:
    if op.winograd:
        return 1
    cdef int tiles = (p.filters + TILE_PAIR_F - 1) // TILE_PAIR_F
    return min(tiles, (TASKS + groups - 1) // groups)


cdef int forward_tasks(
    Network net, const Call *call, int chunk, int number
) noexcept nogil:
    """In how many pieces an op's forward pass is cut."""
    cdef const Op *op = &net.ops[number]
    cdef Batch batch = batch_of(call, chunk)
    if op.kind == CONV:
        return conv_tasks(&op.forward, op, &batch)
    if op.kind == BATCH_NORM:
        if call.gradient != NULL:
            return op.channels
        if number > 0 and is_folded(net, call, number - 1):
            return 0
    return batch.blocks


cdef void run_forward(
    Network net, const Call *call, Workspace space, int chunk, int number, int task
) noexcept nogil:
    """One piece of an op's forward pass."""
    cdef const Op *op = &net.ops[number]
    cdef Batch batch = batch_of(call, chunk)
    cdef const lanes *x = map_of(net, call, space, op.source, &batch)
    cdef lanes *y = map_of(net, call, space, number + 1, &batch)
    cdef const lanes *other
    cdef const Block *block = NULL
    cdef const float *bias = bias_of(op, call)
    cdef Py_ssize_t i
    if op.kind == CONV:
        if is_folded(net, call, number):
            op = &net.ops[number + 1]
            y = map_of(net, call, space, number + 2, &batch)
            bias = call.norms + op.norm + op.channels
        conv_forward(
            net, space, &net.ops[number], call, bias, op.activation, x, y, &batch, task
        )
        return
    if op.kind == BATCH_NORM:
        if call.gradient != NULL:
            norm_channel(op, call, x, y, &batch, task)
        else:
            norm_block(op, call, x + task * op.x_block, y + task * op.y_block)
        return
    if call.gradient != NULL:
        block = &space.blocks[task]
    x += task * op.x_block
    y += task * op.y_block
    if op.kind == ADD:
        other = map_of(net, call, space, op.other, &batch) + task * op.x_block
        for i in range(op.outputs):
            y[i] = x[i] + other[i]
        activation_forward(y, y, op.outputs, op.activation)
    else:
        simple_forward(op, number, call, block, x, y)


cdef void conv_forward(
    Network net, Workspace space, const Op *op, const Call *call, const float *bias,
    int activation, const lanes *x, lanes *y, const Batch *batch, int task,
) noexcept nogil:
    """Some filters of some blocks."""
    cdef const Correlation *p = &op.forward
    cdef int groups = (batch.even + op.group - 1) // op.group
    cdef int parts = conv_parts(op, p, groups)
    cdef int tiles = (p.filters + TILE_PAIR_F - 1) // TILE_PAIR_F
    cdef int part = task % parts
    cdef Py_ssize_t first = task // parts * op.group
    cdef int count = min(op.group, batch.even - first)
    cdef lanes *arena = <lanes *>space.arenas[lenet5c_thread()]
    cdef int tile
    x += first * op.x_block
    y += first * op.y_block
    if op.winograd:
        planes_forward(op, call, bias, activation, x, y, count, arena + net.planes)
        return
    for tile in range(part * tiles // parts, (part + 1) * tiles // parts):
        correlate_blocks(
            p, x, op.x_block, call.packed + p.packed, bias, y, op.y_block, NULL,
            activation, True, False, count, tile,
        )


cdef Channel channel_of(const Op *op, const Batch *batch) noexcept nogil:
    """How the maps of one channel lie in a batch."""
    cdef Channel channel
    channel.blocks = batch.blocks
    channel.images = batch.images
    channel.block = op.x_block
    channel.area = op.inputs // op.channels
    return channel


cdef void norm_channel(
    const Op *op, const Call *call, const lanes *x, lanes *y, const Batch *batch, int c
) noexcept nogil:
    """Batch normalisation of one channel in training."""
    cdef Channel channel = channel_of(op, batch)
    cdef float *norm = call.norms + op.norm + 2 * c  # mean, 1 / deviation
    cdef float variance, scale, count
    cdef float *running = call.running
    cdef int b
    x += c * channel.area
    y += c * channel.area
    channel_statistics(&channel, x, &norm[0], &variance)
    norm[1] = inverse_deviation(variance, op.eps)
    scale = call.parameters[op.weight + c] * norm[1]
    for b in range(batch.blocks):
        scale_channel(
            x + b * channel.block, y + b * channel.block, channel.area, scale,
            call.parameters[op.bias + c] - norm[0] * scale, op.activation,
        )
    if running != NULL:
        running += op.running + c
        count = <float>batch.images * channel.area
        running[0] += op.momentum * (norm[0] - running[0])
        running += op.channels
        variance *= count / max(count - 1, <float>1)  # of a sample
        running[0] += op.momentum * (variance - running[0])


cdef void norm_block(
    const Op *op, const Call *call, const lanes *x, lanes *y
) noexcept nogil:
    """Batch normalisation of one block in prediction, where it could not be folded."""
    cdef const float *scale = call.norms + op.norm
    cdef int area = op.inputs // op.channels
    cdef int c
    for c in range(op.channels):
        scale_channel(
            x + c * area, y + c * area, area, scale[c], scale[op.channels + c],
            op.activation,
        )


cdef void run_loss(
    Network net, const Call *call, Workspace space, int block
) noexcept nogil:
    """The gradient of a block's logits, from its labels or as it was given."""
    cdef Batch batch = batch_of(call, 0)
    cdef const Op *op = &net.ops[net.count - 1]
    cdef Py_ssize_t size = op.outputs
    cdef Py_ssize_t first = <Py_ssize_t>block * LANES
    cdef Py_ssize_t at = block * op.y_block
    cdef lanes *logits = map_of(net, call, space, net.count, &batch) + at
    cdef lanes *dy = gradient_of(net, space, net.count, &batch) + at
    cdef Block *images = &space.blocks[block]
    if call.labels != NULL:
        softmax_cross_entropy(
            logits, images.labels, images.weights, size, call.share, call.smoothing,
            dy, call.losses + first, call.hits + first,
        )
    else:
        load_rows(call.dy + first * size, size, size, images.count, dy)
    if op.kind != ACTIVATION:
        activation_backward(logits, dy, dy, size, op.activation)


cdef int backward_tasks(
    Network net, const Call *call, int chunk, int number
) noexcept nogil:
    """In how many pieces an op's backward pass is cut."""
    cdef const Op *op = &net.ops[number]
    cdef Batch batch = batch_of(call, chunk)
    if op.kind == CONV:
        if not op.needs_dx:
            return weight_tasks(op)
        return weight_tasks(op) + conv_tasks(op.backward, op, &batch)
    if op.kind == BATCH_NORM:
        return op.channels
    if op.needs_dx or op.needs_other:
        return batch.blocks
    return 0


cdef int weight_tasks(const Op *op) noexcept nogil:
    """One for each tile of filters."""
    return (op.conv.filters + TILE_PAIR_F - 1) // TILE_PAIR_F


cdef void run_backward(
    Network net, const Call *call, Workspace space, int chunk, int number, int task
) noexcept nogil:
    """One piece of an op's backward pass."""
    cdef const Op *op = &net.ops[number]
    cdef Batch batch = batch_of(call, chunk)
    cdef const lanes *x = map_of(net, call, space, op.source, &batch)
    cdef const lanes *y = map_of(net, call, space, number + 1, &batch)
    cdef const lanes *dy = gradient_of(net, space, number + 1, &batch)
    cdef lanes *dx = gradient_of(net, space, op.source, &batch)
    cdef lanes *arena = <lanes *>space.arenas[lenet5c_thread()]
    cdef lanes *target
    if op.kind == CONV:
        if task < weight_tasks(op):
            run_weights(net, call, space, number, bands_of(op, batch.blocks) - 1, task)
            return
        conv_backward(net, space, op, call, x, dy, dx, &batch, task - weight_tasks(op))
        return
    if op.kind == BATCH_NORM:
        norm_channel_backward(op, call, x, dy, dx, &batch, task)
        return
    x += task * op.x_block
    y += task * op.y_block
    dy += task * op.y_block
    dx += task * op.x_block
    if op.needs_dx:
        target = arena if op.adds else dx
        if op.kind == ADD:
            activation_backward(x, dy, target, op.inputs, op.below)
        else:
            simple_backward(op, number, call, &space.blocks[task], x, y, dy, target)
        if op.adds:
            add_map(dx, target, op.inputs)
    if op.needs_other:
        x = map_of(net, call, space, op.other, &batch) + task * op.x_block
        dx = gradient_of(net, space, op.other, &batch) + task * op.x_block
        target = arena if op.adds_other else dx
        activation_backward(x, dy, target, op.inputs, op.below_other)
        if op.adds_other:
            add_map(dx, target, op.inputs)


cdef int bands_of(const Op *op, int blocks) noexcept nogil:
    """In how many bands of blocks a convolution has its panels."""
    return (blocks + op.band - 1) // op.band if op.kind == CONV else 0


cdef int blocks_of_band(const Op *op, int blocks, int band) noexcept nogil:
    return min(op.band, blocks - band * op.band)


cdef Panels panels_of(
    Network net, const Op *op, Workspace space, const Batch *batch, int band
) noexcept nogil:
    """The panels of a band; they lie behind all maps."""
    return panels_at(
        &op.of_panels, <float *>(<lanes *>space.maps + net.all_maps * batch.even),
        <Py_ssize_t>blocks_of_band(op, batch.blocks, band) * LANES,
    )


cdef void run_turning(
    Network net, const Call *call, Workspace space, int number, int band, int task
) noexcept nogil:
    """The maps of one block of a band into the panels of op `number`."""
    cdef const Op *op = &net.ops[number]
    cdef Batch batch = batch_of(call, 0)
    cdef Panels panels = panels_of(net, op, space, &batch, band)
    cdef Py_ssize_t block = band * op.band + task
    cdef const lanes *x = map_of(net, call, space, op.source, &batch) + block * op.x_block
    cdef const lanes *dy = gradient_of(net, space, number + 1, &batch) + block * op.y_block
    cdef lanes *patches = <lanes *>space.arenas[lenet5c_thread()] + net.planes
    if takes_patches(&op.conv):
        take_patches(&op.conv, x, patches)
        x = patches
    turn_maps(&op.of_panels, &panels, x, dy, <Py_ssize_t>task * LANES)


cdef void run_weights(
    Network net, const Call *call, Workspace space, int number, int band, int tile
) noexcept nogil:
    """Gradient of the parameters of TILE_PAIR_F filters, over the blocks of a band."""
    cdef const Op *op = &net.ops[number]
    cdef Batch batch = batch_of(call, 0)
    cdef Panels panels = panels_of(net, op, space, &batch, band)
    cdef const lanes *dy = gradient_of(net, space, number + 1, &batch)
    panels_backward_params(
        &op.of_panels, &panels, call.gradient + op.weight, call.add or band > 0, tile,
        <float *>(<lanes *>space.arenas[lenet5c_thread()] + net.planes),
    )
    if op.biased and band == 0:
        blocks_bias_gradient(
            &op.conv, dy, op.y_block, call.gradient + op.bias, batch.blocks, tile
        )


cdef void add_map(lanes *y, const lanes *x, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(size):
        y[i] += x[i]


cdef void conv_backward(
    Network net, Workspace space, const Op *op, const Call *call, const lanes *x,
    const lanes *dy, lanes *dx, const Batch *batch, int task,
) noexcept nogil:
    """dx of some channels of some blocks."""
    cdef const Correlation *p = op.backward
    cdef int groups = (batch.even + op.group - 1) // op.group
    cdef int parts = conv_parts(op, p, groups)
    cdef int tiles = (p.filters + TILE_PAIR_F - 1) // TILE_PAIR_F
    cdef int part = task % parts
    cdef int tile_end = (part + 1) * tiles // parts
    cdef Py_ssize_t first = task // parts * op.group
    cdef int count = min(op.group, batch.even - first)
    cdef Py_ssize_t area = <Py_ssize_t>op.conv.height * op.conv.width
    cdef lanes *arena = <lanes *>space.arenas[lenet5c_thread()]
    cdef lanes *target
    cdef Py_ssize_t channel
    cdef int tile, i, b
    x += first * op.x_block
    dx += first * op.x_block
    dy += first * op.y_block
    if op.winograd:
        target = arena if op.adds else dx
        planes_backward(op, call, x, dy, target, count, arena + net.planes)
        if op.adds:
            add_map(dx, target, count * op.x_block)
        return
    for tile in range(part * tiles // parts, tile_end):
        if op.gaps and not op.adds:
            channel = <Py_ssize_t>tile * TILE_PAIR_F
            for b in range(count):
                memset(
                    dx + b * op.x_block + channel * area, 0,
                    min(<Py_ssize_t>TILE_PAIR_F, p.filters - channel) * area
                    * sizeof(lanes),
                )
        for i in range(op.backward_parts):
            p = &op.backward[i]
            correlate_blocks(
                p, dy, op.y_block, call.packed + p.packed, NULL,
                dx, op.x_block, x, op.below, False, op.adds, count, tile,
            )


cdef void norm_channel_backward(
    const Op *op, const Call *call, const lanes *x, const lanes *dy, lanes *dx,
    const Batch *batch, int c,
) noexcept nogil:
    cdef Channel channel = channel_of(op, batch)
    cdef const float *norm = call.norms + op.norm + 2 * c
    batch_norm_backward(
        &channel, x + c * channel.area, dy + c * channel.area,
        dx + c * channel.area if op.needs_dx else NULL, norm[0], norm[1],
        call.parameters[op.weight + c], call.gradient + op.weight + c,
        call.gradient + op.bias + c, op.below, op.adds,
    )


cdef int slices_of(Py_ssize_t n) noexcept nogil:
    """How many tasks share n parameters."""
    return (n + SLICE - 1) // SLICE


cdef struct Update:
    # an optimizer's step on the flat parameter vector (core/update.pxd)
    bint adam  # AdamW; otherwise SGD
    float *parameters
    const float *gradient
    float *first  # velocity, or first moment
    float *second  # second moment
    Py_ssize_t n
    Py_ssize_t step  # number of this step, from 1
    float momentum, beta1, beta2, eps, weight_decay
    bint nesterov


cdef void run_update(const Update *u, float learning_rate, int threads) noexcept nogil:
    """One step, threads splitting the parameters."""
    cdef int slices = slices_of(u.n)
    cdef float correction1 = 1 - <double>u.beta1 ** u.step
    cdef float correction2 = 1 - <double>u.beta2 ** u.step
    cdef int i
    threads = max(1, min(threads, slices))
    for i in prange(slices, schedule="static", num_threads=threads):
        run_slice(u, <Py_ssize_t>i * SLICE, learning_rate, correction1, correction2)


cdef void run_slice(
    const Update *u, Py_ssize_t at, float learning_rate, float correction1,
    float correction2,
) noexcept nogil:
    cdef Py_ssize_t n = min(<Py_ssize_t>SLICE, u.n - at)
    if u.adam:
        adamw_step(
            u.parameters + at, u.gradient + at, u.first + at, u.second + at, n,
            learning_rate, u.beta1, u.beta2, u.eps, u.weight_decay, correction1,
            correction2,
        )
    else:
        sgd_step(
            u.parameters + at, u.gradient + at, u.first + at, n, learning_rate,
            u.momentum, u.nesterov, u.weight_decay,
        )


cdef int set_update(
    Update *u, rule, float[::1] parameters, const float[::1] gradient, list state
) except -1:
    """The optimizer's `rule` (optimizers.py) and vectors, once their lengths fit."""
    cdef float[::1] vector
    memset(u, 0, sizeof(Update))
    u.n = parameters.shape[0]
    same_length(u.n, gradient.shape[0], u.n)
    u.parameters = &parameters[0]
    u.gradient = &gradient[0]
    for number, array in enumerate(state):
        vector = array
        same_length(u.n, vector.shape[0], u.n)
        if number == 0:
            u.first = &vector[0]
        else:
            u.second = &vector[0]
    u.adam = rule[0] == "adamw"
    if u.adam:
        _, u.beta1, u.beta2, u.eps, u.weight_decay = rule
    else:
        _, u.momentum, u.nesterov, u.weight_decay = rule
    return 0


def update(
    rule, float[::1] parameters not None, const float[::1] gradient not None,
    list state not None, float learning_rate, Py_ssize_t step, int threads,
):
    """Step number `step` (from 1) of an optimizer, in place (core/update.pxd).

    rule : ("sgd", momentum, nesterov, weight_decay) or
        ("adamw", beta1, beta2, eps, weight_decay)
    state : the vectors that it keeps: velocity, or first and second moment
    """
    cdef Update u
    if parameters.shape[0] == 0:
        return
    set_update(&u, rule, parameters, gradient, state)
    u.step = step
    with nogil:
        run_update(&u, learning_rate, threads)


# `run_call` for code that may not touch Python's reference counts
ctypedef void (*Run)(void *net, Call *call, void *space, int threads) noexcept nogil


cdef class Trainer:
    """Training steps for native programs, which have no Python objects to pass.

    Parameters
    ----------
    network : Network
    parameters : (state,) float32: parameters and running statistics, changed by each step
    stage : as in `Network.forward`
    shape : (C, H, W) of the images that are trained on
    least, batch_size : the fewest and the most images of a step
    rule, state : as in `update`
    seed : of dropout
    """

    cdef tuple owned  # what the pointers below point to
    cdef void *network
    cdef void *space
    cdef const float *losses
    cdef Call call
    cdef Update update
    cdef Py_ssize_t batch_size
    cdef int classes, threads, least
    cdef uint64_t seed

    def __cinit__(
        self, Network network not None, float[::1] parameters not None, stage, shape,
        int least, Py_ssize_t batch_size, rule, list state not None,
        float[::1] gradient not None,
        int threads, uint64_t seed,
    ):
        cdef Workspace space = Workspace()
        space.reserve(network, threads, batch_size, True)
        self.owned = (network, space, parameters, gradient, *state)
        self.network = <void *>network
        self.space = <void *>space
        self.losses = space.losses
        self.classes = network.ops[network.count - 1].outputs
        self.batch_size = batch_size
        self.least = least
        self.threads = threads
        self.seed = seed
        self.call.parameters = &parameters[0]
        self.call.running = &parameters[0]
        self.call.gradient = &gradient[0]
        self.call.ops = network.count
        _, self.call.images.height, self.call.images.width = shape
        self.call.images.channels = network.C
        set_stage(&self.call.images, stage)
        set_update(&self.update, rule, parameters[:network.parameters], gradient, state)

    @property
    def address(self):
        """What `train_step` takes; valid as long as this object lives."""
        return <size_t><void *>self

    @property
    def steps(self):
        """How many there were."""
        return self.update.step


cdef int train_step(
    Trainer self, const unsigned char *bytes, const float *floats, const int *labels,
    int count, float learning_rate, float *loss,
) noexcept nogil:
    """One step on a batch of bytes or of floats; -1 and no step if it does not fit."""
    cdef Run run = <Run><void *>run_call
    cdef Call call = self.call
    cdef double total = 0
    cdef int n
    if count < self.least or count > self.batch_size or labels == NULL:
        return -1
    if bytes == NULL and floats == NULL:
        return -1
    for n in range(count):
        if labels[n] < 0 or labels[n] >= self.classes:
            return -1
    call.images.bytes = bytes
    call.images.floats = floats
    call.labels = labels
    call.count = count
    call.share = 1 / <float>count
    call.key = subkey(self.seed, self.update.step)
    run(self.network, &call, self.space, self.threads)
    self.update.step += 1
    run_update(&self.update, learning_rate, self.threads)
    for n in range(count):
        total += self.losses[n]
    if loss != NULL:
        loss[0] = total / count
    return 0


def train_step_address():
    """Of the C function `train_step`, whose first argument is a Trainer's address."""
    return <size_t><void *>train_step


def move_average(
    float[::1] average not None, const float[::1] parameters not None, float decay,
    int threads,
):
    """average += (1 - decay) (parameters - average), in place."""
    cdef Py_ssize_t n = parameters.shape[0]
    cdef Py_ssize_t at
    cdef int i
    cdef int slices = slices_of(n)
    same_length(n, average.shape[0], n)
    threads = max(1, min(threads, slices))
    for i in prange(slices, nogil=True, schedule="static", num_threads=threads):
        at = <Py_ssize_t>i * SLICE
        average_step(
            &average[at], &parameters[at], min(<Py_ssize_t>SLICE, n - at), 1 - decay
        )


def norm(const float[::1] vector not None):
    """The Euclidean norm, summed in double precision and one order."""
    cdef double total = 0
    if vector.shape[0]:
        with nogil:
            total = squares(&vector[0], vector.shape[0])
    return sqrt(total)


cdef int same_length(Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) except -1:
    if a != b or a != c:
        raise ValueError(f"vectors of different lengths: {a}, {b}, {c}")
    return 0


cdef int set_stage(Images *images, stage) except -1:
    """The tuple of `Network.forward` as the kernels want it."""
    (
        images.scale, images.offset, images.background, images.float_scale,
        images.float_offset,
    ) = stage
    return 0


cdef int set_augment(Augment *settings, augment) except -1:
    """The tuple of `Network.loss_and_gradient` as the kernels want it."""
    cdef double elastic, sigma
    (settings.shift, settings.rotate, settings.scale, settings.shear,
     elastic, sigma, settings.noise, settings.erase) = augment
    if not plan_bends(settings, elastic, sigma):
        raise ValueError(f"sigma: expected less than {TAPS_MOST / 3:g}, got {sigma:g}")
    return 0


def max_threads():
    """OpenMP's present limit on threads, 1 without OpenMP."""
    return lenet5c_max_threads()


def cross_entropy(
    const float[:, ::1] logits not None, const int[::1] labels not None,
    float[:, ::1] gradient not None,
):
    """Mean softmax cross-entropy of (N, K) logits; its gradient is written."""
    cdef Py_ssize_t count = logits.shape[0]
    cdef Py_ssize_t K = logits.shape[1]
    cdef Py_ssize_t first, n
    cdef lanes *z = <lanes *>aligned_zeros(K * sizeof(lanes))
    cdef int[LANES] of_block
    cdef float[LANES] losses, weights
    cdef unsigned char[LANES] hits
    cdef int valid
    cdef double total = 0
    for n in range(LANES):
        weights[n] = 1
    with nogil:
        for first from 0 <= first < count by LANES:
            valid = min(<Py_ssize_t>LANES, count - first)
            for n in range(LANES):
                of_block[n] = labels[first + n] if n < valid else -1
            load_rows(&logits[first, 0], K, K, valid, z)
            softmax_cross_entropy(
                z, of_block, weights, K, 1 / <float>count, 0, z, losses, hits
            )
            unpack_block(z, &gradient[first, 0], K, K, valid)
            for n in range(valid):
                total += losses[n]
    aligned_free(z)
    return total / count


cdef float multiply_add_rounds(Py_ssize_t rounds) noexcept nogil:
    """`rounds` times 12 independent multiply-adds on registers alone."""
    cdef lanes[12] acc
    cdef lanes a, b
    cdef int i
    cdef Py_ssize_t _
    cdef lanes total = lanes_set(0)
    a = lanes_keep(lanes_set(1))
    b = lanes_keep(lanes_set(1e-9))
    for i in range(12):
        acc[i] = lanes_set(i)
    for _ in range(rounds):
        a = lanes_keep(a)
        for i in range(12):
            acc[i] += a * b
    for i in range(12):
        total += acc[i]
    return lanes_sum(total)


def multiply_adds_at_peak(Py_ssize_t rounds, int threads):
    """Do `rounds` * 12 * lanes multiply-adds on each thread, as fast as the CPU can.

    For benchmarks: time it to learn the peak that a kernel could reach.
    """
    cdef float total = 0
    cdef int _
    threads = max(1, threads)
    for _ in prange(threads, nogil=True, schedule="static", num_threads=threads):
        total += multiply_add_rounds(rounds)
    return total
