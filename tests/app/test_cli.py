"""The command line from its arguments to the files it leaves, with small networks on few images."""

import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from small_runs import ROWS, SMALL, content, fails, table

import aaecore
from aaecore.app import cli, config, runs, sources
from aaecore.backends.cpu import get_num_threads, set_num_threads

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")

BETA1 = {"reconstruction": 0.9, "discriminator": 0.25}  # of the phases that move something
PICTURES = {"reconstructions.png", "samples.png", "manifold.png", "latent.png", "losses.png"}


def test_train_writes_the_run_folder(finished):
    checkpoints = {"checkpoint.h5", "checkpoint_2d.h5", "history.csv", "history_2d.csv"}
    assert set(os.listdir(finished)) == {"config.toml", *checkpoints, *PICTURES}
    options = config.read(f"{finished}/config.toml")
    assert (options.hidden, options.latent_dim, options.epochs) == ((16,), 3, 2)
    assert [(row["epoch"], row["step"]) for row in table(finished)] == [("1", "3"), ("2", "6")]
    trained = aaecore.Trainer.resume(f"{finished}/checkpoint.h5")
    assert trained.model.latent_dim == 3
    assert {name: o.config()["betas"][0] for name, o in trained.optimizers.items() if o.moments} == BETA1
    assert trained.base_lr == {phase.name: phase.rate for phase in aaecore.AAE.phases}
    assert trained.history["validation"][-1] == trained.model.evaluate(sources.load(options).test)
    second = aaecore.Trainer.resume(f"{finished}/checkpoint_2d.h5")
    assert (second.model.latent_dim, second.epoch) == (2, 1)


def test_train_without_data_takes_the_embedded_digits_and_ends_with_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--hidden", "16", "--epochs", "1"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    out, err = capsys.readouterr()
    assert "reconstruction loss, test data" in out
    assert "5000 rows of mnist-sample" in err
    paths = out.splitlines()[-3:]
    assert paths == [f"runs/{folder.name}/{name}" for name in ("reconstructions.png", "samples.png", "losses.png")]
    assert all(os.path.getsize(path) > 1000 for path in paths)


def test_flags_override_the_file(tmp_path, images):
    toml = tmp_path / "run.toml"
    toml.write_text(f'data = "{images}"\nepochs = 9\nhidden = [8]\nplots = false\n[lr]\ngenerator = 1e-5\n')
    folder = tmp_path / "run"
    arguments = ["train", toml, "--folder", folder, "--epochs", 1, "--lr", "discriminator=2e-5", "--latent-dim", 2]
    assert cli.run([str(a) for a in arguments]) == 0
    options = config.read(folder / "config.toml")
    assert (options.epochs, options.hidden, options.plots) == (1, (8,), False)
    assert (options.lr["generator"], options.lr["discriminator"]) == (1e-5, 2e-5)
    assert set(os.listdir(folder)) == {"config.toml", "checkpoint.h5", "history.csv"}  # its code is 2-D already


def test_a_2d_model_serves_for_all_pictures(tmp_path, images):
    assert cli.run(["train", "--data", images, "--folder", str(tmp_path), *SMALL, "--latent-dim", "2"]) == 0
    assert set(os.listdir(tmp_path)) == {"config.toml", "checkpoint.h5", "history.csv", *PICTURES}


def test_the_table_and_the_threads(tmp_path, capsys):
    before, data = get_num_threads(), str(tmp_path / "x.npy")
    np.save(data, np.arange(800.0).reshape(40, 20))  # so that the rows for testing have quite another loss
    arguments = ["--folder", str(tmp_path), *ROWS, "--reconstruction", "mse", "--output", "linear", "--no-plots"]
    try:
        assert cli.run(["train", "--data", data, *arguments, "--threads", str(before + 1)]) == 0
        assert get_num_threads() == before + 1
    finally:
        set_num_threads(before)
    model, source = aaecore.load(tmp_path / "checkpoint.h5"), sources.load(config.read(tmp_path / "config.toml"))
    lines = capsys.readouterr().out.splitlines()
    for name, rows in (("training", source.train), ("test", source.test)):
        (line,) = (line for line in lines if f"reconstruction loss, {name} data" in line)
        assert f" {model.evaluate(rows):.1f} " in line


