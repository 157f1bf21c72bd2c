"""Whether all make the same step on a GPU: the check of `equal.py`, for its rule, with our step made on the device.

The peers' processes are live ones (`gpu/servers.py`), so that what a check compiles is what is timed. A library's own
step in float64 is what errors are measured against.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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


def check(
    size: Size, precisions: Sequence[str], servers: Sequence[Server], device: str, seconds: float = inf
) -> list[Row]:
    """A row for every peer of the precisions, by process; who is not done after so many seconds is ended.

    All processes are asked at the same time, since most of it is compiling, and none has to wait for another.
    """
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(max(1, len(servers))) as pool:
        made = {}
        for precision in precisions:
            folder = Path(temporary) / precision
            folder.mkdir()
            made[precision] = our_steps(make_model(size, precision, device), size, folder)
        asked = [pool.submit(_all_of, server, size, made, Path(temporary), end) for server in servers]
        return [row for future in asked for row in future.result()]


def _all_of(server: Server, size: Size, made: Mapping[str, Any], folder: Path, end: float) -> list[Row]:
    rows: list[Row] = []
    for precision, ours in made.items():
        if specs := [spec for spec in server.ready if spec.precision == precision]:
            own = Path(tempfile.mkdtemp(dir=folder))  # several processes make a step in float64
            for state in (folder / precision).iterdir():
                os.link(state, own / state.name)
            rows += _with(server, specs, size, ours, own, end - time.monotonic())
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
