"""Softmax cross-entropy of a block, by way of log-softmax.

    K  classes
"""

from libc.math cimport logf

from lenet5c.core.lanes cimport LANES, lanes, lanes_exp, lanes_max, lanes_set


cdef inline void softmax_cross_entropy(
    const lanes *z, const int *labels, int classes, float share,
    lanes *dz, float *losses, unsigned char *hits,
) noexcept nogil:
    """loss = log(sum over k of exp(z[k] - m)) - (z[label] - m), m = max over k of z[k]
    dz[k] = share * (softmax(z)[k] - (k == label))

    z       [K]      lanes, logits
    labels  [LANES]  class of each image, -1 where there is no image: no loss, dz = 0
    dz      [K]      lanes, gradient of share * loss; may be z, may be NULL
    losses  [LANES]  float, written where there is an image
    hits    [LANES]  1 where the label has the (first) largest logit
    """
    cdef lanes most = z[0]
    cdef lanes total = lanes_set(0)
    cdef lanes scale
    cdef float *largest = <float *>&most
    cdef float *sums = <float *>&total
    cdef float *scales = <float *>&scale
    cdef const float *logits = <const float *>z
    cdef int k, n, label
    for k in range(1, classes):
        most = lanes_max(z[k], most)
    for k in range(classes):
        total += lanes_exp(z[k] - most)
    for n in range(LANES):
        label = labels[n]
        scales[n] = 0
        if label >= 0:
            scales[n] = share / sums[n]
            losses[n] = logf(sums[n]) - (logits[label * LANES + n] - largest[n])
            hits[n] = logits[label * LANES + n] == largest[n]
            for k in range(label):
                if logits[k * LANES + n] == largest[n]:
                    hits[n] = 0
    if dz == NULL:
        return
    for k in range(classes):
        dz[k] = lanes_exp(z[k] - most) * scale
    for n in range(LANES):
        if labels[n] >= 0:
            (<float *>dz)[labels[n] * LANES + n] -= share
