"""Boltzmann machines: energies and gradients against sums over all states, chains, phases."""

from __future__ import annotations

import numpy as np
import pytest
from boltzmann_machines import KINDS, PROBABILITIES, B, D, energies, make, roughen, rows, states, tensor, yielded
from gradients import numeric_gradient

from aaecore import Trainer, nn
from aaecore.evaluation import log_partition
from aaecore.functions.tensor import backward
from aaecore.models import Batch

each = pytest.mark.parametrize("kind", KINDS)


# --- energies and gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rbm", "gaussian"])
def test_free_energies_are_those_of_enumerated_states(kind):
    model, v = roughen(make(kind)), rows()[:B].astype(np.float64)
    expected = -np.log(np.exp(-energies(model.rbm, v, states(5))).sum(axis=1))
    np.testing.assert_allclose(model.free_energy(v), expected, rtol=1e-6)  # rows come as float32
    x = tensor(model, v)
    constant = (model.rbm.visible_bias.numpy() ** 2).sum() / 2 if kind == "gaussian" else 0
    value = sum(float(loss) for loss in model.rbm.free_energy(x, model.rbm.up(x), 0.7))
    assert value == pytest.approx(0.7 * (expected.mean() - constant), rel=1e-9)


@pytest.mark.parametrize("kind", ["rbm", "gaussian"])
def test_units_are_given_by_their_neighbours(kind):
    model, v, h = roughen(make(kind)), rows()[:B].astype(np.float64), states(5)
    p = np.exp(-energies(model.rbm, v, h))
    p /= p.sum(axis=1, keepdims=True)
    x = tensor(model, v)
    np.testing.assert_allclose(model.rbm.probabilities(model.rbm.up(x)).numpy(), p @ h, **PROBABILITIES)
    w, b = model.rbm.weight.numpy(), model.rbm.visible_bias.numpy()
    below = h @ w + b
    mean = below if kind == "gaussian" else 1 / (1 + np.exp(-below))
    np.testing.assert_allclose(model.rbm.down(tensor(model, h)).numpy(), mean, **PROBABILITIES)


def test_with_the_models_own_expectation_the_gradient_is_that_of_the_likelihood():
    """F(data) less F of all states, each as probable as the machine has it, against -log p(data)."""
    model, x, v = roughen(make("rbm")), states(D)[5:40:3], states(D)
    layer = model.rbm
    p = np.exp(-model.free_energy(v) - log_partition(model))
    assert p.sum() == pytest.approx(1, rel=1e-9)
    data = tensor(model, x)
    losses = list(layer.free_energy(data, layer.up(data)))
    for row, weight in zip(v, p, strict=True):
        state = tensor(model, row[None])
        losses += layer.free_energy(state, layer.up(state), -weight)
    backward(losses, parameters=layer.parameters)

    def nats():
        return [float(model.free_energy(x).mean()) + log_partition(model)]

    for q in layer.parameters:
        numeric = numeric_gradient(q, nats)
        assert np.abs(numeric).max() > 0.01
        np.testing.assert_allclose(model.backend.to_host(q.grad), numeric, atol=1e-7, rtol=1e-5)


def frozen(monkeypatch, made):
    """What made() gives, and again: it with units, as if they were data, that are what they were the first time."""
    real = {name: getattr(nn.Boltzmann, name) for name in ("probabilities", "draw")}
    seen = {name: [] for name in real}
    for name, values in seen.items():
        monkeypatch.setattr(nn.Boltzmann, name, lambda *a, f=real[name], v=values: v.append(f(*a)) or v[-1])
    result = made()

    def again():
        for name, values in seen.items():
            held = iter(values)
            # Called all the same, since draws that follow count those before them.
            monkeypatch.setattr(nn.Boltzmann, name, lambda *a, f=real[name], v=held: (f(*a), next(v))[1])
        return made()

    return result, again


@each
def test_phases_have_the_gradients_of_their_losses(kind, monkeypatch):
    """The ends of chains are draws, which a small change of weights leaves as they are."""
    model, x = roughen(make(kind)), rows()[:B].astype(np.float64)
    made, again = frozen(monkeypatch, lambda: yielded(model, x))
    for phase in model.phases:
        moved = model.moved(phase)
        backward(made[phase.name], parameters=moved)
        for p in moved:
            numeric = numeric_gradient(p, lambda name=phase.name: again()[name])
            assert np.abs(numeric).max() > 0
            np.testing.assert_allclose(model.backend.to_host(p.grad), numeric, atol=1e-7, rtol=1e-5)


