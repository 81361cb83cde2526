"""Batch normalisation (Ioffe and Szegedy 2015), one channel of all blocks at a time.

    mean, variance  of the channel over the images of the batch and their pixels
    scale, shift    y = x * scale + shift

Blocks are added up in their order. Lanes of the last block that hold no image count
nothing, and their gradient is 0.
"""

from libc.math cimport sqrtf
from libc.string cimport memset

from lenet5c.core.kernels.activation cimport activation_backward, activation_forward
from lenet5c.core.lanes cimport LANES, lanes, lanes_set, lanes_sum
from lenet5c.core.memory cimport gradient_of, map_of
from lenet5c.core.plan cimport (
    Batch, Call, Op, Plan, Workspace, bias_of, is_folded, own, plan_parameters,
)
from lenet5c.core.threads cimport Watch, ends, lenet5c_thread

cdef enum:
    UNWATCHED = 64  # blocks of a channel between two looks at the watch

cdef struct Norm:
    int channels
    float momentum, eps
    Py_ssize_t running  # offset of the running mean, then variance, behind the parameters

cdef struct Channel:
    # one channel of a batch
    int blocks, images
    Py_ssize_t block  # lanes from one block to the next
    int area  # pixels
    Watch *watch  # of the call; or NULL


cdef inline int plan_norm(Plan *plan, Op *op, dict node) except -1:
    cdef Norm *norm = <Norm *>own(op, sizeof(Norm))
    norm.channels = node["input_shape"][0]
    norm.momentum = node["momentum"]
    norm.eps = node["eps"]
    norm.running = plan.buffers
    plan.buffers += 2 * norm.channels
    plan_parameters(plan, op, norm.channels, norm.channels)
    op.norm = plan.norms
    plan.norms += 2 * norm.channels
    op.prepare = prepare_norm
    op.forward_tasks = norm_forward_tasks
    op.forward_task = norm_forward_task
    op.backward_tasks = norm_backward_tasks
    op.backward_task = norm_backward_task
    return 0


cdef inline void prepare_norm(
    const Plan *plan, const Op *op, const Call *call
) noexcept nogil:
    """In training, zero the gradients; in prediction, find scale and shift, with what a
    convolution that it is folded into adds."""
    cdef const Norm *norm = <const Norm *>op.own
    cdef float *scale = call.norms + op.norm
    cdef float *shift = scale + norm.channels
    cdef const float *weight = call.parameters + op.weight
    cdef const float *bias = call.parameters + op.bias
    cdef const float *mean = call.buffers + norm.running
    cdef const float *variance = mean + norm.channels
    cdef const float *before
    cdef int c
    if call.gradient != NULL:
        if not call.add:
            memset(call.gradient + op.weight, 0, 2 * norm.channels * sizeof(float))
        return
    for c in range(norm.channels):
        scale[c] = weight[c] * inverse_deviation(variance[c], norm.eps)
        shift[c] = bias[c] - mean[c] * scale[c]
    if op.number > 0 and is_folded(plan, call, op - 1):
        before = bias_of(op - 1, call)
        if before != NULL:
            for c in range(norm.channels):
                shift[c] += before[c] * scale[c]


cdef inline int norm_forward_tasks(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    """Channels in training, blocks in prediction."""
    if call.gradient != NULL:
        return (<const Norm *>op.own).channels
    if op.number > 0 and is_folded(plan, call, op - 1):
        return 0
    return batch.blocks


cdef inline void norm_forward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int task,
) noexcept nogil:
    cdef const lanes *x = map_of(plan, call, space, op.source, batch)
    cdef lanes *y = map_of(plan, call, space, op.number + 1, batch)
    if call.gradient != NULL:
        norm_channel(plan, op, call, x, y, batch, task)
    else:
        norm_block(op, call, x + task * op.x_block, y + task * op.y_block)


