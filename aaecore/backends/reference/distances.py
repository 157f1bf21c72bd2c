"""What is made of the distances of all pairs of rows: a discrepancy of two samples, the density of a Parzen window."""

from __future__ import annotations

import numpy as np

from .common import Array


def _squared(x: Array, y: Array) -> Array:
    """|x_i - y_j|^2 by way of |x_i|^2 + |y_j|^2 - 2 x_i . y_j, (B, M); never below 0."""
    away = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1) - 2 * (x @ y.T)
    return np.maximum(away, 0)


def _kernel(distances: Array, gammas: Array) -> tuple[Array, Array]:
    """k = sum over s of exp(-gammas_s d) and minus its derivative."""
    terms = np.exp(-gammas * distances[:, :, None])
    return terms.sum(axis=2), (gammas * terms).sum(axis=2)


def mmd(
    x: Array, y: Array, gammas: Array, dx: Array, loss: Array, B: int, M: int, N: int, K: int, weight: float
) -> None:
    """loss = weight (mean k(x, x) - 2 mean k(x, y) + mean k(y, y)), k(a, b) = sum over s of exp(-gammas_s |a - b|^2).

    With w = -dk/dd the gradient is dx_i = 4 weight (1 / (B M) sum_j w_ij (x_i - y_j) - 1 / B^2 sum_j w_ij (x_i - x_j)),
    where the two w are those of x, y and of x, x. Gretton et al. (2012), equation 5; Li, Swersky & Zemel (2015).
    """
    (own, own_w), (cross, cross_w), (others, _) = (_kernel(_squared(a, b), gammas) for a, b in ((x, x), (x, y), (y, y)))
    loss[...] = weight * (own.mean() - 2 * cross.mean() + others.mean())
    attracted = cross_w.sum(axis=1, keepdims=True) * x - cross_w @ y
    repelled = own_w.sum(axis=1, keepdims=True) * x - own_w @ x
    dx[...] = 4 * weight * (attracted / (B * M) - repelled / B**2)


def parzen(x: Array, samples: Array, gammas: Array, least: Array, sums: Array, B: int, M: int, N: int, K: int) -> None:
    """least = min(least, d), sums = sum of exp(-gammas (d - least)) over all samples so far, the old and the new."""
    distances = _squared(x, samples)
    now = np.minimum(least, distances.min(axis=1))
    with np.errstate(invalid="ignore"):  # infinity minus infinity, of rows far beyond all numbers
        kept = np.exp(-gammas * (least - now)[:, None])
        new = np.exp(-gammas * (distances - now[:, None])[:, :, None])
    sums[...] = np.where(sums == 0, 0, sums * kept) + new.sum(axis=1)
    least[...] = now
