"""The reference of noise, dropout, moved images, averages and directions against transcriptions and differences.

Nothing here knows a kernel; test_ops.py compares the kernels with the reference.
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from finite_differences import agrees, away_from_kinks, empty

from aaecore.backends import reference
from aaecore.backends.reference import random

formulas = SimpleNamespace(**reference.FUNCTIONS)
RNG = np.array([5, 6], np.uint64)


def test_noise() -> None:
    x, y, n = away_from_kinks((10,)), empty(10), empty(10)
    formulas.random_normal(RNG, n, 10, 2, 0.0, 1.0)
    formulas.add_noise(RNG, x, y, 10, 2, 0.3)
    np.testing.assert_allclose(y, x + 0.3 * n, rtol=1e-15)


def test_dropout_of_a_gradient_is_the_gradient_of_dropout() -> None:
    def dropped(x: np.ndarray) -> np.ndarray:
        y = empty(x.size)
        formulas.dropout(RNG, x, y, x.size, 2, 0, 0.4)
        return y

    x, dy = away_from_kinks((20,)), away_from_kinks((20,), 1)
    agrees(dropped(dy), lambda x: float(np.sum(dy * dropped(x))), x)
    u = empty(20)
    formulas.random_uniform(RNG, u, 20, 2, 0.0, 1.0)
    assert np.count_nonzero(dropped(x)) == np.count_nonzero(u >= 0.4) not in (0, 20)


@pytest.mark.parametrize("numbers", [1, 3])
def test_images_move(numbers: int) -> None:
    """Pixel by pixel; further than the image is wide, too."""
    rows, height, width, most = 40, 3, 4, 5
    x = away_from_kinks((rows, height * width * numbers))
    y = empty(*x.shape)
    formulas.translate(RNG, x, y, rows, x.shape[1], height, width, most, 2)
    images, moved = (a.reshape(rows, height, width, numbers) for a in (x, y))
    words = random.philox(5, 6, 2, np.arange(rows))
    moves = [[int((2 * most + 1) * (int(word) >> 8) / 2**24) - most for word in row[:2]] for row in words]
    assert {m for move in moves for m in move} == set(range(-most, most + 1))
    for r, h, w in product(range(rows), range(height), range(width)):
        at = h - moves[r][0], w - moves[r][1]
        inside = 0 <= at[0] < height and 0 <= at[1] < width
        np.testing.assert_array_equal(moved[r, h, w], images[r, at[0], at[1]] if inside else 0)


def test_average() -> None:
    """After many steps it is the weighted mean of what was shown."""
    shown, average = away_from_kinks((30, 4)), np.zeros(4)
    for x in shown:
        formulas.average(x, np.array([0.1]), average, 4)
    weights = 0.1 * 0.9 ** np.arange(29, -1, -1)
    np.testing.assert_allclose(average, weights @ shown, rtol=1e-12)


def test_direction() -> None:
    """The step has the length, whatever length the direction has; without one it stays."""
    x, y = away_from_kinks((4, 3)), empty(4, 3)
    d = np.array([[3.0, 0, 4], [1e-20, 0, 0], [-1e30, 1e30, 0], [0, 0, 0]])
    formulas.add_direction(x, d, y, 4, 3, 2.0)
    expected = np.array([[1.2, 0, 1.6], [2, 0, 0], [-np.sqrt(2), np.sqrt(2), 0], [0, 0, 0]])
    np.testing.assert_allclose(y - x, expected, rtol=1e-12, atol=1e-12)
