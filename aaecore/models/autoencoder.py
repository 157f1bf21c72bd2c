"""Models with an encoder and a decoder: what can be done with them once they are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from ..arguments import choice
from ..core.random import Generator
from ..data.rows import CHUNK, Rows, as_rows, chunks, map_chunks, picked, spread
from ..functions import above_entropy, bce_with_logits, combined, half_squared_error, weighted
from ..functions.tensor import Tensor
from ..options import number, one_of, option
from .evaluated import Evaluated
from .generative import OUTPUTS, Generative
from .health import SAMPLE, Health, advice
from .posteriors import Posterior

NORMED = {  # batch norm of encoder and decoder, see `nn.MLP`
    "none": ("none", "none"), "encoder": ("hidden", "none"), "codes": ("all", "none"), "hidden": ("hidden", "hidden"),
    "all": ("all", "all"),
}  # fmt: skip
REFRESHED = 5_000  # rows that recomputed moments are taken of


class _Declared:
    """An option that every autoencoder declares itself: it stands at different places among its arguments."""

    reconstruction: str


@dataclass(eq=False, repr=False)
class Autoencoder(Generative, Evaluated, _Declared):
    """A model with an `encoder`, whose codes are draws of a posterior `q`, and a `decoder`.

    A subclass declares the options `prior` and `reconstruction`, and calls `build_autoencoder`.
    """

    _: KW_ONLY
    output: str | None = option(
        one_of(*OUTPUTS), "of the decoder: sigmoid or linear; fits reconstruction", default=None
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
        if self.output is None:
            self.output = "sigmoid" if self.reconstruction == "bce" else "linear"
        if (self.reconstruction, self.output) == ("bce", "linear"):
            raise ValueError(
                "output: reconstruction='bce' works on the logits of a sigmoid and needs 'sigmoid', got 'linear'"
            )
        super().complete()

    def build_autoencoder(self, q: Posterior) -> None:
        """Makes the two networks for a posterior q(z|x)."""
        self.q = q
        self.healths: dict[int, Health] = {}  # by how many codes are looked at
        self.inputs = self.units_of_data()
        self.codes = None  # of models that work in units of the prior
        self.encoder = self.mlp(q.inputs(self.input_dim), *self.hidden, q.outputs(), **self.of_encoder())
        self.build_decoder(self.latent_dim)
        self.keep_averages("encoder", "decoder")

    def of_encoder(self) -> dict[str, Any]:
        """The settings of a network that takes data."""
        return {
            "batch_norm": NORMED[self.batch_norm][0], "noise": self.input_noise, "dropout": self.input_dropout,
        }  # fmt: skip

    def of_decoder(self) -> dict[str, Any]:
        # The cross-entropy works on logits, so its decoder has no output activation; `decode` applies the sigmoid.
        settings = super().of_decoder() if self.reconstruction == "mse" else {"output": "identity"}
        return settings | {"batch_norm": NORMED[self.batch_norm][1]}

    def any_range(self) -> str:
        return super().any_range() if self.reconstruction == "mse" else "reconstruction='mse', output='linear'"

    def code(self, x: Tensor, rng: Generator, *, sample: bool = True, train: bool = True) -> Tensor:
        """A draw of q(z|x) in the networks' units on the device, with history; or without `sample` its centre.

        Without `train` of the networks as they are evaluated.
        """
        encoder = self.encoder if train else self.final("encoder")
        return self.q.code(encoder, self.seen(x), rng, sample=sample, train=train)

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
            shown, seen = self.as_data(decoded), x
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
            return self.codes_of(chunk, self.sampler, sample=sample)

        return map_chunks(self.backend, code, self.rows_of(x), self.latent_dim)

    def codes_of(self, x: Tensor, rng: Generator, *, sample: bool = False) -> Tensor:
        """What `encode` gives for rows on the device, (B, latent_dim)."""
        return self.in_own_units(self.code(x, rng, sample=sample, train=False))

    def rows_of(self, x: Any) -> Rows:
        """Rows to encode: of any range, since outliers have codes too."""
        return as_rows(self.backend, x, "x", self.input_dim)

    def reconstruct(self, x: Any) -> Any:
        """decode(encode(x)): on the scale of floats. uint8 rows stand for 0..1, so compare with ``x / 255``."""
        return self.decode(self.encode(x))

    def losses_of(self, rows: Rows, reduction: str) -> float | np.ndarray:
        decoder = self.final("decoder")
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
        return self.in_own_units(self.code(x, rng, train=False))

    def _drawn(self, rng: Generator, n: int) -> np.ndarray:
        """(n, latent_dim) samples of the prior on the host."""
        sizes = self.priors()["z"][0].sizes(n)
        return np.concatenate([self.backend.to_host(self.draws["z"](rng, size)) for size in sizes])

    def advice(self, row: Mapping[str, Any]) -> str:
        return advice(row)
