"""Dials: numbers of a model that change from step to step reach the step that they are for, wherever bursts end."""

from __future__ import annotations

from functools import partial

import cuda_devices
import numpy as np
import pytest
from small_models import Dialled
from trained import D, StopAt, rows, same

from aaecore import Trainer
from aaecore.optim import SGD
from aaecore.training import stepper
from aaecore.training.stepper import Stepper

pytestmark = pytest.mark.usefixtures("cuda_device")
DEVICES = ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)]
RATE = 2.0**-9


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def made(monkeypatch):
    """The losses of each burst that was made."""
    losses, run = [], Stepper.run

    def kept(self, burst):
        losses.append(run(self, burst))
        return losses[-1]

    monkeypatch.setattr(Stepper, "run", kept)
    return losses


def trainer_of(*, rate=RATE, batch=32, record=True, schedule=None, **options):
    optimizers = dict.fromkeys(("copies", "guesses"), partial(SGD, lr=rate))
    return Trainer(Dialled(D, **{"seed": 2, **options}), batch, optimizers=optimizers, record=record, schedule=schedule)


def bursts_of(monkeypatch, steps):
    monkeypatch.setattr(Stepper, "pace", lambda self, batch: steps)


def dials_at(step):
    dials = Dialled(D).dials()
    return dials["fast"](step), dials["slow"](step)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("burst", [1, 3, 1000])
def test_losses_are_the_plain_ones_times_the_dials(x, where, record, burst, made, monkeypatch):
    """Without learning: four epochs of five steps. The dials are powers of two, so not a bit may differ."""
    bursts_of(monkeypatch, burst)
    losses = []
    for weighs in (True, False):
        made.clear()
        trainer_of(rate=0.0, device=where, record=record, weighs=weighs).fit(x, 4, progress=False)
        losses.append(np.concatenate(made))
    dialled, plain = losses
    assert dialled.shape == (20, 2)
    assert np.array_equal(dialled, plain * [dials_at(step) for step in range(20)])
    assert len(made) == {1: 20, 3: 12, 1000: 8}[burst]


def by_rates(x, steps, **options):
    """The same training without dials: of plain gradients, a weight of the loss is a factor of the learning rate."""
    trainer = trainer_of(weighs=False, **options)
    for step in range(steps):
        fast, slow = dials_at(step)
        trainer.base_lr = {"copies": RATE * fast, "guesses": RATE * slow}
        trainer.fit(x, trainer.epoch + 1, callbacks=[StopAt(step + 1)], progress=False)
    return trainer


def weights(trainer):
    return np.concatenate([v.ravel() for v in trainer.model.state_dict().values()])


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("burst", [1, 2, 1000])
def test_a_dial_is_a_factor_of_the_learning_rate(x, record, burst, monkeypatch):
    bursts_of(monkeypatch, burst)
    dialled = trainer_of(record=record)
    dialled.fit(x, 3, progress=False)
    assert np.array_equal(weights(dialled), weights(by_rates(x, 15)))
    assert not np.array_equal(weights(dialled), weights(by_rates(x, 14)))


@pytest.mark.parametrize("where", DEVICES)
def test_single_steps_and_resumes_go_on_with_their_dials(x, where, tmp_path):
    whole, part = (trainer_of(device=where) for _ in range(2))
    whole.fit(x, 3, progress=False)
    part.fit(x, 3, callbacks=[StopAt(7)], progress=False)
    part.save(tmp_path / "part.h5")
    resumed = Trainer.resume(tmp_path / "part.h5")
    resumed.fit(x, 3, progress=False)
    assert same(resumed, whole)
    assert resumed.history.rows == whole.history.rows
    recorded, eager = (trainer_of(device=where, record=record) for record in (True, False))
    for i in range(9):
        assert dict(recorded.step(x[i : i + 9])) == dict(eager.step(x[i : i + 9]))
    assert same(recorded, eager)


@cuda_devices.needs_device
@pytest.mark.parametrize("record", [True, False])
def test_dials_in_graphs_of_many_steps(x, record, monkeypatch):
    """17 steps an epoch: sixteen in one graph, where every other step has its dials in a second place, and one."""
    monkeypatch.setattr(stepper, "BURST_SECONDS", 100.0)
    sizes, driver = [], cuda_devices.driver()
    graph = driver.graph
    monkeypatch.setattr(driver, "graph", lambda nodes: sizes.append(len(nodes)) or graph(nodes))
    many, one_by_one = (trainer_of(batch=4, device="cuda", record=r) for r in (record, False))
    many.fit(x[:68], 2, progress=False)
    one_by_one.fit(x[:68], 2, callbacks=[StopAt(1000)], progress=False)
    assert same(many, one_by_one)
    assert many.history.rows == one_by_one.history.rows
    assert sizes == ([16 * sizes[1], sizes[1]] if record else [])


@pytest.mark.parametrize("bad_step", [3, 9, 14])
@pytest.mark.parametrize("burst", [1, 1000])
def test_after_the_guard_went_back_steps_have_their_dials(x, bad_step, burst, monkeypatch):
    bursts_of(monkeypatch, burst)
    good, bad = (trainer_of() for _ in range(2))
    good.fit(x, 4, progress=False)
    kept, bad.schedule = bad.schedule, lambda step: 1e30 if step == bad_step else 1.0
    with pytest.raises(FloatingPointError, match=f"the weights are those after step {bad_step} "):
        bad.fit(x, 4, progress=False)
    bad.schedule = kept
    bad.fit(x, 4, progress=False)
    assert same(bad, good)
    assert bad.history.rows == good.history.rows


