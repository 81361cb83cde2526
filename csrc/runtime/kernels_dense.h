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
    vec acc[LENET5C_MAX_DENSE_TILE], kept[LENET5C_MAX_IMAGES];
    LENET5C_UNROLL
    for (int f = 0; f < nv; f++) {
        LENET5C_UNROLL
        for (int i = 0; i < nx; i++) acc[i * nv + f] = load(w + f * next);
    }
    for (ptrdiff_t t = 0; t < taps; t++) {
        w += V;
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
        for (int f = 0; f < nv; f++) store(y + i * apart + f * V, acc[i * nv + f]);
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
