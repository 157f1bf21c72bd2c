"""The generative adversarial network: Goodfellow et al. (2014, arXiv 1406.2661), section 2.2 of the paper.

A generator makes data of noise, and a discriminator on the data forces their distribution onto that of the data, where
an adversarial autoencoder does so with codes, which have few features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np

from ..data.rows import as_rows, chunks
from ..functions import adversarial_bce
from ..options import COUNT, COUNTS, SWITCH, again, number, option
from ..priors import PRIOR, HostSampler, Prior
from .batch import Batch
from .game import told_apart
from .generative import STANDARDISE, Generative
from .model import Losses
from .phase import Phase
from .registry import model


@model
class GAN(Generative):
    """A generative adversarial network of fully connected networks.

    Args:
        input_dim: features of x.
        latent_dim: features of the noise z that data are made of.
        hidden: features of the hidden layers of the discriminator; the decoder, which is the generator, has them in
            reverse order.
        prior: p(z), a `priors.Prior` or a callable f(n, rng) -> (n, latent_dim); N(0, I) by default.
        discriminator_hidden: features of the discriminator's hidden layers, where they are others.
        standardise: the discriminator takes x without its mean, in a common unit of the data that training begins with,
            and the generator z in that of the prior; a linear output is in the unit of the data.
        standardise_each: each feature of the data has a unit of its own. For a linear output.
        output: "sigmoid", for data in [0, 1], or "linear" for numbers of any range.
        gradient_penalty: of the discriminator, see `functions.difference_penalty`, by the number of features, since in
            units rows lie as far apart as its root says; 0 for none. A discriminator that wins everywhere teaches
            nothing, and one that is too smooth no details.
        average: decay of a moving average of the generator's weights, of which samples are made; 0 for none.
        init: as of `AAE`; of smaller weights than "he" the first samples would be all alike, and stay so.
        activation, precision, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the noise", default=8)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    prior: Prior | HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:1")
    _: KW_ONLY
    output: str | None = again(Generative, "output", "sigmoid")
    standardise: bool = option(SWITCH, STANDARDISE, default=True)
    discriminator_hidden: Sequence[int] | None = option(COUNTS, "of the discriminator; hidden", default=None)
    gradient_penalty: float = option(number(0.0), "keeps the discriminator smooth; 0 for none", default=0.005)
    init: str = again(Generative, "init", "he")
    average: float = option(
        number(0.0, 1.0), "decay of a moving average of the generator's weights, which samples are made of; 0 for none",
        default=0.999,
    )  # fmt: skip

    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("discriminator", moves=("discriminator",), equilibrium=2 * math.log(2), rate=1e-3, game=True),
        Phase("generator", moves=("decoder",), equilibrium=math.log(2), rate=1e-3, game=True),
    )

    def complete(self) -> None:
        super().complete()
        self.discriminator_hidden = self.hidden if self.discriminator_hidden is None else self.discriminator_hidden

    def build(self) -> None:
        self.inputs, self.codes = self.units_of_data(), self.units_of_codes()
        self.build_decoder(self.latent_dim)
        self.discriminator = self.mlp(self.input_dim, *(self.discriminator_hidden or ()), 1)
        self.keep_averages("decoder")

    def step(self, batch: Batch) -> Iterator[Losses]:
        fake = self.decoder(self.in_units(batch.draw("z")))
        fake = fake if self.output == "linear" else self.seen(fake)  # as the discriminator takes it
        penalty = self.gradient_penalty * self.input_dim
        real = self.seen(batch.x)
        yield "discriminator", *told_apart(self.discriminator, real, fake.detach(), batch.rng, penalty)
        yield "generator", adversarial_bce(self.discriminator(fake), real=len(batch))

    def score_samples(self, x: Any) -> np.ndarray:
        """The discriminator's log odds that rows x (N, input_dim) are data and no samples, (N,) float64.

        At the equilibrium they are all 0. It was never shown strange rows that are no samples either.

        Raises:
            ValueError, TypeError: bad data.
        """
        rows = as_rows(self.backend, x, "x", self.input_dim)
        odds = [self.discriminator(self.seen(chunk)).numpy()[:, 0] for (chunk,) in chunks(self.backend, rows)]
        return np.concatenate(odds).astype(np.float64)
