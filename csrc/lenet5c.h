/* lenet5c: run a network that was saved with `model.save`, in C11 and without Python.
 *
 *     lenet5c_model *model;
 *     int code = lenet5c_open("digits.lenet5c", &model);
 *     if (code) return puts(lenet5c_strerror(code)), 1;
 *     void *workspace = malloc(lenet5c_workspace_size(model));
 *     lenet5c_layout layout = {.count = 1, .height = 28, .width = 28};
 *     int found;
 *     code = lenet5c_predict_u8(model, workspace, pixels, &layout, &found, NULL, NULL);
 *     if (!code) puts(lenet5c_class_name(model, found));
 *
 * Compile lenet5c.c, as C, together with your program (-O2 is enough) and link nothing
 * else. With -DLENET5C_BARE neither files nor malloc are used: lenet5c_open,
 * lenet5c_open_memory and lenet5c_close are left out.
 *
 * A model does not change once it is open: any number of threads may use it at the same
 * time, each with a workspace of its own. Nothing is allocated after opening. All functions
 * that return an int return 0 or a negative code, unless they say otherwise.
 */
#ifndef LENET5C_H
#define LENET5C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef LENET5C_API
#if defined(__GNUC__)
#define LENET5C_API __attribute__((visibility("default")))
#else
#define LENET5C_API
#endif
#endif

/** The version of the functions below, which changes when a caller has to be recompiled. */
#define LENET5C_ABI_VERSION 1

/** A model that was opened. */
typedef struct lenet5c_model lenet5c_model;

/** What functions return; lenet5c_strerror() says it in English. */
enum lenet5c_code {
    /** Done. */
    LENET5C_OK = 0,
    /** NULL, a size that is not positive, a workspace missing. */
    LENET5C_BAD_ARGUMENT = -1,
    /** malloc failed, or the memory given is too small. */
    LENET5C_NO_MEMORY = -2,
    /** The file cannot be opened or read. */
    LENET5C_NO_FILE = -3,
    /** No model file: length, JSON, metadata, offsets. */
    LENET5C_BAD_HEADER = -4,
    /** The file is shorter or longer than its header says. */
    LENET5C_BAD_SIZE = -5,
    /** A bit has changed. */
    LENET5C_BAD_CHECKSUM = -6,
    /** A parameter is NaN or infinite. */
    LENET5C_BAD_VALUE = -7,
    /** A layer is unknown or its sizes or tensors do not fit. */
    LENET5C_BAD_NETWORK = -8,
    /** The input stage does not fit. */
    LENET5C_BAD_INPUT = -9,
    /** The labels do not fit. */
    LENET5C_BAD_CLASSES = -10,
    /** Images larger than the network's input. */
    LENET5C_BAD_IMAGE = -11,
    /** Pixels of another kind than the network was trained on. */
    LENET5C_BAD_PIXELS = -12
};

/** LENET5C_ABI_VERSION of the library that runs. */
LENET5C_API int lenet5c_abi_version(void);

/** What a code means, in English. */
LENET5C_API const char *lenet5c_strerror(int code);

#ifndef LENET5C_BARE
/** Read a model from a file. ``*model`` is NULL if that fails. */
LENET5C_API int lenet5c_open(const char *path, lenet5c_model **model);

/**
 * Read a model from the bytes of a file, which are not needed after the call. ``*model``
 * is NULL if that fails.
 */
LENET5C_API int lenet5c_open_memory(const void *bytes, size_t size, lenet5c_model **model);

/** Give the memory of a model back; NULL is allowed. */
LENET5C_API void lenet5c_close(lenet5c_model *model);
#endif

/**
 * Bytes that lenet5c_open_in() needs on this machine: it depends on the instruction set.
 */
LENET5C_API int lenet5c_memory_size(const void *bytes, size_t size, size_t *needed);

/**
 * lenet5c_open_memory() without malloc, in memory of lenet5c_memory_size() bytes and of
 * any alignment. The memory holds the model until nobody uses it any more; there is nothing
 * to close.
 */
