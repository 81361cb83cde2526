/* lenet5c: reads a model file and runs it. What each function does stands in lenet5c.h.
 *
 * The file is read in three steps, none of which allocates anything:
 *     check_header    JSON, metadata, offsets: docs/model_file.md says what is refused
 *     plan            layers become ops; without memory it only counts what they will need
 *     check_payload   SHA-256, finite numbers
 * Text is never unpacked: a `text` is a place in the header that is read character by
 * character, through the escapes of the JSON around it where there is JSON in JSON.
 *
 *     C H W    channels, rows, columns of an input map
 *     F OH OW  of an output map
 *     KH KW    kernel
 *     CP FP    channels rounded up to whole registers
 */
#include "lenet5c.h"

#include <float.h>
#include <limits.h>
#include <string.h>
#ifndef LENET5C_BARE
#include <stdio.h>
#include <stdlib.h>
#endif

enum {
    DIGITS = 8 + 27, /* where the SHA-256 lies in the file */
    LEAST_HEADER = 27 + 64,
    MOST_HEADER = 1 << 16,
    /* of a map, and of all parameters; filled up to registers they fit a ptrdiff_t */
    MOST_FLOATS = sizeof(size_t) > 4 ? 1 << 28 : 1 << 24,
    MOST_PADDED = sizeof(size_t) > 4 ? INT32_MAX : MOST_FLOATS,
    MOST_SIDE = 1 << 20, /* any size that a layer is given */
    MOST_DIMENSIONS = 8,
    MOST_NESTED = 8,                  /* residual layers inside of each other */
    MOST_DEPTH = 4 + 2 * MOST_NESTED, /* of JSON: network, layers, layer, kernel_size */
    MOST_MAPS = 2 * MOST_NESTED + 4,  /* alive at a time */
    MOST_NAME = 64,
    ALIGNMENT = 64
};

#define ROUNDING 1e-5 /* how far outside of 0 to 1 a float may lie */

/* ---- Arithmetic -------------------------------------------------------------------- */

enum activation { NO_ACTIVATION, TANH, RELU };

struct op;
typedef void tile_function(const struct op *, const float *, const float *, float *);

struct tile {
    int width;   /* registers of channels, or filters where lanes are columns */
    int columns; /* columns, or registers of columns */
    int sums;    /* beside each other */
    tile_function *run;
};

/* Tiles of one width, side by side. */
struct piece {
    tile_function *tile;
    int count;         /* how many */
    int columns;       /* of one */
    ptrdiff_t part;    /* floats that lie together, for the activation */
    ptrdiff_t weights; /* floats of one */
    ptrdiff_t step;    /* from one to the next in the output */
};

/* A step of the network. Steps and sizes are in floats. */
struct op {
    void (*run)(const struct op *, const float *x, float *y);
    ptrdiff_t x, y; /* where the maps lie in the workspace */
    int activation;
    int channels, height, width; /* of the input; channels CP where lanes are channels */
    int out_h, out_w;
    int window, maximum, stride, rows;
    int top, left, bottom, right; /* of a padding */
    ptrdiff_t taps_a, taps_t;
    ptrdiff_t step_a, step_t;
    ptrdiff_t x_row, x_column, x_channel; /* from one output to the next */
    ptrdiff_t y_row, y_column, x_to_y;
    int parts;
    ptrdiff_t size;
    ptrdiff_t other; /* from one map to the one that is added to it */
    const float *weights;
    ptrdiff_t point; /* floats of the weights for one of six points, or 0 */
    struct piece pieces[2];
};

struct kernels {
    const char *name;
    int lanes;
    const struct tile *tiles, *row_tiles;
    size_t tile_count, row_tile_count;
    void (*run_product)(const struct op *, const float *, float *);
    void (*run_pairs)(const struct op *, const float *, float *);
    void (*run_pool)(const struct op *, const float *, float *);
    void (*run_pool_rows)(const struct op *, const float *, float *);
    void (*run_activation)(const struct op *, const float *, float *);
    void (*run_sum)(const struct op *, const float *, float *);
    void (*run_scale)(const struct op *, const float *, float *);
    void (*fill)(float *, ptrdiff_t, float);
    void (*scale_bytes)(const uint8_t *, ptrdiff_t, float *, int, float, float);
    void (*softmax)(float *, int, float);
};

/* Registers of channels, columns, sums beside each other. A tile has to fit 16 registers
 * beside an operand or two, and wants 8 sums: two multiply-adds a cycle of latency 4. */
/* clang-format off */
#define LENET5C_TILES(T)                                                                   \
    T(1, 1, 4) T(2, 1, 4) T(3, 1, 2) T(4, 1, 2) T(5, 1, 1) T(6, 1, 1) T(7, 1, 1)           \
    T(8, 1, 1) T(9, 1, 1) T(10, 1, 1) T(11, 1, 1) T(12, 1, 1)                              \
    T(1, 2, 1) T(2, 2, 1) T(3, 2, 1) T(4, 2, 1) T(6, 2, 1)                                 \
    T(1, 3, 1) T(2, 3, 1) T(3, 3, 1) T(4, 3, 1) T(1, 4, 1) T(2, 4, 1) T(3, 4, 1)           \
    T(1, 5, 1) T(2, 5, 1) T(1, 6, 1) T(2, 6, 1) T(1, 8, 1) T(1, 10, 1)
/* Filters, registers of columns. */
#define LENET5C_ROW_TILES(T)                                                               \
    T(1, 1) T(2, 1) T(3, 1) T(4, 1) T(5, 1) T(6, 1) T(8, 1)                                \
    T(1, 2) T(2, 2) T(3, 2) T(4, 2) T(5, 2) T(6, 2)
/* clang-format on */
#define LENET5C_MOST_TILE 12

#define LENET5C_PASTE(a, b) a##_##b

#if defined(__GNUC__) && FLT_EVAL_METHOD == 2
#error "exp needs floats of 32 bits, not the x87's: compile with -msse2 -mfpmath=sse"
#endif
#if defined(__GNUC__) && !defined(LENET5C_SCALAR)
#define LENET5C_VECTORS
#endif
#if defined(__clang__)
#define LENET5C_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define LENET5C_UNROLL _Pragma("GCC unroll 16")
#else
#define LENET5C_UNROLL
#endif
#if defined(__GNUC__)
#define LENET5C_ALWAYS __attribute__((always_inline))
#else
#define LENET5C_ALWAYS
#endif
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LENET5C_SHUFFLE
#endif
#endif

#if defined(LENET5C_VECTORS) && defined(__x86_64__) && !defined(LENET5C_PORTABLE)
#define LENET5C_X86
#include <immintrin.h>

#define LENET5C_V 16
#define LENET5C_SET(name) LENET5C_PASTE(name, avx512)
#define LENET5C_NAME "avx512"
#define LENET5C_TARGET __attribute__((target("avx512f,avx2,fma")))
#define LENET5C_FMA(a, b, c) ((vec)_mm512_fmadd_ps(a, b, c))
#define LENET5C_MIN(a, b) ((vec)_mm512_min_ps(a, b))
#define LENET5C_MAX(a, b) ((vec)_mm512_max_ps(a, b))
#define LENET5C_EVEN(a, b) ((vec)_mm512_shuffle_ps(a, b, 0x88))
#define LENET5C_ODD(a, b) ((vec)_mm512_shuffle_ps(a, b, 0xdd))
#define LENET5C_IN_ORDER(v)                                                                \
    ((vec)_mm512_castpd_ps(_mm512_permutexvar_pd(                                          \
        _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0), _mm512_castps_pd(v))))
#define LENET5C_WIDEN(from)                                                                \
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from))))
#include "lenet5c_kernels.h"

#define LENET5C_V 8
#define LENET5C_SET(name) LENET5C_PASTE(name, avx2)
#define LENET5C_NAME "avx2"
#define LENET5C_TARGET __attribute__((target("avx2,fma")))
#define LENET5C_FMA(a, b, c) ((vec)_mm256_fmadd_ps(a, b, c))
#define LENET5C_MIN(a, b) ((vec)_mm256_min_ps(a, b))
#define LENET5C_MAX(a, b) ((vec)_mm256_max_ps(a, b))
#define LENET5C_EVEN(a, b) ((vec)_mm256_shuffle_ps(a, b, 0x88))
#define LENET5C_ODD(a, b) ((vec)_mm256_shuffle_ps(a, b, 0xdd))
#define LENET5C_IN_ORDER(v)                                                                \
    ((vec)_mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8)))
#define LENET5C_WIDEN(from)                                                                \
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(from))))
#include "lenet5c_kernels.h"
#endif

/* What any machine can run: 4 floats at a time, or one where the compiler has no vectors.
 */
#if defined(LENET5C_VECTORS)
#ifndef LENET5C_LANES
#define LENET5C_LANES 4 /* 8 and 16 are for tests: slow, and the same order of sums */
#endif
typedef int32_t whole_lanes __attribute__((vector_size(LENET5C_LANES * 4)));
#define LENET5C_V LENET5C_LANES
#define LENET5C_NAME "vector"
#if defined(__aarch64__) && LENET5C_LANES == 4
#include <arm_neon.h>
#define LENET5C_FMA(a, b, c) ((vec)vfmaq_f32(c, a, b))
#endif
#define LENET5C_CHOOSE(mask, a, b)                                                         \
    ((vec)(((mask) & (whole_lanes)(a)) | (~(mask) & (whole_lanes)(b))))
#define LENET5C_MIN(a, b) LENET5C_CHOOSE((a) < (b), a, b)
#define LENET5C_MAX(a, b) LENET5C_CHOOSE((a) > (b), a, b)
#if LENET5C_LANES == 4 && defined(LENET5C_SHUFFLE)
#define LENET5C_EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define LENET5C_ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#define LENET5C_IN_ORDER(v) (v)
#endif
#else
#define LENET5C_V 1
#define LENET5C_NAME "scalar"
#define LENET5C_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LENET5C_MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#ifndef LENET5C_FMA
#define LENET5C_FMA(a, b, c) ((a) * (b) + (c))
#endif
#define LENET5C_SET(name) LENET5C_PASTE(name, portable)
#define LENET5C_TARGET
#include "lenet5c_kernels.h"

/* LENET5C_MOST_LANES names a variable of the program that limits the choice. */
#if defined(LENET5C_MOST_LANES)
extern int LENET5C_MOST_LANES;
#else
enum { LENET5C_MOST_LANES = 16 };
#endif

