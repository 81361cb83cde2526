/* lanes: one SIMD register that holds the same pixel of LANES images.
 *
 * The only file that knows the width of the instruction set. Everything is written with
 * GCC/Clang vector extensions, so that `a * b + c` on `lanes` compiles to one fused
 * multiply-add where the CPU has it. A compiler without vector types gets LANES = 1.
 */
#ifndef LENET5C_LANES_H
#define LENET5C_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#include "elementary.h"
#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LENET5C_REGISTER 64 /* bytes */
#elif defined(__AVX__)
#define LENET5C_REGISTER 32
#else
#define LENET5C_REGISTER 16
#endif

#if !defined(__GNUC__)
#define LENET5C_LANES 1
#elif !defined(LENET5C_LANES) /* given: 4, 8 or 16, slow if not the CPU's own */
#define LENET5C_LANES (LENET5C_REGISTER / 4)
#endif

/* Register tiles, rows (filters) x columns of accumulators. A tile has to fit the register
 * file beside its smaller side and one operand: 32 registers with AVX-512, 16 below it.
 * Shapes that gcc keeps free of spills; core/tile.pxd picks the cheapest for a layer. */
enum {
    TILE_TALL_F = 12,
    TILE_TALL_X = 1, /* dense layers: one column */
#if LENET5C_LANES == 16
    TILE_PAIR_F = 12,
    TILE_PAIR_X = 2,
    TILE_THREE_F = 8,
    TILE_THREE_X = 3,
    TILE_FOUR_F = 6,
    TILE_FOUR_X = 4,
    TILE_FIVE_F = 4,
    TILE_FIVE_X = 5,
    TILE_SLIM_F = 3,
    TILE_SLIM_X = 5,
    TILE_WIDE_F = 1,
    TILE_WIDE_X = 14,
    TILE_FIELD_R = 5, /* rows of 5 taps, an accumulator each */
#else
    TILE_PAIR_F = 6,
    TILE_PAIR_X = 2,
    TILE_THREE_F = 4,
    TILE_THREE_X = 3,
    TILE_FOUR_F = 3,
    TILE_FOUR_X = 4,
    TILE_FIVE_F = 2,
    TILE_FIVE_X = 5,
    TILE_SLIM_F = 3,
    TILE_SLIM_X = 3,
    TILE_WIDE_F = 1,
    TILE_WIDE_X = 10,
    TILE_FIELD_R = 2,
#endif
    TILE_ROW_X = 10, /* of one filter, for tables of connections */
    TILE_MAX = 24,   /* accumulators of the largest tile */
    TILE_SUMS = 32   /* the same in whole registers */
};

#if defined(__has_builtin) && LENET5C_LANES > 1
#if __has_builtin(__builtin_shufflevector)
#define LENET5C_SHUFFLE
#endif
#endif

enum { LANES = LENET5C_LANES };

#if LENET5C_LANES > 1
typedef float lanes __attribute__((vector_size(LENET5C_LANES * 4)));
typedef int32_t ilanes __attribute__((vector_size(LENET5C_LANES * 4)));
typedef uint32_t ulanes __attribute__((vector_size(LENET5C_LANES * 4)));
#else
typedef float lanes;
typedef int32_t ilanes;
typedef uint32_t ulanes;
#endif

static inline lanes lanes_set(float value)
{
#if LENET5C_LANES > 1
    return value - (lanes){0};
#else
    return value;
#endif
}

/* v, in a register: left to itself gcc reads an operand from memory again for each use. */
static inline lanes lanes_keep(lanes v)
{
#if defined(__GNUC__) && defined(__x86_64__) && LENET5C_LANES * 4 <= LENET5C_REGISTER
    __asm__("" : "+v"(v));
#elif defined(__GNUC__) && defined(__aarch64__) && LENET5C_LANES == 4
    __asm__("" : "+w"(v));
#endif
    return v;
}

/* n, unknown to the compiler: a loop of a few constant rounds would be unrolled, and its
 * operands would take the registers of the sums. */
static inline int lanes_rounds(int n)
{
#if defined(__GNUC__)
    __asm__("" : "+r"(n));
#endif
    return n;
}

