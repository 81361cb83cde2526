/* Prediction. */

/* Up to m->together images to logits; whether their pixels can be read. */
static int run_images(const lenet5c_model *m, const uint8_t *bytes, const float *floats,
    const lenet5c_layout *layout, float *maps, int count)
{
    for (int n = 0; n < count; n++) {
        const ptrdiff_t at = n * layout->image_step;
        if (!gather(m, bytes ? bytes + at : NULL, floats ? floats + at : NULL, layout,
                maps + n * m->apart))
            return 0;
    }
    for (int i = 0, end; i < m->op_count; i = end) {
        const struct op *op = &m->ops[i];
        end = i + 1;
        if (op->run_dense) {
            op->run_dense(op, maps + op->x, maps + op->y, count, m->apart);
            continue;
        }
        while (end < m->op_count && !m->ops[end].run_dense) end++;
        for (int n = 0; n < count; n++) {
            float *of_image = maps + n * m->apart;
            for (int k = i; k < end; k++)
                m->ops[k].run(&m->ops[k], of_image + m->ops[k].x, of_image + m->ops[k].y);
        }
    }
    return 1;
}

static int predict(const lenet5c_model *m, void *workspace, const uint8_t *bytes,
    const float *floats, const lenet5c_layout *given, int *classes, float *probabilities,
    float *logits)
{
    lenet5c_layout layout;
    float *maps;
    int groups, code;
    if (!m || !workspace || !(bytes || floats) || !given) return LENET5C_BAD_ARGUMENT;
    layout = *given;
    code = complete_layout(m, &layout);
    if (code) return code;
    if (m->int8.kernels)
        return predict_int8(
            m, workspace, bytes, &layout, classes, probabilities, logits, NULL);
    maps = (float *)(void *)align(workspace);
    groups = layout.count / m->together + (layout.count % m->together > 0);
    for (int group = 0; group < groups; group++) {
        const int first = (int)((int64_t)group * layout.count / groups);
        const int end = (int)((int64_t)(group + 1) * layout.count / groups);
        const ptrdiff_t at = first * layout.image_step;
        if (!run_images(m, bytes ? bytes + at : NULL, floats ? floats + at : NULL, &layout,
                maps, end - first))
            return LENET5C_BAD_PIXELS;
        for (int n = first; n < end; n++) {
            float *y = maps + (n - first) * m->apart + m->output;
            int best = 0;
            for (int i = 1; i < m->classes.count; i++)
                if (y[i] > y[best]) best = i;
            write_results(m, n, best, y, classes, probabilities, logits);
        }
    }
    return LENET5C_OK;
}

int lenet5c_predict_u8(const lenet5c_model *model, void *workspace, const uint8_t *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits)
{
    return predict(model, workspace, pixels, NULL, layout, classes, probabilities, logits);
}

int lenet5c_predict_f32(const lenet5c_model *model, void *workspace, const float *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits)
{
    return predict(model, workspace, NULL, pixels, layout, classes, probabilities, logits);
}

int lenet5c_scores(const lenet5c_model *model, void *workspace, const uint8_t *pixels,
    const lenet5c_layout *layout, int32_t *scores)
{
    lenet5c_layout complete;
    int code;
    if (!model || !workspace || !pixels || !layout || !scores) return LENET5C_BAD_ARGUMENT;
    if (!model->int8.kernels) return LENET5C_BAD_NETWORK;
    complete = *layout;
    code = complete_layout(model, &complete);
    return code ? code
                : predict_int8(
                      model, workspace, pixels, &complete, NULL, NULL, NULL, scores);
}

int lenet5c_classify(const lenet5c_model *model, void *workspace, const uint8_t *image)
{
    int found = 0, code;
    lenet5c_layout layout = {0};
    if (!model) return LENET5C_BAD_ARGUMENT;
    layout.count = 1;
    layout.height = model->input.source_height;
    layout.width = model->input.source_width;
    code = lenet5c_predict_u8(model, workspace, image, &layout, &found, NULL, NULL);
    return code ? code : found;
}
