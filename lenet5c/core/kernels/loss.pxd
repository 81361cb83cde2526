"""Softmax cross-entropy of a block, by way of log-softmax.

    K  classes
"""

from libc.math cimport logf

from lenet5c.core.lanes cimport LANES, lanes, lanes_exp, lanes_max, lanes_set


cdef inline void softmax_cross_entropy(
    const lanes *z, const int *labels, const float *weights, int classes, float loss_scale,
    float smoothing, lanes *dz, float *losses, unsigned char *correct,
) noexcept nogil:
    """loss = weight * (log(sum over k of exp(z[k] - m)) - sum over k of t[k] (z[k] - m))
    dz[k] = loss_scale * weight * (softmax(z)[k] - t[k])

    where m = max over k of z[k], and t[k] = (1 - smoothing) (k == label) + smoothing / K
    (label smoothing: Szegedy et al. 2016, section 7)

    z       [K]      lanes, logits
    labels  [LANES]  class of each image, -1 where there is no image: no loss, dz = 0
    weights [LANES]  of each image
    dz      [K]      lanes, gradient of loss_scale * loss; may be z, may be NULL
    losses  [LANES]  float, written where there is an image
    correct    [LANES]  1 where the label has the (first) largest logit
    """
    cdef lanes most = z[0]
    cdef lanes total = lanes_set(0)
    cdef lanes scale
    cdef lanes all_classes = lanes_set(0)  # smoothing / K of the gradient
    cdef lanes rest = lanes_set(0)
    cdef float *largest = <float *>&most
    cdef float *sums = <float *>&total
    cdef float *scales = <float *>&scale
    cdef const float *logits = <const float *>z
    cdef float *of_all = <float *>&all_classes
    cdef float target = 1 - smoothing
    cdef float spread = smoothing / classes
    cdef int k, n, label
    for k in range(1, classes):
        most = lanes_max(z[k], most)
    for k in range(classes):
        total += lanes_exp(z[k] - most)
    if smoothing > 0:
        for k in range(classes):
            rest += z[k] - most
    for n in range(LANES):
        label = labels[n]
        scales[n] = 0
        if label >= 0:
            scales[n] = loss_scale * weights[n] / sums[n]
            of_all[n] = loss_scale * weights[n] * spread
            losses[n] = weights[n] * (
                logf(sums[n]) - target * (logits[label * LANES + n] - largest[n])
                - spread * (<float *>&rest)[n]
            )
            correct[n] = logits[label * LANES + n] == largest[n]
            for k in range(label):
                if logits[k * LANES + n] == largest[n]:
                    correct[n] = 0
    if dz == NULL:
        return
    for k in range(classes):
        dz[k] = lanes_exp(z[k] - most) * scale - all_classes
    for n in range(LANES):
        if labels[n] >= 0:
            (<float *>dz)[labels[n] * LANES + n] -= loss_scale * weights[n] * target
