"""What a run keeps and refuses: its data's folder, early stopping, clipping, and files that it must not destroy."""

import os
import shutil

import h5py
import numpy as np
import pytest

import aaecore
from aaecore import datasets
from aaecore.app import cli, config, sources

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")

SMALL = ("--hidden", "8", "--latent-dim", "2", "--no-plots")


@pytest.fixture
def rows(tmp_path):
    """A file of 60 rows."""
    path = str(tmp_path / "x.npy")
    np.save(path, np.random.default_rng(0).random((60, 20)))
    return path


def fails(capsys, arguments, message):
    """One line on standard error, and nothing else."""
    capsys.readouterr()
    assert cli.run([str(a) for a in arguments]) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def content(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def test_codes_never_replace_a_checkpoint_or_what_is_read(tmp_path, rows, capsys):
    runs = [str(tmp_path / name) for name in ("run", "other")]
    for run in runs:
        assert cli.run(["train", "--data", rows, "--folder", run, *SMALL, "--epochs", "1"]) == 0
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.load(rows)
    shutil.copy(f"{runs[0]}/checkpoint.h5", tmp_path / "named.npy")
    os.symlink(f"{runs[0]}/checkpoint.h5", tmp_path / "link.h5")
    named = tmp_path / "named.npy"
    given = [*(f"{run}/checkpoint.h5" for run in runs), rows, tmp_path / "x.h5", named]
    before = [content(path) for path in given]
    destroyed = "out: expected a file that is no checkpoint, which it would destroy"
    fails(capsys, ["encode", runs[0], rows, f"{runs[1]}/checkpoint.h5"], destroyed)
    fails(capsys, ["sample", runs[0], tmp_path / "named.npy"], destroyed)
    for out in (f"{runs[0]}/checkpoint.h5", tmp_path / "link.h5"):
        fails(capsys, ["encode", runs[0], rows, out], "out: expected another file than what is read")
    fails(capsys, ["encode", runs[0], tmp_path / "x.h5", tmp_path / "x.h5"], "out: expected another file than what")
    fails(capsys, ["encode", runs[0], rows, rows], "out: expected another file than what is read")
    fails(capsys, ["sample", named, named], "out: expected another file than what is read")
    assert [content(path) for path in given] == before
    assert cli.run(["encode", runs[0], rows, str(tmp_path / "z.npy")]) == 0
    assert cli.run(["encode", runs[0], rows, str(tmp_path / "z.npy")]) == 0  # codes replace codes


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path, rows, capsys, monkeypatch):
    monkeypatch.setattr("aaecore.app.sources.load", None)
    for folder in (rows, f"{rows}/run"):
        fails(capsys, ["train", "--folder", folder], f"{rows}: expected a folder for the run, and it is a file")
    monkeypatch.setattr("os.access", lambda path, mode: path != str(tmp_path))
    fails(capsys, ["train", "--folder", tmp_path / "a" / "b"], f"{tmp_path}: no permission to write the run there")
    assert os.listdir(tmp_path) == ["x.npy"]


def test_the_flags_of_the_second_model_need_it(tmp_path, rows, capsys):
    run = ["train", "--data", rows, "--folder", tmp_path / "run", *SMALL]
    message = "--two-dimensional-epochs: expected --two-dimensional besides, got none"
    fails(capsys, [*run, "--two-dimensional-epochs", 3], message)
    fails(capsys, [*run, "--two-dimensional"], "--two-dimensional: expected images, got rows")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("apart", [(), ("--validation-rows", "15")])
