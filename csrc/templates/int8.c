/* Of what lenet5c/deploy/c_export.py makes a C file in 8-bit integers: see float32.c. Lines
 * within #if DIGITS_FEW are there for weights of few bits, DIGITS_TERNARY for three values.
 */
#include <stdint.h>

/* Each file has its own in place of these. */
typedef uint8_t digits_pixel;
typedef int8_t digits_number;
typedef int32_t digits_result;
#define digits_results scores
enum { DIGITS_MAPS = 1, DIGITS_TAPS = 1, DIGITS_SCORES = 1 };

/* A logit is a score times DIGITS_UNIT. The workspace is scratch memory of one call. */
#define DIGITS_UNIT 1
typedef struct {
    int32_t scores[DIGITS_SCORES];
#if DIGITS_FEW
#if defined(__AVR__)
    int8_t patch[DIGITS_TAPS];
#else
    int16_t patch[DIGITS_TAPS];
#endif
#else /* DIGITS_FEW */
#if !defined(__AVR__)
    int16_t patch[DIGITS_TAPS];
#endif
#endif /* DIGITS_FEW */
    int8_t maps[DIGITS_MAPS];
} digits_workspace;

#define DIGITS_IMPLEMENTATION
#include "network.h"
#include "common.h"

#if DIGITS_FEW
/* A byte q holds the weights of so many taps: in turn q times the base, over 256, is a
 * digit, and the rest the next q. A weight is a digit, and the least weight. Of four bytes
 * in a row the j-th has taps j, j + 4, and so on. */
#define DIGITS_BASE 1
#define DIGITS_COUNT 1
#define DIGITS_LEAST 1

/* Sums of products are made from the patches of pixels, of int16: what the kernel covers at
 * a pixel, in one row. With SMLAD there are two pixels, and two products at once. */
#else  /* DIGITS_FEW */
/* How sums of products are made depends on the processor:
 *
 *     with SMLAD  two products of int16 at once, from the patches of two pixels
 *     AVR         from the map itself, as there is little memory
 *     others      from the patch of a pixel, of int16: compilers make vectors of that
 *
 * A patch is what the kernel covers at a pixel, in one row. */
#endif /* DIGITS_FEW */
#if defined(__GNUC__) && defined(__ARM_FEATURE_SIMD32) && !defined(__ARM_NEON)
#define DIGITS_SMLAD
#define DIGITS_PIXELS 2
#if defined(__clang__)
#define DIGITS_UNROLL_BY_4 _Pragma("clang loop unroll_count(4)")
#else
#define DIGITS_UNROLL_BY_4 _Pragma("GCC unroll 4")
#endif
typedef uint32_t digits_word __attribute__((may_alias));
#else
#define DIGITS_PIXELS 1
#endif
#if defined(__AVR__)
typedef int8_t digits_tap;
#if DIGITS_FEW
#define DIGITS_PATCH workspace->patch
#else /* DIGITS_FEW */
#define DIGITS_PATCH 0
#endif /* DIGITS_FEW */
#else
typedef int16_t digits_tap;
#define DIGITS_PATCH workspace->patch
#endif

/* Where constants lie, and how one is read: AVR has flash out of reach of pointers. */
#if defined(__AVR__)
#include <avr/pgmspace.h>
#define DIGITS_FLASH PROGMEM
#define DIGITS_INT8(p) ((int8_t)pgm_read_byte(p))
#define DIGITS_INT32(p) ((int32_t)pgm_read_dword(p))
#else
#define DIGITS_FLASH
#define DIGITS_INT8(p) (*(p))
#define DIGITS_INT32(p) (*(p))
#endif
/* here: constants */

/* The image (C, ROWS, COLUMNS), or (ROWS, COLUMNS, C) if the channels are LAST, in the
 * middle of the map x [H][W][C]. */
