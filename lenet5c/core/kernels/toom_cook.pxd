"""F(M, R): M outputs of a kernel of R taps from M + R - 1 products (Toom and Cook; Winograd
1980, "Arithmetic Complexity of Computations").

    y  = A' [(G w) * (B' d)]    d  the E = M + R - 1 inputs, w  the kernel
    dw = G' dU                  dU = (A dy) * (B' d)
    dx = B dV                   dV = (G w) * (A dy)

G w and B' d are values of polynomials at the points

    0, 1, -1, 2, -2, 1/2, -1/2, infinity    of E = 8
    0, 3/4, -3/4, 3/2, -3/2, infinity       of E = 6
    0, 1, -1, 2, infinity                   of E = 5
    0, 1, -1, infinity                      of E = 4

so B depends on E alone; A holds powers of the points, and G powers divided by the product
of a point's distances from the others. More points cost digits: relative to the largest of
sums of 80 kernels of 5 taps, F(4, 5) errs by 1.3e-6, F(5, 5) by 7e-6 and F(6, 5) by 1.6e-5,
the sum as it is written by 5e-7.

winograd_rows.pxd applies these along the rows of a map, winograd.pxd along both sides.
"""

from lenet5c.core.lanes cimport lanes, lanes_set


cdef inline double point(int E, int i) noexcept nogil:
    """The one of element i; those of the first and the last are 0 and infinity.

    Those of E = 6 err a third as much along rows and columns as 1, -1, 2 and -2 do.
    """
    cdef double p = 1 if i < 3 else 2 if i < 5 else 0.5
    if E == 6:
        p *= 0.75
    return p if i % 2 else -p


cdef inline void shares_of_rows(int E, int R, int i, float *shares) noexcept nogil:
    """G[i]: how much of each of a kernel's R rows is in element i.

    A power of the element's point, over the product of its distances from the others; what
    makes the numbers of B small is left to G as a factor.
    """
    cdef double share
    cdef int row
    if i == 0 or i == E - 1:
        for row in range(R):
            shares[row] = 0
        if i > 0:
            shares[R - 1] = 1
        else:
            shares[0] = 64 / <double>81 if E == 6 else 0.5 if E == 5 else 1
        return
    if E == 8:
        share = -2 / <double>9 if i < 3 else 1 / <double>90 if i < 5 else 32 / <double>45
    elif E == 6:
        share = -128 / <double>243 if i < 3 else 32 / <double>243
    elif E == 5:
        share = -0.5 if i == 1 else -1 / <double>6 if i == 2 else 1 / <double>6
    else:
        share = 0.5
    for row in range(R):
        shares[row] = share
        share *= point(E, i)


cdef inline void input_elements(
    const lanes **d, int x, lanes *to, Py_ssize_t stride, int E
) noexcept nogil:
    """B' d of one column: to[i stride] = sum over r of B[r, i] d[r][x]"""
    cdef lanes d0 = d[0][x]
    cdef lanes d1 = d[1][x]
    cdef lanes d2 = d[2][x]
    cdef lanes d3 = d[3][x]
    cdef lanes d4, d5, d6, d7, even, odd
    if E == 4:
        to[0] = d0 - d2
        to[stride] = d2 + d1
        to[2 * stride] = d2 - d1
        to[3 * stride] = d3 - d1
        return
    d4 = d[4][x]
    if E == 5:
        odd = d3 - d1
        even = lanes_set(2) * d2
        to[0] = lanes_set(2) * d0 + (odd - even)
        to[stride] = (d3 - d2) - lanes_set(2) * d1
        to[2 * stride] = (d3 - d2) + (lanes_set(2) * d1 - even)
        to[3 * stride] = odd
        to[4 * stride] = (d4 - d2) - lanes_set(2) * odd
        return
    d5 = d[5][x]
    if E == 6:
        to[0] = lanes_set(81 / 64.0) * d0 + (d4 - lanes_set(45 / 16.0) * d2)
        even = d4 - lanes_set(2.25) * d2
        odd = d3 - lanes_set(2.25) * d1
        to[stride] = even + lanes_set(0.75) * odd
        to[2 * stride] = even - lanes_set(0.75) * odd
        even = d4 - lanes_set(0.5625) * d2
        odd = d3 - lanes_set(0.5625) * d1
        to[3 * stride] = even + lanes_set(1.5) * odd
        to[4 * stride] = even - lanes_set(1.5) * odd
        to[5 * stride] = lanes_set(81 / 64.0) * d1 + (d5 - lanes_set(45 / 16.0) * d3)
        return
    d6 = d[6][x]
    d7 = d[7][x]
    to[0] = (d0 - d6) + lanes_set(5.25) * (d4 - d2)
    even = (d2 + d6) - lanes_set(4.25) * d4
    odd = (d1 + d5) - lanes_set(4.25) * d3
    to[stride] = even + odd
    to[2 * stride] = even - odd
    even = (d6 + lanes_set(0.25) * d2) - lanes_set(1.25) * d4
    odd = lanes_set(0.5) * d1 + ((d5 + d5) - lanes_set(2.5) * d3)
    to[3 * stride] = even + odd
    to[4 * stride] = even - odd
    even = d6 + lanes_set(4) * (d2 - lanes_set(1.25) * d4)
    odd = lanes_set(0.5) * d5 + ((d1 + d1) - lanes_set(2.5) * d3)
    to[5 * stride] = even + odd
    to[6 * stride] = even - odd
    to[7 * stride] = (d7 - d1) + lanes_set(5.25) * (d3 - d5)


