"""What a comparison says of models: measures against plain NumPy, nearest rows, means over seeds, recipes."""

import math
from statistics import stdev

import numpy as np
import pytest

import aaecore
from aaecore.evaluation import comparison
from aaecore.evaluation.recipes import RECIPES, Recipe, recipe
from aaecore.models.registry import MODELS

D = 12


@pytest.fixture
def rows(rng):
    return rng.random((40, D), np.float32)


def model(**options):
    return aaecore.AAE(D, 2, (16,), prior=aaecore.priors.Normal(3.0, 1.0), **options)


def test_held_out_is_a_sixth_or_ten_thousand():
    assert [comparison.held_out(n) for n in (2, 11, 12, 54, 5000, 60_000, 700_000)] == [1, 1, 2, 9, 833, 10_000, 10_000]


def test_measure_says_what_the_model_does(rows, monkeypatch):
    monkeypatch.setattr(comparison, "BLOCK", 7)
    m = model(reconstruction="mse", output="sigmoid")
    test, validation = rows[:25], rows[25:]
    found = comparison.measure(m, test, None, validation, 200, 40)
    expected = aaecore.evaluation.likelihood(m, test, validation, samples=200, sigma_samples=40)
    assert (found["likelihood"], found["error"], found["sigma"]) == (expected.mean, expected.error, expected.sigma)
    squared = ((test.astype(np.float64) - m.reconstruct(test)) ** 2).sum(axis=1).mean() / 2
    assert found["squared"] == pytest.approx(squared, rel=1e-12)
    assert found["loss"] == pytest.approx(found["squared"], rel=1e-6)  # it is the same here
    assert (found["reconstruction"], found["samples"], found["sigma_samples"]) == ("mse", 200, 40)
    codes = m.encode(test).astype(np.float64)
    assert found["code_mean"] == pytest.approx(codes.mean(), abs=1e-6)
    assert found["code_std"] == pytest.approx(codes.std(axis=0).mean(), rel=1e-6)
    assert (found["prior_mean"], found["prior_std"]) == (pytest.approx(1.0, abs=0.1), pytest.approx(3.0, abs=0.1))
    assert found["parameters"] == sum(p.buffer.size for p in m.parameters.values())


def test_averages_of_weights_are_no_parameters(rows):
    without, with_averages = (comparison.measure(model(average=a), rows, None, rows, 9) for a in (0.0, 0.9))
    assert without["parameters"] == with_averages["parameters"] == 13 * 16 + 17 * 2 + 3 * 16 + 17 * 12 + 3 * 16 + 17


def test_images_as_bytes_are_measured_as_their_floats(rng):
    x = rng.integers(0, 256, (20, D), np.uint8)
    as_floats = comparison.floats(x)
    assert as_floats.dtype == np.float32
    assert as_floats.max() <= 1
    m = model()
    assert comparison.measure(m, x[:9], None, x[9:], 50)["squared"] == pytest.approx(
        comparison.measure(m, as_floats[:9], None, as_floats[9:], 50)["squared"], rel=1e-6
    )


def test_codes_of_a_posterior_are_its_draws(rows):
    """A variance that the encoder gives every code shows in the moments, though all centres lie at one point."""
    m = aaecore.VAE(D, 2, (16,))
    m.load_state_dict({name: np.zeros(p.shape) for name, p in m.parameters.items()})
    found = comparison.measure(m, rows, None, rows, 50)
    assert np.ptp(m.encode(rows)) == 0
    assert 0.5 < found["code_std"] < 1.5  # exp(0 / 2) = 1


def test_a_model_is_measured_by_what_it_offers(rows):
    everyone = {"likelihood", "error", "sigma", "samples", "sigma_samples", "parameters"}
    gan = aaecore.GAN(D, 2, (16,))
    assert set(comparison.measure(gan, rows, None, rows, 50)) == everyone  # neither codes nor reconstructions
    denoising = aaecore.DenoisingAE(D, 2, (16,), chain_steps=3)
    reconstructs = {"squared", "loss", "reconstruction"}
    assert set(comparison.measure(denoising, rows, None, rows, 50)) == everyone | reconstructs  # no prior


def test_labels_go_to_models_that_need_them(rows):
    m = aaecore.SupervisedAAE(D, classes=3, latent_dim=2, hidden=(16,))
    y = np.arange(len(rows)) % 3
    assert comparison.measure(m, rows, y, rows, 50)["loss"] == m.evaluate(rows, y)


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_nearest_row(rng, monkeypatch, kind):
    monkeypatch.setattr(comparison, "BLOCK", 7)
    x = rng.integers(0, 256, (40, D)).astype(kind) if kind is np.uint8 else rng.random((40, D), np.float32)
    values = x / 255 if kind is np.uint8 else x
    samples = rng.random((9, D), np.float32)
    expected = ((values[None] - samples[:, None].astype(np.float64)) ** 2).sum(axis=2).argmin(axis=1)
    assert comparison.nearest(samples, x).tolist() == expected.tolist()
    assert len(set(expected)) > 3
    again = np.concatenate([x, x])
    assert comparison.nearest(samples, again).tolist() == expected.tolist()  # the first of equals


def test_summary_is_over_seeds():
    of_a = [
        {"model": "A", "seed": i, "likelihood": v, "error": 1.0 + i, "samples": 5, "steps": 7}
        for i, v in enumerate((1, 2, 6.0))
    ]
    of_b = {"model": "B", "seed": 0, "likelihood": -1.0, "error": 2.0, "reconstruction": "bce", "steps": 8}
    a, b = comparison.summary([of_a[0], of_b, *of_a[1:]])
    assert (a["model"], a["seeds"], a["likelihood"], a["deviation"]) == ("A", 3, 3.0, stdev([1, 2, 6]))
    assert (a["error"], a["samples"], a["steps"]) == (2.0, 5, 7)
    assert (b["model"], b["seeds"], b["deviation"], b["reconstruction"]) == ("B", 1, None, "bce")
    assert "seed" not in a


def test_recipes_name_models_that_there_are():
    for name, how in RECIPES.items():
        assert how.model in MODELS, name
        assert all(before.model in MODELS for before in how.first.values()), name
        assert all(math.isfinite(value) for value in how.paper.values())
    assert recipe("AAE").paper["mnist", 10_000] == 340
    assert recipe("ClusteringAAE") == Recipe("ClusteringAAE")
