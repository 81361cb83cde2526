"""lenet5c for other Cython modules: `from lenet5c.embed cimport lenet5c_predict_u8`.

csrc/lenet5c.h says what each function does; compile with `lenet5c config --cflags`, which
names the folder of that header, and link nothing. None needs the GIL. Functions that
return an int return 0 or a negative code, unless they say otherwise.
"""

from libc.stdint cimport int32_t, uint8_t


cdef extern from "lenet5c.h":
    ctypedef struct lenet5c_model:
        pass
    ctypedef struct lenet5c_input_info:
        int channels, height, width
        int source_height, source_width
    ctypedef struct lenet5c_layout:
        int count, height, width
        Py_ssize_t image_step, channel_step, row_step, column_step


cdef int lenet5c_abi_version() noexcept nogil
cdef const char *lenet5c_strerror(int code) noexcept nogil
cdef int lenet5c_open(const char *path, lenet5c_model **model) noexcept nogil
cdef int lenet5c_open_memory(
    const void *content, size_t size, lenet5c_model **model
) noexcept nogil
cdef void lenet5c_close(lenet5c_model *model) noexcept nogil
cdef int lenet5c_input(const lenet5c_model *model, lenet5c_input_info *info) noexcept nogil
cdef int lenet5c_classes(const lenet5c_model *model) noexcept nogil
cdef const char *lenet5c_class_name(const lenet5c_model *model, int k) noexcept nogil
cdef size_t lenet5c_workspace_size(const lenet5c_model *model) noexcept nogil
cdef int lenet5c_predict_u8(
    const lenet5c_model *model, void *workspace, const uint8_t *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits,
) noexcept nogil
cdef int lenet5c_predict_f32(
    const lenet5c_model *model, void *workspace, const float *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits,
) noexcept nogil
cdef int lenet5c_classify(
    const lenet5c_model *model, void *workspace, const uint8_t *image
) noexcept nogil

# One step of a `model.trainer(...)`, given its `address`, on `count` images of the size
# that it was made for, (count, C, H, W) without gaps, and their class numbers. The mean
# loss before the step is written, unless `loss` is NULL. -1, and no step, if count or a
# class number is out of range. One call at a time for one trainer.
cdef int lenet5c_train_step_u8(
    void *trainer, const uint8_t *images, const int32_t *labels, int count,
    float learning_rate, float *loss,
) noexcept nogil
cdef int lenet5c_train_step_f32(
    void *trainer, const float *images, const int32_t *labels, int count,
    float learning_rate, float *loss,
) noexcept nogil
