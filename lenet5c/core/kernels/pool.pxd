"""Average and maximum pooling: the arithmetic, of a block of images or of one.

    C, H W, OH OW   channels, input map, output map (what a window does not cover is left)
    K, S, P         window, stride and padding, the same for rows and columns
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport SCALED_TANH, TANH, activation_backward
from lenet5c.core.lanes cimport (
    LANES, LENET5C_AMPLITUDE, LENET5C_SLOPE, lanes, lanes_load, lanes_max, lanes_pairs,
    lanes_set, lanes_store, lanes_sum, lanes_twice_high, lanes_twice_low,
    lanes_where_equal,
)

cdef struct Pooling:
    int channels, height, width, out_h, out_w, window, stride
    int padding  # of maximum pooling
    Py_ssize_t gradient  # of subsampling: offset in a shard's gradients, blockwise


cdef struct Gradients:
    # of a channel's weight and bias, not yet summed over the lanes
    lanes dweight, dbias


cdef inline lanes window_sum(
    const lanes *x, Py_ssize_t width, int window
) noexcept nogil:
    """Sum over ky, kx of x[ky, kx]"""
    cdef lanes total
    cdef int ky, kx
    if window == 2:
        return (x[0] + x[1]) + (x[width] + x[width + 1])
    total = lanes_set(0)
    for ky in range(window):
        for kx in range(window):
            total += x[ky * width + kx]
    return total


cdef inline void avg_pool_forward(
    const Pooling *p, const lanes *x, lanes *y, const float *weight, const float *bias
) noexcept nogil:
    """y[c, oy, ox] = weight[c] (sum over ky, kx of x[c, oy S + ky, ox S + kx]) + bias[c]

    x       [C][H][W]    lanes
    y       [C][OH][OW]  lanes
    weight  (C,)         float, or NULL: 1 / K^2, the mean, without a bias
    bias    (C,)         float
    """
    cdef int row, ox
    cdef int c, oy
    cdef int K = p.window
    cdef Py_ssize_t W = p.width
    cdef const lanes *window
    cdef lanes share = lanes_set(1 / <float>(K * K))
    cdef lanes shift = lanes_set(0)
    for row in range(p.channels * p.out_h):
        c = row // p.out_h
        oy = row % p.out_h
        window = x + (c * p.height + oy * p.stride) * W
        if weight != NULL:
            share = lanes_set(weight[c])
            shift = lanes_set(bias[c])
        for ox in range(p.out_w):
            y[ox] = window_sum(window, W, K) * share + shift
            window += p.stride
        y += p.out_w


cdef inline void avg_pool_backward(
    const Pooling *p, const lanes *x, const lanes *dy, lanes *dx, int activation,
    const float *weight,
) noexcept nogil:
    """dx[c, iy, ix] = A'(x) weight[c] (sum over the windows that hold iy, ix of dy)

    x       [C][H][W]    lanes, output of the activation below
    dy      [C][OH][OW]  lanes, gradient of the output
    dx      [C][H][W]    lanes, gradient of what went into the activation
    weight  (C,)         float, or NULL: 1 / K^2
    """
    cdef int row, ox, ky, kx
    cdef int c, oy
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t corner
    cdef lanes share = lanes_set(1 / <float>(p.window * p.window))
    cdef lanes most = lanes_set(1)
    cdef lanes d
    cdef float steepness = 1
    cdef bint halves = p.height % 2 == 0 and p.width % 2 == 0
    if activation == SCALED_TANH:
        most = lanes_set(LENET5C_AMPLITUDE * LENET5C_AMPLITUDE)
        steepness = LENET5C_SLOPE / LENET5C_AMPLITUDE
    if p.window == 2 and p.stride == 2 and halves and activation in (TANH, SCALED_TANH):
        # every pixel lies in exactly one window: tanh's derivative on the way
        share *= lanes_set(steepness)
        for row in range(p.channels * p.out_h):
            if weight != NULL:
                share = lanes_set(weight[row // p.out_h] * steepness)
            for ox in range(p.out_w):
                d = dy[ox] * share
                dx[0] = d * (most - x[0] * x[0])
                dx[1] = d * (most - x[1] * x[1])
                dx[W] = d * (most - x[W] * x[W])
                dx[W + 1] = d * (most - x[W + 1] * x[W + 1])
                x += 2
                dx += 2
            dy += p.out_w
            x += W
            dx += W
        return
    for corner in range(p.channels * p.height * W):
        dx[corner] = lanes_set(0)
    for row in range(p.channels * p.out_h):
        c = row // p.out_h
        oy = row % p.out_h
        corner = (c * p.height + oy * p.stride) * W
        if weight != NULL:
            share = lanes_set(weight[c])
        for ox in range(p.out_w):
            d = dy[ox] * share
            for ky in range(p.window):
                for kx in range(p.window):
                    dx[corner + ky * W + kx] += d
            corner += p.stride
        dy += p.out_w
    activation_backward(x, dx, dx, p.channels * p.height * W, activation)


cdef inline void add_channel(
    const Pooling *p, const lanes *x, const lanes *dy, int c, Gradients *sums
) noexcept nogil:
    """dweight += sum over oy, ox of dy[c, oy, ox] (sum over ky, kx of x[c, ...])
    dbias += sum over oy, ox of dy[c, oy, ox]

    x   [C][H][W]    lanes, input of the forward pass
    dy  [C][OH][OW]  lanes, gradient of the output; 0 where there is no image
    """
    cdef int oy, ox
    cdef int K = p.window
    cdef Py_ssize_t W = p.width
    cdef lanes dweight = lanes_set(0)
    cdef lanes dbias = lanes_set(0)
    cdef const lanes *window
    dy += c * p.out_h * p.out_w
    for oy in range(p.out_h):
        window = x + (c * p.height + oy * p.stride) * W
        for ox in range(p.out_w):
            dweight += dy[ox] * window_sum(window, W, K)
            dbias += dy[ox]
            window += p.stride
        dy += p.out_w
    sums.dweight += dweight
    sums.dbias += dbias


cdef inline void max_pool_forward(
    const Pooling *p, const lanes *x, lanes *y
) noexcept nogil:
    """y[c, oy, ox] = max over ky, kx of x[c, oy S - P + ky, ox S - P + kx]

    where there is a pixel

    x  [C][H][W]    lanes
    y  [C][OH][OW]  lanes
    """
    cdef int row, ox, ky, kx, top, left, ky_end, kx_end
    cdef Py_ssize_t W = p.width
    cdef const lanes *window
    cdef lanes most
    for row in range(p.channels * p.out_h):
        top = row % p.out_h * p.stride - p.padding
        ky_end = min(p.window, p.height - top)
        if p.window == 2 and p.padding == 0:
            window = x + (row // p.out_h * p.height + top) * W
            for ox in range(p.out_w):
                y[ox] = lanes_max(
                    lanes_max(window[0], window[1]), lanes_max(window[W], window[W + 1])
                )
                window += p.stride
            y += p.out_w
            continue
        for ox in range(p.out_w):
            left = ox * p.stride - p.padding
            kx_end = min(p.window, p.width - left)
            window = x + (row // p.out_h * p.height + top) * W + left
            most = window[max(0, -top) * W + max(0, -left)]
            for ky in range(max(0, -top), ky_end):
                for kx in range(max(0, -left), kx_end):
                    most = lanes_max(most, window[ky * W + kx])
            y[ox] = most
        y += p.out_w


cdef inline void halving_max_pool_backward(
    const Pooling *p, const lanes *x, const lanes *y, const lanes *dy, lanes *dx,
    int activation,
) noexcept nogil:
    """`max_pool_backward` of windows of 2x2 side by side: each pixel is written once."""
    cdef int row, ox, i, j
    cdef Py_ssize_t W = p.width
    cdef lanes most, rest
    cdef lanes nothing = lanes_set(0)
    for row in range(p.channels * p.out_h):
        for ox in range(p.out_w):
            most = y[ox]
            activation_backward(&most, &dy[ox], &rest, 1, activation)
            for i in range(2):
                for j in range(2):
                    dx[i * W + j] = lanes_where_equal(x[i * W + j], most, rest, nothing)
                    rest = lanes_where_equal(x[i * W + j], most, nothing, rest)
            x += 2
            dx += 2
        if W % 2:
            dx[0] = dx[W] = nothing
        x += W + W % 2
        dx += W + W % 2
        if p.height % 2 and row % p.out_h == p.out_h - 1:
            for i in range(W):
                dx[i] = nothing
            x += W
            dx += W
        y += p.out_w
        dy += p.out_w


cdef inline void max_pool_backward(
    const Pooling *p, const lanes *x, const lanes *y, const lanes *dy, lanes *dx,
    int activation,
) noexcept nogil:
    """dx[c, iy, ix] = A'(x) sum of dy over the windows whose first maximum is at iy, ix

    x   [C][H][W]    lanes, input of the forward pass
    y   [C][OH][OW]  lanes, its output
    dy  [C][OH][OW]  lanes, gradient of the output
    dx  [C][H][W]    lanes, gradient of what went into the activation below
    """
    cdef int row, ox, ky, kx, top, left, ky_end, kx_end
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t corner, at
    cdef lanes most, rest
    cdef lanes nothing = lanes_set(0)
    if p.window == 2 and p.stride == 2 and p.padding == 0:
        halving_max_pool_backward(p, x, y, dy, dx, activation)
        return
    for corner in range(p.channels * p.height * W):
        dx[corner] = nothing
    for row in range(p.channels * p.out_h):
        top = row % p.out_h * p.stride - p.padding
        ky_end = min(p.window, p.height - top)
        for ox in range(p.out_w):
            left = ox * p.stride - p.padding
            kx_end = min(p.window, p.width - left)
            corner = (row // p.out_h * p.height + top) * W + left
            most = y[ox]  # and x where the gradient goes
            activation_backward(&most, &dy[ox], &rest, 1, activation)
            for ky in range(max(0, -top), ky_end):
                for kx in range(max(0, -left), kx_end):
                    at = corner + ky * W + kx
                    dx[at] += lanes_where_equal(x[at], most, rest, nothing)
                    rest = lanes_where_equal(x[at], most, nothing, rest)
        y += p.out_w
        dy += p.out_w


cdef inline void global_avg_pool_forward(
    const lanes *x, lanes *y, int channels, int area
) noexcept nogil:
    """y[c] = mean of x[c]

    x  [C][H W]  lanes
    y  [C]       lanes
    """
    cdef int c, i
    cdef lanes total
    cdef lanes share = lanes_set(1 / <float>area)
    for c in range(channels):
        total = lanes_set(0)
        for i in range(area):
            total += x[i]
        y[c] = total * share
        x += area


cdef inline void global_avg_pool_backward(
    const lanes *x, const lanes *dy, lanes *dx, int channels, int area, int activation
) noexcept nogil:
    """dx[c, i] = A'(x[c, i]) dy[c] / (H W)

    x   [C][H W]  lanes, output of the activation below
    dy  [C]       lanes, gradient of the output
    dx  [C][H W]  lanes, gradient of what went into the activation
    """
    cdef int c, i
    cdef lanes d
    cdef lanes share = lanes_set(1 / <float>area)
    for c in range(channels):
        d = dy[c] * share
        for i in range(area):
            dx[c * area + i] = d
    activation_backward(x, dx, dx, <Py_ssize_t>channels * area, activation)

# One image: maps are floats


cdef inline void image_avg_pool_forward(
    const Pooling *p, const float *x, float *y, const float *weight, const float *bias
) noexcept nogil:
    """`avg_pool_forward` of one image

    x  [C][H][W]    float, on whole registers
    y  [C][OH][OW]  float, likewise

    Windows of 2x2 side by side are whole registers, whose ends in the next rows are
    written again.
    """
    cdef int row, ox, ky, kx
    cdef Py_ssize_t W = p.width
    cdef const float *window
    cdef float total
    cdef float share = 1 / <float>(p.window * p.window)
    cdef float of_channel = 0
    for row in range(p.channels * p.out_h):
        if weight != NULL:
            share = weight[row // p.out_h]
            of_channel = bias[row // p.out_h]
        window = x + (row // p.out_h * p.height + row % p.out_h * p.stride) * W
        if p.window == 2 and p.stride == 2:
            for ox from 0 <= ox < p.out_w by LANES:
                lanes_store(
                    y + ox,
                    lanes_set(of_channel) + lanes_set(share) * lanes_pairs(
                        lanes_load(window) + lanes_load(window + W),
                        lanes_load(window + LANES) + lanes_load(window + LANES + W),
                    ),
                )
                window += 2 * LANES
        else:
            for ox in range(p.out_w):
                total = 0
                for ky in range(p.window):
                    for kx in range(p.window):
                        total += window[ky * W + ox * p.stride + kx]
                y[ox] = of_channel + share * total
        y += p.out_w


cdef inline void image_avg_pool_backward(
    const Pooling *p, const float *dy, float *dx, const float *weight
) noexcept nogil:
    """`avg_pool_backward` of one image, without any activation below"""
    cdef int row, ox, ky, kx, _
    cdef Py_ssize_t W = p.width
    cdef float *window
    cdef float d
    cdef float share = 1 / <float>(p.window * p.window)
    cdef lanes of_windows
    cdef bint halves = p.height % 2 == 0 and p.width % 2 == 0
    halves = halves and p.window == 2 and p.stride == 2
    if not halves:
        memset(dx, 0, p.channels * p.height * W * sizeof(float))
    for row in range(p.channels * p.out_h):
        if weight != NULL:
            share = weight[row // p.out_h]
        window = dx + (row // p.out_h * p.height + row % p.out_h * p.stride) * W
        if halves:
            for _ in range(2):
                for ox from 0 <= ox < p.out_w by LANES:
                    of_windows = lanes_load(dy + ox) * lanes_set(share)
                    lanes_store(window + 2 * ox, lanes_twice_low(of_windows))
                    lanes_store(window + 2 * ox + LANES, lanes_twice_high(of_windows))
                window += W
        else:
            for ox in range(p.out_w):
                d = dy[ox] * share
                for ky in range(p.window):
                    for kx in range(p.window):
                        window[ky * W + ox * p.stride + kx] += d
        dy += p.out_w


cdef inline void image_window_gradients(
    const Pooling *p, const float *x, const float *dy, float *dweight, float *dbias
) noexcept nogil:
    """dweight[c] = sum over oy, ox of dy[c, oy, ox] (sum over ky, kx of x[c, ...])
    dbias[c] = sum over oy, ox of dy[c, oy, ox]

    x   [C][H][W]    float, on whole registers
    dy  [C][OH][OW]  float
    """
    cdef int c, oy, ox, ky, kx
    cdef Py_ssize_t W = p.width
    cdef const float *window
    cdef float total
    for c in range(p.channels):
        dweight[c] = dbias[c] = 0
        for oy in range(p.out_h):
            window = x + (c * p.height + oy * p.stride) * W
            for ox in range(p.out_w):
                total = 0
                for ky in range(p.window):
                    for kx in range(p.window):
                        total += window[ky * W + kx]
                dweight[c] += dy[ox] * total
                dbias[c] += dy[ox]
                window += p.stride
            dy += p.out_w


cdef inline Py_ssize_t first_maximum(
    const Pooling *p, const float *x, int row, int ox
) noexcept nogil:
    """Where in x the first maximum of a window lies."""
    cdef int top = row % p.out_h * p.stride - p.padding
    cdef int left = ox * p.stride - p.padding
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t corner = (row // p.out_h * p.height + top) * W + left
    cdef Py_ssize_t at
    cdef Py_ssize_t found = corner + max(0, -top) * W + max(0, -left)
    cdef int ky, kx
    for ky in range(max(0, -top), min(p.window, p.height - top)):
        for kx in range(max(0, -left), min(p.window, <int>W - left)):
            at = corner + ky * W + kx
            if x[at] > x[found]:
                found = at
    return found
