"""What is public of lenet5c.data.datasets."""

from lenet5c.data.datasets import (
    Dataset,
    Split,
    digits,
    fashion_mnist,
    find,
    image_folder,
    load,
    load_like,
    mnist,
    read_csv,
    read_idx,
    read_images,
    write_idx,
)
from lenet5c.data.datasets import (
    __doc__ as __doc__,
)

__all__ = [
    "Dataset",
    "Split",
    "digits",
    "fashion_mnist",
    "find",
    "image_folder",
    "load",
    "load_like",
    "mnist",
    "read_csv",
    "read_idx",
    "read_images",
    "write_idx",
]
