"""The variational autoencoder, with which section 2.1 and figure 2 of the paper compare: Kingma & Welling (2014).

It pulls q(z|x) towards p(z) for every x by their KL divergence, where an adversarial autoencoder matches the aggregated
posterior q(z). So its prior must have a density, not only samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY

from ..functions import gaussian_kl, gaussian_negative_entropy, mixture_nll, weighted
from ..functions.divergences import LEAST_STD
from ..functions.tensor import Tensor
from ..options import SWITCH, integer, number, one_of, option
from ..priors import PRIOR, GaussianMixture, HostSampler, Normal, Prior
from .autoencoder import Autoencoder
from .batch import Batch
from .generative import STANDARDISE
from .model import Losses
from .phase import Phase
from .posteriors import Gaussian
from .registry import model


@model
class VAE(Autoencoder):
    """A variational autoencoder of fully connected networks.

    Args:
        input_dim: features of x.
        latent_dim: features of the code z.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        prior: p(z), N(0, I) by default: a `priors.Normal`, whose divergence has a formula, or a
            `priors.GaussianMixture`, for which log p(z) is taken at the codes that are drawn.
        reconstruction: "bce" or "mse", as of `AAE`.
        kl_weight: of the divergence beside the reconstruction, >= 0; 1 is the evidence lower bound.
        warm_up: steps over which that weight grows from 0 in a straight line; 0 begins with all of it.
        standardise: the encoder takes x without its mean, in a common unit, and a linear output is in that unit.
        standardise_each, input_noise, input_dropout, batch_norm, batch_statistics, average: as of `AAE`.
        output, activation, precision, init, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument, or a prior without a density. DeviceError: as of `AAE`.
    """

    prior: Prior | HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:1")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    standardise: bool = option(SWITCH, STANDARDISE, default=True, old=False)
    kl_weight: float = option(number(0.0), "of the divergence beside the reconstruction", default=1.0)
    warm_up: int = option(integer(0), "steps over which that weight grows from 0", default=0)

    phases = (Phase("elbo", moves=("encoder", "decoder")),)

    def complete(self) -> None:
        super().complete()
        if not isinstance(self.prior, Normal | GaussianMixture):
            came = type(self.prior).__name__
            raise ValueError(f"prior: expected Normal or GaussianMixture, whose densities are known, got {came}")
        if isinstance(self.prior, Normal):
            number(LEAST_STD).check("prior: std", self.prior.std)

    def build(self) -> None:
        self.gaussian = Gaussian(self.latent_dim, 0)
        self.build_autoencoder(self.gaussian)
        if isinstance(self.prior, GaussianMixture):
            self.density = self.prior.density_tables(self.backend)

    def dials(self) -> dict[str, Callable[[int], float]]:
        def weight(step: int) -> float:
            return self.kl_weight * min(step / self.warm_up, 1.0) if self.warm_up else self.kl_weight

        return super().dials() | {"kl_weight": weight}

    def step(self, batch: Batch) -> Iterator[Losses]:
        params = self.encoder(self.seen(batch.x), rng=batch.rng)  # [mean | log variance]
        z = self.gaussian.draw(params, batch.rng)
        weight = batch.dial("kl_weight")
        divergence = (weighted(part, weight) for part in self.divergence(params, z))
        yield "elbo", self.distance(self.decoder(z, rng=batch.rng), batch.x), *divergence

    def divergence(self, params: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """Losses whose sum is KL(q(z|x), p(z)), a mean over the batch: exactly, or at the codes z that were drawn."""
        if isinstance(self.prior, Normal):
            return (gaussian_kl(params, self.prior.mean, self.prior.std),)
        return gaussian_negative_entropy(params), mixture_nll(z, self.density)
