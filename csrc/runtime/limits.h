/* What a model file may hold at most, and what the memory of a model keeps to. */

enum {
    DIGITS = 8 + 27, /* where the SHA-256 lies in the file */
    MIN_HEADER = 27 + 64,
    MAX_HEADER = 1 << 24,
    /* of a map, and of all parameters; filled up to registers they fit a ptrdiff_t */
    MAX_FLOATS = sizeof(size_t) > 4 ? 1 << 28 : 1 << 24,
    MAX_PADDED = sizeof(size_t) > 4 ? INT32_MAX : MAX_FLOATS,
    MAX_SIDE = 1 << 20, /* any size that a layer is given */
    MAX_DIMENSIONS = 8,
    MAX_NESTED = 8,                 /* residual layers inside of each other */
    MAX_DEPTH = 5 + 2 * MAX_NESTED, /* of JSON: network, layers, layer, table, filter */
    MAX_MAPS = 2 * MAX_NESTED + 4,  /* alive at a time */
    MAX_NAME = 64,
    MAX_TOGETHER = 1 << 20,   /* floats of the workspace, for more than one image */
    MAX_CHARACTERS = 1 << 26, /* of labels, each as long as the longest */
    ALIGNMENT = 64
};

#define ROUNDING 1e-5 /* how far outside of 0 to 1 a float may lie */
