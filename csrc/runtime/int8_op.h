/* A network in 8-bit integers while it runs: docs/int8.md defines every bit.
 *
 * A map lies as [H][W][C], without gaps, in elements of one byte or two; an element is the
 * number plus `zero`. Dot products add up groups of 1, 2 or 4 elements in each lane; lanes
 * are filters, of one column or, where the filters are few, of several.
 */

enum int8_kind {
    INT8_CONV,
    INT8_SCALE,
    INT8_SUBSAMPLE,
    INT8_AVERAGE,
    INT8_MAXIMUM,
    INT8_ADD,
    INT8_RELU,
    INT8_LEAKY,
    INT8_TANH,
    INT8_TANH_SCALED,
    INT8_SIGMOID,
    INT8_FLATTEN,
    INT8_PAD,
    INT8_COPY,
    INT8_KINDS
};

enum {
    INT8_MOST = 127,
    INT8_TANH_ARGUMENTS = 799, /* tanh8 has as many of either sign, and 0 */
    INT8_MAX_SUM = 1 << 30,
    INT8_MAX_SHIFT = 62,
    INT8_MAX_WINDOW = 1 << 22, /* pixels: 511 times as many have 31 bits */
    INT8_SLACK = 128,          /* bytes after a map that may be read and written */
    POOLED_FILTERS = 8,        /* at most, where a convolution and its windows are one */
    POOLED_KERNEL = 8,
    POOLED_COLUMNS = 32 /* at a time */
};

struct int8_op;
typedef void int8_function(const struct int8_op *, unsigned char *maps);
typedef void int8_tile_function(const struct int8_op *, const unsigned char *x,
    const int32_t *weights, int block, unsigned char *y);

/* Columns of the output, or groups of `together` columns, by registers of filters. */
struct int8_tile {
    int columns, registers;
    int8_tile_function *run;
};

/* Steps are in bytes. */
struct int8_op {
    int8_function *run;
    size_t x, other, y;          /* where the maps lie in the workspace */
    int channels, height, width; /* of the input */
    int filters, out_h, out_w;   /* of the output */
    int kh, kw, stride, padding;
    int activation;                           /* an int8_kind, or -1 */
    int is_raw;                               /* writes scores, of 32 bits */
    int shift;                                /* 0: nothing is rescaled */
    const int32_t *multiplier, *bias, *scale; /* filled up to registers */
    const signed char *tanh8;
    /* convolution */
    const int32_t *weights;
    int rows, groups; /* of a kernel: rows, and groups of elements in each */
    int together;     /* columns in a register */
    int blocks;       /* registers of filters */
    ptrdiff_t x_row, x_column, y_column, y_row;
    ptrdiff_t block_weights; /* of a register of filters, in 32-bit numbers */
    const struct int8_tile *tile;
    int columns; /* in a row, or groups of columns */
    int pooling; /* the kind of the windows that are done with it */
};

struct int8_kernels;

/* What a model in integers has beside that. */
struct int8_model {
    const struct int8_kernels *kernels; /* NULL: it is one in floats */
    struct int8_op *ops;
    signed char *table; /* what bytes become, and what surrounds an image */
    signed char *tanh8; /* its middle, which is tanh8(0) */
    float unit;         /* of the scores */
    /* the workspace, in bytes: places for maps of that size, then one for a map with its
       padding, and scores as floats in whole registers */
    uint64_t place_size, padded, logits;
    size_t scores; /* where they lie: pixel by pixel, of so many channels */
    int channels, pixels;
};

struct int8_kernels {
    const char *name;
    int lanes, group, element, zero;
    const struct int8_tile *tiles;
    size_t tile_count;
    int8_function *const *run; /* by kind */
    int8_function *pooled;     /* or NULL */
    void (*read)(const uint8_t *pixels, ptrdiff_t step, unsigned char *x, int count,
        int channels, const signed char *table);
    void (*fill)(unsigned char *x, ptrdiff_t count, int number);
};
