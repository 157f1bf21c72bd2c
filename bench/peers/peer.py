"""What all peers share: their command line, their data, and how a live process is timed on demand.

    python torch_peer.py --size a --variant compile --precision bf16 --threads 2

makes and times training steps once. Other ways to run a peer, all of which answer in lines of JSON on standard output:

    --serve           prints {"ready": 1} after a warm-up; then answers every line of JSON on standard input (`Request`)
    --serve --epoch   the same with whole epochs of --rows uint8 rows: shuffled, gathered and scaled by the peer
    --cold            the first step of a fresh process: the clock after it, and the peak memory a few steps later
    --check FOLDER    one step from each state-*.npz of the folder: what `equal.py` compares

A peer needs its library, NumPy and the files here, so it may live in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from machine import peak_mb
from protocol import THREAD_VARIABLES, Arrays, Request, State, Stepped, Unavailable, batches, read_state
from sizes import Size, parse_size

ROWS = 60000  # of an epoch, as many as MNIST has


class Timed(NamedTuple):
    """What is timed: `call` makes `steps` training steps and returns when they are done."""

    call: Callable[[], object]
    steps: int = 1


class Options(NamedTuple):
    size: Size
    variant: str
    precision: str  # fp32, or bf16 products with float32 weights, moments and losses; fp64 for a check
    threads: int


class Library(NamedTuple):
    """A peer. `step` gets batches of float32 rows to use in turn, `epoch` uint8 rows, and returns what is timed."""

    variants: Mapping[str, tuple[str, ...]]  # the precisions of each
    step: Callable[[Options, Arrays], Timed]
    epoch: Callable[[Options, np.ndarray], Timed]  # everything compiled; its steps are those of one epoch
    check: Callable[[Options, State], Stepped] | None = None
    probe: Callable[[float], float] | None = None
    apart: Callable[[], int] | None = None  # nanoseconds from one of its threads to another and back


def images(size: Size, rows: int) -> np.ndarray:
    """(rows, inputs) uint8, 0 to 255."""
    return np.random.default_rng(0).integers(0, 256, (rows, size.inputs), np.uint8)


def _with_threads(threads: int) -> None:
    """Starts the process again with its libraries' thread counts set: they read them when they are imported."""
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def _timings(timed: Timed, seconds: float, calls: int) -> list[float]:
    """Milliseconds per step of at least so many calls, sorted."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < calls or time.perf_counter() < end:
        start = time.perf_counter()
        timed.call()
        times.append((time.perf_counter() - start) * 1e3 / timed.steps)
    return sorted(times)


def _measure(timed: Timed, request: Request, library: Library) -> dict[str, Any]:
    probe = library.probe
    rates = [probe(request.probe)] if probe and request.probe else []
    if request.warmup:
        _timings(timed, request.warmup, 1)
    times = _timings(timed, request.seconds, request.calls)
    rates += [probe(request.probe)] if probe and request.probe else []
    answer = {"med": times[len(times) // 2], "min": times[0], "n": len(times), "rss": round(peak_mb()), "rates": rates}
    return answer | ({"apart": library.apart()} if library.apart else {})


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _serve(timed: Timed, library: Library) -> None:
    _say(ready=1)
    for line in sys.stdin:
        _say(**_measure(timed, Request(**json.loads(line)), library))


def _cold(library: Library, options: Options) -> None:
    timed = library.step(options, batches(options.size, 1))
    timed.call()
    end = time.perf_counter()  # the system's monotonic clock, so the parent knows when it started
    _timings(timed, 0.1, 3)
    _say(end=end, rss=peak_mb())


def _check(library: Library, options: Options, folder: Path, pairs: Sequence[str]) -> None:
    if library.check is None:
        raise Unavailable("no single step from a given state")
    for pair in pairs or [f"{options.variant}:{options.precision}"]:
        variant, precision = pair.split(":")
        for path in sorted(folder.glob("state-*.npz")):
            made = library.check(options._replace(variant=variant, precision=precision), read_state(path))
            name = path.name.replace("state", f"{variant}-{precision}")
            np.savez(folder / name, losses=np.array(made.losses), **made.weights)
    _say(ready=1)


def main(library: Library) -> None:
    """The command line of a peer; its first variant is the default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="a", help="a to f, or inputs-hidden-latent-batch")
    parser.add_argument("--variant", choices=library.variants, default=next(iter(library.variants)))
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp64"], default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rows", type=int, default=ROWS, help="of an epoch")
    parser.add_argument("--epoch", action="store_true")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="VARIANT:PRECISION", help="of --check")
    given = parser.parse_args()
    _with_threads(given.threads)
    options = Options(parse_size(given.size), given.variant, given.precision, given.threads)
    try:
        if given.precision not in (*library.variants[given.variant], *(["fp64"] if given.check else [])):
            raise Unavailable(f"{given.variant} has no {given.precision}")
        _run(library, options, given)
    except Unavailable as reason:
        _say(unavailable=str(reason))


def _run(library: Library, options: Options, given: argparse.Namespace) -> None:
    if given.check:
        return _check(library, options, given.check, given.pairs)
    if given.cold:
        return _cold(library, options)
    if given.epoch:
        timed, once = library.epoch(options, images(options.size, given.rows)), Request(0.0, 0.0, 1)
    else:
        timed, once = library.step(options, batches(options.size)), Request(2.0)
        _timings(timed, 0.5, 3)
    if given.serve:
        return _serve(timed, library)
    return _say(**_measure(timed, once, library))
