"""Runs of Boltzmann machines, from the data to codes, samples and pictures."""

import os

import numpy as np
import pytest

import aaecore
from aaecore import Trainer
from aaecore.app import cli

pytest.importorskip("matplotlib", reason="the command line needs the extra: pip install '.[app]'")
SMALL = ["--epochs", "2", "--batch-size", "20", "--sampling-steps", "5"]
MODELS = {
    "RBM": (["--hidden", "9", "--persistent"], ["divergence"]),
    "DBN": (["--hidden", "9,7,5", "--lr", "2e-3", "--steps-per-layer", "2"], ["layer_1", "layer_2", "layer_3"]),
    "DBM": (["--hidden", "9,7", "--pretraining-steps", "3", "--mean-field", "2"], ["pretraining", "energy"]),
    "DBM alone": (["--hidden", "9,7", "--pretraining-steps", "0"], ["energy"]),
}


@pytest.mark.parametrize("which", MODELS)
def test_a_run_from_data_to_pictures(which, tmp_path, capsys):
    options, phases = MODELS[which]
    folder, data = str(tmp_path / "run"), str(tmp_path / "x.npy")
    np.save(data, np.random.default_rng(0).integers(0, 256, (60, 4, 5), np.uint8))
    run = ["train", "--model", which.split()[0], "--data", data, "--folder", folder, *SMALL, *options]
    assert cli.run(run) == 0
    pictures = {"reconstructions.png", "samples.png", "losses.png"}
    assert set(os.listdir(folder)) == {"config.toml", "checkpoint.h5", "history.csv", *pictures}
    assert f"{phases[-1]} loss" in capsys.readouterr().out
    trained = Trainer.resume(f"{folder}/checkpoint.h5")
    assert list(trained.names) == phases
    assert "validation" in trained.history.columns
    if "--lr" in options:
        assert set(trained.base_lr.values()) == {2e-3}
    assert cli.run(["resume", folder, "--epochs", "3"]) == 0
    assert Trainer.resume(f"{folder}/checkpoint.h5").epoch == 3
    assert cli.run(["sample", folder, str(tmp_path / "s.npy"), "-n", "4"]) == 0
    assert cli.run(["encode", folder, data, str(tmp_path / "z.npy")]) == 0
    rows = np.load(data).reshape(60, 20)
    assert np.array_equal(np.load(tmp_path / "z.npy"), aaecore.load(f"{folder}/checkpoint.h5").encode(rows))
