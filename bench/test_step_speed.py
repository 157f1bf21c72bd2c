"""Training at the sizes a-f: `Trainer.step`, eager and replayed, the bare replay of the step, and epochs of `fit`."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rates import Rate
from sizes import SIZES
from steps import make_model, make_step, make_trainer, plan_bytes


def _data(name: str) -> np.ndarray:
    size = SIZES[name]
    return np.random.default_rng(0).random((size.batch, size.inputs), np.float32)


@cache
def _cost(name: str) -> tuple[int, int]:
    """(operations, bytes) of one step, from its plan."""
    model = make_model(SIZES[name])
    plan = model.backend.capture(make_step(model, SIZES[name].batch)[0])
    return plan.flops, plan_bytes(plan)


@pytest.mark.parametrize("record", [False, True], ids=["eager", "replayed"])
@pytest.mark.parametrize("name", SIZES)
def test_trainer_step(name: str, record: bool, rate: Rate, benchmark: BenchmarkFixture) -> None:
    """What a user's loop over `Trainer.step` costs: checks, the copy of x, the guard, and reading the losses."""
    benchmark.group = f"step {name}"
    x = _data(name)
    trainer = make_trainer(make_model(SIZES[name]), len(x), record=record)
    rate(lambda: trainer.step(x), *_cost(name))
    assert trainer.steps >= 1  # a loss that is not finite raises


@pytest.mark.parametrize("name", SIZES)
def test_plan_replay(name: str, rate: Rate, benchmark: BenchmarkFixture) -> None:
    """The kernels alone: the recorded step on data that are already in place."""
    benchmark.group = f"step {name}"
    x = _data(name)
    model = make_model(SIZES[name])
    step, buffer, losses = make_step(model, len(x))
    plan = model.backend.capture(step)
    model.backend.upload(buffer, x)
    rate(plan.replay, *_cost(name))
    assert np.isfinite(losses.storage).all()
    assert losses.storage.all()


@pytest.mark.parametrize(("name", "steps"), [("a", 20), ("e", 2000), ("f", 100)])
def test_fit_epoch(name: str, steps: int, rate: Rate, benchmark: BenchmarkFixture) -> None:
    """An epoch as `Trainer.fit` makes it, with all that comes with it: checks, order of the rows, guard, losses."""
    benchmark.group = "epoch"
    size = SIZES[name]
    x = np.random.default_rng(0).random((steps * size.batch, size.inputs), np.float32)
    trainer = make_trainer(make_model(size), size.batch)
    flops, nbytes = _cost(name)
    rate(lambda: trainer.fit(x, trainer.epoch + 1, progress=False), steps * flops, steps * nbytes)
    if benchmark.stats is not None:
        benchmark.extra_info["rows/s"] = len(x) / benchmark.stats.stats.median
    assert trainer.steps == steps * trainer.epoch
