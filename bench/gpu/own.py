"""Our own steps on a GPU: all sizes, all precisions, launched one by one, as a graph, and many in one call.

    python -m gpu.own --seconds 25 --sizes a g e

No peer is needed, so this is the first answer that a GPU gives. A line of JSON for each: the median microseconds of a
step on random numbers, whose losses must be finite before a time is printed. What has no time left is `left out`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from aaecore import AAE
from aaecore.core.memory import Buffer
from gpu.goals import GPU_SIZES, LARGE, MODE
from gpu.model import BURST, FFMA, make_model, make_step, once

Row = dict[str, Any]
Call = tuple[Callable[[], object], int]
PRECISIONS = ("fp32", "tf32", "bf16", FFMA)
MODES = (MODE, "replay", "eager")
ROUNDS = 3
FIRST = [("a", p, MODE) for p in PRECISIONS[:3]] + [(LARGE, p, MODE) for p in PRECISIONS[:3]]


def in_order(sizes: Sequence[str]) -> list[tuple[str, str, str]]:
    """(size, precision, mode): first what the goals are about, then the rest size by size."""
    every = [(size, precision, mode) for size in sizes for precision in PRECISIONS for mode in MODES]
    return [each for each in FIRST if each in every] + [each for each in every if each not in FIRST]


def recorded(model: AAE, batch: int) -> tuple[dict[str, Call], Buffer]:
    """By mode, what makes some steps on random numbers, and how many; and where their losses are."""
    step, losses = make_step(model, batch)
    plan = model.backend.capture(step)
    return {MODE: (lambda: plan.replay(times=BURST), BURST), "replay": (plan.replay, 1), "eager": (step, 1)}, losses


def timed(model: AAE, call: Call, losses: Buffer, seconds: float) -> float:
    """Microseconds of a step. FloatingPointError: its losses are not finite, or nothing was made."""
    took = once(model.backend, call[0], seconds, ROUNDS) / call[1]
    made = model.backend.to_host(losses)
    if not (np.isfinite(made).all() and made.all()):
        raise FloatingPointError(f"losses of {made.tolist()}")
    return round(took * 1e6, 3)


def own(sizes: Sequence[str], device: str, seconds: float, each: float = 0.1) -> Iterator[Row]:
    """A row for every size, precision and mode, each timed for so many seconds, in all as long as there is time."""
    end = time.monotonic() + seconds
    for (size, precision), group in groupby(in_order(sizes), itemgetter(0, 1)):
        model = None
        for _, _, mode in group:
            try:
                if time.monotonic() > end:
                    raise TimeoutError("out of time")
                if model is None:
                    model = make_model(GPU_SIZES[size], precision, device)
                    calls, losses = recorded(model, GPU_SIZES[size].batch)
                took = timed(model, calls[mode], losses, each)
                yield {"size": size, "precision": precision, "mode": mode, "us": took}
            except Exception as error:  # the others go on
                yield {"left out": f"our step at {size}, {precision}, {mode}", "why": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--sizes", nargs="+", choices=GPU_SIZES, default=["a", LARGE, "e", "f", "d", "c", "b"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    options = parser.parse_args()
    for row in own(options.sizes, options.device, options.seconds):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
