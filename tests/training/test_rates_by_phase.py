"""A phase that moves nothing of its own: its rate beside another phase's scales a weight of the model."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from trained import DEFAULT, both_forms, model, rows, same

from aaecore import Trainer, schedules
from aaecore.models import Phase
from aaecore.optim import SGD, Adam
from aaecore.optim.optimizers import Passive
from aaecore.training import state
from aaecore.training.recipe import makers, rates_of

RATE = 2.0**-9  # powers of two: the same bits, whichever of two factors is halved


@pytest.fixture
def x():
    return rows()


def trainer_of(weight=2.0, lr=RATE, **options):
    return Trainer(model(**{**DEFAULT, "generator_weight": weight}), 32, lr, **options)


def trained(x, *arguments, epochs=1, **options):
    trainer = trainer_of(*arguments, **options)
    trainer.fit(x, epochs, progress=False)
    return trainer


def same_weights(a, b):
    other = b.model.state_dict()
    return all(np.array_equal(value, other[name]) for name, value in a.model.state_dict().items())


@pytest.mark.parametrize("rate", [RATE / 4, RATE / 2, 2 * RATE])
def test_its_rate_scales_the_weight(rate, x):
    scaled = trained(x, 2.0, {"reconstruction": RATE, "discriminator": RATE, "generator": rate})
    assert same_weights(scaled, trained(x, 2.0 * rate / RATE))
    assert not same_weights(scaled, trained(x, 2.0))


def test_a_rate_of_one_phase_leaves_those_of_others(x):
    """As people write it: a generator that pulls less."""
    trainer = trained(x, 1.0, {"generator": 3e-4})
    assert trainer.base_lr == {"reconstruction": 1e-3, "discriminator": 1e-3, "generator": 3e-4}
    np.testing.assert_allclose(trainer.model.encode(x), trained(x, 0.3, None).model.encode(x), rtol=1e-3, atol=1e-4)
    assert not np.allclose(trainer.model.encode(x), trained(x, 1.0, None).model.encode(x), rtol=1e-3, atol=1e-4)


def test_a_schedule_scales_both_and_so_neither(x):
    half = trained(x, 2.0, 2 * RATE, schedule=lambda step: 0.5)
    assert same_weights(half, trained(x, 2.0, RATE))


def test_a_rate_of_nothing_takes_nothing_away(x):
    """Where the other phase stands still there is no ratio; where this one does, no pull is left."""
    still = {"reconstruction": 0.0, "discriminator": RATE, "generator": RATE}
    assert trained(x, 2.0, still).steps == 5
    alone = {"reconstruction": RATE, "discriminator": RATE, "generator": 0.0}
    gone = trained(x, 2.0, alone)
    encoder = gone.model.encode(x)
    other = trained(x, 2.0, {**alone, "discriminator": 0.0})
    assert np.array_equal(encoder, other.model.encode(x)), "whatever the discriminator says"


@pytest.mark.parametrize("change", ["one rate", "all rates", "the optimizer"])
def test_a_changed_rate_acts_at_the_next_step(change, x):
    trainer, expected = trained(x), trainer_of(1.0)
    state.restore(expected, *trainer._maker.committed("save"))
    rates = {"reconstruction": RATE, "discriminator": RATE, "generator": RATE}
    expected.lr = rates
    if change == "one rate":
        trainer.lr["generator"] = RATE / 2
    elif change == "all rates":
        trainer.lr = {**rates, "generator": RATE / 2}
    else:
        trainer.optimizers["generator"].lr = RATE / 2
    for t in (trainer, expected):
        t.step(x[:32])
        t.fit(x, 2, progress=False)
    assert same_weights(trainer, expected)


def test_a_resume_keeps_it(x, tmp_path):
    rates = {"reconstruction": RATE, "discriminator": RATE, "generator": RATE / 8}
    whole, part = trained(x, 2.0, rates, epochs=3), trained(x, 2.0, rates)
    part.save(tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    assert resumed.lr == rates
    assert resumed.optimizers["generator"].config() == {"type": "Passive", "lr": RATE / 8}
    resumed.fit(x, 3, progress=False)
    assert same(resumed, whole)
    assert resumed.history.rows == whole.history.rows
    resumed.lr["generator"] = 3 * RATE
    resumed.save(tmp_path / "b.h5")
    assert Trainer.resume(tmp_path / "b.h5").lr["generator"] == 3 * RATE


def test_it_counts_steps_and_has_nothing_to_move(x):
    trainer = trained(x, schedule=schedules.StepWise([3], 0.5))
    passive = trainer.optimizers["generator"]
    assert isinstance(passive, Passive)
    assert (passive.steps, tuple(passive.parameters), passive.moments) == (5, (), {})
    assert trainer.history["lr_generator"] == [RATE / 2]
    with pytest.raises(ValueError, match=r"^base_lr|^lr"):
        trainer.lr["generator"] = -1.0


def test_its_optimizer_cannot_be_chosen():
    says = (
        r"^optimizers: expected phases among reconstruction, discriminator, got generator; "
        r"generator moves nothing of its own, its rate in lr scales generator_weight$"
    )
    with pytest.raises(ValueError, match=says):
        trainer_of(optimizers={"generator": partial(SGD, lr=0.1)})
    with pytest.raises(ValueError, match=says):
        trainer_of(optimizers={"generator": partial(Passive, lr=0.1)})
    assert isinstance(trainer_of(0.0, optimizers={"generator": partial(SGD, lr=0.1)}).optimizers["generator"], SGD), (
        "in a phase of its own"
    )
    with pytest.raises(ValueError, match="discriminator: expected a function that makes Adam or SGD of exactly"):
        trainer_of(optimizers={"discriminator": lambda parameters: Passive(parameters[0].backend, 0.1)})


# --- what a trainer begins with ---------------------------------------------------------------------------------------


def test_a_number_scales_what_phases_suggest():
    phases = Phase("first", ("net",), rate=1e-3), Phase("second", ("net",), rate=2e-4), Phase("third", ())
    assert rates_of(phases, None) == {"first": 1e-3, "second": 2e-4, "third": 1e-3}
    assert rates_of(phases, 3e-3) == pytest.approx({"first": 3e-3, "second": 6e-4, "third": 3e-3})
    assert rates_of(phases, {"second": 5e-4}) == {"first": 1e-3, "second": 5e-4, "third": 1e-3}
    assert rates_of(phases, 0.0) == {"first": 0.0, "second": 0.0, "third": 0.0}


@both_forms
def test_games_have_a_short_memory(form):
    trainer = Trainer(model(**form))
    memories = {name: tuple(o.config()["betas"]) for name, o in trainer.optimizers.items() if isinstance(o, Adam)}
    games = {phase.name for phase in trainer.model.phases if phase.game and phase.moves}
    assert memories == {name: (0.5 if name in games else 0.9, 0.999) for name in memories}
    assert set(makers(trainer.model.phases, trainer.base_lr)) == set(memories)