def test_patience_ends_training_and_a_resume_knows_it(tmp_path, rows, capsys, apart):
    folder = str(tmp_path / "run")
    run = ["train", "--data", rows, "--folder", folder, *SMALL, "--lr", "0.3", "--schedule", "constant", *apart]
    assert cli.run([*run, "--epochs", "60", "--patience", "2"]) == 0
    made = aaecore.Trainer.resume(f"{folder}/checkpoint.h5")
    held_out = made.history["validation"]
    assert made.epoch == len(held_out) == held_out.index(min(held_out)) + 3 < 60
    assert config.read(f"{folder}/config.toml").patience == 2
    source = sources.load(config.read(f"{folder}/config.toml"))
    assert aaecore.load(f"{folder}/best.h5").evaluate(source.validation if apart else source.test) == min(held_out)
    assert cli.run(["encode", f"{folder}/best.h5", rows, str(tmp_path / "z.npy")]) == 0
    assert cli.run(["info", f"{folder}/best.h5"]) == 0
    assert "latent_dim             2\n" in capsys.readouterr().out
    capsys.readouterr()
    assert cli.run(["resume", folder]) == 0
    told = f"{folder} is already complete, with {made.epoch} epochs; a larger --patience makes more\n"
    assert capsys.readouterr().out == told
    assert cli.run(["resume", folder, "--patience", "4"]) == 0
    assert aaecore.Trainer.resume(f"{folder}/checkpoint.h5").epoch > made.epoch


def test_a_table_in_text(tmp_path, rows, capsys):
    table, codes, folder = (str(tmp_path / name) for name in ("table.csv", "z.npy", "run"))
    np.savetxt(table, np.load(rows), delimiter=",", header=",".join("abcdefghijklmnopqrst"), comments="")
    assert cli.run(["train", "--data", table, "--folder", folder, *SMALL, "--epochs", "1"]) == 0
    assert config.read(f"{folder}/config.toml").data == table
    assert cli.run(["encode", folder, table, codes]) == 0
    assert np.load(codes).shape == (60, 2)
    with open(table, "a") as file:
        file.write("1,2,many" + ",4" * 17 + "\n")
    fails(capsys, ["encode", folder, table, codes], f"{table}: ")


def test_clip_norm_is_the_trainers(tmp_path, rows):
    run = ["train", "--data", rows, *SMALL, "--epochs", "1", "--folder"]
    assert cli.run([*run, str(tmp_path / "a"), "--clip-norm", "0.5"]) == 0
    assert cli.run([*run, str(tmp_path / "b")]) == 0
    clipped, free = (aaecore.Trainer.resume(tmp_path / name / "checkpoint.h5") for name in "ab")
    assert (clipped.clip_norm, free.clip_norm) == (0.5, None)
    assert config.read(tmp_path / "a" / "config.toml").clip_norm == 0.5


@pytest.fixture
def named_data(tmp_path, monkeypatch):
    """A folder that stands for that of MNIST, and what was asked for it."""
    sample, asked = datasets.load("mnist-sample", dtype="uint8"), []

    def load(name, folder=None, *, dtype):
        asked.append(folder)
        return sample

    monkeypatch.setattr("aaecore.datasets.load", load)
    folder = tmp_path / "data"
    folder.mkdir()
    return folder, asked


@pytest.mark.parametrize("given", ["flag", "variable"])
def test_a_run_keeps_where_its_data_are(tmp_path, named_data, monkeypatch, given):
    (data, asked), folder = named_data, str(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AAECORE_DATA", raising=False)
    if given == "variable":
        monkeypatch.setenv("AAECORE_DATA", "data")
    flags = ["--data-folder", "data"] if given == "flag" else []
    assert cli.run(["train", "--data", "mnist", *flags, "--folder", folder, *SMALL, "--epochs", "1"]) == 0
    assert config.read(f"{folder}/config.toml").data_folder == str(data)
    monkeypatch.delenv("AAECORE_DATA", raising=False)
    monkeypatch.chdir("/")
    assert cli.run(["resume", folder, "--epochs", "2"]) == 0
    assert cli.run(["plot", folder]) == 0
    assert asked == [str(data)] * 3
    data.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("AAECORE_DATA", str(tmp_path / "elsewhere"))
    assert cli.run(["plot", folder]) == 0
    assert asked[3] is None  # the variable says where
