/* The file: a header in JSON, then numbers. docs/model_file.md says what is refused. */

/* How weights lie in bytes: `count` digits to the base in each, that of the least value
 * first, which are weights less the least one; or 8-bit numbers, where the count is 1. */
struct packing {
    unsigned base;
    int count, least, most;
};

struct file {
    const unsigned char *bytes, *payload;
    size_t size;
    uint64_t payload_size; /* bytes */
    int is_int8;           /* integers, or else floats */
    struct packing packing;
    struct text entries;
    int tensors;
    struct text network, input_stage, classes;
    int in_parts; /* the payload is elsewhere, and there are no digits to compare */
};

/* Whether it is a later one than `before`, which it replaces. */
static int is_epoch(struct text t, int64_t *before)
{
    const int64_t least = *before + 1;
    return get_whole(t, before) && *before >= least && *before <= INT32_MAX;
}

/* Whether it is finite, or a null for what is not known. */
static int is_figure(struct text t, int64_t *before)
{
    double value;
    (void)before;
    return begins_with(t, 'n') ||
           (get_number(t, &value) && value >= -DBL_MAX && value <= DBL_MAX);
}

/* How many entries a list has; -1 if one is something else, or it is none. */
static int64_t list_length(struct text list, int (*is_entry)(struct text, int64_t *))
{
    struct text item;
    int64_t count = 0, before = 0;
    int first = 1;
    if (!begins_with(list, '[')) return -1;
    for (; next_item(&list, &first, NULL, &item); count++)
        if (!is_entry(item, &before)) return -1;
    return count;
}

/* Whether these are lists of the training's epochs, in order, all of one length. */
static int is_history(struct text t)
{
    static const char *const keys[] = {"epoch", "loss", "accuracy", "learning_rate",
        "validation_loss", "validation_accuracy", NULL};
    struct text values[6];
    const unsigned seen = get_object(t, keys, values);
    int64_t length;
    if ((seen & 15) != 15 || (length = list_length(values[0], is_epoch)) < 0) return 0;
    for (int i = 1; i < 6; i++)
        if (seen >> i & 1 && list_length(values[i], is_figure) != length) return 0;
    return 1;
}

/* Whether it is a number above 0 that float32 holds. */
static int is_unit(struct text t, int64_t *before)
{
    double value;
    (void)before;
    return get_number(t, &value) && value > 0 && value <= (double)FLT_MAX;
}

/* Whether it says how few bits the model was trained for; sets how weights are packed. */
static int is_rounding(struct text t, struct packing *packing)
{
    static const struct packing known[] = {
        [0] = {3, 5, -1, 1}, [2] = {4, 4, -2, 1}, [4] = {16, 2, -7, 7}, [8] = {.count = 1}};
    static const char *const keys[] = {"weights", "activations", "units", NULL};
    struct text values[3];
    int64_t weights = 0, activations;
    if (get_object(t, keys, values) != 7) return 0;
    if (begins_with(values[0], '"') ? !string_is(values[0], "ternary")
                                    : !get_whole(values[0], &weights) ||
                                          (weights != 8 && weights != 4 && weights != 2))
        return 0;
    *packing = known[weights];
    return get_whole(values[1], &activations) && activations == 8 &&
           list_length(values[2], is_unit) >= 0;
}

/* Whether it says how the model was trained: read by others alone. */
static int is_training(struct text t, struct packing *packing)
{
    static const char *const keys[] = {"passes", "data", "history", "rounding", NULL};
    struct text values[4];
    int64_t passes;
    unsigned seen;
    if (!is_json(t) || ((seen = get_object(t, keys, values)) & 3) != 3) return 0;
    return get_whole(values[0], &passes) && passes >= 0 && passes <= INT32_MAX &&
           (begins_with(values[1], '"') || begins_with(values[1], 'n')) &&
           (!(seen & 4) || is_history(values[2])) &&
           (!(seen & 8) || is_rounding(values[3], packing));
}

static int check_metadata(struct file *file, struct text metadata)
{
    static const char *const keys[] = {"sha256", "format", "format_version", "network",
        "input_stage", "classes", "training", NULL};
    struct text values[7];
    if (get_object(metadata, keys, values) != 0x7f) return LENET5C_BAD_HEADER;
    for (int i = 0; i < 7; i++)
        if (!begins_with(values[i], '"')) return LENET5C_BAD_HEADER;
    file->is_int8 = string_is(values[2], "3");
    if (!string_is(values[1], "lenet5c") || !(file->is_int8 || string_is(values[2], "2")))
        return LENET5C_BAD_HEADER;
    file->packing = (struct packing){.count = 1};
    if (!is_training(inside(values[6]), &file->packing)) return LENET5C_BAD_HEADER;
    file->network = inside(values[3]);
    file->input_stage = inside(values[4]);
    file->classes = inside(values[5]);
    return !is_json(file->network)       ? LENET5C_BAD_NETWORK
           : !is_json(file->input_stage) ? LENET5C_BAD_INPUT
           : !is_json(file->classes)     ? LENET5C_BAD_CLASSES
                                         : LENET5C_OK;
}

