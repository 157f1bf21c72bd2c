"""What a model may not be, and what becomes of its priors: one clear error each, and nothing lost."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import KW_ONLY
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from trained import D, rows

import aaecore
from aaecore import Trainer, priors
from aaecore.app import cli, config
from aaecore.functions import half_squared_error
from aaecore.models import COUNT, PRIOR, Column, Model, Phase, Stream, model, option
from aaecore.models.registry import MODELS
from aaecore.options import declared

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def registry_module():
    return sys.modules["aaecore.models.registry"]


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def lsgan(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("lsgan").LeastSquaresGAN


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


def test_a_second_model_of_a_name(lsgan, forgotten):
    with pytest.raises(
        ValueError, match=r"^model: expected a name that no other model has, got 'LeastSquaresGAN' of lsgan"
    ):

        @model
        class LeastSquaresGAN(Plain):
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


def test_a_subclass_is_a_model_of_its_own(lsgan, forgotten, tmp_path, x):
    class Wider(lsgan):
        hidden: tuple[int, ...] = (50, 50)

    with pytest.raises(TypeError, match=r"^Wider: expected a class that @model makes a model"):
        Wider(D)

    @model
    class Deeper(lsgan):
        layers: int = option(COUNT, "hidden layers", default=3)

        def complete(self):
            self.hidden = (9,) * self.layers

    trainer = Trainer(Deeper(D, layers=4), 32)
    trainer.fit(x, 1, progress=False)
    trainer.save(tmp_path / "deeper.h5")
    loaded = aaecore.load(tmp_path / "deeper.h5")
    assert (type(loaded), loaded.layers, loaded.hidden) == (Deeper, 4, (9, 9, 9, 9))


def test_options_that_the_command_line_cannot_have(lsgan, forgotten, tmp_path, monkeypatch):
    config = pytest.importorskip("aaecore.app.config")

    @model
    class Wanting(lsgan):
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
            config.of(model(type("Taking", (lsgan,), parts)))


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


@pytest.mark.parametrize("name", [n for n, cls in MODELS.items() if cls.__module__.startswith("aaecore.")])
def test_every_option_is_explained(name):
    """In the docstring of the class, or in that of the one which it says to be like."""
    text = MODELS[name].__doc__
    if "all others: as of `AAE`" in text:
        text += MODELS["AAE"].__doc__
    for key in declared(MODELS[name]):
        assert re.search(rf"\b{key}\b", text), f"{name}.{key}"
