/* Part of kernels.h: dense layers of several registers of outputs, for some images at once.
 *
 * A register of outputs has its bias and its weights in one piece of memory, so a tile may
 * have any number of registers, which are read side by side. An output is one sum in the
 * order of the taps: it has the same bits in any tile, with any images around it.
 */

/* NV registers of outputs of NX images, which lie `apart`: y[i][f] = bias + sum of w * x */
INLINE void LENET5C_SET(dense_tile)(const struct op *p, const float *x, const float *w,
    float *y, const ptrdiff_t apart, const int nx, const int nv)
{
    const ptrdiff_t taps = p->taps_t, next = (1 + taps) * V;
    const vec least = all(p->least);
    vec acc[LENET5C_MAX_DENSE_TILE], kept[LENET5C_MAX_IMAGES];
    LENET5C_UNROLL
    for (int f = 0; f < nv; f++) {
        LENET5C_UNROLL
        for (int i = 0; i < nx; i++) acc[i * nv + f] = load(w + f * next);
    }
    for (ptrdiff_t t = 0; t < taps; t++) {
        w += V;
        if (nx > 4) { /* few streams of weights */
            LENET5C_UNROLL
            for (int f = 0; f < nv; f++) LENET5C_PREFETCH(w + f * next + LENET5C_AHEAD);
        }
        if (nv <= nx) {
            LENET5C_UNROLL
            for (int f = 0; f < nv; f++) kept[f] = load(w + f * next);
            LENET5C_UNROLL
            for (int i = 0; i < nx; i++) {
                const vec s = all(x[i * apart + t]);
                LENET5C_UNROLL
                for (int f = 0; f < nv; f++)
                    acc[i * nv + f] = FMA(s, kept[f], acc[i * nv + f]);
            }
        } else {
            LENET5C_UNROLL
            for (int i = 0; i < nx; i++) kept[i] = all(x[i * apart + t]);
            LENET5C_UNROLL
            for (int f = 0; f < nv; f++) {
                const vec s = load(w + f * next);
                LENET5C_UNROLL
                for (int i = 0; i < nx; i++)
                    acc[i * nv + f] = FMA(kept[i], s, acc[i * nv + f]);
            }
        }
    }
    LENET5C_UNROLL
    for (int i = 0; i < nx; i++) {
        LENET5C_UNROLL
        for (int f = 0; f < nv; f++)
            store(y + i * apart + f * V, LENET5C_MAX(least, acc[i * nv + f]));
    }
}

#if defined(LENET5C_32_REGISTERS)
#define TILES LENET5C_DENSE_TILES_32
#else
#define TILES LENET5C_DENSE_TILES
#endif

#define TILE(nx, nv)                                                                       \
    LENET5C_TARGET static void LENET5C_SET(dense_tile_##nx##_##nv)(                        \
        const struct op *p, const float *x, const float *w, float *y, ptrdiff_t apart)     \
    {                                                                                      \
        LENET5C_SET(dense_tile)(p, x, w, y, apart, nx, nv);                                \
    }
TILES(TILE)
#undef TILE

/* By the number of images and of registers. */
#define TILE(nx, nv) [nx][nv] = LENET5C_SET(dense_tile_##nx##_##nv),
static dense_function *const LENET5C_SET(
    dense_tiles)[LENET5C_MAX_IMAGES + 1][LENET5C_MAX_REGISTERS + 1] = {TILES(TILE)};
#undef TILE
#undef TILES

/* The outputs of up to TOGETHER images, in tiles of nearly the same width. */
LENET5C_TARGET static void LENET5C_SET(run_dense)(
    const struct op *p, const float *x, float *y, int images, ptrdiff_t apart)
{
    dense_function *const *tiles = LENET5C_SET(dense_tiles)[images];
    const ptrdiff_t registers = p->pieces[0].count, of_one = p->pieces[0].weights;
    ptrdiff_t most = LENET5C_MAX_REGISTERS, count, first = 0;
    while (!tiles[most]) most--;
    count = (registers + most - 1) / most;
    for (ptrdiff_t n = 1; n <= count; n++) {
        const ptrdiff_t end = n * registers / count;
        tiles[end - first](p, x, p->weights + first * of_one, y + first * V, apart);
        first = end;
    }
    if (p->activation == NO_ACTIVATION) return;
    for (int i = 0; i < images; i++)
        LENET5C_SET(activate)(y + i * apart, p->y_row, p->activation);
}

/* Dense layers of so few outputs that lanes are taps: each output is a sum of its own,
 * which has the same bits in any tile, with any images around it.
 */

