/* lenet5c from another extension module of the same Python process: one table of functions.
 *
 *     const lenet5c_api *api = lenet5c_import();
 *     if (!api) return NULL;
 *     api->predict_u8(model, workspace, pixels, &layout, &found, NULL, NULL);
 *
 * `model` comes from api->open, or from `address` of a `model.predictor()`; `trainer` from
 * `address` of a `model.trainer(...)`. But for lenet5c_import nothing needs the GIL.
 */
#ifndef LENET5C_API_H
#define LENET5C_API_H

#include <Python.h>

#include "lenet5c.h"

/**
 * Functions are added at the end, and the version grows by one; none is ever removed or
 * changed, so a table serves whoever was compiled against an older one.
 */
#define LENET5C_API_VERSION 1

/**
 * Each member is the function of lenet5c.h with the same name, but for the last two, which
 * take a step of training: images (count, channels, source_height, source_width), labels
 * from 0, the mean loss of the batch written.
 */
typedef struct lenet5c_api {
    int version;
    int (*abi_version)(void);
    const char *(*strerror)(int code);
    int (*open)(const char *path, lenet5c_model **model);
    int (*open_memory)(const void *bytes, size_t size, lenet5c_model **model);
    void (*close)(lenet5c_model *model);
    int (*input)(const lenet5c_model *model, lenet5c_input_info *info);
    int (*classes)(const lenet5c_model *model);
    const char *(*class_name)(const lenet5c_model *model, int k);
    size_t (*workspace_size)(const lenet5c_model *model);
    int (*predict_u8)(const lenet5c_model *model, void *workspace, const uint8_t *pixels,
        const lenet5c_layout *layout, int *classes, float *probabilities, float *logits);
    int (*predict_f32)(const lenet5c_model *model, void *workspace, const float *pixels,
        const lenet5c_layout *layout, int *classes, float *probabilities, float *logits);
    int (*classify)(const lenet5c_model *model, void *workspace, const uint8_t *image);
    int (*train_step_u8)(void *trainer, const uint8_t *images, const int32_t *labels,
        int count, float learning_rate, float *loss);
    int (*train_step_f32)(void *trainer, const float *images, const int32_t *labels,
        int count, float learning_rate, float *loss);
} lenet5c_api;

/** The table, or NULL with a Python exception set. */
static inline const lenet5c_api *lenet5c_import(void)
{
    const lenet5c_api *api =
        (const lenet5c_api *)PyCapsule_Import("lenet5c.embed._C_API", 0);
    if (api && api->version < LENET5C_API_VERSION) {
        PyErr_Format(PyExc_ImportError,
            "lenet5c.embed: expected a function table of version %d or later, got %d",
            LENET5C_API_VERSION, api->version);
        return NULL;
    }
    return api;
}

#endif
