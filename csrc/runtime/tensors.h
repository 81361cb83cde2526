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

/* Count a parameter of that shape; whether the file has room for it. */
static int count_parameter(struct planner *plan, const int *shape, int dimensions)
{
    uint64_t floats = 1;
    for (int i = 0; i < dimensions; i++) {
        if ((uint64_t)shape[i] > MAX_FLOATS / floats) return 0;
        floats *= (uint64_t)shape[i];
    }
    plan->parameters++;
    plan->floats += floats;
    return plan->floats <= plan->file->floats;
}

/* Where the tensor `layer`.`parameter` lies, in floats, if it has that shape; or -1.
 * Without memory that is not known yet: 0. */
static int64_t find_tensor(struct planner *plan, struct text layer, const char *parameter,
    const int *shape, int dimensions)
{
    char text[4 * MAX_NAME + sizeof ".running_mean"];
    struct name name = {text, 0};
    struct text values[3], item;
    int64_t value;
    int number, count = 0, first = 1;
    if (!count_parameter(plan, shape, dimensions)) return -1;
    if (!plan->memory) return 0;
    name.length = unpack(layer, text);
    memcpy(text + name.length, parameter, strlen(parameter));
    name.length += strlen(parameter);
    number = find_name(&plan->tensors, &name);
    if (number < 0) return -1;
    get_object(plan->entries[number], tensor_keys, values);
    for (; next_item(&values[1], &first, NULL, &item); count++)
        if (count == dimensions || !get_whole(item, &value) || value != shape[count])
            return -1;
    if (count != dimensions) return -1;
    first = 1;
    next_item(&values[2], &first, NULL, &item);
    return get_whole(item, &value) ? value / 4 : -1;
}
