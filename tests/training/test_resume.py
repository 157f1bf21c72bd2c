"""Checkpoints of a trainer: resume bit for bit from anywhere, survive kill -9, refuse what is not theirs."""

import os
import random
import signal
import time
from functools import partial

import h5py
import numpy as np
import pytest
from trained import PLAIN, StopAt, both_forms

from aaecore import AAE, CheckpointError, Trainer, callbacks, load, priors, schedules
from aaecore.files import checkpoint
from aaecore.optim import SGD, Adam

D = 9


@pytest.fixture
def x():
    return np.random.default_rng(0).random((70, D), np.float32)


def make(**options):
    return Trainer(AAE(D, 2, (12, 7), seed=3, **options), 16, schedule=schedules.Cosine(40))


def everything(trainer, path):
    """All that a checkpoint of the trainer holds, to be compared as a whole."""
    trainer.save(path)
    with h5py.File(path) as file:
        return file.attrs["sha256"]


@pytest.mark.parametrize("posterior", ["deterministic", "gaussian", "universal"])
@both_forms
def test_resume_at_20_random_cut_points(form, posterior, x, tmp_path):
    """Five steps to an epoch, so most cuts lie within one."""
    whole = make(posterior=posterior, **form)
    whole.fit(x, 8, validation=x[:10], progress=False)
    expected = everything(whole, tmp_path / "whole.h5")
    for cut in random.Random(0).sample(range(1, 40), 20):
        first = make(posterior=posterior, **form)
        first.fit(x, 8, validation=x[:10], callbacks=[StopAt(cut)], progress=False)
        assert first.steps == cut
        first.save(tmp_path / "cut.h5")
        second = Trainer.resume(tmp_path / "cut.h5")
        second.fit(x, 8, validation=x[:10], progress=False)
        assert second.history.rows == whole.history.rows
        assert everything(second, tmp_path / "resumed.h5") == expected


