"""Weight gradients of long batches, made in parts: what they wait for in a graph, and the bits of a replay."""

from __future__ import annotations

from collections.abc import Sequence

import cuda_devices
import numpy as np
import pytest

from aaecore.backends.cuda.backend import CudaBackend
from aaecore.backends.cuda.driver import Node
from aaecore.backends.cuda.kernels import LEAST_PART_ROWS, WEIGHT_PART, Chip, scratch_bytes
from aaecore.core.memory import Buffer

pytestmark = cuda_devices.needs_device
CHIP = Chip(132, "tf32x3")
B, N, INPUTS = 2 * LEAST_PART_ROWS + 76, 8, (12, 5)


class Step:
    """A loss, and the gradients of two layers that need its gradient; one adds to what is there."""

    def __init__(self, backend: CudaBackend) -> None:
        self.backend = backend
        rng = np.random.default_rng(0)

        def buffer(*shape: int) -> Buffer:
            return backend.from_host(rng.standard_normal(shape, np.float32))

        self.logits, self.dlogits, self.loss = buffer(B, N), buffer(B, N), buffer(1)
        self.target = backend.from_host(rng.random((B, N), np.float32))
        self.x = [buffer(B, i) for i in INPUTS]
        self.dweight = [backend.from_host(rng.standard_normal((N, i), np.float32), "weight") for i in INPUTS]
        self.dbias = [buffer(N) for _ in INPUTS]

    def __call__(self) -> None:
        buffers = (self.logits, self.target, self.dlogits, self.loss)
        self.backend.launch("bce_logits", buffers, (B, N), (1.0,))
        for beta, (i, x, dweight, dbias) in enumerate(zip(INPUTS, self.x, self.dweight, self.dbias, strict=True)):
            dims = (B, i, N, beta)
            self.backend.launch("linear_backward_weight", (x, self.dlogits, dweight, dbias), dims)

    def results(self) -> list[np.ndarray]:
        return [self.backend.to_host(b) for b in (*self.dweight, *self.dbias)]


def _before(nodes: Sequence[Node]) -> list[set[int]]:
    """All that each node comes after."""
    found: list[set[int]] = []
    for node in nodes:
        found.append(set(node.after).union(*(found[w] for w in node.after)))
    return found


@pytest.mark.parametrize("times", [1, 3])
def test_a_replay_has_the_bits_of_launches_one_by_one(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_devices.backend(CHIP)
    monkeypatch.setattr(backend, "steps_per_graph", 2)
    recorded, eager = Step(backend), Step(backend)
    backend.capture(recorded).replay(times=times)
    for _ in range(times):
        eager()
    for ours, theirs in zip(recorded.results(), eager.results(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_parts_wait_for_what_they_read_and_the_sum_for_them() -> None:
    backend = cuda_devices.backend(CHIP)
    plan = backend.capture(Step(backend))
    nodes, _kept = backend.nodes(plan.calls, 2)
    before, kernels = _before(nodes), [node.launch.kernel for node in nodes]
    parts = [i for i, kernel in enumerate(kernels) if kernel.startswith(WEIGHT_PART)]
    losses = [i for i, kernel in enumerate(kernels) if kernel == "bce_logits"]
    assert len(parts) == 2 * len(losses) == 4
    for number, part in enumerate(parts):
        assert kernels[part + 1] == "linear_backward_weight_sum2"
        assert losses[number // 2] in before[part], "whose gradient it reads"
        assert part in before[part + 1]
        assert number < 2 or parts[number - 2] + 1 in before[part], "the sum of the step before has read the parts"
    assert parts[0] not in before[parts[1]], "the two layers do not wait for each other"


def test_scratch_is_as_large_as_the_parts_and_grows_with_them() -> None:
    dims = {"B": 4 * LEAST_PART_ROWS, "I": 40, "O": 24, "beta": 0}
    assert scratch_bytes("linear_backward_weight", dims, CHIP) == 4 * 4 * (40 * 24 + 24)
    assert scratch_bytes("linear_backward_weight", {**dims, "B": 2 * LEAST_PART_ROWS - 1}, CHIP) == 0
    assert scratch_bytes("linear_backward_weight", dims, Chip(132, "ffma")) == 0
    assert scratch_bytes("linear_forward", {**dims, "act": 0}, CHIP) == 0
