"""Atomic writing of files."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from torchplug.errors import WriteError
from torchplug.interruption import postponed

_REMEDIES = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space, or have the quota raised",
    errno.EROFS: "make its folder writable",
    errno.EACCES: "make its folder writable",
    errno.EPERM: "make its folder writable",
}
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems on which a folder cannot be synchronized."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    The temporary file is beside `path`, on its file system, so that replacing is one operation. File and folder are
    synchronized to the disk. After an error, `path` is unchanged and the temporary file is removed; one that a killed
    process left is removed by the next call for that path.

    Args:
        path: the file to write; a symbolic link is followed.

    Raises:
        WriteError: if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _remove_abandoned(target)
        try:
            with postponed():  # a signal acts afterwards
                with part.open("xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a file's lock, which ends with its process.

    Args:
        path: the file, which is created.
        timeout: how long to wait for it, in seconds; -1: until it is free.

    Raises:
        Timeout: if another process holds it.
        WriteError: if the file cannot be written.
    """
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


def append_row(descriptor: int, row: bytes, path: Path) -> None:
    """Append to a file that no other process writes; after an error, no part of the row remains.

    Args:
        descriptor: of the file, opened for appending.
        row: the bytes to append.
        path: the file's name, for the message.

    Raises:
        WriteError: if the row cannot be written.
    """
    written = 0
    try:
        while written < len(row):  # a disk that is nearly full takes the beginning and refuses the rest
            written += os.write(descriptor, row[written:])
    except OSError as error:
        if written:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise write_error(path, error) from error


def append_line(path: Path, line: str) -> None:
    """Append to a text file, which is created if it does not exist.

    Raises:
        WriteError: if the line cannot be written; then no part of it remains.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        append_row(descriptor, line.encode(), path)
    finally:
        os.close(descriptor)


def write_error(path: str | Path, error: OSError) -> WriteError:
    """Return the error for a file that cannot be written, with file, reason and remedy."""
    remedy = _REMEDIES.get(error.errno or 0)
    kept = os.path.lexists(path) and not os.path.isdir(path)
    parts = [
        f"{path} cannot be written ({error.strerror or error})",
        *([remedy] if remedy else []),
        *(["what it held before is unchanged"] if kept else []),
    ]
    return WriteError("; ".join(parts))


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files of processes that have ended, and of this one."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        writer = part.name.removeprefix(f".{target.name}.").removesuffix(".part")
        if writer.isdecimal() and not _runs(int(writer)):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether another process with this id runs; assumed if it cannot be determined."""
    if process == os.getpid():
        return False
    if os.name != "posix":  # where signal 0 is not a question
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
