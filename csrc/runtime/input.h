/* The input stage: which pixels a network takes, and how they become its first map. */

/* Whether a float can hold it. */
static int is_float(double value)
{
    return value >= -(double)FLT_MAX && value <= (double)FLT_MAX;
}

/* `pixels` of the input stage: "bytes" where the network was trained on bytes, the range of
 * the floats that it was trained on, or null where nobody knows; 0 for anything else. */
static int plan_pixels(lenet5c_model *m, struct text t, double deviation)
{
    struct text item;
    double range[2], width;
    int first = 1, count = 0;
    const int of_bytes = string_is(t, "bytes");
    m->float_scale = of_bytes ? (float)(1 / deviation) : 1;
    m->float_offset = of_bytes ? m->offset : -0.0f; /* x * 1 + -0 is x, of -0 as well */
    m->takes_bytes = 1;
    m->least = of_bytes ? (float)-ROUNDING : -FLT_MAX;
    m->most = of_bytes ? (float)(1 + ROUNDING) : FLT_MAX;
    if (of_bytes || begins_with(t, 'n')) return is_float(1 / deviation);
    if (!begins_with(t, '[')) return 0;
    for (; next_item(&t, &first, NULL, &item); count++)
        if (count == 2 || !get_number(item, &range[count]) || !is_float(range[count]))
            return 0;
    if (count != 2 || range[0] > range[1]) return 0;
    m->takes_bytes = range[0] >= 0 && range[1] <= 1;
    width = m->takes_bytes ? ROUNDING : range[1] - range[0];
    if (m->takes_bytes) {
        range[0] = 0;
        range[1] = 1;
    }
    m->least = range[0] - width < -(double)FLT_MAX ? -FLT_MAX : (float)(range[0] - width);
    m->most = range[1] + width > (double)FLT_MAX ? FLT_MAX : (float)(range[1] + width);
    return 1;
}

static int plan_input(struct planner *plan)
{
    static const char *const keys[] = {
        "mean", "deviation", "background", "source", "fitted", "pixels", NULL};
    lenet5c_model *m = plan->model;
    struct text values[6];
    double mean, deviation, background, scale, offset;
    int sizes[2];
    if (get_object(plan->file->input_stage, keys, values) != 0x3f ||
        !get_number(values[0], &mean) || !get_number(values[1], &deviation) ||
        !get_number(values[2], &background) || get_sizes(values[3], 1, 2, sizes) != 2 ||
        !(begins_with(values[4], 't') || begins_with(values[4], 'f')) ||
        !(deviation > 0 && deviation <= DBL_MAX) || sizes[0] > m->input.height ||
        sizes[1] > m->input.width)
        return LENET5C_BAD_INPUT;
    scale = 1 / (255 * deviation);
    offset = -mean / deviation;
    if (!is_float(scale) || !is_float(offset) || !is_float(background))
        return LENET5C_BAD_INPUT;
    m->input.source_height = sizes[0];
    m->input.source_width = sizes[1];
    m->scale = (float)scale;
    m->offset = (float)offset;
    m->background = (float)background;
    return plan_pixels(m, values[5], deviation) ? LENET5C_OK : LENET5C_BAD_INPUT;
}

/* Whether the pixels of an image are floats that the network takes. */
static int floats_fit(
    const lenet5c_model *m, const float *x, const lenet5c_layout *layout, int channels)
{
    const int height = layout->height, width = layout->width;
    if (layout->column_step == 1 && layout->row_step == width &&
        (channels == 1 || layout->channel_step == (ptrdiff_t)height * width))
        return m->kernels->are_within(
            x, 1, (ptrdiff_t)channels * height * width, m->least, m->most);
    for (int c = 0; c < channels; c++)
        for (int row = 0; row < height; row++)
            if (!m->kernels->are_within(
                    x + row * layout->row_step + c * layout->channel_step,
                    layout->column_step, width, m->least, m->most))
                return 0;
    return 1;
}

/* An image as a map of layout HCW: scaled, and centred on the background. Whether its
 * pixels are of the kind that the network takes. */
static int gather(const lenet5c_model *m, const uint8_t *bytes, const float *floats,
    const lenet5c_layout *layout, float *x)
{
    const ptrdiff_t width = m->input.width, channels = m->input.channels;
    const int top = (m->input.height - layout->height) / 2;
    const int left = (m->input.width - layout->width) / 2;
    const ptrdiff_t size = channels * m->input.height * width, step = layout->column_step;
    int rows = layout->height, columns = layout->width;
    if (bytes ? !m->takes_bytes : !floats_fit(m, floats, layout, m->input.channels))
        return 0;
    if (rows < m->input.height || columns < width)
        m->kernels->fill(x, size, m->background);
    else if (channels == 1 && layout->row_step == columns * step) { /* one long row */
        columns *= rows;
        rows = 1;
    }
    x += top * channels * width + left;
    for (int row = 0; row < rows; row++)
        for (int c = 0; c < m->input.channels; c++) {
            const ptrdiff_t at = row * layout->row_step + c * layout->channel_step;
            if (bytes)
                m->kernels->scale_bytes(bytes + at, step, x, columns, m->scale, m->offset);
            else
                m->kernels->scale_floats(
                    floats + at, step, x, columns, m->float_scale, m->float_offset);
            x += width;
        }
    return 1;
}
