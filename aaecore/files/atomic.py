"""Files that are replaced as a whole: after a crash at any moment the old one or the new one is there. POSIX only."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress

Path = str | os.PathLike[str]

_CANNOT_SYNC_FOLDERS = {errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP}  # a file system or folder, no failure
_BLOCK = 1 << 20  # bytes that are compared at a time
_NAME_BYTES = 150  # of a file's name in that of its temporary file: a file system allows 255 in all
_SURELY_DEAD = 86400.0  # seconds without a change after which nobody writes a temporary file any more
_being_written: set[str] = set()  # temporary files of this process


def check(path: Path) -> str:
    """The path from the root, where `write` can make or replace a file as far as that can be known before.

    For work that ends in a file and may change the working directory meanwhile. An empty file is made beside it and
    removed again, so what forbids that is found: a folder that may not be written, a full disk, a read-only one.

    Raises:
        OSError: it cannot be written: its folder does not exist, something else than a file is there, the name is too
            long, and so on. TypeError: no path.
    """
    try:
        absolute = _absolute(path)
        temporary = _temporary(_target(absolute))
        try:
            os.close(_made(temporary, 0o600))
        finally:
            _unmade(temporary)
    except OSError as error:
        raise _about(path, error) from error
    return absolute


def write(path: Path, content: bytes | memoryview, verify: Callable[[str], None] | None = None) -> None:
    """Writes a file in one step. A new file gets the mode of any new file, an old one keeps its own.

    What was written is read back before it replaces anything: `verify` gets its path and raises if it is not right;
    without one its bytes are compared. A temporary file left by a process that was killed is removed by the next
    successful write to the same path, at once if that process is known to be gone, else after a day.

    Raises:
        OSError: it could not be written. Then what was there is as before and no temporary file stays, except where
            only the folder could not be synchronised (the error says so): then the new file is complete, but a power
            failure may undo it.
    """
    view = memoryview(content)
    try:
        target = _target(_absolute(path))
        _replace(target, view, (lambda written: _compare(written, view)) if verify is None else verify)
        _sync_folder(os.path.dirname(target))
    except OSError as error:
        raise _about(path, error) from error
    _remove_stale(target)


def _about(path: Path, error: OSError) -> OSError:
    """The error in the name of the path that was given."""
    return OSError(error.errno, error.strerror or str(error), os.fsdecode(path))


def _absolute(path: Path) -> str:
    name = os.fsdecode(path)
    if "\0" in name:
        raise OSError(errno.EINVAL, "its name has a NUL character")
    if os.path.isabs(name):
        return name
    try:
        return os.path.join(os.getcwd(), name)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "the working directory does not exist any more") from None


def _target(absolute: str) -> str:
    """What the path leads to, behind symbolic links: a file, or nothing yet."""
    target = os.path.realpath(absolute)
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist")
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "exists and is not a regular file")
    return target


def _replace(target: str, content: memoryview, verify: Callable[[str], None]) -> None:
    mode = os.stat(target).st_mode if os.path.exists(target) else None
    temporary = _temporary(target)
    try:
        # The umask can be read only by changing it for all threads: let the kernel apply it.
        file = _made(temporary, 0o666 if mode is None else 0o600)
        try:
            while content:
                content = content[os.write(file, content) :]  # often less than asked for: 2 GiB at most on Linux
            verify(temporary)
            if mode is not None:
                os.fchmod(file, mode & 0o777)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(temporary, target)
    finally:
        _unmade(temporary)  # after os.replace it is gone


def _compare(written: str, content: memoryview) -> None:
    with open(written, "rb") as file:
        for start in range(0, len(content) + 1, _BLOCK):  # once more than needed where the last block is full: the end
            if file.read(_BLOCK) != bytes(content[start : start + _BLOCK]):
                raise OSError(errno.EIO, "what was written reads back as something else")


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


# --- temporary files --------------------------------------------------------------------------------------------------


def _temporary(target: str) -> str:
    """A new name beside the target: it says whose it is, and which process writes it."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{_stem(name)}.{_processes()}.{os.getpid()}.{os.urandom(8).hex()}.tmp")


def _stem(name: str) -> str:
    return os.fsencode(name)[:_NAME_BYTES].decode(errors="ignore")


def _processes() -> str:
    """Which processes a process number means: containers on one path have the same numbers for others.

    Zero where the system does not tell.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read(8)}{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return "0"


def _made(temporary: str, mode: int) -> int:
    _being_written.add(temporary)
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)


def _unmade(temporary: str) -> None:
    with suppress(OSError):
        os.unlink(temporary)
    _being_written.discard(temporary)


def _remove_stale(target: str) -> None:
    """Removes temporary files of the same target that nobody writes any more."""
    folder, name = os.path.split(target)
    pattern = re.compile(rf"\.{re.escape(_stem(name))}\.(?:([0-9a-f]+)\.)?([1-9]\d{{0,8}})\.[0-9a-f]{{16}}\.tmp")
    with suppress(OSError):
        for entry in os.listdir(folder):
            match, path = pattern.fullmatch(entry), os.path.join(folder, entry)
            if match and path not in _being_written and _is_stale(path, match[1], int(match[2])):
                os.unlink(path)


def _is_stale(path: str, processes: str | None, pid: int) -> bool:
    """Whether the process that wrote it is gone; where that cannot be known, whether it is old."""
    if processes == _processes() != "0":
        return not _is_other_process(pid)
    with suppress(OSError):  # another has removed it
        return time.time() - os.stat(path).st_mtime > _SURELY_DEAD
    return False


def _is_other_process(pid: int) -> bool:
    """Whether a process other than this has the number: in a container, each run often has the same."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return pid != os.getpid()
