"""What happens when numbers go bad or a signal comes: the last good step, a checkpoint, the old handlers."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from trained import StopAt, both_forms, model, rows, same, state, train

from aaecore import CheckpointError, Trainer, callbacks, schedules
from aaecore.functions import bce_with_logits
from aaecore.functions.tensor import Tensor
from aaecore.optim import Adam
from aaecore.training import state as saved_state


@pytest.fixture
def x():
    return rows()


# --- numbers that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad_step", [0, 1, 6, 9, 14])
@pytest.mark.parametrize("phase", ["reconstruction", "discriminator", "generator"])
def test_the_guard_goes_back_to_the_last_good_step(phase, bad_step, x):
    """One absurd learning rate at a known step, five steps to an epoch; the weights must be those before it."""

    def explode(step):
        return 1e30 if step == bad_step else 1.0

    rates = {p: 1e-3 if p == phase else 0.0 for p in ("reconstruction", "discriminator", "generator")}
    trainer = Trainer(model(), 32, rates, schedule=explode)
    with pytest.raises(FloatingPointError) as info:
        trainer.fit(x, 4, progress=False)
    assert trainer.steps == bad_step
    assert f"the weights are those after step {bad_step} (" in str(info.value)
    assert f"(learning rates of step {bad_step + 1}: " in str(info.value)
    assert f"{phase} 1e+27" in str(info.value)
    good = Trainer(model(), 32, rates)
    if bad_step:
        good.fit(x, 4, callbacks=[StopAt(bad_step)], progress=False)
    assert same(trainer, good)


@both_forms
def test_a_user_can_go_on_after_the_guard(form, x):
    trainer = Trainer(model(**form), 32, schedule=lambda step: 1e30 if step == 7 else 1.0)
    with pytest.raises(FloatingPointError):
        trainer.fit(x, 3, progress=False)
    trainer.schedule = schedules.Constant()
    trainer.fit(x, 3, progress=False)
    assert same(trainer, train(x, 3, **form))


@both_forms
def test_the_guard_in_single_steps(form, x):
    trainer = Trainer(model(**form), 32, schedule=lambda step: 1e30 if step == 3 else 1.0)
    for _ in range(3):
        trainer.step(x[:32])
    with pytest.raises(FloatingPointError):  # noqa: PT012 - the bad step may show itself only in the next one
        trainer.step(x[:32])
        trainer.step(x[:32])
    good = Trainer(model(**form), 32)
    for _ in range(trainer.steps):
        good.step(x[:32])
    assert trainer.steps == 3
    for name, value in good.model.state_dict().items():
        assert np.array_equal(trainer.model.state_dict()[name], value)


@both_forms
def test_weights_loaded_between_steps_are_kept(form, x):
    trainer = Trainer(model(**form), 32, schedule=lambda step: 1e30 if step == 3 else 1.0)
    trainer.step(x[:32])
    trainer.step(x[:32])
    weights = trainer.model.parameters
    loaded = {n: 1.1 * value if n in weights else value for n, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(loaded)
    trainer.step(x[:32])
    expected = trainer.model.state_dict()
    with pytest.raises(FloatingPointError):  # noqa: PT012 - the bad step may show itself only in the next one
        trainer.step(x[:32])
        trainer.step(x[:32])
    assert all(np.array_equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


def test_a_rate_changed_by_hand_does_not_change_the_past(x):
    trainer = Trainer(model(), 32, schedule=lambda step: 1e30 if step == 3 else 1.0)
    for _ in range(2):
        trainer.step(x[:32])
    trainer.base_lr = dict.fromkeys(trainer.base_lr, 2e-3)
    trainer.step(x[:32])
    expected = trainer.model.state_dict()
    with pytest.raises(FloatingPointError):  # noqa: PT012
        trainer.step(x[:32])
        trainer.step(x[:32])
    assert all(np.array_equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


def test_a_step_that_raised_is_not_repeated(x):
    """A prior fails at its third draw; a later bad step goes back to what was really made."""
    draws = []

    def prior(n, rng):
        draws.append(n)
        return np.full((n, 3), np.nan if len(draws) == 3 else 0.5)

    trainer = Trainer(model(prior=prior), 32, schedule=lambda step: 1e30 if step == 2 else 1.0)
    for _ in range(2):
        trainer.step(x[:32])
    expected = trainer.model.state_dict()
    with pytest.raises(ValueError, match="NaN or infinite"):
        trainer.step(x[:32])
    with pytest.raises(FloatingPointError):  # noqa: PT012
        trainer.step(x[:32])
        trainer.step(x[:32])
    assert trainer.steps == 2
    assert all(np.array_equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


def interrupted_step(trainer, x, monkeypatch):
    """A step whose losses nobody gets, since Ctrl-C comes first."""

    def interrupted(_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer.backend, "to_host", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.step(x[:32])


@both_forms
def test_an_interrupt_within_a_step_takes_it_back(form, x, monkeypatch):
    trainer, good = Trainer(model(**form), 32), Trainer(model(**form), 32)
    for t in (trainer, good):
        t.step(x[:32])
        t.step(x[:32])

    interrupted_step(trainer, x, monkeypatch)
    assert same(trainer, good)
    assert trainer.steps == 2


def test_going_back_over_a_change_of_data(x):
    """A bad single step after a fit is noticed by a fit on other data; the weights are those of the first fit."""
    rates = {"reconstruction": 0.0, "discriminator": 0.0, "generator": 1e-3}
    trainer, good = Trainer(model(), 32, rates), Trainer(model(), 32, rates)
    for t in (trainer, good):
        t.fit(x, 1, progress=False)
    trainer.schedule = lambda step: 1e30
    with pytest.raises(FloatingPointError):  # noqa: PT012
        trainer.step(x[:32])
        trainer.fit(x[::-1], 2, progress=False)
    assert trainer.steps == good.steps == 5
    assert all(np.array_equal(v, trainer.model.state_dict()[k]) for k, v in good.model.state_dict().items())


def test_a_bad_batch_does_not_spoil_what_follows():
    wide = Trainer(model(reconstruction="mse", output="linear"), 8)
    data = np.random.default_rng(0).random((16, 20), np.float32)
    with pytest.raises(FloatingPointError):
        wide.step(np.full((8, 20), 1e30))
    wide.fit(data, 1, progress=False)
    assert wide.steps == 2


@both_forms
def test_the_last_good_step_is_saved_before_the_error(form, x, tmp_path):
    trainer = Trainer(model(**form), 32, schedule=lambda step: 1e30 if step == 7 else 1.0)
    with pytest.raises(FloatingPointError):
        trainer.fit(x, 3, progress=False, checkpoint=tmp_path / "a.h5", checkpoint_interval=1e6)
    resumed = Trainer.resume(tmp_path / "a.h5", schedule=schedules.Constant())
    assert resumed.steps == 7
    assert same(resumed, trainer)


def test_a_stop_right_after_a_bad_update_saves_good_weights(x, tmp_path):
    trainer = Trainer(model(), 32, {"generator": 1e-3}, schedule=lambda step: 1e38 if step == 1 else 1.0)
    with pytest.raises(FloatingPointError):
        trainer.fit(x, 4, callbacks=[StopAt(2)], progress=False, checkpoint=tmp_path / "a.h5")
    resumed = Trainer.resume(tmp_path / "a.h5", schedule=schedules.Constant())
    assert resumed.steps == 1
    resumed.fit(x, 1, progress=False)


# --- changes from outside --------------------------------------------------------------------------------------------


def another_trainer(trainer, x):
    other = Trainer(trainer.model, 32)
    for _ in range(5):
        other.step(x[:32])


def own_optimizer(trainer, x):
    optimizer, backend = Adam(trainer.model.decoder.parameters), trainer.backend
    z, target = (Tensor(backend.from_host(rows.astype(np.float32))) for rows in (x[:8, :3], x[:8]))
    for _ in range(5):
        optimizer.advance()
        bce_with_logits(trainer.model.decoder(z), target).backward(optimizer)


def own_recorded_step(trainer, x):
    weight = trainer.model.encoder.layers[0].weight.buffer
    plan = trainer.backend.capture(
        lambda: trainer.backend.launch("scale", (weight.flat(),), (weight.flat().size,), (1.1,))
    )
    plan.replay(times=2)


def written_by_hand(trainer, x):
    bias = trainer.model.encoder.layers[0].bias.buffer
    trainer.backend.upload(bias, np.full(bias.shape, 0.25, np.float32))


def random_numbers_advanced(trainer, x):
    trainer.model.generator.advance()


OUTSIDE = [another_trainer, own_optimizer, own_recorded_step, written_by_hand, random_numbers_advanced]


@pytest.mark.parametrize("ends", ["a bad step", "an interrupt", "fit"])
@pytest.mark.parametrize("change", OUTSIDE)
@both_forms
def test_going_back_undoes_nobody_elses_work(form, change, ends, x, monkeypatch):
    trainer = Trainer(model(**form), 32)
    for _ in range(3):
        trainer.step(x[:32])
    change(trainer, x)
    expected, counter = trainer.model.state_dict(), trainer.model.generator.counter
    if ends == "an interrupt":
        interrupted_step(trainer, x, monkeypatch)
    else:
        trainer.schedule = lambda step: 1e30
        with pytest.raises(FloatingPointError):  # noqa: PT012 - the bad step may show itself only in the next one
            for _ in range(2):
                trainer.step(x[:32]) if ends == "a bad step" else trainer.fit(x, 1, progress=False)
    assert trainer.steps == 3
    assert trainer.model.generator.counter == counter
    assert all(np.array_equal(v, expected[k]) for k, v in trainer.model.state_dict().items())


# --- moments, and the last update ------------------------------------------------------------------------------------


def finite(trainer):
    return all(np.isfinite(array).all() for array in state(trainer))


@pytest.mark.parametrize("how", ["step", "fit"])
def test_moments_are_part_of_what_is_good(how):
    """One row of 1e12: the loss is finite, and second moments are not. With clean data training goes on."""
    rows = np.random.default_rng(0).random((64, 20), np.float32)
    spoilt = rows.copy()
    spoilt[40] = 1e12
    trainer = Trainer(model(reconstruction="mse", output="linear"), 8)
    good = Trainer(model(reconstruction="mse", output="linear"), 8)
    for t in (trainer, good):
        t.step(rows[:8])
    with pytest.raises(FloatingPointError, match=r"the weights are those after step \d"):
        trainer.step(spoilt[40:48]) if how == "step" else trainer.fit(spoilt, 1, progress=False)
    assert finite(trainer)
    if how == "step":
        assert same(trainer, good)
        before = trainer.model.state_dict()
        trainer.step(rows[:8])
        assert all(not np.array_equal(v, before[k]) for k, v in trainer.model.state_dict().items())


@pytest.mark.parametrize("hidden", [(33, 17), (600, 600)])
@pytest.mark.parametrize("phase", ["reconstruction", "discriminator", "generator"])
def test_a_step_looks_at_its_own_update(phase, hidden, x):
    """Also where a look at all weights takes long beside a step: a rate as large as that is looked at at once."""
    trainer, good = (Trainer(model(hidden=hidden), 32) for _ in range(2))
    for t in (trainer, good):
        for _ in range(4):
            t.step(x[:32])
    trainer.base_lr[phase] = 3e38
    with pytest.raises(FloatingPointError, match="of step 5; the weights are those after step 4 "):
        trainer.step(x[:32])
    assert same(trainer, good)


def test_what_is_not_finite_is_not_written(x, tmp_path):
    trainer = Trainer(model(), 32, guard=False, lr={"generator": 3e38})
    trainer.step(x[:32])
    with pytest.raises(CheckpointError, match=r"encoder\.0\.\w+: expected finite numbers, got \d+ of \d+ that are not"):
        trainer.save(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("moment", "value", "says"), [("m", np.nan, "finite numbers"), ("v", -1.0, "second moments >= 0")]
)
def test_a_file_with_such_numbers_is_refused(moment, value, says, x, tmp_path, monkeypatch):
    """With a right digest: nothing but the numbers is wrong."""
    trainer, path = Trainer(model(), 32), tmp_path / "a.h5"
    trainer.step(x[:32])
    buffer = next(iter(trainer.optimizers["generator"].moments[moment].values()))
    trainer.backend.upload(buffer, np.full(buffer.shape, value, np.float32))
    monkeypatch.setattr(saved_state, "check_numbers", lambda tensors: None)
    trainer.save(path)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=rf"optimizer/generator/{moment}/encoder\.0\.weight: expected {says}"):
        Trainer.resume(path)


# --- signals ---------------------------------------------------------------------------------------------------------

SCRIPT = """
    import signal, sys
    import numpy as np
    from aaecore import AAE, Trainer, callbacks
    x = np.random.default_rng(0).random((200, 8), np.float32)
    class Ready(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            if trainer.steps == 3:
                print("ready", flush=True)
    mine = lambda number, frame: print("mine", number, flush=True)
    if sys.argv[2] == "own":
        signal.signal(signal.SIGTERM, mine)
    try:
        Trainer(AAE(8, 2, (16,)), 20).fit(x, 100000, callbacks=[Ready()], progress=False, checkpoint=sys.argv[1])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
    print("handler restored", signal.getsignal(signal.SIGTERM) is mine, flush=True)
"""


@pytest.mark.parametrize(
    ("number", "handler", "code", "says"),
    [
        (signal.SIGINT, "default", 130, "interrupted"),
        (signal.SIGTERM, "default", -signal.SIGTERM, ""),
        (signal.SIGTERM, "own", 0, "mine 15\nhandler restored True"),
    ],
)
def test_signals_leave_a_checkpoint(number, handler, code, says, tmp_path):
    path = tmp_path / "c.h5"
    arguments = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), handler]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        rest = child.stdout.read()
    assert child.returncode == code
    assert says in rest
    trainer = Trainer.resume(path)
    assert trainer.steps >= 3
    assert [p.name for p in tmp_path.iterdir()] == ["c.h5"]


def test_a_signal_before_an_error_is_delivered(x):
    class Fails(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            signal.raise_signal(signal.SIGTERM)
            raise RuntimeError("mine")

    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(RuntimeError, match="mine"):
            Trainer(model(), 32).fit(x, 1, callbacks=[Fails()], progress=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_workers_take_no_signals():
    """A program that blocks a signal after the pool began must not be killed by it."""
    code = """
import os, signal
import numpy as np, aaecore
aaecore.set_num_threads(3)
aaecore.Trainer(aaecore.AAE(300, 2, (200, 200)), 100).step(np.full((100, 300), 0.5, np.float32))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
print(signal.sigwait([signal.SIGTERM]))
"""
    quiet = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # NumPy's own threads block no signal
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=quiet)
    assert (done.returncode, done.stdout.strip()) == (0, "15"), done.stderr


def test_handlers_are_back_after_fit(x):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(x, 1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_failed_step_between_epochs_takes_nothing_back_that_was_counted(x):
    """The epoch that is over stays whole, and the next one has all of its steps."""
    trainer = Trainer(model(reconstruction="mse", output="linear"), 32)
    trainer.fit(x, 1, progress=False)
    with pytest.raises(FloatingPointError):
        trainer.step(np.full((8, x.shape[1]), 3e38, np.float32))
    assert (trainer.epoch, trainer.position) == (1, 0)
    trainer.fit(x, 2, progress=False)
    whole = Trainer(model(reconstruction="mse", output="linear"), 32)
    whole.fit(x, 2, progress=False)
    assert trainer.history["step"] == whole.history["step"]
    assert trainer.history["reconstruction"] == whole.history["reconstruction"]