def raises(step):
    raise ZeroDivisionError("by nothing")


@pytest.mark.parametrize(
    ("value", "error", "got"),
    [
        (lambda step: float("nan"), ValueError, "nan"),
        (lambda step: float("inf"), ValueError, "inf"),
        (lambda step: 1e300, ValueError, r"1e\+300, which float32 cannot hold"),
        (lambda step: "0.5", TypeError, "'0.5'"),
        (lambda step: None, TypeError, "None"),
        (lambda step: True, TypeError, "True"),
        (raises, ValueError, "ZeroDivisionError: by nothing"),
    ],
)
@pytest.mark.parametrize("record", [True, False])
def test_a_dial_that_is_no_number(x, value, error, got, record, monkeypatch):
    """Only step 7 is bad, in the middle of a burst; the weights are those of before that burst."""
    bursts_of(monkeypatch, 4)
    monkeypatch.setattr(
        Dialled, "dials", lambda self: {"fast": lambda s: 1.0, "slow": lambda s: value(s) if s == 7 else 1.0}
    )
    bad = trainer_of(record=record)
    with pytest.raises(error, match=rf"^dial slow of step 7: expected a number.*, got {got}$"):
        bad.fit(x, 2, progress=False)
    assert bad.steps == 5
    monkeypatch.setattr(Dialled, "dials", lambda self: {"fast": lambda s: 1.0, "slow": lambda s: 1.0})
    good = trainer_of(record=record)
    good.fit(x, 2, callbacks=[StopAt(5)], progress=False)
    assert same(bad, good)


def test_a_dial_that_is_no_number_in_single_steps(x, monkeypatch):
    monkeypatch.setattr(Dialled, "dials", lambda self: {"fast": lambda s: 1.0, "slow": lambda s: 1.0 if s < 2 else "2"})
    trainer = trainer_of()
    trainer.step(x)
    trainer.step(x)
    before = weights(trainer)
    with pytest.raises(TypeError, match=r"^dial slow of step 2: expected a number.*, got '2'$"):
        trainer.step(x)
    assert trainer.steps == 2
    assert np.array_equal(weights(trainer), before)


def test_zero_and_negative_weights_are_numbers(x, monkeypatch):
    monkeypatch.setattr(Dialled, "dials", lambda self: {"fast": lambda s: 0, "slow": lambda s: np.float32(-0.5)})
    trainer = trainer_of(rate=0.0)
    plain = trainer_of(rate=0.0, weighs=False)
    ours, theirs = trainer.step(x), plain.step(x)
    assert (ours.copies, ours.guesses) == (0.0, -0.5 * theirs.guesses)


# --- factors of rates -------------------------------------------------------------------------------------------------


def factors_at(step):
    return 2.0 ** -(step % 3), float(step >= 6)


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("burst", [1, 3, 1000])
def test_factors_of_rates_reach_the_step_that_they_are_for(x, where, burst, monkeypatch):
    """As where the rates are set by hand before every step, on top of a schedule."""
    bursts_of(monkeypatch, burst)
    options = {"device": where, "weighs": False, "schedule": lambda step: 1 / (1 + step)}
    plain = trainer_of(**options)
    for step in range(11):
        copies, guesses = factors_at(step)
        plain.base_lr = {"copies": RATE * copies, "guesses": RATE * guesses}
        plain.fit(x, plain.epoch + 1, callbacks=[StopAt(step + 1)], progress=False)
    by_phase = {"copies": lambda s: factors_at(s)[0], "guesses": lambda s: factors_at(s)[1]}
    monkeypatch.setattr(Dialled, "rate_factors", lambda self: by_phase)
    ours = trainer_of(**options)
    ours.fit(x, 3, callbacks=[StopAt(11)], progress=False)
    assert ours.steps == plain.steps == 11
    assert np.array_equal(weights(ours), weights(plain))


@pytest.mark.parametrize(
    ("factor", "error", "message"),
    [
        (lambda step: "1", TypeError, "rate factor guesses of step 0: expected a number.*, got '1'"),
        (raises, ValueError, "rate factor guesses of step 0: expected a number, got ZeroDivisionError: by nothing"),
        (lambda step: -1.0, ValueError, "lr: expected a number >= 0, got -"),
    ],
)
def test_a_factor_of_a_rate_that_is_none(x, factor, error, message, monkeypatch):
    monkeypatch.setattr(Dialled, "rate_factors", lambda self: {"guesses": factor})
    with pytest.raises(error, match=message):
        trainer_of().step(x[:32])


def test_a_factor_of_the_rate_of_no_phase(monkeypatch):
    monkeypatch.setattr(Dialled, "rate_factors", lambda self: {"guess": lambda step: 1.0})
    with pytest.raises(ValueError, match=r"^rate_factors: phase: expected one of copies, guesses, got 'guess'"):
        trainer_of()
