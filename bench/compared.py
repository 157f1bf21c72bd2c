"""The parts of a run that set aaecore beside its peers. Each yields rows that JSON can hold."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import equal
import goals
from alternate import (
    ELSEWHERE,
    ENOUGH_PAIRS,
    FOREIGN_LIMIT,
    Competitor,
    Round,
    Spec,
    against,
    command,
    compare,
    is_clean,
    judge,
    peers_python,
    running,
    say,
    take_turns,
)
from machine import TICKS, machine_seconds
from protocol import Request, Unavailable
from settings import FIT, OURS, Run, ours
from sizes import SIZES
from works import parse

Row = dict[str, Any]
ENOUGH_EPOCHS = 3  # pairs: each is thousands of steps
ENOUGH_STARTS = 3
EPOCH_PEERS = {
    "a": [Spec("torch", "eager"), Spec("jax", "scan"), Spec("torch", "eager", "bf16")],
    "f": [Spec("torch", "eager"), Spec("jax", "scan"), Spec("numpy", "inplace"), Spec("torch", "eager", "bf16")],
}
SLOW = ("b", "c")  # sizes at which only ours is put under load
USUAL = [Spec("torch", "eager"), Spec("jax", "jit"), Spec("numpy", "inplace")]  # of cold starts and of load


def equal_work(run: Run) -> Iterator[Row]:
    """The check that must pass before times are quoted; what fails it is left out of what follows."""
    for size in [*run.sizes, *run.works]:
        for precision in run.precisions:
            rivals = run.rivals(size, precision)
            for row in equal.check(parse(size), rivals, run.threads) if rivals else []:
                spec = next(s for s in rivals if str(s) == row["peer"])
                if not row["equal"]:
                    run.unequal.add((size, spec))
                    say(f"left out: {spec} at {size}: its step is not ours; see bench/equal.py")
                yield {**row, "size": size}
        say(f"equal work at {size}: checked")


def steps(run: Run) -> Iterator[Row]:
    """Training steps, in turn with every peer."""
    for size in run.sizes:
        for precision in run.precisions:
            us = ours(OURS, precision)
            for rivals in _apart(run.rivals(size, precision)):
                for row in _in_turn([*rivals, us], size, run, Request(run.seconds)):
                    yield goals.judged(row, row["ratio"], goals.step(size, row["peer"]), at_least=True)


def models(run: Run) -> Iterator[Row]:
    """Training steps of the paper's later models, in turn with every peer."""
    for work in run.works:
        for precision in run.precisions:
            if rivals := run.rivals(work, precision):
                for row in _in_turn([*rivals, ours(OURS, precision)], work, run, Request(run.seconds, calls=2)):
                    yield goals.judged(row, row["ratio"], goals.MODELS[precision], at_least=True)


def _apart(rivals: Sequence[Spec]) -> list[list[Spec]]:
    """NumPy by itself: the threads of its BLAS go on spinning in the turn of whoever comes next."""
    groups = [[p for p in rivals if (p.library == "numpy") == alone] for alone in (False, True)]
    return [group for group in groups if group]


def epochs(run: Run) -> Iterator[Row]:
    """Whole epochs of uint8 rows: shuffled, gathered, scaled and trained on; ours through `Trainer.fit`."""
    options = ("--epoch", "--rows", str(run.rows))
    for size in [s for s in EPOCH_PEERS if s in run.sizes]:
        for precision in run.precisions:
            us, once = ours(FIT, precision), Request(0.0, 0.0, 1)
            for rivals in _apart(run.rivals(size, precision, EPOCH_PEERS[size])):
                for row in _in_turn([*rivals, us], size, run, once, ENOUGH_EPOCHS, min(run.rounds, 4), options):
                    yield goals.judged(row, row["ratio"], goals.EPOCH, at_least=True)


def _in_turn(
    specs: list[Spec],
    size: str,
    run: Run,
    request: Request,
    enough: int = ENOUGH_PAIRS,
    rounds: int | None = None,
    options: tuple[str, ...] = (),
) -> Iterator[Row]:
    """A row for every peer of the last of the specs."""
    us = str(specs[-1])

    def decided(made: list[Round]) -> bool:
        return all(row["decided"] for row in compare(made, us, enough).values())

    with running(specs, parse(size), run.threads, *options) as competitors:
        if len(competitors) < 2 or str(competitors[-1].spec) != us:
            return
        results = compare(take_turns(competitors, request, rounds or run.rounds, decided), us, enough)
    say(f"{'epoch' if options else 'step'} {size}: {against(specs[-1], results)}")
    for peer, result in results.items():
        yield {"size": size, "peer": peer, "ours": us, **result}