cdef inline void norm_channel(
    const Plan *plan, const Op *op, const Call *call, const lanes *x, lanes *y,
    const Batch *batch, int c,
) noexcept nogil:
    """Batch normalisation of one channel in training."""
    cdef const Norm *norm = <const Norm *>op.own
    cdef Channel channel = channel_of(op, call, batch)
    cdef float *found = call.norms + op.norm + 2 * c  # mean, 1 / deviation
    cdef float variance = 0
    cdef float scale, count
    cdef float *running = call.running
    cdef int b
    x += c * channel.area
    y += c * channel.area
    channel_statistics(&channel, x, &found[0], &variance)
    found[1] = inverse_deviation(variance, norm.eps)
    scale = call.parameters[op.weight + c] * found[1]
    for b in range(batch.blocks):
        if ends_at(&channel, b):
            return
        scale_channel(
            x + b * channel.block, y + b * channel.block, channel.area, scale,
            call.parameters[op.bias + c] - found[0] * scale, op.activation,
        )
    if running != NULL:
        running += plan.parameters + norm.running + c
        count = <float>batch.images * channel.area
        running[0] += norm.momentum * (found[0] - running[0])
        running += norm.channels
        variance *= count / max(count - 1, <float>1)  # of a sample
        running[0] += norm.momentum * (variance - running[0])


cdef inline void norm_block(
    const Op *op, const Call *call, const lanes *x, lanes *y
) noexcept nogil:
    """Batch normalisation of one block in prediction, where it could not be folded."""
    cdef int channels = (<const Norm *>op.own).channels
    cdef const float *scale = call.norms + op.norm
    cdef int area = op.inputs // channels
    cdef int c
    for c in range(channels):
        scale_channel(
            x + c * area, y + c * area, area, scale[c], scale[channels + c], op.activation
        )


