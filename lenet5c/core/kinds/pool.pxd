"""Average and maximum pooling.

    C, H W, OH OW   channels, input map, output map (what a window does not cover is left)
    K, S, P         window, stride and padding, the same for rows and columns
"""

from libc.string cimport memset

from lenet5c.core.kernels.activation cimport TANH, activation_backward
from lenet5c.core.kernels.image cimport registers_of
from lenet5c.core.lanes cimport (
    LANES, lanes, lanes_load, lanes_max, lanes_pairs, lanes_set, lanes_store,
    lanes_twice_high, lanes_twice_low, lanes_where_equal,
)
from lenet5c.core.plan cimport Call, Here, Op, Part, Plan, own, part_of

cdef struct Pooling:
    int channels, height, width, out_h, out_w, window, stride
    int padding  # of maximum pooling


cdef inline Pooling *plan_pool(Op *op, dict node) except NULL:
    cdef Pooling *p = <Pooling *>own(op, sizeof(Pooling))
    p.channels, p.height, p.width = node["input_shape"]
    _, p.out_h, p.out_w = node["output_shape"]
    op.splits = True
    return p


cdef struct Channels:
    # those of a part, as a pooling of their own; its maps begin at x and y
    Pooling pool
    Py_ssize_t x, y


cdef inline Channels channels_of(const Op *op, const Here *here) noexcept nogil:
    cdef const Pooling *p = <const Pooling *>op.own
    cdef Part part = part_of(here, p.channels, 1)
    cdef Channels of_part
    of_part.pool = p[0]
    of_part.pool.channels = part.count
    of_part.x = <Py_ssize_t>part.first * p.height * p.width
    of_part.y = <Py_ssize_t>part.first * p.out_h * p.out_w
    return of_part


cdef inline int plan_window(Op *op, dict node) except -1:
    cdef Pooling *p = plan_pool(op, node)
    p.window = node["kernel_size"]
    p.stride = node["stride"]
    p.padding = node.get("padding", 0)
    return 0


cdef inline int plan_avg_pool(Plan *plan, Op *op, dict node) except -1:
    plan_window(op, node)
    op.forward = avg_forward
    op.backward_input = avg_backward
    op.image_forward = image_avg_forward
    op.image_input = image_avg_backward
    return 0


cdef inline void avg_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    avg_pool_forward(&part.pool, x + part.x, y + part.y)


cdef inline void avg_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    avg_pool_backward(&part.pool, x + part.x, dy + part.y, dx + part.x, op.below)


cdef inline int plan_max_pool(Plan *plan, Op *op, dict node) except -1:
    plan_window(op, node)
    op.forward = max_forward
    op.backward_input = max_backward
    op.image_forward = image_max_forward
    op.image_input = image_max_backward
    return 0


cdef inline void max_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    max_pool_forward(&part.pool, x + part.x, y + part.y)


cdef inline void max_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    max_pool_backward(
        &part.pool, x + part.x, y + part.y, dy + part.y, dx + part.x, op.below
    )


cdef inline int plan_global_avg_pool(Plan *plan, Op *op, dict node) except -1:
    plan_pool(op, node)
    op.forward = global_avg_forward
    op.backward_input = global_avg_backward
    op.image_forward = image_global_avg_forward
    op.image_input = image_global_avg_backward
    return 0


