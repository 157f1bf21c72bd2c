"""Live processes that are timed in turn, so that a drifting clock touches all of them alike, and what their pairs say.

In each round every competitor steps for some tenths of a second; a pair ratio is the best step of a peer divided by
our best step in the same round, so above 1 ours is faster. The result is the median of the pair ratios. Pairs in which
other processes used more than a tenth of a core are dropped and counted; with too few left nothing is decided.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import TIMEOUT_MAX, Event, Timer
from typing import Any, NamedTuple

from machine import machine_seconds, process_seconds
from protocol import THREAD_VARIABLES, Request, Unavailable
from sizes import Size
from works import Work, spell

PEERS = Path(__file__).resolve().parent / "peers"
FOREIGN_LIMIT = 0.1  # cores
ENOUGH_PAIRS = 8
SETTLE = 0.15  # seconds before a turn: threads of the one before, such as those of a BLAS, may spin before they sleep
ELSEWHERE = ("torch", "jax")  # libraries that may live in another Python's environment
Answer = dict[str, Any]
Round = dict[str, Answer]  # what every competitor answered, by its name


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


class Spec(NamedTuple):
    """A competitor: library, variant and precision, written torch:compile:bf16."""

    library: str
    variant: str
    precision: str = "fp32"

    def __str__(self) -> str:
        return ":".join(self if self.precision != "fp32" else self[:2])


def parse_spec(text: str) -> Spec:
    """ValueError unless it is LIBRARY:VARIANT[:PRECISION] of a library in peers/."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not (PEERS / f"{parts[0]}_peer.py").exists():
        known = ", ".join(sorted(p.name.removesuffix("_peer.py") for p in PEERS.glob("*_peer.py")))
        raise ValueError(f"peer: expected LIBRARY:VARIANT[:PRECISION] with a library of {known}; got {text!r}")
    return Spec(*parts)


def peers_python() -> str:
    """The interpreter that runs PyTorch and JAX: AAECORE_PEERS_PYTHON, else this one."""
    return os.environ.get("AAECORE_PEERS_PYTHON") or sys.executable


def versions() -> dict[str, str]:
    """Of NumPy and of the peers that are installed, without importing them."""
    code = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try: found[name] = metadata.version(name)
    except metadata.PackageNotFoundError: pass
