/* JSON, read where it lies. Text is never unpacked: a `text` is a place that is read
 * character by character, through the escapes of the JSON around it where there is JSON in
 * JSON.
 */

/* A place in a text. `nested`: the text is the inside of a JSON string. */
struct text {
    const unsigned char *at, *end;
    int nested;
};

enum { END = -1, WRONG = -2 };

static int is_surrogate(int32_t c, int32_t from) { return c >= from && c < from + 0x400; }

/* The character at t->at, and the place after it; END, or WRONG if this is no UTF-8. */
static int32_t utf8_next(struct text *t)
{
    const unsigned char *p = t->at;
    int32_t c, least;
    int more;
    if (p == t->end) return END;
    c = *p++;
    if (c < 0x80) {
        t->at = p;
        return c;
    }
    more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || t->end - p < more) return WRONG;
    c &= 0x3f >> more;
    for (int i = 0; i < more; i++) {
        if ((p[i] & 0xc0) != 0x80) return WRONG;
        c = c << 6 | (p[i] & 0x3f);
    }
    least = more == 3 ? 0x10000 : more == 2 ? 0x800 : 0x80;
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return WRONG;
    t->at = p + more;
    return c;
}

static int32_t next(struct text *t);

static int32_t hex4(struct text *t)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const int32_t c = next(t);
        int32_t digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else
            return WRONG;
        value = value << 4 | digit;
    }
    return value;
}

/* The next character of a JSON string that begins behind t's place, END at its quote. */
static int32_t string_next(struct text *t)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int32_t c = next(t), low;
    struct text after;
    if (c == '"') return END;
    if (c < 0x20) return WRONG; /* the text ends as well */
    if (c != '\\') return c;
    c = next(t);
    if (c != 'u') {
        const char *found = c > 0 && c < 0x80 ? strchr(from, (int)c) : NULL;
        return found ? to[found - from] : WRONG;
    }
    c = hex4(t);
    if (!is_surrogate(c, 0xd800)) return c;
    after = *t;
    if (next(&after) != '\\' || next(&after) != 'u') return c;
    low = hex4(&after);
    if (low == WRONG) return WRONG;
    if (!is_surrogate(low, 0xdc00)) return c;
    *t = after;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* The next character of a text. The recursion is of depth 1: a nested text is inside of a
 * string of a text that is not. */
static int32_t next(struct text *t)
{
    struct text outer;
    int32_t c;
    if (t->at == t->end) return END;
    c = *t->at;
    if (c >= ' ' && c < 0x80 && c != '"' && c != '\\') { /* most are like this */
        t->at++;
        return c;
    }
    if (!t->nested) return utf8_next(t);
    outer = (struct text){t->at, t->end, 0};
    c = string_next(&outer);
    t->at = outer.at;
    return c;
}

static int32_t peek(struct text t) { return next(&t); }

static int32_t after_space(struct text *t)
{
    int32_t c;
    while ((c = peek(*t)) == ' ' || c == '\t' || c == '\n' || c == '\r') next(t);
    return c;
}

static int accept(struct text *t, int32_t wanted)
{
    if (after_space(t) != wanted) return 0;
    next(t);
    return 1;
}

static int accept_word(struct text *t, const char *word)
{
    struct text at = *t;
    for (; *word; word++)
        if (next(&at) != *word) return 0;
    *t = at;
    return 1;
}

static int skip_digits(struct text *t)
{
    int count = 0;
    for (int32_t c; (c = peek(*t)) >= '0' && c <= '9'; count++) next(t);
    return count;
}

/* Past a string, whose opening quote is next. Half a surrogate pair is no text. */
static int skip_string(struct text *t)
{
    int32_t c;
    if (next(t) != '"') return 0;
    while ((c = string_next(t)) >= 0)
        if (c >= 0xd800 && c < 0xe000) return 0;
    return c == END;
}

/* Past a number. Zero has no sign if it is whole, so that each has one form. */
static int skip_number(struct text *t)
{
    const int negative = accept_word(t, "-"), zero = accept_word(t, "0");
    int whole = 1;
    if (!zero && skip_digits(t) == 0) return 0;
    if (accept_word(t, ".")) {
        whole = 0;
        if (skip_digits(t) == 0) return 0;
    }
    if (accept_word(t, "e") || accept_word(t, "E")) {
        whole = 0;
        if (!accept_word(t, "+")) accept_word(t, "-");
        if (skip_digits(t) == 0) return 0;
    }
    return !(whole && negative && zero);
}

