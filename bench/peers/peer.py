"""What all peers share: their command line, their data, and how a live process is timed on demand.

    python torch_step.py --size a --threads 2 --serve

With --serve the process warms up, prints one line of JSON with "ready", and then for every line with a number of
seconds on its standard input times steps for so long and answers with one line of JSON: the median, minimum and 90th
percentile of a step in ms, the number of timings, and the peak resident memory in MB. Without it, it times once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sizes import SIZES, Size

if TYPE_CHECKING:
    import numpy as np

BATCHES = 8  # different ones, in turn, so that x is not always in the cache
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8  # of Adam in all three phases, the defaults of every library here
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "AAECORE_NUM_THREADS")


class Timed(NamedTuple):
    """What is timed: `call` makes `steps` training steps and returns when they are done."""

    call: Callable[[], object]
    steps: int = 1


Make = Callable[[Size, str, int], Timed]  # (size, variant, threads)


def batches(size: Size, count: int = BATCHES, seed: int = 0) -> list[np.ndarray]:
    """`count` different (batch, inputs) float32 arrays in [0, 1)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [rng.random((size.batch, size.inputs), np.float32) for _ in range(count)]


def _with_threads(threads: int) -> None:
    """Starts the process again with its libraries' thread counts set: they read them when they are imported."""
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def _timings(timed: Timed, seconds: float) -> list[float]:
    """Milliseconds per step of at least three calls, sorted."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        timed.call()
        times.append((time.perf_counter() - start) * 1e3 / timed.steps)
    return sorted(times)


def _measure(timed: Timed, seconds: float) -> dict[str, Any]:
    _timings(timed, min(0.15, seconds))  # threads, caches and clock after the pause
    times = _timings(timed, seconds)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "med": statistics.median(times), "min": times[0], "p90": times[int(0.9 * len(times))], "n": len(times),
        "rss": round(rss),
    }  # fmt: skip


def main(make: Make, variants: Sequence[str]) -> None:
    """The command line of a peer; the first variant is the default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="a")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--precision", choices=["fp32"], default="fp32")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds")
    parser.add_argument("--seconds", type=float, default=2.0, help="without --serve")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    _with_threads(options.threads)
    timed = make(SIZES[options.size], options.variant, options.threads)
    _timings(timed, options.warmup)
    if not options.serve:
        print(json.dumps(_measure(timed, options.seconds)))
        return
    print(json.dumps({"ready": 1, "size": options.size, "variant": options.variant}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_measure(timed, float(line))), flush=True)
