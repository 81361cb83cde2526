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
 * A map is either in rows, [H][C][W], where lanes are columns, or in pixels, [H][W][CP],
 * where lanes are channels: CP is C rounded up to whole registers, and the channels from C
 * on are zero.
 *
 * A tile is the piece of an output map that is computed together, one accumulator a
 * register. In both kinds of map the taps of a kernel are `taps_a` runs of `taps_t` numbers
 * that lie next to each other, `step_a` apart, so one loop serves convolutions and dense
 * layers. Weights lie in the order in which a tile reads them, after its biases.
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
#if V > 1
    return value - (vec){0};
#else
    return value;
#endif
}

#define load LENET5C_SET(load)
#define store LENET5C_SET(store)
#define all LENET5C_SET(all)

/* Outputs x[0..X) of NV registers of channels each: y[i][f] = bias + sum of w * x. Where
 * there is one output alone, U sums run beside each other, since each waits for itself. */
INLINE void LENET5C_SET(tile)(const struct op *p, const float *x, const float *w, float *y,
    const int nv, const int nx, const int nu, const ptrdiff_t column)
{
    const ptrdiff_t taps = p->taps_t;
    vec acc[LENET5C_MOST_TILE], part[LENET5C_MOST_TILE];
    LENET5C_UNROLL
    for (int i = 0; i < nx; i++) {
        LENET5C_UNROLL
        for (int f = 0; f < nv; f++) acc[i * nv + f] = load(w + f * V);
    }
    w += nv * V;
    LENET5C_UNROLL
    for (int i = 0; i < nv * (nu - 1); i++) part[i] = all(0);
    for (ptrdiff_t a = 0; a < p->taps_a; a++) {
        const float *at = x + a * p->step_a;
        ptrdiff_t t = 0;
        for (; t <= taps - nu; t += nu) {
            LENET5C_UNROLL
            for (int u = 1; u < nu; u++) {
                const vec s = all(at[u]);
                LENET5C_UNROLL
                for (int f = 0; f < nv; f++)
                    part[(u - 1) * nv + f] =
                        FMA(s, load(w + (u * nv + f) * V), part[(u - 1) * nv + f]);
            }
            LENET5C_UNROLL
            for (int i = 0; i < nx; i++) {
                const vec s = all(at[i * column]);
                LENET5C_UNROLL
                for (int f = 0; f < nv; f++)
                    acc[i * nv + f] = FMA(s, load(w + f * V), acc[i * nv + f]);
            }
            at += nu;
            w += nu * nv * V;
        }
        if (nu > 1)
            for (; t < taps; t++) {
                const vec s = all(*at++);
                LENET5C_UNROLL
                for (int f = 0; f < nv; f++) acc[f] = FMA(s, load(w + f * V), acc[f]);
                w += nv * V;
            }
    }
    LENET5C_UNROLL
    for (int u = 1; u < nu; u++) {
        LENET5C_UNROLL
        for (int f = 0; f < nv; f++) acc[f] += part[(u - 1) * nv + f];
    }
    LENET5C_UNROLL
    for (int i = 0; i < nx; i++) {
        LENET5C_UNROLL
        for (int f = 0; f < nv; f++) store(y + i * p->y_column + f * V, acc[i * nv + f]);
    }
}

/* Rows of NF filters, NV registers of columns each: y[f][i] = bias + sum of w * x. */
INLINE void LENET5C_SET(row_tile)(const struct op *p, const float *x, const float *w,
    float *y, const int nf, const int nv)
{
    vec acc[LENET5C_MOST_TILE];
    LENET5C_UNROLL
    for (int f = 0; f < nf; f++) {
        LENET5C_UNROLL
        for (int i = 0; i < nv; i++) acc[f * nv + i] = all(w[f]);
    }
    w += nf;
    for (ptrdiff_t a = 0; a < p->taps_a; a++) {
        const float *at = x + a * p->step_a;
        for (ptrdiff_t t = 0; t < p->taps_t; t++) {
            vec s[4];
            LENET5C_UNROLL
            for (int i = 0; i < nv; i++) s[i] = load(at + i * V);
            LENET5C_UNROLL
            for (int f = 0; f < nf; f++) {
                const vec weight = all(w[f]);
                LENET5C_UNROLL
                for (int i = 0; i < nv; i++)
                    acc[f * nv + i] = FMA(weight, s[i], acc[f * nv + i]);
            }
            at++;
            w += nf;
        }
    }
    LENET5C_UNROLL
    for (int f = 0; f < nf; f++) {
        LENET5C_UNROLL
        for (int i = 0; i < nv; i++) store(y + f * p->y_column + i * V, acc[f * nv + i]);
    }
}

