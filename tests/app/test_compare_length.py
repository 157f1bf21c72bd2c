"""How long `aaecore compare` trains: by epochs, steps or minutes."""

from types import SimpleNamespace

import pytest
from small_comparisons import results, run

import aaecore
from aaecore.app import compare_runs
from aaecore.evaluation.recipes import RECIPES, Recipe
from aaecore.optim.schedules import Constant, Cosine

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")


def test_epochs_and_schedules(tmp_path, images):
    assert run(tmp_path / "a", images, "--epochs", 2, models="AAE") == 0
    by_epochs = aaecore.Trainer.resume(tmp_path / "a" / "AAE-0" / "checkpoint.h5")
    assert (by_epochs.epoch, by_epochs.steps, by_epochs.schedule) == (2, 6, Cosine(6, 0.01))
    assert run(tmp_path / "b", images, "--steps", 5, models="AAE") == 0
    by_steps = aaecore.Trainer.resume(tmp_path / "b" / "AAE-0" / "checkpoint.h5")
    assert (by_steps.steps, by_steps.schedule) == (5, Cosine(5, 0.01))
    assert run(tmp_path / "c", images, "--set", "AAE.epochs=3", models="AAE") == 0
    assert aaecore.Trainer.resume(tmp_path / "c" / "AAE-0" / "checkpoint.h5").epoch == 3


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["--steps", 6], 3),
        (["--epochs", 2], 3),
        (["--epochs", 2, "--validation-rows", 20], 2),  # two steps an epoch, of 34 rows
        (["--minutes", 0.001], 0),
        (["--steps", 6, "--set", "warm_up=1"], 1),
    ],
)
def test_an_option_may_be_a_share_of_all_steps(tmp_path, images, monkeypatch, arguments, steps):
    monkeypatch.setitem(RECIPES, "VAE", Recipe("VAE", shares={"warm_up": 0.5}))
    assert run(tmp_path, images, *arguments, models="VAE") == 0
    assert aaecore.load(tmp_path / "VAE-0" / "checkpoint.h5").warm_up == steps


def test_minutes_end_training_at_constant_rates(tmp_path, images, monkeypatch):
    """By a clock that goes on by 10 seconds whenever somebody looks."""
    now = [0.0]

    def monotonic():
        now[0] += 10.0
        return now[0]

    monkeypatch.setattr(compare_runs, "time", SimpleNamespace(monotonic=monotonic))
    assert run(tmp_path, images, "--minutes", 1, models="AAE") == 0
    trained = aaecore.Trainer.resume(tmp_path / "AAE-0" / "checkpoint.h5")
    assert trained.schedule == Constant()
    assert 0 < trained.steps < 20
    (line,) = results(tmp_path)
    assert 60 <= line["seconds"] <= 100
    assert line["steps"] == trained.steps
    assert run(tmp_path, images, "--minutes", 1, models="AAE") == 0
    assert aaecore.Trainer.resume(tmp_path / "AAE-0" / "checkpoint.h5").steps == trained.steps


def test_the_clock_counts_what_the_checkpoint_has(tmp_path):
    clock = compare_runs.Clock(str(tmp_path))
    assert clock.read(5) == 0.0
    (tmp_path / "clock.json").write_text('{"steps": 20, "seconds": 10.0}')
    assert [clock.read(steps) for steps in (0, 5, 20)] == [0.0, 2.5, 10.0]
    (tmp_path / "clock.json").write_text("[1]")
    assert clock.read(5) == 0.0
