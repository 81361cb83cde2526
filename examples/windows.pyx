# cython: language_level=3
"""A Cython module that slides a window over an image, on all CPUs and without the GIL.

    CFLAGS="-fopenmp $(lenet5c config --cflags)" LDFLAGS=-fopenmp cythonize -i windows.pyx
    python -c "import windows; print(windows.classify('digits.lenet5c', frame, 4))"

Nothing is linked: the functions are those of the installed package.
"""

from cython.parallel cimport parallel, prange
from libc.stdlib cimport free, malloc

import numpy as np

from lenet5c.embed cimport (
    lenet5c_class_name, lenet5c_close, lenet5c_input, lenet5c_input_info, lenet5c_layout,
    lenet5c_model, lenet5c_open, lenet5c_predict_u8, lenet5c_strerror,
    lenet5c_workspace_size,
)


def classify(str path, const unsigned char[:, :] frame not None, int step):
    """Labels, (rows, columns), of the windows that lie `step` pixels apart in a frame."""
    cdef lenet5c_model *model
    cdef lenet5c_input_info input
    cdef lenet5c_layout layout
    cdef int[:, ::1] classes
    cdef void *workspace
    cdef int code = lenet5c_open(path.encode(), &model)
    cdef int rows, columns, row, column
    if code:
        raise ValueError(f"{path}: {lenet5c_strerror(code).decode()}")
    lenet5c_input(model, &input)
    rows = (frame.shape[0] - input.source_height) // step + 1
    columns = (frame.shape[1] - input.source_width) // step + 1
    found = np.zeros((rows, columns), np.intc)
    classes = found
    layout.count = 1
    layout.height = input.source_height
    layout.width = input.source_width
    layout.image_step = 0
    layout.channel_step = 0
    layout.row_step = frame.strides[0]  # a window is read where it lies
    layout.column_step = frame.strides[1]
    with nogil, parallel():
        workspace = malloc(lenet5c_workspace_size(model))
        for row in prange(rows):
            for column in range(columns):
                lenet5c_predict_u8(
                    model, workspace, &frame[row * step, column * step], &layout,
                    &classes[row, column], NULL, NULL,
                )
        free(workspace)
    labels = [
        lenet5c_class_name(model, k).decode() for k in range(1 + found.max(initial=0))
    ]
    lenet5c_close(model)
    return np.array(labels)[found]
