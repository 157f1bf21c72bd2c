"""The models behind figures of the paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..models import AAE, VAE
from ..models.autoencoder import Autoencoder
from ..optim import Adam
from ..optim.schedules import Cosine
from ..priors import GaussianMixture, Normal
from ..training.trainer import Trainer

BATCH = 100
# The phases of the paper at one rate: with a slower discriminator the codes of a wide prior drift outwards. A penalised
# discriminator would not see petals that are narrow beside the prior.
FORMS: dict[type[AAE] | type[VAE], dict[str, Any]] = {
    AAE: {"standardise": False, "generator_weight": 0.0, "gradient_penalty": 0.0},
    VAE: {"standardise": False},
}
RATE = 1e-3
FLOOR = 0.05  # of it at the end


class Shown(NamedTuple):
    """A trained model, and what to write above its picture."""

    model: Autoencoder
    title: str


def figure_2(
    x: np.ndarray, epochs: int, *, device: str = "cpu", seed: int = 0, say: Callable[[str], object] = print
) -> list[list[Shown]]:
    """AAE and VAE with equal networks and priors, a row for each of two priors: N(0, 5^2 I) and a mixture of ten.

    Args:
        x: (N, features) rows in [0, 1] to train on.
        epochs: passes over x of each of the four models.
        say: gets a line before each of them.
    """
    priors = {"2-D Gaussian": Normal(5.0), "mixture of ten Gaussians": GaussianMixture.ring(10)}
    rows = []
    for name, prior in priors.items():
        row = []
        for kind in FORMS:
            say(f"training the {kind.__name__} with the prior {name}")
            model = kind(x.shape[1], 2, prior=prior, device=device, seed=seed, **FORMS[kind])
            schedule = Cosine(epochs * -(-len(x) // BATCH), FLOOR)
            optimizers = {phase.name: partial(Adam, lr=RATE) for phase in model.phases}
            trainer = Trainer(model, BATCH, optimizers=optimizers, schedule=schedule)
            trainer.fit(x, epochs)
            row.append(Shown(model, f"{kind.__name__}, {name}"))
        rows.append(row)
    return rows
