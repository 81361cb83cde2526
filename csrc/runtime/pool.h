/* Pooling: mean or maximum of a window that moves, and the mean of a whole map; and
 * subsampling, a mean that is scaled. */

/* y[oy][ox][c] or y[oy][c][ox] = maximum over what of the window lies within the map */
static void run_padded_pool(const struct op *p, const float *x, float *y)
{
    const ptrdiff_t to_column = p->hcw ? 1 : p->channels;
    const ptrdiff_t to_channel = p->hcw ? p->out_w : 1;
    for (int row = 0; row < p->out_h; row++) {
        const int top = row * p->stride - p->top, below = top + p->window;
        const int first = top > 0 ? top : 0, end = below < p->height ? below : p->height;
        for (int column = 0; column < p->out_w; column++) {
            const int left = column * p->stride - p->left, right = left + p->window;
            const int from = left > 0 ? left : 0, to = right < p->width ? right : p->width;
            float *out = y + column * to_column;
            for (int c = 0; c < p->channels; c++)
                out[c * to_channel] =
                    x[first * p->step_a + from * p->step_t + c * p->x_channel];
            for (int h = first; h < end; h++)
                for (int w = from; w < to; w++) {
                    const float *at = x + h * p->step_a + w * p->step_t;
                    for (int c = 0; c < p->channels; c++) {
                        const float now = at[c * p->x_channel];
                        float *most = out + c * to_channel;
                        *most = *most > now ? *most : now;
                    }
                }
        }
        y += p->out_w * (ptrdiff_t)p->channels;
    }
}

/* y[c] = mean of channel c, and zeros up to a whole register */
static void run_global_pool(const struct op *p, const float *x, float *y)
{
    const float share = 1 / (float)(p->height * p->width);
    memset(y, 0, (size_t)p->size * sizeof(float));
    for (int h = 0; h < p->height; h++)
        for (int w = 0; w < p->width; w++) {
            const float *at = x + h * p->step_a + w * p->step_t;
            for (int c = 0; c < p->channels; c++) y[c] += at[c * p->x_channel];
        }
    for (int c = 0; c < p->channels; c++) y[c] *= share;
}

static void set_map_steps(const struct planner *plan, struct op *op)
{
    op->step_a = op->channels * (ptrdiff_t)op->width;
    op->step_t = plan->hcw ? 1 : op->channels;
    op->x_channel = plan->hcw ? op->width : 1;
}

static int read_pool(const struct options *given, struct layer *layer)
{
    const struct text *value = given->values;
    if (!get_size(value[KERNEL_SIZE], 1, &layer->kh)) return 0;
    if (begins_with(value[STRIDE], 'n'))
        layer->stride = layer->kh;
    else if (!get_size(value[STRIDE], 1, &layer->stride))
        return 0;
    return !(given->seen & BIT(PADDING)) || (get_size(value[PADDING], 0, &layer->padding) &&
                                                2 * layer->padding <= layer->kh);
}

static int plan_pool(struct planner *plan, const struct layer *layer, int maximum)
{
    const struct kernels *k = plan->model->kernels;
    const int window = layer->kh, stride = layer->stride, padding = layer->padding;
    const int height = plan->height + 2 * padding, width = plan->width + 2 * padding;
    const int hcw = plan->hcw;
    struct op *op;
    if (window > height || window > width ||
        !is_map(
            plan->channels, (height - window) / stride + 1, (width - window) / stride + 1))
        return 0;
    op = add_op(plan, padding > 0 ? run_padded_pool
                      : hcw       ? k->run_pool_hcw
                                  : k->run_pool_hwc);
    op->window = window;
    op->maximum = maximum;
    op->stride = stride;
    op->top = op->left = padding;
    set_map_steps(plan, op);
    op->out_h = (height - window) / stride + 1;
    op->out_w = (width - window) / stride + 1;
    set_steps(op, stride);
    set_map(plan, plan->channels, op->out_h, op->out_w, hcw, 0);
    return 1;
}

static int plan_avg_pool(struct planner *plan, const struct layer *layer)
{
    return plan_pool(plan, layer, 0);
}

static int plan_subsampling(struct planner *plan, const struct layer *layer)
{
    const int channels = plan->channels;
    const float area = (float)layer->kh * (float)layer->kh;
    const int64_t weight = find_tensor(plan, layer->name, ".weight", &channels, 1);
    const int64_t bias = find_tensor(plan, layer->name, ".bias", &channels, 1);
    ptrdiff_t shifts;
    float *values;
    if (weight < 0 || bias < 0 || !plan_pool(plan, layer, 0)) return 0;
    values = add_scale(plan, &shifts);
    for (int c = 0; values && c < channels; c++) {
        values[c] = payload_float(plan->file, weight + c) * area;
        values[shifts + c] = payload_float(plan->file, bias + c);
    }
    return 1;
}

static int plan_max_pool(struct planner *plan, const struct layer *layer)
{
    return plan_pool(plan, layer, 1);
}

static int plan_global_pool(struct planner *plan, const struct layer *layer)
{
    struct op *op = add_op(plan, run_global_pool);
    (void)layer;
    set_map_steps(plan, op);
    op->channels = plan->channels;
    op->size = (ptrdiff_t)set_map(plan, plan->channels, 1, 1, 0, 0);
    return 1;
}

static const struct kind avg_pool2d_kind = {
    .name = "avg_pool2d",
    .options = BIT(KERNEL_SIZE) | BIT(STRIDE),
    .read = read_pool,
    .plan = plan_avg_pool,
};

static const struct kind subsampling2d_kind = {
    .name = "subsampling2d",
    .options = BIT(KERNEL_SIZE) | BIT(STRIDE),
    .read = read_pool,
    .plan = plan_subsampling,
};

static const struct kind max_pool2d_kind = {
    .name = "max_pool2d",
    .options = BIT(KERNEL_SIZE) | BIT(STRIDE),
    .added = BIT(PADDING),
    .read = read_pool,
    .plan = plan_max_pool,
};

static const struct kind global_avg_pool2d_kind = {
    .name = "global_avg_pool2d",
    .plan = plan_global_pool,
};
