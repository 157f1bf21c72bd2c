"""`aaecore compare` and the files it leaves: whole, again, and interrupted."""

import csv
import json
import math
import os
import shutil
import signal
from pathlib import Path

import cuda_devices
import numpy as np
import pytest
from small_comparisons import SMALL, Stop, numbers, results, run
from small_runs import content, fails

import aaecore
from aaecore.app import cli, compare, compare_plots, config
from aaecore.evaluation import comparison
from aaecore.evaluation.recipes import RECIPES

for package in ("click", "rich", "matplotlib"):
    pytest.importorskip(package, reason="the command line needs the extra: pip install '.[app]'")

EXAMPLES = Path(__file__).parent.parent.parent / "docs" / "examples"


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """A finished comparison of two models and two seeds, of five steps, in epochs of three."""
    out = tmp_path_factory.mktemp("compared") / "out"
    assert run(out, images, "--steps", 5, "--seeds", 2) == 0
    return out


def test_it_leaves_a_run_for_each_model_and_seed_a_table_and_a_picture(whole):
    folders = {"AAE-0", "AAE-1", "VAE-0", "VAE-1"}
    files = {"comparison.json", "results.jsonl", "table.md", "table.csv", "samples.png"}
    assert set(os.listdir(whole)) == folders | files
    assert set(os.listdir(whole / "VAE-1")) == {"checkpoint.h5", "clock.json", "config.toml", "history.csv"}
    assert os.path.getsize(whole / "samples.png") > 1000
    options = config.read(whole / "VAE-1" / "config.toml")
    assert (options.model, options.seed, options.hidden) == ("VAE", 1, (16,))
    assert (options.validation_rows, options.epochs) == (9, 2)  # of 54; 5 steps of 20 rows begin a second epoch

    lines = results(whole)
    assert [(line["model"], line["seed"]) for line in lines] == [("AAE", 0), ("VAE", 0), ("AAE", 1), ("VAE", 1)]
    for line in lines:
        assert all(math.isfinite(value) for value in line.values() if not isinstance(value, str))
        assert (line["steps"], line["epochs"], line["samples"]) == (5, 5 / 3, 300)
        assert line["seconds"] > 0
    assert lines[0]["likelihood"] != lines[2]["likelihood"]


