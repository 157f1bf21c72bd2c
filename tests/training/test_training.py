"""Training: the same bits however it is run, the loop around it, and that the prior is matched."""

import os
import threading
from functools import partial

import numpy as np
import pytest
from trained import PLAIN, D, both_forms, model, rows, same, state, train

from aaecore import AAE, CheckpointError, Trainer, callbacks, schedules, set_num_threads
from aaecore.backends.cpu import get_num_threads
from aaecore.backends.devices import get_backend
from aaecore.data import epoch_order
from aaecore.optim import SGD, Adam


@pytest.fixture
def x():
    return rows()


@pytest.fixture(autouse=True)
def threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


# --- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", ["deterministic", "gaussian", "universal"])
@both_forms
def test_threads_and_replay_do_not_change_a_bit(form, posterior, x):
    """100 steps at layers wide enough that every one of them is split between threads."""
    options = {"posterior": posterior, "hidden": (150, 130), "batch_size": 65, **form}
    one = train(x, 50, 1, **options)
    assert one.steps == 100
    assert same(one, train(x, 50, 2, **options))
    assert same(one, train(x, 50, 3, **options))
    assert same(one, train(x, 50, 2, **options, trainer_options={"record": False}))
    assert same(one, train(x, 50, 1, **options, trainer_options={"clip_norm": 1e9}))


@both_forms
def test_bfloat16_gives_the_same_bits_too(form, x):
    options = {"precision": "bf16", "hidden": (150, 130), "batch_size": 65, **form}
    one = train(x, 20, 1, **options)
    assert same(one, train(x, 20, 3, **options))
    assert same(one, train(x, 20, 2, **options, trainer_options={"record": False}))
    assert same(one, train(x, 20, 1, **options, trainer_options={"clip_norm": 1e9}))


def test_large_batches_do_not_change_a_bit_either():
    """Batch 2048: above every blocking threshold of the kernels."""
    many = np.random.default_rng(0).random((2048, D), np.float32)
    options = {"batch_size": 2048, "hidden": (70, 40)}
    one = train(many, 100, 1, **options)
    for threads in (2, 3):
        assert same(one, train(many, 100, threads, **options))
    assert same(one, train(many, 100, 2, **options, trainer_options={"record": False}))


@both_forms
def test_the_reference_backend_agrees(form, x):
    """float32 kernels against float64 NumPy through whole steps, where chaos has not yet grown the difference."""
    cpu, reference = train(x, 1, **form), train(x, 1, device="reference", **form)
    for name, value in cpu.model.state_dict().items():
        np.testing.assert_allclose(value, reference.model.state_dict()[name], atol=2e-6)
    for phase in cpu.names:
        assert cpu.history[phase] == pytest.approx(reference.history[phase], rel=1e-5)


def test_bfloat16_on_the_reference_backend(x):
    """The kernels round the same factors as the reference: they differ by less than a tenth of what that changes."""
    cpu, reference = (train(x, 1, precision="bf16", device=device).history for device in ("cpu", "reference"))
    exact = train(x, 1, device="reference").history
    for phase in ("reconstruction", "discriminator", "generator"):
        rounding = abs(reference[phase][0] - exact[phase][0])
        assert 0 < rounding < 1e-4
        assert abs(cpu[phase][0] - reference[phase][0]) < 0.1 * rounding


def test_two_models_in_two_threads(x):
    alone = [train(x, 4, 2, seed=s) for s in (1, 2)]
    together = [Trainer(model(seed=s), 32) for s in (1, 2)]
    workers = [threading.Thread(target=t.fit, args=(x, 4), kwargs={"progress": False}) for t in together]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@both_forms
def test_a_child_after_fork_trains_to_the_same_bits(form, x):
    expected = train(x, 2, 2, hidden=(150, 130), **form)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"1" if same(expected, train(x, 2, 2, hidden=(150, 130), **form)) else b"0")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"1"
    assert os.waitpid(child, 0)[1] == 0


