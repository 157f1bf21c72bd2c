"""What all peers share: their command line, their data, and how a live process is timed on demand.

    python torch_peer.py --size a --variant compile --precision bf16 --threads 2

makes and times training steps once. With --threads 1 it also tells the least CPU time of a step, which holds on a busy
machine too. Other ways to run a peer, all of which answer in lines of JSON on standard output, where nothing else is
written:

    --serve           prints {"ready": 1} after a warm-up; then answers every line of JSON on standard input (`Request`,
                      and a "number" that the answer has too)
    --serve --epoch   the same with whole epochs of --rows uint8 rows: shuffled, gathered and scaled by the peer
    --cold            the first step of a fresh process: the clock after it, and the peak memory a few steps later
    --check FOLDER    one step from each state-*.npz of the folder: what `equal.py` compares
    --any             prints {"ready": 1}; then answers lines such as `gpu/servers.py` writes: any size and variant

With --device cuda a device's clock times many calls at once, where there is one.

A peer needs its library, NumPy and the files here, so it may live in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from machine import peak_mb
from protocol import (
    THREAD_VARIABLES,
    Arrays,
    Request,
    State,
    Stepped,
    Unavailable,
    batches,
    own_output,
    read_state,
    write_stepped,
)
from sizes import Size
from works import Work, parse

ROWS = 60000  # of an epoch, as many as MNIST has
AT_ONCE = 5e-3  # seconds of calls between two readings of a device's clock
PRECISIONS = ("fp32", "ffma", "tf32", "bf16", "fp64")  # ffma: float32 without tensor cores, of aaecore on a GPU


class Timed(NamedTuple):
    """What is timed: `call` makes `steps` training steps and returns when they are done.

    With a `clock` it need not wait for them: clock(n) makes n calls and gives, when the last is done, their seconds.
    """

    call: Callable[[], object]
    steps: int = 1
    clock: Callable[[int], float] | None = None


class Options(NamedTuple):
    size: Size | Work
    variant: str
    precision: str  # fp32, or bf16 (tf32) products with float32 weights, moments and losses; fp64 for a check
    threads: int
    device: str = "cpu"


class Library(NamedTuple):
    """A peer. `step` gets batches of float32 rows to use in turn, `epoch` uint8 rows, and returns what is timed."""

    variants: Mapping[str, tuple[str, ...]]  # the precisions of each
    step: Callable[[Options, Arrays], Timed]
    epoch: Callable[[Options, np.ndarray], Timed] | None = None  # everything compiled; its steps are those of one epoch
    check: Callable[[Options, State], Stepped] | None = None
    probe: Callable[[float], float] | None = None
    apart: Callable[[], int] | None = None  # nanoseconds from one of its threads to another and back
    works: Library | None = None  # its steps of a `Work`

    def of(self, size: Size | Work) -> Library:
        """Raises: Unavailable: there are no steps of that."""
        if not isinstance(size, Work):
            return self
        if self.works is None:
            raise Unavailable("no such model")
        return self.works


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
    clock = timed.clock or partial(_wall, timed.call)
    times: list[float] = []
    end, at_once = time.perf_counter() + seconds, 1
    if timed.clock:
        first = clock(1)
        at_once = max(1, round(AT_ONCE / max(first, 1e-9)))
        times += [first * 1e3 / timed.steps] if at_once == 1 else []  # of many steps a call is long, and counts
    while len(times) < calls or time.perf_counter() < end:
        times.append(clock(at_once) * 1e3 / (at_once * timed.steps))
    return sorted(times)


def _wall(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def _cpu_ms(timed: Timed, seconds: float = 10.0) -> float:
    """The least CPU time of a step: of one thread, what other processes do meanwhile hardly changes it."""
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        timed.call()
        least = min(least, (time.process_time() - start) * 1e3 / timed.steps)
    return least


def _measure(timed: Timed, request: Request, library: Library) -> dict[str, Any]:
    probe = library.probe
    rates = [probe(request.probe)] if probe and request.probe else []
    if request.warmup:
        _timings(timed, request.warmup, 1)
    times = _timings(timed, request.seconds, request.calls)
    rates += [probe(request.probe)] if probe and request.probe else []
    answer = {"med": times[len(times) // 2], "min": times[0], "n": len(times), "rss": round(peak_mb()), "rates": rates}
    return answer | ({"apart": library.apart()} if library.apart else {})


def _say(answers: TextIO, **values: Any) -> None:
    print(json.dumps(values), file=answers, flush=True)


def _serve(timed: Timed, library: Library, answers: TextIO) -> None:
    _say(answers, ready=1)
    for line in sys.stdin:
        asked = json.loads(line)
        number = asked.pop("number")
        _say(answers, number=number, **_measure(timed, Request(**asked), library))


def _serve_any(library: Library, options: Options, answers: TextIO) -> None:
    """Steps of any kind, made when first asked for and kept while the size stays; what fails is `unavailable`."""
    made: dict[Options, Timed] = {}
    _say(answers, ready=1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _asked(library, options._replace(size=parse(asked["size"])), asked, made)
        except Exception as error:  # the others go on
            name = "" if isinstance(error, Unavailable) else f"{type(error).__name__}: "
            answer = {"unavailable": f"{name}{error}"[:500]}
        _say(answers, number=asked["number"], **answer)


def _asked(library: Library, wanted: Options, asked: Mapping[str, Any], made: dict[Options, Timed]) -> dict[str, Any]:
    if any(other.size != wanted.size for other in made):
        made.clear()
    library = library.of(wanted.size)
    if "check" in asked:
        return _check(library, wanted, Path(asked["check"]), asked["pairs"])
    wanted = wanted._replace(variant=asked["variant"], precision=asked["precision"])
    _available(library, wanted)
    if wanted not in made:
        made[wanted] = library.step(wanted, batches(wanted.size))
    return _measure(made[wanted], Request(**asked["request"]), library)


def _available(library: Library, options: Options, *also: str) -> None:
    """Unavailable, unless the variant has the precision, or it is one of `also`."""
    if options.precision not in (*library.variants.get(options.variant, ()), *also):
        raise Unavailable(f"{options.variant} has no {options.precision}")


def _cold(library: Library, options: Options) -> dict[str, Any]:
    timed = library.step(options, batches(options.size, 1))
    timed.call()
    end = time.perf_counter()  # the system's monotonic clock, so the parent knows when it started
    _timings(timed, 0.1, 3)
    return {"end": end, "rss": peak_mb()}


def _check(library: Library, options: Options, folder: Path, pairs: Sequence[str]) -> dict[str, Any]:
    if library.check is None:
        raise Unavailable("no single step from a given state")
    for pair in pairs or [f"{options.variant}:{options.precision}"]:
        variant, precision = pair.split(":")
        for path in sorted(folder.glob("state-*.npz")):
            made = library.check(options._replace(variant=variant, precision=precision), read_state(path))
            name = path.name.replace("state", f"{variant}-{precision}")
            write_stepped(folder / name, made)
    return {"ready": 1}


def main(library: Library) -> None:
    """The command line of a peer; its first variant is the default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="a", help="a to f, inputs-hidden-latent-batch, or one of works.py")
    parser.add_argument("--variant", choices=library.variants, default=next(iter(library.variants)))
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rows", type=int, default=ROWS, help="of an epoch")
    parser.add_argument("--epoch", action="store_true")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--any", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="VARIANT:PRECISION", help="of --check")
    given = parser.parse_args()
    _with_threads(given.threads)
    options = Options(parse(given.size), given.variant, given.precision, given.threads, given.device)
    answers = own_output()
    try:
        library = library if given.any else library.of(options.size)
        _available(library, options, *(["fp64"] if given.check else []))
        _run(library, options, given, answers)
    except Unavailable as reason:
        _say(answers, unavailable=str(reason))


def _run(library: Library, options: Options, given: argparse.Namespace, answers: TextIO) -> None:
    if given.any:
        return _serve_any(library, options, answers)
    if given.check:
        return _say(answers, **_check(library, options, given.check, given.pairs))
    if given.cold:
        return _say(answers, **_cold(library, options))
    if given.epoch:
        if library.epoch is None:
            raise Unavailable("no epochs of this model")
        timed, once = library.epoch(options, images(options.size, given.rows)), Request(0.0, 0.0, 1)
    else:
        timed, once = library.step(options, batches(options.size)), Request(2.0)
        _timings(timed, 0.5, 3)
    if given.serve:
        return _serve(timed, library, answers)
    cpu = {"cpu": _cpu_ms(timed)} if given.threads == 1 and options.device == "cpu" else {}
    return _say(answers, **_measure(timed, once, library), **cpu)
