/* Weights, in the order in which the tiles read them. */

/* A layer's parameters in the file: weight (F, C, KH, KW) and bias (F), with the batch
 * normalisation after it: filter f becomes norm[f] times itself plus norm[F + f]. With a
 * table of connections the weight is (pairs, KH, KW), by filter, then by channel. */
struct parameters {
    const struct file *file;
    int64_t weight, bias; /* where they begin, in floats; -1: there is no bias */
    int filters, channels, kh, kw;
    int top, left, rows, columns; /* the part of the kernel that meets the map */
    const double *norm;           /* or NULL */
    const int *begins, *listed;   /* of each filter in the list of channels; or NULL */
};

/* Where the layer's weight and bias lie; whether they are there. */
static int find_parameters(struct planner *plan, const struct layer *layer,
    const int *shape, int dimensions, struct parameters *of)
{
    of->weight = find_tensor(plan, layer->name, ".weight", shape, dimensions);
    of->bias = -1;
    if (layer->bias) of->bias = find_tensor(plan, layer->name, ".bias", &of->filters, 1);
    return of->weight >= 0 && (of->bias >= 0 || !layer->bias);
}

/* What row ky counts in the values of five rows of weights at 0, 1, -1, 2, -2 and infinity,
 * divided by what the other side of the product is too large. */
static const double points[6][5] = {{1. / 4, 0, 0, 0, 0},
    {-1. / 6, -1. / 6, -1. / 6, -1. / 6, -1. / 6},
    {-1. / 6, 1. / 6, -1. / 6, 1. / 6, -1. / 6}, {1. / 24, 1. / 12, 1. / 6, 1. / 3, 2. / 3},
    {1. / 24, -1. / 12, 1. / 6, -1. / 3, 2. / 3}, {0, 0, 0, 0, 1}};

/* The number of the pair of a filter and a channel, or -1. */
static int64_t pair_at(const struct parameters *of, int64_t f, int64_t c)
{
    int low, end;
    if (!of->begins) return f * of->channels + c;
    low = of->begins[f];
    end = of->begins[f + 1];
    while (low < end) {
        const int middle = low + (end - low) / 2;
        if (of->listed[middle] == c) return middle;
        if (of->listed[middle] < c)
            low = middle + 1;
        else
            end = middle;
    }
    return -1;
}

/* weight[f, c, ky, kx], or the value of its column at a point; 0 where there is none. */
static float weight_at(
    const struct parameters *of, int point, int64_t f, int64_t c, int64_t ky, int64_t kx)
{
    int64_t pair, at;
    double sum = 0;
    if (f >= of->filters || c >= of->channels) return 0;
    pair = pair_at(of, f, c);
    if (pair < 0) return 0;
    at = of->weight + (pair * of->kh + of->top) * of->kw + of->left + kx;
    if (point < 0) {
        sum = (double)payload_float(of->file, at + ky * of->kw);
    } else {
        for (int i = 0; i < 5; i++)
            sum += points[point][i] * (double)payload_float(of->file, at + i * of->kw);
    }
    return (float)(of->norm ? sum * of->norm[f] : sum);
}

static float bias_at(const struct parameters *of, int64_t f)
{
    double bias = 0;
    if (f >= of->filters) return 0;
    if (of->bias >= 0) bias = (double)payload_float(of->file, of->bias + f);
    return (float)(of->norm ? bias * of->norm[f] + of->norm[of->filters + f] : bias);
}

/* The weights in the order in which the tiles read them. What fills up is zero. The bias is
 * added where it gets into each output once: at 0 and at infinity. */
static void pack_weights(
    const struct parameters *of, const struct op *op, int point, float *to)
{
    const int64_t row = (int64_t)op->channels * op->width;
    const int has_bias = point < 0 || point == 0 || point == 5;
    int64_t first = 0;
    for (int k = 0; k < 2; k++)
        for (int n = 0; n < op->pieces[k].count; n++) {
            const int64_t width = op->pieces[k].weights / (1 + op->taps_a * op->taps_t);
            for (int64_t f = first; f < first + width; f++)
                *to++ = has_bias ? bias_at(of, f) : 0;
            for (int64_t a = 0; a < op->taps_a; a++)
                for (int64_t t = 0; t < op->taps_t; t++) {
                    const int64_t at = a * op->step_a + t, rest = at % row;
                    const int64_t c = op->hcw ? rest / op->width : rest % op->channels;
                    const int64_t kx = op->hcw ? rest % op->width : rest / op->channels;
                    for (int64_t f = first; f < first + width; f++)
                        *to++ = weight_at(of, point, f, c, at / row, kx);
                }
            first += width;
        }
}
