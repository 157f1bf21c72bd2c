"""The denoising autoencoder: what it undoes, its contractive penalty, and the chain that draws samples."""

from __future__ import annotations

import numpy as np
import pytest
from compared_models import D, fit, make, rows
from phase_gradients import yielded

import aaecore
from aaecore import DenoisingAE, Tensor, Trainer
from aaecore.functions import bernoulli


def test_the_penalty_is_the_squared_norm_of_the_encoders_derivatives():
    """Of a linear encoder, at which finite differences are exact, at rows without corruption."""
    model = DenoisingAE(D, 5, (), device="reference", contractive=0.5)
    x = np.random.default_rng(0).random((4000, D))
    model.begin(x, model.networks)
    reconstruction, first, second = yielded(model, {"x": x}, {})["reconstruction"]
    norm = np.square(model.encoder.layers[0].weight.numpy()).sum()
    for loss in (first, second):
        assert float(loss) == pytest.approx(0.5 * norm, rel=0.05)
    assert (reconstruction.counted, first.counted, second.counted) == (True, False, False)
    assert len(yielded(make("DenoisingAE", contractive=0.0), {"x": x}, {})["reconstruction"]) == 1


def test_it_compares_what_it_makes_of_corrupted_rows_with_rows_as_they_are():
    model, x = make("DenoisingAE, any range", standardise=False), rows()[:8].astype(np.float64)
    (loss,) = yielded(model, {"x": x}, {})["reconstruction"]
    model.generator.restart()
    corrupted = model.encoder.corrupted(Tensor(model.backend.from_host(x)), model.generator).numpy()
    assert 0.05 < (corrupted == 0).mean() < 0.4
    assert np.abs(corrupted - x).std() > 0.2
    made = model.decoder(model.encoder(Tensor(model.backend.from_host(corrupted)))).numpy()
    assert float(loss) == pytest.approx(np.square(made - x).sum(axis=1).mean() / 2, rel=1e-9)


@pytest.mark.parametrize("kind", ["DenoisingAE", "DenoisingAE, any range", "DenoisingAE, norms"])
@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_the_recorded_chain_is_the_one_made_step_by_step(kind, device, x):
    model = fit(make(kind, device, chain_steps=4), x).model
    counter = model.sampler.counter
    made = model.sample(6)
    assert model.sampler.counter == counter + 5
    model.sampler.counter = counter
    model.sampler.advance()
    rows = model._beginning(6)
    model.sampler.advance()
    for _ in range(3):
        mean = model._reconstructed(rows)
        rows = (bernoulli(mean, model.sampler) if model.reconstruction == "bce" else mean).buffer
        if model.reconstruction == "bce":
            assert set(np.unique(model.backend.to_host(rows))) <= {0, 1}
        model.sampler.advance()
    assert np.array_equal(model._reconstructed(rows).numpy().astype(np.float32), made)


def test_many_samples_are_made_in_parts(x):
    model = fit(make("DenoisingAE", "cpu"), x, 1).model
    made = model.sample(1100)
    assert made.shape == (1100, D)
    assert len(np.unique(made, axis=0)) == 1100


@pytest.mark.parametrize("options", [{}, {"standardise": False}])
def test_a_chain_begins_at_features_that_are_independent(options):
    """With the data's moments, where the model knows them."""
    x = np.random.default_rng(0).random((3000, D)) ** 3
    model = fit(make("DenoisingAE", **options), x, 1).model
    begun = model.backend.to_host(model._beginning(4000))
    assert set(np.unique(begun)) == {0, 1}
    np.testing.assert_allclose(begun.mean(axis=0), x.mean(axis=0) if not options else np.full(D, 0.5), atol=0.04)
    model = fit(make("DenoisingAE, any range", **options), 7 + 3 * x, 1).model
    begun = model.backend.to_host(model._beginning(4000))
    np.testing.assert_allclose(begun.mean(axis=0), (7 + 3 * x).mean(axis=0) if not options else np.zeros(D), atol=0.1)
    assert begun.std() == pytest.approx((3 * x).std() if not options else 1.0, rel=0.1)


def test_it_has_no_prior(x):
    model = make("DenoisingAE")
    assert model.priors() == {}
    assert model.prior is None
    with pytest.raises(TypeError, match=r"^sample_prior: expected a model with a prior, got DenoisingAE; see sample"):
        model.sample_prior(3)
    assert fit(model, x).history.columns.count("code_spread") == 0
    with pytest.raises(ValueError, match=r"^contractive: expected 0 beside batch norm"):
        DenoisingAE(D, contractive=1.0, batch_norm="all")


def nearest(made, x):
    """The median of squared distances to the nearest row of x."""
    squares = np.square(made).sum(axis=1)[:, None] + np.square(x).sum(axis=1) - 2 * np.einsum("ik,jk->ij", made, x)
    return np.median(squares.min(axis=1))


def test_it_learns_digits():
    """It undoes noise better than a plain autoencoder, and its chain ends near images, with as much between them."""
    digits, rng = aaecore.datasets.load("mnist-sample"), np.random.default_rng(0)
    x = digits.train.x
    noisy = digits.test.x + 0.26 * rng.standard_normal(digits.test.x.shape)
    noisy = np.where(rng.random(noisy.shape) < 0.3, x.mean(axis=0), noisy).astype(np.float32)
    error = {}
    for kind, options in (("plain", {"input_noise": 0.0, "input_dropout": 0.0}), ("denoising", {})):
        model = DenoisingAE(784, 30, (200,), seed=0, **options)
        Trainer(model, 100).fit(x, 10, progress=False)
        error[kind] = np.square(model.decode(model.encode(noisy)) - digits.test.x).sum(axis=1).mean()
    assert error["denoising"] < 0.92 * error["plain"]
    made, begun = model.sample(300), model.backend.to_host(model._beginning(300))
    assert nearest(made, x) < nearest(begun, x) / 2
    assert 0.5 < made.std(axis=0).mean() / x.std(axis=0).mean() < 1.1
