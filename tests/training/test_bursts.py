"""Bursts of steps: wherever they end, the bits, the losses and what callbacks see are those of single steps."""

import os
import random
import signal
from functools import partial

import numpy as np
import pytest
from trained import D, both_forms, model, rows, same, train

from aaecore import Trainer, callbacks, schedules
from aaecore.data import epoch_order
from aaecore.optim import SGD
from aaecore.training import stepper
from aaecore.training.guard import INTERVAL
from aaecore.training.stepper import MAX_BURST, Stepper

PHASES = ("reconstruction", "discriminator", "generator")


@pytest.fixture
def x():
    return rows()


@pytest.fixture
def pace(monkeypatch):
    """pace(n): from here on bursts have n steps at most; pace(generator) draws the number each time."""

    def set_pace(n):
        draw = (lambda: n.randint(1, 9)) if isinstance(n, random.Random) else (lambda: n)
        monkeypatch.setattr(Stepper, "pace", lambda self, batch: draw())

    return set_pace


@pytest.fixture
def made(monkeypatch):
    """The lengths of the bursts made so far."""
    lengths, run = [], Stepper.run

    def counted(self, burst):
        lengths.append(burst.steps)
        return run(self, burst)

    monkeypatch.setattr(Stepper, "run", counted)
    return lengths


def by_hand(x, epochs, batch, options=None, **model_options):
    """The same training in single steps: (trainer, the losses of each)."""
    trainer, losses = Trainer(model(**model_options), batch, **(options or {})), []
    trainer.model.begin(x, trainer.model.networks)  # the first batch is not all that there is to know
    for epoch in range(epochs):
        order = epoch_order(len(x), trainer.model.seed, epoch)
        losses += [dict(trainer.step(x[order[i : i + batch]])) for i in range(0, len(x), batch)]
    return trainer, losses


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", ["deterministic", "gaussian", "universal"])
@pytest.mark.parametrize("batch", [7, 13, 32, 130, 200])
@both_forms
def test_bursts_and_single_steps_give_the_same_bits(form, posterior, batch, x, pace):
    """130 rows: with batches of 13 and 130 all are full, with the others the last one is not."""
    expected, losses = by_hand(x, 3, batch, posterior=posterior, **form)
    sizes = [min(batch, 130 - i) for i in range(0, 130, batch)]
    for n in (1, MAX_BURST, random.Random(0)):
        pace(n)
        fitted = train(x, 3, batch_size=batch, posterior=posterior, **form)
        assert same(fitted, expected)
        assert fitted.steps == expected.steps == 3 * len(sizes)
        for phase in PHASES:
            means = np.zeros(3)
            for i, loss in enumerate(losses):  # one by one, in order: to the last bit
                means[i // len(sizes)] += loss[phase] * sizes[i % len(sizes)]
            assert fitted.history[phase] == (means / 130).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"guard": False},
        {"record": False},
        {"clip_norm": 0.5},
        {"schedule": schedules.Cosine(40, floor=0.1)},
        {"schedule": schedules.StepWise([3, 17, 30], 0.3)},
        {"schedule": lambda step: 1.0 if step % 3 else 0.25, "lr": {"generator": 2e-3}},
        {"optimizers": {"discriminator": partial(SGD, lr=0.1, momentum=0.5)}, "schedule": schedules.Cosine(40)},
    ],
    ids=["no guard", "eager", "clipped", "cosine", "stepwise", "callable", "sgd"],
)
@pytest.mark.parametrize("device", ["cpu", "reference"])
@both_forms
def test_options_do_not_depend_on_bursts(form, options, device, x, pace):
    expected, _ = by_hand(x, 2, 10, options, device=device, **form)
    histories = []
    for n in (1, MAX_BURST, random.Random(1)):
        pace(n)
        fitted = train(x, 2, batch_size=10, trainer_options=options, device=device, **form)
        assert same(fitted, expected)
        assert [o.lr for o in fitted.optimizers.values()] == [o.lr for o in expected.optimizers.values()]
        histories.append(fitted.history.rows)
    assert histories[0] == histories[1] == histories[2]  # float64 on the reference: sums show the order of their terms


