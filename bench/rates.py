"""Rates beside times: what a benchmark computes and moves per second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_benchmark.fixture import BenchmarkFixture

import aaecore
from aaecore.backends.cpu import default_isa


@dataclass
class Rate:
    """Times functions whose cost is known, and keeps a row of the summary of each."""

    benchmark: BenchmarkFixture
    rows: list[str]

    def __call__(self, function: Callable[[], object], flops: int, nbytes: int) -> None:
        """Times `function`, one call of which computes `flops` operations and moves `nbytes` bytes.

        extra_info gets both, and from the median time "GFLOP/s" and "GB/s". With --benchmark-disable it runs once.
        """
        benchmark = self.benchmark
        benchmark(function)
        benchmark.extra_info.update(flops=flops, bytes=nbytes, threads=aaecore.get_num_threads(), isa=default_isa())
        if benchmark.stats is None:
            return
        seconds = benchmark.stats.stats.median
        gflops, gbytes = flops / seconds / 1e9, nbytes / seconds / 1e9
        benchmark.extra_info.update({"GFLOP/s": gflops, "GB/s": gbytes})
        self.rows.append(f"{seconds * 1e6:>12.2f} {gflops:>9.2f} {gbytes:>9.2f}  {benchmark.name}")


HEADER = f"{'us':>12} {'GFLOP/s':>9} {'GB/s':>9}  benchmark"
