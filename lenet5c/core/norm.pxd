"""Batch normalisation (Ioffe and Szegedy 2015), one channel of all blocks at a time.

    mean, variance  of the channel over the images of the batch and their pixels
    scale, shift    y = x * scale + shift

Blocks are added up in their order. Lanes of the last block that hold no image count
nothing, and their gradient is 0.
"""

from libc.math cimport sqrtf

from lenet5c.core.activation cimport activation_backward, activation_forward
from lenet5c.core.lanes cimport LANES, lanes, lanes_set, lanes_sum


cdef struct Channel:
    # one channel of a batch
    int blocks, images
    Py_ssize_t block  # lanes from one block to the next
    int area  # pixels


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
