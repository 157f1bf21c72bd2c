"""A model that was saved before it was trained learns what one that was not saved learns."""

from __future__ import annotations

import sys

import boltzmann_machines
import class_models
import compared_models
import numpy as np
import pytest
import trained

import aaecore
from aaecore import Trainer
from aaecore.models import model

KINDS = {
    name: (kinds.make, kind)
    for kinds in (compared_models, boltzmann_machines, class_models)
    for kind in kinds.KINDS
    for name in (f"{kinds.__name__}: {kind}",)
} | {
    "AAE": (lambda kind, **options: aaecore.AAE(12, 3, (9,), seed=1, **options), ""),
    "AAE, plain": (lambda kind, **options: aaecore.AAE(12, 3, (9,), seed=1, **trained.PLAIN, **options), ""),
    "VAE": (lambda kind, **options: aaecore.VAE(12, 3, (9,), seed=1, **options), ""),
    "SupervisedAAE": (lambda kind, **options: aaecore.SupervisedAAE(12, 3, (9,), classes=3, seed=1, **options), ""),
}


def learn(model, steps=3):
    trainer = Trainer(model, 32, labelled_batch_size=10)
    x = np.random.default_rng(0).random((130, model.input_dim)).astype(np.float32)
    own = {stream.columns for stream in model.streams.values()}
    y = np.arange(130) % 3 if any("y" in columns for columns in own) else None
    trainer.fit(x, 1, y=y, progress=False, callbacks=trained.StopAt(steps))
    return trainer


@pytest.mark.parametrize("name", KINDS)
def test_a_model_that_was_saved_untrained_learns_the_same(name, tmp_path):
    make, kind = KINDS[name]
    make(kind, device="cpu").save(tmp_path / "new.h5")
    saved, fresh = aaecore.load(tmp_path / "new.h5"), make(kind, device="cpu")
    assert trained.same(learn(saved), learn(fresh))


def test_a_model_without_statistics_looks_at_data_after_a_load(monkeypatch):
    """Nothing is missing of weights that were made elsewhere, where a model keeps nothing of the data."""
    monkeypatch.setattr(module := sys.modules["aaecore.models.registry"], "MODELS", dict(module.MODELS))

    @model
    class Looking(aaecore.VAE):
        def begin(self, x, moving):
            self.looked = True
            super().begin(x, moving)

    made = Looking(12, 3, (9,), standardise=False)
    made.load_state_dict(made.state_dict())
    learn(made)
    assert made.looked
