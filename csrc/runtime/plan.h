/* The plan: layers become ops, and each map gets a place in the workspace. It is made
 * twice: without memory it only counts what the model will need.
 */

struct lenet5c_model {
    const struct kernels *kernels;
    lenet5c_input_info input;
    float scale, offset, background; /* a byte b becomes b * scale + offset */
    float float_scale, float_offset; /* a float likewise, if it */
    float least, most;               /* lies in this range */
    int takes_bytes;
    int op_count;
    ptrdiff_t output;   /* where the logits lie in the workspace */
    uint64_t workspace; /* floats */
    int together;       /* images that are predicted at once */
    ptrdiff_t apart;    /* from the maps of one to those of the next */
    double cycles;      /* that an image takes, roughly, with all weights in the cache */
    uint64_t weights;   /* bytes, as they are packed */
    struct op *ops;
    struct names classes;
    struct int8_model int8;
    void *owned; /* what lenet5c_close gives back, or NULL */
};

/* A place in the workspace, in floats. */
struct map {
    uint64_t begin, size;
    int users; /* those that will read it; 0: nothing lies there */
};

/* Memory is taken from the front; without memory it is only counted. */
struct planner {
    const struct file *file;
    lenet5c_model *model;
    unsigned char *memory;
    uint64_t used;
    struct op spare;             /* stands for each op where there is no memory */
    int channels, height, width; /* of the present map, as it is laid out */
    int hcw;                     /* whether its layout is HCW, or else HWC */
    int flat; /* whether a Flatten layer has passed that has moved nothing yet */
    struct map maps[MAX_MAPS];
    int map;                /* the present one */
    int may_activate;       /* whether the last op takes an activation */
    int of_places;          /* whether there is a layer of many outputs a filter */
    uint64_t dense_weights; /* that images share, in floats */
    int computes;           /* whether there is a layer that computes something */
    int parameters;
    uint64_t payload_size; /* bytes of all parameters */
    struct names layers;   /* so far */
    struct names tensors;  /* of the file */
    struct text *entries;  /* what it says of each */
    int depth;             /* how many residual layers the present one is inside of */
};

static void *take_bytes(struct planner *plan, uint64_t size)
{
    void *taken = plan->memory ? plan->memory + plan->used : NULL;
    plan->used += size;
    return taken;
}

/* The same, aligned. */
static void *take(struct planner *plan, uint64_t size)
{
    plan->used = (plan->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return take_bytes(plan, size);
}

static void take_names(struct planner *plan, struct names *names, int most)
{
    names->all = take(plan, (uint64_t)most * sizeof *names->all);
    names->order = take(plan, (uint64_t)most * sizeof *names->order);
    names->count = 0;
}

static void add_name(struct planner *plan, struct names *names, struct text t)
{
    const struct name name = {NULL, unpack(t, NULL)};
    char *to = take_bytes(plan, name.length + 1);
    if (to) {
        names->all[names->count] = (struct name){to, name.length};
        to[unpack(t, to)] = 0;
    }
    names->count++;
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* Channels of the present map, with those that fill up its last register. */
static int channels_of(const struct planner *plan)
{
    return plan->hcw ? plan->channels
                     : round_up(plan->channels, plan->model->kernels->lanes);
}

static uint64_t map_size(const struct planner *plan)
{
    return (uint64_t)channels_of(plan) * (uint64_t)plan->height * (uint64_t)plan->width;
}

/* Whether a map is one that a model can have. */
static int is_map(int64_t channels, int64_t height, int64_t width)
{
    return height * width <= MAX_FLOATS && channels * height * width <= MAX_FLOATS;
}

static struct op *last_op(struct planner *plan)
{
    lenet5c_model *m = plan->model;
    return plan->memory ? &m->ops[m->op_count - 1] : &plan->spare;
}

/* A new op, which reads the present map. */
static struct op *add_op(
    struct planner *plan, void (*run)(const struct op *, const float *x, float *y))
{
    struct op *op;
    plan->model->op_count++;
    op = last_op(plan);
    memset(op, 0, sizeof *op);
    op->run = run;
    op->hcw = plan->hcw;
    op->channels = channels_of(plan);
    op->height = plan->height;
    op->width = plan->width;
    op->x = op->y = (ptrdiff_t)plan->maps[plan->map].begin;
    plan->may_activate = 0;
    plan->model->cycles += 100 + 3. * (double)map_size(plan) / plan->model->kernels->lanes;
    return op;
}

/* The first gap between the maps that holds `size` floats: the number of a map there. */
static int place_map(struct planner *plan, uint64_t size)
{
    struct map *made = plan->maps;
    uint64_t begin = 0;
    size = (size + 15) / 16 * 16;
    for (int i = 0; i < MAX_MAPS; i++) {
        const struct map *other = &plan->maps[i];
        if (other->users > 0 && other->begin < begin + size &&
            begin < other->begin + other->size) {
            begin = other->begin + other->size;
            i = -1; /* those before may be in the way now */
        }
    }
    while (made->users > 0) made++;
    *made = (struct map){begin, size, 1};
    if (begin + size > plan->model->workspace) plan->model->workspace = begin + size;
    return (int)(made - plan->maps);
}

/* The map that the last op writes, of which the present one becomes; `scratch` floats lie
 * behind it as long as the op runs. */
static uint64_t set_map(
    struct planner *plan, int channels, int height, int width, int hcw, uint64_t scratch)
{
    const int before = plan->map;
    uint64_t size;
    plan->channels = channels;
    plan->height = height;
    plan->width = width;
    plan->hcw = hcw;
    size = map_size(plan);
    plan->map = place_map(plan, size + scratch);
    plan->maps[plan->map].size = (size + 15) / 16 * 16;
    plan->maps[before].users--;
    last_op(plan)->y = (ptrdiff_t)plan->maps[plan->map].begin;
    return size;
}

/* The last op writes over the present map, unless another one reads that later. */
static void set_same_map(struct planner *plan)
{
    if (plan->maps[plan->map].users > 1)
        set_map(plan, plan->channels, plan->height, plan->width, plan->hcw, 0);
}

/* From one output to the next; 0 where there is one alone, since a stride may be larger
 * than any map. */
static void set_steps(struct op *op, ptrdiff_t stride)
{
    const ptrdiff_t unit = op->hcw ? 1 : op->channels;
    op->x_row = op->out_h > 1 ? stride * op->channels * op->width : 0;
    op->x_column = op->out_w > 1 ? stride * unit : 0;
}