DIGITS_INLINE void digits_input(const digits_pixel *image, int8_t *x, const int8_t *pixels,
    const int c, const int rows, const int columns, const int last, const int h,
    const int w, const int8_t background)
{
    const int top = (h - rows) / 2, left = (w - columns) / 2;
    if (rows < h || columns < w)
        for (int i = 0; i < h * w * c; i++) x[i] = background;
    for (int j = 0; j < c; j++)
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < columns; k++) {
                const int at =
                    last ? (i * columns + k) * c + j : (j * rows + i) * columns + k;
                x[((top + i) * w + left + k) * c + j] = DIGITS_INT8(pixels + image[at]);
            }
}

/* floor(x / 2^shift), as C does not say how negative numbers are shifted. */
DIGITS_INLINE int64_t digits_floor(const int64_t x, const int shift)
{
    return x < 0 ? ~(~x >> shift) : x >> shift;
}
DIGITS_INLINE int32_t digits_floor32(const int32_t x, const int shift)
{
    return x < 0 ? ~(~x >> shift) : x >> shift;
}

/* product / 2^shift to the nearest, halves upwards; beyond +-9999 it may be any that is. If
 * shift > 32, the lower half of the product changes nothing. */
DIGITS_INLINE int32_t digits_shifted(const int64_t product, const int shift)
{
    if (shift > 32) {
        const int32_t half = (int32_t)digits_floor(product, 32);
        return digits_floor32(half + ((int32_t)1 << (shift - 33)), shift - 32);
    } else {
        const int64_t y = digits_floor(product + ((int64_t)1 << (shift - 1)), shift);
        return y < -9999 ? -9999 : y > 9999 ? 9999 : (int32_t)y;
    }
}

/* x within [least, most]; or by a table of 127 tanh(i / 256) for 0 <= i < 1024, the tanh.
 */
DIGITS_INLINE int8_t digits_finish(
    const int32_t x, const int32_t least, const int32_t most, const int8_t *table)
{
    if (table) {
        const int32_t sign = x < 0 ? -1 : 0;
        const int32_t size = (x ^ sign) - sign;
#if defined(DIGITS_SMLAD)
        int32_t at; /* gcc takes six instructions for this one */
        __asm__("usat %0, #10, %1" : "=r"(at) : "r"(size));
#else
        const int32_t at = size > most ? most : size;
#endif
        return (int8_t)((DIGITS_INT8(table + at) ^ sign) - sign);
    }
    return (int8_t)(x < least ? least : x > most ? most : x);
}

DIGITS_INLINE int8_t digits_rescale(const int32_t sum, const int32_t multiplier,
    const int shift, const int32_t least, const int32_t most, const int8_t *table)
{
    return digits_finish(
        digits_shifted((int64_t)sum * multiplier, shift), least, most, table);
}

DIGITS_INLINE void digits_tanh(
    int8_t *x, const int n, const int32_t multiplier, const int shift, const int8_t *table)
{
    for (int i = 0; i < n; i++)
        x[i] = digits_rescale(x[i], multiplier, shift, -1023, 1023, table);
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
        x[i] = digits_finish(digits_shifted(product, shift), least, most, table);
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
        if (x[i] < 0) x[i] = digits_rescale(x[i], multiplier, shift, -127, 0, 0);
}

/* digits_gather: patch[r][t] = x[r][t], with RUN = KW C numbers in a row of the kernel and
 * rows of x that are `apart`.
 *
 * digits_sums: sums[p][g] = bias[g] + sum over r, t of weight[g][r][t] x[p][r][t] for GROUP
 * filters, which lie `taps` apart and share what is loaded of x, and for PIXELS pixels. A
 * patch is one row of LENGTH numbers; a map has ROWS, which are `apart`. */
