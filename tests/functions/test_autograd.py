"""Reverse-mode differentiation: against finite differences in float64, and what it does with memory and updates."""

import gc
import weakref

import numpy as np
import pytest
from gradients import B, H, I, O, check_gradients, leaf, losses_of

from aaecore import functions as F
from aaecore import nn
from aaecore.backends import reference
from aaecore.backends.devices import get_backend
from aaecore.core.ops import ACTIVATIONS
from aaecore.functions.tensor import Tensor, backward
from aaecore.optim import SGD, Adam, Clipped, clip_grad_norm


@pytest.mark.parametrize("output", list(ACTIVATIONS))
@pytest.mark.parametrize("hidden", list(ACTIVATIONS))
@pytest.mark.parametrize("name", ["half_squared_error", "bce_with_logits", "adversarial_bce"])
def test_network_and_loss(name, hidden, output, backend, rng):
    width = 1 if name == "adversarial_bce" else O
    net = nn.MLP(backend, (I, H, H, width), hidden, output, rng=rng)
    x = leaf(backend, rng.standard_normal((B, I)))
    loss = losses_of(name, backend, rng, width)
    check_gradients([x, *net.parameters], lambda: [loss(net(x))])


@pytest.mark.parametrize("activation", ["identity", "tanh"])
@pytest.mark.parametrize("axis", [0, 1])
def test_concat(axis, activation, backend, rng):
    a, b = leaf(backend, rng.standard_normal((B, I))), leaf(backend, rng.standard_normal((B, I)))
    first = nn.Linear(backend, I, I, activation, rng=rng)
    second = nn.Linear(backend, 2 * I if axis else I, O, rng=rng)
    target = Tensor(backend.from_host(rng.random((B if axis else 2 * B, O))))
    parameters = [a, b, first.weight, first.bias, second.weight, second.bias]
    check_gradients(parameters, lambda: [F.half_squared_error(second(F.concat((first(a), b), axis)), target)])


@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_gaussian_sample(activation, backend, rng):
    x, eps = leaf(backend, rng.standard_normal((B, I))), backend.from_host(rng.standard_normal((B, O)))
    net = nn.MLP(backend, (I, H, 2 * O), "tanh", activation, rng=rng)
    target = Tensor(backend.from_host(rng.random((B, O))))
    check_gradients([x, *net.parameters], lambda: [F.half_squared_error(F.gaussian_sample(net(x), eps), target)])


@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid"])
def test_a_tensor_with_several_uses(activation, backend, rng):
    """A code that feeds a layer, a loss of its own and a concatenation: contributions add up, each derivative once."""
    x = leaf(backend, rng.standard_normal((B, I)))
    encoder, decoder = nn.Linear(backend, I, O, activation, rng=rng), nn.Linear(backend, 2 * O, O, rng=rng)
    target = Tensor(backend.from_host(rng.random((B, O))))

    def loss():
        z = encoder(x)
        y = decoder(F.concat((z, z), 1))
        return [F.half_squared_error(z, target), F.bce_with_logits(z, target), F.half_squared_error(y, target)]

    check_gradients([x, *(p for net in (encoder, decoder) for p in (net.weight, net.bias))], loss)


def test_a_layer_used_twice(backend, rng):
    x = leaf(backend, rng.standard_normal((B, I)))
    layer = nn.Linear(backend, I, I, "tanh", rng=rng)
    target = Tensor(backend.from_host(rng.random((B, I))))
    check_gradients([x, layer.weight, layer.bias], lambda: [F.half_squared_error(layer(layer(x)), target)])


def test_a_derivative_wrong_by_two_thousandths_is_noticed(backend, rng, monkeypatch):
    right = reference.FUNCTIONS["linear_backward_input"]

    def wrong(dy, weight, x, dx, *rest):
        right(dy * 1.002, weight, x, dx, *rest)

    monkeypatch.setattr(reference.backend, "FUNCTIONS", {**reference.FUNCTIONS, "linear_backward_input": wrong})
    x = leaf(backend, rng.standard_normal((B, I)))
    layer = nn.Linear(backend, I, O, "tanh", rng=rng)
    target = Tensor(backend.from_host(rng.random((B, O))))
    with pytest.raises(AssertionError):
        check_gradients([x], lambda: [F.half_squared_error(layer(x), target)])


