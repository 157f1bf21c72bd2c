"""Standard output and standard error, as a run needs them: whatever becomes of them, it goes on."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class Steady(io.TextIOBase):
    """A stream that takes every text.

    A character that the encoding lacks, or a byte of a file name that is no text, is written as an escape such as
    `\\xe9`. After an error, such as a full disk, the rest is dropped and `error` tells why; a stream that was closed
    before the program began (None) takes all and shows nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: OSError | ValueError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        with suppress(ValueError):  # it is closed
            return self.stream is not None and self.stream.isatty()
        return False

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"text: expected a string, got {type(text).__name__}")
        if self.stream is not None and self.error is None:
            shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            try:
                self.stream.write(shown)
                if "\n" in shown:
                    self.stream.flush()
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        if self.stream is not None and self.error is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self.error = error


@contextmanager
def steady() -> Iterator[Steady]:
    """Makes both streams of the process steady for a while; gives standard output."""
    before = sys.stdout, sys.stderr
    out, err = Steady(before[0]), Steady(before[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def lost(out: Steady) -> str | None:
    """Why output did not arrive, where someone waits for it: neither a closed stream nor a reader that left."""
    if not isinstance(out.error, OSError) or out.error.errno == errno.EPIPE:
        return None
    return f"standard output: {out.error.strerror or out.error}"


def let_go() -> None:
    """Sends what no stream would take to nowhere, or the interpreter would complain about it once more at its end."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def plain(text: str) -> str:
    """The text in one line, without what a terminal would obey: names in a file may hold anything."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python keeps a byte of a file name that is no text
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")


def sentence(error: BaseException) -> str:
    """An error in one line: of the system's with the file that it is about in front, as in all others."""
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        text = f"{name}{error.strerror}"
    else:
        text = str(error)
    return plain(" ".join(text.split())) or type(error).__name__
