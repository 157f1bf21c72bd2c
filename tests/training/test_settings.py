"""Every public attribute of a trainer and of a model: set, it is checked and acts at the next step, or is refused."""

import gc
import inspect
import weakref
from functools import partial

import numpy as np
import pytest
from trained import model, rows, same

from aaecore import AAE, VAE, Trainer, priors, schedules
from aaecore.optim import SGD
from aaecore.options import declared
from aaecore.training import state
from aaecore.training.history import History
from aaecore.training.progress import CHECKS, FIXED

PHASES = ("reconstruction", "discriminator", "generator")


@pytest.fixture
def x():
    return rows()


def set_to(name, value):
    """What sets an attribute of a trainer."""
    return lambda trainer: setattr(trainer, name, value)


# name -> (what sets it, the arguments of a trainer that has it from the beginning); None where it changes no weights
SET = {
    "lr": (set_to("lr", 5e-3), {"lr": 5e-3}),
    "base_lr": (set_to("base_lr", dict.fromkeys(PHASES, 2e-3)), {"lr": dict.fromkeys(PHASES, 2e-3)}),
    "batch_size": (set_to("batch_size", 13), {"batch_size": 13}),
    "labelled_batch_size": None,
    "schedule": (set_to("schedule", schedules.StepWise([1, 2], 0.3)), {"schedule": schedules.StepWise([1, 2], 0.3)}),
    "clip_norm": (set_to("clip_norm", 1e-3), {"clip_norm": 1e-3}),
    "guard": None,
    "record": None,
    "history": None,
    "epoch": None,
}
BAD = {
    "lr": [-1.0, {"encoder": 1.0}, "fast", 4e38, np.nan],
    "base_lr": [1e-3, {"generator": 1e-3}, dict.fromkeys(PHASES, -1.0)],
    "batch_size": [0, 2.0, True],
    "labelled_batch_size": [0, -3],
    "schedule": [0.5, None],
    "clip_norm": [0.0, -1.0, "high"],
    "guard": [1, None],
    "record": ["yes"],
    "history": [[], None],
    "epoch": [-1, 0.5],
}


def public_attributes(thing):
    names = {name for name, _ in inspect.getmembers(type(thing), lambda member: not callable(member))} | set(
        vars(thing)
    )
    return {name for name in names if not name.startswith("_")}


def test_no_attribute_of_a_trainer_is_forgotten():
    assert public_attributes(Trainer(model())) == {*SET, *FIXED}
    assert set(BAD) == set(SET)
    assert set(CHECKS) < set(SET)


@pytest.mark.parametrize("name", [name for name, case in SET.items() if case])
def test_what_is_set_acts_at_the_next_step(name, x):
    """After steps that were recorded with another setting, as a trainer that has it from the beginning goes on."""
    change, options = SET[name]
    trainer = Trainer(model(), 32)
    trainer.fit(x, 1, progress=False)
    expected = Trainer(model(), **{"batch_size": 32, **options})
    state.restore(expected, *trainer._maker.committed("save"))
    change(trainer)
    assert trainer.settings() == expected.settings()
    trainer.fit(x, 3, progress=False)
    expected.fit(x, 3, progress=False)
    assert same(trainer, expected)
    unchanged = Trainer(model(), 32)
    unchanged.fit(x, 3, progress=False)
    assert not same(trainer, unchanged)


def test_the_rate_of_an_optimizer_is_the_base_rate_of_its_phase(x):
    trainer, expected = (Trainer(model(), 32, schedule=schedules.StepWise([3], 0.5)) for _ in range(2))
    trainer.optimizers["generator"].lr = 5e-3
    expected.base_lr["generator"] = 5e-3
    for t in (trainer, expected):
        assert t.lr["generator"] == 5e-3
        t.fit(x, 2, progress=False)
    assert same(trainer, expected)
    assert trainer.optimizers["generator"].lr == 2.5e-3  # that of the last step


@pytest.mark.parametrize("name", ["guard", "record"])
def test_a_switch_changes_no_bit(name, x):
    trainer, expected = Trainer(model(), 32), Trainer(model(), 32)
    expected.fit(x, 4, progress=False)
    for epoch, on in enumerate((True, False, True, False)):
        setattr(trainer, name, on)
        trainer.fit(x, epoch + 1, progress=False)
    assert same(trainer, expected)


