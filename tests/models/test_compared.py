"""GAN, GMMN, WAE and denoising autoencoders: gradients of every phase, whole steps, resumes, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from compared_models import CODED, KINDS, D, coder, fit, make
from phase_gradients import check_phases, yielded
from trained import StopAt, same

from aaecore import Trainer, load

every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_phases_have_the_gradients_of_what_they_minimise(kind):
    model = make(kind)
    model.begin(np.random.default_rng(3).random((50, D)), model.networks)
    inputs, dials = {"x": np.random.default_rng(4).random((6, D))}, dict.fromkeys(model.dials(), 0.7)
    check_phases(model, lambda: yielded(model, inputs, dials))


@every_kind
def test_a_phase_moves_its_networks_and_no_other(kind, x):
    """With a rate of zero for all other phases; averages follow what they are of."""
    for phase in make(kind).phases:
        model = make(kind)
        model.begin(x, model.networks)
        before = {name: p.numpy() for name, p in model.parameters.items()}
        fit(model, x, 1, lr={p.name: 1e-2 * (p.name == phase.name) for p in model.phases})
        moved = {k.split(".")[0] for k, p in model.parameters.items() if not np.array_equal(p.numpy(), before[k])}
        assert {name for name in moved if not name.endswith("_average")} == set(phase.moves), phase.name


@every_kind
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replay_equals_eager_for_any_number_of_threads(kind, precision, threads):
    """Layers of 48 and 40 units and batches of 100: products of 200,000 flop and more, which threads share."""
    x, trained = np.random.default_rng(0).random((230, D)).astype(np.float32), []
    coders = {"autoencoder": coder("cpu")} if kind in CODED else {}
    for record, n in ((True, 1), (False, 1), (True, 2), (True, 3)):
        threads(n)
        model = make(kind, "cpu", precision=precision, hidden=(48, 40), **coders)
        trainer = Trainer(model, 100, record=record)
        trainer.fit(x, 2, progress=False)
        trained.append(trainer)
    samples = [trainer.model.sample(100) for trainer in trained]
    for other, sample in zip(trained[1:], samples[1:], strict=True):
        assert same(trained[0], other)
        assert trained[0].history.rows == other.history.rows
        assert np.array_equal(samples[0], sample)


@every_kind
def test_cpu_and_reference_agree(kind, x):
    # In full batches: the two rows that are left make variances of next to nothing, which batch norm divides by.
    given = {"autoencoder": coder()} if kind in CODED else {}
    ours, exact = (fit(make(kind, device, **given), x[:128]) for device in ("cpu", "reference"))
    for name in ours.names:
        np.testing.assert_allclose(ours.history[name], exact.history[name], rtol=1e-3, atol=1e-6, err_msg=name)
    if getattr(ours.model, "batch_norm", "none") == "none":
        for name, value in ours.model.state_dict().items():
            error = np.linalg.norm(value - exact.model.state_dict()[name])
            assert error < 2e-3 * (np.linalg.norm(value) + 0.1), name


@every_kind
def test_a_resume_within_an_epoch_goes_on_bit_for_bit(kind, x, tmp_path):
    whole = fit(make(kind, "cpu"), x, 3)
    cut = Trainer(make(kind, "cpu"), 32)
    cut.fit(x, 3, progress=False, callbacks=StopAt(7))
    cut.save(tmp_path / "cut.h5")
    resumed = Trainer.resume(tmp_path / "cut.h5")
    assert (resumed.steps, resumed.position) == (7, 64)
    resumed.fit(x, 3, progress=False)
    assert same(whole, resumed)
    assert whole.history.rows == resumed.history.rows


@every_kind
def test_files_and_copies_give_the_same(kind, x, tmp_path):
    trainer = fit(make(kind, "cpu"), x)
    trainer.model.save(tmp_path / "model.h5")
    copied, pickled = copy.deepcopy(trainer.model), pickle.loads(pickle.dumps(trainer.model))
    assert np.array_equal(copied.sample(5), first := trainer.model.sample(5))
    assert np.array_equal(pickled.sample(5), first)
    assert not np.array_equal(trainer.model.sample(5), first), "every call draws new ones"
    for other in (load(tmp_path / "model.h5"), copied, pickled):
        assert other.config() == trainer.model.config()
        assert {name: v.tolist() for name, v in other.state_dict().items()} == {
            name: v.tolist() for name, v in trainer.model.state_dict().items()
        }
    there = load(tmp_path / "model.h5", device="reference")
    assert there.sample(3).shape == (3, D)


@every_kind
def test_samples_look_like_the_data(kind, x):
    model = fit(make(kind), x).model
    made = model.sample(9)
    assert (made.shape, made.dtype) == ((9, D), np.float32)
    if model.output == "sigmoid":
        assert (made > 0).all()
        assert (made < 1).all()
    with pytest.raises(ValueError, match=r"^n: expected an integer >= 1, got 0"):
        model.sample(0)