def test_rows_that_are_no_images(tmp_path):
    data = str(tmp_path / "rows.npy")
    np.save(data, np.random.default_rng(0).normal(size=(40, 7)))
    arguments = ["train", "--data", data, "--folder", str(tmp_path / "run"), *ROWS, "--prior", "uniform:-1:1"]
    assert cli.run([*arguments, "--reconstruction", "mse", "--output", "linear"]) == 0
    assert set(os.listdir(tmp_path / "run")) == {"config.toml", "checkpoint.h5", "history.csv", "losses.png"}


def test_a_run_is_not_overwritten_unless_asked(tmp_path, images, finished, capsys):
    before = {name: os.stat(f"{finished}/{name}").st_mtime_ns for name in os.listdir(finished)}
    capsys.readouterr()
    fails(capsys, ["train", "--data", images, "--folder", finished, *SMALL], "already holds a run: continue it with")
    assert {name: os.stat(f"{finished}/{name}").st_mtime_ns for name in os.listdir(finished)} == before
    folder = str(tmp_path)
    assert cli.run(["train", "--data", images, "--folder", folder, *SMALL]) == 0
    (tmp_path / "notes.txt").write_text("mine")
    again = ["train", "--data", images, "--folder", folder, *ROWS, "--overwrite", "--seed", "7"]
    assert cli.run(again) == 0
    assert config.read(tmp_path / "config.toml").seed == aaecore.load(f"{folder}/checkpoint.h5").seed == 7
    names = {"config.toml", "checkpoint.h5", "history.csv", "reconstructions.png", "samples.png", "losses.png"}
    assert set(os.listdir(folder)) == {*names, "notes.txt"}  # nothing of the old run stays beside the new one


@pytest.mark.parametrize("name", ["config.toml", "samples.png", "history_2d.csv"])
def test_files_of_the_user_are_not_replaced(tmp_path, images, capsys, name):
    (tmp_path / name).write_text("mine")
    fails(capsys, ["train", "--data", images, "--folder", tmp_path, *SMALL], f"already holds {name}: replace it with")
    assert (tmp_path / name).read_text() == "mine"
    assert os.listdir(tmp_path) == [name]


def test_an_error_leaves_the_run_to_overwrite(tmp_path, images, capsys):
    run, path = ["train", "--folder", str(tmp_path / "run"), *ROWS, "--no-plots", "--data"], str(tmp_path / "x.npy")
    assert cli.run([*run, images]) == 0
    before = content(tmp_path / "run", "checkpoint.h5")
    np.save(path, np.arange(40.0).reshape(40, 1))
    (first, *_) = sources.load(config.of(aaecore.AAE)(data=path)).test[:, 0]
    x = np.zeros((40, 20))
    x[int(first)] = 2  # not in [0, 1], and in the rows for testing only
    np.save(path, x)
    capsys.readouterr()
    fails(capsys, [*run, path, "--overwrite"], "data: expected values in [0, 1]")
    assert content(tmp_path / "run", "checkpoint.h5") == before


def test_a_run_finds_its_data_from_another_folder(tmp_path, images, monkeypatch):
    monkeypatch.chdir(os.path.dirname(images))
    assert cli.run(["train", "--data", os.path.basename(images), "--folder", str(tmp_path), *SMALL]) == 0
    assert config.read(tmp_path / "config.toml").data == images
    monkeypatch.chdir(tmp_path)
    assert cli.run(["resume", ".", "--epochs", "3"]) == 0


def test_resume_equals_a_run_without_a_stop(tmp_path, images, finished, capsys):
    folder = str(tmp_path / "run")
    start = ["train", "--data", images, "--folder", folder, "--no-plots", "--schedule", "constant", *SMALL]
    assert cli.run([*start, "--epochs", "1"]) == 0
    assert cli.run(["resume", folder, "--epochs", "3"]) == 0
    other = str(tmp_path / "other")
    assert cli.run([*start[:4], other, *start[5:], "--epochs", "3"]) == 0
    for name in ("checkpoint.h5", "config.toml", "checkpoint_2d.h5"):
        assert content(folder, name) == content(other, name), name
    assert table(folder) == table(other)
    capsys.readouterr()
    assert cli.run(["resume", f"{folder}/checkpoint.h5"]) == 0
    assert capsys.readouterr().out == f"{folder} is already complete, with 3 epochs; --epochs makes more\n"


