/* What float32.c and int8.c have in common; a map is of `digits_number`. */

#if defined(__clang__)
#define DIGITS_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__) && __GNUC__ >= 8
#define DIGITS_UNROLL _Pragma("GCC unroll 32")
#else
#define DIGITS_UNROLL
#endif

/* Functions are inlined where they are called: the sizes of a layer are constants there. */
#if defined(__GNUC__)
#define DIGITS_INLINE static inline __attribute__((always_inline))
#else
#define DIGITS_INLINE static inline
#endif

/* The map x [H][W][C] with zeros on all four sides. */
DIGITS_INLINE void digits_pad(const digits_number *x, digits_number *y, const int c,
    const int h, const int w, const int padding)
{
    const int wide = w + 2 * padding;
    for (int i = 0; i < (h + 2 * padding) * wide * c; i++) y[i] = 0;
    for (int i = 0; i < h; i++)
        for (int k = 0; k < w * c; k++)
            y[((i + padding) * wide + padding) * c + k] = x[i * w * c + k];
}

/* The map x [P][C], its P pixels in one row, in the order [C][P]. */
DIGITS_INLINE void digits_flatten(
    const digits_number *x, digits_number *y, const int p, const int c)
{
    for (int j = 0; j < c; j++)
        for (int i = 0; i < p; i++) y[j * p + i] = x[i * c + j];
}

/* Maxima of K x K windows of the map x [H][W][C]. */
DIGITS_INLINE void digits_max_pool(const digits_number *x, digits_number *y, const int c,
    const int w, const int size, const int stride, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c)
            for (int j = 0; j < c; j++) {
                digits_number most = x[(i * w + k) * stride * c + j];
                for (int r = 0; r < size; r++)
                    for (int t = 0; t < size; t++) {
                        const digits_number now =
                            x[((i * stride + r) * w + k * stride + t) * c + j];
                        most = most < now ? now : most;
                    }
                y[j] = most;
            }
}

/* Maxima of what lies within the map x [H][W][C] of K x K windows. */
DIGITS_INLINE void digits_max_pool_padded(const digits_number *x, digits_number *y,
    const int c, const int h, const int w, const int size, const int stride,
    const int padding, const int oh, const int ow)
{
    for (int i = 0; i < oh; i++)
        for (int k = 0; k < ow; k++, y += c) {
            const int top = i * stride - padding, left = k * stride - padding;
            const int r0 = top < 0 ? 0 : top, t0 = left < 0 ? 0 : left;
            const int r1 = top + size < h ? top + size : h;
            const int t1 = left + size < w ? left + size : w;
            for (int j = 0; j < c; j++) y[j] = x[(r0 * w + t0) * c + j];
            for (int r = r0; r < r1; r++)
                for (int t = t0; t < t1; t++)
                    for (int j = 0; j < c; j++) {
                        const digits_number now = x[(r * w + t) * c + j];
                        y[j] = y[j] < now ? now : y[j];
                    }
        }
}
