"""Fit the rational approximation of tanh in csrc/elementary.h.

tanh(x) = x P(x^2) / Q(x^2) on [-9, 9], P and Q of degree 4, by iteratively reweighted
least squares on the relative error (Lawson's algorithm on the linearised problem).
Prints the coefficients in ascending order and the largest relative error.

    python docs/fit_tanh.py
"""

import numpy as np
from numpy.polynomial import chebyshev

LIMIT, DEGREE, POINTS, ROUNDS = 9.0, 4, 2000, 1000


def fit() -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of P and Q in powers of x^2 (Q[0] = 1), and the relative error."""
    nodes = np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    x = np.maximum(LIMIT * (1 + nodes) / 2, 1e-6)
    t = 2 * (x / LIMIT) ** 2 - 1
    target = np.tanh(x) / x
    basis = chebyshev.chebvander(t, DEGREE)
    weight, q = np.ones(POINTS), np.ones(POINTS)
    best = (np.inf, np.empty(0))
    for _ in range(ROUNDS):
        scale = (np.sqrt(weight) / (target * q))[:, None]
        columns = np.hstack([basis, -target[:, None] * basis[:, 1:]]) * scale
        c = np.linalg.lstsq(columns, target * scale[:, 0], rcond=None)[0]
        q = basis @ np.r_[1, c[DEGREE + 1 :]]
        error = np.abs(basis @ c[: DEGREE + 1] / q / target - 1)
        if error.max() < best[0]:
            best = (error.max(), c)
        weight = weight * (error / error.max() + 1e-3)
        weight /= weight.sum()
    worst, c = best
    in_powers = []
    for series in (c[: DEGREE + 1], np.r_[1, c[DEGREE + 1 :]]):
        of_t = np.polynomial.Polynomial(chebyshev.cheb2poly(series))
        in_powers.append(of_t(np.polynomial.Polynomial([-1, 2 / LIMIT**2])).coef)
    p, q = in_powers
    return p / q[0], q / q[0], float(worst)


if __name__ == "__main__":
    p, q, worst = fit()
    print("P", ", ".join(f"{v:.9e}f" for v in p))
    print("Q", ", ".join(f"{v:.9e}f" for v in q))
    print(f"largest relative error {worst:.2e}")
