"""Boltzmann machines: recorded steps, resumes, copies and files give the same bits, and what they begin with."""

from __future__ import annotations

import copy
import pickle

import cuda_devices
import numpy as np
import pytest
from boltzmann_machines import KINDS, make, roughen, rows, tensor, train
from trained import StopAt, same

import aaecore
from aaecore import Trainer, nn

each = pytest.mark.parametrize("kind", KINDS)


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


@pytest.mark.parametrize("cls", [aaecore.RBM, aaecore.DBN, aaecore.DBM])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bits_do_not_depend_on_threads(cls, precision, threads):
    """Products of a million flop and more, which threads share."""
    x, trained = np.random.default_rng(0).random((130, 96)).astype(np.float32), []
    options = {} if cls is aaecore.RBM else {"hidden": (72, 64)}
    for n in (1, 2, 3):
        threads(n)
        model = cls(96, **{"hidden": 72, "chains": 80, "sampling_steps": 5, "precision": precision, **options})
        trainer = Trainer(model, 100)
        trainer.fit(x, 3, progress=False)
        trained.append((trainer, model.sample(70), model.encode(x), model.evaluate(x)))
    for other in trained[1:]:
        assert same(trained[0][0], other[0])
        assert all(np.array_equal(a, b) for a, b in zip(trained[0][1:], other[1:], strict=True))


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


# --- what they begin with ---------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", ["rbm", "dbn", "dbm"])
def test_a_machine_that_has_begun_keeps_its_biases(kind, tmp_path):
    """Also where none of them is other than 0: a file says that it saw data."""
    model = train(kind, 1).model
    lowest = model.layers[0].visible_bias
    model.backend.upload(lowest.buffer, np.zeros(lowest.shape))
    model.save(tmp_path / "m.h5")
    given = make(kind)
    given.load_state_dict({name: p.numpy() for name, p in model.parameters.items()})
    for other in (aaecore.load(tmp_path / "m.h5"), pickle.loads(pickle.dumps(model)), given):
        Trainer(other, 32, 1e-12).step(rows()[:32])
        assert np.abs(other.layers[0].visible_bias.numpy()).max() < 1e-9


def test_a_machine_begins_at_the_data_if_its_lowest_layer_moves():
    for options in ({}, {"visible": "gaussian", "standardise_each": True}):
        model = make("dbn", persistent=False, **options)
        Trainer(model, 32, {"layer_1": 0.0, "layer_2": 1e-3}).step(rows()[:32])
        assert not model.layers[0].visible_bias.numpy().any()
        assert model.begun == bool(options)  # the unit of Gaussian units is there for the layers above
        before = model.state_dict()
        Trainer(model, 32, {"layer_1": 1e-12, "layer_2": 0.0}).step(rows()[:32])
        bias = model.layers[0].visible_bias.numpy()
        assert np.abs(bias).max() < 1e-9  # that is what the layers above learned from
        assert model.begun
        units = {name: v for name, v in model.state_dict().items() if name.startswith("inputs")}
        assert all(np.array_equal(v, before[name]) for name, v in units.items())


def test_states_of_weights_that_were_made_elsewhere():
    model = train("gaussian").model
    values = {name: value for name, value in model.state_dict().items() if name in model.parameters}
    other = make("gaussian", seed=9)
    other.load_state_dict(values)
    assert not other.state_dict()["chain.0"].any()
    with pytest.raises(ValueError, match=r"chain\.0: expected units that are 0 or 1, got 35 of 35 that are neither"):
        model.load_state_dict(model.state_dict() | {"chain.0": np.full((7, 5), 0.5)})
    other = make("rbm")
    with pytest.raises(ValueError, match=r"beginning\.rows: expected a number >= 0, got -1"):
        other.load_state_dict(other.state_dict() | {"beginning.rows": np.array([-1.0])})


@pytest.mark.parametrize("kind", ["persistent", "gaussian", "dbn", "dbm", "whole dbm"])
def test_every_step_leaves_other_chains_of_every_layer(kind):
    """They go on from there, and data of the next step do not bring them back."""
    model = roughen(make(kind))
    trainer, seen = Trainer(model, 32, 0.0), []
    for _ in range(3):
        trainer.step(rows()[:32])
        seen.append({name: value for name, value in model.state_dict().items() if name.startswith("chain")})
    assert len(seen[0]) == len(model.layers)
    for name, first in seen[0].items():
        assert first.any(), name
        assert not any((first == later[name]).all() for later in seen[1:]), name
