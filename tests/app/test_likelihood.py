"""`aaecore likelihood`, and the rows of a run that it chooses sigma by."""

import importlib
import json
import os
import signal

import numpy as np
import pytest
from small_runs import ROWS, content, fails

import aaecore
from aaecore.app import cli, config, evaluate, runs, sources
from aaecore.evaluation import likelihood

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")

RunConfig = config.of(aaecore.AAE)
DEVICE = ("--device", "cpu")
FEW = (*DEVICE, "--samples", "3000", "--sigma-samples", "500")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A file of 200 images, 4 x 5, of few kinds."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "pictures.npy"
    kinds = rng.integers(0, 200, (5, 4, 5))
    np.save(path, (kinds[rng.integers(0, 5, 200)] + rng.integers(0, 55, (200, 4, 5))).astype(np.uint8))
    return str(path)


@pytest.fixture
def run(pictures, tmp_path):
    return make(tmp_path / "run", pictures)


def make(folder, data, *more):
    assert cli.run(["train", "--data", data, "--folder", str(folder), *ROWS, "--no-plots", *more]) == 0
    return str(folder)


def result(folder, name="likelihood.json"):
    with open(f"{folder}/{name}", encoding="utf-8") as file:
        return json.load(file)


def test_of_a_run_without_validation_rows(run, capsys):
    capsys.readouterr()
    before = set(os.listdir(run))
    assert cli.run(["likelihood", run, *FEW]) == 0
    out = capsys.readouterr().out
    found = result(run)
    assert set(os.listdir(run)) == {*before, "likelihood.json"}
    assert found.keys() == {"mean", "error", "sigma", "samples", "rows", "seconds", "chosen_by", "steps"}
    assert (found["samples"], found["rows"], found["steps"]) == (3000, 18, 18)
    assert found["chosen_by"] == "chosen by 2 test rows that are not measured"
    assert out.startswith(f"{run}/likelihood.json: {found['mean']:.1f} +- {found['error']:.1f} nats (18 test rows, ")
    assert out.count("\n") == 1
    test = sources.load(config.read(f"{run}/config.toml")).test
    model = aaecore.load(f"{run}/checkpoint.h5", device="cpu")
    apart = np.isin(np.arange(20), [0, 10])
    wanted = likelihood(model, test[~apart], test[apart], samples=3000, sigma_samples=500)
    assert (found["mean"], found["error"], found["sigma"]) == wanted[:3]


def test_of_a_run_with_validation_rows(tmp_path, pictures, capsys):
    run = make(tmp_path / "run", pictures, "--validation-rows", "30")
    assert cli.run(["likelihood", run, *FEW]) == 0
    found = result(run)
    assert (found["rows"], found["steps"]) == (20, 16)  # of 150 rows, eight steps an epoch
    assert found["chosen_by"] == "chosen by 30 validation rows"
    assert "chosen by 30 validation rows" in capsys.readouterr().out
    source = sources.load(config.read(f"{run}/config.toml"))
    model = aaecore.load(f"{run}/checkpoint.h5", device="cpu")
    wanted = likelihood(model, source.test, source.validation, samples=3000, sigma_samples=500)
    assert (found["mean"], found["sigma"]) == (wanted.mean, wanted.sigma)


def test_with_a_sigma_and_some_of_the_rows(run):
    assert cli.run(["likelihood", f"{run}/checkpoint.h5", *DEVICE, "--sigma", "0.25", "--rows", "5"]) == 0
    found = result(run)
    assert (found["sigma"], found["rows"], found["samples"], found["chosen_by"]) == (0.25, 5, 10_000, "given")


def test_of_the_second_model_of_a_run(tmp_path, pictures):
    run = make(tmp_path / "run", pictures, "--two-dimensional", "--two-dimensional-epochs", "1")
    assert cli.run(["likelihood", f"{run}/checkpoint_2d.h5", *FEW]) == 0
    assert result(run, "likelihood_2d.json")["steps"] == 9
    assert cli.run(["likelihood", run, *FEW]) == 0
    assert result(run)["mean"] != result(run, "likelihood_2d.json")["mean"]


def test_of_the_model_of_the_best_epoch(tmp_path, pictures, capsys):
    run = make(tmp_path / "run", pictures, "--validation-rows", "30", "--patience", "1", "--lr", "0.1")
    assert cli.run(["likelihood", f"{run}/best.h5", *FEW]) == 0
    found = result(run, "likelihood_best.json")
    source = sources.load(config.read(f"{run}/config.toml"))
    model = aaecore.load(f"{run}/best.h5", device="cpu")
    wanted = likelihood(model, source.test, source.validation, samples=3000, sigma_samples=500)
    assert (found["mean"], found["sigma"], found["steps"]) == (wanted.mean, wanted.sigma, None)
    capsys.readouterr()
    fails(capsys, ["resume", f"{run}/best.h5"], "RUN_OR_CHECKPOINT: expected the folder of a run or its checkpoint.h5")


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(
    ("at", "kept"), [(2024, "; the same command goes on from there"), (500, "")], ids=["measuring", "choosing sigma"]
)
def test_a_signal_and_the_same_command_again(run, monkeypatch, capsys, name, status, at, kept):
    assert cli.run(["likelihood", run, *FEW]) == 0
    whole = result(run)
    os.unlink(f"{run}/likelihood.json")
    previous = signal.signal(signal.SIGTERM, cli._terminate)
    measured = evaluate.measured

    def stopped(*arguments, progress, **options):
        def told(done, samples):
            progress(done, samples)
            if done == at:
                signal.raise_signal(getattr(signal, name))

        return measured(*arguments, progress=told, **options)

    try:
        monkeypatch.setattr(evaluate, "measured", stopped)
        capsys.readouterr()
        assert cli.run(["likelihood", run, *FEW]) == status
        out, err = capsys.readouterr()
        assert (out, err.strip()) == ("", f"stopped after {at} samples{kept}")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert os.path.exists(f"{run}/likelihood.h5") == bool(kept)
    assert not os.path.exists(f"{run}/likelihood.json")
    monkeypatch.setattr(evaluate, "measured", measured)
    if kept:
        fails(capsys, ["likelihood", run, *FEW[:-1], "501"], "got one of another samples to choose sigma; finish that")
        fails(capsys, ["likelihood", run, *FEW, "--rows", "3"], "got that of others; finish that one, or remove the f")
    assert cli.run(["likelihood", run, *FEW]) == 0
    assert {**result(run), "seconds": 0} == {**whole, "seconds": 0}
    assert not os.path.exists(f"{run}/likelihood.h5")