cdef inline void gradient_elements(
    const lanes **d, int x, lanes *to, Py_ssize_t stride, int E, int M
) noexcept nogil:
    """A dy of one column: to[i stride] = sum over j of A[j, i] d[j][x], of M rows"""
    cdef lanes[6] dy
    cdef lanes even, odd
    cdef int j, pair
    cdef float p, power
    for j in range(M):
        dy[j] = d[j][x]
    to[0] = dy[0]
    to[(E - 1) * stride] = dy[M - 1]
    for pair in range((E - 1) // 2):
        p = point(E, 1 + 2 * pair)
        even = dy[0]
        odd = lanes_set(p) * dy[1]
        power = p
        for j in range(2, M):
            power *= p
            if j % 2:
                odd += lanes_set(power) * dy[j]
            else:
                even += lanes_set(power) * dy[j]
        to[(1 + 2 * pair) * stride] = even + odd
        if 2 + 2 * pair < E - 1:
            to[(2 + 2 * pair) * stride] = even - odd


cdef inline void output_rows(
    const lanes *m, Py_ssize_t stride, lanes bias, lanes *y, Py_ssize_t y_row, int rows,
    int E, int M,
) noexcept nogil:
    """A' M of one column: y[j y_row] = bias + sum over i of A[j, i] m[i stride], of the
    `rows` that there are of M"""
    cdef lanes s1 = m[stride] + m[2 * stride]
    cdef lanes d1 = m[stride] - m[2 * stride]
    cdef lanes s2, d2, s3, d3, total
    cdef float one = 1
    cdef float two = 1
    cdef float half = 1
    cdef int j
    s2 = d2 = s3 = d3 = lanes_set(0)
    if E == 5:
        s2 = d2 = m[3 * stride]
    if E >= 6:
        s2 = m[3 * stride] + m[4 * stride]
        d2 = m[3 * stride] - m[4 * stride]
    if E == 8:
        s3 = m[5 * stride] + m[6 * stride]
        d3 = m[5 * stride] - m[6 * stride]
    for j in range(M):
        total = bias + lanes_set(one) * (d1 if j % 2 else s1)
        if j == 0:
            total += m[0]
        elif j == M - 1:
            total += m[(E - 1) * stride]
        if E > 4:
            total += lanes_set(two) * (d2 if j % 2 else s2)
        if E == 8:
            total += lanes_set(half) * (d3 if j % 2 else s3)
        one *= point(E, 1)
        two *= point(E, 3)
        half *= point(E, 5)
        if j < rows:
            y[j * y_row] = total


cdef inline void input_gradient_rows(
    const lanes *m, Py_ssize_t stride, lanes **dx, int x, int E
) noexcept nogil:
    """B dV of one column: dx[r][x] += sum over i of B[r, i] m[i stride]"""
    cdef lanes s12 = m[stride] + m[2 * stride]
    cdef lanes d12 = m[stride] - m[2 * stride]
    cdef lanes m0 = m[0]
    cdef lanes last = m[(E - 1) * stride]
    cdef lanes s34, d34, s56, d56
    if E == 4:
        dx[0][x] += m0
        dx[1][x] += d12 - last
        dx[2][x] += s12 - m0
        dx[3][x] += last
        return
    if E == 5:
        s34 = m[3 * stride] - lanes_set(2) * last
        dx[0][x] += lanes_set(2) * m0
        dx[1][x] -= (m0 + s34) + lanes_set(2) * d12
        dx[2][x] -= lanes_set(2) * (m0 + m[2 * stride]) + (s12 + last)
        dx[3][x] += m0 + (s12 + s34)
        dx[4][x] += last
        return
    s34 = m[3 * stride] + m[4 * stride]
    d34 = m[3 * stride] - m[4 * stride]
    if E == 6:
        d12 *= lanes_set(0.75)
        d34 *= lanes_set(1.5)
        dx[0][x] += lanes_set(81 / 64.0) * m0
        dx[1][x] += lanes_set(81 / 64.0) * last - (
            lanes_set(2.25) * d12 + lanes_set(0.5625) * d34
        )
        dx[2][x] -= lanes_set(45 / 16.0) * m0 + (
            lanes_set(2.25) * s12 + lanes_set(0.5625) * s34
        )
        dx[3][x] += d12 + (d34 - lanes_set(45 / 16.0) * last)
        dx[4][x] += m0 + (s12 + s34)
        dx[5][x] += last
        return
    s56 = m[5 * stride] + m[6 * stride]
    d56 = m[5 * stride] - m[6 * stride]
    dx[0][x] += m0
    dx[1][x] += (d12 - last) + lanes_set(0.5) * d34 + lanes_set(2) * d56
    dx[2][x] += (
        s12 + lanes_set(0.25) * s34 + (lanes_set(4) * s56 - lanes_set(5.25) * m0)
    )
    dx[3][x] += (
        lanes_set(5.25) * last - lanes_set(4.25) * d12 - lanes_set(2.5) * (d34 + d56)
    )
    dx[4][x] += (
        lanes_set(5.25) * m0 - lanes_set(4.25) * s12
        - (lanes_set(1.25) * s34 + lanes_set(5) * s56)
    )
    dx[5][x] += d12 + lanes_set(2) * d34 + (lanes_set(0.5) * d56 - lanes_set(5.25) * last)
    dx[6][x] += (s12 - m0) + (s34 + s56)
    dx[7][x] += last