static const struct kernels *choose_kernels(void)
{
#if defined(LENET5C_X86)
    __builtin_cpu_init();
    if (LENET5C_MOST_LANES >= 16 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("fma"))
        return &kernels_avx512;
    if (LENET5C_MOST_LANES >= 8 && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return &kernels_avx2;
#endif
    return &kernels_portable;
}

/* y = x, within a border of zeros */
static void run_padding(const struct op *p, const float *x, float *y)
{
    const int width = p->left + p->width + p->right;
    /* a map in rows has C pieces of W in each row, one in pixels has one of W * CP */
    const int pieces = p->rows ? p->channels : 1, unit = p->rows ? 1 : p->channels;
    const size_t left = (size_t)p->left * (size_t)unit;
    const size_t right = (size_t)p->right * (size_t)unit;
    const size_t inner = (size_t)p->width * (size_t)unit;
    const size_t row = (size_t)pieces * (size_t)width * (size_t)unit;
    memset(y, 0, (size_t)p->top * row * sizeof(float));
    y += (size_t)p->top * row;
    for (int i = 0; i < p->height * pieces; i++) {
        memset(y, 0, left * sizeof(float));
        memcpy(y + left, x, inner * sizeof(float));
        memset(y + left + inner, 0, right * sizeof(float));
        x += inner;
        y += left + inner + right;
    }
    memset(y, 0, (size_t)p->bottom * row * sizeof(float));
}

/* y[oy][ox][c] or y[oy][c][ox] = maximum over what of the window lies within the map */
static void run_padded_pool(const struct op *p, const float *x, float *y)
{
    const ptrdiff_t to_column = p->rows ? 1 : p->channels;
    const ptrdiff_t to_channel = p->rows ? p->out_w : 1;
    for (int row = 0; row < p->out_h; row++) {
        const int top = row * p->stride - p->top, below = top + p->window;
        const int first = top > 0 ? top : 0, end = below < p->height ? below : p->height;
        for (int column = 0; column < p->out_w; column++) {
            const int left = column * p->stride - p->left, right = left + p->window;
            const int from = left > 0 ? left : 0, to = right < p->width ? right : p->width;
            float *out = y + column * to_column;
            for (int c = 0; c < p->channels; c++)
                out[c * to_channel] =
                    x[first * p->step_a + from * p->step_t + c * p->x_channel];
            for (int h = first; h < end; h++)
                for (int w = from; w < to; w++) {
                    const float *at = x + h * p->step_a + w * p->step_t;
                    for (int c = 0; c < p->channels; c++) {
                        const float now = at[c * p->x_channel];
                        float *most = out + c * to_channel;
                        *most = *most > now ? *most : now;
                    }
                }
        }
        y += p->out_w * (ptrdiff_t)p->channels;
    }
}

/* y[c] = mean of channel c, and zeros up to a whole register */
static void run_global_pool(const struct op *p, const float *x, float *y)
{
    const float share = 1 / (float)(p->height * p->width);
    memset(y, 0, (size_t)p->size * sizeof(float));
    for (int h = 0; h < p->height; h++)
        for (int w = 0; w < p->width; w++) {
            const float *at = x + h * p->step_a + w * p->step_t;
            for (int c = 0; c < p->channels; c++) y[c] += at[c * p->x_channel];
        }
    for (int c = 0; c < p->channels; c++) y[c] *= share;
}

/* A map in rows as one in pixels. */
static void run_to_pixels(const struct op *p, const float *x, float *y)
{
    memset(y, 0, (size_t)p->size * sizeof(float));
    for (int h = 0; h < p->height; h++)
        for (int w = 0; w < p->width; w++, y += p->step_t)
            for (int c = 0; c < p->channels; c++)
                y[c] = x[(h * (ptrdiff_t)p->channels + c) * p->width + w];
}

/* y[(c * H + h) * W + w] = x[c, h, w], and zeros up to a whole register */
static void run_flatten(const struct op *p, const float *x, float *y)
{
    ptrdiff_t i = 0;
    for (int c = 0; c < p->channels; c++)
        for (int h = 0; h < p->height; h++)
            for (int w = 0; w < p->width; w++)
                y[i++] = x[c * p->x_channel + h * p->x_row + w * p->x_column];
    for (; i < p->size; i++) y[i] = 0;
}

/* ---- SHA-256 (FIPS 180-4) ---------------------------------------------------------- */

struct sha256 {
    uint32_t h[8];
    uint64_t length;
    unsigned char block[64];
};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(uint32_t *h, const unsigned char *block)
{
    static const uint32_t k[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5,
        0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
        0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
        0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
        0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624,
        0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3,
        0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
        0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], a = h[0], b = h[1], c = h[2], d = h[3];
    uint32_t e = h[4], f = h[5], g = h[6], last = h[7];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t p = w[i - 15], q = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotate(p, 7) ^ rotate(p, 18) ^ p >> 3) +
               (rotate(q, 17) ^ rotate(q, 19) ^ q >> 10);
    }
    for (int i = 0; i < 64; i++) {
        const uint32_t s = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        const uint32_t t = last + s + ((e & f) ^ (~e & g)) + k[i] + w[i];
        const uint32_t r = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        const uint32_t m = (a & b) ^ (a & c) ^ (b & c);
        last = g;
        g = f;
        f = e;
        e = d + t;
        d = c;
        c = b;
        b = a;
        a = t + r + m;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
    h[5] += f;
    h[6] += g;
    h[7] += last;
}

static void sha256_add(struct sha256 *s, const unsigned char *bytes, size_t size)
{
    size_t at = s->length % 64;
    s->length += size;
    for (; size > 0; at = 0) {
        const size_t n = size < 64 - at ? size : 64 - at;
        if (n == 64) {
            sha256_block(s->h, bytes);
        } else {
            memcpy(s->block + at, bytes, n);
            if (at + n == 64) sha256_block(s->h, s->block);
        }
        bytes += n;
        size -= n;
    }
}

/* The digest in hexadecimal digits. */
static void sha256_end(struct sha256 *s, char *digits)
{
    static const unsigned char padding[64] = {0x80};
    const uint64_t bits = s->length * 8;
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(s, padding, 1 + (119 - s->length % 64) % 64);
    sha256_add(s, length, 8);
    for (int i = 0; i < 64; i++)
        digits[i] = "0123456789abcdef"[s->h[i / 8] >> (28 - 4 * (i % 8)) & 15];
}

/* ---- JSON -------------------------------------------------------------------------- */

/* A place in a text. `nested`: the text is the inside of a JSON string. */
struct text {
    const unsigned char *at, *end;
    int nested;
};

enum { END = -1, WRONG = -2 };

static int is_surrogate(int32_t c, int32_t from) { return c >= from && c < from + 0x400; }

/* The character at t->at, and the place after it; END, or WRONG if this is no UTF-8. */
static int32_t utf8_next(struct text *t)
{
    const unsigned char *p = t->at;
    int32_t c, least;
    int more;
    if (p == t->end) return END;
    c = *p++;
    if (c < 0x80) {
        t->at = p;
        return c;
    }
    more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || t->end - p < more) return WRONG;
    c &= 0x3f >> more;
    for (int i = 0; i < more; i++) {
        if ((p[i] & 0xc0) != 0x80) return WRONG;
        c = c << 6 | (p[i] & 0x3f);
    }
    least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return WRONG;
    t->at = p + more;
    return c;
}

static int32_t next(struct text *t);

static int32_t hex4(struct text *t)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const int32_t c = next(t);
        int32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else
            return WRONG;
        value = value << 4 | digit;
    }
    return value;
}

/* The next character of a JSON string that begins behind t's place, END at its quote. */
static int32_t string_next(struct text *t)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int32_t c = next(t), low;
    struct text after;
    if (c == '"') return END;
    if (c < 0x20) return WRONG; /* the text ends as well */
    if (c != '\\') return c;
    c = next(t);
    if (c != 'u') {
        const char *found = c > 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
        return found ? to[found - from] : WRONG;
    }
    c = hex4(t);
    if (!is_surrogate(c, 0xd800)) return c;
    after = *t;
    if (next(&after) != '\\' || next(&after) != 'u') return c;
    low = hex4(&after);
    if (low == WRONG) return WRONG;
    if (!is_surrogate(low, 0xdc00)) return c;
    *t = after;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* The next character of a text. The recursion is of depth 1: a nested text is inside of a
 * string of a text that is not. */
static int32_t next(struct text *t)
{
    struct text outer = *t;
    int32_t c;
    if (!t->nested) return utf8_next(t);
    if (t->at == t->end) return END;
    outer.nested = 0;
    c = string_next(&outer);
    t->at = outer.at;
    return c;
}

static int32_t peek(struct text t) { return next(&t); }

static int32_t after_space(struct text *t)
{
    int32_t c;
    while ((c = peek(*t)) == ' ' || c == '\t' || c == '\n' || c == '\r') next(t);
    return c;
}

static int accept(struct text *t, int32_t wanted)
{
    if (after_space(t) != wanted) return 0;
    next(t);
    return 1;
}

static int accept_word(struct text *t, const char *word)
{
    struct text at = *t;
    for (; *word; word++)
        if (next(&at) != *word) return 0;
    *t = at;
    return 1;
}

static int skip_digits(struct text *t)
{
    int count = 0;
    for (int32_t c; (c = peek(*t)) >= '0' && c <= '9'; count++) next(t);
    return count;
}

/* Past a string, whose opening quote is next. Half a surrogate pair is no text. */
static int skip_string(struct text *t)
{
    int32_t c;
    if (next(t) != '"') return 0;
    while ((c = string_next(t)) >= 0)
        if (c >= 0xd800 && c < 0xe000) return 0;
    return c == END;
}

/* Past a number. Zero has no sign if it is whole, so that each has one form. */
static int skip_number(struct text *t)
{
    const int negative = accept_word(t, "-"), zero = accept_word(t, "0");
    int whole = 1;
    if (!zero && skip_digits(t) == 0) return 0;
    if (accept_word(t, ".")) {
        whole = 0;
        if (skip_digits(t) == 0) return 0;
    }
    if (accept_word(t, "e") || accept_word(t, "E")) {
        whole = 0;
        if (!accept_word(t, "+")) accept_word(t, "-");
        if (skip_digits(t) == 0) return 0;
    }
    return !(whole && negative && zero);
}

/* Past a value; whether it is one. */
static int skip_value(struct text *t)
{
    unsigned char is_object[MOST_DEPTH];
    int depth = 0;
    for (;;) {
        int32_t c = after_space(t);
        if (c == '{' || c == '[') {
            next(t);
            if (accept(t, c == '{' ? '}' : ']')) goto closed;
            if (depth == MOST_DEPTH) return 0;
            is_object[depth++] = c == '{';
        } else {
            if (c == '"') {
                if (!skip_string(t)) return 0;
            } else if (!accept_word(t, "true") && !accept_word(t, "false") &&
                       !accept_word(t, "null") && !skip_number(t)) {
                return 0;
            }
        closed:
            while (depth > 0 && accept(t, is_object[depth - 1] ? '}' : ']')) depth--;
            if (depth == 0) return 1;
            if (!accept(t, ',')) return 0;
        }
        if (is_object[depth - 1]) {
            after_space(t);
            if (!skip_string(t) || !accept(t, ':')) return 0;
        }
    }
}

/* Whether the text is one value and nothing after it. */
static int is_json(struct text t) { return skip_value(&t) && after_space(&t) == END; }

/* What follows is given places in JSON that has been checked. */

