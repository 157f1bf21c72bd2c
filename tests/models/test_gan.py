"""The generative adversarial network: its losses, its units, its scores, and what it learns."""

from __future__ import annotations

import numpy as np
import pytest
from compared_models import WIDE, D, fit, make, rows
from phase_gradients import yielded

import aaecore
from aaecore import GAN, Trainer


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def test_its_losses_are_those_of_goodfellow():
    """Equation 1, and the generator's that does not saturate; the penalty is in neither value."""
    model, x = make("GAN", prior=WIDE), rows()[:6].astype(np.float64)
    model.begin(x, model.networks)
    losses = yielded(model, {"x": x}, {"average": 0.5})
    model.generator.restart()
    z = (model.backend.to_host(model.draws["z"](model.generator, 6)) - WIDE.mean) / WIDE.std
    fake = model.backend.from_host(model.decoder(aaecore.Tensor(model.backend.from_host(z))).numpy())
    of_data, of_fake = model.score_samples(x), model.score_samples(model.backend.to_host(fake))
    discriminator, *penalty = losses["discriminator"]
    expected = -np.log(sigmoid(of_data)).mean() - np.log(1 - sigmoid(of_fake)).mean()
    assert float(discriminator) == pytest.approx(expected, rel=1e-6)
    assert [loss.counted for loss in penalty] == [False, False]
    (generator,) = losses["generator"]
    assert float(generator) == pytest.approx(-np.log(sigmoid(of_fake)).mean(), rel=1e-6)


def test_the_penalty_is_the_squared_slope_of_the_discriminator():
    """Of a linear one, at which finite differences are exact: half the squared norm of its weights, on average."""
    model = GAN(D, 3, (8,), device="reference", discriminator_hidden=(), gradient_penalty=0.5)
    x = np.random.default_rng(0).random((40_000, D))
    model.begin(x, model.networks)
    _, first, second = yielded(model, {"x": x}, {"average": 0.5})["discriminator"]
    slope = np.square(model.discriminator.layers[0].weight.numpy()).sum()
    for loss in (first, second):
        assert float(loss) == pytest.approx(0.5 * D / 2 * slope, rel=0.02)


def test_data_of_any_range_come_back_in_their_own_units():
    x = (1000 + 50 * np.random.default_rng(0).standard_normal((300, D))).astype(np.float32)
    model = fit(GAN(D, 4, (16,), output="linear", seed=1), x, 5).model
    made = model.sample(200)
    assert 900 < made.mean() < 1100
    with pytest.raises(ValueError, match=r"give the model output='linear', which suit numbers of any range"):
        Trainer(GAN(D, 4, (16,)), 32).fit(x, 1)


def test_samples_are_of_the_averaged_generator(x):
    model = fit(make("GAN", average=0.9), x).model
    z = model.sample_prior(5)
    made = model.decode(z)
    for name, p in model.decoder_average.named_parameters().items():
        model.backend.upload(model.decoder.named_parameters()[name].buffer, p.numpy())
    assert np.array_equal(model.decode(z), made)
    seen = model.in_units(aaecore.Tensor(model.backend.from_host(z)))
    np.testing.assert_allclose(model.decoder(seen).numpy(), made, rtol=1e-5)


def test_what_it_does_not_take():
    with pytest.raises(ValueError, match=r"^standardise_each: expected standardise=True, output='linear' besides"):
        GAN(D, standardise_each=True)
    with pytest.raises(ValueError, match=r"^x: expected"):
        make("GAN").score_samples(np.zeros((3, D + 1)))
    assert not hasattr(GAN(D), "encode")


def test_it_learns_digits():
    """Samples come near the data's mean and spread, from which untrained ones are 0.055 and a factor of 0.33 away."""
    x = aaecore.datasets.load("mnist-sample").train.x
    model = GAN(784, 8, (100, 100), seed=0)
    Trainer(model, 100).fit(x, 20, progress=False)
    made = model.sample(1000)
    assert np.abs(made.mean(axis=0) - x.mean(axis=0)).mean() < 0.04
    assert 0.4 < made.std(axis=0).mean() / x.std(axis=0).mean() < 1.2
