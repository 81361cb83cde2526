/* Prediction in 8-bit integers, and what it shares with that in floats. */

/* Check a layout, and fill in its steps if the pixels lie without gaps. */
static int complete_layout(const lenet5c_model *m, lenet5c_layout *layout)
{
    if (layout->count < 0) return LENET5C_BAD_ARGUMENT;
    if (layout->height < 1 || layout->width < 1 || layout->height > m->input.height ||
        layout->width > m->input.width)
        return LENET5C_BAD_IMAGE;
    if (!layout->image_step && !layout->channel_step && !layout->row_step &&
        !layout->column_step) {
        layout->column_step = 1;
        layout->row_step = layout->width;
        layout->channel_step = layout->height * layout->row_step;
        layout->image_step = m->input.channels * layout->channel_step;
    }
    return LENET5C_OK;
}

/* What is asked for of image n: its class, and of its logits y, which are overwritten. */
static void write_results(const lenet5c_model *m, int n, int best, float *y, int *classes,
    float *probabilities, float *logits)
{
    const size_t k = (size_t)m->classes.count;
    if (classes) classes[n] = best;
    if (logits) memcpy(logits + (size_t)n * k, y, k * sizeof(float));
    if (probabilities) {
        m->kernels->softmax(y, m->classes.count, y[best]);
        memcpy(probabilities + (size_t)n * k, y, k * sizeof(float));
    }
}

/* An image of bytes to scores, of which where they lie is returned. */
static const int32_t *run_int8(const lenet5c_model *m, const uint8_t *bytes,
    const lenet5c_layout *layout, unsigned char *maps)
{
    const struct int8_kernels *const kernels = m->int8.kernels;
    const ptrdiff_t width = m->input.width, channels = m->input.channels;
    const int top = (m->input.height - layout->height) / 2;
    const int left = (m->input.width - layout->width) / 2;
    if (layout->height < m->input.height || layout->width < width)
        kernels->fill(maps, width * m->input.height * channels, m->int8.table[256]);
    for (int c = 0; c < channels; c++)
        for (int row = 0; row < layout->height; row++)
            kernels->read(bytes + row * layout->row_step + c * layout->channel_step,
                layout->column_step,
                maps + ((ptrdiff_t)((top + row) * width + left) * channels + c) *
                           kernels->element,
                layout->width, (int)channels, m->int8.table);
    for (int i = 0; i < m->op_count; i++) m->int8.ops[i].run(&m->int8.ops[i], maps);
    return (const int32_t *)(const void *)(maps + m->int8.scores);
}

/* Score k: channel by channel, whereas they lie pixel by pixel. */
static int32_t int8_score(const lenet5c_model *m, const int32_t *scores, int k)
{
    return scores[(ptrdiff_t)(k % m->int8.pixels) * m->int8.channels + k / m->int8.pixels];
}

static int predict_int8(const lenet5c_model *m, void *workspace, const uint8_t *bytes,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits,
    int32_t *scores)
{
    const int count = m->classes.count;
    unsigned char *const maps = align(workspace);
    float *const y = (float *)(void *)(maps + m->int8.logits);
    if (!bytes) return LENET5C_BAD_PIXELS;
    for (int n = 0; n < layout->count; n++) {
        const int32_t *const found =
            run_int8(m, bytes + n * layout->image_step, layout, maps);
        int best = 0;
        for (int k = 0; k < count; k++) {
            const int32_t score = int8_score(m, found, k);
            if (score > int8_score(m, found, best)) best = k;
            y[k] = (float)score * m->int8.unit;
            if (scores) scores[(size_t)n * (size_t)count + (size_t)k] = score;
        }
        write_results(m, n, best, y, classes, probabilities, logits);
    }
    return LENET5C_OK;
}
