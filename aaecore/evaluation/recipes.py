"""How the models of a comparison are trained: of each what is not its default, by the keys of `aaecore train`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Recipe(NamedTuple):
    """How one model is trained.

    Args:
        model: the name of its class.
        options: keys of a TOML file of a run and their values, where they are not the defaults. `epochs` counts where
            the comparison does not say how long models train.
        shares: options that are a number of steps, as a share of all steps of training; where time ends it, their
            defaults.
        first: models that are trained before it, each as long, by the option that takes one.
        paper: the log-likelihoods in table 1 of the paper, in nats, by data and number of samples.
    """

    model: str
    options: Mapping[str, Any] = NOTHING
    shares: Mapping[str, float] = NOTHING
    first: Mapping[str, Recipe] = NOTHING
    paper: Mapping[tuple[str, int], float] = NOTHING


def _table_1(few: float, many: float | None = None) -> dict[tuple[str, int], float]:
    """What the paper has for MNIST, of 10,000 samples and of 10 million."""
    return {("mnist", 10_000): few} | ({} if many is None else {("mnist", 10_000_000): many})


WIDE = {"hidden": (1000, 1000)}
SQUARED = {"reconstruction": "mse", "output": "sigmoid"}  # half the squared error, as in the paper
FALLING = {"schedule": "cosine:0.01"}
MACHINE = {**FALLING, "persistent": True, "lr": 3e-3}  # chains that go on need a rate that falls, see `DBN`

CODER = Recipe(
    "DenoisingAE", {**WIDE, **SQUARED, **FALLING, "latent_dim": 10, "epochs": 30}, paper=_table_1(121)
)  # the paper's is a stack of contractive ones

RECIPES = {
    # With a code of 8 features, or the weights of the generator and of the penalty that the model begins with, more
    # holes are left in the prior. Noise on codes makes what is decoded smooth at the distance that 10,000 samples have
    # from each other.
    "AAE": Recipe(
        "AAE",
        {**WIDE, **SQUARED, **FALLING, "latent_dim": 6, "prior": "normal:5", "generator_weight": 20.0,
         "gradient_penalty": 10.0, "code_noise": 0.18, "input_noise": 0.5, "epochs": 40},
        paper=_table_1(340, 427),
    ),
    "GAN": Recipe("GAN", {**WIDE, "epochs": 30}, paper=_table_1(225, 386)),
    "GMMN": Recipe("GMMN", {**WIDE, **FALLING, "batch_size": 500, "epochs": 100}),
    "GMMN+AE": Recipe(
        "GMMN", {**WIDE, **FALLING, "batch_size": 500, "epochs": 30}, first={"autoencoder": CODER}, paper=_table_1(282)
    ),
    "WAE": Recipe("WAE", {**WIDE, **SQUARED, **FALLING, "latent_dim": 8}),
    "DenoisingAE": CODER,
    "RBM": Recipe("RBM", {**MACHINE, "epochs": 10}),
    "DBN": Recipe("DBN", {**MACHINE, "hidden": (500, 2000), "epochs": 5}, paper=_table_1(138)),
    "DBM": Recipe("DBM", {"hidden": (500, 1000)}, shares={"pretraining_steps": 0.3}),
    "VAE": Recipe("VAE", {**WIDE, **FALLING, "latent_dim": 8}),
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The recipe of a name; of a model that has none its defaults."""
    return RECIPES.get(name) or Recipe(name)
