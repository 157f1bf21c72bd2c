"""Wrong and unused flags, keys and files of `aaecore train`: one line, and nothing is left."""

import os
from typing import ClassVar

import pytest
from small_runs import ROWS, fails

import aaecore
from aaecore.app import cli, config
from aaecore.data.table import Stream
from aaecore.models.registry import MODELS
from aaecore.options import declared

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "cifar"], "data: expected one of mnist-sample"),
        (["--data", "two\nlines.npy"], "two lines.npy: no such file"),
        (["--prior", "ring"], "prior: GaussianMixture has dimension 2, but latent_dim is 8"),
        (["--two-dimensional", "--two-dimensional-prior", "normal:-1"], "two_dimensional_prior: 'normal:-1': std"),
        (["--device", "tpu"], "tpu"),
        (["none.toml"], "aaecore: none.toml: No such file or directory"),
        (["--schedule", "step:0"], "schedule: 'step:0': milestones"),
        (["--output", "linear"], "output: reconstruction='bce' works on the logits"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    fails(capsys, ["train", "--folder", "run", *arguments], message)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model", "VAE", "--adversarial-beta1", "0.5"],
            "--adversarial-beta1: expected a model with a game, got VAE",
        ),
        (["--labelled-batch-size", "9"], "--labelled-batch-size: expected a model that takes labelled rows besides"),
        (["--image-shape", "4,5"], "--image-shape: expected data of a file without a shape, got mnist-sample"),
        (["--dataset", "x"], "--dataset: expected data of a .h5 file, got mnist-sample"),
        (["--data", "x.npy", "--dataset", "x"], "--dataset: expected data of a .h5 file, got x.npy"),
        (["--model", "GAN", "--patience", "1"], "--patience: expected a model that measures held-out rows, got GAN"),
        (["--model", "GMMN", "--two-dimensional"], "--two-dimensional: expected an autoencoder, got GMMN"),
        (["--momentum", "0.5"], "--momentum: expected --optimizer sgd besides, got adam"),
        (
            ["--optimizer", "sgd", "--adversarial-beta1", "0.5"],
            "--adversarial-beta1: expected --optimizer adam, got sgd",
        ),
        (["--labels", "y"], "--labels: expected data of a file and a model that takes labels, got mnist-sample, AAE"),
        (["--labelled-rows", "100"], "--labelled-rows: expected a model that takes labels, got AAE"),
        (["--data-folder", "."], "--data-folder: expected data that have files, got mnist-sample"),
        (["--data", "x.npy", "--data-folder", "."], "--data-folder: expected data that have files, got x.npy"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    fails(capsys, ["train", "--folder", "run", *arguments], message)
    assert os.listdir(tmp_path) == []


SEMI, REDUCTION = ["--model", "SemiSupervisedAAE"], ["--model", "ReductionAAE"]
ANY = "--consistency translation, --consistency noise or --consistency adversarial besides, got none"


@pytest.mark.parametrize(
    ("arguments", "flag", "needed"),
    [
        (SEMI, "--radius", "--consistency adversarial besides, got none"),
        ([*SEMI, "--consistency", "noise"], "--radius", "--consistency adversarial besides, got noise"),
        (SEMI, "--most-shift", "--consistency translation besides, got none"),
        (SEMI, "--consistency-weight", ANY),
        (SEMI, "--consistency-warm-up", ANY),
        ([*SEMI, "--no-joint"], "--generator-weight", "--joint besides, got --no-joint"),
        ([*SEMI, "--no-joint"], "--warm-up", "--joint besides, got --no-joint"),
        ([*SEMI, "--no-joint"], "--classification-weight", "--joint besides, got --no-joint"),
        ([*REDUCTION, "--no-joint"], "--classification-weight", "--joint besides, got --no-joint"),
        ([*REDUCTION, "--no-labelled"], "--classification-weight", "--labelled besides, got --no-labelled"),
        ([*REDUCTION, "--no-labelled"], "--labelled-rows", "--labelled besides, got --no-labelled"),
        ([*REDUCTION, "--no-labelled"], "--labelled-batch-size", "--labelled besides, got --no-labelled"),
        ([*REDUCTION, "--fixed-heads"], "--head-distance", "--no-fixed-heads besides, got --fixed-heads"),
        (["--model", "RBM"], "--chains", "--persistent besides, got --no-persistent"),
        (["--model", "DBN"], "--chains", "--persistent besides, got --no-persistent"),
        ([*REDUCTION, "--fixed-heads"], "--head-weight", "--no-fixed-heads besides, got --fixed-heads"),
    ],
)
def test_options_without_the_one_that_uses_them_are_refused(tmp_path, capsys, monkeypatch, arguments, flag, needed):
    monkeypatch.chdir(tmp_path)
    fails(capsys, ["train", "--folder", "run", *arguments, flag, "9"], f"{flag}: expected {needed}")
    assert os.listdir(tmp_path) == []


def test_statistics_of_batch_norm_that_is_not_there(tmp_path, capsys):
    flags = ["--batch-statistics", "recomputed"]
    fails(capsys, ["train", "--folder", tmp_path / "run", *flags], "--batch-statistics: expected --batch-norm encoder,")
    options = config.of(aaecore.AAE)(batch_norm="hidden", batch_statistics="recomputed")
    config.check_used(options, ("batch_norm", "batch_statistics"))


def test_options_beside_the_one_that_uses_them_are_taken():
    semi, reduction = config.of(aaecore.SemiSupervisedAAE), config.of(aaecore.ReductionAAE)
    joint = ("generator_weight", "warm_up", "classification_weight", "labelled_rows", "labelled_batch_size")
    config.check_used(semi(), joint)
    config.check_used(semi(consistency="adversarial"), (*joint, "radius", "consistency_weight", "consistency_warm_up"))
    config.check_used(semi(consistency="translation"), ("most_shift", "consistency_weight"))
    config.check_used(reduction(), (*joint, "head_distance", "head_weight"))
    # Labels of rows that are no features, and that pictures show.
    config.check_used(reduction(data="x.csv", labelled=False), ("labels",))


@pytest.mark.parametrize("model", [kind for kind in MODELS.values() if kind.__module__.startswith("aaecore.")])
def test_what_an_option_needs_is_another_option_that_can_be_so(model):
    options = declared(model)
    for name, key in options.items():
        for other, values in key.metadata["beside"].items():
            assert other != name
            assert all(options[other].metadata["kind"].accepts(value) for value in values)


@pytest.mark.parametrize("name", ["SemiSupervisedAAE", "ClusteringAAE", "ReductionAAE"])
def test_a_distribution_of_classes_is_spelled_in_the_help(capsys, name):
    assert cli.run(["train", "--model", name, "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "--label-prior TEXT categorical[:WEIGHT:WEIGHT...], with a weight for each class" in told


def test_a_distribution_of_classes(tmp_path, images, capsys):
    run = ["train", "--model", "ClusteringAAE", "--clusters", "3", "--data", images, "--folder", str(tmp_path / "run")]
    fails(capsys, [*run, *ROWS, "--label-prior", "normal:1"], "label_prior: expected a Categorical, got Normal")
    fails(capsys, [*run, *ROWS, "--label-prior", "categorical:1:2"], "label_prior: expected 3 weights, one for each")
    assert cli.run([*run, *ROWS, "--no-plots", "--label-prior", "categorical:2:1:1"]) == 0
    model = aaecore.load(str(tmp_path / "run" / "checkpoint.h5"))
    assert model.label_prior == aaecore.priors.Categorical([2, 1, 1])
    assert config.read(tmp_path / "run" / "config.toml").label_prior == "categorical:2:1:1"


def test_reproduce_refuses_a_folder_that_it_would_not_read(tmp_path, capsys):
    message = "--data-folder: expected --data mnist or fashion-mnist or svhn or svhn-extra besides, got mnist-sample"
    fails(capsys, ["reproduce", "figure-2", tmp_path / "out.png", "--data-folder", tmp_path, "--epochs", 1], message)


def test_flags_that_a_model_or_the_data_use_are_taken():
    class Labelled(aaecore.VAE):
        streams: ClassVar = {"": Stream(("x",)), "labelled": Stream(("x", "y"), labelled=True)}

    options = config.of(aaecore.VAE)(data="x.hdf5")
    used = ("dataset", "image_shape", "labelled_batch_size", "two_dimensional_prior")
    config.check_used(options, used[:2])
    made = type("Options", (config.of(aaecore.VAE),), {"trains": Labelled})
    config.check_used(made(data="x.h5", two_dimensional=True), used)
    config.check_used(config.of(aaecore.AAE)(data="mnist"), ("adversarial_beta1", "data_folder"))


def test_a_file_may_have_keys_that_nothing_uses(tmp_path, images):
    toml = tmp_path / "run.toml"
    toml.write_text(f'data = "{images}"\nlabelled_batch_size = 9\ndataset = "x"\nplots = false\n')
    assert cli.run(["train", str(toml), "--folder", str(tmp_path / "run"), *ROWS]) == 0


def test_an_unknown_option_in_a_file(tmp_path, capsys):
    toml = tmp_path / "run.toml"
    toml.write_text("epoch = 3\n")
    fails(capsys, ["train", toml], f"{toml}: unknown option 'epoch'; expected one of data, dataset")


def test_the_model_is_found_in_any_file_and_in_the_last_flag(tmp_path, images, capsys):
    run = tmp_path / "vae.conf"
    run.write_text(f'model = "VAE"\ndata = "{images}"\nplots = false\ntwo_dimensional = false\n')
    small = ["--epochs", "1", "--hidden", "4", "--folder", str(tmp_path / "run")]
    assert cli.run(["train", str(run), "--warm-up", "5", *small]) == 0
    assert (
        cli.run(["train", "--model", "AAE", str(run), "--model", "VAE", "--warm-up", "5", "--overwrite", *small]) == 0
    )
    assert config.read(tmp_path / "run" / "config.toml").warm_up == 5
    capsys.readouterr()
    run.write_text('model = "CNN"\n')
    fails(capsys, ["train", run], f"{run}: model: expected one of AAE, ")
    run.write_text("model = 5\n")
    fails(capsys, ["train", run], f"{run}: model: expected a string, got 5")


def test_wrong_usage(capsys):
    fails(capsys, ["train", "--epochs", "many"], "'--epochs': expected an integer >= 1, got 'many'", status=2)
    fails(capsys, ["train", "--adversarial-beta1", "1"], "'--adversarial-beta1': expected a number in [0, 1)", status=2)
    fails(capsys, ["train", "--threads", "300"], "'--threads': expected an integer from 1 to 256, got '300'", status=2)
    wanted = "'--posterior': expected one of deterministic, gaussian, universal, got 'laplace'"
    fails(capsys, ["train", "--posterior", "laplace"], wanted, status=2)
    for flag in ("--hidden", "--image-shape", "--lr"):
        fails(capsys, ["train", flag, " "], f"'{flag}': expected a ", status=2)
    fails(capsys, ["train", "--epoch", "1"], "No such option", status=2)
    fails(capsys, ["paint"], "No such command 'paint'", status=2)


@pytest.mark.parametrize(
    ("flags", "momenta"),
    [
        ([], {"reconstruction": 0.9, "discriminator": 0.1, "generator": 0.1}),
        (["--momentum", "0.5"], {"reconstruction": 0.5, "discriminator": 0.5, "generator": 0.5}),
        (["--momentum", "generator=0"], {"reconstruction": 0.9, "discriminator": 0.1, "generator": 0.0}),
    ],
)
def test_the_optimizer_of_the_paper(tmp_path, images, flags, momenta):
    """SGD with a momentum and a rate for each phase, which fall at epochs, as of its own phases."""
    folder, rates = str(tmp_path / "run"), "reconstruction=1e-4,discriminator=2e-4,generator=3e-4"
    paper = ["--optimizer", "sgd", "--lr", rates, "--schedule", "step:1", "--generator-weight", "0", *flags]
    assert cli.run(["train", "--data", images, "--folder", folder, *ROWS, "--no-plots", *paper]) == 0
    trainer = aaecore.Trainer.resume(f"{folder}/checkpoint.h5")
    found = {name: optimizer.config() for name, optimizer in trainer.optimizers.items()}
    assert {name: c["type"] for name, c in found.items()} == dict.fromkeys(momenta, "SGD")
    assert {name: c["momentum"] for name, c in found.items()} == pytest.approx(momenta)
    assert trainer.base_lr == {"reconstruction": 1e-4, "discriminator": 2e-4, "generator": 3e-4}
    assert trainer.schedule == aaecore.schedules.StepWise((trainer.steps // 2,))
    assert config.read(f"{folder}/config.toml").optimizer == "sgd"
    assert cli.run(["resume", folder, "--epochs", "3"]) == 0


def test_flags_of_the_optimizer_that_stand_for_nothing(capsys):
    expected = "'--optimizer': expected one of adam, sgd, got 'rmsprop'"
    fails(capsys, ["train", "--optimizer", "rmsprop"], expected, status=2)
    for text in ("1", "-0.1", "generator=1", "encoder=0.5"):
        expected = "'--momentum': expected a number in [0, 1), or such numbers by phase (reconstruction, discriminator"
        fails(capsys, ["train", "--momentum", text], expected, status=2)
