"""The formulas of classes, clusters and batch norm against mathematics: textbook formulas and finite differences."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from finite_differences import Array, agrees, away_from_kinks, empty

from aaecore.backends import reference
from aaecore.core.ops import ACTIVATIONS, IDENTITY, RELU

SLOPE, EPS = 0.2, 1e-3
activations = pytest.mark.parametrize("act", ACTIVATIONS.values(), ids=ACTIVATIONS)
formulas = SimpleNamespace(**reference.FUNCTIONS)


# --- softmax ----------------------------------------------------------------------------------------------------------


def _softmax(logits: Array) -> Array:
    p = empty(*logits.shape)
    formulas.softmax(logits, p, *logits.shape)
    return p


def test_softmax() -> None:
    logits = away_from_kinks((4, 3), 1)
    expected = [[math.exp(x) / sum(math.exp(y) for y in row) for x in row] for row in logits]
    np.testing.assert_allclose(_softmax(logits), expected, rtol=1e-12)


def test_softmax_of_far_logits_is_exactly_0_and_1() -> None:
    assert _softmax(np.array([[1e4, 0.0, -1e4], [-3e4, -3e4, -9e4]])).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]


def test_softmax_backward() -> None:
    logits, dp, dlogits = away_from_kinks((4, 3), 1), away_from_kinks((4, 3), 2), empty(4, 3)
    formulas.softmax_backward(dp, _softmax(logits), dlogits, 4, 3, 0)
    agrees(dlogits, lambda x: float(np.sum(dp * _softmax(x))), logits)


def _cross_entropy(logits: Array, target: Array) -> tuple[Array, float]:
    dlogits, loss = empty(*logits.shape), empty(1)
    formulas.softmax_cross_entropy(logits, target, dlogits, loss, *logits.shape, 0.75)
    return dlogits, float(loss[0])


def test_softmax_cross_entropy() -> None:
    """Targets need not be ones, nor sum to one."""
    logits, target = away_from_kinks((4, 3), 1), np.random.default_rng(2).uniform(0, 1, (4, 3))
    target[2] = 0, 1, 0
    dlogits, loss = _cross_entropy(logits, target)
    expected = -0.75 / 4 * sum(t * math.log(p) for t, p in zip(target.flat, _softmax(logits).flat, strict=True))
    assert loss == pytest.approx(expected, rel=1e-12)
    agrees(dlogits, lambda x: _cross_entropy(x, target)[1], logits)


def test_a_row_without_a_class_adds_nothing() -> None:
    target = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    dlogits, loss = _cross_entropy(np.array([[1e4, -1e4, 3.0], [0.0, 0.0, 0.0]]), target)
    assert dlogits[0].tolist() == [0, 0, 0]
    assert loss == pytest.approx(0.75 / 2 * math.log(3), rel=1e-12)


# --- batch norm -------------------------------------------------------------------------------------------------------

X, GAMMA, SHIFT = away_from_kinks((5, 3), 3), away_from_kinks((3,), 4), away_from_kinks((3,), 5)


def _batch_norm(x: Array, gamma: Array, shift: Array, act: int) -> tuple[Array, Array]:
    y, moments = empty(*x.shape), empty(2, x.shape[1])
    formulas.batch_norm_forward(x, gamma, shift, y, moments, *x.shape, act, SLOPE, EPS)
    return y, moments


def _activated(x: Array, act: int) -> Array:
    return [x, np.maximum(x, 0), np.where(x > 0, x, SLOPE * x), 1 / (1 + np.exp(-x)), np.tanh(x)][act]


@activations
def test_batch_norm(act: int) -> None:
    y, moments = _batch_norm(X, GAMMA, SHIFT, act)
    for column, mean, variance, gamma, shift, outputs in zip(X.T, *moments, GAMMA, SHIFT, y.T, strict=True):
        assert mean == pytest.approx(sum(column) / 5, rel=1e-12)
        assert variance == pytest.approx(sum((x - mean) ** 2 for x in column) / 5, rel=1e-12)
        expected = _activated(gamma * (column - mean) / math.sqrt(variance + EPS) + shift, act)
        np.testing.assert_allclose(outputs, expected, rtol=1e-12)


@activations
def test_moments_of_other_rows(act: int) -> None:
    moments, y = np.array([[0.5, -1.0, 2.0], [0.3, 2.0, 0.0]]), empty(5, 3)
    formulas.batch_norm_apply(X, GAMMA, SHIFT, moments, y, 5, 3, act, SLOPE, EPS)
    np.testing.assert_allclose(
        y, _activated(GAMMA * (X - moments[0]) / np.sqrt(moments[1] + EPS) + SHIFT, act), rtol=1e-12
    )


def test_one_row_has_no_variance() -> None:
    y, moments = _batch_norm(X[:1], GAMMA, SHIFT, RELU)
    assert moments.tolist() == [X[0].tolist(), [0, 0, 0]]
    assert y.tolist() == [np.maximum(SHIFT, 0).tolist()]


@activations
def test_batch_norm_backward(act: int) -> None:
    """It takes the gradient before the activation, which activation_backward makes of what comes after."""
    seed, dy = away_from_kinks((5, 3), 6), empty(5, 3)
    dx, dgamma, dshift = empty(5, 3), empty(3), empty(3)

    def value(x: Array, gamma: Array, shift: Array) -> float:
        return float(np.sum(seed * _batch_norm(x, gamma, shift, act)[0]))

    assert np.abs(_batch_norm(X, GAMMA, SHIFT, IDENTITY)[0]).min() > 1e-3  # from the kink
    y, moments = _batch_norm(X, GAMMA, SHIFT, act)
    formulas.activation_backward(seed, y, dy, 15, act, 0, SLOPE)
    formulas.batch_norm_backward(dy, X, GAMMA, moments, dx, dgamma, dshift, 5, 3, EPS)
    agrees(dx, lambda x: value(x, GAMMA, SHIFT), X)
    agrees(dgamma, lambda gamma: value(X, gamma, SHIFT), GAMMA)
    agrees(dshift, lambda shift: value(X, GAMMA, shift), SHIFT)


# --- heads of clusters ------------------------------------------------------------------------------------------------

Y, HEADS, Z = away_from_kinks((4, 3), 7), away_from_kinks((3, 2), 8), away_from_kinks((4, 2), 9)


def _add_product(y: Array, heads: Array) -> Array:
    out = empty(4, 2)
    formulas.add_product(y, heads, Z, out, 4, 3, 2)
    return out


def test_add_product() -> None:
    seed, dy, dheads = away_from_kinks((4, 2), 10), empty(4, 3), empty(3, 2)
    np.testing.assert_allclose(_add_product(Y, HEADS), Y @ HEADS + Z, rtol=1e-12)
    formulas.add_product_backward(seed, HEADS, dy, 4, 3, 2, 0)
    formulas.add_product_backward_heads(Y, seed, dheads, 4, 3, 2, 0)
    agrees(dy, lambda y: float(np.sum(seed * _add_product(y, HEADS))), Y)
    agrees(dheads, lambda heads: float(np.sum(seed * _add_product(Y, heads))), HEADS)


def _hinge(heads: Array, least: float) -> tuple[Array, float]:
    dheads, loss = empty(*heads.shape), empty(1)
    formulas.head_hinge(heads, dheads, loss, *heads.shape, least, 0.75)
    return dheads, float(loss[0])


def test_head_hinge() -> None:
    """Some pairs are nearer than 2, others are not."""
    heads = 2 * away_from_kinks((5, 2), 11)
    distances = [math.dist(a, b) for i, a in enumerate(heads) for b in heads[i + 1 :]]
    assert min(distances) < 1.9 < 2.1 < max(distances)
    dheads, loss = _hinge(heads, 2.0)
    assert loss == pytest.approx(0.75 * sum(max(0.0, 2 - d) for d in distances), rel=1e-12)
    agrees(dheads, lambda h: _hinge(h, 2.0)[1], heads)


def test_heads_that_coincide_and_heads_apart_are_not_moved() -> None:
    heads = np.array([[1.0, 2.0], [1.0, 2.0], [4.0, 6.0]])
    dheads, loss = _hinge(heads, 5.0)
    assert not dheads.any()
    assert loss == 0.75 * 5