static const char *const tensor_keys[] = {"dtype", "shape", "data_offsets", NULL};

/* Bytes of a number of that type; 0 if the file has none of it. */
static unsigned size_of_dtype(const struct file *file, struct text dtype)
{
    if (!file->is_int8) return string_is(dtype, "F32") ? 4 : 0;
    return string_is(dtype, "I8") || string_is(dtype, "U8") ? 1
           : string_is(dtype, "I32")                        ? 4
                                                            : 0;
}

/* The tensor at `entry` begins where the last one ended: file->payload_size, which is moved
 * on. */
static int check_tensor(struct file *file, struct text entry)
{
    struct text values[3], item;
    int first = 1, count = 0;
    uint64_t size = 1;
    unsigned bytes;
    int64_t value;
    if (get_object(entry, tensor_keys, values) != 7 ||
        !(bytes = size_of_dtype(file, values[0])) || !begins_with(values[1], '[') ||
        !begins_with(values[2], '['))
        return LENET5C_BAD_HEADER;
    for (; next_item(&values[1], &first, NULL, &item); count++) {
        if (count == MAX_DIMENSIONS || !get_whole(item, &value) || value < 1)
            return LENET5C_BAD_HEADER;
        if ((uint64_t)value > MAX_FLOATS / size) return LENET5C_BAD_NETWORK;
        size *= (uint64_t)value;
    }
    size *= bytes;
    for (first = 1, count = 0; next_item(&values[2], &first, NULL, &item); count++) {
        if (!get_whole(item, &value) || value < 0 || count == 2 ||
            (uint64_t)value != file->payload_size + (count ? size : 0))
            return LENET5C_BAD_HEADER;
    }
    if (count != 2) return LENET5C_BAD_HEADER;
    file->payload_size += size;
    return LENET5C_OK;
}

static int check_header(struct file *file, const void *bytes, size_t size)
{
    static const char start[] = "{\"__metadata__\":{\"sha256\":\"";
    uint64_t length = 0;
    struct text header, key, item;
    int first = 1, code;
    file->bytes = bytes;
    file->size = size;
    file->in_parts = 0;
    if (size < 8) return LENET5C_BAD_HEADER;
    for (int i = 7; i >= 0; i--) length = length << 8 | file->bytes[i];
    if (length < MIN_HEADER || length > MAX_HEADER) return LENET5C_BAD_HEADER;
    if (size - 8 < length) return LENET5C_BAD_SIZE;
    file->payload = file->bytes + 8 + length;
    header = (struct text){file->bytes + 8, file->payload, 0};
    if (memcmp(header.at, start, sizeof start - 1) != 0 || !is_json(header))
        return LENET5C_BAD_HEADER;
    next_item(&header, &first, &key, &item);
    code = check_metadata(file, item);
    if (code) return code;
    file->entries = header;
    file->payload_size = 0;
    file->tensors = 0;
    while (next_item(&header, &first, &key, &item)) {
        code = check_tensor(file, item);
        if (code) return code;
        file->tensors++;
    }
    return size - 8 - length == file->payload_size ? LENET5C_OK : LENET5C_BAD_SIZE;
}

/* The 64 digits of the SHA-256 of a file in which its own digits, at DIGITS, are zeros. */
static void file_sha256(const unsigned char *bytes, size_t size, char *digits)
{
    static const char zeros[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    struct sha256 s = {{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                           0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
        0, {0}};
    sha256_add(&s, bytes, DIGITS);
    sha256_add(&s, (const unsigned char *)zeros, 64);
    sha256_add(&s, bytes + DIGITS + 64, size - DIGITS - 64);
    sha256_end(&s, digits);
}

static int check_payload(const struct file *file)
{
    char digits[65] = {[64] = '"'};
    if (!file->in_parts) {
        file_sha256(file->bytes, file->size, digits);
        if (memcmp(file->bytes + DIGITS, digits, 65) != 0) return LENET5C_BAD_CHECKSUM;
    }
    if (file->is_int8) return LENET5C_OK; /* the plan looks at each number */
    for (const unsigned char *p = file->payload; p < file->payload + file->payload_size;
        p += 4)
        if ((p[3] & 0x7f) == 0x7f && p[2] & 0x80) return LENET5C_BAD_VALUE;
    return LENET5C_OK;
}

static float payload_float(const struct file *file, int64_t at)
{
    const unsigned char *p = file->payload + 4 * at;
    const uint32_t bits =
        (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | (uint32_t)p[0];
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
