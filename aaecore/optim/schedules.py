"""Learning-rate schedules: pure functions of the step, so that a resumed run needs nothing but its step count.

A schedule maps a step (0 for the first) to a factor of the base learning rate. Any such callable will do; only the
ones below can be stored in a checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..arguments import FLOAT32_MAX, count, counts, number, shown

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """1 at every step."""

    def __call__(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class StepWise:
    """`factor` ** (how many milestones were reached). The paper divides its rates by 10 at two epochs."""

    milestones: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.milestones, str) or not isinstance(self.milestones, Iterable):
            raise TypeError(f"milestones: expected integers >= 1, got {shown(self.milestones)}")
        milestones = tuple(sorted(counts("milestones", tuple(self.milestones))))
        factor = number("factor", self.factor, 0.0)
        if factor > 1 and len(milestones) * math.log(factor) >= math.log(FLOAT32_MAX):
            expected = f"a number whose power of {len(milestones)} (milestones) float32 can hold"
            raise ValueError(f"factor: expected {expected}, got {shown(self.factor)}")
        object.__setattr__(self, "milestones", milestones)
        object.__setattr__(self, "factor", factor)

    def __call__(self, step: int) -> float:
        return self.factor ** sum(step >= milestone for milestone in self.milestones)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 at step 0 to `floor` at `steps`, then constant (Loshchilov & Hutter 2017)."""

    steps: int
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", count("steps", self.steps))  # a file takes Python's numbers
        object.__setattr__(self, "floor", number("floor", self.floor, 0.0))

    def __call__(self, step: int) -> float:
        progress = min(step / self.steps, 1.0)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


SCHEDULES: dict[str, type] = {c.__name__: c for c in (Constant, StepWise, Cosine)}


def config(schedule: Schedule) -> dict[str, Any]:
    """A description that `from_config` understands; of a user's own callable only the name."""
    name = type(schedule).__name__
    if name in SCHEDULES:
        return {"type": name, **asdict(schedule)}  # type: ignore[call-overload]
    return {"type": "callable", "name": getattr(schedule, "__name__", name)}


def from_config(options: dict[str, Any]) -> Schedule:
    """The schedule that `config` described.

    Raises:
        ValueError: unknown type or options; a user's callable, which cannot be stored.
    """
    options = dict(options)
    kind = options.pop("type", None)
    if kind == "callable":
        raise ValueError(
            f"schedule: {shown(options.get('name'))} was a callable, which a file cannot hold; pass it as schedule="
        )
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise ValueError(f"schedule: expected type to be one of {', '.join(SCHEDULES)}, got {shown(kind)}")
    try:
        made: Schedule = SCHEDULES[kind](**options)
    except TypeError as error:
        raise ValueError(f"schedule: wrong options for {kind}: {error}") from None
    return made
