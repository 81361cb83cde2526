"""A trained model for native programs, and for single images from Python.

Everything here runs csrc/lenet5c.c: `Predictor` from Python, the functions of embed.pxd
from Cython, `addresses` from ctypes, cffi, Numba and SciPy, and `_C_API`, a PyCapsule, from
C (csrc/lenet5c_api.h).
"""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_New
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from lenet5c.core.threads cimport (
    Team, Watch, give_back, lenet5c_thread, raise_signals, share, take_team, watch_signals,
)

import numpy

from lenet5c._support import cores as _core
from lenet5c._support.checks import as_array, refuse_masked

__all__ = ["Predictor", "addresses"]

cdef extern from "lenet5c.h" nogil:
    int c_abi_version "lenet5c_abi_version"()
    const char *c_strerror "lenet5c_strerror"(int)
    int c_open "lenet5c_open"(const char *, lenet5c_model **)
    int c_open_memory "lenet5c_open_memory"(const void *, size_t, lenet5c_model **)
    void c_close "lenet5c_close"(lenet5c_model *)
    int c_input "lenet5c_input"(const lenet5c_model *, lenet5c_input_info *)
    int c_classes "lenet5c_classes"(const lenet5c_model *)
    const char *c_class_name "lenet5c_class_name"(const lenet5c_model *, int)
    size_t c_workspace_size "lenet5c_workspace_size"(const lenet5c_model *)
    int c_predict_u8 "lenet5c_predict_u8"(
        const lenet5c_model *, void *, const uint8_t *, const lenet5c_layout *, int *,
        float *, float *)
    int c_predict_f32 "lenet5c_predict_f32"(
        const lenet5c_model *, void *, const float *, const lenet5c_layout *, int *,
        float *, float *)
    int c_scores "lenet5c_scores"(
        const lenet5c_model *, void *, const uint8_t *, const lenet5c_layout *, int32_t *)
    int c_classify "lenet5c_classify"(const lenet5c_model *, void *, const uint8_t *)
    const char *c_instruction_set "lenet5c_instruction_set"(const lenet5c_model *)
    enum: LENET5C_BAD_PIXELS
    enum: LENET5C_NO_MEMORY

cdef extern from *:
    """
    /* csrc/runtime/open.h */
    int lenet5c_open_parts(
        const void *, size_t, const float *, size_t, lenet5c_model **);
    int lenet5c_cost_parts(const void *, size_t, size_t, double *, double *, int *);
    /* csrc/lenet5c.c chooses no kernels with more lanes: those of the core decide */
    int lenet5c_max_lanes = 4;
    """
    int lenet5c_max_lanes
    int c_open_parts "lenet5c_open_parts"(
        const void *, size_t, const float *, size_t, lenet5c_model **) nogil
    int c_cost_parts "lenet5c_cost_parts"(
        const void *, size_t, size_t, double *, double *, int *) nogil

cdef extern from "lenet5c_api.h":
    ctypedef struct lenet5c_api:
        int version
        int (*abi_version)() noexcept nogil
        const char *(*strerror)(int) noexcept nogil
        int (*open)(const char *, lenet5c_model **) noexcept nogil
        int (*open_memory)(const void *, size_t, lenet5c_model **) noexcept nogil
        void (*close)(lenet5c_model *) noexcept nogil
        int (*input)(const lenet5c_model *, lenet5c_input_info *) noexcept nogil
        int (*classes)(const lenet5c_model *) noexcept nogil
        const char *(*class_name)(const lenet5c_model *, int) noexcept nogil
        size_t (*workspace_size)(const lenet5c_model *) noexcept nogil
        int (*predict_u8)(
            const lenet5c_model *, void *, const uint8_t *, const lenet5c_layout *,
            int *, float *, float *) noexcept nogil
        int (*predict_f32)(
            const lenet5c_model *, void *, const float *, const lenet5c_layout *,
            int *, float *, float *) noexcept nogil
        int (*classify)(const lenet5c_model *, void *, const uint8_t *) noexcept nogil
        int (*train_step_u8)(
            void *, const uint8_t *, const int32_t *, int, float, float *) noexcept nogil
        int (*train_step_f32)(
            void *, const float *, const int32_t *, int, float, float *) noexcept nogil
    enum: LENET5C_API_VERSION

