"""Augmentation: each image moved, turned, distorted and blotted on its way into the block.

    C, H W    channels, size of the network's input
    IH IW     size of the images, centred in H W
    GH GW     the image with a margin of background: 1 before and 2 behind it

A pixel of the output looks up where it comes from in the image, and takes what lies there
by bilinear interpolation. What lies outside is background.
"""

from libc.math cimport cos, exp, log, sin, sqrt, tan
from libc.stdint cimport uint64_t

from lenet5c.core.lanes cimport (
    LANES, lanes, lanes_normal, lanes_set, lanes_uniform, ulanes,
)
from lenet5c.core.kernels.pack cimport Images, image_row, transpose_rows
from lenet5c.core.random cimport subkey, uniform

cdef enum:
    MAX_TAPS = 64
    DISPLACEMENT_X = 4  # columns that `displacement` smooths together


cdef struct Augment:
    float shift  # most pixels, either way and in both directions
    float rotate  # most radians, either way
    float scale  # most change of the size 1
    float shear  # most radians, either way
    float squeeze  # most change of the width 1, which the height undoes
    float elastic  # see `displacement`; 0: none
    int reach
    float[MAX_TAPS] taps  # half of the Gaussian: at 0, 1, ... reach
    float noise  # standard deviation, in units of what the network sees
    float erase  # probability
    float probability  # of changing an image at all

cdef enum Purpose:  # what an image's key is used for, besides its affine map
    DISPLACED_ROWS
    DISPLACED_COLUMNS
    NOISE
    OPS  # and, from here on, for op number 0, 1, ...

# Random erasing: the rectangle's share of the image, and its height to width (Zhong et al.
# 2020, section 3, with a smaller largest share: a digit has to stay one)
cdef enum:
    MIN_ERASE = 2  # per cent
    MAX_ERASE = 20
    ERASE_ASPECT = 3


cdef inline ulanes lane_keys(
    uint64_t key, const Py_ssize_t *indices, int count, int purpose
) noexcept nogil:
    """For lane n the key of image indices[n] and of one purpose."""
    cdef ulanes keys
    cdef unsigned int *of_lane = <unsigned int *>&keys
    cdef int n
    for n in range(LANES):
        of_lane[n] = 0
        if n < count:
            of_lane[n] = <unsigned int>subkey(subkey(key, indices[n]), purpose)
    return keys


cdef inline Py_ssize_t augment_scratch(int H, int W) noexcept nogil:
    """Lanes of scratch that `pack_augmented` needs."""
    cdef Py_ssize_t WP = (W + LANES - 1) // LANES * LANES
    cdef Py_ssize_t grid = <Py_ssize_t>(H + 3) * (W + 3) // LANES + 1
    return H * WP + 2 * <Py_ssize_t>H * W + displacement_scratch(H, W) + grid


cdef inline Py_ssize_t displacement_scratch(int H, int W) noexcept nogil:
    """Lanes of scratch that `displacement` needs."""
    return <Py_ssize_t>(H + 1) * (W + DISPLACEMENT_X) + 2 * MAX_TAPS


cdef inline int plan_displacement(Augment *a, double alpha, double sigma) noexcept nogil:
    """A Gaussian of sum 1, cut at 3 sigma; 0 if that is too long."""
    cdef double total = 1
    cdef int k
    a.elastic = alpha
    a.reach = <int>(3 * sigma + 0.5)
    if a.reach >= MAX_TAPS:
        return 0
    for k in range(1, a.reach + 1):
        total += 2 * exp(-0.5 * k * k / (sigma * sigma))
    for k in range(a.reach + 1):
        a.taps[k] = exp(-0.5 * k * k / (sigma * sigma)) / total
    return 1


