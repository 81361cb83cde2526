/* Batch normalisation: folded into the product before it, or an op of its own. */

/* By Newton's method, from above; bare machines have no library. */
static double square_root(double x)
{
    double root = x > 1 ? x : 1, next;
    if (!(x > 0)) return x < 0 ? (x - x) / 0.0 : 0; /* not a number */
    while ((next = (root + x / root) / 2) < root) root = next;
    return root;
}

/* Where the tensors of a batch normalisation of so many channels lie. */
struct norm {
    int64_t weight, bias, mean, variance;
    double eps;
};

static int find_norm(
    struct planner *plan, const struct layer *layer, int channels, struct norm *norm)
{
    norm->weight = find_tensor(plan, layer->name, ".weight", &channels, 1);
    norm->bias = find_tensor(plan, layer->name, ".bias", &channels, 1);
    norm->mean = find_tensor(plan, layer->name, ".running_mean", &channels, 1);
    norm->variance = find_tensor(plan, layer->name, ".running_var", &channels, 1);
    norm->eps = layer->eps;
    if (norm->weight < 0 || norm->bias < 0 || norm->mean < 0 || norm->variance < 0)
        return 0;
    for (int c = 0; plan->memory && c < channels; c++)
        if (payload_float(plan->file, norm->variance + c) < 0) return 0;
    return 1;
}

/* The normalisation of channel c as a scale, and a shift after it. */
static void get_scale(
    const struct file *file, const struct norm *norm, int c, double *scale, double *shift)
{
    const double variance = (double)payload_float(file, norm->variance + c) + norm->eps;
    *scale = (double)payload_float(file, norm->weight + c) / square_root(variance);
    *shift = (double)payload_float(file, norm->bias + c) -
             (double)payload_float(file, norm->mean + c) * *scale;
}

/* The scales and shifts of the batch normalisation `after`, if there is one, for the
 * weights of a layer; 0 if it does not fit. */
static int fold_norm(struct planner *plan, const struct layer *after, struct parameters *of)
{
    struct norm norm;
    double *values;
    if (!after) return 1;
    if (!find_norm(plan, after, of->filters, &norm)) return 0;
    values = take(plan, 2 * (uint64_t)of->filters * sizeof *values);
    for (int f = 0; values && f < of->filters; f++)
        get_scale(plan->file, &norm, f, &values[f], &values[of->filters + f]);
    of->norm = values;
    return 1;
}

static int read_norm(const struct options *given, struct layer *layer)
{
    return is_rate(given->values[MOMENTUM]) &&
           get_number(given->values[EPS], &layer->eps) && layer->eps > 0 && layer->eps < 1;
}

/* An op that scales and shifts channels, by zeros so far: where its scales are to go, and
 * `shifts` behind them, or NULL. */
static float *add_scale(struct planner *plan, ptrdiff_t *shifts)
{
    struct op *op = add_op(plan, plan->model->kernels->run_scale);
    float *values;
    op->size = *shifts = round_up(plan->channels, plan->model->kernels->lanes);
    op->weights = values = take(plan, 2 * (uint64_t)op->size * sizeof *values);
    if (values) memset(values, 0, 2 * (size_t)op->size * sizeof *values);
    set_same_map(plan);
    plan->may_activate = 1;
    return values;
}

/* A batch normalisation that comes after something else than a product. */
static int plan_norm(struct planner *plan, const struct layer *layer)
{
    struct norm norm;
    double scale, shift;
    ptrdiff_t shifts;
    float *values;
    if (!find_norm(plan, layer, plan->channels, &norm)) return 0;
    values = add_scale(plan, &shifts);
    for (int c = 0; values && c < plan->channels; c++) {
        get_scale(plan->file, &norm, c, &scale, &shift);
        values[c] = (float)scale;
        values[shifts + c] = (float)shift;
    }
    return 1;
}

static const struct kind batch_norm2d_kind = {
    .name = "batch_norm2d",
    .options = BIT(MOMENTUM) | BIT(EPS),
    .read = read_norm,
    .plan = plan_norm,
};
