/* What a network is while it runs: ops, one after the other, each of which reads a map and
 * writes one; and the kernels of an instruction set, which do their arithmetic.
 */

enum activation { NO_ACTIVATION, TANH, RELU, SIGMOID, SCALED_TANH };

struct op;
typedef void tile_function(const struct op *, const float *, const float *, float *);

enum {
#if defined(LENET5C_BARE)
    TOGETHER = 1, /* images that dense layers take at once */
#else
    TOGETHER = 8,
#endif
    FEW_WEIGHTS = 1 << 17, /* in floats: they stay in a cache from one image to the next */
    DENSE_REGISTERS = 5    /* a dense layer with fewer has several sums for each output */
};

/* As a tile_function, for images that lie `apart`. */
typedef void dense_function(
    const struct op *, const float *, const float *, float *, ptrdiff_t apart);

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
    void (*run_dense)(/* or NULL; the maps of its images lie `apart` */
        const struct op *, const float *x, float *y, int images, ptrdiff_t apart);
    ptrdiff_t x, y; /* where the maps lie in the workspace */
    int activation;
    float least;                 /* of what products write: 0 for a ReLU, else -infinity */
    float slope;                 /* of a leaky ReLU */
    int channels, height, width; /* of the input; CP channels in layout HWC */
    int out_h, out_w;
    int window, maximum, stride;
    int hcw;                      /* layout of the maps: HCW, or else HWC */
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
    void (*run_dense)(const struct op *, const float *, float *, int, ptrdiff_t);
    void (*run_dots)(const struct op *, const float *, float *, int, ptrdiff_t);
    void (*run_pool_hwc)(const struct op *, const float *, float *);
    void (*run_pool_hcw)(const struct op *, const float *, float *);
    void (*run_activation)(const struct op *, const float *, float *);
    void (*run_sum)(const struct op *, const float *, float *);
    void (*run_radial_basis)(const struct op *, const float *, float *);
    void (*run_scale)(const struct op *, const float *, float *);
    void (*fill)(float *, ptrdiff_t, float);
    void (*scale_bytes)(const uint8_t *, ptrdiff_t, float *, int, float, float);
    void (*scale_floats)(const float *, ptrdiff_t, float *, int, float, float);
    int (*are_within)(const float *, ptrdiff_t, ptrdiff_t, float, float);
    void (*softmax)(float *, int, float);
};