/* TILE(NV, X, U): lanes are channels. Columns of a map in rows are neighbours. */
#define TILE(nv, nx, nu)                                                                   \
    LENET5C_TARGET static void LENET5C_SET(tile_##nv##_##nx)(                              \
        const struct op *p, const float *x, const float *w, float *y)                      \
    {                                                                                      \
        LENET5C_SET(tile)(p, x, w, y, nv, nx, nu, p->x_column);                            \
    }
#define ROW_TILE(nf, nv)                                                                   \
    LENET5C_TARGET static void LENET5C_SET(row_tile_##nf##_##nv)(                          \
        const struct op *p, const float *x, const float *w, float *y)                      \
    {                                                                                      \
        LENET5C_SET(row_tile)(p, x, w, y, nf, nv);                                         \
    }
LENET5C_TILES(TILE)
LENET5C_ROW_TILES(ROW_TILE)
#undef TILE
#undef ROW_TILE

#define TILE(nv, nx, nu) {nv, nx, nu, LENET5C_SET(tile_##nv##_##nx)},
#define ROW_TILE(nf, nv) {nf, nv, 1, LENET5C_SET(row_tile_##nf##_##nv)},
static const struct tile LENET5C_SET(tiles)[] = {LENET5C_TILES(TILE)};
static const struct tile LENET5C_SET(row_tiles)[] = {LENET5C_ROW_TILES(ROW_TILE)};
#undef TILE
#undef ROW_TILE

/* tanh(x) = x P(x^2) / Q(x^2), the fit of lanes.h: 4 units in the last place. */
INLINE vec LENET5C_SET(tanh)(vec x)
{
    const vec most = all(7.9f);
    vec u, p, q;
    x = LENET5C_MAX(-most, LENET5C_MIN(most, x));
    u = x * x;
    p = all(1.335463080e-08f);
    p = FMA(p, u, all(2.060905854e-05f));
    p = FMA(p, u, all(3.495586615e-03f));
    p = FMA(p, u, all(1.338102434e-01f));
    p = FMA(p, u, all(9.999999795e-01f));
    q = all(7.776545255e-07f);
    q = FMA(q, u, all(3.285632392e-04f));
    q = FMA(q, u, all(2.587697638e-02f));
    q = FMA(q, u, all(4.671433994e-01f));
    q = FMA(q, u, all(1.0f));
    return x * p / q;
}

/* exp(x) for x <= 0, as in lanes.h: 2^n times the Taylor series of the rest; 0 where a
 * float would be subnormal. */
INLINE vec LENET5C_SET(exp)(vec x)
{
    const vec magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const vec least = all(-87.0f), given = x;
    vec rounded, n, r, y;
    x = LENET5C_MAX(least, x);
    rounded = FMA(x, all(1.44269504f), magic);
    n = rounded - magic;
    r = x - n * 0.693359375f; /* log 2 in two parts */
    r = FMA(n, all(2.12194440e-4f), r);
    y = all(1.0f / 5040);
    y = FMA(y, r, all(1.0f / 720));
    y = FMA(y, r, all(1.0f / 120));
    y = FMA(y, r, all(1.0f / 24));
    y = FMA(y, r, all(1.0f / 6));
    y = FMA(y, r, all(0.5f));
    y = FMA(y, r, all(1.0f));
    y = FMA(y, r, all(1.0f));
    for (int i = 0; i < V; i++) { /* 2^n is built from its bits, the last ones of n */
        float power, from;
        uint32_t bits;
        memcpy(&bits, (const char *)&rounded + 4 * i, 4);
        memcpy(&from, (const char *)&given + 4 * i, 4);
        bits = from < -87.0f ? 0 : (bits + 127) << 23;
        memcpy(&power, &bits, 4);
        memcpy((char *)&n + 4 * i, &power, 4);
    }
    return y * n;
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
    } else {
        for (; i + V <= n; i += V) store(x + i, LENET5C_MAX(all(0), load(x + i)));
    }
    if (i < n) { /* fewer than V are left */
        float rest[V] = {0};
        memcpy(rest, x + i, (size_t)(n - i) * sizeof(float));
        if (activation == TANH)
            store(rest, LENET5C_SET(tanh)(load(rest)));
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
    const ptrdiff_t run = p->rows ? p->width : p->channels;
    const ptrdiff_t runs = (ptrdiff_t)p->height * (p->rows ? p->channels : p->width);
    for (ptrdiff_t r = 0; r < runs; r++) {
        const float *from = x + r * run;
        float *to = y + r * run;
        if (p->rows) {
            const float a = scale[r % p->channels], b = shift[r % p->channels];
            for (ptrdiff_t i = 0; i < run; i++) to[i] = a * from[i] + b;
        } else {
            for (ptrdiff_t i = 0; i < run; i += V)
                store(to + i, FMA(load(scale + i), load(from + i), load(shift + i)));
        }
    }
    if (p->activation != NO_ACTIVATION) LENET5C_SET(activate)(y, runs * run, p->activation);
}