def test_resume_makes_a_missing_second_model(tmp_path, images):
    folder = str(tmp_path)
    assert cli.run(["train", "--data", images, "--folder", folder, *SMALL]) == 0
    before = content(folder, "checkpoint_2d.h5")
    os.unlink(f"{folder}/checkpoint_2d.h5")
    assert cli.run(["resume", folder]) == 0
    assert content(folder, "checkpoint_2d.h5") == before


def test_resume_and_plot_need_a_run(tmp_path, capsys):
    fails(capsys, ["resume", tmp_path], "expected the folder of a run or a checkpoint in it, but it has no config.toml")
    fails(capsys, ["plot", tmp_path], "it has no config.toml")
    (tmp_path / "config.toml").write_text("")
    message = "checkpoint.h5: cannot load as an aaecore checkpoint: No such file or directory"
    fails(capsys, ["resume", tmp_path], message)


def test_resume_says_what_is_wrong(tmp_path, finished, capsys, monkeypatch):
    monkeypatch.chdir(finished)
    for typo in ("TYPO", "config.toml", "../checkpoint.h5"):
        message = f"RUN_OR_CHECKPOINT: expected the folder of a run or its checkpoint.h5, got {typo!r}"
        fails(capsys, ["resume", typo], message)
    message = "--epochs: expected an integer > 2, the epochs made so far, got 2"
    fails(capsys, ["resume", "checkpoint.h5", "--epochs", "2"], message)
    shutil.copy("config.toml", tmp_path)
    whole = content(".", "checkpoint.h5")
    assert b'"position"' in whole
    (tmp_path / "checkpoint.h5").write_bytes(whole.replace(b'"position"', b'"positiom"'))
    fails(capsys, ["resume", tmp_path], "checkpoint.h5: ")
    assert cli.run(["resume", "--help"]) == 0
    help = " ".join(capsys.readouterr().out.split())
    assert "the schedule stays that of the first run; further epochs run at its end." in help


def test_plot_draws_again(finished, capsys):
    for run in (finished, f"{finished}/checkpoint.h5"):
        os.unlink(f"{finished}/manifold.png")
        assert cli.run(["plot", run]) == 0
        assert {os.path.basename(path) for path in capsys.readouterr().out.split()} == PICTURES
        assert os.path.exists(f"{finished}/manifold.png")
    fails(capsys, ["plot", f"{finished}/config.toml"], "RUN_OR_CHECKPOINT: expected the folder of a run or its")


def test_encode(tmp_path, finished, images, capsys):
    expected = aaecore.load(f"{finished}/checkpoint.h5").encode(np.load(images).reshape(60, 20))
    assert cli.run(["encode", finished, images, str(tmp_path / "z.npy")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), expected)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/rows"] = np.load(images)
    arguments = ["encode", f"{finished}/checkpoint.h5", tmp_path / "x.h5", tmp_path / "z.h5", "--dataset", "group/rows"]
    assert cli.run([str(a) for a in arguments]) == 0
    with h5py.File(tmp_path / "z.h5") as file:
        np.testing.assert_array_equal(file["z"][:], expected)
    capsys.readouterr()
    message = f"--dataset: expected a .h5 file as input, got {images}"
    fails(capsys, ["encode", finished, images, tmp_path / "new.npy", "--dataset", "x"], message)
    message = "out: expected a file name that ends in .npy or .h5"
    fails(capsys, ["encode", finished, images, tmp_path / "z.txt"], message)
    np.save(tmp_path / "narrow.npy", np.zeros((2, 3)))
    fails(capsys, ["encode", finished, tmp_path / "narrow.npy", tmp_path / "new.npy"], "x: expected 20 features")
    assert not (tmp_path / "new.npy").exists()


