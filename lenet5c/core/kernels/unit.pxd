"""The unit of a row of weights with which their integers are nearest to them."""

cdef enum:
    SUMS = 8  # beside each other, whatever the core: the same unit on all
    UNITS = 18  # that are tried, each 2^(1/8) smaller than the one before
    CLOSER = 2  # times that the best of them is brought closer


cdef struct Fit:
    # of weights w and their integers q: sums of (w - unit q)^2, of w q and of q^2
    double error, products, squares


cdef inline Fit fit_of(
    const double *w, Py_ssize_t n, double unit, double least, double most
) noexcept nogil:
    """How well `unit` times integers from `least` to `most` are the weights."""
    cdef double[SUMS] errors, products, squares
    cdef double inverse = 1 / unit
    cdef double far = 6755399441055744.0  # 1.5 * 2^52: to add it rounds
    cdef double q, d
    cdef Py_ssize_t i = 0
    cdef int k
    cdef Fit found
    for k in range(SUMS):
        errors[k] = products[k] = squares[k] = 0
    while i <= n - SUMS:
        for k in range(SUMS):
            q = w[i + k] * inverse
            q = least if q < least else q
            q = most if q > most else q
            q = (q + far) - far
            d = w[i + k] - unit * q
            errors[k] += d * d
            products[k] += w[i + k] * q
            squares[k] += q * q
        i += SUMS
    for i in range(i, n):
        q = w[i] * inverse
        q = least if q < least else q
        q = most if q > most else q
        q = (q + far) - far
        d = w[i] - unit * q
        errors[0] += d * d
        products[0] += w[i] * q
        squares[0] += q * q
    found.error = found.products = found.squares = 0
    for k in range(SUMS):
        found.error += errors[k]
        found.products += products[k]
        found.squares += squares[k]
    return found


cdef inline double best_unit(
    const double *w, Py_ssize_t n, double least, double most
) noexcept nogil:
    """The unit of least squared error: the best of UNITS, from the largest that cuts
    nothing off, and then CLOSER times the best one for the integers that it gave; 0 if
    all weights are

    It is never so large that no weight would become `least` or `most`: so weights that
    are such integers already keep their unit.

    w  [n]  double
    """
    cdef double unit = 0
    cdef double end = most
    cdef double best = 0
    cdef double error = -1
    cdef Fit found
    cdef Py_ssize_t i
    for i in range(n):
        if w[i] > unit * most:
            unit = w[i] / most
            end = most
        if w[i] < unit * least:
            unit = w[i] / least
            end = -least
    if unit == 0:
        return 0
    end = unit * end / (end - 0.5) * (1 - 1e-9)
    for _ in range(UNITS):
        found = fit_of(w, n, unit, least, most)
        if error < 0 or found.error < error:
            best = unit
            error = found.error
        unit *= 0.9170040432046712  # 2^(-1/8)
    for _ in range(CLOSER):
        found = fit_of(w, n, best, least, most)
        if found.products > 0:
            best = min(end, found.products / found.squares)
    return best
