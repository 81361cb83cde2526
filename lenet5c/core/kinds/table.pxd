"""The kinds of ops that the core has."""

from lenet5c.core.kinds.activation cimport plan_activation, plan_leaky_relu
from lenet5c.core.kinds.add cimport plan_add
from lenet5c.core.kinds.conv cimport plan_conv
from lenet5c.core.kinds.conv_table cimport plan_conv_table
from lenet5c.core.kinds.dense cimport plan_dense
from lenet5c.core.kinds.dropout cimport plan_dropout
from lenet5c.core.kinds.finish cimport plan_finish
from lenet5c.core.kinds.norm cimport plan_norm
from lenet5c.core.kinds.pool cimport (
    plan_avg_pool, plan_global_avg_pool, plan_max_pool, plan_subsampling,
)
from lenet5c.core.kinds.radial_basis cimport plan_radial_basis
from lenet5c.core.plan cimport FUSES_ACTIVATION, WHOLE_BATCH, Op, Plan

# Fills in what an op of this kind does, and where its parameters lie.
ctypedef int (*PlanOp)(Plan *plan, Op *op, dict node) except -1

cdef struct Kind:
    PlanOp plan
    int traits


cdef inline dict kinds():
    """A line for each kind: a new one is a file beside this one, and a line here."""
    whole_batch = FUSES_ACTIVATION | WHOLE_BATCH
    return {
        "conv2d": (<size_t><void *>plan_conv, FUSES_ACTIVATION),
        "conv_table": (<size_t><void *>plan_conv_table, FUSES_ACTIVATION),
        "dense": (<size_t><void *>plan_dense, FUSES_ACTIVATION),
        "radial_basis": (<size_t><void *>plan_radial_basis, 0),
        "batch_norm2d": (<size_t><void *>plan_norm, whole_batch),
        "residual": (<size_t><void *>plan_add, whole_batch),
        "avg_pool2d": (<size_t><void *>plan_avg_pool, 0),
        "subsampling2d": (<size_t><void *>plan_subsampling, FUSES_ACTIVATION),
        "max_pool2d": (<size_t><void *>plan_max_pool, 0),
        "global_avg_pool2d": (<size_t><void *>plan_global_avg_pool, 0),
        "dropout": (<size_t><void *>plan_dropout, 0),
        "tanh": (<size_t><void *>plan_activation, 0),
        "scaled_tanh": (<size_t><void *>plan_activation, 0),
        "relu": (<size_t><void *>plan_activation, 0),
        "sigmoid": (<size_t><void *>plan_activation, 0),
        "leaky_relu": (<size_t><void *>plan_leaky_relu, 0),
        "finish": (<size_t><void *>plan_finish, 0),
    }


cdef inline list kinds_with(int trait):
    """Names of the kinds that have a trait."""
    return [kind for kind, (_, traits) in kinds().items() if traits & trait]


cdef inline Kind kind_of(str name) except *:
    """What the core knows of a kind, or a ValueError."""
    cdef Kind kind
    known = kinds()
    if name not in known:
        raise ValueError(f"the core has no kernel for a layer of kind {name!r}")
    address, kind.traits = known[name]
    kind.plan = <PlanOp><void *><size_t>address
    return kind
