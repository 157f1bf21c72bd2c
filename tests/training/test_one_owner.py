"""One owner of a model at a time: what else would train it is refused with a name; looking at it stays right."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from trained import model, rows, same, train

from aaecore import Trainer, callbacks
from aaecore.training.burst import Burst
from aaecore.training.inputs import Inputs
from aaecore.training.stepper import Stepper


@pytest.fixture
def x():
    return rows()


class Within(callbacks.Callback):
    """Calls something after the third step of a fit, once."""

    def __init__(self, call):
        self.call, self.said = call, []

    def on_step_end(self, trainer, losses):
        if trainer.steps == 3:
            try:
                self.call()
            except RuntimeError as error:
                self.said.append(str(error))


def in_thread(call, *args, **options):
    """A thread that makes a call; its result or error is in `came`."""

    def run():
        try:
            thread.came = call(*args, **options)
        except BaseException as error:
            thread.came = error

    thread = threading.Thread(target=run, name="other", daemon=True)
    thread.came = None
    thread.start()
    return thread


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["fit", "step", "step of another trainer"])
def test_training_within_a_callback_is_refused(what, x):
    trainer = Trainer(model(), 32)
    other = Trainer(trainer.model, 32)
    calls = {
        "fit": lambda: trainer.fit(x, 9, progress=False),
        "step": lambda: trainer.step(x[:32]),
        "step of another trainer": lambda: other.step(x[:32]),
    }
    within = Within(calls[what])
    trainer.fit(x, 2, callbacks=within, progress=False)
    name = "fit" if what == "fit" else "step"
    uses = "but Trainer.fit (thread MainThread) uses it"
    assert within.said == [f"Trainer.{name}: expected a model that nobody else uses, {uses}"]
    assert same(trainer, train(x, 2))
    other.step(x[:32])  # and afterwards it may


def test_training_from_another_thread_is_refused(x):
    trainer = Trainer(model(), 32)
    calls = [
        lambda: trainer.fit(x, 9, progress=False),
        lambda: trainer.step(x[:32]),
        lambda: trainer.model.load_state_dict(trainer.model.state_dict()),
    ]
    came = []

    def all_of_them():
        for call in calls:
            thread = in_thread(call)
            thread.join(30)
            came.append(thread.came)

    trainer.fit(x, 2, callbacks=[Within(all_of_them)], progress=False)
    assert [str(error).split(":")[0] for error in came] == ["Trainer.fit", "Trainer.step", "load_state_dict"]
    assert all(isinstance(error, RuntimeError) and "Trainer.fit (thread MainThread)" in str(error) for error in came)
    assert same(trainer, train(x, 2))


def test_many_threads_at_once(x):
    """Whoever comes first trains, the others are told; at the end the model is one that was trained in order."""
    trainer = Trainer(model(), 32)
    threads = [in_thread(trainer.fit, x, 3, progress=False) for _ in range(6)]
    for thread in threads:
        thread.join(60)
    refused = [t.came for t in threads if isinstance(t.came, Exception)]
    assert all(isinstance(error, RuntimeError | ValueError) for error in refused)  # or after it: 3 epochs are made
    assert same(trainer, train(x, 3))


def test_training_in_a_handler_within_a_step_is_refused(x, monkeypatch):
    trainer, said = Trainer(model(), 32), []
    trainer.step(x[:32])

    def handler(*_):
        for call in (lambda: trainer.step(x[:32]), trainer.model.state_dict):
            try:
                call()
            except RuntimeError as error:
                said.append(str(error))

    interrupted_once(monkeypatch, handler)
    trainer.step(x[:32])
    assert [text.split(",")[0] for text in said] == [
        "Trainer.step: expected a model that nobody else uses",
        "state_dict: expected a model between two steps",
    ]
    assert trainer.steps == 2


def interrupted_once(monkeypatch, handler):
    """Lets a handler come at the worst moment of the next burst: its steps are made and not counted."""
    losses = Stepper.losses

    def then(self, steps):
        monkeypatch.setattr(Stepper, "losses", losses)
        handler()
        return losses(self, steps)

    monkeypatch.setattr(Stepper, "losses", then)


def test_weights_may_be_set_between_two_bursts_by_a_callback(x):
    """As restoring the best ones does."""
    trainer = Trainer(model(), 32)
    first = trainer.model.state_dict()
    within = Within(lambda: trainer.model.load_state_dict(first))
    trainer.fit(x, 1, callbacks=[within], progress=False)
    assert within.said == []
    assert not same(trainer, train(x, 1))


def test_a_model_is_free_after_an_error(x):
    class Fails(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            raise ZeroDivisionError

    trainer = Trainer(model(), 32)
    with pytest.raises(ZeroDivisionError) as kept:  # with it the frames of the call live on
        trainer.fit(x, 1, callbacks=[Fails()], progress=False)
    trainer.fit(x, 1, progress=False)
    assert same(trainer, train(x, 1))
    assert kept


def test_rows_that_are_not_there_are_found_before_a_kernel_reads_them(x, monkeypatch):
    """Were owner and locks to fail: an order with another row, and a position that the device does not share."""
    trainer, orders = Trainer(model(), 32), Inputs.orders
    for wrong in (-1, len(x)):
        monkeypatch.setattr(
            Inputs, "orders", lambda self, table, wrong=wrong: {"": np.r_[orders(self, table)[""][1:], wrong]}
        )
        with pytest.raises(IndexError, match="order of stream '': expected rows below 130, got others"):
            trainer.fit(x, 1, progress=False)
    monkeypatch.undo()
    trainer.fit(x, 1, progress=False)
    with pytest.raises(RuntimeError, match="step: expected rows that are left in the epoch, got more"):
        trainer._maker.make(Burst(131, *trainer._rates.of_next(1)))
    assert trainer.steps == 5


# --- looking at it ---------------------------------------------------------------------------------------------------


def test_encoding_in_threads_while_it_trains(x):
    trainer = Trainer(model(), 32)
    going, codes = threading.Event(), []

    def encode():
        while not going.is_set():
            codes.append(trainer.model.encode(x))

    threads = [in_thread(encode) for _ in range(4)]
    trainer.fit(x, 40, progress=False)
    going.set()
    for thread in threads:
        thread.join(30)
        assert thread.came is None
    assert all(np.isfinite(code).all() for code in codes)
    assert same(trainer, train(x, 40))


@pytest.mark.parametrize("guard", [True, False])
def test_what_another_thread_saves_resumes_to_the_same_bits(guard, x, tmp_path):
    whole = Trainer(model(), 7, guard=guard)
    whole.fit(x, 60, progress=False)
    trainer, paths = Trainer(model(), 7, guard=guard), []

    def save():
        while trainer.epoch < 60 and len(paths) < 12:
            trainer.save(tmp_path / f"{len(paths)}.h5")
            paths.append(tmp_path / f"{len(paths)}.h5")

    thread = in_thread(save)
    trainer.fit(x, 60, progress=False)
    thread.join(60)
    assert thread.came is None
    assert same(trainer, whole)
    assert paths
    for path in paths:
        resumed = Trainer.resume(path)
        if resumed.epoch < 60:
            resumed.fit(x, 60, progress=False)
        assert same(resumed, whole)
        assert resumed.history.rows == whole.history.rows


def test_who_waits_comes_between_two_bursts(x, monkeypatch):
    """Within a few bursts, not at the end of training."""
    run = Stepper.run

    def slow(self, burst):
        time.sleep(0.005)
        return run(self, burst)

    monkeypatch.setattr(Stepper, "run", slow)
    trainer, waited = Trainer(model(), 32), []

    def look():
        for _ in range(5):
            begun = trainer.steps
            trainer.model.state_dict()
            waited.append(trainer.steps - begun)

    thread = in_thread(look)
    trainer.fit(x, 10, callbacks=Within(lambda: None), progress=False)
    thread.join(30)
    assert len(waited) == 5
    assert max(waited) <= 5


def test_what_a_handler_saves_resumes_to_the_same_bits(x, tmp_path, monkeypatch):
    """It comes when steps are made and not counted: what is written is the guard's snapshot, with its counters."""
    whole = train(x, 3, batch_size=13)
    for nth in range(0, 12, 3):
        trainer, path = Trainer(model(), 13), tmp_path / f"{nth}.h5"
        run, bursts = Stepper.run, []

        def counted(self, burst, run=run, bursts=bursts, nth=nth, trainer=trainer, path=path):
            bursts.append(burst)
            losses = run(self, burst)
            if len(bursts) == nth + 1:
                trainer.base_lr["generator"] = 5e-3  # which is not of the moment that is written
                trainer.save(path)
                trainer.base_lr["generator"] = 1e-3
            return losses

        monkeypatch.setattr(Stepper, "pace", lambda self, batch: 3)
        monkeypatch.setattr(Stepper, "run", counted)
        trainer.fit(x, 3, progress=False)
        monkeypatch.undo()
        assert same(trainer, whole)
        resumed = Trainer.resume(path)
        resumed.fit(x, 3, progress=False)
        assert same(resumed, whole)
        assert resumed.history.rows == whole.history.rows


