/* Of what lenet5c/deploy/c_export.py makes a C file in float32.
 *
 * Pieces are what stands between empty lines, outside of braces and of #if. A file takes
 * those that its network calls, and what these use; `digits` becomes its name.
 */
#include <stdint.h>

/* Each file has its own in place of these. */
typedef uint8_t digits_pixel;
typedef float digits_number;
typedef float digits_result;
#define digits_results probabilities
enum { DIGITS_MAPS = 1 };

/* Scratch memory of one call. */
typedef struct {
    float maps[DIGITS_MAPS];
} digits_workspace;

#define DIGITS_IMPLEMENTATION
#include "network.h"
#include "common.h"
#include "../elementary.h"

/* A vector where the processor has them, and else a float; the loose one may lie anywhere.
 * Sums are what its registers hold beside their operands. */
#if defined(__GNUC__) && defined(__AVX__)
#define DIGITS_LANES 8
#define DIGITS_SUMS 14
#elif defined(__GNUC__) &&                                                                 \
    (defined(__SSE2__) || defined(__aarch64__) || defined(__VSX__) ||                      \
        defined(__wasm_simd128__) || (defined(__ARM_NEON) && defined(__FAST_MATH__)))
#define DIGITS_LANES 4
#define DIGITS_SUMS 12
#else
#define DIGITS_LANES 1
#define DIGITS_SUMS 21
#endif
#if DIGITS_LANES > 1
typedef float digits_vec __attribute__((vector_size(DIGITS_LANES * 4)));
typedef digits_vec digits_loose __attribute__((aligned(4), may_alias));
#else
typedef float digits_vec, digits_loose;
#endif

/* p, unknown to the compiler, which would use registers that sums need to remember what it
 * has read from there. */
#if defined(__GNUC__)
#define DIGITS_HIDE(p) __asm__("" : "+r"(p))
#else
#define DIGITS_HIDE(p) (void)0
#endif

/* Numbers for the functions below, which are for vectors as well. */
#define DIGITS_SET(c) (c)
#define DIGITS_FMA(a, b, c) ((a) * (b) + (c))

/* The image (C, ROWS, COLUMNS), or (ROWS, COLUMNS, C) if the channels are LAST, in the
 * middle of the map x [H][W][C]. */
DIGITS_INLINE void digits_input(const digits_pixel *image, float *x, const int c,
    const int rows, const int columns, const int last, const int h, const int w,
    const float scale, const float offset, const float background)
{
    const int top = (h - rows) / 2, left = (w - columns) / 2;
    if (rows < h || columns < w)
        for (int i = 0; i < h * w * c; i++) x[i] = background;
    for (int j = 0; j < c; j++)
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < columns; k++) {
                const int at =
                    last ? (i * columns + k) * c + j : (j * rows + i) * columns + k;
                x[((top + i) * w + left + k) * c + j] = (float)image[at] * scale + offset;
            }
}

/* y[i][k][f] = bias[f] + sum over r, t of
 *              weight[f][r][t] x[i stride + r][k stride C + t]
 *
 * for maps x [H][W][C] and y [OH][OW][F], with RUN = KW C numbers in a row of the kernel.
 * Weights lie in blocks of filters: their biases, then their weights of each tap. Computed
 * are NV vectors of filters of NX neighbouring pixels at a time. If NX does not divide OW,
 * the last ones are moved back and some computed twice. */
DIGITS_INLINE void digits_conv(const float *x, float *y, const float *weight, const int c,
    const int w, const int kh, const int run, const int stride, const int oh, const int ow,
    const int f, const int block)
{
    const int two = block < 2 * DIGITS_LANES ? block : 2 * DIGITS_LANES;
    const int vectors = ow == 1 ? block : two;
    const int few = f % 4 == 0 ? 4 : f % 3 == 0 && f <= block ? 3 : 2;
    const int floats = ow == 1 ? 8 : few;
    const int part = DIGITS_LANES == 1 ? floats : vectors, nv = part / DIGITS_LANES;
    const int most = ow == 1 ? 1 : DIGITS_SUMS / nv, tiles = (ow + most - 1) / most;
    const int nx = (ow + tiles - 1) / tiles;
    for (int j = 0; j < f; j += part) {
        const float *const first = weight + j / block * block * (1 + kh * run) + j % block;
        for (int i = 0; i < oh; i++)
            for (int k = 0; k < ow; k += nx) {
                const int left = k + nx <= ow ? k : ow - nx;
                const float *tap = first + block;
                digits_vec sum[DIGITS_SUMS];
                float last[DIGITS_LANES];
                DIGITS_UNROLL
                for (int n = 0; n < nx * nv; n++)
                    sum[n] = *(const digits_loose *)(first + n % nv * DIGITS_LANES);
                for (int r = 0; r < kh; r++) {
                    const float *from = x + ((i * stride + r) * w + left * stride) * c;
                    for (int t = 0; t < run; t++, from++, tap += block) {
                        DIGITS_HIDE(from);
                        DIGITS_UNROLL
                        for (int n = 0; n < nx * nv; n++) {
                            const float *at = tap + n % nv * DIGITS_LANES;
                            sum[n] += from[n / nv * stride * c] * *(const digits_loose *)at;
                        }
                    }
                }
                DIGITS_UNROLL
                for (int n = 0; n < nx * nv; n++) {
                    const int at = j + n % nv * DIGITS_LANES;
                    float *to = y + (i * ow + left + n / nv) * f + at;
                    if (at + DIGITS_LANES <= f)
                        *(digits_loose *)to = sum[n];
                    else if (at < f) { /* through memory, where else all sums would stay */
                        float *some = last;
                        *(digits_loose *)last = sum[n];
                        DIGITS_HIDE(some);
                        memcpy(to, some, (size_t)(f - at) * sizeof(float));
                    }
                }
            }
    }
}