def test_the_table_has_means_over_seeds(whole):
    with open(whole / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = results(whole)
    assert [(row["model"], row["seeds"]) for row in rows] == [("AAE", "2"), ("VAE", "2")]
    assert float(rows[0]["likelihood"]) == pytest.approx((lines[0]["likelihood"] + lines[2]["likelihood"]) / 2)
    text = (whole / "table.md").read_text()
    assert text.startswith("| model | seeds | likelihood | samples |")
    assert [line.count("|") for line in text.splitlines()[:4]] == [text.splitlines()[0].count("|")] * 4
    assert "paper" not in text.splitlines()[0]  # of these data it says nothing


def test_what_is_measured_is_the_model_of_the_checkpoint_on_test_rows(whole, images):
    source = compare.sources.load(config.read(whole / "AAE-0" / "config.toml"))
    assert (len(source.train), len(source.validation), len(source.test)) == (45, 9, 6)
    model = aaecore.load(whole / "AAE-0" / "checkpoint.h5")
    found = comparison.measure(model, source.test, None, source.validation, 300, 200)
    assert found == {name: results(whole)[0][name] for name in found}


def test_the_picture_has_samples_and_the_training_image_nearest_to_the_last(whole, images, monkeypatch):
    seen = []

    def drawn(*arguments, draw=compare_plots.samples):
        seen.append((draw(*arguments), *arguments))
        return seen[0][0]

    monkeypatch.setattr(compare_plots, "samples", drawn)
    assert run(whole, images, "--steps", 5, "--seeds", 2) == 0
    ((figure, rows, shape, grey),) = seen
    assert ([row.title for row in rows], shape, grey) == (["AAE", "VAE"], (4, 5), (0.0, 1.0))
    source = compare.sources.load(config.read(whole / "AAE-0" / "config.toml"))
    train = source.train.astype(np.float64) / 255
    for row in rows:
        expected = aaecore.load(whole / f"{row.title}-0" / "checkpoint.h5").sample(len(row.samples))
        assert np.array_equal(row.samples, expected)
        nearest = ((train - row.samples[-1]) ** 2).sum(axis=1).argmin()
        np.testing.assert_allclose(row.nearest, train[nearest], atol=1e-6)
    tiles = np.asarray(figure.axes[0].images[0].get_array())
    for i, row in enumerate(rows):
        top = slice(6 * i, 6 * i + 4)  # images of 4 x 5 with two pixels between them
        np.testing.assert_array_equal(tiles[top, -5:], row.nearest.reshape(4, 5))
        np.testing.assert_array_equal(tiles[top, :5], row.samples[0].reshape(4, 5))


def test_its_runs_are_runs(tmp_path, whole, capsys):
    """Other commands take them, and measure the same."""
    folder = shutil.copytree(whole / "AAE-0", tmp_path / "AAE-0")
    assert cli.run(["likelihood", str(folder), "--samples", "300", "--sigma-samples", "200"]) == 0
    found = json.loads(content(folder, "likelihood.json"))
    line = results(whole)[0]
    assert (found["mean"], found["error"], found["sigma"]) == (line["likelihood"], line["error"], line["sigma"])
    assert cli.run(["sample", str(folder), str(tmp_path / "samples.npy"), "-n", "3"]) == 0
    assert np.load(tmp_path / "samples.npy").shape == (3, 20)
    assert cli.run(["resume", str(folder), "--epochs", "3"]) == 0
    history = aaecore.Trainer.resume(folder / "checkpoint.h5").history
    assert [("validation" in row) for row in history] == [False, True, True]
    assert os.path.exists(folder / "losses.png")


def test_the_same_command_again_reads_what_is_there(whole, images, capsys):
    names = ("results.jsonl", "table.md", "table.csv", "samples.png", "AAE-0/checkpoint.h5")
    before = {name: content(whole, name) for name in names}
    assert run(whole, images, "--steps", 5, "--seeds", 2) == 0
    out, err = capsys.readouterr()
    assert "training" not in err
    assert "measuring" not in err
    assert "likelihood" in out
    assert before == {name: content(whole, name) for name in names}


def test_one_seed_more_and_one_model_less_go_into_the_same_folder(tmp_path, images, whole, capsys):
    assert run(tmp_path, images, "--steps", 5, models="VAE") == 0
    assert run(tmp_path, images, "--steps", 5, "--seeds", 2) == 0
    assert sorted(numbers(tmp_path), key=str) == sorted(numbers(whole), key=str)
    capsys.readouterr()
    assert run(tmp_path, images, "--steps", 5, "--samples", 400, models="AAE") == 0  # the last --samples counts
    assert "training" not in capsys.readouterr().err
    assert run(tmp_path, images, "--steps", 5, "--sigma-samples", 300, models="AAE") == 0
    drawn = [(line["samples"], line["sigma_samples"]) for line in results(tmp_path)]
    assert drawn == [(300, 200)] * 4 + [(400, 200), (300, 300)]
    assert (tmp_path / "table.md").read_text().count("\n| AAE |") == 1


@pytest.mark.parametrize("step", [2, 3, 4])  # in an epoch, at its end, and in the steps that make no whole epoch
def test_an_interrupted_training_goes_on_exactly(tmp_path, images, whole, monkeypatch, capsys, step):
    with monkeypatch.context() as patch:
        patch.setattr("aaecore.training.trainer.Progress", Stop)
        patch.setattr(Stop, "at", ("VAE", step))
        assert run(tmp_path, images, "--steps", 5, "--seeds", 2) == 130
    assert f"stopped in step {step} of VAE; the same command goes on\n" in capsys.readouterr().err
    assert len(results(tmp_path)) == 1
    assert aaecore.Trainer.resume(tmp_path / "VAE-0" / "checkpoint.h5").steps == step
    assert run(tmp_path, images, "--steps", 5, "--seeds", 2) == 0
    assert numbers(tmp_path) == numbers(whole)
    for name in ("table.md", "samples.png"):
        assert os.path.exists(tmp_path / name)
    for name in ("VAE-0/checkpoint.h5", "VAE-0/history.csv"):
        assert content(tmp_path, name) == content(whole, name), name


def test_sigterm_ends_it_with_143(tmp_path, images, whole, monkeypatch):
    before = signal.signal(signal.SIGTERM, cli._terminate)  # as `cli.main` has it
    try:
        with monkeypatch.context() as patch:
            patch.setattr("aaecore.training.trainer.Progress", Stop)
            patch.setattr(Stop, "at", ("AAE", 4))
            patch.setattr(Stop, "kind", signal.SIGTERM)
            assert run(tmp_path, images, "--steps", 5) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert aaecore.Trainer.resume(tmp_path / "AAE-0" / "checkpoint.h5").steps == 4
    assert run(tmp_path, images, "--steps", 5) == 0
    assert numbers(tmp_path) == numbers(whole)[:2]


def test_an_interrupted_measurement_goes_on(tmp_path, images, whole, monkeypatch):
    measured, made = comparison.likelihood, []

    def interrupted(*arguments, progress, **settings):
        def told(done, samples):
            made.append(done)
            progress(done, samples)
            if done == 400 + 1024:  # two grids of 200 before
                signal.raise_signal(signal.SIGINT)

        return measured(*arguments, progress=told, **settings)

    many = ("--steps", 5, "--samples", 1500)
    state = shutil.copytree(whole, tmp_path / "out") / "AAE-0" / "likelihood-1500-200.h5"
    monkeypatch.setattr(comparison, "likelihood", interrupted)
    assert run(tmp_path / "out", images, *many, models="AAE") == 130
    assert made == [200, 400, 1424]
    assert state.exists()
    assert numbers(tmp_path / "out") == numbers(whole)
    assert run(tmp_path / "out", images, *many, models="AAE") == 0
    assert made == [200, 400, 1424, 1900]
    assert not state.exists()
    shutil.copytree(whole, tmp_path / "other")
    monkeypatch.setattr(comparison, "likelihood", measured)
    assert run(tmp_path / "other", images, *many, models="AAE") == 0
    assert numbers(tmp_path / "out") == numbers(tmp_path / "other")


def test_rows_for_validation_and_test_move_nothing(tmp_path, rng):
    """Two sets of data that differ in nothing but the rows that are kept out of training."""
    x = rng.integers(0, 256, (66, 4, 5), np.uint8)
    other = x.copy()
    apart = [*aaecore.data.epoch_order(60, 0, 1)[-10:], *range(60, 66)]  # as `sources` draws them by the seed
    other[apart] = 255 - x[apart]
    for name, rows in (("one", x), ("two", other)):
        np.savez(tmp_path / f"{name}.npz", x_train=rows[:60], x_test=rows[60:])
        assert run(tmp_path / name, tmp_path / f"{name}.npz", "--steps", 5, models="AAE") == 0
    one, two = (aaecore.load(tmp_path / name / "AAE-0" / "checkpoint.h5").state_dict() for name in ("one", "two"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert results(tmp_path / "one")[0]["likelihood"] != results(tmp_path / "two")[0]["likelihood"]


FIRST = ("--set", "GMMN+AE.autoencoder.latent_dim=3", "--set", "GMMN+AE.batch_size=15")


def test_what_a_model_needs_is_trained_before_it(tmp_path, images):
    assert run(tmp_path, images, "--steps", 5, *FIRST, models="GMMN+AE") == 0
    folder = tmp_path / "GMMN+AE-0"
    before = aaecore.Trainer.resume(folder / "autoencoder" / "checkpoint.h5")
    trained = aaecore.Trainer.resume(folder / "checkpoint.h5")
    assert (before.steps, trained.steps, before.batch_size, trained.batch_size) == (5, 5, 20, 15)
    assert before.model.latent_dim == trained.model.autoencoder.latent_dim == 3
    kept = {name.split(".", 1)[1]: v for name, v in trained.model.state_dict().items() if name.startswith("frozen.")}
    for name, value in before.model.state_dict().items():
        assert np.array_equal(kept[name], value), name
    (line,) = results(tmp_path)
    clocks = [json.loads(content(where, "clock.json"))["seconds"] for where in (folder, folder / "autoencoder")]
    assert line["seconds"] == pytest.approx(sum(clocks))
    assert line["seconds_per_epoch"] == pytest.approx(clocks[0] / line["epochs"])


def test_a_folder_may_be_moved(tmp_path, images, capsys):
    """Though the run of a model says where what it needs was trained."""
    assert run(tmp_path / "out", images, "--steps", 2, *FIRST, models="GMMN+AE") == 0
    os.rename(tmp_path / "out", tmp_path / "moved")
    capsys.readouterr()
    assert run(tmp_path / "moved", images, "--steps", 2, "--seeds", 2, *FIRST, models="GMMN+AE") == 0
    assert "seed 0" not in capsys.readouterr().err
    assert [line["seed"] for line in results(tmp_path / "moved")] == [0, 1]


@pytest.mark.parametrize("kind", ["DenoisingAE", "GMMN"])
def test_what_is_trained_in_parts_is_interrupted_in_any(tmp_path, images, monkeypatch, kind):
    assert run(tmp_path / "whole", images, "--steps", 5, *FIRST, models="GMMN+AE") == 0
    with monkeypatch.context() as patch:
        patch.setattr("aaecore.training.trainer.Progress", Stop)
        patch.setattr(Stop, "at", (kind, 2))
        assert run(tmp_path / "out", images, "--steps", 5, *FIRST, models="GMMN+AE") == 130
    assert run(tmp_path / "out", images, "--steps", 5, *FIRST, models="GMMN+AE") == 0
    assert numbers(tmp_path / "out") == numbers(tmp_path / "whole")


def test_data_that_are_no_images_have_no_picture(tmp_path, rng, capsys):
    np.save(tmp_path / "rows.npy", rng.random((40, 6), np.float32))
    assert run(tmp_path / "out", tmp_path / "rows.npy", "--steps", 3) == 0
    assert "samples.png" not in os.listdir(tmp_path / "out")
    assert "likelihood" in capsys.readouterr().out


def test_a_model_without_a_recipe_and_with_labels(tmp_path, rng):
    x, y = rng.integers(0, 256, (60, 4, 5), np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "data.npz", x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    assert run(tmp_path / "out", tmp_path / "data.npz", "--steps", 3, models="SupervisedAAE") == 0
    assert results(tmp_path / "out")[0]["loss"] > 0


def test_a_model_of_ones_own(tmp_path, images, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    name = "lsgan:LeastSquaresGAN"
    for _ in range(2):
        assert run(tmp_path, images, "--steps", 3, "--set", f"{name}.latent_dim=2", models=f"AAE,{name}") == 0
    assert {"AAE-0", "LeastSquaresGAN-0"} < set(os.listdir(tmp_path))
    assert [line["model"] for line in results(tmp_path)] == ["AAE", name]


def test_labels_of_a_table_are_no_features(tmp_path, rng):
    lines = [f"{a:.3f},{b:.3f},{i % 2}" for i, (a, b) in enumerate(rng.random((40, 2)))]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    both = "AAE,SupervisedAAE"
    assert run(tmp_path / "out", tmp_path / "t.csv", "--labels", "y", "--steps", 2, models=both) == 0
    assert aaecore.load(tmp_path / "out" / "AAE-0" / "checkpoint.h5").input_dim == 2


@cuda_devices.needs_device
def test_on_a_gpu_it_measures_the_same(tmp_path, rng, cuda_device):
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (40, 3, 4), np.uint8))
    for device in ("cuda", "cpu"):
        arguments = ("--steps", 2, "--samples", 50, "--device", device)
        assert run(tmp_path / device, tmp_path / "images.npy", *arguments, models="AAE,GAN") == 0
    for ours, theirs in zip(numbers(tmp_path / "cuda"), numbers(tmp_path / "cpu"), strict=True):
        assert {name: v for name, v in ours.items() if not isinstance(v, str)} == pytest.approx(
            {name: v for name, v in theirs.items() if not isinstance(v, str)}, rel=1e-3, abs=1e-3
        )


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_run(name, tmp_path, images):
    """Their options are those of their models and go together, and what comes of them is measured and drawn."""
    assert run(tmp_path, images, "--steps", 3, models=name) == 0
    (line,) = results(tmp_path)
    assert math.isfinite(line["likelihood"])
    assert os.path.getsize(tmp_path / "samples.png") > 1000


def test_a_folder_with_something_else_is_left_alone(tmp_path, images, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    message = "OUT: expected a new folder or that of a comparison"
    fails(capsys, ["compare", tmp_path, "--data", images, "--models", "AAE"], message)
    (tmp_path / "comparison.json").write_text("dear")
    fails(capsys, ["compare", tmp_path, "--data", images, "--models", "AAE"], "expected the file of a comparison")
    assert (tmp_path / "letter.txt").read_text() == "dear"
    fails(capsys, ["compare", tmp_path / "letter.txt", "--data", images, "--models", "AAE"], "letter.txt: expected a")


def test_other_runs_than_those_that_are_there_are_refused(whole, images, capsys):
    before = content(whole, "results.jsonl")
    base = ["compare", whole, "--data", images, "--models", "AAE,VAE", *SMALL]
    fails(capsys, [*base, "--epochs", "5"], "expected --steps 5 as before, got --epochs 5; give another OUT")
    other = ["compare", whole, "--models", "VAE", "--steps", "5"]
    fails(capsys, other, f"expected --data {images} as before, got mnist-sample; give another OUT")
    message = "AAE-0: expected latent_dim = 3 as is asked for now, got a run of latent_dim = 6; give another OUT"
    fails(capsys, [*base, "--steps", "5", "--set", "AAE.latent_dim=3"], message)
    assert content(whole, "results.jsonl") == before


def test_a_run_that_was_removed_is_made_again(tmp_path, images, monkeypatch):
    assert run(tmp_path, images, "--steps", 5, models="VAE") == 0
    before = results(tmp_path)[0]["likelihood"]
    shutil.rmtree(tmp_path / "VAE-0")
    other = ("--steps", 5, "--set", "kl_weight=0")
    with monkeypatch.context() as patch:
        patch.setattr("aaecore.training.trainer.Progress", Stop)
        patch.setattr(Stop, "at", ("VAE", 4))
        assert run(tmp_path, images, *other, models="VAE") == 130
    assert results(tmp_path) == []
    assert run(tmp_path, images, *other, models="VAE") == 0
    assert results(tmp_path)[0]["likelihood"] != before


def test_damaged_results_are_named(tmp_path, images, capsys):
    assert run(tmp_path, images, "--steps", 3, models="VAE") == 0
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write("nonsense\n")
    base = ["compare", tmp_path, "--data", images, "--models", "VAE", *SMALL, "--steps", "3"]
    capsys.readouterr()
    fails(capsys, base, "results.jsonl: expected a result in line 2, got 'nonsense")
