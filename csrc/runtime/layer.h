/* What all kinds of layers share: the options in the file, and what a kind is. */

enum option {
    NAME,
    KIND,
    INIT,
    STRIDE,
    KERNEL_SIZE,
    FILTERS,
    PADDING,
    OUTPUTS,
    RATE,
    BIAS,
    CONNECTIONS,
    MOMENTUM,
    EPS,
    SLOPE,
    LAYERS,
    SHORTCUT,
    OPTION_COUNT
};

#define BIT(option) (1u << (option))

static const char *const option_names[] = {"name", "kind", "init", "stride", "kernel_size",
    "filters", "padding", "outputs", "rate", "bias", "connections", "momentum", "eps",
    "slope", "layers", "shortcut", NULL};
_Static_assert(sizeof option_names / sizeof *option_names == OPTION_COUNT + 1,
    "each option has its name");

/* The options of a layer as the file has them. */
struct options {
    unsigned seen; /* a bit each */
    struct text values[OPTION_COUNT];
};

struct layer;

/* A kind of layer, which kinds.def lists: a file has all of it. The functions return 0 for
 * what does not fit. */
struct kind {
    const char *name;
    unsigned options; /* those that it has beside name and kind, a bit each */
    unsigned added;   /* those that may be missing: older files do not know them */
    int (*read)(
        const struct options *, struct layer *); /* NULL: there is nothing to read */
    int (*plan)(struct planner *, const struct layer *);
    int takes_flat; /* reads what Flatten has left where it was */
    int takes_norm; /* a batch normalisation after it is folded into its weights */
    int reshapes;   /* computes nothing */
};

/* A layer's options, as far as it has them. */
struct layer {
    const struct kind *kind;
    struct text name, layers, shortcut, connections;
    int has_table; /* whether there are connections */
    int filters, kh, kw, stride, padding, bias;
    double eps, slope;
    const struct layer *norm; /* the batch normalisation that is folded into it, or NULL */
};

static int is_init(struct text t)
{
    return begins_with(t, 'n') || string_is(t, "glorot") || string_is(t, "he") ||
           string_is(t, "lecun") || string_is(t, "lecun-1998");
}

/* Whether it can name a layer. */
static int is_name(struct text t)
{
    const int length = begins_with(t, '"') ? string_length(t) : 0;
    return length >= 1 && length <= MAX_NAME;
}

/* Whether it is a share of one, below it. */
static int is_rate(struct text t)
{
    double rate;
    return get_number(t, &rate) && rate >= 0 && rate < 1;
}