print(json.dumps(found))
"""
    found: dict[str, str] = {}
    for python, names in ((sys.executable, ("numpy",)), (peers_python(), ELSEWHERE)):
        done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
        found |= json.loads(done.stdout)
    return found


def command(spec: Spec, size: Size | Work, threads: int, *options: str) -> tuple[list[str], dict[str, str]]:
    """The command line of a peer, and its environment."""
    python = peers_python() if spec.library in ELSEWHERE else sys.executable
    line = [python, str(PEERS / f"{spec.library}_peer.py"), "--size", spell(size), "--threads", str(threads)]
    line += ["--variant", spec.variant, "--precision", spec.precision, *options]
    return line, os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))


@contextmanager
def ended_after(seconds: float, process: subprocess.Popen[str]) -> Iterator[Event]:
    """Ends a process that is still at something after so many seconds; then the event is set."""
    late = Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = Timer(min(seconds, TIMEOUT_MAX), stop)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


class Competitor:
    """A live process that is timed on demand.

    Raises:
        Unavailable: there is no such thing here, or it has not started after `seconds`.
    """

    def __init__(self, spec: Spec, size: Size | Work, threads: int, *options: str, seconds: float = inf) -> None:
        self.spec = spec
        self._asked = 0  # questions so far
        line, environment = command(spec, size, threads, "--serve", *options)
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed in `close`
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        with ended_after(seconds, self.process) as late:
            try:
                self._answer()
            except BaseException as error:
                self.close()
                if late.is_set():
                    raise Unavailable(f"not started after {seconds:.0f} s") from error
                raise

    def ask(self, **question: Any) -> Answer:
        """Raises: Unavailable: that is the answer, or the process ended."""
        assert self.process.stdin is not None
        self._asked += 1
        self.process.stdin.write(json.dumps({"number": self._asked, **question}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Answer:
        assert self.process.stdout is not None
        answer = dict(json.loads(self.process.stdout.readline() or "{}"))
        if not answer:
            self.errors.seek(0)
            last = [line for line in self.errors.read().splitlines() if line.strip()][-1:]
            raise Unavailable(f"the process ended: {' '.join(last) or 'without an error'}")
        number = answer.pop("number", 0)
        if number != self._asked:  # times would go to another than they were asked for
            raise Unavailable(f"it answered question {number} instead of {self._asked}")
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        return answer

    def round(self, request: Request) -> Answer:
        """Times as asked for; adds `foreign`, the cores that other processes used meanwhile."""
        time.sleep(SETTLE)
        machine, own, start = machine_seconds(), process_seconds(self.process.pid), time.perf_counter()
        answer = self.ask(**request._asdict())
        machine, own = machine_seconds() - machine, process_seconds(self.process.pid) - own
        return {**answer, "foreign": max(0.0, machine - own) / (time.perf_counter() - start)}

    def close(self) -> None:
        self.process.communicate()  # closes its standard input, which ends it
        self.errors.close()


@contextmanager
def running(specs: Sequence[Spec], size: Size | Work, threads: int, *options: str) -> Iterator[list[Competitor]]:
    """Those of the competitors that can run, started one after the other; a line says which cannot."""
    started: list[Competitor] = []
    try:
        for spec in specs:  # in turn: a process that starts would disturb one that warms up
            try:
                started.append(Competitor(spec, size, threads, *options))
            except Unavailable as reason:
                say(f"left out: {spec} at {size}: {reason}")
        yield started
    finally:
        for competitor in started:
            competitor.close()


def take_turns(
    competitors: Sequence[Competitor], request: Request, rounds: int, enough: Callable[[list[Round]], bool]
) -> list[Round]:
    """So many rounds, and up to twice as many until there are `enough` clean ones."""
    made: list[Round] = []
    while len(made) < rounds or (len(made) < 2 * rounds and not enough(made)):
        made.append({str(c.spec): c.round(request) for c in competitors})
    return made


def is_clean(*answers: Answer) -> bool:
    return all(answer["foreign"] <= FOREIGN_LIMIT for answer in answers)


@dataclass(frozen=True)
class Verdict:
    """The median of ratios, of the clean ones if there are any."""

    ratio: float
    clean: int
    pairs: int
    decided: bool

    def as_dict(self) -> dict[str, Any]:
        return {"ratio": round(self.ratio, 4), "clean": self.clean, "pairs": self.pairs, "decided": self.decided}


def judge(ratios: Sequence[tuple[float, bool]], enough: int = ENOUGH_PAIRS) -> Verdict:
    """From (ratio, whether its pair is clean)."""
    clean = [ratio for ratio, good in ratios if good]
    return Verdict(
        statistics.median(clean or [ratio for ratio, _ in ratios]), len(clean), len(ratios), len(clean) >= enough
    )


def pair(rounds: Sequence[Round], peer: str, ours: str, key: str = "min") -> list[tuple[float, bool]]:
    """(the peer's time / our time, whether the pair is clean) of every round."""
    return [(r[peer][key] / r[ours][key], is_clean(r[peer], r[ours])) for r in rounds]


def compare(rounds: Sequence[Round], ours: str, enough: int = ENOUGH_PAIRS) -> dict[str, dict[str, Any]]:
    """For every peer of `ours`: the verdict, the median times in ms, for orientation, and the peaks of memory in MB.

    Also how far apart the two cores were, if ours tells it: the least, the median and the most nanoseconds.
    """

    def middle(name: str) -> float:
        return round(statistics.median(r[name]["med"] for r in rounds), 5)

    distances = sorted(r[ours]["apart"] for r in rounds if r[ours].get("apart"))
    apart = {"apart": [distances[0], round(statistics.median(distances)), distances[-1]]} if distances else {}
    results = {}
    for name in [n for n in rounds[0] if n != ours]:
        peaks = {"rss": rounds[-1][name]["rss"], "our rss": rounds[-1][ours]["rss"]}
        times = {"ms": middle(name), "our ms": middle(ours)}
        results[name] = judge(pair(rounds, name, ours), enough).as_dict() | times | peaks | apart
    return results


def against(ours: Spec, results: Mapping[str, Mapping[str, Any]]) -> str:
    """One line of progress."""
    return ", ".join(f"{name} {r['ratio']:.2f} ({r['clean']}/{r['pairs']})" for name, r in results.items()) or str(ours)
