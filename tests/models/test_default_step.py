"""A step of the default form: each phase's gradients by finite differences, and whole steps against plain NumPy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from gradients import numeric_gradient
from plain_net import Net, sigmoid
from trained import DEFAULT, PLAIN

from aaecore import AAE, Trainer, priors
from aaecore.functions.tensor import Parameter, Tensor, backward
from aaecore.models import Batch
from aaecore.models.game import NEAR
from aaecore.optim import SGD

B, D, Z = 6, 5, 2
PRIOR = priors.Normal(2.0, 0.5)


def make(**options):
    form = {**DEFAULT, "hidden": (4,), "activation": "tanh", "prior": PRIOR, "seed": 3, "device": "reference"}
    return AAE(D, Z, **{**form, **options})


@pytest.fixture
def x():
    return np.random.default_rng(0).random((B, D))


# --- each phase by itself ---------------------------------------------------------------------------------------------


def yielded(model, x, dials):
    """The losses of one step by phase, without any update in between."""
    backend = model.backend
    model.generator.restart()
    values = {name: backend.from_host(np.array([value])) for name, value in dials.items()}
    batch = Batch({"x": backend.from_host(x)}, model.draws, values, model.generator)
    return {phase: losses for phase, *losses in model.step(batch)}


@pytest.mark.parametrize("posterior", ["deterministic", "gaussian", "universal"])
@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
@pytest.mark.parametrize(
    "form",
    [DEFAULT, PLAIN, {**DEFAULT, "standardise": False}, {**DEFAULT, "gradient_penalty": 0.0}],
    ids=["default", "plain", "without units", "without penalty"],
)
def test_phases_have_the_gradients_of_what_they_minimise(form, reconstruction, posterior, x):
    model = make(posterior=posterior, reconstruction=reconstruction, **form)
    model.begin(x, model.networks)
    dials = {name: 0.7 * number for name, (number, *_) in model.ratios().items()}
    losses = yielded(model, x, dials)
    pulled = dials.get("generator_weight", 0.0) * float(model.left(losses["reconstruction"][0], B))
    assert (pulled > 0) == bool(model.generator_weight)

    def values():
        made = {phase: [float(loss) for loss in losses] for phase, losses in yielded(model, x, dials).items()}
        penalty = made["discriminator"][1] if model.gradient_penalty else 0.0
        return {
            "reconstruction": made["reconstruction"][0] + pulled * made["generator"][0],
            "discriminator": made["discriminator"][0] + penalty,
            "generator": made["generator"][0],
        }

    for phase in model.phases:
        moved = model.moved(phase)
        if moved:
            backward(yielded(model, x, dials)[phase.name], parameters=moved)
        for p in moved:
            numeric = numeric_gradient(p, lambda name=phase.name: [values()[name]])
            np.testing.assert_allclose(p.backend.to_host(p.grad), numeric, atol=1e-7, rtol=1e-4, err_msg=phase.name)


def test_a_step_says_the_plain_losses(x):
    """Neither the pull nor the penalty is part of what the history shows."""
    with_both, plain = make(), make(generator_weight=0.0, gradient_penalty=0.0)
    zero = dict.fromkeys(("reconstruction", "discriminator", "generator"), 0.0)
    shown = [dict(Trainer(model, B, zero).step(x)) for model in (with_both, plain)]
    assert shown[0] == shown[1]


# --- whole steps ------------------------------------------------------------------------------------------------------


def test_steps_against_numpy(x):
    """SGD, since Adam would hide the size of a gradient; the generator's rate is twice that of the reconstruction."""
    model, twin = make(generator_weight=1.5), make(generator_weight=1.5)
    model.begin(x, model.networks)
    host = twin.backend.to_host
    encoder, decoder, critic = (Net(model.state_dict(), name) for name in ("encoder", "decoder", "discriminator"))
    std = np.sqrt(x.var(0).mean())
    seen = (x - x.mean(0)) / std
    makers = {"reconstruction": partial(SGD, lr=0.05), "discriminator": partial(SGD, lr=0.02)}
    trainer = Trainer(model, B, {"generator": 0.1}, optimizers=makers)
    for _ in range(3):
        twin.generator.restart()
        real = (host(twin.draws["z"](twin.generator, B)) - 0.5) / 2
        noise = host(twin.generator.normal((2 * B, Z), 0.0, NEAR))
        twin.generator.advance()

        z = encoder(seen)
        y, verdict = sigmoid(decoder(z)), sigmoid(critic(z))
        losses = {
            "reconstruction": -(x * np.log(y) + (1 - x) * np.log(1 - y)).sum(1).mean(),
            "generator": -np.log(verdict).mean(),
        }
        weight = 1.5 * 0.1 / 0.05 * 2 * (((y - x) ** 2).sum(1).mean() + 0.1 * ((x - x.mean(0)) ** 2).sum(1).mean())
        of_decoder, dz = decoder.gradients(z, (y - x) / B)
        dz += weight * critic.gradients(z, (verdict - 1) / B)[1]
        both = np.vstack([real, z])
        beside = both + noise
        judged, truth = sigmoid(critic(both)), np.repeat([[1.0], [0.0]], B, 0)
        losses["discriminator"] = -np.log(judged[:B]).mean() - np.log(1 - judged[B:]).mean()
        stretched = 3.0 / NEAR**2 * (critic(both) - critic(beside)) / (2 * B)
        of_critic = critic.gradients(both, (judged - truth) / B + stretched)[0], critic.gradients(beside, -stretched)[0]
        encoder.move(0.05, encoder.gradients(seen, dz)[0])
        decoder.move(0.05, of_decoder)
        critic.move(0.02, *of_critic)

        made = trainer.step(x)
        for name, value in losses.items():
            assert made[name] == pytest.approx(value, rel=1e-7), name
    for name, net in (("encoder", encoder), ("decoder", decoder), ("discriminator", critic)):
        for ours, exact in zip(model.networks[name].parameters, (net.w1, net.b1, net.w2, net.b2), strict=True):
            np.testing.assert_allclose(ours.numpy(), exact, rtol=1e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("reconstruction", ["bce", "mse"])
def test_what_is_left_never_vanishes(reconstruction, x):
    """Where the data are known a tenth of what their mean leaves counts, however good a reconstruction is."""
    known, unknown = (make(reconstruction=reconstruction, standardise=on) for on in (True, False))
    known.begin(x, known.networks)
    of_mean = (2.0 if reconstruction == "bce" else 0.5) * ((x - x.mean(0)) ** 2).sum(1).mean()
    mean, std = np.tile(x.mean(0), (B, 1)), np.sqrt(x.var(0).mean())
    for rows, part in ((x, 0.0), (mean, 1.0)):
        for model, more in ((known, 0.1), (unknown, 0.0)):
            linear = (rows - mean) / std if model is known else rows
            said = linear if reconstruction == "mse" else np.log(rows / (1 - rows))
            decoded = Parameter(model.backend.from_host(said))
            left = float(model.left(model.distance(decoded, Tensor(model.backend.from_host(x))), B))
            assert left == pytest.approx((part + more) * of_mean, rel=1e-6, abs=1e-12)
