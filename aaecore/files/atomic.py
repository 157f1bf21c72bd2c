"""Files that are replaced as a whole: after a crash at any moment the old one or the new one is there. POSIX only."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress

Path = str | os.PathLike[str]

_CANNOT_SYNC_FOLDERS = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP}  # a file system or folder, no failure
_being_written: set[str] = set()  # temporary files of this process


def check_target(path: Path) -> None:
    """Raises OSError unless `write` can make or replace the file: not in no folder, nor in place of a device."""
    target = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", os.fspath(path))
    if os.path.exists(target) and not os.path.isfile(target):
        raise FileExistsError(errno.EEXIST, "exists and is not a regular file", os.fspath(path))


def check(path: Path) -> str:
    """The path from the root, where `write` can make or replace a file as far as that can be known before.

    Raises:
        OSError: it cannot be written.
    """
    check_target(path)
    return os.path.abspath(os.fsdecode(path))


def write(path: Path, content: bytes | memoryview) -> None:
    """Writes a file in one step. A new file gets the mode of any new file, an old one keeps its own.

    A temporary file left by a process that was killed is removed by the next successful write to the same path.

    Raises:
        OSError: it could not be written. Then what was there is as before and no temporary file stays, except where
            only the folder could not be synchronised (the error says so): then the new file is complete, but a power
            failure may undo it.
    """
    check_target(path)
    target = os.path.realpath(path)
    try:
        _replace(target, memoryview(content))
        _sync_folder(os.path.dirname(target))
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
    _remove_stale(target)


def _replace(target: str, content: memoryview) -> None:
    mode = os.stat(target).st_mode if os.path.exists(target) else None
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(8).hex()}.tmp")
    _being_written.add(temporary)
    try:
        # The umask can be read only by changing it for all threads: let the kernel apply it.
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600)
        try:
            if mode is not None:
                os.fchmod(file, mode & 0o777)
            while content:
                content = content[os.write(file, content) :]  # often less than asked for: 2 GiB at most on Linux
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, target)
    finally:
        with suppress(OSError):  # after os.replace it is gone
            os.unlink(temporary)
        _being_written.discard(temporary)


def _sync_folder(folder: str) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            reason = f"it is complete, but its folder could not be synchronised to the disk: {error.strerror}"
            raise OSError(error.errno, reason) from error


def _remove_stale(target: str) -> None:
    """Removes temporary files of the same target whose process is gone."""
    folder, name = os.path.split(target)
    pattern = re.compile(rf"\.{re.escape(name)}\.([1-9]\d{{0,8}})\.[0-9a-f]{{16}}\.tmp")
    with suppress(OSError):
        for entry in os.listdir(folder):
            match, path = pattern.fullmatch(entry), os.path.join(folder, entry)
            if match and path not in _being_written and not _is_other_process(int(match[1])):
                os.unlink(path)


def _is_other_process(pid: int) -> bool:
    """Whether a process other than this has the number: in a container, each run often has the same."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return pid != os.getpid()
