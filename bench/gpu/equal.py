"""Whether all make the same step on a GPU: the check of `equal.py`, for its rule, with our step made on the device.

The peers' processes are live ones (`gpu/servers.py`), so that what a check compiles is what is timed. A library's own
step in float64 is what errors are measured against.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from alternate import Spec, ended_after
from equal import compare, our_steps
from protocol import Unavailable
from sizes import Size

from gpu.model import make_model
from gpu.servers import Server

Row = dict[str, Any]
EXACT = {"torch": "eager", "jax": "jit"}  # the variant that is made in float64


def check(size: Size, precision: str, servers: Sequence[Server], device: str, seconds: float = inf) -> list[Row]:
    """A row for every peer of a precision, in so many seconds: each process has its share, and is ended after it."""
    end = time.monotonic() + seconds
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = our_steps(make_model(size, precision, device), size, folder)
        asked = [(s, specs) for s in servers if (specs := [each for each in s.ready if each.precision == precision])]
        for number, (server, specs) in enumerate(asked):
            share = (end - time.monotonic()) / (len(asked) - number)
            rows += _with(server, specs, size, made, folder, share)
    return rows


def _with(server: Server, specs: Sequence[Spec], size: Size, made: Any, folder: Path, seconds: float) -> list[Row]:
    exact = EXACT[specs[0].library]
    pairs = [f"{exact}:fp64", *(f"{s.variant}:{s.precision}" for s in specs)]
    rows: list[Row] = [{"size": str(size), "peer": str(spec), "equal": False} for spec in specs]
    if seconds <= 0:
        return [row | {"error": "no time was left for its check"} for row in rows]
    with ended_after(seconds, server.process) as late:
        try:
            server.check(size, str(folder), pairs)
        except (Unavailable, OSError) as reason:
            error = f"its check was not done after {seconds:.0f} s" if late.is_set() else str(reason)
            if late.is_set():
                server.left_out = dict.fromkeys(server.specs, error)
            return [row | {"error": error} for row in rows]
    return [row | compare(spec, exact, made, folder) for row, spec in zip(rows, specs, strict=True)]
