"""Softmax, its cross-entropy, heads of clusters and rows of a tensor: gradients, values, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import B, H, I, O, check_gradients, leaf

from aaecore import functions as F
from aaecore import nn
from aaecore.functions.tensor import Tensor, backward


def test_softmax_in_a_network(backend, rng):
    """A softmax that two losses use, after an activation."""
    x, net = leaf(backend, rng.standard_normal((B, I))), nn.MLP(backend, (I, H, O), "tanh", "sigmoid", rng=rng)
    target = Tensor(backend.from_host(rng.random((B, O))))

    def loss():
        p = F.softmax(net(x))
        return [F.half_squared_error(p, target), F.bce_with_logits(p, target, 0.3)]

    check_gradients([x, *net.parameters], loss)
    p = F.softmax(net(x)).numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("kind", ["one-hot", "soft", "some without"])
def test_cross_entropy_is_that_of_the_textbook(kind, backend, rng):
    target = np.eye(O)[rng.integers(0, O, B)] if kind != "soft" else rng.dirichlet(np.ones(O), B)
    if kind == "some without":
        target[1::2] = 0
    x, net = leaf(backend, rng.standard_normal((B, I))), nn.MLP(backend, (I, H, O), "tanh", rng=rng)
    t = Tensor(backend.from_host(target))
    check_gradients([x, *net.parameters], lambda: [F.softmax_cross_entropy(net(x), t, 0.7)])
    logits = net(x).numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert float(F.softmax_cross_entropy(net(x), t, 0.7)) == pytest.approx(-0.7 * (target * log_p).sum() / B)


def test_logits_so_large_that_exp_overflows(backend):
    logits = leaf(backend, np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]]))
    target = Tensor(backend.from_host(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])))
    np.testing.assert_allclose(F.softmax(logits).numpy(), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    assert float(F.softmax_cross_entropy(logits, target)) == pytest.approx((2e4 + np.log(3)) / 2)


def test_add_heads(backend, rng):
    """z + y heads, where y is a softmax and z comes out of an activation."""
    net_y, net_z = (nn.MLP(backend, (I, H, n), "tanh", "tanh", rng=rng) for n in (O, 2))
    x, heads = leaf(backend, rng.standard_normal((B, I))), leaf(backend, rng.standard_normal((O, 2)))
    target = Tensor(backend.from_host(rng.random((B, 2))))

    def loss():
        return [F.half_squared_error(F.add_heads(net_z(x), F.softmax(net_y(x)), heads), target)]

    check_gradients([x, heads, *net_y.parameters, *net_z.parameters], loss)
    y, z = F.softmax(net_y(x)), net_z(x)
    np.testing.assert_allclose(F.add_heads(z, y, heads).numpy(), z.numpy() + y.numpy() @ heads.numpy())


def test_head_hinge(backend, rng):
    heads = leaf(backend, rng.standard_normal((7, 2)))
    check_gradients([heads], lambda: [F.head_hinge(heads, 1.5, 0.7)])
    h = heads.numpy()
    missing = [max(0.0, 1.5 - np.linalg.norm(h[i] - h[j])) for i in range(7) for j in range(i)]
    assert 0 < sum(m > 0 for m in missing) < len(missing)
    assert float(F.head_hinge(heads, 1.5, 0.7)) == pytest.approx(0.7 * sum(missing))


def test_heads_that_coincide_get_no_gradient_but_those_of_others(backend):
    heads = leaf(backend, np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    backward([F.head_hinge(heads, 2.0)], parameters=[heads])
    np.testing.assert_allclose(backend.to_host(heads.grad), [[1, 0], [1, 0], [-2, 0]])


def test_rows_are_a_view_whose_gradient_lands_in_its_place(backend, rng):
    """The rows that nobody uses get none, two uses of a row are added."""
    x, net = leaf(backend, rng.standard_normal((B, I))), nn.MLP(backend, (I, H, O), "tanh", "tanh", rng=rng)
    target = Tensor(backend.from_host(rng.random((2, O))))

    def loss():
        y = net(x)
        parts = [F.rows(y, begin, begin + 2) for begin in (0, 1)]
        return [F.half_squared_error(part, target, weight) for part, weight in zip(parts, (1.0, 0.3), strict=True)]

    check_gradients([x, *net.parameters], loss)
    backward(loss(), parameters=[x])
    assert (backend.to_host(x.grad)[3:] == 0).all()
    y = net(x)
    assert F.rows(y, 1, 3).buffer.pointer == y.buffer.rows(1, 3).pointer


def test_what_does_not_fit_is_one_error(backend, rng):
    def made(*shape):
        return Tensor(backend.from_host(rng.random(shape)))

    bad = {
        r"^logits: expected shape \(batch, classes\), got \(4,\)": lambda: F.softmax(made(4)),
        r"^target: expected the shape of the logits \(4, 3\), got \(4, 2\)": lambda: F.softmax_cross_entropy(
            made(4, 3), made(4, 2)
        ),
        r"^heads: expected z \(B, Z\), y \(B, C\), heads \(C, Z\)": lambda: F.add_heads(
            made(4, 2), made(4, 3), made(2, 3)
        ),
        r"^least: expected a number >= 0": lambda: F.head_hinge(made(4, 2), -1.0),
        r"^rows: expected 0 <= begin <= end <= 4, got 3 and 5": lambda: F.rows(made(4, 2), 3, 5),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message):
            call()
