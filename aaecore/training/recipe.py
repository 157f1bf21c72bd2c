"""Rates and memories that train well where nobody tuned them: what the command line begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..arguments import number
from ..functions.tensor import Parameter
from ..models.model import Model, Phase
from ..optim import OPTIMIZERS, Adam, Optimizer

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


def rates_of(model: Model, lr: float | Mapping[str, float]) -> dict[str, float]:
    """The learning rate of each phase, by what a trainer was given as `lr`.

    Raises:
        ValueError, TypeError: phases that the model does not have, or no such rate.
    """
    names = [phase.name for phase in model.phases]
    if isinstance(lr, Mapping) and (unknown := sorted(map(str, set(lr) - set(names)))):
        raise ValueError(f"lr: expected phases among {', '.join(names)}, got {', '.join(unknown)}")
    return {name: number("lr", lr.get(name, 1e-3) if isinstance(lr, Mapping) else lr, 0.0) for name in names}


def make_optimizers(
    model: Model, lr: float | Mapping[str, float], makers: Mapping[str, MakeOptimizer] | None
) -> dict[str, Optimizer]:
    """An optimizer for each phase.

    Raises:
        ValueError, TypeError: phases that the model does not have, or something that makes no optimizer.
    """
    names = [phase.name for phase in model.phases]
    if makers is not None and not isinstance(makers, Mapping):
        raise TypeError(f"optimizers: expected a mapping of phases to functions, got {makers!r}")
    if unknown := sorted(map(str, set(makers or {}) - set(names))):
        raise ValueError(f"optimizers: expected phases among {', '.join(names)}, got {', '.join(unknown)}")
    rates = rates_of(model, lr)
    made = {}
    for phase in model.phases:
        parameters = model.moved(phase)
        maker = (makers or {}).get(phase.name, partial(Adam, lr=rates[phase.name]))
        optimizer = maker(parameters) if callable(maker) else None
        if type(optimizer) not in OPTIMIZERS.values() or set(optimizer.parameters) != set(parameters):
            raise ValueError(
                f"optimizers: {phase.name}: expected a function that makes {' or '.join(OPTIMIZERS)} of exactly the "
                f"parameters it is given, such as functools.partial(Adam, lr=1e-3); got {maker!r}"
            )
        made[phase.name] = optimizer
    return made
