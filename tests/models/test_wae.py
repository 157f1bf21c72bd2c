"""The Wasserstein autoencoder: its loss, and codes that hold the prior without a discriminator."""

from __future__ import annotations

import numpy as np
import pytest
from compared_models import make, rows
from phase_gradients import weight_of, yielded

import aaecore
from aaecore import WAE, Trainer, priors


def kernel(a, b, widths):
    squares = np.square(a[:, None] - b).sum(axis=2)
    return sum(np.exp(-squares / (2 * w**2)) for w in widths).mean()


@pytest.mark.parametrize("kind", ["WAE", "WAE, noise"])
def test_its_loss_is_the_reconstruction_and_what_keeps_codes_at_the_prior(kind):
    """Of a draw of codes and one of the prior, both in units of the prior; weighed by what is left to reconstruct."""
    model, x = make(kind, prior=priors.Normal(3.0, 1.0)), rows()[:40].astype(np.float64)
    model.begin(x, model.networks)
    dials = {"discrepancy_weight": 0.7}
    losses = yielded(model, {"x": x}, dials)
    model.generator.restart()
    z = model.code(aaecore.Tensor(model.backend.from_host(x)), model.generator).numpy()
    draw = (model.backend.to_host(model.draws["z"](model.generator, 40)) - 1.0) / 3.0
    widths = [w * np.sqrt(2 * 3) for w in model.widths]
    expected = kernel(z, z, widths) + kernel(draw, draw, widths) - 2 * kernel(z, draw, widths)
    (discrepancy,) = losses["discrepancy"]
    reconstruction, pulled = losses["reconstruction"]
    assert float(discrepancy) == pytest.approx(expected, rel=1e-6)
    assert (reconstruction.counted, pulled.counted) == (True, False)
    left = float(model.left(reconstruction, 40))
    assert weight_of(pulled) == pytest.approx(0.7 * left, rel=1e-6)
    assert model.dials()["discrepancy_weight"](9) == model.discrepancy_weight


@pytest.mark.parametrize("prior", [priors.Normal(5.0), priors.Uniform(-2.0, 4.0), priors.GaussianMixture.ring(5)])
def test_codes_hold_the_prior_on_digits(prior):
    """And without the discrepancy they do not; it costs the reconstruction little."""
    x, dim = aaecore.datasets.load("mnist-sample").train.x, prior.fixed_dim or 4
    spread, losses = {}, {}
    of_prior = prior.sample(5000, dim)
    for weight in (0.0, None):
        options = {} if weight is None else {"discrepancy_weight": weight}
        model = WAE(784, dim, (100,), prior=prior, seed=0, **options)
        Trainer(model, 100).fit(x, 6, progress=False)
        z = model.encode(x)
        spread[weight] = np.abs(np.log(z.std(axis=0) / of_prior.std(axis=0))).max()
        losses[weight] = model.evaluate(x)
    assert spread[None] < 0.12
    assert spread[0.0] > 0.2
    assert losses[None] < losses[0.0] + 25


def test_it_has_what_an_autoencoder_has():
    model = make("WAE", "cpu")
    assert issubclass(WAE, aaecore.models.autoencoder.Autoencoder)
    assert model.encode(rows()).shape == (130, 3)
    assert model.score_samples(rows()).shape == (130,)
    assert set(model.health(rows())) == {"code_offset", "code_spread", "code_mmd"}
    with pytest.raises(ValueError, match=r"^discrepancy_weight: expected a number >= 0, got -1"):
        WAE(12, discrepancy_weight=-1.0)