/* out[f] = the sum of the lanes of v[f] */
INLINE void LENET5C_SET(sum_four)(const vec *v, float *out)
{
    float sums[4 * V];
#ifdef LENET5C_EVEN
    const vec a = LENET5C_EVEN(v[0], v[1]) + LENET5C_ODD(v[0], v[1]);
    const vec b = LENET5C_EVEN(v[2], v[3]) + LENET5C_ODD(v[2], v[3]);
    store(sums, LENET5C_EVEN(a, b) + LENET5C_ODD(a, b));
    for (int f = 0; f < 4; f++) out[f] = sums[f];
    for (int i = 4; i < V; i += 4)
        for (int f = 0; f < 4; f++) out[f] += sums[i + f];
#else
    for (int f = 0; f < 4; f++) {
        store(sums + f * V, v[f]);
        out[f] = 0;
        for (int i = 0; i < V; i++) out[f] += sums[f * V + i];
    }
#endif
}

/* Up to V numbers, and zeros. */
INLINE vec LENET5C_SET(load_some)(const float *from, ptrdiff_t count)
{
    float some[V] = {0};
    memcpy(some, from, (size_t)count * sizeof(float));
    return load(some);
}

/* NF outputs of NX images, which lie `apart`: y[i][f] = bias + sum of w * x */
INLINE void LENET5C_SET(dot_tile)(const struct op *p, const float *x, const float *w,
    float *y, const ptrdiff_t apart, const int nx, const int nf)
{
    const ptrdiff_t taps = p->taps_t, next = 1 + taps;
    vec acc[LENET5C_DOTS][4], kept[LENET5C_DOTS];
    ptrdiff_t t = 0;
    LENET5C_UNROLL
    for (int i = 0; i < nx; i++) {
        LENET5C_UNROLL
        for (int f = 0; f < 4; f++) acc[i][f] = all(0);
    }
    for (; t <= taps - V; t += V) {
        LENET5C_UNROLL
        for (int i = 0; i < nx; i++) kept[i] = load(x + i * apart + t);
        LENET5C_UNROLL
        for (int f = 0; f < nf; f++) {
            const vec s = load(w + f * next + 1 + t);
            LENET5C_UNROLL
            for (int i = 0; i < nx; i++) acc[i][f] = FMA(kept[i], s, acc[i][f]);
        }
    }
    if (t < taps) {
        LENET5C_UNROLL
        for (int i = 0; i < nx; i++)
            kept[i] = LENET5C_SET(load_some)(x + i * apart + t, taps - t);
        LENET5C_UNROLL
        for (int f = 0; f < nf; f++) {
            const vec s = LENET5C_SET(load_some)(w + f * next + 1 + t, taps - t);
            LENET5C_UNROLL
            for (int i = 0; i < nx; i++) acc[i][f] = FMA(kept[i], s, acc[i][f]);
        }
    }
    LENET5C_UNROLL
    for (int i = 0; i < nx; i++) {
        float sums[4];
        LENET5C_SET(sum_four)(acc[i], sums);
        LENET5C_UNROLL
        for (int f = 0; f < nf; f++) {
            const float sum = w[f * next] + sums[f];
            y[i * apart + f] = sum < p->least ? p->least : sum;
        }
    }
}

#if defined(LENET5C_32_REGISTERS)
#define TILES(T) LENET5C_DOT_TILES(T) LENET5C_DOT_TILES_32(T)
#else
#define TILES LENET5C_DOT_TILES
#endif
#define TILE(nx, nf)                                                                       \
    LENET5C_TARGET static void LENET5C_SET(dot_tile_##nx##_##nf)(                          \
        const struct op *p, const float *x, const float *w, float *y, ptrdiff_t apart)     \
    {                                                                                      \
        LENET5C_SET(dot_tile)(p, x, w, y, apart, nx, nf);                                  \
    }
TILES(TILE)
#undef TILE

/* By the number of images and of outputs. */
#define TILE(nx, nf) [nx][nf] = LENET5C_SET(dot_tile_##nx##_##nf),
static dense_function *const LENET5C_SET(dot_tiles)[LENET5C_DOTS + 1][5] = {TILES(TILE)};
#undef TILE
#undef TILES

LENET5C_TARGET static void LENET5C_SET(run_dots)(
    const struct op *p, const float *x, float *y, int images, ptrdiff_t apart)
{
    const int outputs = p->pieces[0].count;
    int most = LENET5C_DOTS;
    while (!LENET5C_SET(dot_tiles)[most][4]) most--;
    for (int n = 0; n < images; n += most) {
        dense_function *const *tiles =
            LENET5C_SET(dot_tiles)[images - n < most ? images - n : most];
        const float *from = x + n * apart, *w = p->weights;
        float *to = y + n * apart;
        for (int f = 0; f < outputs; f += 4) {
            tiles[outputs - f < 4 ? outputs - f : 4](p, from, w, to + f, apart);
            w += 4 * (1 + p->taps_t);
        }
    }
    for (int n = 0; n < images; n++) {
        float *to = y + n * apart;
        for (ptrdiff_t f = outputs; f < p->y_row; f++) to[f] = 0;
        if (p->activation != NO_ACTIVATION)
            LENET5C_SET(activate)(to, p->y_row, p->activation);
    }
}
