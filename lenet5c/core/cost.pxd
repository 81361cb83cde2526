"""What an op costs, estimated when it is planned: the choice between two engines needs it.

Cycles of the forward pass of one block, with all weights in the cache. A kind whose
algorithm is not the plain sum of `y_product` sets `Op.cycles` in its planning.
"""

from lenet5c.core.kernels.activation cimport IDENTITY, RELU
from lenet5c.core.kernels.correlate cimport (
    Correlation, correlation_cost, is_dense, packed_size,
)
from lenet5c.core.lanes cimport LANES, TILE_PAIR_F, TILE_PAIR_X, lanes
from lenet5c.core.plan cimport Op, Plan
from lenet5c.core.tile cimport tap_cost, tile_columns

cdef enum:
    LOAD_CYCLES = 10  # of a pixel of all images, on its way into lanes
    LANE_CYCLES = 3  # of an element of a map, to read or write it
    CURVE_CYCLES = 8  # of activating it, but for ReLU
    TILE_TAPS = 4  # of a tile, to begin and to store it
    CACHE_BYTES = 1 << 23  # that both maps of an op may have
    BYTES_A_CYCLE = 6  # of maps that have more


cdef inline double op_cycles(const Op *op, bint layerwise) noexcept:
    """The product as it is written, or where there is none a walk over both maps."""
    if op.y_product.filters == 0:
        return <double>LANE_CYCLES * (op.inputs + op.outputs)
    return product_cycles(&op.y_product, layerwise) + <double>LANE_CYCLES * op.outputs


cdef inline double product_cycles(const Correlation *p, bint layerwise) noexcept:
    """The sum over channels and taps, without those that lie in the padding."""
    cdef double rows = 0
    cdef double taps = 0
    cdef double tiles
    cdef int i, top
    for i in range(p.out_h):
        top = p.top + i * p.step
        rows += max(0, min(p.rows, p.height - top) - max(0, -top))
    if not layerwise:
        rows = rows * p.channels + p.out_h * TILE_TAPS / <double>max(1, p.taps)
        if LANES == 4 and tile_columns(p.tile) == 1:  # SSE: a shuffle for each weight
            rows *= 2
        return rows * correlation_cost(p, p.tile)
    for i in range(p.out_w):
        taps += max(
            0, min(p.taps, p.right - i * p.step) - max(0, p.left - i * p.step)
        )
    tiles = (p.filters + TILE_PAIR_F - 1) // TILE_PAIR_F / <double>TILE_PAIR_X
    taps = rows * taps * p.channels + <double>TILE_TAPS * p.out_h * p.out_w
    # measured: dense products are one long run, others are runs of few taps
    tiles *= 0.8 if is_dense(p) else 1.5
    return taps * tiles * tap_cost(TILE_PAIR_F, TILE_PAIR_X)


cdef inline double block_cycles(const Plan *plan) noexcept:
    """All ops in prediction, their activations, and the images on their way in."""
    cdef double cycles = <double>LOAD_CYCLES * plan.sizes[0]
    cdef const Op *op
    cdef Py_ssize_t bytes
    cdef int i
    for i in range(plan.count):
        op = &plan.ops[i]
        bytes = (op.inputs + op.outputs) * <Py_ssize_t>sizeof(lanes)
        if bytes > CACHE_BYTES:
            cycles += bytes / <double>BYTES_A_CYCLE
        if i == 0 or not plan.ops[i - 1].folds:
            cycles += op.cycles
        if op.activation != IDENTITY:
            cycles += op.outputs * <double>(1 if op.activation == RELU else CURVE_CYCLES)
    return cycles


cdef inline double weight_bytes(const Plan *plan) noexcept:
    """What of the packed weights the forward pass reads."""
    cdef double floats = 0
    cdef int i
    for i in range(plan.count):
        if plan.ops[i].pack != NULL:
            floats += <double>plan.ops[i].elements * packed_size(&plan.ops[i].y_product)
    return floats * sizeof(float)
