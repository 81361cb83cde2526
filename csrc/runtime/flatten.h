/* Flatten: moves nothing until a layer comes that does not read a flat map as it lies. */

/* y[(c * H + h) * W + w] = x[c, h, w], and zeros up to a whole register */
static void run_flatten(const struct op *p, const float *x, float *y)
{
    ptrdiff_t i = 0;
    for (int c = 0; c < p->channels; c++)
        for (int h = 0; h < p->height; h++)
            for (int w = 0; w < p->width; w++)
                y[i++] = x[c * p->x_channel + h * p->x_row + w * p->x_column];
    for (; i < p->size; i++) y[i] = 0;
}

/* Make one row of the present map. */
static void add_flatten(struct planner *plan)
{
    const ptrdiff_t width = plan->width, channels = channels_of(plan);
    struct op *op = add_op(plan, run_flatten);
    op->channels = plan->channels;
    op->x_channel = plan->hcw ? width : 1;
    op->x_row = channels * width;
    op->x_column = plan->hcw ? 1 : channels;
    op->size =
        (ptrdiff_t)set_map(plan, plan->channels * plan->height * plan->width, 1, 1, 0, 0);
    plan->flat = 0;
}

static int plan_flatten(struct planner *plan, const struct layer *layer)
{
    (void)layer;
    plan->flat = plan->height * plan->width > 1;
    return 1;
}

static const struct kind flatten_kind = {
    .name = "flatten",
    .plan = plan_flatten,
    .takes_flat = 1,
    .reshapes = 1,
};
