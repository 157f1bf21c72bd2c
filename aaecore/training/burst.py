"""Equal steps in a row: what a stepper makes at once, and the guard makes again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..data.rows import Rows


class Burst(NamedTuple):
    """Equal steps in a row, and all that it takes to make them again."""

    batch: int  # rows of each step
    rates: np.ndarray  # (steps, phases) float64: the learning rates
    dials: np.ndarray  # (steps, dials) float64: the model's scalars of each step
    given: Mapping[str, Rows] = MappingProxyType({})  # inputs by name; a step fetches or draws what is not among them

    @property
    def steps(self) -> int:
        return len(self.rates)

    @property
    def nbytes(self) -> int:
        """What its arrays of data hold."""
        return sum(rows.nbytes for rows in self.given.values())

    def first(self, steps: int) -> Burst:
        """Its beginning, a burst of its own."""
        return self._replace(rates=self.rates[:steps], dials=self.dials[:steps])

    def after(self, steps: int) -> Burst:
        """The rest of it."""
        return self._replace(rates=self.rates[steps:], dials=self.dials[steps:])
