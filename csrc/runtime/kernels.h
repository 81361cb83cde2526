/* The arithmetic of lenet5c.c, included once for each instruction set, with
 *
 *     LENET5C_V          floats in a register: 16, 8, 4 or 1
 *     LENET5C_SET(name)  `name` with the instruction set's name after it
 *     LENET5C_TARGET     the attribute that allows the compiler its instructions
 *     LENET5C_FMA(a, b, c), LENET5C_MIN(a, b), LENET5C_MAX(a, b)
 *                        a * b + c, and a < b ? a : b, a > b ? a : b, lane by lane
 *
 * and, where they are fast,
 *
 *     LENET5C_WIDEN(from)      V bytes as floats
 *     LENET5C_EVEN(a, b), LENET5C_ODD(a, b), LENET5C_IN_ORDER(v)
 *                        every second number of the 2 V in a and b, in an order that the
 *                        last puts right
 *
 *     C, F   channels of the input map, of the output map
 *     W OW   columns of the input map, of the output map
 *     V      LENET5C_V
 *
 * A map has one of two layouts: HCW, [H][C][W], where lanes are columns; or HWC,
 * [H][W][CP], where lanes are channels: CP is C rounded up to whole registers, and the
 * channels from C on are zero.
 */

#define V LENET5C_V
#define vec LENET5C_SET(vec)
#define FMA(a, b, c) LENET5C_FMA(a, b, c)
#define INLINE static inline LENET5C_ALWAYS LENET5C_TARGET

#if V > 1
typedef float vec __attribute__((vector_size(LENET5C_V * 4)));
#else
typedef float vec;
#endif

