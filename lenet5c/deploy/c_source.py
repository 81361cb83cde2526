"""The C code that export_c.py puts together: one text for each function.

The names in it begin with `digits`, which becomes the name that is asked for. Functions
are inlined where they are called, with the sizes of a layer as constants. What begins
with a dollar is filled in.
"""

__all__ = ["FUNCTIONS", "HEAD", "PREDICT_FLOAT", "PREDICT_INT8", "START"]

HEAD = """\
/* digits: a network that classifies images, in one file. $WHAT
 *
 *     #define DIGITS_IMPLEMENTATION
 *     #include "$FILE"
 *
 * The first of these lines stands in one C file alone; in others, the second gives the
 * declarations.
 *
 *     static digits_workspace workspace;
 *     int number = digits_predict(image, &workspace, 0);
 *     puts(digits_class_names[number]);
 *
 * C99 or later, or C++. Nothing is allocated and nothing kept between two calls, so any
 * number of threads can predict, each with a workspace of its own. It need not be
 * initialised.
 *
 *     constants  $CONSTANTS bytes, without the names of the classes and the code
 *     workspace  $MEMORY bytes
 *
$LAYERS */
#ifndef DIGITS_H
#define DIGITS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DIGITS_CHANNELS = $CHANNELS,
    DIGITS_ROWS = $ROWS,
    DIGITS_COLUMNS = $COLUMNS,
    DIGITS_CLASSES = $CLASSES
};

/* Scratch memory of one call. */
typedef struct {
$MEMBERS} digits_workspace;

/* UTF-8. */
extern const char *const digits_class_names[DIGITS_CLASSES];

/* The number of the image's class: the one of the largest $SCORE, and the first of
 * them if several are the largest.
 *
 * image          [DIGITS_CHANNELS][DIGITS_ROWS][DIGITS_COLUMNS], $RANGE
 * workspace      overwritten
 * $RESULTS[DIGITS_CLASSES], written, or a null pointer
 */
int digits_predict(
    const $PIXEL *image, digits_workspace *workspace, $RESULT);

#ifdef __cplusplus
}
#endif

#endif

#ifdef DIGITS_IMPLEMENTATION

#include <string.h>

const char *const digits_class_names[DIGITS_CLASSES] = {
$NAMES};

"""

START = """\
#if defined(__clang__)
#define DIGITS_UNROLL _Pragma("clang loop unroll(full)")
#define DIGITS_INLINE static inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define DIGITS_UNROLL _Pragma("GCC unroll 16")
#define DIGITS_INLINE static inline __attribute__((always_inline))
#else
#define DIGITS_UNROLL
#define DIGITS_INLINE static inline
#endif

"""

