"""What models share whose every row has a label, or says that it has none: gradients, bits, resumes, copies, files."""

from __future__ import annotations

import copy
import pickle

import cuda_devices
import numpy as np
import pytest
from gradients import numeric_gradient
from trained import D, StopAt, both_forms, rows, same

import aaecore
from aaecore import LabelInformedAAE, SupervisedAAE, Trainer, priors
from aaecore.functions.tensor import backward
from aaecore.models import Batch

B, CLASSES = 6, 3
LABELS = np.random.default_rng(1).integers(0, CLASSES, len(rows()))
ROLL = priors.SwissRoll(noise=0.1)
RING = priors.GaussianMixture.ring(CLASSES, radius=2.0, radial_std=0.5, tangential_std=0.3)
MODELS = {
    "supervised": (SupervisedAAE, {"latent_dim": 3}),
    "uninformed": (SupervisedAAE, {"latent_dim": 3, "informed": False}),
    "mixture": (LabelInformedAAE, {"prior": RING}),
    "roll": (LabelInformedAAE, {"prior": ROLL}),
}
each = pytest.mark.parametrize("which", MODELS)


def make(which, **options):
    kind, own = MODELS[which]
    return kind(D, classes=CLASSES, **{"hidden": (9, 7), "seed": 1, **own, **options})


def labels(which):
    """Of all rows, or where it may be of two thirds of them."""
    return LABELS if MODELS[which][0] is SupervisedAAE else np.where(np.arange(len(LABELS)) % 3 == 0, -1, LABELS)


def train(which, epochs=3, *, record=True, **options):
    trainer = Trainer(make(which, **options), 32, record=record)
    trainer.fit(rows(), epochs, y=labels(which), progress=False)
    return trainer


# --- gradients --------------------------------------------------------------------------------------------------------


def yielded(model, x, ones, dials):
    """The losses of one step by phase, without any update in between."""
    backend = model.backend
    model.generator.restart()
    values = {name: backend.from_host(np.array([value])) for name, value in dials.items()}
    inputs = {"x": backend.from_host(x), "y": backend.from_host(ones)}
    return {phase: losses for phase, *losses in model.step(Batch(inputs, model.draws, values, model.generator))}


@both_forms
@each
def test_phases_have_the_gradients_of_what_they_minimise(which, form):
    model = make(which, **form, hidden=(4,), activation="tanh", posterior="gaussian", device="reference")
    x = rows()[:B].astype(np.float64)
    columns = model.columns()["y"].features
    ones = np.eye(columns)[np.arange(B) % columns]
    model.begin(x, model.networks)
    dials = {name: 0.7 * number for name, (number, *_) in model.ratios().items()}
    losses = yielded(model, x, ones, dials)
    pulled = dials.get("generator_weight", 0.0) * float(model.left(losses["reconstruction"][0], B))
    assert (pulled > 0) == bool(model.generator_weight)

    def values():
        made = {phase: [float(loss) for loss in made] for phase, made in yielded(model, x, ones, dials).items()}
        penalty = made["discriminator"][1] if model.gradient_penalty else 0.0
        return {
            "reconstruction": made["reconstruction"][0] + pulled * made["generator"][0],
            "discriminator": made["discriminator"][0] + penalty,
            "generator": made["generator"][0],
        }

    for phase in model.phases:
        moved = model.moved(phase)
        if moved:
            backward(yielded(model, x, ones, dials)[phase.name], parameters=moved)
        for p in moved:
            numeric = numeric_gradient(p, lambda name=phase.name: [values()[name]])
            assert np.abs(numeric).max() > 0
            np.testing.assert_allclose(p.backend.to_host(p.grad), numeric, atol=1e-7, rtol=1e-4, err_msg=phase.name)


@both_forms
@each
def test_phases_move_their_networks_and_no_others(which, form):
    for phase in make(which, **form).phases:
        model = make(which, **form)
        rates = {p.name: 1e-2 * (p.name == phase.name) for p in model.phases}
        trainer = Trainer(model, 32, rates)
        trainer.step(rows()[:32], y=labels(which)[:32])  # the first one sets statistics
        before = model.state_dict()
        trainer.step(rows()[32:64], y=labels(which)[32:64])
        moved = {name.split(".")[0] for name, value in model.state_dict().items() if (value != before[name]).any()}
        assert moved == set(phase.moves)