@both_forms
def test_step_and_fit_make_the_same_steps(form, x):
    fitted = train(x[:64], 1, batch_size=64, **form)
    stepped = Trainer(model(**form), 64)
    stepped.model.begin(x[:64], stepped.model.networks)  # in the order of `fit`, by which sums of floats differ
    stepped.step(x[:64][epoch_order(64, 1, 0)])
    assert all(np.array_equal(a, b) for a, b in zip(state(fitted), state(stepped), strict=True))


@both_forms
def test_bytes_train_like_floats(form):
    pixels = np.random.default_rng(0).integers(0, 256, (64, D), np.uint8)
    assert same(train(pixels, 2, **form), train(pixels.astype(np.float32) * np.float32(1 / 255), 2, **form))


def test_a_given_prior_sample_is_used(x):
    z = np.random.default_rng(3).standard_normal((32, 3)).astype(np.float32)
    a, b, c = (Trainer(model(), 32) for _ in range(3))
    la, lb, lc = a.step(x[:32], z_prior=z), b.step(x[:32], z_prior=z), c.step(x[:32], z_prior=z + 1)
    assert dict(la) == dict(lb)
    assert la.discriminator != lc.discriminator
    assert la.reconstruction == lc.reconstruction
    whole = np.random.default_rng(1).integers(0, 9, (32, 3), np.uint8)  # plain numbers, and no pixels
    assert dict(a.step(x[:32], z_prior=whole)) == dict(b.step(x[:32], z_prior=whole.astype(np.float32)))
    with pytest.raises(ValueError, match=r"z_prior: expected shape \(32, 3\), got \(31, 3\)"):
        a.step(x[:32], z_prior=z[1:])


# --- the loop --------------------------------------------------------------------------------------------------------