/* Past a value; whether it is one. */
static int skip_value(struct text *t)
{
    unsigned char is_object[MAX_DEPTH];
    int depth = 0;
    for (;;) {
        int32_t c = after_space(t);
        if (c == '{' || c == '[') {
            next(t);
            if (accept(t, c == '{' ? '}' : ']')) goto closed;
            if (depth == MAX_DEPTH) return 0;
            is_object[depth++] = c == '{';
        } else {
            if (c == '"') {
                if (!skip_string(t)) return 0;
            } else if (!accept_word(t, "true") && !accept_word(t, "false") &&
                       !accept_word(t, "null") && !skip_number(t)) {
                return 0;
            }
        closed:
            while (depth > 0 && accept(t, is_object[depth - 1] ? '}' : ']')) depth--;
            if (depth == 0) return 1;
            if (!accept(t, ',')) return 0;
        }
        if (is_object[depth - 1]) {
            after_space(t);
            if (!skip_string(t) || !accept(t, ':')) return 0;
        }
    }
}

/* Whether the text is one value and nothing after it. */
static int is_json(struct text t) { return skip_value(&t) && after_space(&t) == END; }

/* What follows is given places in JSON that has been checked. */

/* To the next item of an array or object that begins at *t: `*first` is 1 for the first.
 * Whether there is one; then *item is the value, and *key its key's string. */
static int next_item(struct text *t, int *first, struct text *key, struct text *item)
{
    const int32_t c = after_space(t);
    if (*first ? c != '[' && c != '{' : c != ',') return 0;
    next(t);
    if (*first && (accept(t, ']') || accept(t, '}'))) return 0;
    *first = 0;
    after_space(t);
    if (key) {
        *key = *t;
        skip_string(t);
        accept(t, ':');
        after_space(t);
    }
    *item = *t;
    skip_value(t);
    return 1;
}

static int begins_with(struct text t, int32_t c) { return after_space(&t) == c; }

/* Whether the string at t is `wanted`, in ASCII. */
static int string_is(struct text t, const char *wanted)
{
    if (next(&t) != '"') return 0;
    for (; *wanted; wanted++)
        if (string_next(&t) != *wanted) return 0;
    return string_next(&t) == END;
}

static int string_length(struct text t)
{
    int length = 0;
    next(&t);
    while (string_next(&t) >= 0) length++;
    return length;
}

/* The values of the object at t by the place of their key in `keys`, which a NULL ends.
 * The keys that it has, a bit each; 0 for one that is unknown or occurs twice. */
static unsigned get_object(struct text t, const char *const *keys, struct text *values)
{
    struct text key, item;
    unsigned seen = 0;
    int first = 1;
    if (!begins_with(t, '{')) return 0;
    while (next_item(&t, &first, &key, &item)) {
        int i = 0;
        while (keys[i] && !string_is(key, keys[i])) i++;
        if (!keys[i] || seen >> i & 1) return 0;
        seen |= 1u << i;
        values[i] = item;
    }
    return seen;
}

/* The JSON text within the string at t. */
static struct text inside(struct text t)
{
    struct text inner = {t.at + 1, t.at, 1};
    next(&t);
    do inner.end = t.at;
    while (string_next(&t) >= 0);
    return inner;
}

/* A whole number; 0 for something else, or a number beyond -2^63 or 2^63 - 1. */
static int get_whole(struct text t, int64_t *value)
{
    const int negative = peek(t) == '-';
    uint64_t sum = 0;
    int32_t c;
    int count = 0;
    if (negative) next(&t);
    for (; (c = peek(t)) >= '0' && c <= '9'; count++) {
        const uint64_t digit = (uint64_t)(c - '0');
        next(&t);
        if (sum > ((uint64_t)INT64_MAX + 1 - digit) / 10) return 0;
        sum = sum * 10 + digit;
    }
    if (count == 0 || c == '.' || c == 'e' || c == 'E') return 0;
    if (!negative && sum > INT64_MAX) return 0;
    *value = negative ? (sum ? -(int64_t)(sum - 1) - 1 : 0) : (int64_t)sum;
    return 1;
}

static int get_size(struct text t, int least, int *value)
{
    int64_t found;
    if (!get_whole(t, &found) || found < least || found > MAX_SIDE) return 0;
    *value = (int)found;
    return 1;
}

/* The array at t as `most` sizes at most: how many, or -1. */
static int get_sizes(struct text t, int least, int most, int *values)
{
    struct text item;
    int first = 1, count = 0;
    if (!begins_with(t, '[')) return -1;
    for (; next_item(&t, &first, NULL, &item); count++)
        if (count == most || !get_size(item, least, &values[count])) return -1;
    return count;
}
