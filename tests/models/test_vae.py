"""The variational autoencoder: its loss, its step, its warm-up, its priors, and the figure that compares it."""

from __future__ import annotations

import os

import cuda_devices
import numpy as np
import pytest
from trained import D, StopAt, rows, same

import aaecore
from aaecore import Trainer, functions, priors
from aaecore.app import cli
from aaecore.models.batch import Batch

RING = priors.GaussianMixture.ring(5, radius=2.0, radial_std=0.5, tangential_std=0.2)
PRIORS = {"normal": priors.Normal(2.0, -0.5), "mixture": RING}


def vae(prior="normal", **options):
    return aaecore.VAE(D, 2, (17, 9), PRIORS[prior], **{"seed": 1, **options})


def train(model, epochs=3, **options):
    trainer = Trainer(model, 32, **options)
    trainer.fit(rows(), epochs, progress=False)
    return trainer


def step_of(model, x, dials):
    """The losses of one step on x, nothing moved."""
    values = {name: model.backend.from_host(np.array([value])) for name, value in dials.items()}
    model.generator.restart()
    _, *losses = next(iter(model.step(Batch({"x": model.backend.from_host(x)}, model.draws, values, model.generator))))
    return losses


def log_density(prior, z):
    """ln p(z), from the textbook."""
    if isinstance(prior, priors.Normal):
        scaled = (z - prior.mean) / prior.std
        return (-(scaled**2) / 2 - np.log(prior.std) - np.log(2 * np.pi) / 2).sum(axis=1)
    terms = []
    for mean, covariance, weight in zip(prior.means, prior.covariances, prior.weights, strict=True):
        d, inverse = z - np.array(mean), np.linalg.inv(covariance)
        norm = np.log(2 * np.pi) + np.log(np.linalg.det(covariance)) / 2
        terms.append(np.log(weight / sum(prior.weights)) - norm - np.einsum("bi,ij,bj->b", d, inverse, d) / 2)
    return np.logaddexp.reduce(terms)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_loss_is_the_evidence_lower_bound(prior):
    """Beside NumPy: cross-entropy, and KL by its integral over the posterior (Normal) or at the drawn codes."""
    model, x = vae(prior, device="reference"), rows()[:40].astype(np.float64)
    reconstruction, *divergence = (float(loss) for loss in step_of(model, x, {"kl_weight": 0.7}))
    params = model.encoder(aaecore.functions.Tensor(model.backend.from_host(x))).numpy()
    mean, log_variance = params[:, :2], params[:, 2:]
    model.generator.restart()
    eps = model.backend.to_host(model.generator.normal((40, 2)))
    z = mean + np.exp(log_variance / 2) * eps
    logits = model.decoder(functions.Tensor(model.backend.from_host(z))).numpy()
    expected = (np.logaddexp(0, logits) - x * logits).sum(axis=1).mean()
    assert reconstruction == pytest.approx(expected, rel=1e-10)
    entropy = (1 + np.log(2 * np.pi) + log_variance).sum(axis=1) / 2
    if prior == "normal":
        grid, weights = np.polynomial.hermite_e.hermegauss(40)  # the expectation of ln p under each posterior
        nodes = mean[:, :, None] + np.exp(log_variance / 2)[:, :, None] * grid
        log_p = log_density(PRIORS[prior], nodes.reshape(-1, 1)).reshape(nodes.shape) @ weights / np.sqrt(2 * np.pi)
        kl = -entropy - log_p.sum(axis=1)
    else:
        kl = -entropy - log_density(PRIORS[prior], z)
    assert sum(divergence) == pytest.approx(0.7 * kl.mean(), rel=1e-9)


@pytest.mark.parametrize("prior", PRIORS)
def test_gradients_of_a_step(prior):
    """By finite differences, of every parameter; the loss moves all of them."""
    model, x = vae(prior, device="reference", activation="tanh"), rows()[:6].astype(np.float64)

    def value():
        return sum(float(loss) for loss in step_of(model, x, {"kl_weight": 0.7}))

    functions.backward(step_of(model, x, {"kl_weight": 0.7}))
    rng, phase = np.random.default_rng(0), model.phases[0]
    for name, p in model.parameters.items():
        assert any(p is moved for moved in model.moved(phase)), name
        before, gradient = p.numpy(), model.backend.to_host(p.grad)
        direction = rng.standard_normal(p.shape)
        both = []
        for sign in (1, -1):
            model.backend.upload(p.buffer, before + sign * 1e-5 * direction)
            both.append(value())
        model.backend.upload(p.buffer, before)
        assert (both[0] - both[1]) / 2e-5 == pytest.approx((gradient * direction).sum(), rel=2e-5, abs=1e-7), name


