"""Models outside the package: the very code that docs/models.md shows, in Python and on the command line."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cuda_devices
import numpy as np
import pytest
from trained import D, StopAt, rows, same

import aaecore
from aaecore import CheckpointError, Trainer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
DEVICES = ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)]


@pytest.fixture(autouse=True)
def device(cuda_device, monkeypatch):
    """device="cuda" is the emulator, or the GPU; the examples can be imported."""
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def lsgan():
    return importlib.import_module("lsgan").LeastSquaresGAN


def make(lsgan, **options):
    trainer_options = options.pop("trainer_options", {})
    return Trainer(lsgan(D, 4, (33, 17), **{"seed": 1, **options}), 32, **trainer_options)


def test_the_page_shows_the_files():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"```python\n{path.read_text(encoding='utf-8')}```" in page, path.name


def test_the_page_trains(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    code = page.split("```python\nimport aaecore\n")[1].split("```")[0]
    small = code.replace("epochs=20", "epochs=1")
    assert small != code
    monkeypatch.chdir(tmp_path)
    exec(compile(f"import aaecore\n{small}", "models.md", "exec"), names := {})
    assert names["images"].shape == (64, 784)
    assert (tmp_path / "lsgan.h5").exists()


# --- a model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", DEVICES)
def test_it_trains_recorded_as_one_by_one_and_resumes_within_an_epoch(where, lsgan, x, tmp_path):
    """Five steps to an epoch."""
    whole, eager = (make(lsgan, device=where, trainer_options={"record": record}) for record in (True, False))
    for trainer in (whole, eager):
        trainer.fit(x, 3, progress=False)
    assert same(whole, eager)
    assert whole.history.rows == eager.history.rows
    assert len(whole.history["generator"]) == 3
    part = make(lsgan, device=where)
    part.fit(x, 3, callbacks=[StopAt(7)], progress=False)
    part.save(tmp_path / "part.h5")
    resumed = Trainer.resume(tmp_path / "part.h5")
    assert (resumed.steps, resumed.position) == (7, 64)
    assert not same(resumed, whole)
    resumed.fit(x, 3, progress=False)
    assert same(resumed, whole)
    assert resumed.history.rows == whole.history.rows
    assert np.array_equal(resumed.model.sample(5), whole.model.sample(5))


@cuda_devices.needs_device
def test_devices_agree(lsgan, x):
    ends = []
    for where in ("cuda", "cpu", "reference"):
        trainer = make(lsgan, device=where)
        trainer.fit(x, 2, progress=False)
        ends.append(trainer.model.state_dict())
    for ours in ends[:2]:
        for name, exact in ends[2].items():
            np.testing.assert_allclose(ours[name], exact, rtol=1e-3, atol=1e-4, err_msg=name)


def test_it_learns(lsgan):
    """Rows of a lattice: samples come near its mean, which those of an untrained decoder are far from."""
    x = np.tile([0.05, 0.95], (500, D // 2)).astype(np.float32)
    trainer = make(lsgan, trainer_options={"lr": 1e-3})
    far = np.abs(trainer.model.sample(200).mean(0) - x[0]).mean()
    trainer.fit(x, 20, progress=False)
    assert far > 0.4
    assert np.abs(trainer.model.sample(200).mean(0) - x[0]).mean() < 0.1


def test_its_options_are_checked_and_written_like_those_of_the_package(lsgan):
    assert lsgan(D, seed=3).config() == {
        "type": "LeastSquaresGAN", "input_dim": D, "latent_dim": 8, "hidden": [256, 256], "activation": "relu",
        "precision": "fp32", "init": "uniform", "device": "cpu", "seed": 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^latent_dim: expected an integer >= 1, got 0"):
        lsgan(D, 0)
    with pytest.raises(ValueError, match=r"^validation: expected None, since LeastSquaresGAN measures nothing on it"):
        make(lsgan).fit(rows(), 1, validation=rows())


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A file of 60 images, 4 x 5."""
    path = tmp_path_factory.mktemp("data") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (60, 4, 5), np.uint8))
    return str(path)


def command(*arguments, modules=EXAMPLES):
    """A new process, which has imported nothing yet."""
    code = "from aaecore.app import cli; cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(modules)}
    start = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(start, capture_output=True, text=True, env=environment, timeout=120)


def refused(done, message):
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("aaecore: ")
    assert message in done.stderr


