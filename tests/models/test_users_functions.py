"""Differentiable functions of one's own: the very code of docs/examples/shrinking.py, and a model that uses it."""

from __future__ import annotations

import importlib
from pathlib import Path

import cuda_devices
import numpy as np
import pytest
from gradients import check_gradients, leaf
from trained import D, rows, same

import aaecore
from aaecore import Trainer
from aaecore.backends.devices import get_backend
from aaecore.models import Column, Model, Phase, model

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
DEVICES = ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)]


@pytest.fixture
def shrinking(cuda_device, monkeypatch):
    """The example, where device="cuda" is the emulator, or the GPU."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("shrinking")


@pytest.mark.parametrize("output", ["identity", "tanh"])
def test_derivatives_of_a_users_functions(shrinking, output):
    backend, rng = get_backend("reference"), np.random.default_rng(0)
    network = aaecore.nn.MLP(backend, (4, 6, 3), "tanh", output, rng=rng)
    x, shift = (leaf(backend, rng.standard_normal(shape)) for shape in ((5, 4), (5, 3)))

    def loss():
        y = network(x)
        return [shrinking.squared_norm(y, 0.7), shrinking.squared_norm(shrinking.difference(y, shift, 1.3))]

    check_gradients([x, shift, *network.parameters], loss)
    y, (norm, apart) = network(x).numpy(), loss()
    assert float(norm) == pytest.approx(0.35 * (y**2).sum() / 5)
    assert float(apart) == pytest.approx(0.5 * ((1.3 * (y - shift.numpy())) ** 2).sum() / 5)


@model
class Shrinking(Model):
    """An autoencoder of which the codes are drawn to the origin."""

    phases = (Phase("both", moves=("encoder", "decoder")),)

    def columns(self):
        return {"x": Column(D)}

    def build(self):
        self.encoder, self.decoder = self.mlp(D, 9, 3), self.mlp(3, 9, D)

    def step(self, batch):
        z = self.encoder(batch.x)
        apart = self.functions.difference(self.decoder(z), batch.x, 0.5)
        yield "both", self.functions.squared_norm(apart, 4.0), self.functions.squared_norm(z, 0.1)


@pytest.mark.parametrize("where", DEVICES)
def test_a_model_with_a_users_functions(where, shrinking, monkeypatch):
    monkeypatch.setattr(Shrinking, "functions", shrinking, raising=False)
    x = rows()
    made = [("reference", True), (where, True), (where, False)]
    exact, recorded, eager = (Trainer(Shrinking(seed=1, device=d), 32, record=record) for d, record in made)
    for trainer in (exact, recorded, eager):
        trainer.fit(x, 2, progress=False)
    assert same(recorded, eager)
    np.testing.assert_allclose(recorded.history["both"], exact.history["both"], rtol=1e-4)
    assert recorded.history["both"][1] < recorded.history["both"][0]
