"""That a model learns what it should where nobody tuned it: the prior held, rows reconstructed, in seconds."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from trained import DEFAULT, PLAIN, D, both_forms

from aaecore import AAE, Trainer, datasets, priors
from aaecore.optim import Adam


@pytest.mark.parametrize(("prior", "std"), [(priors.Uniform(-2, 2), np.sqrt(16 / 12)), (priors.Normal(2.0), 2.0)])
@both_forms
def test_the_prior_is_matched(form, prior, std):
    """The point of it all: codes of data with two hidden numbers come to look like the prior; by default untuned."""
    rates = {"reconstruction": 1e-3, "discriminator": 1e-3, "generator": 3e-4}
    tuned = {phase: partial(Adam, lr=lr) for phase, lr in rates.items()}
    rng = np.random.default_rng(0)
    x = 1 / (1 + np.exp(-rng.standard_normal((2000, 2)) @ rng.standard_normal((2, D)))).astype(np.float32)
    m = AAE(D, 2, (64, 64), prior=prior, seed=0, **form)
    assert m.encode(x).std() < 0.2
    Trainer(m, 100, optimizers=tuned if form is PLAIN else None).fit(x, 30, progress=False)
    z = m.encode(x)
    np.testing.assert_allclose(z.std(0), std, rtol=0.1)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.15)
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.2


@pytest.fixture(scope="module")
def digits():
    return datasets.load("mnist-sample")


def trained(digits, prior, form, epochs=8):
    """A small model, and its reconstruction loss of held-out digits; 50 steps to an epoch."""
    model = AAE(784, 8, (128, 128), prior=prior, seed=0, **form)
    history = Trainer(model).fit(digits.train.x, epochs, validation=digits.test.x, progress=False)
    return model, history["validation"][-1]


@pytest.mark.parametrize("std", [1.0, 5.0])
def test_digits_are_reconstructed_and_hold_the_prior_untuned(std, digits):
    model, loss = trained(digits, priors.Normal(std), DEFAULT)
    codes = model.encode(digits.test.x)
    assert loss < 130
    np.testing.assert_allclose(codes.std(0).mean(), std, rtol=0.15)
    np.testing.assert_allclose(codes.std(0), std, rtol=0.25)
    np.testing.assert_allclose(codes.mean(0), 0, atol=0.5 * std)


def test_the_bound_is_one_that_the_plain_form_misses(digits):
    """Untuned, in as many steps."""
    model, loss = trained(digits, priors.Normal(5.0), PLAIN)
    assert loss > 150
    assert np.abs(model.encode(digits.test.x).std(0) / 5 - 1).max() > 0.3