from lenet5c.data.images import as_images

cdef struct Many:
    # images that threads share, without gaps, and where to write
    const lenet5c_model *model
    const uint8_t *bytes  # or floats
    const float *floats
    int count, channels, classes
    int part  # images that a thread takes at a time
    lenet5c_layout layout  # 0: no gaps
    float *logits  # or NULL
    float *probabilities  # or NULL
    int32_t *scores  # in place of both, or NULL
    char *workspaces  # one for each thread
    size_t workspace_size
    bint refused  # some pixels; any thread may say so

lenet5c_max_lanes = {"avx512": 16, "avx2": 8}.get(_core.isa, 4)

ctypedef int (*TrainStep)(
    void *, const uint8_t *, const float *, const int32_t *, int, float, float *
) noexcept nogil
cdef TrainStep train_step = <TrainStep><size_t>_core.core.train_step_address()


cdef int lenet5c_abi_version() noexcept nogil:
    return c_abi_version()


cdef const char *lenet5c_strerror(int code) noexcept nogil:
    return c_strerror(code)


cdef int lenet5c_open(const char *path, lenet5c_model **model) noexcept nogil:
    return c_open(path, model)


cdef int lenet5c_open_memory(
    const void *content, size_t size, lenet5c_model **model
) noexcept nogil:
    return c_open_memory(content, size, model)


cdef void lenet5c_close(lenet5c_model *model) noexcept nogil:
    c_close(model)


cdef int lenet5c_input(const lenet5c_model *model, lenet5c_input_info *info) noexcept nogil:
    return c_input(model, info)


cdef int lenet5c_classes(const lenet5c_model *model) noexcept nogil:
    return c_classes(model)


cdef const char *lenet5c_class_name(const lenet5c_model *model, int k) noexcept nogil:
    return c_class_name(model, k)


cdef size_t lenet5c_workspace_size(const lenet5c_model *model) noexcept nogil:
    return c_workspace_size(model)


cdef int lenet5c_predict_u8(
    const lenet5c_model *model, void *workspace, const uint8_t *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits,
) noexcept nogil:
    return c_predict_u8(model, workspace, pixels, layout, classes, probabilities, logits)


cdef int lenet5c_predict_f32(
    const lenet5c_model *model, void *workspace, const float *pixels,
    const lenet5c_layout *layout, int *classes, float *probabilities, float *logits,
) noexcept nogil:
    return c_predict_f32(model, workspace, pixels, layout, classes, probabilities, logits)


cdef int lenet5c_classify(
    const lenet5c_model *model, void *workspace, const uint8_t *image
) noexcept nogil:
    return c_classify(model, workspace, image)


cdef int lenet5c_train_step_u8(
    void *trainer, const uint8_t *images, const int32_t *labels, int count,
    float learning_rate, float *loss,
) noexcept nogil:
    return train_step(trainer, images, NULL, labels, count, learning_rate, loss)


cdef int lenet5c_train_step_f32(
    void *trainer, const float *images, const int32_t *labels, int count,
    float learning_rate, float *loss,
) noexcept nogil:
    return train_step(trainer, NULL, images, labels, count, learning_rate, loss)


cdef lenet5c_api api = lenet5c_api(
    LENET5C_API_VERSION, lenet5c_abi_version, lenet5c_strerror, lenet5c_open,
    lenet5c_open_memory, lenet5c_close, lenet5c_input, lenet5c_classes,
    lenet5c_class_name, lenet5c_workspace_size, lenet5c_predict_u8, lenet5c_predict_f32,
    lenet5c_classify, lenet5c_train_step_u8, lenet5c_train_step_f32,
)
_C_API = PyCapsule_New(&api, "lenet5c.embed._C_API", NULL)