#if defined(DIGITS_SMLAD)
/* Of four bytes the first and the third, or the others, as a pair of int16. */
DIGITS_INLINE digits_word digits_evens(const digits_word bytes)
{
    digits_word pair;
    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(bytes));
    return pair;
}
DIGITS_INLINE digits_word digits_odds(const digits_word bytes)
{
    digits_word pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(bytes));
    return pair;
}
/* sum + both products of two pairs */
DIGITS_INLINE int32_t digits_smlad(
    const digits_word a, const digits_word b, const int32_t sum)
{
    int32_t more;
    __asm__("smlad %0, %1, %2, %3" : "=r"(more) : "r"(a), "r"(b), "r"(sum));
    return more;
}
/* Bytes come into the upper half of the patch first. Four of them become two pairs, and so
 * do four weights when they are read. What is left of the last four meets zeros. */
#if DIGITS_FEW
DIGITS_INLINE int32_t digits_gather(const int8_t *x, digits_tap *patch, const int apart,
    const int kh, const int run, const int length)
#else  /* DIGITS_FEW */
DIGITS_INLINE void digits_gather(const int8_t *x, int16_t *patch, const int apart,
    const int kh, const int run, const int length)
#endif /* DIGITS_FEW */
{
#if DIGITS_FEW
    int32_t sum = 0;
#endif /* DIGITS_FEW */
    int8_t *bytes = (int8_t *)patch + length;
    digits_word *pairs = (digits_word *)patch;
    __asm__("" : "+r"(x)); /* a register of its own, which gcc would not give it */
    DIGITS_UNROLL
    for (int r = 0; r < kh; r++) memcpy(bytes + r * run, x + r * apart, (size_t)run);
    __asm__("" : "+r"(bytes), "+r"(pairs));
    DIGITS_UNROLL_BY_4
    for (int t = 0; t < length; t += 4) {
        digits_word four;
        memcpy(&four, bytes + t, 4);
        *pairs++ = digits_evens(four);
        *pairs++ = digits_odds(four);
#if DIGITS_FEW
        sum = digits_smlad(pairs[-2], 0x10001, digits_smlad(pairs[-1], 0x10001, sum));
#endif /* DIGITS_FEW */
    }
#if DIGITS_FEW
    return DIGITS_LEAST * sum;
#endif /* DIGITS_FEW */
}
#if DIGITS_FEW
/* The k-th digits of the first and third byte, or of the others, as a pair of int16;
 * `bytes` is all four, or of three values what is left of the two. */
