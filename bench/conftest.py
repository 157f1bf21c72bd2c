"""The `rate` fixture, and its summary below the table of times."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rates import HEADER, Rate

import aaecore
from aaecore.cpu import default_isa

ROWS = pytest.StashKey[list[str]]()


@pytest.fixture
def rate(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> Rate:
    return Rate(benchmark, pytestconfig.stash.setdefault(ROWS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.section(f"rates at the median time, {default_isa()}, {aaecore.get_num_threads()} threads")
        for row in (HEADER, *rows):
            terminalreporter.write_line(row)
