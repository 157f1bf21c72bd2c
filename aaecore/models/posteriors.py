"""The three posteriors q(z|x) of section 2 of the paper: how an encoder network becomes a code.

Each says how many features the network takes and gives, and turns a batch into codes. All randomness comes from the
model's generator, so a recorded step draws new noise at every replay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..core.random import Generator
from ..functions import concat, gaussian_sample
from ..functions.tensor import Tensor
from ..nn import MLP


class Posterior(ABC):
    """q(z|x) for codes of `latent_dim` features."""

    def __init__(self, latent_dim: int, noise_dim: int) -> None:
        self.latent_dim = latent_dim
        self.noise_dim = noise_dim

    def inputs(self, input_dim: int) -> int:
        """Features that the encoder network takes."""
        return input_dim

    def outputs(self) -> int:
        """Features that the encoder network gives."""
        return self.latent_dim

    def taken(self, x: Tensor, generator: Generator, *, sample: bool) -> Tensor:
        """What the encoder network takes of x (B, input_dim)."""
        return x

    @abstractmethod
    def code(self, encoder: MLP, x: Tensor, generator: Generator, *, sample: bool, train: bool = False) -> Tensor:
        """(B, latent_dim) codes of x (B, input_dim): a draw, or without `sample` the centre of the posterior.

        With `train` the encoder does what it does while training, such as dropout.
        """


class Deterministic(Posterior):
    """z = f(x): the stochasticity of q(z) is that of the data."""

    def code(self, encoder: MLP, x: Tensor, generator: Generator, *, sample: bool, train: bool = False) -> Tensor:
        return encoder(x, rng=generator if train else None)


class Gaussian(Posterior):
    """z = mean(x) + std(x) eps: the encoder gives [mean | log variance]; the centre is the mean."""

    def outputs(self) -> int:
        return 2 * self.latent_dim

    def code(self, encoder: MLP, x: Tensor, generator: Generator, *, sample: bool, train: bool = False) -> Tensor:
        params = encoder(x, rng=generator if train else None)
        if sample:
            return self.draw(params, generator)
        mean = x.backend.empty((x.shape[0], self.latent_dim))
        dims = (x.shape[0], self.latent_dim, 2 * self.latent_dim, 0, self.latent_dim, 0, 0)
        x.backend.launch("copy_columns", (params.buffer, mean), dims)
        return Tensor(mean)

    def draw(self, params: Tensor, generator: Generator) -> Tensor:
        """(B, latent_dim): a draw for each row of params (B, 2 latent_dim), the encoder's output."""
        return gaussian_sample(params, generator.normal((params.shape[0], self.latent_dim)))


class Universal(Posterior):
    """z = f(x, eta) with eta ~ N(0, I): the encoder takes noise beside x; the centre is f(x, 0)."""

    def inputs(self, input_dim: int) -> int:
        return input_dim + self.noise_dim

    def taken(self, x: Tensor, generator: Generator, *, sample: bool) -> Tensor:
        noise = generator.normal((x.shape[0], self.noise_dim), 0.0, 1.0 if sample else 0.0)
        return concat((x, Tensor(noise)), axis=1)

    def code(self, encoder: MLP, x: Tensor, generator: Generator, *, sample: bool, train: bool = False) -> Tensor:
        return encoder(self.taken(x, generator, sample=sample), rng=generator if train else None)


POSTERIORS: dict[str, type[Posterior]] = {"deterministic": Deterministic, "gaussian": Gaussian, "universal": Universal}