def cold_starts(run: Run) -> Iterator[Row]:
    """Fresh processes in turn: from the start to the end of the first step, and the peak memory some steps later."""
    for size in run.sizes:
        made: dict[Spec, list[Row]] = {spec: [] for spec in [FIT, *run.rivals(size, "fp32", USUAL)]}
        for _ in range(run.starts):
            for spec, rows in made.items():
                rows.append(_cold(spec, size, run.threads))
        seconds, memory = (
            {spec: statistics.median(r[key] for r in rows) for spec, rows in made.items()} for key in ("seconds", "rss")
        )
        say(f"cold start {size}: {', '.join(f'{spec} {s:.2f} s' for spec, s in seconds.items())}")
        for spec, rows in made.items():
            verdict = judge([(r["seconds"], r["clean"]) for r in rows], ENOUGH_STARTS).as_dict()
            row = {"size": size, "who": str(spec), "seconds": verdict.pop("ratio"), **verdict, "rss": memory[spec]}
            if spec == FIT:
                row = goals.judged(row, row["seconds"], goals.COLD_START)
            if spec == USUAL[0]:
                part = round(memory[FIT] / memory[spec], 4)
                row["our memory"] = goals.judged({"ratio": part}, part, goals.MEMORY[size])
            yield row


def _cold(spec: Spec, size: str, threads: int) -> Row:
    line, environment = command(spec, SIZES[size], threads, "--cold")
    start = time.perf_counter()
    text, clean = _fresh(line, environment)
    answer = json.loads(text.splitlines()[-1])
    if "unavailable" in answer:
        raise Unavailable(f"{spec}: {answer['unavailable']}")
    return {"seconds": answer["end"] - start, "rss": answer["rss"], "clean": clean}


def _fresh(line: list[str], environment: dict[str, str] | None = None) -> tuple[str, bool]:
    """(what a process that runs to its end prints, whether others left the machine alone meanwhile)."""
    before, machine, start = _children(), machine_seconds(), time.perf_counter()
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(line)}: {(done.stderr.strip().splitlines() or ['ended'])[-1]}")
    wall, foreign = time.perf_counter() - start, machine_seconds() - machine - (_children() - before)
    return done.stdout, foreign <= FOREIGN_LIMIT * wall + 2 / TICKS  # the machine's clock is that coarse


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imports(run: Run) -> Iterator[Row]:
    """The time that an import takes in a fresh process, its dependencies included."""
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    libraries = ["aaecore", *dict.fromkeys(p.library for p in run.peers if p.library in run.installed)]
    made: dict[str, list[tuple[float, bool]]] = {library: [] for library in libraries}
    for _ in range(run.starts):
        for library, starts in made.items():
            python = peers_python() if library in ELSEWHERE else sys.executable
            text, clean = _fresh([python, "-c", code.format(library)])
            starts.append((float(text), clean))
    for library, starts in made.items():
        row = {"library": library, **judge(starts, ENOUGH_STARTS).as_dict()}
        row["seconds"] = row.pop("ratio")
        yield goals.judged(row, row["seconds"], goals.IMPORT) if library == "aaecore" else row


def load(run: Run) -> Iterator[Row]:
    """A step beside one busy process, by the same step alone, in turn."""
    for size in run.sizes:
        for specs in _apart([OURS, *(run.rivals(size, "fp32", USUAL) if size not in SLOW else [])]):
            with running(specs, SIZES[size], run.threads) as competitors:
                made: dict[Competitor, list[tuple[float, bool]]] = {c: [] for c in competitors}
                for _ in range(run.rounds):
                    for competitor, ratios in made.items():
                        ratios.append(_beside_load(competitor, Request(run.seconds)))
            for competitor, ratios in made.items():
                row = {"size": size, "who": str(competitor.spec), **judge(ratios).as_dict()}
                yield goals.judged(row, row["ratio"], goals.LOAD) if competitor.spec == OURS else row
            say(f"load {size}: {', '.join(f'{c.spec} {judge(r).ratio:.2f}' for c, r in made.items())}")


def _beside_load(competitor: Competitor, request: Request) -> tuple[float, bool]:
    quiet = competitor.round(request)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)  # until it is busy
        loaded = competitor.round(request)
    finally:
        busy.kill()
        busy.wait()
    others = {"foreign": loaded["foreign"] - 1.0}  # at most one core is the busy process
    return loaded["med"] / quiet["med"], is_clean(quiet, others)


PARTS = {
    "equal": equal_work, "steps": steps, "models": models, "epochs": epochs, "cold": cold_starts, "imports": imports,
    "load": load,
}  # fmt: skip
