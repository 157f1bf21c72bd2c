"""Consistency of q(y|x), which goes beyond the paper: rows that differ by what changes no class should be one class.

Of images moved by some pixels, or of any rows with other noise, or moved where q(y|x) changes most: virtual adversarial
training (Miyato et al. 2018, arXiv 1704.03976).
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.random import Generator
from ..functions import softmax_cross_entropy, towards
from ..functions.tensor import Tensor, backward

KINDS = ("none", "translation", "noise", "adversarial")
SMALL = 0.1  # length of the step by which the direction is found

Logits = Callable[[Tensor], Tensor]


def divergence(logits: Tensor, p: Tensor) -> Tensor:
    """A loss with the gradient of KL(p, softmax(logits)), both (B, C); p is taken as it is.

    Its value is larger by the entropy of p.
    """
    return softmax_cross_entropy(logits, p.detach())


def adversarial(seen: Tensor, p: Tensor, logits: Logits, rng: Generator, radius: float) -> Tensor:
    """Rows moved by `radius` in the direction in which q(y|x) moves fastest away from p, by one power iteration.

    Args:
        seen: (B, features), what the network takes.
        p: (B, C) its q(y|x).
        logits: the network.
        rng: of the direction that it begins with.
        radius: the length of the step, in units of `seen`.
    """
    near = towards(seen, rng.normal(seen.shape), SMALL)
    near.requires_grad = True
    backward([divergence(logits(near), p)], parameters=[near])  # type: ignore[list-item]
    assert near.grad is not None
    return towards(seen, near.grad, radius)
