/* Names of layers, tensors and labels: unpacked, sorted, found. */

struct name {
    char *text; /* in UTF-8; a zero follows */
    size_t length;
};

/* Names in the order in which they were added; `order` has their numbers in the order that
 * compare_names makes. */
struct names {
    struct name *all;
    int *order;
    int count;
};

/* The next character of a name: of a string, or of a number that is not in quotes. */
static int32_t name_next(struct text *t, int quoted)
{
    const int32_t c = quoted ? 0 : peek(*t);
    if (quoted) return string_next(t);
    return c == '-' || (c >= '0' && c <= '9') ? next(t) : END;
}

/* The bytes of the name at t in UTF-8, written unless `to` is NULL. */
static size_t unpack(struct text t, char *to)
{
    static const int32_t heads[] = {0, 0xc0, 0xe0, 0xf0};
    const int quoted = peek(t) == '"';
    size_t length = 0;
    int32_t c;
    if (quoted) next(&t);
    while ((c = name_next(&t, quoted)) >= 0) {
        int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        length += 1 + (size_t)more;
        if (!to) continue;
        *to++ = (char)(heads[more] | c >> (6 * more));
        while (more-- > 0) *to++ = (char)(0x80 | (c >> (6 * more) & 0x3f));
    }
    return length;
}

/* Shorter ones come first: that is quickest to see. */
static int compare_names(const struct name *a, const struct name *b)
{
    if (a->length != b->length) return a->length < b->length ? -1 : 1;
    return memcmp(a->text, b->text, a->length);
}

/* Let the name at `root` of the heap sink until none below it is larger. */
static void sink(struct names *names, int root, int count)
{
    int *order = names->order;
    for (int child; (child = 2 * root + 1) < count; root = child) {
        const int sinking = order[root];
        const struct name *all = names->all;
        if (child + 1 < count &&
            compare_names(&all[order[child]], &all[order[child + 1]]) < 0)
            child++;
        if (compare_names(&all[sinking], &all[order[child]]) >= 0) return;
        order[root] = order[child];
        order[child] = sinking;
    }
}

/* Sort them, as fast for any names (heapsort); whether no two are the same. */
static int sort_names(struct names *names)
{
    for (int i = 0; i < names->count; i++) names->order[i] = i;
    for (int i = names->count / 2 - 1; i >= 0; i--) sink(names, i, names->count);
    for (int i = names->count - 1; i > 0; i--) {
        const int largest = names->order[0];
        names->order[0] = names->order[i];
        names->order[i] = largest;
        sink(names, 0, i);
    }
    for (int i = 1; i < names->count; i++)
        if (!compare_names(&names->all[names->order[i - 1]], &names->all[names->order[i]]))
            return 0;
    return 1;
}

/* The number of a name among sorted ones, or -1. */
static int find_name(const struct names *names, const struct name *name)
{
    int begin = 0, end = names->count;
    while (begin < end) {
        const int middle = begin + (end - begin) / 2, found = names->order[middle];
        const int sign = compare_names(name, &names->all[found]);
        if (sign == 0) return found;
        if (sign < 0)
            end = middle;
        else
            begin = middle + 1;
    }
    return -1;
}
