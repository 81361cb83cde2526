"""Activation functions: y = A(x) forward, dx = dy * A'(y) backward, from the output y."""

from lenet5c.core.lanes cimport (
    LENET5C_AMPLITUDE, LENET5C_SLOPE, lanes, lanes_if_positive, lanes_max, lanes_set,
    lanes_tanh,
)

cdef enum Activation:
    IDENTITY
    TANH
    RELU
    SIGMOID
    SCALED_TANH


cdef inline int activation_number(name) except -1:
    """Of a layer's kind, or a ValueError; None is no activation."""
    numbers = {
        None: IDENTITY, "tanh": TANH, "relu": RELU, "sigmoid": SIGMOID,
        "scaled_tanh": SCALED_TANH,
    }
    if name not in numbers:
        raise ValueError(f"the core has no kernel for a layer of kind {name!r}")
    return numbers[name]


cdef inline lanes scaled_tanh_slope(lanes y) noexcept nogil:
    """(S / A) (A^2 - y^2), the derivative of y = A tanh(S x)"""
    cdef float steepness = LENET5C_SLOPE / LENET5C_AMPLITUDE
    return lanes_set(steepness) * (
        lanes_set(LENET5C_AMPLITUDE * LENET5C_AMPLITUDE) - y * y
    )


cdef inline void activation_forward(
    const lanes *x, lanes *y, Py_ssize_t n, int activation
) noexcept nogil:
    """y[i] = A(x[i])

    x  [n]  lanes
    y  [n]  lanes, may be x
    """
    cdef Py_ssize_t i
    if activation == TANH:
        for i in range(n):
            y[i] = lanes_tanh(x[i])
    elif activation == RELU:
        for i in range(n):
            y[i] = lanes_max(lanes_set(0), x[i])
    elif activation == SIGMOID:
        for i in range(n):
            y[i] = lanes_set(0.5) * (lanes_set(1) + lanes_tanh(lanes_set(0.5) * x[i]))
    elif activation == SCALED_TANH:
        for i in range(n):
            y[i] = lanes_set(LENET5C_AMPLITUDE) * lanes_tanh(
                lanes_set(LENET5C_SLOPE) * x[i]
            )
    elif x != y:
        for i in range(n):
            y[i] = x[i]


cdef inline void activation_backward(
    const lanes *y, const lanes *dy, lanes *dx, Py_ssize_t n, int activation
) noexcept nogil:
    """dx[i] = dy[i] * A'(x[i]): tanh' = 1 - y^2, relu' = (y > 0), sigmoid' = y - y^2,
    of the scaled tanh it is (S / A) (A^2 - y^2)

    y   [n]  lanes, output of the forward pass
    dy  [n]  lanes, gradient of y
    dx  [n]  lanes, may be dy
    """
    cdef Py_ssize_t i
    if activation == TANH:
        for i in range(n):
            dx[i] = dy[i] * (lanes_set(1) - y[i] * y[i])
    elif activation == RELU:
        for i in range(n):
            dx[i] = lanes_if_positive(y[i], dy[i])
    elif activation == SIGMOID:
        for i in range(n):
            dx[i] = dy[i] * y[i] * (lanes_set(1) - y[i])
    elif activation == SCALED_TANH:
        for i in range(n):
            dx[i] = dy[i] * scaled_tanh_slope(y[i])
    elif dx != dy:
        for i in range(n):
            dx[i] = dy[i]
