/* The steps of a network in 8-bit integers, as the file has them: docs/model_file.md says
 * what is refused.
 */

static const char *const int8_kind_names[INT8_KINDS] = {"conv", "scale", "subsample",
    "avg_pool", "max_pool", "add", "relu", "leaky", "tanh", "tanh_scaled", "sigmoid",
    "flatten", "", "" /* padding and copying are part of other steps */};

enum int8_key {
    INT8_KIND,
    INT8_NAME,
    INT8_LAST,
    INT8_FROM,
    INT8_TO,
    INT8_FILTERS,
    INT8_KERNEL,
    INT8_STRIDE,
    INT8_PADDING,
    INT8_ACTIVATION,
    INT8_SHIFT,
    INT8_SLOPE,
    INT8_UNIT
};

static const char *const int8_keys[] = {"kind", "name", "last", "from", "to", "filters",
    "kernel", "stride", "padding", "activation", "shift", "slope", "unit", NULL};

struct int8_planner {
    struct planner *plan; /* memory, names, tensors */
    const struct int8_kernels *kernels;
    struct { /* a place for maps, and what lies there: nothing yet, if it has no channels */
        int channels, height, width;
    } places[MAX_MAPS];
    int place_count;
    uint64_t most;   /* bytes of the largest map */
    uint64_t padded; /* and of one that is padded */
};

