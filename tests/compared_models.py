"""Small ones of the models that the paper compares with, and how their tests train them."""

import numpy as np

from aaecore import AAE, GAN, GMMN, WAE, DenoisingAE, Trainer, priors

D = 12
WIDE = priors.Normal(3.0, 1.0)
KINDS = {
    "GAN": (GAN, {}),
    "GAN, any range": (GAN, {"output": "linear", "standardise_each": True, "average": 0.0, "prior": WIDE}),
    "GAN, as it is": (GAN, {"standardise": False, "gradient_penalty": 0.0, "discriminator_hidden": (8,)}),
    "GMMN": (GMMN, {"output": "sigmoid"}),
    "GMMN, any range": (GMMN, {"output": "linear", "average": 0.9, "widths": (0.5, 1.0)}),
    "GMMN, codes": (GMMN, {"latent_dim": 4}),
    "GMMN, codes, average": (GMMN, {"latent_dim": 4, "average": 0.9, "standardise_each": True}),
    "WAE": (WAE, {"latent_dim": 3}),
    "WAE, noise": (WAE, {"latent_dim": 3, "posterior": "gaussian", "prior": WIDE, "reconstruction": "mse"}),
    "DenoisingAE": (DenoisingAE, {"latent_dim": 5, "contractive": 0.1, "chain_steps": 3}),
    "DenoisingAE, any range": (DenoisingAE, {"latent_dim": 5, "reconstruction": "mse", "chain_steps": 3}),
    "DenoisingAE, norms": (DenoisingAE, {"latent_dim": 5, "batch_norm": "all", "average": 0.9, "chain_steps": 3}),
}
CODED = "GMMN, codes", "GMMN, codes, average"


def coder(device="reference", **options):
    """A trained autoencoder."""
    settings = {"activation": "tanh", "seed": 5, "prior": WIDE, "average": 0.5, "batch_norm": "encoder", **options}
    model = AAE(D, 3, (8, 6), device=device, **settings)
    Trainer(model, 32).fit(rows(), 2, progress=False)
    return model


def make(kind, device="reference", **options):
    cls, settings = KINDS[kind]
    if kind in CODED and "autoencoder" not in options:
        options["autoencoder"] = coder(device)
    return cls(D, **{"hidden": (9, 7), "activation": "tanh", "device": device, "seed": 2, **settings, **options})


def rows():
    """(130, D): in batches of 32 an epoch is five steps, the last of two rows."""
    return np.random.default_rng(0).random((130, D), np.float32)


def fit(model, x, epochs=2, **options):
    trainer = Trainer(model, 32, **options)
    trainer.fit(x, epochs, progress=False)
    return trainer
