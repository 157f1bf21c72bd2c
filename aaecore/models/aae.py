"""The adversarial autoencoder: section 2 and figure 1 of Makhzani et al. (2015, arXiv 1511.05644).

A discriminator D on the codes forces the aggregated posterior q(z) onto any prior p(z) that can be sampled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, replace
from typing import ClassVar

from .. import priors
from ..core.random import Generator
from ..functions import Tensor, adversarial_bce, noisy, pull
from ..nn import Standardise
from ..options import COUNT, COUNTS, SWITCH, number, one_of, option
from ..priors import PRIOR
from .autoencoder import Autoencoder
from .batch import Batch
from .game import told_apart
from .generative import STANDARDISE
from .model import Losses
from .phase import Phase
from .posteriors import POSTERIORS
from .registry import model


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
        output: what decode gives: "sigmoid", which "bce" needs and begins with, or "linear", with which "mse" begins.
        discriminator_hidden: features of the discriminator's hidden layers; those of the encoder by default.
        standardise: the networks take x without its mean, and codes too, both in a common unit: of the data that
            training begins with, and of the prior. So a wide prior trains as a narrow one does.
        standardise_each: each feature of the data has a unit of its own, and the loss is in these units, as in the
            paper for faces and house numbers. For a linear output; what goes in and comes out is as the data are.
        input_noise, input_dropout: of what the encoder takes while training: the standard deviation of noise that is
            added, and the share of numbers that are 0.
        batch_norm: "none"; of the encoder in hidden layers ("encoder") or all ("codes"), of the decoder too in hidden
            layers ("hidden") or "all".
        batch_statistics: what it has for evaluation: "running" averages of batches, or those of rows as they are,
            "recomputed" after every epoch.
        average: decay of a moving average of the weights, which all but training uses; 0 for none.
        generator_weight: > 0 minimises reconstruction + weight * left * generator in one update, where `left` is what
            the batch leaves to reconstruct, a number; the generator's rate beside the reconstruction's scales it. 0
            gives the generator a phase of its own after the discriminator's, as in the paper.
        gradient_penalty: of the discriminator, see `functions.difference_penalty`; 0 for none.
        code_noise: standard deviation of noise on codes wherever they are drawn, so in training, in units of the prior:
            a Gaussian posterior of a fixed width, which `encode` without `sample` leaves out. It smooths q(z) and what
            is decoded, and a code of n features then holds about -n ln(code_noise) nats; 0 for none.
        noise_dim: features of the noise of the universal posterior; latent_dim by default.
        activation: of the hidden layers: relu, leaky_relu, sigmoid or tanh.
        init: "uniform" weights as in PyTorch, "normal" ones of a standard deviation of 0.01 as in the paper, or "he".
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
    prior: priors.Prior | priors.HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:1")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    standardise: bool = option(SWITCH, STANDARDISE, default=True, old=False)
    discriminator_hidden: Sequence[int] | None = option(COUNTS, "of the discriminator; as the encoder's", default=None)
    noise_dim: int | None = option(COUNT, "features of the universal posterior's noise; latent_dim", default=None)
    code_noise: float = option(
        number(0.0), "standard deviation of noise on drawn codes, in units of the prior", default=0.0
    )
    generator_weight: float = option(
        number(0.0), "beside the reconstruction; 0 for a phase of its own", default=1.0, old=0.0
    )
    gradient_penalty: float = option(number(0.0), "keeps the discriminator smooth; 0 for none", default=3.0, old=0.0)

    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("reconstruction", moves=("encoder", "decoder")),
        Phase("discriminator", moves=("discriminator",), equilibrium=2 * math.log(2), game=True),
        Phase("generator", moves=("encoder",), equilibrium=math.log(2), game=True),
    )

    def complete(self) -> None:
        super().complete()
        self.discriminator_hidden = self.hidden if self.discriminator_hidden is None else self.discriminator_hidden
        self.noise_dim = self.latent_dim if self.noise_dim is None else self.noise_dim
        if self.generator_weight:
            said = [replace(phase, moves=()) if phase.name == "generator" else phase for phase in self.phases]
            vars(self)["phases"] = tuple(said)  # of this model: the class has the paper's

    def build(self) -> None:
        self.build_autoencoder(POSTERIORS[self.posterior](self.latent_dim, self.noise_dim or self.latent_dim))
        self.discriminator = self.mlp(self.judges(), *(self.discriminator_hidden or ()), 1)
        if self.standardise:
            self.codes = Standardise(self.backend, self.latent_dim)

    def judges(self) -> int:
        """How many features the discriminator takes."""
        return self.latent_dim

    def code(self, x: Tensor, rng: Generator, *, sample: bool = True, train: bool = True) -> Tensor:
        z = super().code(x, rng, sample=sample, train=train)
        return noisy(z, rng, self.code_noise) if sample and self.code_noise else z

    def ratios(self) -> dict[str, tuple[float, str, str]]:
        weight = self.generator_weight
        return {"generator_weight": (weight, "generator", "reconstruction")} if weight else {}

    def step(self, batch: Batch) -> Iterator[Losses]:
        real = self.in_units(self.real(batch))
        yield from (self._together if self.generator_weight else self._in_turn)(batch, real)

    def real(self, batch: Batch) -> Tensor:
        """Samples of the prior, (B, latent_dim), that the codes of a batch are told apart from."""
        return batch.draw("z")

    def decoded(self, z: Tensor, batch: Batch) -> Tensor:
        """What the decoder makes of the codes of a batch, while training."""
        return self.decoder(z, rng=batch.rng)

    def judged(self, z: Tensor, batch: Batch) -> Tensor:
        """The discriminator's logits of codes, (B, 1), or of samples of the prior and then codes, (2 B, 1)."""
        return self.discriminator(z, rng=batch.rng)

    def _in_turn(self, batch: Batch, real: Tensor) -> Iterator[Losses]:
        """The phases of the paper."""
        yield "reconstruction", self.distance(self.decoded(self.code(batch.x, batch.rng), batch), batch.x)

        z = self.code(batch.x, batch.rng)  # the encoder has moved; both sides of the game see this code
        yield "discriminator", *self._told_apart(real, z.detach(), batch)
        yield "generator", adversarial_bce(self.judged(z, batch), real=len(batch))

    def _together(self, batch: Batch, real: Tensor) -> Iterator[Losses]:
        """One update of the encoder for both of its losses, whose gradients so have a common measure.

        By itself Adam would make the generator's steps as large as those of the reconstruction, however little the
        discriminator has to say. The generator's loss is weighed by what is left to reconstruct, so that neither the
        scale of the data nor how many features they have changes how the two compare.
        """
        z = self.code(batch.x, batch.rng)
        reconstruction = self.distance(self.decoded(z, batch), batch.x)
        generator = adversarial_bce(self.judged(z, batch), real=len(batch))
        pulled = pull(generator, self.left(reconstruction, len(batch)), batch.dial("generator_weight"))
        yield "reconstruction", reconstruction, pulled
        yield "discriminator", *self._told_apart(real, z.detach(), batch)
        yield "generator", generator

    def _told_apart(self, real: Tensor, code: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        return told_apart(lambda z: self.judged(z, batch), real, code, batch.rng, self.gradient_penalty)
