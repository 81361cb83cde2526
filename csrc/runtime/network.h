/* The list of layers: each is read, and planned by its kind. A kind that kinds.def does not
 * list is refused.
 */

#define LENET5C_KIND(name) &name##_kind,
static const struct kind *const kinds[] = {
#include "kinds.def"
};
#undef LENET5C_KIND

static int read_layer(struct text t, struct layer *layer)
{
    struct options given;
    unsigned known;
    given.seen = get_object(t, option_names, given.values);
    if (!(given.seen & BIT(NAME)) || !(given.seen & BIT(KIND))) return 0;
    layer->name = given.values[NAME];
    if (!is_name(layer->name)) return 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (string_is(given.values[KIND], kinds[i]->name)) layer->kind = kinds[i];
    if (!layer->kind) return 0;
    known = BIT(NAME) | BIT(KIND) | layer->kind->options | layer->kind->added;
    if ((given.seen | layer->kind->added) != known) return 0;
    return !layer->kind->read || layer->kind->read(&given, layer);
}

/* How many layers there are in the rest of a text, those of residual layers too: each is an
 * object. */
static int count_layers(struct text t)
{
    int count = 0;
    for (int32_t c; (c = after_space(&t)) >= 0;) {
        count += c == '{';
        if (c == '"')
            skip_string(&t);
        else
            next(&t);
    }
    return count;
}

/* The layers of a list, one after the other; in a branch the last map has no Flatten left
 * to do. */
static int plan_list(struct planner *plan, struct text layers)
{
    struct text item;
    int first = 1, folded = 0;
    while (next_item(&layers, &first, NULL, &item)) {
        struct text rest = layers, next_text;
        struct layer layer = {0}, after = {0};
        int start = 0;
        if (!read_layer(item, &layer)) return 0;
        add_name(plan, &plan->layers, layer.name);
        if (folded) { /* into the layer before it */
            folded = 0;
            continue;
        }
        folded = layer.kind->takes_norm && next_item(&rest, &start, NULL, &next_text) &&
                 read_layer(next_text, &after) && after.kind == &batch_norm2d_kind;
        if (folded) layer.norm = &after;
        plan->computes |= !layer.kind->reshapes;
        if (plan->flat && !layer.kind->takes_flat) add_flatten(plan);
        if (!layer.kind->plan(plan, &layer)) return 0;
    }
    if (plan->depth > 0 && plan->flat) add_flatten(plan);
    return 1;
}

static int plan_layers(struct planner *plan)
{
    lenet5c_model *m = plan->model;
    static const char *const keys[] = {"input_shape", "layers", NULL};
    struct text values[2];
    int sizes[3];
    if (get_object(plan->file->network, keys, values) != 3 ||
        !begins_with(values[1], '[') || get_sizes(values[0], 1, 3, sizes) != 3 ||
        !is_map(sizes[0], sizes[1], sizes[2]) || plan->file->payload_size / 4 > MAX_FLOATS)
        return LENET5C_BAD_NETWORK;
    m->input.channels = sizes[0];
    m->input.height = plan->height = sizes[1];
    m->input.width = plan->width = sizes[2];
    plan->channels = sizes[0];
    plan->hcw = 1;
    plan->map = place_map(plan, map_size(plan));
    m->cycles = 0.25 * (double)map_size(plan); /* to read a pixel and scale it, measured */
    take_names(plan, &plan->layers, count_layers(values[1]));
    if (!index_tensors(plan) || !plan_list(plan, values[1])) return LENET5C_BAD_NETWORK;
    if (plan->memory && !sort_names(&plan->layers)) return LENET5C_BAD_NETWORK;
    if (!plan->computes || plan->parameters != plan->file->tensors ||
        plan->payload_size != plan->file->payload_size)
        return LENET5C_BAD_NETWORK;
    if (plan->hcw || plan->height * plan->width > 1) add_flatten(plan);
    m->output = (ptrdiff_t)plan->maps[plan->map].begin;
    m->together = plan->of_places && plan->dense_weights < FEW_WEIGHTS ? 1 : TOGETHER;
    while (m->together > 1 && m->workspace * (uint64_t)m->together > MAX_TOGETHER)
        m->together--;
    if (m->together > 1) /* of what was counted for reading weights, which images share */
        m->cycles -= 0.4 * (double)plan->dense_weights / m->kernels->lanes;
    m->workspace = (m->workspace + 15) / 16 * 16;
    if (m->together > 1 && m->workspace % 32 == 0)
        m->workspace += 16; /* or else the images compete for a place in the cache */
    m->apart = (ptrdiff_t)m->workspace;
    m->workspace *= (uint64_t)m->together;
    return LENET5C_OK;
}
