"""An interrupt at any line of what training does: it goes on to the right bits, with handlers and locks as before."""

import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from trained import DEFAULT, PLAIN, D, model, same

import aaecore
from aaecore import Trainer, callbacks
from aaecore.core.owner import Use
from aaecore.training.guard import Rollback
from aaecore.training.progress import Moment
from aaecore.training.signals import StopSignals

PACKAGE = Path(aaecore.__file__).parent
TORN = [  # what binds, records, counts, locks and takes signals
    *(f"training/{name}.py" for name in ("trainer", "maker", "guard", "stepper", "signals", "progress")),
    *(f"core/{name}.py" for name in ("owner", "backend", "plan")),
    "models/autoencoder.py",
]
FILES = {str(PACKAGE / name) for name in TORN}


class Interrupt:
    """A context that raises KeyboardInterrupt at the n-th line of those files that it meets."""

    def __init__(self, n):
        self.left, self.where = n, None

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, kind, value, trace):
        sys.settrace(None)
        return kind is KeyboardInterrupt

    def trace(self, frame, event, arg):
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            self.left -= 1
            if self.left < 0:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self.trace


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((24, D), np.float32)


def small(form=(), **options):
    return Trainer(model(hidden=(9,), **dict(form)), 10, **options)


def saved_elsewhere(trainer, path):
    """Whether another thread can save: no lock is held for ever."""
    thread = threading.Thread(target=trainer.save, args=(path,), daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


@pytest.mark.parametrize(
    ("form", "options"),
    [(PLAIN, {}), (PLAIN, {"record": False}), (DEFAULT, {})],
    ids=["recorded", "eager", "default"],
)
def test_fit_goes_on_with_the_right_bits(form, options, x, tmp_path):
    """Every 97th line, so that the test takes seconds; another number finds the same."""
    whole = small(form, **options)
    whole.fit(x, 2, progress=False)
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    mine = signal.getsignal(signal.SIGTERM)
    try:
        for n in range(0, 10**6, 97):
            trainer = small(form, **options)
            with Interrupt(n) as interrupt:
                trainer.fit(x, 2, progress=False)
            where = interrupt.where
            if trainer.epoch < 2:
                trainer.fit(x, 2, progress=False)
            assert same(trainer, whole), where
            assert (trainer.steps, trainer.epoch, trainer.position) == (6, 2, 0), where
            assert trainer.history.rows == whole.history.rows, where
            assert saved_elsewhere(trainer, tmp_path / "a.h5"), where
            received.clear()
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM], where
            assert signal.getsignal(signal.SIGTERM) is mine, where
            if where is None:
                break
        assert n > 300
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("guard", [True, False])
def test_a_step_is_made_and_counted_or_neither(guard, x):
    """Recorded steps: whatever line an interrupt hits, the weights are those of the steps that are counted."""
    states = [small(guard=guard)]
    for _ in range(3):
        states.append(small(guard=guard))
        for _ in range(len(states) - 1):
            states[-1].step(x[:10])
    for n in range(0, 10**6, 3):
        trainer = small(guard=guard)
        trainer.step(x[:10])
        with Interrupt(n) as interrupt:
            trainer.step(x[:10])
        assert trainer.steps == trainer.optimizers["generator"].steps, interrupt.where
        assert same(trainer, states[trainer.steps]), interrupt.where
        while trainer.steps < 3:
            trainer.step(x[:10])
        assert same(trainer, states[3]), interrupt.where
        if interrupt.where is None:
            break


def test_a_step_cut_short_without_a_guard_is_not_saved(x, tmp_path, monkeypatch):
    """Launched op by op, and nothing kept to go back to: the next whole step makes it right again."""
    trainer = small(guard=False, record=False)
    trainer.step(x[:10])
    monkeypatch.setattr(
        trainer.optimizers["discriminator"], "advance", lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.step(x[:10])
    monkeypatch.undo()
    assert trainer.steps == 1
    with pytest.raises(
        RuntimeError, match="save: expected a trainer between two steps, got one whose last step was cut"
    ):
        trainer.save(tmp_path / "a.h5")
    trainer.step(x[:10])
    trainer.save(tmp_path / "a.h5")
    assert Trainer.resume(tmp_path / "a.h5").steps == 2


def test_an_epoch_that_is_interrupted_as_it_ends_has_one_row(x, tmp_path, monkeypatch):
    """The row is there and the epoch not counted: neither a file nor what follows has it twice."""
    whole, trainer = small(), small()
    whole.fit(x, 2, progress=False)

    def interrupted(self):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Moment, "after_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, 2, progress=False)
    assert (trainer.epoch, len(trainer.history)) == (0, 1)
    trainer.save(tmp_path / "a.h5")
    for made in (trainer, Trainer.resume(tmp_path / "a.h5")):
        made.fit(x, 2, progress=False)
        assert same(made, whole)
        assert made.history.rows == whole.history.rows


def test_at_the_end_of_an_interrupted_fit_the_state_is_whole(x, tmp_path, monkeypatch):
    """Also where the interrupt left a burst open: callbacks may save, and set the weights."""

    class Ends(callbacks.Callback):
        def on_train_end(self, trainer):
            trainer.save(tmp_path / "a.h5")
            trainer.model.load_state_dict(trainer.model.state_dict())

    def interrupted(self, burst):
        monkeypatch.undo()
        raise KeyboardInterrupt

    whole, trainer = small(), small()
    whole.fit(x, 2, progress=False)
    trainer.fit(x, 1, progress=False)
    monkeypatch.setattr(Rollback, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, 2, callbacks=Ends(), progress=False)
    for made in (trainer, Trainer.resume(tmp_path / "a.h5")):
        made.fit(x, 2, progress=False)
        assert same(made, whole)


def test_a_snapshot_that_is_interrupted_is_none(x, monkeypatch):
    """Half of its copies are new: what is gone back to must not be among them."""
    trainer = small()
    for _ in range(3):
        trainer.step(x[:10])
    expected, copy, calls = trainer.model.state_dict(), trainer.backend.copy, []

    def interrupted(target, source):
        calls.append(target)
        if len(calls) > 5:
            raise KeyboardInterrupt
        copy(target, source)

    monkeypatch.setattr(trainer.backend, "copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer._maker.snapshot()
    monkeypatch.undo()
    trainer.schedule = lambda step: 1e30
    with pytest.raises(FloatingPointError):
        trainer.step(x[:10])
    assert trainer.steps == 3
    assert all(np.array_equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


def test_a_recording_cut_short_is_over(x):
    """Wherever an interrupt comes, the next launch is run and the next recording is made."""
    backend = aaecore.get_backend("cpu")
    buffer = backend.zeros((1,))
    for n in range(10**3):
        with Interrupt(n) as interrupt:
            backend.capture(lambda: backend.launch("fill", (buffer,), (1,), (2.0,)))
        backend.launch("fill", (buffer,), (1,), (float(n),))
        assert backend.to_host(buffer)[0] == n, interrupt.where
        backend.capture(lambda: None)
        if interrupt.where is None:
            break


def test_a_handler_left_behind_gives_way_to_the_one_before(x):
    """A second interrupt came before the old handlers were back: the next signal finds them."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        left = StopSignals(Use("a call that is over"))
        left.begin()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_that_may_set_no_handlers_trains(x, monkeypatch):
    """As the main thread of a sub-interpreter."""

    def refused(number, handler):
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "signal", refused)
    trainer = small()
    trainer.fit(x, 1, progress=False)
    assert trainer.epoch == 1
