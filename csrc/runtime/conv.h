/* Convolution: of a map within a border of zeros, by the part of the kernel that meets it.
 */

/* y = x, within a border of zeros */
static void run_padding(const struct op *p, const float *x, float *y)
{
    const int width = p->left + p->width + p->right;
    /* a row is C pieces of W in layout HCW, one of W * CP in HWC */
    const int pieces = p->hcw ? p->channels : 1, unit = p->hcw ? 1 : p->channels;
    const size_t left = (size_t)p->left * (size_t)unit;
    const size_t right = (size_t)p->right * (size_t)unit;
    const size_t inner = (size_t)p->width * (size_t)unit;
    const size_t row = (size_t)pieces * (size_t)width * (size_t)unit;
    memset(y, 0, (size_t)p->top * row * sizeof(float));
    y += (size_t)p->top * row;
    for (int i = 0; i < p->height * pieces; i++) {
        memset(y, 0, left * sizeof(float));
        memcpy(y + left, x, inner * sizeof(float));
        memset(y + left + inner, 0, right * sizeof(float));
        x += inner;
        y += left + inner + right;
    }
    memset(y, 0, (size_t)p->bottom * row * sizeof(float));
}

static void add_padding(struct planner *plan, int top, int bottom, int left, int right)
{
    struct op *op = add_op(plan, run_padding);
    op->top = top;
    op->bottom = bottom;
    op->left = left;
    op->right = right;
    set_map(plan, plan->channels, plan->height + top + bottom, plan->width + left + right,
        plan->hcw, 0);
}

/* The part of a kernel that meets the map, in one direction; what of the padding is left
 * before the map, and behind it. */
static void trim(int kernel, int size, int padding, int stride, int *first, int *count,
    int *before, int *behind)
{
    const int outputs = (size + 2 * padding - kernel) / stride + 1;
    const int64_t reach = (int64_t)(outputs - 1) * stride;
    *first = padding > reach ? (int)(padding - reach) : 0;
    *count = (kernel < size + padding ? kernel : size + padding) - *first;
    if (*count < 1) { /* it meets the padding alone */
        *first = 0;
        *count = kernel;
    }
    *before = padding - *first;
    *behind = reach + *count > *before + size ? (int)(reach + *count - *before - size) : 0;
}

static int read_conv(const struct options *given, struct layer *layer)
{
    const struct text *value = given->values;
    int sizes[2];
    if (get_size(value[KERNEL_SIZE], 1, &sizes[0]))
        sizes[1] = sizes[0];
    else if (get_sizes(value[KERNEL_SIZE], 1, 2, sizes) != 2)
        return 0;
    layer->kh = sizes[0];
    layer->kw = sizes[1];
    if (given->seen & BIT(CONNECTIONS)) {
        layer->connections = value[CONNECTIONS];
        layer->has_table = begins_with(layer->connections, '[');
        if (!layer->has_table && !begins_with(layer->connections, 'n')) return 0;
    }
    layer->bias = !(given->seen & BIT(BIAS)) || begins_with(value[BIAS], 't');
    return get_size(value[FILTERS], 1, &layer->filters) &&
           get_size(value[STRIDE], 1, &layer->stride) &&
           get_size(value[PADDING], 0, &layer->padding) && is_init(value[INIT]) &&
           (layer->bias || begins_with(value[BIAS], 'f'));
}

/* The table of connections: which channels each filter lists, ascending. How many pairs
 * there are, or -1; `begins` and `listed` are filled, unless they are NULL. */
static int read_table(const struct layer *layer, int channels, int *begins, int *listed)
{
    struct text table = layer->connections, row, item;
    int first = 1, filters = 0, pairs = 0;
    for (; next_item(&table, &first, NULL, &row); filters++) {
        int start = 1, last = -1, channel;
        if (filters == layer->filters || !begins_with(row, '[')) return -1;
        if (begins) begins[filters] = pairs;
        for (; next_item(&row, &start, NULL, &item); pairs++) {
            if (!get_size(item, last + 1, &channel) || channel >= channels) return -1;
            last = channel;
            if (listed) listed[pairs] = channel;
        }
        if (last < 0) return -1;
    }
    if (begins) begins[filters] = pairs;
    return filters == layer->filters ? pairs : -1;
}

/* The table of a layer that has one; the number of pairs, or -1. It is read twice, since
 * memory is taken by the number of pairs. Weights that are not listed are packed as zeros,
 * and multiplied: lanes are filters, which read different channels. */
static int find_pairs(
    struct planner *plan, const struct layer *layer, struct parameters *of)
{
    const int64_t all = (int64_t)of->filters * of->channels;
    int *begins, *listed, pairs;
    if (all > MAX_FLOATS / of->kh / of->kw) return -1;
    pairs = read_table(layer, of->channels, NULL, NULL);
    if (pairs < 0) return -1;
    begins = take(plan, ((uint64_t)of->filters + 1) * sizeof *begins);
    listed = take(plan, (uint64_t)pairs * sizeof *listed);
    if (begins) read_table(layer, of->channels, begins, listed);
    of->begins = begins;
    of->listed = listed;
    return pairs;
}

static int plan_conv(struct planner *plan, const struct layer *layer)
{
    const int channels = plan->channels, height = plan->height, width = plan->width;
    const int border = 2 * layer->padding;
    int shape[] = {layer->filters, channels, layer->kh, layer->kw};
    const int *const sizes = layer->has_table ? shape + 1 : shape;
    struct parameters of = {.file = plan->file,
        .filters = layer->filters,
        .channels = channels,
        .kh = layer->kh,
        .kw = layer->kw};
    int above, below, left, right;
    if (layer->kh > height + border || layer->kw > width + border) return 0;
    if (!is_map(layer->filters, (height + border - layer->kh) / layer->stride + 1,
            (width + border - layer->kw) / layer->stride + 1))
        return 0;
    if (border > 0 || layer->kh != height || layer->kw != width) {
        const int64_t rows = height + border, columns = width + border + layer->kw;
        if (columns > MAX_PADDED / rows / channels) return 0;
    }
    if (layer->has_table) {
        shape[1] = find_pairs(plan, layer, &of);
        if (shape[1] < 0) return 0;
    }
    if (!find_parameters(plan, layer, sizes, layer->has_table ? 3 : 4, &of) ||
        !fold_norm(plan, layer->norm, &of))
        return 0;
    trim(layer->kh, height, layer->padding, layer->stride, &of.top, &of.rows, &above,
        &below);
    trim(layer->kw, width, layer->padding, layer->stride, &of.left, &of.columns, &left,
        &right);
    if (above + below + left + right > 0) add_padding(plan, above, below, left, right);
    add_product(plan, &of, layer->stride);
    return 1;
}

static const struct kind conv2d_kind = {
    .name = "conv2d",
    .options = BIT(FILTERS) | BIT(KERNEL_SIZE) | BIT(STRIDE) | BIT(PADDING) | BIT(INIT),
    .added = BIT(BIAS) | BIT(CONNECTIONS),
    .read = read_conv,
    .plan = plan_conv,
    .takes_norm = 1,
};