/* A convolution or dense layer, and the activation after it. The last tile of a row is
 * moved back, if it would pass the end: some columns are computed twice, to the same bits.
 */
LENET5C_TARGET static void LENET5C_SET(run_product)(
    const struct op *p, const float *x, float *y)
{
    const float *w = p->weights;
    for (int k = 0; k < 2; k++) {
        const struct piece *piece = &p->pieces[k];
        for (int n = 0; n < piece->count; n++) {
            for (int row = 0; row < p->out_h; row++) {
                const float *from = x + row * p->x_row;
                float *to = y + row * p->y_row;
                for (int next = 0; next < p->out_w; next += piece->columns) {
                    const int last = p->out_w - piece->columns;
                    const int at = next < last ? next : last;
                    piece->tile(p, from + at * p->x_column, w, to + at * p->x_to_y);
                }
                if (p->activation == NO_ACTIVATION) continue;
                if (piece->part * p->parts == p->y_row) {
                    LENET5C_SET(activate)(to, p->y_row, p->activation);
                    continue;
                }
                for (int i = 0; i < p->parts; i++)
                    LENET5C_SET(activate)(to + i * p->y_column, piece->part, p->activation);
            }
            w += piece->weights;
            y += piece->step;
        }
    }
}

/* One row of an output map, with weights of its own. */
LENET5C_TARGET static void LENET5C_SET(product_row)(
    const struct op *p, const float *x, const float *w, float *y)
{
    for (int k = 0; k < 2; k++) {
        const struct piece *piece = &p->pieces[k];
        for (int n = 0; n < piece->count; n++) {
            for (int next = 0; next < p->out_w; next += piece->columns) {
                const int last = p->out_w - piece->columns;
                const int at = next < last ? next : last;
                piece->tile(p, x + at * p->x_column, w, y + at * p->x_to_y);
            }
            w += piece->weights;
            y += piece->step;
        }
    }
}

/* A convolution with 5 rows of weights, two rows of outputs at a time: 6 sums of products
 * in place of 10 (Toom and Cook; Winograd's F(2, 5)). Polynomials are multiplied by their
 * values at 0, 1, -1, 2, -2 and infinity: six rows of the input become six of such values,
 * each is convolved with one row of weights (pack_weights), and the six results are put
 * together to two. Rounding errors are a few times those of the plain sum. */
LENET5C_TARGET static void LENET5C_SET(run_pairs)(
    const struct op *p, const float *x, float *y)
{
    const ptrdiff_t row = p->x_row, size = p->y_row;
    float *values = y + size * p->out_h; /* [6][row] */
    float *sums = values + 6 * row;      /* [6][size] */
    for (int next = 0; next < p->out_h; next += 2) {
        const int pair = next < p->out_h - 2 ? next : p->out_h - 2;
        const float *from = x + pair * row;
        float *to = y + pair * size;
        for (ptrdiff_t i = 0; i < row; i += V) {
            const ptrdiff_t at = i < row - V ? i : row - V;
            const float *s = from + at;
            float *v = values + at;
            const vec x0 = load(s), x1 = load(s + row), x2 = load(s + 2 * row);
            const vec x3 = load(s + 3 * row), x4 = load(s + 4 * row);
            const vec x5 = load(s + 5 * row);
            const vec a = x4 - x2, b = x3 - x1;
            const vec c = FMA(all(-3), x2, a), d = FMA(all(-3), x1, b);
            store(v, FMA(all(4), x0, FMA(all(-4), x2, a)));
            store(v + row, c + d);
            store(v + 2 * row, c - d);
            store(v + 3 * row, FMA(all(2), b, a));
            store(v + 4 * row, FMA(all(-2), b, a));
            store(v + 5 * row, FMA(all(-4), b, x5 - x3));
        }
        for (int i = 0; i < 6; i++)
            LENET5C_SET(product_row)(
                p, values + i * row, p->weights + i * p->point, sums + i * size);
        for (ptrdiff_t i = 0; i < size; i += V) {
            const float *m = sums + i;
            const vec m1 = load(m + size), m2 = load(m + 2 * size);
            const vec m3 = load(m + 3 * size), m4 = load(m + 4 * size);
            store(to + i, load(m) + ((m1 + m2) + (m3 + m4)));
            store(to + i + size, (m1 - m2) + FMA(all(2), m3 - m4, load(m + 5 * size)));
        }
        if (p->activation != NO_ACTIVATION)
            LENET5C_SET(activate)(to, 2 * size, p->activation);
    }
}