# --- bits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)])
@both_forms
@each
def test_recorded_steps_and_a_resume_give_the_same_bits(which, form, device, tmp_path, cuda_device):
    options = {**form, "device": device, "average": 0.9}
    whole = train(which, 2, **options)
    assert same(whole, train(which, 2, record=False, **options))
    part = Trainer(make(which, **options), 32)
    part.fit(rows(), 2, y=labels(which), progress=False, callbacks=[StopAt(7)])
    part.save(tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    assert type(resumed.model) is type(part.model)
    resumed.fit(rows(), 2, y=labels(which), progress=False)
    assert same(whole, resumed)
    assert whole.history.rows == resumed.history.rows


@pytest.mark.parametrize("option", [{"posterior": "universal"}, {"input_noise": 0.3, "input_dropout": 0.2}])
@each
def test_other_encoders_train_as_recorded(which, option):
    whole = train(which, 2, **option)
    assert same(whole, train(which, 2, record=False, **option))
    assert whole.history["reconstruction"][-1] < whole.history["reconstruction"][0]


@each
def test_batch_norm(which):
    model = train(which, 2, batch_norm="hidden").model
    assert np.isfinite(model.encode(rows())).all()


@cuda_devices.needs_device
@each
def test_the_gpu_agrees_with_the_reference(which, cuda_device):
    losses = [train(which, 2, device=device).history["discriminator"] for device in ("cuda", "reference")]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@each
def test_bf16_trains(which):
    assert np.isfinite(train(which, 1, precision="bf16").history["reconstruction"]).all()


# --- what a file and a copy hold --------------------------------------------------------------------------------------


@each
def test_a_model_is_described_copied_and_saved_with_the_names_of_its_classes(which, tmp_path):
    named = np.array(["", "cat", "dog", "emu"])[labels(which) + 1]
    trainer = Trainer(make(which), 32)
    trainer.fit(rows(), 1, y=named, progress=False)
    model = trainer.model
    assert model.labels == ("cat", "dog", "emu")
    model.save(tmp_path / "m.h5")
    for twin in (aaecore.load(tmp_path / "m.h5"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert type(twin) is type(model)
        assert twin.config() == model.config()
        assert all(np.array_equal(twin.state_dict()[k], v) for k, v in model.state_dict().items())
        assert np.array_equal(twin.encode(rows()), model.encode(rows()))
    again = type(model).from_config(model.config())
    assert (again.labels, again.prior) == (model.labels, model.prior)
    with pytest.raises(ValueError, match=r"y: expected labels among .*'emu'.*, got 'cow' at row 0"):
        trainer.step(rows()[:32], y=["cow"] * 32)


@each
def test_the_health_of_codes_is_looked_at(which):
    assert {"code_offset", "code_spread", "code_mmd"} <= set(train(which, 200).history.columns)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (LABELS[:-1], r"y: expected shape \(130,\), one label for each row, got shape \(129,\)"),
        (np.eye(3)[LABELS], r"y: expected shape .* got shape \(130, 3\); of one-hot rows give y.argmax\(axis=1\)"),
        (LABELS + 0.5, "y: expected whole numbers within int64, -1 for no label; 130 of 130 are not"),
        (np.full(130, np.nan), "y: expected whole numbers within int64, -1 for no label; 130 of 130 are not"),
        (np.arange(130), "y: expected at most 3 different labels, one for each class, got 130"),
    ],
)
@each
def test_bad_labels(which, y, message):
    with pytest.raises(ValueError, match=message):
        Trainer(make(which), 32).fit(rows(), 1, y=y, progress=False)


@each
def test_no_labels_at_all(which):
    trainer = Trainer(make(which), 32)
    for y in (None, np.full(130, -1)):
        with pytest.raises(ValueError, match=r"^y: expected a label for "):
            trainer.fit(rows(), 1, y=y, progress=False)
    with pytest.raises(ValueError, match=r"^y: expected a label for each row"):
        trainer.step(rows()[:32])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "classes: expected an integer >= 1, got 0"),
        ({"latent_dim": 0}, "latent_dim: expected an integer >= 1, got 0"),
        ({"labels": ["a", "a"]}, "labels: expected "),
        ({"labels": ["a", "b", "c", "d"]}, r"labels: expected at most 3 \(classes\), got 4"),
        ({"generator_weight": -1.0}, "generator_weight: expected a number >= 0"),
    ],
)
@each
def test_bad_options(which, options, message):
    kind, own = MODELS[which]
    with pytest.raises(ValueError, match=message):
        kind(D, **{"classes": CLASSES, **own, **options})
