"""Images on their way into the block layout: gather, pad, scale and normalise.

    C, H W    channels, size of the network's input
    IH IW     size of the images, centred in H W
"""

from libc.string cimport memcpy

from lenet5c.core.lanes cimport (
    LANES, lanes, lanes_byte, lanes_load, lanes_set, lanes_transpose,
)

cdef extern from *:
    """
    /* to[i] = from[i] * scale + offset. A function of its own: bytes may be anything's, and
     * only `restrict` tells the compiler that they are not those of `to`. */
    static __attribute__((noinline)) void lenet5c_scale_bytes(
        const unsigned char *__restrict from, float *__restrict to, int n, float scale,
        float offset)
    {
        for (int i = 0; i < n; i++) to[i] = from[i] * scale + offset;
    }
    """
    void lenet5c_scale_bytes(
        const unsigned char *, float *, int, float, float
    ) noexcept nogil

cdef struct Images:
    const unsigned char *bytes  # (N, C, IH, IW), or NULL
    const float *floats  # (N, C, IH, IW), where bytes is NULL
    int channels, height, width
    float scale, offset, background  # a byte b becomes b * scale + offset
    float float_scale, float_offset  # a float likewise


cdef inline void image_row(
    const Images *images, Py_ssize_t index, int channel, int row, float *to
) noexcept nogil:
    """One row of an image, as the network sees it: `to` (IW,) float, written"""
    cdef Py_ssize_t at = (
        (index * images.channels + channel) * images.height + row
    ) * images.width
    cdef const float *floats
    cdef int i
    cdef float scale, offset
    if images.bytes != NULL:
        lenet5c_scale_bytes(
            images.bytes + at, to, images.width, images.scale, images.offset
        )
    else:
        floats = images.floats + at
        scale, offset = images.float_scale, images.float_offset
        for i in range(images.width):
            to[i] = floats[i] * scale + offset


cdef inline void transpose_rows(
    const float *rows, Py_ssize_t apart, lanes *x, int W
) noexcept nogil:
    """lane n of x[column] = rows[n apart + column]: one row of each image of a block

    rows  float, readable up to whole registers
    x     [W]  lanes, written
    """
    cdef lanes square[LANES]
    cdef int column = 0
    cdef int n
    while column < W:
        for n in range(LANES):
            square[n] = lanes_load(rows + n * apart + column)
        lanes_transpose(square)
        for n in range(min(LANES, W - column)):
            x[column + n] = square[n]
        column += LANES


cdef inline void transpose_block(
    const lanes *x, Py_ssize_t step, float *rows, Py_ssize_t row, int features
) noexcept nogil:
    """rows[n, i] = lane n of x[i]

    x     [I]          lanes, `step` apart
    rows  [LANES][IP]  float, `row` apart; zero beyond I
    """
    cdef lanes square[LANES]
    cdef int i, n
    i = 0
    while i < features:
        for n in range(LANES):
            square[n] = x[(i + n) * step] if i + n < features else lanes_set(0)
        lanes_transpose(square)
        for n in range(LANES):
            (<lanes *>(rows + n * row + i))[0] = square[n]
        i += LANES


cdef inline void load_pixels(
    const Images *images, Py_ssize_t at, int pixels, lanes *v
) noexcept nogil:
    """The pixels from number `at` of all images on, side by side in v as they are."""
    cdef const unsigned char *start = images.bytes + at
    cdef int size = pixels
    if images.bytes == NULL:
        start = <const unsigned char *>(images.floats + at)
        size *= <int>sizeof(float)
    if size == sizeof(lanes):
        v[0] = lanes_load(<const float *>start)
    else:
        memcpy(v, start, size)


cdef inline void fill_border(
    const Images *images, lanes background, lanes *x, int H, int W
) noexcept nogil:
    """x[c, y, x] = background, where no pixel of the images comes to lie"""
    cdef int top = (H - images.height) // 2
    cdef int left = (W - images.width) // 2
    cdef int _, row, column
    cdef bint inside
    for _ in range(images.channels):
        for row in range(H):
            inside = top <= row < top + images.height
            for column in range(left if inside else W):
                x[column] = background
            if inside:
                for column in range(left + images.width, W):
                    x[column] = background
            x += W


