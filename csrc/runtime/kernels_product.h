/* Part of kernels.h: convolutions and dense layers.
 *
 * A tile is the piece of an output map that is computed together, one accumulator a
 * register. In both layouts the taps of a kernel are `taps_a` runs of `taps_t` numbers that
 * lie next to each other, `step_a` apart, so one loop serves convolutions and dense layers.
 * Weights lie in the order in which a tile reads them, after its biases.
 */

/* Outputs x[0..X) of NV registers of channels each: y[i][f] = bias + sum of w * x. Where
 * there is one output alone, U sums run beside each other, since each waits for itself. */
INLINE void LENET5C_SET(tile)(const struct op *p, const float *x, const float *w, float *y,
    const int nv, const int nx, const int nu, const ptrdiff_t column)
{
    const ptrdiff_t taps = p->taps_t;
    const vec least = all(p->least);
    vec acc[LENET5C_MAX_TILE], part[LENET5C_MAX_TILE];
    LENET5C_UNROLL
    for (int i = 0; i < nx; i++) {
        LENET5C_UNROLL
        for (int f = 0; f < nv; f++) acc[i * nv + f] = load(w + f * V);
    }
    w += nv * V;
    LENET5C_UNROLL
    for (int i = 0; i < nv * (nu - 1); i++) part[i] = all(0);
    if (nu == 1) { /* one loop over all runs: they may be short */
        const ptrdiff_t jump = p->step_a - taps;
        ptrdiff_t left = taps;
        for (ptrdiff_t n = p->taps_a * taps; n > 0; n--) {
            LENET5C_UNROLL
            for (int i = 0; i < nx; i++) {
                const vec s = all(x[i * column]);
                LENET5C_UNROLL
                for (int f = 0; f < nv; f++)
                    acc[i * nv + f] = FMA(s, load(w + f * V), acc[i * nv + f]);
            }
            left--;
            x += left ? 1 : 1 + jump;
            left = left ? left : taps;
            w += nv * V;
        }
    }
    for (ptrdiff_t a = 0; nu > 1 && a < p->taps_a; a++) {
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
            const vec s = all(*at);
            LENET5C_UNROLL
            for (int f = 0; f < nv; f++) acc[f] = FMA(s, load(w + f * V), acc[f]);
            at += nu;
            w += nu * nv * V;
        }
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
        for (int f = 0; f < nv; f++)
            store(y + i * p->y_column + f * V, LENET5C_MAX(least, acc[i * nv + f]));
    }
}

/* Rows of NF filters, NV registers of columns each: y[f][i] = bias + sum of w * x. */
INLINE void LENET5C_SET(row_tile)(const struct op *p, const float *x, const float *w,
    float *y, const int nf, const int nv)
{
    const vec least = all(p->least);
    const ptrdiff_t jump = p->step_a - p->taps_t;
    ptrdiff_t left = p->taps_t;
    vec acc[LENET5C_MAX_TILE];
    LENET5C_UNROLL
    for (int f = 0; f < nf; f++) {
        LENET5C_UNROLL
        for (int i = 0; i < nv; i++) acc[f * nv + i] = all(w[f]);
    }
    w += nf;
    for (ptrdiff_t n = p->taps_a * p->taps_t; n > 0; n--) {
        vec s[4];
        LENET5C_UNROLL
        for (int i = 0; i < nv; i++) s[i] = load(x + i * V);
        LENET5C_UNROLL
        for (int f = 0; f < nf; f++) {
            const vec weight = all(w[f]);
            LENET5C_UNROLL
            for (int i = 0; i < nv; i++)
                acc[f * nv + i] = FMA(weight, s[i], acc[f * nv + i]);
        }
        left--;
        x += left ? 1 : 1 + jump;
        left = left ? left : p->taps_t;
        w += nf;
    }
    LENET5C_UNROLL
    for (int f = 0; f < nf; f++) {
        LENET5C_UNROLL
        for (int i = 0; i < nv; i++)
            store(y + f * p->y_column + i * V, LENET5C_MAX(least, acc[f * nv + i]));
    }
}

/* TILE(NV, X, U): lanes are channels. In layout HCW columns are neighbours. */
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
#if defined(LENET5C_32_REGISTERS)
#define TILES(T) LENET5C_TILES(T) LENET5C_TILES_32(T)
#else
#define TILES LENET5C_TILES
#endif
TILES(TILE)
LENET5C_ROW_TILES(ROW_TILE)
#undef TILE
#undef ROW_TILE

#define TILE(nv, nx, nu) {nv, nx, nu, LENET5C_SET(tile_##nv##_##nx)},
#define ROW_TILE(nf, nv) {nf, nv, 1, LENET5C_SET(row_tile_##nf##_##nv)},
static const struct tile LENET5C_SET(tiles)[] = {TILES(TILE)};
static const struct tile LENET5C_SET(row_tiles)[] = {LENET5C_ROW_TILES(ROW_TILE)};
#undef TILE
#undef TILES
#undef ROW_TILE

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
        for (int i = 0; i < 6; i++) LENET5C_SET(product_row)
        (p, values + i * row, p->weights + i * p->point, sums + i * size);
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
