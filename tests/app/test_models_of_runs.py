"""Runs of the models that take labels, from the data to predictions and pictures."""

import csv
import os

import numpy as np
import pytest

import aaecore
from aaecore import Trainer
from aaecore.app import cli

pytest.importorskip("matplotlib", reason="the command line needs the extra: pip install '.[app]'")
SMALL = ["--hidden", "12", "--epochs", "2", "--batch-size", "250"]
MODELS = {
    "LabelInformedAAE": ([], {"latent.png", "walks.png"}, True),
    "LabelInformedAAE, roll": (["--prior", "swissroll", "--labelled-rows", "500"], {"latent.png", "walks.png"}, True),
    "SupervisedAAE": (["--latent-dim", "3"], {"sweep.png"}, False),
}
ALWAYS = {"config.toml", "checkpoint.h5", "history.csv", "reconstructions.png", "samples.png", "losses.png"}


@pytest.mark.parametrize("which", MODELS)
def test_a_run_from_data_to_pictures(which, tmp_path, capsys):
    name = which.split(",")[0]
    options, pictures, predicts = MODELS[which]
    folder, rows = str(tmp_path / "run"), str(tmp_path / "rows.npy")
    assert cli.run(["train", "--model", name, "--folder", folder, *SMALL, *options]) == 0
    assert set(os.listdir(folder)) == ALWAYS | pictures
    out = capsys.readouterr().out
    assert "reconstruction loss, test data" in out
    assert ("wrong labels, test data" in out) == predicts
    trained = Trainer.resume(f"{folder}/checkpoint.h5")
    assert (type(trained.model).__name__, trained.model.classes, trained.epoch) == (name, 10, 2)
    assert cli.run(["resume", folder, "--epochs", "3"]) == 0
    assert Trainer.resume(f"{folder}/checkpoint.h5").epoch == 3

    np.save(rows, aaecore.datasets.load("mnist-sample").test.x[:20])
    predicted = str(tmp_path / "labels.csv")
    assert cli.run(["predict", folder, rows, predicted]) == (0 if predicts else 1)
    if predicts:
        with open(predicted, newline="") as file:
            assert {label for (label,) in list(csv.reader(file))[1:]} <= set(map(str, range(10)))
    else:
        assert "expected a model that predicts labels" in capsys.readouterr().err
    assert cli.run(["encode", folder, rows, str(tmp_path / "z.npy")]) == 0
    assert cli.run(["sample", folder, str(tmp_path / "s.png"), "-n", "4"]) == 0


@pytest.mark.parametrize("name", ["LabelInformedAAE", "SupervisedAAE"])
def test_data_without_labels(name, tmp_path, capsys):
    path = str(tmp_path / "x.npy")
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 20), np.uint8))
    assert cli.run(["train", "--model", name, "--data", path, "--folder", str(tmp_path / "run")]) == 1
    assert "data: expected" in capsys.readouterr().err


def test_rows_without_a_label(tmp_path, capsys):
    folder = str(tmp_path / "run")
    assert cli.run(["train", "--model", "SupervisedAAE", "--labelled-rows", "100", "--folder", folder, *SMALL]) == 1
    assert "y: expected a label for every row, which SupervisedAAE needs" in capsys.readouterr().err
