"""Copies of models and trainers: pickled, copied, sent to a process, or written to a file without a trainer."""

import copy
import io
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from small_models import FewLabels
from trained import StopAt, model, rows, same

from aaecore import AAE, VAE, CheckpointError, Trainer, callbacks, load, priors, schedules
from aaecore.files import checkpoint


def ring(n, rng):
    """A prior that a file cannot hold, and that pickles by its name."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def slower(step):
    return 1 / (1 + step)


def by_joblib(thing):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed: pip install joblib")
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


def by_cloudpickle(thing):
    cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed: pip install cloudpickle")
    return pickle.loads(cloudpickle.dumps(thing))


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "oldest protocol": lambda thing: pickle.loads(pickle.dumps(thing, 0)),
    "joblib": by_joblib,
    "cloudpickle": by_cloudpickle,
}
MODELS = {
    "defaults": lambda: model(),
    "universal": lambda: model(posterior="universal", prior=priors.GaussianMixture.ring(4), latent_dim=2),
    "callable": lambda: model(prior=ring, latent_dim=2),
    "reference": lambda: model(device="reference", reconstruction="mse", output="linear"),
    "VAE": lambda: VAE(20, 2, (9,), seed=4, warm_up=3),
    "a user's": lambda: FewLabels(20, seed=3),
}
SOME = [("deepcopy", name) for name in MODELS] + [(how, "universal") for how in COPIES]


@pytest.mark.parametrize(("how", "which"), SOME)
def test_a_copy_of_a_model_has_its_bits_and_is_another(how, which):
    made = MODELS[which]()
    if which != "a user's":
        made.sample(3)  # so that its random numbers are not the first ones
    kept = COPIES[how](made)
    assert type(kept) is type(made)
    assert kept.config() == made.config()
    before = made.state_dict()
    assert all(np.array_equal(value, before[name]) for name, value in kept.state_dict().items())
    if which != "a user's":
        assert np.array_equal(kept.encode(rows(), sample=True), made.encode(rows(), sample=True))
        assert np.array_equal(kept.sample(5), made.sample(5))
        Trainer(kept, 65).step(rows())
        assert not np.array_equal(kept.encode(rows()), made.encode(rows()))
    assert all(np.array_equal(value, before[name]) for name, value in made.state_dict().items())


def test_what_a_user_put_on_a_model_goes_along():
    made = model()
    made.names, made.scaler = ["a", "b"], np.arange(3.0)
    made.sample(2)
    kept = copy.deepcopy(made)
    assert kept.names == ["a", "b"]
    assert kept.names is not made.names
    assert np.array_equal(kept.scaler, made.scaler)
    assert kept.draws is not made.draws


def test_bits_that_are_not_finite_are_copied_too():
    made = model()
    made.backend.upload(made.encoder.layers[0].bias.buffer, np.full(33, np.nan))
    assert np.isnan(copy.deepcopy(made).state_dict()["encoder.0.bias"]).all()


OPTIONS = {
    "defaults": {},
    "schedule": {"schedule": slower, "clip_norm": 1.0, "guard": False},
    "cosine": {"schedule": schedules.Cosine(40), "record": False},
}


@pytest.mark.parametrize("how", [how for how in COPIES if how != "copy"])  # a shallow one has the same model
@pytest.mark.parametrize("options", OPTIONS)
def test_a_copy_of_a_trainer_goes_on_bit_for_bit(how, options):
    """From within an epoch; whether the original goes on before or after."""
    trainer = Trainer(model(prior=ring, latent_dim=2), 32, **OPTIONS[options])
    trainer.fit(rows(), 3, callbacks=[StopAt(7)], progress=False)
    kept = COPIES[how](trainer)
    assert (kept.steps, kept.epoch, kept.position) == (7, 1, 64)
    assert kept.history.rows == trainer.history.rows
    assert same(kept, trainer)
    trainer.fit(rows(), 3, progress=False)
    assert not same(kept, trainer)
    kept.fit(rows(), 3, progress=False)
    assert same(kept, trainer)
    assert kept.history.rows == trainer.history.rows


def test_a_callback_may_copy_what_is_in_training():
    class Keep(StopAt):
        def on_step_end(self, trainer, losses):
            if trainer.steps == 7:
                self.trainer, self.model = copy.deepcopy(trainer), copy.deepcopy(trainer.model)

    trainer, keep = Trainer(model(), 32), Keep(7)
    trainer.fit(rows(), 3, callbacks=[keep], progress=False)
    part = Trainer(model(), 32)
    part.fit(rows(), 3, callbacks=[StopAt(7)], progress=False)
    assert same(keep.trainer, part)
    assert np.array_equal(keep.model.encode(rows()), part.model.encode(rows()))
    keep.trainer.fit(rows(), 3, progress=False)
    assert same(keep.trainer, trainer)


def test_a_copy_from_another_thread_is_of_a_whole_step():
    """Weights and random numbers of one moment, while the trainer goes on."""

    class Weights(callbacks.Callback):
        def __init__(self):
            self.after = {0: model().state_dict()}

        def on_step_end(self, trainer, losses):
            self.after[trainer.steps] = trainer.model.state_dict()

    step_by_step = Weights()
    Trainer(model(), 32).fit(rows(), 120, callbacks=[step_by_step], progress=False)
    trainer, copies = Trainer(model(), 32), []

    def keep():
        while trainer.epoch < 120:
            copies.append(copy.deepcopy(trainer.model))

    thread = threading.Thread(target=keep)
    thread.start()
    trainer.fit(rows(), 120, progress=False)
    thread.join()
    assert copies
    for kept in copies:
        then = step_by_step.after[kept.generator.counter]
        assert all(np.array_equal(value, then[name]) for name, value in kept.state_dict().items())


def test_a_model_and_its_trainer_stay_together():
    made = model()
    kept, trainer = pickle.loads(pickle.dumps((made, Trainer(made, 65))))
    assert trainer.model is kept


def test_a_lambda_is_no_name_that_another_process_knows():
    made = model(prior=lambda n, rng: rng.normal(size=(n, 3)))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(made)
    assert copy.deepcopy(made).sample(2).shape == by_cloudpickle(made).sample(2).shape == (2, 20)


OF_A_NOTEBOOK = """
import sys
import cloudpickle
import numpy as np
from aaecore.functions import half_squared_error
from aaecore.models import COUNT, Column, Model, Phase, model, option

