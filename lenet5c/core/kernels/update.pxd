"""Optimizer steps on a slice of the flat parameter vector."""

from libc.math cimport sqrtf


cdef inline void sgd_step(
    float *w, const float *g, float *v, Py_ssize_t n,
    float learning_rate, float momentum, bint nesterov, float weight_decay,
) noexcept nogil:
    """d = g + weight_decay w;  v = momentum v + d
    w -= learning_rate (d + momentum v) with Nesterov's momentum, else learning_rate v

    w  [n]  parameters, updated
    g  [n]  gradient
    v  [n]  velocity, updated
    """
    cdef Py_ssize_t i
    cdef float d
    if nesterov:
        for i in range(n):
            d = g[i] + weight_decay * w[i]
            v[i] = momentum * v[i] + d
            w[i] -= learning_rate * (d + momentum * v[i])
    else:
        for i in range(n):
            d = g[i] + weight_decay * w[i]
            v[i] = momentum * v[i] + d
            w[i] -= learning_rate * v[i]


cdef inline void adamw_step(
    float *w, const float *g, float *m, float *v, Py_ssize_t n,
    float learning_rate, float beta1, float beta2, float eps, float weight_decay,
    float correction1, float correction2,
) noexcept nogil:
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
    w -= learning_rate (weight_decay w + (m / c1) / (sqrt(v / c2) + eps))

    with c = 1 - beta^t, t the number of this step: Loshchilov and Hutter 2019, "Decoupled
    weight decay regularization", algorithm 2.

    w     [n]  parameters, updated
    g     [n]  gradient
    m, v  [n]  first and second moment, updated
    """
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = beta1 * m[i] + (1 - beta1) * g[i]
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i]
        w[i] -= learning_rate * (
            weight_decay * w[i]
            + (m[i] / correction1) / (sqrtf(v[i] / correction2) + eps)
        )


cdef inline void sdlm_step(
    float *w, const float *g, const float *rates, Py_ssize_t n, float learning_rate
) noexcept nogil:
    """w -= learning_rate rates g

    Stochastic diagonal Levenberg-Marquardt, rates = 1 / (mu + h): LeCun, Bottou, Bengio,
    Haffner 1998, "Gradient-based learning applied to document recognition", appendix C.

    w      [n]  parameters, updated
    g      [n]  gradient
    rates  [n]  of each parameter
    """
    cdef Py_ssize_t i
    for i in range(n):
        w[i] -= learning_rate * rates[i] * g[i]


cdef inline void average_step(
    float *average, const float *w, Py_ssize_t n, float share
) noexcept nogil:
    """average += share (w - average)

    average  [n]  updated
    w        [n]  parameters
    """
    cdef Py_ssize_t i
    for i in range(n):
        average[i] += share * (w[i] - average[i])


cdef inline void scale_vector(float *v, Py_ssize_t n, float scale) noexcept nogil:
    """v[i] *= scale"""
    cdef Py_ssize_t i
    for i in range(n):
        v[i] *= scale


cdef enum:
    PARTS = 32  # of a sum


cdef inline double squares(const float *v, Py_ssize_t n) noexcept nogil:
    """The sum of the squares of v [n], in parts that stay in registers."""
    cdef double[PARTS] parts
    cdef Py_ssize_t i
    cdef double total = 0
    cdef int k
    for k in range(PARTS):
        parts[k] = 0
    for i from 0 <= i < n - n % PARTS by PARTS:
        for k in range(PARTS):
            parts[k] += <double>v[i + k] * v[i + k]
    for i in range(n - n % PARTS, n):
        total += <double>v[i] * v[i]
    for k in range(PARTS):
        total += parts[k]
    return total
