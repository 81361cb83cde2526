"""Files that are written whole or not at all."""

import errno
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["TEMPORARY", "write_atomically"]

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")  # names of files not finished


def write_atomically(
    path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]
) -> None:
    """Write a file of these parts: a crash leaves the old file or the new one."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp")
    target.parent.stat()  # so that an error names the folder, not the temporary file
    old = target.stat() if target.exists() else None
    if old and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if old and not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EINVAL, "expected the name of a regular file", str(path))
    try:
        with open(temporary, "xb") as file:
            if old:
                temporary.chmod(stat.S_IMODE(old.st_mode))
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming last, where the system can do that to a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
