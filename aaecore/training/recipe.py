"""Rates and memories that train well where nobody tuned them: what the command line begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..functions.tensor import Parameter
from ..models.model import Phase
from ..optim import Adam, Optimizer

MakeOptimizer = Callable[[Sequence[Parameter]], Optimizer]
GAME_BETA1 = 0.5  # a short memory keeps the two sides of a game from circling around each other


def makers(
    phases: Sequence[Phase], rates: Mapping[str, float] | None = None, game_beta1: float = GAME_BETA1
) -> dict[str, MakeOptimizer]:
    """Adam for each phase, at the rates given by phase, or at those that the phases suggest."""
    chosen = {phase.name: phase.rate for phase in phases} if rates is None else rates
    return {
        phase.name: partial(Adam, lr=chosen[phase.name], betas=(game_beta1 if phase.game else 0.9, 0.999))
        for phase in phases
    }