INLINE vec LENET5C_SET(load)(const float *from)
{
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void LENET5C_SET(store)(float *to, vec v) { memcpy(to, &v, sizeof v); }

INLINE vec LENET5C_SET(all)(float value)
{
#if V > 1 && defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
    vec v; /* where a difference would be one of doubles */
    for (int i = 0; i < V; i++) v[i] = value;
    return v;
#elif V > 1
    return value - (vec){0};
#else
    return value;
#endif
}

#define load LENET5C_SET(load)
#define store LENET5C_SET(store)
#define all LENET5C_SET(all)

/* tanh(x), to 6.02 units in the last place */
INLINE vec LENET5C_SET(tanh)(vec x)
{
    const vec most = all(LENET5C_TANH_MOST);
    vec u, p, q;
    x = LENET5C_MAX(-most, LENET5C_MIN(most, x));
    u = x * x;
    LENET5C_TANH(p, q, u, all, FMA);
    return x * p / q;
}

/* exp(x) for x <= 0; 0 where a float would be subnormal. */
INLINE vec LENET5C_SET(exp)(vec x)
{
    const vec magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const vec least = all(LENET5C_EXP_LEAST), given = x;
    vec rounded, n, r, y;
    x = LENET5C_MAX(least, x);
    rounded = FMA(x, all(LENET5C_EXP_TURNS), magic);
    n = rounded - magic;
    LENET5C_EXP(y, r, x, n, all, FMA);
    for (int i = 0; i < V; i++) { /* 2^n is built from its bits, the last ones of n */
        float power, from;
        uint32_t bits;
        memcpy(&bits, (const char *)&rounded + 4 * i, 4);
        memcpy(&from, (const char *)&given + 4 * i, 4);
        bits = from < LENET5C_EXP_LEAST ? 0 : (bits + 127) << 23;
        memcpy(&power, &bits, 4);
        memcpy((char *)&n + 4 * i, &power, 4);
    }
    return y * n;
}

/* sigmoid(x) = (1 + tanh(x / 2)) / 2 */
INLINE vec LENET5C_SET(sigmoid)(vec x)
{
    return FMA(all(0.5f), LENET5C_SET(tanh)(all(0.5f) * x), all(0.5f));
}

/* A tanh(S x) */
INLINE vec LENET5C_SET(scaled_tanh)(vec x)
{
    return all(LENET5C_AMPLITUDE) * LENET5C_SET(tanh)(all(LENET5C_SLOPE) * x);
}

/* y[i] = A(x[i]) for n numbers, in place */
LENET5C_TARGET static void LENET5C_SET(activate)(float *x, ptrdiff_t n, int activation)
{
    ptrdiff_t i = 0;
    if (activation == TANH) {
        for (; i + 2 * V <= n; i += 2 * V) {
            const vec one = LENET5C_SET(tanh)(load(x + i));
            const vec two = LENET5C_SET(tanh)(load(x + i + V));
            store(x + i, one);
            store(x + i + V, two);
        }
        for (; i + V <= n; i += V) store(x + i, LENET5C_SET(tanh)(load(x + i)));
    } else if (activation == SIGMOID) {
        for (; i + V <= n; i += V) store(x + i, LENET5C_SET(sigmoid)(load(x + i)));
    } else if (activation == SCALED_TANH) {
        for (; i + V <= n; i += V) store(x + i, LENET5C_SET(scaled_tanh)(load(x + i)));
    } else {
        for (; i + V <= n; i += V) store(x + i, LENET5C_MAX(all(0), load(x + i)));
    }
    if (i < n) { /* fewer than V are left */
        float rest[V] = {0};
        memcpy(rest, x + i, (size_t)(n - i) * sizeof(float));
        if (activation == TANH)
            store(rest, LENET5C_SET(tanh)(load(rest)));
        else if (activation == SIGMOID)
            store(rest, LENET5C_SET(sigmoid)(load(rest)));
        else if (activation == SCALED_TANH)
            store(rest, LENET5C_SET(scaled_tanh)(load(rest)));
        else
            store(rest, LENET5C_MAX(all(0), load(rest)));
        memcpy(x + i, rest, (size_t)(n - i) * sizeof(float));
    }
}

LENET5C_TARGET static void LENET5C_SET(run_activation)(
    const struct op *p, const float *x, float *y)
{
    if (x != y) memcpy(y, x, (size_t)p->size * sizeof(float));
    LENET5C_SET(activate)(y, p->size, p->activation);
}

/* y = A(x + z) */
LENET5C_TARGET static void LENET5C_SET(run_sum)(
    const struct op *p, const float *x, float *y)
{
    const float *z = x + p->other;
    ptrdiff_t i = 0;
    for (; i + V <= p->size; i += V) store(y + i, load(x + i) + load(z + i));
    for (; i < p->size; i++) y[i] = x[i] + z[i];
    if (p->activation != NO_ACTIVATION) LENET5C_SET(activate)(y, p->size, p->activation);
}

/* y[c] = A(scale[c] x[c] + shift[c]); scales and shifts of CP channels each */
LENET5C_TARGET static void LENET5C_SET(run_scale)(
    const struct op *p, const float *x, float *y)
{
    const float *scale = p->weights, *shift = p->weights + p->size;
    const ptrdiff_t run = p->hcw ? p->width : p->channels;
    const ptrdiff_t runs = (ptrdiff_t)p->height * (p->hcw ? p->channels : p->width);
    for (ptrdiff_t r = 0; r < runs; r++) {
        const float *from = x + r * run;
        float *to = y + r * run;
        if (p->hcw) {
            const float a = scale[r % p->channels], b = shift[r % p->channels];
            for (ptrdiff_t i = 0; i < run; i++) to[i] = a * from[i] + b;
        } else {
            for (ptrdiff_t i = 0; i < run; i += V)
                store(to + i, FMA(load(scale + i), load(from + i), load(shift + i)));
        }
    }
    if (p->activation != NO_ACTIVATION) LENET5C_SET(activate)(y, runs * run, p->activation);
}

/* y[i] = - the sum over j of (x[j] - codes[i][j])^2, and zeros up to a whole register */
LENET5C_TARGET static void LENET5C_SET(run_radial_basis)(
    const struct op *p, const float *x, float *y)
{
    const float *code = p->weights;
    const int inputs = p->channels;
    for (int i = 0; i < p->size; i++) {
        float lanes[V], sum = 0;
        vec total = all(0);
        int j = 0;
        y[i] = 0;
        if (i >= p->out_h) continue;
        for (; j + V <= inputs; j += V) {
            const vec d = load(x + j) - load(code + j);
            total = FMA(d, d, total);
        }
        store(lanes, total);
        for (int k = 0; k < V; k++) sum += lanes[k];
        for (; j < inputs; j++) sum += (x[j] - code[j]) * (x[j] - code[j]);
        y[i] = -sum;
        code += inputs;
    }
}

#include "kernels_product.h"
#include "kernels_dense.h"
#include "kernels_pool.h"

LENET5C_TARGET static void LENET5C_SET(fill)(float *to, ptrdiff_t n, float value)
{
    ptrdiff_t i = 0;
    for (; i + V <= n; i += V) store(to + i, all(value));
    for (; i < n; i++) to[i] = value;
}

/* to[i] = from[i * step] * scale + offset, to the same bits for any step; so do the floats
 */
LENET5C_TARGET static void LENET5C_SET(scale_bytes)(
    const uint8_t *from, ptrdiff_t step, float *to, int n, float scale, float offset)
{
#ifdef LENET5C_WIDEN
    if (step == 1 && n >= V) {
        for (int i = 0; i < n; i += V) {
            const int at = i < n - V ? i : n - V;
            store(to + at, FMA((vec)LENET5C_WIDEN(from + at), all(scale), all(offset)));
        }
        return;
    }
    for (int i = 0; i < n; i += V) {
        const int count = n - i < V ? n - i : V;
        uint8_t bytes[V] = {0};
        float floats[V];
        for (int k = 0; k < count; k++) bytes[k] = from[(i + k) * step];
        store(floats, FMA((vec)LENET5C_WIDEN(bytes), all(scale), all(offset)));
        memcpy(to + i, floats, (size_t)count * sizeof(float));
    }
#else
    for (int i = 0; i < n; i++) to[i] = (float)from[i * step] * scale + offset;
#endif
}

LENET5C_TARGET static void LENET5C_SET(scale_floats)(
    const float *from, ptrdiff_t step, float *to, int n, float scale, float offset)
{
    if (step == 1 && n >= V) {
        for (int i = 0; i < n; i += V) {
            const int at = i < n - V ? i : n - V;
            store(to + at, FMA(load(from + at), all(scale), all(offset)));
        }
        return;
    }
    for (int i = 0; i < n; i += V) {
        const int count = n - i < V ? n - i : V;
        float floats[V] = {0};
        for (int k = 0; k < count; k++) floats[k] = from[(i + k) * step];
        store(floats, FMA(load(floats), all(scale), all(offset)));
        memcpy(to + i, floats, (size_t)count * sizeof(float));
    }
}

/* Whether all of the n numbers lie from `least` to `most`, as NaN does not. */
LENET5C_TARGET static int LENET5C_SET(are_within)(
    const float *x, ptrdiff_t step, ptrdiff_t n, float least, float most)
{
    ptrdiff_t i = 0;
    int within = 1;
    if (step == 1 && n >= V) {
        vec low = load(x), high = low,
            rest = low - low; /* 0, or NaN of what is not finite */
        float ends[3][V];
        for (; i <= n - V; i += V) {
            const vec v = load(x + i);
            low = LENET5C_MIN(v, low);
            high = LENET5C_MAX(v, high);
            rest += v - v;
        }
        store(ends[0], low);
        store(ends[1], high);
        store(ends[2], rest);
        for (int k = 0; k < V; k++)
            within &= ends[0][k] >= least && ends[1][k] <= most && ends[2][k] == 0;
    }
    for (; i < n; i++) within &= x[i * step] >= least && x[i * step] <= most;
    return within;
}

/* Softmax of the n logits, which have room for whole registers. */
LENET5C_TARGET static void LENET5C_SET(softmax)(float *x, int n, float most)
{
    float total = 0;
    for (int i = n; i % V != 0; i++) x[i] = most;
    for (int i = 0; i < n; i += V) store(x + i, LENET5C_SET(exp)(load(x + i) - all(most)));
    for (int i = 0; i < n; i++) total += x[i];
    for (int i = 0; i < n; i++) x[i] /= total;
}

static const struct kernels LENET5C_SET(kernels) = {
    .name = LENET5C_NAME,
    .lanes = V,
    .tiles = LENET5C_SET(tiles),
    .tile_count = sizeof LENET5C_SET(tiles) / sizeof(struct tile),
    .row_tiles = LENET5C_SET(row_tiles),
    .row_tile_count = sizeof LENET5C_SET(row_tiles) / sizeof(struct tile),
    .run_product = LENET5C_SET(run_product),
    .run_pairs = LENET5C_SET(run_pairs),
    .run_dense = LENET5C_SET(run_dense),
    .run_dots = LENET5C_SET(run_dots),
    .run_pool_hwc = LENET5C_SET(run_pool_hwc),
    .run_pool_hcw = LENET5C_SET(run_pool_hcw),
    .run_activation = LENET5C_SET(run_activation),
    .run_sum = LENET5C_SET(run_sum),
    .run_radial_basis = LENET5C_SET(run_radial_basis),
    .run_scale = LENET5C_SET(run_scale),
    .fill = LENET5C_SET(fill),
    .scale_bytes = LENET5C_SET(scale_bytes),
    .scale_floats = LENET5C_SET(scale_floats),
    .are_within = LENET5C_SET(are_within),
    .softmax = LENET5C_SET(softmax),
};

#undef V
#undef vec
#undef FMA
#undef INLINE
#undef load
#undef store
#undef all
#undef LENET5C_V
#undef LENET5C_SET
#undef LENET5C_NAME
#undef LENET5C_32_REGISTERS
#undef LENET5C_TARGET
#undef LENET5C_FMA
#undef LENET5C_MIN
#undef LENET5C_MAX
#undef LENET5C_EVEN
#undef LENET5C_ODD
#undef LENET5C_IN_ORDER
#undef LENET5C_WIDEN
