/* Dropout: leaves out nothing, since nothing is trained here. */

static int read_dropout(const struct options *given, struct layer *layer)
{
    (void)layer;
    return is_rate(given->values[RATE]);
}

static int plan_dropout(struct planner *plan, const struct layer *layer)
{
    (void)plan, (void)layer;
    return 1;
}

static const struct kind dropout_kind = {
    .name = "dropout",
    .options = BIT(RATE),
    .read = read_dropout,
    .plan = plan_dropout,
    .takes_flat = 1,
};