def test_resume_keeps_optimizers_priors_and_options(x, tmp_path):
    mixture = priors.GaussianMixture.ring(5)
    model = AAE(
        D,
        2,
        (12,),
        "gaussian",
        mixture,
        "mse",
        output="linear",
        activation="tanh",
        discriminator_hidden=(5, 4),
        seed=8,
        **PLAIN,
    )
    optimizers = {
        "generator": partial(SGD, lr=0.1, momentum=0.5),
        "discriminator": partial(Adam, lr=2e-3, betas=(0.5, 0.9)),
    }
    trainer = Trainer(model, 20, 3e-3, optimizers=optimizers, clip_norm=0.5, schedule=schedules.StepWise([3]))
    trainer.fit(x, 2, progress=False)
    trainer.save(tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5")
    assert resumed.model.config() == model.config()
    assert [o.config() for o in resumed.optimizers.values()] == [o.config() for o in trainer.optimizers.values()]
    assert (resumed.clip_norm, resumed.schedule, resumed.batch_size) == (0.5, schedules.StepWise([3]), 20)
    for t in (trainer, resumed):
        t.fit(x, 4, progress=False)
    assert everything(trainer, tmp_path / "a.h5") == everything(resumed, tmp_path / "b.h5")


def test_load_gives_the_model(x, tmp_path):
    trainer = make()
    trainer.fit(x, 1, progress=False)
    trainer.save(tmp_path / "a.h5")
    model = load(tmp_path / "a.h5")
    assert np.array_equal(model.encode(x), trainer.model.encode(x))
    assert np.array_equal(model.reconstruct(x), trainer.model.reconstruct(x))


def test_callables_must_be_given_again(x, tmp_path):
    def prior(n, rng):
        return rng.standard_normal((n, 2))

    def schedule(step):
        return 0.9**step

    trainer = Trainer(AAE(D, 2, (12,), prior=prior, seed=3), 16, schedule=schedule)
    trainer.fit(x, 1, progress=False)
    trainer.save(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="prior: 'prior' was a callable"):
        Trainer.resume(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="schedule: 'schedule' was a callable"):
        Trainer.resume(tmp_path / "a.h5", prior=prior)
    assert load(tmp_path / "a.h5", prior=prior).encode(x).shape == (70, 2)
    resumed = Trainer.resume(tmp_path / "a.h5", prior=prior, schedule=schedule)
    for t in (trainer, resumed):
        t.fit(x, 3, progress=False)
    assert everything(trainer, tmp_path / "a.h5") == everything(resumed, tmp_path / "b.h5")


def test_other_data_in_the_middle_of_an_epoch(x, tmp_path):
    trainer = make()
    trainer.fit(x, 2, callbacks=[StopAt(3)], progress=False)
    with pytest.raises(ValueError, match="x: expected the 70 rows that the unfinished epoch began with, got 69"):
        trainer.fit(x[1:], 2, progress=False)
    trainer.fit(x, 2, progress=False)
    trainer.fit(x[1:], 3, progress=False)  # between epochs it may change


def test_fit_saves_after_every_epoch_and_before_an_error(x, tmp_path):
    path = tmp_path / "a.h5"
    seen = []

    class Look(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            if trainer.position == 16 and trainer.epoch:
                seen.append(checkpoint.peek(path)["position"]["epoch"])

    trainer = make()
    trainer.schedule = lambda step: 1e30 if step == 12 else 1.0
    with pytest.raises(FloatingPointError):
        trainer.fit(x, 4, callbacks=[Look()], progress=False, checkpoint=path)
    assert seen == [1, 2]
    assert checkpoint.peek(path)["position"]["steps"] == 12


def test_saves_can_be_spaced_out(x, tmp_path):
    """With an hour between saves only the last state is written, once."""
    seen = []

    class Look(callbacks.Callback):
        def on_epoch_end(self, trainer, row):
            seen.append((tmp_path / "a.h5").exists())

    trainer = make()
    trainer.fit(x, 3, callbacks=[Look()], progress=False, checkpoint=tmp_path / "a.h5", checkpoint_interval=3600.0)
    assert seen == [False, False, False]
    assert Trainer.resume(tmp_path / "a.h5").epoch == 3
    with pytest.raises(ValueError, match="checkpoint_interval: expected a number >= 0"):
        trainer.fit(x, 4, progress=False, checkpoint=tmp_path / "a.h5", checkpoint_interval=-1.0)


def test_60_kills_leave_60_checkpoints(x, tmp_path):
    """A child trains and saves after every epoch of five small steps; it is killed at a random moment."""
    path = tmp_path / "a.h5"
    make().save(path)
    draw, steps = random.Random(0), []
    begun = time.monotonic()
    Trainer.resume(path).fit(x, 1, progress=False, checkpoint=tmp_path / "first.h5")
    once = time.monotonic() - begun  # what a child needs for its first save; longer where the machine is busy
    for _ in range(60):
        child = os.fork()
        if child == 0:
            Trainer.resume(path).fit(x, 10**6, progress=False, checkpoint=path)
            os._exit(0)
        time.sleep(draw.uniform(0.5, 8) * once)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        steps.append(Trainer.resume(path).steps)
    assert steps == sorted(steps)
    assert len(set(steps)) > 5  # the children did get to save
    whole = make()
    whole.fit(x, steps[-1] // 5, progress=False)
    assert everything(Trainer.resume(path), tmp_path / "b.h5") == everything(whole, tmp_path / "c.h5")


def test_a_failed_save_keeps_the_old_file(x, tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    trainer = make()
    trainer.save(path)
    before = path.read_bytes()
    trainer.fit(x, 1, progress=False)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        trainer.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("model"), "metadata"),
        (lambda m: m["model"].update(latent_dim=3), "shape"),
        (lambda m: m["model"].update(hidden=[12, 7, 7]), "missing|expected"),
        (lambda m: m["model"].update(hidden=[10**9, 10**9]), "expected|larger|bytes"),
        (lambda m: m["model"].update(device="abacus"), "metadata"),
        (lambda m: m["model"].update(posterior="x"), "metadata"),
        (lambda m: m["trainer"]["optimizers"]["generator"].update(type="Lion"), "metadata"),
        (lambda m: m["trainer"].update(optimizers={}), "metadata"),
        (lambda m: m.update(position={}), "description"),
        (lambda m: m["model"].update(surprise=1), "surprise"),
        (lambda m: m["trainer"].update(batch_size=0), "batch_size"),
        (lambda m: m["position"].update(rows_used=-8), "position"),
        (lambda m: m["position"].update(rows_used=8), "position"),
        (lambda m: m["position"].update(sums=[1.0]), "position"),
        (lambda m: m["position"].update(steps=2.5), "description"),
    ],
)
def test_a_description_that_does_not_fit(change, message, tmp_path):
    """A file with a right digest and wrong contents: one CheckpointError."""
    path = tmp_path / "a.h5"
    kept = {}

    def keep(meta):
        kept.update(meta)
        from aaecore.training import state

        return state.expected(meta, Trainer)

    make().save(path)
    tensors, meta = checkpoint.read(path, keep)
    change(meta)
    checkpoint.write(path, tensors, meta)
    with pytest.raises(CheckpointError, match=message):
        Trainer.resume(path)