def test_sample(tmp_path, finished, capsys):
    assert cli.run(["sample", finished, str(tmp_path / "s.npy"), "-n", "5"]) == 0
    expected = aaecore.load(f"{finished}/checkpoint.h5").sample(5)
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy"), expected)
    capsys.readouterr()
    message = "--image-shape: expected a .png as output, got "
    fails(capsys, ["sample", finished, tmp_path / "t.npy", "--image-shape", "4,5"], message)
    message = "--image-shape: needed for a .png, since 20 features are no square"
    fails(capsys, ["sample", finished, tmp_path / "s.png"], message)
    assert cli.run(["sample", finished, str(tmp_path / "s.png"), "--image-shape", "4,5"]) == 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_a_model_goes_to_another_device(tmp_path, finished, images, capsys):
    folder = str(tmp_path / "run")
    shutil.copytree(finished, folder)
    os.unlink(f"{folder}/checkpoint_2d.h5")
    there = ("--device", "reference")
    assert cli.run(["encode", folder, images, f"{folder}/z.npy", *there]) == 0
    x = np.load(images).reshape(60, 20)
    here, exact = (aaecore.load(f"{folder}/checkpoint.h5", device=d).encode(x) for d in ("cpu", "reference"))
    assert np.array_equal(np.load(f"{folder}/z.npy"), exact)
    assert not np.array_equal(here, exact)
    assert cli.run(["sample", folder, f"{folder}/s.npy", "-n", "5", *there]) == 0
    sampled = [aaecore.load(f"{folder}/checkpoint.h5", device=d).sample(5) for d in ("cpu", "reference")]
    assert np.array_equal(np.load(f"{folder}/s.npy"), sampled[1])
    assert not np.array_equal(*sampled)
    assert cli.run(["resume", folder, "--epochs", "3", *there]) == 0
    models = [aaecore.load(f"{folder}/{name}.h5") for name in ("checkpoint", "checkpoint_2d")]
    assert [m.backend.name for m in models] == ["reference", "reference"]
    assert config.read(f"{folder}/config.toml").device == "reference"
    assert cli.run(["plot", folder, "--device", "cpu"]) == 0
    capsys.readouterr()
    fails(capsys, ["plot", folder, "--device", "tpu"], "tpu")


def test_info(finished, capsys):
    assert cli.run(["info"]) == 0
    assert f"aaecore          {aaecore.__version__}" in capsys.readouterr().out
    assert cli.run(["info", finished]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.replace(" made", "_made").splitlines())
    assert (lines["latent_dim"], lines["steps_made"], lines["epochs_made"]) == ("3", "6", "2")


def test_info_on_something_else(tmp_path, capsys):
    fails(capsys, ["info", tmp_path / "none.h5"], "none.h5: cannot load as an aaecore checkpoint")
    aaecore.files.checkpoint.write(tmp_path / "other.h5", {}, {"model": {}})
    fails(capsys, ["info", tmp_path / "other.h5"], "other.h5: expected a model, or the checkpoint of a trainer")


def test_a_loss_that_is_not_finite_is_one_line(tmp_path, images, capsys):
    fails_with = ["train", "--data", images, "--folder", str(tmp_path), *SMALL, "--lr", "1e30", "--no-plots"]
    assert cli.run(fails_with) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("aaecore: ")
    assert "Traceback" not in err
    assert os.path.exists(tmp_path / "checkpoint.h5")


def test_where_nothing_can_be_written(tmp_path, finished, images, capsys, monkeypatch):
    os.mkfifo(tmp_path / "pipe.npy")
    monkeypatch.setattr(runs, "load", None)  # before any work
    for start in (["encode", finished, images], ["sample", finished]):
        fails(capsys, [*start, tmp_path / "none" / "z.npy"], f"{tmp_path}/none/z.npy: its folder does not exist")
        fails(capsys, [*start, tmp_path / "pipe.npy"], f"{tmp_path}/pipe.npy: exists and is not a regular file")


@pytest.mark.parametrize("missing", ["click", "rich", "matplotlib"])
def test_without_the_extra_one_line_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from aaecore.app import cli; cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "info"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    what = "click, rich and matplotlib: pip install '.[app]' in the checkout of aaecore"
    assert done.stderr == f"aaecore: the command line needs {what}\n"
