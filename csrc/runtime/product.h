/* What convolutions and dense layers have in common: a product of weights with each place
 * of a map, in tiles.
 */

/* Which tiles make `width` filters or registers of channels: `count` of one sort, and one
 * of another for the rest. */
struct choice {
    const struct tile *tiles[2];
    int counts[2];
    int64_t cost;
};

/* Quarter cycles that a tap costs a row of `out_w` columns. */
static int64_t tile_cost(const struct tile *tile, int out_w, int unit)
{
    const int columns = tile->columns * unit;
    const int products = tile->width * tile->columns; /* two a cycle, so are loads */
    const int loads = tile->width + tile->columns, latency = 16 / tile->sums;
    int cost = 2 * (products > loads ? products : loads);
    if (columns > out_w) return INT64_MAX;
    if (cost < latency) cost = latency;
    return (int64_t)((out_w + columns - 1) / columns) * (cost + 1);
}

static struct choice choose_tiles(
    const struct tile *tiles, size_t count, int width, int out_w, int unit)
{
    struct choice best = {{NULL, NULL}, {0, 0}, INT64_MAX};
    for (size_t i = 0; i < count; i++) {
        const int rest = width % tiles[i].width;
        const int64_t cost = tile_cost(&tiles[i], out_w, unit);
        struct choice found = {{&tiles[i], NULL}, {width / tiles[i].width, rest > 0}, 0};
        int64_t least = INT64_MAX;
        if (cost == INT64_MAX || found.counts[0] == 0) continue;
        for (size_t j = 0; j < count && rest > 0; j++)
            if (tiles[j].width == rest && tile_cost(&tiles[j], out_w, unit) < least) {
                least = tile_cost(&tiles[j], out_w, unit);
                found.tiles[1] = &tiles[j];
            }
        if (rest > 0 && least == INT64_MAX) continue;
        found.cost = found.counts[0] * cost + (rest > 0 ? least : 0);
        if (found.cost < best.cost) best = found;
    }
    return best;
}

/* A convolution without padding. */
static void add_product(struct planner *plan, const struct parameters *of, int stride)
{
    enum { MIN_TAPS = 20, MAX_BYTES = 16384 }; /* where pairs of rows are faster */
    const struct kernels *k = plan->model->kernels;
    const int v = k->lanes, channels = plan->channels, filters = of->filters;
    const int fp = round_up(filters, v);
    const int out_h = (plan->height - of->rows) / stride + 1;
    const int out_w = (plan->width - of->columns) / stride + 1;
    struct op *op = add_op(plan, k->run_product);
    const ptrdiff_t row = (ptrdiff_t)op->channels * op->width;
    struct choice choice = choose_tiles(k->tiles, k->tile_count, fp / v, out_w, 1);
    uint64_t floats = 0, scratch = 0;
    int to_hcw = 0, of_taps = 0; /* lanes are columns, or taps */
    int kh = of->rows, pairs;
    double cycles;
    float *weights;
    if (plan->hcw && stride == 1) {
        struct choice other =
            choose_tiles(k->row_tiles, k->row_tile_count, filters, out_w, v);
        to_hcw = other.cost < choice.cost;
        if (to_hcw) choice = other;
    }
    pairs = !to_hcw && kh == 5 && stride == 1 && out_h > 1 && out_w > 1 && row >= v &&
            channels * of->columns >= MIN_TAPS &&
            (int64_t)channels * of->columns * fp <= MAX_BYTES / 4 / 6;
    if (pairs) {
        op->run = k->run_pairs;
        kh = 1;
    }
    op->out_h = out_h;
    op->out_w = out_w;
    op->least = -INFINITY;
    plan->of_places |= out_h * out_w > 1;
    op->taps_a = op->hcw ? kh * channels : kh;
    op->taps_t =
        op->hcw ? of->columns : (ptrdiff_t)(of->columns - 1) * op->channels + channels;
    op->step_a = op->hcw ? op->width : row;
    if (of->columns == op->width) { /* the runs lie next to each other */
        op->taps_t += (op->taps_a - 1) * op->step_a;
        op->taps_a = 1;
    }
    /* quarter cycles; measured beside the core's count, they are a little fewer */
    cycles = 0.22 * (double)choice.cost * (double)(op->taps_a * op->taps_t + 4) *
             (pairs ? 6 * ((out_h + 1) / 2) : out_h);
    set_steps(op, stride);
    op->y_column = to_hcw ? out_w : fp;
    op->y_row = (ptrdiff_t)out_w * (to_hcw ? filters : fp);
    op->x_to_y = to_hcw ? 1 : fp;
    op->parts = to_hcw ? 1 : out_w;
    if (v > 1 && out_h * out_w == 1 && op->taps_a == 1) {
        static const struct tile one = {1, 1, 1, NULL};
        /* a register of taps a cycle, and 6 for the sum of its lanes */
        const double dots = (double)filters * (double)(op->taps_t / v + 6);
        if (fp / v >= DENSE_REGISTERS) {
            op->run_dense = k->run_dense;
            choice = (struct choice){{&one, NULL}, {fp / v, 0}, 0};
            cycles = 0;
        } else if (dots < cycles) {
            op->run_dense = k->run_dots;
            choice = (struct choice){{&one, NULL}, {filters, 0}, 0};
            cycles = dots;
            of_taps = 1;
        }
    }
    for (int i = 0; i < 2; i++) {
        const struct tile *tile = choice.tiles[i];
        struct piece *piece = &op->pieces[i];
        if (!tile) continue;
        const int width = to_hcw || of_taps ? tile->width : tile->width * v;
        piece->tile = tile->run;
        piece->count = choice.counts[i];
        piece->columns = to_hcw ? tile->columns * v : tile->columns;
        piece->part = piece->step = to_hcw ? (ptrdiff_t)width * out_w : width;
        piece->weights = width * (1 + op->taps_a * op->taps_t);
        floats += (uint64_t)piece->count * (uint64_t)piece->weights;
    }
    if (pairs) {
        op->point = (ptrdiff_t)floats;
        scratch = 6 * (uint64_t)(op->x_row + op->y_row);
    }
    if (out_h * out_w == 1 && (op->run_dense || floats > MAX_BYTES) &&
        cycles < (double)floats / v)
        cycles = (double)floats / v; /* the second-level cache gives a register a cycle */
    plan->model->cycles += cycles;
    if (op->run_dense) plan->dense_weights += floats;
    plan->model->weights += floats * (pairs ? 6 : 1) * sizeof(float);
    op->weights = weights = take(plan, floats * (pairs ? 6 : 1) * sizeof(float));
    if (weights && !pairs) pack_weights(of, op, -1, weights);
    for (int point = 0; weights && pairs && point < 6; point++)
        pack_weights(of, op, point, weights + point * op->point);
    set_map(plan, filters, out_h, out_w, to_hcw, scratch);
    plan->flat = 0;
    plan->may_activate = 1;
}