/* Means of KH x KW windows of the map x [H][W][C]. */
DIGITS_INLINE void digits_avg_pool(const float *x, float *y, const int c, const int w,
    const int kh, const int kw, const int stride, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c)
            for (int j = 0; j < c; j++) {
                float sum = 0;
                for (int r = 0; r < kh; r++)
                    for (int t = 0; t < kw; t++)
                        sum += x[((i * stride + r) * w + k * stride + t) * c + j];
                y[j] = sum * (1.0f / (float)(kh * kw));
            }
}

/* x[i][j] = scales[j] x[i][j] + scales[C + j] for the map x [P][C] */
DIGITS_INLINE void digits_scale(float *x, const float *scales, const int p, const int c)
{
    for (int i = 0; i < p; i++)
        for (int j = 0; j < c; j++) x[i * c + j] = x[i * c + j] * scales[j] + scales[c + j];
}

/* y[i] = - the sum over j of (x[j] - codes[j][i])^2 */
DIGITS_INLINE void digits_radial_basis(
    const float *x, float *y, const float *codes, const int inputs, const int outputs)
{
    for (int i = 0; i < outputs; i++) y[i] = 0;
    for (int j = 0; j < inputs; j++)
        for (int i = 0; i < outputs; i++) {
            const float d = x[j] - codes[j * outputs + i];
            y[i] -= d * d;
        }
}

/* x = x + z */
DIGITS_INLINE void digits_add(float *x, const float *z, const int n)
{
    for (int i = 0; i < n; i++) x[i] += z[i];
}

/* x = tanh(x). Compared are the bits of |x|, as compilers make vectors of integer
 * comparisons alone. */
DIGITS_INLINE void digits_tanh(float *x, const int n)
{
    const float most = LENET5C_TANH_MOST;
    int32_t limit;
    memcpy(&limit, &most, sizeof limit);
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        int32_t size;
        float v, u, p, q;
        memcpy(&bits, &x[i], sizeof bits);
        size = (int32_t)(bits & 0x7FFFFFFFu);
        size = size < limit ? size : limit;
        bits = (bits & 0x80000000u) | (uint32_t)size;
        memcpy(&v, &bits, sizeof v);
        u = v * v;
        LENET5C_TANH(p, q, u, DIGITS_SET, DIGITS_FMA);
        x[i] = v * p / q;
    }
}

/* x = sigmoid(x) = (1 + tanh(x / 2)) / 2 */
DIGITS_INLINE void digits_sigmoid(float *x, const int n)
{
    for (int i = 0; i < n; i++) x[i] *= 0.5f;
    digits_tanh(x, n);
    for (int i = 0; i < n; i++) x[i] = 0.5f * x[i] + 0.5f;
}

/* x = A tanh(S x) */
DIGITS_INLINE void digits_tanh_scaled(float *x, const int n)
{
    for (int i = 0; i < n; i++) x[i] *= LENET5C_SLOPE;
    digits_tanh(x, n);
    for (int i = 0; i < n; i++) x[i] *= LENET5C_AMPLITUDE;
}

/* x where it is above 0, else slope x */
DIGITS_INLINE void digits_leaky(float *x, const int n, const float slope)
{
    for (int i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : slope * x[i];
}

/* x = max(0, x). Compared are the bits, as compilers make vectors of integer comparisons
 * alone. */
DIGITS_INLINE void digits_relu(float *x, const int n)
{
    for (int i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits = bits > 0 ? bits : 0;
        memcpy(&x[i], &bits, sizeof bits);
    }
}

/* e^x for x <= 0; 0 where a float is no longer normal. */
static float digits_exp(const float x)
{
    float power, r, y, n;
    int turns;
    uint32_t bits;
    if (!(x >= LENET5C_EXP_LEAST)) return 0;
    turns = (int)(x * LENET5C_EXP_TURNS - 0.5f);
    n = (float)turns;
    LENET5C_EXP(y, r, x, n, DIGITS_SET, DIGITS_FMA);
    bits = (uint32_t)(turns + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

int digits_predict(
    const digits_pixel *image, digits_workspace *workspace, float *probabilities)
{
    float *const maps = workspace->maps;
    const float *logits = maps;
    int best = 0;

    digits_input(image, maps, 1, 1, 1, 0, 1, 1, 1.0f, 0.0f, 0.0f); /* here: calls */
    for (int i = 1; i < DIGITS_CLASSES; i++)
        if (logits[i] > logits[best]) best = i;
    if (probabilities) {
        float sum = 0;
        for (int i = 0; i < DIGITS_CLASSES; i++)
            sum += probabilities[i] = digits_exp(logits[i] - logits[best]);
        for (int i = 0; i < DIGITS_CLASSES; i++) probabilities[i] /= sum;
    }
    return best;
}