def make(optimizer, seed=3):
    backend = get_backend("cpu")
    rng = np.random.default_rng(seed)
    net = nn.MLP(backend, (37, 50, 33), rng=rng)
    x = Tensor(backend.from_host(rng.random((20, 37))))
    return (
        net,
        optimizer(net.parameters),
        lambda: F.bce_with_logits(net(x), Tensor(backend.from_host(np.full((20, 33), 0.3)))),
    )


@pytest.mark.parametrize("optimizer", [Adam, lambda p: SGD(p, 0.1, 0.9)])
def test_fused_and_stored_gradients_give_the_same_bits(optimizer):
    fused_net, fused, fused_loss = make(optimizer)
    stored_net, stored, stored_loss = make(optimizer)
    clipped_net, clipped, clipped_loss = make(optimizer)
    for _ in range(5):
        fused.advance()
        fused_loss().backward(fused)
        stored.advance()
        stored_loss().backward()
        stored.step()
        clipped.advance()
        clipped_loss().backward()
        clip_grad_norm(clipped, 1e9)
        clipped.step()
    for a, b, c in zip(fused_net.parameters, stored_net.parameters, clipped_net.parameters, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
        assert np.array_equal(a.numpy(), c.numpy())


def test_a_shared_layer_is_updated_once_with_the_whole_gradient():
    nets = []
    for fused in (True, False):
        backend = get_backend("cpu")
        rng = np.random.default_rng(0)
        layer = nn.Linear(backend, 8, 8, "tanh", rng=rng)
        x, target = (Tensor(backend.from_host(rng.random((4, 8)))) for _ in range(2))
        adam = Adam((layer.weight, layer.bias))
        adam.advance()
        loss = F.half_squared_error(layer(layer(x)), target)
        if fused:
            loss.backward(adam)
        else:
            loss.backward()
            adam.step()
        nets.append(layer.weight.numpy())
    assert np.array_equal(*nets)


def test_clipping_bounds_the_global_norm():
    net, sgd, loss = make(lambda p: SGD(p, 1.0))
    before = [p.numpy() for p in net.parameters]
    sgd.advance()
    loss().backward()
    norm = np.sqrt(sum(np.sum(p.backend.to_host(p.grad).astype(float) ** 2) for p in net.parameters))
    clip_grad_norm(sgd, norm / 4)
    sgd.step()
    moved = np.sqrt(
        sum(np.sum((p.numpy() - b).astype(float) ** 2) for p, b in zip(net.parameters, before, strict=True))
    )
    assert moved == pytest.approx(norm / 4, rel=1e-4)


def test_accumulate_adds_and_the_default_overwrites():
    net, _, loss = make(Adam)
    weight = net.layers[0].weight
    loss().backward()
    once = weight.backend.to_host(weight.grad)
    loss().backward()
    assert np.array_equal(weight.backend.to_host(weight.grad), once)
    loss().backward(accumulate=True)
    assert np.array_equal(weight.backend.to_host(weight.grad), 2 * once)


def test_only_the_optimizers_parameters_move():
    net, _, loss = make(Adam)
    first, last = net.layers
    adam = Adam((first.weight, first.bias))
    before = [p.numpy() for p in net.parameters]
    adam.advance()
    loss().backward(adam)
    moved = [not np.array_equal(p.numpy(), b) for p, b in zip(net.parameters, before, strict=True)]
    assert moved == [True, True, False, False]
    assert last.weight.grad is None


def test_an_optimizer_of_half_a_layer():
    for chosen in ("weight", "bias"):
        for optimizer in (Adam, lambda p: SGD(p, 0.1)):
            backend = get_backend("cpu")
            rng = np.random.default_rng(0)
            layer = nn.Linear(backend, 8, 5, rng=rng)
            x, target = Tensor(backend.from_host(rng.random((4, 8)))), Tensor(backend.from_host(rng.random((4, 5))))
            before = layer.weight.numpy(), layer.bias.numpy()
            half = optimizer([getattr(layer, chosen)])
            half.advance()
            F.half_squared_error(layer(x), target).backward(half)
            moved = [
                not np.array_equal(layer.weight.numpy(), before[0]),
                not np.array_equal(layer.bias.numpy(), before[1]),
            ]
            assert moved == [chosen == "weight", chosen == "bias"]


def test_a_bias_shared_by_two_layers(backend, rng):
    x = leaf(backend, rng.standard_normal((B, I)))
    first, second = nn.Linear(backend, I, I, "tanh", rng=rng), nn.Linear(backend, I, I, rng=rng)
    second.bias = first.bias
    target = Tensor(backend.from_host(rng.random((B, I))))
    check_gradients(
        [x, first.weight, second.weight, first.bias], lambda: [F.half_squared_error(second(first(x)), target)]
    )


def test_an_update_with_accumulated_gradients():
    nets = []
    for fused in (True, False):
        net, adam, loss = make(Adam)
        loss().backward()
        adam.advance()
        if fused:
            loss().backward(adam, accumulate=True)
        else:
            loss().backward(accumulate=True)
            adam.step()
        nets.append(net)
    for a, b in zip(*(n.parameters for n in nets), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_clipping_holds_for_one_step():
    moved = []
    for clipped in (True, False):
        net, sgd, loss = make(lambda p: SGD(p, 0.1))
        for step in range(2):
            sgd.advance()
            loss().backward()
            if clipped and step == 0:
                clip_grad_norm(sgd, 1e-9)
            before = net.parameters[0].numpy()
            sgd.step()
        moved.append(np.abs(net.parameters[0].numpy() - before).max())
    assert moved[0] > 0.1 * moved[1]


def test_misuse():
    net, adam, loss = make(Adam)
    walked = loss()
    walked.backward()
    with pytest.raises(RuntimeError, match="walked before"):
        walked.backward()
    backend = adam.backend
    with pytest.raises(ValueError, match="expected at least one loss"):
        net(Tensor(backend.zeros((2, 37)))).backward()
    with pytest.raises(ValueError, match="expected at least one loss"):
        backward([])
    with pytest.raises(ValueError, match=r"x: expected shape \(batch, 37\), got \(2, 36\)"):
        net(Tensor(backend.zeros((2, 36))))
    with pytest.raises(ValueError, match=r"target: expected the shape of the prediction \(2, 33\), got \(2, 3\)"):
        F.half_squared_error(net(Tensor(backend.zeros((2, 37)))), Tensor(backend.zeros((2, 3))))
    with pytest.raises(ValueError, match="activation: expected one of identity, relu"):
        nn.Linear(backend, 2, 2, "swish", rng=np.random.default_rng(0))
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lr: expected a number >= 0"):
            Adam(net.parameters, lr=bad)
    with pytest.raises(ValueError, match="momentum: expected a number >= 0 and < 1"):
        SGD(net.parameters, momentum=1.0)


def test_depth_is_not_bounded_by_recursion():
    backend = get_backend("cpu")
    layer = nn.Linear(backend, 2, 2, rng=np.random.default_rng(0))
    x = Tensor(backend.zeros((1, 2)))
    for _ in range(3000):
        x = layer(x)
    F.half_squared_error(x, Tensor(backend.zeros((1, 2)))).backward()
    assert np.isfinite(backend.to_host(layer.bias.grad)).all()


def test_a_graph_goes_with_its_last_tensor():
    """No reference cycle: the memory of a step is free without the garbage collector."""
    net, _, loss = make(Adam)
    gc.disable()
    try:
        value = loss()
        maker = weakref.ref(value.maker)
        del value
        assert maker() is None
    finally:
        gc.enable()
    assert net.parameters


def test_clipped_steps_move_what_the_loss_reaches(backend, rng):
    """A parameter that another loss has left a gradient in stays where it is, as it does without clipping."""
    one, two = nn.Linear(backend, I, O, rng=rng), nn.Linear(backend, O, O, rng=rng)
    x, target = Tensor(backend.from_host(rng.random((B, I)))), Tensor(backend.from_host(rng.random((B, O))))
    sgd = SGD([one.weight, one.bias, two.weight, two.bias], 0.1)
    backward([F.half_squared_error(two(one(x)), target)], parameters=sgd.parameters)
    before = [p.numpy() for p in sgd.parameters]
    sgd.advance()
    backward([F.half_squared_error(one(x), target)], Clipped(sgd, 1e6))
    moved = [not np.array_equal(p.numpy(), b) for p, b in zip(sgd.parameters, before, strict=True)]
    assert moved == [True, True, False, False]
