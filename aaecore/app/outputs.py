"""Files that commands write: what they may be, and what they must not destroy."""

from __future__ import annotations

import os
from contextlib import suppress

from ..errors import CheckpointError
from ..files import atomic, checkpoint


def suffix(path: str, *known: str) -> str:
    """Of a file to write, which is known to be possible after this."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in known:
        raise ValueError(f"out: expected a file name that ends in {' or '.join(known)}, got {path!r}")
    atomic.check(path)
    return ending


def spare(out: str, *inputs: str) -> None:
    """ValueError for an output that would destroy a checkpoint, or what it is made of."""
    if not os.path.exists(out):
        return
    if any(os.path.exists(path) and os.path.samefile(path, out) for path in inputs):
        raise ValueError(f"out: expected another file than what is read, got {out!r}")
    with suppress(CheckpointError):
        checkpoint.peek(out)
        raise ValueError(f"out: expected a file that is no checkpoint, which it would destroy, got {out!r}")
