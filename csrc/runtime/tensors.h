/* The parameters of layers, found among the tensors of the file. Without memory they are
 * only counted: a network that needs more than the file has is refused before any is taken.
 */

/* All tensors by name. */
static int index_tensors(struct planner *plan)
{
    struct text t = plan->file->entries, key, item;
    int first = 0;
    take_names(plan, &plan->tensors, plan->file->tensors);
    plan->entries = take(plan, (uint64_t)plan->file->tensors * sizeof *plan->entries);
    while (next_item(&t, &first, &key, &item)) {
        if (plan->memory) plan->entries[plan->tensors.count] = item;
        add_name(plan, &plan->tensors, key);
    }
    return !plan->memory || sort_names(&plan->tensors);
}

/* Count a parameter of that shape, of numbers of so many bytes; whether the file has room
 * for it. */
static int count_parameter(
    struct planner *plan, const int *shape, int dimensions, unsigned bytes)
{
    uint64_t size = 1;
    for (int i = 0; i < dimensions; i++) {
        if ((uint64_t)shape[i] > MAX_FLOATS / size) return 0;
        size *= (uint64_t)shape[i];
    }
    plan->parameters++;
    plan->payload_size += size * bytes;
    return plan->payload_size <= plan->file->payload_size;
}

/* Where the tensor `layer`.`parameter` lies in the payload, in bytes, if it is of that type
 * and shape; or -1. Without memory that is not known yet: 0. */
static int64_t find_tensor_of(struct planner *plan, struct text layer,
    const char *parameter, const char *dtype, const int *shape, int dimensions)
{
    const unsigned bytes = dtype[1] == '8' ? 1 : 4; /* I8, or I32 and F32 */
    char text[4 * MAX_NAME + sizeof ".running_mean"];
    struct name name = {text, 0};
    struct text values[3], item;
    int64_t value;
    int number, count = 0, first = 1;
    if (!count_parameter(plan, shape, dimensions, bytes)) return -1;
    if (!plan->memory) return 0;
    name.length = unpack(layer, text);
    memcpy(text + name.length, parameter, strlen(parameter));
    name.length += strlen(parameter);
    number = find_name(&plan->tensors, &name);
    if (number < 0) return -1;
    get_object(plan->entries[number], tensor_keys, values);
    if (!string_is(values[0], dtype)) return -1;
    for (; next_item(&values[1], &first, NULL, &item); count++)
        if (count == dimensions || !get_whole(item, &value) || value != shape[count])
            return -1;
    if (count != dimensions) return -1;
    first = 1;
    next_item(&values[2], &first, NULL, &item);
    return get_whole(item, &value) ? value : -1;
}

/* The same of floats, counted in them. */
static int64_t find_tensor(struct planner *plan, struct text layer, const char *parameter,
    const int *shape, int dimensions)
{
    const int64_t at = find_tensor_of(plan, layer, parameter, "F32", shape, dimensions);
    return at < 0 ? at : at / 4;
}
