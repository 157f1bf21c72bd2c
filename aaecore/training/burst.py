"""Equal steps in a row: what a stepper makes at once, and the guard makes again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data.rows import Rows


class Burst(NamedTuple):
    """Equal steps in a row, and all that it takes to make them again."""

    batch: int  # rows of each step
    rates: np.ndarray  # (steps, phases) float64: the learning rates
    x: Rows | None = None  # (batch, input_dim) floats; without it every step takes the next rows of the data
    z: Rows | None = None  # (batch, latent_dim): the prior's sample; without it every step draws its own

    @property
    def steps(self) -> int:
        return len(self.rates)

    @property
    def nbytes(self) -> int:
        """What its arrays of data hold."""
        return (0 if self.x is None else self.x.nbytes) + (0 if self.z is None else self.z.nbytes)

    def first(self, steps: int) -> Burst:
        """Its beginning, a burst of its own."""
        return self._replace(rates=self.rates[:steps])
