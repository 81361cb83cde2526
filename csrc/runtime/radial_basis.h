/* Radial basis functions: how far a flat map is from a code for each output. */

static int read_radial_basis(const struct options *given, struct layer *layer)
{
    return get_size(given->values[OUTPUTS], 1, &layer->filters);
}

static int plan_radial_basis(struct planner *plan, const struct layer *layer)
{
    const struct kernels *k = plan->model->kernels;
    const int inputs = plan->channels * plan->height * plan->width;
    const int outputs = layer->filters, shape[] = {outputs, inputs};
    const int64_t codes = find_tensor(plan, layer->name, ".codes", shape, 2);
    const uint64_t count = (uint64_t)outputs * (uint64_t)inputs;
    struct op *op;
    float *values;
    if (codes < 0) return 0;
    if (plan->hcw || plan->height * plan->width > 1) add_flatten(plan);
    op = add_op(plan, k->run_radial_basis);
    op->channels = inputs;
    op->out_h = outputs;
    op->weights = values = take(plan, count * sizeof *values);
    for (uint64_t i = 0; values && i < count; i++)
        values[i] = payload_float(plan->file, codes + (int64_t)i);
    op->size = (ptrdiff_t)set_map(plan, outputs, 1, 1, 0, 0);
    plan->model->weights += count * sizeof *values;
    plan->model->cycles += 2 * (double)count / k->lanes + 2. * k->lanes * outputs;
    return 1;
}

static const struct kind radial_basis_kind = {
    .name = "radial_basis",
    .options = BIT(OUTPUTS),
    .read = read_radial_basis,
    .plan = plan_radial_basis,
};
