"""Gradients of formulas on plain arrays against central differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def away_from_kinks(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Normal numbers, none closer to 0 than 0.05."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return x + np.copysign(0.05, x)


def empty(*shape: int) -> Array:
    return np.full(shape, np.nan)


def agrees(gradient: Array, f: Callable[[Array], float], x: Array) -> None:
    """Asserts that `gradient` is the gradient of `f` at `x`, by central differences.

    With steps of 1e-6 they are good to about 1e-9, so 1e-4 of the value is safe and still sees an error of 0.1 %.
    """
    numeric = np.empty_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        numeric[i] = (f(up) - f(down)) / 2e-6
    assert np.abs(numeric).max() > 0.01, "a test of a gradient that vanishes shows nothing"
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-7)
