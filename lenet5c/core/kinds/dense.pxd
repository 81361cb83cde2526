"""Dense layers: y = weight x + bias.

Forward pass and input gradient are `correlate` on a 1x1 map. The gradient of the weight
would need a horizontal sum for each weight and block; here the input of each block is
transposed, so that lanes run over input features, and the sum over the images of a
microbatch is a plain register tile again. Layerwise a dense layer is planned as a
convolution.

    N, I, O   images, input features, outputs
    IP, OP    lengths of the rows of x and dy: `input_row`, `output_row`
"""

from libc.string cimport memcpy

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.kernels.correlate cimport Correlation, pack_weights
from lenet5c.core.kernels.image cimport registers_of
from lenet5c.core.kernels.image_dense cimport (
    image_dense_backward_input, image_dense_backward_params, image_dense_forward,
)
from lenet5c.core.kernels.pack cimport transpose_block
from lenet5c.core.kernels.weight_gradient cimport add_rows
from lenet5c.core.kinds.correlation cimport (
    correlation_backward_input, correlation_forward,
)
from lenet5c.core.lanes cimport (
    LANES, TILE_MAX, TILE_PAIR_F, TILE_PAIR_X, lanes, lanes_keep, lanes_set,
)
from lenet5c.core.plan cimport (
    MICROBATCH, SLICE, Batch, Call, Here, Op, Plan, Task, Workspace, bias_of, image_row,
    new_parts, plan_image_floats, plan_packed, plan_parameters,
)
from lenet5c.core.reduce cimport add_shards
from lenet5c.core.tile cimport cheapest_tile, multiply_tile

cdef enum:
    LEAF = 32  # images that are added up in their order
    LEAVES = MICROBATCH // LEAF


cdef inline int plan_dense(Plan *plan, Op *op, dict node) except -1:
    """y = weight x + bias: a correlation of one row with I taps."""
    cdef Correlation *p = &op.y_product
    cdef int inputs = op.inputs
    cdef int outputs = op.outputs
    op.splits = True
    op.biased = node.get("bias", True)
    plan_parameters(plan, op, op.inputs * outputs, outputs if op.biased else 0)
    p.channels = p.rows = p.height = p.out_h = p.out_w = p.step = 1
    p.y_filter = p.y_row = p.y_column = 1
    set_product(p, inputs, outputs)
    p.w_filter = inputs
    p.w_tap = 1
    plan_packed(plan, p)
    op.x_rows = plan.rows
    op.x_row = input_row(inputs)
    op.dy_rows = op.x_rows + MICROBATCH * op.x_row
    op.dy_row = output_row(outputs)
    plan.rows = op.dy_rows + MICROBATCH * op.dy_row
    op.pack = pack_weights
    op.forward = correlation_forward
    op.backward_params = dense_params
    op.backward_input = correlation_backward_input
    op.reduce = reduce_dense
    op.reduce_length = outputs
    op.reduce_step = TILE_PAIR_F
    if op.needs_dx:
        plan_dense_backward(plan, op)
    if not plan.layerwise:
        plan_image_dense(plan, op)
    return 0


