"""Every op, one launch from Python at a time, on the shapes that tests/cases.py marks for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from case_kit import Case, case_id
from cases import CASES, make_buffers
from op_checks import ops_of
from pytest_benchmark.fixture import BenchmarkFixture
from rates import Rate

from aaecore import get_backend
from aaecore.core.ops import OPS

FLOATING = ("real", "weight", "float64")


def _cases() -> Iterator[object]:
    """The cases marked `bench`; the first one of an op that has none because it only touches a state."""
    for op in ops_of(get_backend("cpu")):
        for case in [c for c in CASES[op] if c.bench] or CASES[op][:1]:
            yield pytest.param(op, case, id=f"{op}-{case_id(case)}")


def test_every_op_is_benchmarked() -> None:
    assert set(CASES) == set(OPS)


@pytest.mark.parametrize(("name", "case"), list(_cases()))
def test_op(name: str, case: Case, rate: Rate, benchmark: BenchmarkFixture) -> None:
    """In-place ops go on from their own results, whose time does not depend on the values but for a few denormals."""
    benchmark.group = "matrix ops" if name.startswith("linear") else "other ops"
    op, backend = OPS[name], get_backend("cpu")
    arrays = make_buffers(name, case, np.random.default_rng(0))
    for arg, array in zip(op.args, arrays, strict=True):
        if arg.role == "out" and arg.kind in FLOATING:
            array[...] = np.nan
    buffers = [backend.from_host(array, arg.kind) for arg, array in zip(op.args, arrays, strict=True)]
    dims, scalars = [case.dims[d] for d in op.dims], [case.scalars[s] for s in op.scalars]
    rate(partial(backend.launch, name, buffers, dims, scalars), op.flops(case.dims), op.bytes(case.dims))
    for arg, buffer in zip(op.args, buffers, strict=True):
        assert arg.kind not in FLOATING or np.isfinite(backend.to_host(buffer)).all(), arg.name