def test_the_command_line_trains_resumes_and_samples_it(tmp_path, images):
    pytest.importorskip("click", reason="the command line needs the extra: pip install '.[app]'")
    small = ("--data", images, "--hidden", "16", "--batch-size", "20", "--latent-dim", "3", "--schedule", "constant")
    run, other = tmp_path / "run", tmp_path / "other"
    done = command("train", "--model", "lsgan:LeastSquaresGAN", *small, "--epochs", "1", "--folder", run)
    assert done.returncode == 0, done.stderr
    assert set(os.listdir(run)) == {"checkpoint.h5", "config.toml", "history.csv", "losses.png", "samples.png"}
    assert "generator loss (equilibrium 0.12)" in done.stdout
    assert "training the LeastSquaresGAN on 54 rows of" in done.stderr
    with open(run / "history.csv", newline="") as file:
        assert set(next(csv.DictReader(file))) >= {"epoch", "discriminator", "generator"}

    hint = "got 'LeastSquaresGAN'; a file imports nothing by itself: give --model lsgan:LeastSquaresGAN"
    refused(command("resume", run, "--epochs", "2"), hint)
    refused(command("plot", run), hint)
    refused(command("sample", run, tmp_path / "s.npy"), "or one whose module was imported (as --model module:Class")
    before = (run / "checkpoint.h5").read_bytes()
    assert command("resume", run, "--epochs", "3", "--model", "lsgan:LeastSquaresGAN").returncode == 0
    assert (
        command("train", "--model", "lsgan:LeastSquaresGAN", *small, "--epochs", "3", "--folder", other).returncode == 0
    )
    assert (run / "checkpoint.h5").read_bytes() == (other / "checkpoint.h5").read_bytes() != before
    assert command("sample", run, tmp_path / "s.npy", "--model", "lsgan:LeastSquaresGAN", "-n", "5").returncode == 0
    assert np.load(tmp_path / "s.npy").shape == (5, 20)
    assert command("plot", run, "--model", "lsgan:LeastSquaresGAN").returncode == 0
    assert "LeastSquaresGAN" in command("info", run).stdout, "it imports nothing, and needs to import nothing"
    refused(
        command("encode", run, images, tmp_path / "z.npy", "--model", "lsgan:LeastSquaresGAN"),
        "expected a model that has codes",
    )
    again = command("train", run / "config.toml", "--folder", tmp_path / "again")
    assert again.returncode == 0, "a configuration that is given to train names what to import"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none:GAN", "module:Class with a module to import, whose folder is in PYTHONPATH, got 'none:GAN'"),
        ("lsgan:None", "model: expected module:Class with a class that is a @model, got 'lsgan:None'"),
        ("lsgan:Tensor", "model: expected module:Class with a class that is a @model, got 'lsgan:Tensor'"),
        ("json:AAE", "model: expected module:Class with a class that is a @model, got 'json:AAE'"),
        ("odd:AAE", "model: expected module:Class with a class that is a @model, got 'odd:AAE'"),
        ("WAN", "model: expected one of AAE"),
    ],
)  # fmt: skip
def test_what_is_no_model(tmp_path, capsys, monkeypatch, name, message):
    cli = pytest.importorskip("aaecore.app.cli")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "odd", SimpleNamespace(AAE="a word"))
    assert cli.run(["train", "--model", name]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert os.listdir(tmp_path) == []


def test_help_lists_every_option_once(capsys, lsgan):
    cli = pytest.importorskip("aaecore.app.cli")
    for name, own in (("AAE", "--posterior"), ("lsgan:LeastSquaresGAN", "--latent-dim")):
        assert cli.run(["train", "--model", name, "--help"]) == 0
        flags = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
        assert own in flags
        assert {"--activation", "--precision", "--device", "--seed"} < set(flags)
        assert len(flags) == len(set(flags))


def test_a_checkpoint_loads_no_code(lsgan, tmp_path, monkeypatch):
    trainer = make(lsgan)
    trainer.save(tmp_path / "lsgan.h5")
    assert isinstance(aaecore.load(tmp_path / "lsgan.h5"), lsgan)
    monkeypatch.setattr(registry_module(), "MODELS", {"AAE": aaecore.AAE})
    for read in (aaecore.load, Trainer.resume):
        with pytest.raises(
            CheckpointError, match=r"lsgan\.h5: model: expected one of AAE, or one whose module was impor"
        ):
            read(tmp_path / "lsgan.h5")


def registry_module():
    return sys.modules["aaecore.models.registry"]
