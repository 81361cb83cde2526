/* Part of kernels.h: pooling. */

/* y[oy][ox][c] = mean or maximum over the window; lanes are channels */
LENET5C_TARGET static void LENET5C_SET(run_pool_hwc)(
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

/* y[oy][c][ox] = mean or maximum over the window; layout HCW */
LENET5C_TARGET static void LENET5C_SET(run_pool_hcw)(
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
