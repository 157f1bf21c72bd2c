"""The `rate` fixture, its summary below the table of times, and what pytest-benchmark's files say of a machine."""

from __future__ import annotations

from typing import Any

import pytest
from machine import describe
from pytest_benchmark.fixture import BenchmarkFixture
from rates import HEADER, Rate

import aaecore
from aaecore.backends.cpu import default_isa

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


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """No host name, and nothing that changes from day to day: a comparison warns where it differs."""
    machine_info.clear()
    machine_info.update({k: v for k, v in describe(default_isa()).items() if k not in ("commit", "kernel")})


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    for name in ("project", "branch"):
        commit_info.pop(name, None)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Statistics without the single times, which are megabytes."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
