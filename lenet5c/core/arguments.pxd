"""Python's tuples and vectors as the structs that kernels want; lengths are checked."""

from lenet5c.core.kernels.augment cimport MAX_TAPS, Augment, plan_displacement
from lenet5c.core.kernels.pack cimport Images


cdef inline int same_length(Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) except -1:
    if a != b or a != c:
        raise ValueError(f"vectors of different lengths: {a}, {b}, {c}")
    return 0


cdef inline int set_stage(Images *images, stage) except -1:
    """The tuple of `Network.forward` as the kernels want it."""
    (
        images.scale, images.offset, images.background, images.float_scale,
        images.float_offset,
    ) = stage
    return 0


cdef inline int set_augment(Augment *settings, augment) except -1:
    """The tuple of `Network.loss_and_gradient` as the kernels want it."""
    cdef double elastic, sigma
    (settings.shift, settings.rotate, settings.scale, settings.shear, settings.squeeze,
     elastic, sigma, settings.noise, settings.erase, settings.probability) = augment
    if not plan_displacement(settings, elastic, sigma):
        raise ValueError(f"sigma: expected less than {MAX_TAPS / 3:g}, got {sigma:g}")
    return 0