@model
class Mine(Model):
    input_dim: int = option(COUNT, "features", of_data=True)
    phases = (Phase("copy", moves=("net",)),)
    def columns(self):
        return {"x": Column(self.input_dim)}
    def build(self):
        self.net = self.mlp(self.input_dim, 3, self.input_dim)
    def step(self, batch):
        yield "copy", half_squared_error(self.net(batch.x), batch.x)

sys.stdout.buffer.write(cloudpickle.dumps(Mine(5, seed=1)))
"""


def test_a_class_of_a_notebook_comes_along():
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed: pip install cloudpickle")
    sent = subprocess.run([sys.executable, "-c", OF_A_NOTEBOOK], capture_output=True, check=True).stdout
    kept = pickle.loads(sent)
    assert type(kept).__name__ == "Mine"
    assert Trainer(kept, 4).step(np.ones((4, 5), np.float32))["copy"] > 0
    assert type(copy.deepcopy(kept)) is type(kept)


# --- a file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [name for name in MODELS if name != "a user's"])
def test_a_model_is_saved_without_a_trainer(which, tmp_path):
    made, path, whole = MODELS[which](), tmp_path / "model.h5", tmp_path / "trainer.h5"
    trainer = Trainer(made, 65)
    trainer.step(rows())
    made.save(path)
    trainer.save(whole)
    assert os.path.getsize(path) < os.path.getsize(whole) / 2
    prior = ring if which == "callable" else None
    for file in (path, whole):
        assert np.array_equal(load(file, prior=prior).encode(rows()), made.encode(rows()))
    with pytest.raises(
        CheckpointError, match=r"expected the checkpoint of a trainer, got a model alone, which aaecore\.load"
    ):
        Trainer.resume(path, prior=prior)


def test_a_model_is_loaded_on_another_device(tmp_path):
    made = model()
    made.save(tmp_path / "a.h5")
    there = load(tmp_path / "a.h5", device="reference")
    np.testing.assert_allclose(there.encode(rows()), made.encode(rows()), rtol=1e-4, atol=1e-5)


def test_bad_content_of_a_model_is_one_error(tmp_path):
    path, made = tmp_path / "a.h5", model()
    tensors = {f"model/{name}": value for name, value in made.state_dict().items()}
    for change, message in (
        (lambda t, c: t.popitem(), "expected the tensor"),
        (lambda t, c: t["model/encoder.0.bias"].fill(np.nan), "encoder.0.bias: expected real numbers that are finite"),
        (lambda t, c: c.update(hidden=[33, 3]), "expected shape"),
        (lambda t, c: c.update(type="Nobody's"), "model: expected one of"),
        (lambda t, c: c.pop("latent_dim"), "latent_dim"),
        (lambda t, c: c.update(seed=None), "seed: expected an integer"),
    ):
        given, config = {name: value.copy() for name, value in tensors.items()}, made.config()
        change(given, config)
        checkpoint.write(path, given, {"model": config})
        with pytest.raises(CheckpointError, match=message):
            load(path)


# --- what people see, and seeds ---------------------------------------------------------------------------------------


def test_a_model_says_what_it_is():
    lines = repr(AAE(20, 3, (33, 17), prior=priors.Normal(2.0), seed=5)).splitlines()
    assert lines[0].startswith(
        "AAE(input_dim=20, latent_dim=3, hidden=(33, 17), prior=Normal(std=2.0, mean=0.0), seed=5"
    )
    assert lines[1] == "  encoder        MLP(20-33-17-3, relu then identity), 1,325 parameters"
    assert lines[-1] == "  3,395 parameters in all, fp32 on cpu"
    assert "prior=CallablePrior(ring)" in repr(model(prior=ring, latent_dim=2))
    assert "prior=Categorical(...)" in repr(model(prior=priors.Categorical([1.0] * 30), latent_dim=30))
    assert "prior=GaussianMixture(10 components, 2-D)" in repr(
        model(prior=priors.GaussianMixture.ring(10), latent_dim=2)
    )
    assert repr(model().encoder.layers[0]) == "Linear(20-33, relu)"


def test_a_trainer_says_how_far_it_is():
    trainer = Trainer(model(), 65, lr={"reconstruction": 0.01})
    trainer.fit(rows(), 2, progress=False)
    assert repr(trainer).startswith("Trainer(AAE, batch_size=65, lr={'reconstruction': 0.01, ")
    assert repr(trainer).endswith("epoch 2, 4 steps")


def test_no_seed_draws_one():
    first, second = AAE(20, 2, (9,), seed=None), AAE(20, 2, (9,), seed=None)
    assert first.seed != second.seed
    assert 0 <= first.seed < 2**63
    again = AAE.from_config(first.config())
    assert np.array_equal(again.encode(rows()), first.encode(rows()))