FUNCTIONS = {
    "vectors": """\
/* A vector where the compiler has them, and else a float. The loose one may lie
 * anywhere. */
#if defined(__GNUC__)
#if defined(__AVX__)
#define DIGITS_LANES 8
#else
#define DIGITS_LANES 4
#endif
typedef float digits_vec __attribute__((vector_size(DIGITS_LANES * 4)));
typedef digits_vec digits_loose __attribute__((aligned(4), may_alias));
#else
#define DIGITS_LANES 1
typedef float digits_vec, digits_loose;
#endif

""",
    "input_float": """\
/* The image (C, ROWS, COLUMNS) in the middle of the map x [H][W][C]. */
DIGITS_INLINE void digits_input(const $PIXEL *image, float *x, const int c,
    const int rows, const int columns, const int h, const int w, const float scale,
    const float offset, const float background)
{
    const int top = (h - rows) / 2, left = (w - columns) / 2;
    if (rows < h || columns < w)
        for (int i = 0; i < h * w * c; i++) x[i] = background;
    for (int j = 0; j < c; j++)
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < columns; k++)
                x[((top + i) * w + left + k) * c + j] =
                    (float)image[(j * rows + i) * columns + k] * scale + offset;
}

""",
    "input_int8": """\
/* The image (C, ROWS, COLUMNS) in the middle of the map x [H][W][C]. */
DIGITS_INLINE void digits_input(const uint8_t *image, int8_t *x, const int c,
    const int rows, const int columns, const int h, const int w,
    const int8_t background)
{
    const int top = (h - rows) / 2, left = (w - columns) / 2;
    if (rows < h || columns < w)
        for (int i = 0; i < h * w * c; i++) x[i] = background;
    for (int j = 0; j < c; j++)
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < columns; k++)
                x[((top + i) * w + left + k) * c + j] =
                    digits_pixels[image[(j * rows + i) * columns + k]];
}

""",
    "pad": """\
/* The map x [H][W][C] with zeros on all four sides. */
DIGITS_INLINE void digits_pad(const $NUMBER *x, $NUMBER *y, const int c, const int h,
    const int w, const int padding)
{
    const int wide = w + 2 * padding;
    for (int i = 0; i < (h + 2 * padding) * wide * c; i++) y[i] = 0;
    for (int i = 0; i < h; i++)
        for (int k = 0; k < w * c; k++)
            y[((i + padding) * wide + padding) * c + k] = x[i * w * c + k];
}

""",
    "flatten": """\
/* The map x [P][C], its P pixels in one row, in the order [C][P]. */
DIGITS_INLINE void digits_flatten(
    const $NUMBER *x, $NUMBER *y, const int p, const int c)
{
    for (int j = 0; j < c; j++)
        for (int i = 0; i < p; i++) y[j * p + i] = x[i * c + j];
}

""",
    "conv_float": """\
/* y[i][k][f] = bias[f] + sum over r, t of
 *              weight[f][r][t] x[i stride + r][k stride C + t]
 *
 * for maps x [H][W][C] and y [OH][OW][F], with RUN = KW C numbers in a row of the
 * kernel. Computed are `block` filters of `most` neighbouring pixels at a time, fewer
 * where vectors are shorter. If that does not divide OW, the last ones are moved back
 * and some computed twice. */
DIGITS_INLINE void digits_conv(const float *x, float *y, const float *weight,
    const int c, const int w, const int kh, const int run, const int stride,
    const int oh, const int ow, const int f, const int block, const int most)
{
    const int nv = block / DIGITS_LANES, nx = (most * DIGITS_LANES + 7) / 8;
    for (int first = 0; first < f; first += block, weight += (1 + kh * run) * block)
        for (int i = 0; i < oh; i++)
            for (int k = 0; k < ow; k += nx) {
                const int left = k + nx <= ow ? k : ow - nx;
                const float *tap = weight + block;
                digits_vec sum[$TILE / DIGITS_LANES];
                DIGITS_UNROLL
                for (int n = 0; n < nx * nv; n++)
                    sum[n] = *(const digits_loose *)(weight + n % nv * DIGITS_LANES);
                for (int r = 0; r < kh; r++) {
                    const float *from = x + ((i * stride + r) * w + left * stride) * c;
                    for (int t = 0; t < run; t++, tap += block) {
                        DIGITS_UNROLL
                        for (int n = 0; n < nx * nv; n++) {
                            const float *at = tap + n % nv * DIGITS_LANES;
                            sum[n] += from[n / nv * stride * c + t] *
                                      *(const digits_loose *)at;
                        }
                    }
                }
                DIGITS_UNROLL
                for (int n = 0; n < nx; n++) {
                    float *to = y + (i * ow + left + n) * f + first;
                    if (f % block == 0) {
                        DIGITS_UNROLL
                        for (int v = 0; v < nv; v++)
                            *(digits_loose *)(to + v * DIGITS_LANES) = sum[n * nv + v];
                    } else {
                        digits_vec part[$TILE / DIGITS_LANES];
                        const int count = f - first < block ? f - first : block;
                        DIGITS_UNROLL
                        for (int v = 0; v < nv; v++) part[v] = sum[n * nv + v];
                        memcpy(to, part, (size_t)count * sizeof(float));
                    }
                }
            }
}

""",
    "avg_pool_float": """\
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

""",
    "max_pool_float": """\
/* Maxima of K x K windows of the map x [H][W][C]. */
DIGITS_INLINE void digits_max_pool(const float *x, float *y, const int c, const int w,
    const int size, const int stride, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c)
            for (int j = 0; j < c; j++) {
                float most = x[(i * stride * w + k * stride) * c + j];
                for (int r = 0; r < size; r++)
                    for (int t = 0; t < size; t++) {
                        const float now =
                            x[((i * stride + r) * w + k * stride + t) * c + j];
                        most = most < now ? now : most;
                    }
                y[j] = most;
            }
}

""",
    "padded_max_pool": """\
/* Maxima of what lies within the map x [H][W][C] of K x K windows. */
DIGITS_INLINE void digits_padded_max_pool(const $NUMBER *x, $NUMBER *y, const int c,
    const int h, const int w, const int size, const int stride, const int padding,
    const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c) {
            const int top = i * stride - padding, left = k * stride - padding;
            const int r0 = top < 0 ? 0 : top, t0 = left < 0 ? 0 : left;
            const int r1 = top + size < h ? top + size : h;
            const int t1 = left + size < w ? left + size : w;
            for (int j = 0; j < c; j++) y[j] = x[(r0 * w + t0) * c + j];
            for (int r = r0; r < r1; r++)
                for (int t = t0; t < t1; t++)
                    for (int j = 0; j < c; j++) {
                        const $NUMBER now = x[(r * w + t) * c + j];
                        y[j] = y[j] < now ? now : y[j];
                    }
        }
}

""",
    "global_avg_pool_float": """\
/* y[j] = the mean of channel j of the map x [P][C] */
DIGITS_INLINE void digits_global_avg_pool(
    const float *x, float *y, const int c, const int p)
{
    for (int j = 0; j < c; j++) y[j] = 0;
    for (int i = 0; i < p; i++)
        for (int j = 0; j < c; j++) y[j] += x[i * c + j];
    for (int j = 0; j < c; j++) y[j] *= 1.0f / (float)p;
}

""",
    "scale_float": """\
/* x[i][j] = scale[j] x[i][j] + scale[C + j] for the map x [P][C] */
DIGITS_INLINE void digits_scale(
    float *x, const float *scale, const int p, const int c)
{
    for (int i = 0; i < p; i++)
        for (int j = 0; j < c; j++)
            x[i * c + j] = x[i * c + j] * scale[j] + scale[c + j];
}

""",
    "add_float": """\
/* x = x + z */
DIGITS_INLINE void digits_add(float *x, const float *z, const int n)
{
    for (int i = 0; i < n; i++) x[i] += z[i];
}

""",
    "tanh_float": """\
/* x P(x^2) / Q(x^2) for |x| <= 7.9: 4 units in the last place. Compared are the bits of
 * |x|, as compilers make vectors of integer comparisons alone. */
DIGITS_INLINE void digits_tanh(float *x, const int n)
{
    for (int i = 0; i < n; i++) {
        const int32_t most = 0x40FCCCCD; /* 7.9 */
        uint32_t bits;
        int32_t size;
        float v, u, p = 1.335463080e-08f, q = 7.776545255e-07f;
        memcpy(&bits, &x[i], sizeof bits);
        size = (int32_t)(bits & 0x7FFFFFFFu);
        size = size < most ? size : most;
        bits = (bits & 0x80000000u) | (uint32_t)size;
        memcpy(&v, &bits, sizeof v);
        u = v * v;
        p = p * u + 2.060905854e-05f;
        p = p * u + 3.495586615e-03f;
        p = p * u + 1.338102434e-01f;
        p = p * u + 9.999999795e-01f;
        q = q * u + 3.285632392e-04f;
        q = q * u + 2.587697638e-02f;
        q = q * u + 4.671433994e-01f;
        q = q * u + 1.0f;
        x[i] = v * p / q;
    }
}

""",
    "relu_float": """\
/* max(0, x). Compared are the bits, as compilers make vectors of integer comparisons
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

""",
    "softmax": """\
/* e^x for x <= 0: 2^n times the Taylor series of the rest; 0 where a float is no longer
 * normal. */
static float digits_exp(float x)
{
    float power, r, y = 1.0f / 5040;
    int n;
    uint32_t bits;
    if (!(x >= -87.0f)) return 0;
    n = (int)(x * 1.44269504f - 0.5f);
    r = x - (float)n * 0.693359375f; /* log 2 in two parts */
    r += (float)n * 2.12194440e-4f;
    y = y * r + 1.0f / 720;
    y = y * r + 1.0f / 120;
    y = y * r + 1.0f / 24;
    y = y * r + 1.0f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    bits = (uint32_t)(n + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

""",
    "rescale": """\
/* product / 2^shift to the nearest, halves upwards, within [least, most]. It is made
 * positive first, as C does not say how negative numbers are shifted. */
DIGITS_INLINE int32_t digits_shifted(const int64_t product, const int shift,
    const int32_t least, const int32_t most)
{
    const uint64_t above = ((uint64_t)1 << 62) + ((uint64_t)1 << (shift - 1));
    const uint64_t shifted = ((uint64_t)product + above) >> shift;
    const int64_t y = (int64_t)shifted - ((int64_t)1 << (62 - shift));
    return y < least ? least : y > most ? most : (int32_t)y;
}

DIGITS_INLINE int32_t digits_rescale(const int32_t sum, const int32_t multiplier,
    const int shift, const int32_t least, const int32_t most)
{
    return digits_shifted((int64_t)sum * multiplier, shift, least, most);
}

""",
    "tanh_table": """\
/* 127 tanh(x / 256) for -799 <= x <= 799. */
DIGITS_INLINE int8_t digits_tanh_of(const int32_t x)
{
    return (int8_t)(x < 0 ? -digits_tanh_table[-x] : digits_tanh_table[x]);
}

""",
    "tanh_int8": """\
DIGITS_INLINE void digits_tanh(
    int8_t *x, const int n, const int32_t multiplier, const int shift)
{
    for (int i = 0; i < n; i++)
        x[i] = digits_tanh_of(digits_rescale(x[i], multiplier, shift, -799, 799));
}

""",
    "scale_int8": """\
/* x[i][j] = weight[j] x[i][j] + bias[j], rescaled as in a convolution, for the map
 * x [P][C] */
DIGITS_INLINE void digits_scale(int8_t *x, const int8_t *weight, const int32_t *bias,
    const int32_t *multiplier, const int shift, const int32_t least, const int32_t most,
    const int p, const int c)
{
    for (int i = 0; i < p; i++)
        for (int j = 0; j < c; j++, x++) {
            const int32_t sum = weight[j] * *x + bias[j];
            const int32_t v = digits_rescale(sum, multiplier[j], shift, least, most);
            *x = $VALUE;
        }
}

""",
    "add_int8": """\
/* x = x m + z mz, rescaled as in a convolution */
DIGITS_INLINE void digits_add(int8_t *x, const int8_t *z, const int n, const int32_t m,
    const int32_t mz, const int shift, const int32_t least, const int32_t most)
{
    for (int i = 0; i < n; i++) {
        const int64_t product = (int64_t)x[i] * m + (int64_t)z[i] * mz;
        const int32_t v = digits_shifted(product, shift, least, most);
        x[i] = $VALUE;
    }
}

""",
    "relu_int8": """\
DIGITS_INLINE void digits_relu(int8_t *x, const int n)
{
    for (int i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

""",
    "conv_sums": """\
/* What a kernel covers, in one row: patch[r][t] = x[r][t], with RUN = KW C numbers in a
 * row of the kernel and rows of x that are `apart`. It is int16, as compilers make sums
 * of products in vectors of that. */
DIGITS_INLINE void digits_gather(const int8_t *x, int16_t *patch, const int apart,
    const int kh, const int run)
{
    for (int r = 0; r < kh; r++)
        for (int t = 0; t < run; t++) patch[r * run + t] = x[r * apart + t];
}

/* sums[g] = bias[g] + sum over t of weight[g][t] patch[t] for GROUP filters, which
 * share what is loaded of the patch. */
DIGITS_INLINE void digits_sums(const int16_t *patch, const int8_t *weight,
    const int32_t *bias, int32_t sums[4], const int group, const int taps)
{
    int32_t a = bias[0], b = 0, c = 0, d = 0;
    if (group > 1) b = bias[1];
    if (group > 2) c = bias[2];
    if (group > 3) d = bias[3];
    for (int t = 0; t < taps; t++) {
        a += patch[t] * weight[t];
        if (group > 1) b += patch[t] * weight[taps + t];
        if (group > 2) c += patch[t] * weight[2 * taps + t];
        if (group > 3) d += patch[t] * weight[3 * taps + t];
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

""",
    "conv_int8": """\
/* y[i][k][f] = bias[f] + sum over t of weight[f][t] patch[t], rescaled to
 * [least, most], and its tanh if `most` is above 127,
 *
 * for maps x [H][W][C] and y [OH][OW][F]. The taps are filled up with zeros. */
DIGITS_INLINE void digits_conv(const int8_t *x, int8_t *y, int16_t *patch,
    const int8_t *weight, const int32_t *bias, const int32_t *multiplier,
    const int shift, const int32_t least, const int32_t most, const int c, const int w,
    const int kh, const int run, const int stride, const int oh, const int ow,
    const int f, const int taps, const int group)
{
    for (int t = kh * run; t < taps; t++) patch[t] = 0;
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += f) {
            digits_gather(x + (i * w + k) * stride * c, patch, w * c, kh, run);
            for (int j = 0; j < f; j += group) {
                int32_t sums[4];
                digits_sums(patch, weight + j * taps, bias + j, sums, group, taps);
                for (int g = 0; g < group; g++) {
                    const int32_t v =
                        digits_rescale(sums[g], multiplier[j + g], shift, least, most);
                    y[j + g] = $VALUE;
                }
            }
        }
}

""",
    "conv_scores": """\
/* scores[f][i][k] = bias[f] + sum over t of weight[f][t] patch[t] */
DIGITS_INLINE void digits_conv_scores(const int8_t *x, int32_t *scores, int16_t *patch,
    const int8_t *weight, const int32_t *bias, const int c, const int w, const int kh,
    const int run, const int stride, const int oh, const int ow, const int f,
    const int taps, const int group)
{
    for (int t = kh * run; t < taps; t++) patch[t] = 0;
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++) {
            digits_gather(x + (i * w + k) * stride * c, patch, w * c, kh, run);
            for (int j = 0; j < f; j += group) {
                int32_t sums[4];
                digits_sums(patch, weight + j * taps, bias + j, sums, group, taps);
                for (int g = 0; g < group; g++)
                    scores[((j + g) * oh + i) * ow + k] = sums[g];
            }
        }
}

""",
    "window_sum": """\
/* The sum of a window of KH x KW pixels of one channel, from x on. */
DIGITS_INLINE int32_t digits_window(
    const int8_t *x, const int c, const int w, const int kh, const int kw)
{
    int32_t sum = 0;
    for (int r = 0; r < kh; r++)
        for (int t = 0; t < kw; t++) sum += x[(r * w + t) * c];
    return sum;
}

""",
    "avg_pool_int8": """\
/* Means of windows of the map x [H][W][C], to the nearest, halves upwards. The sum is
 * made positive first, as C rounds quotients towards zero. */
DIGITS_INLINE void digits_avg_pool(const int8_t *x, int8_t *y, const int c, const int w,
    const int kh, const int kw, const int stride, const int oh, const int ow)
{
    const int32_t n = kh * kw;
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c)
            for (int j = 0; j < c; j++) {
                const int32_t sum =
                    digits_window(x + (i * w + k) * stride * c + j, c, w, kh, kw);
                const uint32_t above = (uint32_t)(2 * (sum + 128 * n) + n);
                y[j] = (int8_t)((int32_t)(above / (uint32_t)(2 * n)) - 128);
            }
}

""",
    "avg_pool_scores": """\
/* scores[c][i][k] = the sums of windows of the map x [H][W][C]. */
DIGITS_INLINE void digits_avg_pool_scores(const int8_t *x, int32_t *scores,
    const int c, const int w, const int kh, const int kw, const int stride,
    const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++)
            for (int j = 0; j < c; j++)
                scores[(j * oh + i) * ow + k] =
                    digits_window(x + (i * w + k) * stride * c + j, c, w, kh, kw);
}

""",
    "max_pool_int8": """\
/* Maxima of windows of the map x [H][W][C]. */
DIGITS_INLINE void digits_max_pool(const int8_t *x, int8_t *y, const int c, const int w,
    const int size, const int stride, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c)
            for (int j = 0; j < c; j++) {
                int8_t most = -128;
                for (int r = 0; r < size; r++)
                    for (int t = 0; t < size; t++) {
                        const int8_t now =
                            x[((i * stride + r) * w + k * stride + t) * c + j];
                        most = most < now ? now : most;
                    }
                y[j] = most;
            }
}

""",
    "widen": """\
/* The scores [C][P] of the map x [P][C]. */
DIGITS_INLINE void digits_widen(
    const int8_t *x, int32_t *scores, const int p, const int c)
{
    for (int j = 0; j < c; j++)
        for (int i = 0; i < p; i++) scores[j * p + i] = x[i * c + j];
}

""",
}

PREDICT_FLOAT = """\
int digits_predict(
    const $PIXEL *image, digits_workspace *workspace, float *probabilities)
{
    float *const maps = workspace->maps;
    const float *logits;
    int best = 0;

$CALLS
    logits = $LAST;
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

#endif
"""

PREDICT_INT8 = """\
int digits_predict(
    const uint8_t *image, digits_workspace *workspace, int32_t *scores)
{
    int8_t *const maps = workspace->maps;
    int best = 0;

    if (!scores) scores = workspace->scores;
$CALLS
    for (int i = 1; i < DIGITS_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

#endif
"""
