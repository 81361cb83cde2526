"""Folders of pictures as data sets, and signs found on photographs."""

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
