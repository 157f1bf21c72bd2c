"""Fully connected networks: initial weights, batch norm, noise on their input, averages of their weights."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import B, H, I, O, check_gradients, leaf

from aaecore import functions as F
from aaecore.core.random import Generator
from aaecore.functions.tensor import Tensor
from aaecore.nn import INITS, MLP, NORMS


def tensor(backend, array):
    return Tensor(backend.from_host(np.asarray(array, np.float64)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("hidden", ["relu", "tanh"])
def test_gradients_through_batch_norm(norm, hidden, backend, rng):
    net, generator = MLP(backend, (I, H, H, O), hidden, "sigmoid", rng=rng, batch_norm=norm), Generator(backend, 1)
    for p in net.parameters:  # shifts and scales that are no round numbers
        backend.upload(p.buffer, p.numpy() + 0.1 * rng.standard_normal(p.shape))
    x, target = leaf(backend, rng.standard_normal((B, I))), tensor(backend, rng.random((B, O)))

    def loss():
        generator.restart()
        return [F.half_squared_error(net(x, rng=generator), target)]

    check_gradients([x, *net.parameters], loss)
    assert len(net.norms) == {"none": 0, "hidden": 2, "all": 3}[norm]


def test_batch_norm_normalises_the_batch_and_evaluates_with_what_it_kept(backend, rng):
    net = MLP(backend, (I, O), output="identity", rng=rng, batch_norm="all")
    generator, rows = Generator(backend, 1), 3 + 5 * rng.standard_normal((200, I))
    x = tensor(backend, rows)
    generator.restart()
    made = net(x, rng=generator).numpy()
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(made.std(axis=0), 1, rtol=1e-4)
    raw = net.layers[0](x).numpy()
    np.testing.assert_allclose(net(x).numpy(), raw / np.sqrt(1 + 1e-5))  # nothing is kept yet
    net.keep_moments()
    np.testing.assert_allclose(net.norms[0].moments.storage.reshape(2, O)[0], 0.1 * raw.mean(axis=0))
    net.set_moments([tensor(backend, rows[:90]), tensor(backend, rows[90:])])
    np.testing.assert_allclose(net(x).numpy(), made, atol=1e-9)


def test_gradients_of_the_input_as_it_is_evaluated(backend, rng):
    net = MLP(backend, (I, H, O), "tanh", "sigmoid", rng=rng, batch_norm="all")
    net.set_moments([tensor(backend, 2 + rng.standard_normal((50, I)))])
    x, target = leaf(backend, rng.standard_normal((B, I))), tensor(backend, rng.random((B, O)))
    check_gradients([x], lambda: [F.half_squared_error(net(x), target)])


def test_what_an_unfinished_step_saw_is_not_kept(backend, rng):
    net, generator = MLP(backend, (I, O), rng=rng, batch_norm="all"), Generator(backend, 1)
    generator.restart()
    net(tensor(backend, 100 + rng.random((B, I))), rng=generator)
    generator.restart()
    x = tensor(backend, rng.random((B, I)))
    net(x, rng=generator)
    net.keep_moments()
    kept = backend.to_host(net.norms[0].moments)
    np.testing.assert_allclose(kept[0], 0.1 * net.layers[0](x).numpy().mean(axis=0))


def test_a_row_alone_has_no_moments_to_keep(backend, rng):
    net, generator = MLP(backend, (I, O), rng=rng, batch_norm="all"), Generator(backend, 1)
    generator.restart()
    net(tensor(backend, rng.random((1, I))), rng=generator)
    net.keep_moments()
    assert np.array_equal(backend.to_host(net.norms[0].moments), np.repeat([[0.0], [1.0]], O, axis=1))


def test_a_network_is_noisy_only_while_it_trains(backend, rng):
    net, generator = MLP(backend, (I, O), rng=rng, noise=0.5, dropout=0.25), Generator(backend, 1)
    x = tensor(backend, rng.random((B, I)))
    generator.restart()
    first = net(x, rng=generator).numpy()
    twin = Generator(backend, 1)
    expected = net.layers[0](F.dropout(F.noisy(x, twin, 0.5), twin, 0.25)).numpy()
    assert np.array_equal(first, expected)
    assert not np.array_equal(net(x, rng=generator).numpy(), first)
    assert np.array_equal(net(x).numpy(), net.layers[0](x).numpy())


@pytest.mark.parametrize("init", INITS)
def test_initial_weights_have_their_spread(init, backend, rng):
    net = MLP(backend, (400, 300, 200), rng=rng, init=init)
    stds = [layer.weight.numpy().std() for layer in net.layers]
    spread = {
        "uniform": [1 / np.sqrt(1200), 1 / np.sqrt(900)],
        "normal": [0.01, 0.01],
        "he": [np.sqrt(2 / 400), np.sqrt(1 / 300)],
    }
    np.testing.assert_allclose(stds, spread[init], rtol=0.02)
    assert (np.abs(net.layers[0].bias.numpy()).max() > 0) == (init == "uniform")


def test_a_trunk_has_no_last_layer(backend, rng):
    """Its layers are all hidden ones: of He's spread, and with batch norm."""
    net = MLP(backend, (400, 300), output="relu", rng=rng, init="he", batch_norm="hidden", last=False)
    assert net.layers[0].weight.numpy().std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
    assert len(net.norms) == 1
    assert net(tensor(backend, rng.standard_normal((B, 400)))).numpy().min() == 0


def test_an_average_follows_and_has_memory_of_its_own(backend, rng):
    net = MLP(backend, (I, H, O), rng=rng, batch_norm="hidden")
    average, before = net.copied(), [p.numpy() for p in net.parameters]
    for p in net.parameters:
        backend.upload(p.buffer, p.numpy() + 1)
    assert np.array_equal(average.parameters[0].numpy(), before[0])
    average.follow(net, tensor(backend, [0.25]))
    for own, old in zip(average.parameters, before, strict=True):
        np.testing.assert_allclose(own.numpy(), old + 0.25)
    assert list(average.named_parameters("a.")) == list(net.named_parameters("a."))
    average.norms[0].moments.storage[:] = 7
    assert backend.to_host(net.norms[0].moments).max() == 1


def test_what_no_network_can_have(backend, rng):
    for settings, message in (
        ({"init": "zeros"}, r"^init: expected one of uniform, normal, he, got 'zeros'"),
        ({"batch_norm": "some"}, r"^batch_norm: expected one of none, hidden, all, got 'some'"),
        ({"noise": -1.0}, r"^noise: expected a number >= 0"),
        ({"dropout": 1.0}, r"^dropout: expected a number >= 0 and < 1"),
    ):
        with pytest.raises(ValueError, match=message):
            MLP(backend, (I, O), rng=rng, **settings)
