/* Dense layer: a convolution whose kernel covers the whole map. */

static int read_dense(const struct options *given, struct layer *layer)
{
    layer->bias = 1;
    return get_size(given->values[OUTPUTS], 1, &layer->filters) &&
           is_init(given->values[INIT]);
}

static int plan_dense(struct planner *plan, const struct layer *layer)
{
    const int channels = plan->channels, height = plan->height, width = plan->width;
    const int shape[] = {layer->filters, channels * height * width};
    struct parameters of = {plan->file, 0, 0, layer->filters, channels, height, width, 0, 0,
        height, width, NULL, NULL, NULL};
    if (!find_parameters(plan, layer, shape, 2, &of) || !fold_norm(plan, layer->norm, &of))
        return 0;
    add_product(plan, &of, 1);
    return 1;
}

static const struct kind dense_kind = {
    .name = "dense",
    .options = BIT(OUTPUTS) | BIT(INIT),
    .read = read_dense,
    .plan = plan_dense,
    .takes_flat = 1,
    .takes_norm = 1,
};