static int32_t int32_at(const unsigned char *bytes, ptrdiff_t k)
{
    const unsigned char *p = bytes + 4 * k;
    const uint32_t bits =
        (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | (uint32_t)p[0];
    int32_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int int8_at(const unsigned char *bytes, ptrdiff_t k)
{
    return bytes[k] < 128 ? bytes[k] : bytes[k] - 256;
}

/* The weights of a step, filter by filter. */
struct int8_weights {
    const struct packing *packing;
    const unsigned char *at; /* the next byte */
    unsigned rest;           /* of the one before it */
    int left, wrong;         /* weights in that; whether one was none */
};

static int next_weight(struct int8_weights *from, int is_last_of_filter)
{
    const struct packing *p = from->packing;
    int w;
    if (p->count == 1) {
        w = int8_at(from->at++, 0);
        from->wrong |= w < -INT8_MOST;
        return w;
    }
    if (!from->left) {
        from->rest = *from->at++;
        from->left = p->count;
    }
    w = (int)(from->rest % p->base) + p->least;
    from->rest /= p->base;
    from->left = is_last_of_filter ? 0 : from->left - 1;
    from->wrong |= w > p->most || (!from->left && from->rest);
    return w;
}

/* Where a tensor of the step begins in the file, if it has that shape; or NULL. */
static const unsigned char *int8_tensor(struct int8_planner *of, struct text name,
    const char *part, const char *dtype, const int *shape, int dimensions)
{
    const int64_t at = find_tensor_of(of->plan, name, part, dtype, shape, dimensions);
    return at < 0 ? NULL : of->plan->file->payload + at;
}

/* The same of weights (F, C, KH, KW), a filter of which is no larger than a map. */
static struct int8_weights find_weights(
    struct int8_planner *of, struct text name, const int *shape)
{
    struct int8_weights found = {.packing = &of->plan->file->packing};
    const int count = found.packing->count;
    const int packed[] = {shape[0], (shape[1] * shape[2] * shape[3] + count - 1) / count};
    found.at = count == 1 ? int8_tensor(of, name, ".weight", "I8", shape, 4)
                          : int8_tensor(of, name, ".weight", "U8", packed, 2);
    return found;
}

/* `count` multipliers, filled up with zeros; `together` times in a register. */
static int take_multipliers(
    struct int8_planner *of, struct int8_op *op, struct text name, int count, int together)
{
    const int shape[] = {count}, part = of->kernels->lanes / together;
    const unsigned char *from = int8_tensor(of, name, ".multiplier", "I32", shape, 1);
    const size_t size = 4 * ((size_t)count * (size_t)together + 8 * 16);
    int32_t *to = from ? take(of->plan, size) : NULL;
    op->multiplier = to;
    if (!to) return from != NULL;
    memset(to, 0, size);
    for (int f = 0; f < count; f++)
        for (int k = 0; k < together; k++) {
            int32_t *const m = &to[f / part * of->kernels->lanes + k * part + f % part];
            if ((*m = int32_at(from, f)) < 0) return 0;
        }
    return 1;
}

/* Write the weight of filter f at element `at` of row `row` of the kernel, for column k of
 * those that share a register. */
static void pack_int8_weight(const struct int8_kernels *kernels, const struct int8_op *op,
    int32_t *to, int f, int k, int row, ptrdiff_t at, int w)
{
    const int lanes = kernels->lanes, part = lanes / op->together;
    const ptrdiff_t group = (ptrdiff_t)row * op->groups + at / kernels->group;
    const int within = (int)(at % kernels->group);
    to += f / part * op->block_weights + group * lanes + k * part + f % part;
    if (kernels->group == 1)
        *to = w;
    else if (kernels->group == 2)
        ((int16_t *)(void *)to)[within] = (int16_t)w;
    else
        ((signed char *)to)[within] = (signed char)w;
}

/* The weights of a convolution, and its biases, less what the elements have too much. */
static int pack_int8(struct int8_planner *of, struct int8_op *op,
    struct int8_weights weights, const unsigned char *biases)
{
    const int lanes = of->kernels->lanes, part = lanes / op->together;
    const size_t size = 4 * (size_t)op->blocks * (size_t)op->block_weights;
    const size_t sums_size = 4 * (size_t)op->blocks * (size_t)lanes;
    int32_t *to = take(of->plan, size), *sums = take(of->plan, sums_size);
    op->weights = to;
    op->bias = sums;
    if (!to) return 1;
    memset(to, 0, size);
    memset(sums, 0, sums_size);
    for (int f = 0; f < op->filters; f++) {
        const int32_t b = int32_at(biases, f);
        int64_t sum = 0, magnitude = 0;
        uint32_t bits;
        for (int c = 0; c < op->channels; c++)
            for (int r = 0; r < op->kh; r++)
                for (int t = 0; t < op->kw; t++) {
                    const int w = next_weight(&weights,
                        c == op->channels - 1 && r == op->kh - 1 && t == op->kw - 1);
                    const ptrdiff_t before = op->rows == 1 ? (ptrdiff_t)r * op->kw : 0;
                    if (weights.wrong) return 0;
                    sum += w;
                    magnitude += w < 0 ? -w : w;
                    for (int k = 0; k < op->together; k++)
                        pack_int8_weight(of->kernels, op, to, f, k, op->rows == 1 ? 0 : r,
                            (before + t + (ptrdiff_t)k * op->stride) * op->channels + c, w);
                }
        if (INT8_MOST * magnitude > INT8_MAX_SUM || b > INT8_MAX_SUM || b < -INT8_MAX_SUM)
            return 0;
        bits = (uint32_t)b - (uint32_t)(of->kernels->zero * sum); /* sums wrap around */
        for (int k = 0; k < op->together; k++)
            memcpy(&sums[f / part * lanes + k * part + f % part], &bits, 4);
    }
    return 1;
}

/* The tile that does the columns of a row by so many registers of filters in the least
 * time, roughly: a cycle for a sum, of which there should be eight, a quarter for a
 * register that is loaded, and two more. */
static void choose_int8_tile(const struct int8_kernels *kernels, struct int8_op *op)
{
    const int part = kernels->lanes / op->together;
    const int blocks = (op->filters + part - 1) / part;
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < kernels->tile_count; i++) {
        const struct int8_tile *tile = &kernels->tiles[i];
        const int r = tile->registers, sums = tile->columns * r;
        const int64_t runs = (int64_t)((op->columns + tile->columns - 1) / tile->columns) *
                             ((blocks + r - 1) / r);
        const int64_t cost = runs * (4 * (sums < 8 ? 8 : sums) + tile->columns + r + 8);
        if (tile->columns > op->columns || cost >= least || (op->together > 1 && r > 1))
            continue;
        least = cost;
        op->tile = tile;
        op->blocks = (blocks + r - 1) / r * r;
    }
}

/* How many columns share a register: filters that are few leave room for several. Those of
 * the last register that the map lacks are computed from what lies behind it. */
static int int8_columns_together(
    const struct int8_kernels *kernels, const struct int8_op *op)
{
    int best = 1;
    double least = 0;
    for (int k = 1; k <= 4 && k <= op->out_w && k * op->filters <= kernels->lanes; k *= 2) {
        const int64_t elements = (op->kw + (int64_t)(k - 1) * op->stride) * op->channels;
        const double cost = (double)((elements + kernels->group - 1) / kernels->group) / k;
        const int64_t lacks = (int64_t)(round_up(op->out_w, k) - op->out_w) * op->stride *
                              op->channels * kernels->element;
        if (k == 1 || (cost < least && lacks + 4 <= INT8_SLACK)) {
            least = cost;
            best = k;
        }
    }
    return best;
}

static int plan_int8_conv(struct int8_planner *of, struct int8_op *op, struct text name)
{
    const struct int8_kernels *kernels = of->kernels;
    const int shape[] = {op->filters, op->channels, op->kh, op->kw};
    const int64_t width = op->width + 2 * (int64_t)op->padding;
    const int64_t height = op->height + 2 * (int64_t)op->padding;
    const int64_t padded = height * width * op->channels;
    const int covers = op->kw == width; /* then the rows of a kernel follow each other */
    const unsigned char *biases = int8_tensor(of, name, ".bias", "I32", shape, 1);
    const ptrdiff_t pixel = (ptrdiff_t)op->channels * kernels->element;
    struct int8_weights weights;
    int64_t elements;
    if (!biases) return 0;
    weights = find_weights(of, name, shape);
    if (!weights.at) return 0;
    if (op->padding > 0 && (uint64_t)padded > of->padded) of->padded = (uint64_t)padded;
    op->together = int8_columns_together(kernels, op);
    op->columns = (op->out_w + op->together - 1) / op->together;
    op->rows = covers ? 1 : op->kh;
    elements = (op->kw + (int64_t)(op->together - 1) * op->stride) * op->channels;
    if (covers) elements *= op->kh;
    op->groups = (int)((elements + kernels->group - 1) / kernels->group);
    op->block_weights = (ptrdiff_t)op->rows * op->groups * kernels->lanes;
    op->x_row = (ptrdiff_t)width * pixel;
    op->y_row = op->out_h > 1 ? op->x_row * op->stride : 0;
    op->x_column = op->columns > 1 ? op->together * op->stride * pixel : 0;
    op->y_column = (ptrdiff_t)op->filters * (op->is_raw ? 4 : kernels->element);
    choose_int8_tile(kernels, op);
    return pack_int8(of, op, weights, biases) &&
           (!op->shift || take_multipliers(of, op, name, op->filters, op->together));
}

/* What is done to each channel. */
static int plan_int8_scale(struct int8_planner *of, struct int8_op *op, struct text name)
{
    const int channels = op->channels, shape[] = {channels, 1, 1, 1};
    const size_t filled = 4 * ((size_t)channels + 16);
    struct int8_weights weights = find_weights(of, name, shape);
    const unsigned char *biases = int8_tensor(of, name, ".bias", "I32", shape, 1);
    int32_t *scale, *bias;
    if (!weights.at || !biases) return 0;
    op->scale = scale = take(of->plan, filled);
    op->bias = bias = take(of->plan, filled);
    if (scale) {
        memset(scale, 0, filled);
        memset(bias, 0, filled);
    }
    for (int c = 0; scale && c < channels; c++) {
        scale[c] = next_weight(&weights, 1);
        bias[c] = int32_at(biases, c);
        if (weights.wrong || bias[c] > INT8_MAX_SUM || bias[c] < -INT8_MAX_SUM ||
            (int64_t)op->kh * op->kw * INT8_MOST * (scale[c] < 0 ? -scale[c] : scale[c]) >
                INT8_MAX_SUM)
            return 0;
    }
    return take_multipliers(of, op, name, channels, 1);
}

static int int8_kind_of(struct text t)
{
    for (int k = 0; k < INT8_PAD; k++)
        if (string_is(t, int8_kind_names[k])) return k;
    return -1;
}

/* The numbers of one or two places that have a map. */
static int read_places(const struct int8_planner *of, struct text list, int *places)
{
    struct text item;
    int64_t place;
    int first = 1, count = 0;
    if (!begins_with(list, '[')) return 0;
    for (; next_item(&list, &first, NULL, &item); count++) {
        if (count == 2 || !get_whole(item, &place) || place < 0 || place >= MAX_MAPS ||
            !of->places[place].channels)
            return 0;
        places[count] = (int)place;
    }
    return count;
}

/* Whether the sizes of a step are those that its kind has; sets those of its output. */
static int size_int8(struct int8_op *op, int kind)
{
    const int is_pool =
        kind == INT8_AVERAGE || kind == INT8_MAXIMUM || kind == INT8_SUBSAMPLE;
    const int64_t border = 2 * (int64_t)op->padding;
    if (kind != INT8_CONV && !is_pool && (op->kh != 1 || op->kw != 1 || op->stride != 1))
        return 0;
    if (kind != INT8_CONV && kind != INT8_MAXIMUM && op->padding > 0) return 0;
    if (kind == INT8_MAXIMUM && (2 * op->padding > op->kh || 2 * op->padding > op->kw))
        return 0;
    if (op->kh > op->height + border || op->kw > op->width + border ||
        !is_map(op->channels, op->height + border, op->width + border))
        return 0;
    if (is_pool && kind != INT8_MAXIMUM && op->kh > INT8_MAX_WINDOW / op->kw) return 0;
    op->out_h = (int)((op->height + border - op->kh) / op->stride) + 1;
    op->out_w = (int)((op->width + border - op->kw) / op->stride) + 1;
    if (kind == INT8_FLATTEN) {
        op->out_h = op->out_w = 1;
        return op->filters == op->channels * op->height * op->width;
    }
    return (kind == INT8_CONV || op->filters == op->channels) &&
           is_map(op->filters, op->out_h, op->out_w);
}

static struct int8_op *add_int8_op(struct planner *plan, struct int8_op *spare)
{
    lenet5c_model *m = plan->model;
    m->op_count++;
    return plan->memory ? &m->int8.ops[m->op_count - 1] : spare;
}

/* A step: its op, and the one before it that pads its map. */
static int plan_int8_step(struct int8_planner *of, struct text t, int is_last)
{
    lenet5c_model *m = of->plan->model;
    struct text values[INT8_UNIT + 1];
    struct int8_op spare, *op, made = {0};
    double slope, unit;
    int64_t shift, to, filters;
    int kernel[2], places[2], count, kind, has_multiplier, takes_activation;
    uint64_t size;
    if (get_object(t, int8_keys, values) != (1u << (INT8_UNIT + 1)) - 1) return 0;
    kind = int8_kind_of(values[INT8_KIND]);
    count = read_places(of, values[INT8_FROM], places);
    if (kind < 0 || count != (kind == INT8_ADD ? 2 : 1) || !is_name(values[INT8_NAME]) ||
        !is_name(values[INT8_LAST]) || !get_whole(values[INT8_TO], &to) || to < 0 ||
        to >= MAX_MAPS || to == places[0] || (count == 2 && to == places[1]))
        return 0;
    if (!get_whole(values[INT8_FILTERS], &filters) || filters < 1 || filters > MAX_FLOATS ||
        get_sizes(values[INT8_KERNEL], 1, 2, kernel) != 2 ||
        !get_size(values[INT8_STRIDE], 1, &made.stride) ||
        !get_size(values[INT8_PADDING], 0, &made.padding) ||
        !get_whole(values[INT8_SHIFT], &shift) || !get_number(values[INT8_SLOPE], &slope) ||
        !(slope >= 0 && slope < 1) || !get_number(values[INT8_UNIT], &unit) ||
        !(unit >= (double)FLT_MIN && unit <= (double)FLT_MAX))
        return 0;
    add_name(of->plan, &of->plan->layers, values[INT8_NAME]);
    made.filters = (int)filters;
    made.channels = of->places[places[0]].channels;
    made.height = of->places[places[0]].height;
    made.width = of->places[places[0]].width;
    made.kh = kernel[0];
    made.kw = kernel[1];
    if (!size_int8(&made, kind)) return 0;
    if (count == 2 &&
        memcmp(&of->places[places[0]], &of->places[places[1]], sizeof of->places[0]) != 0)
        return 0;
    made.is_raw = is_last;
    made.shift = (int)shift;
    has_multiplier =
        !(kind == INT8_AVERAGE || kind == INT8_MAXIMUM || kind == INT8_RELU ||
            kind == INT8_FLATTEN || (kind == INT8_CONV && is_last && shift == 0));
    if (has_multiplier ? shift < 1 || shift > INT8_MAX_SHIFT : shift != 0) return 0;
    made.activation = -1;
    takes_activation = has_multiplier && (kind == INT8_CONV || kind == INT8_SCALE ||
                                             kind == INT8_SUBSAMPLE || kind == INT8_ADD);
    if (kind == INT8_TANH || kind == INT8_TANH_SCALED || kind == INT8_SIGMOID) {
        made.activation = kind;
    }
    if (!begins_with(values[INT8_ACTIVATION], 'n')) {
        const int activation = int8_kind_of(values[INT8_ACTIVATION]);
        if (!takes_activation ||
            (activation != INT8_TANH && activation != INT8_TANH_SCALED &&
                activation != INT8_SIGMOID && activation != INT8_RELU))
            return 0;
        made.activation = activation;
    }
    made.x = (size_t)(m->int8.place_size * (uint64_t)places[0]);
    made.other = count == 2 ? (size_t)(m->int8.place_size * (uint64_t)places[1]) : 0;
    made.y = (size_t)(m->int8.place_size * (uint64_t)to);
    made.tanh8 = m->int8.tanh8;
    made.run = of->kernels->run[kind];
    if (kind == INT8_CONV && made.padding > 0) {
        op = add_int8_op(of->plan, &spare);
        *op = made;
        op->run = of->kernels->run[INT8_PAD];
        op->y = (size_t)m->int8.padded;
        made.x = op->y;
    }
    if (kind == INT8_CONV ? !plan_int8_conv(of, &made, values[INT8_NAME])
        : kind == INT8_SCALE || kind == INT8_SUBSAMPLE
            ? !plan_int8_scale(of, &made, values[INT8_NAME])
            : has_multiplier && !take_multipliers(of, &made, values[INT8_NAME],
                                    kind == INT8_ADD ? 2 : 1, 1))
        return 0;
    *add_int8_op(of->plan, &spare) = made;
    size = (uint64_t)made.filters * (uint64_t)made.out_h * (uint64_t)made.out_w;
    if (is_last) size *= 4 / (unsigned)of->kernels->element; /* scores */
    if (size > of->most) of->most = size;
    of->places[to].channels = made.filters;
    of->places[to].height = made.out_h;
    of->places[to].width = made.out_w;
    if (to >= of->place_count) of->place_count = (int)to + 1;
    m->int8.scores = made.y;
    m->int8.channels = made.filters;
    m->int8.pixels = made.out_h * made.out_w;
    m->int8.unit = (float)unit;
    return 1;
}

/* Whether `pool`, which is the next op, can be done with `conv`: int8_pooled.h does. */
static int is_pooled(const struct int8_op *conv, const struct int8_op *pool)
{
    return conv->channels == 1 && conv->filters <= POOLED_FILTERS && conv->stride == 1 &&
           conv->kh <= POOLED_KERNEL && conv->kw <= POOLED_KERNEL &&
           conv->rows == conv->kh && conv->shift > 32 && pool->x == conv->y &&
           pool->kh == 2 && pool->kw == 2 && pool->stride == 2 && pool->padding == 0 &&
           !pool->is_raw;
}

/* Whether ops from n on need what op `last` writes. */
static int is_read_later(const lenet5c_model *m, int last, int n)
{
    const size_t y = m->int8.ops[last].y;
    for (; n < m->op_count; n++) {
        const struct int8_op *op = &m->int8.ops[n];
        if (op->x == y || (op->run == m->int8.kernels->run[INT8_ADD] && op->other == y))
            return 1;
        if (op->y == y) return 0;
    }
    return 0;
}

/* Convolutions and their windows become one op, and a copy to where the map should lie. */
static void join_pooled(lenet5c_model *m)
{
    const struct int8_kernels *kernels = m->int8.kernels;
    for (int n = 0; kernels->pooled && n + 1 < m->op_count; n++) {
        struct int8_op *op = &m->int8.ops[n], *pool = op + 1;
        const int kind = pool->run == kernels->run[INT8_AVERAGE]   ? INT8_AVERAGE
                         : pool->run == kernels->run[INT8_MAXIMUM] ? INT8_MAXIMUM
                                                                   : -1;
        if (op->run != kernels->run[INT8_CONV] || kind < 0 || !is_pooled(op, pool) ||
            is_read_later(m, n, n + 2))
            continue;
        op->run = kernels->pooled;
        op->pooling = kind;
        pool->run = kernels->run[INT8_COPY];
    }
}

static uint64_t int8_room(uint64_t bytes) { return (bytes + INT8_SLACK + 63) / 64 * 64; }

static int plan_int8(struct planner *plan)
{
    static const char *const keys[] = {"input_shape", "steps", NULL};
    static const int table_shape[] = {257};
    const struct text nobody = {0};
    lenet5c_model *m = plan->model;
    struct int8_planner of = {.plan = plan, .kernels = choose_int8_kernels()};
    struct text values[2], steps, item;
    const unsigned char *table;
    signed char *tanh8;
    int sizes[3], first = 1;
    int64_t table_at;
    uint64_t element = (uint64_t)of.kernels->element;
    m->int8.kernels = of.kernels;
    if (get_object(plan->file->network, keys, values) != 3 ||
        !begins_with(values[1], '[') || get_sizes(values[0], 1, 3, sizes) != 3 ||
        !is_map(sizes[0], sizes[1], sizes[2]))
        return LENET5C_BAD_NETWORK;
    m->input.channels = of.places[0].channels = sizes[0];
    m->input.height = of.places[0].height = sizes[1];
    m->input.width = of.places[0].width = sizes[2];
    of.place_count = 1;
    of.most = (uint64_t)sizes[0] * (uint64_t)sizes[1] * (uint64_t)sizes[2];
    tanh8 = take(plan, 2 * INT8_TANH_ARGUMENTS + 1);
    m->int8.tanh8 = tanh8 ? tanh8 + INT8_TANH_ARGUMENTS : NULL;
    for (int t = -INT8_TANH_ARGUMENTS; tanh8 && t <= INT8_TANH_ARGUMENTS; t++)
        tanh8[t + INT8_TANH_ARGUMENTS] = tanh8_of(t);
    take_names(plan, &plan->layers, count_layers(values[1]));
    if (!index_tensors(plan)) return LENET5C_BAD_NETWORK;
    table_at = find_tensor_of(plan, nobody, "table", "I8", table_shape, 1);
    if (table_at < 0) return LENET5C_BAD_NETWORK;
    table = plan->file->payload + table_at;
    m->int8.table = take(plan, 257);
    for (int b = 0; m->int8.table && b < 257; b++) {
        m->int8.table[b] = (signed char)int8_at(table, b);
        if (m->int8.table[b] < -INT8_MOST) return LENET5C_BAD_VALUE;
    }
    steps = values[1];
    while (next_item(&steps, &first, NULL, &item)) {
        struct text rest = steps, after;
        int start = 0;
        if (!plan_int8_step(&of, item, !next_item(&rest, &start, NULL, &after)))
            return LENET5C_BAD_NETWORK;
    }
    if (!m->op_count || (plan->memory && !sort_names(&plan->layers)) ||
        plan->parameters != plan->file->tensors ||
        plan->payload_size != plan->file->payload_size)
        return LENET5C_BAD_NETWORK;
    if (plan->memory) join_pooled(m);
    plan->channels = m->int8.channels * m->int8.pixels;
    m->int8.place_size = int8_room(of.most * element);
    m->int8.padded = m->int8.place_size * (uint64_t)of.place_count;
    m->int8.logits = m->int8.padded + (of.padded ? int8_room(of.padded * element) : 0);
    m->workspace = m->int8.logits / 4 + (uint64_t)round_up(plan->channels, 16);
    return LENET5C_OK;
}