# Of the functions in embed.pxd, by name.
addresses = {
    name: <size_t>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))
    for name, capsule in globals()["__pyx_capi__"].items()
}


cdef class Scratch:
    """Workspaces of one call at a time, one for each of its threads."""

    cdef char *memory
    cdef int threads

    def __dealloc__(self):
        free(self.memory)

    cdef int reserve(self, size_t size, int threads) except -1:
        if threads > self.threads:
            free(self.memory)
            self.threads = 0
            self.memory = <char *>malloc(size * threads)
            if self.memory == NULL:
                raise MemoryError(f"could not allocate {size * threads} bytes")
            self.threads = threads
        return 0


cdef class Predictor:
    """The network as it was when this was made, for one image a call.

    Any number of threads may use one predictor at the same time; the GIL is released.

    Parameters
    ----------
    content : bytes
        A model file; its header, where there is a `vector`.
    labels : sequence
        Of the classes, as `predict` returns them.
    stage : InputStage or None
        That of the file: says what is wrong with an image of another kind of pixels.
    vector : (state,) float32 or None
        The weights of a file that was not written.

    Attributes
    ----------
    address : int
        Of the `const lenet5c_model` for native programs; valid as long as this object.
    workspace_size : int
        Bytes of scratch that a native program has to give to each of its threads.
    instruction_set : str
        "avx512", "avx2" or "vector"; of a network in integers "avx512vnni", "avxvnni",
        "avx2", "sse2" or "portable".

    Raises
    ------
    ValueError
        If `content` is no model that the C runtime opens, or there is not one label for
        each of its classes.

    Examples
    --------
    `Model.predictor` makes one; `Model.save` writes what it opens.

    >>> model.save("digits.lenet5c")
    >>> with open("digits.lenet5c", "rb") as file:
    ...     classify = lenet5c.embed.Predictor(file.read(), model.classes.tolist())
    >>> classify(images[1])
    3
    """

    cdef lenet5c_model *model
    cdef lenet5c_input_info input
    cdef readonly list labels
    cdef readonly bytes content
    cdef readonly object stage
    cdef object vector  # of a content that is a header alone
    cdef readonly size_t workspace_size
    cdef list idle  # Scratch that no call is using

    def __cinit__(
        self, bytes content not None, labels, stage=None, const float[::1] vector=None
    ):
        cdef int code
        if vector is None:
            code = c_open_memory(<const char *>content, len(content), &self.model)
        else:
            code = c_open_parts(
                <const char *>content, len(content), &vector[0], vector.shape[0],
                &self.model,
            )
        if code == LENET5C_NO_MEMORY:
            raise MemoryError("could not allocate the network")
        if code:
            raise ValueError(f"content: {c_strerror(code).decode()}")
        c_input(self.model, &self.input)
        self.content = content
        self.stage = stage
        self.vector = None if vector is None else numpy.asarray(vector)
        self.labels = list(labels)
        if len(self.labels) != c_classes(self.model):
            raise ValueError(
                f"labels: expected {c_classes(self.model)}, got {len(self.labels)}"
            )
        self.workspace_size = (c_workspace_size(self.model) + 63) // 64 * 64
        self.idle = []

    def __dealloc__(self):
        c_close(self.model)

    def __reduce__(self):
        return Predictor, (self.content, self.labels, self.stage, self.vector)

    def __call__(self, image):
        """The label of one image.

        Parameters
        ----------
        image : (H, W) array for one channel, or (C, H, W)
            uint8 or floating, of any strides; as large as the network's input or
            smaller, and then centred in it.

        Raises
        ------
        TypeError, ValueError
            If the image does not fit.
        """
        return self.labels[self.of_image(image, NULL)]

    def predict_proba(self, image):
        """Probabilities of one image's classes.

        Parameters
        ----------
        image : (H, W) or (C, H, W) array
            As in a call.

        Returns
        -------
        (classes,) float32, in the order of `labels`

        Raises
        ------
        TypeError, ValueError
            If the image does not fit.

        Examples
        --------
        >>> probabilities = model.predictor().predict_proba(images[1])
        >>> probabilities.shape, int(probabilities.argmax())
        ((10,), 3)
        """
        cdef float[::1] probabilities
        found = numpy.empty(len(self.labels), numpy.float32)
        probabilities = found
        self.of_image(image, &probabilities[0])
        return found

    def predict_many(
        self, images not None, float[:, ::1] logits, float[:, ::1] probabilities,
        int threads, int part=16, int32_t[:, ::1] scores=None,
    ):
        """Write the logits and probabilities of many images; nothing is checked.

        Parameters
        ----------
        images : (N, C, H, W) uint8 or float32
            C-contiguous, no larger than the network's input.
        logits, probabilities : (N, classes) float32, written; or None
        threads : int
        part : int
            How many images a thread takes at a time.
        scores : (N, classes) int32, written; or None
            Of a network in integers, from uint8, in place of logits and probabilities.

        Returns
        -------
        bool
            False if there are pixels that the network does not take.

        Examples
        --------
        >>> probabilities = np.empty((3, 10), np.float32)
        >>> pixels = images[:3, np.newaxis]
        >>> model.predictor().predict_many(pixels, None, probabilities, threads=1)
        True
        >>> probabilities.argmax(axis=1).tolist()
        [1, 3, 5]
        """
        cdef const uint8_t[:, :, :, ::1] bytes
        cdef const float[:, :, :, ::1] floats
        cdef Scratch scratch = self.take_scratch()
        cdef Many many
        cdef Team *team
        cdef Watch watch = watch_signals()
        cdef int parts = (len(images) + part - 1) // part
        memset(&many, 0, sizeof(Many))
        many.model = self.model
        if images.itemsize == 1:
            bytes = images
            many.bytes = &bytes[0, 0, 0, 0]
        else:
            floats = images
            many.floats = &floats[0, 0, 0, 0]
        many.count, many.channels, many.layout.height, many.layout.width = images.shape
        many.part = part
        many.classes = len(self.labels)
        if logits is not None:
            many.logits = &logits[0, 0]
        if probabilities is not None:
            many.probabilities = &probabilities[0, 0]
        if scores is not None:
            many.scores = &scores[0, 0]
        threads = max(1, min(threads, parts))
        scratch.reserve(self.workspace_size, threads)
        many.workspaces = scratch.memory
        many.workspace_size = self.workspace_size
        with nogil:
            team = take_team(threads)
            share(team, &watch, parts, predict_part, &many)
            give_back(team)
        raise_signals(&watch)
        self.idle.append(scratch)
        return not many.refused

    @property
    def address(self):
        return <size_t>self.model

    @property
    def instruction_set(self):
        return c_instruction_set(self.model).decode()

    cdef Scratch take_scratch(self):
        """Scratch that no other call is using; put it back into `idle`."""
        try:
            return self.idle.pop()
        except IndexError:
            return Scratch()

    cdef int of_image(self, image, float *probabilities) except -1:
        """The number of an image's class."""
        cdef Scratch scratch = self.take_scratch()
        cdef int found
        if type(image) is not numpy.ndarray:
            refuse_masked("image", image)  # which would be read as if they had none
        scratch.reserve(self.workspace_size, 1)
        try:
            found = self.of_buffer(image, scratch.memory, probabilities)
        except (BufferError, TypeError, ValueError):
            found = -1
        if found < 0:  # another shape or type: convert it, or say what is wrong with it
            images = as_images(
                as_array("image", image)[numpy.newaxis],
                (self.input.channels, self.input.height, self.input.width),
                "image",
            )
            if self.stage is not None:
                self.stage.check(images, "image")
            found = self.of_buffer(images[0], scratch.memory, probabilities)
            if found < 0:
                raise ValueError(f"image: {c_strerror(LENET5C_BAD_PIXELS).decode()}")
        self.idle.append(scratch)
        return found

    cdef int of_buffer(self, image, void *workspace, float *probabilities) except? -1:
        """The number of the class, or -1 if the image is none that can be read here."""
        cdef Py_buffer view
        cdef int found
        PyObject_GetBuffer(image, &view, PyBUF_STRIDES | PyBUF_FORMAT)
        found = self.of_view(&view, workspace, probabilities)
        PyBuffer_Release(&view)
        return found

    cdef int of_view(
        self, const Py_buffer *view, void *workspace, float *probabilities
    ) noexcept:
        """The number of the class, or -1 if the image is none that can be read here."""
        cdef lenet5c_layout layout
        cdef int columns = view.ndim - 1
        cdef int found, code, c
        cdef Py_ssize_t of_channel = 0
        cdef const float *floats = <const float *>view.buf
        if view.format == NULL or view.format[0] == 0 or view.format[1] != 0:
            return -1
        if view.ndim == 2 and self.input.channels != 1:
            return -1
        if view.ndim == 3:
            of_channel = view.strides[0]
            if view.shape[0] != self.input.channels:
                return -1
        elif view.ndim != 2:
            return -1
        if view.shape[columns] > self.input.width or view.shape[columns] < 1:
            return -1
        if view.shape[columns - 1] > self.input.height or view.shape[columns - 1] < 1:
            return -1
        layout.count = 1
        layout.height = view.shape[columns - 1]
        layout.width = view.shape[columns]
        layout.image_step = 1  # not all are 0, which would mean: without gaps
        layout.channel_step = of_channel // view.itemsize
        layout.row_step = view.strides[columns - 1] // view.itemsize
        layout.column_step = view.strides[columns] // view.itemsize
        if view.format[0] == c"B":
            with nogil:
                code = c_predict_u8(
                    self.model, workspace, <const uint8_t *>view.buf, &layout, &found,
                    probabilities, NULL,
                )
            return -1 if code else found
        if view.format[0] != c"f" or <size_t>view.buf % sizeof(float):
            return -1
        for c in range(view.ndim):
            if view.strides[c] % <Py_ssize_t>sizeof(float):
                return -1
        with nogil:
            code = c_predict_f32(
                self.model, workspace, floats, &layout, &found, probabilities, NULL
            )
        return -1 if code else found


