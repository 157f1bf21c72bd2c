"""The generative moment matching network: Li, Swersky & Zemel (2015, arXiv 1502.02761), section 2.2 of the paper.

A generator's rows are matched to the data by their maximum mean discrepancy, without a discriminator. On the codes of a
trained autoencoder, which have few features, it works better: "GMMN + AE" of table 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np

from ..core.random import Generator
from ..data.rows import CHUNK, SAMPLE, Rows, picked, spread
from ..data.table import Column
from ..functions.tensor import Tensor
from ..options import COUNT, COUNTS, SWITCH, again, number, option
from ..priors import PRIOR, HostSampler, Prior, Uniform
from .autoencoder import Autoencoder
from .batch import Batch
from .discrepancy import Discrepancy, widths_option
from .frozen import AUTOENCODER, Frozen, kept
from .generative import STANDARDISE, Generative
from .model import Losses
from .phase import Phase
from .registry import model


@model
class GMMN(Generative):
    """A generative moment matching network of fully connected layers.

    The discrepancy of a batch is that of two samples as large as the batch: of 100 rows it hardly tells two similar
    distributions apart, so take batches of 500 to 1000.

    Args:
        input_dim: features of x.
        latent_dim: features of the noise z that data, or codes, are made of.
        hidden: features of the hidden layers of the generator, `decoder`, from its output to its input.
        prior: p(z), uniform in [-1, 1] by default; a `priors.Prior` or a callable f(n, rng) -> (n, latent_dim).
        autoencoder: a trained one, whose codes are made instead of data and decoded by it. It is copied: no step moves
            the copy, and files of this model hold it. Of any model of this library whose decoder takes codes alone;
            what trains on, and what `sample` gives, is what its `encode` and `decode` do.
        widths: of the Gaussian kernels, whose sum is taken, beside the distance of two independent rows.
        standardise: rows, or codes, are compared without their mean, in a common unit of those that training begins
            with, and made in that unit by a linear output. Without, widths are for rows that are in such units.
        standardise_each: each feature has a unit of its own. For a linear output.
        output: "sigmoid", for data in [0, 1], or "linear" for numbers of any range, with which it begins on codes.
        average: decay of a moving average of the generator's weights, of which samples are made; 0 for none.
        activation, precision, init, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the noise", default=10)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    prior: Prior | HostSampler | None = option(PRIOR, "p(z)", default=None, run="uniform:-1:1")
    _: KW_ONLY
    autoencoder: Autoencoder | Mapping[str, Any] | None = option(
        AUTOENCODER, "run or checkpoint of a trained one, whose codes are made instead of data", default=None
    )
    widths: Sequence[float] = widths_option()
    output: str | None = again(Generative, "output", None)
    standardise: bool = option(SWITCH, STANDARDISE, default=True)
    average: float = option(
        number(0.0, 1.0), "decay of a moving average of the weights, which samples are made of; 0 for none", default=0.0
    )

    phases: ClassVar[tuple[Phase, ...]] = (Phase("discrepancy", moves=("decoder",)),)

    def complete(self) -> None:
        self.prior = Uniform(-1.0, 1.0) if self.prior is None else self.prior
        if self.autoencoder is not None:
            if self.output == "sigmoid":
                raise ValueError("output: expected 'linear' beside an autoencoder, whose codes are made, got 'sigmoid'")
            self.output = "linear"
        super().complete()

    def build(self) -> None:
        if self.autoencoder is not None:
            self.autoencoder = kept(self.autoencoder, self)
            self.frozen = Frozen(self.autoencoder)
            if self.autoencoder.input_dim != self.input_dim:
                expected = f"one of rows with {self.input_dim} features"
                raise ValueError(f"autoencoder: expected {expected}, got {self.autoencoder.input_dim}")
        self.inputs, self.codes = self.units_of_data(), self.units_of_codes()
        self.build_decoder(self.latent_dim)
        self.keep_averages("decoder")
        self.discrepancy = Discrepancy(self.backend, self.made, self.widths)

    @property
    def coder(self) -> Autoencoder | None:
        """The copy of the autoencoder."""
        assert not isinstance(self.autoencoder, Mapping)
        return self.autoencoder

    @property
    def made(self) -> int:
        return self.input_dim if self.coder is None else self.coder.latent_dim

    def columns(self) -> dict[str, Column]:
        return super().columns() if self.coder is None else {"x": self.coder.columns()["x"]}

    def step(self, batch: Batch) -> Iterator[Losses]:
        made = self.decoder(self.in_units(batch.draw("z")))
        made = made if self.output == "linear" else self.seen(made)
        yield "discrepancy", self.discrepancy(made, self.seen(self.wanted(batch.x, batch.rng)))

    def wanted(self, x: Tensor, rng: Generator) -> Tensor:
        """What is to be made: data, or their codes."""
        return x if self.coder is None else self.coder.codes_of(x, rng).detach()

    def unit_rows(self, x: Rows) -> Rows:
        if self.coder is None:
            return x
        index = spread(x, SAMPLE)
        parts = [picked(self.backend, x, index[i : i + CHUNK]) for i in range(0, len(index), CHUNK)]
        return np.concatenate([self.wanted(Tensor(part), self.sampler).numpy() for part in parts])

    def data_of(self, z: Tensor) -> Tensor:
        made = super().data_of(z)
        return made if self.coder is None else self.coder.data_of(made)
