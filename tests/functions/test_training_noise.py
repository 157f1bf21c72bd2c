"""Noise, dropout, images that move, steps in a direction: what they do, their gradients, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import B, H, I, O, check_gradients, leaf

from aaecore import functions as F
from aaecore import nn
from aaecore.core.random import Generator
from aaecore.functions.tensor import Tensor, backward


def test_noise_is_added_new_at_every_call_and_passes_gradients_on(backend, rng):
    generator, twin = Generator(backend, 3), Generator(backend, 3)
    x = leaf(backend, rng.random((400, 5)))
    first, second = (F.noisy(x, generator, 0.1).numpy() for _ in range(2))
    noise = backend.to_host(twin.normal((400, 5), 0.0, 0.1))
    np.testing.assert_allclose(first, x.numpy() + noise, rtol=1e-12)
    assert np.std(first - x.numpy()) == pytest.approx(0.1, rel=0.05)
    assert np.abs(np.corrcoef((first - x.numpy()).ravel(), (second - x.numpy()).ravel())[0, 1]) < 0.1
    target = Tensor(backend.from_host(rng.random((400, 5))))
    made = F.noisy(x, generator, 0.1)
    backward([F.half_squared_error(made, target)], parameters=[x])
    np.testing.assert_allclose(backend.to_host(x.grad), (made.numpy() - target.numpy()) / 400)


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_dropout_has_the_gradient_of_its_mask(activation, backend, rng):
    x, generator = leaf(backend, rng.standard_normal((B, I))), Generator(backend, 5)
    first, second = nn.Linear(backend, I, H, activation, rng=rng), nn.Linear(backend, H, O, rng=rng)
    target = Tensor(backend.from_host(rng.random((B, O))))

    def loss():
        generator.restart()
        return [F.half_squared_error(second(F.dropout(first(x), generator, 0.4)), target)]

    check_gradients([x, first.weight, first.bias, second.weight], loss)


def test_dropout_keeps_the_mean_and_drops_its_share(backend, rng):
    x = Tensor(backend.from_host(np.ones((500, 40))))
    y = F.dropout(x, Generator(backend, 1), 0.3).numpy()
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert F.dropout(x, Generator(backend, 1), 0.0).numpy().min() == 1


def test_images_move_by_whole_pixels_and_zeros_come_in(backend, rng):
    """Every move within reach turns up, and each image is a shifted copy of itself."""
    images = 1 + rng.random((300, 4, 5, 3))
    x = Tensor(backend.from_host(images.reshape(300, -1)))
    moved = F.translate(x, Generator(backend, 2), (4, 5), 1).numpy().reshape(images.shape)
    moves = set()
    for before, after in zip(images, moved, strict=True):
        padded = np.pad(before, ((1, 1), (1, 1), (0, 0)))
        fits = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if np.array_equal(
            padded[1 - d : 5 - d, 1 - r : 6 - r], after)]  # fmt: skip
        assert len(fits) == 1
        moves.add(fits[0])
    assert len(moves) == 9


def test_towards_goes_that_far_row_by_row(backend, rng):
    x, d = rng.standard_normal((4, 6)), rng.standard_normal((4, 6)) * [[1e-15], [1.0], [0.0], [1e12]]
    y = F.towards(Tensor(backend.from_host(x)), backend.from_host(d), 2.5).numpy()
    length = np.linalg.norm(d, axis=1, keepdims=True)
    np.testing.assert_allclose(y - x, 2.5 * d / np.where(length == 0, 1, length), atol=1e-12)


def test_what_does_not_fit_is_one_error(backend, rng):
    x, generator = Tensor(backend.from_host(rng.random((4, 6)))), Generator(backend, 0)
    bad = {
        r"^std: expected a number >= 0, got -1": lambda: F.noisy(x, generator, -1.0),
        r"^rate: expected a number >= 0 and < 1, got 1": lambda: F.dropout(x, generator, 1.0),
        r"^shape: expected height and width that divide the features": lambda: F.translate(x, generator, (4, 4), 1),
        r"^shape: expected height and width": lambda: F.translate(x, generator, (2, 3, 1), 1),
        r"^most: expected an integer >= 0, got -1": lambda: F.translate(x, generator, (2, 3), -1),
        r"^direction: expected the shape of x \(4, 6\)": lambda: F.towards(x, backend.zeros((4, 5)), 1.0),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message):
            call()
