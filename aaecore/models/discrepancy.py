"""The maximum mean discrepancy as models minimise it: with kernels as wide as rows in units lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import FLOAT32_MAX, FLOAT32_TINY
from ..core.backend import Backend
from ..functions import mmd
from ..functions.tensor import Tensor
from ..options import NUMBERS, option

# Li, Swersky & Zemel (2015) take 2, 5, 10, 20, 40 and 80 for digits, which lie about 10 apart.
WIDTHS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


def widths_option(default: Sequence[float] = WIDTHS) -> Any:
    """The option of a model that says how wide the kernels are."""
    return option(NUMBERS, "of the kernels, beside the distance of two independent rows", default=default)


class Discrepancy:
    """A sum of Gaussian kernels for rows in units: of a mean of 0, and a variance of 1 in a feature on average.

    Args:
        backend: where they live.
        features: of a row.
        widths: of the kernels, beside the distance of two independent rows, the root of 2 `features`.

    Raises:
        ValueError: a width so small or so large that float32 cannot hold what stands in the exponent.
    """

    def __init__(self, backend: Backend, features: int, widths: Sequence[float]) -> None:
        with np.errstate(divide="ignore"):
            gammas = 1 / (4 * features * np.square(np.asarray(widths, np.float64)))
        for width, gamma in zip(widths, gammas, strict=True):
            if not FLOAT32_TINY <= gamma <= FLOAT32_MAX:
                expected = f"numbers w for which float32 can hold 1 / ({4 * features} w^2)"
                raise ValueError(f"widths: expected {expected}, got {width:g}")
        self.gammas = backend.from_host(gammas)

    def __call__(self, x: Tensor, y: Tensor, weight: float = 1.0) -> Tensor:
        """weight times the squared discrepancy of rows x and y; only x gets a gradient."""
        return mmd(x, y, self.gammas, weight)
