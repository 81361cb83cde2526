/* Opening: count what a model needs, then make it in memory of that size. */

/* Make the model, or count what it takes: `model` is then a place to count in. */
static int make_plan(
    const struct file *file, unsigned char *memory, lenet5c_model *model, uint64_t *used)
{
    struct planner plan = {.file = file, .model = model, .memory = memory};
    const int op_count = model->op_count;
    int code;
    take(&plan, sizeof *model);
    model->op_count = 0;
    model->kernels = choose_kernels();
    if (file->is_int8)
        model->int8.ops = take(&plan, (uint64_t)op_count * sizeof *model->int8.ops);
    else
        model->ops = take(&plan, (uint64_t)op_count * sizeof *model->ops);
    code = file->is_int8 ? plan_int8(&plan) : plan_layers(&plan);
    if (!code) code = plan_input(&plan);
    if (!code) code = plan_classes(&plan);
    *used = plan.used;
    return code;
}

static int count_memory(const struct file *file, lenet5c_model *counted, uint64_t *needed)
{
    const uint64_t most = SIZE_MAX - (1 << 20);
    int code;
    memset(counted, 0, sizeof *counted);
    code = make_plan(file, NULL, counted, needed);
    if (code) return code;
    *needed += (uint64_t)counted->op_count *
               (file->is_int8 ? sizeof(struct int8_op) : sizeof(struct op));
    *needed += 2 * ALIGNMENT;
    if (*needed > most || counted->workspace > most / 2 / sizeof(float))
        return LENET5C_NO_MEMORY;
    return LENET5C_OK;
}

static unsigned char *align(void *memory)
{
    unsigned char *p = memory;
    return p + (ALIGNMENT - (uintptr_t)p % ALIGNMENT) % ALIGNMENT;
}

static int open_in(const struct file *file, const lenet5c_model *counted, void *memory,
    lenet5c_model **model)
{
    unsigned char *place = align(memory);
    lenet5c_model *made = (lenet5c_model *)(void *)place;
    uint64_t used;
    int code = check_payload(file);
    if (code) return code;
    memset(made, 0, sizeof *made);
    made->op_count = counted->op_count;
    made->int8 = counted->int8; /* how large the workspace's parts are */
    code = make_plan(file, place, made, &used);
    if (!code) *model = made;
    return code;
}

int lenet5c_memory_size(const void *bytes, size_t size, size_t *needed)
{
    struct file file;
    lenet5c_model counted;
    uint64_t count;
    int code;
    if (!bytes || !needed) return LENET5C_BAD_ARGUMENT;
    code = check_header(&file, bytes, size);
    if (!code) code = count_memory(&file, &counted, &count);
    if (!code) *needed = (size_t)count;
    return code;
}

int lenet5c_open_in(
    const void *bytes, size_t size, void *memory, size_t memory_size, lenet5c_model **model)
{
    struct file file;
    lenet5c_model counted;
    uint64_t needed;
    int code;
    if (!model) return LENET5C_BAD_ARGUMENT;
    *model = NULL;
    if (!bytes || !memory) return LENET5C_BAD_ARGUMENT;
    code = check_header(&file, bytes, size);
    if (!code) code = count_memory(&file, &counted, &needed);
    if (code) return code;
    if (needed > memory_size) return LENET5C_NO_MEMORY;
    return open_in(&file, &counted, memory, model);
}

#ifndef LENET5C_BARE
static int open_file(const struct file *file, lenet5c_model **model)
{
    lenet5c_model counted;
    uint64_t needed;
    void *memory;
    int code = count_memory(file, &counted, &needed);
    if (code) return code;
    memory = malloc((size_t)needed);
    if (!memory) return LENET5C_NO_MEMORY;
    code = open_in(file, &counted, memory, model);
    if (code)
        free(memory);
    else
        (*model)->owned = memory;
    return code;
}

int lenet5c_open_memory(const void *bytes, size_t size, lenet5c_model **model)
{
    struct file file;
    int code;
    if (!model) return LENET5C_BAD_ARGUMENT;
    *model = NULL;
    if (!bytes) return LENET5C_BAD_ARGUMENT;
    code = check_header(&file, bytes, size);
    return code ? code : open_file(&file, model);
}

#ifdef LENET5C_OPEN_PARTS
/* For Python, which has made the header of `size` bytes and `count` weights itself: they
 * lie apart, and have no digest. Not in lenet5c.h. */
int lenet5c_open_parts(const void *header, size_t size, const float *values, size_t count,
    lenet5c_model **model);
int lenet5c_open_parts(const void *header, size_t size, const float *values, size_t count,
    lenet5c_model **model)
{
    struct file file;
    int code = check_header(&file, header, size + 4 * count);
    if (code) return code;
    file.payload = (const unsigned char *)values;
    file.in_parts = 1;
    return open_file(&file, model);
}

/* What an image of such a model costs, roughly: cycles of arithmetic, the bytes of weights
 * that are read, and for how many images at once they are. */
int lenet5c_cost_parts(const void *header, size_t size, size_t count, double *cycles,
    double *weights, int *together);
int lenet5c_cost_parts(const void *header, size_t size, size_t count, double *cycles,
    double *weights, int *together)
{
    struct file file;
    lenet5c_model counted;
    uint64_t needed;
    int code = check_header(&file, header, size + 4 * count);
    if (!code) code = count_memory(&file, &counted, &needed);
    if (code) return code;
    *cycles = counted.cycles;
    *weights = (double)counted.weights;
    *together = counted.together;
    return LENET5C_OK;
}
#endif

int lenet5c_open(const char *path, lenet5c_model **model)
{
    const long most = 8 + MAX_HEADER + 4 * (long)MAX_FLOATS;
    FILE *file;
    long size = -1;
    unsigned char *bytes = NULL;
    int code = LENET5C_NO_FILE;
    if (!model) return LENET5C_BAD_ARGUMENT;
    *model = NULL;
    if (!path) return LENET5C_BAD_ARGUMENT;
    file = fopen(path, "rb");
    if (!file) return LENET5C_NO_FILE;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size == LONG_MAX) size = -1; /* what a folder says of itself */
    if (size > most) code = LENET5C_BAD_SIZE;
    if (size >= 0 && size <= most && fseek(file, 0, SEEK_SET) == 0) {
        bytes = malloc((size_t)size + 1);
        if (!bytes)
            code = LENET5C_NO_MEMORY;
        else if (fread(bytes, 1, (size_t)size, file) == (size_t)size)
            code = lenet5c_open_memory(bytes, (size_t)size, model);
    }
    free(bytes);
    fclose(file);
    return code;
}

void lenet5c_close(lenet5c_model *model)
{
    if (model) free(model->owned);
}
#endif
