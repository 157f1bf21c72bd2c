"""Kernels and steps on a GPU, timed by CUDA events; skipped without one, or failed with AAECORE_REQUIRE_GPU=1.

pytest-benchmark subtracts two readings of a timer. Here the timer counts the seconds that events measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from case_kit import Case, case_id
from cases import CASES, make_buffers
from pytest_benchmark.fixture import BenchmarkFixture
from steps import make_step, plan_bytes

from aaecore import DeviceError, get_backend
from aaecore.core.backend import Backend
from aaecore.core.ops import OPS
from gpu.goals import GPU_SIZES, MODE
from gpu.model import FFMA, clock_of, is_gpu, make_model

LAUNCHES = 20  # of an op in the graph that is timed
BURST = 64  # steps
_total = 0.0


def counted() -> float:
    """The timer."""
    return _total


@cache
def _device() -> Backend | str:
    """The GPU, or why there is none."""
    try:
        return get_backend("cuda")
    except DeviceError as error:
        return str(error)


@pytest.fixture
def device() -> Backend:
    found = _device()
    if isinstance(found, str):
        if os.environ.get("AAECORE_REQUIRE_GPU") == "1":
            pytest.fail(f"AAECORE_REQUIRE_GPU=1, but {found}")
        pytest.skip(f"needs a GPU: {found}; `make gpu` runs it on a machine that has one")
    assert is_gpu(found)
    return found


def timed(
    benchmark: BenchmarkFixture, backend: Backend, call: Callable[[], object], per_call: int, flops: int, nbytes: int
) -> None:
    """Times a call that makes `per_call` of what costs so many operations and bytes; seconds are those of one."""
    clock = clock_of(backend, call)
    clock(1)

    def add() -> None:
        global _total
        _total += clock(1) / per_call

    benchmark.pedantic(add, rounds=1 if benchmark.disabled else 15, warmup_rounds=2)
    benchmark.extra_info.update(flops=flops, bytes=nbytes)
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info.update({"GFLOP/s": flops / seconds / 1e9, "GB/s": nbytes / seconds / 1e9})


def _cases() -> Iterator[object]:
    for op, cases in CASES.items():
        for case in [c for c in cases if c.bench] or cases[:1]:
            yield pytest.param(op, case, id=f"{op}-{case_id(case)}")


@pytest.mark.benchmark(timer=counted)
@pytest.mark.parametrize(("name", "case"), list(_cases()))
def test_op(name: str, case: Case, device: Backend, benchmark: BenchmarkFixture) -> None:
    """One op, from a graph of many launches of it, each of which waits for the one before."""
    benchmark.group = "matrix ops" if name.startswith("linear") else "other ops"
    op, arrays = OPS[name], make_buffers(name, case, np.random.default_rng(0))
    buffers = [device.from_host(array, arg.kind) for arg, array in zip(op.args, arrays, strict=True)]
    dims, scalars = [case.dims[d] for d in op.dims], [case.scalars[s] for s in op.scalars]
    plan = device.capture(lambda: [device.launch(name, buffers, dims, scalars) for _ in range(LAUNCHES)])
    timed(benchmark, device, plan.replay, LAUNCHES, op.flops(case.dims), op.bytes(case.dims))


@pytest.mark.benchmark(timer=counted)
@pytest.mark.parametrize("mode", ["eager", "replay", MODE])
@pytest.mark.parametrize("precision", ["fp32", FFMA, "tf32", "bf16"])
@pytest.mark.parametrize("name", GPU_SIZES)
def test_step(name: str, precision: str, mode: str, device: Backend, benchmark: BenchmarkFixture) -> None:
    """A training step: its launches from Python, its graph, and many steps in one call."""
    benchmark.group = f"step {name}"
    size = GPU_SIZES[name]
    model = make_model(size, precision, "cuda")
    launches, x, losses = make_step(model, size.batch)
    model.backend.upload(x, np.random.default_rng(0).random((size.batch, size.inputs), np.float32))
    plan = model.backend.capture(launches)
    call = {"eager": launches, "replay": plan.replay, MODE: lambda: plan.replay(times=BURST)}[mode]
    timed(benchmark, model.backend, call, BURST if mode == MODE else 1, plan.flops, plan_bytes(plan))
    made = model.backend.to_host(losses)
    assert np.isfinite(made).all()
    assert made.all()
