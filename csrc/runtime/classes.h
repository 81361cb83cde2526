/* The labels. */

/* Text that stands for a value which is none itself. */
static struct text constant(const char *text)
{
    const unsigned char *begin = (const unsigned char *)text;
    return (struct text){begin, begin + strlen(text), 0};
}

/* What NumPy's texts cannot hold. */
static int ends_with_zero(const struct name *name)
{
    return name->length > 0 && !name->text[name->length - 1];
}

static int plan_classes(struct planner *plan)
{
    lenet5c_model *m = plan->model;
    struct text classes = plan->file->classes, item;
    int32_t sort = 0;
    int first = 1, count = 0;
    if (!begins_with(classes, '[')) return LENET5C_BAD_CLASSES;
    m->class_count = count_items(classes);
    if (m->class_count < 2 || m->class_count > MAX_SIDE) return LENET5C_BAD_CLASSES;
    m->classes = take(plan, (uint64_t)m->class_count * sizeof *m->classes);
    for (; next_item(&classes, &first, NULL, &item); count++) {
        int32_t c = peek(item);
        int64_t value;
        if (get_whole(item, &value)) {
            c = '0';
        } else if (c == 't' || c == 'f') {
            item = constant(c == 't' ? "\"True\"" : "\"False\"");
            c = 't';
        } else if (c != '"') {
            return LENET5C_BAD_CLASSES;
        }
        if (count > 0 && c != sort) return LENET5C_BAD_CLASSES;
        sort = c;
        if (!add_name(plan, m->classes, count, item)) return LENET5C_BAD_CLASSES;
        if (plan->memory && ends_with_zero(&m->classes[count])) return LENET5C_BAD_CLASSES;
    }
    return m->class_count == plan->channels ? LENET5C_OK : LENET5C_BAD_NETWORK;
}
