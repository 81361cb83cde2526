/* The arithmetic of networks in 8-bit integers, included once for each instruction set,
 * with
 *
 *     LENET5C_V          numbers of 32 bits in a register: 16, 8, 4 or 1
 *     LENET5C_SET(name)  `name` with the instruction set's name after it
 *     LENET5C_TARGET     the attribute that allows the compiler its instructions
 *     LENET5C_ELEMENT    the type of an element: uint8_t, or int16_t
 *     LENET5C_ZERO       what an element has where the number is 0
 *     LENET5C_GROUP      elements in 32 bits that LENET5C_DOT takes, or 1
 *     LENET5C_DOT(a, x, w)    a plus, in each lane, the products of a group of elements and
 *                             a group of weights
 *
 * and, where they are fast,
 *
 *     LENET5C_RESCALE(a, m, b, n, s)  (a m + b n + 2^(s-1)) / 2^s for s >= 32, rounded
 *                             down, of which a number beyond 32 bits may lose some
 *     LENET5C_LEAST(a, b), LENET5C_MOST(a, b)    of two numbers, lane by lane
 *     LENET5C_WIDE(from), LENET5C_NARROW(to, v)  loads and stores V elements
 *     LENET5C_READ                the elements of pixels that follow each other
 *     LENET5C_POOL_GROUPS         and others, for int8_pooled.h
 *     LENET5C_FOUR(p, sums, m, i, R, to)  sums i to i + 3 as elements, with the multipliers
 *                             m of R registers, for a shift above 32
 */

#define V LENET5C_V
#define vec LENET5C_SET(int8_vec)
#define ELEMENT LENET5C_ELEMENT
#define ZERO LENET5C_ZERO
#define GROUP LENET5C_GROUP
#define INLINE static inline LENET5C_ALWAYS LENET5C_TARGET

#if V > 1
typedef int32_t vec __attribute__((vector_size(LENET5C_V * 4)));
typedef ELEMENT LENET5C_SET(int8_elements)
    __attribute__((vector_size(LENET5C_V * sizeof(ELEMENT))));
#else
typedef int32_t vec;
#endif
#define load LENET5C_SET(int8_load)
#define all LENET5C_SET(int8_all)
#define elements LENET5C_SET(int8_load_elements)
#define put LENET5C_SET(int8_put)
#define put_some LENET5C_SET(int8_put_some)
#define rescale LENET5C_SET(int8_rescale)
#define finish LENET5C_SET(int8_finish)

