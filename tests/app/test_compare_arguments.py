"""What `aaecore compare` is told: settings of models, and what it refuses before anything is trained."""

import os

import numpy as np
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
    (["--models", "AAE", "--minutes", "inf"], "--minutes: expected a number > 0, got inf"),
    (["--models", "AAE", "--minutes", "nan"], "--minutes: expected a number > 0, got nan"),
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
    (
        ["--models", "AAE,RBM", "--set", "hidden=9,9"],
        "--set: RBM.hidden: expected an integer >= 1, got '9,9'; MODEL.hidden=9,9 sets that of one model",
    ),
    (
        ["--models", "GMMN+AE", "--set", "GMMN+AE.autoencoder=runs/ae"],
        "--set: expected GMMN+AE.autoencoder.KEY=VALUE, since a comparison trains that, got GMMN+AE.autoencoder=runs/a",
    ),
    (
        ["--models", "GMMN+AE", "--set", "autoencoder=runs/ae"],
        "--set: expected an option of GMMN+AE, got 'autoencoder'",
    ),
    (
        ["--models", "GMMN+AE", "--set", "GMMN+AE.prior=ring", "--set", "GMMN+AE.latent_dim=3"],
        "GMMN+AE: prior: GaussianMixture has dimension 2, but latent_dim is 3",
    ),
    (
        ["--models", "AAE", "--data", "IMAGES", "--validation-rows", "1"],
        "validation_rows: expected rows that differ, to choose sigma by, got one",
    ),
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


def test_validation_rows_that_are_equal_are_refused(tmp_path, capsys):
    x = np.zeros((40, 6), np.float32)
    x[:5] = 1.0
    path = tmp_path / "x.npy"
    np.save(path, x)
    message = "validation_rows: expected rows that differ, to choose sigma by, got 3 equal ones"
    fails(capsys, ["compare", tmp_path / "out", "--models", "AAE", "--data", path, "--validation-rows", "3"], message)
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_are_one_line_and_leave_nothing(tmp_path, images, capsys, arguments, message):
    given = [images if argument == "IMAGES" else argument for argument in arguments]
    fails(capsys, ["compare", tmp_path / "out", *given], message)
    assert os.listdir(tmp_path) == []
