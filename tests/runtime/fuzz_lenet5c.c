/* libFuzzer target: whatever a model file holds, the C runtime refuses or runs it.
 *
 *     PYTHONPATH=tests python tests/runtime/test_runtime.py corpus
 *                                               writes model files to start from
 *     clang -g -O2 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
 *         -Icsrc tests/runtime/fuzz_lenet5c.c -o fuzz
 *     ./fuzz -max_len=6000 -max_total_time=1200 corpus
 *
 * Mutations keep the checksum right, mostly, and the length of the header. Some write the
 * tensors anew, so that they fit what the layers have become: then it is run, too.
 *
 * With -DLENET5C_FUZZ_MAIN it is a program that runs once over the files that it is given,
 * each also cut off at many places, and needs no libFuzzer.
 */
#include "lenet5c.c"

enum { MAX_WORKSPACE = 1 << 17, MAX_OPS = 60, MAX_BYTES = 1 << 17 };

static void correct_checksum(unsigned char *bytes, size_t size)
{
    char digits[64];
    if (size < DIGITS + 64) return;
    file_sha256(bytes, size, digits);
    memcpy(bytes + DIGITS, digits, 64);
}

/* Predict an image of the network's size and a smaller one, if the model is small. */
static void run(const lenet5c_model *model)
{
    lenet5c_input_info input;
    const int classes = lenet5c_classes(model);
    const size_t size = lenet5c_workspace_size(model);
    if (lenet5c_input(model, &input)) abort();
    if (size > MAX_WORKSPACE || model->op_count > MAX_OPS) return;
    for (int half = 1; half <= 2; half++) {
        lenet5c_layout layout = {.count = 1,
            .height = (input.height + half - 1) / half,
            .width = (input.width + half - 1) / half};
        const size_t pixels =
            (size_t)input.channels * (size_t)layout.height * (size_t)layout.width;
        void *workspace = malloc(size);
        uint8_t *bytes = malloc(pixels);
        float *floats = malloc(pixels * sizeof *floats);
        float *outputs = malloc(2 * (size_t)classes * sizeof *outputs);
        int class = -1;
        for (size_t i = 0; i < pixels; i++) {
            bytes[i] = (uint8_t)(37 * i);
            floats[i] = (float)bytes[i] / 100;
        }
        if (lenet5c_predict_u8(
                model, workspace, bytes, &layout, &class, outputs, outputs + classes) ||
            class < 0 || class >= classes)
            abort();
        if (lenet5c_predict_f32(model, workspace, floats, &layout, &class, NULL, outputs) !=
            (model->int8.kernels ? LENET5C_BAD_PIXELS : LENET5C_OK))
            abort();
        free(outputs);
        free(floats);
        free(bytes);
        free(workspace);
    }
}

/* Open it from and in memory that the sanitizer guards at both ends. */
static void try_file(const unsigned char *bytes, size_t size)
{
    unsigned char *copy = malloc(size + !size), *memory;
    lenet5c_model *model;
    size_t needed = 0;
    int code;
    memcpy(copy, bytes, size);
    code = lenet5c_memory_size(copy, size, &needed);
    if (needed > 1 << 24) code = 1;
    if (code) {
        free(copy);
        return;
    }
    memory = malloc(needed + 1);
    code = lenet5c_open_in(copy, size, memory + 1, needed, &model);
    free(copy);
    if (code ? model != NULL : model == NULL) abort();
    for (int k = 0; k < lenet5c_classes(model); k++)
        if (strlen(lenet5c_class_name(model, k)) > size) abort();
    if (!code) run(model);
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_file(data, size);
    return 0;
}

#ifdef LENET5C_FUZZ_MAIN
int main(int count, char **arguments)
{
    static unsigned char bytes[MAX_BYTES], copy[MAX_BYTES];
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(arguments[i], "rb");
        size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
        if (!file || fclose(file)) return 2;
        try_file(bytes, size);
        for (size_t end = 0; end < size; end += 1 + end / 64) {
            memcpy(copy, bytes, end);
            correct_checksum(copy, end);
            try_file(copy, end);
        }
    }
    return 0;
}
#else
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static uint32_t state;

static size_t random_below(size_t n)
{
    state = state * 1664525 + 1013904223;
    return (size_t)(((uint64_t)state * n) >> 32);
}

static int is_digit(unsigned char c) { return c >= '0' && c <= '9'; }

