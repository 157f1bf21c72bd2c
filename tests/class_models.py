"""Small models with a class and a style, and how their tests train them."""

import numpy as np

from aaecore import ClusteringAAE, ReductionAAE, SemiSupervisedAAE, Trainer, priors

D, C = 12, 3
SETTINGS = {"batch_norm": "all", "input_noise": 0.2, "input_dropout": 0.2, "critic_noise": 0.3}
KINDS = {
    "semi-supervised": (SemiSupervisedAAE, {"classes": C, "latent_dim": 2}),
    "phases": (SemiSupervisedAAE, {"classes": C, "latent_dim": 2, "joint": False}),
    "settings": (SemiSupervisedAAE, {"classes": C, "latent_dim": 2, "label_smoothing": 0.1, **SETTINGS}),
    "phases, settings": (SemiSupervisedAAE, {"classes": C, "latent_dim": 2, "joint": False, **SETTINGS}),
    "clustering": (ClusteringAAE, {"clusters": C, "latent_dim": 2}),
    "clustering, phases": (ClusteringAAE, {"clusters": C, "joint": False, "batch_norm": "hidden"}),
    "reduction": (ReductionAAE, {"classes": C, "prior": priors.Normal(2.0)}),
    "reduction, phases": (ReductionAAE, {"classes": C, "joint": False, "reconstruction": "mse", "output": "sigmoid"}),
    "reduction, no labels": (ReductionAAE, {"classes": C, "labelled": False}),
    "reduction, fixed": (ReductionAAE, {"classes": C, "dim": C, "fixed_heads": True}),
}


def make(kind, device="reference", **options):
    cls, settings = KINDS[kind]
    return cls(D, hidden=(9, 7), **{"activation": "tanh", "device": device, "seed": 2, **settings, **options})


def rows():
    """(130, D): in batches of 32 an epoch is five steps, the last of two rows."""
    return np.random.default_rng(0).random((130, D), np.float32)


def labels():
    """(130,): classes of three rows in ten, -1 of the others."""
    rng = np.random.default_rng(1)
    return np.where(rng.random(130) < 0.3, rng.integers(0, C, 130), -1)


def given(model, x, y):
    """What a fit of the model takes."""
    return {"y": y, "validation": (x, y)} if model.learns_labels else {"validation": x}


def fit(model, x, y, epochs=2, **options):
    trainer = Trainer(model, 32, labelled_batch_size=10, **options)
    trainer.fit(x, epochs, progress=False, **given(model, x, y))
    return trainer