cdef inline void pack_block(
    const Images *images, const Py_ssize_t *indices, int count, lanes *x, int H, int W
) noexcept nogil:
    """x[c, top + iy, left + ix] = image[indices[n], c, iy, ix] in lane n

    Images are read a register at a time, through the ends of rows and channels. The last
    register ends where the image does, and holds some pixels that have been there before.

    indices  [count]    images of this block, count <= LANES; lanes beyond are 0
    x        [C][H][W]  lanes, written
    """
    cdef lanes square[LANES]
    cdef lanes pixels[4 * LANES]
    cdef lanes scale, offset, background
    cdef bint bytes = images.bytes != NULL
    cdef int width = images.width
    cdef int most = <int>sizeof(lanes) if bytes else LANES
    cdef Py_ssize_t size = <Py_ssize_t>images.channels * images.height * width
    cdef Py_ssize_t row = 0
    cdef Py_ssize_t start = 0
    cdef int column = 0
    cdef int skip = 0
    cdef int n, i, run
    scale = offset = background = lanes_set(0)
    for n in range(count):
        (<float *>&scale)[n] = images.scale if bytes else images.float_scale
        (<float *>&offset)[n] = images.offset if bytes else images.float_offset
        (<float *>&background)[n] = images.background
    fill_border(images, background, x, H, W)
    x += (H - images.height) // 2 * W + (W - width) // 2
    most = min(<Py_ssize_t>most, size)
    while start < size:
        skip = max(<Py_ssize_t>0, start + most - size)
        for n in range(LANES):
            square[n] = lanes_set(0)
            if n < count:
                load_pixels(images, indices[n] * size + start - skip, most, &square[n])
        lanes_transpose(square)
        for i in range(LANES):
            if bytes:
                for n in range(4):
                    pixels[4 * i + n] = lanes_byte(square[i], n)
            else:
                pixels[i] = square[i]
        start += most - skip
        i = skip
        while i < most:
            run = min(most - i, width - column)
            for n in range(run):
                x[column + n] = pixels[i + n] * scale + offset
            i += run
            column += run
            if column == width:
                column = 0
                row += 1
                x += W
                if row % images.height == 0:
                    x += <Py_ssize_t>(H - images.height) * W


cdef inline void pack_image(
    const Images *images, Py_ssize_t index, float *x, int H, int W
) noexcept nogil:
    """x[c, top + iy, left + ix] = image[index, c, iy, ix]

    x  [C][H][W]  float, written
    """
    cdef int top = (H - images.height) // 2
    cdef int left = (W - images.width) // 2
    cdef int c, row, column
    for c in range(images.channels):
        for row in range(H):
            if top <= row < top + images.height:
                for column in range(left):
                    x[column] = images.background
                image_row(images, index, c, row - top, x + left)
                for column in range(left + images.width, W):
                    x[column] = images.background
            else:
                for column in range(W):
                    x[column] = images.background
            x += W


cdef inline void first_lanes(lanes *x, Py_ssize_t n) noexcept nogil:
    """x[i], counted in floats, = lane 0 of x[i], for i < n"""
    cdef float *values = <float *>x
    cdef Py_ssize_t i
    for i in range(n):
        values[i] = values[i * LANES]


cdef inline void into_first_lanes(lanes *x, Py_ssize_t n) noexcept nogil:
    """The opposite; the other lanes are 0."""
    cdef lanes v
    cdef Py_ssize_t i
    for i in range(n - 1, -1, -1):
        v = lanes_set(0)
        (<float *>&v)[0] = (<float *>x)[i]
        x[i] = v


cdef inline void unpack_block(
    const lanes *x, float *rows, Py_ssize_t row, int size, int count
) noexcept nogil:
    """rows[n, i] = lane n of x[i], for the first `count` lanes

    x     [size]          lanes
    rows  (count, size)   float, `row` apart
    """
    cdef lanes square[LANES]
    cdef int i = 0
    cdef int n
    while i < size:
        for n in range(min(LANES, size - i)):
            square[n] = x[i + n]
        lanes_transpose(square)
        for n in range(count):
            memcpy(rows + n * row + i, &square[n], min(LANES, size - i) * sizeof(float))
        i += LANES


cdef inline void load_rows(
    const float *rows, Py_ssize_t row, int size, int count, lanes *x
) noexcept nogil:
    """lane n of x[i] = rows[n, i]; lanes from `count` on are 0

    rows  (count, size)  float, `row` apart
    x     [size]         lanes
    """
    cdef lanes square[LANES]
    cdef int i = 0
    cdef int n
    while i < size:
        for n in range(LANES):
            square[n] = lanes_set(0)
            if n < count:
                memcpy(&square[n], rows + n * row + i, min(LANES, size - i) * sizeof(float))
        lanes_transpose(square)
        for n in range(min(LANES, size - i)):
            x[i + n] = square[n]
        i += LANES
