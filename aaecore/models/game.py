"""The discriminator's side of a game, on codes or on data."""

from __future__ import annotations

from collections.abc import Callable

from ..core.random import Generator
from ..functions import adversarial_bce, concat, difference_penalty, noisy
from ..functions.tensor import Tensor

NEAR = 0.1  # of a unit, in every feature: how far beside a row the discriminator must say nearly the same


def told_apart(
    judged: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, rng: Generator, penalty: float
) -> tuple[Tensor, ...]:
    """The discriminator's loss, and with a penalty > 0 what keeps it smooth.

    Args:
        judged: the discriminator's logits (B, 1) of rows (B, N).
        real, fake: rows in units.
        rng: of the rows beside them.
        penalty: of half its mean squared gradient, see `functions.difference_penalty`.
    """
    both = concat((real, fake), axis=0)
    logits = judged(both)
    loss = adversarial_bce(logits, real=real.shape[0])
    if not penalty:
        return (loss,)
    return loss, *difference_penalty(logits, judged(noisy(both, rng, NEAR)), penalty / NEAR**2)
