"""Small Boltzmann machines, how their tests train them, and sums over all states of their units."""

import numpy as np

from aaecore import DBM, DBN, RBM, Trainer, nn
from aaecore.functions import Tensor
from aaecore.models import Batch

D = 6
B = 8
PROBABILITIES = {"rtol": 1e-9, "atol": 1e-12}
KINDS = {
    "rbm": (RBM, {"hidden": 5, "steps": 2}),
    "persistent": (RBM, {"hidden": 5, "persistent": True}),
    "gaussian": (RBM, {"hidden": 5, "visible": "gaussian", "persistent": True}),
    "dbn": (DBN, {"hidden": (5, 4), "persistent": True}),
    "greedy": (DBN, {"hidden": (5, 4, 3), "steps_per_layer": 4, "binary": False}),
    "dbm": (DBM, {"hidden": (5, 4), "steps": 2, "pretraining_steps": 4}),
    "whole dbm": (DBM, {"hidden": (5, 4, 3), "pretraining_steps": 0}),
    "gaussian dbm": (DBM, {"hidden": (5, 4), "visible": "gaussian", "pretraining_steps": 4}),
    "gaussian dbn": (DBN, {"hidden": (5, 4), "visible": "gaussian", "standardise_each": True}),
}


def make(kind, **options):
    cls, own = KINDS[kind]
    return cls(D, **{"chains": 7, "sampling_steps": 5, "device": "reference", "seed": 3, **own, **options})


def rows():
    """(130, D): in batches of 32 an epoch is five steps, the last of two rows."""
    return np.random.default_rng(0).random((130, D)).astype(np.float32) ** 2


def train(kind, epochs=2, *, record=True, **options):
    trainer = Trainer(make(kind, **options), 32, record=record)
    trainer.fit(rows(), epochs, progress=False)
    return trainer


def roughen(model, size=0.7):
    """Weights and biases that are not near 0: what is wrong then shows."""
    rng = np.random.default_rng(5)
    for p in model.parameters.values():
        model.backend.upload(p.buffer, size * rng.standard_normal(p.shape))
    return model


def states(n):
    """All states of n units, (2^n, n)."""
    return np.array(np.meshgrid(*[[0.0, 1.0]] * n, indexing="ij")).reshape(n, -1).T


def energies(layer, v, h):
    """Of all pairs of rows of v and of h, (rows of v, rows of h), as the textbook has them."""
    w, c, b = layer.weight.numpy(), layer.bias.numpy(), layer.visible_bias.numpy()
    own = ((v - b) ** 2).sum(axis=1) / 2 if layer.gaussian else -(v @ b)
    return own[:, None] - h @ c - v @ w.T @ h.T


def tensor(model, array):
    return Tensor(model.backend.from_host(np.asarray(array, np.float64)))


def yielded(model, x):
    """The losses of one step by phase, without any update in between."""
    model.generator.restart()
    for network in model.networks.values():
        if isinstance(network, nn.Chains):
            network.clear()
    batch = Batch({"x": model.backend.from_host(x)}, model.draws, {}, model.generator)
    return {phase: losses for phase, *losses in model.step(batch)}