INLINE vec load(const void *from)
{
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE vec all(int32_t value)
{
#if V > 1
    return value + (vec){0};
#else
    return value;
#endif
}

#if !defined(LENET5C_LEAST) && V > 1
#define LENET5C_CHOOSE_INT(mask, a, b) (((vec)(mask) & (a)) | (~(vec)(mask) & (b)))
#define LENET5C_LEAST(a, b) LENET5C_CHOOSE_INT((a) < (b), a, b)
#define LENET5C_MOST(a, b) LENET5C_CHOOSE_INT((a) > (b), a, b)
#elif V == 1
#define LENET5C_LEAST(a, b) ((a) < (b) ? (a) : (b))
#define LENET5C_MOST(a, b) ((a) > (b) ? (a) : (b))
#endif
#define CLAMP(v, low, high) LENET5C_LEAST(LENET5C_MOST(v, all(low)), all(high))

/* V elements of a map */
INLINE vec elements(const ELEMENT *from)
{
#if defined(LENET5C_WIDE)
    return LENET5C_WIDE(from);
#elif V > 1
    LENET5C_SET(int8_elements) e;
    memcpy(&e, from, sizeof e);
    return __builtin_convertvector(e, vec);
#else
    return *from;
#endif
}

/* Write V numbers, as elements. */
INLINE void put(unsigned char *to, vec v)
{
#if defined(LENET5C_NARROW)
    LENET5C_NARROW(to, v + ZERO);
#elif V > 1
    const LENET5C_SET(int8_elements) e =
        __builtin_convertvector(v + ZERO, LENET5C_SET(int8_elements));
    memcpy(to, &e, sizeof e);
#else
    const ELEMENT e = (ELEMENT)(v + ZERO);
    memcpy(to, &e, sizeof e);
#endif
}

/* Write the first `count` of them, as elements or as 32 bits. */
INLINE void put_some(unsigned char *to, vec v, int count, int is_raw)
{
    unsigned char some[sizeof v];
    if (is_raw)
        memcpy(some, &v, sizeof v);
    else
        put(some, v);
    memcpy(to, some, (size_t)count * (is_raw ? sizeof(int32_t) : sizeof(ELEMENT)));
}

/* floor((a m + b n + 2^(s-1)) / 2^s), for any s. */
LENET5C_TARGET static vec LENET5C_SET(int8_rescale_any)(vec a, vec m, vec b, vec n, int s)
{
    const int64_t half = (int64_t)1 << (s - 1);
    int32_t as[V], ms[V], bs[V], ns[V];
    memcpy(as, &a, sizeof a);
    memcpy(ms, &m, sizeof m);
    memcpy(bs, &b, sizeof b);
    memcpy(ns, &n, sizeof n);
    for (int i = 0; i < V; i++) {
        const int64_t sum = ((int64_t)as[i] * ms[i] + (int64_t)bs[i] * ns[i] + half) >> s;
        as[i] = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : (int32_t)sum;
    }
    return load(as);
}

INLINE vec rescale(vec a, vec m, vec b, vec n, int s)
{
#if defined(LENET5C_RESCALE)
    if (s >= 32) return LENET5C_RESCALE(a, m, b, n, s);
#endif
    return LENET5C_SET(int8_rescale_any)(a, m, b, n, s);
}

/* What follows rescaled numbers, of some registers. */
INLINE void finish(const struct int8_op *p, vec *r, int count)
{
    if (p->activation == INT8_TANH || p->activation == INT8_TANH_SCALED ||
        p->activation == INT8_SIGMOID) {
        for (int i = 0; i < count; i++) {
            int32_t one[V];
            r[i] = CLAMP(r[i], -INT8_TANH_ARGUMENTS, INT8_TANH_ARGUMENTS);
            memcpy(one, &r[i], sizeof one);
            for (int k = 0; k < V; k++) one[k] = p->tanh8[one[k]];
            r[i] = load(one);
        }
        if (p->activation == INT8_SIGMOID)
            for (int i = 0; i < count; i++) r[i] = (r[i] + (INT8_MOST + 1)) >> 1;
    } else {
        const vec least = all(p->activation == INT8_RELU ? 0 : -INT8_MOST);
        for (int i = 0; i < count; i++)
            r[i] = LENET5C_LEAST(LENET5C_MOST(r[i], least), all(INT8_MOST));
    }
}

/* a m + b n, rescaled and finished */
INLINE vec LENET5C_SET(int8_one)(const struct int8_op *p, vec a, vec m, vec b, vec n)
{
    vec v = rescale(a, m, b, n, p->shift);
    finish(p, &v, 1);
    return v;
}

/* Sums of T (groups of) columns by R registers of filters, rescaled. */
INLINE void LENET5C_SET(int8_rescale_sums)(
    vec *sums, const int32_t *multipliers, int T, int R, int s)
{
    for (int r = 0; r < R; r++) {
        const vec m = load(multipliers + r * V);
#if defined(LENET5C_RESCALE)
        if (s >= 32) {
            for (int i = r; i < T * R; i += R)
                sums[i] = LENET5C_RESCALE(sums[i], m, all(0), all(0), s);
            continue;
        }
#endif
        for (int i = r; i < T * R; i += R)
            sums[i] = LENET5C_SET(int8_rescale_any)(sums[i], m, all(0), all(0), s);
    }
}

/* What follows the sums of T (groups of) columns by R registers of filters; there is room
 * for three registers more. */
LENET5C_TARGET static void LENET5C_SET(int8_end)(
    const struct int8_op *p, vec *sums, int block, unsigned char *y, int T, int R)
{
    const size_t size = p->is_raw ? sizeof(int32_t) : sizeof(ELEMENT), whole = V * size;
    const ptrdiff_t column = p->y_column;
    const int32_t *const multipliers = p->shift ? p->multiplier + block * V : NULL;
    unsigned char elements[(LENET5C_INT8_SUMS + 3) * V * sizeof(ELEMENT)];
    const unsigned char *from = elements;
    const int count = T * R;
#if defined(LENET5C_FOUR)
    if (!p->is_raw && p->shift > 32) {
        for (int i = 0; i < count; i += 4)
            LENET5C_FOUR(
                p, sums, multipliers, i, R, elements + i * V * (int)sizeof(ELEMENT));
    } else
#endif
    {
        if (p->shift) {
            LENET5C_SET(int8_rescale_sums)(sums, multipliers, T, R, p->shift);
            finish(p, sums, count);
        }
        if (p->is_raw)
            from = (const unsigned char *)sums;
        else
            for (int i = 0; i < count; i++) put(elements + (size_t)i * whole, sums[i]);
    }
    if (p->together > 1) {
        const size_t part = whole / (size_t)p->together;
        for (int k = 0; k < T * p->together; k++, y += column, from += part) {
            if (part == 8) /* of a known size it is an instruction */
                memcpy(y, from, 8);
            else
                memcpy(y, from, part);
        }
        return;
    }
    for (int t = 0; t < T; t++, y += column)
        for (int r = 0; r < R; r++, from += whole) {
            const int left = p->filters - (block + r) * V;
            unsigned char *const to = y + (size_t)r * whole;
            /* what lies after one register is written later; after several it is not */
            if (left < V && p->filters > V)
                memcpy(to, from, left > 0 ? (size_t)left * size : 0);
            else if (p->is_raw)
                memcpy(to, from, V * sizeof(int32_t));
            else
                memcpy(to, from, V * sizeof(ELEMENT));
        }
}

/* T (groups of) columns by R registers of filters, the first of which is the `block`-th. */
INLINE void LENET5C_SET(int8_tile)(const struct int8_op *p, const unsigned char *x,
    const int32_t *w, int block, unsigned char *y, const int T, const int R)
{
    const int32_t *const bias = p->bias + block * V;
    const ptrdiff_t column = p->x_column, next = p->block_weights;
    int rows = p->rows;
    vec sums[LENET5C_INT8_SUMS + 3];
    LENET5C_UNROLL for (int t = 0; t < T; t++) LENET5C_UNROLL for (int r = 0; r < R; r++)
        sums[t * R + r] = load(bias + r * V);
    for (; rows > 0; rows--, x += p->x_row) {
        const unsigned char *from = x;
        int groups = p->groups;
        for (; groups > 0; groups--, from += GROUP * sizeof(ELEMENT), w += V) {
            vec weights[8];
            LENET5C_UNROLL for (int r = 0; r < R; r++) weights[r] = load(w + r * next);
            LENET5C_UNROLL for (int t = 0; t < T; t++)
            {
#if GROUP * LENET5C_ELEMENT_BYTES == 4
                int32_t group;
                memcpy(&group, from + t * column, 4);
#else
                ELEMENT group;
                memcpy(&group, from + t * column, sizeof group);
#endif
                LENET5C_UNROLL for (int r = 0; r < R; r++) sums[t * R + r] =
                    LENET5C_DOT(sums[t * R + r], all(group), weights[r]);
            }
        }
    }
    LENET5C_SET(int8_end)(p, sums, block, y, T, R);
}

#define LENET5C_INT8_TILE(T, R)                                                            \
    LENET5C_TARGET static void LENET5C_SET(int8_tile_##T##_##R)(const struct int8_op *p,   \
        const unsigned char *x, const int32_t *w, int block, unsigned char *y)             \
    {                                                                                      \
        LENET5C_SET(int8_tile)(p, x, w, block, y, T, R);                                   \
    }
LENET5C_INT8_TILES(LENET5C_INT8_TILE)
#undef LENET5C_INT8_TILE

#define LENET5C_INT8_TILE(T, R) {T, R, LENET5C_SET(int8_tile_##T##_##R)},
static const struct int8_tile LENET5C_SET(int8_tiles)[] = {
    LENET5C_INT8_TILES(LENET5C_INT8_TILE)};
#undef LENET5C_INT8_TILE

/* Convolution of a map that has its padding. The last tile of a row may do columns again.
 */
static void LENET5C_SET(int8_conv)(const struct int8_op *p, unsigned char *maps)
{
    const int size = p->is_raw ? (int)sizeof(int32_t) : (int)sizeof(ELEMENT);
    const int width = p->tile->columns, most = p->columns - width;
    const ptrdiff_t row = (ptrdiff_t)p->out_w * p->filters * size;
    for (int block = 0; block < p->blocks; block += p->tile->registers) {
        const int32_t *const w = p->weights + block * p->block_weights;
        for (int i = 0; i < p->out_h; i++) {
            const unsigned char *const x = maps + p->x + i * p->y_row;
            unsigned char *const y = maps + p->y + i * row + block * V * size;
            for (int k = 0; k < p->columns; k += width) {
                const ptrdiff_t at = k < most ? k : most;
                p->tile->run(
                    p, x + at * p->x_column, w, block, y + at * p->together * p->y_column);
            }
        }
    }
}

/* The sum, or the largest, of each window; then what the kind does with it. Elements are
 * taken as they are: the mean and the largest of numbers stay those when all are moved. */
INLINE void LENET5C_SET(int8_pool)(
    const struct int8_op *p, unsigned char *maps, const int kind)
{
    const int channels = p->channels, row = p->width * channels, n = p->kh * p->kw;
    const int size = p->is_raw ? 4 : (int)sizeof(ELEMENT);
    const int moved = ZERO * (kind == INT8_MAXIMUM ? 1 : n); /* what v has too much */
    const ELEMENT *const x = (const ELEMENT *)(const void *)(maps + p->x);
    unsigned char *y = maps + p->y;
    int bits = -1;
    for (int k = 0; k < 30; k++)
        if (n == 1 << k) bits = k + 1; /* of 2 n */
    for (int i = 0; i < p->out_h; i++) {
        const int top = i * p->stride - p->padding;
        const int first = top < 0 ? 0 : top;
        const int last = top + p->kh < p->height ? top + p->kh : p->height;
        for (int j = 0; j < p->out_w; j++) {
            const int side = j * p->stride - p->padding;
            const int left = side < 0 ? 0 : side;
            const int right = side + p->kw < p->width ? side + p->kw : p->width;
            for (int c = 0; c < channels; c += V) {
                const int count = channels - c < V ? channels - c : V;
                const ELEMENT *of = x + (ptrdiff_t)first * row + left * channels + c;
                vec v = all(kind == INT8_MAXIMUM ? INT32_MIN : 0);
                for (int r = first; r < last; r++, of += row)
                    for (int k = 0; k < right - left; k++) {
                        const vec u = elements(of + k * channels);
                        v = kind == INT8_MAXIMUM ? LENET5C_MOST(v, u) : v + u;
                    }
                if (kind == INT8_SCALE) {
                    v = (v - moved) * load(p->scale + c) + load(p->bias + c);
                    v = LENET5C_SET(int8_one)(
                        p, v, load(p->multiplier + c), all(0), all(0));
                } else if (kind == INT8_AVERAGE && !p->is_raw) {
                    v = 2 * v + n;
                    if (bits >= 0) {
                        v >>= bits;
                    } else {
                        int32_t one[V];
                        memcpy(one, &v, sizeof v);
                        for (int k = 0; k < V; k++) { /* rounded down */
                            const uint32_t above = (uint32_t)one[k] + 256 * (uint32_t)n;
                            one[k] = (int32_t)(above / (2 * (uint32_t)n)) - 128;
                        }
                        v = load(one);
                    }
                    v -= ZERO;
                } else {
                    v -= moved;
                }
                if (channels > V && count < V)
                    put_some(y, v, count, p->is_raw);
                else if (p->is_raw)
                    memcpy(y, &v, sizeof v);
                else
                    put(y, v);
                y += size * count;
            }
        }
    }
}

LENET5C_TARGET static void LENET5C_SET(int8_scale)(
    const struct int8_op *p, unsigned char *maps)
{
    LENET5C_SET(int8_pool)(p, maps, INT8_SCALE);
}

/* The usual window: the loops of others would take most of the time. What lies beyond the
 * channels is written later. */
INLINE void LENET5C_SET(int8_average_2x2)(const struct int8_op *p, unsigned char *maps)
{
    const ptrdiff_t channels = p->channels, row = p->width * channels;
    const ELEMENT *const x = (const ELEMENT *)(const void *)(maps + p->x);
    unsigned char *y = maps + p->y;
    for (int i = 0; i < p->out_h; i++) {
        const ELEMENT *of = x + i * p->stride * row;
        for (int j = 0; j < p->out_w; j++, of += p->stride * channels) {
            for (ptrdiff_t c = 0; c < channels; c += V) {
                const vec v = elements(of + c) + elements(of + c + channels) +
                              elements(of + c + row) + elements(of + c + row + channels);
                put(y + c * (ptrdiff_t)sizeof(ELEMENT), ((v + 2) >> 2) - ZERO);
            }
            y += channels * (ptrdiff_t)sizeof(ELEMENT);
        }
    }
}

LENET5C_TARGET static void LENET5C_SET(int8_average)(
    const struct int8_op *p, unsigned char *maps)
{
    if (p->kh == 2 && p->kw == 2 && !p->is_raw) {
        LENET5C_SET(int8_average_2x2)(p, maps);
        return;
    }
    LENET5C_SET(int8_pool)(p, maps, INT8_AVERAGE);
}

LENET5C_TARGET static void LENET5C_SET(int8_maximum)(
    const struct int8_op *p, unsigned char *maps)
{
    LENET5C_SET(int8_pool)(p, maps, INT8_MAXIMUM);
}

/* What does the same to each number. */
INLINE void LENET5C_SET(int8_each)(
    const struct int8_op *p, unsigned char *maps, const int kind)
{
    const ptrdiff_t size = (ptrdiff_t)p->channels * p->height * p->width;
    const ELEMENT *const x = (const ELEMENT *)(const void *)(maps + p->x);
    const ELEMENT *const u = (const ELEMENT *)(const void *)(maps + p->other);
    unsigned char *const y = maps + p->y;
    for (ptrdiff_t k = 0; k < size; k += V) {
        vec v = elements(x + k) - ZERO;
        if (kind == INT8_ADD) {
            v = LENET5C_SET(int8_one)(
                p, v, all(p->multiplier[0]), elements(u + k) - ZERO, all(p->multiplier[1]));
        } else if (kind == INT8_RELU) {
            v = LENET5C_MOST(v, all(0));
        } else if (kind == INT8_LEAKY) {
            const vec low = LENET5C_LEAST(v, all(0));
            v = LENET5C_MOST(v, all(0)) + /* 0 stays 0 */
                rescale(low, all(p->multiplier[0]), all(0), all(0), p->shift);
        } else {
            v = LENET5C_SET(int8_one)(p, v, all(p->multiplier[0]), all(0), all(0));
        }
        if (p->is_raw)
            memcpy(y + 4 * k, &v, sizeof v);
        else
            put(y + k * (ptrdiff_t)sizeof(ELEMENT), v);
    }
}

LENET5C_TARGET static void LENET5C_SET(int8_add)(
    const struct int8_op *p, unsigned char *maps)
{
    LENET5C_SET(int8_each)(p, maps, INT8_ADD);
}

LENET5C_TARGET static void LENET5C_SET(int8_relu)(
    const struct int8_op *p, unsigned char *maps)
{
    LENET5C_SET(int8_each)(p, maps, INT8_RELU);
}

LENET5C_TARGET static void LENET5C_SET(int8_leaky)(
    const struct int8_op *p, unsigned char *maps)
{
    LENET5C_SET(int8_each)(p, maps, INT8_LEAKY);
}

LENET5C_TARGET static void LENET5C_SET(int8_table)(
    const struct int8_op *p, unsigned char *maps)
{
    LENET5C_SET(int8_each)(p, maps, INT8_TANH);
}

/* The channels one after the other. */
static void LENET5C_SET(int8_flatten)(const struct int8_op *p, unsigned char *maps)
{
    const unsigned char *x = maps + p->x;
    unsigned char *y = maps + p->y;
    const ptrdiff_t pixels = (ptrdiff_t)p->height * p->width;
    for (int c = 0; c < p->channels; c++)
        for (ptrdiff_t k = 0; k < pixels; k++) {
            ELEMENT e;
            memcpy(&e, x + (k * p->channels + c) * (ptrdiff_t)sizeof e, sizeof e);
            if (p->is_raw) {
                const int32_t number = e - ZERO;
                memcpy(y, &number, sizeof number);
                y += sizeof number;
            } else {
                memcpy(y, &e, sizeof e);
                y += sizeof e;
            }
        }
}

/* What was computed elsewhere already. */
static void LENET5C_SET(int8_copy)(const struct int8_op *p, unsigned char *maps)
{
    memcpy(maps + p->y, maps + p->x,
        (size_t)p->filters * (size_t)p->out_h * (size_t)p->out_w * sizeof(ELEMENT));
}

/* The map within a border of zeros. */
static void LENET5C_SET(int8_pad)(const struct int8_op *p, unsigned char *maps)
{
    const unsigned char *x = maps + p->x;
    unsigned char *y = maps + p->y;
    const size_t row = (size_t)p->width * (size_t)p->channels * sizeof(ELEMENT);
    const size_t side = (size_t)p->padding * (size_t)p->channels * sizeof(ELEMENT);
    const int rows = p->height + 2 * p->padding;
    for (int i = 0; i < rows; i++) {
        if (i < p->padding || i >= p->padding + p->height) {
            memset(y, ZERO, row + 2 * side);
        } else {
            memset(y, ZERO, side);
            memcpy(y + side, x, row);
            memset(y + side + row, ZERO, side);
            x += row;
        }
        y += row + 2 * side;
    }
}

/* The numbers of a row of pixels, of one channel among several. */
static void LENET5C_SET(int8_read)(const uint8_t *pixels, ptrdiff_t step, unsigned char *x,
    int count, int channels, const signed char *table)
{
    ELEMENT *const to = (ELEMENT *)(void *)x;
#if defined(LENET5C_READ)
    if (step == 1 && channels == 1) {
        LENET5C_READ(pixels, x, count, table);
        return;
    }
#endif
    for (ptrdiff_t k = 0; k < count; k++)
        to[k * channels] = (ELEMENT)(table[pixels[k * step]] + ZERO);
}

static void LENET5C_SET(int8_fill)(unsigned char *x, ptrdiff_t count, int number)
{
#if LENET5C_ELEMENT_BYTES == 1
    memset(x, number + ZERO, (size_t)count);
#else
    const uint64_t four = (uint16_t)(number + ZERO) * 0x1000100010001u;
    for (ptrdiff_t k = 0; k < count; k += 4, x += 8) memcpy(x, &four, 8);
#endif
}

#if defined(LENET5C_POOL_GROUPS)
#include "int8_pooled.h"
#endif

static int8_function *const LENET5C_SET(int8_functions)[INT8_KINDS] = {
    [INT8_CONV] = LENET5C_SET(int8_conv),
    [INT8_SCALE] = LENET5C_SET(int8_scale),
    [INT8_SUBSAMPLE] = LENET5C_SET(int8_scale),
    [INT8_AVERAGE] = LENET5C_SET(int8_average),
    [INT8_MAXIMUM] = LENET5C_SET(int8_maximum),
    [INT8_ADD] = LENET5C_SET(int8_add),
    [INT8_RELU] = LENET5C_SET(int8_relu),
    [INT8_LEAKY] = LENET5C_SET(int8_leaky),
    [INT8_TANH] = LENET5C_SET(int8_table),
    [INT8_TANH_SCALED] = LENET5C_SET(int8_table),
    [INT8_SIGMOID] = LENET5C_SET(int8_table),
    [INT8_FLATTEN] = LENET5C_SET(int8_flatten),
    [INT8_PAD] = LENET5C_SET(int8_pad),
    [INT8_COPY] = LENET5C_SET(int8_copy),
};

static const struct int8_kernels LENET5C_SET(int8_kernels) = {
    .name = LENET5C_NAME,
    .lanes = V,
    .group = GROUP,
    .element = sizeof(ELEMENT),
    .zero = ZERO,
    .tiles = LENET5C_SET(int8_tiles),
    .tile_count = sizeof LENET5C_SET(int8_tiles) / sizeof *LENET5C_SET(int8_tiles),
    .run = LENET5C_SET(int8_functions),
#if defined(LENET5C_POOL_GROUPS)
    .pooled = LENET5C_SET(int8_pooled),
#endif
    .read = LENET5C_SET(int8_read),
    .fill = LENET5C_SET(int8_fill),
};

#undef V
#undef vec
#undef ELEMENT
#undef ZERO
#undef GROUP
#undef INLINE
#undef load
#undef all
#undef elements
#undef put
#undef put_some
#undef rescale
#undef finish
#undef CLAMP
#undef LENET5C_V
#undef LENET5C_SET
#undef LENET5C_NAME
#undef LENET5C_TARGET
#undef LENET5C_ELEMENT
#undef LENET5C_ELEMENT_BYTES
#undef LENET5C_ZERO
#undef LENET5C_GROUP
#undef LENET5C_DOT
#undef LENET5C_RESCALE
#undef LENET5C_WIDE
#undef LENET5C_NARROW
#undef LENET5C_FOUR
#undef LENET5C_READ
#undef LENET5C_POOL_GROUPS
#undef LENET5C_POOL_RESCALE
#undef LENET5C_POOL_WORDS
#undef LENET5C_POOL_WINDOWS
#undef LENET5C_POOL_LARGEST
#undef LENET5C_POOL_STORE
#undef LENET5C_LEAST
#undef LENET5C_MOST
#undef LENET5C_CHOOSE_INT
#undef LENET5C_INT8_TILES
