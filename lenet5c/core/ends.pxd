"""The two ends of a network: images in, the loss and its gradient out."""

from lenet5c.core.kernels.activation cimport activation_backward
from lenet5c.core.kernels.augment cimport pack_augmented
from lenet5c.core.kernels.loss cimport (
    LIKELIHOOD, likelihood_loss, softmax_cross_entropy,
)
from lenet5c.core.kernels.pack cimport load_rows, pack_block
from lenet5c.core.lanes cimport LANES, lanes
from lenet5c.core.plan cimport Block, Call, Op, Plan


cdef inline void load_block(
    const Plan *plan, const Call *call, lanes *arena, Py_ssize_t first, lanes *x,
    Block *block,
) noexcept nogil:
    """The images from `first` on into x, and what is known of them into `block`."""
    describe_block(call, first, min(<Py_ssize_t>LANES, call.count - first), block)
    if call.augment != NULL:
        pack_augmented(
            &call.images, block.indices, block.count, call.augment, call.key, x,
            arena + plan.image_rows, plan.H, plan.W,
        )
    else:
        pack_block(&call.images, block.indices, block.count, x, plan.H, plan.W)


cdef inline void describe_block(
    const Call *call, Py_ssize_t first, int count, Block *block
) noexcept nogil:
    """Which images they are, their labels and weights."""
    cdef int n
    block.count = count
    for n in range(LANES):
        block.labels[n] = -1
        block.weights[n] = 0
        if n < block.count:
            block.indices[n] = first + n
            if call.indices != NULL:
                block.indices[n] = call.indices[first + n]
            if call.labels != NULL:
                block.labels[n] = call.labels[block.indices[n]]
            block.weights[n] = 1
            if call.weights != NULL:
                block.weights[n] = call.weights[block.indices[n]]


cdef inline void block_loss(
    const Op *last, const Call *call, const Block *block, Py_ssize_t first,
    const lanes *logits, lanes *dy,
) noexcept nogil:
    """The gradient of a block's logits, from its labels or as it was given; dy is that of
    what went into the last op's activation."""
    cdef Py_ssize_t size = last.outputs
    if call.labels != NULL and call.loss == LIKELIHOOD:
        likelihood_loss(
            logits, block.labels, block.weights, size, call.loss_scale, dy,
            call.losses + first, call.correct + first,
        )
    elif call.labels != NULL:
        softmax_cross_entropy(
            logits, block.labels, block.weights, size, call.loss_scale, call.smoothing,
            call.rubbish, dy, call.losses + first, call.correct + first,
        )
    else:
        load_rows(call.dy + first * size, size, size, block.count, dy)
    activation_backward(logits, dy, dy, size, last.activation)