@both_forms
def test_a_cut_between_bursts_resumes_to_the_same_bits(form, x, pace, tmp_path):
    class Stop(callbacks.Callback):
        def on_burst_end(self, trainer, losses):
            return trainer.steps >= cut

    draw = random.Random(2)
    pace(draw)
    whole = train(x, 3, batch_size=7, **form)
    whole.save(tmp_path / "whole.h5")
    for cut in draw.sample(range(1, 3 * 19), 10):
        first = Trainer(model(**form), 7)
        first.fit(x, 3, callbacks=[Stop()], progress=False)
        assert cut <= first.steps < cut + 9
        first.save(tmp_path / "cut.h5")
        second = Trainer.resume(tmp_path / "cut.h5")
        second.fit(x, 3, progress=False)
        assert same(second, whole)
        assert second.history.rows == whole.history.rows


# --- how long they are -----------------------------------------------------------------------------------------------


def test_bursts_last_as_long_as_they_should(x, made, monkeypatch):
    """By a clock that runs on by 1/256 s for each burst: 5 such steps make 20 ms, then 25 of a fifth, and so on."""
    now = [0.0]

    def clock():
        now[0] += 1 / 256
        return now[0]

    monkeypatch.setattr(stepper.time, "perf_counter", clock)
    trainer = Trainer(model(), 1)
    trainer.fit(x, 1, progress=False)
    assert made == [1, 5, 25, 99]
    made.clear()
    trainer.fit(np.tile(x, (20, 1)), 2, progress=False)  # other data: from the beginning
    assert made == [1, 5, 25, 128, 655, MAX_BURST, 20 * 130 - 814 - MAX_BURST]
    monkeypatch.setattr(stepper, "BURST_SECONDS", 0.001)
    made.clear()
    trainer.fit(x[:3], 3, progress=False)
    assert made == [1, 1, 1]


def test_a_step_is_recorded_once_for_the_same_data(x):
    trainer = Trainer(model(), 10)
    recorded, capture = [], trainer.backend.capture
    trainer.backend.capture = lambda *args: recorded.append(args) or capture(*args)
    trainer.fit(x, 1, progress=False)
    x *= 0.5  # still the same memory
    trainer.fit(x, 2, progress=False)
    assert len(recorded) == 1
    trainer.fit(x.copy(), 3, progress=False)
    assert len(recorded) == 2
    other = Trainer(model(), 10)
    other.fit(x * 2, 1, progress=False)
    other.fit(x, 2, progress=False)
    other.fit(x, 3, progress=False)
    assert same(trainer, other)