@pytest.mark.parametrize("before", [0, 2])
def test_a_guard_switched_on_goes_back_to_where_it_was_switched_on(before, x):
    """Not to what it kept before it was off."""
    trainer = Trainer(model(), 32)
    for _ in range(before):
        trainer.step(x[:32])
    trainer.guard = False
    for _ in range(3 - before):
        trainer.step(x[:32])
    expected = trainer.model.state_dict()
    trainer.guard, trainer.schedule = True, lambda step: 1e30
    with pytest.raises(FloatingPointError, match="the weights are those after step 3 "):
        trainer.step(x[:32])
    assert all(np.array_equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_what_is_set_is_checked(name, value, x):
    trainer = Trainer(model(), 32)
    before = trainer.settings()
    with pytest.raises((ValueError, TypeError), match=rf"^(lr|{name}): expected"):
        setattr(trainer, name, value)
    assert trainer.settings() == before


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_cannot_be_set_says_what_to_do(name):
    trainer = Trainer(model(), 32)
    with pytest.raises(AttributeError, match=rf"^{name}: cannot be set; \w+"):
        setattr(trainer, name, getattr(trainer, name))


def test_a_name_that_is_no_setting_is_refused():
    """What nothing reads would be ignored; a class of one's own may have attributes of its own."""
    with pytest.raises(AttributeError, match=r"^learning_rate: expected one of .*batch_size, .*lr, "):
        Trainer(model()).learning_rate = 1e-4

    class Mine(Trainer):
        pass

    Mine(model()).note = "of one's own"


def test_one_phase_at_a_time_is_checked_too():
    trainer = Trainer(model(), 32)
    for set_it in (
        lambda: trainer.base_lr.update(generator=-1),
        lambda: setattr(trainer.optimizers["generator"], "lr", -1),
        lambda: setattr(trainer.optimizers["generator"], "base_lr", -1),
    ):
        with pytest.raises(ValueError, match="lr: expected a number >= 0, got -1"):
            set_it()
        assert trainer.lr["generator"] == 1e-3
    with pytest.raises(ValueError, match=r"base_lr: expected the phases reconstruction, .* got decoder"):
        trainer.base_lr["decoder"] = 1.0
    with pytest.raises(TypeError, match="base_lr: expected a rate for every phase, got none for generator"):
        del trainer.base_lr["generator"]
    with pytest.raises(TypeError):
        trainer.optimizers["generator"] = partial(SGD, lr=0.1)
    with pytest.raises(TypeError, match=r"optimizers: expected a mapping of phases to functions, got \[\]"):
        Trainer(model(), optimizers=[])


def test_a_history_that_is_set_is_the_one_that_goes_on(x, tmp_path):
    trainer = Trainer(model(), 32)
    trainer.fit(x, 2, progress=False)
    trainer.history, trainer.epoch = History([{"epoch": i + 1, "loss": 0.5} for i in range(7)]), 7
    trainer.fit(x, 8, progress=False)
    assert trainer.history["epoch"] == list(range(1, 9))
    trainer.save(tmp_path / "a.h5")
    assert Trainer.resume(tmp_path / "a.h5").history.rows == trainer.history.rows


@pytest.mark.parametrize("kind", [AAE, VAE])
def test_options_of_a_finished_model_cannot_be_set(kind):
    made = kind(20, 3, hidden=(9,))
    for name in [*declared(kind), *made.networks, "backend", "generator", "sampler"]:
        with pytest.raises(
            AttributeError, match=rf"^{name}: a finished model keeps it; make another model: {kind.__name__}"
        ):
            setattr(made, name, getattr(made, name))
    with pytest.raises(AttributeError, match="prior"):
        made.prior = priors.Normal(50.0)
    made.note = "of one's own"


# --- epochs ----------------------------------------------------------------------------------------------------------


def test_more_epochs(x):
    trainer, whole = Trainer(model(), 32), Trainer(model(), 32)
    whole.fit(x, 5, progress=False)
    trainer.fit(x, more_epochs=2, progress=False)
    with pytest.raises(
        ValueError, match=r"epochs: expected an integer > 2, the epochs made so far \(.*more_epochs=n\), got 2"
    ):
        trainer.fit(x, 2, progress=False)
    trainer.fit(x, more_epochs=3, progress=False)
    assert same(trainer, whole)
    for epochs in ({}, {"epochs": 7, "more_epochs": 2}):
        with pytest.raises(ValueError, match="epochs: expected either epochs, a total, or more_epochs, got"):
            trainer.fit(x, progress=False, **epochs)
    for bad in (0, -1, 1.5):
        with pytest.raises(ValueError, match="more_epochs: expected an integer >= 1"):
            trainer.fit(x, more_epochs=bad, progress=False)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"record": False}, {"guard": False}, {"clip_norm": 1.0}])
def test_a_trainer_and_its_model_go_with_their_last_reference(options, x, tmp_path):
    """At once, without the garbage collector: the next one of a search needs their memory."""
    gc.collect()
    gc.disable()
    try:
        trainer = Trainer(model(), 32, **options)
        trainer.step(x[:32])
        trainer.fit(x, 2, validation=x, progress=False)
        trainer.model.sample(3)
        trainer.save(tmp_path / "a.h5")
        gone = [weakref.ref(thing) for thing in (trainer, trainer.model, trainer._maker)]
        del trainer
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()
