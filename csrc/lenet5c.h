/* lenet5c: run a network that was saved with `model.save`, in C11 and without Python.
 *
 *     lenet5c_model *model;
 *     int code = lenet5c_open("digits.lenet5c", &model);
 *     if (code) return puts(lenet5c_strerror(code)), 1;
 *     void *workspace = malloc(lenet5c_workspace_size(model));
 *     lenet5c_layout layout = {.count = 1, .height = 28, .width = 28};
 *     int class;
 *     code = lenet5c_predict_u8(model, workspace, pixels, &layout, &class, NULL, NULL);
 *     if (!code) puts(lenet5c_class_name(model, class));
 *
 * Compile lenet5c.c together with your program (-O2 is enough) and link nothing else. With
 * -DLENET5C_BARE neither files nor malloc are used: lenet5c_open, lenet5c_open_memory and
 * lenet5c_close are left out.
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

#define LENET5C_ABI_VERSION 1

typedef struct lenet5c_model lenet5c_model;

enum lenet5c_code {
    LENET5C_OK = 0,
    LENET5C_BAD_ARGUMENT = -1, /* NULL, a size that is not positive, a workspace missing */
    LENET5C_NO_MEMORY = -2,    /* malloc failed, or the memory given is too small */
    LENET5C_NO_FILE = -3,      /* the file cannot be opened or read */
    LENET5C_BAD_HEADER = -4,   /* no model file: length, JSON, metadata, offsets */
    LENET5C_BAD_SIZE = -5,     /* the file is shorter or longer than its header says */
    LENET5C_BAD_CHECKSUM = -6, /* a bit has changed */
    LENET5C_BAD_VALUE = -7,    /* a parameter is NaN or infinite */
    LENET5C_BAD_NETWORK = -8,  /* a layer is unknown or its sizes or tensors do not fit */
    LENET5C_BAD_INPUT = -9,    /* the input stage does not fit */
    LENET5C_BAD_CLASSES = -10, /* the labels do not fit */
    LENET5C_BAD_IMAGE = -11,   /* images larger than the network's input */
    LENET5C_BAD_PIXELS = -12   /* pixels of another kind than the network was trained on */
};

/* LENET5C_ABI_VERSION of the library, which changes when a caller has to be recompiled. */
LENET5C_API int lenet5c_abi_version(void);

/* What a code means, in English. */
LENET5C_API const char *lenet5c_strerror(int code);

/* Read a model from a file, or from the bytes of one, of which nothing is needed after the
 * call. *model is NULL if that fails. lenet5c_close gives the memory back; NULL is allowed.
 */
#ifndef LENET5C_BARE
LENET5C_API int lenet5c_open(const char *path, lenet5c_model **model);
LENET5C_API int lenet5c_open_memory(const void *bytes, size_t size, lenet5c_model **model);
LENET5C_API void lenet5c_close(lenet5c_model *model);
#endif

/* The same without malloc: ask for the size, then open in memory of that size and of any
 * alignment. The memory holds the model until nobody uses it any more; there is nothing to
 * close. The size is that of this machine: it depends on the instruction set. */
LENET5C_API int lenet5c_memory_size(const void *bytes, size_t size, size_t *needed);
LENET5C_API int lenet5c_open_in(const void *bytes, size_t size, void *memory,
    size_t memory_size, lenet5c_model **model);

/* Images may be up to height x width. source_height and source_width are what the network
 * was trained on: images brought to another size are recognised badly. */
typedef struct lenet5c_input_info {
    int channels, height, width;
    int source_height, source_width;
} lenet5c_input_info;

LENET5C_API int lenet5c_input(const lenet5c_model *model, lenet5c_input_info *info);

/* How many classes there are, and the label of one as text in UTF-8; NULL if there is no
 * such class. */
LENET5C_API int lenet5c_classes(const lenet5c_model *model);
LENET5C_API const char *lenet5c_class_name(const lenet5c_model *model, int k);

/* The instruction set that was chosen: "avx512", "avx2", "vector" or "scalar". */
LENET5C_API const char *lenet5c_instruction_set(const lenet5c_model *model);

/* Bytes of scratch that a thread needs for predicting, at any alignment. */
LENET5C_API size_t lenet5c_workspace_size(const lenet5c_model *model);

/* Where the pixels lie. A step is the distance between neighbours, in pixels (not bytes);
 * it may be negative, and `pixels` points to row 0, column 0 of channel 0 of image 0. If
 * all four steps are 0, the pixels lie without gaps as (count, channels, height, width). So
 *     a crop of a grey camera frame: row_step = frame width, column_step = 1
 *     interleaved RGB: channel_step = 1, column_step = 3, row_step = 3 * frame width */
typedef struct lenet5c_layout {
    int count, height, width;
    ptrdiff_t image_step, channel_step, row_step, column_step;
} lenet5c_layout;

/* Predict `layout->count` images. An image that is smaller than the network's input is
 * centred in it. Pixels mean what they meant in training:
 *     a network trained on bytes       takes a float from 0 to 1 as the share of 255
 *     on floats from 0 to 1            takes a byte as the share of 255 that it is
 *     on other floats                  takes no bytes, and floats within the range of the
 *                                      training images, widened by its width on both sides
 * All else is LENET5C_BAD_PIXELS, NaN as well; images before that one have been predicted.
 *
 * workspace      scratch of lenet5c_workspace_size bytes, used by nobody else meanwhile
 * classes        (count) number of the most probable class, written, or NULL
 * probabilities  (count, classes) written, or NULL
 * logits         (count, classes) outputs of the last layer, written, or NULL */
LENET5C_API int lenet5c_predict_u8(const lenet5c_model *model, void *workspace,
    const uint8_t *pixels, const lenet5c_layout *layout, int *classes, float *probabilities,
    float *logits);
LENET5C_API int lenet5c_predict_f32(const lenet5c_model *model, void *workspace,
    const float *pixels, const lenet5c_layout *layout, int *classes, float *probabilities,
    float *logits);

/* The class number of one image of the size that the network was trained on, (channels,
 * source_height, source_width) without gaps; or a negative code. */
LENET5C_API int lenet5c_classify(
    const lenet5c_model *model, void *workspace, const uint8_t *image);

#ifdef __cplusplus
}
#endif

#endif
