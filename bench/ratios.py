"""Ratios as pytest-benchmark's times, so that `--benchmark-compare` can tell when one got worse on any machine.

pytest-benchmark subtracts two readings of a timer. Here the timer counts ratios, and what is "timed" adds one to it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from alternate import ENOUGH_PAIRS, judge
from pytest_benchmark.fixture import BenchmarkFixture

HERE = Path(__file__).resolve().parent
WORSE = "median:15%"  # what a median may grow by
_total = 0.0


def counted() -> float:
    """The timer: `@pytest.mark.benchmark(timer=counted)`."""
    return _total


def keep(benchmark: BenchmarkFixture, ratios: Sequence[tuple[float, bool]]) -> None:
    """Records the clean ones of (ratio, whether its round is clean), larger being worse; skips if they are too few."""
    verdict = judge(ratios, ENOUGH_PAIRS)
    if not (verdict.decided or benchmark.disabled):
        pytest.skip(f"NOT DECIDED: {verdict.clean} of {verdict.pairs} rounds clean; run it again on an idle machine")
    clean = [ratio for ratio, good in ratios if good or benchmark.disabled]
    values = iter(clean)

    def add() -> None:
        global _total
        _total += next(values)

    benchmark.extra_info.update(unit="ratio", clean=verdict.clean, pairs=verdict.pairs)
    benchmark.pedantic(add, rounds=len(clean))


def gate_command(stored: Path) -> list[str]:
    """Measures the ratios again and fails where a median is worse than the stored one."""
    tests = str(HERE / "test_ratios.py")
    options = ["--benchmark-time-unit=s", "--benchmark-columns=median,iqr,rounds", f"--benchmark-compare={stored}"]
    # -rs: a ratio that was not decided did not pass; its reason must be seen.
    return [sys.executable, "-m", "pytest", "-rs", tests, *options, f"--benchmark-compare-fail={WORSE}"]