cdef inline void global_avg_forward(
    const Op *op, const Call *call, const Here *here, const lanes *x, lanes *y
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    cdef const Pooling *p = &part.pool
    global_avg_pool_forward(x + part.x, y + part.y, p.channels, p.height * p.width)


cdef inline void global_avg_backward(
    const Op *op, const Call *call, const Here *here, const lanes *x, const lanes *y,
    const lanes *dy, lanes *dx,
) noexcept nogil:
    cdef Channels part = channels_of(op, here)
    cdef const Pooling *p = &part.pool
    global_avg_pool_backward(
        x + part.x, dy + part.y, dx + part.x, p.channels, p.height * p.width, op.below
    )


cdef inline void avg_pool_forward(
    const Pooling *p, const lanes *x, lanes *y
) noexcept nogil:
    """y[c, oy, ox] = mean over ky, kx of x[c, oy S + ky, ox S + kx]

    x  [C][H][W]    lanes
    y  [C][OH][OW]  lanes
    """
    cdef int row, ox, ky, kx
    cdef int c, oy
    cdef Py_ssize_t W = p.width
    cdef const lanes *window
    cdef lanes total
    cdef lanes share = lanes_set(1 / <float>(p.window * p.window))
    for row in range(p.channels * p.out_h):
        c = row // p.out_h
        oy = row % p.out_h
        window = x + (c * p.height + oy * p.stride) * W
        if p.window == 2:
            for ox in range(p.out_w):
                y[ox] = (
                    (window[0] + window[1]) + (window[W] + window[W + 1])
                ) * share
                window += p.stride
        else:
            for ox in range(p.out_w):
                total = lanes_set(0)
                for ky in range(p.window):
                    for kx in range(p.window):
                        total += window[ky * W + kx]
                y[ox] = total * share
                window += p.stride
        y += p.out_w


cdef inline void avg_pool_backward(
    const Pooling *p, const lanes *x, const lanes *dy, lanes *dx, int activation
) noexcept nogil:
    """dx[c, iy, ix] = A'(x) sum over the windows that hold iy, ix of dy / K^2

    x   [C][H][W]    lanes, output of the activation below
    dy  [C][OH][OW]  lanes, gradient of the output
    dx  [C][H][W]    lanes, gradient of what went into the activation
    """
    cdef int row, ox, ky, kx, _
    cdef int c, oy
    cdef Py_ssize_t W = p.width
    cdef Py_ssize_t corner
    cdef lanes share = lanes_set(1 / <float>(p.window * p.window))
    cdef lanes one = lanes_set(1)
    cdef lanes d
    cdef bint halves = p.height % 2 == 0 and p.width % 2 == 0
    if p.window == 2 and p.stride == 2 and halves and activation == TANH:
        # every pixel lies in exactly one window: tanh's derivative on the way
        for _ in range(p.channels * p.out_h):
            for ox in range(p.out_w):
                d = dy[ox] * share
                dx[0] = d * (one - x[0] * x[0])
                dx[1] = d * (one - x[1] * x[1])
                dx[W] = d * (one - x[W] * x[W])
                dx[W + 1] = d * (one - x[W + 1] * x[W + 1])
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
        for ox in range(p.out_w):
            d = dy[ox] * share
            for ky in range(p.window):
                for kx in range(p.window):
                    dx[corner + ky * W + kx] += d
            corner += p.stride
        dy += p.out_w
    activation_backward(x, dx, dx, p.channels * p.height * W, activation)


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


cdef inline void image_avg_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """`avg_pool_forward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    image_window_sums(p, x, y, 1 / <float>(p.window * p.window))


cdef inline void image_window_sums(
    const Pooling *p, const float *x, float *y, float share
) noexcept nogil:
    """y[c, oy, ox] = share * sum over ky, kx of x[c, oy S + ky, ox S + kx]

    Windows of 2x2 side by side are whole registers, whose ends in the next rows are
    written again.
    """
    cdef int row, ox, ky, kx
    cdef Py_ssize_t W = p.width
    cdef const float *window
    cdef float total
    cdef lanes part = lanes_set(share)
    for row in range(p.channels * p.out_h):
        window = x + (row // p.out_h * p.height + row % p.out_h * p.stride) * W
        if p.window == 2 and p.stride == 2:
            for ox from 0 <= ox < p.out_w by LANES:
                lanes_store(
                    y + ox,
                    part * lanes_pairs(
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
                y[ox] = share * total
        y += p.out_w


cdef inline void image_avg_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """`avg_pool_backward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    image_spread_windows(p, dy, dx, 1 / <float>(p.window * p.window))
    activation_backward(
        <const lanes *>x, <lanes *>dx, <lanes *>dx, registers_of(op.inputs), op.below
    )


cdef inline void image_spread_windows(
    const Pooling *p, const float *dy, float *dx, float share
) noexcept nogil:
    """dx[c, iy, ix] = share * sum of dy over the windows that hold iy, ix"""
    cdef int row, ox, ky, kx, _
    cdef Py_ssize_t W = p.width
    cdef float *window
    cdef float d
    cdef lanes of_windows
    cdef bint halves = p.height % 2 == 0 and p.width % 2 == 0
    halves = halves and p.window == 2 and p.stride == 2
    if not halves:
        memset(dx, 0, p.channels * p.height * W * sizeof(float))
    for row in range(p.channels * p.out_h):
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


cdef inline void image_max_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """`max_pool_forward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef int row, ox
    for row in range(p.channels * p.out_h):
        for ox in range(p.out_w):
            y[ox] = x[first_maximum(p, x, row, ox)]
        y += p.out_w


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


cdef inline void image_max_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """`max_pool_backward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef int row, ox
    memset(dx, 0, op.inputs * sizeof(float))
    for row in range(p.channels * p.out_h):
        for ox in range(p.out_w):
            dx[first_maximum(p, x, row, ox)] += dy[ox]
        dy += p.out_w
    activation_backward(
        <const lanes *>x, <lanes *>dx, <lanes *>dx, registers_of(op.inputs), op.below
    )


cdef inline void image_global_avg_forward(
    const Op *op, const Call *call, const Here *here, const float *x, float *y
) noexcept nogil:
    """`global_avg_pool_forward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef Py_ssize_t area = <Py_ssize_t>p.height * p.width
    cdef Py_ssize_t c, i
    cdef float total
    for c in range(p.channels):
        total = 0
        for i in range(area):
            total += x[c * area + i]
        y[c] = total / area


cdef inline void image_global_avg_backward(
    const Op *op, const Call *call, const Here *here, const float *x, const float *y,
    const float *dy, float *dx,
) noexcept nogil:
    """`global_avg_pool_backward` of one image."""
    cdef const Pooling *p = <const Pooling *>op.own
    cdef Py_ssize_t area = <Py_ssize_t>p.height * p.width
    cdef Py_ssize_t c, i
    for c in range(p.channels):
        for i in range(area):
            dx[c * area + i] = dy[c] / area
    activation_backward(
        <const lanes *>x, <lanes *>dx, <lanes *>dx, registers_of(op.inputs), op.below
    )