/* Put `word` in place of `n` bytes at `at`; the new size. */
static size_t replace(unsigned char *bytes, size_t size, size_t max_size, size_t at,
    size_t n, const char *word)
{
    const size_t length = strlen(word);
    if (size - n + length > max_size) return size;
    memmove(bytes + at + length, bytes + at + n, size - at - n);
    memcpy(bytes + at, word, length);
    return size - n + length;
}

/* One change of the text of a header. */
static size_t change(unsigned char *text, size_t size, size_t max_size)
{
    static const char *const words[] = {"{", "}", "[", "]", "\"", "\\\"", "\\", ",", ":",
        "null", "true", "false", "NaN", "-0", "-1", "1e400", "0.5", "1e-320", "\\ud800",
        "\\\\ud83d\\\\ude00", "\\u0000", "\xed\xa0\x80", "\xff", "\xc3\xbc", "1048576",
        "268435456", "9223372036854775808",
        ",{\\\"kind\\\": \\\"tanh\\\", \\\"name\\\": "
        "\\\"q\\\"}",
        ",{\\\"kind\\\": \\\"flatten\\\", \\\"name\\\": \\\"r\\\"}",
        "{\\\"kind\\\": \\\"max_pool2d\\\", \\\"kernel_size\\\": 2, \\\"stride\\\": 1, "
        "\\\"name\\\": \\\"s\\\"},",
        "{\\\"kind\\\": \\\"conv2d\\\", \\\"filters\\\": 3, "
        "\\\"kernel_size\\\": [5, 3], \\\"stride\\\": 1, \\\"padding\\\": 2, \\\"init\\\": "
        "null, \\\"name\\\": \\\"t\\\"},"};
    const char *word = words[random_below(sizeof words / sizeof *words)];
    size_t at = random_below(size), n = random_below(4);
    char number[16];
    if (random_below(3) > 0) { /* another number in place of one */
        while (at < size && !is_digit(text[at])) at++;
        for (n = 0; at + n < size && is_digit(text[at + n]);) n++;
        snprintf(number, sizeof number, "%u",
            (unsigned)random_below((size_t)1 << random_below(9)));
        if (random_below(16)) word = number;
        return replace(text, size, max_size, at, n, word);
    }
    if (random_below(2)) return LLVMFuzzerMutate(text, size, max_size);
    return replace(text, size, max_size, at, n < size - at ? n : size - at, word);
}

/* A header whose tensors and classes fit the layers of `file`, and a payload; 0 if there
 * are none that fit. */
