"""Losses of a block, and their gradients.

    K  classes
"""

from libc.math cimport INFINITY, logf

from lenet5c.core.lanes cimport LANES, lanes, lanes_exp, lanes_max, lanes_set

cdef enum Objective:  # as lenet5c/training/losses.py numbers them
    CROSS_ENTROPY  # with a rubbish class, if j is finite
    LIKELIHOOD


cdef inline void softmax_cross_entropy(
    const lanes *z, const int *labels, const float *weights, int classes, float loss_scale,
    float smoothing, float rubbish, lanes *dz, float *losses, unsigned char *correct,
) noexcept nogil:
    """loss = weight * (log(exp(-j - m) + sum over k of exp(z[k] - m))
                     - sum over k of t[k] (z[k] - m))
    dz[k] = loss_scale * weight * (exp(z[k] - m) / (exp(-j - m) + sum over i of
            exp(z[i] - m)) - t[k])

    where m = max(-j, max over k of z[k]), and t[k] = (1 - smoothing) (k == label) +
    smoothing / K (label smoothing: Szegedy et al. 2016, section 7). With j = infinity that
    is softmax cross-entropy, by way of log-softmax; else -j is the logit of a rubbish class
    that no image is of (LeCun et al. 1998, eq. 9).

    z       [K]      lanes, logits
    labels  [LANES]  class of each image, -1 where there is no image: no loss, dz = 0
    weights [LANES]  of each image
    rubbish          j
    dz      [K]      lanes, gradient of loss_scale * loss; may be z, may be NULL
    losses  [LANES]  float, written where there is an image
    correct    [LANES]  1 where the label has the (first) largest logit
    """
    cdef lanes most = largest_logit(z, classes)
    cdef lanes top = most  # m
    cdef lanes total = lanes_set(0)
    cdef lanes scale
    cdef lanes all_classes = lanes_set(0)  # smoothing / K of the gradient
    cdef lanes rest = lanes_set(0)
    cdef float *sums = <float *>&total
    cdef float *scales = <float *>&scale
    cdef const float *logits = <const float *>z
    cdef float *of_all = <float *>&all_classes
    cdef float target = 1 - smoothing
    cdef float spread = smoothing / classes
    cdef int k, n, label
    if rubbish < INFINITY:
        top = lanes_max(lanes_set(-rubbish), most)
        total = lanes_exp(lanes_set(-rubbish) - top)
    for k in range(classes):
        total += lanes_exp(z[k] - top)
    if smoothing > 0:
        for k in range(classes):
            rest += z[k] - top
    for n in range(LANES):
        label = labels[n]
        scales[n] = 0
        if label >= 0:
            scales[n] = loss_scale * weights[n] / sums[n]
            of_all[n] = loss_scale * weights[n] * spread
            losses[n] = weights[n] * (
                logf(sums[n])
                - target * (logits[label * LANES + n] - (<float *>&top)[n])
                - spread * (<float *>&rest)[n]
            )
            correct[n] = is_largest(logits, n, label, (<float *>&most)[n])
    if dz == NULL:
        return
    for k in range(classes):
        dz[k] = lanes_exp(z[k] - top) * scale - all_classes
    for n in range(LANES):
        if labels[n] >= 0:
            (<float *>dz)[labels[n] * LANES + n] -= loss_scale * weights[n] * target


cdef inline void likelihood_loss(
    const lanes *z, const int *labels, const float *weights, int classes, float loss_scale,
    lanes *dz, float *losses, unsigned char *correct,
) noexcept nogil:
    """loss = -weight * z[label]
    dz[k] = -loss_scale * weight * (k == label)

    (LeCun et al. 1998, eq. 8, where the penalty of a class is -z); arguments as above.
    """
    cdef lanes most = largest_logit(z, classes)
    cdef const float *logits = <const float *>z
    cdef int k, n
    for n in range(LANES):
        if labels[n] >= 0:
            losses[n] = -weights[n] * logits[labels[n] * LANES + n]
            correct[n] = is_largest(logits, n, labels[n], (<float *>&most)[n])
    for k in range(classes):
        dz[k] = lanes_set(0)
    for n in range(LANES):
        if labels[n] >= 0:
            (<float *>dz)[labels[n] * LANES + n] = -loss_scale * weights[n]


cdef inline lanes largest_logit(const lanes *z, int classes) noexcept nogil:
    """max over k of z[k]"""
    cdef lanes most = z[0]
    cdef int k
    for k in range(1, classes):
        most = lanes_max(z[k], most)
    return most


cdef inline bint is_largest(
    const float *logits, int n, int label, float most
) noexcept nogil:
    """Whether the label's logit of image n is the largest, `most`, and the first such."""
    cdef int k
    for k in range(label):
        if logits[k * LANES + n] == most:
            return False
    return logits[label * LANES + n] == most
