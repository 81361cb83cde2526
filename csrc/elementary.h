/* tanh and exp, for whatever a number is: lanes.h, the C runtime and exported C files each
 * compute them with their own registers, from what stands here alone.
 *
 * SET(c) makes such a number of a float, FMA(a, b, c) is a * b + c.
 */
#ifndef LENET5C_ELEMENTARY_H
#define LENET5C_ELEMENTARY_H

/* tanh(x) = x p / q with u = x^2, for |x| <= LENET5C_TANH_MOST: fitted by docs/fit_tanh.py,
 * relative error 2.1e-8 before rounding; after it, of all floats, 6.02 units in the last
 * place, 5.33 where FMA is fused. Beyond, tanh is 1 to 5 units, and no rounding lifts it
 * above 1. */
#define LENET5C_TANH_MOST 7.9f
#define LENET5C_TANH(p, q, u, SET, FMA)                                                    \
    p = SET(1.335463080e-08f);                                                             \
    p = FMA(p, u, SET(2.060905854e-05f));                                                  \
    p = FMA(p, u, SET(3.495586615e-03f));                                                  \
    p = FMA(p, u, SET(1.338102434e-01f));                                                  \
    p = FMA(p, u, SET(9.999999795e-01f));                                                  \
    q = SET(7.776545255e-07f);                                                             \
    q = FMA(q, u, SET(3.285632392e-04f));                                                  \
    q = FMA(q, u, SET(2.587697638e-02f));                                                  \
    q = FMA(q, u, SET(4.671433994e-01f));                                                  \
    q = FMA(q, u, SET(1.0f))

/* The scaled tanh is AMPLITUDE tanh(SLOPE x) (LeCun et al. 1998, appendix A). */
#define LENET5C_AMPLITUDE 1.7159f
#define LENET5C_SLOPE (2.0f / 3)

/* exp(x) = 2^n y with n = x LENET5C_EXP_TURNS rounded to an integer: y is the Taylor series
 * of exp(r) to r^7 / 7! (next term 5e-9), r the rest, |r| <= log(2) / 2. log 2 comes in two
 * parts, as n times the first is exact. Below LENET5C_EXP_LEAST the result is no longer a
 * normal float. */
#define LENET5C_EXP_LEAST (-87.0f)
#define LENET5C_EXP_TURNS 1.44269504f
#define LENET5C_EXP(y, r, x, n, SET, FMA)                                                  \
    r = x - n * SET(0.693359375f);                                                         \
    r = FMA(n, SET(2.12194440e-4f), r);                                                    \
    y = SET(1.0f / 5040);                                                                  \
    y = FMA(y, r, SET(1.0f / 720));                                                        \
    y = FMA(y, r, SET(1.0f / 120));                                                        \
    y = FMA(y, r, SET(1.0f / 24));                                                         \
    y = FMA(y, r, SET(1.0f / 6));                                                          \
    y = FMA(y, r, SET(0.5f));                                                              \
    y = FMA(y, r, SET(1.0f));                                                              \
    y = FMA(y, r, SET(1.0f))

#endif
