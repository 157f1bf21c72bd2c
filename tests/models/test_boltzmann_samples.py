"""Boltzmann machines: samples, shapes of what they give, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from boltzmann_machines import KINDS, D, energies, make, roughen, rows, states, train

import aaecore
from aaecore import RBM, Trainer

each = pytest.mark.parametrize("kind", KINDS)
SOME = "rbm", "dbn", "dbm"


def top_marginal(layer):
    """p of the states of the units below it (2^visible,)."""
    below = states(layer.weight.shape[1])
    p = np.exp(-energies(layer, below, states(layer.weight.shape[0]))).sum(axis=1)
    return below, p / p.sum()


@pytest.mark.parametrize("kind", ["rbm", "dbn"])
def test_samples_have_the_models_mean(kind):
    model = roughen(make(kind, sampling_steps=40))
    h, p = top_marginal(model.layers[-1])
    if kind == "dbn":
        w, _, b = (q.numpy() for q in model.layers[0].parameters)
        h = 1 / (1 + np.exp(-(h @ w + b)))
    samples = model.sample(4000)
    assert samples.dtype == np.float32
    deviations = samples.std(axis=0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - p @ h) < 4 * deviations).all()


@each
def test_shapes_and_ranges(kind):
    model = train(kind).model
    assert model.sample(3).shape == (3, D)
    assert model.sample(2, on_device=True).shape == (2, D)
    codes = model.encode(rows())
    units = KINDS[kind][1]["hidden"]
    assert codes.shape == (130, units if isinstance(units, int) else units[-1])
    assert 0 <= codes.min() <= codes.max() <= 1
    assert model.decode(codes).shape == model.reconstruct(rows()).shape == (130, D)
    if "dbm" not in kind:  # whose lowest hidden units depend on x besides
        np.testing.assert_allclose(model.decode(codes), model.reconstruct(rows()), atol=1e-6)
    assert model.evaluate(rows()) == pytest.approx(model.evaluate(rows(), "none").mean())
    assert "validation" in Trainer(model, 32).fit(rows(), 1, validation=rows(), progress=False).columns


def nearness(model, test):
    """Log of the Parzen window of 1000 samples at test rows, a mean, in nats."""
    s, var = model.sample(1000).astype(np.float64), 0.2**2
    d = (test**2).sum(axis=1)[:, None] + (s**2).sum(axis=1) - 2 * test @ s.T
    least = d.min(axis=1, keepdims=True)
    logs = np.log(np.exp(-(d - least) / (2 * var)).mean(axis=1)) - least[:, 0] / (2 * var)
    return float(logs.mean() - 392 * np.log(2 * np.pi * var))


def test_samples_are_digits():
    """116 to 120 nats with three seeds; -129 where all samples are the mean of the data."""
    digits = aaecore.datasets.load("mnist-sample")
    model = RBM(784, hidden=200, sampling_steps=50, seed=0)
    schedule = aaecore.schedules.Cosine(10 * 50, 0.01)
    Trainer(model, lr=3e-3, schedule=schedule).fit(digits.train.x, 10, progress=False)
    assert nearness(model, digits.test.x) > 100


# --- what they refuse -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rbm", {"hidden": 0}, "hidden: expected an integer >= 1, got 0"),
        ("rbm", {"steps": 0}, "steps: expected an integer from 1 to 1000, got 0"),
        ("rbm", {"visible": "binary"}, "visible: expected one of bernoulli, gaussian, got 'binary'"),
        ("rbm", {"activation": "relu"}, "activation: expected one of sigmoid, got 'relu'"),
        ("rbm", {"chains": 0}, "chains: expected an integer >= 1, got 0"),
        ("rbm", {"sampling_steps": 0}, "sampling_steps: expected an integer >= 1, got 0"),
        ("dbn", {"hidden": ()}, "hidden: expected 1 to 5 layers, got 0"),
        ("dbn", {"hidden": (2,) * 6}, "hidden: expected 1 to 5 layers, got 6"),
        ("dbm", {"hidden": ()}, "hidden: expected one layer or more, got none"),
        *((k, {"standardise_each": True}, "standardise_each: expected visible='gaussian' besides, got") for k in SOME),
        ("dbm", {"mean_field": 0}, "mean_field: expected an integer >= 1, got 0"),
        ("dbm", {"pretraining_steps": -1}, "pretraining_steps: expected an integer >= 0, got -1"),
        ("dbn", {"steps_per_layer": -1}, "steps_per_layer: expected an integer >= 0, got -1"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **options)


def test_bad_data():
    with pytest.raises(ValueError, match="give the model visible='gaussian', which suits numbers of any range"):
        Trainer(make("rbm"), 32).fit(2 * rows(), 1, progress=False)
    with pytest.raises(ValueError, match="n: expected an integer >= 1, got 0"):
        make("rbm").sample(0)
    assert isinstance(make("rbm"), RBM)
