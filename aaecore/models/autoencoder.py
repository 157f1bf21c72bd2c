"""Models with an encoder and a decoder: what can be done with them once they are trained.

Arrays of NumPy in, arrays of NumPy out; on a GPU also arrays of the device in, arrays of CuPy out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, overload

import numpy as np

from .. import nn
from ..arguments import choice, count
from ..core.random import Generator
from ..data.rows import CHUNK, Rows, as_rows, chunks, map_chunks, moments, picked, spread
from ..data.table import Column, Table
from ..functions import above_entropy, bce_with_logits, combined, half_squared_error, weighted
from ..functions.tensor import Tensor
from ..options import COUNT, COUNTS, SWITCH, number, one_of, option
from ..priors import HostSampler, Normal, Prior, as_prior
from .batch import Batch
from .health import SAMPLE, Health, advice
from .model import Model
from .posteriors import Posterior

STANDARDISE = "networks work with data and codes without their mean, in a common unit"
OUTPUTS = {"sigmoid": "sigmoid", "linear": "identity"}
NORMED = {  # batch norm of encoder and decoder, see `nn.MLP`
    "none": ("none", "none"), "encoder": ("hidden", "none"), "codes": ("all", "none"), "hidden": ("hidden", "hidden"),
    "all": ("all", "all"),
}  # fmt: skip
REFRESHED = 5_000  # rows that recomputed moments are taken of


def logit(mean: np.ndarray) -> np.ndarray:
    p = np.clip(mean, 0.01, 0.99)  # a feature that is always 0 must not begin at minus infinity
    return np.log(p / (1 - p))


class _Declared:
    """Options that every autoencoder declares itself: they stand at different places among its arguments."""

    prior: Prior | HostSampler | None
    reconstruction: str


@dataclass(eq=False, repr=False)
class Autoencoder(Model, _Declared):
    """A model with an `encoder`, whose codes are draws of a posterior `q`, and a `decoder`.

    A subclass declares the options `prior` and `reconstruction`, and calls `build_autoencoder`.
    """

    input_dim: int = option(COUNT, "features of x", of_data=True)
    latent_dim: int = option(COUNT, "features of the code", run=8)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    _: KW_ONLY
    output: str | None = option(
        one_of(*OUTPUTS), "of the decoder: sigmoid or linear; fits reconstruction", default=None
    )
    standardise: bool = option(SWITCH, STANDARDISE, default=False)
    standardise_each: bool = option(
        SWITCH, "the unit of the data is of each feature, and so are losses; for a linear output", default=False
    )
    input_noise: float = option(
        number(0.0), "standard deviation of noise on what the encoder takes while training", default=0.0
    )
    input_dropout: float = option(
        number(0.0, 1.0), "probability with which a number that the encoder takes is 0 while training", default=0.0
    )
    batch_norm: str = option(
        one_of(*NORMED), "none; of the encoder in hidden layers (encoder) or all (codes); of the decoder as well in "
        "hidden layers (hidden) or all", default="none",
    )  # fmt: skip
    batch_statistics: str = option(
        one_of("running", "recomputed"), "of batch norm for evaluation: a running average of batches, or those of rows "
        "as they are, recomputed after every epoch", default="running",
        beside={"batch_norm": [norm for norm in NORMED if norm != "none"]},
    )  # fmt: skip
    average: float = option(
        number(0.0, 1.0), "decay of a moving average of the weights, which evaluation uses; 0 for none", default=0.0
    )

    def complete(self) -> None:
        self.prior = Normal() if self.prior is None else self.prior
        if self.output is None:
            self.output = "sigmoid" if self.reconstruction == "bce" else "linear"
        if (self.reconstruction, self.output) == ("bce", "linear"):
            raise ValueError(
                "output: reconstruction='bce' works on the logits of a sigmoid and needs 'sigmoid', got 'linear'"
            )
        if self.standardise_each and (self.output != "linear" or not self.standardise):
            came = f"standardise={self.standardise}, output={self.output!r}"
            raise ValueError(f"standardise_each: expected standardise=True, output='linear' besides, got {came}")

    def build_autoencoder(self, q: Posterior) -> None:
        """Makes the two networks for a posterior q(z|x)."""
        self.q = q
        self.healths: dict[int, Health] = {}  # by how many codes are looked at
        self.inputs = self.units_of_data()
        self.codes: nn.Units | None = None  # of models that work in units of the prior
        self.encoder = self.mlp(q.inputs(self.input_dim), *self.hidden, q.outputs(), **self.of_encoder())
        self.build_decoder(self.latent_dim)
        self.keep_averages("encoder", "decoder")

    def units_of_data(self) -> nn.Units | None:
        """What the networks take instead of data as they are."""
        units = nn.StandardiseEach if self.standardise_each else nn.Standardise
        return units(self.backend, self.input_dim) if self.standardise else None

    def of_encoder(self) -> dict[str, Any]:
        """The settings of a network that takes data."""
        return {
            "batch_norm": NORMED[self.batch_norm][0], "noise": self.input_noise, "dropout": self.input_dropout,
        }  # fmt: skip

    def build_decoder(self, features: int) -> None:
        """Makes the network that takes so many features."""
        # The cross-entropy works on logits, so its decoder has no output activation; `decode` applies the sigmoid.
        activation = OUTPUTS[str(self.output)] if self.reconstruction == "mse" else "identity"
        sizes = (features, *reversed(self.hidden), self.input_dim)
        self.decoder = self.mlp(*sizes, output=activation, batch_norm=NORMED[self.batch_norm][1])

    def columns(self) -> dict[str, Column]:
        if self.output == "linear":
            return {"x": Column(self.input_dim)}
        others = "output='linear'" if self.reconstruction == "mse" else "reconstruction='mse', output='linear'"
        return {"x": Column(self.input_dim, "unit", f"give the model {others}, which suit numbers of any range")}

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
            mean, std, rows = moments(self.backend, x, each=self.standardise_each)
            of_prior = self.priors()["z"][0].moments(self.latent_dim)
            with self.owner.whole:  # they belong together
                try:
                    if self.codes is not None:
                        self.codes.set("prior", *of_prior, rows)
                    if "decoder" in moving and self.output == "sigmoid":
                        for decoder in {self.decoder, self.final("decoder")}:
                            self.backend.upload(decoder.offset.buffer, logit(mean))
                    self.inputs.set("x", mean, std, rows)  # in the end: after an interrupt all of it is done again
                finally:
                    self.untouched = self.writes.count  # nobody else changed anything
        self.begun = True

    def forget(self) -> None:
        for units in (self.inputs, self.codes):
            if units is not None:
                units.set("state_dict", np.zeros(units.features), 1.0, 1)
        self.begun = True

    def seen(self, x: Tensor) -> Tensor:
        """x as the encoder takes it."""
        return x if self.inputs is None else self.inputs(x)

    def in_units(self, z: Tensor) -> Tensor:
        """Codes as the networks have them."""
        return z if self.codes is None else self.codes(z)

    def _back(self, z: Tensor) -> Tensor:
        """Codes as users have them."""
        return z if self.codes is None else self.codes.back(z)

    def code(self, x: Tensor, rng: Generator, *, sample: bool = True, train: bool = True) -> Tensor:
        """A draw of q(z|x) in the networks' units on the device, with history; or without `sample` its centre.

        Without `train` of the networks as they are evaluated.
        """
        encoder = self.encoder if train else self.final("encoder")
        return self.q.code(encoder, self.seen(x), rng, sample=sample, train=train)

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

    def refresh(self, x: Rows) -> None:
        if self.batch_norm != "none" and self.batch_statistics == "recomputed":
            index = spread(x, REFRESHED)
            parts = [index[i : i + CHUNK] for i in range(0, len(index), CHUNK)]
            self.set_moments([self.seen(Tensor(picked(self.backend, x, part))) for part in parts])

    def set_moments(self, seen: list[Tensor]) -> None:
        """Sets the moments of layers with batch norm to those that rows give, as `seen` makes them."""
        encoder, decoder = self.final("encoder"), self.final("decoder")
        encoder.set_moments([self.q.taken(x, self.sampler, sample=False) for x in seen])
        if decoder.norms:
            decoder.set_moments([self.q.code(encoder, x, self.sampler, sample=False) for x in seen])

    def distance(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Between x and what the decoder made: summed over features, a mean over the batch."""
        if self.reconstruction == "bce":
            return bce_with_logits(decoded, x)
        if self.inputs is None or self.output == "sigmoid":
            return half_squared_error(decoded, x)
        return weighted(half_squared_error(decoded, self.inputs(x)), Tensor(self.inputs.variance))

    def _shown(self, decoded: Tensor) -> Tensor:
        """What the decoder made, as the data are."""
        return self.inputs.back(decoded) if self.inputs is not None and self.output == "linear" else decoded

    def left(self, distance: Tensor, batch: int) -> Tensor:
        """What is left to reconstruct, (1,): a distance without what no reconstruction can reach.

        Where the data's variance is known, the distance that leaves a tenth of it is added, so that it never vanishes.
        """
        bce = self.reconstruction == "bce"
        left = above_entropy(distance, batch) if bce else distance.detach()
        if self.inputs is None:
            return left
        tenth = 0.1 * self.input_dim * (2.0 if bce else 0.5)  # of the variance of a feature, as such a distance
        return combined(left, Tensor(self.inputs.variance), tenth)

    def distances(self, decoded: Tensor, x: Tensor) -> np.ndarray:
        """`distance` of each row, (N,) float64, on the host."""
        if type(self).distance is not Autoencoder.distance:  # a formula of its own: row by row
            rows = ((Tensor(t.buffer.rows(i, i + 1)) for t in (decoded, x)) for i in range(len(x.buffer)))
            return np.array([float(self.distance(*row)) for row in rows])
        if self.standardise_each and self.inputs is not None:
            shown, seen = decoded, self.inputs(x)
        else:
            shown, seen = self._shown(decoded), x
        y, target = shown.numpy().astype(np.float64), seen.numpy().astype(np.float64)
        each = np.logaddexp(0, y) - target * y if self.reconstruction == "bce" else (y - target) ** 2 / 2
        return each.sum(axis=1)

    def encode(self, x: Any, *, sample: bool = False) -> Any:
        """Codes of x: (N, input_dim), float or uint8 (scaled by 1/255), gives (N, latent_dim) float32.

        Without `sample` the centre of the posterior: the mean of a Gaussian, f(x, 0) of a universal one.
        """

        def code(chunk: Tensor) -> Tensor:
            if sample:
                self.sampler.advance()
            return self._back(self.code(chunk, self.sampler, sample=sample, train=False))

        return map_chunks(self.backend, code, self.rows_of(x), self.latent_dim)

    def rows_of(self, x: Any) -> Rows:
        """Rows to encode: of any range, since outliers have codes too."""
        return as_rows(self.backend, x, "x", self.input_dim)

    def decode(self, z: Any) -> Any:
        """What the decoder makes of codes: (N, latent_dim) gives (N, input_dim) float32, looking like the data."""
        rows = as_rows(self.backend, z, "z", self.latent_dim, pixels=False)
        return map_chunks(self.backend, lambda z: self.shown(self.in_units(z)), rows, self.input_dim)

    def shown(self, z: Tensor) -> Tensor:
        """What the decoder makes of what it takes, as it is evaluated, looking like the data."""
        return self._shown(self.final("decoder")(z, OUTPUTS[str(self.output)]))

    def reconstruct(self, x: Any) -> Any:
        """decode(encode(x)): on the scale of floats. uint8 rows stand for 0..1, so compare with ``x / 255``."""
        return self.decode(self.encode(x))

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

    @overload
    def evaluate(self, x: Any, reduction: Literal["mean"] = "mean") -> float: ...
    @overload
    def evaluate(self, x: Any, reduction: Literal["none"]) -> np.ndarray: ...

    def evaluate(self, x: Any, reduction: str = "mean") -> float | np.ndarray:
        """The reconstruction loss of x (N, input_dim), codes at the centre of their posterior.

        Args:
            x: float or uint8 (scaled by 1/255), as in training.
            reduction: "mean" over the rows, or "none": a loss for each row, (N,) float64.

        Raises:
            ValueError, TypeError: bad data, or another reduction.
        """
        choice("reduction", reduction, ("mean", "none"))
        rows, decoder = self.check_data(x, "x"), self.final("decoder")
        return self.reduced(((decoder(z), x) for x, z in self._coded(rows)), reduction)

    def reduced(self, pairs: Iterable[tuple[Tensor, Tensor]], reduction: str) -> float | np.ndarray:
        """The reconstruction loss of what the decoder made and the rows that it is to be, in chunks; see `evaluate`."""
        if reduction == "none":
            return np.concatenate([self.distances(decoded, x) for decoded, x in pairs])
        sums = [(float(self.distance(decoded, x)) * x.shape[0], x.shape[0]) for decoded, x in pairs]
        return sum(loss for loss, _ in sums) / sum(rows for _, rows in sums)

    def score_samples(self, x: Any, by: str = "reconstruction") -> np.ndarray:
        """How normal each row of x (N, input_dim) is, (N,) float64: the higher the more, as in scikit-learn.

        Args:
            x: as of `evaluate`; of any range where the reconstruction does not matter.
            by: "reconstruction" takes minus the reconstruction loss, which is the safer choice; "discriminator", of
                models that have one, its log odds that the code is a draw of the prior. It was never shown codes of
                strange rows, so look at both with rows of which you know what they are.

        Raises:
            ValueError, TypeError: bad data, or something that the model does not have.
        """
        has_one = "discriminator" in self.networks
        choice("by", by, ("reconstruction", "discriminator") if has_one else ("reconstruction",))
        return -self.evaluate(x, "none") if by == "reconstruction" else self.odds_of(x)

    def odds_of(self, x: Any) -> np.ndarray:
        """The discriminator's log odds of the codes of rows x (N, input_dim) of any range, (N,) float64."""
        return np.concatenate([self.odds(z).numpy()[:, 0] for _, z in self._coded(self.rows_of(x))]).astype(np.float64)

    def odds(self, z: Tensor) -> Tensor:
        """The discriminator's log odds that what it takes, codes in units, are draws of the prior, (B, 1)."""
        discriminator: Any = self.networks["discriminator"]
        odds: Tensor = discriminator(z)
        return odds

    def _coded(self, *tables: Rows) -> Iterator[tuple[Tensor, ...]]:
        """Rows and what stands beside them, a chunk at a time, and their codes at the centre of the posterior."""
        for chunk in chunks(self.backend, *tables):
            yield *chunk, self.code(chunk[0], self.sampler, sample=False, train=False)

    def health(self, x: Rows) -> dict[str, float]:
        """How well draws of the codes of some rows keep to the prior; see `health.Health.measure`."""
        looked_at = self.looked_at(x)
        n = looked_at.shape[0]
        if n not in self.healths:
            rng = Generator(self.backend, self.seed, first=1 << 17)  # of its own: nobody else's numbers change
            self.healths[n] = Health(*(self._drawn(rng, n) for _ in range(5)))
        rng = Generator(self.backend, self.seed, first=1 << 18)  # the same numbers at every look
        return self.healths[n].measure(self.measured(looked_at, rng).numpy())

    def looked_at(self, x: Rows) -> Tensor:
        """Some rows, spread over all."""
        return Tensor(picked(self.backend, x, spread(x, SAMPLE)))

    def measured(self, x: Tensor, rng: Generator) -> Tensor:
        """The codes that are measured against the prior."""
        return self._back(self.code(x, rng, train=False))

    def _drawn(self, rng: Generator, n: int) -> np.ndarray:
        """(n, latent_dim) samples of the prior on the host."""
        sizes = self.priors()["z"][0].sizes(n)
        return np.concatenate([self.backend.to_host(self.draws["z"](rng, size)) for size in sizes])

    def advice(self, row: Mapping[str, Any]) -> str:
        return advice(row)

    def validate(self, table: Table) -> dict[str, float]:
        return {"validation": self.evaluate(table.columns["x"])}
