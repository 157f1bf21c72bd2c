"""Semi-supervised learning, clustering, reduction: gradients of every phase, whole steps, resumes, what they give."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from class_models import KINDS, C, D, fit, given, make
from phase_gradients import check_phases, weight_of, yielded
from trained import StopAt, same

from aaecore import ReductionAAE, Trainer, load
from aaecore.functions import softmax
from aaecore.functions.tensor import Tensor
from aaecore.models import consistency

B, L = 6, 4
CONSISTENT = {
    "translation": {"consistency": "translation", "image_shape": (3, 4), "most_shift": 1},
    "noise": {"consistency": "noise", "input_noise": 0.3},
    "adversarial": {"consistency": "adversarial", "radius": 1.0, "batch_norm": "encoder"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


# --- each phase by itself ---------------------------------------------------------------------------------------------


def losses_of(model, rng, dials):
    """The losses of one step by phase; rows and labels by a seed."""
    inputs = {"x": rng.random((B, D))}
    if model.learns_labels:
        inputs |= {"labelled.x": rng.random((L, D)), "labelled.y": np.eye(C)[rng.integers(0, C, L)]}
    return yielded(model, inputs, dials)


@every_kind
def test_phases_have_the_gradients_of_what_they_minimise(kind):
    model = make(kind)
    model.begin(np.random.default_rng(3).random((50, D)), model.networks)
    dials = dict.fromkeys([*model.dials(), *model.ratios()], 0.7)
    if isinstance(model, ReductionAAE) and not model.fixed_heads:  # so near that they pay
        model.backend.upload(model.centres.table.buffer, 0.2 * model.centres.table.numpy())

    check_phases(model, lambda: losses_of(model, np.random.default_rng(4), dials))


def test_the_weights_of_a_joint_update():
    """Each beside what is left to reconstruct; the generator's of y grows."""
    model = make("semi-supervised", generator_weight=0.5, classification_weight=2.0, warm_up=8)
    model.begin(np.random.default_rng(3).random((50, D)), model.networks)
    assert model.ratios()["generator_weight"] == (0.5, "generator", "reconstruction")
    assert [model.dials()["warm_up"](step) for step in (0, 2, 8, 99)] == [0, 0.25, 1, 1]
    dials = {"generator_weight": 0.5, "classification_weight": 2.0, "warm_up": 0.25}
    losses = losses_of(model, np.random.default_rng(4), dials)["reconstruction"]
    left = float(model.left(losses[0], B))
    np.testing.assert_allclose([weight_of(t) for t in losses], [1, left * 0.5 * 0.25, left * 0.5, left * 2], rtol=1e-6)


def test_smoothed_samples_of_classes():
    """Off by default; else the share goes to all classes alike."""
    plain, smooth = (make("semi-supervised", label_smoothing=share) for share in (0.0, 0.3))
    ones = Tensor(plain.backend.from_host(np.eye(C)))
    assert plain.smoothed(ones) is ones
    np.testing.assert_allclose(
        smooth.smoothed(Tensor(smooth.backend.from_host(np.eye(C)))).numpy(), 0.1 + 0.7 * np.eye(C)
    )


@pytest.mark.parametrize("kind", ["semi-supervised", "phases", "clustering", "clustering, phases", "reduction"])
def test_a_phase_moves_its_networks_and_no_other(kind, x, y):
    """With a rate of zero for all other phases."""
    for phase in make(kind).phases:
        model = make(kind)
        before = {name: p.numpy() for name, p in model.parameters.items()}
        fit(model, x, y, 1, lr={p.name: 1e-2 * (p.name == phase.name) for p in model.phases})
        moved = {k.split(".")[0] for k, p in model.parameters.items() if not np.array_equal(p.numpy(), before[k])}
        assert moved == set(phase.moves), phase.name


