"""The denoising autoencoder (Vincent et al. 2008), and what a chain of it draws (Bengio et al. 2013, arXiv 1305.6663).

It has no prior. With a contractive penalty (Rifai et al. 2011) it stands for the row "Stacked CAE" of table 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np

from ..arguments import count
from ..core.memory import Buffer
from ..data.rows import CHUNK, Rows
from ..functions import bernoulli, difference_penalty, noisy
from ..functions.tensor import Tensor
from ..options import COUNT, COUNTS, SWITCH, again, number, one_of, option
from ..priors import Prior
from .autoencoder import Autoencoder
from .batch import Batch
from .generative import STANDARDISE
from .model import Losses
from .phase import Phase
from .posteriors import Deterministic
from .registry import model

NEAR = 0.1  # of the data's unit, in every feature: the step of the finite differences


@model
class DenoisingAE(Autoencoder):
    """An autoencoder that learns to undo what is done to its input: x without noise from x with noise.

    `sample` follows a Markov chain, whose stationary distribution is an estimate of that of the data: it corrupts a row
    as in training, reconstructs it, and draws the next row of what the decoder says. With reconstruction="bce" these
    are draws of Bernoulli distributions, of the last step their means; with "mse" the means in every step.

    Args:
        input_dim: features of x.
        latent_dim: features of the code.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        reconstruction: "bce" or "mse", as of `AAE`.
        input_noise, input_dropout: the corruption, in the unit of the data: the standard deviation of noise that is
            added, and the share of numbers that are then set to 0, which is the mean of the data.
        contractive: of the squared norm of the encoder's derivatives at x as it is, by finite differences; 0 for none.
            It makes codes small, so that a decoder may undo it by large weights.
        chain_steps: of the chain, for each sample. It begins at rows whose features are drawn independently, with the
            mean, and of linear outputs the standard deviation, that the data have.
        standardise: as of `AAE`. Without, the chain begins at coins, or at normal numbers.
        standardise_each, batch_norm, batch_statistics, average: as of `AAE`.
        output, activation, precision, init, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the code", default=30)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    standardise: bool = option(SWITCH, STANDARDISE, default=True)
    input_noise: float = again(Autoencoder, "input_noise", 0.5)
    input_dropout: float = again(Autoencoder, "input_dropout", 0.2)
    contractive: float = option(number(0.0), "of the squared derivatives of the encoder", default=0.0)
    chain_steps: int = option(COUNT, "of the chain that draws a sample", default=50)

    phases: ClassVar[tuple[Phase, ...]] = (Phase("reconstruction", moves=("encoder", "decoder")),)

    def complete(self) -> None:
        super().complete()
        if self.contractive and self.batch_norm != "none":
            expected = "0 beside batch norm, which makes a code depend on other rows"
            raise ValueError(f"contractive: expected {expected}, got {self.contractive:g}")

    def build(self) -> None:
        self.build_autoencoder(Deterministic(self.latent_dim, 0))

    def priors(self) -> dict[str, tuple[Prior, int]]:
        return {}

    def step(self, batch: Batch) -> Iterator[Losses]:
        code = self.code(batch.x, batch.rng)  # of a corrupted x
        reconstruction = self.distance(self.decoder(code, rng=batch.rng), batch.x)
        yield "reconstruction", reconstruction, *self._contracted(batch)

    def _contracted(self, batch: Batch) -> tuple[Tensor, ...]:
        """The contractive penalty, of the encoder at x as it is."""
        if not self.contractive:
            return ()
        seen = self.seen(batch.x)
        beside = self.encoder(noisy(seen, batch.rng, NEAR))
        return difference_penalty(self.encoder(seen), beside, 2 * self.contractive / NEAR**2)

    def health(self, x: Rows) -> dict[str, float]:
        return {}  # there is no prior to hold

    def advice(self, row: Mapping[str, Any]) -> str:
        return ""

    # --- the chain ----------------------------------------------------------------------------------

    def sample(self, n: int, *, on_device: bool = False) -> Any:
        """(n, input_dim): the ends of n chains, an array of the device if asked. Every call draws new ones."""
        out = self.backend.empty((count("n", n), self.input_dim))
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            self.backend.copy(out.rows(start, stop), self._chain(stop - start))
        return self.backend.array(out) if on_device else self.backend.to_host(out).astype(np.float32, copy=False)

    def sample_prior(self, n: int, *, on_device: bool = False) -> Any:
        """TypeError: this model has no prior."""
        raise TypeError(f"sample_prior: expected a model with a prior, got {type(self).__name__}; see sample")

    def _chain(self, n: int) -> Buffer:
        """The ends of n chains, (n, input_dim). A step is recorded once and replayed."""
        self.sampler.advance()
        x = self._beginning(n)
        self.sampler.advance()

        def step() -> None:
            made = self._reconstructed(x)
            drawn = bernoulli(made, self.sampler) if self.reconstruction == "bce" else made
            self.backend.launch("copy", (drawn.buffer, x), (x.size, 0))
            self.sampler.advance()

        if self.chain_steps > 1:
            self.backend.capture(step).replay(times=self.chain_steps - 1)
        return self._reconstructed(x).buffer

    def _beginning(self, n: int) -> Buffer:
        """Rows of independent features, (n, input_dim)."""
        shape, is_unit = (n, self.input_dim), self.output == "sigmoid"
        middle = 0.5 if is_unit and self.inputs is None else 0.0
        x = Tensor(self.sampler.normal(shape, middle, 0.0 if is_unit else 1.0))
        x = x if self.inputs is None else self.inputs.back(x)
        return (bernoulli(x, self.sampler) if is_unit else x).buffer

    def _reconstructed(self, x: Buffer) -> Tensor:
        """What the networks, as they are evaluated, make of corrupted rows."""
        encoder = self.final("encoder")
        return self.shown(encoder(encoder.corrupted(self.seen(Tensor(x)), self.sampler)))