@pytest.mark.parametrize("device", ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)])
@pytest.mark.parametrize("prior", PRIORS)
def test_recorded_steps_and_a_resume_give_the_same_bits(prior, device, tmp_path, cuda_device):
    options = {"warm_up": 9, "device": device}  # of 10 steps
    whole = train(vae(prior, **options), 2)
    assert same(whole, train(vae(prior, **options), 2, record=False))
    part = Trainer(vae(prior, **options), 32)
    part.fit(rows(), 2, progress=False, callbacks=[StopAt(7)])
    part.save(tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    assert isinstance(resumed.model, aaecore.VAE)
    resumed.fit(rows(), 2, progress=False)
    assert same(whole, resumed)
    assert whole.history.rows == resumed.history.rows


@cuda_devices.needs_device
def test_the_gpu_agrees_with_the_reference(cuda_device):
    for prior in PRIORS:
        losses = [train(vae(prior, warm_up=5, device=device), 2).history["elbo"] for device in ("cuda", "reference")]
        np.testing.assert_allclose(*losses, rtol=1e-5)


def test_the_weight_grows_in_a_straight_line():
    weight = vae(kl_weight=0.5, warm_up=4).dials()["kl_weight"]
    assert [weight(step) for step in (0, 1, 2, 4, 9)] == [0.0, 0.125, 0.25, 0.5, 0.5]
    assert vae(kl_weight=0.5).dials()["kl_weight"](0) == 0.5


def test_a_weight_of_zero_is_an_autoencoder_and_one_of_a_thousand_a_prior():
    free, bound = (train(vae(kl_weight=weight, seed=2), 30, lr=5e-3) for weight in (0.0, 1000.0))
    x = rows()
    codes = [t.model.encode(x, sample=True) for t in (free, bound)]
    assert np.abs(codes[1].mean() - -0.5) < 0.5
    assert codes[1].std(axis=0) == pytest.approx([2.0, 2.0], abs=0.4)
    assert free.model.evaluate(x) < bound.model.evaluate(x)


def test_it_learns_digits():
    """Codes that stay near the prior, and a reconstruction far from that of the mean image (206 nats)."""
    digits = aaecore.datasets.load("mnist-sample")
    trainer = Trainer(aaecore.VAE(784, 2, (100,), seed=0), 100)
    trainer.fit(digits.train.x, 6, progress=False)
    assert trainer.model.evaluate(digits.test.x) < 185
    z = trainer.model.encode(digits.test.x, sample=True)
    assert (np.abs(z.std(axis=0) - 1.5) < 1).all()  # without the divergence they spread over tens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prior": priors.Uniform()},
            "prior: expected Normal or GaussianMixture, whose densities are known, got Uniform",
        ),
        (
            {"prior": lambda n, rng: rng.random((n, 2))},
            "prior: expected Normal or GaussianMixture, .* got CallablePrior",
        ),
        ({"latent_dim": 3, "prior": RING}, "prior: GaussianMixture has dimension 2, but latent_dim is 3"),
        ({"kl_weight": -1}, "kl_weight: expected a number >= 0, got -1"),
        ({"warm_up": -1}, "warm_up: expected an integer >= 0, got -1"),
        ({"reconstruction": "l1"}, "reconstruction: expected one of bce, mse, got 'l1'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        aaecore.VAE(**{"input_dim": D, "latent_dim": 2, **options})


def test_the_command_line_trains_one(tmp_path, capsys):
    folder, path = str(tmp_path / "run"), str(tmp_path / "x.npy")
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 4, 5), np.uint8))
    small = ["--hidden", "16", "--epochs", "2", "--two-dimensional", "--two-dimensional-epochs", "1"]
    options = ["--batch-size", "20", "--model", "VAE", "--warm-up", "3", "--lr", "2e-3", "--latent-dim", "3"]
    assert cli.run(["train", "--data", path, "--folder", folder, *small, *options]) == 0
    trained = Trainer.resume(f"{folder}/checkpoint.h5")
    assert (type(trained.model), trained.model.warm_up, trained.base_lr) == (aaecore.VAE, 3, {"elbo": 2e-3})
    assert isinstance(aaecore.load(f"{folder}/checkpoint_2d.h5"), aaecore.VAE)
    assert {"reconstructions.png", "samples.png", "manifold.png", "latent.png", "losses.png"} <= set(os.listdir(folder))
    assert cli.run(["resume", folder, "--epochs", "3", "--model", "AAE"]) == 1
    assert "--model: expected the run's, VAE, got AAE" in capsys.readouterr().err
    assert cli.run(["resume", folder, "--epochs", "3", "--model", "VAE"]) == 0
    assert Trainer.resume(f"{folder}/checkpoint.h5").epoch == 3
    assert cli.run(["train", "--model", "VAE", "--posterior", "gaussian"]) == 2
    assert "No such option" in capsys.readouterr().err


def test_figure_2(tmp_path, capsys, monkeypatch):
    """Four models, two priors, one picture."""
    path = tmp_path / "figure-2.png"
    assert cli.run(["reproduce", "figure-2", str(path), "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}\n"
    assert [line.split()[2] for line in err.splitlines() if line.startswith("training the")] == ["AAE", "VAE"] * 2
    assert path.stat().st_size > 50_000
    assert cli.run(["reproduce", "figure-2", str(tmp_path / "figure-2.txt")]) == 1