# --- whole steps ------------------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replay_equals_eager_for_any_number_of_threads(kind, precision, threads, x, y):
    trained = []
    for record, n in ((True, 1), (False, 1), (True, 3)):
        threads(n)
        trained.append(fit(make(kind, "cpu", precision=precision), x, y, record=record))
    assert same(trained[0], trained[1])
    assert same(trained[0], trained[2])
    assert trained[0].history.rows == trained[1].history.rows


@every_kind
def test_cpu_and_reference_agree(kind, x, y):
    # In full batches: the two rows that are left make variances of next to nothing, which batch norm divides by.
    ours, exact = (
        fit(make(kind, device, batch_statistics="recomputed"), x[:128], y[:128]) for device in ("cpu", "reference")
    )
    for name in ours.names:
        np.testing.assert_allclose(ours.history[name], exact.history[name], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(ours.model.predict_proba(x), exact.model.predict_proba(x), atol=2e-3)
    if ours.model.batch_norm == "none":  # it takes biases away again, so that Adam makes steps of their rounding
        for name, value in ours.model.state_dict().items():
            error = np.linalg.norm(value - exact.model.state_dict()[name])
            assert error < 2e-3 * (np.linalg.norm(value) + 0.1), name


@every_kind
def test_a_resume_within_an_epoch_goes_on_bit_for_bit(kind, x, y, tmp_path):
    settings = {"average": 0.9, "batch_statistics": "recomputed"}
    whole = fit(make(kind, "cpu", **settings), x, y, 3)
    cut = Trainer(make(kind, "cpu", **settings), 32, labelled_batch_size=10)
    cut.fit(x, 3, progress=False, callbacks=StopAt(7), **given(cut.model, x, y))
    cut.save(tmp_path / "cut.h5")
    resumed = Trainer.resume(tmp_path / "cut.h5")
    assert (resumed.steps, resumed.position) == (7, 64)
    resumed.fit(x, 3, progress=False, **given(resumed.model, x, y))
    assert same(whole, resumed)
    assert whole.history.rows == resumed.history.rows


@every_kind
def test_files_and_copies_give_the_same(kind, x, y, tmp_path):
    trainer = fit(make(kind, "cpu", average=0.9), x, y)
    trainer.save(tmp_path / "model.h5")
    copied = copy.deepcopy(trainer.model)
    assert np.array_equal(copied.sample(5), trainer.model.sample(5))
    for other in (load(tmp_path / "model.h5"), copied):
        assert np.array_equal(other.encode(x), trainer.model.encode(x))
        assert np.array_equal(other.predict_proba(x), trainer.model.predict_proba(x))


@pytest.mark.parametrize("kind", ["semi-supervised", "phases"])
@pytest.mark.parametrize("name", CONSISTENT)
def test_consistency_trains_records_and_resumes(kind, name, x, y, tmp_path):
    settings = {**CONSISTENT[name], "consistency_warm_up": 4}
    recorded, eager, without = (
        fit(make(kind, "cpu", **({} if i == 2 else settings)), x, y, record=i != 1) for i in range(3)
    )
    assert same(recorded, eager)
    assert not same(recorded, without)
    recorded.save(tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    for trainer in (recorded, resumed):
        trainer.fit(x, 4, progress=False, y=y)
    assert same(recorded, resumed)


def test_an_adversarial_step_changes_more_than_others_of_its_length():
    model, rng = make("semi-supervised"), np.random.default_rng(0)
    seen = Tensor(model.backend.from_host(rng.standard_normal((40, D))))

    def logits(x):
        return model.label_head(model.trunk(x))

    p = softmax(logits(seen))
    model.generator.restart()
    moved = consistency.adversarial(seen, p, logits, model.generator, 0.5)
    np.testing.assert_allclose(np.linalg.norm(moved.numpy() - seen.numpy(), axis=1), 0.5)
    most = float(consistency.divergence(logits(moved), p))
    for _ in range(20):
        step = rng.standard_normal((40, D))
        other = seen.numpy() + 0.5 * step / np.linalg.norm(step, axis=1, keepdims=True)
        assert float(consistency.divergence(logits(Tensor(model.backend.from_host(other))), p)) < most