DIGITS_INLINE digits_word digits_pair(
    digits_word *bytes, const digits_word mask, const int odd, const int k)
{
    digits_word pair;
#if DIGITS_TERNARY
    if (k == 0) *bytes = *bytes >> 8 * odd & mask;
    *bytes += *bytes << 1;
    pair = *bytes >> 8 & mask;
    *bytes &= mask;
#else  /* DIGITS_TERNARY */
    pair = *bytes >> (8 - 8 / DIGITS_COUNT * (k + 1) + 8 * odd) & mask;
#endif /* DIGITS_TERNARY */
    /* none before it is needed: registers are few */
    __asm__ volatile("" : "+r"(pair));
    return pair;
}
DIGITS_INLINE void digits_sums(const digits_tap *x, const int8_t *weight,
    const int32_t *bias, int32_t sums[][4], const int pixels, const int group,
    const int taps, const int rows, const int length, const int apart)
{
    const digits_word *pairs = (const digits_word *)x;
#if DIGITS_TERNARY
    digits_word mask = 0xff00ff;
#else  /* DIGITS_TERNARY */
    digits_word mask = (DIGITS_BASE - 1) * 0x10001u;
#endif /* DIGITS_TERNARY */
    (void)rows, (void)apart;
    __asm__("" : "+r"(mask)); /* in a register, or else a shift is an instruction */
    DIGITS_UNROLL
    for (int g = 0; g < group; g++)
        for (int p = 0; p < pixels; p++) sums[p][g] = bias[g];
    for (int t = 0; t < taps; t += 4, pairs += 2 * DIGITS_COUNT) {
        digits_word bytes[4];
        DIGITS_UNROLL
        for (int at = 0; at < 2 * DIGITS_COUNT; at++) {
#if DIGITS_TERNARY
            const int odd = at / DIGITS_COUNT, k = at % DIGITS_COUNT, loads = k == 0;
#else  /* DIGITS_TERNARY */
            const int odd = at % 2, k = at / 2, loads = at == 0;
#endif /* DIGITS_TERNARY */
            digits_word pair[DIGITS_PIXELS];
            DIGITS_UNROLL
            for (int p = 0; p < pixels; p++) pair[p] = pairs[p * length / 2 + 2 * k + odd];
            DIGITS_UNROLL
            for (int g = 0; g < group; g++) {
                digits_word digits;
                if (loads) memcpy(&bytes[g], weight + g * taps + t, 4);
                digits = digits_pair(&bytes[g], mask, odd, k);
                DIGITS_UNROLL
                for (int p = 0; p < pixels; p++) {
                    sums[p][g] = digits_smlad(digits, pair[p], sums[p][g]);
                    __asm__ volatile("" : "+r"(sums[p][g]));
                }
            }
            __asm__ volatile("" ::: "memory");
        }
    }
}
#else  /* DIGITS_FEW */
DIGITS_INLINE void digits_sums(const digits_tap *x, const int8_t *weight,
    const int32_t *bias, int32_t sums[][4], const int pixels, const int group,
    const int taps, const int rows, const int length, const int apart)
{
    const digits_word *pairs = (const digits_word *)x;
    (void)rows, (void)apart;
    DIGITS_UNROLL
    for (int g = 0; g < group; g++)
        for (int p = 0; p < pixels; p++) sums[p][g] = bias[g];
    DIGITS_UNROLL_BY_4
    for (int t = 0; t < length; t += 4, pairs += 2) {
        DIGITS_UNROLL
        for (int g = 0; g < group; g++) {
            digits_word four, evens, odds;
            memcpy(&four, weight + g * taps + t, 4);
            evens = digits_evens(four);
            odds = digits_odds(four);
            DIGITS_UNROLL
            for (int p = 0; p < pixels; p++) {
                const digits_word *pair = pairs + p * length / 2;
                sums[p][g] = digits_smlad(evens, pair[0], sums[p][g]);
                sums[p][g] = digits_smlad(odds, pair[1], sums[p][g]);
            }
        }
        __asm__ volatile("" ::: "memory"); /* loads stay where their registers suffice */
    }
}
#endif /* DIGITS_FEW */
#else
#if DIGITS_FEW
DIGITS_INLINE int32_t digits_gather(const int8_t *x, digits_tap *patch, const int apart,
    const int kh, const int run, const int length)
#else  /* DIGITS_FEW */
DIGITS_INLINE void digits_gather(const int8_t *x, int16_t *patch, const int apart,
    const int kh, const int run, const int length)