def test_a_sigma_at_the_end_of_its_grid_is_a_line(run, capsys, monkeypatch):
    monkeypatch.setattr(importlib.import_module("aaecore.evaluation.likelihood"), "LEAST", 9.0)
    capsys.readouterr()
    assert cli.run(["likelihood", run, *FEW]) == 0
    err = capsys.readouterr().err
    assert err.startswith("aaecore: grid: the best sigma, ")
    assert err.count("\n") == 1


def test_errors_are_one_line(tmp_path, run, capsys):
    capsys.readouterr()
    fails(capsys, ["likelihood", tmp_path / "none"], "RUN_OR_CHECKPOINT: expected the folder of a run")
    both = ["--sigma", "0.2", "--sigma-samples", "9"]
    fails(capsys, ["likelihood", run, *both], "--sigma-samples: expected no --sigma besides, got one")
    fails(capsys, ["likelihood", run, "--sigma", "0"], "sigma: expected a number > 0, got 0.0")
    fails(capsys, ["likelihood", run, "--samples", "0"], "--samples", status=2)
    os.mkdir(f"{run}/likelihood.json")
    fails(capsys, ["likelihood", run, *FEW], "likelihood.json: exists and is not a regular file")


def test_a_run_with_one_test_row_needs_a_sigma(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((12, 20), np.float32))
    run = make(tmp_path / "run", str(tmp_path / "x.npy"))
    capsys.readouterr()
    fails(capsys, ["likelihood", run, *DEVICE], "--sigma: needed, since there are no rows to choose it by: 1 for test")
    assert cli.run(["likelihood", run, *DEVICE, "--sigma", "0.3"]) == 0


def test_an_overwritten_run_loses_its_likelihood(run, pictures):
    assert cli.run(["likelihood", run, *FEW]) == 0
    make(run, pictures, "--overwrite")
    assert "likelihood.json" not in os.listdir(run)


# --- rows that are kept out of training -------------------------------------------------------------------------------


def test_validation_rows_are_drawn_by_the_seed():
    """Those of the sample, which is not in the order that MNIST has."""
    parts = [sources.load(RunConfig(validation_rows=500, seed=seed)) for seed in (0, 0, 1)]
    assert np.array_equal(parts[0].validation, parts[1].validation)
    assert not np.array_equal(parts[0].validation, parts[2].validation)
    counts = np.bincount(parts[0].train_labels, minlength=10)
    assert counts.sum() == 4500
    assert counts.min() > 420


def test_validation_rows_of_a_file(pictures):
    whole = sources.load(RunConfig(data=pictures))
    found = sources.load(RunConfig(data=pictures, validation_rows=30))
    assert (len(found.train), len(found.validation), len(found.test)) == (150, 30, 20)
    assert np.array_equal(found.test, whole.test)
    both = np.concatenate([found.train, found.validation])
    assert sorted(map(bytes, both)) == sorted(map(bytes, whole.train))
    assert whole.validation is None


def test_of_a_complete_set_they_are_the_last_ones(monkeypatch):
    x = np.arange(40, dtype=np.uint8).reshape(20, 2)
    split = aaecore.datasets.Split(x, np.arange(20) % 3)
    found = aaecore.datasets.Dataset("mnist", split, split, (1, 2))
    monkeypatch.setattr("aaecore.app.sources.named", lambda name, folder: found)
    source = sources.load(RunConfig(data="mnist", validation_rows=5))
    assert np.array_equal(source.validation, x[15:])
    assert np.array_equal(source.train, x[:15])
    assert np.array_equal(source.train_labels, np.arange(15) % 3)


def test_labels_keep_to_their_rows(tmp_path):
    x = np.arange(120, dtype=np.float32).reshape(60, 2)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.arange(60))
    source = sources.load(
        RunConfig(data=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy"), validation_rows=9)
    )  # fmt: skip
    assert np.array_equal(source.train_labels, source.train[:, 0] // 2)
    assert len(source.train) == 45


def test_more_validation_rows_than_there_are(tmp_path, pictures, capsys):
    start = ["train", "--data", pictures, "--folder", tmp_path / "run", *ROWS, "--validation-rows"]
    fails(capsys, [*start, "180"], "validation_rows: expected an integer < 180, the rows to train on, got 180")
    assert os.listdir(tmp_path) == []


def test_a_run_with_validation_rows_resumes(tmp_path, pictures):
    apart = ("--validation-rows", "30")
    run, other = make(tmp_path / "run", pictures, *apart), make(tmp_path / "other", pictures, *apart, "--epochs", "3")
    assert cli.run(["resume", run, "--epochs", "3"]) == 0
    assert content(run, "checkpoint.h5") == content(other, "checkpoint.h5")
    assert runs.read_config(run).validation_rows == 30
