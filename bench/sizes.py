"""The six networks and batch sizes at which a training step is measured, what a step computes and what it keeps."""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Encoder inputs-hidden-hidden-latent, decoder the reverse, discriminator latent-hidden-hidden-1."""

    inputs: int
    hidden: int
    latent: int
    batch: int

    def __str__(self) -> str:
        return f"{self.inputs}-{self.hidden}-{self.hidden}-{self.latent}, batch {self.batch}"


SIZES = {
    "a": Size(784, 1000, 8, 100),  # the network of the paper, on MNIST
    "b": Size(784, 1000, 8, 512),
    "c": Size(784, 1000, 8, 2048),
    "d": Size(64, 128, 4, 64),  # tabular data
    "e": Size(30, 32, 2, 32),  # tiny: overhead is everything
    "f": Size(784, 256, 8, 128),
}


def parse_size(text: str) -> Size:
    """A letter, or inputs-hidden-latent-batch such as 784-256-8-128.

    Raises:
        ValueError: neither.
    """
    if text in SIZES:
        return SIZES[text]
    numbers = text.split("-")
    if len(numbers) != len(Size._fields) or not all(n.isdecimal() and int(n) > 0 for n in numbers):
        raise ValueError(f"size: expected one of {' '.join(SIZES)}, or inputs-hidden-latent-batch; got {text!r}")
    return Size(*map(int, numbers))


def spell(size: Size) -> str:
    """What `parse_size` makes this size of."""
    return "-".join(map(str, size))


def matrix_flops(size: Size) -> int:
    """Floating-point operations of all matrix products of one step, which every library has to make.

    Two for each multiply-add of the forward passes, the input gradients (none is needed of x, nor of the
    discriminator's input in its own phase) and the weight gradients. Phases 2 and 3 share the codes.
    """
    hidden, batch = size.hidden**2, size.batch
    x, z, judged = size.inputs * size.hidden, size.latent * size.hidden, size.hidden
    encoder, decoder, discriminator = x + hidden + z, z + hidden + x, z + hidden + judged
    reconstruction = 3 * (encoder + decoder) - x
    judging = encoder + 2 * (3 * discriminator - z)  # on prior samples and codes together: twice the rows
    generator = 2 * discriminator + 2 * encoder - x
    return 2 * batch * (reconstruction + judging + generator)


def parameters(size: Size) -> tuple[int, int, int]:
    """Weights and biases of encoder, decoder and discriminator."""
    inputs, hidden, latent, _ = size
    inner = hidden * hidden + hidden
    encoder = inputs * hidden + hidden + inner + hidden * latent + latent
    decoder = latent * hidden + hidden + inner + hidden * inputs + inputs
    return encoder, decoder, latent * hidden + hidden + inner + hidden + 1


MEMORY_FORMULA = "4 (5E + 3D + 3C + B (3I + 24H + 7Z + 6))"


def step_bytes(size: Size) -> int:
    """`MEMORY_FORMULA`: what a recorded step holds in float32, padding apart.

    E, D and C are the parameters of encoder, decoder and discriminator, each with two moments of Adam, the encoder in
    two optimizers. The rest are the activations and their gradients, of B rows with I inputs, H hidden and Z latent
    features. A `Trainer` with its guard holds the first three terms twice.
    """
    encoder, decoder, discriminator = parameters(size)
    inputs, hidden, latent, batch = size
    state = 5 * encoder + 3 * decoder + 3 * discriminator
    return 4 * (state + batch * (3 * inputs + 24 * hidden + 7 * latent + 6))
