"""A prior from what a user gives, or from its description in a file."""

from __future__ import annotations

from typing import Any

from ..arguments import shown
from ..options import Kind
from .built_in import BUILT_IN, Categorical
from .host import CallablePrior, HostSampler, MissingPrior
from .prior import PRIORS, Prior

PRIORS.update({kind.__name__: kind for kind in BUILT_IN})


def as_prior(prior: Prior | HostSampler) -> Prior:
    """A `Prior` as it is, a callable wrapped.

    Raises:
        TypeError: neither.
    """
    if isinstance(prior, Prior):
        return prior
    if callable(prior) and not isinstance(prior, type):
        return CallablePrior(prior)
    raise TypeError(f"prior: expected a Prior or a callable f(n, rng), got {shown(prior)}")


def from_config(config: dict[str, Any]) -> Prior:
    """The prior that `Prior.config` described; for a callable, which cannot be stored, what says so when it is drawn.

    Raises:
        ValueError: unknown type or options.
    """
    options = dict(config)
    kind = options.pop("type", None)
    if kind == "callable" and isinstance(options.get("name"), str):
        return MissingPrior(options["name"])
    if not isinstance(kind, str) or kind not in PRIORS:
        raise ValueError(f"prior: expected type to be one of {', '.join(PRIORS)}, got {shown(kind)}")
    try:
        return PRIORS[kind](**options)
    except TypeError as error:
        raise ValueError(f"prior: wrong options for {kind}: {error}") from None


def _as_categorical(name: str, prior: Any) -> Prior:
    if not isinstance(prior, Categorical):
        raise ValueError(f"{name}: expected a Categorical, got {type(prior).__name__}")
    return prior


PRIOR = Kind("a Prior or a callable f(n, rng)", lambda name, prior: as_prior(prior))
CATEGORICAL = Kind("a Categorical", _as_categorical)
KINDS = (PRIOR, CATEGORICAL)  # of options that hold a prior
