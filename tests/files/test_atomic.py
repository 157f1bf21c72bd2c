"""Files that are replaced as a whole: what is read back, what can never be written, whose temporary files go."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aaecore.errors import CheckpointError
from aaecore.files import atomic, checkpoint

TAIL = "0123456789abcdef.tmp"


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "out"
    atomic.write(path, b"old")

    def fail(*_):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match=f"no space: '{path}'"):  # not the temporary file
            atomic.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]
    atomic.write(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("size", [1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_what_reads_back_as_something_else_replaces_nothing(tmp_path, monkeypatch, size):
    path, content, real = tmp_path / "out", os.urandom(size), os.write
    atomic.write(path, content)
    assert path.read_bytes() == content
    for stored in (content[:-1] + bytes([content[-1] ^ 1]), content + b"?", content[:-1]):

        def write_other(file, data, stored=stored):
            real(file, stored)
            return len(data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write_other)
            with pytest.raises(OSError, match=f"what was written reads back as something else: '{path}'"):
                atomic.write(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["out"]


def never_written(folder):
    """Paths that no file can be written to, and what the error says of them."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "device").symlink_to("/dev/null")
    return {
        folder / "none" / "out": "its folder does not exist",
        folder / "folder": "exists and is not a regular file",
        folder / "fifo": "exists and is not a regular file",
        folder / "device": "exists and is not a regular file",
        f"{folder}/a\0b": "its name has a NUL character",
        folder / ("n" * 256): "File name too long",
        folder / "loop": "Too many levels of symbolic links",
        "": "exists and is not a regular file",
    }


def test_what_can_never_be_written_is_found_before(tmp_path):
    for path, reason in never_written(tmp_path).items():
        for call in (atomic.check, lambda path: atomic.write(path, b"")):
            with pytest.raises(OSError, match=reason):
                call(path)
        with pytest.raises(CheckpointError, match=f"cannot write the checkpoint: .*{reason}"):
            checkpoint.write(path, {}, {})
    assert sorted(os.listdir(tmp_path)) == ["device", "fifo", "folder", "loop"]


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_takes_no_file_is_found_before(tmp_path, monkeypatch, reason):
    def refuse(path, *_):
        raise OSError(reason, os.strerror(reason), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=f"{os.strerror(reason)}: '{tmp_path}/out'"):
        atomic.check(tmp_path / "out")


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for call in (atomic.check, lambda path: atomic.write(path, b"")):
        with pytest.raises(FileNotFoundError, match="the working directory does not exist any more: 'out'"):
            call("out")
    assert atomic.check(tmp_path / "out") == f"{tmp_path}/out"


def test_a_checked_path_does_not_follow_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("out", b"out", Path("out")):
        assert atomic.check(path) == f"{tmp_path}/out"
    assert os.listdir(tmp_path) == []  # and nothing was left there


@pytest.mark.parametrize("name", ["n" * 228, "n" * 255, "ü" * 127, b"\xff" * 255])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    assert atomic.check(path) == os.fsdecode(path)
    for content in (b"old", b"new"):
        atomic.write(path, content)
    with open(path, "rb") as file:
        assert file.read() == b"new"
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)]


def test_mode_and_symbolic_links_are_kept(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/out")
    real = tmp_path / "real/out"
    atomic.write(tmp_path / "link", b"1")
    (tmp_path / "plain").touch()
    assert real.stat().st_mode == (tmp_path / "plain").stat().st_mode
    for mode in (0o604, 0o400, 0o200):
        real.chmod(mode)
        atomic.write(tmp_path / "link", b"2")
        assert (real.stat().st_mode & 0o777, (tmp_path / "link").is_symlink()) == (mode, True)
    real.chmod(0o600)
    assert real.read_bytes() == b"2"


@pytest.fixture(scope="module")
def gone():
    """The number of a process that has ended."""
    return subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout.strip()


def left_over(folder, names):
    for name in names:
        (folder / name).touch()
    atomic.write(folder / "out", b"")
    return set(os.listdir(folder)) - {"out"}


def test_temporary_files_of_processes_that_are_gone_are_removed(tmp_path, gone):
    here = atomic._processes()
    assert here != "0"
    stale = {f".out.{here}.{gone}.{TAIL}", f".out.{here}.{os.getpid()}.{TAIL}"}
    kept = {f".out.{here}.{os.getppid()}.{TAIL}", f".d.{here}.{gone}.{TAIL}", f".out.{gone}.tmp", f"out.{gone}.{TAIL}"}
    assert left_over(tmp_path, stale | kept) == kept


def test_another_container_keeps_its_temporary_files_for_a_day(tmp_path, gone, monkeypatch):
    """The same number is another process there, and may be writing."""
    there = {f".out.12345678abcd.{gone}.{TAIL}", f".out.12345678abcd.{os.getpid()}.{TAIL}"}
    unknown = {f".out.0.{gone}.{TAIL}", f".out.{gone}.{TAIL}"}  # of a system that does not tell, of an older version
    assert left_over(tmp_path, there | unknown) == there | unknown
    monkeypatch.setattr(atomic, "_processes", lambda: "0")
    assert left_over(tmp_path, there | unknown) == there | unknown
    for name in there | unknown:
        day = os.stat(tmp_path / name).st_mtime - 86500
        os.utime(tmp_path / name, (day, day))
    assert left_over(tmp_path, ()) == set()


def test_the_name_of_a_temporary_file_says_which_processes_its_number_counts(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(atomic, "_compare", lambda written, content: made.append(os.path.basename(written)))
    atomic.write(tmp_path / "out", b"")
    assert made[0].startswith(f".out.{atomic._processes()}.{os.getpid()}.")