def test_without_a_guard_a_handler_within_a_step_cannot_save(x, tmp_path, monkeypatch):
    trainer, said = Trainer(model(), 32, guard=False), []

    def handler():
        try:
            trainer.save(tmp_path / "a.h5")
        except RuntimeError as error:
            said.append(str(error))

    interrupted_once(monkeypatch, handler)
    trainer.step(x[:32])
    assert said == [
        "save: expected a trainer between two steps, got one within a step of Trainer.step (thread MainThread); "
        "guard=True keeps a state to write"
    ]
    assert not (tmp_path / "a.h5").exists()
    trainer.save(tmp_path / "a.h5")


def test_a_real_signal_saves(x, tmp_path):
    whole = train(x, 40, batch_size=7)
    trainer, path = Trainer(model(), 7), tmp_path / "a.h5"
    before = signal.signal(signal.SIGUSR1, lambda *_: trainer.save(path))
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        trainer.fit(x, 40, progress=False)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    resumed = Trainer.resume(path)
    if resumed.epoch < 40:
        resumed.fit(x, 40, progress=False)
    assert same(resumed, whole)


def test_a_child_of_fork_goes_on_while_the_parent_trains(x, monkeypatch):
    """Its copy of the model is in the middle of a burst of a thread that it does not have, and locked by that."""
    trainer, expected = Trainer(model(), 32), train(x, 3)
    inside, go, losses = threading.Event(), threading.Event(), Stepper.losses

    def waits(self, steps):
        if threading.current_thread().name == "other" and trainer.steps >= 5:
            inside.set()
            go.wait(30)
        return losses(self, steps)

    monkeypatch.setattr(Stepper, "losses", waits)
    thread = in_thread(trainer.fit, x, 3, progress=False)
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            trainer.fit(x, 3, progress=False)
            os._exit(0 if same(trainer, expected) else 1)
        finally:
            os._exit(2)
    go.set()
    thread.join(60)
    assert os.waitpid(child, 0)[1] == 0
    assert same(trainer, expected)


def test_whoever_trains_passes_the_turnstile_before_every_burst(x, monkeypatch):
    """In which those stand who wait: without it a lock that is taken again at once would be theirs by chance only."""
    trainer, passed = Trainer(model(), 32), []

    class Turnstile:
        def __enter__(self):
            passed.append(trainer.model.owner.whole._is_owned())

        def __exit__(self, *_):
            pass

        def _is_owned(self):
            return False

    trainer.model.owner.turnstile = Turnstile()
    monkeypatch.setattr(Stepper, "pace", lambda self, batch: 1)
    trainer.fit(x, 1, progress=False)
    assert passed == [False] * 5