#endif /* DIGITS_FEW */
{
#if DIGITS_FEW
    int32_t sum = 0;
#endif /* DIGITS_FEW */
    for (int r = 0; r < kh; r++)
        for (int t = 0; t < run; t++) patch[r * run + t] = x[r * apart + t];
    for (int t = kh * run; t < length; t++) patch[t] = 0;
#if DIGITS_FEW
    for (int t = 0; t < length; t++) sum += patch[t];
    return DIGITS_LEAST * sum;
#endif /* DIGITS_FEW */
}
#if DIGITS_FEW
/* The next digit of a byte, which becomes what is left of it. */
DIGITS_INLINE uint8_t digits_digit(uint8_t *byte)
{
    const unsigned more = (unsigned)*byte * DIGITS_BASE;
    *byte = (uint8_t)more;
    return (uint8_t)(more >> 8);
}
DIGITS_INLINE void digits_sums(const digits_tap *x, const int8_t *weight,
    const int32_t *bias, int32_t sums[][4], const int pixels, const int group,
    const int taps, const int rows, const int length, const int apart)
{
    int32_t a = DIGITS_INT32(bias), b = 0, c = 0, d = 0;
    (void)pixels, (void)rows, (void)length, (void)apart;
    if (group > 1) b = DIGITS_INT32(bias + 1);
    if (group > 2) c = DIGITS_INT32(bias + 2);
    if (group > 3) d = DIGITS_INT32(bias + 3);
    for (int t = 0; t < taps; t += 4, x += 4 * DIGITS_COUNT - 4)
        for (int j = 0; j < 4; j++, x++, weight++) {
            uint8_t e = (uint8_t)DIGITS_INT8(weight), f = 0, g = 0, h = 0;
            if (group > 1) f = (uint8_t)DIGITS_INT8(weight + taps);
            if (group > 2) g = (uint8_t)DIGITS_INT8(weight + 2 * taps);
            if (group > 3) h = (uint8_t)DIGITS_INT8(weight + 3 * taps);
            DIGITS_UNROLL
            for (int k = 0; k < DIGITS_COUNT; k++) {
                const int8_t tap = (int8_t)x[4 * k];
                a += tap * digits_digit(&e);
                if (group > 1) b += tap * digits_digit(&f);
                if (group > 2) c += tap * digits_digit(&g);
                if (group > 3) d += tap * digits_digit(&h);
            }
        }
    sums[0][0] = a;
    sums[0][1] = b;
    sums[0][2] = c;
    sums[0][3] = d;
}
#else  /* DIGITS_FEW */
DIGITS_INLINE void digits_sums(const digits_tap *x, const int8_t *weight,
    const int32_t *bias, int32_t sums[][4], const int pixels, const int group,
    const int taps, const int rows, const int length, const int apart)
{
    int32_t a = DIGITS_INT32(bias), b = 0, c = 0, d = 0;
    (void)pixels;
    if (group > 1) b = DIGITS_INT32(bias + 1);
    if (group > 2) c = DIGITS_INT32(bias + 2);
    if (group > 3) d = DIGITS_INT32(bias + 3);
    for (int r = 0; r < rows; r++, x += apart, weight += length)
        for (int t = 0; t < length; t++) {
            a += x[t] * DIGITS_INT8(weight + t);
            if (group > 1) b += x[t] * DIGITS_INT8(weight + taps + t);
            if (group > 2) c += x[t] * DIGITS_INT8(weight + 2 * taps + t);
            if (group > 3) d += x[t] * DIGITS_INT8(weight + 3 * taps + t);
        }
    sums[0][0] = a;
    sums[0][1] = b;
    sums[0][2] = c;
    sums[0][3] = d;
}
#endif /* DIGITS_FEW */
#endif

/* For all filters j, and PIXELS pixels p: y[p][j] is the sum, rescaled to [least, most],
 * and by the table its tanh; or, without multipliers, scores[j][p] is the sum. */
DIGITS_INLINE void digits_filters(const digits_tap *x, int8_t *y, int32_t *scores,
    const int8_t *weight, const int32_t *bias, const int32_t *multiplier, const int shift,
#if DIGITS_FEW
    const int32_t least, const int32_t most, const int32_t *lack, const int up,
    const int8_t *table, const int pixels,
#else  /* DIGITS_FEW */
    const int32_t least, const int32_t most, const int8_t *table, const int pixels,
#endif /* DIGITS_FEW */
    const int all, const int f, const int taps, const int group, const int rows,
    const int length, const int apart)
{
    for (int j = 0; j < f; j += group) {
        int32_t sums[DIGITS_PIXELS][4];
        digits_sums(
            x, weight + j * taps, bias + j, sums, pixels, group, taps, rows, length, apart);
#if DIGITS_FEW
        DIGITS_UNROLL
        for (int g = 0; g < group; g++)
            for (int p = 0; p < pixels; p++) {
                sums[p][g] += lack[p];
                sums[p][g] *= (int32_t)1 << up;
            }
#endif /* DIGITS_FEW */
        DIGITS_UNROLL
        for (int g = 0; g < group; g++) {
            DIGITS_UNROLL
            for (int p = 0; p < pixels; p++)
                if (multiplier)
                    y[p * f + j + g] = digits_rescale(sums[p][g],
                        DIGITS_INT32(multiplier + j + g), shift, least, most, table);
                else
                    scores[(j + g) * all + p] = sums[p][g];
        }
    }
}

