"""Boltzmann machines: energies and gradients against sums over all states, chains, bits, files, samples."""

from __future__ import annotations

import copy
import pickle

import cuda_devices
import numpy as np
import pytest
from boltzmann_machines import KINDS, D, energies, make, roughen, rows, states, tensor, train
from gradients import numeric_gradient
from trained import StopAt, same

import aaecore
from aaecore import RBM, Trainer, nn
from aaecore.evaluation import log_partition
from aaecore.functions.tensor import backward
from aaecore.models import Batch

each = pytest.mark.parametrize("kind", KINDS)
B = 8
PROBABILITIES = {"rtol": 1e-9, "atol": 1e-12}


def yielded(model, x, dial=0.6):
    """The losses of one step by phase, without any update in between."""
    model.generator.restart()
    for network in model.networks.values():
        if isinstance(network, nn.Chains):
            network.clear()
    dials = {name: model.backend.from_host(np.array([dial])) for name in model.dials()}
    batch = Batch({"x": model.backend.from_host(x)}, model.draws, dials, model.generator)
    return {phase: losses for phase, *losses in model.step(batch)}


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


def frozen(monkeypatch, made, then):
    """Lets hidden units be what they are at the first call of `made`, as if they were data, in all calls of `then`."""
    seen, real = [], nn.Boltzmann.probabilities
    monkeypatch.setattr(nn.Boltzmann, "probabilities", lambda *args: seen.append(real(*args)) or seen[-1])
    result = made()

    def again():
        again_seen = iter(seen)
        monkeypatch.setattr(nn.Boltzmann, "probabilities", lambda *args: next(again_seen))
        return then()

    return result, again


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "gaussian" not in kind])
def test_phases_have_the_gradients_of_their_losses(kind, monkeypatch):
    """The ends of chains are draws, which a small change of weights leaves as they are."""
    model, x = roughen(make(kind)), rows()[:B].astype(np.float64)
    made, again = frozen(monkeypatch, lambda: yielded(model, x), lambda: yielded(model, x))
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
    model = make("greedy")
    turns = [[dial(step) for dial in model.dials().values()] for step in (0, 3, 4, 7, 8, 12, 1000)]
    assert turns == [[1, 0, 0]] * 2 + [[0, 1, 0]] * 2 + [[0, 0, 1]] * 3
    trainer, before = Trainer(model, 32), model.state_dict()
    for step in range(4):
        losses = trainer.step(rows()[:32])
        assert losses["layer_1"] != 0, step
        assert losses["layer_2"] == losses["layer_3"] == 0, step
    changed = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert {name.split(".")[0] for name in changed} == {"layer_1"}


@pytest.mark.parametrize("kind", ["persistent", "dbn", "whole dbm"])
def test_nothing_changes_before_the_first_loss(kind):
    model = train(kind, 1).model
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


