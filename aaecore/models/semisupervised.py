"""Semi-supervised learning: section 5, figure 8 and table 2 of Makhzani et al. (2015, arXiv 1511.05644).

Rows without a label learn to be reconstructed from a class y and a style z whose aggregated posteriors two
discriminators force onto a categorical distribution and a Gaussian; the few rows with a label say which class is which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY
from typing import ClassVar

from ..functions import softmax, translate
from ..functions.tensor import Tensor
from ..options import COUNT, COUNTS, integer, number, one_of, option
from ..priors import PRIOR, HostSampler, Prior
from . import consistency
from .batch import Batch
from .class_style import CLASSIFICATION, DISCRIMINATOR, GENERATOR, RECONSTRUCTION
from .classifier import Classifier
from .model import Losses
from .phase import Phase
from .registry import model

CONSISTENT = {"consistency": [kind for kind in consistency.KINDS if kind != "none"]}  # beside which its options count


@model
class SemiSupervisedAAE(Classifier):
    """A semi-supervised adversarial autoencoder of fully connected networks.

    Args:
        input_dim: features of x.
        latent_dim: features of the style z.
        hidden: features of the hidden layers of the encoder; the decoder has them in reverse order.
        prior: p(z) of the style, N(0, I) by default; as of `AAE`.
        reconstruction: "bce" or "mse", as of `AAE`.
        classes: how many there are.
        labels: what the user calls them; see `models.labelled.Labelled`.
        label_prior: p(y), a `priors.Categorical`, for classes that are not equally frequent.
        joint: encoder and decoder take one update for all of their losses; False gives the phases of the paper.
        generator_weight: of the generator's losses in a joint update, by what is left to reconstruct.
        classification_weight: of the cross-entropy of labelled rows there.
        warm_up: steps over which the generator's loss of y grows from 0; in a joint update.
        critic_hidden: features of the discriminators' hidden layers; `hidden` by default.
        critic_noise: standard deviation of noise on what the discriminators take while training.
        label_smoothing: share of a sample of p(y) that is spread over all classes.
        consistency: "none"; beyond the paper "translation" of images, "noise", or "adversarial" steps; needs training
            noise of its own in the case of "noise": input_noise or input_dropout.
        consistency_weight: of that loss beside the classification's.
        consistency_warm_up: steps over which it grows from 0.
        image_shape: height and width of rows that are images, for "translation".
        most_shift: pixels that an image moves at most in each direction, for "translation".
        radius: of "adversarial" steps, in units of what the encoder takes.
        standardise, standardise_each, input_noise, input_dropout, batch_norm, batch_statistics, average: as of `AAE`.
        output, activation, precision, init, device, seed: as of `AAE`.

    Labelled rows come as `fit(x, epochs, y=labels)`, where -1 is no label.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the style z", default=10)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    prior: Prior | HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:1")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    classes: int = option(COUNT, "classes of y", of_data=True)
    consistency: str = option(
        one_of(*consistency.KINDS), "of q(y|x), beyond the paper: none, translation, noise or adversarial",
        default="none",
    )  # fmt: skip
    consistency_weight: float = option(
        number(0.0), "of that loss beside the classification's", default=2.0, beside=CONSISTENT
    )
    consistency_warm_up: int = option(
        integer(0), "steps over which that weight grows from 0", default=2000, beside=CONSISTENT
    )
    image_shape: Sequence[int] | None = option(
        COUNTS, "height and width of rows that are images, for translation", default=None, of_data=True
    )
    most_shift: int = option(
        COUNT, "pixels that an image moves at most, for translation", default=2, beside={"consistency": ["translation"]}
    )
    radius: float = option(
        number(0.0), "of adversarial steps, in units of what the encoder takes", default=2.0,
        beside={"consistency": ["adversarial"]},
    )  # fmt: skip

    phases: ClassVar[tuple[Phase, ...]] = (RECONSTRUCTION, DISCRIMINATOR, GENERATOR, CLASSIFICATION)

    def complete(self) -> None:
        super().complete()
        shape = self.image_shape or ()
        if self.consistency == "translation" and (len(shape) != 2 or self.input_dim % math.prod(shape)):
            expected = f"height and width that divide the {self.input_dim} features, for consistency='translation'"
            raise ValueError(f"image_shape: expected {expected}, got {self.image_shape}")
        if self.consistency == "noise" and not (self.input_noise or self.input_dropout):
            raise ValueError("consistency: expected input_noise or input_dropout > 0 beside 'noise', got none")

    def dials(self) -> dict[str, Callable[[int], float]]:
        if self.consistency == "none":
            return super().dials()
        steps, weight = self.consistency_warm_up, self.consistency_weight
        return super().dials() | {"consistency": lambda step: weight * (min(step / steps, 1.0) if steps else 1.0)}

    def step(self, batch: Batch) -> Iterator[Losses]:
        yield from self.steps(batch)

    def consistent(self, batch: Batch, y: Tensor | None = None) -> Iterator[tuple[Tensor, ...]]:
        if self.consistency == "none":
            return
        seen, rng = self.seen(batch.x), batch.rng
        p = softmax(self.logits(seen, rng)) if y is None else y
        if self.consistency == "translation":
            assert self.image_shape is not None
            seen = self.seen(translate(batch.x, rng, self.image_shape, self.most_shift))
        elif self.consistency == "adversarial":
            seen = consistency.adversarial(seen, p, lambda x: self.logits(x, rng), rng, self.radius)
        yield consistency.divergence(self.logits(seen, rng), p), batch.dial("consistency")