cdef inline void displacement(
    const Augment *a, ulanes keys, lanes *field, lanes *scratch, int H, int W
) noexcept nogil:
    """field[r, c] = alpha times uniform noise in [-1, 1), smoothed by the Gaussian

    Elastic distortion (Simard, Steinkraus and Platt 2003, section 2). Outside of the field
    there is nothing.

    field    [H][W]                lanes, written
    scratch  [displacement_scratch(H, W)]  lanes
    """
    cdef int WB = (W + DISPLACEMENT_X - 1) // DISPLACEMENT_X * DISPLACEMENT_X
    cdef lanes *rows = scratch  # [H][WB], smoothed along the rows
    cdef lanes *line = scratch + H * WB  # [MAX_TAPS][WB][MAX_TAPS], zero around W
    cdef lanes acc[DISPLACEMENT_X]
    cdef const lanes *before
    cdef const lanes *behind
    cdef int r, c, k, i, both
    cdef lanes tap
    for i in range(WB + 2 * MAX_TAPS):
        line[i] = lanes_set(0)
    line += MAX_TAPS
    for r in range(H):
        for c in range(W):
            line[c] = 2 * lanes_uniform(keys, r * W + c) - lanes_set(1)
        for c from 0 <= c < W by DISPLACEMENT_X:
            for i in range(DISPLACEMENT_X):
                acc[i] = a.taps[0] * line[c + i]
            for k in range(1, a.reach + 1):
                tap = lanes_set(a.taps[k])
                before = line + c - k
                behind = line + c + k
                for i in range(DISPLACEMENT_X):
                    acc[i] += tap * (before[i] + behind[i])
            for i in range(DISPLACEMENT_X):
                rows[r * WB + c + i] = acc[i]
    for r in range(H):
        both = min(a.reach, min(r, H - 1 - r))
        for c from 0 <= c < W by DISPLACEMENT_X:
            for i in range(DISPLACEMENT_X):
                acc[i] = a.taps[0] * rows[r * WB + c + i]
            for k in range(1, both + 1):
                tap = lanes_set(a.taps[k])
                before = rows + (r - k) * WB + c
                behind = rows + (r + k) * WB + c
                for i in range(DISPLACEMENT_X):
                    acc[i] += tap * (before[i] + behind[i])
            for k in range(both + 1, min(a.reach, max(r, H - 1 - r)) + 1):
                tap = lanes_set(a.taps[k])
                before = rows + (r - k if k <= r else r + k) * WB + c
                for i in range(DISPLACEMENT_X):
                    acc[i] += tap * before[i]
            for i in range(min(DISPLACEMENT_X, W - c)):
                field[r * W + c + i] = a.elastic * acc[i]


cdef struct Affine:
    # source column = xx u + xy v + x, source row = yx u + yy v + y, of the output pixel
    # u columns and v rows from the centre of the image; both counted in the margined grid
    float xx, xy, x, yx, yy, y


cdef inline Affine draw_affine(
    const Augment *a, uint64_t *state, int IH, int IW
) noexcept nogil:
    """A random map: turned, sheared along the rows, scaled and squeezed along rows and
    columns about the centre, shifted."""
    cdef Affine m
    cdef double angle = uniform(state, -a.rotate, a.rotate)
    cdef double size = uniform(state, 1 - a.scale, 1 + a.scale)
    cdef double slant = tan(uniform(state, -a.shear, a.shear))
    cdef double right = uniform(state, -a.shift, a.shift)
    cdef double down = uniform(state, -a.shift, a.shift)
    cdef double squeezed = uniform(state, 1 - a.squeeze, 1 + a.squeeze)
    cdef double width = size * squeezed
    cdef double height = size / squeezed
    cdef double c = cos(angle)
    cdef double s = sin(angle)
    m.xx = c / width
    m.xy = (c * slant + s) / height
    m.yx = -s / width
    m.yy = (c - s * slant) / height
    m.x = 0.5 * (IW - 1) + 1 - right
    m.y = 0.5 * (IH - 1) + 1 - down
    return m


cdef inline Affine unmoved(int IH, int IW) noexcept nogil:
    """The map that leaves each pixel where it is."""
    cdef Affine m
    m.xx = m.yy = 1
    m.xy = m.yx = 0
    m.x = 0.5 * (IW - 1) + 1
    m.y = 0.5 * (IH - 1) + 1
    return m


