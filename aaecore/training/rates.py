"""What a step is given by number: the learning rates of its phases and the dials of its model."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

import numpy as np

from ..arguments import number
from .progress import Run


class Rates:
    """The learning rates and dials of the next steps; where a table is the same again, so is the array."""

    def __init__(self, run: Run) -> None:
        self._run: Run = weakref.proxy(run)  # which owns this: each would keep the other alive
        self._dials, self._ratios = run.model.dials(), run.model.ratios()
        by_phase = run.model.rate_factors()
        self._by_phase = {name: by_phase.get(name, _always) for name in run.names} if by_phase else {}
        # Base rates, factors of all phases and those of each that the table was made of.
        self._rates_of: tuple[list[float], list[float], list[list[float]]] = [], [], []
        self._rates = np.empty((0, len(run.phases)))
        self._dials_of: list[list[float]] = []
        self._dials_made = np.empty((0, len(self._dials) + len(self._ratios)))

    def of_next(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Those of the next `steps` steps: tables (steps, phases) and (steps, dials), float64.

        Raises:
            ValueError, TypeError: a rate or a dial that is not finite, or a negative rate.
        """
        return self._rates_of_next(steps), self._dials_of_next(steps)

    def _rates_of_next(self, steps: int) -> np.ndarray:
        run = self._run
        base = [run.optimizers[name].base_lr for name in run.names]
        of_next = range(run.steps, run.steps + steps)
        factors = [run.schedule(step) for step in of_next]
        own = [[_value(f"rate factor {n}", f, step) for n, f in self._by_phase.items()] for step in of_next]
        if self._rates_of != (base, factors, own):
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is an error with a name, below
                rates = np.multiply.outer(np.array(factors, np.float64), np.array(base, np.float64))
                rates = rates * np.array(own, np.float64) if self._by_phase else rates
            for extreme in (rates.min(), rates.max()):
                number("lr", float(extreme), 0.0)
            self._rates_of, self._rates = (base, factors, own), rates
        return self._rates

    def _dials_of_next(self, steps: int) -> np.ndarray:
        if not (self._dials or self._ratios) and len(self._dials_made) == steps:
            return self._dials_made
        first, optimizers = self._run.steps, self._run.optimizers
        ratios = [
            _ratio(name, factor, optimizers[a].base_lr, optimizers[b].base_lr)
            for name, (factor, a, b) in self._ratios.items()
        ]
        values = [
            [*(_value(f"dial {n}", dial, step) for n, dial in self._dials.items()), *ratios]
            for step in range(first, first + steps)
        ]
        if self._dials_of != values:
            self._dials_of, self._dials_made = values, np.array(values, np.float64).reshape(steps, -1)
        return self._dials_made


def _always(step: int) -> float:
    return 1.0


def _value(name: str, function: Callable[[int], float], step: int) -> float:
    what = f"{name} of step {step}"
    try:
        value = function(step)
    except Exception as error:
        raise ValueError(f"{what}: expected a number, got {type(error).__name__}: {error}") from error
    return number(what, value, -math.inf, open_low=True)


def _ratio(name: str, factor: float, rate: float, by: float) -> float:
    return number(f"lr: {name}", factor * rate / by if by else factor, 0.0)
