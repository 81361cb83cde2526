/* tanh, scaled or not, ReLU and sigmoid: at the end of the op before them, or ops of their
 * own; and leaky ReLU, always one of its own. */

/* What it takes, roughly, to activate the present map. */
static void add_cycles(struct planner *plan, int activation)
{
    const double registers = (double)map_size(plan) / plan->model->kernels->lanes;
    plan->model->cycles += (activation == RELU ? 1 : 8) * registers;
}

static void add_activation(struct planner *plan, int activation)
{
    if (plan->may_activate) {
        struct op *last = last_op(plan);
        if (activation == RELU && last->run == plan->model->kernels->run_product)
            last->least = 0;
        else
            last->activation = activation;
        plan->may_activate = 0;
        add_cycles(plan, activation);
        return;
    }
    struct op *op = add_op(plan, plan->model->kernels->run_activation);
    op->activation = activation;
    op->size = (ptrdiff_t)map_size(plan);
    set_same_map(plan);
    add_cycles(plan, activation);
}

static int plan_tanh(struct planner *plan, const struct layer *layer)
{
    (void)layer;
    add_activation(plan, TANH);
    return 1;
}

static int plan_relu(struct planner *plan, const struct layer *layer)
{
    (void)layer;
    add_activation(plan, RELU);
    return 1;
}

static int plan_sigmoid(struct planner *plan, const struct layer *layer)
{
    (void)layer;
    add_activation(plan, SIGMOID);
    return 1;
}

static int plan_scaled_tanh(struct planner *plan, const struct layer *layer)
{
    (void)layer;
    add_activation(plan, SCALED_TANH);
    return 1;
}

static const struct kind tanh_kind = {
    .name = "tanh",
    .plan = plan_tanh,
    .takes_flat = 1,
};

static const struct kind relu_kind = {
    .name = "relu",
    .plan = plan_relu,
    .takes_flat = 1,
};

static const struct kind sigmoid_kind = {
    .name = "sigmoid",
    .plan = plan_sigmoid,
    .takes_flat = 1,
};

static const struct kind scaled_tanh_kind = {
    .name = "scaled_tanh",
    .plan = plan_scaled_tanh,
    .takes_flat = 1,
};

static void run_leaky_relu(const struct op *p, const float *x, float *y)
{
    for (ptrdiff_t i = 0; i < p->size; i++) y[i] = x[i] > 0 ? x[i] : p->slope * x[i];
}

static int read_leaky_relu(const struct options *given, struct layer *layer)
{
    return is_rate(given->values[SLOPE]) && get_number(given->values[SLOPE], &layer->slope);
}

static int plan_leaky_relu(struct planner *plan, const struct layer *layer)
{
    struct op *op = add_op(plan, run_leaky_relu);
    op->slope = (float)layer->slope;
    op->size = (ptrdiff_t)map_size(plan);
    set_same_map(plan);
    return 1;
}

static const struct kind leaky_relu_kind = {
    .name = "leaky_relu",
    .options = BIT(SLOPE),
    .read = read_leaky_relu,
    .plan = plan_leaky_relu,
    .takes_flat = 1,
};
