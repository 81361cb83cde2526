/* Of what lenet5c/deploy/c_export.py makes a C file in 8-bit integers: see float32.c. */
#include <stdint.h>

/* Each file has its own in place of these. */
typedef uint8_t digits_pixel;
typedef int8_t digits_number;
typedef int32_t digits_result;
#define digits_results scores
enum { DIGITS_MAPS = 1, DIGITS_TAPS = 1, DIGITS_SCORES = 1 };

/* Scratch memory of one call. */
typedef struct {
    int32_t scores[DIGITS_SCORES];
    int16_t patch[DIGITS_TAPS];
    int8_t maps[DIGITS_MAPS];
} digits_workspace;

#define DIGITS_IMPLEMENTATION
#include "network.h"
#include "common.h"

/* The image (C, ROWS, COLUMNS) in the middle of the map x [H][W][C]. */
DIGITS_INLINE void digits_input(const digits_pixel *image, int8_t *x, const int8_t *pixels,
    const int c, const int rows, const int columns, const int h, const int w,
    const int8_t background)
{
    const int top = (h - rows) / 2, left = (w - columns) / 2;
    if (rows < h || columns < w)
        for (int i = 0; i < h * w * c; i++) x[i] = background;
    for (int j = 0; j < c; j++)
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < columns; k++)
                x[((top + i) * w + left + k) * c + j] =
                    pixels[image[(j * rows + i) * columns + k]];
}

/* product / 2^shift to the nearest, halves upwards, within [least, most]. It is made
 * positive first, as C does not say how negative numbers are shifted. */
DIGITS_INLINE int32_t digits_shifted(
    const int64_t product, const int shift, const int32_t least, const int32_t most)
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

/* x, or by a table of 127 tanh(i / 256) the tanh for -799 <= x <= 799. */
DIGITS_INLINE int8_t digits_finish(const int32_t x, const int8_t *table)
{
    return (int8_t)(!table ? x : x < 0 ? -table[-x] : table[x]);
}

DIGITS_INLINE void digits_tanh(
    int8_t *x, const int n, const int32_t multiplier, const int shift, const int8_t *table)
{
    for (int i = 0; i < n; i++)
        x[i] = digits_finish(digits_rescale(x[i], multiplier, shift, -799, 799), table);
}

/* x = (127 + x) / 2, halves upwards: of the tanh of half the argument, the sigmoid. */
DIGITS_INLINE void digits_sigmoid(int8_t *x, const int n)
{
    for (int i = 0; i < n; i++) x[i] = (int8_t)((128 + x[i]) / 2);
}

/* x = x m + z mz, rescaled as in a convolution */
DIGITS_INLINE void digits_add(int8_t *x, const int8_t *z, const int n, const int32_t m,
    const int32_t mz, const int shift, const int32_t least, const int32_t most,
    const int8_t *table)
{
    for (int i = 0; i < n; i++) {
        const int64_t product = (int64_t)x[i] * m + (int64_t)z[i] * mz;
        const int32_t v = digits_shifted(product, shift, least, most);
        x[i] = digits_finish(v, table);
    }
}

DIGITS_INLINE void digits_relu(int8_t *x, const int n)
{
    for (int i = 0; i < n; i++) x[i] = x[i] > 0 ? x[i] : 0;
}

/* x, rescaled where it is negative */
DIGITS_INLINE void digits_leaky(
    int8_t *x, const int n, const int32_t multiplier, const int shift)
{
    for (int i = 0; i < n; i++)
        if (x[i] < 0) x[i] = (int8_t)digits_rescale(x[i], multiplier, shift, -127, 0);
}

/* What a kernel covers, in one row: patch[r][t] = x[r][t], with RUN = KW C numbers in a
 * row of the kernel and rows of x that are `apart`. It is int16, as compilers make sums
 * of products in vectors of that. */
DIGITS_INLINE void digits_gather(
    const int8_t *x, int16_t *patch, const int apart, const int kh, const int run)
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

/* y[i][k][f] = bias[f] + sum over t of weight[f][t] patch[t], rescaled to
 * [least, most], and by the table its tanh,
 *
 * for maps x [H][W][C] and y [OH][OW][F]. The taps are filled up with zeros. */
DIGITS_INLINE void digits_conv(const int8_t *x, int8_t *y, int16_t *patch,
    const int8_t *weight, const int32_t *bias, const int32_t *multiplier, const int shift,
    const int32_t least, const int32_t most, const int8_t *table, const int c, const int w,
    const int kh, const int run, const int stride, const int oh, const int ow, const int f,
    const int taps, const int group)
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
                    y[j + g] = digits_finish(v, table);
                }
            }
        }
}

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

/* The sum of a window of KH x KW pixels of one channel, from x on. */
DIGITS_INLINE int32_t digits_window(
    const int8_t *x, const int c, const int w, const int kh, const int kw)
{
    int32_t sum = 0;
    for (int r = 0; r < kh; r++)
        for (int t = 0; t < kw; t++) sum += x[(r * w + t) * c];
    return sum;
}

/* y[i][k][j] = weight[j] (sum of a window of the map x [H][W][C]) + bias[j], rescaled as
 * in a convolution; y may be x where windows are pixels. */
DIGITS_INLINE void digits_scale(const int8_t *x, int8_t *y, const int8_t *weight,
    const int32_t *bias, const int32_t *multiplier, const int shift, const int32_t least,
    const int32_t most, const int8_t *table, const int c, const int w, const int kh,
    const int kw, const int stride, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c)
            for (int j = 0; j < c; j++) {
                const int32_t sum =
                    digits_window(x + (i * w + k) * stride * c + j, c, w, kh, kw);
                const int32_t v = digits_rescale(
                    weight[j] * sum + bias[j], multiplier[j], shift, least, most);
                y[j] = digits_finish(v, table);
            }
}

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

/* scores[c][i][k] = the sums of windows of the map x [H][W][C]. */
DIGITS_INLINE void digits_avg_pool_scores(const int8_t *x, int32_t *scores, const int c,
    const int w, const int kh, const int kw, const int stride, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++)
            for (int j = 0; j < c; j++)
                scores[(j * oh + i) * ow + k] =
                    digits_window(x + (i * w + k) * stride * c + j, c, w, kh, kw);
}

/* The scores [C][P] of the map x [P][C]. */
DIGITS_INLINE void digits_widen(const int8_t *x, int32_t *scores, const int p, const int c)
{
    for (int j = 0; j < c; j++)
        for (int i = 0; i < p; i++) scores[j * p + i] = x[i * c + j];
}

int digits_predict(const digits_pixel *image, digits_workspace *workspace, int32_t *scores)
{
    int8_t *const maps = workspace->maps;
    int best = 0;

    if (!scores) scores = workspace->scores;
    digits_input(image, maps, 0, 1, 1, 1, 1, 1, 0); /* here: calls */
    for (int i = 1; i < DIGITS_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}
