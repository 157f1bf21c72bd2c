"""The maximum mean discrepancy as a loss: its value, its gradient, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gradients import check_gradients, leaf
from numpy.typing import NDArray

from aaecore import functions as F
from aaecore.backends.devices import get_backend
from aaecore.core.backend import Backend
from aaecore.functions.tensor import Tensor

Array = NDArray[np.float64]
GAMMAS = np.array([0.05, 0.3, 1.1])


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_backend(request.param)


@pytest.fixture
def exact() -> Backend:
    return get_backend("reference")


def tensor(backend: Backend, array: Array) -> Tensor:
    return Tensor(backend.from_host(array))


def mmd(backend: Backend, x: Array, y: Array, weight: float = 1.0) -> float:
    return float(F.mmd(tensor(backend, x), tensor(backend, y), backend.from_host(GAMMAS), weight))


def double_loop(x: Array, y: Array) -> float:
    def mean(a: Array, b: Array) -> float:
        kernels = [math.exp(-gamma * ((p - q) ** 2).sum()) for p in a for q in b for gamma in GAMMAS]
        return math.fsum(kernels) / (len(a) * len(b))

    return mean(x, x) - 2 * mean(x, y) + mean(y, y)


@pytest.mark.parametrize(("rows", "others"), [(6, 9), (1, 4), (40, 33)])
def test_value_is_that_of_a_plain_double_loop(
    rows: int, others: int, backend: Backend, rng: np.random.Generator
) -> None:
    x, y = rng.standard_normal((rows, 3)), rng.standard_normal((others, 3)) + 0.7
    tolerance = 1e-12 if backend.name == "reference" else 1e-5
    assert mmd(backend, x, y, 0.4) == pytest.approx(0.4 * double_loop(x, y), rel=tolerance)


def test_gradient(exact: Backend, rng: np.random.Generator) -> None:
    x, y = leaf(exact, rng.standard_normal((5, 3))), tensor(exact, rng.standard_normal((4, 3)))
    gammas = exact.from_host(GAMMAS)
    check_gradients([x], lambda: [F.mmd(x, y, gammas, 1.3)])


def test_only_the_first_sample_gets_a_gradient(exact: Backend, rng: np.random.Generator) -> None:
    x, y = leaf(exact, rng.standard_normal((5, 3))), leaf(exact, rng.standard_normal((4, 3)))
    F.mmd(x, y, exact.from_host(GAMMAS)).backward()
    assert x.grad is not None
    assert y.grad is None


def test_equal_samples_are_0_apart(backend: Backend, rng: np.random.Generator) -> None:
    x = rng.standard_normal((20, 7))
    assert abs(mmd(backend, x, x[::-1])) < (1e-14 if backend.name == "reference" else 1e-6)
    assert mmd(backend, x, x + 0.1) > 1e-4


@pytest.mark.parametrize(
    ("x", "y", "gammas", "message"),
    [
        ((3,), (3, 2), (1,), r"x: expected shape \(batch, features\), neither of them 0, got \(3,\)"),
        ((0, 2), (3, 2), (1,), r"x: expected .* got \(0, 2\)"),
        ((3, 2), (2,), (1,), r"y: expected shape .* got \(2,\)"),
        ((3, 2), (0, 2), (1,), r"y: expected .* got \(0, 2\)"),
        ((3, 2), (3, 4), (1,), r"y: expected as many features as x \(3, 2\), got \(3, 4\)"),
        ((3, 2), (3, 2), (1, 1), r"gammas: expected shape \(kernels,\), at least one, got \(1, 1\)"),
        ((3, 2), (3, 2), (0,), r"gammas: expected .* got \(0,\)"),
    ],
)
def test_shapes_that_do_not_fit(
    x: tuple[int, ...], y: tuple[int, ...], gammas: tuple[int, ...], message: str, exact: Backend
) -> None:
    with pytest.raises(ValueError, match=message):
        F.mmd(tensor(exact, np.ones(x)), tensor(exact, np.ones(y)), exact.from_host(np.ones(gammas)))
