"""Compares training steps in live processes that take turns, so that a drifting clock touches all of them alike.

    python compare.py --sizes a d --threads 2 torch_step.py:eager jax_step.py:jit numpy_step.py aaecore_step.py:replay

The LAST competitor is under test. In each round every process steps for --seconds; a pair ratio is the best step of a
peer divided by the best step of the last competitor in the same round, so above 1 the latter is faster. The result is
the median of the pair ratios. Pairs in which other processes used more than a tenth of a core are dropped and counted;
with fewer than eight left there is no verdict. Linux only: the load is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peer
from sizes import SIZES

HERE = Path(__file__).resolve().parent
FOREIGN_LIMIT = 0.1  # cores
ENOUGH_PAIRS = 8


def _machine_seconds() -> float:
    """CPU time that all processes have used: user, nice, system, interrupts."""
    fields = [int(v) for v in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return float(fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / os.sysconf("SC_CLK_TCK")


def _process_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Competitor:
    """A live process that times its steps on demand. `spec` is FILE[:VARIANT]."""

    def __init__(self, spec: str, size: str, threads: int) -> None:
        self.spec = spec
        file, _, variant = spec.partition(":")
        path = Path(file) if Path(file).exists() else HERE / file
        command = [sys.executable, str(path), "--serve", "--size", size, "--threads", str(threads)]
        command += ["--variant", variant] if variant else []
        environment = os.environ | dict.fromkeys(peer.THREAD_VARIABLES, str(threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.spec}: the process ended; see its error above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ready(self) -> None:
        self._answer()

    def round(self, seconds: float) -> dict[str, Any]:
        """Times steps for so long; adds `foreign`, the cores that other processes used meanwhile."""
        assert self.process.stdin is not None
        machine, own, start = _machine_seconds(), _process_seconds(self.process.pid), time.perf_counter()
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        answer = self._answer()
        machine, own = _machine_seconds() - machine, _process_seconds(self.process.pid) - own
        return {**answer, "foreign": max(0.0, machine - own) / (time.perf_counter() - start)}

    def close(self) -> None:
        self.process.communicate()  # closes its standard input, which ends it


def measure(specs: list[str], size: str, threads: int, rounds: int, seconds: float) -> list[list[dict[str, Any]]]:
    """What every competitor answered in every round."""
    competitors: list[Competitor] = []
    try:
        for spec in specs:  # one after the other: a process that starts would disturb one that warms up
            competitors.append(Competitor(spec, size, threads))
            competitors[-1].ready()
        return [[c.round(seconds) for c in competitors] for _ in range(rounds)]
    finally:
        for c in competitors:
            c.close()


def report(size: str, threads: int, specs: list[str], runs: list[list[dict[str, Any]]]) -> None:
    """A line for every peer of the last competitor."""
    for i, spec in enumerate(specs[:-1]):
        pairs = [(run[i], run[-1]) for run in runs]
        clean = [p for p in pairs if max(side["foreign"] for side in p) <= FOREIGN_LIMIT]
        ratios = [other["min"] / ours["min"] for other, ours in clean or pairs]
        verdict = "" if len(clean) >= ENOUGH_PAIRS else f"  NOT DECIDED, {'few' if clean else 'no'} clean pairs"
        other_ms, ours_ms = (statistics.median(side["med"] for side in sides) for sides in zip(*pairs, strict=True))
        print(
            f"{size} {threads}T  {spec:<24} {other_ms:>10.4f} ms  {specs[-1]:<24} {ours_ms:>10.4f} ms  "
            f"ratio {statistics.median(ratios):>7.2f}  ({len(clean)} of {len(pairs)} pairs clean, "
            f"peak {runs[-1][i]['rss']} and {runs[-1][-1]['rss']} MB){verdict}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), metavar="SIZE")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each process in each round")
    parser.add_argument("specs", nargs="+", metavar="FILE[:VARIANT]")
    options = parser.parse_args()
    for size in options.sizes:
        runs = measure(options.specs, size, options.threads, options.rounds, options.seconds)
        report(size, options.threads, options.specs, runs)


if __name__ == "__main__":
    main()
