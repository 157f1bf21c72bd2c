"""The six networks and batch sizes at which a training step is measured."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Encoder inputs-hidden-hidden-latent, decoder the reverse, discriminator latent-hidden-hidden-1."""

    inputs: int
    hidden: int
    latent: int
    batch: int


SIZES = {
    "a": Size(784, 1000, 8, 100),  # the network of the paper, on MNIST
    "b": Size(784, 1000, 8, 512),
    "c": Size(784, 1000, 8, 2048),
    "d": Size(64, 128, 4, 64),  # tabular data
    "e": Size(30, 32, 2, 32),  # tiny: overhead is everything
    "f": Size(784, 256, 8, 128),
}