cdef void predict_part(const void *of, int number) noexcept nogil:
    """Part `number` of many images."""
    cdef Many *many = <Many *>of
    cdef lenet5c_layout layout = many.layout
    cdef Py_ssize_t start = <Py_ssize_t>number * many.part
    cdef Py_ssize_t at = start * many.channels * layout.height * layout.width
    cdef void *workspace = many.workspaces + lenet5c_thread() * many.workspace_size
    cdef float *logits = NULL
    cdef float *probabilities = NULL
    cdef int code
    layout.count = min(<Py_ssize_t>many.part, many.count - start)
    if many.logits != NULL:
        logits = many.logits + start * many.classes
    if many.probabilities != NULL:
        probabilities = many.probabilities + start * many.classes
    if many.scores != NULL:
        code = c_scores(
            many.model, workspace, many.bytes + at, &layout,
            many.scores + start * many.classes,
        )
    elif many.bytes != NULL:
        code = c_predict_u8(
            many.model, workspace, many.bytes + at, &layout, NULL, probabilities, logits
        )
    else:
        code = c_predict_f32(
            many.model, workspace, many.floats + at, &layout, NULL, probabilities, logits
        )
    if code:
        many.refused = True


def cost_of_image(bytes header not None, size_t parameters):
    """(cycles, bytes of weights, images) in the C runtime, estimated: what one image
    takes, and how many share what is loaded; None if it does not open such a model.

    header : of a model file with so many parameters and buffers
    """
    cdef double cycles = 0
    cdef double weights = 0
    cdef int together = 0
    if c_cost_parts(
        <const char *>header, len(header), parameters, &cycles, &weights, &together
    ):
        return None
    return cycles, weights, together
