/* Names of layers and labels, unpacked. */

/* The next character of a name: of a string, or of a number that is not in quotes. */
static int32_t name_next(struct text *t, int quoted)
{
    const int32_t c = quoted ? 0 : peek(*t);
    if (quoted) return string_next(t);
    return c == '-' || (c >= '0' && c <= '9') ? next(t) : END;
}

static int utf8_length(int32_t c)
{
    return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

/* Add the name at t; whether it is another than the `count` names before it, which is known
 * only where there is memory. */
static int add_name(struct planner *plan, struct name *names, int count, struct text t)
{
    static const unsigned char heads[] = {0, 0xc0, 0xe0, 0xf0};
    const int quoted = peek(t) == '"';
    struct text at;
    unsigned char *to;
    size_t length = 0;
    int32_t c;
    if (quoted) next(&t);
    for (at = t; (c = name_next(&at, quoted)) >= 0;) length += (size_t)utf8_length(c);
    to = take(plan, length + 1);
    if (!to) return 1;
    names[count].text = (char *)to;
    names[count].length = length;
    while ((c = name_next(&t, quoted)) >= 0) {
        int more = utf8_length(c) - 1;
        *to++ = (unsigned char)(heads[more] | c >> (6 * more));
        while (more-- > 0) *to++ = (unsigned char)(0x80 | (c >> (6 * more) & 0x3f));
    }
    *to = 0;
    for (int i = 0; i < count; i++)
        if (names[i].length == length && !memcmp(names[i].text, names[count].text, length))
            return 0;
    return 1;
}
