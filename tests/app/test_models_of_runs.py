"""Runs of the models that take labels, from the data to predictions and pictures."""

import csv
import os

import numpy as np
import pytest
from small_runs import fails

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


@pytest.mark.parametrize("labels", [None, [""] * 60])
@pytest.mark.parametrize("name", ["LabelInformedAAE", "SupervisedAAE", "SemiSupervisedAAE"])
def test_data_without_labels(name, labels, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (60, 20), np.uint8))
    run = ["train", "--model", name, "--data", "x.npy", "--folder", "run"]
    if labels:
        np.save("y.npy", labels)
        run += ["--labels", "y.npy"]
    message = "data: expected data that tell classes, got rows without labels; give --labels for those of a file, or an"
    fails(capsys, run, message)
    assert not os.path.exists("run")


SUPERVISED = ["train", "--model", "SupervisedAAE", "--folder", "run", *SMALL]


def test_some_rows_keep_their_label_where_all_need_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = "labelled_rows: expected none, since SupervisedAAE needs a label for every row, got 100"
    fails(capsys, [*SUPERVISED, "--labelled-rows", "100"], message)
    (tmp_path / "run.toml").write_text('model = "SupervisedAAE"\nlabelled_rows = 100\n')
    fails(capsys, ["train", "run.toml", "--folder", "run"], message)
    assert not os.path.exists("run")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_row_without_a_label(part, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = np.random.default_rng(0).integers(0, 256, (30, 4, 5), np.uint8), np.arange(30) % 3
    missing = np.where(np.arange(30) == 7, -1, y)
    arrays = {"x_train": x, "x_test": x, "y_train": y, "y_test": y, f"y_{part}": missing}
    np.savez("a.npz", **arrays)
    rows = {"train": "training", "test": "test"}[part]
    message = f"labels of {rows} rows: expected a label for every row, which SupervisedAAE needs, got a row without one"
    fails(capsys, [*SUPERVISED, "--data", "a.npz"], f"{message} at row 7")
    assert not os.path.exists("run")


def test_only_test_rows_have_a_label(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = np.random.default_rng(0).integers(0, 256, (30, 4, 5), np.uint8), np.arange(30) % 3
    np.savez("a.npz", x_train=x, x_test=x, y_train=np.full(30, -1), y_test=y)
    run = ["train", "--model", "SemiSupervisedAAE", "--data", "a.npz", "--folder", "run", *SMALL]
    fails(capsys, run, "data: expected labels, since SemiSupervisedAAE learns from some, got none; give --labels for")
    assert not os.path.exists("run")
