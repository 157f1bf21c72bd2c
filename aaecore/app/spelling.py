"""What the strings of a configuration stand for: priors and schedules."""

from __future__ import annotations

from collections.abc import Callable

from .. import priors
from ..optim import schedules

FLOOR = 0.05  # the factor at which a cosine schedule ends
WEIGHTED = "categorical[:WEIGHT:WEIGHT...]"
PRIORS = {  # by kind of option
    priors.PRIOR: "normal[:STD[:MEAN]], uniform[:LOW:HIGH], ring[:COMPONENTS], swissroll, hypersphere[:RADIUS] or "
    + WEIGHTED,
    priors.CATEGORICAL: f"{WEIGHTED}, with a weight for each class; equal ones by default",
}
SCHEDULE = "constant, cosine[:FLOOR], or step:EPOCH[:EPOCH...], a tenth from each on"
SPELLED: dict[
    str, tuple[Callable[..., priors.Prior], int | None]
] = {  # name -> what makes it, and of how many numbers at most
    "normal": (priors.Normal, 2),
    "uniform": (priors.Uniform, 2),
    "ring": (lambda components=10: priors.GaussianMixture.ring(_whole(components)), 1),
    "swissroll": (priors.SwissRoll, 0),
    "hypersphere": (priors.Hypersphere, 1),
    "categorical": (lambda *weights: priors.Categorical(weights or None), None),
}


def make_prior(text: str, key: str = "prior") -> priors.Prior:
    """The prior that a string such as "normal:5" or "uniform:-1:1" stands for.

    Raises:
        ValueError: none; `key` begins the message.
    """
    name, numbers = _spec(key, text, tuple(SPELLED))
    make, most = SPELLED[name]
    if most is not None and len(numbers) > most:
        raise ValueError(f"{key}: {name} takes at most {most} numbers, got {text!r}")
    try:
        return make(*numbers)
    except ValueError as error:
        raise ValueError(f"{key}: {text!r}: {error}") from None


def make_schedule(text: str, epochs: int, steps_per_epoch: int) -> schedules.Schedule:
    """The schedule that a string such as "cosine:0.1" stands for, over `epochs` epochs.

    Raises:
        ValueError: none.
    """
    name, numbers = _spec("schedule", text, ("constant", "cosine", "step"))
    try:
        if name == "step" and numbers:
            return schedules.StepWise([_whole(epoch) * steps_per_epoch for epoch in numbers])
        if name == "cosine" and len(numbers) <= 1:
            return schedules.Cosine(epochs * steps_per_epoch, *(numbers or [FLOOR]))
    except ValueError as error:
        raise ValueError(f"schedule: {text!r}: {error}") from None
    if name == "constant" and not numbers:
        return schedules.Constant()
    raise ValueError(f"schedule: expected {SCHEDULE}, got {text!r}")


def _spec(key: str, text: str, names: tuple[str, ...]) -> tuple[str, list[float]]:
    name, *numbers = text.split(":")
    if name not in names:
        raise ValueError(f"{key}: expected one of {', '.join(names)}, got {name!r}")
    try:
        return name, [float(n) for n in numbers]
    except ValueError:
        raise ValueError(f"{key}: expected numbers after {name}:, got {text!r}") from None


def _whole(value: float) -> int:
    if not float(value).is_integer():
        raise ValueError(f"expected a whole number, got {value:g}")
    return int(value)
