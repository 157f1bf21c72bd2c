"""Rates and memories that train well where nobody tuned them: what every trainer begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..arguments import number
from ..functions.tensor import Parameter
from ..models.model import Model
from ..models.phase import Phase
from ..optim import OPTIMIZERS, SGD, Adam, Optimizer, Passive

MakeOptimizer = Callable[[Sequence[Parameter]], Optimizer]
GAME_BETA1 = 0.5  # a short memory keeps the two sides of a game from circling around each other
MOMENTUM, GAME_MOMENTUM = 0.9, 0.1  # of SGD; public implementations of the paper have these


def makers(
    phases: Sequence[Phase], rates: Mapping[str, float], game_beta1: float = GAME_BETA1
) -> dict[str, MakeOptimizer]:
    """Adam for each phase that moves something, at the rates given by phase."""
    return {
        phase.name: partial(Adam, lr=rates[phase.name], betas=(game_beta1 if phase.game else 0.9, 0.999))
        for phase in phases
        if phase.moves
    }


def sgd_makers(
    phases: Sequence[Phase], rates: Mapping[str, float], momentum: Mapping[str, float]
) -> dict[str, MakeOptimizer]:
    """SGD for each phase that moves something, at the rates given by phase.

    Phases that `momentum` leaves out have 0.9, and 0.1 in a game.
    """
    by_kind = {phase.name: GAME_MOMENTUM if phase.game else MOMENTUM for phase in phases}
    chosen = {**by_kind, **momentum}
    return {p.name: partial(SGD, lr=rates[p.name], momentum=chosen[p.name]) for p in phases if p.moves}


def rates_of(phases: Sequence[Phase], lr: float | Mapping[str, float] | None) -> dict[str, float]:
    """The learning rate of each phase, by what a trainer was given as `lr`.

    Args:
        phases: of a model; each suggests a rate.
        lr: rates by phase, the suggested ones for those that are left out; or a number, the first phase's rate, which
            scales the others with it; or None for the suggestions.

    Raises:
        ValueError, TypeError: phases that the model does not have, or no such rate.
    """
    suggested = {phase.name: phase.rate for phase in phases}
    if lr is None:
        return suggested
    if not isinstance(lr, Mapping):
        lr, first = number("lr", lr, 0.0), phases[0].rate or 1e-3
        return {
            name: number("lr", lr if rate == first else lr * (rate / first), 0.0) for name, rate in suggested.items()
        }
    if unknown := sorted(map(str, set(lr) - set(suggested))):
        raise ValueError(f"lr: expected phases among {', '.join(suggested)}, got {', '.join(unknown)}")
    return {name: number("lr", lr.get(name, rate), 0.0) for name, rate in suggested.items()}


def make_optimizers(
    model: Model, lr: float | Mapping[str, float] | None, given: Mapping[str, MakeOptimizer] | None
) -> dict[str, Optimizer]:
    """An optimizer for each phase.

    Raises:
        ValueError, TypeError: phases that the model does not have, or something that makes no optimizer.
    """
    moving = [phase.name for phase in model.phases if phase.moves]
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"optimizers: expected a mapping of phases to functions, got {given!r}")
    if unknown := sorted(map(str, set(given or {}) - set(moving))):
        expected = f"optimizers: expected phases among {', '.join(moving)}, got {', '.join(unknown)}"
        scaled = [(phase, name) for name, (_, phase, _) in model.ratios().items() if phase in unknown]
        why = f"; {scaled[0][0]} moves nothing of its own, its rate in lr scales {scaled[0][1]}" if scaled else ""
        raise ValueError(expected + why)
    rates = rates_of(model.phases, lr)
    chosen = makers(model.phases, rates) | dict(given or {})
    return {
        phase.name: _made(phase, model, chosen[phase.name])
        if phase.moves
        else Passive(model.backend, rates[phase.name])
        for phase in model.phases
    }


def _made(phase: Phase, model: Model, maker: MakeOptimizer) -> Optimizer:
    parameters = model.moved(phase)
    optimizer = maker(parameters) if callable(maker) else None
    kinds = [kind for kind in OPTIMIZERS.values() if kind is not Passive]
    if type(optimizer) not in kinds or set(optimizer.parameters) != set(parameters):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"optimizers: {phase.name}: expected a function that makes {names} of exactly the "
            f"parameters it is given, such as functools.partial(Adam, lr=1e-3); got {maker!r}"
        )
    return optimizer