cdef inline int norm_backward_tasks(
    const Plan *plan, const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    return (<const Norm *>op.own).channels


cdef inline void norm_backward_task(
    const Plan *plan, const Op *op, const Call *call, const Workspace *space,
    const Batch *batch, int c,
) noexcept nogil:
    """Gradients of one channel."""
    cdef Channel channel = channel_of(op, call, batch)
    cdef Py_ssize_t at = c * channel.area
    cdef const float *found = call.norms + op.norm + 2 * c
    batch_norm_backward(
        &channel, map_of(plan, call, space, op.source, batch) + at,
        gradient_of(plan, space, op.number + 1, batch) + at,
        gradient_of(plan, space, op.source, batch) + at if op.needs_dx else NULL,
        found[0], found[1], call.parameters[op.weight + c], call.gradient + op.weight + c,
        call.gradient + op.bias + c, op.below, op.adds,
    )


cdef inline Channel channel_of(
    const Op *op, const Call *call, const Batch *batch
) noexcept nogil:
    """How the maps of one channel lie in a batch."""
    cdef Channel channel
    channel.blocks = batch.blocks
    channel.images = batch.images
    channel.block = op.x_block
    channel.area = op.inputs // (<const Norm *>op.own).channels
    channel.watch = call.watch
    return channel


cdef inline bint ends_at(const Channel *p, int block) noexcept nogil:
    """Whether the call ends at this block: a channel of a large batch takes long."""
    return block % UNWATCHED == 0 and ends(p.watch, lenet5c_thread())


cdef inline lanes images_of(const Channel *p, int block) noexcept nogil:
    """1 in the lanes that hold an image, else 0."""
    cdef lanes mask
    cdef float *values = <float *>&mask
    cdef int n
    for n in range(LANES):
        values[n] = 1 if block * LANES + n < p.images else 0
    return mask


cdef inline void channel_statistics(
    const Channel *p, const lanes *x, float *mean, float *variance
) noexcept nogil:
    """Mean and variance (divided by the count) of x, in two passes

    x  [blocks][area]  lanes
    """
    cdef lanes total = lanes_set(0)
    cdef lanes of_block, of_odd, centre, d
    cdef double count = <double>p.images * p.area
    cdef const lanes *pixels
    cdef int b, i
    for b in range(p.blocks):
        if ends_at(p, b):
            return
        pixels = x + b * p.block
        of_block = of_odd = lanes_set(0)
        for i from 0 <= i < p.area - 1 by 2:
            of_block += pixels[i]
            of_odd += pixels[i + 1]
        if p.area % 2:
            of_block += pixels[p.area - 1]
        total += (of_block + of_odd) * images_of(p, b)
    mean[0] = lanes_sum(total) / count
    centre = lanes_set(mean[0])
    total = lanes_set(0)
    for b in range(p.blocks):
        if ends_at(p, b):
            return
        pixels = x + b * p.block
        of_block = of_odd = lanes_set(0)
        for i from 0 <= i < p.area - 1 by 2:
            d = pixels[i] - centre
            of_block += d * d
            d = pixels[i + 1] - centre
            of_odd += d * d
        if p.area % 2:
            d = pixels[p.area - 1] - centre
            of_block += d * d
        total += (of_block + of_odd) * images_of(p, b)
    variance[0] = lanes_sum(total) / count


cdef inline void scale_channel(
    const lanes *x, lanes *y, int area, float scale, float shift, int activation
) noexcept nogil:
    """y = A(x * scale + shift)

    x, y  [area]  lanes
    """
    cdef lanes a = lanes_set(scale)
    cdef lanes b = lanes_set(shift)
    cdef int i
    for i in range(area):
        y[i] = x[i] * a + b
    activation_forward(y, y, area, activation)


cdef inline void batch_norm_backward(
    const Channel *p, const lanes *x, const lanes *dy, lanes *dx, float mean,
    float inverse, float weight, float *dweight, float *dbias, int below, bint add,
) noexcept nogil:
    """dbias += sum of dy;  dweight += sum of dy n, where n = (x - mean) * inverse
    dx = A'(x) weight inverse (dy - sum(dy) / count - n sum(dy n) / count)

    x   [blocks][area]  lanes, input of the forward pass
    dy  [blocks][area]  lanes, gradient of the output; 0 where there is no image
    dx  [blocks][area]  lanes, written or added to; NULL if nobody wants it
    inverse : 1 / sqrt(variance + eps)
    below : the activation whose output x is
    """
    cdef lanes of_dy = lanes_set(0)
    cdef lanes of_products = lanes_set(0)
    cdef lanes centre = lanes_set(mean)
    cdef lanes slope = lanes_set(inverse)
    cdef lanes factor = lanes_set(weight * inverse)
    cdef lanes mean_dy, mean_product, v, mask
    cdef float count = <float>p.images * p.area
    cdef float sum_dy, sum_products
    cdef Py_ssize_t at
    cdef int b, i
    for b in range(p.blocks):
        if ends_at(p, b):
            return
        at = b * p.block
        for i in range(p.area):
            of_dy += dy[at + i]
            of_products += dy[at + i] * ((x[at + i] - centre) * slope)
    sum_dy = lanes_sum(of_dy)
    sum_products = lanes_sum(of_products)
    dbias[0] += sum_dy
    dweight[0] += sum_products
    if dx == NULL:
        return
    mean_dy = lanes_set(sum_dy / count)
    mean_product = lanes_set(sum_products / count)
    for b in range(p.blocks):
        if ends_at(p, b):
            return
        at = b * p.block
        mask = images_of(p, b) * factor
        for i in range(p.area):
            v = (
                dy[at + i] - mean_dy - (x[at + i] - centre) * slope * mean_product
            ) * mask
            activation_backward(x + at + i, &v, &v, 1, below)
            if add:
                v += dx[at + i]
            dx[at + i] = v


cdef inline float inverse_deviation(float variance, float eps) noexcept nogil:
    return 1 / sqrtf(variance + eps)
