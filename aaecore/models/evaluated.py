"""How far rows are from what a model makes of them: the one way in which models are asked."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, overload

import numpy as np

from ..arguments import choice
from ..data.rows import Rows
from ..data.table import Table
from .model import Model


class Evaluated(Model):
    """A model that reconstructs rows."""

    @abstractmethod
    def losses_of(self, rows: Rows, reduction: str) -> float | np.ndarray:
        """What `evaluate` gives, for checked rows."""

    @overload
    def evaluate(self, x: Any, reduction: Literal["mean"] = "mean") -> float: ...
    @overload
    def evaluate(self, x: Any, reduction: Literal["none"]) -> np.ndarray: ...

    def evaluate(self, x: Any, reduction: str = "mean") -> float | np.ndarray:
        """The loss of the reconstruction of x (N, input_dim), summed over features.

        Of an autoencoder its own, with codes at the centre of their posterior. Of a Boltzmann machine the Bernoulli
        cross-entropy in nats, or half the squared error in the unit of Gaussian units; it is no likelihood.

        Args:
            x: float or uint8 (scaled by 1/255), as in training.
            reduction: "mean" over the rows, or "none": a loss for each row, (N,) float64.

        Raises:
            ValueError, TypeError: bad data, or another reduction.
        """
        choice("reduction", reduction, ("mean", "none"))
        return self.losses_of(self.check_data(x, "x"), reduction)

    def validate(self, table: Table) -> dict[str, float]:
        return {"validation": self.evaluate(table.columns["x"])}
