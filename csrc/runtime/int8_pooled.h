/* A convolution of one channel by few filters, and the windows of 2x2 that follow it, in
 * one: lanes are columns, as filters would not fill registers. Included by int8_kernels.h
 * for each instruction set that has, of names that begin with LENET5C_POOL_,
 *
 *     GROUPS(x, odd)   a register of groups, for columns that it shares with another one:
 *                      so many that packing both gives the columns in order
 *     WORDS(p, a, b)   what follows two registers of sums, rescaled, in 16 bits
 *     WINDOWS(a, b)    sums of two columns of two rows of such numbers, in 32 bits
 *     LARGEST(a, b)    and the largest of them
 *     STORE(p, v, y)   V columns of as many registers as there are filters, as elements
 */

/* Loaded once, whatever the compiler thinks. */
#define LENET5C_IN_REGISTER(v) __asm__("" : "+v"(v))

LENET5C_TARGET static void LENET5C_SET(int8_pooled)(
    const struct int8_op *p, unsigned char *maps)
{
    enum {
        PAIRS = POOLED_COLUMNS / (2 * V), /* of registers, in a row */
        PARTS = 2 * PAIRS,
        AT_ONCE = V == 16 ? 3 : 1 /* filters */
    };
    const ptrdiff_t size = sizeof(ELEMENT), out_w = p->out_w / 2;
    const int groups = (p->kw + GROUP - 1) / GROUP, row = groups * PARTS;
    vec x[(POOLED_KERNEL + 1) * (POOLED_KERNEL / GROUP) * PARTS];
    vec pooled[PAIRS][POOLED_FILTERS + AT_ONCE];
    for (int i = 0; i < p->out_h / 2; i++)
        for (ptrdiff_t j = 0; j < out_w; j += POOLED_COLUMNS / 2) {
            const unsigned char *from = maps + p->x + 2 * (i * p->x_row + j * size);
            for (int r = 0; r <= p->kh; r++, from += p->x_row)
                for (int g = 0; g < groups; g++)
                    LENET5C_UNROLL for (int c = 0; c < PARTS; c++)
                        x[r * row + g * PARTS + c] = LENET5C_POOL_GROUPS(
                            from + (g * GROUP + c / 2 * 2 * V) * size, c % 2);
            for (int f = 0; f < p->filters; f += AT_ONCE) {
                const vec *of = x;
                const int32_t *w = p->weights + f;
                vec sums[AT_ONCE][2 * PARTS]; /* of two rows */
                LENET5C_UNROLL for (int k = 0; k < AT_ONCE; k++)
                    LENET5C_UNROLL for (int c = 0; c < 2 * PARTS; c++) sums[k][c] =
                        all(p->bias[f + k]);
                for (int r = 0; r < p->kh; r++, w += (p->groups - groups) * V)
                    for (int g = 0; g < groups; g++, w += V, of += PARTS) {
                        vec both[2 * PARTS];
                        LENET5C_UNROLL for (int c = 0; c < PARTS; c++)
                        {
                            both[c] = of[c];
                            both[PARTS + c] = of[row + c];
                        }
#if V == 16
                        LENET5C_UNROLL for (int c = 0; c < 2 * PARTS; c++)
                            LENET5C_IN_REGISTER(both[c]);
#endif
                        LENET5C_UNROLL for (int k = 0; k < AT_ONCE; k++)
                            LENET5C_UNROLL for (int c = 0; c < 2 * PARTS; c++)
                        {
                            sums[k][c] = LENET5C_DOT(sums[k][c], both[c], all(w[k]));
                            LENET5C_IN_REGISTER(sums[k][c]);
                        }
                    }
                LENET5C_UNROLL for (int k = 0; k < AT_ONCE; k++)
                {
                    const vec m = all(p->multiplier[f + k]);
                    LENET5C_UNROLL for (int c = 0; c < 2 * PARTS; c++) sums[k][c] =
                        LENET5C_POOL_RESCALE(sums[k][c], m, p->shift);
                    LENET5C_UNROLL for (int c = 0; c < PAIRS; c++)
                    {
                        const vec a =
                            LENET5C_POOL_WORDS(p, sums[k][2 * c], sums[k][2 * c + 1]);
                        const vec b = LENET5C_POOL_WORDS(
                            p, sums[k][PARTS + 2 * c], sums[k][PARTS + 2 * c + 1]);
                        pooled[c][f + k] = p->pooling == INT8_MAXIMUM
                                               ? LENET5C_POOL_LARGEST(a, b)
                                               : (LENET5C_POOL_WINDOWS(a, b) + 2) >> 2;
                    }
                }
            }
            for (int c = 0; c < PAIRS && j + c * V < out_w; c++)
                LENET5C_POOL_STORE(p, pooled[c],
                    maps + p->y + (i * out_w + j + c * V) * p->filters * size);
        }
}
#undef LENET5C_IN_REGISTER
