"""The second place of a gathered batch: which calls move there, what it saves, and that no result knows of it."""

from __future__ import annotations

import cuda_devices
import numpy as np
import pytest
from trained import model, rows

from aaecore import Trainer
from aaecore.backends.cuda import backend as cuda
from aaecore.backends.cuda.places import in_second_place
from aaecore.backends.reference import ReferenceBackend
from aaecore.core.backend import Backend
from aaecore.core.memory import Buffer
from aaecore.core.plan import Plan

ROWS, FEATURES = 4, 3
STEPS = 4  # of a graph


class Step:
    """A gather of a batch and its use, on the reference; `also` makes launches before or after."""

    def __init__(self) -> None:
        self.backend: Backend = ReferenceBackend()
        data = np.arange(30.0).reshape(10, FEATURES)
        self.source, self.order = self.backend.from_host(data), self.backend.from_host(np.arange(10)[::-1], "int64")
        self.cursor = self.backend.zeros((1,), "int64")
        self.x, self.y, self.half = (self.backend.zeros((n, FEATURES)) for n in (ROWS, ROWS, ROWS // 2))

    def gather(self) -> None:
        self.backend.launch("gather_rows", (self.source, self.order, self.cursor, self.x), (10, 3, 10, ROWS), (1.0,))

    def copy(self, source: Buffer, target: Buffer) -> None:
        self.backend.launch("copy", (source, target), (source.size, 0))

    def plan(self, *launches: object) -> Plan:
        return self.backend.capture(lambda: [launch() for launch in launches])  # type: ignore[operator]

    def moved(self, plan: Plan) -> list[tuple[int, ...]]:
        """Of each call the numbers of the buffers that are elsewhere in the second place."""
        second = in_second_place(plan.calls, lambda nbytes: np.zeros(nbytes, np.uint8))
        return [
            tuple(i for i, pair in enumerate(zip(a.buffers, b.buffers, strict=True)) if pair[0] is not pair[1])
            for a, b in zip(plan.calls, second, strict=True)
        ]


def test_all_that_reads_a_gathered_batch_moves_with_it() -> None:
    step = Step()
    use = [lambda: step.copy(step.x, step.y), lambda: step.copy(step.x.rows(2, 4), step.half)]
    plan = step.plan(step.gather, *use)
    assert step.moved(plan) == [(3,), (0,), (0,)]
    second = in_second_place(plan.calls, lambda nbytes: np.zeros(nbytes, np.uint8))
    for call in second:
        step.backend.launch(call.name, call.buffers, call.dims, call.scalars)
    assert step.backend.to_host(step.half).tolist() == [[21, 22, 23], [18, 19, 20]], "a view keeps its place: rows 7, 6"
    assert not step.backend.to_host(step.x).any()


def test_a_batch_stays_where_something_else_writes_it_or_reads_it_before() -> None:
    step = Step()
    read, write = (lambda: step.copy(step.x, step.y)), (lambda: step.copy(step.half, step.x.rows(0, 2)))
    assert step.moved(step.plan(read, step.gather)) == [(), ()], "of the step before"
    assert step.moved(step.plan(step.gather, write)) == [(), ()]
    assert step.moved(step.plan(write, step.gather)) == [(), ()]
    assert step.moved(step.plan(read, write)) == [(), ()], "nothing is gathered"


@pytest.mark.parametrize(("first", "last"), [(0, 4), (2, 6), (1, 5)])
def test_a_batch_stays_where_a_buffer_lies_across_its_ends(first: int, last: int) -> None:
    step = Step()
    both, y = step.backend.zeros((6, FEATURES)), step.backend.zeros((6, FEATURES))
    step.x = both.rows(first, last)
    assert step.moved(step.plan(step.gather, lambda: step.copy(both, y))) == [(), ()]


@cuda_devices.needs_device
def test_a_gather_is_no_link_of_the_chain_of_steps(cuda_device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.CudaBackend, "steps_per_graph", STEPS)
    monkeypatch.setattr("aaecore.training.stepper.BURST_SECONDS", 1e9)
    made = []
    monkeypatch.setattr(cuda_devices.driver(), "graph", lambda nodes: made.append(nodes) or (lambda: None))
    Trainer(model(device="cuda"), 8, guard=False).fit(rows()[: 8 * (3 * STEPS + 1)], 1, progress=False)
    lengths = {}
    for nodes in made:
        depth: list[int] = []
        for node in nodes:
            depth.append(1 + max((depth[w] for w in node.after), default=0))
        lengths[sum(node.launch.kernel.startswith("gather_rows") for node in nodes)] = max(depth)
    assert lengths[STEPS] == 1 + STEPS * (lengths[1] - 1)


@cuda_devices.needs_device
def test_the_last_step_of_a_graph_leaves_its_batch_where_it_was_recorded(
    cuda_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda.CudaBackend, "steps_per_graph", STEPS)
    monkeypatch.setattr("aaecore.training.stepper.BURST_SECONDS", 1e9)
    x = rows()[: 8 * 3 * STEPS]
    last = {}
    for record in (True, False):
        trainer = Trainer(model(device="cuda"), 8, guard=False, record=record)
        trainer.fit(x, 1, progress=False)
        last[record] = trainer.backend.to_host(trainer._maker.stepper.last.x.buffer)
    assert np.array_equal(last[True], last[False])
    assert last[True].any()
