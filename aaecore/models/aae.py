"""The adversarial autoencoder: section 2 and figure 1 of Makhzani et al. (2015, arXiv 1511.05644).

A discriminator D on the codes forces the aggregated posterior q(z) onto any prior p(z) that can be sampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY

from .. import priors
from ..functions import Tensor, adversarial_bce, concat
from ..options import COUNT, COUNTS, one_of, option
from ..priors import PRIOR
from .autoencoder import Autoencoder
from .batch import Batch
from .model import Losses, Phase, model
from .posteriors import POSTERIORS


@model
class AAE(Autoencoder):
    """An adversarial autoencoder of fully connected networks.

    Args:
        input_dim: features of x.
        latent_dim: features of the code z.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        posterior: "deterministic", "gaussian" (re-parameterised) or "universal" (noise beside x).
        prior: p(z), a `priors.Prior` or a callable f(n, rng) -> (n, latent_dim); N(0, I) by default.
        reconstruction: "bce" (Bernoulli cross-entropy; x in [0, 1]) or "mse" (half squared error); both are summed over
            features and averaged over the batch.
        output: what decode gives: "sigmoid" or "linear". "bce" needs sigmoid.
        discriminator_hidden: features of the discriminator's hidden layers; those of the encoder by default.
        noise_dim: features of the noise of the universal posterior; latent_dim by default.
        activation: of the hidden layers: relu, leaky_relu, sigmoid or tanh.
        precision: "fp32", or "bf16" for matrix products of bfloat16 factors with float32 sums; weights, their updates
            and all the rest are float32 either way. Fast on a GPU and where the CPU has AVX512_BF16, slow elsewhere.
            "tf32", on a GPU only, rounds the factors to 11 significant bits.
        device: "cpu", "cuda" or "cuda:<number>" for a GPU through CuPy, or "reference" for float64 NumPy.
        seed: of the initial weights and of all noise. Equal seeds give equal bits; None draws a seed, which
            `model.seed` then tells.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: a device this machine does not have.
    """

    posterior: str = option(one_of(*POSTERIORS), "deterministic, gaussian or universal", default="deterministic")
    prior: priors.Prior | priors.HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:2")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    discriminator_hidden: Sequence[int] | None = option(COUNTS, "of the discriminator; as the encoder's", default=None)
    noise_dim: int | None = option(COUNT, "features of the universal posterior's noise; latent_dim", default=None)

    # The discriminator learns easily: with equal rates it wins, and the codes never reach the prior.
    phases = (
        Phase("reconstruction", moves=("encoder", "decoder")),
        Phase("discriminator", moves=("discriminator",), equilibrium=2 * math.log(2), rate=2e-4, game=True),
        Phase("generator", moves=("encoder",), equilibrium=math.log(2), rate=3e-4, game=True),
    )

    def complete(self) -> None:
        super().complete()
        self.discriminator_hidden = self.hidden if self.discriminator_hidden is None else self.discriminator_hidden
        self.noise_dim = self.latent_dim if self.noise_dim is None else self.noise_dim

    def build(self) -> None:
        self.build_autoencoder(POSTERIORS[self.posterior](self.latent_dim, self.noise_dim or self.latent_dim))
        self.discriminator = self.mlp(self.latent_dim, *(self.discriminator_hidden or ()), 1)

    def judge(self, z: Tensor) -> Tensor:
        return self.discriminator(z)

    def step(self, batch: Batch) -> Iterator[Losses]:
        real = batch.draw("z")
        yield "reconstruction", self.distance(self.decoder(self.code(batch.x, batch.rng)), batch.x)

        z = self.code(batch.x, batch.rng)  # the encoder has moved; both sides of the game see this code
        both = concat((real, z.detach()), axis=0)
        yield "discriminator", adversarial_bce(self.discriminator(both), real=len(batch))
        yield "generator", adversarial_bce(self.discriminator(z), real=len(batch))