def test_gaussian_units_have_the_gradient_of_their_free_energy():
    """Beside a second set of rows, in whose difference |b|^2 / 2 cancels."""
    model, v = roughen(make("gaussian")), np.random.default_rng(1).standard_normal((2, B, D))
    layer, (a, b) = model.rbm, (tensor(model, part) for part in v)

    def difference():
        f, g = (-np.log(np.exp(-energies(layer, part, states(5))).sum(axis=1)).mean() for part in v)
        return [f - g]

    backward([*layer.free_energy(a, layer.up(a)), *layer.free_energy(b, layer.up(b), -1.0)])
    for p in layer.parameters:
        numeric = numeric_gradient(p, difference)
        np.testing.assert_allclose(model.backend.to_host(p.grad), numeric, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("kind", ["rbm", "gaussian"])
def test_a_chain_of_one_step_is_drawn_as_the_formulas_say(kind):
    model, x = roughen(make(kind, steps=1, persistent=False, binary=False)), rows()[:B].astype(np.float64)
    loss = sum(float(loss) for loss in yielded(model, x)["divergence"])
    model.generator.restart()
    u, noise = (
        model.backend.to_host(f((B, n))) for f, n in ((model.generator.uniform, 5), (model.generator.normal, D))
    )
    w, c, b = (p.numpy() for p in model.rbm.parameters)
    h = (u < 1 / (1 + np.exp(-(x @ w.T + c)))).astype(float)
    if kind == "gaussian":
        v = h @ w + b + noise
    else:
        model.generator.restart()
        model.generator.stream()
        v = (model.backend.to_host(model.generator.uniform((B, D))) < 1 / (1 + np.exp(-(h @ w + b)))).astype(float)
    f = [-np.log(np.exp(-energies(model.rbm, part, states(5))).sum(axis=1)).mean() for part in (x, v)]
    assert loss == pytest.approx(f[0] - f[1], rel=1e-9)


# --- chains, phases, dials --------------------------------------------------------------------------------------------


@each
def test_phases_move_their_networks_and_no_others(kind):
    for phase in make(kind).phases:
        early = {"energy": {"pretraining_steps": 1}} if "pretraining" in make(kind).phases[0].name else {}
        model = make(kind, **({"steps_per_layer": 0} if kind == "greedy" else early.get(phase.name, {})))
        trainer = Trainer(model, 32, {p.name: 1e-2 * (p.name == phase.name) for p in model.phases})
        trainer.step(rows()[:32])  # the first one sets statistics
        before = model.state_dict()
        trainer.step(rows()[32:64])
        after = model.state_dict()
        moved = {name.split(".")[0] for name in model.parameters if (after[name] != before[name]).any()}
        assert moved == set(phase.moves)


def test_layers_learn_one_after_the_other():
    """What does not learn stays, to the bit; momentum does not move it on."""
    model = make("greedy")
    turns = [[factor(step) for factor in model.rate_factors().values()] for step in (0, 3, 4, 7, 8, 12, 1000)]
    assert turns == [[1, 0, 0]] * 2 + [[0, 1, 0]] * 2 + [[0, 0, 1]] * 3
    trainer, before = Trainer(model, 32), model.state_dict()
    for step in range(13):
        trainer.step(rows()[:32])
        after = model.state_dict()
        changed = {name.split(".")[0] for name in model.parameters if (after[name] != before[name]).any()}
        assert changed == {f"layer_{min(step // 4, 2) + 1}"}, step
        before = after


@pytest.mark.parametrize(
    ("kind", "options", "phase", "parameter"),
    [
        ("greedy", {"steps_per_layer": 300}, "layer_2", "layer_2.weight"),
        ("dbm", {"pretraining_steps": 300}, "energy", "layer_1.weight"),
    ],
)
def test_a_phase_that_waited_begins_with_updates_of_its_rate(kind, options, phase, parameter):
    """Adam's moments grew while it waited; from moments of 0 its updates were 2.6 and 6.7 times the rate."""
    model = make(kind, device="cpu", **options)
    trainer, updates = Trainer(model, 32), []
    trainer.fit(rows()[:32], 300, progress=False)
    for _ in range(30):
        before = model.parameters[parameter].numpy()
        trainer.step(rows()[:32])
        updates.append(np.abs(model.parameters[parameter].numpy() - before).max())
    assert 0 < max(updates) < 1.2 * trainer.base_lr[phase]


def test_grey_values_are_drawn_or_taken():
    for binary in (True, False):
        model = make("rbm", binary=binary)
        x = np.full((400, D), 0.3)
        taken = model.taken(Batch({"x": model.backend.from_host(x)}, model.draws, {}, model.generator)).numpy()
        assert set(np.unique(taken)) == ({0.0, 1.0} if binary else {0.3})
        assert taken.mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("kind", ["persistent", "dbn", "whole dbm"])
def test_nothing_changes_before_the_first_loss(kind):
    model = roughen(make(kind))
    before, counter = model.state_dict(), model.generator.counter
    model.generator.restart()
    next(iter(model.step(Batch({"x": model.backend.from_host(rows()[:B])}, model.draws, {}, model.generator))))
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.generator.counter == counter


def test_chains_go_on_where_they_were():
    """By the formulas: the state after a step is a draw, given the visible units that the state before it gave."""
    model = make("persistent", chains=2000, steps=1)
    assert not model.state_dict()["chain.0"].any()
    roughen(model)
    trainer = Trainer(model, 32, 0.0)  # nothing learns
    for _ in range(30):
        trainer.step(rows()[:32])
    h = states(5)
    p = np.exp(-energies(model.rbm, states(D), h)).sum(axis=0)
    expected = p @ h / p.sum()
    deviations = np.sqrt(expected * (1 - expected) / 2000)
    assert (np.abs(model.state_dict()["chain.0"].mean(axis=0) - expected) < 4 * deviations).all()