# --- bits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)])
@each
def test_recorded_steps_and_a_resume_give_the_same_bits(kind, device, precision, tmp_path, cuda_device):
    options = {"device": device, "precision": precision}
    whole = train(kind, **options)
    assert same(whole, train(kind, record=False, **options))
    part = Trainer(make(kind, **options), 32)
    part.fit(rows(), 2, progress=False, callbacks=[StopAt(7)])
    part.save(tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    resumed.fit(rows(), 2, progress=False)
    assert same(whole, resumed)
    assert whole.history.rows == resumed.history.rows
    assert np.array_equal(whole.model.sample(9), resumed.model.sample(9))


@cuda_devices.needs_device
@each
def test_the_gpu_agrees_with_the_reference(kind, cuda_device):
    ours, theirs = (train(kind, 1, device=device) for device in ("cuda", "reference"))
    for name in ours.names:
        np.testing.assert_allclose(ours.history[name], theirs.history[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.model.encode(rows()), theirs.model.encode(rows()), atol=1e-4)
    samples = [t.model.sample(5) for t in (ours, theirs)]
    np.testing.assert_allclose(*samples, atol=1e-3)


@each
def test_copies_and_files_hold_chains_and_continue_alike(kind, tmp_path):
    trainer = train(kind)
    model = trainer.model
    model.save(tmp_path / "m.h5")
    twins = [aaecore.load(tmp_path / "m.h5"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    for twin in twins:
        assert twin.config() == model.config()
        assert all(np.array_equal(twin.state_dict()[k], v) for k, v in model.state_dict().items())
        assert np.array_equal(twin.encode(rows()), model.encode(rows()))
    assert np.array_equal(twins[1].sample(3), twins[2].sample(3))
    before = model.state_dict()
    Trainer(twins[0], 32, 0.0).step(rows()[:32])  # what it begins with is there already
    assert all(np.array_equal(twins[0].parameters[k].numpy(), before[k]) for k in model.parameters)


@each
def test_samples_are_replayed_as_they_are_launched(kind):
    model = train(kind).model
    twin = copy.deepcopy(model)
    recorded = model.sample(6)
    twin.sampler.advance()
    chain = nn.Chains(twin.backend, 6, *twin.widths)
    for _ in range(5):
        chain.keep(twin.gibbs(chain.states, twin.sampler))
        twin.sampler.advance()
    launched = twin.shown(twin.dreamt(chain.states)).numpy()
    assert np.array_equal(recorded, launched.astype(np.float32))
    assert not np.array_equal(model.sample(6), recorded)


# --- deep machines against sums over all states -----------------------------------------------------------------------


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


def test_mean_field_is_near_the_posterior():
    """Of a machine whose weights are small."""
    model = roughen(make("dbm", mean_field=30), 0.15)
    every, p = joint(model)
    v = states(D)[11]
    given = p * (every[0] == v).all(axis=1)
    for mu, units in zip(model.expected(tensor(model, v[None])), every[1:], strict=True):
        np.testing.assert_allclose(mu.numpy()[0], given @ units / given.sum(), atol=2e-3)


# --- samples ----------------------------------------------------------------------------------------------------------


def top_marginal(layer):
    """p of the states of the units below it (2^visible,)."""
    below = states(layer.weight.shape[1])
    p = np.exp(-energies(layer, below, states(layer.weight.shape[0]))).sum(axis=1)
    return below, p / p.sum()


@pytest.mark.parametrize("kind", ["rbm", "dbn"])
def test_samples_have_the_models_mean(kind):
    model = roughen(make(kind, sampling_steps=40))
    h, p = top_marginal(model.layers[-1])
    if kind == "dbn":
        w, _, b = (q.numpy() for q in model.layers[0].parameters)
        h = 1 / (1 + np.exp(-(h @ w + b)))
    samples = model.sample(4000)
    assert samples.dtype == np.float32
    deviations = samples.std(axis=0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - p @ h) < 4 * deviations).all()


@each
def test_shapes_and_ranges(kind):
    model = train(kind).model
    assert model.sample(3).shape == (3, D)
    assert model.sample(2, on_device=True).shape == (2, D)
    codes = model.encode(rows())
    units = KINDS[kind][1]["hidden"]
    assert codes.shape == (130, units if isinstance(units, int) else units[-1])
    assert 0 <= codes.min() <= codes.max() <= 1
    assert model.decode(codes).shape == model.reconstruct(rows()).shape == (130, D)
    if "dbm" not in kind:  # whose lowest hidden units depend on x besides
        np.testing.assert_allclose(model.decode(codes), model.reconstruct(rows()), atol=1e-6)
    assert model.evaluate(rows()) == pytest.approx(model.evaluate(rows(), "none").mean())
    assert "validation" in Trainer(model, 32).fit(rows(), 1, validation=rows(), progress=False).columns


# --- what they begin with, and what they refuse -----------------------------------------------------------------------


def test_visible_units_begin_at_the_mean_of_the_data():
    model = train("rbm", 1).model
    fresh = make("rbm")
    Trainer(fresh, 130).step(rows())
    assert np.abs(fresh.rbm.down(tensor(fresh, np.zeros((1, 5)))).numpy()[0] - rows().mean(axis=0)).max() < 2e-3
    before = model.rbm.visible_bias.numpy()
    Trainer(model, 32, 1e-12).step(rows()[:32])
    assert np.abs(model.rbm.visible_bias.numpy() - before).max() < 1e-9  # not again
    given = roughen(make("gaussian"))
    Trainer(given, 32).step(rows()[:32])
    assert float(given.state_dict()["inputs.scale"][0]) == 1.0  # weights are for data as they are


def test_states_of_weights_that_were_made_elsewhere():
    model = train("gaussian").model
    values = {name: value for name, value in model.state_dict().items() if name in model.parameters}
    other = make("gaussian", seed=9)
    other.load_state_dict(values)
    assert not other.state_dict()["chain.0"].any()
    with pytest.raises(ValueError, match=r"chain\.0: expected units that are 0 or 1, got 35 of 35 that are neither"):
        model.load_state_dict(model.state_dict() | {"chain.0": np.full((7, 5), 0.5)})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rbm", {"hidden": 0}, "hidden: expected an integer >= 1, got 0"),
        ("rbm", {"steps": 0}, "steps: expected an integer from 1 to 1000, got 0"),
        ("rbm", {"visible": "binary"}, "visible: expected one of bernoulli, gaussian, got 'binary'"),
        ("rbm", {"activation": "relu"}, "activation: expected one of sigmoid, got 'relu'"),
        ("rbm", {"chains": 0}, "chains: expected an integer >= 1, got 0"),
        ("rbm", {"sampling_steps": 0}, "sampling_steps: expected an integer >= 1, got 0"),
        ("dbn", {"hidden": ()}, "hidden: expected 1 to 5 layers, got 0"),
        ("dbn", {"hidden": (2,) * 6}, "hidden: expected 1 to 5 layers, got 6"),
        ("dbm", {"hidden": ()}, "hidden: expected one layer or more, got none"),
        ("dbm", {"mean_field": 0}, "mean_field: expected an integer >= 1, got 0"),
        ("dbm", {"pretraining_steps": -1}, "pretraining_steps: expected an integer >= 0, got -1"),
        ("dbn", {"steps_per_layer": -1}, "steps_per_layer: expected an integer >= 0, got -1"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **options)


def test_bad_data():
    with pytest.raises(ValueError, match="give the model visible='gaussian', which suits numbers of any range"):
        Trainer(make("rbm"), 32).fit(2 * rows(), 1, progress=False)
    with pytest.raises(ValueError, match="n: expected an integer >= 1, got 0"):
        make("rbm").sample(0)
    assert isinstance(make("rbm"), RBM)
