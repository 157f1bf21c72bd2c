"""Whole steps of the models whose discriminator or decoder takes labels, in the phases of the paper, in plain NumPy."""

from functools import partial

import numpy as np
import pytest
from plain_net import Net, sigmoid
from trained import PLAIN, D, rows

from aaecore import LabelInformedAAE, SupervisedAAE, Trainer, priors
from aaecore.functions import Tensor
from aaecore.models import Batch
from aaecore.optim import SGD

B, CLASSES, RATES = 12, 3, {"reconstruction": 0.05, "discriminator": 0.02, "generator": 0.04}
FORM = {**PLAIN, "hidden": (4,), "activation": "tanh", "latent_dim": 2, "seed": 3, "device": "reference"}
MODELS = {
    "mixture": (LabelInformedAAE, {"prior": priors.GaussianMixture.ring(CLASSES, 2.0, 0.5, 0.3)}),
    "roll": (LabelInformedAAE, {"prior": priors.SwissRoll((0.5, 2.0), 3.0, 0.1)}),
    "supervised": (SupervisedAAE, {"informed": False}),
    "informed": (SupervisedAAE, {"informed": True}),
}


@pytest.mark.parametrize("which", MODELS)
def test_steps_against_numpy(which):
    kind, own = MODELS[which]
    model, twin = (kind(D, classes=CLASSES, **{**FORM, **own}) for _ in range(2))
    x, y = rows()[:B].astype(np.float64), np.arange(B) % CLASSES
    if kind is LabelInformedAAE:
        y = np.where(np.arange(B) % 4 == 3, -1, y)
    ones = np.eye(model.columns()["y"].features)[y]  # -1 is the last one, of no label
    encoder, decoder, critic = (Net(model.state_dict(), name) for name in ("encoder", "decoder", "discriminator"))
    told, given = kind is LabelInformedAAE or own["informed"], kind is SupervisedAAE
    trainer = Trainer(model, B, optimizers={name: partial(SGD, lr=rate) for name, rate in RATES.items()})

    def judged(z):
        return np.hstack([z, ones]) if told else z

    def decoded(z):
        return np.hstack([ones, z]) if given else z

    for _ in range(3):
        twin.generator.restart()
        batch = Batch({"x": twin.backend.from_host(x)}, twin.draws, {}, twin.generator)
        like = None if given else Tensor(twin.backend.from_host(ones))
        real = batch.draw("z", like=like).numpy()
        twin.generator.advance()

        z = encoder(x)
        p = sigmoid(decoder(decoded(z)))
        losses = {"reconstruction": -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(1).mean()}
        of_decoder, dz = decoder.gradients(decoded(z), (p - x) / B)
        decoder.move(RATES["reconstruction"], of_decoder)
        encoder.move(RATES["reconstruction"], encoder.gradients(x, dz[:, -2:])[0])

        z = encoder(x)  # of the encoder that has moved
        both = np.vstack([judged(real), judged(z)])
        verdict, truth = sigmoid(critic(both)), np.repeat([[1.0], [0.0]], B, 0)
        losses["discriminator"] = -np.log(verdict[:B]).mean() - np.log(1 - verdict[B:]).mean()
        critic.move(RATES["discriminator"], critic.gradients(both, (verdict - truth) / B)[0])

        verdict = sigmoid(critic(judged(z)))  # of the discriminator that has moved
        losses["generator"] = -np.log(verdict).mean()
        dz = critic.gradients(judged(z), (verdict - 1) / B)[1][:, :2]
        encoder.move(RATES["generator"], encoder.gradients(x, dz)[0])

        made = trainer.step(x, y=y)
        for name, value in losses.items():
            assert made[name] == pytest.approx(value, rel=1e-9), name
    for name, net in (("encoder", encoder), ("decoder", decoder), ("discriminator", critic)):
        for ours, exact in zip(model.networks[name].parameters, (net.w1, net.b1, net.w2, net.b2), strict=True):
            np.testing.assert_allclose(ours.numpy(), exact, rtol=1e-9, atol=1e-10, err_msg=name)
