"""Files that are written whole or not at all.

A file is written under a temporary name first, and the process that does so holds a
lock on it. The kernel takes a lock away from a process that died, so a temporary file
that can be locked is what a killed process left: the next write to the folder removes
it. A process number in the name could say neither that of threads, nor that of other
machines and containers that share the folder.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["lock", "try_to_write", "unlock", "write_atomically"]

TEMPORARY = re.compile(r"\.lenet5c-[0-9a-f]{16}\.tmp")  # names of files not finished


def write_atomically(
    path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]
) -> None:
    """Write a file of these parts: a crash leaves the old file or the new one.

    Mode and extended attributes of an old file are kept, and its owner and group where
    the system permits. What killed writes left in the folder is removed.

    Raises
    ------
    OSError
        If the file cannot be written, or `path` is a folder, pipe or device.
    """
    target = Path(os.path.realpath(path))
    target.parent.stat()  # so that an error names the folder, not the temporary file
    old = target.stat() if target.exists() else None
    if old and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if old and not stat.S_ISREG(old.st_mode):
        raise OSError(errno.EINVAL, "expected the name of a regular file", str(path))
    _remove_unfinished(target.parent)
    # nobody sees more of the new file than of the old one, not even meanwhile
    temporary, file = _new_file(target.parent, 0o600 if old else 0o666)
    try:
        with file:
            for part in parts:
                file.write(part)
            file.flush()
            if old:
                _keep_attributes(target, old, file.fileno())
            os.fsync(file.fileno())
            os.replace(temporary, target)  # before the lock ends with the file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def try_to_write(folder: Path) -> None:
    """An OSError if the folder is read-only or the disk is full; leaves nothing."""
    path, file = _new_file(folder, 0o600)
    try:
        with file:
            file.write(bytes(4096))
    finally:
        path.unlink(missing_ok=True)


def lock(descriptor: int) -> bool | None:
    """Lock an open file against all other openings of it, here and elsewhere, until it
    is closed or the process dies; whether that went well, None where nothing can be
    locked."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system of another machine, perhaps
        return None
    return True


def unlock(descriptor: int) -> None:
    """End the lock, also if a child process still has the file open."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _new_file(folder: Path, mode: int) -> tuple[Path, BinaryIO]:
    """A new file that is locked, and its name."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    while True:
        path = folder / f".lenet5c-{os.urandom(8).hex()}.tmp"
        file = open(path, "xb", opener=opener)  # noqa: SIM115
        if lock(file.fileno()) is not False and path.exists():
            return path, file
        # another writer saw it without a lock and took it for a dead one's
        file.close()
        path.unlink(missing_ok=True)


def _remove_unfinished(folder: Path) -> None:
    """Remove the temporary files whose writers are dead. Failures are ignored."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_dead(entry.path)


def _remove_if_dead(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if lock(descriptor):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _keep_attributes(target: Path, old: os.stat_result, descriptor: int) -> None:
    """Give the file owner, extended attributes and mode of the one it will replace."""
    if hasattr(os, "chown"):
        for owner in (old.st_uid, -1):  # the group alone, if not both
            try:
                os.chown(descriptor, owner, old.st_gid)
                break
            except OSError:
                continue
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            kept = os.listxattr(target)
            for name in set(os.listxattr(descriptor)).difference(kept):
                with suppress(OSError):
                    os.removexattr(descriptor, name)
            for name in kept:
                with suppress(OSError):
                    os.setxattr(descriptor, name, os.getxattr(target, name))
    os.chmod(descriptor, stat.S_IMODE(old.st_mode))


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
