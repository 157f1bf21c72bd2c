"""What all readers of files share: one error that names the file, and a bound on what compressed data may hold."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DataError

# No deflate stream expands further (zlib, "Maximum Compression Factor"), so a file that claims more lies or is cut.
DEFLATE_RATIO = 1032
# What libraries raise for a damaged file.
DAMAGED = (
    OSError, EOFError, RuntimeError, SystemError, LookupError, ValueError, TypeError, ArithmeticError, zlib.error,
)  # fmt: skip


@contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[str]:
    """Give the path as a string; every failure to read inside the block leaves as one DataError naming the file."""
    file = os.fsdecode(path)
    if not os.path.isfile(file):
        raise DataError(f"{file}: no such file")
    try:
        yield file
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except DAMAGED as error:
        raise DataError(f"{file}: not a readable {what}: {error}") from error
