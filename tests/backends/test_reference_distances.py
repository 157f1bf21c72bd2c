"""The formulas of distances of all pairs of rows against mathematics: plain double loops and finite differences."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from finite_differences import Array, agrees, away_from_kinks, empty

from aaecore.backends import reference

formulas = SimpleNamespace(**reference.FUNCTIONS)
X, Y, GAMMAS = away_from_kinks((4, 3), 1), away_from_kinks((5, 3), 2) + 0.5, np.array([0.1, 0.7])


def _squared_distance(a: Array, b: Array) -> float:
    return math.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True))


# --- maximum mean discrepancy -----------------------------------------------------------------------------------------


def _mmd(x: Array, y: Array) -> tuple[Array, float]:
    dx, loss = empty(*x.shape), empty(1)
    formulas.mmd(x, y, GAMMAS, dx, loss, len(x), len(y), x.shape[1], len(GAMMAS), 0.75)
    return dx, float(loss[0])


def _mean_kernel(a: Array, b: Array) -> float:
    distances = [_squared_distance(p, q) for p in a for q in b]
    return math.fsum(math.exp(-gamma * d) for gamma in GAMMAS for d in distances) / len(distances)


def test_mmd_is_the_difference_of_mean_kernels() -> None:
    expected = 0.75 * (_mean_kernel(X, X) - 2 * _mean_kernel(X, Y) + _mean_kernel(Y, Y))
    assert _mmd(X, Y)[1] == pytest.approx(expected, rel=1e-12)


def test_mmd_gradient() -> None:
    agrees(_mmd(X, Y)[0], lambda x: _mmd(x, Y)[1], X)


def test_mmd_of_equal_samples_in_another_order_is_zero() -> None:
    dx, loss = _mmd(X, X[[2, 0, 3, 1]])
    assert abs(loss) < 1e-14
    np.testing.assert_allclose(dx, 0, atol=1e-14)


# --- Parzen windows ---------------------------------------------------------------------------------------------------


def _log_sums(x: Array, blocks: list[Array]) -> Array:
    """log sum over all samples of exp(-gamma d), (B, K), by way of `parzen` on one block of samples after the other."""
    least, sums = np.full(len(x), np.inf), np.zeros((len(x), len(GAMMAS)))
    for block in blocks:
        formulas.parzen(x, block, GAMMAS, least, sums, len(x), len(block), x.shape[1], len(GAMMAS))
    return np.log(sums) - GAMMAS * least[:, None]


SAMPLES = np.random.default_rng(3).standard_normal((11, 3))
BLOCKS = {
    "one": [SAMPLES],
    "three": [SAMPLES[:2], SAMPLES[2:3], SAMPLES[3:]],
    "nearest-last": [SAMPLES[np.argsort(-((SAMPLES - X[0]) ** 2).sum(axis=1))][i : i + 1] for i in range(11)],
}


@pytest.mark.parametrize("blocks", BLOCKS)
def test_parzen_is_a_log_sum_of_exponentials(blocks: str) -> None:
    expected = [
        [math.log(math.fsum(math.exp(-gamma * _squared_distance(row, s)) for s in SAMPLES)) for gamma in GAMMAS]
        for row in X
    ]
    np.testing.assert_allclose(_log_sums(X, BLOCKS[blocks]), expected, rtol=1e-12)


@pytest.mark.parametrize("blocks", BLOCKS)
def test_parzen_of_rows_whose_densities_are_no_numbers(blocks: str) -> None:
    """Far from all samples, where the exponentials themselves are all 0: log-sum-exp after taking the largest out."""
    far = X + 300
    exponents = -GAMMAS * np.array([[_squared_distance(row, s) for s in SAMPLES] for row in far])[:, :, None]
    largest = exponents.max(axis=1)
    assert (np.exp(largest) == 0).all()
    expected = largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1))
    np.testing.assert_allclose(_log_sums(far, BLOCKS[blocks]), expected, rtol=1e-11)


def test_parzen_of_a_row_with_nan_is_nan_and_no_other() -> None:
    x = X.copy()
    x[1, 2] = np.nan
    found = _log_sums(x, BLOCKS["three"])
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2, 3]], _log_sums(X, BLOCKS["three"])[[0, 2, 3]])
