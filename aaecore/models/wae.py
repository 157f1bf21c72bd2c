"""The Wasserstein autoencoder: Tolstikhin et al. (2018, arXiv 1711.01558), with the maximum mean discrepancy.

It is an adversarial autoencoder with that in the place of the discriminator: the aggregated posterior q(z) is matched
to any prior p(z) that can be sampled, without a game.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY
from typing import ClassVar

from ..functions import pull
from ..options import COUNT, COUNTS, SWITCH, number, one_of, option
from ..priors import PRIOR, HostSampler, Prior
from .autoencoder import Autoencoder
from .batch import Batch
from .discrepancy import Discrepancy, widths_option
from .generative import STANDARDISE
from .model import Losses
from .phase import Phase
from .posteriors import POSTERIORS
from .registry import model


@model
class WAE(Autoencoder):
    """An autoencoder whose codes are matched to a prior by their maximum mean discrepancy.

    Args:
        input_dim: features of x.
        latent_dim: features of the code z.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        posterior: "deterministic", "gaussian" or "universal", as of `AAE`.
        prior: p(z), a `priors.Prior` or a callable f(n, rng) -> (n, latent_dim); N(0, I) by default.
        reconstruction: "bce" or "mse", as of `AAE`.
        discrepancy_weight: reconstruction + weight * left * discrepancy is minimised, where `left` is what the batch
            leaves to reconstruct, a number, and the discrepancy that of codes and as many samples of the prior.
        widths: of the Gaussian kernels, whose sum is taken, beside the distance of two samples of the prior.
        standardise: as of `AAE`. Without, widths are for a prior of a variance of 1.
        noise_dim: features of the noise of the universal posterior; latent_dim by default.
        standardise_each, input_noise, input_dropout, batch_norm, batch_statistics, average: as of `AAE`.
        output, activation, precision, init, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the code", default=8)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    posterior: str = option(one_of(*POSTERIORS), "deterministic, gaussian or universal", default="deterministic")
    prior: Prior | HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:1")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    standardise: bool = option(SWITCH, STANDARDISE, default=True)
    noise_dim: int | None = option(COUNT, "features of the universal posterior's noise; latent_dim", default=None)
    discrepancy_weight: float = option(number(0.0), "beside the reconstruction", default=10.0)
    widths: Sequence[float] = widths_option()

    phases: ClassVar[tuple[Phase, ...]] = (
        Phase("reconstruction", moves=("encoder", "decoder")),
        Phase("discrepancy", moves=()),  # it is minimised in the first, and only said
    )

    def complete(self) -> None:
        super().complete()
        self.noise_dim = self.latent_dim if self.noise_dim is None else self.noise_dim

    def build(self) -> None:
        self.build_autoencoder(POSTERIORS[self.posterior](self.latent_dim, self.noise_dim or self.latent_dim))
        self.codes = self.units_of_codes()
        self.discrepancy = Discrepancy(self.backend, self.latent_dim, self.widths)

    def dials(self) -> dict[str, Callable[[int], float]]:
        return super().dials() | {"discrepancy_weight": lambda step: self.discrepancy_weight}

    def step(self, batch: Batch) -> Iterator[Losses]:
        z = self.code(batch.x, batch.rng)
        reconstruction = self.distance(self.decoder(z, rng=batch.rng), batch.x)
        discrepancy = self.discrepancy(z, self.in_units(batch.draw("z")))
        left = self.left(reconstruction, len(batch))
        yield "reconstruction", reconstruction, pull(discrepancy, left, batch.dial("discrepancy_weight"))
        yield "discrepancy", discrepancy