/* To the next item of an array or object that begins at *t: `*first` is 1 for the first.
 * Whether there is one; then *item is the value, and *key its key's string. */
static int next_item(struct text *t, int *first, struct text *key, struct text *item)
{
    const int32_t c = after_space(t);
    if (*first ? c != '[' && c != '{' : c != ',') return 0;
    next(t);
    if (*first && (accept(t, ']') || accept(t, '}'))) return 0;
    *first = 0;
    after_space(t);
    if (key) {
        *key = *t;
        skip_string(t);
        accept(t, ':');
        after_space(t);
    }
    *item = *t;
    skip_value(t);
    return 1;
}

static int begins_with(struct text t, int32_t c) { return after_space(&t) == c; }

/* Whether the string at t is `wanted`, in ASCII. */
static int string_is(struct text t, const char *wanted)
{
    if (next(&t) != '"') return 0;
    for (; *wanted; wanted++)
        if (string_next(&t) != *wanted) return 0;
    return string_next(&t) == END;
}

/* Whether string a, and then `ending`, is string b. */
static int same_string(struct text a, const char *ending, struct text b)
{
    int32_t c;
    next(&a);
    next(&b);
    while ((c = string_next(&a)) >= 0)
        if (string_next(&b) != c) return 0;
    for (; *ending; ending++)
        if (string_next(&b) != *ending) return 0;
    return string_next(&b) == END;
}

static int string_length(struct text t)
{
    int length = 0;
    next(&t);
    while (string_next(&t) >= 0) length++;
    return length;
}

/* The values of the object at t by the place of their key in `keys`, which a NULL ends.
 * The keys that it has, a bit each; 0 for one that is unknown or occurs twice. */
static unsigned get_object(struct text t, const char *const *keys, struct text *values)
{
    struct text key, item;
    unsigned seen = 0;
    int first = 1;
    if (!begins_with(t, '{')) return 0;
    while (next_item(&t, &first, &key, &item)) {
        int i = 0;
        while (keys[i] && !string_is(key, keys[i])) i++;
        if (!keys[i] || seen >> i & 1) return 0;
        seen |= 1u << i;
        values[i] = item;
    }
    return seen;
}

/* The JSON text within the string at t. */
static struct text inside(struct text t)
{
    struct text inner = {t.at + 1, t.at, 1};
    next(&t);
    do inner.end = t.at;
    while (string_next(&t) >= 0);
    return inner;
}

/* A whole number; 0 for something else, or a number beyond -2^63 or 2^63 - 1. */
static int get_whole(struct text t, int64_t *value)
{
    const int negative = peek(t) == '-';
    uint64_t sum = 0;
    int32_t c;
    int count = 0;
    if (negative) next(&t);
    for (; (c = peek(t)) >= '0' && c <= '9'; count++) {
        const uint64_t digit = (uint64_t)(c - '0');
        next(&t);
        if (sum > ((uint64_t)INT64_MAX + 1 - digit) / 10) return 0;
        sum = sum * 10 + digit;
    }
    if (count == 0 || c == '.' || c == 'e' || c == 'E') return 0;
    if (!negative && sum > INT64_MAX) return 0;
    *value = negative ? (sum ? -(int64_t)(sum - 1) - 1 : 0) : (int64_t)sum;
    return 1;
}

static int get_size(struct text t, int least, int *value)
{
    int64_t found;
    if (!get_whole(t, &found) || found < least || found > MOST_SIDE) return 0;
    *value = (int)found;
    return 1;
}

/* The array at t as `most` sizes at most: how many, or -1. */
static int get_sizes(struct text t, int least, int most, int *values)
{
    struct text item;
    int first = 1, count = 0;
    if (!begins_with(t, '[')) return -1;
    for (; next_item(&t, &first, NULL, &item); count++)
        if (count == most || !get_size(item, least, &values[count])) return -1;
    return count;
}

/* A whole number of any length, base 2^32, lowest digit first. */
struct big {
    int size;
    uint32_t digits[132];
};

