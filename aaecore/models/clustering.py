"""Unsupervised clustering: section 6, figure 9 and table 3 of Makhzani et al. (2015, arXiv 1511.05644).

The semi-supervised model without its labels: y becomes the cluster of a row, z its style.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np

from ..options import COUNT, COUNTS, again, integer, one_of, option
from ..priors import PRIOR, HostSampler, Prior
from .batch import Batch
from .class_style import DISCRIMINATOR, GENERATOR, RECONSTRUCTION, ClassAndStyle
from .model import Losses
from .phase import Phase
from .registry import model


@model
class ClusteringAAE(ClassAndStyle):
    """An adversarial autoencoder that finds clusters, of fully connected networks.

    Args:
        input_dim: features of x.
        latent_dim: features of the style z.
        hidden: features of the hidden layers of the encoder; the paper has (3000, 3000).
        prior: p(z) of the style, N(0, I) by default; as of `AAE`.
        reconstruction: "bce" or "mse", as of `AAE`.
        clusters: how many there are at most.
        label_prior: p(y), a `priors.Categorical`; equal probabilities by default.
        joint, generator_weight, warm_up, critic_hidden, critic_noise, label_smoothing: as of `SemiSupervisedAAE`.
        standardise, standardise_each, input_noise, input_dropout, batch_norm, batch_statistics, average: as of `AAE`.
        output, activation, precision, init, device, seed: as of `AAE`.

    Raises:
        ValueError, TypeError: a bad argument. DeviceError: as of `AAE`.
    """

    latent_dim: int = option(COUNT, "features of the style z", default=5)
    hidden: Sequence[int] = option(COUNTS, "features of the hidden layers", default=(1000, 1000))
    prior: Prior | HostSampler | None = option(PRIOR, "p(z)", default=None, run="normal:1")
    reconstruction: str = option(one_of("bce", "mse"), "bce (data in [0, 1]) or mse", default="bce")
    _: KW_ONLY
    clusters: int = option(integer(2), "clusters of y", default=16)
    batch_norm: str = again(ClassAndStyle, "batch_norm", "codes")
    generator_weight: float = again(ClassAndStyle, "generator_weight", 0.3)
    warm_up: int = again(ClassAndStyle, "warm_up", 0)  # without labels a soft y would be past help by then

    phases: ClassVar[tuple[Phase, ...]] = (RECONSTRUCTION, DISCRIMINATOR, GENERATOR)

    @property
    def categories(self) -> int:
        return self.clusters

    def step(self, batch: Batch) -> Iterator[Losses]:
        yield from self.steps(batch)

    def cluster_heads(self) -> Any:
        """What the decoder makes of each cluster with a style of zero, (clusters, input_dim) float32: figure 9."""
        return self.decode(np.zeros((self.clusters, self.latent_dim), np.float32), np.arange(self.clusters))
