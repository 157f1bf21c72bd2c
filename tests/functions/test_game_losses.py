"""Losses of a game that are no part of its value: what pulls, what keeps smooth, and the noise that it looks with."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import B, H, I, O, leaf, losses_of, numeric_gradient

from aaecore import functions as F
from aaecore import get_backend
from aaecore.core.random import Generator
from aaecore.functions.tensor import Tensor, backward
from aaecore.nn import MLP


def check(parameters, losses, value):
    """The gradients of the losses are those of value(), which gives a float."""
    backward(losses(), parameters=parameters)
    for p in parameters:
        numeric = numeric_gradient(p, lambda: [value()])
        assert np.abs(numeric).max() > 1e-4
        np.testing.assert_allclose(p.backend.to_host(p.grad), numeric, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", ["half_squared_error", "bce_with_logits", "adversarial_bce"])
@pytest.mark.parametrize("factors", [(), (0.25,), (3.0, 0.5, 2.0)])
def test_a_pull_has_the_gradient_times_its_factors_and_the_plain_value(name, factors, backend, rng):
    width = 1 if name == "adversarial_bce" else O
    net, x = MLP(backend, (I, H, width), "tanh", rng=rng), Tensor(backend.from_host(rng.random((B, I))))
    loss = losses_of(name, backend, rng, width)
    numbers = [Tensor(backend.from_host(np.array([f]))) for f in factors]
    check(net.parameters, lambda: [F.pull(loss(net(x)), *numbers)], lambda: np.prod(factors) * float(loss(net(x))))
    pulled = F.pull(loss(net(x)), *numbers)
    assert float(pulled) == float(loss(net(x)))
    assert (pulled.counted, loss(net(x)).counted) == (False, True)


def test_a_pull_adds_to_what_has_the_same_inputs(backend, rng):
    """Two of them and another loss of one network: its gradients are walked once, and are the sum."""
    net, x = MLP(backend, (I, H, O), "tanh", rng=rng), Tensor(backend.from_host(rng.random((B, I))))
    first, second = (losses_of(name, backend, rng, O) for name in ("half_squared_error", "bce_with_logits"))
    factor, other = (Tensor(backend.from_host(np.array([f]))) for f in (0.3, 1.7))

    def losses():
        y = net(x)
        pulling = second(y)
        return [first(y), F.pull(pulling, factor), F.pull(pulling, other, other)]

    check(net.parameters, losses, lambda: float(first(net(x))) + (0.3 + 1.7**2) * float(second(net(x))))


def test_a_pull_by_a_changing_factor_gives_that_factor_no_gradient(backend, rng):
    net, x = MLP(backend, (I, O), rng=rng), Tensor(backend.from_host(rng.random((B, I))))
    loss = losses_of("half_squared_error", backend, rng, O)
    fixed = float(loss(net(x)))

    def losses():
        made = loss(net(x))
        return [F.pull(made, made.detach())]

    check(net.parameters, losses, lambda: fixed * float(loss(net(x))))


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_what_lies_above_the_entropy(device, rng):
    """At least: twice the squared error, which may vanish where the cross-entropy of grey values does not."""
    backend = get_backend(device)
    logits, target = rng.normal(size=(B, O)), rng.random((B, O))
    p = 1 / (1 + np.exp(-logits))
    y, t = leaf(backend, logits), Tensor(backend.from_host(target))
    loss = F.bce_with_logits(y, t)
    above = float(F.above_entropy(loss, B))
    assert above == pytest.approx(2 * ((p - target) ** 2).sum(1).mean(), rel=1e-5)
    exact = F.bce_with_logits(leaf(backend, np.log(target / (1 - target))), t)
    assert above < float(loss) - float(exact)
    assert float(F.above_entropy(exact, B)) < 1e-10
    assert float(exact) > 1


@pytest.mark.parametrize("weight", [1.0, 7.5])
def test_a_penalty_of_differences(weight, backend, rng):
    """Both sides get a gradient, and each loss says all of it."""
    net = MLP(backend, (I, H, 1), "tanh", rng=rng)
    x, beside = (Tensor(backend.from_host(rng.random((B, I)))) for _ in range(2))

    def value():
        return weight / 2 * np.mean((net(x).numpy() - net(beside).numpy()) ** 2)

    # The bias of the last layer moves both sides alike.
    check(net.parameters[:-1], lambda: F.difference_penalty(net(x), net(beside), weight), value)
    made = F.difference_penalty(net(x), net(beside), weight)
    assert [float(loss) for loss in made] == pytest.approx([value()] * 2)
    assert [loss.counted for loss in made] == [False, False]
    backward(F.difference_penalty(net(x), net(beside), weight), parameters=net.parameters[-1:])
    np.testing.assert_allclose(backend.to_host(net.parameters[-1].grad), 0, atol=1e-15)


def test_small_differences_measure_a_gradient(backend, rng):
    """Of a linear function its very norm, on average: half the squared norm times the weight."""
    slope, step = np.array([[3.0, -4.0]]), 1e-3
    x = Tensor(backend.from_host(rng.random((20000, 2))))
    beside = F.noisy(x, Generator(backend, 1), step)
    a, b = (Tensor(backend.from_host(t.numpy() @ slope.T)) for t in (x, beside))
    leaf_a = leaf(backend, a.numpy())
    made = F.difference_penalty(leaf_a, b, 1 / step**2)
    assert float(made[0]) == pytest.approx(25 / 2, rel=0.05)


def test_what_is_no_loss_that_depends_on_something(backend, rng):
    number = Tensor(backend.from_host(rng.random((B, O))))
    lost = F.half_squared_error(number, number)
    for use in (lambda t: F.pull(t), lambda t: F.above_entropy(t, B)):
        for bad in (lost, number):
            with pytest.raises(ValueError, match=r"^loss: expected a loss that depends on something, got a tensor of"):
                use(bad)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_numbers_of_the_device_are_combined_and_kept(device):
    backend = get_backend(device)
    a, b = (Tensor(backend.from_host(np.array([value]))) for value in (3.0, 0.5))
    assert float(F.combined(a, b, 4.0)) == 5.0
    assert (float(a), float(b)) == (3.0, 0.5)