LENET5C_API int lenet5c_open_in(const void *bytes, size_t size, void *memory,
    size_t memory_size, lenet5c_model **model);

/** What lenet5c_input() says of the images that a network takes. */
typedef struct lenet5c_input_info {
    /** 1 for grey images, 3 for colours. */
    int channels;
    /** Rows of the largest image that fits. */
    int height;
    /** Columns of the largest image that fits. */
    int width;
    /**
     * Rows of the images that the network was trained on: images brought to another size
     * are recognised badly.
     */
    int source_height;
    /** Columns of the images that the network was trained on. */
    int source_width;
} lenet5c_input_info;

/** The images that a network takes. */
LENET5C_API int lenet5c_input(const lenet5c_model *model, lenet5c_input_info *info);

/** How many classes there are. */
LENET5C_API int lenet5c_classes(const lenet5c_model *model);

/** The label of class k as text in UTF-8; NULL if there is no such class. */
LENET5C_API const char *lenet5c_class_name(const lenet5c_model *model, int k);

/** The instruction set that was chosen: "avx512", "avx2", "vector" or "scalar". */
LENET5C_API const char *lenet5c_instruction_set(const lenet5c_model *model);

/** Bytes of scratch that a thread needs for predicting, at any alignment. */
LENET5C_API size_t lenet5c_workspace_size(const lenet5c_model *model);

/**
 * Where the pixels lie. A step is the distance between neighbours, in pixels (not bytes);
 * it may be negative, and ``pixels`` points to row 0, column 0 of channel 0 of image 0. If
 * all four steps are 0, the pixels lie without gaps as (count, channels, height, width).
 *
 * - A crop of a grey camera frame: row_step = frame width, column_step = 1.
 * - Interleaved RGB: channel_step = 1, column_step = 3, row_step = 3 * frame width.
 */
typedef struct lenet5c_layout {
    /** Images. */
    int count;
    /** Rows of an image. */
    int height;
    /** Columns of an image. */
    int width;
    /** From an image to the next one. */
    ptrdiff_t image_step;
    /** From a channel to the next one. */
    ptrdiff_t channel_step;
    /** From a row to the next one. */
    ptrdiff_t row_step;
    /** From a column to the next one. */
    ptrdiff_t column_step;
} lenet5c_layout;

/**
 * Predict ``layout->count`` images of bytes. An image that is smaller than the network's
 * input is centred in it. Pixels mean what they meant in training. A network trained
 *
 * - on bytes takes a float from 0 to 1 as the share of 255,
 * - on floats from 0 to 1 takes a byte as the share of 255 that it is,
 * - on other floats takes no bytes, and floats within the range of the training images,
 *   widened by its width on both sides.
 *
 * All else is LENET5C_BAD_PIXELS, NaN as well; images before that one have been predicted.
 *
 * - workspace: scratch of lenet5c_workspace_size() bytes, used by nobody else meanwhile
 * - classes: (count) number of the most probable class, written, or NULL
 * - probabilities: (count, classes) written, or NULL
 * - logits: (count, classes) outputs of the last layer, written, or NULL
 */
LENET5C_API int lenet5c_predict_u8(const lenet5c_model *model, void *workspace,
    const uint8_t *pixels, const lenet5c_layout *layout, int *classes, float *probabilities,
    float *logits);

/** lenet5c_predict_u8() for images of floats. */
LENET5C_API int lenet5c_predict_f32(const lenet5c_model *model, void *workspace,
    const float *pixels, const lenet5c_layout *layout, int *classes, float *probabilities,
    float *logits);

/**
 * The class number of one image of the size that the network was trained on, (channels,
 * source_height, source_width) without gaps; or a negative code.
 */
LENET5C_API int lenet5c_classify(
    const lenet5c_model *model, void *workspace, const uint8_t *image);

#ifdef __cplusplus
}
#endif

#endif