cdef inline void warp(
    const float *grid, float *out, const lanes *displacements, const Affine *m, int n,
    int H, int W, int WP, int IH, int IW,
) noexcept nogil:
    """out[r, c] = grid at m(r, c) and the pixel's displacement, between its pixels

    grid   [GH][GW]    float
    out    [H][WP]     float, written
    displacements  [2][H][W]  lanes, of rows and of columns, or NULL
    n                  the image's lane
    """
    cdef int GW = IW + 3
    cdef int r, c, column, row
    cdef float u, v, x, y, top, bottom
    cdef float u0 = -((W - IW) // 2) - 0.5 * (IW - 1)
    cdef float v0 = -((H - IH) // 2) - 0.5 * (IH - 1)
    cdef float right = IW + 1
    cdef float last = IH + 1
    cdef const float *by_rows = <const float *>displacements + n
    cdef const float *by_columns = <const float *>(displacements + H * W) + n
    cdef const float *at
    for r in range(H):
        v = v0 + r
        for c in range(W):
            u = u0 + c
            x = m.xx * u + m.xy * v + m.x
            y = m.yx * u + m.yy * v + m.y
            if displacements != NULL:
                y += by_rows[(r * W + c) * LANES]
                x += by_columns[(r * W + c) * LANES]
            x = min(max(x, <float>0), right)
            y = min(max(y, <float>0), last)
            column = <int>x
            row = <int>y
            x -= column
            y -= row
            at = grid + row * GW + column
            top = at[0] + x * (at[1] - at[0])
            bottom = at[GW] + x * (at[GW + 1] - at[GW])
            out[r * WP + c] = top + y * (bottom - top)


cdef inline void erase_rectangle(
    float *out, uint64_t *state, float background, int H, int W, int WP
) noexcept nogil:
    """Background over a random rectangle of out [H][WP]."""
    cdef double area = uniform(state, MIN_ERASE, MAX_ERASE) / 100 * H * W
    cdef double slim = log(<double>ERASE_ASPECT)
    cdef double aspect = exp(uniform(state, -slim, slim))
    cdef int height = min(H, max(1, <int>(sqrt(area * aspect) + 0.5)))
    cdef int width = min(W, max(1, <int>(sqrt(area / aspect) + 0.5)))
    cdef int top = <int>uniform(state, 0, H - height + 1)
    cdef int left = <int>uniform(state, 0, W - width + 1)
    cdef int r, c
    for r in range(top, top + height):
        for c in range(left, left + width):
            out[r * WP + c] = background


cdef inline void pack_augmented(
    const Images *images, const Py_ssize_t *indices, int count, const Augment *a,
    uint64_t key, lanes *x, lanes *scratch, int H, int W,
) noexcept nogil:
    """As `pack_block`, of each image `probability` of being changed at random, all of it a
    function of the image's key alone

    scratch  [augment_scratch(H, W)]  lanes
    """
    cdef int WP = (W + LANES - 1) // LANES * LANES
    cdef int IH = images.height
    cdef int IW = images.width
    cdef int GW = IW + 3
    cdef float *warped = <float *>scratch  # [LANES][H][WP]
    cdef lanes *displacements = scratch + H * WP  # [2][H][W]
    cdef lanes *displacing = displacements + 2 * H * W
    cdef float *grid = <float *>(displacing + displacement_scratch(H, W))
    cdef uint64_t[LANES] states
    cdef Affine[LANES] maps
    cdef bint[LANES] changed
    cdef ulanes keys
    cdef int c, n, i, row
    cdef lanes noise = lanes_set(0)
    cdef uint64_t state
    if a.elastic > 0:
        keys = lane_keys(key, indices, count, DISPLACED_ROWS)
        displacement(a, keys, displacements, displacing, H, W)
        keys = lane_keys(key, indices, count, DISPLACED_COLUMNS)
        displacement(a, keys, displacements + H * W, displacing, H, W)
    for n in range(count):
        states[n] = subkey(key, indices[n])
        maps[n] = draw_affine(a, &states[n], IH, IW)
        changed[n] = uniform(&states[n], 0, 1) < a.probability
        if not changed[n]:
            maps[n] = unmoved(IH, IW)
    for i in range((IH + 3) * GW):
        grid[i] = images.background
    for i in range(LANES * H * WP):
        warped[i] = 0
    for c in range(images.channels):
        for n in range(count):
            for row in range(IH):
                image_row(images, indices[n], c, row, grid + (row + 1) * GW + 1)
            warp(
                grid, warped + n * H * WP,
                displacements if a.elastic > 0 and changed[n] else NULL,
                &maps[n], n, H, W, WP, IH, IW,
            )
            if a.erase > 0 and changed[n]:
                state = states[n]  # the same for each channel
                if uniform(&state, 0, 1) < a.erase:
                    erase_rectangle(
                        warped + n * H * WP, &state, images.background, H, W, WP
                    )
        for row in range(H):
            transpose_rows(warped + row * WP, H * WP, x + (c * H + row) * W, W)
    if a.noise > 0:
        keys = lane_keys(key, indices, count, NOISE)
        for n in range(count):
            (<float *>&noise)[n] = a.noise if changed[n] else 0
        for i in range(images.channels * H * W):
            x[i] += noise * lanes_normal(keys, i)
