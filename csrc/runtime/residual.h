/* Residual: the sum of two branches, lists of layers that begin at the same map. */

/* A map of layout HCW as one of HWC. */
static void run_to_hwc(const struct op *p, const float *x, float *y)
{
    memset(y, 0, (size_t)p->size * sizeof(float));
    for (int h = 0; h < p->height; h++)
        for (int w = 0; w < p->width; w++, y += p->step_t)
            for (int c = 0; c < p->channels; c++)
                y[c] = x[(h * (ptrdiff_t)p->channels + c) * p->width + w];
}

/* Give the present map the layout HWC. */
static void add_to_hwc(struct planner *plan)
{
    struct op *op;
    if (!plan->hcw) return;
    op = add_op(plan, run_to_hwc);
    op->size = (ptrdiff_t)set_map(plan, plan->channels, plan->height, plan->width, 0, 0);
    op->step_t = channels_of(plan);
}

static int read_residual(const struct options *given, struct layer *layer)
{
    struct text t = given->values[LAYERS];
    layer->layers = given->values[LAYERS];
    layer->shortcut = given->values[SHORTCUT];
    return accept(&t, '[') && !accept(&t, ']') && begins_with(layer->shortcut, '[');
}

static int plan_list(struct planner *plan, struct text layers);

/* The layers of a branch, which is inside of a residual layer. */
static int plan_branch(struct planner *plan, struct text layers)
{
    int code;
    plan->may_activate = 0;
    plan->depth++;
    code = plan_list(plan, layers);
    plan->depth--;
    return code;
}

/* y = A(x + z) of the present map x and another one, of which nobody else reads z */
static void add_sum(struct planner *plan, int other)
{
    struct op *op = add_op(plan, plan->model->kernels->run_sum);
    op->other = (ptrdiff_t)plan->maps[other].begin - (ptrdiff_t)plan->maps[plan->map].begin;
    op->size = (ptrdiff_t)map_size(plan);
    set_same_map(plan);
    plan->maps[other].users--;
    plan->may_activate = 1;
}

static int plan_residual(struct planner *plan, const struct layer *layer)
{
    struct planner before;
    int first, second, channels, height, width, hcw;
    if (plan->depth == MAX_NESTED) return 0;
    plan->maps[plan->map].users++;
    before = *plan;
    if (!plan_branch(plan, layer->layers)) return 0;
    first = plan->map;
    channels = plan->channels;
    height = plan->height;
    width = plan->width;
    hcw = plan->hcw;
    plan->map = before.map;
    plan->channels = before.channels;
    plan->height = before.height;
    plan->width = before.width;
    plan->hcw = before.hcw;
    if (!plan_branch(plan, layer->shortcut)) return 0;
    if (plan->channels != channels || plan->height != height || plan->width != width)
        return 0;
    if (!hcw) add_to_hwc(plan);
    second = plan->map;
    plan->map = first;
    if (hcw && !plan->hcw) {
        plan->hcw = 1;
        add_to_hwc(plan);
    }
    add_sum(plan, second);
    return 1;
}

static const struct kind residual_kind = {
    .name = "residual",
    .options = BIT(LAYERS) | BIT(SHORTCUT),
    .read = read_residual,
    .plan = plan_residual,
};
