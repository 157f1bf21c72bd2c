"""A class y and a style z for every row: the encoder q(y, z|x) that sections 5, 6 and 7 of the paper share.

A trunk has two heads: logits of y, whose softmax the rest of the model sees, and z. Two discriminators force the
aggregated posteriors of y and z onto a categorical distribution and onto any prior.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np

from ..arguments import count
from ..core.random import Generator
from ..data.rows import Rows, as_rows, map_chunks
from ..functions import adversarial_bce, concat, pull, rows, softmax, softmax_cross_entropy
from ..functions.tensor import Tensor
from ..nn import Standardise
from ..options import COUNTS, SWITCH, again, integer, number, option
from ..priors import CATEGORICAL, Categorical, Prior
from .autoencoder import NORMED, Autoencoder
from .batch import Batch
from .health import EARLY
from .labelled import class_weights
from .model import Losses
from .phase import Phase

RECONSTRUCTION = Phase("reconstruction", moves=("trunk", "label_head", "style_head", "decoder"))
DISCRIMINATOR = Phase("discriminator", ("label_critic", "style_critic"), equilibrium=4 * math.log(2), game=True)
GENERATOR = Phase("generator", ("trunk", "label_head", "style_head"), equilibrium=2 * math.log(2), game=True)
CLASSIFICATION = Phase("classification", moves=("trunk", "label_head"))
JOINT = {"joint": [True]}  # beside which the weights of losses count
USED, SURE = "classes_used", "confidence"


@dataclass(eq=False, repr=False)
class ClassAndStyle(Autoencoder):
    """The networks, the three phases of the paper and one update for all of them, and what can be done after training.

    A subclass declares the options `prior` and `reconstruction`, and says how many `categories` y has.
    """

    _: KW_ONLY
    standardise: bool = again(Autoencoder, "standardise", True)
    input_dropout: float = again(Autoencoder, "input_dropout", 0.2)
    batch_norm: str = again(Autoencoder, "batch_norm", "encoder")
    batch_statistics: str = again(Autoencoder, "batch_statistics", "recomputed")
    label_prior: Categorical | None = option(  # noqa: RUF009
        CATEGORICAL, "p(y), a categorical distribution; equal probabilities by default", default=None
    )
    joint: bool = option(
        SWITCH, "one update of encoder and decoder for all of their losses, instead of the phases of the paper",
        default=True,
    )  # fmt: skip
    generator_weight: float = option(
        number(0.0), "of the generator's losses beside the reconstruction, in a joint update", default=0.1,
        beside=JOINT,
    )  # fmt: skip
    warm_up: int = option(
        integer(0), "steps over which the part of y in that weight grows from 0", default=3000, beside=JOINT
    )
    critic_hidden: Sequence[int] | None = option(
        COUNTS, "features of the discriminators' hidden layers; hidden by default", default=None
    )
    critic_noise: float = option(
        number(0.0), "standard deviation of noise on what the discriminators take while training", default=0.0
    )
    label_smoothing: float = option(
        number(0.0, 1.0), "share of a sample of p(y) that is spread over all classes", default=0.0
    )

    @property
    @abstractmethod
    def categories(self) -> int:
        """How many classes, or clusters, y is one of."""

    @property
    def learns_labels(self) -> bool:
        """Whether steps take labelled rows besides."""
        return "labelled" in self.streams

    def complete(self) -> None:
        super().complete()
        self.critic_hidden = self.hidden if self.critic_hidden is None else self.critic_hidden
        self.label_prior = Categorical() if self.label_prior is None else self.label_prior
        if self.label_prior.fixed_dim not in (None, self.categories):
            expected = f"{self.categories} weights, one for each class"
            raise ValueError(f"label_prior: expected {expected}, got {self.label_prior.fixed_dim}")
        if self.joint:
            said = [p if p.name in ("reconstruction", "discriminator") else replace(p, moves=()) for p in self.phases]
            vars(self)["phases"] = tuple(said)  # of this model: the class has the paper's

    def build(self) -> None:
        self.healths = {}
        self.inputs = self.units_of_data()
        self.codes = Standardise(self.backend, self.latent_dim) if self.standardise else None
        norm = "all" if NORMED[self.batch_norm][0] == "all" else "none"
        self.trunk = self.mlp(
            self.input_dim, *self.hidden, output=self.activation, last=False, **self.of_encoder()
        )  # fmt: skip
        self.label_head = self.mlp(self.hidden[-1], self.categories, batch_norm=norm)
        self.style_head = self.mlp(self.hidden[-1], self.latent_dim, batch_norm=norm)
        self.build_decoder(self.decoded_features)
        critic = (*(self.critic_hidden or ()), 1)
        self.label_critic = self.mlp(self.categories, *critic, noise=self.critic_noise)
        self.style_critic = self.mlp(self.latent_dim, *critic, noise=self.critic_noise)
        self.keep_averages("trunk", "label_head", "style_head", "decoder")

    @property
    def decoded_features(self) -> int:
        """Features that the decoder takes."""
        return self.categories + self.latent_dim

    def joined(self, y: Tensor, z: Tensor, *, train: bool = False) -> Tensor:
        """What the decoder takes of y (B, categories) and z (B, latent_dim), while it trains or as it is evaluated."""
        return concat((y, z))

    # --- what training needs ------------------------------------------------------------------------

    def priors(self) -> dict[str, tuple[Prior, int]]:
        assert isinstance(self.label_prior, Prior)
        return {**super().priors(), "y": (self.label_prior, self.categories)}

    def dials(self) -> dict[str, Callable[[int], float]]:
        return super().dials() | {"warm_up": lambda step: min(step / self.warm_up, 1.0) if self.warm_up else 1.0}

    def ratios(self) -> dict[str, tuple[float, str, str]]:
        return {"generator_weight": (self.generator_weight, "generator", "reconstruction")} if self.joint else {}

    def parts(self, x: Tensor, rng: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Logits of y (B, categories) and z (B, latent_dim) of rows x; whoever trains gives random numbers."""
        trunk, label, style = (
            self.final(name) if rng is None else getattr(self, name) for name in ("trunk", "label_head", "style_head")
        )
        h = trunk(self.seen(x), rng=rng)
        return label(h, rng=rng), style(h, rng=rng)

    def logits(self, seen: Tensor, rng: Generator) -> Tensor:
        """Logits of y alone, of what the trunk takes, while training."""
        return self.label_head(self.trunk(seen, rng=rng), rng=rng)

    def code(self, x: Tensor, rng: Generator, *, sample: bool = True, train: bool = True) -> Tensor:
        logits, z = self.parts(x, rng if train else None)
        return self.joined(softmax(logits), z, train=train)

    def steps(self, batch: Batch) -> Iterator[Losses]:
        """One training step, in the phases of the paper or jointly."""
        if self.joint:
            yield from self._together(batch)
            return
        yield from self.autoencode(batch)
        yield from self.regularise(batch)
        if self.learns_labels:
            yield from self.classify(batch)

    def autoencode(self, batch: Batch) -> Iterator[Losses]:
        """The reconstruction phase."""
        reconstruction = self.distance(self.decoder(self.code(batch.x, batch.rng), rng=batch.rng), batch.x)
        yield "reconstruction", reconstruction, *self.separated(self.left(reconstruction, len(batch)))

    def regularise(self, batch: Batch) -> Iterator[Losses]:
        """The two halves of the regularisation phase, both with the same codes."""
        logits, z = self.parts(batch.x, batch.rng)
        y = softmax(logits)
        yield "discriminator", *self.told_apart(batch, y, z)
        yield "generator", *self.passed(batch, y, z)

    def classify(self, batch: Batch) -> Iterator[Losses]:
        """The semi-supervised classification phase."""
        loss = softmax_cross_entropy(self.logits(self.seen(batch.labelled.x), batch.rng), batch.labelled.y)
        beside = [pull(part, *factors) for part, *factors in self.consistent(batch)]
        yield "classification", loss, *beside

    def _together(self, batch: Batch) -> Iterator[Losses]:
        """All losses of encoder and decoder in one update, from one pass, with a common measure.

        They are weighed by what is left to reconstruct, so that neither the scale of the data nor how many features
        they have changes how they compare.
        """
        n, labels = len(batch), self.learns_labels
        logits, z = self.parts(concat((batch.x, batch.labelled.x), axis=0) if labels else batch.x, batch.rng)
        unlabelled, z = (rows(logits, 0, n), rows(z, 0, n)) if labels else (logits, z)
        y = softmax(unlabelled)
        reconstruction = self.distance(self.decoder(self.joined(y, z, train=True), rng=batch.rng), batch.x)
        left = self.left(reconstruction, n)
        of_label, of_style = self.passed(batch, y, z)
        weight = batch.dial("generator_weight")
        pulled = [pull(of_label, left, weight, batch.dial("warm_up")), pull(of_style, left, weight)]
        if labels:
            classification = softmax_cross_entropy(rows(logits, n, logits.shape[0]), batch.labelled.y)
            weight = batch.dial("classification_weight")
            pulled += [pull(classification, left, weight)]
            pulled += [pull(part, left, weight, *factors) for part, *factors in self.consistent(batch, y)]
        yield "reconstruction", reconstruction, *pulled, *self.separated(left)
        yield "discriminator", *self.told_apart(batch, y, z)
        yield "generator", of_label, of_style
        if labels:
            yield "classification", classification

    def told_apart(self, batch: Batch, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of the two discriminators: samples of p(y) and p(z) against y and z."""
        samples = self.smoothed(batch.draw("y")), self.in_units(batch.draw("z"))
        real_y, real_z = (
            critic(concat((real, fake.detach()), axis=0), rng=batch.rng)
            for critic, real, fake in zip((self.label_critic, self.style_critic), samples, (y, z), strict=True)
        )
        return adversarial_bce(real_y, real=len(batch)), adversarial_bce(real_z, real=len(batch))

    def passed(self, batch: Batch, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of the generator: y and z should pass for samples of p(y) and p(z)."""
        logits = self.label_critic(y, rng=batch.rng), self.style_critic(z, rng=batch.rng)
        return adversarial_bce(logits[0], real=len(batch)), adversarial_bce(logits[1], real=len(batch))

    def smoothed(self, y: Tensor) -> Tensor:
        """Samples of p(y) of which a share is spread over all classes."""
        if not self.label_smoothing:
            return y
        launch, out = self.backend.launch, self.backend.empty(y.shape)
        launch("fill", (out,), (out.size,), (self.label_smoothing / ((1 - self.label_smoothing) * y.shape[1]),))
        launch("copy", (y.buffer, out), (out.size, 1))
        launch("scale", (out,), (out.size,), (1 - self.label_smoothing,))
        return Tensor(out)

    def consistent(self, batch: Batch, y: Tensor | None = None) -> Iterator[tuple[Tensor, ...]]:
        """Losses on q(y|x) besides, each with the dials that it is weighed by; `y` of the batch if it is there."""
        yield from ()

    def separated(self, left: Tensor) -> tuple[Tensor, ...]:
        """Losses of what the decoder takes, weighed by what is left to reconstruct; none by default."""
        return ()

    def set_moments(self, seen: list[Tensor]) -> None:
        h = self.final("trunk").set_moments(seen)
        y, z = self.final("label_head").set_moments(h), self.final("style_head").set_moments(h)
        if self.final("decoder").norms:
            self.final("decoder").set_moments([self.joined(softmax(a), b) for a, b in zip(y, z, strict=True)])

    def measured(self, x: Tensor, rng: Generator) -> Tensor:
        return self.in_own_units(self.parts(x)[1])

    def health(self, x: Rows) -> dict[str, float]:
        """That of the style, and of y: how many classes are used, e to the entropy of the mean, and how sure it is."""
        p = self.probabilities(self.looked_at(x)).numpy().astype(np.float64)
        mean = p.mean(axis=0)
        used = math.exp(-float((mean * np.log(np.maximum(mean, np.finfo(np.float32).tiny))).sum()))
        return super().health(x) | {USED: used, SURE: float(p.max(axis=1).mean())}

    def advice(self, row: Mapping[str, Any]) -> str:
        used, expected = row.get(USED), self._expected_use()
        if isinstance(used, float) and used < expected / 2 and row["step"] > max(EARLY, 2 * self.warm_up):
            remedy = "batch_norm='codes', input_dropout, or "
            remedy += "another generator_weight" if self.joint else "another rate of the generator"
            return f"y uses {used:.1f} classes, by its entropy, where its prior has {expected:.1f}; try {remedy}"
        return super().advice(row)

    def _expected_use(self) -> float:
        """How many classes p(y) uses, e to its entropy."""
        weights = np.asarray(getattr(self.label_prior, "weights", None) or np.ones(self.categories), np.float64)
        p = weights[weights > 0] / weights.sum()
        return math.exp(-float((p * np.log(p)).sum()))

    # --- what is done with it -----------------------------------------------------------------------

    def probabilities(self, x: Tensor) -> Tensor:
        """q(y|x) of rows on the device, as it is evaluated, (B, categories)."""
        return softmax(self.parts(x)[0])

    def predict_proba(self, x: Any) -> Any:
        """q(y|x) of rows x (N, input_dim): (N, categories) float32, each row with the sum 1."""
        return map_chunks(self.backend, self.probabilities, self.rows_of(x), self.categories)

    def predict(self, x: Any) -> np.ndarray:
        """The most probable class, or cluster, of rows x (N, input_dim): (N,) int64."""
        p = self.predict_proba(x)
        return np.asarray((p if isinstance(p, np.ndarray) else p.get()).argmax(axis=1), np.int64)

    def encode(self, x: Any, *, sample: bool = False) -> Any:
        """Styles z of rows x (N, input_dim), float or uint8: (N, latent_dim) float32. They are no draws."""
        return map_chunks(self.backend, lambda x: self.in_own_units(self.parts(x)[1]), self.rows_of(x), self.latent_dim)

    def decode(self, z: Any, y: Any = None) -> Any:
        """What the decoder makes of styles and classes, looking like the data.

        Args:
            z: (N, latent_dim) styles.
            y: (N,) labels, or (N, categories) numbers, such as probabilities.

        Returns:
            (N, input_dim) float32.

        Raises:
            ValueError, TypeError: another shape, or labels that the model does not know.
        """
        styles = as_rows(self.backend, z, "z", self.latent_dim, pixels=False)

        def decoded(z: Tensor, y: Tensor) -> Tensor:
            return self.shown(self.joined(y, self.in_units(z)))

        return map_chunks(self.backend, decoded, styles, self.input_dim, self.as_probabilities(y, len(styles)))

    def reconstruct(self, x: Any) -> Any:
        """What the decoder makes of q(y|x) and z of rows x: (N, input_dim) float32, on the scale of floats."""

        def again(chunk: Tensor) -> Tensor:
            return self.shown(self.code(chunk, self.sampler, train=False))

        return map_chunks(self.backend, again, self.rows_of(x), self.input_dim)

    def sample(self, n: int, y: Any = None, *, on_device: bool = False) -> Any:
        """(n, input_dim): decoded samples of p(z) and p(y), or of the classes y (n,). Every call draws new ones."""
        z = self.sample_prior(n, on_device=on_device)
        if y is None:
            y = self.backend.to_host(self.draws["y"](self.sampler, count("n", n)))
        return self.decode(z, y)

    def as_probabilities(self, y: Any, n: int) -> np.ndarray:
        """Labels (n,), or numbers (n, categories), as (n, categories) float32.

        Raises:
            ValueError, TypeError: neither, another length, or labels that the model does not know.
        """
        return class_weights(self, y, n, self.categories)
