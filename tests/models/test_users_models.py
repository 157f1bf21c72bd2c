"""Models outside the package: the very code that docs/models.md shows, and one clear error for what is no model."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
from dataclasses import KW_ONLY
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_devices
import numpy as np
import pytest
from trained import D, StopAt, rows, same

import aaecore
from aaecore import CheckpointError, Trainer, priors
from aaecore.app import cli, config
from aaecore.backends.cuda import backend as cuda
from aaecore.functions import half_squared_error
from aaecore.models import COUNT, PRIOR, Column, Model, Phase, Stream, model, option

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
DEVICES = ["cpu", "reference", pytest.param("cuda", marks=cuda_devices.needs_device)]


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """device="cuda" is the emulator, or the GPU; the examples can be imported."""
    monkeypatch.setattr(cuda, "make_driver", lambda device: cuda_devices.driver())
    monkeypatch.syspath_prepend(EXAMPLES)


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def gan():
    return importlib.import_module("gan").GAN


def make(gan, **options):
    trainer_options = options.pop("trainer_options", {})
    return Trainer(gan(D, 4, (33, 17), **{"seed": 1, **options}), 32, **trainer_options)


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
    assert (tmp_path / "gan.h5").exists()


# --- a model ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", DEVICES)
def test_it_trains_recorded_as_one_by_one_and_resumes_within_an_epoch(where, gan, x, tmp_path):
    """Five steps to an epoch."""
    whole, eager = (make(gan, device=where, trainer_options={"record": record}) for record in (True, False))
    for trainer in (whole, eager):
        trainer.fit(x, 3, progress=False)
    assert same(whole, eager)
    assert whole.history.rows == eager.history.rows
    assert len(whole.history["generator"]) == 3
    part = make(gan, device=where)
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
def test_devices_agree(gan, x):
    ends = []
    for where in ("cuda", "cpu", "reference"):
        trainer = make(gan, device=where)
        trainer.fit(x, 2, progress=False)
        ends.append(trainer.model.state_dict())
    for ours in ends[:2]:
        for name, exact in ends[2].items():
            np.testing.assert_allclose(ours[name], exact, rtol=1e-3, atol=1e-4, err_msg=name)


def test_it_learns(gan):
    """Rows of a lattice: samples come near its mean, which those of an untrained decoder are far from."""
    x = np.tile([0.05, 0.95], (500, D // 2)).astype(np.float32)
    trainer = make(gan)
    far = np.abs(trainer.model.sample(200).mean(0) - x[0]).max()
    trainer.fit(x, 20, progress=False)
    assert far > 0.4
    assert np.abs(trainer.model.sample(200).mean(0) - x[0]).max() < 0.2


def test_its_options_are_checked_and_written_like_those_of_the_package(gan):
    assert gan(D, seed=3).config() == {
        "type": "GAN", "input_dim": D, "latent_dim": 8, "hidden": [256, 256], "activation": "relu",
        "precision": "fp32", "device": "cpu", "seed": 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"^latent_dim: expected an integer >= 1, got 0"):
        gan(D, 0)
    with pytest.raises(ValueError, match=r"^validation: expected None, since GAN measures nothing on it"):
        make(gan).fit(rows(), 1, validation=rows())


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
    pytest.importorskip("click", reason="the command line needs the extra: pip install 'aaecore[app]'")
    small = ("--data", images, "--hidden", "16", "--batch-size", "20", "--latent-dim", "3", "--schedule", "constant")
    run, other = tmp_path / "run", tmp_path / "other"
    done = command("train", "--model", "gan:GAN", *small, "--epochs", "1", "--folder", run)
    assert done.returncode == 0, done.stderr
    assert set(os.listdir(run)) == {"checkpoint.h5", "config.toml", "history.csv", "losses.png", "samples.png"}
    assert "generator loss (equilibrium 0.69)" in done.stdout
    assert "training the GAN on 54 rows of" in done.stderr
    with open(run / "history.csv", newline="") as file:
        assert set(next(csv.DictReader(file))) >= {"epoch", "discriminator", "generator"}

    hint = "got 'GAN'; a file imports nothing by itself: give --model gan:GAN"
    refused(command("resume", run, "--epochs", "2"), hint)
    refused(command("plot", run), hint)
    refused(command("sample", run, tmp_path / "s.npy"), "or one whose module was imported (as --model module:Class")
    before = (run / "checkpoint.h5").read_bytes()
    assert command("resume", run, "--epochs", "3", "--model", "gan:GAN").returncode == 0
    assert command("train", "--model", "gan:GAN", *small, "--epochs", "3", "--folder", other).returncode == 0
    assert (run / "checkpoint.h5").read_bytes() == (other / "checkpoint.h5").read_bytes() != before
    assert command("sample", run, tmp_path / "s.npy", "--model", "gan:GAN", "-n", "5").returncode == 0
    assert np.load(tmp_path / "s.npy").shape == (5, 20)
    assert command("plot", run, "--model", "gan:GAN").returncode == 0
    assert "GAN" in command("info", run).stdout, "it imports nothing, and needs to import nothing"
    refused(command("encode", run, images, tmp_path / "z.npy", "--model", "gan:GAN"), "expected a model that has codes")
    again = command("train", run / "config.toml", "--folder", tmp_path / "again")
    assert again.returncode == 0, "a configuration that is given to train names what to import"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none:GAN", "module:Class with a module to import, whose folder is in PYTHONPATH, got 'none:GAN'"),
        ("gan:None", "model: expected module:Class with a class that is a @model, got 'gan:None'"),
        ("gan:Tensor", "model: expected module:Class with a class that is a @model, got 'gan:Tensor'"),
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


def test_help_lists_every_option_once(capsys, gan):
    cli = pytest.importorskip("aaecore.app.cli")
    for name, own in (("AAE", "--posterior"), ("gan:GAN", "--latent-dim")):
        assert cli.run(["train", "--model", name, "--help"]) == 0
        flags = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
        assert own in flags
        assert {"--activation", "--precision", "--device", "--seed"} < set(flags)
        assert len(flags) == len(set(flags))


def test_a_checkpoint_loads_no_code(gan, tmp_path, monkeypatch):
    trainer = make(gan)
    trainer.save(tmp_path / "gan.h5")
    assert isinstance(aaecore.load(tmp_path / "gan.h5"), gan)
    monkeypatch.setattr(registry_module(), "MODELS", {"AAE": aaecore.AAE})
    for read in (aaecore.load, Trainer.resume):
        with pytest.raises(
            CheckpointError, match=r"gan\.h5: model: expected one of AAE, or one whose module was impor"
        ):
            read(tmp_path / "gan.h5")


def registry_module():
    return sys.modules["aaecore.models.model"]


# --- what a model may not be ------------------------------------------------------------------------------------------


@pytest.fixture
def forgotten(monkeypatch):
    """Models of a test are forgotten after it."""
    monkeypatch.setattr(registry_module(), "MODELS", dict(registry_module().MODELS))


class Plain(Model):
    """What the wrong models below have in common."""

    phases = (Phase("first", moves=("net",)), Phase("second", moves=("net",)))

    def columns(self):
        return {"x": Column(D)}

    def build(self):
        self.net = self.mlp(D, 5, D)

    def loss(self, batch):
        return half_squared_error(self.net(batch.x), batch.x)


@pytest.mark.parametrize(
    ("yielded", "got"),
    [
        (("first",), "first"),
        (("second", "first"), "second"),
        (("first", "first"), "first, first"),
        (("first", "second", "third"), "first, second, third"),
        ((), ""),
    ],
)
@pytest.mark.parametrize("record", [True, False])
def test_a_step_that_yields_other_phases(yielded, got, record, forgotten, x):
    @model
    class Wrong(Plain):
        def step(self, batch):
            for name in yielded:
                yield name, self.loss(batch)

    trainer = Trainer(Wrong(), 32, record=record)
    before = trainer.model.state_dict()
    message = f"step: expected it to yield the phases first, second, got {got}"
    for run in (lambda: trainer.step(x[:32]), lambda: trainer.fit(x, 1, progress=False)):
        with pytest.raises(ValueError, match=f"^{message}$"):
            run()
    assert trainer.steps == 0
    for name, value in trainer.model.state_dict().items():
        assert np.array_equal(value, before[name])


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize(
    ("step", "got"),
    [
        (lambda self, batch: None, "a generator, got NoneType"),
        (lambda self, batch: ("first", self.loss(batch)), "a generator, got tuple"),
        (lambda self, batch: iter([("first",)]), r"it to yield \(phase, loss, ...\), got \('first',\)"),
        (lambda self, batch: iter([()]), r"it to yield \(phase, loss, ...\), got \(\)"),
        (lambda self, batch: iter([self.loss(batch)]), r"it to yield \(phase, loss, ...\), got <.*Tensor object.*>"),
        (lambda self, batch: iter([("first", 1.0)]), r"it to yield \(phase, loss, ...\), got \('first', 1.0\)"),
    ],
)
def test_a_step_that_yields_something_else(step, got, record, forgotten, x):
    made = model(type("Odd", (Plain,), {"step": step}))
    with pytest.raises(TypeError, match=f"^step: expected {got}$"):
        Trainer(made(), 32, record=record).step(x[:32])


def test_a_second_model_of_a_name(gan, forgotten):
    with pytest.raises(ValueError, match=r"^model: expected a name that no other model has, got 'GAN' of gan"):

        @model
        class GAN(Plain):
            def step(self, batch):
                yield "first", self.loss(batch)


def test_fields_networks_and_columns_that_are_none(forgotten):
    with pytest.raises(TypeError, match=r"^Careless\.width: expected option\(COUNT, \.\.\.\) or its like, got a plain"):

        @model
        class Careless(Plain):
            width: int = 3

    def declared(**parts):
        return model(type("Odd", (Plain,), {"step": lambda self, batch: iter(()), **parts}))

    with pytest.raises(ValueError, match=r"^phase 'only': moves: expected one of net, got 'decodr'"):
        declared(phases=(Phase("only", moves=("decodr",)),))()
    twice = (Phase("one", moves=("net",)), Phase("one", moves=("net",)))
    taken = (Phase("step", moves=("net",)),)
    for phases, got in ((twice, "one, one"), ((), "none"), (taken, "step")):
        with pytest.raises(
            ValueError, match=f"^phases: expected one or more, each with a name of its own, .* got {got}$"
        ):
            declared(phases=phases)()
    with pytest.raises(ValueError, match=r"^stream 'labelled': columns: expected one of x, got 'y'"):
        declared(streams={"": Stream(("x",)), "labelled": Stream(("x", "y"), labelled=True)})()
    with pytest.raises(ValueError, match=r"^streams: expected '', all rows, as the first, got 'labelled'"):
        declared(streams={"labelled": Stream(("x",), labelled=True), "": Stream(("x",))})()
    wrong = {"label": Column(3, "label")}, {"y": Column(3)}, {"w": Column(2)}
    for columns in wrong:
        with pytest.raises(ValueError, match=r"^columns: expected x"):
            declared(columns=lambda self, more=columns: {"x": Column(D), **more})()
    with pytest.raises(TypeError, match="abstract"):
        model(type("Odd", (Model,), {"phases": ()}))()


def test_a_subclass_is_a_model_of_its_own(gan, forgotten, tmp_path, x):
    class Wider(gan):
        hidden: tuple[int, ...] = (50, 50)

    with pytest.raises(TypeError, match=r"^Wider: expected a class that @model makes a model"):
        Wider(D)

    @model
    class Deeper(gan):
        layers: int = option(COUNT, "hidden layers", default=3)

        def complete(self):
            self.hidden = (9,) * self.layers

    trainer = Trainer(Deeper(D, layers=4), 32)
    trainer.fit(x, 1, progress=False)
    trainer.save(tmp_path / "deeper.h5")
    loaded = aaecore.load(tmp_path / "deeper.h5")
    assert (type(loaded), loaded.layers, loaded.hidden) == (Deeper, 4, (9, 9, 9, 9))


def test_options_that_the_command_line_cannot_have(gan, forgotten, tmp_path, monkeypatch):
    config = pytest.importorskip("aaecore.app.config")

    @model
    class Wanting(gan):
        _: KW_ONLY
        depth: int = option(COUNT, "no default", run=2)
        width: int = option(COUNT, "no default")

    with pytest.raises(
        ValueError, match=r"^Wanting\.width: expected a default, run= or of_data=True for the command line"
    ):
        config.of(Wanting)
    cli = pytest.importorskip("aaecore.app.cli")
    monkeypatch.setitem(sys.modules, "wanting", SimpleNamespace(Wanting=Wanting))
    Trainer(Wanting(D, depth=2, width=3)).save(tmp_path / "w.h5")
    sample = ["sample", str(tmp_path / "w.h5"), str(tmp_path / "s.npy"), "--model", "wanting:Wanting"]
    assert cli.run(sample) == 0, "what was trained in Python has samples"
    for name in ("epochs", "folder", "lr"):
        parts = {"__annotations__": {name: "int"}, name: option(COUNT, "taken", default=1)}
        with pytest.raises(ValueError, match=rf"^Taking\.{name}: expected another name"):
            config.of(model(type("Taking", (gan,), parts)))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda batch: batch.y, "batch: expected one of x, got 'y'"),
        (lambda batch: batch.labelled.x, "batch: expected one of x, got 'labelled'"),
        (lambda batch: batch.draw("z"), "draw: expected no prior, got 'z'"),
        (lambda batch: batch.dial("ramp"), "dial: expected no dial, got 'ramp'"),
    ],
)
def test_what_a_batch_does_not_have(question, message, forgotten, x):
    @model
    class Asking(Plain):
        def step(self, batch):
            yield "first", half_squared_error(self.net(batch.x), question(batch))

    with pytest.raises((AttributeError, ValueError), match=f"^{message}$"):
        Trainer(Asking(), 32).step(x[:32])


# --- priors -----------------------------------------------------------------------------------------------------------


def uniform(n, rng):
    return rng.random((n, 3))


@pytest.fixture
def two_priors(forgotten):
    @model
    class TwoPriors(Plain):
        first: Any = option(PRIOR, "one", default=priors.Normal(2.0))
        second: Any = option(PRIOR, "another", default=None)

        def priors(self):
            return {name: (p, 3) for name in ("first", "second") if (p := getattr(self, name)) is not None}

        phases = (Phase("only", moves=("net",)),)

        def step(self, batch):
            yield "only", self.loss(batch)

    return TwoPriors


def test_a_resume_replaces_the_prior_that_was_a_callable(two_priors, x, tmp_path):
    for options in ({"second": uniform}, {"second": None}):
        trainer = Trainer(two_priors(**options), 32, record=False)
        trainer.fit(x, 1, progress=False)
        trainer.save(tmp_path / "a.h5")
        given = {} if options["second"] is None else {"prior": uniform}
        resumed = Trainer.resume(tmp_path / "a.h5", **given).model
        assert (resumed.first, resumed.second) == (trainer.model.first, trainer.model.second)


def test_two_callables_draw_different_numbers(two_priors, x):
    trainer = Trainer(two_priors(first=uniform, second=lambda n, rng: rng.random((n, 3))), 32, record=False)
    first, second = trainer._inputs.samples(32).values()
    assert first.shape == (32, 3)
    assert not np.array_equal(first, second)


def test_a_prior_of_ones_own_needs_no_spelling(two_priors, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, D), np.float32))
    folder = str(tmp_path / "run")
    arguments = ["train", "--model", "TwoPriors", "--data", str(tmp_path / "x.npy"), "--folder", folder]
    assert cli.run([*arguments, "--epochs", "1", "--no-plots", "--batch-size", "20", "--second", "uniform"]) == 0
    made = aaecore.load(f"{folder}/checkpoint.h5")
    assert (made.first, made.second) == (priors.Normal(2.0), priors.Uniform())


def test_an_option_that_train_has_itself(forgotten):
    for name in ("help", "of_model", "epochs"):
        taken = type("Taken", (Plain,), {name: option(COUNT, "?", default=3), "__annotations__": {name: int}})
        with pytest.raises(ValueError, match=f"^Taken.{name}: expected another name"):
            config.of(model(taken))
        registry_module().MODELS.pop("Taken")
