"""What is public of lenet5c.data.pictures."""

from lenet5c.data.pictures import (
    NothingFound,
    Pictures,
    Sign,
    class_folders,
    files_below,
    load_pictures,
    prepare,
    prepare_many,
    read_picture,
)
from lenet5c.data.pictures import (
    __doc__ as __doc__,
)

__all__ = [
    "NothingFound",
    "Pictures",
    "Sign",
    "class_folders",
    "files_below",
    "load_pictures",
    "prepare",
    "prepare_many",
    "read_picture",
]
