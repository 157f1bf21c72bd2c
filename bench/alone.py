"""The parts of a run that need no peers: one thread against the machine's limit, the trainer, growth, the wheel."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import goals
from alternate import ENOUGH_PAIRS, Answer, Competitor, Round, Verdict, is_clean, judge, running, say, take_turns
from protocol import Request
from settings import OURS, Run
from sizes import SIZES, Size, matrix_flops, spell
from works import NORMED

import aaecore

HERE = Path(__file__).resolve().parent
PROBE = 0.05  # seconds, before and after each block of steps
STEADY = 0.05  # relative difference of the two probes in a clean round
ENOUGH_POINTS = 3  # rounds of each point of a curve
Row = dict[str, Any]


def of_the_limit(answer: Answer, size: Size, threads: int) -> tuple[float, bool]:
    """(a step's time / its operations at the measured rate on every thread, whether the round is clean)."""
    before, after = answer["rates"]
    steady = abs(before - after) <= STEADY * max(before, after)
    seconds = answer["med"] / 1e3
    return seconds * (before + after) / 2 * threads / matrix_flops(size), steady and is_clean(answer)


def against_probe(size: Size, threads: int, run: Run, rounds: int, enough: int) -> Row:
    """A row for the recorded step of a size, the probe run before and after each block in the same process."""
    name = str(OURS)

    def verdict(made: list[Round]) -> Verdict:
        return judge([of_the_limit(r[name], size, threads) for r in made], enough)

    with running([OURS], size, threads) as competitors:
        request = Request(run.seconds, probe=PROBE)
        made = take_turns(competitors, request, rounds, lambda made: verdict(made).decided)
    answers = [r[name] for r in made]
    return {
        **verdict(made).as_dict(),
        "ms": round(statistics.median(a["med"] for a in answers), 5),
        "GFLOP/s of the probe": round(statistics.median(r for a in answers for r in a["rates"]) / 1e9, 1),
    }


def one_thread(run: Run) -> Iterator[Row]:
    """Steps of one thread against the rate of multiply-adds that it measures around them."""
    for size in [s for s in run.sizes if s in goals.ONE_THREAD]:
        row = {"size": size, **against_probe(SIZES[size], 1, run, run.rounds, ENOUGH_PAIRS)}
        say(f"one thread {size}: {row['ratio']:.3f} times the limit ({row['clean']}/{row['pairs']} rounds)")
        yield goals.judged(row, row["ratio"], goals.ONE_THREAD[size])


def overhead(run: Run) -> Iterator[Row]:
    """Epochs through `Trainer.fit` against the same steps replayed bare, in one process."""
    for size in [s for s in run.sizes if s in goals.OVERHEAD]:
        line = [sys.executable, str(HERE / "overhead.py"), "--size", size, "--rounds", str(run.rounds)]
        done = subprocess.run([*line, "--rows", str(run.rows)], stdout=subprocess.PIPE, text=True, check=True)
        answers = [json.loads(text) for text in done.stdout.splitlines()]
        verdict = judge([(a["fit"] / a["bare"], is_clean(a)) for a in answers]).as_dict()
        say(f"overhead {size}: {verdict['ratio'] - 1:.1%} ({verdict['clean']}/{verdict['pairs']} pairs)")
        yield goals.judged({"size": size, **verdict}, verdict["ratio"], goals.OVERHEAD[size])


def normed(run: Run) -> Iterator[Row]:
    """Steps with batch norm in the encoder and dropout of x against the same steps without, in turn."""
    for name in run.works:
        work = NORMED[name]
        competitors = [Competitor(OURS, w, run.threads) for w in (work, work._replace(dropout=0.0, batch_norm=False))]
        made: list[tuple[float, bool]] = []
        try:
            while len(made) < run.rounds or (len(made) < 2 * run.rounds and not judge(made).decided):
                both = [competitor.round(Request(run.seconds)) for competitor in competitors]
                made.append((both[0]["min"] / both[1]["min"], is_clean(*both)))
        finally:
            for competitor in competitors:
                competitor.close()
        row = {"size": str(work), **judge(made).as_dict()}
        say(f"batch norm and dropout, {name}: {row['ratio'] - 1:.1%} ({row['clean']}/{row['pairs']} pairs)")
        yield goals.judged(row, row["ratio"], goals.NORMED)


def growth(run: Run) -> Iterator[Row]:
    """Time and memory of steps as the batch grows, and as the network grows."""
    series = {
        "batch": [Size(784, 256, 8, n) for n in run.growth],
        "hidden": [Size(784, n, 8, 128) for n in run.growth],
    }
    for along, sizes in series.items():
        smallest: Row = {}
        for size in sizes:
            row = {"along": along, "size": spell(size), **size._asdict()}
            row |= against_probe(size, run.threads, run, ENOUGH_POINTS, ENOUGH_POINTS) | {"memory": _memory(size)}
            row["us per sample"] = round(row["ms"] * 1e3 / size.batch, 4)
            smallest = smallest or row
            say(f"growth {along} {getattr(size, along)}: {row['ms']:.3f} ms, {row['ratio']:.2f} times the limit")
            row = goals.judged(row, row["ratio"] / smallest["ratio"], goals.GROWTH)
            yield row if smallest["decided"] else row | {"met": None}


def _memory(size: Size) -> Row:
    line = [sys.executable, str(HERE / "memory.py"), "--size", spell(size)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout)
    low, high = goals.FORMULA
    row["met"] = low * row["formula"] <= row["measured"] <= high * row["formula"] + goals.MEMORY_FLOOR
    return row


def wheel(run: Run) -> Iterator[Row]:
    """The files that a wheel ships, each compressed as in one."""
    package = Path(aaecore.__file__).parent
    kernels = Path(aaecore.kernels.__file__).parent
    shipped = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    suffixes = (".py", ".pyi", ".so", ".cu", ".cuh")
    if not kernels.is_relative_to(package):  # an editable installation
        shipped += [p for p in kernels.rglob("*") if p.suffix in suffixes or p.name == "scalar.h"]
    size = sum(len(zlib.compress(p.read_bytes())) for p in shipped)
    yield goals.judged({"bytes": size, "files": len(shipped)}, size, goals.WHEEL)


PARTS = {"one-thread": one_thread, "normed": normed, "overhead": overhead, "growth": growth, "wheel": wheel}
