"""A Numba loop that slides a window over an image, by the address of a C function.

    python windows_numba.py digits.lenet5c frame.npy

frame.npy is a (rows, columns) uint8 array. Prints the class of each window, the windows
side by side without overlap.
"""

import ctypes
import sys

import numba
import numpy as np

import lenet5c
from lenet5c import embed

PREDICT = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 7)(
    embed.addresses["lenet5c_predict_u8"]
)
# lenet5c_layout of lenet5c.h
LAYOUT = np.dtype(
    [(name, np.intc) for name in ("count", "height", "width")]
    + [(f"{name}_step", np.intp) for name in ("image", "channel", "row", "column")],
    align=True,
)


@numba.njit(nogil=True)
def classify(model, workspace, layout, height, width, frame):
    """Class numbers of the windows of a frame, (rows, columns)."""
    rows, columns = frame.shape[0] // height, frame.shape[1] // width
    found = np.zeros((rows, columns), np.intc)
    for row in range(rows):
        for column in range(columns):
            window = frame[row * height :, column * width :]
            code = PREDICT(
                model,
                workspace.ctypes.data,
                window.ctypes.data,
                layout.ctypes.data,
                found[row:, column:].ctypes.data,
                0,
                0,
            )
            if code != 0:
                raise ValueError("the windows do not fit the model")
    return found


def main(path, frame):
    model = lenet5c.load(path)
    predictor = model.predictor()
    height, width = model.source
    layout = np.zeros(1, LAYOUT)
    layout["count"], layout["height"], layout["width"] = 1, height, width
    layout["row_step"], layout["column_step"] = frame.strides
    workspace = np.empty(predictor.workspace_size, np.uint8)
    codes = classify(
        predictor.address, workspace, layout.view(np.uint8), height, width, frame
    )
    for row in model.classes[codes]:
        print(*row)


if __name__ == "__main__":
    main(sys.argv[1], np.load(sys.argv[2]))
