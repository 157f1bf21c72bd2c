"""Phases that a subclass adds or changes, and the rates of some of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from trained import D, both_forms, model, rows

from aaecore import AAE, Trainer
from aaecore.functions import adversarial_bce, concat, half_squared_error
from aaecore.models import Phase
from aaecore.models import model as declared_model


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Models of a test are forgotten after it."""
    registry = sys.modules["aaecore.models.registry"]
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))


@pytest.fixture
def x():
    return rows()


@both_forms
@pytest.mark.parametrize("record", [True, False])
def test_a_phase_after_the_generator_is_trained(record, form, x):
    """And changes nothing of what the phases before it make."""

    @declared_model
    class WithHead(AAE):
        phases = (*AAE.phases, Phase("head", moves=("head",)))

        def build(self):
            super().build()
            self.head = self.mlp(self.latent_dim, 5, D)

        def step(self, batch):
            yield from super().step(batch)
            codes = self.code(batch.x, batch.rng).detach()
            yield "head", half_squared_error(self.head(codes), batch.x)

    trainer = Trainer(WithHead(D, 3, (33, 17), seed=1, **form), 32, record=record)
    before = trainer.model.state_dict()
    trainer.fit(x, 30, progress=False)
    assert trainer.names == ("reconstruction", "discriminator", "generator", "head")
    assert trainer.history["head"][-1] < 0.7 * trainer.history["head"][0]
    after = trainer.model.state_dict()
    assert all(not np.array_equal(before[name], after[name]) for name in before if name.startswith("head."))
    alone = Trainer(model(**form), 32, record=record)
    alone.fit(x, 30, progress=False)
    assert all(np.array_equal(value, after[name]) for name, value in alone.model.state_dict().items())


@declared_model
class InTurn(AAE):
    """With a step of its own in the paper's form."""

    def step(self, batch):
        real = self.in_units(batch.draw("z"))
        yield "reconstruction", self.distance(self.decoder(self.code(batch.x, batch.rng)), batch.x)
        z = self.code(batch.x, batch.rng)
        yield "discriminator", adversarial_bce(self.discriminator(concat((real, z.detach()), axis=0)), real=len(batch))
        yield "generator", adversarial_bce(self.discriminator(z), real=len(batch))


@pytest.mark.parametrize("record", [True, False])
def test_a_loss_that_nothing_would_minimise_is_refused(record, x):
    """By default no phase of the generator moves anything: such a step would leave the encoder to itself."""
    trainer = Trainer(InTurn(D, 3, (33, 17), seed=1), 32, record=record)
    with pytest.raises(ValueError, match=r"^step: phase generator: expected its loss to be made .*generator_weight=0"):
        trainer.step(x[:32])
    for way in (Trainer.step, Trainer.fit):
        told = Trainer(InTurn(D, 3, (33, 17), seed=1, generator_weight=0.0), 32, record=record)
        way(told, x[:32], *([1] if way is Trainer.fit else []))


# --- rates ------------------------------------------------------------------------------------------------------------


@both_forms
def test_a_rate_by_phase_leaves_the_others(form):
    trainer = Trainer(model(**form), 32, lr=0.01)
    before = dict(trainer.lr)
    trainer.lr = {"discriminator": 0.125}
    assert dict(trainer.lr) == {**before, "discriminator": 0.125}
    assert {name: o.base_lr for name, o in trainer.optimizers.items()} == {**before, "discriminator": 0.125}
    trainer.lr = {"generator": 0.0, "reconstruction": 0.5}
    assert dict(trainer.lr) == {"reconstruction": 0.5, "discriminator": 0.125, "generator": 0.0}
    trainer.lr = {}
    assert dict(trainer.lr) == {"reconstruction": 0.5, "discriminator": 0.125, "generator": 0.0}
    with pytest.raises(ValueError, match="lr: expected phases among"):
        trainer.lr = {"critic": 1.0}
    assert trainer.lr["discriminator"] == 0.125