/* y[oy][ox][c] = mean or maximum over the window; lanes are channels */
LENET5C_TARGET static void LENET5C_SET(run_pool)(
    const struct op *p, const float *x, float *y)
{
    const vec share = all(1 / (float)(p->window * p->window));
    for (int row = 0; row < p->out_h; row++)
        for (int column = 0; column < p->out_w; column++)
            for (int c = 0; c < p->channels; c += V) {
                const float *at = x + row * p->x_row + column * p->x_column + c;
                vec most = load(at), total = all(0);
                for (int ky = 0; ky < p->window; ky++)
                    for (int kx = 0; kx < p->window; kx++) {
                        const vec s = load(at + ky * p->step_a + kx * p->step_t);
                        total += s;
                        most = LENET5C_MAX(most, s);
                    }
                store(y, p->maximum ? most : total * share);
                y += V;
            }
}

#ifdef LENET5C_EVEN
/* y[i] = mean or maximum of x[2 i], x[2 i + 1] and what is `below` them; n >= V */
INLINE void LENET5C_SET(pool_pairs)(
    const float *x, const ptrdiff_t below, float *y, const int n, const int maximum)
{
    for (int i = 0; i < n; i += V) {
        const int to = i < n - V ? i : n - V;
        const float *at = x + 2 * to;
        vec a, b;
        if (maximum) {
            a = LENET5C_MAX(load(at), load(at + below));
            b = LENET5C_MAX(load(at + V), load(at + V + below));
            a = LENET5C_MAX(LENET5C_EVEN(a, b), LENET5C_ODD(a, b));
        } else {
            a = load(at) + load(at + below);
            b = load(at + V) + load(at + V + below);
            a = (LENET5C_EVEN(a, b) + LENET5C_ODD(a, b)) * 0.25f;
        }
        store(y + to, LENET5C_IN_ORDER(a));
    }
}
#endif

/* y[oy][c][ox] = mean or maximum over the window; a map in rows */
LENET5C_TARGET static void LENET5C_SET(run_pool_rows)(
    const struct op *p, const float *x, float *y)
{
    const float share = 1 / (float)(p->window * p->window);
    for (int row = 0; row < p->out_h; row++) {
        const float *from = x + row * p->x_row;
#ifdef LENET5C_EVEN
        /* where pairs leave no column out, the rows of all channels are one */
        const int runs = p->width == 2 * p->out_w ? 1 : p->channels;
        const int n = p->channels / runs * p->out_w;
        if (p->window == 2 && p->x_column == 2 && n >= V) {
            for (int c = 0; c < runs; c++, y += n)
                if (p->maximum)
                    LENET5C_SET(pool_pairs)(from + c * p->x_channel, p->step_a, y, n, 1);
                else
                    LENET5C_SET(pool_pairs)(from + c * p->x_channel, p->step_a, y, n, 0);
            continue;
        }
#endif
        for (int c = 0; c < p->channels; c++) {
            for (int column = 0; column < p->out_w; column++) {
                const float *at = from + c * p->x_channel + column * p->x_column;
                float most = *at, total = 0;
                for (int ky = 0; ky < p->window; ky++)
                    for (int kx = 0; kx < p->window; kx++) {
                        const float s = at[ky * p->step_a + kx];
                        total += s;
                        most = most > s ? most : s;
                    }
                y[column] = p->maximum ? most : total * share;
            }
            y += p->out_w;
        }
    }
}

LENET5C_TARGET static void LENET5C_SET(fill)(float *to, ptrdiff_t n, float value)
{
    ptrdiff_t i = 0;
    for (; i + V <= n; i += V) store(to + i, all(value));
    for (; i < n; i++) to[i] = value;
}

/* to[i] = from[i * step] * scale + offset, to the same bits for any step */
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
    .run_pool = LENET5C_SET(run_pool),
    .run_pool_rows = LENET5C_SET(run_pool_rows),
    .run_activation = LENET5C_SET(run_activation),
    .run_sum = LENET5C_SET(run_sum),
    .run_scale = LENET5C_SET(run_scale),
    .fill = LENET5C_SET(fill),
    .scale_bytes = LENET5C_SET(scale_bytes),
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
#undef LENET5C_TARGET
#undef LENET5C_FMA
#undef LENET5C_MIN
#undef LENET5C_MAX
#undef LENET5C_EVEN
#undef LENET5C_ODD
#undef LENET5C_IN_ORDER
#undef LENET5C_WIDEN
