"""The models behind figures of the paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..models import AAE, VAE, LabelInformedAAE, SupervisedAAE
from ..models.autoencoder import Autoencoder
from ..optim import Adam
from ..optim.schedules import Cosine
from ..priors import GaussianMixture, Normal, SwissRoll
from ..training.trainer import Trainer
from .splits import label_split

BATCH = 100
# The phases of the paper at one rate: with a slower discriminator the codes of a wide prior drift outwards. A penalised
# discriminator would not see petals that are narrow beside the prior.
FORMS: dict[type[AAE] | type[VAE], dict[str, Any]] = {
    AAE: {"standardise": False, "generator_weight": 0.0, "gradient_penalty": 0.0},
    VAE: {"standardise": False},
}
RATE = 1e-3
FLOOR = 0.05  # of it at the end
LABELLED = 5  # rows of which one has a label, as in the paper


class Shown(NamedTuple):
    """A trained model, and what to write above its picture."""

    model: Autoencoder
    title: str


class Training(NamedTuple):
    """How the models of a figure are trained.

    Args:
        epochs: passes over the rows, of each model.
        device: of the models.
        seed: of the models, and of which rows keep their label.
        say: gets a line before each model.
    """

    epochs: int
    device: str = "cpu"
    seed: int = 0
    say: Callable[[str], object] = print

    def fit(self, model: Autoencoder, x: np.ndarray, y: np.ndarray | None, said: str, **optimizers: Any) -> None:
        """Trains a model on rows x and labels y, at rates that fall."""
        self.say(f"training the {type(model).__name__} with {said}")
        schedule = Cosine(self.epochs * -(-len(x) // BATCH), FLOOR)
        Trainer(model, BATCH, schedule=schedule, **optimizers).fit(x, self.epochs, y=y)


def figure_2(x: np.ndarray, training: Training) -> list[list[Shown]]:
    """AAE and VAE with equal networks and priors, a row for each of two priors: N(0, 5^2 I) and a mixture of ten.

    Args:
        x: (N, features) rows in [0, 1] to train on.
        training: of each of the four models.
    """
    priors = {"2-D Gaussian": Normal(5.0), "mixture of ten Gaussians": GaussianMixture.ring(10)}
    rows = []
    for name, prior in priors.items():
        row = []
        for kind in FORMS:
            model = kind(x.shape[1], 2, prior=prior, device=training.device, seed=training.seed, **FORMS[kind])
            optimizers = {phase.name: partial(Adam, lr=RATE) for phase in model.phases}
            training.fit(model, x, None, f"the prior {name}", optimizers=optimizers)
            row.append(Shown(model, f"{kind.__name__}, {name}"))
        rows.append(row)
    return rows


def figure_4(x: np.ndarray, y: np.ndarray, training: Training) -> list[Shown]:
    """Label-informed models with a mixture of Gaussians and with a roll; a fifth of the rows keep their label.

    Args:
        x: (N, features) rows in [0, 1] to train on.
        y: (N,) their labels.
        training: of both models.
    """
    classes, few = len(np.unique(y)), label_split(y, len(y) // LABELLED, training.seed)
    shown = []
    for name, prior in {"mixture of Gaussians": GaussianMixture.ring(classes), "swiss roll": SwissRoll()}.items():
        model = LabelInformedAAE(
            x.shape[1], classes=classes, prior=prior, device=training.device, seed=training.seed
        )  # fmt: skip
        training.fit(model, x, few, f"the prior {name}")
        shown.append(Shown(model, name[0].upper() + name[1:]))
    return shown


def figure_7(x: np.ndarray, y: np.ndarray, training: Training) -> SupervisedAAE:
    """A supervised model.

    Args:
        x: (N, features) rows in [0, 1] to train on.
        y: (N,) their labels.
        training: of the model.
    """
    model = SupervisedAAE(x.shape[1], classes=len(np.unique(y)), device=training.device, seed=training.seed)
    training.fit(model, x, y, "a label for every row")
    return model