/* Unaligned load and store, and the addition of the first `count` lanes to memory. */
static inline lanes lanes_load(const float *from)
{
    lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void lanes_store(float *to, lanes v) { memcpy(to, &v, sizeof v); }

static inline void lanes_add_to(float *to, lanes v, int count)
{
    float a[LENET5C_LANES];
    if (count >= LENET5C_LANES) {
        lanes old;
        memcpy(&old, to, sizeof old);
        old += v;
        memcpy(to, &old, sizeof old);
        return;
    }
    memcpy(a, &v, sizeof a);
    for (int i = 0; i < count; i++) to[i] += a[i];
}

/* Sum over the lanes, by halves: the order of the additions is fixed. */
static inline float lanes_sum(lanes v)
{
#if LENET5C_LANES == 1
    return v;
#else
#if defined(LENET5C_SHUFFLE) && LENET5C_LANES == 16
    v +=
        __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v +=
        __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15);
    v +=
        __builtin_shufflevector(v, v, 2, 3, 0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return v[0] + v[1];
#elif defined(LENET5C_SHUFFLE) && LENET5C_LANES == 8
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    return v[0] + v[1];
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
#endif
}

/* `yes` where the mask is set, elsewhere `no`. */
#if LENET5C_LANES > 1
static inline lanes lanes_choose(ilanes mask, lanes yes, lanes no)
{
    return (lanes)((mask & (ilanes)yes) | (~mask & (ilanes)no));
}
#else
static inline lanes lanes_choose(ilanes mask, lanes yes, lanes no)
{
    return mask ? yes : no;
}
#endif

static inline lanes lanes_where_equal(lanes a, lanes b, lanes yes, lanes no)
{
    return lanes_choose(a == b, yes, no);
}

static inline lanes lanes_if_less(lanes a, lanes b, lanes yes, lanes no)
{
    return lanes_choose(a < b, yes, no);
}

static inline lanes lanes_if_positive(lanes a, lanes yes)
{
    return lanes_choose(a > 0, yes, lanes_set(0));
}

/* a < b ? a : b and a > b ? a : b, lane by lane: where either is NaN the result is b. */
#if defined(__AVX512F__) && LENET5C_LANES == 16
static inline lanes lanes_min(lanes a, lanes b) { return (lanes)_mm512_min_ps(a, b); }
static inline lanes lanes_max(lanes a, lanes b) { return (lanes)_mm512_max_ps(a, b); }
#elif defined(__AVX__) && LENET5C_LANES == 8
static inline lanes lanes_min(lanes a, lanes b) { return (lanes)_mm256_min_ps(a, b); }
static inline lanes lanes_max(lanes a, lanes b) { return (lanes)_mm256_max_ps(a, b); }
#elif defined(__SSE__) && LENET5C_LANES == 4
static inline lanes lanes_min(lanes a, lanes b) { return (lanes)_mm_min_ps(a, b); }
static inline lanes lanes_max(lanes a, lanes b) { return (lanes)_mm_max_ps(a, b); }
#else
static inline lanes lanes_min(lanes a, lanes b) { return lanes_choose(a < b, a, b); }
static inline lanes lanes_max(lanes a, lanes b) { return lanes_choose(a > b, a, b); }
#endif

/* `v` where least < a < most, else 0. */
static inline lanes lanes_choose_within(lanes a, lanes least, lanes most, lanes v)
{
    return lanes_choose((a > least) & (a < most), v, lanes_set(0));
}

/* The nearest integer, halves to the even one, and the largest one that is not above it:
 * of |a| < 2^22. */
static inline lanes lanes_round(lanes a)
{
    const lanes magic = lanes_set(12582912.0f); /* 1.5 * 2^23 */
    return (a + magic) - magic;
}

static inline lanes lanes_floor(lanes a)
{
    const lanes near = lanes_round(a);
    return near - lanes_if_less(a, near, lanes_set(1), lanes_set(0));
}

/* floor((a m + 2^(s-1)) / 2^s) of integers |a| <= 2^31, 0 <= m < 2^31, 1 <= s <= 62: exact
 * but for the 24 bits that a float has of the result. */
static inline lanes lanes_rescale(lanes a, int64_t m, int s)
{
    const lanes most = lanes_set(2147483648.0f);
    const int64_t half = (int64_t)1 << (s - 1);
    float of[LENET5C_LANES];
    a = lanes_min(lanes_max(a, -most), most);
    memcpy(of, &a, sizeof of);
    for (int n = 0; n < LENET5C_LANES; n++)
        of[n] = (float)(((int64_t)of[n] * m + half) >> s);
    return lanes_load(of);
}

#define LENET5C_LANES_FMA(a, b, c) ((a) * (b) + (c))

/* tanh(x), to 6.02 units in the last place. NaN stays NaN. */
static inline lanes lanes_tanh(lanes x)
{
    const lanes most = lanes_set(LENET5C_TANH_MOST);
    lanes u, p, q;
    x = lanes_max(-most, lanes_min(most, x));
    u = x * x;
    LENET5C_TANH(p, q, u, lanes_set, LENET5C_LANES_FMA);
    return x * p / q;
}

/* exp(x) for x <= 0 alone, which is what softmax needs; below -87 it is exp(-87) = 1.6e-38.
 * NaN stays NaN. */
static inline lanes lanes_exp(lanes x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    lanes n, r, y;
    ilanes bits;
    x = lanes_max(lanes_set(LENET5C_EXP_LEAST), x);
    n = x * LENET5C_EXP_TURNS + magic;
    memcpy(&bits, &n, sizeof bits);
    n = n - magic;
    LENET5C_EXP(y, r, x, n, lanes_set, LENET5C_LANES_FMA);
    bits = ((bits - 0x4B400000) + 127) << 23;
    memcpy(&n, &bits, sizeof n);
    return y * n;
}

/* Random number `i` of each lane's key, uniform in [0, 1), a multiple of 2^-24: a 32-bit
 * integer hash whose constants were found by exhaustive measurement of its bias (Wellons,
 * "hash prospector", lowbias32). */
static inline lanes lanes_uniform(ulanes key, uint32_t i)
{
    ulanes x = key ^ (i * 0x9E3779B9u);
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    x = x ^ (x >> 16);
#if LENET5C_LANES > 1
    return __builtin_convertvector((ilanes)(x >> 8), lanes) * 0x1p-24f;
#else
    return (float)(x >> 8) * 0x1p-24f;
#endif
}

/* Normal number `i` of each lane's key: the sum of 12 uniform numbers less 6, of variance 1
 * and never beyond 6. */
static inline lanes lanes_normal(ulanes key, uint32_t i)
{
    lanes total = lanes_set(-6.0f);
    for (uint32_t n = 0; n < 12; n++) total += lanes_uniform(key, 12 * i + n);
    return total;
}

/* Byte `number`, in memory's order, of the four in each lane, as a number. */
static inline lanes lanes_byte(lanes v, int number)
{
    ulanes bits;
    memcpy(&bits, &v, sizeof bits);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    number = 3 - number;
#endif
    bits = (bits >> (8 * number)) & 255;
#if LENET5C_LANES > 1
    return __builtin_convertvector((ilanes)bits, lanes);
#else
    return (float)bits;
#endif
}

/* Index lists of what two registers give a third: the elements whose number lacks a bit, or
 * has it, of the first and, in the others' places, of the second. */
#ifdef LENET5C_SHUFFLE
#if LENET5C_LANES == 16
#define LENET5C_LOW_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define LENET5C_HIGH_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define LENET5C_LOW_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define LENET5C_HIGH_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define LENET5C_LOW_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define LENET5C_HIGH_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define LENET5C_LOW_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define LENET5C_HIGH_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define LENET5C_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define LENET5C_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LENET5C_TWICE_LOW 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define LENET5C_TWICE_HIGH 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15
#elif LENET5C_LANES == 8
#define LENET5C_LOW_1 0, 8, 2, 10, 4, 12, 6, 14
#define LENET5C_HIGH_1 1, 9, 3, 11, 5, 13, 7, 15
#define LENET5C_LOW_2 0, 1, 8, 9, 4, 5, 12, 13
#define LENET5C_HIGH_2 2, 3, 10, 11, 6, 7, 14, 15
#define LENET5C_LOW_4 0, 1, 2, 3, 8, 9, 10, 11
#define LENET5C_HIGH_4 4, 5, 6, 7, 12, 13, 14, 15
#define LENET5C_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define LENET5C_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LENET5C_TWICE_LOW 0, 0, 1, 1, 2, 2, 3, 3
#define LENET5C_TWICE_HIGH 4, 4, 5, 5, 6, 6, 7, 7
#elif LENET5C_LANES == 4
#define LENET5C_LOW_1 0, 4, 2, 6
#define LENET5C_HIGH_1 1, 5, 3, 7
#define LENET5C_LOW_2 0, 1, 4, 5
#define LENET5C_HIGH_2 2, 3, 6, 7
#define LENET5C_EVEN 0, 2, 4, 6
#define LENET5C_ODD 1, 3, 5, 7
#define LENET5C_TWICE_LOW 0, 0, 1, 1
#define LENET5C_TWICE_HIGH 2, 2, 3, 3
#endif

#define LENET5C_HALVE(r, d)                                                                \
    for (int i_ = 0; i_ < (d); i_++)                                                       \
        r[i_] = __builtin_shufflevector(r[i_], r[i_ + (d)], LENET5C_LOW_##d) +             \
                __builtin_shufflevector(r[i_], r[i_ + (d)], LENET5C_HIGH_##d);

/* sums[i] = lanes_sum(v[i]), to the same bits, for several at a time; `sums` has room for
 * whole registers. */
static inline void lanes_sums(const lanes *v, int count, float *sums)
{
    for (int start = 0; start < count; start += LENET5C_LANES) {
        lanes r[LENET5C_LANES];
        for (int i = 0; i < LENET5C_LANES; i++)
            r[i] = start + i < count ? v[start + i] : lanes_set(0);
#if LENET5C_LANES >= 16
        LENET5C_HALVE(r, 8)
#endif
#if LENET5C_LANES >= 8
        LENET5C_HALVE(r, 4)
#endif
        LENET5C_HALVE(r, 2)
        LENET5C_HALVE(r, 1)
        memcpy(sums + start, r, sizeof r[0]);
    }
}

#define LENET5C_STAGE(r, d)                                                                \
    for (int i_ = 0; i_ < LENET5C_LANES; i_++)                                             \
        if (!(i_ & (d))) {                                                                 \
            lanes a_ = r[i_], b_ = r[i_ + (d)];                                            \
            r[i_] = __builtin_shufflevector(a_, b_, LENET5C_LOW_##d);                      \
            r[i_ + (d)] = __builtin_shufflevector(a_, b_, LENET5C_HIGH_##d);               \
        }

/* The sums of neighbours: v[0] + v[1], v[2] + v[3] and so on, of a and then of b. */
static inline lanes lanes_pairs(lanes a, lanes b)
{
    return __builtin_shufflevector(a, b, LENET5C_EVEN) +
           __builtin_shufflevector(a, b, LENET5C_ODD);
}

/* Each of the lower, or upper, half of the lanes twice. */
static inline lanes lanes_twice_low(lanes v)
{
    return __builtin_shufflevector(v, v, LENET5C_TWICE_LOW);
}
static inline lanes lanes_twice_high(lanes v)
{
    return __builtin_shufflevector(v, v, LENET5C_TWICE_HIGH);
}

/* Swap rows and columns of a LANES x LANES square, in place: in stage d, rows i and i + d
 * exchange the columns whose number has bit d with those that lack it. */
static inline void lanes_transpose(lanes *rows)
{
    lanes r[LENET5C_LANES];
    for (int i = 0; i < LENET5C_LANES; i++) r[i] = rows[i];
    LENET5C_STAGE(r, 1)
    LENET5C_STAGE(r, 2)
#if LENET5C_LANES >= 8
    LENET5C_STAGE(r, 4)
#endif
#if LENET5C_LANES >= 16
    LENET5C_STAGE(r, 8)
#endif
    for (int i = 0; i < LENET5C_LANES; i++) rows[i] = r[i];
}
#else
static inline void lanes_sums(const lanes *v, int count, float *sums)
{
    for (int i = 0; i < count; i++) sums[i] = lanes_sum(v[i]);
}

static inline lanes lanes_pairs(lanes a, lanes b)
{
    float both[2 * LENET5C_LANES], sums[LENET5C_LANES];
    memcpy(both, &a, sizeof a);
    memcpy(both + LENET5C_LANES, &b, sizeof b);
    for (int i = 0; i < LENET5C_LANES; i++) sums[i] = both[2 * i] + both[2 * i + 1];
    return lanes_load(sums);
}

static inline lanes lanes_twice_from(lanes v, int first)
{
    float of[LENET5C_LANES], twice[LENET5C_LANES];
    memcpy(of, &v, sizeof v);
    for (int i = 0; i < LENET5C_LANES; i++) twice[i] = of[(first + i) / 2];
    return lanes_load(twice);
}

static inline lanes lanes_twice_low(lanes v) { return lanes_twice_from(v, 0); }
static inline lanes lanes_twice_high(lanes v)
{
    return lanes_twice_from(v, LENET5C_LANES > 1 ? LENET5C_LANES : 0);
}

static inline void lanes_transpose(lanes *rows)
{
    float *a = (float *)rows;
    for (int i = 0; i < LENET5C_LANES; i++)
        for (int j = 0; j < i; j++) {
            float swap = a[i * LENET5C_LANES + j];
            a[i * LENET5C_LANES + j] = a[j * LENET5C_LANES + i];
            a[j * LENET5C_LANES + i] = swap;
        }
}
#endif

#endif
