"""Ops that are chains of kernels: each kernel waits for the one before it, in a recorded step too."""

from __future__ import annotations

import cuda_devices
import numpy as np
import pytest
from case_kit import Case
from cases import make_buffers

from aaecore.backends.cuda.kernels import CHAINS, Chip, kernels_of, scratch_bytes
from aaecore.core.memory import Buffer
from aaecore.core.ops import OPS

pytestmark = cuda_devices.needs_device
DIMS = {"B": 37, "M": 70, "N": 19, "K": 2}
SCALARS = {"mmd": {"weight": 0.7}, "parzen": dict[str, float]()}


def _buffers(op: str, seed: int) -> list[Buffer]:
    backend = cuda_devices.backend()
    arrays = make_buffers(op, Case(DIMS, SCALARS[op]), np.random.default_rng(seed))
    return [backend.from_host(a, arg.kind) for a, arg in zip(arrays, OPS[op].args, strict=True)]


@pytest.mark.parametrize("op", CHAINS)
def test_a_recorded_step_gives_the_bits_of_launches_one_by_one(op: str) -> None:
    """Two launches that do not depend on each other, and one more of the first: parzen goes on from its own sums."""
    backend, results = cuda_devices.backend(), []
    for recorded in (False, True):
        first, second = _buffers(op, 1), _buffers(op, 2)

        def step(pair: tuple[list[Buffer], list[Buffer]] = (first, second)) -> None:
            for buffers in (*pair, pair[0]):
                backend.launch(op, buffers, list(DIMS.values()), list(SCALARS[op].values()))

        if recorded:
            plan = backend.capture(step)
            plan.replay()
            nodes, _ = backend.nodes(plan.calls)
            count = len(kernels_of(op, DIMS, backend.chip))
            assert [node.after for node in nodes[1:count]] == [(i,) for i in range(count - 1)]
            assert nodes[count].after == ()
        else:
            step()
        results.append([backend.to_host(b).tobytes() for b in (*first, *second)])
    assert results[0] == results[1]


def test_a_window_of_many_rows_has_the_larger_tile() -> None:
    dims = {"B": 10_000, "M": 1024, "N": 784, "K": 1}
    kernels = [kernel for kernel, _ in kernels_of("parzen", dims, Chip(132, "tf32x3"))]
    assert kernels == ["parzen_squares", "parzen_distances_tf32x3_large", "parzen"]
    assert scratch_bytes("parzen", dims, Chip(132, "tf32x3")) == 4 * (10_000 * 1024 + 10_000 + 1024)
    few = kernels_of("parzen", dims | {"B": 100}, Chip(132, "tf32x3", ("large", "medium", "small")))
    assert few[1] == ("parzen_distances_tf32x3_medium", (16, 2))