def test_history_is_the_mean_over_rows(x):
    """130 rows in batches of 32: the last one has 2 rows and must weigh 2/130."""
    seen = []

    class Watch(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            seen.append((losses.reconstruction, min(32, 130 - 32 * len(seen))))

    trainer = Trainer(model(), 32)
    history = trainer.fit(x, 1, validation=x[:7], callbacks=[Watch()], progress=False)
    assert [n for _, n in seen] == [32, 32, 32, 32, 2]
    assert history["reconstruction"][0] == pytest.approx(sum(v * n for v, n in seen) / 130, rel=1e-12)
    assert history["validation"][0] == pytest.approx(trainer.model.evaluate(x[:7]))
    assert history.rows[0]["step"] == 5


def test_a_batch_larger_than_the_data(x):
    assert train(x, 2, batch_size=1000).steps == 2


def test_training_learns(x):
    """Rows that are 0 or 1 by the sign of one hidden number: the entropy of 20 coins falls towards that of one."""
    bits = np.repeat((x[:, :1] > 0.5).astype(np.float32), D, axis=1)
    h = train(bits, 60, 2, trainer_options={"lr": 3e-3}).history["reconstruction"]
    assert h[0] > 0.5 * D * np.log(2)
    assert h[-1] < 0.1 * h[0]


@both_forms
def test_epochs_count_in_all(form, x):
    trainer = Trainer(model(**form), 32)
    trainer.fit(x, 2, progress=False)
    trainer.fit(x, 3, progress=False)
    assert same(trainer, train(x, 3, **form))
    for bad in (3, 0, 2.5, True):
        with pytest.raises(ValueError, match="epochs: expected an integer > 3"):
            trainer.fit(x, bad, progress=False)


def test_schedules():
    step_wise, cosine = schedules.StepWise([10, 20], 0.5), schedules.Cosine(100, floor=0.1)
    assert [step_wise(s) for s in (0, 9, 10, 19, 20, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert cosine(0) == 1
    assert cosine(50) == pytest.approx(0.55)
    assert cosine(100) == cosine(10**6) == pytest.approx(0.1)
    assert schedules.Constant()(123) == 1
    for s in (step_wise, cosine, schedules.Constant()):
        assert schedules.from_config(schedules.config(s)) == s
    with pytest.raises(ValueError, match="milestones: expected an integer >= 1, got 0"):
        schedules.StepWise([0])
    with pytest.raises(ValueError, match="steps: expected an integer >= 1"):
        schedules.Cosine(0)


def test_the_schedule_scales_every_phase(x):
    rates = []

    class Watch(callbacks.Callback):
        def on_step_end(self, trainer, losses):
            rates.append([o.lr for o in trainer.optimizers.values()])

    options = {"lr": {"reconstruction": 1e-3, "discriminator": 2e-3, "generator": 4e-3}}
    trainer = Trainer(model(), 65, schedule=schedules.StepWise([1, 3]), **options)
    trainer.fit(x, 2, callbacks=[Watch()], progress=False)
    np.testing.assert_allclose(rates, np.outer([1, 0.1, 0.1, 0.01], [1e-3, 2e-3, 4e-3]), rtol=1e-12)


def test_a_step_by_hand_against_numpy_sgd(x):
    """Phase 1 with plain SGD on a linear autoencoder without hidden layers, gradients by hand."""
    rate = {p: partial(SGD, lr=r) for p, r in (("reconstruction", 0.01), ("discriminator", 0.0), ("generator", 0.0))}
    m = AAE(D, 3, (), reconstruction="mse", output="linear", seed=4, **PLAIN)
    s = {k: v.astype(float) for k, v in m.state_dict().items()}
    z = x @ s["encoder.0.weight"].T + s["encoder.0.bias"]
    dy = (z @ s["decoder.0.weight"].T + s["decoder.0.bias"] - x) / len(x)
    dz = dy @ s["decoder.0.weight"]
    Trainer(m, 130, optimizers=rate).step(x)
    new = m.state_dict()
    np.testing.assert_allclose(new["decoder.0.weight"], s["decoder.0.weight"] - 0.01 * dy.T @ z, atol=1e-6)
    np.testing.assert_allclose(new["encoder.0.weight"], s["encoder.0.weight"] - 0.01 * dz.T @ x, atol=1e-6)
    np.testing.assert_allclose(new["encoder.0.bias"], s["encoder.0.bias"] - 0.01 * dz.sum(0), atol=1e-6)


@both_forms
def test_each_phase_moves_its_own_networks(form, x):
    moved = {}
    for phase in ("reconstruction", "discriminator", "generator"):
        m = model(**form)
        m.begin(x, m.networks)
        before = m.state_dict()
        zero = dict.fromkeys(("reconstruction", "discriminator", "generator"), 0.0)
        Trainer(m, 32, {**zero, phase: 1e-3}).step(x[:32])
        moved[phase] = {k.split(".")[0] for k, v in m.state_dict().items() if not np.array_equal(v, before[k])}
    assert moved == {
        "reconstruction": {"encoder", "decoder"}, "discriminator": {"discriminator"},
        "generator": {"encoder"} if form is PLAIN else set(),
    }  # fmt: skip


def test_early_stopping_is_a_function_of_the_history():
    stop = callbacks.EarlyStopping("loss", patience=2, min_delta=0.5)

    class Trained:
        history = type("History", (), {"rows": []})()

    stopped = []
    for value in (10, 9, 8.8, 8.6, 8.5):
        Trained.history.rows.append({"loss": value})
        stopped.append(stop.on_epoch_end(Trained, Trained.history.rows[-1]))
    assert stopped == [False, False, False, True, True]
    with pytest.raises(ValueError, match="monitor: expected one of loss, got 'lost'"):
        callbacks.EarlyStopping("lost").on_epoch_end(Trained, {"loss": 1.0})
    with pytest.raises(ValueError, match="patience: expected an integer >= 1"):
        callbacks.EarlyStopping(patience=0)


def test_early_stopping_ends_fit(x):
    trainer = Trainer(model(), 65, lr=0.0)
    trainer.fit(x, 50, validation=x, callbacks=[callbacks.EarlyStopping(patience=3)], progress=False)
    assert trainer.epoch == 4


def test_progress_off_a_terminal_is_one_line_per_epoch(x, capsys):
    Trainer(model(), 65).fit(x, 2, validation=x)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "validation" in lines[0]


def test_progress_on_a_terminal_draws_a_bar(x, monkeypatch):
    class Terminal:
        text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    Trainer(model(), 65).fit(x, 1, callbacks=[callbacks.Progress(terminal)], progress=False)
    assert "\r" in terminal.text
    assert "[############" in terminal.text
    drawn = [part.removeprefix("\033[K") for part in terminal.text.split("\r") if "[" in part]
    assert drawn
    assert max(len(part.splitlines()[0]) for part in drawn if "%" in part) <= 59


def test_a_closed_pipe_does_not_end_training(x):
    class Closed:
        def isatty(self):
            return False

        def write(self, text):
            raise BrokenPipeError

    trainer = Trainer(model(), 65)
    trainer.fit(x, 2, callbacks=[callbacks.Progress(Closed())], progress=False)
    assert trainer.epoch == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected an integer >= 1, got 0"),
        ({"batch_size": 2.0}, "batch_size: expected an integer >= 1, got 2.0"),
        ({"lr": -1.0}, "lr: expected a number >= 0"),
        ({"lr": {"encoder": 1e-3}}, "lr: expected phases among reconstruction, discriminator, generator, got encoder"),
        ({"optimizers": {"gan": Adam}}, "optimizers: expected phases among"),
        ({"optimizers": {"generator": lambda p: Adam(p[:2])}}, "optimizers: generator: expected a function that makes"),
        ({"optimizers": {"generator": lambda p: None}}, "optimizers: generator: expected a function that makes"),
        ({"optimizers": {"generator": 0.1}}, "optimizers: generator: expected a function that makes"),
        ({"schedule": 0.5}, "schedule: expected a function of the step, got 0.5"),
        ({"clip_norm": 0.0}, "clip_norm: expected a number > 0"),
    ],
)
def test_bad_trainer_arguments(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Trainer(model(), **options)


def test_bad_fit_arguments(x):
    trainer = Trainer(model(), 32)
    with pytest.raises(TypeError, match=r"callbacks: expected objects of Callback or functions .* got 3"):
        trainer.fit(x, 1, callbacks=[3], progress=False)
    with pytest.raises(ValueError, match="monitor: 'validation' needs"):
        trainer.fit(x, 1, callbacks=[callbacks.EarlyStopping()], progress=False)
    with pytest.raises(TypeError, match="model: expected a Model, got str"):
        Trainer("model")
    with pytest.raises(CheckpointError, match=r"checkpoint: expected a path that can be written, got 'nowhere/a\.h5'"):
        trainer.fit(x, 1, progress=False, checkpoint="nowhere/a.h5")
    assert trainer.steps == 0


def test_a_relative_checkpoint_stays_where_it_was(x, tmp_path, monkeypatch):
    class Moves(callbacks.Callback):
        def on_burst_end(self, trainer, losses):
            os.chdir(tmp_path)

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Trainer(model(), 32).fit(x, 1, callbacks=Moves(), progress=False, checkpoint="a.h5")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.h5")] == ["here/a.h5"]


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "NUL", "too long", "no folder", "no path"])
def test_a_checkpoint_that_cannot_be_written_is_found_before_the_first_step(kind, x, tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    path = {
        "a folder": tmp_path / "folder", "a pipe": tmp_path / "pipe", "NUL": str(tmp_path / "a\0b"),
        "too long": tmp_path / ("x" * 300), "no folder": tmp_path / "nowhere" / "a.h5", "no path": 3.5,
    }[kind]  # fmt: skip
    trainer = Trainer(model(), 32)
    with pytest.raises(CheckpointError, match=r"checkpoint: expected a path that can be written, got .*: \w+"):
        trainer.fit(x, 1, progress=False, checkpoint=path)
    assert trainer.steps == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize("make", [lambda c: c, lambda c: iter([c]), lambda c: (c,), lambda c: (one for one in [c])])
def test_callbacks_come_as_one_or_in_anything_to_iterate(make, x):
    seen = []

    class Watch(callbacks.Callback):
        def on_train_begin(self, trainer):
            seen.append("begin")

        def on_step_end(self, trainer, losses):
            seen.append(trainer.steps)

        def on_train_end(self, trainer):
            seen.append("end")

    Trainer(model(), 65).fit(x, 1, callbacks=make(Watch()), progress=False)
    assert seen == ["begin", 1, 2, "end"]
    Trainer(model(), 65).fit(x, 1, callbacks=None, progress=False)


def test_backends_are_separate():
    assert get_backend("cpu") is not get_backend("cpu")
