/* The labels. */

/* Text that stands for a value which is none itself. */
static struct text constant(const char *text)
{
    const unsigned char *begin = (const unsigned char *)text;
    return (struct text){begin, begin + strlen(text), 0};
}

static int count_items(struct text t)
{
    struct text item;
    int first = 1, count = 0;
    while (next_item(&t, &first, NULL, &item)) count++;
    return count;
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
    int first = 1, count, seen = 0, longest = 0;
    if (!begins_with(classes, '[')) return LENET5C_BAD_CLASSES;
    count = count_items(classes);
    if (count < 2 || count > MAX_SIDE) return LENET5C_BAD_CLASSES;
    take_names(plan, &m->classes, count);
    for (; next_item(&classes, &first, NULL, &item); seen++) {
        int32_t c = peek(item);
        int64_t value;
        if (get_whole(item, &value)) {
            c = '0';
        } else if (c == 't' || c == 'f') {
            item = constant(c == 't' ? "\"True\"" : "\"False\"");
            c = 't';
        } else if (c == '"') {
            const int length = string_length(item);
            if (length > longest) longest = length;
        } else {
            return LENET5C_BAD_CLASSES;
        }
        if (seen > 0 && c != sort) return LENET5C_BAD_CLASSES;
        sort = c;
        add_name(plan, &m->classes, item);
        if (plan->memory && ends_with_zero(&m->classes.all[seen]))
            return LENET5C_BAD_CLASSES;
    }
    if (plan->memory && !sort_names(&m->classes)) return LENET5C_BAD_CLASSES;
    if ((int64_t)count * longest > MAX_CHARACTERS) return LENET5C_BAD_CLASSES;
    return count == plan->channels ? LENET5C_OK : LENET5C_BAD_NETWORK;
}