static void big_multiply(struct big *b, uint32_t factor, uint32_t plus)
{
    uint64_t carry = plus;
    for (int i = 0; i < b->size; i++) {
        carry += (uint64_t)b->digits[i] * factor;
        b->digits[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry) b->digits[b->size++] = (uint32_t)carry;
}

static void big_scale(struct big *b, int tens, int twos)
{
    for (; tens > 0; tens--) big_multiply(b, 10, 0);
    for (; twos >= 31; twos -= 31) big_multiply(b, (uint32_t)1 << 31, 0);
    if (twos > 0) big_multiply(b, (uint32_t)1 << twos, 0);
}

/* Sign of decimal * 10^tens - mantissa * 2^twos */
static int compare_exactly(const struct big *decimal, int tens, uint64_t mantissa, int twos)
{
    struct big a = *decimal, b = {2, {(uint32_t)mantissa, (uint32_t)(mantissa >> 32)}};
    while (b.size > 0 && b.digits[b.size - 1] == 0) b.size--;
    big_scale(&a, tens, -twos);
    big_scale(&b, -tens, twos);
    if (a.size != b.size) return a.size < b.size ? -1 : 1;
    for (int i = a.size - 1; i >= 0; i--)
        if (a.digits[i] != b.digits[i]) return a.digits[i] < b.digits[i] ? -1 : 1;
    return 0;
}

/* Sign of the decimal number minus the middle between the double of these bits and the next
 * larger one. */
static int compare_to_middle(const struct big *decimal, int tens, uint64_t bits)
{
    const int exponent = (int)(bits >> 52);
    uint64_t mantissa = bits & (((uint64_t)1 << 52) - 1);
    if (exponent > 0) mantissa |= (uint64_t)1 << 52;
    return compare_exactly(
        decimal, tens, 2 * mantissa + 1, (exponent > 0 ? exponent : 1) - 1076);
}

/* The double next to the number at t, as Python reads it; 0 if it is no number. strtod
 * would depend on the locale. */
static int get_number(struct text t, double *value)
{
    enum { MOST_KEPT = 780 }; /* digits; one more stands for all beyond */
    const uint64_t infinity = (uint64_t)0x7ff << 52;
    struct big decimal = {0, {0}};
    int tens = 0, kept = 0, rest = 0, fraction = 0, negative = 0, exponent = 0;
    double guess = 0, power = 10;
    uint64_t bits;
    int32_t c = peek(t);
    if (c != '-' && (c < '0' || c > '9')) return 0;
    if (c == '-') {
        negative = 1;
        next(&t);
    }
    for (; ((c = peek(t)) >= '0' && c <= '9') || c == '.'; next(&t)) {
        if (c == '.') {
            fraction = 1;
        } else if (kept < MOST_KEPT) {
            if (kept > 0 || c != '0') kept++;
            if (kept > 0) big_multiply(&decimal, 10, (uint32_t)(c - '0'));
            tens -= fraction;
            if (kept <= 18) guess = guess * 10 + (c - '0');
        } else {
            rest |= c != '0';
            tens += !fraction;
        }
    }
    if (c == 'e' || c == 'E') {
        int down = 0;
        next(&t);
        if ((c = peek(t)) == '-' || c == '+') {
            down = c == '-';
            next(&t);
        }
        for (; (c = peek(t)) >= '0' && c <= '9'; next(&t))
            if (exponent < 1000000) exponent = exponent * 10 + (c - '0');
        tens += down ? -exponent : exponent;
    }
    if (rest) {
        big_multiply(&decimal, 10, 1);
        kept++;
        tens--;
    }
    bits = 0;
    if (kept > 0 && kept + tens > 310) bits = infinity;
    if (kept > 0 && kept + tens <= 310 && kept + tens > -330) {
        const int shift = tens + (kept > 18 ? kept - 18 : 0);
        for (int n = shift < 0 ? -shift : shift; n > 0; n >>= 1, power *= power)
            if (n & 1) guess = shift < 0 ? guess / power : guess * power;
        memcpy(&bits, &guess, sizeof bits);
        if (bits >= infinity) bits = infinity - 1;
        for (;;) { /* the guess is a few steps wrong at most */
            int sign;
            if (bits < infinity) {
                sign = compare_to_middle(&decimal, tens, bits);
                if (sign > 0 || (sign == 0 && bits % 2 == 1)) {
                    bits++;
                    continue;
                }
            }
            if (bits == 0) break;
            sign = compare_to_middle(&decimal, tens, bits - 1);
            if (sign > 0 || (sign == 0 && bits % 2 == 0)) break;
            bits--;
        }
    }
    memcpy(value, &bits, sizeof bits);
    if (negative) *value = -*value;
    return 1;
}

/* ---- The header -------------------------------------------------------------------- */

struct file {
    const unsigned char *bytes, *payload;
    size_t size;
    uint64_t floats; /* of the payload */
    struct text entries;
    int tensors;
    struct text network, input_stage, classes;
};

/* Whether it says how the model was trained: read by others alone. */
static int is_training(struct text t)
{
    static const char *const keys[] = {"passes", "data", NULL};
    struct text values[2];
    int64_t passes;
    return is_json(t) && get_object(t, keys, values) == 3 &&
           get_whole(values[0], &passes) && passes >= 0 && passes <= INT32_MAX &&
           (begins_with(values[1], '"') || begins_with(values[1], 'n'));
}

static int check_metadata(struct file *file, struct text metadata)
{
    static const char *const keys[] = {"sha256", "format", "format_version", "network",
        "input_stage", "classes", "training", NULL};
    struct text values[7];
    if (get_object(metadata, keys, values) != 0x7f) return LENET5C_BAD_HEADER;
    for (int i = 0; i < 7; i++)
        if (!begins_with(values[i], '"')) return LENET5C_BAD_HEADER;
    if (!string_is(values[1], "lenet5c") || !string_is(values[2], "2"))
        return LENET5C_BAD_HEADER;
    if (!is_training(inside(values[6]))) return LENET5C_BAD_HEADER;
    file->network = inside(values[3]);
    file->input_stage = inside(values[4]);
    file->classes = inside(values[5]);
    return !is_json(file->network)       ? LENET5C_BAD_NETWORK
           : !is_json(file->input_stage) ? LENET5C_BAD_INPUT
           : !is_json(file->classes)     ? LENET5C_BAD_CLASSES
                                         : LENET5C_OK;
}

static const char *const tensor_keys[] = {"dtype", "shape", "data_offsets", NULL};

/* The tensor at `entry` begins where the last one ended: file->floats, which is moved on.
 */
static int check_tensor(struct file *file, struct text entry)
{
    struct text values[3], item;
    int first = 1, count = 0;
    uint64_t floats = 1;
    int64_t value;
    if (get_object(entry, tensor_keys, values) != 7 || !string_is(values[0], "F32") ||
        !begins_with(values[1], '[') || !begins_with(values[2], '['))
        return LENET5C_BAD_HEADER;
    for (; next_item(&values[1], &first, NULL, &item); count++) {
        if (count == MOST_DIMENSIONS || !get_whole(item, &value) || value < 1)
            return LENET5C_BAD_HEADER;
        if ((uint64_t)value > MOST_FLOATS / floats) return LENET5C_BAD_NETWORK;
        floats *= (uint64_t)value;
    }
    for (first = 1, count = 0; next_item(&values[2], &first, NULL, &item); count++) {
        if (!get_whole(item, &value) || value < 0 || count == 2 ||
            (uint64_t)value != 4 * (file->floats + (count ? floats : 0)))
            return LENET5C_BAD_HEADER;
    }
    if (count != 2) return LENET5C_BAD_HEADER;
    file->floats += floats;
    return LENET5C_OK;
}

static int check_header(struct file *file, const void *bytes, size_t size)
{
    static const char start[] = "{\"__metadata__\":{\"sha256\":\"";
    uint64_t length = 0;
    struct text header, key, item;
    int first = 1, code;
    file->bytes = bytes;
    file->size = size;
    if (size < 8) return LENET5C_BAD_HEADER;
    for (int i = 7; i >= 0; i--) length = length << 8 | file->bytes[i];
    if (length < LEAST_HEADER || length > MOST_HEADER) return LENET5C_BAD_HEADER;
    if (size - 8 < length) return LENET5C_BAD_SIZE;
    file->payload = file->bytes + 8 + length;
    header = (struct text){file->bytes + 8, file->payload, 0};
    if (memcmp(header.at, start, sizeof start - 1) != 0 || !is_json(header))
        return LENET5C_BAD_HEADER;
    next_item(&header, &first, &key, &item);
    code = check_metadata(file, item);
    if (code) return code;
    file->entries = header;
    file->floats = 0;
    file->tensors = 0;
    while (next_item(&header, &first, &key, &item)) {
        code = check_tensor(file, item);
        if (code) return code;
        file->tensors++;
    }
    return (size - 8 - length) / 4 == file->floats && (size - 8 - length) % 4 == 0
               ? LENET5C_OK
               : LENET5C_BAD_SIZE;
}

/* Where the tensor `layer`.`parameter` lies, in floats, if it has that shape; or -1. */
static int64_t find_tensor(const struct file *file, struct text layer,
    const char *parameter, const int *shape, int dimensions)
{
    struct text t = file->entries, key, item, values[3], side;
    int first = 0;
    while (next_item(&t, &first, &key, &item)) {
        int64_t size;
        int count = 0, start = 1;
        if (!same_string(layer, parameter, key)) continue;
        get_object(item, tensor_keys, values);
        for (; next_item(&values[1], &start, NULL, &side); count++)
            if (count == dimensions || !get_whole(side, &size) || size != shape[count])
                return -1;
        if (count != dimensions) return -1;
        start = 1;
        next_item(&values[2], &start, NULL, &item);
        return get_whole(item, &size) ? size / 4 : -1;
    }
    return -1;
}

/* The 64 digits of the SHA-256 of a file in which its own digits, at DIGITS, are zeros. */
static void file_sha256(const unsigned char *bytes, size_t size, char *digits)
{
    static const char zeros[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    struct sha256 s = {{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                           0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
        0, {0}};
    sha256_add(&s, bytes, DIGITS);
    sha256_add(&s, (const unsigned char *)zeros, 64);
    sha256_add(&s, bytes + DIGITS + 64, size - DIGITS - 64);
    sha256_end(&s, digits);
}

static int check_payload(const struct file *file)
{
    char digits[65] = {[64] = '"'};
    file_sha256(file->bytes, file->size, digits);
    if (memcmp(file->bytes + DIGITS, digits, 65) != 0) return LENET5C_BAD_CHECKSUM;
    for (const unsigned char *p = file->payload; p < file->bytes + file->size; p += 4)
        if ((p[3] & 0x7f) == 0x7f && p[2] & 0x80) return LENET5C_BAD_VALUE;
    return LENET5C_OK;
}

static float payload_float(const struct file *file, int64_t at)
{
    const unsigned char *p = file->payload + 4 * at;
    const uint32_t bits =
        (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | (uint32_t)p[0];
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- The plan ---------------------------------------------------------------------- */

/* A label or the name of a layer, in UTF-8. */
struct name {
    char *text; /* a zero follows */
    size_t length;
};

struct lenet5c_model {
    const struct kernels *kernels;
    lenet5c_input_info input;
    float scale, offset, background; /* a byte b becomes b * scale + offset */
    float float_scale, float_offset; /* a float likewise, if it */
    float least, most;               /* lies in this range */
    int takes_bytes;
    int class_count, op_count;
    ptrdiff_t output;   /* where the logits lie in the workspace */
    uint64_t workspace; /* floats */
    struct op *ops;
    struct name *classes;
    void *owned; /* what lenet5c_close gives back, or NULL */
};

/* A place in the workspace, in floats. */
struct map {
    uint64_t begin, size;
    int users; /* those that will read it; 0: nothing lies there */
};

/* Memory is taken from the front; without memory it is only counted. */
struct planner {
    const struct file *file;
    lenet5c_model *model;
    unsigned char *memory;
    uint64_t used;
    struct op spare;             /* stands for each op where there is no memory */
    int channels, height, width; /* of the present map, as it is laid out */
    int rows;                    /* whether it is laid out in rows */
    int flat; /* whether a Flatten layer has passed that has moved nothing yet */
    struct map maps[MOST_MAPS];
    int map;          /* the present one */
    int may_activate; /* whether the last op takes an activation */
    int computes;     /* whether there is a layer that computes something */
    int parameters;
    struct name *names; /* of the layers so far */
    int name_count;
};

static void *take(struct planner *plan, uint64_t size)
{
    void *taken = plan->memory ? plan->memory + plan->used : NULL;
    plan->used += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return taken;
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* Channels of the present map, with those that fill up its last register. */
static int channels_of(const struct planner *plan)
{
    return plan->rows ? plan->channels
                      : round_up(plan->channels, plan->model->kernels->lanes);
}

/* Whether a map is one that a model can have. */
static int is_map(int64_t channels, int64_t height, int64_t width)
{
    return height * width <= MOST_FLOATS && channels * height * width <= MOST_FLOATS;
}

static struct op *last_op(struct planner *plan)
{
    lenet5c_model *m = plan->model;
    return plan->memory ? &m->ops[m->op_count - 1] : &plan->spare;
}

/* A new op, which reads the present map. */
static struct op *add_op(
    struct planner *plan, void (*run)(const struct op *, const float *x, float *y))
{
    struct op *op;
    plan->model->op_count++;
    op = last_op(plan);
    memset(op, 0, sizeof *op);
    op->run = run;
    op->rows = plan->rows;
    op->channels = channels_of(plan);
    op->height = plan->height;
    op->width = plan->width;
    op->x = op->y = (ptrdiff_t)plan->maps[plan->map].begin;
    plan->may_activate = 0;
    return op;
}

/* The first gap between the maps that holds `size` floats: the number of a map there. */
static int place_map(struct planner *plan, uint64_t size)
{
    struct map *made = plan->maps;
    uint64_t begin = 0;
    size = (size + 15) / 16 * 16;
    for (int i = 0; i < MOST_MAPS; i++) {
        const struct map *other = &plan->maps[i];
        if (other->users > 0 && other->begin < begin + size &&
            begin < other->begin + other->size) {
            begin = other->begin + other->size;
            i = -1; /* those before may be in the way now */
        }
    }
    while (made->users > 0) made++;
    *made = (struct map){begin, size, 1};
    if (begin + size > plan->model->workspace) plan->model->workspace = begin + size;
    return (int)(made - plan->maps);
}

static uint64_t map_size(const struct planner *plan)
{
    return (uint64_t)channels_of(plan) * (uint64_t)plan->height * (uint64_t)plan->width;
}

/* The map that the last op writes, of which the present one becomes; `scratch` floats lie
 * behind it as long as the op runs. */
static uint64_t set_map(
    struct planner *plan, int channels, int height, int width, int rows, uint64_t scratch)
{
    const int before = plan->map;
    uint64_t size;
    plan->channels = channels;
    plan->height = height;
    plan->width = width;
    plan->rows = rows;
    size = map_size(plan);
    plan->map = place_map(plan, size + scratch);
    plan->maps[plan->map].size = (size + 15) / 16 * 16;
    plan->maps[before].users--;
    last_op(plan)->y = (ptrdiff_t)plan->maps[plan->map].begin;
    return size;
}

/* The last op writes over the present map, unless another one reads that later. */
static void set_same_map(struct planner *plan)
{
    if (plan->maps[plan->map].users > 1)
        set_map(plan, plan->channels, plan->height, plan->width, plan->rows, 0);
}

/* Make one row of the present map. */
static void add_flatten(struct planner *plan)
{
    const ptrdiff_t width = plan->width, channels = channels_of(plan);
    struct op *op = add_op(plan, run_flatten);
    op->channels = plan->channels;
    op->x_channel = plan->rows ? width : 1;
    op->x_row = channels * width;
    op->x_column = plan->rows ? 1 : channels;
    op->size =
        (ptrdiff_t)set_map(plan, plan->channels * plan->height * plan->width, 1, 1, 0, 0);
    plan->flat = 0;
}

static void add_activation(struct planner *plan, int activation)
{
    if (plan->may_activate) {
        last_op(plan)->activation = activation;
        plan->may_activate = 0;
        return;
    }
    struct op *op = add_op(plan, plan->model->kernels->run_activation);
    op->activation = activation;
    op->size = (ptrdiff_t)map_size(plan);
    set_same_map(plan);
}

/* From one output to the next; 0 where there is one alone, since a stride may be larger
 * than any map. */
static void set_steps(struct op *op, ptrdiff_t stride)
{
    const ptrdiff_t unit = op->rows ? 1 : op->channels;
    op->x_row = op->out_h > 1 ? stride * op->channels * op->width : 0;
    op->x_column = op->out_w > 1 ? stride * unit : 0;
}

/* From one row, column and channel of the present map to the next. */
static void set_map_steps(const struct planner *plan, struct op *op)
{
    op->step_a = op->channels * (ptrdiff_t)op->width;
    op->step_t = plan->rows ? 1 : op->channels;
    op->x_channel = plan->rows ? op->width : 1;
}

static void add_pool(struct planner *plan, int window, int stride, int padding, int maximum)
{
    const struct kernels *k = plan->model->kernels;
    const int rows = plan->rows;
    struct op *op = add_op(plan, padding > 0 ? run_padded_pool
                                 : rows      ? k->run_pool_rows
                                             : k->run_pool);
    op->window = window;
    op->maximum = maximum;
    op->stride = stride;
    op->top = op->left = padding;
    set_map_steps(plan, op);
    op->out_h = (plan->height + 2 * padding - window) / stride + 1;
    op->out_w = (plan->width + 2 * padding - window) / stride + 1;
    set_steps(op, stride);
    set_map(plan, plan->channels, op->out_h, op->out_w, rows, 0);
}

static void add_global_pool(struct planner *plan)
{
    struct op *op = add_op(plan, run_global_pool);
    set_map_steps(plan, op);
    op->channels = plan->channels;
    op->size = (ptrdiff_t)set_map(plan, plan->channels, 1, 1, 0, 0);
}

/* Lay the present map out in pixels. */
static void add_to_pixels(struct planner *plan)
{
    struct op *op;
    if (!plan->rows) return;
    op = add_op(plan, run_to_pixels);
    op->size = (ptrdiff_t)set_map(plan, plan->channels, plan->height, plan->width, 0, 0);
    op->step_t = channels_of(plan);
}

static void add_padding(struct planner *plan, int top, int bottom, int left, int right)
{
    struct op *op = add_op(plan, run_padding);
    op->top = top;
    op->bottom = bottom;
    op->left = left;
    op->right = right;
    set_map(plan, plan->channels, plan->height + top + bottom, plan->width + left + right,
        plan->rows, 0);
}

/* Which tiles make `width` filters or registers of channels: `count` of one sort, and one
 * of another for the rest. */
struct choice {
    const struct tile *tiles[2];
    int counts[2];
    int64_t cost;
};

/* Quarter cycles that a tap costs a row of `out_w` columns. */
static int64_t tile_cost(const struct tile *tile, int out_w, int unit)
{
    const int columns = tile->columns * unit;
    const int products = tile->width * tile->columns; /* two a cycle, so are loads */
    const int loads = tile->width + tile->columns, latency = 16 / tile->sums;
    int cost = 2 * (products > loads ? products : loads);
    if (columns > out_w) return INT64_MAX;
    if (cost < latency) cost = latency;
    return (int64_t)((out_w + columns - 1) / columns) * (cost + 1);
}

static struct choice choose_tiles(
    const struct tile *tiles, size_t count, int width, int out_w, int unit)
{
    struct choice best = {{NULL, NULL}, {0, 0}, INT64_MAX};
    for (size_t i = 0; i < count; i++) {
        const int rest = width % tiles[i].width;
        const int64_t cost = tile_cost(&tiles[i], out_w, unit);
        struct choice found = {{&tiles[i], NULL}, {width / tiles[i].width, rest > 0}, 0};
        int64_t least = INT64_MAX;
        if (cost == INT64_MAX || found.counts[0] == 0) continue;
        for (size_t j = 0; j < count && rest > 0; j++)
            if (tiles[j].width == rest && tile_cost(&tiles[j], out_w, unit) < least) {
                least = tile_cost(&tiles[j], out_w, unit);
                found.tiles[1] = &tiles[j];
            }
        if (rest > 0 && least == INT64_MAX) continue;
        found.cost = found.counts[0] * cost + (rest > 0 ? least : 0);
        if (found.cost < best.cost) best = found;
    }
    return best;
}

/* A layer's parameters in the file: weight (F, C, KH, KW) and bias (F), with the batch
 * normalisation after it: filter f becomes norm[f] times itself plus norm[F + f]. */
struct parameters {
    const struct file *file;
    int64_t weight, bias; /* where they begin, in floats; -1: there is no bias */
    int filters, channels, kh, kw;
    int top, left, rows, columns; /* the part of the kernel that meets the map */
    const double *norm;           /* or NULL */
};

/* What row ky counts in the values of five rows of weights at 0, 1, -1, 2, -2 and infinity,
 * divided by what the other side of the product is too large. */
static const double points[6][5] = {{1. / 4, 0, 0, 0, 0},
    {-1. / 6, -1. / 6, -1. / 6, -1. / 6, -1. / 6},
    {-1. / 6, 1. / 6, -1. / 6, 1. / 6, -1. / 6}, {1. / 24, 1. / 12, 1. / 6, 1. / 3, 2. / 3},
    {1. / 24, -1. / 12, 1. / 6, -1. / 3, 2. / 3}, {0, 0, 0, 0, 1}};

/* weight[f, c, ky, kx], or the value of its column at a point; 0 where there is none. */
static float weight_at(
    const struct parameters *of, int point, int64_t f, int64_t c, int64_t ky, int64_t kx)
{
    const int64_t at = of->weight + (f * of->channels + c) * of->kh * of->kw +
                       (int64_t)of->top * of->kw + of->left + kx;
    double sum = 0;
    if (f >= of->filters || c >= of->channels) return 0;
    if (point < 0) {
        sum = (double)payload_float(of->file, at + ky * of->kw);
    } else {
        for (int i = 0; i < 5; i++)
            sum += points[point][i] * (double)payload_float(of->file, at + i * of->kw);
    }
    return (float)(of->norm ? sum * of->norm[f] : sum);
}

static float bias_at(const struct parameters *of, int64_t f)
{
    double bias = 0;
    if (f >= of->filters) return 0;
    if (of->bias >= 0) bias = (double)payload_float(of->file, of->bias + f);
    return (float)(of->norm ? bias * of->norm[f] + of->norm[of->filters + f] : bias);
}

/* The weights in the order in which the tiles read them. What fills up is zero. The bias is
 * added where it gets into each output once: at 0 and at infinity. */
static void pack_weights(
    const struct parameters *of, const struct op *op, int point, float *to)
{
    const int64_t row = (int64_t)op->channels * op->width;
    const int has_bias = point < 0 || point == 0 || point == 5;
    int64_t first = 0;
    for (int k = 0; k < 2; k++)
        for (int n = 0; n < op->pieces[k].count; n++) {
            const int64_t width = op->pieces[k].weights / (1 + op->taps_a * op->taps_t);
            for (int64_t f = first; f < first + width; f++)
                *to++ = has_bias ? bias_at(of, f) : 0;
            for (int64_t a = 0; a < op->taps_a; a++)
                for (int64_t t = 0; t < op->taps_t; t++) {
                    const int64_t at = a * op->step_a + t, rest = at % row;
                    const int64_t c = op->rows ? rest / op->width : rest % op->channels;
                    const int64_t kx = op->rows ? rest % op->width : rest / op->channels;
                    for (int64_t f = first; f < first + width; f++)
                        *to++ = weight_at(of, point, f, c, at / row, kx);
                }
            first += width;
        }
}

/* A convolution without padding; a dense layer is one whose kernel covers the whole map. */
static void add_product(struct planner *plan, const struct parameters *of, int stride)
{
    enum { LEAST_TAPS = 20, MOST_BYTES = 16384 }; /* where pairs of rows are faster */
    const struct kernels *k = plan->model->kernels;
    const int v = k->lanes, channels = plan->channels, filters = of->filters;
    const int fp = round_up(filters, v);
    const int out_h = (plan->height - of->rows) / stride + 1;
    const int out_w = (plan->width - of->columns) / stride + 1;
    struct op *op = add_op(plan, k->run_product);
    const ptrdiff_t row = (ptrdiff_t)op->channels * op->width;
    struct choice choice = choose_tiles(k->tiles, k->tile_count, fp / v, out_w, 1);
    uint64_t floats = 0, scratch = 0;
    int in_rows = 0, kh = of->rows, pairs;
    float *weights;
    if (plan->rows && stride == 1) {
        struct choice other =
            choose_tiles(k->row_tiles, k->row_tile_count, filters, out_w, v);
        in_rows = other.cost < choice.cost;
        if (in_rows) choice = other;
    }
    pairs = !in_rows && kh == 5 && stride == 1 && out_h > 1 && out_w > 1 && row >= v &&
            channels * of->columns >= LEAST_TAPS &&
            (int64_t)channels * of->columns * fp <= MOST_BYTES / 4 / 6;
    if (pairs) {
        op->run = k->run_pairs;
        kh = 1;
    }
    op->out_h = out_h;
    op->out_w = out_w;
    op->taps_a = op->rows ? kh * channels : kh;
    op->taps_t =
        op->rows ? of->columns : (ptrdiff_t)(of->columns - 1) * op->channels + channels;
    op->step_a = op->rows ? op->width : row;
    if (of->columns == op->width) { /* the runs lie next to each other */
        op->taps_t += (op->taps_a - 1) * op->step_a;
        op->taps_a = 1;
    }
    set_steps(op, stride);
    op->y_column = in_rows ? out_w : fp;
    op->y_row = (ptrdiff_t)out_w * (in_rows ? filters : fp);
    op->x_to_y = in_rows ? 1 : fp;
    op->parts = in_rows ? 1 : out_w;
    for (int i = 0; i < 2; i++) {
        const struct tile *tile = choice.tiles[i];
        struct piece *piece = &op->pieces[i];
        if (!tile) continue;
        const int width = in_rows ? tile->width : tile->width * v;
        piece->tile = tile->run;
        piece->count = choice.counts[i];
        piece->columns = in_rows ? tile->columns * v : tile->columns;
        piece->part = piece->step = in_rows ? (ptrdiff_t)width * out_w : width;
        piece->weights = width * (1 + op->taps_a * op->taps_t);
        floats += (uint64_t)piece->count * (uint64_t)piece->weights;
    }
    if (pairs) {
        op->point = (ptrdiff_t)floats;
        scratch = 6 * (uint64_t)(op->x_row + op->y_row);
    }
    op->weights = weights = take(plan, floats * (pairs ? 6 : 1) * sizeof(float));
    if (weights && !pairs) pack_weights(of, op, -1, weights);
    for (int point = 0; weights && pairs && point < 6; point++)
        pack_weights(of, op, point, weights + point * op->point);
    set_map(plan, filters, out_h, out_w, in_rows, scratch);
    plan->flat = 0;
    plan->may_activate = 1;
}

/* The next character of a name: of a string, or of a number that is not in quotes. */
static int32_t name_next(struct text *t, int quoted)
{
    const int32_t c = quoted ? 0 : peek(*t);
    if (quoted) return string_next(t);
    return c == '-' || (c >= '0' && c <= '9') ? next(t) : END;
}

static int utf8_length(int32_t c)
{
    return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

/* Add the name at t; whether it is another than the `count` names before it, which is known
 * only where there is memory. */
static int add_name(struct planner *plan, struct name *names, int count, struct text t)
{
    static const unsigned char heads[] = {0, 0xc0, 0xe0, 0xf0};
    const int quoted = peek(t) == '"';
    struct text at;
    unsigned char *to;
    size_t length = 0;
    int32_t c;
    if (quoted) next(&t);
    for (at = t; (c = name_next(&at, quoted)) >= 0;) length += (size_t)utf8_length(c);
    to = take(plan, length + 1);
    if (!to) return 1;
    names[count].text = (char *)to;
    names[count].length = length;
    while ((c = name_next(&t, quoted)) >= 0) {
        int more = utf8_length(c) - 1;
        *to++ = (unsigned char)(heads[more] | c >> (6 * more));
        while (more-- > 0) *to++ = (unsigned char)(0x80 | (c >> (6 * more) & 0x3f));
    }
    *to = 0;
    for (int i = 0; i < count; i++)
        if (names[i].length == length && !memcmp(names[i].text, names[count].text, length))
            return 0;
    return 1;
}

/* ---- Layers ------------------------------------------------------------------------ */

enum { NAME = 1, KIND = 2, INIT = 4, STRIDE = 8, SIZE = 16, FILTERS = 32, PADDING = 64 };
enum { OUTPUTS = 128, RATE = 256, BIAS = 512, MOMENTUM = 1024, EPS = 2048 };
enum { LAYERS = 4096, SHORTCUT = 8192 };

static const char *const option_names[] = {"name", "kind", "init", "stride", "kernel_size",
    "filters", "padding", "outputs", "rate", "bias", "momentum", "eps", "layers",
    "shortcut", NULL};

enum kind {
    CONV,
    DENSE,
    AVG_POOL,
    MAX_POOL,
    GLOBAL_AVG_POOL,
    TANH_LAYER,
    RELU_LAYER,
    BATCH_NORM,
    DROPOUT,
    FLATTEN,
    RESIDUAL
};

/* `added` may be missing: options that older files do not know. */
static const struct {
    const char *name;
    enum kind kind;
    unsigned options, added;
} kinds[] = {{"conv2d", CONV, FILTERS | SIZE | STRIDE | PADDING | INIT, BIAS},
    {"dense", DENSE, OUTPUTS | INIT, 0}, {"avg_pool2d", AVG_POOL, SIZE | STRIDE, 0},
    {"max_pool2d", MAX_POOL, SIZE | STRIDE, PADDING},
    {"global_avg_pool2d", GLOBAL_AVG_POOL, 0, 0}, {"tanh", TANH_LAYER, 0, 0},
    {"relu", RELU_LAYER, 0, 0}, {"batch_norm2d", BATCH_NORM, MOMENTUM | EPS, 0},
    {"dropout", DROPOUT, RATE, 0}, {"flatten", FLATTEN, 0, 0},
    {"residual", RESIDUAL, LAYERS | SHORTCUT, 0}};

/* A layer's options, as far as it has them. */
struct layer {
    enum kind kind;
    struct text name, layers, shortcut;
    int filters, kh, kw, stride, padding, bias;
    double eps;
};

static int read_layer(struct text t, struct layer *layer)
{
    struct text value[14];
    const unsigned seen = get_object(t, option_names, value);
    unsigned wanted = 0, added = 0;
    int init, sizes[2], count;
    double rate;
    if (!(seen & KIND)) return 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (string_is(value[1], kinds[i].name)) {
            layer->kind = kinds[i].kind;
            wanted = kinds[i].options | NAME | KIND;
            added = kinds[i].added;
        }
    if ((seen | added) != (wanted | added)) return 0;
    layer->name = value[0];
    if (!begins_with(value[0], '"')) return 0;
    count = string_length(value[0]);
    if (count < 1 || count > MOST_NAME) return 0;
    if (seen & INIT) {
        init = begins_with(value[2], 'n') || string_is(value[2], "glorot") ||
               string_is(value[2], "he") || string_is(value[2], "lecun");
        if (!init) return 0;
    }
    if (seen & SIZE) {
        if (get_size(value[4], 1, &sizes[0]))
            sizes[1] = sizes[0];
        else if (layer->kind != CONV || get_sizes(value[4], 1, 2, sizes) != 2)
            return 0;
        layer->kh = sizes[0];
        layer->kw = sizes[1];
    }
    if (seen & STRIDE) {
        if (layer->kind != CONV && begins_with(value[3], 'n'))
            layer->stride = layer->kh;
        else if (!get_size(value[3], 1, &layer->stride))
            return 0;
    }
    if (seen & FILTERS && !get_size(value[5], 1, &layer->filters)) return 0;
    if (seen & PADDING && !get_size(value[6], 0, &layer->padding)) return 0;
    if (layer->kind == MAX_POOL && 2 * layer->padding > layer->kh) return 0;
    if (seen & OUTPUTS && !get_size(value[7], 1, &layer->filters)) return 0;
    if (seen & RATE && !(get_number(value[8], &rate) && rate >= 0 && rate < 1)) return 0;
    layer->bias = !(seen & BIAS) || begins_with(value[9], 't');
    if (!layer->bias && !begins_with(value[9], 'f')) return 0;
    if (seen & MOMENTUM && !(get_number(value[10], &rate) && rate >= 0 && rate < 1))
        return 0;
    if (seen & EPS &&
        !(get_number(value[11], &layer->eps) && layer->eps > 0 && layer->eps < 1))
        return 0;
    if (layer->kind == RESIDUAL) {
        if (!begins_with(value[12], '[') || !begins_with(value[13], '[')) return 0;
        layer->layers = value[12];
        layer->shortcut = value[13];
    }
    return 1;
}

/* Where the layer's weight and bias lie; whether they are there. */
static int find_parameters(struct planner *plan, const struct layer *layer,
    const int *shape, int dimensions, struct parameters *of)
{
    of->weight = find_tensor(plan->file, layer->name, ".weight", shape, dimensions);
    of->bias = -1;
    plan->parameters += 1 + layer->bias;
    if (layer->bias) of->bias = find_tensor(plan->file, layer->name, ".bias", shape, 1);
    return of->weight >= 0 && (of->bias >= 0 || !layer->bias);
}

/* By Newton's method, from above; bare machines have no library. */
static double square_root(double x)
{
    double root = x > 1 ? x : 1, next;
    if (!(x > 0)) return x < 0 ? (x - x) / 0.0 : 0; /* not a number */
    while ((next = (root + x / root) / 2) < root) root = next;
    return root;
}

/* Where the tensors of a batch normalisation of so many channels lie. */
struct norm {
    int64_t weight, bias, mean, variance;
    double eps;
};

static int find_norm(
    struct planner *plan, const struct layer *layer, int channels, struct norm *norm)
{
    const struct file *file = plan->file;
    norm->weight = find_tensor(file, layer->name, ".weight", &channels, 1);
    norm->bias = find_tensor(file, layer->name, ".bias", &channels, 1);
    norm->mean = find_tensor(file, layer->name, ".running_mean", &channels, 1);
    norm->variance = find_tensor(file, layer->name, ".running_var", &channels, 1);
    norm->eps = layer->eps;
    plan->parameters += 4;
    if (norm->weight < 0 || norm->bias < 0 || norm->mean < 0 || norm->variance < 0)
        return 0;
    for (int c = 0; c < channels; c++)
        if (payload_float(file, norm->variance + c) < 0) return 0;
    return 1;
}

/* The normalisation of channel c as a scale, and a shift after it. */
static void get_scale(
    const struct file *file, const struct norm *norm, int c, double *scale, double *shift)
{
    const double variance = (double)payload_float(file, norm->variance + c) + norm->eps;
    *scale = (double)payload_float(file, norm->weight + c) / square_root(variance);
    *shift = (double)payload_float(file, norm->bias + c) -
             (double)payload_float(file, norm->mean + c) * *scale;
}

/* The scales and shifts of the batch normalisation `after`, if there is one, for the
 * weights of a layer; 0 if it does not fit. */
static int fold_norm(struct planner *plan, const struct layer *after, struct parameters *of)
{
    struct norm norm;
    double *values;
    if (!after) return 1;
    if (!find_norm(plan, after, of->filters, &norm)) return 0;
    values = take(plan, 2 * (uint64_t)of->filters * sizeof *values);
    for (int f = 0; values && f < of->filters; f++)
        get_scale(plan->file, &norm, f, &values[f], &values[of->filters + f]);
    of->norm = values;
    return 1;
}

/* The part of a kernel that meets the map, in one direction; what of the padding is left
 * before the map, and behind it. */
static void trim(int kernel, int size, int padding, int stride, int *first, int *count,
    int *before, int *behind)
{
    const int outputs = (size + 2 * padding - kernel) / stride + 1;
    const int64_t reach = (int64_t)(outputs - 1) * stride;
    *first = padding > reach ? (int)(padding - reach) : 0;
    *count = (kernel < size + padding ? kernel : size + padding) - *first;
    if (*count < 1) { /* it meets the padding alone */
        *first = 0;
        *count = kernel;
    }
    *before = padding - *first;
    *behind = reach + *count > *before + size ? (int)(reach + *count - *before - size) : 0;
}

static int add_conv(
    struct planner *plan, const struct layer *layer, const struct layer *after)
{
    const int channels = plan->channels, height = plan->height, width = plan->width;
    const int border = 2 * layer->padding;
    const int shape[] = {layer->filters, channels, layer->kh, layer->kw};
    struct parameters of = {.file = plan->file,
        .filters = layer->filters,
        .channels = channels,
        .kh = layer->kh,
        .kw = layer->kw};
    int above, below, left, right;
    if (layer->kh > height + border || layer->kw > width + border) return 0;
    if (!is_map(layer->filters, (height + border - layer->kh) / layer->stride + 1,
            (width + border - layer->kw) / layer->stride + 1))
        return 0;
    if (border > 0 || layer->kh != height || layer->kw != width) {
        const int64_t rows = height + border, columns = width + border + layer->kw;
        if (columns > MOST_PADDED / rows / channels) return 0;
    }
    if (!find_parameters(plan, layer, shape, 4, &of) || !fold_norm(plan, after, &of))
        return 0;
    trim(layer->kh, height, layer->padding, layer->stride, &of.top, &of.rows, &above,
        &below);
    trim(layer->kw, width, layer->padding, layer->stride, &of.left, &of.columns, &left,
        &right);
    if (above + below + left + right > 0) add_padding(plan, above, below, left, right);
    add_product(plan, &of, layer->stride);
    return 1;
}

static int add_dense(
    struct planner *plan, const struct layer *layer, const struct layer *after)
{
    const int channels = plan->channels, height = plan->height, width = plan->width;
    const int shape[] = {layer->filters, channels * height * width};
    struct parameters of = {plan->file, 0, 0, layer->filters, channels, height, width, 0, 0,
        height, width, NULL};
    if (!find_parameters(plan, layer, shape, 2, &of) || !fold_norm(plan, after, &of))
        return 0;
    add_product(plan, &of, 1);
    return 1;
}

/* A batch normalisation that comes after something else than a product. */
static int add_norm(struct planner *plan, const struct layer *layer)
{
    struct norm norm;
    struct op *op;
    double scale, shift;
    float *values;
    if (!find_norm(plan, layer, plan->channels, &norm)) return 0;
    op = add_op(plan, plan->model->kernels->run_scale);
    op->size = round_up(plan->channels, plan->model->kernels->lanes);
    op->weights = values = take(plan, 2 * (uint64_t)op->size * sizeof *values);
    for (int c = 0; values && c < op->size; c++) {
        scale = shift = 0;
        if (c < plan->channels) get_scale(plan->file, &norm, c, &scale, &shift);
        values[c] = (float)scale;
        values[op->size + c] = (float)shift;
    }
    set_same_map(plan);
    plan->may_activate = 1;
    return 1;
}

static int count_items(struct text t)
{
    struct text item;
    int first = 1, count = 0;
    while (next_item(&t, &first, NULL, &item)) count++;
    return count;
}

static int plan_list(struct planner *plan, struct text layers, int depth);

/* The sum of two branches, of which both read the present map. */
static int add_residual(struct planner *plan, const struct layer *layer, int depth)
{
    struct planner before;
    struct op *op;
    int first, channels, height, width, rows;
    plan->maps[plan->map].users++;
    plan->may_activate = 0;
    before = *plan;
    if (!plan_list(plan, layer->layers, depth + 1)) return 0;
    first = plan->map;
    channels = plan->channels;
    height = plan->height;
    width = plan->width;
    rows = plan->rows;
    plan->map = before.map;
    plan->channels = before.channels;
    plan->height = before.height;
    plan->width = before.width;
    plan->rows = before.rows;
    plan->may_activate = 0;
    if (!plan_list(plan, layer->shortcut, depth + 1)) return 0;
    if (plan->channels != channels || plan->height != height || plan->width != width)
        return 0;
    if (!rows) add_to_pixels(plan);
    if (rows && !plan->rows) {
        const int second = plan->map;
        plan->map = first;
        plan->rows = 1;
        add_to_pixels(plan);
        first = plan->map;
        plan->map = second;
    }
    {
        const int second = plan->map;
        plan->map = first;
        op = add_op(plan, plan->model->kernels->run_sum);
        op->other =
            (ptrdiff_t)plan->maps[second].begin - (ptrdiff_t)plan->maps[first].begin;
        op->size = (ptrdiff_t)map_size(plan);
        set_same_map(plan);
        plan->maps[second].users--;
    }
    plan->may_activate = 1;
    return 1;
}

static int add_layer(
    struct planner *plan, const struct layer *layer, const struct layer *after, int depth)
{
    plan->computes |= layer->kind != FLATTEN;
    if (plan->flat && layer->kind != DENSE && layer->kind != TANH_LAYER &&
        layer->kind != RELU_LAYER && layer->kind != DROPOUT && layer->kind != FLATTEN)
        add_flatten(plan);
    switch (layer->kind) {
    case CONV:
        return add_conv(plan, layer, after);
    case DENSE:
        return add_dense(plan, layer, after);
    case AVG_POOL:
    case MAX_POOL: {
        const int height = plan->height + 2 * layer->padding;
        const int width = plan->width + 2 * layer->padding;
        if (layer->kh > height || layer->kh > width ||
            !is_map(plan->channels, (height - layer->kh) / layer->stride + 1,
                (width - layer->kh) / layer->stride + 1))
            return 0;
        add_pool(plan, layer->kh, layer->stride, layer->padding, layer->kind == MAX_POOL);
        return 1;
    }
    case GLOBAL_AVG_POOL:
        add_global_pool(plan);
        return 1;
    case TANH_LAYER:
    case RELU_LAYER:
        add_activation(plan, layer->kind == TANH_LAYER ? TANH : RELU);
        return 1;
    case BATCH_NORM:
        return add_norm(plan, layer);
    case FLATTEN:
        plan->flat = plan->height * plan->width > 1;
        return 1;
    case DROPOUT:
        return 1;
    case RESIDUAL:
        return depth < MOST_NESTED && count_items(layer->layers) > 0 &&
               add_residual(plan, layer, depth);
    }
    return 0;
}

/* How many layers there are in a list, with those inside of residual layers. */
static int count_layers(struct text t, int depth)
{
    static const char *const branches[] = {"layers", "shortcut"};
    struct text item, key, value;
    int first = 1, count = 0;
    while (next_item(&t, &first, NULL, &item)) {
        int start = 1;
        count++;
        if (!begins_with(item, '{') || depth == MOST_NESTED) continue;
        while (next_item(&item, &start, &key, &value))
            for (int i = 0; i < 2; i++)
                if (string_is(key, branches[i]) && begins_with(value, '['))
                    count += count_layers(value, depth + 1);
    }
    return count;
}

/* The layers of a list, one after the other; the last map has no Flatten left to do. */
static int plan_list(struct planner *plan, struct text layers, int depth)
{
    struct text item;
    int first = 1, folded = 0;
    while (next_item(&layers, &first, NULL, &item)) {
        struct text rest = layers, next_text;
        struct layer layer = {0}, after = {0};
        int start = 0, folds;
        if (!read_layer(item, &layer) ||
            !add_name(plan, plan->names, plan->name_count++, layer.name))
            return 0;
        if (folded) { /* into the layer before it */
            folded = 0;
            continue;
        }
        folds = (layer.kind == CONV || layer.kind == DENSE) &&
                next_item(&rest, &start, NULL, &next_text) &&
                read_layer(next_text, &after) && after.kind == BATCH_NORM;
        if (!add_layer(plan, &layer, folds ? &after : NULL, depth)) return 0;
        folded = folds;
    }
    if (depth > 0 && plan->flat) add_flatten(plan);
    return 1;
}

static int plan_layers(struct planner *plan)
{
    lenet5c_model *m = plan->model;
    static const char *const keys[] = {"input_shape", "layers", NULL};
    struct text values[2];
    int sizes[3];
    if (get_object(plan->file->network, keys, values) != 3 ||
        !begins_with(values[1], '[') || get_sizes(values[0], 1, 3, sizes) != 3 ||
        !is_map(sizes[0], sizes[1], sizes[2]) || plan->file->floats > MOST_FLOATS)
        return LENET5C_BAD_NETWORK;
    m->input.channels = sizes[0];
    m->input.height = plan->height = sizes[1];
    m->input.width = plan->width = sizes[2];
    plan->channels = sizes[0];
    plan->rows = 1;
    plan->map = place_map(plan, map_size(plan));
    plan->names = take(plan, (uint64_t)count_layers(values[1], 0) * sizeof *plan->names);
    if (!plan_list(plan, values[1], 0)) return LENET5C_BAD_NETWORK;
    if (!plan->computes || plan->parameters != plan->file->tensors)
        return LENET5C_BAD_NETWORK;
    if (plan->rows || plan->height * plan->width > 1) add_flatten(plan);
    m->output = (ptrdiff_t)plan->maps[plan->map].begin;
    return LENET5C_OK;
}

/* Whether a float can hold it. */
static int is_float(double value) { return value >= -FLT_MAX && value <= FLT_MAX; }

/* `pixels` of the input stage: "bytes" where the network was trained on bytes, the range of
 * the floats that it was trained on, or null where nobody knows; 0 for anything else. */
static int plan_pixels(lenet5c_model *m, struct text t, double deviation)
{
    struct text item;
    double range[2], width;
    int first = 1, count = 0;
    const int of_bytes = string_is(t, "bytes");
    m->float_scale = of_bytes ? (float)(1 / deviation) : 1;
    m->float_offset = of_bytes ? m->offset : -0.0f; /* x * 1 + -0 is x, of -0 as well */
    m->takes_bytes = 1;
    m->least = of_bytes ? (float)-ROUNDING : -FLT_MAX;
    m->most = of_bytes ? (float)(1 + ROUNDING) : FLT_MAX;
    if (of_bytes || begins_with(t, 'n')) return is_float(1 / deviation);
    if (!begins_with(t, '[')) return 0;
    for (; next_item(&t, &first, NULL, &item); count++)
        if (count == 2 || !get_number(item, &range[count]) || !is_float(range[count]))
            return 0;
    if (count != 2 || range[0] > range[1]) return 0;
    m->takes_bytes = range[0] >= 0 && range[1] <= 1;
    width = m->takes_bytes ? ROUNDING : range[1] - range[0];
    if (m->takes_bytes) {
        range[0] = 0;
        range[1] = 1;
    }
    m->least = range[0] - width < -FLT_MAX ? -FLT_MAX : (float)(range[0] - width);
    m->most = range[1] + width > FLT_MAX ? FLT_MAX : (float)(range[1] + width);
    return 1;
}

static int plan_input(struct planner *plan)
{
    static const char *const keys[] = {
        "mean", "deviation", "background", "source", "fitted", "pixels", NULL};
    lenet5c_model *m = plan->model;
    struct text values[6];
    double mean, deviation, background, scale, offset;
    int sizes[2];
    if (get_object(plan->file->input_stage, keys, values) != 0x3f ||
        !get_number(values[0], &mean) || !get_number(values[1], &deviation) ||
        !get_number(values[2], &background) || get_sizes(values[3], 1, 2, sizes) != 2 ||
        !(begins_with(values[4], 't') || begins_with(values[4], 'f')) ||
        !(deviation > 0 && deviation <= DBL_MAX) || sizes[0] > m->input.height ||
        sizes[1] > m->input.width)
        return LENET5C_BAD_INPUT;
    scale = 1 / (255 * deviation);
    offset = -mean / deviation;
    if (!is_float(scale) || !is_float(offset) || !is_float(background))
        return LENET5C_BAD_INPUT;
    m->input.source_height = sizes[0];
    m->input.source_width = sizes[1];
    m->scale = (float)scale;
    m->offset = (float)offset;
    m->background = (float)background;
    return plan_pixels(m, values[5], deviation) ? LENET5C_OK : LENET5C_BAD_INPUT;
}

/* Text that stands for a value which is none itself. */
static struct text constant(const char *text)
{
    const unsigned char *begin = (const unsigned char *)text;
    return (struct text){begin, begin + strlen(text), 0};
}

/* What NumPy's texts cannot hold. */
static int ends_with_zero(const struct name *name)
{
    return name->length > 0 && !name->text[name->length - 1];
}

static int plan_classes(struct planner *plan)
{
    lenet5c_model *m = plan->model;
    struct text classes = plan->file->classes, item;
    int32_t sort = 0;
    int first = 1, count = 0;
    if (!begins_with(classes, '[')) return LENET5C_BAD_CLASSES;
    m->class_count = count_items(classes);
    if (m->class_count < 2 || m->class_count > MOST_SIDE) return LENET5C_BAD_CLASSES;
    m->classes = take(plan, (uint64_t)m->class_count * sizeof *m->classes);
    for (; next_item(&classes, &first, NULL, &item); count++) {
        int32_t c = peek(item);
        int64_t value;
        if (get_whole(item, &value)) {
            c = '0';
        } else if (c == 't' || c == 'f') {
            item = constant(c == 't' ? "\"True\"" : "\"False\"");
            c = 't';
        } else if (c != '"') {
            return LENET5C_BAD_CLASSES;
        }
        if (count > 0 && c != sort) return LENET5C_BAD_CLASSES;
        sort = c;
        if (!add_name(plan, m->classes, count, item)) return LENET5C_BAD_CLASSES;
        if (plan->memory && ends_with_zero(&m->classes[count])) return LENET5C_BAD_CLASSES;
    }
    return m->class_count == plan->channels ? LENET5C_OK : LENET5C_BAD_NETWORK;
}

/* Make the model, or count what it takes: `model` is then a place to count in. */
static int make_plan(
    const struct file *file, unsigned char *memory, lenet5c_model *model, uint64_t *used)
{
    struct planner plan = {.file = file, .model = model, .memory = memory};
    const int op_count = model->op_count;
    int code;
    take(&plan, sizeof *model);
    model->op_count = 0;
    model->kernels = choose_kernels();
    model->ops = take(&plan, (uint64_t)op_count * sizeof *model->ops);
    code = plan_layers(&plan);
    if (!code) code = plan_input(&plan);
    if (!code) code = plan_classes(&plan);
    *used = plan.used;
    return code;
}

static int count_memory(const struct file *file, lenet5c_model *counted, uint64_t *needed)
{
    const uint64_t most = SIZE_MAX - (1 << 20);
    int code;
    memset(counted, 0, sizeof *counted);
    code = make_plan(file, NULL, counted, needed);
    if (code) return code;
    *needed += (uint64_t)counted->op_count * sizeof(struct op) + 2 * ALIGNMENT;
    if (*needed > most || counted->workspace > most / 2 / sizeof(float))
        return LENET5C_NO_MEMORY;
    return LENET5C_OK;
}

static unsigned char *align(void *memory)
{
    unsigned char *p = memory;
    return p + (ALIGNMENT - (uintptr_t)p % ALIGNMENT) % ALIGNMENT;
}

static int open_in(const struct file *file, const lenet5c_model *counted, void *memory,
    lenet5c_model **model)
{
    unsigned char *place = align(memory);
    lenet5c_model *made = (lenet5c_model *)(void *)place;
    uint64_t used;
    int code = check_payload(file);
    if (code) return code;
    memset(made, 0, sizeof *made);
    made->op_count = counted->op_count;
    code = make_plan(file, place, made, &used);
    if (!code) *model = made;
    return code;
}

/* ---- What the header declares ------------------------------------------------------ */

int lenet5c_abi_version(void) { return LENET5C_ABI_VERSION; }

const char *lenet5c_strerror(int code)
{
    switch (code) {
    case LENET5C_OK:
        return "no error";
    case LENET5C_BAD_ARGUMENT:
        return "an argument is NULL or negative";
    case LENET5C_NO_MEMORY:
        return "not enough memory";
    case LENET5C_NO_FILE:
        return "the file cannot be opened or read";
    case LENET5C_BAD_HEADER:
        return "no model file: its header is damaged or of another format";
    case LENET5C_BAD_SIZE:
        return "the file is truncated or has trailing bytes";
    case LENET5C_BAD_CHECKSUM:
        return "the file is damaged: its SHA-256 is another";
    case LENET5C_BAD_VALUE:
        return "a parameter is NaN or infinite";
    case LENET5C_BAD_NETWORK:
        return "a layer is unknown, or its sizes or parameters do not fit";
    case LENET5C_BAD_INPUT:
        return "the input stage is incomplete or out of range";
    case LENET5C_BAD_CLASSES:
        return "the labels are of several sorts, or two are the same";
    case LENET5C_BAD_IMAGE:
        return "the images are empty or larger than the network's input";
    case LENET5C_BAD_PIXELS:
        return "the pixels are not of the kind that the network was trained on";
    }
    return "unknown code";
}

int lenet5c_memory_size(const void *bytes, size_t size, size_t *needed)
{
    struct file file;
    lenet5c_model counted;
    uint64_t count;
    int code;
    if (!bytes || !needed) return LENET5C_BAD_ARGUMENT;
    code = check_header(&file, bytes, size);
    if (!code) code = count_memory(&file, &counted, &count);
    if (!code) *needed = (size_t)count;
    return code;
}

int lenet5c_open_in(
    const void *bytes, size_t size, void *memory, size_t memory_size, lenet5c_model **model)
{
    struct file file;
    lenet5c_model counted;
    uint64_t needed;
    int code;
    if (!model) return LENET5C_BAD_ARGUMENT;
    *model = NULL;
    if (!bytes || !memory) return LENET5C_BAD_ARGUMENT;
    code = check_header(&file, bytes, size);
    if (!code) code = count_memory(&file, &counted, &needed);
    if (code) return code;
    if (needed > memory_size) return LENET5C_NO_MEMORY;
    return open_in(&file, &counted, memory, model);
}

#ifndef LENET5C_BARE
int lenet5c_open_memory(const void *bytes, size_t size, lenet5c_model **model)
{
    struct file file;
    lenet5c_model counted;
    uint64_t needed;
    void *memory;
    int code;
    if (!model) return LENET5C_BAD_ARGUMENT;
    *model = NULL;
    if (!bytes) return LENET5C_BAD_ARGUMENT;
    code = check_header(&file, bytes, size);
    if (!code) code = count_memory(&file, &counted, &needed);
    if (code) return code;
    memory = malloc((size_t)needed);
    if (!memory) return LENET5C_NO_MEMORY;
    code = open_in(&file, &counted, memory, model);
    if (code)
        free(memory);
    else
        (*model)->owned = memory;
    return code;
}

int lenet5c_open(const char *path, lenet5c_model **model)
{
    const long most = 8 + MOST_HEADER + 4 * (long)MOST_FLOATS;
    FILE *file;
    long size = -1;
    unsigned char *bytes = NULL;
    int code = LENET5C_NO_FILE;
    if (!model) return LENET5C_BAD_ARGUMENT;
    *model = NULL;
    if (!path) return LENET5C_BAD_ARGUMENT;
    file = fopen(path, "rb");
    if (!file) return LENET5C_NO_FILE;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size == LONG_MAX) size = -1; /* what a folder says of itself */
    if (size > most) code = LENET5C_BAD_SIZE;
    if (size >= 0 && size <= most && fseek(file, 0, SEEK_SET) == 0) {
        bytes = malloc((size_t)size + 1);
        if (!bytes)
            code = LENET5C_NO_MEMORY;
        else if (fread(bytes, 1, (size_t)size, file) == (size_t)size)
            code = lenet5c_open_memory(bytes, (size_t)size, model);
    }
    free(bytes);
    fclose(file);
    return code;
}

void lenet5c_close(lenet5c_model *model)
{
    if (model) free(model->owned);
}
#endif

int lenet5c_input(const lenet5c_model *model, lenet5c_input_info *info)
{
    if (!model || !info) return LENET5C_BAD_ARGUMENT;
    *info = model->input;
    return LENET5C_OK;
}

int lenet5c_classes(const lenet5c_model *model)
{
    return model ? model->class_count : LENET5C_BAD_ARGUMENT;
}

const char *lenet5c_class_name(const lenet5c_model *model, int k)
{
    return model && k >= 0 && k < model->class_count ? model->classes[k].text : NULL;
}

const char *lenet5c_instruction_set(const lenet5c_model *model)
{
    return model ? model->kernels->name : NULL;
}

size_t lenet5c_workspace_size(const lenet5c_model *model)
{
    if (!model) return 0;
    return (size_t)model->workspace * sizeof(float) + ALIGNMENT;
}

/* y[i] = x[i step] scale + offset; whether all x lie from `least` to `most`, as NaN does
 * not
 */
static int scale_floats(
    const lenet5c_model *m, const float *x, ptrdiff_t step, float *y, int n)
{
    int within = 1;
    for (int i = 0; i < n; i++) {
        const float value = x[i * step];
        within &= value >= m->least && value <= m->most;
        y[i] = value * m->float_scale + m->float_offset;
    }
    return within;
}

/* Image n as a map in rows: scaled, and centred on the background. Whether its pixels are
 * of the kind that the network takes. */
static int gather(const lenet5c_model *m, const uint8_t *bytes, const float *floats,
    const lenet5c_layout *layout, float *x)
{
    const ptrdiff_t width = m->input.width, channels = m->input.channels;
    const int top = (m->input.height - layout->height) / 2;
    const int left = (m->input.width - layout->width) / 2;
    const ptrdiff_t size = channels * m->input.height * width, step = layout->column_step;
    int fit = m->takes_bytes || floats;
    if (layout->height < m->input.height || layout->width < m->input.width)
        m->kernels->fill(x, size, m->background);
    x += top * channels * width + left;
    for (int row = 0; row < layout->height; row++)
        for (int c = 0; c < m->input.channels; c++) {
            const ptrdiff_t at = row * layout->row_step + c * layout->channel_step;
            if (bytes)
                m->kernels->scale_bytes(
                    bytes + at, step, x, layout->width, m->scale, m->offset);
            else
                fit &= scale_floats(m, floats + at, step, x, layout->width);
            x += width;
        }
    return fit;
}

static int predict(const lenet5c_model *m, void *workspace, const uint8_t *bytes,
    const float *floats, const lenet5c_layout *given, int *classes, float *probabilities,
    float *logits)
{
    lenet5c_layout layout;
    float *maps;
    if (!m || !workspace || !(bytes || floats) || !given || given->count < 0)
        return LENET5C_BAD_ARGUMENT;
    layout = *given;
    if (layout.height < 1 || layout.width < 1 || layout.height > m->input.height ||
        layout.width > m->input.width)
        return LENET5C_BAD_IMAGE;
    if (!layout.image_step && !layout.channel_step && !layout.row_step &&
        !layout.column_step) {
        layout.column_step = 1;
        layout.row_step = layout.width;
        layout.channel_step = layout.height * layout.row_step;
        layout.image_step = m->input.channels * layout.channel_step;
    }
    maps = (float *)(void *)align(workspace);
    for (int n = 0; n < layout.count; n++) {
        const ptrdiff_t at = n * layout.image_step;
        const size_t k = (size_t)m->class_count;
        float *y = maps + m->output;
        int best = 0;
        if (!gather(
                m, bytes ? bytes + at : NULL, floats ? floats + at : NULL, &layout, maps))
            return LENET5C_BAD_PIXELS;
        for (int i = 0; i < m->op_count; i++)
            m->ops[i].run(&m->ops[i], maps + m->ops[i].x, maps + m->ops[i].y);
        for (int i = 1; i < m->class_count; i++)
            if (y[i] > y[best]) best = i;
        if (classes) classes[n] = best;
        if (logits) memcpy(logits + (size_t)n * k, y, k * sizeof(float));
        if (probabilities) {
            m->kernels->softmax(y, m->class_count, y[best]);
            memcpy(probabilities + (size_t)n * k, y, k * sizeof(float));
        }
    }
    return LENET5C_OK;
}

int lenet5c_predict_u8(const lenet5c_model *model, void *workspace, const uint8_t *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits)
{
    return predict(model, workspace, pixels, NULL, layout, classes, probabilities, logits);
}

int lenet5c_predict_f32(const lenet5c_model *model, void *workspace, const float *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits)
{
    return predict(model, workspace, NULL, pixels, layout, classes, probabilities, logits);
}

int lenet5c_classify(const lenet5c_model *model, void *workspace, const uint8_t *image)
{
    int found = 0, code;
    lenet5c_layout layout = {0};
    if (!model) return LENET5C_BAD_ARGUMENT;
    layout.count = 1;
    layout.height = model->input.source_height;
    layout.width = model->input.source_width;
    code = lenet5c_predict_u8(model, workspace, image, &layout, &found, NULL, NULL);
    return code ? code : found;
}
