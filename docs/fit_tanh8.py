"""Fit the pieces of tanh8 in csrc/runtime/int8_sets.h and print them.

    python docs/fit_tanh8.py

tanh8(t) is 127 tanh(t / 256), rounded (docs/int8.md). Each piece of 64 arguments is a
quadratic polynomial in 16 bits whose products are rounded; least squares give its
coefficients, and a search around them those that are right for all its arguments.
"""

import numpy as np

MOST, WIDTH = 799, 64
PIECES = 2 * -(-MOST // WIDTH)


def multiplied(a, b):
    return (a * b + (1 << 14)) >> 15


def right(t):
    return np.rint(127 * np.tanh(t / 256)).astype(int)


def fitted(t):
    """c0, c1, c2 with (c0 + L (c1 + L c2)) >> 8 = tanh8(t), where L is that of t."""
    low = t % WIDTH << 9
    powers = (low[:, np.newaxis] / 2**15) ** np.arange(3)
    exact = 256 * 127 * np.tanh(t / 256) + 128
    _, slope, curve = np.rint(np.linalg.lstsq(powers, exact, rcond=None)[0]).astype(int)
    best = -1
    for c2 in curve + np.arange(-120, 121):
        c1 = slope + np.arange(-300, 301)
        sums = multiplied(low, c1[:, np.newaxis] + multiplied(low, c2))
        least = (256 * right(t) - sums).max(axis=1)  # of all c0 that are right
        most = (256 * right(t) + 255 - sums).min(axis=1)
        n = (most - least).argmax()
        if most[n] - least[n] > best:
            best = most[n] - least[n]
            found = (least[n] + most[n]) // 2, c1[n], c2
    if best < 0:
        raise SystemExit(f"no coefficients for {t[0]} to {t[-1]}")
    return found


def main():
    arguments = np.arange(-PIECES // 2 * WIDTH, PIECES // 2 * WIDTH)
    pieces = [t[abs(t) <= MOST] for t in np.split(arguments, PIECES)]
    table = np.array([fitted(t) for t in pieces]).T
    print("tanh8_pieces:", *map(list, table.tolist()), sep="\n")
    upper = table[:, PIECES // 2 :]
    for name, part in (("low", upper & 255), ("high", upper >> 8 & 255)):
        print(f"tanh8_bytes, {name}:", *map(list, part.tolist()), sep="\n")


if __name__ == "__main__":
    main()
