"""Models with a decoder z -> x and a prior p(z): their units, and samples of what they learned.

Arrays of NumPy in, arrays of NumPy out; on a GPU also arrays of the device in, arrays of CuPy out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from .. import nn
from ..arguments import count
from ..data.rows import Rows, as_rows, map_chunks, moments
from ..data.table import Column
from ..functions.tensor import Tensor
from ..options import COUNT, COUNTS, SWITCH, declared, one_of, option
from ..priors import HostSampler, Normal, Prior, as_prior
from .batch import Batch
from .model import Model

STANDARDISE = "networks work with data and codes without their mean, in a common unit"
OUTPUTS = {"sigmoid": "sigmoid", "linear": "identity"}


def logit(mean: np.ndarray) -> np.ndarray:
    p = np.clip(mean, 0.01, 0.99)  # a feature that is always 0 must not begin at minus infinity
    return np.log(p / (1 - p))


class _Declared:
    """What every such model declares itself: options, at different places among its arguments, and units."""

    prior: Prior | HostSampler | None = None  # of a model that declares none
    average: float
    inputs: nn.Units | None
    codes: nn.Units | None


@dataclass(eq=False, repr=False)
class Generative(Model, _Declared):
    """A model with a `decoder`, which makes rows of samples of its prior.

    A subclass declares the options `prior` and `average`, sets `inputs` and `codes`, the units of data and of the
    prior, and calls `build_decoder`.
    """

    input_dim: int = option(COUNT, "features of x", of_data=True)
    latent_dim: int = option(COUNT, "features of the code", run=8)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    _: KW_ONLY
    output: str | None = option(
        one_of(*OUTPUTS), "of the decoder: sigmoid, for data in [0, 1], or linear", default=None
    )
    standardise: bool = option(SWITCH, STANDARDISE, default=False)
    standardise_each: bool = option(
        SWITCH, "the unit of the data is of each feature, and so are losses; for a linear output", default=False
    )

    def complete(self) -> None:
        if "prior" in declared(self) and self.prior is None:
            self.prior = Normal()
        self.output = "sigmoid" if self.output is None else self.output
        if self.standardise_each and (self.output != "linear" or not self.standardise):
            came = f"standardise={self.standardise}, output={self.output!r}"
            raise ValueError(f"standardise_each: expected standardise=True, output='linear' besides, got {came}")

    @property
    def made(self) -> int:
        """How many features the decoder makes."""
        return self.input_dim

    def units_of_data(self) -> nn.Units | None:
        """What the networks take instead of data as they are."""
        units = nn.StandardiseEach if self.standardise_each else nn.Standardise
        return units(self.backend, self.made) if self.standardise else None

    def units_of_codes(self) -> nn.Units | None:
        """What the networks take instead of codes as users have them."""
        return nn.Standardise(self.backend, self.latent_dim) if self.standardise else None

    def of_decoder(self) -> dict[str, Any]:
        """The settings of the network that makes data."""
        return {"output": OUTPUTS[str(self.output)]}

    def build_decoder(self, features: int) -> None:
        """Makes the network that takes so many features."""
        self.decoder = self.mlp(features, *reversed(self.hidden), self.made, **self.of_decoder())

    def columns(self) -> dict[str, Column]:
        if self.output == "linear":
            return {"x": Column(self.input_dim)}
        return {
            "x": Column(self.input_dim, "unit", f"give the model {self.any_range()}, which suit numbers of any range")
        }

    def any_range(self) -> str:
        """The options with which data may be numbers of any range."""
        return "output='linear'"

    def priors(self) -> dict[str, tuple[Prior, int]]:
        return {"z": (as_prior(self.prior or Normal()), self.latent_dim)}

    # --- units --------------------------------------------------------------------------------------

    def begin(self, x: Rows, moving: Collection[str]) -> None:
        """Takes mean and scale of the data, and of the prior, and lets a decoder of probabilities begin at that mean.

        Not where somebody changed the weights before: they are for data as they are.
        """
        if self.inputs is not None and not self.backend.to_host(self.inputs.rows)[0]:
            if self.writes.count != self.untouched:
                self.forget()
                return
            mean, std, rows = moments(self.backend, self.unit_rows(x), each=self.standardise_each)
            of_prior = self.priors()["z"][0].moments(self.latent_dim) if self.codes is not None else None
            with self.owner.whole:  # they belong together
                try:
                    if self.codes is not None and of_prior is not None:
                        self.codes.set("prior", *of_prior, rows)
                    if "decoder" in moving and self.output == "sigmoid":
                        for decoder in {self.decoder, self.final("decoder")}:
                            self.backend.upload(decoder.offset.buffer, logit(mean))
                    self.inputs.set("x", mean, std, rows)  # in the end: after an interrupt all of it is done again
                finally:
                    self.untouched = self.writes.count  # nobody else changed anything
        self.begun = True

    def unit_rows(self, x: Rows) -> Rows:
        """The rows whose mean and scale are the units of data; those that are trained on."""
        return x

    def forget(self) -> None:
        for units in (self.inputs, self.codes):
            if units is not None:
                units.set("state_dict", np.zeros(units.features), 1.0, 1)
        self.begun = True

    def seen(self, x: Tensor) -> Tensor:
        """x as the networks take it."""
        return x if self.inputs is None else self.inputs(x)

    def in_units(self, z: Tensor) -> Tensor:
        """Codes as the networks have them."""
        return z if self.codes is None else self.codes(z)

    def in_own_units(self, z: Tensor) -> Tensor:
        """Codes as users have them."""
        return z if self.codes is None else self.codes.back(z)

    def as_data(self, decoded: Tensor) -> Tensor:
        """What the decoder made, as the data are."""
        return self.inputs.back(decoded) if self.inputs is not None and self.output == "linear" else decoded

    # --- what evaluation uses -----------------------------------------------------------------------

    def keep_averages(self, *names: str) -> None:
        """Makes networks that follow those of these names, if the model averages its weights."""
        for name in names if self.average else ():
            setattr(self, f"{name}_average", getattr(self, name).copied())

    def final(self, name: str) -> Any:
        """The network of a name as it is evaluated: of averaged weights, where the model has them."""
        return getattr(self, f"{name}_average" if self.average else name)

    def dials(self) -> dict[str, Callable[[int], float]]:
        # At first a mean of all weights so far: what the seed gave is forgotten at once.
        return {"average": lambda step: max(1 - self.average, 1 / (step + 1))} if self.average else {}

    def settle(self, batch: Batch) -> None:
        for name, network in self.networks.items():
            if isinstance(network, nn.MLP):
                network.keep_moments()
            if average := self.networks.get(f"{name}_average"):
                average.follow(network, batch.dial("average"))

    # --- samples ------------------------------------------------------------------------------------

    def decode(self, z: Any) -> Any:
        """What the decoder makes of codes: (N, latent_dim) gives (N, input_dim) float32, looking like the data."""
        rows = as_rows(self.backend, z, "z", self.latent_dim, pixels=False)
        return map_chunks(self.backend, self.data_of, rows, self.input_dim)

    def data_of(self, z: Tensor) -> Tensor:
        """What `decode` gives for codes on the device, (B, input_dim)."""
        return self.shown(self.in_units(z))

    def shown(self, z: Tensor) -> Tensor:
        """What the decoder makes of what it takes, as it is evaluated, looking like the data."""
        return self.as_data(self.final("decoder")(z, OUTPUTS[str(self.output)]))

    def sample(self, n: int, *, on_device: bool = False) -> Any:
        """(n, input_dim): decoded samples of the prior, an array of the device if asked. Every call draws new ones."""
        return self.decode(self.sample_prior(n, on_device=on_device))

    def sample_prior(self, n: int, *, on_device: bool = False) -> Any:
        """(n, latent_dim) samples of the prior, as an array of the device if asked. Every call draws new ones."""
        self.sampler.advance()
        z = self.draws["z"](self.sampler, count("n", n))
        if on_device:
            return self.backend.array(z)
        return self.backend.to_host(z).astype(np.float32, copy=False)