def test_what_needs_single_steps_gets_them(x, made, pace):
    pace(MAX_BURST)

    class Each(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            pass

    by_name = callbacks.Callback()
    by_name.on_step_end = lambda trainer, losses: None
    for callback in (Each(), by_name):
        Trainer(model(), 13).fit(x, 1, callbacks=[callbacks.Progress(), callback], progress=False)
        assert made == [1] * 10
        made.clear()
    others = [callbacks.Callback(), callbacks.Progress(), callbacks.EarlyStopping("generator")]
    Trainer(model(), 13).fit(x, 1, callbacks=others, progress=False)
    assert made == [10]


@both_forms
def test_a_prior_on_the_host_is_drawn_for_every_step(form, x, made):
    def prior(n, rng):
        return rng.standard_normal((n, 3))

    assert same(train(x, 2, batch_size=10, prior=prior, **form), by_hand(x, 2, 10, prior=prior, **form)[0])
    assert set(made) == {1}


# --- callbacks and signals -------------------------------------------------------------------------------------------


def test_every_step_is_shown_with_its_losses(x, pace):
    seen = []

    class Watch(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            seen.append((trainer.steps, trainer.epoch, trainer.position, dict(losses)))

    pace(MAX_BURST)
    Trainer(model(), 32).fit(x, 2, callbacks=[Watch()], progress=False)
    places = [(epoch, min(130, 32 * (i + 1))) for epoch in (0, 1) for i in range(5)]
    losses = by_hand(x, 2, 32)[1]
    assert seen == [(i + 1, *place, losses[i]) for i, place in enumerate(places)]


def test_every_burst_is_shown_with_its_last_losses(x, pace):
    seen = []

    class Watch(callbacks.Callback):
        def on_burst_end(self, trainer, losses):
            seen.append((trainer.steps, trainer.position, dict(losses)))
            return trainer.steps == 8

    pace(3)
    trainer = Trainer(model(), 32)
    trainer.fit(x, 9, callbacks=[Watch()], progress=False)
    losses = by_hand(x, 2, 32)[1]
    assert seen == [(3, 96, losses[2]), (4, 128, losses[3]), (5, 130, losses[4]), (8, 96, losses[7])]
    assert (trainer.steps, trainer.epoch) == (8, 1)


def test_a_signal_ends_training_after_the_burst(made, monkeypatch, tmp_path):
    """In an epoch of 5000 steps; what is saved is the state after the burst."""
    data = np.random.default_rng(0).random((5000, D), np.float32)
    counted = Stepper.run

    def interrupted(self, burst):
        if len(made) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return counted(self, burst)

    monkeypatch.setattr(Stepper, "run", interrupted)
    trainer = Trainer(model(), 1)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data, 1, progress=False, checkpoint=tmp_path / "a.h5")
    assert len(made) == 3
    assert trainer.steps == sum(made) < 5000
    resumed = Trainer.resume(tmp_path / "a.h5")
    assert (resumed.steps, resumed.position) == (trainer.steps, trainer.steps)
    assert same(resumed, trainer)


@pytest.mark.parametrize("function", ["upload", "to_host"])
def test_an_interrupt_within_a_burst_takes_it_back(function, x, made, pace, monkeypatch):
    """Right after the rates of the second burst were uploaded, or when its losses are read."""
    pace(4)
    options = {"schedule": schedules.Cosine(40)}
    trainer, whole = Trainer(model(), 10, **options), train(x, 2, batch_size=10, trainer_options=options)
    made.clear()
    uninterrupted = getattr(trainer.backend, function)

    def interrupted(buffer, *array):
        result = uninterrupted(buffer, *array)
        if len(made) == 2 and buffer.shape[0] == {"upload": MAX_BURST, "to_host": 4}[function]:  # of a table
            monkeypatch.setattr(trainer.backend, function, uninterrupted)
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(trainer.backend, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, 2, progress=False)
    assert (trainer.steps, trainer.position) == (4, 40)
    trainer.fit(x, 2, progress=False)
    assert same(trainer, whole)
    assert trainer.history.rows == whole.history.rows


# --- the guard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad_step", [0, 4, 9, 17, 19])
@pytest.mark.parametrize("phase", PHASES)
def test_bad_numbers_within_a_burst(phase, bad_step, x, pace):
    """Ten steps to an epoch. The generator's phase comes last: its bad update shows in the next step, or in none."""

    def explode(step):
        return 1e30 if step == bad_step else 1.0

    results = []
    for n in (1, MAX_BURST, random.Random(bad_step)):
        pace(n)
        trainer = Trainer(model(), 13, {p: 1e-3 if p == phase else 0.0 for p in PHASES}, schedule=explode)
        with pytest.raises(FloatingPointError) as info:
            trainer.fit(x, 2, progress=False)
        assert (trainer.steps, trainer.position) == (bad_step, 13 * bad_step % 130)
        results.append((str(info.value), trainer))
    assert len({message for message, _ in results}) == 1
    assert f"the weights are those after step {bad_step} (learning rates of step {bad_step + 1}: " in results[0][0]
    assert f"{phase} 1e+27" in results[0][0]
    assert all(same(trainer, results[0][1]) for _, trainer in results)
    _, trainer = results[1]
    trainer.schedule = schedules.Constant()
    trainer.fit(x, 2, progress=False)
    assert same(trainer, train(x, 2, batch_size=13, trainer_options={"lr": trainer.base_lr}))


@pytest.mark.parametrize("bad_step", [3, 250, 449])
def test_one_bad_loss_among_good_ones(bad_step, pace, monkeypatch):
    """The first is found, not the last; 450 steps to the epoch, so that snapshots lie in it."""
    pace(INTERVAL)
    data = np.random.default_rng(0).random((450, D), np.float32)
    trainer, run, lengths = Trainer(model(), 1), Stepper.run, []

    def spoiled(self, burst):
        lengths.append(burst.steps)
        losses, at = run(self, burst), bad_step - trainer.steps
        if 0 <= at < burst.steps:
            losses[at, 1:] = np.inf
        return losses

    monkeypatch.setattr(Stepper, "run", spoiled)
    with pytest.raises(FloatingPointError) as info:
        trainer.fit(data, 1, progress=False)
    assert str(info.value) == (
        f"a loss of inf in phase discriminator of step {bad_step + 1}; the weights are those after step {bad_step} "
        f"(learning rates of step {bad_step + 1}: reconstruction 0.001, discriminator 0.001, generator 0.001)"
    )
    assert sum(lengths) <= min(450, bad_step + INTERVAL) + INTERVAL
    monkeypatch.setattr(Stepper, "run", run)
    good = Trainer(model(), 1)
    for row in epoch_order(450, 1, 0)[:bad_step]:
        good.step(data[row : row + 1])
    assert same(trainer, good)
    assert trainer.position == trainer.steps == bad_step
