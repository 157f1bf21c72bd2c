"""Deep Boltzmann machines against sums over all states of their units."""

from __future__ import annotations

import numpy as np
from boltzmann_machines import PROBABILITIES, B, D, make, roughen, rows, states, tensor, yielded

from aaecore import Trainer
from aaecore.functions.tensor import backward


def joint(model):
    """All states of the units of a DBM by layer, and how probable they are together."""
    widths = [D, *model.hidden]
    every = np.split(states(sum(widths)), np.cumsum(widths)[:-1], axis=1)
    energy = -every[0] @ model.layers[0].visible_bias.numpy()
    for layer, below, above in zip(model.layers, every, every[1:], strict=False):
        energy -= above @ layer.bias.numpy() + ((below @ layer.weight.numpy().T) * above).sum(axis=1)
    p = np.exp(-energy)
    return every, p / p.sum()


def test_chains_and_samples_of_a_deep_machine_are_its_own():
    model = roughen(make("dbm", chains=4000, pretraining_steps=0, sampling_steps=40), 0.5)
    every, p = joint(model)
    trainer = Trainer(model, 32, 0.0)  # nothing learns
    for _ in range(20):
        trainer.step(rows()[:32])
    for i, units in enumerate(every[1:]):
        expected = p @ units
        deviations = np.sqrt(expected * (1 - expected) / 4000)
        assert (np.abs(model.state_dict()[f"chain.{i}"].mean(axis=0) - expected) < 4 * deviations).all()
    samples = model.sample(4000)
    assert (np.abs(samples.mean(axis=0) - p @ every[0]) < 4 * samples.std(axis=0) / np.sqrt(4000)).all()


def test_mean_field_is_where_every_layer_agrees_with_its_neighbours():
    model, v = roughen(make("whole dbm", mean_field=60), 0.5), states(D)[::9]
    h = [mu.numpy() for mu in model.expected(tensor(model, v))]
    weights = [layer.weight.numpy() for layer in model.layers]
    for i, (below, layer) in enumerate(zip([v, *h], model.layers, strict=False)):
        logits = below @ weights[i].T + layer.bias.numpy()
        if i < 2:
            logits += h[i + 1] @ weights[i + 1]
        np.testing.assert_allclose(h[i], 1 / (1 + np.exp(-logits)), atol=1e-9)
    np.testing.assert_allclose(model.encode(v), h[-1], atol=1e-6)


def test_a_deep_machine_of_one_layer_is_pretrained_as_a_restricted_one():
    deep, plain = roughen(make("dbm", hidden=(5,))), roughen(make("rbm", steps=1))
    x = rows()[:B].astype(np.float64)
    backward(yielded(deep, x)["pretraining"])
    backward(yielded(plain, x)["divergence"])
    for p, q in zip(deep.layer_1.parameters, plain.rbm.parameters, strict=True):
        np.testing.assert_allclose(deep.backend.to_host(p.grad), plain.backend.to_host(q.grad), atol=1e-12)


def test_what_units_take_is_doubled_where_a_neighbour_is_missing():
    model, v, h = roughen(make("dbm")), states(D)[::9], states(4)[::3]
    (w, c, _), (upper, top) = ([p.numpy() for p in layer.parameters] for layer in model.layers)
    middle = states(5)[::4]
    for found, logits in (
        (model._risen(0, tensor(model, v)), 2 * v @ w.T + c),
        (model._risen(1, tensor(model, middle)), middle @ upper.T + top),
        (model._fallen(1, tensor(model, h)), 2 * h @ upper + c),
    ):
        np.testing.assert_allclose(found.numpy(), 1 / (1 + np.exp(-logits)), **PROBABILITIES)


def test_mean_field_is_near_the_posterior():
    """Of a machine whose weights are small."""
    model = roughen(make("dbm", mean_field=30), 0.15)
    every, p = joint(model)
    v = states(D)[11]
    given = p * (every[0] == v).all(axis=1)
    for mu, units in zip(model.expected(tensor(model, v[None])), every[1:], strict=True):
        np.testing.assert_allclose(mu.numpy()[0], given @ units / given.sum(), atol=2e-3)
