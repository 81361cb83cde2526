"""Images to learn from: MNIST, Fashion-MNIST, scikit-learn's digits, and your own."""

from lenet5c.data.datasets import (
    Dataset,
    Split,
    digits,
    fashion_mnist,
    find,
    image_folder,
    load,
    mnist,
    read_csv,
    read_idx,
    write_idx,
)

__all__ = [
    "Dataset",
    "Split",
    "digits",
    "fashion_mnist",
    "find",
    "image_folder",
    "load",
    "mnist",
    "read_csv",
    "read_idx",
    "write_idx",
]
