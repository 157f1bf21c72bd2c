"""What `aaecore compare` is told: settings of models, and what it refuses before anything is trained."""

import os

import pytest
from small_comparisons import run
from small_runs import fails

import aaecore

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")


def test_settings_are_for_all_models_or_for_one(tmp_path, images):
    assert run(tmp_path, images, "--steps", 3, "--set", "latent-dim=2", "--set", "VAE.latent_dim=3") == 0
    dims = [aaecore.load(tmp_path / f"{name}-0" / "checkpoint.h5").latent_dim for name in ("AAE", "VAE")]
    assert dims == [2, 3]


def test_what_is_said_of_a_model_counts_before_what_is_said_of_all_and_rates_stay_by_phase(tmp_path, images):
    said = ("--precision", "fp32", "--set", "AAE.precision=bf16", "--set", "AAE.lr=discriminator=0.5", "--steps", 2)
    assert run(tmp_path, images, *said) == 0
    ours, theirs = (aaecore.Trainer.resume(tmp_path / f"{name}-0" / "checkpoint.h5") for name in ("AAE", "VAE"))
    assert (ours.model.precision, theirs.model.precision) == ("bf16", "fp32")
    assert dict(ours.lr) == {phase.name: phase.rate for phase in aaecore.AAE.phases} | {"discriminator": 0.5}


BAD = [
    (["--models", "AAE,NAE"], "--models: expected one of AAE, "),
    (["--models", ","], "--models: expected names that differ, separated by commas, got none"),
    (["--models", "AAE,AAE"], "--models: expected names that differ, separated by commas, got AAE,AAE"),
    (["--models", "nowhere:AAE"], "--models: expected module:Class with a module to import"),
    (["--models", "AAE", "--epochs", "1", "--steps", "2"], "--epochs: expected one of --epochs, --steps and --minutes"),
    (["--models", "AAE", "--set", "hidden"], "--set: expected KEY=VALUE or MODEL.KEY=VALUE, got 'hidden'"),
    (["--models", "AAE", "--set", "AAE.seed=3"], "--set: AAE: unknown option 'seed'; expected one of "),
    (["--models", "AAE", "--set", "breadth=3"], "--set: expected an option of AAE, got 'breadth'"),
    (
        ["--models", "AAE", "--set", "momentum=0.5"],
        "--set: AAE: --momentum: expected --optimizer sgd besides, got adam",
    ),
    (
        ["--models", "AAE", "--set", "hidden=9", "--set", "AAE.hidden=8"],
        "--set: expected an option of AAE, got 'hidden'",
    ),
    (
        ["--models", "AAE", "--set", "epochs=3", "--steps", "9"],
        "--set: AAE: epochs: expected training by epochs, got --s",
    ),
    (
        ["--models", "AAE", "--set", "schedule=constant", "--minutes", "9"],
        "--set: AAE: schedule: expected training by ",
    ),
    (["--models", "AAE", "--set", "VAE.hidden=3"], "--set: expected an option of AAE, got 'VAE.hidden'"),
    (["--models", "AAE", "--set", "hidden=many"], "--set: AAE.hidden: expected a list of integers >= 1, got 'many'"),
    (["--models", "AAE", "--set", "prior=ring"], "AAE: prior: GaussianMixture has dimension 2, but latent_dim is 6"),
    (["--models", "AAE", "--data", "cifar"], "data: expected one of mnist-sample"),
    (["--models", "AAE", "--data-folder", "."], "--data-folder: expected data that have files, got mnist-sample"),
    (
        ["--models", "AAE", "--data", "IMAGES", "--labels", "y"],
        "--labels: expected data of a file and a model that takes",
    ),
    (
        ["--models", "SupervisedAAE", "--data", "IMAGES"],
        "SupervisedAAE: data: expected data that tell classes, got rows",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_one_line_and_leave_nothing(tmp_path, images, capsys, arguments, message):
    given = [images if argument == "IMAGES" else argument for argument in arguments]
    fails(capsys, ["compare", tmp_path / "out", *given], message)
    assert os.listdir(tmp_path) == []