static size_t rebuild(const struct file *file, unsigned char *bytes, size_t max_size)
{
    static char tensors[MAX_BYTES], head[MAX_BYTES];
    static const char *const keys[] = {"input_shape", "layers", NULL};
    struct text values[2], item;
    const struct text stage = file->input_stage, network = file->network;
    int64_t c, h, w, begin = 0;
    int first = 1, sizes[3];
    size_t used = 0, length;
    if (get_object(network, keys, values) != 3 || !begins_with(values[1], '[') ||
        get_sizes(values[0], 1, 3, sizes) != 3)
        return 0;
    c = sizes[0], h = sizes[1], w = sizes[2];
    while (next_item(&values[1], &first, NULL, &item)) {
        struct layer layer = {0};
        struct text end;
        int64_t taps, border;
        int name;
        if (c * h * w > MAX_BYTES || !read_layer(item, &layer)) return 0;
        border = 2 * layer.padding;
        taps = layer.kind == &conv2d_kind ? c * layer.kh * layer.kw : c * h * w;
        if (layer.kind == &conv2d_kind || layer.kind == &dense_kind) {
            const int pairs = layer.has_table ? read_table(&layer, (int)c, NULL, NULL) : 0;
            const int64_t count = layer.has_table ? (int64_t)pairs * layer.kh * layer.kw
                                                  : layer.filters * taps;
            if (pairs < 0) return 0;
            if (4 * (begin + count + layer.filters) > (int64_t)max_size) return 0;
            end = layer.name;
            skip_string(&end);
            name = (int)(end.at - layer.name.at) - 4; /* its quotes are \" */
            if (name < 1 || used + 2 * (size_t)name + 400 > sizeof tensors) return 0;
            used += (size_t)sprintf(tensors + used, ",\"%.*s.weight\":{\"dtype\":\"F32\",",
                name, (const char *)layer.name.at + 2);
            if (layer.has_table)
                used += (size_t)sprintf(
                    tensors + used, "\"shape\":[%d,%d,%d]", pairs, layer.kh, layer.kw);
            else if (layer.kind == &conv2d_kind)
                used += (size_t)sprintf(tensors + used, "\"shape\":[%d,%d,%d,%d]",
                    layer.filters, (int)c, layer.kh, layer.kw);
            else
                used += (size_t)sprintf(
                    tensors + used, "\"shape\":[%d,%d]", layer.filters, (int)taps);
            used += (size_t)sprintf(tensors + used, ",\"data_offsets\":[%d,%d]}",
                4 * (int)begin, 4 * (int)(begin + count));
            begin += count;
            used += (size_t)sprintf(tensors + used,
                ",\"%.*s.bias\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%d,%d]"
                "}",
                name, (const char *)layer.name.at + 2, layer.filters, 4 * (int)begin,
                4 * (int)(begin + layer.filters));
            begin += layer.filters;
        }
        if (layer.kind == &conv2d_kind || layer.kind == &avg_pool2d_kind ||
            layer.kind == &max_pool2d_kind) {
            if (layer.kh > h + border || layer.kw > w + border) return 0;
            h = (h + border - layer.kh) / layer.stride + 1;
            w = (w + border - layer.kw) / layer.stride + 1;
        }
        if (layer.kind == &conv2d_kind) c = layer.filters;
        if (layer.kind == &flatten_kind) c *= h * w;
        if (layer.kind == &dense_kind) c = layer.filters;
        if (layer.kind == &flatten_kind || layer.kind == &dense_kind) h = w = 1;
    }
    c *= h * w;
    length = (size_t)(stage.end - stage.at) + (size_t)(network.end - network.at);
    if (c < 2 || c > 400 || used + length + 2600 > sizeof head) return 0;
    length = (size_t)sprintf(head,
        "{\"__metadata__\":{\"sha256\":\"%064d\",\"format\":\"lenet5c\","
        "\"format_version\":\"2\",\"network\":\"%.*s\",\"input_stage\":\"%.*s\","
        "\"training\":\"{\\\"passes\\\":0,\\\"data\\\":null}\",\"classes\":\"[",
        0, (int)(network.end - network.at), (const char *)network.at,
        (int)(stage.end - stage.at), (const char *)stage.at);
    for (int k = 0; k < c; k++)
        length += (size_t)sprintf(head + length, k ? ",%d" : "%d", k);
    length += (size_t)sprintf(head + length, "]\"}%.*s}", (int)used, tensors);
    if (8 + length + 4 * (size_t)begin > max_size) return 0;
    memcpy(bytes + 8, head, length);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    for (size_t i = 8 + length; i < 8 + length + 4 * (size_t)begin; i += 4) {
        const float value = (float)random_below(1000) / 500 - 1;
        memcpy(bytes + i, &value, 4);
    }
    return 8 + length + 4 * (size_t)begin;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static unsigned char text[MAX_BYTES], payload[MAX_BYTES];
    size_t length = 0, rest;
    struct file file = {0};
    state = seed;
    if (size < 8 || max_size > MAX_BYTES) return LLVMFuzzerMutate(data, size, max_size);
    for (int i = 3; i >= 0; i--) length = length << 8 | data[i];
    if (length > size - 8 || length == 0) length = size - 8;
    rest = size - 8 - length;
    memcpy(text, data + 8, length);
    memcpy(payload, data + 8 + length, rest);
    if (rest > 0 && random_below(16) == 0)
        rest = LLVMFuzzerMutate(payload, rest, max_size - 8 - length);
    else
        for (size_t n = 1 + random_below(3); n > 0 && length > 0; n--)
            length = change(text, length, max_size - 8 - rest);
    for (int i = 0; i < 8; i++) data[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(data + 8, text, length);
    memcpy(data + 8 + length, payload, rest);
    size = 8 + length + rest;
    if (random_below(3)) {
        struct text header = {text, text + length, 0}, key, item;
        int first = 1;
        if (is_json(header) && next_item(&header, &first, &key, &item) &&
            check_metadata(&file, item) == LENET5C_OK) {
            const size_t built = rebuild(&file, data, max_size);
            if (built) size = built;
        }
    }
    if (random_below(32)) correct_checksum(data, size);
    return size;
}
#endif