/* y[i][k][f] = bias[f] + sum over r, t of weight[f][r][t] x[i stride + r][k stride C + t],
 * rescaled and so on, or scores [F][OH][OW],
 *
 * for maps x [H][W][C] and y [OH][OW][F]. Filters are filled up with zeros to TAPS. */
#if DIGITS_FEW
/* TAPS are bytes of a filter. Sums are times 2^up, which the shift has too: one beyond 32
 * takes fewer instructions. */
DIGITS_INLINE void digits_conv(const int8_t *x, int8_t *y, int32_t *scores,
    digits_tap *patch, const int up,
#else  /* DIGITS_FEW */
DIGITS_INLINE void digits_conv(const int8_t *x, int8_t *y, int32_t *scores, int16_t *patch,
#endif /* DIGITS_FEW */
    const int8_t *weight, const int32_t *bias, const int32_t *multiplier, const int shift,
    const int32_t least, const int32_t most, const int8_t *table, const int c, const int w,
    const int kh, const int run, const int stride, const int oh, const int ow, const int f,
    const int taps, const int group)
{
    const int all = oh * ow, apart = w * c;
#if DIGITS_FEW
    const int rows = 1, length = taps * DIGITS_COUNT;
    int32_t lack[DIGITS_PIXELS]; /* of the digits of each pixel, times the patch */
#if defined(DIGITS_SMLAD)
    const int filters = all > 1 && f % 2 == 0 ? 2 : group;
#else
    const int filters = group;
#endif
#else                     /* DIGITS_FEW */
#if defined(DIGITS_SMLAD) /* twice four sums are too many for its registers */
    const int filters = all > 1 && f % 2 == 0 ? 2 : group;
    const int rows = 1, length = (kh * run + 3) / 4 * 4;
#elif defined(__AVR__)
    const int filters = group, rows = kh, length = run;
#else
    const int filters = group, rows = 1, length = taps;
#endif
#endif                 /* DIGITS_FEW */
    int at = 0, k = 0; /* where the window begins, and its column of y */
    for (int p = 0; p < all; p += DIGITS_PIXELS) {
        const digits_tap *from = (const digits_tap *)patch;
        int8_t *to = multiplier ? y + p * f : y;
        int32_t *scored = multiplier ? scores : scores + p;
        DIGITS_UNROLL
        for (int q = 0; q < DIGITS_PIXELS; q++) {
            if (p + q == all) break;
#if DIGITS_FEW
            lack[q] = digits_gather(x + at, patch + q * length, apart, kh, run, length);
#else /* DIGITS_FEW */
#if defined(__AVR__)
            from = x + at;
#else
            digits_gather(x + at, patch + q * length, apart, kh, run, length);
#endif
#endif /* DIGITS_FEW */
            at += stride * c;
            if (++k == ow) {
                k = 0;
                at += stride * (w - ow) * c;
            }
        }
        if (p + DIGITS_PIXELS <= all)
            digits_filters(from, to, scored, weight, bias, multiplier, shift, least, most,
#if DIGITS_FEW
                lack, up,
#endif /* DIGITS_FEW */
                table, DIGITS_PIXELS, all, f, taps, filters, rows, length, apart);
        else
            digits_filters(from, to, scored, weight, bias, multiplier, shift, least, most,
#if DIGITS_FEW
                lack, up,
#endif /* DIGITS_FEW */
                table, 1, all, f, taps, filters, rows, length, apart);
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
                const int32_t a = DIGITS_INT8(weight + j) * sum + DIGITS_INT32(bias + j);
                y[j] = digits_rescale(
                    a, DIGITS_INT32(multiplier + j), shift, least, most, table);
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
    digits_input(image, maps, 0, 1, 1, 1, 0, 1, 1, 0); /* here: calls */
    for (int i = 1; i < DIGITS_CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}