cdef inline void plan_image_dense(Plan *plan, Op *op) noexcept:
    """One image: x and dy are kept, and the gradient is their product."""
    op.image_at = plan_image_floats(plan, op.inputs)
    plan_image_floats(plan, op.outputs)
    op.image_forward = image_forward
    op.image_params = image_params
    op.image_input = image_input
    op.image_reduce = image_reduce
    op.image_length = op.outputs
    op.image_step = max(<Py_ssize_t>1, SLICE // op.inputs)
    op.image_products = <double>registers_of(op.inputs) * op.outputs


cdef inline void image_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    image_dense_forward(
        call.parameters + op.weight, bias_of(op, call), x, y, op.inputs, op.outputs
    )
    activation_forward(
        <const lanes *>y, <lanes *>y, registers_of(op.outputs), op.activation
    )


cdef inline void image_params(
    const Op *op, const Here *here, const float *x, const float *dy
) noexcept nogil:
    cdef float *kept = here.gradient + op.image_at
    memcpy(kept, x, op.inputs * sizeof(float))
    memcpy(kept + image_row(op.inputs), dy, op.outputs * sizeof(float))


cdef inline void image_input(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    image_dense_backward_input(
        call.parameters + op.weight, dy, dx, op.inputs, op.outputs
    )
    activation_backward(
        <const lanes *>x, <const lanes *>dx, <lanes *>dx, registers_of(op.inputs), op.below
    )


cdef inline void image_reduce(
    const Op *op, const Call *call, float *kept, Py_ssize_t apart, int images,
    const Task *task,
) noexcept nogil:
    kept += op.image_at
    image_dense_backward_params(
        kept, kept + image_row(op.inputs) + task.start, apart, images,
        call.gradient + op.weight + task.start * op.inputs,
        call.gradient + op.bias + task.start if op.biased else NULL,
        op.inputs, task.count, call.add,
    )


cdef inline int plan_dense_backward(Plan *plan, Op *op) except -1:
    """dx = weight' dy: the same with O taps."""
    cdef Correlation *p = new_parts(op, 1)
    op.dx_parts = 1
    p[0] = op.y_product
    set_product(p, op.outputs, op.inputs)
    p.w_filter = 1
    p.w_tap = op.inputs
    plan_packed(plan, p)
    return 0


cdef inline void set_product(Correlation *p, int taps, int filters) noexcept:
    p.taps = p.x_row = p.right = taps
    p.filters = filters
    p.tile = cheapest_tile(filters, 1, False)


cdef inline void dense_params(
    const Op *op, const Here *here, const lanes *x, const lanes *dy
) noexcept nogil:
    """Keep a block's inputs and output gradients, one row an image."""
    if here.part > 0:  # it is little
        return
    transpose_block(
        x, 1, here.rows + op.x_rows + here.row * op.x_row, op.x_row, op.inputs
    )
    transpose_block(
        dy, 1, here.rows + op.dy_rows + here.row * op.dy_row, op.dy_row, op.outputs
    )


cdef inline void reduce_dense(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, const Task *task,
) noexcept nogil:
    """Add a microbatch's gradient to the batch's."""
    dense_backward_params(
        space.rows + op.x_rows, space.rows + op.dy_rows, call.gradient + op.weight,
        call.gradient + op.bias if op.biased else NULL, batch.images, op.inputs,
        op.outputs, task.start,
    )


cdef inline int leaves_of(int images) noexcept nogil:
    """Parts of a microbatch whose sums the tree of reduce.pxd adds."""
    return (images + LEAF - 1) // LEAF


cdef inline int round_up(int n, int multiple) noexcept nogil:
    return (n + multiple - 1) // multiple * multiple


cdef inline int input_row(int inputs) noexcept nogil:
    """Floats from one image's inputs to the next: whole tiles, zero beyond I."""
    return round_up(inputs, TILE_PAIR_X * LANES)


cdef inline int output_row(int outputs) noexcept nogil:
    """Floats from one image's output gradients to the next: a tile may start late."""
    return round_up(outputs + TILE_PAIR_F, LANES)


cdef inline void dense_backward_params_tile(
    const float *x, Py_ssize_t x_row, const float *dy, Py_ssize_t dy_row,
    float *dweight, Py_ssize_t dweight_row, int images, int inputs, int outputs,
    int TF, int TX,
) noexcept nogil:
    """dweight[f, t] += sum over n of dy[n, f] * x[n, t], t counting whole registers

    for the first TF of `outputs` and the first TX registers of `inputs`
    """
    cdef lanes acc[TILE_MAX]
    cdef lanes[LEAVES][TILE_MAX] sums
    cdef int leaves = leaves_of(images)
    cdef int i, leaf
    for leaf in range(leaves):
        for i in range(TF * TX):
            acc[i] = lanes_set(0)
        multiply_tile(
            acc, <const lanes *>(x + leaf * LEAF * x_row), 0, 0, x_row // LANES, 1,
            dy + leaf * LEAF * dy_row, 0, 0, dy_row,
            1, 1, min(<int>LEAF, images - leaf * LEAF), TF, TX,
        )
        for i in range(TF * TX):
            sums[leaf][i] = lanes_keep(acc[i])
    add_shards(<float *>sums[0], TILE_MAX * LANES, leaves, TF * TX * LANES)
    add_rows(sums[0], dweight, dweight_row, inputs, outputs, TF, TX)


cdef inline void dense_backward_params(
    const float *x, const float *dy, float *dweight, float *dbias,
    int images, int inputs, int outputs, int output0,
) noexcept nogil:
    """dweight[o, i] += sum over n of dy[n, o] * x[n, i]
    dbias[o] += sum over n of dy[n, o]

    for the TILE_PAIR_F outputs from `output0` on

    x        [N][IP]  float, inputs of the forward pass
    dy       [N][OP]  float, gradient of the outputs
    dweight  (O, I)   float, added to
    dbias    (O,)     float, added to, or NULL
    """
    cdef Py_ssize_t x_row = input_row(inputs)
    cdef Py_ssize_t dy_row = output_row(outputs)
    cdef int i = 0
    cdef int leaves = leaves_of(images)
    cdef int o, n
    cdef float[LEAVES] sums
    while i < inputs:
        dense_backward_params_tile(
            x + i, x_row, dy + output0, dy_row,
            dweight + <Py_ssize_t>output0 * inputs + i, inputs,
            images, inputs - i, outputs - output0, TILE_PAIR_F, TILE_PAIR_X,
        )
        i += TILE_PAIR_X * LANES
    if dbias == NULL:
        return
    for o in range(output0, min(output0 + TILE_PAIR_F, outputs)):
        for n in range(leaves):
            sums[n] = 0
        for n in range(images):
            sums[n // LEAF] += dy[n * dy_row + o]
        add_shards(sums, 1, leaves, 1)
        dbias[o] += sums[0]
